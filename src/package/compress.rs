//! A whole image compressed on all cores. Every piece of it is compressed by itself, so their number and order alone decide
//! the bytes.

use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result};
use crate::image::{Cursor, Image};
use crate::pour::PourOptions;
use crate::pour::ordered::{self, Memory, Stage};
use crate::units::{Bytes, MIB, half_lo, narrow, u64_of, usize_of};

/// How an image is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// One member (RFC 1952), as pigz writes it: pieces that end at a byte.
    Gzip,
    /// A stream for each piece; together they are one file.
    Xz,
    /// A frame for each piece, and a table of the frames at the end, by which a reader finds any place (zstd's seekable format).
    Zstd,
}

impl Codec {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }

    /// The usual level, that of the programs, and the highest.
    const fn levels(self) -> (u8, u8) {
        match self {
            Self::Gzip => (6, 9),
            Self::Xz => (6, 9),
            Self::Zstd => (3, 19),
        }
    }

    /// The bytes of a piece: what is lost at the cuts stays below one part in a hundred.
    const fn piece(self) -> u64 {
        match self {
            Self::Gzip => MIB,
            Self::Xz => 8 * MIB,
            Self::Zstd => 4 * MIB,
        }
    }

    /// What a worker takes at most: the piece before and after, and the tables of the encoder. Those of xz are eleven
    /// times its dictionary (xz(1)), which is no larger than a piece; those of zstd, levels 1 to 19, at most 80 MiB.
    const fn memory(self) -> Bytes {
        match self {
            Self::Gzip => Bytes::new(3 * MIB),
            Self::Xz => Bytes::new(13 * 8 * MIB),
            Self::Zstd => Bytes::new(24 * MIB),
        }
    }
}

/// A codec with its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compress {
    codec: Codec,
    level: u8,
}

impl Compress {
    /// The codec at its usual level.
    #[must_use]
    pub const fn new(codec: Codec) -> Self {
        Self { codec, level: codec.levels().0 }
    }

    /// The codec.
    #[must_use]
    pub const fn codec(self) -> Codec {
        self.codec
    }

    /// The same at another level.
    ///
    /// # Errors
    /// [`Kind::Usage`] about `level` for a level that the codec does not have.
    pub fn with_level(self, level: u8) -> Result<Self> {
        let (_, most) = self.codec.levels();
        if (1..=most).contains(&level) {
            return Ok(Self { level, ..self });
        }
        Err(Error::new(Kind::Usage, format!("{} does not have this level", self.codec.name()))
            .about("level")
            .expected(format!("1 to {most}"))
            .found(level))
    }
}

/// Where compressed bytes go.
type Put<'a> = &'a mut (dyn FnMut(&[u8]) -> Result<()> + Send);

/// Compresses `image`, and returns how many bytes came out.
pub(super) fn run(image: &Image, compress: Compress, options: &PourOptions<'_>, put: Put<'_>) -> Result<u64> {
    image.settle(options)?;
    let memory = Memory::of_package(compress.codec.memory());
    let pieces = Pieces { image, compress, options };
    let mut state = State { put, length: 0, crc: crc32fast::Hasher::new(), frames: Vec::new() };
    if compress.codec == Codec::Gzip {
        // No name and no time, made by an unknown system (RFC 1952, 2.3).
        state.write(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff])?;
    }
    let mut state = ordered::run(&pieces, state, memory, options)?;
    match compress.codec {
        Codec::Gzip => {
            let crc = state.crc.clone().finalize();
            state.write(&[crc.to_le_bytes(), half_lo(image.length().get()).to_le_bytes()].concat())?;
        }
        Codec::Xz => {}
        Codec::Zstd => {
            let table = seek_table(&state.frames)?;
            state.write(&table)?;
        }
    }
    Ok(state.length)
}

/// The table at the end of a seekable zstd file: a frame that is skipped, the lengths of all frames before and after
/// compression, and a footer (zstd, contrib/seekable_format/zstd_seekable_compression_format.md).
fn seek_table(frames: &[(u32, u32)]) -> Result<Vec<u8>> {
    const SKIPPABLE: u32 = 0x184d_2a5e;
    const SEEKABLE: u32 = 0x8f92_eab1;
    const FOOTER: usize = 9;
    let mut table = SKIPPABLE.to_le_bytes().to_vec();
    table.extend(narrow::<u32>(frames.len() * 8 + FOOTER, "the length of a table")?.to_le_bytes());
    for (packed, plain) in frames {
        table.extend(packed.to_le_bytes());
        table.extend(plain.to_le_bytes());
    }
    table.extend(narrow::<u32>(frames.len(), "the number of frames")?.to_le_bytes());
    // No checksums in the table: the frames have their own.
    table.push(0);
    table.extend(SEEKABLE.to_le_bytes());
    Ok(table)
}

/// What came out so far.
struct State<'a> {
    put: Put<'a>,
    length: u64,
    crc: crc32fast::Hasher,
    /// Of zstd: the length of each frame, and of what is in it.
    frames: Vec<(u32, u32)>,
}

impl State<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.length += u64_of(bytes.len());
        (self.put)(bytes)
    }
}

/// The pieces of an image.
struct Pieces<'a> {
    image: &'a Image,
    compress: Compress,
    options: &'a PourOptions<'a>,
}

/// A piece before and after, and the encoder.
struct Worker {
    cursor: Cursor,
    plain: Vec<u8>,
    packed: Vec<u8>,
    crc: crc32fast::Hasher,
    encoder: Encoder,
    /// What a whole piece of zeros becomes, once there was one, with its checksum.
    zeros: Option<(Vec<u8>, crc32fast::Hasher)>,
}

enum Encoder {
    Gzip(flate2::Compress),
    Xz(lzma_rust2::XzOptions),
    #[cfg(feature = "zstd")]
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Encoder {
    fn new(compress: Compress) -> Result<Self> {
        Ok(match compress.codec {
            Codec::Gzip => {
                Self::Gzip(flate2::Compress::new(flate2::Compression::new(compress.level.into()), false))
            }
            Codec::Xz => {
                let mut options = lzma_rust2::XzOptions::with_preset(compress.level.into());
                let most: u32 = narrow(Codec::Xz.piece(), "a dictionary")?;
                options.lzma_options.dict_size = options.lzma_options.dict_size.min(most);
                Self::Xz(options)
            }
            #[cfg(feature = "zstd")]
            Codec::Zstd => {
                let failed = |error| Error::bug("zstd cannot be set up").because(error);
                let mut encoder = zstd::bulk::Compressor::new(compress.level.into()).map_err(failed)?;
                encoder.include_checksum(true).map_err(failed)?;
                Self::Zstd(encoder)
            }
            #[cfg(not(feature = "zstd"))]
            Codec::Zstd => return Err(Error::new(Kind::Usage, "this program was built without zstd")),
        })
    }

    /// Compresses a piece. `last` says that no other follows.
    fn pack(&mut self, plain: &[u8], packed: &mut Vec<u8>, last: bool) -> Result<()> {
        let failed = |error: std::io::Error| Error::bug("a piece cannot be compressed").because(error);
        packed.clear();
        match self {
            Self::Gzip(encoder) => {
                encoder.reset();
                let flush = if last { flate2::FlushCompress::Finish } else { flate2::FlushCompress::Sync };
                loop {
                    // A few more bytes than before, if it cannot be compressed.
                    packed.reserve(plain.len() / 4 + 4096);
                    let (taken, made) = (encoder.total_in(), encoder.total_out());
                    let status = encoder.compress_vec(rest(plain, taken)?, packed, flush);
                    let status = status.map_err(|error| failed(std::io::Error::other(error)))?;
                    let whole = encoder.total_in() == u64_of(plain.len());
                    // Space that is left says that nothing waits any more.
                    let ended = match last {
                        true => status == flate2::Status::StreamEnd,
                        false => packed.len() < packed.capacity(),
                    };
                    if whole && ended {
                        return Ok(());
                    }
                    if (encoder.total_in(), encoder.total_out()) == (taken, made) {
                        return Err(Error::bug("deflate does not go on"));
                    }
                }
            }
            Self::Xz(options) => {
                let mut writer = lzma_rust2::XzWriter::new(packed, options.clone()).map_err(failed)?;
                std::io::Write::write_all(&mut writer, plain).map_err(failed)?;
                writer.finish().map(|_| ()).map_err(failed)
            }
            #[cfg(feature = "zstd")]
            Self::Zstd(encoder) => {
                *packed = encoder.compress(plain).map_err(failed)?;
                Ok(())
            }
        }
    }
}

/// What is left of a piece after its first `taken` bytes.
fn rest(plain: &[u8], taken: u64) -> Result<&[u8]> {
    plain.get(usize_of(taken)..).ok_or_else(|| Error::bug("deflate took more than it was given"))
}

impl Pieces<'_> {
    fn range(&self, number: u64) -> (u64, u64) {
        let start = number * self.compress.codec.piece();
        (start, self.image.length().get().min(start + self.compress.codec.piece()))
    }

    fn is_last(&self, number: u64) -> bool {
        number + 1 == self.count()
    }
}

impl<'a> Stage for Pieces<'a> {
    type Worker = Worker;
    type State = State<'a>;
    type Rest = ();

    fn count(&self) -> u64 {
        // Even of nothing there is a piece, which says that it is nothing.
        self.image.length().get().div_ceil(self.compress.codec.piece()).max(1)
    }

    fn worker(&self) -> Result<Worker> {
        Ok(Worker {
            cursor: self.image.cursor(),
            plain: Vec::new(),
            packed: Vec::new(),
            crc: crc32fast::Hasher::new(),
            encoder: Encoder::new(self.compress)?,
            zeros: None,
        })
    }

    fn prepare(&self, number: u64, worker: &mut Worker) -> Result<()> {
        let (start, end) = self.range(number);
        let (from, to) = (Bytes::new(start), Bytes::new(end));
        worker.plain.resize(usize_of(end - start), 0);
        let hole = self.image.clipped(from, to).next().is_none()
            && end - start == self.compress.codec.piece()
            && !self.is_last(number);
        if hole && let Some((packed, crc)) = &worker.zeros {
            worker.packed.clone_from(packed);
            worker.crc = crc.clone();
            return Ok(());
        }
        worker.cursor.read(start, &mut worker.plain)?;
        worker.crc = crc32fast::Hasher::new();
        if self.compress.codec == Codec::Gzip {
            worker.crc.update(&worker.plain);
        }
        worker.encoder.pack(&worker.plain, &mut worker.packed, self.is_last(number))?;
        if hole {
            worker.zeros = Some((worker.packed.clone(), worker.crc.clone()));
        }
        self.options.advance(self.image, from, to);
        Ok(())
    }

    fn append(&self, state: &mut State<'a>, worker: &mut Worker) -> Result<()> {
        if self.compress.codec == Codec::Zstd {
            let packed = narrow(worker.packed.len(), "the length of a frame")?;
            state.frames.push((packed, narrow(worker.plain.len(), "the length of a piece")?));
        }
        state.crc.combine(&worker.crc);
        state.write(&worker.packed)
    }

    fn finish(&self, (): (), _: &mut Worker) -> Result<()> {
        Ok(())
    }
}

/// The SHA-256 of a file, as sha256sum(1) shows it.
pub(crate) fn sha256(file: &std::fs::File, check: impl Fn() -> Result<()>) -> Result<String> {
    use std::os::unix::fs::FileExt;
    let mut hash = Sha256::new();
    let (mut at, mut buffer) = (0, vec![0; usize_of(MIB)]);
    loop {
        check()?;
        let length = file.read_at(&mut buffer, at);
        let length =
            length.map_err(|error| Error::new(Kind::Output, "cannot read the output back").because(error))?;
        if length == 0 {
            return Ok(crate::encoding::to_hex(&hash.finalize()));
        }
        hash.update(&buffer[..length]);
        at += u64_of(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoder_that_took_too_much_is_a_bug_and_not_at_its_end() {
        assert_eq!(rest(b"ab", 1).unwrap(), b"b");
        assert_eq!(rest(b"ab", 2).unwrap(), b"");
        let error = rest(b"ab", 3).unwrap_err();
        assert_eq!((error.kind(), error.what()), (Kind::Bug, "deflate took more than it was given"));
    }
}
