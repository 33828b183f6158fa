//! The superblock of dm-verity's hash device.
//!
//! Source: cryptsetup 2.6, `lib/verity/verity.c` (`struct verity_sb`); its wiki, "DMVerity".

use uuid::Uuid;

use crate::wire::{Structure, Wire, wire};

/// The structures of this format.
pub(crate) const STRUCTURES: &[Structure] = &[Superblock::STRUCTURE];

/// The longest salt, in bytes (`struct verity_sb`).
pub(super) const LONGEST_SALT: usize = 256;

wire! {
    /// The first block of a hash device; what is left of the block is zero.
    pub(super) struct Superblock: "dm-verity superblock", little, 512 {
        0 signature: [u8; 8] = *b"verity\0\0",
        8 version: u32 = 1,
        12 hash_type: u32,
        16 uuid: Uuid,
        32 algorithm: [u8; 32],
        64 data_block_size: u32,
        68 hash_block_size: u32,
        72 data_blocks: u64,
        80 salt_size: u16,
        88 salt: [u8; 256],
    }
}
