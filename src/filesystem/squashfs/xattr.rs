//! Extended attributes: sets of them, each stored once however many inodes have it.

use std::collections::HashMap;

use super::codec::Settings;
use super::format::{
    LONGEST_XATTR_NAME, LONGEST_XATTR_VALUE, NAMESPACES, NONE, XattrEntry, XattrId, XattrTable, XattrValue,
};
use super::metadata::{Blocks, Stream};
use crate::error::{Error, Kind, Result};
use crate::text::printable;
use crate::tree::Xattr;
use crate::units::{narrow, u64_of};
use crate::wire::Wire;

/// The sets that inodes have had so far, in the order of their first use.
#[derive(Debug)]
pub(super) struct Xattrs {
    data: Stream,
    sets: Stream,
    count: u32,
    /// The number of each set by the set's number in the tree.
    numbers: HashMap<u32, u32>,
    /// And by what is stored, since sets that differ in what cannot be stored are one.
    known: HashMap<Vec<u8>, u32>,
}

/// What is stored of an attribute: its namespace, the rest of its name, its value. `None` where the format has no
/// namespace for it.
fn stored(xattr: &Xattr) -> Option<(u16, &[u8], &[u8])> {
    NAMESPACES.iter().find_map(|(number, prefix)| {
        let name = xattr.name.strip_prefix(*prefix)?;
        Some((*number, name, xattr.value.as_slice()))
    })
}

/// Whether the format can store an attribute.
pub(super) fn can_be_kept(xattr: &Xattr) -> bool {
    stored(xattr).is_some()
}

impl Xattrs {
    pub(super) fn new(settings: Settings) -> Result<Self> {
        Ok(Self {
            data: Stream::new(settings)?,
            sets: Stream::new(settings)?,
            count: 0,
            numbers: HashMap::new(),
            known: HashMap::new(),
        })
    }

    /// The number of set `set` of the tree, whose attributes are `xattrs`; [`NONE`] for none.
    ///
    /// # Errors
    /// [`Kind::Capacity`] for a name or a value that no kernel reads.
    pub(super) fn number(&mut self, set: u32, xattrs: &[Xattr]) -> Result<u32> {
        if set == 0 {
            return Ok(NONE);
        }
        if let Some(number) = self.numbers.get(&set) {
            return Ok(*number);
        }
        let number = self.add(xattrs)?;
        self.numbers.insert(set, number);
        Ok(number)
    }

    fn add(&mut self, xattrs: &[Xattr]) -> Result<u32> {
        let (mut bytes, mut count, mut size) = (Vec::new(), 0_u32, 0_u64);
        for xattr in xattrs {
            check(xattr)?;
            let Some((kind, name, value)) = stored(xattr) else { continue };
            bytes.extend(XattrEntry { kind, size: narrow(name.len(), "the length of a name")? }.bytes());
            bytes.extend_from_slice(name);
            bytes.extend(XattrValue { vsize: narrow(value.len(), "the length of a value")? }.bytes());
            bytes.extend_from_slice(value);
            count += 1;
            // With the NUL that listxattr(2) gives each name.
            size += u64_of(xattr.name.len()) + 1 + u64_of(value.len());
        }
        if count == 0 {
            return Ok(NONE);
        }
        if let Some(number) = self.known.get(&bytes) {
            return Ok(*number);
        }
        let number = self.count;
        let id = XattrId {
            xattr: self.data.place().reference(),
            count,
            size: narrow(size, "a size of attributes")?,
        };
        self.data.place().block32("extended attributes")?;
        self.data.put(&bytes)?;
        self.sets.put(&id.bytes())?;
        self.count += 1;
        self.known.insert(bytes, number);
        Ok(number)
    }

    /// The attributes and the sets, with what stands before their index; `None` where there are none.
    pub(super) fn finish(self) -> Result<Option<(Blocks, Blocks, u32)>> {
        if self.count == 0 {
            return Ok(None);
        }
        Ok(Some((self.data.finish()?, self.sets.finish()?, self.count)))
    }
}

/// What stands before the index of `count` sets whose attributes begin at byte `start` of the image.
pub(super) fn table(start: u64, count: u32) -> Vec<u8> {
    XattrTable { xattr_table_start: start, xattr_ids: count, unused: 0 }.bytes().to_vec()
}

fn check(xattr: &Xattr) -> Result<()> {
    for (what, length, most) in
        [("name", xattr.name.len(), LONGEST_XATTR_NAME), ("value", xattr.value.len(), LONGEST_XATTR_VALUE)]
    {
        if length > most {
            let name = printable(&xattr.name[..xattr.name.len().min(LONGEST_XATTR_NAME)]);
            return Err(Error::new(
                Kind::Capacity,
                format!("the {what} of an extended attribute is too long"),
            )
            .expected(format!("at most {most} bytes, as Linux has it"))
            .found(format!("{length} bytes of `{name}`")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filesystem::squashfs::{Compression, Options};

    fn xattr(name: &str, value: &[u8]) -> Xattr {
        Xattr { name: name.into(), value: value.to_vec() }
    }

    /// Those of a compressor that every set of features has.
    fn settings() -> Settings {
        Settings::new(&Options { compress: Some(Compression::Gzip), ..Options::default() }).unwrap()
    }

    #[test]
    fn equal_sets_are_one_and_what_has_no_namespace_is_left_out() {
        let mut xattrs = Xattrs::new(settings()).unwrap();
        let (a, b) = (xattr("user.a", b"1"), xattr("security.b", b"22"));
        let acl = xattr("system.posix_acl_access", b"acl");
        assert_eq!(xattrs.number(0, &[]).unwrap(), NONE);
        assert_eq!(xattrs.number(1, std::slice::from_ref(&acl)).unwrap(), NONE);
        assert_eq!(xattrs.number(2, &[a.clone(), b.clone()]).unwrap(), 0);
        assert_eq!(xattrs.number(3, &[acl, a.clone(), b]).unwrap(), 0);
        assert_eq!(xattrs.number(4, std::slice::from_ref(&a)).unwrap(), 1);
        assert_eq!(xattrs.number(4, &[a]).unwrap(), 1);
        let (_, sets, count) = xattrs.finish().unwrap().unwrap();
        assert_eq!(count, 2);
        // 16 bytes each; the first has 6 + 1 + 1 and 10 + 1 + 2 bytes.
        let bytes = &sets.bytes[2..];
        let id = XattrId::read(bytes).ok().filter(|_| sets.bytes[1] & 0x80 != 0);
        assert!(id.is_none_or(|id| (id.count, id.size) == (2, 21)));
        assert!(Xattrs::new(settings()).unwrap().finish().unwrap().is_none());
    }

    #[test]
    fn what_no_kernel_reads_is_refused() {
        let add = |name: &str, length| {
            let mut xattrs = Xattrs::new(settings()).unwrap();
            xattrs.number(1, &[xattr(name, &vec![7; length])])
        };
        let long = |length: usize| format!("user.{}", "n".repeat(length - 5));
        assert_eq!(add(&long(255), 65_536).unwrap(), 0);
        for (name, length, what) in [(long(256), 0, "256 bytes"), (long(10), 65_537, "65537 bytes")] {
            let error = add(&name, length).unwrap_err();
            assert_eq!(error.kind(), Kind::Capacity);
            assert!(error.to_string().contains(what), "{error}");
        }
    }
}
