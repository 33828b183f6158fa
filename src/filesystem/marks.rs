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
const MARKS: [Mark; 9] = [
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
    // LVM2, lib/format_text/layout.h, label_header in the second sector.
    Mark { kind: "lvm2", offset: 512, bytes: b"LABELONE", label: None, uuid: None },
    // OpenZFS, module/zfs/vdev_label.c: the packed list of the first label, at 16 KiB, begins with this name.
    Mark { kind: "zfs", offset: 0x4018, bytes: b"version\0", label: None, uuid: None },
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
        let mut bytes = vec![0; count.min(usize_of(length.saturating_sub(offset)))];
        slice.read(offset, &mut bytes)?;
        Ok(bytes)
    };
    for mark in &MARKS {
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
