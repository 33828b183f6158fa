//! Compressing the data, on all threads and in the order of the tree.
//!
//! A thread takes a chunk: a few small files, or a few blocks of a large one. It reads them, each byte once, and compresses
//! the blocks. Then, in the order of the chunks, files that are equal to earlier ones are found, and small files are put
//! together to fragments. The thread that fills a fragment compresses it, while others go on. So which files share a fragment
//! depends on their order and contents alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::codec::{Encoder, Settings, data_length};
use super::data::{Data, Input, Inputs, Lengths, Stored, StoredFragment, sparse};
use crate::error::{Error, Result};
use crate::image::Cursor;
use crate::pour::Packer;
use crate::pour::ordered::{self, Memory, Stage};
use crate::pour::spool::Spool;
use crate::pour::zeros::is_zero;
use crate::units::{Bytes, KIB, narrow, u64_of, usize_of};

/// Bytes of files in a chunk, or a block where that is more: enough that putting chunks in order costs nothing, and so few
/// that threads whose chunks take unlike long do not wait for each other.
const CHUNK: u64 = 256 * KIB;

/// A SHA-256: what is equal by it is equal.
type Sum = [u8; 32];

/// A part of a file that is read at once: all of a small one, or some blocks of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    file: usize,
    from: u64,
    length: u64,
}

/// Compresses the data of all files with `packer`'s threads.
///
/// # Errors
/// Those of reading a file of the host, of keeping what was compressed, and a signal.
pub(super) fn pack(inputs: &Inputs, block: u64, settings: Settings, packer: &Packer) -> Result<Data> {
    let mut spool = packer.spool("SquashFS data")?;
    let (pieces, chunks) = cut(inputs, block);
    let work = Work {
        inputs,
        pieces: &pieces,
        chunks: &chunks,
        block,
        settings,
        spool: &spool,
        packer,
        fragments: Mutex::default(),
    };
    // A chunk as it is read, its small files, what it becomes, and the fragments that it fills.
    let each = settings.memory(block) + Bytes::new(4 * CHUNK.max(block) + 2 * block);
    packer.progress().begin(inputs.image.covered().get(), u64_of(inputs.files.len()));
    let state = ordered::run(&work, State::default(), Memory::of_packing(each), &packer.options())?;
    packer.progress().begin(0, 0);
    let last = state.last_fragment();
    let mut end = state.spooled;
    if let Some(last) = last {
        end += u64_of(last.bytes.len());
        work.fragment(&last, &mut Encoder::new(settings, block)?, &mut Vec::new())?;
    }
    let fragments = std::mem::take(&mut *work.lock());
    spool.extend(end);
    let image = spool.finish()?;
    let State { files, lengths, mut runs, length, .. } = state;
    let (mut start, mut placed) = (length, Vec::with_capacity(fragments.len()));
    for (place, size, field) in fragments.into_values() {
        placed.push(StoredFragment { start, size: field });
        runs.push((place, size));
        start += size;
    }
    Ok(Data { files, lengths, fragments: placed, image, runs, length: start })
}

/// The pieces of all files, and where each chunk's begin and end among them.
fn cut(inputs: &Inputs, block: u64) -> (Vec<Piece>, Vec<(usize, usize)>) {
    let most = CHUNK.max(block);
    let (mut pieces, mut chunks) = (Vec::with_capacity(inputs.files.len()), Vec::new());
    let (mut first, mut length) = (0, 0);
    for (number, file) in inputs.files.iter().enumerate() {
        let mut from = 0;
        loop {
            // A hole is one piece, however long: of so many short ones, the list would take more than the image. It has whole
            // pieces of others, so that files with equal bytes and other holes have equal sums.
            let hole = if file.size < block { 0 } else { inputs.hole(file, from) / most * most };
            let piece = Piece { file: number, from, length: most.min(file.size - from).max(hole) };
            if length > 0 && length + piece.length > most {
                chunks.push((first, pieces.len()));
                (first, length) = (pieces.len(), 0);
            }
            pieces.push(piece);
            length += piece.length;
            from += piece.length;
            if from == file.size {
                break;
            }
        }
    }
    chunks.push((first, pieces.len()));
    (pieces, chunks)
}

/// What the workers share.
struct Work<'a> {
    inputs: &'a Inputs,
    pieces: &'a [Piece],
    chunks: &'a [(usize, usize)],
    block: u64,
    settings: Settings,
    spool: &'a Spool,
    packer: &'a Packer,
    /// By number: where in the spool it is, how long, and its length as the field has it.
    fragments: Mutex<BTreeMap<u32, (u64, u64, u32)>>,
}

/// What a worker has in hand.
struct Worker {
    cursor: Cursor,
    encoder: Encoder,
    /// A piece of a large file as it is read.
    piece: Vec<u8>,
    /// The small files of the chunk, behind each other.
    tails: Vec<u8>,
    /// The blocks of the chunk as they are stored, behind each other.
    bytes: Vec<u8>,
    /// Their lengths.
    lengths: Lengths,
    /// What was made of each piece.
    made: Vec<Made>,
}

/// What was made of a piece.
struct Made {
    piece: Piece,
    /// How many of the worker's bytes (blocks), or of its tails, are of it.
    bytes: usize,
    /// How many words of lengths are.
    lengths: usize,
    /// Bytes in holes.
    holes: u64,
    /// The sum of what is stored, where another file may be equal, and how often: a long hole is many equal pieces.
    sum: Option<Sum>,
    times: u64,
}

/// A fragment that is full: its number, where it goes in the spool, and the tails in it.
struct Full {
    number: u32,
    start: u64,
    bytes: Vec<u8>,
}

/// What chunks are appended to.
#[derive(Default)]
struct State {
    files: Vec<Stored>,
    lengths: Lengths,
    runs: Vec<(u64, u64)>,
    /// Bytes of all runs.
    length: u64,
    /// Bytes of the spool that are given away.
    spooled: u64,
    /// The fragment in hand.
    number: u32,
    tails: Vec<u8>,
    /// The file whose blocks are being appended, and the sum of its pieces so far.
    open: Option<(Stored, u64, Sha256)>,
    /// Files that others may be equal to, by length and sum.
    known: HashMap<(u64, Sum), usize>,
}

impl Stage for Work<'_> {
    type Worker = Worker;
    type State = State;
    /// Where the blocks go, and the fragments that are full.
    type Rest = (u64, Vec<Full>);

    fn count(&self) -> u64 {
        u64_of(self.chunks.len())
    }

    fn worker(&self) -> Result<Worker> {
        Ok(Worker {
            cursor: self.inputs.image.cursor(),
            encoder: Encoder::new(self.settings, self.block)?,
            piece: Vec::new(),
            tails: Vec::new(),
            bytes: Vec::new(),
            lengths: Lengths::default(),
            made: Vec::new(),
        })
    }

    fn prepare(&self, chunk: u64, worker: &mut Worker) -> Result<()> {
        worker.tails.clear();
        worker.bytes.clear();
        worker.lengths.truncate(0);
        worker.made.clear();
        let chunk = self.chunks.get(usize_of(chunk));
        let pieces = chunk.and_then(|(first, end)| self.pieces.get(*first..*end));
        for piece in pieces.ok_or_else(|| Error::bug("a chunk has no pieces"))? {
            let file = self.inputs.file(piece.file)?;
            let made = if file.size < self.block {
                worker.tail(*piece, file)?
            } else {
                self.blocks(*piece, file, worker)?
            };
            worker.made.push(made);
            self.packer.progress().advance(piece.length, u64::from(piece.from == 0));
        }
        Ok(())
    }

    fn append(&self, state: &mut State, worker: &mut Worker) -> Result<Self::Rest> {
        let start = state.spooled;
        state.spooled += u64_of(worker.bytes.len());
        let (mut bytes, mut tails, mut lengths) = (start, worker.tails.as_slice(), worker.lengths.from(0));
        let mut full = Vec::new();
        for made in &worker.made {
            let file = self.inputs.file(made.piece.file)?;
            let (own, later) = lengths.split_at(made.lengths);
            lengths = later;
            if file.size < self.block {
                let (own, later) = tails.split_at(made.bytes);
                tails = later;
                full.extend(state.tail(file, own, made.sum, usize_of(self.block))?);
            } else {
                state.blocks(file, made, own, bytes)?;
                bytes += u64_of(made.bytes);
            }
        }
        Ok((start, full))
    }

    fn finish(&self, (start, full): Self::Rest, worker: &mut Worker) -> Result<()> {
        self.spool.keep(&worker.bytes, start)?;
        full.iter().try_for_each(|full| self.fragment(full, &mut worker.encoder, &mut worker.bytes))
    }
}

impl Worker {
    /// Reads a small file.
    fn tail(&mut self, piece: Piece, file: &Input) -> Result<Made> {
        let from = self.tails.len();
        self.tails.resize(from + usize_of(piece.length), 0);
        self.cursor.read(file.offset, &mut self.tails[from..])?;
        let own = &self.tails[from..];
        let sum = file.may_repeat.then(|| Sha256::digest(own).into());
        Ok(Made { piece, bytes: own.len(), lengths: 0, holes: 0, sum, times: 1 })
    }
}

impl Work<'_> {
    /// Reads and compresses blocks of a file.
    fn blocks(&self, piece: Piece, file: &Input, worker: &mut Worker) -> Result<Made> {
        let Worker { cursor, encoder, piece: read, bytes, lengths, .. } = worker;
        let (bytes_before, lengths_before) = (bytes.len(), lengths.words());
        let (mut holes, mut times) = (0, 1);
        if self.inputs.hole(file, piece.from) >= piece.length {
            holes = piece.length;
            times = piece.length.div_ceil(CHUNK.max(self.block)).max(1);
            lengths.holes(lengths_before, piece.length.div_ceil(self.block))?;
        } else {
            read.resize(usize_of(piece.length), 0);
            cursor.read(file.offset + piece.from, read)?;
            for block in read.chunks(usize_of(self.block)) {
                if is_zero(block) {
                    holes += u64_of(block.len());
                    lengths.holes(lengths_before, 1)?;
                } else {
                    lengths.block(stored(encoder, block, bytes)?);
                }
            }
        }
        let sum = file.may_repeat.then(|| {
            let mut sum = Sha256::new();
            match lengths.from(lengths_before) {
                // The number of holes is that of one piece.
                [0, count] => sum.update((u64::from(*count) / times).to_le_bytes()),
                words => words.iter().for_each(|word| sum.update(word.to_le_bytes())),
            }
            sum.update(&bytes[bytes_before..]);
            sum.finalize().into()
        });
        let (bytes, lengths) = (bytes.len() - bytes_before, lengths.words() - lengths_before);
        Ok(Made { piece, bytes, lengths, holes, sum, times })
    }

    /// Compresses a fragment and keeps it.
    fn fragment(&self, full: &Full, encoder: &mut Encoder, buffer: &mut Vec<u8>) -> Result<()> {
        buffer.clear();
        let field = stored(encoder, &full.bytes, buffer)?;
        self.spool.keep(buffer, full.start)?;
        self.lock().insert(full.number, (full.start, u64_of(buffer.len()), field));
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, (u64, u64, u32)>> {
        self.fragments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends a block as it is stored, and returns its length as the field has it.
fn stored(encoder: &mut Encoder, block: &[u8], out: &mut Vec<u8>) -> Result<u32> {
    match encoder.encode(block, out)? {
        Some(length) => data_length(length, false),
        None => {
            out.extend_from_slice(block);
            data_length(block.len(), true)
        }
    }
}

impl State {
    /// Appends a small file; returns the fragment that has no space for it.
    fn tail(&mut self, file: &Input, bytes: &[u8], sum: Option<Sum>, block: usize) -> Result<Option<Full>> {
        if let Some(known) = self.equal(file, sum)? {
            self.files.push(known);
            return Ok(None);
        }
        let full = if self.tails.len() + bytes.len() > block { Some(self.fill()?) } else { None };
        let place = narrow(self.tails.len(), "a place in a fragment")?;
        self.tails.extend_from_slice(bytes);
        self.files.push(Stored {
            node: file.node,
            start: self.length,
            first: self.lengths.words(),
            count: 0,
            sparse: 0,
            fragment: Some((self.number, place)).filter(|_| file.size > 0),
        });
        self.remember(file, sum);
        Ok(full)
    }

    /// Ends the fragment in hand.
    fn fill(&mut self) -> Result<Full> {
        let bytes = std::mem::take(&mut self.tails);
        let full = Full { number: self.number, start: self.spooled, bytes };
        // It takes no more than this once it is compressed.
        self.spooled += u64_of(full.bytes.len());
        let next = self.number.checked_add(1).filter(|next| *next < u32::MAX);
        self.number = next.ok_or_else(|| Error::bug("there are 2^32 fragments"))?;
        Ok(full)
    }

    /// What is in hand when all is appended.
    fn last_fragment(&self) -> Option<Full> {
        let full = Full { number: self.number, start: self.spooled, bytes: self.tails.clone() };
        Some(full).filter(|full| !full.bytes.is_empty())
    }

    /// Appends a piece of a file with these lengths, whose blocks are at `from` of the spool.
    fn blocks(&mut self, file: &Input, made: &Made, lengths: &[u32], from: u64) -> Result<()> {
        if made.piece.from == 0 {
            let (node, start, first) = (file.node, self.length, self.lengths.words());
            let stored = Stored { node, start, first, count: 0, sparse: 0, fragment: None };
            self.open = Some((stored, u64_of(self.runs.len()), Sha256::new()));
        }
        if made.bytes > 0 {
            self.runs.push((from, u64_of(made.bytes)));
            self.length += u64_of(made.bytes);
        }
        let Some((stored, _, sum)) = &mut self.open else {
            return Err(Error::bug("a file does not begin with its first piece"));
        };
        self.lengths.append(stored.first, lengths)?;
        stored.count = self.lengths.words() - stored.first;
        stored.sparse += made.holes;
        if let Some(own) = made.sum {
            (0..made.times).for_each(|_| sum.update(own));
        }
        if made.piece.from + made.piece.length == file.size { self.close(file) } else { Ok(()) }
    }

    /// Ends a file of blocks. Where it is equal to another, its blocks are forgotten.
    fn close(&mut self, file: &Input) -> Result<()> {
        let open = self.open.take().ok_or_else(|| Error::bug("a file ends that did not begin"))?;
        let (mut stored, runs, sum) = open;
        let sum = file.may_repeat.then(|| sum.finalize().into());
        if let Some(known) = self.equal(file, sum)? {
            self.lengths.truncate(stored.first);
            self.runs.truncate(usize_of(runs));
            self.length = stored.start;
            self.files.push(known);
            return Ok(());
        }
        stored.sparse = sparse(stored.sparse, file.size);
        self.files.push(stored);
        self.remember(file, sum);
        Ok(())
    }

    /// What is stored of a file that is equal to this one.
    fn equal(&self, file: &Input, sum: Option<Sum>) -> Result<Option<Stored>> {
        let Some(known) = sum.and_then(|sum| self.known.get(&(file.size, sum))) else { return Ok(None) };
        let stored = self.files.get(*known).ok_or_else(|| Error::bug("a file is equal to none"))?;
        Ok(Some(Stored { node: file.node, ..*stored }))
    }

    /// Keeps in mind the file that was appended last.
    fn remember(&mut self, file: &Input, sum: Option<Sum>) {
        if let (Some(sum), Some(number)) = (sum, self.files.len().checked_sub(1)) {
            self.known.insert((file.size, sum), number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Builder;
    use crate::tree::NodeId;

    /// Of pieces of 256 KiB, the list for a hole of some terabytes would take gigabytes.
    #[test]
    fn a_hole_is_one_piece_of_whole_ones() {
        const TIB: u64 = 1 << 40;
        let mut image = Builder::new(Bytes::new(2 * TIB + 100));
        image.bytes(Bytes::new(TIB + 5), "data", vec![1; 10]);
        let file = |offset, size| Input { node: NodeId::ROOT, offset, size, may_repeat: true };
        let files = vec![file(0, 2 * TIB + 90), file(2 * TIB + 90, 10)];
        let (pieces, chunks) = cut(&Inputs { files, image: image.finish().unwrap() }, 128 * KIB);
        let shown: Vec<_> = pieces.iter().map(|piece| (piece.file, piece.from, piece.length)).collect();
        let expected =
            [(0, 0, TIB), (0, TIB, CHUNK), (0, TIB + CHUNK, TIB - CHUNK), (0, 2 * TIB, 90), (1, 0, 10)];
        assert_eq!(shown, expected);
        assert_eq!(chunks, [(0, 1), (1, 2), (2, 3), (3, 5)]);
    }
}
