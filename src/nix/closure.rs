//! A closure: store paths and what Nix knows about each, from any of Nix's formats.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use super::hash::NarHash;
use super::store::{Store, StorePath, shown};
use super::{derivation, graph, registration};
use crate::error::{Error, Kind, Result};
use crate::units::{GIB, u64_of};

/// What Nix knows about a store path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// SHA-256 of its archive ([`nar`](super::nar)).
    pub nar_hash: NarHash,
    /// Length of its archive in bytes.
    pub nar_size: u64,
    /// The derivation that it came from; it need not be in the closure.
    pub deriver: Option<StorePath>,
    /// The store paths whose hashes occur in its files. It may contain the store path itself.
    pub references: BTreeSet<StorePath>,
    /// How its name follows from its contents, if it does: `fixed:r:sha256:…`.
    pub ca: Option<String>,
    /// Signatures, `NAME:BASE64`.
    pub signatures: BTreeSet<String>,
    /// Whether it was built on the host rather than fetched.
    pub ultimate: bool,
    /// The store paths that a derivation makes, by the names of its outputs.
    pub outputs: BTreeMap<String, StorePath>,
}

impl Facts {
    /// A hash and a size; no references and nothing else.
    #[must_use]
    pub const fn new(nar_hash: NarHash, nar_size: u64) -> Self {
        Self {
            nar_hash,
            nar_size,
            deriver: None,
            references: BTreeSet::new(),
            ca: None,
            signatures: BTreeSet::new(),
            ultimate: false,
            outputs: BTreeMap::new(),
        }
    }

    /// Adds what `other` knows about the same path. It may fill in what is missing here.
    ///
    /// # Errors
    /// The contradiction, as name, own value, other value.
    fn join(&mut self, other: Self) -> Result<(), [String; 3]> {
        let contradiction = |what: &str, own: String, other: String| Err([what.to_owned(), own, other]);
        if self.nar_hash != other.nar_hash {
            return contradiction("hash", self.nar_hash.to_string(), other.nar_hash.to_string());
        }
        if self.nar_size != other.nar_size {
            return contradiction("size", self.nar_size.to_string(), other.nar_size.to_string());
        }
        if let Some(only) = self.references.symmetric_difference(&other.references).next() {
            let has = |with: bool| format!("{} {only}", if with { "with" } else { "without" });
            let own = self.references.contains(only);
            return contradiction("references", has(own), has(!own));
        }
        if let (Some(own), Some(other)) = (&self.deriver, &other.deriver)
            && own != other
        {
            return contradiction("deriver", own.to_string(), other.to_string());
        }
        if let (Some(own), Some(other)) = (&self.ca, &other.ca)
            && own != other
        {
            return contradiction("ca", shown(own.as_bytes()), shown(other.as_bytes()));
        }
        self.deriver = self.deriver.take().or(other.deriver);
        self.ca = self.ca.take().or(other.ca);
        self.signatures.extend(other.signatures);
        self.ultimate |= other.ultimate;
        self.outputs.extend(other.outputs);
        Ok(())
    }
}

/// Store paths in the order of their base names, each with what Nix knows about it; `None` if only its name
/// is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closure {
    members: BTreeMap<StorePath, Option<Facts>>,
}

impl Closure {
    /// The closure that `path` describes: a directory of closureInfo (`store-paths` and `registration`); a
    /// registration (closureInfo's, or the output of `nix-store --dump-db`); a list of store paths (the
    /// output of `nix-store -qR`), with names only; or JSON, which Nix writes for `exportReferencesGraph`
    /// under structured attributes, and which `nix path-info --json` prints.
    /// prints.
    ///
    /// # Errors
    /// [`Kind::Manifest`] with the file, line and text for anything that does not parse, for a reference that
    /// is not in the closure, for contradictions about a path, and for lists that disagree; [`Kind::Source`]
    /// for a file that is missing or unreadable.
    pub fn load(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Self::load_pair(&path.join("store-paths"), &path.join("registration"));
        }
        let bytes = read(path, "closure")?;
        let lines = || bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        if matches!(bytes.trim_ascii_start(), [b'{' | b'[', ..]) {
            Self::from_json(&bytes, path)
        } else if lines().nth(1).is_none_or(|line| line.starts_with(b"/")) {
            Self::from_list(&bytes, path)
        } else {
            Self::from_registration(&bytes, path)
        }
    }

    /// The closure of a list of store paths and the registration of the same paths.
    ///
    /// # Errors
    /// As [`Closure::load`]; also if one of them lacks a path of the other, with the path.
    pub fn load_pair(store_paths: &Path, registration: &Path) -> Result<Self> {
        let list = Self::from_list(&read(store_paths, "closure")?, store_paths)?;
        let closure = Self::from_registration(&read(registration, "closure")?, registration)?;
        for (one, one_file, other, other_file) in
            [(&list, store_paths, &closure, registration), (&closure, registration, &list, store_paths)]
        {
            let mut only = one.paths().filter(|path| !other.contains(path));
            if let Some(first) = only.next() {
                let more = only.count();
                let more = if more == 0 { String::new() } else { format!(", and {more} more") };
                return Err(Error::new(Kind::Manifest, "the closure's two files disagree")
                    .at(one_file)
                    .at(other_file)
                    .expected("the same store paths in both")
                    .found(format!("{first} in the first alone{more}")));
            }
        }
        Ok(closure)
    }

    /// The closure that a registration describes; errors call it `file`.
    ///
    /// # Errors
    /// As [`Closure::load`].
    pub fn from_registration(bytes: &[u8], file: &Path) -> Result<Self> {
        let mut closure = Self::default();
        for (line, path, facts) in registration::parse(bytes, file)? {
            let text = path.to_string();
            closure.add(path, Some(facts)).map_err(|error| error.at_line(file, line, text))?;
        }
        closure.whole(file)?;
        closure.dangling().map_err(|(error, reference)| match line_of(bytes, &reference.to_string()) {
            Some(line) => error.at_line(file, line, reference.to_string()),
            None => error.at(file),
        })?;
        Ok(closure)
    }

    /// The closure that JSON describes; errors call it `file`.
    ///
    /// # Errors
    /// As [`Closure::load`].
    pub fn from_json(bytes: &[u8], file: &Path) -> Result<Self> {
        let mut closure = Self::default();
        for (path, facts) in graph::parse(bytes, file)? {
            closure.add(path, Some(facts)).map_err(|error| error.at(file))?;
        }
        closure.whole(file)?;
        closure.closed().map_err(|error| error.at(file))?;
        Ok(closure)
    }

    /// The store paths of a list with one in each line; empty lines are ignored. Errors call it `file`.
    ///
    /// # Errors
    /// As [`Closure::load`].
    pub fn from_list(bytes: &[u8], file: &Path) -> Result<Self> {
        let mut closure = Self::default();
        for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            if !line.is_empty() {
                let path: Result<StorePath> = String::from_utf8_lossy(line).parse();
                let path = path.map_err(|error| error.at_line(file, number, shown(line)))?;
                closure.members.entry(path).or_default();
            }
        }
        closure.whole(file)?;
        Ok(closure)
    }

    /// Refuses an empty file.
    fn whole(&self, file: &Path) -> Result<()> {
        if self.is_empty() {
            return Err(Error::new(Kind::Manifest, "the closure lists no store path").at(file));
        }
        Ok(())
    }

    /// Adds a store path.
    ///
    /// # Errors
    /// [`Kind::Manifest`] where it exists already and the two contradict each other.
    pub fn add(&mut self, path: StorePath, facts: Option<Facts>) -> Result<()> {
        match (self.members.get_mut(&path), facts) {
            (Some(Some(known)), Some(facts)) => known.join(facts).map_err(|[what, own, other]| {
                Error::new(Kind::Manifest, format!("the closure has two truths about the {what} of {path}"))
                    .expected(own)
                    .found(other)
            }),
            (Some(_), None) => Ok(()),
            (_, facts) => {
                self.members.insert(path, facts);
                Ok(())
            }
        }
    }

    /// Adds all of another closure.
    ///
    /// # Errors
    /// As [`Closure::add`].
    pub fn merge(&mut self, other: Self) -> Result<()> {
        other.members.into_iter().try_for_each(|(path, facts)| self.add(path, facts))
    }

    /// The number of store paths.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether it contains this store path.
    #[must_use]
    pub fn contains(&self, path: &StorePath) -> bool {
        self.members.contains_key(path)
    }

    /// The store paths, by their base names.
    pub fn paths(&self) -> impl Iterator<Item = &StorePath> {
        self.members.keys()
    }

    /// What is known about a store path; `None` if it is not in the closure or only its name is known.
    #[must_use]
    pub fn facts(&self, path: &StorePath) -> Option<&Facts> {
        self.members.get(path).and_then(Option::as_ref)
    }

    /// The first store path with only a name: such a closure gives no database.
    #[must_use]
    pub fn unregistered(&self) -> Option<&StorePath> {
        self.members.iter().find(|(_, facts)| facts.is_none()).map(|(path, _)| path)
    }

    /// The store paths that `wanted` accepts and that are nearest to `from` by references, all at the same
    /// distance. Empty if references are unknown, or none is reached.
    pub fn nearest(&self, from: &StorePath, wanted: impl Fn(&StorePath) -> bool) -> Vec<&StorePath> {
        let mut seen = BTreeSet::from([from]);
        let mut level: Vec<&StorePath> =
            self.members.get_key_value(from).map(|(path, _)| path).into_iter().collect();
        while !level.is_empty() {
            let found: Vec<&StorePath> = level.iter().copied().filter(|path| wanted(path)).collect();
            if !found.is_empty() {
                return found;
            }
            let next = level.iter().flat_map(|path| self.facts(path)).flat_map(|facts| &facts.references);
            let mut next: Vec<&StorePath> = next.collect();
            next.sort();
            next.dedup();
            level = next.into_iter().filter(|path| seen.insert(path)).collect();
        }
        Vec::new()
    }

    /// The store paths with what is known about them, by their base names.
    ///
    /// # Errors
    /// [`Kind::Manifest`] naming the first store path with only a name.
    pub fn registered(&self) -> Result<Vec<(&StorePath, &Facts)>> {
        let each = self.members.iter().map(|(path, facts)| match facts {
            Some(facts) => Ok((path, facts)),
            None => {
                Err(Error::new(Kind::Manifest, "the closure does not say what Nix knows of a store path")
                    .expected("the hash, size and references of each")
                    .found(format!("nothing but the name of {path}"))
                    .hint("give the directory that closureInfo makes, or what `nix-store --dump-db` prints"))
            }
        });
        each.collect()
    }

    /// The total length of all archives: closureInfo's `total-nar-size`.
    #[must_use]
    pub fn nar_size(&self) -> u64 {
        self.members.values().flatten().fold(0, |sum, facts| sum.saturating_add(facts.nar_size))
    }

    /// The closure as `nix-store --dump-db` prints it and `nix-store --load-db` reads it.
    ///
    /// # Errors
    /// As [`Closure::registered`].
    pub fn registration(&self) -> Result<String> {
        Ok(registration::print(self.registered()?.into_iter()))
    }

    /// Checks that every reference is in the closure.
    ///
    /// # Errors
    /// [`Kind::Manifest`] naming the first reference that is not in the closure.
    pub fn closed(&self) -> Result<()> {
        self.dangling().map_err(|(error, _)| error)
    }

    /// As [`Closure::closed`], with the missing reference.
    fn dangling(&self) -> Result<(), (Error, StorePath)> {
        for (path, facts) in &self.members {
            let mut references = facts.iter().flat_map(|facts| &facts.references);
            if let Some(reference) = references.find(|reference| !self.contains(reference)) {
                let error = Error::new(Kind::Manifest, "the closure is not closed: a reference is not in it")
                    .expected(format!("{reference}, to which {path} refers"))
                    .found("no such store path in the closure")
                    .hint("give all that `nix-store -qR` lists");
                return Err((error, reference.clone()));
            }
        }
        Ok(())
    }

    /// Checks that every store path exists on this host.
    ///
    /// # Errors
    /// [`Kind::Source`] naming the first missing one, and the number of the others.
    pub fn present(&self, store: &Store) -> Result<()> {
        let mut missing = Vec::new();
        for path in self.paths() {
            let host = store.host(path);
            match std::fs::symlink_metadata(&host) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => missing.push(host),
                Err(error) => return Err(Error::io(Kind::Source, "cannot read the store path", host, error)),
            }
        }
        let Some(first) = missing.first() else { return Ok(()) };
        let error = Error::new(Kind::Source, "a store path of the closure is missing on this host").at(first);
        Err(match missing.len() - 1 {
            0 => error,
            more => error.found(format!("{more} more of {} missing, too", self.len())),
        }
        .hint("`nix-store --realise` brings it; in a build, the closure must be an input of the derivation"))
    }

    /// Reads the outputs of every derivation in the closure. Nix keeps them in its database, but only the
    /// derivation itself names them.
    ///
    /// # Errors
    /// [`Kind::Source`] where a derivation cannot be read, [`Kind::Manifest`] where it does not parse.
    pub fn read_derivations(&mut self, store: &Store) -> Result<()> {
        for (path, facts) in self.members.iter_mut().filter(|(path, _)| path.is_derivation()) {
            if let Some(facts) = facts {
                let host = store.host(path);
                facts.outputs = derivation::outputs(&read(&host, "derivation")?, &host)?;
            }
        }
        Ok(())
    }
}

/// The first line that is `wanted`, counted from 1.
fn line_of(bytes: &[u8], wanted: &str) -> Option<u64> {
    let lines = bytes.split(|byte| *byte == b'\n');
    (1..).zip(lines).find(|(_, line)| *line == wanted.as_bytes()).map(|(number, _)| number)
}

/// The largest description of a closure, in bytes: a million paths with ten references each need less.
pub(super) const LARGEST: u64 = GIB;

/// Reads a file of at most [`LARGEST`] bytes; `what` names it in errors.
fn read(path: &Path, what: &str) -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let text =
            if missing { format!("the {what} does not exist") } else { format!("cannot read the {what}") };
        Error::io(Kind::Source, text, path, error)
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(failed)?.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64_of(bytes.len()) > LARGEST {
        return Err(Error::new(Kind::Manifest, "the file is too large to describe a closure")
            .at(path)
            .expected("at most 1 GiB"));
    }
    Ok(bytes)
}
