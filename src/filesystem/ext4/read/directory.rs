//! Reads the names in a directory, block by block. It does not need the index: its blocks look like blocks
//! without names to a reader that does not know indexes.

use super::Ext4;
use super::inode::{FLAG_ENCRYPT, FLAG_INDEX, FLAG_INLINE_DATA, Raw};
use super::map::{Go, Mapped};
use crate::error::{Error, Result};
use crate::filesystem::device::damaged;
use crate::filesystem::ext4::checksum::Checksum;
use crate::filesystem::ext4::format::features::incompat;
use crate::filesystem::ext4::format::{
    DirectoryEntry, DirectoryTail, IndexCount, IndexEntry, IndexRoot, IndexTail, entry_length,
};
use crate::units::{u64_of, usize_of};
use crate::wire::Wire;

/// Bytes of a block up to and including the root of an index: `.`, `..`, and the index root.
const ROOT_POINTERS: usize = entry_length(1) + entry_length(2) + IndexRoot::LENGTH;

/// A name with its inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    pub(super) inode: u32,
    /// File type, as [`file_type`](crate::filesystem::mode::file_type) gives it; 0 if the directory does not
    /// record it.
    pub(super) kind: u8,
    pub(super) name: &'a [u8],
}

type Each<'a> = &'a mut dyn FnMut(Name<'_>) -> Result<()>;

impl Ext4 {
    /// Passes all names of a directory to `each`, including `.` and `..` if they are there.
    pub(super) fn names(&self, raw: &Raw, each: Each<'_>) -> Result<()> {
        if !raw.is_directory() {
            return Err(damaged("this inode is no directory").found(format!("inode {}", raw.number)));
        }
        if raw.has(FLAG_INLINE_DATA) {
            return self.inline_names(raw, each);
        }
        let block = self.layout.block;
        let size = raw.size(self);
        if !size.is_multiple_of(block) {
            return Err(wrong(raw, "its length is no number of blocks"));
        }
        let mut next = 0;
        self.walk(raw, &mut |mapped| {
            let Mapped::Data { logical, physical, length } = mapped else { return Ok(Go::On) };
            for number in 0..length {
                if (logical + number) * block >= size {
                    break;
                }
                if logical + number != next {
                    return Err(wrong(raw, "a block of it is missing"));
                }
                next += 1;
                let bytes = self.block(physical + number)?;
                if !self.block_is_sound(raw, logical + number, &bytes) {
                    let what = format!("the checksum of block {} of it is wrong", logical + number);
                    return Err(wrong(raw, &what));
                }
                self.entries(raw, &bytes, each)?;
            }
            Ok(Go::On)
        })?;
        if next * block != size {
            return Err(wrong(raw, "a block of it is missing"));
        }
        Ok(())
    }

    /// The names in a directory without blocks: after the number of its parent, and in the attribute
    /// `system.data`.
    fn inline_names(&self, raw: &Raw, each: Each<'_>) -> Result<()> {
        let (above, first) = raw.inode.i_block.split_at(4);
        let size = usize_of(raw.size(self));
        if size < raw.inode.i_block.len() {
            return Err(wrong(raw, "it is shorter than its place in the inode"));
        }
        let mut parent = [0; 4];
        parent.copy_from_slice(above);
        each(Name { inode: raw.number, kind: 2, name: b"." })?;
        each(Name { inode: u32::from_le_bytes(parent), kind: 2, name: b".." })?;
        self.entries(raw, first, each)?;
        match self.inline_rest(raw)? {
            Some(rest) => {
                let length = size - raw.inode.i_block.len();
                let rest = raw.bytes.get(rest.start..rest.end.min(rest.start + length));
                self.entries(raw, rest.ok_or_else(|| wrong(raw, "its inline data is cut off"))?, each)
            }
            None => Ok(()),
        }
    }

    /// The entries of a block, or of a part of one. The last one may be an unused entry that holds a
    /// checksum.
    pub(super) fn entries(&self, raw: &Raw, bytes: &[u8], each: Each<'_>) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let head = DirectoryEntry::read(rest).map_err(|_| wrong(raw, "an entry is cut off"))?;
            let length = self.entry_length(&head);
            let (kind, name) = if self.layout.incompatible(incompat::FILETYPE) {
                (head.file_type, usize::from(head.name_len))
            } else {
                // The length of a name used to have 16 bits; its upper half is now the file type.
                (0, usize::from(head.name_len) | usize::from(head.file_type) << 8)
            };
            let used = head.inode != 0;
            let least = if used { entry_length(name) } else { DirectoryEntry::LENGTH };
            if length < least || !length.is_multiple_of(4) || length > rest.len() {
                return Err(wrong(raw, "the length of an entry cannot be"));
            }
            let (entry, behind) = rest.split_at(length);
            rest = behind;
            if !used {
                continue;
            }
            if head.inode > self.layout.inodes {
                return Err(wrong(raw, "an entry leads to an inode that does not exist").found(head.inode));
            }
            let name = &entry[DirectoryEntry::LENGTH..][..name];
            // An encrypted name may be any bytes.
            let is_name = raw.has(FLAG_ENCRYPT) || !name.contains(&b'/') && !name.contains(&0);
            if name.is_empty() || name.len() > 255 || !is_name {
                return Err(wrong(raw, "a name in it is not valid").found(crate::text::printable(name)));
            }
            each(Name { inode: head.inode, kind, name })?;
        }
        Ok(())
    }

    /// The length of an entry. A length of 64 KiB does not fit in 16 bits (linux/fs/ext4/ext4.h,
    /// ext4_rec_len_from_disk).
    fn entry_length(&self, head: &DirectoryEntry) -> usize {
        let length = usize::from(head.rec_len);
        match length {
            0 | 0xffff if self.layout.block > 0xffff => usize_of(self.layout.block),
            _ if self.layout.block > 0xffff => length & 0xfffc | (length & 3) << 16,
            _ => length,
        }
    }

    /// Whether the checksum of block `number` of a directory is right; true if there is none.
    pub(super) fn block_is_sound(&self, raw: &Raw, number: u64, bytes: &[u8]) -> bool {
        let Some(seed) = self.layout.seed else { return true };
        let seed = raw.seed(seed);
        match self.index_pointers(raw, number, bytes) {
            Some(at) => index_is_sound(seed, bytes, at),
            None => leaf_is_sound(seed, bytes),
        }
    }

    /// Where the pointers of an index begin in a block of a directory; `None` for a block with names.
    pub(super) fn index_pointers(&self, raw: &Raw, number: u64, bytes: &[u8]) -> Option<usize> {
        if !raw.has(FLAG_INDEX) {
            return None;
        }
        if number == 0 {
            return Some(ROOT_POINTERS);
        }
        let head = DirectoryEntry::read(bytes).ok()?;
        let blank = head.inode == 0 && u64_of(self.entry_length(&head)) == self.layout.block;
        blank.then_some(DirectoryEntry::LENGTH)
    }
}

/// The error for an invalid directory.
fn wrong(raw: &Raw, what: &str) -> Error {
    damaged(format!("a directory is wrong: {what}")).found(format!("inode {}", raw.number))
}

/// Whether the checksum of a block with names is right.
fn leaf_is_sound(seed: Checksum, bytes: &[u8]) -> bool {
    let Some((covered, tail)) = bytes.split_last_chunk::<{ DirectoryTail::LENGTH }>() else { return false };
    DirectoryTail::read(tail).is_ok_and(|tail| tail.det_checksum == seed.with(covered).value())
}

/// Whether the checksum of a block of an index is right. Its pointers begin at byte `at`. The checksum covers
/// the pointers in use and its own tail, with the checksum as zero.
fn index_is_sound(seed: Checksum, bytes: &[u8], at: usize) -> bool {
    let Ok(count) = IndexCount::read(bytes.get(at..).unwrap_or_default()) else { return false };
    let place = |entries: u16| at + usize::from(entries) * IndexEntry::LENGTH;
    let (Some(used), Some(tail)) = (bytes.get(..place(count.count)), bytes.get(place(count.limit)..)) else {
        return false;
    };
    let Ok(tail) = IndexTail::read(tail) else { return false };
    let blank = IndexTail { dt_checksum: 0, ..tail.clone() };
    count.count <= count.limit && tail.dt_checksum == seed.with(used).with(&blank.bytes()).value()
}
