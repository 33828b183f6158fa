//! Disks of genimage's own tests (github.com/pengutronix/genimage, test/hdimage*.config) as manifests: sfdisk shows the partition
//! table that genimage makes of them (test/*.fdisk). Two partitions of one GUID are refused, so those that share one there have
//! their own here.

use crate::support::program::diskwright;
use crate::support::tools::{command, must, scratch};

/// The table as `sfdisk --dump` has it: for each partition its number, first sector, length, type, and whether a BIOS boots it.
fn table(disk: &str, partitions: &[&str]) -> (Vec<String>, Vec<u8>) {
    let folder = scratch();
    let [manifest, image] = ["disk.toml", "disk.img"].map(|name| folder.path().join(name));
    let partitions: String = partitions.iter().map(|lines| format!("[[partition]]\n{lines}\n")).collect();
    std::fs::write(folder.path().join("spl"), vec![0x51; 5000]).unwrap();
    std::fs::write(&manifest, format!("version = 1\n[disk]\n{disk}\n{partitions}")).unwrap();
    must(diskwright().arg("build").arg(&manifest).arg("-o").arg(&image));
    must(command("sfdisk").args(["--verify", "--quiet"]).arg(&image));
    let dump = must(command("sfdisk").arg("--dump").arg(&image)).text();
    let prefix = format!("{}", image.display());
    let lines = dump.lines().filter_map(|line| line.strip_prefix(&prefix));
    let plain = |line: &str| {
        let line: String = line.chars().filter(|c| !c.is_whitespace()).collect();
        let kept = line.split(',').filter(|part| !part.starts_with("uuid=")).collect::<Vec<_>>();
        kept.join(",").replacen(":start=", " ", 1).replace("size=", "").replace("type=", "")
    };
    (lines.map(plain).collect(), std::fs::read(&image).unwrap())
}

#[test]
fn tables_are_those_of_genimage() {
    let part = |kind: &str| format!("type = \"{kind}\"\nsize = \"1MiB\"");
    let linux = part("0x83");
    let logical = format!("{linux}\nlogical = true");
    let signed = "table = \"mbr\"\nguid = \"12345678\"";
    for (name, disk, partitions, expected) in [
        (
            "hdimage",
            signed,
            vec![
                linux.clone(),
                linux.clone(),
                linux.clone(),
                logical.clone(),
                logical.clone(),
                logical.clone(),
            ],
            &[
                "1 2048,2048,83",
                "2 4096,2048,83",
                "3 6144,2048,83",
                "4 8192,12288,f",
                "5 10240,2048,83",
                "6 14336,2048,83",
                "7 18432,2048,83",
            ][..],
        ),
        (
            "hdimage-2",
            signed,
            [vec![linux.clone()], vec![logical.clone(); 5]].concat(),
            &[
                "1 2048,2048,83",
                "2 4096,20480,f",
                "5 6144,2048,83",
                "6 10240,2048,83",
                "7 14336,2048,83",
                "8 18432,2048,83",
                "9 22528,2048,83",
            ],
        ),
        (
            // extended-partition of genimage: another slot than the first that is free.
            "extended",
            "table = \"mbr\"\nextended = 4",
            vec![linux.clone(), logical.clone(), logical.clone()],
            &["1 2048,2048,83", "4 4096,8192,f", "5 6144,2048,83", "6 10240,2048,83"],
        ),
        (
            "hdimage6",
            "table = \"mbr\"\nalign = 512",
            vec![
                "type = \"0x83\"\nstart = \"128KiB\"\nsize = \"256KiB\"".to_owned(),
                "type = \"0x83\"\nsize = \"3072KiB\"".to_owned(),
                "type = \"0x83\"\nstart = 3686400\nsize = 8126464\nlogical = true".to_owned(),
                "type = \"0x83\"\nstart = 11821056\nsize = 16252928\nlogical = true".to_owned(),
                "type = \"0x83\"\nstart = 28082176\nsize = 16252928\nlogical = true".to_owned(),
            ],
            &[
                "1 256,512,83",
                "2 768,6144,83",
                "3 7199,79393,f",
                "5 7200,15872,83",
                "6 23088,31744,83",
                "7 54848,31744,83",
            ],
        ),
        (
            "hdimage-forced-primary",
            signed,
            [
                vec![format!("{}\nattributes = [\"active\"]", part("0x0c"))],
                vec![logical; 5],
                vec![format!("{linux}\nnumber = 3"), format!("{}\nnumber = 4", part("0x82"))],
            ]
            .concat(),
            &[
                "1 2048,2048,c,bootable",
                "2 4096,20480,f",
                "3 24576,2048,83",
                "4 26624,2048,82",
                "5 6144,2048,83",
                "6 10240,2048,83",
                "7 14336,2048,83",
                "8 18432,2048,83",
                "9 22528,2048,83",
            ],
        ),
    ] {
        let partitions: Vec<&str> = partitions.iter().map(String::as_str).collect();
        assert_eq!(table(disk, &partitions).0, expected, "{name}");
    }
}

#[test]
fn gpts_are_those_of_genimage() {
    const LINUX: &str = "0FC63DAF-8483-4772-8E79-3D69D8477DE4";
    let part = |label: &str, more: &str| format!("type = \"linux\"\nlabel = \"{label}\"\n{more}");
    // hdimage7: the array behind a boot loader, partitions before and behind each other.
    let disk =
        "align = 512\nentries_at = 1536\n[[disk.raw]]\nsource = \"spl\"\noffset = 1024\nsize = \"512KiB\"";
    let partitions = [
        part("rescue", "start = \"2MiB\"\nsize = \"1MiB\""),
        part("rootfs-A", "start = \"4MiB\"\nsize = \"8MiB\""),
        part("rootfs-B", "size = \"8MiB\""),
        part("reserved", "size = \"128KiB\""),
        part("sys", "size = \"4MiB\""),
        part("data", "size = \"4MiB\""),
        part("bootloader", "start = \"1MiB\"\nsize = \"1MiB\""),
        part("env-1", "start = \"800KiB\"\nsize = \"16KiB\""),
        part("env-2", "start = \"832KiB\"\nsize = \"16KiB\""),
        part("ucode", "start = \"960KiB\"\nsize = \"64KiB\""),
    ];
    let (found, bytes) = table(disk, &partitions.each_ref().map(String::as_str));
    let expected = [
        (4096, 2048, "rescue"),
        (8192, 16_384, "rootfs-A"),
        (24_576, 16_384, "rootfs-B"),
        (40_960, 256, "reserved"),
        (41_216, 8192, "sys"),
        (49_408, 8192, "data"),
        (2048, 2048, "bootloader"),
        (1600, 32, "env-1"),
        (1664, 32, "env-2"),
        (1920, 128, "ucode"),
    ];
    let expected: Vec<String> = (1..)
        .zip(expected)
        .map(|(number, (start, length, label))| format!("{number} {start},{length},{LINUX},name=\"{label}\""))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(bytes[1024..6024], [0x51; 5000]);
    // gpt-partition-types: one behind the other from the first usable sector.
    let types = [
        ("linux", LINUX),
        ("esp", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"),
        ("swap", "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"),
        ("3df8f8b0-4464-4fe6-8df4-2a5e2f6c4949", "3DF8F8B0-4464-4FE6-8DF4-2A5E2F6C4949"),
        ("usr-loongarch64-verity-sig", "B024F315-D330-444C-8461-44BBDE524E99"),
    ];
    let partitions = types.map(|(kind, _)| format!("type = \"{kind}\"\nsize = \"1MiB\""));
    let (found, _) = table("align = 512", &partitions.each_ref().map(String::as_str));
    let expected: Vec<String> = (0..)
        .zip(types)
        .map(|(number, (_, guid))| format!("{} {},2048,{guid}", number + 1, 34 + number * 2048))
        .collect();
    assert_eq!(found, expected);
}

/// The six partitions of hdimage4, hdimage5 and hdimage-hybrid: a GPT, one without a backup, and one with a hybrid MBR.
#[test]
fn options_of_gpts_are_those_of_genimage() {
    const LINUX: &str = "0FC63DAF-8483-4772-8E79-3D69D8477DE4";
    let types = [
        ("linux", LINUX),
        ("linux", LINUX),
        ("swap", "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"),
        ("microsoft-basic-data", "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"),
        ("2a422a42-2a42-2a42-2a42-2a422a422a42", "2A422A42-2A42-2A42-2A42-2A422A422A42"),
        ("linux", LINUX),
    ];
    let part = |(number, (kind, _)): (usize, (&str, &str))| {
        format!("type = \"{kind}\"\nlabel = \"part{}\"\nsize = \"1MiB\"", number + 1)
    };
    let partitions: Vec<String> = types.into_iter().enumerate().map(part).collect();
    let partitions: Vec<&str> = partitions.iter().map(String::as_str).collect();
    let expected: Vec<String> = (1..)
        .zip(types)
        .map(|(number, (_, guid))| format!("{number} {},2048,{guid},name=\"part{number}\"", number * 2048))
        .collect();
    let guid = "guid = \"afcfea87-e41a-40e0-85ae-295c60773c7a\"";
    let hybrid = format!(
        "{guid}\nhybrid = [1, 2, 3]\nhybrid_types = [\"0x83\", \"0x83\", \"0x83\"]\nprotective_last = true\n\
         hybrid_signature = \"12345678\""
    );
    let bare = format!("{guid}\ngpt_backup = false");
    for (disk, backup) in [(guid, true), (&bare, false), (&hybrid, true)] {
        let (found, bytes) = table(disk, &partitions);
        assert_eq!(found, expected, "{disk}");
        let end = bytes.len() - 512;
        assert_eq!(bytes[end..].starts_with(b"EFI PART"), backup, "{disk}");
        // genimage names the header itself where there is no backup, and counts its space anyway.
        let at = |place: usize| u64::from_le_bytes(bytes[place..place + 8].try_into().unwrap());
        let sectors = u64::try_from(bytes.len()).unwrap() / 512;
        assert_eq!((at(512 + 32), at(512 + 48)), (if backup { sectors - 1 } else { 1 }, sectors - 34));
    }
    // The hybrid MBR: the three partitions as its bytes have them there, and the protective entry behind them. genimage ends
    // that at the table, and sgdisk, as here, at the first partition.
    let (_, bytes) = table(&hybrid, &partitions);
    assert_eq!(bytes[440..444], 0x1234_5678_u32.to_le_bytes());
    for (slot, (kind, start)) in
        [(0x83, 2048_u32), (0x83, 4096), (0x83, 6144), (0xee, 1)].into_iter().enumerate()
    {
        let record = &bytes[446 + 16 * slot..][..16];
        assert_eq!((record[0], record[4], &record[8..12]), (0, kind, &start.to_le_bytes()[..]), "{slot}");
    }
}

/// Places of other alignments, and sizes of auto.
#[test]
fn partitions_begin_where_the_disk_aligns_them() {
    for (align, starts) in
        [("4MiB", [8192, 16_384, 24_576]), ("64KiB", [128, 2176, 4224]), ("3MiB", [6144, 12_288, 18_432])]
    {
        let part = "type = \"linux\"\nsize = \"1MiB\"";
        for table_kind in ["gpt", "mbr"] {
            let (found, _) = table(&format!("table = \"{table_kind}\"\nalign = \"{align}\""), &[part; 3]);
            let found: Vec<u64> =
                found.iter().map(|line| line.split([' ', ',']).nth(1).unwrap().parse().unwrap()).collect();
            assert_eq!(found, starts, "{table_kind}, {align}");
        }
    }
    let folder = scratch();
    let path = folder.path().join("disk.toml");
    for align in ["0", "700"] {
        std::fs::write(
            &path,
            format!("version = 1\n[disk]\nalign = {align}\n[[partition]]\nsize = \"1MiB\"\n"),
        )
        .unwrap();
        let said = crate::support::tools::run(diskwright().arg("build").arg(&path).args(["--dry-run"]));
        assert!(said.code == 2 && said.error().contains("disk.toml:3"), "{}", said.error());
    }
}
