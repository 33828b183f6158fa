//! ZAP objects: tables of names and values, hashed. Small ones are one block (micro), others have leaves behind a table of
//! pointers (fat).

use std::borrow::Cow;

use super::format::{ArrayChunk, EntryChunk, FatHeader, FreeChunk, LeafHeader, MicroEntry, MicroHeader};
use super::format::{OLD_LARGEST, SECTOR};
use crate::error::{Error, Kind, Result};
use crate::units::{index, narrow, u64_of, usize_of};
use crate::wire::Wire;

/// A value: a number, several short ones, or bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Number(u64),
    /// Numbers of 16 bits.
    Shorts(Vec<u16>),
    /// Bytes; a text has its NUL.
    Bytes(Vec<u8>),
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Bytes([text.as_bytes(), &[0]].concat())
    }
}

impl Value {
    /// Bytes of an integer, how many there are, and all of them, big-endian.
    fn parts(&self) -> (u8, usize, Vec<u8>) {
        match self {
            Self::Number(number) => (8, 1, number.to_be_bytes().to_vec()),
            Self::Shorts(numbers) => {
                (2, numbers.len(), numbers.iter().flat_map(|number| number.to_be_bytes()).collect())
            }
            Self::Bytes(bytes) => (1, bytes.len(), bytes.clone()),
        }
    }

    /// Bytes that it takes.
    fn length(&self) -> usize {
        match self {
            Self::Number(_) => 8,
            Self::Shorts(numbers) => 2 * numbers.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

/// The blocks of a ZAP object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blocks {
    /// Bytes of a block.
    pub(super) size: u64,
    pub(super) blocks: Vec<Vec<u8>>,
}

/// The table of CRC-64 (module/zfs/zfs.. zfs_crc64_table: the polynomial of ECMA-182, reflected).
const CRC: [u64; 256] = {
    let mut table = [0; 256];
    let mut number = 0_u64;
    while number < 256 {
        let mut value = number;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ 0xc96c_5795_d787_0f42 } else { value >> 1 };
            bit += 1;
        }
        table[usize_of(number)] = value;
        number += 1;
    }
    table
};

/// Bits of a hash that count (zap_impl.h, ZAP_HASHBITS without ZAP_FLAG_HASH64).
const HASH_BITS: u32 = 28;

/// The hash of a name (module/zfs/zap_micro.c, zap_hash).
pub(super) fn hash(salt: u64, name: &[u8]) -> u64 {
    let crc = name.iter().fold(salt, |hash, byte| {
        let [low, ..] = hash.to_le_bytes();
        hash >> 8 ^ CRC[usize::from(low ^ byte)]
    });
    crc & !(u64::MAX >> HASH_BITS)
}

/// A name with its hash, and what tells it from others of the same hash.
#[derive(Debug)]
struct Entry<'a> {
    hash: u64,
    /// The collision differentiator: different for all names of a hash (zap_micro.c, mze_compare).
    differentiator: u32,
    name: &'a [u8],
    value: &'a Value,
}

/// Bytes of the longest name of a micro ZAP, beside its NUL, and how many entries 128 KiB hold.
const LONGEST_MICRO: usize = 49;
const MOST_MICRO: usize = 2047;

/// log2 of the bytes of a fat ZAP's blocks (zap_impl.h, fzap_default_block_shift).
const SHIFT: u32 = 14;
/// Bytes of such a block.
const BLOCK: usize = 1 << SHIFT;
/// log2 of the pointers in the second half of the first block.
const EMBEDDED_SHIFT: u32 = SHIFT - 4;
/// log2 of the slots of a leaf's hash table (zap_leaf.h, ZAP_LEAF_HASH_SHIFT).
const LEAF_SHIFT: u32 = SHIFT - 5;
const LEAF_SLOTS: usize = 1 << LEAF_SHIFT;
/// Chunks of a leaf (zap_leaf.h, ZAP_LEAF_NUMCHUNKS): what the hash table leaves, without two that the header takes.
const CHUNKS: usize = (BLOCK - 2 * LEAF_SLOTS) / EntryChunk::LENGTH - 2;
/// Bytes of a name or value in a chunk (zap_leaf.h, ZAP_LEAF_ARRAY_BYTES).
pub(super) const ARRAY: usize = 21;
/// The end of a chain of chunks.
pub(super) const NONE: u16 = 0xffff;
/// Entries of a chain are sorted by their differentiator (zap_leaf.h, ZLF_ENTRIES_CDSORTED).
const SORTED: u8 = 1;

/// How names are hashed: as they are, or in a normal form (sys/u8_textprep.h has the flags). Names of ASCII, and no others
/// are here with flags, are their own normal forms except for upper case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form(u64);

impl Form {
    /// Every byte counts.
    pub(super) const BYTES: Self = Self(0);
    /// U8_TEXTPREP_TOUPPER.
    const UPPER: u64 = 2;

    pub(super) const fn new(normalization: u64, folds_case: bool) -> Self {
        Self(normalization | if folds_case { Self::UPPER } else { 0 })
    }

    /// What is hashed of a name.
    pub(super) fn of(self, name: &[u8]) -> Cow<'_, [u8]> {
        if self.0 & Self::UPPER == 0 { name.into() } else { name.to_ascii_uppercase().into() }
    }
}

/// The blocks of a ZAP with `entries`, whose names are unique, hashed with `salt`, which is not 0.
///
/// # Errors
/// [`Kind::Capacity`] for more names of one hash than a leaf holds, which no one meets by chance.
pub(super) fn build(salt: u64, form: Form, entries: &[(impl AsRef<[u8]>, Value)]) -> Result<Blocks> {
    let mut sorted: Vec<Entry<'_>> = entries
        .iter()
        .map(|(name, value)| {
            let name = name.as_ref();
            Entry { hash: hash(salt, &form.of(name)), differentiator: 0, name, value }
        })
        .collect();
    sorted.sort_by(|a, b| (a.hash, a.name).cmp(&(b.hash, b.name)));
    for at in 1..sorted.len() {
        if sorted[at].hash == sorted[at - 1].hash {
            sorted[at].differentiator = sorted[at - 1].differentiator + 1;
        }
    }
    let small =
        |entry: &Entry<'_>| matches!(entry.value, Value::Number(_)) && entry.name.len() <= LONGEST_MICRO;
    if sorted.len() <= MOST_MICRO && sorted.iter().all(small) {
        micro(salt, form, &sorted)
    } else {
        fat(salt, form, &sorted)
    }
}

/// A micro ZAP: its one block.
fn micro(salt: u64, form: Form, entries: &[Entry<'_>]) -> Result<Blocks> {
    let mut block =
        MicroHeader { mz_salt: salt, mz_normflags: form.0, ..MicroHeader::BLANK }.bytes().to_vec();
    for entry in entries {
        let Value::Number(number) = entry.value else {
            return Err(Error::bug("a micro ZAP has a value that is not a number"));
        };
        let mut own = MicroEntry { mze_value: *number, mze_cd: entry.differentiator, ..MicroEntry::BLANK };
        own.mze_name[..entry.name.len()].copy_from_slice(entry.name);
        block.extend(own.bytes());
    }
    let size = u64_of(block.len()).next_multiple_of(SECTOR);
    block.resize(usize_of(size), 0);
    debug_assert!(size <= OLD_LARGEST);
    Ok(Blocks { size, blocks: vec![block] })
}

/// A leaf: the entries whose hashes begin with the `length` bits of `prefix`.
struct Leaf<'a> {
    prefix: u64,
    length: u32,
    entries: &'a [Entry<'a>],
}

/// Chunks that an entry takes: itself, its name with a NUL, and its value.
fn chunks(entry: &Entry<'_>) -> usize {
    1 + (entry.name.len() + 1).div_ceil(ARRAY) + entry.value.length().div_ceil(ARRAY)
}

/// Splits entries, which are sorted by their hash, by its next bit until each leaf holds its own.
fn split<'a>(entries: &'a [Entry<'a>], prefix: u64, length: u32, leaves: &mut Vec<Leaf<'a>>) -> Result<()> {
    if entries.iter().map(chunks).sum::<usize>() <= CHUNKS {
        leaves.push(Leaf { prefix, length, entries });
        return Ok(());
    }
    if length == HASH_BITS {
        return Err(Error::new(Kind::Capacity, "too many names of a ZFS directory have the same hash"));
    }
    let bit = 1 << (63 - length);
    let (zeros, ones) = entries.split_at(entries.partition_point(|entry| entry.hash & bit == 0));
    split(zeros, prefix << 1, length + 1, leaves)?;
    split(ones, prefix << 1 | 1, length + 1, leaves)
}

fn fat(salt: u64, form: Form, entries: &[Entry<'_>]) -> Result<Blocks> {
    let mut leaves = Vec::new();
    split(entries, 0, 0, &mut leaves)?;
    let longest = leaves.iter().map(|leaf| leaf.length).max().unwrap_or_default();
    let shift = longest.max(EMBEDDED_SHIFT);
    // A table that is longer than half a block has blocks of its own, from the second on.
    let own = if shift > EMBEDDED_SHIFT { (8 << shift) / u64_of(BLOCK) } else { 0 };
    let first = 1 + own;
    let mut table = Vec::with_capacity(8 << shift);
    for (number, leaf) in (first..).zip(&leaves) {
        for _ in 0..1_u64 << (shift - leaf.length) {
            table.extend(u64::to_le_bytes(number));
        }
    }
    let header = FatHeader {
        zt_blk: u64::from(own > 0),
        zt_numblks: own,
        zt_shift: u64::from(shift),
        zap_freeblk: first + u64_of(leaves.len()),
        zap_num_leafs: u64_of(leaves.len()),
        zap_num_entries: u64_of(entries.len()),
        zap_salt: salt,
        zap_normflags: form.0,
        ..FatHeader::BLANK
    };
    let mut head = vec![0; BLOCK];
    header.write_to(&mut head);
    let mut blocks = vec![head];
    if own > 0 {
        blocks.extend(table.chunks_exact(BLOCK).map(<[u8]>::to_vec));
    } else {
        blocks[0][BLOCK / 2..].copy_from_slice(&table);
    }
    for leaf in &leaves {
        blocks.push(leaf.block()?);
    }
    Ok(Blocks { size: u64_of(BLOCK), blocks })
}

/// The chunks of a leaf on the way.
#[derive(Debug, Default)]
struct Chunks {
    bytes: Vec<u8>,
}

impl Chunks {
    /// The number of the next chunk.
    fn next(&self) -> Result<u16> {
        narrow(self.bytes.len() / EntryChunk::LENGTH, "the number of a chunk")
    }

    /// A chain of chunks with these bytes; the number of the first.
    fn array(&mut self, bytes: &[u8]) -> Result<u16> {
        let first = if bytes.is_empty() { NONE } else { self.next()? };
        let mut parts = bytes.chunks(ARRAY).peekable();
        while let Some(part) = parts.next() {
            let next = if parts.peek().is_some() { self.next()? + 1 } else { NONE };
            let mut chunk = ArrayChunk { la_next: next, ..ArrayChunk::BLANK };
            chunk.la_array[..part.len()].copy_from_slice(part);
            self.bytes.extend(chunk.bytes());
        }
        Ok(first)
    }
}

impl Leaf<'_> {
    fn block(&self) -> Result<Vec<u8>> {
        let mut slots = [NONE; LEAF_SLOTS];
        // The last entry of each slot's chain, which leads to the next.
        let mut last: Vec<Option<(usize, EntryChunk)>> = vec![None; LEAF_SLOTS];
        let mut chunks = Chunks::default();
        for entry in self.entries {
            let own = chunks.next()?;
            let place = chunks.bytes.len();
            chunks.bytes.extend([0; EntryChunk::LENGTH]);
            let (size, count, bytes) = entry.value.parts();
            let chunk = EntryChunk {
                le_value_intlen: size,
                le_next: NONE,
                le_name_chunk: chunks.array(&[entry.name, &[0]].concat())?,
                le_name_numints: narrow(entry.name.len() + 1, "the length of a name")?,
                le_value_chunk: chunks.array(&bytes)?,
                le_value_numints: narrow(count, "the length of a value")?,
                le_cd: entry.differentiator,
                le_hash: entry.hash,
                ..EntryChunk::BLANK
            };
            chunk.write_to(&mut chunks.bytes[place..]);
            let slot = index(narrow((entry.hash << self.length) >> (64 - LEAF_SHIFT), "a slot")?);
            match last[slot].replace((place, chunk)) {
                None => slots[slot] = own,
                Some((before, chunk)) => {
                    EntryChunk { le_next: own, ..chunk }.write_to(&mut chunks.bytes[before..]);
                }
            }
        }
        let used = chunks.next()?;
        let all: u16 = narrow(CHUNKS, "the number of chunks")?;
        for free in used..all {
            let next = if free + 1 < all { free + 1 } else { NONE };
            chunks.bytes.extend(FreeChunk { lf_next: next, ..FreeChunk::BLANK }.bytes());
        }
        let header = LeafHeader {
            lh_prefix: self.prefix,
            lh_nfree: all - used,
            lh_nentries: narrow(self.entries.len(), "the number of entries of a leaf")?,
            lh_prefix_len: narrow(self.length, "the length of a prefix")?,
            lh_freelist: if used < all { used } else { NONE },
            lh_flags: SORTED,
            ..LeafHeader::BLANK
        };
        let mut block = header.bytes().to_vec();
        block.extend(slots.iter().flat_map(|slot| slot.to_le_bytes()));
        block.extend(chunks.bytes);
        block.resize(BLOCK, 0);
        Ok(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn number(bytes: &[u8], offset: usize) -> u64 {
        u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap())
    }

    /// The bytes of a chain.
    fn chain(leaf: &[u8], mut chunk: u16, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while chunk != NONE {
            let at = 48 + 2 * LEAF_SLOTS + 24 * usize::from(chunk);
            let array = ArrayChunk::read(&leaf[at..]).unwrap();
            bytes.extend(array.la_array);
            chunk = array.la_next;
        }
        bytes.truncate(length);
        bytes
    }

    /// Looks a name up as zap_lookup does: its value's bytes.
    fn look(zap: &Blocks, name: &[u8]) -> Option<Vec<u8>> {
        let head = &zap.blocks[0];
        if number(head, 0) == 0x8000_0000_0000_0003 {
            let mut entries = head[64..].chunks_exact(64).map(|entry| MicroEntry::read(entry).unwrap());
            let mut padded = name.to_vec();
            padded.resize(50, 0);
            let entry = entries.find(|entry| entry.mze_name[..] == padded)?;
            return Some(entry.mze_value.to_be_bytes().to_vec());
        }
        let header = FatHeader::read(head).unwrap();
        let hash = hash(header.zap_salt, name);
        let slot = usize_of(hash >> (64 - header.zt_shift));
        let leaf = if header.zt_blk == 0 {
            number(head, BLOCK / 2 + 8 * slot)
        } else {
            number(&zap.blocks[usize_of(header.zt_blk) + 8 * slot / BLOCK], 8 * slot % BLOCK)
        };
        let block = &zap.blocks[usize_of(leaf)];
        let leaf = LeafHeader::read(block).unwrap();
        assert_eq!(leaf.lh_prefix, hash.checked_shr(64 - u32::from(leaf.lh_prefix_len)).unwrap_or(0));
        let slot = usize_of((hash << leaf.lh_prefix_len) >> (64 - LEAF_SHIFT));
        let mut chunk = u16::from_le_bytes(block[48 + 2 * slot..][..2].try_into().unwrap());
        while chunk != NONE {
            let entry = EntryChunk::read(&block[48 + 2 * LEAF_SLOTS + 24 * usize::from(chunk)..]).unwrap();
            let own = chain(block, entry.le_name_chunk, usize::from(entry.le_name_numints));
            if entry.le_hash == hash && own.strip_suffix(&[0]) == Some(name) {
                let length = usize::from(entry.le_value_numints) * usize::from(entry.le_value_intlen);
                return Some(chain(block, entry.le_value_chunk, length));
            }
            chunk = entry.le_next;
        }
        None
    }

    fn named(count: u64, length: usize) -> Vec<(String, Value)> {
        (0..count).map(|number| (format!("{number:0length$}"), Value::Number(number << 40 | 7))).collect()
    }

    #[test]
    fn every_name_is_found_in_tables_of_any_size() {
        for (count, length, blocks) in [(0, 1, 1), (2047, 49, 1), (2048, 4, 0), (5, 50, 2), (100_000, 8, 0)] {
            let entries = named(count, length);
            let zap = build(0x1234_5678_9abc_def1, Form::BYTES, &entries).unwrap();
            assert!(blocks == 0 || blocks == zap.blocks.len(), "{count}: {}", zap.blocks.len());
            assert!(zap.blocks.iter().all(|block| u64_of(block.len()) == zap.size));
            for (name, value) in &entries {
                assert_eq!(look(&zap, name.as_bytes()), Some(value.parts().2), "{name}");
            }
            assert_eq!(look(&zap, b"absent"), None);
        }
    }

    #[test]
    fn values_of_every_kind_come_back() {
        let entries = [
            ("text", Value::from("a text that is longer than one chunk")),
            ("shorts", Value::Shorts(vec![0x102, 3])),
            ("bytes", Value::Bytes(vec![9; 32])),
            ("number", Value::Number(5)),
        ];
        let zap = build(1, Form::BYTES, &entries).unwrap();
        for (name, value) in &entries {
            assert_eq!(look(&zap, name.as_bytes()), Some(value.parts().2), "{name}");
        }
        assert_eq!(look(&zap, b"shorts").unwrap(), [1, 2, 0, 3]);
        assert_eq!(look(&zap, b"text").unwrap().last(), Some(&0));
    }

    /// Upper and lower case have the same hash where a filesystem folds them, and flags say so.
    #[test]
    fn names_are_hashed_in_their_form() {
        let form = Form::new(0x10, true);
        let entries = [("Read Me", Value::Number(1)), ("READ ME", Value::Number(2))];
        let zap = build(1, form, &entries).unwrap();
        assert_eq!(number(&zap.blocks[0], 16), 0x12);
        let entries: Vec<_> =
            zap.blocks[0][64..].chunks(64).map(|entry| MicroEntry::read(entry).unwrap()).collect();
        assert_eq!((entries[0].mze_cd, entries[1].mze_cd), (0, 1));
        assert_eq!(hash(1, &form.of(b"read me")), hash(1, b"READ ME"));
    }

    /// mze_cd is part of the key of the kernel's tree.
    #[test]
    fn names_of_one_hash_are_told_apart() {
        let mut seen = BTreeSet::new();
        // 28 bits: among 60,000 names that are not alike a few have the same hash (60,000^2 / 2^29 = 6.7).
        let name = |number: u64| format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let entries: Vec<(String, Value)> = (0..60_000).map(|number| (name(number), number.into())).collect();
        let twins = entries.iter().filter(|(name, _)| !seen.insert(hash(1, name.as_bytes()))).count();
        assert!(twins > 0);
        let zap = build(1, Form::BYTES, &entries).unwrap();
        let mut differ = 0;
        for block in zap.blocks.iter().filter(|block| number(block, 0) == 1 << 63) {
            let leaf = LeafHeader::read(block).unwrap();
            let all = (0..CHUNKS).map(|chunk| &block[48 + 2 * LEAF_SLOTS + 24 * chunk..]);
            let entries: Vec<_> = all.filter_map(|chunk| EntryChunk::read(chunk).ok()).collect();
            assert_eq!(entries.len(), usize::from(leaf.lh_nentries));
            let keys: BTreeSet<_> = entries.iter().map(|entry| (entry.le_hash, entry.le_cd)).collect();
            assert_eq!(keys.len(), entries.len());
            differ += entries.iter().filter(|entry| entry.le_cd > 0).count();
        }
        assert_eq!(differ, twins);
    }
}
