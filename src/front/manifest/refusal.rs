//! From text to the schema, and from the parsers' errors to ours: a line, the value, and the key that was
//! probably meant.

use std::path::Path;

use serde::Deserialize;

use super::locate::Spelling;
use super::schema;
use super::strict::Strict;
use crate::error::{Error, Kind, Result};
use crate::filesystem::unwritten;
use crate::text::{Line, line_at, nearest, offset_of, printable};

/// The version alone. It is read first, because a manifest of another version may have other keys.
#[derive(Deserialize)]
struct Version {
    version: Option<i64>,
}

/// Reads `text`; errors call it `name`.
pub(super) fn parse(text: &str, spelling: Spelling, name: &Path) -> Result<schema::Manifest> {
    if let Ok(Version { version: Some(version) }) = read::<Version>(text, spelling)
        && version != 1
    {
        let index = super::Index::new(text, spelling);
        let line = line_at(text, index.offset(&super::KeyPath::top("version")));
        return Err(Error::new(Kind::Manifest, "the manifest is of a version that is not known here")
            .at_line(name, line.number, line.text)
            .expected("version = 1")
            .found(version));
    }
    read(text, spelling).map_err(|fault| {
        let error = fault.into_error(name, spelling);
        match spelling == Spelling::Toml && is_yaml(text) {
            true => error.hint("this looks like YAML; a manifest is TOML or JSON: version = 1"),
            false => error,
        }
    })
}

/// The message of a parser, and its place.
struct Fault {
    message: String,
    line: Line,
    /// Whether it is about a TOML date, which the parser passes on as a table.
    date: bool,
}

fn read<T: for<'de> Deserialize<'de>>(text: &str, spelling: Spelling) -> Result<T, Fault> {
    let Strict(value) = match spelling {
        Spelling::Toml => toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let date = text.as_bytes().get(start).is_some_and(u8::is_ascii_digit);
            Fault { message: error.message().to_owned(), line: line_at(text, start), date }
        }),
        Spelling::Json => serde_json::from_str(text).map_err(|error| {
            let message = error.to_string();
            let place = format!(" at line {} column {}", error.line(), error.column());
            Fault {
                message: message.strip_suffix(&place).unwrap_or(&message).to_owned(),
                line: line_at(text, offset_of(text, error.line(), error.column())),
                date: false,
            }
        }),
    }?;
    Ok(value)
}

impl Fault {
    fn into_error(self, name: &Path, spelling: Spelling) -> Error {
        // A TOML date comes from the parser as a table.
        let message = match self.date {
            true => self.message.replacen("invalid type: map", "invalid type: a date", 1),
            false => self.message,
        };
        let hint = brackets(&message, &self.line.text);
        error(&message, spelling).at_line(name, self.line.number, self.line.text).or_hint(hint)
    }
}

/// What to write in place of the header `line` of a table, where `message` wants several tables or one.
fn brackets(message: &str, line: &str) -> Option<String> {
    let (found, expected) = typed(message)?;
    let name = line.trim_start_matches('[').split([']', '.']).next()?.trim();
    let is_one = ["disk", "boot", "nixos", "repart"].contains(&name) || expected == "a table";
    match (found.as_str(), expected.as_str()) {
        ("a table", "an array") if line.starts_with('[') => {
            Some(format!("write [[{name}]]: there may be several"))
        }
        ("a table" | "an array", _) if line.starts_with("[[") && is_one => {
            Some(format!("write [{name}]: there is one"))
        }
        _ => None,
    }
}

/// Translates messages of the parsers. A message with unknown wording is passed on as it is.
pub(super) fn error(message: &str, spelling: Spelling) -> Error {
    let message = printable(message.as_bytes());
    if let Some((key, known)) = named(&message, "unknown field `") {
        let error = Error::new(Kind::Manifest, format!("unknown key `{key}`"));
        suggest(error, &key, &known)
    } else if let Some((value, known)) = named(&message, "unknown variant `") {
        let error = Error::new(Kind::Manifest, format!("bad value `{value}`"));
        match other_name(&value, &known) {
            Some(hint) => error.expected(format!("one of {}", known.join(", "))).hint(hint),
            None => suggest(error, &value, &known),
        }
    } else if let Some(key) = quoted(&message, "missing field `") {
        let error = Error::new(Kind::Manifest, format!("the key `{key}` is missing"));
        match key.as_str() {
            "version" => error.hint("begin the manifest with: version = 1"),
            _ => error,
        }
    } else if let Some(key) = quoted(&message, "duplicate field `") {
        Error::new(Kind::Manifest, format!("the key `{key}` stands here twice"))
    } else if let Some((found, expected)) = typed(&message) {
        Error::new(Kind::Manifest, "a value of the wrong type").expected(expected).found(found)
    } else if message.starts_with("bad value `") {
        let hint = other_table(&message);
        Error::new(Kind::Manifest, message).or_hint(hint)
    } else {
        let kind = match spelling {
            Spelling::Toml => "TOML",
            Spelling::Json => "JSON",
        };
        Error::new(Kind::Manifest, format!("the manifest is not correct {kind}: {message}"))
    }
}

/// What to write for the type of a filesystem, one of `known`, if `value` is another name of it, or that of one that is not
/// written.
fn other_name(value: &str, known: &[String]) -> Option<String> {
    if !known.iter().any(|known| known == "vfat") {
        return None;
    }
    let own = match value.to_ascii_lowercase().as_str() {
        "linux-swap" => "write type = \"swap\"",
        "fat" | "msdos" | "dos" => "write type = \"vfat\"",
        "fat12" => "write type = \"vfat\" and fat = 12",
        "fat16" => "write type = \"vfat\" and fat = 16",
        "fat32" => "write type = \"vfat\" and fat = 32",
        other => {
            return unwritten(other).map(|name| {
                format!("{name} is not written here: make it by its own mkfs, and take its file by `image`")
            });
        }
    };
    Some(own.to_owned())
}

/// What to write for the table of a disk, if `message` refuses another name of it.
fn other_table(message: &str) -> Option<&'static str> {
    let (value, known) = message.strip_prefix("bad value `")?.split_once('`')?;
    if !known.contains("a partition table is") {
        return None;
    }
    match value.to_ascii_lowercase().as_str() {
        "mbr" | "dos" | "msdos" | "bios" => Some("write table = \"mbr\""),
        "gpt" | "efi" | "uefi" | "guid" => Some("write table = \"gpt\""),
        "hybrid" => Some("write table = \"gpt\", and hybrid = [1] for the partitions that the MBR shows too"),
        "none" | "loop" | "raw" => Some("write table = \"none\""),
        _ => None,
    }
}

/// Whether a text that does not parse was meant as YAML: its first line with content is a key with a colon
/// and without quotes, or the mark of a document.
fn is_yaml(text: &str) -> bool {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    first.is_some_and(|line| {
        let key = line.split_once(':').map(|(key, rest)| (key, rest.is_empty() || rest.starts_with(' ')));
        line == "---"
            || line == "-"
            || ["--- ", "- ", "%YAML"].iter().any(|start| line.starts_with(start))
            || key.is_some_and(|(key, apart)| {
                apart
                    && !key.is_empty()
                    && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            })
    })
}

/// The name in ``unknown field `x`, expected one of `a`, `b` `` and the known ones.
fn named(message: &str, prefix: &str) -> Option<(String, Vec<String>)> {
    let rest = message.strip_prefix(prefix)?;
    let (name, known) = rest.split_once("`, expected ").or_else(|| rest.split_once("`, there are "))?;
    let known = known.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    Some((name.to_owned(), known))
}

fn quoted(message: &str, prefix: &str) -> Option<String> {
    message.strip_prefix(prefix)?.strip_suffix('`').map(str::to_owned)
}

/// What was found and expected in ``invalid type: integer `5`, expected a string``.
fn typed(message: &str) -> Option<(String, String)> {
    let rest = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "))?;
    let (found, expected) = rest.rsplit_once(", expected ")?;
    // The reader does not need to know the widest type that the parser tried.
    let found = found.trim_end_matches(" as i128").trim_end_matches(" as u128");
    Some((plain(found), plain(expected)))
}

/// A parser's word for a type, as the author of a manifest would say it.
fn plain(word: &str) -> String {
    match word {
        "map" => "a table".to_owned(),
        "sequence" | "a sequence" => "an array".to_owned(),
        "i64" => format!("a whole number from {} to {}", i64::MIN, i64::MAX),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" => format!("a whole number from 0 to {}", i64::MAX),
        word if word.starts_with("struct ") => "a table".to_owned(),
        word => word.to_owned(),
    }
}

/// Adds the word that was probably meant, and the known words.
fn suggest(error: Error, name: &str, known: &[String]) -> Error {
    let error = match known {
        [] => error,
        _ => error.expected(format!("one of {}", known.join(", "))),
    };
    // Keys are written with underscores here and with dashes elsewhere.
    let near = nearest(&name.to_lowercase().replace('-', "_"), known.iter().map(String::as_str));
    error.or_hint(near.map(|near| format!("did you mean `{near}`?")))
}

#[cfg(test)]
mod tests {
    use super::is_yaml;

    #[test]
    fn yaml_is_told_from_a_slip_in_toml() {
        for text in [
            "version: 1\n",
            "# a disk\n\nversion: 1",
            "---\n",
            "disk:\n  size: 1",
            "- a\n- b\n",
            "%YAML 1.2\n---\n",
        ] {
            assert!(is_yaml(text), "{text}");
        }
        for text in ["version = 1", "[disk", "version 1", "\"a\": 1", "x = \"a: b\"", "-1", ""] {
            assert!(!is_yaml(text), "{text}");
        }
    }
}
