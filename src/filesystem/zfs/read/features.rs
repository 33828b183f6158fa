//! The features that a pool uses: which of them a reader must know.

use super::super::features::{
    self, EMBEDDED_DATA, EXTENSIBLE_DATASET, HOLE_BIRTH, LARGE_BLOCKS, LARGE_DNODE, LZ4, ZSTD,
};
use super::block::Blocks;
use super::object::{Object, Set};
use crate::error::Result;
use crate::filesystem::device::damaged;
use crate::text::shortened;

/// Features in use that this reader knows, or that change nothing that it reads. Every other one is refused.
const READ: [&str; 14] = [
    HOLE_BIRTH,
    EMBEDDED_DATA,
    LZ4,
    EXTENSIBLE_DATASET,
    LARGE_BLOCKS,
    LARGE_DNODE,
    ZSTD,
    // Tables of the root vdev, and of errors; bookmarks, which no file depends on.
    "com.klarasystems:vdev_zaps_v2",
    "com.delphix:head_errlog",
    "com.delphix:bookmark_written",
    "com.datto:bookmark_v2",
    "com.delphix:redaction_bookmarks",
    "com.delphix:redaction_list_spill",
    // Its datasets are refused where one is read, and the others are as they are without it.
    "com.datto:encryption",
];

/// The most features that a pool may have: several times those of OpenZFS.
const MOST: usize = 1000;

/// The features in use, sorted, by the names that `zpool` has for them.
///
/// # Errors
/// [`Kind::Format`](crate::error::Kind::Format) for one without which a pool cannot be read, and that is not known here.
pub(super) fn read(blocks: &Blocks, mos: &Set, directory: &Object) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (table, is_needed) in [("features_for_read", true), ("features_for_write", false)] {
        let table = mos.object(blocks, blocks.required(directory, table)?)?;
        blocks.entries(&table, &mut |entry| {
            if entry.number()? == 0 {
                return Ok(true);
            }
            let name = shortened(entry.name, 80);
            let name = features::short(&name);
            if is_needed && !READ.iter().any(|own| own.as_bytes() == entry.name) {
                return Err(
                    damaged("the ZFS pool uses a feature that is not read here").found(name.to_owned())
                );
            }
            if found.len() == MOST {
                return Err(damaged("a ZFS pool has too many features"));
            }
            found.push(name.to_owned());
            Ok(true)
        })?;
    }
    found.sort();
    Ok(found)
}
