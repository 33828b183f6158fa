//! The first process of a helper VM: it loads modules, does the steps of its work, and turns the machine off.

mod copy;

use std::ffi::CString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::system::{RebootCommand, init_module, reboot};

use super::job::{JOB, Job, LIBRARIES, LOADER, MODULES, Message, PROGRAMS, Piece, Step, Word};
use copy::Copier;

/// Why something failed, in words.
type Failure = String;

/// How long a device may take to appear.
const APPEARS: Duration = Duration::from_secs(30);
/// How often it is looked for.
const BEAT: Duration = Duration::from_millis(20);
/// Bytes that are copied at a time.
const PIECE: usize = 1 << 20;

/// Does the work of a helper VM, and turns it off. It is the first process of the machine, and nothing anywhere else.
///
/// # Errors
/// Where this is no helper VM.
pub fn run() -> std::io::Result<()> {
    if std::process::id() != 1 {
        return Err(std::io::Error::other("this is not the first process of a helper VM"));
    }
    let message = match work() {
        Ok(()) => Message::Done,
        Err((what, why)) => Message::Failed(what, why),
    };
    say(&message);
    rustix::fs::sync();
    reboot(RebootCommand::PowerOff)?;
    Ok(())
}

/// Says something to the process that started the machine. If nobody listens, nobody misses it.
fn say(message: &Message) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(message.line().as_bytes()).and_then(|()| out.flush());
}

/// What was done, and why it failed.
fn during<T, E: std::fmt::Display>(what: &str, done: Result<T, E>) -> Result<T, (String, Failure)> {
    done.map_err(|error| (what.to_owned(), error.to_string()))
}

fn work() -> Result<(), (String, Failure)> {
    for (kind, at) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/run")] {
        during(at, mount(kind, at, kind, MountFlags::empty(), None))?;
    }
    let text = during(JOB, std::fs::read(Path::new("/").join(JOB)))?;
    let job: Job = during(JOB, serde_json::from_slice(&text))?;
    for name in &job.modules {
        let what = format!("load the module {name}");
        let bytes = during(&what, std::fs::read(format!("/{MODULES}/{name}.ko")))?;
        during(&what, init_module(&bytes, c""))?;
    }
    let machine = Machine { job: &job };
    for step in &job.steps {
        let what = machine.describe(step);
        during(&what, machine.step(step))?;
    }
    Ok(())
}

struct Machine<'a> {
    job: &'a Job,
}

/// Words as a person writes them.
fn command(words: &[Word]) -> String {
    let words = words.iter().map(|word| match word {
        Word::Text(text) | Word::Disk(text) | Word::Part(text) => text.as_str(),
    });
    words.collect::<Vec<_>>().join(" ")
}

impl Machine<'_> {
    /// What a step does, for errors.
    fn describe(&self, step: &Step) -> String {
        match step {
            Step::Run { words } | Step::Ask { words } => command(words),
            Step::Fill { commands, .. } => commands.first().map(|words| command(words)).unwrap_or_default(),
            Step::Mount { source, .. } => format!("mount {}", command(std::slice::from_ref(source))),
            Step::Unmount { at } => format!("unmount {at}"),
            Step::Copy(_) => "copy the contents".to_owned(),
        }
    }

    fn step(&self, step: &Step) -> Result<(), Failure> {
        let text = |error: std::io::Error| error.to_string();
        match step {
            Step::Run { words } => self.run(words).map(drop),
            Step::Ask { words } => self.run(words).map(|said| say(&Message::Told(said))),
            Step::Fill { commands, device: kind, from, pieces } => {
                let before = devices(kind);
                commands.iter().try_for_each(|words| self.run(words).map(drop))?;
                let found = appears(|| devices(kind).into_iter().find(|name| !before.contains(name)));
                let found = found.ok_or("no block device appeared")?;
                let from = device(from)?;
                fill(Path::new(&from), pieces.as_deref(), &Path::new("/dev").join(found)).map_err(text)
            }
            Step::Mount { kind, source, at, is_read } => {
                let source = device(source)?;
                std::fs::create_dir_all(at).map_err(text)?;
                let flags = if *is_read { MountFlags::RDONLY } else { MountFlags::empty() };
                // Whatever a property says, contents are written now.
                let options =
                    CString::new(if *is_read { "" } else { "rw" }).map_err(|error| error.to_string())?;
                let options = Some(options.as_c_str()).filter(|options| !options.is_empty());
                mount(source.as_str(), at.as_str(), kind.as_str(), flags, options)
                    .map_err(|error| error.to_string())
            }
            Step::Unmount { at } => {
                unmount(at.as_str(), UnmountFlags::empty()).map_err(|error| error.to_string())
            }
            Step::Copy(copy) => Copier::new(copy).run(),
        }
    }

    /// Runs a program to its end; what it said.
    fn run(&self, words: &[Word]) -> Result<String, Failure> {
        let words: Vec<String> = words.iter().map(device).collect::<Result<_, _>>()?;
        let (name, arguments) = words.split_first().ok_or("there is no program")?;
        let program = format!("/{PROGRAMS}/{name}");
        let mut command = if self.job.has_loader {
            let mut command = Command::new(format!("/{LOADER}"));
            command.args(["--library-path", &format!("/{LIBRARIES}"), &program]);
            command
        } else {
            Command::new(&program)
        };
        let output = command
            .args(arguments)
            .env_clear()
            .env("LC_ALL", "C")
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said =
            String::from_utf8_lossy(if output.stderr.is_empty() { &output.stdout } else { &output.stderr })
                .into_owned();
        let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        Err(format!("{}: {}", output.status, lines.join("; ")))
    }
}

/// A word as a program gets it.
fn device(word: &Word) -> Result<String, Failure> {
    let (name, part) = match word {
        Word::Text(text) => return Ok(text.clone()),
        Word::Disk(name) => (name, ""),
        Word::Part(name) => (name, "1"),
    };
    let found = appears(|| {
        let disk = devices("vd").into_iter().find(|disk| {
            let serial = std::fs::read_to_string(format!("/sys/block/{disk}/serial"));
            serial.is_ok_and(|serial| serial.trim_end() == name)
        })?;
        let path = format!("/dev/{disk}{part}");
        Path::new(&path).exists().then_some((disk, path))
    });
    let (disk, path) = found.ok_or_else(|| format!("the disk {name} does not appear"))?;
    known(&disk).map_err(|error| format!("{disk}: {error}"))?;
    Ok(path)
}

/// Says to programs that ask libudev that a disk and its partitions, also those that come later, are ready: there is no
/// udevd. A file of this name is what `udev_device_get_is_initialized` looks for, and a link in it gives the device the
/// property DEVLINKS, which libzfs looks for where it was built without that call (lib/libzutil/os/linux). The link is the
/// device itself, since libzfs looks whether it is there.
fn known(disk: &str) -> std::io::Result<()> {
    const PARTITIONS: u32 = 16;
    let number = std::fs::read_to_string(format!("/sys/block/{disk}/dev"))?;
    let Some((major, minor)) = number.trim().split_once(':') else { return Ok(()) };
    let first: u32 = minor.parse().map_err(std::io::Error::other)?;
    let folder = PathBuf::from("/run/udev/data");
    std::fs::create_dir_all(&folder)?;
    for part in 0..PARTITIONS {
        let name = if part == 0 { disk.to_owned() } else { format!("{disk}{part}") };
        std::fs::write(folder.join(format!("b{major}:{}", first + part)), format!("I:1\nS:{name}\n"))?;
    }
    Ok(())
}

/// The block devices whose names begin with `prefix`, sorted.
fn devices(prefix: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/sys/block").into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort();
    names
}

/// What `look` finds, once it does.
fn appears<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        match look() {
            None if begun.elapsed() < APPEARS => std::thread::sleep(BEAT),
            found => return found,
        }
    }
}

/// Fills a block device with the pieces of a file or a disk, or with a whole file; what is zero stays as it is.
fn fill(from: &Path, pieces: Option<&[Piece]>, device: &Path) -> std::io::Result<()> {
    appears(|| device.exists().then_some(()));
    let (from, to) = (std::fs::File::open(from)?, std::fs::File::options().write(true).open(device)?);
    let whole = [Piece::at(0, from.metadata()?.len())];
    let mut buffer = vec![0; PIECE];
    for piece in pieces.unwrap_or(&whole) {
        copy::copy(&from, &to, *piece, &mut buffer, &mut |bytes| say(&Message::Copied(bytes, 0)))?;
    }
    to.sync_all()
}
