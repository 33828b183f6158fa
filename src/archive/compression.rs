//! What an archive is compressed with, by its first bytes, and what takes it apart.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;

use crate::error::{Error, Kind, Result};

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Xz,
    Zstd,
}

/// The first bytes of each: RFC 1952, 2.3.1; the .xz file format, 2.1.1.1; RFC 8878, 3.1.1 and, for the skippable frames
/// that seekable files begin with, 3.1.2.
const KNOWN: [(&[u8], Compression); 3] = [
    (&[0x1f, 0x8b], Compression::Gzip),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], Compression::Xz),
    (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
];

/// What is told apart but not read, and the command that takes it apart.
const FOREIGN: [(&[u8], &str, &str); 4] = [
    (b"BZh", "bzip2", "bzip2"),
    (&[0x04, 0x22, 0x4d, 0x18], "lz4", "lz4"),
    (&[0x5d, 0, 0], "lzma", "xz"),
    (b"LZIP", "lzip", "lzip"),
];

/// The most memory that decompressing an .xz may take, in KiB: that of its highest level is 65 MiB (xz(1)).
const XZ_MEMORY: u32 = 256 * 1024;

/// The log of the largest window of a zstd that is taken apart: 2 GiB, as with `zstd --long=31`.
#[cfg(feature = "zstd")]
const ZSTD_WINDOW: u32 = 31;

/// The bytes of all members of a gzip file. Zeros may follow, which the last block of a tape has; gzip(1) ignores them too.
struct Gzip<R> {
    /// What is behind the member, unless one is being read or all was read.
    rest: Option<BufReader<R>>,
    member: Option<GzDecoder<BufReader<R>>>,
}

impl<R: Read> Read for Gzip<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(rest) = self.rest.take() {
                self.member = Some(GzDecoder::new(rest));
            }
            let Some(member) = &mut self.member else { return Ok(0) };
            let length = member.read(out)?;
            if length > 0 || out.is_empty() {
                return Ok(length);
            }
            let Some(mut rest) = self.member.take().map(GzDecoder::into_inner) else { return Ok(0) };
            self.rest = has_more(&mut rest)?.then_some(rest);
        }
    }
}

/// Whether anything but zeros is left; the zeros before it are passed over.
fn has_more(rest: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = rest.fill_buf()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        if bytes.is_empty() || zeros < bytes.len() {
            let more = !bytes.is_empty();
            rest.consume(zeros);
            return Ok(more);
        }
        rest.consume(zeros);
    }
}

impl Compression {
    /// What begins with `head`; `None` for what is not compressed.
    ///
    /// # Errors
    /// [`Kind::Source`] for what is compressed in a way that is not read here.
    pub(super) fn of(head: &[u8]) -> Result<Option<Self>> {
        // 0x184D2A50 to 0x184D2A5F, least byte first.
        let skippable = matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
        if skippable {
            return Ok(Some(Self::Zstd));
        }
        if let Some((_, compression)) = KNOWN.into_iter().find(|(magic, _)| head.starts_with(magic)) {
            return Ok(Some(compression));
        }
        match FOREIGN.into_iter().find(|(magic, ..)| head.starts_with(magic)) {
            Some((_, name, program)) => {
                Err(Error::new(Kind::Source, "the archive is compressed in a way that is not read here")
                    .expected("gzip, xz, zstd, or none")
                    .found(name)
                    .hint(format!("decompress it, and give it as standard input: {program} -dc FILE | …")))
            }
            None => Ok(None),
        }
    }

    /// The bytes that `read` has compressed, of all members, streams and frames one behind the other.
    pub(super) fn open<'a>(self, read: Box<dyn Read + Send + 'a>) -> Result<Box<dyn Read + Send + 'a>> {
        match self {
            Self::Gzip => Ok(Box::new(Gzip { rest: Some(BufReader::new(read)), member: None })),
            Self::Xz => Ok(Box::new(lzma_rust2::XzReader::new_mem_limit(read, true, XZ_MEMORY))),
            #[cfg(feature = "zstd")]
            Self::Zstd => {
                let failed = |error| Error::new(Kind::Source, "cannot decompress the archive").because(error);
                let mut decoder = zstd::stream::read::Decoder::new(read).map_err(failed)?;
                decoder.window_log_max(ZSTD_WINDOW).map_err(failed)?;
                Ok(Box::new(decoder))
            }
            #[cfg(not(feature = "zstd"))]
            Self::Zstd => Err(Error::new(Kind::Source, "this program was built without zstd")
                .hint("decompress it, and give it as standard input: zstd -dc FILE | …")),
        }
    }
}
