//! The structures of EROFS (linux/fs/erofs/erofs_fs.h; linux/Documentation/filesystems/erofs.rst).

use uuid::Uuid;

use crate::units::low8;
use crate::wire::{Structure, Wire, wire};

/// Every structure, for the tables of docs/formats/erofs.md.
pub(crate) const STRUCTURES: &[Structure] = &[
    Superblock::STRUCTURE,
    Lz4Config::STRUCTURE,
    DeflateConfig::STRUCTURE,
    ZstdConfig::STRUCTURE,
    CompactInode::STRUCTURE,
    ExtendedInode::STRUCTURE,
    XattrHeader::STRUCTURE,
    XattrEntry::STRUCTURE,
    DirectoryEntry::STRUCTURE,
    ChunkIndex::STRUCTURE,
    MapHeader::STRUCTURE,
    ClusterIndex::STRUCTURE,
];

/// Where the superblock stands (EROFS_SUPER_OFFSET).
pub(super) const SUPERBLOCK_AT: u64 = 1024;
/// Bytes of a slot for an inode: its number is its place in units of these (EROFS_ISLOTBITS).
pub(super) const SLOT: u64 = 32;
/// The block number that stands for none: of a file without blocks, and of a chunk that is a hole (EROFS_NULL_ADDR).
pub(super) const NO_BLOCK: u32 = u32::MAX;
/// The most blocks of an image: their numbers have 32 bits, and one of them stands for none.
pub(super) const MOST_BLOCKS: u64 = 0xffff_ffff;
/// The largest number that the superblock's field for the root's inode holds.
pub(super) const MOST_ROOT: u64 = 0xffff;
/// The longest name (EROFS_NAME_LEN).
pub(super) const LONGEST_NAME: u16 = 255;
/// The largest compressed piece (Z_EROFS_PCLUSTER_MAX_SIZE).
pub(super) const LARGEST_CLUSTER: u64 = 1 << 20;

wire! {
    /// The superblock. `checksum` is CRC-32C without the final inversion, over the rest of its block with itself as zero.
    pub(crate) struct Superblock: "erofs superblock", little, 128 {
        0 magic: u32 = 0xe0f5_e1e2,
        4 checksum: u32,
        8 feature_compat: u32,
        12 blkszbits: u8,
        13 sb_extslots: u8,
        14 root_nid "rootnid_2b": u16,
        16 inos: u64,
        24 epoch: u64,
        32 fixed_nsec: u32,
        36 blocks "blocks_lo": u32,
        40 meta_blkaddr: u32,
        44 xattr_blkaddr: u32,
        48 uuid: Uuid,
        64 volume_name: [u8; 16],
        80 feature_incompat: u32,
        84 algorithms "available_compr_algs": u16,
        86 extra_devices: u16,
        88 devt_slotoff: u16,
        90 dirblkbits: u8,
        91 xattr_prefix_count: u8,
        92 xattr_prefix_start: u32,
        96 packed_nid: u64,
        104 xattr_filter_reserved: u8,
        105 ishare_xattr_prefix_id: u8,
        108 build_time: u32,
        112 root_nid_8b "rootnid_8b": u64,
    }
}

wire! {
    /// What a reader has to know of lz4, behind the superblock (z_erofs_lz4_cfgs) with its length in front.
    pub(crate) struct Lz4Config: "erofs lz4 configuration", little, 16 {
        0 length: u16 = 14,
        2 max_distance: u16,
        4 max_pclusterblks: u16,
    }
}

wire! {
    /// The same of deflate (z_erofs_deflate_cfgs).
    pub(crate) struct DeflateConfig: "erofs deflate configuration", little, 8 {
        0 length: u16 = 6,
        2 windowbits: u8,
    }
}

wire! {
    /// The same of zstd (z_erofs_zstd_cfgs): the binary logarithm of the window, less 10.
    pub(crate) struct ZstdConfig: "erofs zstd configuration", little, 8 {
        0 length: u16 = 6,
        2 format: u8,
        3 windowlog: u8,
    }
}

wire! {
    /// An inode whose time is that of the superblock (erofs_inode_compact).
    pub(crate) struct CompactInode: "erofs compact inode", little, 32 {
        0 i_format: u16,
        2 i_xattr_icount: u16,
        4 i_mode: u16,
        6 i_nlink: u16,
        8 i_size: u32,
        12 i_mtime: u32,
        16 i_u: u32,
        20 i_ino: u32,
        24 i_uid: u16,
        26 i_gid: u16,
    }
}

wire! {
    /// An inode with all it can have (erofs_inode_extended).
    pub(crate) struct ExtendedInode: "erofs extended inode", little, 64 {
        0 i_format: u16,
        2 i_xattr_icount: u16,
        4 i_mode: u16,
        6 i_nb: u16,
        8 i_size: u64,
        16 i_u: u32,
        20 i_ino: u32,
        24 i_uid: u32,
        28 i_gid: u32,
        32 i_mtime: i64,
        40 i_mtime_nsec: u32,
        44 i_nlink: u32,
    }
}

wire! {
    /// The head of the attributes behind an inode (erofs_xattr_ibody_header); numbers of shared ones follow.
    pub(crate) struct XattrHeader: "erofs xattr header", little, 12 {
        0 h_name_filter: u32,
        4 h_shared_count: u8,
    }
}

wire! {
    /// The head of an attribute (erofs_xattr_entry); its name and its value follow.
    pub(crate) struct XattrEntry: "erofs xattr entry", little, 4 {
        0 e_name_len: u8,
        1 e_name_index: u8,
        2 e_value_size: u16,
    }
}

wire! {
    /// An entry of a block of a directory (erofs_dirent); the names follow the last one.
    pub(crate) struct DirectoryEntry: "erofs directory entry", little, 12 {
        0 nid: u64,
        8 nameoff: u16,
        10 file_type: u8,
    }
}

wire! {
    /// Where a chunk of a file lies, in the long form (erofs_inode_chunk_index). The short form is the block's number.
    pub(crate) struct ChunkIndex: "erofs chunk index", little, 8 {
        0 startblk_hi: u16,
        2 device_id: u16,
        4 startblk_lo: u32,
    }
}

wire! {
    /// The head of the map of a compressed file (z_erofs_map_header).
    pub(crate) struct MapHeader: "erofs map header", little, 8 {
        0 h_fragmentoff: u32,
        4 h_advise: u16,
        6 h_algorithmtype: u8,
        7 h_clusterbits: u8,
    }
}

wire! {
    /// A logical cluster in the full form (z_erofs_lcluster_index). `di_u` is a block's number, or two distances.
    pub(crate) struct ClusterIndex: "erofs cluster index", little, 8 {
        0 di_advise: u16,
        2 di_clusterofs: u16,
        4 di_u: u32,
    }
}

/// Bits of `feature_compat`.
pub(super) mod compat {
    pub(in super::super) const CHECKSUM: u32 = 1;
    /// The time of an inode is that of the last change of its data.
    pub(in super::super) const MTIME: u32 = 2;
    pub(in super::super) const XATTR_FILTER: u32 = 4;
}

/// Bits of `feature_incompat`.
pub(super) mod incompat {
    pub(in super::super) const LZ4_0PADDING: u32 = 1;
    /// Configurations of the algorithms follow the superblock; also: compressed pieces of several blocks.
    pub(in super::super) const COMPR_CFGS: u32 = 2;
    pub(in super::super) const CHUNKED: u32 = 4;
    /// More devices; also: a second algorithm in one file.
    pub(in super::super) const DEVICES: u32 = 8;
    pub(in super::super) const ZTAILPACKING: u32 = 0x10;
    pub(in super::super) const FRAGMENTS: u32 = 0x20;
    pub(in super::super) const XATTR_PREFIXES: u32 = 0x40;
    pub(in super::super) const BIT48: u32 = 0x80;
    pub(in super::super) const METABOX: u32 = 0x100;

    /// What each bit is called.
    pub(in super::super) const NAMES: [(u32, &str); 9] = [
        (LZ4_0PADDING, "LZ4_0PADDING"),
        (COMPR_CFGS, "COMPR_CFGS"),
        (CHUNKED, "CHUNKED_FILE"),
        (DEVICES, "DEVICE_TABLE"),
        (ZTAILPACKING, "ZTAILPACKING"),
        (FRAGMENTS, "FRAGMENTS"),
        (XATTR_PREFIXES, "XATTR_PREFIXES"),
        (BIT48, "48BIT"),
        (METABOX, "METABOX"),
    ];
}

/// Numbers of compression algorithms (Z_EROFS_COMPRESSION_*).
pub(super) mod algorithm {
    pub(in super::super) const LZ4: u8 = 0;
    pub(in super::super) const LZMA: u8 = 1;
    pub(in super::super) const DEFLATE: u8 = 2;
    pub(in super::super) const ZSTD: u8 = 3;
}

/// Bits of `i_format`.
pub(super) mod inode {
    pub(in super::super) const EXTENDED: u16 = 1;
    /// The data layout stands in bits 1 to 3.
    pub(in super::super) const LAYOUT_SHIFT: u16 = 1;
    pub(in super::super) const LAYOUT_MASK: u16 = 7;
    /// With 48BIT: a file has one name, and its number of names is the high part of its block's number; a directory has no
    /// entry `.`.
    pub(in super::super) const SHORT: u16 = 1 << 4;
}

/// Where the data of an inode is (EROFS_INODE_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// In blocks that follow each other.
    Plain,
    /// Compressed, with a map of eight bytes for each logical cluster.
    Full,
    /// As plain, but what is left of the last block stands behind the inode.
    Inline,
    /// Compressed, with a map of two or four bytes for each logical cluster.
    Compact,
    /// In chunks, each of which may be a hole.
    Chunked,
}

impl Layout {
    const ALL: [Self; 5] = [Self::Plain, Self::Full, Self::Inline, Self::Compact, Self::Chunked];

    /// Its number.
    pub(super) const fn number(self) -> u16 {
        match self {
            Self::Plain => 0,
            Self::Full => 1,
            Self::Inline => 2,
            Self::Compact => 3,
            Self::Chunked => 4,
        }
    }

    /// The layout with this number.
    pub(super) fn of(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|layout| layout.number() == number)
    }
}

/// Bits of `h_advise`.
pub(super) mod advise {
    /// Packs of sixteen clusters in 32 bytes occur.
    pub(in super::super) const COMPACTED_2B: u16 = 1;
    /// With the full form: a list of extents follows.
    pub(in super::super) const EXTENTS: u16 = 1;
    pub(in super::super) const BIG_CLUSTER_1: u16 = 2;
    pub(in super::super) const BIG_CLUSTER_2: u16 = 4;
    pub(in super::super) const INLINE_CLUSTER: u16 = 8;
    pub(in super::super) const INTERLACED: u16 = 0x10;
    pub(in super::super) const FRAGMENT: u16 = 0x20;
}

/// Where the length of an extent tells what reads it (Z_EROFS_EXTENT_PLEN_FMT_BIT).
pub(super) const EXTENT_FORMAT: u32 = 28;
/// The bits of the length itself (Z_EROFS_EXTENT_PLEN_MASK).
pub(super) const EXTENT_LENGTH: u32 = (2 << 20) - 1;

/// Types of logical clusters (Z_EROFS_LCLUSTER_TYPE_*).
pub(super) mod cluster {
    pub(in super::super) const PLAIN: u16 = 0;
    pub(in super::super) const HEAD: u16 = 1;
    pub(in super::super) const NONHEAD: u16 = 2;
    /// The first cluster behind a head tells how many blocks its piece takes (Z_EROFS_LI_D0_CBLKCNT).
    pub(in super::super) const BLOCKS: u16 = 0x800;
}

/// The most bytes of an attribute's value: its field has 16 bits.
pub(super) const LONGEST_VALUE: usize = 0xffff;
/// The most bytes of the attributes behind an inode: `i_xattr_icount` counts four bytes each behind the header, and one
/// more.
pub(super) const MOST_XATTRS: usize = XattrHeader::LENGTH + 4 * 0xfffe;

/// A device number as the kernel keeps it (new_encode_dev, linux/kdev_t.h).
pub(super) fn device((major, minor): (u32, u32)) -> u32 {
    u32::from(low8(minor.into())) | major << 8 | (minor & !0xff) << 12
}

/// Major and minor number (new_decode_dev).
pub(super) const fn device_of(number: u32) -> (u32, u32) {
    ((number & 0xf_ff00) >> 8, number & 0xff | (number >> 12) & 0xf_ff00)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_those_of_the_kernel() {
        for (pair, number) in [((5, 1), 0x501), ((8, 300), 0x10_082c), ((4095, 1_048_575), u32::MAX)] {
            assert_eq!(device(pair), number, "{pair:?}");
            assert_eq!(device_of(number), pair);
        }
    }

    #[test]
    fn layouts_are_their_numbers() {
        for layout in Layout::ALL {
            assert_eq!(Layout::of(layout.number()), Some(layout));
        }
        assert_eq!(Layout::of(5), None);
    }
}
