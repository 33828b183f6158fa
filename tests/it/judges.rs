//! Proof of the judges: each passes a good filesystem by mke2fs, and fails a damaged one.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use diskwright::units::u64_of;

use crate::support::compare::{ALL, Aspect, differences};
use crate::support::snapshot::{Kind, Snapshot};
use crate::support::tools::{attend, command, must, scratch, wait};
use crate::support::{debugfs, ext4, fat, kernel, table, tree};

/// A small tree whose times have no nanoseconds and end before 2038, since mke2fs keeps no others; and its image.
struct Good {
    folder: tempfile::TempDir,
    expected: Snapshot,
    image: PathBuf,
}

impl Good {
    fn new() -> Self {
        let folder = scratch();
        let source = folder.path().join("source");
        tree::plain(&source);
        tree::Maker::new(&source)
            .sparse("sparse", 100_000, &[(40_960, 4096)])
            .sparse(
                "scattered",
                40 * 4096,
                &std::array::from_fn::<_, 10, _>(|n| (u64_of(n) * 4 * 4096, 4096)),
            )
            .xattr("sparse", "user.small", "value")
            .xattr("etc/motd", "user.large", tree::noise(1, 2000))
            .finish();
        let image = folder.path().join("good.img");
        must(
            command("mke2fs")
                .args(["-q", "-t", "ext4", "-b", "4096", "-E", "root_owner=0:0", "-d"])
                .args([&source, &image])
                .arg("64M"),
        );
        // mke2fs does not date the root like the source, and gives it the owner that it is told.
        let mut expected = Snapshot::of(&source).links_as_in_ext4();
        let root = debugfs::view(&image).0.remove(b"".as_slice()).unwrap();
        let entry = expected.0.get_mut(b"".as_slice()).unwrap();
        (entry.mtime, entry.mode) = (root.mtime, root.mode);
        (entry.uid, entry.gid) = (0, 0);
        Self { folder, expected, image }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

#[test]
fn every_judge_passes_a_good_filesystem() {
    let good = Good::new();
    ext4::judge(&good.image, &good.expected);
    kernel::judge(&good.image, &good.expected);
}

/// Copies the good image and lets `damage` at the copy.
fn damaged(good: &Good, damage: impl FnOnce(&Path)) -> PathBuf {
    let image = good.path().join("damaged.img");
    must(command("cp").arg("--sparse=always").arg(&good.image).arg(&image));
    damage(&image);
    image
}

#[test]
fn e2fsck_fails_a_wrong_count_and_a_remark_that_leaves_exit_code_0() {
    let good = Good::new();
    let image = damaged(&good, |image| debugfs::damage(image, "set_super_value free_blocks_count 17\n"));
    let remarks = ext4::remarks(&image);
    assert!(remarks.iter().any(|line| line.contains("Free blocks count wrong")), "{remarks:?}");
    // Ten extents need a block of their own, and the one that is left does not: that is only a remark.
    let image = damaged(&good, |image| debugfs::damage(image, "punch scattered 1 100\n"));
    let remarks = ext4::remarks(&image);
    assert!(remarks.len() == 1 && remarks[0].contains("extent tree"), "{remarks:?}");
    let image = damaged(&good, |image| debugfs::damage(image, "set_inode_field etc/motd links_count 9\n"));
    assert!(!ext4::remarks(&image).is_empty());
    let image = damaged(&good, |image| debugfs::damage(image, "set_super_value uuid clear\n"));
    assert!(!ext4::remarks(&image).is_empty(), "checksums no longer fit the UUID");
}

/// What one debugfs command does to the good image, and in which aspect which judges see it.
const DAMAGES: [(&str, &str, &[Aspect]); 9] = [
    ("mode", "set_inode_field bin/tool-3 mode 0100700", &[Aspect::Mode]),
    ("owner", "set_inode_field bin/tool-3 uid 7", &[Aspect::Owner]),
    ("high half of the owner", "set_inode_field bin/tool-3 gid_hi 7", &[Aspect::Owner]),
    ("seconds", "set_inode_field bin/tool-3 mtime 1000000001", &[Aspect::Time]),
    ("nanoseconds", "set_inode_field bin/tool-3 mtime_extra 4", &[Aspect::Time]),
    ("epoch", "set_inode_field bin/tool-3 mtime_extra 1", &[Aspect::Time]),
    ("name", "link bin/tool-3 bin/tool-more", &[]),
    ("attribute", "ea_set bin/tool-3 user.more x", &[Aspect::Xattrs]),
    ("length", "set_inode_field bin/tool-3 size 2990", &[Aspect::Bytes]),
];

#[test]
fn every_reader_fails_what_it_can_see() {
    let good = Good::new();
    for (what, damage, aspects) in DAMAGES {
        let image = damaged(&good, |image| debugfs::damage(image, &format!("{damage}\n")));
        let mut readers = vec![
            ("ext4-view", ext4::view(&image).without_lost_and_found(), ext4::VIEW.as_slice()),
            ("debugfs", debugfs::view(&image).without_lost_and_found(), &debugfs::VIEW),
        ];
        if kernel::can_judge() {
            // The judges ignore this: the kernel reads such an inode without a message.
            let mount = kernel::Mount::new(&image, "ro");
            readers.push(("the kernel", Snapshot::of(mount.path()).without_lost_and_found(), &ALL));
        }
        for (reader, found, sees) in readers {
            let differences = differences(&good.expected, &found, sees);
            let visible = aspects.is_empty() || aspects.iter().any(|aspect| sees.contains(aspect));
            assert_eq!(!differences.is_empty(), visible, "{what} seen by {reader}: {differences:?}");
            assert!(differences.iter().all(|line| line.contains("tool-")), "{what}: {differences:?}");
        }
    }
}

#[test]
fn every_reader_fails_a_changed_byte_target_and_type() {
    let good = Good::new();
    // The last byte of a file's only block, found by debugfs; checksums do not cover data.
    let image = damaged(&good, |image| {
        let block: u64 = debugfs::debugfs(image, "blocks etc/motd\n")
            .text()
            .lines()
            .last()
            .and_then(|line| line.trim().parse().ok())
            .expect("one block");
        write_at(image, block * 4096 + 5, b"!");
    });
    let aspects = [Aspect::Bytes];
    for found in [ext4::view(&image), debugfs::view(&image)] {
        let found = found.without_lost_and_found();
        assert_eq!(differences(&good.expected, &found, &aspects).len(), 1);
    }
    if kernel::can_judge() {
        let mount = kernel::Mount::new(&image, "ro");
        let found = Snapshot::of(mount.path()).without_lost_and_found();
        assert_eq!(differences(&good.expected, &found, &ALL).len(), 1);
    }
    let image = damaged(&good, |image| {
        debugfs::damage(
            image,
            "rm etc/mtab\nsymlink etc/mtab /proc/mountz\nrm bin/tool-1\nmkdir bin/tool-1\n",
        );
    });
    for (found, sees) in
        [(ext4::view(&image), ext4::VIEW.as_slice()), (debugfs::view(&image), &debugfs::VIEW)]
    {
        let lines = differences(&good.expected, &found.without_lost_and_found(), sees).join("\n");
        assert!(lines.contains("mtab: Target: expected /proc/mounts, found /proc/mountz"), "{lines}");
        assert!(lines.contains("tool-1: expected a File, found a Directory"), "{lines}");
    }
}

fn write_at(path: &Path, offset: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

#[test]
fn the_comparator_fails_each_aspect() {
    let folder = scratch();
    tree::plain(folder.path());
    let snapshot = Snapshot::of(folder.path());
    assert_eq!(differences(&snapshot, &snapshot, &ALL), Vec::<String>::new());
    let name = b"lib/library.so.1".as_slice();
    for aspect in ALL {
        let mut other = snapshot.clone();
        let entry = other.0.get_mut(name).unwrap();
        match aspect {
            Aspect::Mode => entry.mode ^= 0o4000,
            Aspect::Owner => entry.gid ^= 1 << 31,
            Aspect::Time => entry.mtime.1 += 1,
            Aspect::Links => entry.links += 1,
            Aspect::Groups => entry.inode = b"lib".to_vec(),
            Aspect::Bytes => entry.digest[31] ^= 1,
            Aspect::Target => entry.target = b"x".to_vec(),
            Aspect::Device => entry.device.1 = 1,
            Aspect::Xattrs => {
                entry.xattrs.insert(b"user.x".to_vec(), Vec::new());
            }
            Aspect::Holes => entry.data.clear(),
        }
        assert_eq!(differences(&snapshot, &other, &[aspect]).len(), 1, "{aspect:?}");
    }
    let mut fat = snapshot.clone();
    fat.0.get_mut(name).unwrap().sectors *= 2;
    assert_eq!(differences(&snapshot, &fat, &[Aspect::Holes]).len(), 1, "space taken that no data explains");
    let mut less = snapshot.clone();
    less.0.remove(name);
    assert_eq!(differences(&snapshot, &less, &[]).len(), 1);
    assert_eq!(differences(&less, &snapshot, &[]).len(), 1);
    less.0.insert(name.to_vec(), crate::support::snapshot::Entry::new(Kind::Directory));
    assert_eq!(differences(&snapshot, &less, &[]).len(), 1);
}

#[test]
fn the_judges_of_fat_pass_a_good_and_fail_a_damaged_filesystem() {
    let folder = scratch();
    let source = folder.path().join("source");
    for name in ["EFI/BOOT/BOOTX64.EFI", "loader/entries/a long name.conf"] {
        let path = source.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, tree::noise(3, 5000)).unwrap();
    }
    let image = folder.path().join("fat.img");
    must(command("mkfs.fat").args(["-C", "-F", "16"]).arg(&image).arg("16384"));
    must(command("mcopy").args(["-s", "-i"]).arg(&image).arg(source.join("EFI")).arg("::"));
    must(command("mcopy").args(["-s", "-i"]).arg(&image).arg(source.join("loader")).arg("::"));
    fat::assert_clean(&image);
    assert_eq!(fat::view(&image), fat::files(&source));

    let bytes = std::fs::read(&image).unwrap();
    let data = bytes.windows(16).position(|window| window == &tree::noise(3, 5000)[..16]).unwrap();
    write_at(&image, u64_of(data), b"!");
    assert_ne!(fat::view(&image), fat::files(&source), "a changed byte");
    // The first copy of the FAT begins after 4 reserved sectors (mkfs.fat, FAT16); its second half says nothing yet.
    write_at(&image, 4 * 512 + 4000, &[9, 9]);
    assert!(!fat::remarks(&image).is_empty(), "copies of the FAT that differ, and a lost cluster");
}

#[test]
fn the_judges_of_tables_pass_a_good_and_fail_a_damaged_disk() {
    let folder = scratch();
    let disk = folder.path().join("disk.img");
    must(command("truncate").args(["-s", "16M"]).arg(&disk));
    must(command("sgdisk").args(["-n", "1:2048:4095", "-n", "2:8192:0", "-t", "1:ef00"]).arg(&disk));
    table::assert_clean(&disk);
    assert_eq!(table::partitions(&disk), [(2048, 2048), (8192, 32768 - 8192 - 33 - 1 + 1)]);
    write_at(&disk, 3 * 4096, b"second");
    write_at(&disk, 8192 * 512, b"root");
    let part = folder.path().join("part");
    table::extract(&disk, table::partitions(&disk)[1], &part);
    assert_eq!(std::fs::read(&part).unwrap()[..4], *b"root");
    // A byte of an entry, which the checksum covers; the backup is still right, so both only warn.
    write_at(&disk, 1024 + 60, b"x");
    let remarks = table::remarks(&disk);
    assert_eq!(remarks.len(), 2, "both see it: {remarks:?}");
}

/// What a console says is heard while it says it, answered once, and shown where no end comes.
#[test]
fn a_guest_that_hangs_fails_with_what_it_said() {
    let child = |script: &str| {
        let mut shell = command("sh");
        shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    };
    let mut talking = child("echo menu; read key; echo key $key");
    let mut keyboard = talking.stdin.take();
    let said = attend(talking, Duration::from_secs(60), move |seen| {
        if seen.ends_with(b"menu\n")
            && let Some(mut keyboard) = keyboard.take()
        {
            keyboard.write_all(b"j\n").unwrap();
        }
    });
    assert_eq!((said.code, said.text().as_str()), (0, "menu\nkey j\n"));

    let silent = child("echo the last line; exec sleep 600");
    let failed = std::panic::catch_unwind(|| wait(silent, Duration::from_secs(2))).unwrap_err();
    let text = failed.downcast_ref::<String>().unwrap();
    assert!(text.contains("no end after 2s") && text.contains("the last line"), "{text}");
}
