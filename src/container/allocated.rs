//! The units of a disk that contain data (clusters, blocks or grains), in runs.
//!
//! Every container stores the units that contain data one after the other, and has a table from a unit of the
//! disk to its place. Which units are stored, and in which order, follows from the segments of the image
//! alone.

use crate::image::{Builder, Image};
use crate::units::Bytes;

/// A run of units that contain data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnitRun {
    /// Number of the first unit on the disk.
    pub(super) first: u64,
    /// How many units.
    pub(super) count: u64,
    /// How many units with data come before it.
    pub(super) ordinal: u64,
}

/// The units of an image that contain data, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Allocated {
    unit: u64,
    runs: Vec<UnitRun>,
}

impl Allocated {
    /// The units of `unit` bytes that any segment of `image` touches.
    pub(super) fn of(image: &Image, unit: u64) -> Self {
        let mut runs: Vec<UnitRun> = Vec::new();
        for segment in image.segments() {
            let first = segment.offset.get() / unit;
            let end = segment.end().get().div_ceil(unit);
            match runs.last_mut() {
                Some(last) if last.first + last.count >= first => {
                    last.count = end.max(last.first + last.count) - last.first;
                }
                last => {
                    let ordinal = last.map_or(0, |last| last.ordinal + last.count);
                    runs.push(UnitRun { first, count: end - first, ordinal });
                }
            }
        }
        Self { unit, runs }
    }

    /// All of `count` units, as if each contained data.
    pub(super) fn every(unit: u64, count: u64) -> Self {
        let runs = if count == 0 { Vec::new() } else { vec![UnitRun { first: 0, count, ordinal: 0 }] };
        Self { unit, runs }
    }

    /// The runs of units that contain data.
    pub(super) fn runs(&self) -> &[UnitRun] {
        &self.runs
    }

    /// How many units contain data.
    pub(super) fn total(&self) -> u64 {
        self.runs.last().map_or(0, |last| last.ordinal + last.count)
    }

    /// How many units with data come before `number`, if it contains data itself.
    pub(super) fn ordinal(&self, number: u64) -> Option<u64> {
        let after = self.runs.partition_point(|run| run.first <= number);
        let run = self.runs.get(after.checked_sub(1)?)?;
        (number < run.first + run.count).then(|| run.ordinal + (number - run.first))
    }

    /// The number of the unit with data that has `ordinal` such units before it.
    pub(super) fn number(&self, ordinal: u64) -> Option<u64> {
        let after = self.runs.partition_point(|run| run.ordinal <= ordinal);
        let run = self.runs.get(after.checked_sub(1)?)?;
        (ordinal < run.ordinal + run.count).then(|| run.first + (ordinal - run.ordinal))
    }

    /// Puts the units of `image` into `builder`: the one with ordinal n at `start` + n × `stride`. If the
    /// stride is the size of a unit, runs stay whole.
    pub(super) fn place(&self, image: &Image, builder: &mut Builder, start: Bytes, stride: u64) {
        for run in &self.runs {
            let steps = if stride == self.unit { 1 } else { run.count };
            let length = if stride == self.unit { run.count * self.unit } else { self.unit };
            for step in 0..steps {
                let from = Bytes::new(run.first * self.unit + step * self.unit);
                let to = Bytes::new((run.ordinal + step) * stride) + start;
                builder.put(to, &image.slice(from, from + Bytes::new(length)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn image(parts: &[(u64, usize)]) -> Image {
        let mut builder = Builder::new(Bytes::new(1 << 20));
        for (offset, length) in parts {
            builder.bytes(Bytes::new(*offset), "part", vec![7; *length]);
        }
        builder.finish().unwrap()
    }

    #[test]
    fn units_are_counted_once() {
        let allocated = Allocated::of(&image(&[(10, 10), (30, 1), (100, 101), (400, 50)]), 100);
        assert_eq!(
            allocated.runs,
            [UnitRun { first: 0, count: 3, ordinal: 0 }, UnitRun { first: 4, count: 1, ordinal: 3 }]
        );
        assert_eq!(allocated.total(), 4);
        assert_eq!(
            [0, 2, 3, 4, 5].map(|unit| allocated.ordinal(unit)),
            [Some(0), Some(2), None, Some(3), None]
        );
        assert_eq!([0, 3, 4].map(|ordinal| allocated.number(ordinal)), [Some(0), Some(4), None]);
        let every = Allocated::every(100, 5);
        assert_eq!([0, 4, 5].map(|unit| every.ordinal(unit)), [Some(0), Some(4), None]);
        assert_eq!((every.total(), Allocated::every(100, 0).total()), (5, 0));
    }

    proptest! {
        #[test]
        fn placing_keeps_every_byte(
            cuts in prop::collection::btree_set(0_u64..60_000, 0..20), unit in 1_u64..5000, gap in 0_u64..100
        ) {
            let cuts: Vec<u64> = cuts.into_iter().collect();
            let parts: Vec<(u64, usize)> =
                cuts.chunks_exact(2).map(|pair| (pair[0], crate::units::usize_of(pair[1] - pair[0]))).collect();
            let image = image(&parts);
            let allocated = Allocated::of(&image, unit);
            let mut builder = Builder::new(Bytes::new(1 << 40));
            allocated.place(&image, &mut builder, Bytes::new(1000), unit + gap);
            let placed = builder.finish().unwrap();
            prop_assert_eq!(placed.covered(), image.covered());
            for number in 0..60_000 / unit + 1 {
                let mut before = vec![0; crate::units::usize_of(unit)];
                image.read(number * unit, &mut before).unwrap();
                match allocated.ordinal(number) {
                    Some(ordinal) => {
                        let mut after = vec![0; crate::units::usize_of(unit)];
                        placed.read(1000 + ordinal * (unit + gap), &mut after).unwrap();
                        prop_assert!(before == after);
                        prop_assert_eq!(allocated.number(ordinal), Some(number));
                    }
                    None => prop_assert!(before.iter().all(|byte| *byte == 0)),
                }
            }
        }
    }
}
