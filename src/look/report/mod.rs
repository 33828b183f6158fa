//! What is in an image, and what fills it: for people who ask why it is that large.
//!
//! [`report()`] walks every filesystem of an image once and keeps one [`Entry`] for each name. All parts of the [`Report`]
//! follow from these. [`text()`] shows it on a terminal, [`page()`] makes one HTML file of it, and its JSON has all of it but
//! the tree.

mod change;
mod compress;
mod disk;
mod equal;
mod graph;
mod inventory;
mod page;
mod references;
mod store;
mod text;
mod treemap;

use serde::Serialize;

pub use change::{Change, Changes};
pub use compress::{Compression, Suffix};
pub use disk::{Area, Extent, Use};
pub use equal::{Duplicates, Group, Links};
pub use inventory::{Entry, Inventory, What};
pub use page::page;
pub use store::{Store, StoreEntry};
pub use text::text;

use super::medium::Medium;
use crate::error::Result;
use crate::progress::Progress;
use crate::text::{printable_path, shortened};
use crate::units::u64_of;

/// How many of the largest, of a kind, are listed.
const LISTED: usize = 50;
/// Bytes of a path that are shown; a path of 4 KiB would fill a page.
const LONGEST: usize = 512;

/// What is in an image.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The file of the image.
    pub image: String,
    /// Its container format.
    pub format: String,
    /// Length of the disk in bytes.
    pub virtual_size: u64,
    /// Bytes that the file occupies on the host.
    pub actual_size: u64,
    /// Names in all filesystems, without their roots.
    pub names: u64,
    /// Regular files, each once.
    pub files: u64,
    /// Bytes that files and directories occupy in their filesystems.
    pub occupied: u64,
    /// The parts of the disk, in their order.
    pub areas: Vec<Area>,
    /// The largest files.
    pub largest: Vec<Large>,
    /// Files with several names.
    pub links: Links,
    /// Files with equal bytes.
    pub duplicates: Duplicates,
    /// What compresses.
    pub compression: Compression,
    /// The store of Nix, if there is one.
    pub store: Option<Store>,
    /// The difference from another image, if there is one.
    pub changes: Option<Changes>,
    /// What could not be read or may surprise, as sentences.
    pub remarks: Vec<String>,
    /// Everything by name.
    #[serde(skip)]
    pub inventory: Inventory,
}

/// A large file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Large {
    /// Its path, behind the partition.
    pub path: String,
    /// Its length.
    pub size: u64,
    /// Bytes that it occupies.
    pub occupied: u64,
}

/// Reads everything that a report says of an open image, or of one partition of it. `other` is an image to compare with,
/// the older one.
///
/// # Errors
/// Where the image cannot be read. A damaged filesystem is a remark, and what was read of it is reported.
pub fn report(
    (medium, partition): (&Medium, Option<&str>),
    other: Option<(&Medium, Option<&str>)>,
    progress: &Progress,
) -> Result<Report> {
    let mut remarks = medium.remarks().to_vec();
    let (inventory, volumes) = Inventory::read(medium, partition, &mut remarks, progress)?;
    let areas = disk::areas(medium, partition, &inventory, &volumes, &mut remarks)?;
    let contents = inventory::Contents::new(&inventory, &volumes, progress);
    let duplicates = equal::duplicates(&contents, &mut remarks)?;
    let compression = compress::estimate(&contents, &mut remarks)?;
    let store = store::store(&contents, &mut remarks)?;
    let changes = match other {
        Some((older, of_older)) => {
            Some(change::changes((older, of_older), (medium, partition), &inventory, progress)?)
        }
        None => None,
    };
    Ok(Report {
        image: printable_path(medium.path()),
        format: medium.opened().format.to_string(),
        virtual_size: medium.opened().image.length().get(),
        actual_size: medium.opened().actual_size,
        names: u64_of(inventory.entries.iter().filter(|entry| entry.parent.is_some()).count()),
        files: u64_of(inventory.files().count()),
        occupied: sum(inventory.tops().map(|top| inventory.entries[top].total)),
        areas,
        largest: largest(&inventory),
        links: equal::links(&inventory),
        duplicates,
        compression,
        store,
        changes,
        remarks,
        inventory,
    })
}

fn largest(inventory: &Inventory) -> Vec<Large> {
    let mut files: Vec<usize> = inventory.files().collect();
    files.sort_by_key(|file| {
        let entry = &inventory.entries[*file];
        (std::cmp::Reverse((entry.own, entry.size)), *file)
    });
    files.truncate(LISTED);
    let large = |file: usize| {
        let entry = &inventory.entries[file];
        Large { path: shown(inventory, file), size: entry.size, occupied: entry.own }
    };
    files.into_iter().map(large).collect()
}

/// The sum of sizes, which may be whatever an image says.
fn sum(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

/// The path of an entry, for people.
fn shown(inventory: &Inventory, entry: usize) -> String {
    shortened(&inventory.path(entry), LONGEST)
}
