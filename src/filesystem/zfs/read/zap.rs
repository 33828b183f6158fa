//! Tables of names and values.

use super::super::format::{ArrayChunk, EntryChunk, FatHeader, LeafHeader, MicroEntry, MicroHeader};
use super::super::zap::{ARRAY, NONE, hash};
use super::block::Blocks;
use super::object::Object;
use crate::error::{Error, Result};
use crate::filesystem::device::damaged;
use crate::units::usize_of;
use crate::wire::Wire;

/// An entry: its name, the bytes of each of its numbers, and all of these, big-endian.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) size: u8,
    pub(super) value: &'a [u8],
}

impl Entry<'_> {
    /// Its value, where that is one number.
    pub(super) fn number(&self) -> Result<u64> {
        let own: Option<[u8; 8]> = self.value.try_into().ok().filter(|_| self.size == 8);
        own.map(u64::from_be_bytes).ok_or_else(|| wrong("a value is not one number"))
    }
}

fn wrong(what: &str) -> Error {
    damaged(format!("a table of a ZFS pool is wrong: {what}"))
}

/// Hears of each entry, and says whether it wants more.
type Each<'a> = &'a mut dyn FnMut(Entry<'_>) -> Result<bool>;

impl Blocks {
    /// Passes each entry of a table to `each`, in the order of the disk, until it wants no more.
    pub(super) fn entries(&self, object: &Object, each: Each<'_>) -> Result<()> {
        let first = self.present(object, 0)?;
        if MicroHeader::read(&first).is_ok() {
            return micro(&first, each);
        }
        let table = Table::read(object, &first)?;
        let mut at = 0;
        while at >> table.shift == 0 {
            let leaf = self.present(object, table.leaf(self, object, at)?)?;
            let head = LeafHeader::read(&leaf)?;
            let length = u32::from(head.lh_prefix_len);
            // Each leaf has the pointers that begin with its prefix, which are met once.
            let bits =
                table.shift.checked_sub(length).ok_or_else(|| wrong("the prefix of a leaf is too long"))?;
            if head.lh_prefix != at >> bits || at & ((1 << bits) - 1) != 0 {
                return Err(wrong("a leaf is where another one is to be")
                    .expected(format!("the prefix {:#x}", at >> bits))
                    .found(format!("{:#x} of {length} bits", head.lh_prefix)));
            }
            if !leaf_entries(&leaf, each)? {
                return Ok(());
            }
            at += 1 << bits;
        }
        Ok(())
    }

    /// The number that a name has in a table.
    pub(super) fn find(&self, object: &Object, name: &[u8]) -> Result<Option<u64>> {
        let mut found = None;
        let mut look = |entry: Entry<'_>| {
            if entry.name == name {
                found = Some(entry.number()?);
            }
            Ok(found.is_none())
        };
        let first = self.present(object, 0)?;
        match FatHeader::read(&first) {
            // Only names that count as they are have the hash of their bytes.
            Ok(head) if head.zap_normflags == 0 => {
                let table = Table::read(object, &first)?;
                let at = hash(head.zap_salt, name).checked_shr(64 - table.shift).unwrap_or(0);
                let leaf = self.present(object, table.leaf(self, object, at)?)?;
                leaf_entries(&leaf, &mut look)?;
            }
            _ => self.entries(object, &mut look)?,
        }
        Ok(found)
    }

    /// The number that a name must have.
    pub(super) fn required(&self, object: &Object, name: &str) -> Result<u64> {
        self.find(object, name.as_bytes())?
            .ok_or_else(|| wrong("a name is not there").expected(name.to_owned()))
    }
}

/// The entries of a table of one block.
fn micro(block: &[u8], each: Each<'_>) -> Result<()> {
    for own in block.chunks_exact(MicroEntry::LENGTH).skip(1) {
        let entry = MicroEntry::read(own)?;
        let end = entry.mze_name.iter().position(|byte| *byte == 0);
        let name = &entry.mze_name[..end.ok_or_else(|| wrong("a name has no end"))?];
        if !name.is_empty() && !each(Entry { name, size: 8, value: &entry.mze_value.to_be_bytes() })? {
            break;
        }
    }
    Ok(())
}

/// The table of pointers of a table with leaves.
struct Table {
    /// The block with the first pointer, and the byte of it.
    block: u64,
    offset: u64,
    /// log2 of the pointers.
    shift: u32,
}

impl Table {
    fn read(object: &Object, first: &[u8]) -> Result<Self> {
        let head = FatHeader::read(first)?;
        let size = object.block();
        if !size.is_power_of_two() || head.zap_flags != 0 {
            return Err(wrong("it has names that are no text, or blocks that are no power of two"));
        }
        let embedded = size.trailing_zeros() - 4;
        let shift = u32::try_from(head.zt_shift).ok().filter(|shift| *shift <= 48);
        let shift = shift.ok_or_else(|| wrong("it has too many pointers").found(head.zt_shift))?;
        if head.zt_blk == 0 {
            if shift != embedded {
                return Err(wrong("its pointers do not fill half a block").expected(embedded).found(shift));
            }
            return Ok(Self { block: 0, offset: size / 2, shift });
        }
        let taken = (8_u64 << shift).div_ceil(size);
        let last = head.zt_blk.checked_add(taken.max(1) - 1);
        if taken != head.zt_numblks || last.is_none_or(|last| last > object.head.dn_maxblkid) {
            return Err(wrong("its pointers lie outside of it"));
        }
        Ok(Self { block: head.zt_blk, offset: 0, shift })
    }

    /// The block of the leaf for hashes that begin with the bits `at`.
    fn leaf(&self, blocks: &Blocks, object: &Object, at: u64) -> Result<u64> {
        let offset = self.offset + 8 * at;
        let block = blocks.present(object, self.block + offset / object.block())?;
        let own = block.get(usize_of(offset % object.block())..).and_then(|own| own.first_chunk());
        own.map(|own| u64::from_le_bytes(*own)).ok_or_else(|| wrong("a pointer lies outside of it"))
    }
}

/// The entries of a leaf; whether `each` wants more.
fn leaf_entries(leaf: &[u8], each: Each<'_>) -> Result<bool> {
    LeafHeader::read(leaf)?;
    // The slots of the hash take two bytes for each 32 of the block (zap_leaf.h, ZAP_LEAF_HASH_NUMENTRIES).
    let chunks = leaf.get(LeafHeader::LENGTH + leaf.len() / 16..).unwrap_or_default();
    let (mut name, mut value) = (Vec::new(), Vec::new());
    for own in chunks.chunks_exact(EntryChunk::LENGTH) {
        // Others are free, or parts of names and values.
        if own.first() != EntryChunk::BLANK.bytes().first() {
            continue;
        }
        let entry = EntryChunk::read(own)?;
        let named = usize::from(entry.le_name_numints);
        array(chunks, entry.le_name_chunk, named, &mut name)?;
        let length = usize::from(entry.le_value_numints) * usize::from(entry.le_value_intlen);
        if !matches!(entry.le_value_intlen, 1 | 2 | 4 | 8) {
            return Err(wrong("numbers have a length that cannot be").found(entry.le_value_intlen));
        }
        array(chunks, entry.le_value_chunk, length, &mut value)?;
        let own = name.strip_suffix(&[0]).filter(|own| !own.is_empty() && !own.contains(&0));
        let own = own.ok_or_else(|| wrong("a name has no end, or nothing before it"))?;
        if !each(Entry { name: own, size: entry.le_value_intlen, value: &value })? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Fills `out` with `length` bytes of a chain of chunks.
fn array(chunks: &[u8], first: u16, length: usize, out: &mut Vec<u8>) -> Result<()> {
    out.clear();
    let mut next = first;
    while out.len() < length {
        let at = usize::from(next) * ArrayChunk::LENGTH;
        let own = chunks.get(at..).filter(|_| next != NONE && out.len() <= chunks.len());
        let chunk = ArrayChunk::read(own.ok_or_else(|| wrong("a name or value is cut off"))?)?;
        out.extend_from_slice(&chunk.la_array[..ARRAY.min(length - out.len())]);
        next = chunk.la_next;
    }
    Ok(())
}
