//! From the entries of a manifest's `contents` to a [`Tree`]: one scan of all host paths, then one name after another.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::front::manifest::Manifest;
use crate::front::manifest::resolve::{Entry, What};
use crate::progress::Progress;
use crate::text::printable_path;
use crate::tree::build::Origin;
use crate::tree::xattr::{Patterns, matches};
use crate::tree::{self, Request, Rules, Scan, Time, Tree};

/// A host path that goes to a place in the tree.
#[derive(Debug)]
struct Graft<'a> {
    request: Request,
    target: Vec<u8>,
    rules: &'a Rules,
    /// Whether only a directory may have a target that ends with `/`: the target is its own name, not what holds it.
    named: bool,
}

/// Reads all that `entries` bring on `jobs` threads and lays it out. `time` dates directories that no entry names.
///
/// # Errors
/// Each names the manifest's line: [`Kind::Source`] for a host path that is missing or unreadable, [`Kind::Manifest`] for
/// two entries with one target, a target outside its root or below a symbolic link, and for a closure that does not parse.
pub fn tree(
    manifest: &Manifest,
    entries: &[Entry],
    time: Time,
    jobs: usize,
    progress: &Progress,
) -> Result<Arc<Tree>> {
    let mut grafts = Vec::new();
    // Which grafts belong to which entry.
    let mut spans = Vec::with_capacity(entries.len());
    for entry in entries {
        let first = grafts.len();
        expand(entry, &mut grafts).map_err(|error| manifest.place(error, &entry.path))?;
        spans.push(first..grafts.len());
    }
    let requests: Vec<Request> = grafts.iter().map(|graft| graft.request.clone()).collect();
    let scan = tree::scan(&requests, jobs, progress).map_err(|error| {
        let cause =
            error.path().and_then(|path| requests.iter().position(|request| is_below(&request.path, path)));
        let entry = cause.and_then(|number| spans.iter().position(|span| span.contains(&number)));
        match entry.and_then(|number| entries.get(number)) {
            Some(entry) => manifest.place(error, &entry.path),
            None => error,
        }
    })?;
    let mut builder = tree::Builder::new(time);
    for (entry, span) in entries.iter().zip(spans) {
        progress.check()?;
        let origin = builder.origin(manifest.describe(&entry.path));
        let placed = match grafts.get(span.clone()) {
            Some(own) if !own.is_empty() => span
                .zip(own)
                .try_for_each(|(number, graft)| put_graft(&mut builder, graft, &scan, number, origin)),
            _ => put_made(&mut builder, entry, origin),
        };
        placed.map_err(|error| manifest.place(error, &entry.path))?;
    }
    builder.finish_watched(jobs, progress).map(Arc::new).map_err(|error| {
        let cause = error.path().and_then(|path| bringer(entries, path));
        match cause {
            Some(entry) => manifest.place(error, &entry.path),
            None => error,
        }
    })
}

/// The entry that brings the host file `path`: where several bring it, the one that names it most closely.
#[must_use]
pub fn bringer<'a>(entries: &'a [Entry], path: &Path) -> Option<&'a Entry> {
    let closest = |entry: &Entry| {
        let above = |top: &PathBuf| is_below(top, path).then(|| top.components().count());
        match &entry.what {
            What::Source { path, .. } => above(path),
            What::Glob { folder, .. } => above(folder),
            // Read again, since this is for an error only; what cannot be read now names nothing.
            What::Closure { path, .. } => closure(path).unwrap_or_default().iter().filter_map(above).max(),
            What::Store { paths, .. } => paths.iter().filter_map(|(path, _)| above(path)).max(),
            What::Text { .. } | What::Symlink { .. } | What::Node { .. } | What::Fallback { .. } => None,
        }
    };
    let found = entries.iter().filter_map(|entry| Some((closest(entry)?, entry)));
    found.max_by_key(|(closeness, _)| *closeness).map(|(_, entry)| entry)
}

/// Whether `path`, which may be absolute and free of links, is `top` or below it.
#[must_use]
pub fn is_below(top: &Path, path: &Path) -> bool {
    path.starts_with(top)
        || std::path::absolute(top).is_ok_and(|top| path.starts_with(top))
        || top.canonicalize().is_ok_and(|top| path.starts_with(top))
}

/// The entry that put `path`, which is inside the filesystem, there: the one with the longest target above it.
#[must_use]
pub fn cause<'a>(entries: &'a [Entry], path: &Path) -> Option<&'a Entry> {
    // Components are compared, so that `//` and a final `/` mean nothing, as in the tree.
    let above = entries.iter().filter(|entry| path.starts_with(Path::new(&entry.target)));
    above.max_by_key(|entry| Path::new(&entry.target).components().count())
}

/// Adds the host paths that an entry brings.
fn expand<'a>(entry: &'a Entry, grafts: &mut Vec<Graft<'a>>) -> Result<()> {
    match &entry.what {
        What::Source { path, rules, xattrs } => {
            let request = Request { path: path.clone(), follow: true, xattrs: xattrs.clone(), holes: true };
            grafts.push(Graft { request, target: entry.target.clone().into_bytes(), rules, named: true });
        }
        What::Glob { folder, pattern, rules, xattrs } => {
            for name in glob(folder, pattern)? {
                let target = join(&entry.target, name.as_bytes());
                let request =
                    Request { path: folder.join(name), follow: false, xattrs: xattrs.clone(), holes: true };
                grafts.push(Graft { request, target, rules, named: false });
            }
        }
        What::Closure { path, rules } => {
            for path in closure(path)? {
                let target = join(&entry.target, path.as_os_str().as_bytes());
                let request = of_the_store(path);
                grafts.push(Graft { request, target, rules, named: false });
            }
        }
        What::Store { paths, rules } => {
            for (path, name) in paths.iter() {
                let request = of_the_store(path.clone());
                grafts.push(Graft { request, target: join(&entry.target, name), rules, named: false });
            }
        }
        What::Text { .. } | What::Symlink { .. } | What::Node { .. } | What::Fallback { .. } => {}
    }
    Ok(())
}

/// The request for a store path. Its metadata is known, so nothing is asked; and what it holds is a sequence of bytes,
/// whether the host keeps zeros of it as a hole or not (decision 6).
fn of_the_store(path: PathBuf) -> Request {
    Request { path, follow: false, xattrs: Patterns::new(Vec::new()), holes: false }
}

/// `name` below the directory `target`.
fn join(target: &str, name: &[u8]) -> Vec<u8> {
    [target.as_bytes(), b"/", name].concat()
}

fn put_graft(
    builder: &mut tree::Builder,
    graft: &Graft<'_>,
    scan: &Scan,
    number: usize,
    origin: Origin,
) -> Result<()> {
    if graft.named && graft.target.len() > 1 && graft.target.ends_with(b"/") && !scan.is_directory(number) {
        return Err(Error::new(Kind::Manifest, "the target ends with `/`, but the source is a file")
            .at(&graft.request.path)
            .hint("give the name it shall have as target"));
    }
    builder.graft(&graft.target, scan, number, graft.rules, origin)
}

/// Puts what is made and not copied.
fn put_made(builder: &mut tree::Builder, entry: &Entry, origin: Origin) -> Result<()> {
    let target = entry.target.as_bytes();
    match &entry.what {
        What::Text { text, meta } => builder.text(target, Arc::clone(text), *meta, origin),
        What::Symlink { to, meta } => builder.symlink(target, to.as_bytes(), *meta, origin),
        What::Node { content, meta } => builder.put(target, *meta, *content, origin),
        What::Fallback { meta } => builder.fallback(target, *meta, origin),
        // A list of none is no mistake.
        What::Store { .. } => Ok(()),
        What::Source { .. } | What::Glob { .. } | What::Closure { .. } => {
            Err(Error::bug("an entry that copies brought nothing"))
        }
    }
}

/// The names in `folder` that match `pattern`, sorted by their bytes. Hidden names match only a pattern that begins with
/// a dot itself.
fn glob(folder: &Path, pattern: &str) -> Result<Vec<OsString>> {
    let failed = |error: std::io::Error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let what = if missing { "the source does not exist" } else { "cannot read the source directory" };
        Error::io(Kind::Source, what, folder, error)
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let hidden = name.as_bytes().starts_with(b".");
        if (!hidden || pattern.starts_with('.')) && matches(pattern.as_bytes(), name.as_bytes()) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return Err(Error::new(Kind::Source, "no file matches the source")
            .at(folder.join(pattern))
            .hint("names that begin with a dot match only a pattern that does"));
    }
    names.sort();
    Ok(names)
}

/// The store paths that `path` lists, or `path/store-paths` where it is a directory: sorted, each once.
fn closure(path: &Path) -> Result<BTreeSet<PathBuf>> {
    let failed = |path: &Path, error: std::io::Error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let what = if missing { "the closure does not exist" } else { "cannot read the closure" };
        Error::io(Kind::Source, what, path, error)
    };
    let list = match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => path.join("store-paths"),
        Ok(_) => path.to_owned(),
        Err(error) => return Err(failed(path, error)),
    };
    let bytes = std::fs::read(&list).map_err(|error| failed(&list, error))?;
    let mut paths = BTreeSet::new();
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty())
    {
        let normal = line.starts_with(b"/")
            && line.len() > 1
            && line[1..].split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."));
        let store_path = PathBuf::from(OsString::from_vec(line.to_vec()));
        if !normal || line.contains(&0) {
            return Err(Error::new(Kind::Manifest, "a line of the closure is no store path")
                .at_line(&list, crate::units::u64_of(number) + 1, printable_path(&store_path))
                .expected("an absolute path without `.` and `..`"));
        }
        paths.insert(store_path);
    }
    if paths.is_empty() {
        return Err(Error::new(Kind::Manifest, "the closure lists no store path").at(&list));
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_matches_sorted_and_hidden_names_only_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.conf", "a.conf", ".c.conf", "x", "B.conf"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        assert_eq!(glob(folder.path(), "*.conf").unwrap(), ["B.conf", "a.conf", "b.conf"]);
        assert_eq!(glob(folder.path(), "*").unwrap(), ["B.conf", "a.conf", "b.conf", "x"]);
        assert_eq!(glob(folder.path(), ".*").unwrap(), [".c.conf"]);
        let error = glob(folder.path(), "*.d").unwrap_err();
        assert_eq!((error.kind(), error.what()), (Kind::Source, "no file matches the source"));
        let error = glob(&folder.path().join("no"), "*").unwrap_err();
        assert_eq!(error.what(), "the source does not exist");
    }

    #[test]
    fn the_entry_with_the_nearest_target_is_the_cause() {
        let entry = |target: &str| Entry {
            path: crate::front::manifest::locate::KeyPath::top("contents"),
            target: target.to_owned(),
            what: What::Text { text: Arc::from([]), meta: tree::Meta::root(0o644, Time::default()) },
        };
        let entries = ["/", "/etc/", "//etc/nix", "/etcetera"].map(entry);
        for (path, target) in [
            ("/x", Some("/")),
            ("/etc/hosts", Some("/etc/")),
            ("/etc/nix/nix.conf", Some("//etc/nix")),
            ("/etcetera", Some("/etcetera")),
            ("relative", None),
        ] {
            assert_eq!(cause(&entries, Path::new(path)).map(|entry| entry.target.as_str()), target, "{path}");
        }
    }

    #[test]
    fn a_closure_is_a_list_or_a_directory_with_one() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("store-paths");
        std::fs::write(&list, "/nix/store/b\n/nix/store/a\n\n/nix/store/b\n").unwrap();
        let expected = BTreeSet::from(["/nix/store/a".into(), "/nix/store/b".into()]);
        assert_eq!(closure(&list).unwrap(), expected);
        assert_eq!(closure(folder.path()).unwrap(), expected);
        for (text, line) in [
            ("/nix/store/a\nnix/store/b\n", 2),
            ("/nix/store/../b", 1),
            ("/", 1),
            ("\n\n/a//b", 3),
            ("/a ", 0),
            ("/a\0", 1),
        ] {
            std::fs::write(&list, text).unwrap();
            match closure(&list) {
                Ok(_) => assert_eq!(line, 0, "{text:?}"),
                Err(error) => {
                    assert!(error.to_string().contains(&format!("store-paths:{line}: ")), "{error}");
                }
            }
        }
        std::fs::write(&list, "\n").unwrap();
        assert_eq!(closure(&list).unwrap_err().what(), "the closure lists no store path");
    }
}
