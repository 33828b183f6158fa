//! A disk that a pool has alone, as `zpool create` makes it (lib/libzfs/os/linux/libzfs_pool_os.c, zpool_label_disk).

use crate::error::{Error, Result};
use crate::table::{Plan, Scheme, Type};
use crate::units::Bytes;

/// The partitions with the pool, and behind it with nothing (V_RESERVED).
const POOL: u32 = 1;
pub(super) const RESERVED: u32 = 9;
pub(super) const RESERVED_TYPE: &str = "solaris-reserved";
/// Sectors of the second one (efi_partition.h, EFI_MIN_RESV_SIZE): 8 MiB, or 64 MiB of sectors with 4096 bytes.
const RESERVED_SECTORS: u64 = 16 * 1024;
/// Its size on disks with sectors of 512 bytes.
pub(super) const RESERVED_SIZE: Bytes = Bytes::new(RESERVED_SECTORS * 512);

/// Whether OpenZFS grows the partition with the pool when the disk has grown: it looks for a disk that has the same partitions
/// as those that it made (lib/libefi/rdwr_efi.c, efi_use_whole_disk).
pub(crate) fn grows_with_disk(plan: &Plan, number: usize) -> Result<bool> {
    let pool = plan.partitions.get(number).ok_or_else(|| Error::bug("a pool has no place"))?;
    let Some(last) = plan.partitions.iter().max_by_key(|placed| placed.offset) else { return Ok(false) };
    let is_reserved = last.number == RESERVED
        && last.kind == Type::parse(RESERVED_TYPE, None)?
        && (last.offset, last.length)
            == (pool.offset + pool.length, Bytes::new(RESERVED_SECTORS * plan.sector_size));
    Ok(plan.scheme == Scheme::Gpt && pool.number == POOL && is_reserved)
}
