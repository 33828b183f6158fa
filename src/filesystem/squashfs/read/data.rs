//! The data of files: blocks that are decompressed when they are read, the last few kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::codec::Compressor;
use super::super::format::{DATA_RAW, Fragment};
use super::Squashfs;
use super::inode::Blocks;
use crate::error::{Error, Result};
use crate::filesystem::device::damaged;
use crate::image::{Builder, Cursor, Render, Slice};
use crate::units::{Bytes, index, u64_of, usize_of};
use crate::wire::Wire;

/// How many blocks are kept: 8 MiB of the largest.
const KEPT: usize = 8;

/// A block of data as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) start: u64,
    /// Its length, and whether it is not compressed, as the field has it.
    pub(super) field: u32,
    /// Which bytes of it, once it is decompressed, are meant.
    pub(super) from: usize,
    pub(super) length: usize,
    /// Whether these are all that it has.
    pub(super) whole: bool,
}

impl Stored {
    pub(super) const fn is_raw(&self) -> bool {
        self.field & DATA_RAW != 0
    }

    /// How many bytes are stored.
    pub(super) fn stored(&self) -> u64 {
        u64::from(self.field & !DATA_RAW)
    }
}

/// Where blocks are read from.
#[derive(Debug)]
pub(super) struct Source {
    compressor: Compressor,
    block: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    cursor: Cursor,
    /// Blocks by where they are stored; the one used last comes last.
    kept: VecDeque<(u64, u32, Arc<Vec<u8>>)>,
}

impl Source {
    pub(super) fn new(slice: &Slice, compressor: Compressor, block: u64) -> Self {
        let state = State { cursor: slice.cursor(), kept: VecDeque::new() };
        Self { compressor, block: usize_of(block), state: Mutex::new(state) }
    }

    /// The bytes of a compressed block; its place was checked.
    fn block(&self, stored: &Stored) -> Result<Arc<Vec<u8>>> {
        let lock = || self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = lock();
        let is = |(start, field, _): &(u64, u32, _)| (*start, *field) == (stored.start, stored.field);
        if let Some(found) = state.kept.iter().rposition(is)
            && let Some(kept) = state.kept.remove(found)
        {
            let bytes = Arc::clone(&kept.2);
            state.kept.push_back(kept);
            return Ok(bytes);
        }
        let mut packed = vec![0; usize_of(stored.stored())];
        state.cursor.read(stored.start, &mut packed)?;
        drop(state);
        let mut bytes = vec![0; self.block];
        let length = self.compressor.decode(&packed, &mut bytes).map_err(|why| {
            damaged(format!("a block of data cannot be decompressed: {why}")).found(format!(
                "{} bytes at {}",
                packed.len(),
                stored.start
            ))
        })?;
        bytes.truncate(length);
        let bytes = Arc::new(bytes);
        let mut state = lock();
        if state.kept.len() == KEPT {
            state.kept.pop_front();
        }
        state.kept.push_back((stored.start, stored.field, Arc::clone(&bytes)));
        Ok(bytes)
    }

    /// What is meant of a compressed block.
    pub(super) fn read(&self, stored: &Stored, skip: usize, out: &mut [u8]) -> Result<()> {
        let bytes = self.block(stored)?;
        let end = stored.from.saturating_add(stored.length);
        let own = bytes.get(stored.from..end).filter(|_| !stored.whole || bytes.len() == end);
        let own = own.and_then(|own| own.get(skip..skip.saturating_add(out.len()))).ok_or_else(|| {
            damaged("a block of data has another length than its file has there")
                .expected(format!("{end} bytes"))
                .found(format!("{} bytes, stored at {}", bytes.len(), stored.start))
        })?;
        out.copy_from_slice(own);
        Ok(())
    }
}

/// Blocks of a file that follow each other.
#[derive(Debug)]
struct Pieces {
    source: Arc<Source>,
    blocks: Vec<Stored>,
}

impl Render for Pieces {
    fn render(&self, part: u32, skip: u64, out: &mut [u8]) -> Result<()> {
        let stored = self.blocks.get(index(part)).ok_or_else(|| Error::bug("there is no such block"))?;
        self.source.read(stored, usize_of(skip), out)
    }

    fn label(&self, part: u32) -> String {
        let start = self.blocks.get(index(part)).map_or(0, |stored| stored.start);
        format!("squashfs block at {start}")
    }
}

/// How many blocks make one piece of a file.
const PIECE: usize = 256;

impl Squashfs {
    /// Gives `each` the blocks of a file that are no holes, with their place in it.
    pub(super) fn blocks(
        &self,
        mut blocks: Blocks<'_>,
        each: &mut dyn FnMut(u64, Stored) -> Result<()>,
    ) -> Result<()> {
        let mut start = blocks.start;
        for number in 0..blocks.count {
            let field = blocks.lengths.number()?;
            let at = number * self.block;
            let length = usize_of(self.block.min(blocks.size - at));
            if field == 0 {
                continue;
            }
            let stored = Stored { start, field, from: 0, length, whole: true };
            start = self.check(&stored, u64_of(length))?;
            each(at, stored)?;
        }
        if let Some((number, offset)) = blocks.fragment {
            let at = blocks.count * self.block;
            let fragment = self.fragment(number)?;
            let from = usize_of(u64::from(offset));
            let length = usize_of(blocks.size - at);
            let stored =
                Stored { start: fragment.start_block, field: fragment.size, from, length, whole: false };
            self.check(&stored, self.block)?;
            each(at, stored)?;
        }
        Ok(())
    }

    /// Fragment `number`.
    pub(super) fn fragment(&self, number: u32) -> Result<Fragment> {
        if number >= self.superblock.fragments {
            return Err(damaged("a file is in a fragment that does not exist")
                .expected(format!("below {}", self.superblock.fragments))
                .found(number));
        }
        Fragment::read(&self.metadata.entry(self.fragments, u64::from(number), Fragment::LENGTH)?)
    }

    /// Refuses a block that lies outside the data, or is stored with more bytes than it has; where the next one is.
    pub(super) fn check(&self, stored: &Stored, most: u64) -> Result<u64> {
        let (count, most) = (stored.stored(), if stored.is_raw() { most } else { self.block });
        let end = stored.start.checked_add(count).filter(|end| *end <= self.inodes.start);
        let end = end.filter(|_| count > 0 && count <= most).ok_or_else(|| {
            damaged("a block of data cannot be where it is")
                .expected(format!("1 to {most} bytes before {}", self.inodes.start))
                .found(format!("{count} bytes at {}", stored.start))
        })?;
        let meant = stored.from.saturating_add(stored.length);
        if stored.is_raw() && (u64_of(meant) > count || stored.whole && u64_of(meant) != count) {
            return Err(damaged("a block of data has another length than its file has there")
                .expected(format!("{meant} bytes"))
                .found(format!("{count} bytes at {}", stored.start)));
        }
        Ok(end)
    }

    /// Gives `each` the pieces of a file.
    pub(super) fn pieces(
        &self,
        blocks: Blocks<'_>,
        each: &mut dyn FnMut(Bytes, Slice) -> Result<()>,
    ) -> Result<()> {
        let (mut first, mut end, mut piece) = (0, 0, Vec::new());
        self.blocks(blocks, &mut |at, stored| {
            if at != end || piece.len() == PIECE {
                self.piece(first, std::mem::take(&mut piece), each)?;
                first = at;
            }
            end = at + u64_of(stored.length);
            piece.push(stored);
            Ok(())
        })?;
        self.piece(first, piece, each)
    }

    /// Gives `each` blocks that follow each other from byte `at` of a file on.
    fn piece(
        &self,
        at: u64,
        blocks: Vec<Stored>,
        each: &mut dyn FnMut(Bytes, Slice) -> Result<()>,
    ) -> Result<()> {
        if blocks.is_empty() {
            return Ok(());
        }
        let length: u64 = blocks.iter().map(|stored| u64_of(stored.length)).sum();
        let mut image = Builder::new(Bytes::new(length));
        let pieces = Arc::new(Pieces { source: Arc::clone(&self.source), blocks });
        let shared: Arc<Pieces> = Arc::clone(&pieces);
        let renderer = image.renderer(shared);
        let mut offset = 0;
        for (part, stored) in (0..).zip(&pieces.blocks) {
            let length = u64_of(stored.length);
            if stored.is_raw() {
                let own = self.metadata.device.slice(stored.start + u64_of(stored.from), length)?;
                image.put(Bytes::new(offset), &own);
            } else {
                image.rendered(Bytes::new(offset), Bytes::new(length), renderer, part);
            }
            offset += length;
        }
        each(Bytes::new(at), image.finish()?.whole())
    }
}
