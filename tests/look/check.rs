//! `check`: whatever the tools of a format report of a planted fault, it reports too, and nothing of what is whole.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::Value;

use crate::support::debugfs;
use crate::support::program::{build, diskwright, mkfs_erofs, mkfs_ext4, mkfs_squashfs, mkfs_vfat, project};
use crate::support::tools::{Said, command, must, run, scratch};
use crate::support::tree;

fn check(image: &Path) -> Said {
    run(diskwright().arg("check").arg(image))
}

/// It finds a fault, with these words.
fn finds(image: &Path, words: &str, name: &str) {
    let said = check(image);
    let lines = said.text() + &said.error();
    assert!(said.code == 1 && lines.contains(words), "{name}: no `{words}` in\n{lines}");
}

fn change(image: &Path, offset: u64, bytes: &[u8]) {
    File::options().write(true).open(image).unwrap().write_all_at(bytes, offset).unwrap();
}

/// A copy of an image, to be damaged.
fn copy(image: &Path) -> std::path::PathBuf {
    let other = image.with_extension("damaged");
    must(command("cp").arg("--sparse=always").arg(image).arg(&other));
    other
}

#[test]
fn nothing_is_found_in_what_is_whole() {
    let folder = scratch();
    let [gpt, mbr] = project(folder.path());
    for (manifest, suffix) in
        [(&gpt, "img"), (&gpt, "qcow2"), (&gpt, "vhdx"), (&gpt, "vdi"), (&mbr, "img"), (&mbr, "vmdk")]
    {
        let disk = folder.path().join(format!("disk.{suffix}"));
        build(manifest, &disk);
        let said = check(&disk);
        assert_eq!((said.code, said.text().as_str(), said.error().as_str()), (0, "", ""), "{suffix}");
    }
    let compressed = folder.path().join("compressed.qcow2");
    must(diskwright().arg("build").arg(&gpt).arg("-o").arg(&compressed).args(["--compress", "zlib"]));
    assert_eq!(check(&compressed).code, 0);
    // What QEMU wrote, clusters of every size and refcounts of every width.
    let raw = folder.path().join("disk.img");
    for options in [
        "cluster_size=512",
        "cluster_size=2M",
        "refcount_bits=1",
        "refcount_bits=4",
        "refcount_bits=64",
        "extended_l2=on,cluster_size=128k",
        "compat=0.10",
    ] {
        let other = folder.path().join("other.qcow2");
        must(command("qemu-img").args(["convert", "-O", "qcow2", "-o", options]).arg(&raw).arg(&other));
        let said = check(&other);
        assert_eq!((said.code, said.text().as_str()), (0, ""), "{options}: {}", said.error());
        std::fs::remove_file(other).unwrap();
    }
}

/// Whether qemu-img finds something.
fn qemu_finds(image: &Path) -> bool {
    run(command("qemu-img").args(["check", "-f", "qcow2"]).arg(image)).code != 0
}

#[test]
fn faults_of_a_qcow2_are_found() {
    let folder = scratch();
    let [gpt, _] = project(folder.path());
    let (raw, whole) = (folder.path().join("disk.img"), folder.path().join("disk.qcow2"));
    build(&gpt, &raw);
    must(command("qemu-img").args(["convert", "-O", "qcow2"]).arg(&raw).arg(&whole));
    let word = |at: u64| {
        let mut bytes = [0; 8];
        File::open(&whole).unwrap().read_exact_at(&mut bytes, at).unwrap();
        u64::from_be_bytes(bytes)
    };
    // The header has the L1 table at byte 40 and the refcount table at byte 48.
    let (l1, refcounts) = (word(40), word(48));
    let (l2, block) = (word(l1) & !(1 << 63), word(refcounts));
    let entry = (0..8192).find(|slot| word(l2 + slot * 8) != 0).unwrap();
    let data = word(l2 + entry * 8);
    let of = |cluster: u64| block + cluster * 2;
    let cluster = (data & !(1 << 63)) / 65536;
    let last = std::fs::metadata(&whole).unwrap().len() / 65536 - 1;
    for (name, at, bytes, words) in [
        ("a refcount that is too low", of(cluster), vec![0, 0], "has the refcount 0, and 1 references"),
        ("a leak", of(last), vec![0, 2], "is leaked: it has the refcount 2"),
        ("a leak of metadata", of(0), vec![0, 3], "cluster 0 is leaked"),
        (
            "no flag of a sole reference",
            l2 + entry * 8,
            (data & !(1 << 63)).to_be_bytes().to_vec(),
            "lacks the flag of a sole reference",
        ),
        ("an L2 table without the flag", l1, l2.to_be_bytes().to_vec(), "lacks the flag of a sole reference"),
        ("a cluster that is used twice", l2 + entry * 8 + 8, data.to_be_bytes().to_vec(), "overlap"),
        ("data in the header", l2 + entry * 8, (1_u64 << 63).to_be_bytes().to_vec(), ""),
        ("data that is not aligned", l2 + entry * 8, (data + 512).to_be_bytes().to_vec(), "not aligned"),
        ("data over a table", l2 + entry * 8, (l2 | 1 << 63).to_be_bytes().to_vec(), "overlap"),
        ("an entry that is gone", l2 + entry * 8, vec![0; 8], "is leaked"),
    ] {
        let image = copy(&whole);
        change(&image, at, &bytes);
        assert!(qemu_finds(&image), "{name}: qemu-img finds nothing");
        finds(&image, words, name);
    }
}

#[test]
fn faults_of_a_table_are_found() {
    let folder = scratch();
    let [gpt, _] = project(folder.path());
    let whole = folder.path().join("disk.img");
    build(&gpt, &whole);
    let length = std::fs::metadata(&whole).unwrap().len();
    for (name, at, words) in [
        ("the primary header", 512 + 24, "the primary GPT is damaged"),
        ("its checksum", 512 + 16, "the primary GPT is damaged"),
        ("the primary entries", 1024 + 40, "the primary GPT is damaged"),
        ("the backup header", length - 512 + 24, "the backup GPT is damaged"),
        ("the backup entries", length - 33 * 512 + 40, "the backup GPT is damaged"),
        ("the mark of the primary", 512, "there is no primary GPT"),
        ("the mark of the backup", length - 512, "there is no backup GPT"),
        ("the protective record", 510, "no protective MBR"),
    ] {
        let image = copy(&whole);
        change(&image, at, &[0xa5]);
        let theirs = run(command("sgdisk").arg("-v").arg(&image));
        let silent = theirs.error().is_empty()
            && !theirs.text().contains("aution")
            && !theirs.text().contains("arning");
        // sgdisk does not ask for the mark of the protective record.
        let silent = silent && name != "the protective record";
        assert!(!(silent && theirs.text().contains("No problems found")), "{name}: sgdisk finds nothing");
        finds(&image, words, name);
    }
    // Partitions over each other: sgdisk does not make them, so the entry of one gets the start of the other.
    let image = copy(&whole);
    must(command("sgdisk").args(["-d", "2"]).arg(&image));
    let said = check(&image);
    assert_eq!(said.code, 0, "{}{}", said.text(), said.error());
    let cut = copy(&whole);
    File::options().write(true).open(&cut).unwrap().set_len(length - (4 << 20)).unwrap();
    finds(&cut, "after the disk of", "a disk that is cut off");
}

/// Commands of debugfs that plant a fault each, in a filesystem of ours.
const EXT4: &[&str] = &[
    "sif /etc/a.conf links_count 5",
    "sif /large blocks 24",
    "ssv free_blocks_count 1",
    "ssv free_inodes_count 1",
    "set_bg 0 free_blocks_count 3\nset_bg 0 checksum calc",
    "set_bg 0 free_inodes_count 3\nset_bg 0 checksum calc",
    "set_bg 0 used_dirs_count 99\nset_bg 0 checksum calc",
    "freeb 1500 20",
    "clri /large",
    "freei /large",
    "sif /pipe mode 0130644",
    "set_bg 0 checksum 1",
    "sif /etc/b.conf checksum 1",
    "sif /etc links_count 9",
    "rm /etc/a.conf\nlink <12> /x",
    "unlink /secret",
    "ln /etc /tmp/loop",
];

#[test]
fn faults_of_an_ext4_are_found() {
    let folder = scratch();
    let (source, whole) = (crate::list::source(folder.path()), folder.path().join("whole.img"));
    mkfs_ext4(&source, &whole, &["--owner", "preserve", "--size", "64MiB"]);
    assert_eq!(check(&whole).code, 0);
    let mut missed = Vec::new();
    for commands in EXT4 {
        let image = copy(&whole);
        debugfs::damage(&image, &format!("{commands}\n"));
        let theirs = crate::support::ext4::remarks(&image);
        assert!(!theirs.is_empty(), "{commands}: e2fsck finds nothing");
        if check(&image).code != 1 {
            missed.push(format!("{commands}: {theirs:?}"));
        }
    }
    assert!(missed.is_empty(), "not found:\n{}", missed.join("\n"));
    // A byte in each structure that has a checksum: every sixteenth block of 4 KiB that is in use by metadata.
    let said = must(command("dumpe2fs").arg(&whole)).text();
    let number = |words: &str| -> u64 {
        let after = said.split(words).nth(1).unwrap().trim_start();
        after.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    for words in ["Block bitmap at ", "Inode bitmap at ", "Inode table at "] {
        let image = copy(&whole);
        change(&image, number(words) * 4096 + 260, &[0x5a]);
        assert_ne!(run(command("e2fsck").arg("-fn").arg(&image)).code, 0, "{words}");
        finds(&image, "disk: ", words);
    }
}

#[test]
fn faults_of_other_filesystems_are_found() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("image.img"));
    tree::plain(&source);
    mkfs_vfat(&source.join("bin"), &image, &["--size", "40MiB"]);
    assert_eq!(check(&image).code, 0);
    for (name, at) in [("the second table", 0x10000_u64), ("the boot sector's sectors", 19)] {
        let damaged = copy(&image);
        let bytes = std::fs::read(&damaged).unwrap();
        let at = usize::try_from(at).unwrap();
        change(&damaged, u64::try_from(at).unwrap(), &[!bytes[at]]);
        let theirs = run(command("fsck.fat").arg("-n").arg(&damaged)).code != 0;
        assert_eq!(check(&damaged).code == 1, theirs, "{name}");
    }
    mkfs_squashfs(&source, &image, &[]);
    assert_eq!(check(&image).code, 0);
    // The superblock has the places of inodes, directories and fragments; a block of metadata begins with its length.
    let bytes = std::fs::read(&image).unwrap();
    for (name, field) in [("inodes", 64), ("directories", 72)] {
        let start = u64::from_le_bytes(bytes[field..field + 8].try_into().unwrap());
        let damaged = copy(&image);
        change(&damaged, start + 3, &[0xa5, 0x5a]);
        assert_ne!(run(command("unsquashfs").args(["-l"]).arg(&damaged)).code, 0, "{name} of a SquashFS");
        assert_eq!(check(&damaged).code, 1, "{name} of a SquashFS");
    }
    mkfs_erofs(&source, &image, &[]);
    assert_eq!(check(&image).code, 0);
    let damaged = copy(&image);
    change(&damaged, 1024 + 64, b"X");
    finds(&damaged, "checksum", "the superblock of an EROFS");
}

#[test]
fn findings_are_json_too_and_one_partition_can_be_checked() {
    let folder = scratch();
    let [gpt, _] = project(folder.path());
    let disk = folder.path().join("disk.img");
    build(&gpt, &disk);
    let said = must(diskwright().args(["check", "--json"]).arg(&disk));
    assert_eq!(said.text(), "[]\n");
    change(&disk, 512 + 24, &[0xa5]);
    let said = run(diskwright().args(["check", "--json"]).arg(&disk));
    let findings: Value = serde_json::from_str(&said.text()).unwrap();
    assert_eq!((said.code, &findings[0]["layer"]), (1, &"table".into()));
    // The table is none of a partition's.
    must(diskwright().arg("check").arg(format!("{}:root", disk.display())));
}

#[test]
fn faults_of_other_containers_are_found() {
    let folder = scratch();
    let [_, mbr] = project(folder.path());
    let built = |suffix: &str| {
        let whole = folder.path().join(format!("disk.{suffix}"));
        build(&mbr, &whole);
        whole
    };
    let [vdi, vmdk, vhdx, vhd] = ["vdi", "vmdk", "vhdx", "vhd"].map(built);
    let length = |image: &Path| std::fs::metadata(image).unwrap().len();
    for (whole, leaks) in [(&vdi, true), (&vmdk, true), (&vhdx, false)] {
        let image = copy(whole);
        File::options().write(true).open(&image).unwrap().set_len(length(whole) + (64 << 20)).unwrap();
        if leaks {
            finds(&image, "of the file are leaked", &whole.display().to_string());
        } else {
            // A VHDX has free space between its objects.
            must(diskwright().arg("check").arg(&image));
        }
    }
    // The footer at the end of a VHD, and the copy of a grain table of a VMDK.
    let image = copy(&vhd);
    change(&image, length(&vhd) - 512, &[0; 512]);
    finds(&image, "its copy at the start counts", "the footer of a VHD");
    let image = copy(&vmdk);
    let bytes = std::fs::read(&image).unwrap();
    let number = |at: usize, length: usize| {
        bytes[at..at + length].iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    let directory = usize::try_from(number(48, 8) * 512).unwrap();
    change(&image, number(directory, 4) * 512 + 4, &[0xff]);
    finds(&image, "redundant grain tables differ", "a redundant grain table");
    // What cannot be opened is a finding too.
    let image = copy(&vdi);
    change(&image, 376, &[3]);
    let said = run(diskwright().args(["check", "--json"]).arg(&image));
    let findings: Value = serde_json::from_str(&said.text()).unwrap();
    assert_eq!((said.code, &findings[0]["layer"]), (1, &"container".into()), "{}", said.error());
    // The files of a chain are checked one by one.
    let (base, over) = (folder.path().join("base.qcow2"), folder.path().join("over.qcow2"));
    must(diskwright().arg("convert").args([&vdi, &base]));
    must(diskwright().arg("create").arg(&over).arg("-b").arg(&base).args(["-F", "qcow2"]));
    let check = || run(diskwright().args(["check", "--allow-backing"]).arg(&over));
    assert_eq!(check().code, 0, "{}", check().text());
    // The first refcount block has the count of the header's cluster.
    let word = |at: u64| {
        let mut bytes = [0; 8];
        File::open(&base).unwrap().read_exact_at(&mut bytes, at).unwrap();
        u64::from_be_bytes(bytes)
    };
    change(&base, word(word(48)), &[0, 3]);
    assert!(qemu_finds(&base));
    assert!(
        check().code == 1 && check().text().contains("base.qcow2: cluster 0 is leaked"),
        "{}",
        check().text()
    );
}

/// Names of a directory lie in the block that the index leads to.
#[test]
fn faults_of_an_index_are_found() {
    let folder = scratch();
    let (source, whole) = (folder.path().join("many"), folder.path().join("whole.img"));
    std::fs::create_dir(&source).unwrap();
    for number in 0..2000 {
        std::fs::write(source.join(format!("a name of some length, number {number}")), "").unwrap();
    }
    must(
        command("mke2fs")
            .args(["-q", "-t", "ext4", "-b", "4096", "-O", "^metadata_csum,dir_index", "-N", "3000", "-d"])
            .arg(&source)
            .arg(&whole)
            .arg("32M"),
    );
    // mke2fs makes no index; e2fsck does.
    assert!(run(command("e2fsck").args(["-fyD"]).arg(&whole)).code < 4);
    assert_eq!(check(&whole).code, 0, "{}", check(&whole).text());
    let block = |number: u32| -> u64 {
        let said = debugfs::debugfs(&whole, &format!("bmap / {number}\n")).text();
        said.lines().last().unwrap().trim().parse().unwrap()
    };
    let (root, size) = (block(0), 4096);
    for (name, at, bytes, words) in [
        ("the hash of a pointer", root * size + 40, vec![0xff, 0xff, 0xff, 0xff], "do not ascend"),
        ("the count of pointers", root * size + 34, vec![0xff, 0xff], "pointers, and space for"),
        ("a block that it does not have", root * size + 44, vec![0xff, 0x0f, 0, 0], "which it does not have"),
        ("a block twice", root * size + 44, vec![1, 0, 0, 0], "two pointers lead to block 1"),
        ("the levels", root * size + 30, vec![9], "it has 9 levels"),
        ("a name elsewhere", block(1) * size + 8, vec![b'b'], "where its hash does not lead"),
    ] {
        let image = copy(&whole);
        change(&image, at, &bytes);
        assert!(!crate::support::ext4::remarks(&image).is_empty(), "{name}: e2fsck finds nothing");
        finds(&image, words, name);
    }
}
