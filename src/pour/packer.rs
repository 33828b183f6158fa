//! Packs data before the layout, with the threads, the progress and the folder of the build. A filesystem
//! uses it for data that must be compressed before its length is known.

use std::any::Any;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::PourOptions;
use super::spool::{Pack, Packed, Spool};
use crate::error::Result;
use crate::image::Image;
use crate::progress::Progress;

/// Packs the data that one filesystem needs before its layout. It keeps the results, so a layout that is
/// computed again (for another size or place) packs nothing again.
#[derive(Debug)]
pub struct Packer {
    jobs: usize,
    progress: Progress,
    folder: PathBuf,
    kept: Mutex<Vec<Arc<dyn Any + Send + Sync>>>,
}

impl Default for Packer {
    /// As many threads as the machine has cores, and the host's folder for temporary files.
    fn default() -> Self {
        let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::new(jobs, Progress::default(), std::env::temp_dir())
    }
}

impl Packer {
    /// Packs on `jobs` threads into spools in `folder`.
    #[must_use]
    pub fn new(jobs: usize, progress: Progress, folder: impl Into<PathBuf>) -> Self {
        Self { jobs, progress, folder: folder.into(), kept: Mutex::default() }
    }

    /// Another one that works the same way, and has kept nothing yet.
    #[must_use]
    pub(crate) fn another(&self) -> Self {
        Self::new(self.jobs, self.progress.clone(), self.folder.clone())
    }

    /// Options for work on all threads.
    #[must_use]
    pub const fn options(&self) -> PourOptions<'_> {
        PourOptions::new(self.jobs, &self.progress)
    }

    /// Receives the progress, and may ask to stop.
    #[must_use]
    pub const fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The result of `make`, which is called once: the next call for a `T` returns the same result.
    ///
    /// # Errors
    /// As `make`, which is called again after an error.
    pub fn once<T: Any + Send + Sync>(&self, make: impl FnOnce(&Self) -> Result<T>) -> Result<Arc<T>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(kept) = kept.into_iter().find_map(|kept| kept.downcast().ok()) {
            return Ok(kept);
        }
        let made = Arc::new(make(self)?);
        let kept: Arc<T> = Arc::clone(&made);
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
        Ok(made)
    }

    /// An empty spool in the build's folder. `label` names it in maps and errors.
    ///
    /// # Errors
    /// As [`Spool::create`].
    pub fn spool(&self, label: impl Into<String>) -> Result<Spool> {
        Spool::create(&self.folder, label)
    }

    /// Makes all chunks of `work` and returns them as an image, with the place of each. The progress learns
    /// that there are `bytes` and `files` to pack; `work` reports what is done.
    ///
    /// # Errors
    /// As [`Spool::create`], [`Spool::pack`] and [`Spool::finish`].
    pub fn pack<P: Pack>(
        &self,
        label: impl Into<String>,
        work: &P,
        (bytes, files): (u64, u64),
    ) -> Result<(Image, Vec<Packed<P::Note>>)> {
        let mut spool = self.spool(label)?;
        self.progress.begin(bytes, files);
        let packed = spool.pack(work, &self.options())?;
        // The next stage may not know how much there is to do.
        self.progress.begin(0, 0);
        Ok((spool.finish()?, packed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Kind};
    use crate::units::{Bytes, KIB, MIB, u64_of};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Chunks of one byte each, by workers that count how many there are.
    #[derive(Debug)]
    struct Letters {
        count: u8,
        memory: Bytes,
        workers: AtomicUsize,
    }

    impl Letters {
        fn new(count: u8, memory: u64) -> Self {
            Self { count, memory: Bytes::new(memory), workers: AtomicUsize::new(0) }
        }
    }

    impl Pack for Letters {
        type Worker = ();
        type Note = ();

        fn count(&self) -> u64 {
            self.count.into()
        }

        fn memory(&self) -> Bytes {
            self.memory
        }

        fn worker(&self) -> Result<()> {
            self.workers.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }

        fn pack(&self, chunk: u64, (): &mut (), out: &mut Vec<u8>) -> Result<()> {
            out.push(b'a' + u8::try_from(chunk).unwrap());
            Ok(())
        }
    }

    #[test]
    fn chunks_become_an_image_and_the_progress_is_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let packer = Packer::new(3, Progress::default(), folder.path());
        let (image, packed) = packer.pack("letters", &Letters::new(5, KIB), (5, 1)).unwrap();
        let mut bytes = [0; 5];
        image.read(0, &mut bytes).unwrap();
        assert_eq!((&bytes, packed.len()), (b"abcde", 5));
        assert_eq!(image.label(&image.segments()[0]), "letters");
        assert_eq!(packer.progress().counts().total_bytes, 0);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_made_is_made_once_of_each_kind_and_a_fault_is_not_kept() {
        let packer = Packer::default();
        let made = AtomicUsize::new(0);
        let make = |_: &Packer| Ok(made.fetch_add(1, Ordering::Relaxed));
        let fault = packer.once(|_| Err::<usize, _>(Error::new(Kind::Source, "bad")));
        assert_eq!(fault.unwrap_err().what(), "bad");
        let (first, second) = (packer.once(make).unwrap(), packer.once(make).unwrap());
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(made.into_inner(), 1);
        // Within what is made something else may be made.
        let nested = packer.once(|packer| packer.once(|_| Ok(7_u8)).map(|seven| u64::from(*seven)));
        assert_eq!((*nested.unwrap(), *packer.once(|_| Ok(0_u8)).unwrap()), (7, 7));
    }

    #[test]
    fn workers_that_take_much_memory_are_few() {
        let folder = tempfile::tempdir().unwrap();
        let packer = Packer::new(8, Progress::default(), folder.path());
        // Two for each thread; a worker is made only where one is missing.
        for (memory, most) in [(KIB, 16), (30 * MIB, 3), (1024 * MIB, 1)] {
            let letters = Letters::new(20, memory);
            packer.pack("letters", &letters, (20, 1)).unwrap();
            let workers = letters.workers.into_inner();
            assert!((1..=most).contains(&workers), "{memory}: {workers}");
        }
        assert_eq!(u64_of(packer.options().jobs), 8);
    }

    #[test]
    fn where_no_spool_can_be_the_folder_is_told() {
        let packer = Packer::new(1, Progress::default(), "/no/where");
        let error = packer.pack("letters", &Letters::new(1, KIB), (1, 1)).unwrap_err();
        assert_eq!((error.kind(), error.path()), (Kind::Output, Some(std::path::Path::new("/no/where"))));
    }
}
