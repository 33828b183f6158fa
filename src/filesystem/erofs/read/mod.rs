//! Reads EROFS images of any writer: plain, in chunks, compressed by lz4, lzma, deflate or zstd, with tails and fragments
//! packed.
//!
//! Not read are more devices, long prefixes of attributes, and compressed metadata; each is refused by its name.

mod check;
mod data;
mod decode;
mod directory;
mod inode;
mod map;
mod place;

use std::sync::{Arc, OnceLock};

use super::format::{Layout, SLOT, SUPERBLOCK_AT, Superblock, compat, incompat};
use super::superblock::{checksum, covered};
use crate::error::{Error, Result, Warning};
use crate::filesystem::Facts;
use crate::filesystem::device::{Device, damaged};
use crate::filesystem::volume::{Content, Inode, Node, Remark, Space, Volume};
use crate::image::Slice;
use crate::text::printable;
use crate::tree::Time;
use crate::units::{Bytes, joined16, u64_of, usize_of};
use crate::wire::{Field, Wire, field};
use data::Pieces;

const MAGIC: Field = field(Superblock::FIELDS, "magic");
const CHECKSUM: Field = field(Superblock::FIELDS, "checksum");

/// The features that are read.
const KNOWN: u32 = incompat::LZ4_0PADDING
    | incompat::COMPR_CFGS
    | incompat::CHUNKED
    | incompat::DEVICES
    | incompat::ZTAILPACKING
    | incompat::FRAGMENTS
    | incompat::BIT48;

/// A volume that was opened.
#[derive(Debug)]
pub(crate) struct Erofs {
    device: Device,
    facts: Facts,
    superblock: Superblock,
    /// Bytes in a block.
    block: u64,
    /// The time of inodes without one of their own.
    epoch: Time,
    pieces: Arc<Pieces>,
    /// The data of the inode that holds fragments, once it was asked for.
    fragments: OnceLock<Slice>,
}

/// Opens an EROFS; `None` where there is none.
pub(crate) fn open(slice: &Slice) -> Result<Option<Erofs>> {
    let length = slice.length().get();
    if length < SUPERBLOCK_AT + u64_of(Superblock::LENGTH) {
        return Ok(None);
    }
    let device = Device::new(slice);
    let magic = device.bytes(SUPERBLOCK_AT, MAGIC.length)?;
    if magic != Superblock::BLANK.magic.to_le_bytes() {
        return Ok(None);
    }
    let superblock: Superblock = device.structure(SUPERBLOCK_AT)?;
    let block = check_superblock(&device, &superblock)?;
    let seconds = i64::try_from(superblock.epoch).map_err(|_| damaged("the time of an erofs cannot be"))?;
    let facts = facts(&superblock, block);
    let padded = superblock.feature_incompat & incompat::LZ4_0PADDING != 0;
    let pieces = Arc::new(Pieces::new(slice, block, padded));
    let epoch = Time { seconds, nanoseconds: superblock.fixed_nsec };
    Ok(Some(Erofs { device, facts, superblock, block, epoch, pieces, fragments: OnceLock::new() }))
}

/// What the kernel looks at when it mounts; returns the size of a block.
fn check_superblock(device: &Device, superblock: &Superblock) -> Result<u64> {
    if !(9..=16).contains(&superblock.blkszbits) {
        return Err(damaged("an erofs cannot have blocks of this size")
            .expected("2^9 to 2^16 bytes")
            .found(format!("2^{}", superblock.blkszbits)));
    }
    let block = 1 << superblock.blkszbits;
    let unknown = superblock.feature_incompat & !KNOWN;
    if unknown != 0 {
        let named = incompat::NAMES.iter().filter(|(bit, _)| unknown & bit != 0).map(|(_, name)| *name);
        let named: Vec<&str> = named.collect();
        let found = if named.is_empty() { format!("bits {unknown:#x}") } else { named.join(", ") };
        return Err(damaged("an erofs has features that are not read here").found(found));
    }
    if superblock.extra_devices != 0 {
        return Err(damaged("an erofs with more devices is not read here"));
    }
    if superblock.dirblkbits != 0 {
        return Err(
            damaged("the directories of an erofs have blocks of another size").found(superblock.dirblkbits)
        );
    }
    if superblock.fixed_nsec >= 1_000_000_000 {
        return Err(damaged("the time of an erofs cannot be").found(format!("{} ns", superblock.fixed_nsec)));
    }
    if superblock.feature_compat & compat::CHECKSUM != 0 {
        let mut bytes = device.bytes(SUPERBLOCK_AT, usize_of(covered(block)))?;
        CHECKSUM.clear(&mut bytes);
        if checksum(&bytes) != superblock.checksum {
            return Err(damaged("the checksum of the superblock of an erofs is wrong"));
        }
    }
    Ok(block)
}

fn facts(superblock: &Superblock, block: u64) -> Facts {
    let name = &superblock.volume_name;
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    Facts {
        kind: "erofs",
        label: printable(&name[..end]),
        uuid: superblock.uuid.to_string(),
        block_size: block,
        blocks: superblock.blocks.into(),
        free_blocks: 0,
        journal: 0,
        inodes: Some(superblock.inos),
        free_inodes: Some(0),
    }
}

impl Erofs {
    /// The number of the root's inode; with 48 bits it may stand elsewhere.
    fn root_nid(&self) -> u64 {
        match self.superblock.root_nid_8b {
            wide if wide != 0 && self.superblock.feature_incompat & incompat::BIT48 != 0 => wide,
            _ => self.superblock.root_nid.into(),
        }
    }

    /// The first byte behind the filesystem; with 48 bits the high ones of its blocks stand in place of the root
    /// (`rb.blocks_hi`, erofs_read_superblock, fs/erofs/super.c).
    fn end(&self) -> u64 {
        let superblock = &self.superblock;
        let wide = superblock.feature_incompat & incompat::BIT48 != 0 && superblock.root_nid_8b != 0;
        let high = if wide { superblock.root_nid } else { 0 };
        joined16(superblock.blocks, high).saturating_mul(self.block)
    }

    /// Where an inode stands.
    fn place(&self, nid: u64) -> Result<u64> {
        let base = u64::from(self.superblock.meta_blkaddr) * self.block;
        let at = nid.checked_mul(SLOT).and_then(|offset| offset.checked_add(base));
        at.ok_or_else(|| damaged("an inode lies outside the filesystem").found(format!("inode {nid}")))
    }
}

impl Volume for Erofs {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn warnings(&self) -> &[Warning] {
        &[]
    }

    fn root(&self) -> Inode {
        Inode(self.root_nid())
    }

    fn lookup(&self, directory: Inode, name: &[u8]) -> Result<Option<Inode>> {
        if matches!(name, b"." | b"..") {
            return Ok(None);
        }
        let raw = self.inode(directory.0)?;
        let mut found = None;
        self.names(&raw, &mut |entry| {
            if entry.name == name {
                found = found.or(Some(Inode(entry.nid)));
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn list(&self, directory: Inode, each: &mut dyn FnMut(&[u8], Inode) -> Result<()>) -> Result<()> {
        let raw = self.inode(directory.0)?;
        self.names(&raw, &mut |entry| match entry.name {
            b"." | b".." => Ok(()),
            name => each(name, Inode(entry.nid)),
        })
    }

    fn node(&self, inode: Inode) -> Result<Node> {
        let raw = self.inode(inode.0)?;
        Ok(Node { meta: self.meta(&raw)?, content: self.content(&raw)? })
    }

    /// As the kernel computes it (linux/fs/erofs/inode.c, erofs_read_inode).
    fn space(&self, inode: Inode) -> Result<Space> {
        let raw = self.inode(inode.0)?;
        let compressed = matches!(raw.layout, Layout::Full | Layout::Compact);
        let size = Bytes::new(raw.size);
        let allocated = if compressed {
            Bytes::new(raw.block().saturating_mul(self.block))
        } else {
            size.round_up(self.block)
        };
        Ok(Space { size, allocated })
    }

    fn data(&self, inode: Inode, each: &mut dyn FnMut(Bytes, Slice) -> Result<()>) -> Result<()> {
        let raw = self.inode(inode.0)?;
        match self.content(&raw)? {
            Content::File { .. } => self.pieces(&raw, each),
            _ => Err(no_file(inode.0)),
        }
    }

    fn structure(&self, offset: Bytes) -> Result<Option<String>> {
        place::structure(self, offset.get()).map(Some)
    }

    fn check(&self, remark: &mut dyn FnMut(Remark) -> Result<()>) -> Result<()> {
        check::check(self, remark)
    }
}

fn no_file(nid: u64) -> Error {
    damaged("this inode is no regular file").found(format!("inode {nid}"))
}
