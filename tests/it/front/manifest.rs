//! What a bad manifest gets: one error that names the file, the line and the rule, word for word.
//!
//! Every manifest in fixtures/refused has its message beside it, with the exit code in the first line. A new one
//! gets its message with `DISKWRIGHT_BLESS=1 cargo test --test it front`; whoever adds it reads the message first.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use diskwright::disk::Work;
use diskwright::error::Error;
use diskwright::front::manifest::Manifest;

/// Where the manifests are, as the errors name them: tests run in the folder of the package.
const REFUSED: &str = "fixtures/refused";

fn manifests() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(REFUSED)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "toml" || suffix == "json"))
        .collect();
    found.sort();
    found
}

/// A message as it is on every machine: sources are named by their whole path once links in it are resolved.
fn message(error: &Error) -> String {
    let here = std::env::current_dir().unwrap();
    error.to_string().replace(&format!("{}/", here.display()), "")
}

/// What is wrong with a manifest, found by whichever room finds it. Nothing is written.
fn refusal(manifest: Result<Manifest, Error>) -> Option<Error> {
    match manifest {
        Err(error) => Some(error),
        Ok(manifest) => {
            let work = Work { jobs: 2, ..Work::default() };
            manifest.describe(None).and_then(|description| description.build(&work)).err()
        }
    }
}

#[test]
fn every_bad_manifest_gets_its_message() {
    let bless = std::env::var_os("DISKWRIGHT_BLESS").is_some();
    let mut wrong = Vec::new();
    let manifests = manifests();
    for path in &manifests {
        let Some(error) = refusal(Manifest::load(path)) else {
            wrong.push(format!("{}: accepted", path.display()));
            continue;
        };
        let found = format!("exit {}\n{}\n", error.kind().exit_code(), message(&error));
        let beside = path.with_extension("txt");
        let expected = std::fs::read_to_string(&beside).unwrap_or_default();
        if bless && expected.is_empty() {
            std::fs::write(&beside, &found).unwrap();
        } else if found != expected {
            wrong.push(format!("{}\nexpected: {expected}\nfound: {found}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(manifests.len() > 100, "only {} manifests in {REFUSED}", manifests.len());
}

#[test]
fn no_message_is_without_its_manifest_and_no_two_manifests_are_of_one_name() {
    let names: Vec<_> = manifests().iter().map(|path| path.with_extension("")).collect();
    let known: BTreeSet<_> = names.iter().collect();
    assert_eq!(names.len(), known.len());
    for entry in std::fs::read_dir(REFUSED).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|suffix| suffix == "txt") {
            assert!(known.contains(&path.with_extension("")), "{} has no manifest", path.display());
        }
    }
}

#[test]
fn every_message_names_the_file_and_a_line_of_it() {
    for path in manifests() {
        let message = refusal(Manifest::load(&path)).unwrap().to_string();
        let place = format!("{}:", path.display());
        // What is not text has no lines.
        assert!(
            message.contains(&place) || message.contains("byte "),
            "{}: no line in {message}",
            path.display()
        );
    }
}

/// The same keys in JSON are refused for the same reason.
#[test]
fn json_is_refused_as_toml_is() {
    let mut checked = 0;
    for path in manifests() {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let Ok(value) = toml::from_str::<toml::Table>(&text) else { continue };
        let json = serde_json::to_string_pretty(&value).unwrap();
        let toml = refusal(Manifest::load(&path)).unwrap();
        let json = refusal(Manifest::parse(json, &path.with_extension("json"), Path::new(REFUSED))).unwrap();
        // JSON has the words of JSON for what has the wrong type, such as floating point numbers.
        assert_eq!(json.what(), toml.what(), "{}", path.display());
        assert_eq!(json.kind(), toml.kind(), "{}", path.display());
        checked += 1;
    }
    assert!(checked > 90, "{checked}");
}

/// A message is not the same whatever is wrong: the comparison above can fail.
#[test]
fn messages_differ() {
    let mut seen = BTreeSet::new();
    for path in manifests() {
        let text = std::fs::read_to_string(path.with_extension("txt")).unwrap();
        assert!(text.starts_with("exit 1\n") || text.starts_with("exit 2\n"), "{}", path.display());
        assert!(seen.insert(text), "{}", path.display());
    }
}
