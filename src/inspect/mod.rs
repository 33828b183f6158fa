//! Looks inside an image: its container, its partition table, its filesystems. It reads through an
//! [`Image`](crate::image::Image), so it is the same for every format. It trusts nothing that it reads.

mod filesystem;
mod table;
mod text;

use serde::Serialize;

use crate::container::Opened;
use crate::error::Result;
use crate::image::Slice;

pub use filesystem::Found;
pub use table::{Entry, Table};

/// What an image is and what it contains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// Format of the file.
    pub format: String,
    /// Details of the file, in the words of its format.
    pub details: Vec<(String, String)>,
    /// Length of the disk in bytes.
    pub virtual_size: u64,
    /// Length of the file in bytes.
    pub file_size: u64,
    /// Bytes that the file occupies on the host.
    pub actual_size: u64,
    /// Bytes of the disk that are stored; the rest are holes.
    pub allocated: u64,
    /// The backing file, as it is recorded.
    pub backing: Option<String>,
    /// The partition table.
    pub table: Option<Table>,
    /// A filesystem without a partition table.
    pub filesystem: Option<Found>,
    /// Faults of the image, as sentences.
    pub remarks: Vec<String>,
}

/// Looks inside an open image.
///
/// # Errors
/// [`Kind::Source`](crate::error::Kind::Source) and [`Kind::Format`](crate::error::Kind::Format) where data
/// of the image cannot be read. A damaged table or filesystem is a remark.
pub fn inspect(opened: &Opened) -> Result<Inspection> {
    let image = &opened.image;
    let mut remarks = Vec::new();
    // Without its backing file, parts of an overlay are missing, so its contents would look damaged.
    let whole = opened.backing.is_none() || opened.files.len() > 1;
    if !whole {
        remarks.push("what the backing file holds is not shown, since that file was not opened".to_owned());
    }
    let mut patience = filesystem::PATIENCE;
    let table = if whole { table::read_any(image, &mut patience, &mut remarks)? } else { None };
    // A bare filesystem may begin with a boot sector that looks like an empty table.
    let filesystem = match &table {
        Some(table) if !table.partitions.is_empty() => None,
        _ if whole => filesystem::find(&image.whole(), &mut patience)?,
        _ => None,
    };
    Ok(Inspection {
        format: opened.format.to_string(),
        details: opened.details.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        virtual_size: image.length().get(),
        file_size: opened.file_size,
        actual_size: opened.actual_size,
        allocated: image.covered().get(),
        backing: opened.backing.as_ref().map(crate::text::printable_path),
        table: if filesystem.is_some() { None } else { table },
        filesystem,
        remarks,
    })
}

/// The contents of a partition, or of a disk without a table; `None` if they are unknown.
///
/// # Errors
/// [`Kind::Source`](crate::error::Kind::Source) where they cannot be read.
pub(crate) fn contents(slice: &Slice) -> Result<Option<Found>> {
    filesystem::find(slice, &mut { filesystem::PATIENCE })
}

/// Bytes up to the first NUL, as text without blanks at its ends.
fn text_of(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    crate::text::printable(&bytes[..end]).trim().to_owned()
}
