//! A filesystem that can be read, whatever it is. Nothing that is read is trusted: what is not in order is an error, and
//! work and memory are bounded by what the filesystem's length allows.

use std::fmt;

use super::{Facts, erofs, ext4, fat};
use crate::error::{Error, Kind, Result, Warning};
use crate::image::{Builder, Slice};
use crate::tree::{Time, Xattr};
use crate::units::Bytes;

/// Which inode of a volume. ext4 has numbers; FAT has none, and takes the place of the directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inode(pub u64);

/// What an inode says about itself, beside its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Permissions with setuid, setgid and sticky: 0 to 0o7777. FAT has none: 0o755 for directories, 0o644 for files,
    /// without the bits to write where it says read-only.
    pub mode: u16,
    /// Owner; root in FAT.
    pub uid: u32,
    /// Group; root in FAT.
    pub gid: u32,
    /// Time of last change. That of FAT has no zone and is taken for UTC.
    pub mtime: Time,
    /// How many names there are, as the inode counts them; of a directory one more for itself and each directory in it,
    /// or 1 where they are too many to count. Always 1 in FAT.
    pub links: u32,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<Xattr>,
}

/// What an inode is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A directory. No two directories have the same `place`: who walks a volume and meets one twice has met a loop.
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
        /// Where it leads.
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

/// An inode with all it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// About itself.
    pub meta: Meta,
    /// What it is.
    pub content: Content,
}

/// What kind of thing a [`Remark`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// A structure cannot be what it is: a number out of its range, a magic number that is another.
    Structure,
    /// A checksum is not that of its bytes.
    Checksum,
    /// A copy differs from what it is a copy of.
    Copy,
    /// Something belongs to two, or to one that must not have it.
    Shared,
    /// Something is marked as used and belongs to nobody, or is used and not marked.
    Bitmap,
    /// A count is not that of what it counts.
    Count,
    /// It was not unmounted, or says itself that there are errors.
    State,
    /// Something could not be judged.
    Unjudged,
}

/// Something that is not in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// What kind of thing it is.
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

    /// What keeps something from being read, as a remark.
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
/// Every method gives [`Kind::Format`] for what is not in order and [`Kind::Source`] for what cannot be read. A volume is
/// not changed while it is open: [`Slice`] sees to that.
pub trait Volume: Send + Sync + fmt::Debug {
    /// What it says about itself.
    fn facts(&self) -> &Facts;

    /// Why what is read may not be what was written last: a journal that was not replayed.
    fn warnings(&self) -> &[Warning];

    /// The root directory.
    fn root(&self) -> Inode;

    /// The inode of `name` in `directory`.
    ///
    /// # Errors
    /// Also where `directory` is none.
    fn lookup(&self, directory: Inode, name: &[u8]) -> Result<Option<Inode>>;

    /// Gives `each` the names in `directory` with their inodes, in the order in which they stand there; `.` and `..` are left
    /// out. A name is never empty and holds neither `/` nor NUL.
    ///
    /// # Errors
    /// Also where `directory` is none, and what `each` returns.
    fn list(&self, directory: Inode, each: &mut dyn FnMut(&[u8], Inode) -> Result<()>) -> Result<()>;

    /// What an inode is and says about itself.
    ///
    /// # Errors
    /// Also where it is not in use.
    fn node(&self, inode: Inode) -> Result<Node>;

    /// Gives `each` the pieces of a regular file's data, ascending: where each begins in the file, and its bytes. What no
    /// piece covers is a hole.
    ///
    /// # Errors
    /// Also where `inode` is no regular file, and what `each` returns.
    fn data(&self, inode: Inode, each: &mut dyn FnMut(Bytes, Slice) -> Result<()>) -> Result<()>;

    /// Looks whether everything is in order, and gives `remark` what is not.
    ///
    /// # Errors
    /// What keeps it from looking, and what `remark` returns: who has heard enough returns an error.
    fn check(&self, remark: &mut dyn FnMut(Remark) -> Result<()>) -> Result<()>;
}

/// The data of a regular file as one slice, whose holes are holes. It refers to the volume's bytes and copies none.
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

/// Opens the filesystem in `volume`; `None` where there is none that can be read.
///
/// # Errors
/// [`Kind::Format`] where there is one that is damaged, or has a feature that is not understood, with its name.
pub fn open(volume: &Slice) -> Result<Option<Box<dyn Volume>>> {
    if let Some(ext4) = ext4::open(volume)? {
        return Ok(Some(Box::new(ext4)));
    }
    if let Some(erofs) = erofs::open(volume)? {
        return Ok(Some(Box::new(erofs)));
    }
    if let Some(fat) = fat::open(volume)? {
        return Ok(Some(Box::new(fat)));
    }
    Ok(None)
}
