//! The extended attributes of an inode.

use super::super::format::{
    LONGEST_XATTR_VALUE, NAMESPACES, NONE, Place, XATTR_ELSEWHERE, XattrEntry, XattrId, XattrTable,
    XattrValue,
};
use super::metadata::{Reader, Stream};
use super::{Squashfs, index_end};
use crate::error::{Error, Result};
use crate::filesystem::device::{Device, damaged};
use crate::tree::Xattr;
use crate::units::{u64_of, usize_of};
use crate::wire::Wire;

/// Bytes that the names and values of one inode take at most: 16 values of the largest size. A few bytes can say that they
/// are the same value many times.
const MOST: u64 = 16 * u64_of(LONGEST_XATTR_VALUE);

/// Where the attributes of an image are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Xattrs {
    /// The attributes themselves.
    pub(super) data: Stream,
    /// The index over the sets.
    pub(super) index: Stream,
    pub(super) count: u32,
}

impl Xattrs {
    /// What stands at `start`, in an image of `used` bytes.
    pub(super) fn open(device: &Device, start: u64, used: u64) -> Result<Self> {
        let end = start.checked_add(u64_of(XattrTable::LENGTH)).filter(|end| *end <= used);
        let first = end.ok_or_else(|| damaged("the table of attributes lies outside the filesystem"))?;
        let table: XattrTable = device.structure(start)?;
        let end = index_end(first, u64::from(table.xattr_ids), XattrId::LENGTH)?;
        if table.xattr_ids == 0 || end > used || table.xattr_table_start >= start {
            return Err(damaged("the table of attributes cannot be").found(format!(
                "{} sets, attributes from byte {} on",
                table.xattr_ids, table.xattr_table_start
            )));
        }
        let data = Stream { start: table.xattr_table_start, end: start };
        Ok(Self { data, index: Stream { start: first, end }, count: table.xattr_ids })
    }
}

impl Squashfs {
    /// The attributes of set `number`, sorted by name.
    pub(super) fn xattrs(&self, number: u32) -> Result<Vec<Xattr>> {
        if number == NONE {
            return Ok(Vec::new());
        }
        let table = self.xattrs.filter(|table| number < table.count);
        let table = table.ok_or_else(|| {
            let count = self.xattrs.map_or(0, |table| table.count);
            wrong("there is no such set").expected(format!("below {count}")).found(number)
        })?;
        let entry = self.metadata.entry(table.index, u64::from(number), XattrId::LENGTH)?;
        let id = XattrId::read(&entry)?;
        let mut reader = self.metadata.reader(table.data, Place::of(id.xattr));
        let (mut found, mut left) = (Vec::new(), MOST);
        for _ in 0..id.count {
            let xattr = self.xattr(&mut reader, table.data)?;
            // More than it takes, so that a count alone does not make memory grow.
            let taken = u64_of(xattr.name.len() + xattr.value.len() + size_of::<Xattr>());
            left = left.checked_sub(taken).ok_or_else(|| wrong("an inode has too many"))?;
            found.push(xattr);
        }
        found.sort();
        Ok(found)
    }

    fn xattr(&self, reader: &mut Reader<'_>, data: Stream) -> Result<Xattr> {
        let entry: XattrEntry = reader.structure()?;
        let kind = entry.kind & !XATTR_ELSEWHERE;
        let space = NAMESPACES.iter().find(|(number, _)| *number == kind);
        let (_, prefix) = space.ok_or_else(|| wrong("a namespace is unknown").found(kind))?;
        let own = reader.bytes(usize::from(entry.size))?;
        let name = [*prefix, own.as_slice()].concat();
        let value = value(reader)?;
        if entry.kind & XATTR_ELSEWHERE == 0 {
            return Ok(Xattr { name, value });
        }
        let place: [u8; 8] =
            value.as_slice().try_into().map_err(|_| wrong("a reference to a value is none"))?;
        let mut elsewhere = self.metadata.reader(data, Place::of(u64::from_le_bytes(place)));
        Ok(Xattr { name, value: self::value(&mut elsewhere)? })
    }
}

fn value(reader: &mut Reader<'_>) -> Result<Vec<u8>> {
    let XattrValue { vsize } = reader.structure()?;
    let length = usize_of(u64::from(vsize));
    if length > LONGEST_XATTR_VALUE {
        return Err(wrong("a value is too long").found(length));
    }
    reader.bytes(length)
}

fn wrong(what: &str) -> Error {
    damaged(format!("extended attributes are wrong: {what}"))
}
