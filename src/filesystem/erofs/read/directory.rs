//! The names in a directory, block by block.

use super::Erofs;
use super::inode::Raw;
use crate::error::Result;
use crate::filesystem::erofs::format::DirectoryEntry;
use crate::filesystem::mode::MODE_DIRECTORY;
use crate::units::usize_of;
use crate::wire::Wire;

/// A name with its inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    pub(super) nid: u64,
    pub(super) file_type: u8,
    pub(super) name: &'a [u8],
}

type Each<'a> = &'a mut dyn FnMut(Name<'_>) -> Result<()>;

impl Erofs {
    /// Gives `each` all names of a directory, `.` and `..` among them.
    pub(super) fn names(&self, raw: &Raw, each: Each<'_>) -> Result<()> {
        if raw.kind() != MODE_DIRECTORY {
            return Err(raw.wrong("it is no directory"));
        }
        let mut cursor = self.whole(raw)?.cursor();
        let mut bytes = vec![0; usize_of(self.block)];
        let mut at = 0;
        while at < raw.size {
            let length = usize_of(self.block.min(raw.size - at));
            cursor.read(at, &mut bytes[..length])?;
            entries(raw, &bytes[..length], each)?;
            at += self.block;
        }
        Ok(())
    }
}

/// The entries of a block, or of what there is of the last one.
fn entries(raw: &Raw, bytes: &[u8], each: Each<'_>) -> Result<()> {
    let wrong = || raw.wrong("an entry of the directory cannot be");
    let head = |number: usize| {
        DirectoryEntry::read(bytes.get(number * DirectoryEntry::LENGTH..).unwrap_or_default())
    };
    let first = usize::from(head(0).map_err(|_| wrong())?.nameoff);
    if first == 0 || !first.is_multiple_of(DirectoryEntry::LENGTH) || first >= bytes.len() {
        return Err(wrong());
    }
    let count = first / DirectoryEntry::LENGTH;
    for number in 0..count {
        let entry = head(number)?;
        let start = usize::from(entry.nameoff);
        let end = if number + 1 < count { usize::from(head(number + 1)?.nameoff) } else { bytes.len() };
        let name = bytes.get(start..end).filter(|_| start >= first).ok_or_else(wrong)?;
        // The last name ends with the block, or before the zeros that fill it.
        let name = match name.iter().position(|byte| *byte == 0) {
            Some(zero) if number + 1 == count => &name[..zero],
            _ => name,
        };
        if name.is_empty() || name.len() > 255 || name.contains(&b'/') || name.contains(&0) {
            return Err(raw.wrong("a name in the directory is none").found(crate::text::printable(name)));
        }
        each(Name { nid: entry.nid, file_type: entry.file_type, name })?;
    }
    Ok(())
}
