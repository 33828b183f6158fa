//! Tests that need a kernel with privileges of their own: growth online through the reserved descriptor
//! blocks and past them, and more subdirectories than a link count can hold.

use std::path::Path;

use crate::support::ext4::{assert_clean, count, superblock};
use crate::support::guest::Guest;
use crate::support::program::mkfs_ext4;
use crate::support::snapshot::Snapshot;
use crate::support::tools::{command, must, scratch};
use crate::support::{debugfs, tree};

/// Grows the filesystem in `image` online, first to `within`, which its reserve allows, then to `past` it.
fn grow(image: &Path, within: &str, past: &str) {
    // The disk is as large as the filesystem will be; a hole costs nothing.
    must(command("truncate").arg("-s").arg(past).arg(image));
    let script = format!(
        "mount -t ext4 -o noinit_itable /dev/vda /mnt\n\
         resize2fs /dev/vda {within}\n\
         mkdir -p /mnt/grown/within; echo within > /mnt/grown/within/file\n\
         resize2fs /dev/vda\n\
         echo past > /mnt/grown/past\n\
         sync; cat /mnt/grown/within/file /mnt/grown/past\n\
         df -m /mnt | tail -n 1\n\
         umount /mnt\n"
    );
    let said = Guest::new().disk(image).program("resize2fs").run(&script);
    assert!(said.contains("within\npast"), "{said}");
    assert_clean(image);
}

/// Makes subdirectories until one directory has 70,000 and removes some again.
fn crowd(image: &Path) {
    let script = "mount -t ext4 -o noinit_itable /dev/vda /mnt\n\
         mkdir -p /mnt/crowd; cd /mnt/crowd\n\
         seq 1 70000 | xargs mkdir\n\
         stat -c 'links %h' .\n\
         seq 1 9000 | xargs rmdir\n\
         cd /; umount /mnt\n";
    let said = Guest::new().disk(image).run(script);
    assert!(said.contains("links 1\n") || said.ends_with("links 1"), "{said}");
    assert_clean(image);
    assert!(count(image, "Inode count") - count(image, "Free inodes") > 61_000);
}

/// Proof of the guest: it grows and fills a filesystem of mke2fs.
#[test]
fn a_filesystem_of_mke2fs_grows() {
    let folder = scratch();
    let image = folder.path().join("mke2fs.img");
    // 64 MiB that may grow to 16 GiB: two descriptor blocks, one of them in reserve.
    must(
        command("mke2fs")
            .args(["-q", "-t", "ext4", "-b", "4096", "-E", "resize=4194304"])
            .arg(&image)
            .arg("64M"),
    );
    assert_eq!(count(&image, "Reserved GDT blocks"), 1);
    grow(&image, "12G", "40G");
}

#[test]
fn ours_grows_through_its_reserve_and_past_it() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    tree::plain(&source);
    // 31 blocks in reserve beside the one in use, each for 8 GiB, with backups in the groups 3, 5, 7, 9, ... 1331.
    mkfs_ext4(&source, &image, &["--size", "64MiB", "--grow-to", "256GiB"]);
    assert_eq!(count(&image, "Reserved GDT blocks"), 31);
    grow(&image, "250G", "270G");
    assert!(superblock(&image, "Filesystem features").contains("meta_bg"), "the reserve did not suffice");
    assert!(!superblock(&image, "Filesystem features").contains("resize_inode"));
    // What was there before is there still.
    let found = debugfs::view(&image);
    for (path, entry) in Snapshot::of(&source).0 {
        assert_eq!(found.0[&path].digest, entry.digest);
    }
}

#[test]
fn ours_takes_seventy_thousand_subdirectories() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    let mut maker = tree::Maker::new(&source);
    maker.directory("crowd");
    for number in 0..1000 {
        maker.directory(format!("crowd/ours-{number}"));
    }
    maker.finish();
    mkfs_ext4(&source, &image, &["--size", "512MiB", "--inodes", "80000"]);
    crowd(&image);
}

/// Filesystems of odd sizes, and the sizes they grow to, one after the other.
const STEPS: [(&[&str], &[&str]); 8] = [
    // As small as can be.
    (&["--free", "0", "--journal=false"], &["2M", "127M", "129M", "1G"]),
    (&["--size", "8MiB"], &["100M", "2049M", "9G"]),
    // A last group that barely holds its own.
    (&["--size", "134479872"], &["130M", "300M"]),
    // Nothing in reserve: meta_bg at once.
    (&["--size", "1GiB", "--grow-to", "1GiB"], &["7G", "9G", "20G"]),
    // Block by block over the border of a flex group.
    (&["--size", "2147479552"], &["524288", "524289", "524338", "530000"]),
    // The reserve ends within the step.
    (&["--size", "300MiB", "--grow-to", "40GiB"], &["39G", "70G"]),
    (&["--size", "100MiB", "--inodes", "400", "--reserved", "7%"], &["5G"]),
    (&["--free", "100MiB", "--grow-to", "20GiB"], &["19G"]),
];

#[test]
fn odd_filesystems_grow_step_by_step() {
    use std::fmt::Write as _;
    let folder = scratch();
    let source = folder.path().join("source");
    tree::plain(&source);
    let expected = Snapshot::of(&source);
    let mut guest = Guest::new().program("resize2fs");
    let mut script = String::new();
    let mut images = Vec::new();
    for (letter, (flags, sizes)) in ('a'..).zip(STEPS) {
        let image = folder.path().join(format!("{letter}.img"));
        mkfs_ext4(&source, &image, flags);
        // The disk is as large as any of the filesystems will be; a hole costs nothing.
        must(command("truncate").args(["-s", "80G"]).arg(&image));
        guest = guest.disk(&image);
        let _ = writeln!(script, "mount -t ext4 -o noinit_itable /dev/vd{letter} /mnt");
        for (number, size) in sizes.iter().enumerate() {
            // What the last step brought is used before the next one.
            let _ = writeln!(
                script,
                "resize2fs /dev/vd{letter} {size}; mkdir -p /mnt/step-{number}; echo {size} > /mnt/step-{number}/file"
            );
        }
        let _ = writeln!(script, "umount /mnt; echo {letter} is done");
        images.push(image);
    }
    let said = guest.run(&script);
    for ((image, (_, sizes)), letter) in images.iter().zip(STEPS).zip('a'..) {
        assert!(said.contains(&format!("{letter} is done")), "{said}");
        assert_clean(image);
        let found = debugfs::view(image);
        for (path, entry) in &expected.0 {
            assert_eq!(found.0[path].digest, entry.digest, "{letter}");
        }
        for number in 0..sizes.len() {
            assert!(found.0.contains_key(format!("step-{number}/file").as_bytes()), "{letter}");
        }
    }
}
