//! The manifest: what the user wrote, read with errors that name file, line and value.
//!
//! [`schema`] is what may be written, [`resolve`] what it means, [`locate`] where it stands.

pub mod locate;
mod refusal;
pub mod resolve;
pub mod schema;
mod strict;
#[cfg(test)]
mod tests;
pub mod values;

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use locate::{Index, KeyPath, Spelling};

/// A manifest that was read: what it says, where it stands, and what its relative paths are relative to.
#[derive(Debug)]
pub struct Manifest {
    /// What was written.
    pub written: schema::Manifest,
    /// Relative paths begin here.
    folder: PathBuf,
    text: Option<Text>,
}

/// The text of a manifest.
#[derive(Debug)]
struct Text {
    /// The name it has in errors.
    name: PathBuf,
    text: String,
    index: Index,
}

/// The largest manifest that is read, in bytes: one with a million entries has 100 MiB.
const LARGEST: u64 = 1 << 30;

impl Manifest {
    /// Reads the file `path`. Relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// [`Kind::Manifest`] for a file that is missing, unreadable, not UTF-8, not TOML or JSON, or not a manifest.
    pub fn load(path: &Path) -> Result<Self> {
        let file = std::fs::File::open(path)
            .map_err(|error| Error::io(Kind::Manifest, "cannot read the manifest", path, error))?;
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        Self::read(file, path, folder)
    }

    /// Reads a manifest from `input`. It is called `name` in errors, whose suffix `.json` tells the spelling; else a
    /// first byte `{` does. Relative paths in it are relative to `folder`.
    ///
    /// # Errors
    /// As [`Manifest::load`].
    pub fn read(input: impl Read, name: &Path, folder: &Path) -> Result<Self> {
        let mut bytes = Vec::new();
        let length = input
            .take(LARGEST)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::io(Kind::Manifest, "cannot read the manifest", name, error))?;
        if crate::units::u64_of(length) == LARGEST {
            return Err(Error::new(Kind::Manifest, "the manifest is too large")
                .at(name)
                .expected("less than 1 GiB"));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let offset = error.utf8_error().valid_up_to();
            let line = locate::line_of_bytes(error.as_bytes(), offset);
            Error::new(Kind::Manifest, format!("the manifest is not UTF-8 text: byte {offset}")).at_line(
                name,
                line.number,
                line.text,
            )
        })?;
        Self::parse(text, name, folder)
    }

    /// As [`Manifest::read`], of a text.
    ///
    /// # Errors
    /// As [`Manifest::load`].
    pub fn parse(mut text: String, name: &Path, folder: &Path) -> Result<Self> {
        // Some editors begin a file with this mark; TOML skips it, JSON leaves that to its readers (RFC 8259, 8.1).
        if text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        let json = name.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("json"))
            || text.trim_start().starts_with('{');
        let spelling = if json { Spelling::Json } else { Spelling::Toml };
        let written = refusal::parse(&text, spelling, name)?;
        let index = Index::new(&text, spelling);
        Ok(Self {
            written,
            folder: folder.to_owned(),
            text: Some(Text { name: name.to_owned(), text, index }),
        })
    }

    /// A manifest that was never text; relative paths begin at `folder`.
    #[must_use]
    pub fn new(written: schema::Manifest, folder: &Path) -> Self {
        Self { written, folder: folder.to_owned(), text: None }
    }

    /// What relative paths are relative to.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `path` as it is from here: relative paths begin at the manifest's folder.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        if self.folder == Path::new(".") { PathBuf::from(path) } else { self.folder.join(path) }
    }

    /// Adds the line of `path` to an error; where there is no text, the flag that stands for it, if one does.
    #[must_use]
    pub fn place(&self, error: Error, path: &KeyPath) -> Error {
        match &self.text {
            Some(text) => {
                let line = locate::line_at(&text.text, text.index.offset(path));
                error.at_line(&text.name, line.number, line.text)
            }
            None => match path.flag() {
                Some(flag) => error.at_flag(flag),
                None => error,
            },
        }
    }

    /// A new error at `path`.
    #[must_use]
    pub fn refuse(&self, path: &KeyPath, what: impl Into<String>) -> Error {
        self.place(Error::new(Kind::Manifest, what), path)
    }

    /// A short name of the value at `path`: `contents[2] (disk.toml:14)`.
    #[must_use]
    pub fn describe(&self, path: &KeyPath) -> String {
        match &self.text {
            Some(text) => {
                let name = crate::text::printable_path(&text.name);
                format!("{path} ({name}:{})", text.index.line(path))
            }
            None => path.to_string(),
        }
    }

    /// What the manifest says, whatever its spelling, order of keys and comments: JSON with sorted keys and no spaces,
    /// sizes in their shortest form, without what is not written, and without the format of the output file, which does
    /// not change the disk. A seed that is not given derives from it.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut written = self.written.clone();
        written.disk.format = None;
        let mut out = String::new();
        if let Ok(value) = serde_json::to_value(&written) {
            canonical(&value, &mut out);
        }
        out
    }
}

/// Writes `value` with sorted keys, whether or not the map of this build keeps them so.
fn canonical(value: &serde_json::Value, out: &mut String) {
    let list = |open: char, close: char, parts: Vec<String>| format!("{open}{}{close}", parts.join(","));
    let text = match value {
        serde_json::Value::Object(map) => {
            let sorted: std::collections::BTreeMap<_, _> = map.iter().collect();
            let parts = sorted.into_iter().map(|(key, value)| {
                let mut part = format!("{}:", serde_json::Value::from(key.as_str()));
                canonical(value, &mut part);
                part
            });
            list('{', '}', parts.collect())
        }
        serde_json::Value::Array(array) => {
            let parts = array.iter().map(|value| {
                let mut part = String::new();
                canonical(value, &mut part);
                part
            });
            list('[', ']', parts.collect())
        }
        plain => plain.to_string(),
    };
    out.push_str(&text);
}
