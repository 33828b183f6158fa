//! The bytes: boot sector, FSInfo sector, directory entries, dates. docs/formats/fat.md gives the reason for
//! each value. All numbers are little-endian. Boot sector and FSInfo have 512 bytes for every sector size,
//! because fatgen103 puts the signature at 510 in both.

use super::geometry::{ENTRY, FATS, FatType, Geometry};
use super::names::{ShortName, UNITS};
use crate::calendar::{civil, days};
use crate::error::{Error, Result};
use crate::tree::Time;
use crate::units::{Clusters, Sectors, half_hi16, half_lo16, narrow, usize_of};
use crate::wire::{Structure, Wire, wire};

/// Every structure, for the tables of docs/formats/fat.md.
pub(crate) const STRUCTURES: &[Structure] = &[
    Bpb::STRUCTURE,
    ExtendedBpb::STRUCTURE,
    BootSector16::STRUCTURE,
    BootSector32::STRUCTURE,
    FsInfo::STRUCTURE,
    DirectoryEntry::STRUCTURE,
    LongEntry::STRUCTURE,
];

wire! {
    /// The fields that all boot sectors share, from byte 11 on (fatgen103, "Boot Sector and BPB").
    pub(crate) struct Bpb: "FAT BIOS parameter block", little, 25 {
        0 bytes_per_sec "BPB_BytsPerSec": u16,
        2 sec_per_clus "BPB_SecPerClus": u8,
        3 rsvd_sec_cnt "BPB_RsvdSecCnt": u16,
        5 num_fats "BPB_NumFATs": u8,
        6 root_ent_cnt "BPB_RootEntCnt": u16,
        8 tot_sec16 "BPB_TotSec16": u16,
        10 media "BPB_Media": u8,
        11 fat_sz16 "BPB_FATSz16": u16,
        13 sec_per_trk "BPB_SecPerTrk": u16,
        15 num_heads "BPB_NumHeads": u16,
        17 hidd_sec "BPB_HiddSec": u32,
        21 tot_sec32 "BPB_TotSec32": u32,
    }
}

wire! {
    /// The last fields of both boot sectors, from byte 36 on, or from 64 with FAT32.
    pub(crate) struct ExtendedBpb: "FAT extended boot record", little, 26 {
        0 drv_num "BS_DrvNum": u8,
        1 reserved1 "BS_Reserved1": u8,
        2 boot_sig "BS_BootSig": u8,
        3 vol_id "BS_VolID": u32,
        7 vol_lab "BS_VolLab": [u8; 11],
        18 fil_sys_type "BS_FilSysType": [u8; 8],
    }
}

wire! {
    /// The boot sector of FAT12 and FAT16.
    pub(crate) struct BootSector16: "FAT12 and FAT16 boot sector", little, 512 {
        0 jmp_boot "BS_jmpBoot": [u8; 3],
        3 oem_name "BS_OEMName": [u8; 8],
        11 bpb "BPB": Bpb,
        36 extended "BS": ExtendedBpb,
        510 signature "Signature_word": [u8; 2] = [0x55, 0xaa],
    }
}

wire! {
    /// The boot sector of FAT32.
    pub(crate) struct BootSector32: "FAT32 boot sector", little, 512 {
        0 jmp_boot "BS_jmpBoot": [u8; 3],
        3 oem_name "BS_OEMName": [u8; 8],
        11 bpb "BPB": Bpb,
        36 fat_sz32 "BPB_FATSz32": u32,
        40 ext_flags "BPB_ExtFlags": u16,
        42 fs_ver "BPB_FSVer": u16,
        44 root_clus "BPB_RootClus": u32,
        48 fs_info "BPB_FSInfo": u16,
        50 bk_boot_sec "BPB_BkBootSec": u16,
        64 extended "BS": ExtendedBpb,
        510 signature "Signature_word": [u8; 2] = [0x55, 0xaa],
    }
}

wire! {
    /// Hints that let a driver of FAT32 avoid reading the whole FAT (fatgen103, "FAT32 FSInfo Sector
    /// Structure").
    pub(crate) struct FsInfo: "FAT32 FSInfo sector", little, 512 {
        0 lead_sig "FSI_LeadSig": [u8; 4] = *b"RRaA",
        484 struc_sig "FSI_StrucSig": [u8; 4] = *b"rrAa",
        488 free_count "FSI_Free_Count": u32,
        492 nxt_free "FSI_Nxt_Free": u32,
        508 trail_sig "FSI_TrailSig": [u8; 4] = [0, 0, 0x55, 0xaa],
    }
}

wire! {
    /// A directory entry with a short name (fatgen103, "FAT Directory Structure").
    pub(crate) struct DirectoryEntry: "FAT directory entry", little, 32 {
        0 name "DIR_Name": [u8; 11],
        11 attr "DIR_Attr": u8,
        12 nt_res "DIR_NTRes": u8,
        13 crt_time_tenth "DIR_CrtTimeTenth": u8,
        14 crt_time "DIR_CrtTime": u16,
        16 crt_date "DIR_CrtDate": u16,
        18 lst_acc_date "DIR_LstAccDate": u16,
        20 fst_clus_hi "DIR_FstClusHI": u16,
        22 wrt_time "DIR_WrtTime": u16,
        24 wrt_date "DIR_WrtDate": u16,
        26 fst_clus_lo "DIR_FstClusLO": u16,
        28 file_size "DIR_FileSize": u32,
    }
}

wire! {
    /// A part of a long name (fatgen103, "Long Directory Entry").
    pub(crate) struct LongEntry: "FAT long name entry", little, 32 {
        0 ord "LDIR_Ord": u8,
        1 name1 "LDIR_Name1": [u16; 5],
        11 attr "LDIR_Attr": u8,
        12 kind "LDIR_Type": u8,
        13 chksum "LDIR_Chksum": u8,
        14 name2 "LDIR_Name2": [u16; 6],
        26 fst_clus_lo "LDIR_FstClusLO": u16,
        28 name3 "LDIR_Name3": [u16; 2],
    }
}

/// The sector of FSInfo, and the sector of the boot sector's copy (FAT32).
pub(super) const FSINFO: u64 = 1;
pub(super) const BACKUP: u64 = 6;
/// First cluster of the root directory of FAT32: the first cluster of the volume.
pub(super) const ROOT_CLUSTER: u32 = 2;

/// The names and numbers that identify a volume.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    /// `None`: "NO NAME", and no entry in the root directory.
    pub(super) label: Option<[u8; 11]>,
    pub(super) volume_id: u32,
    /// Sectors before the volume.
    pub(super) hidden: Sectors,
}

/// The boot sector.
///
/// # Errors
/// [`Kind::Bug`](crate::error::Kind::Bug) where a number of the geometry does not fit its field.
pub(super) fn boot_sector(geometry: &Geometry, identity: &Identity) -> Result<Vec<u8>> {
    let bpb = bpb(geometry, identity)?;
    let extended = ExtendedBpb {
        // The number of the drive in a BIOS: the first disk, or the first floppy drive.
        drv_num: if geometry.media == 0xf8 { 0x80 } else { 0 },
        reserved1: 0, // clean
        boot_sig: 0x29,
        vol_id: identity.volume_id,
        vol_lab: identity.label.unwrap_or(*b"NO NAME    "),
        fil_sys_type: match geometry.fat {
            FatType::Fat12 => *b"FAT12   ",
            FatType::Fat16 => *b"FAT16   ",
            FatType::Fat32 => *b"FAT32   ",
        },
    };
    // The jump leads over the fields to no code, because the volume is not a boot disk.
    let oem_name = *b"mkfs.fat";
    if geometry.fat == FatType::Fat32 {
        let sector = BootSector32 {
            jmp_boot: [0xeb, 0x58, 0x90],
            oem_name,
            bpb,
            fat_sz32: narrow(geometry.fat_length.get(), "BPB_FATSz32")?,
            root_clus: ROOT_CLUSTER,
            fs_info: narrow(FSINFO, "BPB_FSInfo")?,
            bk_boot_sec: narrow(BACKUP, "BPB_BkBootSec")?,
            extended,
            ..BootSector32::BLANK
        };
        return Ok(sector.bytes().to_vec());
    }
    let bpb = Bpb { fat_sz16: narrow(geometry.fat_length.get(), "BPB_FATSz16")?, ..bpb };
    let sector =
        BootSector16 { jmp_boot: [0xeb, 0x3c, 0x90], oem_name, bpb, extended, ..BootSector16::BLANK };
    Ok(sector.bytes().to_vec())
}

/// The fields that all boot sectors share.
fn bpb(geometry: &Geometry, identity: &Identity) -> Result<Bpb> {
    let sectors = geometry.sectors.get();
    // A 16-bit count of sectors, or a 32-bit one.
    let (tot_sec16, tot_sec32) = match u16::try_from(sectors) {
        Ok(sectors) => (sectors, 0),
        Err(_) => (0, narrow(sectors, "BPB_TotSec32")?),
    };
    Ok(Bpb {
        bytes_per_sec: narrow(geometry.sector_size, "BPB_BytsPerSec")?,
        sec_per_clus: narrow(geometry.sectors_per_cluster, "BPB_SecPerClus")?,
        rsvd_sec_cnt: narrow(geometry.reserved.get(), "BPB_RsvdSecCnt")?,
        num_fats: narrow(FATS, "BPB_NumFATs")?,
        root_ent_cnt: narrow(geometry.root_entries, "BPB_RootEntCnt")?,
        tot_sec16,
        media: geometry.media,
        fat_sz16: 0,
        sec_per_trk: geometry.sectors_per_track,
        num_heads: geometry.heads,
        // Zero if the partition begins past the range of the field, as with `mkfs.fat`.
        hidd_sec: u32::try_from(identity.hidden.get()).unwrap_or(0),
        tot_sec32,
    })
}

/// The FSInfo sector.
pub(super) fn fsinfo(free: Clusters, next_free: Option<u32>) -> Result<Vec<u8>> {
    let sector = FsInfo {
        free_count: narrow(free.get(), "FSI_Free_Count")?,
        // All ones means no hint: there is no free cluster.
        nxt_free: next_free.unwrap_or(u32::MAX),
        ..FsInfo::BLANK
    };
    Ok(sector.bytes().to_vec())
}

/// The kind of a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attribute {
    /// Archive: "changed since the last backup", as every system marks a new file. Nothing is read-only or
    /// hidden, since modes are not kept.
    File,
    Directory,
    Label,
}

impl Attribute {
    /// Its bit of DIR_Attr.
    pub(super) const fn byte(self) -> u8 {
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

    /// Whether FAT has the second of this time, or the one before it.
    pub(super) fn holds(time: Time) -> bool {
        (Self::FIRST..=Self::LAST).contains(&time.seconds)
    }

    /// The time that a date and a time of day in a directory entry mean. An invalid date becomes one near it,
    /// as in Linux (fs/fat/misc.c, fat_time_fat2unix).
    pub(super) fn time(day: u16, time: u16) -> Time {
        let (day, time) = (i64::from(day), i64::from(time));
        let (year, month) = (1980 + (day >> 9), (day >> 5 & 15).clamp(1, 12));
        let days = days(year, month, (day & 31).max(1));
        Time::seconds(days * 86_400 + (time >> 11) * 3600 + (time >> 5 & 63) * 60 + (time & 31) * 2)
    }

    /// The date of a time, in UTC. A time before 1980 or after 2107 becomes the first or last date of FAT.
    pub(super) fn new(time: Time) -> Result<Self> {
        let seconds = time.seconds.clamp(Self::FIRST, Self::LAST).unsigned_abs();
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days.cast_signed());
        // The year is not before 1980, because the seconds were clamped to that.
        let since = (year - 1980).unsigned_abs();
        let day = (since << 9) | u64::from(month << 5 | day);
        let time = ((second / 3600) << 11) | ((second / 60 % 60) << 5) | (second % 60 / 2);
        Ok(Self { day: narrow(day, "DIR_WrtDate")?, time: narrow(time, "DIR_WrtTime")? })
    }
}

/// A directory entry with a short name: when the writer made it, and when it was last written, which is its last access too.
pub(super) fn entry(
    name: ShortName,
    attribute: Attribute,
    cluster: u32,
    size: u32,
    (made, written): (Date, Date),
) -> [u8; ENTRY_LENGTH] {
    let entry = DirectoryEntry {
        name: name.0,
        attr: attribute.byte(),
        nt_res: 0,
        crt_time_tenth: 0,
        crt_time: made.time,
        crt_date: made.day,
        lst_acc_date: written.day,
        fst_clus_hi: half_hi16(cluster),
        wrt_time: written.time,
        wrt_date: written.day,
        fst_clus_lo: half_lo16(cluster),
        file_size: size,
    };
    entry.bytes()
}

/// [`ENTRY`] as a length in memory.
const ENTRY_LENGTH: usize = usize_of(ENTRY);

/// LDIR_Attr: read-only, hidden, system and label at once, so that old systems do not show such an entry.
pub(super) const LONG_NAME: u8 = 0x0f;
/// The bit of LDIR_Ord that marks the last part of a long name; that part comes first.
pub(super) const LAST_LONG_ENTRY: u8 = 0x40;

/// The entries of a long name, in their order on the disk: the last part first. Each has 13 UTF-16 units, the
/// number of the part and the checksum of the short name.
pub(super) fn long_entries(name: &str, short: ShortName) -> Result<Vec<[u8; ENTRY_LENGTH]>> {
    let units: Vec<u16> = name.encode_utf16().collect();
    let parts = units.chunks(UNITS);
    let count = parts.len();
    let mut entries = Vec::with_capacity(count);
    for (number, part) in (1_usize..).zip(parts) {
        let last = if number == count { LAST_LONG_ENTRY } else { 0 };
        let mut entry = long_entry(part, short.checksum())?;
        entry.ord = narrow::<u8>(number, "LDIR_Ord")? | last;
        entries.push(entry.bytes());
    }
    entries.reverse();
    Ok(entries)
}

fn long_entry(part: &[u16], chksum: u8) -> Result<LongEntry> {
    // A shorter part ends in NUL; the rest is all ones.
    let mut units = [0xffff; UNITS];
    units
        .get_mut(..part.len())
        .ok_or_else(|| Error::bug("a part of a long name is too long"))?
        .copy_from_slice(part);
    if let Some(end) = units.get_mut(part.len()) {
        *end = 0;
    }
    let [a, b, c, d, e, f, g, h, i, j, k, l, m] = units;
    Ok(LongEntry {
        attr: LONG_NAME,
        chksum,
        name1: [a, b, c, d, e],
        name2: [f, g, h, i, j, k],
        name3: [l, m],
        ..LongEntry::BLANK
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_civil_and_clamped() {
        let date = |seconds| {
            let date = Date::new(Time::seconds(seconds)).unwrap();
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
            let there = Date::new(Time::seconds(seconds)).unwrap();
            let back = Date::time(there.day, there.time);
            let nearest = seconds.clamp(Date::FIRST, Date::LAST) / 2 * 2;
            assert_eq!(back, Time::seconds(nearest));
        }
    }

    #[test]
    fn what_is_no_date_becomes_one() {
        assert_eq!(Date::time(0, 0), Time::seconds(315_532_800));
        assert_eq!(Date::time(15 << 5, 0), Date::time(12 << 5 | 1, 0));
        // The 30th of February is the 1st or 2nd of March, 24:00:00 the next day.
        assert_eq!(Date::time(2 << 5 | 30, 0), Date::time(3 << 5 | 1, 0));
        assert_eq!(Date::time(1 << 5 | 1, 24 << 11), Date::time(1 << 5 | 2, 0));
    }

    #[test]
    fn long_entries_stand_last_part_first() {
        let short = ShortName(*b"THEQUI~1FOX");
        let entries = long_entries("The quick brown.fox", short).unwrap();
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
        let entries = long_entries(&"x".repeat(13), ShortName(*b"XXXXXX~1   ")).unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(&entries[0][28..32], b"x\0x\0");
    }
}
