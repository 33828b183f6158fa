//! The front ends: each makes a [`Disk`] of what a user wrote, and turns what an error is about into the line, flag or
//! file where that was written.

pub mod manifest;
pub mod nixos;
pub mod repart;
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
    /// Adds to `error` where its subjects and keys were written: a line of a file, or a flag. An error that names none is
    /// returned as it is.
    fn locate(&self, error: Error) -> Error;

    /// What a subject is called in a warning: `partition[1] (disk.toml:14)`.
    fn describe(&self, subject: Subject) -> String;

    /// The key that a subject has in a manifest.
    fn key(&self, subject: Subject) -> KeyPath;
}

/// A disk as a front end describes it.
#[derive(Debug)]
pub struct Description {
    /// The disk.
    pub disk: Disk,
    /// Where its parts were written.
    pub locator: Box<dyn Locator>,
    /// What is said of the file that the disk becomes.
    pub settings: Settings,
    /// The store paths of a NixOS system, where they are, and what Nix knows of them.
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

    /// A warning as it is told: where there may be several partitions, with the one that it is about.
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

/// What dates what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dates {
    /// The time of whatever the writer dates itself.
    pub time: Time,
    /// Times of files above this become this; `None` leaves them.
    pub latest: Option<Time>,
}

impl Dates {
    /// The dates of a disk whose description gives `time`, where SOURCE_DATE_EPOCH is `epoch`: the epoch is the time where
    /// none is given, and the reason to let no file be later than that time.
    #[must_use]
    pub fn new(time: Option<i64>, epoch: Option<i64>) -> Self {
        let time = Time::seconds(time.or(epoch).unwrap_or(0));
        Self { time, latest: epoch.map(|_| time) }
    }
}
