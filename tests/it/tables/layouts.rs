//! The layouts of the NixOS image builders and of systemd-repart compared with the output of their tools,
//! field for field.

use std::collections::BTreeMap;

use diskwright::identity::Seed;
use diskwright::table::{Placed, Request, Size, Wish};
use diskwright::units::{Bytes, Sectors};
use uuid::{Uuid, uuid};

use super::judges::{all, dump};
use super::record::Record;
use super::request::{Disk, data, gpt, kind, mbr, mib, placed, wish};
use super::tools::must;

/// Length of the disk of each record, from the notes beside it.
const SIZES: [(&str, u64); 11] = [
    ("legacy", 2_048_000 * 512),
    ("legacyboot", 2_048_000 * 512),
    ("legacygpt", 2_048_000 * 512),
    ("efi", 2_048_000 * 512),
    ("efixbootldr", 2_048_000 * 512),
    ("hybrid", 2_048_000 * 512),
    ("zfs_single", 1280 << 20),
    ("zfs_multi_boot", 1024 << 20),
    ("qemu2018", 40 << 20),
    // The last partition ends the disk.
    ("sdimage", (77_824 + 331_776) * 512),
    ("repart_four_partitions", 269_504_512),
];
/// The twelfth.
const REPART_FORMATTED: (&str, u64) = ("repart_formatted", 152_064_000);

#[test]
fn every_record_comes_out_field_for_field() {
    let records = Record::fixture();
    let sizes: BTreeMap<_, _> = SIZES.into_iter().chain([REPART_FORMATTED]).collect();
    assert_eq!(
        records.keys().map(String::as_str).collect::<Vec<_>>(),
        sizes.keys().copied().collect::<Vec<_>>()
    );
    for (name, record) in &records {
        let size = Bytes::new(sizes[name.as_str()]);
        let mut request = record.request(size);
        if name == "qemu2018" {
            request.hybrid = vec![2].into();
        }
        let disk = all(&placed(&request));
        assert_eq!(record.differences(&dump(&disk)), Vec::<String>::new(), "{name}");
    }
}

/// Where a disk has a table: the first 34 sectors and the last 33, without the boot code.
fn tables(disk: &Disk, length: Bytes) -> Vec<u8> {
    let mut bytes = disk.read(440, 34 * 512 - 440);
    bytes.extend(disk.read(length.get() - 33 * 512, 33 * 512));
    bytes
}

#[test]
fn sfdisk_writes_the_same_bytes_for_every_record() {
    let records = Record::fixture();
    for (name, size) in SIZES.into_iter().chain([REPART_FORMATTED]) {
        let (record, size) = (&records[name], Bytes::new(size));
        let ours = Disk::new(&placed(&record.request(size)));
        let theirs = Disk::empty(size);
        must("sfdisk", &["-q", "--no-tell-kernel", &theirs.text()], &record.script());
        assert!(tables(&ours, size) == tables(&theirs, size), "{name}");
    }
}

fn named(size: Size, kind_name: &str, label: &str, guid: Uuid) -> Wish {
    Wish { kind: kind(kind_name), label: label.to_owned(), guid, ..wish(0, size) }
}

/// The GUIDs that make-disk-image fixes with deterministic = true.
const DISK: Uuid = uuid!("97FD5997-F390-0B4A-A3F8-D106C1723AEA");
const FIRST: Uuid = uuid!("1C06F03B-704E-4657-B9CD-681A087A2FDC");
const SECOND: Uuid = uuid!("970C694F-AFD0-4B99-B750-CDB7A329AB6F");
const ROOT: Uuid = uuid!("F222513B-DED1-49FA-B591-20CE86A2FE7F");

#[test]
fn the_layouts_of_nixos_need_few_numbers() {
    let records = Record::fixture();
    let to = |start: Bytes, end: Bytes| (Some(start), Size::Exactly(end.saturating_sub(start)));
    let at = |(start, size): (Option<Bytes>, Size), wish: Wish| Wish { start, size, ..wish };
    let esp = |guid| named(Size::Fill, "esp", "ESP", guid);
    let bios = |guid| named(Size::Exactly(mib(1)), "bios-boot", "no-fs", guid);
    let root = |label, guid| named(Size::Fill, "linux", label, guid);
    let boot = named(Size::Fill, "xbootldr", "BOOT", SECOND);
    // The boot partition ends at 256 MiB; the BIOS boot partition of hybrid fills sectors 34 to 2048, both inclusive.
    let end = mib(256);
    let gap = (Some(Sectors::new(34).bytes(512)), Size::Exactly(Sectors::new(2015).bytes(512)));
    let layouts = [
        ("legacygpt", vec![bios(FIRST), root("primary", SECOND)]),
        ("efi", vec![at(to(mib(8), end), esp(FIRST)), root("primary", ROOT)]),
        (
            "efixbootldr",
            vec![at(to(mib(8), mib(100)), esp(FIRST)), at(to(mib(100), end), boot), root("ROOT", ROOT)],
        ),
        ("hybrid", vec![at(to(mib(8), end), esp(FIRST)), at(gap, bios(SECOND)), root("primary", ROOT)]),
    ];
    for (name, partitions) in layouts {
        let request = Request { disk_size: Some(mib(1000)), guid: DISK, partitions, ..gpt() };
        let disk = Disk::new(&placed(&request));
        assert_eq!(records[name].differences(&dump(&disk)), Vec::<String>::new(), "{name}");
    }
    let fat = Wish { kind: kind("0x0c"), active: true, ..wish(0, Size::Exactly(mib(255))) };
    let fill = wish(1, Size::Fill);
    for (name, signature, partitions) in
        [("legacy", 0xce54_66e0, vec![fill.clone()]), ("legacyboot", 0x42b8_79cb, vec![fat, fill])]
    {
        let request = Request { disk_size: Some(mib(1000)), signature, partitions, ..mbr() };
        let disk = Disk::new(&placed(&request));
        assert_eq!(records[name].differences(&dump(&disk)), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn ids_of_a_seed_are_those_repart_wrote() {
    let record = &Record::fixture()["repart_four_partitions"];
    let seed = Seed::new(uuid!("0867da16-f251-457d-a9e8-c31f9a3c220b"));
    let root = kind("root");
    let of = |name: &str, earlier| seed.partition_guid(kind(name).guid().unwrap(), earlier);
    let mut partitions = vec![
        named(Size::Exactly(mib(64)), "esp", "esp", of("esp", 0)),
        named(Size::Exactly(mib(128)), "root", "nixos", of("root", 0)),
        named(Size::Exactly(mib(32)), "usr-x86-64", "usr-x86-64", of("usr", 0)),
        named(Size::Exactly(mib(32)), "root-x86-64", &root.to_string(), of("root", 1)),
    ];
    for partition in partitions.iter_mut().skip(1) {
        partition.attributes = 1 << 59;
    }
    let request = Request {
        disk_size: Some(Bytes::new(269_504_512)),
        guid: seed.disk_guid(),
        first_lba: Some(Sectors::new(2048)),
        partitions,
        ..gpt()
    };
    let disk = all(&placed(&request));
    assert_eq!(record.differences(&dump(&disk)), Vec::<String>::new());
}

#[test]
fn the_mbr_of_a_gpt_has_the_bytes_the_records_note() {
    let records = Record::fixture();
    let protected = Disk::new(&placed(&records["repart_four_partitions"].request(Bytes::new(269_504_512))));
    let mut expected = vec![0; 446];
    expected.extend([0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0x27, 8, 8, 0]);
    expected.resize(510, 0);
    expected.extend([0x55, 0xaa]);
    assert_eq!(protected.read(0, 512), expected);

    let request = Request { hybrid: vec![2].into(), ..records["qemu2018"].request(mib(40)) };
    let hybrid = Disk::new(&placed(&request));
    let mbr = hybrid.read(0, 512);
    let entry = |slot: usize| &mbr[446 + 16 * slot..462 + 16 * slot];
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    // Entry 1 type EE sectors 1..2047, entry 2 type EF start 2048 size 79839.
    assert_eq!((entry(0)[4], number(&entry(0)[8..12]), number(&entry(0)[12..16])), (0xee, 1, 2047));
    assert_eq!((entry(1)[4], number(&entry(1)[8..12]), number(&entry(1)[12..16])), (0xef, 2048, 79839));
    assert_eq!(mbr[478..510], [0; 32]);
    assert_eq!(mbr[..446], [0; 446]);
}

#[test]
fn a_disk_of_size_auto_is_whole_mebibytes_with_the_backup() {
    let of = |request: Request| placed(&request).length;
    // 1 MiB before, 10 MiB, and the backup GPT of 33 sectors rounds up to the last.
    assert_eq!(of(Request { partitions: vec![data(1, 10)], ..gpt() }), mib(12));
    assert_eq!(of(Request { partitions: vec![data(1, 10)], ..mbr() }), mib(11));
    assert_eq!(of(gpt()), mib(1));
    assert_eq!(of(mbr()), mib(1));
    // 33 sectors fit behind a partition that ends 33 sectors before the boundary, and 32 do not.
    let short = |sectors: u64| {
        let size = Size::Exactly(Bytes::new((10 << 20) - 512 * sectors));
        of(Request { partitions: vec![wish(1, size)], ..gpt() })
    };
    assert_eq!((short(33), short(32)), (mib(11), mib(12)));
}

#[test]
fn what_fills_shares_its_gap_with_what_has_a_size() {
    let request = Request {
        disk_size: Some(mib(1000)),
        partitions: vec![
            data(1, 10),
            wish(2, Size::Fill),
            data(3, 100),
            Wish { start: Some(mib(500)), ..data(4, 10) },
            wish(5, Size::Fill),
            // Ends in the last MiB that the backup GPT leaves: 512 KiB fit before it, so it begins at 999 MiB.
            wish(6, Size::Exactly(Bytes::new(512 << 10))),
        ],
        ..gpt()
    };
    let plan = placed(&request);
    let places = |it: &Placed| (it.offset.get() >> 20, it.length.get() >> 10);
    assert_eq!(
        plan.partitions.iter().map(places).collect::<Vec<_>>(),
        [(1, 10 << 10), (11, 389 << 10), (400, 100 << 10), (500, 10 << 10), (510, 489 << 10), (999, 512)]
    );
    let _ = all(&plan);
}

#[test]
fn what_has_no_start_keeps_clear_of_what_has_one() {
    let fixed = |number, start, size| Wish { start: Some(mib(start)), ..data(number, size) };
    let request = Request {
        partitions: vec![
            data(1, 5),
            data(2, 20), // would meet the fourth at 15 MiB, and behind it the fifth
            data(3, 1),
            fixed(4, 15, 10),
            fixed(5, 30, 10),
            data(6, 1),
        ],
        ..gpt()
    };
    let plan = placed(&request);
    let starts: Vec<u64> = plan.partitions.iter().map(|it| it.offset.get() >> 20).collect();
    assert_eq!(starts, [1, 40, 60, 15, 30, 61]);
    let _ = all(&plan);
}
