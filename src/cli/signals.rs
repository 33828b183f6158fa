//! Signals: the first one lets the work end and clean up, and then the process ends by that signal.

use std::ffi::c_int;
use std::os::unix::net::UnixStream;
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

/// Ends the process by the signal that arrived, as it would have ended without a handler. The parent process,
/// such as a loop in a shell, must see that (signal(7); Bash ends a loop only if its child died of SIGINT).
/// Returns if none arrived.
pub(super) fn end_by_signal() {
    let number = arrived().load(Ordering::Relaxed);
    for signal in WATCHED.into_iter().filter(|signal| usize::try_from(*signal) == Ok(number)) {
        // If this fails, the exit code still says that the work was not done.
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
}

/// The first SIGINT, SIGTERM or SIGHUP sets `stop`, and the second one ends the program at once. A signal
/// that the parent ignores (nohup, a background job of a script) stays ignored.
pub(super) fn watch(stop: &Arc<AtomicBool>) -> Result<()> {
    let ignored = ignored_signals();
    for signal in WATCHED {
        if ignored >> (signal - 1) & 1 == 1 {
            continue;
        }
        // The order matters: the second signal must find the flag that the first one set.
        let number = usize::try_from(signal).unwrap_or_default();
        signal_hook::flag::register_conditional_default(signal, Arc::clone(stop))
            .and_then(|_| signal_hook::flag::register_usize(signal, Arc::clone(arrived()), number))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(stop)))
            .map_err(unwatched)?;
    }
    // A file that grows past the limit of the process (ulimit -f) makes the write fail with a message.
    // Without this, the signal would end the program without one.
    signal_hook::flag::register(SIGXFSZ, Arc::default()).map_err(unwatched)?;
    Ok(())
}

/// Each of these signals also writes a byte to `waker`, for what waits in the kernel. Call it after [`watch`].
pub(super) fn wake(waker: &UnixStream) -> Result<()> {
    let ignored = ignored_signals();
    for signal in WATCHED.into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0) {
        let waker = waker.try_clone().map_err(unwatched)?;
        signal_hook::low_level::pipe::register(signal, waker).map_err(unwatched)?;
    }
    Ok(())
}

fn unwatched(error: std::io::Error) -> Error {
    Error::new(Kind::Output, "cannot watch for signals").because(error)
}

/// The ignored signals, with bit 0 for signal 1, from the kernel (proc(5), SigIgn); none without /proc.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
