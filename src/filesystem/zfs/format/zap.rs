//! ZAP objects: tables of names and values.

use crate::wire::wire;

wire! {
    /// The head of a micro ZAP (zap_impl.h, mzap_phys_t).
    pub(crate) struct MicroHeader: "zfs micro zap", little, 64 {
        0 mz_block_type: u64 = 0x8000_0000_0000_0003,
        8 mz_salt: u64,
        16 mz_normflags: u64,
    }
}

wire! {
    /// An entry of a micro ZAP (zap_impl.h, mzap_ent_phys_t).
    pub(crate) struct MicroEntry: "zfs micro zap entry", little, 64 {
        0 mze_value: u64,
        8 mze_cd: u32,
        14 mze_name: [u8; 50],
    }
}

wire! {
    /// The head of a fat ZAP (zap_impl.h, zap_phys_t).
    pub(crate) struct FatHeader: "zfs fat zap", little, 104 {
        0 zap_block_type: u64 = 0x8000_0000_0000_0001,
        8 zap_magic: u64 = 0x0000_0002_f52a_b2ab,
        16 zt_blk: u64,
        24 zt_numblks: u64,
        32 zt_shift: u64,
        40 zt_nextblk: u64,
        48 zt_blks_copied: u64,
        56 zap_freeblk: u64,
        64 zap_num_leafs: u64,
        72 zap_num_entries: u64,
        80 zap_salt: u64,
        88 zap_normflags: u64,
        96 zap_flags: u64,
    }
}

wire! {
    /// The head of a leaf of a fat ZAP (zap_leaf.h, zap_leaf_header).
    pub(crate) struct LeafHeader: "zfs zap leaf", little, 48 {
        0 lh_block_type: u64 = 0x8000_0000_0000_0000,
        16 lh_prefix: u64,
        24 lh_magic: u32 = 0x02ab_1eaf,
        28 lh_nfree: u16,
        30 lh_nentries: u16,
        32 lh_prefix_len: u16,
        34 lh_freelist: u16,
        36 lh_flags: u8,
    }
}

wire! {
    /// A chunk of a leaf that is an entry (zap_leaf.h, zap_leaf_entry).
    pub(crate) struct EntryChunk: "zfs zap leaf entry", little, 24 {
        0 le_type: u8 = 252,
        1 le_value_intlen: u8,
        2 le_next: u16,
        4 le_name_chunk: u16,
        6 le_name_numints: u16,
        8 le_value_chunk: u16,
        10 le_value_numints: u16,
        12 le_cd: u32,
        16 le_hash: u64,
    }
}

wire! {
    /// A chunk of a leaf with a part of a name or value (zap_leaf.h, zap_leaf_array).
    pub(crate) struct ArrayChunk: "zfs zap leaf array", little, 24 {
        0 la_type: u8 = 251,
        1 la_array: [u8; 21],
        22 la_next: u16,
    }
}

wire! {
    /// A free chunk of a leaf (zap_leaf.h, zap_leaf_free).
    pub(crate) struct FreeChunk: "zfs zap leaf free chunk", little, 24 {
        0 lf_type: u8 = 253,
        22 lf_next: u16,
    }
}
