//! Numbers in the bytes of a format.

/// Little-endian numbers of a header. Missing bytes count as zero, so check the length first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers<'a>(pub(crate) &'a [u8]);

impl Numbers<'_> {
    fn array<const N: usize>(&self, offset: usize) -> [u8; N] {
        self.0.get(offset..offset + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
    }
    pub(crate) fn le16(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.array(offset))
    }
    pub(crate) fn le32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.array(offset))
    }
}
