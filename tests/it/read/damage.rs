//! Damage that the checks must find: each kind of fault at least once, where the foreign judge finds a fault
//! too.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use diskwright::filesystem::Fault;
use diskwright::units::u64_of;

use super::ext::{mke2fs, source};
use super::view::{assert_clean, opened, remarks};
use crate::support::program::mkfs_vfat;
use crate::support::tools::{command, must, quick_scratch, run};
use crate::support::{debugfs, ext4, fat, tree};

/// The faults that a check finds, and all it says.
fn faults(image: &Path) -> (Vec<Fault>, String) {
    let remarks = remarks(&*opened(image));
    let text = remarks.iter().map(|remark| format!("{remark}\n")).collect();
    (remarks.into_iter().map(|remark| remark.fault).collect(), text)
}

/// What debugfs does to a filesystem, the fault it is, and words of the remark.
const EXT4: &[(&str, Fault, &str)] = &[
    ("sif /file-100 links_count 5", Fault::Count, "it tells 5 names, and has 1"),
    ("sif /file-4096 blocks 24", Fault::Count, "bytes of blocks"),
    ("ssv free_blocks_count 1", Fault::Count, "superblock: it tells 1 free blocks"),
    ("ssv free_inodes_count 1", Fault::Count, "superblock: it tells 1 free inodes"),
    (
        "set_bg 0 free_blocks_count 3\nset_bg 0 checksum calc",
        Fault::Count,
        "group 0: it tells 3 free clusters",
    ),
    ("set_bg 0 used_dirs_count 99\nset_bg 0 checksum calc", Fault::Count, "it tells 99 directories"),
    ("freeb 1500 200", Fault::Bitmap, "blocks are used and not marked, block 1500 first"),
    ("setb 20000 3", Fault::Bitmap, "3 blocks are marked as used and belong to nothing, block 20000 first"),
    ("clri /file-70000", Fault::Structure, "file-70000: inode"),
    ("freei /file-59", Fault::Structure, "is not in use"),
    ("seti <4000>", Fault::Bitmap, "inode 4000: it is marked as used, and is deleted"),
    ("sif /pipe mode 0130644", Fault::Structure, "a file type that does not exist"),
    ("ssv state 0", Fault::State, "it was not unmounted"),
    ("ssv state 3", Fault::State, "the kernel found errors"),
    ("set_bg 0 checksum 1", Fault::Checksum, "group 0: the checksum of its descriptor"),
    ("sif /file-1 checksum 1", Fault::Checksum, "its checksum is wrong"),
];

#[test]
fn damage_to_ext4_is_seen() {
    let folder = quick_scratch();
    let (source, whole) = (source(folder.path()), folder.path().join("whole.img"));
    mke2fs(&whole, "-t ext4 -b 4096 -N 9000", Some(&source));
    assert_clean(&whole);
    for (commands, fault, words) in EXT4 {
        let image = folder.path().join("image.img");
        std::fs::copy(&whole, &image).unwrap();
        debugfs::damage(&image, &format!("{commands}\n"));
        let (faults, text) = faults(&image);
        assert!(
            faults.contains(fault) && text.contains(words),
            "{commands}: no {fault:?} `{words}` in\n{text}"
        );
        // The state alone only makes e2fsck check the filesystem, which it does anyway.
        if *fault != Fault::State {
            assert!(!ext4::remarks(&image).is_empty(), "{commands}: e2fsck has no remark");
        }
    }
}

/// Changes bytes at `offset` of a file.
fn change(image: &Path, offset: u64, bytes: &[u8]) {
    File::options().write(true).open(image).unwrap().write_all_at(bytes, offset).unwrap();
}

/// The number that debugfs prints behind `words`.
fn number(image: &Path, command: &str, words: &str) -> u64 {
    let text = debugfs::debugfs(image, &format!("{command}\n")).text();
    let behind = text.split(words).nth(1).unwrap_or_else(|| panic!("no {words} in {text}")).trim_start();
    behind.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

/// Damage that no command of debugfs makes: other bytes in blocks with a checksum, a block of two files, a
/// copy that differs.
#[test]
fn damage_to_blocks_of_ext4_is_seen() {
    let folder = quick_scratch();
    let (source, whole) = (source(folder.path()), folder.path().join("whole.img"));
    mke2fs(&whole, "-t ext4 -b 4096 -N 9000", Some(&source));
    let image = folder.path().join("image.img");
    let directory = number(&whole, "bmap /many 0", "bmap /many 0\n");
    let leaf = number(&whole, "stat /pieces", "(ETB0):");
    let attributes = number(&whole, "stat /file-100", "File ACL: ");
    for (at, words) in [
        (directory * 4096 + 100, "a directory is wrong: the checksum of block 0 of it is wrong"),
        (leaf * 4096 + 2000, "an extent tree is wrong: the checksum of block"),
        (attributes * 4096 + 100, "the checksum of a block of extended attributes is wrong"),
        // The superblock of group 1, and its descriptors behind it.
        (32768 * 4096 + 0x78, "superblock copy in group 1: its checksum is wrong"),
    ] {
        if at >= std::fs::metadata(&whole).unwrap().len() {
            continue;
        }
        std::fs::copy(&whole, &image).unwrap();
        change(&image, at, b"\xa5\x5a");
        let (_, text) = faults(&image);
        assert!(text.contains(words), "no `{words}` in\n{text}");
        assert!(!ext4::remarks(&image).is_empty(), "{words}: e2fsck has no remark");
    }
}

#[test]
fn blocks_of_two_files_and_copies_that_differ_are_seen() {
    let folder = quick_scratch();
    let (source, image) = (source(folder.path()), folder.path().join("image.img"));
    mke2fs(&image, "-t ext2 -b 1024", Some(&source));
    let shared = number(&image, "stat /file-4096", "(0-3):");
    debugfs::damage(&image, &format!("sif /file-1024 block[0] {shared}\n"));
    let (found, text) = faults(&image);
    assert!(found.contains(&Fault::Shared) && text.contains("belongs to something else too"), "{text}");
    assert!(!ext4::remarks(&image).is_empty());
    std::fs::remove_file(&image).unwrap();
    mke2fs(&image, "-t ext2 -b 1024", Some(&source));
    // s_inodes_per_group of the copy in group 1, which begins at block 8193; and the table of group 0 in the descriptors
    // behind it.
    change(&image, 8193 * 1024 + 0x28, &[1]);
    change(&image, 8194 * 1024 + 8, &[1, 2]);
    let (found, text) = faults(&image);
    assert!(found.contains(&Fault::Copy), "{text}");
    for words in ["its s_inodes_per_group is", "are elsewhere than the first ones say"] {
        assert!(text.contains(words), "no {words} in {text}");
    }
}

/// A number of the boot sector.
fn word(image: &Path, offset: u64, length: usize) -> u64 {
    let mut bytes = [0; 8];
    File::open(image).unwrap().read_exact_at(&mut bytes[..length], offset).unwrap();
    u64::from_le_bytes(bytes)
}

#[test]
fn damage_to_fat_is_seen() {
    let folder = quick_scratch();
    let (source, whole) = (folder.path().join("source"), folder.path().join("whole.img"));
    let mut maker = tree::Maker::new(&source);
    maker.directory("directory").file("directory/A long name", tree::noise(1, 9000));
    maker.file("ONE", tree::noise(2, 9000)).file("TWO", tree::noise(3, 9000)).finish();
    mkfs_vfat(&source, &whole, &["--size", "600MiB"]);
    assert_clean(&whole);
    let sector = word(&whole, 11, 2);
    let table = word(&whole, 14, 2) * sector;
    let length = word(&whole, 36, 4) * sector;
    let data = table + 2 * length;
    // Both copies of the entry of a cluster.
    let both = |image: &Path, cluster: u64, value: u32| {
        for copy in [0, length] {
            change(image, table + copy + cluster * 4, &value.to_le_bytes());
        }
    };
    let entry = |image: &Path, name: &[u8]| {
        let mut root = vec![0; 4096];
        File::open(image).unwrap().read_exact_at(&mut root, data).unwrap();
        data + 32 * u64_of(root.chunks(32).position(|entry| entry.starts_with(name)).unwrap())
    };
    let (one, two) = (entry(&whole, b"ONE"), entry(&whole, b"TWO"));
    let first = |at: u64| word(&whole, at + 26, 2);
    type Change<'a> = &'a dyn Fn(&Path);
    let damage: [(Change<'_>, Fault, &str); 13] = [
        (
            &|image| change(image, table + length + 8, &[1]),
            Fault::Copy,
            "copy 2 differs from the first one, from byte 0",
        ),
        (&|image| change(image, 6 * sector + 3, b"X"), Fault::Copy, "its copy in sector 6 differs"),
        (&|image| change(image, sector + 488, &[1, 0, 0, 0]), Fault::Count, "it tells 1 free clusters"),
        (&|image| change(image, sector, b"X"), Fault::Structure, "FSInfo: there is none in sector 1"),
        (
            &|image| both(image, 5000, 0x0fff_ffff),
            Fault::Bitmap,
            "1 clusters are in use and belong to nothing, cluster 5000",
        ),
        (&|image| both(image, first(one), 0), Fault::Structure, "leads to a free one"),
        (
            &|image| both(image, first(one) + 1, u32::try_from(first(one)).unwrap()),
            Fault::Structure,
            "a chain of clusters is a loop",
        ),
        (
            &|image| both(image, first(one), u32::try_from(first(two)).unwrap()),
            Fault::Shared,
            "/TWO: its chain leads to",
        ),
        (
            &|image| change(image, one + 28, &[0, 0, 1, 0]),
            Fault::Count,
            "/ONE: it has 3 clusters, and its 65536 bytes need 16",
        ),
        (&|image| change(image, two, b"ONE"), Fault::Structure, "two names in it are the same: ONE"),
        (&|image| both(image, 1, 0x07ff_ffff), Fault::State, "the volume was not unmounted"),
        (&|image| change(image, table, &[0]), Fault::Structure, "its first entry is"),
        (&|image| change(image, one + 26, &[0xff, 0xff]), Fault::Structure, "leads to a free one"),
    ];
    for (change, fault, words) in damage {
        let image = folder.path().join("image.img");
        must(command("cp").arg("--sparse=always").arg(&whole).arg(&image));
        change(&image);
        let (faults, text) = faults(&image);
        assert!(faults.contains(&fault) && text.contains(words), "no {fault:?} `{words}` in\n{text}");
        assert!(!fat::remarks(&image).is_empty(), "{words}: fsck.fat has no remark");
    }
    // Orphans of a long name: its short one is deleted.
    let image = folder.path().join("image.img");
    must(command("cp").arg("--sparse=always").arg(&whole).arg(&image));
    let directory = data + (first(entry(&whole, b"DIRECT")) - 2) * word(&whole, 13, 1) * sector;
    change(&image, directory + 3 * 32, &[0xe5]);
    let (_, text) = faults(&image);
    assert!(text.contains("/directory: parts of a long name in it belong to no name"), "{text}");
    assert_ne!(run(command("fsck.fat").arg("-n").arg(&image)).code, 0);
}
