//! The disks of a system that are never written, and the empty root beside them.

use std::path::{Path, PathBuf};

use uuid::{Uuid, uuid};

use super::machine::{Machine, Mode, ROOT_SIZE, StoreType, store_path};
use crate::disk::{Body, Built, Contents, Disk, Entry, Partition, Payload, Size, Work};
use crate::error::{Error, Kind, Result};
use crate::filesystem::{Spec, erofs, ext4};
use crate::front::nixos::{self, BootLoader, Layout, Section};
use crate::front::{Dates, Description, seed};
use crate::identity::Seed;
use crate::key::KeyPath;
use crate::nix::{Store, StorePath};
use crate::table::Type;
use crate::tree::{Meta, Time};
use crate::units::Bytes;
use crate::values::{DiskSize, Guid};

/// The label of a root (nixpkgs, `virtualisation.rootDevice`: /dev/disk/by-label/nixos).
const ROOT_LABEL: &str = "nixos";
/// The label and the UUID of a store disk (nixpkgs, `nixos/lib/erofs-store-image.nix`).
const STORE_LABEL: &str = "nix-store";
const STORE_UUID: Uuid = uuid!("eb176051-bd15-49b7-9e6b-462e0b467019");
/// The seed of an empty root. All of one size are equal: what a machine writes to it tells them apart.
const ROOT_SEED: Uuid = uuid!("6a0e8c9e-3c5e-4b0a-9f5b-5d1b6f0a7c41");
/// The file of a store disk that Nix's database is filled from. No store path begins with a point.
const REGISTRATION: &str = "/.registration";
/// Where a machine sees its store disk (nixpkgs, `virtualisation.useNixStoreImage`).
const STORE_MOUNT: &str = "/nix/.ro-store";

/// The disks of a system.
#[derive(Debug)]
pub(super) struct Disks {
    /// The system.
    pub(super) system: StorePath,
    /// Where the store lies on this host.
    pub(super) store: Store,
    /// The disk that QEMU reads and nobody writes.
    pub(super) served: Option<Built>,
    /// The disk that the machine writes.
    pub(super) root: Root,
    /// The registration that the machine finds on its store disk.
    pub(super) reg_info: Option<String>,
    /// Whether QEMU loads the kernel.
    pub(super) direct: bool,
    /// What was asked for and cannot be kept.
    pub(super) warnings: Vec<String>,
}

/// The disk that a machine writes.
#[derive(Debug)]
pub(super) enum Root {
    /// What it writes, over the disk that is served.
    Overlay,
    /// An empty filesystem.
    Empty(Box<Built>),
    /// None: the root is a tmpfs.
    None,
}

impl Disks {
    /// Lays out the disks of `machine`, and writes nothing. `epoch` is SOURCE_DATE_EPOCH.
    ///
    /// # Errors
    /// [`Kind::Usage`] for keys that do not fit the mode; as [`nixos::describe`] and [`Disk::build`].
    pub(super) fn new(machine: &Machine, epoch: Option<i64>, work: &Work) -> Result<Self> {
        check(machine)?;
        let section = &machine.nixos;
        let store = Store::new(section.store_root.as_deref().map_or(Path::new("/"), Path::new));
        let system = system(section, &store)?;
        let root = || -> Result<Root> {
            match machine.root_disk.unwrap_or(true) {
                true => Ok(Root::Empty(Box::new(empty_root(section, work)?))),
                false => Ok(Root::None),
            }
        };
        let mut disks = Self {
            system,
            store,
            served: None,
            root: Root::None,
            reg_info: machine.reg_info.clone(),
            direct: true,
            warnings: Vec::new(),
        };
        match machine.mode() {
            Mode::BootLoader => {
                let section =
                    Section { layout: Some(section.layout.unwrap_or(Layout::None)), ..section.clone() };
                disks.direct = section.layout == Some(Layout::None);
                disks.build(&described(&section, epoch, work)?, work)?;
                disks.root = Root::Overlay;
            }
            Mode::StoreDisk => {
                let (description, registered) = store_disk(machine, epoch, work)?;
                if registered && disks.reg_info.is_none() {
                    disks.reg_info = Some(format!("{STORE_MOUNT}{REGISTRATION}"));
                }
                disks.build(&description, work)?;
                disks.root = root()?;
            }
            Mode::RootAlone => disks.root = root()?,
        }
        Ok(disks)
    }

    fn build(&mut self, description: &Description, work: &Work) -> Result<()> {
        let built = description.build(work)?;
        self.warnings = built.report.warnings.clone();
        self.served = Some(built);
        Ok(())
    }
}

/// Refuses what a mode has no place for.
fn check(machine: &Machine) -> Result<()> {
    let section = &machine.nixos;
    let refuse = |key: &'static str, what: String| Err(Error::new(Kind::Usage, what).about(key));
    if section.system.is_empty() {
        return Err(Error::new(Kind::Usage, "there is no system")
            .about("system")
            .expected("the store path of `config.system.build.toplevel`, or a link to it"));
    }
    if section.layout == Some(Layout::Zfs) {
        return refuse("layout", "the layout zfs is two disks, and a machine has one of a system".to_owned())
            .map_err(|error: Error| error.hint("zfs-single has all on one disk"));
    }
    if machine.mode() == Mode::BootLoader {
        if machine.root_disk == Some(false) {
            return refuse("root_disk", "the full disk of a system is its root".to_owned());
        }
        return Ok(());
    }
    let mode = machine.mode();
    let given = [
        ("layout", section.layout.is_some_and(|layout| layout != Layout::None)),
        ("boot_size", section.boot_size.is_some()),
        ("boot_loader", section.boot_loader.is_some_and(|loader| loader != BootLoader::None)),
        ("additional_space", section.additional_space.is_some()),
        ("contents", !section.contents.is_empty()),
        ("config_file", section.config_file.is_some()),
        ("channel", section.channel.is_some()),
        ("uki", section.uki.is_some()),
        ("generations", !section.generations.is_empty()),
        ("label", section.label.is_some()),
    ];
    if let Some((key, _)) = given.into_iter().find(|(_, given)| *given) {
        return refuse(key, format!("the mode {mode} has no full disk, which `{key}` is for"));
    }
    if section.disk_size == Some(DiskSize::Auto) {
        return refuse("disk_size", "an empty root has no contents that could decide its size".to_owned());
    }
    if machine.store_type.is_some() && mode == Mode::RootAlone {
        return refuse("store_type", format!("the mode {mode} has no store disk"));
    }
    Ok(())
}

/// The store path of the system. `system` may be a link to it.
fn system(section: &Section, store: &Store) -> Result<StorePath> {
    let written = &section.system;
    let system = store_path(written, store.root()).ok_or_else(|| {
        Error::new(Kind::Usage, "this is no system in the store")
            .about("system")
            .expected("the store path of `config.system.build.toplevel`, or a link to it")
            .found(crate::values::shown(written))
    })?;
    let init = store.host(&system).join("init");
    match std::fs::symlink_metadata(&init) {
        Ok(_) => Ok(system),
        Err(error) => Err(rooted(Error::io(Kind::Source, "the system is not in the store", &init, error))),
    }
}

/// Adds to an error about the store how its paths stay there.
fn rooted(error: Error) -> Error {
    error.hint(
        "the store may have been cleaned: build the system again, and keep it by a root, as `nix-store --realise --add-root` \
         and `nix build` make one",
    )
}

/// The description of a disk, by the seed that the same section has in a manifest.
fn described(section: &Section, epoch: Option<i64>, work: &Work) -> Result<Description> {
    let said = serde_json::json!({ "version": 1, "disk": {}, "nixos": section });
    let context = nixos::Context {
        seed: seed::derived(&said),
        id: None,
        dates: Dates::new(None, epoch),
        folder: PathBuf::from("."),
        settings: crate::container::Settings::default(),
        progress: work.progress.clone(),
    };
    nixos::describe(section, &context).map_err(|error| {
        let in_store =
            error.path().is_some_and(|path| path.components().any(|part| part.as_os_str() == "store"));
        if error.kind() == Kind::Source && in_store { rooted(error) } else { error }
    })
}

/// The disk of the closure, and whether it holds a registration.
fn store_disk(machine: &Machine, epoch: Option<i64>, work: &Work) -> Result<(Description, bool)> {
    let own = &machine.nixos;
    let section = Section {
        system: own.system.clone(),
        closure: own.closure.clone(),
        store_root: own.store_root.clone(),
        additional_paths: own.additional_paths.clone(),
        layout: Some(Layout::None),
        label: Some(STORE_LABEL.to_owned()),
        root_uuid: Some(Guid(STORE_UUID)),
        only_nix_store: Some(true),
        additional_space: Some(Bytes::ZERO),
        ..Section::default()
    };
    let mut description = described(&section, epoch, work)?;
    let closure = description.closure.as_ref().map(|expected| &expected.closure);
    let registration = match closure {
        Some(closure) if closure.unregistered().is_none() => Some(closure.registration()?),
        _ => None,
    };
    let registered = registration.is_some();
    let body = description.disk.partitions.first_mut().map(|partition| &mut partition.body);
    let Some(Body::Filesystem(spec, Contents::Entries(entries))) = body else {
        return Err(Error::bug("a store disk is not one filesystem"));
    };
    if let Some(text) = registration {
        let text = text.into_bytes().into();
        let meta = Meta::root(0o444, Time::seconds(1));
        entries.push(Entry::new(REGISTRATION, Payload::Text { text, meta }));
    }
    if machine.store_type == Some(StoreType::Erofs) {
        *spec = Spec::Erofs(erofs::Options {
            label: Some(STORE_LABEL.to_owned()),
            uuid: Some(Guid(STORE_UUID)),
            ..erofs::Options::default()
        });
    }
    Ok((description, registered))
}

/// An empty ext4.
fn empty_root(section: &Section, work: &Work) -> Result<Built> {
    let size = match section.disk_size {
        Some(DiskSize::Fixed(size)) => size,
        _ => ROOT_SIZE,
    };
    let options = ext4::Options {
        label: Some(ROOT_LABEL.to_owned()),
        uuid: section.root_uuid,
        ..ext4::Options::default()
    };
    let partition = Partition {
        size: Size::Fixed(size),
        ..Partition::new(Type::LINUX).filesystem(options, Contents::new())
    };
    let disk = Disk::bare(Seed::new(ROOT_SEED)).partition(partition);
    disk.build(work)
        .map_err(|error| error.without_subjects().or_at_key(&KeyPath::top("nixos").key("disk_size")))
}
