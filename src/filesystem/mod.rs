//! The filesystems: each is a pure function from a [`Tree`](crate::tree::Tree) to an [`Image`], and a [`Volume`] is the
//! way back: [`open`] reads what is there, whoever wrote it.
//!
//! Same doors in each house: `mod` has the one public `build`, `geometry` the sums, `format` the bytes.

mod bits;
mod device;
pub mod ext4;
pub mod fat;
pub(crate) mod marks;
pub mod swap;
mod volume;

pub use volume::{Content, Fault, Inode, Meta, Node, Remark, Volume, contents, open};

use crate::error::Warning;
use crate::image::Image;
use crate::units::Bytes;

/// How large a filesystem is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Exactly this; contents that do not fit are an error that says by how much.
    Fixed(Bytes),
    /// As small as its contents and the free space asked for allow.
    Auto,
}

/// A filesystem, ready to be placed.
#[derive(Debug)]
pub struct Filesystem {
    /// Its bytes.
    pub image: Image,
    /// What it says about itself.
    pub facts: Facts,
    /// What was asked for and could not be kept.
    pub warnings: Vec<Warning>,
}

/// What a filesystem says about itself, for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `ext4`, `vfat`, `swap`.
    pub kind: &'static str,
    /// The label as it stands on the disk; empty for none.
    pub label: String,
    /// As `blkid` prints it: a UUID, or `1234-ABCD` for FAT.
    pub uuid: String,
    /// Bytes in a block or cluster.
    pub block_size: u64,
    /// Blocks or clusters there are.
    pub blocks: u64,
    /// Blocks or clusters that are free.
    pub free_blocks: u64,
    /// Inodes there are; `None` where the format has none.
    pub inodes: Option<u64>,
    /// Inodes that are free.
    pub free_inodes: Option<u64>,
}
