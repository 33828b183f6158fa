//! Filesystems and other formats that are recognised by a mark alone; they are named and never read.

use uuid::Uuid;

use crate::error::Result;
use crate::image::Slice;
use crate::units::{u64_of, usize_of};

/// A mark that identifies a format.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) kind: &'static str,
    /// Its offset and its bytes.
    pub(super) offset: u64,
    pub(super) bytes: &'static [u8],
    /// The offset of the label, and its largest length.
    pub(super) label: Option<(u64, usize)>,
    /// The offset of the UUID.
    pub(super) uuid: Option<u64>,
}

/// Each with its source: the magic number, then label and UUID.
const MARKS: &[Mark] = &[
    // linux/fs/xfs/libxfs/xfs_format.h, xfs_dsb: sb_magicnum, sb_fname, sb_uuid.
    Mark { kind: "xfs", offset: 0, bytes: b"XFSB", label: Some((108, 12)), uuid: Some(32) },
    // linux/include/uapi/linux/btrfs_tree.h, btrfs_super_block at 64 KiB: magic, label, fsid.
    Mark {
        kind: "btrfs",
        offset: 0x1_0040,
        bytes: b"_BHRfS_M",
        label: Some((0x1_012b, 256)),
        uuid: Some(0x1_0020),
    },
    // Of the kinds that are made here, beside their table.
    super::MARKS[0],
    super::MARKS[1],
    // ECMA-119, 8.4, in sector 16: standard identifier, volume identifier.
    Mark { kind: "iso9660", offset: 0x8001, bytes: b"CD001", label: Some((0x8028, 32)), uuid: None },
    // LUKS on-disk format: magic.
    Mark { kind: "luks", offset: 0, bytes: b"LUKS\xba\xbe", label: None, uuid: None },
    // linux/fs/ntfs3/ntfs.h, NTFS_BOOT: system_id.
    Mark { kind: "ntfs", offset: 3, bytes: b"NTFS    ", label: None, uuid: None },
    // LVM2, lib/format_text/layout.h, label_header in one of the first four sectors.
    Mark { kind: "lvm2", offset: 512, bytes: b"LABELONE", label: None, uuid: None },
    Mark { kind: "lvm2", offset: 0, bytes: b"LABELONE", label: None, uuid: None },
    Mark { kind: "lvm2", offset: 1024, bytes: b"LABELONE", label: None, uuid: None },
    Mark { kind: "lvm2", offset: 1536, bytes: b"LABELONE", label: None, uuid: None },
    // Microsoft, exFAT file system specification, 3.1.2: FileSystemName.
    Mark { kind: "exfat", offset: 3, bytes: b"EXFAT   ", label: None, uuid: None },
    // libbde, BitLocker volume header: the signature in place of the name of the filesystem.
    Mark { kind: "bitlocker", offset: 3, bytes: b"-FVE-FS-", label: None, uuid: None },
    // linux/include/uapi/linux/raid/md_p.h, mdp_superblock_1 of versions 1.1 and 1.2: magic, set_name, set_uuid.
    Mark { kind: "md", offset: 0, bytes: b"\xfc\x4e\x2b\xa9\x01", label: Some((32, 32)), uuid: Some(16) },
    Mark {
        kind: "md",
        offset: 4096,
        bytes: b"\xfc\x4e\x2b\xa9\x01",
        label: Some((4128, 32)),
        uuid: Some(4112),
    },
    // bcachefs-tools, libbcachefs/bcachefs_format.h, bch_sb at 4 KiB: magic (the older one is that of bcache too), label,
    // user_uuid.
    Mark {
        kind: "bcachefs",
        offset: 4120,
        bytes: b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef",
        label: Some((4168, 32)),
        uuid: Some(4152),
    },
    Mark {
        kind: "bcache",
        offset: 4120,
        bytes: b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
        label: None,
        uuid: None,
    },
    // linux/include/linux/f2fs_fs.h, f2fs_super_block at 1 KiB: magic, uuid.
    Mark { kind: "f2fs", offset: 1024, bytes: b"\x10\x20\xf5\xf2", label: None, uuid: Some(1132) },
    // ECMA-167, 2/9.1, and ECMA-167, 3/9.1: the second descriptor of a volume recognition sequence.
    Mark { kind: "udf", offset: 0x8801, bytes: b"NSR0", label: None, uuid: None },
    // linux/fs/reiserfs/reiserfs.h, reiserfs_super_block at 64 KiB: s_magic, s_label, s_uuid.
    Mark {
        kind: "reiserfs",
        offset: 0x1_0034,
        bytes: b"ReIsEr",
        label: Some((0x1_0064, 16)),
        uuid: Some(0x1_0054),
    },
    // linux/fs/jfs/jfs_superblock.h at 32 KiB: s_magic, s_label, s_uuid.
    Mark { kind: "jfs", offset: 0x8000, bytes: b"JFS1", label: Some((0x8098, 16)), uuid: Some(0x8088) },
    // Apple File System Reference, nx_superblock_t: nx_magic, nx_uuid.
    Mark { kind: "apfs", offset: 32, bytes: b"NXSB", label: None, uuid: Some(72) },
    // Apple, Technical Note TN1150: signature and version of the volume header.
    Mark { kind: "hfs+", offset: 1024, bytes: b"H+\0\x04", label: None, uuid: None },
    Mark { kind: "hfs+", offset: 1024, bytes: b"HX\0\x05", label: None, uuid: None },
    // OpenZFS, include/sys/vdev_impl.h, vdev_label: the first pair of the list of names and values, in XDR.
    Mark { kind: "zfs", offset: 0x4014, bytes: b"\0\0\0\x07version", label: None, uuid: None },
    // cryptsetup, lib/verity/verity.c, verity_sb: signature, uuid.
    Mark { kind: "dm-verity", offset: 0, bytes: b"verity\0\0", label: None, uuid: Some(16) },
    // linux/include/uapi/linux/cramfs_fs.h and romfs_fs.h.
    Mark { kind: "cramfs", offset: 0, bytes: b"\x45\x3d\xcd\x28", label: None, uuid: None },
    Mark { kind: "romfs", offset: 0, bytes: b"-rom1fs-", label: None, uuid: None },
    // linux/kernel/power/swap.c, HIBERNATE_SIG in place of the mark of swap space.
    Mark { kind: "swsuspend", offset: 4086, bytes: b"S1SUSPEND", label: None, uuid: None },
];

/// A format that was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marked {
    pub(crate) kind: &'static str,
    /// The bytes of the field with its label.
    pub(crate) label: Vec<u8>,
    pub(crate) uuid: Option<Uuid>,
}

/// The format whose mark `slice` has.
pub(crate) fn find(slice: &Slice) -> Result<Option<Marked>> {
    let length = slice.length().get();
    let part = |offset: u64, count: usize| -> Result<Vec<u8>> {
        // At the end of the slice, fewer bytes are read.
        slice.bytes(offset, count.min(usize_of(length.saturating_sub(offset))))
    };
    for mark in MARKS {
        if part(mark.offset, mark.bytes.len())? != mark.bytes {
            continue;
        }
        let label = mark.label.map_or_else(|| Ok(Vec::new()), |(offset, count)| part(offset, count))?;
        let uuid = match mark.uuid.filter(|offset| offset + u64_of(size_of::<Uuid>()) <= length) {
            Some(offset) => Uuid::from_slice(&part(offset, size_of::<Uuid>())?).ok(),
            None => None,
        };
        return Ok(Some(Marked { kind: mark.kind, label, uuid }));
    }
    Ok(None)
}
