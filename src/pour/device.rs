//! A block device as the output: what is written there is there at once, so a device is never one of several outputs.
//!
//! The device is opened for this program alone (open(2), `O_EXCL`), which the kernel refuses while it, or a partition of it, is
//! mounted, swap, or a part of another device. What no segment covers is discarded and reads as zero afterwards.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, Mode, OFlags, SeekFrom, fallocate};
use rustix::io::Errno;

use crate::error::{Error, Kind, Result};
use crate::image::Image;
use crate::pour::output::is_device;
use crate::progress::Progress;
use crate::units::{Bytes, KIB, MIB, u64_of, usize_of};

/// The shortest hole that is discarded by itself: writing zeros costs less than the call for a shorter one.
const SHORTEST: u64 = 64 * KIB;
/// What is cleared at both ends of a device whose disk is not complete, so that nobody takes it for one: tables, and the
/// superblocks of most filesystems.
const ENDS: u64 = MIB;

/// A block device that nobody else uses.
#[derive(Debug)]
pub(super) struct Device {
    file: File,
    /// Bytes of the device, and of a logical sector.
    length: u64,
    sector: u64,
    /// Whether a disk was begun and is not complete.
    begun: AtomicBool,
}

impl Device {
    /// Opens the device `path`.
    ///
    /// # Errors
    /// [`Kind::Output`] for one that is in use or cannot be written.
    pub(super) fn open(path: &Path) -> Result<(File, Self)> {
        let failed = |error: Errno| {
            Error::io(Kind::Output, "cannot write to the device", path, std::io::Error::from(error))
        };
        if is_read_only(path) {
            return Err(Error::new(Kind::Output, "the device is read-only")
                .at(path)
                .hint("blockdev(8) lets it be written, unless its hardware or what it lies on does not"));
        }
        let flags = OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::BUSY) => {
                return Err(Error::new(Kind::Output, "the device is in use")
                    .at(path)
                    .expected("a device that is not mounted, with no partition that is, and that no other device consists of")
                    .hint("unmount it first; `lsblk` shows what uses it"));
            }
            Err(error) => return Err(failed(error)),
        };
        let length = rustix::fs::seek(&file, SeekFrom::End(0)).map_err(failed)?;
        let sector = rustix::fs::ioctl_blksszget(&file).map_err(failed)?.into();
        let own = file
            .try_clone()
            .map_err(|error| Error::io(Kind::Output, "cannot write to the device", path, error))?;
        Ok((file, Self { file: own, length, sector, begun: AtomicBool::new(false) }))
    }

    /// Whether the disk was begun, so that what was on the device is gone.
    pub(super) fn is_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    pub(super) const fn sector(&self) -> u64 {
        self.sector
    }

    /// Makes everything zero that no segment of `image` covers, to the end of the device. Returns whether all of it is zero
    /// now.
    pub(super) fn clear(&self, image: &Image, progress: &Progress) -> std::io::Result<Result<bool>> {
        self.begun.store(true, Ordering::Relaxed);
        let all = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if fallocate(&self.file, all, 0, self.length).is_ok() {
            return Ok(Ok(true));
        }
        let mut at = 0;
        for segment in image.segments() {
            if let Err(stopped) = progress.check() {
                return Ok(Err(stopped));
            }
            self.hole(at, segment.offset.get())?;
            at = segment.end().get();
        }
        self.hole(at, image.length().get())?;
        // A backup of an older GPT may be at the end. What is between is not part of the disk.
        self.zeros(image.length().get().max(self.length.saturating_sub(ENDS)), self.length)?;
        Ok(Ok(false))
    }

    /// Makes `start..end` zero.
    fn hole(&self, start: u64, end: u64) -> std::io::Result<()> {
        let grain = self.sector.max(super::PAGE);
        let (from, to) = (Bytes::new(start).round_up(grain).get(), Bytes::new(end).round_down(grain).get());
        if to.saturating_sub(from) < SHORTEST {
            return self.zeros(start, end);
        }
        self.zeros(start, from)?;
        let keep = FallocateFlags::KEEP_SIZE;
        let ways = [FallocateFlags::PUNCH_HOLE | keep, FallocateFlags::ZERO_RANGE | keep];
        if !ways.into_iter().any(|way| fallocate(&self.file, way, from, to - from).is_ok()) {
            self.zeros(from, to)?;
        }
        self.zeros(to, end)
    }

    fn zeros(&self, start: u64, end: u64) -> std::io::Result<()> {
        let zeros = vec![0; usize_of(MIB.min(end.saturating_sub(start)))];
        let mut at = start;
        while at < end {
            let piece = &zeros[..usize_of((end - at).min(u64_of(zeros.len())))];
            self.file.write_all_at(piece, at)?;
            at += u64_of(piece.len());
        }
        Ok(())
    }

    /// Waits until the disk is on the device, and keeps it.
    pub(super) fn complete(&self) -> std::io::Result<()> {
        self.file.sync_all()?;
        self.begun.store(false, Ordering::Relaxed);
        Ok(())
    }
}

/// Whether the kernel says that the device `path` cannot be written (sysfs(5), block/…/ro). It opens such a device all the
/// same, and refuses each write.
fn is_read_only(path: &Path) -> bool {
    let said = folder_in_sys(path).and_then(|folder| std::fs::read_to_string(folder.join("ro")).ok());
    said.is_some_and(|said| said.trim() == "1")
}

/// The folder of a block device in /sys. That of a partition is in that of its disk (Linux, Documentation/ABI/stable/
/// sysfs-block).
pub(crate) fn folder_in_sys(path: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(path).ok().filter(|_| is_device(path))?;
    let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
    PathBuf::from(format!("/sys/dev/block/{major}:{minor}")).canonicalize().ok()
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.begun.load(Ordering::Relaxed) {
            // There is already an error; this one would only hide it.
            let _ = self.zeros(0, ENDS.min(self.length));
            let _ = self.zeros(self.length.saturating_sub(ENDS), self.length);
        }
    }
}
