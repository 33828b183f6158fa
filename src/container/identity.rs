//! What a container can record about a disk besides its bytes.

use std::str::FromStr;

use uuid::Uuid;

use super::UnknownWord;

use crate::identity::container_part;
use crate::units::Bytes;

/// Bytes in a logical sector of a disk, the unit in which a guest counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SectorSize {
    /// 512 bytes.
    #[default]
    B512,
    /// 4096 bytes.
    B4096,
}

impl SectorSize {
    /// The sector size of this many bytes, if there is one.
    #[must_use]
    pub const fn of(bytes: u64) -> Option<Self> {
        match bytes {
            512 => Some(Self::B512),
            4096 => Some(Self::B4096),
            _ => None,
        }
    }

    /// The size in bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        match self {
            Self::B512 => 512,
            Self::B4096 => 4096,
        }
    }
}

impl FromStr for SectorSize {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let size = text.parse::<Bytes>().ok().and_then(|bytes| Self::of(bytes.get()));
        size.ok_or(UnknownWord { what: "sector size", known: "512 and 4096" })
    }
}

/// What a container can record about a disk besides its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The UUID that ids inside a container derive from.
    pub seed: Uuid,
    /// The id by which programs know the disk already, which the container keeps: VirtualBox and Hyper-V
    /// remember the id of a disk and not only its name. `None` derives one from `seed`.
    pub id: Option<Uuid>,
    /// When the disk was made, in seconds since 1970. A format records the nearest time that it can hold.
    pub time: i64,
    /// Bytes in a logical sector.
    pub sector_size: SectorSize,
}

impl Identity {
    /// The id for the purpose `name`.
    pub(super) fn derived(&self, name: &str) -> Uuid {
        container_part(self.seed, name)
    }

    /// The id of the disk: the existing one, or else the one derived for `name`.
    pub(super) fn of_disk(&self, name: &str) -> Uuid {
        self.id.unwrap_or_else(|| self.derived(name))
    }
}
