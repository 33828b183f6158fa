//! Compares bytes. Holes on both sides are not read, and neither is the same range of the same file of the host.

use std::path::PathBuf;

use crate::error::Result;
use crate::image::{Cursor, Data, Image, Slice};
use crate::look::capability::value;
use crate::progress::Progress;
use crate::units::{KIB, u64_of, usize_of};

/// Bytes that are read at a time.
const PIECE: u64 = 256 * KIB;
/// Bytes that are shown of a difference.
const SHOWN: u64 = 32;

/// Compares slices, and keeps the images open that it used last.
#[derive(Debug, Default)]
pub(super) struct Comparer {
    first: Option<(Image, Cursor)>,
    second: Option<(Image, Cursor)>,
    buffers: [Vec<u8>; 2],
}

/// A run of bytes of a slice: its range, and the file of the host and the offset in it where they come from.
struct Run {
    start: u64,
    end: u64,
    host: Option<(PathBuf, u64)>,
}

fn runs(slice: &Slice) -> Result<Vec<Run>> {
    let mut found: Vec<Run> = Vec::new();
    for segment in slice.segments() {
        let skip = match segment.data {
            Data::File { skip, .. } => Some(skip),
            _ => None,
        };
        let host = match (skip, slice.image().host_file(&segment)?) {
            (Some(skip), Some(file)) => Some((file.path.into_owned(), skip)),
            _ => None,
        };
        found.push(Run { start: segment.offset.get(), end: segment.end().get(), host });
    }
    Ok(found)
}

fn cursor<'a>(open: &'a mut Option<(Image, Cursor)>, slice: &Slice) -> &'a mut Cursor {
    let fresh = || (slice.image().clone(), slice.image().cursor());
    if open.as_ref().is_some_and(|(own, _)| !own.is_same(slice.image())) {
        *open = None;
    }
    &mut open.get_or_insert_with(fresh).1
}

impl Comparer {
    /// The offset of the first byte that differs. Of slices of different lengths, the end of the shorter one differs.
    pub(super) fn first_difference(
        &mut self,
        first: &Slice,
        second: &Slice,
        progress: &Progress,
    ) -> Result<Option<u64>> {
        let length = first.length().min(second.length()).get();
        let (ours, theirs) = (runs(first)?, runs(second)?);
        let (mut one, mut other) = (0, 0);
        let mut at = 0;
        while at < length {
            progress.check()?;
            while ours.get(one).is_some_and(|run| run.end <= at) {
                one += 1;
            }
            while theirs.get(other).is_some_and(|run| run.end <= at) {
                other += 1;
            }
            let (a, b) = (ours.get(one), theirs.get(other));
            // Up to where neither of them begins or ends.
            let border = |run: Option<&Run>| {
                run.map_or(length, |run| if run.start > at { run.start } else { run.end })
            };
            let end = border(a).min(border(b)).min(length);
            let inside = |run: &&Run| run.start <= at;
            let (a, b) = (a.filter(inside), b.filter(inside));
            let place =
                |run: &Run| run.host.as_ref().map(|(path, skip)| (path.clone(), skip + (at - run.start)));
            let same = match (a, b) {
                (None, None) => true,
                (Some(a), Some(b)) => a.host.is_some() && place(a) == place(b),
                _ => false,
            };
            if !same && let Some(found) = self.read(first, second, at, end, progress)? {
                return Ok(Some(found));
            }
            at = end;
        }
        Ok((first.length() != second.length()).then_some(length))
    }

    /// The first byte of `start..end` that differs.
    fn read(
        &mut self,
        first: &Slice,
        second: &Slice,
        start: u64,
        end: u64,
        progress: &Progress,
    ) -> Result<Option<u64>> {
        let mut at = start;
        let [ours, theirs] = &mut self.buffers;
        while at < end {
            progress.check()?;
            let length = PIECE.min(end - at);
            ours.resize(usize_of(length), 0);
            theirs.resize(usize_of(length), 0);
            cursor(&mut self.first, first).read(first.start().get() + at, ours)?;
            cursor(&mut self.second, second).read(second.start().get() + at, theirs)?;
            if let Some(found) = ours.iter().zip(theirs.iter()).position(|(a, b)| a != b) {
                return Ok(Some(at + u64_of(found)));
            }
            at += length;
        }
        Ok(None)
    }
}

/// Some bytes from `at` on, for people: the rest of a line of text, or hexadecimal.
pub(super) fn shown(slice: &Slice, at: u64) -> Result<String> {
    let bytes = slice.bytes(at, usize_of(SHOWN.min(slice.length().get().saturating_sub(at))))?;
    let line = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .filter(|end| *end > 0)
        .map_or(&*bytes, |end| &bytes[..end]);
    Ok(value(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Builder;
    use crate::units::Bytes;

    fn image(length: u64, parts: &[(u64, &[u8])]) -> Slice {
        let mut builder = Builder::new(Bytes::new(length));
        for (at, bytes) in parts {
            builder.bytes(Bytes::new(*at), "bytes", bytes.to_vec());
        }
        builder.finish().unwrap().whole()
    }

    #[test]
    fn the_first_difference_is_found_whatever_the_segments() {
        let whole = image(20, &[(2, b"abcdef"), (10, b"xy")]);
        for (other, expected) in [
            (image(20, &[(2, b"abc"), (5, b"def"), (10, b"x"), (11, b"y")]), None),
            (image(20, &[(0, b"\0\0abcdef\0\0xy\0\0\0")]), None),
            (image(20, &[(2, b"abcdef"), (10, b"xz")]), Some(11)),
            (image(20, &[(2, b"abcdef")]), Some(10)),
            (image(20, &[(2, b"abcdef"), (10, b"xy"), (19, b"!")]), Some(19)),
            (image(20, &[]), Some(2)),
            (image(15, &[(2, b"abcdef"), (10, b"xy")]), Some(15)),
            (image(0, &[]), Some(0)),
        ] {
            let mut comparer = Comparer::default();
            let progress = Progress::default();
            assert_eq!(comparer.first_difference(&whole, &other, &progress).unwrap(), expected);
            assert_eq!(comparer.first_difference(&other, &whole, &progress).unwrap(), expected);
        }
    }
}
