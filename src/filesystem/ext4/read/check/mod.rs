//! Checks an ext filesystem.
//!
//! 1. `superblock`, `copies`: the superblock, its copies and those of the descriptors, the journal's superblock.
//!    `reserved`: the inodes with a fixed meaning, such as the resize inode.
//! 2. `inodes`, `special`, `index`: every inode in use, with its flags, blocks and attributes, and then the names of
//!    every directory.
//! 3. `groups`: bitmaps, counts and checksums of groups, compared with what was found.
//!
//! Blocks in use are kept as bits, and the number of names of an inode as a number. To limit memory for
//! volumes of any size, a pass covers at most [`BLOCKS`] blocks and [`INODES`] inodes; a larger volume takes
//! more passes. Work is limited too: no node of a tree is walked twice in a pass, and a pass ends once it has
//! met more blocks than the volume has.

mod copies;
mod groups;
mod index;
mod inodes;
mod reserved;
mod special;
mod superblock;

use std::ops::Range;

use super::Ext4;
use super::inode::{FLAG_EA_INODE, FLAG_INDEX, Raw};
use crate::error::{Kind, Result};
use crate::filesystem::bits::Bits;
use crate::filesystem::device::damaged;
use crate::filesystem::mode::file_type;
use crate::filesystem::volume::{Fault, Remark};
use crate::units::{index, usize_of};

/// Clusters in a pass: 16 MiB for those in use, and the same for those of metadata.
const BLOCKS: u64 = 1 << 27;
/// Inodes in a pass: 16 MiB for the number of names of each, and 24 MiB for what each says of itself.
const INODES: u64 = 1 << 22;

type Say<'a> = &'a mut dyn FnMut(Remark) -> Result<()>;

/// What an inode in use says of itself, for those who look at its names.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    links: u16,
    /// The file type, as entries of directories have it.
    kind: u8,
    /// Whether it was read, and whether it is the value of an attribute.
    read: bool,
    value: bool,
    /// Whether it has the flag of an index.
    indexed: bool,
}

impl Seen {
    /// One without a mode has no names.
    fn of(raw: &Raw) -> Self {
        let links = if raw.inode.i_mode == 0 { 0 } else { raw.inode.i_links_count };
        let (value, indexed) = (raw.has(FLAG_EA_INODE), raw.has(FLAG_INDEX));
        Self { links, kind: file_type(raw.inode.i_mode), read: true, value, indexed }
    }
}

/// The results of one pass.
pub(super) struct Pass<'a> {
    volume: &'a Ext4,
    /// Whether it is the first pass, which reports the faults of single structures.
    first: bool,
    /// The clusters that it covers, those in use, and those of them that are metadata of groups.
    clusters: Range<u64>,
    used: Bits,
    metadata: Bits,
    /// The inodes that it covers, the number of names of each, and what each says of itself.
    inodes: Range<u64>,
    names: Vec<u32>,
    seen: Vec<Seen>,
    /// How many more blocks files and directories may have, and whether they have too many.
    left: u64,
    exhausted: bool,
    sums: groups::Sums,
    /// The inodes of quotas of users and groups.
    quotas: [u32; 2],
}

/// Passes every fault to `remark`.
pub(super) fn check(volume: &Ext4, remark: Say<'_>) -> Result<()> {
    superblock::fields(volume, remark)?;
    reserved::resize(volume, remark)?;
    copies::check(volume, remark)?;
    let layout = &volume.layout;
    let clusters = (layout.blocks - layout.first).div_ceil(layout.cluster);
    let inodes = u64::from(layout.inodes);
    let passes = clusters.div_ceil(BLOCKS).max(inodes.div_ceil(INODES));
    let mut pass = Pass {
        volume,
        first: true,
        clusters: 0..0,
        used: Bits::new(clusters.min(BLOCKS)),
        metadata: Bits::new(clusters.min(BLOCKS)),
        inodes: 0..0,
        names: vec![0; usize_of(inodes.min(INODES))],
        seen: vec![Seen::default(); usize_of(inodes.min(INODES))],
        left: 0,
        exhausted: false,
        sums: groups::Sums::default(),
        quotas: [layout.superblock.s_usr_quota_inum, layout.superblock.s_grp_quota_inum],
    };
    for number in 0..passes {
        pass.first = number == 0;
        pass.clusters = part(number, BLOCKS, clusters);
        pass.inodes = part(number, INODES, inodes);
        pass.used.clear();
        pass.metadata.clear();
        pass.names.fill(0);
        pass.seen.fill(Seen::default());
        pass.left = layout.blocks.saturating_mul(2);
        pass.metadata(remark)?;
        if let Err(error) = pass.inodes(remark) {
            return match error.kind() {
                Kind::Format => remark(Remark::of("filesystem", &error)),
                _ => Err(error),
            };
        }
        pass.groups(remark)?;
        pass.links(remark)?;
    }
    pass.totals(remark)
}

/// Part `number` of `0..all` in parts of `size`.
fn part(number: u64, size: u64, all: u64) -> Range<u64> {
    (number * size).min(all)..((number + 1) * size).min(all)
}

/// Turns an error of `result` into a remark.
fn told<T>(result: Result<T>, subject: &str, remark: Say<'_>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == Kind::Format => {
            remark(Remark::of(subject, &error))?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Pass<'_> {
    /// A remark about a single structure; only the first pass makes it.
    fn once(&self, fault: Fault, subject: &str, what: impl Into<String>, remark: Say<'_>) -> Result<()> {
        if self.first { remark(Remark::new(fault, subject, what)) } else { Ok(()) }
    }

    /// As [`told`], but only in the first pass.
    fn told<T>(&self, result: Result<T>, subject: &str, remark: Say<'_>) -> Result<Option<T>> {
        let mut silent = |_| Ok(());
        told(result, subject, if self.first { remark } else { &mut silent })
    }

    /// The clusters of a range of blocks that this pass covers, as it counts them.
    fn seen(&self, first: u64, length: u64) -> Range<u64> {
        let layout = &self.volume.layout;
        // Block 0 of a volume with blocks of 1 KiB belongs to no group.
        let (start, end) =
            (first.saturating_sub(layout.first), (first + length).saturating_sub(layout.first));
        let (start, end) = (start / layout.cluster, end.div_ceil(layout.cluster));
        let clip = |at: u64| at.clamp(self.clusters.start, self.clusters.end) - self.clusters.start;
        clip(start)..clip(end)
    }

    /// Counts blocks that have an owner.
    fn spend(&mut self, blocks: u64) -> Result<()> {
        match self.left.checked_sub(blocks) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.exhausted = true;
                Err(damaged("files have more blocks than their filesystem, so no more is looked at"))
            }
        }
    }

    /// Counts a name of an inode.
    fn name(&mut self, inode: u32) {
        let number = u64::from(inode).saturating_sub(1);
        if self.inodes.contains(&number)
            && let Some(names) = self.names.get_mut(usize_of(number - self.inodes.start))
        {
            *names = names.saturating_add(1);
        }
    }

    /// Where an inode is among those that this pass covers.
    fn covered(&self, inode: u32) -> Option<usize> {
        let number = u64::from(inode).checked_sub(1).filter(|number| self.inodes.contains(number))?;
        Some(usize_of(number - self.inodes.start))
    }

    /// What an inode in use says of itself, if this pass has read it.
    fn seen_of(&self, inode: u32) -> Option<Seen> {
        self.seen.get(self.covered(inode)?).copied().filter(|seen| seen.read)
    }
}

/// The bits that are set in `bytes`, of the first `count`.
fn set_bits(bytes: &[u8], count: u32) -> impl Iterator<Item = u32> + '_ {
    (0..count).filter(|bit| bytes.get(index(bit / 8)).is_some_and(|byte| byte >> (bit % 8) & 1 == 1))
}
