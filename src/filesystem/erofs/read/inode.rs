//! Inodes and their attributes, as they are read.

use super::Erofs;
use crate::error::{Error, Result};
use crate::filesystem::device::damaged;
use crate::filesystem::erofs::format::{
    CompactInode, ExtendedInode, Layout, XattrEntry, XattrHeader, compat, device_of, incompat, inode,
};
use crate::filesystem::erofs::xattr::filter_bit;
use crate::filesystem::mode::{
    MODE_BLOCK, MODE_CHARACTER, MODE_DIRECTORY, MODE_FIFO, MODE_FILE, MODE_SOCKET, MODE_SYMLINK, MODE_TYPE,
};
use crate::filesystem::namespace;
use crate::filesystem::volume::{Content, Meta};
use crate::tree::{Time, Xattr};
use crate::units::{Bytes, joined16, u64_of};
use crate::wire::Wire;

/// The longest target of a symbolic link that the kernel follows (PATH_MAX, linux/limits.h).
const LONGEST_TARGET: u64 = 4096;

/// An inode as it stands there.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    pub(super) nid: u64,
    /// Where in the volume what follows its attributes begins.
    pub(super) behind: u64,
    pub(super) layout: Layout,
    pub(super) mode: u16,
    pub(super) size: u64,
    /// The field whose meaning depends on the layout and the type.
    pub(super) place: u32,
    /// The high part of the first block's number.
    pub(super) high: u16,
    /// Whether it has the short forms of 48 bits.
    pub(super) short: bool,
    pub(super) links: u32,
    uid: u32,
    gid: u32,
    mtime: Time,
    /// Bytes of the attributes; 0 for none.
    pub(super) xattrs: u64,
}

impl Raw {
    pub(super) const fn kind(&self) -> u16 {
        self.mode & MODE_TYPE
    }

    /// The first block of data that is stored as it is.
    pub(super) fn block(&self) -> u64 {
        joined16(self.place, self.high)
    }

    /// The error for an inode that is wrong.
    pub(super) fn wrong(&self, what: &str) -> Error {
        damaged(format!("an inode is wrong: {what}")).found(format!("inode {}", self.nid))
    }
}

impl Erofs {
    /// Reads the inode with this number.
    pub(super) fn inode(&self, nid: u64) -> Result<Raw> {
        let at = self.place(nid)?;
        let short: CompactInode = self.device.structure(at)?;
        let wrong = |what: &str| damaged(format!("an inode is wrong: {what}")).found(format!("inode {nid}"));
        let layout = Layout::of(short.i_format >> inode::LAYOUT_SHIFT & inode::LAYOUT_MASK);
        let layout = layout.ok_or_else(|| wrong("its data has an unknown layout"))?;
        let wide = self.superblock.feature_incompat & incompat::BIT48 != 0;
        let known =
            inode::EXTENDED | inode::LAYOUT_MASK << inode::LAYOUT_SHIFT | if wide { inode::SHORT } else { 0 };
        if short.i_format & !known != 0 {
            return Err(wrong("its format has unknown bits"));
        }
        let xattrs = match short.i_xattr_icount {
            0 => 0,
            count => u64_of(XattrHeader::LENGTH) + 4 * (u64::from(count) - 1),
        };
        let mut raw = Raw {
            nid,
            behind: at + u64_of(CompactInode::LENGTH) + xattrs,
            layout,
            mode: short.i_mode,
            size: short.i_size.into(),
            place: short.i_u,
            high: 0,
            short: short.i_format & inode::SHORT != 0,
            links: short.i_nlink.into(),
            uid: short.i_uid.into(),
            gid: short.i_gid.into(),
            mtime: Time { seconds: self.epoch.seconds.saturating_add(short.i_mtime.into()), ..self.epoch },
            xattrs,
        };
        if short.i_format & inode::EXTENDED != 0 {
            let long: ExtendedInode = self.device.structure(at)?;
            raw.behind = at + u64_of(ExtendedInode::LENGTH) + xattrs;
            (raw.size, raw.place, raw.links) = (long.i_size, long.i_u, long.i_nlink);
            (raw.uid, raw.gid) = (long.i_uid, long.i_gid);
            raw.mtime = Time { seconds: long.i_mtime, nanoseconds: long.i_mtime_nsec };
            raw.high = long.i_nb;
        } else if raw.short && raw.kind() != MODE_DIRECTORY {
            (raw.high, raw.links) = (short.i_nlink, 1);
        }
        if raw.mtime.nanoseconds >= 1_000_000_000 {
            return Err(wrong("its time cannot be"));
        }
        if Bytes::new(raw.size) > Bytes::LIMIT {
            return Err(wrong("it is longer than a file can be"));
        }
        Ok(raw)
    }

    /// What an inode says about itself.
    pub(super) fn meta(&self, raw: &Raw) -> Result<Meta> {
        Ok(Meta {
            mode: raw.mode & 0o7777,
            uid: raw.uid,
            gid: raw.gid,
            mtime: raw.mtime,
            links: raw.links,
            xattrs: self.xattrs(raw)?,
        })
    }

    /// What an inode is.
    pub(super) fn content(&self, raw: &Raw) -> Result<Content> {
        Ok(match raw.kind() {
            MODE_DIRECTORY => Content::Directory { place: raw.nid },
            MODE_FILE => Content::File { size: Bytes::new(raw.size) },
            MODE_SYMLINK => Content::Symlink { target: self.target(raw)? },
            MODE_CHARACTER => Content::CharacterDevice(device_of(raw.place)),
            MODE_BLOCK => Content::BlockDevice(device_of(raw.place)),
            MODE_FIFO => Content::Fifo,
            MODE_SOCKET => Content::Socket,
            other => return Err(raw.wrong("its file type does not exist").found(format!("{other:#o}"))),
        })
    }

    /// What a symbolic link leads to.
    fn target(&self, raw: &Raw) -> Result<Vec<u8>> {
        if raw.size == 0 || raw.size > LONGEST_TARGET {
            return Err(raw.wrong("a symbolic link cannot have its length"));
        }
        self.whole(raw)?.bytes(0, crate::units::usize_of(raw.size))
    }

    /// A name that the filter of an inode hides from the kernel, which looks there first.
    pub(super) fn hidden(&self, raw: &Raw) -> Result<Option<Vec<u8>>> {
        if raw.xattrs == 0 || self.superblock.feature_compat & compat::XATTR_FILTER == 0 {
            return Ok(None);
        }
        let header: XattrHeader = self.device.structure(raw.behind - raw.xattrs)?;
        let is_hidden = |xattr: &Xattr| {
            let (index, name) = namespace::split(&xattr.name)?;
            Some(header.h_name_filter & filter_bit(index, name) != 0)
        };
        Ok(self.xattrs(raw)?.into_iter().find(|xattr| is_hidden(xattr) == Some(true)).map(|xattr| xattr.name))
    }

    /// The attributes of an inode, sorted by name.
    fn xattrs(&self, raw: &Raw) -> Result<Vec<Xattr>> {
        if raw.xattrs == 0 {
            return Ok(Vec::new());
        }
        let wrong = || raw.wrong("its extended attributes are cut off");
        // At most 256 KiB, as their count has 16 bits.
        let bytes = self.device.bytes(raw.behind - raw.xattrs, crate::units::usize_of(raw.xattrs))?;
        let header = XattrHeader::read(&bytes)?;
        let rest = &bytes[XattrHeader::LENGTH..];
        let shared = usize::from(header.h_shared_count) * 4;
        let (shared, mut inline) = rest.split_at_checked(shared).ok_or_else(wrong)?;
        let mut found = Vec::new();
        for id in shared.chunks_exact(4) {
            let mut number = [0; 4];
            number.copy_from_slice(id);
            found.push(self.shared(raw, u32::from_le_bytes(number))?);
        }
        while !inline.is_empty() {
            let (xattr, length) = attribute(inline).ok_or_else(wrong)?;
            found.push(xattr.ok_or_else(|| raw.wrong("an attribute has an unknown namespace"))?);
            inline = inline.get(length..).unwrap_or_default();
        }
        found.sort();
        Ok(found)
    }

    /// Where a shared attribute is.
    fn shared_at(&self, id: u32) -> u64 {
        u64::from(self.superblock.xattr_blkaddr) * self.block + 4 * u64::from(id)
    }

    /// Which byte of a shared attribute of an inode is at `offset`, if one is there.
    pub(super) fn in_shared(&self, raw: &Raw, offset: u64) -> Result<Option<u64>> {
        if raw.xattrs == 0 {
            return Ok(None);
        }
        let start = raw.behind - raw.xattrs;
        let header: XattrHeader = self.device.structure(start)?;
        for number in 0..u64::from(header.h_shared_count) {
            let mut id = [0; 4];
            self.device.read(start + u64_of(XattrHeader::LENGTH) + 4 * number, &mut id)?;
            let at = self.shared_at(u32::from_le_bytes(id));
            let entry: XattrEntry = self.device.structure(at)?;
            let length =
                u64_of(XattrEntry::LENGTH) + u64::from(entry.e_name_len) + u64::from(entry.e_value_size);
            if (at..at + length.next_multiple_of(4)).contains(&offset) {
                return Ok(Some(offset - at));
            }
        }
        Ok(None)
    }

    /// A shared attribute.
    fn shared(&self, raw: &Raw, id: u32) -> Result<Xattr> {
        let at = self.shared_at(id);
        let entry: XattrEntry = self.device.structure(at)?;
        let length = XattrEntry::LENGTH + usize::from(entry.e_name_len) + usize::from(entry.e_value_size);
        let bytes = self.device.bytes(at, length)?;
        let (xattr, _) = attribute(&bytes).ok_or_else(|| raw.wrong("a shared attribute is cut off"))?;
        xattr.ok_or_else(|| raw.wrong("a shared attribute has an unknown namespace"))
    }
}

/// The attribute that `bytes` begin with, and how long it is; without a name where its namespace is unknown.
fn attribute(bytes: &[u8]) -> Option<(Option<Xattr>, usize)> {
    let entry = XattrEntry::read(bytes).ok()?;
    let (name, value) = (usize::from(entry.e_name_len), usize::from(entry.e_value_size));
    let rest = bytes.get(XattrEntry::LENGTH..XattrEntry::LENGTH + name + value)?;
    let length = (XattrEntry::LENGTH + rest.len()).next_multiple_of(4);
    let (name, value) = rest.split_at(name);
    let prefix = namespace::prefix(entry.e_name_index);
    let xattr = prefix.map(|prefix| Xattr { name: [prefix, name].concat(), value: value.to_vec() });
    Some((xattr, length))
}
