//! What changed since an older image: sizes by name, store paths without their hashes, and all that a reader sees.

use std::collections::BTreeMap;

use serde::Serialize;

use super::inventory::{Inventory, What};
use super::{LONGEST, shown, sum};
use crate::error::Result;
use crate::look::diff::{Options, media};
use crate::look::medium::Medium;
use crate::nix::StorePath;
use crate::progress::Progress;
use crate::text::{printable_path, shortened};
use crate::units::index;

/// At most this many of each are listed.
const LISTED: usize = 200;

/// What changed since an older image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// The older image.
    pub since: String,
    /// What files occupied in it.
    pub before: u64,
    /// What they occupy now.
    pub after: u64,
    /// Files and store paths whose size changed, the largest change first. The hash of a store path is left out, so that
    /// two versions of one package are one change.
    pub sizes: Vec<Change>,
    /// How many differences `diff` finds.
    pub count: u64,
    /// The first of them, in its words.
    pub first: Vec<String>,
}

/// A name whose size changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The name.
    pub name: String,
    /// What it occupied; absent if it was not there.
    pub before: Option<u64>,
    /// What it occupies; absent if it is gone.
    pub after: Option<u64>,
}

impl Change {
    /// How far the sizes are apart.
    #[must_use]
    pub fn distance(&self) -> u64 {
        self.before.unwrap_or(0).abs_diff(self.after.unwrap_or(0))
    }
}

/// Compares with an older image.
pub(super) fn changes(
    older: (&Medium, Option<&str>),
    newer: (&Medium, Option<&str>),
    inventory: &Inventory,
    progress: &Progress,
) -> Result<Changes> {
    let (before, _) = Inventory::read(older.0, older.1, &mut Vec::new(), progress)?;
    let (mut count, mut first) = (0, Vec::new());
    media(older, newer, &Options { content: false, progress }, &mut |difference| {
        count += 1;
        if first.len() < LISTED {
            first.push(shortened(difference.to_string().as_bytes(), LONGEST));
        }
        Ok(())
    })?;
    let all = |inventory: &Inventory| sum(inventory.tops().map(|top| inventory.entries[top].total));
    Ok(Changes {
        since: printable_path(older.0.path()),
        before: all(&before),
        after: all(inventory),
        sizes: sizes(&named(&before), &named(inventory)),
        count,
        first,
    })
}

/// The names whose sizes differ, the largest change first.
fn sizes(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> Vec<Change> {
    let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
    let change = |name: &String| Change {
        name: name.clone(),
        before: before.get(name).copied(),
        after: after.get(name).copied(),
    };
    let mut all: Vec<Change> = names.map(change).filter(|own| own.before != own.after).collect();
    all.sort_by(|one, other| other.distance().cmp(&one.distance()).then_with(|| one.name.cmp(&other.name)));
    all.truncate(LISTED);
    all
}

/// What each file and each store path occupies. Store paths with one name are added up.
fn named(inventory: &Inventory) -> BTreeMap<String, u64> {
    let mut sizes = BTreeMap::new();
    // Entries in a store path are part of it; a directory stands before what is in it.
    let mut inside = vec![false; inventory.entries.len()];
    for (at, entry) in inventory.entries.iter().enumerate() {
        let Some(parent) = entry.parent.map(index) else { continue };
        inside[at] = inside[parent];
        if inside[at] {
            continue;
        }
        let store = &*inventory.entries[parent].name == b"store";
        let path = if store { std::str::from_utf8(&entry.name).ok() } else { None };
        let path = path.and_then(|name| StorePath::from_base_name(name).ok());
        let (name, size) = match path {
            Some(path) => {
                inside[at] = true;
                (format!("{}/…-{}", shown(inventory, parent), path.name()), entry.total)
            }
            None if entry.what == What::Directory => continue,
            None => (shown(inventory, at), entry.own),
        };
        let own: &mut u64 = sizes.entry(name).or_default();
        *own = own.saturating_add(size);
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_change_comes_first() {
        let of = |pairs: &[(&str, u64)]| -> BTreeMap<String, u64> {
            pairs.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect()
        };
        let found = sizes(&of(&[("a", 1), ("b", 10), ("c", 5)]), &of(&[("a", 1), ("c", 7), ("d", 4)]));
        let shown: Vec<_> = found.iter().map(|own| (own.name.as_str(), own.before, own.after)).collect();
        assert_eq!(shown, [("b", Some(10), None), ("d", None, Some(4)), ("c", Some(5), Some(7))]);
    }
}
