//! The header of a tar member: a block of 512 bytes (POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic
//! Tar Format").

use std::ops::Range;

use super::super::damaged;
use crate::error::{Error, Result};
use crate::text::{printable, shortened};

/// Bytes in a block.
pub(super) const BLOCK: usize = 512;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const KIND: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..263;
const MAJOR: Range<usize> = 329..337;
const MINOR: Range<usize> = 337..345;
const PREFIX: Range<usize> = 345..500;
/// The prefix of star, which has times behind it, and the mark by which it is known.
const STAR_PREFIX: Range<usize> = 345..476;
const STAR: Range<usize> = 508..512;
/// Of a sparse file of the old GNU format: the first four pieces, whether a block with more follows, and the size.
const SPARSE: Range<usize> = 386..482;
const EXTENDED: usize = 482;
const REAL_SIZE: Range<usize> = 483..495;
/// In a block with more pieces: 21 of them, and whether another block follows.
const MORE_SPARSE: Range<usize> = 0..504;
const MORE_EXTENDED: usize = 504;
/// Bytes of one piece: an offset and a length, 12 each.
const PIECE: usize = 24;

/// A header.
pub(super) struct Header([u8; BLOCK]);

impl Header {
    /// A block that is not all zero.
    ///
    /// # Errors
    /// [`Kind::Source`](crate::error::Kind::Source) where it is no header: its checksum is another.
    pub(super) fn new(block: [u8; BLOCK], at: u64) -> Result<Self> {
        let header = Self(block);
        let spaces = 8 * u64::from(b' ');
        let others = || block[..CHECKSUM.start].iter().chain(&block[CHECKSUM.end..]);
        let sum = spaces + others().map(|byte| u64::from(*byte)).sum::<u64>();
        // Some old systems added signed bytes.
        let signed: i64 =
            8 * i64::from(b' ') + others().map(|byte| i64::from(byte.cast_signed())).sum::<i64>();
        let written = number(&block[CHECKSUM]);
        if written.is_some_and(|written| u64::try_from(written) == Ok(sum) || written == signed) {
            return Ok(header);
        }
        let error = match at {
            0 => damaged("the archive is not a tar").expected("a header with its checksum"),
            _ => damaged("the archive is damaged").expected(format!("the header of a member at byte {at}")),
        };
        Err(error.found(format!("the checksum {}", shortened(&block[CHECKSUM], 20))))
    }

    pub(super) fn kind(&self) -> u8 {
        self.0[KIND]
    }

    fn is_ustar(&self) -> bool {
        &self.0[MAGIC] == b"ustar\0"
    }

    /// The name, as far as the header has it.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = text(&self.0[NAME]);
        let star = &self.0[STAR] == b"tar\0";
        let prefix = match self.is_ustar() {
            true => text(&self.0[if star { STAR_PREFIX } else { PREFIX }]),
            false => &[],
        };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        text(&self.0[LINK]).to_vec()
    }

    fn field(&self, range: Range<usize>, what: &str, member: &[u8]) -> Result<i64> {
        number(&self.0[range.clone()]).ok_or_else(|| bad_number(what, &self.0[range], member))
    }

    pub(super) fn mode(&self, member: &[u8]) -> Result<u16> {
        let mode = self.field(MODE, "mode", member)? & 0o7777;
        u16::try_from(mode).map_err(|_| Error::bug("twelve bits do not fit in sixteen"))
    }

    pub(super) fn uid(&self, member: &[u8]) -> Result<i64> {
        self.field(UID, "user", member)
    }

    pub(super) fn gid(&self, member: &[u8]) -> Result<i64> {
        self.field(GID, "group", member)
    }

    pub(super) fn size(&self, member: &[u8]) -> Result<u64> {
        self.positive(SIZE, "size", member)
    }

    pub(super) fn mtime(&self, member: &[u8]) -> Result<i64> {
        self.field(MTIME, "time", member)
    }

    /// The numbers of a device.
    pub(super) fn device(&self, member: &[u8]) -> Result<(u32, u32)> {
        let number = |range: Range<usize>| {
            let value = self.field(range.clone(), "device", member)?;
            u32::try_from(value).map_err(|_| bad_number("device", &self.0[range], member))
        };
        Ok((number(MAJOR)?, number(MINOR)?))
    }

    fn positive(&self, range: Range<usize>, what: &str, member: &[u8]) -> Result<u64> {
        let value = self.field(range.clone(), what, member)?;
        u64::try_from(value).map_err(|_| bad_number(what, &self.0[range], member))
    }

    /// The size of a sparse file of the old GNU format.
    pub(super) fn real_size(&self, member: &[u8]) -> Result<u64> {
        self.positive(REAL_SIZE, "size", member)
    }

    /// The first pieces of such a file, and whether more follow.
    pub(super) fn sparse(&self, member: &[u8]) -> Result<(Vec<(u64, u64)>, bool)> {
        Ok((pieces(&self.0[SPARSE], member)?, self.0[EXTENDED] != 0))
    }
}

/// The pieces in a block that continues a sparse file, and whether another such block follows.
pub(super) fn more_sparse(block: &[u8; BLOCK], member: &[u8]) -> Result<(Vec<(u64, u64)>, bool)> {
    Ok((pieces(&block[MORE_SPARSE], member)?, block[MORE_EXTENDED] != 0))
}

/// Offset and length of each piece. A piece without a length does not count.
fn pieces(field: &[u8], member: &[u8]) -> Result<Vec<(u64, u64)>> {
    let parse = |field: &[u8]| {
        let value = number(field).and_then(|value| u64::try_from(value).ok());
        value.ok_or_else(|| bad_number("map of a sparse file", field, member))
    };
    let pieces = field.chunks_exact(PIECE).take_while(|piece| piece[PIECE / 2] != 0);
    pieces.map(|piece| Ok((parse(&piece[..PIECE / 2])?, parse(&piece[PIECE / 2..])?))).collect()
}

pub(super) fn bad_number(what: &str, field: &[u8], member: &[u8]) -> Error {
    damaged(format!("a member of the archive has no {what} that can be kept"))
        .expected("a number in range")
        .found(format!("`{}`, of {}", shortened(field, 80), printable(member)))
}

/// A text that ends with its field or with NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number: octal digits, ended by a space or NUL; or, where the highest bit of the first byte is set, the other bits of the
/// field as one number with a sign (GNU tar manual, "Extensions to the tar format"). An empty field is zero.
fn number(field: &[u8]) -> Option<i64> {
    match field {
        [first, rest @ ..] if first & 0x80 != 0 => {
            // Bit 6 of the first byte is the sign.
            let negative = first & 0x40 != 0;
            let first = if negative { i128::from(*first) - 0x100 } else { i128::from(first & 0x3f) };
            // At most 12 bytes, which fit in 16.
            let value = rest.iter().fold(first, |value, byte| value << 8 | i128::from(*byte));
            i64::try_from(value).ok()
        }
        _ => {
            let digits = field.trim_ascii_start();
            let digits = digits.split(|byte| matches!(byte, 0 | b' ')).next().unwrap_or_default();
            if digits.is_empty() {
                return Some(0);
            }
            let octal = digits.iter().all(|digit| (b'0'..=b'7').contains(digit));
            let digits = std::str::from_utf8(digits).ok().filter(|_| octal)?;
            i64::from_str_radix(digits, 8).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_octal_or_binary_with_a_sign() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"00000644", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"77777777777", Some(0o77_777_777_777)),
            (b"0000648\0", None),
            (b"-000001\0", None),
            (&[0x80, 0, 0, 0, 0, 0, 1, 2], Some(0x102)),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe], Some(-2)),
            (&[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Some(i64::MAX)),
            (&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0], None),
            (&[0xff, 0xff, 0xff, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], Some(i64::MIN)),
        ] {
            assert_eq!(number(field), value, "{field:x?}");
        }
    }
}
