//! The `nixos` section: a whole NixOS system instead of partitions.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BootLoader, EntryNames, Layout, Timeout};
use crate::container::Format;
use crate::filesystem::Spec;
use crate::filesystem::zfs::Via;
use crate::helper;
use crate::tree::Chmod;
use crate::units::Bytes;
use crate::values::{DiskSize, Guid, IdName, NixosFilesystem, Property};

/// A NixOS system: its closure, its Nix database, its profile and its boot loader, on a disk with one of the layouts of
/// nixpkgs' make-disk-image.nix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Nixos")]
pub struct Section {
    /// The system: the store path of `config.system.build.toplevel`.
    #[cfg_attr(feature = "cli", arg(long, value_name = "TOPLEVEL"))]
    pub system: String,
    /// What the system needs to run: a directory as closureInfo makes it, a registration as `nix-store --dump-db` prints
    /// it or closureInfo has it, the JSON of exportReferencesGraph under structured attributes, or `auto`, which asks
    /// nix-store on this machine; default auto.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "PATH"))]
    pub closure: Option<String>,
    /// Where the store lies on this machine: the folder that holds nix/store; default `/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "DIR"))]
    pub store_root: Option<String>,
    /// The partitions: legacy (default), legacy+boot, legacy+gpt, efi, efixbootldr, hybrid or none; zfs for a disk that
    /// boots and one that is a pool alone, zfs-single for both on one disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "LAYOUT"))]
    pub layout: Option<Layout>,
    /// Where the boot partition ends, counted from the start of the disk; default 256MiB. With `compat` it ends at the
    /// next whole MiB above that, as nixpkgs rounds it. Of zfs the size of the disk that boots, of zfs-single where the
    /// partition ends; default 1GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    pub boot_size: Option<Bytes>,
    /// How large the EFI system partition is, of efi, efixbootldr, hybrid and the layouts of zfs; what follows it moves. Default
    /// what `boot_size` leaves it, and of efixbootldr 92MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    pub esp_size: Option<Bytes>,
    /// More partitions, between those for booting and the root: swap, /home and others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub partitions: Vec<More>,
    /// Size of the disk; default auto, as small as everything fits with `additional_space` left.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    pub disk_size: Option<DiskSize>,
    /// With a disk of size auto, the space that stays free in the root filesystem; default 512MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    pub additional_space: Option<Bytes>,
    /// Filesystem of the root; ext4.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "TYPE"))]
    pub fs_type: Option<NixosFilesystem>,
    /// Label of the root filesystem, up to 16 bytes; default nixos, or nix-store with `only_nix_store`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "LABEL"))]
    pub label: Option<String>,
    /// With zfs and zfs-single, the name of the pool; default tank.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    pub pool: Option<String>,
    /// Its properties, as `zpool create -o` takes them; default autoexpand = on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME=VALUE,…"))]
    pub pool_properties: Option<Properties>,
    /// Properties of its own dataset, as `zpool create -O` takes them; default acltype = posixacl, atime = off, compression
    /// = on, mountpoint = legacy, xattr = sa.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME=VALUE,…"))]
    pub filesystem_properties: Option<Properties>,
    /// Its datasets; what is missing above one is made too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "DATASET"))]
    pub datasets: Vec<Dataset>,
    /// How the pool is made: process (default), in this process; or vm, by OpenZFS in a helper VM of the system's kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "WAY"))]
    pub via: Option<Via>,
    /// The helper VM.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub vm: helper::Options,
    /// UUID of the root filesystem; default that of nixpkgs, or with `compat = false` one derived from the seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "UUID"))]
    pub root_uuid: Option<Guid>,
    /// GUID of the root partition in a GPT; default that of nixpkgs, or with `compat = false` one derived from the seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "UUID"))]
    pub gpt_uuid: Option<Guid>,
    /// Files and directories of this machine that go into the root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "CONTENT"))]
    pub contents: Vec<Content>,
    /// A file that becomes /etc/nixos/configuration.nix.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    pub config_file: Option<String>,
    /// A store path that root's channels lead to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "PATH"))]
    pub channel: Option<String>,
    /// More store paths that go into the store of the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "PATH"))]
    pub additional_paths: Vec<String>,
    /// Whether the root of the filesystem is the store, and contains nothing else; default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true)
    )]
    pub only_nix_store: Option<bool>,
    /// The boot loader: systemd-boot, grub, extlinux or none; default systemd-boot for efi and efixbootldr,
    /// grub for the legacy layouts and hybrid, otherwise none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "LOADER"))]
    pub boot_loader: Option<BootLoader>,
    /// The EFI program of systemd-boot; default the one of the system's systemd.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    pub systemd_boot: Option<String>,
    /// A folder that holds GRUB's i386-pc and x86_64-efi; default the one in the closure.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "DIR"))]
    pub grub: Option<String>,
    /// The program grub-mkimage; default the one in the closure, or else the one on PATH.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    pub grub_mkimage: Option<String>,
    /// A unified kernel image that goes to EFI/Linux on the ESP.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    pub uki: Option<String>,
    /// Seconds the menu waits before it boots the default, or forever; default 5, as NixOS has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SECONDS"))]
    pub timeout: Option<Timeout>,
    /// Earlier systems that can be booted too, the oldest first; `system` is the generation after them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "TOPLEVEL"))]
    pub generations: Vec<String>,
    /// How systemd-boot's entries are named: by the hash of their content (hash, default) as nixpkgs does since
    /// 2026, or by the number of the generation (generation) as before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAMES"))]
    pub entry_names: Option<EntryNames>,
    /// Format of the output file, as in `disk`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub format: Option<Format>,
    /// Whether the layout is that of nixpkgs to the bit, odd choices included; default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true)
    )]
    pub compat: Option<bool>,
}

/// One more partition of a NixOS system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NixosPartition")]
pub struct More {
    /// How large it is.
    pub size: Bytes,
    /// Its filesystem, which is empty; with a mount of /nix it has the store and Nix's database.
    pub filesystem: Spec,
    /// Where the system mounts it, such as /home or /nix; the directory is made there. None for swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^/"))]
    pub mount: Option<String>,
    /// Its type; default swap, home for /home, or else linux.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its name in a GPT; default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Its GUID in a GPT; default derived from the seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guid: Option<Guid>,
}

/// Whether nothing is said of a helper VM.
fn is_default(options: &helper::Options) -> bool {
    *options == helper::Options::default()
}

/// Properties of ZFS by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(rename = "ZfsProperties")]
pub struct Properties(pub BTreeMap<String, Property>);

/// A dataset of the pool of a NixOS system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NixosDataset")]
pub struct Dataset {
    /// Its name, with that of the pool.
    pub name: String,
    /// Where the system mounts it; default nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
    /// Its properties, as `zfs create -o` takes them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, Property>,
}

/// A file or directory of this machine that goes into the root of a NixOS system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NixosContent")]
pub struct Content {
    /// A file, which becomes target; a directory, whose contents become target's; or, with `*` in any part of the
    /// path, all that matches, copied into target.
    pub source: String,
    /// Absolute path in the root, outside of the store.
    #[schemars(regex(pattern = "^/"))]
    pub target: String,
    /// Permissions of everything it brings: octal, or as chmod and rsync write them; default those of this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Chmod>,
    /// Who owns it: a name that the image knows, or a number; default root. Goes with `group`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<IdName>,
    /// The group that owns it: a name that the image knows, or a number; default root. Goes with `user`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<IdName>,
}
