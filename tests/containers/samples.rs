//! Disks of awkward sizes, made by code.

use diskwright::image::{Builder, Image};
use diskwright::units::{Bytes, GIB, KIB, MIB, TIB, u64_of, usize_of};

use crate::rows::Row;

/// The contents of a part of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    /// Bytes without a pattern: no codec can shorten them.
    Noise,
    /// Lines of text.
    Text,
    /// Stored zeros, not a hole.
    Zeros,
}

/// A disk: its size and its data.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) length: u64,
    pub(crate) parts: Vec<(u64, u64, Fill)>,
}

/// Bytes that differ with `seed` and from place to place.
pub(crate) fn noise(seed: u64, length: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(usize_of(length + 8));
    while u64_of(bytes.len()) < length {
        // xorshift64 (Marsaglia).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(usize_of(length));
    bytes
}

/// Lines that a codec makes much shorter.
pub(crate) fn text(seed: u64, length: u64) -> Vec<u8> {
    let lines = (seed..).flat_map(|number| format!("line {number} of a long text\n").into_bytes());
    lines.take(usize_of(length)).collect()
}

impl Sample {
    pub(crate) fn new(name: impl Into<String>, length: u64, parts: &[(u64, u64, Fill)]) -> Self {
        Self { name: name.into(), length, parts: parts.to_vec() }
    }

    /// The disk as an image.
    pub(crate) fn image(&self) -> Image {
        let mut builder = Builder::new(Bytes::new(self.length));
        for (offset, length, fill) in &self.parts {
            let bytes = match fill {
                Fill::Noise => noise(*offset, *length),
                Fill::Text => text(*offset, *length),
                Fill::Zeros => vec![0; usize_of(*length)],
            };
            builder.bytes(Bytes::new(*offset), "part", bytes);
        }
        builder.finish().unwrap()
    }
}

/// A disk of `length` bytes with data at its start, in its middle across a boundary of `unit`, and at its
/// end.
pub(crate) fn sized(length: u64, unit: u64) -> Sample {
    let mut parts = Vec::new();
    let mut at = 0;
    let middle = (length / 2 / unit * unit).saturating_sub(700);
    for (start, size, fill) in [
        (0, 1_500, Fill::Text),
        (middle, 1_400 + unit / 2, Fill::Noise),
        (middle + unit, unit + 1, Fill::Text),
        (middle + 3 * unit, unit, Fill::Zeros),
        (length.saturating_sub(300), 300, Fill::Noise),
    ] {
        let start = start.max(at);
        let size = size.min(length.saturating_sub(start));
        if size > 0 {
            parts.push((start, size, fill));
            at = start + size;
        }
    }
    Sample { name: format!("{length} bytes"), length, parts }
}

/// The disks that every row must hold, unless they are too large for it.
pub(crate) fn samples(row: &Row) -> Vec<Sample> {
    let unit = row.unit;
    let mut lengths = vec![
        0,
        1,
        511,
        512,
        513,
        unit - 1,
        unit,
        unit + 1,
        unit + 512,
        // An odd number of sectors, over several units, the last one cut.
        (5 * unit).next_multiple_of(1024) + 512,
        // More than one chunk of the writers, which work on 1 MiB and on 4 MiB.
        9 * MIB + 3 * 512,
    ];
    lengths.extend(unit.checked_sub(512).filter(|length| *length > 0));
    lengths.sort_unstable();
    lengths.dedup();
    let mut samples: Vec<Sample> = lengths.into_iter().map(|length| sized(length, unit)).collect();
    // 32-bit counts of sectors end at 2 TiB. A format that cannot hold that gets a smaller disk.
    let far = if row.largest < 2 * TIB + 3 * 512 { 2000 * GIB } else { 2 * TIB + 3 * 512 };
    let beyond = far.min(2 * TIB);
    samples.extend([
        Sample::new("a hole", GIB, &[]),
        Sample::new("zeros", 3 * MIB, &[(0, 3 * MIB, Fill::Zeros)]),
        Sample::new("full", 2 * MIB + 512, &[(0, 2 * MIB + 512, Fill::Noise)]),
        Sample::new("full of text", 2 * MIB, &[(0, 2 * MIB, Fill::Text)]),
        Sample::new(
            "both ends of about 2 TiB",
            far,
            &[(0, 70 * KIB, Fill::Text), (beyond - 5000, far - (beyond - 5000), Fill::Noise)],
        ),
    ]);
    samples
}

/// A disk for tests that do not depend on sizes: a bit of everything.
pub(crate) fn usual() -> Sample {
    Sample::new(
        "usual",
        5 * MIB + 3 * 512,
        &[
            (0, 3_000, Fill::Text),
            (66_000, 140_000, Fill::Text),
            (MIB, 300_000, Fill::Noise),
            (2 * MIB, 200_000, Fill::Zeros),
            (3 * MIB + 5, 1, Fill::Noise),
            (5 * MIB, 3 * 512, Fill::Text),
        ],
    )
}
