//! Host files that go into the root: the `contents` of the section, and the configuration.

use std::path::{Path, PathBuf};

use super::root::Entries;
use super::section::System;
use super::users::Accounts;
use super::{Content, Context, Section};
use crate::disk::Payload;
use crate::error::{Error, Kind, Result};
use crate::key::KeyPath;
use crate::option::option;
use crate::tree::xattr::Patterns;
use crate::tree::{Hardlinks, Meta, Owner, Rules};
use crate::values::IdName;

/// The store paths that declare accounts, for the activation script of nixpkgs and for userborn. Both have
/// the same structure.
const DECLARATIONS: [&str; 2] = ["users-groups.json", "userborn.json"];

/// Where the configuration goes.
const CONFIGURATION: &str = "/etc/nixos/configuration.nix";

/// Adds what the section's `contents` and `config_file` bring.
pub(super) fn place(
    entries: &mut Entries,
    context: &Context,
    system: &System,
    section: &Section,
    path: &KeyPath,
) -> Result<()> {
    if let Some(pool) = &system.pool {
        let own = match &section.config_file {
            Some(file) => Some(read(&context.path(file), &path.key("config_file"))?),
            None => None,
        };
        let text = pool.configuration(own.as_deref());
        entries.file(&path.key("datasets"), CONFIGURATION, 0o644, text.into_bytes());
    } else if let Some(file) = &section.config_file {
        let path = path.key("config_file");
        if context.path(file).is_dir() {
            return Err(Error::new(Kind::Manifest, "the configuration is a directory")
                .at_key(&path)
                .expected("a file, which becomes /etc/nixos/configuration.nix")
                .found(crate::text::printable(file.as_bytes()))
                .hint(format!("bring directories by {}", option("contents"))));
        }
        let rules =
            Rules { latest: context.dates.latest, hardlinks: Hardlinks::Dissolve, ..Rules::default() };
        let path_of_host = context.path(file);
        let payload = Payload::Source { path: path_of_host, rules, xattrs: Patterns::default() };
        entries.push(&path, CONFIGURATION, payload);
    }
    let mut accounts = None;
    for (number, content) in section.contents.iter().enumerate() {
        let path = path.key("contents").index(number);
        check(content, &path)?;
        outside_the_store(context, content, &path)?;
        let owner = owner(context, system, content, &path, &section.contents, &mut accounts)?;
        let rules = Rules {
            owner,
            hardlinks: Hardlinks::Dissolve,
            chmod: content.mode.clone(),
            latest: context.dates.latest,
            ..Rules::default()
        };
        let payload = Payload::of_host(&context.folder, &content.source, rules, Patterns::default());
        if let (Payload::Glob { .. }, Owner::Ids { uid, gid }) = (&payload, owner) {
            // The owner also owns the directory that gets the matches, unless every root has that directory.
            let meta = Meta { uid, gid, ..entries.meta(0o755) };
            entries.push(&path, content.target.clone(), Payload::Fallback { meta });
        }
        entries.push(&path, content.target.clone(), payload);
    }
    Ok(())
}

/// A configuration that becomes part of another one.
fn read(file: &Path, key: &KeyPath) -> Result<String> {
    std::fs::read_to_string(file)
        .map_err(|error| Error::io(Kind::Source, "cannot read the configuration", file, error).at_key(key))
}

/// Refuses a `source` that is not a path of this machine, and a `target` that is not an absolute path of the
/// root.
fn check(content: &Content, path: &KeyPath) -> Result<()> {
    let refuse = |key: &'static str, what: &str, found: &str| {
        Err(Error::new(Kind::Manifest, what)
            .at_key(&path.key(key))
            .found(format!("`{}`", crate::values::shown(found))))
    };
    if content.source.is_empty() || content.source.contains('\0') {
        return refuse("source", "`source` is not a path", &content.source);
    }
    if !content.target.starts_with('/') {
        let refused = refuse("target", "a target is an absolute path inside the filesystem", &content.target);
        return refused.map_err(|error| error.expected("a first `/`"));
    }
    Ok(())
}

/// The owner of everything that `content` brings.
fn owner(
    context: &Context,
    system: &System,
    content: &Content,
    path: &KeyPath,
    all: &[Content],
    accounts: &mut Option<Accounts>,
) -> Result<Owner> {
    let (user, group) = match (&content.user, &content.group) {
        (None, None) => return Ok(Owner::Root),
        (Some(user), Some(group)) => (user, group),
        (Some(_), None) => return Err(together("user", "`user` goes with `group`", path)),
        (None, Some(_)) => return Err(together("group", "`group` goes with `user`", path)),
    };
    if let (IdName::Id(uid), IdName::Id(gid)) = (user, group) {
        return Ok(Owner::Ids { uid: *uid, gid: *gid });
    }
    let accounts = match accounts {
        Some(accounts) => accounts,
        None => accounts.insert(read_accounts(context, system, all).map_err(|error| error.at_key(path))?),
    };
    let uid = accounts.user(user).map_err(|error| error.at_key(&path.key("user")))?;
    let gid = accounts.group(group).map_err(|error| error.at_key(&path.key("group")))?;
    Ok(Owner::Ids { uid, gid })
}

/// The error for a key that needs another one.
fn together(key: &'static str, what: &str, path: &KeyPath) -> Error {
    Error::new(Kind::Manifest, what).at_key(&path.key(key))
}

/// The accounts of the image: those of its contents first, then those of the system that boots.
fn read_accounts(context: &Context, system: &System, contents: &[Content]) -> Result<Accounts> {
    let mut accounts = Accounts::new();
    for name in ["/etc/passwd", "/etc/group"] {
        let brought = contents.iter().filter_map(|content| source_of(context, content, Path::new(name)));
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
            // A closure that was put together by hand may lack the references.
            nearest.extend(system.closure.paths().filter(|path| path.name() == name));
        }
        let files: Vec<PathBuf> = nearest.into_iter().map(|path| system.store.host(path)).collect();
        accounts.declared(&files)?;
    }
    Ok(accounts)
}

/// The host path that `content` would put at `place` of the root, even if nothing exists there.
fn source_of(context: &Context, content: &Content, place: &Path) -> Option<PathBuf> {
    let below = place.strip_prefix(&content.target).ok()?;
    let payload = Payload::of_host(&context.folder, &content.source, Rules::default(), Patterns::default());
    let mut parts = below.components();
    let (source, below) = match &payload {
        // A pattern copies each match under its name.
        Payload::Glob { .. } => {
            let name = parts.next()?.as_os_str();
            let matched = payload.matching().ok()?.into_iter();
            (matched.rev().find(|path| path.file_name() == Some(name))?, parts.as_path())
        }
        _ => (context.path(&content.source), below),
    };
    // A file that goes into a directory keeps its name.
    if content.target.ends_with('/') && source.is_file() {
        return (source.file_name() == Some(below.as_os_str())).then_some(source);
    }
    Some(if below.as_os_str().is_empty() { source } else { source.join(below) })
}

/// Refuses contents that would change the store. Otherwise the hashes in Nix's database would be wrong.
fn outside_the_store(context: &Context, content: &Content, path: &KeyPath) -> Result<()> {
    let store = Path::new(crate::nix::STORE);
    // Without `//`, a final `/` and `.`, as the tree reads targets.
    let target: PathBuf = Path::new(&content.target).components().collect();
    let refuse = |found: String| {
        Error::new(Kind::Manifest, "contents overlap the store")
            .at_key(&path.key("target"))
            .expected("a target outside of /nix/store")
            .found(found)
            .hint("bring store paths by additional_paths")
    };
    if target.starts_with(store) {
        return Err(refuse(crate::text::printable(content.target.as_bytes())));
    }
    match source_of(context, content, store).filter(|inner| inner.symlink_metadata().is_ok()) {
        Some(inner) => Err(refuse(crate::text::printable_path(inner))),
        None => Ok(()),
    }
}
