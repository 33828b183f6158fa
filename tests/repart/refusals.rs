//! fixtures/repart/refused.txt: definitions and command lines that are refused, each with its exit code and message.

use std::fmt::Write as _;

use crate::run::{Folder, SEED};
use crate::support::pinned::blessing;

const FILE: &str = "fixtures/repart/refused.txt";

/// A case: a name, further arguments, definitions, and what is said.
struct Case {
    name: String,
    arguments: Vec<String>,
    definitions: Vec<(String, String)>,
    said: String,
}

fn cases(text: &str) -> (String, Vec<Case>) {
    let mut parts = text.split("\n=== ");
    let head = parts.next().unwrap().to_owned();
    (head, parts.map(case).collect())
}

/// A name and arguments, then files after their names, then `--- exit` with the message.
fn case(part: &str) -> Case {
    let (title, rest) = part.split_once('\n').unwrap();
    let mut words = title.split(' ').map(str::to_owned);
    let name = words.next().unwrap();
    let (files, said) = rest.split_once("--- exit ").unwrap_or((rest, ""));
    let mut definitions: Vec<(String, String)> = Vec::new();
    for line in files.lines() {
        match (line.strip_prefix("+++ "), definitions.last_mut()) {
            (Some(name), _) => definitions.push((name.to_owned(), String::new())),
            (None, Some((_, text))) => writeln!(text, "{line}").unwrap(),
            (None, None) => panic!("{name}: `{line}` is in no file"),
        }
    }
    Case { name, arguments: words.collect(), definitions, said: said.trim_end().to_owned() }
}

fn run(case: &Case) -> String {
    let folder = Folder::new(&[("repart.d/.keep", ""), ("blocks", "x"), ("odd", &"x".repeat(700))]);
    if case.definitions.iter().any(|(_, text)| text.contains("$PWD/big")) {
        folder.write("big", &"x".repeat(40 << 20));
    }
    for (name, text) in &case.definitions {
        folder.write(
            &format!("repart.d/{name}"),
            &text.replace("$PWD", &folder.0.path().display().to_string()),
        );
    }
    let own: Vec<&str> = case.arguments.iter().map(String::as_str).collect();
    let has = |flag: &str| own.iter().any(|own| own.starts_with(flag));
    let usual = [
        ("--empty", "--empty=create"),
        ("--size=", "--size=auto"),
        ("--definitions", "--definitions=repart.d"),
        ("--seed", SEED),
    ];
    let usual = usual.iter().filter(|(flag, _)| !has(flag)).map(|(_, argument)| *argument);
    // A case that gives no seed at all says so.
    let own = own.iter().copied().filter(|own| !own.starts_with("--seed=none"));
    let arguments: Vec<&str> = usual.chain(own).chain(["image.raw"]).collect();
    let said = folder.repart(&arguments);
    assert_ne!(said.code, 0, "{} is not refused", case.name);
    assert!(!folder.path("image.raw").exists(), "{} leaves an image", case.name);
    format!("{}\n{}", said.code, folder.relative(&said.error()).trim_end())
}

/// What systemd-repart passes over makes no error without `--strict`, and is told with file and line.
#[test]
fn what_is_passed_over_is_told_with_its_line() {
    let definition =
        "[Partition]\nType=linux-generic\nFormt=ext4\nSizeMinBytes=5000\n[Other]\nx=1\n[X-Mine]\ny=2\n";
    let folder = Folder::new(&[("repart.d/1.conf", definition)]);
    let said = folder.create(&[]);
    let told = folder.relative(&said.error());
    for line in [
        "repart.d/1.conf:3: Unknown key 'Formt' in section [Partition], ignoring. Did you mean 'Format'?",
        "repart.d/1.conf:4: Rounded SizeMinBytes= size 5000 \u{2192} 8192, a multiple of 4096.",
        "repart.d/1.conf:5: Unknown section 'Other'. Ignoring.",
    ] {
        assert!(told.contains(line), "no `{line}` in {told}");
    }
    assert!(!told.contains("X-Mine") && !told.contains("1.conf:8"), "{told}");
}

#[test]
fn what_is_refused_is_said_with_its_place() {
    let text = std::fs::read_to_string(FILE).unwrap();
    let (head, cases) = cases(&text);
    assert!(cases.len() > 30, "{}", cases.len());
    let said: Vec<String> = cases.iter().map(run).collect();
    if blessing() {
        let mut new = head;
        for (case, said) in cases.iter().zip(&said) {
            let title =
                std::iter::once(&case.name).chain(&case.arguments).cloned().collect::<Vec<_>>().join(" ");
            write!(new, "\n=== {title}\n").unwrap();
            for (name, text) in &case.definitions {
                write!(new, "+++ {name}\n{text}").unwrap();
            }
            writeln!(new, "--- exit {said}").unwrap();
        }
        std::fs::write(FILE, new).unwrap();
        return;
    }
    for (case, said) in cases.iter().zip(&said) {
        assert_eq!(said, &case.said, "{}", case.name);
    }
}
