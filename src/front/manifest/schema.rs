//! What may be written in a manifest, version 1: the keys and the values they take, nothing about what they mean
//! together. That is decided in one place, [`resolve`](super::resolve).
//!
//! `diskwright schema` prints this module as a JSON Schema; the comments here are its descriptions.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checked::Checked;
pub use super::output::Output;
use super::strict;
use crate::boot::Timeout;
use crate::container::qcow2::Compat;
use crate::container::vmdk::Adapter;
use crate::container::{Compression, Format, Settings, Subformat};
use crate::disk::Size;
use crate::filesystem::Spec;
use crate::front::boot::{Loader, RootBy};
use crate::front::section::{Repart, System};
use crate::table::Scheme;
use crate::tree::Hardlinks;
use crate::units::Bytes;
use crate::values::{Attribute, Device, DiskId, DiskSize, EntryOwner, Guid, Mode};
use crate::verity::Algorithm;

/// A description of one disk image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format: 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// The disk as a whole.
    #[serde(default, deserialize_with = "strict::table")]
    pub disk: Disk,
    /// The partitions, in the order in which they are placed.
    #[serde(default, deserialize_with = "strict::tables", skip_serializing_if = "Vec::is_empty")]
    pub partition: Vec<Partition>,
    /// The files that the disk goes to: made from one read, all of them appear or none.
    #[serde(default, deserialize_with = "strict::tables", skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<Output>,
    /// What boots the system whose root is one of the partitions.
    #[serde(default, deserialize_with = "strict::optional_table", skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    /// A NixOS system instead of partitions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nixos: Option<System>,
    /// Definitions of systemd-repart instead of partitions.
    #[serde(default, deserialize_with = "strict::optional_table", skip_serializing_if = "Option::is_none")]
    pub repart: Option<Repart>,
}

/// The disk as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Partition table; default gpt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<Scheme>,
    /// Size of the whole disk; default auto, as large as the partitions need.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<DiskSize>,
    /// The length of the disk is a multiple of this, such as 1MiB. A size that is given must be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_multiple: Option<Bytes>,
    /// Every id that is not given derives from this; default: derived from the manifest itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<Guid>,
    /// Time of everything that the writer makes, in seconds since 1970; default SOURCE_DATE_EPOCH, or else 0.
    /// If SOURCE_DATE_EPOCH is set, no file gets a later time than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<i64>,
    /// GUID of the disk, or for an MBR its signature (8 hex digits); default: derived from the seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guid: Option<DiskId>,
    /// The processor that partition types such as `root` and `usr` stand for: x86-64, arm64, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Numbers of up to three partitions of a GPT that an MBR shows too.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 3))]
    pub hybrid: Option<Vec<u32>>,
    /// Types of the partitions that hybrid shows, in its order, as bytes such as `0x0c` or names; default those that sgdisk
    /// gives to their types in the GPT.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 3))]
    pub hybrid_types: Option<Vec<String>>,
    /// Signature of the disk in a hybrid MBR (8 hex digits); default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hybrid_signature: Option<DiskId>,
    /// Whether the entry of a hybrid MBR that protects the GPT is behind those of hybrid; default false, before them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protective_last: Option<bool>,
    /// Slot of the extended partition of an MBR, from 1 to 4; default the first that is free at the first logical partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4))]
    pub extended: Option<u32>,
    /// Bytes in a logical sector: 512 (default), or 4096 with gpt and none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [512, 4096, null]))]
    pub sector_size: Option<u32>,
    /// First sector of a GPT that partitions may use; default the one after the table, 34 with sectors of 512 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_lba: Option<u64>,
    /// What the places of partitions without a start are a multiple of, and sizes of auto; default 1MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub align: Option<Bytes>,
    /// How many partitions the GPT can have: 1 to 16384; default 128. Fewer than 128 make space for a boot loader before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16384))]
    pub entries: Option<u32>,
    /// Sector in which the entries of the GPT begin; default 2. The space before them is then free for a boot loader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries_at: Option<u64>,
    /// Whether the GPT has its backup at the end of the disk; default true. Without one its space stays free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpt_backup: Option<bool>,
    /// A file with the boot code of the first sector, at most 440 bytes, such as the mbr.bin of syslinux.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_code: Option<String>,
    /// Data outside of the partitions, such as the boot loader of a board.
    #[serde(default, deserialize_with = "strict::optional_tables", skip_serializing_if = "Option::is_none")]
    pub raw: Option<Vec<Raw>>,
    /// Format of the output file, if neither `--format` nor its suffix decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Kind of the format: dynamic or fixed for vpc, vdi and vhdx; monolithicSparse, streamOptimized, monolithicFlat,
    /// twoGbMaxExtentSparse or twoGbMaxExtentFlat for vmdk; default the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subformat: Option<Subformat>,
    /// How the data of the output file is compressed: none, zlib or zstd for qcow2, zlib for a streamOptimized vmdk;
    /// default none, and zlib for streamOptimized.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compress: Option<Compression>,
    /// Level of the compression: 1 to 9 for zlib (default 6), 1 to 19 for zstd (default 3).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 19))]
    pub level: Option<u8>,
    /// Size of a cluster of a qcow2: a power of two from 512 to 2MiB; default 64KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_size: Option<Bytes>,
    /// Version of a qcow2 by the QEMU that reads it: 0.10 (version 2) or 1.1 (version 3, default).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qcow2_compat: Option<Compat>,
    /// Controller that a vmdk is for: ide (default), buslogic, lsilogic (default of streamOptimized) or legacyESX.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<Adapter>,
    /// Version of virtual hardware that a vmdk is for: 3 to 99, default 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 3, max = 99))]
    pub hardware_version: Option<u8>,
}

impl Disk {
    /// What is said of the file that the disk becomes, which does not change the disk.
    pub(super) fn settings(&self) -> Settings {
        Settings {
            format: self.format,
            subformat: self.subformat,
            compress: self.compress,
            level: self.level,
            cluster_size: self.cluster_size,
            qcow2_compat: self.qcow2_compat,
            adapter: self.adapter,
            hardware_version: self.hardware_version,
        }
    }

    /// The same without what is said of the file that the disk becomes.
    pub(super) fn without_settings(&self) -> Self {
        Self {
            format: None,
            subformat: None,
            compress: None,
            level: None,
            cluster_size: None,
            qcow2_compat: None,
            adapter: None,
            hardware_version: None,
            ..self.clone()
        }
    }
}

/// What boots the system whose root is one of the partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// What starts the kernel. grub is for a BIOS, UEFI firmware or both, extlinux is the file that U-Boot and syslinux read;
    /// limine is for a BIOS, UEFI firmware or both; systemd-boot and uki are for UEFI firmware.
    pub loader: Loader,
    /// Whether the system starts from a BIOS too: by Limine where that is the loader, else by GRUB. Default true where the disk
    /// has an MBR or a partition of type bios-boot, and loader is grub, or limine without a partition of type esp with a vfat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bios: Option<bool>,
    /// The partition with the root, its label or its type; default root. Its /boot and /usr/lib/modules are searched for
    /// kernels and initrds, and its os-release says what the menu shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// A kernel of this machine, instead of those in the root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Initrds of this machine, instead of those in the root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initrd: Option<Vec<String>>,
    /// A devicetree of this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devicetree: Option<String>,
    /// What the kernel is told, behind the root and `rw` or `ro`; with a `root=` of its own nothing is put before it.
    /// `{roothash:NAME}` in it stands for the root hash of the partition NAME.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<String>,
    /// How the kernel finds the root: partuuid (default), label, which needs an initrd, or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<RootBy>,
    /// Title in the menu; default the PRETTY_NAME of the root's os-release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Seconds that the menu waits, or forever; default 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// Whether /etc/fstab is written, with the root and the partitions whose types say where they belong; default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fstab: Option<bool>,
    /// Whether the root grows at the first start: by an attribute of the partition, x-systemd.growfs in fstab, and a
    /// definition of systemd-repart where the root has it; default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grow: Option<bool>,
    /// Whether the machine-id in the contents stays; default false, which leaves it to the first start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_machine_id: Option<bool>,
    /// A folder of this machine with GRUB's files for each platform, such as /usr/lib/grub; default that of the root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grub: Option<String>,
    /// grub-mkimage; default the one beside `grub`, or on PATH.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grub_mkimage: Option<String>,
    /// The EFI program of systemd-boot; default that of the root. With uki it shows a menu of all kernels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub systemd_boot: Option<String>,
    /// The stub of unified kernel images; default that of the root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stub: Option<String>,
    /// The folder with Limine's BOOTX64.EFI, and for a BIOS limine-bios.sys and limine-bios-hdd.bin or limine-bios-hdd.h;
    /// default /usr/share/limine of the root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limine: Option<String>,
}

/// Data outside of the partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// A file with the bytes.
    pub source: String,
    /// Where they go, from the start of the disk.
    pub offset: Bytes,
    /// How many bytes the file may have; default as many as fit before what follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Bytes>,
}

/// A partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// A name of the Discoverable Partitions Specification such as `esp` or `root-x86-64`, `linux`, `bios-boot`, …, a
    /// GUID, or the byte of an MBR such as `0x83`; default linux.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Name in a GPT, at most 36 characters (UTF-16 units); default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub label: Option<String>,
    /// GUID of the partition; default: derived from the seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guid: Option<Guid>,
    /// Slot in the table; default the next free one, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16384))]
    pub number: Option<u32>,
    /// Where it begins; default the next multiple of 1 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Bytes>,
    /// How large it is; default auto, as small as its contents allow, in whole MiB where there is a table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// Names or bit numbers, for a GPT legacy-bios-bootable, read-only, no-auto, grow-file-system, …; for an MBR or a
    /// partition in a hybrid MBR active.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Vec<Attribute>>,
    /// Whether a partition of an MBR is a logical one, inside the extended partition; default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logical: Option<bool>,
    /// A file with the bytes of the partition, such as an existing filesystem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// With raw, `image` is taken as it is, whatever it is; default: an image in a container, a compressed file and an
    /// archive are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_format: Option<ImageFormat>,
    /// The hashes by which the kernel verifies another partition (dm-verity).
    #[serde(default, deserialize_with = "strict::optional_table", skip_serializing_if = "Option::is_none")]
    pub verity: Option<Verity>,
    /// A signature of the root hash of another partition (dm-verity).
    #[serde(default, deserialize_with = "strict::optional_table", skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// The filesystem to make; default none, which leaves the partition empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<Checked<Spec>>,
    /// What the filesystem holds.
    #[serde(default, deserialize_with = "strict::optional_tables", skip_serializing_if = "Option::is_none")]
    pub contents: Option<Vec<Entry>>,
}

/// How the file of a partition is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// As it is.
    Raw,
}

/// Hashes by which the kernel verifies another partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verity {
    /// The partition that is verified: its label, or its type where no partition has that label.
    pub data: String,
    /// What is hashed with; default sha256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Algorithm>,
    /// Bytes that are verified at a time, a power of two from 512 to 64KiB; default 4KiB. The kernel takes no more than a
    /// page of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_block_size: Option<Bytes>,
    /// Bytes in a block of hashes, a power of two from 512 to 64KiB; default 4KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash_block_size: Option<Bytes>,
    /// What is hashed with every block, as hexadecimal digits, at most 256 bytes; default: derived from the seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^([0-9A-Fa-f]{2}){0,256}$"))]
    pub salt: Option<String>,
    /// UUID of the hash device; default: derived from the seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Guid>,
}

/// A signature of a root hash: made with `private_key` and `certificate`, or elsewhere, as `root_hash` and `pkcs7` say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The partition that is verified, as in `verity`.
    pub data: String,
    /// A file with the RSA key that signs, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key: Option<String>,
    /// A file with the certificate of the key, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The root hash that was signed elsewhere. Where the partition gets another one that is an error, which tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_hash: Option<String>,
    /// A file with the signature that was made elsewhere: PKCS#7 in DER.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pkcs7: Option<String>,
}

/// A unified kernel image that is put together here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Uki {
    /// The toplevel of a NixOS system: a path of the store of this machine. It brings kernel, initrd, stub and os-release, and
    /// its parameters stand before `cmdline`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The EFI program that starts the kernel: systemd-stub. Needed without `system`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stub: Option<String>,
    /// The kernel, an EFI program itself. Needed without `system`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Initrds, one behind the other, and behind that of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initrd: Option<Vec<String>>,
    /// The kernel's command line. `{roothash:NAME}` in it stands for the root hash of the partition NAME.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<String>,
    /// The os-release of the system, whose names boot menus show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os_release: Option<String>,
    /// Release of the kernel; default what a kernel for x86 says of itself, and none for another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uname: Option<String>,
    /// A devicetree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devicetree: Option<String>,
    /// A picture to show while it boots, a BMP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub splash: Option<String>,
    /// Microcode, as an initrd that the kernel reads early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub microcode: Option<String>,
    /// A file with lines of CSV that are added to the list of generations by which Secure Boot revokes (SBAT).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sbat: Option<String>,
}

/// The keys for the content of an entry. Each entry has exactly one of them.
pub(super) const WHAT: [&str; 13] = [
    "source",
    "tar",
    "oci",
    "cpio",
    "closure",
    "text",
    "uki",
    "symlink",
    "directory",
    "device",
    "metadata",
    "device_table",
    "pseudo",
];

/// The schema of an entry that brings `key`. In JSON a key may be null, which is as if it were not there.
fn brings(key: &str) -> serde_json::Value {
    serde_json::json!({ "required": [key], "properties": { key: { "not": { "type": "null" } } } })
}

/// One thing that a filesystem holds: exactly one of source, tar, oci, cpio, closure, text, uki, symlink, directory, device,
/// metadata, device_table and pseudo, at a target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = WHAT.map(brings)))]
pub struct Entry {
    /// A host file, which becomes target; a directory, whose contents become target's; or, with `*` in any part of
    /// the path, all that matches (names that begin with a dot only if the pattern does), copied into target. A symbolic
    /// link given here is followed; one that is found below, or matched, is copied as a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// A tar, plain or compressed (gzip, xz, zstd), whose members go into target; `-` is standard input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tar: Option<String>,
    /// An image of a container, whose layers go into target: an OCI image layout, as a directory or a tar, or what `docker
    /// save` writes; `-` is standard input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oci: Option<String>,
    /// A cpio of the format newc, plain or compressed, such as an initrd, whose members go into target; `-` is standard input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpio: Option<String>,
    /// A file of absolute store paths, one a line, or a directory that holds one named store-paths, as closureInfo of
    /// nixpkgs makes it. Each path is copied to target followed by the path, with the metadata of the Nix store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closure: Option<String>,
    /// The bytes of a file. `{roothash:NAME}` in it stands for the root hash of the partition NAME, its label or its type,
    /// where another partition has the hashes of that one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// A unified kernel image that is put together here.
    #[serde(default, deserialize_with = "strict::optional_table", skip_serializing_if = "Option::is_none")]
    pub uki: Option<Uki>,
    /// Target of a symbolic link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symlink: Option<String>,
    /// A directory: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [true, null]))]
    pub directory: Option<bool>,
    /// A device or a named pipe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// Other metadata for what all other entries bring to the target, where a part of it may hold `*`: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [true, null]))]
    pub metadata: Option<bool>,
    /// Absolute path inside the filesystem.
    #[schemars(regex(pattern = "^/"))]
    pub target: String,
    /// Whether it takes the place of what entries before it brought to the same paths; default false, which makes that an
    /// error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace: Option<bool>,
    /// Which paths of a source or archive are taken over, with all that is below them: patterns from its top, in which `*`
    /// stands for anything in one name, `?`, `[a-z]` and `[!a-z]` for one character, and a part `**` for any number of directories.
    /// One that nothing matches is an error. Default all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include: Option<Vec<String>>,
    /// Which paths of a source or archive are left out, with all that is below them: patterns as in include; default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude: Option<Vec<String>>,
    /// Whether a source ends where another filesystem is mounted, of which it has only the directory, empty; default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_file_system: Option<bool>,
    /// Which image of an oci source, where there are several: a tag or a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Which platform of an oci source, where there are several, such as linux/arm64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// A file with a device table, as genext2fs and Buildroot have them: devices, directories and permissions below target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_table: Option<String>,
    /// A file with definitions of pseudo files, as mksquashfs has them: devices, directories, links, permissions and
    /// attributes below target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pseudo: Option<String>,
    /// Permissions. For a source they replace those of the file or directory itself, but not those below it;
    /// default those of the host. For other entries the default is 0755 for a directory and 0644 for text and
    /// devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Owner of everything that the entry brings; default root, and for an archive preserve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<EntryOwner>,
    /// How hard links among a source's files are treated; default preserve, for a closure and on vfat dissolve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardlinks: Option<Hardlinks>,
    /// Which extended attributes of a source are kept: patterns in which `*` stands for anything; default user.*,
    /// security.capability and POSIX ACLs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xattrs: Option<Vec<String>>,
    /// Seconds since 1970, for an entry that is made rather than copied; default the time of the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtime: Option<i64>,
    /// Extended attributes that metadata sets, by name: a text, `0x` and hexadecimal digits, or `0s` and base 64, as
    /// setfattr(1) has them; for security.capability also a text such as `cap_net_raw+ep`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_xattrs: Option<BTreeMap<String, String>>,
    /// Whether metadata is also for everything below the target; default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below: Option<bool>,
}

/// The JSON Schema of a manifest, indented, with a final newline.
#[must_use]
pub fn json() -> String {
    let mut schema = schemars::SchemaGenerator::default().into_root_schema_for::<Manifest>();
    schema.insert("title".to_owned(), "diskwright manifest, version 1".into());
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}
