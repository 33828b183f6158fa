//! Reads the partition table of any disk. It trusts nothing that it reads.

use uuid::Uuid;

use super::format::{BootRecord, RECORD_AT};
use super::{Placed, Scheme, gpt, mbr};
use crate::error::Result;
use crate::image::Slice;
use crate::units::{Sectors, usize_of};
use crate::wire::Wire;

/// A partition table as it is on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The kind of table.
    pub scheme: Scheme,
    /// Bytes in a logical sector.
    pub sector_size: u64,
    /// GUID of the disk; nil in an MBR.
    pub guid: Uuid,
    /// Signature of the disk in its boot record.
    pub signature: u32,
    /// First sector that partitions may use; 0 for an MBR, which does not record it.
    pub first_usable: Sectors,
    /// Last sector that partitions may use; 0 for an MBR.
    pub last_usable: Sectors,
    /// Numbers of the partitions of a GPT that a hybrid MBR shows, in its order.
    pub hybrid: Vec<u32>,
    /// The partitions by number. An extended partition is one of them, before the logical ones in it. Each
    /// may lie anywhere, even outside the disk.
    pub partitions: Vec<Placed>,
}

impl Table {
    /// Whether it is a GPT without partitions. An MBR without any is mostly the boot record of a filesystem.
    pub(crate) fn is_empty_gpt(&self) -> bool {
        self.scheme == Scheme::Gpt && self.partitions.is_empty()
    }
}

/// Bytes of a sector with which a GPT is looked for, the usual ones first.
pub(super) const SECTOR_SIZES: [u64; 4] = [512, 4096, 1024, 2048];

/// The partition table of a disk, if there is one, and its faults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The table, if there is one.
    pub table: Option<Table>,
    /// Faults of the table, as sentences.
    pub remarks: Vec<String>,
}

/// Reads the partition table of a disk: GPT with sectors of 512 to 4096 bytes, by its primary or its backup header, or MBR
/// with logical partitions.
///
/// # Errors
/// [`Kind::Source`](crate::error::Kind::Source) where the disk cannot be read. A damaged table is a remark.
pub fn read(disk: &Slice) -> Result<Found> {
    let mut found = Found::default();
    let record = BootRecord::read(&disk.bytes(RECORD_AT, BootRecord::LENGTH)?).ok();
    for sector in SECTOR_SIZES {
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
        // A GPT is told here as damaged only where both its copies bear the signature.
        let told = !found.remarks.is_empty();
        found.table = mbr::read(disk, record, &mut found.remarks)?;
        if found.table.is_some() && !told && mbr::protects(record) {
            found.remarks.insert(0, gpt::lost(disk)?);
        }
    }
    Ok(found)
}

/// The faults of the boot record of a disk with a GPT. Readers of the GPT do not need it, and old programs do.
///
/// # Errors
/// Where it cannot be read.
pub(crate) fn record_faults(disk: &Slice, table: &Table) -> Result<Vec<String>> {
    let record = BootRecord::read(&disk.bytes(RECORD_AT, BootRecord::LENGTH)?);
    match record {
        Ok(record) if table.scheme == Scheme::Gpt => {
            Ok(super::hybrid::faults(&record, table, disk.length().get() / table.sector_size))
        }
        _ => Ok(Vec::new()),
    }
}

/// `length` bytes of a disk from sector `lba` on; bytes outside the disk are zero.
pub(super) fn sectors(disk: &Slice, lba: u64, sector: u64, length: u64) -> Result<Vec<u8>> {
    disk.bytes(Sectors::new(lba).bytes(sector).get(), usize_of(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Builder, Image};
    use crate::table::{Plan, Request, Size, Type, Wish, place};
    use crate::units::{Bytes, MIB};

    fn wish(number: u128, kind: &str) -> Wish {
        Wish {
            number: None,
            start: None,
            size: Size::Exactly(Bytes::new(MIB)),
            kind: Type::parse(kind, None).unwrap(),
            guid: Uuid::from_u128(number),
            label: String::new(),
            attributes: 0,
            active: false,
            logical: false,
        }
    }

    fn request(scheme: Scheme, partitions: Vec<Wish>) -> Request {
        Request {
            scheme,
            sector_size: 512,
            disk_size: None,
            guid: if scheme == Scheme::Gpt { Uuid::from_u128(99) } else { Uuid::nil() },
            signature: 0x1234_5678,
            first_lba: None,
            align: Bytes::new(crate::table::GRAIN),
            array: crate::table::Array::default(),
            hybrid: crate::table::Hybrid::default(),
            extended: None,
            same_guids: false,
            partitions,
        }
    }

    fn written(plan: &Plan) -> Image {
        let mut image = Builder::new(plan.length);
        plan.write(&mut image).unwrap();
        image.finish().unwrap()
    }

    fn table(image: &Image) -> (Table, Vec<String>) {
        let found = read(&image.whole()).unwrap();
        (found.table.unwrap(), found.remarks)
    }

    #[test]
    fn a_gpt_is_read_as_it_was_written() {
        let labelled = Wish { label: "naïve 🦀".to_owned(), attributes: 1 << 60 | 4, ..wish(1, "esp") };
        for sector_size in [512, 4096] {
            let last = Wish { number: Some(128), ..wish(2, "linux-generic") };
            let request = Request {
                sector_size,
                ..request(Scheme::Gpt, vec![labelled.clone(), last, wish(3, "swap")])
            };
            let mut plan = place(&request).unwrap();
            let (table, remarks) = table(&written(&plan));
            assert!(remarks.is_empty(), "{remarks:?}");
            assert_eq!((table.scheme, table.sector_size, table.guid), (Scheme::Gpt, sector_size, plan.guid));
            assert_eq!((table.first_usable, table.last_usable), (plan.first_usable, plan.last_usable));
            plan.partitions.sort_by_key(|partition| partition.number);
            assert_eq!(table.partitions, plan.partitions);
            assert!(table.hybrid.is_empty());
        }
    }

    #[test]
    fn a_hybrid_mbr_shows_what_it_was_written_for() {
        let shown = vec![3, 1];
        let request = Request {
            hybrid: shown.clone().into(),
            ..request(Scheme::Gpt, vec![wish(1, "esp"), wish(2, "swap"), wish(3, "linux-generic")])
        };
        let (table, remarks) = table(&written(&place(&request).unwrap()));
        assert_eq!((table.hybrid, remarks), (shown, Vec::new()));
    }

    #[test]
    fn an_mbr_is_read_with_the_chain_of_its_boot_records() {
        let logical = |number| Wish { logical: true, ..wish(number, "0x83") };
        let active = Wish { active: true, ..wish(1, "0x0c") };
        let request = request(Scheme::Mbr, vec![active, logical(2), logical(3), logical(4), wish(5, "0x82")]);
        let plan = place(&request).unwrap();
        let extended = plan.extended.unwrap();
        let (table, remarks) = table(&written(&plan));
        assert!(remarks.is_empty(), "{remarks:?}");
        assert_eq!((table.scheme, table.signature), (Scheme::Mbr, 0x1234_5678));
        let mut expected: Vec<(u32, Bytes, Bytes, bool, bool)> = plan
            .partitions
            .iter()
            .map(|it| (it.number, it.offset, it.length, it.active, it.logical))
            .chain([(extended.number, extended.offset, extended.length, false, false)])
            .collect();
        expected.sort_by_key(|it| it.0);
        let found =
            table.partitions.iter().map(|it| (it.number, it.offset, it.length, it.active, it.logical));
        assert_eq!(found.collect::<Vec<_>>(), expected);
        let kinds: Vec<String> = table.partitions.iter().map(|it| it.kind.to_string()).collect();
        assert_eq!(kinds.len(), 6);
        assert!(table.partitions.iter().any(|it| it.kind == Type::Mbr(0x0f)), "{kinds:?}");
    }

    /// A copy of an image with other bytes at one place.
    fn changed(image: &Image, at: u64, bytes: &[u8]) -> Image {
        let mut whole = vec![0; usize_of(image.length().get())];
        image.read(0, &mut whole).unwrap();
        whole[usize_of(at)..usize_of(at) + bytes.len()].copy_from_slice(bytes);
        let mut copy = Builder::new(image.length());
        copy.bytes(Bytes::ZERO, "bytes", whole);
        copy.finish().unwrap()
    }

    #[test]
    fn damage_is_told_and_the_other_copy_serves() {
        let plan = place(&request(Scheme::Gpt, vec![wish(1, "esp"), wish(2, "swap")])).unwrap();
        let whole = written(&plan);
        let last = plan.length.get() - 512;
        for (at, bytes, remark) in [
            (
                512 + 20,
                &[1_u8][..],
                "the primary GPT is damaged, this is the backup: the checksum of its header",
            ),
            (
                512 + 12,
                &[0xff; 4],
                "the primary GPT is damaged, this is the backup: its header claims 4294967295 bytes",
            ),
            (512, b"X", "there is no primary GPT, this is the backup"),
            (1024 + 32, &[9], "the primary GPT is damaged, this is the backup: the checksum of its entries"),
            (last + 40, &[9], "the backup GPT is damaged: the checksum of its header"),
            (last, b"X", "there is no backup GPT at the end of the disk"),
            (510, &[0], "the disk has a GPT but no protective MBR"),
        ] {
            let (table, remarks) = table(&changed(&whole, at, bytes));
            assert_eq!(table.partitions.len(), 2, "{remark}");
            assert_eq!(remarks.len(), 1, "{remarks:?}");
            assert!(remarks[0].starts_with(remark), "no `{remark}` in {remarks:?}");
        }
        let both = changed(&changed(&whole, 512 + 20, &[1]), last + 20, &[1]);
        let found = read(&both.whole()).unwrap();
        assert!(found.remarks[0].starts_with("both GPTs are damaged"), "{:?}", found.remarks);
        // Only the protective record is left.
        assert_eq!(found.table.unwrap().partitions[0].kind, Type::Mbr(0xee));
        let (none, entries) = (&b"X"[..], &[9_u8][..]);
        for (primary, backup, remark) in [
            ((512, none), (last, none), "the MBR protects a GPT, and the disk has none"),
            ((1024 + 32, entries), (last, none), "the MBR protects a GPT, and the primary one is damaged"),
            (
                (512, none),
                (last - 512 * 32 + 32, entries),
                "the MBR protects a GPT, and the backup is damaged",
            ),
        ] {
            let both = changed(&changed(&whole, primary.0, primary.1), backup.0, backup.1);
            let (table, remarks) = super::tests::table(&both);
            assert!(remarks.len() == 1 && remarks[0].starts_with(remark), "no `{remark}` in {remarks:?}");
            assert_eq!(table.partitions[0].kind, Type::Mbr(0xee));
        }
    }

    #[test]
    fn a_chain_that_is_a_loop_or_leads_nowhere_ends() {
        let logical = |number| Wish { logical: true, ..wish(number, "0x83") };
        let plan = place(&request(Scheme::Mbr, vec![logical(1), logical(2)])).unwrap();
        let whole = written(&plan);
        let second = plan.partitions[1].offset.get() - MIB;
        // The link of the second record: back to itself, counted from the extended partition.
        let back = ((second - plan.extended.unwrap().offset.get()) / 512).to_le_bytes();
        let mut link = vec![0, 0, 0, 0, 5, 0, 0, 0];
        link.extend(&back[..4]);
        link.extend([1, 0, 0, 0]);
        let (table, remarks) = table(&changed(&whole, second + 446 + 16, &link));
        assert!(remarks.len() == 1 && remarks[0].contains("leads back to sector"), "{remarks:?}");
        assert_eq!(table.partitions.len(), 3);
        // The link of the first record with the relative start 0: back to that record.
        let first = plan.extended.unwrap().offset.get();
        let (table, remarks) = super::tests::table(&changed(&whole, first + 446 + 16 + 8, &[0; 4]));
        assert!(remarks.len() == 1 && remarks[0].contains("leads back to sector"), "{remarks:?}");
        assert_eq!(table.partitions.len(), 2);
        // A link without a length is none.
        let (_, remarks) = super::tests::table(&changed(&whole, first + 446 + 16 + 8, &[0; 8]));
        assert!(remarks.is_empty(), "{remarks:?}");
        let (table, remarks) = super::tests::table(&changed(&whole, second + 510, &[0]));
        assert!(remarks[0].starts_with("there is no extended boot record in sector"), "{remarks:?}");
        assert_eq!(table.partitions.len(), 2);
    }

    #[test]
    fn a_boot_sector_of_a_filesystem_is_no_table_and_nothing_is_nothing() {
        let mut image = Builder::new(Bytes::new(MIB));
        let mut sector = vec![0xe9; 512];
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        image.bytes(Bytes::ZERO, "boot sector", sector);
        assert_eq!(read(&image.finish().unwrap().whole()).unwrap(), Found::default());
        for length in [0, 511, 4096] {
            let empty = Builder::new(Bytes::new(length)).finish().unwrap();
            assert_eq!(read(&empty.whole()).unwrap(), Found::default());
        }
    }
}
