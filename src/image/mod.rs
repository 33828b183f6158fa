//! The one idea: an [`Image`] is a length plus sorted, non-overlapping, labelled segments. What no segment covers is
//! a hole and reads as zero.
//!
//! A segment is rendered bytes ([`Data::Bytes`]), bytes that a pure function renders when they are needed
//! ([`Data::Rendered`]), or a range of a host file ([`Data::File`]). File data is referenced until the pour, so an
//! image of a terabyte is as small in memory as its metadata.

pub mod dump;
pub(crate) mod read;

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::units::{Bytes, index, u64_of};

/// A pure function from a part number to bytes: a filesystem's inode tables, say, one part per block group.
///
/// Rendering the same part gives the same bytes, whenever and on whatever thread it happens.
pub trait Render: Send + Sync + fmt::Debug {
    /// Fills `out` with the bytes of `part` that begin `skip` bytes into it. `out` arrives zeroed.
    ///
    /// # Errors
    /// Only what the renderer could not know before, which for a filesystem is nothing.
    fn render(&self, part: u32, skip: u64, out: &mut [u8]) -> Result<()>;

    /// What the part is called in maps and errors.
    fn label(&self, part: u32) -> String;
}

/// The host files that an image refers to, by number.
pub trait Files: Send + Sync + fmt::Debug {
    /// Where file `id` lies and what it looked like when its place in the image was decided.
    fn file(&self, id: u32) -> HostFile<'_>;

    /// Its length in bytes, for whoever needs no path.
    fn size(&self, id: u32) -> u64 {
        self.file(id).size
    }

    /// The file itself, where it is open already and perhaps has no name; `None` where it is opened by its path.
    fn opened(&self, id: u32) -> Option<&File> {
        let _ = id;
        None
    }
}

/// A host file as it was when the image was laid out; checked again when it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFile<'a> {
    /// Path on the host.
    pub path: Cow<'a, Path>,
    /// Length in bytes.
    pub size: u64,
    /// Time of last change, as [`stamp`](crate::host::stamp) folds it; `None` where it is not checked.
    pub stamp: Option<u64>,
}

/// Where the bytes of a segment come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Ready bytes.
    Bytes {
        /// Which block of ready bytes of this image.
        block: u32,
        /// Where in it the segment begins.
        skip: u64,
    },
    /// Bytes rendered when they are needed.
    Rendered {
        /// Which renderer of this image.
        renderer: u32,
        /// Which part of it.
        part: u32,
        /// Where in the part the segment begins.
        skip: u64,
    },
    /// A range of a host file.
    File {
        /// Which table of files of this image.
        files: u32,
        /// Which file in it.
        file: u32,
        /// Where in the file the segment begins.
        skip: u64,
    },
}

/// A run of bytes of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins, from the start of the image.
    pub offset: Bytes,
    /// How long it is; never zero in an image.
    pub length: Bytes,
    /// Where its bytes come from.
    pub data: Data,
}

impl Segment {
    /// Where it ends, exclusive.
    #[must_use]
    pub fn end(&self) -> Bytes {
        self.offset + self.length
    }

    /// The part of this segment that lies inside `start..end`, or `None`.
    #[must_use]
    pub fn clip(&self, start: Bytes, end: Bytes) -> Option<Self> {
        let from = self.offset.max(start);
        let to = self.end().min(end);
        let length = to.checked_sub(from).filter(|length| *length > Bytes::ZERO)?;
        let cut = from.get() - self.offset.get();
        let mut data = self.data;
        match &mut data {
            Data::Bytes { skip, .. } | Data::Rendered { skip, .. } | Data::File { skip, .. } => *skip += cut,
        }
        Some(Self { offset: from, length, data })
    }
}

/// Ready bytes with the name they have in maps and errors.
#[derive(Debug)]
struct Block {
    label: Cow<'static, str>,
    bytes: Vec<u8>,
}

/// What segments refer to by number.
#[derive(Clone, Debug, Default)]
struct Tables {
    blocks: Vec<Arc<Block>>,
    renderers: Vec<Arc<dyn Render>>,
    files: Vec<Arc<dyn Files>>,
}

/// A length plus sorted, non-overlapping, labelled segments.
///
/// ```
/// use diskwright::image::Builder;
/// use diskwright::units::Bytes;
///
/// let mut builder = Builder::new(Bytes::new(4096));
/// builder.bytes(Bytes::new(512), "greeting", b"hello".to_vec());
/// let image = builder.finish()?;
/// let mut out = [0xd1; 8];
/// image.read(510, &mut out)?;
/// assert_eq!(&out, b"\0\0hello\0");
/// # Ok::<(), diskwright::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Image {
    length: Bytes,
    segments: Vec<Segment>,
    tables: Tables,
}

impl Image {
    /// Its length.
    #[must_use]
    pub const fn length(&self) -> Bytes {
        self.length
    }

    /// Its segments, by offset.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// How many bytes segments cover; the rest is holes.
    #[must_use]
    pub fn covered(&self) -> Bytes {
        self.segments.iter().map(|segment| segment.length).sum()
    }

    /// Bytes of host files and how many files, for a progress that counts them.
    #[must_use]
    pub fn file_data(&self) -> (u64, u64) {
        let mut sum = (0, 0);
        for segment in &self.segments {
            if let Data::File { skip, .. } = segment.data {
                sum.0 += segment.length.get();
                sum.1 += u64::from(skip == 0);
            }
        }
        sum
    }

    /// What a segment is called in maps and errors.
    #[must_use]
    pub fn label(&self, segment: &Segment) -> String {
        self.tables.label(segment)
    }

    /// The host file behind a segment, if it is one.
    #[must_use]
    pub fn host_file(&self, segment: &Segment) -> Option<HostFile<'_>> {
        match segment.data {
            Data::File { files, file, .. } => {
                self.tables.files.get(index(files)).map(|table| table.file(file))
            }
            _ => None,
        }
    }

    /// The length of the host file behind a segment, if it is one: cheaper than all of [`Image::host_file`].
    #[must_use]
    pub fn host_file_size(&self, segment: &Segment) -> Option<u64> {
        match segment.data {
            Data::File { files, file, .. } => {
                self.tables.files.get(index(files)).map(|table| table.size(file))
            }
            _ => None,
        }
    }

    /// Whether table `files` of this image is `table` itself, and not one that looks like it.
    #[must_use]
    pub fn is_table<T: Files>(&self, files: u32, table: &Arc<T>) -> bool {
        let own = self.tables.files.get(index(files));
        own.is_some_and(|own| std::ptr::addr_eq(Arc::as_ptr(own), Arc::as_ptr(table)))
    }

    /// The segments that touch `start..end`, clipped to it.
    pub fn clipped(&self, start: Bytes, end: Bytes) -> impl Iterator<Item = Segment> + '_ {
        let first = self.segments.partition_point(|segment| segment.end() <= start);
        self.segments[first..]
            .iter()
            .take_while(move |segment| segment.offset < end)
            .filter_map(move |segment| segment.clip(start, end))
    }
}

impl Tables {
    fn label(&self, segment: &Segment) -> String {
        match segment.data {
            Data::Bytes { block, .. } => {
                self.blocks.get(index(block)).map_or(String::new(), |block| block.label.to_string())
            }
            Data::Rendered { renderer, part, .. } => {
                self.renderers.get(index(renderer)).map_or(String::new(), |renderer| renderer.label(part))
            }
            Data::File { files, file, .. } => self
                .files
                .get(index(files))
                .map_or(String::new(), |files| crate::text::printable_path(&files.file(file).path)),
        }
    }
}

/// Collects segments in any order; [`Builder::finish`] sorts them and refuses an overlap.
#[derive(Debug)]
pub struct Builder {
    length: Bytes,
    segments: Vec<Segment>,
    tables: Tables,
}

/// Which renderer of a [`Builder`] a part belongs to.
#[derive(Clone, Copy, Debug)]
pub struct RendererId(u32);

/// Which table of files of a [`Builder`] a file belongs to.
#[derive(Clone, Copy, Debug)]
pub struct FilesId(u32);

/// The number the next entry of a table gets. Tables have as many entries as an image has rooms that filled it.
fn next_id<T>(table: &[T]) -> u32 {
    u32::try_from(table.len()).unwrap_or(u32::MAX)
}

impl Builder {
    /// An image of `length` bytes, all hole.
    #[must_use]
    pub fn new(length: Bytes) -> Self {
        Self { length, segments: Vec::new(), tables: Tables::default() }
    }

    /// Makes room for `count` more segments.
    pub fn reserve(&mut self, count: usize) {
        self.segments.reserve(count);
    }

    /// Puts ready bytes at `offset`. No bytes, no segment.
    pub fn bytes(&mut self, offset: Bytes, label: impl Into<Cow<'static, str>>, bytes: Vec<u8>) {
        let id = self.block(label, bytes);
        self.block_at(offset, id);
    }

    /// Adds ready bytes without a place; [`Builder::block_at`] puts them, as often as needed (backup copies).
    pub fn block(&mut self, label: impl Into<Cow<'static, str>>, bytes: Vec<u8>) -> u32 {
        let id = next_id(&self.tables.blocks);
        self.tables.blocks.push(Arc::new(Block { label: label.into(), bytes }));
        id
    }

    /// Puts the ready bytes `block` at `offset`.
    pub fn block_at(&mut self, offset: Bytes, block: u32) {
        let length = self.tables.blocks.get(index(block)).map_or(0, |block| u64_of(block.bytes.len()));
        self.push(Segment { offset, length: Bytes::new(length), data: Data::Bytes { block, skip: 0 } });
    }

    /// Adds a renderer.
    pub fn renderer(&mut self, renderer: Arc<dyn Render>) -> RendererId {
        let id = next_id(&self.tables.renderers);
        self.tables.renderers.push(renderer);
        RendererId(id)
    }

    /// Puts `length` bytes of a renderer's part at `offset`.
    pub fn rendered(&mut self, offset: Bytes, length: Bytes, renderer: RendererId, part: u32) {
        self.rendered_from(offset, length, renderer, part, 0);
    }

    /// Puts `length` bytes of a renderer's part, from `skip`, at `offset`.
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
        let id = next_id(&self.tables.files);
        self.tables.files.push(files);
        FilesId(id)
    }

    /// Puts `length` bytes of a host file, from `skip`, at `offset`.
    pub fn file(&mut self, offset: Bytes, length: Bytes, files: FilesId, file: u32, skip: u64) {
        self.push(Segment { offset, length, data: Data::File { files: files.0, file, skip } });
    }

    /// Puts a whole image at `offset`: a filesystem into its partition.
    pub fn splice(&mut self, offset: Bytes, image: Image) {
        let (blocks, renderers, tables) =
            (next_id(&self.tables.blocks), next_id(&self.tables.renderers), next_id(&self.tables.files));
        self.tables.blocks.extend(image.tables.blocks);
        self.tables.renderers.extend(image.tables.renderers);
        self.tables.files.extend(image.tables.files);
        self.segments.reserve(image.segments.len());
        for mut segment in image.segments {
            segment.offset += offset;
            match &mut segment.data {
                Data::Bytes { block, .. } => *block += blocks,
                Data::Rendered { renderer, .. } => *renderer += renderers,
                Data::File { files, .. } => *files += tables,
            }
            self.push(segment);
        }
    }

    /// Takes over what the segments of `image` refer to, and nothing else: for a container, which then puts pieces of
    /// those segments elsewhere with [`Builder::piece`]. Call it before anything else is added.
    #[must_use]
    pub fn over(image: &Image, length: Bytes) -> Self {
        Self { length, segments: Vec::new(), tables: image.tables.clone() }
    }

    /// Puts a piece of the image given to [`Builder::over`], as [`Image::clipped`] returns it, at `offset`.
    pub fn piece(&mut self, offset: Bytes, piece: Segment) {
        self.push(Segment { offset, ..piece });
    }

    fn push(&mut self, segment: Segment) {
        if segment.length > Bytes::ZERO {
            self.segments.push(segment);
        }
    }

    /// The image, once no two segments overlap and all lie inside it.
    ///
    /// # Errors
    /// [`Kind::Bug`] with both labels for an overlap, or the label of the segment that ends outside; this is the net
    /// under every layout sum. [`Kind::Capacity`] where the image is longer than [`Bytes::LIMIT`].
    pub fn finish(mut self) -> Result<Image> {
        if self.length > Bytes::LIMIT {
            return Err(Error::new(Kind::Capacity, "the image is larger than a file can be")
                .expected(format!("at most {} bytes", Bytes::LIMIT.get()))
                .found(format!("{} bytes", self.length.get())));
        }
        // Most rooms push in order already, and sorting sorted input is one pass.
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
        Ok(Image { length: self.length, segments: self.segments, tables: self.tables })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn pieces_keep_their_bytes() {
        let mut builder = Builder::new(Bytes::new(64));
        builder.bytes(Bytes::new(8), "letters", (b'a'..=b'z').collect());
        let image = builder.finish().unwrap();
        let mut moved = Builder::over(&image, Bytes::new(32));
        for piece in image.clipped(Bytes::new(10), Bytes::new(20)) {
            moved.piece(Bytes::new(1), piece);
        }
        let mut out = [0xd1; 12];
        moved.finish().unwrap().read(0, &mut out).unwrap();
        assert_eq!(&out, b"\0cdefghijkl\0");
    }
}
