//! The contents of a filesystem, entry by entry.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::permissions::Table;
use super::scan::glob;
use crate::archive::Archive;
use crate::boot::uki::Uki;
use crate::error::Result;
use crate::image::Slice;
use crate::nix::{Closure, StorePath};
use crate::tree::xattr::Patterns;
use crate::tree::{Accounts, Change, Content, Meta, Rules, Time, Tree, Xattr};

/// The contents of a filesystem.
#[derive(Clone, Debug)]
pub enum Contents {
    /// What these entries bring. No two of them have the same target.
    Entries(Vec<Entry>),
    /// A tree that exists already.
    Tree(Arc<Tree>),
}

/// One thing that a filesystem holds.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Absolute path inside the filesystem, not yet checked for `..`.
    pub target: String,
    /// What it brings.
    pub payload: Payload,
    /// Whether it takes the place of what entries before it brought. Otherwise two entries with one target are an error.
    pub replace: bool,
    /// The owner of all that it brings, by names that the contents of the filesystem have. It goes before any other.
    pub owner: Option<Accounts>,
}

impl Entry {
    /// An entry that replaces nothing.
    #[must_use]
    pub fn new(target: impl Into<String>, payload: Payload) -> Self {
        Self { target: target.into(), payload, replace: false, owner: None }
    }
}

/// What an entry brings.
#[derive(Clone, Debug)]
pub enum Payload {
    /// A host file, or the contents of a host directory. If a file's target ends with `/`, the file keeps its
    /// name below it.
    Source {
        /// Where it is.
        path: PathBuf,
        /// How it is copied.
        rules: Rules,
        /// Which extended attributes are kept.
        xattrs: Patterns,
    },
    /// Everything that matches a pattern, each under its name in the target.
    Glob {
        /// The directory that is searched.
        folder: PathBuf,
        /// A path below it; `*` in a part of it stands for any run of bytes.
        pattern: String,
        /// How each is copied.
        rules: Rules,
        /// Which extended attributes are kept.
        xattrs: Patterns,
    },
    /// The members of an archive. The top of the archive becomes the target.
    Archive {
        /// Where it is, and what it is.
        archive: Archive,
        /// How they are taken over. The owner `preserve` is that of the archive.
        rules: Rules,
        /// Which extended attributes are kept.
        xattrs: Patterns,
    },
    /// Store paths, each under its whole path in the target.
    Closure {
        /// The list, or the directory that holds it as `store-paths`.
        path: PathBuf,
        /// How each is copied.
        rules: Rules,
    },
    /// Store paths that are known individually.
    Store {
        /// Where each lies on the host, and its target below the entry's.
        paths: Arc<[(PathBuf, Vec<u8>)]>,
        /// How each is copied.
        rules: Rules,
    },
    /// A file of these bytes.
    Text {
        /// The bytes.
        text: Arc<[u8]>,
        /// Its metadata.
        meta: Meta,
    },
    /// A file whose bytes follow in part from other partitions: a loader entry that contains a root hash, for
    /// example.
    Template {
        /// Its bytes, piece by piece.
        pieces: Arc<[Piece]>,
        /// Its metadata.
        meta: Meta,
    },
    /// A file whose bytes are those of a slice: a file of another filesystem.
    Slice {
        /// The bytes.
        slice: Slice,
        /// Its metadata.
        meta: Meta,
    },
    /// A unified kernel image, whose command line may follow in part from other partitions.
    Uki {
        /// What it is made of.
        uki: Arc<Uki>,
        /// Its command line, piece by piece; without pieces it has none.
        command_line: Arc<[Piece]>,
        /// Its metadata.
        meta: Meta,
    },
    /// A symbolic link.
    Symlink {
        /// Where it leads.
        to: String,
        /// Its metadata.
        meta: Meta,
    },
    /// A directory with this metadata, unless another entry gives that directory its metadata.
    Fallback {
        /// Its metadata.
        meta: Meta,
    },
    /// Extended attributes of what is at the target already, which has no others of these names then.
    Attributes {
        /// Them.
        xattrs: Arc<[Xattr]>,
    },
    /// Other metadata for what all other entries bring to the target, in which a part may hold `*`.
    Change {
        /// What it becomes.
        change: Change,
        /// Whether that is also for all that is below.
        below: bool,
    },
    /// What a table says of names below the target, when all other entries are in place.
    Table {
        /// The table.
        table: Table,
        /// The time of what it makes.
        time: Time,
    },
    /// A directory, device or named pipe.
    Node {
        /// What it is.
        content: Content,
        /// Its metadata.
        meta: Meta,
    },
}

/// A piece of a [`Payload::Template`] or of a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Bytes(Arc<[u8]>),
    /// A value of a derived partition.
    Value {
        /// The partition, by its position in the disk.
        of: usize,
        /// The value's name.
        value: &'static str,
    },
}

impl Piece {
    /// The pieces of a text in which `{roothash:NAME}` stands for what `value` gives of NAME; none of an empty text.
    ///
    /// # Errors
    /// Those of `value`.
    pub(crate) fn split(text: &str, value: impl Fn(&str) -> Result<Self>) -> Result<Vec<Self>> {
        let bytes = |text: &str| (!text.is_empty()).then(|| Self::Bytes(text.as_bytes().into()));
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, (name, behind))) =
            rest.split_once("{roothash:").and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
        {
            pieces.extend(bytes(before));
            pieces.push(value(name)?);
            rest = behind;
        }
        pieces.extend(bytes(rest));
        Ok(pieces)
    }
}

impl Payload {
    /// Whether it is made from the description rather than copied.
    #[must_use]
    pub const fn is_made(&self) -> bool {
        match self {
            Self::Text { .. }
            | Self::Template { .. }
            | Self::Uki { .. }
            | Self::Slice { .. }
            | Self::Symlink { .. }
            | Self::Node { .. }
            | Self::Attributes { .. }
            | Self::Change { .. }
            | Self::Table { .. }
            | Self::Fallback { .. } => true,
            Self::Source { .. }
            | Self::Glob { .. }
            | Self::Archive { .. }
            | Self::Closure { .. }
            | Self::Store { .. } => false,
        }
    }

    /// A pattern of what is to be taken over that nothing matched, once it was read.
    pub(crate) fn unmet(&self) -> Option<String> {
        match self {
            Self::Source { rules, .. } | Self::Glob { rules, .. } | Self::Archive { rules, .. } => {
                rules.select.as_ref()?.unmet()
            }
            _ => None,
        }
    }

    /// What `source` brings; a relative one begins at the folder `base`. It is the host path, or all matches
    /// if a part of `source` contains a `*`.
    #[must_use]
    pub fn of_host(base: &Path, source: &str, rules: Rules, xattrs: Patterns) -> Self {
        let below = |path: &Path| match (base == Path::new("."), path == Path::new("")) {
            (_, true) => base.to_owned(),
            (true, false) => path.to_owned(),
            (false, false) => base.join(path),
        };
        let source = Path::new(source);
        let star = |part: &std::path::Component<'_>| part.as_os_str().as_bytes().contains(&b'*');
        let folder: PathBuf = source.components().take_while(|part| !star(part)).collect();
        let pattern: PathBuf = source.components().skip_while(|part| !star(part)).collect();
        if pattern != Path::new("") {
            // A text before, so that nothing of it is lost.
            let pattern = pattern.to_string_lossy().into_owned();
            return Self::Glob { folder: below(&folder), pattern, rules, xattrs };
        }
        Self::Source { path: below(source), rules, xattrs }
    }
}

impl Payload {
    /// Folders of this machine that it brings: a source, or the store paths of a closure. A closure that cannot be read
    /// brings none, which its own error tells of.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        match self {
            Self::Source { path, .. } => vec![path.clone()],
            Self::Closure { path, .. } => {
                let closure = Closure::load(path);
                closure.map(|closure| closure.paths().map(StorePath::to_path).collect()).unwrap_or_default()
            }
            Self::Store { paths, .. } => paths.iter().map(|(host, _)| host.clone()).collect(),
            _ => Vec::new(),
        }
    }

    /// The host paths that match the pattern, sorted. Empty for any other payload.
    ///
    /// # Errors
    /// [`Kind::Source`](crate::error::Kind::Source) where a directory cannot be read, or nothing matches.
    pub(crate) fn matching(&self) -> Result<Vec<PathBuf>> {
        match self {
            Self::Glob { folder, pattern, .. } => glob(folder, pattern),
            _ => Ok(Vec::new()),
        }
    }
}

impl Default for Contents {
    fn default() -> Self {
        Self::new()
    }
}

impl From<Arc<Tree>> for Contents {
    fn from(tree: Arc<Tree>) -> Self {
        Self::Tree(tree)
    }
}

impl From<Vec<Entry>> for Contents {
    fn from(entries: Vec<Entry>) -> Self {
        Self::Entries(entries)
    }
}

impl Contents {
    /// Nothing but the root directory.
    #[must_use]
    pub const fn new() -> Self {
        Self::Entries(Vec::new())
    }

    /// Adds an entry. A tree that exists already takes no entry and stays as it is.
    #[must_use]
    pub fn entry(mut self, target: impl Into<String>, payload: Payload) -> Self {
        if let Self::Entries(entries) = &mut self {
            entries.push(Entry::new(target, payload));
        }
        self
    }

    /// Adds a host file, or the contents of a host directory. Root owns them; they keep their modes, times,
    /// links and the extended attributes that are kept by default.
    #[must_use]
    pub fn folder(self, host: impl Into<PathBuf>, target: impl Into<String>) -> Self {
        let payload =
            Payload::Source { path: host.into(), rules: Rules::default(), xattrs: Patterns::default() };
        self.entry(target, payload)
    }

    /// Adds a file of mode 0644 with these bytes, owned by root, dated 1970.
    #[must_use]
    pub fn file(self, target: impl Into<String>, bytes: impl Into<Arc<[u8]>>) -> Self {
        self.entry(target, Payload::Text { text: bytes.into(), meta: Meta::root(0o644, Time::default()) })
    }

    /// Adds a symbolic link, owned by root, dated 1970.
    #[must_use]
    pub fn symlink(self, target: impl Into<String>, to: impl Into<String>) -> Self {
        self.entry(target, Payload::Symlink { to: to.into(), meta: Meta::root(0o777, Time::default()) })
    }

    /// Adds a directory of this mode, owned by root, dated 1970.
    #[must_use]
    pub fn directory(self, target: impl Into<String>, mode: u16) -> Self {
        let meta = Meta::root(mode, Time::default());
        self.entry(target, Payload::Node { content: Content::Directory, meta })
    }

    /// The derived partitions whose values occur in the texts.
    pub(super) fn needs(&self) -> BTreeSet<usize> {
        let Self::Entries(entries) = self else { return BTreeSet::new() };
        let pieces = entries.iter().filter_map(|entry| match &entry.payload {
            Payload::Template { pieces, .. } | Payload::Uki { command_line: pieces, .. } => {
                Some(pieces.iter())
            }
            _ => None,
        });
        let needed = pieces.flatten().filter_map(|piece| match piece {
            Piece::Value { of, .. } => Some(*of),
            Piece::Bytes(_) => None,
        });
        needed.collect()
    }
}
