//! Bits in the order of deflate (RFC 1951 section 3.1.1): the first one is the least significant bit of the
//! first byte.

use crate::units::usize_of;

/// Writes bits into a buffer of fixed length. Bits that do not fit are counted and dropped.
#[derive(Debug)]
pub(super) struct Bits<'a> {
    out: &'a mut [u8],
    at: usize,
    waiting: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    pub(super) const fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: 0, waiting: 0, count: 0 }
    }

    /// Appends the low `length` bits of `bits`; the other bits must be zero. At most 56 bits may be appended
    /// between two calls of [`Bits::flush`].
    #[inline]
    pub(super) const fn put(&mut self, bits: u64, length: u32) {
        self.waiting |= bits << self.count;
        self.count += length;
    }

    /// Writes all whole bytes, so that fewer than 8 bits wait.
    #[inline]
    pub(super) fn flush(&mut self) {
        let bytes = self.waiting.to_le_bytes();
        // Writes eight bytes at once. The next call overwrites those that are not complete.
        match self.out.get_mut(self.at..).and_then(<[u8]>::first_chunk_mut) {
            Some(place) => *place = bytes,
            None => self.flush_at_end(bytes),
        }
        self.at += usize_of(u64::from(self.count / 8));
        // At most 56, since fewer than 64 bits wait.
        self.waiting >>= self.count & !7;
        self.count &= 7;
    }

    #[cold]
    fn flush_at_end(&mut self, bytes: [u8; 8]) {
        for (place, byte) in self.out.iter_mut().skip(self.at).zip(bytes) {
            *place = byte;
        }
    }

    /// How many bits wait; fewer than 64.
    #[inline]
    pub(super) const fn waiting(&self) -> u32 {
        self.count
    }

    /// Continues at the next byte.
    pub(super) fn align(&mut self) {
        self.flush();
        self.count = self.count.next_multiple_of(8);
        self.flush();
    }

    /// Appends bytes; only after [`Bits::align`].
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        if let Some(place) = self.out.get_mut(self.at..self.at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self.at += bytes.len();
    }

    /// The number of bytes of the result, including those that did not fit.
    pub(super) fn end(mut self) -> usize {
        self.align();
        self.at
    }
}
