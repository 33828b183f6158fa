//! Partition tables: GPT with its protective or hybrid MBR, MBR with logical partitions, and none.
//!
//! [`place()`] decides number, place and length of each partition and the length of the disk, all of it sums without a
//! byte; [`Plan::write`] renders the table that says so. What `Plan::write` puts into an image leaves bytes 0 to 439,
//! the boot code, to whoever has some.
//!
//! [`read()`] is the way back: the table of any disk, as it stands there.
//!
//! Same doors in each house: `gpt` and `mbr` have `area` (what partitions may use), `check` (what a wish may say),
//! `numbers` (slots), `write` (bytes) and `read`. docs/formats/tables.md has every field.

mod attributes;
pub(crate) mod format;
mod gpt;
mod hybrid;
mod mbr;
mod place;
mod processors;
pub mod read;
mod types;

use uuid::Uuid;

use crate::error::{Error, Kind, Result, Subject};
use crate::image::Builder;
use crate::units::{Bytes, Sectors};

pub use attributes::{Attribute, names as attribute_names};
pub use place::{GRAIN, place};
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
    /// No table: the disk is its one partition.
    None,
}

/// A disk as it is wished for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which table.
    pub scheme: Scheme,
    /// Bytes in a logical sector: 512, or 4096 where the scheme is not MBR.
    pub sector_size: u64,
    /// Length of the disk, a multiple of the sector; `None` for as long as the partitions need, in whole MiB.
    pub disk_size: Option<Bytes>,
    /// GUID of the disk; GPT only.
    pub guid: Uuid,
    /// Signature of the disk; MBR only.
    pub signature: u32,
    /// First sector of a GPT that partitions may use; `None` for the one after the table, 34 with sectors of 512 bytes.
    pub first_lba: Option<Sectors>,
    /// Numbers of up to three partitions of a GPT that a hybrid MBR shows too, in its order.
    pub hybrid: Vec<u32>,
    /// Whether partitions of a GPT may have one GUID.
    pub same_guids: bool,
    /// The partitions, in the order in which they are placed.
    pub partitions: Vec<Wish>,
}

/// A partition as it is wished for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Its slot in the table, from 1; `None` for the first free one.
    pub number: Option<u32>,
    /// Where it begins; `None` for the first multiple of [`GRAIN`] behind all that is listed before it where it fits
    /// between those with a start.
    pub start: Option<Bytes>,
    /// How long it is.
    pub size: Size,
    /// What it is for. Ignored without a table.
    pub kind: Type,
    /// Its GUID; GPT only.
    pub guid: Uuid,
    /// Its name, at most 36 UTF-16 units; GPT only, elsewhere it has to be empty.
    pub label: String,
    /// Its attribute bits; GPT only, elsewhere they have to be zero.
    pub attributes: u64,
    /// Whether a BIOS boots it; MBR, or shown in a hybrid MBR.
    pub active: bool,
    /// Whether it lies in the extended partition; MBR only. Logical partitions follow each other in the list.
    pub logical: bool,
}

/// How long a partition is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Exactly this, a multiple of the sector and not zero.
    Exactly(Bytes),
    /// What is left up to the next partition with a start, or to the end of the disk, down to a multiple of [`GRAIN`].
    Fill,
}

/// A disk as it will be.
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
    /// Numbers of the partitions that a hybrid MBR shows, in its order.
    pub hybrid: Vec<u32>,
    /// The extended partition that holds the logical ones.
    pub extended: Option<Extended>,
    /// The partitions, in the order of the request.
    pub partitions: Vec<Placed>,
}

/// A partition as it will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its slot in the table, from 1; 1 without a table.
    pub number: u32,
    /// Where it begins.
    pub offset: Bytes,
    /// How long it is.
    pub length: Bytes,
    /// What it is for.
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

    /// A length in whole sectors.
    fn sectors(&self, bytes: Bytes) -> u64 {
        bytes.div_ceil(self.sector_size)
    }
}

/// A request that cannot be met, and which of its partitions that is about.
#[derive(Debug)]
struct Refusal {
    /// Indices into [`Request::partitions`]: none for the disk as a whole, two for an overlap.
    partitions: Vec<usize>,
    /// What is wrong.
    error: Error,
}

impl Refusal {
    /// Of the disk as a whole.
    fn disk(what: impl Into<String>) -> Self {
        Self { partitions: Vec::new(), error: Error::new(Kind::Manifest, what) }
    }

    /// Of one partition; `rule` follows its name.
    fn of(index: usize, rule: &str) -> Self {
        let what = format!("{}: {rule}", Subject::Partition(index));
        Self { partitions: vec![index], error: Error::new(Kind::Manifest, what) }
    }

    /// Of two partitions; `rule` stands between their names.
    fn both(one: usize, rule: &str, other: usize) -> Self {
        let what = format!("{} {rule} {}", Subject::Partition(one), Subject::Partition(other));
        Self { partitions: vec![one, other], error: Error::new(Kind::Manifest, what) }
    }

    /// Of the wish that cannot be met: `start`, `label`; of the disk `first_lba`.
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
        Self { error: self.error.hint(text), ..self }
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

/// What partitions may use of a disk.
#[derive(Clone, Copy, Debug)]
struct Area {
    /// The first byte.
    start: Bytes,
    /// The end, exclusive: of the disk, or where its size is not given, of what the table or a file can hold.
    end: Bytes,
    /// What the table needs behind `end`.
    tail: Bytes,
    /// Whether the disk goes on behind `end` and `tail`, out of reach of the table.
    beyond: bool,
    /// Why it is no larger.
    why: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MIB;

    /// Two partitions with names in every table, for the tests that poison one.
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
        };
        Plan {
            scheme: Scheme::Gpt,
            sector_size: 512,
            length: Bytes::new(4 * MIB),
            guid: Uuid::from_u128(7),
            signature: 7,
            first_usable: Sectors::new(34),
            last_usable: Sectors::new(8158),
            hybrid: Vec::new(),
            extended: None,
            partitions: vec![placed(1, "esp"), placed(2, "linux-generic")],
        }
    }
}
