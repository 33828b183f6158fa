//! Block pointers with the sums that their holders need.

use std::ops::AddAssign;

use super::checksum::Sum;
use super::format::{self, BlockPointer, EmbeddedBlockPointer, POINTER, SECTOR, kind};
use super::space::Run;
use crate::error::Result;
use crate::units::{narrow, u64_of};
use crate::wire::Wire;

/// The most bytes that a block pointer contains (spa.h, BPE_PAYLOAD_SIZE).
pub(super) const EMBEDDED: usize = 112;
/// The kind of what is embedded is data (spa.h, BP_EMBEDDED_TYPE_DATA = 0), so only the flag is set.
pub(super) const FLAG_EMBEDDED: u64 = 1 << 39;
/// Numbers of the block are little-endian (spa.h, BP_SET_BYTEORDER).
pub(super) const FLAG_LITTLE_ENDIAN: u64 = 1 << 63;

/// Bytes that blocks take, that they have as they are stored, and that they have for their readers, as the pool counts
/// them: metadata counts as it is stored (spa.h, BP_GET_UCSIZE).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) allocated: u64,
    pub(super) physical: u64,
    pub(super) logical: u64,
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.allocated += other.allocated;
        self.physical += other.physical;
        self.logical += other.logical;
    }
}

/// What is said of a block besides its bytes and places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct About {
    /// The type of its object.
    pub(super) kind: u8,
    /// 0 for contents, more for indirect blocks.
    pub(super) level: u8,
    /// Data blocks below it, or allocated dnodes, or objects.
    pub(super) fill: u64,
    /// The transaction group in which it was written.
    pub(super) birth: u64,
}

impl About {
    /// A block of contents.
    pub(super) const fn contents(kind: u8, birth: u64) -> Self {
        Self { kind, level: 0, fill: 1, birth }
    }

    /// Its type and level in the properties of its pointer.
    fn property(self) -> u64 {
        u64::from(self.kind) << 48 | u64::from(self.level) << 56 | FLAG_LITTLE_ENDIAN
    }

    /// Whether it counts as metadata.
    const fn is_metadata(self) -> bool {
        self.level > 0 || kind::is_metadata(self.kind)
    }
}

/// A block as it is stored: bytes for readers, stored bytes, and the numbers of compression and checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) logical: u64,
    pub(super) physical: u64,
    pub(super) compression: u8,
    pub(super) checksum: u8,
    pub(super) sum: Sum,
}

/// A block pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pointer {
    pub(super) bytes: [u8; POINTER],
    pub(super) sums: Sums,
    pub(super) fill: u64,
}

impl Pointer {
    /// That of a block that was never written, which reads as zeros.
    pub(super) const HOLE: Self =
        Self { bytes: [0; POINTER], sums: Sums { allocated: 0, physical: 0, logical: 0 }, fill: 0 };

    /// Whether it is one of those.
    pub(super) const fn is_hole(&self) -> bool {
        self.fill == 0
    }

    /// To a block at one to three places.
    ///
    /// # Errors
    /// [`Kind::Bug`](crate::error::Kind::Bug) for sizes that a pointer cannot have.
    pub(super) fn new(about: About, stored: &Stored, places: &[Run]) -> Result<Self> {
        let sectors = |size: u64| narrow::<u16>(size / SECTOR - 1, "the size of a block");
        let mut pointer = BlockPointer {
            blk_prop: u64::from(sectors(stored.logical)?)
                | u64::from(sectors(stored.physical)?) << 16
                | u64::from(stored.compression) << 32
                | u64::from(stored.checksum) << 40
                | about.property(),
            blk_birth: about.birth,
            blk_fill: about.fill,
            blk_cksum: stored.sum,
            ..BlockPointer::BLANK
        };
        // The number of the vdev, which is above the allocated size, is 0.
        for (words, place) in pointer.blk_dva.chunks_exact_mut(2).zip(places) {
            words.copy_from_slice(&[place.length / SECTOR, place.start / SECTOR]);
        }
        let logical = if about.is_metadata() { stored.physical } else { stored.logical };
        let allocated = places.iter().map(|place| place.length).sum();
        let sums = Sums { allocated, physical: stored.physical, logical };
        Ok(Self { bytes: pointer.bytes(), sums, fill: about.fill })
    }

    /// The pointer without what it says of the block's bytes: checksum, embedded bytes, fill.
    ///
    /// # Errors
    /// [`Kind::Bug`](crate::error::Kind::Bug) for bytes that are no block pointer.
    pub(super) fn without_contents(&self) -> Result<[u8; POINTER]> {
        let own = BlockPointer::read(&self.bytes)?;
        let BlockPointer { blk_prop, blk_birth, .. } = own;
        let bare = if blk_prop & FLAG_EMBEDDED == 0 {
            BlockPointer { blk_fill: 0, blk_cksum: BlockPointer::BLANK.blk_cksum, ..own }
        } else {
            BlockPointer { blk_prop, blk_birth, ..BlockPointer::BLANK }
        };
        Ok(bare.bytes())
    }

    /// With the block inside: `compressed` is at most [`EMBEDDED`] bytes.
    ///
    /// # Errors
    /// [`Kind::Bug`](crate::error::Kind::Bug) for more.
    pub(super) fn embedded(about: About, logical: u64, compression: u8, compressed: &[u8]) -> Result<Self> {
        let length = u64::from(narrow::<u8>(compressed.len(), "the length of an embedded block")?);
        let mut payload = [0; EMBEDDED];
        let own = payload.get_mut(..compressed.len());
        own.ok_or_else(|| crate::error::Error::bug("an embedded block is too long"))?
            .copy_from_slice(compressed);
        let mut pointer = EmbeddedBlockPointer {
            blk_prop: (logical - 1)
                | (length - 1) << 25
                | u64::from(compression) << 32
                | FLAG_EMBEDDED
                | about.property(),
            blk_birth: about.birth,
            ..EmbeddedBlockPointer::BLANK
        };
        pointer.payload_0.copy_from_slice(&payload[..48]);
        pointer.payload_48.copy_from_slice(&payload[48..72]);
        pointer.payload_72.copy_from_slice(&payload[72..]);
        let logical = if about.is_metadata() { 0 } else { logical };
        let sums = Sums { logical, ..Sums::default() };
        Ok(Self { bytes: pointer.bytes(), sums, fill: 1 })
    }
}

/// Bytes of a block whose compressed form has `compressed` bytes; `None` where that is to be stored as it is, because it
/// saves less than an eighth (module/zfs/zio.c, zio_write_compress; zio_compress.c).
pub(super) fn physical(compressed: usize, logical: u64, ashift: u8) -> Option<u64> {
    let physical = u64_of(compressed).next_multiple_of(1 << ashift);
    (physical < logical && physical <= logical - (logical >> 3)).then_some(physical)
}

/// The labels of segments name what a block is.
pub(super) fn label(owner: &str, about: About) -> String {
    match about.level {
        0 => format!("zfs: {owner}: {}", format::kind::name(about.kind)),
        level => {
            format!("zfs: {owner}: {}, indirect blocks of level {level}", format::kind::name(about.kind))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(pointer: &Pointer, number: usize) -> u64 {
        u64::from_le_bytes(pointer.bytes[8 * number..][..8].try_into().unwrap())
    }

    #[test]
    fn a_pointer_has_its_words_where_spa_h_has_them() {
        let about = About { kind: kind::DNODE, level: 1, fill: 77, birth: 4 };
        let stored =
            Stored { logical: 131_072, physical: 4096, compression: 15, checksum: 7, sum: [1, 2, 3, 4] };
        let places = [Run { start: 8192, length: 4096 }, Run { start: 1 << 40, length: 4096 }];
        let pointer = Pointer::new(about, &stored, &places).unwrap();
        let words: Vec<u64> = (0..16).map(|number| word(&pointer, number)).collect();
        let property = 255 | 7 << 16 | 15 << 32 | 7 << 40 | 10 << 48 | 1 << 56 | 1 << 63;
        assert_eq!(words, [8, 16, 8, 1 << 31, 0, 0, property, 0, 0, 0, 4, 77, 1, 2, 3, 4]);
        assert_eq!(pointer.sums, Sums { allocated: 8192, physical: 4096, logical: 4096 });
        let file = Pointer::new(About::contents(kind::FILE, 4), &stored, &places[..1]).unwrap();
        assert_eq!(file.sums, Sums { allocated: 4096, physical: 4096, logical: 131_072 });
        assert!(Pointer::new(about, &Stored { logical: 1 << 26, ..stored }, &places).is_err());
    }

    #[test]
    fn an_embedded_block_flows_around_the_properties() {
        let bytes: Vec<u8> = (1..=112).collect();
        let pointer = Pointer::embedded(About::contents(kind::FILE, 4), 512, 15, &bytes).unwrap();
        assert_eq!(word(&pointer, 6), 511 | 111 << 25 | 15 << 32 | 1 << 39 | 19 << 48 | 1 << 63);
        assert_eq!(word(&pointer, 10), 4);
        let payload = [&pointer.bytes[..48], &pointer.bytes[56..80], &pointer.bytes[88..]].concat();
        assert_eq!(payload, bytes);
        assert_eq!(pointer.sums, Sums { logical: 512, ..Sums::default() });
        assert!(Pointer::embedded(About::contents(kind::FILE, 4), 512, 15, &[1; 113]).is_err());
    }

    #[test]
    fn what_saves_less_than_an_eighth_stays_as_it_is() {
        assert_eq!(physical(100, 512, 9), None);
        assert_eq!(physical(512, 1024, 9), Some(512));
        assert_eq!(physical(4097, 131_072, 12), Some(8192));
        assert_eq!(physical(114_688, 131_072, 12), Some(114_688));
        assert_eq!(physical(114_689, 131_072, 12), None);
    }
}
