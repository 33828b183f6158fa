//! A range of bytes of an image that knows its image.

use std::borrow::Cow;
use std::sync::Arc;

use super::tables::{Block, Tables};
use super::{Cursor, Data, Image, Inner, Segment};
use crate::error::Result;
use crate::units::{Bytes, u64_of};

/// A range of bytes of an [`Image`]: a partition of a disk, a file of a filesystem, a cluster of a container. It always
/// lies inside its image.
#[derive(Clone, Debug)]
pub struct Slice {
    image: Image,
    start: Bytes,
    end: Bytes,
}

impl Slice {
    /// The part of `start..end` that lies inside `image`.
    pub(super) fn of(image: &Image, start: Bytes, end: Bytes) -> Self {
        let end = end.min(image.length());
        Self { image: image.clone(), start: start.min(end), end }
    }

    /// Ready bytes that can be put several times, such as backup copies. `label` names them in maps and
    /// errors.
    #[must_use]
    pub fn ready(label: impl Into<Cow<'static, str>>, bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        let length = Bytes::new(u64_of(bytes.len()));
        let only = Segment { offset: Bytes::ZERO, length, data: Data::Bytes { block: 0, skip: 0 } };
        let segments = if length > Bytes::ZERO { vec![only] } else { Vec::new() };
        let blocks = vec![Arc::new(Block { label: label.into(), bytes })];
        let tables = Tables { blocks, ..Tables::default() };
        Image(Arc::new(Inner::new(length, segments, tables, Vec::new()))).whole()
    }

    /// The image that it belongs to.
    #[must_use]
    pub const fn image(&self) -> &Image {
        &self.image
    }

    /// Its first byte, from the start of the image.
    #[must_use]
    pub const fn start(&self) -> Bytes {
        self.start
    }

    /// One past its last byte, from the start of the image.
    #[must_use]
    pub const fn end(&self) -> Bytes {
        self.end
    }

    /// Its length.
    #[must_use]
    pub fn length(&self) -> Bytes {
        self.end.saturating_sub(self.start)
    }

    /// The bytes from `start` up to `end`, both counted from the start of this slice. A range that leaves the
    /// slice is cut at its end; [`Slice::get`] refuses it.
    #[must_use]
    pub fn sub(&self, start: Bytes, end: Bytes) -> Self {
        let end = (self.start + end).min(self.end);
        Self { image: self.image.clone(), start: (self.start + start).min(end), end }
    }

    /// As [`Slice::sub`], but `None` for a range that leaves the slice or ends before it begins. Use it for
    /// numbers that come out of the image itself.
    #[must_use]
    pub fn get(&self, start: Bytes, end: Bytes) -> Option<Self> {
        (start <= end && end <= self.length()).then(|| self.sub(start, end))
    }

    /// Its segments, clipped to it, with offsets from its start. Their numbers refer to tables of
    /// [`Slice::image`].
    pub fn segments(&self) -> impl Iterator<Item = Segment> + '_ {
        self.image
            .clipped(self.start, self.end)
            .map(|segment| Segment { offset: segment.offset.saturating_sub(self.start), ..segment })
    }

    /// A reader of the slice that keeps host files open.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor::new(self.clone(), true)
    }

    /// As [`Slice::cursor`], for reading what digests must see before they are settled.
    pub(crate) fn unsettled_cursor(&self) -> Cursor {
        Cursor::new(self.clone(), false)
    }

    /// Fills `out` with the bytes at `offset` of the slice. Holes and bytes past its end are zero. It opens
    /// host files anew each time; use a [`Cursor`] to read more than once.
    ///
    /// # Errors
    /// [`Kind::Source`](crate::error::Kind::Source) where a host file is gone, unreadable or changed.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.cursor().read(offset, out)
    }

    /// `length` bytes at `offset`, as [`Slice::read`] reads them.
    ///
    /// # Errors
    /// As [`Slice::read`].
    pub fn bytes(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.read(offset, &mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Builder;

    fn bytes(value: u64) -> Bytes {
        Bytes::new(value)
    }

    fn letters() -> Image {
        let mut builder = Builder::new(bytes(64));
        builder.bytes(bytes(8), "letters", (b'a'..=b'z').collect::<Vec<u8>>());
        builder.finish().unwrap()
    }

    #[test]
    fn a_slice_lies_inside_its_image_and_a_part_inside_its_slice() {
        let image = letters();
        for (start, end, there) in [(0, 64, (0, 64)), (60, 99, (60, 64)), (70, 99, (64, 64)), (9, 3, (3, 3))]
        {
            let slice = image.slice(bytes(start), bytes(end));
            assert_eq!((slice.start().get(), slice.end().get()), there);
            assert_eq!(slice.length().get(), there.1 - there.0);
        }
        let slice = image.slice(bytes(10), bytes(20));
        assert_eq!(slice.sub(bytes(2), Bytes::MAX).end(), bytes(20));
        assert_eq!(slice.sub(bytes(50), bytes(60)).length(), Bytes::ZERO);
        assert_eq!(slice.get(bytes(2), bytes(10)).unwrap().start(), bytes(12));
        for (start, end) in [(2, 11), (3, 2), (11, 11), (0, u64::MAX)] {
            assert!(slice.get(bytes(start), bytes(end)).is_none(), "{start}..{end}");
        }
    }

    #[test]
    fn a_slice_reads_from_its_start_and_zero_past_its_end() {
        let slice = letters().slice(bytes(6), bytes(12));
        let mut out = [0xd1; 8];
        slice.read(0, &mut out).unwrap();
        assert_eq!(&out, b"\0\0abcd\0\0");
        slice.sub(bytes(3), bytes(5)).read(1, &mut out).unwrap();
        assert_eq!(&out, b"c\0\0\0\0\0\0\0");
        let segments: Vec<(u64, u64)> =
            slice.segments().map(|it| (it.offset.get(), it.length.get())).collect();
        assert_eq!(segments, [(2, 4)]);
    }

    #[test]
    fn ready_bytes_are_a_slice_and_none_are_no_segment() {
        let slice = Slice::ready("footer", b"end".to_vec());
        assert_eq!(slice.length(), bytes(3));
        assert_eq!(slice.image().label(&slice.image().segments()[0]), "footer");
        assert!(Slice::ready("nothing", Vec::new()).image().segments().is_empty());
    }
}
