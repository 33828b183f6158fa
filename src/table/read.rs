//! Reading the partition table of any disk. Nothing that is read is trusted.

use uuid::Uuid;

use super::format::{BootRecord, RECORD_AT};
use super::{Placed, Scheme, gpt, mbr};
use crate::error::Result;
use crate::image::Slice;
use crate::units::{Sectors, usize_of};
use crate::wire::Wire;

/// A partition table as it stands on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Which one it is.
    pub scheme: Scheme,
    /// Bytes in a logical sector.
    pub sector_size: u64,
    /// GUID of the disk; nil in an MBR.
    pub guid: Uuid,
    /// Signature of the disk in its boot record.
    pub signature: u32,
    /// First sector that partitions may use; 0 in an MBR, which does not say.
    pub first_usable: Sectors,
    /// Last sector that partitions may use; 0 in an MBR.
    pub last_usable: Sectors,
    /// Numbers of the partitions of a GPT that a hybrid MBR shows, in its order.
    pub hybrid: Vec<u32>,
    /// The partitions by number. An extended partition is one of them, before the logical ones that lie in it. Each may lie
    /// anywhere, also outside the disk.
    pub partitions: Vec<Placed>,
}

/// What was found where a disk has its partition table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The table, if there is one.
    pub table: Option<Table>,
    /// What is not in order, in sentences.
    pub remarks: Vec<String>,
}

/// Reads the partition table of a disk: GPT with sectors of 512 or 4096 bytes, by its primary or its backup header, or MBR
/// with logical partitions.
///
/// # Errors
/// [`Kind::Source`](crate::error::Kind::Source) where the disk cannot be read. A table that is not in order is a remark.
pub fn read(disk: &Slice) -> Result<Found> {
    let mut found = Found::default();
    let record = BootRecord::read(&bytes(disk, RECORD_AT, BootRecord::LENGTH)?).ok();
    for sector in [512, 4096] {
        found.table = gpt::read(disk, sector, &mut found.remarks)?;
        if let Some(table) = &mut found.table {
            match &record {
                Some(record) => {
                    table.signature = record.unique_mbr_disk_signature;
                    table.hybrid = super::hybrid::shown(record, table);
                }
                None => found.remarks.push("the disk has a GPT but no protective MBR".to_owned()),
            }
            return Ok(found);
        }
    }
    if let Some(record) = &record {
        found.table = mbr::read(disk, record, &mut found.remarks)?;
    }
    Ok(found)
}

/// `length` bytes of a disk at `offset`; zero where they lie outside.
pub(super) fn bytes(disk: &Slice, offset: u64, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    disk.read(offset, &mut bytes)?;
    Ok(bytes)
}

/// `length` bytes of a disk from sector `lba` on; zero where they lie outside.
pub(super) fn sectors(disk: &Slice, lba: u64, sector: u64, length: u64) -> Result<Vec<u8>> {
    bytes(disk, Sectors::new(lba).bytes(sector).get(), usize_of(length))
}
