//! What the `filesystem` of a partition means.

use uuid::Uuid;

use super::super::Manifest;
use super::super::locate::KeyPath;
use super::super::schema::{self, FilesystemKind};
use super::super::values::{FilesystemId, Inodes, PartitionSize};
use crate::error::Result;
use crate::filesystem::ext4::{Journal, Reserved, TimePolicy};
use crate::filesystem::fat::FatType;
use crate::units::Bytes;

/// A filesystem to make; its size is the partition's.
#[derive(Clone, Debug)]
pub enum Filesystem {
    /// ext4.
    Ext4(Ext4),
    /// FAT.
    Vfat(Vfat),
    /// A swap area.
    Swap(Swap),
}

/// The options of ext4.
#[derive(Clone, Debug)]
pub struct Ext4 {
    /// Volume label.
    pub label: String,
    /// Its UUID, where it was given.
    pub uuid: Option<Uuid>,
    /// Seed of the hashes of directories, where it was given.
    pub hash_seed: Option<Uuid>,
    /// Room to leave, with size auto.
    pub free: Option<Bytes>,
    /// Size up to which it grows while mounted.
    pub grow_to: Option<Bytes>,
    /// How many inodes, where that was given.
    pub inodes: Option<u64>,
    /// Whether there is a journal.
    pub journal: Journal,
    /// What is kept for the super-user.
    pub reserved: Reserved,
    /// What becomes of times it cannot hold.
    pub times: TimePolicy,
}

/// The options of FAT.
#[derive(Clone, Debug)]
pub struct Vfat {
    /// Volume label.
    pub label: String,
    /// Its volume id, where it was given.
    pub volume_id: Option<u32>,
    /// Room to leave, with size auto.
    pub free: Option<Bytes>,
    /// Width of the FAT, where it was given.
    pub fat: Option<FatType>,
    /// Bytes in a cluster, where that was given.
    pub cluster_size: Option<Bytes>,
}

/// The options of a swap area.
#[derive(Clone, Debug)]
pub struct Swap {
    /// Label.
    pub label: String,
    /// Its UUID, where it was given.
    pub uuid: Option<Uuid>,
}

/// Which keys belong to which filesystems.
const BELONGS: [(&str, &[FilesystemKind]); 9] = [
    ("free", &[FilesystemKind::Ext4, FilesystemKind::Vfat]),
    ("hash_seed", &[FilesystemKind::Ext4]),
    ("grow_to", &[FilesystemKind::Ext4]),
    ("inodes", &[FilesystemKind::Ext4]),
    ("journal", &[FilesystemKind::Ext4]),
    ("reserved", &[FilesystemKind::Ext4]),
    ("times", &[FilesystemKind::Ext4]),
    ("fat", &[FilesystemKind::Vfat]),
    ("cluster_size", &[FilesystemKind::Vfat]),
];

/// What a filesystem is called in errors and reports.
const fn name(kind: FilesystemKind) -> &'static str {
    match kind {
        FilesystemKind::Ext4 => "ext4",
        FilesystemKind::Vfat => "vfat",
        FilesystemKind::Swap => "swap",
    }
}

/// What `written`, which stands at `path`, means in a partition of `size`.
pub(super) fn filesystem(
    manifest: &Manifest,
    written: &schema::Filesystem,
    path: &KeyPath,
    size: PartitionSize,
) -> Result<Filesystem> {
    let there = [
        written.free.is_some(),
        written.hash_seed.is_some(),
        written.grow_to.is_some(),
        written.inodes.is_some(),
        written.journal.is_some(),
        written.reserved.is_some(),
        written.times.is_some(),
        written.fat.is_some(),
        written.cluster_size.is_some(),
    ];
    for ((key, kinds), there) in BELONGS.into_iter().zip(there) {
        if there && !kinds.contains(&written.kind) {
            let what = format!("`{key}` means nothing for {}", name(written.kind));
            return Err(manifest.refuse(&path.key(key), what).hint("leave it out"));
        }
    }
    if written.free.is_some() && size != PartitionSize::Auto {
        return Err(manifest
            .refuse(&path.key("free"), "`free` means nothing for a partition whose size is given")
            .expected("size = \"auto\", which leaves that much room, or a size without `free`"));
    }
    let label = written.label.clone().unwrap_or_default();
    match written.kind {
        FilesystemKind::Ext4 => Ok(Filesystem::Ext4(Ext4 {
            label,
            uuid: uuid(manifest, written, path)?,
            hash_seed: written.hash_seed.map(|seed| seed.0),
            free: written.free,
            grow_to: written.grow_to,
            inodes: match written.inodes {
                Some(Inodes::Count(count)) => Some(count),
                Some(Inodes::Auto) | None => None,
            },
            journal: written.journal.unwrap_or_default(),
            reserved: written.reserved.unwrap_or_default(),
            times: written.times.unwrap_or_default(),
        })),
        FilesystemKind::Vfat => Ok(Filesystem::Vfat(Vfat {
            label,
            volume_id: match written.uuid {
                None => None,
                Some(FilesystemId::Volume(id)) => Some(id),
                Some(FilesystemId::Uuid(_)) => {
                    let error = manifest.refuse(&path.key("uuid"), "the id of a vfat is no UUID");
                    return Err(error.expected("a volume id: 8 hex digits such as 1234-ABCD"));
                }
            },
            free: written.free,
            fat: written.fat.map(|fat| fat.0),
            cluster_size: written.cluster_size,
        })),
        FilesystemKind::Swap => Ok(Filesystem::Swap(Swap { label, uuid: uuid(manifest, written, path)? })),
    }
}

/// The id of a filesystem that is named by a UUID.
fn uuid(manifest: &Manifest, written: &schema::Filesystem, path: &KeyPath) -> Result<Option<Uuid>> {
    match written.uuid {
        None => Ok(None),
        Some(FilesystemId::Uuid(uuid)) => Ok(Some(uuid)),
        Some(FilesystemId::Volume(_)) => Err(manifest
            .refuse(&path.key("uuid"), format!("the id of {} is no volume id", name(written.kind)))
            .expected("a UUID: xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")),
    }
}
