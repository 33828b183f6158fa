//! What a qcow2 file keeps besides its disk: snapshots, and bitmaps of what changed (QEMU docs/interop/qcow2.txt, "Snapshots",
//! "Bitmaps").

use super::format::{EXTENSION_BITMAPS, Header, Level1, MOST_L1, OFFSET};
use super::read::extensions;
use crate::container::source::{Source, be64s};
use crate::error::Result;

/// The feature of an image whose bitmaps are up to date (autoclear bit 0).
const AUTOCLEAR_BITMAPS: u64 = 1;
/// Bytes of the record of a snapshot before what has no fixed length.
const SNAPSHOT: u64 = 40;
/// The same of a bitmap.
const BITMAP: u64 = 24;
/// The most bytes of all tables of snapshots beside the length of the file: one largest table.
const MOST_TABLES: u64 = MOST_L1;

/// The snapshots of a file.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    /// Their L1 tables.
    pub(super) tables: Vec<Level1>,
    /// One past the last byte of their table.
    pub(super) end: u64,
    pub(super) faults: Vec<String>,
}

/// A big-endian number in `bytes`; `None` if they end before it.
fn number(bytes: &[u8], from: usize, length: usize) -> Option<u64> {
    let own = bytes.get(from..from + length)?;
    Some(own.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte)))
}

/// Reads the table of snapshots.
///
/// # Errors
/// Where the file cannot be read.
pub(super) fn snapshots(source: &Source, header: &Header, cluster: u64) -> Result<Snapshots> {
    let mut found = Snapshots { end: header.snapshots_offset, ..Snapshots::default() };
    let mut left = source.size.saturating_add(MOST_TABLES);
    for place in 0..header.nb_snapshots {
        let head = source.read_some(found.end, SNAPSHOT)?;
        let part = |from: usize, length: usize| number(&head, from, length);
        let (Some(l1), Some(entries), Some(id), Some(name), Some(extra)) =
            (part(0, 8), part(8, 4), part(12, 2), part(14, 2), part(36, 4))
        else {
            found.faults.push(format!("snapshot {place} of {} is cut off", header.nb_snapshots));
            break;
        };
        let next = (found.end + SNAPSHOT + extra + id + name).next_multiple_of(8);
        if next > source.size.next_multiple_of(8) {
            found.faults.push(format!("snapshot {place} of {} is cut off", header.nb_snapshots));
            break;
        }
        let length = entries * 8;
        let inside = l1.checked_add(length).is_some_and(|end| end <= source.size);
        let fits = left.checked_sub(length);
        let (true, Some(rest)) = (l1 > 0 && l1.is_multiple_of(cluster) && inside && length <= MOST_L1, fits)
        else {
            let what = format!("the L1 table of snapshot {place} cannot be {length} bytes at {l1}");
            found.faults.push(what);
            break;
        };
        left = rest;
        found.tables.push(Level1 { offset: l1, entries });
        found.end = next;
    }
    Ok(found)
}

/// Passes what bitmaps have to `each`: a byte and a length each.
///
/// # Errors
/// Where they lie outside of the file.
pub(super) fn bitmaps(
    source: &Source,
    header: &Header,
    cluster: u64,
    each: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    if header.autoclear_features & AUTOCLEAR_BITMAPS == 0 {
        return Ok(());
    }
    for extension in extensions(source, header)?.iter().filter(|own| own.kind == EXTENSION_BITMAPS) {
        let bytes = source.read(extension.data, extension.length.min(BITMAP), "the extension of bitmaps")?;
        let part = |from: usize, length: usize| number(&bytes, from, length);
        let (Some(count), Some(length), Some(at)) = (part(0, 4), part(8, 8), part(16, 8)) else { continue };
        source.within(at, length, "the directory of bitmaps")?;
        each(at, length);
        let (mut place, mut left) = (at, source.size);
        for _ in 0..count {
            let head = source.read(place, BITMAP, "a bitmap")?;
            let part = |from: usize, length: usize| number(&head, from, length).unwrap_or_default();
            let (table, entries, name, extra) = (part(0, 8), part(8, 4), part(18, 2), part(20, 4));
            left = left
                .checked_sub(entries * 8)
                .ok_or_else(|| source.wrong("bitmaps have too many tables", place))?;
            each(table, entries * 8);
            for entry in be64s(&source.read(table, entries * 8, "the table of a bitmap")?) {
                if entry & OFFSET != 0 {
                    each(entry & OFFSET, cluster);
                }
            }
            place += (BITMAP + extra + name).next_multiple_of(8);
            if place >= at + length {
                break;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_with_their_bytes() {
        assert_eq!(number(&[1, 2, 3], 1, 2), Some(0x203));
        assert_eq!(number(&[1, 2, 3], 2, 2), None);
    }
}
