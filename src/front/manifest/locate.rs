//! Finds the place of a key in a manifest: from `partition[2].contents[1].target` to the line and its text,
//! in TOML and in JSON. So an error that is found late can still point at its cause.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::value::RawValue;
use toml::de::{DeTable, DeValue};

use crate::key::{KeyPath, Step};
use crate::text::printable;
use crate::units::u64_of;

/// The syntax of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// TOML.
    Toml,
    /// JSON.
    Json,
}

/// A line of a text, with its number counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number.
    pub number: u64,
    /// Its text without indentation; if it is long, only the part around the place in question.
    pub text: String,
}

/// The longest text of a line that is shown, in characters.
const LONGEST_LINE: usize = 160;
/// How many characters of a long line are shown before the place in question: a manifest that a program wrote
/// may be a single line.
const BEFORE: usize = 60;

/// The line that contains byte `offset` of `text`; past the end, the last line.
#[must_use]
pub fn line_at(text: &str, offset: usize) -> Line {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let (before, behind) = text.split_at(offset);
    let number = u64_of(before.bytes().filter(|byte| *byte == b'\n').count()) + 1;
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let end = behind.find('\n').map_or(text.len(), |length| offset + length);
    Line { number, text: excerpt(text.get(start..end).unwrap_or_default(), offset - start) }
}

/// As [`line_at`], for bytes that are not UTF-8 from `offset` on.
#[must_use]
pub fn line_of_bytes(bytes: &[u8], offset: usize) -> Line {
    let (before, behind) = bytes.split_at(offset.min(bytes.len()));
    let number = u64_of(before.iter().filter(|byte| **byte == b'\n').count()) + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let end = behind.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| offset + length);
    let before = printable(before.get(start..).unwrap_or_default());
    let behind = printable(bytes.get(offset..end).unwrap_or_default());
    Line { number, text: excerpt(&format!("{before}{behind}"), before.len()) }
}

/// The part of `line` that is shown; the place at byte `at` matters.
fn excerpt(line: &str, at: usize) -> String {
    let trimmed = line.trim();
    if trimmed.chars().nth(LONGEST_LINE).is_none() {
        return printable(trimmed.as_bytes());
    }
    let indentation = line.len() - line.trim_start().len();
    let (before, _) = trimmed.split_at_checked(at.saturating_sub(indentation)).unwrap_or((trimmed, ""));
    let skipped = before.chars().count().saturating_sub(BEFORE);
    let shown: String = trimmed.chars().skip(skipped).take(LONGEST_LINE).collect();
    let dots = |cut: bool| if cut { "…" } else { "" };
    let rest = trimmed.chars().nth(skipped + LONGEST_LINE).is_some();
    format!("{}{}{}", dots(skipped > 0), printable(shown.as_bytes()), dots(rest))
}

/// The offset of a place that a parser gives as line and column in bytes, both counted from 1.
#[must_use]
pub fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let before = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum::<usize>();
    before + column.saturating_sub(1)
}

/// A value with the offset of its first byte, or of its key if the key is just before it.
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
    fn lines_are_shown_trimmed_printable_and_not_endless() {
        assert_eq!(line_at(TOML, 13), Line { number: 3, text: "[disk]".into() });
        assert_eq!(line_at("a\n  \u{1b}[2J b", 4).text, "\\x1b[2J b");
        assert_eq!(line_at("a", 99), Line { number: 1, text: "a".into() });
        assert_eq!(line_at("", 0), Line { number: 1, text: String::new() });
        assert_eq!(target(2, 1, "target").to_string(), "partition[2].contents[1].target");
    }

    #[test]
    fn of_a_long_line_the_place_that_is_meant_is_shown() {
        let line = format!("a\n  {}here{}\nz", "x".repeat(1000), "ü".repeat(1000));
        let shown = line_at(&line, 4 + 1000);
        let expected = format!("…{}here{}…", "x".repeat(BEFORE), "ü".repeat(LONGEST_LINE - BEFORE - 4));
        assert_eq!(shown, Line { number: 2, text: expected });
        let start = line_at(&line, 4).text;
        assert_eq!(start, format!("{}…", "x".repeat(LONGEST_LINE)));
        let end = line_at(&line, line.len() - 2).text;
        assert_eq!(end, format!("…{}", "ü".repeat(BEFORE)));
        // Inside a character, and at an offset from a parser that counts bytes.
        assert!(line_at(&line, 4 + 1004 + 1).text.ends_with('…'));
        assert_eq!(offset_of(&line, 2, 3), 4);
        assert_eq!(offset_of("a", 7, 9), 9);
        // A line of the longest length: it is shown whole.
        let whole = format!("  {}", "y".repeat(LONGEST_LINE));
        assert_eq!(line_at(&whole, whole.len()).text, whole.trim());
    }

    #[test]
    fn bytes_that_are_no_text_have_a_line() {
        assert_eq!(line_of_bytes(b"a\n# gr\xfcn\nb", 6), Line { number: 2, text: "# gr\\xfcn".into() });
        assert_eq!(line_of_bytes(b"\xff", 0), Line { number: 1, text: "\\xff".into() });
        let long = [&[b'x'; 1000][..], b"\xff"].concat();
        assert_eq!(line_of_bytes(&long, 1000).text, format!("…{}\\xff", "x".repeat(BEFORE)));
    }

    #[test]
    fn what_does_not_parse_has_no_places() {
        for (text, spelling) in [("= 1", Spelling::Toml), ("{", Spelling::Json), ("", Spelling::Json)] {
            assert_eq!(Index::new(text, spelling).line(&KeyPath::top("version")), 1);
        }
    }
}
