//! The scan reads host directories in parallel. The order in which the host lists names and in which threads
//! finish does not matter: every listing is sorted, and listings refer to each other by number.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FileType, OFlags, RawDir};
use rustix::io::Errno;

use super::hold::Hold;
use super::look::{Asked, Entry, Name, What, filesystem};
use super::select::Selection;
use super::xattr::{self, Patterns};
use crate::error::{Error, Kind, Result};
use crate::host::{kind_of, open_any_length};
use crate::progress::Progress;
use crate::units::{index, u64_of};

/// A host path to scan.
#[derive(Clone, Debug)]
pub struct Request {
    /// A file or directory. If it is a link, it is followed when `follow` is set; links below it are never
    /// followed.
    pub path: PathBuf,
    /// Whether a symbolic link at `path` itself is followed.
    pub follow: bool,
    /// Which extended attributes to read.
    pub xattrs: Patterns,
    /// Whether to ask for holes. If not, all files count as having no holes.
    pub holes: bool,
    /// Which paths below it are looked at; `None` looks at all.
    pub select: Option<Arc<Selection>>,
}

impl Request {
    /// For all that is at `path`, or where a link there leads, with holes and the usual attributes.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), follow: true, xattrs: Patterns::default(), holes: true, select: None }
    }
}

/// Host paths that a scan leaves out, links above them resolved as those of its requests are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exclusions {
    /// Left out with all that is in them.
    pub paths: BTreeSet<PathBuf>,
    /// Directories that stay, empty.
    pub contents: BTreeSet<PathBuf>,
    /// Whether directories of other filesystems than that of the top stay, empty.
    pub other_filesystems: bool,
}

/// The result: one root per request, in their order.
#[derive(Debug)]
pub struct Scan {
    pub(super) roots: Vec<Root>,
    listings: Vec<Listing>,
    shelves: Vec<Shelf>,
}

/// The top of a request.
#[derive(Debug)]
pub(super) struct Root {
    /// The path; a link is resolved if it had to be followed.
    pub(super) path: PathBuf,
    pub(super) entry: Entry,
    /// Its bytes, if they were read.
    pub(super) held: Arc<Vec<u8>>,
}

/// Where the entries of a directory are.
#[derive(Debug)]
struct Listing {
    path: PathBuf,
    /// The shelf, and the range of its entries: sorted by the bytes of their names.
    shelf: usize,
    entries: Range<usize>,
}

/// What one thread has found, directory after directory. A few large allocations go back to the system when
/// they are freed; most of a million small ones would not.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    entries: Vec<Entry>,
    names: Vec<u8>,
    /// The bytes of small files.
    pub(super) held: Arc<Vec<u8>>,
}

impl Shelf {
    pub(super) fn name(&self, entry: &Entry) -> &[u8] {
        let start = index(entry.name);
        &self.names[start..start + usize::from(entry.name_length)]
    }
}

/// Reads all requested paths on `jobs` threads.
///
/// # Errors
/// [`Kind::Source`] naming the path that is missing or unreadable; if there are several, the first one in
/// sorted order.
pub fn scan(requests: &[Request], jobs: usize, progress: &Progress) -> Result<Scan> {
    let all: Vec<_> = requests.iter().map(|request| (request.clone(), Arc::default())).collect();
    scan_without(&all, jobs, progress)
}

/// As [`scan()`]. Each path comes with what is left out below it.
///
/// # Errors
/// As [`scan()`].
pub fn scan_without(
    requests: &[(Request, Arc<Exclusions>)],
    jobs: usize,
    progress: &Progress,
) -> Result<Scan> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(jobs.max(1))
        .build()
        .map_err(|error| Error::new(Kind::Source, "cannot start threads for the scan").because(error))?;
    let work = Work {
        progress,
        hold: Hold::new(),
        next: AtomicU32::new(0),
        shelves: (0..pool.current_num_threads()).map(|_| Mutex::default()).collect(),
        listings: Mutex::new(Vec::new()),
        errors: Mutex::new(Vec::new()),
    };
    let roots: Vec<Result<Root>> = pool.scope(|scope| {
        requests
            .iter()
            .map(|request| {
                let spawn = |path, asked| work.spawn(scope, path, Arc::new(asked));
                root(request, &work.hold, spawn)
            })
            .collect()
    });
    let mut errors = into_inner(work.errors);
    errors.sort_by(|a, b| a.0.cmp(&b.0));
    // An error at a root comes first, because the cause cannot lie below it.
    let roots = roots.into_iter().collect::<Result<Vec<_>>>()?;
    if let Some((_, error)) = errors.into_iter().next() {
        return Err(error);
    }
    let mut numbered = into_inner(work.listings);
    numbered.sort_by_key(|(number, _)| *number);
    let listings = numbered.into_iter().map(|(_, listing)| listing).collect();
    let shelves = work.shelves.into_iter().map(|shelf| {
        let (mut shelf, held) = into_inner(shelf);
        shelf.held = Arc::new(held);
        shelf
    });
    Ok(Scan { roots, listings, shelves: shelves.collect() })
}

fn no_file(path: &Path, kind: &str) -> Error {
    Error::new(Kind::Source, "the source is neither a file nor a folder").at(path).found(kind)
}

/// The hint for a name that may have been meant as a pattern of a shell.
fn literal(path: &Path) -> Option<&'static str> {
    let marked = path.as_os_str().as_encoded_bytes().iter().any(|byte| matches!(byte, b'?' | b'['));
    marked.then_some("only `*` makes a pattern; `?` and `[` stand for themselves")
}

/// Examines the top of a request. If it is a directory, `spawn` reads it and returns the number of its
/// listing.
fn root<'r>(
    (request, without): &'r (Request, Arc<Exclusions>),
    hold: &Hold,
    spawn: impl FnOnce(PathBuf, Asked<'r>) -> u32,
) -> Result<Root> {
    let failed = |error: Errno| {
        let what = if error == Errno::NOENT { "the source does not exist" } else { "cannot read the source" };
        Error::io(Kind::Source, what, &request.path, error).or_hint(literal(&request.path))
    };
    let path = if request.follow {
        request.path.canonicalize().map_err(|error| {
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            let what = match request.path.metadata() {
                // What a link in /proc leads to need not have a path.
                Ok(meta) if missing => return no_file(&request.path, kind_of(meta.file_type())),
                _ if missing => "the source does not exist",
                _ => "cannot read the source",
            };
            Error::io(Kind::Source, what, &request.path, error).or_hint(literal(&request.path))
        })?
    } else {
        request.path.clone()
    };
    let select = request.select.as_deref().map(|select| (select, path.clone()));
    let at = Name::whole(&path);
    // If nothing exists there, that is the error.
    let filesystem = filesystem(&at.stat().map_err(failed)?);
    let xattrs = xattr::Reader::new(&request.xattrs);
    let asked = Asked { xattrs, holes: request.holes, without, select, filesystem };
    let mut held = Vec::new();
    let mut entry = Entry::look(at, (0, 0), FileType::Unknown, (hold, &mut held), &asked)?;
    if let What::Directory(listing) = &mut entry.what {
        *listing = spawn(path.clone(), asked);
    }
    Ok(Root { path, entry, held: Arc::new(held) })
}

/// The shared state of the threads of one scan.
struct Work<'p> {
    progress: &'p Progress,
    hold: Hold,
    next: AtomicU32,
    /// One for each thread, which alone uses it, together with the bytes that the shelf will hold.
    shelves: Vec<Mutex<(Shelf, Vec<u8>)>>,
    listings: Mutex<Vec<(u32, Listing)>>,
    errors: Mutex<Vec<(PathBuf, Error)>>,
}

impl Work<'_> {
    /// Reads a directory on some thread. Returns the number that its listing will have.
    fn spawn<'s>(&'s self, scope: &rayon::Scope<'s>, path: PathBuf, asked: Arc<Asked<'s>>) -> u32 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        scope.spawn(move |scope| {
            let result = self.progress.check().and_then(|()| self.directory(scope, path.clone(), &asked));
            match result {
                Ok(listing) => {
                    self.progress.advance(0, u64_of(listing.entries.len()));
                    lock(&self.listings).push((number, listing));
                }
                Err(error) => lock(&self.errors).push((path, error)),
            }
        });
        number
    }

    /// The number of the listing of a directory that is not read.
    fn empty(&self, path: PathBuf) -> u32 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.listings).push((number, Listing { path, shelf: 0, entries: 0..0 }));
        number
    }

    fn directory<'s>(
        &'s self,
        scope: &rayon::Scope<'s>,
        path: PathBuf,
        asked: &Arc<Asked<'s>>,
    ) -> Result<Listing> {
        let failed = |error: Errno| Error::io(Kind::Source, "cannot read the source directory", &path, error);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let directory = open_any_length(&path, flags).map_err(failed)?;
        let number = rayon::current_thread_index().unwrap_or(0);
        let own = self.shelves.get(number).ok_or_else(|| Error::bug("a thread without a shelf"))?;
        let (shelf, held) = &mut *lock(own);
        let mut spans = list(&directory, &mut shelf.names).map_err(failed)?;
        let names = shelf.names.as_slice();
        if asked.without.contents.contains(&path) {
            spans.clear();
        } else if !asked.without.paths.is_empty() {
            let named = |it: &Span| path.join(OsStr::from_bytes(span(names, *it)));
            spans.retain(|span| !asked.without.paths.contains(&named(span)));
        }
        spans.sort_by(|a, b| span(names, *a).cmp(span(names, *b)));
        let first = shelf.entries.len();
        shelf.entries.reserve(spans.len());
        let mut child = Child::of(&path);
        for (start, length, kind) in spans {
            let name = OsStr::from_bytes(span(names, (start, length, kind)));
            let at = Name { directory: Some(&directory), name, path: child.path(name) };
            if !asked.takes(at, kind) {
                continue;
            }
            let mut entry = Entry::look(at, (start, length), kind, (&self.hold, held), asked)?;
            if let What::Directory(listing) = &mut entry.what {
                let path = at.path.to_owned();
                *listing = match asked.without.other_filesystems && entry.inode.0 != asked.filesystem {
                    true => self.empty(path),
                    false => self.spawn(scope, path, Arc::clone(asked)),
                };
            }
            shelf.entries.push(entry);
        }
        Ok(Listing { path, shelf: number, entries: first..shelf.entries.len() })
    }
}

/// The paths of a directory's names, one after the other in one buffer, since most of them are needed for one
/// call only.
struct Child {
    bytes: Vec<u8>,
    folder: usize,
}

impl Child {
    fn of(folder: &Path) -> Self {
        let mut bytes = folder.as_os_str().as_bytes().to_vec();
        if !bytes.ends_with(b"/") {
            bytes.push(b'/');
        }
        Self { folder: bytes.len(), bytes }
    }

    fn path(&mut self, name: &OsStr) -> &Path {
        self.bytes.truncate(self.folder);
        self.bytes.extend_from_slice(name.as_bytes());
        Path::new(OsStr::from_bytes(&self.bytes))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn into_inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Offset and length of a name among the names of a listing, and its type, if the host reports it.
type Span = (u32, u8, FileType);

fn span(names: &[u8], (start, length, _): Span) -> &[u8] {
    &names[index(start)..index(start) + usize::from(length)]
}

/// How much of a listing the kernel returns at once: for most directories all of it.
const LISTED: usize = 32 * 1024;

/// Adds the names in a directory to `names`, in the order of the host.
fn list(directory: &OwnedFd, names: &mut Vec<u8>) -> Result<Vec<Span>, Errno> {
    let mut spans = Vec::new();
    let mut buffer = [const { MaybeUninit::uninit() }; LISTED];
    let mut listed = RawDir::new(directory, &mut buffer);
    while let Some(entry) = listed.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        // Names have at most 255 bytes in Linux; 4 GiB of names on one thread are at least 16 million names.
        let start = u32::try_from(names.len()).map_err(|_| Errno::OVERFLOW)?;
        let length = u8::try_from(name.len()).map_err(|_| Errno::NAMETOOLONG)?;
        names.extend_from_slice(name);
        spans.push((start, length, entry.file_type()));
    }
    Ok(spans)
}

impl Scan {
    /// The number of names that were found.
    #[must_use]
    pub fn names(&self) -> usize {
        self.roots.len() + self.shelves.iter().map(|shelf| shelf.entries.len()).sum::<usize>()
    }

    /// The path of a directory and its entries, with the shelf that has their names.
    pub(super) fn listing(&self, number: u32) -> Result<(&Path, &Shelf, &[Entry])> {
        let missing = || Error::bug("a listing is missing");
        let listing = self.listings.get(index(number)).ok_or_else(missing)?;
        let shelf = self.shelves.get(listing.shelf).ok_or_else(missing)?;
        let entries = shelf.entries.get(listing.entries.clone()).ok_or_else(missing)?;
        Ok((&listing.path, shelf, entries))
    }

    /// Whether the top of request `number` is a directory.
    #[must_use]
    pub fn is_directory(&self, number: usize) -> bool {
        self.roots.get(number).is_some_and(|root| matches!(root.entry.what, What::Directory(_)))
    }

    /// The path of request `number`; a link is resolved if it had to be followed.
    #[must_use]
    pub fn path(&self, number: usize) -> &Path {
        self.roots.get(number).map_or(Path::new(""), |root| &root.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_found_sorted_whatever_the_number_of_threads() {
        let top = tempfile::tempdir().unwrap();
        for name in ["b", "a", "c/d", "c/a", "Z"] {
            let path = top.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        std::os::unix::fs::symlink("a", top.path().join("link")).unwrap();
        for jobs in [1, 4] {
            let scan = scan(&[Request::new(top.path())], jobs, &Progress::default()).unwrap();
            let What::Directory(number) = scan.roots[0].entry.what else { panic!() };
            let (_, shelf, entries) = scan.listing(number).unwrap();
            let names: Vec<_> = entries.iter().map(|entry| shelf.name(entry)).collect();
            assert_eq!(names, [b"Z".as_slice(), b"a", b"b", b"c", b"link"]);
            assert_eq!(scan.names(), 8);
            assert!(matches!(&entries[4].what, What::Symlink(target) if &**target == b"a"));
        }
    }

    #[test]
    fn paths_in_a_buffer_are_those_that_join_makes() {
        for folder in ["/", "/a", "a/b/", "."] {
            let mut child = Child::of(Path::new(folder));
            for name in ["long name", "x", "", "yy"] {
                assert_eq!(child.path(OsStr::new(name)), Path::new(folder).join(name), "{folder} {name}");
            }
        }
    }

    #[test]
    fn what_is_excluded_is_not_looked_at() {
        let top = tempfile::tempdir().unwrap();
        for name in ["a/b", "a/c", "d/e/f", "g"] {
            let path = top.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        let real = top.path().canonicalize().unwrap();
        let without = Exclusions {
            paths: [real.join("a/b"), real.join("g")].into(),
            contents: [real.join("d/e"), real.join("elsewhere")].into(),
            ..Exclusions::default()
        };
        let names = |without: Exclusions| {
            let request = (Request::new(top.path()), Arc::new(without));
            scan_without(&[request], 2, &Progress::default()).unwrap().names()
        };
        // The root, a, a/b, a/c, d, d/e, d/e/f, g.
        assert_eq!(names(Exclusions::default()), 8);
        assert_eq!(names(without), 5);
        assert_eq!(names(Exclusions { contents: [real.clone()].into(), ..Exclusions::default() }), 1);
    }

    #[test]
    fn a_missing_source_is_named() {
        let error = scan(&[Request::new("/nonexistent/x")], 2, &Progress::default()).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/x"), "{error}");
        assert_eq!(error.kind(), Kind::Source);
    }
}
