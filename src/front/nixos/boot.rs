//! What boots a system: the files of its loader on each partition, and the code that is embedded outside of
//! partitions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::layout::{Geometry, Role};
use super::options::{BootLoader, EntryNames, Layout};
use super::root::Entries;
use super::section::System;
use crate::boot::grub::options::{Options as Menu, State};
use crate::boot::grub::{self, Grub, Place, Search, bios, config};
use crate::boot::{
    Area, Firmware, Generations, Secrets, architecture, bootspec, extlinux, systemd_boot, uki,
};
use crate::disk::{BootArea, Size};
use crate::error::{Error, Kind, Result, Warning};
use crate::front::loader;
use crate::identity;
use crate::key::KeyPath;
use crate::nix::Store;
use crate::option::{option, setting};
use crate::progress::Progress;
use crate::table::Architecture;
use crate::units::{Bytes, MIB, Sectors};
use crate::values::VolumeId;

pub(super) use crate::boot::Files;

/// Bytes of a sector of these layouts.
const SECTOR: u64 = 512;
/// Where the first partition of the MBR layouts begins; the gap before it belongs to GRUB.
const FIRST_PARTITION: Sectors = Sectors::new(MIB / SECTOR);

/// The disk on which nixpkgs' images install GRUB (`boot.loader.grub.device`): the first one of a virtual
/// machine.
const BIOS_DEVICE: &str = "/dev/vda";

/// The ids by which loaders find filesystems.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ids {
    /// UUID of the root filesystem.
    pub(super) root: Uuid,
    /// Volume ids of the FATs.
    esp: Option<u32>,
    boot: Option<u32>,
}

impl Ids {
    /// The ids of a disk whose partitions have these keys.
    pub(super) fn new(geometry: &Geometry, keys: &[Uuid], root: Option<Uuid>) -> Self {
        let of = |role: Role| {
            let slot = geometry.slots.iter().zip(keys).find(|(slot, _)| slot.role == role);
            slot.map(|(_, key)| identity::filesystem_uuid(*key))
        };
        // A disk without a root leads to one on another disk, which is no filesystem with a UUID.
        let root = root.or_else(|| of(Role::Root)).unwrap_or_default();
        let volume = |role| of(role).map(identity::fat_volume_id);
        Self { root, esp: volume(Role::Esp), boot: volume(Role::Boot) }
    }

    /// The volume id of a FAT.
    pub(super) fn volume(&self, role: Role) -> Option<u32> {
        if role == Role::Esp { self.esp } else { self.boot }
    }
}

/// The parts of the disk that boot a system.
#[derive(Debug, Default)]
pub(super) struct Booted {
    /// Files of the EFI system partition.
    pub(super) esp: Files,
    /// Files of the FAT at /boot that is not the EFI system partition.
    pub(super) boot: Files,
    /// Files of /boot on the root.
    pub(super) root: Files,
    /// The code before the partitions.
    pub(super) area: BootArea,
    /// The contents of the BIOS boot partition.
    pub(super) core: Arc<[u8]>,
    pub(super) warnings: Vec<Warning>,
}

/// What boots `system` from a disk of this geometry.
pub(super) fn plan(system: &System, geometry: &Geometry, ids: &Ids, progress: &Progress) -> Result<Booted> {
    let mut booted = Booted::default();
    if system.boot_loader == BootLoader::None && system.uki.is_none() {
        return Ok(booted);
    }
    let store = system.store.clone().having(system.closure.paths().cloned());
    let generations = system.generations.read(|toplevel| {
        let read = bootspec::System::read(&store, &toplevel.to_path(), Secrets::Skip, &mut booted.warnings)?;
        read.check_init(&store)?;
        Ok(read)
    })?;
    let planner = Planner { system, geometry, ids, store, generations, progress };
    match system.boot_loader {
        BootLoader::None => {}
        BootLoader::SystemdBoot => planner.systemd_boot(&mut booted)?,
        BootLoader::Grub => planner.grub(&mut booted)?,
        BootLoader::Extlinux => planner.extlinux(&mut booted)?,
    }
    if let Some(image) = &system.uki {
        planner.uki(image, &mut booted)?;
    }
    Ok(booted)
}

/// What all loaders need to know.
struct Planner<'a> {
    system: &'a System,
    geometry: &'a Geometry,
    ids: &'a Ids,
    store: Store,
    generations: Generations,
    progress: &'a Progress,
}

/// The filesystem that has /boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BootOn {
    Esp,
    Boot,
    Root,
}

impl BootOn {
    const fn of(layout: Layout) -> Self {
        match layout {
            Layout::Efi | Layout::Hybrid | Layout::Zfs | Layout::ZfsSingle => Self::Esp,
            Layout::EfiXbootldr | Layout::LegacyBoot => Self::Boot,
            Layout::Legacy | Layout::LegacyGpt | Layout::None => Self::Root,
        }
    }

    const fn role(self) -> Role {
        match self {
            Self::Esp => Role::Esp,
            Self::Boot => Role::Boot,
            Self::Root => Role::Root,
        }
    }
}

/// Marks the partition that has /boot if U-Boot has to find extlinux.conf there. U-Boot looks at the first
/// partition only, unless others are marked (U-Boot, `include/config_distro_bootcmd.h`). nixpkgs marks none.
pub(super) fn mark(geometry: &mut Geometry, system: &System) {
    if system.boot_loader != BootLoader::Extlinux || system.compat {
        return;
    }
    let role = BootOn::of(system.layout).role();
    geometry.slots.iter_mut().filter(|slot| slot.role == role).for_each(|slot| slot.active = true);
}

impl Booted {
    fn on(&mut self, place: BootOn) -> &mut Files {
        match place {
            BootOn::Esp => &mut self.esp,
            BootOn::Boot => &mut self.boot,
            BootOn::Root => &mut self.root,
        }
    }
}

impl Planner<'_> {
    /// The processor according to the system; `None` if the system does not say.
    fn architecture(&self) -> Result<Option<Architecture>> {
        architecture::of_system(&self.generations.default_system().system)
            .map_err(|error| error.at(self.toplevel()))
    }

    /// The firmware that the EFI programs are for.
    fn firmware(&self) -> Result<Firmware> {
        self.generations.default_system().firmware().map_err(|error| error.at(self.toplevel()))
    }

    /// The path of the default system on this host.
    fn toplevel(&self) -> PathBuf {
        self.store.host_of(Path::new(&self.generations.default_system().toplevel))
    }

    /// Whether a BIOS starts the system. If UEFI firmware can start the layout too, a processor without a
    /// BIOS uses only that firmware, and the BIOS boot partition stays empty. A system that does not name its
    /// processor is taken to have a BIOS.
    ///
    /// # Errors
    /// [`Kind::Manifest`] for a layout that only a BIOS can start, and a processor without a BIOS.
    fn has_bios(&self) -> Result<bool> {
        let layout = self.system.layout;
        if !layout.has_bios() {
            return Ok(false);
        }
        match self.architecture()? {
            Some(other) if !architecture::has_bios(other) => match layout.has_esp() {
                true => Ok(false),
                false => Err(Error::new(
                    Kind::Manifest,
                    format!("the layout {layout} boots by a BIOS, which only x86 has"),
                )
                .expected("a system for i686 or x86_64")
                .found(format!("one for {other}"))
                .hint(match Firmware::of(other) {
                    Ok(_) => "choose the layout efi, or the boot loader extlinux",
                    Err(_) => "choose the boot loader extlinux: no loader for UEFI firmware of this processor is known",
                })),
            },
            _ => Ok(true),
        }
    }

    fn boot_on(&self) -> BootOn {
        BootOn::of(self.system.layout)
    }

    /// The number of the partition that has /boot, from 1.
    fn boot_partition(&self) -> Result<u32> {
        let role = self.boot_on().role();
        let mut numbered = (1..).zip(&self.geometry.slots);
        let found = numbered.find(|(_, slot)| slot.role == role);
        let found = found.map(|(number, slot)| slot.number.unwrap_or(number));
        found.ok_or_else(|| Error::bug("no partition of the layout has /boot"))
    }

    fn systemd_boot(&self, booted: &mut Booted) -> Result<()> {
        let loader = match &self.system.systemd_boot {
            Some(file) => file.clone(),
            None => self.own_systemd_boot()?,
        };
        let mut options = systemd_boot::Options::new(self.firmware()?, loader);
        options.naming = match self.system.entry_names {
            EntryNames::Hash => systemd_boot::Naming::Hash,
            EntryNames::Generation => systemd_boot::Naming::Generation,
        };
        options.timeout = self.system.timeout;
        let xbootldr = self.system.layout == Layout::EfiXbootldr;
        let trees = systemd_boot::build(&self.generations, &options, xbootldr)?;
        booted.esp.merge("", trees.esp)?;
        if let Some(files) = trees.xbootldr {
            booted.boot.merge("", files)?;
        }
        booted.warnings.extend(trees.warnings);
        Ok(())
    }

    /// The loader of the system's own systemd.
    fn own_systemd_boot(&self) -> Result<PathBuf> {
        let hint = || {
            format!(
                "give the file by {}; it is lib/systemd/boot/efi of nixpkgs' systemd",
                option("systemd_boot")
            )
        };
        let toplevel = Path::new(&self.generations.default_system().toplevel);
        let folder =
            self.system.store.resolve(&toplevel.join("systemd/lib/systemd/boot/efi")).map_err(|error| {
                Error::new(Kind::Source, "the system has no systemd-boot").because(error).hint(hint())
            })?;
        systemd_boot::loader(&folder.host, self.firmware()?).map_err(|error| error.hint(hint()))
    }

    /// A unified kernel image goes where systemd-boot looks for it. If no other program has to be started by
    /// the firmware itself, it also goes where the firmware looks.
    fn uki(&self, image: &Path, booted: &mut Booted) -> Result<()> {
        let name = image.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        let alone = matches!(self.system.boot_loader, BootLoader::None | BootLoader::Extlinux);
        if self.system.boot_loader == BootLoader::Grub {
            booted.warnings.push(Warning(
                "nothing starts the unified kernel image: GRUB does not look into EFI/Linux".to_owned(),
            ));
        }
        uki::place(&mut booted.esp, image, name, self.firmware()?, alone)
    }

    fn extlinux(&self, booted: &mut Booted) -> Result<()> {
        let mut options = extlinux::Options::new();
        options.timeout = self.system.timeout;
        let files = extlinux::build(&self.store, &self.generations, &options)?;
        let number = self.boot_partition()?;
        if self.system.layout == Layout::None {
            booted.warnings.push(Warning(
                "U-Boot looks for extlinux.conf on partitions: it finds the one of this bare filesystem once that is in one"
                    .to_owned(),
            ));
        }
        if number != 1 && !self.geometry.slots.iter().any(|slot| slot.active) {
            booted.warnings.push(Warning(format!(
                "U-Boot looks for extlinux.conf on partition 1 unless another one is marked, and /boot is on partition \
                 {number}: with {} it is marked",
                setting("compat", false)
            )));
        }
        for generation in
            self.generations.system_profile(None).iter().filter(|generation| generation.system.xen.is_some())
        {
            booted.warnings.push(Warning(format!(
                "generation {} has Xen, which this menu does not start: its entry starts Linux alone",
                generation.number
            )));
        }
        booted.on(self.boot_on()).merge("", files)
    }

    fn grub(&self, booted: &mut Booted) -> Result<()> {
        let layout = self.system.layout;
        let on = self.boot_on();
        let mut boot = Files::new();
        let mut shared = None;
        let has_bios = self.has_bios()?;
        if has_bios {
            let grub = self.find_grub("i386-pc")?;
            let made = bios::build(&grub, &self.home()?, self.core_area()?, self.progress)?;
            booted.area.code = made.embedding.boot_code.into();
            match layout {
                Layout::Legacy | Layout::LegacyBoot => booted.area.gap = made.embedding.core.into(),
                _ => booted.core = made.embedding.core.into(),
            }
            boot.merge("", made.files)?;
            shared = Some((grub, "i386-pc".to_owned()));
        }
        if layout.has_esp() {
            let firmware = self.firmware()?;
            let platform = firmware.grub();
            let grub = self.find_grub(&platform)?;
            let names = grub::efi::Names::default();
            let (place, filesystem) = (self.boot_place()?, self.filesystem());
            let made = grub::efi::build(&grub, firmware, &place, &filesystem, &names, self.progress)?;
            booted.esp.merge("", made.esp)?;
            boot.merge("", made.files)?;
            shared = Some((grub, platform));
        }
        let mut state = None;
        if let Some((grub, platform)) = shared {
            boot.merge("", grub.shared(false)?)?;
            state = self.state(&grub, &platform, has_bios)?;
        } else if self.system.grub.is_some() || self.system.grub_mkimage.is_some() {
            booted.warnings.push(Warning(format!(
                "nothing of the GRUB that is given is in the image: with the layout {layout} a GRUB from elsewhere reads the \
                 menu"
            )));
        }
        boot.merge("", config::build(&self.store, &self.generations, &self.menu(state)?)?)?;
        booted.on(on).merge("", boot)
    }

    /// The menu. If /boot is on the root, the kernels stay in the store.
    fn menu(&self, state: Option<State>) -> Result<Menu> {
        let store = (self.boot_on() == BootOn::Root).then(|| Place {
            search: Search::Uuid(self.ids.root.to_string()),
            path: "/nix/store".to_owned(),
        });
        let mut options = Menu::new(self.boot_place()?, store);
        options.timeout = self.system.timeout;
        options.state = state;
        Ok(options)
    }

    /// The state that nixpkgs' installer would record for this GRUB, so that the first nixos-rebuild on the
    /// machine does not install it again. `None` if the GRUB does not give its name and version.
    fn state(&self, grub: &Grub, platform: &str, has_bios: bool) -> Result<Option<State>> {
        let Some((name, version)) = grub.release(platform)? else { return Ok(None) };
        let layout = self.system.layout;
        let efi = match (has_bios, layout.has_esp()) {
            (true, true) => "both",
            (false, true) => "only",
            _ => "no",
        };
        Ok(Some(State {
            name,
            version,
            efi: efi.to_owned(),
            devices: vec![if has_bios { BIOS_DEVICE } else { "nodev" }.to_owned()],
            efi_mount_point: if layout == Layout::EfiXbootldr { "/efi" } else { "/boot" }.to_owned(),
            arguments: Vec::new(),
        }))
    }

    /// /boot as GRUB finds it.
    fn boot_place(&self) -> Result<Place> {
        let role = self.boot_on().role();
        if role == Role::Root {
            let search = Search::Uuid(self.ids.root.to_string());
            return Ok(Place { search, path: "/boot".to_owned() });
        }
        let id = self.ids.volume(role).ok_or_else(|| Error::bug("the filesystem of /boot has no id"))?;
        let search = Search::Uuid(VolumeId(id).to_string());
        Ok(Place { search, path: "/".to_owned() })
    }

    fn filesystem(&self) -> grub::Filesystem {
        if self.boot_on() == BootOn::Root { grub::Filesystem::Ext } else { grub::Filesystem::Fat }
    }

    /// /boot as a GRUB for BIOS finds it: on the disk that it was loaded from.
    fn home(&self) -> Result<bios::Home> {
        let table = match self.system.layout {
            Layout::Legacy | Layout::LegacyBoot => bios::Table::Mbr,
            _ => bios::Table::Gpt,
        };
        Ok(bios::Home {
            table,
            partition: self.boot_partition()?,
            filesystem: self.filesystem(),
            path: self.boot_place()?.path,
        })
    }

    /// Where the core image goes.
    fn core_area(&self) -> Result<Area> {
        let bios = self.geometry.slots.iter().find(|slot| slot.role == Role::Bios);
        let Some(slot) = bios else {
            let first = Sectors::new(1);
            return Ok(Area { first, length: FIRST_PARTITION.saturating_sub(first) });
        };
        match (slot.start, slot.size) {
            (Some(start), Size::Fixed(size)) => {
                let sectors = |bytes: Bytes| Sectors::new(bytes.get() / SECTOR);
                Ok(Area { first: sectors(start), length: sectors(size) })
            }
            _ => Err(Error::bug("a BIOS boot partition without place")),
        }
    }

    /// The GRUB that has the files of `platform`: the given one, or else one in the closure.
    fn find_grub(&self, platform: &str) -> Result<Grub> {
        if let Some(folder) = &self.system.grub {
            let mkimage = self
                .system
                .grub_mkimage
                .clone()
                .or_else(|| self.closure_mkimage())
                .or_else(loader::mkimage_on_path);
            return Grub::new(folder, mkimage.as_deref());
        }
        let store = &self.system.store;
        for path in self.system.closure.paths() {
            let folder = store.host(path).join("lib/grub");
            if folder.join(platform).is_dir() {
                let own = folder.join("../../bin/grub-mkimage");
                let own = own.is_file().then_some(own);
                let given = self.system.grub_mkimage.clone();
                let mkimage =
                    given.or(own).or_else(|| self.closure_mkimage()).or_else(loader::mkimage_on_path);
                return Grub::new(&folder, mkimage.as_deref());
            }
        }
        let (nixpkgs, debian) = match platform {
            "i386-pc" => ("grub2", "grub-pc-bin"),
            _ => ("grub2_efi", "grub-efi-amd64-bin"),
        };
        Err(Error::new(Kind::Source, format!("no store path of the closure has GRUB's files for {platform}"))
            .expected(format!("lib/grub/{platform} in one of {} store paths", self.system.closure.len()))
            .hint(format!(
                "give the folder that holds {platform} by {}: lib/grub of nixpkgs' {nixpkgs}, or /usr/lib/grub of Debian's {debian}",
                option("grub")
            )))
    }

    /// grub-mkimage in the closure.
    fn closure_mkimage(&self) -> Option<PathBuf> {
        let paths = self.system.closure.paths();
        paths
            .map(|path| self.system.store.host(path).join("bin/grub-mkimage"))
            .find(|program| program.is_file())
    }
}

/// Adds the files of a loader below the directory `above` of a filesystem.
pub(super) fn place(entries: &mut Entries, path: &KeyPath, above: &str, files: &Files) {
    for (name, file) in files.iter() {
        entries.push(path, format!("{above}{name}"), loader::payload(file, entries.time()));
    }
}
