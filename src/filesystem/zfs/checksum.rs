//! Checksums of blocks and labels.

use sha2::{Digest, Sha256};

use super::format::Trailer;
use crate::error::{Error, Result};
use crate::wire::Wire;

/// A checksum as a block pointer has it.
pub(super) type Sum = [u64; 4];

/// How blocks are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Checksum {
    /// Four sums of 64 bits: what `on` means.
    #[default]
    Fletcher4,
    /// SHA-256.
    Sha256,
}

impl Checksum {
    /// Its number in block pointers and properties (zio.h, enum zio_checksum).
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Fletcher4 => 7,
            Self::Sha256 => 8,
        }
    }

    /// The checksum of a block as it is stored.
    pub(super) fn of(self, bytes: &[u8]) -> Sum {
        match self {
            Self::Fletcher4 => fletcher4(bytes),
            Self::Sha256 => sha256(bytes),
        }
    }
}

/// The sums of words, of those sums, and twice more (module/zcommon/zfs_fletcher.c).
fn fletcher4(bytes: &[u8]) -> Sum {
    let (mut a, mut b, mut c, mut d) = (0_u64, 0_u64, 0_u64, 0_u64);
    let (words, _) = bytes.as_chunks::<4>();
    for word in words {
        a = a.wrapping_add(u64::from(u32::from_le_bytes(*word)));
        b = b.wrapping_add(a);
        c = c.wrapping_add(b);
        d = d.wrapping_add(c);
    }
    [a, b, c, d]
}

/// SHA-256, whose words are big-endian in the digest (module/zfs/sha2_zfs.c).
fn sha256(bytes: &[u8]) -> Sum {
    let digest = Sha256::digest(bytes);
    let mut sum = [0; 4];
    let (words, _) = digest.as_chunks::<8>();
    for (own, word) in sum.iter_mut().zip(words) {
        *own = u64::from_be_bytes(*word);
    }
    sum
}

/// Ends a piece of a label that lies at `offset` of the device: its last 40 bytes become its checksum, which covers the
/// offset too (module/zfs/vdev_label.c; zio_checksum.c, zio_checksum_label_verifier).
///
/// # Errors
/// [`Kind::Bug`](crate::error::Kind::Bug) for a piece that is shorter than its trailer.
pub(super) fn seal(piece: &mut [u8], offset: u64) -> Result<()> {
    let at = piece.len().checked_sub(Trailer::LENGTH);
    let at = at.ok_or_else(|| Error::bug("a piece of a label is shorter than its checksum"))?;
    Trailer { zec_cksum: [offset, 0, 0, 0], ..Trailer::BLANK }.write_to(&mut piece[at..]);
    let sum = sha256(piece);
    Trailer { zec_cksum: sum, ..Trailer::BLANK }.write_to(&mut piece[at..]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_openzfs() {
        // By hand: words 1, 2, 3. a = 1, 3, 6; b = 1, 4, 10; c = 1, 5, 15; d = 1, 6, 21.
        let words: Vec<u8> = [1_u32, 2, 3].iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(Checksum::Fletcher4.of(&words), [6, 10, 15, 21]);
        assert_eq!(
            Checksum::Fletcher4.of(&[0xff; 8]),
            [0x1_ffff_fffe, 0x2_ffff_fffd, 0x3_ffff_fffc, 0x4_ffff_fffb]
        );
        // FIPS 180-4, the digest of "abc".
        let digest =
            [0xba78_16bf_8f01_cfea, 0x4141_40de_5dae_2223, 0xb003_61a3_9617_7a9c, 0xb410_ff61_f200_15ad];
        assert_eq!(Checksum::Sha256.of(b"abc"), digest);
    }

    #[test]
    fn a_label_that_is_moved_is_no_longer_sealed() {
        let (mut here, mut there) = ([7; 512], [7; 512]);
        seal(&mut here, 0).unwrap();
        seal(&mut there, 512).unwrap();
        assert_eq!(here[..472], there[..472]);
        assert_eq!(here[472..480], there[472..480], "the magic number");
        assert_ne!(here[480..], there[480..]);
        assert!(seal(&mut [0; 39], 0).is_err());
    }
}
