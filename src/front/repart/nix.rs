//! What the section `[X-Diskwright]` of a definition adds: store paths with what Nix knows of them. systemd-repart passes over
//! sections whose names begin so.

use std::path::PathBuf;
use std::sync::Arc;

use super::Options;
use super::body::Filled;
use super::definition::{Definition, Line};
use crate::disk::Payload;
use crate::error::{Error, Kind, Result};
use crate::nix::{Closure, STORE, StorePath, database};
use crate::text::nearest;
use crate::tree::{Hardlinks, Meta, Rules, Time};

/// The section.
pub(super) const SECTION: &str = "X-Diskwright";

/// Its keys.
const KEYS: [&str; 4] = ["NixClosure", "NixStorePrefix", "NixDatabase", "NixProfile"];

/// What the section says.
#[derive(Clone, Debug, Default)]
pub(super) struct Nix {
    /// Lists of store paths: what closureInfo makes.
    closures: Vec<(PathBuf, Line)>,
    /// Where they lie in the filesystem, instead of in the store.
    prefix: Option<String>,
    /// Whether they are registered in a database of Nix.
    database: bool,
    /// The system that the profile leads to.
    profile: Option<String>,
}

impl Nix {
    /// Takes one assignment.
    ///
    /// # Errors
    /// [`Kind::Manifest`] for an unknown key, and for a bad value.
    pub(super) fn take(&mut self, key: &str, value: &str, line: &Line, options: &Options) -> Result<()> {
        let refuse = |what: String| Error::new(Kind::Manifest, what);
        match key {
            "NixClosure" => self.closures.push((options.inside_root(value)?, line.clone())),
            "NixStorePrefix" if value.starts_with('/') => {
                self.prefix = Some(value.trim_end_matches('/').to_owned());
            }
            "NixStorePrefix" => return Err(refuse("NixStorePrefix= is no absolute path".to_owned())),
            "NixDatabase" => {
                let truth = super::value::boolean(value);
                self.database =
                    truth.ok_or_else(|| refuse("NixDatabase= is neither yes nor no".to_owned()))?;
            }
            "NixProfile" => self.profile = Some(value.to_owned()),
            _ => {
                let keys = KEYS.into_iter().chain(super::boot::KEYS);
                let all = keys.clone().collect::<Vec<_>>().join(", ");
                let near = nearest(key, keys).map(|near| format!("did you mean {near}?"));
                let error = refuse(format!("[{SECTION}] has no key {key}"));
                return Err(error.expected(all).or_hint(near));
            }
        }
        Ok(())
    }

    /// Whether it brings something.
    pub(super) fn populates(&self) -> bool {
        !self.closures.is_empty()
    }

    /// Adds what it brings to a filesystem; what is made here is dated `time`.
    ///
    /// # Errors
    /// As [`Closure::load`]; [`Kind::Manifest`] for a profile that is not in the closure.
    pub(super) fn fill(&self, definition: &Definition, time: Time, filled: &mut Filled) -> Result<()> {
        let mut all: Option<Closure> = None;
        let mut at = None;
        for (path, line) in &self.closures {
            let placed = |error: Error| line.blame(error);
            let closure = Closure::load(path).map_err(placed)?;
            all = Some(match all {
                None => closure,
                Some(mut other) => {
                    other.merge(closure).map_err(placed)?;
                    other
                }
            });
            at = Some(line.clone());
        }
        let Some(closure) = all else {
            return match self.database || self.profile.is_some() {
                true => {
                    Err(definition
                        .place(Error::new(Kind::Manifest, "there is no NixClosure="), "NixDatabase"))
                }
                false => Ok(()),
            };
        };
        let prefix = self.prefix.as_deref().unwrap_or(STORE);
        let place = |path: &StorePath| [prefix, "/", path.base_name()].concat().into_bytes();
        let paths: Arc<[(PathBuf, Vec<u8>)]> =
            closure.paths().map(|path| (path.to_path(), place(path))).collect();
        let rules = Rules { hardlinks: Hardlinks::Dissolve, store: true, ..Rules::default() };
        filled.add("/", Payload::Store { paths, rules }, at.clone());
        let meta = |mode| Meta::root(mode, time);
        if self.database {
            if prefix != STORE {
                let error = Error::new(Kind::Manifest, "Nix finds registered paths at /nix/store alone");
                return Err(definition.place(error, "NixStorePrefix"));
            }
            let file = |mode, bytes: Vec<u8>| Payload::Text { text: bytes.into(), meta: meta(mode) };
            // Registered at second 1, as Nix dates store paths.
            filled.add("/nix/var/nix/db/db.sqlite", file(0o644, database::build(&closure, 1)?), at.clone());
            filled.add("/nix/var/nix/db/schema", file(0o644, b"10".to_vec()), at.clone());
            filled.add("/nix/var/nix/db/big-lock", file(0o600, Vec::new()), at.clone());
        }
        if let Some(system) = &self.profile {
            if !closure.paths().any(|path| path.to_string() == *system) {
                let error = Error::new(Kind::Manifest, "the system of the profile is not in the closure")
                    .found(system);
                return Err(definition.place(error, "NixProfile"));
            }
            let link = |to: &str| Payload::Symlink { to: to.to_owned(), meta: meta(0o777) };
            let folder = "/nix/var/nix/profiles";
            filled.add(&format!("{folder}/system-1-link"), link(system), at.clone());
            // Relative, as nix-env makes it, so that the profile can be moved.
            filled.add(&format!("{folder}/system"), link("system-1-link"), at.clone());
            filled.add("/nix/var/nix/gcroots/profiles", link(folder), at);
        }
        Ok(())
    }
}
