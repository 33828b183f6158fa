//! Reading a SquashFS 4.0 of any kind, compressed by gzip, xz, lz4 or zstd. Nothing that is read is trusted: what is not in
//! order is an error, and no number makes memory grow by more than a few blocks.

mod check;
mod data;
mod directory;
mod inode;
mod metadata;
mod place;
mod xattr;

use std::sync::Arc;

use super::codec::Compressor;
use super::facts;
use super::format::{CHUNKS, DOTS, Fragment, METADATA, MODE, NO_TABLE, Place, Superblock};
use crate::error::{Error, Result, Warning};
use crate::filesystem::Facts;
use crate::filesystem::device::{Device, damaged};
use crate::filesystem::volume::{Content, Inode, Meta, Node, Remark, Space, Volume};
use crate::image::Slice;
use crate::tree::Time;
use crate::units::{Bytes, u64_of};
use crate::wire::Wire;
use data::Source;
use directory::Go;
use inode::{Body, Raw};
use metadata::{Metadata, Stream};
use xattr::Xattrs;

/// An open SquashFS.
#[derive(Debug)]
pub(crate) struct Squashfs {
    superblock: Superblock,
    facts: Facts,
    compressor: Compressor,
    /// Bytes of a block.
    block: u64,
    metadata: Metadata,
    source: Arc<Source>,
    inodes: Stream,
    directories: Stream,
    /// The indexes over the tables of fragments, owners and, where there is one, inodes by number.
    fragments: Stream,
    ids: Stream,
    exports: Option<Stream>,
    xattrs: Option<Xattrs>,
}

/// Opens the SquashFS in `slice`; `None` where there is none.
///
/// # Errors
/// [`Kind::Format`](crate::error::Kind::Format) where there is one that is damaged, or compressed with something that is not
/// read here, by its name.
pub(crate) fn open(slice: &Slice) -> Result<Option<Squashfs>> {
    if slice.length() < Bytes::new(u64_of(Superblock::LENGTH)) {
        return Ok(None);
    }
    let mut bytes = [0; Superblock::LENGTH];
    slice.read(0, &mut bytes)?;
    if !bytes.starts_with(b"hsqs") {
        return Ok(None);
    }
    let superblock = Superblock::read(&bytes)?;
    let compressor = Compressor::of(superblock.compression)?;
    let block = u64::from(superblock.block_size);
    if !block.is_power_of_two()
        || !CHUNKS.contains(&block)
        || u32::from(superblock.block_log) != block.ilog2()
    {
        return Err(superblock_wrong("the size of its blocks cannot be")
            .found(format!("block_size {block}, block_log {}", superblock.block_log)));
    }
    let used = superblock.bytes_used;
    if used > slice.length().get() {
        return Err(superblock_wrong("it is longer than the space it is in")
            .expected(format!("at most {} bytes", slice.length().get()))
            .found(used));
    }
    let device = Device::new(&slice.sub(Bytes::ZERO, Bytes::new(used)));
    let order = [
        u64_of(Superblock::LENGTH),
        superblock.inode_table_start,
        superblock.directory_table_start,
        superblock.fragment_table_start,
        superblock.id_table_start,
        used,
    ];
    if !order.is_sorted() || superblock.inode_table_start == superblock.directory_table_start {
        return Err(superblock_wrong("its tables are not in their order").found(format!("{order:?}")));
    }
    let xattrs = match superblock.xattr_id_table_start {
        NO_TABLE => None,
        start => Some(Xattrs::open(&device, start, used)?),
    };
    let index = |start: u64, count: u64, length: usize| {
        let end = index_end(start, count, length)?;
        let inside = Some(Stream { start, end }).filter(|_| end <= used);
        inside.ok_or_else(|| superblock_wrong("an index ends behind the filesystem").found(end))
    };
    let exports = match superblock.lookup_table_start {
        NO_TABLE => None,
        start => Some(index(start, u64::from(superblock.inodes), 8)?),
    };
    if superblock.no_ids == 0 || superblock.inodes == 0 {
        return Err(superblock_wrong("it says that there are no owners, or no inodes"));
    }
    Ok(Some(Squashfs {
        facts: facts(used, block, superblock.inodes),
        compressor,
        block,
        source: Arc::new(Source::new(slice, compressor, block)),
        metadata: Metadata::new(device, compressor),
        inodes: Stream { start: superblock.inode_table_start, end: superblock.directory_table_start },
        directories: Stream { start: superblock.directory_table_start, end: superblock.fragment_table_start },
        fragments: index(superblock.fragment_table_start, u64::from(superblock.fragments), Fragment::LENGTH)?,
        ids: index(superblock.id_table_start, u64::from(superblock.no_ids), 4)?,
        exports,
        xattrs,
        superblock,
    }))
}

/// Where an index ends that begins at `start`, over `count` entries of `length` bytes.
fn index_end(start: u64, count: u64, length: usize) -> Result<u64> {
    let blocks = (count * u64_of(length)).div_ceil(u64_of(METADATA));
    start.checked_add(blocks * 8).ok_or_else(|| superblock_wrong("an index lies behind all bytes"))
}

fn superblock_wrong(what: &str) -> Error {
    damaged(format!("the superblock of a SquashFS is wrong: {what}"))
}

impl Squashfs {
    /// What its blocks are compressed with.
    pub(crate) const fn compressor(&self) -> &'static str {
        self.compressor.name()
    }

    fn id(&self, number: u16) -> Result<u32> {
        if number >= self.superblock.no_ids {
            return Err(damaged("an inode has an owner that does not exist")
                .expected(format!("below {}", self.superblock.no_ids))
                .found(number));
        }
        let entry = self.metadata.entry(self.ids, u64::from(number), 4)?;
        Ok(entry.try_into().map_or(0, u32::from_le_bytes))
    }
}

impl Volume for Squashfs {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn warnings(&self) -> &[Warning] {
        &[]
    }

    fn root(&self) -> Inode {
        Inode(self.superblock.root_inode)
    }

    fn lookup(&self, directory: Inode, name: &[u8]) -> Result<Option<Inode>> {
        let mut found = None;
        self.names(&self.directory(directory.0)?, &mut |own| {
            if own.name != name {
                return Ok(Go::On);
            }
            found = Some(Inode(own.reference));
            Ok(Go::Out)
        })?;
        Ok(found)
    }

    fn list(&self, directory: Inode, each: &mut dyn FnMut(&[u8], Inode) -> Result<()>) -> Result<()> {
        self.names(&self.directory(directory.0)?, &mut |own| {
            each(own.name, Inode(own.reference))?;
            Ok(Go::On)
        })
    }

    fn node(&self, inode: Inode) -> Result<Node> {
        let Raw { head, nlink, xattr, body } = self.raw(inode.0)?;
        let meta = Meta {
            mode: head.mode & MODE,
            uid: self.id(head.uid)?,
            gid: self.id(head.guid)?,
            mtime: Time::seconds(i64::from(head.mtime)),
            links: nlink,
            xattrs: self.xattrs(xattr)?,
        };
        let content = match body {
            Body::Directory(_) => Content::Directory { place: inode.0 },
            Body::File(blocks) => Content::File { size: Bytes::new(blocks.size) },
            Body::Symlink { target } => Content::Symlink { target },
            Body::BlockDevice(device) => Content::BlockDevice(device),
            Body::CharacterDevice(device) => Content::CharacterDevice(device),
            Body::Fifo => Content::Fifo,
            Body::Socket => Content::Socket,
        };
        Ok(Node { meta, content })
    }

    /// As the kernel computes it (linux/fs/squashfs/inode.c, squashfs_read_inode).
    fn space(&self, inode: Inode) -> Result<Space> {
        let space = |size: u64, stored: u64| Space {
            size: Bytes::new(size),
            allocated: Bytes::new(stored).round_up(512),
        };
        Ok(match self.raw(inode.0)?.body {
            Body::Directory(names) => space(names.length + DOTS, 0),
            Body::File(blocks) => space(blocks.size, blocks.size.saturating_sub(blocks.sparse)),
            Body::Symlink { target } => space(u64_of(target.len()), 0),
            _ => Space::default(),
        })
    }

    fn data(&self, inode: Inode, each: &mut dyn FnMut(Bytes, Slice) -> Result<()>) -> Result<()> {
        match self.raw(inode.0)?.body {
            Body::File(blocks) => self.pieces(blocks, each),
            _ => Err(damaged("this inode is no regular file").found(format!("inode {}", inode.0))),
        }
    }

    fn structure(&self, offset: Bytes) -> Result<Option<String>> {
        place::structure(self, offset.get()).map(Some)
    }

    fn check(&self, remark: &mut dyn FnMut(Remark) -> Result<()>) -> Result<()> {
        check::run(self, remark)
    }
}

/// The place of a reference, for people.
fn shown(reference: u64) -> String {
    let place = Place::of(reference);
    format!("the inode at {}:{}", place.block, place.offset)
}
