//! The data of regular files on its way into an image: a host file, a text, or a slice of another image. One
//! piece of code puts all of them, with their holes.

use std::path::Path;
use std::sync::Arc;

use super::build::{Builder, Origin, too_many};
use super::look::BLOCK;
use super::{Content, Meta, NodeId, Place, Range, Tree};
use crate::error::{Error, Result};
use crate::image::{self, FilesId, Slice};
use crate::units::Bytes;

/// The data of a regular file, to be put into one image in as many pieces as needed.
#[derive(Debug)]
pub struct FileData<'a> {
    from: From,
    size: Bytes,
    ranges: Option<&'a [Range]>,
}

/// Where the data comes from.
#[derive(Debug)]
enum From {
    /// A host file: the image's table of files, and the number in it.
    Host(FilesId, u32),
    /// A text, or a slice.
    Slice(Slice),
}

impl Builder {
    /// Puts a text file at `target`.
    ///
    /// # Errors
    /// As [`Builder::put`].
    pub fn text(
        &mut self,
        target: &[u8],
        bytes: impl Into<Arc<[u8]>>,
        meta: Meta,
        origin: Origin,
    ) -> Result<()> {
        let text = u32::try_from(self.texts.len()).map_err(|_| too_many())?;
        self.texts.push(bytes.into());
        self.place(target, meta, Content::Text { text }, origin).map(|_| ())
    }

    /// Puts a file at `target` whose bytes are `slice`. Holes of the slice become holes of the file if they
    /// are whole blocks of 4 KiB.
    ///
    /// # Errors
    /// As [`Builder::put`].
    pub fn slice(&mut self, target: &[u8], slice: Slice, meta: Meta, origin: Origin) -> Result<()> {
        let ranges = ranges(&slice);
        let content = self.slice_content(slice)?;
        let id = self.place(target, meta, content, origin)?;
        if let Some(ranges) = ranges {
            self.ranges.insert(id, ranges);
        }
        Ok(())
    }

    /// The content of a file whose bytes are `slice`.
    pub(super) fn slice_content(&mut self, slice: Slice) -> Result<Content> {
        let number = u32::try_from(self.slices.len()).map_err(|_| too_many())?;
        self.slices.push(slice);
        Ok(Content::Slice { slice: number })
    }

    /// Puts the regular host file `path` at `target` without examining it. The file is `size` bytes long, and
    /// must still have the time `stamp` ([`crate::host::stamp`]) when it is poured.
    ///
    /// # Errors
    /// As [`Builder::put`].
    pub fn file(
        &mut self,
        target: &[u8],
        path: &Path,
        (size, stamp): (u64, u64),
        meta: Meta,
        origin: Origin,
    ) -> Result<()> {
        let place = self.host_place(Place::File(path.to_owned()))?;
        self.place(target, meta, Content::File { place, size, stamp }, origin).map(|_| ())
    }
}

impl Tree {
    /// The data of a regular file. `files` is this tree as a table of files of the image that gets the data.
    ///
    /// # Errors
    /// [`Kind::Bug`](crate::error::Kind::Bug) where the node is not a regular file.
    pub fn data(&self, id: NodeId, files: FilesId) -> Result<FileData<'_>> {
        let id = self.source(id);
        let from = match self.node(id).content {
            Content::File { .. } => From::Host(files, id.get()),
            _ => From::Slice(self.slice_of(id)?),
        };
        Ok(FileData { from, size: Bytes::new(self.size(id)), ranges: self.ranges(id) })
    }

    /// The data of a text, or of a file that is a slice of an image.
    ///
    /// # Errors
    /// [`Kind::Bug`](crate::error::Kind::Bug) where the node is neither.
    pub fn slice_of(&self, id: NodeId) -> Result<Slice> {
        match self.node(self.source(id)).content {
            Content::Text { text } => {
                Ok(Slice::ready(format!("text {}", self.path(id)), Arc::clone(self.text(text))))
            }
            Content::Slice { slice } => Ok(self.slice(slice).clone()),
            _ => Err(Error::bug(format!("{} is neither a text nor a slice of an image", self.path(id)))),
        }
    }
}

impl FileData<'_> {
    /// Puts `length` bytes from byte `skip` of the file at `offset` of `image`. Holes of the file become
    /// holes of the image.
    ///
    /// # Errors
    /// [`Kind::Bug`](crate::error::Kind::Bug) where the file does not have these bytes.
    pub fn put(&self, image: &mut image::Builder, offset: Bytes, length: Bytes, skip: u64) -> Result<()> {
        let (start, end) = (Bytes::new(skip), Bytes::new(skip) + length);
        if end > self.size {
            return Err(Error::bug(format!(
                "bytes {skip} to {} of a file of {} bytes are put into an image",
                end.get(),
                self.size.get()
            )));
        }
        let Some(ranges) = self.ranges else { return self.put_data(image, offset, start, end) };
        let first = ranges.partition_point(|range| range.start + range.length <= skip);
        for range in ranges[first..].iter().take_while(|range| range.start < end.get()) {
            let from = start.max(Bytes::new(range.start));
            let to = end.min(Bytes::new(range.start + range.length));
            self.put_data(image, offset + from.saturating_sub(start), from, to)?;
        }
        Ok(())
    }

    fn put_data(&self, image: &mut image::Builder, offset: Bytes, from: Bytes, to: Bytes) -> Result<()> {
        match &self.from {
            From::Host(files, file) => {
                image.file(offset, to.saturating_sub(from), *files, *file, from.get());
            }
            From::Slice(slice) => {
                let part = slice.get(from, to);
                image.put(offset, &part.ok_or_else(|| Error::bug("a slice is shorter than its file"))?);
            }
        }
        Ok(())
    }
}

/// Where a slice has data, in whole blocks; `None` if it has no holes.
pub(super) fn ranges(slice: &Slice) -> Option<Vec<Range>> {
    let size = slice.length().get();
    let mut found: Vec<Range> = Vec::new();
    for segment in slice.segments() {
        let from = segment.offset.round_down(BLOCK).get();
        let to = segment.end().round_up(BLOCK).get().min(size);
        match found.last_mut() {
            Some(last) if last.start + last.length >= from => last.length = to - last.start,
            _ => found.push(Range { start: from, length: to - from }),
        }
    }
    let whole = matches!(found.as_slice(), [only] if only.start == 0 && only.length == size);
    (size > 0 && !whole).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::host::stamp;
    use crate::image::{Files, Image};
    use crate::tree::{self, Node, Time};
    use std::os::unix::fs::MetadataExt;

    /// 40,000 bytes with data in the second block and in the last two.
    fn sparse() -> Image {
        let mut builder = image::Builder::new(Bytes::new(40_000));
        builder.bytes(Bytes::new(4096), "start", vec![1; 10]);
        builder.bytes(Bytes::new(36_000), "end", vec![2; 4000]);
        builder.finish().unwrap()
    }

    fn whole(image: &Image) -> Vec<u8> {
        let mut bytes = vec![0xd1; crate::units::usize_of(image.length().get())];
        image.read(0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn data_of_every_kind_of_file_is_put_with_its_holes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, [3; 9000]).unwrap();
        let meta = std::fs::metadata(&path).unwrap();
        let seen = (9000, stamp(meta.mtime(), u32::try_from(meta.mtime_nsec()).unwrap()));
        let mut builder = tree::Builder::new(Time::default());
        let origin = builder.origin("test");
        let root = Meta::root(0o644, Time::default());
        builder.file(b"/a-file", &path, seen, root, origin).unwrap();
        builder.slice(b"/b-slice", sparse().whole(), root, origin).unwrap();
        builder.slice(b"/c-part", sparse().slice(Bytes::new(4090), Bytes::new(4100)), root, origin).unwrap();
        builder.text(b"/d-text", vec![4; 5000], root, origin).unwrap();
        builder.slice(b"/e-hole", sparse().slice(Bytes::new(8000), Bytes::new(8100)), root, origin).unwrap();
        let tree = Arc::new(builder.finish(1).unwrap());
        let sizes: Vec<u64> = tree.ids().map(|id| tree.size(id)).collect();
        assert_eq!(sizes, [0, 9000, 40_000, 10, 5000, 100]);
        let range = |start, length| Range { start, length };
        assert_eq!(
            tree.ranges(NodeId::new(2)).unwrap(),
            [range(4096, 4096), range(32_768, 40_000 - 32_768)],
            "holes are whole blocks"
        );
        assert_eq!(tree.ranges(NodeId::new(3)), None);
        assert_eq!(tree.ranges(NodeId::new(5)).unwrap(), []);

        // Each file in pieces of 1000 bytes, the last piece first, one file after the other.
        let mut image = image::Builder::new(Bytes::new(sizes.iter().sum()));
        let files = image.files(Arc::<Tree>::clone(&tree));
        let mut at = 0;
        for (id, size) in tree.ids().zip(&sizes).skip(1) {
            let data = tree.data(id, files).unwrap();
            for piece in (0..size.div_ceil(1000)).rev() {
                let skip = piece * 1000;
                let length = Bytes::new(1000.min(size - skip));
                data.put(&mut image, Bytes::new(at + skip), length, skip).unwrap();
            }
            let past = data.put(&mut image, Bytes::new(at), Bytes::new(1), *size).unwrap_err();
            assert_eq!(past.kind(), Kind::Bug);
            at += size;
        }
        let image = image.finish().unwrap();
        assert_eq!(image.covered().get(), 9000 + 4010 + 4 + 5000);
        let part = whole(&sparse())[4090..4100].to_vec();
        let expected = [vec![3; 9000], whole(&sparse()), part, vec![4; 5000], vec![0; 100]].concat();
        assert!(whole(&image) == expected);
    }

    #[test]
    fn content_of_another_tree_is_refused() {
        let mut builder = tree::Builder::new(Time::default());
        let (origin, meta) = (builder.origin("test"), Meta::root(0o644, Time::default()));
        for content in [
            Content::Text { text: 0 },
            Content::Slice { slice: 0 },
            Content::File { place: 0, size: 1, stamp: 0 },
            Content::Link { to: NodeId::ROOT },
            Content::Symlink { target: 0, length: 1 },
        ] {
            assert_eq!(builder.put(b"/x", meta, content, origin).unwrap_err().kind(), Kind::Bug);
        }
    }

    #[test]
    fn a_node_stays_small() {
        assert_eq!(size_of::<Node>(), 80, "memory grows by this for each of millions of names");
    }

    #[test]
    fn what_is_no_regular_file_has_no_data() {
        let tree = Arc::new(tree::Builder::new(Time::default()).finish(1).unwrap());
        let mut image = image::Builder::new(Bytes::ZERO);
        let files = image.files(Arc::<Tree>::clone(&tree));
        assert_eq!(tree.data(NodeId::ROOT, files).unwrap_err().kind(), Kind::Bug);
        assert_eq!(tree.slice_of(NodeId::ROOT).unwrap_err().kind(), Kind::Bug);
    }

    #[test]
    fn a_host_file_that_is_none_or_has_no_place_is_a_bug() {
        let mut builder = tree::Builder::new(Time::default());
        let origin = builder.origin("test");
        builder.file(b"/x", Path::new("/x"), (9, 0), Meta::root(0o644, Time::default()), origin).unwrap();
        let mut tree = builder.finish(1).unwrap();
        assert_eq!(Files::size(&tree, 1).unwrap(), 9);
        for id in [0, 2] {
            assert_eq!(tree.file(id).unwrap_err().kind(), Kind::Bug);
            assert_eq!(Files::size(&tree, id).unwrap_err().kind(), Kind::Bug);
        }
        tree.places.clear();
        assert_eq!(tree.file(1).unwrap_err().kind(), Kind::Bug);
    }

    #[test]
    fn a_slice_that_is_shorter_than_its_file_is_a_bug() {
        let from = From::Slice(Slice::ready("short", vec![1; 9]));
        let data = FileData { from, size: Bytes::new(10), ranges: None };
        let mut image = image::Builder::new(Bytes::new(10));
        assert_eq!(data.put(&mut image, Bytes::ZERO, Bytes::new(10), 0).unwrap_err().kind(), Kind::Bug);
    }
}
