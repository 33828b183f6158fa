//! The bytes of an archive, one after the other, and those of them that are kept as contents of files.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::Reading;
use super::compression::Compression;
use super::digest::{Check, Checked};
use crate::error::{Error, Kind, Result};
use crate::image::{Cursor, Slice};
use crate::pour::spool::Spool;
use crate::progress::Progress;
use crate::units::{Bytes, MIB, u64_of, usize_of};

/// How many bytes pass from the thread that decompresses to the one that reads at a time, and how many such pieces wait.
const PIECE: usize = 256 * 1024;
const WAITING: usize = 8;
/// How many bytes are kept in memory before they go to the spool.
const BUFFER: usize = 1 << 20;

/// Bytes that somebody gives.
pub(super) enum Bytestream<'a> {
    /// They lie somewhere and stay there.
    Lying(Slice),
    /// They lie somewhere, and their digest is checked, and that of what comes out where they are compressed.
    Checked(Slice, Checked),
    /// They come once.
    Flowing(Box<dyn Read + Send + 'a>),
}

/// Bytes that are read one after the other.
pub(super) struct Input<'a> {
    from: From<'a>,
    /// Bytes that were read ahead.
    ahead: Vec<u8>,
    /// The offset of the next byte, those read ahead not counted.
    at: u64,
    progress: &'a Progress,
}

enum From<'a> {
    /// What is kept stays where it is.
    Lying(Cursor),
    /// What is kept goes to a spool.
    Flowing { read: Box<dyn Read + 'a>, spool: Spool, start: u64, buffer: Vec<u8> },
}

/// Reads `bytes` with `read`, and returns what that returns, and the bytes that it kept.
pub(super) fn with<T>(
    bytes: Bytestream<'_>,
    reading: &Reading<'_>,
    read: impl FnOnce(&mut Input<'_>) -> Result<T>,
) -> Result<(T, Slice)> {
    let (bytes, checked) = match bytes {
        Bytestream::Lying(slice) => (Bytestream::Lying(slice), Checked::default()),
        Bytestream::Checked(slice, checked) => (Bytestream::Lying(slice), checked),
        flowing => (flowing, Checked::default()),
    };
    let mut head = [0; 16];
    match bytes {
        Bytestream::Lying(slice) => {
            let length = slice.length().get().min(16);
            let mut cursor = slice.cursor();
            cursor.read(0, &mut head[..usize_of(length)])?;
            match Compression::of(&head[..usize_of(length)])? {
                None => {
                    checked.in_place(&slice, reading.packer.progress())?;
                    let mut input = Input::new(From::Lying(cursor), reading);
                    let found = read(&mut input)?;
                    input.drain()?;
                    Ok((found, slice))
                }
                Some(compression) => {
                    let source = Box::new(Slices { cursor, at: 0 });
                    flowing(source, Some(compression), &checked, reading, read)
                }
            }
        }
        Bytestream::Flowing(mut source) => {
            let mut length = 0;
            while length < head.len() {
                match source.read(&mut head[length..]).map_err(|error| unreadable(error, reading))? {
                    0 => break,
                    more => length += more,
                }
            }
            let compression = Compression::of(&head[..length])?;
            let source = Box::new(io::Cursor::new(head[..length].to_vec()).chain(source));
            flowing(source, compression, &checked, reading, read)
        }
        Bytestream::Checked(..) => Err(Error::bug("bytes to check are read unchecked")),
    }
}

fn unreadable(error: io::Error, reading: &Reading<'_>) -> Error {
    // An error of ours that passed through a reader is told as it is.
    match error.downcast::<Error>() {
        Ok(own) => own,
        Err(error) => Error::io(Kind::Source, "cannot read the archive", reading.name, error),
    }
}

/// What sees bytes as they come by.
type Seer<'a> = &'a mut dyn FnMut(&[u8]);

/// Reads bytes that come once. They are decompressed by a thread of their own.
fn flowing<T>(
    source: Box<dyn Read + Send + '_>,
    compression: Option<Compression>,
    checked: &Checked,
    reading: &Reading<'_>,
    read: impl FnOnce(&mut Input<'_>) -> Result<T>,
) -> Result<(T, Slice)> {
    let spool = reading.packer.spool("contents of an archive")?;
    let (outer, inner) = (Check::new(checked.whole.as_ref()), Check::new(checked.content.as_ref()));
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel(WAITING);
        let worker = scope.spawn(move || produce(source, compression, outer, &send));
        let read_from = Box::new(Pieces { receive, piece: Vec::new(), at: 0, check: inner });
        let from = From::Flowing { read: read_from, spool, start: 0, buffer: Vec::new() };
        let mut input = Input::new(from, reading);
        let found = read(&mut input).and_then(|found| input.drain().map(|()| found));
        let kept = found.and_then(|found| Ok((found, input.finish()?)));
        match worker.join() {
            // What the worker could not send, nobody waited for; what it was told is told by the reader.
            Ok(()) => kept,
            Err(_) => Err(Error::bug("the thread that decompresses has ended early")),
        }
    })
}

/// Decompresses, and sends what comes out. An error is the last thing that is sent.
fn produce(
    source: Box<dyn Read + Send + '_>,
    compression: Option<Compression>,
    mut check: Check,
    send: &SyncSender<io::Result<Vec<u8>>>,
) {
    let result = (|| -> io::Result<()> {
        let source: Box<dyn Read + Send> = Box::new(check.reader(source));
        let mut read = match compression {
            Some(compression) => compression.open(source).map_err(io::Error::other)?,
            None => source,
        };
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            if (&mut read).take(u64_of(PIECE)).read_to_end(&mut piece)? == 0 {
                return Ok(());
            }
            if send.send(Ok(piece)).is_err() {
                // The reader has given up, and tells why.
                return Ok(());
            }
        }
    })();
    let result = result.and_then(|()| check.finish().map_err(io::Error::other));
    if let Err(error) = result {
        let _ = send.send(Err(error));
    }
}

/// What another thread sends.
struct Pieces {
    receive: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    at: usize,
    check: Check,
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            match self.receive.recv() {
                Err(_) => return self.check.finish().map_err(io::Error::other).map(|()| 0),
                Ok(piece) => (self.piece, self.at) = (piece?, 0),
            }
            self.check.update(&self.piece);
        }
        let length = out.len().min(self.piece.len() - self.at);
        out[..length].copy_from_slice(&self.piece[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

/// The bytes of a slice, one after the other.
struct Slices {
    cursor: Cursor,
    at: u64,
}

impl Read for Slices {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.cursor.slice().length().get().saturating_sub(self.at);
        let length = usize_of(left.min(u64_of(out.len())));
        self.cursor.read(self.at, &mut out[..length]).map_err(io::Error::other)?;
        self.at += u64_of(length);
        Ok(length)
    }
}

impl<'a> Input<'a> {
    fn new(from: From<'a>, reading: &Reading<'a>) -> Self {
        Self { from, ahead: Vec::new(), at: 0, progress: reading.packer.progress() }
    }

    /// The offset of the next byte.
    pub(super) fn at(&self) -> u64 {
        self.at - u64_of(self.ahead.len())
    }

    /// Fills `out`, or as much of it as there are bytes left, without going on.
    pub(super) fn peek(&mut self, out: &mut [u8]) -> Result<usize> {
        let length = self.fill(out)?;
        self.ahead = [&out[..length], &self.ahead].concat();
        Ok(length)
    }

    /// Fills `out`; less only where the archive ends.
    pub(super) fn fill(&mut self, out: &mut [u8]) -> Result<usize> {
        let mut done = out.len().min(self.ahead.len());
        out[..done].copy_from_slice(&self.ahead[..done]);
        self.ahead.drain(..done);
        while done < out.len() {
            let rest = &mut out[done..];
            let length = match &mut self.from {
                From::Lying(cursor) => {
                    let left = cursor.slice().length().get().saturating_sub(self.at);
                    let length = usize_of(left.min(u64_of(rest.len())));
                    cursor.read(self.at, &mut rest[..length])?;
                    length
                }
                From::Flowing { read, .. } => match read.read(rest) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    other => other.map_err(|error| match error.downcast::<Error>() {
                        Ok(own) => own,
                        Err(error) => {
                            Error::new(Kind::Source, "cannot decompress the archive").because(error)
                        }
                    })?,
                },
            };
            if length == 0 {
                break;
            }
            self.at += u64_of(length);
            done += length;
        }
        Ok(done)
    }

    /// Fills `out`.
    ///
    /// # Errors
    /// [`Kind::Source`] where the archive ends before.
    pub(super) fn exactly(&mut self, out: &mut [u8], member: &[u8]) -> Result<()> {
        if self.fill(out)? == out.len() { Ok(()) } else { Err(self.ends(member)) }
    }

    /// The next `length` bytes, at most `most`.
    pub(super) fn bytes(&mut self, length: u64, most: u64, member: &[u8]) -> Result<Vec<u8>> {
        if length > most {
            return Err(super::damaged("a member of the archive has too much metadata")
                .expected(format!("at most {most} bytes"))
                .found(format!("{length} bytes, of {}", crate::text::printable(member))));
        }
        let mut bytes = vec![0; usize_of(length)];
        self.exactly(&mut bytes, member)?;
        Ok(bytes)
    }

    fn ends(&self, member: &[u8]) -> Error {
        super::damaged("the archive ends in the middle of a member")
            .found(format!("its end at byte {}, in {}", self.at, crate::text::printable(member)))
            .hint("it was cut off: get it once more")
    }

    /// Goes on without looking at `length` bytes.
    pub(super) fn skip(&mut self, length: u64, member: &[u8]) -> Result<()> {
        let ahead = length.min(u64_of(self.ahead.len()));
        self.ahead.drain(..usize_of(ahead));
        let rest = length - ahead;
        if let From::Lying(cursor) = &self.from {
            let left = cursor.slice().length().get().saturating_sub(self.at);
            self.at += rest.min(left);
            return if rest > left { Err(self.ends(member)) } else { Ok(()) };
        }
        self.pass(rest, member, |_, _| Ok(()))
    }

    /// Keeps the next `length` bytes, and returns where they are in what is kept. `see` sees them, if that is asked for.
    pub(super) fn keep(&mut self, length: u64, member: &[u8], see: Option<Seer<'_>>) -> Result<u64> {
        let start = match &self.from {
            From::Lying(_) => self.at(),
            From::Flowing { start, buffer, .. } => *start + u64_of(buffer.len()),
        };
        match (see, &self.from) {
            (None, From::Lying(_)) => self.skip(length, member)?,
            (None, _) => self.pass(length, member, From::keep)?,
            (Some(see), _) => self.pass(length, member, |from, bytes| {
                see(bytes);
                from.keep(bytes)
            })?,
        }
        Ok(start)
    }

    /// Keeps all bytes that are left, and returns where they begin in what is kept.
    pub(super) fn keep_rest(&mut self) -> Result<u64> {
        let start = match &self.from {
            From::Lying(_) => return Ok(self.at()),
            From::Flowing { start, buffer, .. } => *start + u64_of(buffer.len()),
        };
        let mut buffer = vec![0; PIECE];
        loop {
            self.progress.check()?;
            match self.fill(&mut buffer)? {
                0 => return Ok(start),
                length => self.from.keep(&buffer[..length])?,
            }
        }
    }

    /// Passes `length` bytes on to `to`.
    fn pass(
        &mut self,
        length: u64,
        member: &[u8],
        mut to: impl FnMut(&mut From<'a>, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut left = length;
        let mut buffer = vec![0; usize_of(left.min(MIB / 4))];
        while left > 0 {
            self.progress.check()?;
            let want = usize_of(left.min(u64_of(buffer.len())));
            let got = self.fill(&mut buffer[..want])?;
            if got < want {
                return Err(self.ends(member));
            }
            to(&mut self.from, &buffer[..want])?;
            left -= u64_of(want);
        }
        Ok(())
    }

    /// Reads what is left, so that checks at the end are made.
    fn drain(&mut self) -> Result<()> {
        if matches!(self.from, From::Lying(_)) {
            return Ok(());
        }
        let mut buffer = vec![0; PIECE];
        while self.fill(&mut buffer)? > 0 {
            self.progress.check()?;
        }
        Ok(())
    }

    /// Whether bytes other than zero are left. It goes on to the first of them.
    pub(super) fn more_follows(&mut self) -> Result<bool> {
        // Few enough, because the rest of them is kept before what comes.
        let mut buffer = [0; 512];
        loop {
            self.progress.check()?;
            let length = self.fill(&mut buffer)?;
            if length == 0 {
                return Ok(false);
            }
            if let Some(first) = buffer[..length].iter().position(|byte| *byte != 0) {
                self.ahead = [&buffer[first..length], &self.ahead].concat();
                return Ok(true);
            }
        }
    }

    /// What was kept.
    fn finish(self) -> Result<Slice> {
        match self.from {
            From::Lying(cursor) => Ok(cursor.slice().clone()),
            From::Flowing { mut spool, start, buffer, .. } => {
                spool.keep(&buffer, start)?;
                spool.extend(start + u64_of(buffer.len()));
                Ok(spool.finish()?.whole())
            }
        }
    }
}

impl From<'_> {
    fn keep(&mut self, bytes: &[u8]) -> Result<()> {
        let Self::Flowing { spool, start, buffer, .. } = self else { return Ok(()) };
        buffer.extend_from_slice(bytes);
        if buffer.len() >= BUFFER {
            spool.keep(buffer, *start)?;
            *start += u64_of(buffer.len());
            buffer.clear();
        }
        Ok(())
    }
}

/// A slice as a reader, for what is small.
pub(super) fn read_small(slice: &Slice, most: u64, what: &str) -> Result<Vec<u8>> {
    let length = slice.length().get();
    if length > most {
        return Err(super::damaged(format!("{what} is too large"))
            .expected(format!("at most {}", Bytes::new(most).in_full()))
            .found(Bytes::new(length).in_full()));
    }
    slice.bytes(0, usize_of(length))
}
