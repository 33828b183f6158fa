//! Extended attributes: those inside an inode, those in its block, and file data that is stored among them.

use std::ops::Range;

use super::Ext4;
use super::inode::{FLAG_EA_INODE, Raw};
use super::map::{Go, Mapped};
use crate::error::{Error, Result};
use crate::filesystem::device::damaged;
use crate::filesystem::ext4::format::{Inode, XattrEntry, XattrHeader, XattrInodeHeader};
use crate::filesystem::ext4::xattr::{acl_exchanged, hash, prefix};
use crate::tree::Xattr;
use crate::units::{index, usize_of};
use crate::wire::{Field, Wire, field};

/// Bytes of an inode in the first revision.
const BASE: usize = 128;
/// The number of the namespace `system.`. Its attribute `data` is the rest of a file that is stored in its
/// inode.
const SYSTEM: u8 = 7;
const DATA: &[u8] = b"data";
/// The namespaces of the kernel's own attributes, which it shows nobody: the policy of an encrypted inode, whose name is
/// `c`, and what fs-verity keeps (linux/fs/ext4/xattr.h).
const ENCRYPTION: u8 = 9;
const POLICY: &[u8] = b"c";
const VERITY: u8 = 11;
/// The longest value (XATTR_SIZE_MAX).
const LONGEST: u32 = 65_536;

const CHECKSUM: Field = field(XattrHeader::FIELDS, "h_checksum");
const BLOCK: Field = field(Inode::FIELDS, "i_block");

/// An attribute as it is in an area.
struct Stored<'a> {
    /// The hash that its entry tells; 0 for none.
    hash: u32,
    namespace: u8,
    name: &'a [u8],
    value: Value,
}

/// The place of a value.
enum Value {
    /// These bytes of the area's inode or block.
    Here(Range<usize>),
    /// The data of another inode: its number and length.
    Elsewhere(u32, u32),
}

/// Reads the attributes of an area of `bytes`. Entries begin at `first`; offsets of values count from
/// `origin`.
fn stored(bytes: &[u8], first: usize, origin: usize) -> Result<Vec<Stored<'_>>> {
    let mut found = Vec::new();
    let mut at = first;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        // Four zero bytes end the entries, and so does the end of the area.
        if rest.len() < 4 || rest.iter().take(4).all(|byte| *byte == 0) {
            return Ok(found);
        }
        let entry = XattrEntry::read(rest).map_err(|_| damaged("an extended attribute is cut off"))?;
        let name = at + XattrEntry::LENGTH;
        let end = name + usize::from(entry.e_name_len);
        let name =
            bytes.get(name..end).ok_or_else(|| damaged("the name of an extended attribute is cut off"))?;
        let length = entry.e_value_size;
        let value = if entry.e_value_inum != 0 {
            Value::Elsewhere(entry.e_value_inum, length)
        } else {
            let start = origin + usize::from(entry.e_value_offs);
            let range = if length == 0 { 0..0 } else { start..start + index(length) };
            if bytes.get(range.clone()).is_none() {
                return Err(damaged("the value of an extended attribute lies outside its area"));
            }
            Value::Here(range)
        };
        found.push(Stored { hash: entry.e_hash, namespace: entry.e_name_index, name, value });
        at = end.next_multiple_of(4);
    }
}

impl Ext4 {
    /// All attributes of an inode, sorted by name.
    pub(super) fn xattrs(&self, raw: &Raw) -> Result<Vec<Xattr>> {
        let mut all = Vec::new();
        self.xattrs_of(&raw.bytes, inside(raw)?, &mut all)?;
        if raw.xattr_block() != 0 {
            let bytes = self.xattr_block(raw.xattr_block())?;
            self.xattrs_of(&bytes, stored(&bytes, XattrHeader::LENGTH, 0)?, &mut all)?;
        }
        all.sort();
        Ok(all)
    }

    /// Whether an inode has the attribute with its encryption policy.
    pub(super) fn has_encryption(&self, raw: &Raw) -> Result<bool> {
        let is_policy = |own: Stored<'_>| own.namespace == ENCRYPTION && own.name == POLICY;
        if inside(raw)?.into_iter().any(is_policy) {
            return Ok(true);
        }
        if raw.xattr_block() == 0 {
            return Ok(false);
        }
        let bytes = self.xattr_block(raw.xattr_block())?;
        Ok(stored(&bytes, XattrHeader::LENGTH, 0)?.into_iter().any(is_policy))
    }

    /// The names of attributes whose entries tell a wrong hash.
    pub(super) fn wrong_hashes(&self, raw: &Raw) -> Result<Vec<String>> {
        let wrong = |bytes: &[u8], stored: Vec<Stored<'_>>| -> Vec<String> {
            let is_wrong = |own: &Stored<'_>| match &own.value {
                Value::Here(range) if own.hash != 0 => bytes.get(range.clone()).is_some_and(|value| {
                    [false, true].iter().all(|signed| hash(own.name, value, *signed) != own.hash)
                }),
                _ => false,
            };
            stored.iter().filter(|own| is_wrong(own)).map(|own| crate::text::printable(own.name)).collect()
        };
        let mut found = wrong(&raw.bytes, inside(raw)?);
        if raw.xattr_block() != 0 {
            let bytes = self.xattr_block(raw.xattr_block())?;
            found.extend(wrong(&bytes, stored(&bytes, XattrHeader::LENGTH, 0)?));
        }
        Ok(found)
    }

    /// Clusters of values that are inodes of their own. They also count for the inode that has the attributes
    /// (linux/fs/ext4/xattr.c, ext4_xattr_inode_alloc_quota).
    pub(super) fn charged(&self, raw: &Raw) -> Result<u64> {
        let cluster = self.layout.block * self.layout.cluster;
        let sum = |stored: Vec<Stored<'_>>| -> u64 {
            let length = |own: Stored<'_>| match own.value {
                Value::Here(_) => 0,
                Value::Elsewhere(_, length) => u64::from(length).div_ceil(cluster),
            };
            stored.into_iter().map(length).sum()
        };
        let mut clusters = sum(inside(raw)?);
        if raw.xattr_block() != 0 {
            clusters += sum(stored(&self.xattr_block(raw.xattr_block())?, XattrHeader::LENGTH, 0)?);
        }
        Ok(clusters)
    }

    /// The bytes of a block of attributes.
    fn xattr_block(&self, number: u64) -> Result<Vec<u8>> {
        let bytes = self.block(number)?;
        match self.xattr_block_is_sound(number, &bytes)? {
            true => Ok(bytes),
            false => Err(damaged("the checksum of a block of extended attributes is wrong").found(number)),
        }
    }

    /// Whether the checksum of a block of attributes is right; true if there is none.
    pub(super) fn xattr_block_is_sound(&self, number: u64, bytes: &[u8]) -> Result<bool> {
        let header = XattrHeader::read(bytes)?;
        let Some(seed) = self.layout.seed else { return Ok(true) };
        let mut blank = bytes.to_vec();
        CHECKSUM.clear(&mut blank);
        Ok(header.h_checksum == seed.with(&number.to_le_bytes()).with(&blank).value())
    }

    /// Attributes as the kernel presents them.
    fn xattrs_of(&self, bytes: &[u8], stored: Vec<Stored<'_>>, all: &mut Vec<Xattr>) -> Result<()> {
        for Stored { namespace, name, value, .. } in stored {
            if namespace == SYSTEM && name == DATA || matches!(namespace, ENCRYPTION | VERITY) {
                continue;
            }
            let prefix = prefix(namespace).ok_or_else(|| {
                damaged("an extended attribute is in a namespace that is not known").found(namespace)
            })?;
            let value = match value {
                Value::Here(range) => bytes[range].to_vec(),
                Value::Elsewhere(inode, length) => self.long_value(inode, length)?,
            };
            let name = [prefix, name].concat();
            let value = if prefix.starts_with(b"system.posix_acl") { acl_exchanged(&value)? } else { value };
            all.push(Xattr { name, value });
        }
        Ok(())
    }

    /// A value that is the data of an inode of its own (ea_inode).
    fn long_value(&self, number: u32, length: u32) -> Result<Vec<u8>> {
        let wrong = |what: &str| {
            let error: Error = damaged(format!("the inode with the value of an attribute is wrong: {what}"));
            Err(error.found(format!("inode {number}")))
        };
        let raw = self.raw(number)?;
        if !raw.has(FLAG_EA_INODE) || !raw.is_sound(self.layout.seed) {
            return wrong("it is damaged, or another kind of inode");
        }
        if length > LONGEST || u64::from(length) > raw.size(self) {
            return wrong("it is too short, or the value too long");
        }
        let mut value = vec![0; index(length)];
        let block = self.layout.block;
        self.walk(&raw, &mut |mapped| {
            if let Mapped::Data { logical, physical, length } = mapped {
                for number in 0..length {
                    let from = usize_of((logical + number).saturating_mul(block));
                    let Some(rest) = value.get_mut(from..) else { break };
                    let bytes = self.block(physical + number)?;
                    for (to, byte) in rest.iter_mut().zip(bytes) {
                        *to = byte;
                    }
                }
            }
            Ok(Go::On)
        })?;
        Ok(value)
    }

    /// The range of an inode's bytes that holds the rest of its inline data.
    pub(super) fn inline_rest(&self, raw: &Raw) -> Result<Option<Range<usize>>> {
        let data = inside(raw)?.into_iter().find(|own| own.namespace == SYSTEM && own.name == DATA);
        match data.map(|data| data.value) {
            Some(Value::Here(range)) => Ok((!range.is_empty()).then_some(range)),
            Some(Value::Elsewhere(..)) => {
                Err(damaged("inline data lies in another inode").found(format!("inode {}", raw.number)))
            }
            None => Ok(None),
        }
    }

    /// The ranges of an inode's bytes with its inline data, in the order of the file, cut at its size. What the file has
    /// behind them reads as zeros (linux/fs/ext4/inline.c, ext4_read_inline_folio): mke2fs stores no trailing zeros.
    pub(super) fn inline_parts(&self, raw: &Raw) -> Result<Vec<Range<usize>>> {
        let size = usize_of(raw.size(self));
        let first = BLOCK.offset..BLOCK.offset + size.min(BLOCK.length);
        let mut parts = vec![first];
        let left = size.saturating_sub(BLOCK.length);
        if left > 0
            && let Some(rest) = self.inline_rest(raw)?
        {
            parts.push(rest.start..rest.start + left.min(rest.len()));
        }
        Ok(parts)
    }
}

/// The attributes inside an inode.
fn inside(raw: &Raw) -> Result<Vec<Stored<'_>>> {
    let start = BASE + raw.extra;
    let area = raw.bytes.get(start..).unwrap_or_default();
    // Most inodes have none. So the number is compared, and no error is made only to be dropped.
    if !area.starts_with(&XattrInodeHeader::BLANK.bytes()) {
        return Ok(Vec::new());
    }
    let first = start + XattrInodeHeader::LENGTH;
    stored(&raw.bytes, first, first)
}
