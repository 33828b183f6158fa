//! The syntax of definition files, which is that of unit files: sections, `Key=value`, comments, continued lines.
//!
//! What systemd only warns of is a remark here, in its words. Source: systemd `src/shared/conf-parser.c`.

use crate::error::{Error, Kind, Result};
use crate::units::u64_of;

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
/// [`Kind::Manifest`] for a bad section header, without a place.
pub(super) fn parse(bytes: &[u8], known: &[&str]) -> Result<Parsed, (u64, Error)> {
    let mut parsed = Parsed::default();
    let mut section = Section::None;
    let mut continued = String::new();
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let number = u64_of(number) + 1;
        let Ok(line) = std::str::from_utf8(line) else {
            parsed.remarks.push(Remark { line: number, text: "the line is not UTF-8, ignoring.".to_owned() });
            continue;
        };
        let line = line.trim_matches(WHITESPACE);
        if line.starts_with(['#', ';']) {
            continue;
        }
        continued.push_str(line);
        // An odd number of backslashes at the end: the last of them belongs to no pair.
        let slashes = continued.len() - continued.trim_end_matches('\\').len();
        if slashes % 2 == 1 {
            continued.pop();
            continued.push(' ');
            continue;
        }
        let whole = std::mem::take(&mut continued);
        self::line(whole.trim_matches(WHITESPACE), number, known, &mut section, &mut parsed)?;
    }
    let last = u64_of(bytes.split(|byte| *byte == b'\n').count());
    line(continued.trim_matches(WHITESPACE), last, known, &mut section, &mut parsed)?;
    Ok(parsed)
}

/// What systemd takes for blank.
pub(super) const WHITESPACE: [char; 4] = [' ', '\t', '\n', '\r'];

fn line(
    line: &str,
    number: u64,
    known: &[&str],
    section: &mut Section,
    parsed: &mut Parsed,
) -> Result<(), (u64, Error)> {
    let mut remark = |text: String| parsed.remarks.push(Remark { line: number, text });
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
            ("MakeDirectories", "/a  /b\\\\", 9),
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
        let parsed = parse(b"[Partition]\nLabel=\xff\n", &["Partition"]).unwrap();
        assert_eq!((parsed.assignments.len(), parsed.remarks.len()), (0, 1));
        let (line, error) = parse(b"\n[Partition\n", &["Partition"]).unwrap_err();
        assert_eq!((line, error.kind()), (2, Kind::Manifest));
    }
}
