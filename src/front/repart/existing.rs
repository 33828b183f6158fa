//! The image that is worked on, where there is one.

use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use super::allocate::Span;
use super::definition::{CopyBlocks, Definition};
use super::kind::Kind;
use super::options::option_key;
use super::plan::Current;
use super::{Empty, Options};
use crate::container::{Format, OpenOptions, open};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::image::Image;
use crate::inspect;
use crate::table::read::{Table, read};
use crate::table::{Array, Attribute, Frame, Scheme, Type, frame};
use crate::text::printable_path;
use crate::units::{Bytes, Sectors};

/// The image that is worked on.
#[derive(Debug)]
pub(super) struct Existing {
    pub(super) image: Image,
    /// Its table; `None` where it has none, or where that is lost.
    pub(super) table: Option<Table>,
    /// What is to be known of the table beside its partitions.
    frame: Option<Frame>,
    /// What is lost.
    lost: Option<String>,
    /// What is mended where the table is written.
    mended: Vec<String>,
}

/// The space that a table on the disk has for partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Where partitions may begin.
    pub(super) first: Bytes,
    /// Where they have to end, exclusive; `None` for as far as a disk of its length lets them.
    pub(super) end: Option<Bytes>,
    /// How long the array of entries is, in whole sectors.
    pub(super) array: Bytes,
}

/// Bytes in which tables are told from each other: two sectors.
const HEAD: usize = 1024;
/// What the tables of other systems begin with (util-linux, libfdisk: src/sun.c, src/sgi.c, src/bsd.c).
const SUN: (usize, [u8; 2]) = (508, [0xda, 0xbe]);
const SGI: (usize, [u8; 4]) = (0, [0x0b, 0xe5, 0xa9, 0x41]);
const BSD: (usize, [u8; 4]) = (512, [0x57, 0x45, 0x56, 0x82]);

/// The table of an image, as libfdisk finds it for systemd-repart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    None,
    Gpt,
    /// Another one, by its name.
    Other(&'static str),
}

impl Label {
    /// The table in the first bytes of an image, where `table` is the one that was read. A GPT without a protective MBR is
    /// none; whatever else has the mark of an MBR is one, the boot sector of a FAT too.
    fn of(head: &[u8], table: Option<&Table>) -> Self {
        let has = |at: usize, mark: &[u8]| head.get(at..at + mark.len()) == Some(mark);
        let is_mbr = has(510, &[0x55, 0xaa]);
        // The types of the four partitions. One type protects a GPT.
        let protects = is_mbr && (0..4).any(|record| has(446 + 16 * record + 4, &[0xee]));
        match table {
            Some(table) if protects && table.scheme == Scheme::Gpt => Self::Gpt,
            _ if is_mbr => Self::Other("an MBR, or a boot sector"),
            _ if has(SUN.0, &SUN.1) => Self::Other("a label of Sun"),
            _ if has(SGI.0, &SGI.1) => Self::Other("a label of SGI"),
            _ if has(BSD.0, &BSD.1) => Self::Other("a label of BSD"),
            _ => Self::None,
        }
    }
}

/// A warning of a filesystem that a table takes the place of.
fn lost(image: &Image, path: &Path) -> Result<Option<String>> {
    let found = inspect::contents(&image.whole())?;
    Ok(found.map(|found| {
        let path = printable_path(path);
        format!("{path} held {} and no partition table; the new table takes its place", found.kind)
    }))
}

/// The image that `options` name, where one has to be there, and whether what is on it suits them.
///
/// # Errors
/// [`ErrorKind::Unsuited`] for a table that is there or is missing, [`ErrorKind::Usage`] for what else does not suit;
/// [`ErrorKind::Source`] where it cannot be read.
pub(super) fn existing(options: &Options) -> Result<Option<Existing>> {
    let path = &options.image;
    if options.empty == Empty::Create {
        return Ok(None);
    }
    let image = open(path, &OpenOptions { format: Some(Format::Raw), allow_backing: false })?.image;
    let found = read(&image.whole())?;
    let refuse = |what: &str, option| Error::new(ErrorKind::Usage, what).at(path).at_key(&option_key(option));
    let unsuited = |what: &str| refuse(what, "empty").with_kind(ErrorKind::Unsuited);
    let label = Label::of(&image.whole().bytes(0, HEAD)?, found.table.as_ref());
    let mut gone = None;
    let table = match (options.empty, label) {
        (Empty::Force, _) => None,
        (Empty::Require | Empty::Allow, Label::None) => {
            gone = lost(&image, path)?;
            None
        }
        (Empty::Require, _) => {
            return Err(unsuited("the image has a partition table already"));
        }
        (_, Label::None) => {
            return Err(unsuited("the image has no partition table")
                .hint("empty=allow makes one, empty=create makes a new image"));
        }
        (_, Label::Other(name)) => {
            return Err(unsuited("the image has a partition table that is no GPT")
                .found(name)
                .why("repart adds to GPTs only")
                .hint("empty=force makes a new table, and loses what is there"));
        }
        (_, Label::Gpt) => found.table,
    };
    // Both copies are written anew.
    let anew = |remark: &String| format!("{}: {remark}; it is written anew", printable_path(path));
    let mended = table.as_ref().map(|_| found.remarks.iter().map(anew).collect()).unwrap_or_default();
    if let (Some(table), Some(sector)) = (&table, options.sector_size)
        && table.sector_size != u64::from(sector)
    {
        return Err(refuse("the image has sectors of another size", "sector_size")
            .expected(table.sector_size)
            .found(sector));
    }
    let frame = table.as_ref().map(|table| frame(&image.whole(), table.sector_size)).transpose()?.flatten();
    let existing = Existing { image, table, frame, lost: gone, mended };
    existing.check(path)?;
    Ok(Some(existing))
}

/// Definitions of the partitions of the images that are copied (`--copy-from=`).
///
/// # Errors
/// [`ErrorKind::Usage`] for an image without a GPT; [`ErrorKind::Source`] where one cannot be read.
pub(super) fn copied(options: &Options) -> Result<Vec<Definition>> {
    let mut definitions = Vec::new();
    // The partitions of a later image stand before those of an earlier one (systemd `context_copy_from_one`).
    for path in options.copy_from.iter().rev() {
        let path = &std::path::absolute(path)
            .map_err(|error| Error::io(ErrorKind::Source, "the image has no name", path, error))?;
        let image = open(path, &OpenOptions::default())?.image;
        let table = read(&image.whole())?.table.filter(|table| table.scheme == Scheme::Gpt);
        let Some(table) = table else {
            return Err(Error::new(
                ErrorKind::Usage,
                "the image has no GPT whose partitions could be copied",
            )
            .at(path)
            .at_key(&option_key("copy_from")));
        };
        for placed in &table.partitions {
            let Some(guid) = placed.kind.guid() else { continue };
            let kind = Kind::new(guid);
            if options.leaves_out(&kind)? {
                continue;
            }
            let mut definition = Definition::new(path.clone(), kind);
            definition.label = Some(placed.label.clone()).filter(|label| !label.is_empty());
            definition.uuid = Some(placed.guid);
            definition.flags = placed.attributes;
            (definition.size.least, definition.size.most) = (Some(placed.length), Some(placed.length));
            // What is free before the next one stays as free.
            let next = table
                .partitions
                .iter()
                .map(|other| other.offset)
                .filter(|start| *start >= placed.end())
                .min();
            let padding = next.map(|next| next.saturating_sub(placed.end()));
            (definition.padding.least, definition.padding.most) = (padding, padding);
            definition.copy_blocks = Some(CopyBlocks::Partition(image.slice(placed.offset, placed.end())));
            definitions.push(definition);
        }
    }
    Ok(definitions)
}

impl Existing {
    pub(super) fn guid(&self) -> Uuid {
        self.table.as_ref().map_or(Uuid::nil(), |table| table.guid)
    }

    /// The array of entries, whose place and length stay; that of a new table where there is none.
    pub(super) fn array(&self) -> Array {
        self.frame.map(|frame| frame.array).unwrap_or_default()
    }

    /// What partitions may use once the disk is `length` long. The last usable sector stays until the end of the disk moves;
    /// then it is the last that there can be (libfdisk, `gpt_fix_alternative_lba`).
    pub(super) fn bounds(&self, length: Bytes) -> Option<Bounds> {
        let (table, frame) = (self.table.as_ref()?, self.frame?);
        let (sector, array) = (table.sector_size, frame.array_length(table.sector_size));
        let stays = frame.reaches_end && length == self.image.length();
        let end = (frame.last_usable + Sectors::new(1)).bytes(sector);
        Some(Bounds {
            first: table.first_usable.bytes(sector),
            // No table is trusted that lets partitions end within its backup.
            end: stays.then(|| end.min(length.saturating_sub(array + Bytes::new(sector)))),
            array,
        })
    }

    /// Where the table begins and ends: the MBR with the primary header, the primary array, and the backup on a disk of
    /// `length`.
    pub(super) fn regions(&self, length: Bytes) -> Vec<(Bytes, Bytes)> {
        let (Some(table), Some(frame)) = (&self.table, self.frame) else { return Vec::new() };
        let sector = Bytes::new(table.sector_size);
        let (start, array) = (frame.array_start(table.sector_size), frame.array_length(table.sector_size));
        vec![
            (Bytes::ZERO, sector + sector),
            (start, start + array),
            (length.saturating_sub(array + sector), length),
        ]
    }

    /// Whether an image of which all partitions stay is not written at all: as systemd-repart, also where it is longer than
    /// its table. A copy of the table that is damaged is mended.
    pub(super) fn may_stay(&self) -> bool {
        self.table.is_some() && (self.mended.is_empty() || self.frame.is_some_and(|frame| !frame.reaches_end))
    }

    /// What its owner should know, where the image `stays` or is written.
    pub(super) fn warnings(&self, stays: bool) -> impl Iterator<Item = String> {
        let mended = if stays { &[][..] } else { &self.mended[..] };
        self.lost.iter().chain(mended).cloned()
    }

    /// The partitions, by number.
    pub(super) fn partitions(&self) -> Vec<(Kind, Current)> {
        let placed = self.table.iter().flat_map(|table| &table.partitions);
        let known = placed.filter_map(|placed| {
            let current = Current {
                number: placed.number,
                span: Span { offset: placed.offset, size: placed.length },
                padding: Bytes::ZERO,
                guid: placed.guid,
                label: placed.label.clone(),
                attributes: placed.attributes,
            };
            Some((Kind::new(placed.kind.guid()?), current))
        });
        known.collect()
    }

    /// The boot code in the first sector. It stays as long as the table does: a new table is made on a disk that is blank.
    pub(super) fn boot_code(&self) -> Result<Arc<[u8]>> {
        if self.table.is_none() {
            return Ok(Arc::from([]));
        }
        // The table begins with the disk signature at byte 440.
        let mut code = vec![0; 440];
        self.image.read(0, &mut code)?;
        Ok(if crate::pour::zeros::is_zero(&code) { Arc::from([]) } else { code.into() })
    }

    /// Refuses a table that this program would not write again as it is.
    fn check(&self, path: &Path) -> Result<()> {
        let Some(table) = &self.table else { return Ok(()) };
        let refuse = |what: &str| Error::new(ErrorKind::Format, what).at(path);
        if let Some(placed) = table.partitions.iter().find(|placed| placed.end() > self.image.length()) {
            return Err(refuse("a partition reaches behind the end of the image")
                .found(format!("partition {}", placed.number)));
        }
        let Some(frame) = self.frame else {
            return Err(Error::bug("the table that was read has no header"));
        };
        let sector = table.sector_size;
        let (first, end) =
            (table.first_usable.bytes(sector), frame.array_start(sector) + frame.array_length(sector));
        if first < end {
            return Err(refuse("partitions may begin within the entries of the table")
                .expected(format!("a first usable byte from {} on", end.in_full()))
                .found(first.in_full()));
        }
        Ok(())
    }
}

/// The attributes of a GPT entry, bit by bit.
pub(super) fn bits(attributes: u64) -> Vec<Attribute> {
    (0..64_u8).filter(|bit| attributes & (1 << bit) != 0).map(Attribute::Bit).collect()
}

/// A type of a GPT.
pub(super) const fn kind_of(kind: &Kind) -> Type {
    Type::Guid(kind.guid)
}
