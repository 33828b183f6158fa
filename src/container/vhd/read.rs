//! Reading VHD as an image, whoever made it.

use std::sync::Arc;

use super::format::{
    COOKIE, DIFFERENCING, DYNAMIC, FIXED, FOOTER, FOOTER_CHECKSUM, Footer, HEADER, HEADER_CHECKSUM,
    HEADER_COOKIE, LARGEST, OLD_FOOTER, SECTOR, UNUSED, VERSION, checksum,
};
use crate::container::source::{Mapping, Numbers, Source, shown};
use crate::container::{Format, Opened, Subformat};
use crate::error::{Error, Result};
use crate::image::{Image, Render};
use crate::units::{Bytes, index, u64_of, usize_of};

/// A footer, and where it stands.
#[derive(Debug)]
struct Place {
    at: u64,
    bytes: Vec<u8>,
    footer: Footer,
}

impl Place {
    /// The `length` bytes at `at`, where the file has them and they begin as a footer does.
    fn look(source: &Source, at: Option<u64>, length: u64) -> Result<Option<Self>> {
        let Some(at) = at else { return Ok(None) };
        let mut bytes = source.read_some(at, length)?;
        if u64_of(bytes.len()) < length || !bytes.starts_with(&COOKIE) {
            return Ok(None);
        }
        bytes.resize(usize_of(FOOTER), 0);
        let footer = Footer::read(&bytes);
        Ok(Some(Self { at, bytes, footer }))
    }

    /// The footer at the end, whole or, from older programs, without its last byte.
    fn last(source: &Source) -> Result<Option<Self>> {
        match Self::look(source, source.size.checked_sub(FOOTER), FOOTER)? {
            Some(found) => Ok(Some(found)),
            None => Self::look(source, source.size.checked_sub(OLD_FOOTER), OLD_FOOTER),
        }
    }

    fn checksum(&self) -> (u32, u32) {
        (checksum(&self.bytes, FOOTER_CHECKSUM), Numbers(&self.bytes).be32(FOOTER_CHECKSUM))
    }

    fn sound(&self) -> bool {
        let (expected, found) = self.checksum();
        expected == found
    }

    /// The footer that counts: the one at the end, or else its copy at the start of a disk that is not fixed.
    fn find(source: &Source) -> Result<Self> {
        let last = Self::last(source)?;
        // The first sector of a fixed disk is its own, whatever it looks like.
        let first = Self::look(source, Some(0), FOOTER)?;
        let copy = first.filter(|first| first.at < source.size && first.footer.kind != FIXED);
        match (last, copy) {
            (Some(last), copy) if last.sound() => {
                let copy = copy.filter(|copy| copy.sound() && last.footer.kind != FIXED);
                match copy.filter(|copy| copy.footer != last.footer) {
                    None => Ok(last),
                    Some(_) => Err(source
                        .wrong("the footer and its copy at the start of the file differ", last.at)
                        .expected("the same disk in both")),
                }
            }
            (_, Some(copy)) if copy.sound() => Ok(copy),
            (Some(found), _) | (None, Some(found)) => {
                let (expected, sum) = found.checksum();
                Err(source
                    .wrong("the footer has a wrong checksum", found.at + u64_of(FOOTER_CHECKSUM))
                    .expected(format!("{expected:#010x}"))
                    .found(format!("{sum:#010x}")))
            }
            (None, None) => Err(source
                .wrong("this is no VHD image", source.size.saturating_sub(FOOTER))
                .expected("a footer that begins with conectix, at the end of the file or at its start")
                .found(shown(&source.read_some(source.size.saturating_sub(FOOTER), 8)?))),
        }
    }

    /// Checks what is the same for all kinds.
    fn check(&self, source: &Source) -> Result<()> {
        version(source, Numbers(&self.bytes).be32(12), self.at + 12)?;
        let footer = &self.footer;
        if ![FIXED, DYNAMIC, DIFFERENCING].contains(&footer.kind) {
            return Err(source
                .wrong("an unknown type of VHD", self.at + 60)
                .expected("2 (fixed), 3 (dynamic) or 4 (differencing)")
                .found(footer.kind));
        }
        if footer.disk_size() > LARGEST {
            return Err(source
                .wrong("an impossible disk size", self.at + 48)
                .expected(format!("at most {}", Bytes::new(LARGEST)))
                .found(format!("{} bytes", footer.disk_size())));
        }
        Ok(())
    }
}

/// Refuses another version than 1; a minor one adds what need not be known.
fn version(source: &Source, version: u32, at: u64) -> Result<()> {
    if version >> 16 != VERSION >> 16 {
        return Err(source.wrong("an unknown version of VHD", at).expected("1.0").found(format!(
            "{}.{}",
            version >> 16,
            version & 0xffff
        )));
    }
    Ok(())
}

/// Whether the file has a footer, which need not be a right one. A fixed disk has one at its end alone.
pub(in crate::container) fn is_vhd(source: &Source) -> Result<bool> {
    Ok(Place::look(source, Some(0), FOOTER)?.is_some() || Place::last(source)?.is_some())
}

/// Opens a VHD image.
///
/// # Errors
/// [`Kind::Format`](crate::error::Kind::Format) where it is not a correct one, or lies on a parent.
pub(in crate::container) fn open(source: &Arc<Source>) -> Result<Opened> {
    let place = Place::find(source)?;
    place.check(source)?;
    let footer = &place.footer;
    let fixed = footer.kind == FIXED;
    let subformat = if fixed { Subformat::Fixed } else { Subformat::Dynamic };
    let mut details = vec![("subformat", subformat.to_string())];
    let image = if fixed {
        whole(source, &place)?
    } else {
        let header = Header::read(source, footer)?;
        details.push(("block size", header.block.to_string()));
        header.image(source, &place)?
    };
    let creator = footer.creator.map(|byte| if byte == 0 { b' ' } else { byte });
    details.extend([
        ("creator", crate::text::printable(&creator).trim_end().to_owned()),
        ("created", crate::calendar::minute(footer.time())),
        ("uuid", footer.id.to_string()),
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
        id: Some(footer.id).filter(|id| !id.is_nil()),
        time: Some(footer.time()),
        ..Opened::new(source, Format::Vhd, image)
    })
}

/// A fixed disk: all before the footer that is no hole.
fn whole(source: &Arc<Source>, place: &Place) -> Result<Image> {
    let size = place.footer.disk_size();
    if size > place.at {
        return Err(source
            .wrong("the image is truncated: the disk is longer than what is before its footer", place.at + 48)
            .expected(format!("at most {} bytes", place.at))
            .found(format!("{size} bytes")));
    }
    let mut mapping = Mapping::sparse(source, size);
    mapping.data(0, size, 0)?;
    mapping.finish()
}

/// Where the blocks of a disk that is not fixed are.
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
        let at = footer.header;
        let bytes = source.read(at, HEADER, "the dynamic header")?;
        if !bytes.starts_with(&HEADER_COOKIE) {
            return Err(source
                .wrong("there is no dynamic header", at)
                .expected("cxsparse")
                .found(shown(&bytes[..8])));
        }
        let (expected, found) = (checksum(&bytes, HEADER_CHECKSUM), Numbers(&bytes).be32(HEADER_CHECKSUM));
        if expected != found {
            return Err(source
                .wrong("the dynamic header has a wrong checksum", at + u64_of(HEADER_CHECKSUM))
                .expected(format!("{expected:#010x}"))
                .found(format!("{found:#010x}")));
        }
        let numbers = Numbers(&bytes);
        version(source, numbers.be32(24), at + 24)?;
        if footer.kind == DIFFERENCING {
            return Err(differencing(source, at, &bytes));
        }
        let header = Self {
            at,
            table: numbers.be64(16),
            entries: u64::from(numbers.be32(28)),
            block: u64::from(numbers.be32(32)),
        };
        if !header.block.is_power_of_two() || header.block < SECTOR {
            return Err(source
                .wrong("an impossible block size", at + 32)
                .expected("a power of two of at least 512")
                .found(header.block));
        }
        let needed = footer.disk_size().div_ceil(header.block);
        if header.entries < needed {
            return Err(source
                .wrong("the block allocation table is too small for the disk", at + 28)
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
            for (number, entry) in (first..).zip(table.all_be32()) {
                if entry != UNUSED {
                    walk.block(number, u64::from(entry) * SECTOR)?;
                }
            }
            Ok(())
        })?;
        walk.finish()
    }
}

/// The error for a disk that holds only what differs from another.
fn differencing(source: &Source, at: u64, header: &[u8]) -> Error {
    // The name of the parent, in UTF-16 up to a zero.
    let name = header.get(64..576).unwrap_or_default();
    let units = name.as_chunks::<2>().0.iter().map(|unit| u16::from_be_bytes(*unit));
    let name: String = char::decode_utf16(units.take_while(|unit| *unit != 0))
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    source
        .wrong("the image is a differencing disk: it holds only what differs from its parent", at + 64)
        .found(format!("the parent `{}`", crate::text::printable(name.as_bytes())))
        .hint("merge it into its parent first, with Hyper-V or Virtual PC")
}

/// The most runs of sectors of a block that become segments of their own. A bitmap of 512 bytes can tell 2048 runs; a
/// block with so many is one segment that looks at its bitmap when it is read.
const MOST_RUNS: usize = 8;

/// Bit `sector` of a bitmap: the first is the most significant of its byte.
fn bit(bitmap: &[u8], sector: u64) -> bool {
    bitmap.get(usize_of(sector / 8)).is_some_and(|byte| byte & (0x80 >> (sector % 8)) != 0)
}

/// The runs of set bits among the first `count`, as first and count; `None` where there are too many.
fn runs(bitmap: &[u8], count: u64) -> Option<Vec<(u64, u64)>> {
    if bitmap.iter().all(|byte| *byte == 0xff) {
        return Some(vec![(0, count)]);
    }
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for sector in (0..count).filter(|sector| bit(bitmap, *sector)) {
        match runs.last_mut() {
            Some((first, length)) if *first + *length == sector => *length += 1,
            _ => runs.push((sector, 1)),
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
    /// Blocks with too many runs: their place on the disk and in the file.
    mixed: Vec<(u64, u64)>,
}

impl Walk<'_> {
    /// Block `number` of the disk, whose bitmap stands at `at`.
    fn block(&mut self, number: u64, at: u64) -> Result<()> {
        self.source.within(at, self.bitmap + self.block, "a block")?;
        self.mapping.claim(at, self.bitmap + self.block, "a block")?;
        let bitmap = self.source.read(at, self.bitmap, "a bitmap")?;
        let disk = number * self.block;
        let count = self.block.min(self.size - disk).div_ceil(SECTOR);
        match runs(&bitmap, count) {
            Some(runs) => {
                let data = at + self.bitmap;
                for (first, count) in runs {
                    self.mapping.data(disk + first * SECTOR, count * SECTOR, data + first * SECTOR)?;
                }
            }
            None => self.mixed.push((disk, at)),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Image> {
        self.mapping.flush();
        let blocks = self.mixed.iter().map(|(_, at)| *at).collect();
        let mixed = Mixed { source: Arc::clone(self.source), bitmap: self.bitmap, blocks };
        let builder = self.mapping.builder();
        let renderer = builder.renderer(Arc::new(mixed));
        for (part, (disk, _)) in (0..).zip(&self.mixed) {
            let length = self.block.min(self.size - disk);
            builder.rendered(Bytes::new(*disk), Bytes::new(length), renderer, part);
        }
        self.mapping.finish()
    }
}

/// Blocks of which some sectors are there and some are not, in many runs.
#[derive(Debug)]
struct Mixed {
    source: Arc<Source>,
    bitmap: u64,
    /// Where their bitmaps stand.
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
        assert_eq!(runs(&[0xff, 0xff], 16), Some(vec![(0, 16)]));
        assert_eq!(runs(&[0xff, 0xff], 9), Some(vec![(0, 9)]));
        assert_eq!(runs(&[0, 0], 16), Some(vec![]));
        assert_eq!(runs(&[0x80, 0x01], 16), Some(vec![(0, 1), (15, 1)]));
        assert_eq!(runs(&[0x3f, 0xf0], 16), Some(vec![(2, 10)]));
        assert_eq!(runs(&[0x3f, 0xf0], 4), Some(vec![(2, 2)]));
        assert_eq!(runs(&[0xaa, 0xaa], 16).map(|runs| runs.len()), Some(8));
        assert_eq!(runs(&[0xaa, 0xaa, 0x80], 24), None);
    }
}
