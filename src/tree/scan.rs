//! The scan: host directories read in parallel, one of the two rooms with threads. The order in which the host lists
//! names and in which threads finish leaves no trace: every listing is sorted, and listings refer to each other.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, FileType, OFlags, SeekFrom, Statx, StatxFlags, statx};
use rustix::io::Errno;

use super::xattr::{self, Patterns};
use super::{Range, Time, Xattr};
use crate::error::{Error, Kind, Result};
use crate::image::host::open_any_length;
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

/// A name and its inode.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: u32,
    pub(super) name_length: u8,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) links: u32,
    pub(super) size: u64,
    pub(super) mtime: Time,
    pub(super) inode: (u64, u64),
    pub(super) what: What,
    pub(super) rare: Option<Box<Rare>>,
}

/// What most inodes do not have.
#[derive(Debug, Default)]
pub(super) struct Rare {
    pub(super) xattrs: Vec<Xattr>,
    pub(super) ranges: Option<Vec<Range>>,
}

/// The type of an inode and what belongs to it.
#[derive(Debug)]
pub(super) enum What {
    /// With the number of its listing.
    Directory(u32),
    File,
    /// With its target.
    Symlink(Box<[u8]>),
    CharacterDevice((u32, u32)),
    BlockDevice((u32, u32)),
    Fifo,
    Socket,
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
        requests.iter().map(|request| root(request, |path, xattrs| work.spawn(scope, path, xattrs))).collect()
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
fn root<'r>(request: &'r Request, spawn: impl FnOnce(PathBuf, &'r Patterns) -> u32) -> Result<Root> {
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
    let stat = statx(rustix::fs::CWD, &path, AtFlags::SYMLINK_NOFOLLOW, WANTED).map_err(failed)?;
    let mut entry = Entry::new(&stat, 0, 0, &path, || {
        rustix::fs::readlink(&path, Vec::new()).map(std::ffi::CString::into_bytes)
    })?;
    entry.look_closer(&path, &stat, &request.xattrs)?;
    if let What::Directory(listing) = &mut entry.what {
        *listing = spawn(path.clone(), &request.xattrs);
    }
    Ok(Root { path, entry })
}

const WANTED: StatxFlags = StatxFlags::BASIC_STATS;

/// What the threads of one scan share.
struct Work<'p> {
    progress: &'p Progress,
    next: AtomicU32,
    listings: Mutex<Vec<(u32, Listing)>>,
    errors: Mutex<Vec<(PathBuf, Error)>>,
}

impl Work<'_> {
    /// Reads a directory on some thread; returns the number its listing will have.
    fn spawn<'s>(&'s self, scope: &rayon::Scope<'s>, path: PathBuf, xattrs: &'s Patterns) -> u32 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        scope.spawn(move |scope| {
            let result = self.progress.check().and_then(|()| self.directory(scope, path.clone(), xattrs));
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
        xattrs: &'s Patterns,
    ) -> Result<Listing> {
        let failed = |error: Errno| Error::io(Kind::Source, "cannot read the source directory", &path, error);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let directory = File::from(open_any_length(&path, flags).map_err(failed)?);
        let (names, mut spans) = list(&directory).map_err(failed)?;
        spans.sort_by(|a, b| span(&names, *a).cmp(span(&names, *b)));
        let mut entries = Vec::with_capacity(spans.len());
        let mut child = Child::of(&path);
        for (start, length) in spans {
            let name = OsStr::from_bytes(span(&names, (start, length)));
            let child = child.path(name);
            let stat = statx(&directory, name, AtFlags::SYMLINK_NOFOLLOW, WANTED)
                .map_err(|error| Error::io(Kind::Source, "cannot read the source", child, error))?;
            let mut entry = Entry::new(&stat, start, length, child, || {
                rustix::fs::readlinkat(&directory, name, Vec::new()).map(std::ffi::CString::into_bytes)
            })?;
            entry.look_closer(child, &stat, xattrs)?;
            if let What::Directory(listing) = &mut entry.what {
                *listing = self.spawn(scope, child.to_owned(), xattrs);
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

/// The names in a directory, in the order of the host.
fn list(directory: &File) -> Result<(Vec<u8>, Vec<Span>), Errno> {
    let mut names = Vec::new();
    let mut spans = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
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

impl Entry {
    fn new(
        stat: &Statx,
        name: u32,
        name_length: u8,
        path: &Path,
        readlink: impl FnOnce() -> Result<Vec<u8>, Errno>,
    ) -> Result<Self> {
        let device = (stat.stx_rdev_major, stat.stx_rdev_minor);
        let what = match FileType::from_raw_mode(u32::from(stat.stx_mode)) {
            FileType::Directory => What::Directory(0),
            FileType::RegularFile => What::File,
            FileType::Symlink => What::Symlink(
                readlink()
                    .map_err(|error| Error::io(Kind::Source, "cannot read the symbolic link", path, error))?
                    .into_boxed_slice(),
            ),
            FileType::CharacterDevice => What::CharacterDevice(device),
            FileType::BlockDevice => What::BlockDevice(device),
            FileType::Fifo => What::Fifo,
            FileType::Socket => What::Socket,
            FileType::Unknown => {
                return Err(Error::new(Kind::Source, "the source is of an unknown type").at(path));
            }
        };
        Ok(Self {
            name,
            name_length,
            mode: stat.stx_mode & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            links: stat.stx_nlink,
            size: stat.stx_size,
            mtime: Time { seconds: stat.stx_mtime.tv_sec, nanoseconds: stat.stx_mtime.tv_nsec },
            inode: (u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor), stat.stx_ino),
            what,
            rare: None,
        })
    }

    /// Reads what few inodes have: extended attributes and holes.
    fn look_closer(&mut self, path: &Path, stat: &Statx, patterns: &Patterns) -> Result<()> {
        let ask = !matches!(self.what, What::Symlink(_)) || patterns.may_be_on_links();
        let xattrs = if ask { xattr::read(path, patterns)? } else { Vec::new() };
        let ranges = match self.what {
            What::File if may_have_holes(stat, !xattrs.is_empty()) => ranges(path, self.size)?,
            _ => None,
        };
        if !xattrs.is_empty() || ranges.is_some() {
            self.rare = Some(Box::new(Rare { xattrs, ranges }));
        }
        Ok(())
    }
}

/// Up to here a file has at most four pieces, whose map fits in the inode of an ext4 host.
const SHORT: u64 = 4 * BLOCK;

/// Whether a file has to be asked for holes. A short one without attributes, to which the host has given just the blocks
/// that its length needs, has none. Anywhere else blocks of attributes, of the file's map, or preallocated past its end
/// (XFS) may be counted with those of the data, and would hide as many blocks of hole.
fn may_have_holes(stat: &Statx, attributes: bool) -> bool {
    let whole = stat.stx_size.next_multiple_of(BLOCK) / 512;
    stat.stx_size > SHORT || attributes || stat.stx_blocks != whole
}

/// The granularity of holes in an image: an ext4 block.
const BLOCK: u64 = 4096;

/// The data ranges of a file (SEEK_DATA, SEEK_HOLE; lseek(2)), grown to whole blocks; `None` for data throughout.
pub(crate) fn ranges(path: &Path, size: u64) -> Result<Option<Vec<Range>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let failed = |error: Errno| Error::io(Kind::Source, "cannot read the source", path, error);
    let file = open_any_length(path, flags).map_err(failed)?;
    let mut found: Vec<Range> = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(&file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Nothing but hole up to the end.
            Err(Errno::NXIO) => break,
            // A filesystem without holes says so.
            Err(Errno::INVAL | Errno::NOTSUP) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let end = rustix::fs::seek(&file, SeekFrom::Hole(start)).map_err(failed)?.min(size);
        if start >= size || end <= start {
            break;
        }
        let from = start / BLOCK * BLOCK;
        let to = end.div_ceil(BLOCK).saturating_mul(BLOCK).min(size);
        match found.last_mut() {
            Some(last) if last.start + last.length >= from => last.length = to - last.start,
            _ => found.push(Range { start: from, length: to - from }),
        }
        at = end;
    }
    let whole = matches!(found.as_slice(), [only] if only.start == 0 && only.length == size);
    Ok((!whole).then_some(found))
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
    use crate::units::MIB;
    use std::os::unix::fs::FileExt;

    fn request(path: &Path) -> Request {
        Request { path: path.to_owned(), follow: true, xattrs: Patterns::default() }
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
    fn holes_are_found_in_whole_blocks() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("sparse");
        let file = File::create(&path).unwrap();
        file.set_len(10 * MIB + 100).unwrap();
        file.write_all_at(&[1; 10], 4 * MIB).unwrap();
        file.write_all_at(&[1; 1], 10 * MIB + 99).unwrap();
        let found = ranges(&path, 10 * MIB + 100).unwrap().unwrap();
        assert_eq!(found, [Range { start: 4 * MIB, length: 4096 }, Range { start: 10 * MIB, length: 100 }]);
        file.set_len(5000).unwrap();
        assert_eq!(ranges(&path, 5000).unwrap(), Some(Vec::new()));
        std::fs::write(&path, vec![1; 5000]).unwrap();
        assert_eq!(ranges(&path, 5000).unwrap(), None);
    }

    #[test]
    fn a_missing_source_is_named() {
        let error = scan(&[request(Path::new("/nonexistent/x"))], 2, &Progress::default()).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/x"), "{error}");
        assert_eq!(error.kind(), Kind::Source);
    }
}
