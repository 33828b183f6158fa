//! Partition tables for display.

use serde::Serialize;

use super::filesystem::{self, Found};
use crate::error::Result;
use crate::image::Image;
use crate::table::{self, Placed, Scheme};
use crate::text::printable;

/// A partition table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Table {
    /// `gpt` or `mbr`.
    pub kind: &'static str,
    /// Disk GUID, or the 8 digits of an MBR signature.
    pub id: String,
    /// Bytes of a sector.
    pub sector_size: u64,
    /// Partitions by number.
    pub partitions: Vec<Entry>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its number, from 1.
    pub number: u32,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// Its type by name; by GUID or number if it has no name.
    #[serde(rename = "type")]
    pub kind: String,
    /// Partition GUID; none in an MBR.
    pub guid: Option<String>,
    /// Name in the GPT.
    pub label: String,
    /// Attributes by name; `active` in an MBR.
    pub attributes: Vec<String>,
    /// Its contents.
    pub filesystem: Option<Found>,
}

/// The table of `image`, if it has one, with the contents of its partitions. `patience` is that of
/// [`filesystem::find`].
pub(super) fn read_any(
    image: &Image,
    patience: &mut u64,
    remarks: &mut Vec<String>,
) -> Result<Option<Table>> {
    let found = table::read(&image.whole())?;
    remarks.extend(found.remarks);
    let Some(table) = found.table else { return Ok(None) };
    let gpt = table.scheme == Scheme::Gpt;
    let mut partitions = Vec::with_capacity(table.partitions.len());
    for placed in &table.partitions {
        let (offset, size) = (placed.offset.get(), placed.length.get());
        let filesystem = filesystem::find(&image.slice(placed.offset, placed.end()), patience)?;
        partitions.push(Entry {
            number: placed.number,
            offset,
            size,
            kind: placed.kind.to_string(),
            guid: gpt.then(|| placed.guid.to_string()),
            label: printable(placed.label.as_bytes()),
            attributes: attributes(placed),
            filesystem,
        });
    }
    Ok(Some(Table {
        kind: if gpt { "gpt" } else { "mbr" },
        id: if gpt { table.guid.to_string() } else { format!("{:08x}", table.signature) },
        sector_size: table.sector_size,
        partitions,
    }))
}

fn attributes(placed: &Placed) -> Vec<String> {
    let mut names = table::attribute_names(placed.attributes);
    if placed.active {
        names.push("active".to_owned());
    }
    names
}
