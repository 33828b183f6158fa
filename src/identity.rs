//! Derives every id that the description does not give from one seed, as systemd-repart does. So the same
//! manifest gives the same disk, and an image built here has the ids that repart would have chosen.
//!
//! All ids are HMAC-SHA256 with a UUID as key. UUIDs are used, as key and as message, in the order of their
//! text and not in the mixed-endian order of a GPT. If the result is a UUID, it is the first 16 bytes with
//! version 4 and the RFC variant set. Source: systemd `src/partition/repart.c` (`derive_uuid`,
//! `partition_acquire_uuid`). The strings are ASCII without a final NUL.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::{Builder, Uuid};

/// Bytes in a block of SHA-256, to which HMAC pads its key (RFC 2104, section 2).
const HASH_BLOCK: usize = 64;

/// HMAC-SHA256 of the parts of a message, one after the other, with a UUID as key.
fn hmac(key: Uuid, message: &[&[u8]]) -> [u8; 32] {
    // HMAC pads a short key with zeros itself, so the padded key is the same key. Only this length cannot
    // fail.
    let mut padded = [0; HASH_BLOCK];
    padded[..16].copy_from_slice(key.as_bytes());
    let mut mac = Hmac::<Sha256>::new(&padded.into());
    for part in message {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The first 16 bytes of a hash as a UUID of version 4.
fn version4(hash: [u8; 32]) -> Uuid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    Builder::from_random_bytes(bytes).into_uuid()
}

/// A UUID derived from `key` for the purpose `name`.
fn derive(key: Uuid, name: &str) -> Uuid {
    version4(hmac(key, &[name.as_bytes()]))
}

/// The seed of a disk. Its ids derive from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seed(Uuid);

impl Seed {
    /// A seed.
    #[must_use]
    pub const fn new(seed: Uuid) -> Self {
        Self(seed)
    }

    /// The UUID of the seed.
    #[must_use]
    pub const fn get(self) -> Uuid {
        self.0
    }

    /// GUID of the disk.
    #[must_use]
    pub fn disk_guid(self) -> Uuid {
        derive(self.0, "disk-uuid")
    }

    /// GUID of a partition of type `kind`, with `earlier` partitions of the same type before it in the table.
    /// It is the key of everything that derives from the partition, even if the table gets another GUID
    /// (dm-verity).
    #[must_use]
    pub fn partition_guid(self, kind: Uuid, earlier: u64) -> Uuid {
        self.nth(kind.as_bytes(), earlier)
    }

    /// The key that replaces the GUID of an MBR partition, which has no GUID: as [`Seed::partition_guid`],
    /// with the text `mbr-type-83` (two lower-case hexadecimal digits) instead of the type GUID. repart does
    /// not write MBRs, so this extends its rule.
    #[must_use]
    pub fn mbr_partition_key(self, kind: u8, earlier: u64) -> Uuid {
        self.nth(format!("mbr-type-{kind:02x}").as_bytes(), earlier)
    }

    /// The first of its kind derives from the kind alone. The others also use their number, as 64 bits
    /// little-endian.
    fn nth(self, kind: &[u8], earlier: u64) -> Uuid {
        let number = earlier.to_le_bytes();
        let number: &[u8] = if earlier == 0 { &[] } else { &number };
        version4(hmac(self.0, &[kind, number]))
    }

    /// The UUID that the ids inside a container (VHD, VDI, VMDK, VHDX) derive from: v4(H(seed,
    /// "container-uuid")). This rule is our own, because systemd-repart writes raw disks only.
    #[must_use]
    pub fn container_uuid(self) -> Uuid {
        derive(self.0, "container-uuid")
    }

    /// The seed of the disk that boots the system on this one.
    #[must_use]
    pub fn boot_disk(self) -> Self {
        Self(derive(self.0, "boot-disk"))
    }

    /// UUID in the superblock of dm-verity.
    #[must_use]
    pub fn verity_uuid(self) -> Uuid {
        derive(self.0, "verity-uuid")
    }

    /// Salt of dm-verity's hashes.
    #[must_use]
    pub fn verity_salt(self) -> [u8; 32] {
        hmac(self.0, &[b"verity-salt"])
    }
}

/// An id inside a container: v4(H(container, name)). Each name belongs to one field of one format, such as
/// `vhd-uuid`, so that no two ids are equal.
pub(crate) fn container_part(container: Uuid, name: &str) -> Uuid {
    derive(container, name)
}

/// Signature of an MBR, from the GUID that the disk has or would have. It is the first four bytes in the
/// order of the text, so it prints as the first eight digits of the GUID. Zero means "none" to programs that
/// find disks by signature, so it becomes 1.
#[must_use]
pub fn mbr_signature(disk: Uuid) -> u32 {
    first_four(disk).max(1)
}

/// UUID of the filesystem in the partition with this GUID, or this key ([`Seed::mbr_partition_key`]).
#[must_use]
pub fn filesystem_uuid(partition: Uuid) -> Uuid {
    derive(partition, "file-system-uuid")
}

/// Volume id of a FAT with this filesystem UUID: its first eight digits, which `blkid` prints as `793A-442B`.
#[must_use]
pub fn fat_volume_id(filesystem: Uuid) -> u32 {
    first_four(filesystem)
}

/// Seed of the hashes that order ext4's directories: the filesystem's UUID, as systemd has it since
/// [systemd#40323](https://github.com/systemd/systemd/pull/40323).
#[must_use]
pub const fn hash_seed(filesystem: Uuid) -> Uuid {
    filesystem
}

/// UUID of the LUKS header in the partition with this GUID.
#[must_use]
pub fn luks_uuid(partition: Uuid) -> Uuid {
    derive(partition, "luks-uuid")
}

/// What a part of a ZFS pool derives from the key of its partition's filesystem: H(filesystem, name), with a name of its
/// own for each GUID and salt. This rule is our own, because systemd-repart makes no pools.
pub(crate) fn pool_part(filesystem: Uuid, name: &str) -> [u8; 32] {
    hmac(filesystem, &[b"zfs-", name.as_bytes()])
}

/// The first four bytes of a UUID's text as a number.
fn first_four(uuid: Uuid) -> u32 {
    uuid.as_fields().0
}
