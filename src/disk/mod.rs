//! Disks: a neutral description ([`Disk`]), and how it becomes an [`Image`].
//!
//! | step | module |
//! |---|---|
//! | what a disk is to be | [`Disk`], [`Partition`], [`Contents`], [`Derived`] |
//! | names and metadata of a filesystem | `scan` |
//! | what waits for what, until every byte has its place | `stages` |
//! | what was built, for people and machines | [`report`] |

mod contents;
mod derived;
mod ready;
pub mod report;
mod scan;
mod spec;
mod stages;

use std::path::Path;

use uuid::Uuid;

use crate::container::{Container, Identity, SectorSize};
use crate::error::{Error, Kind, Result, Subject, Warning};
use crate::image::{Image, Segment};
use crate::nix::verify::{Expected, Verification};
use crate::pour::{PourOptions, Sink};
use crate::progress::Progress;

pub use contents::{Contents, Entry, Payload, Piece};
pub use derived::{Derived, Made, Needed, Request, Values};
use report::Report;
pub use spec::{Body, BootArea, Disk, Guid, Partition, Size};

/// How a disk is built and written; nothing here but `container` changes a byte of the result.
#[derive(Clone, Debug)]
pub struct Work {
    /// What the disk is written as, which decides the lengths that it can have.
    pub container: Container,
    /// Worker threads, at least 1; default: as many as the machine has cores.
    pub jobs: usize,
    /// Who is told how far it is, and who may ask to stop.
    pub progress: Progress,
    /// Store paths whose hashes are compared with what was written, before it gets its name.
    pub verify: Option<Expected>,
}

impl Default for Work {
    fn default() -> Self {
        let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { container: Container::Raw, jobs, progress: Progress::default(), verify: None }
    }
}

/// A disk that is laid out but not yet written.
#[derive(Debug)]
pub struct Built {
    /// Its bytes.
    pub image: Image,
    /// What it is.
    pub report: Report,
    /// What was asked for and could not be kept, and which part of the disk that is about, where there may be several.
    pub warnings: Vec<(Option<Subject>, Warning)>,
    /// What the ids inside a container derive from.
    pub id: Uuid,
    /// When the disk was made, in seconds since 1970.
    pub time: i64,
    /// The store paths to compare, where that was asked for.
    pub verification: Option<Verification>,
}

impl Built {
    /// Writes the disk to the file `path`, in the container of `work`, for which it was built.
    ///
    /// # Errors
    /// As [`Container::write`], and [`Kind::Usage`] where `path` is a file that the disk is made from; as
    /// [`Verification::run`] where store paths are compared, after which nothing is left behind.
    pub fn write(&self, path: &Path, work: &Work) -> Result<()> {
        self.spare(path)?;
        let (identity, pour) = (self.identity()?, self.begin(work));
        match &self.verification {
            None => work.container.write(&self.image, &identity, path, &pour),
            Some(verification) => {
                let check = |written: &Image| verify(verification, written, work);
                work.container.write_checked(&self.image, &identity, path, &pour, &check)
            }
        }
    }

    /// What the disk says of itself to a container.
    fn identity(&self) -> Result<Identity> {
        let sector_size = SectorSize::of(self.report.sector_size)
            .ok_or_else(|| Error::bug("a disk has sectors of a size that none has"))?;
        Ok(Identity { seed: self.id, id: None, time: self.time, sector_size })
    }

    /// Writes the disk to `out`, from its first byte to its last. Store paths are compared before, since nothing can be
    /// read back: as their files are on the host, each of which is checked for change when it is read again.
    ///
    /// # Errors
    /// As [`Container::stream`], and [`Verification::run`] before a byte is written.
    pub fn stream(&self, out: Sink<'_>, work: &Work) -> Result<()> {
        if let Some(verification) = &self.verification {
            verify(verification, &self.image, work)?;
        }
        work.container.stream(&self.image, &self.identity()?, out, &self.begin(work))
    }

    /// Tells the progress how much there is to do.
    fn begin<'a>(&self, work: &'a Work) -> PourOptions<'a> {
        let (bytes, files) = self.image.file_data();
        work.progress.begin(bytes, files);
        PourOptions::new(work.jobs, &work.progress)
    }

    /// Refuses an output that would take the place of its own source.
    fn spare(&self, path: &Path) -> Result<()> {
        let (Ok(real), Ok(meta)) = (path.canonicalize(), path.metadata()) else { return Ok(()) };
        // Few files have the length and the name of the output, so few are asked where they really are.
        let own = |segment: &Segment| -> Result<bool> {
            let alike = self.image.host_file_size(segment)? == Some(meta.len());
            let file = if alike { self.image.host_file(segment)? } else { None };
            Ok(file
                .filter(|file| file.path.file_name() == real.file_name())
                .is_some_and(|file| file.path.canonicalize().is_ok_and(|source| source == real)))
        };
        for segment in self.image.segments() {
            if !own(segment)? {
                continue;
            }
            return Err(Error::new(Kind::Usage, "the output is one of its own sources")
                .at(path)
                .hint("write it elsewhere, or leave it out of the contents"));
        }
        Ok(())
    }
}

/// Compares the store paths on `disk`, as a stage of its own.
fn verify(verification: &Verification, disk: &Image, work: &Work) -> Result<()> {
    let (bytes, paths) = verification.amount();
    work.progress.begin(bytes, paths);
    verification.run(disk, work.jobs, &work.progress)
}

impl Disk {
    /// Lays the disk out: reads what is to be read of the sources and decides where every byte goes. Nothing is written.
    ///
    /// # Errors
    /// Each names its [`Subject`]: [`Kind::Manifest`] for what does not fit together, [`Kind::Source`] for a source that is
    /// missing or unreadable, [`Kind::Capacity`] for contents that do not fit, [`Kind::Interrupted`] after a signal.
    pub fn build(&self, work: &Work) -> Result<Built> {
        stages::Stages::new(self, work).build()
    }

    /// Adds to an error about a host file, found while it was copied, the part of the description that brought the file.
    #[must_use]
    pub fn blame(&self, error: Error) -> Error {
        let path = match error.path() {
            Some(path) if error.kind() == Kind::Source && !error.has_line() => path.to_owned(),
            _ => return error,
        };
        let found = (0..).zip(&self.partitions).find_map(|(number, partition)| match &partition.body {
            Body::Filesystem(..) => scan::bringer(partition.entries(), &path)
                .map(|entry| (Subject::Entry { partition: number, entry }, None)),
            Body::File(file) => {
                scan::is_below(file, &path).then_some((Subject::Partition(number), Some("file")))
            }
            Body::Empty | Body::Bytes(_) | Body::Image(_) | Body::Derived(_) => None,
        });
        match found {
            Some((subject, Some(key))) => error.on(subject).about(key),
            Some((subject, None)) => error.on(subject),
            None => error,
        }
    }
}
