//! One partition as a definition file describes it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use uuid::Uuid;

use super::boot::Boot;
use super::kind::Kind;
use super::nix::Nix;
use crate::error::Error;
use crate::key::KeyPath;
use crate::units::Bytes;

/// One partition as a definition file describes it, with every default that does not depend on the disk.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    /// The file, as it was found.
    pub(super) path: PathBuf,
    /// The table of a manifest, where it is no file.
    pub(super) key: Option<KeyPath>,
    pub(super) drop_ins: Vec<PathBuf>,
    /// Where each key was written last.
    pub(super) lines: BTreeMap<String, Line>,
    pub(super) kind: Kind,
    pub(super) label: Option<String>,
    pub(super) uuid: Option<Uuid>,
    pub(super) priority: i32,
    pub(super) size: Range,
    pub(super) padding: Range,
    pub(super) factory_reset: bool,
    pub(super) flags: u64,
    pub(super) no_auto: Option<bool>,
    pub(super) read_only: Option<bool>,
    pub(super) grow: Option<bool>,
    pub(super) split_name: String,
    pub(super) format: Option<Format>,
    pub(super) minimize: Minimize,
    pub(super) sector_size: Option<u32>,
    pub(super) compression: Option<String>,
    pub(super) compression_level: Option<String>,
    pub(super) add_validatefs: Option<bool>,
    pub(super) copy_blocks: Option<CopyBlocks>,
    pub(super) copy_files: Vec<CopyFiles>,
    pub(super) exclude_sources: Vec<String>,
    pub(super) exclude_targets: Vec<String>,
    pub(super) directories: Vec<String>,
    pub(super) symlinks: Vec<(String, String)>,
    pub(super) subvolumes: Vec<String>,
    pub(super) encrypt: bool,
    pub(super) verity: Verity,
    pub(super) match_key: Option<String>,
    pub(super) data_block_size: Option<u32>,
    pub(super) hash_block_size: Option<u32>,
    pub(super) supplement_for: Option<String>,
    pub(super) mounts: Vec<(String, String)>,
    /// What `[X-Diskwright]` adds of the store.
    pub(super) nix: Nix,
    /// What it adds that boots.
    pub(super) boot: Boot,
}

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A line of a file.
    File(PathBuf, u64),
    /// A key of a manifest.
    Key(KeyPath),
}

impl Place {
    /// Adds the place to an error; `text` is what was written there.
    pub(super) fn blame(&self, error: Error, text: &str) -> Error {
        match self {
            Self::File(path, number) => error.at_line(path, *number, text),
            Self::Key(key) => error.at_key(key),
        }
    }
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) place: Place,
    pub(super) text: String,
}

impl Line {
    /// Adds the line to an error.
    pub(super) fn blame(&self, error: Error) -> Error {
        self.place.blame(error, &self.text)
    }
}

/// How large something may be, and how much of what is left it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) least: Option<Bytes>,
    pub(super) most: Option<Bytes>,
    pub(super) weight: u32,
}

/// `Format=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// `empty`: a place for later.
    Empty,
    /// A filesystem.
    Filesystem(String),
}

/// `Minimize=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Minimize {
    #[default]
    Off,
    Best,
    Guess,
}

/// `CopyBlocks=`.
#[derive(Clone, Debug)]
pub(super) enum CopyBlocks {
    /// A file of the host.
    File(PathBuf),
    /// A partition of another image.
    Partition(crate::image::Slice),
}

/// `CopyFiles=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CopyFiles {
    pub(super) source: String,
    pub(super) target: String,
    /// Whether the target was written, so that the source has to be there.
    pub(super) wanted: bool,
    /// Where it was written.
    pub(super) line: Line,
}

/// `Verity=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Verity {
    #[default]
    Off,
    Data,
    Hash,
    Signature,
}

impl Definition {
    /// A definition that says nothing but its type.
    pub(super) fn new(path: PathBuf, kind: Kind) -> Self {
        Self {
            path,
            key: None,
            drop_ins: Vec::new(),
            lines: BTreeMap::new(),
            kind,
            label: None,
            uuid: None,
            priority: 0,
            size: Range { least: None, most: None, weight: 1000 },
            padding: Range { least: None, most: None, weight: 0 },
            factory_reset: false,
            flags: 0,
            no_auto: None,
            read_only: None,
            grow: None,
            split_name: "%t".to_owned(),
            format: None,
            minimize: Minimize::Off,
            sector_size: None,
            compression: None,
            compression_level: None,
            add_validatefs: None,
            copy_blocks: None,
            copy_files: Vec::new(),
            exclude_sources: Vec::new(),
            exclude_targets: Vec::new(),
            directories: Vec::new(),
            symlinks: Vec::new(),
            subvolumes: Vec::new(),
            encrypt: false,
            verity: Verity::Off,
            match_key: None,
            data_block_size: None,
            hash_block_size: None,
            supplement_for: None,
            mounts: Vec::new(),
            nix: Nix::default(),
            boot: Boot::default(),
        }
    }

    /// The name without `.conf`, as `SupplementFor=` calls it.
    pub(super) fn name(&self) -> &str {
        let name = self.path.file_name().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
        name.strip_suffix(".conf").unwrap_or(name)
    }

    /// Its name in warnings.
    pub(super) fn shown(&self) -> String {
        self.key.as_ref().map_or_else(|| crate::text::printable_path(&self.path), ToString::to_string)
    }

    /// Adds to `error` where `key` was written, or else the file.
    pub(super) fn place(&self, error: Error, key: &str) -> Error {
        match (self.lines.get(key), &self.key) {
            (Some(line), _) => line.blame(error),
            (None, Some(key)) => error.at_key(key),
            (None, None) => error.at(&self.path),
        }
    }

    /// This definition with what a supplement adds to it (repart.d(5), `SupplementFor=`).
    pub(super) fn with(mut self, supplement: &Self) -> Self {
        let other = supplement.clone();
        let larger = |one: Option<Bytes>, other: Option<Bytes>| one.max(other);
        let smaller = |one: Option<Bytes>, other: Option<Bytes>| match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        for (own, theirs) in [(&mut self.size, other.size), (&mut self.padding, other.padding)] {
            own.weight = theirs.weight;
            own.least = larger(own.least, theirs.least);
            own.most = smaller(own.most, theirs.most);
        }
        self.copy_files.extend(other.copy_files);
        self.exclude_sources.extend(other.exclude_sources);
        self.exclude_targets.extend(other.exclude_targets);
        self.directories.extend(other.directories);
        self.symlinks.extend(other.symlinks);
        self
    }

    /// Whether something is put into a filesystem.
    pub(super) fn populates(&self) -> bool {
        let files = !self.copy_files.is_empty() || self.nix.populates() || self.boot.populates();
        files || !self.directories.is_empty() || !self.symlinks.is_empty()
    }

    /// The name of its filesystem.
    pub(super) fn filesystem(&self) -> Option<&str> {
        match &self.format {
            Some(Format::Filesystem(name)) => Some(name),
            Some(Format::Empty) | None => None,
        }
    }

    /// Whether `--defer-partitions-empty=` is about it.
    pub(super) fn is_empty_slot(&self) -> bool {
        self.label.as_deref() == Some("_empty")
    }
}
