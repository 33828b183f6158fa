//! The central type: an [`Image`] is a length plus sorted, non-overlapping, labelled segments. What no
//! segment covers is a hole and reads as zero.
//!
//! A segment is ready bytes ([`Data::Bytes`]), bytes that a pure function renders when they are needed
//! ([`Data::Rendered`]), or a range of a host file ([`Data::File`]). File data is only referenced until the
//! pour, so an image of a terabyte takes no more memory than its metadata.

mod builder;
mod cursor;
mod digest;
pub mod dump;
mod patch;
mod records;
mod slice;
mod tables;

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::error::Result;
use crate::units::Bytes;

pub use builder::{Builder, FilesId, RendererId};
pub(crate) use cursor::AtRest;
pub use cursor::Cursor;
pub use digest::Digest;
use digest::Observed;
pub(crate) use digest::{Grain, Pending, Place};
pub(crate) use patch::Patch;
pub(crate) use records::records;
pub use slice::Slice;
use tables::Tables;

/// A pure function from a part number to bytes: for example a filesystem's inode tables, one part per block
/// group.
///
/// The same part always gives the same bytes, at any time and on any thread.
pub trait Render: Send + Sync + fmt::Debug {
    /// Fills `out` with the bytes of `part` from byte `skip` on. `out` is zeroed before.
    ///
    /// # Errors
    /// Only errors that could not be known at layout time; a filesystem has none.
    fn render(&self, part: u32, skip: u64, out: &mut [u8]) -> Result<()>;

    /// What the part is called in maps and errors.
    fn label(&self, part: u32) -> String;
}

/// The host files that an image refers to, by number.
pub trait Files: Send + Sync + fmt::Debug {
    /// Where file `id` is, and its state when its place in the image was decided.
    ///
    /// # Errors
    /// [`Kind::Bug`](crate::error::Kind::Bug) where there is no file of this number.
    fn file(&self, id: u32) -> Result<HostFile<'_>>;

    /// Its length in bytes: cheaper than [`Files::file`] if no path is needed.
    ///
    /// # Errors
    /// As [`Files::file`].
    fn size(&self, id: u32) -> Result<u64> {
        Ok(self.file(id)?.size)
    }

    /// The bytes of the file, if they are in memory already.
    ///
    /// # Errors
    /// As [`Files::file`].
    fn held(&self, id: u32) -> Result<Option<&[u8]>> {
        let _ = id;
        Ok(None)
    }

    /// The file by its name in a directory, if several files share the directory, so that it is opened once.
    /// `None` if the file is opened by its path.
    ///
    /// # Errors
    /// As [`Files::file`].
    fn named(&self, id: u32) -> Result<Option<NamedFile<'_>>> {
        let _ = id;
        Ok(None)
    }

    /// The file itself, if it is open already; it may have no name. `None` if the file is opened by its path.
    fn opened(&self, id: u32) -> Option<&File> {
        let _ = id;
        None
    }
}

/// A host file in its state when the image was laid out. Each read checks that state again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFile<'a> {
    /// Path on the host.
    pub path: Cow<'a, Path>,
    /// Length in bytes.
    pub size: u64,
    /// Modification time, as [`stamp`](crate::host::stamp) folds it; `None` if it is not checked.
    pub stamp: Option<u64>,
}

/// A [`HostFile`] as a name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedFile<'a> {
    /// Path of the directory.
    pub folder: &'a Path,
    /// Name in it.
    pub name: &'a OsStr,
    /// As [`HostFile::size`].
    pub size: u64,
    /// As [`HostFile::stamp`].
    pub stamp: Option<u64>,
}

impl HostFile<'_> {
    /// The same, with a path of its own.
    #[must_use]
    pub fn into_owned(self) -> HostFile<'static> {
        HostFile { path: Cow::Owned(self.path.into_owned()), size: self.size, stamp: self.stamp }
    }
}

/// Where the bytes of a segment come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Ready bytes.
    Bytes {
        /// The number of the block of ready bytes of this image.
        block: u32,
        /// Where the segment begins in the block.
        skip: u64,
    },
    /// Bytes rendered when they are needed.
    Rendered {
        /// The number of the renderer of this image.
        renderer: u32,
        /// The number of its part.
        part: u32,
        /// Where in the part the segment begins.
        skip: u64,
    },
    /// A range of a host file.
    File {
        /// The number of the table of files of this image.
        files: u32,
        /// The number of the file in it.
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

    /// Whether `next` begins where this one ends, both in the image and in the same host file: for example
    /// chunks that were packed one after the other. As one segment they are copied, or shared with the host,
    /// in one piece.
    fn goes_on_in(&self, next: &Self) -> bool {
        match (self.data, next.data) {
            (
                Data::File { files, file, skip },
                Data::File { files: next_files, file: next_file, skip: next_skip },
            ) => {
                (files, file) == (next_files, next_file)
                    && self.end() == next.offset
                    && skip.checked_add(self.length.get()) == Some(next_skip)
            }
            _ => false,
        }
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

/// A length plus sorted, non-overlapping, labelled segments. It is a handle: a clone is the same image and
/// costs nothing.
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
///
/// // A slice knows its image, so it can be put anywhere.
/// let mut moved = Builder::new(Bytes::new(16));
/// moved.put(Bytes::new(1), &image.slice(Bytes::new(513), Bytes::new(516)));
/// moved.finish()?.read(0, &mut out)?;
/// assert_eq!(&out, b"\0ell\0\0\0\0");
/// # Ok::<(), diskwright::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Image(Arc<Inner>);

/// What all handles of an image share.
#[derive(Debug)]
struct Inner {
    length: Bytes,
    segments: Vec<Segment>,
    tables: Tables,
    /// Ranges that digests observe, ascending, without overlap.
    observed: Vec<Observed>,
    /// Whether all of them are known to be settled.
    settled: AtomicBool,
}

impl Inner {
    fn new(length: Bytes, segments: Vec<Segment>, tables: Tables, observed: Vec<Observed>) -> Self {
        Self { length, segments, tables, observed, settled: AtomicBool::new(false) }
    }
}

impl Image {
    /// Its length.
    #[must_use]
    pub fn length(&self) -> Bytes {
        self.0.length
    }

    /// Whether `other` is a handle of the same image.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Its segments, by offset.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.0.segments
    }

    /// How many bytes segments cover; the rest is holes.
    #[must_use]
    pub fn covered(&self) -> Bytes {
        self.segments().iter().map(|segment| segment.length).sum()
    }

    /// The bytes from `start` up to `end`. A range that leaves the image is cut at its end.
    #[must_use]
    pub fn slice(&self, start: Bytes, end: Bytes) -> Slice {
        Slice::of(self, start, end)
    }

    /// All of its bytes.
    #[must_use]
    pub fn whole(&self) -> Slice {
        self.slice(Bytes::ZERO, self.length())
    }

    /// A reader of the image that keeps host files open.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.whole().cursor()
    }

    /// Fills `out` with the bytes at `offset`. Holes and bytes past the end are zero. It opens host files
    /// anew each time; use a [`Cursor`] to read more than once.
    ///
    /// # Errors
    /// [`Kind::Source`](crate::error::Kind::Source) where a host file is gone, unreadable or changed.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.cursor().read(offset, out)
    }

    /// Bytes of host files and the number of files, for a progress that counts them.
    #[must_use]
    pub fn file_data(&self) -> (u64, u64) {
        let mut sum = (0, 0);
        for segment in self.segments() {
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
        self.0.tables.label(segment)
    }

    /// The host file behind a segment of this image, if there is one.
    ///
    /// # Errors
    /// [`Kind::Bug`](crate::error::Kind::Bug) where the segment belongs to another image and names a file
    /// that this one does not have.
    pub fn host_file(&self, segment: &Segment) -> Result<Option<HostFile<'_>>> {
        match segment.data {
            Data::File { files, file, .. } => self.0.tables.files(files)?.file(file).map(Some),
            _ => Ok(None),
        }
    }

    /// The length of the host file behind a segment, if there is one: cheaper than [`Image::host_file`].
    ///
    /// # Errors
    /// As [`Image::host_file`].
    pub fn host_file_size(&self, segment: &Segment) -> Result<Option<u64>> {
        match segment.data {
            Data::File { files, file, .. } => self.0.tables.files(files)?.size(file).map(Some),
            _ => Ok(None),
        }
    }

    /// Whether table `files` of this image is the same object as `table`.
    #[must_use]
    pub fn is_table<T: Files>(&self, files: u32, table: &Arc<T>) -> bool {
        let own = self.0.tables.files(files);
        own.is_ok_and(|own| std::ptr::addr_eq(Arc::as_ptr(own), Arc::as_ptr(table)))
    }

    /// The segments that touch `start..end`, clipped to it.
    pub fn clipped(&self, start: Bytes, end: Bytes) -> impl Iterator<Item = Segment> + '_ {
        let segments = self.segments();
        let first = segments.partition_point(|segment| segment.end() <= start);
        segments[first..]
            .iter()
            .take_while(move |segment| segment.offset < end)
            .filter_map(move |segment| segment.clip(start, end))
    }
}
