//! Digests of data: of the chunks of a slice, read once on all threads, and those that an image takes of
//! itself ([`Digest`](crate::image::Digest)).

use super::ordered::{self, Memory, Stage};
use super::{PourOptions, observed};
use crate::error::{Error, Result};
use crate::image::{Cursor, Image, Slice};
use crate::units::{Bytes, MIB, u64_of, usize_of};

/// How much of a slice a worker reads at a time, at least one chunk: enough to make the cost of ordering the
/// results negligible.
const PIECE: u64 = MIB;

impl Image {
    /// Takes all missing digests of the image's data, by one read of that data on `options.jobs` threads. It
    /// is for callers that read the image without pouring it; the first read of rendered bytes does the same
    /// on one thread.
    ///
    /// # Errors
    /// [`Kind::Source`](crate::error::Kind::Source) for a host file that is gone or changed, the error of a
    /// digest, [`Kind::Interrupted`](crate::error::Kind::Interrupted) after a signal.
    pub fn settle(&self, options: &PourOptions<'_>) -> Result<()> {
        if self.is_settled() { Ok(()) } else { observed::settle(self, options) }
    }
}

/// The results of `of` for each chunk of `size` bytes of `slice`, in order; the last chunk may be shorter.
/// The slice is read once, on `options.jobs` threads, and the progress counts it. Each thread has a MiB or one chunk in
/// memory.
///
/// # Errors
/// [`Kind::Source`](crate::error::Kind::Source) for a host file that is gone or changed,
/// [`Kind::Interrupted`](crate::error::Kind::Interrupted) after a signal, [`Kind::Bug`](crate::error::Kind::Bug) for chunks of
/// no bytes.
pub fn chunks<T: Send>(
    slice: &Slice,
    size: Bytes,
    options: &PourOptions<'_>,
    of: impl Fn(&[u8]) -> T + Sync,
) -> Result<Vec<T>> {
    if size == Bytes::ZERO {
        return Err(Error::bug("a digest is taken of chunks without bytes"));
    }
    slice.image().settle(options)?;
    let piece = (PIECE / size.get()).max(1).saturating_mul(size.get());
    let results = Vec::with_capacity(usize_of(slice.length().div_ceil(size.get())));
    let memory = Memory::of_output(Bytes::new(piece));
    ordered::run(&Chunks { slice, size: usize_of(size.get()), piece, of, options }, results, memory, options)
}

/// The chunks of a slice.
struct Chunks<'a, F> {
    slice: &'a Slice,
    size: usize,
    /// Bytes that are read at once; whole chunks.
    piece: u64,
    of: F,
    options: &'a PourOptions<'a>,
}

impl<T: Send, F: Fn(&[u8]) -> T + Sync> Stage for Chunks<'_, F> {
    type Worker = (Cursor, Vec<u8>, Vec<T>);
    type State = Vec<T>;
    type Rest = ();

    fn count(&self) -> u64 {
        self.slice.length().div_ceil(self.piece)
    }

    fn worker(&self) -> Result<Self::Worker> {
        Ok((self.slice.cursor(), Vec::new(), Vec::new()))
    }

    fn prepare(&self, number: u64, (cursor, bytes, results): &mut Self::Worker) -> Result<()> {
        let start = number * self.piece;
        bytes.resize(usize_of(self.piece.min(self.slice.length().get() - start)), 0);
        cursor.read(start, bytes)?;
        let end = start + u64_of(bytes.len());
        let [from, to] = [start, end].map(|at| self.slice.start() + Bytes::new(at));
        self.options.advance(self.slice.image(), from, to);
        results.extend(bytes.chunks(self.size).map(&self.of));
        Ok(())
    }

    fn append(&self, state: &mut Vec<T>, (_, _, results): &mut Self::Worker) -> Result<()> {
        state.append(results);
        Ok(())
    }

    fn finish(&self, (): (), _: &mut Self::Worker) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::image::Builder;
    use crate::progress::Progress;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn chunks_are_those_of_the_bytes_for_any_size_and_number_of_jobs(
            parts in prop::collection::vec((0_u64..300_000, 1_usize..900_000), 0..6),
            (start, cut) in (0_u64..5000, 0_u64..5000),
            size in prop_oneof![1_u64..5000, 1_000_000_u64..4_000_000],
            jobs in 1_usize..6,
        ) {
            let mut image = Builder::new(Bytes::new(8_000_000));
            let mut at = 0;
            for (gap, length) in parts {
                at += gap;
                let bytes: Vec<u8> = (0..length).map(|n| (n % 253).to_le_bytes()[0]).collect();
                image.bytes(Bytes::new(at), "part", bytes);
                at += u64_of(length);
            }
            let slice = image.finish().unwrap().slice(Bytes::new(start), Bytes::new(8_000_000 - cut));
            let mut bytes = vec![0xd1; usize_of(slice.length().get())];
            slice.read(0, &mut bytes).unwrap();
            let progress = Progress::default();
            let options = PourOptions::new(jobs, &progress);
            let of = |bytes: &[u8]| (bytes.len(), crc32fast::hash(bytes));
            let expected: Vec<_> = bytes.chunks(usize_of(size)).map(of).collect();
            prop_assert_eq!(chunks(&slice, Bytes::new(size), &options, of).unwrap(), expected);
        }
    }

    #[test]
    fn chunks_of_nothing_are_a_bug_and_a_signal_ends_the_reading() {
        let slice = Slice::ready("bytes", vec![1; 10]);
        let progress = Progress::default();
        let options = PourOptions::new(2, &progress);
        let count = |size| chunks(&slice, Bytes::new(size), &options, <[u8]>::len);
        assert_eq!(count(0).unwrap_err().kind(), Kind::Bug);
        assert_eq!(count(4).unwrap(), [4, 4, 2]);
        assert_eq!(count(u64::MAX).unwrap(), [10]);
        progress.stop_flag().store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(count(4).unwrap_err().kind(), Kind::Interrupted);
    }
}
