//! Where a key of a manifest stands: from `partition[2].contents[1].target` to a line and what is written there, for
//! both spellings, so that an error found late can still point at its cause.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde_json::value::RawValue;
use toml::de::{DeTable, DeValue};

use crate::text::printable;
use crate::units::u64_of;

/// A step from a value into it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(Cow<'static, str>),
    Index(usize),
}

/// The way from the top of a manifest to a value: `partition[2].contents[1].target`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPath(Vec<Step>);

impl KeyPath {
    /// A key at the top.
    #[must_use]
    pub fn top(key: &'static str) -> Self {
        Self::default().key(key)
    }

    /// The path to `key` of the table that this path leads to.
    #[must_use]
    pub fn key(&self, key: &'static str) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Key(Cow::Borrowed(key)));
        Self(steps)
    }

    /// The path to an element, counted from 0, of the array that this path leads to.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Self(steps)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if number == 0 => write!(f, "{key}")?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// How a manifest is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// TOML.
    Toml,
    /// JSON.
    Json,
}

/// A line of a text, counted from 1, and what stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number.
    pub number: u64,
    /// Its text without indentation; cut where it is long.
    pub text: String,
}

/// The longest text of a line that is shown, in characters.
const LONGEST_LINE: usize = 160;

/// The line that holds byte `offset` of `text`; past the end, the last.
#[must_use]
pub fn line_at(text: &str, offset: usize) -> Line {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    let number = before.iter().filter(|byte| **byte == b'\n').count();
    numbered(text, number)
}

/// Line `number`, counted from 0, of `text`.
fn numbered(text: &str, number: usize) -> Line {
    let line = text.lines().nth(number).unwrap_or("").trim();
    let mut shown = printable(line.as_bytes());
    if let Some((cut, _)) = shown.char_indices().nth(LONGEST_LINE) {
        shown.truncate(cut);
        shown.push('…');
    }
    Line { number: u64_of(number) + 1, text: shown }
}

/// Line `number`, counted from 1, of `text`.
#[must_use]
pub fn line_number(text: &str, number: usize) -> Line {
    numbered(text, number.saturating_sub(1))
}

/// A value with the place of its first byte, or of its key where that is written just before it.
#[derive(Debug, Default)]
struct Located {
    offset: usize,
    keys: BTreeMap<String, Located>,
    elements: Vec<Located>,
}

/// The places of all values of a manifest.
#[derive(Debug)]
pub struct Index {
    top: Located,
    /// Offsets of the line feeds, ascending.
    ends: Vec<usize>,
}

impl Index {
    /// Finds the places in `text`, which parses in `spelling`; in one that does not, nothing is found.
    #[must_use]
    pub fn new(text: &str, spelling: Spelling) -> Self {
        let top = match spelling {
            Spelling::Toml => DeTable::parse(text)
                .map(|table| Located { keys: table_keys(table.get_ref(), text), ..Located::default() })
                .unwrap_or_default(),
            Spelling::Json => serde_json::from_str::<&RawValue>(text)
                .map(|value| json(value.get(), text, 0))
                .unwrap_or_default(),
        };
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect();
        Self { top, ends }
    }

    /// The number, counted from 1, of the line where `path` is written; where it is not written, where the nearest value
    /// above it is.
    #[must_use]
    pub fn line(&self, path: &KeyPath) -> u64 {
        let mut at = &self.top;
        for step in &path.0 {
            let next = match step {
                Step::Key(key) => at.keys.get(key.as_ref()),
                Step::Index(index) => at.elements.get(*index),
            };
            match next {
                Some(next) => at = next,
                None => break,
            }
        }
        u64_of(self.ends.partition_point(|end| *end < at.offset)) + 1
    }
}

fn table_keys(table: &DeTable<'_>, text: &str) -> BTreeMap<String, Located> {
    table
        .iter()
        .map(|(key, value)| {
            let located = toml_value(value.get_ref(), value.span(), Some(key.span()), text);
            (key.get_ref().to_string(), located)
        })
        .collect()
}

fn toml_value(value: &DeValue<'_>, span: Range<usize>, key: Option<Range<usize>>, text: &str) -> Located {
    // A key and its value can be lines apart only where the value is a table or array; then the key is what is meant.
    let mut located = Located { offset: key.map_or(span.start, |key| key.start), ..Located::default() };
    match value {
        DeValue::Table(table) => located.keys = table_keys(table, text),
        DeValue::Array(array) => {
            located.elements =
                array.iter().map(|value| toml_value(value.get_ref(), value.span(), None, text)).collect();
        }
        _ => {}
    }
    located
}

/// How deep JSON is followed; a manifest is five values deep.
const DEEPEST: usize = 8;

/// `raw` is a part of `text`.
fn json(raw: &str, text: &str, depth: usize) -> Located {
    let offset = raw.as_ptr().addr().saturating_sub(text.as_ptr().addr());
    let mut located = Located { offset, ..Located::default() };
    if depth == DEEPEST {
        return located;
    }
    match raw.as_bytes().first() {
        Some(b'{') => {
            if let Ok(table) = serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(raw) {
                located.keys = table
                    .into_iter()
                    .map(|(key, value)| (key.into_owned(), json(value.get(), text, depth + 1)))
                    .collect();
            }
        }
        Some(b'[') => {
            if let Ok(array) = serde_json::from_str::<Vec<&RawValue>>(raw) {
                located.elements =
                    array.into_iter().map(|value| json(value.get(), text, depth + 1)).collect();
            }
        }
        _ => {}
    }
    located
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = "\
version = 1

[disk]
size = \"auto\"

[[partition]]
type = \"esp\"

[[partition]]
filesystem = { type = \"ext4\" }
contents = [
  { text = \"a\", target = \"/a\" },
  {
    text = \"b\",
    target = \"/b\" },
]
[[partition]]
[partition.filesystem]
type = \"swap\"
";

    const JSON: &str = "\
{
  \"version\": 1,
  \"disk\": { \"size\":
     \"auto\" },
  \"partition\": [
    { \"type\": \"esp\" },
    { \"contents\": [
        { \"text\": \"a\", \"target\": \"/a\" },
        { \"te\\u0078t\": \"b\",
          \"target\": \"/b\" } ] }
  ]
}
";

    fn target(partition: usize, entry: usize, key: &'static str) -> KeyPath {
        KeyPath::top("partition").index(partition).key("contents").index(entry).key(key)
    }

    #[test]
    fn toml_values_are_found() {
        let index = Index::new(TOML, Spelling::Toml);
        for (path, line) in [
            (KeyPath::top("version"), 1),
            (KeyPath::top("disk"), 3),
            (KeyPath::top("disk").key("size"), 4),
            (KeyPath::top("disk").key("seed"), 3),
            (KeyPath::top("partition").index(0).key("type"), 7),
            (KeyPath::top("partition").index(1), 9),
            (KeyPath::top("partition").index(1).key("filesystem").key("label"), 10),
            (target(1, 0, "target"), 12),
            (target(1, 1, "text"), 14),
            (target(1, 1, "target"), 15),
            (target(1, 1, "mode"), 13),
            (KeyPath::top("partition").index(2).key("filesystem"), 18),
            (KeyPath::top("partition").index(2).key("filesystem").key("type"), 19),
        ] {
            assert_eq!(index.line(&path), line, "{path}");
        }
    }

    #[test]
    fn json_values_are_found() {
        let index = Index::new(JSON, Spelling::Json);
        for (path, line) in [
            (KeyPath::top("version"), 2),
            (KeyPath::top("disk").key("size"), 4),
            (KeyPath::top("disk").key("seed"), 3),
            (KeyPath::top("partition").index(0).key("type"), 6),
            (target(1, 0, "target"), 8),
            (target(1, 1, "text"), 9),
            (target(1, 1, "target"), 10),
            (target(1, 1, "mode"), 9),
            (KeyPath::top("partition").index(7), 5),
        ] {
            assert_eq!(index.line(&path), line, "{path}");
        }
    }

    #[test]
    fn lines_are_shown_trimmed_printable_and_not_endless() {
        assert_eq!(line_at(TOML, 13), Line { number: 3, text: "[disk]".into() });
        assert_eq!(line_at("a\n  \u{1b}[2J b", 4).text, "\\x1b[2J b");
        assert_eq!(line_at("a", 99), Line { number: 1, text: "a".into() });
        assert_eq!(line_at("", 0), Line { number: 1, text: String::new() });
        assert_eq!(line_number("a\nb", 2), Line { number: 2, text: "b".into() });
        assert_eq!(line_at(&"x".repeat(1000), 0).text.chars().count(), LONGEST_LINE + 1);
        assert_eq!(target(2, 1, "target").to_string(), "partition[2].contents[1].target");
    }

    #[test]
    fn what_does_not_parse_has_no_places() {
        for (text, spelling) in [("= 1", Spelling::Toml), ("{", Spelling::Json), ("", Spelling::Json)] {
            assert_eq!(Index::new(text, spelling).line(&KeyPath::top("version")), 1);
        }
    }
}
