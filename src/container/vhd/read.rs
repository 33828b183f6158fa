//! Reads VHD as an image, from any writer.

use std::ops::Range;
use std::sync::Arc;

use super::format::{
    COOKIE, DIFFERENCING, DYNAMIC, DynamicHeader, FIXED, FOOTER, FOOTER_CHECKSUM, Footer, HEADER,
    HEADER_CHECKSUM, HEADER_COOKIE, LARGEST, OLD_FOOTER, SECTOR, UNUSED, VERSION, checksum,
};
use crate::container::source::{Mapping, Source, be32s, leaked, shown};
use crate::container::{Format, Opened, Subformat};
use crate::error::{Error, Result};
use crate::image::{Image, Render};
use crate::units::{Bytes, index, narrow, u64_of, usize_of};
use crate::wire::Wire;

/// A footer and its place.
#[derive(Debug)]
struct Place {
    at: u64,
    footer: Footer,
    /// The right checksum.
    checksum: u32,
}

impl Place {
    /// The footer in `length` bytes at `at`, if the file has them and they begin like a footer.
    fn look(source: &Source, at: Option<u64>, length: u64) -> Result<Option<Self>> {
        let Some(at) = at else { return Ok(None) };
        let mut bytes = source.read_some(at, length)?;
        if u64_of(bytes.len()) < length || !bytes.starts_with(&COOKIE) {
            return Ok(None);
        }
        bytes.resize(usize_of(FOOTER), 0);
        let footer = Footer::read(&bytes)?;
        Ok(Some(Self { at, footer, checksum: checksum(&bytes, FOOTER_CHECKSUM) }))
    }

    /// The footer at the end; it may lack its last byte, as older programs wrote it.
    fn last(source: &Source) -> Result<Option<Self>> {
        match Self::look(source, source.size.checked_sub(FOOTER), FOOTER)? {
            Some(found) => Ok(Some(found)),
            None => Self::look(source, source.size.checked_sub(OLD_FOOTER), OLD_FOOTER),
        }
    }

    fn sound(&self) -> bool {
        self.checksum == self.footer.checksum
    }

    /// An error about a field of the footer.
    fn wrong(&self, source: &Source, what: &str, field: &str) -> Error {
        source.wrong_in::<Footer>(what, self.at, field)
    }

    /// The footer that counts: the one at the end, or else its copy at the start of a disk that is not fixed.
    fn find(source: &Source) -> Result<Self> {
        let last = Self::last(source)?;
        // The first sector of a fixed disk belongs to the disk, whatever it looks like.
        let first = Self::look(source, Some(0), FOOTER)?;
        let copy = first.filter(|first| first.at < source.size && first.footer.disk_type != FIXED);
        match (last, copy) {
            (Some(last), copy) if last.sound() => {
                let copy = copy.filter(|copy| copy.sound() && last.footer.disk_type != FIXED);
                match copy.filter(|copy| !copy.footer.agrees(&last.footer)) {
                    None => Ok(last),
                    Some(_) => Err(source
                        .wrong("the footer and its copy at the start of the file differ", last.at)
                        .expected("the same disk in both")),
                }
            }
            (_, Some(copy)) if copy.sound() => Ok(copy),
            (Some(found), _) | (None, Some(found)) => Err(found
                .wrong(source, "the footer has a wrong checksum", "checksum")
                .expected(format!("{:#010x}", found.checksum))
                .found(format!("{:#010x}", found.footer.checksum))),
            (None, None) => Err(source
                .wrong("this is no VHD image", source.size.saturating_sub(FOOTER))
                .expected("a footer that begins with conectix, at the end of the file or at its start")
                .found(shown(&source.read_some(source.size.saturating_sub(FOOTER), 8)?))),
        }
    }

    /// Checks the fields that all kinds share.
    fn check(&self, source: &Source) -> Result<()> {
        let footer = &self.footer;
        version(footer.file_format_version, |what| self.wrong(source, what, "file_format_version"))?;
        if ![FIXED, DYNAMIC, DIFFERENCING].contains(&footer.disk_type) {
            return Err(self
                .wrong(source, "an unknown type of VHD", "disk_type")
                .expected("2 (fixed), 3 (dynamic) or 4 (differencing)")
                .found(footer.disk_type));
        }
        if footer.disk_size() > LARGEST {
            return Err(self
                .wrong(source, "an impossible disk size", "current_size")
                .expected(format!("at most {}", Bytes::new(LARGEST)))
                .found(format!("{} bytes", footer.disk_size())));
        }
        Ok(())
    }
}

/// Refuses versions other than 1. A minor version only adds what readers may ignore.
fn version(version: u32, wrong: impl Fn(&str) -> Error) -> Result<()> {
    if version >> 16 == VERSION >> 16 {
        return Ok(());
    }
    let found = format!("{}.{}", version >> 16, version & 0xffff);
    Err(wrong("an unknown version of VHD").expected("1.0").found(found))
}

/// Whether the file has a footer, which may be wrong. A fixed disk has one at its end only.
pub(in crate::container) fn detect(source: &Source) -> Result<bool> {
    Ok(Place::look(source, Some(0), FOOTER)?.is_some() || Place::last(source)?.is_some())
}

/// Opens a VHD image.
///
/// # Errors
/// [`Kind::Format`](crate::error::Kind::Format) where it is damaged, or has a parent.
pub(in crate::container) fn open(source: &Arc<Source>) -> Result<Opened> {
    let place = Place::find(source)?;
    place.check(source)?;
    let footer = &place.footer;
    let fixed = footer.disk_type == FIXED;
    let subformat = if fixed { Subformat::Fixed } else { Subformat::Dynamic };
    let mut details = vec![("subformat", subformat.to_string())];
    let image = if fixed {
        whole(source, &place)?
    } else {
        let header = Header::read(source, footer)?;
        details.push(("block size", header.block.to_string()));
        header.image(source, &place)?
    };
    let creator = footer.creator_application.map(|byte| if byte == 0 { b' ' } else { byte });
    details.extend([
        ("creator", crate::text::printable(&creator).trim_end().to_owned()),
        ("created", crate::calendar::minute(footer.time())),
        ("uuid", footer.unique_id.to_string()),
    ]);
    if !fixed && place.at == 0 {
        details.push((
            "footer",
            "its copy at the start counts; the one at the end is missing or damaged".to_owned(),
        ));
    }
    Ok(Opened {
        details,
        subformat: Some(subformat),
        id: Some(footer.unique_id).filter(|id| !id.is_nil()),
        time: Some(footer.time()),
        ..Opened::new(source, Format::Vhd, image)
    })
}

/// The faults of a file that opens: copies that are missing or damaged, and bytes that belong to nothing.
///
/// # Errors
/// Where the file cannot be read.
pub(in crate::container) fn check(source: &Source) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let place = Place::find(source)?;
    let sound = |place: Option<Place>| place.is_some_and(|place| place.sound());
    if !sound(Place::last(source)?) {
        faults
            .push("the footer at the end is missing or damaged, and its copy at the start counts".to_owned());
    }
    if place.footer.disk_type == FIXED {
        return Ok(faults);
    }
    if !sound(Place::look(source, Some(0), FOOTER)?) {
        faults.push("the copy of the footer at the start is missing or damaged".to_owned());
    }
    let header = Header::read(source, &place.footer)?;
    let bitmap = (header.block / SECTOR).div_ceil(8).next_multiple_of(SECTOR);
    let needed = place.footer.disk_size().div_ceil(header.block);
    let (mut blocks, mut behind) = (0, 0_u64);
    source.table(header.table, header.entries, "the block allocation table", |first, table| {
        for (number, entry) in (first..).zip(be32s(table)).filter(|(_, entry)| *entry != UNUSED) {
            blocks += 1;
            behind += u64::from(number >= needed);
            if number >= needed {
                source.within(u64::from(entry) * SECTOR, bitmap + header.block, "a block")?;
            }
        }
        Ok(())
    })?;
    if behind > 0 {
        faults.push(format!("{behind} blocks are behind the end of the disk"));
    }
    let used = 2 * FOOTER + HEADER + header.entries * 4 + blocks * (bitmap + header.block);
    faults.extend(leaked(source.size, used, bitmap + header.block));
    Ok(faults)
}

/// A fixed disk: everything before the footer that is not a hole.
fn whole(source: &Arc<Source>, place: &Place) -> Result<Image> {
    let size = place.footer.disk_size();
    if size > place.at {
        let what = "the image is truncated: the disk is longer than what is before its footer";
        return Err(place
            .wrong(source, what, "current_size")
            .expected(format!("at most {} bytes", place.at))
            .found(format!("{size} bytes")));
    }
    let mut mapping = Mapping::sparse(source, size);
    mapping.data(0, size, 0)?;
    mapping.finish()
}

/// The places of the blocks of a disk that is not fixed.
#[derive(Debug)]
struct Header {
    at: u64,
    table: u64,
    entries: u64,
    /// Bytes of a block.
    block: u64,
}

impl Header {
    /// Reads and checks the dynamic header of a disk.
    fn read(source: &Source, footer: &Footer) -> Result<Self> {
        let at = footer.data_offset;
        let bytes = source.read(at, HEADER, "the dynamic header")?;
        if !bytes.starts_with(&HEADER_COOKIE) {
            return Err(source
                .wrong("there is no dynamic header", at)
                .expected("cxsparse")
                .found(shown(&bytes[..8])));
        }
        let header = DynamicHeader::read(&bytes)?;
        let wrong = |what: &str, field: &str| source.wrong_in::<DynamicHeader>(what, at, field);
        let expected = checksum(&bytes, HEADER_CHECKSUM);
        if expected != header.checksum {
            return Err(wrong("the dynamic header has a wrong checksum", "checksum")
                .expected(format!("{expected:#010x}"))
                .found(format!("{:#010x}", header.checksum)));
        }
        version(header.header_version, |what| wrong(what, "header_version"))?;
        if footer.disk_type == DIFFERENCING {
            return Err(differencing(source, at, &header));
        }
        let header = Self {
            at,
            table: header.table_offset,
            entries: u64::from(header.max_table_entries),
            block: u64::from(header.block_size),
        };
        if !header.block.is_power_of_two() || header.block < SECTOR {
            return Err(wrong("an impossible block size", "block_size")
                .expected("a power of two of at least 512")
                .found(header.block));
        }
        let needed = footer.disk_size().div_ceil(header.block);
        if header.entries < needed {
            return Err(wrong("the block allocation table is too small for the disk", "max_table_entries")
                .expected(format!("at least {needed} entries"))
                .found(header.entries));
        }
        source.within(header.table, header.entries * 4, "the block allocation table")?;
        Ok(header)
    }

    /// The disk.
    fn image(&self, source: &Arc<Source>, place: &Place) -> Result<Image> {
        let size = place.footer.disk_size();
        let mut mapping = Mapping::sparse(source, size);
        mapping.claim(0, FOOTER, "the copy of the footer")?;
        if place.at > 0 {
            mapping.claim(place.at, source.size - place.at, "the footer")?;
        }
        mapping.claim(self.at, HEADER, "the dynamic header")?;
        mapping.claim(self.table, self.entries * 4, "the block allocation table")?;
        let sectors = self.block / SECTOR;
        let bitmap = sectors.div_ceil(8).next_multiple_of(SECTOR);
        let mut walk = Walk { source, mapping, size, block: self.block, bitmap, mixed: Vec::new() };
        let needed = size.div_ceil(self.block);
        source.table(self.table, needed, "the block allocation table", |first, table| {
            for (number, entry) in (first..).zip(be32s(table)) {
                if entry != UNUSED {
                    walk.block(number, u64::from(entry) * SECTOR)?;
                }
            }
            Ok(())
        })?;
        walk.finish()
    }
}

/// The error for a disk that only holds the differences from another.
fn differencing(source: &Source, at: u64, header: &DynamicHeader) -> Error {
    // In UTF-16 up to a zero.
    let units = header.parent_unicode_name.iter().copied().take_while(|unit| *unit != 0);
    let name: String =
        char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    let what = "the image is a differencing disk: it holds only what differs from its parent";
    source
        .wrong_in::<DynamicHeader>(what, at, "parent_unicode_name")
        .found(format!("the parent `{}`", crate::text::printable(name.as_bytes())))
        .hint("merge it into its parent first, with Hyper-V or Virtual PC")
}

/// The largest number of runs of sectors in a block that become segments. A bitmap of 512 bytes can have 2048
/// runs. A block with too many runs is one segment, which reads its bitmap when it is read.
const MOST_RUNS: usize = 8;

/// Bit `sector` of a bitmap; the first one is the most significant of its byte.
fn bit(bitmap: &[u8], sector: u64) -> bool {
    bitmap.get(usize_of(sector / 8)).is_some_and(|byte| byte & (0x80 >> (sector % 8)) != 0)
}

/// The runs of set bits among the first `count`; `None` if there are too many.
fn runs(bitmap: &[u8], count: u64) -> Option<Vec<Range<u64>>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    if bitmap.iter().all(|byte| *byte == 0xff) {
        runs.push(0..count);
        return Some(runs);
    }
    for sector in (0..count).filter(|sector| bit(bitmap, *sector)) {
        match runs.last_mut() {
            Some(last) if last.end == sector => last.end += 1,
            _ => runs.push(sector..sector + 1),
        }
        if runs.len() > MOST_RUNS {
            return None;
        }
    }
    Some(runs)
}

/// The walk through the table.
struct Walk<'a> {
    source: &'a Arc<Source>,
    mapping: Mapping,
    size: u64,
    block: u64,
    /// Bytes of a bitmap.
    bitmap: u64,
    /// Blocks with too many runs.
    mixed: Vec<MixedBlock>,
}

/// A block with too many runs: its place on the disk, and the place of its bitmap in the file.
#[derive(Clone, Copy, Debug)]
struct MixedBlock {
    disk: u64,
    bitmap: u64,
}

impl Walk<'_> {
    /// Block `number` of the disk, whose bitmap is at `at`.
    fn block(&mut self, number: u64, at: u64) -> Result<()> {
        self.source.within(at, self.bitmap + self.block, "a block")?;
        self.mapping.claim(at, self.bitmap + self.block, "a block")?;
        let bitmap = self.source.read(at, self.bitmap, "a bitmap")?;
        let disk = number * self.block;
        let count = self.block.min(self.size - disk).div_ceil(SECTOR);
        match runs(&bitmap, count) {
            Some(runs) => {
                let data = at + self.bitmap;
                for Range { start, end } in runs {
                    let (at, length) = (start * SECTOR, (end - start) * SECTOR);
                    self.mapping.data(disk + at, length, data + at)?;
                }
            }
            None => self.mixed.push(MixedBlock { disk, bitmap: at }),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Image> {
        self.mapping.flush();
        let blocks = self.mixed.iter().map(|block| block.bitmap).collect();
        let mixed = Mixed { source: Arc::clone(self.source), bitmap: self.bitmap, blocks };
        let builder = self.mapping.builder();
        let renderer = builder.renderer(Arc::new(mixed));
        for (number, MixedBlock { disk, .. }) in self.mixed.iter().enumerate() {
            let part = narrow(number, "the number of a block")?;
            let length = self.block.min(self.size - disk);
            builder.rendered(Bytes::new(*disk), Bytes::new(length), renderer, part);
        }
        self.mapping.finish()
    }
}

/// Blocks with some of their sectors, in many runs.
#[derive(Debug)]
struct Mixed {
    source: Arc<Source>,
    bitmap: u64,
    /// The places of their bitmaps.
    blocks: Vec<u64>,
}

impl Render for Mixed {
    fn render(&self, part: u32, skip: u64, out: &mut [u8]) -> Result<()> {
        let at = *self.blocks.get(index(part)).ok_or_else(|| Error::bug("no such block"))?;
        let bitmap = self.source.read(at, self.bitmap, "a bitmap")?;
        let data = self.source.read(at + self.bitmap + skip, u64_of(out.len()), "a block")?;
        let mut done = 0;
        while done < out.len() {
            let at = skip + u64_of(done);
            let end = out.len().min(done + usize_of(SECTOR - at % SECTOR));
            if bit(&bitmap, at / SECTOR) {
                out[done..end].copy_from_slice(&data[done..end]);
            }
            done = end;
        }
        Ok(())
    }

    fn label(&self, part: u32) -> String {
        format!("vhd: block {}", self.blocks.get(index(part)).copied().unwrap_or_default() / SECTOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitmaps_have_runs_of_sectors_from_the_high_bit_on() {
        assert_eq!(runs(&[0xff, 0xff], 16), Some(vec![0..16; 1]));
        assert_eq!(runs(&[0xff, 0xff], 9), Some(vec![0..9; 1]));
        assert_eq!(runs(&[0, 0], 16), Some(vec![]));
        assert_eq!(runs(&[0x80, 0x01], 16), Some(vec![0..1, 15..16]));
        assert_eq!(runs(&[0x3f, 0xf0], 16), Some(vec![2..12; 1]));
        assert_eq!(runs(&[0x3f, 0xf0], 4), Some(vec![2..4; 1]));
        assert_eq!(runs(&[0xaa, 0xaa], 16).map(|runs| runs.len()), Some(8));
        assert_eq!(runs(&[0xaa, 0xaa, 0x80], 24), None);
    }
}
