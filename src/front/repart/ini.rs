//! The syntax of definition files, which is that of unit files: sections, `Key=value`, comments, continued lines.
//!
//! What systemd only warns of is a remark here, in its words. Source: systemd `src/shared/conf-parser.c`.

use crate::error::{Error, Kind, Result};

/// One `Key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) section: String,
    pub(super) key: String,
    pub(super) value: String,
    /// Its line, counted from 1; of one that goes over several the last, as systemd counts.
    pub(super) line: u64,
}

/// What is wrong with a line and does not stop the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remark {
    pub(super) line: u64,
    pub(super) text: String,
}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) assignments: Vec<Assignment>,
    pub(super) remarks: Vec<Remark>,
}

/// Sections whose names begin so are somebody else's, and are passed over without a word.
const FOREIGN: &str = "X-";

/// Where the lines stand.
enum Section {
    /// Before the first section.
    None,
    /// In one that is not known, or somebody else's.
    Ignored,
    Known(String),
}

/// Reads the bytes of a file whose sections are `known`.
///
/// # Errors
/// [`Kind::Manifest`] for a bad section header and for a line that is not UTF-8, without a place.
pub(super) fn parse(bytes: &[u8], known: &[&str]) -> Result<Parsed, (u64, Error)> {
    let mut parsed = Parsed::default();
    let mut section = Section::None;
    let mut continued = Vec::new();
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut last = 0;
    for line in bytes.split(|byte| *byte == b'\n') {
        last += 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.iter().find(|byte| !is_blank(**byte)).is_some_and(|first| matches!(first, b'#' | b';')) {
            continue;
        }
        // The blanks that a continued line begins with are part of the value.
        continued.extend_from_slice(line);
        // An odd number of backslashes at the end: the last of them belongs to no pair.
        let slashes = continued.iter().rev().take_while(|byte| **byte == b'\\').count();
        if slashes % 2 == 1 {
            continued.pop();
            continued.push(b' ');
            continue;
        }
        self::line(&std::mem::take(&mut continued), last, known, &mut section, &mut parsed)?;
    }
    line(&continued, last, known, &mut section, &mut parsed)?;
    Ok(parsed)
}

fn is_blank(byte: u8) -> bool {
    WHITESPACE.contains(&char::from(byte))
}

/// What systemd takes for blank.
pub(super) const WHITESPACE: [char; 4] = [' ', '\t', '\n', '\r'];

fn line(
    line: &[u8],
    number: u64,
    known: &[&str],
    section: &mut Section,
    parsed: &mut Parsed,
) -> Result<(), (u64, Error)> {
    let mut remark = |text: String| parsed.remarks.push(Remark { line: number, text });
    // Also in a section that is passed over. Comments never come here.
    let line = std::str::from_utf8(line)
        .map_err(|error| (number, Error::new(Kind::Manifest, "the line is not UTF-8").because(error)))?;
    let line = line.trim_matches(WHITESPACE);
    if line.is_empty() {
        return Ok(());
    }
    if let Some(rest) = line.strip_prefix('[') {
        let Some(name) = rest.strip_suffix(']') else {
            let error =
                Error::new(Kind::Manifest, "a section header does not end with `]`").expected("[Partition]");
            return Err((number, error));
        };
        *section = if known.contains(&name) {
            Section::Known(name.to_owned())
        } else {
            if !name.starts_with(FOREIGN) {
                remark(format!("Unknown section '{name}'. Ignoring."));
            }
            Section::Ignored
        };
        return Ok(());
    }
    let section = match section {
        Section::Known(name) => name,
        Section::Ignored => return Ok(()),
        Section::None => {
            remark("Assignment outside of section. Ignoring.".to_owned());
            return Ok(());
        }
    };
    match line.split_once('=') {
        None => remark("Missing '=', ignoring line.".to_owned()),
        Some(("", _)) => remark("Missing key name before '=', ignoring line.".to_owned()),
        Some((key, value)) => parsed.assignments.push(Assignment {
            section: section.clone(),
            key: key.trim_matches(WHITESPACE).to_owned(),
            value: value.trim_matches(WHITESPACE).to_owned(),
            line: number,
        }),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Assigned = Vec<(String, String, u64)>;
    type Remarks = Vec<(u64, String)>;

    fn read(text: &str) -> (Assigned, Remarks) {
        let parsed = parse(text.as_bytes(), &["Partition"]).unwrap();
        let assignments = parsed.assignments.into_iter().map(|it| (it.key, it.value, it.line)).collect();
        (assignments, parsed.remarks.into_iter().map(|it| (it.line, it.text)).collect())
    }

    #[test]
    fn lines_are_what_systemd_makes_of_them() {
        let (assignments, remarks) = read(
            "\u{feff}# comment\n; other\n\n [Partition] \n  Type = esp \nLabel=\nMakeDirectories=/a \\\n# between\n  /b\\\\\n\
             CopyFiles=/x=y",
        );
        let expected = [
            ("Type", "esp", 5),
            ("Label", "", 6),
            ("MakeDirectories", "/a    /b\\\\", 9),
            ("CopyFiles", "/x=y", 10),
        ];
        assert_eq!(assignments, expected.map(|(key, value, line)| (key.to_owned(), value.to_owned(), line)));
        assert!(remarks.is_empty(), "{remarks:?}");
    }

    #[test]
    fn what_is_no_assignment_is_told_and_passed_over() {
        let (assignments, remarks) =
            read("a=1\n[Partition]\nb\n=c\n[Bar]\nx=1\n[X-Mine]\ny=2\n[Partition]\nd=4\n");
        assert_eq!(assignments, [("d".to_owned(), "4".to_owned(), 10)]);
        let told = [
            (1, "Assignment outside of section. Ignoring."),
            (3, "Missing '=', ignoring line."),
            (4, "Missing key name before '=', ignoring line."),
            (5, "Unknown section 'Bar'. Ignoring."),
        ];
        assert_eq!(remarks, told.map(|(line, text)| (line, text.to_owned())));
        let (line, error) = parse(b"\n[Partition\n", &["Partition"]).unwrap_err();
        assert_eq!((line, error.kind()), (2, Kind::Manifest));
    }

    /// As systemd-repart 262.1 puts them together.
    #[test]
    fn continued_lines_keep_the_blanks_that_they_begin_with() {
        for (text, label) in [
            ("Label=con\\\n  more\n", "con   more"),
            ("Label=con  \\\n\t more \\\n  x\n", "con   \t more    x"),
            ("Label=con \\\n# c\n  ; d\n  x\n", "con    x"),
            ("Label=con \\\n  # c\n\n  x\n", "con"),
            // Behind a backslash that is not the last of its line nothing is continued.
            ("  Label=con\\  \n  x\n", "con\\"),
            ("Label=con\\\r\nmore\r\n", "con more"),
            ("Label=con\\\n", "con"),
        ] {
            let (assignments, _) = read(&format!("[Partition]\n{text}"));
            assert_eq!(assignments.first().map(|(_, value, _)| value.as_str()), Some(label), "{text}");
        }
    }

    #[test]
    fn what_is_not_utf8_is_refused_but_in_comments() {
        let read = |text: &[u8]| parse(text, &["Partition"]);
        assert_eq!(read(b"# \xff\n[Partition]\n;\xfe\nLabel=x\n").unwrap().assignments.len(), 1);
        for (text, line) in [
            (b"[Partition]\nLabel=\xff\xfe\n".as_slice(), 2),
            (b"[Partition]\nLabel=a\\\n\xff\n", 3),
            (b"[Partition]\nUnknown=\xff\n", 2),
            (b"[Other]\nx=\xff\n", 2),
            (b"x=\xff\n[Partition]\n", 1),
            (b"[Partition]\nLabel=\xff", 2),
        ] {
            let (at, error) = read(text).unwrap_err();
            assert_eq!((at, error.kind()), (line, Kind::Manifest), "{text:?}");
        }
    }
}
