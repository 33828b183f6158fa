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
use crate::tree::{NodeId, Range, Tree};
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
    /// Whether a pointer may contain its block.
    pub(super) embeds: bool,
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

/// A volume whose contents are no file of the tree.
#[derive(Clone, Debug)]
pub(super) struct Volume {
    /// The number of its dataset.
    pub(super) dataset: u16,
    /// Its contents.
    pub(super) image: Image,
}

/// Volumes with how their contents are stored.
pub(super) type Volumes = Vec<(Volume, Manner)>;

/// A file with contents.
#[derive(Clone, Copy, Debug)]
struct File {
    /// Its node, or a number behind those of all nodes.
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
    /// It is stored as it is, and the spool has a copy of the bytes of its file. Opening a small file again takes longer than
    /// a copy.
    Kept(Sum),
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
    /// The numbers of volumes that are no files of the tree, by their datasets, and how long they are.
    volumes: Vec<(u16, NodeId, u64)>,
}

/// The longest file that is kept in the spool when it is stored as it is. Opening, reading, checking and closing a file takes
/// about as long as writing and reading so many bytes more.
const KEPT: u64 = 16 << 10;
/// How many bytes of files are packed together, at least one block: many small files are one piece of work.
const BATCH: u64 = 1 << 20;

/// Blocks that follow each other and are packed together.
#[derive(Clone, Copy, Debug)]
struct Batch {
    /// Number of the first among all blocks.
    first: u64,
    count: u64,
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
    /// Reads, compresses and sums the contents of `files`, each with the manner of its dataset, in this order, and then those
    /// of volumes that are no files of the tree.
    pub(super) fn pack(
        tree: &Arc<Tree>,
        (files, own): (&[(NodeId, Manner)], Volumes),
        packer: &Packer,
    ) -> Result<Self> {
        let (mut list, mut stretches) = (Vec::new(), Vec::new());
        let mut by_node = vec![NONE; tree.len() + own.len()];
        let (mut start, mut first) = (0, 0);
        let mut add = |node: NodeId, manner: Manner, size: u64, ranges: Option<Vec<Range>>| -> Result<()> {
            let file = narrow(list.len(), "the number of a file")?;
            by_node[node.index()] = narrow(stretches.len(), "the number of a stretch")?;
            list.push(File { node, manner, size, start });
            start += size;
            for (block, count) in stretches_of(ranges.as_deref(), size, manner.block(size)) {
                stretches.push(Stretch { file, block, first, count });
                first += count;
            }
            Ok(())
        };
        for (node, manner) in files {
            let size = tree.size(*node);
            if size > 0 {
                add(*node, *manner, size, tree.ranges(*node).map(<[Range]>::to_vec))?;
            }
        }
        let mut volumes = Vec::new();
        for (number, (Volume { dataset, image }, manner)) in (tree.len()..).zip(&own) {
            let (node, size) = (NodeId::new(narrow(number, "the number of a volume")?), image.length().get());
            let ranges = image.segments().iter();
            let ranges =
                ranges.map(|segment| Range { start: segment.offset.get(), length: segment.length.get() });
            add(node, *manner, size, Some(ranges.collect()))?;
            volumes.push((*dataset, node, size));
        }
        let mut data = Builder::new(Bytes::new(start));
        let table = data.files(Arc::<Tree>::clone(tree));
        let (files, inside) = list.split_at(list.len() - own.len());
        for file in files {
            tree.data(file.node, table)?.put(&mut data, Bytes::new(file.start), Bytes::new(file.size), 0)?;
        }
        for (file, (volume, _)) in inside.iter().zip(&own) {
            data.put(Bytes::new(file.start), &volume.image.whole());
        }
        let data = data.finish()?;
        let batches = batches(&list, &stretches)?;
        let work = Work { files: &list, stretches: &stretches, batches: &batches, data: &data, packer };
        let bytes = data.covered().get();
        let (spool, packed) = packer.pack("ZFS data", &work, (bytes, u64_of(list.len())))?;
        let mut blocks = Vec::with_capacity(usize_of(first));
        for batch in packed {
            let mut start = batch.start;
            for (note, length) in batch.note {
                let end = start + Bytes::new(length);
                blocks.push(Packed { start, end, note });
                start = end;
            }
        }
        Ok(Self { files: list, stretches, by_node, data, spool, blocks, volumes })
    }

    /// The contents of a volume that are no file of the tree, and how long they are.
    pub(super) fn volume(&self, dataset: u16) -> Option<(NodeId, u64)> {
        self.volumes.iter().find(|(own, ..)| *own == dataset).map(|(_, node, size)| (*node, *size))
    }

    /// The blocks of a file that have data, ascending.
    pub(super) fn blocks_of(&self, node: NodeId) -> Result<impl Iterator<Item = Block> + '_> {
        let lost = || Error::bug(format!("the contents of node {} are lost", node.get()));
        let own = match self.by_node.get(node.index()).copied().ok_or_else(lost)? {
            NONE => &[],
            first => self.stretches.get(index(first)..).ok_or_else(lost)?,
        };
        // A file that is all hole has none: the first there is that of another.
        let file = own.first().map(|stretch| stretch.file);
        let found = file.map(|file| self.files.get(index(file)).ok_or_else(lost)).transpose()?;
        let own = if found.is_some_and(|file| file.node == node) { own } else { &[] };
        let own = own.iter().take_while(move |stretch| Some(stretch.file) == file);
        Ok(own.flat_map(|stretch| {
            (0..stretch.count).map(|at| Block { number: stretch.block + at, chunk: stretch.first + at })
        }))
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
            Note::Compressed(_) | Note::Kept(_) => self.spool.slice(block.start, block.end),
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
                Note::Plain(_) | Note::Kept(_) => {
                    let (file, ..) = place(&self.files, &self.stretches, chunk)?;
                    file.manner.block(file.size).next_multiple_of(1 << file.manner.ashift)
                }
            };
        }
        Ok(sum)
    }
}

impl Contents {
    /// About how many bytes indirect blocks take that lead to the blocks of files with several, one copy of each.
    pub(super) fn leading(&self) -> u64 {
        let mut counts = vec![0; self.files.len()];
        for stretch in &self.stretches {
            counts[index(stretch.file)] += stretch.count;
        }
        let several = self.files.iter().zip(counts).filter(|(_, count)| *count > 1);
        several.map(|(file, count)| (count * PACKED_POINTER).next_multiple_of(1 << file.manner.ashift)).sum()
    }
}

/// Bytes of a block pointer in an indirect block that is compressed: its checksum has 32, and its place and properties differ
/// little from those before.
const PACKED_POINTER: u64 = 80;

/// The stretches of blocks of a file that have data: first block and how many.
fn stretches_of(ranges: Option<&[Range]>, size: u64, block: u64) -> Vec<(u64, u64)> {
    let Some(ranges) = ranges else { return vec![(0, size.div_ceil(block))] };
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

/// All blocks, cut into what is packed together.
fn batches(files: &[File], stretches: &[Stretch]) -> Result<Vec<Batch>> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut space = 0;
    for stretch in stretches {
        let file = files.get(index(stretch.file));
        let file = file.ok_or_else(|| Error::bug(format!("block {} belongs to no file", stretch.first)))?;
        let block = file.manner.block(file.size);
        let (mut first, mut left) = (stretch.first, stretch.count);
        while left > 0 {
            if space < block || batches.is_empty() {
                batches.push(Batch { first, count: 0 });
                space = BATCH;
            }
            // A block that is longer than a batch is one by itself.
            let taken = (space / block).clamp(1, left);
            if let Some(last) = batches.last_mut() {
                last.count += taken;
            }
            (first, left, space) = (first + taken, left - taken, space.saturating_sub(taken * block));
        }
    }
    Ok(batches)
}

/// The work of packing.
struct Work<'a> {
    files: &'a [File],
    stretches: &'a [Stretch],
    batches: &'a [Batch],
    data: &'a Image,
    packer: &'a Packer,
}

/// What a thread keeps from block to block.
struct Worker {
    cursor: Cursor,
    encoders: Vec<(Compression, Encoder)>,
    block: Vec<u8>,
    packed: Vec<u8>,
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
    /// What became of each block, and how many bytes of the spool it has.
    type Note = Vec<(Note, u64)>;

    fn count(&self) -> u64 {
        u64_of(self.batches.len())
    }

    fn memory(&self) -> Bytes {
        // A block before and after it is compressed, a batch, and the tables of zstd, which are at most so many times a block.
        let largest = self.files.iter().map(|file| file.manner.block(file.size)).max().unwrap_or_default();
        let zstd = self.files.iter().any(|file| matches!(file.manner.compression, Compression::Zstd(_)));
        Bytes::new(largest * if zstd { 20 } else { 3 } + BATCH + (1 << 20))
    }

    fn worker(&self) -> Result<Worker> {
        let cursor = self.data.cursor();
        Ok(Worker { cursor, encoders: Vec::new(), block: Vec::new(), packed: Vec::new() })
    }

    fn pack(&self, batch: u64, worker: &mut Worker, out: &mut Vec<u8>) -> Result<Self::Note> {
        let batch = self.batches.get(usize_of(batch)).ok_or_else(|| Error::bug("there is no such batch"))?;
        let mut notes = Vec::with_capacity(usize_of(batch.count));
        for chunk in batch.first..batch.first + batch.count {
            let before = out.len();
            let note = self.block(chunk, worker, out)?;
            notes.push((note, u64_of(out.len() - before)));
        }
        Ok(notes)
    }
}

impl Work<'_> {
    /// Reads a block, compresses and sums it, and appends to `out` what the spool is to have of it.
    fn block(&self, chunk: u64, worker: &mut Worker, out: &mut Vec<u8>) -> Result<Note> {
        let (file, start, length) = place(self.files, self.stretches, chunk)?;
        let (mut block, mut packed) = (std::mem::take(&mut worker.block), std::mem::take(&mut worker.packed));
        block.resize(usize_of(file.manner.block(file.size)), 0);
        packed.clear();
        let (own, tail) = block.split_at_mut(usize_of(length));
        worker.cursor.read(file.start + start, own)?;
        tail.fill(0);
        let note = match note(worker, file.manner, &block, &mut packed)? {
            Note::Plain(sum) if file.size <= KEPT => {
                out.extend_from_slice(&block[..usize_of(length)]);
                Note::Kept(sum)
            }
            note => {
                out.extend_from_slice(&packed);
                note
            }
        };
        (worker.block, worker.packed) = (block, packed);
        self.packer.progress().advance(length, u64::from(start + length == file.size));
        Ok(note)
    }
}

/// Compresses and sums a block. `out` is empty, and then has what goes to the spool.
fn note(worker: &mut Worker, manner: Manner, block: &[u8], out: &mut Vec<u8>) -> Result<Note> {
    let Manner { compression, checksum, ashift, embeds, .. } = manner;
    if compression == Compression::Off {
        return Ok(Note::Plain(checksum.of(block)));
    }
    if is_zero(block) {
        return Ok(Note::Hole);
    }
    if !worker.encoder(compression)?.encode(block, out)? {
        out.clear();
        return Ok(Note::Plain(checksum.of(block)));
    }
    if embeds && out.len() <= EMBEDDED {
        return Ok(Note::Embedded(std::mem::take(out).into_boxed_slice()));
    }
    let Some(physical) = pointer::physical(out.len(), u64_of(block.len()), ashift) else {
        out.clear();
        return Ok(Note::Plain(checksum.of(block)));
    };
    out.resize(usize_of(physical), 0);
    Ok(Note::Compressed(checksum.of(out)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    const MANNER: Manner = Manner {
        compression: Compression::Off,
        checksum: Checksum::Fletcher4,
        record: 4096,
        is_fixed: false,
        ashift: 12,
        embeds: true,
    };

    /// Of four nodes, the second is a file of three blocks, the third one that is all hole, and the fourth has one block.
    fn contents() -> Contents {
        let file = |node, size, start| File { node: NodeId::new(node), manner: MANNER, size, start };
        Contents {
            files: vec![file(1, 12_288, 0), file(2, 8192, 12_288), file(3, 100, 20_480)],
            stretches: vec![
                Stretch { file: 0, block: 0, first: 0, count: 2 },
                Stretch { file: 0, block: 2, first: 2, count: 1 },
                Stretch { file: 2, block: 0, first: 3, count: 1 },
            ],
            by_node: vec![NONE, 0, 2, 2],
            data: Builder::new(Bytes::new(1)).finish().unwrap(),
            spool: Builder::new(Bytes::new(1)).finish().unwrap(),
            blocks: Vec::new(),
            volumes: Vec::new(),
        }
    }

    fn chunks(contents: &Contents, node: u32) -> Result<Vec<u64>> {
        Ok(contents.blocks_of(NodeId::new(node))?.map(|block| block.chunk).collect())
    }

    #[test]
    fn contents_without_what_is_looked_up_are_a_bug_and_no_hole() {
        let good = contents();
        let all: Vec<Vec<u64>> = (0..4).map(|node| chunks(&good, node).unwrap()).collect();
        assert_eq!(all, [vec![], vec![0, 1, 2], vec![], vec![3]]);
        assert_eq!(batches(&good.files, &good.stretches).unwrap().len(), 1);

        let poisoned = |change: &dyn Fn(&mut Contents), node: u32| {
            let mut contents = contents();
            change(&mut contents);
            let error = chunks(&contents, node).unwrap_err();
            assert_eq!(error.kind(), Kind::Bug, "{error}");
            error.what().to_owned()
        };
        assert_eq!(poisoned(&|own| own.by_node.truncate(3), 3), "the contents of node 3 are lost");
        assert_eq!(poisoned(&|own| own.by_node[1] = 4, 1), "the contents of node 1 are lost");
        assert_eq!(poisoned(&|own| own.stretches[2].file = 3, 3), "the contents of node 3 are lost");
        let error = good.block(0).unwrap_err();
        assert_eq!(error.what(), "a block of a file was not packed");
        let error = batches(&good.files[..2], &good.stretches).unwrap_err();
        assert_eq!((error.kind(), error.what()), (Kind::Bug, "block 3 belongs to no file"));
        let error = place(&good.files[..2], &good.stretches, 3).unwrap_err();
        assert_eq!((error.kind(), error.what()), (Kind::Bug, "block 3 belongs to no file"));
    }
}
