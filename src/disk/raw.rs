//! Data outside of the partitions, held against the table and the partitions.

use std::sync::Arc;

use super::spec::{BootArea, Disk, Raw};
use crate::error::{Error, Kind, Result, Subject};
use crate::image::Builder;
use crate::table::{Plan, Region, Scheme};
use crate::tree::Ready;
use crate::units::{Bytes, u64_of};

/// Puts the data into the disk, whose boot code is `boot`.
///
/// # Errors
/// [`Kind::Source`] for a file that cannot be read; [`Kind::Manifest`] where it lies over something else or behind the disk,
/// saying what and by how much.
pub(super) fn put(disk: &Disk, boot: &BootArea, plan: &Plan, image: &mut Builder) -> Result<()> {
    let mut taken = plan.regions();
    let end = |start: Bytes, bytes: &Arc<[u8]>| start + Bytes::new(u64_of(bytes.len()));
    for (what, start, bytes) in [
        ("the boot code", Bytes::ZERO, &boot.code),
        ("the boot program", Bytes::new(plan.sector_size), &boot.gap),
    ] {
        taken.push(Region { what: what.to_owned(), start, end: end(start, bytes) });
    }
    for raw in &disk.raw {
        let placed = one(raw, plan, &taken, image).map_err(|error| error.about("raw").on(Subject::Disk))?;
        taken.push(placed);
    }
    Ok(())
}

fn one(raw: &Raw, plan: &Plan, taken: &[Region], image: &mut Builder) -> Result<Region> {
    if plan.scheme == Scheme::None {
        return Err(Error::new(
            Kind::Manifest,
            "a disk without a table has nothing outside of its partition",
        )
        .at(&raw.path)
        .expected("table gpt or mbr"));
    }
    let ready = Arc::new(Ready::look(&raw.path, "raw data")?);
    let (start, end) = (raw.offset, raw.offset + ready.size());
    let refuse = |what: String, excess: Bytes| {
        Error::new(Kind::Manifest, what)
            .at(&raw.path)
            .found(format!("{}, from byte {} to byte {}", ready.size().in_full(), start.get(), end.get()))
            .why(format!("{} too many", excess.in_full()))
    };
    if let Some(most) = raw.most.filter(|most| ready.size() > *most) {
        let what = "raw data is larger than it may be".to_owned();
        return Err(
            refuse(what, ready.size().saturating_sub(most)).expected(format!("at most {}", most.in_full()))
        );
    }
    if end > plan.length {
        let what = "raw data ends behind the disk".to_owned();
        return Err(refuse(what, end.saturating_sub(plan.length))
            .expected(format!("a disk of at least {}", end.in_full()))
            .hint("give the disk a size"));
    }
    let over =
        taken.iter().filter(|region| region.start < end && start < region.end && region.start < region.end);
    if let Some(region) = over.min_by_key(|region| region.start) {
        let excess = end.min(region.end).saturating_sub(start.max(region.start));
        let free = region.start.saturating_sub(start);
        let expected = match region.start > start {
            true => format!("at most {} there", free.in_full()),
            false if region.end >= plan.length => format!("an end before byte {}", region.start.get()),
            false => format!("a place behind byte {}", region.end.get()),
        };
        let hint = match region.what.as_str() {
            what if what.starts_with("partition") => "begin the partition behind it: `start`",
            "the entries of the GPT" => {
                "a shorter array (`entries`) or one elsewhere (`entries_at`) makes way"
            }
            _ => "put it elsewhere",
        };
        return Err(refuse(format!("raw data lies over {}", region.what), excess)
            .expected(expected)
            .hint(hint));
    }
    image.put(start, &ready.image(ready.size())?.whole());
    Ok(Region { what: format!("the raw data {}", crate::text::printable_path(&raw.path)), start, end })
}
