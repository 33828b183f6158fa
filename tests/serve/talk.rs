//! A client that may say anything, for what no client of others says.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// One connection.
#[derive(Debug)]
pub(crate) struct Talk(pub(crate) UnixStream);

impl Talk {
    /// Connects, and hears the greeting.
    pub(crate) fn greeted(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let mut talk = Self(stream);
        assert_eq!(talk.hear(18), b"NBDMAGICIHAVEOPT\0\x03");
        talk
    }

    /// The same, with the flags of a client sent.
    pub(crate) fn begun(socket: &Path) -> Self {
        let mut talk = Self::greeted(socket);
        talk.say(&[0, 0, 0, 3]);
        talk
    }

    /// The same, in the export `name`, by the oldest way: simple replies.
    pub(crate) fn old(socket: &Path, name: &str) -> Self {
        let mut talk = Self::begun(socket);
        talk.say(&option(1, name.as_bytes()));
        talk.hear(10);
        talk
    }

    /// The same with structured replies.
    pub(crate) fn chunked(socket: &Path, name: &str) -> Self {
        let mut talk = Self::begun(socket);
        talk.say(&option(8, &[]));
        talk.hear(20);
        talk.say(&option(1, name.as_bytes()));
        talk.hear(10);
        talk
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    pub(crate) fn hear(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// A read answered by a simple reply: the error, or the data.
    pub(crate) fn read(&mut self, offset: u64, length: u32) -> Result<Vec<u8>, u32> {
        self.say(&request(0, offset, length));
        let head = self.hear(16);
        assert_eq!(head[..4], [0x67, 0x44, 0x66, 0x98]);
        match u32::from_be_bytes(head[4..8].try_into().unwrap()) {
            0 => Ok(self.hear(usize::try_from(length).unwrap())),
            error => Err(error),
        }
    }

    /// One chunk of a structured reply: flags, kind, payload.
    pub(crate) fn chunk(&mut self) -> (u16, u16, Vec<u8>) {
        let head = self.hear(20);
        assert_eq!(head[..4], [0x66, 0x8e, 0x33, 0xef]);
        let number = |at: usize| u16::from_be_bytes(head[at..at + 2].try_into().unwrap());
        let length = u32::from_be_bytes(head[16..20].try_into().unwrap());
        (number(4), number(6), self.hear(usize::try_from(length).unwrap()))
    }

    /// Whether the server has closed the connection, after anything that it still said.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// An option with its data.
pub(crate) fn option(number: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"IHAVEOPT".to_vec();
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(&u32::try_from(data.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// A request without flags.
pub(crate) fn request(kind: u16, offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = vec![0x25, 0x60, 0x95, 0x13, 0, 0];
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&offset.rotate_left(7).to_be_bytes());
    bytes.extend_from_slice(&offset.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes
}
