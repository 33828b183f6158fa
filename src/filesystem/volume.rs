//! A filesystem that can be read. It trusts nothing that it reads: anything damaged is an error, and work and
//! memory are limited by the length of the filesystem.

use std::fmt;

use super::{Facts, OPENERS};
use crate::error::{Error, Kind, Result, Warning};
use crate::image::{Builder, Slice};
use crate::tree::{Time, Xattr};
use crate::units::{Bytes, u64_of};

/// The number of an inode in a volume. ext4 has inode numbers; FAT has none, so the number is the offset of
/// the directory entry. In SquashFS it is the reference of the inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inode(pub u64);

/// The metadata of an inode, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Permissions with setuid, setgid and sticky: 0 to 0o7777. FAT has no permissions: directories get 0o755
    /// and files 0o644; read-only entries lack the write bits.
    pub mode: u16,
    /// Owner; root in FAT.
    pub uid: u32,
    /// Group; root in FAT.
    pub gid: u32,
    /// Modification time. FAT has no time zone; its times are taken as UTC.
    pub mtime: Time,
    /// The number of names, as the inode counts them. A directory also counts itself and each directory in
    /// it, or has 1 if they are too many to count. Always 1 in FAT.
    pub links: u32,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<Xattr>,
}

/// The type and content of an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A directory. No two directories have the same `place`, so if a walk meets one twice, there is a loop.
    Directory {
        /// Where its entries are.
        place: u64,
    },
    /// A regular file; [`Volume::data`] gives its bytes.
    File {
        /// Length in bytes.
        size: Bytes,
    },
    /// A symbolic link.
    Symlink {
        /// Its target.
        target: Vec<u8>,
    },
    /// A character device: major and minor number.
    CharacterDevice((u32, u32)),
    /// A block device: major and minor number.
    BlockDevice((u32, u32)),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// An inode with its metadata and content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// About itself.
    pub meta: Meta,
    /// What it is.
    pub content: Content,
}

impl Node {
    /// Whether it is a directory.
    pub(crate) const fn is_directory(&self) -> bool {
        matches!(self.content, Content::Directory { .. })
    }
}

/// The space of an inode, as stat(2) shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// `st_size`: the length of a file, of the target of a link, or of the entries of a directory.
    pub size: Bytes,
    /// `st_blocks` in bytes: what it occupies in the filesystem.
    pub allocated: Bytes,
}

/// The kind of fault that a [`Remark`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// A structure is invalid: a number out of range, a wrong magic number.
    Structure,
    /// A checksum is not that of its bytes.
    Checksum,
    /// A copy differs from the original.
    Copy,
    /// Something has two owners, or an owner that must not have it.
    Shared,
    /// Something is marked as used but belongs to nobody, or is used but not marked.
    Bitmap,
    /// A count is wrong.
    Count,
    /// The filesystem was not unmounted, or is marked as having errors.
    State,
    /// Something could not be checked.
    Unjudged,
}

/// A fault in a filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The kind of the fault.
    pub fault: Fault,
    /// What it is about: `superblock`, `group 3`, `inode 12`, `/etc/motd`.
    pub subject: String,
    /// What is wrong, in a sentence without a full stop.
    pub what: String,
}

impl Remark {
    pub(super) fn new(fault: Fault, subject: impl Into<String>, what: impl Into<String>) -> Self {
        Self { fault, subject: subject.into(), what: what.into() }
    }

    /// An error that prevented a read, as a remark.
    pub(super) fn of(subject: impl Into<String>, error: &Error) -> Self {
        let details = error.to_string().replace("\n  ", ", ");
        Self::new(Fault::Structure, subject, details)
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::text::printable(format!("{}: {}", self.subject, self.what).as_bytes()))
    }
}

/// A filesystem that can be read.
///
/// Every method returns [`Kind::Format`] for anything damaged and [`Kind::Source`] for anything that cannot
/// be read. A volume cannot change while it is open, because it is a [`Slice`].
pub trait Volume: Send + Sync + fmt::Debug {
    /// Facts about it.
    fn facts(&self) -> &Facts;

    /// Reasons why the data may not be what was written last: a journal that was not replayed.
    fn warnings(&self) -> &[Warning];

    /// The root directory.
    fn root(&self) -> Inode;

    /// The inode of `name` in `directory`.
    ///
    /// # Errors
    /// Also if `directory` is not a directory.
    fn lookup(&self, directory: Inode, name: &[u8]) -> Result<Option<Inode>>;

    /// Passes each name in `directory` to `each` with its inode, in their order on the disk, without `.` and
    /// `..`. A name is never empty and contains neither `/` nor NUL.
    ///
    /// # Errors
    /// Also if `directory` is not a directory, and any error of `each`.
    fn list(&self, directory: Inode, each: &mut dyn FnMut(&[u8], Inode) -> Result<()>) -> Result<()>;

    /// The metadata and content of an inode.
    ///
    /// # Errors
    /// Also if the inode is not in use.
    fn node(&self, inode: Inode) -> Result<Node>;

    /// The space of an inode.
    ///
    /// # Errors
    /// As [`Volume::node`].
    fn space(&self, inode: Inode) -> Result<Space> {
        let size = match self.node(inode)?.content {
            Content::File { size } => size,
            Content::Symlink { target } => Bytes::new(u64_of(target.len())),
            _ => Bytes::ZERO,
        };
        Ok(Space { size, allocated: size.round_up(self.facts().block_size) })
    }

    /// Passes the pieces of a regular file's data to `each`, ascending: the offset of each in the file, and
    /// its bytes. What no piece covers is a hole.
    ///
    /// # Errors
    /// Also if `inode` is not a regular file, and any error of `each`.
    fn data(&self, inode: Inode, each: &mut dyn FnMut(Bytes, Slice) -> Result<()>) -> Result<()>;

    /// Passes each range of bytes of the volume that nothing uses to `each`, ascending: its first byte, and one past its
    /// last. A filesystem that is only read has none.
    ///
    /// # Errors
    /// Where the tables of free space cannot be read, and any error of `each`.
    fn free(&self, each: &mut dyn FnMut(Bytes, Bytes) -> Result<()>) -> Result<()> {
        let _ = each;
        Ok(())
    }

    /// The name of the structure at a byte of the volume: `the superblock, s_wtime`. `None` where no names are known.
    ///
    /// # Errors
    /// Where the structures around it cannot be read.
    fn structure(&self, offset: Bytes) -> Result<Option<String>> {
        let _ = offset;
        Ok(None)
    }

    /// Checks the whole filesystem and passes each fault to `remark`.
    ///
    /// # Errors
    /// Anything that prevents the check, and any error of `remark`. `remark` can return an error to stop the
    /// check.
    fn check(&self, remark: &mut dyn FnMut(Remark) -> Result<()>) -> Result<()>;
}

/// The data of a regular file as one slice; holes stay holes. It refers to the volume's bytes and copies
/// nothing.
///
/// # Errors
/// Those of [`Volume::data`]. Its memory grows with the number of pieces.
pub fn contents(volume: &dyn Volume, inode: Inode) -> Result<Slice> {
    let Content::File { size } = volume.node(inode)?.content else {
        return Err(
            Error::new(Kind::Format, "this inode is no regular file").found(format!("inode {}", inode.0))
        );
    };
    let mut file = Builder::new(size);
    volume.data(inode, &mut |at, piece| {
        file.put(at, &piece);
        Ok(())
    })?;
    Ok(file.finish()?.whole())
}

/// Opens the filesystem in `volume`; `None` if there is none that can be read.
///
/// # Errors
/// [`Kind::Format`] for a damaged one, and for one with a feature that is not understood, with the name of
/// the feature.
pub fn open(volume: &Slice) -> Result<Option<Box<dyn Volume>>> {
    for open in OPENERS {
        if let Some(opened) = open(volume)? {
            return Ok(Some(opened));
        }
    }
    Ok(None)
}
