//! What a pool is to be: the options of users.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::filesystem::Spec;
use crate::helper;
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
    /// Features that may be enabled, as `zpool create -o compatibility=` reads it: those of the sets openzfs-2.1-linux, grub2-2.12,
    /// …, of several with commas between them those that all have; legacy, none; default off, all of OpenZFS 2.4.
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
    /// How the pool is made: process (default), in this process; or vm, by OpenZFS in a helper VM, which takes every property
    /// and vdev.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "WAY"))]
    pub via: Option<Via>,
    /// With vm, the vdevs as `zpool create` takes them, with names in place of devices: `mirror a b log c`. The first
    /// name is this disk; each other one is a disk of its own, in a file with that name before its suffix.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "VDEVS"))]
    pub vdevs: Option<String>,
    /// Sizes of further disks by their names; default that of the first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub vdev_sizes: BTreeMap<String, Bytes>,
    /// With vm, files with the keys of encrypted datasets, by the datasets' names with the pool.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub keys: BTreeMap<String, String>,
    /// The helper VM.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub vm: Box<helper::Options>,
}

/// Whether nothing is said of a helper VM.
fn is_default(options: &helper::Options) -> bool {
    *options == helper::Options::default()
}

/// How a pool is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Via {
    /// In this process.
    #[default]
    Process,
    /// By OpenZFS in a helper VM.
    Vm,
}

words!(Via, "a pool is made by", "process" => Process, "vm" => Vm);

value!(Via, text, "ZfsVia", "\"process\" or \"vm\"", {
    "description": "How a pool is made: in this process, or by OpenZFS in a helper VM.",
    "enum": ["process", "vm"]
});

impl Options {
    /// Makes every path of this machine one that `place` gives.
    pub(in crate::filesystem) fn place(&mut self, place: &dyn Fn(&str) -> std::path::PathBuf) {
        self.vm.place(place);
        for spec in self.datasets.values_mut().filter_map(|dataset| dataset.filesystem.as_mut()) {
            spec.place(place);
        }
        for key in self.keys.values_mut() {
            *key = place(key).to_string_lossy().into_owned();
        }
    }

    /// Where the reader shows the directories of the tree: their mount points, and the datasets' own names.
    pub(in crate::filesystem) fn shown_at(&self) -> Vec<(String, String)> {
        let mounted = self.datasets.iter().filter(|(_, own)| own.kind != Some(DatasetKind::Volume));
        let mounted = mounted.filter_map(|(name, own)| Some((own.mount.clone()?, format!("/{name}"))));
        // What no dataset has is the pool's own, unless one is mounted at the root: of two with one path the later one counts.
        std::iter::once(("/".to_owned(), "/".to_owned())).chain(mounted).collect()
    }

    /// The same except for how it is made, which decides no id.
    pub(in crate::filesystem) fn without_way(&self) -> Self {
        Self { via: None, vm: Box::default(), ..self.clone() }
    }
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
    /// Directory of the contents that goes to this filesystem, or to the one in a volume, with all below that no other dataset
    /// has; default none, an empty filesystem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
    /// Bytes of a volume: a multiple of its property `volblocksize`, which is 16 KiB by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volsize: Option<Bytes>,
    /// File of the contents that a volume holds, which is then no file of a filesystem; default none, an empty volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The filesystem that a volume holds, with its options as those of a partition; default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<Box<Spec>>,
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
