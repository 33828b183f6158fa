//! NixOS systems: from a `nixos` section, or the flags of `diskwright nixos`, to partitions with their
//! contents, as nixpkgs' make-disk-image.nix makes them in a virtual machine.
//!
//! | part | module |
//! |---|---|
//! | the meaning of the section, and its contradictions | `section` |
//! | the places and names of the partitions | `layout` |
//! | the store, Nix's database, the system profile, the directories of a root | `root` |
//! | host files that go into the root, and their owners | `contents`, `users` |
//! | the boot loader: files and embedded programs | `boot` |
//! | the pool of a root on ZFS | `zfs` |
//!
//! The result is a [`Disk`] like that of any other front end. Nothing here writes. docs/formats/nixos.md
//! explains every choice.

mod boot;
mod content;
mod contents;
mod layout;
mod locator;
mod more;
mod options;
mod root;
mod schema;
mod section;
mod users;
mod zfs;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Dates, Description};
use crate::container::Settings;
use crate::disk::{Body, Disk, Entry, Guid, Partition};
use crate::error::{Error, Kind, Result, Warning};
use crate::filesystem::{Spec, ext4, fat};
use crate::identity::Seed;
use crate::key::KeyPath;
use crate::nix::verify::Expected;
use crate::nix::{STORE, database};
use crate::option::option;
use crate::progress::Progress;
use crate::table::Scheme;
use crate::values::{DiskId, DiskSize, FatBits, Guid as GuidValue, VolumeId};

pub use crate::boot::Timeout;
use boot::Booted;
use layout::{Geometry, Role, Slot};
use locator::{Keys, Place};
pub use options::{BootLoader, EntryNames, Layout};
use root::Entries;
pub use schema::{Content, Dataset, More, Properties, Section};
use section::System;
use zfs::Pool;

/// The time at which Nix registers a path, and which it gives to the path's files: second 1 (`mtimeStore`).
const REGISTERED: i64 = 1;

/// Everything that a section does not contain.
#[derive(Clone, Debug)]
pub struct Context {
    /// The seed of ids.
    pub seed: Seed,
    /// GUID or signature of the disk, if it is given.
    pub id: Option<DiskId>,
    /// The times in a filesystem.
    pub dates: Dates,
    /// The folder at which relative paths begin.
    pub folder: PathBuf,
    /// The settings of the output file. The format in the section takes precedence over the format here.
    pub settings: Settings,
    /// May ask to stop.
    pub progress: Progress,
}

impl Context {
    /// `path` as seen from the current directory.
    fn path(&self, path: &str) -> PathBuf {
        if self.folder == Path::new(".") { PathBuf::from(path) } else { self.folder.join(path) }
    }
}

/// The disk that a section describes. It reads the closure, and the files that boot the system, from the
/// host.
///
/// # Errors
/// [`Kind::Manifest`] with the key for contradictions, for a system that is not in its closure, for a user
/// that the image does not know, and for a loader that the layout has no place for; [`Kind::Source`] for
/// anything missing or unreadable; [`Kind::Capacity`] for a boot program that is too large for its place.
pub fn describe(section: &Section, context: &Context) -> Result<Description> {
    let path = KeyPath::top("nixos");
    let system = System::read(section, context, &path)?;
    let place = |error: Error| error.at_key(&path.key("boot_size"));
    let mut geometry = system.geometry().map_err(place)?;
    more::insert(&mut geometry, &section.partitions, &path.key("partitions"))?;
    let maker = Maker { section, context, system: &system, path: &path };
    let Some(boot) = system.boot_disk().map_err(place)? else { return maker.describe(geometry, None) };
    // The disk that boots has ids of its own.
    let other = Context { seed: context.seed.boot_disk(), id: None, ..context.clone() };
    let mut described = maker.describe(geometry, Some(Booted::default()))?;
    let boot = Maker { context: &other, ..maker }.describe(boot, None)?;
    described.boot = Some(Box::new(boot));
    Ok(described)
}

/// What makes the disks of a system.
#[derive(Clone, Copy)]
struct Maker<'a> {
    section: &'a Section,
    context: &'a Context,
    system: &'a System,
    path: &'a KeyPath,
}

impl Maker<'_> {
    /// A disk of this geometry. `booted` is what it boots, if it is known.
    fn describe(&self, mut geometry: Geometry, booted: Option<Booted>) -> Result<Description> {
        let Self { context, system, path, .. } = *self;
        boot::mark(&mut geometry, system);
        let mut disk = Disk::new(geometry.table, context.seed).time(context.dates.time);
        disk.size = geometry.size;
        identify(&mut disk, context, &geometry)?;
        let placed_by = |slot: &Slot| match slot.role {
            Role::More(number) => path.key("partitions").index(number),
            _ => path.key(sized_by(slot, system)),
        };
        disk.partitions = geometry.slots.iter().map(|slot| empty(slot, geometry.table)).collect();
        let keys: Vec<_> = (0..disk.partitions.len()).map(|number| disk.partition_key(number)).collect();
        let ids = boot::Ids::new(&geometry, &keys, system.root_uuid);
        let booted = match booted {
            Some(booted) => booted,
            None => boot::plan(system, &geometry, &ids, &context.progress)
                .map_err(|error| error.or_at_key(path))?,
        };
        disk.boot = booted.area.clone();
        let (mut warnings, mut closure, mut places) = (Vec::<Warning>::new(), None, Vec::new());
        warnings.extend(booted.warnings.iter().cloned());
        let has_root = geometry.slots.iter().any(|slot| slot.role == Role::Root);
        let (mut own, mut keys_of_own) =
            if has_root { self.root_entries(&booted.root)? } else { Default::default() };
        for (slot, partition) in geometry.slots.iter().zip(&mut disk.partitions) {
            let (body, entries) = match slot.role {
                Role::More(number) => self.more(number, partition, &mut own, &mut keys_of_own)?,
                Role::Reserved => (Body::Empty, Vec::new()),
                Role::Bios if booted.core.is_empty() => (Body::Empty, Vec::new()),
                Role::Bios => (Body::Bytes(Arc::clone(&booted.core)), Vec::new()),
                Role::Esp => fat(system, slot, &ids, &booted.esp, context.dates, path),
                Role::Boot => fat(system, slot, &ids, &booted.boot, context.dates, path),
                Role::Root => {
                    closure = Some(Expected { closure: Arc::clone(&system.closure), store: self.store() });
                    if system.layout == Layout::Zfs {
                        // zpool(8) names the partition so.
                        partition.label =
                            format!("zfs-{:016x}", keys.first().map_or(0, |key| key.as_u64_pair().0));
                    }
                    let entries = std::mem::take(&mut own);
                    (self.root(&ids, entries), std::mem::take(&mut keys_of_own))
                }
            };
            partition.body = body;
            places.push(Place { key: placed_by(slot), entries, role: slot.role, start: partition.start });
        }
        let settings = Settings { format: system.format.or(context.settings.format), ..context.settings };
        let locator = Box::new(Keys { section: path.clone(), places, scheme: disk.scheme, size: disk.size });
        let (outputs, beside) = (Vec::new(), Vec::new());
        Ok(Description { disk, locator, settings, outputs, closure, warnings, beside, boot: None })
    }

    /// The path of the store in its own filesystem.
    fn store(&self) -> Vec<u8> {
        let mounts = self.section.partitions.iter().filter_map(more::mount);
        let inside =
            |mount: &str| STORE.strip_prefix(mount).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let own = mounts.filter_map(inside).next();
        let path = if self.system.only_nix_store { "" } else { own.unwrap_or(STORE) };
        if path.is_empty() { b"/".to_vec() } else { path.as_bytes().to_vec() }
    }

    /// One more partition, with what the root would have below its mount point.
    fn more(
        &self,
        number: usize,
        partition: &mut Partition,
        entries: &mut Vec<Entry>,
        keys: &mut Vec<KeyPath>,
    ) -> Result<(Body, Vec<KeyPath>)> {
        let own = self.section.partitions.get(number);
        let own = own.ok_or_else(|| Error::bug("a partition of a system is not in its section"))?;
        partition.label = own.label.clone().unwrap_or_default();
        let (taken, taken_keys) = match more::mount(own) {
            Some(mount) => more::take(mount, entries, keys),
            None => (Vec::new(), Vec::new()),
        };
        Ok((Body::Filesystem(own.filesystem.clone(), taken.into()), taken_keys))
    }

    /// The root filesystem.
    fn root(&self, ids: &boot::Ids, entries: Vec<Entry>) -> Body {
        let (system, context) = (self.system, self.context);
        let mut spec: Spec = match &system.pool {
            Some(pool) => pool.options.clone().into(),
            None => ext4::Options {
                label: Some(system.label.clone()),
                uuid: Some(GuidValue(ids.root)),
                free: (system.disk_size == DiskSize::Auto).then_some(system.additional_space),
                ..ext4::Options::default()
            }
            .into(),
        };
        spec.place(&|path| context.path(path));
        // The system leads to its kernel, modules and programs.
        let own = system.store.host(system.generations.default_system());
        spec.look_in(|| {
            std::iter::once(own).chain(entries.iter().flat_map(|entry| entry.payload.folders())).collect()
        });
        Body::Filesystem(spec, entries.into())
    }

    /// The entries of the root filesystem, and the key that brings each of them.
    fn root_entries(&self, files: &boot::Files) -> Result<(Vec<Entry>, Vec<KeyPath>)> {
        let Self { section, context, system, path } = *self;
        let mut entries = Entries::new(context.dates.time);
        root::store(
            &mut entries,
            &path.key("closure"),
            &system.closure,
            &system.store,
            system.only_nix_store,
        );
        if system.only_nix_store {
            entries.directory(path, "/", 0o755);
        } else {
            root::skeleton(&mut entries, path, system.layout.mount_points());
            for target in system.pool.iter().flat_map(Pool::mount_points) {
                entries.directory(&path.key("datasets"), target, 0o755);
            }
            for mount in section.partitions.iter().filter_map(more::mount).filter(|mount| *mount != "/nix") {
                entries.directory(&path.key("partitions"), mount, 0o755);
            }
            let bytes = database::build(&system.closure, REGISTERED)
                .map_err(|error| error.or_at_key(&path.key("closure")))?;
            root::database(&mut entries, path, bytes);
            root::profile(&mut entries, path, &system.generations)?;
            if let Some(channel) = &system.channel {
                root::channel(&mut entries, &path.key("channel"), channel);
            }
            boot::place(&mut entries, path, "/boot", files);
            contents::place(&mut entries, context, system, section, path)?;
        }
        Ok(entries.finish())
    }
}

/// Gives the disk the id that was asked for, or that of the layout.
fn identify(disk: &mut Disk, context: &Context, geometry: &Geometry) -> Result<()> {
    let place = KeyPath::top("disk").key("guid");
    if context.id.is_some() && disk.scheme == Scheme::None {
        return Err(Error::new(
            Kind::Manifest,
            format!("{} means nothing with the layout none", option("guid")),
        )
        .at_key(&place)
        .hint("leave it out"));
    }
    let given = context.id.map(|id| id.of(disk.scheme)).transpose();
    match given.map_err(|error| error.at_key(&place))?.or(geometry.guid) {
        Some(DiskId::Guid(guid)) => disk.guid = Some(guid),
        Some(DiskId::Signature(signature)) => disk.signature = Some(signature),
        None => {}
    }
    Ok(())
}

/// The key that decides how large a partition is.
fn sized_by(slot: &Slot, system: &System) -> &'static str {
    match (slot.role, system.layout) {
        (Role::Root | Role::Reserved, _) => "disk_size",
        (Role::More(_), _) => "partitions",
        (Role::Esp, _) if system.esp_size.is_some() => "esp_size",
        (Role::Esp, Layout::EfiXbootldr) | (Role::Bios, _) => "layout",
        (Role::Esp | Role::Boot, _) => "boot_size",
    }
}

/// A partition without contents.
fn empty(slot: &Slot, table: Scheme) -> Partition {
    Partition {
        label: slot.label.to_owned(),
        guid: slot.guid.map_or(Guid::Seed, Guid::Given),
        start: slot.start,
        size: slot.size,
        number: slot.number,
        attributes: slot.attributes(table),
        ..Partition::new(slot.kind)
    }
}

/// A FAT with the files of a boot loader, and the key that brings each file.
fn fat(
    system: &System,
    slot: &Slot,
    ids: &boot::Ids,
    files: &boot::Files,
    dates: Dates,
    path: &KeyPath,
) -> (Body, Vec<KeyPath>) {
    let mut entries = Entries::new(dates.time);
    boot::place(&mut entries, path, "", files);
    let options = fat::Options {
        label: Some(slot.role.volume_label().to_owned()),
        volume_id: ids.volume(slot.role).map(VolumeId),
        // nixpkgs takes the type that mkfs.fat chooses.
        fat: match system.compat {
            true => Some(FatBits::Auto),
            false => slot.takes_fat32().then_some(fat::FatType::Fat32.into()),
        },
        ..fat::Options::default()
    };
    let (entries, keys) = entries.finish();
    (Body::Filesystem(options.into(), entries.into()), keys)
}
