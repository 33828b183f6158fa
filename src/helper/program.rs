//! Programs that a machine needs: which, and where they are.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::Accel;
use crate::error::{Error, Kind, Result};
use crate::table::Architecture;

/// What QEMU has to be told about a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Processor {
    /// What its programs are called by: `qemu-system-NAME`.
    pub(crate) name: &'static str,
    /// The machine, if QEMU has no default for it, with its options.
    pub(crate) machine: Option<&'static str>,
    /// The device of its first serial port in Linux.
    pub(crate) console: &'static str,
    /// The device that is a TPM in it, if QEMU has one.
    pub(crate) tpm: Option<&'static str>,
    /// What this host is called where it has this processor ([`std::env::consts::ARCH`]).
    host: &'static str,
}

/// By the names of the Discoverable Partitions Specification. The machines and serial ports are those of nixpkgs
/// (`nixos/lib/qemu-common.nix`).
const PROCESSORS: [(&str, Processor); 5] = [
    (
        "x86-64",
        Processor { name: "x86_64", machine: None, console: "ttyS0", tpm: Some("tpm-tis"), host: "x86_64" },
    ),
    ("x86", Processor { name: "i386", machine: None, console: "ttyS0", tpm: Some("tpm-tis"), host: "x86" }),
    (
        "arm64",
        Processor {
            name: "aarch64",
            machine: Some("virt,gic-version=max"),
            console: "ttyAMA0",
            tpm: Some("tpm-tis-device"),
            host: "aarch64",
        },
    ),
    (
        "arm",
        Processor {
            name: "arm",
            machine: Some("virt"),
            console: "ttyAMA0",
            tpm: Some("tpm-tis-device"),
            host: "arm",
        },
    ),
    (
        "riscv64",
        Processor { name: "riscv64", machine: Some("virt"), console: "ttyS0", tpm: None, host: "riscv64" },
    ),
];

impl Processor {
    /// The processor of a system, or of this host where the system does not say.
    ///
    /// # Errors
    /// [`Kind::Usage`] for one that no machine here has.
    pub(crate) fn of(architecture: Option<Architecture>) -> Result<Self> {
        let found = match architecture {
            Some(architecture) => {
                let name = architecture.to_string();
                PROCESSORS.iter().find(|(known, _)| *known == name)
            }
            None => PROCESSORS.iter().find(|(_, known)| known.host == std::env::consts::ARCH),
        };
        found.map(|(_, processor)| *processor).ok_or_else(|| {
            let known: Vec<&str> = PROCESSORS.iter().map(|(name, _)| *name).collect();
            let own = architecture.map_or_else(|| std::env::consts::ARCH.to_owned(), |own| own.to_string());
            Error::new(Kind::Usage, "there is no machine for this processor")
                .expected(known.join(", "))
                .found(own)
        })
    }

    /// What QEMU is told about acceleration, and what is said about it.
    ///
    /// # Errors
    /// [`Kind::Usage`] where KVM was asked for and is not there.
    pub(crate) fn accel(&self, wanted: Accel) -> Result<(&'static str, String)> {
        if wanted == Accel::Tcg {
            return Ok(("tcg", "TCG, as asked".to_owned()));
        }
        let device = "/dev/kvm";
        let missing = if self.host == std::env::consts::ARCH {
            std::fs::File::options()
                .read(true)
                .write(true)
                .open(device)
                .err()
                .map(|error| format!("{device}: {error}"))
        } else {
            Some(format!("this host has another processor ({})", std::env::consts::ARCH))
        };
        match (missing, wanted) {
            (None, Accel::Kvm) => Ok(("kvm", "KVM".to_owned())),
            (None, _) => Ok(("kvm:tcg", "KVM, or TCG where QEMU says that KVM fails".to_owned())),
            (Some(why), Accel::Kvm) => Err(Error::new(Kind::Usage, "the machine needs KVM, and this host does not have it")
                .about("accel")
                .found(why)
                .hint("as a member of the group kvm, on a host whose processor can, /dev/kvm opens; TCG is slower and needs nothing")),
            (Some(why), _) => Ok(("tcg", format!("TCG, since there is no KVM: {why}"))),
        }
    }
}

/// The program `name`: a path, or a name that is looked up in `folders`, the value of PATH.
pub(crate) fn find(name: &Path, folders: Option<&OsStr>) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let runs = |path: &PathBuf| {
        path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if name.components().count() > 1 {
        return Some(name.to_owned()).filter(runs);
    }
    std::env::split_paths(folders?).map(|folder| folder.join(name)).find(runs)
}

/// QEMU for a processor.
///
/// # Errors
/// [`Kind::Source`] where it is not there, with the package that has it.
pub(crate) fn qemu(own: Option<&str>, processor: &Processor, folders: Option<&OsStr>) -> Result<PathBuf> {
    let name = own.map_or_else(|| format!("qemu-system-{}", processor.name), str::to_owned);
    find(Path::new(&name), folders).ok_or_else(|| {
        Error::new(Kind::Source, "there is no QEMU to run the machine")
            .at(&name)
            .about("qemu")
            .hint("packages have it: qemu_kvm or qemu of nixpkgs, qemu-system-x86 (arm, misc) of Debian, qemu-system-x86-core of Fedora, qemu-base of Arch")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_is_an_error_where_it_is_needed_and_missing() {
        let foreign = Processor { host: "another", ..Processor::of(None).unwrap() };
        assert!(foreign.accel(Accel::Kvm).unwrap_err().to_string().contains("needs KVM"));
        let (accel, said) = foreign.accel(Accel::Auto).unwrap();
        assert!(accel == "tcg" && said.contains("another processor"), "{said}");
        assert_eq!(foreign.accel(Accel::Tcg).unwrap().0, "tcg");
    }

    #[test]
    fn a_program_is_found_as_a_shell_finds_it() {
        let folder = tempfile::tempdir().unwrap();
        let folders = Some(folder.path().as_os_str());
        let processor = Processor::of(None).unwrap();
        let error = qemu(Some("no-such-qemu"), &processor, folders).unwrap_err().to_string();
        assert!(
            error.contains("no-such-qemu") && error.contains("qemu-system-x86 (arm, misc) of Debian"),
            "{error}"
        );
        assert!(qemu(Some("/bin/sh"), &processor, folders).is_ok());
        let own = folder.path().join("own");
        std::fs::write(&own, "").unwrap();
        assert_eq!(find(Path::new("own"), folders), None);
        std::fs::set_permissions(&own, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(find(Path::new("own"), folders), Some(own));
    }
}
