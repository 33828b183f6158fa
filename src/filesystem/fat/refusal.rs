//! Errors for contents that do not fit in the size: by how much, and which contents are large.

use super::contents::Contents;
use super::geometry::{FatType, Geometry, LARGEST_ROOT, Misfit, Wish};
use super::size::{Demand, smallest};
use crate::error::{Error, Kind};
use crate::units::{Bytes, Clusters, KIB, MIB};

/// How many of the largest files are named.
const NAMED: usize = 3;

/// The error for contents that do not fit in a volume of a given size.
pub(super) fn full(contents: &Contents<'_>, wish: &Wish, geometry: &Geometry, needed: Clusters) -> Error {
    let cluster = geometry.cluster();
    let missing = needed.saturating_sub(geometry.clusters).bytes(cluster);
    let error = Error::new(
        Kind::Capacity,
        format!("the contents do not fit the {} filesystem: {} too much", geometry.fat, missing.human()),
    )
    .expected(format!(
        "at most {} in {} clusters of {cluster} bytes",
        geometry.clusters.bytes(cluster).human(),
        geometry.clusters.get()
    ))
    .found(found(contents, needed, cluster));
    with_hint(error, contents, wish)
}

/// The error if no volume has a given size; with a `size` of `None`, if no volume has any size.
pub(super) fn misfit(contents: &Contents<'_>, wish: &Wish, size: Option<Bytes>, misfit: Misfit) -> Error {
    // A number alone would lack its unit.
    let written =
        |size: Bytes| if size.is_multiple_of(KIB) { size.to_string() } else { format!("{size} bytes") };
    let (volume, filesystem) = match size.map(written) {
        Some(size) => (format!("a FAT filesystem of {size} is"), format!("a filesystem of {size} has")),
        None => ("the contents are".to_owned(), "the contents have".to_owned()),
    };
    // A given size that is wrong for any contents is the fault of the description.
    let error = |what: String| {
        let error = Error::new(Kind::Capacity, what);
        if size.is_some() { error.about("size") } else { error }
    };
    let error = match misfit {
        Misfit::TooSmall => error(format!("{volume} too small"))
            .expected("space for the boot sector, two FATs, the root directory and 32 KiB of clusters"),
        Misfit::TooLarge => {
            error(format!("{volume} too large{}", if size.is_none() { " for FAT" } else { "" }))
                .expected(format!("at most {} sectors of {} bytes", u32::MAX, wish.sector_size))
                .why("the number of sectors is a field of 32 bits (fatgen103, BPB_TotSec32)")
        }
        Misfit::Root => {
            return Error::new(Kind::Capacity, "the root directory of FAT12 and FAT16 cannot hold its names")
                .expected(format!(
                    "at most {LARGEST_ROOT} entries; a name takes 1, and 1 more for each 13 characters"
                ))
                .found(format!("{} entries", contents.root.entries))
                .why("their root directory has a fixed size")
                .hint("put the names in a directory below, or choose FAT32");
        }
        Misfit::Clusters { fat, sectors_per_cluster, clusters } => {
            let cluster = sectors_per_cluster * wish.sector_size;
            let few = if clusters < fat.fewest() { "few" } else { "many" };
            let what = format!("{filesystem} too {few} clusters for {fat}");
            // Without a given size, the contents can only be too large.
            let needed = contents.clusters(cluster, fat == FatType::Fat32);
            let excess = needed.saturating_sub(fat.most()).bytes(cluster).human();
            let error = match size {
                Some(_) => error(what).found(format!("{} clusters of {cluster} bytes", clusters.get())),
                None => error(format!("{what}: {excess} too much")).found(found(contents, needed, cluster)),
            };
            error
                .expected(format!("{} to {} clusters", fat.fewest().get(), fat.most().get()))
                .why("readers tell the type of a FAT filesystem by the number of its clusters")
        }
    };
    match size {
        Some(_) => with_hint(error, contents, wish),
        None => error.hint("leave the type of FAT and the cluster size open, or take something out"),
    }
}

/// The space that the contents take, and the largest of them.
fn found(contents: &Contents<'_>, clusters: Clusters, cluster: u64) -> String {
    let largest: Vec<String> = contents
        .tree
        .largest(NAMED)
        .iter()
        .map(|(id, length)| format!("{} ({})", contents.tree.path(*id), Bytes::new(*length).human()))
        .collect();
    let all =
        format!("{} in {} clusters of {cluster} bytes", clusters.bytes(cluster).human(), clusters.get());
    if largest.is_empty() { all } else { format!("{all}; the largest files are {}", largest.join(", ")) }
}

/// The smallest `size` as one would write it: the next whole MiB, of less than one the next whole KiB, unless larger
/// clusters hold less there.
fn to_write(contents: &Contents<'_>, wish: &Wish, size: Bytes) -> Bytes {
    let whole = size.round_up(if size.get() < MIB { KIB } else { MIB });
    match Geometry::new(whole, wish) {
        Ok(geometry)
            if contents.clusters(geometry.cluster(), geometry.fat == FatType::Fat32) <= geometry.clusters =>
        {
            whole
        }
        _ => size,
    }
}

/// Adds the size that would suffice.
fn with_hint(error: Error, contents: &Contents<'_>, wish: &Wish) -> Error {
    match smallest(&mut Demand::new(contents, Bytes::ZERO), wish) {
        Ok((size, _)) => {
            let hint = match to_write(contents, wish, size) {
                written if written == size => {
                    format!("{size} is the smallest size that holds them; `auto` finds it")
                }
                written => format!(
                    "write {written}; the smallest size that holds them is {}, which `auto` finds",
                    size.in_full()
                ),
            };
            error.needs(size).hint(hint)
        }
        Err(_) => error.hint("no size holds them; leave the type of FAT and the cluster size open"),
    }
}
