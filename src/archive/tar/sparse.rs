//! Files with holes: the old GNU format, and the three that GNU tar writes into pax headers (GNU tar manual, "Storing Sparse
//! Files").

use super::super::input::Input;
use super::super::{Data, damaged};
use super::header::{BLOCK, Header, bad_number, more_sparse};
use super::pax::Records;
use crate::error::{Error, Result};
use crate::text::printable;
use crate::units::u64_of;

/// The most pieces of one file.
const MOST: usize = 1 << 20;
/// The longest map in front of the data: the most pieces, with two numbers of at most 20 digits and a newline each.
const LONGEST_MAP: u64 = (1 << 20) * 42;

/// The size of a file, and its pieces: the offset and the length of each.
pub(super) struct Map {
    size: u64,
    pieces: Vec<(u64, u64)>,
}

impl Map {
    /// The map of a file of the old GNU format. The blocks behind the header that have more of it are read.
    pub(super) fn old(header: &Header, input: &mut Input<'_>, member: &[u8]) -> Result<Self> {
        let size = header.real_size(member)?;
        let (mut pieces, mut more) = header.sparse(member)?;
        while more {
            let mut block = [0; BLOCK];
            input.exactly(&mut block, member)?;
            let (others, extended) = more_sparse(&block, member)?;
            pieces.extend(others);
            more = extended;
            few(pieces.len(), member)?;
        }
        Ok(Self { size, pieces })
    }

    /// The map of a file that pax records describe, and how many bytes of the member's `stored` ones it takes. `None` for
    /// any other file.
    pub(super) fn of_records(
        records: &Records,
        stored: u64,
        input: &mut Input<'_>,
        member: &[u8],
    ) -> Result<Option<(Self, u64)>> {
        let size = match records.number(b"GNU.sparse.realsize", "size", member)? {
            Some(size) => Some(size),
            None => records.number(b"GNU.sparse.size", "size", member)?,
        };
        let known = matches!(records.get(b"GNU.sparse.major"), None | Some(b"0" | b"1"));
        let Some(size) = size.or_else(|| (!known).then_some(0)) else { return Ok(None) };
        let size =
            u64::try_from(size).map_err(|_| bad_number("size", size.to_string().as_bytes(), member))?;
        let version = (records.get(b"GNU.sparse.major"), records.get(b"GNU.sparse.minor"));
        match version {
            (Some(b"1"), Some(b"0")) => {
                let (pieces, taken) = leading(stored, input, member)?;
                Ok(Some((Self { size, pieces }, taken)))
            }
            (None, None) | (Some(b"0"), _) => Ok(Some((Self { size, pieces: listed(records, member)? }, 0))),
            (major, minor) => {
                let shown = |part: Option<&[u8]>| printable(part.unwrap_or(b"?"));
                Err(damaged("a file of the archive has holes in a format that is not known here")
                    .found(format!("version {}.{}, of {}", shown(major), shown(minor), printable(member))))
            }
        }
    }

    /// The contents, whose `stored` bytes are the next ones.
    pub(super) fn keep(self, stored: u64, input: &mut Input<'_>, member: &[u8]) -> Result<Data> {
        let wrong = |why: &str| {
            damaged("the map of a file with holes is wrong").found(format!("{why}, of {}", printable(member)))
        };
        let mut start = input.keep(stored, member, None)?;
        let (mut end, mut left) = (0, stored);
        let mut pieces = Vec::new();
        for (offset, length) in self.pieces {
            let next = offset.checked_add(length).filter(|next| *next <= self.size);
            let next = next.ok_or_else(|| wrong("a piece that ends behind the file"))?;
            if offset < end {
                return Err(wrong("a piece that begins before the one before it ends"));
            }
            left = left.checked_sub(length).ok_or_else(|| wrong("more pieces than data"))?;
            if length > 0 {
                pieces.push((offset, start, length));
            }
            (start, end) = (start + length, next);
        }
        if left > 0 {
            return Err(wrong("more data than pieces"));
        }
        Ok(Data { size: self.size, pieces })
    }
}

/// Refuses a `count` of pieces that is too large.
fn few(count: usize, member: &[u8]) -> Result<()> {
    if count <= MOST {
        return Ok(());
    }
    Err(damaged("a file of the archive has too many holes")
        .expected(format!("at most {MOST} pieces"))
        .found(printable(member)))
}

/// The pieces in records: numbers with commas between them (0.1), or records one after the other (0.0).
fn listed(records: &Records, member: &[u8]) -> Result<Vec<(u64, u64)>> {
    let number = |text: &[u8]| -> Result<u64> {
        let parsed = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        parsed.ok_or_else(|| bad_number("map of a sparse file", text, member))
    };
    let numbers: Vec<u64> = match records.get(b"GNU.sparse.map") {
        Some(map) => map.split(|byte| *byte == b',').map(number).collect::<Result<_>>()?,
        None => {
            let keys: [&[u8]; 2] = [b"GNU.sparse.offset", b"GNU.sparse.numbytes"];
            let mut numbers = Vec::new();
            for (count, (key, value)) in records.all(&keys).enumerate() {
                if key != keys[count % 2] {
                    return Err(bad_number("map of a sparse file", value, member));
                }
                numbers.push(number(value)?);
            }
            numbers
        }
    };
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(bad_number("map of a sparse file", b"an odd count of numbers", member));
    }
    let pieces: Vec<(u64, u64)> = pairs.iter().map(|[offset, length]| (*offset, *length)).collect();
    few(pieces.len(), member).map(|()| pieces)
}

/// The pieces in front of the data (1.0): how many, then the numbers, each on a line; filled up to whole blocks. With them,
/// how many bytes they take.
fn leading(stored: u64, input: &mut Input<'_>, member: &[u8]) -> Result<(Vec<(u64, u64)>, u64)> {
    let mut lines = Lines { input, stored, taken: 0, block: Vec::new(), member };
    let count = usize::try_from(lines.next()?).unwrap_or(usize::MAX);
    few(count, member)?;
    let mut pieces = Vec::new();
    for _ in 0..count {
        pieces.push((lines.next()?, lines.next()?));
    }
    Ok((pieces, lines.taken))
}

/// Numbers on lines, read block by block.
struct Lines<'a, 'b> {
    input: &'a mut Input<'b>,
    stored: u64,
    taken: u64,
    block: Vec<u8>,
    member: &'a [u8],
}

impl Lines<'_, '_> {
    fn next(&mut self) -> Result<u64> {
        loop {
            if let Some(end) = self.block.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.block.drain(..=end).take(end).collect();
                let parsed = std::str::from_utf8(&line).ok().and_then(|text| text.parse().ok());
                return parsed.ok_or_else(|| bad_number("map of a sparse file", &line, self.member));
            }
            if self.block.len() > 2 * BLOCK || self.taken > LONGEST_MAP {
                return Err(bad_number("map of a sparse file", &self.block, self.member));
            }
            let mut block = [0; BLOCK];
            self.taken += u64_of(BLOCK);
            if self.taken > self.stored.next_multiple_of(u64_of(BLOCK)) {
                return Err(bad_number("map of a sparse file", b"a map longer than its file", self.member));
            }
            self.input.exactly(&mut block, self.member)?;
            self.block.extend_from_slice(&block);
        }
    }
}

/// What is left of a member's bytes behind its map.
pub(super) fn rest(stored: u64, taken: u64, member: &[u8]) -> Result<u64> {
    let rest = stored.checked_sub(taken);
    rest.ok_or_else(|| -> Error { bad_number("map of a sparse file", b"a map longer than its file", member) })
}
