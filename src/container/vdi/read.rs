//! Reads VDI as an image, from any writer.

use std::sync::Arc;

use uuid::Uuid;

use super::format::{
    BEFORE, DIFFERENCING, DYNAMIC, Header, LARGEST_READ, LEAST_HEADER, SECTOR, STATIC, UNDO, VERSION, ZERO,
};
use crate::container::source::{Mapping, Source, le32s, leaked, shown};
use crate::container::{Format, Opened, Subformat};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::units::{Bytes, u64_of, usize_of};
use crate::wire::{Field, Wire, field};

/// The values of the header.
#[derive(Debug)]
struct Info {
    kind: u32,
    description: String,
    /// Bytes of text and header.
    header: u64,
    map: u64,
    data: u64,
    size: u64,
    /// Bytes of a block, and of the extra data before it.
    block: u64,
    extra: u64,
    blocks: u64,
    /// Blocks that are in the file, as the header counts them.
    allocated: u64,
    id: Uuid,
}

const SIGNATURE: Field = field(Header::FIELDS, "u32Signature");
/// Bytes of a header without the geometry at its end.
const SHORT: usize = usize_of(BEFORE + LEAST_HEADER);

/// Whether these are the first bytes of a VDI file.
pub(in crate::container) fn detect(head: &[u8]) -> bool {
    let blank = Header::BLANK.bytes();
    head.get(SIGNATURE.offset..SIGNATURE.end()) == Some(&blank[SIGNATURE.offset..SIGNATURE.end()])
}

/// Opens a VDI image.
///
/// # Errors
/// [`Kind::Format`](crate::error::Kind::Format) where it is damaged, or has a parent.
pub(in crate::container) fn open(source: &Arc<Source>) -> Result<Opened> {
    let info = Info::read(source)?;
    let subformat = if info.kind == STATIC { Subformat::Fixed } else { Subformat::Dynamic };
    let mut details = vec![
        ("subformat", subformat.to_string()),
        ("block size", info.block.to_string()),
        ("uuid", info.id.to_string()),
    ];
    if !info.description.is_empty() {
        details.push(("description", info.description.clone()));
    }
    Ok(Opened {
        details,
        subformat: Some(subformat),
        id: Some(info.id).filter(|id| !id.is_nil()),
        ..Opened::new(source, Format::Vdi, info.image(source)?)
    })
}

impl Info {
    /// Reads and checks the header.
    fn read(source: &Source) -> Result<Self> {
        let mut head = source.read_some(0, u64_of(SHORT))?;
        if !detect(&head) {
            return Err(source
                .wrong_in::<Header>("this is no VDI image", 0, SIGNATURE.name)
                .expected(format!("{:#010x}", Header::BLANK.signature))
                .found(shown(head.get(SIGNATURE.offset..SIGNATURE.end()).unwrap_or_default())));
        }
        if head.len() < SHORT {
            return Err(source
                .wrong("the image is truncated: the header lies outside the file", 0)
                .expected(format!("{SHORT} bytes"))
                .found(format!("a file of {} bytes", source.size)));
        }
        head.resize(Header::LENGTH, 0);
        let header = Header::read(&head)?;
        let version = header.version;
        if version != VERSION {
            let found = format!("{}.{}", version >> 16, version & 0xffff);
            let error = source.wrong_in::<Header>("an unknown version of VDI", 0, "u32Version");
            return Err(error.expected("1.1").found(found));
        }
        let parents = [header.parent.0, header.parent_modification.0];
        check_kind(source, header.kind, parents.into_iter().find(|parent| !parent.is_nil()))?;
        let text = header.comment.split(|byte| *byte == 0).next().unwrap_or_default();
        let info = Self {
            kind: header.kind,
            description: crate::text::printable(text),
            header: BEFORE + u64::from(header.header_size),
            map: u64::from(header.map_offset),
            data: u64::from(header.data_offset),
            // VirtualBox has made disks of odd sizes; QEMU shows their last sector whole.
            size: Bytes::new(header.disk_size).round_up(SECTOR).get(),
            block: u64::from(header.block_size),
            extra: u64::from(header.block_extra),
            blocks: u64::from(header.blocks),
            allocated: u64::from(header.blocks_allocated),
            id: header.image.0,
        };
        info.check(source, &header)?;
        Ok(info)
    }

    /// Checks sizes and places.
    fn check(&self, source: &Source, header: &Header) -> Result<()> {
        let wrong = |what: &str, field: &str| source.wrong_in::<Header>(what, 0, field);
        if self.header < BEFORE + LEAST_HEADER {
            return Err(wrong("an impossible length of the header", "cbHeader")
                .expected(format!("at least {LEAST_HEADER}"))
                .found(self.header - BEFORE));
        }
        let sector = header.legacy_geometry.sector_size;
        if u64::from(sector) != SECTOR {
            let at = field(Header::FIELDS, "LegacyGeometry").offset
                + field(super::format::Geometry::FIELDS, "cbSector").offset;
            let error = source.wrong("an impossible sector size", u64_of(at));
            return Err(error.expected(SECTOR).found(sector));
        }
        if self.size > LARGEST_READ {
            return Err(wrong("an impossible disk size", "cbDisk")
                .expected(format!("at most {LARGEST_READ} bytes"))
                .found(format!("{} bytes", self.size)));
        }
        if !self.block.is_power_of_two() || self.block < SECTOR {
            return Err(wrong("an impossible block size", "cbBlock")
                .expected("a power of two of at least 512")
                .found(self.block));
        }
        if self.extra != 0 && !self.extra.is_power_of_two() {
            return Err(wrong("an impossible size of the data before each block", "cbBlockExtra")
                .expected("0 or a power of two")
                .found(self.extra));
        }
        let needed = self.size.div_ceil(self.block);
        if self.blocks < needed {
            return Err(wrong("the map of blocks is too small for the disk", "cBlocks")
                .expected(format!("at least {needed} entries"))
                .found(self.blocks));
        }
        if u64::from(header.blocks_allocated) > self.blocks {
            return Err(wrong("more blocks are in the file than the disk has", "cBlocksAllocated")
                .expected(format!("at most {}", self.blocks))
                .found(header.blocks_allocated));
        }
        source.within(0, self.header, "the header")?;
        source.within(self.map, self.blocks * 4, "the map of blocks")
    }

    /// The disk.
    fn image(&self, source: &Arc<Source>) -> Result<Image> {
        let mut mapping = Mapping::sparse(source, self.size);
        mapping.claim(0, self.header, "the header")?;
        mapping.claim(self.map, self.blocks * 4, "the map of blocks")?;
        let stride = self.block + self.extra;
        let needed = self.size.div_ceil(self.block);
        source.table(self.map, needed, "the map of blocks", |first, map| {
            for (number, entry) in (first..).zip(le32s(map)) {
                // A block that was never written is zero too, since there is no parent.
                if entry >= ZERO {
                    continue;
                }
                // Both sizes are at most 2^31 and the entry is less than 2^32 - 2: the product is less than 2^64.
                let at = (u64::from(entry) * stride).saturating_add(self.data);
                mapping.claim(at, stride, "a block")?;
                mapping.data(number * self.block, self.block, at.saturating_add(self.extra))?;
            }
            Ok(())
        })?;
        mapping.finish()
    }
}

/// The faults of a file that opens: a wrong count of blocks, and bytes that belong to nothing.
///
/// # Errors
/// Where the file cannot be read.
pub(in crate::container) fn check(source: &Source) -> Result<Vec<String>> {
    let info = Info::read(source)?;
    let (mut faults, mut blocks, mut outside) = (Vec::new(), 0_u64, 0_u64);
    source.table(info.map, info.blocks, "the map of blocks", |_, map| {
        for entry in le32s(map).filter(|entry| *entry < ZERO) {
            blocks += 1;
            outside += u64::from(u64::from(entry) >= info.blocks);
        }
        Ok(())
    })?;
    if outside > 0 {
        faults.push(format!("{outside} entries of the map name a block that the disk does not have"));
    }
    if blocks != info.allocated {
        let told = info.allocated;
        faults.push(format!("the header counts {told} blocks in the file, and the map names {blocks}"));
    }
    let stride = info.block + info.extra;
    faults.extend(leaked(source.size, info.data + blocks * stride, stride));
    Ok(faults)
}

/// Refuses an image that is not a disk by itself.
fn check_kind(source: &Source, kind: u32, parent: Option<Uuid>) -> Result<()> {
    let refuse = |what: &str| -> Result<(), Error> {
        let error = source
            .wrong_in::<Header>(what, 0, "u32Type")
            .hint("merge it into its parent first (VBoxManage clonemedium)");
        Err(match parent {
            Some(parent) => error.found(format!("the parent {parent}")),
            None => error,
        })
    };
    match kind {
        DYNAMIC | STATIC if parent.is_none() => Ok(()),
        DYNAMIC | STATIC | DIFFERENCING => {
            refuse("the image is a differencing disk: it holds only what differs from its parent")
        }
        UNDO => refuse("the image is an undo disk: it holds only what was changed of its parent"),
        _ => Err(source
            .wrong_in::<Header>("an unknown type of VDI", 0, "u32Type")
            .expected("1 (dynamic), 2 (static), 3 (undo) or 4 (differencing)")
            .found(kind)),
    }
}
