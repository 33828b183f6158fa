//! EROFS: a function from a [`Tree`] to an [`Image`](crate::image::Image) that the kernel mounts read-only and loads page
//! by page, whole or compressed.
//!
//! Uncompressed it has no feature that Linux 5.4 does not know, unless a file has holes (5.15). Compressed files are cut
//! into chunks of one length, each compressed by itself and rounded up to blocks (lz4 from 5.13, zstd from 6.10).
//! docs/formats/erofs.md lists every field with its reason.
//!
//! Blocks are given out in one ascending run: the superblock, then inode by inode its place in a block of inodes, and the
//! blocks of its data. What is left of a file's last block stands behind its inode.

mod codec;
mod directory;
mod format;
mod holes;
mod inodes;
mod lz4hc;
mod map;
mod pack;
mod plan;
mod read;
mod render;
mod superblock;
mod xattr;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Facts, Filesystem, Placement, Size};
use crate::error::{Error, Kind, Result};
use crate::image::{Builder, Files, FilesId, RendererId, Slice};
use crate::pour::Packer;
use crate::text::printable;
use crate::tree::{NodeId, Tree};
use crate::units::{Blocks, Bytes, KIB, u64_of, usize_of};
use crate::values::{Guid, ValueError, refuse, value, words};
use codec::Codec;
pub(crate) use format::STRUCTURES;
use format::{LARGEST_CLUSTER, LONGEST_NAME, MOST_BLOCKS};
use inodes::Contents;
use pack::Packed;
use plan::{Data, Placed, Plan, Shape};
pub(crate) use read::open;
use render::Renderer;

/// The options of an EROFS filesystem: keys of a manifest, flags of `mkfs erofs`, and what a caller of the library sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Erofs")]
pub struct Options {
    /// Volume label, at most 15 bytes; default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "LABEL"))]
    pub label: Option<String>,
    /// UUID; default derived from the seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "UUID"))]
    pub uuid: Option<Guid>,
    /// With a size of auto, the space that stays unused behind it; default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    pub free: Option<Bytes>,
    /// How files are compressed: none, lz4 and lz4hc (for Linux 5.13), or zstd (for Linux 6.10); default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(id = "packed_compress", long = "compress", value_name = "NAME"))]
    pub compress: Option<Compress>,
    /// Level of the compression: 1 to 12 for lz4hc (default 9), 1 to 19 for zstd (default 3). The level 6.15 is that of the
    /// format, as by kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(id = "packed_level", long = "level", value_name = "N"))]
    pub level: Option<Level>,
    /// How much of a file is compressed at a time: a power of two from 8KiB to 1MiB; default 64KiB. Larger is smaller, and
    /// reads of a few bytes take longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    pub chunk: Option<Bytes>,
    /// Oldest kernel that reads it: any (default), or 6.15, for which compressed chunks are packed byte by byte and not in
    /// whole blocks. It is smaller by half a block for each chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "VERSION"))]
    pub kernel: Option<Kernel>,
    /// Bytes in a block: 512, 1024, 2048 or 4096; default 4096. Kernels before 6.1 read no other, and compressed files need
    /// it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "BYTES"))]
    pub block_size: Option<u32>,
}

/// A level: of the compression, or of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Of the compression.
    Of(u8),
    /// The format of Linux 6.15, with the usual level of the compression.
    Since615,
}

impl FromStr for Level {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match (text, text.parse()) {
            ("6.15", _) => Ok(Self::Since615),
            (_, Ok(level)) => Ok(Self::Of(level)),
            _ => refuse("a level is a number, or 6.15 for the format of that kernel"),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of(level) => level.fmt(f),
            Self::Since615 => f.write_str("6.15"),
        }
    }
}

value!(Level, number, "ErofsLevel", "a number, or \"6.15\"", {
    "description": "A level of the compression, or 6.15 for the format of that kernel.",
    "anyOf": [{ "type": "integer", "minimum": 0, "maximum": 255 }, { "type": "string", "pattern": "^(6\\.15|[0-9]+)$" }]
});

/// How the files of an EROFS are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compress {
    /// Not at all.
    #[default]
    None,
    /// LZ4, fast.
    Lz4,
    /// LZ4, small: it takes longer to write, and is read the same way.
    Lz4hc,
    /// Zstandard.
    Zstd,
}

/// The oldest kernel that reads an EROFS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kernel {
    /// Any that knows the compression.
    #[default]
    Any,
    /// Linux 6.15, with pieces of compressed files in any byte.
    Since615,
}

words!(Compress, "erofs compresses files with", "none" => None, "lz4" => Lz4, "lz4hc" => Lz4hc, "zstd" => Zstd);

value!(Compress, text, "ErofsCompress", "\"none\", \"lz4\", \"lz4hc\" or \"zstd\"", {
    "description": "How files are compressed.",
    "enum": ["none", "lz4", "lz4hc", "zstd"]
});

words!(Kernel, "the oldest kernel that reads an erofs is", "any" => Any, "6.15" => Since615);

value!(Kernel, text, "ErofsKernel", "\"any\" or \"6.15\"", {
    "description": "The oldest version of Linux that reads it.",
    "enum": ["any", "6.15"]
});

/// What an EROFS filesystem is to be, with every default filled in.
#[derive(Clone, Debug)]
struct Parameters {
    size: Size,
    free: Bytes,
    label: String,
    uuid: Uuid,
    codec: Option<Codec>,
    /// Bytes that are compressed at a time.
    chunk: u64,
    /// Bytes in a block.
    block: u64,
    /// Whether compressed chunks are packed byte by byte.
    loose: bool,
}

/// Bytes of a label: the field has 16, and kernels before 6.18 want the last to be a NUL.
const LONGEST_LABEL: usize = 15;
/// The usual size of a block, and the only one of compressed files.
const BLOCK: u64 = 4096;
/// The least size of its own: in less, libblkid 2.38 knows no EROFS, and mount needs its type.
const LEAST: Bytes = Bytes::new(2 * KIB);
/// The usual size of a chunk.
const CHUNK: u64 = 64 * KIB;

impl Parameters {
    fn new(options: &Options, at: &Placement) -> Result<Self> {
        let label = options.label.clone().unwrap_or_default();
        if label.len() > LONGEST_LABEL || label.contains('\0') {
            return Err(Error::new(Kind::Manifest, "this cannot be the label of an EROFS filesystem")
                .about("label")
                .expected(format!("at most {LONGEST_LABEL} bytes without NUL"))
                .found(format!("{} bytes: {}", label.len(), printable(label.as_bytes()))));
        }
        let (level, since) = match options.level {
            Some(Level::Of(level)) => (Some(level), false),
            Some(Level::Since615) => (None, true),
            None => (None, false),
        };
        let codec = Codec::new(options.compress.unwrap_or_default(), level)?;
        let block = options.block_size.map_or(BLOCK, u64::from);
        if !block.is_power_of_two() || !(512..=BLOCK).contains(&block) {
            return Err(Error::new(Kind::Manifest, "erofs cannot have blocks of this size")
                .about("block_size")
                .expected("512, 1024, 2048 or 4096")
                .found(block));
        }
        // sb_set_blocksize of Linux refuses blocks below the logical sector, so the mount fails.
        if block < at.sector_size {
            let what = "the blocks of an erofs cannot be smaller than the sectors of its disk";
            return Err(Error::new(Kind::Manifest, what)
                .about("block_size")
                .expected(format!("at least {} bytes, as the disk's sectors have", at.sector_size))
                .found(format!("{block} bytes")));
        }
        if codec.is_some() && block != BLOCK {
            return Err(Error::new(Kind::Manifest, "compressed files need blocks of 4096 bytes")
                .about("block_size")
                .expected("4096, or no compression")
                .found(block));
        }
        let chunk = match (options.chunk.map(Bytes::get), codec) {
            (None, _) => CHUNK,
            (Some(chunk), Some(_))
                if chunk.is_power_of_two() && (2 * BLOCK..=LARGEST_CLUSTER).contains(&chunk) =>
            {
                chunk
            }
            (Some(chunk), codec) => {
                let expected =
                    if codec.is_some() { "a power of two from 8KiB to 1MiB" } else { "a compression" };
                return Err(Error::new(Kind::Manifest, "erofs cannot have chunks of this size")
                    .about("chunk")
                    .expected(expected)
                    .found(Bytes::new(chunk)));
            }
        };
        if since && options.kernel == Some(Kernel::Any) {
            let what = "the format is that of Linux 6.15 and of any kernel at once";
            return Err(Error::new(Kind::Manifest, what)
                .about("level")
                .expected("one of `level` and `kernel`"));
        }
        let loose = since || options.kernel == Some(Kernel::Since615);
        if loose && codec.is_none() {
            return Err(Error::new(Kind::Manifest, "only compressed files are packed byte by byte")
                .about(if since { "level" } else { "kernel" })
                .expected("a compression, or a format that any kernel reads"));
        }
        let free = options.free.unwrap_or_default();
        let uuid = at.uuid(options.uuid)?;
        Ok(Self { size: at.size, free, label, uuid, codec, chunk, block, loose })
    }

    /// Byte offset of a block.
    const fn offset(&self, block: u64) -> Bytes {
        Blocks::new(block).bytes(self.block)
    }
}

/// Builds the filesystem. File data that is compressed is packed with `packer`; so are equal files found.
///
/// # Errors
/// [`Kind::Capacity`] where the contents do not fit the size (by how much), or extended attributes do not fit EROFS, with
/// their path; [`Kind::Manifest`] for an impossible option; what keeps file data from being read.
pub fn build(tree: &Arc<Tree>, options: &Options, at: &Placement, packer: &Packer) -> Result<Filesystem> {
    let options = &Parameters::new(options, at)?;
    codec::check(options)?;
    tree.check_names(LONGEST_NAME)?;
    let contents = Contents::new(tree, options)?;
    let packed = packer.once(|packer| Packed::new(&contents, packer))?;
    let plan = Arc::new(Plan::new(contents, packed)?);
    let used = options.offset(plan.end);
    let length = match options.size {
        Size::Auto => (used + options.free.round_up(options.block)).max(LEAST),
        Size::Fixed(size) => size,
    };
    if let Some(missing) = used.checked_sub(length).filter(|missing| *missing > Bytes::ZERO) {
        return Err(too_small(tree, length, used, missing));
    }
    if plan.end > MOST_BLOCKS {
        return Err(Error::new(Kind::Capacity, "the contents are too large for erofs")
            .expected(format!("at most {}", options.offset(MOST_BLOCKS).human()))
            .found(used.human()));
    }
    let mut image = Builder::new(length);
    let front = packer.once(|_| Front::new(&plan))?;
    superblock::put(&mut image, &plan, options, &front.0)?;
    put_inodes(&mut image, &plan)?;
    let blocks = length.get() / options.block;
    let facts = Facts {
        kind: "erofs",
        label: options.label.clone(),
        uuid: options.uuid.to_string(),
        block_size: options.block,
        blocks,
        free_blocks: blocks - plan.end,
        journal: 0,
        inodes: Some(u64_of(plan.contents.inodes.len())),
        free_inodes: Some(0),
    };
    Ok(Filesystem { image: image.finish()?, facts, warnings: tree.owner_warnings(), others: Vec::new() })
}

/// The error for contents that do not fit: by how much, and what is large.
fn too_small(tree: &Tree, length: Bytes, used: Bytes, missing: Bytes) -> Error {
    let what = format!("the contents do not fit the erofs filesystem: {} too much", missing.human());
    Error::new(Kind::Capacity, what)
        .needs(used)
        .expected(format!("a size of at least {}", used.to_write()))
        .found(length.human())
        .or_hint(tree.largest_hint())
}

/// The blocks of the superblock, with the inodes that stand in them. The checksum of the superblock is over them, so they are made
/// when the layout is.
struct Front(Vec<u8>);

impl Front {
    fn new(plan: &Arc<Plan>) -> Result<Self> {
        let length = plan.front();
        let mut image = Builder::new(length);
        let pouring = Pouring::new(&mut image, plan);
        for (number, node) in plan.contents.inodes.all() {
            let placed = plan.placed(number)?;
            if plan.is_in_front(placed) {
                pouring.inode(&mut image, (number, node), placed, &plan.shape(number, node)?)?;
            }
        }
        Ok(Self(image.finish()?.whole().bytes(0, usize_of(length.get()))?))
    }
}

/// What puts inodes and what they hold into an image.
struct Pouring<'a> {
    plan: &'a Arc<Plan>,
    inodes: RendererId,
    blocks: RendererId,
    files: FilesId,
}

impl<'a> Pouring<'a> {
    fn new(image: &mut Builder, plan: &'a Arc<Plan>) -> Self {
        let table: Arc<dyn Files> = Arc::<Tree>::clone(&plan.contents.tree);
        Self {
            plan,
            inodes: image.renderer(Arc::new(Renderer::inodes(plan))),
            blocks: image.renderer(Arc::new(Renderer::blocks(plan))),
            files: image.files(table),
        }
    }

    /// Puts an inode with what stands behind it.
    fn inode(
        &self,
        image: &mut Builder,
        (number, node): (u32, NodeId),
        placed: Placed,
        shape: &Shape<'_>,
    ) -> Result<()> {
        image.rendered(Bytes::new(placed.at), Bytes::new(shape.rendered()), self.inodes, number);
        let tail_at = Bytes::new(placed.at + shape.behind());
        let (tail, front) = (Bytes::new(shape.tail()), Bytes::new(shape.in_blocks()));
        match shape.data {
            Data::Host { .. } => {
                let data = self.plan.contents.tree.data(node, self.files)?;
                data.put(image, tail_at, tail, front.get())?;
            }
            Data::Stored { file } => {
                image.put(tail_at, &self.plan.packed.slice(file)?.sub(front, front + tail));
            }
            _ => {}
        }
        Ok(())
    }

    /// Puts what an inode holds in blocks of its own.
    fn blocks(
        &self,
        image: &mut Builder,
        (number, node): (u32, NodeId),
        placed: Placed,
        shape: &Shape<'_>,
    ) -> Result<()> {
        let (plan, length) = (self.plan, Bytes::new(shape.in_blocks()));
        let start = plan.address(shape, placed);
        match shape.data {
            Data::None => {}
            _ if placed.shares => {}
            Data::Rendered { .. } => image.rendered(start, length, self.blocks, number),
            Data::Host { .. } => plan.contents.tree.data(node, self.files)?.put(image, start, length, 0)?,
            Data::Stored { file } => image.put(start, &plan.packed.slice(file)?.sub(Bytes::ZERO, length)),
            Data::Compressed { file } => image.put(start, &plan.packed.slice(file)?),
            Data::Chunked { ref chunks, .. } => {
                let data = plan.contents.tree.data(node, self.files)?;
                for run in chunks.runs() {
                    let at = start + plan.contents.options.offset(run.block);
                    data.put(image, at, Bytes::new(run.length), run.skip)?;
                }
            }
        }
        Ok(())
    }
}

/// Puts inodes and what they hold, in the order in which blocks were given out.
fn put_inodes(image: &mut Builder, plan: &Arc<Plan>) -> Result<()> {
    let pouring = Pouring::new(image, plan);
    image.reserve(plan.contents.tree.len());
    for inode in plan.contents.inodes.all() {
        let placed = plan.placed(inode.0)?;
        let shape = plan.shape(inode.0, inode.1)?;
        if !plan.is_in_front(placed) {
            pouring.inode(image, inode, placed, &shape)?;
        }
        pouring.blocks(image, inode, placed, &shape)?;
    }
    if !plan.contents.xattrs.shared.is_empty() {
        let shared = Slice::ready("erofs: shared extended attributes", plan.contents.xattrs.shared.clone());
        image.put(plan.contents.options.offset(plan.shared), &shared);
    }
    Ok(())
}
