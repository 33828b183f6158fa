//! What is made before the layout: files in compressed form, and which files are equal.
//!
//! Files are read once, chunk by chunk, through an image in which they stand one behind the other. Equal files are those
//! with one length and one SHA-256, which is taken on the way, of the compressed form where there is one. A file that is the
//! only one of its length has none taken.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::codec::{Codec, Encoder, blocks};
use super::inodes::Contents;
use crate::error::{Error, Result};
use crate::image::{Builder, Cursor, Files, Image, Slice};
use crate::pour::Packer;
use crate::pour::spool::Pack;
use crate::progress::Progress;
use crate::tree::{NodeId, Tree};
use crate::units::{Bytes, KIB, index, narrow, u64_of, usize_of};

/// How much one worker reads before it hands over: so much that handing over costs little.
const UNIT: u64 = 512 * KIB;
/// How much is read at a time where nothing is compressed.
const PIECE: u64 = 128 * KIB;

/// What is known of the data of files before they have a place.
#[derive(Debug)]
pub(super) struct Packed {
    /// Compressed files one behind the other, in whole blocks or byte by byte.
    image: Image,
    block: u64,
    chunk: u64,
    /// Compressed files by their inodes.
    files: BTreeMap<u32, File>,
    /// Where each chunk of these files begins, in bytes, and at the end where the last one ends.
    starts: Vec<u64>,
    /// Inodes whose data is that of an earlier one.
    same: HashMap<u32, u32>,
}

/// A file in compressed form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct File {
    /// Its first chunk among all.
    first: u32,
    /// How many chunks it has.
    pub(super) count: u32,
    /// Its length before compression.
    pub(super) size: u64,
}

/// A chunk of a file in compressed form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// How many blocks of the file it holds.
    pub(super) from: u64,
    /// How many blocks it takes; as many as it holds where it is stored as it is.
    pub(super) blocks: u64,
    /// Its first block, from the first one of the file.
    pub(super) start: u64,
    /// How many bytes it takes.
    pub(super) bytes: u64,
}

impl Packed {
    /// Packs the files of `contents`.
    ///
    /// # Errors
    /// What keeps a file from being read, or packed data from being kept.
    pub(super) fn new(contents: &Contents, packer: &Packer) -> Result<Self> {
        let source = Source::new(contents)?;
        let work = Work { source: &source, contents, progress: packer.progress().clone() };
        let count = u64_of(source.files.len());
        let (image, units) = packer.pack("erofs: compressed files", &work, (source.bytes, count))?;
        let (mut lengths, mut digests) = (Vec::new(), Vec::new());
        for unit in units {
            lengths.extend(unit.note.lengths);
            digests.extend(unit.note.digests);
        }
        let (mut lengths, mut digests) = (lengths.into_iter(), digests.into_iter());
        let (mut starts, mut end) = (vec![0_u64], 0);
        let (mut files, mut same) = (BTreeMap::new(), HashMap::new());
        let mut known: HashMap<(u64, [u8; 32]), u32> = HashMap::new();
        for part in &source.files {
            let chunks = part.size.div_ceil(source.chunk);
            let (first, count) =
                (narrow(starts.len() - 1, "the number of a chunk")?, narrow(chunks, "the chunks of a file")?);
            for length in lengths.by_ref().take(usize_of(chunks)) {
                end += u64::from(length);
                starts.push(end);
            }
            if contents.options.codec.is_some() {
                files.insert(part.inode, File { first, count, size: part.size });
            }
            if !part.may_repeat {
                continue;
            }
            let mut whole = Sha256::new();
            for digest in digests.by_ref().take(usize_of(chunks.div_ceil(source.chunks_of_unit()))) {
                whole.update(digest);
            }
            let earlier = *known.entry((part.size, whole.finalize().into())).or_insert(part.inode);
            if earlier != part.inode {
                same.insert(part.inode, earlier);
            }
        }
        let (block, chunk) = (contents.options.block, source.chunk);
        Ok(Self { image, block, chunk, files, starts, same })
    }

    /// The compressed form of an inode's file.
    pub(super) fn file(&self, inode: u32) -> Option<&File> {
        self.files.get(&inode)
    }

    /// The earlier inode with the same data.
    pub(super) fn same(&self, inode: u32) -> Option<u32> {
        self.same.get(&inode).copied()
    }

    fn start(&self, chunk: u32) -> Result<u64> {
        let start = self.starts.get(index(chunk)).copied();
        start.ok_or_else(|| Error::bug(format!("chunk {chunk} is not packed")))
    }

    /// How many bytes a file takes.
    pub(super) fn length(&self, file: &File) -> Result<u64> {
        Ok(self.start(file.first + file.count)? - self.start(file.first)?)
    }

    /// Whether nothing of a file became smaller.
    pub(super) fn is_stored(&self, file: &File) -> Result<bool> {
        Ok(self.length(file)? >= file.size)
    }

    /// The bytes of a file.
    pub(super) fn slice(&self, file: &File) -> Result<Slice> {
        let at = |chunk| self.start(chunk).map(Bytes::new);
        Ok(self.image.slice(at(file.first)?, at(file.first + file.count)?))
    }

    /// How many blocks of a file are in one chunk.
    pub(super) const fn blocks_of_chunk(&self) -> u64 {
        self.chunk / self.block
    }

    /// Chunk `number` of a file.
    pub(super) fn chunk(&self, file: &File, number: u64) -> Result<Chunk> {
        let own: u32 = narrow(number, "the number of a chunk")?;
        let all = file.size.div_ceil(self.block);
        let from = self.blocks_of_chunk().min(all.saturating_sub(number * self.blocks_of_chunk()));
        let (start, end) = (self.start(file.first + own)?, self.start(file.first + own + 1)?);
        let before = start - self.start(file.first)?;
        let bytes = end - start;
        Ok(Chunk { from, blocks: bytes / self.block, start: before / self.block, bytes })
    }
}

/// A file that is read.
#[derive(Clone, Copy, Debug)]
struct Part {
    inode: u32,
    /// Where it stands in the image of all.
    at: u64,
    size: u64,
    /// Whether another one has its size.
    may_repeat: bool,
}

/// The files that are read, one behind the other, and the work in units.
struct Source {
    image: Image,
    files: Vec<Part>,
    bytes: u64,
    chunk: u64,
    /// The first chunk of each unit: which file, and which chunk of it.
    units: Vec<(usize, u64)>,
}

impl Source {
    fn new(contents: &Contents) -> Result<Self> {
        let (tree, options) = (&contents.tree, &contents.options);
        let mut chosen: Vec<(u32, NodeId)> = match options.codec {
            Some(_) => {
                contents.inodes.all().filter(|(_, node)| compresses(tree, *node, options.block)).collect()
            }
            None => {
                let is_whole = |node| tree.size(node) >= options.block && tree.ranges(node).is_none();
                contents.inodes.all().filter(|(_, node)| is_whole(*node)).collect()
            }
        };
        let sizes = Sizes::new(chosen.iter().map(|(_, node)| tree.size(*node)));
        if options.codec.is_none() {
            chosen.retain(|(_, node)| sizes.repeat(tree.size(*node)));
        }
        let chunk = if options.codec.is_some() { options.chunk } else { PIECE };
        let mut files = Vec::with_capacity(chosen.len());
        let mut at = 0;
        for (inode, node) in &chosen {
            let size = tree.size(*node);
            files.push(Part { inode: *inode, at, size, may_repeat: sizes.repeat(size) });
            at += size;
        }
        let mut image = Builder::new(Bytes::new(at));
        let table: Arc<dyn Files> = Arc::<Tree>::clone(tree);
        let table = image.files(table);
        for (part, (_, node)) in files.iter().zip(&chosen) {
            tree.data(*node, table)?.put(&mut image, Bytes::new(part.at), Bytes::new(part.size), 0)?;
        }
        let units = units(&files, chunk);
        Ok(Self { image: image.finish()?, files, bytes: at, chunk, units })
    }

    /// How many chunks of one file a unit holds at most.
    const fn chunks_of_unit(&self) -> u64 {
        chunks_of_unit(self.chunk)
    }

    /// The chunks of a unit: each with its file, and its number in it.
    fn chunks(&self, unit: usize) -> Result<impl Iterator<Item = (&Part, u64)>> {
        let next = self.units.get(unit).copied();
        let mut next = next.ok_or_else(|| Error::bug(format!("there is no unit {unit} to compress")))?;
        // The last unit ends behind all files.
        let end = self.units.get(unit + 1).copied().unwrap_or((self.files.len(), 0));
        Ok(std::iter::from_fn(move || {
            let part = self.files.get(next.0).filter(|_| next < end)?;
            let chunk = next.1;
            next = if (chunk + 1) * self.chunk < part.size { (next.0, chunk + 1) } else { (next.0 + 1, 0) };
            Some((part, chunk))
        }))
    }
}

/// Cuts the chunks of all files into units. A file that does not fit in what is left of a unit begins another one, so that
/// equal files are cut in the same places and their digests are equal.
fn units(files: &[Part], chunk: u64) -> Vec<(usize, u64)> {
    let (mut units, mut left) = (Vec::new(), 0);
    for (number, part) in files.iter().enumerate() {
        if left < part.size {
            left = 0;
        }
        for own in 0..part.size.div_ceil(chunk) {
            let length = chunk.min(part.size - own * chunk);
            if left < length {
                units.push((number, own));
                left = chunk * chunks_of_unit(chunk);
            }
            left -= length;
        }
    }
    units
}

const fn chunks_of_unit(chunk: u64) -> u64 {
    if chunk < UNIT { UNIT / chunk } else { 1 }
}

/// Whether a file is compressed: it is longer than the one block that any file takes, and it has no more holes than data.
/// A file with more holes has its holes kept instead.
fn compresses(tree: &Tree, node: NodeId, block: u64) -> bool {
    tree.size(node) > block && !holds_holes(tree, node, true)
}

/// Whether the holes of a file are kept.
pub(super) fn holds_holes(tree: &Tree, node: NodeId, compresses: bool) -> bool {
    let Some(ranges) = tree.ranges(node) else { return false };
    let data: u64 = ranges.iter().map(|range| range.length).sum();
    !compresses || data * 2 < tree.size(node)
}

/// The sizes of files, in their order.
struct Sizes(Vec<u64>);

impl Sizes {
    fn new(sizes: impl Iterator<Item = u64>) -> Self {
        let mut sizes: Vec<u64> = sizes.collect();
        sizes.sort_unstable();
        Self(sizes)
    }

    /// Whether several files have that size.
    fn repeat(&self, size: u64) -> bool {
        let at = self.0.partition_point(|other| *other < size);
        self.0.get(at + 1) == Some(&size)
    }
}

/// What is known of the chunks of a unit.
#[derive(Debug, Default)]
struct Unit {
    /// How many bytes each chunk takes; none where nothing is compressed.
    lengths: Vec<u32>,
    /// For each file that may be equal to another one, its part of the unit.
    digests: Vec<[u8; 32]>,
}

/// The work on all files.
struct Work<'a> {
    source: &'a Source,
    contents: &'a Contents,
    progress: Progress,
}

/// What a worker has.
struct Worker {
    cursor: Cursor,
    encoder: Option<Encoder>,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Pack for Work<'_> {
    type Worker = Worker;
    type Note = Unit;

    fn count(&self) -> u64 {
        u64_of(self.source.units.len())
    }

    fn memory(&self) -> Bytes {
        let chunk = self.source.chunk;
        let encoder = self.contents.options.codec.map_or(0, |codec| codec.memory(chunk));
        Bytes::new(chunk + UNIT.max(chunk) + encoder)
    }

    fn worker(&self) -> Result<Worker> {
        let encoder = self.contents.options.codec.map(Encoder::new).transpose()?;
        Ok(Worker { cursor: self.source.image.cursor(), encoder, input: Vec::new(), output: Vec::new() })
    }

    fn pack(&self, unit: u64, worker: &mut Worker, out: &mut Vec<u8>) -> Result<Unit> {
        let (mut made, mut file) = (Unit::default(), None);
        let mut digest: Option<Sha256> = None;
        for (part, chunk) in self.source.chunks(usize_of(unit))? {
            if file != Some(part.inode) {
                made.digests.extend(digest.take().map(|digest| <[u8; 32]>::from(digest.finalize())));
                digest = part.may_repeat.then(Sha256::new);
            }
            file = Some(part.inode);
            let skip = chunk * self.source.chunk;
            let length = self.source.chunk.min(part.size - skip);
            worker.input.resize(usize_of(length), 0);
            worker.cursor.read(part.at + skip, &mut worker.input)?;
            self.progress.advance(length, u64::from(chunk == 0));
            let Some(encoder) = &mut worker.encoder else {
                digest.iter_mut().for_each(|digest| digest.update(&worker.input));
                continue;
            };
            let begin = out.len();
            self.chunk(encoder, &worker.input, &mut worker.output, out)?;
            let taken: u32 = narrow(out.len() - begin, "the bytes of a chunk")?;
            if let Some(digest) = &mut digest {
                // The length ends what one chunk is, so that no two lists of chunks have one digest.
                digest.update(&out[begin..]);
                digest.update(taken.to_le_bytes());
            }
            made.lengths.push(taken);
        }
        made.digests.extend(digest.map(|digest| <[u8; 32]>::from(digest.finalize())));
        Ok(made)
    }
}

impl Work<'_> {
    /// Appends a chunk to `out`, in compressed form where that is smaller.
    fn chunk(
        &self,
        encoder: &mut Encoder,
        input: &[u8],
        output: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        encoder.compress(input, output)?;
        let begin = out.len();
        // Byte by byte a block is one byte long.
        let block = if self.contents.options.loose { 1 } else { self.contents.options.block };
        let (from, to) = (blocks(input.len(), block), blocks(output.len(), block));
        let end = begin + usize_of(from.min(to) * block);
        if to < from {
            // The stream ends with its last block: the kernel skips the zeros in front of it.
            out.resize(end - output.len(), 0);
            out.extend_from_slice(output);
        } else {
            out.extend_from_slice(input);
            out.resize(end, 0);
        }
        Ok(())
    }
}

/// So that the number of an algorithm is that of the file's only one.
pub(super) fn algorithm(codec: Option<Codec>) -> u8 {
    codec.map_or(0, Codec::algorithm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_unit_that_is_not_there_is_a_bug_and_not_empty() {
        let part = |inode, at, size| Part { inode, at, size, may_repeat: false };
        let files = vec![part(1, 0, UNIT), part(2, UNIT, 1)];
        let units = units(&files, UNIT);
        let image = Builder::new(Bytes::new(UNIT + 1)).finish().unwrap();
        let source = Source { image, files, bytes: UNIT + 1, chunk: UNIT, units };
        let inodes =
            |unit| -> Result<Vec<u32>> { Ok(source.chunks(unit)?.map(|(part, _)| part.inode).collect()) };
        assert_eq!((inodes(0).unwrap(), inodes(1).unwrap()), (vec![1], vec![2]));
        let error = inodes(2).unwrap_err();
        assert_eq!((error.kind(), error.what()), (Kind::Bug, "there is no unit 2 to compress"));
    }
}
