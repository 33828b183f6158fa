//! Files with several names, and files with equal bytes.

use std::collections::HashMap;

use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::inventory::{Contents, Inventory, What, tolerate};
use super::{LISTED, shown, sum};
use crate::error::Result;
use crate::look::copy::Reader;
use crate::units::{KIB, index, u64_of};

/// Files of one length are first compared by so many bytes.
const HEAD: u64 = 4 * KIB;
/// At most this many names of a group are listed.
const NAMED: usize = 12;

/// Files with several names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Links {
    /// How many files have several names.
    pub files: u64,
    /// How many names these have.
    pub names: u64,
    /// How many bytes more these occupied if each name had its own file.
    pub dissolved: u64,
    /// The files that would cost most.
    pub largest: Vec<Group>,
}

/// Files with equal bytes that are not names of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Duplicates {
    /// How many groups of equal files there are.
    pub groups: u64,
    /// How many files these have.
    pub files: u64,
    /// How many bytes fewer these occupied if each group were one file.
    pub wasted: u64,
    /// The groups that cost most.
    pub largest: Vec<Group>,
}

/// Equal files, or names of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Bytes that one of them occupies.
    pub occupied: u64,
    /// How many there are.
    pub count: u64,
    /// The first of them, by their paths.
    pub paths: Vec<String>,
}

impl Group {
    /// What all but one of them occupy, or would.
    #[must_use]
    pub const fn more(&self) -> u64 {
        more(self.occupied, self.count)
    }

    fn of(inventory: &Inventory, members: &[usize]) -> Self {
        let occupied = occupied(inventory, members);
        let paths = members.iter().take(NAMED).map(|member| shown(inventory, *member)).collect();
        Self { occupied, count: u64_of(members.len()), paths }
    }
}

/// What all but one of `count` files of these bytes occupy.
const fn more(occupied: u64, count: u64) -> u64 {
    occupied.saturating_mul(count.saturating_sub(1))
}

/// Bytes that one of the members occupies.
fn occupied(inventory: &Inventory, members: &[usize]) -> u64 {
    members.first().map_or(0, |first| inventory.entries[*first].own)
}

/// The most expensive groups, and what all of them cost.
fn largest(inventory: &Inventory, mut groups: Vec<Vec<usize>>) -> (u64, Vec<Group>) {
    let cost = |members: &Vec<usize>| more(occupied(inventory, members), u64_of(members.len()));
    let all = sum(groups.iter().map(cost));
    groups.sort_by_key(|members| (std::cmp::Reverse(cost(members)), members.first().copied()));
    groups.truncate(LISTED);
    (all, groups.iter().map(|members| Group::of(inventory, members)).collect())
}

/// The files with several names, and what dissolving these links costs.
pub(super) fn links(inventory: &Inventory) -> Links {
    let mut of: HashMap<u32, Vec<usize>> = HashMap::new();
    for (at, entry) in inventory.entries.iter().enumerate() {
        if let Some(first) = entry.first.filter(|_| entry.what == What::File) {
            of.entry(first).or_insert_with(|| vec![index(first)]).push(at);
        }
    }
    let groups: Vec<Vec<usize>> = of.into_values().collect();
    let names = groups.iter().map(|group| u64_of(group.len())).sum();
    let files = u64_of(groups.len());
    let (dissolved, largest) = largest(inventory, groups);
    Links { files, names, dissolved, largest }
}

/// The files with equal bytes.
pub(super) fn duplicates(contents: &Contents<'_>, remarks: &mut Vec<String>) -> Result<Duplicates> {
    let inventory = contents.inventory;
    // Files that occupy nothing of their own waste nothing.
    let files = inventory.files().filter(|file| inventory.entries[*file].own > 0);
    let mut of_size: HashMap<u64, Vec<usize>> = HashMap::new();
    for file in files {
        of_size.entry(inventory.entries[file].size).or_default().push(file);
    }
    let alike: Vec<usize> = of_size.into_values().filter(|group| group.len() > 1).flatten().collect();
    let heads = grouped(contents, alike, HEAD, remarks)?;
    let (small, large): (Vec<_>, Vec<_>) = heads
        .into_iter()
        .partition(|group| group.first().is_none_or(|first| inventory.entries[*first].size <= HEAD));
    let mut groups = grouped(contents, large.into_iter().flatten().collect(), u64::MAX, remarks)?;
    groups.extend(small);
    let (count, files) = (u64_of(groups.len()), groups.iter().map(|group| u64_of(group.len())).sum());
    let (wasted, largest) = largest(inventory, groups);
    Ok(Duplicates { groups: count, files, wasted, largest })
}

/// Files with the same length and the same first `most` bytes; each group ascends.
fn grouped(
    contents: &Contents<'_>,
    files: Vec<usize>,
    most: u64,
    remarks: &mut Vec<String>,
) -> Result<Vec<Vec<usize>>> {
    let digests: Vec<Result<[u8; 32]>> = files
        .par_iter()
        .map_init(Reader::default, |reader, file| digest(contents, *file, most, reader))
        .collect();
    let mut groups: HashMap<(u64, [u8; 32]), Vec<usize>> = HashMap::new();
    for (file, digest) in files.into_iter().zip(digests) {
        match digest {
            Ok(digest) => {
                groups.entry((contents.inventory.entries[file].size, digest)).or_default().push(file);
            }
            Err(error) => tolerate(Err(error), "equal files", remarks)?,
        }
    }
    let mut groups: Vec<Vec<usize>> = groups.into_values().filter(|group| group.len() > 1).collect();
    groups.iter_mut().for_each(|group| group.sort_unstable());
    Ok(groups)
}

/// A digest of the first `most` bytes of a file; zeros and holes are equal.
fn digest(contents: &Contents<'_>, file: usize, most: u64, reader: &mut Reader) -> Result<[u8; 32]> {
    let mut digest = Sha256::new();
    contents.pieces(file, (0, most), reader, &mut |at, bytes| {
        // In grains, so that pieces of any length give the same digest.
        let mut at = at;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (grain, later) = rest.split_at(rest.len().min(crate::units::usize_of(HEAD - at % HEAD)));
            if grain.iter().any(|byte| *byte != 0) {
                digest.update(at.to_le_bytes());
                digest.update(grain);
            }
            at += u64_of(grain.len());
            rest = later;
        }
        Ok(())
    })?;
    Ok(digest.finalize().into())
}
