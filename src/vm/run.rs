//! A machine while it runs: the server of its disk in this process, and QEMU and other programs as its children.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};

use super::command::Command;
use super::environment::Environment;
use super::plan::{DESCRIPTOR, Plan};
use super::share::{Helper, Prepare};
use super::state::State;
use crate::disk::Work;
use crate::error::{Error, Kind, Result};
use crate::image::Image;
use crate::progress::Progress;
use crate::serve::{Event, Exports, Server, Stop, Stream};

/// How often the end of QEMU and the request to stop are looked for.
const BEAT: Duration = Duration::from_millis(20);
/// How long a program may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(10);
/// How long a helper may take until it listens.
const READY: Duration = Duration::from_secs(10);

/// The folder for what a machine needs while it runs. Unless the caller gave it, it is removed with all that is in it.
#[derive(Debug)]
pub struct WorkFolder {
    path: PathBuf,
    _own: Option<tempfile::TempDir>,
}

/// How the folder is called before it is made (nixpkgs: `mktemp -d nix-vm.XXXXXXXXXX`).
const PREFIX: &str = "nix-vm.";

impl WorkFolder {
    /// The folder that the environment gives, or a new one.
    ///
    /// # Errors
    /// [`Kind::Output`] where it cannot be made.
    pub fn new(environment: &Environment) -> Result<Self> {
        if let Some(path) = environment.work() {
            std::fs::create_dir_all(&path)
                .map_err(|error| Error::io(Kind::Output, "cannot make the folder TMPDIR", &path, error))?;
            return Ok(Self { path, _own: None });
        }
        let made = tempfile::Builder::new().prefix(PREFIX).rand_bytes(10).tempdir();
        let own = made.map_err(|error| {
            Error::io(Kind::Output, "cannot make a folder for the machine", std::env::temp_dir(), error)
        })?;
        Ok(Self { path: own.path().to_owned(), _own: Some(own) })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it would be, with nothing made.
    #[must_use]
    pub fn planned(environment: &Environment) -> PathBuf {
        environment.work().unwrap_or_else(|| std::env::temp_dir().join(format!("{PREFIX}XXXXXXXXXX")))
    }
}

/// A folder that is removed when this is dropped.
#[derive(Debug)]
struct Removed(PathBuf);

impl Removed {
    /// What an earlier start left there goes now.
    fn before_and_after(folder: &Path) -> Self {
        let removed = Self(folder.to_owned());
        removed.remove();
        removed
    }

    fn remove(&self) {
        // It need not be there, and what cannot be removed stays where the caller said that temporary files go.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Drop for Removed {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Receives what the machine's disk could not give, on any thread.
pub type Tell = dyn Fn(&str) + Send + Sync;

impl Plan {
    /// Runs the machine to its end and returns QEMU's exit code; 128 and the number of the signal where one ended QEMU. `fresh`
    /// removes what earlier starts have written. `tell` gets warnings.
    ///
    /// # Errors
    /// [`Kind::Usage`] where another machine has the state, [`Kind::Output`] where the state cannot be written,
    /// [`Kind::Source`] where a program cannot be started, [`Kind::Interrupted`] after a signal, when all programs have ended.
    pub fn run(&self, folder: &WorkFolder, fresh: bool, work: &Work, tell: Box<Tell>) -> Result<u8> {
        let _removed = self.temporary.then(|| Removed::before_and_after(&self.state));
        let _state = State::open(&self.state, &self.record, fresh)?;
        let xchg = folder.path().join("xchg");
        std::fs::create_dir_all(&xchg)
            .map_err(|error| Error::io(Kind::Output, "cannot make a folder for the machine", &xchg, error))?;
        for make in &self.makes {
            work.progress.check()?;
            make.make(work)?;
        }
        let _helpers: Vec<Running> =
            self.helpers.iter().map(|helper| start_helper(helper, &work.progress)).collect::<Result<_>>()?;
        match &self.served {
            None => wait(start(&self.command, Stdio::inherit())?, &work.progress),
            Some(image) => self.serve(image, &work.progress, tell),
        }
    }

    /// Runs QEMU with a connection to the disk that is served.
    fn serve(&self, image: &Image, progress: &Progress, tell: Box<Tell>) -> Result<u8> {
        let server = Server::new(Exports::of(image)?).log(move |event| {
            if let Event::Failed { error, .. } = event {
                tell(&error.to_string());
            }
        });
        let (stop, (ours, theirs)) = (Stop::new()?, Stream::pair()?);
        std::thread::scope(|scope| {
            // The server answers before QEMU starts: QEMU asks for the size of its disk at once.
            let serving = scope.spawn(|| server.serve_one(ours, &stop));
            // Only QEMU keeps its end open from here on.
            let handed = inherited(&theirs.into());
            let ended = handed
                .and_then(|theirs| {
                    let qemu = start(&self.command, Stdio::inherit());
                    drop(theirs);
                    qemu
                })
                .and_then(|qemu| wait(qemu, progress));
            stop.now();
            let served = serving.join().unwrap_or_else(|_| Err(Error::bug("the server of a disk panicked")));
            let code = ended?;
            served.map(|()| code)
        })
    }
}

/// `file` as the descriptor that QEMU is told about, which a program that is started now inherits.
fn inherited(file: &OwnedFd) -> Result<OwnedFd> {
    let failed = |error: rustix::io::Errno| {
        Error::new(Kind::Output, "cannot hand a connection on to QEMU").because(std::io::Error::from(error))
    };
    let there = fcntl_dupfd_cloexec(file, DESCRIPTOR).map_err(failed)?;
    if there.as_raw_fd() != DESCRIPTOR {
        return Err(Error::new(Kind::Usage, format!("the descriptor {DESCRIPTOR} is taken already"))
            .hint(format!("close it: {DESCRIPTOR}>&- in a shell")));
    }
    fcntl_setfd(&there, FdFlags::empty()).map_err(failed)?;
    Ok(there)
}

/// A child. It is ended when this is dropped.
#[derive(Debug)]
struct Running {
    child: Child,
    ended: bool,
}

fn start(command: &Command, input: Stdio) -> Result<Running> {
    start_with(command, &[], input)
}

fn start_with(command: &Command, variables: &[(&str, String)], input: Stdio) -> Result<Running> {
    let child = std::process::Command::new(&command.program)
        .args(&command.arguments)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(input)
        .spawn()
        .map_err(|error| Error::io(Kind::Source, "cannot run the program", &command.program, error))?;
    Ok(Running { child, ended: false })
}

/// Starts a program and waits until it listens.
fn start_helper(helper: &Helper, progress: &Progress) -> Result<Running> {
    // Sockets of an earlier start would be taken for this one's.
    for socket in &helper.sockets {
        let _ = std::fs::remove_file(socket);
    }
    // The terminal is QEMU's.
    let mut running = start(&helper.command, Stdio::null())?;
    let begun = Instant::now();
    while let Some(socket) = helper.sockets.iter().find(|socket| !socket.exists()) {
        progress.check()?;
        let failed = |what: String| Error::new(Kind::Source, what).at(&helper.command.program);
        if let Some(status) = running.ended()? {
            return Err(failed(format!("the program ended before the machine began: {status}")));
        }
        if begun.elapsed() > READY {
            return Err(failed("the program does not listen".to_owned())
                .expected("a socket within 10 s")
                .at(socket));
        }
        std::thread::sleep(BEAT);
    }
    if let Some(prepare) = &helper.prepare {
        run_before(prepare, progress)?;
    }
    Ok(running)
}

/// Runs a command to its end, which must be a good one.
fn run_before(prepare: &Prepare, progress: &Progress) -> Result<()> {
    match wait(start_with(&prepare.command, &prepare.variables, Stdio::null())?, progress)? {
        0 => Ok(()),
        code => Err(Error::new(Kind::Usage, "the command that prepares the TPM failed")
            .about("tpm_provisioning")
            .expected("the exit code 0")
            .found(code)),
    }
}

/// Waits for the end of QEMU; after a signal it ends QEMU first.
fn wait(mut qemu: Running, progress: &Progress) -> Result<u8> {
    loop {
        if let Some(status) = qemu.ended()? {
            // A signal from a terminal reaches both.
            progress.check()?;
            return Ok(code(status));
        }
        if let Err(interrupted) = progress.check() {
            qemu.end();
            return Err(interrupted);
        }
        std::thread::sleep(BEAT);
    }
}

/// The exit code that stands for a status, as a shell has it.
fn code(status: ExitStatus) -> u8 {
    let number = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    number.and_then(|number| u8::try_from(number).ok()).unwrap_or(1)
}

impl Running {
    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self
            .child
            .try_wait()
            .map_err(|error| Error::new(Kind::Source, "cannot wait for the program").because(error))?;
        self.ended |= status.is_some();
        Ok(status)
    }

    /// Asks it to end, and then makes it.
    fn end(&mut self) {
        let begun = Instant::now();
        // An error means that it is gone.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        while begun.elapsed() < GRACE {
            if !matches!(self.ended(), Ok(None)) {
                return;
            }
            std::thread::sleep(BEAT);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.ended = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.option("-c", script);
        command
    }

    #[test]
    fn the_end_of_the_program_is_the_end_of_the_machine() {
        let progress = Progress::default();
        for (script, expected) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)] {
            assert_eq!(
                wait(start(&shell(script), Stdio::null()).unwrap(), &progress).unwrap(),
                expected,
                "{script}"
            );
        }
        let error = start(&Command::new("/nonexistent"), Stdio::null()).unwrap_err();
        assert_eq!(error.kind(), Kind::Source);
    }

    #[test]
    fn a_signal_ends_the_program() {
        let progress = Progress::default();
        let running = start(&shell("exec sleep 60"), Stdio::null()).unwrap();
        let pid = Pid::from_child(&running.child);
        progress.stop_flag().store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(wait(running, &progress).unwrap_err().kind(), Kind::Interrupted);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }

    #[test]
    fn a_helper_has_to_listen() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let progress = Progress::default();
        let helper =
            |script: &str| Helper { command: shell(script), sockets: vec![socket.clone()], prepare: None };
        let error = start_helper(&helper("exit 3"), &progress).unwrap_err().to_string();
        assert!(error.contains("ended before the machine began: exit status: 3"), "{error}");
        let script = format!("touch {}; exec sleep 60", socket.display());
        let pid = Pid::from_child(&start_helper(&helper(&script), &progress).unwrap().child);
        assert!(rustix::process::test_kill_process(pid).is_err(), "it is ended with the machine");
    }

    #[test]
    fn the_folder_of_the_caller_stays() {
        let folder = tempfile::tempdir().unwrap();
        let given = folder.path().join("a");
        let environment: Environment =
            [("TMPDIR".into(), given.clone().into()), ("USE_TMPDIR".into(), "1".into())]
                .into_iter()
                .collect();
        assert_eq!(WorkFolder::planned(&environment), given);
        drop(WorkFolder::new(&environment).unwrap());
        assert!(given.is_dir());
        let own = WorkFolder::new(&Environment::default()).unwrap();
        let path = own.path().to_owned();
        assert!(path.is_dir());
        drop(own);
        assert!(!path.exists());
    }
}
