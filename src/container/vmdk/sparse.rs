//! Reads a sparse extent of VMDK: a file of grains, compressed or not.

use std::sync::Arc;

use super::descriptor::Descriptor;
use super::format::{
    AT_END, DEFLATE, ENTRIES, FLAG_COMPRESSED, FLAG_MARKERS, FLAG_NEWLINES, FLAG_REDUNDANT, FLAG_ZERO_GRAINS,
    FLAGS_INCOMPATIBLE, GrainMarker, Header, MAGIC, MAGIC_ESX, MAGIC_SE_SPARSE, MARKER_END, MARKER_FOOTER,
    Marker, NEWLINES, SECTOR, ZERO_GRAIN,
};
use super::read::Place;
use crate::container::codec::inflate_whole;
use crate::container::source::{Mapping, Source, le32s, leaked, shown};
use crate::error::{Error, Result};
use crate::image::{Image, Render};
use crate::units::{Bytes, index, u64_of, usize_of};
use crate::wire::Wire;

/// The largest grain in sectors: 2 MiB. VMware writes 64 KiB and reads no larger ones (open-vmdk, sparse.c).
const MOST_GRAIN: u64 = 4096;
/// The largest number of grain tables. With VMware's 512 grains of 64 KiB they make a disk of 1 PiB, 16 times
/// its largest disk. The directory may consist of holes only, and is read in pieces.
const MOST_DIRECTORY: u64 = 1 << 25;
/// How many entries of a grain directory are read at a time.
const PIECE: u64 = 16 << 10;

/// Bytes of the marker before a compressed grain.
const MARKER: u64 = u64_of(GrainMarker::LENGTH);
/// The error about a compressed grain that gives no data.
const UNREADABLE: &str = "a compressed grain cannot be decompressed";

/// The values of the header of a sparse file, or of its footer.
#[derive(Debug)]
pub(super) struct Sparse {
    pub(super) version: u32,
    flags: u32,
    /// Sectors of the disk.
    pub(super) capacity: u64,
    /// Sectors in a grain.
    grain: u64,
    /// The place of the descriptor; an offset of 0 means that there is none.
    pub(super) descriptor: Place,
    /// Entries of a grain table.
    entries: u64,
    /// Byte offsets of the directories; the redundant one may be missing.
    redundant: Option<u64>,
    directory: u64,
    pub(super) compressed: bool,
    /// The place of the footer's marker, if there is a footer.
    footer: Option<u64>,
}

impl Sparse {
    /// Reads and checks the header at the start of the file, or the footer of a stream.
    pub(super) fn read(source: &Source) -> Result<Self> {
        let head = source.read_some(0, SECTOR)?;
        let refuse = |what: &str| {
            Err(source.wrong(what, 0).hint("convert it with VMware's tools or with qemu-img first"))
        };
        if head.starts_with(&MAGIC_ESX.to_le_bytes()) {
            return refuse("the file is a sparse extent of ESX Server, which is not read");
        }
        if head.starts_with(&u64::from(MAGIC_SE_SPARSE).to_le_bytes()) {
            return refuse("the file is a seSparse extent, which is not read");
        }
        if !head.starts_with(&MAGIC.to_le_bytes()) {
            return Err(source
                .wrong("this is no VMDK image", 0)
                .expected("KDMV")
                .found(shown(&head[..head.len().min(4)])));
        }
        source.within(0, SECTOR, "the header")?;
        let header = Header::read(&head)?;
        let first = Self::of(source, 0, &header)?;
        if header.directory_offset == AT_END { Self::footer(source, &first) } else { Ok(first) }
    }

    /// The footer, which has values that were unknown when the header was written: marker, header,
    /// end-of-stream marker.
    fn footer(source: &Source, first: &Self) -> Result<Self> {
        let end = source.size / SECTOR * SECTOR;
        let Some(start) = end.checked_sub(3 * SECTOR).filter(|start| *start > 0) else {
            return Err(source.wrong("the image is truncated: the footer is missing", source.size));
        };
        let [before, own, after] = [start, start + SECTOR, start + 2 * SECTOR];
        let (before, after): (Marker, Marker) = (source.structure(before)?, source.structure(after)?);
        let bytes = source.read(own, SECTOR, "the footer")?;
        let is_footer = (before.size, before.kind) == (0, MARKER_FOOTER);
        if !is_footer || after != Marker::new(MARKER_END, 0) || !bytes.starts_with(&MAGIC.to_le_bytes()) {
            return Err(source
                .wrong("the image is truncated: its last three sectors are no footer", start)
                .expected("a footer marker, a header, and an end-of-stream marker"));
        }
        let header = Header::read(&bytes)?;
        let last = Self::of(source, own, &header)?;
        let facts = |sparse: &Self| (sparse.capacity, sparse.grain, sparse.entries, sparse.compressed);
        if facts(first) != facts(&last) {
            return Err(source
                .wrong("the footer contradicts the header", own)
                .expected(format!("capacity, grain, entries, compression {:?}", facts(first)))
                .found(format!("{:?}", facts(&last))));
        }
        if header.directory_offset == AT_END {
            let what = "the footer does not say where the grain directory is";
            return Err(source.wrong_in::<Header>(what, own, "gdOffset"));
        }
        Ok(Self { footer: Some(start), descriptor: first.descriptor, ..last })
    }

    /// The values of a header at `place`.
    fn of(source: &Source, place: u64, header: &Header) -> Result<Self> {
        let wrong = |what: &str, field: &str| source.wrong_in::<Header>(what, place, field);
        let Header { version, flags, capacity, grain_size: grain, entries, .. } = *header;
        if !(1..=3).contains(&version) {
            return Err(wrong("an unknown version of VMDK", "version").expected("1 to 3").found(version));
        }
        let unknown = flags & FLAGS_INCOMPATIBLE & !(FLAG_COMPRESSED | FLAG_MARKERS);
        if unknown != 0 {
            let what = "the image needs features that are not known";
            return Err(wrong(what, "flags").found(format!("{unknown:#x}")));
        }
        if flags & FLAG_NEWLINES != 0 && header.newlines != NEWLINES {
            return Err(wrong("the image was changed by a transfer as text", "newline detector")
                .expected(format!("{NEWLINES:02x?}"))
                .found(format!("{:02x?}", header.newlines)));
        }
        if capacity > Bytes::LIMIT.get() / SECTOR {
            let what = "an impossible disk size";
            return Err(wrong(what, "capacity").expected("less than 8 EiB").found(capacity));
        }
        if !grain.is_power_of_two() || grain > MOST_GRAIN {
            return Err(wrong("an impossible grain size", "grainSize")
                .expected(format!("a power of two of sectors up to {MOST_GRAIN}"))
                .found(grain));
        }
        if entries == 0 || u64::from(entries) > ENTRIES {
            return Err(wrong("an impossible length of grain tables", "numGTEsPerGT")
                .expected(format!("1 to {ENTRIES} entries"))
                .found(entries));
        }
        let compressed = flags & FLAG_COMPRESSED != 0;
        if header.algorithm != if compressed { DEFLATE } else { 0 } {
            let expected = if compressed { "1 (deflate)" } else { "0 (none)" };
            let error = wrong("an unknown compression", "compressAlgorithm");
            return Err(error.expected(expected).found(header.algorithm));
        }
        if compressed != (flags & FLAG_MARKERS != 0) {
            return Err(wrong("compressed grains and markers come together or not at all", "flags")
                .expected("bits 16 and 17")
                .found(format!("{flags:#x}")));
        }
        let bytes = |sectors: u64| sectors.saturating_mul(SECTOR);
        Ok(Self {
            version,
            flags,
            capacity,
            grain,
            descriptor: Place {
                offset: bytes(header.descriptor_offset),
                length: bytes(header.descriptor_size),
            },
            entries: u64::from(entries),
            redundant: (flags & FLAG_REDUNDANT != 0).then(|| bytes(header.redundant_offset)),
            directory: bytes(header.directory_offset),
            compressed,
            footer: None,
        })
    }

    /// Takes the size from the descriptor if the header's size is that size rounded up to whole grains, as
    /// VirtualBox does.
    pub(super) fn take_size(&mut self, source: &Source, descriptor: &Descriptor, at: u64) -> Result<()> {
        let [extent] = descriptor.extents.as_slice() else {
            return Err(source
                .wrong("the descriptor inside a disk names other parts", at)
                .expected("one extent, this file")
                .found(descriptor.extents.len()));
        };
        if extent.sectors.next_multiple_of(self.grain) == self.capacity && extent.sectors > 0 {
            self.capacity = extent.sectors;
        }
        Ok(())
    }

    pub(super) const fn grain_bytes(&self) -> u64 {
        self.grain * SECTOR
    }

    const fn size(&self) -> u64 {
        self.capacity * SECTOR
    }

    /// Bytes of a grain table.
    const fn table_bytes(&self) -> u64 {
        self.entries * 4
    }

    /// The disk.
    pub(super) fn image(&self, source: &Arc<Source>) -> Result<Image> {
        let mapping = Mapping::sparse(source, self.size());
        let mut walk = Walk { sparse: self, source, mapping, grains: Vec::new() };
        walk.mapping.claim(0, SECTOR, "the header")?;
        walk.mapping.claim(self.descriptor.offset, self.descriptor.length, "the descriptor")?;
        if let Some(footer) = self.footer {
            walk.mapping.claim(footer, 3 * SECTOR, "the footer")?;
        }
        if let Some(redundant) = self.redundant {
            walk.directory(redundant, &REDUNDANT)?;
        }
        walk.directory(self.directory, &USED)?;
        walk.finish()
    }
}

/// The faults of a sparse file that opens: a copy of the tables that differs, and bytes that belong to nothing.
///
/// # Errors
/// Where the file cannot be read.
pub(super) fn check(source: &Source) -> Result<Vec<String>> {
    let sparse = Sparse::read(source)?;
    let header: Header = source.structure(0)?;
    let mut faults = Vec::new();
    if header.unclean_shutdown != 0 {
        faults.push("it was not closed (uncleanShutdown)".to_owned());
    }
    let count = sparse.capacity.div_ceil(sparse.entries * sparse.grain).min(MOST_DIRECTORY);
    let length = sparse.table_bytes();
    let (mut tables, mut grains, mut differ) = (0_u64, 0_u64, 0_u64);
    source.table(sparse.directory, count, USED.directory, |first, entries| {
        for (number, sector) in (first..).zip(le32s(entries)) {
            let table =
                source.read(u64::from(sector) * SECTOR, if sector == 0 { 0 } else { length }, USED.table)?;
            tables += u64::from(sector != 0);
            grains += u64_of(le32s(&table).filter(|grain| *grain > ZERO_GRAIN).count());
            let Some(redundant) = sparse.redundant else { continue };
            let copy = source.read(redundant + number * 4, 4, REDUNDANT.directory)?;
            let copy = u64::from(le32s(&copy).next().unwrap_or(0)) * SECTOR;
            let copy = source.read(copy, if copy == 0 { 0 } else { length }, REDUNDANT.table)?;
            differ += u64::from(copy != table);
        }
        Ok(())
    })?;
    if differ > 0 {
        faults.push(format!("{differ} redundant grain tables differ from the grain tables"));
    }
    if !sparse.compressed {
        let copies = 1 + u64::from(sparse.redundant.is_some());
        let overhead = header.overhead.saturating_mul(SECTOR);
        let own = copies * (count * 4).next_multiple_of(SECTOR)
            + copies * tables * length
            + sparse.descriptor.length;
        let used = overhead.max(own) + grains * sparse.grain_bytes();
        faults.extend(leaked(source.size, used, sparse.grain_bytes()));
    }
    Ok(faults)
}

/// Names of the parts of a directory for errors. The tables of the redundant one are not read.
struct Names {
    directory: &'static str,
    table: &'static str,
    read: bool,
}

const REDUNDANT: Names =
    Names { directory: "the redundant grain directory", table: "a redundant grain table", read: false };
const USED: Names = Names { directory: "the grain directory", table: "a grain table", read: true };

/// The walk through the tables.
struct Walk<'a> {
    sparse: &'a Sparse,
    source: &'a Arc<Source>,
    mapping: Mapping,
    grains: Vec<Grain>,
}

/// A compressed grain: its number on the disk, and its sector in the file.
#[derive(Clone, Copy, Debug)]
struct Grain {
    number: u64,
    sector: u32,
}

impl Grain {
    /// The place of its marker in the file.
    fn offset(self) -> u64 {
        u64::from(self.sector) * SECTOR
    }
}

impl Walk<'_> {
    fn directory(&mut self, at: u64, names: &Names) -> Result<()> {
        let count = self.sparse.capacity.div_ceil(self.sparse.entries * self.sparse.grain);
        if count > MOST_DIRECTORY {
            return Err(self
                .source
                .wrong_in::<Header>("an impossible length of the grain directory", 0, "capacity")
                .expected(format!("at most {MOST_DIRECTORY} tables"))
                .found(format!("{count}, of {} grains each", self.sparse.entries)));
        }
        self.source.within(at, count * 4, names.directory)?;
        self.mapping.claim(at, (count * 4).next_multiple_of(SECTOR), names.directory)?;
        let mut first = 0;
        while first < count {
            let length = PIECE.min(count - first) * 4;
            let place = at + first * 4;
            if !self.source.is_hole(place, length) {
                let entries = self.source.read(place, length, names.directory)?;
                for (number, sector) in (first..).zip(le32s(&entries)) {
                    self.named_table(number, sector, names)?;
                }
            }
            first += PIECE;
        }
        Ok(())
    }

    /// The grain table of an entry of a directory.
    fn named_table(&mut self, number: u64, sector: u32, names: &Names) -> Result<()> {
        if sector == 0 {
            return Ok(());
        }
        let (offset, length) = (u64::from(sector) * SECTOR, self.sparse.table_bytes());
        self.source.within(offset, length, names.table)?;
        // Before the table is read: otherwise a table that many entries refer to would be read many times.
        self.mapping.claim(offset, length.next_multiple_of(SECTOR), names.table)?;
        if names.read && !self.source.is_hole(offset, length) {
            let table = self.source.read(offset, length, names.table)?;
            for (slot, sector) in (number * self.sparse.entries..).zip(le32s(&table)) {
                self.grain(slot, sector)?;
            }
        }
        Ok(())
    }

    /// Grain `number` of the disk, whose table entry is `sector`.
    fn grain(&mut self, number: u64, sector: u32) -> Result<()> {
        let size = self.sparse.grain_bytes();
        let disk = number * size;
        let zero = sector == ZERO_GRAIN && self.sparse.flags & FLAG_ZERO_GRAINS != 0;
        if sector == 0 || zero || disk >= self.sparse.size() {
            return Ok(());
        }
        let offset = u64::from(sector) * SECTOR;
        if self.sparse.compressed {
            self.source.within(offset, MARKER, "a compressed grain")?;
            self.grains.push(Grain { number, sector });
            return Ok(());
        }
        self.mapping.claim(offset, size, "data")?;
        self.mapping.data(disk, size, offset)?;
        Ok(())
    }

    fn finish(mut self) -> Result<Image> {
        self.mapping.flush();
        for grain in &self.grains {
            // Two grains cannot share a stream, because the stream names its grain.
            if let Some((at, other)) = self.mapping.claimed(grain.offset(), MARKER) {
                return Err(self
                    .source
                    .wrong(format!("two parts of the image overlap: {other} and a compressed grain"), at)
                    .expected("every byte to be used once"));
            }
        }
        let (size, grain) = (self.sparse.size(), self.sparse.grain_bytes());
        let places: Vec<u64> = self.grains.iter().map(|own| own.number * grain).collect();
        let grains =
            Grains { source: Arc::clone(self.source), grains: self.grains, grain: self.sparse.grain, size };
        let builder = self.mapping.builder();
        builder.reserve(places.len());
        let renderer = builder.renderer(Arc::new(grains));
        for (part, disk) in places.into_iter().enumerate() {
            let part = u32::try_from(part).map_err(|_| self.source.wrong("too many compressed grains", 0))?;
            builder.rendered(Bytes::new(disk), Bytes::new(grain.min(size - disk)), renderer, part);
        }
        self.mapping.finish()
    }
}

/// The compressed grains of a stream, decompressed when they are needed.
#[derive(Debug)]
struct Grains {
    source: Arc<Source>,
    grains: Vec<Grain>,
    /// Sectors in a grain.
    grain: u64,
    /// Length of the disk in bytes.
    size: u64,
}

impl Grains {
    /// Decompresses a grain and returns the number of its bytes.
    fn inflate(&self, grain: Grain, whole: &mut [u8]) -> Result<usize> {
        let offset = grain.offset();
        let wrong = |what: &str, field: &str| self.source.wrong_in::<GrainMarker>(what, offset, field);
        let marker: GrainMarker = self.source.structure(offset)?;
        let expected = grain.number * self.grain;
        if marker.sector != expected {
            return Err(wrong("a compressed grain belongs elsewhere on the disk", "lba")
                .expected(format!("sector {expected}"))
                .found(marker.sector));
        }
        // A stream is hardly longer than a grain; QEMU and VirtualBox allow twice that.
        let (length, most) = (u64::from(marker.size), 2 * self.grain * SECTOR);
        if length == 0 || length > most {
            return Err(wrong("an impossible length of a compressed grain", "size")
                .expected(format!("1 to {most} bytes"))
                .found(length));
        }
        let bytes = self.source.read(offset + MARKER, length, "a compressed grain")?;
        let failed = |why| self.source.wrong(UNREADABLE, offset + MARKER).why(why);
        inflate_whole(&bytes, whole).map_err(failed)
    }
}

impl Render for Grains {
    fn render(&self, part: u32, skip: u64, out: &mut [u8]) -> Result<()> {
        let grain = *self.grains.get(index(part)).ok_or_else(|| Error::bug("no such compressed grain"))?;
        let bytes = self.grain * SECTOR;
        let mut whole = vec![0; usize_of(bytes)];
        let length = self.inflate(grain, &mut whole)?;
        // The last grain may end with the disk.
        let needed = usize_of(bytes.min(self.size.saturating_sub(grain.number * bytes)));
        if length < needed {
            return Err(self
                .source
                .wrong(UNREADABLE, grain.offset() + MARKER)
                .expected(format!("{needed} bytes"))
                .found(format!("{length} bytes")));
        }
        let from = usize_of(skip);
        let part = whole.get(from..from + out.len()).ok_or_else(|| Error::bug("past a grain's end"))?;
        out.copy_from_slice(part);
        Ok(())
    }

    fn label(&self, part: u32) -> String {
        format!("vmdk: compressed grain {part}")
    }
}
