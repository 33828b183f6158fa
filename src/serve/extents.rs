//! Where an export has data and where it has holes: the answer to a question for `base:allocation`, from the segments.

use std::ops::Range;

use crate::image::Slice;

/// Data and holes are told apart in pieces of this many bytes: a hole in a block with data counts as data. It is the block of
/// filesystems, and what clients are told to prefer.
const GRAIN: u64 = 4096;

/// A range of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// How long it is; never zero.
    pub(super) length: u64,
    /// Whether it has no data.
    pub(super) hole: bool,
}

/// All ranges with data, ascending, none next to another.
#[derive(Debug)]
pub(super) struct Extents(Vec<Range<u64>>);

impl Extents {
    /// Those of `slice`.
    pub(super) fn of(slice: &Slice) -> Self {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        let length = slice.length().get();
        for segment in slice.segments() {
            let start = segment.offset.get() / GRAIN * GRAIN;
            let end = (segment.end().get().saturating_add(GRAIN - 1) / GRAIN * GRAIN).min(length);
            match ranges.last_mut() {
                Some(last) if start <= last.end => last.end = last.end.max(end),
                _ => ranges.push(start..end),
            }
        }
        ranges.shrink_to_fit();
        Self(ranges)
    }

    /// What `start..end` consists of, in its order.
    pub(super) fn within(&self, start: u64, end: u64) -> impl Iterator<Item = Extent> + '_ {
        let first = self.0.partition_point(|range| range.end <= start);
        let mut rest = self.0[first..].iter();
        let mut next = rest.next();
        let mut at = start;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let (to, hole) = match next {
                Some(range) if range.start <= at => {
                    let to = range.end;
                    next = rest.next();
                    (to, false)
                }
                Some(range) => (range.start, true),
                None => (end, true),
            };
            let to = to.min(end);
            let length = to - at;
            at = to;
            Some(Extent { length, hole })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Builder;
    use crate::units::Bytes;

    fn extents(length: u64, data: &[(u64, u64)]) -> Extents {
        let mut image = Builder::new(Bytes::new(length));
        for (offset, count) in data {
            image.bytes(Bytes::new(*offset), "data", vec![1; usize::try_from(*count).unwrap()]);
        }
        Extents::of(&image.finish().unwrap().whole())
    }

    fn all(extents: &Extents, start: u64, end: u64) -> Vec<(u64, bool)> {
        extents.within(start, end).map(|extent| (extent.length, extent.hole)).collect()
    }

    #[test]
    fn blocks_with_a_byte_are_data_and_neighbours_are_one() {
        let extents = extents(40_000, &[(10, 20), (4095, 2), (5000, 1), (20_480, 4096), (39_999, 1)]);
        assert_eq!(
            all(&extents, 0, 40_000),
            [(8192, false), (12_288, true), (4096, false), (12_288, true), (3136, false)]
        );
        assert_eq!(all(&extents, 8191, 20_481), [(1, false), (12_288, true), (1, false)]);
        assert_eq!(all(&extents, 9000, 9001), [(1, true)]);
        assert_eq!(all(&extents, 39_999, 40_000), [(1, false)]);
        assert_eq!(all(&extents, 5, 5), []);
    }

    #[test]
    fn an_image_without_data_is_one_hole() {
        assert_eq!(all(&extents(1 << 40, &[]), 7, 1 << 40), [((1 << 40) - 7, true)]);
        assert_eq!(all(&extents(0, &[]), 0, 0), []);
    }
}
