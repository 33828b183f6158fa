//! Extended attributes: inside the inode if they fit, otherwise in one block that inodes with equal
//! attributes share (kernel.org, ext4, "Extended Attributes"; linux/fs/ext4/xattr.h).

use std::collections::BTreeMap;

use super::checksum::Checksum;
use super::form::Form;
use super::format::{XattrEntry, XattrHeader, XattrInodeHeader};
use crate::error::{Error, Kind, Result};
use crate::filesystem::namespace;
use crate::option::option;
use crate::text::printable;
use crate::tree::xattr::LONGEST_NAME;
use crate::tree::{NodeId, Tree, Xattr, acl};
use crate::units::{index, narrow};
use crate::wire::Wire;

/// The largest number of inodes that share one block (EXT4_XATTR_REFCOUNT_MAX).
const MOST_SHARERS: u32 = 1024;
/// The space that attributes have.
impl Form {
    /// Space for entries and values inside the inode, after the magic word; 0 in an inode of 128 bytes.
    fn space_in_inode(&self) -> usize {
        (self.inode - self.attributes_at()).saturating_sub(XattrInodeHeader::LENGTH)
    }

    /// Space for entries and values in the block.
    fn space_in_block(&self) -> usize {
        self.block_length() - XattrHeader::LENGTH
    }
}

/// An attribute in its stored form: its namespace is a number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stored {
    index: u8,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Stored {
    /// Bytes of its entry and its value, both rounded up to a multiple of 4.
    fn length(&self) -> usize {
        (XattrEntry::LENGTH + self.name.len()).next_multiple_of(4) + self.value.len().next_multiple_of(4)
    }

    /// The order of entries in a block: namespace, length of the name, name (ext4_xattr_cmp_entry).
    fn order(&self) -> (u8, usize, &[u8]) {
        (self.index, self.name.len(), &self.name)
    }
}

/// The place of the attributes of each set of a tree.
#[derive(Debug, Default)]
pub(super) struct Xattrs {
    /// For each set of the tree: the bytes inside the inode, and the number of its block content.
    sets: Vec<(Vec<u8>, Option<usize>)>,
    /// The different block contents.
    blocks: Vec<Vec<Stored>>,
    /// Number of inodes of each block content.
    users: Vec<u32>,
}

impl Xattrs {
    /// Lays out every set of `tree`. `users` are the nodes that have inodes of their own.
    pub(super) fn new(form: &Form, tree: &Tree, users: impl Iterator<Item = NodeId>) -> Result<Self> {
        let mut plan = Self::default();
        let mut known: BTreeMap<Vec<Stored>, usize> = BTreeMap::new();
        let mut first_user = BTreeMap::new();
        let mut counts = vec![0_u32; tree.xattr_sets().len()];
        for node in users {
            let set = tree.node(node).meta.xattrs;
            if set != 0 {
                first_user.entry(set).or_insert(node);
                *counts.get_mut(index(set)).ok_or_else(|| no_set(set))? += 1;
            }
        }
        for (set, xattrs) in tree.xattr_sets().iter().enumerate() {
            let number = narrow(set, "the number of a set of attributes")?;
            let (inside, rest) = match first_user.get(&number) {
                Some(node) => split(form, xattrs).map_err(|error| error.at(tree.path(*node)))?,
                None => (Vec::new(), Vec::new()),
            };
            let block = if rest.is_empty() {
                None
            } else {
                let next = plan.blocks.len();
                let block = *known.entry(rest.clone()).or_insert(next);
                if block == next {
                    plan.blocks.push(rest);
                    plan.users.push(0);
                }
                plan.users[block] += counts[set];
                Some(block)
            };
            plan.sets.push((inside, block));
        }
        Ok(plan)
    }

    /// The bytes inside the inodes of a set.
    pub(super) fn inside(&self, set: u32) -> Result<&[u8]> {
        self.sets.get(index(set)).map(|(inside, _)| inside.as_slice()).ok_or_else(|| no_set(set))
    }

    /// The block content of the inodes of a set.
    pub(super) fn block(&self, set: u32) -> Result<Option<usize>> {
        self.sets.get(index(set)).map(|(_, block)| *block).ok_or_else(|| no_set(set))
    }

    /// How many copies of each block content are needed, so that none has too many inodes.
    pub(super) fn copies(&self) -> impl Iterator<Item = u64> + '_ {
        self.users.iter().map(|users| u64::from(users.div_ceil(MOST_SHARERS)))
    }

    /// The copy for the `ordinal`-th inode of a block content.
    pub(super) const fn copy_of(ordinal: u32) -> u32 {
        ordinal / MOST_SHARERS
    }

    /// Copy `copy` of a block content, for block `address`.
    pub(super) fn block_bytes(
        &self,
        form: &Form,
        content: usize,
        copy: u32,
        address: u64,
        seed: Checksum,
    ) -> Result<Vec<u8>> {
        let no_content = || Error::bug(format!("there is no block content {content} of attributes"));
        let stored = self.blocks.get(content).ok_or_else(no_content)?;
        let users = *self.users.get(content).ok_or_else(no_content)?;
        let sharers = users.checked_sub(copy * MOST_SHARERS).filter(|sharers| *sharers > 0);
        let sharers = sharers
            .ok_or_else(|| Error::bug(format!("copy {copy} of a block of attributes has no inode")))?;
        let mut bytes = vec![0; form.block_length()];
        let h_hash = entries(&mut bytes, XattrHeader::LENGTH, 0, stored, true)?;
        let mut header =
            XattrHeader { h_refcount: sharers.min(MOST_SHARERS), h_blocks: 1, h_hash, ..XattrHeader::BLANK };
        header.write_to(&mut bytes);
        if form.has_checksums() {
            header.h_checksum = seed.with(&address.to_le_bytes()).with(&bytes).value();
            header.write_to(&mut bytes);
        }
        Ok(bytes)
    }
}

/// The error for a set of attributes that does not exist in the tree.
fn no_set(set: u32) -> Error {
    Error::bug(format!("there is no set {set} of extended attributes"))
}

/// Splits attributes between the inode and the block. The inode gets as many as fit, in the order of
/// namespaces, so that ACLs and capabilities, which every access needs, are read with the inode. If the rest
/// is then too much for the block, the inode is filled as well as possible. So every set that another ext4
/// could hold also fits here.
fn split(form: &Form, xattrs: &[Xattr]) -> Result<(Vec<u8>, Vec<Stored>)> {
    let mut all = xattrs.iter().map(stored).collect::<Result<Vec<_>>>()?;
    all.sort_by(|a, b| (a.index == 1).cmp(&(b.index == 1)).then_with(|| a.order().cmp(&b.order())));
    let lengths: Vec<usize> = all.iter().map(Stored::length).collect();
    let whole: usize = lengths.iter().sum();
    let length = |chosen: &[usize]| chosen.iter().filter_map(|at| lengths.get(*at)).sum::<usize>();
    // In both areas four zero bytes end the entries.
    let mut chosen = in_order(&lengths, form.space_in_inode().saturating_sub(4));
    if whole - length(&chosen) + 4 > form.space_in_block() {
        chosen = tightest(&lengths, form.space_in_inode().saturating_sub(4));
    }
    let needed = whole - length(&chosen);
    if needed + 4 > form.space_in_block() {
        let largest = xattrs.iter().max_by_key(|xattr| xattr.value.len());
        let name = largest.map_or(String::new(), |xattr| {
            format!("; the largest is `{}` with {} bytes", printable(&xattr.name), xattr.value.len())
        });
        return Err(Error::new(Kind::Capacity, "the extended attributes do not fit an ext4 inode")
            .expected(format!("at most {} bytes beside those in the inode", form.space_in_block() - 4))
            .found(format!("{needed} bytes{name}"))
            .why("without ea_inode, which GRUB refuses, one block holds them all"));
    }
    let (mut inside, mut rest) = (Vec::new(), Vec::new());
    for (at, xattr) in all.into_iter().enumerate() {
        if chosen.contains(&at) { inside.push(xattr) } else { rest.push(xattr) }
    }
    rest.sort_by(|a, b| a.order().cmp(&b.order()));
    inside.sort_by(|a, b| a.order().cmp(&b.order()));
    let mut bytes = Vec::new();
    if !inside.is_empty() {
        bytes = vec![0; form.inode - form.attributes_at()];
        XattrInodeHeader::BLANK.write_to(&mut bytes);
        // Offsets of values count from the first entry in an inode, and from the start of a block.
        let first = XattrInodeHeader::LENGTH;
        entries(&mut bytes, first, first, &inside, false)?;
    }
    Ok((bytes, rest))
}

/// The attributes that fit into `space` one after the other, by their numbers.
fn in_order(lengths: &[usize], space: usize) -> Vec<usize> {
    let mut left = space;
    let fits = |(at, length): (usize, &usize)| {
        left = left.checked_sub(*length)?;
        Some(at)
    };
    lengths.iter().enumerate().filter_map(fits).collect()
}

/// The attributes that fill `space` best. Among equal choices, it takes the one whose last attribute is the
/// earliest.
fn tightest(lengths: &[usize], space: usize) -> Vec<usize> {
    // For each total length, the first choice found with that length. In an inode of 256 bytes the space is 88 bytes and
    // lengths are multiples of 4, so there are 23 lengths.
    let mut found: Vec<Option<Vec<usize>>> = vec![None; space + 1];
    found[0] = Some(Vec::new());
    for (at, length) in lengths.iter().enumerate() {
        for sum in (*length..=space).rev() {
            if found[sum].is_none()
                && let Some(before) = &found[sum - length]
            {
                let mut choice = before.clone();
                choice.push(at);
                found[sum] = Some(choice);
            }
        }
    }
    found.into_iter().rev().flatten().next().unwrap_or_default()
}

/// Writes entries upwards from `first` and values downwards from the end. Returns the hash of all entries.
/// Value offsets count from `origin`.
fn entries(out: &mut [u8], first: usize, origin: usize, stored: &[Stored], hashed: bool) -> Result<u32> {
    let (mut at, mut value) = (first, out.len());
    let mut sum = 0_u32;
    for xattr in stored {
        value -= xattr.value.len().next_multiple_of(4);
        out[value..value + xattr.value.len()].copy_from_slice(&xattr.value);
        // An empty value has no place.
        let offset = if xattr.value.is_empty() { 0 } else { value - origin };
        let e_hash = if hashed { entry_hash(xattr) } else { 0 };
        let entry = XattrEntry {
            e_name_len: narrow(xattr.name.len(), "e_name_len")?,
            e_name_index: xattr.index,
            e_value_offs: narrow(offset, "e_value_offs")?,
            e_value_inum: 0,
            e_value_size: narrow(xattr.value.len(), "e_value_size")?,
            e_hash,
        };
        entry.write_to(&mut out[at..]);
        // ext4_xattr_rehash: an entry without a hash would make the block unshareable; all of ours have one.
        sum = sum.rotate_left(16) ^ e_hash;
        let name = at + XattrEntry::LENGTH;
        out[name..name + xattr.name.len()].copy_from_slice(&xattr.name);
        at = (name + xattr.name.len()).next_multiple_of(4);
    }
    Ok(sum)
}

/// ext4_xattr_hash_entry: the name with a rotation of 5 bits, then the value with 16 bits for each word.
/// Names are hashed as unsigned bytes, as in Linux since 6.2; for ASCII both ways agree.
fn entry_hash(xattr: &Stored) -> u32 {
    hash(&xattr.name, &xattr.value, false)
}

/// The hash of a name and a value. Kernels whose bytes are signed took them so in names, and readers accept both
/// (linux/fs/ext4/xattr.c, ext4_xattr_hash_entry_signed).
pub(super) fn hash(name: &[u8], value: &[u8], signed: bool) -> u32 {
    let wide =
        |byte: u8| if signed { i32::from(byte.cast_signed()).cast_unsigned() } else { u32::from(byte) };
    let hash = name.iter().fold(0_u32, |hash, byte| hash.rotate_left(5) ^ wide(*byte));
    value.chunks(4).fold(hash, |hash, chunk| {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        hash.rotate_left(16) ^ u32::from_le_bytes(word)
    })
}

/// The prefix of names in a namespace.
pub(super) fn prefix(index: u8) -> Option<&'static [u8]> {
    /// Namespaces that we never write: the kernel's own, and ACLs of NFSv4.
    const OTHERS: [(&[u8], u8); 2] = [(b"system.", 7), (b"system.richacl", 8)];
    let other = || OTHERS.iter().find(|(_, number)| *number == index).map(|(prefix, _)| *prefix);
    namespace::prefix(index).or_else(other)
}

/// An attribute in its stored form.
fn stored(xattr: &Xattr) -> Result<Stored> {
    if let Some((index, name)) = namespace::split(&xattr.name).filter(|_| xattr.name.len() <= LONGEST_NAME) {
        let acl = namespace::is_acl(index);
        let value = if acl { acl_on_disk(&xattr.value)? } else { xattr.value.clone() };
        return Ok(Stored { index, name: name.to_vec(), value });
    }
    Err(Error::new(Kind::Capacity, "ext4 cannot hold this extended attribute")
        .expected("user.*, trusted.*, security.* or a POSIX ACL")
        .found(printable(&xattr.name))
        .hint(format!("leave it out of the patterns of {}", option("xattrs"))))
}

/// Converts a POSIX ACL from the kernel's exchange form (version 2: tag, permissions and id for every entry;
/// include/uapi/linux/posix_acl_xattr.h) to the form on disk (version 1: an id only if it has a meaning;
/// linux/fs/ext4/acl.h).
fn acl_on_disk(value: &[u8]) -> Result<Vec<u8>> {
    let bad = |why: &str| {
        Err(Error::new(Kind::Source, "a POSIX ACL is not understood")
            .expected("version 2 and entries of 8 bytes with known tags")
            .found(why.to_owned()))
    };
    let Some(entries) = value.strip_prefix(&2_u32.to_le_bytes()) else { return bad("another version") };
    let mut out = 1_u32.to_le_bytes().to_vec();
    let mut chunks = entries.chunks_exact(8);
    for entry in &mut chunks {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        match tag {
            // ACL_USER_OBJ, ACL_GROUP_OBJ, ACL_MASK, ACL_OTHER
            acl::USER_OBJ | acl::GROUP_OBJ | acl::MASK | acl::OTHER => out.extend_from_slice(&entry[..4]),
            // ACL_USER, ACL_GROUP
            acl::USER | acl::GROUP => out.extend_from_slice(entry),
            _ => return bad(&format!("tag {tag:#x}")),
        }
    }
    if chunks.remainder().is_empty() { Ok(out) } else { bad("a length that is no multiple of 8") }
}

/// The inverse of [`acl_on_disk`].
pub(super) fn acl_exchanged(value: &[u8]) -> Result<Vec<u8>> {
    /// The id of an entry without an id (ACL_UNDEFINED_ID).
    const NONE: [u8; 4] = u32::MAX.to_le_bytes();
    let bad = || Error::new(Kind::Format, "a POSIX ACL on the disk is not understood");
    let mut rest = value.strip_prefix(&1_u32.to_le_bytes()).ok_or_else(bad)?;
    let mut out = 2_u32.to_le_bytes().to_vec();
    while let Some((entry, behind)) = rest.split_first_chunk::<4>() {
        out.extend_from_slice(entry);
        rest = behind;
        match u16::from_le_bytes([entry[0], entry[1]]) {
            acl::USER_OBJ | acl::GROUP_OBJ | acl::MASK | acl::OTHER => out.extend_from_slice(&NONE),
            acl::USER | acl::GROUP => {
                let (id, behind) = rest.split_first_chunk::<4>().ok_or_else(bad)?;
                out.extend_from_slice(id);
                rest = behind;
            }
            _ => return Err(bad()),
        }
    }
    if rest.is_empty() { Ok(out) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xattr(name: &str, value: &[u8]) -> Xattr {
        Xattr { name: name.as_bytes().to_vec(), value: value.to_vec() }
    }

    #[test]
    fn acls_lose_the_ids_that_mean_nothing() {
        let mut value = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in
            [(1_u16, 7_u16, u32::MAX), (2, 5, 1000), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)]
        {
            value.extend(tag.to_le_bytes());
            value.extend(permissions.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        let disk = acl_on_disk(&value).unwrap();
        assert_eq!(disk.len(), 4 + 4 * 4 + 8);
        assert_eq!(disk[8..16], [2, 0, 5, 0, 0xe8, 3, 0, 0]);
        assert_eq!(acl_exchanged(&disk).unwrap(), value);
        for wrong in [&disk[..3], &disk[..10], &disk[1..], &[1, 0, 0, 0, 3, 0, 0, 0]] {
            assert_eq!(acl_exchanged(wrong).unwrap_err().kind(), Kind::Format);
        }
        assert!(acl_on_disk(&value[..11]).is_err());
        assert!(acl_on_disk(&[1, 0, 0, 0]).is_err());
    }

    #[test]
    fn what_fits_stands_in_the_inode_and_the_rest_in_the_block() {
        let (inside, rest) =
            split(&Form::default(), &[xattr("user.a", b"1"), xattr("user.b", &[7; 300])]).unwrap();
        assert_eq!(inside.len(), 96);
        assert_eq!(rest.len(), 1);
        // 92 bytes minus 4 of end mark: an entry of 20 and a value of 68 fill them.
        let (_, rest) = split(&Form::default(), &[xattr("user.abcd", &[1; 68])]).unwrap();
        assert!(rest.is_empty());
        let (_, rest) = split(&Form::default(), &[xattr("user.abcd", &[1; 69])]).unwrap();
        assert_eq!(rest.len(), 1);
        assert!(
            split(&Form::default(), &[xattr("user.big", &[1; 5000])])
                .unwrap_err()
                .to_string()
                .contains("big")
        );
        assert!(split(&Form::default(), &[xattr("btrfs.compression", b"zstd")]).is_err());
        let error =
            split(&Form::default(), &[xattr("user.big", &[1; 5000]), xattr("user.b", b"")]).unwrap_err();
        assert!(error.to_string().contains("`user.big` with 5000 bytes"), "{error}");
        // 4096 - 32 - 4 = 4060: an entry of 20 and a value of 4040 fill the block.
        assert!(split(&Form::default(), &[xattr("user.abcd", &[1; 4040])]).is_ok());
        assert!(split(&Form::default(), &[xattr("user.abcd", &[1; 4041])]).is_err());
    }

    #[test]
    fn the_inode_takes_as_much_as_it_can_where_the_block_is_full() {
        // Entries of 20 bytes with their values: 60, 88 and 4000. With the first one inside, 4088 bytes would
        // be left for the 4060 of the block.
        let lengths = [("user.a", 40), ("user.b", 68), ("user.c", 4040 - 60)];
        let set: Vec<Xattr> = lengths.iter().map(|(name, length)| xattr(name, &vec![1; *length])).collect();
        let (inside, rest) = split(&Form::default(), &set).unwrap();
        assert_eq!(inside.len(), 96);
        let names: Vec<&[u8]> = rest.iter().map(|stored| stored.name.as_slice()).collect();
        assert_eq!(names, [b"a", b"c"]);
        // If there is enough space, the order of namespaces decides.
        let (_, rest) = split(&Form::default(), &set[..2]).unwrap();
        assert_eq!(rest[0].name, b"b");
        assert_eq!(tightest(&[60, 88, 28, 88], 88), [1]);
        assert_eq!(tightest(&[60, 40, 28], 88), [0, 2]);
        assert!(tightest(&[92, 100], 88).is_empty());
        let set = [xattr("user.a", &[1; 40]), xattr("user.b", &[1; 68]), xattr("user.c", &[1; 3984])];
        assert!(split(&Form::default(), &set).is_err(), "4 bytes too much");
    }
}
