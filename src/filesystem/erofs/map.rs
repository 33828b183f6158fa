//! The map of a compressed file: for each block of the file ("logical cluster") whether a compressed piece begins there,
//! how many blocks the piece takes, or how far away the head is (linux/fs/erofs/zmap.c,
//! z_erofs_load_compact_lcluster).
//!
//! Entries stand in packs: two of 16 bits in 8 bytes, or sixteen of 14 bits in 32 bytes on a multiple of 32, each with the
//! address of its first piece.

use super::format::cluster::{BLOCKS, HEAD, NONHEAD, PLAIN};
use super::pack::{File, Packed};
use crate::error::{Error, Result};
use crate::image::records;
use crate::units::{narrow, usize_of};

/// Bytes of a short pack and of a long one, and their entries.
const SHORT: u64 = 8;
const SHORT_ENTRIES: u64 = 2;
const LONG: u64 = 32;
const LONG_ENTRIES: u64 = 16;

/// The packs of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packs {
    /// Short packs up to the first multiple of 32.
    first: u64,
    long: u64,
    last: u64,
}

impl Packs {
    /// Of `total` entries that begin at byte `at`, a multiple of 8.
    pub(super) fn new(total: u64, at: u64) -> Self {
        let lead = (LONG - at % LONG) / 4 % SHORT;
        if lead >= total {
            return Self { first: total.div_ceil(SHORT_ENTRIES), long: 0, last: 0 };
        }
        let rest = total - lead;
        Self {
            first: lead / SHORT_ENTRIES,
            long: rest / LONG_ENTRIES,
            last: (rest % LONG_ENTRIES).div_ceil(SHORT_ENTRIES),
        }
    }

    /// Bytes of all packs.
    pub(super) const fn length(&self) -> u64 {
        SHORT * (self.first + self.last) + LONG * self.long
    }

    /// Fills `out` with their bytes from `skip` on; `pack` makes one of so many entries from its first.
    fn fill(&self, skip: u64, out: &mut [u8], pack: impl Fn(u64, u64) -> Result<Vec<u8>>) -> Result<()> {
        let lead = self.first * SHORT_ENTRIES;
        let behind = lead + self.long * LONG_ENTRIES;
        let parts = [
            (self.first * SHORT, SHORT, SHORT_ENTRIES, 0),
            (self.long * LONG, LONG, LONG_ENTRIES, lead),
            (self.last * SHORT, SHORT, SHORT_ENTRIES, behind),
        ];
        let (mut skip, mut out) = (skip, out);
        for (length, size, entries, from) in parts {
            if skip >= length {
                skip -= length;
                continue;
            }
            let all = usize_of(length - skip).min(out.len());
            let (now, later) = out.split_at_mut(all);
            records(size, skip, now, |number| pack(from + number * entries, entries))?;
            (skip, out) = (0, later);
        }
        if out.is_empty() { Ok(()) } else { Err(Error::bug("the map of a file is shorter than its place")) }
    }
}

/// The map of a file that begins in block `start`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Map<'a> {
    pub(super) packed: &'a Packed,
    pub(super) file: &'a File,
    pub(super) start: u64,
    pub(super) packs: Packs,
    /// How many entries there are.
    pub(super) total: u64,
}

impl Map<'_> {
    /// Fills `out` with the bytes of the packs from `skip` on.
    pub(super) fn fill(&self, skip: u64, out: &mut [u8]) -> Result<()> {
        self.packs.fill(skip, out, |first, count| self.pack(first, count))
    }

    /// The pack of entries `first..first + count`.
    fn pack(&self, first: u64, count: u64) -> Result<Vec<u8>> {
        let width = if count == LONG_ENTRIES { 14 } else { 16 };
        let mut bits = 0_u64;
        let (mut filled, mut bytes) = (0, Vec::new());
        for number in first..first + count {
            let entry =
                if number < self.total { self.entry(number, number + 1 == first + count)? } else { 0 };
            bits |= u64::from(entry) << filled;
            filled += width;
            while filled >= 8 {
                bytes.push(crate::units::low8(bits));
                bits >>= 8;
                filled -= 8;
            }
        }
        let base: u32 = narrow(self.base(first)?, "the address of a compressed piece")?;
        bytes.extend(base.to_le_bytes());
        Ok(bytes)
    }

    /// Which chunk a block of the file is in, and which of the chunk's blocks it is.
    const fn place(&self, number: u64) -> (u64, u64) {
        let each = self.packed.blocks_of_chunk();
        (number / each, number % each)
    }

    /// An entry; the last of its pack tells the way to the next head, where the others tell that to their own.
    fn entry(&self, number: u64, last: bool) -> Result<u16> {
        let (chunk, own) = self.place(number);
        let chunk = self.packed.chunk(self.file, chunk)?;
        if chunk.blocks == chunk.from {
            return Ok(PLAIN << 12);
        }
        let value = match own {
            0 => return Ok(HEAD << 12),
            1 => u64::from(BLOCKS) | chunk.blocks,
            _ if last => chunk.from - own,
            _ => own,
        };
        Ok(NONHEAD << 12 | narrow::<u16>(value, "an entry of a map")?)
    }

    /// The address that a pack counts from: of the first piece whose length an entry of the pack tells.
    fn base(&self, first: u64) -> Result<u64> {
        let (number, own) = self.place(first);
        let chunk = self.packed.chunk(self.file, number)?;
        let begins = self.start + chunk.start;
        Ok(match own {
            _ if chunk.blocks == chunk.from => begins + own,
            0 | 1 => begins,
            _ => begins + chunk.blocks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_are_those_of_the_kernel() {
        let packs = |total, at| {
            let Packs { first, long, last } = Packs::new(total, at);
            (first, long, last)
        };
        assert_eq!(packs(2, 8), (1, 0, 0));
        assert_eq!(packs(6, 8), (3, 0, 0));
        assert_eq!(packs(7, 8), (3, 0, 1));
        assert_eq!(packs(22, 8), (3, 1, 0));
        assert_eq!(packs(40, 0), (0, 2, 4));
        assert_eq!(packs(41, 24), (1, 2, 4));
    }

    #[test]
    fn any_part_of_the_packs_is_that_part_of_the_whole() {
        let packs = Packs::new(61, 16);
        let pack = |first: u64, count: u64| {
            Ok((first..first + count * if count == 2 { 4 } else { 2 }).map(crate::units::low8).collect())
        };
        let mut whole = vec![0; usize_of(packs.length())];
        packs.fill(0, &mut whole, pack).unwrap();
        for from in 0..whole.len() {
            let mut part = vec![0; whole.len() - from];
            packs.fill(crate::units::u64_of(from), &mut part, pack).unwrap();
            assert_eq!(part, whole[from..]);
        }
        assert!(packs.fill(1, &mut vec![0; whole.len()], pack).is_err());
    }
}
