//! What is said when the contents and the size asked for do not go together: by how much, and what takes the room.

use super::contents::Contents;
use super::geometry::{Geometry, LARGEST_ROOT, Misfit, Wish};
use super::size::{Demand, smallest};
use crate::error::{Error, Kind};
use crate::units::{Bytes, Clusters};

/// How many of the largest files are named.
const NAMED: usize = 3;

/// The contents do not fit a volume of a given size.
pub(super) fn full(
    contents: &Contents<'_>,
    wish: &Wish,
    size: Bytes,
    geometry: &Geometry,
    needed: Clusters,
) -> Error {
    let cluster = geometry.cluster();
    let missing = needed.saturating_sub(geometry.clusters).bytes(cluster);
    let error = Error::new(
        Kind::Capacity,
        format!("the contents do not fit the {} filesystem: {} too much", geometry.fat, missing.human()),
    )
    .expected(format!("at most {} clusters of {cluster} bytes in {size}", geometry.clusters.get()))
    .found(found(contents, needed.get()));
    with_hint(error, contents, wish)
}

/// There is no volume of a given size, or with `size` of `None` no size at all.
pub(super) fn misfit(contents: &Contents<'_>, wish: &Wish, size: Option<Bytes>, misfit: Misfit) -> Error {
    let error = |what: String| Error::new(Kind::Capacity, what);
    let here = size.map_or("of any size".to_owned(), |size| format!("of {size}"));
    let error = match misfit {
        Misfit::TooSmall => error(format!("a FAT filesystem {here} is too small"))
            .expected("room for the boot sector, two FATs, the root directory and 32 KiB of clusters"),
        Misfit::TooLarge => error(format!("a FAT filesystem {here} is too large"))
            .expected(format!("at most {} sectors of {} bytes", u32::MAX, wish.sector_size))
            .why("the number of sectors is a field of 32 bits (fatgen103, BPB_TotSec32)"),
        Misfit::Root => error(format!("the root directory of FAT12 and FAT16 cannot hold its names {here}"))
            .expected(format!(
                "at most {LARGEST_ROOT} entries; a name takes 1, and 1 more for each 13 characters"
            ))
            .found(format!("{} entries", contents.root_entries()))
            .why("their root directory has a fixed size")
            .hint("put the names in a directory below, or choose FAT32"),
        Misfit::Clusters { fat, sectors_per_cluster, clusters } => {
            let cluster = sectors_per_cluster * wish.sector_size;
            let (fewest, most) = (fat.fewest().get(), fat.most().get());
            let error = error(if clusters < fat.fewest() {
                format!("a filesystem {here} has too few clusters for {fat}")
            } else {
                format!("a filesystem {here} has too many clusters for {fat}")
            })
            .expected(format!("{fewest} to {most} clusters"))
            .found(format!("{} clusters of {cluster} bytes", clusters.get()))
            .why("readers tell the type of a FAT filesystem by the number of its clusters");
            if size.is_some() { error } else { beyond(contents, fat.most(), cluster, error) }
        }
    };
    match (misfit, size) {
        (Misfit::Root, _) | (_, None) => error,
        _ => with_hint(error, contents, wish),
    }
}

/// Contents that no volume of the type holds: what is too much.
fn beyond(contents: &Contents<'_>, most: Clusters, cluster: u64, error: Error) -> Error {
    let needed = contents.clusters(cluster, false);
    let missing = needed.saturating_sub(most).bytes(cluster);
    let error = error.found(format!(
        "{}; with the largest clusters asked for, {} too much",
        found(contents, needed.get()),
        missing.human()
    ));
    error.hint("leave the type of FAT and the cluster size to the size of the contents")
}

fn found(contents: &Contents<'_>, clusters: u64) -> String {
    let largest: Vec<String> = contents
        .tree
        .largest(NAMED)
        .iter()
        .map(|(id, length)| format!("{} ({})", contents.tree.path(*id), Bytes::new(*length).human()))
        .collect();
    if largest.is_empty() {
        format!("{clusters} clusters of contents")
    } else {
        format!("{clusters} clusters of contents; the largest are {}", largest.join(", "))
    }
}

/// Says which size would do.
fn with_hint(error: Error, contents: &Contents<'_>, wish: &Wish) -> Error {
    match smallest(&mut Demand::new(contents, Bytes::ZERO), wish) {
        Ok((size, _)) => error.hint(format!("{size} is the smallest size that holds them; `auto` finds it")),
        Err(_) => error.hint("no size holds them; leave the type of FAT and the cluster size open"),
    }
}
