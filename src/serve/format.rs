//! The messages of the NBD protocol (NetworkBlockDevice/nbd, doc/proto.md). All integers are big-endian.

use crate::wire::{Structure, Wire, wire};

/// Every structure, for the tables of docs/formats/nbd.md.
pub(crate) const STRUCTURES: &[Structure] = &[
    Greeting::STRUCTURE,
    OptionHead::STRUCTURE,
    OptionReply::STRUCTURE,
    ExportInfo::STRUCTURE,
    SizesInfo::STRUCTURE,
    OldExport::STRUCTURE,
    Request::STRUCTURE,
    SimpleReply::STRUCTURE,
    Chunk::STRUCTURE,
    DataChunk::STRUCTURE,
    HoleChunk::STRUCTURE,
    ErrorHead::STRUCTURE,
    Extent::STRUCTURE,
];

/// "NBDMAGIC".
const NBDMAGIC: u64 = 0x4e42_444d_4147_4943;
/// "IHAVEOPT".
const IHAVEOPT: u64 = 0x4948_4156_454f_5054;

wire! {
    /// The first message of a server ("Newstyle negotiation").
    pub(super) struct Greeting: "NBD greeting", big, 18 {
        0 magic: u64 = NBDMAGIC,
        8 style: u64 = IHAVEOPT,
        16 flags: u16,
    }
}

wire! {
    /// The start of an option of the client, before its data.
    pub(super) struct OptionHead: "NBD option", big, 16 {
        0 magic: u64 = IHAVEOPT,
        8 option: u32,
        12 length: u32,
    }
}

wire! {
    /// The start of a reply to an option, before its data ("Option reply types").
    pub(super) struct OptionReply: "NBD option reply", big, 20 {
        0 magic: u64 = 0x0003_e889_0455_65a9,
        8 option: u32,
        12 kind "type": u32,
        16 length: u32,
    }
}

wire! {
    /// NBD_INFO_EXPORT: what the client gets.
    pub(super) struct ExportInfo: "NBD information: export", big, 12 {
        0 kind "type": u16 = info::EXPORT,
        2 size: u64,
        10 flags: u16,
    }
}

wire! {
    /// NBD_INFO_BLOCK_SIZE: the lengths of requests.
    pub(super) struct SizesInfo: "NBD information: block sizes", big, 14 {
        0 kind "type": u16 = info::BLOCK_SIZE,
        2 minimum: u32,
        6 preferred: u32,
        10 maximum: u32,
    }
}

wire! {
    /// The answer to NBD_OPT_EXPORT_NAME, which has no reply header. The zeros after the flags are left out if both sides
    /// agreed on that.
    pub(super) struct OldExport: "NBD export by name", big, 134 {
        0 size: u64,
        8 flags: u16,
    }
}

wire! {
    /// A request in the transmission phase ("Request message").
    pub(super) struct Request: "NBD request", big, 28 {
        0 magic: u32 = 0x2560_9513,
        4 flags: u16,
        6 kind "type": u16,
        8 cookie: u64,
        16 offset: u64,
        24 length: u32,
    }
}

wire! {
    /// A reply to a client without structured replies. The data of a read follows.
    pub(super) struct SimpleReply: "NBD simple reply", big, 16 {
        0 magic: u32 = 0x6744_6698,
        4 error: u32,
        8 cookie: u64,
    }
}

wire! {
    /// The start of a structured reply, before its payload.
    pub(super) struct Chunk: "NBD structured reply", big, 20 {
        0 magic: u32 = 0x668e_33ef,
        4 flags: u16,
        6 kind "type": u16,
        8 cookie: u64,
        16 length: u32,
    }
}

wire! {
    /// The start of the payload of NBD_REPLY_TYPE_OFFSET_DATA.
    pub(super) struct DataChunk: "NBD chunk: data", big, 8 {
        0 offset: u64,
    }
}

wire! {
    /// The payload of NBD_REPLY_TYPE_OFFSET_HOLE.
    pub(super) struct HoleChunk: "NBD chunk: hole", big, 12 {
        0 offset: u64,
        8 length: u32,
    }
}

wire! {
    /// The start of the payload of an error chunk. The text follows, and in NBD_REPLY_TYPE_ERROR_OFFSET the offset after it.
    pub(super) struct ErrorHead: "NBD chunk: error", big, 6 {
        0 error: u32,
        4 length: u16,
    }
}

wire! {
    /// A range in NBD_REPLY_TYPE_BLOCK_STATUS, whose payload begins with the id of the context.
    pub(super) struct Extent: "NBD chunk: extent", big, 8 {
        0 length: u32,
        4 flags: u32,
    }
}

/// Bytes of [`OldExport`] without the zeros.
pub(super) const OLD_EXPORT_SHORT: usize = 10;

/// Flags of the handshake, of both sides.
pub(super) mod handshake {
    pub(in super::super) const FIXED_NEWSTYLE: u16 = 1;
    pub(in super::super) const NO_ZEROES: u16 = 2;
}

/// Options of the client (NBD_OPT_*).
pub(super) mod option {
    pub(in super::super) const EXPORT_NAME: u32 = 1;
    pub(in super::super) const ABORT: u32 = 2;
    pub(in super::super) const LIST: u32 = 3;
    pub(in super::super) const INFO: u32 = 6;
    pub(in super::super) const GO: u32 = 7;
    pub(in super::super) const STRUCTURED_REPLY: u32 = 8;
    pub(in super::super) const LIST_META_CONTEXT: u32 = 9;
    pub(in super::super) const SET_META_CONTEXT: u32 = 10;
}

/// Replies to options (NBD_REP_*). Errors have the highest bit.
pub(super) mod reply {
    pub(in super::super) const ACK: u32 = 1;
    pub(in super::super) const SERVER: u32 = 2;
    pub(in super::super) const INFO: u32 = 3;
    pub(in super::super) const META_CONTEXT: u32 = 4;
    pub(in super::super) const UNSUPPORTED: u32 = 0x8000_0001;
    pub(in super::super) const INVALID: u32 = 0x8000_0003;
    pub(in super::super) const UNKNOWN: u32 = 0x8000_0006;
    pub(in super::super) const TOO_BIG: u32 = 0x8000_0009;
}

/// Kinds of information about an export (NBD_INFO_*).
pub(super) mod info {
    pub(in super::super) const EXPORT: u16 = 0;
    pub(in super::super) const NAME: u16 = 1;
    pub(in super::super) const DESCRIPTION: u16 = 2;
    pub(in super::super) const BLOCK_SIZE: u16 = 3;
}

/// What an export can do (NBD_FLAG_*): it has these flags, is read-only, and shows the same on all connections.
pub(super) const EXPORT_FLAGS: u16 = 1 | 2 | 256;

/// Commands (NBD_CMD_*).
pub(super) mod command {
    pub(in super::super) const READ: u16 = 0;
    pub(in super::super) const WRITE: u16 = 1;
    pub(in super::super) const DISCONNECT: u16 = 2;
    pub(in super::super) const TRIM: u16 = 4;
    pub(in super::super) const WRITE_ZEROES: u16 = 6;
    pub(in super::super) const BLOCK_STATUS: u16 = 7;
}

/// NBD_CMD_FLAG_REQ_ONE: the client wants one extent.
pub(super) const REQ_ONE: u16 = 8;

/// Chunks of structured replies (NBD_REPLY_TYPE_*).
pub(super) mod chunk {
    /// NBD_REPLY_FLAG_DONE: the last chunk of a reply.
    pub(in super::super) const DONE: u16 = 1;
    pub(in super::super) const NONE: u16 = 0;
    pub(in super::super) const DATA: u16 = 1;
    pub(in super::super) const HOLE: u16 = 2;
    pub(in super::super) const BLOCK_STATUS: u16 = 5;
    pub(in super::super) const ERROR: u16 = 0x8001;
    pub(in super::super) const ERROR_OFFSET: u16 = 0x8002;
}

/// Error numbers of the protocol.
pub(super) mod errno {
    pub(in super::super) const PERM: u32 = 1;
    pub(in super::super) const IO: u32 = 5;
    pub(in super::super) const INVAL: u32 = 22;
}

/// A hole that reads as zero: NBD_STATE_HOLE and NBD_STATE_ZERO of base:allocation.
pub(super) const STATE_HOLE: u32 = 1 | 2;

/// The longest text of the protocol, in bytes.
pub(super) const LONGEST_TEXT: usize = 4096;

/// The shortest, best and longest read, in bytes. A minimum of more than 1 makes libnbd refuse reads of odd places. 32 MiB is
/// what a client may take for granted if it does not ask ("Block size constraints").
pub(super) const SIZES: (u32, u32, u32) = (1, 4096, 32 << 20);
