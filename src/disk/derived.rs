//! Partitions whose bytes follow from other partitions: the hash tree of dm-verity, for example.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use crate::error::{Error, Kind, Result};
use crate::filesystem::Facts;
use crate::image::{Digest, Image};
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

    /// Refuses what cannot be read on a disk with logical sectors of this many bytes. It is asked before any work.
    ///
    /// # Errors
    /// Where the disk's sectors are too large for it.
    fn check_sector_size(&self, sector_size: u64) -> Result<()> {
        let _ = sector_size;
        Ok(())
    }

    /// Refuses partitions that nothing could read through it. It is asked before its bytes are made.
    ///
    /// # Errors
    /// Where what `needed` holds does not go with it.
    fn check_needed(&self, needed: &[Needed]) -> Result<()> {
        let _ = needed;
        Ok(())
    }

    /// Its bytes, and everything else that follows from the partitions that it depends on.
    ///
    /// # Errors
    /// Errors of reading `needed`, and for anything that does not fit `request`.
    fn build(&self, needed: &[Needed], request: &Request<'_>) -> Result<Made>;

    /// Its bytes where they can be rendered from digests that are taken while the disk is poured, so that the data is read
    /// once; `needed` has the lengths of the partitions that it needs. It is asked only where no name, no text and no other
    /// partition needs a value or a byte of it before the pour. `None` is built by [`build`](Self::build), which gives the
    /// same bytes.
    ///
    /// # Errors
    /// What does not fit `request`.
    fn observe(&self, needed: &[Bytes], request: &Request<'_>) -> Result<Option<Observing>> {
        let _ = (needed, request);
        Ok(None)
    }
}

/// A partition that a derived partition depends on.
#[derive(Clone, Debug)]
pub struct Needed {
    /// Its bytes; the rest of the partition reads as zero.
    pub image: Image,
    /// How long the partition is.
    pub length: Bytes,
    /// What follows from it, where it is derived itself.
    pub values: Values,
    /// The name of the filesystem in it and the bytes of its blocks, where Linux mounts it only on a device whose sectors are no
    /// larger.
    pub blocks: Option<(&'static str, u64)>,
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

/// A derived partition that is rendered from digests.
#[derive(Clone, Debug)]
pub struct Observing {
    /// Its bytes; what follows from the digests is rendered.
    pub image: Image,
    /// The digests, each with the partition that it observes, from its first byte to its last: one of
    /// [`Derived::needs`].
    pub digests: Vec<(usize, Arc<dyn Digest>)>,
    /// What it says of itself.
    pub facts: Option<Facts>,
    /// What follows by name, once the digests are taken.
    pub values: Arc<dyn LateValues>,
}

/// Values that follow from digests.
pub trait LateValues: Send + Sync + fmt::Debug {
    /// The values; all digests are taken.
    ///
    /// # Errors
    /// [`Kind::Bug`] where a digest was not shown all of its data.
    fn values(&self) -> Result<Values>;
}

/// Named values of a derived partition.
pub type Values = BTreeMap<&'static str, String>;

/// The value `name` of a partition, which has `values`.
///
/// # Errors
/// [`Kind::Manifest`] where it has no value of that name.
pub(super) fn value<'a>(values: &'a Values, name: &str) -> Result<&'a str> {
    let value = values.get(name).map(String::as_str);
    value.ok_or_else(|| {
        let error = Error::new(Kind::Manifest, "a partition has no such value").found(name);
        match values.is_empty() {
            true => error.why("nothing is derived in it"),
            false => error.expected(values.keys().copied().collect::<Vec<_>>().join(", ")),
        }
    })
}
