//! CRC32C as ext4 uses it: without the final inversion, and seeded by the filesystem's UUID. So a block of
//! another filesystem or from another place has a wrong checksum (kernel.org, ext4, "Checksums"; e2fsprogs
//! lib/ext2fs/csum.c).

use uuid::Uuid;

/// A running checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checksum(u32);

impl Checksum {
    /// The seed of the superblock's own checksum, which cannot depend on what it protects.
    pub(super) const START: Self = Self(u32::MAX);

    /// A seed that the superblock gives (metadata_csum_seed).
    pub(super) const fn seeded(seed: u32) -> Self {
        Self(seed)
    }

    /// The seed of everything else: the UUID of the filesystem.
    pub(super) fn of_filesystem(uuid: Uuid) -> Self {
        Self::START.with(uuid.as_bytes())
    }

    /// The seed for the parts of an inode: its number and its generation, which is 0 in a new filesystem.
    /// Each is 32 bits little-endian, so together they are one number of 64 bits.
    pub(super) fn of_inode(self, inode: u32) -> Self {
        self.with(&u64::from(inode).to_le_bytes())
    }

    /// Continues with `bytes`. The crate inverts before and after; ext4 does neither.
    pub(super) fn with(self, bytes: &[u8]) -> Self {
        Self(!crc32c::crc32c_append(!self.0, bytes))
    }

    /// The value to store.
    pub(super) const fn value(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_check_value_holds() {
        // CRC-32C of "123456789" is e3069283 (CRC catalogue, CRC-32/ISCSI); ext4 stores its complement.
        assert_eq!(!Checksum::START.with(b"123456789").value(), 0xe306_9283);
    }
}
