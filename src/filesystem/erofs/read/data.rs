//! The data of inodes as slices: of the volume where it is stored as it is, and of images that decompress when they are
//! read.

use std::sync::{Arc, Mutex, PoisonError};

use super::Erofs;
use super::decode;
use super::inode::Raw;
use super::map::{Extent, From};
use crate::error::{Error, Result};
use crate::filesystem::device::damaged;
use crate::filesystem::erofs::codec::without_zeros;
use crate::filesystem::erofs::format::{ChunkIndex, Layout, NO_BLOCK, algorithm};
use crate::image::{Builder, Cursor, Render, Slice};
use crate::units::{Bytes, joined16, narrow, u64_of, usize_of};
use crate::wire::Wire;

/// How many extents are one piece of a file.
const EXTENTS: usize = 1024;
/// The most parts of a directory, or of the inode that holds fragments: a list of them takes some 16 MiB.
const MOST_PARTS: usize = 1 << 18;
/// How much of what was decompressed last is kept.
const KEPT: usize = 16 << 20;
/// Bits of a chunk's format: how long a chunk is, and whether its entries are long (EROFS_CHUNK_FORMAT_*).
const CHUNK_BITS: u32 = 0x1f;
const CHUNK_INDEXES: u32 = 0x20;

type Each<'a> = &'a mut dyn FnMut(Bytes, Slice) -> Result<()>;

/// The table of a file in chunks: where it is, the bytes of an entry and how many there are.
pub(super) struct ChunkTable {
    pub(super) at: u64,
    entry: u64,
    count: u64,
    /// Bytes of the file in a chunk.
    chunk: u64,
    /// Whether entries have the long form.
    long: bool,
}

impl ChunkTable {
    /// Where it ends.
    pub(super) const fn end(&self) -> u64 {
        self.at + self.count * self.entry
    }
}

impl Erofs {
    /// The pieces of an inode's data, ascending; what none covers is a hole.
    pub(super) fn pieces(&self, raw: &Raw, each: Each<'_>) -> Result<()> {
        if raw.size == 0 {
            return Ok(());
        }
        let block = self.block;
        match raw.layout {
            Layout::Plain => {
                let at = raw.block() * block;
                each(Bytes::ZERO, self.device.slice(at, raw.size)?)
            }
            Layout::Inline => {
                let (front, tail) = (raw.size / block * block, raw.size % block);
                if front > 0 {
                    each(Bytes::ZERO, self.device.slice(raw.block() * block, front)?)?;
                }
                if raw.behind % block + tail > block {
                    return Err(raw.wrong("what is left of its last block crosses one"));
                }
                if tail > 0 { each(Bytes::new(front), self.device.slice(raw.behind, tail)?) } else { Ok(()) }
            }
            Layout::Chunked => self.chunks(raw, each),
            Layout::Full | Layout::Compact => self.compressed(raw, each),
        }
    }

    /// All data of an inode as one slice.
    pub(super) fn whole(&self, raw: &Raw) -> Result<Slice> {
        let mut image = Builder::new(Bytes::new(raw.size));
        let mut left = MOST_PARTS;
        self.pieces(raw, &mut |at, piece| {
            left = left
                .checked_sub(piece.segments().count())
                .ok_or_else(|| raw.wrong("it has too many parts"))?;
            image.put(at, &piece);
            Ok(())
        })?;
        Ok(image.finish()?.whole())
    }

    /// The table of a file in chunks.
    pub(super) fn chunk_table(&self, raw: &Raw) -> Result<ChunkTable> {
        let long = raw.place & CHUNK_INDEXES != 0;
        if raw.place & !(CHUNK_BITS | CHUNK_INDEXES) != 0 {
            return Err(raw.wrong("its chunks have an unknown format"));
        }
        let chunk = self.block.checked_shl(raw.place & CHUNK_BITS).filter(|chunk| *chunk >= self.block);
        let chunk = chunk.ok_or_else(|| raw.wrong("its chunks are too long"))?;
        let entry = if long { u64_of(ChunkIndex::LENGTH) } else { 4 };
        Ok(ChunkTable {
            at: raw.behind.next_multiple_of(entry),
            entry,
            count: raw.size.div_ceil(chunk),
            chunk,
            long,
        })
    }

    /// The pieces of a file in chunks. Chunks that follow each other are one piece.
    fn chunks(&self, raw: &Raw, each: Each<'_>) -> Result<()> {
        let ChunkTable { at: table, entry: length, count, chunk, long } = self.chunk_table(raw)?;
        // First byte in the file and in the volume, and how many.
        let mut run: Option<(u64, u64, u64)> = None;
        let mut give =
            |(at, from, length): (u64, u64, u64)| each(Bytes::new(at), self.device.slice(from, length)?);
        for number in 0..count {
            let entry = table + number * length;
            let block = if long {
                let index: ChunkIndex = self.device.structure(entry)?;
                if index.device_id != 0 {
                    return Err(raw.wrong("its data is on another device"));
                }
                (index.startblk_lo != NO_BLOCK).then(|| joined16(index.startblk_lo, index.startblk_hi))
            } else {
                let mut number = [0; 4];
                self.device.read(entry, &mut number)?;
                Some(u32::from_le_bytes(number)).filter(|number| *number != NO_BLOCK).map(u64::from)
            };
            let Some(block) = block else { continue };
            let at = number * chunk;
            let (from, now) = (block.saturating_mul(self.block), chunk.min(raw.size - at));
            run = match run {
                Some((first, start, done)) if first + done == at && start + done == from => {
                    Some((first, start, done + now))
                }
                other => {
                    other.map_or(Ok(()), &mut give)?;
                    Some((at, from, now))
                }
            };
        }
        run.map_or(Ok(()), give)
    }

    /// The pieces of a compressed file.
    fn compressed(&self, raw: &Raw, each: Each<'_>) -> Result<()> {
        let mut batch: Vec<Extent> = Vec::new();
        self.extents(raw, &mut |extent| match extent.from {
            From::Piece { .. } | From::Turned { .. } => {
                batch.push(extent);
                if batch.len() >= EXTENTS { self.flush(&mut batch, each) } else { Ok(()) }
            }
            From::Plain { at, .. } => {
                self.flush(&mut batch, each)?;
                each(Bytes::new(extent.start), self.device.slice(at, extent.length)?)
            }
            From::Fragment { at } => {
                self.flush(&mut batch, each)?;
                let fragment = self.fragment(raw, at, extent.length)?;
                each(Bytes::new(extent.start), fragment)
            }
        })?;
        self.flush(&mut batch, each)
    }

    /// Gives extents that follow each other as one piece.
    fn flush(&self, batch: &mut Vec<Extent>, each: Each<'_>) -> Result<()> {
        let Some((first, last)) = batch.first().zip(batch.last()) else { return Ok(()) };
        let start = first.start;
        let mut image = Builder::new(Bytes::new(last.start + last.length - start));
        for extent in batch.iter() {
            // A piece that lies outside is told before it is read.
            if let From::Piece { at, length, .. } = extent.from {
                self.device.slice(at, length)?;
            }
        }
        let extents = std::mem::take(batch);
        let renderer = Extents { pieces: Arc::clone(&self.pieces), extents };
        let places: Vec<(u64, u64)> =
            renderer.extents.iter().map(|extent| (extent.start, extent.length)).collect();
        let renderer = image.renderer(Arc::new(renderer));
        for (number, (at, length)) in places.into_iter().enumerate() {
            let part = narrow(number, "an extent")?;
            image.rendered(Bytes::new(at - start), Bytes::new(length), renderer, part);
        }
        each(Bytes::new(start), image.finish()?.whole())
    }

    /// Bytes of the inode that holds fragments.
    fn fragment(&self, raw: &Raw, at: u64, length: u64) -> Result<Slice> {
        let whole = match self.fragments.get() {
            Some(whole) => whole.clone(),
            None => {
                let whole = self.fragments(raw)?;
                self.fragments.get_or_init(|| whole).clone()
            }
        };
        let end = at.checked_add(length);
        let part = end.and_then(|end| whole.get(Bytes::new(at), Bytes::new(end)));
        part.ok_or_else(|| raw.wrong("its fragment lies outside the inode that holds it"))
    }

    /// All of the inode that holds fragments, one of them for `raw`.
    fn fragments(&self, raw: &Raw) -> Result<Slice> {
        let nid = self.superblock.packed_nid;
        if nid == 0 || nid == raw.nid {
            return Err(raw.wrong("there is no inode that holds its fragment"));
        }
        let packed = self.inode(nid)?;
        let mut nested = false;
        if matches!(packed.layout, Layout::Full | Layout::Compact) {
            self.extents(&packed, &mut |extent| {
                nested |= matches!(extent.from, From::Fragment { .. });
                Ok(())
            })?;
        }
        if nested {
            return Err(raw.wrong("the inode that holds its fragment has one itself"));
        }
        self.whole(&packed)
    }
}

/// What reads compressed pieces, and what was read last.
#[derive(Debug)]
pub(super) struct Pieces {
    cursor: Mutex<Cursor>,
    block: u64,
    /// Whether pieces of lz4 have their zeros in front, and end with their blocks.
    padded: bool,
    kept: Mutex<Vec<(Extent, Arc<Vec<u8>>)>>,
}

impl Pieces {
    pub(super) fn new(slice: &Slice, block: u64, padded: bool) -> Self {
        Self { cursor: Mutex::new(slice.cursor()), block, padded, kept: Mutex::default() }
    }

    fn read(&self, at: u64, length: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize_of(length)];
        self.cursor.lock().unwrap_or_else(PoisonError::into_inner).read(at, &mut bytes)?;
        Ok(bytes)
    }

    /// Whether a compressed extent gives as many bytes as it should.
    ///
    /// # Errors
    /// [`Kind::Format`](crate::error::Kind::Format) where it does not.
    pub(super) fn decodes(&self, extent: &Extent) -> Result<()> {
        self.make(extent).map(drop)
    }

    /// The bytes of an extent.
    fn extent(&self, extent: &Extent) -> Result<Arc<Vec<u8>>> {
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(number) = kept.iter().position(|(own, _)| own == extent) {
                let found = kept.remove(number);
                let bytes = Arc::clone(&found.1);
                kept.push(found);
                return Ok(bytes);
            }
        }
        // No lock is held here: others read on.
        let bytes = Arc::new(self.make(extent)?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push((*extent, Arc::clone(&bytes)));
        while kept.len() > 1 && kept.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > KEPT {
            kept.remove(0);
        }
        Ok(bytes)
    }

    fn make(&self, extent: &Extent) -> Result<Vec<u8>> {
        let mut out = vec![0; usize_of(extent.length)];
        match extent.from {
            From::Piece { at, length, algorithm, partial } => {
                let piece = self.read(at, length)?;
                // Old images of lz4 have zeros behind a piece, whose length nothing tells (z_erofs_decompress_lz4,
                // erofs-utils).
                let padded = self.padded || algorithm != algorithm::LZ4;
                let piece = if padded { without_zeros(&piece, self.block) } else { &piece };
                let read = if partial || !padded { decode::decompress_beginning } else { decode::decompress };
                read(algorithm, piece, &mut out)?;
            }
            From::Turned { at, from } => {
                let mut block = self.read(at, self.block)?;
                block.rotate_left(usize_of(from));
                let bytes = block.get(..out.len());
                out.copy_from_slice(bytes.ok_or_else(|| damaged("a block is shorter than what it holds"))?);
            }
            From::Plain { .. } | From::Fragment { .. } => {
                return Err(Error::bug("this extent is a part of the volume"));
            }
        }
        Ok(out)
    }
}

/// Renders extents: a part is one of them.
#[derive(Debug)]
struct Extents {
    pieces: Arc<Pieces>,
    extents: Vec<Extent>,
}

impl Render for Extents {
    fn render(&self, part: u32, skip: u64, out: &mut [u8]) -> Result<()> {
        let extent = self.extents.get(crate::units::index(part));
        let extent = extent.ok_or_else(|| Error::bug(format!("there is no extent {part}")))?;
        let bytes = self.pieces.extent(extent)?;
        let from = usize_of(skip);
        let found = bytes.get(from..from.saturating_add(out.len()));
        out.copy_from_slice(found.ok_or_else(|| Error::bug("an extent is shorter than its place"))?);
        Ok(())
    }

    fn label(&self, part: u32) -> String {
        format!("erofs: compressed extent {part}")
    }
}
