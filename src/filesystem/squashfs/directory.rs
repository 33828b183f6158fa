//! Directories: runs of names whose inodes begin in one block of metadata, and an index over long ones.

use super::format::{
    DirectoryEntry, DirectoryHeader, DirectoryIndex, METADATA, MOST_INDEX, Place, RUN, Type,
};
use super::metadata::Stream;
use crate::error::{Error, Result};
use crate::units::{narrow, u64_of};
use crate::wire::Wire;

/// A name in a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name<'a> {
    pub(super) name: &'a [u8],
    pub(super) kind: Type,
    /// Number of its inode.
    pub(super) number: u32,
    /// Where its inode begins.
    pub(super) place: Place,
}

/// A directory that was written.
#[derive(Debug)]
pub(super) struct Listing {
    /// Where its names begin.
    pub(super) place: Place,
    /// How many bytes they take.
    pub(super) length: u64,
    /// The entries of its index, and how many there are.
    pub(super) index: Vec<u8>,
    pub(super) entries: u16,
}

/// A directory that is being written.
struct Writer<'a> {
    stream: &'a mut Stream,
    listing: Listing,
    /// Where in the names the index leads last.
    indexed: u64,
    /// The run in hand: its block, the number that differences count from, its entries and how many there are.
    block: u64,
    number: u32,
    run: Vec<u8>,
    count: usize,
}

/// Writes a directory; `names` are sorted by their bytes.
pub(super) fn write<'a>(stream: &mut Stream, names: impl Iterator<Item = Name<'a>>) -> Result<Listing> {
    let place = stream.place();
    place.block32("names")?;
    let listing = Listing { place, length: 0, index: Vec::new(), entries: 0 };
    let mut writer = Writer { stream, listing, indexed: 0, block: 0, number: 0, run: Vec::new(), count: 0 };
    for name in names {
        writer.put(&name)?;
    }
    writer.end()?;
    Ok(writer.listing)
}

/// Bytes between two places that the index leads to, at most (linux/fs/squashfs/namei.c reads linearly from one).
const STEP: u64 = u64_of(METADATA);

impl Writer<'_> {
    fn put(&mut self, name: &Name<'_>) -> Result<()> {
        let length = u64_of(DirectoryEntry::LENGTH + name.name.len());
        let difference = i64::from(name.number) - i64::from(self.number);
        let reach = self.listing.length + u64_of(DirectoryHeader::LENGTH + self.run.len()) + length;
        let passes = reach - self.indexed > STEP;
        let fits = name.place.block == self.block && i16::try_from(difference).is_ok();
        if self.count == 0 || self.count == RUN || !fits || passes {
            self.end()?;
            (self.block, self.number) = (name.place.block, name.number);
            self.point(name, length)?;
        }
        // Differences were looked at; that of a new run is zero.
        let difference = i16::try_from(i64::from(name.number) - i64::from(self.number));
        let difference = difference.map_err(|_| Error::bug("inodes of one run are far apart"))?;
        let size = name.name.len().checked_sub(1).ok_or_else(|| Error::bug("a name is empty"))?;
        let entry = DirectoryEntry {
            offset: name.place.offset,
            inode_number: difference.cast_unsigned(),
            kind: name.kind.number(),
            size: narrow(size, "the length of a name")?,
        };
        self.run.extend(entry.bytes());
        self.run.extend_from_slice(name.name);
        self.count += 1;
        Ok(())
    }

    /// Has the index lead to the run that begins with `name`, whose entry takes `length` bytes, where the last place that it
    /// leads to is far back.
    fn point(&mut self, name: &Name<'_>, length: u64) -> Result<()> {
        let at = self.listing.length;
        let far = at + u64_of(DirectoryHeader::LENGTH) + length - self.indexed > STEP;
        // An index that ends early is one that says less.
        if !far || usize::from(self.listing.entries) == MOST_INDEX {
            return Ok(());
        }
        let index = DirectoryIndex {
            index: narrow(at, "a place in a directory")?,
            start_block: self.stream.place().block32("names")?,
            size: narrow(name.name.len() - 1, "the length of a name")?,
        };
        self.listing.index.extend(index.bytes());
        self.listing.index.extend_from_slice(name.name);
        self.listing.entries += 1;
        self.indexed = at;
        Ok(())
    }

    /// Writes the run in hand.
    fn end(&mut self) -> Result<()> {
        let Some(last) = self.count.checked_sub(1) else { return Ok(()) };
        let header = DirectoryHeader {
            count: narrow(last, "the count of a run")?,
            start_block: Place { block: self.block, offset: 0 }.block32("inodes")?,
            inode_number: self.number,
        };
        self.stream.put(&header.bytes())?;
        self.stream.put(&self.run)?;
        self.listing.length += u64_of(DirectoryHeader::LENGTH + self.run.len());
        self.run.clear();
        self.count = 0;
        Ok(())
    }
}
