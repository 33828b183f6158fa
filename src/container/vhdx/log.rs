//! The log: changes that a writer had begun when it was interrupted ([MS-VHDX], 2.3). A reader must apply the
//! log first. Here it is applied to the data that is read, and the file stays unchanged.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::format::{DataDescriptor, DataSector, LOG_CHECKSUM, LogHead, Region, ZeroDescriptor, checksum};
use crate::container::source::Source;
use crate::error::{Error, Result};
use crate::units::{MIB, joined, u64_of, usize_of};
use crate::wire::{Guid, Wire};

/// The alignment of a log and of its changes.
const SECTOR: u64 = 4096;
/// The longest log that is applied. Hyper-V's logs have 1 MiB.
const LONGEST: u64 = 64 * MIB;
/// Bytes of an entry's header, and of a descriptor.
const HEAD: u64 = u64_of(LogHead::LENGTH);
const DESCRIPTOR: u64 = u64_of(DataDescriptor::LENGTH);

/// The new contents of a range of the file: zeros, or a sector of 4096 bytes.
type Change = Option<Box<[u8]>>;

/// A file with its log applied.
#[derive(Debug)]
pub(super) struct View {
    pub(super) source: Arc<Source>,
    /// Changed ranges without overlap: start, end and change.
    changes: BTreeMap<u64, (u64, Change)>,
    /// Its length.
    pub(super) size: u64,
    /// How many entries were applied.
    pub(super) applied: u64,
}

impl View {
    /// The file without a log.
    pub(super) fn new(source: &Arc<Source>) -> Self {
        Self { source: Arc::clone(source), changes: BTreeMap::new(), size: source.size, applied: 0 }
    }

    /// The file with the log of `id` in `region` applied.
    ///
    /// # Errors
    /// A log that is too long, or one that was written to a longer file.
    pub(super) fn replayed(source: &Arc<Source>, region: Region, id: Uuid) -> Result<Self> {
        let mut view = Self::new(source);
        if region.length > LONGEST {
            return Err(source
                .wrong("the log is too long to be applied", region.offset)
                .expected(format!("at most {LONGEST} bytes"))
                .found(region.length)
                .hint("apply it with `qemu-img check -r all`"));
        }
        let log = Log { source, region, id };
        for entry in log.active()? {
            log.apply(&entry, &mut view)?;
            view.applied += 1;
        }
        Ok(view)
    }

    /// `length` bytes at `offset`; `what` names them in errors.
    pub(super) fn read(&self, offset: u64, length: u64, what: &str) -> Result<Vec<u8>> {
        let mut bytes = self.source.read(offset, length, what)?;
        for (start, end, change) in self.changed(offset, length) {
            let (from, to) = (start.max(offset), end.min(offset + length));
            let out = &mut bytes[usize_of(from - offset)..usize_of(to - offset)];
            match change {
                None => out.fill(0),
                Some(sector) => out.copy_from_slice(&sector[usize_of(from - start)..usize_of(to - start)]),
            }
        }
        Ok(bytes)
    }

    /// Whether `length` bytes at `offset` are known to be zero without a read.
    pub(super) fn is_hole(&self, offset: u64, length: u64) -> bool {
        self.source.is_hole(offset, length) && self.changed(offset, length).next().is_none()
    }

    /// The first of `length` bytes at `offset` that the log changes.
    pub(super) fn first_change(&self, offset: u64, length: u64) -> Option<u64> {
        self.changed(offset, length).next().map(|(start, ..)| start.max(offset))
    }

    fn changed(&self, offset: u64, length: u64) -> impl Iterator<Item = (u64, u64, &Change)> {
        let end = offset.saturating_add(length);
        let first = self.changes.range(..=offset).next_back().filter(|(_, (end, _))| *end > offset);
        let from = first.map_or(offset, |(start, _)| *start);
        self.changes.range(from..end.max(from)).map(|(start, (end, change))| (*start, *end, change))
    }

    /// Changes `start..end` over the changes of earlier entries.
    fn change(&mut self, start: u64, end: u64, change: Change) {
        let overlapped: Vec<(u64, u64)> = self.changed(start, end - start).map(|(a, b, _)| (a, b)).collect();
        for (a, b) in overlapped {
            // Only zeros can extend beyond the range: a sector is either inside or outside.
            self.changes.remove(&a);
            if a < start {
                self.changes.insert(a, (start, None));
            }
            if b > end {
                self.changes.insert(end, (b, None));
            }
        }
        self.changes.insert(start, (end, change));
    }
}

/// A valid entry: its place in the log, and its header.
#[derive(Clone, Copy, Debug)]
struct Entry {
    at: u64,
    length: u64,
    tail: u64,
    sequence: u64,
    descriptors: u64,
    flushed: u64,
    last: u64,
}

impl Entry {
    /// Sectors before its data: header and descriptors.
    const fn head_sectors(&self) -> u64 {
        (HEAD + self.descriptors * DESCRIPTOR).div_ceil(SECTOR)
    }
}

/// A log that is being read.
struct Log<'a> {
    source: &'a Source,
    region: Region,
    id: Uuid,
}

impl Log<'_> {
    /// The sector `number` sectors after byte `at` of the log; the log is a ring.
    fn sector(&self, at: u64, number: u64) -> Result<Vec<u8>> {
        let offset = (at + number * SECTOR) % self.region.length;
        self.source.read(self.region.offset + offset, SECTOR, "the log")
    }

    /// The entries to apply, in order: the valid sequence with the largest number, from the beginning that
    /// its last entry gives (2.3.3).
    fn active(&self) -> Result<Vec<Entry>> {
        let mut best: Vec<Entry> = Vec::new();
        let mut at = 0;
        while at < self.region.length {
            let found = self.sequence(at)?;
            let last = found.last().map_or(0, |entry| entry.sequence);
            // If the ring starts again after a sequence, the search is at its end.
            at = found.iter().fold(at, |at, entry| at + entry.length).max(at + SECTOR);
            if last > best.last().map_or(0, |entry| entry.sequence)
                && let Some(first) =
                    found.iter().position(|entry| found.last().is_some_and(|last| last.tail == entry.at))
            {
                best = found[first..].to_vec();
            }
        }
        Ok(best)
    }

    /// The valid consecutive entries from byte `at` on, with ascending numbers. At most as long as the log.
    fn sequence(&self, at: u64) -> Result<Vec<Entry>> {
        let mut found: Vec<Entry> = Vec::new();
        let mut length = 0;
        while let Some(entry) = self.entry((at + length) % self.region.length)? {
            length += entry.length;
            let follows =
                found.last().is_none_or(|last| last.sequence.checked_add(1) == Some(entry.sequence));
            if !follows || length > self.region.length {
                break;
            }
            found.push(entry);
        }
        Ok(found)
    }

    /// The entry at byte `at`, if there is a valid one. Only the first sector of an entry looks like the
    /// start of one, so a search at every sector reads each sector only a few times.
    fn entry(&self, at: u64) -> Result<Option<Entry>> {
        let first = self.sector(at, 0)?;
        // Other sectors do not begin an entry.
        let Ok(head) = LogHead::read(&first) else { return Ok(None) };
        let entry = Entry {
            at,
            length: u64::from(head.entry_length),
            tail: u64::from(head.tail),
            sequence: head.sequence_number,
            descriptors: u64::from(head.descriptor_count),
            flushed: head.flushed_file_offset,
            last: head.last_file_offset,
        };
        let fits =
            entry.length > 0 && entry.length.is_multiple_of(SECTOR) && entry.length <= self.region.length;
        if !fits
            || entry.sequence == 0
            || head.log != Guid(self.id)
            || entry.head_sectors() * SECTOR > entry.length
        {
            return Ok(None);
        }
        let mut sum = checksum(&first, LOG_CHECKSUM);
        let mut data = 0;
        for number in 0..entry.length / SECTOR {
            let sector = if number == 0 { first.clone() } else { self.sector(at, number)? };
            if number > 0 {
                sum = crc32c::crc32c_append(sum, &sector);
            }
            if number < entry.head_sectors() {
                for descriptor in descriptors(&entry, number, &sector) {
                    match Descriptor::of(&entry, descriptor) {
                        Some(Descriptor::Data(_)) => data += 1,
                        Some(Descriptor::Zero(_)) => {}
                        None => return Ok(None),
                    }
                }
            } else if !is_data(&entry, &sector) {
                return Ok(None);
            }
        }
        let whole = data == entry.length / SECTOR - entry.head_sectors() && sum == head.checksum;
        Ok(whole.then_some(entry))
    }

    /// Applies a valid entry.
    fn apply(&self, entry: &Entry, view: &mut View) -> Result<()> {
        if entry.flushed > self.source.size {
            return Err(self
                .source
                .wrong(
                    "the image is truncated: its log was written to a longer file",
                    self.region.offset + entry.at,
                )
                .expected(format!("{} bytes", entry.flushed))
                .found(format!("{} bytes", self.source.size)));
        }
        view.size = view.size.max(entry.last);
        let mut data = entry.head_sectors();
        for number in 0..entry.head_sectors() {
            let sector = self.sector(entry.at, number)?;
            for descriptor in descriptors(entry, number, &sector) {
                match Descriptor::of(entry, descriptor) {
                    Some(Descriptor::Zero(ZeroDescriptor { file_offset, zero_length, .. })) => {
                        if zero_length > 0 {
                            view.change(file_offset, file_offset.saturating_add(zero_length), None);
                        }
                    }
                    Some(Descriptor::Data(descriptor)) => {
                        // Marks replace some bytes of the sector; those bytes are in the descriptor.
                        let mut bytes = self.sector(entry.at, data)?;
                        let end = bytes.len() - descriptor.trailing_bytes.len();
                        bytes[..descriptor.leading_bytes.len()].copy_from_slice(&descriptor.leading_bytes);
                        bytes[end..].copy_from_slice(&descriptor.trailing_bytes);
                        let start = descriptor.file_offset;
                        view.change(start, start.saturating_add(SECTOR), Some(bytes.into_boxed_slice()));
                        data += 1;
                    }
                    None => return Err(Error::bug("a descriptor of the log was valid and is not")),
                }
            }
        }
        Ok(())
    }
}

/// The descriptors of `entry` in its sector `number`.
fn descriptors<'a>(entry: &Entry, number: u64, sector: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let skipped = if number == 0 { HEAD } else { 0 };
    let before = (number * SECTOR).saturating_sub(HEAD) / DESCRIPTOR;
    let count = usize_of(entry.descriptors.saturating_sub(before));
    sector[usize_of(skipped)..].chunks_exact(usize_of(DESCRIPTOR)).take(count)
}

/// A change by an entry.
enum Descriptor {
    Data(DataDescriptor),
    Zero(ZeroDescriptor),
}

impl Descriptor {
    /// A descriptor of `entry`, if it is a valid one.
    fn of(entry: &Entry, bytes: &[u8]) -> Option<Self> {
        if let Ok(data) = DataDescriptor::read(bytes) {
            let valid = data.sequence_number == entry.sequence && data.file_offset.is_multiple_of(SECTOR);
            return valid.then_some(Self::Data(data));
        }
        let zero = ZeroDescriptor::read(bytes).ok()?;
        let valid = zero.sequence_number == entry.sequence
            && zero.file_offset.is_multiple_of(SECTOR)
            && zero.zero_length.is_multiple_of(SECTOR);
        valid.then_some(Self::Zero(zero))
    }
}

/// Whether a sector holds data of `entry`: it contains the entry's number in two halves.
fn is_data(entry: &Entry, sector: &[u8]) -> bool {
    DataSector::read(sector)
        .is_ok_and(|sector| joined(sector.sequence_low, sector.sequence_high) == entry.sequence)
}
