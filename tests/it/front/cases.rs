//! The manifests of fixtures/refused, each with its exit code and message: many cases in a few files.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::support::pinned::blessing;

/// Where they are; relative paths in them begin here.
pub(crate) const FOLDER: &str = "fixtures/refused";

/// Behind the name of a manifest that lies beside the file of its case.
const OWN: &str = " (a file of its own)";

/// A manifest that is refused.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The manifest's name, whose suffix is its spelling.
    pub(crate) name: String,
    /// The manifest, byte for byte.
    pub(crate) manifest: Vec<u8>,
    /// Whether it is a file beside the file of the case, because it is not text.
    own: bool,
    /// `exit` and the code in a line, then the message; empty where it was not blessed yet.
    pub(crate) message: String,
}

impl Case {
    /// What messages call the manifest.
    pub(crate) fn path(&self) -> PathBuf {
        if self.own { Path::new(FOLDER).join(&self.name) } else { self.name.clone().into() }
    }

    /// The name without the suffix.
    pub(crate) fn stem(&self) -> &str {
        self.name.rsplit_once('.').unwrap().0
    }

    /// The manifest, where it is text.
    pub(crate) fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.manifest).ok()
    }
}

/// The files of cases, with the text before the first case in each.
pub(crate) fn files() -> Vec<(PathBuf, String, Vec<Case>)> {
    let mut paths: Vec<_> = std::fs::read_dir(FOLDER)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "txt"))
        .collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let (head, cases) = read(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path, head, cases)
    };
    paths.into_iter().map(read).collect()
}

/// All cases.
pub(crate) fn all() -> Vec<Case> {
    files().into_iter().flat_map(|(_, _, cases)| cases).collect()
}

/// Reads a file of cases: comments and an empty line, then cases with an empty line between two.
fn read(text: &str) -> Result<(String, Vec<Case>), String> {
    let mut parts = text.split("\n=== ");
    let head = parts.next().unwrap_or_default();
    if !head.ends_with('\n') || !head.lines().all(|line| line.is_empty() || line.starts_with('#')) {
        return Err("no comment and an empty line before the first case".to_owned());
    }
    let cases = parts.map(case).collect::<Result<Vec<_>, String>>()?;
    if cases.is_empty() { Err("no case".to_owned()) } else { Ok((head.to_owned(), cases)) }
}

/// One case, from behind the mark before its name.
fn case(part: &str) -> Result<Case, String> {
    let (title, rest) = part.split_once('\n').ok_or("a case of one line")?;
    // The newline before the next one's name ended the empty line between them.
    if !part.ends_with('\n') || part.ends_with("\n\n") {
        return Err(format!("{title}: no single empty line after it"));
    }
    let (name, own) = title.strip_suffix(OWN).map_or((title, false), |name| (name, true));
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match name.rsplit_once('.') {
        Some((stem, "toml" | "json")) if !stem.is_empty() && stem.chars().all(word) => {}
        _ => return Err(format!("`{name}` is no name of a manifest")),
    }
    // The text of the manifest may be empty; the message is there once it was blessed.
    let end = if rest.starts_with("--- exit ") { Some(0) } else { rest.find("\n--- exit ").map(|at| at + 1) };
    let (manifest, message) = rest.split_at(end.unwrap_or(rest.len()));
    let message = message.strip_prefix("--- ").unwrap_or(message);
    let code = message.lines().next();
    if message.contains("\n--- ") || !matches!(code, None | Some("exit 1" | "exit 2")) {
        return Err(format!("{name}: no `--- exit 1` or `--- exit 2`, and once"));
    }
    let manifest = match (own, manifest.is_empty()) {
        (true, true) => std::fs::read(Path::new(FOLDER).join(name)).map_err(|error| error.to_string())?,
        (true, false) => return Err(format!("{name} is here and in a file of its own")),
        (false, _) => manifest.as_bytes().to_vec(),
    };
    Ok(Case { name: name.to_owned(), manifest, own, message: message.to_owned() })
}

/// The text of a file of cases: what [`read`] reads.
fn written(head: &str, cases: &[Case]) -> String {
    let mut text = head.to_owned();
    for case in cases {
        let _ = write!(text, "\n=== {}{}\n", case.name, if case.own { OWN } else { "" });
        if !case.own {
            text += case.text().unwrap();
        }
        let _ = write!(text, "--- {}", case.message);
    }
    text
}

/// Writes the messages that `found` gives, if that was asked for.
pub(crate) fn bless(found: impl Fn(&Case) -> String) {
    if blessing() {
        for (path, head, mut cases) in files() {
            for case in &mut cases {
                case.message = found(case);
            }
            std::fs::write(path, written(&head, &cases)).unwrap();
        }
    }
}

#[test]
fn files_of_cases_read_as_they_are_written() {
    for (path, head, cases) in files() {
        assert_eq!(written(&head, &cases), std::fs::read_to_string(&path).unwrap(), "{}", path.display());
    }
}

#[test]
fn the_reader_is_strict() {
    let head = "# About.\n";
    let good = "\n=== a.toml\nx = 1\n--- exit 2\nbad\n";
    assert_eq!(read(&format!("{head}{good}{}", good.replace("a.", "b-2."))).unwrap().1.len(), 2);
    // What waits for its message.
    assert_eq!(read(&format!("{head}\n=== a.toml\nx = 1\n")).unwrap().1[0].message, "");
    for (text, words) in [
        (head.to_owned(), "no case"),
        (good.to_owned(), "no comment"),
        (format!("{head}{}", &good[1..]), "no comment"),
        (format!("{head}x{good}"), "no comment"),
        (format!("{head}{good}\n"), "no single empty line"),
        (format!("{head}{}", good.replace("a.toml", "a.yaml")), "no name"),
        (format!("{head}{}", good.replace("a.toml", "a b.toml")), "no name"),
        (format!("{head}{}", good.replace("exit 2", "exit 3")), "no `--- exit 1`"),
        (format!("{head}{}", good.replace("exit 2\n", "exit 2\n--- exit 2\n")), "no `--- exit 1`"),
        (format!("{head}{}", good.replace("a.toml", "file.toml (a file of its own)")), "file of its own"),
        (format!("{head}\n=== none.toml (a file of its own)\n--- exit 2\nbad\n"), "No such file"),
    ] {
        let error = read(&text).unwrap_err();
        assert!(error.contains(words), "{text:?}: {error}");
    }
}
