//! How far the work is, and whether someone asked to stop. The threads share nothing else with the outside.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::error::{Error, Kind, Result};

/// Counters that workers increase and one drawing thread reads, and a flag that a signal sets.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicU64,
    files: AtomicU64,
    total_bytes: AtomicU64,
    total_files: AtomicU64,
    /// When the stage began. Only the progress bar uses it, so no byte of a result depends on it.
    since: Mutex<Option<Instant>>,
    stop: Arc<AtomicBool>,
}

/// A reading of the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes of file data copied.
    pub bytes: u64,
    /// Files begun; while scanning, names seen.
    pub files: u64,
    /// Bytes of file data in all; 0 while that is unknown.
    pub total_bytes: u64,
    /// Files in all; 0 while that is unknown.
    pub total_files: u64,
    /// When a stage of known size began.
    pub since: Option<Instant>,
}

impl Progress {
    /// Adds finished bytes and files.
    pub fn advance(&self, bytes: u64, files: u64) {
        self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.shared.files.fetch_add(files, Ordering::Relaxed);
    }

    /// Begins a new stage of known size; the counters start from zero.
    pub fn begin(&self, total_bytes: u64, total_files: u64) {
        self.shared.bytes.store(0, Ordering::Relaxed);
        self.shared.files.store(0, Ordering::Relaxed);
        self.shared.total_bytes.store(total_bytes, Ordering::Relaxed);
        self.shared.total_files.store(total_files, Ordering::Relaxed);
        *self.shared.since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// The counters now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            bytes: self.shared.bytes.load(Ordering::Relaxed),
            files: self.shared.files.load(Ordering::Relaxed),
            total_bytes: self.shared.total_bytes.load(Ordering::Relaxed),
            total_files: self.shared.total_files.load(Ordering::Relaxed),
            since: *self.shared.since.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// The flag that asks the work to stop; a signal handler sets it.
    #[must_use]
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.shared.stop)
    }

    /// # Errors
    /// [`Kind::Interrupted`] once someone asked to stop.
    pub fn check(&self) -> Result<()> {
        if self.shared.stop.load(Ordering::Relaxed) {
            return Err(Error::new(Kind::Interrupted, "stopped by a signal; nothing was left behind"));
        }
        Ok(())
    }
}
