//! The compressors of SquashFS. Each block is compressed by itself, with nothing kept from the one before.

use std::fmt;
use std::io::{Read, Write};

use lzma_rust2::{CheckType, LzmaReader, XzOptions, XzReader, XzWriter};

use super::Options;
use super::format::{self, GzipOptions, Lz4Options, ZstdOptions};
use crate::container::codec::{self, Codec, Level, ZlibEncoder};
use crate::error::{Error, Kind, Result};
use crate::units::{Bytes, MIB, u64_of};
use crate::values::{value, words};
use crate::wire::Wire;

/// How the blocks of a SquashFS are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all: files of the host are referred to and not read before they are written.
    None,
    /// Zstandard, levels 1 to 19.
    #[default]
    Zstd,
    /// zlib, levels 1 to 9: the one that every kernel with SquashFS has.
    Gzip,
    /// LZMA2, levels 1 to 9: the smallest, and slow to read too.
    Xz,
    /// LZ4, without levels: the fastest to read.
    Lz4,
}

words!(
    Compression,
    "the compression of a SquashFS is",
    "zstd" => Zstd, "gzip" => Gzip, "xz" => Xz, "lz4" => Lz4, "none" => None
);

value!(Compression, text, "SquashfsCompression", "\"zstd\", \"gzip\", \"xz\", \"lz4\" or \"none\"", {
    "description": "How the blocks of a SquashFS are compressed.",
    "enum": ["zstd", "gzip", "xz", "lz4", "none"]
});

/// A compression with its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) compression: Compression,
    /// 0 where there are no levels.
    level: u8,
}

impl Settings {
    /// What `options` ask for.
    ///
    /// # Errors
    /// [`Kind::Manifest`] about `level` for one that the compression does not have.
    pub(super) fn new(options: &Options) -> Result<Self> {
        let compression = options.compress.unwrap_or_default();
        // zstd's levels above 19 take memory that nobody expects.
        let (usual, most) = match compression {
            Compression::Zstd => (3, 19),
            Compression::Gzip => (9, 9),
            Compression::Xz => (6, 9),
            Compression::None | Compression::Lz4 => (0, 0),
        };
        let level = options.level.unwrap_or(usual);
        if options.level.is_some() && !(1..=most).contains(&level) {
            let expected = if most == 0 {
                format!("no level with {compression}")
            } else {
                format!("1 to {most} with {compression}")
            };
            return Err(Error::new(Kind::Manifest, "the compression has no such level")
                .about("level")
                .expected(expected)
                .found(level));
        }
        Ok(Self { compression, level })
    }

    /// Its number in the superblock (linux/fs/squashfs/squashfs_fs.h). Blocks that are not compressed need none, so that is
    /// the one which most kernels have.
    pub(super) const fn number(self) -> u16 {
        match self.compression {
            Compression::None | Compression::Gzip => Compressor::Gzip.number(),
            Compression::Xz => Compressor::Xz.number(),
            Compression::Lz4 => Compressor::Lz4.number(),
            Compression::Zstd => Compressor::Zstd.number(),
        }
    }

    /// The options of the compressor that stand behind the superblock; empty where they are those that mksquashfs takes for
    /// granted: gzip 9, zstd 15. Those of xz would only tell of a dictionary that is not as large as a block.
    pub(super) fn options(self) -> Vec<u8> {
        let level = u32::from(self.level);
        match self.compression {
            Compression::Gzip if level != 9 => {
                GzipOptions { compression_level: level, window_size: 15, strategy: 0 }.bytes().to_vec()
            }
            Compression::Zstd if level != 15 => ZstdOptions { compression_level: level }.bytes().to_vec(),
            Compression::Lz4 => Lz4Options::BLANK.bytes().to_vec(),
            _ => Vec::new(),
        }
    }

    /// What a thread takes that compresses blocks of `unit` bytes: the tables of the encoder.
    pub(super) fn memory(self, unit: u64) -> Bytes {
        match self.compression {
            Compression::None => Bytes::ZERO,
            Compression::Zstd => {
                Level::new(self.level).map_or(Bytes::new(20 * unit), |level| Codec::Zstd(level).memory(unit))
            }
            Compression::Gzip => Bytes::new(MIB),
            // A binary tree of 8 bytes for each byte of the dictionary, which is a block, with copies of it.
            Compression::Xz => Bytes::new(2 * MIB + 14 * unit),
            Compression::Lz4 => Bytes::new(MIB),
        }
    }
}

/// Compresses blocks one by one; keeps its memory between them.
pub(super) enum Encoder {
    None,
    Zstd(codec::Encoder),
    Gzip(Box<ZlibEncoder>),
    Xz { level: u8, dictionary: u32 },
    Lz4,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encoder")
    }
}

impl Encoder {
    /// For blocks of at most `unit` bytes.
    ///
    /// # Errors
    /// [`Kind::Usage`] where the program was built without the compressor.
    pub(super) fn new(settings: Settings, unit: u64) -> Result<Self> {
        Ok(match settings.compression {
            Compression::None => Self::None,
            Compression::Zstd => {
                Self::Zstd(codec::Encoder::new(Codec::Zstd(Level::new(settings.level)?), unit)?)
            }
            Compression::Gzip => Self::Gzip(Box::new(ZlibEncoder::new(Level::new(settings.level)?))),
            // The kernel takes a dictionary of a block, or of 8 KiB where that is more (squashfs_xz_comp_opts).
            Compression::Xz => {
                Self::Xz { level: settings.level, dictionary: crate::units::narrow(unit, "a dictionary")? }
            }
            Compression::Lz4 => Self::Lz4,
        })
    }

    /// Appends `bytes` compressed to `out`; `None`, and nothing appended, where that is not shorter.
    pub(super) fn encode(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<usize>> {
        let before = out.len();
        match self {
            Self::None => return Ok(None),
            Self::Zstd(encoder) => return encoder.encode(bytes, out),
            Self::Gzip(encoder) => {
                encoder.encode(bytes, out)?;
            }
            Self::Xz { level, dictionary } => xz(bytes, *level, *dictionary, out)
                .map_err(|error| Error::bug("xz cannot compress").because(error))?,
            Self::Lz4 => {
                out.resize(before + lz4_flex::block::get_maximum_output_size(bytes.len()), 0);
                let length = lz4_flex::block::compress_into(bytes, &mut out[before..])
                    .map_err(|error| Error::bug("lz4 cannot compress").because(error))?;
                out.truncate(before + length);
            }
        }
        let length = Some(out.len() - before).filter(|length| *length < bytes.len());
        out.truncate(before + length.unwrap_or(0));
        Ok(length)
    }
}

/// Appends `bytes` as one .xz stream. The kernel knows no other check than CRC32.
fn xz(bytes: &[u8], level: u8, dictionary: u32, out: &mut Vec<u8>) -> std::io::Result<()> {
    let mut options = XzOptions::with_preset(u32::from(level));
    options.set_check_sum_type(CheckType::Crc32);
    options.lzma_options.dict_size = dictionary;
    let mut writer = XzWriter::new(out, options)?;
    writer.write_all(bytes)?;
    writer.finish().map(|_| ())
}

/// What the blocks of an image are compressed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compressor {
    Gzip,
    Xz,
    Lz4,
    Zstd,
    /// LZMA with the header of .lzma files, of old writers. It is only read.
    Lzma,
    /// LZO1X. It is only read.
    Lzo,
}

impl Compressor {
    /// Its number in the superblock.
    const fn number(self) -> u16 {
        match self {
            Self::Gzip => 1,
            Self::Lzma => 2,
            Self::Lzo => 3,
            Self::Xz => 4,
            Self::Lz4 => 5,
            Self::Zstd => 6,
        }
    }

    /// The compressor of a number in a superblock.
    ///
    /// # Errors
    /// [`Kind::Format`] for one that is not read here, by its name.
    pub(super) fn of(number: u16) -> Result<Self> {
        let all = [Self::Gzip, Self::Lzma, Self::Lzo, Self::Xz, Self::Lz4, Self::Zstd];
        all.into_iter().find(|compressor| compressor.number() == number).ok_or_else(|| {
            Error::new(Kind::Format, "this SquashFS is compressed with something that is not read here")
                .expected("gzip, lzma, lzo, xz, lz4 or zstd")
                .found(format!("compressor {number}"))
        })
    }

    /// Its name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::Lzma => "lzma",
            Self::Lzo => "lzo",
        }
    }

    /// Decompresses one block into `out`, and returns how many bytes it gave.
    ///
    /// # Errors
    /// Why it cannot: among others that `out` is too short.
    pub(super) fn decode(self, bytes: &[u8], out: &mut [u8]) -> Result<usize, String> {
        match self {
            Self::Gzip => codec::inflate_whole(bytes, out),
            Self::Zstd => codec::unzstd_whole(bytes, out),
            Self::Lz4 => lz4_flex::block::decompress_into(bytes, out).map_err(|error| error.to_string()),
            Self::Xz => read_whole(XzReader::new_mem_limit(bytes, false, XZ_MEMORY), out),
            Self::Lzma => {
                let reader = LzmaReader::new_mem_limit(bytes, XZ_MEMORY, None);
                read_whole(reader.map_err(|error| error.to_string())?, out)
            }
            Self::Lzo => lzokay::decompress::decompress(bytes, out).map_err(|error| error.to_string()),
        }
    }
}

/// KiB that decoding xz or lzma may take: the largest dictionary that the kernel takes is a block of 1 MiB, and the tables beside
/// it are less.
const XZ_MEMORY: u32 = 4 << 10;

/// All that `reader` gives, which has to fit `out`.
fn read_whole(mut reader: impl Read, out: &mut [u8]) -> Result<usize, String> {
    let mut done = 0;
    loop {
        // A byte more than there may be tells a stream that ends from one that does not.
        let mut beyond = [0; 1];
        let full = done == out.len();
        let place = if full { &mut beyond[..] } else { &mut out[done..] };
        match reader.read(place) {
            Ok(0) => return Ok(done),
            Ok(_) if full => return Err(format!("the stream gives more than {} bytes", out.len())),
            Ok(length) => done += length,
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// The bytes of a block that stands in a stream of metadata: a header of its length, then what is stored of it.
///
/// # Errors
/// As [`Encoder::encode`].
pub(super) fn metadata_block(encoder: &mut Encoder, bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let before = out.len();
    out.extend([0; 2]);
    let header = match encoder.encode(bytes, out)? {
        Some(length) => crate::units::narrow(length, "the length of a block of metadata")?,
        None => {
            out.extend_from_slice(bytes);
            let length: u16 = crate::units::narrow(bytes.len(), "the length of a block of metadata")?;
            length | format::METADATA_RAW
        }
    };
    out[before..before + 2].copy_from_slice(&header.to_le_bytes());
    Ok(())
}

/// The length of a data block as a field has it.
///
/// # Errors
/// [`Kind::Bug`] for one that is longer than any block.
pub(super) fn data_length(length: usize, raw: bool) -> Result<u32> {
    let length: u32 = crate::units::narrow(u64_of(length), "the length of a block")?;
    Ok(if raw { length | format::DATA_RAW } else { length })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::KIB;

    const ALL: [Compression; 4] = [Compression::Zstd, Compression::Gzip, Compression::Xz, Compression::Lz4];

    fn settings(compress: Compression, level: Option<u8>) -> Result<Settings> {
        Settings::new(&Options { compress: Some(compress), level, ..Options::default() })
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_le_bytes()[6]
            })
            .collect()
    }

    #[test]
    fn blocks_come_back_and_what_is_damaged_is_told() {
        let text: Vec<u8> = (0..40_000_u32).flat_map(|number| (number % 7).to_le_bytes()).collect();
        let noise = noise(131_072);
        for compression in ALL.into_iter().filter(|one| cfg!(feature = "zstd") || *one != Compression::Zstd) {
            for (unit, part) in [(131_072, &text[..131_072]), (8192, &text[..8192]), (8192, &text[..500])] {
                let settings = settings(compression, None).unwrap();
                let compressor = Compressor::of(settings.number()).unwrap();
                let mut encoder = Encoder::new(settings, unit).unwrap();
                let mut out = b"before".to_vec();
                assert_eq!(encoder.encode(&noise[..part.len()], &mut out).unwrap(), None);
                assert_eq!(out, b"before");
                let length = encoder.encode(part, &mut out).unwrap().unwrap();
                assert_eq!(out.len(), 6 + length);
                let mut again = Vec::new();
                assert_eq!(encoder.encode(part, &mut again).unwrap(), Some(length));
                assert!(again == out[6..]);
                // Longer than needed, exactly as long, and too short.
                let mut back = vec![0xd1; part.len() + 100];
                assert_eq!(compressor.decode(&again, &mut back), Ok(part.len()), "{compression}");
                assert!(back[..part.len()] == *part);
                assert_eq!(compressor.decode(&again, &mut back[..part.len()]), Ok(part.len()));
                compressor.decode(&again, &mut back[..part.len() - 1]).unwrap_err();
                assert!(
                    compressor.decode(&again[..length - 1], &mut back).is_err()
                        || compression == Compression::Lz4
                );
                let _ = compressor.decode(&noise, &mut back);
            }
        }
    }

    #[test]
    fn levels_are_those_of_the_compression() {
        for (compression, bad) in [
            (Compression::Zstd, &[0, 20, 255][..]),
            (Compression::Gzip, &[0, 10]),
            (Compression::Xz, &[0, 10]),
            (Compression::Lz4, &[0, 1]),
            (Compression::None, &[0, 1]),
        ] {
            for level in bad {
                let error = settings(compression, Some(*level)).unwrap_err();
                assert_eq!(
                    (error.kind(), error.key()),
                    (Kind::Manifest, Some("level")),
                    "{compression} {level}"
                );
            }
        }
        for level in 1..=19 {
            settings(Compression::Zstd, Some(level)).unwrap();
        }
    }

    #[test]
    fn options_stand_where_they_are_not_the_usual() {
        let options = |compression, level| settings(compression, level).unwrap().options();
        assert_eq!(options(Compression::Zstd, Some(15)), b"");
        assert_eq!(options(Compression::Zstd, None), [3, 0, 0, 0]);
        assert_eq!(options(Compression::Gzip, Some(9)), b"");
        assert_eq!(options(Compression::Gzip, Some(6)), [6, 0, 0, 0, 15, 0, 0, 0]);
        assert_eq!(options(Compression::Lz4, None), [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!((options(Compression::Xz, None), options(Compression::None, None)), (vec![], vec![]));
    }

    /// A kernel without options of xz takes a dictionary as large as a block, and the check CRC32
    /// (linux/fs/squashfs/xz_wrapper.c; the .xz file format, 2.1.1.2 and 5.3.1).
    #[test]
    fn streams_of_xz_are_such_as_the_kernel_reads() {
        let mut out = Vec::new();
        for (dictionary, byte) in [(8 * KIB, 2), (128 * KIB, 10), (1024 * KIB, 16)] {
            out.clear();
            let dictionary = u32::try_from(dictionary).unwrap();
            xz(&[7; 5000], 6, dictionary, &mut out).unwrap();
            assert_eq!(&out[..8], b"\xfd7zXZ\0\0\x01", "the check is CRC32");
            // Size and flags of the block's header, then filter 0x21 with one byte of properties.
            assert_eq!(&out[13..16], [0, 0x21, 1]);
            assert_eq!(out[16], byte, "the dictionary");
        }
        // A dictionary of 4 GiB is not allocated.
        let mut hostile = out.clone();
        hostile[16] = 40;
        let crc = crc32fast::hash(&hostile[12..20]);
        hostile[20..24].copy_from_slice(&crc.to_le_bytes());
        let error = Compressor::Xz.decode(&hostile, &mut [0; 6000]).unwrap_err();
        assert!(error.contains("mem"), "{error}");
    }

    #[test]
    fn other_compressors_are_refused_by_name() {
        for (number, name) in [(0, "compressor 0"), (7, "compressor 7")] {
            let error = Compressor::of(number).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
