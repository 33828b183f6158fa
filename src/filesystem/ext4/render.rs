//! The bytes of a planned filesystem, part by part, when they are needed.

use std::sync::Arc;

use super::extent::FileBlocks;
use super::format::{
    BLOCK, BLOCK_LENGTH, BLOCKS_PER_GROUP, FLAG_EXTENTS, FLAG_INDEX, Fields, INODE, InodeRecord, JOURNAL,
    LOST_AND_FOUND, MODE_DIRECTORY, MODE_FILE, MOST_LINKS, POINTERS_PER_BLOCK, RESIZE, device,
};
use super::inodes::{mode, source};
use super::plan::{Plan, SLOW_SYMLINK, clamp};
use super::superblock::{journal_length, resize_backups, resize_indirect};
use crate::error::Result;
use crate::image::Render;
use crate::tree::{Content, NodeId, Time};
use crate::units::{index, low16, low32, u64_of, usize_of};

/// Which structure of a plan a renderer makes; the part number says which of them.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// Part: block group.
    BlockBitmap,
    /// Part: block group.
    InodeBitmap,
    /// Part: block group.
    InodeTable,
    /// Part: inode number; 0 is the lost+found that is no node.
    Directory,
    /// Part: inode number.
    Symlink,
    /// Part: inode number; the journal's is [`JOURNAL`].
    ExtentNodes,
    /// Part: number among all copies of all contents.
    Xattrs,
    /// Part 0: the double-indirect block.
    ResizeIndirect,
    /// Part: which reserved descriptor block.
    ResizeBackups,
}

/// Renders one kind of structure.
#[derive(Debug)]
pub(super) struct Renderer {
    pub(super) plan: Arc<Plan>,
    pub(super) what: What,
}

impl Render for Renderer {
    fn render(&self, part: u32, skip: u64, out: &mut [u8]) -> Result<()> {
        let plan = &self.plan;
        match self.what {
            What::InodeTable => inode_table(plan, part, skip, out),
            What::Symlink => {
                let target = plan
                    .contents
                    .inodes
                    .node(part)
                    .map_or(&[][..], |node| plan.contents.tree.target(source(&plan.contents.tree, node)));
                let from = usize_of(skip);
                if let Some(bytes) = target.get(from..from + out.len()) {
                    out.copy_from_slice(bytes);
                }
            }
            _ => {
                // What is made of whole blocks: each block that `out` touches is made, and cut to what was asked.
                let mut done = 0;
                while done < out.len() {
                    let at = skip + u64_of(done);
                    let block = self.block(part, at / BLOCK);
                    let from = usize_of(at % BLOCK);
                    let length = (BLOCK_LENGTH - from).min(out.len() - done);
                    out[done..done + length].copy_from_slice(&block[from..from + length]);
                    done += length;
                }
            }
        }
        Ok(())
    }

    fn label(&self, part: u32) -> String {
        let path = || {
            let contents = &self.plan.contents;
            match contents.inodes.node(part) {
                Some(node) => contents.tree.path(node),
                None if part == JOURNAL => "journal".to_owned(),
                None => "/lost+found".to_owned(),
            }
        };
        match self.what {
            What::BlockBitmap => format!("ext4: block bitmap of group {part}"),
            What::InodeBitmap => format!("ext4: inode bitmap of group {part}"),
            What::InodeTable => format!("ext4: inode table of group {part}"),
            What::Directory => format!("ext4: directory {}", path()),
            What::Symlink => format!("ext4: symbolic link {}", path()),
            What::ExtentNodes => format!("ext4: extent tree of {}", path()),
            What::Xattrs => format!("ext4: extended attributes {part}"),
            What::ResizeIndirect => "ext4: resize inode".to_owned(),
            What::ResizeBackups => format!("ext4: reserved descriptors {part}"),
        }
    }
}

impl Renderer {
    /// Block `number` of a part.
    fn block(&self, part: u32, number: u64) -> Vec<u8> {
        let plan = &self.plan;
        let mut bytes = [0; BLOCK_LENGTH];
        match self.what {
            What::BlockBitmap => {
                let _ = block_bitmap(plan, u64::from(part), &mut bytes);
            }
            What::InodeBitmap => inode_bitmap(plan, u64::from(part), &mut bytes),
            What::Directory => directory_block(plan, part, number, &mut bytes),
            What::ExtentNodes => {
                let seed = plan.contents.inodes.seed(part);
                let blocks = if part == JOURNAL {
                    Some(&plan.allocation.journal)
                } else {
                    plan.allocation.many_of(part)
                };
                if let Some(blocks) = blocks {
                    bytes = blocks.node_bytes(number, seed);
                }
            }
            What::Xattrs => return xattr_block(plan, part),
            What::ResizeIndirect => return resize_indirect(plan),
            What::ResizeBackups => return resize_backups(plan, u64::from(part)),
            What::InodeTable | What::Symlink => {}
        }
        bytes.to_vec()
    }
}

/// Block `number` of a directory.
fn directory_block(plan: &Plan, inode: u32, number: u64, out: &mut [u8; BLOCK_LENGTH]) {
    let contents = &plan.contents;
    match contents.inodes.node(inode) {
        Some(node) => contents.directories().block(node, contents.indexes.get(&inode), number, out),
        None => super::directory::lost_and_found(contents.inodes.seed(LOST_AND_FOUND), number, out),
    }
}

/// Copy number `part` of the blocks of extended attributes.
fn xattr_block(plan: &Plan, part: u32) -> Vec<u8> {
    let mut left = index(part);
    for (content, copies) in plan.allocation.xattrs.iter().enumerate() {
        if let Some(address) = copies.get(left) {
            return plan.contents.xattrs.block_bytes(
                content,
                low32(u64_of(left)),
                *address,
                plan.contents.seed,
            );
        }
        left -= copies.len();
    }
    vec![0; BLOCK_LENGTH]
}

/// Sets bits `from..to` of a bitmap.
fn set_bits(bitmap: &mut [u8], from: usize, to: usize) {
    let (first, last) = (from.div_ceil(8), to / 8);
    if first <= last {
        bitmap[first..last].fill(0xff);
        for bit in (from..first * 8).chain(last * 8..to) {
            bitmap[bit / 8] |= 1 << (bit % 8);
        }
    } else {
        for bit in from..to {
            bitmap[bit / 8] |= 1 << (bit % 8);
        }
    }
}

/// Marks the used blocks of a group, and those past the volume's end; returns how many are free.
pub(super) fn block_bitmap(plan: &Plan, group: u64, bitmap: &mut [u8; BLOCK_LENGTH]) -> u64 {
    let start = group * BLOCKS_PER_GROUP;
    let end = (start + BLOCKS_PER_GROUP).min(plan.geometry.blocks);
    bitmap.fill(0);
    let taken = &plan.geometry.taken;
    let first = taken.partition_point(|run| run.end() <= start);
    let given = plan.allocation.end.clamp(start, end);
    set_bits(bitmap, 0, usize_of(given - start));
    let mut free = end - given;
    for run in taken[first..].iter().take_while(|run| run.start < end) {
        let (from, to) = (run.start.max(given), run.end().min(end));
        if from < to {
            set_bits(bitmap, usize_of(from - start), usize_of(to - start));
            free -= to - from;
        }
    }
    set_bits(bitmap, usize_of(end - start), usize_of(BLOCKS_PER_GROUP));
    free
}

/// Marks the used inodes of a group, and those that the group does not have.
pub(super) fn inode_bitmap(plan: &Plan, group: u64, bitmap: &mut [u8; BLOCK_LENGTH]) {
    bitmap.fill(0);
    set_bits(bitmap, 0, index(plan.used_inodes(group)));
    set_bits(bitmap, index(plan.geometry.inodes_per_group), BLOCK_LENGTH * 8);
}

/// Bytes of the inode table of a group from `skip` on.
fn inode_table(plan: &Plan, group: u32, skip: u64, out: &mut [u8]) {
    let first = u64::from(group) * u64::from(plan.geometry.inodes_per_group) + 1;
    let size = u64_of(INODE);
    let mut done = 0;
    while done < out.len() {
        let at = skip + u64_of(done);
        let bytes = inode(plan, low32(first + at / size));
        let from = usize_of(at % size);
        let length = (INODE - from).min(out.len() - done);
        out[done..done + length].copy_from_slice(&bytes[from..from + length]);
        done += length;
    }
}

/// The 256 bytes of an inode; those that are not in use are zero.
fn inode(plan: &Plan, number: u32) -> [u8; INODE] {
    let contents = &plan.contents;
    let record = match number {
        RESIZE if plan.geometry.resize_inode => resize_inode(plan),
        JOURNAL if plan.allocation.journal.used() > 0 => {
            let blocks = &plan.allocation.journal;
            own_inode(plan, MODE_FILE | 0o600, journal_length(plan), blocks, 1)
        }
        LOST_AND_FOUND if contents.inodes.lost_and_found_is_ours() => {
            let length = super::directory::LOST_AND_FOUND_BLOCKS;
            let blocks = plan.allocation.blocks(number, length);
            own_inode(plan, MODE_DIRECTORY | 0o700, length * BLOCK, &blocks, 2)
        }
        _ => match contents.inodes.node(number) {
            Some(node) => node_inode(plan, number, node),
            None => return [0; INODE],
        },
    };
    record.bytes(number, contents.seed)
}

/// An inode of the filesystem's own.
fn own_inode(plan: &Plan, mode: u16, size: u64, blocks: &FileBlocks, links: u16) -> InodeRecord<'static> {
    InodeRecord {
        mode,
        uid: 0,
        gid: 0,
        size,
        links,
        blocks: blocks.used(),
        flags: FLAG_EXTENTS,
        mtime: plan.contents.time,
        ctime: plan.contents.time,
        block: blocks.root(),
        xattr_block: 0,
        xattrs: &[],
    }
}

/// The inode that owns the reserved descriptor blocks, in the old form with block pointers. Its length covers what
/// pointers up to its double-indirect block could address, and its count of blocks must be exact: growth subtracts
/// from it, and the switch to meta_bg demands that just one block is left (linux/fs/ext4/resize.c).
fn resize_inode(plan: &Plan) -> InodeRecord<'static> {
    let backups = u64_of(plan.geometry.backups().count());
    let mut block = [0; 60];
    // i_block[13], the double-indirect pointer
    Fields(&mut block).u32(13 * 4, low32(plan.allocation.resize));
    InodeRecord {
        size: (POINTERS_PER_BLOCK * POINTERS_PER_BLOCK + POINTERS_PER_BLOCK + 12) * BLOCK,
        blocks: 1 + plan.geometry.reserved * (1 + backups),
        flags: 0,
        block,
        ..own_inode(plan, MODE_FILE | 0o600, 0, &FileBlocks::default(), 1)
    }
}

/// The inode of a node of the tree.
fn node_inode(plan: &Plan, number: u32, first: NodeId) -> InodeRecord<'_> {
    let contents = &plan.contents;
    let tree = &contents.tree;
    let node = source(tree, first);
    let meta = tree.node(node).meta;
    let content = contents.xattrs.block(meta.xattrs);
    let xattr_block = plan.allocation.xattr_block(number, content);
    let blocks = plan.allocation.blocks(number, contents.dense(number, first).unwrap_or(0));
    let links = contents.inodes.links(number);
    let mut record = InodeRecord {
        mode: mode(tree, node),
        uid: meta.uid,
        gid: meta.gid,
        size: tree.size(node),
        links: low16(u64::from(links)),
        blocks: blocks.used() + u64::from(xattr_block != 0),
        flags: FLAG_EXTENTS,
        mtime: clamp(meta.mtime),
        ctime: Time { nanoseconds: contents.time.nanoseconds, ..contents.time },
        block: [0; 60],
        xattr_block,
        xattrs: contents.xattrs.inside(meta.xattrs),
    };
    match tree.node(node).content {
        Content::Directory => {
            record.size = contents.dense(number, first).unwrap_or(0) * BLOCK;
            record.links = directory_links(plan, node);
            if contents.indexes.contains_key(&number) {
                record.flags |= FLAG_INDEX;
            }
            record.block = blocks.root();
        }
        Content::Symlink { length, .. } => {
            record.size = u64::from(length);
            if usize::from(length) < SLOW_SYMLINK {
                record.flags = 0;
                let target = tree.target(node);
                record.block[..target.len()].copy_from_slice(target);
            } else {
                record.block = blocks.root();
            }
        }
        Content::CharacterDevice { device: numbers } | Content::BlockDevice { device: numbers } => {
            record.flags = 0;
            record.block = device(numbers);
        }
        Content::Fifo | Content::Socket => record.flags = 0,
        Content::File { .. } | Content::Text { .. } | Content::Slice { .. } | Content::Link { .. } => {
            record.block = blocks.root();
        }
    }
    record
}

/// Links of a directory: its own two and one per subdirectory; past the limit 1, which means "not counted"
/// (dir_nlink).
fn directory_links(plan: &Plan, node: NodeId) -> u16 {
    let contents = &plan.contents;
    let own = u32::from(node == NodeId::ROOT && contents.inodes.lost_and_found_is_ours());
    let subdirectories =
        contents.tree.children(node).filter(|child| contents.tree.is_directory(*child)).count();
    match u32::try_from(subdirectories).unwrap_or(u32::MAX).saturating_add(2 + own) {
        links if links > MOST_LINKS => 1,
        links => low16(u64::from(links)),
    }
}
