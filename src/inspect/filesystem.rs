//! Telling filesystems by their bytes, with label, id, features and fill where they are ours to read.

use serde::Serialize;
use uuid::Uuid;

use super::{read, text_of};
use crate::error::Result;
use crate::image::Image;
use crate::numbers::Numbers;
use crate::units::Bytes;

/// A filesystem, or what else a partition holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// `ext4`, `vfat`, `swap`, `xfs`, …
    pub kind: String,
    /// Label; empty for none.
    pub label: String,
    /// UUID, or `1234-ABCD` for FAT.
    pub uuid: String,
    /// Features by the names of its tools, and by bit where they have none.
    pub features: Vec<String>,
    /// Bytes in a block or cluster.
    pub block_size: Option<u64>,
    /// Blocks or clusters there are.
    pub blocks: Option<u64>,
    /// Blocks or clusters that are free.
    pub free_blocks: Option<u64>,
    /// Inodes there are.
    pub inodes: Option<u64>,
    /// Inodes that are free.
    pub free_inodes: Option<u64>,
}

/// Bytes of allocation tables that one inspection reads: the largest FAT32 has as many. A disk of a stranger can have
/// thousands of partitions over one table.
pub(super) const PATIENCE: u64 = 1 << 30;

/// What lies in `size` bytes at `offset`; none where nothing is known. `patience` is how many bytes of allocation tables may
/// yet be read.
pub(super) fn find(image: &Image, offset: u64, size: u64, patience: &mut u64) -> Result<Option<Found>> {
    // The furthest mark that is looked for is that of btrfs, at 64 KiB.
    let head = read(image, offset, size.min(72 << 10))?;
    let found = ext(&head).or_else(|| swap(&head)).or_else(|| others(&head));
    match found {
        Some(found) => Ok(Some(found)),
        None => fat(image, offset, &head, patience),
    }
}

/// Names of ext feature bits, as e2fsprogs prints them: compatible, incompatible, read-only compatible.
const EXT_FEATURES: [&[(u32, &str)]; 3] = [
    &[
        (0x1, "dir_prealloc"),
        (0x4, "has_journal"),
        (0x8, "ext_attr"),
        (0x10, "resize_inode"),
        (0x20, "dir_index"),
        (0x200, "sparse_super2"),
        (0x400, "fast_commit"),
        (0x800, "stable_inodes"),
        (0x1000, "orphan_file"),
    ],
    &[
        (0x2, "filetype"),
        (0x4, "needs_recovery"),
        (0x8, "journal_dev"),
        (0x10, "meta_bg"),
        (0x40, "extent"),
        (0x80, "64bit"),
        (0x100, "mmp"),
        (0x200, "flex_bg"),
        (0x400, "ea_inode"),
        (0x2000, "metadata_csum_seed"),
        (0x4000, "large_dir"),
        (0x8000, "inline_data"),
        (0x1_0000, "encrypt"),
        (0x2_0000, "casefold"),
    ],
    &[
        (0x1, "sparse_super"),
        (0x2, "large_file"),
        (0x8, "huge_file"),
        (0x10, "uninit_bg"),
        (0x20, "dir_nlink"),
        (0x40, "extra_isize"),
        (0x100, "quota"),
        (0x200, "bigalloc"),
        (0x400, "metadata_csum"),
        (0x1000, "read-only"),
        (0x2000, "project"),
        (0x4000, "shared_blocks"),
        (0x8000, "verity"),
        (0x1_0000, "orphan_present"),
    ],
];

/// ext2, ext3, ext4 (kernel.org, ext4, Super Block).
fn ext(head: &[u8]) -> Option<Found> {
    let at = Numbers(head.get(1024..2048)?);
    if at.le16(0x38) != 0xef53 {
        return None;
    }
    let words = [at.le32(0x5c), at.le32(0x60), at.le32(0x64)];
    let mut features = Vec::new();
    for (word, names) in words.into_iter().zip(EXT_FEATURES) {
        for bit in 0..32 {
            let mask = 1_u32 << bit;
            if word & mask != 0 {
                let name = names.iter().find(|(known, _)| *known == mask);
                features.push(name.map_or_else(|| format!("bit {bit}"), |(_, name)| (*name).to_owned()));
            }
        }
    }
    let journal = words[0] & 0x4 != 0;
    let kind = if words[1] & 0x8 != 0 {
        "jbd"
    } else if words[1] & 0x2c0 != 0 || words[2] & 0x4f8 != 0 {
        "ext4"
    } else if journal {
        "ext3"
    } else {
        "ext2"
    };
    let wide = |low, high| {
        let high = if words[1] & 0x80 != 0 { u64::from(at.le32(high)) << 32 } else { 0 };
        high | u64::from(at.le32(low))
    };
    Some(Found {
        kind: kind.to_owned(),
        label: text_of(&at.0[0x78..0x88]),
        uuid: uuid(&at.0[0x68..0x78]),
        features,
        block_size: 1024_u64.checked_shl(at.le32(0x18)),
        blocks: Some(wide(0x04, 0x150)),
        free_blocks: Some(wide(0x0c, 0x158)),
        inodes: Some(u64::from(at.le32(0x00))),
        free_inodes: Some(u64::from(at.le32(0x10))),
    })
}

/// Swap space of version 1 with pages of 4 KiB.
fn swap(head: &[u8]) -> Option<Found> {
    (head.get(4086..4096)? == b"SWAPSPACE2").then(|| Found {
        kind: "swap".to_owned(),
        label: text_of(&head[0x41c..0x42c]),
        uuid: uuid(&head[0x40c..0x41c]),
        block_size: Some(4096),
        blocks: Some(u64::from(Numbers(head).le32(0x404)) + 1),
        ..Found::default()
    })
}

/// FAT12, 16, 32 (Microsoft fatgen103): a boot sector whose numbers fit together.
fn fat(image: &Image, offset: u64, head: &[u8], patience: &mut u64) -> Result<Option<Found>> {
    let Some(boot) = head.get(..512) else { return Ok(None) };
    let at = Numbers(boot);
    let (sector, per_cluster) = (u64::from(at.le16(11)), u64::from(boot[13]));
    let (reserved, fats, roots) = (u64::from(at.le16(14)), u64::from(boot[16]), u64::from(at.le16(17)));
    let sound = boot[510..] == [0x55, 0xaa]
        && sector.is_power_of_two()
        && (512..=4096).contains(&sector)
        && per_cluster.is_power_of_two()
        && reserved > 0
        && (1..=2).contains(&fats)
        && boot[21] >= 0xf0;
    if !sound {
        return Ok(None);
    }
    let either = |short: u16, long: u32| if short == 0 { u64::from(long) } else { u64::from(short) };
    let per_fat = either(at.le16(22), at.le32(36));
    let sectors = either(at.le16(19), at.le32(32));
    let before = reserved + fats * per_fat + (roots * 32).div_ceil(sector);
    let Some(data) = sectors.checked_sub(before).filter(|_| per_fat > 0) else { return Ok(None) };
    // As many as the widest entry tells apart, less the numbers that mean something else (fatgen103).
    let clusters = data / per_cluster;
    if clusters > 0x0fff_fff5 {
        return Ok(None);
    }
    // fatgen103, "FAT Type Determination"; Linux and mtools take a FAT32 boot sector's word for it.
    let (bits, extended) = match clusters {
        _ if at.le16(22) == 0 => (32_u32, 64),
        0..4085 => (12, 36),
        _ => (16, 36),
    };
    let id = at.le32(extended + 3);
    let table = Table { offset: offset + reserved * sector, length: per_fat * sector, bits, clusters };
    let free = if table.needed() <= *patience {
        *patience -= table.needed();
        Some(table.free(image)?)
    } else {
        None
    };
    let label = match root_label(image, offset, &at, sector * per_cluster, before * sector, roots, bits)? {
        Some(label) => label,
        None => text_of(&boot[extended + 7..extended + 18]),
    };
    Ok(Some(Found {
        kind: "vfat".to_owned(),
        // What mkfs.fat and Windows write where there is none.
        label: if label == "NO NAME" { String::new() } else { label },
        uuid: format!("{:04X}-{:04X}", id >> 16, id & 0xffff),
        features: vec![format!("FAT{bits}")],
        block_size: Some(sector * per_cluster),
        blocks: Some(clusters),
        free_blocks: free,
        ..Found::default()
    }))
}

/// The label in the root directory, which counts for more than that of the boot sector; only the first cluster or, before
/// FAT32, the whole of it is looked at.
fn root_label(
    image: &Image,
    offset: u64,
    boot: &Numbers<'_>,
    cluster: u64,
    data: u64,
    roots: u64,
    bits: u32,
) -> Result<Option<String>> {
    let (at, length) = match bits {
        32 => (data + u64::from(boot.le32(44)).saturating_sub(2).saturating_mul(cluster), cluster),
        _ => (data.saturating_sub((roots * 32).div_ceil(512) * 512), roots * 32),
    };
    let entries = read(image, offset.saturating_add(at), length)?;
    // Attribute 8 alone is a label; with the three below it a part of a long name.
    let label = entries
        .as_chunks::<32>()
        .0
        .iter()
        .take_while(|entry| entry[0] != 0)
        .find(|entry| entry[11] & 0x3f == 8 && entry[0] != 0xe5);
    Ok(label.map(|entry| text_of(&entry[..11])))
}

/// A file allocation table.
#[derive(Clone, Copy, Debug)]
struct Table {
    offset: u64,
    length: u64,
    /// Bits of an entry.
    bits: u32,
    clusters: u64,
}

impl Table {
    /// Bytes of the entries that stand for clusters.
    fn needed(&self) -> u64 {
        ((self.clusters + 2) * u64::from(self.bits)).div_ceil(8).min(self.length)
    }

    /// Free clusters, counted in the allocation table itself.
    fn free(&self, image: &Image) -> Result<u64> {
        // A table of 12 bits is shorter, so pieces are whole numbers of entries.
        const PIECE: u64 = 2 << 20;
        let (needed, Self { offset, bits, clusters, .. }) = (self.needed(), *self);
        let (mut free, mut number, mut at) = (0, 0_u64, 0);
        while at < needed {
            let length = PIECE.min(needed - at);
            let start = Bytes::new(offset + at);
            if number >= 2 && image.clipped(start, start + Bytes::new(length)).next().is_none() {
                // A hole: every entry is zero. Most of a large table is one.
                let entries = (length * 8 / u64::from(bits)).min((clusters + 2).saturating_sub(number));
                free += entries;
                number += entries;
                at += PIECE;
                continue;
            }
            let bytes = read(image, offset + at, length)?;
            let mut count = |value: u32| {
                free += u64::from(number >= 2 && number < clusters + 2 && value == 0);
                number += 1;
            };
            match bits {
                12 => {
                    for triple in bytes.chunks(3) {
                        let byte = |place: usize| u32::from(triple.get(place).copied().unwrap_or(0));
                        count(byte(0) | (byte(1) & 0xf) << 8);
                        count(byte(1) >> 4 | byte(2) << 4);
                    }
                }
                16 => {
                    for pair in bytes.as_chunks::<2>().0 {
                        count(u32::from(u16::from_le_bytes(*pair)));
                    }
                }
                _ => {
                    for word in bytes.as_chunks::<4>().0 {
                        count(u32::from_le_bytes(*word) & 0x0fff_ffff);
                    }
                }
            }
            at += PIECE;
        }
        Ok(free)
    }
}

/// A mark that tells a kind: bytes at an offset, and where label and UUID stand.
struct Mark {
    kind: &'static str,
    offset: usize,
    bytes: &'static [u8],
    label: Option<(usize, usize)>,
    uuid: Option<usize>,
}

/// What is known by name only.
const MARKS: [Mark; 8] = [
    Mark { kind: "xfs", offset: 0, bytes: b"XFSB", label: Some((108, 12)), uuid: Some(32) },
    Mark {
        kind: "btrfs",
        offset: 0x1_0040,
        bytes: b"_BHRfS_M",
        label: Some((0x1_012b, 256)),
        uuid: Some(0x1_0020),
    },
    Mark {
        kind: "erofs",
        offset: 1024,
        bytes: &[0xe2, 0xe1, 0xf5, 0xe0],
        label: Some((1088, 16)),
        uuid: Some(1072),
    },
    Mark { kind: "squashfs", offset: 0, bytes: b"hsqs", label: None, uuid: None },
    Mark { kind: "iso9660", offset: 0x8001, bytes: b"CD001", label: Some((0x8028, 32)), uuid: None },
    Mark { kind: "luks", offset: 0, bytes: b"LUKS\xba\xbe", label: None, uuid: None },
    Mark { kind: "ntfs", offset: 3, bytes: b"NTFS    ", label: None, uuid: None },
    Mark { kind: "lvm2", offset: 512, bytes: b"LABELONE", label: None, uuid: None },
];

fn others(head: &[u8]) -> Option<Found> {
    let mark =
        MARKS.iter().find(|mark| head.get(mark.offset..).is_some_and(|rest| rest.starts_with(mark.bytes)))?;
    let part = |start: usize, length: usize| head.get(start..start + length).unwrap_or(&[]);
    Some(Found {
        kind: mark.kind.to_owned(),
        label: mark.label.map_or(String::new(), |(start, length)| text_of(part(start, length))),
        uuid: mark.uuid.map_or(String::new(), |start| uuid(part(start, 16))),
        ..Found::default()
    })
}

/// A UUID in its text form; empty for none.
fn uuid(bytes: &[u8]) -> String {
    match Uuid::from_slice(bytes) {
        Ok(id) if !id.is_nil() => id.to_string(),
        _ => String::new(),
    }
}
