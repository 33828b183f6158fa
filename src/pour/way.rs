//! The two ways into the output: through the page cache of the host, or past it to the disk.
//!
//! Usually bytes go through the cache: that is a copy in memory, and the disk follows later. It becomes slow
//! if the host must first free that memory (other files fill it, or a virtual machine must ask its own host
//! for it), and if more is written than the host holds back for its disk. A write past the cache (`O_DIRECT`,
//! open(2)) needs no memory and hardly any processor time, and is as fast as the disk. Only the clock tells
//! which way is faster. So a large image begins with one way, tries the other, and continues with the faster
//! one. The bytes of the image do not depend on that.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, Mode, OFlags};

use super::PAGE;
use super::output::Output;
use crate::error::Result;
use crate::units::{Bytes, KIB, MIB, u64_of, usize_of};

/// How bytes go into the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Cached,
    Direct,
}

impl Way {
    /// How many bytes are written at once. Through the cache, the amount fits in the second-level cache, so
    /// that the copy reads and writes main memory once each and not twice. With 1 MiB, the size of that
    /// cache, a store of 1.8 GB took 1.6 times as long. Past the cache, the amount is so large that the delay
    /// of the disk does not matter.
    pub(super) const fn step(self) -> u64 {
        match self {
            Self::Cached => 256 * KIB,
            Self::Direct => MIB,
        }
    }
}

/// The smallest image for which the other way is tried. A smaller one is in the cache in less than half a
/// second.
const LARGE: u64 = 512 * MIB;
/// How much is written by a new way before the two are compared: so little that a slow disk delays the image
/// only by some tenths of a second.
const TRIAL: u64 = 16 * MIB;
/// How much is written by the faster way before the two are compared again.
const PHASE: u64 = 64 * MIB;
/// The shortest run of data for which blocks are allocated ahead.
const RUN: u64 = 64 * KIB;

/// EXT4_SUPER_MAGIC and XFS_SUPER_MAGIC (linux/magic.h).
const EXT4: u64 = 0xef53;
const XFS: u64 = 0x5846_5342;

/// The output, and the ways into it.
#[derive(Debug)]
pub(super) struct Ways<'a> {
    output: &'a Output,
    /// How long the output is.
    length: u64,
    /// The same file, opened past the cache, if that may be worth it.
    direct: Option<File>,
    /// Whether writing is faster with blocks allocated ahead.
    allocates: AtomicBool,
    /// Whether a write past the cache was refused.
    refused: AtomicBool,
    pace: Mutex<Pace>,
}

impl<'a> Ways<'a> {
    /// Ways into `output`, which will be `length` bytes long and contain `data` bytes that are not hole.
    pub(super) fn new(output: &'a Output, length: Bytes, data: Bytes) -> Self {
        let filesystem =
            rustix::fs::fstatfs(output.file()).ok().and_then(|stat| u64::try_from(stat.f_type).ok());
        let known = matches!(filesystem, Some(EXT4 | XFS));
        let direct = if known && data.get() >= LARGE { past_cache(output.file()) } else { None };
        Self {
            output,
            length: length.get(),
            direct,
            // True for ext4: on two cores a store of 1.9 GB took 0.85 of the time. tmpfs would clear its
            // pages twice.
            allocates: AtomicBool::new(filesystem == Some(EXT4)),
            refused: AtomicBool::new(false),
            pace: Mutex::new(Pace::new()),
        }
    }

    /// The way past the cache, if there is one, even for a small image.
    #[cfg(test)]
    pub(super) fn direct(output: &'a Output, length: Bytes) -> Self {
        let pace = Mutex::new(Pace { way: Way::Direct, ..Pace::new() });
        Self { direct: past_cache(output.file()), pace, ..Self::new(output, length, Bytes::ZERO) }
    }

    /// The output.
    pub(super) const fn output(&self) -> &'a Output {
        self.output
    }

    /// The length of a buffer that suits all ways.
    pub(super) const fn most(&self) -> u64 {
        match self.direct {
            Some(_) => Way::Direct.step(),
            None => Way::Cached.step(),
        }
    }

    /// The way for the next bytes.
    pub(super) fn choose(&self) -> Way {
        if self.direct.is_none() || self.refused.load(Ordering::Relaxed) {
            return Way::Cached;
        }
        self.pace.lock().unwrap_or_else(PoisonError::into_inner).way
    }

    /// Records that `bytes` were written.
    pub(super) fn wrote(&self, bytes: u64) {
        if self.direct.is_some() {
            self.pace.lock().unwrap_or_else(PoisonError::into_inner).wrote(bytes, Instant::now());
        }
    }

    /// Allocates the blocks of `start..end`. All of them will be written through the cache, and the host then
    /// need not search blocks page by page. If the host refuses, nothing is lost.
    pub(super) fn allocate(&self, start: u64, end: u64) {
        if end - start >= RUN && self.allocates.load(Ordering::Relaxed) {
            let file = self.output.file();
            if rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, start, end - start).is_err() {
                self.allocates.store(false, Ordering::Relaxed);
            }
        }
    }

    /// Writes `from..to` of `buffer`. The first byte of `buffer` belongs at `start` of the output, a multiple
    /// of a page. The rest of the first and last page must be hole.
    ///
    /// # Errors
    /// As [`Output::write_at`].
    pub(super) fn write(
        &self,
        way: Way,
        buffer: &mut Buffer,
        start: u64,
        (from, to): (usize, usize),
    ) -> Result<()> {
        let page = usize_of(PAGE);
        let (first, last) = (from / page * page, to.next_multiple_of(page));
        if let (Way::Direct, Some(direct)) = (way, &self.direct)
            && start + u64_of(last) <= self.length
        {
            let bytes = buffer.bytes();
            bytes[first..from].fill(0);
            bytes[to..last].fill(0);
            if direct.write_all_at(&bytes[first..last], start + u64_of(first)).is_ok() {
                return Ok(());
            }
            // If the disk is full, the other way fails too, with the right error.
            self.refused.store(true, Ordering::Relaxed);
        }
        self.output.write_at(&buffer.bytes()[from..to], start + u64_of(from))
    }
}

/// The open file once more, past the cache; `None` if the host has no such way.
fn past_cache(file: &File) -> Option<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).ok().map(File::from)
}

/// A buffer that is aligned to a page of memory, which a write past the cache requires.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// Where the aligned part begins.
    first: usize,
    length: usize,
}

impl Buffer {
    /// A buffer of `length` bytes.
    pub(super) fn new(length: u64) -> Self {
        let (length, page) = (usize_of(length), usize_of(PAGE));
        let bytes = vec![0; length + page];
        // align_offset may give no answer. Then the buffer is not aligned, and the host refuses the write.
        let first = bytes.as_ptr().align_offset(page).min(page);
        Self { bytes, first, length }
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.first..self.first + self.length]
    }
}

/// Which way is used, and how fast the ways were.
#[derive(Debug)]
struct Pace {
    way: Way,
    /// When the measurement began, and how many bytes were written since.
    since: Option<Instant>,
    bytes: u64,
    /// The time for a MiB by each way when it was last used.
    cached: Option<Duration>,
    direct: Option<Duration>,
}

impl Pace {
    const fn new() -> Self {
        Self { way: Way::Cached, since: None, bytes: 0, cached: None, direct: None }
    }

    fn wrote(&mut self, bytes: u64, now: Instant) {
        // The first write also waits for other things. So the clock begins after it, and its bytes do not count.
        let Some(since) = self.since else {
            self.since = Some(now);
            return;
        };
        self.bytes += bytes;
        let enough = if self.way == Way::Direct && self.direct.is_none() { TRIAL } else { PHASE };
        if self.bytes < enough {
            return;
        }
        let took = now.saturating_duration_since(since);
        let parts = u32::try_from(self.bytes / MIB).unwrap_or(u32::MAX).max(1);
        let each = Some(took / parts);
        match self.way {
            Way::Cached => self.cached = each,
            Way::Direct => self.direct = each,
        }
        self.way = match (self.cached, self.direct) {
            (Some(cached), Some(direct)) if cached < direct => Way::Cached,
            (None, Some(_)) => Way::Cached,
            _ => Way::Direct,
        };
        (self.since, self.bytes) = (Some(now), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes with `pace` until it has chosen `count` ways; a MiB takes `cached` and `direct` milliseconds.
    fn ways(cached: u64, direct: u64, count: usize) -> Vec<Way> {
        let (mut pace, mut now) = (Pace::new(), Instant::now());
        let mut seen = vec![pace.way];
        pace.wrote(MIB, now);
        while seen.len() < count {
            let before = pace.bytes;
            now += Duration::from_millis(if pace.way == Way::Cached { cached } else { direct });
            pace.wrote(MIB, now);
            if pace.bytes < before {
                seen.push(pace.way);
            }
        }
        seen
    }

    #[test]
    fn the_faster_way_is_kept() {
        use Way::{Cached, Direct};
        assert_eq!(ways(1, 9, 5), [Cached, Direct, Cached, Cached, Cached]);
        assert_eq!(ways(9, 1, 5), [Cached, Direct, Direct, Direct, Direct]);
    }

    #[test]
    fn a_way_that_becomes_slow_is_left() {
        let (mut pace, mut now) = (Pace::new(), Instant::now());
        pace.wrote(MIB, now);
        for (written, each, next) in [
            (PHASE, 1, Way::Direct),
            (TRIAL, 2, Way::Cached),
            (PHASE, 1, Way::Cached),
            (PHASE, 5, Way::Direct),
            (PHASE, 9, Way::Cached),
        ] {
            now += Duration::from_millis(each * (written / MIB));
            pace.wrote(written, now);
            assert_eq!(pace.way, next);
        }
    }

    #[test]
    fn both_ways_write_the_same_and_none_past_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut seen = Vec::new();
        for way in [Way::Cached, Way::Direct] {
            let path = folder.path().join("out");
            let output = Output::create(&path).unwrap();
            output.set_length(20_000).unwrap();
            let ways = Ways {
                direct: past_cache(output.file()),
                ..Ways::new(&output, Bytes::new(20_000), Bytes::ZERO)
            };
            let mut buffer = Buffer::new(Way::Direct.step());
            ways.allocate(0, 20_000);
            for (start, run) in [(0, (100, 5000)), (8192, (4096, 8192)), (16_384, (1, 3616))] {
                buffer.bytes().fill(7);
                ways.write(way, &mut buffer, start, run).unwrap();
            }
            output.publish().unwrap();
            seen.push(std::fs::read(&path).unwrap());
        }
        let mut expected = vec![0; 20_000];
        for range in [100..5000, 12_288..16_384, 16_385..20_000] {
            expected[range].fill(7);
        }
        assert!(seen[0] == expected && seen[1] == expected);
    }

    /// Bytes that one way refuses go by the other.
    #[test]
    fn a_refusal_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::create(&folder.path().join("out")).unwrap();
        output.set_length(8192).unwrap();
        let closed = File::open("/dev/null").unwrap();
        let ways = Ways { direct: Some(closed), ..Ways::new(&output, Bytes::new(8192), Bytes::ZERO) };
        ways.wrote(1);
        ways.pace.lock().unwrap().way = Way::Direct;
        assert_eq!(ways.choose(), Way::Direct);
        let mut buffer = Buffer::new(4096);
        buffer.bytes().fill(7);
        ways.write(Way::Direct, &mut buffer, 4096, (0, 4096)).unwrap();
        assert_eq!(ways.choose(), Way::Cached);
        let mut read = [0; 4096];
        output.file().read_exact_at(&mut read, 4096).unwrap();
        assert_eq!(read, [7; 4096]);
    }
}
