//! The progress bar: a thread reads the counters and draws on a terminal, for work that takes a while.

use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::progress::{Counts, Progress};

/// Faster work shows no bar.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often the bar is drawn.
const BEAT: Duration = Duration::from_millis(100);

/// A bar on standard error; it disappears when it is dropped.
#[derive(Debug)]
pub(super) struct Bar {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bar {
    /// Begins to show `progress`. If standard error is not a terminal, it shows nothing.
    pub(super) fn start(progress: &Progress) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let thread = std::io::stderr().is_terminal().then(|| {
            let (done, progress) = (Arc::clone(&done), progress.clone());
            std::thread::spawn(move || draw(&progress, &done))
        });
        Self { done, thread }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A failed bar is no reason to stop.
            let _ = thread.join();
        }
    }
}

/// The kind of line that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Names are counted; their number is not known.
    Scan,
    /// Data is copied; it has this many bytes.
    Pour(u64),
}

impl Stage {
    const fn of(counts: Counts) -> Self {
        match (counts.total_bytes, counts.total_files) {
            (0, 0) => Self::Scan,
            (bytes, _) => Self::Pour(bytes),
        }
    }

    /// The template of its line in a terminal with this many columns: as much as always fits.
    const fn template(self, columns: u16) -> &'static str {
        match (self, columns) {
            (Self::Scan, _) => "{spinner} {files}",
            (Self::Pour(_), 78..) => "writing [{wide_bar}] {bytes}/{total_bytes} {files}{rate} {left}",
            (Self::Pour(_), 64..) => "writing {percent}% {bytes}/{total_bytes} {rate} {left}",
            (Self::Pour(_), 38..) => "writing {percent}% {rate} {left}",
            (Self::Pour(_), _) => "writing {percent}%",
        }
    }

    /// A new line of its kind, for a stage that began at `since`.
    fn bar(self, since: Option<Instant>) -> ProgressBar {
        let length = match self {
            Self::Scan => None,
            Self::Pour(bytes) => Some(bytes),
        };
        let elapsed = since.map(|since| since.elapsed()).unwrap_or_default();
        ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr()).with_elapsed(elapsed)
    }
}

/// The speed of a stage, averaged over the whole stage, including the time before the bar was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace {
    /// Bytes a second.
    rate: u64,
    /// The time until the end.
    left: Option<Duration>,
}

impl Pace {
    fn of(state: &ProgressState) -> Self {
        Self::new(state.pos(), state.len().unwrap_or(0), state.elapsed())
    }

    fn new(done: u64, all: u64, elapsed: Duration) -> Self {
        let milliseconds = elapsed.as_millis().max(1);
        let per_second = |bytes: u64| u128::from(bytes) * 1000 / milliseconds;
        let rest = u128::from(all.saturating_sub(done)) * milliseconds;
        Self {
            rate: u64::try_from(per_second(done)).unwrap_or(u64::MAX),
            left: rest
                .checked_div(u128::from(done))
                .map(|left| Duration::from_millis(u64::try_from(left).unwrap_or(u64::MAX))),
        }
    }
}

/// How many names or bytes were read, then how many files are done, and of an image without files nothing.
fn files_of(counts: Counts) -> String {
    match (Stage::of(counts), counts.total_files) {
        (Stage::Scan, _) if counts.files > 0 => format!("scanning {} names", grouped(counts.files)),
        // What standard input has is not known before it ends.
        (Stage::Scan, _) => format!("reading {}", BinaryBytes(counts.bytes)),
        (Stage::Pour(_), 0) => String::new(),
        (Stage::Pour(_), total) => format!("{}/{} files ", grouped(counts.files), grouped(total)),
    }
}

/// Lets `bar` show what `template` says.
fn dress(bar: &ProgressBar, template: &str, progress: &Progress) {
    let progress = progress.clone();
    let files = move |_: &ProgressState, out: &mut dyn Write| {
        // A line that is cut short is no reason to stop.
        let _ = out.write_str(&files_of(progress.counts()));
    };
    let rate = |state: &ProgressState, out: &mut dyn Write| {
        let _ = write!(out, "{}/s", BinaryBytes(Pace::of(state).rate));
    };
    // Before the first byte there is no estimate.
    let left = |state: &ProgressState, out: &mut dyn Write| {
        if let Some(left) = Pace::of(state).left {
            let _ = write!(out, "{:#} left", HumanDuration(left));
        }
    };
    // The templates are fixed and valid; otherwise the default line would be used.
    if let Ok(style) = ProgressStyle::with_template(template) {
        let style = style.with_key("files", files).with_key("left", left).with_key("rate", rate);
        bar.set_style(style.progress_chars("=> ").tick_chars("|/-\\ "));
    }
}

/// The present width of the terminal, which may change during the work.
fn columns() -> u16 {
    // A terminal that does not know its width, such as a serial one, reports 0.
    match rustix::termios::tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_col > 0 => size.ws_col,
        _ => 80,
    }
}

fn draw(progress: &Progress, done: &AtomicBool) {
    let begin = Instant::now();
    let mut shown: Option<(Stage, ProgressBar)> = None;
    let mut worn = "";
    while !done.load(Ordering::Relaxed) {
        if begin.elapsed() >= PATIENCE {
            let counts = progress.counts();
            let stage = Stage::of(counts);
            if let Some((old, bar)) = &shown
                && *old != stage
            {
                bar.finish_and_clear();
                shown = None;
                worn = "";
            }
            let (_, bar) = shown.get_or_insert_with(|| (stage, stage.bar(counts.since)));
            let template = stage.template(columns());
            if worn != template {
                dress(bar, template, progress);
                worn = template;
            }
            match stage {
                Stage::Scan => bar.tick(),
                Stage::Pour(_) => bar.set_position(counts.bytes),
            }
        }
        std::thread::park_timeout(BEAT);
    }
    if let Some((_, bar)) = shown {
        bar.finish_and_clear();
    }
}

/// A number with its digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn the_pace_is_that_of_the_whole_stage() {
        let second = Duration::from_secs(1);
        let pace = Pace::new(100, 400, second / 2);
        assert_eq!(pace, Pace { rate: 200, left: Some(second * 3 / 2) });
        assert_eq!(Pace::new(0, 400, second), Pace { rate: 0, left: None });
        assert_eq!(Pace::new(400, 400, Duration::ZERO).left, Some(Duration::ZERO));
        assert_eq!(Pace::new(u64::MAX, u64::MAX, Duration::ZERO).rate, u64::MAX);
    }

    #[test]
    fn the_stage_follows_the_counters() {
        let progress = Progress::default();
        progress.advance(0, 7);
        assert_eq!(Stage::of(progress.counts()), Stage::Scan);
        assert_eq!(files_of(progress.counts()), "scanning 7 names");
        let stream = Progress::default();
        stream.advance(3 << 20, 0);
        assert_eq!(files_of(stream.counts()), "reading 3.00 MiB", "of no names there are not 0");
        progress.begin(100, 2);
        assert_eq!(Stage::of(progress.counts()), Stage::Pour(100));
        assert_eq!(files_of(progress.counts()), "0/2 files ");
        progress.begin(100, 0);
        assert_eq!(files_of(progress.counts()), "", "an image that is converted has no files to count");
    }

    #[test]
    fn a_line_fits_its_terminal() {
        let pour = Stage::Pour(u64::MAX);
        let rest = |columns| pour.template(columns).replace("{wide_bar}", "");
        // The largest width of each part.
        let width = |template: &str| {
            [
                ("{bytes}", "1023.99 MiB"),
                ("{total_bytes}", "1023.99 GiB"),
                ("{files}", "12,345/12,345 files "),
                ("{rate}", "1023.99 MiB/s"),
                ("{left}", "59m left"),
                ("{percent}", "100"),
            ]
            .iter()
            .fold(template.to_owned(), |line, (part, text)| line.replace(part, text))
            .len()
        };
        for columns in [20, 37, 38, 40, 63, 64, 77, 78, 80, 200] {
            assert!(width(&rest(columns)) <= usize::from(columns), "{columns}: {}", rest(columns));
        }
        assert!(pour.template(80).contains("{wide_bar}") && pour.template(40).contains("{rate}"));
    }

    #[test]
    fn a_bar_ends_at_once() {
        let begin = Instant::now();
        drop(Bar::start(&Progress::default()));
        assert!(begin.elapsed() < Duration::from_secs(60));
    }
}
