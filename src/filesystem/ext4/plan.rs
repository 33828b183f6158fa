//! Decides which blocks hold what, for a volume whose size `size` finds. Everything after that is rendering.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Parameters;
use super::checksum::Checksum;
use super::directory::{Directories, Index};
use super::extent::FileBlocks;
use super::form::Form;
use super::format::features::ro_compat;
use super::format::{LOST_AND_FOUND, MOST_LINKS};
use super::geometry::{Allocator, Geometry, Run};
use super::inodes::{Inodes, source};
use super::times::{Odd, clamp};
use super::xattr::Xattrs;
use crate::error::{Error, Kind, Result, Warning};
use crate::filesystem::mode::MODE_DIRECTORY;
use crate::tree::{Content, NodeId, Range as Data, Time, Tree};
use crate::units::{Bytes, index, narrow, usize_of};
use uuid::Uuid;

/// A symbolic link's target of at least this length has a block of its own; a shorter one is in the inode.
pub(super) const SLOW_SYMLINK: usize = 60;

/// The contents of a filesystem before it has a size.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) form: Form,
    pub(super) tree: Arc<Tree>,
    pub(super) inodes: Inodes,
    pub(super) xattrs: Xattrs,
    /// Directories of more than one block, by inode.
    pub(super) indexes: BTreeMap<u32, Index>,
    pub(super) hash_seed: [u8; 16],
    pub(super) seed: Checksum,
    pub(super) uuid: Uuid,
    /// The time of the writer.
    pub(super) time: Time,
    /// Mode, uid and gid of the root directory.
    pub(super) root: (u16, u32, u32),
}

/// The shape of an inode's data.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape<'a> {
    /// This many blocks, without holes.
    Dense(u64),
    /// Only the blocks that these ranges touch; the rest is holes.
    Sparse(&'a [Data]),
}

impl Shape<'_> {
    /// The parts that have blocks: first block of the file and count.
    fn parts(self, block: u64) -> impl Iterator<Item = (u64, u64)> {
        let (dense, ranges) = match self {
            Self::Dense(length) => (Some((0, length)).filter(|_| length > 0), [].as_slice()),
            Self::Sparse(ranges) => (None, ranges),
        };
        let touched = ranges.iter().map(move |range| {
            let first = range.start / block;
            (first, (range.start + range.length).div_ceil(block) - first)
        });
        let mut parts = dense.into_iter().chain(touched).peekable();
        // Ranges are whole blocks of 4 KiB. Several of them may touch one larger block, which is there once.
        std::iter::from_fn(move || {
            let (first, mut length) = parts.next()?;
            while let Some((next, more)) = parts.next_if(|(next, _)| *next <= first + length) {
                length = length.max(next + more - first);
            }
            Some((first, length))
        })
    }
}

/// Contents with a place for each of their blocks.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) contents: Contents,
    pub(super) geometry: Geometry,
    pub(super) allocation: Allocation,
    /// Blocks only root may use.
    pub(super) reserved_blocks: u64,
}

/// The blocks of everything.
#[derive(Debug, Default)]
pub(super) struct Allocation {
    form: Form,
    /// First block of each inode whose blocks are one run without holes, by inode number; 0 for the others.
    starts: Vec<u64>,
    /// The blocks of all other inodes.
    many: BTreeMap<u32, FileBlocks>,
    pub(super) journal: FileBlocks,
    /// The resize inode's double-indirect block; 0 if there is none.
    pub(super) resize: u64,
    /// Blocks of each copy of each block of extended attributes.
    pub(super) xattrs: Vec<Vec<u64>>,
    /// The number of the copy that an inode uses, if there are several.
    xattr_copies: HashMap<u32, u32>,
    pub(super) used: u64,
    /// Every free block below this one is used, and none from it on.
    pub(super) end: u64,
}

impl Contents {
    pub(super) fn new(tree: &Arc<Tree>, options: &Parameters) -> Result<(Self, Vec<Warning>)> {
        let form = options.form;
        let seed = Checksum::of_filesystem(options.uuid);
        let (inodes, mut warnings) = Inodes::new(tree, seed)?;
        let hash_seed = *options.hash_seed.as_bytes();
        let mut indexes = BTreeMap::new();
        let directories = Directories { form: &form, tree, inodes: &inodes, hash_seed: &hash_seed };
        let mut odd = Odd::of_disk(&form, options)?;
        for (number, node) in inodes.all() {
            let own = source(tree, node);
            if tree.is_directory(own) && !directories.fits_one_block(own) {
                indexes.insert(number, directories.index(own)?);
            }
            check(&form, tree, own)?;
            let time = tree.node(own).meta.mtime;
            odd.add(&form, time, options.times).map_err(|error| error.at(tree.path(own)))?;
        }
        warnings.extend(odd.warnings(&form));
        let xattrs = Xattrs::new(&form, tree, inodes.all().map(|(_, node)| source(tree, node)))?;
        let time = clamp(&form, options.time);
        let root = root(tree, options);
        Ok((
            Self {
                form,
                tree: Arc::clone(tree),
                inodes,
                xattrs,
                indexes,
                hash_seed,
                seed,
                uuid: options.uuid,
                time,
                root,
            },
            warnings,
        ))
    }

    pub(super) fn directories(&self) -> Directories<'_> {
        Directories { form: &self.form, tree: &self.tree, inodes: &self.inodes, hash_seed: &self.hash_seed }
    }

    /// The shape of an inode's data.
    pub(super) fn shape(&self, number: u32, node: NodeId) -> Shape<'_> {
        let node = source(&self.tree, node);
        let dense = match self.tree.node(node).content {
            Content::Directory => self.directory_blocks(number),
            Content::Symlink { length, .. } => u64::from(usize::from(length) >= SLOW_SYMLINK),
            Content::File { .. } | Content::Text { .. } | Content::Slice { .. } => {
                match self.tree.ranges(node) {
                    Some(ranges) => return Shape::Sparse(ranges),
                    None => Bytes::new(self.tree.size(node)).div_ceil(self.form.block),
                }
            }
            _ => 0,
        };
        Shape::Dense(dense)
    }

    /// Blocks of a directory.
    pub(super) fn directory_blocks(&self, number: u32) -> u64 {
        match self.indexes.get(&number) {
            Some(index) => index.blocks(),
            None if number == LOST_AND_FOUND => self.form.lost_and_found_blocks(),
            None => 1,
        }
    }

    /// Blocks of everything except the extent trees, which depend on where the blocks lie.
    pub(super) fn surely_used(&self) -> u64 {
        let own = if self.inodes.lost_and_found_is_ours() { self.form.lost_and_found_blocks() } else { 0 };
        let block = self.form.block;
        let parts = self.inodes.all().flat_map(|(number, node)| self.shape(number, node).parts(block));
        own + parts.map(|(_, length)| length).sum::<u64>() + self.xattrs.copies().sum::<u64>()
    }

    /// Allocates blocks for everything, in this order: growth, journal, directories, links, attributes, file
    /// data. So the blocks that the kernel reads first lie together.
    pub(super) fn allocate(&self, geometry: &Geometry, journal: u64) -> Result<Allocation> {
        let mut allocator = Allocator::new(geometry);
        let mut found = Allocation {
            form: self.form,
            starts: vec![0; usize_of(self.inodes.used()) + 1],
            ..Allocation::default()
        };
        if geometry.resize_inode {
            allocator.take(1, |run| found.resize = run.start);
        }
        found.journal =
            FileBlocks::allocate(&mut allocator, std::iter::once((0, journal)).filter(|part| part.1 > 0));
        if self.inodes.lost_and_found_is_ours() {
            found.give(&mut allocator, LOST_AND_FOUND, Shape::Dense(self.form.lost_and_found_blocks()))?;
        }
        for pass in Pass::ALL {
            if pass == Pass::Files {
                self.allocate_xattrs(&mut allocator, &mut found)?;
            }
            for (number, node) in self.inodes.all().filter(|(_, node)| Pass::of(&self.tree, *node) == pass) {
                found.give(&mut allocator, number, self.shape(number, node))?;
            }
        }
        found.used = allocator.used;
        found.end = allocator.end();
        Ok(found)
    }

    fn allocate_xattrs(&self, allocator: &mut Allocator<'_>, found: &mut Allocation) -> Result<()> {
        for copies in self.xattrs.copies() {
            let mut blocks = Vec::new();
            allocator.take(copies, |run| blocks.extend(run.start..run.end()));
            found.xattrs.push(blocks);
        }
        if found.xattrs.iter().all(|blocks| blocks.len() <= 1) {
            return Ok(());
        }
        let mut ordinals = vec![0_u32; found.xattrs.len()];
        for (number, node) in self.inodes.all() {
            let set = self.tree.node(source(&self.tree, node)).meta.xattrs;
            if let Some(content) = self.xattrs.block(set)? {
                if found.xattrs[content].len() > 1 {
                    found.xattr_copies.insert(number, Xattrs::copy_of(ordinals[content]));
                }
                ordinals[content] += 1;
            }
        }
        Ok(())
    }
}

/// The order in which kinds of inodes get their blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    Directories,
    Symlinks,
    Files,
}

impl Pass {
    pub(super) const ALL: [Self; 3] = [Self::Directories, Self::Symlinks, Self::Files];

    pub(super) fn of(tree: &Tree, node: NodeId) -> Self {
        match tree.node(source(tree, node)).content {
            Content::Directory => Self::Directories,
            Content::Symlink { .. } => Self::Symlinks,
            _ => Self::Files,
        }
    }
}

impl Allocation {
    /// Allocates blocks for an inode.
    fn give(&mut self, allocator: &mut Allocator<'_>, number: u32, shape: Shape<'_>) -> Result<()> {
        match shape {
            Shape::Dense(0) => Ok(()),
            Shape::Dense(length) => self.dense(allocator, number, length),
            Shape::Sparse(_) => {
                self.many.insert(number, FileBlocks::allocate(allocator, shape.parts(self.form.block)));
                Ok(())
            }
        }
    }

    /// Allocates `length` blocks for an inode: in one run, or in several if metadata lies in between.
    fn dense(&mut self, allocator: &mut Allocator<'_>, number: u32, length: u64) -> Result<()> {
        let mut runs: Vec<Run> = Vec::new();
        allocator.take(length, |run| runs.push(run));
        // One run of at most four extents needs no tree. Nearly every file is such a run.
        if let [run] = runs.as_slice()
            && self.form.fits_inode(length)
        {
            *self.starts.get_mut(index(number)).ok_or_else(|| no_blocks(number))? = run.start;
        } else {
            self.many.insert(number, FileBlocks::of_runs(allocator, &runs));
        }
        Ok(())
    }

    /// The blocks of an inode.
    pub(super) fn blocks(&self, number: u32, shape: Shape<'_>) -> Result<FileBlocks> {
        if let Some(blocks) = self.many.get(&number) {
            return Ok(blocks.clone());
        }
        match shape {
            Shape::Dense(0) => Ok(FileBlocks::new(self.form)),
            Shape::Dense(length) => {
                let start = self.starts.get(index(number)).copied().filter(|start| *start != 0);
                Ok(FileBlocks::single(self.form, start.ok_or_else(|| no_blocks(number))?, length))
            }
            Shape::Sparse(_) => Err(no_blocks(number)),
        }
    }

    /// Inodes whose extents need blocks of their own, with those blocks.
    pub(super) fn many(&self) -> impl Iterator<Item = (u32, &FileBlocks)> {
        self.many.iter().map(|(number, blocks)| (*number, blocks))
    }

    /// The blocks of an inode whose extents need blocks of their own.
    pub(super) fn many_of(&self, number: u32) -> Result<&FileBlocks> {
        self.many.get(&number).ok_or_else(|| no_blocks(number))
    }

    /// The block of extended attributes of an inode with the block content `content`; 0 for none.
    pub(super) fn xattr_block(&self, number: u32, content: Option<usize>) -> Result<u64> {
        let Some(content) = content else { return Ok(0) };
        let missing = || Error::bug(format!("inode {number} has no block for its extended attributes"));
        let block = match self.xattrs.get(content).ok_or_else(missing)?.as_slice() {
            // The number of the copy is stored only if there are several.
            [block] => *block,
            blocks => {
                let copy = self.xattr_copies.get(&number).ok_or_else(missing)?;
                *blocks.get(index(*copy)).ok_or_else(missing)?
            }
        };
        Ok(block)
    }
}

/// The error for an inode that must have blocks but has none.
fn no_blocks(number: u32) -> Error {
    Error::bug(format!("inode {number} has no blocks"))
}

/// Refuses what an inode cannot hold.
fn check(form: &Form, tree: &Tree, own: NodeId) -> Result<()> {
    check_form(form, tree, own)?;
    if tree.size(own).div_ceil(form.block) > form.most_file_blocks() {
        return Err(Error::new(Kind::Capacity, "a file is too large for ext4")
            .at(tree.path(own))
            .expected(format!("at most {}", Bytes::new(form.most_file_blocks() * form.block).in_full()))
            .found(Bytes::new(tree.size(own)).in_full()));
    }
    if let Content::CharacterDevice { device } | Content::BlockDevice { device } = tree.node(own).content
        && (device.0 >= 1 << 12 || device.1 >= 1 << 20)
    {
        return Err(Error::new(Kind::Capacity, "a device number is too large for ext4")
            .at(tree.path(own))
            .expected("a major number below 4096 and a minor number below 1048576")
            .found(format!("{} {}", device.0, device.1)));
    }
    Ok(())
}

/// Mode, uid and gid of the root directory.
fn root(tree: &Tree, options: &Parameters) -> (u16, u32, u32) {
    let meta = tree.node(NodeId::ROOT).meta;
    let (uid, gid) = options.root_owner.unwrap_or((meta.uid, meta.gid));
    let bits = options.root_mode.unwrap_or(meta.mode & 0o7777);
    (MODE_DIRECTORY | bits, uid, gid)
}

/// Refuses what only other forms hold: long targets of links need long blocks, and many subdirectories dir_nlink.
fn check_form(form: &Form, tree: &Tree, own: NodeId) -> Result<()> {
    if let Content::Symlink { length, .. } = tree.node(own).content
        && u64::from(length) >= form.block
    {
        return Err(Error::new(
            Kind::Capacity,
            "the target of a symbolic link is longer than a block of the filesystem",
        )
        .at(tree.path(own))
        .expected(format!("less than {} bytes", form.block))
        .found(format!("{length} bytes"))
        .remedy("block_size", "make the blocks 4KiB"));
    }
    if form.is_ro_compat(ro_compat::DIR_NLINK) || !tree.is_directory(own) {
        return Ok(());
    }
    let subdirectories = tree.children(own).filter(|child| tree.is_directory(*child)).count();
    // Two of its own, and that of lost+found.
    let most = index(MOST_LINKS) - 3;
    if subdirectories <= most {
        return Ok(());
    }
    Err(Error::new(
        Kind::Capacity,
        "a directory has too many subdirectories for a filesystem without dir_nlink",
    )
    .at(tree.path(own))
    .expected(format!("at most {most}"))
    .found(subdirectories))
}

impl Plan {
    pub(super) fn free_blocks(&self) -> u64 {
        self.geometry.blocks - self.geometry.form.first() - self.geometry.metadata() - self.allocation.used
    }

    pub(super) fn free_inodes(&self) -> u64 {
        self.geometry.inodes() - self.contents.inodes.used()
    }

    /// Inodes in use in group `group`. The inodes in use are the first ones of all, so the groups after them
    /// have none.
    pub(super) fn used_inodes(&self, group: u64) -> Result<u32> {
        let each = u64::from(self.geometry.inodes_per_group);
        let used = self.contents.inodes.used().saturating_sub(group * each).min(each);
        narrow(used, "used inodes of a group")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filesystem::ext4::render::{Renderer, What};
    use crate::image::Render;
    use crate::tree::{Builder, Meta, Xattr};

    /// A plan with a directory that has an index, a long link, a text, and attributes outside of inodes.
    fn plan() -> Plan {
        let mut builder = Builder::new(Time::default());
        let origin = builder.origin("test");
        let big = Xattr { name: b"user.big".to_vec(), value: vec![7; 500] };
        let meta = Meta { xattrs: builder.xattr_set(&[big]), ..Meta::root(0o644, Time::default()) };
        builder.text(b"/text", b"hello".to_vec(), meta, origin).unwrap();
        let plain = Meta::root(0o644, Time::default());
        builder.symlink(b"/link", &[b'x'; 80], plain, origin).unwrap();
        for number in 0..200 {
            let name = format!("/many/{number:0100}");
            builder.put(name.as_bytes(), plain, Content::Fifo, origin).unwrap();
        }
        let tree = Arc::new(builder.finish(1).unwrap());
        let options = Parameters::new(
            super::super::Revision::Ext4,
            &super::super::Options::default(),
            &crate::filesystem::Placement::alone(Uuid::from_u128(1)),
        )
        .unwrap();
        let (contents, _) = Contents::new(&tree, &options).unwrap();
        Plan::new(contents, &options).unwrap()
    }

    fn inode(plan: &Plan, path: &str) -> u32 {
        plan.contents.inodes.number(plan.contents.tree.find(path.as_bytes()).unwrap()).unwrap()
    }

    /// The error of rendering the first bytes of a part.
    fn bug(plan: Plan, what: What, part: u32) -> String {
        let error = Renderer { plan: Arc::new(plan), what }.render(part, 0, &mut [0; 16]).unwrap_err();
        assert_eq!(error.kind(), Kind::Bug, "{error}");
        error.what().to_owned()
    }

    #[test]
    fn a_plan_without_what_is_looked_up_is_a_bug_and_no_zero() {
        let good = plan();
        let (text, link, many) = (inode(&good, "/text"), inode(&good, "/link"), inode(&good, "/many"));
        let part = |number: u32| number - 1;
        // The table of inodes, up to the poisoned one.
        let table = |plan: Plan, number: u32| {
            let renderer = Renderer { plan: Arc::new(plan), what: What::InodeTable };
            renderer.render(0, u64::from(part(number)) * 256, &mut [0; 256])
        };
        assert!(table(plan(), text).is_ok() && table(plan(), link).is_ok() && table(plan(), many).is_ok());

        let mut poisoned = plan();
        poisoned.allocation.starts[index(text)] = 0;
        assert_eq!(table(poisoned, text).unwrap_err().what(), format!("inode {text} has no blocks"));
        let mut poisoned = plan();
        poisoned.allocation.starts.truncate(index(text));
        assert_eq!(table(poisoned, text).unwrap_err().what(), format!("inode {text} has no blocks"));
        let mut poisoned = plan();
        poisoned.allocation.many.clear();
        poisoned.allocation.starts.clear();
        assert_eq!(table(poisoned, many).unwrap_err().what(), format!("inode {many} has no blocks"));
        for blocks in [vec![], vec![Vec::new()], vec![vec![5, 6]]] {
            let mut poisoned = plan();
            poisoned.allocation.xattrs = blocks;
            let what = table(poisoned, text).unwrap_err().what().to_owned();
            assert_eq!(what, format!("inode {text} has no block for its extended attributes"));
        }
        let beyond = u32::try_from(good.contents.inodes.used()).unwrap() + 1;
        assert_eq!(
            table(plan(), beyond).unwrap_err().what(),
            format!("inode {beyond} is in use and has no node")
        );

        assert_eq!(
            bug(plan(), What::Symlink, beyond),
            format!("inode {beyond} of a symbolic link has no node")
        );
        assert_eq!(
            bug(plan(), What::Symlink, text),
            "the target of a symbolic link is shorter than its place"
        );
        assert_eq!(
            bug(plan(), What::Directory, beyond),
            format!("inode {beyond} of a directory has no node")
        );
        assert_eq!(bug(plan(), What::ExtentNodes, text), format!("inode {text} has no blocks"));
        assert_eq!(bug(plan(), What::Xattrs, 1), "there is no block 1 of extended attributes");
        // A bitmap for more inodes than a group has.
        let renderer = Renderer { plan: Arc::new(plan()), what: What::Directory };
        assert!(renderer.render(many, 0, &mut [0; 4096]).is_ok());
        let far = good.contents.indexes[&many].blocks() * 4096;
        let error = renderer.render(many, far, &mut [0; 16]).unwrap_err();
        assert!(error.what().starts_with("the index of a directory has no leaf"), "{error}");
    }

    #[test]
    fn a_set_of_attributes_that_does_not_exist_is_a_bug() {
        let plan = plan();
        let sets = u32::try_from(plan.contents.tree.xattr_sets().len()).unwrap();
        assert_eq!(plan.contents.xattrs.block(0).unwrap(), None);
        for error in [
            plan.contents.xattrs.inside(sets).unwrap_err(),
            plan.contents.xattrs.block(sets).unwrap_err(),
            plan.contents.xattrs.block_bytes(&plan.contents.form, 9, 0, 1, plan.contents.seed).unwrap_err(),
            plan.contents.xattrs.block_bytes(&plan.contents.form, 0, 1, 1, plan.contents.seed).unwrap_err(),
            plan.contents.inodes.number(NodeId::new(1 << 20)).unwrap_err(),
        ] {
            assert_eq!(error.kind(), Kind::Bug, "{error}");
        }
    }
}
