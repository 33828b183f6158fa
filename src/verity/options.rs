//! What decides the bytes of a hash device, beside the data.

use uuid::Uuid;

use super::format::LONGEST_SALT;
use crate::error::{Error, Kind, Result};
use crate::identity::Seed;
use crate::units::{Bytes, usize_of};

/// What decides the bytes of a hash device, beside the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What blocks are hashed with.
    pub algorithm: Algorithm,
    /// Bytes that are hashed, and later verified, at a time. The kernel takes no more than a page of memory.
    pub data_block_size: BlockSize,
    /// Bytes in a block of hashes.
    pub hash_block_size: BlockSize,
    /// Where the salt stands, and how hashes are packed.
    pub hash_type: HashType,
    /// What is hashed with every block, at most 256 bytes.
    pub salt: Vec<u8>,
    /// UUID of the hash device.
    pub uuid: Uuid,
}

impl Options {
    /// As systemd-repart makes it: SHA-256, blocks of 4096 bytes, salt and UUID derived from the seed of the disk.
    #[must_use]
    pub fn from_seed(seed: Seed) -> Self {
        Self {
            algorithm: Algorithm::default(),
            data_block_size: BlockSize::default(),
            hash_block_size: BlockSize::default(),
            hash_type: HashType::default(),
            salt: seed.verity_salt().to_vec(),
            uuid: seed.verity_uuid(),
        }
    }

    /// Refuses a salt that has no place in the superblock.
    pub(super) fn check(&self) -> Result<()> {
        match self.salt.len() {
            0..=LONGEST_SALT => Ok(()),
            length => Err(Error::new(Kind::Manifest, "the salt of dm-verity is too long")
                .about("salt")
                .expected(format!("at most {LONGEST_SALT} bytes"))
                .found(format!("{length} bytes"))),
        }
    }
}

/// What blocks are hashed with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// SHA-1, which is no longer safe: for what older systems verify.
    Sha1,
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// All, in the order of their lengths.
    pub const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// Its name in the kernel and in the superblock.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Bytes of a hash.
    #[must_use]
    pub const fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// Bytes in a block: a power of two from 512 bytes to 64 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockSize(u32);

impl BlockSize {
    /// A block of `size`.
    ///
    /// # Errors
    /// [`Kind::Manifest`] for a number that is not a power of two from 512 bytes to 64 KiB.
    pub fn new(size: Bytes) -> Result<Self> {
        let fits = |bytes: &u32| bytes.is_power_of_two() && (512..=65_536).contains(bytes);
        u32::try_from(size.get()).ok().filter(fits).map(Self).ok_or_else(|| {
            Error::new(Kind::Manifest, "dm-verity has no blocks of this size")
                .expected("a power of two from 512 bytes to 64KiB")
                .found(size)
        })
    }

    /// Bytes in the block.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    pub(super) fn bytes(self) -> u64 {
        u64::from(self.0)
    }

    pub(super) fn length(self) -> usize {
        usize_of(self.bytes())
    }
}

impl Default for BlockSize {
    /// 4096 bytes.
    fn default() -> Self {
        Self(4096)
    }
}

/// Where the salt stands, and how hashes are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HashType {
    /// The salt stands before the block, and hashes stand at multiples of a power of two: type 1.
    #[default]
    Normal,
    /// The salt stands behind the block, and hashes stand one behind the other: type 0, that of the first versions of
    /// Chromium OS.
    ChromiumOs,
}

impl HashType {
    /// Its number in the superblock.
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::Normal => 1,
            Self::ChromiumOs => 0,
        }
    }
}
