//! The front ends. Each makes a [`Disk`] from what a user wrote, and turns the subject of an error into the
//! line, flag or file where the user wrote it.

pub mod manifest;
pub mod nixos;
pub mod seed;

use std::fmt;
use std::path::Path;

use crate::container::Settings;
use crate::disk::{Built, Disk, Work};
use crate::error::{Error, Result, Subject, Warning};
use crate::key::KeyPath;
use crate::nix::verify::Expected;
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
    /// The store paths of a NixOS system: where they are, and what Nix knows about them.
    pub closure: Option<Expected>,
    /// What was asked for and cannot be kept.
    pub warnings: Vec<Warning>,
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
        match subject {
            Some(subject) => format!("{}: {warning}", self.locator.describe(subject)),
            None => warning.to_string(),
        }
    }

    /// As [`Built::write`], with errors that say where their cause was written.
    ///
    /// # Errors
    /// As [`Built::write`].
    pub fn write(&self, built: &Built, path: &Path, work: &Work) -> Result<()> {
        built.write(path, work).map_err(|error| self.locator.locate(self.disk.blame(error)))
    }

    /// As [`Built::stream`], with errors that say where their cause was written.
    ///
    /// # Errors
    /// As [`Built::stream`].
    pub fn stream(&self, built: &Built, out: Sink<'_>, work: &Work) -> Result<()> {
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
}
