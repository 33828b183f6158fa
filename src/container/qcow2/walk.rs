//! The tables of qcow2: from the clusters of the disk to their places in the file.

use std::ops::Range;
use std::sync::Arc;

use super::SECTOR;
use super::format::{
    COMPRESSED, COPIED, ClusterSize, RESERVED_L1, RESERVED_L2, RESERVED_REFCOUNT, RefcountTable, ZERO,
};
use super::read::Info;
use crate::container::codec::Decoder;
use crate::container::source::{Mapping, Source, be64s};
use crate::error::{Error, Result};
use crate::image::{Image, Render};
use crate::units::{Bytes, index, narrow, usize_of};

/// The data of the image itself.
#[derive(Clone, Debug)]
pub(in crate::container) struct Disk {
    pub(in crate::container) image: Image,
    /// Where the image records that the disk is zero, so that a backing file does not show through.
    /// Ascending.
    pub(in crate::container) zero: Vec<Range<u64>>,
    /// Whether a cluster is compressed.
    pub(in crate::container) compressed: bool,
}

/// Walks through all tables that `info` names.
pub(super) fn walk(info: &Info, source: &Arc<Source>) -> Result<Disk> {
    let mut walk = Walk {
        info,
        source,
        mapping: Mapping::new(source, info.size),
        compressed: Vec::new(),
        zero: Vec::new(),
    };
    let cluster = info.cluster();
    walk.mapping.claim(0, cluster, "the header")?;
    let RefcountTable { offset, clusters } = info.refcounts;
    walk.mapping.claim(offset, clusters.saturating_mul(cluster), "the refcount table")?;
    walk.mapping.claim(info.l1.offset, (info.l1.entries * 8).next_multiple_of(cluster), "the L1 table")?;
    walk.refcounts()?;
    walk.l1()?;
    walk.finish()
}

/// A compressed cluster: where its stream begins, and the largest length of the stream.
#[derive(Clone, Copy, Debug)]
struct Stream {
    offset: u64,
    length: u64,
}

impl ClusterSize {
    /// The stream that a level 2 entry refers to.
    const fn stream(self, entry: u64) -> Stream {
        let shift = self.sector_shift();
        let offset = entry & ((1 << shift) - 1);
        let sectors = (entry & !(COPIED | COMPRESSED)) >> shift;
        Stream { offset, length: (sectors + 1) * SECTOR - offset % SECTOR }
    }

    /// Where the stream begins that a level 2 entry refers to, and its largest length.
    pub(super) const fn stream_of(self, entry: u64) -> (u64, u64) {
        let Stream { offset, length } = self.stream(entry);
        (offset, length)
    }
}

/// The walk through the tables.
struct Walk<'a> {
    info: &'a Info,
    source: &'a Arc<Source>,
    mapping: Mapping,
    compressed: Vec<Compressed>,
    zero: Vec<Range<u64>>,
}

/// A compressed cluster: its place on the disk and its entry.
#[derive(Clone, Copy, Debug)]
struct Compressed {
    disk: u64,
    entry: u64,
}

impl Walk<'_> {
    /// Claims the refcount blocks. Reading does not need the counts, but nothing else may lie there.
    fn refcounts(&mut self) -> Result<()> {
        let table = self.info.refcounts;
        let cluster = self.info.cluster();
        let length = table.clusters * cluster;
        if self.source.is_hole(table.offset, length) {
            return Ok(());
        }
        let bytes = self.source.read(table.offset, length, "the refcount table")?;
        for (number, entry) in (0..).zip(be64s(&bytes)) {
            let what = "a refcount block";
            let offset = self.table(entry, RESERVED_REFCOUNT, table.offset + number * 8, what)?;
            if offset != 0 {
                self.source.within(offset, cluster, what)?;
                self.mapping.claim(offset, cluster, what)?;
            }
        }
        Ok(())
    }

    /// The place of the cluster that an entry at `place` refers to; 0 for none.
    fn table(&self, entry: u64, reserved: u64, place: u64, what: &str) -> Result<u64> {
        if entry & reserved != 0 {
            return Err(self
                .source
                .wrong(format!("reserved bits are set in an entry for {what}"), place)
                .expected("0")
                .found(format!("{:#x}", entry & reserved)));
        }
        let offset = entry & !(reserved | COPIED | COMPRESSED | ZERO);
        if !Bytes::new(offset).is_multiple_of(self.info.cluster()) {
            return Err(self
                .source
                .wrong(format!("{what} is not aligned to a cluster"), place)
                .found(offset));
        }
        Ok(offset)
    }

    fn l1(&mut self) -> Result<()> {
        let used = self.info.size.div_ceil(self.info.covered());
        let at = self.info.l1.offset;
        let table = self.source.read(at, used * 8, "the L1 table")?;
        let cluster = self.info.cluster();
        for (number, entry) in (0..).zip(be64s(&table)) {
            let what = "an L2 table";
            let offset = self.table(entry, RESERVED_L1, at + number * 8, what)?;
            if offset == 0 {
                continue;
            }
            self.source.within(offset, cluster, what)?;
            // Before the table is read: otherwise a table that many entries refer to would be read many
            // times.
            self.mapping.claim(offset, cluster, what)?;
            if !self.source.is_hole(offset, cluster) {
                self.l2(number, offset)?;
            }
        }
        Ok(())
    }

    fn l2(&mut self, number: u64, offset: u64) -> Result<()> {
        let cluster = self.info.cluster();
        let table = self.source.read(offset, cluster, "an L2 table")?;
        let width = self.info.entry();
        let words: Vec<u64> = be64s(&table).collect();
        for (slot, words) in (0..).zip(words.chunks_exact(usize_of(width / 8))) {
            let disk = number * self.info.covered() + slot * cluster;
            if disk >= self.info.size {
                break;
            }
            // A plain entry is one word; an extended entry is followed by its bitmap.
            let (entry, bitmap) = match words {
                [entry] => (*entry, None),
                [entry, bitmap] => (*entry, Some(*bitmap)),
                _ => return Err(Error::bug("an L2 entry has one word or two")),
            };
            let place = offset + slot * width;
            if entry & COMPRESSED != 0 {
                self.compressed(disk, entry, bitmap, place)?;
            } else if entry != 0 || bitmap.is_some_and(|bitmap| bitmap != 0) {
                self.standard(disk, entry, bitmap, place)?;
            }
        }
        Ok(())
    }

    fn compressed(&mut self, disk: u64, entry: u64, bitmap: Option<u64>, place: u64) -> Result<()> {
        let offset = self.info.cluster_size.stream(entry).offset;
        if entry & COPIED != 0 || bitmap.is_some_and(|bitmap| bitmap != 0) {
            return Err(self
                .source
                .wrong("reserved bits are set in an entry for a compressed cluster", place));
        }
        if offset >= self.source.size {
            return Err(self
                .source
                .wrong("the image is truncated: a compressed cluster lies outside the file", place)
                .expected(format!("less than {}, the length of the file", self.source.size))
                .found(offset));
        }
        self.compressed.push(Compressed { disk, entry });
        Ok(())
    }

    /// An uncompressed cluster. `bitmap` says which of its 32 parts are stored and which are zero.
    fn standard(&mut self, disk: u64, entry: u64, bitmap: Option<u64>, place: u64) -> Result<()> {
        let cluster = self.info.cluster();
        let offset = self.table(entry, RESERVED_L2, place, "data")?;
        if offset != 0 {
            self.mapping.claim(offset, cluster, "data")?;
        }
        if entry & ZERO != 0 && (self.info.version == 2 || bitmap.is_some()) {
            let what = "bit 0 of an entry is set, which only version 3 without parts of clusters has";
            return Err(self.source.wrong(what, place).expected("0").found("1"));
        }
        let Some(bitmap) = bitmap else {
            if entry & ZERO != 0 {
                self.zeros(disk, cluster);
                return Ok(());
            }
            return if offset == 0 { Ok(()) } else { self.stored(disk, cluster, offset) };
        };
        let part = cluster / 32;
        for bit in 0..32 {
            let (stored, zero) = (bitmap >> bit & 1 == 1, bitmap >> (32 + bit) & 1 == 1);
            if stored && (zero || offset == 0) {
                return Err(self
                    .source
                    .wrong("a part of a cluster is both stored and zero, or nowhere", place + 8)
                    .found(format!("bitmap {bitmap:#018x}, cluster at {offset}")));
            }
            if stored {
                self.stored(disk + bit * part, part, offset + bit * part)?;
            } else if zero {
                self.zeros(disk + bit * part, part);
            }
        }
        Ok(())
    }

    /// Data of this image. Bytes past the end of the file are zero, and no backing file shows through.
    fn stored(&mut self, disk: u64, length: u64, file: u64) -> Result<()> {
        let there = self.mapping.data(disk, length, file)?;
        if there < length {
            self.zeros(disk + there, length - there);
        }
        Ok(())
    }

    /// Records a range that reads as zero, also over a backing file.
    fn zeros(&mut self, disk: u64, length: u64) {
        let length = length.min(self.info.size.saturating_sub(disk));
        match self.zero.last_mut() {
            Some(last) if last.end == disk => last.end += length,
            _ if length == 0 => {}
            _ => self.zero.push(disk..disk + length),
        }
    }

    fn finish(mut self) -> Result<Disk> {
        self.mapping.flush();
        let cluster_size = self.info.cluster_size;
        for Compressed { entry, .. } in &self.compressed {
            // Streams share clusters and even sectors, but only with each other.
            let stream = cluster_size.stream(*entry);
            let length = stream.length.min(self.source.size - stream.offset);
            if let Some((at, other)) = self.mapping.claimed(stream.offset, length) {
                return Err(self
                    .source
                    .wrong(format!("two parts of the image overlap: {other} and a compressed cluster"), at)
                    .expected("every byte to be used once"));
            }
        }
        let cluster = self.info.cluster();
        let size = self.info.size;
        let builder = self.mapping.builder();
        builder.reserve(self.compressed.len());
        let entries = self.compressed.iter().map(|own| own.entry).collect();
        let decoder = self.info.decoder;
        let clusters = Clusters { source: Arc::clone(self.source), entries, cluster_size, decoder };
        let renderer = builder.renderer(Arc::new(clusters));
        for (number, Compressed { disk, .. }) in self.compressed.iter().enumerate() {
            let part = narrow(number, "the number of a compressed cluster")?;
            builder.rendered(Bytes::new(*disk), Bytes::new(cluster.min(size - disk)), renderer, part);
        }
        let compressed = !self.compressed.is_empty();
        Ok(Disk { image: self.mapping.finish()?, zero: self.zero, compressed })
    }
}

/// The compressed clusters of an image, decompressed when they are needed.
#[derive(Debug)]
struct Clusters {
    source: Arc<Source>,
    /// Their level 2 entries.
    entries: Vec<u64>,
    cluster_size: ClusterSize,
    decoder: Decoder,
}

impl Render for Clusters {
    fn render(&self, part: u32, skip: u64, out: &mut [u8]) -> Result<()> {
        let entry = self.entries.get(index(part)).ok_or_else(|| Error::bug("no such compressed cluster"))?;
        let stream = self.cluster_size.stream(*entry);
        let bytes = self.source.read_some(stream.offset, stream.length)?;
        let failed = |why| {
            let what = "a compressed cluster cannot be decompressed";
            self.source.wrong(what, stream.offset).why(why)
        };
        let cluster = usize_of(self.cluster_size.bytes());
        if skip == 0 && out.len() == cluster {
            return self.decoder.decode(&bytes, out).map_err(failed);
        }
        let mut whole = vec![0; cluster];
        self.decoder.decode(&bytes, &mut whole).map_err(failed)?;
        let from = usize_of(skip);
        let part = whole.get(from..from + out.len()).ok_or_else(|| Error::bug("past a cluster's end"))?;
        out.copy_from_slice(part);
        Ok(())
    }

    fn label(&self, part: u32) -> String {
        format!("qcow2: compressed cluster {part}")
    }
}
