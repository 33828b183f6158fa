//! Whether data are where they can be, and whether compressed data give the bytes that they should.

use std::collections::HashSet;

use rayon::prelude::*;

use super::{LEAST, Say};
use crate::error::{Kind, Result};
use crate::filesystem::erofs::format::{Layout, SUPERBLOCK_AT, Superblock, algorithm, incompat};
use crate::filesystem::erofs::read::Erofs;
use crate::filesystem::erofs::read::inode::Raw;
use crate::filesystem::erofs::read::map::{Extent, From};
use crate::filesystem::volume::{Fault, Remark};
use crate::units::u64_of;
use crate::wire::Wire;

/// How many extents are decompressed at a time, on all processors.
const BATCH: usize = 256;
/// The most ranges that are kept: 24 MiB of them.
const MOST: usize = 1 << 20;
/// How many bytes a byte of the image may give when its data are decompressed.
const EXPANSION: u64 = 256;

/// A range of bytes of the volume, and the inode that has it.
type Owned = (u64, u64, u64);

/// What was seen of data and inodes.
pub(super) struct Data<'a> {
    volume: &'a Erofs,
    inodes: Vec<Owned>,
    data: Vec<Owned>,
    /// Extents that wait to be decompressed, each with its inode, and where those lie that were.
    waiting: Vec<(u64, Extent)>,
    done: HashSet<(u64, u64, u64)>,
    /// How many bytes may still be made of compressed ones.
    left: u64,
    /// Why some of them were not looked at.
    unknown: Option<&'static str>,
}

impl<'a> Data<'a> {
    pub(super) fn new(volume: &'a Erofs) -> Self {
        let left = LEAST + EXPANSION.saturating_mul(volume.device.length());
        let (inodes, data, waiting) = (Vec::new(), Vec::new(), Vec::new());
        Self { volume, inodes, data, waiting, done: HashSet::new(), left, unknown: None }
    }

    /// Takes an inode with its data.
    pub(super) fn inode(&mut self, raw: &Raw, remark: Say<'_>) -> Result<()> {
        let (volume, nid) = (self.volume, raw.nid);
        let mut end = volume.map_place(raw)?.map_or(raw.behind, |(_, end)| end);
        if raw.layout == Layout::Inline {
            end = raw.behind + raw.size % volume.block;
        }
        self.inodes.push((volume.place(nid)?, end, nid));
        if matches!(raw.layout, Layout::Full | Layout::Compact) {
            return volume.extents(raw, &mut |extent| self.extent(raw, extent, remark));
        }
        let mut found = Vec::new();
        volume.pieces(raw, &mut |_, piece| {
            if let Some(at) = volume.device.offset_of(&piece).filter(|at| *at != raw.behind) {
                found.push((at, at + piece.length().get(), nid));
            }
            Ok(())
        })?;
        found.into_iter().for_each(|own| self.add(own));
        Ok(())
    }

    /// Adds a range of data; one that continues the last is one with it.
    fn add(&mut self, (start, end, nid): Owned) {
        match self.data.last_mut() {
            Some((_, last, own)) if *own == nid && *last == start => *last = end,
            _ => self.data.push((start, end, nid)),
        }
    }

    /// Whether there is more than is looked at.
    pub(super) fn is_full(&self) -> bool {
        self.data.len() > MOST || self.done.len() > MOST
    }

    fn extent(&mut self, raw: &Raw, extent: Extent, remark: Say<'_>) -> Result<()> {
        let (at, length) = match extent.from {
            From::Piece { at, length, algorithm, .. } => {
                if !self.is_configured(algorithm) {
                    let what =
                        format!("it is compressed by algorithm {algorithm}, which the superblock lacks");
                    remark(Remark::new(Fault::Structure, format!("inode {}", raw.nid), what))?;
                }
                (at, length)
            }
            From::Plain { at, length } => (at, length),
            From::Turned { at, .. } => (at, self.volume.block),
            From::Fragment { .. } => return Ok(()),
        };
        // A tail that is packed stands behind its inode.
        if at.is_multiple_of(self.volume.block) {
            self.add((at, at.saturating_add(length), raw.nid));
        }
        let compressed = matches!(extent.from, From::Piece { .. } | From::Turned { .. });
        if compressed && !self.is_full() && self.done.insert((at, extent.length, form(&extent))) {
            self.waiting.push((raw.nid, extent));
        }
        if self.waiting.len() >= BATCH { self.decode(remark) } else { Ok(()) }
    }

    /// Whether the superblock names an algorithm, as kernels want it.
    fn is_configured(&self, number: u8) -> bool {
        let superblock = &self.volume.superblock;
        match superblock.feature_incompat & incompat::COMPR_CFGS {
            0 => number == algorithm::LZ4,
            _ => superblock.algorithms >> number & 1 != 0,
        }
    }

    /// Why an extent is not decompressed, if it is not.
    fn unknown(&self, extent: &Extent) -> Option<&'static str> {
        match extent.from {
            From::Piece { algorithm: algorithm::ZSTD, .. } if !cfg!(feature = "zstd") => {
                Some("this program was built without zstd")
            }
            _ if self.left < extent.length => Some("they give too many bytes"),
            _ => None,
        }
    }

    /// Decompresses what waits.
    fn decode(&mut self, remark: Say<'_>) -> Result<()> {
        let mut batch = std::mem::take(&mut self.waiting);
        batch.retain(|(_, extent)| {
            let unknown = self.unknown(extent);
            self.left = self.left.saturating_sub(extent.length);
            self.unknown = self.unknown.or(unknown);
            unknown.is_none()
        });
        let pieces = &self.volume.pieces;
        let made: Vec<Result<()>> = batch.par_iter().map(|(_, extent)| pieces.decodes(extent)).collect();
        for ((nid, extent), made) in batch.iter().zip(made) {
            match made {
                Ok(()) => {}
                Err(error) if error.kind() == Kind::Format => {
                    let subject = format!("inode {nid}, from byte {} of its data", extent.start);
                    remark(Remark::of(subject, &error))?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Decompresses what still waits, and compares the places of all inodes and data.
    pub(super) fn end(mut self, remark: Say<'_>) -> Result<()> {
        self.decode(remark)?;
        if let Some(why) = self.unknown {
            let what = format!("some compressed data were not looked at: {why}");
            remark(Remark::new(Fault::Unjudged, "filesystem", what))?;
        }
        self.inodes.sort_unstable();
        for pair in self.inodes.windows(2) {
            if let [(_, end, one), (start, _, other)] = pair
                && start < end
            {
                let what = format!("it overlaps inode {other}");
                remark(Remark::new(Fault::Shared, format!("inode {one}"), what))?;
            }
        }
        self.data.sort_unstable();
        let superblock = (SUPERBLOCK_AT, SUPERBLOCK_AT + u64_of(Superblock::LENGTH));
        let mut next = 0;
        // Files may have blocks in common; no block of data is one of inodes.
        for (start, end, nid) in &self.data {
            while self.inodes.get(next).is_some_and(|(_, own, _)| own <= start) {
                next += 1;
            }
            let what = match self.inodes.get(next).filter(|(own, ..)| own < end) {
                Some((_, _, other)) => format!("its data lie over inode {other}"),
                None if *start < superblock.1 && superblock.0 < *end => {
                    "its data lie over the superblock".to_owned()
                }
                None => continue,
            };
            remark(Remark::new(Fault::Shared, format!("inode {nid}"), what))?;
        }
        Ok(())
    }
}

/// What else makes an extent another one than those that begin at the same byte and are as long in the file.
fn form(extent: &Extent) -> u64 {
    match extent.from {
        From::Piece { length, algorithm, partial, .. } => {
            length << 8 | u64::from(algorithm) << 2 | u64::from(partial) << 1
        }
        From::Turned { from, .. } => from << 1 | 1,
        From::Plain { .. } | From::Fragment { .. } => 0,
    }
}
