//! Disks: a neutral description ([`Disk`]), and the way from it to an [`Image`].
//!
//! | part | module |
//! |---|---|
//! | the description of a disk | [`Disk`], [`Partition`], [`Contents`], [`Derived`] |
//! | names and metadata of a filesystem | `scan` |
//! | the stages that give every byte its place | `stages` |
//! | a report for people and machines | [`report`] |

mod contents;
mod derived;
mod ready;
pub mod report;
mod scan;
mod spec;
mod stages;

use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::container::{Container, Identity, SectorSize};
use crate::error::{Error, Kind, Result, Subject, Warning};
use crate::image::{Image, Segment};
use crate::nix::verify::{Expected, Verification};
use crate::pour::{Packer, PourOptions, Sink};
use crate::progress::Progress;

pub use contents::{Contents, Entry, Payload, Piece};
pub use derived::{Derived, Made, Needed, Request, Values};
use report::Report;
pub use spec::{Body, BootArea, Disk, Guid, Partition, Size};

/// How a disk is built and written. Only `container` changes bytes of the result.
#[derive(Clone, Debug)]
pub struct Work {
    /// The format of the output, which limits the lengths that the disk can have.
    pub container: Container,
    /// Worker threads, at least 1; default: as many as the machine has cores.
    pub jobs: usize,
    /// Receives the progress, and may ask to stop.
    pub progress: Progress,
    /// The folder for packed data, which has no name there. The filesystem of the output is best, since it can then
    /// share blocks. `None` is the host's folder for temporary files (TMPDIR).
    pub spool: Option<PathBuf>,
    /// Store paths whose hashes are compared with what was written, before the output gets its name.
    pub verify: Option<Expected>,
}

impl Default for Work {
    fn default() -> Self {
        let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { container: Container::Raw, jobs, progress: Progress::default(), spool: None, verify: None }
    }
}

impl Work {
    /// What packs the data of one partition.
    #[must_use]
    pub fn packer(&self) -> Packer {
        let folder = self.spool.clone().unwrap_or_else(std::env::temp_dir);
        Packer::new(self.jobs, self.progress.clone(), folder)
    }
}

/// A disk that is laid out but not yet written.
#[derive(Debug)]
pub struct Built {
    /// Its bytes.
    pub image: Image,
    /// A description of it.
    pub report: Report,
    /// What was asked for and could not be kept; with the part of the disk that it is about, if there may be
    /// several.
    pub warnings: Vec<(Option<Subject>, Warning)>,
    /// The UUID that ids inside a container derive from.
    pub id: Uuid,
    /// When the disk was made, in seconds since 1970.
    pub time: i64,
    /// The store paths to compare, if that was asked for.
    pub verification: Option<Verification>,
}

impl Built {
    /// Writes the disk to the file `path`, in the container of `work`, for which it was built.
    ///
    /// # Errors
    /// As [`Container::write`]; [`Kind::Usage`] where `path` is a file that the disk is made from; and as
    /// [`Verification::run`] if store paths are compared, in which case nothing is left behind.
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

    /// What the container records about the disk.
    fn identity(&self) -> Result<Identity> {
        let sector_size = SectorSize::of(self.report.sector_size)
            .ok_or_else(|| Error::bug("a disk has sectors of a size that none has"))?;
        Ok(Identity { seed: self.id, id: None, time: self.time, sector_size })
    }

    /// Writes the disk to `out`, from its first byte to its last. A stream cannot be read back, so store
    /// paths are compared before: their files are read from the host, and the stream checks each file for
    /// change when it reads it again.
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

    /// Refuses an output that would replace one of its own sources.
    fn spare(&self, path: &Path) -> Result<()> {
        let (Ok(real), Ok(meta)) = (path.canonicalize(), path.metadata()) else { return Ok(()) };
        // Few files have the length and the name of the output, so only those paths are resolved.
        let own = |segment: &Segment| -> Result<bool> {
            let alike = self.image.host_file_size(segment)? == Some(meta.len());
            let file = if alike { self.image.host_file(segment)? } else { None };
            // What is not checked for change has no name: a spool, whose label is no path.
            Ok(file
                .filter(|file| file.stamp.is_some() && file.path.file_name() == real.file_name())
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
    /// Lays the disk out: reads the sources' metadata and decides where every byte goes. It writes nothing.
    ///
    /// # Errors
    /// Each error names its [`Subject`]: [`Kind::Manifest`] for parts that do not fit together,
    /// [`Kind::Source`] for a source that is missing or unreadable, [`Kind::Capacity`] for contents that do
    /// not fit, [`Kind::Interrupted`] after a signal.
    pub fn build(&self, work: &Work) -> Result<Built> {
        stages::Stages::new(self, work).build()
    }

    /// Adds the part of the description that brought a host file to an error that occurred while that file
    /// was copied.
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
            Body::Empty | Body::Bytes(_) | Body::Derived(_) => None,
        });
        match found {
            Some((subject, Some(key))) => error.on(subject).about(key),
            Some((subject, None)) => error.on(subject),
            None => error,
        }
    }
}
