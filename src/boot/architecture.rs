//! The processors that have boot loaders, and their names in different formats.

use std::fmt;

use crate::error::{Error, Kind, Result};
use crate::table::Architecture;
use crate::text::printable;

/// UEFI firmware of one processor.
#[derive(Clone, Copy, Debug)]
pub struct Firmware(&'static Names);

/// The names of a processor: in the Discoverable Partitions Specification, in file names of the UEFI
/// specification (2.10, table 3.2), in the first part of Nix's name of a platform, in GRUB's names of its
/// platforms, and in a PE file (UEFI 2.10, section 2.1.1; Microsoft, "PE Format", Machine Types).
#[derive(Debug)]
struct Names {
    architecture: &'static str,
    efi: &'static str,
    nix: &'static str,
    grub: &'static str,
    machine: u16,
}

const fn names(
    architecture: &'static str,
    efi: &'static str,
    nix: &'static str,
    grub: &'static str,
    machine: u16,
) -> Names {
    Names { architecture, efi, nix, grub, machine }
}

static X64: Names = names("x86-64", "x64", "x86_64", "x86_64", 0x8664);
static AA64: Names = names("arm64", "aa64", "aarch64", "arm64", 0xaa64);

/// All processors of the UEFI specification except Itanium, for which there is no NixOS.
static ALL: [&Names; 7] = [
    &names("x86", "ia32", "i686", "i386", 0x014c),
    &X64,
    &names("arm", "arm", "armv7l", "arm", 0x01c2),
    &AA64,
    &names("riscv32", "riscv32", "riscv32", "riscv32", 0x5032),
    &names("riscv64", "riscv64", "riscv64", "riscv64", 0x5064),
    &names("loongarch64", "loongarch64", "loongarch64", "loongarch64", 0x6264),
];

/// Processors whose names in Nix's platforms differ from those of the Discoverable Partitions Specification
/// and its aliases (nixpkgs, `lib/systems/parse.nix`).
const OF_NIX: [(&str, &str); 7] = [
    ("armv5tel", "arm"),
    ("armv6l", "arm"),
    ("armv7a", "arm"),
    ("armv7l", "arm"),
    ("powerpc", "ppc"),
    ("powerpc64", "ppc64"),
    ("powerpc64le", "ppc64-le"),
];

/// The processor of Nix's platform `system`, such as `x86_64-linux`. `None` if the text is empty.
///
/// # Errors
/// [`Kind::Source`] for an unknown processor.
pub fn of_system(system: &str) -> Result<Option<Architecture>> {
    if system.is_empty() {
        return Ok(None);
    }
    let processor = of_linux(system)?;
    let known = OF_NIX.iter().find(|(nix, _)| *nix == processor).map_or(processor, |(_, name)| name);
    match known.parse() {
        Ok(architecture) => Ok(Some(architecture)),
        Err(_) => Err(Error::new(Kind::Source, "the processor of this platform is not known")
            .expected("a platform such as x86_64-linux or aarch64-linux")
            .found(printable(system.as_bytes()))),
    }
}

/// The processor of Nix's platform `system`, as Nix calls it.
///
/// # Errors
/// [`Kind::Source`] for the platform of another kernel than Linux.
pub fn of_linux(system: &str) -> Result<&str> {
    let (processor, kernel) = system.split_once('-').unwrap_or((system, "linux"));
    // A processor alone names no other kernel.
    if kernel.split('-').any(|part| part.starts_with("linux")) {
        return Ok(processor);
    }
    Err(Error::new(Kind::Source, "the system is not for Linux")
        .expected("a platform such as x86_64-linux or aarch64-linux")
        .found(printable(system.as_bytes()))
        .why("an image boots a Linux kernel with the system's programs"))
}

/// Whether machines with this processor have a BIOS; only x86 machines do.
#[must_use]
pub fn has_bios(architecture: Architecture) -> bool {
    matches!(architecture.name(), "x86" | "x86-64")
}

impl Firmware {
    /// That of x86 with 64 bits.
    pub const X64: Self = Self(&X64);
    /// That of Arm with 64 bits.
    pub const AA64: Self = Self(&AA64);

    /// The firmware of `architecture`.
    ///
    /// # Errors
    /// [`Kind::Source`] for a processor without a UEFI boot loader.
    pub fn of(architecture: Architecture) -> Result<Self> {
        ALL.iter()
            .find(|names| names.architecture == architecture.name())
            .map(|names| Self(names))
            .ok_or_else(|| {
                Error::new(Kind::Source, "no boot loader is known for UEFI firmware of this processor")
                    .expected(format!("a platform of {}", ALL.map(|names| names.nix).join(", ")))
                    .found(architecture)
            })
    }

    /// Its part in the name of a loader: `x64` in `systemd-bootx64.efi`.
    #[must_use]
    pub const fn efi(self) -> &'static str {
        self.0.efi
    }

    /// The file that firmware starts from a disk that it does not know: `BOOTX64.EFI`.
    #[must_use]
    pub fn removable(self) -> String {
        format!("BOOT{}.EFI", self.efi().to_ascii_uppercase())
    }

    /// GRUB's platform: `x86_64-efi`.
    #[must_use]
    pub fn grub(self) -> String {
        format!("{}-efi", self.0.grub)
    }

    /// The machine type of its PE files.
    #[must_use]
    pub const fn machine(self) -> u16 {
        self.0.machine
    }

    /// The firmware whose PE files have this machine type.
    #[must_use]
    pub fn of_machine(machine: u16) -> Option<Self> {
        ALL.iter().find(|names| names.machine == machine).map(|names| Self(names))
    }
}

impl PartialEq for Firmware {
    fn eq(&self, other: &Self) -> bool {
        self.0.efi == other.0.efi
    }
}

impl Eq for Firmware {}

impl fmt::Display for Firmware {
    /// As in the UEFI specification: `X64`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.efi().to_ascii_uppercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_specification() {
        for (system, removable, grub) in [
            ("x86_64-linux", "BOOTX64.EFI", "x86_64-efi"),
            ("i686-linux", "BOOTIA32.EFI", "i386-efi"),
            ("aarch64-linux", "BOOTAA64.EFI", "arm64-efi"),
            ("armv7l-linux", "BOOTARM.EFI", "arm-efi"),
            ("armv6l-linux", "BOOTARM.EFI", "arm-efi"),
            ("riscv64-linux", "BOOTRISCV64.EFI", "riscv64-efi"),
            ("riscv32-linux", "BOOTRISCV32.EFI", "riscv32-efi"),
            ("loongarch64-linux", "BOOTLOONGARCH64.EFI", "loongarch64-efi"),
        ] {
            let architecture = of_system(system).unwrap().unwrap();
            let firmware = Firmware::of(architecture).unwrap();
            assert_eq!((firmware.removable().as_str(), firmware.grub().as_str()), (removable, grub));
            assert_eq!(Firmware::of_machine(firmware.machine()), Some(firmware));
            assert_eq!(has_bios(architecture), ["x86_64-linux", "i686-linux"].contains(&system), "{system}");
        }
        assert_eq!((Firmware::X64.to_string(), Firmware::AA64.to_string()), ("X64".into(), "AA64".into()));
        assert!(ALL.iter().all(|names| names.architecture.parse::<Architecture>().is_ok()));
        assert!(OF_NIX.iter().all(|(_, name)| name.parse::<Architecture>().is_ok()));
    }

    #[test]
    fn a_processor_without_firmware_is_named_and_nothing_is_taken_for_another() {
        for (system, name) in [
            ("powerpc64le-linux", "ppc64-le"),
            ("powerpc64-linux", "ppc64"),
            ("powerpc-linux", "ppc"),
            ("s390x-linux", "s390x"),
            ("mips64el-linux", "mips64-le"),
            ("mipsel-linux", "mips-le"),
        ] {
            let architecture = of_system(system).unwrap().unwrap();
            assert!(architecture.name() == name && !has_bios(architecture), "{system}");
            let error = Firmware::of(architecture).unwrap_err().to_string();
            assert_eq!(
                error,
                format!(
                    "no boot loader is known for UEFI firmware of this processor\n  expected: a platform of i686, x86_64, \
                     armv7l, aarch64, riscv32, riscv64, loongarch64\n  found: {name}"
                )
            );
        }
        assert_eq!(of_system("").unwrap(), None);
        for system in ["m68k-linux", " ", "-linux", "X86_64-linux", "x86_64-darwin", "aarch64-freebsd"] {
            let error = of_system(system).unwrap_err().to_string();
            assert!(error.contains(&format!("\n  found: {system}")), "{error}");
            assert_eq!(
                of_linux(system).is_err(),
                error.starts_with("the system is not for Linux"),
                "{system}"
            );
        }
    }
}
