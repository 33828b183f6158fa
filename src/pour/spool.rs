//! The spool: data of unknown length, such as compressed blocks, that is made before the layout.
//!
//! [`Spool::pack`] makes chunks on all threads and appends them in their order to a file without a name. The
//! result is an ordinary [`Image`] over that file. A filesystem puts slices of it into place; the pour copies
//! them to the output, or shares their blocks if the host can.

use std::borrow::Cow;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::PourOptions;
use super::ordered::{self, Memory, Stage};
use super::output::refused;
use crate::error::{Error, Result};
use crate::image::{Builder, Files, HostFile, Image};
use crate::units::{Bytes, u64_of};

/// Chunks that are made before the layout.
pub trait Pack: Sync {
    /// What a worker keeps between chunks: a cursor, an encoder.
    type Worker: Send;
    /// What is known about a chunk besides its bytes.
    type Note: Send;

    /// How many chunks there are.
    fn count(&self) -> u64;

    /// How much memory a worker takes at most: a chunk before and after it is made, and the tables of an encoder.
    fn memory(&self) -> Bytes;

    /// The initial state of a worker.
    ///
    /// # Errors
    /// An error where a worker cannot get what it needs.
    fn worker(&self) -> Result<Self::Worker>;

    /// Makes a chunk: appends its bytes, perhaps none, to `out`, which is empty. The same chunk gives the
    /// same bytes, whatever the worker made before.
    ///
    /// # Errors
    /// An error where the chunk cannot be made; the error of the first such chunk ends the work.
    fn pack(&self, chunk: u64, worker: &mut Self::Worker, out: &mut Vec<u8>) -> Result<Self::Note>;
}

/// The place of a chunk in the spool, and what is known about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed<N> {
    /// The first byte, from the start of the spool.
    pub start: Bytes,
    /// One past the last byte; the next chunk of the same call begins here.
    pub end: Bytes,
    /// What [`Pack::pack`] returned.
    pub note: N,
}

/// A file without a name that chunks are appended to. When nobody uses it any more, nothing of it is left,
/// even after SIGKILL if the host has O_TMPFILE.
#[derive(Debug)]
pub struct Spool {
    file: File,
    folder: PathBuf,
    label: String,
    length: u64,
}

impl Spool {
    /// An empty spool in `folder`, best on the filesystem of the output. `label` names it in maps and errors.
    ///
    /// # Errors
    /// [`Kind::Output`](crate::error::Kind::Output) where no file can be made in `folder`.
    pub fn create(folder: &Path, label: impl Into<String>) -> Result<Self> {
        let folder = if folder == Path::new("") { Path::new(".") } else { folder };
        // Made with O_TMPFILE, or as a file whose name is removed before anything is written.
        let file = tempfile::tempfile_in(folder)
            .map_err(|error| refused("cannot make a file for packed data", folder, error))?;
        Ok(Self { file, folder: folder.to_owned(), label: label.into(), length: 0 })
    }

    /// How many bytes are in it.
    #[must_use]
    pub const fn length(&self) -> Bytes {
        Bytes::new(self.length)
    }

    /// Makes all chunks of `work` on `options.jobs` threads, or on fewer if those would take more than 112 MiB, and
    /// appends them in their order.
    ///
    /// # Errors
    /// The error of the first chunk that cannot be made, [`Kind::Output`](crate::error::Kind::Output) where
    /// the spool cannot grow, [`Kind::Interrupted`](crate::error::Kind::Interrupted) after a signal. The
    /// spool then holds what it held before.
    pub fn pack<P: Pack>(&mut self, work: &P, options: &PourOptions<'_>) -> Result<Vec<Packed<P::Note>>> {
        let chunks = Vec::with_capacity(crate::units::usize_of(work.count().min(1 << 20)));
        let stage = Packing { work, spool: self };
        let memory = Memory::of_packing(work.memory());
        let appended = ordered::run(&stage, Appended { end: self.length, chunks }, memory, options)?;
        self.length = appended.end;
        Ok(appended.chunks)
    }

    /// Keeps `bytes` at byte `start`, in a place that the caller gave to nothing else and tells of by [`Spool::extend`]: for
    /// work that decides by itself what is appended where.
    pub(crate) fn keep(&self, bytes: &[u8], start: u64) -> Result<()> {
        self.file
            .write_all_at(bytes, start)
            .map_err(|error| refused("cannot keep packed data", &self.folder, error))
    }

    /// Says that places up to `end` were given away.
    pub(crate) fn extend(&mut self, end: u64) {
        self.length = self.length.max(end);
    }

    /// The file, for programs that write it.
    pub(crate) const fn file(&self) -> &File {
        &self.file
    }

    /// Makes it `length` bytes long; what is not written there reads as zero.
    ///
    /// # Errors
    /// [`Kind::Output`](crate::error::Kind::Output) where the host does not have files of that length.
    pub(crate) fn lengthen(&mut self, length: Bytes) -> Result<()> {
        let failed = |error| refused("cannot make a file for a disk", &self.folder, error);
        self.file.set_len(length.get()).map_err(failed)?;
        self.extend(length.get());
        Ok(())
    }

    /// Everything that is in it, as an image with holes where the file has them.
    ///
    /// # Errors
    /// As [`Spool::finish`].
    pub(crate) fn finish_sparse(self) -> Result<Image> {
        let length = self.length();
        let (mut ranges, untold) = crate::host::data_ranges(&self.file, 0, self.length);
        // A hole up to the end, or a filesystem without holes: what is read there is the same.
        if let Some(at) = untold.filter(|_| ranges.is_empty()) {
            ranges.push(at..self.length);
        }
        let mut builder = Builder::new(length);
        let files = builder.files(Arc::new(Kept { file: self.file, label: self.label, length: self.length }));
        for range in ranges {
            builder.file(Bytes::new(range.start), Bytes::new(range.end - range.start), files, 0, range.start);
        }
        builder.finish()
    }

    /// Everything that was appended, as an image.
    ///
    /// # Errors
    /// [`Kind::Capacity`](crate::error::Kind::Capacity) where it is longer than a file can be.
    pub fn finish(self) -> Result<Image> {
        let length = self.length();
        let mut builder = Builder::new(length);
        let files = builder.files(Arc::new(Kept::new(self.file, self.label, self.length)));
        builder.file(Bytes::ZERO, length, files, 0, 0);
        builder.finish()
    }
}

/// One call of [`Spool::pack`].
struct Packing<'a, P> {
    work: &'a P,
    spool: &'a Spool,
}

/// What was appended so far.
struct Appended<N> {
    end: u64,
    chunks: Vec<Packed<N>>,
}

/// The state of a worker: its own part, the bytes of a chunk, and what is known about them.
struct Worker<W, N> {
    own: W,
    bytes: Vec<u8>,
    note: Option<N>,
}

impl<P: Pack> Stage for Packing<'_, P> {
    type Worker = Worker<P::Worker, P::Note>;
    type State = Appended<P::Note>;
    /// The offset of the chunk.
    type Rest = u64;

    fn count(&self) -> u64 {
        self.work.count()
    }

    fn worker(&self) -> Result<Self::Worker> {
        Ok(Worker { own: self.work.worker()?, bytes: Vec::new(), note: None })
    }

    fn prepare(&self, chunk: u64, worker: &mut Self::Worker) -> Result<()> {
        worker.bytes.clear();
        worker.note = Some(self.work.pack(chunk, &mut worker.own, &mut worker.bytes)?);
        Ok(())
    }

    fn append(&self, state: &mut Self::State, worker: &mut Self::Worker) -> Result<u64> {
        let start = state.end;
        state.end = start.saturating_add(u64_of(worker.bytes.len()));
        let note = worker.note.take().ok_or_else(|| Error::bug("a chunk is appended and was not packed"))?;
        state.chunks.push(Packed { start: Bytes::new(start), end: Bytes::new(state.end), note });
        Ok(start)
    }

    fn finish(&self, start: u64, worker: &mut Self::Worker) -> Result<()> {
        self.spool.keep(&worker.bytes, start)
    }
}

/// The file of a finished spool, as a table of files.
#[derive(Debug)]
pub(crate) struct Kept {
    file: File,
    label: String,
    length: u64,
}

impl Kept {
    /// A file that nobody else can reach, as a table of files.
    pub(crate) const fn new(file: File, label: String, length: u64) -> Self {
        Self { file, label, length }
    }
}

impl Files for Kept {
    fn file(&self, id: u32) -> Result<HostFile<'_>> {
        match id {
            // Nobody else can reach the file, so it is not checked for change.
            0 => Ok(HostFile { path: Cow::Borrowed(Path::new(&self.label)), size: self.length, stamp: None }),
            _ => Err(Error::bug(format!("a spool is one file, and file {id} of it is asked for"))),
        }
    }

    fn opened(&self, _: u32) -> Option<&File> {
        Some(&self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::progress::Progress;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Chunks of the given lengths; `fault` cannot be made, `stop` sees the signal.
    #[derive(Default)]
    struct Lengths {
        lengths: Vec<usize>,
        fault: Option<u64>,
        stop: Option<(u64, Progress)>,
        made: AtomicU64,
    }

    impl Lengths {
        fn new(lengths: &[usize]) -> Self {
            Self { lengths: lengths.to_vec(), ..Self::default() }
        }

        /// The bytes of a chunk.
        fn bytes(&self, chunk: usize) -> Vec<u8> {
            (0..self.lengths[chunk]).map(|at| ((chunk * 31 + at) % 251).to_le_bytes()[0]).collect()
        }

        fn all(&self) -> Vec<u8> {
            (0..self.lengths.len()).flat_map(|chunk| self.bytes(chunk)).collect()
        }
    }

    impl Pack for Lengths {
        type Worker = ();
        type Note = String;

        fn count(&self) -> u64 {
            u64_of(self.lengths.len())
        }

        fn memory(&self) -> Bytes {
            Bytes::new(70_000)
        }

        fn worker(&self) -> Result<()> {
            Ok(())
        }

        fn pack(&self, chunk: u64, (): &mut (), out: &mut Vec<u8>) -> Result<String> {
            assert!(out.is_empty());
            if let Some((stop, progress)) = &self.stop
                && *stop == chunk
            {
                progress.stop_flag().store(true, Ordering::Relaxed);
            }
            if self.fault == Some(chunk) {
                return Err(Error::new(Kind::Source, format!("chunk {chunk} is bad")));
            }
            self.made.fetch_add(1, Ordering::Relaxed);
            out.extend(self.bytes(crate::units::usize_of(chunk)));
            Ok(format!("chunk {chunk}"))
        }
    }

    fn options(jobs: usize, progress: &Progress) -> PourOptions<'_> {
        PourOptions::new(jobs, progress)
    }

    fn read(image: &Image) -> Vec<u8> {
        let mut bytes = vec![0xd1; crate::units::usize_of(image.length().get())];
        image.read(0, &mut bytes).unwrap();
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn chunks_of_any_length_stand_in_their_order_for_any_number_of_jobs(
            calls in prop::collection::vec(
                prop::collection::vec(prop_oneof![Just(0_usize), 1_usize..40, 1000_usize..70_000], 0..20), 1..4
            ),
            jobs in 1_usize..9,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let progress = Progress::default();
            let mut spool = Spool::create(folder.path(), "packed").unwrap();
            let mut expected = Vec::new();
            let mut slices = Vec::new();
            for lengths in &calls {
                let work = Lengths::new(lengths);
                let packed = spool.pack(&work, &options(jobs, &progress)).unwrap();
                prop_assert_eq!(packed.len(), lengths.len());
                for (number, packed) in packed.into_iter().enumerate() {
                    prop_assert_eq!(&packed.note, &format!("chunk {number}"));
                    prop_assert_eq!(packed.start.get(), u64_of(expected.len()));
                    expected.extend(work.bytes(number));
                    prop_assert_eq!(packed.end.get(), u64_of(expected.len()));
                    slices.push((packed.start, packed.end));
                }
            }
            prop_assert_eq!(spool.length().get(), u64_of(expected.len()));
            prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "it has no name");
            let image = spool.finish().unwrap();
            prop_assert!(read(&image) == expected);
            // Chunks that are put one after the other become one run of one file.
            let mut behind = Builder::new(image.length());
            slices.iter().for_each(|(start, end)| behind.put(*start, &image.slice(*start, *end)));
            let behind = behind.finish().unwrap();
            prop_assert_eq!(behind.segments(), image.segments());
            prop_assert!(read(&behind) == expected);
        }
    }

    #[test]
    fn what_is_packed_is_poured_and_outlives_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("below");
        std::fs::create_dir(&below).unwrap();
        let work = Lengths::new(&[300_000, 7, 0, 4096]);
        let progress = Progress::default();
        let mut spool = Spool::create(&below, "packed").unwrap();
        spool.pack(&work, &options(3, &progress)).unwrap();
        let image = spool.finish().unwrap();
        std::fs::remove_dir(&below).unwrap();
        assert_eq!(image.label(&image.segments()[0]), "packed");
        let path = folder.path().join("out");
        crate::pour::pour(&image, &path, &options(2, &progress)).unwrap();
        assert!(std::fs::read(&path).unwrap() == work.all());
    }

    #[test]
    fn a_chunk_that_cannot_be_made_leaves_the_spool_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let progress = Progress::default();
        let mut spool = Spool::create(folder.path(), "packed").unwrap();
        let first = Lengths::new(&[10, 20]);
        spool.pack(&first, &options(2, &progress)).unwrap();
        let bad = Lengths { fault: Some(30), ..Lengths::new(&[50; 100]) };
        for jobs in [1, 2, 7] {
            let error = spool.pack(&bad, &options(jobs, &progress)).unwrap_err();
            assert_eq!(error.what(), "chunk 30 is bad");
            assert_eq!(spool.length().get(), 30);
        }
        let last = Lengths::new(&[5]);
        assert_eq!(spool.pack(&last, &options(1, &progress)).unwrap()[0].start.get(), 30);
        assert_eq!(read(&spool.finish().unwrap()), [first.all(), last.all()].concat());
    }

    #[test]
    fn a_signal_ends_the_packing() {
        let folder = tempfile::tempdir().unwrap();
        for jobs in [1, 4] {
            let progress = Progress::default();
            let work = Lengths { stop: Some((20, progress.clone())), ..Lengths::new(&[9; 1000]) };
            let mut spool = Spool::create(folder.path(), "packed").unwrap();
            let error = spool.pack(&work, &options(jobs, &progress)).unwrap_err();
            assert_eq!(error.kind(), Kind::Interrupted);
            assert!(work.made.into_inner() < 1000);
        }
    }

    #[test]
    fn a_full_disk_and_a_folder_that_is_missing_are_told_with_the_folder() {
        let progress = Progress::default();
        let full = File::options().read(true).write(true).open("/dev/full").unwrap();
        let mut spool = Spool { file: full, folder: "/some/where".into(), label: "packed".into(), length: 0 };
        let error = spool.pack(&Lengths::new(&[100; 9]), &options(3, &progress)).unwrap_err();
        assert_eq!(error.kind(), Kind::Output);
        let text = error.to_string();
        assert!(text.contains("/some/where") && text.contains("nothing was left behind"), "{text}");
        let missing = Spool::create(Path::new("/no/where"), "packed").unwrap_err();
        assert_eq!((missing.kind(), missing.path().unwrap()), (Kind::Output, Path::new("/no/where")));
    }

    #[test]
    fn a_spool_is_one_file() {
        let spool = Spool::create(&std::env::temp_dir(), "packed").unwrap();
        let kept = Kept { file: spool.file, label: spool.label, length: 0 };
        assert_eq!(kept.file(1).unwrap_err().kind(), Kind::Bug);
        assert_eq!(kept.size(0).unwrap(), 0);
    }

    #[test]
    fn a_chunk_without_a_note_is_a_bug() {
        let work = Lengths::new(&[1]);
        let spool = Spool::create(&std::env::temp_dir(), "packed").unwrap();
        let stage = Packing { work: &work, spool: &spool };
        let mut worker = stage.worker().unwrap();
        let mut state = Appended { end: 0, chunks: Vec::new() };
        assert_eq!(stage.append(&mut state, &mut worker).unwrap_err().kind(), Kind::Bug);
    }
}
