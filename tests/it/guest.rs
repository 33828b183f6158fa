//! What only a kernel with privileges of its own can show: growth online through the reserved descriptor blocks and
//! past them, and more subdirectories than a link count holds.

use std::path::Path;

use crate::support::ext4::{assert_clean, count};
use crate::support::guest::Guest;
use crate::support::tools::{command, must, scratch};

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
    println!("{said}");
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

#[test]
fn proof_of_the_guest_on_a_filesystem_of_mke2fs() {
    let folder = scratch();
    let image = folder.path().join("mke2fs.img");
    // 64 MiB that may grow to 16 GiB: two descriptor blocks, one of them in reserve.
    must(
        command("mke2fs")
            .args(["-q", "-t", "ext4", "-b", "4096", "-N", "80000", "-E", "resize=4194304"])
            .arg(&image)
            .arg("512M"),
    );
    assert_eq!(count(&image, "Reserved GDT blocks"), 1);
    let t = std::time::Instant::now();
    grow(&image, "12G", "40G");
    println!("{:?}", t.elapsed());
    crowd(&image);
    println!("{:?}", t.elapsed());
}
