//! Recognises files that are not disk images: images in formats that are not read, compressed files,
//! archives. Otherwise they would be taken for raw disks, like every file without a mark.

use std::path::Path;

use super::Format;
use super::source::Source;
use super::vmdk::read::is_descriptor;
use crate::error::{Error, Kind, Result};
use crate::units::u64_of;

/// A file that is not a disk, and how a user can get a disk from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Foreign {
    name: &'static str,
    remedy: &'static str,
}

/// The hint for images that another program can read.
const CONVERT: &str = "convert it first (qemu-img convert)";

/// The hint for the cloop images that QEMU does not read.
const EXTRACT: &str = "unpack it first (extract_compressed_fs)";

/// The hint for files that hold no disk in any form.
const OTHER: &str = "see whether another file was meant";

const XML: &str = "an XML text";
const OVF: &str = "the disk of an OVF is the .vmdk that it names";
const LUKS: &str = "a LUKS container";
const BITLOCKER: &str = "a volume of BitLocker";
const PROGRAM: &str = "a program";
const UIMAGE: &str = "a uImage of U-Boot";

/// What a partition holds as it is: encrypted volumes, which are opened there, and what firmware starts from a
/// partition without a filesystem, GRUB's ELF from PReP and U-Boot's images.
const OF_PARTITIONS: [&str; 4] = [LUKS, BITLOCKER, PROGRAM, UIMAGE];

/// The first bytes of files. Sources: QEMU, docs/interop/qed_spec.txt, block/bochs.c, cloop.c, parallels.c;
/// Linux, arch/um/drivers/cow_user.c; U-Boot, include/image.h; RPM, lib/rpmlead.c; OpenSSL, apps/enc.c; RFC 9580,
/// 6.2; cryptsetup, LUKS on-disk format; Android, libsparse/sparse_format.h; libewf, EWF specification; wimlib,
/// header.h; for compressed files RFC 1952, RFC 8878 and the formats' own descriptions; for the rest
/// file(1)'s magic.
const MARKS: [(&[u8], Foreign); 51] = [
    (b"QED\0", Foreign { name: "a QED image", remedy: CONVERT }),
    (b"Bochs Virtual HD Image", Foreign { name: "a Bochs image", remedy: CONVERT }),
    (b"WithoutFreeSpace", Foreign { name: "a Parallels image", remedy: CONVERT }),
    (b"WithouFreSpacExt", Foreign { name: "a Parallels image", remedy: CONVERT }),
    (b"#!/bin/sh\n#V2.0 Format\n", Foreign { name: "a cloop image", remedy: CONVERT }),
    (b"#!/bin/sh\n#V1.0", Foreign { name: "a cloop image", remedy: EXTRACT }),
    (b"#!/bin/sh\n#V3.0", Foreign { name: "a cloop image", remedy: EXTRACT }),
    (b"OOOM", Foreign { name: "an overlay of User Mode Linux", remedy: "merge it first (uml_moo)" }),
    (b"LUKS\xba\xbe", Foreign { name: LUKS, remedy: "open it first (cryptsetup open)" }),
    (b"Salted__", Foreign { name: "a file encrypted by OpenSSL", remedy: "decrypt it first (openssl enc)" }),
    (b"-----BEGIN PGP ", Foreign { name: "a text of OpenPGP", remedy: "decrypt it first (gpg)" }),
    (b"\x3a\xff\x26\xed", Foreign { name: "an Android sparse image", remedy: "unpack it first (simg2img)" }),
    (b"EVF\x09\x0d\x0a\xff\0", Foreign { name: "an EnCase image", remedy: "unpack it first (ewfexport)" }),
    (b"MSWIM\0\0\0", Foreign { name: "a WIM archive", remedy: "unpack it first (wimapply)" }),
    (b"\x1f\x8b\x08", Foreign { name: "a gzip file", remedy: "unpack it first (gzip -d)" }),
    (b"\xfd7zXZ\0", Foreign { name: "an xz file", remedy: "unpack it first (xz -d)" }),
    (b"\x28\xb5\x2f\xfd", Foreign { name: "a zstd file", remedy: "unpack it first (zstd -d)" }),
    (b"\x04\x22\x4d\x18", Foreign { name: "an lz4 file", remedy: "unpack it first (lz4 -d)" }),
    (b"\x02\x21\x4c\x18", Foreign { name: "an lz4 file", remedy: "unpack it first (lz4 -d)" }),
    (b"LZIP", Foreign { name: "an lzip file", remedy: "unpack it first (lzip -d)" }),
    (b"\x89LZO\0\x0d\x0a\x1a\x0a", Foreign { name: "an lzop file", remedy: "unpack it first (lzop -d)" }),
    (b"PK\x03\x04", Foreign { name: "a zip archive", remedy: "unpack it first (unzip)" }),
    (b"PK\x05\x06", Foreign { name: "an empty zip archive", remedy: OTHER }),
    (b"PK\x07\x08", Foreign { name: "a part of a zip archive", remedy: "unpack it first (unzip)" }),
    (b"\x1f\x1e", Foreign { name: "a file packed by pack", remedy: "unpack it first (gzip -d)" }),
    (b"\x1f\xa0", Foreign { name: "a file packed by compress -H", remedy: "unpack it first (gzip -d)" }),
    (b"MSCF\0\0\0\0", Foreign { name: "a CAB archive", remedy: "unpack it first (cabextract)" }),
    (b"xar!", Foreign { name: "a xar archive", remedy: "unpack it first (bsdtar -x)" }),
    (b"7z\xbc\xaf\x27\x1c", Foreign { name: "a 7-Zip archive", remedy: "unpack it first (7zz x)" }),
    (b"Rar!\x1a\x07", Foreign { name: "a RAR archive", remedy: "unpack it first" }),
    (b"070701", Foreign { name: "a cpio archive", remedy: "unpack it first (cpio -i)" }),
    (b"070702", Foreign { name: "a cpio archive", remedy: "unpack it first (cpio -i)" }),
    (b"070707", Foreign { name: "a cpio archive", remedy: "unpack it first (cpio -i)" }),
    (b"!<arch>\n", Foreign { name: "an ar archive", remedy: "unpack it first (ar x)" }),
    (b"AFF10\x0d\x0a", Foreign { name: "an AFF image", remedy: "unpack it first (affconvert)" }),
    (
        b"shdw",
        Foreign {
            name: "an Apple sparse image (ASIF)",
            remedy: "convert it first (diskutil image create from)",
        },
    ),
    (b"\xed\xab\xee\xdb", Foreign { name: "an RPM package", remedy: "unpack it first (rpm2archive)" }),
    (b"\x27\x05\x19\x56", Foreign { name: UIMAGE, remedy: "unpack it first (dumpimage)" }),
    (b"\x7fELF", Foreign { name: PROGRAM, remedy: OTHER }),
    (b"#!/", Foreign { name: "a script", remedy: OTHER }),
    (b"%PDF-", Foreign { name: "a PDF", remedy: OTHER }),
    (b"\x89PNG\x0d\x0a\x1a\x0a", Foreign { name: "a PNG picture", remedy: OTHER }),
    (b"\xff\xd8\xff", Foreign { name: "a JPEG picture", remedy: OTHER }),
    (b"GIF8", Foreign { name: "a GIF picture", remedy: OTHER }),
    (b"SQLite format 3\0", Foreign { name: "a database of SQLite", remedy: OTHER }),
    (b"<?xml", Foreign { name: XML, remedy: OVF }),
    (b"\xff\xfe<\0?\0x\0m\0l\0", Foreign { name: XML, remedy: OVF }),
    (b"\xfe\xff\0<\0?\0x\0m\0l", Foreign { name: XML, remedy: OVF }),
    (
        b"version https://git-lfs.github.com/spec/",
        Foreign { name: "a pointer of Git LFS", remedy: "fetch its file first (git lfs pull)" },
    ),
    (
        b"<!DOCTYPE html",
        Foreign { name: "an HTML page", remedy: "see what it says: a download may have failed" },
    ),
    (b"<html", Foreign { name: "an HTML page", remedy: "see what it says: a download may have failed" }),
];

/// The byte order mark of UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";
/// The mark of a stream's first block, after `BZh` and its level: pi. An empty stream has the mark of the
/// end: the root of pi.
const BZIP2: [&[u8]; 2] = [b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90"];
/// Frames that decoders skip, at the start of some files of zstd and lz4: 0x184d2a50 to 0x184d2a5f (RFC 8878,
/// 3.1.2).
const SKIPPABLE: &[u8] = b"\x2a\x4d\x18";
/// The name of the filesystem in the boot sector of a volume of BitLocker (cryptsetup, lib/bitlk/bitlk.c).
const FVE: &[u8] = b"-FVE-FS-";
/// The first bytes of the last sector of an Apple disk image (the trailer of UDIF).
const KOLY: &[u8] = b"koly";
/// Bytes of a sector, and of the header of a file in a tar archive.
const SECTOR: u64 = 512;

impl Foreign {
    /// The kind of a file whose first sector is `head`; `None` if it may be a raw disk.
    pub(super) fn of(source: &Source, head: &[u8]) -> Result<Option<Self>> {
        // A text may begin with a byte order mark.
        let head = head.strip_prefix(BOM).unwrap_or(head);
        let lower = |mark: &[u8]| head.get(..mark.len()).is_some_and(|own| own.eq_ignore_ascii_case(mark));
        let marked = MARKS
            .iter()
            .find(|(mark, _)| if mark.starts_with(b"<") { lower(mark) } else { head.starts_with(mark) });
        if let Some((_, found)) = marked {
            return Ok(Some(*found));
        }
        let tail = source.read_some(source.size.saturating_sub(SECTOR), u64_of(KOLY.len()))?;
        Ok(if is_bzip2(head) {
            Some(Self { name: "a bzip2 file", remedy: "unpack it first (bzip2 -d)" })
        } else if head.get(1..4) == Some(SKIPPABLE) && head[0] & 0xf0 == 0x50 {
            Some(Self { name: "a zstd or lz4 file", remedy: "unpack it first (zstd -d, lz4 -d)" })
        } else if is_compress(head) {
            Some(Self { name: "a file packed by compress (.Z)", remedy: "unpack it first (uncompress)" })
        } else if is_tar(head) {
            let remedy = "unpack it first (tar -x); the disk of an OVA is a .vmdk in it";
            Some(Self { name: "a tar archive", remedy })
        } else if head.get(3..11) == Some(FVE) {
            Some(Self { name: BITLOCKER, remedy: "unlock it first (cryptsetup bitlkOpen)" })
        } else if is_lzma(head) {
            Some(Self { name: "an lzma file", remedy: "unpack it first (xz -d)" })
        } else if is_manifest(head) {
            let remedy = "the command build makes a disk of it";
            Some(Self { name: "a manifest, which describes one", remedy })
        } else if is_wide_descriptor(head) {
            Some(Self { name: "a VMDK descriptor in UTF-16", remedy: "save it as UTF-8 first" })
        } else if is_named_vmdk(source) && is_text(head) {
            let remedy = "the descriptor of a VMDK has lines `version=` and `createType=`";
            Some(Self { name: "a text that is no descriptor of a VMDK", remedy })
        } else if source.size >= SECTOR && tail == KOLY {
            Some(Self { name: "an Apple disk image", remedy: CONVERT })
        } else {
            Self::named(&source.path)
        })
    }

    /// A file without the beginning of the container that it is named after: it is damaged, or cut, or another file. Taken for
    /// a raw disk it would be a disk of noise. The file with the bytes of a flat VMDK is one.
    fn named(path: &Path) -> Option<Self> {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let part = stem.rsplit_once('-').map_or("", |(_, part)| part);
        let number = part.strip_prefix('f').unwrap_or_default();
        let is_part =
            part == "flat" || !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let name = match Format::of_path(path)? {
            Format::Raw => return None,
            Format::Vmdk if is_part => return None,
            Format::Qcow2 => "a file that is called a qcow2 and does not begin as one",
            Format::Vhd => "a file that is called a VHD and neither begins nor ends as one",
            Format::Vdi => "a file that is called a VDI and does not begin as one",
            Format::Vmdk => "a file that is called a VMDK and does not begin as one",
            Format::Vhdx => "a file that is called a VHDX and does not begin as one",
        };
        Some(Self { name, remedy: "it may be damaged or cut short" })
    }

    /// The error about it.
    pub(super) fn error(self, source: &Source) -> Error {
        Error::new(Kind::Format, format!("this is no disk image, but {}", self.name)).at(&source.path).remedy(
            "from",
            format!("{}; where its own bytes are the disk, say that its format is raw", self.remedy),
        )
    }

    /// The error about it as the bytes of a partition; `None` if partitions hold such files.
    pub(super) fn in_partition(self) -> Option<Error> {
        (!OF_PARTITIONS.contains(&self.name)).then(|| {
            Error::new(Kind::Format, format!("the image of a partition is {}", self.name))
                .hint(format!("{}; {AS_THEY_ARE}", self.remedy))
        })
    }

    /// The error about an image of `format` as the bytes of a partition, which holds a filesystem and no container.
    pub(super) fn container_in_partition(format: Format) -> Error {
        Error::new(Kind::Format, format!("the image of a partition is a container of format {format}"))
            .hint(format!("convert it to raw first; {AS_THEY_ARE}"))
    }
}

/// How to take a file into a partition whatever it is.
const AS_THEY_ARE: &str = "where its own bytes are meant, say image_format = \"raw\"";

/// Whether it is a file of LZMA alone, as far as xz believes it (liblzma, alone_decoder.c): the usual properties, a
/// dictionary of 2^n or 2^n + 2^(n-1) bytes, a length below 256 GiB or none, and the zero that the range coder begins with.
fn is_lzma(head: &[u8]) -> bool {
    let Some((header, _)) = head.split_first_chunk::<14>() else { return false };
    let [0x5d, a, b, c, d, length @ .., 0] = *header else { return false };
    let (dictionary, length) = (u32::from_le_bytes([a, b, c, d]), u64::from_le_bytes(length));
    let usual = dictionary.is_power_of_two()
        || dictionary.is_multiple_of(3) && (dictionary / 3).is_power_of_two() && dictionary > 3;
    usual && dictionary >= 4096 && (length == u64::MAX || (1..1 << 38).contains(&length))
}

/// Whether it begins as a manifest: a text with a line `version = 1`, or the same key in JSON.
fn is_manifest(head: &[u8]) -> bool {
    let says = |line: &str, key: &str, sign: char| {
        let value =
            line.split_once(sign).filter(|(left, _)| left.trim().trim_start_matches(['{', ' ']) == key);
        let rest = value.and_then(|(_, value)| value.trim_start().strip_prefix('1'));
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
    };
    let text = String::from_utf8_lossy(head);
    // The descriptor of a VMDK says `version=1` too, and is known by its other lines.
    is_text(head)
        && !is_descriptor(head)
        && text.lines().any(|line| says(line, "version", '=') || says(line, "\"version\"", ':'))
}

/// Whether it begins as compress(1) writes: its mark, and flags of codes of 9 to 16 bits.
fn is_compress(head: &[u8]) -> bool {
    matches!(head, [0x1f, 0x9d, flags, ..] if flags & 0x60 == 0 && (9..=16).contains(&(flags & 0x1f)))
}

fn is_bzip2(head: &[u8]) -> bool {
    let level = head.get(3).is_some_and(|level| (b'1'..=b'9').contains(level));
    head.starts_with(b"BZh") && level && BZIP2.iter().any(|mark| head[4..].starts_with(mark))
}

/// Whether it is the header of a file in a tar archive of any age. Its checksum, octal digits at byte 148, is
/// the sum of its bytes with blanks in place of the checksum (POSIX pax, ustar Interchange Format).
fn is_tar(head: &[u8]) -> bool {
    if u64_of(head.len()) < SECTOR {
        return false;
    }
    let field = head[148..156].split(|byte| matches!(byte, 0 | b' ')).find(|digits| !digits.is_empty());
    let written = field.and_then(|digits| std::str::from_utf8(digits).ok());
    let written = written.and_then(|digits| u32::from_str_radix(digits, 8).ok());
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    let own: u32 = head[148..156].iter().map(|byte| u32::from(*byte)).sum();
    written == Some(sum - own + 8 * u32::from(b' '))
}

fn is_named_vmdk(source: &Source) -> bool {
    source.path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("vmdk"))
}

/// Whether all bytes are letters, punctuation or blanks. A UTF-8 character may be cut at the end.
fn is_text(head: &[u8]) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty() && text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'))
}

/// Whether it is a VMDK descriptor in UTF-16, which begins with its byte order mark.
fn is_wide_descriptor(head: &[u8]) -> bool {
    let unit = match head {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        _ => return false,
    };
    let units: Vec<u16> = head[2..].as_chunks().0.iter().map(|bytes| unit(*bytes)).collect();
    is_descriptor(String::from_utf16_lossy(&units).as_bytes())
}
