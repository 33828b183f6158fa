//! Files of the host that go into the root: the `contents` of the section, and the configuration.

use std::path::{Path, PathBuf};

use super::root::Entries;
use super::section::System;
use super::users::Accounts;
use crate::error::Result;
use crate::front::manifest::Manifest;
use crate::front::manifest::locate::KeyPath;
use crate::front::manifest::resolve::{Dates, What, source_entry};
use crate::front::manifest::schema::NixosContent;
use crate::front::manifest::values::IdName;
use crate::tree::{Hardlinks, Meta, Owner, Rules};

/// The store paths that declare accounts: for the activation script of nixpkgs, and for userborn, in one shape.
const DECLARATIONS: [&str; 2] = ["users-groups.json", "userborn.json"];

/// Where the configuration goes.
const CONFIGURATION: &str = "/etc/nixos/configuration.nix";

/// Adds what the section's `contents` and `config_file` bring.
pub(super) fn place(
    entries: &mut Entries,
    manifest: &Manifest,
    system: &System,
    dates: Dates,
    path: &KeyPath,
) -> Result<()> {
    let Some(section) = &manifest.written.nixos else { return Ok(()) };
    if let Some(file) = &section.config_file {
        let path = path.key("config_file");
        if manifest.path(file).is_dir() {
            return Err(manifest
                .refuse(&path, "the configuration is a directory")
                .expected("a file, which becomes /etc/nixos/configuration.nix")
                .found(crate::text::printable(file.as_bytes()))
                .hint("bring directories by `contents`"));
        }
        let rules = Rules { latest: dates.latest, hardlinks: Hardlinks::Dissolve, ..Rules::default() };
        let what = What::Source {
            path: manifest.path(file),
            rules,
            xattrs: crate::tree::xattr::Patterns::default(),
        };
        entries.push(&path, CONFIGURATION, what);
    }
    let mut accounts = None;
    for (number, content) in section.contents.iter().enumerate() {
        let path = path.key("contents").index(number);
        let mut entry = source_entry(manifest, &content.source, &content.target, &path, dates)?;
        outside_the_store(manifest, content, &path)?;
        let owner = owner(manifest, system, content, &path, &section.contents, &mut accounts)?;
        match &mut entry.what {
            What::Source { rules, .. } | What::Glob { rules, .. } => {
                rules.owner = owner;
                rules.hardlinks = Hardlinks::Dissolve;
                rules.chmod = content.mode.clone();
            }
            _ => {}
        }
        if let (What::Glob { .. }, Owner::Ids { uid, gid }) = (&entry.what, owner) {
            // The directory that the matches go into is theirs too, where it is not one that every root has.
            let meta = Meta { uid, gid, ..entries.meta(0o755) };
            entries.push(&path, entry.target.clone(), What::Fallback { meta });
        }
        entries.push(&path, entry.target, entry.what);
    }
    Ok(())
}

/// Who owns what `content` brings.
fn owner(
    manifest: &Manifest,
    system: &System,
    content: &NixosContent,
    path: &KeyPath,
    all: &[NixosContent],
    accounts: &mut Option<Accounts>,
) -> Result<Owner> {
    let (user, group) = match (&content.user, &content.group) {
        (None, None) => return Ok(Owner::Root),
        (Some(user), Some(group)) => (user, group),
        (Some(_), None) => return Err(manifest.refuse(&path.key("user"), "`user` goes with `group`")),
        (None, Some(_)) => return Err(manifest.refuse(&path.key("group"), "`group` goes with `user`")),
    };
    if let (IdName::Id(uid), IdName::Id(gid)) = (user, group) {
        return Ok(Owner::Ids { uid: *uid, gid: *gid });
    }
    let accounts = match accounts {
        Some(accounts) => accounts,
        None => accounts
            .insert(read_accounts(manifest, system, all).map_err(|error| manifest.place(error, path))?),
    };
    let uid = accounts.user(user).map_err(|error| manifest.place(error, &path.key("user")))?;
    let gid = accounts.group(group).map_err(|error| manifest.place(error, &path.key("group")))?;
    Ok(Owner::Ids { uid, gid })
}

/// The accounts of the image: of its contents first, then of the system that boots.
fn read_accounts(manifest: &Manifest, system: &System, contents: &[NixosContent]) -> Result<Accounts> {
    let mut accounts = Accounts::new();
    for name in ["/etc/passwd", "/etc/group"] {
        let brought = contents.iter().filter_map(|content| source_of(manifest, content, Path::new(name)));
        for path in brought.filter(|path| path.is_file()) {
            accounts.read(name, &path)?;
        }
        let own = system.generations.default_system().to_path().join(&name[1..]);
        if let Some(file) = system.store.find(&own)? {
            accounts.read(name, &file.host)?;
        }
    }
    for name in DECLARATIONS {
        let mut nearest =
            system.closure.nearest(system.generations.default_system(), |path| path.name() == name);
        if nearest.is_empty() {
            // A closure that was put together by hand may not say what refers to what.
            nearest.extend(system.closure.paths().filter(|path| path.name() == name));
        }
        let files: Vec<PathBuf> = nearest.into_iter().map(|path| system.store.host(path)).collect();
        accounts.declared(&files)?;
    }
    Ok(accounts)
}

/// The path of the host that `content` would put at `place` of the root, whether there is something or not.
fn source_of(manifest: &Manifest, content: &NixosContent, place: &Path) -> Option<PathBuf> {
    let below = place.strip_prefix(&content.target).ok()?;
    let source = match content.source.rsplit_once('/') {
        // A pattern copies what matches under its name.
        Some((folder, pattern)) if pattern.contains('*') => {
            let first = below.components().next()?;
            let matched =
                crate::tree::xattr::matches(pattern.as_bytes(), first.as_os_str().as_encoded_bytes());
            matched.then(|| manifest.path(folder))?
        }
        _ => manifest.path(&content.source),
    };
    Some(if below.as_os_str().is_empty() { source } else { source.join(below) })
}

/// Refuses contents that would change the store: its paths are what their hashes say, or Nix's database lies.
fn outside_the_store(manifest: &Manifest, content: &NixosContent, path: &KeyPath) -> Result<()> {
    let store = Path::new(crate::nix::STORE);
    // Without `//`, a final `/` and `.`, as the tree reads targets.
    let target: PathBuf = Path::new(&content.target).components().collect();
    let refuse = |found: String| {
        manifest
            .refuse(&path.key("target"), "contents overlap the store")
            .expected("a target outside of /nix/store")
            .found(found)
            .hint("bring store paths by additional_paths")
    };
    if target.starts_with(store) {
        return Err(refuse(crate::text::printable(content.target.as_bytes())));
    }
    match source_of(manifest, content, store).filter(|inner| inner.symlink_metadata().is_ok()) {
        Some(inner) => Err(refuse(crate::text::printable_path(inner))),
        None => Ok(()),
    }
}
