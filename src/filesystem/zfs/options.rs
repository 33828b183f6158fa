//! What a pool is to be: the options of users.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Bytes;
use crate::values::{Property, value, words};

/// The options of a ZFS pool: keys of a manifest, flags of `mkfs zfs`, and what a caller of the library sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Zfs")]
pub struct Options {
    /// Name of the pool; default `tank`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long = "label", value_name = "NAME"))]
    pub pool: Option<String>,
    /// With a size of auto, the space that `df` shows as available in the running system; default 16MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    pub free: Option<Bytes>,
    /// Size of the disk to which the pool will grow; metaslabs, which never change, are made for it. Default its own size.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    pub grow_to: Option<Bytes>,
    /// log2 of the bytes that are allocated and written together, 9 to 16; default 12.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub ashift: Option<u8>,
    /// Compression of everything that does not say its own, as the property `compression`: off, lz4, zle, gzip-N, zstd-N;
    /// default lz4.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(id = "packed_compress", long = "compress", value_name = "COMPRESSION"))]
    pub compress: Option<String>,
    /// Set of features, as `zpool create -o compatibility=` reads it: openzfs-2.1-linux, grub2-2.12, …; default off, all of
    /// OpenZFS 2.4.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SET"))]
    pub compatibility: Option<String>,
    /// Whether the pool has a disk alone: it is in partition 1, and partition 9 of 8 MiB (type `solaris-reserved`) follows, so
    /// that OpenZFS grows both with the disk; default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub whole_disk: Option<bool>,
    /// Properties of the pool, as `zpool create -o` takes them: autoexpand, bootfs, feature@NAME, …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub pool_properties: BTreeMap<String, Property>,
    /// Properties of the pool's own dataset, which others inherit, as `zpool create -O` takes them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub properties: BTreeMap<String, Property>,
    /// Datasets by their names below the pool, as `root/nix`; each parent is one too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub datasets: BTreeMap<String, DatasetOptions>,
}

/// What a dataset of a ZFS pool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DatasetKind {
    /// It holds files.
    #[default]
    Filesystem,
    /// It is a block device.
    Volume,
}

words!(DatasetKind, "a dataset of ZFS is", "filesystem" => Filesystem, "volume" => Volume);

value!(DatasetKind, text, "ZfsDatasetType", "\"filesystem\" or \"volume\"", {
    "description": "Whether a dataset of ZFS holds files or is a block device.",
    "enum": ["filesystem", "volume"]
});

/// The options of a dataset of a ZFS pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ZfsDataset")]
pub struct DatasetOptions {
    /// Whether it is a filesystem (default) or a volume, which is a block device.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<DatasetKind>,
    /// Directory of the contents that goes to this filesystem, with all below that no other dataset has; default none, an
    /// empty filesystem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
    /// Bytes of a volume: a multiple of its property `volblocksize`, which is 16 KiB by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volsize: Option<Bytes>,
    /// File of the contents that a volume holds, which is then no file of a filesystem; default none, an empty volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Properties, as `zfs create -o` takes them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, Property>,
    /// Names of snapshots of the dataset without contents, as `zfs snapshot` makes them right after `zfs create`: `blank`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub empty_snapshots: Vec<String>,
    /// Names of snapshots of the contents, as `installed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<String>,
}
