//! From the description of a machine to all that has to be there before it starts, and the command that starts it.

use std::fmt;
use std::path::{Path, PathBuf};

use super::base;
use super::command::{Command, Drives, Keys, absolute, is_protocol, quoted};
use super::credential;
use super::device::Options;
use super::disks::{Disks, Root};
use super::environment::Environment;
use super::expansion::{self, split};
use super::machine::{Machine, Mode, ShareBy};
use super::overlay::{self, Make, What};
use super::share::{self, Helper};
use super::state::{self, Record};
use super::tpm;
use crate::boot::architecture;
use crate::disk::Work;
use crate::error::{Error, Kind, Result};
use crate::front::nixos::Layout;
use crate::helper::program::{self, Processor};
use crate::image::Image;
use crate::units::Bytes;

/// The descriptor by which QEMU gets the connection to the first disk that is served: beyond those that a shell hands on.
pub(super) const DESCRIPTOR: i32 = 100;
/// The name of QEMU's node for the disk that is served.
const SERVED: &str = "served";

/// Everything outside of a description that a plan follows from.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// The variables.
    pub environment: &'a Environment,
    /// The folder for what the machine needs while it runs.
    pub work_folder: &'a Path,
    /// Whether what earlier starts have written is forgotten.
    pub fresh: bool,
    /// Whether nothing is kept of what the machine writes.
    pub temporary: bool,
    /// SOURCE_DATE_EPOCH.
    pub epoch: Option<i64>,
    /// Arguments for QEMU after all others.
    pub arguments: &'a [std::ffi::OsString],
    /// Threads and progress.
    pub work: &'a Work,
}

/// A machine that can start.
#[derive(Debug)]
pub struct Plan {
    /// QEMU.
    pub command: Command,
    /// The disk that QEMU reads over the descriptor, if there is one.
    pub served: Option<Image>,
    /// What was said about acceleration.
    pub accel: String,
    /// What was asked for and cannot be kept.
    pub warnings: Vec<String>,
    /// The folder of the state.
    pub state: PathBuf,
    /// Whether nothing of it is kept.
    pub(super) temporary: bool,
    pub(super) record: Record,
    pub(super) makes: Vec<Make>,
    pub(super) helpers: Vec<Helper>,
}

impl Plan {
    /// Plans a machine. It reads the system, and writes nothing.
    ///
    /// # Errors
    /// [`Kind::Usage`] for keys that contradict each other or the host, [`Kind::Source`] for what is missing; as
    /// [`nixos::describe`](crate::front::nixos::describe).
    pub fn new(machine: &Machine, around: &Around<'_>) -> Result<Self> {
        machine.check_name()?;
        let (memory, cores) = (machine.memory()?, machine.cores()?);
        let disks = Disks::new(machine, around.epoch, around.work)?;
        let processor = Processor::of(processor(&disks)?)?;
        let (accel, said) = processor.accel(machine.accel.unwrap_or_default())?;
        let qemu = program::qemu(machine.qemu.as_deref(), &processor, around.environment.folders())?;
        let record = record(machine, &disks, around)?;
        let state = match around.temporary {
            true => around.work_folder.join("state"),
            false => state::folder(&machine.states(), &record)?,
        };
        let mut shares = share::plan(machine, around, &disks.store)?;
        let tpm = tpm::plan(machine, around, &processor, &state)?;
        let mut planner =
            Planner { machine, around, disks, state, record, makes: Vec::new(), command: Command::new(qemu) };
        let mut base = match processor.machine {
            None => Keys::new(&format!("accel={accel}")),
            Some(machine) => Keys::new(machine).with("accel", accel),
        };
        if shares.by == ShareBy::Virtiofs {
            planner
                .command
                .option("-object", format!("memory-backend-memfd,id=memory,size={memory}M,share=on"));
            base = base.with("memory-backend", "memory");
        }
        planner.command.option("-machine", base.text());
        planner.command.option("-cpu", "max");
        planner.command.option("-name", machine.name());
        planner.command.option("-m", memory.to_string());
        planner.command.option("-smp", cores.to_string());
        planner.command.option("-device", "virtio-rng-pci");
        planner.network()?;
        planner.command.arguments.extend(shares.arguments);
        planner.drives()?;
        planner.firmware()?;
        if let Some(tpm) = tpm {
            planner.command.arguments.extend(tpm.arguments);
            planner.makes.push(tpm.make);
            shares.helpers.push(tpm.helper);
        }
        if planner.disks.direct {
            planner.direct(&processor)?;
        }
        planner.rest(&processor)?;
        let Planner { makes, command, disks, state, record, .. } = planner;
        let served = disks.served.map(|built| built.image);
        Ok(Self {
            command,
            served,
            accel: said,
            warnings: disks.warnings,
            state,
            temporary: around.temporary,
            record,
            makes,
            helpers: shares.helpers,
        })
    }
}

/// The root disk in a state.
const ROOT_FILE: &str = "root.qcow2";

/// The processor of a system, from its file `system`.
fn processor(disks: &Disks) -> Result<Option<crate::table::Architecture>> {
    let file = disks.store.host(&disks.system).join("system");
    match std::fs::read_to_string(&file) {
        Ok(text) => architecture::of_system(text.trim()).map_err(|error| error.at(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(Kind::Source, "cannot read a part of the system", file, error)),
    }
}

/// What a state lies on.
fn record(machine: &Machine, disks: &Disks, around: &Around<'_>) -> Result<Record> {
    let root = match &disks.root {
        Root::Empty(built) => Some(&built.image),
        Root::Overlay | Root::None => None,
    };
    let images = disks.served.iter().map(|built| &built.image).chain(root);
    Ok(Record {
        version: 1,
        name: machine.name().to_owned(),
        mode: machine.mode(),
        system: disks.system.to_string(),
        store_root: std::path::absolute(disks.store.root()).unwrap_or_else(|_| disks.store.root().to_owned()),
        digest: base::digest(disks.system.base_name(), images, &around.work.progress)?,
    })
}

struct Planner<'a> {
    machine: &'a Machine,
    around: &'a Around<'a>,
    disks: Disks,
    state: PathBuf,
    record: Record,
    makes: Vec<Make>,
    command: Command,
}

impl Planner<'_> {
    /// The user network (nixpkgs, `virtualisation.qemu.networkingOptions`).
    fn network(&mut self) -> Result<()> {
        if self.machine.network == Some(false) {
            self.command.option("-nic", "none");
            return Ok(());
        }
        let own = self.machine.network_options.as_deref().filter(|own| !own.is_empty());
        let added = self.around.environment.text("QEMU_NET_OPTS")?;
        let options: Vec<&str> = std::iter::once("user,id=user.0").chain(own).chain(added).collect();
        self.command.option("-netdev", options.join(","));
        self.command.option("-device", "virtio-net-pci,netdev=user.0");
        Ok(())
    }

    /// The root, the disk that is served, the empty disks and those that are there.
    fn drives(&mut self) -> Result<()> {
        let mut drives = Drives::new(self.machine.disk_interface.unwrap_or_default());
        if self.disks.served.is_some() {
            // The connection is there when QEMU starts, so there is no address and no file of a socket.
            drives.node(&serde_json::json!({
                "driver": "nbd", "node-name": SERVED, "read-only": true,
                "server": { "type": "fd", "str": DESCRIPTOR.to_string() },
            }));
        }
        self.root(&mut drives)?;
        if self.disks.served.is_some() && self.machine.mode() == Mode::StoreDisk {
            drives.device(SERVED, Options::from([("serial".to_owned(), "nix-store".to_owned())]));
        }
        for (number, disk) in self.machine.empty_disks.iter().enumerate() {
            let path = absolute(&self.state.join(format!("empty{number}.qcow2")))?;
            let name = disk.name.clone().unwrap_or_else(|| format!("empty{number}"));
            if disk.size == Bytes::ZERO || !disk.size.is_multiple_of(512) {
                return Err(Error::new(Kind::Usage, "an empty disk cannot have this size")
                    .about("empty_disks")
                    .expected("a multiple of 512 bytes")
                    .found(disk.size.in_full())
                    .or_hint(disk.size.unit_forgotten()));
            }
            drives
                .file((&name, &path), Some("qcow2"), &disk.drive, &disk.device)
                .map_err(|error| error.about("empty_disks"))?;
            self.makes.push(Make { path, what: What::Empty(disk.size) });
        }
        for (number, disk) in self.machine.drives.iter().enumerate() {
            let name = disk.name.clone().unwrap_or_else(|| format!("drive{number}"));
            let mut file = self.expanded(&disk.file, "drives")?;
            if !is_protocol(&file) {
                file = absolute(&file)?;
            }
            drives
                .file((&name, &file), None, &disk.drive, &disk.device)
                .map_err(|error| error.about("drives"))?;
        }
        self.disks.warnings.append(&mut drives.warnings);
        self.command.arguments.extend(drives.finish()?);
        Ok(())
    }

    /// A path whose variables have their values.
    fn expanded(&self, text: &str, key: &'static str) -> Result<PathBuf> {
        expansion::path(text, key, self.around.environment, self.around.work_folder)
    }

    /// The disk that the machine writes.
    fn root(&mut self, drives: &mut Drives) -> Result<()> {
        let given = match (self.around.environment.disk_image(), &self.machine.disk_image) {
            (None, Some(own)) => Some(self.expanded(own, "disk_image")?),
            (given, _) => given,
        };
        if let (Some(given), true) = (&given, self.around.fresh || self.around.temporary) {
            return Err(Error::new(
                Kind::Usage,
                "a state is forgotten, and a disk image that was named is not",
            )
            .at(given)
            .hint("remove the file, or name none (NIX_DISK_IMAGE)"));
        }
        let checked = given.is_some() || !self.around.fresh;
        let path = absolute(&given.unwrap_or_else(|| self.state.join(ROOT_FILE)))?;
        let options = Options::from([("serial".to_owned(), "root".to_owned())]);
        match std::mem::replace(&mut self.disks.root, Root::None) {
            Root::None => {}
            Root::Empty(built) => {
                let size = built.image.length();
                let found = if checked { overlay::check(&path, size, None)? } else { None };
                let format = found.unwrap_or("qcow2");
                drives.file(("root", &path), Some(format), &Options::new(), &options)?;
                self.makes.push(Make { path, what: What::Filesystem(built) });
            }
            Root::Overlay => {
                let size = self.disks.served.as_ref().map_or(Bytes::ZERO, |built| built.image.length());
                let name = overlay::name(&self.record);
                if checked {
                    overlay::check(&path, size, Some(&name))?;
                }
                let file = path.to_str().ok_or_else(|| {
                    Error::new(Kind::Usage, "QEMU takes no path that is not UTF-8").at(&path)
                })?;
                drives.node(&serde_json::json!({
                    "driver": "qcow2", "node-name": "root", "backing": SERVED,
                    "file": { "driver": "file", "filename": file },
                }));
                drives.device("root", options);
                self.makes.push(Make { path, what: What::Overlay { size, name } });
            }
        }
        Ok(())
    }

    /// The EFI firmware and its variables.
    fn firmware(&mut self) -> Result<()> {
        let layout = self.machine.nixos.layout.unwrap_or(Layout::None);
        let (firmware, variables) = match (&self.machine.efi_firmware, &self.machine.efi_variables) {
            (Some(firmware), Some(variables)) => (Path::new(firmware), Path::new(variables)),
            (None, None) if layout.has_esp() && !layout.has_bios() => {
                return Err(Error::new(Kind::Usage, format!("only EFI firmware boots the layout {layout}"))
                    .about("efi_firmware")
                    .expected("the files of a firmware and of its variables")
                    .hint(
                        "OVMF has them, in Debian as /usr/share/OVMF/OVMF_CODE_4M.fd and OVMF_VARS_4M.fd",
                    ));
            }
            (None, None) => return Ok(()),
            (given, _) => {
                let (what, missing) = match given {
                    Some(_) => ("a firmware needs its variables", "efi_variables"),
                    None => ("variables are for a firmware", "efi_firmware"),
                };
                return Err(Error::new(Kind::Usage, what).about(missing).hint("give both, or neither"));
            }
        };
        for file in [firmware, variables] {
            if !file.is_file() {
                return Err(Error::new(Kind::Source, "there is no such file of the firmware").at(file));
            }
        }
        let keep = self.machine.keep_variables.unwrap_or(self.machine.mode() == Mode::BootLoader);
        let folder = if keep { self.state.as_path() } else { self.around.work_folder };
        let own = self.around.environment.efi_variables().unwrap_or_else(|| folder.join("efi-vars.fd"));
        let (own, firmware) = (absolute(&own)?, absolute(firmware)?);
        let flash = |unit: &str| Keys::new("if=pflash").with("format", "raw").with("unit", unit);
        self.command.option("-drive", flash("0").with("readonly", "on").path("file", &firmware)?.text());
        self.command.option("-drive", flash("1").path("file", &own)?.text());
        self.makes.push(Make { path: own, what: What::Copy(variables.to_owned()) });
        Ok(())
    }

    /// Kernel, initrd and parameters, which QEMU hands over itself.
    fn direct(&mut self, processor: &Processor) -> Result<()> {
        let toplevel = self.disks.system.to_path();
        let host = |name: &str| self.disks.store.resolve(&toplevel.join(name)).map(|found| found.host);
        let kernel = match self.around.environment.kernel(self.machine.name()) {
            Some(kernel) => kernel,
            None => host("kernel")?,
        };
        let initrd = match &self.machine.initrd {
            Some(initrd) => PathBuf::from(initrd),
            None => host("initrd")?,
        };
        let file = host("kernel-params")?;
        let mut parameters = std::fs::read_to_string(&file)
            .map_err(|error| Error::io(Kind::Source, "cannot read a part of the system", &file, error))?
            .trim()
            .to_owned();
        parameters.push_str(&format!(" init={}/init", toplevel.display()));
        if let Some(path) = &self.disks.reg_info {
            parameters.push_str(&format!(" regInfo={path}"));
        }
        let added = self.around.environment.text("QEMU_KERNEL_PARAMS")?;
        let more: Vec<&str> = self.machine.kernel_params.iter().map(String::as_str).chain(added).collect();
        // What is behind `--` is for init, so a console is before all that users add.
        let all = parameters.split_ascii_whitespace();
        let all = all.chain(more.iter().flat_map(|more| more.split_ascii_whitespace()));
        let has_console = all.take_while(|word| *word != "--").any(|word| word.starts_with("console="));
        if !has_console && self.machine.graphics != Some(true) {
            parameters.push_str(&format!(" console={}", processor.console));
        }
        more.iter().for_each(|more| parameters.push_str(&format!(" {more}")));
        self.command.option("-kernel", kernel);
        self.command.option("-initrd", initrd);
        self.command.option("-append", parameters);
        Ok(())
    }

    /// Credentials, the screen, and what users add.
    fn rest(&mut self, processor: &Processor) -> Result<()> {
        let credentials = credential::arguments(&self.machine.credentials, self.around, processor)?;
        self.command.arguments.extend(credentials);
        if self.machine.graphics != Some(true) {
            self.command.push("-nographic");
        }
        for options in &self.machine.qemu_options {
            let words = split(options, self.around.environment, self.around.work_folder)?;
            self.command.arguments.extend(words);
        }
        let words = self.around.environment.words("QEMU_OPTS")?;
        self.command.arguments.extend(words.into_iter().map(Into::into));
        self.command.arguments.extend(self.around.arguments.iter().cloned());
        Ok(())
    }
}

/// The commands, for a shell.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for make in &self.makes {
            writeln!(f, "# {make}")?;
        }
        if let Some(image) = &self.served {
            let size = image.length().human();
            writeln!(
                f,
                "# descriptor {DESCRIPTOR} is a connection to a disk of {size} that this program serves by NBD"
            )?;
        }
        for helper in &self.helpers {
            writeln!(f, "{} &", helper.command.to_string().trim_end())?;
            if let Some(prepare) = &helper.prepare {
                for (name, value) in &prepare.variables {
                    write!(f, "{name}={} ", quoted(value))?;
                }
                write!(f, "{}", prepare.command)?;
            }
        }
        write!(f, "{}", self.command)
    }
}
