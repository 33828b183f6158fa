//! Partitions whose bytes follow from other partitions: the hash tree of dm-verity, for example.

use std::collections::BTreeMap;
use std::fmt;

use uuid::Uuid;

use crate::error::{Error, Result};
use crate::filesystem::Facts;
use crate::image::Image;
use crate::pour::Packer;
use crate::units::Bytes;

/// A partition that is a function of other partitions.
///
/// Its size follows from their sizes, before anything has a place. Its bytes and values follow from their
/// bytes, which are read once for it.
pub trait Derived: Send + Sync + fmt::Debug {
    /// The partitions that it depends on, by their position in the disk.
    fn needs(&self) -> Vec<usize>;

    /// Its size in bytes. `needed` has the sizes of the partitions that it depends on, in the order of
    /// [`needs`](Self::needs).
    ///
    /// # Errors
    /// Where it cannot be made for partitions of these sizes.
    fn size(&self, needed: &[Bytes]) -> Result<Bytes>;

    /// Its bytes, and everything else that follows from the partitions that it depends on.
    ///
    /// # Errors
    /// Errors of reading `needed`, and for anything that does not fit `request`.
    fn build(&self, needed: &[Needed], request: &Request<'_>) -> Result<Made>;
}

/// A partition that a derived partition depends on.
#[derive(Clone, Debug)]
pub struct Needed {
    /// Its bytes; the rest of the partition reads as zero.
    pub image: Image,
    /// How long the partition is.
    pub length: Bytes,
}

/// What a derived partition knows when it is built.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The length of the partition.
    pub length: Bytes,
    /// The key that its ids derive from.
    pub key: Uuid,
    /// Threads, progress and, for what is made ahead of a layout, spools.
    pub packer: &'a Packer,
}

/// A derived partition.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its bytes.
    pub image: Image,
    /// A description of it, for the report.
    pub facts: Option<Facts>,
    /// Named values that follow from the bytes: a root hash as hexadecimal digits, a GUID. Texts of other
    /// partitions and GUIDs refer to them.
    pub values: Values,
}

/// Named values of a derived partition.
pub type Values = BTreeMap<&'static str, String>;

/// The value `name` of a derived partition.
///
/// # Errors
/// [`Kind::Bug`](crate::error::Kind::Bug) where there is none: front ends refer only to values that exist.
pub(super) fn value<'a>(values: &'a Values, name: &str) -> Result<&'a str> {
    let value = values.get(name).map(String::as_str);
    value.ok_or_else(|| Error::bug(format!("a derived partition has no value `{name}`")))
}
