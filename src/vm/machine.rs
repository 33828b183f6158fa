//! The description of a machine: keys of its JSON and flags of `diskwright vm`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::command::{absolute, is_protocol};
use super::device::{Credential, Drive, EmptyDisk, Share};
use crate::error::{Error, Kind, Result};
use crate::front::nixos::Section;
use crate::helper::Accel;
use crate::host::links;
use crate::nix::StorePath;
use crate::units::{Bytes, GIB, MIB};

/// The memory of a machine (nixpkgs, `virtualisation.memorySize`).
const MEMORY: Bytes = Bytes::new(GIB);
/// The size of an empty root (nixpkgs, `virtualisation.diskSize`: 1024 MiB).
pub(super) const ROOT_SIZE: Bytes = Bytes::new(GIB);
/// The name of a machine without one (nixpkgs, `system.name`).
const NAME: &str = "nixos";

/// How a system gets its disks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The full disk of a system with one of its layouts.
    #[default]
    BootLoader,
    /// A disk of the closure that is only read, and an empty root.
    StoreDisk,
    /// An empty root; the store is a folder that the machine shares with this host.
    RootAlone,
}

/// The filesystem of a store disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreType {
    /// ext4.
    #[default]
    Ext4,
    /// EROFS, not compressed.
    Erofs,
}

/// The bus of the disks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interface {
    /// virtio-blk.
    #[default]
    Virtio,
    /// Disks of a virtio-scsi controller.
    Scsi,
    /// Disks of the machine's IDE or SATA controller.
    Ide,
}

/// How a folder of the host is shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShareBy {
    /// By virtiofs where virtiofsd is on this host, else by 9p.
    #[default]
    Auto,
    /// By virtiofs: a program virtiofsd for each folder, and memory that it shares with QEMU.
    Virtiofs,
    /// By 9p, in QEMU itself.
    NineP,
}

/// A machine: a system, its disks, and what QEMU gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The system and its disk; the keys are those of a manifest's section `nixos`.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub nixos: Section,
    /// Name of the machine; default nixos.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    pub name: Option<String>,
    /// How the system gets its disks: boot-loader (default), a full disk; store-disk, a disk of the closure that is only
    /// read, and an empty root; root-alone, an empty root, and the store shared from this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "MODE"))]
    pub mode: Option<Mode>,
    /// Filesystem of a store disk: ext4 (default) or erofs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "TYPE"))]
    pub store_type: Option<StoreType>,
    /// Memory; default 1GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    pub memory: Option<Bytes>,
    /// Processors; default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub cores: Option<u32>,
    /// Whether the machine has a root disk; default true. Without one, the root is a tmpfs of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true)
    )]
    pub root_disk: Option<bool>,
    /// File that keeps what is written to the root disk, in place of a state that is named by what it lies on. `$NAME` in it
    /// is a variable of the environment; NIX_DISK_IMAGE takes precedence.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    pub disk_image: Option<String>,
    /// An empty disk: its size, or size=SIZE,serial=TEXT,name=NAME,drive.KEY=VALUE,device.KEY=VALUE.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "cli", arg(long = "empty-disk", value_name = "DISK"))]
    pub empty_disks: Vec<EmptyDisk>,
    /// A disk that is there: its file, or file=FILE,format=FORMAT,name=NAME,drive.KEY=VALUE,device.KEY=VALUE. In FILE, `$NAME`
    /// is a variable of the environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "cli", arg(long = "drive", value_name = "DISK"))]
    pub drives: Vec<Drive>,
    /// Bus of the disks: virtio (default), scsi or ide.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "BUS"))]
    pub disk_interface: Option<Interface>,
    /// A folder of this host that the machine can mount by its tag: tag=TAG,source=DIR,writable=BOOL. In DIR, `$NAME` is a
    /// variable of the environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "cli", arg(long = "share", value_name = "SHARE"))]
    pub shares: Vec<Share>,
    /// How folders are shared: auto (default), virtiofs or 9p.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "HOW"))]
    pub share_by: Option<ShareBy>,
    /// The program virtiofsd; default the one on PATH.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    pub virtiofsd: Option<String>,
    /// EFI firmware; default none, which leaves QEMU its BIOS.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    pub efi_firmware: Option<String>,
    /// Variables of the EFI firmware. The machine gets a copy of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    pub efi_variables: Option<String>,
    /// Whether the copy is kept for the next start; default true with boot-loader, else false.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true)
    )]
    pub keep_variables: Option<bool>,
    /// Whether the machine has a TPM 2.0, by the program swtpm; default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true)
    )]
    pub tpm: Option<bool>,
    /// The program swtpm; default the one on PATH.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    pub swtpm: Option<String>,
    /// QEMU's device of the TPM; default tpm-tis, or what the machine has instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "DEVICE"))]
    pub tpm_device: Option<String>,
    /// A command of the shell that is run with the TPM before each start; TPM2TOOLS_TCTI leads there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "COMMAND"))]
    pub tpm_provisioning: Option<String>,
    /// A credential of systemd: name=NAME,text=TEXT or name=NAME,file=FILE, with by=smbios or by=fw_cfg. FILE is read when the
    /// machine starts; `$NAME` in it is a variable of the environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "cli", arg(long = "credential", value_name = "CREDENTIAL"))]
    pub credentials: Vec<Credential>,
    /// Initrd of a machine that boots without a loader; default that of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    pub initrd: Option<String>,
    /// More parameters of the kernel, where no loader boots it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        feature = "cli",
        arg(long = "kernel-param", value_name = "PARAM", allow_hyphen_values = true)
    )]
    pub kernel_params: Vec<String>,
    /// A registration for Nix's database, as the machine sees it; default the one on a store disk whose closure is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "PATH"))]
    pub reg_info: Option<String>,
    /// Whether the machine has a screen; default false: its serial port is standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true)
    )]
    pub graphics: Option<bool>,
    /// Whether the machine has a network; default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true)
    )]
    pub network: Option<bool>,
    /// Options of QEMU's user network, such as hostfwd=tcp::2222-:22; QEMU_NET_OPTS adds more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "OPTIONS"))]
    pub network_options: Option<String>,
    /// What runs the machine: auto (default), kvm or tcg.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "HOW"))]
    pub accel: Option<Accel>,
    /// The program QEMU; default the one on PATH for the processor of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    pub qemu: Option<String>,
    /// More arguments of QEMU, as a shell would split them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "cli", arg(long = "qemu-options", value_name = "ARGS", allow_hyphen_values = true))]
    pub qemu_options: Vec<String>,
    /// Folder of the machine's states; default NAME-vm in the current directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "DIR"))]
    pub state: Option<String>,
}

impl Machine {
    /// Reads a machine from JSON; errors call it `name`.
    ///
    /// # Errors
    /// [`Kind::Manifest`] for a text that is not JSON or has an unknown key.
    pub fn parse(text: &str, name: &Path) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| {
            let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
            Error::new(Kind::Manifest, "the description of the machine is wrong")
                .at_line(name, crate::units::u64_of(error.line()), crate::values::shown(line))
                .because(error)
        })
    }

    /// The same machine for any folder that it may run in: what is relative to this one becomes absolute, also the files that
    /// [`fixed`](Self::fixed) leaves to the run. A path that begins with a variable stays.
    ///
    /// # Errors
    /// [`Kind::Source`] where there is no current directory, [`Kind::Usage`] for one whose name would be read as a variable.
    pub fn anchored(&self) -> Result<Self> {
        let mut anchored = self.clone();
        let shares = anchored.shares.iter_mut().map(|share| &mut share.source);
        let credentials = anchored.credentials.iter_mut().filter_map(|credential| credential.file.as_mut());
        let drives = anchored.drives.iter_mut().map(|drive| &mut drive.file);
        let drives = drives.filter(|file| !is_protocol(Path::new(file.as_str())));
        let paths = anchored.disk_image.iter_mut().chain(shares).chain(credentials).chain(drives);
        for path in paths.filter(|path| !path.starts_with(['/', '$'])) {
            let here = absolute(Path::new("."))?;
            if here.as_os_str().as_encoded_bytes().contains(&b'$') {
                return Err(Error::new(Kind::Usage, "the name of the folder would be read as a variable")
                    .at(here)
                    .hint("give absolute paths, or run the command in another folder"));
            }
            make_absolute(path)?;
        }
        anchored.state.iter_mut().try_for_each(make_absolute)?;
        Ok(anchored)
    }

    /// The machine as JSON, with every path that does not depend on where the command runs: a link to the system becomes its
    /// store path, other paths become absolute. What the machine gets beside its system is found when it runs, from the folder
    /// where that is: disk images, shared folders, credentials and states.
    ///
    /// # Errors
    /// [`Kind::Source`] where there is no current directory.
    pub fn fixed(&self) -> Result<String> {
        let mut fixed = self.clone();
        let root = fixed.nixos.store_root.as_deref().map_or(Path::new("/"), Path::new);
        match store_path(&fixed.nixos.system, root) {
            Some(store_path) => fixed.nixos.system = store_path.to_string(),
            // It may come into being before the script runs.
            None => make_absolute(&mut fixed.nixos.system)?,
        }
        let programs =
            [&mut fixed.qemu, &mut fixed.virtiofsd, &mut fixed.swtpm, &mut fixed.nixos.grub_mkimage];
        let programs = programs.into_iter().flatten().filter(|program| program.contains('/'));
        let closure = fixed.nixos.closure.iter_mut().filter(|closure| *closure != "auto");
        let files = [
            &mut fixed.nixos.store_root,
            &mut fixed.nixos.config_file,
            &mut fixed.nixos.systemd_boot,
            &mut fixed.nixos.grub,
            &mut fixed.nixos.uki,
            &mut fixed.efi_firmware,
            &mut fixed.efi_variables,
            &mut fixed.initrd,
        ];
        let files = files.into_iter().flatten();
        let contents = fixed.nixos.contents.iter_mut().map(|content| &mut content.source);
        programs.chain(closure).chain(files).chain(contents).try_for_each(make_absolute)?;
        serde_json::to_string(&fixed).map_err(|error| Error::bug("a machine is no JSON").because(error))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(NAME)
    }

    /// How it gets its disks.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode.unwrap_or_default()
    }

    /// Its memory in MiB.
    ///
    /// # Errors
    /// [`Kind::Usage`] for less than 1 MiB, and for what is no number of MiB.
    pub(super) fn memory(&self) -> Result<u64> {
        if let Some(memory) = self.memory.filter(|memory| memory.get() > MIB && !memory.is_multiple_of(MIB)) {
            return Err(Error::new(Kind::Usage, "the memory of a machine is a number of MiB")
                .about("memory")
                .expected("a multiple of 1MiB")
                .found(memory.in_full())
                .or_hint(memory.unit_forgotten()));
        }
        match self.memory.unwrap_or(MEMORY).get() / MIB {
            0 => Err(Error::new(Kind::Usage, "a machine does not run without memory")
                .about("memory")
                .expected("at least 1MiB")
                .found(self.memory.unwrap_or(MEMORY).in_full())
                .or_hint(self.memory.and_then(Bytes::unit_forgotten))),
            mebibytes => Ok(mebibytes),
        }
    }

    /// Its processors.
    ///
    /// # Errors
    /// [`Kind::Usage`] for none.
    pub(super) fn cores(&self) -> Result<u32> {
        match self.cores {
            Some(0) => Err(Error::new(Kind::Usage, "a machine does not run without a processor")
                .about("cores")
                .expected("at least 1")),
            cores => Ok(cores.unwrap_or(1)),
        }
    }

    /// Refuses a name that is no name of a file.
    pub(super) fn check_name(&self) -> Result<()> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
        if self.name().is_empty() || self.name().starts_with('.') || !self.name().chars().all(plain) {
            return Err(Error::new(Kind::Usage, "this is no name of a machine")
                .about("name")
                .expected("letters, digits and `-_.+`, and no point at its beginning")
                .found(crate::values::shown(self.name())));
        }
        Ok(())
    }

    /// The folder of its states.
    #[must_use]
    pub fn states(&self) -> PathBuf {
        match &self.state {
            Some(folder) => PathBuf::from(folder),
            None => PathBuf::from(format!("{}{}", self.name(), super::state::SUFFIX)),
        }
    }
}

/// Makes a path absolute. One that is not UTF-8 does not come to be: it would be another one in JSON.
fn make_absolute(path: &mut String) -> Result<()> {
    let there = absolute(Path::new(path.as_str()))?;
    let text = there
        .to_str()
        .ok_or_else(|| Error::new(Kind::Usage, "a script has no path that is not UTF-8").at(&there))?;
    *path = text.to_owned();
    Ok(())
}

/// The store path that `system` is, or leads to by links of this host, by name or below the folder `root` that holds the store.
pub(super) fn store_path(system: &str, root: &Path) -> Option<StorePath> {
    let trimmed = system.trim_end_matches('/');
    let own = trimmed.parse().ok();
    let by_links = || links::chain(Path::new(trimmed)).find_map(|path| path.to_str()?.parse().ok());
    own.or_else(by_links).or_else(|| {
        let (inside, root) = (Path::new(trimmed).canonicalize().ok()?, root.canonicalize().ok()?);
        Path::new("/").join(inside.strip_prefix(root).ok()?).to_str()?.parse().ok()
    })
}
