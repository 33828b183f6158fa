//! Contents of files and volumes in a pool: places for their blocks, and what leads to them.

use super::compress::Compression;
use super::data::{self, Contents, Note};
use super::objects::{Object, Objects, Tree};
use super::pointer::{About, Pointer, Stored};
use super::space::Run;
use super::store::Store;
use crate::error::{Error, Result};
use crate::pour::spool::Packed;
use crate::tree::NodeId;

/// The contents of a dataset, and how they are stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) contents: &'a Contents,
    pub(super) manner: data::Manner,
    pub(super) copies: usize,
    /// The type of the objects that have them.
    pub(super) kind: u8,
    /// The transaction group in which they are written.
    pub(super) birth: u64,
}

/// A file with contents.
#[derive(Clone, Copy, Debug)]
pub(super) struct File {
    pub(super) node: NodeId,
    pub(super) size: u64,
}

/// The places of blocks of contents: offset, and number of the block.
pub(super) type Places = Vec<(u64, u64)>;

/// Bytes that a block of contents has as it is stored; `None` if it takes no space.
fn physical(packed: &Packed<Note>, logical: u64) -> Option<u64> {
    match packed.note {
        Note::Hole | Note::Embedded(_) => None,
        Note::Compressed(_) => Some(compressed(packed)),
        Note::Plain(_) | Note::Kept(_) => Some(logical),
    }
}

/// Bytes of a block of contents that is compressed.
const fn compressed(packed: &Packed<Note>) -> u64 {
    packed.end.get() - packed.start.get()
}

impl Source<'_> {
    /// Gives places to the contents of a file.
    ///
    /// # Errors
    /// [`Kind::Capacity`](crate::error::Kind::Capacity) where there is no space left.
    pub(super) fn reserve(&self, file: File, store: &mut Store, places: &mut Places) -> Result<()> {
        let logical = self.manner.block(file.size);
        for block in self.contents.blocks_of(file.node)? {
            let Some(physical) = physical(self.contents.block(block.chunk)?, logical) else { continue };
            let runs = store.places(physical, self.copies)?;
            places.extend(runs.iter().map(|run| (run.start, block.chunk)));
        }
        Ok(())
    }

    /// The blocks of a file, whose places are the next in `places`.
    pub(super) fn tree(
        &self,
        file: File,
        objects: &Objects,
        store: &mut Store,
        places: &mut &[(u64, u64)],
    ) -> Result<Tree> {
        let block = self.manner.block(file.size);
        let mut tree = objects.tree(&Object::plain(self.kind, block));
        let mut next = 0;
        for own in self.contents.blocks_of(file.node)? {
            tree.push_holes(store, objects.manner, own.number - next)?;
            let pointer = self.pointer(store, places, block, own.chunk)?;
            tree.push(store, objects.manner, pointer)?;
            next = own.number + 1;
        }
        tree.push_holes(store, objects.manner, file.size.div_ceil(block) - next)?;
        Ok(tree)
    }

    /// The pointer to a block of contents.
    fn pointer(
        &self,
        store: &Store,
        places: &mut &[(u64, u64)],
        logical: u64,
        chunk: u64,
    ) -> Result<Pointer> {
        let about = About::contents(self.kind, self.birth);
        let packed = self.contents.block(chunk)?;
        let own = self.manner.compression.number();
        let (compression, sum, physical) = match &packed.note {
            Note::Hole => return Ok(Pointer::HOLE),
            Note::Embedded(bytes) => return Pointer::embedded(about, logical, own, bytes),
            Note::Compressed(sum) => (own, *sum, compressed(packed)),
            Note::Plain(sum) | Note::Kept(sum) => (Compression::Off.number(), *sum, logical),
        };
        let taken =
            places.split_off(..self.copies).filter(|taken| taken.iter().all(|(_, own)| *own == chunk));
        let taken = taken.ok_or_else(|| Error::bug("a block of a file has no place"))?;
        let length = store.space.geometry.allocated(physical);
        let runs: Vec<Run> = taken.iter().map(|(start, _)| Run { start: *start, length }).collect();
        let stored = Stored { logical, physical, compression, checksum: self.manner.checksum.number(), sum };
        Pointer::new(about, &stored, &runs)
    }
}
