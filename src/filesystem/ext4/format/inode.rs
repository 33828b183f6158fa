//! The structures of an inode: the inode itself, its extents, attributes and times.

use crate::tree::Time;
use crate::units::half_lo;
use crate::wire::wire;

wire! {
    /// An inode up to the last field after its first 128 bytes (kernel.org, ext4, "Index Nodes").
    /// `i_extra_isize` says how many bytes of those fields exist; attributes follow them.
    pub(crate) struct Inode: "ext4 inode", little, 160 {
        0x00 i_mode: u16,
        0x02 i_uid: u16,
        0x04 i_size_lo: u32,
        0x08 i_atime: u32,
        0x0c i_ctime: u32,
        0x10 i_mtime: u32,
        0x14 i_dtime: u32,
        0x18 i_gid: u16,
        0x1a i_links_count: u16,
        0x1c i_blocks_lo: u32,
        0x20 i_flags: u32,
        0x28 i_block: [u8; 60],
        0x64 i_generation: u32,
        0x68 i_file_acl_lo: u32,
        0x6c i_size_high: u32,
        0x70 i_obso_faddr: u32,
        0x74 l_i_blocks_high: u16,
        0x76 l_i_file_acl_high: u16,
        0x78 l_i_uid_high: u16,
        0x7a l_i_gid_high: u16,
        0x7c l_i_checksum_lo: u16,
        0x80 i_extra_isize: u16,
        0x82 i_checksum_hi: u16,
        0x84 i_ctime_extra: u32,
        0x88 i_mtime_extra: u32,
        0x8c i_atime_extra: u32,
        0x90 i_crtime: u32,
        0x94 i_crtime_extra: u32,
    }
}

wire! {
    /// The head of a node of an extent tree (kernel.org, ext4, "Extent Tree").
    pub(crate) struct ExtentHeader: "ext4 extent header", little, 12 {
        0 eh_magic: u16 = 0xf30a,
        2 eh_entries: u16,
        4 eh_max: u16,
        6 eh_depth: u16,
    }
}

wire! {
    /// An entry of a leaf.
    pub(crate) struct ExtentEntry: "ext4 extent", little, 12 {
        0 ee_block: u32,
        4 ee_len: u16,
        6 ee_start_hi: u16,
        8 ee_start_lo: u32,
    }
}

wire! {
    /// An entry of a node above the leaves.
    pub(crate) struct ExtentIndex: "ext4 extent index", little, 12 {
        0 ei_block: u32,
        4 ei_leaf_lo: u32,
        8 ei_leaf_hi: u16,
    }
}

wire! {
    /// The end of a block of an extent tree.
    pub(crate) struct ExtentTail: "ext4 extent tail", little, 4 {
        0 eb_checksum: u32,
    }
}

wire! {
    /// The head of attributes inside an inode (kernel.org, ext4, "Extended Attributes").
    pub(crate) struct XattrInodeHeader: "ext4 attribute header in an inode", little, 4 {
        0 h_magic: u32 = 0xea02_0000,
    }
}

wire! {
    /// The head of a block of attributes.
    pub(crate) struct XattrHeader: "ext4 attribute block header", little, 32 {
        0x00 h_magic: u32 = 0xea02_0000,
        0x04 h_refcount: u32,
        0x08 h_blocks: u32,
        0x0c h_hash: u32,
        0x10 h_checksum: u32,
    }
}

wire! {
    /// The head of an attribute; its name follows.
    pub(crate) struct XattrEntry: "ext4 attribute entry", little, 16 {
        0x0 e_name_len: u8,
        0x1 e_name_index: u8,
        0x2 e_value_offs: u16,
        0x4 e_value_inum: u32,
        0x8 e_value_size: u32,
        0xc e_hash: u32,
    }
}

/// The first and last second an inode can hold: 34 bits around 1970 (kernel.org, ext4, "Inode Timestamps").
pub(in crate::filesystem::ext4) const EARLIEST: i64 = -(1 << 31);
pub(in crate::filesystem::ext4) const LATEST: i64 = (3 << 32) + (1 << 31) - 1;

/// A time as its two words: the low 32 bits of the seconds; and the nanoseconds above two bits that count how
/// many times 2^32 is added to the signed low word.
pub(in crate::filesystem::ext4) fn time_words(time: Time) -> (u32, u32) {
    let seconds = half_lo(time.seconds.cast_unsigned());
    let low = i64::from(seconds.cast_signed());
    let epoch = half_lo(((time.seconds - low) >> 32).cast_unsigned()) & 3;
    (seconds, time.nanoseconds << 2 | epoch)
}

/// The time that two words mean. Nanoseconds above 999,999,999, which no kernel writes, become that number.
pub(in crate::filesystem::ext4) fn time_of(seconds: u32, extra: u32) -> Time {
    let epoch = i64::from(extra & 3) << 32;
    Time { seconds: i64::from(seconds.cast_signed()) + epoch, nanoseconds: (extra >> 2).min(999_999_999) }
}

/// A device number in an inode's block pointers: the old 16-bit form if it fits, else the new one (kernel
/// include/linux/kdev_t.h). Major is below 2^12, minor below 2^20.
pub(in crate::filesystem::ext4) fn device((major, minor): (u32, u32)) -> [u8; 60] {
    let mut block = [0; 60];
    if major < 256 && minor < 256 {
        block[..4].copy_from_slice(&(major << 8 | minor).to_le_bytes());
    } else {
        let number = (minor & 0xff) | major << 8 | (minor & !0xff) << 12;
        block[4..8].copy_from_slice(&number.to_le_bytes());
    }
    block
}

/// The device number in an inode's block pointers: major and minor.
pub(in crate::filesystem::ext4) fn device_of(block: &[u8; 60]) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h, ..] = *block;
    let (old, new) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
    if old == 0 {
        (new >> 8 & 0xfff, new & 0xff | new >> 12 & 0xf_ff00)
    } else {
        (old >> 8 & 0xff, old & 0xff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_reach_from_1901_to_2446() {
        for (time, low, high) in [
            (0_i64, 0_u32, 0_u32),
            (-1, 0xffff_ffff, 0),
            (EARLIEST, 0x8000_0000, 0),
            (0x7fff_ffff, 0x7fff_ffff, 0),
            // 2038-01-19 03:14:08: the signed word wraps to its smallest value and one epoch is added.
            (0x8000_0000, 0x8000_0000, 1),
            (0x1_0000_0000, 0, 1),
            (LATEST, 0x7fff_ffff, 3),
        ] {
            let time = Time { seconds: time, nanoseconds: 7 };
            assert_eq!(time_words(time), (low, 7 << 2 | high), "{time:?}");
            assert_eq!(time_of(low, 7 << 2 | high), time);
        }
    }

    #[test]
    fn device_numbers_take_the_form_that_fits() {
        assert_eq!(device((5, 1))[..8], [0x01, 0x05, 0, 0, 0, 0, 0, 0]);
        assert_eq!(device((259, 0x12345))[..8], [0, 0, 0, 0, 0x45, 0x03, 0x31, 0x12]);
        for number in [(0, 0), (5, 1), (255, 255), (256, 0), (0, 256), (4095, 0xf_ffff), (259, 0x12345)] {
            assert_eq!(device_of(&device(number)), number);
        }
    }
}
