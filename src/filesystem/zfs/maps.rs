//! Space maps: what is taken in each metaslab (module/zfs/space_map.c).

use super::features::{self, Enabled};
use super::format::SpaceMap;
use super::space::{Geometry, Run};
use crate::error::{Error, Result};
use crate::units::{index, narrow, u64_of};
use crate::wire::Wire;

/// Bytes of the block of a space map with a few entries.
const MAP: u64 = 4 << 10;
/// How space maps are written, by the features of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Maps {
    /// Whether there are entries of two words, for long runs.
    has_long: bool,
    /// Whether heads have the histogram of free runs.
    pub(super) has_histogram: bool,
}

/// Bytes of the head of a space map without a histogram (space_map.h, SPACE_MAP_SIZE_V0).
pub(super) const HEAD_ALONE: usize = 24;

impl Maps {
    pub(super) fn new(enabled: &Enabled) -> Self {
        Self {
            has_long: enabled.has(features::SPACEMAP_V2),
            has_histogram: enabled.has(features::SPACEMAP_HISTOGRAM),
        }
    }

    /// Bytes of the block of a space map as it is stored: a few entries behind which all is zero, and where no entry is long
    /// as many as lead over a metaslab.
    pub(super) const fn size(self, geometry: &Geometry) -> u64 {
        let entries = if self.has_long { 0 } else { geometry.metaslab() >> geometry.ashift >> 15 };
        (MAP + 8 * entries).next_multiple_of(MAP)
    }

    #[cfg(test)]
    pub(super) const NEW: Self = Self { has_long: true, has_histogram: true };

    /// The longest run of an entry of one word (space_map.h, SM_RUN_MAX), and of one of two words (SM2_RUN_MAX).
    const LONGEST: u64 = 1 << 15;
    const LONGEST_2: u64 = 1 << 36;

    /// Appends the entries of a run.
    fn entries(self, offset: u64, length: u64, out: &mut Vec<u8>) -> Result<()> {
        if length > Self::LONGEST_2 {
            return Err(Error::bug("a run of a metaslab is longer than a metaslab"));
        }
        if self.has_long && length > Self::LONGEST {
            // space_map.h, SM2: the type of the entry, its run, no vdev; an allocation and its offset.
            out.extend((3 << 62 | (length - 1) << 24).to_le_bytes());
            out.extend(offset.to_le_bytes());
            return Ok(());
        }
        let mut done = 0;
        while done < length {
            let part = Self::LONGEST.min(length - done);
            out.extend(((offset + done) << 16 | (part - 1)).to_le_bytes());
            done += part;
        }
        Ok(())
    }
}

/// The entries of a metaslab's space map, and its head.
pub(super) fn space_map(
    (geometry, form): (&Geometry, Maps),
    metaslab: u64,
    taken: &[Run],
    object: u64,
) -> Result<(Vec<u8>, SpaceMap)> {
    let start = metaslab * geometry.metaslab();
    let unit = |bytes: u64| bytes >> geometry.ashift;
    let own: Vec<(u64, u64)> = taken
        .iter()
        .filter(|run| run.start / geometry.metaslab() == metaslab)
        .map(|run| (unit(run.start - start), unit(run.length)))
        .collect();
    let mut entries = Vec::new();
    let mut header = SpaceMap { smp_object: object, ..SpaceMap::BLANK };
    let mut free_from = 0;
    for (offset, length) in own.iter().copied().chain([(unit(geometry.metaslab()), 0)]) {
        if offset > free_from {
            // The number of free runs by the bits of their length (module/zfs/space_map.c, space_map_histogram_add).
            let bucket: u32 = narrow(63 - (offset - free_from).leading_zeros(), "a bucket")?;
            let count = header.smp_histogram.get_mut(index(bucket));
            *count.ok_or_else(|| Error::bug("a free run of a metaslab is longer than a metaslab"))? += 1;
        }
        free_from = offset + length;
        header.smp_alloc += length << geometry.ashift;
        form.entries(offset, length, &mut entries)?;
    }
    header.smp_length = u64_of(entries.len());
    Ok((entries, header))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::Kind;
    use crate::filesystem::zfs::read::space::{Entries, Moments};
    use crate::units::{Bytes, GIB, MIB, TIB};

    const NEW: Maps = Maps::NEW;
    const OLD: Maps = Maps { has_long: false, has_histogram: false };

    /// Without long entries, a run is several of one word, and the place of the map has space for all of a metaslab.
    #[test]
    fn space_maps_of_old_pools_have_short_entries() {
        let geometry = Geometry::new(Bytes::new(16 * TIB), 9, None).unwrap();
        let all = [Run { start: 0, length: geometry.metaslab() }];
        let (entries, header) = space_map((&geometry, OLD), 0, &all, 40).unwrap();
        assert_eq!((entries.len(), header.smp_alloc), (8 * 1024, 16 * GIB));
        assert_eq!(entries[8..16], (32_768_u64 << 16 | 32_767).to_le_bytes());
        assert_eq!((OLD.size(&geometry), NEW.size(&geometry)), (12 << 10, 4 << 10));
        let mut sum = 0;
        Entries::default().read(&entries, &mut |start, length, _| {
            assert_eq!(start, sum);
            sum += length;
        });
        assert_eq!(sum << 9, geometry.metaslab());
    }

    #[test]
    fn space_maps_say_what_is_taken_and_what_is_free() {
        let geometry = Geometry::new(Bytes::new(2 * GIB), 12, None).unwrap();
        let metaslab = geometry.metaslab();
        let taken = [
            Run { start: 0, length: metaslab },
            Run { start: metaslab + 8192, length: 4096 },
            Run { start: metaslab + 16_384, length: 100 * MIB },
            Run { start: 3 * metaslab, length: 4096 },
        ];
        let map = |number| space_map((&geometry, NEW), number, &taken, 40 + number).unwrap();
        let words = |entries: Vec<u8>| -> Vec<u64> {
            entries.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect()
        };
        let (entries, header) = map(0);
        assert_eq!(words(entries), [32_767], "as long as one word allows");
        assert_eq!((header.smp_alloc, header.smp_length, header.smp_histogram), (metaslab, 8, [0; 32]));
        let (entries, header) = map(1);
        assert_eq!(words(entries), [2 << 16, 4 << 16 | 25_599]);
        // Free: 2 units, 1 unit, 32768 - 4 - 25600 = 7164 units.
        let mut histogram = [0; 32];
        (histogram[1], histogram[0], histogram[12]) = (1, 1, 1);
        assert_eq!((header.smp_object, header.smp_histogram), (41, histogram));
        let large = Geometry::new(Bytes::new(1 << 40), 12, None).unwrap();
        let all = [Run { start: 0, length: large.metaslab() }];
        let (entries, _) = space_map((&large, NEW), 0, &all, 40).unwrap();
        assert_eq!(words(entries), [3 << 62 | ((1 << 21) - 1) << 24, 0]);
    }

    #[test]
    fn a_run_that_no_histogram_has_is_a_bug() {
        // A metaslab so large that its free runs have no place in the histogram.
        let huge = Geometry { device: 1 << 62, ashift: 9, shift: 42 };
        let error = space_map((&huge, NEW), 0, &[], 40).unwrap_err();
        let text = "a free run of a metaslab is longer than a metaslab";
        assert_eq!((error.kind(), error.what()), (Kind::Bug, text));
    }

    proptest! {
        /// Of pools up to the largest, with any unit: entries, sums and histogram are those of the runs.
        #[test]
        fn space_maps_of_pools_that_are_never_written_are_right(
            ashift in 9_u8..=16,
            size in 64 * MIB..256 * TIB,
            steps in prop::collection::vec((0_u64..1 << 20, 1_u64..1 << 24), 1..30),
        ) {
            let geometry = Geometry::new(Bytes::new(size), ashift, None).unwrap();
            let units = geometry.metaslab() >> ashift;
            let metaslab = geometry.metaslabs() - 1;
            let (mut at, mut own) = (0, Vec::new());
            for (gap, length) in steps {
                let start = at + gap % units;
                if start + 1 > units {
                    break;
                }
                let length = length.min(units - start);
                own.push((start, length));
                // Runs that touch are one.
                at = start + length + 1;
            }
            let runs: Vec<Run> = own
                .iter()
                .map(|(start, length)| Run {
                    start: metaslab * geometry.metaslab() + (start << ashift),
                    length: length << ashift,
                })
                .collect();
            let (entries, header) = space_map((&geometry, NEW), metaslab, &runs, 40).unwrap();
            prop_assert_eq!(header.smp_length, u64_of(entries.len()));
            let (mut expected, mut found, mut sum) = (Moments::default(), Moments::default(), 0);
            own.iter().for_each(|(start, length)| expected.add(*start, *length, true));
            Entries::default().read(&entries, &mut |start, length, is_taken| {
                found.add(start, length, is_taken);
                sum += length;
            });
            prop_assert_eq!(found, expected);
            prop_assert_eq!(header.smp_alloc, sum << ashift);
            let mut histogram = [0; 32];
            let mut free_from = 0;
            for (start, length) in own.iter().copied().chain([(units, 0)]) {
                if start > free_from {
                    histogram[usize::try_from((start - free_from).ilog2()).unwrap()] += 1;
                }
                free_from = start + length;
            }
            prop_assert_eq!(header.smp_histogram, histogram);
        }
    }
}
