//! What a BIOS starts, which lies outside of filesystems: the boot code of the first sector, and the program that it loads.

use crate::units::Sectors;

/// The boot code of a first sector; the disk signature and the partition table follow it.
pub const BOOT_CODE: usize = 0x1b8;

/// The sectors that a program may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// The first one: 1 after an MBR; the start of the BIOS boot partition with a GPT.
    pub first: Sectors,
    /// The number of sectors: up to the first partition, or the length of the BIOS boot partition.
    pub length: Sectors,
}

/// The code that makes a disk boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedding {
    /// The first 440 bytes of the disk.
    pub boot_code: Vec<u8>,
    /// Where the program begins: GRUB's core image, or Limine's second stage.
    pub first: Sectors,
    /// The program, whole sectors.
    pub core: Vec<u8>,
}
