//! Checks every layer of an image: the container, the partition table, and each filesystem. Nothing is repaired.

use std::fmt;

use serde::Serialize;

use super::medium::{Medium, Part};
use crate::container;
use crate::error::{Error, Kind, Result};
use crate::filesystem::{self, Fault};
use crate::inspect;
use crate::table::Scheme;
use crate::text::printable;

/// A fault of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The layer: `container`, `table`, or `partition 2`.
    pub layer: String,
    /// The structure: `inode 12`, `group 3`; empty for the layer itself.
    pub subject: String,
    /// What is wrong.
    pub what: String,
    /// Whether it only says that something could not be checked.
    pub unjudged: bool,
}

impl Finding {
    fn new(layer: &str, subject: &str, what: impl Into<String>) -> Self {
        Self { layer: layer.to_owned(), subject: subject.to_owned(), what: what.into(), unjudged: false }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = if self.subject.is_empty() { String::new() } else { format!("{}: ", self.subject) };
        f.write_str(&printable(format!("{}: {subject}{}", self.layer, self.what).as_bytes()))
    }
}

/// The finding for an image that cannot be opened since it is damaged.
///
/// # Errors
/// The error itself, if it is of another kind.
pub fn unopened(error: Error) -> Result<Finding> {
    if error.kind() == Kind::Format {
        Ok(Finding::new("container", "", error.in_one_line()))
    } else {
        Err(error)
    }
}

/// Hears of each fault.
type Each<'a> = &'a mut dyn FnMut(Finding) -> Result<()>;

/// Checks all layers of an open image, or one partition of it.
///
/// # Errors
/// Where it cannot be read, and any error of `each`. Damage is a finding.
pub fn check(medium: &Medium, partition: Option<&str>, each: Each<'_>) -> Result<()> {
    if let Some(name) = partition {
        return part(&medium.partition(name)?, true, each);
    }
    for what in container::check(medium.opened())? {
        each(Finding::new("container", "", what))?;
    }
    for what in medium.remarks() {
        each(Finding::new("table", "", what.clone()))?;
    }
    if let Some(table) = medium.table() {
        for what in crate::table::read::record_faults(&medium.opened().image.whole(), table)? {
            each(Finding::new("table", "MBR", what))?;
        }
    }
    places(medium, each)?;
    for own in medium.parts() {
        part(&own, medium.has_empty_gpt(), each)?;
    }
    Ok(())
}

/// Partitions lie inside the disk, and not in each other.
fn places(medium: &Medium, each: Each<'_>) -> Result<()> {
    let Some(table) = medium.table() else { return Ok(()) };
    let length = medium.opened().image.length();
    for (number, placed) in (1..).zip(&table.partitions) {
        let subject = format!("partition {}", placed.number);
        if placed.end() > length {
            let what =
                format!("it ends at {}, after the disk of {}", placed.end().in_full(), length.in_full());
            each(Finding::new("table", &subject, what))?;
        }
        if table.scheme == Scheme::Gpt {
            let first = table.first_usable.bytes(table.sector_size);
            let last = (table.last_usable + crate::units::Sectors::new(1)).bytes(table.sector_size);
            if placed.offset < first || placed.end() > last {
                let what =
                    format!("it lies outside of what partitions may use, {} to {}", first.get(), last.get());
                each(Finding::new("table", &subject, what))?;
            }
        }
        let overlaps = |other: &&crate::table::Placed| {
            let inside =
                placed.kind.is_extended() && other.logical || other.kind.is_extended() && placed.logical;
            !inside && placed.offset < other.end() && other.offset < placed.end()
        };
        for other in table.partitions.iter().skip(number).filter(overlaps) {
            each(Finding::new("table", &subject, format!("it overlaps partition {}", other.number)))?;
        }
    }
    Ok(())
}

/// Checks what is in a partition, or on a whole disk; `in_table` says whether the disk has a GPT without partitions.
fn part(part: &Part, in_table: bool, each: Each<'_>) -> Result<()> {
    let layer =
        part.partition.as_ref().map_or_else(|| "disk".to_owned(), |own| format!("partition {}", own.number));
    let volume = match filesystem::open(&part.slice) {
        Ok(volume) => volume,
        Err(error) if error.kind() == Kind::Format => {
            return each(Finding::new(&layer, "", error.in_one_line()));
        }
        Err(error) => return Err(error),
    };
    let Some(volume) = volume else {
        return match inspect::contents(&part.slice)? {
            Some(found) if found.kind == "swap" => Ok(()),
            Some(found) => {
                let what = format!("{} is known by name and was not checked", found.kind);
                each(Finding { unjudged: true, ..Finding::new(&layer, "", what) })
            }
            // A partition may hold anything. An image that holds nothing at all is empty.
            None if part.partition.is_some() || in_table || part.slice.segments().next().is_none() => Ok(()),
            None => {
                let what = "there is neither a partition table nor a filesystem that is known";
                each(Finding::new(&layer, "", what))
            }
        };
    };
    for warning in volume.warnings() {
        each(Finding::new(&layer, "", warning.to_string()))?;
    }
    let checked = volume.check(&mut |remark| {
        let unjudged = remark.fault == Fault::Unjudged;
        each(Finding { unjudged, ..Finding::new(&layer, &remark.subject, remark.what) })
    });
    match checked {
        Err(error) if error.kind() == Kind::Format => each(Finding::new(&layer, "", error.in_one_line())),
        checked => checked,
    }
}
