//! NixOS systems: from the `nixos` section of a manifest, or the flags of `diskwright nixos`, to partitions with all that
//! is in them, as nixpkgs' make-disk-image.nix makes them in a virtual machine.
//!
//! | step | room |
//! |---|---|
//! | what the section says, and what does not go together | `section` |
//! | where the partitions lie and what they are called | `layout` |
//! | the store, Nix's database, the system profile, the directories of a root | `root` |
//! | files of the host that go into the root, and who owns them | `contents`, `users` |
//! | what boots it: files and embedded programs | `boot` |
//!
//! The result is a [`Disk`] like that of any other manifest; nothing here writes. docs/formats/nixos.md has every choice.

mod boot;
mod contents;
mod layout;
mod options;
mod root;
mod section;
mod users;

use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::front::manifest::Manifest;
use crate::front::manifest::locate::KeyPath;
use crate::front::manifest::resolve::{self, Body, Dates, Disk, Ext4, Filesystem, Partition, Vfat};
use crate::front::manifest::values::{DiskSize, PartitionSize};
use crate::nix::verify::Expected;
use crate::nix::{STORE, database};
use crate::progress::Progress;
use crate::table::Scheme;
use crate::units::{Bytes, MIB};

pub use crate::boot::Timeout;
use layout::{Geometry, Role, Slot};
pub use options::{BootLoader, EntryNames, Layout};
use root::Entries;
use section::System;

/// The time Nix registers a path at, and gives its files: second 1 (`mtimeStore`).
const REGISTERED: i64 = 1;

/// The disk that the `nixos` section of `manifest` describes. Reads the closure and what boots of it from the host;
/// `epoch` is the value of SOURCE_DATE_EPOCH, where it is set; `progress` may ask to stop.
///
/// # Errors
/// [`Kind::Manifest`] with the line for what does not go together, for a system that is not in its closure, a user the
/// image does not know, a loader that the layout has no place for; [`Kind::Source`] for what is missing or unreadable;
/// [`Kind::Capacity`] for a boot program that is too large for its place.
pub fn disk(manifest: &Manifest, epoch: Option<i64>, progress: &Progress) -> Result<Disk> {
    let path = KeyPath::top("nixos");
    let mut disk = resolve::whole(manifest, epoch)?;
    let system = System::read(manifest, &path, disk.dates, progress)?;
    disk.size = system.disk_size;
    disk.format = system.format.or(disk.format);
    let mut geometry = system.geometry().map_err(|error| manifest.place(error, &path.key("boot_size")))?;
    boot::mark(&mut geometry, &system);
    disk.table = geometry.table;
    if disk.guid.is_some() && disk.table == Scheme::None {
        let place = KeyPath::top("disk").key("guid");
        return Err(manifest
            .refuse(&place, "`guid` means nothing with the layout none")
            .hint("leave it out"));
    }
    disk.guid = resolve::disk_id(manifest, disk.table)?.or(geometry.guid);
    let placed_by = |slot: &Slot| path.key(sized_by(slot, system.layout));
    disk.partitions =
        geometry.slots.iter().map(|slot| empty(slot, geometry.table, &placed_by(slot))).collect();
    let seed = disk.seed(manifest);
    let keys: Vec<_> = (0..disk.partitions.len()).map(|number| disk.partition_key(seed, number)).collect();
    let ids = boot::Ids::new(&geometry, &keys, system.root_uuid)?;
    let booted =
        boot::plan(&system, &geometry, &ids, progress).map_err(|error| placed(manifest, error, &path))?;
    disk.warnings.extend(booted.warnings.iter().cloned());
    disk.boot = booted.area.clone();
    for (number, slot) in geometry.slots.iter().enumerate() {
        let body = match slot.role {
            Role::Bios if booted.core.is_empty() => Body::Empty,
            Role::Bios => Body::Bytes(Arc::clone(&booted.core)),
            Role::Esp => fat(&system, slot, &ids, &booted.esp, disk.dates, &path),
            Role::Boot => fat(&system, slot, &ids, &booted.boot, disk.dates, &path),
            Role::Root => {
                let store = if system.only_nix_store { "/" } else { STORE };
                disk.closure =
                    Some(Expected { closure: Arc::clone(&system.closure), store: store.as_bytes().to_vec() });
                ext4(manifest, &system, &geometry, &ids, &booted.root, disk.dates, &path)?
            }
        };
        if let Some(partition) = disk.partitions.get_mut(number) {
            partition.body = body;
        }
    }
    Ok(disk)
}

/// An error about the section as a whole, where it names no line of its own.
fn placed(manifest: &Manifest, error: Error, path: &KeyPath) -> Error {
    if error.has_line() { error } else { manifest.place(error, path) }
}

/// Adds to an error about a partition of a system the key of the section that it is about: a partition has no lines of its
/// own, and its size follows from keys that say something else.
pub(crate) fn error_in(manifest: &Manifest, disk: &Disk, partition: &Partition, error: Error) -> Error {
    let section = KeyPath::top("nixos");
    let needs = error.sufficient();
    let path = match (&partition.body, error.path(), error.key()) {
        (Body::Filesystem(_, entries), Some(file), _) if needs.is_none() => {
            crate::disk::contents::cause(entries, file).map_or(section, |entry| entry.path.clone())
        }
        (_, _, Some("uuid")) => section.key("root_uuid"),
        (_, _, Some("size")) => partition.path.clone(),
        (_, _, Some(key)) => section.key(key),
        _ if error.kind() == Kind::Capacity => partition.path.clone(),
        _ => section,
    };
    let error = manifest.place(error, &path);
    // Of a partition that begins nowhere, the disk is the partition.
    let start = partition.start.unwrap_or_default();
    let error = match (&partition.body, needs) {
        (Body::Filesystem(Filesystem::Ext4(_), _), Some(size)) => {
            // Behind the root of a GPT lies its backup, and partitions are whole MiB.
            let tail = if disk.table == Scheme::Gpt { MIB } else { 0 };
            let whole = if disk.table == Scheme::None { 1 } else { MIB };
            let error =
                error.expected(format!("at least {}", (start + size).round_up(whole) + Bytes::new(tail)));
            match disk.size {
                DiskSize::Fixed(size) => error.found(size),
                DiskSize::Auto => error,
            }
        }
        (_, Some(size)) => match partition.path == KeyPath::top("nixos").key("boot_size") {
            true => error.hint(format!(
                "a boot_size of {} suffices: it counts from the start of the disk",
                (start + size).round_up(MIB)
            )),
            false => error.hint("this partition has the size that nixpkgs gives it; choose another layout"),
        },
        _ => error,
    };
    match &partition.body {
        Body::Filesystem(Filesystem::Vfat(fat), _) => error.at(format!("the partition {}", fat.label)),
        _ => error,
    }
}

/// The key that decides how large a partition is.
fn sized_by(slot: &Slot, layout: Layout) -> &'static str {
    match (slot.role, layout) {
        (Role::Root, _) => "disk_size",
        (Role::Esp, Layout::EfiXbootldr) | (Role::Bios, _) => "layout",
        (Role::Esp | Role::Boot, _) => "boot_size",
    }
}

/// A partition that holds nothing yet.
fn empty(slot: &Slot, table: Scheme, path: &KeyPath) -> Partition {
    Partition {
        path: path.clone(),
        kind: slot.kind,
        label: slot.label.to_owned(),
        guid: slot.guid,
        number: None,
        start: slot.start,
        size: slot.size,
        attributes: slot.attributes(table),
        logical: false,
        body: Body::Empty,
    }
}

/// A FAT with the files of a boot loader.
fn fat(
    system: &System,
    slot: &Slot,
    ids: &boot::Ids,
    files: &boot::Files,
    dates: Dates,
    path: &KeyPath,
) -> Body {
    let mut entries = Entries::new(dates.time);
    boot::place(&mut entries, path, "", files);
    let filesystem = Vfat {
        label: if slot.role == Role::Esp { "ESP" } else { "BOOT" }.to_owned(),
        volume_id: ids.volume(slot.role),
        free: None,
        fat: slot.fat32(system.compat).then_some(crate::filesystem::fat::FatType::Fat32),
        cluster_size: None,
    };
    Body::Filesystem(Filesystem::Vfat(filesystem), entries.finish())
}

/// The root filesystem.
fn ext4(
    manifest: &Manifest,
    system: &System,
    geometry: &Geometry,
    ids: &boot::Ids,
    files: &boot::Files,
    dates: Dates,
    path: &KeyPath,
) -> Result<Body> {
    let mut entries = Entries::new(dates.time);
    root::store(&mut entries, &path.key("closure"), &system.closure, &system.store, system.only_nix_store);
    if system.only_nix_store {
        entries.directory(path, "/", 0o755);
    } else {
        root::skeleton(&mut entries, path, system.layout.mount_points());
        let bytes = database::build(&system.closure, REGISTERED)
            .map_err(|error| placed(manifest, error, &path.key("closure")))?;
        root::database(&mut entries, path, bytes);
        root::profile(&mut entries, path, &system.generations)?;
        if let Some(channel) = &system.channel {
            root::channel(&mut entries, &path.key("channel"), channel);
        }
        boot::place(&mut entries, path, "/boot", files);
        contents::place(&mut entries, manifest, system, dates, path)?;
    }
    let auto = geometry.slots.iter().any(|slot| slot.role == Role::Root && slot.size == PartitionSize::Auto);
    let filesystem = Ext4 {
        label: system.label.clone(),
        uuid: Some(ids.root),
        hash_seed: None,
        free: auto.then_some(system.additional_space),
        grow_to: None,
        inodes: None,
        journal: crate::filesystem::ext4::Journal::default(),
        reserved: crate::filesystem::ext4::Reserved::default(),
        times: crate::filesystem::ext4::TimePolicy::default(),
    };
    Ok(Body::Filesystem(Filesystem::Ext4(filesystem), entries.finish()))
}
