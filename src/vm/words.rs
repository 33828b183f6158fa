//! The words of a machine's description.

use super::{Interface, Mode, ShareBy, StoreType};
use crate::values::{value, words};

words!(
    Mode, "a machine gets its disks by",
    "boot-loader" => BootLoader, "store-disk" => StoreDisk, "root-alone" => RootAlone
);

value!(Mode, text, "VmMode", "\"boot-loader\", \"store-disk\" or \"root-alone\"", {
    "description": "How a system gets its disks.",
    "enum": ["boot-loader", "store-disk", "root-alone"]
});

words!(StoreType, "the filesystem of a store disk is", "ext4" => Ext4, "erofs" => Erofs);

value!(StoreType, text, "VmStoreType", "\"ext4\" or \"erofs\"", {
    "description": "The filesystem of a store disk.",
    "enum": ["ext4", "erofs"]
});

words!(Interface, "the bus of a disk is", "virtio" => Virtio, "scsi" => Scsi, "ide" => Ide);

value!(Interface, text, "VmInterface", "\"virtio\", \"scsi\" or \"ide\"", {
    "description": "The bus of the disks.",
    "enum": ["virtio", "scsi", "ide"]
});

words!(ShareBy, "folders are shared by", "auto" => Auto, "virtiofs" => Virtiofs, "9p" => NineP);

value!(ShareBy, text, "VmShareBy", "\"auto\", \"virtiofs\" or \"9p\"", {
    "description": "How folders are shared.",
    "enum": ["auto", "virtiofs", "9p"]
});
