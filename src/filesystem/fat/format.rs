//! The bytes: boot sector, FSInfo sector, directory entries, dates. Offsets stand beside the fields; docs/formats/fat.md
//! says why each has its value. Numbers are little-endian throughout.

use super::geometry::{ENTRY, FATS, FatType, Geometry};
use super::names::{ShortName, UNITS};
use crate::calendar::civil;
use crate::tree::Time;
use crate::units::{Clusters, Sectors, low8, low16, low32, usize_of};

/// Bytes of a boot sector and of FSInfo, whatever the size of a sector; fatgen103 puts the signature at 510 in both.
const SECTOR: usize = 512;
/// Which sector holds FSInfo, and which the copy of the boot sector (FAT32).
pub(super) const FSINFO: u64 = 1;
pub(super) const BACKUP: u64 = 6;
/// Cluster where the root directory of FAT32 begins: the first there is.
pub(super) const ROOT_CLUSTER: u32 = 2;

/// What a volume calls itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    /// `None`: "NO NAME", and no entry in the root directory.
    pub(super) label: Option<[u8; 11]>,
    pub(super) volume_id: u32,
    /// Sectors before the volume.
    pub(super) hidden: Sectors,
}

/// The boot sector (fatgen103, "Boot Sector and BPB").
pub(super) fn boot_sector(geometry: &Geometry, identity: &Identity) -> Vec<u8> {
    let mut bytes = vec![0; SECTOR];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    let wide = geometry.fat == FatType::Fat32;
    // Jump over the fields, without code behind it: the volume is no boot disk.
    put(0, if wide { &[0xeb, 0x58, 0x90] } else { &[0xeb, 0x3c, 0x90] });
    put(3, b"mkfs.fat");
    put(11, &low16(geometry.sector_size).to_le_bytes());
    put(13, &[low8(geometry.sectors_per_cluster)]);
    put(14, &low16(geometry.reserved.get()).to_le_bytes());
    put(16, &[low8(FATS)]);
    put(17, &low16(geometry.root_entries).to_le_bytes());
    // One count of sectors of 16 bits, or one of 32 bits.
    match u16::try_from(geometry.sectors.get()) {
        Ok(sectors) => put(19, &sectors.to_le_bytes()),
        Err(_) => put(32, &low32(geometry.sectors.get()).to_le_bytes()),
    }
    put(21, &[geometry.media]);
    put(24, &geometry.sectors_per_track.to_le_bytes());
    put(26, &geometry.heads.to_le_bytes());
    // `mkfs.fat` too leaves 0 where the partition begins past what the field holds.
    put(28, &u32::try_from(identity.hidden.get()).unwrap_or(0).to_le_bytes());
    if wide {
        put(36, &low32(geometry.fat_length.get()).to_le_bytes());
        put(44, &ROOT_CLUSTER.to_le_bytes());
        put(48, &low16(FSINFO).to_le_bytes());
        put(50, &low16(BACKUP).to_le_bytes());
    } else {
        put(22, &low16(geometry.fat_length.get()).to_le_bytes());
    }
    // The rest is the same in both, behind the fields that only FAT32 has.
    let rest = if wide { 64 } else { 36 };
    // The drive's number in a BIOS: the first disk, or the first floppy drive.
    put(rest, &[if geometry.media == 0xf8 { 0x80 } else { 0 }]);
    put(rest + 2, &[0x29]);
    put(rest + 3, &identity.volume_id.to_le_bytes());
    put(rest + 7, &identity.label.unwrap_or(*b"NO NAME    "));
    put(rest + 18, format!("{:<8}", geometry.fat.to_string()).as_bytes());
    put(510, &[0x55, 0xaa]);
    bytes
}

/// The FSInfo sector (fatgen103, "FAT32 FSInfo Sector Structure"): hints that save a driver reading the whole FAT.
pub(super) fn fsinfo(free: Clusters, next_free: Option<u32>) -> Vec<u8> {
    let mut bytes = vec![0; SECTOR];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, b"RRaA");
    put(484, b"rrAa");
    put(488, &low32(free.get()).to_le_bytes());
    // All ones: no hint, here because there is no free cluster.
    put(492, &next_free.unwrap_or(u32::MAX).to_le_bytes());
    put(508, &[0, 0, 0x55, 0xaa]);
    bytes
}

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attribute {
    /// Archive: "changed since the last backup", as every system marks a new file. Nothing is read-only or hidden:
    /// modes are not kept.
    File,
    Directory,
    Label,
}

impl Attribute {
    const fn byte(self) -> u8 {
        match self {
            Self::File => 0x20,
            Self::Directory => 0x10,
            Self::Label => 0x08,
        }
    }
}

/// A date and time of a directory entry, in steps of two seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date {
    day: u16,
    time: u16,
}

impl Date {
    /// 1980-01-01 00:00:00 UTC and 2107-12-31 23:59:59 UTC, in seconds since 1970.
    const FIRST: i64 = 315_532_800;
    const LAST: i64 = 4_354_819_199;

    /// The date of a point in time, in UTC; what is before 1980 or after 2107 becomes the first or last there is.
    pub(super) fn new(time: Time) -> Self {
        let seconds = time.seconds.clamp(Self::FIRST, Self::LAST).unsigned_abs();
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days.cast_signed());
        let since = year.saturating_sub(1980).unsigned_abs();
        Self {
            day: low16((since << 9) | u64::from(month << 5 | day)),
            time: low16(((second / 3600) << 11) | ((second / 60 % 60) << 5) | (second % 60 / 2)),
        }
    }
}

/// A directory entry with a short name (fatgen103, "FAT Directory Structure"). All of its times are the same.
pub(super) fn entry(
    name: ShortName,
    attribute: Attribute,
    cluster: u32,
    size: u32,
    date: Date,
) -> [u8; ENTRY_LENGTH] {
    let mut bytes = [0; ENTRY_LENGTH];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, &name.0);
    put(11, &[attribute.byte()]);
    put(14, &date.time.to_le_bytes());
    put(16, &date.day.to_le_bytes());
    put(18, &date.day.to_le_bytes());
    put(20, &low16(u64::from(cluster >> 16)).to_le_bytes());
    put(22, &date.time.to_le_bytes());
    put(24, &date.day.to_le_bytes());
    put(26, &low16(u64::from(cluster)).to_le_bytes());
    put(28, &size.to_le_bytes());
    bytes
}

/// [`ENTRY`] as a length in memory.
const ENTRY_LENGTH: usize = usize_of(ENTRY);

/// The entries of a long name, in their order on the disk: the last part first, each with 13 UTF-16 units, the number
/// of the part and the checksum of the short name (fatgen103, "Long Directory Entry").
pub(super) fn long_entries(name: &str, short: ShortName) -> Vec<[u8; ENTRY_LENGTH]> {
    let units: Vec<u16> = name.encode_utf16().collect();
    let parts = units.chunks(UNITS).zip(1_u8..);
    let mut entries: Vec<_> =
        parts.map(|(part, number)| long_entry(part, number, short.checksum())).collect();
    if let Some(last) = entries.last_mut() {
        last[0] |= 0x40;
    }
    entries.reverse();
    entries
}

fn long_entry(part: &[u16], number: u8, checksum: u8) -> [u8; ENTRY_LENGTH] {
    let mut bytes = [0; ENTRY_LENGTH];
    bytes[0] = number;
    // Read-only, hidden, system and label at once: old systems show no such entry.
    bytes[11] = 0x0f;
    bytes[13] = checksum;
    // A shorter part ends in NUL; behind that, all ones.
    let units = part.iter().copied().chain(std::iter::once(0)).chain(std::iter::repeat(0xffff));
    let places = (1..11).step_by(2).chain((14..26).step_by(2)).chain((28..32).step_by(2));
    for (at, unit) in places.zip(units) {
        bytes[at..at + 2].copy_from_slice(&unit.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_civil_and_clamped() {
        let date = |seconds| {
            let date = Date::new(Time::seconds(seconds));
            let (day, time) = (date.day, date.time);
            (
                (u32::from(day >> 9) + 1980, day >> 5 & 15, day & 31),
                (time >> 11, time >> 5 & 63, (time & 31) * 2),
            )
        };
        for (seconds, expected) in [
            (0, ((1980, 1, 1), (0, 0, 0))),
            (-5, ((1980, 1, 1), (0, 0, 0))),
            (315_532_799, ((1980, 1, 1), (0, 0, 0))),
            (315_532_803, ((1980, 1, 1), (0, 0, 2))),
            (951_782_399, ((2000, 2, 28), (23, 59, 58))),
            (951_782_400, ((2000, 2, 29), (0, 0, 0))),
            (951_868_800, ((2000, 3, 1), (0, 0, 0))),
            (1_426_325_213, ((2015, 3, 14), (9, 26, 52))),
            (4_107_542_400, ((2100, 3, 1), (0, 0, 0))),
            (4_354_819_199, ((2107, 12, 31), (23, 59, 58))),
            (i64::MAX, ((2107, 12, 31), (23, 59, 58))),
        ] {
            assert_eq!(date(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn long_entries_stand_last_part_first() {
        let short = ShortName(*b"THEQUI~1FOX");
        let entries = long_entries("The quick brown.fox", short);
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0][0], 0x42);
        assert_eq!(&entries[0][1..11], b"w\0n\0.\0f\0o\0");
        assert_eq!(&entries[0][14..18], b"x\0\0\0");
        assert_eq!(entries[0][18..26], [0xff; 8]);
        assert_eq!((entries[1][0], entries[1][11], entries[1][12]), (1, 0x0f, 0));
        assert_eq!(&entries[1][1..11], b"T\0h\0e\0 \0q\0");
        assert_eq!(&entries[1][28..32], b"r\0o\0");
        assert!(entries.iter().all(|entry| entry[13] == short.checksum() && entry[26..28] == [0, 0]));
    }

    #[test]
    fn a_full_part_has_no_end_mark() {
        let entries = long_entries(&"x".repeat(13), ShortName(*b"XXXXXX~1   "));
        assert_eq!(entries.len(), 1);
        assert_eq!(&entries[0][28..32], b"x\0x\0");
    }
}
