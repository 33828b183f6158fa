//! Names the structure that a byte of a container's file belongs to.

use std::sync::Arc;

use super::source::Source;
use super::{Format, qcow2, vdi, vhd, vhdx, vmdk};
use crate::error::Result;
use crate::units::{KIB, u64_of};
use crate::wire::{Structure, named};

/// By format and by the use of the bytes: the structure that stands where they begin.
const BEGINNINGS: [(Format, &str, &str); 7] = [
    (Format::Qcow2, "the header", "qcow2 header"),
    (Format::Vhd, "the footer", "VHD footer"),
    (Format::Vhd, "the copy of the footer", "VHD footer"),
    (Format::Vhd, "the dynamic header", "VHD dynamic header"),
    (Format::Vdi, "the header", "VDI header"),
    (Format::Vmdk, "the header", "VMDK header"),
    (Format::Vhdx, "the log", "VHDX log entry header"),
];

/// Tables, and the bytes of each entry.
const TABLES: [(Format, &str, u64); 7] = [
    (Format::Qcow2, "the L1 table", 8),
    (Format::Qcow2, "the refcount table", 8),
    (Format::Vhd, "the block allocation table", 4),
    (Format::Vdi, "the map of blocks", 4),
    (Format::Vmdk, "the grain directory", 4),
    (Format::Vmdk, "the redundant grain directory", 4),
    (Format::Vhdx, "the block allocation table", 8),
];

/// The parts of the header section of a VHDX: where each begins, its name, its structure, and that of the entries behind it.
const SECTION: [(u64, &str, &str, &str); 5] = [
    (0, "the file type identifier", "VHDX file type identifier", ""),
    (64 * KIB, "the first header", "VHDX header", ""),
    (128 * KIB, "the second header", "VHDX header", ""),
    (192 * KIB, "the first region table", "VHDX region table header", "VHDX region table entry"),
    (256 * KIB, "the second region table", "VHDX region table header", "VHDX region table entry"),
];

/// The structures of a format.
const fn structures(format: Format) -> &'static [Structure] {
    match format {
        Format::Raw => &[],
        Format::Qcow2 => qcow2::STRUCTURES,
        Format::Vhd => vhd::STRUCTURES,
        Format::Vdi => vdi::STRUCTURES,
        Format::Vmdk => vmdk::STRUCTURES,
        Format::Vhdx => vhdx::STRUCTURES,
    }
}

fn find(format: Format, title: &str) -> Option<&'static Structure> {
    structures(format).iter().find(|structure| structure.title == title)
}

/// The name of the structure at byte `at` of a file that was mapped.
pub(super) fn named_at(source: &Arc<Source>, format: Format, descriptor: bool, at: u64) -> Result<String> {
    if descriptor {
        return line(source, 0, at);
    }
    let used = match source.use_of(at) {
        Some((start, "a region")) => {
            let known = vhdx::read::region(source, at)?;
            Some(known.map_or((start, "a region"), |(what, start)| (start, what)))
        }
        used => used,
    };
    let Some((start, what)) = used else {
        return Ok(match format {
            Format::Raw => "the disk".to_owned(),
            Format::Qcow2 | Format::Vmdk => "compressed data, or bytes that belong to nothing".to_owned(),
            Format::Vhd | Format::Vdi | Format::Vhdx => "bytes that belong to nothing".to_owned(),
        });
    };
    let within = at - start;
    let is = |own: &Format, name: &str| *own == format && name == what;
    if let Some((.., title)) = BEGINNINGS.iter().find(|(own, name, _)| is(own, name))
        && let Some(structure) = find(format, title)
    {
        return Ok(match within < u64_of(structure.length) {
            true => format!("{what}, {}", named(structure.fields, within)),
            false => format!("{what}, what follows its fields"),
        });
    }
    if let Some((.., width)) = TABLES.iter().find(|(own, name, _)| is(own, name)) {
        return Ok(format!("{what}, entry {}", within / width));
    }
    match (format, what) {
        (Format::Vmdk, "the descriptor") => line(source, start, at),
        (Format::Vhdx, "the header section") => Ok(in_section(within)),
        (Format::Vhdx, "the metadata table") => {
            Ok(with_entries(what, "VHDX metadata table header", "VHDX metadata table entry", within))
        }
        _ => Ok(what.to_owned()),
    }
}

/// A structure and the list of entries behind it, at byte `within`.
fn with_entries(what: &str, head: &str, entry: &str, within: u64) -> String {
    let Some(head) = find(Format::Vhdx, head) else { return what.to_owned() };
    if within < u64_of(head.length) {
        return format!("{what}, {}", named(head.fields, within));
    }
    let Some(entry) = find(Format::Vhdx, entry) else { return what.to_owned() };
    let (number, at) = (
        (within - u64_of(head.length)) / u64_of(entry.length),
        (within - u64_of(head.length)) % u64_of(entry.length),
    );
    format!("{what}, entry {}, {}", number, named(entry.fields, at))
}

/// The part of the header section of a VHDX.
fn in_section(within: u64) -> String {
    let own = SECTION.iter().rev().find(|(start, ..)| *start <= within);
    own.map_or_else(String::new, |(start, what, head, entry)| with_entries(what, head, entry, within - start))
}

/// The line of a descriptor that begins at `start`.
fn line(source: &Source, start: u64, at: u64) -> Result<String> {
    let before = source.read_some(start, at - start)?;
    let number = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    Ok(format!("the descriptor, line {number}"))
}
