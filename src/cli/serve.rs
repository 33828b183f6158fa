//! `diskwright serve`: disks over NBD, without writing them.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus};

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};

use super::job::{Container, Jobs, epoch};
use super::signals::{end_by_signal, wake, watch};
use super::{Cli, Severity, complain};
use crate::container::{Format, open};
use crate::convert::{self, wrapped};
use crate::disk::{Built, Work};
use crate::error::{Error, Kind, Result};
use crate::front::Description;
use crate::image::Image;
use crate::serve::{Event, Export, Exports, Inherited, Listener, Part, Server, Stop};
use crate::table;
use crate::text::{printable, printable_path};
use crate::units::Bytes;

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  diskwright serve disk.toml --socket disk.sock
  qemu-system-x86_64 -snapshot -drive \\
      file='nbd+unix:///?socket=disk.sock',format=raw
  nbdcopy -- [ diskwright serve disk.toml ] /dev/sdx
  diskwright serve disk.toml --run 'qemu-img convert -O qcow2 \"$uri\" disk.qcow2'
  diskwright serve --socket root.sock -- mkfs ext4 rootfs --free 512MiB
  diskwright serve --socket nixos.sock -- nixos --system ./result --layout efi
  diskwright serve --socket disk.sock -- \\
      repart --definitions repart.d --empty=create --size=auto --seed=UUID IMAGE
  diskwright serve a=disk.toml b=old.vmdk --socket disks.sock

One source is the export with the empty name, which every client takes by itself; its partitions are exports by number \
(1) and by label (esp). Several sources are exports by their names (a, a/1, a/esp).

Everything is read-only. Nothing is written: the files that a disk is made of are read when a client asks for them, and \
must stay as they are. A client that reads bytes of a file that changed gets an error, and the rest is served on.

Without --socket, --tcp, --fd and --run, the socket is that of socket activation (systemd, nbdcopy).")]
pub(super) struct Args {
    /// Manifest, or image of any format; NAME=PATH gives it another name than that of the file; `-` is a manifest from
    /// standard input
    #[arg(value_name = "[NAME=]SOURCE", required_unless_present = "command")]
    sources: Vec<OsString>,
    /// Instead of sources: a command that describes a disk, with its arguments, such as `mkfs ext4 rootfs`; it writes
    /// nothing and needs no --output
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "sources")]
    command: Vec<OsString>,
    /// Listen to a new Unix socket at this path, which only this user may use
    #[arg(long, value_name = "PATH", conflicts_with_all = ["tcp", "fd"])]
    socket: Option<PathBuf>,
    /// Listen to a TCP address, such as 127.0.0.1:10809; port 0 is any free one; everybody who reaches it can read
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "fd")]
    tcp: Option<SocketAddr>,
    /// Serve the one client at the other end of an inherited socket, by the number of its descriptor
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["run", "once"])]
    fd: Option<u16>,
    /// Run a command of the shell, in which $uri leads to the disk, and end with it and its exit code
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["once", "json"])]
    run: Option<String>,
    /// End when the last client has left
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    from: super::convert::Source,
    #[command(flatten)]
    container: Container,
    #[command(flatten)]
    jobs: Jobs,
    /// When clients can connect, print the URI and the exports as one line of JSON [default: the URI of an own socket]
    #[arg(long)]
    json: bool,
    /// Print a line for each client that comes, chooses and leaves
    #[arg(short, long)]
    verbose: bool,
}

/// How clients come in.
enum Way {
    Listener(Listener),
    /// A socket in a folder that goes away with it.
    Own {
        listener: Listener,
        _folder: tempfile::TempDir,
    },
    Stream(crate::serve::Stream),
}

/// Runs `serve`. The exit code is that of the command that it runs.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let way = args.way()?;
    let work = Work { jobs: args.jobs.count(), ..Work::default() };
    watch(&work.progress.stop_flag())?;
    raise_limit();
    let exports = args.exports(&work)?;
    let stop = Stop::new()?;
    wake(&stop.waker()?)?;
    // A signal that came before that has only set the flag.
    work.progress.check()?;
    let name = exports.list().first().map_or("", Export::name).to_owned();
    let verbose = args.verbose;
    let server = Server::new(exports).once(args.once).log(move |event| tell(event, verbose));
    let code = match &way {
        Way::Stream(_) if args.run.is_some() => return Err(Error::bug("a command has no socket")),
        Way::Stream(_) => {
            args.ready(None, &server)?;
            let Way::Stream(stream) = way else { return Err(Error::bug("a stream is none")) };
            server.serve_one(stream, &stop)?;
            ExitCode::SUCCESS
        }
        Way::Listener(listener) | Way::Own { listener, .. } => {
            let uri = listener.uri(&name);
            let code = match &args.run {
                Some(command) => run_beside(command, &uri?, &server, listener, &stop)?,
                None => {
                    args.ready(uri.ok().as_deref(), &server)?;
                    server.serve_on(listener, &stop)?;
                    ExitCode::SUCCESS
                }
            };
            // Its file goes away before the process ends by a signal.
            drop(way);
            code
        }
    };
    end_by_signal();
    Ok(code)
}

impl Args {
    fn way(&self) -> Result<Way> {
        if let Some(path) = &self.socket {
            return Listener::unix(path).map_err(|error| error.at_flag("--socket")).map(Way::Listener);
        }
        if let Some(address) = self.tcp {
            return Listener::tcp(address).map_err(|error| error.at_flag("--tcp")).map(Way::Listener);
        }
        let inherited = match self.fd {
            Some(number) => {
                let own = Inherited::numbered(number).map_err(|error| error.at_flag("--fd"))?;
                if let Inherited::Listener(_) = own {
                    return Err(Error::new(Kind::Usage, "the descriptor has no client at its other end")
                        .at_flag("--fd")
                        .hint("a socket that listens comes by socket activation, as descriptor 3"));
                }
                Some(own)
            }
            None if self.run.is_some() => None,
            None => Inherited::activated()?,
        };
        match inherited {
            Some(Inherited::Listener(listener)) => Ok(Way::Listener(listener)),
            Some(Inherited::Stream(stream)) => Ok(Way::Stream(stream)),
            None if self.run.is_some() => {
                let folder = tempfile::Builder::new().prefix("diskwright").tempdir().map_err(|error| {
                    Error::new(Kind::Output, "cannot make a folder for the socket").because(error)
                })?;
                let listener =
                    Listener::unix(&folder.path().join("socket")).map_err(|error| match error.kind() {
                        Kind::Usage => {
                            error.hint("set TMPDIR to a folder with a shorter path, or add --socket PATH")
                        }
                        _ => error,
                    })?;
                Ok(Way::Own { listener, _folder: folder })
            }
            None => Err(Error::new(Kind::Usage, "there is no socket to serve on")
                .expected(
                    "--socket PATH, --tcp ADDRESS:PORT, --fd NUMBER, --run COMMAND or socket activation",
                )
                .hint("add --socket PATH")),
        }
    }

    /// All exports of all sources.
    fn exports(&self, work: &Work) -> Result<Exports> {
        let mut exports = Exports::new();
        if !self.command.is_empty() {
            self.add_command(work, &mut exports)?;
            return Ok(exports);
        }
        let alone = self.sources.len() == 1;
        for source in &self.sources {
            let (name, path) = named(source);
            let name = match name {
                Some(name) => name,
                None if alone => String::new(),
                None => printable_path(path.file_stem().unwrap_or(path.as_os_str())),
            };
            if path.as_os_str() == "-" || (self.from.options().format.is_none() && is_text(path)?) {
                let manifest = super::build::load(path, &work.progress)?;
                let description = manifest.describe(epoch()?, work)?;
                let container = self.container.with(self.format(), &description)?;
                let work = Work { container, ..work.clone() };
                self.add_description(&name, &description, &work, &mut exports)?;
            } else {
                self.add_image(&name, path, work, &mut exports)?;
            }
        }
        Ok(exports)
    }

    const fn format(&self) -> Format {
        match self.container.settings.format {
            Some(format) => format,
            None => Format::Raw,
        }
    }

    /// Adds what a command describes.
    fn add_command(&self, work: &Work, exports: &mut Exports) -> Result<()> {
        let (description, form) = match parsed(&self.command)? {
            super::Command::Build(args) => super::build::served(&args, &self.container, work)?,
            super::Command::Mkfs(args) => super::mkfs::served(args, &self.container)?,
            super::Command::Nixos(args) => super::nixos::served(&args, &self.container, &work.progress)?,
            super::Command::Repart(args) => {
                let work = Work { container: self.container.options(self.format())?, ..work.clone() };
                return self.add_built("", &super::repart::built(&args, &work)?, &work, exports);
            }
            _ => return Err(undescribed(&self.command.first().map(printable_path).unwrap_or_default())),
        };
        self.add_description("", &description, &work.clone().of_forms(&[form]), exports)
    }

    /// Adds the disk of a description, in the container of `work`.
    fn add_description(
        &self,
        name: &str,
        description: &Description,
        work: &Work,
        exports: &mut Exports,
    ) -> Result<()> {
        let built = description.build(work)?;
        for beside in &description.beside {
            let path = printable_path(&beside.path);
            complain(Severity::Warning, &format!("a file beside the disk is not served: {path}"));
        }
        self.add_built(name, &built, work, exports)?;
        let Some(boot) = &description.boot else { return Ok(()) };
        let name = if name.is_empty() { "boot".to_owned() } else { format!("{name}.boot") };
        self.add_built(&name, &boot.build(work)?, work, exports)
    }

    /// Adds a disk that is laid out, or with a format its file.
    fn add_built(&self, name: &str, built: &Built, work: &Work, exports: &mut Exports) -> Result<()> {
        built.report.warnings.iter().for_each(|warning| complain(Severity::Warning, warning));
        let image = built.wrapped(work)?;
        let format = work.container.format();
        if format != Format::Raw {
            return push_file(name, &image, format, exports);
        }
        let parts = built.report.partitions.iter().map(|partition| Part {
            number: partition.number,
            label: partition.label.as_deref().unwrap_or_default(),
            offset: Bytes::new(partition.offset),
            length: Bytes::new(partition.size),
        });
        let parts: Vec<Part<'_>> = if built.report.table == "none" { Vec::new() } else { parts.collect() };
        exports.push_disk(name, &image, &parts)
    }

    /// Adds the disk of an image, or with another format a file of that.
    fn add_image(&self, name: &str, path: &Path, work: &Work, exports: &mut Exports) -> Result<()> {
        let opened = open(path, &self.from.options())?;
        let format = self.format();
        let container = self.container.options(format)?;
        if format != Format::Raw {
            let (time, progress) = (epoch()?.unwrap_or(0), &work.progress);
            let options = convert::Options { time, sector_size: None, jobs: work.jobs, progress };
            return push_file(name, &wrapped(&opened, path, &container, &options)?, format, exports);
        }
        let found = table::read(&opened.image.whole())?;
        for remark in found.remarks {
            complain(Severity::Warning, &format!("{}: {remark}", printable_path(path)));
        }
        let placed = found.table.map(|table| table.partitions).unwrap_or_default();
        let parts: Vec<Part<'_>> = placed
            .iter()
            .map(|placed| Part {
                number: placed.number,
                label: &placed.label,
                offset: placed.offset,
                length: placed.length,
            })
            .collect();
        exports.push_disk(name, &opened.image, &parts)
    }

    /// Says that clients can connect.
    fn ready(&self, uri: Option<&str>, server: &Server) -> Result<()> {
        if self.json {
            let exports: Vec<serde_json::Value> = server
                .exports()
                .list()
                .iter()
                .map(|export| {
                    let (name, description) = (export.name(), export.described());
                    serde_json::json!({ "name": name, "size": export.length().get(), "description": description })
                })
                .collect();
            return super::print(
                format!("{}\n", serde_json::json!({ "uri": uri, "exports": exports })).as_bytes(),
            );
        }
        match uri {
            Some(uri) if self.socket.is_some() || self.tcp.is_some() => {
                super::print(format!("{uri}\n").as_bytes())
            }
            _ => Ok(()),
        }
    }
}

/// Adds the bytes of a file.
fn push_file(name: &str, image: &Image, format: Format, exports: &mut Exports) -> Result<()> {
    exports.push(Export::new(name, image.whole()).description(format!("a file: {format}")))
}

/// The name that a source has by `NAME=`, and its path. A path that has the character begins with a folder: `./a=b`.
fn named(source: &OsStr) -> (Option<String>, &Path) {
    let bytes = source.as_bytes();
    let cut = bytes.iter().position(|byte| *byte == b'=').filter(|cut| !bytes[..*cut].contains(&b'/'));
    match cut.and_then(|cut| Some((std::str::from_utf8(&bytes[..cut]).ok()?, &bytes[cut + 1..]))) {
        Some((name, path)) => (Some(name.to_owned()), Path::new(OsStr::from_bytes(path))),
        None => (None, Path::new(source)),
    }
}

/// Whether a file begins as text, so that it is a manifest: no disk and no container does.
fn is_text(path: &Path) -> Result<bool> {
    use std::io::Read;
    let mut head = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(512).read_to_end(&mut head))
        .map_err(|error| Error::io(Kind::Source, "cannot read the source", path, error))?;
    let control = |byte: &u8| *byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r');
    Ok(!head.is_empty() && !head.iter().any(control))
}

/// A command that describes a disk.
fn parsed(command: &[OsString]) -> Result<super::Command> {
    let name = command.first().map(printable_path).unwrap_or_default();
    let place = match name.as_str() {
        "build" | "nixos" => Some(2),
        // Behind the filesystem, whose flags they are.
        "mkfs" => Some(3),
        "repart" => None,
        _ => return Err(undescribed(&name)),
    };
    let mut words = vec![OsString::from("diskwright")];
    words.extend_from_slice(command);
    // So that they need no output. The image of repart is a name, as long as it is not written.
    let place = place.filter(|_| !command.iter().any(|word| word == "--dry-run"));
    if let Some(place) = place.filter(|place| *place <= words.len()) {
        words.insert(place, "--dry-run".into());
    }
    let parsed = Cli::command().try_get_matches_from(words).and_then(|found| Cli::from_arg_matches(&found));
    let cli = parsed.map_err(|error| {
        // Help is no error that would have a first paragraph, also where a command gets it without asking.
        if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            return undescribed(&format!("{name} without them"));
        }
        if !error.use_stderr() {
            return undescribed("a request for help");
        }
        let text = error.to_string();
        // After its first paragraph comes what is known anyway.
        let paragraph = text.split("\n\n").next().unwrap_or_default();
        let words: Vec<&str> = paragraph.split_whitespace().skip_while(|word| *word == "error:").collect();
        undescribed(&words.join(" "))
    })?;
    Ok(cli.command)
}

fn undescribed(why: &str) -> Error {
    Error::new(Kind::Usage, "the command after -- does not describe a disk")
        .expected("build, mkfs, nixos or repart, with arguments")
        .found(why)
}

/// Runs a command while the server serves, and both end together.
fn run_beside(
    command: &str,
    uri: &str,
    server: &Server,
    listener: &Listener,
    stop: &Stop,
) -> Result<ExitCode> {
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| server.serve_on(listener, stop));
        let status = Command::new("sh")
            .args(["-c", command])
            .env("uri", uri)
            .spawn()
            .map_err(|error| Error::new(Kind::Usage, "cannot run the command").because(error))
            .and_then(|child| await_child(child, stop));
        stop.now();
        let served = serving.join().map_err(|_| Error::bug("the server panicked"))?;
        let status = status?;
        served?;
        Ok(code_of(status))
    })
}

/// Waits for a child. If a signal asks to end, the child is asked too.
fn await_child(mut child: Child, stop: &Stop) -> Result<ExitStatus> {
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    let failed =
        |error: std::io::Error| Error::new(Kind::Output, "cannot wait for the command").because(error);
    let handle = Pid::from_raw(child.id().cast_signed()).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
    if let Some(handle) = handle.transpose().map_err(|error| failed(error.into()))?
        && stop.wait_with(&handle)?
    {
        // It may have ended by itself.
        let _ = pidfd_send_signal(&handle, Signal::TERM);
    }
    child.wait().map_err(failed)
}

/// The exit code of a command, as a shell tells it.
fn code_of(status: ExitStatus) -> ExitCode {
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Lets this process open as many files as it may: each client keeps some open.
fn raise_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    // If that fails, fewer clients are served at a time.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, ..now });
}

/// Prints what a server reports.
fn tell(event: &Event<'_>, verbose: bool) {
    let line = match event {
        Event::Failed { client, error } => {
            return complain(Severity::Error, &format!("client {client} cannot read: {error}"));
        }
        _ if !verbose => return,
        Event::Connected { client } => format!("client {client} has connected"),
        Event::Chosen { client, export } => {
            format!("client {client} reads the export \"{}\"", printable(export.as_bytes()))
        }
        Event::Left { client, requests, bytes, fault } => {
            let fault = fault.map(|fault| format!("; {fault}")).unwrap_or_default();
            let read = Bytes::new(*bytes).human();
            format!("client {client} has left after {requests} requests, {read}{fault}")
        }
    };
    // If standard error is closed, there is nobody to tell.
    let _ = writeln!(std::io::stderr().lock(), "diskwright: {line}");
}
