//! Inodes as they are stored.

use super::super::format::{
    DOTS, Device, Directory, File, Head, Ipc, LONGEST_TARGET, LongDevice, LongDirectory, LongFile, LongIpc,
    NONE, Place, Symlink, Type, device_of,
};
use super::Squashfs;
use super::metadata::Reader;
use crate::error::Result;
use crate::filesystem::device::damaged;

/// An inode.
#[derive(Debug)]
pub(super) struct Raw<'a> {
    pub(super) head: Head,
    pub(super) nlink: u32,
    /// Number of its set of attributes, or [`NONE`].
    pub(super) xattr: u32,
    pub(super) body: Body<'a>,
}

/// What an inode has beside that.
#[derive(Debug)]
pub(super) enum Body<'a> {
    Directory(Names<'a>),
    File(Blocks<'a>),
    Symlink { target: Vec<u8> },
    BlockDevice((u32, u32)),
    CharacterDevice((u32, u32)),
    Fifo,
    Socket,
}

/// Where the names of a directory are.
#[derive(Debug)]
pub(super) struct Names<'a> {
    /// Where they begin in the directory table, and how many bytes they take.
    pub(super) place: Place,
    pub(super) length: u64,
    pub(super) parent: u32,
    /// The entries of its index: how many, and a reader that is at the first.
    pub(super) indexes: u16,
    pub(super) index: Reader<'a>,
}

/// Where the data of a file is.
#[derive(Debug)]
pub(super) struct Blocks<'a> {
    pub(super) start: u64,
    pub(super) size: u64,
    pub(super) sparse: u64,
    /// Which fragment its tail is in, and where.
    pub(super) fragment: Option<(u32, u32)>,
    /// How many blocks it has, and a reader that is at their lengths.
    pub(super) count: u64,
    pub(super) lengths: Reader<'a>,
}

impl Squashfs {
    /// The inode at a reference.
    pub(super) fn raw(&self, reference: u64) -> Result<Raw<'_>> {
        let mut reader = self.metadata.reader(self.inodes, Place::of(reference));
        let head: Head = self.metadata.reader(self.inodes, Place::of(reference)).structure()?;
        let (kind, long) = Type::of(head.inode_type)
            .ok_or_else(|| damaged("an inode is of no type").expected("1 to 14").found(head.inode_type))?;
        if head.inode_number == 0 {
            return Err(damaged("an inode has the number 0"));
        }
        match (kind, long) {
            (Type::Directory, false) => {
                let inode: Directory = reader.structure()?;
                let place = Place { block: u64::from(inode.start_block), offset: inode.offset };
                let length = u64::from(inode.file_size).saturating_sub(DOTS);
                let names = Names { place, length, parent: inode.parent_inode, indexes: 0, index: reader };
                Ok(Raw { head, nlink: inode.nlink, xattr: NONE, body: Body::Directory(names) })
            }
            (Type::Directory, true) => {
                let inode: LongDirectory = reader.structure()?;
                let place = Place { block: u64::from(inode.start_block), offset: inode.offset };
                let length = u64::from(inode.file_size).saturating_sub(DOTS);
                let (parent, indexes) = (inode.parent_inode, inode.i_count);
                let names = Names { place, length, parent, indexes, index: reader };
                Ok(Raw { head, nlink: inode.nlink, xattr: inode.xattr, body: Body::Directory(names) })
            }
            (Type::File, long) => self.file(head, long, reader),
            (Type::Symlink, long) => symlink(head, long, reader),
            (Type::Fifo | Type::Socket, long) => {
                let body = if kind == Type::Fifo { Body::Fifo } else { Body::Socket };
                let inode = if long {
                    reader.structure::<LongIpc>()?
                } else {
                    let Ipc { head, nlink } = reader.structure()?;
                    LongIpc { head, nlink, xattr: NONE }
                };
                Ok(Raw { head, nlink: inode.nlink, xattr: inode.xattr, body })
            }
            (Type::BlockDevice | Type::CharacterDevice, long) => {
                let inode = if long {
                    reader.structure::<LongDevice>()?
                } else {
                    let Device { head, nlink, rdev } = reader.structure()?;
                    LongDevice { head, nlink, rdev, xattr: NONE }
                };
                let number = device_of(inode.rdev);
                let block = kind == Type::BlockDevice;
                let body = if block { Body::BlockDevice(number) } else { Body::CharacterDevice(number) };
                Ok(Raw { head, nlink: inode.nlink, xattr: inode.xattr, body })
            }
        }
    }

    fn file<'a>(&self, head: Head, long: bool, mut reader: Reader<'a>) -> Result<Raw<'a>> {
        let inode = if long {
            reader.structure::<LongFile>()?
        } else {
            let inode: File = reader.structure()?;
            LongFile {
                head: inode.head,
                start_block: u64::from(inode.start_block),
                file_size: u64::from(inode.file_size),
                sparse: 0,
                nlink: 1,
                fragment: inode.fragment,
                offset: inode.offset,
                xattr: NONE,
            }
        };
        let size = inode.file_size;
        if size > i64::MAX.unsigned_abs() {
            return Err(damaged("a file is longer than any can be").found(size));
        }
        let fragment = Some((inode.fragment, inode.offset)).filter(|_| inode.fragment != NONE);
        if fragment.is_some() && size.is_multiple_of(self.block) {
            return Err(damaged("a file has a fragment and no tail").found(format!("{size} bytes")));
        }
        let count = if fragment.is_some() { size / self.block } else { size.div_ceil(self.block) };
        let (start, sparse) = (inode.start_block, inode.sparse);
        let blocks = Blocks { start, size, sparse, fragment, count, lengths: reader };
        Ok(Raw { head, nlink: inode.nlink, xattr: inode.xattr, body: Body::File(blocks) })
    }
}

fn symlink<'a>(head: Head, long: bool, mut reader: Reader<'a>) -> Result<Raw<'a>> {
    let inode: Symlink = reader.structure()?;
    let length = usize::try_from(inode.symlink_size).unwrap_or(usize::MAX);
    if length > LONGEST_TARGET {
        return Err(damaged("the target of a symbolic link is too long")
            .expected(format!("at most {LONGEST_TARGET} bytes"))
            .found(length));
    }
    let target = reader.bytes(length)?;
    let xattr = if long { reader.number()? } else { NONE };
    Ok(Raw { head, nlink: inode.nlink, xattr, body: Body::Symlink { target } })
}
