//! Reading an image that was never written: for the pour, for streaming, for whoever serves or hashes it.

use super::{Data, Image, Segment};
use crate::error::{Error, Result};
use crate::host::Source;
use crate::units::{Bytes, index, u64_of, usize_of};

/// The host file a reader used last: pieces of one large file follow each other.
#[derive(Debug, Default)]
pub(crate) struct Handle<'a>(Option<((u32, u32), Source<'a>)>);

impl<'a> Handle<'a> {
    /// The open source behind `files`, `file`; opened only when it is another one than last time.
    pub(crate) fn source(&mut self, image: &'a Image, files: u32, file: u32) -> Result<&Source<'a>> {
        let key = (files, file);
        if self.0.as_ref().is_none_or(|(open, _)| *open != key) {
            let table =
                image.tables.files.get(index(files)).ok_or_else(|| Error::bug("no such table of files"))?;
            self.0 = None;
            let source = match table.opened(file) {
                Some(open) => Source::over(open, table.file(file))?,
                None => Source::open(table.file(file))?,
            };
            self.0 = Some((key, source));
        }
        self.0.as_ref().map(|(_, source)| source).ok_or_else(|| Error::bug("no open source"))
    }
}

impl Image {
    /// Fills `out` with the bytes at `offset`; past the end and in holes they are zero.
    ///
    /// # Errors
    /// [`Kind::Source`](crate::error::Kind::Source) where a host file is gone, unreadable or changed.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.read_by(&mut Handle::default(), offset, out)
    }

    /// As [`Image::read`], for who reads one piece after the other.
    pub(crate) fn read_by<'a>(&'a self, handle: &mut Handle<'a>, offset: u64, out: &mut [u8]) -> Result<()> {
        let start = Bytes::new(offset);
        let mut done = 0;
        for piece in self.clipped(start, start + Bytes::new(u64_of(out.len()))) {
            let from = usize_of(piece.offset.get() - offset);
            let to = from + usize_of(piece.length.get());
            out[done..from].fill(0);
            self.fill(&piece, &mut out[from..to], handle)?;
            done = to;
        }
        out[done..].fill(0);
        Ok(())
    }

    /// Fills `out`, which is as long as `piece` and may hold anything, with its bytes, and checks a host file for change.
    pub(crate) fn fill<'a>(&'a self, piece: &Segment, out: &mut [u8], handle: &mut Handle<'a>) -> Result<()> {
        match piece.data {
            Data::Bytes { block, skip } => {
                let from = usize_of(skip);
                let bytes = self
                    .tables
                    .blocks
                    .get(index(block))
                    .and_then(|block| block.bytes.get(from..from.saturating_add(out.len())))
                    .ok_or_else(|| Error::bug("a segment is longer than its bytes"))?;
                out.copy_from_slice(bytes);
                Ok(())
            }
            Data::Rendered { renderer, part, skip } => {
                let renderers = &self.tables.renderers;
                let renderer =
                    renderers.get(index(renderer)).ok_or_else(|| Error::bug("no such renderer"))?;
                out.fill(0);
                renderer.render(part, skip, out)
            }
            Data::File { files, file, skip } => {
                let source = handle.source(self, files, file)?;
                source.read_exact(skip, out)?;
                source.verify()
            }
        }
    }
}
