//! Reading streams of metadata: blocks of up to 8 KiB, decompressed when they are needed, the last few kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::codec::Compressor;
use super::super::format::{METADATA, METADATA_RAW, Place};
use crate::error::Result;
use crate::filesystem::device::{Device, damaged};
use crate::units::u64_of;
use crate::wire::Wire;

/// How many blocks are kept: half a MiB of them.
const KEPT: usize = 64;

/// A block as it was before compression, and where the next one begins.
#[derive(Debug)]
struct Block {
    at: u64,
    bytes: Vec<u8>,
    next: u64,
}

/// The blocks of metadata of an image.
#[derive(Debug)]
pub(super) struct Metadata {
    pub(super) device: Device,
    compressor: Compressor,
    /// The one used last comes last.
    kept: Mutex<VecDeque<Arc<Block>>>,
}

/// A stream of metadata: where its first block is, and where its blocks end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Metadata {
    pub(super) fn new(device: Device, compressor: Compressor) -> Self {
        Self { device, compressor, kept: Mutex::default() }
    }

    /// A reader that begins at `place` of `stream`.
    pub(super) fn reader(&self, stream: Stream, place: Place) -> Reader<'_> {
        let at = stream.start.saturating_add(place.block);
        Reader { metadata: self, end: stream.end, at, offset: usize::from(place.offset) }
    }

    /// Entry `number` of a table whose index is at `index`; entries have `length` bytes, a power of two up to 8 KiB.
    pub(super) fn entry(&self, index: Stream, number: u64, length: usize) -> Result<Vec<u8>> {
        let each = u64_of(METADATA / length);
        let position = index.start.saturating_add(number / each * 8);
        if position.saturating_add(8) > index.end {
            return Err(damaged("the index of a table is too short").found(format!("entry {number}")));
        }
        let mut start = [0; 8];
        self.device.read(position, &mut start)?;
        let start = u64::from_le_bytes(start);
        // Less than 8 KiB.
        let offset = crate::units::low16(number % each * u64_of(length));
        let mut reader = self.reader(Stream { start, end: index.start }, Place { block: 0, offset });
        reader.bytes(length)
    }

    /// Looks at all blocks of a table; the last one ends with it.
    ///
    /// # Errors
    /// [`Kind::Format`](crate::error::Kind::Format) where one cannot be read.
    pub(super) fn walk(&self, table: Stream) -> Result<()> {
        let mut at = table.start;
        while at < table.end {
            at = self.read(at, table.end)?.next;
        }
        Ok(())
    }

    /// The block whose header is at `at`. The whole block is before `end`.
    fn block(&self, at: u64, end: u64) -> Result<Arc<Block>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = kept.iter().rposition(|block| block.at == at) {
            let block = kept.remove(number).ok_or_else(|| damaged("a block is gone"))?;
            kept.push_back(Arc::clone(&block));
            return Ok(block);
        }
        drop(kept);
        let block = Arc::new(self.read(at, end)?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::clone(&block));
        Ok(block)
    }

    fn read(&self, at: u64, end: u64) -> Result<Block> {
        let wrong = |what: &str| {
            damaged(format!("a block of metadata is wrong: {what}")).found(format!("at byte {at}"))
        };
        let first = at.checked_add(2).filter(|first| *first <= end);
        let first = first.ok_or_else(|| wrong("it lies outside its table"))?;
        let mut header = [0; 2];
        self.device.read(at, &mut header)?;
        let header = u16::from_le_bytes(header);
        let (length, raw) = (usize::from(header & !METADATA_RAW), header & METADATA_RAW != 0);
        if length == 0 || length > METADATA {
            return Err(wrong("its length cannot be").expected("1 to 8192").found(length));
        }
        let next = first + u64_of(length);
        if next > end {
            return Err(wrong("it ends outside its table"));
        }
        let stored = self.device.bytes(first, length)?;
        if raw {
            return Ok(Block { at, bytes: stored, next });
        }
        let mut bytes = vec![0; METADATA];
        let length = self.compressor.decode(&stored, &mut bytes).map_err(|why| wrong(&why))?;
        bytes.truncate(length);
        Ok(Block { at, bytes, next })
    }
}

/// Reads a stream record by record.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    metadata: &'a Metadata,
    end: u64,
    at: u64,
    offset: usize,
}

impl Reader<'_> {
    /// Where the next record begins, from the start of the image.
    pub(super) fn place(&self) -> Result<(u64, usize)> {
        if self.offset < METADATA {
            return Ok((self.at, self.offset));
        }
        Ok((self.metadata.block(self.at, self.end)?.next, 0))
    }

    /// Fills `out` with what comes next.
    pub(super) fn fill(&mut self, mut out: &mut [u8]) -> Result<()> {
        while !out.is_empty() {
            let block = self.metadata.block(self.at, self.end)?;
            let left = block.bytes.get(self.offset..).ok_or_else(|| {
                damaged("a record begins behind the end of its block")
                    .expected(format!("less than {}", block.bytes.len()))
                    .found(self.offset)
            })?;
            let (now, later) = out.split_at_mut(left.len().min(out.len()));
            now.copy_from_slice(&left[..now.len()]);
            self.offset += now.len();
            out = later;
            if !out.is_empty() {
                (self.at, self.offset) = (block.next, 0);
            }
        }
        Ok(())
    }

    /// The next `length` bytes; the caller bounds the length.
    pub(super) fn bytes(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// The next structure.
    pub(super) fn structure<T: Wire>(&mut self) -> Result<T> {
        T::read(&self.bytes(T::LENGTH)?)
    }

    /// The next number of 32 bits.
    pub(super) fn number(&mut self) -> Result<u32> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }
}
