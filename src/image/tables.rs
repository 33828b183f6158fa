//! What segments refer to by number: ready bytes, renderers and tables of host files.
//!
//! Every number comes from the table that it refers to, so a failed lookup is a bug and an error. Zeros
//! instead would end up on a disk.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Data, Files, Render, Segment};
use crate::error::{Error, Result};
use crate::units::index;

/// Ready bytes, with their name in maps and errors.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) label: Cow<'static, str>,
    pub(super) bytes: Arc<[u8]>,
}

/// What the segments of an image refer to by number.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) blocks: Vec<Arc<Block>>,
    pub(super) renderers: Vec<Arc<dyn Render>>,
    pub(super) files: Vec<Arc<dyn Files>>,
}

/// The numbers that the first entries of an image's tables got in the tables of another image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bases {
    blocks: u32,
    renderers: u32,
    files: u32,
}

impl Bases {
    /// `data` of the image that was taken over, with the numbers of the tables that took it over.
    pub(super) fn moved(self, mut data: Data) -> Data {
        // No sum here overflows, since the number of the last entry was checked when the tables were taken
        // over.
        match &mut data {
            Data::Bytes { block, .. } => *block += self.blocks,
            Data::Rendered { renderer, .. } => *renderer += self.renderers,
            Data::File { files, .. } => *files += self.files,
        }
        data
    }
}

impl Tables {
    /// Takes over all entries of `other`, after the existing ones.
    pub(super) fn adopt(&mut self, other: &Self) -> Result<Bases> {
        Ok(Bases {
            blocks: extend(&mut self.blocks, &other.blocks)?,
            renderers: extend(&mut self.renderers, &other.renderers)?,
            files: extend(&mut self.files, &other.files)?,
        })
    }

    pub(super) fn block(&self, number: u32) -> Result<&Block> {
        entry(&self.blocks, number, "block of ready bytes").map(Arc::as_ref)
    }

    pub(super) fn renderer(&self, number: u32) -> Result<&Arc<dyn Render>> {
        entry(&self.renderers, number, "renderer")
    }

    pub(super) fn files(&self, number: u32) -> Result<&Arc<dyn Files>> {
        entry(&self.files, number, "table of files")
    }

    /// The name of a segment. If its number has no entry, the name says so.
    pub(super) fn label(&self, segment: &Segment) -> String {
        self.name(segment).unwrap_or_else(|error| format!("({})", error.what()))
    }

    fn name(&self, segment: &Segment) -> Result<String> {
        match segment.data {
            Data::Bytes { block, .. } => Ok(self.block(block)?.label.to_string()),
            Data::Rendered { renderer, part, .. } => Ok(self.renderer(renderer)?.label(part)),
            Data::File { files, file, .. } => {
                Ok(crate::text::printable_path(&self.files(files)?.file(file)?.path))
            }
        }
    }
}

/// Adds an entry and returns its number.
pub(super) fn add<T>(table: &mut Vec<T>, entry: T) -> Result<u32> {
    let number = number(table.len())?;
    table.push(entry);
    Ok(number)
}

/// Adds entries and returns the number of the first.
fn extend<T: Clone>(table: &mut Vec<T>, entries: &[T]) -> Result<u32> {
    let first = number(table.len())?;
    number(table.len() + entries.len())?;
    table.extend_from_slice(entries);
    Ok(first)
}

/// The number of the next entry of a table of `length` entries. A number that is too large must not become
/// that of another entry.
fn number(length: usize) -> Result<u32> {
    u32::try_from(length).map_err(|_| Error::bug("an image refers to more than 2^32 things of one kind"))
}

fn entry<'a, T>(table: &'a [T], number: u32, what: &str) -> Result<&'a T> {
    table.get(index(number)).ok_or_else(|| {
        Error::bug(format!("a segment leads to {what} {number}, and the image has {}", table.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::units::Bytes;

    #[test]
    fn numbers_are_never_shared() {
        // Entries without size take no memory, however many there are.
        let mut full = vec![(); 1 << 32];
        assert_eq!(add(&mut full, ()).unwrap_err().kind(), Kind::Bug);
        assert_eq!(full.len(), 1 << 32, "nothing was added");
        let mut last = vec![(); (1 << 32) - 1];
        assert_eq!(extend(&mut last, &[(), ()]).unwrap_err().kind(), Kind::Bug);
        assert_eq!(add(&mut last, ()).unwrap(), u32::MAX);
    }

    #[test]
    fn what_leads_to_nothing_is_a_bug_and_has_no_empty_label() {
        let tables = Tables::default();
        assert_eq!(tables.block(0).unwrap_err().kind(), Kind::Bug);
        assert_eq!(tables.renderer(1).unwrap_err().kind(), Kind::Bug);
        assert_eq!(tables.files(2).unwrap_err().kind(), Kind::Bug);
        for data in [
            Data::Bytes { block: 7, skip: 0 },
            Data::Rendered { renderer: 7, part: 0, skip: 0 },
            Data::File { files: 7, file: 0, skip: 0 },
        ] {
            let label = tables.label(&Segment { offset: Bytes::ZERO, length: Bytes::new(1), data });
            assert!(label.contains(" 7, and the image has 0"), "{label}");
        }
    }
}
