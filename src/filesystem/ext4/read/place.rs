//! Names the structure that a byte of a volume belongs to.

use std::collections::HashSet;

use super::Ext4;
use super::inode::{FLAG_INLINE_DATA, Raw};
use super::layout::SUPERBLOCK_AT;
use super::map::{Go, Mapped};
use crate::error::Result;
use crate::filesystem::ext4::format::{GroupDescriptor, Inode, ROOT, Superblock};
use crate::text::printable;
use crate::units::u64_of;
use crate::wire::{Wire, named};

/// The name of the structure at byte `offset`.
pub(super) fn structure(volume: &Ext4, offset: u64) -> Result<String> {
    let layout = &volume.layout;
    if offset < SUPERBLOCK_AT {
        return Ok("the boot sector".to_owned());
    }
    if let Some(within) = offset.checked_sub(SUPERBLOCK_AT).filter(|at| *at < u64_of(Superblock::LENGTH)) {
        return Ok(format!("the superblock, {}", named(Superblock::FIELDS, within)));
    }
    let block = offset / layout.block;
    for group in 0..layout.groups {
        if let Some(name) = in_group(volume, group, offset)? {
            return Ok(name);
        }
    }
    Ok(of_file(volume, block)?.unwrap_or_else(|| format!("block {block}, which is free")))
}

/// The structure of a group.
fn in_group(volume: &Ext4, number: u64, offset: u64) -> Result<Option<String>> {
    let layout = &volume.layout;
    let (block, within) = (offset / layout.block, offset % layout.block);
    let start = layout.group_start(number);
    if layout.has_superblock(number) && block == start && number > 0 {
        return Ok(Some(format!(
            "the copy of the superblock in group {number}, {}",
            named(Superblock::FIELDS, within)
        )));
    }
    let each = layout.descriptors_per_block();
    let descriptors = layout.common_blocks(number).min(layout.descriptor_blocks());
    let first = if number == 0 { layout.superblock_block() + 1 } else { start + 1 };
    if layout.has_superblock(number) && (first..first + descriptors).contains(&block) {
        let of = (block - first) * each + within / layout.descriptor;
        let name = named(GroupDescriptor::FIELDS, within % layout.descriptor);
        let copy = if number == 0 { String::new() } else { format!(" (copy in group {number})") };
        return Ok(Some(format!("the descriptor of group {of}{copy}, {name}")));
    }
    let group = volume.group(number)?;
    if block == group.block_bitmap {
        return Ok(Some(format!("the block bitmap of group {number}")));
    }
    if block == group.inode_bitmap {
        return Ok(Some(format!("the inode bitmap of group {number}")));
    }
    let table = group.inode_table.saturating_mul(layout.block);
    let length = u64::from(layout.inodes_per_group) * layout.inode;
    Ok(offset.checked_sub(table).filter(|at| *at < length).map(|at| {
        let inode = number * u64::from(layout.inodes_per_group) + at / layout.inode + 1;
        format!("inode {inode}, {}", named(Inode::FIELDS, at % layout.inode))
    }))
}

/// The file that has a block.
fn of_file(volume: &Ext4, block: u64) -> Result<Option<String>> {
    let journal = volume.layout.superblock.s_journal_inum;
    if journal != 0 && owns(volume, &volume.used(journal.into())?, block)?.is_some() {
        return Ok(Some("the journal".to_owned()));
    }
    let mut seen = HashSet::new();
    let mut stack = vec![(Vec::new(), ROOT)];
    while let Some((path, number)) = stack.pop() {
        let Ok(raw) = volume.used(number.into()) else { continue };
        let shown = || if path.is_empty() { "/".to_owned() } else { printable(&path) };
        if raw.xattr_block() == block {
            return Ok(Some(format!("the attributes of {}", shown())));
        }
        let has_blocks = (raw.is_directory() || !raw.is_fast_symlink(volume)) && !raw.has(FLAG_INLINE_DATA);
        if has_blocks && let Some(what) = owns(volume, &raw, block)? {
            return Ok(Some(format!("{what} of {}", shown())));
        }
        if raw.is_directory() && seen.insert(number) {
            volume.names(&raw, &mut |name| {
                if !matches!(name.name, b"." | b"..") {
                    stack.push(([path.as_slice(), b"/", name.name].concat(), name.inode));
                }
                Ok(())
            })?;
        }
    }
    Ok(None)
}

/// What a block is to an inode.
fn owns(volume: &Ext4, raw: &Raw, block: u64) -> Result<Option<&'static str>> {
    if !matches!(raw.kind(), crate::filesystem::mode::MODE_FILE | crate::filesystem::mode::MODE_DIRECTORY)
        && raw.kind() != crate::filesystem::mode::MODE_SYMLINK
    {
        return Ok(None);
    }
    let mut found = None;
    volume.walk(raw, &mut |mapped| {
        match mapped {
            Mapped::Data { physical, length, .. } if (physical..physical + length).contains(&block) => {
                found = Some(if raw.is_directory() { "the entries" } else { "the data" });
            }
            Mapped::Unwritten { physical, length, .. } if (physical..physical + length).contains(&block) => {
                found = Some("the space kept");
            }
            Mapped::Node { physical } if physical == block => found = Some("the map of blocks"),
            _ => {}
        }
        Ok(Go::On)
    })?;
    Ok(found)
}
