//! ext4: a pure function from a [`Tree`] to an [`Image`](crate::image::Image). The kernel mounts the image,
//! writes to it and grows it; e2fsck finds no fault; GRUB 2.06 and U-Boot read it.
//!
//! The usual features are those of mke2fs without the two that old boot loaders refuse (metadata_csum_seed,
//! orphan_file): has_journal, ext_attr, resize_inode, dir_index, filetype, extents, 64bit, flex_bg,
//! sparse_super, large_file, huge_file, dir_nlink, extra_isize, metadata_csum. Blocks are 4 KiB, inodes 256
//! bytes. `form` has the other choices, down to ext3 and ext2. docs/formats/ext4.md lists every field with its reason.
//!
//! Blocks are allocated in one ascending run around the fixed metadata. So a filesystem has no gaps, its
//! smallest size is known exactly, and a bitmap is computed rather than stored.

mod checksum;
mod directory;
mod extent;
mod feature;
mod form;
mod format;
mod geometry;
mod grow;
mod hash;
mod indirect;
mod inodes;
mod plan;
mod read;
mod render;
mod size;
mod superblock;
mod times;
mod xattr;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Facts, Filesystem, Placement, Size};
use crate::error::{Error, Kind, Result, Warning};
use crate::identity;
use crate::image::{Builder, Files, Slice};
use crate::tree::Owner;
use crate::tree::{Content, Time, Tree};
use crate::units::{Blocks, Bytes, narrow, u64_of};
use crate::values::{Guid, Inodes, Mode};
use extent::FileBlocks;
pub use feature::Feature;
use form::Form;
pub use form::Revision;
use format::{JOURNAL, LOST_AND_FOUND};
pub(crate) use format::{STRUCTURES, features};
pub(crate) use grow::grow;
use plan::{Contents, Pass, Plan, SLOW_SYMLINK, Shape};
pub(crate) use read::{open, superblock as read_superblock};
use render::{Renderer, What};

/// The options of an ext4 filesystem: keys of a manifest, flags of `mkfs ext4`, and what a caller of the library sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Ext4")]
pub struct Options {
    /// Volume label, at most 16 bytes; default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "LABEL"))]
    pub label: Option<String>,
    /// UUID; default derived from the seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "UUID"))]
    pub uuid: Option<Guid>,
    /// With a size of auto, the space that `df` shows as available in the running system; default 16MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    pub free: Option<Bytes>,
    /// Size up to which the kernel can grow it while it is mounted, before it needs meta_bg; the journal is made for this
    /// size too. Default 1024 times its own size; at most 8 TiB more than its own size can be reserved for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    pub grow_to: Option<Bytes>,
    /// Smallest number of inodes, for which a size of auto makes space; default auto: one for 16 KiB, and some
    /// more than the contents need.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub inodes: Option<Inodes>,
    /// Journal: true (of the size that e2fsprogs gives it, at least 4 MiB), false (none), or a size from 4 MiB to 39 GiB; default
    /// true, but without one below 8 MiB where that is no ext3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    pub journal: Option<Journal>,
    /// Space that only the super-user can fill: a size, or a percentage such as 5%, at most half of the
    /// filesystem, for which a size of auto makes space; default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    pub reserved: Option<Reserved>,
    /// UUID that seeds the hashes of directory names; default derived from the filesystem's own UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "UUID"))]
    pub hash_seed: Option<Guid>,
    /// Bytes for which there is one inode, from 1 KiB to 64 MiB; default 16KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    pub bytes_per_inode: Option<Bytes>,
    /// Features beside the usual ones, such as verity or casefold, which files take up in the running system; or without one
    /// of them, such as ^64bit or ^metadata_csum. Any that is not written is refused by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME", value_delimiter = ','))]
    pub features: Option<Vec<Feature>>,
    /// Bytes of a block, a power of two from 1 KiB to 64 KiB; default 4KiB. Linux mounts blocks up to its pages, usually 4 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    pub block_size: Option<Bytes>,
    /// Bytes of an inode, a power of two from 128 to the size of a block, at most 32768; default 256. Those of 128 bytes end in 2038.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    pub inode_size: Option<Bytes>,
    /// Permissions of the root directory; default those of the contents.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "MODE"))]
    pub root_mode: Option<Mode>,
    /// Owner of the root directory: root or UID:GID; default that of the contents.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "OWNER"))]
    pub root_owner: Option<Owner>,
    /// Bytes on a disk of a RAID before the next disk, in whole blocks; default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    pub stride: Option<Bytes>,
    /// Bytes of a RAID that are written together, without parity, in whole blocks; default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    pub stripe_width: Option<Bytes>,
    /// Times before 1901 and after 2446: refuse them, or clamp them to the nearest that ext4 holds; default refuse.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "POLICY"))]
    pub times: Option<TimePolicy>,
}

/// The parameters of an ext4 filesystem, with every default filled in.
#[derive(Clone, Debug)]
struct Parameters {
    revision: Revision,
    form: Form,
    /// Its size; a fixed one is rounded down to whole blocks.
    size: Size,
    /// With [`Size::Auto`], the space that `df` should show as available.
    free: Option<Bytes>,
    /// The size to which the kernel can grow it online.
    grow_to: Option<Bytes>,
    /// At most 16 bytes.
    label: String,
    uuid: Uuid,
    /// The seed of name hashes; not nil, which would mean "none".
    hash_seed: Uuid,
    /// The number of inodes that was asked for.
    inodes: Option<u64>,
    journal: Journal,
    /// Whether there is one however small the filesystem is: it was asked for, or an ext3 would be none without.
    needs_journal: bool,
    reserved: Reserved,
    /// The time at which it was made.
    time: Time,
    times: TimePolicy,
    /// Bytes for one inode.
    ratio: Bytes,
    features: Vec<Feature>,
    /// Permissions and owner of the root directory, if the contents do not decide them.
    root_mode: Option<u16>,
    root_owner: Option<(u32, u32)>,
    /// In blocks; 0 for none.
    stride: u16,
    stripe_width: u32,
}

/// The default of mke2fs (mke2fs.conf, inode_ratio).
const RATIO: Bytes = Bytes::new(16 << 10);
/// The limits of mke2fs (misc/mke2fs.c, EXT2_MIN_BLOCK_SIZE and EXT2_MAX_BLOCK_SIZE * 1024).
const RATIOS: std::ops::RangeInclusive<u64> = 1 << 10..=64 << 20;

impl Parameters {
    fn new(revision: Revision, options: &Options, at: &Placement) -> Result<Self> {
        let features = options.features.clone().unwrap_or_default();
        let form = Form::new(revision, options.block_size, options.inode_size, &features)?;
        let uuid = at.uuid(options.uuid)?;
        let ratio = options.bytes_per_inode.unwrap_or(RATIO);
        if !RATIOS.contains(&ratio.get()) {
            return Err(Error::new(Kind::Manifest, "ext4 has no inode for so many bytes")
                .about("bytes_per_inode")
                .expected("1KiB to 64MiB")
                .found(ratio.in_full()));
        }
        Ok(Self {
            revision,
            form,
            size: at.size,
            free: options.free,
            grow_to: options.grow_to,
            label: options.label.clone().unwrap_or_default(),
            uuid,
            hash_seed: options.hash_seed.map_or_else(|| identity::hash_seed(uuid), |seed| seed.0),
            inodes: options.inodes.and_then(Inodes::count),
            journal: journal(revision, options.journal, &features)?,
            needs_journal: needs_journal(revision, options.journal, &features),
            reserved: options.reserved.unwrap_or_default(),
            time: at.time,
            times: options.times.unwrap_or_default(),
            ratio,
            features,
            root_mode: options.root_mode.map(|mode| mode.0),
            root_owner: match options.root_owner {
                Some(Owner::Root) => Some((0, 0)),
                Some(Owner::Ids { uid, gid }) => Some((uid, gid)),
                Some(Owner::Preserve) | None => None,
            },
            stride: in_blocks("stride", &form, options.stride)?,
            stripe_width: in_blocks("stripe_width", &form, options.stripe_width)?,
        })
    }
}

/// The journal that is asked for, by its own option or as a feature. ext2 has none.
fn journal(revision: Revision, option: Option<Journal>, features: &[Feature]) -> Result<Journal> {
    let named = features.iter().rev().find_map(|feature| feature.journal());
    let has = |journal: Journal| journal != Journal::None;
    match (option, named) {
        (Some(journal), Some(named)) if has(journal) != named => {
            Err(Error::new(Kind::Manifest, "the journal is asked for and refused at once")
                .about("journal")
                .expected(format!("the same as of has_journal in {}", crate::option::option("features"))))
        }
        (Some(journal), _) => Ok(journal),
        (None, Some(true)) => Ok(Journal::Auto),
        (None, Some(false)) => Ok(Journal::None),
        (None, None) if revision == Revision::Ext2 => Ok(Journal::None),
        (None, None) => Ok(Journal::Auto),
    }
}

/// Whether a filesystem has a journal where e2fsprogs would leave it out as too small.
fn needs_journal(revision: Revision, option: Option<Journal>, features: &[Feature]) -> bool {
    let named = features.iter().rev().find_map(|feature| feature.journal()) == Some(true);
    named || revision == Revision::Ext3 || option == Some(Journal::Auto)
}

/// A size as the number of its blocks.
fn in_blocks<T: TryFrom<u64> + Default>(key: &'static str, form: &Form, size: Option<Bytes>) -> Result<T> {
    let Some(size) = size else { return Ok(T::default()) };
    let block = form.block;
    let blocks = size.is_multiple_of(block).then(|| T::try_from(size.get() / block).ok()).flatten();
    blocks.ok_or_else(|| {
        Error::new(Kind::Manifest, "this is no number of blocks that ext4 records")
            .about(key)
            .expected(format!("a multiple of {}, for a stride fewer than 65536 blocks", Bytes::new(block)))
            .found(size.in_full())
    })
}

/// The journal of an ext4 filesystem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Journal {
    /// The size that e2fsprogs chooses for the size to which the filesystem may grow. Below 8 MiB it is 4 MiB where it was
    /// asked for, and in ext3; else there is none.
    #[default]
    Auto,
    /// No journal.
    None,
    /// This size: 4 MiB to 39 GiB.
    Size(Bytes),
}

/// Blocks that only root may fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// This size.
    Bytes(Bytes),
    /// This percentage, at most 50.
    Percent(u8),
}

impl Default for Reserved {
    fn default() -> Self {
        Self::Bytes(Bytes::ZERO)
    }
}

/// How times before 1901 and after 2446 are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimePolicy {
    /// They are an error.
    #[default]
    Refuse,
    /// They become the nearest time ext4 can hold, with a warning.
    Clamp,
}

/// Longest name in bytes (`EXT4_NAME_LEN`; one byte of a directory entry holds the length).
const LONGEST_NAME: u16 = 255;

/// Longest label in bytes (s_volume_name).
const LONGEST_LABEL: usize = 16;

/// Builds the filesystem.
///
/// # Errors
/// [`Kind::Capacity`] where the contents do not fit the size (by how much), or where ext4 cannot hold part of
/// them: a time, a device number, extended attributes, too many names in a directory, each with its path;
/// [`Kind::Manifest`] for an impossible label or size of the journal.
pub fn build(tree: &Arc<Tree>, options: &Options, at: &Placement) -> Result<Filesystem> {
    build_as(Revision::Ext4, tree, options, at)
}

/// Builds ext2, ext3 or ext4.
///
/// # Errors
/// As [`build`].
pub fn build_as(
    revision: Revision,
    tree: &Arc<Tree>,
    options: &Options,
    at: &Placement,
) -> Result<Filesystem> {
    let options = &Parameters::new(revision, options, at)?;
    let form = options.form;
    if options.label.len() > LONGEST_LABEL || options.label.contains('\0') {
        return Err(Error::new(Kind::Manifest, "this cannot be the label of an ext4 filesystem")
            .about("label")
            .expected("at most 16 bytes without NUL")
            .found(format!("{} bytes: {}", options.label.len(), options.label)));
    }
    tree.check_names(LONGEST_NAME)?;
    let (contents, mut warnings) = Contents::new(tree, options)?;
    warnings.extend(tree.owner_warnings());
    let plan = Arc::new(Plan::new(contents, options)?);
    warnings.extend(short_of_growth(&plan, options));
    let length = match options.size {
        Size::Auto => Blocks::new(plan.geometry.blocks).bytes(form.block),
        Size::Fixed(size) => size,
    };
    let mut image = Builder::new(length);
    put_groups(&mut image, &plan, options)?;
    put_beside(&mut image, &plan, options)?;
    put_contents(&mut image, &plan)?;
    let facts = Facts {
        kind: options.revision.name(),
        label: options.label.clone(),
        uuid: options.uuid.to_string(),
        block_size: form.block,
        blocks: plan.geometry.blocks,
        free_blocks: plan.free_blocks(),
        journal: superblock::journal_length(&plan),
        inodes: Some(plan.geometry.inodes()),
        free_inodes: Some(plan.free_inodes()),
    };
    Ok(Filesystem { image: image.finish()?, facts, warnings, others: Vec::new() })
}

/// A warning if the filesystem cannot be prepared for all the growth that was asked for.
fn short_of_growth(plan: &Plan, options: &Parameters) -> Option<Warning> {
    let wanted = options.grow_to?;
    let block = plan.contents.form.block;
    let reach = Blocks::new(plan.geometry.reach()).bytes(block);
    (wanted.round_down(block) > reach).then(|| {
        Warning(format!(
            "the kernel can grow this ext4 filesystem to {} online before it needs meta_bg, not to the {} of grow_to: \
             no more descriptor blocks can be reserved",
            reach.human(),
            wanted.human()
        ))
    })
}

impl Plan {
    /// Byte offset of a block, or the length of so many blocks.
    fn at(&self, block: u64) -> Bytes {
        Blocks::new(block).bytes(self.contents.form.block)
    }
}

/// Puts the metadata of each group: superblocks, descriptors, bitmaps, tables.
fn put_groups(image: &mut Builder, plan: &Arc<Plan>, options: &Parameters) -> Result<()> {
    let geometry = &plan.geometry;
    // The first superblock is at byte 1024; a boot loader may use the space before it. Copies begin at the
    // start of their block.
    let superblock = superblock::superblock(plan, options, 0)?;
    image.bytes(Bytes::new(1024), "ext4: superblock", superblock);
    let descriptors = Slice::ready("ext4: group descriptors", superblock::descriptors(plan)?);
    let form = &plan.contents.form;
    let block = Bytes::new(form.block);
    let first = form.superblock_block() + 1;
    image.put(plan.at(first), &descriptors);
    for group in geometry.backups() {
        let start = form.group_start(group);
        let copy = superblock::superblock(plan, options, group)?;
        image.bytes(plan.at(start), format!("ext4: superblock copy in group {group}"), copy);
        image.put(plan.at(start + 1), &descriptors);
    }
    let mut renderer = |what| image.renderer(Arc::new(Renderer { plan: Arc::clone(plan), what }));
    let (blocks, inodes, tables) =
        (renderer(What::BlockBitmap), renderer(What::InodeBitmap), renderer(What::InodeTable));
    let (indirect, backups) = (renderer(What::ResizeIndirect), renderer(What::ResizeBackups));
    for (group, placed) in (0..geometry.groups).zip(&geometry.placed) {
        let part = narrow(group, "a group's number")?;
        if !superblock::block_bitmap_is_implied(plan, group) {
            image.rendered(plan.at(placed.block_bitmap), block, blocks, part);
        }
        let used = u64::from(plan.used_inodes(group)?);
        if used > 0 || !form.has_flags() {
            image.rendered(plan.at(placed.inode_bitmap), block, inodes, part);
        }
        if used > 0 {
            let length = Bytes::new(used * u64_of(form.inode));
            image.rendered(plan.at(placed.inode_table), length, tables, part);
        }
    }
    if geometry.resize_inode {
        image.rendered(plan.at(plan.allocation.resize), block, indirect, 0);
        for number in 0..geometry.reserved {
            let place = plan.at(first + geometry.descriptor_blocks + number);
            image.rendered(place, block, backups, narrow(number, "a reserved descriptor block")?);
        }
    }
    Ok(())
}

/// Puts what is not the contents of the tree's inodes: the journal, extent trees, attributes, and lost+found.
fn put_beside(image: &mut Builder, plan: &Arc<Plan>, options: &Parameters) -> Result<()> {
    let contents = &plan.contents;
    let mut renderer = |what| image.renderer(Arc::new(Renderer { plan: Arc::clone(plan), what }));
    let (nodes, xattrs, directories) =
        (renderer(What::ExtentNodes), renderer(What::Xattrs), renderer(What::Directory));
    if let Some(first) = plan.allocation.journal.runs.first() {
        let bytes = superblock::journal_superblock(plan, options)?;
        image.bytes(plan.at(first.run.start), "ext4: journal superblock", bytes);
    }
    let journal = std::iter::once((JOURNAL, &plan.allocation.journal));
    for (number, blocks) in plan.allocation.many().chain(journal) {
        let mut skip = Bytes::ZERO;
        for run in &blocks.nodes {
            let length = plan.at(run.length);
            image.rendered_from(plan.at(run.start), length, nodes, number, skip.get());
            skip += length;
        }
    }
    let copies = plan.allocation.xattrs.iter().flatten();
    for (part, block) in (0..).zip(copies) {
        image.rendered(plan.at(*block), plan.at(1), xattrs, part);
    }
    if contents.inodes.lost_and_found_is_ours() {
        let length = contents.form.lost_and_found_blocks();
        let blocks = plan.allocation.blocks(LOST_AND_FOUND, Shape::Dense(length))?;
        each_piece(plan, &blocks, length * contents.form.block, |at, length, skip| {
            image.rendered_from(at, length, directories, LOST_AND_FOUND, skip);
            Ok(())
        })?;
    }
    Ok(())
}

/// Puts the contents of the tree's inodes: directories, targets of links, and file data.
fn put_contents(image: &mut Builder, plan: &Arc<Plan>) -> Result<()> {
    let contents = &plan.contents;
    let mut renderer = |what| image.renderer(Arc::new(Renderer { plan: Arc::clone(plan), what }));
    let (directories, symlinks) = (renderer(What::Directory), renderer(What::Symlink));
    let table: Arc<dyn Files> = Arc::<Tree>::clone(&contents.tree);
    let files = image.files(table);
    image.reserve(contents.tree.len());
    // In the order of allocation, so that the segments need no sorting.
    let passes = Pass::ALL.into_iter().flat_map(|pass| {
        contents.inodes.all().filter(move |(_, node)| Pass::of(&contents.tree, *node) == pass)
    });
    for (number, node) in passes {
        let node = inodes::source(&contents.tree, node);
        let blocks = || plan.allocation.blocks(number, contents.shape(number, node));
        match contents.tree.node(node).content {
            Content::Directory => {
                let length = contents.directory_blocks(number) * contents.form.block;
                each_piece(plan, &blocks()?, length, |at, length, skip| {
                    image.rendered_from(at, length, directories, number, skip);
                    Ok(())
                })?;
            }
            Content::Symlink { length, .. } if usize::from(length) >= SLOW_SYMLINK => {
                each_piece(plan, &blocks()?, u64::from(length), |at, length, skip| {
                    image.rendered_from(at, length, symlinks, number, skip);
                    Ok(())
                })?;
            }
            Content::File { .. } | Content::Text { .. } | Content::Slice { .. } => {
                let data = contents.tree.data(node, files)?;
                each_piece(plan, &blocks()?, contents.tree.size(node), |at, length, skip| {
                    data.put(image, at, length, skip)
                })?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The pieces of `length` bytes of content: the place of each, its length, and where it begins in the
/// content.
fn each_piece(
    plan: &Plan,
    blocks: &FileBlocks,
    length: u64,
    mut each: impl FnMut(Bytes, Bytes, u64) -> Result<()>,
) -> Result<()> {
    for run in &blocks.runs {
        let skip = plan.at(run.logical).get();
        let left = length.checked_sub(skip).filter(|left| *left > 0);
        let left = left.ok_or_else(|| Error::bug("blocks were given to a file behind its end"))?;
        each(plan.at(run.run.start), plan.at(run.run.length).min(Bytes::new(left)), skip)?;
    }
    Ok(())
}
