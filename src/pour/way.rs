//! The two ways into the output: through the page cache of the host, or past it to its disk.
//!
//! Through the cache is the usual way: a copy in memory, as fast as memory, and the disk follows later. It becomes slow
//! where the host has to make that memory free first (other files are in it, or a virtual machine has to ask its own
//! host for it), and where more is written than the host lets wait for its disk. Past the cache (`O_DIRECT`, open(2))
//! costs no memory and hardly any time of a processor, and is as fast as the disk. Which of them is faster only the clock
//! tells, so a large image is begun by one, tried by the other, and goes on by what was faster; nothing of that shows in
//! its bytes.

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
    /// How many bytes are written at once. Through the cache few enough to stay in the second-level cache, so bytes are
    /// read from and written to the page cache with memory touched twice and not four times: with 1 MiB, as large as that
    /// cache, a store of 1.8 GB took 1.6 times as long. Past the cache so many that the disk's own delay is short beside
    /// them.
    pub(super) const fn step(self) -> u64 {
        match self {
            Self::Cached => 256 * KIB,
            Self::Direct => MIB,
        }
    }
}

/// The least image for which the other way is tried. Smaller ones are in the cache in less than half a second.
const LARGE: u64 = 512 * MIB;
/// How much is written by a way that was not tried before it is compared: so little that a slow disk does not hold up the
/// image by more than some tenths of a second.
const TRIAL: u64 = 16 * MIB;
/// How much is written by the faster way before it is compared again.
const PHASE: u64 = 64 * MIB;
/// The shortest run of data for which blocks are allocated ahead.
const RUN: u64 = 64 * KIB;

/// EXT4_SUPER_MAGIC and XFS_SUPER_MAGIC (linux/magic.h).
const EXT4: u64 = 0xef53;
const XFS: u64 = 0x5846_5342;

/// The output and the ways into it.
#[derive(Debug)]
pub(super) struct Ways<'a> {
    output: &'a Output,
    /// How long the output is.
    length: u64,
    /// The same file, opened past the cache; only where that may be worth it.
    direct: Option<File>,
    /// Whether blocks allocated ahead make writing faster.
    allocates: AtomicBool,
    /// Whether writing past the cache was refused.
    refused: AtomicBool,
    pace: Mutex<Pace>,
}

impl<'a> Ways<'a> {
    /// Ways into `output`, which will be `length` bytes long, with `data` bytes that are no hole.
    pub(super) fn new(output: &'a Output, length: Bytes, data: Bytes) -> Self {
        let filesystem =
            rustix::fs::fstatfs(output.file()).ok().and_then(|stat| u64::try_from(stat.f_type).ok());
        let known = matches!(filesystem, Some(EXT4 | XFS));
        let direct = if known && data.get() >= LARGE { past_cache(output.file()) } else { None };
        Self {
            output,
            length: length.get(),
            direct,
            // Of ext4: on two cores a store of 1.9 GB took 0.85 of the time. tmpfs would clear its pages twice.
            allocates: AtomicBool::new(filesystem == Some(EXT4)),
            refused: AtomicBool::new(false),
            pace: Mutex::new(Pace::new()),
        }
    }

    /// The way past the cache, where there is one, however small the image.
    #[cfg(test)]
    pub(super) fn direct(output: &'a Output, length: Bytes) -> Self {
        let pace = Mutex::new(Pace { way: Way::Direct, ..Pace::new() });
        Self { direct: past_cache(output.file()), pace, ..Self::new(output, length, Bytes::ZERO) }
    }

    /// The output.
    pub(super) const fn output(&self) -> &'a Output {
        self.output
    }

    /// How long a buffer is for the ways there are.
    pub(super) const fn most(&self) -> u64 {
        match self.direct {
            Some(_) => Way::Direct.step(),
            None => Way::Cached.step(),
        }
    }

    /// The way for what is written next.
    pub(super) fn choose(&self) -> Way {
        if self.direct.is_none() || self.refused.load(Ordering::Relaxed) {
            return Way::Cached;
        }
        self.pace.lock().unwrap_or_else(PoisonError::into_inner).way
    }

    /// Tells that `bytes` were written.
    pub(super) fn wrote(&self, bytes: u64) {
        if self.direct.is_some() {
            self.pace.lock().unwrap_or_else(PoisonError::into_inner).wrote(bytes, Instant::now());
        }
    }

    /// Allocates the blocks of `start..end`, all of which will be written through the cache: the host then need not look
    /// for them page by page. Where it refuses, nothing is lost.
    pub(super) fn allocate(&self, start: u64, end: u64) {
        if end - start >= RUN && self.allocates.load(Ordering::Relaxed) {
            let file = self.output.file();
            if rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, start, end - start).is_err() {
                self.allocates.store(false, Ordering::Relaxed);
            }
        }
    }

    /// Writes `from..to` of `buffer`, whose first byte belongs at `start` of the output, a multiple of a page. What is
    /// around it on its pages must be hole.
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
            // A full disk refuses the other way too, with its error.
            self.refused.store(true, Ordering::Relaxed);
        }
        self.output.write_at(&buffer.bytes()[from..to], start + u64_of(from))
    }
}

/// The open file once more, past the cache; `None` where the host has no such way.
fn past_cache(file: &File) -> Option<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).ok().map(File::from)
}

/// A buffer that begins on a page of memory, as writing past the cache asks for.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// Where in it the page begins.
    first: usize,
    length: usize,
}

impl Buffer {
    /// A buffer of `length` bytes.
    pub(super) fn new(length: u64) -> Self {
        let (length, page) = (usize_of(length), usize_of(PAGE));
        let bytes = vec![0; length + page];
        // Without an answer (that is allowed, align_offset) it is only not aligned, and the host says so.
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
    /// Since when it is measured, and what was written by it since.
    since: Option<Instant>,
    bytes: u64,
    /// What a MiB took by each way when it was last used.
    cached: Option<Duration>,
    direct: Option<Duration>,
}

impl Pace {
    const fn new() -> Self {
        Self { way: Way::Cached, since: None, bytes: 0, cached: None, direct: None }
    }

    fn wrote(&mut self, bytes: u64, now: Instant) {
        // What comes first also has to be waited for, so the clock begins with it.
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

    /// Writes by `pace` until it chose `count` ways, where a MiB takes `cached` and `direct` milliseconds.
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

    /// What a way refuses goes by the other.
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
