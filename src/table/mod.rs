//! Partition tables: GPT with its protective or hybrid MBR, MBR with logical partitions, and none.
//!
//! [`place()`] decides number, place and length of each partition, and the length of the disk, by calculation
//! alone. [`Plan::write`] renders the table. It leaves out bytes 0 to 439, the boot code, which a boot loader
//! may add.
//!
//! [`read()`] reads the table of any disk.
//!
//! `gpt` and `mbr` have the same parts: `area` (what partitions may use), `check` (what a wish may contain),
//! `numbers` (slots), `write` (bytes) and `read`. docs/formats/tables.md has every field.

mod attributes;
pub(crate) mod format;
mod gpt;
mod grow;
mod hybrid;
mod mbr;
mod place;
mod processors;
pub mod read;
pub(crate) mod structure;
mod types;

use uuid::Uuid;

use crate::error::{Error, Kind, Result, Subject, Warning};
use crate::image::Builder;
use crate::units::{Bytes, Sectors};

pub use attributes::{Attribute, names as attribute_names};
pub(crate) use gpt::{Frame, end_at, frame, has_backup};
pub(crate) use grow::grow;
pub use hybrid::Hybrid;
pub use place::{GRAIN, numbers, place};
pub use read::read;
pub use types::{Architecture, Type};

/// Which table a disk has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// GUID partition table.
    #[default]
    Gpt,
    /// Master boot record, the table of DOS.
    Mbr,
    /// No table: the disk consists of its one partition.
    None,
}

/// The wish for a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which table.
    pub scheme: Scheme,
    /// Bytes in a logical sector: 512, or 4096 where the scheme is not MBR.
    pub sector_size: u64,
    /// Length of the disk, a multiple of the sector; with `None` as long as the partitions need, in whole
    /// MiB.
    pub disk_size: Option<Bytes>,
    /// GUID of the disk; GPT only.
    pub guid: Uuid,
    /// Signature of the disk; MBR only.
    pub signature: u32,
    /// First sector of a GPT that partitions may use; with `None` the one after the table, 34 with sectors of
    /// 512 bytes.
    pub first_lba: Option<Sectors>,
    /// What places that are not given are a multiple of, and the end of a partition that fills; usually [`GRAIN`].
    pub align: Bytes,
    /// The array of entries of a GPT.
    pub array: Array,
    /// What a hybrid MBR shows of a GPT; nothing for a protective one.
    pub hybrid: Hybrid,
    /// Slot of the extended partition of an MBR; with `None` the first that is free at the first logical one.
    pub extended: Option<u32>,
    /// Whether partitions of a GPT may have one GUID.
    pub same_guids: bool,
    /// The partitions, in the order in which they are placed.
    pub partitions: Vec<Wish>,
}

/// The array of entries of a GPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Array {
    /// How many entries it has, 1 to 16,384. Tools write 128, and expect no fewer.
    pub entries: u32,
    /// The sector in which the primary array begins; with `None` the one after the header.
    pub lba: Option<Sectors>,
    /// Whether a copy of it and of the header is at the end of the disk. Without one the header names itself as its copy, and
    /// the space for the copy stays free, so that a tool can add it.
    pub backup: bool,
}

impl Default for Array {
    fn default() -> Self {
        Self { entries: 128, lba: None, backup: true }
    }
}

/// A range of the disk that belongs to the table or to a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    /// What it is, for errors.
    pub(crate) what: String,
    pub(crate) start: Bytes,
    pub(crate) end: Bytes,
}

/// The wish for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Its slot in the table, from 1; with `None` the first free one.
    pub number: Option<u32>,
    /// Where it begins. With `None`, at the first multiple of [`Request::align`] after everything that is listed
    /// before it, if it fits there between the partitions with a start.
    pub start: Option<Bytes>,
    /// How long it is.
    pub size: Size,
    /// Its type. Ignored without a table.
    pub kind: Type,
    /// Its GUID; GPT only.
    pub guid: Uuid,
    /// Its name, at most 36 UTF-16 units; GPT only, otherwise it must be empty.
    pub label: String,
    /// Its attribute bits; GPT only, otherwise they must be zero.
    pub attributes: u64,
    /// Whether a BIOS boots it; MBR, or shown in a hybrid MBR.
    pub active: bool,
    /// Whether it lies in the extended partition; MBR only. Logical partitions follow each other in the list.
    pub logical: bool,
}

/// The wish for the length of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Exactly this length, a multiple of the sector and not zero.
    Exactly(Bytes),
    /// The space up to the next partition with a start, or up to the end of the disk, rounded down to a
    /// multiple of [`Request::align`].
    Fill,
}

/// A disk with its places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which table.
    pub scheme: Scheme,
    /// Bytes in a logical sector.
    pub sector_size: u64,
    /// Length of the disk.
    pub length: Bytes,
    /// GUID of the disk; GPT only.
    pub guid: Uuid,
    /// Signature of the disk; MBR only.
    pub signature: u32,
    /// First sector that partitions may use.
    pub first_usable: Sectors,
    /// Last sector that partitions may use.
    pub last_usable: Sectors,
    /// The array of entries of a GPT.
    pub array: Array,
    /// What a hybrid MBR shows of a GPT.
    pub hybrid: Hybrid,
    /// The extended partition that holds the logical ones.
    pub extended: Option<Extended>,
    /// The partitions, in the order of the request.
    pub partitions: Vec<Placed>,
}

/// A partition with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its slot in the table, from 1; 1 without a table.
    pub number: u32,
    /// Where it begins.
    pub offset: Bytes,
    /// How long it is.
    pub length: Bytes,
    /// Its type.
    pub kind: Type,
    /// Its GUID; GPT only.
    pub guid: Uuid,
    /// Its name; GPT only.
    pub label: String,
    /// Its attribute bits; GPT only.
    pub attributes: u64,
    /// Whether a BIOS boots it.
    pub active: bool,
    /// Whether it lies in the extended partition.
    pub logical: bool,
    /// The space before it for the boot record of a logical partition.
    pub lead: Bytes,
}

impl Placed {
    /// Where it ends, exclusive.
    #[must_use]
    pub fn end(&self) -> Bytes {
        self.offset + self.length
    }
}

/// The extended partition of an MBR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extended {
    /// Its slot, 1 to 4.
    pub number: u32,
    /// Where it begins: at the boot record of the first logical partition.
    pub offset: Bytes,
    /// How long it is: to the end of the last logical partition.
    pub length: Bytes,
}

impl Plan {
    /// Puts the table into an image of the plan's length.
    ///
    /// # Errors
    /// [`Kind::Bug`] for a plan that [`place()`] does not make.
    pub fn write(&self, image: &mut Builder) -> Result<()> {
        match self.scheme {
            Scheme::Gpt => gpt::write(self, image),
            Scheme::Mbr => mbr::write(self, image),
            Scheme::None => Ok(()),
        }
    }

    /// What the table and the partitions take.
    pub(crate) fn regions(&self) -> Vec<Region> {
        let region = |what: String, start: Bytes, end: Bytes| Region { what, start, end };
        let mut regions = match self.scheme {
            Scheme::Gpt => gpt::regions(self),
            Scheme::Mbr | Scheme::None => Vec::new(),
        };
        if self.scheme != Scheme::None {
            // Signature, table and mark, behind the boot code.
            regions.push(region("the table of the MBR".to_owned(), mbr::RECORD_AT, Bytes::new(512)));
        }
        let extended = self.extended.map(|extended| {
            region("the extended partition".to_owned(), extended.offset, extended.offset + extended.length)
        });
        let partitions = self
            .partitions
            .iter()
            .map(|placed| region(format!("partition {}", placed.number), placed.offset, placed.end()));
        regions.extend(partitions.chain(extended));
        regions
    }

    /// A length in whole sectors.
    fn sectors(&self, bytes: Bytes) -> u64 {
        bytes.div_ceil(self.sector_size)
    }
}

/// What is to be known of a disk, with its length and the bytes of its sectors, on a device with its own. `has_backup` says
/// whether a GPT stands at the end of the disk too.
///
/// # Errors
/// [`Kind::Usage`] for a table of sectors that the device does not have.
pub(crate) fn on_device(
    scheme: Scheme,
    (size, sector_size): (Bytes, u64),
    (length, sector): (Bytes, u64),
    has_backup: bool,
) -> Result<Option<Warning>> {
    if scheme != Scheme::None && sector != sector_size {
        return Err(Error::new(Kind::Usage, "the device has sectors of another size than the disk")
            .expected(sector)
            .found(sector_size));
    }
    Ok((scheme == Scheme::Gpt && has_backup && size < length.round_down(sector)).then(|| {
        Warning(format!(
            "the disk has {} and the device {}, so the backup of the GPT is not at its end (sgdisk -e moves it)",
            size.in_full(),
            length.in_full()
        ))
    }))
}

/// A request that cannot be met, and the partitions that it is about.
#[derive(Debug)]
struct Refusal {
    /// Indices into [`Request::partitions`]: none for the whole disk, two for an overlap.
    partitions: Vec<usize>,
    /// What is wrong.
    error: Error,
}

impl Refusal {
    /// About the whole disk.
    fn disk(what: impl Into<String>) -> Self {
        Self { partitions: Vec::new(), error: Error::new(Kind::Manifest, what) }
    }

    /// About one partition; `rule` follows its name.
    fn of(index: usize, rule: &str) -> Self {
        let what = format!("{}: {rule}", Subject::Partition(index));
        Self { partitions: vec![index], error: Error::new(Kind::Manifest, what) }
    }

    /// About two partitions; `rule` stands between their names.
    fn both(one: usize, rule: &str, other: usize) -> Self {
        let what = format!("{} {rule} {}", Subject::Partition(one), Subject::Partition(other));
        Self { partitions: vec![one, other], error: Error::new(Kind::Manifest, what) }
    }

    /// Names the option that cannot be met: `start`, `label`; of the disk `first_lba`.
    fn about(self, key: &'static str) -> Self {
        Self { error: self.error.about(key), ..self }
    }

    fn expected(self, text: impl std::fmt::Display) -> Self {
        Self { error: self.error.expected(text), ..self }
    }

    fn found(self, text: impl std::fmt::Display) -> Self {
        Self { error: self.error.found(text), ..self }
    }

    fn why(self, text: impl Into<String>) -> Self {
        Self { error: self.error.why(text), ..self }
    }

    fn hint(self, text: impl Into<String>) -> Self {
        self.or_hint(Some(text))
    }

    fn or_hint(self, text: Option<impl Into<String>>) -> Self {
        Self { error: self.error.or_hint(text), ..self }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { partitions: Vec::new(), error }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal.partitions.is_empty() {
            true => refusal.error.on(Subject::Disk),
            false => refusal.partitions.into_iter().map(Subject::Partition).fold(refusal.error, Self::on),
        }
    }
}

/// The part of a disk that partitions may use.
#[derive(Clone, Copy, Debug)]
struct Area {
    /// The first byte.
    start: Bytes,
    /// The end, exclusive: of the disk; if its size is not given, of what the table or a file can hold.
    end: Bytes,
    /// The space that the table needs after `end`.
    tail: Bytes,
    /// Whether the disk continues after `end` and `tail`, out of reach of the table.
    beyond: bool,
    /// The reason for its end.
    why: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MIB;

    /// Two partitions with labels, for any table; tests poison one of them.
    pub(super) fn plan() -> Plan {
        let placed = |number: u32, kind: &str| Placed {
            number,
            offset: Bytes::new(u64::from(number) * MIB),
            length: Bytes::new(MIB),
            kind: Type::parse(kind, None).unwrap(),
            guid: Uuid::from_u128(u128::from(number)),
            label: String::new(),
            attributes: 0,
            active: false,
            logical: false,
            lead: Bytes::new(GRAIN),
        };
        Plan {
            scheme: Scheme::Gpt,
            sector_size: 512,
            length: Bytes::new(4 * MIB),
            guid: Uuid::from_u128(7),
            signature: 7,
            first_usable: Sectors::new(34),
            last_usable: Sectors::new(8158),
            array: Array::default(),
            hybrid: Hybrid::default(),
            extended: None,
            partitions: vec![placed(1, "esp"), placed(2, "linux-generic")],
        }
    }
}
