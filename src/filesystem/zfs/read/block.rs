//! Blocks: found by their pointers, compared with their checksums, decompressed. The last few are kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::checksum::{Checksum, Sum};
use super::super::compress::decode;
use super::super::format::{BlockPointer, EmbeddedBlockPointer, POINTER, SECTOR, START};
use super::super::pointer::{EMBEDDED, FLAG_EMBEDDED, FLAG_LITTLE_ENDIAN};
use crate::error::Result;
use crate::filesystem::device::{Device, damaged};
use crate::units::{low8, low16, u64_of, usize_of};
use crate::wire::Wire;

/// Bytes of the largest block (spa.h, SPA_MAXBLOCKSIZE).
const LARGEST: u64 = 16 << 20;
/// Bytes of blocks that are kept, beside the last one, and how many.
const KEPT: usize = 4 << 20;
const MOST_KEPT: usize = 64;
/// The uppermost bit of a place: the block is scattered (spa.h, DVA_GET_GANG).
const GANG: u64 = 1 << 63;
/// The bits of a pointer's properties that say that it is encrypted or has an authentication code in place of a checksum
/// (spa.h, BP_USES_CRYPT).
const CRYPT: u64 = 1 << 61;

/// A copy of a block: where it lies behind the first labels, and the bytes that are allocated for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) start: u64,
    pub(super) allocated: u64,
}

/// A pointer to a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pointer(BlockPointer);

impl Pointer {
    /// The pointer in the first 128 of `bytes`.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        Ok(Self(BlockPointer::read(bytes)?))
    }

    pub(super) const fn of(pointer: BlockPointer) -> Self {
        Self(pointer)
    }

    /// The bytes inside a pointer, which has no place then.
    pub(super) const fn is_embedded(&self) -> bool {
        self.0.blk_prop & FLAG_EMBEDDED != 0
    }

    /// Whether nothing was written (spa.h, BP_IS_HOLE). Some holes have a birth.
    pub(super) const fn is_hole(&self) -> bool {
        !self.is_embedded() && self.0.blk_dva[0] == 0 && self.0.blk_dva[1] == 0
    }

    pub(super) fn kind(&self) -> u8 {
        low8(self.0.blk_prop >> 48)
    }

    pub(super) fn level(&self) -> u8 {
        low8(self.0.blk_prop >> 56 & 0x1f)
    }

    /// The transaction group in which it was written.
    pub(super) const fn birth(&self) -> u64 {
        self.0.blk_birth
    }

    fn compression(&self) -> u8 {
        low8(self.0.blk_prop >> 32 & 0x7f)
    }

    fn checksum(&self) -> u8 {
        low8(self.0.blk_prop >> 40)
    }

    /// Bytes of the block for its readers.
    pub(super) fn logical(&self) -> u64 {
        if self.is_embedded() {
            (self.0.blk_prop & 0x1ff_ffff) + 1
        } else {
            (u64::from(low16(self.0.blk_prop)) + 1) * SECTOR
        }
    }

    /// Bytes of it as it is stored.
    pub(super) fn physical(&self) -> u64 {
        if self.is_embedded() {
            (self.0.blk_prop >> 25 & 0x7f) + 1
        } else {
            (u64::from(low16(self.0.blk_prop >> 16)) + 1) * SECTOR
        }
    }

    /// Its copies; none of an embedded one.
    pub(super) fn copies(&self) -> impl Iterator<Item = Copy> + '_ {
        let words = if self.is_embedded() { &[][..] } else { &self.0.blk_dva[..] };
        words.chunks_exact(2).filter(|words| words[0] & 0xff_ffff != 0 || words[1] != 0).map(|words| Copy {
            start: (words[1] & !GANG).saturating_mul(SECTOR),
            allocated: (words[0] & 0xff_ffff) * SECTOR,
        })
    }

    /// Why a block that is perhaps in order is not read here.
    pub(super) fn unread(&self) -> Option<&'static str> {
        let words = if self.is_embedded() { &[][..] } else { &self.0.blk_dva[..] };
        if self.0.blk_prop & CRYPT != 0 {
            Some("it is encrypted")
        } else if self.0.blk_prop & FLAG_LITTLE_ENDIAN == 0 {
            Some("a big-endian machine wrote it")
        } else if words.chunks_exact(2).any(|words| words[1] & GANG != 0) {
            Some("it is scattered over several (a gang block)")
        } else if words.chunks_exact(2).any(|words| words[0] >> 32 != 0) {
            Some("it is on another vdev than the first")
        } else {
            None
        }
    }

    /// Refuses what is not read here.
    fn check(&self) -> Result<()> {
        if let Some(why) = self.unread() {
            return Err(damaged(format!("a block of a ZFS pool is not read here: {why}")));
        }
        if self.logical() > LARGEST || self.physical() > self.logical().max(u64_of(EMBEDDED)) {
            return Err(damaged("a block of a ZFS pool has a size that cannot be")
                .expected(format!("at most {LARGEST} bytes, and not more stored"))
                .found(format!("{} bytes, {} stored", self.logical(), self.physical())));
        }
        if self.is_embedded() && self.physical() > u64_of(EMBEDDED) {
            return Err(damaged("an embedded block is too long").found(self.physical()));
        }
        Ok(())
    }

    /// Where it is, for people.
    pub(super) fn shown(&self) -> String {
        match self.copies().next() {
            Some(copy) => format!("{} bytes at {}", self.physical(), copy.start.saturating_add(START)),
            None => "inside its pointer".to_owned(),
        }
    }

    /// A number that no two blocks of a pool have that are stored: the sector of the first copy.
    pub(super) fn place(&self) -> Option<u64> {
        self.copies().next().map(|copy| copy.start / SECTOR)
    }
}

/// Where blocks are read from.
#[derive(Debug)]
pub(super) struct Blocks {
    pub(super) device: Device,
    /// Whether checksums are compared. Tests of what comes after that leave it.
    verifies: bool,
    kept: Mutex<VecDeque<(BlockPointer, Arc<Vec<u8>>)>>,
    /// Changes blocks behind their checksums, as a hostile pool has them.
    #[cfg(test)]
    tamper: Option<u64>,
}

impl Blocks {
    pub(super) fn new(device: Device, verifies: bool) -> Self {
        Self {
            device,
            verifies,
            kept: Mutex::default(),
            #[cfg(test)]
            tamper: super::tests::TAMPER.get(),
        }
    }

    /// Bytes of the device.
    pub(super) fn length(&self) -> u64 {
        self.device.length()
    }

    /// The block of a pointer that is no hole.
    ///
    /// # Errors
    /// [`Kind::Format`](crate::error::Kind::Format) where no copy has its checksum, and for what is not read here.
    pub(super) fn read(&self, pointer: &Pointer) -> Result<Arc<Vec<u8>>> {
        pointer.check()?;
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = lock();
        if let Some(found) = kept.iter().rposition(|(own, _)| *own == pointer.0)
            && let Some(own) = kept.remove(found)
        {
            let bytes = Arc::clone(&own.1);
            kept.push_back(own);
            return Ok(bytes);
        }
        drop(kept);
        let bytes = Arc::new(self.whole(pointer)?);
        let mut kept = lock();
        let mut sum: usize = kept.iter().map(|(_, bytes)| bytes.len()).sum();
        while (sum > KEPT || kept.len() >= MOST_KEPT)
            && let Some((_, bytes)) = kept.pop_front()
        {
            sum -= bytes.len();
        }
        kept.push_back((pointer.0.clone(), Arc::clone(&bytes)));
        Ok(bytes)
    }

    /// A block that is not kept.
    fn whole(&self, pointer: &Pointer) -> Result<Vec<u8>> {
        let bytes = decoded(pointer, &self.stored(pointer)?)?;
        #[cfg(test)]
        let bytes = super::tests::tampered(self.tamper, pointer, bytes);
        Ok(bytes)
    }

    /// The stored bytes of the first copy that has its checksum.
    fn stored(&self, pointer: &Pointer) -> Result<Vec<u8>> {
        if pointer.is_embedded() {
            let own = EmbeddedBlockPointer::read(&pointer.0.bytes())?;
            let mut bytes = [&own.payload_0[..], &own.payload_48, &own.payload_72].concat();
            bytes.truncate(usize_of(pointer.physical()));
            return Ok(bytes);
        }
        let mut failed = None;
        for copy in pointer.copies() {
            match self.copy(pointer, copy) {
                Ok(bytes) => return Ok(bytes),
                Err(error) => failed = Some(failed.unwrap_or(error)),
            }
        }
        Err(failed.unwrap_or_else(|| damaged("a block has no place")))
    }

    /// The stored bytes of a copy, compared with the checksum.
    pub(super) fn copy(&self, pointer: &Pointer, copy: Copy) -> Result<Vec<u8>> {
        pointer.check()?;
        let bytes = self.device.bytes(copy.start.saturating_add(START), usize_of(pointer.physical()))?;
        let Some(checksum) = checksum(pointer.checksum())?.filter(|_| self.verifies) else {
            return Ok(bytes);
        };
        let sum: Sum = checksum.of(&bytes);
        if sum != pointer.0.blk_cksum {
            return Err(damaged("the checksum of a block is not that of its bytes")
                .expected(shown(&pointer.0.blk_cksum))
                .found(format!("{}, {}", shown(&sum), pointer.shown())));
        }
        Ok(bytes)
    }
}

fn shown(sum: &Sum) -> String {
    sum.iter().map(|word| format!("{word:x}")).collect::<Vec<_>>().join(":")
}

/// The checksum of a number; `None` for no checksum.
fn checksum(number: u8) -> Result<Option<Checksum>> {
    // zio.h, enum zio_checksum.
    let name = match number {
        2 => return Ok(None),
        7 => return Ok(Some(Checksum::Fletcher4)),
        8 => return Ok(Some(Checksum::Sha256)),
        6 => "fletcher2",
        11 => "sha512",
        12 => "skein",
        13 => "edonr",
        14 => "blake3",
        _ => return Err(damaged("a block has a checksum of no known kind").found(number)),
    };
    Err(damaged("a block has a checksum that is not read here").found(name))
}

/// A block as its readers see it.
pub(super) fn decoded(pointer: &Pointer, stored: &[u8]) -> Result<Vec<u8>> {
    let length = usize_of(pointer.logical());
    decode(pointer.compression(), stored, length).map_err(|why| {
        damaged(format!("a block of a ZFS pool cannot be decompressed: {why}")).found(pointer.shown())
    })
}

/// The pointers in an indirect block.
pub(super) fn pointers(bytes: &[u8]) -> impl Iterator<Item = Result<Pointer>> + '_ {
    bytes.chunks_exact(POINTER).map(Pointer::read)
}
