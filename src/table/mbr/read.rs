//! Reads an MBR with the chain of its extended boot records.

use uuid::Uuid;

use crate::error::Result;
use crate::image::Slice;
use crate::table::format::{ACTIVE, BootRecord, EXTENDED, PROTECTIVE, PartitionRecord, RECORD_AT};
use crate::table::read::Table;
use crate::table::{Placed, Scheme, Type};
use crate::units::{Bytes, Sectors};
use crate::wire::Wire;

/// The largest number of logical partitions that are followed.
pub(in crate::table) const MOST_LOGICAL: u32 = 256;

/// The partitions of a master boot record; `None` if it is the boot sector of a filesystem.
pub(in crate::table) fn read(
    disk: &Slice,
    record: &BootRecord,
    remarks: &mut Vec<String>,
) -> Result<Option<Table>> {
    let mut partitions = Vec::new();
    let mut extended = None;
    for (number, record) in (1..).zip(&record.partition_record) {
        if record.is_unused() {
            continue;
        }
        // A boot sector of a filesystem has code at the place of the active flags.
        if record.boot_indicator & !ACTIVE != 0 {
            return Ok(None);
        }
        if EXTENDED.contains(&record.os_type) {
            extended.get_or_insert(u64::from(record.starting_lba));
        }
        partitions.push(placed(record, number, 0));
    }
    if let Some(extended) = extended {
        logical(disk, extended, &mut partitions, remarks)?;
    }
    Ok(Some(Table {
        scheme: Scheme::Mbr,
        sector_size: super::SECTOR,
        guid: Uuid::nil(),
        signature: record.unique_mbr_disk_signature,
        first_usable: Sectors::ZERO,
        last_usable: Sectors::ZERO,
        hybrid: Vec::new(),
        partitions,
    }))
}

/// Whether a master boot record protects a GPT (UEFI 2.10, 5.2.3). Linux takes a record that begins in sector 1 for one,
/// whatever its length (block/partitions/efi.c, `pmbr_part_valid`).
pub(in crate::table) fn protects(record: &BootRecord) -> bool {
    record.partition_record.iter().any(|own| {
        own.os_type == PROTECTIVE
            && own.boot_indicator & !ACTIVE == 0
            && (!own.is_unused() || own.starting_lba == 1)
    })
}

/// Follows the chain of extended boot records from sector `extended` on.
fn logical(
    disk: &Slice,
    extended: u64,
    partitions: &mut Vec<Placed>,
    remarks: &mut Vec<String>,
) -> Result<()> {
    let mut next = extended;
    let mut seen = Vec::new();
    for number in 5..5 + MOST_LOGICAL {
        let at = Sectors::new(next).bytes(super::SECTOR).get() + RECORD_AT;
        let Ok(record) = BootRecord::read(&disk.bytes(at, BootRecord::LENGTH)?) else {
            remarks.push(format!("there is no extended boot record in sector {next}"));
            return Ok(());
        };
        let [own, link, ..] = &record.partition_record;
        if !own.is_unused() {
            let lead = Sectors::new(own.starting_lba.into()).bytes(super::SECTOR);
            partitions.push(Placed { logical: true, lead, ..placed(own, number, next) });
        }
        // A link with a length and the start 0 leads back to the first record; only one without both is none.
        if link.os_type == 0 || link.starting_lba == 0 && link.size_in_lba == 0 {
            return Ok(());
        }
        seen.push(next);
        let following = extended + u64::from(link.starting_lba);
        if seen.contains(&following) {
            remarks.push(format!(
                "the chain of logical partitions is a loop: the boot record in sector {next} leads back to sector {following}"
            ));
            return Ok(());
        }
        next = following;
    }
    remarks.push(format!("the chain of logical partitions is longer than {MOST_LOGICAL}"));
    Ok(())
}

/// The partition of a record whose start counts from sector `base`.
fn placed(record: &PartitionRecord, number: u32, base: u64) -> Placed {
    Placed {
        number,
        offset: Sectors::new(base + u64::from(record.starting_lba)).bytes(super::SECTOR),
        length: Sectors::new(record.size_in_lba.into()).bytes(super::SECTOR),
        kind: Type::Mbr(record.os_type),
        guid: Uuid::nil(),
        label: String::new(),
        attributes: 0,
        active: record.boot_indicator == ACTIVE,
        logical: false,
        lead: Bytes::ZERO,
    }
}
