//! The geometry of the layouts: the partitions, their places and their names.
//!
//! Source: nixpkgs `nixos/lib/make-disk-image.nix`, measured with parted 3.5 and sgdisk 1.0.9
//! (docs/formats/nixos.md). `compat` gives what nixpkgs' tools write, odd choices included; without it, the
//! odd choices are mended.

use uuid::{Uuid, uuid};

use super::options::Layout;
use crate::disk::Size;
use crate::error::{Error, Kind, Result};
use crate::table::{Architecture, Attribute, Scheme, Type};
use crate::units::{Bytes, MIB};
use crate::values::{DiskId, DiskSize};

/// GUID of the disk. nixpkgs passes a GUID that is a digit short, and sgdisk makes this of it.
const DISK: Uuid = uuid!("97fd5997-f390-0b4a-a3f8-d106c1723aea");
/// GUID of the first partition.
const FIRST: Uuid = uuid!("1c06f03b-704e-4657-b9cd-681a087a2fdc");
/// GUID of the second partition, unless that is the root of efi.
const SECOND: Uuid = uuid!("970c694f-afd0-4b99-b750-cdb7a329ab6f");
/// GUID of the root partition, and UUID of the filesystem in it (`rootGPUID`, `rootFSUID`).
pub(super) const ROOT: Uuid = uuid!("f222513b-ded1-49fa-b591-20ce86a2fe7f");

/// Where the EFI system partition begins.
const ESP_START: Bytes = Bytes::new(8 * MIB);
/// Where it begins where the root is on ZFS.
const ZFS_ESP_START: Bytes = Bytes::new(2 * MIB);
/// The type that parted gives to a partition without flags on a GPT (EFI_BASIC_DATA).
const BASIC_DATA: Uuid = uuid!("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7");
/// What OpenZFS keeps behind a pool (lib/libefi/rdwr_efi.c, EFI_MIN_RESV_SIZE).
pub(super) const RESERVED: Bytes = Bytes::new(8 * MIB);
/// Where the EFI system partition of efixbootldr ends.
const ESP_END: Bytes = Bytes::new(100 * MIB);
/// The BIOS boot partition of hybrid: from the first sector after the table, 34, to sector 2048. That is one
/// sector more than intended, because the end is inclusive.
const HYBRID_BIOS_START: Bytes = Bytes::new(34 * 512);
const HYBRID_BIOS_COMPAT: Bytes = Bytes::new((2048 - 34 + 1) * 512);
const HYBRID_BIOS: Bytes = Bytes::new((2048 - 34) * 512);
/// The smallest boot partition that gets FAT32. With clusters of one sector, its 65,525 clusters (Microsoft's
/// FAT specification, section 3.5) and two FATs of 512 KiB take 33 MiB.
const LEAST_FAT32: Bytes = Bytes::new(34 * MIB);

/// The attribute of a GPT partition for the one to boot from (UEFI specification, table 5.8).
const LEGACY_BOOT: Attribute = Attribute::Bit(2);

/// What a partition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The EFI system partition.
    Esp,
    /// A FAT at /boot that is not the EFI system partition.
    Boot,
    /// The place of GRUB's core image.
    Bios,
    /// The root.
    Root,
    /// What OpenZFS keeps behind a pool that has a disk alone.
    Reserved,
    /// One more partition that the section asks for, by its number there.
    More(usize),
}

impl Role {
    /// The label of its FAT; empty if it has no FAT.
    pub(super) const fn volume_label(self) -> &'static str {
        match self {
            Self::Esp => "ESP",
            Self::Boot => "BOOT",
            Self::Bios | Self::Root | Self::Reserved | Self::More(_) => "",
        }
    }

    /// What messages call its partition, if it has a FAT: the keys of a system do not name partitions.
    pub(super) fn name(self) -> Option<String> {
        let label = self.volume_label();
        (!label.is_empty()).then(|| format!("the partition {label}"))
    }
}

/// A partition of a layout.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) role: Role,
    pub(super) kind: Type,
    pub(super) label: &'static str,
    pub(super) guid: Option<Uuid>,
    pub(super) start: Option<Bytes>,
    pub(super) size: Size,
    /// Whether it is marked as the partition to boot from.
    pub(super) active: bool,
    /// Its slot in the table, if that is not the first free one.
    pub(super) number: Option<u32>,
}

/// The disk of a layout.
#[derive(Clone, Debug)]
pub(super) struct Geometry {
    pub(super) table: Scheme,
    pub(super) guid: Option<DiskId>,
    pub(super) size: Option<Bytes>,
    pub(super) slots: Vec<Slot>,
}

/// What decides a geometry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) layout: Layout,
    pub(super) boot_size: Bytes,
    /// The size of the EFI system partition, if it has one of its own.
    pub(super) esp_size: Option<Bytes>,
    pub(super) disk_size: DiskSize,
    pub(super) gpt_uuid: Option<Uuid>,
    /// As nixpkgs has it, odd choices included.
    pub(super) compat: bool,
    /// The processor of the system, if it is known. Without `compat` the type of the root partition depends
    /// on it.
    pub(super) architecture: Option<Architecture>,
}

impl Layout {
    /// The table of the root's disk.
    const fn table(self) -> Scheme {
        match self {
            Self::Legacy | Self::LegacyBoot => Scheme::Mbr,
            Self::None => Scheme::None,
            _ => Scheme::Gpt,
        }
    }
}

impl Wish {
    /// The partitions.
    ///
    /// # Errors
    /// [`Kind::Manifest`] where `boot_size` leaves no space for the boot partition.
    pub(super) fn geometry(&self) -> Result<Geometry> {
        let boot_end = self.boot_end()?;
        let root_size = match self.disk_size {
            DiskSize::Auto => Size::Auto,
            DiskSize::Fixed(_) => Size::Fill,
        };
        let kind = self.root_type()?;
        let root = |label, guid: Option<Uuid>, start| Slot {
            role: Role::Root,
            kind,
            label: if self.compat { label } else { "root" },
            guid,
            start,
            size: root_size,
            active: false,
            number: None,
        };
        let named = self.gpt_uuid.or(self.compat.then_some(ROOT));
        let esp = |end| self.fat(Role::Esp, "esp", "ESP", Some(FIRST), ESP_START, end);
        let slots = match self.layout {
            Layout::Legacy => vec![Slot { label: "", ..root("", None, Some(Bytes::new(MIB))) }],
            Layout::LegacyBoot => vec![
                Slot {
                    kind: Type::Mbr(0x0c),
                    active: true,
                    ..self.fat(Role::Boot, "esp", "", None, Bytes::new(MIB), boot_end)?
                },
                Slot { label: "", ..root("", None, Some(boot_end)) },
            ],
            Layout::LegacyGpt => {
                // nixpkgs gives the root's GUID to a third partition, which does not exist.
                let guid = if self.compat { Some(SECOND) } else { named };
                let bios = self.bios(FIRST, Bytes::new(MIB), Bytes::new(MIB))?;
                vec![bios, root("primary", guid, Some(Bytes::new(2 * MIB)))]
            }
            Layout::Efi => vec![esp(boot_end)?, root("primary", named, Some(boot_end))],
            Layout::EfiXbootldr => vec![
                esp(self.esp_end())?,
                self.fat(Role::Boot, "xbootldr", "BOOT", Some(SECOND), self.esp_end(), boot_end)?,
                root("ROOT", named, Some(boot_end)),
            ],
            Layout::Hybrid => {
                let size = if self.compat { HYBRID_BIOS_COMPAT } else { HYBRID_BIOS };
                let bios = self.bios(SECOND, HYBRID_BIOS_START, size)?;
                vec![esp(boot_end)?, bios, root("primary", named, Some(boot_end))]
            }
            Layout::None => vec![Slot { label: "", ..root("", None, None) }],
            Layout::Zfs => return self.pool_disk(root_size),
            Layout::ZfsSingle => {
                let pool = Slot { kind: self.zfs_type("zfs")?, ..root("primary", None, Some(boot_end)) };
                self.boot_slots(boot_end, "primary")?.into_iter().chain([pool]).collect()
            }
        };
        let table = self.layout.table();
        // nixpkgs leaves the ids of disks with ZFS to chance.
        let is_named = self.compat && table == Scheme::Gpt && !self.layout.has_pool();
        let guid = is_named.then_some(DiskId::Guid(DISK));
        let size = self.given_size();
        Ok(Geometry { table, guid, size, slots })
    }

    fn given_size(&self) -> Option<Bytes> {
        match self.disk_size {
            DiskSize::Auto => None,
            DiskSize::Fixed(size) => Some(size),
        }
    }

    /// The disk that boots, where the pool has one alone.
    ///
    /// # Errors
    /// As [`Wish::geometry`].
    pub(super) fn boot_disk(&self) -> Result<Geometry> {
        // parted leaves a MiB at the end.
        let end = self.boot_end()?.saturating_sub(Bytes::new(MIB));
        let slots = self.boot_slots(end, "ESP")?;
        Ok(Geometry { table: Scheme::Gpt, guid: None, size: Some(self.boot_end()?), slots })
    }

    /// The boot partitions of a system on ZFS.
    fn boot_slots(&self, end: Bytes, label: &'static str) -> Result<Vec<Slot>> {
        let bios = self.bios(FIRST, Bytes::new(MIB), Bytes::new(MIB))?;
        let esp = self.fat(Role::Esp, "esp", label, None, ZFS_ESP_START, end)?;
        Ok(vec![Slot { guid: None, ..bios }, Slot { kind: self.zfs_type("esp")?, ..esp }])
    }

    /// The type of a partition for which nixpkgs sets none, so that parted takes its own.
    fn zfs_type(&self, kind: &str) -> Result<Type> {
        if self.compat { Ok(Type::Guid(BASIC_DATA)) } else { Type::parse(kind, None) }
    }

    /// The disk of the pool as `zpool create` lays it out.
    fn pool_disk(&self, size: Size) -> Result<Geometry> {
        let pool = Slot {
            role: Role::Root,
            kind: Type::parse("zfs", None)?,
            label: "",
            guid: None,
            start: Some(Bytes::new(MIB)),
            size,
            active: false,
            number: None,
        };
        let reserved = Slot {
            role: Role::Reserved,
            kind: Type::parse("solaris-reserved", None)?,
            start: None,
            size: Size::Fixed(RESERVED),
            number: Some(9),
            ..pool.clone()
        };
        let size = self.given_size();
        Ok(Geometry { table: Scheme::Gpt, guid: None, size, slots: vec![pool, reserved] })
    }

    /// Where the EFI system partition of efixbootldr ends.
    fn esp_end(&self) -> Bytes {
        self.esp_size.map_or(ESP_END, |size| (ESP_START + size).round_up(MIB))
    }

    /// Where the boot partition ends. nixpkgs rounds to the next whole MiB even if the size is whole already.
    fn boot_end(&self) -> Result<Bytes> {
        let own = |start: Bytes| self.esp_size.map(|size| (start + size).round_up(MIB));
        match self.layout {
            Layout::Efi | Layout::Hybrid => {
                if let Some(end) = own(ESP_START) {
                    return Ok(end);
                }
            }
            // parted leaves a MiB at the end of the disk.
            Layout::Zfs => {
                if let Some(end) = own(ZFS_ESP_START) {
                    return Ok(end + Bytes::new(MIB));
                }
            }
            Layout::ZfsSingle => {
                if let Some(end) = own(ZFS_ESP_START) {
                    return Ok(end);
                }
            }
            _ => {}
        }
        let end = match self.compat && !self.layout.has_pool() {
            true => self.boot_size.round_down(MIB) + Bytes::new(MIB),
            false => self.boot_size.round_up(MIB),
        };
        let start = match self.layout {
            Layout::Efi | Layout::Hybrid => ESP_START,
            Layout::EfiXbootldr => self.esp_end(),
            Layout::LegacyBoot => Bytes::new(MIB),
            Layout::Zfs => ZFS_ESP_START + Bytes::new(MIB),
            Layout::ZfsSingle => ZFS_ESP_START,
            Layout::Legacy | Layout::LegacyGpt | Layout::None => return Ok(end),
        };
        if end <= start {
            return Err(Error::new(Kind::Manifest, "there is no space for the boot partition")
                .expected(format!("more than {start}, where the partition begins"))
                .found(self.boot_size)
                .why("this is where the partition ends, counted from the start of the disk"));
        }
        Ok(end)
    }

    /// A FAT from `start` to `end`.
    fn fat(
        &self,
        role: Role,
        kind: &str,
        label: &'static str,
        guid: Option<Uuid>,
        start: Bytes,
        end: Bytes,
    ) -> Result<Slot> {
        Ok(Slot {
            role,
            kind: Type::parse(kind, None)?,
            label,
            guid: guid.filter(|_| self.compat),
            start: Some(start),
            size: Size::Fixed(end.saturating_sub(start)),
            active: false,
            number: None,
        })
    }

    fn bios(&self, guid: Uuid, start: Bytes, size: Bytes) -> Result<Slot> {
        Ok(Slot {
            role: Role::Bios,
            kind: Type::parse("bios-boot", None)?,
            label: if self.compat { "no-fs" } else { "bios-boot" },
            guid: self.compat.then_some(guid),
            start: Some(start),
            size: Size::Fixed(size),
            active: false,
            number: None,
        })
    }

    /// nixpkgs makes every root a generic Linux partition. systemd-gpt-auto-generator can find one whose type
    /// names the processor.
    fn root_type(&self) -> Result<Type> {
        match (self.compat, self.layout, self.architecture) {
            (false, Layout::Efi | Layout::EfiXbootldr | Layout::Hybrid | Layout::LegacyGpt, Some(_)) => {
                Type::parse("root", self.architecture)
            }
            _ => Type::parse("linux", None),
        }
    }
}

impl Slot {
    /// Whether its FAT is large enough for FAT32. nixpkgs leaves the choice to mkfs.fat, which takes FAT16
    /// below 512 MiB. UEFI firmware is tested with FAT32.
    pub(super) fn takes_fat32(&self) -> bool {
        matches!(self.size, Size::Fixed(size) if size >= LEAST_FAT32)
    }

    /// The attributes of the table.
    pub(super) fn attributes(&self, table: Scheme) -> Vec<Attribute> {
        match (self.active, table) {
            (true, Scheme::Gpt) => vec![LEGACY_BOOT],
            (true, Scheme::Mbr) => vec![Attribute::Active],
            _ => Vec::new(),
        }
    }
}
