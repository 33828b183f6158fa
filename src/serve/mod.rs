//! Serves images over NBD, without writing them: the disk that a manifest describes is there as soon as it is laid out, and
//! its files are read when a client asks for them.
//!
//! ```text
//! Exports (slices of images, by name) ─► Server ─► a thread for each client: Session, which knows no socket
//! Listener, Stream (sockets) ───────────►                                    Cursor, which keeps files open
//! ```
//!
//! The protocol is the part of doc/proto.md (NetworkBlockDevice/nbd) that a read-only server needs: fixed newstyle,
//! structured replies, `base:allocation` and block sizes. docs/serve.md says what clients see.

mod connection;
mod exports;
mod extents;
mod format;
mod options;
mod replies;
mod server;
mod session;
mod socket;
#[cfg(test)]
mod tests;

pub use exports::{Export, Exports, Part};
pub(crate) use format::STRUCTURES;
pub use server::{Event, Server, Stop};
pub use socket::{Inherited, Listener, Stream};
