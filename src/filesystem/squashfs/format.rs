//! The structures of SquashFS 4.0 (linux/fs/squashfs/squashfs_fs.h, whose names they have), and the numbers in them.

use crate::error::{Error, Kind, Result};
use crate::units::KIB;
use crate::wire::{Structure, Wire, wire};

/// Every structure, for the tables of docs/formats/squashfs.md.
pub(crate) const STRUCTURES: &[Structure] = &[
    Superblock::STRUCTURE,
    GzipOptions::STRUCTURE,
    XzOptions::STRUCTURE,
    Lz4Options::STRUCTURE,
    LzoOptions::STRUCTURE,
    ZstdOptions::STRUCTURE,
    Head::STRUCTURE,
    Directory::STRUCTURE,
    LongDirectory::STRUCTURE,
    File::STRUCTURE,
    LongFile::STRUCTURE,
    Symlink::STRUCTURE,
    Device::STRUCTURE,
    LongDevice::STRUCTURE,
    Ipc::STRUCTURE,
    LongIpc::STRUCTURE,
    DirectoryIndex::STRUCTURE,
    DirectoryHeader::STRUCTURE,
    DirectoryEntry::STRUCTURE,
    Fragment::STRUCTURE,
    XattrTable::STRUCTURE,
    XattrId::STRUCTURE,
    XattrEntry::STRUCTURE,
    XattrValue::STRUCTURE,
];

wire! {
    /// The first bytes (`struct squashfs_super_block`).
    pub(super) struct Superblock: "squashfs superblock", little, 96 {
        0 s_magic: u32 = 0x7371_7368,
        4 inodes: u32,
        8 mkfs_time: u32,
        12 block_size: u32,
        16 fragments: u32,
        20 compression: u16,
        22 block_log: u16,
        24 flags: u16,
        26 no_ids: u16,
        28 s_major: u16 = 4,
        30 s_minor: u16 = 0,
        32 root_inode: u64,
        40 bytes_used: u64,
        48 id_table_start: u64,
        56 xattr_id_table_start: u64,
        64 inode_table_start: u64,
        72 directory_table_start: u64,
        80 fragment_table_start: u64,
        88 lookup_table_start: u64,
    }
}

wire! {
    /// The options of gzip (squashfs-tools, gzip_wrapper.h).
    pub(super) struct GzipOptions: "squashfs gzip options", little, 8 {
        0 compression_level: u32,
        4 window_size: u16,
        6 strategy: u16,
    }
}

wire! {
    /// The options of xz (linux/fs/squashfs/xz_wrapper.c, `struct disk_comp_opts`).
    pub(super) struct XzOptions: "squashfs xz options", little, 8 {
        0 dictionary_size: u32,
        4 flags: u32,
    }
}

wire! {
    /// The options of lz4, without which no kernel reads it (linux/fs/squashfs/lz4_wrapper.c, `struct lz4_comp_opts`).
    pub(super) struct Lz4Options: "squashfs lz4 options", little, 8 {
        0 version: u32 = 1,
        4 flags: u32,
    }
}

wire! {
    /// The options of LZO (squashfs-tools, lzo_wrapper.h).
    pub(super) struct LzoOptions: "squashfs lzo options", little, 8 {
        0 algorithm: u32,
        4 compression_level: u32,
    }
}

wire! {
    /// The options of zstd (squashfs-tools, zstd_wrapper.h).
    pub(super) struct ZstdOptions: "squashfs zstd options", little, 4 {
        0 compression_level: u32,
    }
}

wire! {
    /// What every inode begins with (`struct squashfs_base_inode`).
    pub(super) struct Head: "squashfs inode head", little, 16 {
        0 inode_type: u16,
        2 mode: u16,
        4 uid: u16,
        6 guid: u16,
        8 mtime: u32,
        12 inode_number: u32,
    }
}

wire! {
    /// A short directory (`struct squashfs_dir_inode`).
    pub(super) struct Directory: "squashfs directory inode", little, 32 {
        0 head: Head,
        16 start_block: u32,
        20 nlink: u32,
        24 file_size: u16,
        26 offset: u16,
        28 parent_inode: u32,
    }
}

wire! {
    /// A directory that is long, has an index or attributes (`struct squashfs_ldir_inode`).
    pub(super) struct LongDirectory: "squashfs long directory inode", little, 40 {
        0 head: Head,
        16 nlink: u32,
        20 file_size: u32,
        24 start_block: u32,
        28 parent_inode: u32,
        32 i_count: u16,
        34 offset: u16,
        36 xattr: u32,
    }
}

wire! {
    /// A regular file with one name (`struct squashfs_reg_inode`); the list of its blocks follows.
    pub(super) struct File: "squashfs file inode", little, 32 {
        0 head: Head,
        16 start_block: u32,
        20 fragment: u32,
        24 offset: u32,
        28 file_size: u32,
    }
}

wire! {
    /// A regular file of any kind (`struct squashfs_lreg_inode`); the list of its blocks follows.
    pub(super) struct LongFile: "squashfs long file inode", little, 56 {
        0 head: Head,
        16 start_block: u64,
        24 file_size: u64,
        32 sparse: u64,
        40 nlink: u32,
        44 fragment: u32,
        48 offset: u32,
        52 xattr: u32,
    }
}

wire! {
    /// A symbolic link (`struct squashfs_symlink_inode`); its target follows, and behind that in the long form the number of
    /// its attributes.
    pub(super) struct Symlink: "squashfs symbolic link inode", little, 24 {
        0 head: Head,
        16 nlink: u32,
        20 symlink_size: u32,
    }
}

wire! {
    /// A device (`struct squashfs_dev_inode`).
    pub(super) struct Device: "squashfs device inode", little, 24 {
        0 head: Head,
        16 nlink: u32,
        20 rdev: u32,
    }
}

wire! {
    /// A device with attributes (`struct squashfs_ldev_inode`).
    pub(super) struct LongDevice: "squashfs long device inode", little, 28 {
        0 head: Head,
        16 nlink: u32,
        20 rdev: u32,
        24 xattr: u32,
    }
}

wire! {
    /// A named pipe or a socket (`struct squashfs_ipc_inode`).
    pub(super) struct Ipc: "squashfs pipe or socket inode", little, 20 {
        0 head: Head,
        16 nlink: u32,
    }
}

wire! {
    /// A named pipe or a socket with attributes (`struct squashfs_lipc_inode`).
    pub(super) struct LongIpc: "squashfs long pipe or socket inode", little, 24 {
        0 head: Head,
        16 nlink: u32,
        20 xattr: u32,
    }
}

wire! {
    /// A place in a long directory (`struct squashfs_dir_index`); the name that stands there follows.
    pub(super) struct DirectoryIndex: "squashfs directory index", little, 12 {
        0 index: u32,
        4 start_block: u32,
        8 size: u32,
    }
}

wire! {
    /// What a run of names begins with (`struct squashfs_dir_header`).
    pub(super) struct DirectoryHeader: "squashfs directory header", little, 12 {
        0 count: u32,
        4 start_block: u32,
        8 inode_number: u32,
    }
}

wire! {
    /// A name (`struct squashfs_dir_entry`); its bytes follow. The number is a difference with a sign.
    pub(super) struct DirectoryEntry: "squashfs directory entry", little, 8 {
        0 offset: u16,
        2 inode_number: u16,
        4 kind "type": u16,
        6 size: u16,
    }
}

wire! {
    /// A block of tails of files (`struct squashfs_fragment_entry`).
    pub(super) struct Fragment: "squashfs fragment entry", little, 16 {
        0 start_block: u64,
        8 size: u32,
        12 unused: u32,
    }
}

wire! {
    /// What stands before the index of attributes (`struct squashfs_xattr_id_table`).
    pub(super) struct XattrTable: "squashfs xattr table", little, 16 {
        0 xattr_table_start: u64,
        8 xattr_ids: u32,
        12 unused: u32,
    }
}

wire! {
    /// A set of attributes (`struct squashfs_xattr_id`).
    pub(super) struct XattrId: "squashfs xattr id", little, 16 {
        0 xattr: u64,
        8 count: u32,
        12 size: u32,
    }
}

wire! {
    /// An attribute (`struct squashfs_xattr_entry`); its name without its namespace follows.
    pub(super) struct XattrEntry: "squashfs xattr entry", little, 4 {
        0 kind "type": u16,
        2 size: u16,
    }
}

wire! {
    /// The value of an attribute (`struct squashfs_xattr_val`); its bytes follow.
    pub(super) struct XattrValue: "squashfs xattr value", little, 4 {
        0 vsize: u32,
    }
}

/// Bytes in a block of metadata before compression (SQUASHFS_METADATA_SIZE).
pub(super) const METADATA: usize = 8 << 10;
/// The bit of a metadata block's length that says it is stored as it is (SQUASHFS_COMPRESSED_BIT).
pub(super) const METADATA_RAW: u16 = 1 << 15;
/// The bit of a data block's length that says it is stored as it is (SQUASHFS_COMPRESSED_BIT_BLOCK).
pub(super) const DATA_RAW: u32 = 1 << 24;
/// No fragment, no attributes (SQUASHFS_INVALID_FRAG, SQUASHFS_INVALID_XATTR).
pub(super) const NONE: u32 = u32::MAX;
/// No table (SQUASHFS_INVALID_BLK).
pub(super) const NO_TABLE: u64 = u64::MAX;
/// Bytes of data blocks: what a kernel with pages of 4 KiB takes at least, and SQUASHFS_FILE_MAX_SIZE.
pub(super) const CHUNKS: std::ops::RangeInclusive<u64> = 4 * KIB..=1024 * KIB;
/// Names in one run (SQUASHFS_DIR_COUNT).
pub(super) const RUN: usize = 256;
/// What a directory's length is more than its listing, for `.` and `..` (linux/fs/squashfs/dir.c).
pub(super) const DOTS: u64 = 3;
/// Bytes of a name (linux/limits.h, NAME_MAX; the format itself has 256).
pub(super) const LONGEST_NAME: u16 = 255;
/// Bytes of a symbolic link's target (linux/limits.h, PATH_MAX less its NUL; the kernel refuses more than a page).
pub(super) const LONGEST_TARGET: usize = 4095;
/// Different owners: their count has 16 bits (no_ids), and a count of 0 is not allowed.
pub(super) const MOST_IDS: usize = 0xffff;
/// The bits of a mode; newer kernels refuse one with the file type (since 7.2, linux/fs/squashfs/inode.c).
pub(super) const MODE: u16 = 0o7777;
/// Entries of a directory's index, whose count has 16 bits (i_count).
pub(super) const MOST_INDEX: usize = 0xffff;

/// What the image is padded to, so that a loop device reaches its last byte; mksquashfs does the same.
pub(super) const PADDING: u64 = 4 * KIB;

/// Bits of `flags`.
pub(super) mod flag {
    /// Inodes are not compressed.
    pub(in super::super) const INODES_RAW: u16 = 1;
    /// Data blocks are not compressed.
    pub(in super::super) const DATA_RAW: u16 = 1 << 1;
    /// Fragments are not compressed.
    pub(in super::super) const FRAGMENTS_RAW: u16 = 1 << 3;
    /// Equal files are stored once.
    pub(in super::super) const DUPLICATES: u16 = 1 << 6;
    /// There is a table of inodes by number.
    pub(in super::super) const EXPORT: u16 = 1 << 7;
    /// Attributes are not compressed.
    pub(in super::super) const XATTRS_RAW: u16 = 1 << 8;
    /// The compressor's options stand behind the superblock: the one flag that the kernel looks at.
    pub(in super::super) const OPTIONS: u16 = 1 << 10;
    /// Owners are not compressed.
    pub(in super::super) const IDS_RAW: u16 = 1 << 11;
}

/// The kind of an inode, as directory entries have it. Inodes of the long form have one that is 7 more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Directory,
    File,
    Symlink,
    BlockDevice,
    CharacterDevice,
    Fifo,
    Socket,
}

impl Type {
    /// How much the number of the long form is more.
    const LONG: u16 = 7;

    /// The number in a directory entry, and in an inode of the short form.
    pub(super) const fn number(self) -> u16 {
        match self {
            Self::Directory => 1,
            Self::File => 2,
            Self::Symlink => 3,
            Self::BlockDevice => 4,
            Self::CharacterDevice => 5,
            Self::Fifo => 6,
            Self::Socket => 7,
        }
    }

    /// The number in an inode of the long form.
    pub(super) const fn long(self) -> u16 {
        self.number() + Self::LONG
    }

    /// The type of a number in an inode, and whether it is the long form.
    pub(super) const fn of(number: u16) -> Option<(Self, bool)> {
        let (short, long) = if number > Self::LONG { (number - Self::LONG, true) } else { (number, false) };
        let found = match short {
            1 => Self::Directory,
            2 => Self::File,
            3 => Self::Symlink,
            4 => Self::BlockDevice,
            5 => Self::CharacterDevice,
            6 => Self::Fifo,
            7 => Self::Socket,
            _ => return None,
        };
        Some((found, long))
    }
}

/// The namespaces of attributes with their numbers (SQUASHFS_XATTR_USER and others). ACLs have none.
pub(super) const NAMESPACES: [(u16, &[u8]); 3] = [(0, b"user."), (1, b"trusted."), (2, b"security.")];
/// The bit of an attribute's kind that says that its value stands elsewhere (SQUASHFS_XATTR_VALUE_OOL).
pub(super) const XATTR_ELSEWHERE: u16 = 0x100;
/// Bytes of a whole name of an attribute (linux/limits.h, XATTR_NAME_MAX).
pub(super) const LONGEST_XATTR_NAME: usize = 255;
/// Bytes of a value (linux/limits.h, XATTR_SIZE_MAX).
pub(super) const LONGEST_XATTR_VALUE: usize = 64 << 10;

/// A device's number: 12 bits of major, 20 of minor, the low 8 of minor below it (new_encode_dev, linux/kdev_t.h).
pub(super) const fn device((major, minor): (u32, u32)) -> Option<u32> {
    if major > 0xfff || minor > 0xf_ffff {
        return None;
    }
    Some((minor & 0xff) | major << 8 | (minor & !0xff) << 12)
}

/// Major and minor of a device's number.
pub(super) const fn device_of(number: u32) -> (u32, u32) {
    (number >> 8 & 0xfff, (number & 0xff) | (number >> 12 & 0xf_ff00))
}

/// A place in a stream of metadata: where the header of its block is, from the start of the stream, and where in the block
/// it is before compression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) block: u64,
    pub(super) offset: u16,
}

impl Place {
    /// As a reference has it: 48 bits, the low 16 of them inside the block.
    pub(super) fn reference(self) -> u64 {
        self.block << 16 | u64::from(self.offset)
    }

    /// The place of a reference.
    pub(super) const fn of(reference: u64) -> Self {
        Self { block: reference >> 16, offset: crate::units::low16(reference) }
    }

    /// The block as a field of 32 bits.
    ///
    /// # Errors
    /// [`Kind::Capacity`] past 4 GiB of `what`.
    pub(super) fn block32(self, what: &str) -> Result<u32> {
        u32::try_from(self.block).map_err(|_| {
            Error::new(Kind::Capacity, format!("there are too many {what} for a SquashFS"))
                .expected("less than 4 GiB of them, compressed")
                .hint("spread the files over several filesystems, or make them less by another compression")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_types_go_there_and_back() {
        for number in [(0, 0), (1, 3), (5, 1), (255, 255), (259, 256), (4095, 1_048_575)] {
            assert_eq!(device_of(device(number).unwrap()), number);
        }
        // mkdev 4095 1048575 on a filesystem of the kernel.
        assert_eq!(device((4095, 1_048_575)), Some(0xffff_ffff));
        assert_eq!(device((259, 256)), Some(0x0011_0300));
        assert_eq!((device((4096, 0)), device((0, 1_048_576))), (None, None));
        for number in 1..=7 {
            let (kind, long) = Type::of(number).unwrap();
            assert_eq!((kind.number(), long), (number, false));
            assert_eq!(Type::of(kind.long()), Some((kind, true)));
        }
        assert_eq!((Type::of(0), Type::of(15), Type::of(0xffff)), (None, None, None));
    }

    #[test]
    fn places_are_references() {
        let place = Place { block: 0x1234_5678, offset: 0x1fff };
        assert_eq!(place.reference(), 0x1234_5678_1fff);
        assert_eq!(Place::of(0x1234_5678_1fff), place);
        assert_eq!(place.block32("inodes").unwrap(), 0x1234_5678);
        let error = Place { block: 1 << 32, offset: 0 }.block32("inodes").unwrap_err();
        assert_eq!(error.kind(), Kind::Capacity);
    }
}
