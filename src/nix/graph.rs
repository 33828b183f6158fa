//! JSON of Nix about a closure: `exportReferencesGraph` under structured attributes, and `nix path-info
//! --json`.
//!
//! | shape | who writes it |
//! |---|---|
//! | `{"closure": [{"path": …, "narHash": …}], "exportReferencesGraph": {"closure": […]}, …}` | Nix, as `.attrs.json` of a build |
//! | `[{"path": …, "narHash": …}]` | a graph by itself; `nix path-info --json` before 2.19 |
//! | `{"/nix/store/…": {"narHash": …}}` | `nix path-info --json`, format 1 |
//! | `{"version": 2, "storeDir": …, "info": {"…": {"narHash": …}}}` | `nix path-info --json`, formats 2 and 3 |

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Visitor};
use serde_json::value::RawValue;

use super::closure::Facts;
use super::hash::{NarHash, nix32};
use super::store::{STORE, StorePath, shown};
use crate::encoding::from_base64;
use crate::error::{Error, Kind, Result};
use crate::text::line_at;

/// A JSON object whose values are still text.
type Object<'a> = BTreeMap<String, &'a RawValue>;

/// The formats of `nix path-info --json` that can be read (Nix 2.36, `path-info.cc`). A later one may give
/// the same words another meaning.
const FORMATS: std::ops::RangeInclusive<u64> = 1..=3;

/// The store paths in a JSON text, with what it says about each.
///
/// # Errors
/// [`Kind::Manifest`] with the file, the line and what was expected.
pub(super) fn parse(bytes: &[u8], file: &Path) -> Result<Vec<(StorePath, Facts)>> {
    let text = str::from_utf8(bytes).map_err(|error| {
        Error::new(Kind::Manifest, "the closure's JSON is no UTF-8")
            .at_offset(file, crate::units::u64_of(error.valid_up_to()))
    })?;
    let document = Document { text, file };
    if text.trim_ascii_start().starts_with('[') {
        return document.list(text);
    }
    let top: Object<'_> = document.read(text)?;
    if let Some(version) = version(&top) {
        document.known(version)?;
        if let Some(store) = top.get("storeDir") {
            document.own_store(&document.read::<String>(store.get())?)?;
        }
        let info = top.get("info").ok_or_else(|| {
            let keys: Vec<&str> = top.keys().map(String::as_str).collect();
            Error::new(Kind::Manifest, "the JSON holds no closure")
                .at(file)
                .expected(format!("a key `info`, as format {version} has it"))
                .found(format!("these keys: {}", shown(keys.join(", ").as_bytes())))
        })?;
        return document.map(info.get());
    }
    if top.keys().any(|key| key.starts_with('/')) {
        return document.map(text);
    }
    document.list(document.graph(&top)?.get())
}

/// The version of a document, if it has one: a number, and not an attribute of a build with that name.
fn version(top: &Object<'_>) -> Option<u64> {
    let version = top.get("version").filter(|_| !top.contains_key("exportReferencesGraph"))?;
    serde_json::from_str(version.get()).ok()
}

/// A JSON text and the name of its file.
struct Document<'a> {
    text: &'a str,
    file: &'a Path,
}

impl<'a> Document<'a> {
    /// Reads `part` of the text.
    fn read<T: Deserialize<'a>>(&self, part: &'a str) -> Result<T> {
        serde_json::from_str(part).map_err(|error| self.wrong(part, &error))
    }

    /// Turns an error in `part` of the text into an error with a line of the whole text.
    fn wrong(&self, part: &str, error: &serde_json::Error) -> Error {
        let start = part.as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
        let before: usize =
            part.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
        // The column counts bytes, and is that of the last byte that was read.
        let at = (start + before + error.column()).saturating_sub(1).min(self.text.len());
        let line = line_at(self.text, at);
        let message = error.to_string();
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
        Error::new(Kind::Manifest, "the closure's JSON does not parse")
            .at_line(self.file, line.number, line.text)
            .found(format!("{message}, at column {}", error.column()))
    }

    /// Refuses an unknown format.
    fn known(&self, version: u64) -> Result<()> {
        if FORMATS.contains(&version) {
            return Ok(());
        }
        Err(Error::new(Kind::Manifest, "the closure's JSON is of a format that is not known")
            .at(self.file)
            .expected(format!("a version from {} to {}", FORMATS.start(), FORMATS.end()))
            .found(format!("version {version}"))
            .hint("`nix path-info --json --json-format 2` writes one that is"))
    }

    /// Refuses a store other than the one of nixpkgs.
    fn own_store(&self, store: &str) -> Result<()> {
        if store == STORE {
            return Ok(());
        }
        Err(Error::new(Kind::Manifest, "the closure is of another store")
            .at(self.file)
            .expected(STORE)
            .found(shown(store.as_bytes())))
    }

    /// The graph in the attributes of a build.
    fn graph<'b>(&self, top: &Object<'b>) -> Result<&'b RawValue> {
        /// Whether it is a list whose first element is an object with a path.
        fn is_graph(value: &RawValue) -> bool {
            #[derive(Deserialize)]
            struct Probe {
                #[serde(rename = "path")]
                _path: serde::de::IgnoredAny,
            }
            serde_json::from_str::<Vec<Probe>>(value.get()).is_ok_and(|list| !list.is_empty())
        }
        // The attributes of a build name their graphs.
        let named: Option<Object<'b>> =
            top.get("exportReferencesGraph").and_then(|value| serde_json::from_str(value.get()).ok());
        let is_named = |name: &str| named.as_ref().is_none_or(|named| named.contains_key(name));
        let mut graphs = top.iter().filter(|(name, value)| is_named(name) && is_graph(value));
        let error = || {
            Error::new(Kind::Manifest, "the JSON holds no closure").at(self.file).expected(
                "a graph of exportReferencesGraph called `closure`, or what `nix path-info --json` prints",
            )
        };
        if let Some(closure) = top.get("closure").filter(|_| is_named("closure")) {
            return Ok(closure);
        }
        match (graphs.next(), graphs.next()) {
            (Some((_, graph)), None) => Ok(graph),
            (Some((first, _)), Some((second, _))) => {
                let names: Vec<&str> = [first, second]
                    .into_iter()
                    .chain(graphs.map(|(name, _)| name))
                    .map(String::as_str)
                    .collect();
                Err(error().found(format!("several graphs: {}", shown(names.join(", ").as_bytes()))))
            }
            _ => {
                let keys: Vec<&str> = top.keys().map(String::as_str).collect();
                Err(error().found(format!("these keys: {}", shown(keys.join(", ").as_bytes()))))
            }
        }
    }

    /// A list of paths; each element contains its path.
    fn list(&self, part: &'a str) -> Result<Vec<(StorePath, Facts)>> {
        let list: Vec<Info> = self.read(part)?;
        let each = list.into_iter().map(|info| {
            let path = info.path.clone().map(|Name(path)| path).ok_or_else(|| {
                Error::new(Kind::Manifest, "an entry of the closure's JSON has no path")
                    .at(self.file)
                    .expected("a key `path`")
            })?;
            let facts = self.facts(&path, info)?;
            Ok((path, facts))
        });
        each.collect()
    }

    /// A map from paths to what is known about them.
    fn map(&self, part: &'a str) -> Result<Vec<(StorePath, Facts)>> {
        let map: Members = self.read(part)?;
        let each = map.0.into_iter().map(|(path, info)| {
            let facts = self.facts(&path, info.unwrap_or_default())?;
            Ok((path, facts))
        });
        each.collect()
    }

    fn facts(&self, path: &StorePath, info: Info) -> Result<Facts> {
        info.version.map_or(Ok(()), |version| self.known(version))?;
        info.store_dir.map_or(Ok(()), |store| self.own_store(&store))?;
        let (Some(Hash(nar_hash)), Some(nar_size), Some(references)) =
            (info.nar_hash, info.nar_size, info.references)
        else {
            return Err(Error::new(
                Kind::Manifest,
                "the closure's JSON does not say what Nix knows of a store path",
            )
            .at(self.file)
            .expected("`narHash`, `narSize` and `references`")
            .found(path)
            .hint("a path that is not valid in its store has none; `nix-store --realise` makes it so"));
        };
        Ok(Facts {
            deriver: info.deriver.map(|Name(path)| path),
            references: references.into_iter().map(|Name(path)| path).collect(),
            ca: info.ca.map(|Ca(ca)| ca),
            signatures: info.signatures.into_iter().map(|Signature(signature)| signature).collect(),
            ultimate: info.ultimate,
            ..Facts::new(nar_hash, nar_size)
        })
    }
}

/// What is said about one path. Other keys (`valid`, `closureSize`, `registrationTime`) are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Info {
    path: Option<Name>,
    nar_hash: Option<Hash>,
    nar_size: Option<u64>,
    references: Option<Vec<Name>>,
    deriver: Option<Name>,
    ca: Option<Ca>,
    signatures: Vec<Signature>,
    ultimate: bool,
    store_dir: Option<String>,
    version: Option<u64>,
}

/// A map of paths; the value is `null` if the store does not have the path.
#[derive(Debug)]
struct Members(Vec<(StorePath, Option<Info>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of store paths")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                // A key that occurs twice makes two entries, which may contradict each other.
                while let Some((Name(path), info)) = map.next_entry()? {
                    members.push((path, info));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Map)
    }
}

/// A store path: whole in format 1, its base name from format 2 on.
#[derive(Clone, Debug)]
struct Name(StorePath);

/// A hash of an archive.
#[derive(Clone, Copy, Debug)]
struct Hash(NarHash);

/// Parses a text by a function. An error of the function becomes an error at that place of the JSON.
struct Text<F>(&'static str, F);

impl<T, F: FnOnce(&str) -> Result<T>> Visitor<'_> for Text<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.1)(text).map_err(|error| E::custom(error.to_string().replace("\n  ", ", ")))
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text("a store path", |text: &str| match text.starts_with('/') {
            true => text.parse().map(Self),
            false => StorePath::from_base_name(text).map(Self),
        }))
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text("the SHA-256 of an archive", |text: &str| text.parse().map(Self)))
    }
}

/// How a name follows from contents, as the database has it: a text in format 1, an object from format 2 on.
#[derive(Debug)]
struct Ca(String);

impl<'de> Deserialize<'de> for Ca {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Spelling {
            Text(String),
            Object { method: String, hash: String },
        }
        let (method, hash) = match Spelling::deserialize(deserializer)? {
            Spelling::Text(text) => return Ok(Self(text)),
            Spelling::Object { method, hash } => (method, hash),
        };
        let prefix = match method.as_str() {
            "nar" => "fixed:r:",
            "flat" => "fixed:",
            "text" => "text:",
            "git" => "fixed:git:",
            _ => return Err(D::Error::custom(format!("unknown method `{}`", shown(method.as_bytes())))),
        };
        let parts = hash.split_once('-');
        let bytes = parts.and_then(|(algorithm, digits)| Some((algorithm, from_base64(digits.as_bytes())?)));
        match bytes {
            Some((algorithm, bytes)) => Ok(Self(format!("{prefix}{algorithm}:{}", nix32(&bytes)))),
            None => Err(D::Error::custom(format!("not ALGORITHM-BASE64: `{}`", shown(hash.as_bytes())))),
        }
    }
}

/// A signature as the database has it: a text up to format 2, an object from format 3 on.
#[derive(Debug)]
struct Signature(String);

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Spelling {
            Text(String),
            Object {
                #[serde(rename = "keyName")]
                key: String,
                sig: String,
            },
        }
        Ok(Self(match Spelling::deserialize(deserializer)? {
            Spelling::Text(text) => text,
            Spelling::Object { key, sig } => format!("{key}:{sig}"),
        }))
    }
}
