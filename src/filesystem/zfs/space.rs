//! The space of a pool and who takes it: metaslabs, and blocks one after the other.

use super::format::{END, LABEL, SMALLEST, START};
use crate::error::{Error, Kind, Result};
use crate::units::{Bytes, low8};

/// A device with its metaslabs. They never change their size, whatever the device grows to (module/zfs/vdev.c,
/// vdev_metaslab_init).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Bytes of the device up to its last label.
    pub(super) device: u64,
    /// log2 of the bytes that are allocated together.
    pub(super) ashift: u8,
    /// log2 of the bytes of a metaslab.
    pub(super) shift: u8,
}

/// The smallest and largest size of a metaslab (vdev.c, zfs_vdev_min_ms_count and around): 16 MiB and 16 GiB.
const SMALLEST_SHIFT: u8 = 24;
const LARGEST_SHIFT: u8 = 34;
/// The usual size, 512 MiB (vdev.c, zfs_vdev_default_ms_shift).
const USUAL_SHIFT: u8 = 29;
/// How many metaslabs there are to be (vdev.c, zfs_vdev_min_ms_count, zfs_vdev_default_ms_count).
const FEWEST: u64 = 16;
const USUAL: u64 = 200;
/// How many there are at least in a device that is made for a larger one: for each of three copies, and one more.
const FEWEST_NOW: u64 = 4;
/// How many one block of the array has numbers for.
pub(super) const MOST_METASLABS: u64 = 16_384;

/// The size of metaslabs that `zpool create` takes for so many bytes (module/zfs/vdev.c, vdev_metaslab_set_size).
fn native_shift(space: u64) -> u8 {
    let count = space >> USUAL_SHIFT;
    // highbit64 is the number of bits that a number has.
    let shift = if count < FEWEST {
        bits(space / FEWEST)
    } else if count > USUAL {
        bits(space / USUAL)
    } else {
        USUAL_SHIFT
    };
    shift.clamp(SMALLEST_SHIFT, LARGEST_SHIFT)
}

/// How many bits a number has.
fn bits(number: u64) -> u8 {
    low8(u64::from(u64::BITS - number.leading_zeros()))
}

impl Geometry {
    /// A device of `size` bytes whose metaslabs fit one of `grow_to` bytes.
    ///
    /// # Errors
    /// [`Kind::Capacity`] for a device that is smaller than OpenZFS takes, or larger than is written here.
    pub(super) fn new(size: Bytes, ashift: u8, grow_to: Option<Bytes>) -> Result<Self> {
        let device = size.round_down(LABEL).get();
        if device < SMALLEST {
            return Err(Error::new(Kind::Capacity, "a ZFS pool is too small")
                .about("size")
                .needs(Bytes::new(SMALLEST))
                .expected(format!("at least {}", Bytes::new(SMALLEST).human()))
                .found(size.human()));
        }
        let space = device - START - END;
        let grown = grow_to.map_or(space, |size| size.round_down(LABEL).get().saturating_sub(START + END));
        let mut shift = native_shift(grown.max(space));
        while space >> shift < FEWEST_NOW && shift > SMALLEST_SHIFT {
            shift -= 1;
        }
        let geometry = Self { device, ashift, shift };
        if geometry.metaslabs() > MOST_METASLABS {
            return Err(Error::new(Kind::Capacity, "a ZFS pool is too large")
                .about("size")
                .expected(format!("at most {}", Bytes::new(MOST_METASLABS << shift).human()))
                .found(size.human()));
        }
        Ok(geometry)
    }

    /// Bytes between the labels (vdev_asize).
    pub(super) const fn space(&self) -> u64 {
        self.device - START - END
    }

    /// Bytes of a metaslab.
    pub(super) const fn metaslab(&self) -> u64 {
        1 << self.shift
    }

    /// How many whole metaslabs there are; what is left over is not used.
    pub(super) const fn metaslabs(&self) -> u64 {
        self.space() >> self.shift
    }

    /// Bytes that all metaslabs have.
    pub(super) const fn capacity(&self) -> u64 {
        self.metaslabs() << self.shift
    }

    /// The size of a device with so many of these metaslabs.
    pub(super) const fn device_of(&self, metaslabs: u64) -> u64 {
        ((metaslabs << self.shift) + START + END).next_multiple_of(LABEL)
    }

    /// Bytes that are kept back from users (module/zfs/spa_misc.c, spa_get_slop_space): 1/32, at least 128 MiB where that
    /// is not more than a half, at most 128 GiB.
    pub(super) fn slop(&self) -> u64 {
        let size = self.capacity();
        (size / 32).max((size / 2).min(128 << 20)).min(128 << 30)
    }

    /// Bytes rounded up to what is allocated together.
    pub(super) const fn allocated(&self, length: u64) -> u64 {
        length.next_multiple_of(1 << self.ashift)
    }
}

/// A run of bytes that are taken, from the start of the first metaslab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: u64,
    pub(super) length: u64,
}

impl Run {
    pub(super) const fn end(&self) -> u64 {
        self.start + self.length
    }
}

/// A third of the pool, whose space is taken in ascending order.
#[derive(Clone, Debug)]
struct Area {
    next: u64,
    end: u64,
    taken: Vec<Run>,
}

/// Gives places to blocks. Each copy of a block goes to a third of its own while that has space, so copies lie in different
/// metaslabs. No block crosses the border of a metaslab (module/zfs/metaslab.c).
#[derive(Clone, Debug)]
pub(super) struct Space {
    pub(super) geometry: Geometry,
    areas: [Area; 3],
}

impl Space {
    pub(super) fn new(geometry: Geometry) -> Self {
        let metaslabs = geometry.metaslabs();
        let third = (metaslabs / 3).max(1);
        let area = |first: u64, last: u64| Area {
            next: first.min(metaslabs) << geometry.shift,
            end: last.min(metaslabs) << geometry.shift,
            taken: Vec::new(),
        };
        Self { geometry, areas: [area(0, third), area(third, 2 * third), area(2 * third, metaslabs)] }
    }

    /// Takes space for copy number `copy` of a block of `length` bytes; `None` where there is none left.
    pub(super) fn take(&mut self, length: u64, copy: usize) -> Option<Run> {
        let length = self.geometry.allocated(length);
        let metaslab = self.geometry.metaslab();
        for turn in 0..3 {
            let area = &mut self.areas[(copy + turn) % 3];
            let mut start = area.next;
            if start / metaslab != (start + length - 1) / metaslab {
                start = start.next_multiple_of(metaslab);
            }
            if length > metaslab || start + length > area.end {
                continue;
            }
            area.next = start + length;
            match area.taken.last_mut() {
                Some(last) if last.end() == start && !start.is_multiple_of(metaslab) => last.length += length,
                _ => area.taken.push(Run { start, length }),
            }
            return Some(Run { start, length });
        }
        None
    }

    /// What is taken, ascending; no run crosses the border of a metaslab.
    pub(super) fn taken(&self) -> impl Iterator<Item = Run> + '_ {
        self.areas.iter().flat_map(|area| area.taken.iter().copied())
    }

    /// The metaslabs with space that is taken, ascending.
    pub(super) fn touched(&self) -> Vec<u64> {
        let mut touched: Vec<u64> = self.taken().map(|run| run.start / self.geometry.metaslab()).collect();
        touched.dedup();
        touched
    }

    /// Bytes that are taken.
    pub(super) fn used(&self) -> u64 {
        self.taken().map(|run| run.length).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{GIB, KIB, MIB, TIB};
    use proptest::prelude::*;

    fn geometry(size: u64, grow_to: Option<u64>) -> Geometry {
        Geometry::new(Bytes::new(size), 12, grow_to.map(Bytes::new)).unwrap()
    }

    #[test]
    fn metaslabs_are_those_of_zpool_create() {
        // zfs-ondisk of real pools: 2 GiB has 15 of 128 MiB, 1 TiB has 8 GiB.
        for (size, shift, count) in [
            (64 * MIB, 24, 3),
            (GIB, 26, 15),
            (2 * GIB, 27, 15),
            (16 * GIB, 29, 31),
            (TIB, 33, 127),
            (16 * TIB, 34, 1023),
        ] {
            let geometry = geometry(size, None);
            assert_eq!((geometry.shift, geometry.metaslabs()), (shift, count), "{size}");
        }
        // For a larger disk they are larger, and there are four all the same.
        assert_eq!(geometry(2 * GIB, Some(TIB)).shift, 28);
        assert_eq!(geometry(64 * GIB, Some(TIB)).shift, 33);
        assert_eq!(geometry(64 * GIB, Some(TIB)).metaslabs(), 7);
        let exact = geometry(TIB, None);
        assert_eq!(geometry(exact.device_of(100), Some(TIB)).metaslabs(), 100);
    }

    #[test]
    fn sizes_that_cannot_be_are_told() {
        for (size, what) in [(64 * MIB - 1, "too small"), (0, "too small"), (257 * TIB, "too large")] {
            let error = Geometry::new(Bytes::new(size), 12, None).unwrap_err();
            assert!(error.what().contains(what), "{error}");
        }
        Geometry::new(Bytes::new(256 * TIB), 12, None).unwrap();
    }

    #[test]
    fn what_is_kept_back_is_what_df_leaves_out() {
        assert_eq!(geometry(64 * MIB, None).slop(), 24 * MIB);
        assert_eq!(geometry(GIB, None).slop(), 128 * MIB);
        assert_eq!(geometry(16 * TIB, None).slop(), 128 * GIB);
    }

    proptest! {
        #[test]
        fn places_never_overlap_nor_cross_a_border(
            blocks in prop::collection::vec((1_u64..200_000, 0_usize..3), 1..1500),
            size in 64_u64..300,
        ) {
            let mut space = Space::new(geometry(size * MIB, None));
            let metaslab = space.geometry.metaslab();
            let mut runs = Vec::new();
            for (length, copy) in blocks {
                match space.take(length, copy) {
                    Some(run) => {
                        prop_assert!(run.length >= length && run.length < length + 4 * KIB);
                        prop_assert!(run.start / metaslab == (run.end() - 1) / metaslab);
                        prop_assert!(run.end() <= space.geometry.capacity());
                        runs.push(run);
                    }
                    // What is lost is less than a block in each metaslab.
                    None => prop_assert!(space.used() + 208 * KIB * space.geometry.metaslabs() > space.geometry.capacity()),
                }
            }
            prop_assert_eq!(space.used(), runs.iter().map(|run| run.length).sum::<u64>());
            runs.sort_by_key(|run| run.start);
            prop_assert!(runs.is_sorted_by(|a, b| a.end() <= b.start));
            let taken: Vec<Run> = space.taken().collect();
            prop_assert!(taken.is_sorted_by(|a, b| a.end() <= b.start));
            prop_assert!(taken.iter().all(|run| run.start / metaslab == (run.end() - 1) / metaslab));
        }
    }
}
