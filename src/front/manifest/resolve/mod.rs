//! The meaning of a manifest. All defaults are set here, and all contradictions refused.
//!
//! This module looks at no disk. Of host files it reads only keys, signatures, what
//! a NixOS system says of its start, and what kind of file a ready image is. What depends on contents, such
//! as sizes and places of partitions, is decided while the disk is built.

mod beside;
mod boot;
mod entry;
mod verity;

use std::cell::RefCell;
use std::sync::Arc;

use super::Manifest;
use super::schema;
use crate::container::check_partition;
use crate::disk::{Body, BootArea, Disk, Guid, Partition, Raw, Size, Work};
use crate::error::{Error, Kind, Result, Subject, Warning};
use crate::filesystem::{SUFFIXES, Spec};
use crate::front::section::{self, Around, AroundRepart};
use crate::front::{Dates, Description, Locator, seed};
use crate::host::elsewhere;
use crate::identity::Seed;
use crate::key::KeyPath;
use crate::table::{Architecture, Array, Attribute, Scheme, Type};
use crate::units::{Bytes, Sectors};
use crate::values::{DiskId, DiskSize};
use beside::{beside_nixos, beside_repart};
use verity::Verified;

/// The disk that `manifest` describes. `epoch` is the value of SOURCE_DATE_EPOCH, if it is set. It is the
/// time if the manifest gives none, and makes the times of files be clamped.
///
/// # Errors
/// [`Kind::Manifest`] with the line for parts that do not fit together; as
/// [`nixos::describe`](crate::front::nixos::describe) for a NixOS system, and as
/// [`repart::describe`](crate::front::repart::describe) for definitions of systemd-repart.
pub(super) fn describe(manifest: Arc<Manifest>, epoch: Option<i64>, work: &Work) -> Result<Description> {
    let written = &manifest.written;
    if written.version != 1 {
        return Err(manifest
            .refuse(&KeyPath::top("version"), "the manifest is of a version that is not known here")
            .expected("version = 1")
            .found(written.version));
    }
    let dates = Dates::new(written.disk.time, epoch);
    let seed = written.disk.seed.map_or_else(|| seed::derived(&manifest.said()), |seed| Seed::new(seed.0));
    if let Some(system) = &written.nixos {
        beside_nixos(&manifest)?;
        let around = Around {
            seed,
            id: written.disk.guid,
            dates,
            folder: manifest.folder().to_owned(),
            settings: written.disk.settings(),
            progress: work.progress.clone(),
        };
        let found = section::system(system, &around);
        let description = found.map_err(|error| manifest.place_keys(error))?;
        let mut description = description;
        description.boot = description.boot.take().map(|boot| Box::new(in_text(&manifest, *boot)));
        return Ok(in_text(&manifest, description));
    }
    if let Some(repart) = &written.repart {
        return definitions(&manifest, repart, (seed, epoch), work);
    }
    let told = RefCell::default();
    let disk = disk(&manifest, seed, dates, &told)?;
    let settings = written.disk.settings();
    let keys = Box::new(Keys::new(&disk));
    let locator = Box::new(InText { manifest, keys });
    Ok(Description {
        disk,
        locator,
        settings,
        closure: None,
        warnings: told.into_inner(),
        outputs: Vec::new(),
        beside: Vec::new(),
        boot: None,
    })
}

/// The disk of the `repart` section.
fn definitions(
    manifest: &Arc<Manifest>,
    section: &section::Repart,
    (seed, epoch): (Seed, Option<i64>),
    work: &Work,
) -> Result<Description> {
    beside_repart(manifest)?;
    let disk = &manifest.written.disk;
    let sector_size = disk.sector_size.map(|_| sector_size(manifest)).transpose()?;
    let around = AroundRepart {
        seed,
        time: disk.time,
        epoch,
        size: disk.size.unwrap_or_default(),
        sector_size,
        architecture: architecture(manifest)?,
        folder: manifest.folder().to_owned(),
        settings: disk.settings(),
    };
    let found = section::repart(section, &around, work);
    found.map(|description| in_text(manifest, description)).map_err(|error| manifest.place_keys(error))
}

/// A description whose keys become lines of the manifest.
fn in_text(manifest: &Arc<Manifest>, description: Description) -> Description {
    let locator = Box::new(InText { manifest: Arc::clone(manifest), keys: description.locator });
    Description { locator, ..description }
}

/// Turns keys that another locator finds into lines of the manifest.
#[derive(Debug)]
struct InText {
    manifest: Arc<Manifest>,
    keys: Box<dyn Locator>,
}

impl Locator for InText {
    fn locate(&self, error: Error) -> Error {
        self.manifest.place_keys(self.keys.locate(error))
    }

    fn describe(&self, subject: Subject) -> String {
        self.name(subject).unwrap_or_else(|| self.manifest.describe_key(&self.keys.key(subject)))
    }

    fn name(&self, subject: Subject) -> Option<String> {
        self.keys.name(subject)
    }

    fn key(&self, subject: Subject) -> KeyPath {
        self.keys.key(subject)
    }
}

/// The keys of the partitions of a manifest.
#[derive(Debug)]
struct Keys {
    /// What kind of body each partition has.
    bodies: Vec<Holds>,
}

/// The kind of a partition's body, as far as it decides which key an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    File,
    Other,
}

impl Keys {
    fn new(disk: &Disk) -> Self {
        let holds = |partition: &Partition| match partition.body {
            Body::File(_) => Holds::File,
            _ => Holds::Other,
        };
        Self { bodies: disk.partitions.iter().map(holds).collect() }
    }
}

impl Locator for Keys {
    fn locate(&self, error: Error) -> Error {
        let (subjects, key) = (error.subjects(), error.key());
        subjects.into_iter().fold(error.without_subjects(), |error, subject| {
            let path = self.key(subject);
            match (subject, key) {
                (Subject::Partition(number), Some("file"))
                    if self.bodies.get(number) == Some(&Holds::File) =>
                {
                    error.at_key(&path.key("image"))
                }
                (_, Some(key)) => error.at_key(&path.key(key)),
                (_, None) => error.at_key(&path),
            }
        })
    }

    fn describe(&self, subject: Subject) -> String {
        self.key(subject).to_string()
    }

    fn key(&self, subject: Subject) -> KeyPath {
        let partition = |number| KeyPath::top("partition").index(number);
        match subject {
            Subject::Disk => KeyPath::top("disk"),
            Subject::Partition(number) => partition(number),
            Subject::Filesystem(number) => partition(number).key("filesystem"),
            Subject::Entry { partition: number, entry } => partition(number).key("contents").index(entry),
        }
    }
}

/// The disk that `manifest` describes; the manifest has no `nixos` section.
fn disk(manifest: &Manifest, seed: Seed, dates: Dates, told: &RefCell<Vec<Warning>>) -> Result<Disk> {
    let written = &manifest.written.disk;
    let scheme = written.table.unwrap_or_default();
    belongs(manifest, scheme)?;
    let (guid, signature) = match disk_id(manifest, scheme)? {
        Some(DiskId::Guid(guid)) => (Some(guid), None),
        Some(DiskId::Signature(signature)) => (None, Some(signature)),
        None => (None, None),
    };
    let size = match written.size.unwrap_or_default() {
        DiskSize::Auto => None,
        DiskSize::Fixed(size) => Some(size),
    };
    let (architecture, verified) = (architecture(manifest)?, Verified::new(manifest)?);
    let reading = Reading { manifest, scheme, size, dates, architecture, seed, verified, told };
    let partitions = (0..).zip(&manifest.written.partition);
    let mut disk = Disk {
        size,
        sector_size: sector_size(manifest)?,
        first_lba: written.first_lba.map(Sectors::new),
        guid,
        signature,
        align: written.align,
        array: Array {
            entries: written.entries.unwrap_or(Array::default().entries),
            lba: written.entries_at.map(Sectors::new),
        },
        boot: boot_code(manifest)?,
        raw: written
            .raw
            .iter()
            .flatten()
            .map(|raw| Raw { path: manifest.path(&raw.source), offset: raw.offset, most: raw.size })
            .collect(),
        hybrid: written.hybrid.clone().unwrap_or_default(),
        same_guids: false,
        time: dates.time,
        partitions: partitions
            .map(|(number, partition)| reading.partition(partition, number))
            .collect::<Result<_>>()?,
        ..Disk::new(scheme, seed)
    };
    reading.boot(&mut disk)?;
    Ok(disk)
}

/// The boot code of the first sector.
fn boot_code(manifest: &Manifest) -> Result<BootArea> {
    /// The table and its signature are behind it (UEFI specification, 5.2.1).
    const MOST: usize = 440;
    let Some(written) = &manifest.written.disk.boot_code else { return Ok(BootArea::default()) };
    let key = KeyPath::top("disk").key("boot_code");
    let path = manifest.path(written);
    let failed =
        |error| manifest.place(Error::io(Kind::Source, "cannot read the boot code", &path, error), &key);
    let bytes = std::fs::read(&path).map_err(failed)?;
    if bytes.is_empty() || bytes.len() > MOST {
        return Err(manifest
            .refuse(&key, "the boot code does not fit before the table")
            .expected(format!("1 to {MOST} bytes"))
            .found(format!("{} bytes", bytes.len())));
    }
    Ok(BootArea { code: bytes.into(), ..BootArea::default() })
}

/// Refuses keys of the disk that have no meaning with its table.
fn belongs(manifest: &Manifest, scheme: Scheme) -> Result<()> {
    let disk = &manifest.written.disk;
    for (key, there, schemes) in [
        ("guid", disk.guid.is_some(), [Scheme::Gpt, Scheme::Mbr].as_slice()),
        ("hybrid", disk.hybrid.is_some(), &[Scheme::Gpt]),
        ("first_lba", disk.first_lba.is_some(), &[Scheme::Gpt]),
        ("align", disk.align.is_some(), &[Scheme::Gpt, Scheme::Mbr]),
        ("entries", disk.entries.is_some(), &[Scheme::Gpt]),
        ("entries_at", disk.entries_at.is_some(), &[Scheme::Gpt]),
        ("boot_code", disk.boot_code.is_some(), &[Scheme::Gpt, Scheme::Mbr]),
        ("raw", disk.raw.is_some(), &[Scheme::Gpt, Scheme::Mbr]),
        ("sector_size", disk.sector_size.is_some_and(|size| size != 512), &[Scheme::Gpt, Scheme::None]),
    ] {
        if there && !schemes.contains(&scheme) {
            return Err(foreign(manifest, &KeyPath::top("disk"), key, scheme));
        }
    }
    Ok(())
}

/// The processor that partition types stand for, if it is given.
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

/// The id of the disk, of the kind that its table has.
///
/// # Errors
/// [`Kind::Manifest`] where it is of another kind.
fn disk_id(manifest: &Manifest, scheme: Scheme) -> Result<Option<DiskId>> {
    match manifest.written.disk.guid {
        Some(id) => {
            id.of(scheme).map(Some).map_err(|error| manifest.place(error, &KeyPath::top("disk").key("guid")))
        }
        None => Ok(None),
    }
}

/// The error for a key that the table does not have.
fn foreign(manifest: &Manifest, path: &KeyPath, key: &'static str, scheme: Scheme) -> Error {
    manifest
        .refuse(&path.key(key), format!("`{key}` means nothing with table = \"{scheme}\""))
        .hint("leave it out")
}

/// The bit of a partition that is not to be written to (Discoverable Partitions Specification).
const READ_ONLY: u8 = 60;

/// A manifest whose meaning is being worked out.
struct Reading<'a> {
    manifest: &'a Manifest,
    scheme: Scheme,
    size: Option<Bytes>,
    dates: Dates,
    architecture: Option<Architecture>,
    seed: Seed,
    verified: Verified,
    /// What is told of the systems that are started.
    told: &'a RefCell<Vec<Warning>>,
}

impl Reading<'_> {
    fn partition(&self, written: &schema::Partition, number: usize) -> Result<Partition> {
        let path = &KeyPath::top("partition").index(number);
        for (key, there, tables) in [
            ("type", written.kind.is_some(), [Scheme::Gpt, Scheme::Mbr].as_slice()),
            ("label", written.label.is_some(), &[Scheme::Gpt]),
            ("guid", written.guid.is_some(), &[Scheme::Gpt]),
            ("number", written.number.is_some(), &[Scheme::Gpt, Scheme::Mbr]),
            ("start", written.start.is_some(), &[Scheme::Gpt, Scheme::Mbr]),
            ("attributes", written.attributes.is_some(), &[Scheme::Gpt, Scheme::Mbr]),
            ("logical", written.logical.is_some(), &[Scheme::Mbr]),
        ] {
            if there && !tables.contains(&self.scheme) {
                return Err(foreign(self.manifest, path, key, self.scheme));
            }
        }
        let body = self.body(written, path)?;
        Ok(Partition {
            kind: self.kind(written, &body, path)?,
            label: written.label.clone().unwrap_or_default(),
            guid: match written.guid {
                Some(guid) => {
                    Guid::Given(guid.id().map_err(|error| self.manifest.place(error, &path.key("guid")))?)
                }
                None if self.scheme == Scheme::Gpt => self.verified.guid(number),
                None => Guid::Seed,
            },
            number: written.number,
            start: written.start,
            size: self.partition_size(written, &body, path)?,
            attributes: self.attributes(written, number, path)?,
            logical: written.logical.unwrap_or(false),
            apart: None,
            body,
        })
    }

    /// The type of a partition. Without a given type, it follows from the contents.
    fn kind(&self, written: &schema::Partition, body: &Body, path: &KeyPath) -> Result<Type> {
        let usual = match body {
            Body::Filesystem(Spec::Swap(_), _) => "swap",
            Body::Filesystem(Spec::Zfs(_), _) => "zfs",
            _ => "linux",
        };
        let name = written.kind.as_deref().unwrap_or(usual);
        Type::parse(name, self.architecture).map_err(|error| {
            let error = match SUFFIXES.contains(&name) {
                true => error.hint("this is a filesystem, which is the `type` of `filesystem`"),
                false => error,
            };
            self.manifest.place(error, &path.key("type"))
        })
    }

    fn attributes(
        &self,
        written: &schema::Partition,
        number: usize,
        path: &KeyPath,
    ) -> Result<Vec<Attribute>> {
        let path = path.key("attributes");
        if written.attributes.is_none() && self.scheme == Scheme::Gpt && self.verified.concerns(number) {
            return Ok(vec![Attribute::Bit(READ_ONLY)]);
        }
        let attributes = written.attributes.as_deref().unwrap_or_default().iter().enumerate();
        attributes
            .map(|(number, text)| {
                text.0.parse().map_err(|error| self.manifest.place(error, &path.index(number)))
            })
            .collect()
    }

    fn body(&self, written: &schema::Partition, path: &KeyPath) -> Result<Body> {
        let refuse = |key: &'static str, what: &str| self.manifest.refuse(&path.key(key), what);
        self.one_body(written, path)?;
        if let Some(image) = &written.image {
            if image.is_empty() || image.contains('\0') {
                return Err(refuse("image", "`image` is not a path"));
            }
            if let Some((what, hint)) = elsewhere(image) {
                return Err(refuse("image", what).found(entry::quoted(image)).hint(hint));
            }
            let image = self.manifest.path(image);
            if written.image_format.is_none() {
                check_partition(&image).map_err(|error| self.manifest.place(error, &path.key("image")))?;
            }
            return Ok(Body::File(image));
        }
        if written.image_format.is_some() {
            return Err(refuse("image_format", "there is no `image` whose format this could be"));
        }
        if let Some(body) = self.derived(written, path)? {
            return Ok(body);
        }
        let Some(filesystem) = &written.filesystem else {
            return match written.contents {
                Some(_) => Err(refuse("contents", "there are contents, but no filesystem to hold them")
                    .hint("add filesystem = { type = \"ext4\" } or another")),
                None => {
                    self.tell_bootless(written, path);
                    Ok(Body::Empty)
                }
            };
        };
        let Some(spec) = filesystem.get() else {
            return Err(Error::bug("a filesystem that does not parse was not refused"));
        };
        self.ask_unit(spec.free(), &path.key("filesystem").key("free"));
        if spec.free().is_some() && written.size.is_some_and(|size| size != Size::Auto) {
            return Err(self
                .manifest
                .refuse(
                    &path.key("filesystem").key("free"),
                    "`free` means nothing for a partition whose size is given",
                )
                .expected("size = \"auto\", which leaves that much space, or a size without `free`"));
        }
        if !spec.holds_files() && written.contents.is_some() {
            return Err(refuse("contents", &format!("{} holds no files", spec.name())));
        }
        let path = path.key("contents");
        let contents = written.contents.as_deref().unwrap_or_default().iter().enumerate();
        let entries = contents
            .map(|(number, written)| {
                let path = path.index(number);
                let verified = (&self.verified, self.told);
                entry::entry(self.manifest, written, &path, self.dates, spec, verified)
            })
            .collect::<Result<Vec<_>>>()?;
        let mut spec = spec.clone();
        spec.place(&|path| self.manifest.path(path));
        spec.look_in(|| entries.iter().flat_map(|entry| entry.payload.folders()).collect());
        Ok(Body::Filesystem(spec, entries.into()))
    }

    /// Warns of an EFI system partition without a filesystem.
    fn tell_bootless(&self, written: &schema::Partition, path: &KeyPath) {
        let kind = written.kind.as_deref().and_then(|name| Type::parse(name, self.architecture).ok());
        if kind.is_some_and(Type::is_esp) {
            let text = "the EFI system partition has no filesystem: UEFI firmware finds nothing to start";
            self.tell(path, text);
        }
    }

    /// Adds a warning about the part of the manifest at `path`.
    fn tell(&self, path: &KeyPath, text: impl std::fmt::Display) {
        self.told.borrow_mut().push(Warning(format!("{}: {text}", self.manifest.describe_key(path))));
    }

    /// Asks for the unit of a size below 64 KiB that is a number alone.
    fn ask_unit(&self, size: Option<Bytes>, path: &KeyPath) {
        let Some((size, question)) = size.and_then(|size| Some((size, size.number_alone()?))) else { return };
        if self.manifest.is_number_alone(path) {
            self.tell(path, format!("only {} bytes: {question}", size.get()));
        }
    }

    /// Refuses a partition that is to hold two things.
    fn one_body(&self, written: &schema::Partition, path: &KeyPath) -> Result<()> {
        let filesystem = written.filesystem.is_some() || written.contents.is_some();
        let bodies = [
            ("image", written.image.is_some(), "a ready image"),
            ("verity", written.verity.is_some(), "hashes"),
            ("signature", written.signature.is_some(), "a signature"),
            ("filesystem", filesystem, "a filesystem"),
        ];
        let mut there = bodies.into_iter().filter(|(_, there, _)| *there);
        match (there.next(), there.next()) {
            (Some((key, _, what)), Some(_)) => Err(self
                .manifest
                .refuse(&path.key(key), format!("the partition holds {what} and something else"))
                .expected("one of image, verity, signature, or filesystem and contents")),
            _ => Ok(()),
        }
    }

    /// The size of a partition. Only a partition with contents has a size of its own.
    fn partition_size(&self, written: &schema::Partition, body: &Body, path: &KeyPath) -> Result<Size> {
        let size = match (written.size, self.scheme, self.size) {
            (Some(size), ..) => size,
            (None, Scheme::None, Some(_)) => Size::Fill,
            (None, ..) => Size::Auto,
        };
        let what = match body {
            Body::Empty => "an empty partition",
            Body::Filesystem(spec, _) if !spec.has_size() => spec.name(),
            _ => "",
        };
        let path = path.key("size");
        if let Some(Size::Fixed(size)) = written.size {
            self.ask_unit(Some(size), &path);
        }
        match size {
            Size::Auto if !what.is_empty() => Err(self
                .manifest
                .refuse(&path, format!("{what} has no size of its own"))
                .expected("a size or fill")),
            Size::Fixed(Bytes::ZERO) => Err(self.manifest.refuse(&path, "the partition has no bytes")),
            size => Ok(size),
        }
    }
}
