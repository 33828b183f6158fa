//! Runs another program with a limit of time and of output; errors contain what the program said.
//!
//! The program heads a process group of its own. The group is killed when the time is over, when someone asks
//! to stop, and when the caller has enough.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::error::{Error, Kind, Result};
use crate::progress::Progress;
use crate::text::{printable, printable_path};
use crate::units::{MIB, u64_of};

/// How often the clock and the request to stop are checked while the program is silent.
const BEAT: Duration = Duration::from_millis(20);
/// How long to wait for output after the program ended: a process that it started may still hold the pipes.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// Bytes of one message of a reading thread: as many as a pipe holds (pipe(7)).
const CHUNK: usize = 64 << 10;
/// The longest line; a longer one becomes several.
const LONGEST_LINE: usize = 64 << 10;
/// How much of the program's complaints is kept, and how many lines of it are shown.
const MOST_KEPT: usize = 64 << 10;
const LINES_SHOWN: usize = 5;

/// The only variables of the environment that a program gets if nothing else may affect it: where programs
/// and libraries are.
const PLAIN_ENVIRONMENT: [&str; 2] = ["PATH", "LD_LIBRARY_PATH"];

/// Which of its two outputs a program wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Errors,
}

/// Whether the program may go on after a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It may.
    Go,
    /// The caller has what it wants, so the program is killed.
    Enough,
}

/// A program before it runs.
#[derive(Debug)]
pub struct Program<'a> {
    command: Command,
    /// Its name, which stands for the call in errors.
    name: String,
    call: String,
    limit: Duration,
    most: u64,
    progress: &'a Progress,
    hint: Option<&'static str>,
}

impl<'a> Program<'a> {
    /// The program `path`, looked up in PATH if it has no slash. It gets no input, may run for a minute and
    /// may write 16 MiB to its standard output. `progress` may ask it to stop.
    #[must_use]
    pub fn new(path: impl AsRef<OsStr>, progress: &'a Progress) -> Self {
        let mut command = Command::new(path.as_ref());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let path = Path::new(path.as_ref());
        let (name, call) =
            (printable_path(path.file_name().unwrap_or(path.as_os_str())), printable_path(path));
        Self { command, name, call, limit: Duration::from_secs(60), most: 16 * MIB, progress, hint: None }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Removes everything from its environment except PATH and LD_LIBRARY_PATH, and sets the locale to C.
    #[must_use]
    pub fn plain_environment(mut self) -> Self {
        let kept = PLAIN_ENVIRONMENT.map(|name| (name, std::env::var_os(name)));
        self.command.env_clear().env("LC_ALL", "C");
        self.command.envs(kept.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))));
        self
    }

    /// What errors call it, instead of the path of the program.
    #[must_use]
    pub fn called(mut self, call: impl Into<String>) -> Self {
        self.call = call.into();
        self
    }

    /// How long it may run.
    #[must_use]
    pub const fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// How many bytes it may write to its standard output.
    #[must_use]
    pub const fn most(mut self, most: u64) -> Self {
        self.most = most;
        self
    }

    /// What the user can do if there is no such program.
    #[must_use]
    pub const fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// Runs it to its end and returns what it wrote to its standard output.
    ///
    /// # Errors
    /// [`Kind::Source`] where it cannot be started, where it fails (with what it said), for too much output,
    /// and where it takes too long; [`Kind::Interrupted`] after a signal.
    pub fn output(self) -> Result<Vec<u8>> {
        let most = self.most;
        let refused = Error::new(Kind::Source, format!("{} writes more than it should", self.name))
            .at(&self.call)
            .expected(format!("at most {most} bytes"));
        let mut refused = Some(refused);
        let mut output = Vec::new();
        self.run(&mut |stream, bytes| {
            if stream == Stream::Output {
                output.extend_from_slice(bytes);
            }
            match refused.take_if(|_| u64_of(output.len()) > most) {
                Some(refused) => Err(refused),
                None => Ok(Next::Go),
            }
        })?;
        Ok(output)
    }

    /// Runs it and hands over each line of both outputs while it runs, without the line end; a carriage
    /// return before that stays. A line longer than 64 KiB comes in pieces. The output is not limited.
    ///
    /// # Errors
    /// As [`Program::output`], and any error of `each`, after which the program is killed.
    pub fn lines(self, each: &mut dyn FnMut(Stream, &[u8]) -> Result<Next>) -> Result<()> {
        let mut parts = [Vec::new(), Vec::new()];
        let ended = self.run(&mut |stream, bytes| {
            let part = &mut parts[usize::from(stream == Stream::Errors)];
            for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                part.extend_from_slice(piece);
                if part.ends_with(b"\n") || part.len() >= LONGEST_LINE {
                    let line = part.strip_suffix(b"\n").unwrap_or(part);
                    let next = each(stream, line.strip_suffix(b"\r").unwrap_or(line))?;
                    part.clear();
                    if next == Next::Enough {
                        return Ok(Next::Enough);
                    }
                }
            }
            Ok(Next::Go)
        })?;
        for (stream, part) in [Stream::Output, Stream::Errors].into_iter().zip(&parts) {
            // The last line may lack its line end.
            if ended == Next::Go && !part.is_empty() {
                each(stream, part)?;
            }
        }
        Ok(())
    }

    /// Runs it and hands over its output as it comes. Returns whether the program ended by itself.
    fn run(mut self, each: &mut dyn FnMut(Stream, &[u8]) -> Result<Next>) -> Result<Next> {
        let deadline = Instant::now().checked_add(self.limit);
        let mut running = self.start()?;
        let (sender, receiver) = sync_channel(4);
        running.read(&sender);
        drop(sender);
        let mut said = Tail::default();
        let mut listen = |stream, bytes: &[u8], said: &mut Tail| {
            if stream == Stream::Errors {
                said.push(bytes);
            }
            each(stream, bytes)
        };
        let ended = running.listen(&receiver, |tick| match tick {
            Some((stream, bytes)) => listen(stream, &bytes, &mut said),
            None => self.check(deadline, &said),
        });
        let ended = match ended {
            Ok(Next::Go) => running.wait(|| self.check(deadline, &said)),
            other => other.map(|_| None),
        };
        match ended? {
            None => Ok(Next::Enough),
            Some(status) if status.success() => Ok(Next::Go),
            Some(status) => Err(self.failed("failed", &said, Some(status))),
        }
    }

    fn start(&mut self) -> Result<Running> {
        let child = self.command.spawn().map_err(|error| {
            let what = format!("cannot run {}", self.name);
            let error = Error::io(Kind::Source, what, &self.call, error);
            match self.hint {
                Some(hint) => error.hint(hint),
                None => error,
            }
        })?;
        Ok(Running { child, ended: None })
    }

    /// Whether the program may go on: there is time left and nobody asked to stop.
    fn check(&self, deadline: Option<Instant>, said: &Tail) -> Result<Next> {
        self.progress.check()?;
        match deadline {
            Some(deadline) if Instant::now() >= deadline => {
                let error = self.failed("takes too long", said, None);
                Err(error.expected(format!("an end within {} s", self.limit.as_secs_f64())))
            }
            _ => Ok(Next::Go),
        }
    }

    /// An error with the end of the program's complaints, in one line.
    fn failed(&self, what: &str, said: &Tail, status: Option<ExitStatus>) -> Error {
        let parts: Vec<String> = status
            .map(describe)
            .into_iter()
            .chain(Some(said.lines()).filter(|lines| !lines.is_empty()))
            .collect();
        let error = Error::new(Kind::Source, format!("{} {what}", self.name)).at(&self.call);
        if parts.is_empty() { error } else { error.found(parts.join(": ")) }
    }
}

/// How a program ended: `exit status 1`, `signal 9`.
fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// The end of the program's complaints.
#[derive(Debug, Default)]
struct Tail(VecDeque<u8>);

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        self.0.drain(..self.0.len().saturating_sub(MOST_KEPT));
    }

    /// Its last lines, joined.
    fn lines(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().copied().collect();
        let lines: Vec<&[u8]> = bytes
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::trim_ascii)
            .filter(|line| !line.is_empty())
            .collect();
        let last = lines.get(lines.len().saturating_sub(LINES_SHOWN)..).unwrap_or_default();
        last.iter().map(|line| printable(line)).collect::<Vec<_>>().join("; ")
    }
}

/// What a reading thread passes on.
type Chunk = (Stream, Vec<u8>);

/// A running program. It is killed when this is dropped.
#[derive(Debug)]
struct Running {
    child: Child,
    /// How it ended, if that is known. From then on its process number may belong to another process.
    ended: Option<ExitStatus>,
}

impl Running {
    /// Reads each output in a thread of its own, until it ends or nobody listens.
    fn read(&mut self, sender: &SyncSender<Chunk>) {
        let forward = |stream: Stream, from: Option<Box<dyn Read + Send>>| {
            let (sender, Some(mut from)) = (sender.clone(), from) else { return };
            std::thread::spawn(move || {
                let mut buffer = vec![0; CHUNK];
                loop {
                    let bytes = match from.read(&mut buffer) {
                        Ok(0) => return,
                        Ok(length) => buffer[..length].to_vec(),
                        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                        // A pipe whose other end exists can always be read (read(2)).
                        Err(_) => return,
                    };
                    if sender.send((stream, bytes)).is_err() {
                        return;
                    }
                }
            });
        };
        forward(
            Stream::Output,
            self.child.stdout.take().map(|pipe| -> Box<dyn Read + Send> { Box::new(pipe) }),
        );
        forward(
            Stream::Errors,
            self.child.stderr.take().map(|pipe| -> Box<dyn Read + Send> { Box::new(pipe) }),
        );
    }

    /// Passes on chunks until both outputs have ended; now and then it passes on nothing.
    fn listen(
        &mut self,
        chunks: &Receiver<Chunk>,
        mut each: impl FnMut(Option<Chunk>) -> Result<Next>,
    ) -> Result<Next> {
        let mut silent = Instant::now();
        loop {
            let next = match chunks.recv_timeout(BEAT) {
                Ok(chunk) => {
                    silent = Instant::now();
                    // The clock must also be checked if the program never pauses.
                    match each(Some(chunk))? {
                        Next::Go => each(None)?,
                        Next::Enough => Next::Enough,
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    if self.has_ended()? && silent.elapsed() > AFTERWARDS {
                        return Ok(Next::Go);
                    }
                    each(None)?
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(Next::Go),
            };
            if next == Next::Enough {
                return Ok(next);
            }
        }
    }

    fn has_ended(&mut self) -> Result<bool> {
        if self.ended.is_none() {
            self.ended = self
                .child
                .try_wait()
                .map_err(|error| Error::new(Kind::Source, "cannot wait for the program").because(error))?;
        }
        Ok(self.ended.is_some())
    }

    /// Waits for the end of a program that has closed its outputs.
    fn wait(&mut self, mut check: impl FnMut() -> Result<Next>) -> Result<Option<ExitStatus>> {
        while !self.has_ended()? {
            check()?;
            std::thread::sleep(BEAT);
        }
        Ok(self.ended)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // The process group has the number of the program. An error here means that nothing is left to
            // kill.
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    fn shell<'a>(script: &str, progress: &'a Progress) -> Program<'a> {
        Program::new("sh", progress).args(["-c", script])
    }

    #[test]
    fn output_is_what_it_wrote_and_failure_what_it_said() {
        let progress = Progress::default();
        let output = shell("echo one; echo no >&2; printf two", &progress).output().unwrap();
        assert_eq!(output, b"one\ntwo");
        for (script, found) in [
            ("seq 9 >&2; exit 3", "\n  found: exit status 3: 5; 6; 7; 8; 9"),
            ("printf 'a\\033[2J\\n\\n' >&2; false", "\n  found: exit status 1: a\\x1b[2J"),
            ("exit 7", "\n  found: exit status 7"),
            ("kill -9 $$", "\n  found: signal 9"),
        ] {
            let error = shell(script, &progress).output().unwrap_err();
            assert_eq!(error.kind(), Kind::Source);
            // The backslash of an escape is not escaped again.
            assert_eq!(error.to_string(), format!("sh failed\n  at sh{found}"), "{script}");
        }
        let error =
            Program::new("/nonexistent/x", &progress).called("x --it").hint("get one").output().unwrap_err();
        let text = "cannot run x: No such file or directory (os error 2)\n  at x --it\n  hint: get one";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn nothing_of_the_environment_but_where_things_lie() {
        let progress = Progress::default();
        let said = Program::new("env", &progress).plain_environment().output().unwrap();
        let said = String::from_utf8(said).unwrap();
        let names: Vec<&str> = said.lines().map(|line| line.split_once('=').unwrap().0).collect();
        assert!(names.contains(&"LC_ALL") && names.contains(&"PATH"), "{said}");
        assert!(names.iter().all(|name| ["LC_ALL", "PATH", "LD_LIBRARY_PATH"].contains(name)), "{said}");
    }

    #[test]
    fn a_program_ends_when_its_time_is_over_with_all_that_it_started() {
        let progress = Progress::default();
        let folder = tempfile::tempdir().unwrap();
        let alive = folder.path().join("alive");
        let script =
            format!("echo begun >&2; (sleep 1; touch {}) & while :; do sleep 9; done", alive.display());
        let begun = Instant::now();
        let error = shell(&script, &progress).limit(Duration::from_millis(200)).output().unwrap_err();
        let text = "sh takes too long\n  at sh\n  expected: an end within 0.2 s\n  found: begun";
        assert_eq!(error.to_string(), text);
        assert!(begun.elapsed() < Duration::from_secs(9));
        std::thread::sleep(Duration::from_millis(1500));
        assert!(!alive.exists(), "a process of the program goes on");
        // A program that never pauses is stopped too.
        let error =
            shell("yes", &progress).most(u64::MAX).limit(Duration::from_millis(200)).output().unwrap_err();
        assert_eq!(error.what(), "sh takes too long");
        // A program that closed its outputs is ended too.
        let error = shell("exec >&- 2>&-; sleep 9", &progress).limit(Duration::from_millis(200)).output();
        assert_eq!(error.unwrap_err().what(), "sh takes too long");
    }

    #[test]
    fn a_program_ends_when_someone_asks_to_stop() {
        let progress = Progress::default();
        let flag = progress.stop_flag();
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            flag.store(true, Ordering::Relaxed);
        });
        let begun = Instant::now();
        let error = shell("sleep 60", &progress).output().unwrap_err();
        assert_eq!(error.kind(), Kind::Interrupted);
        assert!(begun.elapsed() < Duration::from_secs(30));
        stopper.join().unwrap();
    }

    #[test]
    fn too_much_output_is_refused() {
        let progress = Progress::default();
        assert_eq!(shell("printf 1234", &progress).most(4).output().unwrap(), b"1234");
        let error = shell("yes", &progress).most(4).output().unwrap_err();
        let text = "sh writes more than it should\n  at sh\n  expected: at most 4 bytes";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn what_the_program_left_behind_is_not_waited_for() {
        let progress = Progress::default();
        let begun = Instant::now();
        let output = shell("sleep 30 & echo done", &progress).output().unwrap();
        assert_eq!(output, b"done\n");
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn lines_come_while_it_runs_and_can_end_it() {
        let progress = Progress::default();
        let mut lines = Vec::new();
        let script = "printf 'a\\r\\nb\\n\\nno end'; printf 'oh\\n' >&2";
        shell(script, &progress)
            .lines(&mut |stream, line| {
                lines.push((stream, String::from_utf8(line.to_vec()).unwrap()));
                Ok(Next::Go)
            })
            .unwrap();
        let of = |wanted| -> Vec<&str> {
            lines.iter().filter(|(stream, _)| *stream == wanted).map(|(_, line)| line.as_str()).collect()
        };
        assert_eq!((of(Stream::Output), of(Stream::Errors)), (vec!["a", "b", "", "no end"], vec!["oh"]));

        let begun = Instant::now();
        let mut seen = 0;
        shell("echo x; sleep 60", &progress)
            .lines(&mut |_, line| {
                assert_eq!(line, b"x");
                seen += 1;
                Ok(Next::Enough)
            })
            .unwrap();
        let error = shell("echo x; sleep 60", &progress)
            .lines(&mut |_, _| Err(Error::new(Kind::Format, "no such line")))
            .unwrap_err();
        assert_eq!((seen, error.what()), (1, "no such line"));
        assert!(begun.elapsed() < Duration::from_secs(30));

        let mut lengths = Vec::new();
        shell("head -c 200000 /dev/zero", &progress)
            .lines(&mut |_, line| {
                lengths.push(line.len());
                Ok(Next::Go)
            })
            .unwrap();
        assert_eq!(lengths.iter().sum::<usize>(), 200_000);
        assert!(lengths.len() > 1 && lengths.iter().all(|length| *length < 2 * LONGEST_LINE), "{lengths:?}");
    }
}
