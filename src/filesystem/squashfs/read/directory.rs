//! The names in a directory, run by run. The index over them is not needed for that.

use super::super::format::{DirectoryEntry, DirectoryHeader, LONGEST_NAME, Place, RUN, Type};
use super::Squashfs;
use super::inode::{Body, Names, Raw};
use crate::error::{Error, Result};
use crate::filesystem::device::damaged;
use crate::text::printable;
use crate::units::{u64_of, usize_of};
use crate::wire::Wire;

/// A name as it stands in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    pub(super) name: &'a [u8],
    /// Where its inode is.
    pub(super) reference: u64,
    /// The number that its inode is to have, and its type.
    pub(super) number: u32,
    pub(super) kind: Option<Type>,
    /// Where the run begins in the names, and in the image; for the first name of a run.
    pub(super) run: Option<(u64, u64)>,
}

/// What goes on after a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Go {
    On,
    Out,
}

impl Squashfs {
    /// Where the names of a directory are.
    pub(super) fn directory(&self, reference: u64) -> Result<Names<'_>> {
        match self.raw(reference)? {
            Raw { body: Body::Directory(names), .. } => Ok(names),
            Raw { head, .. } => {
                Err(damaged("this inode is no directory").found(format!("inode {}", head.inode_number)))
            }
        }
    }

    /// Gives `each` the names of a directory, until it has enough.
    pub(super) fn names(
        &self,
        names: &Names<'_>,
        each: &mut dyn FnMut(Name<'_>) -> Result<Go>,
    ) -> Result<()> {
        let mut reader = self.metadata.reader(self.directories, names.place);
        let mut done = 0;
        let left = |done: u64, length: usize| {
            let end = done + u64_of(length);
            if end > names.length { Err(wrong("its last name is cut off")) } else { Ok(end) }
        };
        while done < names.length {
            let mut run = Some((done, reader.place()?.0));
            done = left(done, DirectoryHeader::LENGTH)?;
            let header: DirectoryHeader = reader.structure()?;
            let count = usize_of(u64::from(header.count)) + 1;
            if count > RUN {
                return Err(wrong("a run is too long").expected(format!("at most {RUN} names")).found(count));
            }
            for _ in 0..count {
                done = left(done, DirectoryEntry::LENGTH)?;
                let entry: DirectoryEntry = reader.structure()?;
                let length = usize::from(entry.size) + 1;
                done = left(done, length)?;
                if length > usize::from(LONGEST_NAME) {
                    return Err(wrong("a name is too long").found(length));
                }
                let name = reader.bytes(length)?;
                if name.contains(&b'/') || name.contains(&0) || name == b"." || name == b".." {
                    return Err(wrong("a name in it is none").found(printable(&name)));
                }
                let difference = i32::from(entry.inode_number.cast_signed());
                let name = Name {
                    name: &name,
                    reference: Place { block: u64::from(header.start_block), offset: entry.offset }
                        .reference(),
                    number: header.inode_number.wrapping_add_signed(difference),
                    kind: Type::of(entry.kind).filter(|(_, long)| !long).map(|(kind, _)| kind),
                    run: run.take(),
                };
                if each(name)? == Go::Out {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// The error for a bad directory.
pub(super) fn wrong(what: &str) -> Error {
    damaged(format!("a directory is wrong: {what}"))
}
