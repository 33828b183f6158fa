//! `diff` of two images that differ in nothing that a reader sees: the first structure that differs is named, of every
//! filesystem, table and container.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::support::program::{build, diskwright, mkfs_erofs, mkfs_squashfs, mkfs_vfat, mkfs_zfs, project};
use crate::support::tools::{must, run, scratch};
use crate::support::tree;

/// Changes bytes of a copy of `image`, one after the other, and expects `diff` to name each.
fn named(image: &Path, changes: &[(u64, &str)]) {
    let other = image.with_file_name("other.img");
    for (at, words) in changes {
        std::fs::copy(image, &other).unwrap();
        let file = File::options().read(true).write(true).open(&other).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, *at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], *at).unwrap();
        let said = run(diskwright().arg("diff").arg(image).arg(&other));
        let lines = said.text();
        assert_eq!(said.code, 1, "{words}: {}", said.error());
        assert!(
            lines.contains(&format!("bytes that no reader shows, from byte {at}, in "))
                && lines.contains(words),
            "no `{words}` in {lines}"
        );
        assert_eq!(lines.lines().count(), 1, "{lines}");
    }
    std::fs::remove_file(other).unwrap();
}

/// Where bytes are in a file.
fn find(image: &Path, bytes: &[u8]) -> u64 {
    let all = std::fs::read(image).unwrap();
    let at = all.windows(bytes.len()).position(|window| window == bytes);
    u64::try_from(at.unwrap_or_else(|| panic!("no {bytes:?} in {}", image.display()))).unwrap()
}

fn little(image: &Path, at: u64, length: usize) -> u64 {
    let mut bytes = [0; 8];
    File::open(image).unwrap().read_exact_at(&mut bytes[..length], at).unwrap();
    u64::from_le_bytes(bytes)
}

#[test]
fn structures_of_fat() {
    let folder = scratch();
    let (source, image) = (folder.path().join("names"), folder.path().join("fat.img"));
    tree::Maker::new(&source)
        .file("a long name.text", "hello\n")
        .directory("SUB")
        .file("SUB/B", "b")
        .finish();
    mkfs_vfat(&source, &image, &["--size", "40MiB", "--fat", "32"]);
    let (reserved, each) = (little(&image, 14, 2) * 512, little(&image, 36, 4) * 512);
    let (short, data) = (find(&image, b"B          "), find(&image, b"hello\n"));
    named(
        &image,
        &[
            (3, "the boot sector, BS_OEMName"),
            (64, "the boot sector, BS_DrvNum"),
            (512 + 492, "the FSInfo sector, FSI_Nxt_Free"),
            (6 * 512 + 24, "the copy of the boot sector, BPB_SecPerTrk"),
            (5 * 512, "reserved sector 5"),
            (reserved + each + 5 * 4, "file allocation table 2, the entry of cluster 5"),
            (short + 18, "the entry of /SUB/B, DIR_LstAccDate"),
            (data + 100, "the data of /a long name.text"),
            (39 << 20, ", which is free"),
        ],
    );
    let narrow = folder.path().join("fat16.img");
    mkfs_vfat(&source, &narrow, &["--size", "16MiB", "--fat", "16"]);
    let long = find(&narrow, b"a\0 \0l\0o\0n\0") - 1;
    named(&narrow, &[(3, "the boot sector, BS_OEMName"), (long + 12, "a long name entry of /, LDIR_Type")]);
}

#[test]
fn structures_of_erofs() {
    let folder = scratch();
    let source = folder.path().join("source");
    tree::plain(&source);
    let image = folder.path().join("image.erofs");
    mkfs_erofs(&source, &image, &[]);
    let tail = find(&image, b"hello\n");
    // A compact inode has 32 bytes, an extended one 64.
    let compact = little(&image, tail - 32 + 4, 2) == 0o100_644;
    let inode = tail - if compact { 32 } else { 64 };
    // Behind the six entries.
    let names = find(&image, b"...motdmtabpasswdssl");
    named(
        &image,
        &[
            (100, "the boot sector"),
            (inode + 20, "of /etc/motd, i_ino"),
            (names - 6 * 12 + 11, "the entries of /etc, byte 11"),
        ],
    );
}

#[test]
fn structures_of_squashfs() {
    let folder = scratch();
    let source = folder.path().join("source");
    tree::plain(&source);
    let (image, plain) = (folder.path().join("image.squashfs"), folder.path().join("plain.squashfs"));
    mkfs_squashfs(&source, &image, &[]);
    named(&image, &[(8, "the superblock, mkfs_time")]);
    mkfs_squashfs(&source, &plain, &["--compress", "none"]);
    let (inodes, ids) = (little(&plain, 64, 8), little(&plain, 48, 8));
    let used = little(&plain, 40, 8);
    let motd = find(&plain, b"hello\n");
    assert!(motd < inodes && ids < used);
    named(
        &plain,
        &[
            (8, "the superblock, mkfs_time"),
            // The first inode: no reader shows its serial number.
            (inodes + 2 + 13, "the inode table, the inode of /bin/tool-0, inode_number"),
        ],
    );
    if !used.is_multiple_of(4096) {
        named(&plain, &[(used, "the padding")]);
    }
}

#[test]
fn structures_of_zfs() {
    let folder = scratch();
    let source = folder.path().join("source");
    tree::plain(&source);
    let image = folder.path().join("pool.img");
    mkfs_zfs(&source, &image, &["--label", "tank", "--size", "128MiB"]);
    let label = 256 << 10;
    named(
        &image,
        &[
            (100, "label 0, the space of a partition table"),
            ((8 << 10) + 9, "label 0, the boot environment"),
            (label + (128 << 10) + 16, "label 1, uberblock 0, ub_txg"),
            (3 << 20, "the space of a boot loader"),
            (100 << 20, "space that no block has"),
        ],
    );
}

#[test]
fn structures_of_tables() {
    let folder = scratch();
    let [gpt, mbr] = project(folder.path());
    let image = folder.path().join("disk.img");
    build(&gpt, &image);
    let length = std::fs::metadata(&image).unwrap().len();
    named(
        &image,
        &[
            (100, "the protective MBR, its boot code"),
            (446 + 5, "the protective MBR, record 1, EndingCHS"),
            (512 + 20, "the GPT header, Reserved"),
            (1024 + 128 * 5 + 48, "GPT entry 6, Attributes"),
            (100 * 512, "the gap before partition 1"),
            (length - 512 + 16, "the backup GPT header, HeaderCRC32"),
            (length - 33 * 512 + 56, "backup GPT entry 1, PartitionName"),
        ],
    );
    let image = folder.path().join("mbr.img");
    build(&mbr, &image);
    named(&image, &[(100, "the MBR, its boot code"), (446 + 1, "the MBR, record 1, StartingCHS")]);
    // What tables and files say was told, and the gap is told too.
    let other = folder.path().join("other.img");
    std::fs::copy(&image, &other).unwrap();
    let file = File::options().write(true).open(&other).unwrap();
    file.write_all_at(&[7], 440).unwrap();
    file.write_all_at(&[7], 600).unwrap();
    let lines = run(diskwright().arg("diff").arg(&image).arg(&other)).text();
    assert!(lines.contains("table: id: "), "{lines}");
    assert!(
        lines.contains("disk: bytes that no reader shows, from byte 600, in the gap before partition 1"),
        "{lines}"
    );
    assert_eq!(lines.lines().count(), 2, "{lines}");
}

#[test]
fn structures_of_containers() {
    let folder = scratch();
    let [gpt, _] = project(folder.path());
    let raw = folder.path().join("disk.img");
    build(&gpt, &raw);
    let convert = |name: &str| {
        let to = folder.path().join(name);
        must(diskwright().arg("convert").arg(&raw).arg(&to));
        to
    };
    let qcow2 = convert("disk.qcow2");
    named(
        &qcow2,
        &[(87, "container: bytes that no reader shows, from byte 87, in the header, compatible_features")],
    );
    named(&convert("disk.vdi"), &[(84, "in the header, szComment"), (408, "in the header, uuidModify")]);
    named(&convert("disk.vhd"), &[(28, "in the copy of the footer, creator_application")]);
    let vmdk = convert("disk.vmdk");
    named(&vmdk, &[(find(&vmdk, b"CID=") + 6, "in the descriptor, line ")]);
    let vhdx = convert("disk.vhdx");
    named(
        &vhdx,
        &[
            (8, "in the file type identifier, Creator"),
            ((64 << 10) + 16, "in the first header, FileWriteGuid"),
            ((256 << 10) + 4, "in the second region table, Checksum"),
        ],
    );
    let other = folder.path().join("other.qcow2");
    must(diskwright().arg("convert").arg(&raw).arg(&other).args(["--compress", "zlib"]));
    let said = run(diskwright().arg("diff").arg(&qcow2).arg(&other));
    assert_eq!(said.code, 1, "{}", said.error());
    assert!(said.text().starts_with("container: bytes that no reader shows, from byte "), "{}", said.text());
}
