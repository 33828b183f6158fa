//! The words of the `nixos` section.

use crate::values::{value, words};

/// The partitions of a NixOS disk, by the names of make-disk-image.nix (`partitionTableType`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// MBR with the root.
    #[default]
    Legacy,
    /// MBR with a FAT for /boot and the root.
    LegacyBoot,
    /// GPT with a BIOS boot partition and the root.
    LegacyGpt,
    /// GPT with the EFI system partition at /boot and the root.
    Efi,
    /// GPT with the EFI system partition at /efi, an XBOOTLDR partition at /boot and the root.
    EfiXbootldr,
    /// GPT with the EFI system partition at /boot, a BIOS boot partition and the root.
    Hybrid,
    /// The root filesystem alone.
    None,
    /// Two disks: a GPT with a BIOS boot partition and the EFI system partition at /boot, and the pool of the root.
    Zfs,
    /// GPT with a BIOS boot partition, the EFI system partition at /boot and the pool of the root.
    ZfsSingle,
}

impl Layout {
    /// Whether UEFI firmware can boot it.
    #[must_use]
    pub const fn has_esp(self) -> bool {
        matches!(self, Self::Efi | Self::EfiXbootldr | Self::Hybrid | Self::Zfs | Self::ZfsSingle)
    }

    /// Whether it has space for what a BIOS boots.
    #[must_use]
    pub const fn has_bios(self) -> bool {
        matches!(self, Self::Legacy | Self::LegacyBoot | Self::LegacyGpt | Self::Hybrid) || self.has_pool()
    }

    /// Whether the root is on ZFS.
    #[must_use]
    pub const fn has_pool(self) -> bool {
        matches!(self, Self::Zfs | Self::ZfsSingle)
    }
}

/// The boot loader of a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootLoader {
    /// systemd-boot, from UEFI firmware.
    SystemdBoot,
    /// GRUB, from a BIOS, UEFI firmware or both.
    Grub,
    /// A file that U-Boot, syslinux and their like read.
    Extlinux,
    /// No boot loader.
    None,
}

/// How systemd-boot's entries are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EntryNames {
    /// `nixos-<SHA-256 of the entry>.conf`, nixpkgs since 2026.
    #[default]
    Hash,
    /// `nixos-generation-<N>.conf`, nixpkgs to 2025.
    Generation,
}

words!(
    Layout, "a layout is",
    "legacy" => Legacy, "legacy+boot" => LegacyBoot, "legacy+gpt" => LegacyGpt, "efi" => Efi,
    "efixbootldr" => EfiXbootldr, "hybrid" => Hybrid, "none" => None, "zfs" => Zfs, "zfs-single" => ZfsSingle
);

value!(Layout, text, "Layout", "the name of a layout, such as \"efi\"", {
    "description": "The partitions, by the names that make-disk-image.nix gives them.",
    "enum": ["legacy", "legacy+boot", "legacy+gpt", "efi", "efixbootldr", "hybrid", "none", "zfs", "zfs-single"]
});

words!(
    BootLoader, "a boot loader is",
    "systemd-boot" => SystemdBoot, "grub" => Grub, "extlinux" => Extlinux, "none" => None
);

value!(BootLoader, text, "BootLoader", "\"systemd-boot\", \"grub\", \"extlinux\" or \"none\"", {
    "description": "What boots the system.",
    "enum": ["systemd-boot", "grub", "extlinux", "none"]
});

words!(EntryNames, "entries are named by", "hash" => Hash, "generation" => Generation);

value!(EntryNames, text, "EntryNames", "\"hash\" or \"generation\"", {
    "description": "How systemd-boot's entries are named.",
    "enum": ["hash", "generation"]
});
