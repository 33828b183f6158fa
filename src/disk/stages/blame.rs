//! What an error of a stage is about.

use super::{Stage, Stages};
use crate::disk::scan::cause;
use crate::disk::spec::{Body, Size};
use crate::error::{Error, Kind, Subject};

impl Stages<'_> {
    /// The error for a stage that waits for itself. It names the stage's partition and the last other one in
    /// the circle.
    pub(super) fn circle(&self, stage: Stage) -> Error {
        let round = self.running.iter().skip_while(|running| **running != stage);
        let mut partitions: Vec<usize> = round.filter_map(|stage| stage.partition()).collect();
        partitions.dedup();
        let first = partitions.first().copied();
        let other = partitions.iter().rev().copied().find(|number| Some(*number) != first);
        let error = Error::new(Kind::Manifest, "partitions wait for each other")
            .why("one needs the bytes or the size of the other, directly or by the places of all partitions")
            .hint("give one of them a size, or a content that does not depend on the other");
        first.into_iter().chain(other).fold(error, |error, number| error.on(Subject::Partition(number)))
    }

    /// Adds the part of the description that an error in a partition is about, where the error names none
    /// yet: the entry whose file it names, the options of the filesystem, the size, or the partition.
    pub(super) fn blame(&self, number: usize, error: Error) -> Error {
        let Some(partition) = self.disk.partitions.get(number).filter(|_| !error.is_blamed()) else {
            return error;
        };
        let entries = partition.entries();
        let entry = error.path().and_then(|path| cause(entries, path));
        let made = entry.and_then(|entry| entries.get(entry)).is_some_and(|entry| entry.payload.is_made());
        // The description is at fault, not a file that it names.
        let written = error.kind() == Kind::Capacity && (error.key().is_some() || made);
        let error = if written { error.with_kind(Kind::Manifest) } else { error };
        let whole = Subject::Partition(number);
        match (&partition.body, error.key(), entry) {
            (_, Some("time"), _) => error.on(Subject::Disk),
            (_, Some("size"), _) => error.on(whole),
            (Body::Filesystem(..), Some(_), _) => error.on(Subject::Filesystem(number)),
            (Body::Filesystem(..), None, Some(entry)) => {
                error.on(Subject::Entry { partition: number, entry })
            }
            (Body::Filesystem(..), None, None)
                if error.path().is_none() && error.kind() == Kind::Manifest =>
            {
                error.on(Subject::Filesystem(number))
            }
            (Body::File(_), None, _) if partition.size == Size::Auto || error.kind() != Kind::Capacity => {
                error.about("file").on(whole)
            }
            (_, None, _) if matches!(partition.size, Size::Fixed(_)) && error.kind() == Kind::Capacity => {
                error.about("size").on(whole)
            }
            (Body::File(_), None, _) => error.about("file").on(whole),
            _ => error.on(whole),
        }
    }
}
