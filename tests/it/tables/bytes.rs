//! Tables compared byte for byte with those of sfdisk and sgdisk for the same wishes, also at the limits of
//! the formats.

use diskwright::table::{Array, Hybrid, Plan, Request, Size, Type, Wish, attribute_names};
use diskwright::units::{Bytes, GIB, MIB, Sectors, TIB};
use uuid::Uuid;

use super::judges::{all, dump, fdisk_dump};
use super::request::{Disk, data, gpt, image, kind, mbr, mib, placed, wish};
use super::tools::must;

fn numbered(number: u32, wish: Wish) -> Wish {
    Wish { number: Some(number), ..wish }
}

fn logical(number: usize, count: u64) -> Wish {
    Wish { logical: true, ..data(number, count) }
}

/// Bytes 440 to 511 of sector `lba`, all that a boot record says.
fn boot_record(disk: &Disk, lba: u64) -> Vec<u8> {
    disk.read(lba * 512 + 440, 72)
}

#[test]
fn slots_stay_where_they_are_put() {
    let request = Request {
        partitions: vec![
            numbered(15, data(15, 100)),
            numbered(14, data(14, 4)),
            numbered(1, data(1, 200)),
            data(2, 1),
        ],
        ..gpt()
    };
    let disk = all(&placed(&request));
    assert_eq!(dump(&disk).partitions.into_keys().collect::<Vec<_>>(), [1, 2, 14, 15]);
    let request =
        Request { partitions: vec![numbered(4, data(4, 10)), data(1, 10), numbered(2, data(2, 1))], ..mbr() };
    let plan = placed(&request);
    let _ = all(&plan);
    assert_eq!(plan.partitions.iter().map(|it| it.number).collect::<Vec<_>>(), [4, 1, 2]);
}

#[test]
fn a_gpt_holds_128_partitions() {
    let partitions =
        (1..=128).map(|number| Wish { label: format!("p{number}"), ..data(number, 1) }).collect();
    let plan = placed(&Request { partitions, ..gpt() });
    let disk = all(&plan);
    assert_eq!(dump(&disk).partitions.len(), 128);
}

#[test]
fn names_and_attributes_read_back() {
    let longest = "ü".repeat(34) + "\u{1f600}"; // 34 units and a surrogate pair: 36
    let wishes = [
        Wish { label: longest, attributes: 1 << 63 | 1 << 60 | 1 << 59, ..data(1, 1) },
        Wish { label: "a b:c;\"d\"".to_owned(), attributes: 0b111, ..data(2, 1) },
        Wish { kind: kind("microsoft-basic-data"), attributes: 1 << 62 | 1 << 48, ..data(3, 1) },
    ];
    let plan = placed(&Request { partitions: wishes.to_vec(), ..gpt() });
    let disk = Disk::new(&plan);
    super::judges::sgdisk(&disk).unwrap();
    super::judges::crate_gpt(&disk, &plan).unwrap();
    let record = dump(&disk);
    assert_eq!(record.partitions[&1]["attrs"], "GUID:59,60,63");
    assert_eq!(record.partitions[&2]["attrs"], "RequiredPartition NoBlockIOProtocol LegacyBIOSBootable");
    assert_eq!(record.partitions[&3]["attrs"], "GUID:48,62");
    assert_eq!(attribute_names(1 << 62 | 1 << 48), ["48", "hidden"]);
}

#[test]
fn sectors_of_4096_bytes() {
    let request = Request {
        sector_size: 4096,
        partitions: vec![
            Wish { label: "boot".to_owned(), kind: kind("esp"), ..data(1, 40) },
            numbered(9, data(9, 30)),
        ],
        ..gpt()
    };
    let plan = placed(&request);
    assert_eq!((plan.first_usable, plan.length), (Sectors::new(6), mib(72)));
    // 18432 sectors: the last is the header, and the four before it are the array.
    assert_eq!(plan.last_usable, Sectors::new(18432 - 6));
    let disk = all(&plan);
    let record = fdisk_dump(&disk, 4096);
    assert_eq!(record.header["sector-size"], "4096");
    assert_eq!(record.header["first-lba"], "6");
    assert_eq!(record.header["last-lba"], "18426");
    assert_eq!((&*record.partitions[&9]["start"], &*record.partitions[&9]["size"]), ("10496", "7680"));
    let request = Request {
        disk_size: Some(Bytes::new(64 * MIB + 4096)),
        first_lba: Some(Sectors::new(256)),
        ..request
    };
    let partitions = vec![wish(1, Size::Fill)];
    let plan = placed(&Request { partitions, ..request });
    let _ = all(&plan);
    assert_eq!(plan.partitions[0].end(), mib(63));
}

#[test]
fn large_disks_saturate_the_protective_entry() {
    // 2^32 sectors and one: total - 1 no longer fits 32 bits.
    for (sectors, count) in
        [(1_u64 << 32, u32::MAX), ((1 << 32) + 1, u32::MAX), ((1 << 32) - 1, u32::MAX - 1)]
    {
        let size = Bytes::new(sectors * 512);
        let plan = placed(&Request { disk_size: Some(size), partitions: vec![wish(1, Size::Fill)], ..gpt() });
        let disk = all(&plan);
        assert_eq!(disk.read(446 + 12, 4), count.to_le_bytes(), "{sectors}");
    }
}

/// sgdisk's hybrid of our GPT, compared with our own.
fn compare_hybrid(request: &Request) {
    let mut shown: Vec<String> = request.hybrid.shown.iter().map(u32::to_string).collect();
    shown.extend(request.hybrid.protective_last.then(|| "EE".to_owned()));
    let plan = placed(request);
    let ours = all(&plan);
    let theirs = Disk::new(&placed(&Request { hybrid: Hybrid::default(), ..request.clone() }));
    assert!(boot_record(&ours, 0) != boot_record(&theirs, 0));
    must("sgdisk", &["--hybrid", &shown.join(":"), &theirs.text()], "");
    assert_eq!(boot_record(&ours, 0), boot_record(&theirs, 0));
    // sgdisk writes the GPT again too.
    let end = plan.length.get() - 33 * 512;
    assert!(ours.read(512, 33 * 512) == theirs.read(512, 33 * 512));
    assert!(ours.read(end, 33 * 512) == theirs.read(end, 33 * 512));
}

#[test]
fn a_hybrid_mbr_is_what_sgdisk_makes() {
    let typed = |number: usize, name: &str| Wish { kind: kind(name), ..data(number, 20) };
    let partitions = vec![
        typed(1, "linux"),
        typed(2, "swap"),
        typed(3, "microsoft-basic-data"),
        numbered(14, typed(14, "bios-boot")),
        numbered(15, typed(15, "esp")),
        typed(6, "xbootldr"),
        typed(7, "root-x86-64"),
        typed(8, "usr-arm64-verity"),
        typed(9, "home"),
        typed(10, "srv"),
        // Ends past 7.8 GiB, the last that CHS can name.
        Wish { kind: kind("var"), ..data(11, 9 << 10) },
        typed(12, "tmp"),
        typed(13, "user-home"),
    ];
    let numbers: Vec<u32> = placed(&Request { partitions: partitions.clone(), ..gpt() })
        .partitions
        .iter()
        .map(|it| it.number)
        .collect();
    for shown in numbers.chunks(3).chain([&[15, 3, 1][..], &[14]]) {
        for protective_last in [false, true] {
            let hybrid = Hybrid { protective_last, ..shown.to_vec().into() };
            compare_hybrid(&Request { hybrid, partitions: partitions.clone(), ..gpt() });
        }
    }
}

#[test]
fn a_partition_of_a_hybrid_mbr_can_be_active() {
    let partitions = vec![data(1, 1), Wish { active: true, ..data(2, 1) }];
    let plan = placed(&Request { hybrid: vec![1, 2].into(), partitions, ..gpt() });
    let disk = all(&plan);
    let flags: Vec<u8> = (0..4).map(|slot| disk.read(446 + 16 * slot, 1)[0]).collect();
    assert_eq!(flags, [0, 0, 0x80, 0]);
}

/// Types and signature that are given, as fdisk and sfdisk show them in the MBR of a hybrid disk.
#[test]
fn a_hybrid_mbr_has_the_types_and_the_signature_that_are_given() {
    let partitions = vec![data(1, 1), Wish { kind: Type::Guid(Uuid::from_u128(5)), ..data(2, 2) }];
    let hybrid = Hybrid {
        kinds: vec![0x0c, 0xda],
        signature: 0x1234_abcd,
        protective_last: true,
        ..vec![2, 1].into()
    };
    let disk = all(&placed(&Request { hybrid, partitions, ..gpt() }));
    assert_eq!(disk.read(440, 4), 0x1234_abcd_u32.to_le_bytes());
    let kinds: Vec<u8> = (0..4).map(|slot| disk.read(446 + 16 * slot + 4, 1)[0]).collect();
    assert_eq!(kinds, [0x0c, 0xda, 0xee, 0]);
    let dumped = must("sfdisk", &["--dump", "--label-nested", "dos", &disk.text()], "");
    assert!(dumped.contains("label-id: 0x1234abcd"), "{dumped}");
    for line in
        ["start=        4096, size=        4096, type=c", "start=        2048, size=        2048, type=da"]
    {
        assert!(dumped.contains(line), "no `{line}` in {dumped}");
    }
}

/// A GPT without its backup: the primary one is sound, and nothing is at the end of the disk.
#[test]
fn a_gpt_without_a_backup_is_read_by_others() {
    for sector_size in [512, 4096] {
        let array = Array { backup: false, ..Array::default() };
        let partitions = vec![data(1, 3), data(2, 4)];
        let whole = Request { sector_size, partitions, ..gpt() };
        let (with, without) = (placed(&whole), placed(&Request { array, ..whole.clone() }));
        assert_eq!(with.partitions, without.partitions);
        assert_eq!((with.length, with.last_usable), (without.length, without.last_usable));
        let [theirs, ours] = [&with, &without].map(Disk::new);
        let tail = without.length.get() - 5 * 4096;
        assert!(ours.read(tail, 5 * 4096).iter().all(|byte| *byte == 0));
        // The header differs in the place of its copy, which is its own, and in its checksum.
        let own: Vec<u64> = (0..1024)
            .filter(|at| ours.read(sector_size + at, 1) != theirs.read(sector_size + at, 1))
            .collect();
        assert!(own.iter().all(|at| (16..20).contains(at) || (32..40).contains(at)), "{own:?}");
        assert_eq!(ours.read(sector_size + 32, 8), 1_u64.to_le_bytes());
        let found = diskwright::table::read(&image(&without).whole()).unwrap();
        assert_eq!(found.table.unwrap().partitions, without.partitions);
        assert_eq!(found.remarks, ["there is no backup GPT at the end of the disk"]);
        if sector_size == 512 {
            let listed = must("sfdisk", &["--dump", &ours.text()], "");
            assert_eq!(listed.matches("type=0FC63DAF").count(), 2, "{listed}");
            // sgdisk adds the backup, and then it is the disk that has one.
            must("sgdisk", &["--move-second-header", &ours.text()], "");
            assert_eq!(
                ours.read(0, usize::try_from(without.length.get()).unwrap()),
                theirs.read(0, usize::try_from(with.length.get()).unwrap())
            );
        }
    }
}

/// The disk by sfdisk for each partition of the plan, including the extended one.
fn by_sfdisk(plan: &Plan) -> Disk {
    let mut script = format!("label: dos\nlabel-id: {:#010x}\n\n", plan.signature);
    let sector = |bytes: Bytes| bytes.get() / 512;
    let extended = plan.extended.map(|it| (it.number, it.offset, it.length, "f".to_owned(), ""));
    let own = plan.partitions.iter().map(|it| {
        let kind = format!("{:x}", it.kind.mbr().unwrap());
        (it.number, it.offset, it.length, kind, if it.active { ", bootable" } else { "" })
    });
    let mut lines: Vec<_> = own.chain(extended).collect();
    lines.sort();
    for (number, offset, length, kind, active) in lines {
        let (start, size) = (sector(offset), sector(length));
        script += &format!("{number} : start={start}, size={size}, type={kind}{active}\n");
    }
    let disk = Disk::empty(plan.length);
    must("sfdisk", &["-q", "--no-tell-kernel", &disk.text()], &script);
    disk
}

fn compare_mbr(plan: &Plan) -> Disk {
    let (ours, theirs) = (all(plan), by_sfdisk(plan));
    let records = plan.partitions.iter().filter(|it| it.logical).map(|it| it.offset.get() / 512 - 2048);
    for lba in records.chain([0]) {
        assert_eq!(boot_record(&ours, lba), boot_record(&theirs, lba), "sector {lba}");
    }
    assert_eq!(dump(&ours), dump(&theirs));
    ours
}

#[test]
fn logical_partitions_are_what_sfdisk_makes() {
    let request = Request {
        partitions: vec![
            Wish { active: true, kind: kind("esp"), ..data(1, 10) },
            Wish { active: true, kind: kind("0x83"), ..logical(2, 50) },
            Wish { kind: kind("swap"), ..logical(3, 10) },
            Wish { kind: kind("microsoft-basic-data"), ..logical(4, 5) },
            data(5, 10),
        ],
        ..mbr()
    };
    let plan = placed(&request);
    let disk = compare_mbr(&plan);
    let numbers: Vec<u32> = plan.partitions.iter().map(|it| it.number).collect();
    assert_eq!((numbers, plan.extended.unwrap().number), (vec![1, 5, 6, 7, 3], 2));
    let record = dump(&disk);
    assert_eq!(record.partitions[&2]["type"], "f");
    assert_eq!(record.partitions[&5]["start"], ((11 + 1) * 2048).to_string());
    assert_eq!(record.partitions[&6]["start"], ((12 + 50 + 1) * 2048).to_string());
}

#[test]
fn logical_partitions_past_4_gib_and_past_chs() {
    let partitions = vec![
        data(1, 1),
        logical(2, 4 << 10), // the next boot record lies at 4 GiB and 3 MiB, past what 32 bits of bytes count
        logical(3, 5 << 10), // and this one's past 7.8 GiB, the last that CHS can name
        Wish { start: Some(Bytes::new(100 * GIB + 512)), ..logical(4, 1) },
        Wish { logical: true, ..wish(5, Size::Fill) },
        logical(6, 7),
    ];
    let plan = placed(&Request { disk_size: Some(Bytes::new(2 * TIB - 512)), partitions, ..mbr() });
    let _ = compare_mbr(&plan);
    assert!(plan.partitions[2].offset.get() > 4 * GIB && plan.partitions[3].offset.get() > 8 * GIB);
    let ends: Vec<u64> = plan.partitions.iter().map(|it| it.end().get() / MIB).collect();
    assert_eq!(ends[4..], [2 * 1024 * 1024 - 9, 2 * 1024 * 1024 - 1]);
}

#[test]
fn an_mbr_holds_56_logical_partitions() {
    let partitions = (1..=56).map(|number| logical(number, 1)).collect();
    let plan = placed(&Request { partitions, ..mbr() });
    let disk = compare_mbr(&plan);
    assert_eq!(dump(&disk).partitions.keys().max(), Some(&60));
}

#[test]
fn a_disk_without_a_table_has_no_byte() {
    let request = Request {
        scheme: diskwright::table::Scheme::None,
        partitions: vec![Wish { guid: Uuid::nil(), ..data(1, 3) }],
        ..gpt()
    };
    let plan = placed(&request);
    let only = &plan.partitions[0];
    assert_eq!((plan.length, only.offset, only.length, only.number), (mib(3), mib(0), mib(3), 1));
    assert_eq!(super::request::image(&plan).covered(), Bytes::ZERO);
    let fill = Request { disk_size: Some(mib(7)), partitions: vec![wish(1, Size::Fill)], ..request };
    assert_eq!(placed(&fill).partitions[0].length, mib(7));
}

/// The map of a table, without its columns.
fn map(request: &Request) -> Vec<String> {
    let mut map = Vec::new();
    diskwright::image::dump::dump(&super::request::image(&placed(request)), None, &mut map).unwrap();
    let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    String::from_utf8(map).unwrap().lines().map(line).collect()
}

/// Maps with the checksum of every segment, so that a change of bytes is a decision. The boot code is a hole.
#[test]
fn the_maps_are_golden() {
    let esp = Wish { kind: kind("esp"), label: "ESP".to_owned(), attributes: 4, ..data(1, 8) };
    let gpt = Request { partitions: vec![esp, numbered(7, data(7, 2))], ..gpt() };
    let mut expected = [
        "image 12582912 bytes",
        "0 440 hole",
        "440 72 bytes 0c896475 gpt: protective mbr",
        "512 92 bytes fc25896c gpt: primary header",
        "604 420 hole",
        "1024 16384 bytes e0451e43 gpt: primary entries",
        "17408 12548608 hole",
        "12566016 16384 bytes e0451e43 gpt: backup entries",
        "12582400 92 bytes 8bac0ff4 gpt: backup header",
        "12582492 420 hole",
    ];
    assert_eq!(map(&gpt), expected);
    expected[2] = "440 72 bytes 0caebfcf gpt: hybrid mbr";
    assert_eq!(map(&Request { hybrid: vec![1].into(), ..gpt.clone() }), expected);
    assert_eq!(
        map(&Request { sector_size: 4096, ..gpt }),
        [
            "image 12582912 bytes",
            "0 440 hole",
            "440 72 bytes c07ac0b7 gpt: protective mbr",
            "512 3584 hole",
            "4096 92 bytes 41a5bff0 gpt: primary header",
            "4188 4004 hole",
            "8192 16384 bytes ae4c1fa7 gpt: primary entries",
            "24576 12537856 hole",
            "12562432 16384 bytes ae4c1fa7 gpt: backup entries",
            "12578816 92 bytes 6a082edd gpt: backup header",
            "12578908 4004 hole",
        ]
    );
    let partitions = vec![Wish { active: true, ..data(1, 1) }, logical(2, 1), logical(3, 1)];
    assert_eq!(
        map(&Request { partitions, ..mbr() }),
        [
            "image 6291456 bytes",
            "0 440 hole",
            "440 72 bytes be162368 mbr: partitions",
            "512 2097080 hole",
            "2097592 72 bytes e991c502 mbr: boot record of partition 5",
            "2097664 2097080 hole",
            "4194744 72 bytes 901b4f2c mbr: boot record of partition 6",
            "4194816 2096640 hole",
        ]
    );
}
