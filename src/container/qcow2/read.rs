//! Reading qcow2 of versions 2 and 3 as an image, whoever made it.

use std::path::PathBuf;
use std::sync::Arc;

use super::SECTOR;
use super::format::{
    CLUSTER_BITS, COMPRESSED, COPIED, ClusterSize, EXTENSION_BACKING_FORMAT, HEADER_2,
    INCOMPATIBLE_COMPRESSION, INCOMPATIBLE_CORRUPT, INCOMPATIBLE_DATA_FILE, INCOMPATIBLE_DIRTY,
    INCOMPATIBLE_EXTENDED_L2, LEAST_EXTENDED, LONGEST_BACKING, MAGIC, MOST_L1, MOST_REFCOUNT_ORDER,
    MOST_REFCOUNT_TABLE, REFCOUNT_ORDER, RESERVED_L1, RESERVED_L2, RESERVED_REFCOUNT, ZERO,
};
use crate::container::codec::Decoder;
use crate::container::source::{Mapping, Numbers, Source, shown};
use crate::error::{Error, Kind, Result};
use crate::image::{Image, Render};
use crate::units::{Bytes, index, low32, u64_of, usize_of};

/// What the header says.
#[derive(Clone, Debug)]
pub(in crate::container) struct Info {
    pub(in crate::container) version: u32,
    pub(super) cluster_size: ClusterSize,
    pub(in crate::container) size: u64,
    /// Where the L1 table stands, and how many entries it has.
    pub(super) l1: (u64, u64),
    /// Where the refcount table stands, and how many clusters it has.
    pub(super) refcount_table: (u64, u64),
    /// log2 of the bits of a refcount.
    pub(super) refcount_order: u32,
    incompatible: u64,
    pub(super) autoclear: u64,
    decoder: Decoder,
    /// The backing file as it is written down, and its format where that is said.
    pub(in crate::container) backing: Option<(PathBuf, Option<String>)>,
    pub(in crate::container) snapshots: u32,
}

impl Info {
    /// Bytes of a cluster.
    pub(in crate::container) const fn cluster(&self) -> u64 {
        self.cluster_size.bytes()
    }

    /// `zlib` or `zstd`.
    pub(in crate::container) const fn compression(&self) -> &'static str {
        self.decoder.name()
    }

    /// Whether a writer did not close it: refcounts may be stale.
    pub(super) const fn dirty(&self) -> bool {
        self.incompatible & INCOMPATIBLE_DIRTY != 0
    }

    /// The level 2 entry of a cluster that is zero and has no place.
    pub(super) fn zero_entry(&self) -> Vec<u8> {
        if self.extended() {
            // All 32 parts read as zero (QEMU docs/interop/qcow2.txt, Extended L2 Entries).
            [[0; 8], (u64::from(u32::MAX) << 32).to_be_bytes()].concat()
        } else {
            ZERO.to_be_bytes().to_vec()
        }
    }

    /// Whether level 2 entries describe 32 parts of a cluster.
    pub(super) const fn extended(&self) -> bool {
        self.incompatible & INCOMPATIBLE_EXTENDED_L2 != 0
    }

    /// Reads and checks the header.
    pub(in crate::container) fn read(source: &Source) -> Result<Self> {
        let head = source.read_some(0, 112)?;
        let at = Numbers(&head);
        if at.length() < u64_of(HEADER_2) || at.be32(0) != MAGIC {
            return Err(source
                .wrong(if at.be32(0) == MAGIC { "the header is cut" } else { "this is no qcow2 image" }, 0)
                .expected("QFI and 0xfb")
                .found(shown(&head[..head.len().min(4)])));
        }
        let version = at.be32(4);
        if version != 2 && version != 3 {
            return Err(source.wrong("an unknown version of qcow2", 4).expected("2 or 3").found(version));
        }
        let bits = at.be32(20);
        if !CLUSTER_BITS.contains(&bits) {
            return Err(source.wrong("an impossible cluster size", 20).expected("9 to 21 bits").found(bits));
        }
        let cluster_size = ClusterSize { bits };
        if at.be32(32) != 0 {
            return Err(source.wrong("the image is encrypted", 32).hint("decrypt it with qemu-img first"));
        }
        let three = version == 3;
        let incompatible = if three { at.be64(72) } else { 0 };
        check_features(source, incompatible)?;
        if incompatible & INCOMPATIBLE_EXTENDED_L2 != 0 && bits < LEAST_EXTENDED {
            return Err(source
                .wrong("clusters are too small for extended L2 entries", 20)
                .expected("at least 14 bits")
                .found(bits));
        }
        let header_length = if three { at.be32(100) } else { low32(u64_of(HEADER_2)) };
        // 104 is where version 3 began; later fields follow, in steps of 8.
        if three && (header_length < 104 || u64::from(header_length) > cluster_size.bytes()) {
            return Err(source
                .wrong("an impossible length of the header", 100)
                .expected(format!("104 to {}, a cluster", cluster_size.bytes()))
                .found(header_length));
        }
        let refcount_order = if three { at.be32(96) } else { REFCOUNT_ORDER };
        if refcount_order > MOST_REFCOUNT_ORDER {
            return Err(source
                .wrong("an impossible width of refcounts", 96)
                .expected("an order of at most 6, for 64 bits")
                .found(refcount_order));
        }
        let compression = incompatible & INCOMPATIBLE_COMPRESSION != 0;
        let kind = head.get(104).copied().filter(|_| compression && header_length > 104).unwrap_or(0);
        let decoder = Decoder::of_qcow2(kind).ok_or_else(|| {
            source.wrong("an unknown compression", 104).expected("0 (zlib) or 1 (zstd)").found(kind)
        })?;
        let info = Self {
            version,
            cluster_size,
            size: at.be64(24),
            l1: (at.be64(40), u64::from(at.be32(36))),
            refcount_table: (at.be64(48), u64::from(at.be32(56))),
            refcount_order,
            incompatible,
            autoclear: if three { at.be64(88) } else { 0 },
            decoder,
            backing: backing(source, at, header_length)?,
            snapshots: at.be32(60),
        };
        info.check_tables(source)?;
        Ok(info)
    }

    /// Checks the sizes and places that the header names.
    fn check_tables(&self, source: &Source) -> Result<()> {
        if Bytes::new(self.size) > Bytes::LIMIT {
            return Err(source.wrong("an impossible disk size", 24).found(self.size));
        }
        let (at, entries) = self.l1;
        if entries * 8 > MOST_L1 {
            return Err(source
                .wrong("the L1 table is too large", 36)
                .expected(format!("at most {} entries", MOST_L1 / 8))
                .found(entries));
        }
        let covered = self.covered();
        if entries < self.size.div_ceil(covered) {
            return Err(source
                .wrong("the L1 table is too small for the disk", 36)
                .expected(format!("at least {} entries", self.size.div_ceil(covered)))
                .found(entries));
        }
        if entries > 0 && !Bytes::new(at).is_multiple_of(self.cluster()) {
            return Err(source.wrong("the L1 table is not aligned to a cluster", 40).found(at));
        }
        source.within(at, entries * 8, "the L1 table")?;
        let (at, clusters) = self.refcount_table;
        if clusters.saturating_mul(self.cluster()) > MOST_REFCOUNT_TABLE {
            return Err(source
                .wrong("the refcount table is too large", 56)
                .expected(format!("at most {} clusters", MOST_REFCOUNT_TABLE / self.cluster()))
                .found(clusters));
        }
        if !Bytes::new(at).is_multiple_of(self.cluster()) {
            return Err(source.wrong("the refcount table is not aligned to a cluster", 48).found(at));
        }
        source.within(at, clusters * self.cluster(), "the refcount table")
    }

    /// Bytes of a level 2 entry.
    const fn entry(&self) -> u64 {
        if self.extended() { 16 } else { 8 }
    }

    /// Bytes of the disk that a level 2 table covers.
    pub(super) const fn covered(&self) -> u64 {
        self.cluster() / self.entry() * self.cluster()
    }

    /// The disk, without what a backing file holds; where this image says "zero", the second list says so, since there
    /// a backing file does not show through.
    pub(in crate::container) fn image(&self, source: &Arc<Source>) -> Result<(Image, Vec<(u64, u64)>)> {
        let mut walk = Walk {
            info: self,
            source,
            mapping: Mapping::new(source, self.size),
            compressed: Vec::new(),
            zero: Vec::new(),
        };
        walk.mapping.claim(0, self.cluster(), "the header")?;
        let (table, clusters) = self.refcount_table;
        walk.mapping.claim(table, clusters.saturating_mul(self.cluster()), "the refcount table")?;
        walk.mapping.claim(self.l1.0, (self.l1.1 * 8).next_multiple_of(self.cluster()), "the L1 table")?;
        walk.refcounts()?;
        walk.l1()?;
        walk.finish()
    }
}

/// Refuses what cannot be read.
fn check_features(source: &Source, incompatible: u64) -> Result<()> {
    let refuse = |what: &str, hint: &str| Err(source.wrong(what, 72).hint(hint));
    if incompatible & INCOMPATIBLE_CORRUPT != 0 {
        return refuse("the image is marked as corrupt", "repair it with `qemu-img check -r all`");
    }
    if incompatible & INCOMPATIBLE_DATA_FILE != 0 {
        return refuse("the image keeps its data in another file", "convert it with qemu-img first");
    }
    // A dirty image has refcounts that may be stale; reading does not need them.
    let known = INCOMPATIBLE_DIRTY | INCOMPATIBLE_COMPRESSION | INCOMPATIBLE_EXTENDED_L2;
    if incompatible & !known != 0 {
        return Err(source
            .wrong("the image needs features that are not known", 72)
            .found(format!("bits {:#x}", incompatible & !known)));
    }
    Ok(())
}

/// The backing file's name and format.
fn backing(source: &Source, at: Numbers<'_>, header: u32) -> Result<Option<(PathBuf, Option<String>)>> {
    use std::os::unix::ffi::OsStringExt;
    let (offset, length) = (at.be64(8), u64::from(at.be32(16)));
    if offset == 0 || length == 0 {
        return Ok(None);
    }
    if length > u64_of(LONGEST_BACKING) {
        return Err(source
            .wrong("the backing file's name is too long", 16)
            .expected(LONGEST_BACKING)
            .found(length));
    }
    let name = source.read(offset, length, "the backing file's name")?;
    let mut format = None;
    let mut extension = u64::from(header);
    // Extensions lie between header and name; 64 of them are more than there are kinds.
    for _ in 0..64 {
        if extension.saturating_add(8) > offset {
            break;
        }
        let head = source.read(extension, 8, "a header extension")?;
        let (kind, length) = (Numbers(&head).be32(0), u64::from(Numbers(&head).be32(4)));
        if kind == 0 {
            break;
        }
        if kind == EXTENSION_BACKING_FORMAT && length <= 64 {
            let bytes = source.read(extension + 8, length, "the backing file's format")?;
            format = String::from_utf8(bytes).ok();
        }
        extension = extension.saturating_add(8).saturating_add(length.next_multiple_of(8));
    }
    Ok(Some((PathBuf::from(std::ffi::OsString::from_vec(name)), format)))
}

/// A compressed cluster: where its stream begins, and at most how long it is.
#[derive(Clone, Copy, Debug)]
struct Stream {
    offset: u64,
    length: u64,
}

impl ClusterSize {
    /// The stream that a level 2 entry means.
    const fn stream(self, entry: u64) -> Stream {
        let shift = self.sector_shift();
        let offset = entry & ((1 << shift) - 1);
        let sectors = (entry & !(COPIED | COMPRESSED)) >> shift;
        Stream { offset, length: (sectors + 1) * SECTOR - offset % SECTOR }
    }
}

/// The walk through the tables.
struct Walk<'a> {
    info: &'a Info,
    source: &'a Arc<Source>,
    mapping: Mapping,
    /// Compressed clusters: their place on the disk and their entry.
    compressed: Vec<(u64, u64)>,
    zero: Vec<(u64, u64)>,
}

impl Walk<'_> {
    /// Claims the refcount blocks. What they count is not needed for reading, but nothing else may lie there.
    fn refcounts(&mut self) -> Result<()> {
        let (at, clusters) = self.info.refcount_table;
        let cluster = self.info.cluster();
        let length = clusters * cluster;
        if self.source.is_hole(at, length) {
            return Ok(());
        }
        let table = self.source.read(at, length, "the refcount table")?;
        for (number, entry) in (0..).zip(Numbers(&table).all_be64()) {
            let what = "a refcount block";
            let offset = self.table(entry, RESERVED_REFCOUNT, at + number * 8, what)?;
            if offset != 0 {
                self.source.within(offset, cluster, what)?;
                self.mapping.claim(offset, cluster, what)?;
            }
        }
        Ok(())
    }

    /// Where the cluster lies that an entry at `place` names; 0 for none.
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
        let table = self.source.read(self.info.l1.0, used * 8, "the L1 table")?;
        let cluster = self.info.cluster();
        for (number, entry) in (0..).zip(Numbers(&table).all_be64()) {
            let what = "an L2 table";
            let offset = self.table(entry, RESERVED_L1, self.info.l1.0 + number * 8, what)?;
            if offset == 0 {
                continue;
            }
            self.source.within(offset, cluster, what)?;
            // Before it is read: a table that many entries name would be read as often.
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
        let at = Numbers(&table);
        for slot in 0..cluster / width {
            let disk = number * self.info.covered() + slot * cluster;
            if disk >= self.info.size {
                break;
            }
            let from = usize_of(slot * width);
            let entry = at.be64(from);
            let bitmap = if self.info.extended() { Some(at.be64(from + 8)) } else { None };
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
        self.compressed.push((disk, entry));
        Ok(())
    }

    /// A cluster that is stored as it is; `bitmap` says which 32nds of it are stored and which are zero.
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

    /// Data of this image; what the file does not have of it is zero, and no backing file shows through.
    fn stored(&mut self, disk: u64, length: u64, file: u64) -> Result<()> {
        let there = self.mapping.data(disk, length, file)?;
        if there < length {
            self.zeros(disk + there, length - there);
        }
        Ok(())
    }

    /// Notes a range that reads as zero even over a backing file.
    fn zeros(&mut self, disk: u64, length: u64) {
        let length = length.min(self.info.size.saturating_sub(disk));
        match self.zero.last_mut() {
            Some((start, count)) if *start + *count == disk => *count += length,
            _ if length == 0 => {}
            _ => self.zero.push((disk, length)),
        }
    }

    fn finish(mut self) -> Result<(Image, Vec<(u64, u64)>)> {
        self.mapping.flush();
        let cluster_size = self.info.cluster_size;
        for (_, entry) in &self.compressed {
            // Streams share clusters, and even sectors, but only with each other.
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
        let entries = self.compressed.iter().map(|(_, entry)| *entry).collect();
        let decoder = self.info.decoder;
        let clusters = Clusters { source: Arc::clone(self.source), entries, cluster_size, decoder };
        let renderer = builder.renderer(Arc::new(clusters));
        for (part, (disk, _)) in (0..).zip(&self.compressed) {
            builder.rendered(Bytes::new(*disk), Bytes::new(cluster.min(size - disk)), renderer, part);
        }
        Ok((self.mapping.finish()?, self.zero))
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

/// The error for a backing file that was not allowed.
pub(in crate::container) fn backing_refused(source: &Source, name: &std::path::Path) -> Error {
    Error::new(Kind::Usage, "the image has a backing file")
        .at(&source.path)
        .found(crate::text::printable_path(name))
        .why("an image may name any file of this machine as its backing file")
        .remedy("allow_backing", "allow backing files if you trust it")
}
