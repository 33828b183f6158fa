//! Streams of metadata: records that follow each other, cut into blocks of 8 KiB that are compressed one by one. A record
//! may begin in one block and end in the next.

use super::codec::{Encoder, Settings, metadata_block};
use super::format::{METADATA, Place};
use crate::error::{Error, Result};
use crate::pour::zeros::is_zero;
use crate::units::{low16, u64_of, usize_of};

/// A stream that is being written.
#[derive(Debug)]
pub(super) struct Stream {
    encoder: Encoder,
    /// The blocks that are full, with their headers.
    out: Vec<u8>,
    /// Where each of them begins in `out`.
    blocks: Vec<u64>,
    /// What is not yet a block: less than one.
    pending: Vec<u8>,
    /// A block of zeros as it is stored, once there was one: the lists of large holes are nothing else.
    zeros: Vec<u8>,
}

impl Stream {
    pub(super) fn new(settings: Settings) -> Result<Self> {
        Ok(Self {
            encoder: Encoder::new(settings, u64_of(METADATA))?,
            out: Vec::new(),
            blocks: Vec::new(),
            pending: Vec::with_capacity(METADATA),
            zeros: Vec::new(),
        })
    }

    /// Where the next record begins.
    pub(super) fn place(&self) -> Place {
        // Less than 8192.
        Place { block: u64_of(self.out.len()), offset: low16(u64_of(self.pending.len())) }
    }

    /// Appends a record.
    pub(super) fn put(&mut self, mut record: &[u8]) -> Result<()> {
        while !record.is_empty() {
            let (now, later) = record.split_at(record.len().min(METADATA - self.pending.len()));
            self.pending.extend_from_slice(now);
            record = later;
            // At once, so that the place of what follows is at the start of the next block.
            if self.pending.len() == METADATA {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Appends so many zeros.
    pub(super) fn zeros(&mut self, count: u64) -> Result<()> {
        let mut left = count;
        while left > 0 {
            let now = left.min(u64_of(METADATA - self.pending.len()));
            self.pending.resize(self.pending.len() + usize_of(now), 0);
            left -= now;
            if self.pending.len() == METADATA {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.blocks.push(u64_of(self.out.len()));
        if self.pending.len() == METADATA && is_zero(&self.pending) {
            if self.zeros.is_empty() {
                metadata_block(&mut self.encoder, &self.pending, &mut self.zeros)?;
            }
            self.out.extend_from_slice(&self.zeros);
        } else {
            metadata_block(&mut self.encoder, &self.pending, &mut self.out)?;
        }
        self.pending.clear();
        Ok(())
    }

    /// All blocks.
    pub(super) fn finish(mut self) -> Result<Blocks> {
        if !self.pending.is_empty() {
            self.flush()?;
        }
        Ok(Blocks { bytes: self.out, blocks: self.blocks })
    }
}

/// A stream that was written.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// Its blocks with their headers.
    pub(super) bytes: Vec<u8>,
    /// Where each begins in them.
    blocks: Vec<u64>,
}

impl Blocks {
    /// The index that stands behind a table which begins at byte `start` of the image: where each of its blocks begins.
    pub(super) fn index(&self, start: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.blocks.len() * size_of::<u64>());
        for block in &self.blocks {
            bytes.extend(address(start, *block)?.to_le_bytes());
        }
        Ok(bytes)
    }
}

/// The byte of the image that is `offset` behind byte `start`.
pub(super) fn address(start: u64, offset: u64) -> Result<u64> {
    start.checked_add(offset).ok_or_else(|| Error::bug("a SquashFS has an address behind all addresses"))
}

/// The streams in the order in which they stand behind the data.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) inodes: Blocks,
    pub(super) directories: Blocks,
    pub(super) fragments: Blocks,
    pub(super) exports: Blocks,
    pub(super) ids: Blocks,
    /// Attributes and the sets of them; `None` where there are none.
    pub(super) xattrs: Option<(Blocks, Blocks)>,
}

/// Where each of them begins, or its index where it has one; and where the last ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Starts {
    pub(super) inodes: u64,
    pub(super) directories: u64,
    pub(super) fragments: u64,
    pub(super) exports: u64,
    pub(super) ids: u64,
    pub(super) xattrs: Option<u64>,
    pub(super) end: u64,
}

impl Tables {
    /// Their bytes as they stand from byte `start` of the image on, part by part with a name. No byte lies between two
    /// tables: kernels check where each ends.
    pub(super) fn place(self, start: u64, table: impl Fn(u64) -> Vec<u8>) -> Result<(Vec<Part>, Starts)> {
        let mut parts = Parts { parts: Vec::new(), end: start };
        let inodes = parts.put("inode table", self.inodes.bytes)?;
        let directories = parts.put("directory table", self.directories.bytes)?;
        let fragments = parts.indexed("fragment table", "fragment index", self.fragments)?;
        let exports = parts.indexed("export table", "export index", self.exports)?;
        let ids = parts.indexed("id table", "id index", self.ids)?;
        let xattrs = match self.xattrs {
            None => None,
            Some((data, sets)) => {
                let start = parts.put("attributes", data.bytes)?;
                let index = sets.index(parts.end)?;
                parts.put("attribute sets", sets.bytes)?;
                let header = parts.put("attribute table", table(start))?;
                parts.put("attribute index", index)?;
                Some(header)
            }
        };
        if parts.end == super::format::NO_TABLE {
            return Err(Error::bug("the tables of a SquashFS end behind all addresses"));
        }
        let starts = Starts { inodes, directories, fragments, exports, ids, xattrs, end: parts.end };
        Ok((parts.parts, starts))
    }
}

/// A part of the image that is in memory.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) start: u64,
    pub(super) label: &'static str,
    pub(super) bytes: Vec<u8>,
}

struct Parts {
    parts: Vec<Part>,
    end: u64,
}

impl Parts {
    /// Appends bytes, and returns where they begin.
    fn put(&mut self, label: &'static str, bytes: Vec<u8>) -> Result<u64> {
        let start = self.end;
        self.end = address(start, u64_of(bytes.len()))?;
        self.parts.push(Part { start, label, bytes });
        Ok(start)
    }

    /// Appends a table and its index, and returns where the index begins.
    fn indexed(&mut self, label: &'static str, index: &'static str, table: Blocks) -> Result<u64> {
        let start = self.end;
        let positions = table.index(start)?;
        self.put(label, table.bytes)?;
        self.put(index, positions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filesystem::squashfs::{Compression, Options};

    fn stream(compress: Compression) -> Stream {
        let options = Options { compress: Some(compress), ..Options::default() };
        Stream::new(Settings::new(&options).unwrap()).unwrap()
    }

    #[test]
    fn blocks_are_cut_at_8_kib_and_places_are_in_the_block_that_follows() {
        for compress in [Compression::None, Compression::Gzip] {
            let mut stream = stream(compress);
            stream.put(&[1; 8191]).unwrap();
            assert_eq!(stream.place(), Place { block: 0, offset: 8191 });
            stream.put(&[2; 1]).unwrap();
            let next = stream.place();
            assert_eq!(next.offset, 0);
            stream.put(&[3; 20_000]).unwrap();
            let last = stream.place();
            assert_eq!(last.offset, 20_000 - 2 * 8192);
            let blocks = stream.finish().unwrap();
            let index: Vec<u64> = blocks
                .index(1000)
                .unwrap()
                .chunks(8)
                .map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
                .collect();
            assert_eq!(
                (index.len(), index[0], index[1], index[3]),
                (4, 1000, 1000 + next.block, 1000 + last.block)
            );
            let error = blocks.index(u64::MAX - last.block + 1).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Bug);
            blocks.index(u64::MAX - last.block).unwrap();
            let header = u16::from_le_bytes([blocks.bytes[0], blocks.bytes[1]]);
            match compress {
                Compression::None => assert_eq!((header, next.block), (0xa000, 8194)),
                _ => assert_eq!(u64::from(header) + 2, next.block),
            }
            let short = usize_of(last.block);
            assert_eq!(blocks.bytes.len() == short + 2 + 3616, compress == Compression::None);
        }
    }

    #[test]
    fn zeros_are_the_same_however_they_come() {
        for compress in [Compression::None, Compression::Gzip] {
            let finish = |stream: Stream| stream.finish().unwrap().bytes;
            let (mut one, mut other) = (stream(compress), stream(compress));
            one.put(&[1; 100]).unwrap();
            one.put(&[0; 40_000]).unwrap();
            one.put(&[2; 9]).unwrap();
            other.put(&[1; 100]).unwrap();
            other.zeros(39_999).unwrap();
            other.zeros(0).unwrap();
            other.zeros(1).unwrap();
            other.put(&[2; 9]).unwrap();
            assert_eq!(finish(one), finish(other));
        }
    }

    /// Poisoned: the tables begin so far behind that their bytes have no addresses.
    #[test]
    fn tables_behind_all_addresses_are_a_bug() {
        let mut parts = Parts { parts: Vec::new(), end: u64::MAX - 3 };
        assert_eq!(parts.put("three", vec![0; 3]).unwrap(), u64::MAX - 3);
        assert_eq!(parts.put("more", vec![0; 1]).unwrap_err().kind(), crate::error::Kind::Bug);
        let table = Blocks { bytes: vec![0; 9], blocks: vec![0, 5] };
        let mut parts = Parts { parts: Vec::new(), end: u64::MAX - 4 };
        assert_eq!(parts.indexed("table", "index", table).unwrap_err().kind(), crate::error::Kind::Bug);
    }
}
