//! One conversation over any stream: it reads messages, lets [`Session`] decide, and sends what was asked for.

use std::io::{self, Read, Write};

use super::exports::{Export, Exports};
use super::format::{SIZES, errno};
use super::replies::{self, BEFORE_DATA};
use super::session::{End, Range, Session, Step};
use crate::error::Error;
use crate::image::Cursor;
use crate::text::printable_path;
use crate::units::index;

/// The most data of one chunk. It is what nbdcopy reads at a time, and small enough to stay in a processor's cache between
/// the read and the write.
const PIECE: u32 = 256 << 10;

/// The same where the reply is simple. Its header cannot be taken back, so an error after the first piece ends the
/// conversation. Requests of the kernel are shorter: at most 1280 KiB by default (linux, BLK_DEF_MAX_SECTORS).
const SIMPLE_PIECE: u32 = 2 << 20;

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

/// Serves one client until it leaves. A client that vanishes is no error.
pub(super) fn converse(exports: &Exports, input: impl Read, output: impl Write, hear: &mut dyn Hear) -> Talk {
    let mut talk = Talk::default();
    let mut out = Vec::new();
    let session = Session::begin(exports, &mut out);
    let mut conversation = Conversation { session, output, out, reader: None, talk: &mut talk, hear };
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
            reader.in_chunks(range, &mut self.out, &mut self.output)?
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
    /// Puts `length` bytes at `offset` into the buffer, after space for a header.
    fn fill(&mut self, offset: u64, length: u32) -> Result<(), Error> {
        self.buffer.resize(BEFORE_DATA + index(length), 0);
        self.cursor.read(offset, &mut self.buffer[BEFORE_DATA..])
    }

    /// Sends what is in the buffer, with `head` right before the data.
    fn send(&mut self, head: &[u8], output: &mut impl Write) -> io::Result<()> {
        let start = BEFORE_DATA - head.len();
        self.buffer[start..BEFORE_DATA].copy_from_slice(head);
        output.write_all(&self.buffer[start..])
    }

    /// A reply in chunks: data, holes, and an error for what cannot be read.
    fn in_chunks(
        &mut self,
        range: &Range,
        out: &mut Vec<u8>,
        output: &mut impl Write,
    ) -> io::Result<Result<(), Failed>> {
        let (mut at, mut left) = (range.offset, range.length);
        while left > 0 {
            let hole = self.hole(at, left);
            let length = if hole > 0 { hole } else { left.min(PIECE) };
            let last = length == left;
            if hole > 0 {
                replies::hole(last, range.cookie, at, length, out);
                output.write_all(out)?;
                out.clear();
            } else if let Err(error) = self.fill(at, length) {
                replies::error_at(range.cookie, at, &told(&error), out);
                return Ok(Err(Failed { error, begun: false }));
            } else {
                self.send(&replies::data(last, range.cookie, at, index(length)), output)?;
            }
            at += u64::from(length);
            left -= length;
        }
        Ok(Ok(()))
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
                self.send(replies::simple(range.cookie).as_ref(), output)?;
            } else {
                self.send(&[], output)?;
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
