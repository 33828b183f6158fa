//! One conversation as a state machine. It gets the bytes that it asks for, says what to answer, and knows no socket.

use super::exports::{Export, Exports};
use super::format::{
    EXPORT_FLAGS, Greeting, LONGEST_TEXT, OLD_EXPORT_SHORT, OldExport, OptionHead, Request, SIZES, command,
    errno, handshake, option, reply,
};
use super::options::{self, Answer};
use super::replies;
use crate::units::{index, u64_of};
use crate::wire::Wire;

/// The most data of an option that is looked at: two names, and what is small beside them. More is skipped.
const LONGEST_OPTION: u32 = 16_384;

/// How many bytes are skipped at a time.
const SKIPPED: u64 = 65_536;

/// What to do after a message of the client.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// It only sends what was put out.
    Continue,
    /// The client has chosen this export; from now on it reads.
    Chosen(&'a Export),
    /// Answer a read.
    Read(Range),
    /// Answer a question for data and holes.
    Status(Range, Only),
    /// Send what was put out, and close.
    End(End),
}

/// Whether a client wants one extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Only {
    First,
    All,
}

/// Why a conversation is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client said goodbye.
    Goodbye,
    /// The client does not speak the protocol, or asked for what can only be refused by closing.
    Refused(&'static str),
}

/// The part of the export that a request is about. It lies inside the export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) cookie: u64,
    pub(super) offset: u64,
    pub(super) length: u32,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Waits for the flags of the client.
    Flags,
    /// Waits for an option.
    Option,
    /// Waits for the data of an option.
    Data { option: u32, length: u32 },
    /// Skips the rest of an option that is too long.
    SkipOption { option: u32, left: u64 },
    /// Waits for a request.
    Request,
    /// Skips the data of a write.
    SkipWrite { cookie: u64, left: u64 },
}

/// The server's side of one conversation.
#[derive(Debug)]
pub(super) struct Session<'a> {
    exports: &'a Exports,
    state: State,
    /// Both sides leave out the zeros of [`OldExport`].
    no_zeroes: bool,
    structured: bool,
    /// The export for which the client has asked for base:allocation.
    context: Option<usize>,
    chosen: Option<&'a Export>,
    /// Whether the client may ask for data and holes of the chosen export.
    status: bool,
}

impl<'a> Session<'a> {
    /// A conversation that begins; `out` gets the greeting.
    pub(super) fn begin(exports: &'a Exports, out: &mut Vec<u8>) -> Self {
        let flags = handshake::FIXED_NEWSTYLE | handshake::NO_ZEROES;
        out.extend_from_slice(&Greeting { flags, ..Greeting::BLANK }.bytes());
        Self {
            exports,
            state: State::Flags,
            no_zeroes: false,
            structured: false,
            context: None,
            chosen: None,
            status: false,
        }
    }

    /// Whether the client reads in chunks.
    pub(super) const fn structured(&self) -> bool {
        self.structured
    }

    /// How many bytes the next message has; never zero, and never many.
    pub(super) fn wants(&self) -> usize {
        match self.state {
            State::Flags => 4,
            State::Option => OptionHead::LENGTH,
            State::Data { length, .. } => index(length),
            State::SkipOption { left, .. } | State::SkipWrite { left, .. } => {
                crate::units::usize_of(left.min(SKIPPED))
            }
            State::Request => Request::LENGTH,
        }
    }

    /// Takes the bytes that it wanted, all of them.
    pub(super) fn take(&mut self, message: &[u8], out: &mut Vec<u8>) -> Step<'a> {
        match self.state {
            State::Flags => self.flags(message),
            State::Option => match OptionHead::read(message) {
                Ok(head) if head.length > LONGEST_OPTION => {
                    self.state = State::SkipOption { option: head.option, left: head.length.into() };
                    Step::Continue
                }
                Ok(head) if head.length > 0 => {
                    self.state = State::Data { option: head.option, length: head.length };
                    Step::Continue
                }
                Ok(head) => self.option(head.option, &[], out),
                Err(_) => Step::End(End::Refused("it sent something else than an option")),
            },
            State::Data { option, .. } => {
                self.state = State::Option;
                self.option(option, message, out)
            }
            State::SkipOption { option, left } => {
                let left = left.saturating_sub(u64_of(message.len()));
                self.state = State::SkipOption { option, left };
                if left == 0 {
                    self.state = State::Option;
                    if matches!(option, option::EXPORT_NAME) {
                        return Step::End(End::Refused("it asked for an export with an endless name"));
                    }
                    options::reply(option, reply::TOO_BIG, b"there is too much data in this option", out);
                }
                Step::Continue
            }
            State::Request => match Request::read(message) {
                Ok(request) => self.request(&request, out),
                Err(_) => Step::End(End::Refused("it sent something else than a request")),
            },
            State::SkipWrite { cookie, left } => {
                let left = left.saturating_sub(u64_of(message.len()));
                self.state = State::SkipWrite { cookie, left };
                if left == 0 {
                    self.state = State::Request;
                    self.refuse(cookie, errno::PERM, out);
                }
                Step::Continue
            }
        }
    }

    /// The flags of the client. Unknown ones end the conversation ("Newstyle negotiation").
    fn flags(&mut self, message: &[u8]) -> Step<'a> {
        let flags = match message {
            [0, 0, high, low] => u16::from_be_bytes([*high, *low]),
            _ => u16::MAX,
        };
        if flags & !(handshake::FIXED_NEWSTYLE | handshake::NO_ZEROES) != 0 {
            return Step::End(End::Refused("it has flags that are not known"));
        }
        self.no_zeroes = flags & handshake::NO_ZEROES != 0;
        self.state = State::Option;
        Step::Continue
    }

    fn option(&mut self, option: u32, data: &[u8], out: &mut Vec<u8>) -> Step<'a> {
        let exports = self.exports;
        match option {
            option::EXPORT_NAME => {
                let name = std::str::from_utf8(data).ok();
                let Some(found) = name.and_then(|name| exports.find(name)) else {
                    // This option has no way to tell an error.
                    return Step::End(End::Refused("it asked for an export that there is not"));
                };
                let Some(export) = exports.list().get(found) else {
                    return Step::End(End::Refused("it asked for an export that there is not"));
                };
                let old = OldExport { size: export.length().get(), flags: EXPORT_FLAGS }.bytes();
                let length = if self.no_zeroes { OLD_EXPORT_SHORT } else { old.len() };
                out.extend_from_slice(&old[..length]);
                self.choose(found, export)
            }
            option::ABORT => {
                options::reply(option, reply::ACK, &[], out);
                Step::End(End::Goodbye)
            }
            option::LIST => {
                options::list(exports, data, out);
                Step::Continue
            }
            option::STRUCTURED_REPLY if data.is_empty() && !self.structured => {
                self.structured = true;
                options::reply(option, reply::ACK, &[], out);
                Step::Continue
            }
            option::STRUCTURED_REPLY => {
                options::reply(option, reply::INVALID, b"this is agreed once, and without data", out);
                Step::Continue
            }
            option::INFO | option::GO => match options::info(exports, option, data, out) {
                Answer::Export(number, export) if option == option::GO => self.choose(number, export),
                Answer::Export(..) | Answer::Refused => Step::Continue,
            },
            option::SET_META_CONTEXT | option::LIST_META_CONTEXT => {
                let set = option == option::SET_META_CONTEXT;
                if set {
                    // Each answer replaces that before it, also where it is an error.
                    self.context = None;
                }
                let found = options::contexts(exports, option, data, self.structured, out);
                if set {
                    self.context = found;
                }
                Step::Continue
            }
            _ => {
                options::reply(option, reply::UNSUPPORTED, b"this option is not supported", out);
                Step::Continue
            }
        }
    }

    fn choose(&mut self, number: usize, export: &'a Export) -> Step<'a> {
        self.status = self.context == Some(number);
        self.chosen = Some(export);
        self.state = State::Request;
        Step::Chosen(export)
    }

    fn request(&mut self, request: &Request, out: &mut Vec<u8>) -> Step<'a> {
        let length = self.chosen.map_or(0, |export| export.length().get());
        let end = request.offset.checked_add(u64::from(request.length));
        let inside = request.length > 0 && end.is_some_and(|end| end <= length);
        let Request { cookie, offset, length, .. } = *request;
        let range = Range { cookie, offset, length };
        match request.kind {
            command::READ if inside && length <= SIZES.2 => return Step::Read(range),
            command::BLOCK_STATUS if inside && self.status => {
                let one = request.flags & super::format::REQ_ONE != 0;
                return Step::Status(range, if one { Only::First } else { Only::All });
            }
            command::DISCONNECT => return Step::End(End::Goodbye),
            command::WRITE if length > 0 => {
                self.state = State::SkipWrite { cookie, left: length.into() };
            }
            command::WRITE | command::TRIM | command::WRITE_ZEROES => self.refuse(cookie, errno::PERM, out),
            _ => self.refuse(cookie, errno::INVAL, out),
        }
        Step::Continue
    }

    /// Answers a request with an error.
    fn refuse(&self, cookie: u64, error: u32, out: &mut Vec<u8>) {
        let text = match error {
            errno::PERM => "the export is read-only",
            _ => "the export has no such bytes, or the server no such command",
        };
        replies::error(self.structured, cookie, error, text, out);
    }
}

/// A text as the protocol can carry it.
pub(super) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_TEXT)]
}
