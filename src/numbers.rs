//! Numbers in the bytes of a format.

use crate::units::u64_of;

/// Big- and little-endian numbers of a header; bytes that are not there count as zero, so check the length first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers<'a>(pub(crate) &'a [u8]);

impl Numbers<'_> {
    fn array<const N: usize>(&self, offset: usize) -> [u8; N] {
        self.0.get(offset..offset + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
    }
    pub(crate) fn be32(&self, offset: usize) -> u32 {
        u32::from_be_bytes(self.array(offset))
    }
    pub(crate) fn be64(&self, offset: usize) -> u64 {
        u64::from_be_bytes(self.array(offset))
    }
    pub(crate) fn le16(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.array(offset))
    }
    pub(crate) fn le32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.array(offset))
    }
    pub(crate) fn le64(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.array(offset))
    }
    /// All big-endian 64-bit numbers.
    pub(crate) fn all_be64(&self) -> impl Iterator<Item = u64> + '_ {
        let count = self.0.len() / 8;
        (0..count).map(|number| self.be64(number * 8))
    }
    /// All little-endian 64-bit numbers.
    pub(crate) fn all_le64(&self) -> impl Iterator<Item = u64> + '_ {
        let count = self.0.len() / 8;
        (0..count).map(|number| self.le64(number * 8))
    }
    /// All big-endian 32-bit numbers.
    pub(crate) fn all_be32(&self) -> impl Iterator<Item = u32> + '_ {
        let count = self.0.len() / 4;
        (0..count).map(|number| self.be32(number * 4))
    }
    /// All little-endian 32-bit numbers.
    pub(crate) fn all_le32(&self) -> impl Iterator<Item = u32> + '_ {
        let count = self.0.len() / 4;
        (0..count).map(|number| self.le32(number * 4))
    }
    /// How many bytes there are.
    pub(crate) const fn length(&self) -> u64 {
        u64_of(self.0.len())
    }
}
