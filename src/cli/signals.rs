//! Signals: the first one lets the work end and clean up, after which the process ends by that signal.

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};

use crate::error::{Error, Kind, Result};

/// The signals that ask a program to end.
const WATCHED: [c_int; 3] = [SIGINT, SIGTERM, SIGHUP];

/// The signal that arrived; 0 for none.
fn arrived() -> &'static Arc<AtomicUsize> {
    static ARRIVED: OnceLock<Arc<AtomicUsize>> = OnceLock::new();
    ARRIVED.get_or_init(Arc::default)
}

/// Ends the process by the signal that arrived, as it would have ended it without a handler: whoever started it, a loop of
/// a shell for example, has to see that (signal(7); Bash ends a loop only where its child died of SIGINT). Returns where
/// none arrived.
pub(super) fn end_by_signal() {
    let number = arrived().load(Ordering::Relaxed);
    for signal in WATCHED.into_iter().filter(|signal| usize::try_from(*signal) == Ok(number)) {
        // Where this fails, the exit code says at least that the work was not done.
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
}

/// Lets the first SIGINT, SIGTERM or SIGHUP set `stop`, and the second end the program at once. A signal that the parent
/// set to be ignored (nohup, a background job of a script) stays so.
pub(super) fn watch(stop: &Arc<AtomicBool>) -> Result<()> {
    let ignored = ignored_signals();
    for signal in WATCHED {
        if ignored >> (signal - 1) & 1 == 1 {
            continue;
        }
        // In this order: the second arrival finds the flag that the first one set.
        let number = usize::try_from(signal).unwrap_or_default();
        signal_hook::flag::register_conditional_default(signal, Arc::clone(stop))
            .and_then(|_| signal_hook::flag::register_usize(signal, Arc::clone(arrived()), number))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(stop)))
            .map_err(unwatched)?;
    }
    // A file that grows past the limit of the process (ulimit -f) is an error of the write, which says so, and not the
    // end of the program, which says nothing.
    signal_hook::flag::register(SIGXFSZ, Arc::default()).map_err(unwatched)?;
    Ok(())
}

fn unwatched(error: std::io::Error) -> Error {
    Error::new(Kind::Output, "cannot watch for signals").because(error)
}

/// The signals that are ignored, bit 0 for signal 1, as the kernel tells them (proc(5), SigIgn); none without /proc.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
