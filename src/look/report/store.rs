//! The store of Nix in an image: its store paths by size, and because of whom each is there.

use serde::Serialize;

use super::graph::{retained, roots, ways};
use super::inventory::{Contents, Inventory};
use super::references::{Member, references};
use crate::error::Result;
use crate::nix::StorePath;
use crate::units::{index, u64_of};

/// At most this many store paths are listed, the largest ones.
const LISTED: usize = 500;
/// At most this many referrers of one are named.
const REFERRERS: usize = 12;

/// The store of Nix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Store {
    /// Its directory.
    pub place: String,
    /// How many store paths there are.
    pub count: u64,
    /// What they occupy.
    pub occupied: u64,
    /// Where the references come from.
    pub references: String,
    /// The store paths that no other one refers to.
    pub roots: Vec<String>,
    /// The largest store paths.
    pub paths: Vec<StoreEntry>,
}

/// A store path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoreEntry {
    /// Its base name.
    pub name: String,
    /// Bytes that it occupies.
    pub occupied: u64,
    /// Bytes that would go with it: its own, and those of store paths that are only there because of it.
    pub retained: u64,
    /// How many store paths refer to it.
    pub referrers: u64,
    /// The first of them, by their base names.
    pub because_of: Vec<String>,
    /// A shortest way from a root to it, both included.
    pub way: Vec<String>,
}

/// The store, if the image has one.
pub(super) fn store(contents: &Contents<'_>, remarks: &mut Vec<String>) -> Result<Option<Store>> {
    let inventory = contents.inventory;
    let children = inventory.children();
    let Some((top, members)) = members(inventory, &children) else { return Ok(None) };
    let found = references(contents, &members, &children, remarks)?;
    let of = found.of;
    let roots = roots(&of);
    let before = ways(&of, &roots);
    let sizes: Vec<u64> = members.iter().map(|own| inventory.entries[own.entry].total).collect();
    let retained = retained(&of, &roots, &sizes);
    let mut referrers: Vec<Vec<usize>> = vec![Vec::new(); members.len()];
    for (from, own) in of.iter().enumerate() {
        own.iter().for_each(|to| referrers[*to].push(from));
    }
    let name = |number: usize| members[number].path.base_name().to_owned();
    let way = |number: usize| {
        let mut way: Vec<String> =
            std::iter::successors(Some(number), |node| before[*node]).map(name).collect();
        way.reverse();
        way
    };
    let mut largest: Vec<usize> = (0..members.len()).collect();
    largest.sort_by_key(|number| (std::cmp::Reverse(sizes[*number]), *number));
    largest.truncate(LISTED);
    let entry = |number: usize| StoreEntry {
        name: name(number),
        occupied: sizes[number],
        retained: retained[number],
        referrers: u64_of(referrers[number].len()),
        because_of: referrers[number].iter().take(REFERRERS).map(|own| name(*own)).collect(),
        way: way(number),
    };
    Ok(Some(Store {
        place: super::shown(inventory, top),
        count: u64_of(members.len()),
        occupied: super::sum(sizes.iter().copied()),
        references: found.source,
        roots: roots.iter().take(REFERRERS).map(|root| name(*root)).collect(),
        paths: largest.into_iter().map(entry).collect(),
    }))
}

/// The directory of the store and the store paths in it, sorted: `/nix/store`, or, for a partition that is mounted there or
/// at `/nix`, its root or `/store`.
fn members(inventory: &Inventory, children: &[Vec<u32>]) -> Option<(usize, Vec<Member>)> {
    let places: [&[&[u8]]; 3] = [&[b"nix", b"store"], &[b"store"], &[]];
    for path in places {
        for top in inventory.tops() {
            let Some(place) = inventory.find(top, path, children) else { continue };
            let member = |child: &u32| {
                let entry = index(*child);
                let name = std::str::from_utf8(&inventory.entries[entry].name).ok()?;
                Some(Member { path: StorePath::from_base_name(name).ok()?, entry })
            };
            let mut found: Vec<Member> = children[place].iter().filter_map(member).collect();
            if !found.is_empty() {
                found.sort_by(|one, other| one.path.cmp(&other.path));
                return Some((place, found));
            }
        }
    }
    None
}
