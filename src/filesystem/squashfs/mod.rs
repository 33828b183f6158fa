//! SquashFS 4.0: a read-only filesystem, small because everything in it is compressed: a function from a
//! [`Tree`] to an [`Image`](crate::image::Image).
//!
//! How long a block is after compression decides where all that follows stands. So data is compressed first, by
//! `pack`; then inodes, directories and tables are a sum over what was stored. Without compression nothing is read
//! before it is written. docs/formats/squashfs.md lists every field with its reason.

mod codec;
mod data;
mod directory;
mod format;
mod inodes;
mod losses;
mod metadata;
mod pack;
mod read;
mod xattr;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Facts, Filesystem, Placement, Size};
use crate::error::{Error, Kind, Result};
use crate::image::Builder;
use crate::pour::Packer;
use crate::tree::Tree;
use crate::units::{Bytes, KIB, narrow, u64_of};
use crate::wire::Wire;
pub use codec::Compression;
use codec::{Encoder, Settings, metadata_block};
use data::{Data, Inputs};
pub(crate) use format::STRUCTURES;
use format::{CHUNKS, LONGEST_NAME, NO_TABLE, PADDING, Superblock, flag};
use inodes::Metadata;
use metadata::Starts;
pub(crate) use read::open;

/// The options of a SquashFS: keys of a manifest, flags of `mkfs squashfs`, and what a caller of the library sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Squashfs")]
pub struct Options {
    /// How it is compressed: zstd, gzip, xz, lz4 or none; default zstd.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(id = "packed_compress", long = "compress", value_name = "NAME"))]
    pub compress: Option<Compression>,
    /// Level of the compression: 1 to 19 for zstd (default 3), 1 to 9 for gzip (default 9) and xz (default 6).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(id = "packed_level", long = "level", value_name = "N"))]
    pub level: Option<u8>,
    /// Bytes of a file that are compressed together: a power of two from 4KiB to 1MiB; default 128KiB. A kernel with pages of
    /// 64 KiB needs as many at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    pub chunk: Option<Bytes>,
    /// With a size of auto, the space that is left behind it, for a larger one; default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    pub free: Option<Bytes>,
}

/// Bytes of a block where nobody asks for another: those of mksquashfs.
const CHUNK: Bytes = Bytes::new(128 * KIB);

/// The bytes of a block.
fn chunk(options: &Options) -> Result<u64> {
    let chunk = options.chunk.unwrap_or(CHUNK).get();
    if !chunk.is_power_of_two() || !CHUNKS.contains(&chunk) {
        return Err(Error::new(Kind::Manifest, "a SquashFS cannot have blocks of this size")
            .about("chunk")
            .expected(format!(
                "a power of two from {} to {}",
                Bytes::new(*CHUNKS.start()),
                Bytes::new(*CHUNKS.end())
            ))
            .found(Bytes::new(chunk)));
    }
    Ok(chunk)
}

/// Builds the filesystem. Its data is compressed with `packer`.
///
/// # Errors
/// [`Kind::Capacity`] where the contents do not fit the size (by how much), or something in them does not fit SquashFS, with
/// its path; [`Kind::Manifest`] for a level or a chunk that there is not; [`Kind::Source`] for a file that cannot be read or
/// changed, and [`Kind::Output`] where what is compressed cannot be kept.
pub fn build(tree: &Arc<Tree>, options: &Options, at: &Placement, packer: &Packer) -> Result<Filesystem> {
    let (settings, chunk) = (Settings::new(options)?, chunk(options)?);
    tree.check_names(LONGEST_NAME)?;
    let data = packer.once(|packer| {
        let inputs = Inputs::new(tree, chunk)?;
        match settings.compression {
            Compression::None => data::uncompressed(inputs, chunk),
            _ => pack::pack(&inputs, chunk, settings, packer),
        }
    })?;
    let head = Head::new(settings, chunk, at)?;
    let metadata = inodes::write(tree, &data, head.length(), settings)?;
    let inodes = metadata.inodes;
    let (parts, starts, superblock) = head.close(metadata, &data)?;
    let length = length(tree, options, at.size, starts.end)?;
    let mut image = Builder::new(length);
    image.bytes(Bytes::ZERO, "squashfs: superblock", superblock.bytes().to_vec());
    image.bytes(Bytes::new(u64_of(Superblock::LENGTH)), "squashfs: compressor options", head.options.clone());
    data.put(&mut image, head.length());
    for part in parts {
        image.bytes(Bytes::new(part.start), format!("squashfs: {}", part.label), part.bytes);
    }
    let mut warnings = losses::warnings(tree, at.time)?;
    warnings.extend(tree.owner_warnings());
    let facts = facts(starts.end, chunk, inodes);
    Ok(Filesystem { image: image.finish()?, facts, warnings, others: Vec::new() })
}

/// What a SquashFS of `used` bytes says about itself. As the kernel has it (squashfs_statfs), nothing in it is free.
fn facts(used: u64, chunk: u64, inodes: u32) -> Facts {
    Facts {
        kind: "squashfs",
        label: String::new(),
        uuid: String::new(),
        block_size: chunk,
        blocks: used.div_ceil(chunk),
        free_blocks: 0,
        journal: 0,
        inodes: Some(u64::from(inodes)),
        free_inodes: Some(0),
    }
}

/// The length of an image whose filesystem takes `used` bytes.
fn length(tree: &Tree, options: &Options, size: Size, used: u64) -> Result<Bytes> {
    let used = Bytes::new(used);
    match size {
        Size::Auto => Ok(used.round_up(PADDING) + options.free.unwrap_or(Bytes::ZERO).round_up(PADDING)),
        Size::Fixed(size) if used <= size => Ok(size),
        Size::Fixed(size) => Err(too_small(tree, size, used)),
    }
}

/// The error for contents that do not fit: by how much, and what is large.
fn too_small(tree: &Tree, size: Bytes, used: Bytes) -> Error {
    let needed = used.round_up(PADDING);
    let missing = used.saturating_sub(size).human();
    let what = format!("the contents do not fit the SquashFS: {missing} too much");
    Error::new(Kind::Capacity, what)
        .needs(needed)
        .expected(format!("a size of at least {}", needed.to_write()))
        .found(size.human())
        .or_hint(tree.largest_hint())
}

/// What stands before the data.
#[derive(Debug)]
struct Head {
    settings: Settings,
    chunk: u64,
    mkfs_time: u32,
    /// The options of the compressor, as a block of metadata; empty where none stand there.
    options: Vec<u8>,
}

impl Head {
    fn new(settings: Settings, chunk: u64, at: &Placement) -> Result<Self> {
        let options = settings.options();
        let mut block = Vec::new();
        if !options.is_empty() {
            metadata_block(&mut Encoder::None, &options, &mut block)?;
        }
        Ok(Self { settings, chunk, mkfs_time: losses::seconds(at.time), options: block })
    }

    /// Where the data begins.
    const fn length(&self) -> u64 {
        u64_of(Superblock::LENGTH) + u64_of(self.options.len())
    }

    /// Places the tables behind the data, and writes the superblock over them.
    fn close(&self, metadata: Metadata, data: &Data) -> Result<(Vec<metadata::Part>, Starts, Superblock)> {
        let Metadata { tables, sets, root, inodes, ids } = metadata;
        let start = self.length().saturating_add(data.length);
        let (parts, starts) = tables.place(start, |start| xattr::table(start, sets))?;
        let superblock = Superblock {
            inodes,
            mkfs_time: self.mkfs_time,
            block_size: narrow(self.chunk, "block_size")?,
            fragments: narrow(data.fragments.len(), "fragments")?,
            compression: self.settings.number(),
            block_log: narrow(self.chunk.ilog2(), "block_log")?,
            flags: self.flags(),
            no_ids: ids,
            root_inode: root.reference(),
            bytes_used: starts.end,
            id_table_start: starts.ids,
            xattr_id_table_start: starts.xattrs.unwrap_or(NO_TABLE),
            inode_table_start: starts.inodes,
            directory_table_start: starts.directories,
            fragment_table_start: starts.fragments,
            lookup_table_start: starts.exports,
            ..Superblock::BLANK
        };
        Ok((parts, starts, superblock))
    }

    fn flags(&self) -> u16 {
        let mut flags = flag::EXPORT;
        if self.settings.compression == Compression::None {
            flags |=
                flag::INODES_RAW | flag::DATA_RAW | flag::FRAGMENTS_RAW | flag::XATTRS_RAW | flag::IDS_RAW;
        } else {
            flags |= flag::DUPLICATES;
        }
        if !self.options.is_empty() {
            flags |= flag::OPTIONS;
        }
        flags
    }
}
