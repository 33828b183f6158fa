//! The root hash, which decides every byte of a verified partition, and the texts that have it.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::encoding::{from_hex, to_hex};
use crate::error::{Error, Kind, Result};
use crate::text;

/// The longest hash, in bytes: SHA-512.
const LONGEST: usize = 64;

/// The root hash of a tree. If it can be trusted, so can every block of the data. `Display` and `FromStr` are lower-case
/// hexadecimal digits, as `roothash=` and `usrhash=` take them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RootHash(Vec<u8>);

impl RootHash {
    /// A root hash of these bytes.
    ///
    /// # Errors
    /// [`Kind::Manifest`] for fewer than 16 bytes, which are too few for a GUID, and for more than 64.
    pub fn new(bytes: Vec<u8>) -> Result<Self> {
        if (16..=LONGEST).contains(&bytes.len()) {
            return Ok(Self(bytes));
        }
        Err(Error::new(Kind::Manifest, "this is no root hash of dm-verity")
            .expected(format!("16 to {LONGEST} bytes"))
            .found(format!("{} bytes", bytes.len())))
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// GUID of the partition with the data: the first 16 bytes (Discoverable Partitions Specification).
    #[must_use]
    pub fn data_guid(&self) -> Uuid {
        guid(self.0.first_chunk())
    }

    /// GUID of the partition with the hashes: the last 16 bytes (Discoverable Partitions Specification).
    #[must_use]
    pub fn hash_guid(&self) -> Uuid {
        guid(self.0.last_chunk())
    }
}

/// The bytes of a root hash in the order of a UUID's text.
fn guid(bytes: Option<&[u8; 16]>) -> Uuid {
    bytes.copied().map_or(Uuid::nil(), Uuid::from_bytes)
}

impl fmt::Display for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl fmt::Debug for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RootHash {
    type Err = Error;

    fn from_str(digits: &str) -> Result<Self> {
        let bytes = from_hex(digits.as_bytes()).ok_or_else(|| {
            Error::new(Kind::Manifest, "this is no root hash of dm-verity")
                .expected("hexadecimal digits, two a byte")
                .found(text::shortened(digits.as_bytes(), 2 * LONGEST))
        })?;
        Self::new(bytes)
    }
}
