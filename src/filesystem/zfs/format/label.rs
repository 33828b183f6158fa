//! The structures of the four labels.

use super::block::BlockPointer;
use crate::wire::wire;

wire! {
    /// The end of the boot environment, the nvlist and each uberblock of a label (zio_checksum.h, zio_eck_t). The checksum
    /// is SHA-256 of the whole piece, in which the first word of the checksum is the piece's own offset.
    pub(crate) struct Trailer: "zfs embedded checksum", little, 40 {
        0 zec_magic: u64 = 0x0210_da7a_b10c_7a11,
        8 zec_cksum: [u64; 4],
    }
}

wire! {
    /// The root of everything (uberblock_impl.h, struct uberblock).
    pub(crate) struct Uberblock: "zfs uberblock", little, 216 {
        0 ub_magic: u64 = 0x00ba_b10c,
        8 ub_version: u64 = 5000,
        16 ub_txg: u64,
        24 ub_guid_sum: u64,
        32 ub_timestamp: u64,
        40 ub_rootbp: BlockPointer,
        168 ub_software_version: u64 = 5000,
        176 ub_mmp_magic: u64 = 0xa11c_ea11,
        184 ub_mmp_delay: u64,
        192 ub_mmp_config: u64,
        200 ub_checkpoint_txg: u64,
        208 ub_raidz_reflow_info: u64,
    }
}
