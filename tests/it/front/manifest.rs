//! Bad manifests: one error that names the file, the line and the rule, word for word.
//!
//! Every case of fixtures/refused has its message, with the exit code before it. A new one gets its message
//! with `DISKWRIGHT_BLESS=1 cargo test --test it front::manifest`. Read the message before you commit it.

use std::collections::BTreeSet;
use std::path::Path;

use diskwright::disk::Work;
use diskwright::error::Error;
use diskwright::front::manifest::Manifest;

use super::cases::{Case, FOLDER, all, bless};

/// A message in the same form on every machine: sources have their whole path once their links are resolved.
fn message(error: &Error) -> String {
    let here = std::env::current_dir().unwrap();
    error.to_string().replace(&format!("{}/", here.display()), "")
}

/// The error of a manifest, from whichever part finds it. Nothing is written.
fn refusal(manifest: Result<Manifest, Error>) -> Option<Error> {
    match manifest {
        Err(error) => Some(error),
        Ok(manifest) => {
            let work = Work { jobs: 2, ..Work::default() };
            manifest.describe(None, &Work::default()).and_then(|description| description.build(&work)).err()
        }
    }
}

/// What is wrong with the manifest of a case.
fn refused(case: &Case) -> Option<Error> {
    refusal(Manifest::read(case.manifest.as_slice(), &case.path(), Path::new(FOLDER)))
}

/// The exit code and the message that the manifest of a case gets.
fn outcome(case: &Case) -> String {
    refused(case).map_or("accepted\n".to_owned(), |error| {
        format!("exit {}\n{}\n", error.kind().exit_code(), message(&error))
    })
}

#[test]
fn every_bad_manifest_gets_its_message() {
    bless(outcome);
    let mut wrong = Vec::new();
    let cases = all();
    for case in &cases {
        let found = outcome(case);
        if found != case.message {
            wrong.push(format!("{}\nexpected: {}\nfound: {found}", case.name, case.message));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases.len() > 180, "only {} manifests in {FOLDER}", cases.len());
}

/// Every file in the folder belongs to a case: manifests that are not text, and sources.
#[test]
fn no_two_cases_are_of_one_name_and_no_file_is_of_none() {
    let cases = all();
    let known: BTreeSet<_> = cases.iter().map(Case::stem).collect();
    assert_eq!(cases.len(), known.len());
    for entry in std::fs::read_dir(FOLDER).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let used = cases.iter().any(|case| {
            case.path() == path || case.text().is_some_and(|text| text.contains(&format!("\"{name}")))
        });
        assert!(used || name.ends_with(".txt"), "no case needs {}", path.display());
    }
}

#[test]
fn every_message_names_the_file_and_a_line_of_it() {
    for case in all() {
        let message = refused(&case).unwrap().to_string();
        let place = format!("{}:", case.path().display());
        // Only text has lines.
        assert!(message.contains(&place) || message.contains("byte "), "{}: no line in {message}", case.name);
    }
}

/// The same keys in JSON are refused for the same reason.
#[test]
fn json_is_refused_as_toml_is() {
    let mut checked = 0;
    for case in all() {
        let Some(Ok(value)) = case.text().map(toml::from_str::<toml::Table>) else { continue };
        let json = serde_json::to_string_pretty(&value).unwrap();
        let toml = refused(&case).unwrap();
        let name = case.path().with_extension("json");
        let json = refusal(Manifest::parse(json, &name, Path::new(FOLDER))).unwrap();
        // JSON has the words of JSON for what has the wrong type, such as floating point numbers.
        assert_eq!(json.what(), toml.what(), "{}", case.name);
        assert_eq!(json.kind(), toml.kind(), "{}", case.name);
        checked += 1;
    }
    assert!(checked > 90, "{checked}");
}

/// Each fault has its own message, so the comparison above can fail.
#[test]
fn messages_differ() {
    let mut seen = BTreeSet::new();
    for case in all() {
        assert!(
            case.message.starts_with("exit 1\n") || case.message.starts_with("exit 2\n"),
            "{}",
            case.name
        );
        // Without the manifest's own name, which alone would make each another.
        assert!(seen.insert(case.message.replace(&case.name, "")), "{}", case.name);
    }
}
