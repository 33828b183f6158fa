//! The bytes of inodes, directories and symbolic links, when they are needed.

use std::sync::Arc;

use super::directory::Names;
use super::format::{
    CompactInode, EXTENT_FORMAT, ExtendedInode, Layout, MapHeader, NO_BLOCK, advise, device, inode,
};
use super::map::Map;
use super::pack::{File, algorithm};
use super::plan::{Data, Placed, Plan, Shape, map_at};
use crate::error::{Error, Result};
use crate::filesystem::mode::{file_type, mode};
use crate::image::{Render, records};
use crate::tree::{Content, NodeId};
use crate::units::{narrow, u64_of, usize_of};
use crate::wire::Wire;

/// Renders inodes with the bytes after them, or the blocks of directories and links. A part is an inode.
#[derive(Debug)]
pub(super) struct Renderer {
    plan: Arc<Plan>,
    blocks: bool,
}

impl Renderer {
    pub(super) fn inodes(plan: &Arc<Plan>) -> Self {
        Self { plan: Arc::clone(plan), blocks: false }
    }

    pub(super) fn blocks(plan: &Arc<Plan>) -> Self {
        Self { plan: Arc::clone(plan), blocks: true }
    }
}

impl Render for Renderer {
    fn render(&self, part: u32, skip: u64, out: &mut [u8]) -> Result<()> {
        let node = self.plan.contents.inodes.node(part)?;
        if self.blocks {
            return content(&self.plan, node, skip, out);
        }
        let shape = self.plan.shape(part, node)?;
        let placed = self.plan.placed(part)?;
        let mut out = Window { at: 0, skip, out };
        out.put(
            |skip, out| {
                let head = head(&self.plan, part, node, &shape, placed)?;
                records(u64_of(head.len()), skip, out, |_| Ok(head.as_slice()))
            },
            shape.head(),
        )?;
        map(&self.plan, &shape, placed, &mut out)?;
        out.put(|skip, out| content(&self.plan, node, shape.in_blocks() + skip, out), shape.tail())
    }

    fn label(&self, part: u32) -> String {
        let contents = &self.plan.contents;
        let path =
            contents.inodes.node(part).map_or_else(|_| part.to_string(), |node| contents.tree.path(node));
        let what = match contents.inodes.node(part).map(|node| contents.tree.node(node).content) {
            _ if !self.blocks => "inode of",
            Ok(Content::Directory) => "directory",
            _ => "symbolic link",
        };
        format!("erofs: {what} {path}")
    }
}

/// Consecutive parts; only a window of them is asked for.
struct Window<'a> {
    /// Where the next part begins.
    at: u64,
    /// Where the window begins.
    skip: u64,
    out: &'a mut [u8],
}

impl Window<'_> {
    /// Adds a part of `length` bytes: `fill` is given where what is asked for of it begins, and the place for it.
    fn put(&mut self, fill: impl FnOnce(u64, &mut [u8]) -> Result<()>, length: u64) -> Result<()> {
        let (start, end) = (self.at, self.at + length);
        self.at = end;
        let (from, to) = (start.max(self.skip), end.min(self.skip + u64_of(self.out.len())));
        if from >= to {
            return Ok(());
        }
        fill(from - start, &mut self.out[usize_of(from - self.skip)..usize_of(to - self.skip)])
    }
}

/// The bytes of a directory or of a symbolic link's target, from `skip` on.
fn content(plan: &Plan, node: NodeId, skip: u64, out: &mut [u8]) -> Result<()> {
    let tree = &plan.contents.tree;
    match tree.node(node).content {
        Content::Directory => Names::new(tree, node).render(plan.contents.options.block, skip, out, |node| {
            let nid = plan.nid(plan.contents.inodes.number(node)?)?;
            Ok((nid, file_type(mode(tree, node))))
        }),
        Content::Symlink { .. } => {
            let from = usize_of(skip);
            let bytes = tree.target(node).get(from..from + out.len());
            let short =
                || Error::bug("the target of a symbolic link is shorter than its place").at(tree.path(node));
            out.copy_from_slice(bytes.ok_or_else(short)?);
            Ok(())
        }
        // What is behind the inodes of files is not rendered.
        _ => Ok(()),
    }
}

/// The inode itself and its attributes.
fn head(plan: &Plan, number: u32, node: NodeId, shape: &Shape<'_>, placed: Placed) -> Result<Vec<u8>> {
    let contents = &plan.contents;
    let tree = &contents.tree;
    let meta = tree.node(node).meta;
    let xattrs = contents.xattrs.behind(meta.xattrs)?;
    let i_u = match tree.node(node).content {
        Content::CharacterDevice { device: numbers } | Content::BlockDevice { device: numbers } => {
            device(numbers)
        }
        Content::Fifo | Content::Socket => 0,
        _ => place(plan, shape, placed)?,
    };
    // One more than the words of four bytes behind the header of twelve.
    let count = if xattrs.is_empty() { 0 } else { (xattrs.len() - 12) / 4 + 1 };
    let i_xattr_icount = narrow(count, "i_xattr_icount")?;
    let i_format = shape.layout().number() << inode::LAYOUT_SHIFT;
    let (i_mode, links) = (mode(tree, node), contents.links(number, node)?);
    // Numbers from 1: nothing reads them, and `stat` shows another made from the place.
    let i_ino = number.wrapping_add(1);
    let mut bytes = if shape.compact {
        let inode = CompactInode {
            i_format,
            i_xattr_icount,
            i_mode,
            i_nlink: narrow(links, "i_nlink")?,
            i_size: narrow(shape.size(), "i_size")?,
            i_mtime: 0,
            i_u,
            i_ino,
            i_uid: narrow(meta.uid, "i_uid")?,
            i_gid: narrow(meta.gid, "i_gid")?,
        };
        inode.bytes().to_vec()
    } else {
        let inode = ExtendedInode {
            i_format: i_format | inode::EXTENDED,
            i_xattr_icount,
            i_mode,
            i_nb: 0,
            i_size: shape.size(),
            i_u,
            i_ino,
            i_uid: meta.uid,
            i_gid: meta.gid,
            i_mtime: meta.mtime.seconds,
            i_mtime_nsec: meta.mtime.nanoseconds,
            i_nlink: links,
        };
        inode.bytes().to_vec()
    };
    bytes.extend(xattrs);
    Ok(bytes)
}

/// What an inode says of the place of its data.
fn place(plan: &Plan, shape: &Shape<'_>, placed: Placed) -> Result<u32> {
    match (&shape.data, shape.layout()) {
        (_, Layout::Compact | Layout::Full) => narrow(plan.blocks(shape)?, "the blocks of a compressed file"),
        (Data::Chunked { chunks, .. }, _) => Ok(chunks.bits.into()),
        _ => narrow(placed.start, "the first block of a file"),
    }
}

/// The map of a compressed file or of one with holes.
fn map(plan: &Plan, shape: &Shape<'_>, placed: Placed, out: &mut Window<'_>) -> Result<()> {
    match &shape.data {
        Data::Compressed { file } => {
            let (at, loose) = (map_at(shape.head()), plan.contents.options.loose);
            let bits = plan.packed.blocks_of_chunk().trailing_zeros();
            let header = MapHeader {
                h_fragmentoff: 0,
                h_advise: if loose {
                    advise::EXTENTS
                } else {
                    // The kernel wants both of the bits for large pieces or none.
                    advise::COMPACTED_2B | advise::BIG_CLUSTER_1 | advise::BIG_CLUSTER_2
                },
                h_algorithmtype: if loose { 0 } else { algorithm(plan.contents.options.codec) },
                h_clusterbits: if loose { narrow(bits, "h_clusterbits")? } else { 0 },
            };
            let mut bytes = vec![0; usize_of(at - shape.head())];
            let begin = bytes.len() - MapHeader::LENGTH;
            header.write_to(&mut bytes[begin..]);
            let length = u64_of(bytes.len());
            out.put(|skip, out| records(length, skip, out, |_| Ok(bytes.as_slice())), length)?;
            if loose {
                return extents(plan, file, plan.address(shape, placed).get(), out);
            }
            let (packs, total) =
                (plan.packs(file, shape.head()), file.size.div_ceil(plan.contents.options.block));
            let map = Map { packed: &plan.packed, file, start: placed.start, packs, total };
            out.put(|skip, out| map.fill(skip, out), packs.length())
        }
        Data::Chunked { chunks, .. } => out.put(
            |skip, out| {
                records(4, skip, out, |number| {
                    let block = chunks.block_of(number).map(|block| block + placed.start);
                    let block = block.map_or(Ok(NO_BLOCK), |block| narrow(block, "the block of a chunk"));
                    Ok(block?.to_le_bytes())
                })
            },
            4 * chunks.count(),
        ),
        _ => Ok(()),
    }
}

/// The extents of a compressed file whose chunks are packed byte by byte (z_erofs_map_blocks_ext): the first byte of all,
/// and of each chunk its length, and what reads it, counted from 1; 0 where it is stored as it is.
fn extents(plan: &Plan, file: &File, at: u64, out: &mut Window<'_>) -> Result<()> {
    out.put(|skip, out| records(8, skip, out, |_| Ok(at.to_le_bytes())), 8)?;
    let format = u32::from(algorithm(plan.contents.options.codec)) + 1;
    let chunk = plan.packed.blocks_of_chunk() * plan.contents.options.block;
    out.put(
        |skip, out| {
            records(4, skip, out, |number| {
                let bytes = plan.packed.chunk(file, number)?.bytes;
                let stored = bytes == chunk.min(file.size - number * chunk);
                let length: u32 = narrow(bytes, "the length of an extent")?;
                Ok((length | if stored { 0 } else { format << EXTENT_FORMAT }).to_le_bytes())
            })
        },
        4 * u64::from(file.count),
    )
}
