//! What a manifest means: defaults, and what does not fit together, decided in one place.
//!
//! Nothing here looks at a disk or a host file. What depends on contents, such as sizes and the places of partitions, is
//! decided by whoever builds.

mod entry;
mod filesystem;

use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Manifest;
use super::locate::KeyPath;
use super::schema;
use super::values::{DiskId, DiskSize, PartitionSize};
use crate::container::Format;
use crate::error::{Error, Result, Warning};
use crate::identity::Seed;
use crate::nix::verify::Expected;
use crate::table::{Architecture, Attribute, Scheme, Type};
use crate::tree::Time;
use crate::units::{Bytes, u64_of};

pub(crate) use entry::source_entry;
pub use entry::{Entry, What};
pub use filesystem::{Ext4, Filesystem, Swap, Vfat};

/// A disk, with every default filled in that does not depend on contents.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Its table.
    pub table: Scheme,
    /// Its size.
    pub size: DiskSize,
    /// Bytes in a logical sector: 512 or 4096.
    pub sector_size: u32,
    /// First usable sector of a GPT, where it was given.
    pub first_lba: Option<u64>,
    /// What ids derive from, where it was given.
    pub seed: Option<Uuid>,
    /// GUID or signature, where it was given; of the kind that belongs to the table.
    pub guid: Option<DiskId>,
    /// Numbers of the partitions in a hybrid MBR; empty for none.
    pub hybrid: Vec<u32>,
    /// Format of the output, where it was given.
    pub format: Option<Format>,
    /// What dates what.
    pub dates: Dates,
    /// What a BIOS runs that lies in no partition.
    pub boot: BootArea,
    /// The store paths of a NixOS system, where they are, and what Nix knows of them.
    pub closure: Option<Expected>,
    /// What was asked for and cannot be kept.
    pub warnings: Vec<Warning>,
    /// The partitions in the order of the manifest.
    pub partitions: Vec<Partition>,
}

/// What a BIOS runs that lies in no partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootArea {
    /// The boot code at the start of the first sector, at most 440 bytes; what follows belongs to the table.
    pub code: Arc<[u8]>,
    /// What begins at the second sector and ends before the first partition of an MBR.
    pub gap: Arc<[u8]>,
}

impl Disk {
    /// The GUID of partition `number`, counted from 0, or what stands for it: what the ids of its filesystem derive from.
    /// It is the one that is given, or one derived from its type and from how many of that type stand before it.
    #[must_use]
    pub fn partition_key(&self, seed: Seed, number: usize) -> Uuid {
        let Some(partition) = self.partitions.get(number) else { return Uuid::nil() };
        let earlier = self.partitions.iter().take(number);
        let earlier = u64_of(earlier.filter(|other| other.kind == partition.kind).count());
        partition.guid.unwrap_or_else(|| match (self.table, partition.kind.mbr(), partition.kind.guid()) {
            (Scheme::Mbr, Some(byte), _) | (_, Some(byte), None) => seed.mbr_partition_key(byte, earlier),
            (_, _, guid) => seed.partition_guid(guid.unwrap_or_default(), earlier),
        })
    }

    /// What ids derive from: the seed that is given, or else one derived from what `manifest` says, a UUID of version 8
    /// from the first 16 bytes of the SHA-256 of its canonical form.
    #[must_use]
    pub fn seed(&self, manifest: &Manifest) -> Seed {
        Seed::new(self.seed.unwrap_or_else(|| {
            let digest: [u8; 32] = Sha256::digest(manifest.canonical()).into();
            let (first, _) = digest.split_at(16);
            uuid::Builder::from_custom_bytes(first.try_into().unwrap_or_default()).into_uuid()
        }))
    }
}

/// What dates what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dates {
    /// The time of whatever the writer dates itself.
    pub time: Time,
    /// Times of files above this become this; `None` leaves them.
    pub latest: Option<Time>,
}

/// A partition.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Where it stands in the manifest.
    pub path: KeyPath,
    /// What it is for.
    pub kind: Type,
    /// Its name in a GPT; empty for none.
    pub label: String,
    /// Its GUID, where it was given.
    pub guid: Option<Uuid>,
    /// Its slot, where it was given.
    pub number: Option<u32>,
    /// Where it begins, where that was given.
    pub start: Option<Bytes>,
    /// How large it is.
    pub size: PartitionSize,
    /// Its attributes.
    pub attributes: Vec<Attribute>,
    /// Whether it is a logical partition of an MBR.
    pub logical: bool,
    /// What it holds.
    pub body: Body,
}

/// What a partition holds.
#[derive(Clone, Debug)]
pub enum Body {
    /// Nothing.
    Empty,
    /// The bytes of a file.
    Image(PathBuf),
    /// These bytes, and nothing behind them.
    Bytes(Arc<[u8]>),
    /// A filesystem, and what that holds.
    Filesystem(Filesystem, Vec<Entry>),
}

/// Makes sense of `manifest`, which has no `nixos` section. `epoch` is the value of SOURCE_DATE_EPOCH, where it is set:
/// the time where the manifest gives none, and the reason to clamp the times of files.
///
/// # Errors
/// [`Kind::Manifest`](crate::error::Kind::Manifest) with the line for what does not fit together.
pub fn resolve(manifest: &Manifest, epoch: Option<i64>) -> Result<Disk> {
    let mut whole = whole(manifest, epoch)?;
    let architecture = architecture(manifest)?;
    let reading =
        Reading { manifest, table: whole.table, size: whole.size, dates: whole.dates, architecture };
    whole.partitions = (0..)
        .zip(&manifest.written.partition)
        .map(|(number, partition)| reading.partition(partition, &KeyPath::top("partition").index(number)))
        .collect::<Result<_>>()?;
    Ok(whole)
}

/// What `manifest` says of the disk as a whole, without partitions.
///
/// # Errors
/// As [`resolve`].
pub(crate) fn whole(manifest: &Manifest, epoch: Option<i64>) -> Result<Disk> {
    let written = &manifest.written;
    let disk = &written.disk;
    let table = disk.table.unwrap_or_default();
    let time = Time::seconds(disk.time.or(epoch).unwrap_or(0));
    let dates = Dates { time, latest: epoch.map(|_| time) };
    if written.version != 1 {
        return Err(manifest
            .refuse(&KeyPath::top("version"), "the manifest is of a version that is not known here")
            .expected("version = 1")
            .found(written.version));
    }
    belongs(manifest, table)?;
    Ok(Disk {
        table,
        size: disk.size.unwrap_or_default(),
        sector_size: sector_size(manifest)?,
        first_lba: disk.first_lba,
        seed: disk.seed.map(|seed| seed.0),
        guid: if written.nixos.is_some() { disk.guid } else { disk_id(manifest, table)? },
        hybrid: disk.hybrid.clone().unwrap_or_default(),
        format: disk.format,
        dates,
        boot: BootArea::default(),
        closure: None,
        warnings: Vec::new(),
        partitions: Vec::new(),
    })
}

/// Refuses keys of the disk that mean nothing with its table, or beside a NixOS system.
fn belongs(manifest: &Manifest, table: Scheme) -> Result<()> {
    let disk = &manifest.written.disk;
    let top = KeyPath::top("disk");
    for (key, there, tables) in [
        ("guid", disk.guid.is_some(), [Scheme::Gpt, Scheme::Mbr].as_slice()),
        ("hybrid", disk.hybrid.is_some(), &[Scheme::Gpt]),
        ("first_lba", disk.first_lba.is_some(), &[Scheme::Gpt]),
        ("sector_size", disk.sector_size.is_some_and(|size| size != 512), &[Scheme::Gpt, Scheme::None]),
    ] {
        if there && !tables.contains(&table) {
            return Err(foreign(manifest, &top, key, table));
        }
    }
    if manifest.written.nixos.is_none() {
        return Ok(());
    }
    if !manifest.written.partition.is_empty() {
        let path = KeyPath::top("partition").index(0);
        return Err(manifest
            .refuse(&path, "a NixOS system brings its own partitions")
            .expected("either [nixos] or [[partition]]")
            .hint("choose them by `layout`, or describe all of them without [nixos]"));
    }
    for (key, there, instead) in [
        ("table", disk.table.is_some(), "layout"),
        ("size", disk.size.is_some(), "disk_size"),
        ("architecture", disk.architecture.is_some(), "nothing: the system says it"),
        ("hybrid", disk.hybrid.is_some(), "layout = \"hybrid\""),
        (
            "sector_size",
            disk.sector_size.is_some_and(|size| size != 512),
            "nothing: nixpkgs' layouts have sectors of 512 bytes",
        ),
        ("first_lba", disk.first_lba.is_some(), "nothing: nixpkgs' layouts begin at sector 34"),
    ] {
        if there {
            let error = manifest.refuse(&top.key(key), format!("`{key}` means nothing beside [nixos]"));
            return Err(error.expected(instead));
        }
    }
    Ok(())
}

/// The processor that partition types stand for, where it is given.
fn architecture(manifest: &Manifest) -> Result<Option<Architecture>> {
    let path = KeyPath::top("disk").key("architecture");
    let name = manifest.written.disk.architecture.as_deref();
    name.map(|name| name.parse().map_err(|error| manifest.place(error, &path))).transpose()
}

fn sector_size(manifest: &Manifest) -> Result<u32> {
    match manifest.written.disk.sector_size {
        None => Ok(512),
        Some(size @ (512 | 4096)) => Ok(size),
        Some(size) => Err(manifest
            .refuse(&KeyPath::top("disk").key("sector_size"), "no disk has sectors of this size")
            .expected("512 or 4096")
            .found(size)),
    }
}

/// The id of the disk, of the kind that its table holds.
///
/// # Errors
/// [`Kind::Manifest`](crate::error::Kind::Manifest) where it is of another kind.
pub(crate) fn disk_id(manifest: &Manifest, table: Scheme) -> Result<Option<DiskId>> {
    let expected = match (manifest.written.disk.guid, table) {
        (Some(DiskId::Signature(_)), Scheme::Gpt) => "a UUID, for a GPT",
        (Some(DiskId::Guid(_)), Scheme::Mbr) => "8 hex digits such as 0x2178694e, for an MBR",
        (id, _) => return Ok(id),
    };
    let path = KeyPath::top("disk").key("guid");
    Err(manifest.refuse(&path, "the disk's id is of the wrong kind").expected(expected))
}

/// The error for a key that the table has no place for.
fn foreign(manifest: &Manifest, path: &KeyPath, key: &'static str, table: Scheme) -> Error {
    manifest
        .refuse(&path.key(key), format!("`{key}` means nothing with table = \"{table}\""))
        .hint("leave it out")
}

/// A manifest that is being made sense of.
struct Reading<'a> {
    manifest: &'a Manifest,
    table: Scheme,
    size: DiskSize,
    dates: Dates,
    architecture: Option<Architecture>,
}

impl Reading<'_> {
    fn partition(&self, written: &schema::Partition, path: &KeyPath) -> Result<Partition> {
        for (key, there, tables) in [
            ("type", written.kind.is_some(), [Scheme::Gpt, Scheme::Mbr].as_slice()),
            ("label", written.label.is_some(), &[Scheme::Gpt]),
            ("guid", written.guid.is_some(), &[Scheme::Gpt]),
            ("number", written.number.is_some(), &[Scheme::Gpt, Scheme::Mbr]),
            ("start", written.start.is_some(), &[Scheme::Gpt, Scheme::Mbr]),
            ("attributes", written.attributes.is_some(), &[Scheme::Gpt, Scheme::Mbr]),
            ("logical", written.logical.is_some(), &[Scheme::Mbr]),
        ] {
            if there && !tables.contains(&self.table) {
                return Err(foreign(self.manifest, path, key, self.table));
            }
        }
        let body = self.body(written, path)?;
        Ok(Partition {
            path: path.clone(),
            kind: self.kind(written, &body, path)?,
            label: written.label.clone().unwrap_or_default(),
            guid: written.guid.map(|guid| guid.0),
            number: written.number,
            start: written.start,
            size: self.partition_size(written, &body, path)?,
            attributes: self.attributes(written, path)?,
            logical: written.logical.unwrap_or(false),
            body,
        })
    }

    /// The type of a partition; one that is not given follows from what it holds.
    fn kind(&self, written: &schema::Partition, body: &Body, path: &KeyPath) -> Result<Type> {
        let usual = match body {
            Body::Filesystem(Filesystem::Swap(_), _) => "swap",
            _ => "linux",
        };
        let name = written.kind.as_deref().unwrap_or(usual);
        Type::parse(name, self.architecture).map_err(|error| self.manifest.place(error, &path.key("type")))
    }

    fn attributes(&self, written: &schema::Partition, path: &KeyPath) -> Result<Vec<Attribute>> {
        let path = path.key("attributes");
        let attributes = written.attributes.as_deref().unwrap_or_default().iter().enumerate();
        attributes
            .map(|(number, text)| {
                text.0.parse().map_err(|error| self.manifest.place(error, &path.index(number)))
            })
            .collect()
    }

    fn body(&self, written: &schema::Partition, path: &KeyPath) -> Result<Body> {
        let refuse = |key: &'static str, what: &str| self.manifest.refuse(&path.key(key), what);
        if let Some(image) = &written.image {
            if written.filesystem.is_some() || written.contents.is_some() {
                let error = refuse("image", "the partition holds a ready image and something else");
                return Err(error.expected("either image, or filesystem and contents"));
            }
            if image.is_empty() || image.contains('\0') {
                return Err(refuse("image", "`image` is not a path"));
            }
            return Ok(Body::Image(self.manifest.path(image)));
        }
        let Some(filesystem) = &written.filesystem else {
            return match written.contents {
                Some(_) => Err(refuse("contents", "there are contents, but no filesystem to hold them")
                    .hint("add filesystem = { type = \"ext4\" } or another")),
                None => Ok(Body::Empty),
            };
        };
        let size = written.size.unwrap_or(PartitionSize::Auto);
        let resolved = filesystem::filesystem(self.manifest, filesystem, &path.key("filesystem"), size)?;
        let contents = written.contents.as_deref().unwrap_or_default();
        if matches!(resolved, Filesystem::Swap(_)) && written.contents.is_some() {
            return Err(refuse("contents", "swap holds no files"));
        }
        let path = path.key("contents");
        let entries = contents
            .iter()
            .enumerate()
            .map(|(number, written)| {
                entry::entry(self.manifest, written, &path.index(number), self.dates, filesystem.kind)
            })
            .collect::<Result<_>>()?;
        Ok(Body::Filesystem(resolved, entries))
    }

    /// The size of a partition; only contents give one by themselves.
    fn partition_size(
        &self,
        written: &schema::Partition,
        body: &Body,
        path: &KeyPath,
    ) -> Result<PartitionSize> {
        let size = match (written.size, self.table, self.size) {
            (Some(size), ..) => size,
            (None, Scheme::None, DiskSize::Fixed(_)) => PartitionSize::Fill,
            (None, ..) => PartitionSize::Auto,
        };
        let what = match body {
            Body::Empty => "an empty partition",
            Body::Filesystem(Filesystem::Swap(_), _) => "swap",
            _ => "",
        };
        let path = path.key("size");
        match size {
            PartitionSize::Auto if !what.is_empty() => Err(self
                .manifest
                .refuse(&path, format!("{what} has no size of its own"))
                .expected("a size or fill")),
            PartitionSize::Fixed(Bytes::ZERO) => {
                Err(self.manifest.refuse(&path, "the partition has no bytes"))
            }
            size => Ok(size),
        }
    }
}
