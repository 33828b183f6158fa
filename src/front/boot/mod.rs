//! What boots a system whose root is one of the partitions: from its files, and what the user wants, to the files of a loader.
//!
//! | part | module |
//! |---|---|
//! | the kernels of the root, and its os-release | `find` |
//! | the files of each loader | `loaders` |
//! | GRUB, whose files may be those of the root | `grub` |
//! | fstab and what else the system needs | `system` |
//!
//! docs/formats/boot.md lists what is written.

mod find;
mod grub;
mod limine;
mod loaders;
mod system;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::boot::Timeout;
use crate::boot::grub::Filesystem;
use crate::disk::boot::{Boot, Booted};
use crate::disk::{Body, Contents, Disk, Entry, Guid, Partition, Payload, Piece};
use crate::error::{Error, Kind, Result};
use crate::filesystem::Spec;
use crate::identity;
use crate::key::KeyPath;
use crate::progress::Progress;
use crate::table::{Architecture, Scheme, Type};
use crate::tree::{Meta, Time, View};
use crate::values::{VolumeId, value, words};

/// What starts a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    /// systemd-boot, from UEFI firmware.
    SystemdBoot,
    /// GRUB, from a BIOS, UEFI firmware or both.
    Grub,
    /// A file that U-Boot and syslinux read.
    Extlinux,
    /// A unified kernel image, from UEFI firmware.
    Uki,
    /// Limine, from UEFI firmware, a BIOS or both.
    Limine,
}

words!(
    Loader, "a boot loader is",
    "systemd-boot" => SystemdBoot, "grub" => Grub, "extlinux" => Extlinux, "uki" => Uki, "limine" => Limine
);

value!(Loader, text, "Loader", "\"systemd-boot\", \"grub\", \"extlinux\", \"uki\" or \"limine\"", {
    "description": "What starts the kernel.",
    "enum": ["systemd-boot", "grub", "extlinux", "uki", "limine"]
});

/// How the kernel finds the root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RootBy {
    /// By the GUID of its partition, which needs no initrd.
    #[default]
    Partuuid,
    /// By the label of its filesystem.
    Label,
    /// It is not told.
    None,
}

words!(RootBy, "the kernel finds the root by", "partuuid" => Partuuid, "label" => Label, "none" => None);

value!(RootBy, text, "RootBy", "\"partuuid\", \"label\" or \"none\"", {
    "description": "How the kernel finds the root.",
    "enum": ["partuuid", "label", "none"]
});

/// What is wanted.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) loader: Loader,
    /// Whether GRUB, or Limine where that is the loader, starts the system from a BIOS, too.
    pub(super) bios: Option<bool>,
    /// The kernel on this machine, where it is not that of the root.
    pub(super) kernel: Option<PathBuf>,
    pub(super) initrds: Vec<PathBuf>,
    pub(super) devicetree: Option<PathBuf>,
    pub(super) cmdline: String,
    /// What `{roothash:NAME}` in it stands for.
    pub(super) values: BTreeMap<String, Piece>,
    pub(super) root: RootBy,
    pub(super) title: Option<String>,
    pub(super) timeout: Timeout,
    pub(super) fstab: bool,
    pub(super) grow: bool,
    /// Whether the identity of the machine that is in the contents stays.
    pub(super) keep_machine_id: bool,
    pub(super) grub: Option<PathBuf>,
    pub(super) grub_mkimage: Option<PathBuf>,
    pub(super) systemd_boot: Option<PathBuf>,
    pub(super) stub: Option<PathBuf>,
    pub(super) limine: Option<PathBuf>,
}

/// A partition with a filesystem, as loaders and the kernel see it.
#[derive(Clone, Debug)]
struct Volume {
    /// Its position in the disk.
    number: usize,
    /// Its number in the table.
    slot: u32,
    kind: Type,
    spec: Spec,
    /// As blkid prints it.
    uuid: String,
    /// `PARTUUID=…`; `None` where that follows from the bytes of the disk.
    partuuid: Option<String>,
}

impl Wish {
    /// Whether the command line itself tells the kernel its root.
    fn says_root(&self) -> bool {
        self.cmdline.split_whitespace().any(|word| word.starts_with("root="))
    }
}

impl Volume {
    fn of(disk: &Disk, number: usize, slots: &[u32]) -> Option<Self> {
        let partition = disk.partitions.get(number)?;
        let Body::Filesystem(spec, Contents::Entries(_)) = &partition.body else { return None };
        let key = disk.partition_key(number);
        let own = identity::filesystem_uuid(key);
        let uuid = match spec {
            Spec::Ext4(options) | Spec::Ext3(options) | Spec::Ext2(options) => {
                options.uuid.map_or(own, |uuid| uuid.0).to_string()
            }
            Spec::Vfat(options) => {
                options.volume_id.unwrap_or_else(|| VolumeId(identity::fat_volume_id(own))).to_string()
            }
            _ => String::new(),
        };
        let slot = slots.get(number).copied()?;
        let partuuid = match (disk.scheme, &partition.guid) {
            (Scheme::None, _) | (Scheme::Gpt, Guid::Derived { .. }) => None,
            (Scheme::Gpt, _) => Some(format!("PARTUUID={key}")),
            (Scheme::Mbr, _) => Some(format!("PARTUUID={:08x}-{slot:02x}", disk.ids().1)),
        };
        Some(Self { number, slot, kind: partition.kind, spec: spec.clone(), uuid, partuuid })
    }

    /// Whether UEFI firmware finds its loader here.
    fn is_esp(&self) -> bool {
        self.kind.is_esp() && matches!(self.spec, Spec::Vfat(_))
    }

    /// The filesystem as GRUB calls it, where GRUB reads every one that is written here.
    fn of_grub(&self) -> Option<Filesystem> {
        match self.spec {
            Spec::Ext4(_) | Spec::Ext3(_) | Spec::Ext2(_) => Some(Filesystem::Ext),
            Spec::Vfat(_) => Some(Filesystem::Fat),
            _ => None,
        }
    }
}

/// A filesystem with the files of a loader, and the directory above them.
#[derive(Clone, Copy, Debug)]
struct Seat<'a> {
    volume: &'a Volume,
    /// `/boot`, or nothing for a filesystem of its own.
    above: &'static str,
}

/// What boots a disk.
#[derive(Debug)]
pub(super) struct Plan {
    /// The key that errors are about.
    key: KeyPath,
    wish: Wish,
    scheme: Scheme,
    time: Time,
    architecture: Option<Architecture>,
    volumes: Vec<Volume>,
    /// The place of the root among them.
    root: usize,
    /// The BIOS boot partition, by its position in the disk.
    core: Option<usize>,
    bios: bool,
}

impl Plan {
    /// What boots the system of partition `root` of `disk`.
    ///
    /// # Errors
    /// [`Kind::Manifest`] for a partition that is no root, and a disk without a place for what the loader needs.
    pub(super) fn new(
        wish: Wish,
        disk: &Disk,
        root: usize,
        (architecture, key): (Option<Architecture>, &KeyPath),
    ) -> Result<Self> {
        let slots = disk.numbers()?;
        let count = disk.partitions.len();
        let volumes: Vec<Volume> = (0..count).filter_map(|number| Volume::of(disk, number, &slots)).collect();
        let refuse = |what: &str| Error::new(Kind::Manifest, what);
        let root = volumes.iter().position(|volume| volume.number == root && volume.spec.holds_files());
        let root = root.ok_or_else(|| {
            refuse("the root is a partition with a filesystem").expected("`filesystem` and `contents` of it")
        })?;
        let is_core = |partition: &Partition| partition.kind == Type::BIOS_BOOT;
        let core = disk.partitions.iter().position(is_core);
        let can = core.is_some() || disk.scheme == Scheme::Mbr;
        let esp = volumes.iter().any(Volume::is_esp);
        let alone = wish.loader == Loader::Grub || (wish.loader == Loader::Limine && !esp);
        let bios = wish.bios.unwrap_or(alone && can);
        let plan = Self {
            key: key.clone(),
            wish,
            scheme: disk.scheme,
            time: disk.time,
            architecture,
            volumes,
            root,
            core,
            bios,
        };
        plan.check(disk, can).map(|()| plan)
    }

    /// Refuses a disk without a place for what the loader needs.
    fn check(&self, disk: &Disk, can: bool) -> Result<()> {
        let loader = self.wish.loader;
        let refuse = |what: &str| Error::new(Kind::Manifest, what);
        let of_bios = if loader == Loader::Limine { "Limine" } else { "GRUB" };
        if self.bios && !can {
            return Err(refuse(&format!("a BIOS finds no {of_bios} on this disk"))
                .expected("a partition of type bios-boot and size 1MiB, or table = \"mbr\""));
        }
        if let Some(other) =
            self.architecture.filter(|it| self.bios && !["x86", "x86-64"].contains(&it.name()))
        {
            return Err(refuse("no BIOS starts a system of this processor").found(other.name()));
        }
        if self.bios && disk.sector_size != 512 {
            return Err(refuse("a BIOS boots no disk with sectors of 4096 bytes"));
        }
        if self.bios && !disk.boot.code.is_empty() {
            return Err(refuse(&format!("{of_bios} brings the boot code of the disk"))
                .expected(format!("either `boot_code` or {of_bios} for a BIOS")));
        }
        if self.bios && loader == Loader::Limine && self.fat().is_none() {
            return Err(refuse("there is no place for the files of Limine")
                .expected("a partition of type esp or xbootldr with filesystem = { type = \"vfat\" }"));
        }
        let of_firmware =
            matches!(loader, Loader::SystemdBoot | Loader::Uki) || (loader == Loader::Limine && !self.bios);
        if of_firmware && self.esp().is_none() {
            return Err(refuse("UEFI firmware finds no loader on this disk")
                .expected("a partition of type esp with filesystem = { type = \"vfat\" }")
                .found(format!("the loader {loader}")));
        }
        if loader == Loader::Grub && !self.bios && self.esp().is_none() {
            return Err(refuse("nothing starts GRUB on this disk")
                .expected("a partition of type bios-boot, one of type esp with a vfat, or both"));
        }
        let grub = loader == Loader::Grub || (self.bios && loader != Loader::Limine);
        if self.wish.cmdline.contains("{roothash:") && grub {
            return Err(
                refuse("a root hash is not known to a menu of GRUB").hint("choose uki or systemd-boot")
            );
        }
        if loader == Loader::Extlinux && self.wish.initrds.len() > 1 {
            return Err(refuse("extlinux loads one initrd").found(self.wish.initrds.len()));
        }
        self.command_line().map(|_| ())
    }

    /// The partition that extlinux is on, by its position in the disk.
    pub(super) fn boots_from(&self) -> Option<usize> {
        self.seat().ok().map(|seat| seat.volume.number)
    }

    fn root(&self) -> Result<&Volume> {
        self.volumes.get(self.root).ok_or_else(|| Error::bug("a system has no root"))
    }

    /// The EFI system partition, if it has a FAT.
    fn esp(&self) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.is_esp())
    }

    /// The FAT with the files of Limine: the EFI system partition, or the one at /boot. Other filesystems that Limine reads
    /// change with its releases.
    fn fat(&self) -> Option<&Volume> {
        let fat = |volume: &&Volume| matches!(volume.spec, Spec::Vfat(_));
        self.esp().or_else(|| self.xbootldr().filter(fat))
    }

    /// The partition at /boot beside it.
    fn xbootldr(&self) -> Option<&Volume> {
        let is =
            |volume: &&Volume| volume.kind.is_system() && !volume.kind.is_esp() && volume.of_grub().is_some();
        self.volumes.iter().find(is)
    }

    /// Where GRUB and extlinux keep their files: the partition at /boot, the root itself, or the EFI system partition.
    fn seat(&self) -> Result<Seat<'_>> {
        if let Some(volume) = self.xbootldr() {
            return Ok(Seat { volume, above: "" });
        }
        let root = self.root()?;
        if root.of_grub().is_some() {
            return Ok(Seat { volume: root, above: "/boot" });
        }
        let volume = self.esp().ok_or_else(|| {
            Error::new(Kind::Manifest, "the loader cannot read the filesystem of the root")
                .expected("ext4 or vfat, or another partition of type xbootldr or esp with one of them")
                .found(root.spec.name())
        })?;
        Ok(Seat { volume, above: "" })
    }

    /// What the kernel is told.
    fn command_line(&self) -> Result<String> {
        let cmdline = self.wish.cmdline.trim();
        if self.wish.says_root() {
            return Ok(cmdline.to_owned());
        }
        let root = self.root()?;
        let way = if root.spec.is_writable() { "rw" } else { "ro" };
        let name = match self.wish.root {
            RootBy::None => return Ok(cmdline.to_owned()),
            RootBy::Label => match root.spec.label() {
                "" => {
                    return Err(Error::new(Kind::Manifest, "the filesystem of the root has no label")
                        .expected("`label` in its options"));
                }
                label
                    if label.chars().any(|c| c.is_whitespace() || c.is_control() || "\"'\\".contains(c)) =>
                {
                    return Err(Error::new(
                        Kind::Manifest,
                        "a command line cannot tell the label of the root",
                    )
                    .expected("a label without blanks, quotes and backslashes, or root = \"partuuid\"")
                    .found(crate::values::shown(label)));
                }
                label => format!("LABEL={label}"),
            },
            RootBy::Partuuid => self.named(root)?,
        };
        Ok(format!("root={name} {way} {cmdline}").trim_end().to_owned())
    }

    /// How the kernel and fstab name a partition, whatever is in it.
    fn named(&self, volume: &Volume) -> Result<String> {
        volume.partuuid.clone().ok_or_else(|| {
            let error = Error::new(Kind::Manifest, "the GUID of the partition is not known before its bytes");
            match self.scheme {
                Scheme::None => error.why("a disk without a table has no partitions"),
                _ => {
                    error.hint("give the partition a `guid`, or `root = \"none\"` and what the kernel needs")
                }
            }
        })
    }

    /// A made file's payload on a partition; root hashes in it are filled in.
    fn text(&self, text: &str, volume: &Volume, mode: u16) -> Result<Payload> {
        let meta = Meta::root(mode, self.time);
        let pieces = self.pieces(text)?;
        match pieces.as_slice() {
            [Piece::Bytes(text)] => Ok(Payload::Text { text: text.clone(), meta }),
            [] => Ok(Payload::Text { text: [].into(), meta }),
            _ if volume.number == self.root()?.number => {
                Err(Error::new(Kind::Manifest, "the root hash of a partition cannot be in that partition")
                    .hint("put the loader on a partition of type esp or xbootldr"))
            }
            _ => Ok(Payload::Template { pieces: pieces.into(), meta }),
        }
    }

    fn pieces(&self, text: &str) -> Result<Vec<Piece>> {
        let value = |name: &str| self.wish.values.get(name).cloned();
        Piece::split(text, |name| value(name).ok_or_else(|| Error::bug("a root hash was not looked up")))
    }
}

impl Boot for Plan {
    fn root(&self) -> usize {
        self.volumes.get(self.root).map_or(0, |volume| volume.number)
    }

    fn needs(&self) -> BTreeSet<usize> {
        let of = |piece: &Piece| match piece {
            Piece::Value { of, .. } => Some(*of),
            Piece::Bytes(_) => None,
        };
        self.wish.values.values().filter_map(of).collect()
    }

    fn plan(&self, root: View<'_>, progress: &Progress) -> Result<Booted> {
        let making = Making { plan: self, view: root, progress, booted: Booted::default() };
        making.all().map_err(|error| error.or_at_key(&self.key))
    }
}

/// What boots a disk, while it is made.
struct Making<'a> {
    plan: &'a Plan,
    view: View<'a>,
    progress: &'a Progress,
    booted: Booted,
}

impl Making<'_> {
    fn all(mut self) -> Result<Booted> {
        let release = find::release(self.view, self.plan.wish.title.as_deref())?;
        let kernels = self.kernels()?;
        match self.plan.wish.loader {
            Loader::SystemdBoot => self.systemd_boot(&release, &kernels)?,
            Loader::Grub => {}
            Loader::Extlinux => self.extlinux(&release, &kernels)?,
            Loader::Uki => self.uki(&release, &kernels)?,
            Loader::Limine => self.limine(&release, &kernels)?,
        }
        let loader = self.plan.wish.loader;
        if loader == Loader::Grub || (self.plan.bios && loader != Loader::Limine) {
            self.grub(&release, &kernels)?;
        }
        self.system()?;
        Ok(self.booted)
    }

    /// Adds an entry to a partition. Loaders share kernels, so one that is there already stays. In the root it goes where links
    /// above it lead to: /boot may be one.
    fn add(&mut self, volume: &Volume, target: impl Into<String>, payload: Payload) {
        let mut target = target.into();
        if self.plan.root().is_ok_and(|root| root.number == volume.number) {
            target = self.view.real(&target).unwrap_or(target);
        }
        let entries = self.booted.entries.entry(volume.number).or_default();
        if entries.iter().all(|entry| entry.target != target) {
            entries.push(Entry::new(target, payload));
        }
    }
}
