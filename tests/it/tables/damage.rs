//! Tables that lost a part: `check` finds it, and `resize` does not grow over what only that part named.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::tools;
use crate::support::program::diskwright;
use crate::support::table;
use crate::support::tools::{command, digest, must, run, scratch};

/// Bytes of the disks.
const LENGTH: u64 = 20 << 20;

/// An empty disk, and the folder that holds it.
fn disk() -> (tempfile::TempDir, PathBuf) {
    let folder = scratch();
    let image = folder.path().join("disk.img");
    File::create(&image).unwrap().set_len(LENGTH).unwrap();
    (folder, image)
}

/// Runs sfdisk on an image with a script.
fn sfdisk(image: &Path, script: &str) {
    tools::must("sfdisk", &["-q", image.to_str().unwrap()], script);
}

fn put(image: &Path, bytes: &[u8], offset: u64) {
    File::options().write(true).open(image).unwrap().write_all_at(bytes, offset).unwrap();
}

/// `check` finds exactly one fault, with these words, and `resize` refuses with others.
fn assert_fault(image: &Path, fault: &str, refusal: &str) {
    let said = run(diskwright().arg("check").arg(image));
    let text = format!("{}{}", said.text(), said.error());
    assert_eq!(said.code, 1, "{text}");
    assert_eq!(text.lines().filter(|line| line.contains("table: ")).count(), 1, "{text}");
    assert!(text.contains(fault), "no `{fault}` in\n{text}");
    let before = digest(image);
    for size in ["+10MiB", "20MiB"] {
        let said = run(diskwright().arg("resize").arg(image).arg(size));
        assert!(said.code == 1 && said.error().contains(refusal), "no `{refusal}` in\n{}", said.error());
    }
    assert_eq!(digest(image), before);
    // What is there is shown all the same.
    assert_eq!(run(diskwright().arg("inspect").arg(image)).code, 0);
}

#[test]
fn a_protective_mbr_without_a_gpt_is_a_fault() {
    let wiped = &[0; 8][..];
    let (primary, backup) = ((512, wiped), (LENGTH - 512, wiped));
    // A letter of the name of the first partition, which the checksum of the entries covers.
    let (entries, others) = ((1024 + 56, &b"X"[..]), (LENGTH - 33 * 512 + 56, &b"X"[..]));
    for (damage, fault, judge) in [
        ([primary, backup], "the MBR protects a GPT, and the disk has none", "Creating new GPT entries"),
        (
            [entries, backup],
            "the primary one is damaged and the other missing: the checksum of its entries",
            "Problem",
        ),
        (
            [primary, others],
            "the backup is damaged and the other missing: the checksum of its entries",
            "Caution",
        ),
        ([entries, others], "both GPTs are damaged: the checksum of its entries", "Problem"),
    ] {
        let (_folder, image) = disk();
        must(command("sgdisk").args(["-n", "1:2048:+4M"]).arg(&image));
        for (offset, bytes) in damage {
            put(&image, bytes, offset);
        }
        let said = run(command("sgdisk").arg("-v").arg(&image));
        assert!(said.text().contains(judge), "{fault}: {}", said.text());
        assert_fault(&image, fault, "the MBR protects a GPT, and the disk has none that can be used");
        let shown = must(diskwright().arg("inspect").arg(&image)).text();
        assert!(shown.contains("0xee"), "{shown}");
        must(diskwright().arg("resize").arg(&image).args(["+1MiB", "--grow", "disk"]));
    }
}

/// The record that protects may be any of the four; with a GPT behind it there is no fault.
#[test]
fn a_protective_record_is_found_beside_others() {
    let (_folder, image) = disk();
    sfdisk(&image, "label: dos\n2048,4096,83\n8192,4096,ee\n");
    assert_fault(&image, "the MBR protects a GPT, and the disk has none", "the MBR protects a GPT");
    for order in ["1:EE", "1"] {
        let (_folder, image) = disk();
        must(command("sgdisk").args(["-n", "1:2048:+4M", "-h", order]).arg(&image));
        let said = run(diskwright().arg("check").arg(&image));
        assert_eq!((said.code, said.error()), (0, String::new()), "{order}");
        must(diskwright().arg("resize").arg(&image).arg("+10MiB"));
    }
}

/// A chain of extended boot records that leads back: one fault, and the logical partitions in front of the loop.
#[test]
fn a_loop_of_logical_partitions_is_one_fault() {
    // sfdisk puts the second boot record behind the first logical partition.
    let second = 12_288_u32;
    let link = |start: u32| {
        let numbers = [start.to_le_bytes(), 4096_u32.to_le_bytes()].concat();
        [&[0, 0, 0, 0, 5, 0, 0, 0], &numbers[..]].concat()
    };
    for (sector, bytes) in [(8192, link(0)), (second, link(second - 8192)), (second, link(0))] {
        let (_folder, image) = disk();
        sfdisk(&image, "label: dos\n2048,4096,83,*\n8192,,5\n10240,2048,83\n14336,2048,83\n");
        table::assert_clean(&image);
        let clean = run(diskwright().arg("check").arg(&image));
        assert_eq!((clean.code, clean.error()), (0, String::new()));
        put(&image, &bytes, u64::from(sector) * 512 + 446 + 16);
        assert!(!table::remarks(&image).is_empty(), "sfdisk and sgdisk have no remark");
        assert_fault(&image, "the chain of logical partitions is a loop", "cannot all be read");
    }
}

/// An extended partition without logical ones, whose boot record has no link, is whole.
#[test]
fn an_empty_extended_partition_is_no_fault() {
    let (_folder, image) = disk();
    sfdisk(&image, "label: dos\n2048,4096,83\n8192,,5\n");
    table::assert_clean(&image);
    let said = run(diskwright().arg("check").arg(&image));
    assert_eq!((said.code, said.error()), (0, String::new()));
    must(diskwright().arg("resize").arg(&image).arg("+10MiB"));
}
