//! The processors that boot loaders exist for, and what each is called where.

use std::fmt;

use crate::error::{Error, Kind, Result};
use crate::text::printable;

/// A processor, as firmware sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Architecture {
    /// x86 with 32 bits.
    Ia32,
    /// x86 with 64 bits.
    X64,
    /// Arm with 32 bits.
    Arm,
    /// Arm with 64 bits.
    Aa64,
    /// RISC-V with 32 bits.
    Riscv32,
    /// RISC-V with 64 bits.
    Riscv64,
    /// LoongArch with 64 bits.
    Loongarch64,
}

/// What a processor is called: in file names of the UEFI specification (2.10, table 3.2), in the first part of Nix's
/// name of a platform, in GRUB's names of its platforms, and in a PE file (UEFI 2.10, section 2.1.1; Microsoft, "PE
/// Format", Machine Types).
struct Names {
    architecture: Architecture,
    efi: &'static str,
    nix: &'static [&'static str],
    grub: &'static str,
    machine: u16,
}

const ALL: [Names; 7] = [
    Names {
        architecture: Architecture::Ia32,
        efi: "ia32",
        nix: &["i686", "i386", "i486", "i586"],
        grub: "i386",
        machine: 0x014c,
    },
    Names { architecture: Architecture::X64, efi: "x64", nix: &["x86_64"], grub: "x86_64", machine: 0x8664 },
    Names {
        architecture: Architecture::Arm,
        efi: "arm",
        nix: &["armv7l", "armv6l", "armv5tel"],
        grub: "arm",
        machine: 0x01c2,
    },
    Names {
        architecture: Architecture::Aa64,
        efi: "aa64",
        nix: &["aarch64"],
        grub: "arm64",
        machine: 0xaa64,
    },
    Names {
        architecture: Architecture::Riscv32,
        efi: "riscv32",
        nix: &["riscv32"],
        grub: "riscv32",
        machine: 0x5032,
    },
    Names {
        architecture: Architecture::Riscv64,
        efi: "riscv64",
        nix: &["riscv64"],
        grub: "riscv64",
        machine: 0x5064,
    },
    Names {
        architecture: Architecture::Loongarch64,
        efi: "loongarch64",
        nix: &["loongarch64"],
        grub: "loongarch64",
        machine: 0x6264,
    },
];

impl Architecture {
    fn names(self) -> &'static Names {
        // Every processor stands in the list; the first is there for a reader that cannot know it.
        ALL.iter().find(|names| names.architecture == self).unwrap_or(&ALL[0])
    }

    /// The processor of Nix's platform `system`: `x86_64-linux`.
    ///
    /// # Errors
    /// [`Kind::Source`] for one that no UEFI boot loader is made for.
    pub fn of_system(system: &str) -> Result<Self> {
        let processor = system.split('-').next().unwrap_or(system);
        ALL.iter().find(|names| names.nix.contains(&processor)).map(|names| names.architecture).ok_or_else(
            || {
                let known: Vec<&str> = ALL.iter().filter_map(|names| names.nix.first().copied()).collect();
                Error::new(Kind::Source, "no boot loader is known for this platform")
                    .expected(format!("a platform of {}", known.join(", ")))
                    .found(if system.is_empty() { "none".to_owned() } else { printable(system.as_bytes()) })
            },
        )
    }

    /// Its part in the name of a loader: `x64` in `systemd-bootx64.efi`.
    #[must_use]
    pub fn efi(self) -> &'static str {
        self.names().efi
    }

    /// The file that firmware starts from a disk it was told nothing about: `BOOTX64.EFI`.
    #[must_use]
    pub fn removable(self) -> String {
        format!("BOOT{}.EFI", self.names().efi.to_ascii_uppercase())
    }

    /// GRUB's platform for its UEFI firmware: `x86_64-efi`.
    #[must_use]
    pub fn grub_efi(self) -> String {
        format!("{}-efi", self.names().grub)
    }

    /// The machine type of its PE files.
    #[must_use]
    pub fn machine(self) -> u16 {
        self.names().machine
    }

    /// The processor with this machine type.
    #[must_use]
    pub fn of_machine(machine: u16) -> Option<Self> {
        ALL.iter().find(|names| names.machine == machine).map(|names| names.architecture)
    }
}

impl fmt::Display for Architecture {
    /// As in the UEFI specification: `X64`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().efi.to_ascii_uppercase())
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
            ("riscv64-linux", "BOOTRISCV64.EFI", "riscv64-efi"),
            ("riscv32-linux", "BOOTRISCV32.EFI", "riscv32-efi"),
            ("loongarch64-linux", "BOOTLOONGARCH64.EFI", "loongarch64-efi"),
        ] {
            let architecture = Architecture::of_system(system).unwrap();
            assert_eq!(
                (architecture.removable().as_str(), architecture.grub_efi().as_str()),
                (removable, grub)
            );
            assert_eq!(Architecture::of_machine(architecture.machine()), Some(architecture));
        }
        for names in &ALL {
            assert_eq!(names.architecture.names().efi, names.efi);
        }
        let error = Architecture::of_system("powerpc64le-linux").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no boot loader is known for this platform\n  expected: a platform of i686, x86_64, armv7l, aarch64, \
             riscv32, riscv64, loongarch64\n  found: powerpc64le-linux"
        );
        assert!(Architecture::of_system("").unwrap_err().to_string().ends_with("found: none"));
    }
}
