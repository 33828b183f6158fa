//! Names the structure that a byte of a volume belongs to.

use std::collections::HashSet;

use super::directory::{Entries, MEANT, What, first_cluster, what};
use super::layout::{BOOT, FIRST, Root};
use super::table::Chain;
use super::{Fat, ROOT};
use crate::error::Result;
use crate::filesystem::fat::format::{
    BootSector16, BootSector32, Bpb, DirectoryEntry, ExtendedBpb, FsInfo, LONG_NAME, LongEntry,
};
use crate::filesystem::fat::geometry::ENTRY;
use crate::filesystem::volume::Inode;
use crate::text::printable;
use crate::units::u64_of;
use crate::wire::{Field, Wire, field, named};

const BPB: Field = field(BootSector32::FIELDS, "BPB");
const EXTENDED: Field = field(BootSector32::FIELDS, "BS");
const EXTENDED_16: Field = field(BootSector16::FIELDS, "BS");

/// The name of the structure at byte `offset`.
pub(super) fn structure(volume: &Fat, offset: u64) -> Result<String> {
    let layout = &volume.layout;
    if offset < layout.table {
        return Ok(reserved(volume, offset));
    }
    let tables = layout.table_length * u64::from(layout.bpb.num_fats);
    if let Some(within) = offset.checked_sub(layout.table).filter(|within| *within < tables) {
        let (number, within) = (within / layout.table_length, within % layout.table_length);
        let cluster = within * 8 / layout.fat.bits();
        return Ok(format!("file allocation table {}, the entry of cluster {cluster}", number + 1));
    }
    if let Root::Fixed(start, length) = layout.root
        && (start..start + length).contains(&offset)
    {
        return entry(volume, "/", Entries::of_root(layout), offset);
    }
    let cluster = offset.checked_sub(layout.data).map(|within| within / layout.cluster + u64::from(FIRST));
    let cluster = cluster.and_then(|cluster| u32::try_from(cluster).ok());
    match cluster.filter(|cluster| layout.at(*cluster).is_some()) {
        None => Ok("the bytes behind the last cluster".to_owned()),
        Some(cluster) => {
            let owner = owner(volume, cluster, offset)?;
            Ok(owner.unwrap_or_else(|| format!("cluster {cluster}, which is free")))
        }
    }
}

/// The name of a field of a boot sector.
fn boot(volume: &Fat, within: u64) -> String {
    let (fields, extended) = match volume.layout.wide {
        Some(_) => (BootSector32::FIELDS, EXTENDED),
        None => (BootSector16::FIELDS, EXTENDED_16),
    };
    for (outer, inner) in [(BPB, Bpb::FIELDS), (extended, ExtendedBpb::FIELDS)] {
        if (u64_of(outer.offset)..u64_of(outer.end())).contains(&within) {
            return named(inner, within - u64_of(outer.offset));
        }
    }
    named(fields, within)
}

/// The name of a byte before the tables.
fn reserved(volume: &Fat, offset: u64) -> String {
    let (sector, within) = (offset / volume.layout.sector, offset % volume.layout.sector);
    if sector == 0 && within < u64_of(BOOT) {
        return format!("the boot sector, {}", boot(volume, within));
    }
    if let Some(wide) = &volume.layout.wide {
        let (info, copy) = (u64::from(wide.fs_info), u64::from(wide.bk_boot_sec));
        if sector == info {
            return format!("the FSInfo sector, {}", named(FsInfo::FIELDS, within));
        }
        if copy > 0 && sector == copy && within < u64_of(BOOT) {
            return format!("the copy of the boot sector, {}", boot(volume, within));
        }
        if copy > 0 && sector == copy + info {
            return format!("the copy of the FSInfo sector, {}", named(FsInfo::FIELDS, within));
        }
    }
    format!("reserved sector {sector}")
}

/// Whether a chain that begins with `first` has a cluster.
fn has(volume: &Fat, first: u32, cluster: u32) -> bool {
    let mut chain = Chain::new(first);
    while let Ok(Some(own)) = chain.next(&volume.table()) {
        if own == cluster {
            return true;
        }
    }
    false
}

/// The file or directory that has a cluster.
fn owner(volume: &Fat, cluster: u32, offset: u64) -> Result<Option<String>> {
    if let Root::Chain(first) = volume.layout.root
        && has(volume, first, cluster)
    {
        return entry(volume, "/", Entries::of_root(&volume.layout), offset).map(Some);
    }
    let mut seen = HashSet::new();
    let mut stack = vec![(String::new(), ROOT)];
    while let Some((path, directory)) = stack.pop() {
        let mut entries = volume.entries(directory)?;
        while let Ok(Some((name, own))) = volume.next(&mut entries) {
            let path = format!("{path}/{}", printable(name.as_bytes()));
            let first = first_cluster(&volume.layout, &own.raw);
            let is_directory = what(&own.raw) == What::Directory;
            if first != 0 && has(volume, first, cluster) {
                return match is_directory {
                    true => entry(volume, &path, Entries::of_chain(first), offset).map(Some),
                    false => Ok(Some(format!("the data of {path}"))),
                };
            }
            if is_directory && seen.insert(first) {
                stack.push((path, Inode(own.at)));
            }
        }
    }
    Ok(None)
}

/// The entry of a directory at `offset`, with its field.
fn entry(volume: &Fat, directory: &str, mut entries: Entries, offset: u64) -> Result<String> {
    let (at, within) = (offset / ENTRY * ENTRY, offset % ENTRY);
    let raw: DirectoryEntry = volume.device.structure(at)?;
    let (kind, fields) = match raw.attr & MEANT == LONG_NAME {
        true => ("a long name entry", LongEntry::FIELDS),
        false => ("an entry", DirectoryEntry::FIELDS),
    };
    while let Ok(Some(own)) = entries.next(&volume.table(), &volume.layout, &volume.device) {
        if own.at == at {
            let name = printable(own.name().as_bytes());
            let above = directory.trim_end_matches('/');
            return Ok(match what(&own.raw) {
                What::Label => format!("the entry of the label, {}", named(fields, within)),
                _ => format!("the entry of {above}/{name}, {}", named(fields, within)),
            });
        }
    }
    Ok(format!("{kind} of {directory}, {}", named(fields, within)))
}
