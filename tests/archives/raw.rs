//! Data outside of the partitions, and arrays of a GPT of other lengths and places, before sgdisk and sfdisk.

use std::path::Path;

use crate::support::program::diskwright;
use crate::support::tools::{Said, command, must, run, scratch};
use crate::support::tree::noise;

/// A disk with two partitions; `disk` are further lines of its section.
fn build(folder: &Path, disk: &str, start: &str) -> Said {
    let text = format!(
        "version = 1\n[disk]\nsize = \"64MiB\"\n{disk}\n[[partition]]\ntype = \"linux\"\nsize = \"4MiB\"\nstart = \"{start}\"\n\
         [[partition]]\ntype = \"linux\"\nsize = \"fill\"\n"
    );
    std::fs::write(folder.join("disk.toml"), text).unwrap();
    run(diskwright().arg("build").arg(folder.join("disk.toml")).arg("-o").arg(folder.join("disk.img")))
}

fn made(folder: &Path, disk: &str, start: &str) -> Vec<u8> {
    let said = build(folder, disk, start);
    assert_eq!(said.code, 0, "{}", said.error());
    let image = folder.join("disk.img");
    must(command("sfdisk").args(["--verify", "--quiet"]).arg(&image));
    std::fs::read(image).unwrap()
}

/// The places of five boards, as their vendors have them.
#[test]
fn boot_loaders_of_boards_lie_where_their_processors_look() {
    let folder = scratch();
    for (name, length, seed) in [("small", 30_000, 1), ("large", 900_000, 2)] {
        std::fs::write(folder.path().join(name), noise(seed, length)).unwrap();
    }
    let (small, large) = (noise(1, 30_000), noise(2, 900_000));
    for (board, table, start, places) in [
        ("Allwinner", "entries = 56", "1MiB", &[("large", 8192)][..]),
        ("Rockchip", "", "16MiB", &[("small", 32_768), ("large", 8 << 20)]),
        ("i.MX6", "table = \"mbr\"", "8MiB", &[("small", 1024), ("large", 69 * 1024)]),
        ("i.MX8M Mini", "", "8MiB", &[("large", 33 * 1024)]),
        ("AM335x", "", "4MiB", &[("small", 128 * 1024), ("large", 384 * 1024)]),
    ] {
        let raw: String = places
            .iter()
            .map(|(name, at)| format!("[[disk.raw]]\nsource = \"{name}\"\noffset = {at}\n"))
            .collect();
        let image = made(folder.path(), &format!("{table}\n{raw}"), start);
        for (name, at) in places {
            let bytes = if *name == "small" { &small } else { &large };
            assert!(image[*at..*at + bytes.len()] == bytes[..], "{board}: {name} at {at}");
        }
        let said = must(command("sgdisk").arg("-v").arg(folder.path().join("disk.img"))).text();
        assert!(table.contains("mbr") || said.contains("No problems found"), "{board}: {said}");
    }
}

#[test]
fn the_array_of_a_gpt_has_the_length_and_place_that_are_asked_for() {
    let folder = scratch();
    for (disk, entries, first) in [
        ("entries = 56", 56, 16),
        ("entries = 1000", 1000, 252),
        ("entries_at = 1024", 128, 1056),
        ("entries = 4\nentries_at = 100", 4, 101),
    ] {
        let image = made(folder.path(), disk, "1MiB");
        let header = &image[512..512 + 92];
        let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
        assert_eq!((number(80), number(40)), (entries, first), "{disk}");
        let found = diskwright::table::read(&diskwright::image::Slice::ready("disk", image));
        let table = found.unwrap().table.unwrap();
        assert_eq!(table.partitions.len(), 2, "{disk}");
        let said = must(command("sgdisk").arg("-v").arg(folder.path().join("disk.img"))).text();
        assert!(said.contains("No problems found"), "{disk}: {said}");
    }
    let many: String = (0..200).map(|_| "[[partition]]\ntype = \"linux\"\nsize = \"1MiB\"\n").collect();
    let text = format!("version = 1\n[disk]\nentries = 200\n{many}");
    let (path, image) = (folder.path().join("many.toml"), folder.path().join("many.img"));
    std::fs::write(&path, text).unwrap();
    must(diskwright().arg("build").arg(&path).arg("-o").arg(&image));
    let list = must(command("sfdisk").arg("--dump").arg(&image)).text();
    assert_eq!(list.lines().filter(|line| line.contains("start=")).count(), 200, "{list}");
}

#[test]
fn boot_code_stands_before_the_table() {
    let folder = scratch();
    std::fs::write(folder.path().join("mbr.bin"), noise(3, 440)).unwrap();
    for table in ["table = \"mbr\"", "table = \"gpt\""] {
        let image = made(folder.path(), &format!("{table}\nboot_code = \"mbr.bin\""), "1MiB");
        assert!(image[..440] == noise(3, 440)[..] && image[510..512] == [0x55, 0xaa], "{table}");
    }
}

#[test]
fn data_over_something_else_is_refused() {
    let folder = scratch();
    std::fs::write(folder.path().join("data"), noise(4, 100_000)).unwrap();
    std::fs::write(folder.path().join("code"), noise(4, 441)).unwrap();
    let raw = |at: &str| format!("[[disk.raw]]\nsource = \"data\"\noffset = {at}\n");
    for (disk, words) in [
        (
            raw("8192"),
            &["raw data lies over the entries of the GPT", "9 KiB too many", "`entries`", "data"][..],
        ),
        (raw("512"), &["raw data lies over the header of the GPT"]),
        (format!("table = \"mbr\"\n{}", raw("0")), &["raw data lies over the table of the MBR"]),
        (raw("\"960KiB\""), &["raw data lies over partition 1", "34464 bytes", "at most 64 KiB", "`start`"]),
        (raw("66000000"), &["raw data lies over partition 2"]),
        (raw("67000000"), &["raw data lies over the backup of the GPT"]),
        (
            raw("67100000").replace("\"data\"", "\"code\""),
            &["raw data lies over the backup of the GPT", "an end before byte 67091968"],
        ),
        (raw("\"1GiB\""), &["raw data ends behind the disk"]),
        (format!("{}{}", raw("20000"), raw("100000")), &["raw data lies over the raw data", "20000 bytes"]),
        (format!("{}size = 1000\n", raw("20000")), &["larger than it may be", "at most 1000 bytes", "99000"]),
        (
            "[[disk.raw]]\nsource = \"none\"\noffset = 20000".to_owned(),
            &["the source does not exist", "none"],
        ),
        ("boot_code = \"code\"".to_owned(), &["the boot code does not fit", "441 bytes", "disk.toml:4"]),
        ("entries = 0".to_owned(), &["no slot left in the GPT", "at most 0"]),
        ("entries = 20000".to_owned(), &["cannot have so many entries"]),
        ("entries_at = 1".to_owned(), &["lie over its header"]),
        ("table = \"mbr\"\nentries = 4".to_owned(), &["`entries` means nothing"]),
    ] {
        let said = build(folder.path(), &disk, "1MiB");
        assert!(said.code != 0, "{disk}");
        for word in words {
            assert!(said.error().contains(word), "{disk}: no `{word}` in\n{}", said.error());
        }
        assert!(!folder.path().join("disk.img").exists());
    }
}
