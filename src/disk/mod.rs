//! Disks: a neutral description ([`Disk`]), and the way from it to an [`Image`].
//!
//! | part | module |
//! |---|---|
//! | the description of a disk | [`Disk`], [`Partition`], [`Contents`], [`Derived`] |
//! | names and metadata of a filesystem | `scan` |
//! | what boots the system on a disk | [`boot`] |
//! | tables of permissions and devices | [`permissions`] |
//! | partitions of dm-verity | [`verity`] |
//! | the stages that give every byte its place | `stages` |
//! | a report for people and machines | [`report`] |

pub mod boot;
mod contents;
mod derived;
mod files;
pub mod permissions;
mod raw;
pub mod report;
mod scan;
mod spec;
mod stages;
pub mod verity;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::container::{Container, Identity, SectorSize};
use crate::error::{Error, Kind, Result, Subject, Warning};
use crate::filesystem::Other;
use crate::image::{Builder, Image};
use crate::nix::verify::{Expected, Verification};
use crate::package::Package;
use crate::pour::{Packer, PourOptions, Sink};
use crate::progress::Progress;
use crate::units::Bytes;

pub use contents::{Contents, Entry, Payload, Piece};
pub use derived::{Derived, LateValues, Made, Needed, Observing, Request, Values};
pub(crate) use files::rehosted;
pub use files::{OutputFile, write};
use report::Report;
pub(crate) use scan::closure;
pub use spec::{Body, BootArea, Disk, Guid, Partition, Raw, Size};

/// Files that appear beside an output, and whether it is one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// `OUT.bmap`: which blocks of the disk have data, for bmaptool.
    pub bmap: bool,
    /// `OUT.sha256`: the SHA-256 of the output, for sha256sum.
    pub sha256: bool,
    /// The output is cut into `OUT.000`, `OUT.001` and so on, of at most so many bytes.
    pub split: Option<Bytes>,
}

/// What a disk becomes in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// The format of the file.
    pub container: Container,
    /// What the container is packed into.
    pub package: Option<Package>,
    /// Files that appear beside it.
    pub extra: Extra,
    /// The length of the disk is a multiple of this.
    pub size_multiple: Option<Bytes>,
}

/// How a disk is built and written. Only `container`, `package`, `size_multiple` and `also` change bytes of the result.
#[derive(Clone, Debug)]
pub struct Work {
    /// The format of the output, which limits the lengths that the disk can have.
    pub container: Container,
    /// What the container is packed into.
    pub package: Option<Package>,
    /// Files that appear beside the output.
    pub extra: Extra,
    /// The length of the disk is a multiple of this.
    pub size_multiple: Option<Bytes>,
    /// What else the same disk becomes. Its length is one that all of them have.
    pub also: Vec<Form>,
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
        Self {
            container: Container::Raw,
            package: None,
            extra: Extra::default(),
            size_multiple: None,
            also: Vec::new(),
            jobs,
            progress: Progress::default(),
            spool: None,
            verify: None,
        }
    }
}

impl Work {
    /// What packs the data of one partition.
    #[must_use]
    pub fn packer(&self) -> Packer {
        let folder = self.spool.clone().unwrap_or_else(std::env::temp_dir);
        Packer::new(self.jobs, self.progress.clone(), folder)
    }

    /// What the disk becomes: the file of this work, and the others.
    #[must_use]
    pub fn forms(&self) -> Vec<Form> {
        [self.form()].into_iter().chain(self.also.iter().cloned()).collect()
    }

    /// What the disk becomes in the file of this work.
    #[must_use]
    pub fn form(&self) -> Form {
        Form {
            container: self.container.clone(),
            package: self.package,
            extra: self.extra,
            size_multiple: self.size_multiple,
        }
    }

    /// The same work for a disk that becomes `forms`. The first one is the file that it writes.
    #[must_use]
    pub fn of_forms(self, forms: &[Form]) -> Self {
        let Some((own, also)) = forms.split_first() else { return self };
        let Form { container, package, extra, size_multiple } = own.clone();
        Self { container, package, extra, size_multiple, also: also.to_vec(), ..self }
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
    /// Further disks that belong to it: those of a pool on several. Their files are named by [`other_disk`].
    pub others: Vec<Other>,
    /// Values that follow from digests which are taken while the disk is poured, with their partitions.
    late: Vec<(usize, Arc<dyn LateValues>)>,
}

impl Built {
    /// Writes the disk to the file `path`, in the container of `work`, for which it was built.
    ///
    /// # Errors
    /// As [`write()`].
    pub fn write(&self, path: &Path, work: &Work) -> Result<()> {
        let form = work.form();
        let files: Vec<_> =
            std::iter::once(self.file(path, work)?).chain(self.other_files(path, &form)).collect();
        write(&files, work)
    }

    /// The disk as a file `path` in the container of `work`, for which it was built: one of several that are [written](write())
    /// together.
    ///
    /// # Errors
    /// [`Kind::Bug`] where the disk has sectors of a size that no disk has.
    pub fn file(&self, path: impl Into<PathBuf>, work: &Work) -> Result<OutputFile<'_>> {
        Ok(self.file_as(path, &work.form()))
    }

    /// The disk as a file `path` of any of the forms that it was built for.
    #[must_use]
    pub fn file_as(&self, path: impl Into<PathBuf>, form: &Form) -> OutputFile<'_> {
        let file = OutputFile::new(path, self.image.clone(), form.container.clone(), self.identity());
        file.packed(form.package).with(form.extra).verified(self.verification.as_ref())
    }

    /// The files of further disks, if that of this one is `path`; all are [written](write()) together.
    pub fn other_files<'a>(
        &'a self,
        path: &'a Path,
        form: &'a Form,
    ) -> impl Iterator<Item = OutputFile<'a>> + 'a {
        self.others.iter().map(move |other| {
            let path = other_disk(path, &other.name);
            let file = OutputFile::new(path, other.image.clone(), form.container.clone(), self.identity());
            file.packed(form.package).with(form.extra)
        })
    }

    /// The file that [`Built::write`] would write, as an image: the disk in the container of `work`, for which it was built.
    ///
    /// # Errors
    /// As [`Container::wrap`].
    pub fn wrapped(&self, work: &Work) -> Result<Image> {
        work.container.wrap(&self.image, &self.identity())
    }

    /// The bytes of a partition, by its position in the disk, as long as its place: what a file of its own holds. Where they
    /// follow from digests of others that are not taken, those are read once for it.
    ///
    /// # Errors
    /// [`Kind::Usage`] where there is no such partition; as [`Image::settle`].
    pub fn partition(&self, number: usize, work: &Work) -> Result<Image> {
        let placed = self.report.partitions.get(number).ok_or_else(|| {
            Error::new(Kind::Usage, "there is no such partition").on(Subject::Partition(number))
        })?;
        // A partition by itself shows the digests no byte of the other partitions.
        if self.late.iter().any(|(late, _)| *late == number) {
            self.image.settle(&PourOptions::new(work.jobs, &work.progress))?;
        }
        let (start, length) = (Bytes::new(placed.offset), Bytes::new(placed.size));
        let mut image = Builder::new(length);
        image.put(Bytes::ZERO, &self.image.slice(start, start + length));
        image.finish()
    }

    /// Completes the report with what follows from the bytes of the disk. Where the disk was written, that is known; else
    /// the data that it follows from is read once.
    ///
    /// # Errors
    /// As [`Image::settle`].
    pub fn settle(&mut self, work: &Work) -> Result<()> {
        if self.late.is_empty() {
            return Ok(());
        }
        self.image.settle(&PourOptions::new(work.jobs, &work.progress))?;
        for (number, late) in &self.late {
            let partition = self.report.partitions.get_mut(*number);
            partition.ok_or_else(|| Error::bug("a partition is not in the report"))?.values =
                late.values()?;
        }
        Ok(())
    }

    /// What the container records about the disk.
    fn identity(&self) -> Identity {
        // A raw image records none, and may have others.
        let sector_size = SectorSize::of(self.report.sector_size).unwrap_or_default();
        Identity { seed: self.id, id: None, time: self.time, sector_size }
    }

    /// Writes the disk to `out`, from its first byte to its last. A stream cannot be read back, so store
    /// paths are compared before: their files are read from the host, and the stream checks each file for
    /// change when it reads it again.
    ///
    /// # Errors
    /// As [`Container::stream`], and [`Verification::run`] before a byte is written.
    pub fn stream(&self, out: Sink<'_>, work: &Work) -> Result<()> {
        if !self.others.is_empty() {
            return Err(Error::new(Kind::Usage, "the disks of a pool appear together or not at all")
                .hint("write them to files, and not to a stream"));
        }
        if let Some(verification) = &self.verification {
            verify(verification, &self.image, work)?;
        }
        let (identity, options) = (self.identity(), self.begin(work));
        match work.package {
            Some(package) => package.stream(&self.image, (&identity, "disk"), out, &work.packer()),
            None => work.container.stream(&self.image, &identity, out, &options),
        }
    }

    /// Tells the progress how much there is to do.
    fn begin<'a>(&self, work: &'a Work) -> PourOptions<'a> {
        let (bytes, files) = self.image.file_data();
        work.progress.begin(bytes, files);
        PourOptions::new(work.jobs, &work.progress)
    }
}

/// The file of a further disk: that of the first with its name before the suffix.
#[must_use]
pub fn other_disk(path: &Path, name: &str) -> PathBuf {
    let mut file = path.file_stem().unwrap_or_default().to_owned();
    file.push(".");
    file.push(name);
    if let Some(suffix) = path.extension() {
        file.push(".");
        file.push(suffix);
    }
    path.with_file_name(file)
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
        match self.bringer(&error) {
            Some((subject, Some(key))) => error.on(subject).about(key),
            Some((subject, None)) => error.on(subject),
            None => error,
        }
    }

    /// Whether the disk brings the host file that an error names.
    #[must_use]
    pub fn brings(&self, error: &Error) -> bool {
        self.bringer(error).is_some()
    }

    /// The part of the description that brings the host file which an error names, and its key.
    fn bringer(&self, error: &Error) -> Option<(Subject, Option<&'static str>)> {
        let path = error.path().filter(|_| error.kind() == Kind::Source && !error.has_line())?;
        (0..).zip(&self.partitions).find_map(|(number, partition)| match &partition.body {
            Body::Filesystem(..) => scan::bringer(partition.entries(), path)
                .map(|entry| (Subject::Entry { partition: number, entry }, None)),
            Body::File(file) => {
                scan::is_below(file, path).then_some((Subject::Partition(number), Some("file")))
            }
            Body::Empty | Body::Bytes(_) | Body::Image(_) | Body::Derived(_) => None,
        })
    }
}
