//! Shows names and paths of arbitrary bytes to people.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

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
}
