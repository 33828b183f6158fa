//! The smallest volume for given contents.

use super::contents::Contents;
use super::geometry::{FAT32_CLUSTERS, FAT32_FROM, FatType, Geometry, Misfit, Wish};
use crate::units::{Bytes, Clusters};

/// The space that a volume must have.
#[derive(Debug)]
pub(super) struct Demand<'a> {
    contents: &'a Contents<'a>,
    free: Bytes,
    /// Numbers of clusters that were counted already, by the binary logarithm of the cluster size.
    counted: Vec<Option<Clusters>>,
}

impl<'a> Demand<'a> {
    pub(super) fn new(contents: &'a Contents<'a>, free: Bytes) -> Self {
        Self { contents, free, counted: vec![None; 64] }
    }

    /// The number of clusters of `size` bytes that it takes, including those that must stay free, without the
    /// root directory.
    fn below_root(&mut self, size: u64) -> Clusters {
        let count = || self.contents.clusters(size, false) + Clusters::new(self.free.div_ceil(size));
        match self.counted.get_mut(crate::units::index(size.trailing_zeros())) {
            Some(counted) => *counted.get_or_insert_with(count),
            None => count(),
        }
    }

    /// The number of clusters that it takes in a volume of this type.
    pub(super) fn clusters(&mut self, fat: FatType, size: u64) -> Clusters {
        let root = match fat {
            FatType::Fat32 => self.contents.root.length().div_ceil(size).max(1),
            FatType::Fat12 | FatType::Fat16 => 0,
        };
        self.below_root(size) + Clusters::new(root)
    }
}

/// Up to here every number of sectors is tried. Below this limit the cluster size may become smaller when the
/// volume grows: at the formats of floppy disks, and in the gap between FAT12 and FAT16 at 4 sectors per
/// cluster, which ends below 4087 · 4 + 4 + 2 · 32 + 32 = 16,448 sectors.
const TRIED: u64 = 20_000;

/// The smallest whole number of sectors at which the volume of [`Geometry::new`] has enough space, as size
/// and geometry.
///
/// The number of clusters does not always grow with the volume, since the FATs grow too and cluster sizes
/// change. So there is no formula. Sizes are tried upwards, and sizes that cannot suffice are skipped:
///
/// * The clusters that are needed, at their present size, are a lower bound as long as clusters only become larger, because larger
///   clusters never take fewer bytes.
/// * With a fixed cluster size k, each missing cluster takes k sectors, minus what rounding may gain: 2·k + 2 sectors of FATs that
///   were rounded up, k of the last cluster, less than 64 of the last track.
///
/// # Errors
/// If no size suffices: the reason why the last size that was tried does not.
pub(super) fn smallest(demand: &mut Demand<'_>, wish: &Wish) -> Result<(Bytes, Geometry), Misfit> {
    let size = wish.sector_size;
    let finest = wish.sectors_per_cluster.unwrap_or(1);
    let fewest = wish.fat.map_or(Clusters::ZERO, FatType::fewest);
    let mut sectors = demand.below_root(finest * size).max(fewest).get().saturating_mul(finest).max(1);
    loop {
        let bytes = Bytes::new(sectors.saturating_mul(size));
        let (fat, per_cluster, clusters) = match Geometry::new(bytes, wish) {
            Ok(geometry) => {
                let needed = demand.clusters(geometry.fat, geometry.cluster());
                if needed <= geometry.clusters {
                    return Ok((bytes, geometry));
                }
                (geometry.fat, geometry.sectors_per_cluster, geometry.clusters)
            }
            Err(Misfit::TooSmall) => {
                sectors += 1;
                continue;
            }
            Err(Misfit::Clusters { fat, sectors_per_cluster, clusters }) if clusters < fat.fewest() => {
                (fat, sectors_per_cluster, clusters)
            }
            // Too many clusters, or too many names in the root: only FAT32 holds more.
            Err(Misfit::Clusters { .. } | Misfit::Root) if wish.fat.is_none() && bytes < FAT32_FROM => {
                sectors = FAT32_FROM.get() / size;
                continue;
            }
            Err(misfit) => return Err(misfit),
        };
        let needed = demand.clusters(fat, per_cluster * size).max(fat.fewest());
        // Nothing is missing if the number of clusters is only too small for the type.
        let missing = needed.saturating_sub(clusters).get().saturating_mul(per_cluster);
        sectors = leap(sectors, needed.get().saturating_mul(per_cluster), missing, fat, per_cluster, size);
    }
}

/// The next number of sectors to try, by the two bounds of [`smallest`].
fn leap(sectors: u64, bound: u64, missing: u64, fat: FatType, per_cluster: u64, size: u64) -> u64 {
    let next = sectors + 1;
    if sectors <= TRIED {
        return next;
    }
    let mut target = next.max(bound);
    if fat == FatType::Fat32 {
        target = target.max(sectors.saturating_add(missing).saturating_sub(4 * per_cluster + 64));
    }
    // The bounds end where the cluster size may change.
    std::iter::once(FAT32_FROM.get() / size)
        .chain(FAT32_CLUSTERS.iter().map(|(limit, _)| limit + 1))
        .filter(|limit| *limit > sectors)
        .fold(target, u64::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Builder, Meta, Time, Tree};
    use crate::units::{GIB, MIB, TIB};

    fn tree(files: usize, directories: usize) -> Tree {
        let mut builder = Builder::new(Time::default());
        let origin = builder.origin("test");
        for number in 0..files {
            let name = format!("/d{}/f{number}", number % directories.max(1));
            builder
                .text(name.as_bytes(), vec![1; number % 3000], Meta::root(0o644, Time::default()), origin)
                .unwrap();
        }
        builder.finish(1).unwrap()
    }

    fn holds(contents: &Contents<'_>, free: Bytes, wish: &Wish, sectors: u64) -> bool {
        let Ok(geometry) = Geometry::new(Bytes::new(sectors * wish.sector_size), wish) else { return false };
        let cluster = geometry.cluster();
        let wide = geometry.fat == FatType::Fat32;
        let needed = contents.clusters(cluster, wide) + Clusters::new(free.div_ceil(cluster));
        needed <= geometry.clusters
    }

    fn wishes(root_entries: u64) -> Vec<Wish> {
        let mut wishes = Vec::new();
        for sector_size in [512, 1024, 2048, 4096] {
            for fat in [None, Some(FatType::Fat12), Some(FatType::Fat16), Some(FatType::Fat32)] {
                for sectors_per_cluster in [None, Some(1), Some(8), Some(128)] {
                    wishes.push(Wish { sector_size, fat, sectors_per_cluster, root_entries });
                }
            }
        }
        wishes
    }

    /// The answer of [`smallest`] equals that of trying every size.
    #[test]
    fn nothing_smaller_holds_it() {
        let tree = tree(50, 7);
        let contents = Contents::survey(&tree, false).unwrap();
        let mut tried = 0;
        for wish in wishes(contents.root.entries) {
            for free in (0..22).map(|step| Bytes::new((1 << step) * 37)).chain([Bytes::new(120 * MIB)]) {
                let Ok((size, _)) = smallest(&mut Demand::new(&contents, free), &wish) else { continue };
                let sectors = size.get() / wish.sector_size;
                assert!(holds(&contents, free, &wish, sectors), "{wish:?} {free}");
                // All smaller sizes, down to half a million sectors less.
                for fewer in sectors.saturating_sub(500_000)..sectors {
                    assert!(
                        !holds(&contents, free, &wish, fewer),
                        "{wish:?} {free}: {fewer} instead of {sectors}"
                    );
                }
                tried += 1;
            }
        }
        assert!(tried > 500, "{tried}");
    }

    /// Around every place where the type or the cluster size changes, and far above.
    #[test]
    fn nothing_smaller_holds_it_at_the_thresholds() {
        let tree = tree(0, 0);
        let contents = Contents::survey(&tree, false).unwrap();
        let sizes = [2, 4, 8, 16, 32, 64, 128, 256, 260, 500, 511, 512, 1000]
            .map(|size| size * MIB)
            .into_iter()
            .chain([8, 16, 32, 64, 500].map(|size| size * GIB))
            .chain([2 * TIB - GIB]);
        for size in sizes {
            for less in [0, 1, 2, 3, 5, 8] {
                let free = Bytes::new(size - size / 256 * less);
                for sector_size in [512, 4096] {
                    let wish = Wish { sector_size, fat: None, sectors_per_cluster: None, root_entries: 0 };
                    let (found, _) = smallest(&mut Demand::new(&contents, free), &wish).unwrap();
                    let sectors = found.get() / sector_size;
                    assert!(holds(&contents, free, &wish, sectors), "{free}");
                    for fewer in sectors.saturating_sub(40_000)..sectors {
                        assert!(
                            !holds(&contents, free, &wish, fewer),
                            "{free}: {fewer} instead of {sectors}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn what_no_size_holds_is_refused_soon() {
        let tree = tree(0, 0);
        let contents = Contents::survey(&tree, false).unwrap();
        for (fat, sectors_per_cluster, free) in [
            (Some(FatType::Fat12), None, GIB),
            (Some(FatType::Fat12), Some(1), 3 * MIB),
            (Some(FatType::Fat16), None, 5 * GIB),
            (Some(FatType::Fat16), Some(1), 33 * MIB),
            (Some(FatType::Fat32), Some(1), 129 * GIB),
            (None, None, 3 * TIB),
            (None, Some(1), 1 << 60),
        ] {
            let wish = Wish { sector_size: 512, fat, sectors_per_cluster, root_entries: 0 };
            smallest(&mut Demand::new(&contents, Bytes::new(free)), &wish).unwrap_err();
        }
    }
}
