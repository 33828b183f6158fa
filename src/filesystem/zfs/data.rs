//! The contents of files: cut into blocks, compressed and summed by all threads, once.

use std::sync::Arc;

use super::checksum::{Checksum, Sum};
use super::compress::{Compression, Encoder};
use super::pointer::{self, EMBEDDED};
use crate::error::{Error, Result};
use crate::image::{Builder, Cursor, Image};
use crate::pour::Packer;
use crate::pour::spool::{Pack, Packed};
use crate::pour::zeros::is_zero;
use crate::tree::{NodeId, Tree};
use crate::units::{Bytes, index, narrow, u64_of, usize_of};

/// How the contents of a dataset's files are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Manner {
    pub(super) compression: Compression,
    pub(super) checksum: Checksum,
    /// Bytes of a block of files that are longer than one.
    pub(super) record: u64,
    /// Whether shorter files have blocks of that size too: those of volumes.
    pub(super) is_fixed: bool,
    /// log2 of the bytes that are allocated together.
    pub(super) ashift: u8,
}

impl Manner {
    /// Bytes of each block of a file: those of the file if one holds it all.
    pub(super) fn block(&self, size: u64) -> u64 {
        if size <= self.record && !self.is_fixed {
            size.next_multiple_of(super::format::SECTOR).max(super::format::SECTOR)
        } else {
            self.record
        }
    }
}

/// A file with contents.
#[derive(Clone, Copy, Debug)]
struct File {
    node: NodeId,
    manner: Manner,
    size: u64,
    /// Where its contents begin in the image of all contents.
    start: u64,
}

/// Blocks of a file that follow each other and have data.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    file: u32,
    /// Number of the first block in its file.
    block: u64,
    /// Number of the first block among all blocks.
    first: u64,
    count: u64,
}

/// What became of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// It is all zeros, and takes no space.
    Hole,
    /// It is so short when it is compressed that its pointer contains it.
    Embedded(Box<[u8]>),
    /// It is in the spool, compressed and filled up to what is allocated together.
    Compressed(Sum),
    /// It is stored as it is.
    Plain(Sum),
}

/// The contents of all files of a pool, as they are stored.
#[derive(Debug)]
pub(super) struct Contents {
    files: Vec<File>,
    stretches: Vec<Stretch>,
    /// Which stretches a node has: those from the first whose file is not before its own.
    by_node: Vec<u32>,
    data: Image,
    spool: Image,
    blocks: Vec<Packed<Note>>,
}

/// No file of that node has contents.
const NONE: u32 = u32::MAX;

/// A block with data: its number in its file, and its number among all blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) number: u64,
    pub(super) chunk: u64,
}

impl Contents {
    /// Reads, compresses and sums the contents of `files`, each with the manner of its dataset, in this order.
    pub(super) fn pack(tree: &Arc<Tree>, files: &[(NodeId, Manner)], packer: &Packer) -> Result<Self> {
        let (mut list, mut stretches, mut by_node) = (Vec::new(), Vec::new(), vec![NONE; tree.len()]);
        let (mut start, mut first) = (0, 0);
        for (node, manner) in files {
            let size = tree.size(*node);
            if size == 0 {
                continue;
            }
            let file = narrow(list.len(), "the number of a file")?;
            by_node[node.index()] = narrow(stretches.len(), "the number of a stretch")?;
            list.push(File { node: *node, manner: *manner, size, start });
            start += size;
            for (block, count) in stretches_of(tree, *node, size, manner.block(size)) {
                stretches.push(Stretch { file, block, first, count });
                first += count;
            }
        }
        let mut data = Builder::new(Bytes::new(start));
        let table = data.files(Arc::<Tree>::clone(tree));
        for file in &list {
            tree.data(file.node, table)?.put(&mut data, Bytes::new(file.start), Bytes::new(file.size), 0)?;
        }
        let data = data.finish()?;
        let work = Work { files: &list, stretches: &stretches, count: first, data: &data, packer };
        let bytes = data.covered().get();
        let (spool, blocks) = packer.pack("ZFS data", &work, (bytes, u64_of(list.len())))?;
        Ok(Self { files: list, stretches, by_node, data, spool, blocks })
    }

    /// The blocks of a file that have data, ascending.
    pub(super) fn blocks_of(&self, node: NodeId) -> impl Iterator<Item = Block> + '_ {
        let first = self.by_node.get(node.index()).copied().unwrap_or(NONE);
        let stretches = self.stretches.get(index(first)..).unwrap_or_default();
        let file = stretches.first().map(|stretch| stretch.file);
        stretches
            .iter()
            .take_while(move |stretch| Some(stretch.file) == file)
            .filter(move |stretch| self.files.get(index(stretch.file)).is_some_and(|file| file.node == node))
            .flat_map(|stretch| {
                (0..stretch.count).map(|at| Block { number: stretch.block + at, chunk: stretch.first + at })
            })
    }

    /// What became of a block.
    pub(super) fn block(&self, chunk: u64) -> Result<&Packed<Note>> {
        self.blocks.get(usize_of(chunk)).ok_or_else(|| Error::bug("a block of a file was not packed"))
    }

    /// Puts the bytes of a block that takes space at `offset` of an image.
    pub(super) fn put(&self, image: &mut Builder, offset: u64, chunk: u64) -> Result<()> {
        let block = self.block(chunk)?;
        let slice = match block.note {
            Note::Hole | Note::Embedded(_) => {
                return Err(Error::bug("a block without space is put somewhere"));
            }
            Note::Compressed(_) => self.spool.slice(block.start, block.end),
            Note::Plain(_) => {
                let (file, start, length) = place(&self.files, &self.stretches, chunk)?;
                let start = Bytes::new(file.start + start);
                self.data.slice(start, start + Bytes::new(length))
            }
        };
        image.put(Bytes::new(offset), &slice);
        Ok(())
    }

    /// How many bytes the blocks take that take space, one copy of each, a sum for a first guess of the size.
    pub(super) fn allocated(&self) -> Result<u64> {
        let mut sum = 0;
        for (chunk, block) in (0..).zip(&self.blocks) {
            sum += match block.note {
                Note::Hole | Note::Embedded(_) => 0,
                Note::Compressed(_) => block.end.get() - block.start.get(),
                Note::Plain(_) => {
                    let (file, ..) = place(&self.files, &self.stretches, chunk)?;
                    file.manner.block(file.size).next_multiple_of(1 << file.manner.ashift)
                }
            };
        }
        Ok(sum)
    }
}

/// The stretches of blocks of a file that have data: first block and how many.
fn stretches_of(tree: &Tree, node: NodeId, size: u64, block: u64) -> Vec<(u64, u64)> {
    let Some(ranges) = tree.ranges(node) else { return vec![(0, size.div_ceil(block))] };
    let mut stretches: Vec<(u64, u64)> = Vec::new();
    for range in ranges.iter().filter(|range| range.length > 0) {
        let (first, end) = (range.start / block, (range.start + range.length).div_ceil(block));
        match stretches.last_mut() {
            Some((start, count)) if *start + *count >= first => *count = end - *start,
            _ => stretches.push((first, end - first)),
        }
    }
    stretches
}

/// The file of a block, where the block begins in it, and how many bytes of the file it has.
fn place<'a>(files: &'a [File], stretches: &[Stretch], chunk: u64) -> Result<(&'a File, u64, u64)> {
    let after = stretches.partition_point(|stretch| stretch.first <= chunk);
    let stretch = after.checked_sub(1).and_then(|at| stretches.get(at));
    let file = stretch.and_then(|stretch| files.get(index(stretch.file)));
    let (Some(stretch), Some(file)) = (stretch, file) else {
        return Err(Error::bug(format!("block {chunk} belongs to no file")));
    };
    let block = file.manner.block(file.size);
    let start = (stretch.block + chunk - stretch.first) * block;
    Ok((file, start, block.min(file.size.saturating_sub(start))))
}

/// The work of packing.
struct Work<'a> {
    files: &'a [File],
    stretches: &'a [Stretch],
    count: u64,
    data: &'a Image,
    packer: &'a Packer,
}

/// What a thread keeps from block to block.
struct Worker {
    cursor: Cursor,
    encoders: Vec<(Compression, Encoder)>,
    block: Vec<u8>,
}

impl Worker {
    /// The encoder of a compression.
    fn encoder(&mut self, compression: Compression) -> Result<&mut Encoder> {
        let at = match self.encoders.iter().position(|(own, _)| *own == compression) {
            Some(at) => at,
            None => {
                self.encoders.push((compression, Encoder::new(compression)?));
                self.encoders.len() - 1
            }
        };
        let found = self.encoders.get_mut(at).map(|(_, encoder)| encoder);
        found.ok_or_else(|| Error::bug("an encoder is lost"))
    }
}

impl Pack for Work<'_> {
    type Worker = Worker;
    type Note = Note;

    fn count(&self) -> u64 {
        self.count
    }

    fn memory(&self) -> Bytes {
        // A block before and after it is compressed, and the tables of zstd, which are at most so many times a block.
        let largest = self.files.iter().map(|file| file.manner.block(file.size)).max().unwrap_or_default();
        let zstd = self.files.iter().any(|file| matches!(file.manner.compression, Compression::Zstd(_)));
        Bytes::new(largest * if zstd { 20 } else { 3 } + (1 << 20))
    }

    fn worker(&self) -> Result<Worker> {
        Ok(Worker { cursor: self.data.cursor(), encoders: Vec::new(), block: Vec::new() })
    }

    fn pack(&self, chunk: u64, worker: &mut Worker, out: &mut Vec<u8>) -> Result<Note> {
        let (file, start, length) = place(self.files, self.stretches, chunk)?;
        let Manner { compression, checksum, ashift, .. } = file.manner;
        let mut block = std::mem::take(&mut worker.block);
        block.resize(usize_of(file.manner.block(file.size)), 0);
        let (own, tail) = block.split_at_mut(usize_of(length));
        worker.cursor.read(file.start + start, own)?;
        tail.fill(0);
        let note = note(worker, compression, checksum, ashift, &block, out);
        worker.block = block;
        self.packer.progress().advance(length, u64::from(start + length == file.size));
        note
    }
}

/// Compresses and sums a block.
fn note(
    worker: &mut Worker,
    compression: Compression,
    checksum: Checksum,
    ashift: u8,
    block: &[u8],
    out: &mut Vec<u8>,
) -> Result<Note> {
    if compression == Compression::Off {
        return Ok(Note::Plain(checksum.of(block)));
    }
    if is_zero(block) {
        return Ok(Note::Hole);
    }
    if !worker.encoder(compression)?.encode(block, out)? {
        return Ok(Note::Plain(checksum.of(block)));
    }
    if out.len() <= EMBEDDED {
        return Ok(Note::Embedded(std::mem::take(out).into_boxed_slice()));
    }
    let Some(physical) = pointer::physical(out.len(), u64_of(block.len()), ashift) else {
        out.clear();
        return Ok(Note::Plain(checksum.of(block)));
    };
    out.resize(usize_of(physical), 0);
    Ok(Note::Compressed(checksum.of(out)))
}
