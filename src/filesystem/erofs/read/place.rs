//! Names the structure that a byte of an image belongs to.

use std::collections::HashSet;

use super::Erofs;
use super::inode::Raw;
use super::map::From;
use crate::error::Result;
use crate::filesystem::erofs::format::{
    CompactInode, DirectoryEntry, ExtendedInode, Layout, MapHeader, SUPERBLOCK_AT, Superblock, XattrEntry,
    XattrHeader, incompat,
};
use crate::filesystem::mode::{MODE_DIRECTORY, MODE_FILE, MODE_SYMLINK};
use crate::text::printable;
use crate::units::u64_of;
use crate::wire::{Wire, named};

/// The name of the structure at byte `offset`.
pub(super) fn structure(volume: &Erofs, offset: u64) -> Result<String> {
    let Some(within) = offset.checked_sub(SUPERBLOCK_AT) else { return Ok("the boot sector".to_owned()) };
    if within < u64_of(Superblock::LENGTH) {
        return Ok(format!("the superblock, {}", named(Superblock::FIELDS, within)));
    }
    if let Some(found) = of_inodes(volume, offset)? {
        return Ok(found);
    }
    let configured = volume.superblock.feature_incompat & incompat::COMPR_CFGS != 0;
    Ok(match offset / volume.block {
        0 if configured => "what readers know of the compressors, behind the superblock".to_owned(),
        _ if offset >= volume.end() => "what lies behind the filesystem".to_owned(),
        block => format!("block {block}, which nothing has"),
    })
}

/// The inode that has a byte, in itself or in its data.
fn of_inodes(volume: &Erofs, offset: u64) -> Result<Option<String>> {
    let mut seen = HashSet::new();
    let mut stack = vec![(Vec::new(), volume.root_nid())];
    let packed = volume.superblock.packed_nid;
    if packed != 0 && volume.superblock.feature_incompat & incompat::FRAGMENTS != 0 {
        stack.push((b"the inode of fragments".to_vec(), packed));
    }
    while let Some((path, nid)) = stack.pop() {
        let Ok(raw) = volume.inode(nid) else { continue };
        if !seen.insert(nid) {
            continue;
        }
        let shown = if path.is_empty() { "/".to_owned() } else { printable(&path) };
        if let Some(found) = own(volume, &raw, offset, &shown)? {
            return Ok(Some(found));
        }
        if raw.kind() == MODE_DIRECTORY {
            volume.names(&raw, &mut |entry| {
                if !matches!(entry.name, b"." | b"..") {
                    stack.push(([path.as_slice(), b"/", entry.name].concat(), entry.nid));
                }
                Ok(())
            })?;
        }
    }
    Ok(None)
}

/// What a byte is to an inode, if it is its own.
fn own(volume: &Erofs, raw: &Raw, offset: u64, path: &str) -> Result<Option<String>> {
    let (at, attributes) = (volume.place(raw.nid)?, raw.behind - raw.xattrs);
    if (at..attributes).contains(&offset) {
        let fields = if attributes - at < u64_of(ExtendedInode::LENGTH) {
            CompactInode::FIELDS
        } else {
            ExtendedInode::FIELDS
        };
        return Ok(Some(format!("inode {}, of {path}, {}", raw.nid, named(fields, offset - at))));
    }
    if (attributes..raw.behind).contains(&offset) {
        let within = offset - attributes;
        let head = within < u64_of(XattrHeader::LENGTH);
        let part = if head { format!(", {}", named(XattrHeader::FIELDS, within)) } else { String::new() };
        return Ok(Some(format!("the attributes of {path}{part}")));
    }
    if let Some(within) = volume.in_shared(raw, offset)? {
        let head = within < u64_of(XattrEntry::LENGTH);
        let part = if head { format!(", {}", named(XattrEntry::FIELDS, within)) } else { String::new() };
        return Ok(Some(format!("a shared attribute of {path}{part}")));
    }
    let what = match raw.kind() {
        MODE_DIRECTORY => "the entries",
        MODE_FILE => "the data",
        MODE_SYMLINK => "the target",
        _ => return Ok(None),
    };
    if let Some((start, end)) = volume.map_place(raw)?
        && (start..end).contains(&offset)
    {
        let compressed = raw.layout != Layout::Chunked && offset - start < u64_of(MapHeader::LENGTH);
        let part = match compressed {
            true => format!(", {}", named(MapHeader::FIELDS, offset - start)),
            false => String::new(),
        };
        return Ok(Some(format!("the map of {path}{part}")));
    }
    if !in_data(volume, raw, offset)? {
        return Ok(None);
    }
    let part = if raw.kind() == MODE_DIRECTORY { entry(volume, raw, offset)? } else { String::new() };
    Ok(Some(format!("{what} of {path}{part}")))
}

/// Whether a byte is one of an inode's data as they are stored, with what fills their last block.
fn in_data(volume: &Erofs, raw: &Raw, offset: u64) -> Result<bool> {
    let mut found = false;
    let mut stored = |at: u64, length: u64| found |= (at..at.saturating_add(length)).contains(&offset);
    match raw.layout {
        Layout::Full | Layout::Compact => volume.extents(raw, &mut |extent| {
            match extent.from {
                From::Plain { at, length } | From::Piece { at, length, .. } => stored(at, length),
                From::Turned { at, .. } => stored(at, volume.block),
                From::Fragment { .. } => {}
            }
            Ok(())
        })?,
        layout => volume.pieces(raw, &mut |_, piece| {
            let Some(at) = volume.device.offset_of(&piece) else { return Ok(()) };
            let length = piece.length().get();
            let tail = layout == Layout::Inline && at == raw.behind;
            stored(at, if tail { length } else { length.next_multiple_of(volume.block) });
            Ok(())
        })?,
    }
    Ok(found)
}

/// The field of an entry, where a byte of a directory is in one.
fn entry(volume: &Erofs, raw: &Raw, offset: u64) -> Result<String> {
    let inline = raw.layout == Layout::Inline && offset >= raw.behind;
    let start = if inline { raw.behind } else { offset / volume.block * volume.block };
    let first: DirectoryEntry = volume.device.structure(start)?;
    let within = offset - start;
    if within >= first.nameoff.into() {
        return Ok(", a name".to_owned());
    }
    Ok(format!(", {}", named(DirectoryEntry::FIELDS, within % u64_of(DirectoryEntry::LENGTH))))
}
