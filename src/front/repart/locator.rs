//! Where the parts of the disk were written.

use super::definition::{Definition, Line};
use crate::error::{Error, Subject};
use crate::front::Locator;
use crate::key::KeyPath;

/// Where a partition and what it holds were written.
#[derive(Clone, Debug)]
pub(super) struct Located {
    pub(super) definition: Definition,
    /// Of each entry of its contents.
    pub(super) lines: Vec<Option<Line>>,
}

/// Where the partitions of a disk were written; `None` of one that was on the disk before.
#[derive(Debug)]
pub(super) struct Locations {
    partitions: Vec<Option<Located>>,
}

impl Locations {
    pub(super) fn new(partitions: Vec<Located>) -> Self {
        Self { partitions: partitions.into_iter().map(Some).collect() }
    }

    pub(super) fn of(partitions: Vec<Option<Located>>) -> Self {
        Self { partitions }
    }

    fn located(&self, number: usize) -> Option<&Located> {
        self.partitions.get(number)?.as_ref()
    }

    fn of_subject(&self, subject: Subject) -> Option<&Located> {
        match subject {
            Subject::Disk => None,
            Subject::Partition(number) | Subject::Filesystem(number) => self.located(number),
            Subject::Entry { partition, .. } => self.located(partition),
        }
    }

    /// A warning about a partition as it is told.
    pub(super) fn told(&self, number: usize, warning: &str) -> String {
        match self.located(number) {
            Some(located) => format!("{}: {warning}", located.definition.shown()),
            None => warning.to_owned(),
        }
    }

    fn place(&self, error: Error, subject: Subject, key: Option<&'static str>) -> Error {
        let (number, entry) = match subject {
            Subject::Disk => return error,
            Subject::Partition(number) | Subject::Filesystem(number) => (number, None),
            Subject::Entry { partition, entry } => (partition, Some(entry)),
        };
        let Some(located) = self.located(number) else { return error };
        if let Some(line) = entry.and_then(|entry| located.lines.get(entry)?.clone()) {
            return line.blame(error);
        }
        let sized = |key: &str| located.definition.lines.contains_key(key);
        let key = match key {
            Some("size") if sized("SizeMaxBytes") => "SizeMaxBytes",
            Some("size") => "SizeMinBytes",
            Some("label") => "Label",
            Some("file") => "CopyBlocks",
            Some("guid") => "UUID",
            _ => "Format",
        };
        located.definition.place(error, key)
    }
}

impl Locator for Locations {
    fn locate(&self, error: Error) -> Error {
        let (subjects, key) = (error.subjects(), error.key());
        subjects.into_iter().fold(error.without_subjects(), |error, subject| self.place(error, subject, key))
    }

    fn describe(&self, subject: Subject) -> String {
        match self.of_subject(subject) {
            Some(located) => located.definition.shown(),
            None => subject.to_string(),
        }
    }

    fn key(&self, subject: Subject) -> KeyPath {
        self.of_subject(subject).and_then(|located| located.definition.key.clone()).unwrap_or_default()
    }

    fn name(&self, subject: Subject) -> Option<String> {
        let located = self.of_subject(subject).filter(|located| located.definition.key.is_none());
        located.map(|located| located.definition.shown())
    }
}
