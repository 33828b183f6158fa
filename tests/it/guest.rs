//! What only a kernel with privileges of its own can show: growth online through the reserved descriptor blocks and
//! past them, and more subdirectories than a link count holds.

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

/// The guest proven: it grows and fills what mke2fs made.
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
