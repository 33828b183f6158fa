//! Reads a volume through its journal: what the log holds stands in place of the older blocks, as if the journal had been
//! replayed (kernel.org, ext4, "Journal (jbd2)"; linux/fs/jbd2/recovery.c). Nothing is written.

use std::collections::BTreeMap;

use super::Ext4;
use super::map::{Go, Mapped};
use crate::error::Result;
use crate::filesystem::device::damaged;
use crate::filesystem::ext4::checksum::Checksum;
use crate::filesystem::ext4::format::{JournalHeader, JournalSuperblock, JournalTag, JournalTag3};
use crate::image::{Builder, Slice};
use crate::units::{Bytes, index, joined, u64_of, usize_of};
use crate::wire::Wire;

/// Kinds of blocks of the log.
const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const REVOKE: u32 = 5;

/// s_feature_incompat of the journal (linux/include/linux/jbd2.h).
const WITH_REVOKES: u32 = 0x1;
const WIDE: u32 = 0x2;
const ASYNC_COMMIT: u32 = 0x4;
const CHECKSUMS_2: u32 = 0x8;
const CHECKSUMS_3: u32 = 0x10;
const FAST_COMMIT: u32 = 0x20;

/// Flags of a tag: its block began with the magic number, which is zero in the log; no UUID follows; it is the last.
const ESCAPED: u32 = 1;
const SAME_UUID: u32 = 2;
const LAST: u32 = 8;

/// Bytes of a UUID after a tag, and of a checksum at the end of a block.
const UUID: usize = 16;
const TAIL: usize = 4;
/// Where the checksum of a commit block is: after the header, and type and size of the checksum.
const COMMIT_CHECKSUM: usize = 16;
/// Where the blocks of a revocation begin: after the header and their length.
const REVOKED: usize = 16;

/// The magic number of every block of the log, which an escaped block begins with.
const MAGIC: [u8; 4] = [0xc0, 0x3b, 0x39, 0x98];

/// A volume with the newer blocks of its journal.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) slice: Slice,
    /// How many blocks are newer.
    pub(super) blocks: u64,
    /// Whether there may be fast commits, which are not read.
    pub(super) fast: bool,
}

/// A block that the log has.
#[derive(Clone, Copy, Debug)]
struct Newer {
    /// Where in the journal it is.
    at: u64,
    escaped: bool,
    /// Its checksum, and the bits of it that are recorded.
    checksum: Option<(u32, u32)>,
}

/// What a descriptor block tells of a block of the volume.
struct Tag {
    block: u64,
    escaped: bool,
    checksum: Option<(u32, u32)>,
}

/// The log of a volume.
struct Log<'a> {
    volume: &'a Ext4,
    superblock: JournalSuperblock,
    /// The runs of the journal's blocks: first block of the journal, first of the volume, and how many.
    runs: Vec<(u64, u64, u64)>,
    /// The last block of the log, exclusive.
    end: u64,
    seed: Option<Checksum>,
}

/// A transaction that was committed.
#[derive(Debug, Default)]
struct Transaction {
    sequence: u32,
    written: Vec<(u64, Newer)>,
    revoked: Vec<u64>,
}

/// Whether sequence `one` is later than `other`; the numbers begin again after the largest.
const fn is_later(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() > 0
}

/// The volume in `slice`, which `volume` reads, with what its journal holds.
///
/// # Errors
/// [`Kind::Format`](crate::error::Kind::Format) where the journal is damaged, lies elsewhere, or has features that are not
/// read.
pub(super) fn replay(volume: &Ext4, slice: &Slice) -> Result<Replayed> {
    let log = Log::open(volume)?;
    let transactions = log.transactions()?;
    let mut revoked: BTreeMap<u64, u32> = BTreeMap::new();
    for transaction in &transactions {
        for block in &transaction.revoked {
            revoked.insert(*block, transaction.sequence);
        }
    }
    let mut newer = BTreeMap::new();
    for transaction in &transactions {
        for (block, place) in &transaction.written {
            let is_revoked = revoked.get(block).is_some_and(|until| !is_later(transaction.sequence, *until));
            if !is_revoked {
                newer.insert(*block, *place);
            }
        }
    }
    let (blocks, fast) = (u64_of(newer.len()), log.superblock.s_feature_incompat & FAST_COMMIT != 0);
    Ok(Replayed { slice: log.over(slice, newer)?, blocks, fast })
}

/// The faults of the log of a volume: blocks whose checksum is wrong.
///
/// # Errors
/// As [`replay`].
pub(super) fn faults(volume: &Ext4) -> Result<Vec<String>> {
    let log = Log::open(volume)?;
    let mut found = Vec::new();
    let mut last = None;
    for transaction in log.transactions_with(&mut |at| last = Some(at))? {
        for (block, newer) in &transaction.written {
            if !log.data_is_sound(transaction.sequence, newer)? {
                let (at, sequence) = (newer.at, transaction.sequence);
                found.push(format!(
                    "its block {at}, a copy of block {block} by transaction {sequence}, has a wrong checksum"
                ));
            }
        }
    }
    if let Some(at) = last {
        found.push(format!("its block {at} has a wrong checksum, and what follows is not replayed"));
    }
    Ok(found)
}

impl<'a> Log<'a> {
    fn open(volume: &'a Ext4) -> Result<Self> {
        let number = volume.layout.superblock.s_journal_inum;
        if number == 0 {
            return Err(damaged("the journal is on another device"));
        }
        let raw = volume.used(number.into())?;
        let mut runs = Vec::new();
        volume.walk(&raw, &mut |mapped| {
            if let Mapped::Data { logical, physical, length } = mapped {
                runs.push((logical, physical, length));
            }
            Ok(Go::On)
        })?;
        let mut log = Self { volume, superblock: JournalSuperblock::BLANK, runs, end: 1, seed: None };
        let bytes = log.block(0)?;
        log.superblock = JournalSuperblock::read(&bytes)?;
        // The superblock of the first version has no features.
        if log.superblock.h_blocktype != 4 {
            log.superblock.s_feature_incompat = 0;
        }
        let superblock = &log.superblock;
        if u64::from(superblock.s_blocksize) != volume.layout.block {
            return Err(damaged("the journal has blocks of another size").found(superblock.s_blocksize));
        }
        let known = WITH_REVOKES | WIDE | ASYNC_COMMIT | CHECKSUMS_2 | CHECKSUMS_3 | FAST_COMMIT;
        let features = superblock.s_feature_incompat;
        if features & !known != 0 {
            return Err(damaged("the journal has features that are not read")
                .found(format!("{:#x}", features & !known)));
        }
        if features & (CHECKSUMS_2 | CHECKSUMS_3) != 0 {
            log.seed = Some(Checksum::of_filesystem(superblock.s_uuid));
        }
        let fast = if features & FAST_COMMIT == 0 {
            0
        } else if superblock.s_num_fc_blks == 0 {
            // JBD2_DEFAULT_FAST_COMMIT_BLOCKS.
            256
        } else {
            superblock.s_num_fc_blks
        };
        log.end = u64::from(superblock.s_maxlen.saturating_sub(fast));
        let (first, start) = (u64::from(superblock.s_first), u64::from(superblock.s_start));
        if first == 0 || first >= log.end || (start != 0 && !(first..log.end).contains(&start)) {
            return Err(damaged("the superblock of the journal is wrong")
                .found(format!("s_first {first}, s_start {start}, s_maxlen {}", superblock.s_maxlen)));
        }
        Ok(log)
    }

    /// Where in the volume a block of the journal is.
    fn place(&self, block: u64) -> Result<u64> {
        let after = self.runs.partition_point(|(logical, ..)| *logical <= block);
        let run = after.checked_sub(1).and_then(|at| self.runs.get(at));
        run.and_then(|(logical, physical, length)| {
            (block - logical < *length).then(|| physical + (block - logical))
        })
        .ok_or_else(|| damaged("a block of the journal is missing").found(block))
    }

    fn block(&self, block: u64) -> Result<Vec<u8>> {
        self.volume.block(self.place(block)?)
    }

    /// The block after `block` in the log, which goes round.
    fn next(&self, block: u64) -> u64 {
        if block + 1 >= self.end { self.superblock.s_first.into() } else { block + 1 }
    }

    /// The transactions that were committed. The first block that is not of the expected one ends the log.
    fn transactions(&self) -> Result<Vec<Transaction>> {
        self.transactions_with(&mut |_| {})
    }

    /// The same; `damaged` hears of the block that ends the log though it is of the expected transaction.
    fn transactions_with(&self, damaged: &mut dyn FnMut(u64)) -> Result<Vec<Transaction>> {
        let (mut at, mut sequence) = (u64::from(self.superblock.s_start), self.superblock.s_sequence);
        let mut found = Vec::new();
        if at == 0 {
            return Ok(found);
        }
        let mut open = Transaction { sequence, ..Transaction::default() };
        // No log is longer than its journal.
        let mut left = self.end;
        while left > 0 {
            left -= 1;
            let bytes = self.block(at)?;
            let Ok(header) = JournalHeader::read(&bytes) else { break };
            if header.h_sequence != sequence {
                break;
            }
            match header.h_blocktype {
                DESCRIPTOR if self.tail_is_sound(&bytes) => {
                    for Tag { block, escaped, checksum } in self.tags(&bytes)? {
                        at = self.next(at);
                        left = left.saturating_sub(1);
                        open.written.push((block, Newer { at, escaped, checksum }));
                    }
                }
                REVOKE if self.tail_is_sound(&bytes) => open.revoked.extend(self.revoked(&bytes)?),
                COMMIT if self.commit_is_sound(&bytes) => {
                    sequence = sequence.wrapping_add(1);
                    found.push(std::mem::replace(
                        &mut open,
                        Transaction { sequence, ..Transaction::default() },
                    ));
                }
                DESCRIPTOR | REVOKE | COMMIT => {
                    damaged(at);
                    break;
                }
                _ => break,
            }
            at = self.next(at);
        }
        Ok(found)
    }

    /// The blocks that a descriptor block tells.
    fn tags(&self, bytes: &[u8]) -> Result<Vec<Tag>> {
        let features = self.superblock.s_feature_incompat;
        let (third, wide) = (features & CHECKSUMS_3 != 0, features & WIDE != 0);
        // linux/fs/jbd2/journal.c, journal_tag_bytes.
        let length = match (third, wide) {
            (true, _) => JournalTag3::LENGTH,
            (false, _) => {
                JournalTag::LENGTH + if features & CHECKSUMS_2 != 0 { 2 } else { 0 }
                    - if wide { 0 } else { 4 }
            }
        };
        let end = bytes.len() - if self.seed.is_some() { TAIL } else { 0 };
        let (mut at, mut found) = (JournalHeader::LENGTH, Vec::new());
        while at + length <= end {
            // A short tag is read with what follows it, or zeros.
            let mut tag = [0; JournalTag3::LENGTH];
            let rest = &bytes[at..bytes.len().min(at + tag.len())];
            tag[..rest.len()].copy_from_slice(rest);
            let (low, high, flags, checksum) = if third {
                let tag = JournalTag3::read(&tag)?;
                (tag.t_blocknr, tag.t_blocknr_high, tag.t_flags, (tag.t_checksum, u32::MAX))
            } else {
                let tag = JournalTag::read(&tag)?;
                (tag.t_blocknr, tag.t_blocknr_high, tag.t_flags.into(), (tag.t_checksum.into(), 0xffff))
            };
            let block = joined(low, if wide { high } else { 0 });
            if block >= self.volume.layout.blocks {
                return Err(damaged("the journal has a block that lies outside the filesystem").found(block));
            }
            let checksum = self.seed.map(|_| checksum);
            found.push(Tag { block, escaped: flags & ESCAPED != 0, checksum });
            if flags & LAST != 0 {
                break;
            }
            at += length + if flags & SAME_UUID == 0 { UUID } else { 0 };
        }
        Ok(found)
    }

    /// The blocks that a revocation block names: older ones of them are not replayed.
    fn revoked(&self, bytes: &[u8]) -> Result<Vec<u64>> {
        let wide = self.superblock.s_feature_incompat & WIDE != 0;
        let mut length = [0; 4];
        length.copy_from_slice(&bytes[REVOKED - 4..REVOKED]);
        let end = index(u32::from_be_bytes(length));
        let wrong = || damaged("a revocation of the journal is longer than its block").found(end);
        let body = bytes.get(REVOKED..end).ok_or_else(wrong)?;
        Ok(if wide {
            body.as_chunks().0.iter().map(|number| u64::from_be_bytes(*number)).collect()
        } else {
            body.as_chunks().0.iter().map(|number| u64::from(u32::from_be_bytes(*number))).collect()
        })
    }

    /// Whether the checksum at the end of a block is right; true if there is none.
    fn tail_is_sound(&self, bytes: &[u8]) -> bool {
        let Some(seed) = self.seed else { return true };
        let (covered, tail) = bytes.split_at(bytes.len() - TAIL);
        // The checksum covers itself as zero.
        seed.with(covered).with(&[0; TAIL]).value().to_be_bytes() == tail
    }

    /// Whether the checksum of a block of the volume, as the log has it, is right; true if there is none.
    fn data_is_sound(&self, sequence: u32, newer: &Newer) -> Result<bool> {
        let (Some(seed), Some((told, mask))) = (self.seed, newer.checksum) else { return Ok(true) };
        let sum = seed.with(&sequence.to_be_bytes()).with(&self.block(newer.at)?);
        Ok(sum.value() & mask == told)
    }

    /// The same for a commit block, whose checksum is at its beginning.
    fn commit_is_sound(&self, bytes: &[u8]) -> bool {
        let Some(seed) = self.seed else { return true };
        let mut blank = bytes.to_vec();
        blank[COMMIT_CHECKSUM..COMMIT_CHECKSUM + TAIL].fill(0);
        seed.with(&blank).value().to_be_bytes() == bytes[COMMIT_CHECKSUM..COMMIT_CHECKSUM + TAIL]
    }

    /// The volume with newer blocks in their places.
    fn over(&self, slice: &Slice, newer: BTreeMap<u64, Newer>) -> Result<Slice> {
        let block = self.volume.layout.block;
        let mut whole = Builder::new(slice.length());
        let mut at = Bytes::ZERO;
        for (number, place) in newer {
            let start = Bytes::new(number * block);
            whole.put(at, &slice.sub(at, start));
            let from = self.place(place.at)? * block;
            if place.escaped {
                let mut bytes = self.volume.device.bytes(from, usize_of(block))?;
                bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
                whole.put(start, &Slice::ready("block of the journal", bytes));
            } else {
                whole.put(start, &self.volume.device.slice(from, block)?);
            }
            at = start + Bytes::new(block);
        }
        whole.put(at, &slice.sub(at, slice.length()));
        Ok(whole.finish()?.whole())
    }
}
