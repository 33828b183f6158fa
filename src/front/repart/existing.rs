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
use crate::filesystem;
use crate::image::Image;
use crate::table::read::{Table, read};
use crate::table::{Attribute, Scheme, Type};
use crate::units::Bytes;

/// The image that is worked on.
#[derive(Debug)]
pub(super) struct Existing {
    pub(super) image: Image,
    /// Its table; `None` where it has none, or where that is lost.
    pub(super) table: Option<Table>,
}

/// The image that `options` name, where one has to be there, and whether what is on it suits them.
///
/// # Errors
/// [`ErrorKind::Unsuited`] for a table that is there or is missing, [`ErrorKind::Usage`] for what else does not suit; [`ErrorKind::Source`] where it cannot be read; [`ErrorKind::Format`] for a table
/// that is damaged, which is better mended than overwritten.
pub(super) fn existing(options: &Options) -> Result<Option<Existing>> {
    let path = &options.image;
    if options.empty == Empty::Create {
        return Ok(None);
    }
    let image = open(path, &OpenOptions { format: Some(Format::Raw), allow_backing: false })?.image;
    let found = read(&image.whole())?;
    let refuse = |what: &str, option| Error::new(ErrorKind::Usage, what).at(path).at_key(&option_key(option));
    let unsuited = |what: &str| refuse(what, "empty").with_kind(ErrorKind::Unsuited);
    let table = match (options.empty, found.table) {
        (Empty::Force, _) => None,
        (Empty::Require | Empty::Allow, None)
            if filesystem::open(&image.whole()).map_or(true, |there| there.is_some()) =>
        {
            return Err(refuse("the image holds a filesystem and no partition table", "empty")
                .hint("empty=force makes a table, and loses what is there"));
        }
        (Empty::Require | Empty::Allow, None) => None,
        (Empty::Require, Some(_)) => {
            return Err(unsuited("the image has a partition table already"));
        }
        (_, None) => {
            return Err(unsuited("the image has no partition table")
                .hint("empty=allow makes one, empty=create makes a new image"));
        }
        (_, Some(table)) if table.scheme != Scheme::Gpt => {
            return Err(unsuited("the image has a partition table that is no GPT")
                .why("repart adds to GPTs only")
                .hint("empty=force makes a new table, and loses what is there"));
        }
        (_, Some(table)) => Some(table),
    };
    if let (Some(_), Some(remark)) = (&table, found.remarks.first()) {
        return Err(Error::new(ErrorKind::Format, "the partition table is not in order")
            .at(path)
            .found(remark)
            .hint("mend it first, with sgdisk or gdisk"));
    }
    if let (Some(table), Some(sector)) = (&table, options.sector_size)
        && table.sector_size != u64::from(sector)
    {
        return Err(refuse("the image has sectors of another size", "sector_size")
            .expected(table.sector_size)
            .found(sector));
    }
    let existing = Existing { image, table };
    existing.check(path)?;
    Ok(Some(existing))
}

/// Definitions of the partitions of the images that are copied (`--copy-from=`).
///
/// # Errors
/// [`ErrorKind::Usage`] for an image without a GPT; [`ErrorKind::Source`] where one cannot be read.
pub(super) fn copied(options: &Options) -> Result<Vec<Definition>> {
    let mut definitions = Vec::new();
    for path in &options.copy_from {
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
            definition.label = Some(placed.label.clone());
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

    /// Where partitions may begin.
    pub(super) fn first(&self) -> Option<Bytes> {
        self.table.as_ref().map(|table| table.first_usable.bytes(table.sector_size))
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

    /// The boot code in the first sector, which stays.
    pub(super) fn boot_code(&self) -> Result<Arc<[u8]>> {
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
        let array = Bytes::new(128 * 128).round_up(table.sector_size);
        let front = Bytes::new(2 * table.sector_size) + array;
        if table.first_usable.bytes(table.sector_size) < front {
            return Err(refuse(
                "the table has fewer than 128 entries, and would not fit before the first partition",
            )
            .why("the tables that are written have 128"));
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
