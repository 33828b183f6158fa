//! Ids of a disk, a partition or a filesystem.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::{ValueError, refuse};
use crate::error::{Error, Kind};
use crate::table::Scheme;

/// A UUID in its usual text form; GPT calls it GUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guid(pub Uuid);

impl FromStr for Guid {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if eight_digits(text).is_some() {
            return refuse(
                "this is the volume id of a FAT, and no UUID: xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
            );
        }
        // The crate `uuid` also parses braces, URNs and bare digits. A manifest has one form, so that a text
        // search finds an id.
        if text.len() != 36 {
            return refuse("a UUID is 32 hex digits in the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");
        }
        Uuid::try_parse(text)
            .map(Self)
            .or_else(|_| refuse("a UUID is 32 hex digits in the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"))
    }
}

impl Guid {
    /// The UUID as the id of something on a disk.
    ///
    /// # Errors
    /// [`Kind::Manifest`] for the UUID of zeros, which says that there is no id.
    pub fn id(self) -> crate::error::Result<Uuid> {
        if self.0.is_nil() {
            return Err(Error::new(Kind::Manifest, "a UUID of zeros names nothing")
                .expected("another UUID, or none: the id then derives from the seed")
                .found(self));
        }
        Ok(self.0)
    }
}

impl From<Uuid> for Guid {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

value!(Guid, text, "Guid", "a UUID in quotes", {
    "description": "A UUID: 32 hex digits in the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx.",
    "type": "string", "format": "uuid", "pattern": concat!("^", uuid_pattern!(), "$")
});

/// 8 hex digits, with or without `0x`, with or without a dash in the middle.
fn eight_digits(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let joined = match digits.split_once('-') {
        Some((a, b)) if a.len() == 4 && b.len() == 4 => [a, b].concat(),
        Some(_) => return None,
        None => digits.to_owned(),
    };
    let plain = joined.len() == 8 && joined.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u32::from_str_radix(&joined, 16).ok()).flatten()
}

/// The id of a disk: the GUID of a GPT, or the signature of an MBR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskId {
    /// Of a GPT.
    Guid(Uuid),
    /// Of an MBR.
    Signature(u32),
}

impl DiskId {
    /// This id, for a disk with the table `scheme`.
    ///
    /// # Errors
    /// [`Kind::Manifest`] where a disk with this table has another kind of id, and for a GUID of zeros.
    pub fn of(self, scheme: Scheme) -> crate::error::Result<Self> {
        let expected = match (self, scheme) {
            (Self::Signature(_), Scheme::Gpt) => "a UUID, for a GPT",
            (Self::Guid(_), Scheme::Mbr) => "8 hex digits such as 0x2178694e, for an MBR",
            (Self::Guid(guid), _) => return Guid(guid).id().map(Self::Guid),
            (id, _) => return Ok(id),
        };
        Err(Error::new(Kind::Manifest, "the disk's id is of the wrong kind").expected(expected))
    }
}

impl FromStr for DiskId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match (text.contains('-'), eight_digits(text)) {
            (false, Some(signature)) => Ok(Self::Signature(signature)),
            _ => text.parse::<Guid>().map(|guid| Self::Guid(guid.0)).or_else(|_| {
                refuse("a disk is named by a UUID (GPT) or by 8 hex digits such as 0x2178694e (MBR)")
            }),
        }
    }
}

impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guid(guid) => guid.fmt(f),
            Self::Signature(signature) => write!(f, "0x{signature:08x}"),
        }
    }
}

value!(DiskId, text, "DiskId", "a UUID or 8 hex digits, in quotes", {
    "description": "The disk's GUID, or for an MBR its signature: 8 hex digits.",
    "type": "string", "pattern": concat!("^((0x)?[0-9A-Fa-f]{8}|", uuid_pattern!(), ")$")
});

/// The volume id of a FAT, which Linux shows as its UUID: `1234-ABCD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeId(pub u32);

impl FromStr for VolumeId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match eight_digits(text) {
            Some(id) => Ok(Self(id)),
            None if text.parse::<Guid>().is_ok() => {
                refuse("the id of a vfat is no UUID, but a volume id: 8 hex digits such as 1234-ABCD")
            }
            None => refuse("a volume id is 8 hex digits such as 1234-ABCD"),
        }
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04X}-{:04X}", self.0 >> 16, self.0 & 0xffff)
    }
}

value!(VolumeId, text, "VolumeId", "8 hex digits such as 1234-ABCD, in quotes", {
    "description": "A volume id of 8 hex digits such as 1234-ABCD.",
    "type": "string", "pattern": "^(0x)?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{4}$"
});
