//! Runs commands in turn and prints their cost.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The default number of rounds.
pub(crate) const ROUNDS: usize = 5;

/// The program under test: `DISKWRIGHT_PROGRAM`, or the one that is built like this bench.
pub(crate) fn program() -> &'static str {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        std::env::var("DISKWRIGHT_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_diskwright").to_owned())
    })
}

/// A command to time.
pub(crate) struct Case {
    name: String,
    program: PathBuf,
    args: Vec<std::ffi::OsString>,
    makes: Option<PathBuf>,
    per: Option<u64>,
    until: Option<&'static str>,
}

impl Case {
    pub(crate) fn new(name: &str, program: impl AsRef<Path>) -> Self {
        Self {
            name: name.to_owned(),
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            makes: None,
            per: None,
            until: None,
        }
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Its output, which is removed before each run, outside the timing.
    pub(crate) fn makes(mut self, path: &Path) -> Self {
        self.makes = Some(path.to_owned());
        self
    }

    /// Prints time and memory also for each of `count` files.
    pub(crate) const fn per(mut self, count: u64) -> Self {
        self.per = Some(count);
        self
    }

    /// Its time ends with the first line of its output that contains `text`, and not with its own end.
    pub(crate) const fn until(mut self, text: &'static str) -> Self {
        self.until = Some(text);
        self
    }

    /// What it took.
    fn time(&self) -> Took {
        self.clear();
        let before = processor();
        let start = Instant::now();
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(if self.until.is_some() { Stdio::piped() } else { Stdio::null() })
            .stderr(if self.until.is_some() { Stdio::null() } else { Stdio::inherit() })
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", self.program.display()));
        let seen = self
            .until
            .map(|text| seen(&mut child, text).unwrap_or_else(|| panic!("{}: no `{text}`", self.name)));
        // VmHWM is a high-water mark, so a look now and then is enough; the last one comes shortly before the
        // end.
        let status = format!("/proc/{}/status", child.id());
        let mut memory = 0;
        let mut pause = Duration::from_micros(200);
        let code = loop {
            if let Some(code) = child.try_wait().expect("the child can be waited for") {
                break code;
            }
            memory = memory.max(high_water(&status));
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        };
        let took = seen.map_or_else(|| start.elapsed(), |seen| seen - start);
        assert!(code.success(), "{} failed: {code}", self.name);
        let file = self.makes.as_deref().and_then(size);
        self.clear();
        Took { time: took, processor: processor() - before, memory, file }
    }

    /// Removes the output, and waits until the host has written everything: pending writes of one command
    /// slow down the next one.
    fn clear(&self) {
        if let Some(path) = &self.makes {
            let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        }
        let status = Command::new("sync").status();
        assert!(status.is_ok_and(|status| status.success()), "sync failed");
    }
}

/// The cost of a run; ordered by its time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Took {
    time: Duration,
    /// Processor time of its threads and of the host on their behalf.
    processor: Duration,
    /// The most it had, in KiB.
    memory: u64,
    /// Length of its output, if that is a file.
    file: Option<u64>,
}

/// When a child has printed a line that contains `text`; the rest of its output is read too.
fn seen(child: &mut std::process::Child, text: &str) -> Option<Instant> {
    let mut seen = None;
    let mut output = BufReader::new(child.stdout.take()?);
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line).ok()? > 0 {
        if seen.is_none() && String::from_utf8_lossy(&line).contains(text) {
            seen = Some(Instant::now());
        }
        line.clear();
    }
    seen
}

/// Processor time of all children that have ended (cutime and cstime, proc_pid_stat(5)), in ticks; on all
/// Linux systems a second has a hundred.
fn processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in parentheses, may hold anything; the third field comes after it.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks: u64 = fields.skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn high_water(status: &str) -> u64 {
    let text = std::fs::read_to_string(status).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok()).unwrap_or(0)
}

/// Commands that are compared.
pub(crate) struct Group {
    pub(crate) title: &'static str,
    pub(crate) cases: Vec<Case>,
}

impl Group {
    /// Runs and prints all.
    pub(crate) fn run(self) {
        self.run_rounds(ROUNDS);
    }

    /// As [`Group::run`], with as many rounds that count.
    pub(crate) fn run_rounds(self, rounds: usize) {
        println!("\n{}", self.title);
        let mut times: Vec<Vec<Took>> = self.cases.iter().map(|_| Vec::new()).collect();
        for round in 0..=rounds {
            for (case, times) in self.cases.iter().zip(&mut times) {
                let time = case.time();
                if round > 0 {
                    times.push(time);
                }
            }
        }
        let medians: Vec<Duration> = times.iter_mut().map(|times| median(times)).collect();
        println!(
            "{:>9} {:>9} {:>9} {:>7} {:>7} {:>9} {:>10} {:>12}  command",
            "median", "least", "most", "ratio", "least", "processor", "memory", "file"
        );
        let least = |times: &[Took]| times.first().map_or(0.0, |took| took.time.as_secs_f64());
        let first_least = times.first().map_or(0.0, |times| least(times));
        for ((case, times), time) in self.cases.iter().zip(&times).zip(&medians) {
            let ratio = time.as_secs_f64() / medians.first().map_or(1.0, Duration::as_secs_f64);
            let memory = times.iter().map(|took| took.memory).max().unwrap_or(0);
            let file =
                times.first().and_then(|took| took.file).map_or(String::new(), |bytes| bytes.to_string());
            let mut processor: Vec<Duration> = times.iter().map(|took| took.processor).collect();
            processor.sort();
            println!(
                "{:>7.3} s {:>7.3} s {:>7.3} s {ratio:>7.2} {:>7.2} {:>7.2} s {memory:>6} KiB {file:>12}  {}",
                time.as_secs_f64(),
                least(times),
                times.last().map_or(0.0, |took| took.time.as_secs_f64()),
                least(times) / first_least,
                processor.get(processor.len() / 2).map_or(0.0, Duration::as_secs_f64),
                case.name
            );
            if let Some(count) = case.per {
                println!(
                    "{:>9} {:.2} us and {} bytes for each of {count} files",
                    "",
                    time.as_secs_f64() * 1e6 / u32::try_from(count).map_or(f64::NAN, f64::from),
                    memory * 1024 / count
                );
            }
        }
    }
}

/// The bytes a file takes on its disk.
fn size(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file).map(|meta| meta.blocks() * 512)
}

/// Sorts by time; the middle one.
fn median(times: &mut [Took]) -> Duration {
    times.sort();
    times.get(times.len() / 2).map_or(Duration::ZERO, |took| took.time)
}
