//! What one entry of `contents` means.

use std::path::PathBuf;
use std::sync::Arc;

use super::super::locate::KeyPath;
use super::super::schema::{self, FilesystemKind, WHAT};
use super::super::values::Device;
use super::super::{Manifest, values};
use super::Dates;
use crate::error::{Error, Result};
use crate::tree::xattr::Patterns;
use crate::tree::{Content, Hardlinks, Meta, Owner, Rules, Time};

/// One thing that a filesystem holds.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it stands in the manifest.
    pub path: KeyPath,
    /// Absolute path inside the filesystem, not yet checked for `..`.
    pub target: String,
    /// What it brings.
    pub what: What,
}

/// What an entry brings.
#[derive(Clone, Debug)]
pub enum What {
    /// A host file, or what is in a host directory.
    Source {
        /// Where it is.
        path: PathBuf,
        /// How it is taken over.
        rules: Rules,
        /// Which extended attributes are kept.
        xattrs: Patterns,
    },
    /// What matches a pattern, each under its name in the target.
    Glob {
        /// The directory that is searched.
        folder: PathBuf,
        /// `*` in it stands for any run of bytes.
        pattern: String,
        /// How each is taken over.
        rules: Rules,
        /// Which extended attributes are kept.
        xattrs: Patterns,
    },
    /// Store paths, each under its whole path in the target.
    Closure {
        /// The list, or the directory that holds it as `store-paths`.
        path: PathBuf,
        /// How each is taken over.
        rules: Rules,
    },
    /// Store paths that are known one by one.
    Store {
        /// Where each lies on the host, and its target below the entry's.
        paths: Arc<[(PathBuf, Vec<u8>)]>,
        /// How each is taken over.
        rules: Rules,
    },
    /// A file of these bytes.
    Text {
        /// The bytes.
        text: Arc<[u8]>,
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
    /// A directory that is like this unless another entry says what it is like.
    Fallback {
        /// Its metadata.
        meta: Meta,
    },
    /// A directory, device or named pipe.
    Node {
        /// Which.
        content: Content,
        /// Its metadata.
        meta: Meta,
    },
}

impl What {
    /// Whether it is made from what the manifest says, and not copied.
    #[must_use]
    pub const fn is_made(&self) -> bool {
        match self {
            Self::Text { .. } | Self::Symlink { .. } | Self::Node { .. } | Self::Fallback { .. } => true,
            Self::Source { .. } | Self::Glob { .. } | Self::Closure { .. } | Self::Store { .. } => false,
        }
    }
}

/// Which keys go with which kind of entry.
const GOES_WITH: [(&str, &[&str]); 5] = [
    ("mode", &["source", "text", "directory", "device"]),
    ("owner", &["source", "text", "symlink", "directory", "device"]),
    ("hardlinks", &["source", "closure"]),
    ("xattrs", &["source"]),
    ("mtime", &["text", "symlink", "directory", "device"]),
];

/// An entry that is being made sense of.
struct Reading<'a> {
    manifest: &'a Manifest,
    written: &'a schema::Entry,
    path: &'a KeyPath,
    dates: Dates,
}

/// What `written`, which stands at `path`, means in a filesystem of kind `filesystem`.
pub(super) fn entry(
    manifest: &Manifest,
    written: &schema::Entry,
    path: &KeyPath,
    dates: Dates,
    filesystem: FilesystemKind,
) -> Result<Entry> {
    let reading = Reading { manifest, written, path, dates };
    let kind = reading.kind()?;
    reading.keys(kind)?;
    if filesystem == FilesystemKind::Vfat {
        reading.vfat(kind)?;
    }
    reading.target(kind)?;
    let what = reading.what()?;
    Ok(Entry { path: path.clone(), target: written.target.clone(), what })
}

/// The entry that `source` and `target` alone make, for a section that has entries of its own at `path`.
pub(crate) fn source_entry(
    manifest: &Manifest,
    source: &str,
    target: &str,
    path: &KeyPath,
    dates: Dates,
) -> Result<Entry> {
    let written = schema::Entry {
        source: Some(source.to_owned()),
        target: target.to_owned(),
        ..schema::Entry::default()
    };
    entry(manifest, &written, path, dates, FilesystemKind::Ext4)
}

impl Reading<'_> {
    fn refuse(&self, key: &'static str, what: impl Into<String>) -> Error {
        self.manifest.refuse(&self.path.key(key), what)
    }

    /// Which of the keys of [`WHAT`] is written: exactly one.
    fn kind(&self) -> Result<&'static str> {
        let written = self.written;
        let there = [
            written.source.is_some(),
            written.closure.is_some(),
            written.text.is_some(),
            written.symlink.is_some(),
            written.directory.is_some(),
            written.device.is_some(),
        ];
        let mut kinds = WHAT.into_iter().zip(there).filter(|(_, there)| *there).map(|(kind, _)| kind);
        let expected = format!("one of {}", WHAT.join(", "));
        let Some(kind) = kinds.next() else {
            return Err(self.manifest.refuse(self.path, "the entry brings nothing").expected(expected));
        };
        match kinds.next() {
            None => Ok(kind),
            Some(other) => Err(self
                .refuse(other, "the entry brings two things")
                .expected(expected)
                .found(format!("{kind} and {other}"))),
        }
    }

    /// Refuses keys that mean nothing for this kind of entry.
    fn keys(&self, kind: &'static str) -> Result<()> {
        let written = self.written;
        let there = [
            written.mode.is_some(),
            written.owner.is_some(),
            written.hardlinks.is_some(),
            written.xattrs.is_some(),
            written.mtime.is_some(),
        ];
        for ((key, kinds), there) in GOES_WITH.into_iter().zip(there) {
            if there && !kinds.contains(&kind) {
                let error = self.refuse(key, format!("`{key}` means nothing for {}", an_entry(kind)));
                return Err(match (kind, key) {
                    ("closure", "mode" | "owner" | "xattrs") => error.why(
                        "store paths have the metadata that Nix gives them: root, 0444 or 0555, second 1",
                    ),
                    ("symlink", "mode") => error.why("the mode of a symbolic link is always 0777"),
                    (_, "mtime") => error.why("what is copied keeps its time"),
                    _ => error.hint("leave it out"),
                });
            }
        }
        if written.directory == Some(false) {
            return Err(self.refuse("directory", "`directory` can only be true").hint("leave the entry out"));
        }
        if written.owner == Some(Owner::Preserve) && kind != "source" {
            return Err(self.refuse("owner", "there is no owner to preserve").expected("root or UID:GID"));
        }
        Ok(())
    }

    /// Refuses what FAT cannot hold.
    fn vfat(&self, kind: &'static str) -> Result<()> {
        let written = self.written;
        let owner = written.owner.is_some_and(|owner| owner != Owner::Root);
        let links = written.hardlinks.is_some_and(|links| links != Hardlinks::Dissolve);
        let xattrs = written.xattrs.as_ref().is_some_and(|patterns| !patterns.is_empty());
        for (key, there, what) in [
            (kind, matches!(kind, "symlink" | "device"), "symbolic links or devices"),
            ("mode", written.mode.is_some(), "modes"),
            ("owner", owner, "owners"),
            ("hardlinks", links, "hard links"),
            ("xattrs", xattrs, "extended attributes"),
        ] {
            if there {
                return Err(self.refuse(key, format!("vfat holds no {what}")).hint("leave it out"));
            }
        }
        Ok(())
    }

    fn target(&self, kind: &'static str) -> Result<()> {
        let target = &self.written.target;
        let refuse = |what: &str| self.refuse("target", what).found(quoted(target));
        if !target.starts_with('/') {
            return Err(refuse("a target is an absolute path inside the filesystem").expected("a first `/`"));
        }
        if target.len() > 1 && target.ends_with('/') && matches!(kind, "text" | "symlink" | "device") {
            return Err(refuse("the target ends with `/`, but is not a directory")
                .hint("give the name it shall have as target"));
        }
        Ok(())
    }

    /// The metadata of a node that is made here.
    fn meta(&self, mode: u16) -> Meta {
        let time = self.written.mtime.map_or(self.dates.time, Time::seconds);
        let time = self.dates.latest.map_or(time, |latest| time.min(latest));
        let mut meta = Meta::root(self.written.mode.map_or(mode, |mode| mode.0), time);
        if let Some(Owner::Ids { uid, gid }) = self.written.owner {
            (meta.uid, meta.gid) = (uid, gid);
        }
        meta
    }

    fn rules(&self) -> Rules {
        Rules {
            owner: self.written.owner.unwrap_or_default(),
            hardlinks: self.written.hardlinks.unwrap_or_default(),
            mode: self.written.mode.map(|mode| mode.0),
            chmod: None,
            mtime: None,
            latest: self.dates.latest,
            tell_owners: self.written.owner.is_none(),
            store: false,
        }
    }

    fn what(&self) -> Result<What> {
        let written = self.written;
        if let Some(source) = &written.source {
            return self.source(source);
        }
        if let Some(closure) = &written.closure {
            let hardlinks = written.hardlinks.unwrap_or(Hardlinks::Dissolve);
            let rules = Rules { hardlinks, store: true, ..Rules::default() };
            return Ok(What::Closure { path: self.path_of("closure", closure)?, rules });
        }
        if let Some(text) = &written.text {
            return Ok(What::Text { text: text.as_bytes().into(), meta: self.meta(0o644) });
        }
        if let Some(to) = &written.symlink {
            return Ok(What::Symlink { to: to.clone(), meta: self.meta(0o777) });
        }
        let (content, mode) = match written.device {
            Some(Device::Character { major, minor }) => {
                (Content::CharacterDevice { device: (major, minor) }, 0o644)
            }
            Some(Device::Block { major, minor }) => (Content::BlockDevice { device: (major, minor) }, 0o644),
            Some(Device::Fifo) => (Content::Fifo, 0o644),
            None => (Content::Directory, 0o755),
        };
        Ok(What::Node { content, meta: self.meta(mode) })
    }

    fn path_of(&self, key: &'static str, written: &str) -> Result<PathBuf> {
        if written.is_empty() || written.contains('\0') {
            return Err(self.refuse(key, format!("`{key}` is not a path")).found(quoted(written)));
        }
        Ok(self.manifest.path(written))
    }

    fn source(&self, source: &str) -> Result<What> {
        let rules = self.rules();
        // FAT keeps none, nor a link, and says how many it lost.
        let xattrs = self.written.xattrs.clone().map(Patterns::new).unwrap_or_default();
        let path = self.path_of("source", source)?;
        if !source.contains('*') {
            return Ok(What::Source { path, rules, xattrs });
        }
        let (folder, pattern) = source.rsplit_once('/').unwrap_or((".", source));
        if folder.contains('*') || pattern.is_empty() {
            return Err(self
                .refuse("source", "`*` stands only in the last part of a source")
                .found(quoted(source)));
        }
        let folder = if folder.is_empty() { "/" } else { folder };
        Ok(What::Glob { folder: self.manifest.path(folder), pattern: pattern.to_owned(), rules, xattrs })
    }
}

/// A value as an error shows it; that there is nothing can be seen too.
fn quoted(text: &str) -> String {
    format!("`{}`", values::shown(text))
}

/// What an entry that brings `kind` is called.
fn an_entry(kind: &str) -> &'static str {
    match kind {
        "source" => "a source",
        "closure" => "a closure",
        "text" => "a text",
        "symlink" => "a symbolic link",
        "directory" => "a directory",
        _ => "a device",
    }
}
