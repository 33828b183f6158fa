//! The contents of files: blocks that are read, compared and decompressed when their bytes are asked for.

use std::sync::Arc;

use super::Zfs;
use super::block::{Blocks, Pointer};
use super::object::{Go, Object};
use crate::error::{Error, Result};
use crate::filesystem::device::damaged;
use crate::image::{Builder, Render, Slice};
use crate::units::{Bytes, index, u64_of, usize_of};

/// How many blocks make one piece of a file.
const PIECE: usize = 256;

/// Blocks of a file that follow each other.
#[derive(Debug)]
struct Pieces {
    blocks: Arc<Blocks>,
    pointers: Vec<Pointer>,
}

impl Render for Pieces {
    fn render(&self, part: u32, skip: u64, out: &mut [u8]) -> Result<()> {
        let pointer = self.pointers.get(index(part)).ok_or_else(|| Error::bug("there is no such block"))?;
        let bytes = self.blocks.read(pointer)?;
        let own = bytes.get(usize_of(skip)..).and_then(|own| own.get(..out.len()));
        out.copy_from_slice(own.ok_or_else(|| Error::bug("a block is shorter than its pointer says"))?);
        Ok(())
    }

    fn label(&self, part: u32) -> String {
        let place = self.pointers.get(index(part)).map_or_else(String::new, Pointer::shown);
        format!("zfs block: {place}")
    }
}

/// Blocks on the way into a piece.
struct Collected {
    first: u64,
    length: u64,
    end: u64,
    pointers: Vec<Pointer>,
}

impl Zfs {
    /// Gives `each` the pieces of an object with `size` bytes.
    pub(super) fn pieces(
        &self,
        object: &Object,
        size: u64,
        each: &mut dyn FnMut(Bytes, Slice) -> Result<()>,
    ) -> Result<()> {
        let block = object.block();
        let mut own = Collected { first: 0, length: 0, end: 0, pointers: Vec::new() };
        let mut left = self.blocks.length();
        self.blocks.visit(object, &mut left, &mut |visited| {
            let at = visited.first.saturating_mul(block);
            if at >= size {
                return Ok(Go::Past);
            }
            if visited.level > 0 {
                return Ok(Go::Down);
            }
            if visited.pointer.logical() != block {
                return Err(damaged("a block of a file has another length than the others")
                    .expected(block)
                    .found(visited.pointer.logical()));
            }
            if at < own.end {
                return Err(damaged("blocks of a file are in the place of others").found(at));
            }
            if at != own.end || own.pointers.len() == PIECE {
                self.piece(&mut own, each)?;
                own.first = at;
            }
            let length = block.min(size - at);
            (own.length, own.end) = (own.length + length, at + length);
            own.pointers.push(visited.pointer.clone());
            Ok(Go::Down)
        })?;
        self.piece(&mut own, each)
    }

    /// Gives `each` what was collected.
    fn piece(&self, own: &mut Collected, each: &mut dyn FnMut(Bytes, Slice) -> Result<()>) -> Result<()> {
        let pointers = std::mem::take(&mut own.pointers);
        let length = std::mem::take(&mut own.length);
        let Some(first) = pointers.first() else { return Ok(()) };
        let block = first.logical();
        let mut image = Builder::new(Bytes::new(length));
        let count = u64_of(pointers.len());
        let renderer = image.renderer(Arc::new(Pieces { blocks: Arc::clone(&self.blocks), pointers }));
        for (part, at) in (0..).zip((0..count).map(|number| number * block)) {
            image.rendered(Bytes::new(at), Bytes::new(block.min(length - at)), renderer, part);
        }
        each(Bytes::new(own.first), image.finish()?.whole())
    }
}
