//! Finds zeros: an image whose zeros are stored as data, such as a raw file that was copied without its
//! holes, becomes sparse again.

use std::sync::Arc;

use rayon::prelude::*;

use super::PourOptions;
use crate::error::{Error, Kind, Result};
use crate::image::{Builder, Cursor, Image, Render, Slice};
use crate::units::{Bytes, KIB, u64_of, usize_of};

/// The length and alignment of a run of zeros that becomes a hole: what a host filesystem can leave out.
pub(crate) const GRAIN: u64 = 4 * KIB;
/// How much is read at a time: an amount that is still in the second-level cache when it is examined.
const PIECE: u64 = 256 * KIB;

/// An image without its zeros.
#[derive(Clone, Debug)]
pub struct Sparse {
    /// The same bytes. A grain of 4 KiB is covered as a whole if it is not all zero, and otherwise not at
    /// all.
    pub image: Image,
    /// A number that follows from every byte and its place, and from nothing else. It is a sum of CRCs, so it
    /// does not resist an attacker.
    pub fingerprint: u128,
}

/// `image` without the grains of 4 KiB that are all zero. The result is the same for equal disks, however
/// their images were cut into segments. It reads all data, on `options.jobs` threads.
///
/// # Errors
/// [`Kind::Source`] and [`Kind::Format`] where data cannot be read, [`Kind::Interrupted`] after a signal.
pub fn without_zeros(image: &Image, options: &PourOptions<'_>) -> Result<Sparse> {
    // Units begin and end at grains: two units meet at a multiple of a MiB, or are many grains apart.
    let found: Vec<Found> = search(image, options, |reader, from, to| {
        let mut found = Found::default();
        let end = to.round_up(GRAIN).min(image.length()).get();
        let mut at = from.round_down(GRAIN).get();
        while at < end {
            let piece = reader.read(at, PIECE.min(end - at))?;
            found.look(at, piece);
            at += u64_of(piece.len());
        }
        Ok(found)
    })?;
    let mut sparse = Builder::new(image.length());
    let zeros = stored(image.length())?;
    let mut fingerprint = 0_u128;
    for Found { runs, sum } in found {
        fingerprint = fingerprint.wrapping_add(sum);
        for (start, end) in runs {
            cover(&mut sparse, image, &zeros, Bytes::new(start), Bytes::new(end));
        }
    }
    Ok(Sparse { image: sparse.finish()?, fingerprint })
}

/// `image` without the clusters that are all zero. The other clusters are covered as a whole, so the result
/// is the same for equal disks. It reads only as much of a cluster as shows that the cluster is not all zero,
/// mostly the first 4 KiB. `cluster` is a power of two, at least 4 KiB.
///
/// # Errors
/// As [`without_zeros`].
pub fn without_empty(image: &Image, cluster: Bytes, options: &PourOptions<'_>) -> Result<Image> {
    let found: Vec<Vec<Bytes>> = search(image, options, |reader, from, to| {
        let mut at = from.round_down(cluster.get());
        let mut found = Vec::new();
        while at < to {
            let end = (at + cluster).min(image.length());
            if holds_something(reader, at, end)? {
                found.push(at);
            }
            at += cluster;
        }
        Ok(found)
    })?;
    let mut sparse = Builder::new(image.length());
    let zeros = stored(image.length())?;
    let mut done = Bytes::ZERO;
    // If a cluster lies in two units, it was found twice.
    for at in found.into_iter().flatten().filter(|at| {
        let new = *at >= done;
        done = done.max(*at + cluster);
        new
    }) {
        cover(&mut sparse, image, &zeros, at, (at + cluster).min(image.length()));
    }
    sparse.finish()
}

/// Whether a byte of `from..to` is not zero. It examines one grain first and then whole pieces.
fn holds_something(reader: &mut Reader, from: Bytes, to: Bytes) -> Result<bool> {
    let (mut at, to) = (from.get(), to.get());
    let mut length = GRAIN;
    while at < to {
        let piece = reader.read(at, length.min(to - at))?;
        if !is_zero(piece) {
            return Ok(true);
        }
        at += u64_of(piece.len());
        length = PIECE;
    }
    Ok(false)
}

/// A thread's reader of the image.
struct Reader {
    cursor: Cursor,
    buffer: Vec<u8>,
}

impl Reader {
    /// `length` bytes at `offset`, at most [`PIECE`].
    fn read(&mut self, offset: u64, length: u64) -> Result<&[u8]> {
        let piece = &mut self.buffer[..usize_of(length)];
        self.cursor.read(offset, piece)?;
        Ok(piece)
    }
}

/// The results of `look` for each covered part of `image`, in their order, on `options.jobs` threads. `look`
/// gets a reader and the start and end of the part.
fn search<T: Send>(
    image: &Image,
    options: &PourOptions<'_>,
    look: impl Fn(&mut Reader, Bytes, Bytes) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.jobs.max(1))
        .build()
        .map_err(|error| Error::new(Kind::Source, "cannot start threads").because(error))?;
    image.settle(options)?;
    let units = super::cut(image);
    pool.install(|| {
        units
            .par_iter()
            .map_init(
                || Reader { cursor: image.cursor(), buffer: vec![0; usize_of(PIECE)] },
                |reader, unit| {
                    options.progress.check()?;
                    look(reader, unit.start, unit.end)
                },
            )
            .collect()
    })
}

/// Covers `from..to` of `sparse` with the data of `image`, and with `zeros` where `image` has holes.
fn cover(sparse: &mut Builder, image: &Image, zeros: &Slice, from: Bytes, to: Bytes) {
    let mut at = from;
    for piece in image.clipped(from, to) {
        sparse.put(at, &zeros.sub(at, piece.offset));
        sparse.put(piece.offset, &image.slice(piece.offset, piece.end()));
        at = piece.end();
    }
    sparse.put(at, &zeros.sub(at, to));
}

/// `length` bytes of zeros that are data and not a hole. They are rendered, so they take no memory.
fn stored(length: Bytes) -> Result<Slice> {
    let mut builder = Builder::new(length);
    let zeros = builder.renderer(Arc::new(Stored));
    builder.rendered(Bytes::ZERO, length, zeros, 0);
    Ok(builder.finish()?.whole())
}

/// Renders zeros: its buffer is zero already.
#[derive(Debug)]
struct Stored;

impl Render for Stored {
    fn render(&self, _: u32, _: u64, _: &mut [u8]) -> Result<()> {
        Ok(())
    }

    fn label(&self, _: u32) -> String {
        "zeros".to_owned()
    }
}

/// The runs of grains that are not all zero, as start and end, and the sum of their numbers.
#[derive(Debug, Default)]
struct Found {
    runs: Vec<(u64, u64)>,
    sum: u128,
}

impl Found {
    /// Examines `bytes`, which begin at `start`, after everything that was examined before.
    fn look(&mut self, start: u64, bytes: &[u8]) {
        let mut at = start;
        for grain in bytes.chunks(usize_of(GRAIN)) {
            let end = at + u64_of(grain.len());
            if !is_zero(grain) {
                self.sum = self.sum.wrapping_add(number(at, grain));
                match self.runs.last_mut() {
                    Some(last) if last.1 == at => last.1 = end,
                    _ => self.runs.push((at, end)),
                }
            }
            at = end;
        }
    }
}

/// A number of 128 bits for a grain and its place. Numbers of different grains do not cancel out.
fn number(at: u64, grain: &[u8]) -> u128 {
    // Two odd constants of 64 bits without a pattern: the golden ratio and the square root of 3 (both minus
    // 1).
    let spread = |value: u64, factor: u64| {
        let value = (value ^ value >> 32).wrapping_mul(factor);
        (value ^ value >> 29).wrapping_mul(factor)
    };
    let sum = u64::from(crc32fast::hash(grain)) << 32 | u64::from(crc32c::crc32c(grain));
    let place = spread(at.wrapping_add(1), 0x9e37_79b9_7f4a_7c15);
    u128::from(spread(sum ^ place, 0xbb67_ae85_84ca_a73b)) << 64
        | u128::from(spread(sum, 0x9e37_79b9_7f4a_7c15) ^ place)
}

/// Whether all bytes are zero. It compares words of 16 bytes, which the compiler turns into vector
/// instructions.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.chunks(16).all(|words| words.iter().fold(0, |all, word| all | u128::from_ne_bytes(*word)) == 0)
        && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Progress;
    use proptest::prelude::*;

    /// Where an image has data, whatever its segments.
    fn runs(image: &Image) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for segment in image.segments() {
            match runs.last_mut() {
                Some(last) if last.1 == segment.offset.get() => last.1 = segment.end().get(),
                _ => runs.push((segment.offset.get(), segment.end().get())),
            }
        }
        runs
    }

    #[test]
    fn fingerprints_differ_with_bytes_and_places() {
        let mut seen = std::collections::BTreeSet::new();
        let progress = Progress::default();
        let options = PourOptions::new(1, &progress);
        for (at, byte) in [(0, 0), (0, 1), (0, 2), (1, 1), (4096, 1), (4097, 1), (99_000, 1)] {
            let mut builder = Builder::new(Bytes::new(99_999));
            builder.bytes(Bytes::new(at), "byte", vec![byte]);
            assert!(seen.insert(without_zeros(&builder.finish().unwrap(), &options).unwrap().fingerprint));
        }
    }

    proptest! {
        #[test]
        fn the_bytes_stay_and_whole_grains_of_zero_go(
            parts in prop::collection::vec((0_u64..900, 1_usize..20_000, any::<bool>()), 1..8)
        ) {
            let mut builder = Builder::new(Bytes::new(20_000_000));
            let mut at = 0;
            for (gap, length, data) in parts {
                at += gap * 10;
                let byte = |n| u8::from(data && n % 5000 < 7);
                let bytes: Vec<u8> = (0..length).map(byte).collect();
                builder.bytes(Bytes::new(at), "part", bytes);
                at += u64_of(length);
            }
            let image = builder.finish().unwrap();
            let progress = Progress::default();
            let options = PourOptions::new(2, &progress);
            let found = without_zeros(&image, &options).unwrap();
            let sparse = found.image;
            let (mut a, mut b) = (vec![0; usize_of(at)], vec![0; usize_of(at)]);
            image.read(0, &mut a).unwrap();
            sparse.read(0, &mut b).unwrap();
            prop_assert!(a == b);
            for segment in sparse.segments() {
                let first = segment.offset.get() / GRAIN;
                let last = (segment.end().get() - 1) / GRAIN;
                for grain in first..=last {
                    let from = usize_of(grain * GRAIN);
                    let to = usize_of(((grain + 1) * GRAIN).min(at));
                    prop_assert!(!is_zero(&a[from..to]));
                }
            }
            // The same disk, cut into other segments.
            let mut whole = Builder::new(Bytes::new(20_000_000));
            whole.bytes(Bytes::ZERO, "whole", a.clone());
            let whole = whole.finish().unwrap();
            let again = without_zeros(&whole, &options).unwrap();
            prop_assert_eq!(again.fingerprint, found.fingerprint);
            prop_assert_eq!(runs(&again.image), runs(&sparse));
            for shift in 12..22 {
                let cluster = Bytes::new(1 << shift);
                let few = without_empty(&image, cluster, &options).unwrap();
                prop_assert_eq!(runs(&without_empty(&whole, cluster, &options).unwrap()), runs(&few));
                few.read(0, &mut b).unwrap();
                prop_assert!(a == b);
                for segment in few.segments() {
                    let last = segment.end().get() - 1;
                    for number in segment.offset.get() >> shift..=last >> shift {
                        let from = usize_of(number << shift);
                        prop_assert!(!is_zero(&a[from..a.len().min(from + (1 << shift))]));
                    }
                }
            }
        }
    }
}
