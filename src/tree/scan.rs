//! The scan: host directories read in parallel, one of the two rooms with threads. The order in which the host lists
//! names and in which threads finish leaves no trace: every listing is sorted, and listings refer to each other.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::{OFlags, RawDir};
use rustix::io::Errno;

use super::look::{Asked, Entry, Name, What};
use super::xattr::{self, Patterns};
use crate::error::{Error, Kind, Result};
use crate::host::open_any_length;
use crate::progress::Progress;
use crate::units::{index, u64_of};

/// A host path to scan.
#[derive(Clone, Debug)]
pub struct Request {
    /// File or directory. A link here is followed when `follow` is set, never below.
    pub path: PathBuf,
    /// Whether a symbolic link at `path` itself is followed.
    pub follow: bool,
    /// Which extended attributes to read.
    pub xattrs: Patterns,
    /// Whether to ask for holes. Without, all files are data throughout.
    pub holes: bool,
}

/// What was found: one root per request, in their order.
#[derive(Debug)]
pub struct Scan {
    pub(super) roots: Vec<Root>,
    pub(super) listings: Vec<Listing>,
}

/// The top of one request.
#[derive(Debug)]
pub(super) struct Root {
    /// The path, links resolved where they were to be followed.
    pub(super) path: PathBuf,
    pub(super) entry: Entry,
}

/// A directory's names, sorted.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) path: PathBuf,
    pub(super) entries: Vec<Entry>,
    pub(super) names: Vec<u8>,
}

impl Listing {
    pub(super) fn name(&self, entry: &Entry) -> &[u8] {
        let start = index(entry.name);
        &self.names[start..start + usize::from(entry.name_length)]
    }
}

/// Reads all requested paths on `jobs` threads.
///
/// # Errors
/// [`Kind::Source`] naming the path that is missing or unreadable; the first in sorted order where several are.
pub fn scan(requests: &[Request], jobs: usize, progress: &Progress) -> Result<Scan> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(jobs.max(1))
        .build()
        .map_err(|error| Error::new(Kind::Source, "cannot start threads for the scan").because(error))?;
    let work = Work {
        progress,
        next: AtomicU32::new(0),
        listings: Mutex::new(Vec::new()),
        errors: Mutex::new(Vec::new()),
    };
    let roots: Vec<Result<Root>> = pool.scope(|scope| {
        requests
            .iter()
            .map(|request| root(request, |path, asked| work.spawn(scope, path, Arc::new(asked))))
            .collect()
    });
    let mut errors = work.errors.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    errors.sort_by(|a, b| a.0.cmp(&b.0));
    // An error at a root comes first: what lies below it cannot be the cause.
    let roots = roots.into_iter().collect::<Result<Vec<_>>>()?;
    if let Some((_, error)) = errors.into_iter().next() {
        return Err(error);
    }
    let mut numbered = work.listings.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    numbered.sort_by_key(|(number, _)| *number);
    Ok(Scan { roots, listings: numbered.into_iter().map(|(_, listing)| listing).collect() })
}

/// Looks at the top of a request; `spawn` reads it if it is a directory and says which listing that will be.
fn root<'r>(request: &'r Request, spawn: impl FnOnce(PathBuf, Asked<'r>) -> u32) -> Result<Root> {
    let failed = |error: Errno| {
        let what = if error == Errno::NOENT { "the source does not exist" } else { "cannot read the source" };
        Error::io(Kind::Source, what, &request.path, error)
    };
    let path = if request.follow {
        request.path.canonicalize().map_err(|error| {
            let what = if error.kind() == std::io::ErrorKind::NotFound {
                "the source does not exist"
            } else {
                "cannot read the source"
            };
            Error::io(Kind::Source, what, &request.path, error)
        })?
    } else {
        request.path.clone()
    };
    let asked = Asked { xattrs: xattr::Reader::new(&request.xattrs), holes: request.holes };
    let at = Name::whole(&path);
    let stat = at.stat().map_err(failed)?;
    let mut entry = Entry::new(&stat, at, (0, 0))?;
    entry.look_closer(at, &stat, &asked)?;
    if let What::Directory(listing) = &mut entry.what {
        *listing = spawn(path.clone(), asked);
    }
    Ok(Root { path, entry })
}

/// What the threads of one scan share.
struct Work<'p> {
    progress: &'p Progress,
    next: AtomicU32,
    listings: Mutex<Vec<(u32, Listing)>>,
    errors: Mutex<Vec<(PathBuf, Error)>>,
}

impl Work<'_> {
    /// Reads a directory on some thread; returns the number its listing will have.
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

    fn directory<'s>(
        &'s self,
        scope: &rayon::Scope<'s>,
        path: PathBuf,
        asked: &Arc<Asked<'s>>,
    ) -> Result<Listing> {
        let failed = |error: Errno| Error::io(Kind::Source, "cannot read the source directory", &path, error);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let directory = open_any_length(&path, flags).map_err(failed)?;
        let (names, mut spans) = list(&directory).map_err(failed)?;
        spans.sort_by(|a, b| span(&names, *a).cmp(span(&names, *b)));
        let mut entries = Vec::with_capacity(spans.len());
        let mut child = Child::of(&path);
        for place in spans {
            let name = OsStr::from_bytes(span(&names, place));
            let at = Name { directory: Some(&directory), name, path: child.path(name) };
            let stat = at.stat().map_err(|error| at.failed(error))?;
            let mut entry = Entry::new(&stat, at, place)?;
            entry.look_closer(at, &stat, asked)?;
            if let What::Directory(listing) = &mut entry.what {
                *listing = self.spawn(scope, at.path.to_owned(), Arc::clone(asked));
            }
            entries.push(entry);
        }
        Ok(Listing { path, entries, names })
    }
}

/// The paths of a directory's names, one after the other in one buffer: most of them are needed for one call only.
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Start and length of a name among the names of a listing.
type Span = (u32, u8);

fn span(names: &[u8], (start, length): Span) -> &[u8] {
    &names[index(start)..index(start) + usize::from(length)]
}

/// How much of a listing the kernel gives at once: all of most directories.
const LISTED: usize = 32 * 1024;

/// The names in a directory, in the order of the host.
fn list(directory: &OwnedFd) -> Result<(Vec<u8>, Vec<Span>), Errno> {
    let mut names = Vec::new();
    let mut spans = Vec::new();
    let mut buffer = [const { MaybeUninit::uninit() }; LISTED];
    let mut listed = RawDir::new(directory, &mut buffer);
    while let Some(entry) = listed.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        // Names are at most 255 bytes in Linux; 4 GiB of names in one directory are 16 million of them.
        let start = u32::try_from(names.len()).map_err(|_| Errno::OVERFLOW)?;
        let length = u8::try_from(name.len()).map_err(|_| Errno::NAMETOOLONG)?;
        names.extend_from_slice(name);
        spans.push((start, length));
    }
    names.shrink_to_fit();
    Ok((names, spans))
}

impl Scan {
    /// How many names were found.
    #[must_use]
    pub fn names(&self) -> usize {
        self.roots.len() + self.listings.iter().map(|listing| listing.entries.len()).sum::<usize>()
    }

    /// Whether the top of request `number` is a directory.
    #[must_use]
    pub fn is_directory(&self, number: usize) -> bool {
        self.roots.get(number).is_some_and(|root| matches!(root.entry.what, What::Directory(_)))
    }

    /// The path of request `number` with links resolved where they were to be followed.
    #[must_use]
    pub fn path(&self, number: usize) -> &Path {
        self.roots.get(number).map_or(Path::new(""), |root| &root.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &Path) -> Request {
        Request { path: path.to_owned(), follow: true, xattrs: Patterns::default(), holes: true }
    }

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
            let scan = scan(&[request(top.path())], jobs, &Progress::default()).unwrap();
            let What::Directory(number) = scan.roots[0].entry.what else { panic!() };
            let listing = &scan.listings[index(number)];
            let names: Vec<_> = listing.entries.iter().map(|entry| listing.name(entry)).collect();
            assert_eq!(names, [b"Z".as_slice(), b"a", b"b", b"c", b"link"]);
            assert_eq!(scan.names(), 8);
            assert!(matches!(&listing.entries[4].what, What::Symlink(target) if &**target == b"a"));
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
    fn a_missing_source_is_named() {
        let error = scan(&[request(Path::new("/nonexistent/x"))], 2, &Progress::default()).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/x"), "{error}");
        assert_eq!(error.kind(), Kind::Source);
    }
}
