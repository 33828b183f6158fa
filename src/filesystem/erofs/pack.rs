//! What is made before the layout: files in compressed form, and which files are equal.
//!
//! Files are read once, chunk by chunk, through an image in which they stand one behind the other. Equal files are found by
//! checksums and then compared byte by byte, in the compressed form where there is one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::codec::{Codec, Encoder, blocks};
use super::inodes::{Contents, not_packed};
use crate::error::{Error, Result};
use crate::image::{Builder, Cursor, Files, Image, Slice};
use crate::pour::Packer;
use crate::pour::spool::Pack;
use crate::progress::Progress;
use crate::tree::{NodeId, Tree};
use crate::units::{Bytes, KIB, index, narrow, u64_of, usize_of};

/// How much one worker reads before it hands over: so much that handing over costs little.
const UNIT: u64 = 512 * KIB;
/// How much is read at a time where nothing is compressed, or compared.
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
        let clusters = units.into_iter().flat_map(|unit| unit.note);
        let mut starts = vec![0_u64];
        let mut hashes: Vec<u64> = Vec::with_capacity(source.files.len());
        let mut files = BTreeMap::new();
        let mut clusters = clusters.fuse();
        for part in &source.files {
            let first = narrow(starts.len() - 1, "the number of a chunk")?;
            let mut hash = part.size;
            for cluster in clusters.by_ref().take(usize_of(part.size.div_ceil(source.chunk))) {
                let start = starts.last().copied().unwrap_or_default();
                starts.push(start + u64::from(cluster.bytes));
                // FNV's prime: equal files have equal sums, and unequal ones hardly ever.
                hash = (hash ^ u64::from(cluster.checksum)).wrapping_mul(0x0100_0000_01b3);
            }
            hashes.push(hash);
            let count = narrow(part.size.div_ceil(source.chunk), "the chunks of a file")?;
            if contents.options.codec.is_some() {
                files.insert(part.inode, File { first, count, size: part.size });
            }
        }
        let (block, chunk) = (contents.options.block, source.chunk);
        let mut packed = Self { image, block, chunk, files, starts, same: HashMap::new() };
        packed.same = equal(&packed, &source, &hashes, packer.progress())?;
        Ok(packed)
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
        let chosen = match options.codec {
            Some(_) => {
                contents.inodes.all().filter(|(_, node)| compresses(tree, *node, options.block)).collect()
            }
            None => of_equal_size(contents),
        };
        let chunk = if options.codec.is_some() { options.chunk } else { PIECE };
        let mut files = Vec::with_capacity(chosen.len());
        let mut at = 0;
        for (inode, node) in &chosen {
            files.push(Part { inode: *inode, at, size: tree.size(*node) });
            at += tree.size(*node);
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

    /// The chunks of a unit: each with its file, and its number in it.
    fn chunks(&self, unit: usize) -> impl Iterator<Item = (&Part, u64)> {
        let end = self.units.get(unit + 1).copied().unwrap_or((self.files.len(), 0));
        let mut next = self.units.get(unit).copied().unwrap_or(end);
        std::iter::from_fn(move || {
            let part = self.files.get(next.0).filter(|_| next < end)?;
            let chunk = next.1;
            next = if (chunk + 1) * self.chunk < part.size { (next.0, chunk + 1) } else { (next.0 + 1, 0) };
            Some((part, chunk))
        })
    }
}

/// Cuts the chunks of all files into units.
fn units(files: &[Part], chunk: u64) -> Vec<(usize, u64)> {
    let (mut units, mut left) = (Vec::new(), 0);
    for (number, part) in files.iter().enumerate() {
        for own in 0..part.size.div_ceil(chunk) {
            let length = chunk.min(part.size - own * chunk);
            if left < length {
                units.push((number, own));
                left = UNIT.max(chunk);
            }
            left -= length;
        }
    }
    units
}

/// Whether a file is compressed: it is longer than a block, which it takes anyhow, and no more of it is hole than data.
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

/// The files without holes that another one has the length of, and a whole block at least.
fn of_equal_size(contents: &Contents) -> Vec<(u32, NodeId)> {
    let tree = &contents.tree;
    let regular = || {
        contents
            .inodes
            .all()
            .filter(|(_, node)| tree.size(*node) >= contents.options.block && tree.ranges(*node).is_none())
    };
    let mut sizes: Vec<u64> = regular().map(|(_, node)| tree.size(node)).collect();
    sizes.sort_unstable();
    let again = |size: u64| {
        let at = sizes.partition_point(|other| *other < size);
        sizes.get(at + 1) == Some(&size)
    };
    regular().filter(|(_, node)| again(tree.size(*node))).collect()
}

/// What is known of a chunk.
#[derive(Clone, Copy, Debug)]
struct Cluster {
    bytes: u32,
    checksum: u32,
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
    type Note = Vec<Cluster>;

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

    fn pack(&self, unit: u64, worker: &mut Worker, out: &mut Vec<u8>) -> Result<Vec<Cluster>> {
        let mut clusters = Vec::new();
        for (part, chunk) in self.source.chunks(usize_of(unit)) {
            let skip = chunk * self.source.chunk;
            let length = self.source.chunk.min(part.size - skip);
            worker.input.resize(usize_of(length), 0);
            worker.cursor.read(part.at + skip, &mut worker.input)?;
            clusters.push(self.cluster(worker, out)?);
            self.progress.advance(length, u64::from(chunk == 0));
        }
        Ok(clusters)
    }
}

impl Work<'_> {
    /// Appends the chunk that was read to `out`, in compressed form where that is smaller.
    fn cluster(&self, worker: &mut Worker, out: &mut Vec<u8>) -> Result<Cluster> {
        let Some(encoder) = &mut worker.encoder else {
            return Ok(Cluster { bytes: 0, checksum: crc32c::crc32c(&worker.input) });
        };
        encoder.compress(&worker.input, &mut worker.output)?;
        let begin = out.len();
        // Byte by byte a block is one byte long.
        let block = if self.contents.options.loose { 1 } else { self.contents.options.block };
        let (from, to) = (blocks(worker.input.len(), block), blocks(worker.output.len(), block));
        let end = begin + usize_of(from.min(to) * block);
        if to < from {
            // The stream ends with its last block: the kernel skips the zeros in front of it.
            out.resize(end - worker.output.len(), 0);
            out.extend(&worker.output);
        } else {
            out.extend(&worker.input);
            out.resize(end, 0);
        }
        let checksum = crc32c::crc32c(&out[begin..]);
        Ok(Cluster { bytes: narrow(end - begin, "the bytes of a chunk")?, checksum })
    }
}

/// The files whose data is that of an earlier one.
fn equal(packed: &Packed, source: &Source, hashes: &[u64], progress: &Progress) -> Result<HashMap<u32, u32>> {
    let mut same = HashMap::new();
    let mut known: HashMap<(u64, u64), Vec<usize>> = HashMap::new();
    let (mut one, mut other) = (Comparison::new(packed, source), Comparison::new(packed, source));
    for (number, (part, hash)) in source.files.iter().zip(hashes).enumerate() {
        let alike = known.entry((part.size, *hash)).or_default();
        let mut found = None;
        for earlier in alike.iter() {
            if let Some(earlier) = source.files.get(*earlier)
                && one.equals(&mut other, earlier, part, progress)?
            {
                found = Some(earlier.inode);
                break;
            }
        }
        match found {
            Some(earlier) => {
                same.insert(part.inode, earlier);
            }
            None => alike.push(number),
        }
    }
    Ok(same)
}

/// A reader of what is compared.
struct Comparison<'a> {
    packed: &'a Packed,
    source: Cursor,
    spool: Cursor,
    buffer: Vec<u8>,
}

impl<'a> Comparison<'a> {
    fn new(packed: &'a Packed, source: &Source) -> Self {
        Self { packed, source: source.image.cursor(), spool: packed.image.cursor(), buffer: Vec::new() }
    }

    /// Where a file lies, and how many bytes of it there are to compare.
    fn place(&self, part: &Part) -> Result<(u64, u64)> {
        match self.packed.file(part.inode) {
            Some(file) => {
                let slice = self.packed.slice(file)?;
                Ok((slice.start().get(), slice.length().get()))
            }
            None if self.packed.files.is_empty() => Ok((part.at, part.size)),
            None => Err(not_packed(part.inode)),
        }
    }

    fn read(&mut self, at: u64, length: u64) -> Result<&[u8]> {
        self.buffer.resize(usize_of(length), 0);
        let cursor = if self.packed.files.is_empty() { &mut self.source } else { &mut self.spool };
        cursor.read(at, &mut self.buffer)?;
        Ok(&self.buffer)
    }

    /// Whether two files are equal. Of compressed ones the same algorithm made each, so the same chunks give the same bytes
    /// and others do not.
    fn equals(&mut self, other: &mut Self, one: &Part, two: &Part, progress: &Progress) -> Result<bool> {
        let ((from, length), (to, other_length)) = (self.place(one)?, other.place(two)?);
        if length != other_length || !self.same_chunks(one, two)? {
            return Ok(false);
        }
        for skip in (0..length).step_by(usize_of(PIECE)) {
            progress.check()?;
            let now = PIECE.min(length - skip);
            if self.read(from + skip, now)? != other.read(to + skip, now)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the chunks of two compressed files take as many bytes each.
    fn same_chunks(&self, one: &Part, two: &Part) -> Result<bool> {
        let (Some(one), Some(two)) = (self.packed.file(one.inode), self.packed.file(two.inode)) else {
            return Ok(true);
        };
        for chunk in 0..u64::from(one.count.min(two.count)) {
            if self.packed.chunk(one, chunk)? != self.packed.chunk(two, chunk)? {
                return Ok(false);
            }
        }
        Ok(one.count == two.count)
    }
}

/// So that the number of an algorithm is that of the file's only one.
pub(super) fn algorithm(codec: Option<Codec>) -> u8 {
    codec.map_or(0, Codec::algorithm)
}
