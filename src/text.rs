//! Shows names and paths of arbitrary bytes, and lines of a text, to people.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::units::u64_of;

/// `bytes` as one line of text: printable UTF-8 stays, every other byte becomes `\xNN`. So a file name can
/// neither break a line nor send commands to a terminal.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control()
                || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            {
                let mut buffer = [0; 4];
                for byte in c.encode_utf8(&mut buffer).bytes() {
                    out.push_str(&format!("\\x{byte:02x}"));
                }
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// [`printable`] of at most the first `most` bytes, followed by `…` if there are more. It never cuts a
/// character in half.
#[must_use]
pub fn shortened(bytes: &[u8], most: usize) -> String {
    let Some(head) = bytes.get(..most).filter(|_| bytes.len() > most) else { return printable(bytes) };
    // A character has at most three bytes after its first one, and those begin with the bits 10.
    let inside = |end: &usize| bytes.get(*end).is_some_and(|byte| byte & 0xc0 == 0x80);
    let end = (most.saturating_sub(3)..=most).rev().find(|end| !inside(end)).unwrap_or(most);
    format!("{}…", printable(&head[..end]))
}

/// [`printable`] for a path.
#[must_use]
pub fn printable_path(path: impl AsRef<Path>) -> String {
    printable(path.as_ref().as_os_str().as_bytes())
}

/// The known word that was probably meant by `word`, for "did you mean": the most similar one, if at most two
/// of five letters differ. Of equally similar words it is the first.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut best: Option<(f64, &str)> = None;
    for candidate in known {
        let likeness = strsim::normalized_damerau_levenshtein(word, candidate);
        if likeness >= 0.6 && best.is_none_or(|(most, _)| likeness > most) {
            best = Some((likeness, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_near() {
        let known = ["label", "size", "start", "stark"];
        assert_eq!(nearest("lable", known), Some("label"));
        assert_eq!(nearest("star", known), Some("start"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn no_character_is_cut_in_half() {
        for (text, most, expected) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "abc…"),
            ("añb", 2, "a…"),
            ("añb", 3, "añ…"),
            ("a\u{1f980}b", 4, "a…"),
            ("a\u{1f980}b", 5, "a\u{1f980}…"),
            ("", 0, ""),
            ("x", 0, "…"),
        ] {
            assert_eq!(shortened(text.as_bytes(), most), expected, "{text} {most}");
        }
        assert_eq!(shortened(&[0x80; 9], 4), "\\x80\\x80\\x80\\x80…");
    }

    #[test]
    fn control_bytes_and_direction_marks_are_escaped() {
        assert_eq!(printable("grün".as_bytes()), "grün");
        assert_eq!(printable(b"a\nb\x1b[2J\xff"), "a\\x0ab\\x1b[2J\\xff");
        assert_eq!(printable("\u{202e}x".as_bytes()), "\\xe2\\x80\\xaex");
    }

    #[test]
    fn lines_are_shown_trimmed_printable_and_not_endless() {
        assert_eq!(line_at("a\n\n [disk]\n", 5), Line { number: 3, text: "[disk]".into() });
        assert_eq!(line_at("a\n  \u{1b}[2J b", 4).text, "\\x1b[2J b");
        assert_eq!(line_at("a", 99), Line { number: 1, text: "a".into() });
        assert_eq!(line_at("", 0), Line { number: 1, text: String::new() });
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
}
