//! Reads the data of files piece by piece, so that memory does not grow with them.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use super::folder::Folder;
use crate::error::Result;
use crate::filesystem::{Inode, Volume};
use crate::image::{Cursor, Image, Slice};
use crate::pour::write_error;
use crate::progress::Progress;
use crate::units::{Bytes, MIB, u64_of, usize_of};

/// Bytes that are read at a time.
const PIECE: u64 = MIB;

/// Reads pieces of files. It keeps the image open in which most of them are.
#[derive(Debug, Default)]
pub struct Reader {
    open: Option<(Image, Cursor)>,
    buffer: Vec<u8>,
}

impl Reader {
    /// Passes the bytes of `slice` that are no holes to `each`, with their offset in it, at most 1 MiB at a time.
    ///
    /// # Errors
    /// Where they cannot be read, and any error of `each`.
    pub fn pieces(&mut self, slice: &Slice, each: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        let image = slice.image();
        let cursor = match &mut self.open {
            Some((own, cursor)) if own.is_same(image) => cursor,
            open => &mut open.insert((image.clone(), image.cursor())).1,
        };
        // Segments that follow each other are read at once.
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for segment in slice.segments() {
            let (start, end) = (segment.offset.get(), segment.end().get());
            match runs.last_mut() {
                Some(run) if run.1 == start => run.1 = end,
                _ => runs.push((start, end)),
            }
        }
        for (start, end) in runs {
            let mut at = start;
            while at < end {
                let length = PIECE.min(end - at);
                self.buffer.resize(usize_of(length), 0);
                cursor.read(slice.start().get() + at, &mut self.buffer)?;
                each(at, &self.buffer)?;
                at += length;
            }
        }
        Ok(())
    }

    /// Writes the data of a file of a volume into `file`, with its holes.
    pub(super) fn write(
        &mut self,
        volume: &dyn Volume,
        inode: Inode,
        size: Bytes,
        file: &File,
        folder: &Folder,
        progress: &Progress,
    ) -> Result<()> {
        let mut end = 0;
        volume.data(inode, &mut |at, piece| {
            self.pieces(&piece, &mut |offset, bytes| {
                progress.check()?;
                let from = at.get() + offset;
                file.write_all_at(bytes, from).map_err(|error| folder.refused(error))?;
                end = end.max(from + u64_of(bytes.len()));
                progress.advance(u64_of(bytes.len()), 0);
                Ok(())
            })
        })?;
        if end == size.get() {
            return Ok(());
        }
        file.set_len(size.get()).map_err(|error| folder.refused(error))
    }

    /// Writes the data of a file of a volume into a stream, holes as zeros.
    ///
    /// # Errors
    /// Where the data cannot be read, or `out` takes no more.
    pub fn stream(
        &mut self,
        volume: &dyn Volume,
        inode: Inode,
        size: Bytes,
        out: &mut dyn Write,
        progress: &Progress,
    ) -> Result<()> {
        let mut done = 0;
        volume.data(inode, &mut |at, piece| {
            self.pieces(&piece, &mut |offset, bytes| {
                progress.check()?;
                zeros(at.get() + offset - done, out)?;
                out.write_all(bytes).map_err(write_error)?;
                done = at.get() + offset + u64_of(bytes.len());
                Ok(())
            })
        })?;
        zeros(size.get().saturating_sub(done), out)
    }
}

/// Writes so many zeros.
pub(super) fn zeros(count: u64, out: &mut dyn Write) -> Result<()> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut left = count;
    while left > 0 {
        let length = left.min(u64_of(ZEROS.len()));
        out.write_all(&ZEROS[..usize_of(length)]).map_err(write_error)?;
        left -= length;
    }
    Ok(())
}
