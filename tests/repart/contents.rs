//! What partitions hold: copied files, what is left out of them, directories, links, attributes, least sizes.

use crate::run::{Folder, SEED, rows};
use crate::support::program::diskwright;
use crate::support::tools::{command, run};
use crate::support::{reads, tree};

/// What debugfs says of a path in the split file of a partition.
fn stat(folder: &Folder, part: &str, path: &str) -> String {
    let request = format!("stat {path}");
    let image = format!("image.{part}.raw");
    let said = run(command("debugfs").args(["-R", &request, &image]).current_dir(folder.0.path()));
    said.text() + &said.error()
}

fn exists(folder: &Folder, part: &str, path: &str) -> bool {
    stat(folder, part, path).contains("Type: ")
}

#[test]
fn trees_are_laid_over_each_other_and_parts_are_left_out() {
    let folder = Folder::new(&[
        ("one/etc/a", "one"),
        ("one/etc/b", "one"),
        ("one/secret/x", "no"),
        ("one/cache/deep/x", "no"),
        ("one/keep/drop", "no"),
        ("two/etc/b", "two!"),
        ("two/c", "c"),
        ("file", "alone"),
        (
            "repart.d/1.conf",
            "[Partition]\nType=linux-generic\nFormat=ext4\nCopyFiles=/one:/\nCopyFiles=/two:/\nCopyFiles=/file:/deep/er/name\n\
             ExcludeFiles=/one/secret /one/cache/\nExcludeFilesTarget=/keep/drop\nMakeDirectories=/etc /made/deep\n\
             MakeSymlinks=/link:../target\nSplitName=fs\n",
        ),
    ]);
    folder.create(&["--split=yes", "--copy-source=."]);
    for (path, there) in [
        ("/etc/a", true),
        ("/c", true),
        ("/secret", false),
        ("/cache", true),
        ("/cache/deep", false),
        ("/keep", true),
        ("/keep/drop", false),
        ("/made/deep", true),
        ("/deep/er/name", true),
    ] {
        assert_eq!(exists(&folder, "fs", path), there, "{path}");
    }
    // The later tree's file took the place of the earlier one's.
    assert!(stat(&folder, "fs", "/etc/b").contains("Size: 4"), "{}", stat(&folder, "fs", "/etc/b"));
    assert!(stat(&folder, "fs", "/link").contains("../target"));
}

/// Each as systemd-repart 262.1: the files that are in a filesystem of a tree whose links lead to another folder of it.
#[test]
fn what_is_left_out_may_be_behind_links() {
    let folder = Folder::new(&[("t/real/a", "a"), ("t/real/sub/b", "b"), ("t/other/c", "c"), ("tmp/f", "f")]);
    for (to, name) in
        [("real", "t/link"), ("/t/real", "t/abs"), ("../real/sub", "t/other/up"), ("nowhere", "t/gone")]
    {
        std::os::unix::fs::symlink(to, folder.path(name)).unwrap();
    }
    for (key, copy, out, there) in [
        ("ExcludeFiles", "/t:/", "/t/link/a", "link real/sub/b"),
        ("ExcludeFiles", "/t:/", "/t/link/", "link real"),
        ("ExcludeFiles", "/t:/", "/t/link", "link"),
        ("ExcludeFiles", "/t:/", "/t/abs/sub", "link real/a"),
        ("ExcludeFiles", "/t:/", "/t/other/up/", "link real/a real/sub"),
        ("ExcludeFiles", "/t:/", "/t/gone", "link real/a real/sub/b"),
        ("ExcludeFiles", "/t/link/sub:/s", "/t/real/sub", "s/b"),
        ("ExcludeFiles", "/t/link/sub:/s", "/t/real/sub/", "s"),
        ("ExcludeFiles", "/t/link/sub:/s", "/t/real", "s/b"),
        ("ExcludeFiles", "/t/link/sub:/s", "/t/link/", ""),
        ("ExcludeFiles", "/t/real/sub:/s", "/t/real/sub/", ""),
        ("ExcludeFiles", "/t/link/a:/s", "/t/real/", ""),
        ("ExcludeFiles", "/t/link/a:/s", "/t/real/sub", "s"),
        // What is always left out of a tree is no reason to leave out a file of it.
        ("ExcludeFiles", "/tmp/f:/s", "/none", "s"),
        ("ExcludeFiles", "/tmp/f:/s", "/tmp/", ""),
        ("ExcludeFilesTarget", "/t:/", "/link/a", "link real/sub/b"),
        ("ExcludeFilesTarget", "/t:/", "/other/up/", "link real/a real/sub"),
        ("ExcludeFilesTarget", "/t/real:/s", "/s/", ""),
        ("ExcludeFilesTarget", "/t/real:/s", "/s/sub", "s/a"),
        ("ExcludeFilesTarget", "/t/real:/s/x", "/s", ""),
    ] {
        let text =
            format!("[Partition]\nType=srv\nFormat=ext4\nCopyFiles={copy}\n{key}={out}\nSplitName=fs\n");
        folder.write("repart.d/1.conf", &text);
        folder.create(&["--split=yes", "--copy-source=."]);
        let paths = ["link", "real", "real/a", "real/sub", "real/sub/b", "s", "s/a", "s/b", "s/sub", "s/x"];
        let found: Vec<&str> =
            paths.into_iter().filter(|path| exists(&folder, "fs", &format!("/{path}"))).collect();
        let wanted = |path: &&str| {
            there.split(' ').any(|there| there == *path || there.starts_with(&format!("{path}/")))
        };
        let wanted: Vec<&str> = paths.into_iter().filter(wanted).collect();
        assert_eq!(found, wanted, "CopyFiles={copy} {key}={out}");
    }
}

#[test]
fn mount_points_of_other_partitions_stay_empty_on_the_root() {
    let folder = Folder::new(&[
        ("tree/usr/bin/x", "x"),
        ("tree/boot/kernel", "k"),
        ("tree/run/x", "x"),
        ("tree/var/tmp/x", "x"),
        ("tree/var/lib/x", "x"),
        ("tree/home/me", "x"),
        ("repart.d/1.conf", "[Partition]\nType=root\nFormat=ext4\nCopyFiles=/tree:/\nSplitName=root\n"),
        ("repart.d/2.conf", "[Partition]\nType=usr\nFormat=ext4\nCopyFiles=/tree/usr:/\nSplitName=usr\n"),
        ("repart.d/3.conf", "[Partition]\nType=srv\nFormat=ext4\nCopyFiles=/tree:/\nSplitName=srv\n"),
        ("repart.d/4.conf", "[Partition]\nType=xbootldr\nFormat=ext4\nSplitName=-\n"),
    ]);
    folder.create(&["--split=yes", "--copy-source=."]);
    for (part, path, there) in [
        ("root", "/usr", true),
        ("root", "/usr/bin", false),
        ("root", "/boot/kernel", false),
        ("root", "/run/x", false),
        ("root", "/var/tmp/x", false),
        ("root", "/var/lib/x", true),
        ("root", "/home/me", true),
        ("usr", "/bin/x", true),
        // Only a root is mounted over.
        ("srv", "/run/x", true),
        ("srv", "/usr/bin/x", true),
    ] {
        assert_eq!(exists(&folder, part, path), there, "{part} {path}");
    }
    folder.write("repart.d/1.conf", "[Partition]\nType=root\nFormat=ext4\nCopyFiles=/tree:/\nCopyFiles=/tree/boot:/boot\nSplitName=root\n");
    folder.create(&["--split=yes", "--copy-source=."]);
    assert!(exists(&folder, "root", "/boot/kernel"));
}

#[test]
fn a_source_may_be_missing_only_where_nobody_says_where_it_goes() {
    let folder = Folder::new(&[("repart.d/1.conf", "[Partition]\nType=linux-generic\nCopyFiles=/gone\n")]);
    let said = folder.create(&["--copy-source=."]);
    assert!(said.error().contains("does not exist, it is not copied"), "{}", said.error());
    folder.write("repart.d/1.conf", "[Partition]\nType=linux-generic\nCopyFiles=/gone:/there\n");
    std::fs::remove_file(folder.path("image.raw")).unwrap();
    let said = folder.repart(&[
        "--empty=create",
        "--size=auto",
        "--definitions=repart.d",
        crate::run::SEED,
        "--copy-source=.",
        "image.raw",
    ]);
    assert_eq!(said.code, 1);
    assert!(said.error().contains("repart.d/1.conf:3: CopyFiles=/gone:/there"), "{}", said.error());
    // systemd-repart goes on without it.
    let said = folder.create(&["--copy-source=.", "--faithful"]);
    assert!(said.error().contains("does not exist, it is not copied"), "{}", said.error());
}

/// The attributes that systemd-validatefs reads, as systemd-repart 262.1 writes them: each value ends with NUL.
#[test]
fn roots_carry_what_systemd_validatefs_reads() {
    let folder = Folder::new(&[(
        "repart.d/1.conf",
        "[Partition]\nType=root\nFormat=ext4\nLabel=boo\nSplitName=fs\nMakeDirectories=/x\n",
    )]);
    let read = |name: &str| {
        let request = format!("ea_get -V / user.validatefs.{name}");
        let said =
            run(command("debugfs").args(["-R", &request, "image.fs.raw"]).current_dir(folder.0.path()));
        // debugfs ends what it shows with a newline of its own.
        String::from_utf8_lossy(&said.out).trim_end_matches('\n').to_owned()
    };
    folder.create(&["--split=yes", "--architecture=x86-64"]);
    assert_eq!(read("gpt_label"), "boo\0");
    assert_eq!(read("gpt_type_uuid"), "4f68bce3-e8cd-4db1-96e7-fbcaf984b709\0");
    assert_eq!(read("mount_point"), "/\0");
    folder.create(&["--split=yes", "--level=257"]);
    assert_eq!(read("gpt_label"), "");
}

#[test]
fn what_is_minimized_is_exactly_as_large_as_it_has_to_be() {
    let text = "x".repeat(3_000_000);
    let folder = Folder::new(&[
        ("tree/file", &text),
        (
            "repart.d/1.conf",
            "[Partition]\nType=linux-generic\nFormat=ext4\nSizeMinBytes=4K\nMinimize=guess\nCopyFiles=/tree:/\nSplitName=fs\n",
        ),
        (
            "repart.d/2.conf",
            "[Partition]\nType=linux-generic\nFormat=vfat\nSizeMinBytes=4K\nMinimize=guess\nCopyFiles=/tree:/\nSplitName=-\n",
        ),
    ]);
    let said = folder.create(&["--split=yes", "--copy-source=.", "--json=short"]);
    let rows = rows(&said);
    let size = |number: usize| rows[number]["raw_size"].as_u64().unwrap();
    assert!(size(0) > 3_000_000 && size(0) < 8 << 20, "{}", size(0));
    assert!(size(1) > 3_000_000 && size(1) < 4 << 20, "{}", size(1));
    let said = run(command("e2fsck").args(["-fn", "image.fs.raw"]).current_dir(folder.0.path()));
    assert_eq!(said.code, 0, "{}", said.text());
}

/// A FAT as mkfs.fat makes it in a file of its own: nothing of the disk is in it.
#[test]
fn fats_are_those_of_files_of_their_own() {
    for (flags, sector, size) in
        [(&["--sector-size=512"][..], 512_u64, 100_u64 << 20), (&[], 4096, 260 << 20)]
    {
        let folder =
            Folder::new(&[("repart.d/1.conf", "[Partition]\nType=esp\nFormat=vfat\nSplitName=esp\n")]);
        let usual = [
            "--empty=create",
            "--size=auto",
            "--definitions=repart.d",
            "--split=yes",
            crate::run::SEED,
            "image.raw",
        ];
        let said = folder.repart(&[usual.as_slice(), flags].concat());
        assert_eq!(said.code, 0, "{}", said.error());
        let theirs = folder.path("theirs");
        std::fs::File::create(&theirs).unwrap().set_len(size).unwrap();
        let sector = sector.to_string();
        let made = run(command("mkfs.fat")
            .args(["-i", "793a442b", "-n", "ESP", "-F", "32", "-S", &sector])
            .arg(&theirs));
        assert_eq!(made.code, 0, "{}", made.error());
        let read = |path| std::fs::read(path).unwrap();
        let (ours, theirs) = (read(folder.path("image.esp.raw")), read(theirs));
        assert_eq!(ours.len(), theirs.len());
        // The boot sector but for the code that says that the disk does not boot, and both tables.
        assert_eq!(ours[3..90], theirs[3..90]);
        let first = 32 * sector.parse::<usize>().unwrap();
        assert_eq!(ours[first..first + 8], theirs[first..first + 8]);
    }
}

#[test]
fn the_same_twice_and_whatever_the_number_of_jobs() {
    let folder = Folder::new(&[
        ("tree/etc/a", "a"),
        ("tree/b", "b"),
        ("repart.d/1.conf", "[Partition]\nType=esp\nFormat=vfat\nCopyFiles=/tree:/\n"),
        ("repart.d/2.conf", "[Partition]\nType=root\nFormat=ext4\nMinimize=best\nCopyFiles=/tree:/\n"),
    ]);
    let mut digests = Vec::new();
    for jobs in ["1", "4", "1"] {
        folder.create(&["--copy-source=.", "--jobs", jobs]);
        digests.push(crate::support::tools::digest(&folder.path("image.raw")));
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

/// Filesystems that are made of files once and for all, as small as they are.
#[test]
fn read_only_filesystems_are_made_too() {
    for (keys, judge) in [
        ("Format=erofs\n", ["fsck.erofs"].as_slice()),
        ("Format=erofs\nCompression=lz4hc\nCompressionLevel=9\n", &["fsck.erofs"]),
        ("Format=squashfs\n", &["unsquashfs", "-lls"]),
        ("Format=squashfs\nCompression=zstd\n", &["unsquashfs", "-lls"]),
    ] {
        let folder = Folder::new(&[
            ("tree/etc/a", "a"),
            ("tree/big", &"text ".repeat(40_000)),
            (
                "repart.d/1.conf",
                &format!(
                    "[Partition]\nType=root\nLabel=ro\nMinimize=best\nCopyFiles=/tree:/\nSplitName=fs\n{keys}"
                ),
            ),
        ]);
        let usual = [
            "--empty=create",
            "--size=auto",
            "--definitions=repart.d",
            "--split=yes",
            crate::run::SEED,
            "--copy-source=.",
        ];
        let said = folder.repart(&[usual.as_slice(), &["image.raw"]].concat());
        assert_eq!(said.code, 0, "{keys}: {}", said.error());
        let (name, flags) = judge.split_first().unwrap();
        let said = run(command(name).args(flags).arg("image.fs.raw").current_dir(folder.0.path()));
        assert_eq!(said.code, 0, "{keys}: {} {}", said.text(), said.error());
    }
}

/// Attributes that are kept by default, and others where that is said.
#[test]
fn extended_attributes_are_kept_by_patterns() {
    let definition =
        "[Partition]\nType=linux-generic\nFormat=ext4\nCopyFiles=/tree:/\nSplitName=fs\nAddValidateFS=no\n";
    let folder = Folder::new(&[("tree/a", "a"), ("repart.d/1.conf", definition)]);
    for name in ["user.kept", "user.other"] {
        rustix::fs::setxattr(folder.path("tree/a"), name, b"1", rustix::fs::XattrFlags::empty()).unwrap();
    }
    let usual = ["--split=yes", "--copy-source=."];
    for (own, kept) in
        [([].as_slice(), "user.kept user.other"), (&["--xattrs=user.k*"], "user.kept"), (&["--xattrs="], "")]
    {
        folder.create(&[usual.as_slice(), own].concat());
        let request = "ea_list /a";
        let said = run(command("debugfs").args(["-R", request, "image.fs.raw"]).current_dir(folder.0.path()));
        let text = said.text();
        let names: Vec<&str> = text.split_whitespace().filter(|word| word.starts_with("user.")).collect();
        assert_eq!(names.join(" "), kept, "{text}");
    }
}

/// The whole disk and its parts come from one read.
#[test]
fn sources_are_read_once_for_the_disk_and_its_parts() {
    let folder = Folder::new(&[
        (
            "repart.d/1.conf",
            "[Partition]\nType=esp\nFormat=vfat\nCopyFiles=/tree/boot:/\nSizeMinBytes=64M\nSplitName=esp\n",
        ),
        (
            "repart.d/2.conf",
            "[Partition]\nType=linux-generic\nFormat=ext4\nCopyFiles=/tree:/\nSplitName=fs\n",
        ),
        ("tree/boot/small", "s"),
    ]);
    folder.write_bytes("tree/boot/kernel", &tree::noise(1, 1_000_000));
    folder.write_bytes("tree/large", &tree::noise(2, 3_000_000));
    // A scan reads a small file twice if it was written a moment ago.
    let small = std::fs::File::options().write(true).open(folder.path("tree/boot/small")).unwrap();
    small.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)).unwrap();
    let read = |split: &str| {
        let _ = std::fs::remove_file(folder.path("image.raw"));
        let mut repart = diskwright();
        repart.current_dir(folder.0.path()).args([
            "repart",
            "--empty=create",
            "--size=auto",
            "--definitions=repart.d",
        ]);
        repart.args(["--copy-source=.", split, SEED, "image.raw"]);
        reads::below(&folder.path("tree"), &repart)
    };
    let once = read("--split=no");
    // The kernel is in both partitions.
    assert!(once > 5_000_000, "{once}");
    assert_eq!(read("--split=yes"), once);
    let whole = std::fs::read(folder.path("image.raw")).unwrap();
    let table = run(command("sfdisk").args(["--json", "image.raw"]).current_dir(folder.0.path()));
    let table: serde_json::Value = serde_json::from_slice(&table.out).unwrap();
    for (number, name) in [(0, "esp"), (1, "fs")] {
        let partition = &table["partitiontable"]["partitions"][number];
        let [start, size] =
            ["start", "size"].map(|key| usize::try_from(partition[key].as_u64().unwrap()).unwrap() * 512);
        let part = folder.path(&format!("image.{name}.raw"));
        assert!(std::fs::read(&part).unwrap() == whole[start..start + size], "{name}");
        // Its holes are holes.
        let taken = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&part).unwrap()) * 512;
        assert!(usize::try_from(taken).unwrap() < size / 2, "{name}: {taken} of {size}");
    }
}
