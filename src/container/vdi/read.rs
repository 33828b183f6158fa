//! Reading VDI as an image, whoever made it.

use std::sync::Arc;

use uuid::Uuid;

use super::format::{
    BEFORE, DIFFERENCING, DYNAMIC, LARGEST_READ, LEAST_HEADER, SECTOR, SIGNATURE, SIGNATURE_AT, STATIC, UNDO,
    VERSION, ZERO,
};
use crate::container::source::{Mapping, Numbers, Source, shown};
use crate::container::{Format, Opened, Subformat};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::units::Bytes;

/// What the header says.
#[derive(Debug)]
struct Info {
    kind: u32,
    description: String,
    /// Bytes of text and header.
    header: u64,
    map: u64,
    data: u64,
    size: u64,
    /// Bytes of a block, and of what stands before its data.
    block: u64,
    extra: u64,
    blocks: u64,
    id: Uuid,
}

/// Whether the first bytes of a file are those of VDI.
pub(in crate::container) fn is_vdi(head: &[u8]) -> bool {
    Numbers(head).le32(SIGNATURE_AT) == SIGNATURE
}

/// Opens a VDI image.
///
/// # Errors
/// [`Kind::Format`](crate::error::Kind::Format) where it is not a correct one, or lies on a parent.
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
        let head = source.read_some(0, BEFORE + LEAST_HEADER)?;
        let at = Numbers(&head);
        if !is_vdi(&head) {
            return Err(source
                .wrong("this is no VDI image", 64)
                .expected(format!("{SIGNATURE:#010x}"))
                .found(shown(head.get(64..68).unwrap_or_default())));
        }
        if at.length() < BEFORE + LEAST_HEADER {
            return Err(source
                .wrong("the image is truncated: the header lies outside the file", 0)
                .expected(format!("{} bytes", BEFORE + LEAST_HEADER))
                .found(format!("a file of {} bytes", source.size)));
        }
        let version = at.le32(68);
        if version != VERSION {
            return Err(source.wrong("an unknown version of VDI", 68).expected("1.1").found(format!(
                "{}.{}",
                version >> 16,
                version & 0xffff
            )));
        }
        let id = |offset: usize| {
            let bytes = head.get(offset..offset + 16).and_then(|bytes| bytes.try_into().ok());
            Uuid::from_bytes_le(bytes.unwrap_or_default())
        };
        let kind = at.le32(76);
        let parent = [id(424), id(440)].into_iter().find(|parent| !parent.is_nil());
        check_kind(source, kind, parent)?;
        let text = head.get(84..340).unwrap_or_default();
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        let info = Self {
            kind,
            description: crate::text::printable(text.get(..end).unwrap_or_default()),
            header: BEFORE + u64::from(at.le32(72)),
            map: u64::from(at.le32(340)),
            data: u64::from(at.le32(344)),
            // VirtualBox has made disks of odd sizes; QEMU shows their last sector whole.
            size: Bytes::new(at.le64(368)).round_up(SECTOR).get(),
            block: u64::from(at.le32(376)),
            extra: u64::from(at.le32(380)),
            blocks: u64::from(at.le32(384)),
            id: id(392),
        };
        info.check(source, at)?;
        Ok(info)
    }

    /// Checks sizes and places.
    fn check(&self, source: &Source, at: Numbers<'_>) -> Result<()> {
        if self.header < BEFORE + LEAST_HEADER {
            return Err(source
                .wrong("an impossible length of the header", 72)
                .expected(format!("at least {LEAST_HEADER}"))
                .found(self.header - BEFORE));
        }
        if u64::from(at.le32(360)) != SECTOR {
            return Err(source.wrong("an impossible sector size", 360).expected(SECTOR).found(at.le32(360)));
        }
        if self.size > LARGEST_READ {
            return Err(source
                .wrong("an impossible disk size", 368)
                .expected(format!("at most {LARGEST_READ} bytes"))
                .found(format!("{} bytes", self.size)));
        }
        if !self.block.is_power_of_two() || self.block < SECTOR {
            return Err(source
                .wrong("an impossible block size", 376)
                .expected("a power of two of at least 512")
                .found(self.block));
        }
        if self.extra != 0 && !self.extra.is_power_of_two() {
            return Err(source
                .wrong("an impossible size of what stands before each block", 380)
                .expected("0 or a power of two")
                .found(self.extra));
        }
        let needed = self.size.div_ceil(self.block);
        if self.blocks < needed {
            return Err(source
                .wrong("the map of blocks is too small for the disk", 384)
                .expected(format!("at least {needed} entries"))
                .found(self.blocks));
        }
        if u64::from(at.le32(388)) > self.blocks {
            return Err(source
                .wrong("more blocks are in the file than the disk has", 388)
                .expected(format!("at most {}", self.blocks))
                .found(at.le32(388)));
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
            for (number, entry) in (first..).zip(map.all_le32()) {
                // Never written is zero as well where there is nothing below.
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

/// Refuses what is no disk by itself.
fn check_kind(source: &Source, kind: u32, parent: Option<Uuid>) -> Result<()> {
    let refuse = |what: &str| -> Result<(), Error> {
        let error = source.wrong(what, 76).hint("merge it into its parent first (VBoxManage clonemedium)");
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
            .wrong("an unknown type of VDI", 76)
            .expected("1 (dynamic), 2 (static), 3 (undo) or 4 (differencing)")
            .found(kind)),
    }
}
