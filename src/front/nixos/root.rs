//! The contents of the root filesystem: as nixos-install leaves it, without anything that depends on the
//! machine that ran it.
//!
//! It omits a machine-id, the links in gcroots/auto to build directories, and the files of a database that is
//! in use (docs/formats/nixos.md).

use std::path::PathBuf;
use std::sync::Arc;

use crate::boot::Generations;
use crate::disk::{Entry, Payload};
use crate::error::{Error, Result};
use crate::key::KeyPath;
use crate::nix::{Closure, Store, StorePath};
use crate::tree::{Content, Hardlinks, Meta, Rules, Time};

/// The group of Nix's builders in every NixOS (`ids.gids.nixbld`); it owns the store.
const NIXBLD: u32 = 30000;

/// Entries of one filesystem under construction.
pub(super) struct Entries {
    list: Vec<Entry>,
    /// The key of the section that brings each entry.
    keys: Vec<KeyPath>,
    time: Time,
}

impl Entries {
    /// No entries yet. What is made rather than copied has the time `time`.
    pub(super) const fn new(time: Time) -> Self {
        Self { list: Vec::new(), keys: Vec::new(), time }
    }

    /// The time of what is made here.
    pub(super) const fn time(&self) -> Time {
        self.time
    }

    /// The entries, and the key of the section that brings each.
    pub(super) fn finish(self) -> (Vec<Entry>, Vec<KeyPath>) {
        (self.list, self.keys)
    }

    /// Adds what the key `path` of the section brings to `target`.
    pub(super) fn push(&mut self, path: &KeyPath, target: impl Into<String>, payload: Payload) {
        self.list.push(Entry::new(target, payload));
        self.keys.push(path.clone());
    }

    /// The metadata of something made here, owned by root.
    pub(super) const fn meta(&self, mode: u16) -> Meta {
        Meta::root(mode, self.time)
    }

    /// A directory, unless another entry gives that directory its metadata.
    pub(super) fn directory(&mut self, path: &KeyPath, target: &str, mode: u16) {
        self.push(path, target, Payload::Fallback { meta: self.meta(mode) });
    }

    pub(super) fn file(
        &mut self,
        path: &KeyPath,
        target: impl Into<String>,
        mode: u16,
        bytes: impl Into<Arc<[u8]>>,
    ) {
        self.push(path, target, Payload::Text { text: bytes.into(), meta: self.meta(mode) });
    }

    pub(super) fn link(&mut self, path: &KeyPath, target: impl Into<String>, to: impl Into<String>) {
        self.push(path, target, Payload::Symlink { to: to.into(), meta: self.meta(0o777) });
    }
}

/// The store paths of a closure: each below `/nix/store`, or with `bare` at the top of the filesystem.
pub(super) fn store(entries: &mut Entries, path: &KeyPath, closure: &Closure, store: &Store, bare: bool) {
    let paths: Arc<[(PathBuf, Vec<u8>)]> = closure
        .paths()
        .map(|path| {
            let target = if bare { path.base_name().to_owned() } else { path.to_string() };
            (store.host(path), target.into_bytes())
        })
        .collect();
    let rules = Rules { hardlinks: Hardlinks::Dissolve, store: true, ..Rules::default() };
    entries.push(path, "/", Payload::Store { paths, rules });
}

/// The directories that every NixOS has before its first boot. Mount points are empty.
pub(super) fn skeleton(entries: &mut Entries, path: &KeyPath, mount_points: &[&str]) {
    for (target, mode) in [
        ("/", 0o755),
        ("/dev", 0o755),
        ("/etc", 0o755),
        ("/nix", 0o755),
        ("/nix/var", 0o755),
        ("/nix/var/nix", 0o755),
        ("/nix/var/nix/db", 0o755),
        ("/nix/var/nix/gcroots", 0o755),
        ("/nix/var/nix/gcroots/per-user", 0o755),
        ("/nix/var/nix/profiles", 0o755),
        ("/nix/var/nix/profiles/per-user", 0o755),
        ("/nix/var/nix/profiles/per-user/root", 0o755),
        ("/nix/var/nix/temproots", 0o755),
        ("/proc", 0o755),
        ("/root", 0o700),
        ("/run", 0o755),
        ("/sys", 0o755),
        ("/tmp", 0o1777),
    ] {
        entries.directory(path, target, mode);
    }
    for target in mount_points {
        entries.directory(path, target, 0o755);
    }
    let store = Meta { gid: NIXBLD, ..entries.meta(0o1775) };
    entries.push(path, "/nix/store", Payload::Node { content: Content::Directory, meta: store });
    entries.file(path, "/etc/NIXOS", 0o644, *b"");
}

/// Nix's database, and the two files that Nix expects beside it: the number of the schema, without a newline,
/// and the lock.
pub(super) fn database(entries: &mut Entries, path: &KeyPath, database: Vec<u8>) {
    entries.file(path, "/nix/var/nix/db/db.sqlite", 0o644, database);
    entries.file(path, "/nix/var/nix/db/schema", 0o644, *b"10");
    entries.file(path, "/nix/var/nix/db/big-lock", 0o600, *b"");
}

/// The system profile with its generations.
pub(super) fn profile(
    entries: &mut Entries,
    path: &KeyPath,
    generations: &Generations<StorePath>,
) -> Result<()> {
    let folder = "/nix/var/nix/profiles";
    let profile = generations.system_profile(None);
    for generation in profile.iter().rev() {
        let link = format!("{folder}/system-{}-link", generation.number);
        entries.link(path, link, generation.system.to_string());
    }
    let newest = profile.first().ok_or_else(|| Error::bug("a profile without generations"))?;
    // The link is relative, as nix-env makes it, so that the profile can be moved.
    entries.link(path, format!("{folder}/system"), format!("system-{}-link", newest.number));
    // Nix makes this link when it first opens a store. Up to Nix 2.33 it makes the profiles roots.
    entries.link(path, "/nix/var/nix/gcroots/profiles", folder);
    Ok(())
}

/// Root's channels, and the link by which `<nixpkgs>` is found.
pub(super) fn channel(entries: &mut Entries, path: &KeyPath, channel: &StorePath) {
    let folder = "/nix/var/nix/profiles/per-user/root";
    entries.link(path, format!("{folder}/channels-1-link"), channel.to_string());
    entries.link(path, format!("{folder}/channels"), "channels-1-link");
    entries.directory(path, "/root/.nix-defexpr", 0o700);
    entries.link(path, "/root/.nix-defexpr/channels", format!("{folder}/channels"));
}
