//! Finds the key of a `nixos` section that an error is about. The partitions of a system have no lines of
//! their own, and their sizes follow from other keys.

use super::layout::{RESERVED, Role};
use crate::error::{Error, Kind, Subject};
use crate::front::Locator;
use crate::key::KeyPath;
use crate::option::setting;
use crate::table::Scheme;
use crate::units::{Bytes, MIB};

/// The keys of a system's partitions.
#[derive(Debug)]
pub(super) struct Keys {
    /// The section.
    pub(super) section: KeyPath,
    /// The partitions.
    pub(super) places: Vec<Place>,
    /// The table of the disk.
    pub(super) scheme: Scheme,
    /// The size of the disk, if it is given.
    pub(super) size: Option<Bytes>,
}

/// A partition of a system, as far as errors need it.
#[derive(Debug)]
pub(super) struct Place {
    /// The key that decides how large it is.
    pub(super) key: KeyPath,
    /// The key that brings each of its entries.
    pub(super) entries: Vec<KeyPath>,
    pub(super) role: Role,
    /// Where it begins; `None` if the partition is the whole disk.
    pub(super) start: Option<Bytes>,
}

impl Keys {
    fn place(&self, subject: Subject) -> Option<&Place> {
        match subject {
            Subject::Disk => None,
            Subject::Partition(number)
            | Subject::Filesystem(number)
            | Subject::Entry { partition: number, .. } => self.places.get(number),
        }
    }

    /// Adds the key that `subject` stands for, and a value of that key that would suffice.
    fn add(&self, error: Error, subject: Subject) -> Error {
        let (key, needs) = (error.key(), error.sufficient());
        let Some(place) = self.place(subject) else {
            return match key {
                // A system has no policy for times.
                Some("time") => error.at_key(&self.key(subject).key("time")).hint("give a time in between"),
                Some("size") => error.at_key(&self.section.key("disk_size")),
                Some(key) => error.at_key(&self.key(subject).key(key)),
                None => error.at_key(&self.key(subject)),
            };
        };
        let path = match (subject, key) {
            (Subject::Entry { .. }, _) if needs.is_none() => self.key(subject),
            // The partitions of a system have no keys. Their places and sizes follow from a key of the
            // section.
            (Subject::Partition(_), _) | (_, Some("size")) => place.key.clone(),
            (_, Some(key)) if matches!(place.role, Role::More(_)) => place.key.key("filesystem").key(key),
            (_, Some("uuid")) => self.section.key("root_uuid"),
            (_, Some(key)) => self.section.key(key),
            _ if error.kind() == Kind::Capacity || needs.is_some() => place.key.clone(),
            _ => self.section.clone(),
        };
        let error = self.suffice(error.at_key(&path), place, needs);
        match place.role.name() {
            Some(name) => error.at(name),
            None => error,
        }
    }

    /// Says how large the value of the key that decides a partition's size must be.
    fn suffice(&self, error: Error, place: &Place, needs: Option<Bytes>) -> Error {
        let Some(size) = needs else { return error };
        // Without a table, the partition is the disk and begins at 0.
        let start = place.start.unwrap_or_default();
        if place.role == Role::Root {
            // The backup of a GPT lies after the root, and partitions are whole MiB.
            let behind = self.places.iter().any(|place| place.role == Role::Reserved);
            let tail = match self.scheme {
                Scheme::Gpt if behind => MIB + RESERVED.get(),
                Scheme::Gpt => MIB,
                _ => 0,
            };
            let whole = if self.scheme == Scheme::None { 1 } else { MIB };
            let least = (start + size).round_up(whole) + Bytes::new(tail);
            let error = error.expected(format!("at least {least}"));
            return match self.size {
                Some(size) => error.found(size),
                None => error,
            };
        }
        if matches!(place.role, Role::More(_)) || place.key == self.section.key("esp_size") {
            return error.expected(format!("at least {size}"));
        }
        match place.key == self.section.key("boot_size") {
            true => error.hint(format!(
                "{} suffices: it counts from the start of the disk",
                setting("boot_size", (start + size).round_up(MIB))
            )),
            false => error.hint("this partition has the size that nixpkgs gives it; choose another layout"),
        }
    }
}

impl Locator for Keys {
    fn locate(&self, error: Error) -> Error {
        let subjects = error.subjects();
        subjects.into_iter().fold(error.without_subjects(), |error, subject| self.add(error, subject))
    }

    fn describe(&self, subject: Subject) -> String {
        self.name(subject).unwrap_or_else(|| self.key(subject).to_string())
    }

    fn name(&self, subject: Subject) -> Option<String> {
        // The key that decides the size of a partition is not what a remark on it is about.
        match (subject, self.place(subject)) {
            (Subject::Partition(_), Some(place)) => place.role.name(),
            _ => None,
        }
    }

    fn key(&self, subject: Subject) -> KeyPath {
        match (subject, self.place(subject)) {
            (Subject::Disk, _) => KeyPath::top("disk"),
            (Subject::Partition(_), Some(place)) => place.key.clone(),
            (Subject::Entry { entry, .. }, Some(place)) => {
                place.entries.get(entry).cloned().unwrap_or_else(|| self.section.clone())
            }
            _ => self.section.clone(),
        }
    }
}
