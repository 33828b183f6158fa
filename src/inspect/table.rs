//! Reading partition tables: GPT with both headers (UEFI 2.10, chapter 5), MBR with logical partitions.

use serde::Serialize;
use uuid::Uuid;

use super::filesystem::{self, Found};
use super::read;
use crate::error::Result;
use crate::image::Image;
use crate::numbers::Numbers;
use crate::table::Type;
use crate::units::{index, usize_of};

/// A partition table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Table {
    /// `gpt` or `mbr`.
    pub kind: &'static str,
    /// Disk GUID, or the 8 digits of an MBR signature.
    pub id: String,
    /// Bytes of a sector.
    pub sector_size: u64,
    /// Partitions by number.
    pub partitions: Vec<Entry>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its number, from 1.
    pub number: u32,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// Its type by name, or by GUID or number where it has none.
    #[serde(rename = "type")]
    pub kind: String,
    /// Partition GUID; none in an MBR.
    pub guid: Option<String>,
    /// Name in the GPT.
    pub label: String,
    /// Attributes by name; `active` in an MBR.
    pub attributes: Vec<String>,
    /// What it holds.
    pub filesystem: Option<Found>,
}

/// The most bytes of a partition array that are looked at: 128 times what everybody writes.
const MOST_ARRAY: u64 = 2 << 20;
/// The most logical partitions that are followed; a chain may be a loop.
const MOST_LOGICAL: u32 = 256;

/// The table of `image`, if it has one, with what its partitions hold. `patience` is that of [`filesystem::find`].
pub(super) fn read_any(
    image: &Image,
    patience: &mut u64,
    remarks: &mut Vec<String>,
) -> Result<Option<Table>> {
    let mut table = alone(image, remarks)?;
    for entry in table.iter_mut().flat_map(|table| &mut table.partitions) {
        entry.filesystem = filesystem::find(image, entry.offset, entry.size, patience)?;
    }
    Ok(table)
}

/// The table by itself.
fn alone(image: &Image, remarks: &mut Vec<String>) -> Result<Option<Table>> {
    let first = read(image, 0, 512)?;
    let signature = first[510..] == [0x55, 0xaa];
    for sector in [512, 4096] {
        if let Some(table) = gpt(image, sector, remarks)? {
            if !signature {
                remarks.push("the disk has a GPT but no protective MBR".to_owned());
            }
            return Ok(Some(table));
        }
    }
    if signature { mbr(image, &first, remarks) } else { Ok(None) }
}

/// A GPT with sectors of `sector` bytes: the primary one, or the backup where that is damaged.
fn gpt(image: &Image, sector: u64, remarks: &mut Vec<String>) -> Result<Option<Table>> {
    let total = image.length().get() / sector;
    let primary = gpt_at(image, sector, 1)?;
    let backup = if total > 2 { gpt_at(image, sector, total - 1)? } else { Gpt::Absent };
    match (primary, backup) {
        (Gpt::Absent, Gpt::Absent | Gpt::Damaged(_)) | (Gpt::Damaged(_), Gpt::Absent) => Ok(None),
        (Gpt::Good(table), Gpt::Good(other)) => {
            if table.partitions != other.partitions || table.id != other.id {
                remarks.push("the backup GPT differs from the primary one".to_owned());
            }
            Ok(Some(table))
        }
        (Gpt::Good(table), other) => {
            remarks.push(match other {
                Gpt::Damaged(why) => format!("the backup GPT is damaged: {why}"),
                _ => "there is no backup GPT at the end of the disk".to_owned(),
            });
            Ok(Some(table))
        }
        (other, Gpt::Good(table)) => {
            remarks.push(match other {
                Gpt::Damaged(why) => format!("the primary GPT is damaged, this is the backup: {why}"),
                _ => "there is no primary GPT, this is the backup".to_owned(),
            });
            Ok(Some(table))
        }
        (Gpt::Damaged(why), Gpt::Damaged(_)) => {
            remarks.push(format!("both GPTs are damaged: {why}"));
            Ok(None)
        }
    }
}

/// What stands where a GPT header may be.
enum Gpt {
    Absent,
    Damaged(String),
    Good(Table),
}

/// The GPT whose header is sector `lba`.
fn gpt_at(image: &Image, sector: u64, lba: u64) -> Result<Gpt> {
    let mut header = read(image, lba * sector, sector)?;
    if !header.starts_with(b"EFI PART") {
        return Ok(Gpt::Absent);
    }
    let at = Numbers(&header);
    let (length, sum) = (index(at.le32(12)), at.le32(16));
    let (array, count, width) = (at.le64(72), u64::from(at.le32(80)), u64::from(at.le32(84)));
    let (own, array_sum) = (at.le64(24), at.le32(88));
    let id = guid(&header[56..72]);
    if length < 92 || length > header.len() {
        return Ok(Gpt::Damaged(format!("its header claims {length} bytes")));
    }
    header[16..20].fill(0);
    if crc32fast::hash(&header[..length]) != sum {
        return Ok(Gpt::Damaged("the checksum of its header is wrong".to_owned()));
    }
    if own != lba {
        return Ok(Gpt::Damaged(format!("it says that it stands in sector {own}")));
    }
    let bytes = count.saturating_mul(width);
    if width < 128 || bytes > MOST_ARRAY || array.checked_mul(sector).is_none() {
        return Ok(Gpt::Damaged(format!("it claims {count} entries of {width} bytes in sector {array}")));
    }
    let entries = read(image, array * sector, bytes)?;
    if crc32fast::hash(&entries) != array_sum {
        return Ok(Gpt::Damaged("the checksum of its entries is wrong".to_owned()));
    }
    let mut partitions = Vec::new();
    for (number, entry) in (1..).zip(entries.chunks_exact(usize_of(width))) {
        if entry[..16].iter().all(|byte| *byte == 0) {
            continue;
        }
        partitions.push(gpt_entry(sector, number, entry));
    }
    Ok(Gpt::Good(Table { kind: "gpt", id: id.to_string(), sector_size: sector, partitions }))
}

fn gpt_entry(sector: u64, number: u32, entry: &[u8]) -> Entry {
    let at = Numbers(entry);
    let (first, last) = (at.le64(32), at.le64(40));
    let offset = first.saturating_mul(sector);
    let size = last.saturating_add(1).saturating_sub(first).saturating_mul(sector);
    let units: Vec<u16> = (0..36).map(|unit| at.le16(56 + unit * 2)).take_while(|unit| *unit != 0).collect();
    Entry {
        number,
        offset,
        size,
        kind: Type::Guid(guid(&entry[..16])).to_string(),
        guid: Some(guid(&entry[16..32]).to_string()),
        label: crate::text::printable(String::from_utf16_lossy(&units).as_bytes()),
        attributes: crate::table::attribute_names(at.le64(48)),
        filesystem: None,
    }
}

/// A GUID in the byte order of the GPT.
fn guid(bytes: &[u8]) -> Uuid {
    Uuid::from_bytes_le(bytes.try_into().unwrap_or([0; 16]))
}

/// The partitions of an MBR.
fn mbr(image: &Image, first: &[u8], remarks: &mut Vec<String>) -> Result<Option<Table>> {
    let mut partitions = Vec::new();
    let mut extended = None;
    for number in 0..4 {
        let record = Record::new(first, number);
        if record.kind == 0 || record.sectors == 0 {
            continue;
        }
        // A boot sector of a filesystem has code where a table has its active flags.
        if record.flag & 0x7f != 0 {
            return Ok(None);
        }
        if matches!(record.kind, 0x05 | 0x0f | 0x85) {
            extended.get_or_insert(u64::from(record.start));
        }
        partitions.push(record.entry(number + 1, 0));
    }
    if let Some(extended) = extended {
        logical(image, extended, &mut partitions, remarks)?;
    }
    let id = format!("{:08x}", Numbers(first).le32(440));
    Ok(Some(Table { kind: "mbr", id, sector_size: 512, partitions }))
}

/// Follows the chain of extended boot records.
fn logical(
    image: &Image,
    extended: u64,
    partitions: &mut Vec<Entry>,
    remarks: &mut Vec<String>,
) -> Result<()> {
    let mut next = extended;
    for number in 5..5 + MOST_LOGICAL {
        let sector = read(image, next * 512, 512)?;
        if sector[510..] != [0x55, 0xaa] {
            remarks.push(format!("there is no extended boot record in sector {next}"));
            return Ok(());
        }
        let record = Record::new(&sector, 0);
        if record.kind != 0 && record.sectors != 0 {
            partitions.push(record.entry(number, next));
        }
        let link = Record::new(&sector, 1);
        if link.kind == 0 || link.start == 0 {
            return Ok(());
        }
        next = extended + u64::from(link.start);
    }
    remarks.push(format!("the chain of logical partitions is longer than {MOST_LOGICAL}, perhaps a loop"));
    Ok(())
}

/// One of the four records of an MBR.
struct Record {
    flag: u8,
    kind: u8,
    start: u32,
    sectors: u32,
}

impl Record {
    fn new(sector: &[u8], number: u32) -> Self {
        let from = 446 + index(number) * 16;
        let at = Numbers(sector);
        let byte = |offset| sector.get(from + offset).copied().unwrap_or(0);
        Self { flag: byte(0), kind: byte(4), start: at.le32(from + 8), sectors: at.le32(from + 12) }
    }

    /// The partition, whose start counts from sector `base`.
    fn entry(&self, number: u32, base: u64) -> Entry {
        let offset = (base + u64::from(self.start)) * 512;
        let size = u64::from(self.sectors) * 512;
        let attributes = if self.flag == 0x80 { vec!["active".to_owned()] } else { Vec::new() };
        let kind = Type::Mbr(self.kind).to_string();
        Entry { number, offset, size, kind, guid: None, label: String::new(), attributes, filesystem: None }
    }
}
