//! Which blocks of a disk have data.

use crate::image::Image;

/// The blocks of an image that any segment touches, in runs.
#[derive(Debug)]
pub(super) struct Blocks {
    /// First block, one past the last, and how many with data come before.
    runs: Vec<(u64, u64, u64)>,
}

impl Blocks {
    /// The blocks of `size` bytes.
    pub(super) fn of(image: &Image, size: u64) -> Self {
        let mut runs: Vec<(u64, u64, u64)> = Vec::new();
        for segment in image.segments() {
            let (first, end) = (segment.offset.get() / size, segment.end().get().div_ceil(size));
            match runs.last_mut() {
                Some(last) if last.1 >= first => last.1 = last.1.max(end),
                last => {
                    let before = last.map_or(0, |last| last.2 + last.1 - last.0);
                    runs.push((first, end, before));
                }
            }
        }
        Self { runs }
    }

    /// The runs: first block, and one past the last.
    pub(super) fn runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.runs.iter().map(|(first, end, _)| (*first, *end))
    }

    /// How many there are.
    pub(super) fn total(&self) -> u64 {
        self.runs.last().map_or(0, |(first, end, before)| before + end - first)
    }

    /// How many come before `number`.
    pub(super) fn before(&self, number: u64) -> u64 {
        let after = self.runs.partition_point(|(first, ..)| *first < number);
        let run = after.checked_sub(1).and_then(|last| self.runs.get(last));
        run.map_or(0, |(first, end, before)| before + number.min(*end) - first)
    }

    /// Whether `number` is one of them.
    pub(super) fn has(&self, number: u64) -> bool {
        self.before(number + 1) > self.before(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Builder;
    use crate::units::Bytes;

    #[test]
    fn blocks_are_counted_once() {
        let mut image = Builder::new(Bytes::new(1000));
        for (at, length) in [(10, 5), (20, 90), (300, 1), (555, 45)] {
            image.bytes(Bytes::new(at), "part", vec![1; length]);
        }
        let blocks = Blocks::of(&image.finish().unwrap(), 100);
        assert_eq!(blocks.runs().collect::<Vec<_>>(), [(0, 2), (3, 4), (5, 6)]);
        let with: Vec<u64> = (0..10).filter(|number| blocks.has(*number)).collect();
        assert_eq!((with, blocks.total()), (vec![0, 1, 3, 5], 4));
        let before: Vec<u64> = (0..8).map(|number| blocks.before(number)).collect();
        assert_eq!(before, [0, 1, 2, 2, 3, 3, 4, 4]);
    }
}
