//! The four labels: which are whole, and the newest uberblock of all.

use super::super::checksum::seal;
use super::super::format::{END, LABEL, START, Uberblock};
use super::super::label::{CONFIG, RING};
use super::super::nvlist::{List, Value};
use super::nvlist;
use crate::error::{Error, Result};
use crate::filesystem::device::{Device, damaged};
use crate::text::shortened;
use crate::units::{index, narrow, u64_of, usize_of};
use crate::wire::Wire;

/// The names of a packed list of names and values begin with this one: the first pair of a label (vdev_label.c). Each label
/// of a pool has it, whatever became of the rest.
const FIRST: &[u8] = b"\0\0\0\x07version";
/// Where that stands in a label: behind the head of the list and the sizes of the pair.
const FIRST_AT: usize = CONFIG + 20;

/// What the labels say.
#[derive(Debug)]
pub(super) struct Labels {
    /// The configuration of the label whose uberblock is the newest.
    pub(super) config: List,
    pub(super) uberblock: Uberblock,
    /// What is wrong with labels, by their number.
    pub(super) faults: Vec<(usize, String)>,
}

/// Whether one of the first two labels is there, whole or not.
pub(super) fn is_there(device: &Device) -> Result<bool> {
    for offset in [0, LABEL] {
        if device.length() >= START && device.bytes(offset + u64_of(FIRST_AT), FIRST.len())? == FIRST {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A piece of a label, if its checksum is right where it lies.
fn piece(device: &Device, offset: u64, length: usize, verifies: bool) -> Result<Option<Vec<u8>>> {
    let bytes = device.bytes(offset, length)?;
    let mut sealed = bytes.clone();
    seal(&mut sealed, offset)?;
    Ok((!verifies || sealed == bytes).then_some(bytes))
}

/// The configuration of a label.
fn config(device: &Device, label: u64, verifies: bool) -> Result<List> {
    let found = piece(device, label + u64_of(CONFIG), RING - CONFIG, verifies)?;
    let bytes = found.ok_or_else(|| damaged("the checksum of the configuration is not that of its bytes"))?;
    nvlist::unpack(&bytes)
}

/// The newest uberblock of a label.
fn newest(device: &Device, label: u64, ashift: u64, verifies: bool) -> Result<Option<Uberblock>> {
    // As large as what is written at once (vdev_impl.h, VDEV_UBERBLOCK_SHIFT).
    let slot = 1_usize << index(narrow(ashift.clamp(10, 13), "the size of an uberblock")?);
    let mut best: Option<Uberblock> = None;
    for place in (RING..usize_of(LABEL)).step_by(slot) {
        let offset = label + u64_of(place);
        if device.is_hole(offset, u64_of(slot)) {
            continue;
        }
        let head = device.bytes(offset, Uberblock::LENGTH)?;
        let Ok(own) = Uberblock::read(&head) else { continue };
        let is_newer = best
            .as_ref()
            .is_none_or(|best| (own.ub_txg, own.ub_timestamp) > (best.ub_txg, best.ub_timestamp));
        if is_newer && piece(device, offset, slot, verifies)?.is_some() {
            best = Some(own);
        }
    }
    Ok(best)
}

/// Reads the labels of a pool that is there.
///
/// # Errors
/// [`Kind::Format`](crate::error::Kind::Format) where none is whole.
pub(super) fn read(device: &Device, verifies: bool) -> Result<Labels> {
    let end = device.length() / LABEL * LABEL;
    let offsets = [0, LABEL, end.saturating_sub(END), end.saturating_sub(LABEL)];
    let (mut best, mut first) = (None::<(Uberblock, List)>, None);
    let mut faults = Vec::new();
    for (number, offset) in offsets.into_iter().enumerate() {
        let found = config(device, offset, verifies).and_then(|config| {
            let tree = config.list("vdev_tree").ok_or_else(|| damaged("the configuration has no vdev"))?;
            let newest = newest(device, offset, tree.number("ashift")?, verifies)?;
            Ok((newest.ok_or_else(|| damaged("no uberblock is whole"))?, config))
        });
        let (uberblock, config) = match found {
            Ok(found) => found,
            Err(error) => {
                faults.push((number, error.to_string().replace("\n  ", ", ")));
                continue;
            }
        };
        if first.get_or_insert_with(|| config.clone()) != &config {
            faults.push((number, "it has another configuration than the first".to_owned()));
        }
        let age = |own: &Uberblock| (own.ub_txg, own.ub_timestamp);
        if best.as_ref().is_none_or(|(best, _)| age(&uberblock) > age(best)) {
            best = Some((uberblock, config));
        }
    }
    let (uberblock, config) = best.ok_or_else(|| {
        let why = faults.first().map_or_else(String::new, |(_, why)| format!(": {why}"));
        damaged(format!("a ZFS pool has no label that is whole{why}"))
    })?;
    one_disk(&config)?;
    Ok(Labels { config, uberblock, faults })
}

/// Refuses a pool that is more than one disk.
fn one_disk(config: &List) -> Result<()> {
    let refused = |found: String| -> Result<()> {
        Err(Error::new(crate::error::Kind::Format, "only ZFS pools on one disk are read")
            .expected("one top-level vdev, a disk or file")
            .found(found))
    };
    let tree = config.list("vdev_tree");
    let kind = tree.map_or("", |tree| tree.text("type"));
    if !matches!(kind, "disk" | "file") {
        return refused(format!("a {}", shortened(kind.as_bytes(), 20)));
    }
    match config.get("vdev_children") {
        Some(Value::Number(1)) | None => Ok(()),
        Some(Value::Number(count)) => refused(format!("{count} of them")),
        _ => refused("a number that is none".to_owned()),
    }
}
