//! The front ends. Each makes a [`Disk`] from what a user wrote, and turns the subject of an error into the
//! line, flag or file where the user wrote it.

pub mod boot;
mod loader;
pub mod manifest;
pub mod nixos;
pub mod output;
pub mod repart;
mod section;
pub mod seed;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::container::Settings;
use crate::disk::{self, Built, Disk, Form, OutputFile, Work};
use crate::error::{Error, Kind, Result, Subject, Warning};
use crate::image::Slice;
use crate::key::KeyPath;
use crate::nix::verify::Expected;
use crate::option::Spelling;
use crate::pour::Sink;
use crate::tree::Time;

/// Knows where the parts of a description were written.
pub trait Locator: Send + Sync + fmt::Debug {
    /// Adds to `error` where its subjects and keys were written: a line of a file, or a flag. It returns an
    /// error without subjects and keys as it is.
    fn locate(&self, error: Error) -> Error;

    /// The name of a subject in a warning: `partition[1] (disk.toml:14)`.
    fn describe(&self, subject: Subject) -> String;

    /// The key of a subject in a manifest.
    fn key(&self, subject: Subject) -> KeyPath;

    /// How an option is written in the texts of warnings.
    fn spell(&self, _key: &str) -> Option<Spelling> {
        Some(Spelling::Key)
    }

    /// The name of a subject in a warning, if it is better known by another one than that of its key. Locators that
    /// wrap another one take the other's.
    fn name(&self, _subject: Subject) -> Option<String> {
        None
    }
}

/// A disk as a front end describes it.
#[derive(Debug)]
pub struct Description {
    /// The disk.
    pub disk: Disk,
    /// Where its parts were written.
    pub locator: Box<dyn Locator>,
    /// The settings of the output file.
    pub settings: Settings,
    /// The files that the disk goes to, if the description names them; then `settings` says nothing.
    pub outputs: Vec<output::Output>,
    /// The store paths of a NixOS system: where they are, and what Nix knows about them.
    pub closure: Option<Expected>,
    /// What was asked for and cannot be kept.
    pub warnings: Vec<Warning>,
    /// The files that appear together with that of the disk, or not at all.
    pub beside: Vec<Beside>,
    /// The disk that boots the system on this one, if that is another one. Its file is [`boot_disk`]'s, and both appear or
    /// none.
    pub boot: Option<Box<Self>>,
}

/// The file of the disk that boots a system: beside the file of the system's own disk, with `boot` in place of `root`, or
/// else before the suffix.
#[must_use]
pub fn boot_disk(path: &Path) -> PathBuf {
    let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_owned();
    let (mut name, suffix) = (part(path.file_stem()), part(path.extension()));
    let stem = Path::new(&name);
    if stem.extension() == Some("root".as_ref()) {
        name = part(stem.file_stem());
    }
    name.push(".boot");
    if !suffix.is_empty() {
        name.push(".");
        name.push(&suffix);
    }
    path.with_file_name(name)
}

/// A file that appears together with that of the disk, or not at all.
#[derive(Clone, Debug)]
pub struct Beside {
    /// Its name.
    pub path: PathBuf,
    /// What it holds.
    pub what: What,
}

/// What a file beside that of the disk holds.
#[derive(Clone, Debug)]
pub enum What {
    /// The bytes of a partition, by its position in the disk.
    Partition(usize),
    /// These bytes: the variables of a firmware.
    Bytes(Arc<[u8]>),
}

/// A disk that was built, and the file that it goes to.
#[derive(Clone, Debug)]
pub struct Finished<'a> {
    /// How a front end described it.
    pub description: &'a Description,
    /// What it is.
    pub built: &'a Built,
    /// The file of the disk.
    pub path: &'a Path,
    /// What the disk becomes in it.
    pub form: Form,
}

/// Writes disks that belong together, and the files beside them: all appear, or none. Errors say where their cause was
/// written.
///
/// # Errors
/// As [`disk::write()`].
pub fn write(disks: &[Finished<'_>], work: &Work) -> Result<()> {
    let mut files: Vec<OutputFile<'_>> = Vec::new();
    for (number, Finished { description, built, path, form }) in disks.iter().enumerate() {
        files.push(built.file_as(*path, form));
        files.extend(built.other_files(path, form));
        // What stands beside a disk does so once, whatever the disk becomes.
        if disks.iter().take(number).any(|other| std::ptr::eq(other.built, *built)) {
            continue;
        }
        for Beside { path, what } in &description.beside {
            let image = match what {
                What::Partition(number) => built.partition(*number, work)?,
                What::Bytes(bytes) => {
                    Slice::ready("a file beside the disk", Arc::clone(bytes)).image().clone()
                }
            };
            files.push(OutputFile::raw(path, image));
        }
    }
    disk::write(&files, work).map_err(|error| {
        // An error is about the disk that brings the file of the host which it names; one that names none has no subject.
        let brings = |finished: &&Finished<'_>| finished.description.disk.brings(&error);
        match disks.iter().find(brings).or(disks.first()) {
            Some(Finished { description, .. }) => description.locator.locate(description.disk.blame(error)),
            None => error,
        }
    })
}

impl Description {
    /// Lays the disk out. Errors and warnings say where their cause was written.
    ///
    /// # Errors
    /// As [`Disk::build`].
    pub fn build(&self, work: &Work) -> Result<Built> {
        let mut built = self.disk.build(work).map_err(|error| self.locator.locate(error))?;
        built.warnings.splice(0..0, self.warnings.iter().map(|warning| (None, warning.clone())));
        built.report.warnings =
            built.warnings.iter().map(|(subject, warning)| self.warning(*subject, warning)).collect();
        Ok(built)
    }

    /// A warning as it is shown: if there may be several partitions, with the one that it is about.
    fn warning(&self, subject: Option<Subject>, warning: &Warning) -> String {
        let warning = warning.spelled(|key| self.locator.spell(key));
        match subject {
            Some(subject) => format!("{}: {warning}", self.locator.describe(subject)),
            None => warning.to_string(),
        }
    }

    /// Writes the disk and the files beside it, but not the disk that boots it: [`write()`] writes both. Errors say where
    /// their cause was written.
    ///
    /// # Errors
    /// As [`write()`].
    pub fn write(&self, built: &Built, path: &Path, work: &Work) -> Result<()> {
        write(&[Finished { description: self, built, path, form: work.form() }], work)
    }

    /// As [`Built::stream`], with errors that say where their cause was written.
    ///
    /// # Errors
    /// As [`Built::stream`], and [`Kind::Usage`] where there are files beside the disk: what was sent cannot be taken back.
    pub fn stream(&self, built: &Built, out: Sink<'_>, work: &Work) -> Result<()> {
        if let Some(beside) = self.beside.first() {
            return Err(Error::new(Kind::Usage, "files beside the disk appear with it or not at all")
                .at(&beside.path)
                .hint("write the disk to a file, and not to a stream"));
        }
        if self.boot.is_some() {
            return Err(Error::new(Kind::Usage, "two disks appear together or not at all")
                .hint("write them to files, and not to a stream"));
        }
        built.stream(out, work).map_err(|error| self.locator.locate(self.disk.blame(error)))
    }
}

/// The times in a filesystem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dates {
    /// The time of everything that the writer dates.
    pub time: Time,
    /// Later times of files become this time; `None` leaves them.
    pub latest: Option<Time>,
}

impl Dates {
    /// The times of a disk whose description gives `time`, with SOURCE_DATE_EPOCH `epoch`. The epoch is the
    /// time if the description gives none. If it is set, no file may be later than that time.
    #[must_use]
    pub fn new(time: Option<i64>, epoch: Option<i64>) -> Self {
        let time = Time::seconds(time.or(epoch).unwrap_or(0));
        Self { time, latest: epoch.map(|_| time) }
    }

    /// `time`, or the latest time if that is earlier.
    fn clamp(&self, time: Time) -> Time {
        self.latest.map_or(time, |latest| time.min(latest))
    }
}
