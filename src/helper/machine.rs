//! A machine while it runs: QEMU as a child, the disk that this process serves, and what the console says.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

use super::find::{Need, Parts};
use super::initrd;
use super::job::{Message, Step};
use super::options::Options;
use super::program::{self, Processor};
use crate::error::{Error, Kind, Result};
use crate::host::program::{Next, Program};
use crate::image::Image;
use crate::pour::Packer;
use crate::serve::{Event, Exports, Server, Stop, Stream};
use crate::text::printable;
use crate::units::{GIB, MIB};

/// How long a machine may run, if nothing else is said.
const LIMIT: u32 = 3600;
/// Its memory.
const MEMORY: u64 = GIB;
/// What the first process gets as its argument: the command of this program that does the work.
pub(super) const COMMAND: &str = "guest";
/// The name of the disk with the tree, which the machine knows it by.
pub(crate) const PAYLOAD: &str = "payload";
/// How many lines of the console an error shows.
const LINES: usize = 8;
/// The lowest descriptor that QEMU may get: beyond those that a shell hands on.
const DESCRIPTOR: i32 = 100;
/// Processors, which copy and compress; more are of little use for one copy.
const MOST_PROCESSORS: usize = 4;

/// A disk that a machine writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disk<'a> {
    /// The name that the work knows it by, at most 20 bytes (virtio 1.2, 5.2.6.1: the serial number).
    pub(crate) name: &'a str,
    /// Its bytes.
    pub(crate) file: &'a File,
}

/// What is to be done in a machine.
#[derive(Debug)]
pub(crate) struct Helper<'a> {
    pub(crate) options: &'a Options,
    pub(crate) need: &'a Need,
    /// Files of the machine, from its root.
    pub(crate) files: &'a [(String, Vec<u8>)],
    pub(crate) disks: &'a [Disk<'a>],
    /// The disk that the machine reads, which is written nowhere.
    pub(crate) payload: &'a Image,
    pub(crate) packer: &'a Packer,
}

/// What came of the work besides what is on the disks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) warnings: Vec<String>,
    /// What programs said that were asked.
    pub(crate) told: Vec<String>,
}

impl Helper<'_> {
    /// Does the work.
    ///
    /// # Errors
    /// [`Kind::Source`] for a part that is missing (with its package), and for work that fails, takes too long or ends
    /// early, with the words of the machine; [`Kind::Interrupted`] after a signal.
    pub(crate) fn run(&self, steps: Vec<Step>) -> Result<Outcome> {
        let parts = Parts::find(self.options, self.need)?;
        let processor = Processor::of(None)?;
        let (accel, _) = processor.accel(self.options.accel.unwrap_or_default())?;
        let qemu =
            program::qemu(self.options.qemu.as_deref(), &processor, std::env::var_os("PATH").as_deref())?;
        let own = self.options.program().map_err(|error| {
            Error::new(Kind::Source, "this program does not know where it is").because(error)
        })?;
        let initrd = nameless(&initrd::pack(&parts, self.need, (&own, self.files), steps)?)?;
        let failed =
            |error| Error::io(Kind::Source, "cannot read the kernel of the helper VM", &parts.kernel, error);
        let kernel = File::open(&parts.kernel).map_err(failed)?;
        let mut arguments = self.machine(accel, &processor)?;
        arguments.extend(["-kernel".to_owned(), path(&kernel), "-initrd".to_owned(), path(&initrd)]);
        self.serve(&qemu, arguments)
    }

    /// The arguments of QEMU, except for the disk that is served.
    fn machine(&self, accel: &str, processor: &Processor) -> Result<Vec<String>> {
        let memory = self.options.memory.map_or(MEMORY, crate::units::Bytes::get) / MIB;
        let machine = match processor.machine {
            None => format!("accel={accel}"),
            Some(machine) => format!("{machine},accel={accel}"),
        };
        let processors = self.packer.options().jobs.clamp(1, MOST_PROCESSORS);
        let kernel =
            format!("console={} panic=-1 quiet loglevel=4 no_timer_check -- {COMMAND}", processor.console);
        let mut arguments: Vec<String> = Vec::new();
        let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        option("-machine", machine);
        option("-cpu", "max".to_owned());
        option("-m", format!("{memory}M"));
        option("-smp", processors.to_string());
        option("-append", kernel);
        for Disk { name, file } in self.disks {
            // This process outlives the machine, so nothing has to reach the disk of the host before it goes on.
            let node = serde_json::json!({
                "driver": "raw", "node-name": name, "discard": "unmap",
                "file": {
                    "driver": "file", "filename": path(file), "discard": "unmap",
                    "cache": { "no-flush": true },
                },
            });
            option("-blockdev", node.to_string());
            option("-device", format!("virtio-blk-pci,drive={name},serial={name}"));
        }
        option("-serial", "stdio".to_owned());
        arguments.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(str::to_owned));
        arguments.extend(["-display", "none"].map(str::to_owned));
        Ok(arguments)
    }

    /// Runs QEMU with a connection to the disk with the tree.
    fn serve(&self, qemu: &Path, mut arguments: Vec<String>) -> Result<Outcome> {
        let faults: std::sync::Arc<Mutex<Vec<String>>> = std::sync::Arc::default();
        let log = std::sync::Arc::clone(&faults);
        let server = Server::new(Exports::of(self.payload)?).log(move |event| {
            if let Event::Failed { error, .. } = event {
                log.lock().unwrap_or_else(PoisonError::into_inner).push(error.to_string());
            }
        });
        let (stop, (ours, theirs)) = (Stop::new()?, Stream::pair()?);
        let theirs = inherited(&theirs.into())?;
        let node = serde_json::json!({
            "driver": "nbd", "node-name": PAYLOAD, "read-only": true,
            "server": { "type": "fd", "str": theirs.as_raw_fd().to_string() },
        });
        arguments.extend(["-blockdev".to_owned(), node.to_string()]);
        arguments.extend(["-device".to_owned(), format!("virtio-blk-pci,drive={PAYLOAD},serial={PAYLOAD}")]);
        let (bytes, files) = self.payload.file_data();
        self.packer.progress().begin(bytes, files);
        let done = std::thread::scope(|scope| {
            // The server answers before QEMU starts, which asks for the size of its disk at once.
            let serving = scope.spawn(|| server.serve_one(ours, &stop));
            let done = self.listen(qemu, &arguments);
            drop(theirs);
            stop.now();
            let served = serving.join().unwrap_or_else(|_| Err(Error::bug("the server of a disk panicked")));
            done.and_then(|done| served.map(|()| done))
        });
        self.packer.progress().begin(0, 0);
        // What could not be read is the cause of what the machine says.
        match faults.lock().unwrap_or_else(PoisonError::into_inner).first() {
            Some(fault) => {
                Err(Error::new(Kind::Source, "the helper VM could not read what it is to copy").found(fault))
            }
            None => done,
        }
    }

    /// Runs QEMU, and hears what the machine says.
    fn listen(&self, qemu: &Path, arguments: &[String]) -> Result<Outcome> {
        let limit = self.options.time_limit.unwrap_or(LIMIT);
        let (mut said, mut outcome, mut end) = (VecDeque::new(), Outcome::default(), None);
        let program = Program::new(qemu, self.packer.progress()).args(arguments);
        let ran = program.limit(Duration::from_secs(limit.into())).lines(&mut |_, line| {
            let line = String::from_utf8_lossy(line);
            match Message::of(&line) {
                None if line.trim().is_empty() => {}
                None => {
                    said.push_back(printable(line.trim().as_bytes()));
                    if said.len() > LINES {
                        said.pop_front();
                    }
                }
                Some(Message::Copied(bytes, files)) => self.packer.progress().advance(bytes, files),
                Some(Message::Warning(warning)) => outcome.warnings.push(warning),
                Some(Message::Told(told)) => outcome.told.push(told),
                Some(message) => end = Some(message),
            }
            Ok(Next::Go)
        });
        let words = Vec::from(said).join("; ");
        match (end, ran) {
            (Some(Message::Done), Ok(())) => Ok(outcome),
            (Some(Message::Failed(what, why)), _) => {
                Err(Error::new(Kind::Source, format!("the helper VM failed: {what}"))
                    .found(printable(why.as_bytes())))
            }
            (_, Err(error)) if error.kind() == Kind::Interrupted || words.is_empty() => Err(error),
            (_, Err(error)) if error.what().ends_with("takes too long") => {
                Err(Error::new(Kind::Source, "the helper VM takes too long")
                    .about("vm_time_limit")
                    .expected(format!("an end within {limit} s"))
                    .found(words))
            }
            (_, Err(error)) => Err(error.found(words)),
            (_, Ok(())) => {
                Err(Error::new(Kind::Source, "the helper VM ended before its work was done").found(words))
            }
        }
    }
}

/// A file without a name that has these bytes.
fn nameless(bytes: &[u8]) -> Result<File> {
    let failed =
        |error| Error::io(Kind::Output, "cannot keep a part of the helper VM", std::env::temp_dir(), error);
    let file = tempfile::tempfile().map_err(failed)?;
    file.write_all_at(bytes, 0).map_err(failed)?;
    Ok(file)
}

/// A path by which QEMU, which runs as the same user, opens a file of this process.
fn path(file: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())
}

/// `file` as a descriptor that a program which is started now inherits.
fn inherited(file: &OwnedFd) -> Result<OwnedFd> {
    let failed = |error: rustix::io::Errno| {
        Error::new(Kind::Output, "cannot hand a connection on to QEMU").because(std::io::Error::from(error))
    };
    let there = fcntl_dupfd_cloexec(file, DESCRIPTOR).map_err(failed)?;
    fcntl_setfd(&there, FdFlags::empty()).map_err(failed)?;
    Ok(there)
}
