//! The manifest that a user wrote, read with errors that name file, line and value.
//!
//! [`schema`] has the keys, [`resolve`] their meaning, and [`locate`] their places in the text.

mod checked;
pub mod locate;
mod output;
mod refusal;
pub mod resolve;
pub mod schema;
mod strict;
#[cfg(test)]
mod tests;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Description, seed};
use crate::disk::Work;
use crate::error::{Error, Kind, Result};
use crate::key::KeyPath;
use locate::{Index, Spelling};

/// A manifest: its values, their places in the text, and the folder of relative paths.
#[derive(Debug)]
pub struct Manifest {
    /// What was written.
    pub written: schema::Manifest,
    /// The folder at which relative paths begin.
    folder: PathBuf,
    text: Option<Text>,
}

/// The text of a manifest.
#[derive(Debug)]
struct Text {
    /// Its name in errors.
    name: PathBuf,
    text: String,
    index: Index,
}

/// The largest manifest that is read, in bytes. A manifest with a million entries has 100 MiB.
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

    /// Reads a manifest from `input`. Errors call it `name`. It is JSON if that name ends in `.json` or the
    /// first character of the text is `{`. Relative paths in it are relative to `folder`.
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
            let line = crate::text::line_of_bytes(error.as_bytes(), offset);
            Error::new(Kind::Manifest, format!("the manifest is not UTF-8 text: byte {offset}")).at_line(
                name,
                line.number,
                line.text,
            )
        })?;
        Self::parse(text, name, folder)
    }

    /// As [`Manifest::read`], for a text.
    ///
    /// # Errors
    /// As [`Manifest::load`].
    pub fn parse(mut text: String, name: &Path, folder: &Path) -> Result<Self> {
        // Some editors begin a file with this mark. TOML skips it; JSON leaves that to the reader (RFC 8259,
        // 8.1).
        if text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        let json = name.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("json"))
            || text.trim_start().starts_with('{');
        let spelling = if json { Spelling::Json } else { Spelling::Toml };
        let written = refusal::parse(&text, spelling, name)?;
        let index = Index::new(&text, spelling);
        let manifest = Self {
            written,
            folder: folder.to_owned(),
            text: Some(Text { name: name.to_owned(), text, index }),
        };
        for (number, partition) in manifest.written.partition.iter().enumerate() {
            if let Some(fault) = partition.filesystem.as_ref().and_then(|filesystem| filesystem.fault()) {
                let path = KeyPath::top("partition").index(number).key("filesystem");
                let error = refusal::error(&fault.message, spelling);
                let error = match fault.in_which() {
                    Some(kind) => error.found(format!("a filesystem with {kind}")),
                    None => error,
                };
                return Err(manifest.place(error, &fault.path(&path)));
            }
        }
        Ok(manifest)
    }

    /// A manifest that did not come from text. Relative paths begin at `folder`.
    #[must_use]
    pub fn new(written: schema::Manifest, folder: &Path) -> Self {
        Self { written, folder: folder.to_owned(), text: None }
    }

    /// The folder at which relative paths begin.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `path` as seen from the current directory: relative paths begin at the manifest's folder.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        if self.folder == Path::new(".") { PathBuf::from(path) } else { self.folder.join(path) }
    }

    /// Adds the line of `path` to an error; without a text, `path` itself.
    #[must_use]
    pub fn place(&self, error: Error, path: &KeyPath) -> Error {
        match &self.text {
            Some(text) => {
                let line = crate::text::line_at(&text.text, text.index.offset(path));
                error.at_line(&text.name, line.number, line.text)
            }
            None => error.at_key(path),
        }
    }

    /// Whether the size at `path` was written without a unit.
    fn is_number_alone(&self, path: &KeyPath) -> bool {
        let value = self.text.as_ref().and_then(|text| text.text.get(text.index.offset(path)..));
        value
            .and_then(|value| value.split([',', '}', '\n']).next())
            .is_some_and(|value| !value.contains("iB"))
    }

    /// A new error at `path`.
    #[must_use]
    pub fn refuse(&self, path: &KeyPath, what: impl Into<String>) -> Error {
        self.place(Error::new(Kind::Manifest, what), path)
    }

    /// Replaces the keys that an error names by their lines. An error about what is in no text may be about a flag.
    fn place_keys(&self, error: Error) -> Error {
        let error = error.find_keys(|error, key| self.place(error, key));
        if error.is_in_text() { error.spelled(|_| Some(crate::option::Spelling::Key)) } else { error }
    }

    /// A short name of the value at `path`: `contents[2] (disk.toml:14)`.
    fn describe_key(&self, path: &KeyPath) -> String {
        match &self.text {
            Some(text) => {
                let name = crate::text::printable_path(&text.name);
                format!("{path} ({name}:{})", text.index.line(path))
            }
            None => path.to_string(),
        }
    }

    /// What the manifest says, independent of its syntax, order of keys and comments. It is JSON with sorted
    /// keys and no spaces, and sizes in their shortest form. It omits missing keys, and keys about the output
    /// file, because those do not change the disk. Without a given seed, the seed derives from this.
    #[must_use]
    pub fn canonical(&self) -> String {
        seed::canonical(&self.said())
    }

    /// What the manifest says about the disk, as a value.
    fn said(&self) -> serde_json::Value {
        let mut written = self.written.clone();
        written.disk = written.disk.without_settings();
        written.output.clear();
        for filesystem in written.partition.iter_mut().filter_map(|partition| partition.filesystem.as_mut()) {
            if let Some(spec) = filesystem.get() {
                *filesystem = checked::Checked::new(spec.without_way());
            }
        }
        // Keys are texts, and values are numbers, texts, truth values and lists, so this cannot fail.
        serde_json::to_value(&written).unwrap_or_default()
    }

    /// The disk that the manifest describes. `epoch` is the value of SOURCE_DATE_EPOCH, if it is set. For a NixOS system this
    /// reads the closure and the files that boot it; for definitions of systemd-repart it builds what is minimized, as `work`
    /// says.
    ///
    /// # Errors
    /// [`Kind::Manifest`] with the line for parts that do not fit together; as
    /// [`nixos::describe`](super::nixos::describe) for a NixOS system, and as [`repart::prepare`](super::repart::prepare) for
    /// definitions of systemd-repart.
    pub fn describe(self, epoch: Option<i64>, work: &Work) -> Result<Description> {
        let outputs = output::outputs(&self)?;
        let size_multiple = self.written.disk.size_multiple;
        let mut description = resolve::describe(Arc::new(self), epoch, work)?;
        description.outputs = outputs;
        description.disk.size_multiple = size_multiple;
        Ok(description)
    }
}
