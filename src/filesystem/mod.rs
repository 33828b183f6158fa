//! The filesystems. Each writer is a pure function from a [`Tree`] to an [`Image`]. A [`Volume`] reads:
//! [`open`] opens a filesystem from any writer.
//!
//! All filesystems have the same parts: `mod` has the one public `build`, `geometry` computes the layout, and
//! `format` has the bytes.

mod bits;
mod device;
pub mod erofs;
pub mod ext4;
pub mod fat;
pub(crate) mod marks;
mod mode;
mod namespace;
pub mod squashfs;
pub mod swap;
mod volume;
pub mod zfs;

pub use volume::{Content, Fault, Inode, Meta, Node, Remark, Space, Volume, contents, open};

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result, Warning};
use crate::image::{Image, Slice};
use crate::pour::Packer;
use crate::tree::{Time, Tree};
use crate::units::Bytes;
use crate::values::Guid;

/// A filesystem to make, and its options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
#[schemars(rename = "Filesystem")]
pub enum Spec {
    /// The fourth extended filesystem of Linux.
    Ext4(ext4::Options),
    /// The third, with block pointers and a journal; the keys are those of ext4.
    Ext3(ext4::Options),
    /// The second, without a journal; the keys are those of ext4.
    Ext2(ext4::Options),
    /// FAT12, FAT16 or FAT32 with long names.
    Vfat(fat::Options),
    /// The enhanced read-only filesystem of Linux.
    Erofs(erofs::Options),
    /// SquashFS, which is compressed and only read.
    Squashfs(squashfs::Options),
    /// A swap area, which contains no files.
    Swap(swap::Options),
    /// A ZFS pool on one disk.
    Zfs(zfs::Options),
}

/// Suffixes of files that are one filesystem.
pub(crate) const SUFFIXES: [&str; 8] = ["ext4", "ext3", "ext2", "vfat", "fat", "erofs", "squashfs", "zfs"];

/// Filesystems that users ask for and that are not written here.
const UNWRITTEN: [&str; 16] = [
    "apfs", "bcachefs", "btrfs", "cramfs", "exfat", "f2fs", "hfs", "hfsplus", "iso9660", "jffs2", "jfs",
    "nilfs2", "ntfs", "reiserfs", "ubifs", "xfs",
];

/// The filesystem of this name, if it is one that is not written here.
pub(crate) fn unwritten(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    UNWRITTEN.iter().copied().find(|known| *known == name)
}

/// Opens a filesystem of one kind.
type Open = fn(&Slice) -> Result<Option<Box<dyn Volume>>>;

/// The kinds that can be read, in the order in which they are tried. FAT is the last, as it has the weakest mark.
const OPENERS: [Open; 5] = [
    |slice| boxed(ext4::open(slice)),
    |slice| boxed(erofs::open(slice)),
    |slice| boxed(squashfs::open(slice)),
    |slice| boxed(zfs::open(slice)),
    |slice| boxed(fat::open(slice)),
];

fn boxed<V: Volume + 'static>(opened: Result<Option<V>>) -> Result<Option<Box<dyn Volume>>> {
    opened.map(|volume| volume.map(|volume| -> Box<dyn Volume> { Box::new(volume) }))
}

/// The marks of kinds that are opened before, which tell a damaged one.
const MARKS: [marks::Mark; 2] = [
    // linux/fs/erofs/erofs_fs.h, erofs_super_block at 1 KiB: magic, volume_name, uuid.
    marks::Mark {
        kind: "erofs",
        offset: 1024,
        bytes: &[0xe2, 0xe1, 0xf5, 0xe0],
        label: Some((1088, 16)),
        uuid: Some(1072),
    },
    // linux/fs/squashfs/squashfs_fs.h: s_magic.
    marks::Mark { kind: "squashfs", offset: 0, bytes: b"hsqs", label: None, uuid: None },
];

impl From<ext4::Options> for Spec {
    fn from(options: ext4::Options) -> Self {
        Self::Ext4(options)
    }
}

impl From<fat::Options> for Spec {
    fn from(options: fat::Options) -> Self {
        Self::Vfat(options)
    }
}

impl From<erofs::Options> for Spec {
    fn from(options: erofs::Options) -> Self {
        Self::Erofs(options)
    }
}

impl From<squashfs::Options> for Spec {
    fn from(options: squashfs::Options) -> Self {
        Self::Squashfs(options)
    }
}

impl From<swap::Options> for Spec {
    fn from(options: swap::Options) -> Self {
        Self::Swap(options)
    }
}

impl From<zfs::Options> for Spec {
    fn from(options: zfs::Options) -> Self {
        Self::Zfs(options)
    }
}

/// Everything that a filesystem depends on besides its contents and options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// How large it is.
    pub size: Size,
    /// Where it begins on its disk; some formats record that.
    pub offset: Bytes,
    /// Bytes in a logical sector of its disk: 512, 1024, 2048 or 4096.
    pub sector_size: u64,
    /// The key that its ids derive from: its UUID, unless its options give one.
    pub id: Uuid,
    /// The time at which it was made.
    pub time: Time,
    /// Whether firmware or a boot loader reads it: an EFI system partition, or the partition at /boot beside it.
    pub system: bool,
    /// Whether it is its disk, which has no table.
    pub bare: bool,
}

impl Placement {
    /// A filesystem alone: as small as its contents allow, at the beginning of a disk with sectors of 512
    /// bytes, made at the beginning of 1970.
    #[must_use]
    pub fn alone(id: Uuid) -> Self {
        Self {
            size: Size::Auto,
            offset: Bytes::ZERO,
            sector_size: 512,
            id,
            time: Time::default(),
            system: false,
            bare: true,
        }
    }

    /// The UUID of the filesystem, where its options give `given`.
    ///
    /// # Errors
    /// [`Kind::Manifest`](crate::error::Kind::Manifest) for a UUID of zeros.
    pub(crate) fn uuid(&self, given: Option<Guid>) -> Result<Uuid> {
        given.map_or(Ok(self.id), Guid::id).map_err(|error| error.about("uuid"))
    }
}

impl Spec {
    /// Its name in manifests and for `mount`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ext4(_) => "ext4",
            Self::Ext3(_) => "ext3",
            Self::Ext2(_) => "ext2",
            Self::Vfat(_) => "vfat",
            Self::Erofs(_) => "erofs",
            Self::Squashfs(_) => "squashfs",
            Self::Swap(_) => "swap",
            Self::Zfs(_) => "zfs",
        }
    }

    /// The volume label in its options; empty for none.
    #[must_use]
    pub fn label(&self) -> &str {
        let label = match self {
            Self::Ext4(options) | Self::Ext3(options) | Self::Ext2(options) => &options.label,
            Self::Vfat(options) => &options.label,
            Self::Erofs(options) => &options.label,
            Self::Squashfs(_) => &None,
            Self::Swap(options) => &options.label,
            Self::Zfs(options) => &options.pool,
        };
        label.as_deref().unwrap_or_default()
    }

    /// The free space that its options ask for.
    #[must_use]
    pub const fn free(&self) -> Option<Bytes> {
        match self {
            Self::Ext4(options) | Self::Ext3(options) | Self::Ext2(options) => options.free,
            Self::Vfat(options) => options.free,
            Self::Erofs(options) => options.free,
            Self::Squashfs(options) => options.free,
            Self::Swap(_) => None,
            Self::Zfs(options) => options.free,
        }
    }

    /// Whether a running system can write to it.
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        !matches!(self, Self::Erofs(_) | Self::Squashfs(_))
    }

    /// Whether it holds files.
    #[must_use]
    pub const fn holds_files(&self) -> bool {
        !matches!(self, Self::Swap(_))
    }

    /// Whether it keeps the owners of files.
    #[must_use]
    pub const fn keeps_owners(&self) -> bool {
        !matches!(self, Self::Vfat(_) | Self::Swap(_))
    }

    /// Whether its contents can decide its size.
    #[must_use]
    pub const fn has_size(&self) -> bool {
        self.holds_files()
    }

    /// Whether it is made for a disk that it has alone.
    #[must_use]
    pub const fn has_whole_disk(&self) -> bool {
        matches!(self, Self::Zfs(zfs::Options { whole_disk: Some(true), .. }))
    }

    /// Whether its bytes depend on where it begins on the disk.
    #[must_use]
    pub const fn knows_its_place(&self) -> bool {
        matches!(self, Self::Vfat(_))
    }

    /// Where a reader of the filesystem shows the directories of its tree: their paths, and those in the volume. `None` where
    /// the bytes of files lie on the disk as they are, so that their places alone lead to them.
    #[must_use]
    pub fn shown_at(&self) -> Option<Vec<(String, String)>> {
        match self {
            Self::Zfs(options) => Some(options.shown_at()),
            // Files are compressed, or share blocks with equal ones.
            Self::Squashfs(_) | Self::Erofs(_) => Some(vec![("/".to_owned(), "/".to_owned())]),
            Self::Ext4(_) | Self::Ext3(_) | Self::Ext2(_) | Self::Vfat(_) | Self::Swap(_) => None,
        }
    }

    /// Makes every path of this machine in its options one that `place` gives.
    pub fn place(&mut self, place: &dyn Fn(&str) -> PathBuf) {
        if let Self::Zfs(options) = self {
            options.place(place);
        }
    }

    /// Says which folders of this machine become its contents, for what is looked for there.
    pub fn look_in(&mut self, folders: impl FnOnce() -> Vec<PathBuf>) {
        if let Self::Zfs(options) = self
            && options.via == Some(zfs::Via::Vm)
        {
            options.vm.contents = folders();
        }
    }

    /// The same options except for those that only say how it is made, which decide no id.
    #[must_use]
    pub fn without_way(&self) -> Self {
        match self {
            Self::Zfs(options) => Self::Zfs(options.without_way()),
            other => other.clone(),
        }
    }

    /// Builds it. A filesystem without files ignores `tree`. A filesystem that compresses its data packs it with
    /// `packer`, once for all calls with the same packer; the others ignore `packer`.
    ///
    /// # Errors
    /// As [`ext4::build`], [`fat::build`], [`erofs::build`], [`squashfs::build`], [`swap::build`] and [`zfs::build`].
    pub fn build(&self, tree: Option<&Arc<Tree>>, at: &Placement, packer: &Packer) -> Result<Filesystem> {
        let tree = || tree.ok_or_else(|| Error::bug("a filesystem that holds files has no tree"));
        match self {
            Self::Ext4(options) => ext4::build(tree()?, options, at),
            Self::Ext3(options) => ext4::build_as(ext4::Revision::Ext3, tree()?, options, at),
            Self::Ext2(options) => ext4::build_as(ext4::Revision::Ext2, tree()?, options, at),
            Self::Vfat(options) => fat::build(tree()?, options, at),
            Self::Erofs(options) => erofs::build(tree()?, options, at, packer),
            Self::Squashfs(options) => squashfs::build(tree()?, options, at, packer),
            Self::Swap(options) => swap::build(options, at),
            Self::Zfs(options) => zfs::build(tree()?, options, at, packer),
        }
    }
}

/// The size that a filesystem gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Exactly this size. Contents that do not fit are an error that says by how much.
    Fixed(Bytes),
    /// As small as its contents and the requested free space allow.
    Auto,
}

/// A filesystem that is ready to be placed.
#[derive(Debug)]
pub struct Filesystem {
    /// Its bytes.
    pub image: Image,
    /// Facts about it, for reports.
    pub facts: Facts,
    /// What was asked for and could not be kept.
    pub warnings: Vec<Warning>,
    /// Further disks that it is on.
    pub others: Vec<Other>,
}

/// A further disk of a filesystem that is on several.
#[derive(Clone, Debug)]
pub struct Other {
    /// Its name, which is that of its file before the suffix.
    pub name: String,
    /// Its bytes.
    pub image: Image,
}

/// Facts about a filesystem, for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `ext4`, `ext3`, `ext2`, `vfat`, `erofs`, `squashfs`, `swap`, `zfs`.
    pub kind: &'static str,
    /// The label as it is on the disk; empty for none.
    pub label: String,
    /// As `blkid` prints it: a UUID, or `1234-ABCD` for FAT; empty for none.
    pub uuid: String,
    /// Bytes in a block or cluster.
    pub block_size: u64,
    /// Blocks or clusters in all.
    pub blocks: u64,
    /// Free blocks or clusters.
    pub free_blocks: u64,
    /// Bytes of the journal, which count as used; 0 without a journal.
    pub journal: u64,
    /// Inodes in all; `None` if the format has none.
    pub inodes: Option<u64>,
    /// Free inodes.
    pub free_inodes: Option<u64>,
}
