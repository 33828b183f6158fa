//! Renders the bytes of a planned filesystem, part by part, when they are needed.

use std::sync::Arc;

use super::extent::FileBlocks;
use super::format::{
    FLAG_EXTENTS, FLAG_INDEX, InodeRecord, JOURNAL, LOST_AND_FOUND, MOST_LINKS, RESIZE, device,
};
use super::inodes::source;
use super::plan::{Plan, SLOW_SYMLINK, Shape};
use super::superblock::{journal_length, resize_backups, resize_indirect};
use super::times::clamp;
use crate::error::{Error, Result};
use crate::filesystem::mode::{MODE_DIRECTORY, MODE_FILE, mode};
use crate::image::{Render, records};
use crate::tree::{Content, NodeId, Time};
use crate::units::{index, narrow, u64_of, usize_of};

/// The structure of a plan that a renderer makes. The part number selects one of them.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// Part: block group.
    BlockBitmap,
    /// Part: block group.
    InodeBitmap,
    /// Part: block group.
    InodeTable,
    /// Part: inode number; 0 is the lost+found that is not a node.
    Directory,
    /// Part: inode number.
    Symlink,
    /// Part: inode number; the journal's is [`JOURNAL`].
    ExtentNodes,
    /// Part: number among all copies of all contents.
    Xattrs,
    /// Part 0: the double-indirect block.
    ResizeIndirect,
    /// Part: number of the reserved descriptor block.
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
        match self.what {
            What::InodeTable => inode_table(&self.plan, part, skip, out),
            What::Symlink => symlink(&self.plan, part, skip, out),
            _ => records(self.plan.contents.form.block, skip, out, |number| self.block(part, number)),
        }
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
    fn block(&self, part: u32, number: u64) -> Result<Vec<u8>> {
        let plan = &self.plan;
        let mut bytes = vec![0; plan.contents.form.block_length()];
        match self.what {
            What::BlockBitmap => {
                let _ = block_bitmap(plan, u64::from(part), &mut bytes);
            }
            What::InodeBitmap => inode_bitmap(plan, u64::from(part), &mut bytes)?,
            What::Directory => bytes = directory_block(plan, part, number)?,
            What::ExtentNodes => {
                let blocks = match part {
                    JOURNAL => &plan.allocation.journal,
                    _ => plan.allocation.many_of(part)?,
                };
                bytes = blocks.node_bytes(number, plan.contents.inodes.seed(part))?;
            }
            What::Xattrs => return xattr_block(plan, part),
            What::ResizeIndirect => return resize_indirect(plan),
            What::ResizeBackups => return resize_backups(plan, u64::from(part)),
            What::InodeTable | What::Symlink => {
                return Err(Error::bug(format!("{} is not made of blocks", self.label(part))));
            }
        }
        Ok(bytes)
    }
}

/// The bytes of a symbolic link's target from `skip` on.
fn symlink(plan: &Plan, inode: u32, skip: u64, out: &mut [u8]) -> Result<()> {
    let tree = &plan.contents.tree;
    let node = plan.contents.inodes.node(inode);
    let node = node.ok_or_else(|| Error::bug(format!("inode {inode} of a symbolic link has no node")))?;
    let from = usize_of(skip);
    let bytes = tree.target(source(tree, node)).get(from..from + out.len()).ok_or_else(|| {
        Error::bug("the target of a symbolic link is shorter than its place").at(tree.path(node))
    })?;
    out.copy_from_slice(bytes);
    Ok(())
}

/// Block `number` of a directory.
fn directory_block(plan: &Plan, inode: u32, number: u64) -> Result<Vec<u8>> {
    let contents = &plan.contents;
    match contents.inodes.node(inode) {
        Some(node) => contents.directories().block(node, contents.indexes.get(&inode), number),
        None if inode == LOST_AND_FOUND => super::directory::lost_and_found(
            &contents.form,
            contents.inodes.seed(LOST_AND_FOUND),
            usize_of(number),
        ),
        None => Err(Error::bug(format!("inode {inode} of a directory has no node"))),
    }
}

/// Copy number `part` of the blocks of extended attributes.
fn xattr_block(plan: &Plan, part: u32) -> Result<Vec<u8>> {
    let mut left = index(part);
    for (content, copies) in plan.allocation.xattrs.iter().enumerate() {
        if let Some(address) = copies.get(left) {
            let copy = narrow(left, "a copy of a block of attributes")?;
            return plan.contents.xattrs.block_bytes(
                &plan.contents.form,
                content,
                copy,
                *address,
                plan.contents.seed,
            );
        }
        left -= copies.len();
    }
    Err(Error::bug(format!("there is no block {part} of extended attributes")))
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

/// Marks the used blocks of a group, and bits past the volume's end. Returns how many blocks are free.
pub(super) fn block_bitmap(plan: &Plan, group: u64, bitmap: &mut [u8]) -> u64 {
    let form = &plan.contents.form;
    let start = form.group_start(group);
    let end = form.group_start(group + 1).min(plan.geometry.blocks);
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
    set_bits(bitmap, usize_of(end - start), form.block_length() * 8);
    free
}

/// Marks the used inodes of a group, and bits past the last inode of the group.
pub(super) fn inode_bitmap(plan: &Plan, group: u64, bitmap: &mut [u8]) -> Result<()> {
    bitmap.fill(0);
    set_bits(bitmap, 0, index(plan.used_inodes(group)?));
    set_bits(bitmap, index(plan.geometry.inodes_per_group), plan.contents.form.block_length() * 8);
    Ok(())
}

/// Bytes of the inode table of a group from `skip` on.
fn inode_table(plan: &Plan, group: u32, skip: u64, out: &mut [u8]) -> Result<()> {
    let first = u64::from(group) * u64::from(plan.geometry.inodes_per_group) + 1;
    records(u64_of(plan.contents.form.inode), skip, out, |number| {
        inode(plan, narrow(first + number, "the number of an inode")?)
    })
}

/// The bytes of an inode; unused reserved inodes are zero.
fn inode(plan: &Plan, number: u32) -> Result<Vec<u8>> {
    let contents = &plan.contents;
    let form = &contents.form;
    let record = match number {
        RESIZE if plan.geometry.resize_inode => resize_inode(plan)?,
        JOURNAL if plan.allocation.journal.used() > 0 => {
            let blocks = &plan.allocation.journal;
            own_inode(plan, MODE_FILE | 0o600, journal_length(plan), blocks, 1)?
        }
        LOST_AND_FOUND if contents.inodes.lost_and_found_is_ours() => {
            let length = form.lost_and_found_blocks();
            let blocks = plan.allocation.blocks(number, Shape::Dense(length))?;
            own_inode(plan, MODE_DIRECTORY | 0o700, length * form.block, &blocks, 2)?
        }
        _ => match contents.inodes.node(number) {
            Some(node) => node_inode(plan, number, node)?,
            None if number < LOST_AND_FOUND => return Ok(vec![0; form.inode]),
            None => return Err(Error::bug(format!("inode {number} is in use and has no node"))),
        },
    };
    record.bytes(number, form, contents.seed)
}

/// The flags of an inode with blocks.
const fn data_flags(plan: &Plan) -> u32 {
    if plan.contents.form.has_extents() { FLAG_EXTENTS } else { 0 }
}

/// An inode of the filesystem itself.
fn own_inode(
    plan: &Plan,
    mode: u16,
    size: u64,
    blocks: &FileBlocks,
    links: u16,
) -> Result<InodeRecord<'static>> {
    Ok(InodeRecord {
        mode,
        uid: 0,
        gid: 0,
        size,
        links,
        blocks: blocks.used(),
        flags: data_flags(plan),
        mtime: plan.contents.time,
        ctime: plan.contents.time,
        block: blocks.root()?,
        xattr_block: 0,
        xattrs: &[],
    })
}

/// The inode that owns the reserved descriptor blocks, in the old form with block pointers. Its length covers
/// everything that pointers up to its double-indirect block can address. Its block count must be exact:
/// growth subtracts from it, and the switch to meta_bg requires that exactly one block is left
/// (linux/fs/ext4/resize.c).
fn resize_inode(plan: &Plan) -> Result<InodeRecord<'static>> {
    let backups = u64_of(plan.geometry.backups().count());
    let each = plan.contents.form.pointers();
    let mut block = [0; 60];
    let pointer: u32 = narrow(plan.allocation.resize, "the resize inode's pointer")?;
    // i_block[13], the double-indirect pointer
    block[13 * 4..14 * 4].copy_from_slice(&pointer.to_le_bytes());
    Ok(InodeRecord {
        size: (each * each + each + 12) * plan.contents.form.block,
        blocks: 1 + plan.geometry.reserved * (1 + backups),
        flags: 0,
        block,
        ..own_inode(plan, MODE_FILE | 0o600, 0, &FileBlocks::new(plan.contents.form), 1)?
    })
}

/// The inode of a node of the tree.
fn node_inode(plan: &Plan, number: u32, first: NodeId) -> Result<InodeRecord<'_>> {
    let contents = &plan.contents;
    let tree = &contents.tree;
    let node = source(tree, first);
    let meta = tree.node(node).meta;
    let content = contents.xattrs.block(meta.xattrs)?;
    let xattr_block = plan.allocation.xattr_block(number, content)?;
    let blocks = plan.allocation.blocks(number, contents.shape(number, first))?;
    let own = if node == NodeId::ROOT { contents.root } else { (mode(tree, node), meta.uid, meta.gid) };
    let mut record = InodeRecord {
        mode: own.0,
        uid: own.1,
        gid: own.2,
        size: tree.size(node),
        links: narrow(contents.inodes.links(number), "i_links_count")?,
        blocks: blocks.used() + u64::from(xattr_block != 0),
        flags: data_flags(plan),
        mtime: clamp(&contents.form, meta.mtime),
        ctime: Time { nanoseconds: contents.time.nanoseconds, ..contents.time },
        block: [0; 60],
        xattr_block,
        xattrs: contents.xattrs.inside(meta.xattrs)?,
    };
    match tree.node(node).content {
        Content::Directory => {
            record.size = contents.directory_blocks(number) * contents.form.block;
            record.links = directory_links(plan, node)?;
            if contents.indexes.contains_key(&number) {
                record.flags |= FLAG_INDEX;
            }
            record.block = blocks.root()?;
        }
        Content::Symlink { length, .. } => {
            record.size = u64::from(length);
            if usize::from(length) < SLOW_SYMLINK {
                record.flags = 0;
                let target = tree.target(node);
                record.block[..target.len()].copy_from_slice(target);
            } else {
                record.block = blocks.root()?;
            }
        }
        Content::CharacterDevice { device: numbers } | Content::BlockDevice { device: numbers } => {
            record.flags = 0;
            record.block = device(numbers);
        }
        Content::Fifo | Content::Socket => record.flags = 0,
        Content::File { .. } | Content::Text { .. } | Content::Slice { .. } => {
            record.block = blocks.root()?;
        }
        Content::Link { .. } => return Err(Error::bug("a link leads to a link").at(tree.path(node))),
    }
    Ok(record)
}

/// Links of a directory: two of its own and one for each subdirectory; past the limit 1, which means "not
/// counted" (dir_nlink).
fn directory_links(plan: &Plan, node: NodeId) -> Result<u16> {
    let contents = &plan.contents;
    let own = u64::from(node == NodeId::ROOT && contents.inodes.lost_and_found_is_ours());
    let subdirectories =
        contents.tree.children(node).filter(|child| contents.tree.is_directory(*child)).count();
    match u64_of(subdirectories) + 2 + own {
        links if links > u64::from(MOST_LINKS) => Ok(1),
        links => narrow(links, "i_links_count"),
    }
}
