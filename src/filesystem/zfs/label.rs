//! The four labels: what finds the pool and leads to everything in it.

use super::checksum::seal;
use super::format::{LABEL, START, Uberblock};
use super::nvlist::List;
use super::space::Geometry;
use crate::error::{Error, Kind, Result};
use crate::units::{index, narrow, u64_of, usize_of};
use crate::wire::Wire;

/// The parts of a label (vdev_impl.h, vdev_label_t): 8 KiB that a partition table may use, the boot environment, the
/// list of names and values, the ring of uberblocks.
pub(super) const ENVIRONMENT: usize = 8 << 10;
pub(super) const CONFIG: usize = 16 << 10;
pub(super) const RING: usize = 128 << 10;

/// Where the labels lie.
pub(super) fn offsets(geometry: &Geometry) -> [u64; 4] {
    [0, LABEL, geometry.device - 2 * LABEL, geometry.device - LABEL]
}

/// The label at `offset`, and its length.
///
/// # Errors
/// [`Kind::Capacity`] where the configuration is longer than its place.
pub(super) fn label(
    geometry: &Geometry,
    offset: u64,
    config: &List,
    uberblock: &Uberblock,
) -> Result<Vec<u8>> {
    let mut label = vec![0; usize_of(LABEL)];
    let mut put = |start: usize, end: usize, bytes: &[u8]| -> Result<()> {
        let piece = &mut label[start..end];
        let own = piece.get_mut(..bytes.len()).filter(|own| own.len() + 40 <= end - start);
        own.ok_or_else(|| {
            Error::new(Kind::Capacity, "the configuration of a ZFS pool is too long")
                .expected(format!("at most {} bytes", end - start - 40))
                .found(format!("{} bytes", bytes.len()))
        })?
        .copy_from_slice(bytes);
        seal(piece, offset + u64_of(start))
    };
    // Version 0 of a boot environment, and nothing in it.
    put(ENVIRONMENT, CONFIG, &[])?;
    put(CONFIG, RING, &config.packed()?)?;
    // A slot is as large as what is written at once, at least 1 KiB and at most 8 KiB (vdev_impl.h,
    // VDEV_UBERBLOCK_SHIFT).
    let slot = 1_usize << geometry.ashift.clamp(10, 13);
    let count = u64_of((usize_of(LABEL) - RING) / slot);
    let at = RING + slot * index(narrow(uberblock.ub_txg % count, "the number of an uberblock")?);
    put(at, at + slot, &uberblock.bytes())?;
    Ok(label)
}

/// Where the space that is allocated begins.
pub(super) const BASE: u64 = START;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Bytes, MIB};
    use sha2::{Digest, Sha256};

    #[test]
    fn each_piece_of_a_label_is_sealed_where_it_lies() {
        let config = List::default().with("name", "tank");
        for (ashift, slot) in [(9, 1024), (12, 4096), (16, 8192)] {
            let geometry = Geometry::new(Bytes::new(64 * MIB + 5), ashift, None).unwrap();
            let uberblock = Uberblock { ub_txg: 9, ..Uberblock::BLANK };
            for offset in offsets(&geometry) {
                let label = label(&geometry, offset, &config, &uberblock).unwrap();
                let place = RING + slot * (9 % ((128 << 10) / slot));
                for (start, end) in [(ENVIRONMENT, CONFIG), (CONFIG, RING), (place, place + slot)] {
                    let piece = &label[start..end];
                    let mut open = piece.to_vec();
                    let sum = open.len() - 32;
                    open[sum..].fill(0);
                    open[sum..sum + 8].copy_from_slice(&(offset + u64_of(start)).to_le_bytes());
                    // Words of the digest, big-endian, stored little-endian.
                    let digest: Vec<u8> =
                        Sha256::digest(&open).chunks(8).flat_map(|word| word.iter().rev().copied()).collect();
                    assert_eq!(piece[sum..], digest, "{offset} {start}");
                }
                assert_eq!(Uberblock::read(&label[place..]).unwrap(), uberblock);
            }
        }
        assert_eq!(offsets(&Geometry::new(Bytes::new(64 * MIB + 5), 12, None).unwrap())[3], 64 * MIB - LABEL);
    }

    #[test]
    fn a_configuration_that_is_too_long_is_told() {
        let geometry = Geometry::new(Bytes::new(64 * MIB), 12, None).unwrap();
        let config = List::default().with("comment", "x".repeat(112 << 10).as_str());
        let error = label(&geometry, 0, &config, &Uberblock::BLANK).unwrap_err();
        assert!(error.what().contains("too long"), "{error}");
    }
}
