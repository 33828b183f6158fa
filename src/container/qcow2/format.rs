//! The bytes of qcow2: header, table entries, limits (QEMU docs/interop/qcow2.txt). All integers are big-endian.

use super::{Backing, Compat};
use crate::container::codec::Codec;
use crate::error::{Error, Kind, Result};
use crate::units::{Bytes, narrow, u64_of, usize_of};
use crate::wire::{Structure, Wire, wire};

/// Every structure, for the tables of docs/formats/qcow2.md.
pub(crate) const STRUCTURES: &[Structure] =
    &[Header::STRUCTURE, ExtensionHead::STRUCTURE, FeatureName::STRUCTURE];

/// "QFI" and 0xfb.
pub(super) const MAGIC: u32 = 0x5146_49fb;

wire! {
    /// The header of version 3. That of version 2 ends before `incompatible_features`.
    pub(super) struct Header: "qcow2 header", big, 112 {
        0 magic: u32 = MAGIC,
        4 version: u32,
        8 backing_file_offset: u64,
        16 backing_file_size: u32,
        20 cluster_bits: u32,
        24 size: u64,
        32 crypt_method: u32,
        36 l1_size: u32,
        40 l1_table_offset: u64,
        48 refcount_table_offset: u64,
        56 refcount_table_clusters: u32,
        60 nb_snapshots: u32,
        64 snapshots_offset: u64,
        72 incompatible_features: u64,
        80 compatible_features: u64,
        88 autoclear_features: u64,
        96 refcount_order: u32,
        100 header_length: u32,
        104 compression_type: u8,
    }
}

wire! {
    /// The start of a header extension, whose data follows, padded to a multiple of 8.
    pub(super) struct ExtensionHead: "qcow2 header extension", big, 8 {
        0 kind "type": u32,
        4 length: u32,
    }
}

wire! {
    /// An entry of the feature name table.
    pub(super) struct FeatureName: "qcow2 feature name", big, 48 {
        0 kind "type": u8,
        1 bit: u8,
        2 name: [u8; 46],
    }
}

/// Bytes of a header of version 2, and the smallest length that a header of version 3 may give.
pub(super) const HEADER_2: usize = 72;
pub(super) const LEAST_HEADER_3: u32 = 104;
/// Cluster sizes that QEMU accepts: 512 bytes to 2 MiB.
pub(super) const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
/// The largest L1 table in bytes (QCOW_MAX_L1_SIZE).
pub(super) const MOST_L1: u64 = 32 << 20;
/// The largest refcount table in bytes (QCOW_MAX_REFTABLE_SIZE).
pub(super) const MOST_REFCOUNT_TABLE: u64 = 8 << 20;
/// The longest name of a backing file.
pub(super) const LONGEST_BACKING: usize = 1023;
/// The smallest cluster bits for extended level 2 entries: each of the 32 parts must be at least a sector.
pub(super) const LEAST_EXTENDED: u32 = 14;
/// log2 of the bits of a refcount: 16 bits.
pub(super) const REFCOUNT_ORDER: u32 = 4;

/// Incompatible features: dirty, corrupt, external data file, compression type, extended L2 entries.
pub(super) const INCOMPATIBLE_DIRTY: u64 = 1;
pub(super) const INCOMPATIBLE_CORRUPT: u64 = 2;
pub(super) const INCOMPATIBLE_DATA_FILE: u64 = 4;
pub(super) const INCOMPATIBLE_COMPRESSION: u64 = 8;
pub(super) const INCOMPATIBLE_EXTENDED_L2: u64 = 16;

/// Header extensions: the name of the backing file's format, and the names of features.
pub(super) const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
pub(super) const EXTENSION_FEATURE_NAMES: u32 = 0x6803_f857;
pub(super) const EXTENSION_BITMAPS: u32 = 0x2385_2875;
/// Names of features: type (0 incompatible, 1 compatible, 2 autoclear), bit and name. They are those that
/// QEMU knows, in its order (block/qcow2.c, qcow2_update_header).
const FEATURE_NAMES: [(u8, u8, &str); 8] = [
    (0, 0, "dirty bit"),
    (0, 1, "corrupt bit"),
    (0, 2, "external data file"),
    (0, 3, "compression type"),
    (0, 4, "extended L2 entries"),
    (1, 0, "lazy refcounts"),
    (2, 0, "bitmaps"),
    (2, 1, "raw external data"),
];
/// With clusters of at most this size, the names of features are omitted, so that the header's cluster has
/// space for the name of a backing file (QEMU, as above).
const WITHOUT_NAMES: u64 = 4096;

/// Table entry: its cluster has a refcount of 1 and may be written in place.
pub(super) const COPIED: u64 = 1 << 63;
/// Level 2 entry: its cluster is compressed.
pub(super) const COMPRESSED: u64 = 1 << 62;
/// Level 2 entry of version 3: reads as zero.
pub(super) const ZERO: u64 = 1;
/// Bits of a table entry that hold an offset.
pub(super) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Bits that are zero in an entry of the L1 table, of an L2 table for a plain cluster, and of the refcount table.
pub(super) const RESERVED_L1: u64 = !(COPIED | OFFSET);
pub(super) const RESERVED_L2: u64 = !(COPIED | COMPRESSED | OFFSET | ZERO);
pub(super) const RESERVED_REFCOUNT: u64 = !OFFSET;
/// The largest refcount_order: 64 bits.
pub(super) const MOST_REFCOUNT_ORDER: u32 = 6;

/// Bytes in a cluster: a power of two from 512 to 2 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterSize {
    pub(super) bits: u32,
}

impl Default for ClusterSize {
    /// 64 KiB, the default of QEMU.
    fn default() -> Self {
        Self { bits: 16 }
    }
}

impl ClusterSize {
    /// Clusters of this many bytes.
    ///
    /// # Errors
    /// [`Kind::Usage`] about `cluster_size` unless it is a power of two from 512 bytes to 2 MiB.
    pub fn new(bytes: Bytes) -> Result<Self> {
        let bits = bytes.get().trailing_zeros();
        if !bytes.get().is_power_of_two() || !CLUSTER_BITS.contains(&bits) {
            return Err(Error::new(Kind::Usage, "qcow2 has no clusters of this size")
                .about("cluster_size")
                .expected("a power of two from 512 bytes to 2MiB")
                .found(bytes));
        }
        Ok(Self { bits })
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        1 << self.bits
    }

    /// Entries of a level 2 table, which is one cluster.
    pub(super) const fn entries(self) -> u64 {
        self.bytes() / 8
    }

    /// Bytes of the disk that one level 2 table covers.
    pub(super) const fn covered(self) -> u64 {
        self.bytes() * self.entries()
    }

    /// Refcounts of a refcount block, which is one cluster.
    pub(super) const fn refcounts(self) -> u64 {
        self.bytes() / 2
    }

    /// The number of bits of the offset in a compressed cluster's entry; the bits above it count sectors.
    pub(super) const fn sector_shift(self) -> u32 {
        62 - (self.bits - 8)
    }

    /// Entries of the level 1 table of a disk; at least one, so that an empty disk has a table too.
    ///
    /// # Errors
    /// [`Kind::Capacity`] with the largest disk of this cluster size.
    pub(super) fn l1_entries(self, size: u64) -> Result<u64> {
        let entries = size.div_ceil(self.covered()).max(1);
        if entries * 8 > MOST_L1 {
            return Err(Error::new(Kind::Capacity, "the disk is too large for qcow2 with this cluster size")
                .expected(format!(
                    "at most {} with clusters of {}",
                    Bytes::new((MOST_L1 / 8).saturating_mul(self.covered())),
                    Bytes::new(self.bytes())
                ))
                .found(Bytes::new(size))
                .remedy("cluster_size", "take larger clusters, up to 2MiB"));
        }
        Ok(entries)
    }
}

/// The level 1 table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level1 {
    pub(super) offset: u64,
    pub(super) entries: u64,
}

/// The refcount table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RefcountTable {
    pub(super) offset: u64,
    pub(super) clusters: u64,
}

/// The contents of the first cluster of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    pub(super) cluster_size: ClusterSize,
    /// Length of the disk in bytes.
    pub(super) size: u64,
    pub(super) l1: Level1,
    pub(super) refcounts: RefcountTable,
    pub(super) codec: Option<Codec>,
    pub(super) compat: Compat,
    pub(super) backing: Option<&'a Backing>,
}

impl Head<'_> {
    /// The first bytes of the file: header, extensions, name of the backing file.
    ///
    /// # Errors
    /// [`Kind::Usage`] where the name of the backing file is too long, or is not a path to QEMU.
    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        let compression_type = self.codec.map_or(0, Codec::qcow2_type);
        let incompatible_features = if compression_type == 0 { 0 } else { INCOMPATIBLE_COMPRESSION };
        let mut extensions = Vec::new();
        if let Some(backing) = self.backing {
            extend(&mut extensions, EXTENSION_BACKING_FORMAT, backing.format.as_bytes())?;
        }
        if incompatible_features != 0 && self.cluster_size.bytes() > WITHOUT_NAMES {
            extend(&mut extensions, EXTENSION_FEATURE_NAMES, &feature_names())?;
        }
        // The end of the extensions: type 0, length 0.
        extend(&mut extensions, 0, &[])?;
        let name = self.backing.map_or("", |backing| &backing.path);
        let is_uri = self.backing.is_some_and(|backing| backing.is_uri);
        let (version, length) = match self.compat {
            Compat::V2 => (2, HEADER_2),
            Compat::V3 => (3, Header::LENGTH),
        };
        let name_offset = if name.is_empty() { 0 } else { length + extensions.len() };
        self.check_name(name, is_uri, name_offset)?;
        let header = Header {
            version,
            backing_file_offset: u64_of(name_offset),
            backing_file_size: narrow(name.len(), "the length of a backing file's name")?,
            cluster_bits: self.cluster_size.bits,
            size: self.size,
            l1_size: narrow(self.l1.entries, "the entries of the L1 table")?,
            l1_table_offset: self.l1.offset,
            refcount_table_offset: self.refcounts.offset,
            refcount_table_clusters: narrow(self.refcounts.clusters, "the clusters of the refcount table")?,
            incompatible_features,
            refcount_order: REFCOUNT_ORDER,
            header_length: narrow(Header::LENGTH, "the length of the header")?,
            compression_type,
            ..Header::BLANK
        };
        Ok([&header.bytes()[..length], extensions.as_slice(), name.as_bytes()].concat())
    }

    /// Refuses a name of a backing file that does not fit, or that QEMU reads as something else.
    fn check_name(&self, name: &str, is_uri: bool, offset: usize) -> Result<()> {
        let most = usize_of(self.cluster_size.bytes());
        if name.len() > LONGEST_BACKING || offset + name.len() > most {
            return Err(Error::new(Kind::Usage, "the name of the backing file is too long for qcow2")
                .about(if is_uri { "backing_uri" } else { "backing" })
                .expected(format!("at most 1023 bytes, in a first cluster of {most} bytes"))
                .found(format!("{} bytes", name.len())));
        }
        if !is_uri && crate::container::open::has_protocol(name.as_bytes()) {
            let what = "QEMU would take the name of the backing file for a protocol";
            return Err(Error::new(Kind::Usage, what)
                .about("backing")
                .found(name)
                .hint(format!("write ./{name}")));
        }
        Ok(())
    }
}

/// Appends a header extension.
fn extend(extensions: &mut Vec<u8>, kind: u32, data: &[u8]) -> Result<()> {
    let head = ExtensionHead { kind, length: narrow(data.len(), "the length of a header extension")? };
    extensions.extend(head.bytes());
    extensions.extend(data);
    extensions.resize(extensions.len().next_multiple_of(8), 0);
    Ok(())
}

/// The data of the feature name table.
fn feature_names() -> Vec<u8> {
    let names = FEATURE_NAMES.iter().flat_map(|(kind, bit, text)| {
        let mut name = [0; 46];
        name[..text.len()].copy_from_slice(text.as_bytes());
        FeatureName { kind: *kind, bit: *bit, name }.bytes()
    });
    names.collect()
}

/// The size of the refcounts of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RefcountSizes {
    /// Clusters in the table.
    pub(super) table: u64,
    /// Number of blocks, each a cluster.
    pub(super) blocks: u64,
}

impl RefcountSizes {
    /// The size for a file whose other clusters are `clusters`. Refcounts count their own clusters, so the
    /// sum is repeated until it no longer changes.
    ///
    /// # Errors
    /// [`Kind::Capacity`] where the file is larger than refcounts of this cluster size can cover.
    pub(super) fn new(cluster_size: ClusterSize, clusters: u64) -> Result<Self> {
        let mut blocks = 0_u64;
        loop {
            let table = (blocks * 8).div_ceil(cluster_size.bytes()).max(1);
            let needed = (clusters + table + blocks).div_ceil(cluster_size.refcounts());
            if table * cluster_size.bytes() > MOST_REFCOUNT_TABLE {
                let what = "the file is too large for qcow2 with this cluster size";
                return Err(Error::new(Kind::Capacity, what)
                    .expected(format!("a refcount table of at most {MOST_REFCOUNT_TABLE} bytes"))
                    .remedy("cluster_size", "take larger clusters, up to 2MiB"));
            }
            if needed <= blocks {
                return Ok(Self { table, blocks });
            }
            blocks = needed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cluster_sizes_are_powers_from_512_to_2_mib() {
        for good in [512, 4096, 65536, 2 << 20] {
            assert!(ClusterSize::new(Bytes::new(good)).is_ok());
        }
        for bad in [0, 256, 1000, 4 << 20] {
            assert_eq!(ClusterSize::new(Bytes::new(bad)).unwrap_err().kind(), Kind::Usage);
        }
    }

    proptest! {
        #[test]
        fn refcounts_cover_every_cluster_and_themselves(bits in 9_u32..=21, clusters in 1_u64..1 << 40) {
            let cluster_size = ClusterSize { bits };
            if let Ok(RefcountSizes { table, blocks }) = RefcountSizes::new(cluster_size, clusters) {
                let all = clusters + table + blocks;
                prop_assert!(blocks * cluster_size.refcounts() >= all);
                prop_assert!(table * cluster_size.bytes() >= blocks * 8);
                prop_assert!(table * cluster_size.bytes() <= MOST_REFCOUNT_TABLE);
                prop_assert!((blocks - 1) * cluster_size.refcounts() < all);
            }
        }
    }
}
