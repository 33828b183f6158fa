//! `diskwright vm`: a system in QEMU, from a disk that was never written.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::job::{Jobs, Target, epoch};
use super::nixos::in_flags;
use super::signals::watch;
use super::{Severity, complain};
use crate::disk::Work;
use crate::error::{Error, Kind, Result};
use crate::units::Bytes;
use crate::vm::state::{self, Found, Listed};
use crate::vm::{Around, Environment, Machine, Plan, WorkFolder, script};

/// Arguments of `vm`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  diskwright vm --system ./result
  diskwright vm --system ./result --layout hybrid --grub ./grub
  diskwright vm --system ./result --mode store-disk --memory 4GiB --cores 2
  diskwright vm --system ./result --print
  diskwright vm --system ./result -- -monitor unix:monitor,server,nowait

The disk of the system is never written: QEMU reads it from the store by way of this program, and what the machine \
writes goes to a state that is named by what it lies on. The exit code is that of QEMU.

The variables of nixpkgs' run script mean the same here: NIX_DISK_IMAGE, NIX_EFI_VARS, TMPDIR with USE_TMPDIR, \
SHARED_DIR, NIX_SWTPM_DIR, QEMU_OPTS, QEMU_KERNEL_PARAMS, QEMU_NET_OPTS, NIXPKGS_QEMU_KERNEL_NAME."
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write a script that runs a machine: run-NAME-vm
    #[command(
        mut_arg("system", optional),
        after_help = "Example:
  diskwright vm script --system ./result --mode store-disk && ./run-nixos-vm

Paths in the script are absolute, so it runs in any folder. Its arguments are those of QEMU. A path that begins with a \
variable has its value when the script runs. In JSON (--machine) relative paths of disk images, shared folders, \
credentials and states are for the folder where the script runs."
    )]
    Script(Box<Script>),
    /// Show the states of machines: what they have written, and on which system
    #[command(after_help = "Example:\n  diskwright vm list --json | jq '.[].folder'")]
    List(List),
    /// Remove states whose system is no longer in the store
    #[command(after_help = "Examples:\n  diskwright vm gc --dry-run\n  diskwright vm gc --all")]
    Gc(Gc),
}

/// A flag that a machine from JSON has another place for.
pub(super) fn optional(argument: clap::Arg) -> clap::Arg {
    argument.required(false).default_value("").hide_default_value(true)
}

/// What describes a machine.
#[derive(Debug, clap::Args)]
struct Described {
    /// The machine as JSON, or a file with it, in place of all flags that describe it
    #[arg(long, value_name = "JSON")]
    machine: Option<String>,
    #[command(flatten)]
    flags: Machine,
}

impl Described {
    fn machine(&self) -> Result<Machine> {
        let Some(text) = &self.machine else { return Ok(self.flags.clone()) };
        if self.flags != Machine::default() {
            return Err(Error::new(Kind::Usage, "a machine is described by JSON or by flags")
                .at_flag("--machine")
                .hint("write the other flags as keys of the JSON"));
        }
        if text.trim_start().starts_with('{') {
            return Machine::parse(text, Path::new("--machine"));
        }
        let text_of = std::fs::read_to_string(text)
            .map_err(|error| Error::io(Kind::Manifest, "cannot read the machine", text, error))?;
        Machine::parse(&text_of, Path::new(text))
    }
}

#[derive(Debug, clap::Args)]
struct Run {
    #[command(flatten)]
    described: Described,
    /// Forget what earlier starts have written
    #[arg(long)]
    fresh: bool,
    /// Keep nothing of what the machine writes
    #[arg(long, conflicts_with = "fresh")]
    temporary: bool,
    /// Print the command that would run, and run nothing
    #[arg(long)]
    print: bool,
    #[command(flatten)]
    jobs: Jobs,
    /// More arguments of QEMU
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
struct Script {
    #[command(flatten)]
    described: Described,
    /// Where the script goes; `-` is standard output [default: run-NAME-vm]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// The program diskwright that the script runs [default: this one]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// The shell of the script
    #[arg(long, value_name = "FILE", default_value = "/bin/sh")]
    shell: PathBuf,
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    states: States,
    /// Print JSON, all sizes in bytes [default: a table for people]
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Gc {
    #[command(flatten)]
    states: States,
    /// Remove all states that no machine runs with
    #[arg(long)]
    all: bool,
    /// Print what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
struct States {
    /// Folder of states [default: all folders NAME-vm in the current directory]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// Runs `vm`; returns the exit code of QEMU.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    match &args.command {
        None => return machine(&args.run).map(ExitCode::from),
        Some(Command::Script(args)) => write_script(args),
        Some(Command::List(args)) => list(args),
        Some(Command::Gc(args)) => gc(args),
    }
    .map(|()| ExitCode::SUCCESS)
}

fn machine(args: &Run) -> Result<u8> {
    let machine = args.described.machine()?;
    let work = Work { jobs: args.jobs.count(), ..Work::default() };
    watch(&work.progress.stop_flag())?;
    let environment = Environment::own();
    let folder = if args.print { None } else { Some(WorkFolder::new(&environment)?) };
    let planned = WorkFolder::planned(&environment);
    let around = Around {
        environment: &environment,
        work_folder: folder.as_ref().map_or(&planned, |folder| folder.path()),
        fresh: args.fresh,
        temporary: args.temporary,
        epoch: epoch()?,
        arguments: &args.arguments,
        work: &work,
    };
    let plan = Plan::new(&machine, &around).map_err(in_flags)?;
    for warning in &plan.warnings {
        complain(Severity::Warning, warning);
    }
    let Some(folder) = folder else {
        return super::print(plan.to_string().as_bytes()).map(|()| 0);
    };
    let state =
        if args.temporary { "nothing is kept".to_owned() } else { crate::text::printable_path(&plan.state) };
    // If standard error is closed, there is nobody to tell.
    let _ = writeln!(
        std::io::stderr(),
        "diskwright: {} runs under {}; state: {state}",
        machine.name(),
        plan.accel
    );
    plan.run(&folder, args.fresh, &work, Box::new(|warning| complain(Severity::Warning, warning)))
}

fn write_script(args: &Script) -> Result<()> {
    let mut machine = args.described.machine()?;
    if args.described.machine.is_none() {
        machine = machine.anchored()?;
    }
    if machine.nixos.system.is_empty() {
        return Err(Error::new(Kind::Usage, "there is no system").about("system"));
    }
    let program = match &args.program {
        Some(program) => program.clone(),
        None => std::env::current_exe().map_err(|error| {
            Error::new(Kind::Source, "this program does not know where it is").because(error)
        })?,
    };
    let text = script::text(&machine, &program, &args.shell)?;
    let output = args.output.clone().unwrap_or_else(|| PathBuf::from(script::name(&machine)));
    match Target::of(output) {
        Target::Stdout => super::print(text.as_bytes()),
        Target::File(path) => write_executable(&path, &text)
            .map_err(|error| Error::io(Kind::Output, "cannot write the script", &path, error)),
    }
}

/// Writes a program that appears when it is complete.
fn write_executable(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let folder = crate::host::folder_of(path);
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o755))?;
    file.persist(path).map(|_| ()).map_err(|error| error.error)
}

impl States {
    fn list(&self) -> Result<Vec<Listed>> {
        if let Some(folder) = &self.state {
            return Ok(told(state::list(folder)?));
        }
        let here = Path::new(".");
        let entries = std::fs::read_dir(here)
            .map_err(|error| Error::io(Kind::Source, "cannot read the folder", here, error))?;
        let mut folders: Vec<PathBuf> =
            entries.filter_map(|entry| Some(PathBuf::from(entry.ok()?.file_name()))).collect();
        folders.retain(|folder| folder.is_dir() && folder.to_string_lossy().ends_with(state::SUFFIX));
        folders.sort();
        // A folder that cannot be read hides no other one.
        let found = folders.iter().map(|folder| {
            let damaged = |error| Found { damaged: vec![error], ..Found::default() };
            told(state::list(folder).unwrap_or_else(damaged))
        });
        Ok(found.flatten().collect())
    }
}

/// The states that can be read. Tells which cannot.
fn told(found: Found) -> Vec<Listed> {
    for error in &found.damaged {
        complain(Severity::Warning, &format!("a state cannot be read, and stays as it is: {error}"));
    }
    found.states
}

fn list(args: &List) -> Result<()> {
    let found = args.states.list()?;
    if args.json {
        let text = serde_json::to_string_pretty(&found)
            .map_err(|error| Error::bug("a list of states is no JSON").because(error))?;
        return super::print(format!("{text}\n").as_bytes());
    }
    super::print(found.iter().map(line).collect::<String>().as_bytes())
}

/// A state as a line for people.
fn line(state: &Listed) -> String {
    let note = match (state.in_use, state.orphaned) {
        (true, _) => "  in use",
        (false, true) => "  its system is no longer in the store",
        (false, false) => "",
    };
    let folder = crate::text::printable_path(&state.folder);
    format!(
        "{folder}  {}  {}  {}{note}\n",
        state.record.mode,
        Bytes::new(state.bytes).human(),
        state.record.system
    )
}

fn gc(args: &Gc) -> Result<()> {
    let (mut removed, mut failed) = (String::new(), None);
    for state in args.states.list()? {
        if state.in_use || !(args.all || state.orphaned) {
            continue;
        }
        if !args.dry_run
            && let Err(error) = state.remove()
        {
            // The others go all the same.
            if let Some(earlier) = failed.replace(error) {
                complain(Severity::Error, &earlier.to_string());
            }
            continue;
        }
        removed.push_str(&line(&state));
    }
    super::print(removed.as_bytes())?;
    failed.map_or(Ok(()), Err)
}
