//! From the entries of a filesystem to a [`Tree`]: one scan of all host paths, then one name after another.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::contents::{Entry, Payload, Piece};
use super::derived::{self, Values};
use super::files::last_part;
use super::spec::Disk;
use crate::archive::{Place, Read};
use crate::error::{Error, Kind, Result, Subject, Warning};
use crate::host::fakeroot;
use crate::pour::Packer;
use crate::progress::Progress;
use crate::text::printable_path;
use crate::tree::build::Origin;
use crate::tree::xattr::{Patterns, matches};
use crate::tree::{self, Accounts, Owner, Request, Rules, Scan, Time, Tree, View};

/// A host path that goes to a place in the tree.
#[derive(Debug)]
struct Graft<'a> {
    request: Request,
    target: Vec<u8>,
    rules: &'a Rules,
    /// Whether the target is the name of the copy itself; otherwise it is the directory that gets the copy.
    named: bool,
}

/// How a tree is made from entries.
pub(super) struct Reading<'a> {
    /// The partition that the entries belong to, for errors.
    pub(super) partition: usize,
    /// Whether its type is that of a partition with boot files.
    pub(super) boot: bool,
    /// The time of directories that no entry names.
    pub(super) time: Time,
    /// Threads.
    pub(super) jobs: usize,
    pub(super) progress: &'a Progress,
    /// Keeps what cannot be read in place.
    pub(super) packer: &'a Packer,
    /// The values that texts refer to.
    pub(super) values: &'a dyn Fn(usize) -> Result<&'a Values>,
}

impl Reading<'_> {
    fn subject(&self, entry: usize) -> Subject {
        Subject::Entry { partition: self.partition, entry }
    }

    /// Adds the entry that an error is about, unless it names one already.
    fn blame(&self, error: Error, entry: usize) -> Error {
        if error.is_blamed() { error } else { error.on(self.subject(entry)) }
    }

    /// Refuses to read owners that a library makes up, for a filesystem that keeps owners.
    ///
    /// # Errors
    /// As [`fakeroot::refuse_here`]; the error names the first entry whose owners on this host matter.
    pub(super) fn check_owners(&self, entries: &[Entry]) -> Result<()> {
        let read = |entry: &Entry| match &entry.payload {
            Payload::Source { rules, .. } | Payload::Glob { rules, .. } => {
                rules.tell_owners || rules.owner == Owner::Preserve
            }
            _ => false,
        };
        match entries.iter().position(read) {
            Some(number) => fakeroot::refuse_here().map_err(|error| self.blame(error, number)),
            None => Ok(()),
        }
    }

    /// Reads everything that `entries` bring and puts it into a tree.
    ///
    /// # Errors
    /// Each error names its entry: [`Kind::Source`] for a host path that is missing or unreadable;
    /// [`Kind::Manifest`] for two entries with one target, a target outside its root or below a symbolic
    /// link, and a closure that does not parse.
    ///
    /// `more` is asked what else goes there, once all that is there; it takes the place of what is there.
    pub(super) fn tree(
        &self,
        entries: &[Entry],
        more: impl FnOnce(View<'_>) -> Result<Vec<Entry>>,
    ) -> Result<Arc<Tree>> {
        let mut grafts = Vec::new();
        // The range of grafts of each entry.
        let mut spans = Vec::with_capacity(entries.len());
        for (number, entry) in entries.iter().enumerate() {
            let first = grafts.len();
            expand(entry, &mut grafts).map_err(|error| self.blame(error, number))?;
            spans.push(first..grafts.len());
        }
        let without = |graft: &Graft<'_>| Arc::clone(&graft.rules.without);
        let requests: Vec<_> = grafts.iter().map(|graft| (graft.request.clone(), without(graft))).collect();
        let scan = tree::scan_without(&requests, self.jobs, self.progress).map_err(|error| {
            let cause = error
                .path()
                .and_then(|path| requests.iter().position(|(request, _)| is_below(&request.path, path)));
            let entry = cause.and_then(|number| spans.iter().position(|span| span.contains(&number)));
            match entry {
                Some(number) => self.blame(error, number),
                None => error,
            }
        })?;
        let mut builder = tree::Builder::new(self.time);
        builder.begin_boot_with_data(self.boot);
        let reads = |entry: &Entry| matches!(entry.payload, Payload::Source { .. } | Payload::Glob { .. });
        if entries.iter().any(reads) {
            fakeroot::warning_here().into_iter().for_each(|warning| builder.warn(warning));
        }
        let mut named = Vec::new();
        for ((number, entry), span) in entries.iter().enumerate().zip(spans) {
            self.progress.check()?;
            let origin = builder.origin(self.subject(number));
            let _ = builder.replace(entry.replace);
            let placed = match grafts.get(span.clone()) {
                Some(own) if !own.is_empty() => span
                    .zip(own)
                    .try_for_each(|(number, graft)| put_graft(&mut builder, graft, &scan, number, origin)),
                _ => self.put_made(&mut builder, entry, origin),
            };
            placed.map_err(|error| {
                // A target is what the description says, and a file that it names is not at fault.
                let written = error.kind() == Kind::Capacity && entry.payload.is_made();
                self.blame(if written { error.with_kind(Kind::Manifest) } else { error }, number)
            })?;
            if let Some(pattern) = entry.payload.unmet() {
                let error =
                    Error::new(Kind::Source, "nothing of the source matches what is to be taken over");
                return Err(self.blame(error.about("include").found(pattern), number));
            }
            if !builder.replace(false) && entry.replace {
                let target = crate::text::printable(entry.target.as_bytes());
                builder.warn(Warning(format!(
                    "the entry for {target} is to replace something, and replaces nothing"
                )));
            }
            named.extend(entry.owner.as_ref().map(|owner| (number, origin, owner)));
        }
        self.put_more(&mut builder, more)?;
        self.change(&mut builder, entries, &named)?;
        builder.finish_watched(self.jobs, self.progress).map(Arc::new).map_err(|error| {
            let cause = error.path().and_then(|path| bringer(entries, path));
            match cause {
                Some(number) => self.blame(error, number),
                None => error,
            }
        })
    }

    /// Puts what boots the system.
    fn put_more(
        &self,
        builder: &mut tree::Builder,
        more: impl FnOnce(View<'_>) -> Result<Vec<Entry>>,
    ) -> Result<()> {
        let more = more(builder.view())?;
        let origin = builder.origin("what boots the system");
        let _ = builder.replace(true);
        more.iter().try_for_each(|entry| self.put_made(builder, entry, origin))?;
        let _ = builder.replace(false);
        Ok(())
    }

    /// Does what needs all names: owners by their names, and metadata of what other entries brought.
    fn change<'a>(
        &self,
        builder: &mut tree::Builder,
        entries: &'a [Entry],
        named: &[(usize, Origin, &'a Accounts)],
    ) -> Result<()> {
        let mut known = HashMap::new();
        for (number, origin, owner) in named {
            let ids =
                ids(builder, owner, &mut known).map_err(|error| self.blame(error.about("owner"), *number))?;
            builder.own(*origin, ids);
        }
        for (number, entry) in entries.iter().enumerate() {
            if let Payload::Table { table, time } = &entry.payload {
                let origin = builder.origin(self.subject(number));
                let applied = table.apply(builder, (&entry.target, *time), origin);
                applied.map_err(|error| self.blame(error, number))?;
            }
            let Payload::Change { change, below } = &entry.payload else { continue };
            let mut changed = || -> Result<()> {
                let mut change = change.clone();
                if let Some(owner) = &entry.owner {
                    change.owner = Some(ids(builder, owner, &mut known)?);
                }
                builder.change(entry.target.as_bytes(), *below, &change)
            };
            changed().map_err(|error| self.blame(error, number))?;
        }
        Ok(())
    }

    /// Puts what is made rather than copied.
    fn put_made(&self, builder: &mut tree::Builder, entry: &Entry, origin: Origin) -> Result<()> {
        let target = entry.target.as_bytes();
        match &entry.payload {
            Payload::Text { text, meta } => builder.text(target, Arc::clone(text), *meta, origin),
            Payload::Template { pieces, meta } => builder.text(target, self.filled(pieces)?, *meta, origin),
            Payload::Uki { uki, command_line, meta } => {
                let line = self.filled(command_line)?;
                let image = uki.assemble((!command_line.is_empty()).then_some(&line))?;
                builder.slice(target, image.whole(), *meta, origin)
            }
            Payload::Slice { slice, meta } => builder.slice(target, slice.clone(), *meta, origin),
            Payload::Symlink { to, meta } => builder.symlink(target, to.as_bytes(), *meta, origin),
            Payload::Node { content, meta } => builder.put(target, *meta, *content, origin),
            Payload::Attributes { xattrs } => builder.attach(target, xattrs),
            Payload::Fallback { meta } => builder.fallback(target, *meta, origin),
            Payload::Archive { archive, rules, xattrs } => {
                let Read { layers, warnings } = archive.read(self.packer)?;
                if layers.is_empty() {
                    let name = archive.path().map(printable_path).unwrap_or_default();
                    builder.warn(Warning(format!("the archive {name} holds nothing")));
                }
                warnings.into_iter().for_each(|warning| builder.warn(warning));
                builder.layers(target, &layers, (rules, xattrs), origin)
            }
            // An empty list is not a mistake. Metadata changes when everything is there.
            Payload::Store { .. } | Payload::Change { .. } | Payload::Table { .. } => Ok(()),
            Payload::Source { .. } | Payload::Glob { .. } | Payload::Closure { .. } => {
                Err(Error::bug("an entry that copies brought nothing"))
            }
        }
    }
}

impl Reading<'_> {
    /// The bytes of a template, once the values in it are known.
    fn filled(&self, pieces: &[Piece]) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) => text.extend_from_slice(bytes),
                Piece::Value { of, value } => {
                    text.extend_from_slice(derived::value((self.values)(*of)?, value)?.as_bytes());
                }
            }
        }
        Ok(text)
    }
}

/// As [`tree::Builder::ids`]. Accounts that are `known` already are not looked up again.
fn ids<'a>(
    builder: &tree::Builder,
    owner: &'a Accounts,
    known: &mut HashMap<&'a Accounts, (u32, u32)>,
) -> Result<(u32, u32)> {
    if let Some(ids) = known.get(owner) {
        return Ok(*ids);
    }
    let ids = builder.ids(owner)?;
    known.insert(owner, ids);
    Ok(ids)
}

impl Disk {
    /// Refuses a second archive on standard input, which can be read once.
    pub(super) fn check_standard_input(&self) -> Result<()> {
        let is = |entry: &Entry| matches!(&entry.payload, Payload::Archive { archive, .. } if archive.place == Place::StandardInput);
        let mut all = self.partitions.iter().enumerate().flat_map(|(partition, of)| {
            let entries = of.entries().iter().enumerate().filter(|(_, entry)| is(entry));
            entries.map(move |(entry, _)| Subject::Entry { partition, entry })
        });
        match all.nth(1) {
            None => Ok(()),
            Some(second) => {
                let error = Error::new(Kind::Manifest, "a second archive is read from standard input");
                Err(error.expected("one, or a file or a named pipe for each").on(second))
            }
        }
    }
}

/// The number of the entry that brings the host file `path`. If several do, it is the one with the longest
/// path.
pub(super) fn bringer(entries: &[Entry], path: &Path) -> Option<usize> {
    let closest = |entry: &Entry| {
        let above = |top: &PathBuf| is_below(top, path).then(|| top.components().count());
        match &entry.payload {
            Payload::Source { path, .. } => above(path),
            Payload::Glob { folder, .. } => above(folder),
            // The closure is read again, because only an error needs it. If it cannot be read now, it names
            // no path.
            Payload::Closure { path, .. } => closure(path).unwrap_or_default().iter().filter_map(above).max(),
            Payload::Store { paths, .. } => paths.iter().filter_map(|(path, _)| above(path)).max(),
            Payload::Uki { uki, .. } => {
                uki.files().into_iter().filter_map(|path| above(&path.to_owned())).max()
            }
            Payload::Archive { archive, .. } => archive.path().and_then(|path| above(&path.to_owned())),
            Payload::Change { .. }
            | Payload::Table { .. }
            | Payload::Text { .. }
            | Payload::Template { .. }
            | Payload::Slice { .. }
            | Payload::Symlink { .. }
            | Payload::Node { .. }
            | Payload::Attributes { .. }
            | Payload::Fallback { .. } => None,
        }
    };
    let found = (0..).zip(entries).filter_map(|(number, entry)| Some((closest(entry)?, number)));
    found.max_by_key(|(closeness, _)| *closeness).map(|(_, number)| number)
}

/// Whether `path` is `top` or below it. `path` may be absolute and free of links.
pub(super) fn is_below(top: &Path, path: &Path) -> bool {
    path.starts_with(top)
        || std::path::absolute(top).is_ok_and(|top| path.starts_with(top))
        || top.canonicalize().is_ok_and(|top| path.starts_with(top))
}

/// The number of the entry that put `path` into the filesystem: the one with the longest target at or above
/// `path`.
pub(super) fn cause(entries: &[Entry], path: &Path) -> Option<usize> {
    // Compares components, so that `//` and a final `/` do not matter, as in the tree.
    let above = (0..).zip(entries).filter(|(_, entry)| path.starts_with(Path::new(&entry.target)));
    above.max_by_key(|(_, entry)| Path::new(&entry.target).components().count()).map(|(number, _)| number)
}

/// Adds the host paths that an entry brings.
fn expand<'a>(entry: &'a Entry, grafts: &mut Vec<Graft<'a>>) -> Result<()> {
    match &entry.payload {
        Payload::Source { path, rules, xattrs } => {
            let (select, xattrs) = (rules.select.clone(), xattrs.clone());
            let request = Request { path: path.clone(), follow: true, xattrs, holes: true, select };
            grafts.push(Graft { request, target: entry.target.clone().into_bytes(), rules, named: true });
        }
        Payload::Glob { folder, pattern, rules, xattrs } => {
            for path in glob(folder, pattern)? {
                let target = join(&entry.target, last_part(&path)?.as_bytes());
                let (select, xattrs) = (rules.select.clone(), xattrs.clone());
                let request = Request { path, follow: false, xattrs, holes: true, select };
                grafts.push(Graft { request, target, rules, named: false });
            }
        }
        Payload::Closure { path, rules } => {
            for path in closure(path)? {
                let target = join(&entry.target, path.as_os_str().as_bytes());
                let request = of_the_store(path);
                grafts.push(Graft { request, target, rules, named: false });
            }
        }
        Payload::Store { paths, rules } => {
            for (path, name) in paths.iter() {
                let request = of_the_store(path.clone());
                grafts.push(Graft { request, target: join(&entry.target, name), rules, named: false });
            }
        }
        Payload::Archive { .. }
        | Payload::Change { .. }
        | Payload::Table { .. }
        | Payload::Text { .. }
        | Payload::Template { .. }
        | Payload::Uki { .. }
        | Payload::Slice { .. }
        | Payload::Symlink { .. }
        | Payload::Node { .. }
        | Payload::Attributes { .. }
        | Payload::Fallback { .. } => {}
    }
    Ok(())
}

/// The request for a store path. Its metadata is known, so nothing has to be asked. Its contents are a
/// sequence of bytes, even if the host stores zeros as holes (decision 6).
fn of_the_store(path: PathBuf) -> Request {
    Request { path, follow: false, xattrs: Patterns::new(Vec::new()), holes: false, select: None }
}

/// `name` below the directory `target`.
fn join(target: &str, name: &[u8]) -> Vec<u8> {
    [target.as_bytes(), b"/", name].concat()
}

/// Puts what a host path brings. A file whose target ends with `/` goes into that directory, as with cp and
/// rsync.
fn put_graft(
    builder: &mut tree::Builder,
    graft: &Graft<'_>,
    scan: &Scan,
    number: usize,
    origin: Origin,
) -> Result<()> {
    let into = graft.named && graft.target.len() > 1 && graft.target.ends_with(b"/");
    if !into || scan.is_directory(number) {
        return builder.graft(&graft.target, scan, number, graft.rules, origin);
    }
    let Some(name) = graft.request.path.file_name() else {
        return Err(Error::new(Kind::Source, "the source has no name of its own")
            .at(&graft.request.path)
            .hint("give the name that it shall have as target"));
    };
    let target = [&graft.target, name.as_bytes()].concat();
    builder.graft(&target, scan, number, graft.rules, origin)
}

/// The paths in `folder` that match `pattern` part by part, sorted by their bytes. A hidden name matches only
/// a part that begins with a dot.
pub(super) fn glob(folder: &Path, pattern: &str) -> Result<Vec<PathBuf>> {
    let mut found = vec![folder.to_owned()];
    let mut parts = pattern.split('/').filter(|part| !part.is_empty()).peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        let mut below = Vec::new();
        for path in found {
            if part.contains('*') {
                // A match may be a file; the rest of the pattern then matches nothing.
                if path == folder || path.is_dir() {
                    let names = names(&path)?.into_iter().filter(|name| fits(part, name));
                    below.extend(names.map(|name| path.join(name)));
                }
            } else if !last || path.join(part).symlink_metadata().is_ok() {
                below.push(path.join(part));
            }
        }
        found = below;
    }
    if found.is_empty() {
        return Err(Error::new(Kind::Source, "no file matches the source")
            .at(folder.join(pattern))
            .hint("names that begin with a dot match only a pattern that does"));
    }
    found.sort();
    Ok(found)
}

/// Whether a name matches a part of a pattern.
fn fits(part: &str, name: &OsString) -> bool {
    let hidden = name.as_bytes().starts_with(b".");
    (!hidden || part.starts_with('.')) && matches(part.as_bytes(), name.as_bytes())
}

/// The names in a directory.
fn names(folder: &Path) -> Result<Vec<OsString>> {
    let failed = |error: std::io::Error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let what = if missing { "the source does not exist" } else { "cannot read the source directory" };
        Error::io(Kind::Source, what, folder, error)
    };
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    entries.map(|entry| entry.map(|entry| entry.file_name()).map_err(failed)).collect()
}

/// The store paths that `path` lists, or `path/store-paths` if it is a directory: sorted, without duplicates.
pub(crate) fn closure(path: &Path) -> Result<BTreeSet<PathBuf>> {
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
        std::fs::create_dir(folder.path().join("y")).unwrap();
        std::fs::write(folder.path().join("y/d.conf"), "").unwrap();
        for (pattern, expected) in [
            ("*.conf", &["B.conf", "a.conf", "b.conf"][..]),
            ("*", &["B.conf", "a.conf", "b.conf", "x", "y"]),
            (".*", &[".c.conf"]),
            ("*/d.conf", &["y/d.conf"]),
            ("*/*.conf", &["y/d.conf"]),
            ("y/*", &["y/d.conf"]),
        ] {
            let expected: Vec<_> = expected.iter().map(|name| folder.path().join(name)).collect();
            assert_eq!(glob(folder.path(), pattern).unwrap(), expected, "{pattern}");
        }
        let error = glob(folder.path(), "*.d").unwrap_err();
        assert_eq!((error.kind(), error.what()), (Kind::Source, "no file matches the source"));
        let error = glob(&folder.path().join("no"), "*").unwrap_err();
        assert_eq!(error.what(), "the source does not exist");
    }

    #[test]
    fn the_entry_with_the_nearest_target_is_the_cause() {
        let entry = |target: &str| {
            let meta = tree::Meta::root(0o644, Time::default());
            Entry::new(target, Payload::Text { text: Arc::from([]), meta })
        };
        let entries = ["/", "/etc/", "//etc/nix", "/etcetera"].map(entry);
        for (path, target) in [
            ("/x", Some("/")),
            ("/etc/hosts", Some("/etc/")),
            ("/etc/nix/nix.conf", Some("//etc/nix")),
            ("/etcetera", Some("/etcetera")),
            ("relative", None),
        ] {
            assert_eq!(
                cause(&entries, Path::new(path)).map(|entry| entries[entry].target.as_str()),
                target,
                "{path}"
            );
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
