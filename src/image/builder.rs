//! Collects segments into an image.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::digest::Observed;
use super::tables::{self, Bases, Block, Tables};
use super::{Data, Digest, Files, Image, Inner, Render, Segment, Slice};
use crate::error::{Error, Kind, Result};
use crate::units::{Bytes, u64_of};

/// Collects segments in any order; [`Builder::finish`] sorts them and refuses an overlap.
#[derive(Debug)]
pub struct Builder {
    length: Bytes,
    segments: Vec<Segment>,
    tables: Tables,
    adopted: Adopted,
    observed: Vec<Observed>,
    /// The first fault of a call that returns no error.
    fault: Option<Error>,
}

/// A renderer of a [`Builder`].
#[derive(Clone, Copy, Debug)]
pub struct RendererId(u32);

/// A table of files of a [`Builder`].
#[derive(Clone, Copy, Debug)]
pub struct FilesId(u32);

/// The images whose tables were taken over, by their address in memory. A weak pointer keeps an address from
/// being used for another image, but does not keep the segments in memory.
#[derive(Debug, Default)]
struct Adopted {
    images: HashMap<usize, (Weak<Inner>, Bases)>,
    /// The image that was put last: a container puts hundreds of thousands of slices of one image.
    last: Option<(usize, Bases)>,
}

impl Builder {
    /// An image of `length` bytes, all hole.
    #[must_use]
    pub fn new(length: Bytes) -> Self {
        Self {
            length,
            segments: Vec::new(),
            tables: Tables::default(),
            adopted: Adopted::default(),
            observed: Vec::new(),
            fault: None,
        }
    }

    /// Makes space for `count` more segments.
    pub fn reserve(&mut self, count: usize) {
        self.segments.reserve(count);
    }

    /// Puts ready bytes at `offset`; empty bytes make no segment. To put the same bytes in several places,
    /// [put](Builder::put) a [`Slice::ready`] several times.
    pub fn bytes(&mut self, offset: Bytes, label: impl Into<Cow<'static, str>>, bytes: impl Into<Arc<[u8]>>) {
        let bytes = bytes.into();
        if bytes.is_empty() {
            return;
        }
        let length = Bytes::new(u64_of(bytes.len()));
        let block = tables::add(&mut self.tables.blocks, Arc::new(Block { label: label.into(), bytes }));
        let block = self.number(block);
        self.push(Segment { offset, length, data: Data::Bytes { block, skip: 0 } });
    }

    /// Adds a renderer.
    pub fn renderer(&mut self, renderer: Arc<dyn Render>) -> RendererId {
        let id = tables::add(&mut self.tables.renderers, renderer);
        RendererId(self.number(id))
    }

    /// Puts `length` bytes of a renderer's part at `offset`.
    pub fn rendered(&mut self, offset: Bytes, length: Bytes, renderer: RendererId, part: u32) {
        self.rendered_from(offset, length, renderer, part, 0);
    }

    /// Puts `length` bytes of a renderer's part at `offset`, starting `skip` bytes into the part.
    pub fn rendered_from(
        &mut self,
        offset: Bytes,
        length: Bytes,
        renderer: RendererId,
        part: u32,
        skip: u64,
    ) {
        self.push(Segment { offset, length, data: Data::Rendered { renderer: renderer.0, part, skip } });
    }

    /// Adds a table of host files.
    pub fn files(&mut self, files: Arc<dyn Files>) -> FilesId {
        let id = tables::add(&mut self.tables.files, files);
        FilesId(self.number(id))
    }

    /// Puts `length` bytes of a host file at `offset`, starting `skip` bytes into the file.
    pub fn file(&mut self, offset: Bytes, length: Bytes, files: FilesId, file: u32, skip: u64) {
        self.push(Segment { offset, length, data: Data::File { files: files.0, file, skip } });
    }

    /// Puts `slice` at `offset`: a filesystem into its partition, a cluster of a disk into a container. Its
    /// holes stay holes. The tables of its image are taken over once, however many slices of that image are
    /// put.
    pub fn put(&mut self, offset: Bytes, slice: &Slice) {
        let bases = match self.adopt(slice.image()) {
            Ok(bases) => bases,
            Err(error) => {
                self.fault.get_or_insert(error);
                return;
            }
        };
        for segment in slice.segments() {
            let data = bases.moved(segment.data);
            self.push(Segment { offset: offset + segment.offset, data, ..segment });
        }
        self.observed.extend(slice.observed_at(offset));
    }

    /// Lets `digest` observe the bytes of `start..end`. It sees all of them before anything of the image is
    /// rendered, so a renderer may depend on it. Rendered bytes inside `start..end` must not depend on it. A
    /// part of the range that is put into another image stays observed.
    pub fn digested(&mut self, start: Bytes, end: Bytes, digest: Arc<dyn Digest>) {
        if start < end {
            self.observed.push(Observed::new(start, end, digest));
        }
    }

    /// Takes over the tables of `image`, unless they were taken over before.
    fn adopt(&mut self, image: &Image) -> Result<Bases> {
        let address = Arc::as_ptr(&image.0).addr();
        if let Some((last, bases)) = self.adopted.last
            && last == address
        {
            return Ok(bases);
        }
        let bases = match self.adopted.images.get(&address) {
            Some((_, bases)) => *bases,
            None => {
                let bases = self.tables.adopt(&image.0.tables)?;
                self.adopted.images.insert(address, (Arc::downgrade(&image.0), bases));
                bases
            }
        };
        self.adopted.last = Some((address, bases));
        Ok(bases)
    }

    /// The number of a new entry. If there is none, [`Builder::finish`] returns the error.
    fn number(&mut self, found: Result<u32>) -> u32 {
        found.unwrap_or_else(|error| {
            self.fault.get_or_insert(error);
            u32::MAX
        })
    }

    fn push(&mut self, segment: Segment) {
        if segment.length == Bytes::ZERO {
            return;
        }
        match self.segments.last_mut() {
            Some(last) if last.goes_on_in(&segment) => last.length += segment.length,
            _ => self.segments.push(segment),
        }
    }

    /// The image, if no two segments overlap and all lie inside it.
    ///
    /// # Errors
    /// [`Kind::Bug`] for an overlap, with both labels, and for a segment that ends outside, with its label:
    /// this check catches every wrong sum of a layout. Also [`Kind::Bug`] for more than 2^32 blocks of ready
    /// bytes, renderers or tables of files, for two digests that observe the same bytes, and for one that
    /// observes bytes outside. [`Kind::Capacity`] where the image is longer than [`Bytes::LIMIT`].
    pub fn finish(mut self) -> Result<Image> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if self.length > Bytes::LIMIT {
            return Err(Error::new(Kind::Capacity, "the image is larger than a file can be")
                .expected(format!("at most {} bytes", Bytes::LIMIT.get()))
                .found(format!("{} bytes", self.length.get())));
        }
        // Most modules push in order already, and sorting sorted input is one pass.
        self.segments.sort_by_key(|segment| segment.offset);
        self.segments.shrink_to_fit();
        for pair in self.segments.windows(2) {
            if let [a, b] = pair
                && a.end() > b.offset
            {
                return Err(Error::bug(format!(
                    "segments overlap: `{}` at {}+{} and `{}` at {}+{}",
                    self.tables.label(a),
                    a.offset.get(),
                    a.length.get(),
                    self.tables.label(b),
                    b.offset.get(),
                    b.length.get()
                )));
            }
        }
        if let Some(last) = self.segments.last()
            && last.end() > self.length
        {
            return Err(Error::bug(format!(
                "segment `{}` at {}+{} ends outside the image of {} bytes",
                self.tables.label(last),
                last.offset.get(),
                last.length.get(),
                self.length.get()
            )));
        }
        self.observed.sort_by_key(|observed| observed.start);
        let outside = self.observed.last().is_some_and(|last| last.end > self.length);
        if outside || !self.observed.is_sorted_by(|a, b| a.end <= b.start) {
            return Err(Error::bug("digests observe the same bytes twice, or bytes outside the image"));
        }
        Ok(Image(Arc::new(Inner::new(self.length, self.segments, self.tables, self.observed))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::HostFile;

    fn filled(byte: u8, length: usize) -> Image {
        let mut builder = Builder::new(Bytes::new(u64_of(length)));
        builder.bytes(Bytes::ZERO, "filled", vec![byte; length]);
        builder.finish().unwrap()
    }

    #[test]
    fn an_overlap_is_refused_with_both_labels() {
        let mut builder = Builder::new(Bytes::new(100));
        builder.bytes(Bytes::new(10), "one", vec![1; 10]);
        builder.bytes(Bytes::new(19), "two", vec![2; 10]);
        let error = builder.finish().unwrap_err();
        assert_eq!(error.kind(), Kind::Bug);
        assert!(error.what().contains("`one`") && error.what().contains("`two`"), "{error}");
    }

    #[test]
    fn touching_segments_are_fine_and_one_outside_is_not() {
        let mut builder = Builder::new(Bytes::new(20));
        builder.bytes(Bytes::new(10), "two", vec![2; 10]);
        builder.bytes(Bytes::new(0), "one", vec![1; 10]);
        assert_eq!(builder.finish().unwrap().segments().len(), 2);
        let mut builder = Builder::new(Bytes::new(19));
        builder.bytes(Bytes::new(10), "two", vec![2; 10]);
        assert!(builder.finish().unwrap_err().what().contains("outside"));
    }

    #[test]
    fn slices_of_any_images_keep_their_bytes_in_any_order() {
        let (a, b) = (filled(b'a', 9), filled(b'b', 9));
        let mut builder = Builder::new(Bytes::new(40));
        builder.bytes(Bytes::ZERO, "own", b"own".to_vec());
        for (at, image) in [(10, &a), (12, &b), (14, &a), (16, &b)] {
            builder.put(Bytes::new(at), &image.slice(Bytes::new(3), Bytes::new(5)));
        }
        // The next image may get the address of an image that is gone.
        for byte in b'c'..=b'h' {
            builder.put(Bytes::new(u64::from(byte - b'c') + 20), &filled(byte, 1).whole());
        }
        assert_eq!(builder.tables.blocks.len(), 1 + 2 + 6, "each image was taken over once");
        let image = builder.finish().unwrap();
        let mut out = [b'.'; 28];
        image.read(0, &mut out).unwrap();
        assert_eq!(&out, b"own\0\0\0\0\0\0\0aabbaabb\0\0cdefgh\0\0");
    }

    #[test]
    fn holes_of_a_slice_stay_holes() {
        let mut builder = Builder::new(Bytes::new(64));
        builder.bytes(Bytes::new(8), "letters", (b'a'..=b'z').collect::<Vec<u8>>());
        let image = builder.finish().unwrap();
        let mut moved = Builder::new(Bytes::new(70));
        moved.put(Bytes::new(1), &image.whole());
        let moved = moved.finish().unwrap();
        assert_eq!(moved.covered(), Bytes::new(26));
        let mut out = [0xd1; 4];
        moved.read(8, &mut out).unwrap();
        assert_eq!(&out, b"\0abc");
    }

    #[derive(Debug)]
    struct NoFiles;

    impl Files for NoFiles {
        fn file(&self, _: u32) -> Result<HostFile<'_>> {
            Err(Error::bug("no file is read here"))
        }
    }

    #[test]
    fn a_file_that_goes_on_is_one_segment() {
        let mut builder = Builder::new(Bytes::new(1000));
        let (one, two) = (builder.files(Arc::new(NoFiles)), builder.files(Arc::new(NoFiles)));
        let mut put = |at, files, file, skip| builder.file(Bytes::new(at), Bytes::new(10), files, file, skip);
        put(0, one, 0, 0);
        put(10, one, 0, 10);
        put(20, one, 0, 20);
        put(30, one, 0, 31); // Elsewhere in the file.
        put(41, one, 0, 41); // Behind a hole.
        put(51, one, 1, 51); // Another file.
        put(61, two, 1, 61); // Another table.
        put(71, two, 1, u64::MAX - 9);
        put(81, two, 1, 0); // No number is behind the largest.
        let image = builder.finish().unwrap();
        let lengths: Vec<u64> = image.segments().iter().map(|segment| segment.length.get()).collect();
        assert_eq!(lengths, [30, 10, 10, 10, 10, 10, 10]);
    }

    #[test]
    fn a_number_that_cannot_be_given_is_told_at_the_end() {
        let mut builder = Builder::new(Bytes::new(10));
        assert_eq!(builder.number(Err(Error::bug("full"))), u32::MAX);
        builder.bytes(Bytes::ZERO, "bytes", vec![1; 4]);
        assert_eq!(builder.finish().unwrap_err().what(), "full");
    }
}
