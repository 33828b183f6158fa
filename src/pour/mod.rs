//! The pour: writes one image to one file, in parallel, and keeps its holes. What has to be compressed as a
//! whole, a package or the growth of a qcow2 in place are streams and files of their own modules.
//!
//! The image is cut into units of a few MiB. Each worker takes the next unit, gathers its segments in a
//! buffer (so that thousands of small files become few large writes), and writes runs of bytes. What no
//! segment covers stays a hole. Every byte has its place before the first one is written, so it does not
//! matter which worker writes a unit, and in which way.

pub(crate) mod device;
pub mod digest;
mod observed;
pub(crate) mod ordered;
pub mod output;
pub mod outputs;
mod packer;
mod run;
mod share;
pub mod spool;
mod stream;
mod way;
pub mod zeros;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::error::{Error, Result};
use crate::host::folder_of;
use crate::image::{Data, Image};
use crate::progress::Progress;
use crate::units::{Bytes, KIB, MIB};
use output::Output;
use run::Run;
use way::Ways;
use zeros::without_empty;

pub use packer::Packer;
pub(crate) use stream::write_error;
pub use stream::{Sink, stream};

/// How a pour is done. Nothing here changes a byte of the result.
#[derive(Clone, Copy, Debug)]
pub struct PourOptions<'a> {
    /// Worker threads, at least 1.
    pub jobs: usize,
    /// Receives the progress, and may ask to stop.
    pub progress: &'a Progress,
    /// How pages of data are treated that are all zero.
    pub zeros: Zeros,
}

/// How pages of 4 KiB of data are treated that are all zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Zeros {
    /// Zero pages are written out: only holes of the source become holes of the output.
    #[default]
    Write,
    /// They become holes of the output, which read the same.
    Skip,
}

impl<'a> PourOptions<'a> {
    /// Options for `jobs` threads, which write all data.
    #[must_use]
    pub const fn new(jobs: usize, progress: &'a Progress) -> Self {
        Self { jobs, progress, zeros: Zeros::Write }
    }

    /// Tells the progress that the file data in `start..end` of `image` was copied.
    pub(crate) fn advance(&self, image: &Image, start: Bytes, end: Bytes) {
        for piece in image.clipped(start, end) {
            if let Data::File { skip, .. } = piece.data {
                self.progress.advance(piece.length.get(), u64::from(skip == 0));
            }
        }
    }
}

/// How many bytes of the image a worker takes at a time. It is large enough that taking a unit is cheap, and
/// small enough that all workers finish at about the same time.
const UNIT: u64 = 4 * MIB;
/// The smallest hole of the output file. A shorter hole inside a run is written as zeros, because the tail of
/// a block costs less than another write.
const PAGE: u64 = 4 * KIB;

/// Writes `image` to the file `path`: a new file that appears under its name when it is complete.
///
/// # Errors
/// [`Kind::Output`](crate::error::Kind::Output) for a full disk or a folder that is missing or not writable,
/// [`Kind::Source`](crate::error::Kind::Source) for a host file that is gone or changed,
/// [`Kind::Interrupted`](crate::error::Kind::Interrupted) after a signal. In every case nothing is left
/// behind, and an older file of that name is untouched.
pub fn pour(image: &Image, path: &Path, options: &PourOptions<'_>) -> Result<()> {
    let output = Output::create(path)?;
    fill(image, &output, options)?;
    output.publish()
}

/// Writes `image` to `output`, which has no name yet.
///
/// # Errors
/// As [`pour`].
pub fn fill(image: &Image, output: &Output, options: &PourOptions<'_>) -> Result<()> {
    // A device that cannot discard has older data where zeros belong.
    let zeros = if output.clear(image, options.progress)? { options.zeros } else { Zeros::Write };
    let options = &PourOptions { zeros, ..*options };
    let share = shares_blocks(image, output);
    let left = observed::write(image, output, share, options)?;
    let image = left.as_ref().unwrap_or(image);
    if share && options.zeros == Zeros::Skip {
        // Shared blocks are not read, so zeros are found before.
        let sparse = without_empty(image, Bytes::new(PAGE), options)?;
        return write(&sparse, output, share, &PourOptions { zeros: Zeros::Write, ..*options });
    }
    write(image, output, share, options)
}

/// Writes `image` to `output`, on all threads.
fn write(image: &Image, output: &Output, share: bool, options: &PourOptions<'_>) -> Result<()> {
    write_by(image, Ways::new(output, image.length(), image.covered()), share, options)
}

fn write_by(image: &Image, ways: Ways<'_>, share: bool, options: &PourOptions<'_>) -> Result<()> {
    ways.output().set_length(image.length().get())?;
    let units = cut(image);
    let work = Work {
        image,
        ways,
        units: &units,
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        error: Mutex::new(None),
        share,
        options,
    };
    let jobs = options.jobs.clamp(1, units.len().max(1));
    std::thread::scope(|scope| {
        for _ in 1..jobs {
            scope.spawn(|| work.run());
        }
        work.run();
    });
    match work.error.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

/// A range of the image that one worker writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unit {
    start: Bytes,
    end: Bytes,
}

/// Cuts the covered parts of the image into units. Every cut is at a multiple of [`UNIT`] or in a hole of at
/// least a page, so no two workers write to the same page of the output.
fn cut(image: &Image) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    for segment in image.segments() {
        let mut start = segment.offset;
        while start < segment.end() {
            let boundary = Bytes::new((start.get() / UNIT + 1).saturating_mul(UNIT));
            let end = segment.end().min(boundary);
            match units.last_mut() {
                Some(last)
                    if last.start.get() / UNIT == start.get() / UNIT
                        && start.get() / PAGE <= last.end.get() / PAGE + 16 =>
                {
                    last.end = end;
                }
                _ => units.push(Unit { start, end }),
            }
            start = end;
        }
    }
    units
}

/// Whether the output's filesystem can share blocks with the first large host file. This is tried once with a
/// file that is then thrown away, because the type of a filesystem does not tell (XFS may be made without
/// reflink).
fn shares_blocks(image: &Image, output: &Output) -> bool {
    if output.device().is_some() {
        return false;
    }
    let Some(largest) = image
        .segments()
        .iter()
        .filter(|segment| {
            segment.length.get() >= share::SHORTEST && matches!(segment.data, Data::File { .. })
        })
        .max_by_key(|segment| segment.length)
    else {
        return false;
    };
    let Data::File { files, file, .. } = largest.data else { return false };
    let mut cursor = image.cursor();
    let Ok(source) = cursor.source(files, file) else { return false };
    let Ok(probe) = tempfile::tempfile_in(folder_of(output.target())) else { return false };
    rustix::fs::ioctl_ficlone(&probe, source.file()).is_ok()
}

/// What the workers of one pour share.
struct Work<'a> {
    image: &'a Image,
    ways: Ways<'a>,
    units: &'a [Unit],
    next: AtomicUsize,
    stop: AtomicBool,
    error: Mutex<Option<(usize, Error)>>,
    share: bool,
    options: &'a PourOptions<'a>,
}

impl Work<'_> {
    /// Takes units until none is left or a worker failed.
    fn run(&self) {
        let mut run = Run::new(self);
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(unit) = self.units.get(number) else { return };
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            if let Err(error) = self.options.progress.check().and_then(|()| run.unit(*unit)) {
                self.fail(number, error);
                return;
            }
        }
    }

    /// Keeps the error of the lowest unit, so that one fault always gives the same message.
    fn fail(&self, number: usize, error: Error) {
        self.stop.store(true, Ordering::Relaxed);
        let mut kept = self.error.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if kept.as_ref().is_none_or(|(first, _)| number < *first) {
            *kept = Some((number, error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Builder;
    use crate::units::usize_of;

    #[test]
    fn units_neither_overlap_nor_share_a_page_nor_lose_a_byte() {
        let mut builder = Builder::new(Bytes::new(40 * MIB));
        builder.bytes(Bytes::new(0), "a", vec![1; 100]);
        builder.bytes(Bytes::new(4096), "b", vec![2; 5_000_000]);
        builder.bytes(Bytes::new(20 * MIB + 3), "c", vec![3; 9_000_001]);
        let image = builder.finish().unwrap();
        let units = cut(&image);
        for pair in units.windows(2) {
            assert!(pair[0].end <= pair[1].start);
            assert!(pair[0].end.get().div_ceil(4096) <= pair[1].start.get() / 4096 + 1);
            assert!(pair[0].end.get() - pair[0].start.get() <= UNIT);
        }
        let covered: u64 = units
            .iter()
            .flat_map(|unit| image.clipped(unit.start, unit.end))
            .map(|piece| piece.length.get())
            .sum();
        assert_eq!(covered, image.covered().get());
    }

    #[test]
    fn the_file_is_the_image_for_any_number_of_jobs() {
        let folder = tempfile::tempdir().unwrap();
        let mut builder = Builder::new(Bytes::new(32 * MIB + 17));
        for number in 0..3000_u64 {
            let length = usize_of(number * number % 9001);
            builder.bytes(Bytes::new(number * 11_000), "block", vec![low(number); length]);
        }
        let image = builder.finish().unwrap();
        let mut expected = vec![0xd1; usize_of(image.length().get())];
        image.read(0, &mut expected).unwrap();
        for jobs in [1, 2, 7] {
            let path = folder.path().join("out.img");
            pour(&image, &path, &PourOptions::new(jobs, &Progress::default())).unwrap();
            assert!(std::fs::read(&path).unwrap() == expected, "jobs {jobs}");
        }
        let path = folder.path().join("out.img");
        for zeros in [Zeros::Write, Zeros::Skip] {
            let (output, progress) = (Output::create(&path).unwrap(), Progress::default());
            let options = PourOptions { zeros, ..PourOptions::new(2, &progress) };
            write_by(&image, Ways::direct(&output, image.length()), false, &options).unwrap();
            output.publish().unwrap();
            assert!(std::fs::read(&path).unwrap() == expected, "past the cache, {zeros:?}");
        }
    }

    #[test]
    fn pages_of_zeros_stay_holes_where_they_may() {
        let mut bytes = vec![0; 20_000];
        for at in [100, 4085, 4086, 12_278, 19_999] {
            bytes[at] = 1;
        }
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let mut builder = Builder::new(Bytes::new(8 * MIB));
        builder.bytes(Bytes::new(10), "bytes", bytes);
        builder.bytes(Bytes::new(MIB), "zeros", vec![0; usize_of(5 * MIB)]);
        let image = builder.finish().unwrap();
        let mut seen = Vec::new();
        for zeros in [Zeros::Write, Zeros::Skip] {
            let path = folder.path().join("out.img");
            pour(&image, &path, &PourOptions { zeros, ..PourOptions::new(2, &Progress::default()) }).unwrap();
            seen.push((std::fs::read(&path).unwrap(), std::fs::metadata(&path).unwrap().blocks() * 512));
        }
        assert!(seen[0].0 == seen[1].0);
        assert!(seen[0].1 >= 5 * MIB && seen[1].1 <= 64 * KIB, "{} and {}", seen[0].1, seen[1].1);
    }

    fn low(number: u64) -> u8 {
        crate::units::low8(number) | 1
    }
}
