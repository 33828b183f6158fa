//! Files with holes: in chunks of one length. Each chunk has its own place, or none.

use crate::tree::Range;

/// A run of chunks that have blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Its first chunk, and how many there are.
    first: u64,
    count: u64,
    /// Its first byte in the file, and how many bytes of the file it holds.
    pub(super) skip: u64,
    pub(super) length: u64,
    /// Its first block, from the first one of the file.
    pub(super) block: u64,
}

/// The chunks of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunks {
    /// How often the length of a block is doubled to that of a chunk.
    pub(super) bits: u16,
    block: u64,
    size: u64,
    runs: Vec<Run>,
}

/// The longest chunk: larger ones save nothing that matters, as four bytes stand for it.
const LONGEST: u16 = 20;

impl Chunks {
    /// The chunks that take the least space, entries and blocks together, the shortest of several.
    pub(super) fn new(ranges: &[Range], size: u64, block: u64) -> Self {
        let all = (0..=LONGEST).map(|bits| Self::of(ranges, size, block, bits));
        let least = all.reduce(|one, other| if other.space() < one.space() { other } else { one });
        least.unwrap_or_else(|| Self::of(ranges, size, block, 0))
    }

    fn of(ranges: &[Range], size: u64, block: u64, bits: u16) -> Self {
        let chunk = block << bits;
        let mut runs: Vec<Run> = Vec::new();
        for range in ranges.iter().filter(|range| range.length > 0) {
            let (mut first, end) = (range.start / chunk, (range.start + range.length).div_ceil(chunk));
            match runs.last_mut() {
                Some(last) if last.first + last.count >= first => {
                    last.count = end - last.first;
                    continue;
                }
                Some(last) => first = first.max(last.first + last.count),
                None => {}
            }
            runs.push(Run { first, count: end - first, skip: 0, length: 0, block: 0 });
        }
        let mut next = 0;
        for run in &mut runs {
            run.skip = run.first * chunk;
            run.length = (run.count * chunk).min(size - run.skip);
            run.block = next;
            next += run.length.div_ceil(block);
        }
        Self { bits, block, size, runs }
    }

    /// The runs of chunks that have blocks.
    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// How many blocks they take.
    pub(super) fn blocks(&self) -> u64 {
        self.runs.last().map_or(0, |last| last.block + last.length.div_ceil(self.block))
    }

    /// How many chunks the file has.
    pub(super) const fn count(&self) -> u64 {
        self.size.div_ceil(self.block << self.bits)
    }

    fn space(&self) -> u64 {
        4 * self.count() + self.blocks() * self.block
    }

    /// The first block of a chunk, from the first one of the file; `None` for a hole.
    pub(super) fn block_of(&self, chunk: u64) -> Option<u64> {
        let at = self.runs.partition_point(|run| run.first + run.count <= chunk);
        let run = self.runs.get(at).filter(|run| run.first <= chunk)?;
        Some(run.block + ((chunk - run.first) << self.bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, length: u64) -> Range {
        Range { start, length }
    }

    #[test]
    fn chunks_are_as_long_as_saves_space() {
        // One block far out: a chunk of one block each would take more for its entries than a longer chunk for its end.
        let far = Chunks::new(&[range(1 << 40, 4096)], (1 << 40) + 4096, 4096);
        assert_eq!((far.count(), far.blocks(), far.runs().len()), (1 + (1 << (28 - far.bits)), 1, 1));
        assert!(far.bits > 8, "{far:?}");
        let every_other: Vec<Range> = (0..98).map(|at| range(at * 8192, 4096)).collect();
        let fine = Chunks::new(&every_other, 800_000, 4096);
        assert_eq!((fine.bits, fine.blocks(), fine.count()), (0, 98, 196));
        assert_eq!((fine.block_of(0), fine.block_of(1), fine.block_of(2)), (Some(0), None, Some(1)));
        let none = Chunks::new(&[], 10_000, 4096);
        assert_eq!((none.blocks(), none.block_of(0)), (0, None));
    }

    #[test]
    fn the_last_chunk_ends_with_the_file() {
        let chunks = Chunks::of(&[range(0, 4096), range(40_960, 1000)], 41_960, 4096, 2);
        let runs: Vec<(u64, u64, u64)> =
            chunks.runs().iter().map(|run| (run.skip, run.length, run.block)).collect();
        assert_eq!(runs, [(0, 16_384, 0), (32_768, 9192, 4)]);
        assert_eq!((chunks.blocks(), chunks.count()), (7, 3));
        assert_eq!([0, 1, 2].map(|at| chunks.block_of(at)), [Some(0), None, Some(4)]);
    }
}
