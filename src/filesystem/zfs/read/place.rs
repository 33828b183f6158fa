//! Names the structure that a byte of a pool belongs to.

use super::super::format::{END, LABEL, START, Uberblock};
use super::super::label::{CONFIG, ENVIRONMENT, RING};
use super::{Zfs, check};
use crate::error::Result;
use crate::units::{u64_of, usize_of};
use crate::wire::{Wire, named};

/// The name of the structure at byte `offset`.
pub(super) fn structure(pool: &Zfs, offset: u64) -> Result<String> {
    let end = pool.blocks.length() / LABEL * LABEL;
    let labels = [0, LABEL, end.saturating_sub(END), end.saturating_sub(LABEL)];
    for (number, start) in labels.into_iter().enumerate() {
        if let Some(within) = offset.checked_sub(start).filter(|within| *within < LABEL) {
            return Ok(format!("label {number}, {}", in_label(pool, usize_of(within))?));
        }
    }
    if offset < START {
        return Ok("the space of a boot loader behind the first labels".to_owned());
    }
    if offset >= end {
        return Ok("the bytes behind the last label".to_owned());
    }
    Ok(match check::owner(pool, offset - START)? {
        Some(owner) => format!("a block of {owner}"),
        None => "space that no block has".to_owned(),
    })
}

/// The part of a label at byte `within` of it.
fn in_label(pool: &Zfs, within: usize) -> Result<String> {
    if within < ENVIRONMENT {
        return Ok("the space of a partition table".to_owned());
    }
    if within < CONFIG {
        return Ok("the boot environment".to_owned());
    }
    if within < RING {
        return Ok("the configuration (vdev_phys)".to_owned());
    }
    // As large as what is written at once (vdev_impl.h, VDEV_UBERBLOCK_SHIFT).
    let tree = pool.labels.config.list("vdev_tree");
    let ashift = tree.map_or(Ok(12), |tree| tree.number("ashift"))?;
    let slot = 1_usize << ashift.clamp(10, 13);
    let (number, at) = ((within - RING) / slot, (within - RING) % slot);
    let part =
        if at < Uberblock::LENGTH { named(Uberblock::FIELDS, u64_of(at)) } else { "its end".to_owned() };
    Ok(format!("uberblock {number}, {part}"))
}
