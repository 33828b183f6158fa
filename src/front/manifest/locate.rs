//! Finds the place of a key in a manifest: from `partition[2].contents[1].target` to the line and its text,
//! in TOML and in JSON. So an error that is found late can still point at its cause.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::value::RawValue;
use toml::de::{DeTable, DeValue};

use crate::key::{KeyPath, Step};
use crate::units::u64_of;

/// The syntax of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// TOML.
    Toml,
    /// JSON.
    Json,
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
    /// Finds the places in `text`, which is written in `spelling`. It finds nothing if the text does not
    /// parse.
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

    /// The line, counted from 1, of `path`, or of the nearest value above it.
    #[must_use]
    pub fn line(&self, path: &KeyPath) -> u64 {
        u64_of(self.ends.partition_point(|end| *end < self.offset(path))) + 1
    }

    /// The byte offset of `path`; if it is not written, that of the nearest value above it.
    #[must_use]
    pub fn offset(&self, path: &KeyPath) -> usize {
        let mut at = &self.top;
        for step in path.steps() {
            let next = match step {
                Step::Key(key) => at.keys.get(key.as_ref()),
                Step::Index(index) => at.elements.get(*index),
            };
            match next {
                Some(next) => at = next,
                None => break,
            }
        }
        at.offset
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
    // A key and its value can be lines apart only if the value is a table or array. Then the place is that of
    // the key.
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

/// How deep JSON is followed. A manifest has five levels.
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
    fn a_path_is_written_as_in_a_manifest() {
        assert_eq!(target(2, 1, "target").to_string(), "partition[2].contents[1].target");
    }

    #[test]
    fn what_does_not_parse_has_no_places() {
        for (text, spelling) in [("= 1", Spelling::Toml), ("{", Spelling::Json), ("", Spelling::Json)] {
            assert_eq!(Index::new(text, spelling).line(&KeyPath::top("version")), 1);
        }
    }
}
