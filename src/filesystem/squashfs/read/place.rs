//! Names the structure that a byte of an image belongs to.

use super::super::codec::Compressor;
use super::super::format::{
    self, Directory, GzipOptions, Head, Ipc, LongDevice, LongDirectory, LongFile, LongIpc, Lz4Options,
    LzoOptions, METADATA_RAW, Place, Superblock, Symlink, Type, XattrTable, XzOptions, ZstdOptions, flag,
};
use super::Squashfs;
use super::directory::Go;
use super::inode::Body;
use super::metadata::Stream;
use crate::error::Result;
use crate::text::printable;
use crate::units::u64_of;
use crate::wire::{Field, Wire, named};

/// Bytes of the length in front of a block of metadata.
const HEADER: u64 = 2;
/// An image is filled with zeros up to a multiple of this (mksquashfs without -nopad).
const PADDED: u64 = 4096;
/// Where the options of the compressor begin, behind the length of their block.
const OPTIONS_AT: u64 = u64_of(Superblock::LENGTH);

/// The name of the structure at byte `offset`.
pub(super) fn structure(volume: &Squashfs, offset: u64) -> Result<String> {
    if offset < u64_of(Superblock::LENGTH) {
        return Ok(format!("the superblock, {}", named(Superblock::FIELDS, offset)));
    }
    if let Some(found) = options(volume, offset)? {
        return Ok(found);
    }
    if offset < volume.inodes.start {
        let found = of_data(volume, offset)?;
        return Ok(found.unwrap_or_else(|| "data that no file has".to_owned()));
    }
    if offset >= volume.superblock.bytes_used.next_multiple_of(PADDED) {
        return Ok("what lies behind the filesystem".to_owned());
    }
    let (start, name) = table(volume, offset)?;
    if start == volume.inodes.start {
        return in_inodes(volume, offset, name);
    }
    Ok(name.to_owned())
}

/// The field of the compressor's options.
fn options(volume: &Squashfs, offset: u64) -> Result<Option<String>> {
    if volume.superblock.flags & flag::OPTIONS == 0 {
        return Ok(None);
    }
    let mut header = [0; 2];
    volume.metadata.device.read(OPTIONS_AT, &mut header)?;
    let length = u64::from(u16::from_le_bytes(header) & !METADATA_RAW);
    let fields = match volume.compressor {
        Compressor::Gzip => GzipOptions::FIELDS,
        Compressor::Xz => XzOptions::FIELDS,
        Compressor::Lz4 => Lz4Options::FIELDS,
        Compressor::Lzo => LzoOptions::FIELDS,
        Compressor::Lzma => &[],
        Compressor::Zstd => ZstdOptions::FIELDS,
    };
    let within = (offset - OPTIONS_AT).checked_sub(HEADER);
    Ok(match within {
        None => Some("the length of the compressor's options".to_owned()),
        Some(within) if within < length => {
            Some(format!("the compressor's options, {}", named(fields, within)))
        }
        Some(_) => None,
    })
}

/// The table that has a byte: where it begins, and its name.
fn table(volume: &Squashfs, offset: u64) -> Result<(u64, &'static str)> {
    let first = |index: Stream| -> Result<u64> {
        let mut start = [0; 8];
        volume.metadata.device.read(index.start, &mut start)?;
        Ok(u64::from_le_bytes(start))
    };
    let mut parts = vec![
        (volume.inodes.start, "the inode table"),
        (volume.directories.start, "the directory table"),
        (volume.fragments.start, "the index of the fragment table"),
        (first(volume.ids)?, "the id table"),
        (volume.ids.start, "the index of the id table"),
        (volume.superblock.bytes_used, "the padding"),
    ];
    if volume.superblock.fragments > 0 {
        parts.push((first(volume.fragments)?, "the fragment table"));
    }
    if let Some(exports) = volume.exports {
        parts.extend([
            (first(exports)?, "the export table"),
            (exports.start, "the index of the export table"),
        ]);
    }
    if let Some(table) = volume.xattrs {
        let head = table.index.start - u64_of(XattrTable::LENGTH);
        parts.extend([
            (volume.superblock.xattr_id_table_start.min(head), "the head of the table of xattr sets"),
            (table.index.start, "the index of the table of xattr sets"),
            (first(table.index)?, "the table of xattr sets"),
            (table.data.start, "the extended attributes"),
        ]);
    }
    let own = parts.into_iter().filter(|(start, _)| *start <= offset).max_by_key(|(start, _)| *start);
    Ok(own.unwrap_or((0, "no table")))
}

/// Calls `each` with every path and its reference, until it has enough.
fn walk(volume: &Squashfs, each: &mut dyn FnMut(&[u8], u64) -> Result<Go>) -> Result<()> {
    let mut left = u64::from(volume.superblock.inodes).saturating_mul(2);
    let mut stack = vec![(Vec::new(), volume.superblock.root_inode)];
    while let Some((path, reference)) = stack.pop() {
        if each(&path, reference)? == Go::Out || left == 0 {
            return Ok(());
        }
        left -= 1;
        if let Ok(names) = volume.directory(reference) {
            volume.names(&names, &mut |name| {
                stack.push(([path.as_slice(), b"/", name.name].concat(), name.reference));
                Ok(Go::On)
            })?;
        }
    }
    Ok(())
}

fn shown(path: &[u8]) -> String {
    if path.is_empty() { "/".to_owned() } else { printable(path) }
}

/// The file that has a byte of data, alone or with others.
fn of_data(volume: &Squashfs, offset: u64) -> Result<Option<String>> {
    let mut found = None;
    walk(volume, &mut |path, reference| {
        let Ok(raw) = volume.raw(reference) else { return Ok(Go::On) };
        let Body::File(blocks) = raw.body else { return Ok(Go::On) };
        let fragment = blocks.fragment.map(|(number, _)| number);
        volume.blocks(blocks, &mut |_, stored| {
            if (stored.start..stored.start + stored.stored()).contains(&offset) {
                found = Some(match fragment.filter(|_| !stored.whole) {
                    Some(number) => format!("fragment {number}, with the tail of {}", shown(path)),
                    None => format!("the data of {}", shown(path)),
                });
            }
            Ok(())
        })?;
        Ok(if found.is_some() { Go::Out } else { Go::On })
    })?;
    Ok(found)
}

/// The fields of an inode of a type.
const fn fields(kind: Type, long: bool) -> &'static [Field] {
    match (kind, long) {
        (Type::Directory, false) => Directory::FIELDS,
        (Type::Directory, true) => LongDirectory::FIELDS,
        (Type::File, false) => format::File::FIELDS,
        (Type::File, true) => LongFile::FIELDS,
        (Type::Symlink, _) => Symlink::FIELDS,
        (Type::BlockDevice | Type::CharacterDevice, false) => format::Device::FIELDS,
        (Type::BlockDevice | Type::CharacterDevice, true) => LongDevice::FIELDS,
        (Type::Fifo | Type::Socket, false) => Ipc::FIELDS,
        (Type::Fifo | Type::Socket, true) => LongIpc::FIELDS,
    }
}

/// The inode that has a byte of the inode table. In a compressed block it is the first one.
fn in_inodes(volume: &Squashfs, offset: u64, table: &str) -> Result<String> {
    let device = &volume.metadata.device;
    let (mut block, mut header) = (volume.inodes.start, [0; 2]);
    let length = loop {
        device.read(block, &mut header)?;
        let length = u64::from(u16::from_le_bytes(header) & !METADATA_RAW);
        if offset < block + HEADER + length || length == 0 {
            break length;
        }
        block += HEADER + length;
    };
    let raw = u16::from_le_bytes(header) & METADATA_RAW != 0;
    let Some(within) = offset.checked_sub(block + HEADER).filter(|within| *within < length) else {
        return Ok(format!("{table}, the length of the block at {block}"));
    };
    // The last inode of the block that begins before the byte, or the first one where bytes are not told apart.
    let mut best: Option<(u64, Vec<u8>, u64)> = None;
    walk(volume, &mut |path, reference| {
        let place = Place::of(reference);
        let at = u64::from(place.offset);
        if volume.inodes.start + place.block == block {
            let nearer = best.as_ref().is_none_or(|(own, _, _)| if raw { at > *own } else { at < *own });
            if nearer && (!raw || at <= within) {
                best = Some((at, path.to_vec(), reference));
            }
        }
        Ok(Go::On)
    })?;
    let Some((at, path, reference)) = best else { return Ok(format!("{table}, the block at {block}")) };
    if !raw {
        return Ok(format!("{table}, the compressed block at {block}, which begins with {}", shown(&path)));
    }
    let kind = volume.metadata.reader(volume.inodes, Place::of(reference)).structure::<Head>()?.inode_type;
    let own = Type::of(kind).map(|(kind, long)| fields(kind, long)).unwrap_or_default();
    let part = match within - at {
        head if head < u64_of(Head::LENGTH) => named(Head::FIELDS, head),
        rest => named(own, rest),
    };
    Ok(format!("{table}, the inode of {}, {part}", shown(&path)))
}
