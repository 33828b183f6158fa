//! Datasets and the directories that contain them.

use super::block::BlockPointer;
use crate::wire::wire;

wire! {
    /// A directory of the dataset layer: one for each dataset with all its snapshots (dsl_dir.h, dsl_dir_phys_t).
    pub(crate) struct Directory: "zfs dsl directory", little, 256 {
        0 dd_creation_time: u64,
        8 dd_head_dataset_obj: u64,
        16 dd_parent_obj: u64,
        24 dd_origin_obj: u64,
        32 dd_child_dir_zapobj: u64,
        40 dd_used_bytes: u64,
        48 dd_compressed_bytes: u64,
        56 dd_uncompressed_bytes: u64,
        64 dd_quota: u64,
        72 dd_reserved: u64,
        80 dd_props_zapobj: u64,
        88 dd_deleg_zapobj: u64,
        96 dd_flags: u64,
        /// Of the head, snapshots, children, the children's reservation, the reservation for written data.
        104 dd_used_breakdown: [u64; 5],
        144 dd_clones: u64,
    }
}

wire! {
    /// A dataset or a snapshot (dsl_dataset.h, dsl_dataset_phys_t).
    pub(crate) struct Dataset: "zfs dsl dataset", little, 320 {
        0 ds_dir_obj: u64,
        8 ds_prev_snap_obj: u64,
        16 ds_prev_snap_txg: u64,
        24 ds_next_snap_obj: u64,
        32 ds_snapnames_zapobj: u64,
        40 ds_num_children: u64,
        48 ds_creation_time: u64,
        56 ds_creation_txg: u64,
        64 ds_deadlist_obj: u64,
        72 ds_referenced_bytes: u64,
        80 ds_compressed_bytes: u64,
        88 ds_uncompressed_bytes: u64,
        96 ds_unique_bytes: u64,
        104 ds_fsid_guid: u64,
        112 ds_guid: u64,
        120 ds_flags: u64,
        128 ds_bp: BlockPointer,
        256 ds_next_clones_obj: u64,
        264 ds_props_obj: u64,
        272 ds_userrefs_obj: u64,
    }
}

wire! {
    /// The bonus of a deadlist (dsl_deadlist.h, dsl_deadlist_phys_t).
    pub(crate) struct Deadlist: "zfs deadlist", little, 320 {
        0 dl_used: u64,
        8 dl_comp: u64,
        16 dl_uncomp: u64,
    }
}

wire! {
    /// The bonus of a list of block pointers (bpobj.h, bpobj_phys_t, up to bpo_num_subobjs).
    pub(crate) struct BlockPointerObject: "zfs block pointer object", little, 48 {
        0 bpo_num_blkptrs: u64,
        8 bpo_bytes: u64,
        16 bpo_comp: u64,
        24 bpo_uncomp: u64,
        32 bpo_subobjs: u64,
        40 bpo_num_subobjs: u64,
    }
}
