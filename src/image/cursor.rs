//! Reads an image that was never written, at any offset: for the pour, for streams, for servers and hashes.

use super::{Data, Image, Segment, Slice};
use crate::error::{Error, Result};
use crate::host::{Folders, Source};
use crate::units::{Bytes, u64_of, usize_of};

/// How many host files a cursor keeps open. Reads in order need one, reads of a few places at a time need a
/// few. A process may have 1024 files open by default (getrlimit(2)), and each thread may have a cursor.
const OPEN: usize = 16;

/// A reader of a [`Slice`] that keeps the host files open that it used last. It borrows nothing, so a thread
/// can keep one as long as it likes.
///
/// It checks a file for change at each read. A file that changed gives an error from then on, however long it
/// was open.
#[derive(Debug)]
pub struct Cursor {
    slice: Slice,
    /// The number of the table and of the file in it, with the open file. The one used last is at the end.
    open: Vec<((u32, u32), Source<'static>)>,
    folders: Folders,
    /// Whether digests are settled before anything is rendered.
    settles: bool,
}

/// A part of a slice that lies in a file which nobody may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AtRest {
    /// Where it is in the slice.
    pub(crate) offset: u64,
    /// How long it is.
    pub(crate) length: u64,
    /// The table of its file.
    pub(crate) files: u32,
    /// The file in the table.
    pub(crate) file: u32,
    /// Where it is in the file.
    pub(crate) skip: u64,
}

impl Cursor {
    pub(super) const fn new(slice: Slice, settles: bool) -> Self {
        Self { slice, open: Vec::new(), folders: Folders::new(), settles }
    }

    /// What it reads.
    #[must_use]
    pub const fn slice(&self) -> &Slice {
        &self.slice
    }

    /// The image that it reads.
    #[must_use]
    pub const fn image(&self) -> &Image {
        self.slice.image()
    }

    /// Fills `out` with the bytes at `offset` of the slice. Holes and bytes past its end are zero.
    ///
    /// # Errors
    /// [`Kind::Source`](crate::error::Kind::Source) where a host file is gone, unreadable or changed.
    pub fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<()> {
        let start = self.slice.start() + Bytes::new(offset);
        let end = (start + Bytes::new(u64_of(out.len()))).min(self.slice.end());
        let image = self.image().clone();
        let mut done = 0;
        for piece in image.clipped(start, end) {
            let from = usize_of(piece.offset.get() - start.get());
            let to = from + usize_of(piece.length.get());
            out[done..from].fill(0);
            self.fill(&piece, &mut out[from..to])?;
            done = to;
        }
        out[done..].fill(0);
        Ok(())
    }

    /// Fills `out` with the bytes of `piece` of the cursor's image, and checks a host file for change. `out`
    /// is as long as `piece` and may contain anything.
    pub(crate) fn fill(&mut self, piece: &Segment, out: &mut [u8]) -> Result<()> {
        let tables = &self.slice.image().0.tables;
        match piece.data {
            Data::Bytes { block, skip } => {
                let from = usize_of(skip);
                let block = tables.block(block)?;
                let bytes = block.bytes.get(from..from.saturating_add(out.len()));
                out.copy_from_slice(
                    bytes.ok_or_else(|| Error::bug("a segment is longer than its ready bytes"))?,
                );
                Ok(())
            }
            Data::Rendered { renderer, part, skip } => {
                if self.settles && !self.image().is_settled() {
                    self.image().settle_alone()?;
                }
                let renderer = tables.renderer(renderer)?;
                out.fill(0);
                renderer.render(part, skip, out)
            }
            Data::File { files, file, skip } => {
                let table = tables.files(files)?;
                if let Some(held) = table.held(file)? {
                    let from = usize_of(skip);
                    let bytes = held.get(from..from.saturating_add(out.len()));
                    out.copy_from_slice(
                        bytes.ok_or_else(|| Error::bug("a segment is longer than its held file"))?,
                    );
                    return Ok(());
                }
                // A file that is read whole need not stay open.
                if let Some(named) = table.named(file)?
                    && (skip, named.size) == (0, u64_of(out.len()))
                    && self.folders.read(&named, out)
                {
                    return Ok(());
                }
                let source = self.source(files, file)?;
                source.read_exact(skip, out)?;
                source.verify()
            }
        }
    }

    /// The first part of at least `least` bytes, among `length` bytes at `offset` of the slice, that lies in a file which nobody may
    /// write: calls that send a file without a copy can have it.
    pub(crate) fn at_rest(&mut self, offset: u64, length: u64, least: u64) -> Option<AtRest> {
        let start = self.slice.start() + Bytes::new(offset);
        let end = (start + Bytes::new(length)).min(self.slice.end());
        let image = self.image().clone();
        let found = image.clipped(start, end).find_map(|piece| match piece.data {
            Data::File { files, file, skip } if piece.length.get() >= least => {
                let offset = offset + (piece.offset.get() - start.get());
                Some(AtRest { offset, length: piece.length.get(), files, file, skip })
            }
            _ => None,
        })?;
        // Whatever is wrong with it, a read will say so.
        let is_held = image.0.tables.files(found.files).ok()?.held(found.file).ok()?.is_some();
        let source = if is_held { None } else { self.source(found.files, found.file).ok() };
        source?.is_at_rest().then_some(found)
    }

    /// The open host file behind `files`, `file`.
    pub(crate) fn source(&mut self, files: u32, file: u32) -> Result<&Source<'static>> {
        let key = (files, file);
        let entry = match self.open.iter().rposition(|(open, _)| *open == key) {
            Some(at) => self.open.remove(at),
            None => {
                let table = self.slice.image().0.tables.files(files)?;
                if self.open.len() == OPEN {
                    self.open.remove(0);
                }
                let host = table.file(file)?.into_owned();
                let source = match table.opened(file) {
                    Some(open) => Source::over(open, host)?,
                    None => Source::open(host)?,
                };
                (key, source)
            }
        };
        Ok(&self.open.push_mut(entry).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::host::stamp;
    use crate::image::{Builder, Files, HostFile, Render};
    use std::borrow::Cow;
    use std::os::unix::fs::MetadataExt;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Files of one folder, named by their numbers. Counts how often a file is asked for, since that is when
    /// it is opened.
    #[derive(Debug)]
    struct Folder {
        path: PathBuf,
        opened: AtomicU32,
    }

    impl Files for Folder {
        fn file(&self, id: u32) -> Result<HostFile<'_>> {
            self.opened.fetch_add(1, Ordering::Relaxed);
            let path = self.path.join(id.to_string());
            let meta = std::fs::metadata(&path).map_err(|error| {
                Error::io(Kind::Source, "cannot look at a file of the test", &path, error)
            })?;
            let stamp = Some(stamp(meta.mtime(), u32::try_from(meta.mtime_nsec()).unwrap()));
            Ok(HostFile { path: Cow::Owned(path), size: meta.len(), stamp })
        }
    }

    /// An image of `count` files of four bytes, each its number, on every eighth byte.
    fn image(folder: &Path, count: u32) -> (Image, Arc<Folder>) {
        for number in 0..count {
            std::fs::write(folder.join(number.to_string()), number.to_le_bytes()).unwrap();
        }
        let table = Arc::new(Folder { path: folder.to_owned(), opened: AtomicU32::new(0) });
        let mut builder = Builder::new(Bytes::new(8 * u64::from(count)));
        let files = builder.files(Arc::<Folder>::clone(&table));
        for number in 0..count {
            builder.file(Bytes::new(8 * u64::from(number)), Bytes::new(4), files, number, 0);
        }
        (builder.finish().unwrap(), table)
    }

    fn number(cursor: &mut Cursor, at: u32) -> Result<u32> {
        let mut out = [0; 4];
        cursor.read(8 * u64::from(at), &mut out)?;
        Ok(u32::from_le_bytes(out))
    }

    #[test]
    fn files_stay_open_and_the_one_used_longest_ago_makes_way() {
        let folder = tempfile::tempdir().unwrap();
        let most = u32::try_from(OPEN).unwrap();
        let (image, table) = image(folder.path(), most + 2);
        let mut cursor = image.cursor();
        let mut opened = |order: &[u32]| {
            let before = table.opened.load(Ordering::Relaxed);
            for at in order {
                assert_eq!(number(&mut cursor, *at).unwrap(), *at);
            }
            table.opened.load(Ordering::Relaxed) - before
        };
        let all: Vec<u32> = (0..most).collect();
        assert_eq!(opened(&all), most);
        assert_eq!(opened(&all), 0, "all are open");
        // After 0 was used again, file 1 is the one used longest ago.
        assert_eq!(opened(&[0, most, 0]), 1);
        assert_eq!(opened(&[1]), 1);
        assert_eq!(opened(&[0, 3, most, 1]), 0);
        assert_eq!(cursor.open.len(), OPEN);
    }

    #[test]
    fn a_file_that_changes_under_an_open_cursor_is_an_error_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let (image, _) = image(folder.path(), 3);
        let mut cursor = image.cursor();
        assert_eq!(number(&mut cursor, 1).unwrap(), 1);
        std::fs::write(folder.path().join("1"), b"a longer file").unwrap();
        let error = std::thread::spawn(move || number(&mut cursor, 1).unwrap_err()).join().unwrap();
        assert_eq!(error.kind(), Kind::Source);
        assert_eq!(error.path().unwrap(), folder.path().join("1"));
    }

    #[test]
    fn a_part_of_a_file_is_at_rest_where_nobody_may_write_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (image, _) = image(folder.path(), 3);
        let set = |name: &str, mode: u32| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(folder.path().join(name), mode).unwrap();
        };
        set("1", 0o444);
        let mut cursor = image.slice(Bytes::new(2), image.length()).cursor();
        // The first one that is long enough may be written.
        assert_eq!(cursor.at_rest(0, 100, 2), None);
        let part = AtRest { offset: 6, length: 4, files: 0, file: 1, skip: 0 };
        assert_eq!(cursor.at_rest(0, 100, 3), Some(part));
        assert_eq!(cursor.at_rest(7, 2, 2), Some(AtRest { offset: 7, length: 2, skip: 1, ..part }));
        assert_eq!(cursor.at_rest(0, 100, 5), None);
        std::fs::remove_file(folder.path().join("2")).unwrap();
        assert_eq!(cursor.at_rest(10, 100, 1), None);
    }

    #[derive(Debug)]
    struct Ones;

    impl Render for Ones {
        fn render(&self, _: u32, _: u64, out: &mut [u8]) -> Result<()> {
            out.fill(1);
            Ok(())
        }

        fn label(&self, _: u32) -> String {
            "ones".to_owned()
        }
    }

    #[test]
    fn a_segment_that_leads_to_nothing_is_a_bug_and_no_zeros() {
        let mut builder = Builder::new(Bytes::new(8));
        builder.bytes(Bytes::ZERO, "bytes", vec![1; 4]);
        let renderer = builder.renderer(Arc::new(Ones));
        builder.rendered(Bytes::new(4), Bytes::new(4), renderer, 0);
        let mut cursor = builder.finish().unwrap().cursor();
        let mut out = [0; 4];
        for data in [
            Data::Bytes { block: 1, skip: 0 },
            Data::Bytes { block: 0, skip: 1 },
            Data::Bytes { block: 0, skip: u64::MAX },
            Data::Rendered { renderer: 1, part: 0, skip: 0 },
            Data::File { files: 0, file: 0, skip: 0 },
        ] {
            let piece = Segment { offset: Bytes::ZERO, length: Bytes::new(4), data };
            assert_eq!(cursor.fill(&piece, &mut out).unwrap_err().kind(), Kind::Bug, "{data:?}");
        }
        cursor.read(0, &mut out).unwrap();
        assert_eq!(out, [1; 4]);
    }
}
