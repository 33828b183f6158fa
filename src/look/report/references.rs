//! Who refers to whom among store paths: by Nix's database in the image, by the registration that a first boot loads into
//! it, or by a search of all files for the hashes of store paths, as Nix finds references itself.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use rayon::prelude::*;

use super::inventory::{Contents, What, tolerate};
use crate::error::{Error, Kind, Result};
use crate::filesystem::Content;
use crate::look::copy::Reader;
use crate::nix::{Closure, StorePath};
use crate::units::{GIB, index, u64_of, usize_of};

/// The digits of the hash of a store path (Nix, base-nix-32.hh).
const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";
/// How many digits it has.
const HASH: usize = 32;
/// The largest file of a database or a registration that is read.
const LARGEST: u64 = GIB;

/// References, by the numbers of store paths: which ones each refers to, itself left out.
pub(super) struct References {
    /// Where they come from, in words.
    pub(super) source: String,
    pub(super) of: Vec<BTreeSet<usize>>,
}

/// A store path in the image: its name, and its entry.
pub(super) struct Member {
    pub(super) path: StorePath,
    pub(super) entry: usize,
}

/// Finds the references of `members`. The first source that knows all of them is taken.
pub(super) fn references(
    contents: &Contents<'_>,
    members: &[Member],
    children: &[Vec<u32>],
    remarks: &mut Vec<String>,
) -> Result<References> {
    let numbers: HashMap<&StorePath, usize> =
        members.iter().enumerate().map(|(at, own)| (&own.path, at)).collect();
    let sources: [(&[&[u8]], Known); 2] = [
        (&[b"nix", b"var", b"nix", b"db", b"db.sqlite"], database),
        (&[b"nix-path-registration"], registration),
    ];
    for top in contents.inventory.tops() {
        for (path, read) in sources {
            let Some(file) = contents.inventory.find(top, path, children) else { continue };
            let name = super::shown(contents.inventory, file);
            let known = bytes(contents, file).and_then(|mut bytes| read(&mut bytes, Path::new(&name)));
            let known = match known {
                Ok(known) => known,
                Err(error) if matches!(error.kind(), Kind::Interrupted | Kind::Source) => return Err(error),
                Err(error) => {
                    remarks.push(format!("{name} is not used: {}", error.to_string().replace("\n  ", ", ")));
                    continue;
                }
            };
            let missing = members.iter().filter(|own| !known.contains_key(&own.path)).count();
            if missing > 0 {
                remarks
                    .push(format!("{name} is not used: it does not know {missing} store paths of the image"));
                continue;
            }
            let of = members.iter().map(|own| numbered(&own.path, &known[&own.path], &numbers)).collect();
            return Ok(References { source: name, of });
        }
    }
    let of = search(contents, members, children, remarks)?;
    Ok(References { source: "a search of all files for the hashes of store paths".to_owned(), of })
}

/// What a source says: the references of each store path that it knows.
type Graph = HashMap<StorePath, Vec<StorePath>>;
/// Reads a source.
type Known = fn(&mut [u8], &Path) -> Result<Graph>;

fn numbered(own: &StorePath, of: &[StorePath], numbers: &HashMap<&StorePath, usize>) -> BTreeSet<usize> {
    of.iter().filter(|path| *path != own).filter_map(|path| numbers.get(path).copied()).collect()
}

/// The bytes of a file.
fn bytes(contents: &Contents<'_>, file: usize) -> Result<Vec<u8>> {
    let entry = &contents.inventory.entries[file];
    if entry.what != What::File || entry.size > LARGEST {
        return Err(Error::new(Kind::Format, "it is no file, or too large"));
    }
    let mut bytes = vec![0; usize_of(entry.size)];
    contents.pieces(file, (0, entry.size), &mut Reader::default(), &mut |at, piece| {
        let from = usize_of(at);
        bytes[from..from + piece.len()].copy_from_slice(piece);
        Ok(())
    })?;
    Ok(bytes)
}

/// What `nix-store --load-db` reads.
fn registration(bytes: &mut [u8], name: &Path) -> Result<Graph> {
    let closure = Closure::from_registration(bytes, name)?;
    let of = |path: &StorePath| {
        closure.facts(path).map_or_else(Vec::new, |facts| facts.references.iter().cloned().collect())
    };
    Ok(closure.paths().map(|path| (path.clone(), of(path))).collect())
}

/// Nix's database. Its bytes come from the image, so nothing of it is trusted: both tables must be tables, and it is open
/// for reading only.
#[cfg(feature = "nix-database")]
fn database(bytes: &mut [u8], _: &Path) -> Result<Graph> {
    // Nix writes ahead to a log. A database in memory has none, and refuses a file that says so.
    for version in bytes.iter_mut().skip(18).take(2) {
        *version = 1;
    }
    let refused = |error: rusqlite::Error| Error::new(Kind::Format, "SQLite cannot read it").because(error);
    query(bytes).map_err(refused)?.ok_or_else(|| Error::new(Kind::Format, "it is no database of Nix"))
}

/// Nix's database.
#[cfg(not(feature = "nix-database"))]
fn database(_: &mut [u8], _: &Path) -> Result<Graph> {
    Err(Error::new(Kind::Format, "this diskwright was built without SQLite"))
}

/// The references in a database; `None` if it lacks the tables.
#[cfg(feature = "nix-database")]
fn query(bytes: &[u8]) -> rusqlite::Result<Option<Graph>> {
    let mut database = rusqlite::Connection::open_in_memory()?;
    database.deserialize_read_exact("main", bytes, bytes.len(), true)?;
    database
        .execute_batch("pragma trusted_schema = off; pragma cell_size_check = on; pragma query_only = on;")?;
    let plain: i64 = database.query_row(
        "select count(*) from sqlite_schema where type = 'table' and rootpage > 0 and name in ('ValidPaths', 'Refs')",
        [],
        |row| row.get(0),
    )?;
    if plain != 2 {
        return Ok(None);
    }
    let path = |text: String| StorePath::from_base_name(text.rsplit('/').next().unwrap_or_default()).ok();
    let mut graph = Graph::new();
    let mut of_number: HashMap<i64, StorePath> = HashMap::new();
    let mut paths = database.prepare("select id, path from ValidPaths")?;
    let mut rows = paths.query([])?;
    while let Some(row) = rows.next()? {
        if let Some(path) = path(row.get(1)?) {
            graph.insert(path.clone(), Vec::new());
            of_number.insert(row.get(0)?, path);
        }
    }
    let mut references = database.prepare("select referrer, reference from Refs")?;
    let mut rows = references.query([])?;
    while let Some(row) = rows.next()? {
        let (from, to): (i64, i64) = (row.get(0)?, row.get(1)?);
        if let (Some(from), Some(to)) = (of_number.get(&from), of_number.get(&to)) {
            graph.entry(from.clone()).or_default().push(to.clone());
        }
    }
    Ok(Some(graph))
}

/// Searches all files and links of each store path for the hashes of the others.
fn search(
    contents: &Contents<'_>,
    members: &[Member],
    children: &[Vec<u32>],
    remarks: &mut Vec<String>,
) -> Result<Vec<BTreeSet<usize>>> {
    let inventory = contents.inventory;
    let hashes: HashMap<&[u8], usize> =
        members.iter().enumerate().map(|(at, own)| (own.path.hash_part().as_bytes(), at)).collect();
    let mut work = Vec::new();
    for (number, member) in members.iter().enumerate() {
        let mut stack = vec![member.entry];
        while let Some(at) = stack.pop() {
            if inventory.entries[at].what == What::Directory {
                stack.extend(children[at].iter().map(|child| index(*child)));
            } else {
                work.push((number, at));
            }
        }
    }
    let found: Vec<Result<(usize, BTreeSet<usize>)>> = work
        .par_iter()
        .map_init(Reader::default, |reader, (number, at)| {
            searched(contents, *at, &hashes, reader).map(|found| (*number, found))
        })
        .collect();
    let mut of = vec![BTreeSet::new(); members.len()];
    for found in found {
        match found {
            Ok((number, found)) => of[number].extend(found),
            Err(error) => tolerate(Err(error), "references", remarks)?,
        }
    }
    for (number, own) in of.iter_mut().enumerate() {
        own.remove(&number);
    }
    Ok(of)
}

/// The store paths whose hashes are in a file, or in the target of a link.
fn searched(
    contents: &Contents<'_>,
    at: usize,
    hashes: &HashMap<&[u8], usize>,
    reader: &mut Reader,
) -> Result<BTreeSet<usize>> {
    let entry = &contents.inventory.entries[at];
    let mut found = BTreeSet::new();
    if entry.what == What::Other {
        if let Content::Symlink { target } = contents.volume(at)?.node(entry.inode)?.content {
            hashes_in(&target, hashes, &mut found);
        }
        return Ok(found);
    }
    // A hash may lie over the end of a piece.
    let (mut tail, mut end) = (Vec::new(), 0);
    contents.pieces(at, (0, u64::MAX), reader, &mut |from, bytes| {
        if from != end {
            tail.clear();
        }
        let head = &bytes[..bytes.len().min(HASH - 1)];
        if !tail.is_empty() {
            tail.extend_from_slice(head);
            hashes_in(&tail, hashes, &mut found);
        }
        hashes_in(bytes, hashes, &mut found);
        let kept = bytes.len().min(HASH - 1);
        if bytes.len() >= HASH {
            tail.clear();
        }
        tail.extend_from_slice(&bytes[bytes.len() - kept..]);
        end = from + u64_of(bytes.len());
        Ok(())
    })?;
    Ok(found)
}

/// Adds the known hashes in `bytes` to `found`. It looks at the last byte of a window first, so of other bytes it reads few.
fn hashes_in(bytes: &[u8], hashes: &HashMap<&[u8], usize>, found: &mut BTreeSet<usize>) {
    let mut at = 0;
    while let Some(window) = bytes.get(at..at + HASH) {
        match window.iter().rposition(|byte| !IS_DIGIT[usize::from(*byte)]) {
            Some(other) => at += other + 1,
            None => {
                if let Some(number) = hashes.get(window) {
                    found.insert(*number);
                }
                at += 1;
            }
        }
    }
}

/// Whether a byte is a digit of a hash.
const IS_DIGIT: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0;
    let mut byte = 0_u8;
    // `as` is not used in this program, so the number of a digit counts along.
    while byte < 255 {
        let mut digit = 0;
        while digit < DIGITS.len() {
            if DIGITS[digit] == byte {
                table[at] = true;
            }
            digit += 1;
        }
        at += 1;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_found_wherever_they_lie() {
        let (one, other) = ("0123456789abcdfghijklmnpqrsvwxyz", "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz");
        let hashes = HashMap::from([(one.as_bytes(), 0), (other.as_bytes(), 1)]);
        for (text, expected) in [
            (format!("/nix/store/{one}-a"), vec![0]),
            (format!("{other}{one}"), vec![0, 1]),
            (format!("x{one}"), vec![0]),
            (format!("e{}", &one[1..]), vec![]),
            (one[1..].to_owned(), vec![]),
            (String::new(), vec![]),
            (format!("{}{other}", "E".repeat(100)), vec![1]),
        ] {
            let mut found = BTreeSet::new();
            hashes_in(text.as_bytes(), &hashes, &mut found);
            assert_eq!(found.into_iter().collect::<Vec<_>>(), expected, "{text}");
        }
    }
}
