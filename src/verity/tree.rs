//! The hash tree, level by level. A level is a function of the data below it, and that is the level before: so a tree of
//! any height is one function, called as often as the tree is high.

use std::ops::Range;

use sha2::Digest;

use super::options::{HashType, Options};
use crate::error::{Error, Result};
use crate::image::{Cursor, Image, Slice};
use crate::pour::Packer;
use crate::pour::spool::Pack;
use crate::pour::zeros::is_zero;
use crate::progress::Progress;
use crate::units::{Bytes, MIB, u64_of, usize_of};

/// How much data a worker reads at a time, at least one block.
const PIECE: u64 = MIB;

/// How hashes stand in their blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packing {
    /// From one hash to the next, in bytes.
    slot: usize,
    /// How many are in a block.
    per_block: u64,
    /// Bytes of the block.
    block: usize,
}

impl Packing {
    pub(super) fn new(options: &Options) -> Self {
        let (length, block) = (options.algorithm.length(), options.hash_block_size.length());
        let slot = match options.hash_type {
            HashType::Normal => length.next_power_of_two(),
            HashType::ChromiumOs => length,
        };
        // The largest power of two that fits. A block of 512 bytes takes 8 of the longest hashes, so the logarithm is of
        // no zero.
        let per_block = 1 << (block / slot).max(1).ilog2();
        Self { slot, per_block, block }
    }

    /// How many blocks of hashes each level has, from the data up; none for a single block of data.
    pub(super) fn levels(self, data_blocks: u64) -> impl Iterator<Item = u64> {
        let above = move |blocks: &u64| (*blocks > 1).then(|| blocks.div_ceil(self.per_block));
        std::iter::successors(above(&data_blocks), above)
    }

    /// Where the hash of block `number` of the data stands, counted from the first block of `first`.
    fn place(self, number: u64) -> usize {
        let (block, slot) = (number / self.per_block, number % self.per_block);
        usize_of(block) * self.block + usize_of(slot) * self.slot
    }
}

/// The levels of a tree, from the data up, and the hash of the topmost block.
pub(super) struct Tree {
    pub(super) levels: Vec<Image>,
    pub(super) root: Vec<u8>,
}

/// Hashes `blocks` blocks of `data`, which reads as zero behind its end.
pub(super) fn build<D: Digest + Clone + Send + Sync>(
    options: &Options,
    data: &Slice,
    blocks: u64,
    packer: &Packer,
) -> Result<Tree> {
    let hashing = Hashing::<D>::new(options);
    let packing = Packing::new(options);
    let mut levels: Vec<Image> = Vec::new();
    let mut below = Below { data: data.clone(), block: options.data_block_size.length(), blocks };
    for blocks in packing.levels(blocks) {
        let level = Level::new(&below, &hashing, packing, packer.progress());
        let bytes = below.blocks * u64_of(below.block);
        let (level, _) = packer.pack("hashes of dm-verity", &level, (bytes, 0))?;
        below = Below { data: level.whole(), block: packing.block, blocks };
        levels.push(level);
    }
    let top = below.data.bytes(0, below.block)?;
    let mut root = vec![0; options.algorithm.length()];
    hashing.hash(&top, &mut root)?;
    Ok(Tree { levels, root })
}

/// A hash function with its salt.
struct Hashing<D> {
    /// What has seen the salt that stands before a block.
    begun: D,
    /// The salt that stands behind a block.
    behind: Vec<u8>,
}

impl<D: Digest + Clone> Hashing<D> {
    fn new(options: &Options) -> Self {
        let salt = options.salt.clone();
        match options.hash_type {
            HashType::Normal => Self { begun: D::new_with_prefix(salt), behind: Vec::new() },
            HashType::ChromiumOs => Self { begun: D::new(), behind: salt },
        }
    }

    /// The hash of `block`, at the beginning of `out`.
    fn hash(&self, block: &[u8], out: &mut [u8]) -> Result<()> {
        let hash = self.begun.clone().chain_update(block).chain_update(&self.behind).finalize();
        let out = out.get_mut(..hash.len());
        out.ok_or_else(|| Error::bug("a hash of dm-verity has no place"))?.copy_from_slice(&hash);
        Ok(())
    }
}

/// What is hashed.
struct Below {
    data: Slice,
    /// Bytes in a block of it.
    block: usize,
    blocks: u64,
}

/// The hashes of what is below, a chunk being as many blocks of them as are made from a piece of data.
struct Level<'a, D> {
    below: &'a Below,
    hashing: &'a Hashing<D>,
    packing: Packing,
    progress: &'a Progress,
    /// Blocks of data that are read together.
    piece: u64,
    /// Blocks of data in a chunk.
    chunk: u64,
}

impl<'a, D> Level<'a, D> {
    fn new(below: &'a Below, hashing: &'a Hashing<D>, packing: Packing, progress: &'a Progress) -> Self {
        let piece = (PIECE / u64_of(below.block)).max(1);
        let chunk = piece.next_multiple_of(packing.per_block);
        Self { below, hashing, packing, progress, piece, chunk }
    }
}

/// What a worker keeps from chunk to chunk.
struct Worker {
    cursor: Cursor,
    bytes: Vec<u8>,
    /// The hash of a block of zeros: holes are many, and one block of a hole is like another.
    zero: Vec<u8>,
}

impl<D: Digest + Clone + Send + Sync> Pack for Level<'_, D> {
    type Worker = Worker;
    type Note = ();

    fn count(&self) -> u64 {
        self.below.blocks.div_ceil(self.chunk)
    }

    fn memory(&self) -> Bytes {
        let blocks = self.chunk / self.packing.per_block;
        Bytes::new(self.piece * u64_of(self.below.block) + blocks * u64_of(self.packing.block))
    }

    fn worker(&self) -> Result<Worker> {
        let mut zero = vec![0; self.hashing.begun.clone().finalize().len()];
        self.hashing.hash(&vec![0; self.below.block], &mut zero)?;
        Ok(Worker { cursor: self.below.data.cursor(), bytes: Vec::new(), zero })
    }

    fn pack(&self, chunk: u64, worker: &mut Worker, out: &mut Vec<u8>) -> Result<()> {
        let first = chunk * self.chunk;
        let end = (first + self.chunk).min(self.below.blocks);
        let blocks = (end - first).div_ceil(self.packing.per_block);
        out.resize(usize_of(blocks) * self.packing.block, 0);
        let mut at = first;
        while at < end {
            let next = (at + self.piece).min(end);
            self.piece(at..next, worker, |number, hash| {
                let place = self.packing.place(number - first);
                out[place..place + hash.len()].copy_from_slice(hash);
            })?;
            self.progress.advance((next - at) * u64_of(self.below.block), 0);
            at = next;
        }
        Ok(())
    }
}

impl<D: Digest + Clone + Send + Sync> Level<'_, D> {
    /// Hashes the blocks `numbers`, which are read together, and gives `put` each number with its hash.
    fn piece(&self, numbers: Range<u64>, worker: &mut Worker, mut put: impl FnMut(u64, &[u8])) -> Result<()> {
        let block = u64_of(self.below.block);
        let (start, end) = (numbers.start * block, numbers.end * block);
        if self.below.data.sub(Bytes::new(start), Bytes::new(end)).segments().next().is_none() {
            numbers.for_each(|number| put(number, &worker.zero));
            return Ok(());
        }
        worker.bytes.resize(usize_of(end - start), 0);
        worker.cursor.read(start, &mut worker.bytes)?;
        let mut hash = vec![0; worker.zero.len()];
        for (number, bytes) in numbers.zip(worker.bytes.chunks(self.below.block)) {
            if is_zero(bytes) {
                put(number, &worker.zero);
            } else {
                self.hashing.hash(bytes, &mut hash)?;
                put(number, &hash);
            }
        }
        Ok(())
    }
}
