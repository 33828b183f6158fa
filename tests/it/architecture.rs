//! What imports what: the modules lie above each other, and none looks up.

use std::path::{Path, PathBuf};

/// Modules that know nothing of a disk's description, of front ends and of the command line.
const LOWER: [&str; 18] = [
    "archive",
    "calendar",
    "container",
    "error",
    "filesystem",
    "host",
    "identity",
    "image",
    "key",
    "numbers",
    "package",
    "pour",
    "progress",
    "table",
    "text",
    "tree",
    "units",
    "wire",
];

/// The longest file, in lines.
const LONGEST: usize = 600;

/// What a line may hold that names a flag of another program, or of a file that another program reads.
const FOREIGN: [&str; 4] = ["qemu-img ", "unshare ", "nix-store ", "nix path-info "];

/// The source files, by their path below src, with their text.
fn sources() -> Vec<(PathBuf, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut found) = (vec![top.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|suffix| suffix == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(&top).unwrap().to_owned(), text));
            }
        }
    }
    found.sort();
    found
}

/// The text without comments, and without tests, which may look anywhere.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// The modules at the top of the crate that `path`, a file with this text, names: by `crate::`, in one path or in braces.
fn named(text: &str) -> Vec<String> {
    let code: String = code(text).flat_map(|line| [line.trim(), "\n"]).collect();
    let mut found = Vec::new();
    for part in code.split("crate::").skip(1) {
        let word = |text: &str| -> String {
            text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
        };
        match part.strip_prefix('{') {
            None => found.push(word(part)),
            Some(list) => {
                let mut depth = 0_i32;
                let mut items = vec![String::new()];
                for c in list.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => items.push(String::new()),
                        _ => items.last_mut().unwrap().push(c),
                    }
                }
                found.extend(items.iter().map(|item| word(item.trim())).filter(|name| !name.is_empty()));
            }
        }
    }
    found
}

/// The files below any of `folders` that name any of `modules`.
fn offenders(sources: &[(PathBuf, String)], folders: &[&str], modules: &[&str]) -> Vec<String> {
    let inside = |path: &Path| {
        folders.iter().any(|folder| path.starts_with(folder) || path == Path::new(&format!("{folder}.rs")))
    };
    let mut found = Vec::new();
    for (path, text) in sources.iter().filter(|(path, _)| inside(path) && !path.ends_with("tests.rs")) {
        for name in named(text).iter().filter(|name| modules.contains(&name.as_str())) {
            found.push(format!("{} names {name}", path.display()));
        }
    }
    found
}

fn is_test(path: &Path) -> bool {
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    name == "testing" || name.ends_with("tests")
}

#[test]
fn lower_modules_know_no_description_no_front_end_and_no_command_line() {
    let sources = sources();
    assert_eq!(offenders(&sources, &LOWER, &["cli", "disk", "front"]), Vec::<String>::new());
    assert_eq!(offenders(&sources, &["disk"], &["cli", "front"]), Vec::<String>::new());
    let rest = ["boot", "convert", "inspect", "nix", "front"];
    assert_eq!(offenders(&sources, &rest, &["cli"]), Vec::<String>::new());
    assert_eq!(offenders(&sources, &["boot", "convert", "inspect", "nix"], &["front"]), Vec::<String>::new());
}

/// A front end stands for itself. The manifest has a section for a NixOS system, so it knows that section's keys and what
/// makes a description of them; nothing else.
#[test]
fn front_ends_do_not_import_each_other() {
    for (path, text) in sources() {
        let own = match path.components().nth(1).and_then(|part| part.as_os_str().to_str()) {
            Some(own @ ("manifest" | "nixos")) if path.starts_with("front") => own,
            _ => continue,
        };
        for line in code(&text) {
            let other = if own == "manifest" { "nixos" } else { "manifest" };
            let names = [format!("front::{other}"), format!("super::{other}"), format!("{other}::")];
            let named = names.iter().any(|name| line.contains(name.as_str()));
            let section = ["use crate::front::nixos::Section;", "nixos::Context {", "nixos::describe("];
            let allowed = own == "manifest" && section.iter().any(|known| line.contains(known));
            assert!(!named || allowed, "{} imports the front end {other}: {line}", path.display());
        }
    }
}

/// A library says what is wrong in the words of its options; the command line alone knows how they are spelled there.
#[test]
fn only_the_command_line_names_flags() {
    let named = |line: &str| {
        let quoted: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
        let flag = |text: &str| {
            let after =
                text.split("--").skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
            after && !FOREIGN.iter().any(|program| text.contains(program))
        };
        quoted.into_iter().any(flag)
    };
    assert!(named(r#".hint("add --format raw")"#) && !named(r#".hint("`qemu-img bitmap --remove`")"#));
    for (path, text) in sources() {
        // GRUB's scripts and the store's programs have flags of their own; their callers are not asked for any.
        let exempt = ["cli", "boot/grub", "nix/query.rs"].iter().any(|known| path.starts_with(known));
        if exempt || is_test(&path) {
            continue;
        }
        let found: Vec<&str> = code(&text).filter(|line| named(line)).map(str::trim).collect();
        assert!(found.is_empty(), "{} names a flag: {found:?}", path.display());
    }
}

#[test]
fn no_file_is_too_long() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(
            lines <= LONGEST,
            "{} has {lines} lines, and more than {LONGEST} are too many",
            path.display()
        );
    }
}

#[test]
fn an_import_is_seen_however_it_is_written() {
    let text = "use crate::disk::Disk;\n// crate::cli is not code.\nuse crate::{\n    front::{a, b},\n    image,\n};\n\
                fn f() { crate::cli::run() }\n#[cfg(test)]\nmod tests { use crate::nix; }\n";
    assert_eq!(named(text), ["disk", "front", "image", "cli"]);
    let sources = [(PathBuf::from("tree/mod.rs"), text.to_owned())];
    assert_eq!(offenders(&sources, &["tree"], &["cli", "front"]).len(), 2);
    assert!(offenders(&sources, &["table"], &["cli", "front"]).is_empty());
}
