//! The meaning of the `nixos` section: defaults and contradictions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::Context;
use super::layout::{Geometry, ROOT, Wish};
use super::options::{BootLoader, EntryNames, Layout};
use super::schema::Section;
use super::zfs::Pool;
use crate::boot::{Generations, Timeout, architecture};
use crate::container::Format;
use crate::error::{Error, Kind, Result};
use crate::host::{elsewhere, links};
use crate::key::KeyPath;
use crate::nix::{Closure, Nix, Store, StorePath};
use crate::option::option;
use crate::table::Architecture;
use crate::units::{Bytes, MIB};
use crate::values::{DiskSize, Guid};

/// Where the boot partition ends (`bootSize`).
const BOOT_SIZE: Bytes = Bytes::new(256 * MIB);
/// Where the boot partition ends if the root is on ZFS.
const ZFS_BOOT_SIZE: Bytes = Bytes::new(1024 * MIB);
/// The space that is left free (`additionalSpace`).
const ADDITIONAL_SPACE: Bytes = Bytes::new(512 * MIB);

/// A system to install, with every default filled in.
#[derive(Debug)]
pub(super) struct System {
    pub(super) store: Store,
    pub(super) closure: Arc<Closure>,
    /// The system profile, by the store paths of its systems.
    pub(super) generations: Generations<StorePath>,
    pub(super) channel: Option<StorePath>,
    pub(super) layout: Layout,
    pub(super) boot_size: Bytes,
    pub(super) esp_size: Option<Bytes>,
    pub(super) disk_size: DiskSize,
    pub(super) additional_space: Bytes,
    /// The pool that has the root, where one has.
    pub(super) pool: Option<Pool>,
    pub(super) label: String,
    pub(super) root_uuid: Option<Uuid>,
    pub(super) gpt_uuid: Option<Uuid>,
    pub(super) only_nix_store: bool,
    pub(super) boot_loader: BootLoader,
    pub(super) systemd_boot: Option<PathBuf>,
    pub(super) grub: Option<PathBuf>,
    pub(super) grub_mkimage: Option<PathBuf>,
    pub(super) uki: Option<PathBuf>,
    pub(super) timeout: Timeout,
    pub(super) entry_names: EntryNames,
    pub(super) format: Option<Format>,
    pub(super) compat: bool,
    pub(super) architecture: Option<Architecture>,
}

impl Layout {
    /// The mount points of the boot partitions.
    pub(super) const fn mount_points(self) -> &'static [&'static str] {
        match self {
            Self::EfiXbootldr => &["/boot", "/efi"],
            Self::Efi | Self::Hybrid | Self::LegacyBoot | Self::Zfs | Self::ZfsSingle => &["/boot"],
            Self::Legacy | Self::LegacyGpt | Self::None => &[],
        }
    }

    /// The default boot loader.
    const fn usual_loader(self) -> BootLoader {
        match self {
            Self::Efi | Self::EfiXbootldr => BootLoader::SystemdBoot,
            Self::Legacy | Self::LegacyBoot | Self::LegacyGpt | Self::Hybrid => BootLoader::Grub,
            Self::Zfs | Self::ZfsSingle => BootLoader::Grub,
            Self::None => BootLoader::None,
        }
    }

    /// Whether the layout has a place for a loader.
    const fn takes(self, loader: BootLoader) -> bool {
        match loader {
            BootLoader::SystemdBoot => self.has_esp(),
            // GRUB can be a menu alone, which a GRUB from elsewhere reads.
            BootLoader::Grub | BootLoader::Extlinux | BootLoader::None => true,
        }
    }
}

/// The section while it is read.
struct Reading<'a> {
    context: &'a Context,
    written: &'a Section,
    path: &'a KeyPath,
}

/// The store paths that the section names.
struct Paths {
    system: StorePath,
    generations: Vec<StorePath>,
    additional: Vec<StorePath>,
    channel: Option<StorePath>,
}

impl Paths {
    /// The systems, each with the key that names it.
    fn systems(&self) -> impl Iterator<Item = (&'static str, &StorePath)> {
        std::iter::once(("system", &self.system))
            .chain(self.generations.iter().map(|path| ("generations", path)))
    }

    /// All of them.
    fn named(&self) -> impl Iterator<Item = (&'static str, &StorePath)> {
        self.systems()
            .chain(self.channel.iter().map(|path| ("channel", path)))
            .chain(self.additional.iter().map(|path| ("additional_paths", path)))
    }
}

impl System {
    /// Makes sense of the section, and reads the closure.
    pub(super) fn read(written: &Section, context: &Context, path: &KeyPath) -> Result<Self> {
        Reading { context, written, path }.read()
    }

    /// Where its partitions lie.
    pub(super) fn geometry(&self) -> Result<Geometry> {
        self.wish().geometry()
    }

    /// Where the partitions of the disk that boots lie, if that is another one.
    pub(super) fn boot_disk(&self) -> Result<Option<Geometry>> {
        if self.layout == Layout::Zfs { self.wish().boot_disk().map(Some) } else { Ok(None) }
    }

    const fn wish(&self) -> Wish {
        let Self { layout, boot_size, esp_size, disk_size, gpt_uuid, compat, architecture, .. } = *self;
        Wish { layout, boot_size, esp_size, disk_size, gpt_uuid, compat, architecture }
    }
}

impl Reading<'_> {
    fn refuse(&self, key: &'static str, what: impl Into<String>) -> Error {
        Error::new(Kind::Manifest, what).at_key(&self.path.key(key))
    }

    fn place<T>(&self, key: &'static str, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.at_key(&self.path.key(key)))
    }

    fn read(&self) -> Result<System> {
        let written = self.written;
        let only_nix_store = written.only_nix_store.unwrap_or(false);
        let layout = written.layout.unwrap_or_default();
        let boot_loader = self.boot_loader(layout, only_nix_store)?;
        self.exclude(layout, boot_loader, only_nix_store)?;
        let store = Store::new(
            written.store_root.as_deref().map_or(PathBuf::from("/"), |root| self.context.path(root)),
        );
        let paths = self.paths(&store)?;
        let closure = self.closure(&store, paths.named().collect(), only_nix_store)?;
        if !only_nix_store {
            for (key, path) in paths.systems() {
                self.place(key, toplevel(path, &store))?;
            }
        }
        let additional_space = written.additional_space.unwrap_or(ADDITIONAL_SPACE);
        let pool = if layout.has_pool() {
            let auto = written.disk_size.unwrap_or_default() == DiskSize::Auto;
            let pool = Pool::new(written, layout, auto.then_some(additional_space));
            Some(pool.map_err(|error| error.at_key(&self.path.key("datasets")))?)
        } else {
            None
        };
        let Paths { system, generations, channel, .. } = paths;
        let compat = written.compat.unwrap_or(true);
        let id = |key: &'static str, id: Option<Guid>| self.place(key, id.map(Guid::id).transpose());
        let (root_uuid, gpt_uuid) = (id("root_uuid", written.root_uuid)?, id("gpt_uuid", written.gpt_uuid)?);
        Ok(System {
            architecture: processor(&store, &system)?,
            store,
            closure: Arc::new(closure),
            generations: Generations::profile(generations, system, self.context.dates.time.seconds)?,
            channel,
            layout,
            boot_size: written.boot_size.unwrap_or(if layout.has_pool() { ZFS_BOOT_SIZE } else { BOOT_SIZE }),
            esp_size: written.esp_size,
            disk_size: written.disk_size.unwrap_or_default(),
            additional_space,
            pool,
            label: written
                .label
                .clone()
                .unwrap_or_else(|| if only_nix_store { "nix-store" } else { "nixos" }.to_owned()),
            root_uuid: root_uuid.or(gpt_uuid.filter(|_| compat)).or(compat.then_some(ROOT)),
            gpt_uuid,
            only_nix_store,
            boot_loader,
            systemd_boot: written.systemd_boot.as_deref().map(|path| self.context.path(path)),
            grub: written.grub.as_deref().map(|path| self.context.path(path)),
            grub_mkimage: written.grub_mkimage.as_deref().map(|path| self.context.path(path)),
            uki: written.uki.as_deref().map(|path| self.context.path(path)),
            timeout: written.timeout.unwrap_or_default(),
            entry_names: written.entry_names.unwrap_or_default(),
            format: written.format,
            compat,
        })
    }

    fn paths(&self, store: &Store) -> Result<Paths> {
        let written = self.written;
        let list = |key: &'static str, paths: &[String]| {
            let paths = paths.iter().enumerate();
            paths
                .map(|(number, text)| {
                    let path = self.path.key(key).index(number);
                    self.store_path(text, store).map_err(|error| error.at_key(&path))
                })
                .collect::<Result<Vec<_>>>()
        };
        Ok(Paths {
            system: self.place("system", self.store_path(&written.system, store))?,
            generations: list("generations", &written.generations)?,
            additional: list("additional_paths", &written.additional_paths)?,
            channel: match &written.channel {
                Some(channel) => Some(self.place("channel", self.store_path(channel, store))?),
                None => None,
            },
        })
    }

    fn boot_loader(&self, layout: Layout, only_nix_store: bool) -> Result<BootLoader> {
        let loader = match self.written.boot_loader {
            Some(loader) => loader,
            None if only_nix_store => BootLoader::None,
            None => layout.usual_loader(),
        };
        if layout.takes(loader) {
            return Ok(loader);
        }
        let layouts = [
            "legacy",
            "legacy+boot",
            "legacy+gpt",
            "efi",
            "efixbootldr",
            "hybrid",
            "none",
            "zfs",
            "zfs-single",
        ];
        let fit =
            layouts.into_iter().filter(|name| name.parse().is_ok_and(|layout: Layout| layout.takes(loader)));
        Err(self
            .refuse("boot_loader", format!("the layout {layout} has no place for {loader}"))
            .expected(format!("layout {}", fit.collect::<Vec<_>>().join(", ")))
            .why("systemd-boot is started by UEFI firmware from an EFI system partition"))
    }

    /// Refuses keys that have no meaning together with others.
    fn exclude(&self, layout: Layout, loader: BootLoader, only_nix_store: bool) -> Result<()> {
        let written = self.written;
        let fixed = matches!(written.disk_size, Some(DiskSize::Fixed(_)));
        let has_boot = !layout.mount_points().is_empty();
        let (grub, alone) = (loader == BootLoader::Grub, option("only_nix_store"));
        let (has_pool, zfs, other) = (layout.has_pool(), "a root on ZFS", "a root that is not on ZFS");
        self.exclude_partitions(layout, only_nix_store)?;
        self.refuse_any(&[
            ("additional_space", written.additional_space.is_some(), !fixed, "a disk whose size is given"),
            ("boot_size", written.boot_size.is_some(), has_boot, "a layout without boot partition"),
            (
                "gpt_uuid",
                written.gpt_uuid.is_some(),
                matches!(layout, Layout::LegacyGpt) || (layout.has_esp() && !has_pool),
                "a layout without GPT, or one of ZFS",
            ),
            ("fs_type", written.fs_type.is_some(), !has_pool, zfs),
            ("label", written.label.is_some(), !has_pool, zfs),
            ("root_uuid", written.root_uuid.is_some(), !has_pool, zfs),
            ("only_nix_store", only_nix_store, !has_pool, zfs),
            ("pool", written.pool.is_some(), has_pool, other),
            ("pool_properties", written.pool_properties.is_some(), has_pool, other),
            ("filesystem_properties", written.filesystem_properties.is_some(), has_pool, other),
            ("datasets", !written.datasets.is_empty(), has_pool, other),
            ("via", written.via.is_some(), has_pool, other),
            (
                "systemd_boot",
                written.systemd_boot.is_some(),
                loader == BootLoader::SystemdBoot,
                "another boot loader",
            ),
            (
                "entry_names",
                written.entry_names.is_some(),
                loader == BootLoader::SystemdBoot,
                "another boot loader",
            ),
            ("grub", written.grub.is_some(), grub, "another boot loader"),
            ("grub_mkimage", written.grub_mkimage.is_some(), grub, "another boot loader"),
            ("uki", written.uki.is_some(), layout.has_esp(), "a layout without EFI system partition"),
            ("timeout", written.timeout.is_some(), loader != BootLoader::None, "no boot loader"),
            ("contents", !written.contents.is_empty(), !only_nix_store, &alone),
            ("config_file", written.config_file.is_some(), !only_nix_store, &alone),
            ("channel", written.channel.is_some(), !only_nix_store, &alone),
            ("generations", !written.generations.is_empty(), !only_nix_store, &alone),
            (
                "boot_loader",
                written.boot_loader.is_some(),
                !only_nix_store || loader == BootLoader::None,
                &alone,
            ),
        ])
    }

    /// Refuses keys of partitions that have no meaning together with others.
    fn exclude_partitions(&self, layout: Layout, only_nix_store: bool) -> Result<()> {
        let written = self.written;
        let more = !layout.has_pool() && !only_nix_store && layout != Layout::None;
        self.refuse_any(&[
            (
                "boot_size",
                written.boot_size.is_some() && written.esp_size.is_some(),
                layout == Layout::EfiXbootldr,
                &format!("{}, after which the boot partition is as long as it says", option("esp_size")),
            ),
            (
                "esp_size",
                written.esp_size.is_some(),
                layout.has_esp(),
                "a layout without EFI system partition",
            ),
            (
                "partitions",
                !written.partitions.is_empty(),
                more,
                &format!(
                    "ZFS, where they are datasets, with the layout none and with {}",
                    option("only_nix_store")
                ),
            ),
        ])
    }

    /// Refuses the first key that is there and does not fit: its name, whether it is there, whether it fits, and with what it
    /// does not.
    fn refuse_any(&self, rules: &[(&'static str, bool, bool, &str)]) -> Result<()> {
        match rules.iter().find(|(_, there, fits, _)| *there && !fits) {
            Some((key, _, _, with)) => Err(self
                .refuse(key, format!("{} means nothing with {with}", option(key)))
                .hint("leave it out")),
            None => Ok(()),
        }
    }

    /// The store path that `text` names: `text` itself, or the target of a link on this host (`./result`).
    fn store_path(&self, text: &str, store: &Store) -> Result<StorePath> {
        let trimmed = text.trim_end_matches('/');
        let parsed = trimmed.parse::<StorePath>();
        if parsed.is_ok() || text.starts_with(crate::nix::STORE) || trimmed.is_empty() {
            return parsed;
        }
        let path = self.context.path(trimmed);
        // The target of a link into the store is enough, wherever the store lies on this host. Other links
        // are followed on this host.
        if let Some(path) = links::chain(&path).skip(1).find_map(|to| to.to_str()?.parse().ok()) {
            return Ok(path);
        }
        let real = path.canonicalize().map_err(|error| {
            let error = Error::io(Kind::Source, "the store path does not exist", &path, error);
            match elsewhere(text) {
                Some((why, hint)) => error.why(why).hint(hint),
                None => error,
            }
        })?;
        let root = store.root().canonicalize().unwrap_or_else(|_| store.root().to_owned());
        // For a store in another root, the path inside that root.
        let inside = real.strip_prefix(&root).map_or(real.clone(), |rest| Path::new("/").join(rest));
        let inside =
            inside.to_str().map(str::to_owned).unwrap_or_else(|| crate::text::printable_path(&inside));
        inside.parse().map_err(|error: Error| error.at(&path))
    }

    fn closure(&self, store: &Store, named: Vec<(&'static str, &StorePath)>, bare: bool) -> Result<Closure> {
        let mut closure = match self.written.closure.as_deref() {
            None | Some("auto") => {
                let roots: Vec<PathBuf> = named.iter().map(|(_, path)| path.to_path()).collect();
                let nix = Nix::new("nix-store", store.clone());
                self.place("closure", nix.closure(&roots, &self.context.progress))?
            }
            Some(file) => self.place("closure", Closure::load(&self.context.path(file)))?,
        };
        for (key, path) in named {
            if !closure.contains(path) {
                let what = if key == "system" { "the system" } else { "a store path" };
                return Err(self
                    .refuse(key, format!("{what} is not in the closure"))
                    .expected(format!("{path} among its {} store paths", closure.len()))
                    .hint(format!(
                        "make the closure of this path too (closureInfo's rootPaths), or leave {} out where nix is there",
                        option("closure")
                    )));
            }
        }
        if !bare && let Some(path) = closure.unregistered() {
            return Err(self
                .refuse(
                    "closure",
                    "the closure lists names only, and Nix's database needs hashes and references",
                )
                .found(format!("nothing but the name of {path}"))
                .hint("give the directory that closureInfo makes, or its registration"));
        }
        self.place("closure", closure.present(store))?;
        if !bare {
            self.place("closure", closure.read_derivations(store))?;
        }
        Ok(closure)
    }
}

/// Refuses a store path that is not a system, since nothing in it would start.
fn toplevel(path: &StorePath, store: &Store) -> Result<()> {
    let init = store.host(path).join("init");
    match std::fs::symlink_metadata(&init) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::io(Kind::Source, "this is no system of NixOS", &init, error)
            .hint("a system is what `config.system.build.toplevel` makes")),
    }
}

/// The processor that a system is for, from its file `system`: `x86_64-linux`. An unknown one gives `None`:
/// it only matters when something boots, and that code asks again. A system of another kernel is refused.
fn processor(store: &Store, system: &StorePath) -> Result<Option<Architecture>> {
    let file = store.host(system).join("system");
    match std::fs::read_to_string(&file) {
        Ok(text) if text.trim().is_empty() => Ok(None),
        Ok(text) => {
            architecture::of_linux(text.trim()).map_err(|error| error.at(&file))?;
            Ok(architecture::of_system(text.trim()).ok().flatten())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(Kind::Source, "cannot read a part of the system", file, error)),
    }
}
