//! Arbitrary bytes from a client of NBD. The server neither panics nor sends without end, and everything that it sends is a
//! whole message of the protocol.
//!
//! The first byte says what the rest is. If it is odd, the rest is what the client says. If it is even, the rest is a list of
//! messages, each of a byte for its kind and a few for its numbers, so that options and requests are well-formed.

#![no_main]

use std::io::{Cursor, Error, ErrorKind, Write};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use diskwright::image::{Builder, Files, HostFile};
use diskwright::serve::{Exports, Part, Server};
use diskwright::units::Bytes;
use libfuzzer_sys::fuzz_target;

/// The most that is heard. A request of 28 bytes may be answered with 32 MiB.
const MOST: usize = 8 << 20;

/// A file that is not there.
#[derive(Debug)]
struct Missing;

impl Files for Missing {
    fn file(&self, _: u32) -> diskwright::error::Result<HostFile<'_>> {
        Ok(HostFile { path: PathBuf::from("/nonexistent/file").into(), size: 70_000, stamp: None })
    }
}

/// A disk with data, holes, an odd end, and a file that cannot be read.
static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let mut image = Builder::new(Bytes::new((5 << 20) + 123));
    image.bytes(Bytes::new(7), "text", vec![b'x'; 300_000]);
    image.bytes(Bytes::new(3 << 20), "more", vec![b'y'; 5000]);
    let files = image.files(Arc::new(Missing));
    image.file(Bytes::new(4 << 20), Bytes::new(70_000), files, 0, 0);
    let image = image.finish().expect("segments in order");
    let part = |number, label, offset| Part { number, label, offset: Bytes::new(offset), length: Bytes::new(1 << 20) };
    let mut exports = Exports::new();
    exports.push_disk("", &image, &[part(1, "esp", 0), part(2, "", 4 << 20)]).expect("names that differ");
    Server::new(exports)
});

/// Hears up to [`MOST`] bytes.
#[derive(Default)]
struct Ear(Vec<u8>);

impl Write for Ear {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > MOST {
            return Err(Error::from(ErrorKind::BrokenPipe));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Messages from a list of small numbers.
fn said(mut script: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 3];
    while let [kind, a, b, rest @ ..] = script {
        script = rest;
        let (a, b) = (*a, *b);
        let offset = u64::from(a) * 27_001 + u64::from(b & 15);
        let length = u32::from(b) * 3999 + u32::from(a & 7);
        let mut option = |number: u32, data: &[u8]| {
            bytes.extend_from_slice(b"IHAVEOPT");
            bytes.extend_from_slice(&number.to_be_bytes());
            bytes.extend_from_slice(&u32::try_from(data.len()).expect("a short text").to_be_bytes());
            bytes.extend_from_slice(data);
        };
        let name = [&b""[..], b"\0\0\0\0", b"1", b"esp", b"2", b"nowhere"][usize::from(a) % 6];
        let about = |more: &[u8]| {
            let length = u32::try_from(name.len()).expect("a short name");
            [&length.to_be_bytes(), name, more].concat()
        };
        match kind % 12 {
            0 => option(u32::from(a), &vec![b; usize::from(b)]),
            1 => option(1, name),
            2 => option(3, &[]),
            3 => option(6, &about(&[0, 2, 0, b, 0, 3])),
            4 => option(7, &about(&[0, 0])),
            5 => option(8, &[]),
            6 => option(9, &about(b"\0\0\0\0")),
            7 => option(10, &about(b"\0\0\0\x01\0\0\0\x0fbase:allocation")),
            8 => bytes.extend_from_slice(&[a, b]),
            kind => {
                let command = if kind == 11 { u16::from(a % 9) } else { [0, 7][usize::from(kind) - 9] };
                bytes.extend_from_slice(&[0x25, 0x60, 0x95, 0x13, 0, b & 12]);
                bytes.extend_from_slice(&command.to_be_bytes());
                bytes.extend_from_slice(&[a; 8]);
                bytes.extend_from_slice(&offset.to_be_bytes());
                bytes.extend_from_slice(&length.to_be_bytes());
            }
        }
    }
    bytes
}

fn number(bytes: &[u8], at: usize) -> usize {
    let number = bytes[at..at + 4].try_into().map(u32::from_be_bytes).expect("four bytes");
    usize::try_from(number).expect("64 bits")
}

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    let input = if first % 2 == 1 { rest.to_vec() } else { said(rest) };
    let mut ear = Ear::default();
    SERVER.serve_stream(Cursor::new(input), &mut ear);
    let mut heard = ear.0.strip_prefix(b"NBDMAGICIHAVEOPT\0\x03".as_slice()).expect("the greeting comes first");
    while let Some(after) = heard.strip_prefix(&0x0003_e889_0455_65a9_u64.to_be_bytes()) {
        assert!(after.len() >= 12, "half a reply to an option");
        heard = &after[12..][number(after, 8)..];
    }
    // Replies in chunks are whole, since each is one write; how long a simple reply is depends on its request.
    while let Some(after) = heard.strip_prefix(&0x668e_33ef_u32.to_be_bytes()) {
        let (length, payload) = (number(after, 12), &after[16..]);
        assert!(payload.len() >= length, "half a chunk");
        heard = &payload[length..];
    }
});
