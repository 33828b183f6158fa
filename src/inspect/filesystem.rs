//! Recognises filesystems by their bytes. Where it can read a filesystem, it also finds label, id, features and
//! free space.

use serde::Serialize;
use uuid::Uuid;

use super::text_of;
use crate::error::Result;
use crate::filesystem::{Volume, ext4, fat, marks, squashfs, swap, zfs};
use crate::image::Slice;
use crate::units::joined;

/// A filesystem, or other contents of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// `ext4`, `vfat`, `swap`, `xfs`, …
    pub kind: String,
    /// Label; empty for none.
    pub label: String,
    /// UUID, or `1234-ABCD` for FAT.
    pub uuid: String,
    /// Features by the names of its tools; by bit if they have no name.
    pub features: Vec<String>,
    /// Bytes in a block or cluster.
    pub block_size: Option<u64>,
    /// Blocks or clusters in all.
    pub blocks: Option<u64>,
    /// Free blocks or clusters.
    pub free_blocks: Option<u64>,
    /// Inodes in all.
    pub inodes: Option<u64>,
    /// Free inodes.
    pub free_inodes: Option<u64>,
}

/// How many bytes of allocation tables one inspection reads: as many as the largest FAT32 has. A hostile disk
/// may have thousands of partitions over one table.
pub(super) const PATIENCE: u64 = 1 << 30;

/// The contents of `slice`; `None` if they are unknown. `patience` is the number of bytes of allocation
/// tables that may still be read.
pub(super) fn find(slice: &Slice, patience: &mut u64) -> Result<Option<Found>> {
    if let Some(found) = ext(slice)? {
        return Ok(Some(found));
    }
    if let Some(found) = swap(slice)? {
        return Ok(Some(found));
    }
    if let Some(found) = squashfs(slice) {
        return Ok(Some(found));
    }
    if let Some(found) = zfs(slice) {
        return Ok(Some(found));
    }
    if let Some(marked) = marks::find(slice)? {
        let uuid = marked.uuid.map_or(String::new(), shown);
        let (kind, label) = (marked.kind.to_owned(), text_of(&marked.label));
        return Ok(Some(Found { kind, label, uuid, ..Found::default() }));
    }
    fat(slice, patience)
}

/// ext2, ext3, ext4: by the superblock alone, even if the rest is damaged.
fn ext(slice: &Slice) -> Result<Option<Found>> {
    let Some((superblock, _)) = ext4::read_superblock(slice)? else { return Ok(None) };
    let wide = |low, high| {
        let has_high = superblock.s_feature_incompat & ext4::features::incompat::WIDE != 0;
        joined(low, if has_high { high } else { 0 })
    };
    Ok(Some(Found {
        kind: ext4::features::kind(&superblock).to_owned(),
        label: text_of(&superblock.s_volume_name),
        uuid: shown(superblock.s_uuid),
        features: ext4::features::names(&superblock),
        block_size: 1024_u64.checked_shl(superblock.s_log_block_size),
        blocks: Some(wide(superblock.s_blocks_count_lo, superblock.s_blocks_count_hi)),
        free_blocks: Some(wide(superblock.s_free_blocks_count_lo, superblock.s_free_blocks_count_hi)),
        inodes: Some(u64::from(superblock.s_inodes_count)),
        free_inodes: Some(u64::from(superblock.s_free_inodes_count)),
    }))
}

/// Swap space of version 1.
fn swap(slice: &Slice) -> Result<Option<Found>> {
    Ok(swap::read_header(slice)?.map(|(header, page)| Found {
        kind: "swap".to_owned(),
        label: text_of(&header.volume_name),
        uuid: shown(header.uuid),
        block_size: Some(page),
        blocks: Some(u64::from(header.last_page) + 1),
        ..Found::default()
    }))
}

/// SquashFS, by its superblock. One that is damaged is told by its mark alone.
fn squashfs(slice: &Slice) -> Option<Found> {
    let volume = squashfs::open(slice).ok().flatten()?;
    let facts = volume.facts();
    Some(Found {
        kind: facts.kind.to_owned(),
        features: vec![volume.compressor().to_owned()],
        block_size: Some(facts.block_size),
        blocks: Some(facts.blocks),
        free_blocks: Some(facts.free_blocks),
        inodes: facts.inodes,
        free_inodes: facts.free_inodes,
        ..Found::default()
    })
}

/// A ZFS pool, by its labels and its own set of objects. One that is damaged, or not read here, is told by its mark alone.
fn zfs(slice: &Slice) -> Option<Found> {
    let pool = zfs::open(slice).ok().flatten()?;
    let facts = pool.facts();
    Some(Found {
        kind: facts.kind.to_owned(),
        label: crate::text::printable(facts.label.as_bytes()),
        uuid: facts.uuid.clone(),
        features: pool.features().to_vec(),
        block_size: Some(facts.block_size),
        blocks: Some(facts.blocks),
        free_blocks: Some(facts.free_blocks),
        ..Found::default()
    })
}

/// FAT12, 16, 32: a boot sector with consistent numbers.
fn fat(slice: &Slice, patience: &mut u64) -> Result<Option<Found>> {
    let Some(fat) = fat::Fat::look(slice)? else { return Ok(None) };
    let (layout, facts) = (fat.layout(), fat.facts());
    let needed = layout.needed().min(layout.table_length);
    let free = if needed <= *patience {
        *patience -= needed;
        fat.free_within()?.map(u64::from)
    } else {
        None
    };
    Ok(Some(Found {
        kind: facts.kind.to_owned(),
        label: crate::text::printable(fat.label()?.as_bytes()),
        uuid: facts.uuid.clone(),
        features: vec![layout.fat.to_string()],
        block_size: Some(facts.block_size),
        blocks: Some(facts.blocks),
        free_blocks: free,
        ..Found::default()
    }))
}

/// A UUID in its text form; empty for none.
fn shown(uuid: Uuid) -> String {
    if uuid.is_nil() { String::new() } else { uuid.to_string() }
}
