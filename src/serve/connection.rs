//! One conversation over any stream: it reads messages, lets [`Session`] decide, and sends what was asked for.

use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;

use rustix::fs::sendfile;
use rustix::io::Errno;

use super::exports::{Export, Exports};
use super::format::{SIZES, errno};
use super::replies::{self, BEFORE_DATA};
use super::session::{End, Range, Session, Step};
use crate::error::Error;
use crate::image::{AtRest, Cursor};
use crate::text::printable_path;
use crate::units::{index, usize_of};

/// The most data of one chunk. It is what nbdcopy reads at a time, and small enough to stay in a processor's cache between
/// the read and the write.
const PIECE: u32 = 256 << 10;

/// The same where the reply is simple. Its header cannot be taken back, so an error after the first piece ends the
/// conversation. Requests of the kernel are shorter: at most 1280 KiB by default (linux, BLK_DEF_MAX_SECTORS).
const SIMPLE_PIECE: u32 = 2 << 20;

/// The least of a file that is sent without a copy: a chunk of its own costs both sides about what a copy of half of it does.
const LONG: u64 = 64 << 10;

/// What a conversation reports.
pub(super) trait Hear {
    /// The client has chosen an export.
    fn chosen(&mut self, export: &Export);

    /// Bytes of an export cannot be read.
    fn failed(&mut self, error: &Error);
}

/// How a conversation ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Talk {
    /// Requests that were answered.
    pub(super) requests: u64,
    /// Bytes that were read, holes included.
    pub(super) bytes: u64,
    /// What the client did that nobody may do.
    pub(super) fault: Option<&'static str>,
}

/// Serves one client until it leaves. A client that vanishes is no error. `socket` is where `output` writes at once, if that can
/// take files.
pub(super) fn converse(
    exports: &Exports,
    input: impl Read,
    output: impl Write,
    socket: Option<BorrowedFd<'_>>,
    hear: &mut dyn Hear,
) -> Talk {
    let mut talk = Talk::default();
    let mut out = Vec::new();
    let session = Session::begin(exports, &mut out);
    let mut conversation = Conversation { session, output, socket, out, reader: None, talk: &mut talk, hear };
    // The other side may leave at any time; then there is nobody to tell.
    let _ = conversation.run(input);
    talk
}

/// The export that a client reads.
struct Reader<'a> {
    export: &'a Export,
    cursor: Cursor,
    /// The header of a reply and its data, which are sent in one write.
    buffer: Vec<u8>,
}

struct Conversation<'a, 'b, W> {
    session: Session<'a>,
    output: W,
    socket: Option<BorrowedFd<'b>>,
    out: Vec<u8>,
    reader: Option<Reader<'a>>,
    talk: &'b mut Talk,
    hear: &'b mut dyn Hear,
}

impl<W: Write> Conversation<'_, '_, W> {
    fn run(&mut self, mut input: impl Read) -> io::Result<()> {
        let mut message = Vec::new();
        loop {
            self.flush()?;
            message.resize(self.session.wants(), 0);
            input.read_exact(&mut message)?;
            match self.session.take(&message, &mut self.out) {
                Step::Continue => {}
                Step::Chosen(export) => {
                    self.hear.chosen(export);
                    let cursor = export.slice().cursor();
                    self.reader = Some(Reader { export, cursor, buffer: Vec::new() });
                }
                Step::Read(range) => {
                    self.count(&range);
                    self.read(&range)?;
                }
                Step::Status(range, only) => {
                    self.talk.requests += 1;
                    if let Some(reader) = &self.reader {
                        replies::status(reader.export, &range, only, &mut self.out);
                    }
                }
                Step::End(end) => {
                    if let End::Refused(why) = end {
                        self.talk.fault = Some(why);
                    }
                    return self.flush();
                }
            }
        }
    }

    fn count(&mut self, range: &Range) {
        self.talk.requests += 1;
        self.talk.bytes = self.talk.bytes.saturating_add(range.length.into());
    }

    /// Sends what was put out.
    fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.output.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    fn read(&mut self, range: &Range) -> io::Result<()> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        let answered = if self.session.structured() {
            reader.in_chunks(range, &mut self.out, (&mut self.output, self.socket))?
        } else {
            reader.simply(range, &mut self.out, &mut self.output)?
        };
        match answered {
            Ok(()) => Ok(()),
            Err(failed) => {
                self.hear.failed(&failed.error);
                if failed.begun { Err(io::ErrorKind::InvalidData.into()) } else { Ok(()) }
            }
        }
    }
}

/// Bytes that cannot be read.
struct Failed {
    error: Error,
    /// Whether a part of the reply is out that promises more than there is.
    begun: bool,
}

impl Reader<'_> {
    /// Space for a header and `length` bytes after it. It only grows, so that nothing is cleared which is filled at once.
    fn space(&mut self, length: usize) {
        let needed = BEFORE_DATA + length;
        if self.buffer.len() < needed {
            self.buffer.resize(needed, 0);
        }
    }

    /// Puts `length` bytes at `offset` into the buffer, after space for a header.
    fn fill(&mut self, offset: u64, length: u32) -> Result<(), Error> {
        self.space(index(length));
        self.cursor.read(offset, &mut self.buffer[BEFORE_DATA..BEFORE_DATA + index(length)])
    }

    /// Sends `length` bytes of the buffer, with `head` right before them.
    fn send(&mut self, head: &[u8], length: u32, output: &mut impl Write) -> io::Result<()> {
        let start = BEFORE_DATA - head.len();
        self.buffer[start..BEFORE_DATA].copy_from_slice(head);
        output.write_all(&self.buffer[start..BEFORE_DATA + index(length)])
    }

    /// A reply in chunks: data, holes, and an error for what cannot be read.
    fn in_chunks(
        &mut self,
        range: &Range,
        out: &mut Vec<u8>,
        (output, socket): (&mut impl Write, Option<BorrowedFd<'_>>),
    ) -> io::Result<Result<(), Failed>> {
        let (mut at, mut left) = (range.offset, range.length);
        while left > 0 {
            let hole = self.hole(at, left);
            let piece = left.min(PIECE);
            let at_rest =
                if hole > 0 { None } else { socket.and_then(|socket| self.at_rest(at, piece, socket)) };
            let failed = |error: Error, out: &mut Vec<u8>| {
                replies::error_at(range.cookie, at, &told(&error), out);
                Ok(Err(Failed { error, begun: false }))
            };
            let length = match at_rest {
                _ if hole > 0 => {
                    replies::hole(hole == left, range.cookie, at, hole, out);
                    output.write_all(out)?;
                    out.clear();
                    hole
                }
                Some((part, length, socket)) if part.offset == at => {
                    // Whether the file is as it was is known after its bytes are out. So their chunk is not the last one.
                    output.write_all(&replies::data(false, range.cookie, at, index(length)))?;
                    if let Err(error) = self.send_file(&part, output, socket)? {
                        return failed(error, out);
                    }
                    if length == left {
                        replies::end(range.cookie, out);
                    }
                    length
                }
                _ => {
                    let length =
                        at_rest.map_or(piece, |(part, ..)| u32::try_from(part.offset - at).unwrap_or(piece));
                    if let Err(error) = self.fill(at, length) {
                        return failed(error, out);
                    }
                    let head = replies::data(length == left, range.cookie, at, index(length));
                    self.send(&head, length, output)?;
                    length
                }
            };
            at += u64::from(length);
            left -= length;
        }
        Ok(Ok(()))
    }

    /// The first long part of a file that can be sent without a copy, among the next `piece` bytes.
    fn at_rest<'s>(
        &mut self,
        at: u64,
        piece: u32,
        socket: BorrowedFd<'s>,
    ) -> Option<(AtRest, u32, BorrowedFd<'s>)> {
        let part = self.cursor.at_rest(at, piece.into(), LONG)?;
        Some((part, u32::try_from(part.length).unwrap_or(piece), socket))
    }

    /// Sends a part of a file. If that cannot be read, zeros stand for the rest, and the error says that they mean nothing.
    fn send_file(
        &mut self,
        part: &AtRest,
        output: &mut impl Write,
        socket: BorrowedFd<'_>,
    ) -> io::Result<Result<(), Error>> {
        let source = match self.cursor.source(part.files, part.file) {
            Ok(source) => source,
            Err(error) => {
                output.write_all(&vec![0; usize_of(part.length)])?;
                return Ok(Err(error));
            }
        };
        let (mut skip, end) = (part.skip, part.skip + part.length);
        while skip < end {
            let left = usize_of(end - skip);
            match sendfile(socket, source.file(), Some(&mut skip), left) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                // Not every filesystem can; if it is the socket that fails, the next write tells.
                Err(_) => break,
            }
        }
        if skip < end {
            let mut rest = vec![0; usize_of(end - skip)];
            let read = source.read_exact(skip, &mut rest);
            output.write_all(&rest)?;
            if read.is_err() {
                return Ok(read);
            }
        }
        Ok(source.verify())
    }

    /// How many of the next `left` bytes are a hole, in whole pieces or up to the end. A short hole is not worth a chunk.
    fn hole(&self, at: u64, left: u32) -> u32 {
        let first = self.export.extents(at, at + u64::from(left)).next();
        let Some(extent) = first.filter(|extent| extent.hole) else { return 0 };
        let length = u32::try_from(extent.length).unwrap_or(left).min(left);
        if length == left { length } else { length / PIECE * PIECE }
    }

    /// A header and all the data.
    fn simply(
        &mut self,
        range: &Range,
        out: &mut Vec<u8>,
        output: &mut impl Write,
    ) -> io::Result<Result<(), Failed>> {
        debug_assert!(range.length <= SIZES.2);
        let mut done = 0;
        while done < range.length {
            let length = (range.length - done).min(SIMPLE_PIECE);
            if let Err(error) = self.fill(range.offset + u64::from(done), length) {
                if done == 0 {
                    replies::error(false, range.cookie, errno::IO, "", out);
                }
                return Ok(Err(Failed { error, begun: done > 0 }));
            }
            if done == 0 {
                self.send(replies::simple(range.cookie).as_ref(), length, output)?;
            } else {
                self.send(&[], length, output)?;
            }
            done += length;
        }
        Ok(Ok(()))
    }
}

/// An error as a client shows it: in one line, with the path.
fn told(error: &Error) -> String {
    match error.path() {
        Some(path) => format!("{}: {}", error.what(), printable_path(path)),
        None => error.what().to_owned(),
    }
}
