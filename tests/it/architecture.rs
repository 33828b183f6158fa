//! What imports what: the modules lie above each other, and none looks up.

use std::path::{Path, PathBuf};

/// Modules that know nothing of a disk's description, of front ends and of the command line.
const LOWER: [&str; 25] = [
    "archive",
    "calendar",
    "container",
    "encoding",
    "error",
    "filesystem",
    "helper",
    "host",
    "identity",
    "image",
    "key",
    "numbers",
    "option",
    "package",
    "pattern",
    "pour",
    "progress",
    "serve",
    "table",
    "text",
    "tree",
    "units",
    "values",
    "verity",
    "wire",
];

/// Modules beside the description of a disk, and above it: none of the lower ones names them.
const UPPER: [&str; 10] =
    ["boot", "cli", "convert", "resize", "disk", "front", "inspect", "look", "nix", "vm"];

/// What is neither: the top of the crate, and the list of all structures, which names every format.
const TOP: [&str; 3] = ["lib", "main", "structures"];

/// The front ends, each in a folder of its own.
const FRONT_ENDS: [&str; 3] = ["manifest", "nixos", "repart"];

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

/// The modules at the top of the crate that a file with this text names: by `crate::`, in one path or in braces.
fn named(text: &str) -> Vec<String> {
    named_after("crate::", text)
}

/// The names that stand behind `prefix`, in one path or in braces.
fn named_after(prefix: &str, text: &str) -> Vec<String> {
    let code: String = code(text).flat_map(|line| [line.trim(), "\n"]).collect();
    let mut found = Vec::new();
    for part in code.split(prefix).skip(1) {
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
    assert_eq!(offenders(&sources, &LOWER, &UPPER), Vec::<String>::new());
    assert_eq!(offenders(&sources, &["disk"], &["cli", "front"]), Vec::<String>::new());
    let rest = ["boot", "convert", "inspect", "look", "nix", "front", "vm"];
    assert_eq!(offenders(&sources, &rest, &["cli"]), Vec::<String>::new());
    assert_eq!(
        offenders(&sources, &["boot", "convert", "inspect", "look", "nix"], &["front"]),
        Vec::<String>::new()
    );
}

#[test]
fn every_module_has_a_place_in_the_order() {
    let mut modules: Vec<String> = sources()
        .iter()
        .filter_map(|(path, _)| path.components().next()?.as_os_str().to_str().map(str::to_owned))
        .map(|name| name.trim_end_matches(".rs").to_owned())
        .collect();
    modules.dedup();
    let mut known: Vec<&str> = LOWER.iter().chain(&UPPER).chain(&TOP).copied().collect();
    known.sort_unstable();
    modules.sort_unstable();
    assert_eq!(modules, known);
}

/// The lines of a front end's file that import another front end.
fn strangers(own: &str, text: &str) -> Vec<String> {
    let others: Vec<&str> = FRONT_ENDS.into_iter().filter(|name| *name != own).collect();
    let mut found: Vec<String> = ["crate::front::", "super::"]
        .iter()
        .flat_map(|prefix| named_after(prefix, text))
        .filter(|name| others.contains(&name.as_str()))
        .collect();
    for line in code(text) {
        if others.iter().any(|other| line.contains(&format!("{other}::"))) {
            found.push(line.trim().to_owned());
        }
    }
    found
}

/// A front end stands for itself. What the manifest has of another one is joined with it in front/section.rs.
#[test]
fn front_ends_do_not_import_each_other() {
    for (path, text) in sources() {
        let own = match path.components().nth(1).and_then(|part| part.as_os_str().to_str()) {
            Some(own) if path.starts_with("front") && FRONT_ENDS.contains(&own) => own,
            _ => continue,
        };
        assert_eq!(strangers(own, &text), Vec::<String>::new(), "{}", path.display());
    }
    for text in [
        "use crate::front::{Dates, nixos, seed};\n",
        "use crate::front::nixos::Section;\n",
        "use super::nixos;\n",
        "nixos::describe(section);\n",
    ] {
        assert!(!strangers("manifest", text).is_empty() && strangers("nixos", text).is_empty(), "{text}");
    }
}

/// A filesystem is its own folder, and what lists all of them: the structures, the table of kinds, `mkfs`, `inspect`, and the
/// front end of systemd-repart, which has words of its own for their options.
#[test]
fn a_filesystem_stands_in_its_folder_and_in_five_other_places() {
    let places = |name: &str| -> Vec<String> {
        let own = Path::new("filesystem").join(name);
        let names = |text: &str| code(text).any(|line| line.to_lowercase().contains(name));
        let named = sources().into_iter().filter(|(path, text)| !path.starts_with(&own) && names(text));
        named.map(|(path, _)| path.display().to_string()).collect()
    };
    let expected = [
        "cli/mkfs.rs",
        "filesystem/mod.rs",
        "front/repart/body.rs",
        "inspect/filesystem.rs",
        "structures.rs",
    ];
    assert_eq!(places("squashfs"), expected);
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
        // GRUB's scripts, the store's programs, the loader of programs, virtiofsd and swtpm have flags of their own, and the script of a machine runs the
        // command line; their callers are not asked for any. The front end of systemd-repart speaks as that does, whose options
        // are its flags.
        let exempt = [
            "cli",
            "boot/grub",
            "front/boot/grub.rs",
            "nix/query.rs",
            "helper/guest/mod.rs",
            "vm/share.rs",
            "vm/tpm.rs",
            "vm/script.rs",
        ]
        .iter()
        .any(|known| path.starts_with(known));
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
