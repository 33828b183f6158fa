//! Small files, whose bytes are read when the scan examines them: each is opened once, and no path is walked
//! again for it. The number of held bytes is limited, so that memory does not grow with the contents of
//! files.
//!
//! A file whose size is 0 is read too: files of /proc and of some filesystems in user space have content
//! without a size.

use std::collections::HashMap;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, FileType, Statx, statx};
use rustix::io::Errno;

use super::look::{Name, WANTED};
use crate::error::{Error, Kind, Result};
use crate::units::{MIB, u64_of};

/// The longest file that is held: a page. Most files of a store are not longer.
const LONGEST: usize = 4096;
/// How many bytes one scan holds.
const MOST: u64 = 24 * MIB;
/// The longest content of a file whose size is 0.
const UNTOLD: usize = 1 << 20;
/// How much older than the scan a file's modification time must be to prove that nobody has written to the file
/// since the scan began. It is more than the difference between the clocks of a host and of its file server.
const SETTLED: Duration = Duration::from_secs(60);
/// The same for filesystems of this machine, whose clock is the scan's. They count in ticks of at most a hundredth
/// of a second (`current_time` in linux/fs/inode.c; HZ is 100 or more).
const SETTLED_HERE: Duration = Duration::from_millis(100);

/// How much may still be held, and since when a file must be unchanged.
#[derive(Debug)]
pub(super) struct Hold {
    left: AtomicU64,
    /// When the scan began, from 1970 on.
    began: Duration,
    /// Whether a device, by its number, is a filesystem of this machine.
    here: Mutex<HashMap<(u32, u32), bool>>,
    /// System calls that were saved so far, plus [`CREDIT`].
    saved: AtomicI64,
}

/// How many calls may be lost before any is saved: enough for thirty longer files that come first.
const CREDIT: i64 = 100;
/// Calls that are lost if a file is opened and then not held: open, read and close, which are done again.
const LOST: i64 = 3;

/// What the scan found out about a name.
pub(super) struct Looked {
    pub(super) stat: Statx,
    /// The file, if it is open.
    pub(super) file: Option<OwnedFd>,
    /// Its bytes among those that are held, if they were read.
    pub(super) bytes: Option<Range<usize>>,
}

impl Hold {
    /// For a scan that begins now. The clock only decides how often a file is read.
    pub(super) fn new() -> Self {
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { left: AtomicU64::new(MOST), began, here: Mutex::default(), saved: AtomicI64::new(CREDIT) }
    }

    fn take(&self, bytes: usize) -> bool {
        let take = |left: u64| left.checked_sub(u64_of(bytes));
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Examines a name. If its directory says that it is a regular file (`kind`), it is opened and read while
    /// there is space, and its bytes are added to `held`.
    ///
    /// # Errors
    /// [`Kind::Source`] where statx fails.
    pub(super) fn look(&self, at: Name<'_>, kind: FileType, held: &mut Vec<u8>) -> Result<Looked> {
        // If most files are longer, opening them costs more calls than the short ones save.
        let worth = || self.saved.load(Ordering::Relaxed) >= LOST;
        if kind == FileType::RegularFile && self.left.load(Ordering::Relaxed) >= u64_of(LONGEST) && worth() {
            let looked = self.open(at, held)?;
            let won = looked.as_ref().is_some_and(|looked| looked.bytes.is_some());
            self.saved.fetch_add(if won { 1 } else { -LOST }, Ordering::Relaxed);
            if let Some(looked) = looked {
                return Ok(looked);
            }
        }
        let stat = at.stat().map_err(|error| at.failed(error))?;
        // Filesystems without a disk have device numbers without a major number (unnamed devices,
        // linux/Documentation/admin-guide/devices.txt). Filesystems on a disk know the lengths of their
        // files.
        if !is_regular(&stat) || stat.stx_size > 0 || stat.stx_dev_major != 0 {
            return Ok(Looked { stat, file: None, bytes: None });
        }
        match at.open() {
            Ok(file) => {
                let bytes = self.untold(&file, at, held)?;
                Ok(Looked { stat, file: Some(file), bytes })
            }
            Err(error) if may_hide_content(at) => Err(at.failed(error)),
            Err(_) => Ok(Looked { stat, file: None, bytes: None }),
        }
    }

    /// Opens a regular file and reads it if it is small. `None` if it cannot be opened or read, or is not a
    /// regular file; the usual way then gives the reason.
    ///
    /// The bytes and the modification time must be of one moment. The bytes are read before the time, so a
    /// change in between leaves a time after the beginning of the scan. A file with such a time is read and
    /// checked once more.
    fn open(&self, at: Name<'_>, held: &mut Vec<u8>) -> Result<Option<Looked>> {
        let Ok(file) = at.open() else { return Ok(None) };
        let start = held.len();
        held.resize(start + LONGEST + 1, 0);
        let read = rustix::io::pread(&file, &mut held[start..], 0);
        held.truncate(start + read.unwrap_or(0));
        let (Ok(length), Some(stat)) = (read, stat(&file)) else {
            held.truncate(start);
            return Ok(None);
        };
        let whole = length <= LONGEST && u64_of(length) == stat.stx_size && length > 0;
        let settled = || self.is_settled(&file, &stat) || same(&file, &held[start..], &stat);
        if whole && settled() && self.take(length) {
            return Ok(Some(Looked { stat, file: Some(file), bytes: Some(start..start + length) }));
        }
        held.truncate(start);
        let untold = length > 0 && stat.stx_size == 0;
        let bytes = if untold { self.untold(&file, at, held)? } else { None };
        Ok(Some(Looked { stat, file: Some(file), bytes }))
    }

    /// Whether nobody has written to the file since the scan began.
    fn is_settled(&self, file: &OwnedFd, stat: &Statx) -> bool {
        let time = stat.stx_mtime;
        let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0));
        let age = self.began.saturating_sub(seconds + Duration::from_nanos(time.tv_nsec.into()));
        age > SETTLED || (age > SETTLED_HERE && self.is_here(file, stat))
    }

    /// Whether the file is on a filesystem of this machine.
    fn is_here(&self, file: &OwnedFd, stat: &Statx) -> bool {
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        *here.entry((stat.stx_dev_major, stat.stx_dev_minor)).or_insert_with(|| {
            let kind = rustix::fs::fstatfs(file).ok().and_then(|stat| u64::try_from(stat.f_type).ok());
            kind.is_some_and(|kind| HERE.contains(&kind))
        })
    }

    /// The content of a file whose size is 0; `None` if it has none.
    fn untold(&self, file: &OwnedFd, at: Name<'_>, held: &mut Vec<u8>) -> Result<Option<Range<usize>>> {
        let start = held.len();
        let mut buffer = [0; 8192];
        loop {
            let before = held.len() - start;
            match rustix::io::read(file, &mut buffer) {
                Ok(0) if before == 0 => return Ok(None),
                Ok(0) if self.take(before) => return Ok(Some(start..held.len())),
                Ok(length) if length > 0 && before + length <= UNTOLD => {
                    held.extend_from_slice(&buffer[..length]);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(at.failed(error)),
                Ok(_) => {
                    return Err(Error::new(Kind::Source, "the source says it is empty, and has content")
                        .at(at.path)
                        .expected(format!(
                            "at most {UNTOLD} bytes in such a file, and {MOST} bytes in all small files"
                        ))
                        .hint("copy it to a file that has a length"));
                }
            }
        }
    }
}

/// Filesystems that take their times from this machine's clock: ext2 to ext4, XFS, btrfs, F2FS, bcachefs, ZFS, tmpfs, ramfs,
/// and overlayfs, whose lower filesystem nobody may write to (linux/magic.h; bcachefs and ZFS in their sources).
const HERE: [u64; 9] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0xf2f5_2010,
    0xca45_1a4e,
    0x2fc1_2fc1,
    0x0102_1994,
    0x8584_58f6,
    0x794c_7630,
];

/// Whether a file that cannot be read may have content although its size is 0: files of /proc and of
/// filesystems in user space. On other filesystems the size is right.
fn may_hide_content(at: Name<'_>) -> bool {
    // PROC_SUPER_MAGIC and FUSE_SUPER_MAGIC (linux/magic.h).
    let stat = rustix::fs::statfs(at.path).ok().and_then(|stat| u64::try_from(stat.f_type).ok());
    matches!(stat, Some(0x9fa0 | 0x6573_5546))
}

/// Whether an open file still has these bytes and its previous modification time.
fn same(file: &OwnedFd, bytes: &[u8], before: &Statx) -> bool {
    let mut buffer = [0; LONGEST + 1];
    let read = rustix::io::pread(file, &mut buffer[..=bytes.len()], 0);
    let time = |stat: &Statx| (stat.stx_size, stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec);
    read == Ok(bytes.len())
        && buffer[..bytes.len()] == *bytes
        && stat(file).is_some_and(|after| time(&after) == time(before))
}

/// The inode of an open file, if it is a regular file.
fn stat(file: &OwnedFd) -> Option<Statx> {
    statx(file, "", AtFlags::EMPTY_PATH, WANTED).ok().filter(is_regular)
}

fn is_regular(stat: &Statx) -> bool {
    FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::RegularFile
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::time::Duration;

    fn hold(bytes: u64) -> Hold {
        Hold { left: AtomicU64::new(bytes), ..Hold::new() }
    }

    fn look(hold: &Hold, path: &Path) -> Looked {
        hold.look(Name::whole(path), FileType::RegularFile, &mut Vec::new()).unwrap()
    }

    fn held(hold: &Hold, path: &Path) -> Option<Vec<u8>> {
        let mut held = b"before".to_vec();
        let looked = hold.look(Name::whole(path), FileType::RegularFile, &mut held).unwrap();
        assert_eq!(looked.bytes.as_ref().map_or(6, |bytes| bytes.end), held.len());
        looked.bytes.map(|bytes| held[bytes].to_vec())
    }

    #[test]
    fn small_files_are_held_while_there_is_space() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let hold = hold(9000);
        for (length, expected) in
            [(0, false), (1, true), (4096, true), (4097, false), (4000, false), (1, false)]
        {
            std::fs::write(&path, vec![7; length]).unwrap();
            let looked = look(&hold, &path);
            assert_eq!(looked.bytes.is_some(), expected, "{length}");
            assert_eq!(looked.stat.stx_size, u64_of(length));
            if length == 4096 {
                hold.left.fetch_sub(1000, Ordering::Relaxed);
            }
        }
        assert_eq!(hold.left.load(Ordering::Relaxed), 9000 - 1 - 4096 - 1000);
        let directory = look(&Hold::new(), folder.path());
        assert!(directory.file.is_none() && directory.bytes.is_none(), "whatever its directory said");
        let missing = folder.path().join("missing");
        let error = hold.look(Name::whole(&missing), FileType::RegularFile, &mut Vec::new()).err().unwrap();
        assert_eq!((error.kind(), error.path()), (Kind::Source, Some(missing.as_path())));
    }

    #[test]
    fn files_are_opened_only_while_that_pays() {
        let folder = tempfile::tempdir().unwrap();
        let [small, longer] = ["small", "longer"].map(|name| folder.path().join(name));
        std::fs::write(&small, "small").unwrap();
        std::fs::write(&longer, vec![7; 5000]).unwrap();
        let hold = Hold::new();
        let opens = |path: &Path| look(&hold, path).file.is_some();
        let tried = (0..1000).take_while(|_| opens(&longer)).count();
        assert_eq!(tried, 33, "as many as the credit is for");
        assert!(!opens(&small));
        let hold = Hold::new();
        let opens = |path: &Path| look(&hold, path).file.is_some();
        for _ in 0..1000 {
            assert!(opens(&small) && opens(&small) && opens(&small) && opens(&longer));
        }
    }

    #[test]
    fn a_file_that_was_just_changed_is_looked_at_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "content").unwrap();
        let hold = hold(10_000);
        let looked = look(&hold, &path);
        let file = looked.file.unwrap();
        assert!(!hold.is_settled(&file, &looked.stat));
        assert!(same(&file, b"content", &looked.stat));
        for other in [b"Content".as_slice(), b"contes", b"content!"] {
            assert!(!same(&file, other, &looked.stat));
        }
        let options = std::fs::File::options().write(true).open(&path).unwrap();
        options.set_modified(UNIX_EPOCH + Duration::from_secs(1)).unwrap();
        assert!(!same(&file, b"content", &looked.stat), "the time is another");
        assert_eq!(held(&hold, &path).unwrap(), b"content");
    }

    #[test]
    fn the_clock_of_this_machine_proves_more_than_that_of_a_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "content").unwrap();
        let options = std::fs::File::options().write(true).open(&path).unwrap();
        let file = Name::whole(&path).open().unwrap();
        let settled = |hold: &Hold, time: SystemTime| {
            options.set_modified(time).unwrap();
            hold.is_settled(&file, &stat(&file).unwrap())
        };
        let (here, elsewhere) = (Hold::new(), Hold::new());
        let looked = stat(&file).unwrap();
        elsewhere.here.lock().unwrap().insert((looked.stx_dev_major, looked.stx_dev_minor), false);
        for hold in [&here, &elsewhere] {
            let began = UNIX_EPOCH + hold.began;
            assert!(settled(hold, began - Duration::from_millis(60_001)));
            assert!(!settled(hold, began - Duration::from_millis(99)));
            assert!(!settled(hold, began + Duration::from_secs(99)));
            assert!(settled(hold, UNIX_EPOCH - Duration::from_secs(9)));
            for age in [101, 59_000] {
                let young = began - Duration::from_millis(age);
                assert_eq!(settled(hold, young), std::ptr::eq(hold, &here), "{age}");
            }
        }
        // /proc is on no disk.
        let file = Name::whole(Path::new("/proc/version")).open().unwrap();
        assert!(!here.is_here(&file, &stat(&file).unwrap()));
    }

    #[test]
    fn a_file_without_a_length_has_its_content() {
        let version = Path::new("/proc/version");
        let expected = std::fs::read(version).unwrap();
        // With space, and by the usual way.
        for (hold, kind) in [(hold(10_000), FileType::RegularFile), (hold(1000), FileType::Unknown)] {
            let mut held = Vec::new();
            let looked = hold.look(Name::whole(version), kind, &mut held).unwrap();
            assert_eq!(looked.stat.stx_size, 0);
            assert_eq!(held[looked.bytes.unwrap()], *expected);
        }
        let error =
            hold(10).look(Name::whole(version), FileType::RegularFile, &mut Vec::new()).err().unwrap();
        assert_eq!((error.kind(), error.path()), (Kind::Source, Some(version)));
        // A file that is really empty, on any filesystem.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty");
        std::fs::write(&path, "").unwrap();
        let at = Name::whole(&path);
        assert!(Hold::new().untold(&at.open().unwrap(), at, &mut Vec::new()).unwrap().is_none());
        assert!(held(&hold(0), &path).is_none() && held(&hold(10_000), &path).is_none());
        assert!(may_hide_content(Name::whole(version)) && !may_hide_content(at));
    }
}
