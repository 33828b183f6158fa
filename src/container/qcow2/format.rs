//! The bytes of qcow2: header, table entries, limits (QEMU docs/interop/qcow2.txt). All integers are big-endian.

use crate::error::{Error, Kind, Result};
use crate::units::{Bytes, low32, u64_of};

/// "QFI" and 0xfb.
pub(super) const MAGIC: u32 = 0x5146_49fb;
/// Bytes of a header of version 3 with the compression type.
pub(super) const HEADER: usize = 112;
/// Bytes of a header of version 2.
pub(super) const HEADER_2: usize = 72;
/// Cluster sizes QEMU takes: 512 bytes to 2 MiB.
pub(super) const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
/// The most bytes of the L1 table (QCOW_MAX_L1_SIZE).
pub(super) const MOST_L1: u64 = 32 << 20;
/// The most bytes of the refcount table (QCOW_MAX_REFTABLE_SIZE).
pub(super) const MOST_REFCOUNT_TABLE: u64 = 8 << 20;
/// The longest name of a backing file.
pub(super) const LONGEST_BACKING: usize = 1023;
/// Bits of a cluster from which on level 2 entries can be extended: its 32 parts are at least sectors.
pub(super) const LEAST_EXTENDED: u32 = 14;
/// Bits of a refcount: 16, as its order 4 says.
pub(super) const REFCOUNT_ORDER: u32 = 4;

/// Incompatible features: dirty, corrupt, external data file, compression type, extended L2 entries.
pub(super) const INCOMPATIBLE_DIRTY: u64 = 1;
pub(super) const INCOMPATIBLE_CORRUPT: u64 = 2;
pub(super) const INCOMPATIBLE_DATA_FILE: u64 = 4;
pub(super) const INCOMPATIBLE_COMPRESSION: u64 = 8;
pub(super) const INCOMPATIBLE_EXTENDED_L2: u64 = 16;

/// Header extension that names the backing file's format.
pub(super) const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;

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

/// Bytes in a cluster: a power of two from 512 to 2 MiB. It divides everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterSize {
    pub(super) bits: u32,
}

impl Default for ClusterSize {
    /// 64 KiB, as QEMU's own.
    fn default() -> Self {
        Self { bits: 16 }
    }
}

impl ClusterSize {
    /// Clusters of so many bytes.
    ///
    /// # Errors
    /// [`Kind::Usage`] about `cluster_size` for what is no power of two from 512 bytes to 2 MiB.
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

    /// Its bytes.
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

    /// The bit above the offset of a compressed cluster's entry; the bits from it on count sectors.
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

/// A backing file, as an overlay names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// Path as it is written down, relative to the overlay; at most 1023 bytes.
    pub path: String,
    /// Its format, in QEMU's word: `raw`, `qcow2`, …
    pub format: &'static str,
}

/// Where everything stands, as the header says it.
#[derive(Clone, Debug)]
pub(super) struct Header<'a> {
    pub(super) cluster_size: ClusterSize,
    pub(super) size: u64,
    pub(super) l1: (u64, u64),
    pub(super) refcount_table: (u64, u64),
    /// 0 zlib, 1 zstd.
    pub(super) compression: u8,
    pub(super) backing: Option<&'a Backing>,
}

impl Header<'_> {
    /// The first bytes of the file: header, extensions, name of the backing file.
    ///
    /// # Errors
    /// [`Kind::Usage`] where the backing file's name is too long.
    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        let mut extensions = Vec::new();
        if let Some(backing) = self.backing {
            extensions.extend(EXTENSION_BACKING_FORMAT.to_be_bytes());
            extensions.extend(low32(u64_of(backing.format.len())).to_be_bytes());
            extensions.extend(backing.format.as_bytes());
            extensions.resize(extensions.len().next_multiple_of(8), 0);
        }
        // The end of the extensions: type 0, length 0.
        extensions.extend([0; 8]);
        let name = self.backing.map_or("", |backing| &backing.path);
        let name_offset = if name.is_empty() { 0 } else { HEADER + extensions.len() };
        let room = usize::try_from(self.cluster_size.bytes()).unwrap_or(usize::MAX);
        if name.len() > LONGEST_BACKING || name_offset + name.len() > room {
            return Err(Error::new(Kind::Usage, "the name of the backing file is too long for qcow2")
                .expected(format!("at most 1023 bytes, in a first cluster of {room} bytes"))
                .found(format!("{} bytes", name.len())));
        }
        if crate::container::open::has_protocol(name.as_bytes()) {
            return Err(Error::new(
                Kind::Usage,
                "QEMU would take the name of the backing file for a protocol",
            )
            .found(name)
            .hint(format!("write ./{name}")));
        }
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend(MAGIC.to_be_bytes());
        bytes.extend(3_u32.to_be_bytes()); // version
        bytes.extend(u64_of(name_offset).to_be_bytes());
        bytes.extend(low32(u64_of(name.len())).to_be_bytes());
        bytes.extend(self.cluster_size.bits.to_be_bytes());
        bytes.extend(self.size.to_be_bytes());
        bytes.extend(0_u32.to_be_bytes()); // no encryption
        bytes.extend(low32(self.l1.1).to_be_bytes());
        bytes.extend(self.l1.0.to_be_bytes());
        bytes.extend(self.refcount_table.0.to_be_bytes());
        bytes.extend(low32(self.refcount_table.1 / self.cluster_size.bytes()).to_be_bytes());
        bytes.extend(0_u32.to_be_bytes()); // no snapshots
        bytes.extend(0_u64.to_be_bytes());
        let incompatible = if self.compression == 0 { 0 } else { INCOMPATIBLE_COMPRESSION };
        bytes.extend(incompatible.to_be_bytes());
        bytes.extend(0_u64.to_be_bytes()); // compatible features: no lazy refcounts
        bytes.extend(0_u64.to_be_bytes()); // autoclear features
        bytes.extend(REFCOUNT_ORDER.to_be_bytes());
        bytes.extend(low32(u64_of(HEADER)).to_be_bytes());
        bytes.push(self.compression);
        bytes.resize(HEADER, 0);
        bytes.extend(extensions);
        bytes.extend(name.as_bytes());
        Ok(bytes)
    }
}

/// Refcount table and blocks for a file whose other clusters are `clusters`: bytes of the table, number of blocks. They
/// count themselves, so the sum is repeated until it holds.
///
/// # Errors
/// [`Kind::Capacity`] where the file is larger than the refcounts of this cluster size reach.
pub(super) fn refcount_sizes(cluster_size: ClusterSize, clusters: u64) -> Result<(u64, u64)> {
    let mut blocks = 0_u64;
    loop {
        let table = (blocks * 8).div_ceil(cluster_size.bytes()).max(1);
        let needed = (clusters + table + blocks).div_ceil(cluster_size.refcounts());
        if table * cluster_size.bytes() > MOST_REFCOUNT_TABLE {
            return Err(Error::new(Kind::Capacity, "the file is too large for qcow2 with this cluster size")
                .expected(format!("a refcount table of at most {MOST_REFCOUNT_TABLE} bytes"))
                .remedy("cluster_size", "take larger clusters, up to 2MiB"));
        }
        if needed <= blocks {
            return Ok((table * cluster_size.bytes(), blocks));
        }
        blocks = needed;
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
            if let Ok((table, blocks)) = refcount_sizes(cluster_size, clusters) {
                let all = clusters + table / cluster_size.bytes() + blocks;
                prop_assert!(blocks * cluster_size.refcounts() >= all);
                prop_assert!(table >= blocks * 8 && table <= MOST_REFCOUNT_TABLE);
                prop_assert!((blocks - 1) * cluster_size.refcounts() < all);
            }
        }
    }
}
