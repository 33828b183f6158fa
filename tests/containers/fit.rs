//! What a container must record about a disk besides its bytes: the sector size, and where the disk ends. A
//! format records it or refuses the disk by name.

use std::path::Path;

use diskwright::units::MIB;
use serde_json::Value;

use crate::create::diskwright;
use crate::hostile::complaint;
use crate::judge::{qemu_img, virtual_size};
use crate::rows::{ROWS, Row};
use crate::tools::{Said, command, must, names_in, run, scratch};

/// A disk of one partition with these keys, and more keys of the disk.
fn manifest(folder: &Path, disk: &str, partition: &str) {
    let text = format!("version = 1\n[disk]\n{disk}\n[[partition]]\n{partition}\n");
    std::fs::write(folder.join("d.toml"), text).unwrap();
}

fn build(folder: &Path, name: &str, arguments: &[String]) -> Said {
    run(diskwright().arg("build").arg(folder.join("d.toml")).arg("-o").arg(folder.join(name)).args(arguments))
}

/// Bytes in a logical sector, as the metadata of a VHDX says: item 8141bf1d-… of [MS-VHDX] 2.6.2.4.
fn sector_of_vhdx(path: &Path) -> u32 {
    let bytes = std::fs::read(path).unwrap();
    let table = &bytes[2 << 20..(2 << 20) + (64 << 10)];
    let id = uuid::uuid!("8141bf1d-a96f-4709-ba47-f233a8faab5f").to_bytes_le();
    let at = table.windows(16).position(|window| window == id).unwrap();
    let le32 = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    le32(&bytes, (2 << 20) + usize::try_from(le32(table, at + 16)).unwrap())
}

/// A disk for sectors of 4096 bytes records that, or becomes a file whose user must give the sector size.
#[test]
fn a_disk_of_large_sectors_is_built() {
    let folder = scratch();
    manifest(folder.path(), "sector_size = 4096", "size = \"8MiB\"");
    for row in ROWS {
        let path = folder.path().join("disk");
        let said = build(folder.path(), "disk", &row.arguments());
        if ["vpc", "vdi", "vmdk"].contains(&row.format.name()) {
            let message = complaint(&said, 2);
            for part in ["d.toml:3: sector_size = 4096", "expected: 512", "take vhdx, qcow2 or raw"] {
                assert!(message.contains(part), "{}: {message}", row.name);
            }
            assert_eq!(names_in(folder.path()), ["d.toml"]);
            continue;
        }
        assert_eq!((said.code, said.error().as_str()), (0, ""), "{}", row.name);
        if row.format.name() == "vhdx" {
            assert_eq!(sector_of_vhdx(&path), 4096);
        }
        std::fs::remove_file(path).unwrap();
    }
}

/// `mkfs` and `create` have the same rule in their own words.
#[test]
fn a_filesystem_and_an_empty_disk_of_large_sectors() {
    let folder = scratch();
    let path = |name: &str| folder.path().join(name);
    let sectors = ["--sector-size", "4096"];
    for (name, arguments) in [
        ("mkfs", &["mkfs", "vfat", "--size", "300MiB", "-o"][..]),
        ("create", &["create", "--size", "300MiB"]),
    ] {
        must(diskwright().args(arguments).arg(path("disk.vhdx")).args(sectors));
        assert_eq!(sector_of_vhdx(&path("disk.vhdx")), 4096, "{name}");
        for suffix in ["vhd", "vdi", "vmdk"] {
            let mut command = diskwright();
            let said = run(command.args(arguments).arg(path("disk").with_extension(suffix)).args(sectors));
            let message = complaint(&said, 2);
            assert!(message.contains("--sector-size") && message.contains("expected: 512"), "{message}");
        }
    }
    assert_eq!(names_in(folder.path()), ["disk.vhdx"]);
    let said =
        run(diskwright().arg("create").arg(path("a.vhdx")).args(["--size", "1MiB", "--sector-size", "1024"]));
    assert!(said.code == 2 && said.error().contains("512 and 4096"), "{}", said.error());
}

/// A converted disk keeps its recorded sector size; if the container records none, its GPT shows it.
#[test]
fn a_disk_of_large_sectors_is_converted() {
    let folder = scratch();
    let path = |name: &str| folder.path().join(name);
    let convert = |from: &str, to: &str, more: &[&str]| {
        run(diskwright().arg("convert").args([path(from), path(to)]).args(more))
    };
    for (sector, other) in [("4096", "512"), ("512", "4096")] {
        manifest(folder.path(), &format!("sector_size = {sector}"), "size = \"8MiB\"");
        must(diskwright().arg("build").arg(path("d.toml")).arg("-o").arg(path("a.img")));
        for (from, to) in
            [("a.img", "b.vhdx"), ("b.vhdx", "c.vhdx"), ("a.img", "c.qcow2"), ("c.qcow2", "d.vhdx")]
        {
            let said = convert(from, to, &[]);
            assert_eq!((said.code, said.error().as_str()), (0, ""), "{from} to {to}");
            if to.ends_with("vhdx") {
                assert_eq!(sector_of_vhdx(&path(to)).to_string(), sector, "{from} to {to}");
            }
        }
        must(diskwright().arg("resize").arg(path("b.vhdx")).arg("20MiB"));
        assert_eq!(sector_of_vhdx(&path("b.vhdx")).to_string(), sector);
        for (from, to) in [("a.img", "e.vhd"), ("c.vhdx", "e.vdi"), ("c.qcow2", "e.vmdk")] {
            let said = convert(from, to, &[]);
            if sector == "512" {
                assert_eq!((said.code, said.error().as_str()), (0, ""), "{from} to {to}");
                std::fs::remove_file(path(to)).unwrap();
            } else {
                let message = complaint(&said, 2);
                assert!(!message.contains("--sector-size") && message.contains(from), "{message}");
                assert!(!path(to).exists());
            }
        }
        // An explicit sector size takes precedence, and what that means is said.
        let said = convert("a.img", "b.vhdx", &["--sector-size", other]);
        let expected =
            format!("the GPT is for sectors of {sector} bytes, and a guest with sectors of {other}");
        assert!(said.code == 0 && said.error().contains(&expected), "{}", said.error());
        assert_eq!(sector_of_vhdx(&path("b.vhdx")).to_string(), other);
    }
    must(diskwright().arg("convert").args([path("c.qcow2"), path("e.vmdk")]).args(["--sector-size", "512"]));
    // Without a GPT, nothing in a qcow2 says what a VHDX recorded.
    must(diskwright().arg("create").arg(path("f.vhdx")).args(["--size", "8MiB", "--sector-size", "4096"]));
    for suffix in ["qcow2", "img"] {
        let said = convert("f.vhdx", &format!("f.{suffix}"), &[]);
        assert!(said.code == 0 && said.error().contains("logical_block_size=4096"), "{}", said.error());
        let mut create = diskwright();
        create.arg("create").arg(path("g").with_extension(suffix)).args(["--size", "8MiB"]);
        let said = run(create.args(["--sector-size", "4096"]));
        assert!(said.code == 0 && said.error().contains("logical_block_size=4096"), "{}", said.error());
    }
    // Without a GPT a disk has sectors of 512 bytes; a header in the wrong place does not count.
    std::fs::write(path("a.img"), vec![0; 1 << 20]).unwrap();
    for (offset, own) in [(4096, 7_u64), (8192, 1)] {
        let mut bytes = vec![0; 1 << 20];
        bytes[offset..offset + 8].copy_from_slice(b"EFI PART");
        bytes[offset + 24..offset + 32].copy_from_slice(&own.to_le_bytes());
        std::fs::write(path("a.img"), bytes).unwrap();
        assert_eq!(convert("a.img", "b.vhdx", &[]).code, 0);
        assert_eq!(sector_of_vhdx(&path("b.vhdx")), 512);
    }
}

/// The disk in `path` as QEMU reads it, as a raw file.
fn read_by_qemu(row: &Row, path: &Path, raw: &Path) {
    qemu_img(&[&"convert", &"-f", &row.format.qemu_name(), &"-O", &"raw", &path, &raw]);
}

/// What sgdisk says about a disk with a GPT: whether it finds no problem.
fn sgdisk(disk: &Path) -> (bool, String) {
    let said = run(command("sgdisk").arg("-v").arg(disk));
    let text = said.text() + &said.error();
    (said.code == 0 && text.contains("No problems found."), text)
}

/// The table fits the length that a guest sees, and the report gives that length.
#[test]
fn the_table_ends_where_the_disk_does() {
    let folder = scratch();
    let (disk, raw) = (folder.path().join("disk"), folder.path().join("disk.raw"));
    for row in ROWS {
        for (size, partition, held) in [
            ("size = \"auto\"", "size = 3146240", true),
            ("size = \"21MiB\"", "size = \"fill\"", true),
            ("size = 20975104", "size = \"fill\"", row.name != "vpc-fixed"),
        ] {
            manifest(folder.path(), size, partition);
            let mut arguments = row.arguments();
            arguments.push("--json".to_owned());
            let said = build(folder.path(), "disk", &arguments);
            if !held {
                let message = complaint(&said, 2);
                for part in
                    ["vpc of subformat fixed", "d.toml:3: size = 20975104", "expected: 20MiB or 21MiB"]
                {
                    assert!(message.contains(part), "{message}");
                }
                assert_eq!(names_in(folder.path()), ["d.toml"]);
                continue;
            }
            let name = format!("{}, {size}", row.name);
            assert_eq!((said.code, said.error().as_str()), (0, ""), "{name}");
            let report: Value = serde_json::from_slice(&said.out).unwrap();
            assert_eq!(report["size"], virtual_size(row.format.qemu_name(), &disk), "{name}");
            read_by_qemu(row, &disk, &raw);
            let (clean, text) = sgdisk(&raw);
            assert!(clean, "{name}: {text}");
            std::fs::remove_file(&disk).unwrap();
            std::fs::remove_file(&raw).unwrap();
        }
    }
}

/// A filesystem without a table keeps the requested size in a longer disk.
#[test]
fn a_bare_filesystem_is_in_a_disk_that_the_report_knows() {
    let folder = scratch();
    let (disk, raw) = (folder.path().join("disk.vhd"), folder.path().join("disk.raw"));
    let mut mkfs = diskwright();
    mkfs.args(["mkfs", "ext4", "--size", "8392704", "--subformat", "fixed", "--json", "-o"]).arg(&disk);
    let said = must(&mut mkfs);
    let warning = "the disk has 8392704 bytes, and 9437184 in vpc of subformat fixed";
    assert!(said.error().contains(warning), "{}", said.error());
    let report: Value = serde_json::from_slice(&said.out).unwrap();
    assert_eq!((&report["size"], &report["partitions"][0]["size"]), (&(9 * MIB).into(), &8_392_704.into()));
    assert_eq!(virtual_size("vpc", &disk), 9 * MIB);
    let row = ROWS.iter().find(|row| row.name == "vpc-fixed").unwrap();
    read_by_qemu(row, &disk, &raw);
    must(command("e2fsck").arg("-fn").arg(&raw));
    manifest(folder.path(), "table = \"none\"\nsize = 8392704", "filesystem = { type = \"ext4\" }");
    let said = build(folder.path(), "disk.vhd", &row.arguments());
    assert!(complaint(&said, 2).contains("expected: 8MiB or 9MiB"), "{}", said.error());
    // A size that nobody gave is not told of.
    let mut mkfs = diskwright();
    mkfs.args(["mkfs", "ext4", "--subformat", "fixed", "-o"]).arg(folder.path().join("auto.vhd"));
    assert_eq!(must(&mut mkfs).error(), "");
}

/// Conversion does not change the disk. A GPT whose backup would not be at the end is refused; a warning tells of any other
/// disk that gets longer.
#[test]
fn a_disk_that_gets_longer_is_told_of() {
    let folder = scratch();
    let path = |name: &str| folder.path().join(name);
    manifest(folder.path(), "size = 20975104", "size = \"fill\"");
    must(diskwright().arg("build").arg(path("d.toml")).arg("-o").arg(path("a.img")));
    assert!(sgdisk(&path("a.img")).0);
    let fixed = ["--subformat", "fixed"];
    let said = run(diskwright().arg("convert").args([path("a.img"), path("b.vhd")]).args(fixed));
    let message = complaint(&said, 2);
    for part in [
        "vpc of subformat fixed holds no disk of exactly this length",
        "a.img\n",
        "expected: 20MiB or 21MiB",
        "the backup of its GPT has to be at its end",
        "resize the source to 21MiB (diskwright resize moves the backup there)",
    ] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
    assert!(!message.contains("--size") && !path("b.vhd").exists(), "{message}");
    let row = ROWS.iter().find(|row| row.name == "vpc-fixed").unwrap();
    // As the hint says.
    must(diskwright().arg("resize").arg(path("a.img")).arg("21MiB"));
    let said = must(diskwright().arg("convert").args([path("a.img"), path("b.vhd")]).args(fixed));
    assert_eq!(said.error(), "");
    read_by_qemu(row, &path("b.vhd"), &path("c.img"));
    assert!(sgdisk(&path("c.img")).0);
    // A disk without a table, an empty one and one that grows.
    std::fs::write(path("a.img"), [7; 700]).unwrap();
    let said = must(diskwright().arg("convert").args([path("a.img"), path("b.vdi")]));
    assert!(said.error().contains("1024 in vdi") && !said.error().contains("GPT"), "{}", said.error());
    let said = must(diskwright().arg("create").arg(path("b.vhd")).args(fixed).args(["--size", "1537KiB"]));
    assert!(said.error().contains("2097152 in vpc of subformat fixed"), "{}", said.error());
    let said = must(diskwright().arg("resize").arg(path("b.vhd")).arg("3000KiB"));
    assert!(said.error().contains("3145728 in vpc of subformat fixed"), "{}", said.error());
    let said = must(diskwright().arg("create").arg(path("b.qcow2")).args(["--size", "1025"]));
    assert!(said.error().contains("1536 in qcow2"), "{}", said.error());
    let said = must(diskwright().arg("resize").arg(path("b.qcow2")).arg("1537"));
    assert!(said.error().contains("2048 in qcow2"), "{}", said.error());
}
