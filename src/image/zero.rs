//! Finding zeros: an image whose data was never told apart from holes, such as a raw file that was copied without
//! them, becomes sparse again.

use rayon::prelude::*;

use super::{Builder, Image, PourOptions};
use crate::error::{Error, Kind, Result};
use crate::units::{Bytes, KIB, u64_of, usize_of};

/// How long a run of zeros must be, and how it is aligned, to become a hole: what a host filesystem can leave out.
const GRAIN: u64 = 4 * KIB;

/// `image` without the grains of 4 KiB that hold nothing but zeros. Reads all its data, on `options.jobs` threads.
///
/// # Errors
/// [`Kind::Source`] and [`Kind::Format`] where data cannot be read, [`Kind::Interrupted`] after a signal.
pub fn without_zeros(image: &Image, options: &PourOptions<'_>) -> Result<Image> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.jobs.max(1))
        .build()
        .map_err(|error| Error::new(Kind::Source, "cannot start threads").because(error))?;
    let units = super::pour::cut(image);
    let found: Vec<Vec<(u64, u64)>> = pool.install(|| {
        units
            .par_iter()
            .map_init(Vec::new, |buffer, unit| {
                options.progress.check()?;
                let start = unit.start.round_down(GRAIN).get();
                let end = unit.end.get();
                buffer.resize(usize_of(end - start), 0);
                image.read(start, buffer)?;
                Ok(data_runs(start, buffer))
            })
            .collect::<Result<_>>()
    })?;
    let mut sparse = Builder::over(image, image.length());
    let mut last = 0;
    for (start, end) in found.into_iter().flatten() {
        // Two units may share a grain; what the first one took is not taken again.
        let start = start.max(last);
        for piece in image.clipped(Bytes::new(start), Bytes::new(end)) {
            sparse.piece(piece.offset, piece);
        }
        last = last.max(end);
    }
    sparse.finish()
}

/// The runs of grains in `bytes`, which begins at `start`, that are not all zero.
fn data_runs(start: u64, bytes: &[u8]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    let mut at = start;
    for grain in bytes.chunks(usize_of(GRAIN)) {
        let end = at + u64_of(grain.len());
        if !is_zero(grain) {
            match runs.last_mut() {
                Some(last) if last.1 == at => last.1 = end,
                _ => runs.push((at, end)),
            }
        }
        at = end;
    }
    runs
}

/// Whether all bytes are zero; in words of 16 bytes, which the compiler turns into vectors.
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

    proptest! {
        #[test]
        fn the_bytes_stay_and_whole_grains_of_zero_go(
            parts in prop::collection::vec((0_u64..900, 1_usize..20_000, any::<bool>()), 1..8)
        ) {
            let mut builder = Builder::new(Bytes::new(20_000_000));
            let mut at = 0;
            for (gap, length, data) in parts {
                at += gap * 10;
                let bytes = (0..length).map(|n| if data && n % 5000 < 7 { 1 } else { 0 }).collect();
                builder.bytes(Bytes::new(at), "part", bytes);
                at += u64_of(length);
            }
            let image = builder.finish().unwrap();
            let options = PourOptions { jobs: 2, progress: &Progress::default() };
            let sparse = without_zeros(&image, &options).unwrap();
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
        }
    }
}
