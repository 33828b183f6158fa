//! Reading VMDK as an image, whoever made it: sparse files and streams with a descriptor inside, and disks whose
//! descriptor is a file of its own.

use std::sync::Arc;

use uuid::Uuid;

use super::descriptor::{Adapter, Descriptor, Extent, Wrong};
use super::format::{
    AT_END, DEFLATE, ENTRIES, FLAG_COMPRESSED, FLAG_MARKERS, FLAG_NEWLINES, FLAG_REDUNDANT, FLAG_ZERO_GRAINS,
    FLAGS_INCOMPATIBLE, GRAIN_MARKER, MAGIC, MAGIC_ESX, MAGIC_SE_SPARSE, MARKER_END, MARKER_FOOTER, NEWLINES,
    SECTOR, ZERO_GRAIN,
};
use crate::container::Subformat;
use crate::container::codec::inflate_whole;
use crate::container::source::{Mapping, Numbers, Source, shown};
use crate::error::{Error, Kind, Result};
use crate::image::{Builder, Image, Render};
use crate::text::printable;
use crate::units::{Bytes, index, usize_of};

/// What a descriptor file begins with; writers do not agree on its case.
const TITLE: &[u8] = b"# Disk Descriptor";
/// The byte order mark of UTF-8, which editors put before a text.
pub(super) const MARK: &[u8] = b"\xef\xbb\xbf";
/// The longest descriptor: a line for each 2 GiB of 2 TiB needs half of it (VirtualBox takes no longer one either).
const LONGEST_DESCRIPTOR: u64 = 128 << 10;
/// The largest grain, in sectors: 2 MiB. VMware writes 64 KiB and reads no more (open-vmdk, sparse.c).
const MOST_GRAIN: u64 = 4096;
/// The most grain tables: of 512 grains of 64 KiB, as VMware has them, so many are a disk of 1 PiB, 16 times its largest.
/// The directory can be all hole, and is looked through in pieces.
const MOST_DIRECTORY: u64 = 1 << 25;
/// Entries of a grain directory that are read at a time.
const PIECE: u64 = 16 << 10;

/// Whether the first bytes of a file are those of a VMDK, or of a relative that is refused by name.
pub(in crate::container) fn detect(head: &[u8]) -> bool {
    [MAGIC, MAGIC_ESX].contains(&Numbers(head).le32(0))
        || Numbers(head).le64(0) == u64::from(MAGIC_SE_SPARSE)
        || is_descriptor(head)
}

/// Whether a text is the descriptor of a disk: by its title, or, behind comments, by its version (QEMU block/vmdk.c,
/// vmdk_probe).
pub(in crate::container) fn is_descriptor(text: &[u8]) -> bool {
    let text = text.strip_prefix(MARK).unwrap_or(text);
    if text.get(..TITLE.len()).is_some_and(|title| title.eq_ignore_ascii_case(TITLE)) {
        return true;
    }
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let first = lines.into_iter().find(|line| !line.is_empty() && !line.starts_with(b"#"));
    let value = first.and_then(|line| line.strip_prefix(b"version"));
    value.is_some_and(|value| matches!(value.trim_ascii(), [b'=', rest @ ..] if rest.trim_ascii_start().first().is_some_and(u8::is_ascii_digit)))
}

/// A disk: in the file itself, or in others that it names.
#[derive(Debug)]
pub(in crate::container) struct Disk {
    descriptor: Descriptor,
    /// Where the descriptor begins.
    descriptor_at: u64,
    /// `None` where the file is only a descriptor.
    sparse: Option<Sparse>,
}

impl Disk {
    /// Reads and checks header and descriptor.
    pub(in crate::container) fn read(source: &Source) -> Result<Self> {
        let head = source.read_some(0, SECTOR)?;
        if is_descriptor(&head) {
            return Self::with(source, 0, source.size, None);
        }
        let sparse = Sparse::read(source)?;
        let (at, length) = sparse.descriptor;
        // QEMU keeps room for a descriptor in parts too, and leaves it empty.
        if at == 0 || (sparse.capacity > 0 && source.read(at, 1, "the descriptor")? == [0]) {
            return Err(source
                .wrong("the file is a part of a disk, without a descriptor", 28)
                .expected("the sector of a descriptor")
                .found(format!("sector {}{}", at / SECTOR, if at == 0 { "" } else { ", which is empty" }))
                .hint("open the small file that names its parts"));
        }
        // A file that is only a descriptor may have a header all the same (QEMU block/vmdk.c).
        let sparse = Some(sparse).filter(|sparse| sparse.capacity > 0);
        let mut disk = Self::with(source, at, length, sparse)?;
        if let Some(sparse) = &mut disk.sparse {
            sparse.take_size(source, &disk.descriptor, at)?;
        }
        Ok(disk)
    }

    fn with(source: &Source, at: u64, length: u64, sparse: Option<Sparse>) -> Result<Self> {
        if length == 0 || length > LONGEST_DESCRIPTOR {
            return Err(source
                .wrong("an impossible length of the descriptor", at)
                .expected(format!("1 to {LONGEST_DESCRIPTOR} bytes"))
                .found(length));
        }
        let text = source.read(at, length, "the descriptor")?;
        let descriptor = Descriptor::parse(&text).map_err(|Wrong { offset, what, expected, found }| {
            source.wrong(what, at + offset).expected(expected).found(found)
        })?;
        if let Some(parent) = &descriptor.parent {
            let named = descriptor.parent_hint.as_ref();
            return Err(source
                .wrong(
                    "the image holds only what changed since another one: it is a snapshot or a linked clone",
                    at,
                )
                .expected("parentCID=ffffffff")
                .found(format!(
                    "parentCID={parent}{}",
                    named.map_or(String::new(), |name| format!(", {name}"))
                ))
                .hint("merge it with its parents first: `qemu-img convert` or vmware-vdiskmanager -r"));
        }
        Ok(Self { descriptor, descriptor_at: at, sparse })
    }

    /// More about it, for people.
    pub(in crate::container) fn details(&self) -> Vec<(&'static str, String)> {
        let mut details = vec![("subformat", self.descriptor.create_type.clone())];
        if let Some(sparse) = &self.sparse {
            details.push(("version", sparse.version.to_string()));
            details.push(("grain size", sparse.grain_bytes().to_string()));
            details.push(("compression type", if sparse.compressed { "zlib" } else { "none" }.to_owned()));
        } else {
            details.push(("extents", self.descriptor.extents.len().to_string()));
        }
        details.extend(self.descriptor.adapter.iter().map(|adapter| ("adapter type", adapter.to_string())));
        details
    }

    /// The controller that it is meant for.
    pub(in crate::container) const fn adapter(&self) -> Option<Adapter> {
        self.descriptor.adapter
    }

    /// The id by which VirtualBox knows it.
    pub(in crate::container) fn id(&self) -> Option<Uuid> {
        self.descriptor.image.filter(|id| !id.is_nil())
    }

    /// The kind, of those that can be written.
    pub(in crate::container) fn subformat(&self) -> Option<Subformat> {
        let sparse = self.sparse.as_ref()?;
        Some(if sparse.compressed { Subformat::StreamOptimized } else { Subformat::MonolithicSparse })
    }

    /// The name of the first file that holds a part of the disk, where that is another one.
    pub(in crate::container) fn part(&self) -> Option<&[u8]> {
        let mut names = self.descriptor.extents.iter().map(|extent| extent.name.as_slice());
        if self.sparse.is_some() { None } else { names.find(|name| !name.is_empty()) }
    }

    /// The disk. `open` opens the files that hold its parts.
    pub(in crate::container) fn image(
        &self,
        source: &Arc<Source>,
        open: &mut dyn FnMut(&[u8]) -> Result<Arc<Source>>,
    ) -> Result<Image> {
        if let Some(sparse) = &self.sparse {
            return sparse.image(source);
        }
        let wrong = |extent: &Extent, what: &str| source.wrong(what, self.descriptor_at + extent.offset);
        let mut parts = Vec::new();
        let mut size = 0_u64;
        for extent in &self.descriptor.extents {
            let length = extent.sectors.checked_mul(SECTOR).filter(|length| *length > 0);
            let end = length.and_then(|length| size.checked_add(length));
            let Some(end) = end.filter(|end| Bytes::new(*end) <= Bytes::LIMIT) else {
                return Err(wrong(extent, "an impossible size of an extent").found(extent.sectors));
            };
            let mut part = |image: fn(&Arc<Source>, &Extent) -> Result<Image>| {
                let file = open(&extent.name)?;
                image(&file, extent).map_err(|error| error.at(&source.path)).map(Some)
            };
            let part = match extent.kind.as_str() {
                "ZERO" => None,
                "FLAT" | "VMFS" => part(flat)?,
                "SPARSE" => part(sparse_part)?,
                other => {
                    return Err(wrong(extent, "an extent of a kind that is not known")
                        .expected("SPARSE, FLAT, VMFS or ZERO")
                        .found(printable(other.as_bytes()))
                        .hint("convert it with VMware's tools or with qemu-img first"));
                }
            };
            parts.extend(part.map(|part| (size, part)));
            size = end;
        }
        if self.descriptor.extents.is_empty() {
            return Err(source.wrong("the descriptor names no extent", self.descriptor_at));
        }
        let mut whole = Builder::new(Bytes::new(size));
        for (start, part) in parts {
            whole.put(Bytes::new(start), &part.whole());
        }
        whole.finish()
    }
}

/// The error for a disk whose parts were not allowed.
pub(in crate::container) fn parts_refused(source: &Source, name: &[u8]) -> Error {
    Error::new(Kind::Usage, "the image is a descriptor; its data lies in other files")
        .at(&source.path)
        .found(printable(name))
        .why("a descriptor may name any file of this machine")
        .remedy("allow_backing", "allow the files that it names if you trust it")
}

/// The part of a raw file that an extent is.
fn flat(source: &Arc<Source>, extent: &Extent) -> Result<Image> {
    let (start, length) = (extent.start.saturating_mul(SECTOR), extent.sectors.saturating_mul(SECTOR));
    source.within(start, length, "an extent")?;
    let mut mapping = Mapping::sparse(source, length);
    mapping.data(0, length, start)?;
    mapping.finish()
}

/// A sparse file as an extent.
fn sparse_part(source: &Arc<Source>, extent: &Extent) -> Result<Image> {
    let mut sparse = Sparse::read(source)?;
    if extent.sectors > sparse.capacity {
        return Err(source
            .wrong("an extent is smaller than the descriptor says", 12)
            .expected(format!("at least {} sectors", extent.sectors))
            .found(sparse.capacity));
    }
    sparse.capacity = extent.sectors;
    sparse.image(source)
}

/// What the header of a sparse file says, or its footer.
#[derive(Debug)]
struct Sparse {
    version: u32,
    flags: u32,
    /// Sectors of the disk.
    capacity: u64,
    /// Sectors of a grain.
    grain: u64,
    /// Where the descriptor stands, and how long it is, in bytes; 0 where there is none.
    descriptor: (u64, u64),
    /// Entries of a grain table.
    entries: u64,
    /// Bytes; the redundant one where there is one.
    redundant: Option<u64>,
    directory: u64,
    compressed: bool,
    /// Where the footer's marker stands, if there is a footer.
    footer: Option<u64>,
}

impl Sparse {
    fn read(source: &Source) -> Result<Self> {
        let head = source.read_some(0, SECTOR)?;
        let at = Numbers(&head);
        let refuse = |what: &str| {
            Err(source.wrong(what, 0).hint("convert it with VMware's tools or with qemu-img first"))
        };
        match at.le32(0) {
            MAGIC_ESX => return refuse("the file is a sparse extent of ESX Server, which is not read"),
            MAGIC_SE_SPARSE if at.le32(4) == 0 => {
                return refuse("the file is a seSparse extent, which is not read");
            }
            MAGIC if at.length() == SECTOR => {}
            MAGIC => return source.within(0, SECTOR, "the header").and(refuse("the header is cut")),
            _ => {
                return Err(source
                    .wrong("this is no VMDK image", 0)
                    .expected("KDMV")
                    .found(shown(&head[..head.len().min(4)])));
            }
        }
        let first = Self::header(source, 0, at)?;
        if at.le64(56) != AT_END {
            return Ok(first);
        }
        Self::footer(source, &first)
    }

    /// The footer, which says what the header could not know yet: marker, header, end-of-stream marker.
    fn footer(source: &Source, first: &Self) -> Result<Self> {
        let end = source.size / SECTOR * SECTOR;
        let Some(start) = end.checked_sub(3 * SECTOR).filter(|start| *start > 0) else {
            return Err(source.wrong("the image is truncated: the footer is missing", source.size));
        };
        let bytes = source.read(start, 3 * SECTOR, "the footer")?;
        let (sector, at) = (usize_of(SECTOR), Numbers(&bytes));
        let is_marker = |from: usize, kind: u32| at.le32(from + 8) == 0 && at.le32(from + 12) == kind;
        let is_end = at.le64(2 * sector) == 0 && is_marker(2 * sector, MARKER_END);
        if !is_marker(0, MARKER_FOOTER) || at.le32(sector) != MAGIC || !is_end {
            return Err(source
                .wrong("the image is truncated: its last three sectors are no footer", start)
                .expected("a footer marker, a header, and an end-of-stream marker"));
        }
        let footer = Numbers(&bytes[sector..2 * sector]);
        let last = Self::header(source, start + SECTOR, footer)?;
        let facts = |sparse: &Self| (sparse.capacity, sparse.grain, sparse.entries, sparse.compressed);
        if facts(first) != facts(&last) {
            return Err(source
                .wrong("the footer contradicts the header", start + SECTOR)
                .expected(format!("capacity, grain, entries, compression {:?}", facts(first)))
                .found(format!("{:?}", facts(&last))));
        }
        if footer.le64(56) == AT_END {
            return Err(
                source.wrong("the footer does not say where the grain directory is", start + SECTOR + 56)
            );
        }
        Ok(Self { footer: Some(start), descriptor: first.descriptor, ..last })
    }

    /// A header that stands at `place`.
    fn header(source: &Source, place: u64, at: Numbers<'_>) -> Result<Self> {
        let wrong = |what: &str, field: u64| source.wrong(what, place + field);
        let (version, flags) = (at.le32(4), at.le32(8));
        if !(1..=3).contains(&version) {
            return Err(wrong("an unknown version of VMDK", 4).expected("1 to 3").found(version));
        }
        let unknown = flags & FLAGS_INCOMPATIBLE & !(FLAG_COMPRESSED | FLAG_MARKERS);
        if unknown != 0 {
            return Err(
                wrong("the image needs features that are not known", 8).found(format!("{unknown:#x}"))
            );
        }
        if flags & FLAG_NEWLINES != 0 && at.0.get(73..77) != Some(&NEWLINES[..]) {
            return Err(wrong("the image was changed by a transfer as text", 73)
                .expected(format!("{NEWLINES:02x?}"))
                .found(format!("{:02x?}", at.0.get(73..77).unwrap_or_default())));
        }
        let (capacity, grain, entries) = (at.le64(12), at.le64(20), at.le32(44));
        if capacity > Bytes::LIMIT.get() / SECTOR {
            return Err(wrong("an impossible disk size", 12).expected("less than 8 EiB").found(capacity));
        }
        if !grain.is_power_of_two() || grain > MOST_GRAIN {
            return Err(wrong("an impossible grain size", 20)
                .expected(format!("a power of two of sectors up to {MOST_GRAIN}"))
                .found(grain));
        }
        if entries == 0 || u64::from(entries) > ENTRIES {
            return Err(wrong("an impossible length of grain tables", 44)
                .expected(format!("1 to {ENTRIES} entries"))
                .found(entries));
        }
        let algorithm = at.le16(77);
        let compressed = flags & FLAG_COMPRESSED != 0;
        if algorithm != if compressed { DEFLATE } else { 0 } {
            let expected = if compressed { "1 (deflate)" } else { "0 (none)" };
            return Err(wrong("an unknown compression", 77).expected(expected).found(algorithm));
        }
        if compressed != (flags & FLAG_MARKERS != 0) {
            return Err(wrong("compressed grains and markers come together or not at all", 8)
                .expected("bits 16 and 17")
                .found(format!("{flags:#x}")));
        }
        let bytes = |sector: u64| sector.saturating_mul(SECTOR);
        Ok(Self {
            version,
            flags,
            capacity,
            grain,
            descriptor: (bytes(at.le64(28)), bytes(at.le64(36))),
            entries: u64::from(entries),
            redundant: (flags & FLAG_REDUNDANT != 0).then(|| bytes(at.le64(48))),
            directory: bytes(at.le64(56)),
            compressed,
            footer: None,
        })
    }

    /// The size that the descriptor says, where the header's is that in whole grains: VirtualBox rounds it up.
    fn take_size(&mut self, source: &Source, descriptor: &Descriptor, at: u64) -> Result<()> {
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

    const fn grain_bytes(&self) -> u64 {
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
    fn image(&self, source: &Arc<Source>) -> Result<Image> {
        let mapping = Mapping::sparse(source, self.size());
        let mut walk = Walk { sparse: self, source, mapping, grains: Vec::new() };
        walk.mapping.claim(0, SECTOR, "the header")?;
        walk.mapping.claim(self.descriptor.0, self.descriptor.1, "the descriptor")?;
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

/// What the parts of a directory are called; the redundant one's tables are not read.
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
    /// Compressed grains: their numbers on the disk, and their sectors in the file.
    grains: Vec<(u64, u32)>,
}

impl Walk<'_> {
    fn directory(&mut self, at: u64, names: &Names) -> Result<()> {
        let count = self.sparse.capacity.div_ceil(self.sparse.entries * self.sparse.grain);
        if count > MOST_DIRECTORY {
            return Err(self
                .source
                .wrong("an impossible length of the grain directory", 12)
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
                for (number, sector) in (first..).zip(Numbers(&entries).all_le32()) {
                    self.named_table(number, sector, names)?;
                }
            }
            first += PIECE;
        }
        Ok(())
    }

    /// The grain table that an entry of a directory names.
    fn named_table(&mut self, number: u64, sector: u32, names: &Names) -> Result<()> {
        if sector == 0 {
            return Ok(());
        }
        let (offset, length) = (u64::from(sector) * SECTOR, self.sparse.table_bytes());
        self.source.within(offset, length, names.table)?;
        // Before it is read: a table that many entries name would be read as often.
        self.mapping.claim(offset, length.next_multiple_of(SECTOR), names.table)?;
        if names.read && !self.source.is_hole(offset, length) {
            let table = self.source.read(offset, length, names.table)?;
            for (slot, sector) in (number * self.sparse.entries..).zip(Numbers(&table).all_le32()) {
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
            self.source.within(offset, GRAIN_MARKER, "a compressed grain")?;
            self.grains.push((number, sector));
            return Ok(());
        }
        self.mapping.claim(offset, size, "data")?;
        self.mapping.data(disk, size, offset)?;
        Ok(())
    }

    fn finish(mut self) -> Result<Image> {
        self.mapping.flush();
        for (_, sector) in &self.grains {
            // Two grains cannot share a stream: it says which one it is.
            if let Some((at, other)) = self.mapping.claimed(u64::from(*sector) * SECTOR, GRAIN_MARKER) {
                return Err(self
                    .source
                    .wrong(format!("two parts of the image overlap: {other} and a compressed grain"), at)
                    .expected("every byte to be used once"));
            }
        }
        let (size, grain) = (self.sparse.size(), self.sparse.grain_bytes());
        let places: Vec<u64> = self.grains.iter().map(|(number, _)| number * grain).collect();
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
    /// Their numbers on the disk, and their sectors in the file.
    grains: Vec<(u64, u32)>,
    /// Sectors of a grain.
    grain: u64,
    /// Bytes of the disk.
    size: u64,
}

impl Grains {
    /// Decompresses grain `number` of the disk, whose marker stands at `offset`, and returns how much of it there is.
    fn inflate(&self, number: u64, offset: u64, whole: &mut [u8]) -> Result<usize> {
        let wrong = |what: &str, field: u64| self.source.wrong(what, offset + field);
        let marker = self.source.read(offset, GRAIN_MARKER, "a compressed grain")?;
        let (sector, length) = (Numbers(&marker).le64(0), u64::from(Numbers(&marker).le32(8)));
        if sector != number * self.grain {
            return Err(wrong("a compressed grain belongs elsewhere on the disk", 0)
                .expected(format!("sector {}", number * self.grain))
                .found(sector));
        }
        // Streams are about as long as a grain at most; QEMU and VirtualBox take twice that.
        let most = 2 * self.grain * SECTOR;
        if length == 0 || length > most {
            return Err(wrong("an impossible length of a compressed grain", 8)
                .expected(format!("1 to {most} bytes"))
                .found(length));
        }
        let bytes = self.source.read(offset + GRAIN_MARKER, length, "a compressed grain")?;
        let failed = |why| wrong("a compressed grain cannot be decompressed", GRAIN_MARKER).why(why);
        inflate_whole(&bytes, whole).map_err(failed)
    }
}

impl Render for Grains {
    fn render(&self, part: u32, skip: u64, out: &mut [u8]) -> Result<()> {
        let (number, sector) =
            *self.grains.get(index(part)).ok_or_else(|| Error::bug("no such compressed grain"))?;
        let bytes = self.grain * SECTOR;
        let mut whole = vec![0; usize_of(bytes)];
        let offset = u64::from(sector) * SECTOR;
        let length = self.inflate(number, offset, &mut whole)?;
        // The last grain may end with the disk.
        let needed = usize_of(bytes.min(self.size.saturating_sub(number * bytes)));
        if length < needed {
            return Err(self
                .source
                .wrong("a compressed grain cannot be decompressed", offset + GRAIN_MARKER)
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
