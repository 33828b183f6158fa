//! Compares disks: their tables, what is in their partitions, and the bytes between.

use std::cell::Cell;

use super::bytes::{Comparer, shown};
use super::{Difference, Each, Options, Side, note, trees};
use crate::container::{self, Format};
use crate::error::Result;
use crate::filesystem::{self, Volume, fat};
use crate::image::Slice;
use crate::inspect;
use crate::look::find::{Last, find};
use crate::look::medium::{Medium, Part};
use crate::table::read::Table;
use crate::table::{self, Placed, Scheme};
use crate::text::printable;
use crate::units::{Bytes, Sectors};

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
    let equal = Cell::new(true);
    let mut each = |difference| {
        equal.set(false);
        each(difference)
    };
    let whole = of_first.is_none() && of_second.is_none();
    if whole && (first.table().is_some() || second.table().is_some()) {
        disks(first, second, options, &mut each)?;
    } else {
        let (one, other) = (first.part(of_first)?, second.part(of_second)?);
        let size = |part: &Part| Some(part.slice.length().get().to_string());
        note(if whole { "disk" } else { "partition" }, "size", size(&one), size(&other), &mut each)?;
        parts("", &one, &other, options, &mut each)?;
    }
    if whole && equal.get() {
        containers(first, second, options, &mut each)?;
    }
    Ok(equal.get())
}

/// Compares disks. At least one of them has a partition table.
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
    let told = Cell::new(false);
    let tell = |difference: Difference, each: Each<'_>| {
        told.set(true);
        each(difference)
    };
    for (what, value) in of_table {
        let (one, other) = (first.table().map(value), second.table().map(value));
        note("table", what, one, other, &mut |difference| tell(difference, each))?;
    }
    let numbers = |medium: &Medium| -> Vec<u32> {
        medium
            .table()
            .map_or_else(Vec::new, |table| table.partitions.iter().map(|placed| placed.number).collect())
    };
    let mut all = [numbers(first), numbers(second)].concat();
    all.sort_unstable();
    all.dedup();
    for number in all {
        let place = format!("partition {number}");
        let of = |medium: &Medium| {
            numbers(medium).contains(&number).then(|| medium.partition(&number.to_string()))
        };
        match (of(first).transpose()?, of(second).transpose()?) {
            (Some(one), Some(other)) => {
                let is_extended =
                    |part: &Part| part.partition.as_ref().is_some_and(|own| own.kind.is_extended());
                if let (Some(one), Some(other)) = (&one.partition, &other.partition) {
                    entries(&place, one, other, &mut |difference| tell(difference, each))?;
                }
                // The logical partitions in an extended one have numbers of their own.
                if !is_extended(&one) || !is_extended(&other) {
                    parts(&place, &one, &other, options, each)?;
                }
            }
            (one, other) => {
                let shown = |part: Option<Part>| {
                    part.and_then(|part| part.partition)
                        .map(|placed| format!("{}, {}", placed.kind, placed.length.human()))
                };
                let (one, other) = (shown(one), shown(other));
                note(&place, "partition", one, other, &mut |difference| tell(difference, each))?;
            }
        }
    }
    gaps(first, second, told.get() || length(first) != length(second), options, each)
}

/// Compares tables, gaps, and whatever else is outside of partitions, where both disks have the same partitions. If what
/// tables say was told already, they are not compared again.
fn gaps(first: &Medium, second: &Medium, told: bool, options: &Options<'_>, each: Each<'_>) -> Result<()> {
    let (Some(table), Some(other)) = (first.table(), second.table()) else { return Ok(()) };
    let taken = |table: &Table| -> Vec<(Bytes, Bytes)> {
        let own = table.partitions.iter().filter(|placed| !placed.kind.is_extended());
        let mut own: Vec<_> = own.map(|placed| (placed.offset, placed.end())).collect();
        own.sort_unstable();
        own
    };
    let mut all = taken(table);
    if all != taken(other) {
        return Ok(());
    }
    let (one, two) = (&first.opened().image, &second.opened().image);
    let length = one.length().min(two.length());
    if told {
        let sector = table.sector_size;
        let usable = match table.scheme {
            Scheme::Gpt => {
                let end = |table: &Table| (table.last_usable + Sectors::new(1)).bytes(sector);
                (table.first_usable.max(other.first_usable).bytes(sector), end(table).min(end(other)))
            }
            _ => (Bytes::new(sector), length),
        };
        all.extend([(Bytes::ZERO, usable.0), (usable.1, length)]);
        all.sort_unstable();
    }
    let (mut at, disk) = (Bytes::ZERO, one.whole());
    for (start, end) in all.into_iter().chain([(length, length)]) {
        let start = start.min(length);
        if start > at {
            let name = |within: u64| Ok(Some(outside(&disk, table, at.get() + within)?));
            let place = At { name: "disk", base: at.get() };
            bytes(&place, &one.slice(at, start), &two.slice(at, start), &name, options, each)?;
        }
        at = at.max(end);
    }
    Ok(())
}

/// The name of a byte outside of partitions.
fn outside(disk: &Slice, table: &Table, at: u64) -> Result<String> {
    if let Some(name) = table::structure::structure(disk, table, at)? {
        return Ok(name);
    }
    let own = table.partitions.iter().filter(|placed| !placed.kind.is_extended());
    let next = own.filter(|placed| placed.offset.get() > at).min_by_key(|placed| placed.offset);
    Ok(match next {
        Some(next) => format!("the gap before partition {}", next.number),
        None => "the gap behind the last partition".to_owned(),
    })
}

/// Compares the files of two disks in one format, which are equal as disks.
fn containers(first: &Medium, second: &Medium, options: &Options<'_>, each: Each<'_>) -> Result<()> {
    let (one, two) = (first.opened(), second.opened());
    if one.format != two.format || one.format == Format::Raw {
        return Ok(());
    }
    let raw = |medium: &Medium| -> Result<Slice> {
        Ok(container::open_alone(medium.path(), Some(Format::Raw))?.image.whole())
    };
    let name = |at: u64| container::structure(one, at).map(Some);
    bytes(&At { name: "container", base: 0 }, &raw(first)?, &raw(second)?, &name, options, each)
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

/// Compares what is in two partitions, or on two disks without partitions. That they have different sizes is told elsewhere.
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
        let ends = end(&first.slice, volume.as_deref());
        let name = |at: u64| match &volume {
            Some(_) if ends.is_some_and(|end| at >= end) => {
                Ok(Some("what lies behind the filesystem".into()))
            }
            Some(volume) => volume.structure(Bytes::new(at)),
            None => Ok(None),
        };
        let length = first.slice.length().min(second.slice.length());
        let common = |part: &Part| part.slice.get(Bytes::ZERO, length);
        if let (Some(one), Some(other)) = (common(first), common(second)) {
            bytes(&At { name: named, base: 0 }, &one, &other, &name, options, &mut each)?;
        }
    }
    Ok(())
}

/// The first byte behind a filesystem whose structures have no name for it: of ext4 by its blocks, and of FAT by its
/// sectors, as its clusters need not reach its end.
fn end(slice: &Slice, volume: Option<&dyn Volume>) -> Option<u64> {
    let facts = volume?.facts();
    match facts.kind {
        "ext2" | "ext3" | "ext4" => facts.blocks.checked_mul(facts.block_size),
        "vfat" => fat::Fat::look(slice).ok().flatten().map(|fat| fat.layout().length),
        _ => None,
    }
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

/// What a range of bytes is a part of, and where it begins there.
struct At<'a> {
    name: &'a str,
    base: u64,
}

/// Compares bytes that no reader shows, and names the structure that differs first.
fn bytes(
    place: &At<'_>,
    first: &Slice,
    second: &Slice,
    name: &dyn Fn(u64) -> Result<Option<String>>,
    options: &Options<'_>,
    each: Each<'_>,
) -> Result<()> {
    let Some(at) = Comparer::default().first_difference(first, second, options.progress)? else {
        return Ok(());
    };
    // Both can be read. That their structures cannot be followed to the byte is no reason to be silent about it.
    let structure = name(at).unwrap_or_default();
    let structure = structure.map_or_else(String::new, |name| format!(", in {name}"));
    let what = format!("bytes that no reader shows, from byte {}{structure}", place.base + at);
    let (one, other) =
        if options.content { (Some(shown(first, at)?), Some(shown(second, at)?)) } else { (None, None) };
    each(Difference { place: place.name.to_owned(), what, first: one, second: other })
}
