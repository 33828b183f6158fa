//! A tar of a few files, in the old GNU format, which Google Compute Engine asks for and everybody reads.

use crate::error::{Error, Kind, Result};
use crate::image::{Builder, Image, Slice};
use crate::units::{Bytes, usize_of};

/// Bytes in a block, and of the zeros at the end: two blocks.
const BLOCK: u64 = 512;
const END: u64 = 2 * BLOCK;

/// A file of the archive.
pub(super) struct File {
    pub(super) name: &'static str,
    pub(super) bytes: Slice,
}

/// The archive, whose files are root's, of mode 0644 and from `time`.
pub(super) fn archive(files: &[File], time: i64) -> Result<Image> {
    let length = files.iter().map(|file| BLOCK + file.bytes.length().round_up(BLOCK).get()).sum::<u64>();
    let mut image = Builder::new(Bytes::new(length + END));
    let mut at = Bytes::ZERO;
    for file in files {
        let size = file.bytes.length();
        image.bytes(at, "a header of tar", header(file.name, size.get(), time)?);
        image.put(at + Bytes::new(BLOCK), &file.bytes);
        at += Bytes::new(BLOCK) + size.round_up(BLOCK);
    }
    image.finish()
}

/// GNU tar manual, "Basic Tar Format".
fn header(name: &str, size: u64, time: i64) -> Result<Vec<u8>> {
    let mut block = vec![0; usize_of(BLOCK)];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    // Eleven octal digits hold 8 GiB; a larger number is binary, marked by its highest bit.
    match size < 1 << 33 {
        true => put(124, format!("{size:011o}\0").as_bytes()),
        false => put(124, &[&[0x80, 0, 0, 0], size.to_be_bytes().as_slice()].concat()),
    }
    let time = u64::try_from(time).ok().filter(|time| *time < 1 << 33).ok_or_else(|| {
        Error::new(Kind::Capacity, "the archive cannot hold this time")
            .found(time)
            .hint("give a time after 1970")
    })?;
    put(136, format!("{time:011o}\0").as_bytes());
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar  \0");
    put(265, b"root");
    put(297, b"root");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}
