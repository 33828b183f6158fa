//! The bytes of OpenZFS: structures and constants without any decisions. All integers are little-endian, except those of
//! packed nvlists and the values in fat ZAPs, which are big-endian.
//!
//! Sources: OpenZFS 2.4.4, include/sys and module/zfs; each structure names its own.

mod block;
mod dsl;
mod label;
mod object;
mod zap;

pub(crate) use block::{BlockPointer, EmbeddedBlockPointer};
pub(crate) use dsl::{BlockPointerObject, Dataset, Deadlist, Directory};
pub(crate) use label::{Trailer, Uberblock};
pub(crate) use object::{AccessEntry, AttributeHeader, Dnode, ObjectSet, SpaceMap};
pub(crate) use zap::{ArrayChunk, EntryChunk, FatHeader, FreeChunk, LeafHeader, MicroEntry, MicroHeader};

use crate::wire::{Structure, Wire};

/// Every structure, for the tables of docs/formats/zfs.md.
pub(crate) const STRUCTURES: &[Structure] = &[
    Trailer::STRUCTURE,
    Uberblock::STRUCTURE,
    BlockPointer::STRUCTURE,
    EmbeddedBlockPointer::STRUCTURE,
    Dnode::STRUCTURE,
    ObjectSet::STRUCTURE,
    AttributeHeader::STRUCTURE,
    AccessEntry::STRUCTURE,
    SpaceMap::STRUCTURE,
    MicroHeader::STRUCTURE,
    MicroEntry::STRUCTURE,
    FatHeader::STRUCTURE,
    LeafHeader::STRUCTURE,
    EntryChunk::STRUCTURE,
    ArrayChunk::STRUCTURE,
    FreeChunk::STRUCTURE,
    Directory::STRUCTURE,
    Dataset::STRUCTURE,
    Deadlist::STRUCTURE,
    BlockPointerObject::STRUCTURE,
];

/// The version of pools that have features (spa.h, SPA_VERSION_FEATURES).
pub(super) const VERSION: u64 = 5000;

/// Bytes of a sector: the unit of the sizes in a block pointer (spa.h, SPA_MINBLOCKSHIFT).
pub(super) const SECTOR: u64 = 512;

/// Bytes of the largest block of data without the feature large_blocks, and of an indirect block (spa.h,
/// SPA_OLD_MAXBLOCKSIZE; dnode.h, DN_MAX_INDBLKSHIFT).
pub(super) const OLD_LARGEST: u64 = 128 << 10;

/// Bytes of one of the four labels (vdev_impl.h, vdev_label_t).
pub(super) const LABEL: u64 = 256 << 10;
/// What lies before the space that is allocated: two labels and the boot area (vdev_impl.h,
/// VDEV_LABEL_START_SIZE), and after it: two labels.
pub(super) const START: u64 = 4 << 20;
pub(super) const END: u64 = 2 * LABEL;
/// Bytes of the smallest device (vdev_impl.h, SPA_MINDEVSIZE).
pub(super) const SMALLEST: u64 = 64 << 20;

/// Types of objects and blocks (dmu.h, dmu_object_type_t).
pub(super) mod kind {
    pub(in super::super) const OBJECT_DIRECTORY: u8 = 1;
    pub(in super::super) const OBJECT_ARRAY: u8 = 2;
    pub(in super::super) const PACKED_NVLIST: u8 = 3;
    pub(in super::super) const PACKED_NVLIST_SIZE: u8 = 4;
    pub(in super::super) const BPOBJ: u8 = 5;
    pub(in super::super) const BPOBJ_HEADER: u8 = 6;
    pub(in super::super) const SPACE_MAP: u8 = 8;
    pub(in super::super) const SPACE_MAP_HEADER: u8 = 7;
    pub(in super::super) const DNODE: u8 = 10;
    pub(in super::super) const OBJSET: u8 = 11;
    pub(in super::super) const DSL_DIR: u8 = 12;
    pub(in super::super) const DSL_CHILDREN: u8 = 13;
    pub(in super::super) const DSL_SNAPSHOTS: u8 = 14;
    pub(in super::super) const DSL_PROPERTIES: u8 = 15;
    pub(in super::super) const DSL_DATASET: u8 = 16;
    pub(in super::super) const FILE: u8 = 19;
    pub(in super::super) const DIRECTORY: u8 = 20;
    pub(in super::super) const MASTER: u8 = 21;
    pub(in super::super) const UNLINKED: u8 = 22;
    pub(in super::super) const VOLUME: u8 = 23;
    pub(in super::super) const VOLUME_PROPERTIES: u8 = 24;
    pub(in super::super) const POOL_PROPERTIES: u8 = 31;
    pub(in super::super) const NEXT_CLONES: u8 = 37;
    pub(in super::super) const USED: u8 = 39;
    pub(in super::super) const ATTRIBUTES: u8 = 44;
    pub(in super::super) const ATTRIBUTE_MASTER: u8 = 45;
    pub(in super::super) const ATTRIBUTE_REGISTRATION: u8 = 46;
    pub(in super::super) const ATTRIBUTE_LAYOUTS: u8 = 47;
    pub(in super::super) const DEADLIST: u8 = 50;
    pub(in super::super) const DEADLIST_HEADER: u8 = 51;
    pub(in super::super) const CLONES: u8 = 52;
    /// DMU_OTN_ZAP_METADATA: every ZAP that is newer than the list of types.
    pub(in super::super) const ZAP: u8 = 0xc4;

    /// What blocks of a type are called in maps.
    pub(in super::super) const fn name(kind: u8) -> &'static str {
        match kind {
            FILE => "file data",
            VOLUME => "volume data",
            DIRECTORY => "directory",
            DNODE => "dnodes",
            OBJSET => "object set",
            ATTRIBUTES => "spilled attributes",
            SPACE_MAP => "space map",
            PACKED_NVLIST => "configuration",
            USED => "space by owner",
            _ => "tables",
        }
    }

    /// Whether blocks of a type are metadata (dmu.h, DMU_OT_IS_METADATA); of the types above only contents are not.
    pub(in super::super) const fn is_metadata(kind: u8) -> bool {
        !matches!(kind, FILE | VOLUME)
    }
}

/// Flags of a dnode (dnode.h): `dn_used` counts bytes, the owner is charged for its bytes, and for itself; it has a block
/// of spilled attributes.
pub(super) const DNODE_USED_BYTES: u8 = 1;
pub(super) const DNODE_USER_ACCOUNTED: u8 = 2;
pub(super) const DNODE_SPILL: u8 = 4;
pub(super) const DNODE_OBJECT_ACCOUNTED: u8 = 8;

/// Flags of an object set (dmu_objset.h): bytes of users, their objects, and projects are counted.
pub(super) const OBJSET_USERS: u64 = 1;
pub(super) const OBJSET_OBJECTS: u64 = 2;
pub(super) const OBJSET_PROJECTS: u64 = 4;

/// Bytes of a dnode, of the block pointer in it, and of a block of dnodes (dnode.h).
pub(super) const DNODE: usize = 512;
pub(super) const POINTER: usize = 128;
pub(super) const DNODES_PER_BLOCK: u64 = 32;
pub(super) const DNODE_BLOCK: u64 = 16 << 10;
/// Bytes of bonus behind one block pointer, and with a spill pointer at the end.
pub(super) const BONUS: usize = DNODE - 64 - POINTER;
pub(super) const BONUS_WITH_SPILL: usize = BONUS - POINTER;
/// log2 of the bytes of an indirect block, and of one of a space map (dnode.h, DN_MAX_INDBLKSHIFT; space_map.c).
pub(super) const INDIRECT_SHIFT: u8 = 17;
pub(super) const SPACE_MAP_INDIRECT_SHIFT: u8 = 14;
