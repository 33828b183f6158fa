//! Block pointers.

use crate::wire::wire;

wire! {
    /// Where a block is, how it is stored, and its checksum (spa.h, blkptr_t).
    pub(crate) struct BlockPointer: "zfs block pointer", little, 128 {
        /// Up to three copies: vdev and allocated sectors, then the offset in sectors.
        0 blk_dva: [u64; 6],
        48 blk_prop: u64,
        56 blk_pad: [u64; 2],
        72 blk_phys_birth: u64,
        80 blk_birth: u64,
        88 blk_fill: u64,
        96 blk_cksum: [u64; 4],
    }
}

wire! {
    /// A block pointer that contains its block (spa.h, "An embedded-type bp").
    pub(crate) struct EmbeddedBlockPointer: "zfs embedded block pointer", little, 128 {
        0 payload_0 "payload[0..48]": [u8; 48],
        48 blk_prop: u64,
        56 payload_48 "payload[48..72]": [u8; 24],
        80 blk_birth: u64,
        88 payload_72 "payload[72..112]": [u8; 40],
    }
}
