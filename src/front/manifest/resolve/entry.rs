//! The meaning of one entry of `contents`.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::Manifest;
use super::super::schema::{self, WHAT};
use super::verity::Verified;
use crate::archive::{Archive, Format};
use crate::boot::uki::{Part, Uki};
use crate::disk::permissions::{self, Table};
use crate::disk::verity::ROOT_HASH;
use crate::disk::{Entry, Payload, Piece};
use crate::error::{Error, Result, Warning};
use crate::filesystem::Spec;
use crate::front::Dates;
use crate::front::loader::Started;
use crate::host::elsewhere;
use crate::key::KeyPath;
use crate::tree::xattr::Patterns;
use crate::tree::{Change, Content, Exclusions, Hardlinks, Meta, Owner, Rules, Selection, Time, Xattr};
use crate::values::{self, Device, EntryOwner};

/// The keys that go with each kind of entry.
const GOES_WITH: [(&str, &[&str]); 13] = [
    ("mode", &["source", "text", "uki", "directory", "device", "metadata"]),
    ("owner", &["source", "tar", "oci", "cpio", "text", "uki", "symlink", "directory", "device", "metadata"]),
    ("hardlinks", &["source", "tar", "oci", "cpio", "closure"]),
    ("xattrs", &["source", "tar", "oci", "cpio"]),
    ("mtime", &["text", "uki", "symlink", "directory", "device", "metadata"]),
    (
        "replace",
        &["source", "tar", "oci", "cpio", "closure", "text", "uki", "symlink", "directory", "device"],
    ),
    ("include", &["source", "tar", "oci", "cpio"]),
    ("exclude", &["source", "tar", "oci", "cpio"]),
    ("image", &["oci"]),
    ("platform", &["oci"]),
    ("set_xattrs", &["metadata"]),
    ("below", &["metadata"]),
    ("one_file_system", &["source"]),
];

/// An entry whose meaning is being worked out.
struct Reading<'a> {
    manifest: &'a Manifest,
    written: &'a schema::Entry,
    path: &'a KeyPath,
    dates: Dates,
    verified: &'a Verified,
    told: &'a RefCell<Vec<Warning>>,
}

/// The meaning of `written`, the entry at `path`, in a filesystem of kind `filesystem`.
pub(super) fn entry(
    manifest: &Manifest,
    written: &schema::Entry,
    path: &KeyPath,
    dates: Dates,
    filesystem: &Spec,
    (verified, told): (&Verified, &RefCell<Vec<Warning>>),
) -> Result<Entry> {
    let reading = Reading { manifest, written, path, dates, verified, told };
    let kind = reading.kind()?;
    reading.keys(kind)?;
    if matches!(filesystem, Spec::Vfat(_)) {
        reading.vfat(kind)?;
    }
    reading.target(kind)?;
    let owner = match &written.owner {
        Some(EntryOwner::Named(accounts)) => Some(accounts.clone()),
        _ => None,
    };
    let replace = written.replace == Some(true);
    Ok(Entry { target: written.target.clone(), payload: reading.payload()?, replace, owner })
}

impl Reading<'_> {
    fn refuse(&self, key: &'static str, what: impl Into<String>) -> Error {
        self.manifest.refuse(&self.path.key(key), what)
    }

    /// Which of the keys of [`WHAT`] is present; there must be exactly one.
    fn kind(&self) -> Result<&'static str> {
        let written = self.written;
        let there = [
            written.source.is_some(),
            written.tar.is_some(),
            written.oci.is_some(),
            written.cpio.is_some(),
            written.closure.is_some(),
            written.text.is_some(),
            written.uki.is_some(),
            written.symlink.is_some(),
            written.directory.is_some(),
            written.device.is_some(),
            written.metadata.is_some(),
            written.device_table.is_some(),
            written.pseudo.is_some(),
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

    /// Refuses keys that this kind of entry does not have.
    fn keys(&self, kind: &'static str) -> Result<()> {
        let written = self.written;
        let there = [
            written.mode.is_some(),
            written.owner.is_some(),
            written.hardlinks.is_some(),
            written.xattrs.is_some(),
            written.mtime.is_some(),
            written.replace.is_some(),
            written.include.is_some(),
            written.exclude.is_some(),
            written.image.is_some(),
            written.platform.is_some(),
            written.set_xattrs.is_some(),
            written.below.is_some(),
            written.one_file_system.is_some(),
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
        for (key, value) in [("directory", written.directory), ("metadata", written.metadata)] {
            if value == Some(false) {
                return Err(self
                    .refuse(key, format!("`{key}` can only be true"))
                    .hint("leave the entry out"));
            }
        }
        if kind == "metadata" {
            self.changes()?;
        }
        let copied = matches!(kind, "source" | "tar" | "oci" | "cpio");
        if written.owner == Some(EntryOwner::Rule(Owner::Preserve)) && !copied {
            return Err(self.refuse("owner", "there is no owner to preserve").expected("root or UID:GID"));
        }
        Ok(())
    }

    /// Refuses metadata that changes nothing.
    fn changes(&self) -> Result<()> {
        let written = self.written;
        let set = written.set_xattrs.as_ref().is_some_and(|xattrs| !xattrs.is_empty());
        if set || written.mode.is_some() || written.owner.is_some() || written.mtime.is_some() {
            return Ok(());
        }
        Err(self.refuse("metadata", "the entry changes nothing").expected("mode, owner, mtime or set_xattrs"))
    }

    /// Refuses what FAT cannot hold.
    fn vfat(&self, kind: &'static str) -> Result<()> {
        let written = self.written;
        let owner = written.owner.as_ref().is_some_and(|owner| *owner != EntryOwner::Rule(Owner::Root));
        let links = written.hardlinks.is_some_and(|links| links != Hardlinks::Dissolve);
        let xattrs = written.xattrs.as_ref().is_some_and(|patterns| !patterns.is_empty());
        for (key, there, what) in [
            (kind, matches!(kind, "symlink" | "device"), "symbolic links or devices"),
            (
                kind,
                matches!(kind, "metadata" | "device_table" | "pseudo"),
                "modes, owners, attributes or times of its own",
            ),
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
        if target.len() > 1 && target.ends_with('/') && matches!(kind, "text" | "uki" | "symlink" | "device")
        {
            return Err(refuse("the target ends with `/`, but is not a directory")
                .hint("give the name it shall have as target"));
        }
        Ok(())
    }

    /// The metadata of a node that is made rather than copied.
    fn meta(&self, mode: u16) -> Meta {
        let time = self.written.mtime.map_or(self.dates.time, Time::seconds);
        let mode = self.written.mode.map_or(mode, |mode| mode.0);
        let mut meta = Meta::root(mode, self.dates.clamp(time));
        if let Some(EntryOwner::Rule(Owner::Ids { uid, gid })) = self.written.owner {
            (meta.uid, meta.gid) = (uid, gid);
        }
        meta
    }

    /// How a source or an archive is taken over, whose files are by default those of `owner`.
    fn rules(&self, owner: Owner) -> Rules {
        let written = self.written;
        let select = Selection::new(
            written.include.iter().flatten().map(String::as_str),
            written.exclude.iter().flatten().map(String::as_str),
        );
        let select = (select != Selection::default()).then(|| Arc::new(select));
        Rules {
            select,
            owner: match written.owner {
                Some(EntryOwner::Rule(rule)) => rule,
                // Names get their numbers when the whole image is there.
                Some(EntryOwner::Named(_)) => Owner::Root,
                None => owner,
            },
            hardlinks: self.written.hardlinks.unwrap_or_default(),
            mode: self.written.mode.map(|mode| mode.0),
            chmod: None,
            mtime: None,
            latest: self.dates.latest,
            tell_owners: owner == Owner::Root && self.written.owner.is_none(),
            store: false,
            merge: false,
            without: Arc::new(Exclusions {
                other_filesystems: written.one_file_system == Some(true),
                ..Exclusions::default()
            }),
        }
    }

    fn payload(&self) -> Result<Payload> {
        let written = self.written;
        if let Some(source) = &written.source {
            return self.source(source);
        }
        if let Some(archive) = self.archive()? {
            let xattrs = written.xattrs.clone().map(Patterns::new).unwrap_or_default();
            return Ok(Payload::Archive { archive, rules: self.rules(Owner::Preserve), xattrs });
        }
        if let Some(table) = self.table()? {
            return Ok(table);
        }
        if written.metadata == Some(true) {
            return Ok(Payload::Change { change: self.change()?, below: written.below == Some(true) });
        }
        if let Some(closure) = &written.closure {
            let hardlinks = written.hardlinks.unwrap_or(Hardlinks::Dissolve);
            let rules = Rules { hardlinks, store: true, ..Rules::default() };
            return Ok(Payload::Closure { path: self.path_of("closure", closure)?, rules });
        }
        if let Some(text) = &written.text {
            let (pieces, meta) = (self.pieces(text, &self.path.key("text"))?, self.meta(0o644));
            return Ok(match pieces.as_slice() {
                [] => Payload::Text { text: Arc::from([]), meta },
                [Piece::Bytes(text)] => Payload::Text { text: Arc::clone(text), meta },
                _ => Payload::Template { pieces: pieces.into(), meta },
            });
        }
        if let Some(uki) = &written.uki {
            return self.uki(uki);
        }
        if let Some(to) = &written.symlink {
            return Ok(Payload::Symlink { to: to.clone(), meta: self.meta(0o777) });
        }
        let (content, mode) = match written.device {
            Some(Device::Character { major, minor }) => {
                (Content::CharacterDevice { device: (major, minor) }, 0o644)
            }
            Some(Device::Block { major, minor }) => (Content::BlockDevice { device: (major, minor) }, 0o644),
            Some(Device::Fifo) => (Content::Fifo, 0o644),
            None => (Content::Directory, 0o755),
        };
        Ok(Payload::Node { content, meta: self.meta(mode) })
    }

    /// The archive that the entry brings, if it brings one.
    fn archive(&self) -> Result<Option<Archive>> {
        let written = self.written;
        let container =
            || Format::Container { image: written.image.clone(), platform: written.platform.clone() };
        let (key, text, format) = match (&written.tar, &written.oci, &written.cpio) {
            (Some(text), ..) => ("tar", text, Format::Tar),
            (_, Some(text), _) => ("oci", text, container()),
            (.., Some(text)) => ("cpio", text, Format::Cpio),
            _ => return Ok(None),
        };
        Ok(Some(Archive::new(text, self.path_of(key, text)?, format)))
    }

    /// The table of permissions that the entry names, if it names one.
    fn table(&self) -> Result<Option<Payload>> {
        let (key, text, format) = match (&self.written.device_table, &self.written.pseudo) {
            (Some(text), _) => ("device_table", text, permissions::Format::Devices),
            (_, Some(text)) => ("pseudo", text, permissions::Format::Pseudo),
            _ => return Ok(None),
        };
        let table = Table::load(&self.path_of(key, text)?, format)
            .map_err(|error| self.manifest.place(error, &self.path.key(key)))?;
        Ok(Some(Payload::Table { table, time: self.dates.time }))
    }

    /// What metadata becomes.
    fn change(&self) -> Result<Change> {
        let written = self.written;
        let owner = match written.owner {
            Some(EntryOwner::Rule(Owner::Ids { uid, gid })) => Some((uid, gid)),
            Some(EntryOwner::Rule(_)) => Some((0, 0)),
            _ => None,
        };
        let mtime = written.mtime.map(|seconds| self.dates.clamp(Time::seconds(seconds)));
        let set = written.set_xattrs.iter().flatten();
        let xattrs = set.map(|(name, text)| {
            Xattr::from_text(name, text).map_err(|expected| {
                let place = self.path.key("set_xattrs").key(name.clone());
                let (what, found) = match expected.starts_with("a name") {
                    true => ("an attribute cannot have this name", name),
                    false => ("the attribute cannot have this value", text),
                };
                self.manifest.refuse(&place, what).expected(expected).found(quoted(found))
            })
        });
        let xattrs = xattrs.collect::<Result<_>>()?;
        Ok(Change { mode: written.mode.map(|mode| mode.0), owner, mtime, xattrs })
    }

    /// A unified kernel image.
    fn uki(&self, written: &schema::Uki) -> Result<Payload> {
        let place = self.path.key("uki");
        let path = |key: &'static str, path: &str| self.path_at(key, &place.key(key), path);
        let written_system = written.system.as_ref().map(PathBuf::from);
        let optional = |key: &'static str, written: &Option<String>| {
            written.as_ref().map(|written| path(key, written).map(Part::from)).transpose()
        };
        let initrds = written.initrd.iter().flatten().map(|initrd| path("initrd", initrd).map(Part::from));
        let needed = |key: &'static str, written: &Option<String>| match (written, &written_system) {
            (Some(written), _) => path(key, written).map(Part::from),
            // The system brings it.
            (None, Some(_)) => Ok(Part::default()),
            (None, None) => Err(self
                .manifest
                .refuse(&place, format!("`uki` has no `{key}`"))
                .expected("that, or `system`")),
        };
        let mut uki = Uki {
            stub: needed("stub", &written.stub)?,
            kernel: needed("kernel", &written.kernel)?,
            initrds: initrds.collect::<Result<_>>()?,
            os_release: optional("os_release", &written.os_release)?,
            uname: written.uname.clone(),
            devicetree: optional("devicetree", &written.devicetree)?,
            splash: optional("splash", &written.splash)?,
            microcode: optional("microcode", &written.microcode)?,
            sbat: optional("sbat", &written.sbat)?,
        };
        let mut line = written.cmdline.clone().unwrap_or_default();
        if let Some(toplevel) = &written_system {
            let started = Started::read(Path::new("/"), toplevel, &line, &mut self.told.borrow_mut());
            let at_system = |error: Error| self.manifest.place(error, &place.key("system"));
            let started = started.map_err(at_system)?;
            started.complete(&mut uki).map_err(at_system)?;
            line = started.command_line();
        }
        check_command_line(self.manifest, &line, &place.key("cmdline"))?;
        let command_line = self.pieces(&line, &place.key("cmdline"))?;
        Ok(Payload::Uki { uki: Arc::new(uki), command_line: command_line.into(), meta: self.meta(0o644) })
    }

    /// A text with the values that it refers to; no piece for an empty one.
    fn pieces(&self, text: &str, place: &KeyPath) -> Result<Vec<Piece>> {
        let value = |name: &str| {
            Ok(Piece::Value { of: self.verified.hashes_of(self.manifest, name, place)?, value: ROOT_HASH })
        };
        Piece::split(text, value)
    }

    fn path_of(&self, key: &'static str, written: &str) -> Result<PathBuf> {
        self.path_at(key, &self.path.key(key), written)
    }

    /// The host path that is written at `place`, the value of `key`.
    fn path_at(&self, key: &'static str, place: &KeyPath, written: &str) -> Result<PathBuf> {
        host_path(self.manifest, key, place, written)
    }

    fn source(&self, source: &str) -> Result<Payload> {
        let rules = self.rules(Owner::Root);
        // FAT keeps neither attributes nor links, and a warning says how many it lost.
        let xattrs = self.written.xattrs.clone().map(Patterns::new).unwrap_or_default();
        self.path_of("source", source)?;
        Ok(Payload::of_host(self.manifest.folder(), source, rules, xattrs))
    }
}

/// Refuses what a kernel would read another way than it is written: its command line ends with the first NUL, and what looks like
/// a root hash must stand for one.
pub(super) fn check_command_line(manifest: &Manifest, line: &str, path: &KeyPath) -> Result<()> {
    if let Some(wrong) = line.chars().find(|c| c.is_control() && !matches!(c, '\t' | '\n')) {
        return Err(manifest
            .refuse(path, "a command line cannot hold this character")
            .found(format!("U+{:04X}", u32::from(wrong))));
    }
    let mut rest = line;
    while let Some((_, behind)) = rest.split_once('{') {
        let is = behind.get(..8).is_some_and(|begin| begin.eq_ignore_ascii_case("roothash"));
        if is && !(behind.starts_with("roothash:") && behind.contains('}')) {
            return Err(manifest
                .refuse(path, "this stands for no root hash")
                .expected("{roothash:NAME}, with the name of a partition")
                .found(quoted(behind.split_inclusive('}').next().unwrap_or_default())));
        }
        rest = behind;
    }
    Ok(())
}

/// The host path that is written at `place`, the value of `key`.
pub(super) fn host_path(
    manifest: &Manifest,
    key: &'static str,
    place: &KeyPath,
    written: &str,
) -> Result<PathBuf> {
    let refuse = |what: String| manifest.refuse(place, what);
    if written.is_empty() || written.contains('\0') {
        return Err(refuse(format!("`{key}` is not a path")).found(quoted(written)));
    }
    let remark = elsewhere(written);
    let remark = if remark.is_some() {
        remark
    } else if written.starts_with('$') && !manifest.path(written).exists() {
        Some(("no variable of a shell is looked up in a path", "write the whole path"))
    } else {
        None
    };
    match remark {
        Some((what, hint)) => Err(refuse(what.to_owned()).found(quoted(written)).hint(hint)),
        None => Ok(manifest.path(written)),
    }
}

/// A value as an error shows it; an empty value must be visible too.
pub(super) fn quoted(text: &str) -> String {
    format!("`{}`", values::shown(text))
}

/// The words for an entry that brings `kind`.
fn an_entry(kind: &str) -> &'static str {
    match kind {
        "source" => "a source",
        "tar" => "a tar",
        "oci" => "an image of a container",
        "cpio" => "a cpio",
        "metadata" => "metadata",
        "closure" => "a closure",
        "text" => "a text",
        "uki" => "a unified kernel image",
        "symlink" => "a symbolic link",
        "device_table" => "a device table",
        "pseudo" => "a table of pseudo files",
        "directory" => "a directory",
        _ => "a device",
    }
}
