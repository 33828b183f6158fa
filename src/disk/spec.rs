//! The neutral description of a disk, which every front end and every caller of the library makes. It
//! contains no text of a manifest, no flag and no line number; errors name a
//! [`Subject`](crate::error::Subject) of it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

use super::boot::Boot;
use super::contents::{Contents, Entry};
use super::derived::Derived;
use crate::filesystem::Spec;
use crate::identity::{self, Seed};
use crate::image::Image;
use crate::table::{Array, Attribute, Hybrid, Scheme, Type};
use crate::tree::Time;
use crate::units::{Bytes, Sectors, SizeError, u64_of};
use crate::values::{ValueError, refuse, size_pattern, value};

/// A disk to build.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Its partition table.
    pub scheme: Scheme,
    /// Its size; with `None` it is as large as the partitions need.
    pub size: Option<Bytes>,
    /// Its length is a multiple of this.
    pub size_multiple: Option<Bytes>,
    /// Bytes in a logical sector: 512 or 4096; 1024 and 2048 only in raw images.
    pub sector_size: u32,
    /// First usable sector of a GPT; with `None` the first one after the table.
    pub first_lba: Option<Sectors>,
    /// The seed of every id that is not given.
    pub seed: Seed,
    /// GUID of a GPT; with `None` it derives from the seed.
    pub guid: Option<Uuid>,
    /// Signature of an MBR; with `None` it derives from the seed.
    pub signature: Option<u32>,
    /// What places that are not given are a multiple of; with `None` 1 MiB.
    pub align: Option<Bytes>,
    /// The array of entries of a GPT.
    pub array: Array,
    /// What a hybrid MBR shows; nothing for a protective MBR.
    pub hybrid: Hybrid,
    /// Slot of the extended partition of an MBR; with `None` the first that is free.
    pub extended: Option<u32>,
    /// The time of everything that the writer dates.
    pub time: Time,
    /// Boot code for a BIOS outside of the partitions.
    pub boot: BootArea,
    /// What boots the system on it, if that follows from the files of the system.
    pub loader: Option<Arc<dyn Boot>>,
    /// Whether partitions may have one GUID, as other tools write them; otherwise that is refused.
    pub same_guids: bool,
    /// Other data outside of the partitions.
    pub raw: Vec<Raw>,
    /// The partitions, in the order in which they are placed.
    pub partitions: Vec<Partition>,
}

/// Boot code for a BIOS outside of the partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootArea {
    /// The boot code at the start of the first sector, at most 440 bytes; the table follows it.
    pub code: Arc<[u8]>,
    /// Bytes from the second sector on, which end before the first partition of an MBR.
    pub gap: Arc<[u8]>,
}

/// Data outside of the partitions, such as the boot loader of a board, where its processor looks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// The file with the bytes.
    pub path: PathBuf,
    /// Where they go.
    pub offset: Bytes,
    /// How many bytes it may have.
    pub most: Option<Bytes>,
}

/// A partition to build.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Its type, which says what it is for.
    pub kind: Type,
    /// Its name in a GPT; may be empty.
    pub label: String,
    /// Where its GUID comes from.
    pub guid: Guid,
    /// Its slot in the table, from 1; with `None` the first free one.
    pub number: Option<u32>,
    /// Where it begins; with `None` the next multiple of 1 MiB.
    pub start: Option<Bytes>,
    /// How large it is.
    pub size: Size,
    /// Its attributes.
    pub attributes: Vec<Attribute>,
    /// Whether it is a logical partition of an MBR.
    pub logical: bool,
    /// The sector that its filesystem is made for as in a file of its own, which knows neither the disk nor its place there;
    /// `None` makes it for this disk.
    pub apart: Option<u32>,
    /// What it holds.
    pub body: Body,
}

/// Where the GUID of a partition comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Guid {
    /// Derived from the seed, the type, and the number of partitions of that type before it.
    #[default]
    Seed,
    /// This GUID.
    Given(Uuid),
    /// A value that a derived partition computes from the bytes of other partitions ([`Derived::build`]).
    Derived {
        /// The derived partition.
        of: usize,
        /// The name of the value; its text is a UUID.
        value: &'static str,
    },
}

/// How large a partition is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Size {
    /// As small as its contents allow; with a table, in whole MiB.
    #[default]
    Auto,
    /// The rest of the disk.
    Fill,
    /// Exactly this size.
    Fixed(Bytes),
}

impl FromStr for Size {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "auto" => Ok(Self::Auto),
            "fill" => Ok(Self::Fill),
            size => size
                .parse()
                .map(Self::Fixed)
                .or_else(|why: SizeError| refuse(format!("{why}; or write auto or fill"))),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fill => f.write_str("fill"),
            Self::Fixed(size) => size.fmt(f),
        }
    }
}

value!(Size, number, "PartitionSize", "a size such as \"256MiB\", \"auto\" or \"fill\"", {
    "description": "`auto` (as small as the contents allow), `fill` (what is left of the disk), or a size.",
    "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": concat!("^(auto|fill|", size_pattern!(), ")$") }]
});

/// What a partition holds.
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::large_enum_variant,
    reason = "a disk has a handful of partitions, and most hold a filesystem"
)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// These bytes; the rest of the partition reads as zero.
    Bytes(Arc<[u8]>),
    /// The bytes of a file of the host.
    File(PathBuf),
    /// The bytes of an image: a filesystem that was made before, a partition of another disk.
    Image(Image),
    /// A filesystem.
    Filesystem(Spec, Contents),
    /// Bytes that follow from other partitions: hashes of one, for example.
    Derived(Arc<dyn Derived>),
}

impl Disk {
    /// A disk with this table, 512-byte sectors and the time 1970-01-01, as large as its partitions need.
    #[must_use]
    pub fn new(scheme: Scheme, seed: Seed) -> Self {
        Self {
            scheme,
            size: None,
            size_multiple: None,
            sector_size: 512,
            first_lba: None,
            align: None,
            array: Array::default(),
            seed,
            guid: None,
            signature: None,
            hybrid: Hybrid::default(),
            extended: None,
            time: Time::default(),
            boot: BootArea::default(),
            loader: None,
            same_guids: false,
            raw: Vec::new(),
            partitions: Vec::new(),
        }
    }

    /// A disk with a GPT.
    #[must_use]
    pub fn gpt(seed: Seed) -> Self {
        Self::new(Scheme::Gpt, seed)
    }

    /// A disk with an MBR.
    #[must_use]
    pub fn mbr(seed: Seed) -> Self {
        Self::new(Scheme::Mbr, seed)
    }

    /// A disk without a table, which consists of its one partition: a bare filesystem.
    #[must_use]
    pub fn bare(seed: Seed) -> Self {
        Self::new(Scheme::None, seed)
    }

    /// Adds a partition after the others.
    #[must_use]
    pub fn partition(mut self, partition: Partition) -> Self {
        self.partitions.push(partition);
        self
    }

    /// The same disk with a fixed size.
    #[must_use]
    pub fn size(self, size: Bytes) -> Self {
        Self { size: Some(size), ..self }
    }

    /// The same disk with another time.
    #[must_use]
    pub fn time(self, time: Time) -> Self {
        Self { time, ..self }
    }

    /// The key that the ids of a partition's filesystem derive from: the given GUID, or else a GUID derived
    /// from the type and the number of partitions of that type before it. A GUID that follows from a digest
    /// does not change the key, as in systemd-repart.
    #[must_use]
    pub fn partition_key(&self, number: usize) -> Uuid {
        let Some(partition) = self.partitions.get(number) else { return Uuid::nil() };
        if let Guid::Given(guid) = partition.guid {
            return guid;
        }
        let earlier = self.partitions.iter().take(number);
        let earlier = u64_of(earlier.filter(|other| other.kind == partition.kind).count());
        match (self.scheme, partition.kind.mbr(), partition.kind.guid()) {
            (Scheme::Mbr, Some(byte), _) | (_, Some(byte), None) => {
                self.seed.mbr_partition_key(byte, earlier)
            }
            (_, _, guid) => self.seed.partition_guid(guid.unwrap_or_default(), earlier),
        }
    }

    /// GUID and signature of the disk.
    #[must_use]
    pub fn ids(&self) -> (Uuid, u32) {
        let guid = self.guid.unwrap_or_else(|| self.seed.disk_guid());
        (guid, self.signature.unwrap_or_else(|| identity::mbr_signature(guid)))
    }
}

impl Partition {
    /// A partition of this type without contents and size.
    #[must_use]
    pub fn new(kind: Type) -> Self {
        Self {
            kind,
            label: String::new(),
            guid: Guid::Seed,
            number: None,
            start: None,
            size: Size::Auto,
            attributes: Vec::new(),
            logical: false,
            apart: None,
            body: Body::Empty,
        }
    }

    /// The same partition with a name in the GPT, at most 36 UTF-16 units.
    #[must_use]
    pub fn label(self, label: impl Into<String>) -> Self {
        Self { label: label.into(), ..self }
    }

    /// The same partition with a GUID.
    #[must_use]
    pub fn guid(self, guid: Uuid) -> Self {
        Self { guid: Guid::Given(guid), ..self }
    }

    /// The same partition, starting at this byte.
    #[must_use]
    pub fn start(self, start: Bytes) -> Self {
        Self { start: Some(start), ..self }
    }

    /// The same partition with a fixed size.
    #[must_use]
    pub fn size(self, size: Bytes) -> Self {
        Self { size: Size::Fixed(size), ..self }
    }

    /// The same partition, as large as the rest of the disk.
    #[must_use]
    pub fn fill(self) -> Self {
        Self { size: Size::Fill, ..self }
    }

    /// The same partition with one more attribute.
    #[must_use]
    pub fn attribute(mut self, attribute: Attribute) -> Self {
        self.attributes.push(attribute);
        self
    }

    /// The same partition with a filesystem.
    #[must_use]
    pub fn filesystem(self, options: impl Into<Spec>, contents: impl Into<Contents>) -> Self {
        Self { body: Body::Filesystem(options.into(), contents.into()), ..self }
    }

    /// The same partition with the bytes of a host file.
    #[must_use]
    pub fn file(self, path: impl Into<PathBuf>) -> Self {
        Self { body: Body::File(path.into()), ..self }
    }

    /// The entries of its filesystem, if the contents are given as entries.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        match &self.body {
            Body::Filesystem(_, Contents::Entries(entries)) => entries,
            _ => &[],
        }
    }
}
