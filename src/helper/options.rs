//! What a user says of a helper VM.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Bytes;
use crate::values::{value, words};

/// What runs the machine's instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accel {
    /// KVM where this host has it, else TCG.
    #[default]
    Auto,
    /// KVM or nothing.
    Kvm,
    /// QEMU's own translation.
    Tcg,
}

words!(Accel, "a machine is run by", "auto" => Auto, "kvm" => Kvm, "tcg" => Tcg);

value!(Accel, text, "VmAccel", "\"auto\", \"kvm\" or \"tcg\"", {
    "description": "What runs the machine.",
    "enum": ["auto", "kvm", "tcg"]
});

/// The helper VM: what it is made of, and how it runs. Kernel, modules and tools that are not given are those of the system
/// in the contents that has all of them, and else those of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args), group(skip))]
#[serde(deny_unknown_fields)]
#[schemars(rename = "HelperVm")]
pub struct Options {
    /// The kernel that QEMU starts; default the one of the modules, in the contents or on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(id = "vm_kernel", long = "vm-kernel", value_name = "FILE"))]
    pub kernel: Option<String>,
    /// The folder of the kernel's modules, with modules.dep, or one with lib/modules; the modules of ZFS are among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(id = "vm_modules", long = "vm-modules", value_name = "DIR"))]
    pub modules: Option<String>,
    /// The folder with the programs zpool and zfs, or one above it, such as a store path.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(id = "vm_tools", long = "vm-tools", value_name = "DIR"))]
    pub tools: Option<String>,
    /// What runs the machine: auto (default), kvm or tcg.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(id = "vm_accel", long = "vm-accel", value_name = "HOW"))]
    pub accel: Option<Accel>,
    /// The program QEMU; default the one on PATH for the processor of this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(id = "vm_qemu", long = "vm-qemu", value_name = "FILE"))]
    pub qemu: Option<String>,
    /// Memory of the machine; default 1GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(id = "vm_memory", long = "vm-memory", value_name = "SIZE"))]
    pub memory: Option<Bytes>,
    /// Seconds after which the machine is ended and the work has failed; default 3600.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    #[cfg_attr(feature = "cli", arg(id = "vm_time_limit", long = "vm-time-limit", value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(1..)))]
    pub time_limit: Option<u32>,
    /// The program diskwright that runs in the machine; default this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(id = "vm_program", long = "vm-program", value_name = "FILE"))]
    pub program: Option<String>,
    /// Folders of this machine that become contents, in which kernel, modules and tools are looked for.
    #[serde(skip)]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub contents: Vec<PathBuf>,
}

impl Options {
    /// Makes every path one that `place` gives.
    pub(crate) fn place(&mut self, place: &dyn Fn(&str) -> PathBuf) {
        let paths = [&mut self.kernel, &mut self.modules, &mut self.tools, &mut self.program];
        // QEMU is a name that is looked up, unless it has a slash.
        let qemu = Some(&mut self.qemu).filter(|qemu| qemu.as_ref().is_some_and(|qemu| qemu.contains('/')));
        for text in paths.into_iter().chain(qemu).flatten() {
            *text = place(text).to_string_lossy().into_owned();
        }
    }

    /// The program that runs in the machine.
    pub(super) fn program(&self) -> std::io::Result<PathBuf> {
        self.program.as_ref().map_or_else(std::env::current_exe, |program| Ok(Path::new(program).to_owned()))
    }
}
