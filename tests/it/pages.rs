//! The pages of docs/formats compared with the declared structures: same fields, same places, same lengths.
//!
//! The comment before a table names its structures, `<!-- structure: ext4 inode -->`; several are separated
//! by commas, and each has every row. ` at N` after a name says that its offsets count from N bytes before
//! it. Offsets, lengths and names of one row may be lists of equal length. A name in parentheses belongs to
//! no field.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use diskwright::structures;
use diskwright::wire::Structure;

/// A place of a field: offset and length.
type Place = (usize, usize);

/// A table of a page: its structures with what their offsets count from, and its rows as fields with their places.
#[derive(Debug, Default)]
struct Table {
    structures: Vec<(String, usize)>,
    fields: Vec<(String, Place)>,
}

fn number(text: &str) -> Result<usize, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => usize::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("`{text}` is no number"))
}

/// The structures that a comment names.
fn named(comment: &str) -> Result<Vec<(String, usize)>, String> {
    comment
        .split(',')
        .map(|part| match part.trim().rsplit_once(" at ") {
            Some((title, from)) => Ok((title.to_owned(), number(from)?)),
            None => Ok((part.trim().to_owned(), 0)),
        })
        .collect()
}

/// The fields of a row with their places.
fn row(line: &str) -> Result<Vec<(String, Place)>, String> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [offsets, lengths, names, ..] = cells.as_slice() else {
        return Err(format!("too few cells: {line}"));
    };
    if names.starts_with('(') {
        return Ok(Vec::new());
    }
    let list = |cell: &str| cell.split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>();
    let (offsets, lengths, names) = (list(offsets), list(lengths), list(names));
    if offsets.len() != names.len() || lengths.len() != names.len() {
        return Err(format!("not as many offsets, lengths and names: {line}"));
    }
    let mut fields = Vec::new();
    for ((offset, length), name) in offsets.iter().zip(&lengths).zip(names) {
        fields.push((name, (number(offset)?, number(length)?)));
    }
    Ok(fields)
}

/// The tables of a page with offsets. One that names no structure is an error.
fn tables(page: &str) -> Result<Vec<Table>, String> {
    let mut tables: Vec<Table> = Vec::new();
    let (mut comment, mut inside) = (None, false);
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("<!-- structure: ") {
            comment = Some(named(rest.trim_end_matches(" -->"))?);
        } else if line.starts_with("| offset | bytes |") {
            let structures = comment.take().ok_or_else(|| format!("a table names no structure: {line}"))?;
            tables.push(Table { structures, ..Table::default() });
            inside = true;
        } else if !line.starts_with('|') {
            inside = false;
        } else if inside && !line.starts_with("|---") {
            let fields = row(line)?;
            tables.last_mut().ok_or("a row without table")?.fields.extend(fields);
        }
    }
    match comment {
        Some(structures) => Err(format!("no table follows the comment about {structures:?}")),
        None => Ok(tables),
    }
}

/// Where a page and the structures that it is about differ: one line for each.
fn differences(page: &str, structures: &[Structure]) -> Vec<String> {
    let tables = match tables(page) {
        Ok(tables) => tables,
        Err(error) => return vec![error],
    };
    let mut lines = Vec::new();
    let mut seen: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for table in &tables {
        for (title, from) in &table.structures {
            let Some(structure) = structures.iter().find(|structure| structure.title == title) else {
                lines.push(format!("{title}: no such structure is declared"));
                continue;
            };
            let seen = seen.entry(structure.title).or_default();
            for (name, (offset, length)) in &table.fields {
                let field = structure.fields.iter().find(|field| field.name == name);
                match field {
                    None => lines.push(format!("{title}: {name} is not declared")),
                    Some(field) if (field.offset + from, field.length) != (*offset, *length) => {
                        lines.push(format!(
                            "{title}: {name}: {} bytes at {} are declared, the page has {length} at {offset}",
                            field.length,
                            field.offset + from
                        ));
                    }
                    Some(field) => {
                        seen.insert(field.name);
                    }
                }
            }
        }
    }
    for structure in structures {
        let seen = seen.get(structure.title);
        for field in structure.fields {
            if !seen.is_some_and(|seen| seen.contains(field.name)) {
                lines.push(format!("{}: {} is not on the page", structure.title, field.name));
            }
        }
    }
    lines
}

/// The structures of each page.
fn pages() -> BTreeMap<&'static str, Vec<Structure>> {
    let mut pages: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (page, structure) in structures::all() {
        pages.entry(page).or_default().push(structure);
    }
    pages
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(page: &str) -> String {
    std::fs::read_to_string(root().join(format!("docs/formats/{page}.md"))).unwrap()
}

#[test]
fn every_page_says_what_is_declared() {
    for (page, structures) in pages() {
        let lines = differences(&text(page), &structures);
        assert!(lines.is_empty(), "docs/formats/{page}.md:\n{}", lines.join("\n"));
    }
}

/// Files of Rust below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(sources(&entry));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
    found
}

#[test]
fn every_structure_that_is_declared_is_listed() {
    let listed: BTreeSet<&str> = structures::all().iter().map(|(_, structure)| structure.title).collect();
    let mut declared = 0;
    for path in
        sources(&root().join("src")).into_iter().filter(|path| !path.starts_with(root().join("src/wire")))
    {
        let source = std::fs::read_to_string(&path).unwrap();
        for line in
            source.lines().filter(|line| line.trim_start().starts_with("pub") && line.contains(" struct "))
        {
            let Some(title) = line.split_once(": \"").and_then(|(_, rest)| rest.split_once('"')) else {
                continue;
            };
            declared += 1;
            assert!(
                listed.contains(title.0),
                "{}: `{}` is not in structures::all()",
                path.display(),
                title.0
            );
        }
    }
    assert_eq!(declared, listed.len());
}

/// Each way in which a page and a declaration can differ is seen.
#[test]
fn differences_are_seen() {
    let page = text("swap");
    let structures = &pages()["swap"];
    assert!(differences(&page, structures).is_empty());
    for (from, to, words) in [
        (
            "| 1028 | 4 | last_page |",
            "| 1032 | 4 | last_page |",
            "last_page: 4 bytes at 1028 are declared, the page has 4 at 1032",
        ),
        ("| 1028 | 4 | last_page |", "| 1028 | 8 | last_page |", "the page has 8 at 1028"),
        ("| 1028 | 4 | last_page |", "| 1028 | 4 | page |", "swap header: page is not declared"),
        (
            "| 1028 | 4 | last_page |",
            "| 1028 | 4 | (last_page) |",
            "swap header: last_page is not on the page",
        ),
        ("| 1028 | 4 | last_page |", "| 1028, 1032 | 4 | last_page |", "not as many offsets"),
        ("| 1028 | 4 | last_page |", "| x | 4 | last_page |", "`x` is no number"),
        (
            "<!-- structure: swap header -->",
            "<!-- structure: swap -->",
            "swap: no such structure is declared",
        ),
        ("<!-- structure: swap header -->", "<!-- structure: swap header at 8 -->", "at 1032 are declared"),
        ("<!-- structure: swap header -->", "", "a table names no structure"),
        ("| offset | bytes |", "| place | bytes |", "no table follows"),
    ] {
        assert!(page.contains(from));
        let lines = differences(&page.replace(from, to), structures).join("\n");
        assert!(lines.contains(words), "no `{words}` in {lines}");
    }
}
