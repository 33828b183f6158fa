//! Compares disks: their tables, what is in their partitions, and the bytes between.

use std::cell::Cell;

use super::bytes::{Comparer, shown};
use super::{Difference, Each, Options, Side, note, trees};
use crate::error::Result;
use crate::filesystem::{self, Volume};
use crate::image::Slice;
use crate::inspect;
use crate::look::find::{Last, find};
use crate::look::medium::{Medium, Part};
use crate::table::read::Table;
use crate::table::{Placed, Scheme};
use crate::text::printable;
use crate::units::Bytes;

/// The name of a value, and how it is shown.
type Value<T> = (&'static str, fn(&T) -> String);

/// Compares two disks, or two partitions where they are named. Returns whether they are equal.
///
/// # Errors
/// Where something cannot be read, and any error of `each`.
pub fn media(
    (first, of_first): (&Medium, Option<&str>),
    (second, of_second): (&Medium, Option<&str>),
    options: &Options<'_>,
    each: Each<'_>,
) -> Result<bool> {
    let mut equal = true;
    let mut each = |difference| {
        equal = false;
        each(difference)
    };
    let whole = of_first.is_none() && of_second.is_none();
    if whole && (first.table().is_some() || second.table().is_some()) {
        disks(first, second, options, &mut each)?;
    } else {
        parts("", &first.part(of_first)?, &second.part(of_second)?, options, &mut each)?;
    }
    Ok(equal)
}

/// Compares disks of which at least one has a partition table.
fn disks(first: &Medium, second: &Medium, options: &Options<'_>, each: Each<'_>) -> Result<()> {
    let length = |medium: &Medium| Some(medium.opened().image.length().get().to_string());
    note("disk", "size", length(first), length(second), each)?;
    let of_table: [Value<Table>; 3] = [
        ("table", |table| table.scheme.to_string()),
        ("id", |table| match table.scheme {
            Scheme::Gpt => table.guid.to_string(),
            _ => format!("{:08x}", table.signature),
        }),
        ("sector size", |table| table.sector_size.to_string()),
    ];
    for (what, value) in of_table {
        note("table", what, first.table().map(value), second.table().map(value), each)?;
    }
    let numbers = |medium: &Medium| -> Vec<u32> {
        medium
            .table()
            .map_or_else(Vec::new, |table| table.partitions.iter().map(|placed| placed.number).collect())
    };
    let mut all = [numbers(first), numbers(second)].concat();
    all.sort_unstable();
    all.dedup();
    let mut seen = false;
    for number in all {
        let place = format!("partition {number}");
        let of = |medium: &Medium| {
            numbers(medium).contains(&number).then(|| medium.partition(&number.to_string()))
        };
        match (of(first).transpose()?, of(second).transpose()?) {
            (Some(one), Some(other)) => {
                if let (Some(one), Some(other)) = (&one.partition, &other.partition) {
                    entries(&place, one, other, &mut |difference| {
                        seen = true;
                        each(difference)
                    })?;
                }
                parts(&place, &one, &other, options, &mut |difference| {
                    seen = true;
                    each(difference)
                })?;
            }
            (one, other) => {
                seen = true;
                let shown = |part: Option<Part>| {
                    part.and_then(|part| part.partition)
                        .map(|placed| format!("{}, {}", placed.kind, placed.length.human()))
                };
                note(&place, "partition", shown(one), shown(other), each)?;
            }
        }
    }
    if seen {
        return Ok(());
    }
    // Tables, gaps, and whatever else is outside of partitions.
    bytes("disk", &first.opened().image.whole(), &second.opened().image.whole(), None, options, each)
}

/// Compares the entries of two partitions.
fn entries(place: &str, first: &Placed, second: &Placed, each: Each<'_>) -> Result<()> {
    let of_partition: [Value<Placed>; 7] = [
        ("start", |placed| placed.offset.get().to_string()),
        ("size", |placed| placed.length.get().to_string()),
        ("type", |placed| placed.kind.to_string()),
        ("guid", |placed| placed.guid.to_string()),
        ("label", |placed| printable(placed.label.as_bytes())),
        ("attributes", |placed| crate::table::attribute_names(placed.attributes).join(" ")),
        ("active", |placed| placed.active.to_string()),
    ];
    for (what, value) in of_partition {
        note(place, what, Some(value(first)), Some(value(second)), each)?;
    }
    Ok(())
}

/// Compares what is in two partitions, or on two disks without partitions.
fn parts(place: &str, first: &Part, second: &Part, options: &Options<'_>, each: Each<'_>) -> Result<()> {
    let equal = Cell::new(true);
    let mut each = |difference| {
        equal.set(false);
        each(difference)
    };
    let named = if place.is_empty() { "filesystem" } else { place };
    let found = |part: &Part| inspect::contents(&part.slice).map(Option::unwrap_or_default);
    let (one, other) = (found(first)?, found(second)?);
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    for (what, a, b) in [
        ("filesystem", Some(one.kind), Some(other.kind)),
        ("filesystem label", Some(one.label), Some(other.label)),
        ("filesystem id", Some(one.uuid), Some(other.uuid)),
        ("features", Some(one.features.join(" ")), Some(other.features.join(" "))),
        ("block size", number(one.block_size), number(other.block_size)),
        ("blocks", number(one.blocks), number(other.blocks)),
        ("free blocks", number(one.free_blocks), number(other.free_blocks)),
        ("inodes", number(one.inodes), number(other.inodes)),
        ("free inodes", number(one.free_inodes), number(other.free_inodes)),
    ] {
        note(named, what, a, b, &mut each)?;
    }
    let open = |part: &Part| filesystem::open(&part.slice).map_err(|error| error.at(&part.place));
    let volume = match (open(first)?, open(second)?) {
        (Some(one), Some(other)) => {
            let prefix = if place.is_empty() { String::new() } else { format!("{place}:") };
            compared(&prefix, &*one, &*other, options, &mut each)?;
            Some(one)
        }
        _ => None,
    };
    if equal.get() {
        bytes(named, &first.slice, &second.slice, volume.as_deref(), options, &mut each)?;
    }
    Ok(())
}

/// Compares the trees of two volumes.
fn compared(
    prefix: &str,
    one: &dyn Volume,
    other: &dyn Volume,
    options: &Options<'_>,
    each: Each<'_>,
) -> Result<()> {
    if let (Some(first), Some(second)) = (find(one, b"/", Last::Kept)?, find(other, b"/", Last::Kept)?) {
        trees(Side::Volume(one, &first), Side::Volume(other, &second), prefix, options, each)?;
    }
    Ok(())
}

/// Compares bytes that no reader shows, and names the structure that differs first.
fn bytes(
    place: &str,
    first: &Slice,
    second: &Slice,
    volume: Option<&dyn Volume>,
    options: &Options<'_>,
    each: Each<'_>,
) -> Result<()> {
    let Some(at) = Comparer::default().first_difference(first, second, options.progress)? else {
        return Ok(());
    };
    let structure = match volume {
        Some(volume) => volume.structure(Bytes::new(at))?,
        None => None,
    };
    let structure = structure.map_or_else(String::new, |name| format!(", in {name}"));
    let what = format!("bytes that no reader shows, from byte {at}{structure}");
    let (one, other) =
        if options.content { (Some(shown(first, at)?), Some(shown(second, at)?)) } else { (None, None) };
    each(Difference { place: place.to_owned(), what, first: one, second: other })
}
