//! ext4 filesystems by the program, before all judges: strange trees, random trees, and sizes around the
//! limits of the layout.

use std::path::{Path, PathBuf};

use diskwright::units::{GIB, KIB, MIB};
use proptest::prelude::*;

use crate::support::compare::assert_same;
use crate::support::ext4::{assert_clean, count, judge, superblock};
use crate::support::program::{diskwright, mkfs_ext4};
use crate::support::random::{self, Spec};
use crate::support::snapshot::{Snapshot, join};
use crate::support::tools::{command, is_root, must, quick_scratch, run, scratch};
use crate::support::{debugfs, ext4, kernel, left_out, tree};

/// The expected view of the image of `source`, with owners kept and nothing refused.
fn preserved(source: &Path) -> Snapshot {
    Snapshot::of(source).links_as_in_ext4().without_host_labels()
}

#[test]
fn the_strange_tree_comes_out_as_it_is() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    // Two levels of the index: see where the tree makes the directory.
    tree::strange(&source, 20_000, tree::Host::Linux);
    mkfs_ext4(&source, &image, &["--owner", "preserve", "--free", "16MiB"]);
    let expected = preserved(&source);
    judge(&image, &expected);
    kernel::judge(&image, &expected);
    let index = debugfs::debugfs(&image, "htree_dump /directories/many\n").text();
    assert!(index.contains("Indirect levels: 1"), "{}", &index[..index.len().min(2000)]);
}

#[test]
fn times_from_1901_to_2446_and_links_that_are_data() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    tree::unread(&source);
    mkfs_ext4(&source, &image, &[]);
    let expected = preserved(&source).owned_by(0, 0);
    judge(&image, &expected);
    kernel::judge(&image, &expected);
}

/// From 2310-04-04 to 2378-04-22 a time looks like the result of a bug of old kernels with times before 1970.
/// Until the year 2242, e2fsck takes it for that (check_inode_extra_negative_epoch). The kernel shows the
/// right time.
#[test]
fn e2fsck_doubts_a_few_decades_that_the_kernel_reads() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    let (first, last) = (3 * (1_i64 << 32) - (1 << 31), 3 * (1_i64 << 32) - 1);
    let mut maker = tree::Maker::new(&source);
    for (name, time, doubted) in
        [("before", first - 1, 0), ("first", first, 1), ("last", last, 1), ("after", last + 1, 0)]
    {
        maker.file(name, name).time(name, (time, 5));
        maker.finish();
        let said = must(diskwright().args(["mkfs", "ext4"]).arg(&source).arg("-o").arg(&image));
        let warned = said.error().contains("e2fsck takes times from 2310-04-04");
        assert_eq!(warned, doubted > 0, "{}", said.error());
        let remarks = ext4::remarks(&image);
        let doubts = remarks.iter().filter(|line| line.contains("are likely pre-1970")).count();
        assert_eq!(doubts, doubted, "{name}: {remarks:?}");
        let expected = preserved(&source).owned_by(0, 0);
        assert_same("debugfs", &expected, &debugfs::view(&image).without_lost_and_found(), &debugfs::VIEW);
        if kernel::can_judge() {
            kernel::reads(&image, &expected);
        }
        std::fs::remove_file(maker.path(name)).unwrap();
        maker = tree::Maker::new(&source);
    }
}

/// As with chmod(2): the entries of an ACL follow the mode, and a link has no mode to change.
#[test]
fn a_mode_changes_the_acl_and_no_link() {
    let folder = scratch();
    let (copies, globbed) = (folder.path().join("copies"), folder.path().join("source"));
    std::fs::create_dir_all(globbed.join("below")).unwrap();
    for name in ["plain", "with mask"] {
        std::fs::write(globbed.join(name), name).unwrap();
    }
    std::os::unix::fs::symlink("plain", globbed.join("link")).unwrap();
    must(command("setfacl").args(["-m", "u:65534:---,g:7:rw-"]).arg(globbed.join("with mask")));
    must(command("setfacl").args(["-m", "u:65534:r-x,d:u:65534:rwx"]).arg(globbed.join("below")));
    must(command("cp").arg("-a").arg(&globbed).arg(&copies));
    for mode in ["0666", "0700", "4711", "0047"] {
        if mode == "0047" && !left_out::as_root("files that their owner may not read") {
            continue;
        }
        let manifest = format!(
            "version = 1\n[disk]\ntable = \"none\"\n[[partition]]\nfilesystem = {{ type = \"ext4\" }}\ncontents = [ {{ source = \"source/*\", target = \"/\", mode = \"{mode}\" }} ]\n"
        );
        let (path, image) = (folder.path().join("disk.toml"), folder.path().join("out.img"));
        std::fs::write(&path, manifest).unwrap();
        must(diskwright().arg("build").arg(&path).arg("-o").arg(&image));
        assert_clean(&image);
        // The expected result is that of the kernel's chmod on the same files. With five digits, chmod(1)
        // also removes setuid from a directory.
        for name in ["plain", "with mask", "below"] {
            must(command("chmod").arg(format!("0{mode}")).arg(copies.join(name)));
        }
        let expected = preserved(&copies).owned_by(0, 0);
        let found = debugfs::view(&image).without_lost_and_found();
        for name in ["plain", "with mask", "below", "link"] {
            let (expected, found) = (&expected.0[name.as_bytes()], &found.0[name.as_bytes()]);
            assert_eq!((expected.mode, &expected.xattrs), (found.mode, &found.xattrs), "{mode} {name}");
        }
    }
}

#[test]
fn the_policies_of_owners_and_links() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    tree::strange(&source, 10, tree::Host::Linux);
    let host = preserved(&source);
    for (arguments, expected) in [
        (vec![], host.clone().owned_by(0, 0)),
        (vec!["--owner", "70000:4294967294"], host.clone().owned_by(70_000, 4_294_967_294)),
        (vec!["--hardlinks", "dissolve", "--owner", "preserve"], host.clone().dissolved()),
        (vec!["--hardlinks", "dedupe", "--owner", "preserve"], host.clone().deduplicated()),
    ] {
        mkfs_ext4(&source, &image, &arguments);
        judge(&image, &expected);
        kernel::judge(&image, &expected);
    }
}

#[test]
fn attributes_are_kept_by_pattern() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    let mut maker = tree::Maker::new(&source);
    maker.file("f", "f").xattr("f", "user.keep", "1").xattr("f", "user.drop", "2");
    if left_out::as_root("attributes of the namespace trusted") {
        maker.xattr("f", "trusted.too", "3");
    }
    maker.finish();
    for (patterns, kept) in [
        (vec!["--xattrs", "user.keep"], vec!["user.keep"]),
        (vec!["--xattrs", "nothing.*"], vec![]),
        (
            vec!["--xattrs", "trusted.*", "--xattrs", "user.d*"],
            if is_root() { vec!["trusted.too", "user.drop"] } else { vec!["user.drop"] },
        ),
    ] {
        mkfs_ext4(&source, &image, &patterns);
        let found = debugfs::view(&image);
        let names: Vec<_> =
            found.0[b"f".as_slice()].xattrs.keys().map(|name| String::from_utf8_lossy(name)).collect();
        assert_eq!(names, kept, "{patterns:?}");
        assert_clean(&image);
    }
}

/// The users' tools show the same for the mounted image as for the source.
#[test]
fn attributes_acls_and_capabilities_as_their_tools_show_them() {
    if !kernel::can_judge() {
        return;
    }
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    let mut maker = tree::Maker::new(&source);
    maker.directory("d").file("d/f", "f").mode("d/f", 0o750);
    for (tool, arguments) in [
        ("setfattr", &["-n", "user.comment", "-v", "a comment", "d/f"][..]),
        ("setfacl", &["-m", "u:1234:rw,g:70000:x,m:rwx", "d/f"]),
        ("setfacl", &["-d", "-m", "u:1234:r,o::---", "d"]),
        ("setcap", &["cap_net_bind_service,cap_sys_time=ep", "d/f"]),
    ] {
        must(command(tool).args(arguments).current_dir(&source));
    }
    maker.finish();
    mkfs_ext4(&source, &image, &[]);
    assert_clean(&image);
    let mount = kernel::Mount::new(&image, "ro");
    for (tool, arguments) in [
        ("getfattr", &["-d", "-m", "-", "-e", "hex", "d/f", "d"][..]),
        ("getfacl", &["-n", "d/f", "d"]),
        ("getcap", &["d/f"]),
    ] {
        let shown = |top: &Path| must(command(tool).args(arguments).current_dir(top)).text();
        assert_eq!(shown(&source), shown(mount.path()), "{tool}");
        assert!(!shown(&source).is_empty(), "{tool}");
    }
}

#[test]
fn random_trees_come_out_as_they_are() {
    random::check(24, (random::tree(), any::<bool>()), |(spec, journal)| random_tree(&spec, journal));
}

fn random_tree(spec: &Spec, journal: bool) {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    spec.make(&source);
    let journal = format!("--journal={journal}");
    mkfs_ext4(&source, &image, &["--owner", "preserve", "--free", "0", &journal]);
    let expected = preserved(&source);
    judge(&image, &expected);
    if kernel::can_judge() {
        kernel::reads(&image, &expected);
    }
}

/// An empty source and the path of its image.
fn empty(folder: &Path) -> (PathBuf, PathBuf) {
    let source = folder.join("empty");
    tree::Maker::new(&source).finish();
    (source, folder.join("out.img"))
}

/// Blocks of 4 KiB around which the layout changes: a block more and a block less.
const BORDERS: [(&str, u64); 14] = [
    // Groups of 128 MiB; the second and those of 3, 5, 7, 9, 25, 27, 49 have backups.
    ("one group", 128 * MIB),
    ("two groups", 256 * MIB),
    ("three groups, the last without a backup", 384 * MIB),
    ("four groups, the last with one", 512 * MIB),
    ("into group 9", 9 * 128 * MIB),
    ("into group 25", 25 * 128 * MIB),
    // 16 groups to a flex group.
    ("a flex group", 16 * 128 * MIB),
    ("two flex groups", 32 * 128 * MIB),
    // Steps of the journal's size (e2fsprogs mkjournal.c): 8 MiB, 128 MB above, 1, 2, 16, 32 GiB.
    ("no journal below", 8 * MIB),
    ("journal of 16 to 32 MiB", GIB),
    ("journal of 32 to 64 MiB", 2 * GIB),
    // 64 groups to a block of descriptors.
    ("a block of descriptors", 8 * GIB),
    ("two blocks of descriptors", 16 * GIB),
    ("four blocks of descriptors", 32 * GIB),
];

#[test]
fn fixed_sizes_around_the_borders_of_the_layout() {
    let folder = scratch();
    let (source, image) = empty(folder.path());
    for (what, border) in BORDERS {
        // 8 blocks, because a last group without space for its own tables is left out.
        for size in [border - 4 * KIB, border, border + 4 * KIB, border + 8 * 4 * KIB] {
            mkfs_ext4(&source, &image, &["--size", &size.to_string()]);
            let remarks = ext4::remarks(&image);
            assert!(remarks.is_empty(), "{what}, {size} bytes: {remarks:?}");
            assert_eq!(std::fs::metadata(&image).unwrap().len(), size, "{what}");
            let blocks = count(&image, "Block count");
            assert!(
                blocks * 4096 <= size && size - blocks * 4096 <= MIB,
                "{what}, {size} bytes: {blocks} blocks"
            );
        }
    }
}

#[test]
fn the_kernel_writes_to_filesystems_of_border_sizes() {
    if !kernel::can_judge() {
        return;
    }
    let folder = scratch();
    let (source, image) = empty(folder.path());
    for size in [8 * MIB, 128 * MIB + 32 * KIB, 25 * 128 * MIB + 4 * MIB, 8 * GIB + MIB] {
        mkfs_ext4(&source, &image, &["--size", &size.to_string()]);
        kernel::writes(&image);
    }
}

#[test]
fn automatic_size_leaves_exactly_the_room_asked_for() {
    let folder = scratch();
    let source = folder.path().join("source");
    tree::plain(&source);
    let image = folder.path().join("out.img");
    for free in [0, 1, 4096, 4097, MIB, 16 * MIB, 100 * MIB, 129 * MIB, GIB, 5 * GIB] {
        mkfs_ext4(&source, &image, &["--free", &free.to_string(), "--grow-to", "8GiB"]);
        assert_clean(&image);
        // The kernel keeps 2 % of the blocks, at most 4096, to itself (ext4_calculate_resv_clusters).
        let blocks = count(&image, "Free blocks") - (count(&image, "Block count") / 50).min(4096);
        assert_eq!(blocks, free.div_ceil(4096), "{free} bytes asked for");
        assert!(count(&image, "Free inodes") > 0);
        if kernel::can_judge() {
            let mount = kernel::Mount::new(&image, "ro");
            let stat = rustix::fs::statvfs(mount.path()).unwrap();
            assert_eq!(stat.f_bavail, free.div_ceil(4096), "{free} asked for, and this is what df shows");
        }
    }
}

#[test]
fn a_size_that_does_not_suffice_says_by_how_much() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    tree::Maker::new(&source)
        .file("the-largest", tree::noise(1, 9 * MIB))
        .file("second", tree::noise(2, MIB))
        .finish();
    let sized = |size: u64| {
        let mut command = diskwright();
        command.args(["mkfs", "ext4", "--journal=false", "--size", &size.to_string()]);
        run(command.arg(&source).arg("-o").arg(&image))
    };
    let said = sized(10 * MIB);
    assert_eq!(said.code, 1, "{}", said.error());
    for word in ["the-largest (9 MiB)", "second (1 MiB)"] {
        assert!(said.error().contains(word), "no `{word}` in\n{}", said.error());
    }
    assert!(!image.exists());
    // What a person writes is the size behind `at least`, in whole MiB; the exact one is in parentheses.
    let (_, least) = said.error().split_once("at least ").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let (written, exact) = least.split_once(" (").unwrap();
    assert!(written.ends_with("MiB"), "{written}");
    let least: u64 = exact.split(' ').next().unwrap().parse().unwrap();
    let said = sized(least - 4096);
    assert_eq!(said.code, 1, "a block less than the least size it named is too small, too");
    let said = sized(least);
    assert_eq!(said.code, 0, "{}", said.error());
    assert_clean(&image);
}

#[test]
fn a_file_of_many_gigabytes_is_mostly_hole() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    // Data every 128 MiB up to 60 GiB: 480 extents, past the 340 of one leaf and the 42.5 GiB they would cover; then
    // 1,400 more blocks, past the 4 leaves that the inode can index: a tree of two levels.
    let size = 60 * GIB;
    let mut ranges: Vec<_> = (0..480_u64).map(|number| (number * 128 * MIB, 4096)).collect();
    ranges.extend((0..1400_u64).map(|number| (64 * MIB + number * 8192, 4096)));
    ranges.sort_unstable();
    tree::Maker::new(&source).sparse("large", size + 1, &ranges).finish();
    mkfs_ext4(&source, &image, &["--owner", "preserve"]);
    assert_clean(&image);
    let extents = debugfs::debugfs(&image, "extents /large\n").text();
    assert!(extents.contains(" 2/ 2 "), "two levels: {}", &extents[..extents.len().min(500)]);
    if kernel::can_judge() {
        kernel::reads(&image, &preserved(&source));
    }
}

/// The strange tree's link counts end where these begin: the 65,000 that EXT4_LINK_MAX allows.
#[test]
fn link_counts_around_their_limit() {
    let (folder, quick) = (scratch(), quick_scratch());
    let (source, image) = (quick.path().join("source"), folder.path().join("out.img"));
    tree::Maker::new(&source).directory("many").finish();
    let mut made = 0;
    // 64,998 subdirectories give the directory 65,000 links; one more, and the count turns into 1.
    for (subdirectories, links) in [(64_998, 65_000), (64_999, 1), (65_001, 1)] {
        for number in made..subdirectories {
            std::fs::create_dir(source.join(format!("many/{number}"))).unwrap();
        }
        made = subdirectories;
        mkfs_ext4(&source, &image, &[]);
        assert_clean(&image);
        let stat = debugfs::debugfs(&image, "stat /many\n").text();
        assert!(stat.contains(&format!("Links: {links} ")), "{subdirectories}: {stat}");
    }
}

#[test]
fn more_names_of_one_file_than_an_inode_counts() {
    let (folder, quick) = (scratch(), quick_scratch());
    let (source, image) = (quick.path().join("source"), folder.path().join("out.img"));
    let mut maker = tree::Maker::new(&source);
    maker.directory("names").file("names/0", "one inode");
    for number in 1..65_000 {
        maker.link("names/0", format!("names/{number}"));
    }
    maker.finish();
    mkfs_ext4(&source, &image, &[]);
    assert_clean(&image);
    let stat = debugfs::debugfs(&image, "stat /names/64999\n").text();
    assert!(stat.contains("Links: 65000 "), "{stat}");
    // The host counts no further either; equal files do not share its limit.
    let mut maker = tree::Maker::new(&source);
    maker.file("another", "one inode").finish();
    mkfs_ext4(&source, &image, &["--hardlinks", "dedupe"]);
    assert_clean(&image);
    let names = debugfs::debugfs(&image, "stat /names/64999\nstat /names/1\nstat /another\n").text();
    let links: u64 = names
        .split("Links: ")
        .skip(1)
        .filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok())
        .max()
        .unwrap();
    assert!(links <= 65_000, "{names}");
}

#[test]
fn a_path_longer_than_the_kernel_takes_at_once() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    tree::Maker::new(&source).finish();
    let bottom = deep(&source);
    mkfs_ext4(&source, &image, &[]);
    assert_clean(&image);
    let names = debugfs::names(&image);
    assert_eq!(names.len(), 2 + 20 + 1, "the root, lost+found, the directories, the file");
    let inode = names[&bottom];
    let said = debugfs::debugfs(&image, &format!("cat <{inode}>\n")).text();
    assert!(said.ends_with("\ndeep"), "{said}");
}

/// 20 directories of 250 bytes, one in the other, and a file at the end: past PATH_MAX, so made step by step.
fn deep(top: &Path) -> Vec<u8> {
    use rustix::fs::{Mode, OFlags, mkdirat, openat};
    let name = "d".repeat(250);
    let mut at = rustix::fs::open(top, OFlags::PATH, Mode::empty()).unwrap();
    let mut path = Vec::new();
    for _ in 0..20 {
        mkdirat(&at, name.as_str(), Mode::from_raw_mode(0o755)).unwrap();
        at = openat(&at, name.as_str(), OFlags::PATH, Mode::empty()).unwrap();
        path = join(&path, name.as_bytes());
    }
    let file = openat(&at, "leaf", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o644)).unwrap();
    assert_eq!(rustix::io::write(file, b"deep").unwrap(), 4);
    join(&path, b"leaf")
}

#[test]
fn what_was_asked_for_stands_in_the_superblock() {
    let folder = scratch();
    let (source, image) = empty(folder.path());
    let uuid = "0867da16-f251-457d-a9e8-c31f9a3c220b";
    mkfs_ext4(
        &source,
        &image,
        &[
            "--size",
            "200MiB",
            "--label",
            "sixteen-bytes-xy",
            "--uuid",
            uuid,
            "--inodes",
            "5000",
            "--reserved",
            "5%",
        ],
    );
    assert_clean(&image);
    assert_eq!(superblock(&image, "Filesystem volume name"), "sixteen-bytes-xy");
    assert_eq!(superblock(&image, "Filesystem UUID"), uuid);
    assert!((5000..5200).contains(&count(&image, "Inode count")), "{}", count(&image, "Inode count"));
    assert_eq!(count(&image, "Reserved block count"), 51_200 / 20);
    assert_eq!(superblock(&image, "Filesystem state"), "clean");
    mkfs_ext4(&source, &image, &["--size", "200MiB", "--journal=false"]);
    assert_clean(&image);
    assert!(!superblock(&image, "Filesystem features").contains("has_journal"));
}

/// Features, the shape of a RAID and the number of inodes, before e2fsck, dumpe2fs and the kernel.
#[test]
fn further_choices_stand_in_the_superblock() {
    let folder = scratch();
    let (source, image) = empty(folder.path());
    let choices = ["--stride", "64KiB", "--stripe-width", "192KiB", "--bytes-per-inode", "4KiB"];
    let flags = ["--features", "verity,stable_inodes,project,encrypt"];
    mkfs_ext4(&source, &image, &[&["--size", "300MiB"], &choices[..], &flags[..]].concat());
    assert_clean(&image);
    let found = superblock(&image, "Filesystem features");
    for name in ["verity", "stable_inodes", "project", "encrypt", "metadata_csum", "64bit"] {
        assert!(found.split(' ').any(|known| known == name), "{name}: {found}");
    }
    assert_eq!((count(&image, "RAID stride"), count(&image, "RAID stripe width")), (16, 48));
    assert_eq!(count(&image, "Inode count"), 300 * 1024 / 4);
    // A kernel without quotas mounts no `project` to write to it.
    mkfs_ext4(&source, &image, &[&["--size", "300MiB", "--features", "verity"], &choices[..]].concat());
    kernel::judge(&image, &Snapshot::of(&source));
    // Not every kernel has the tables of Unicode, and GRUB reads no large_dir.
    mkfs_ext4(&source, &image, &["--size", "100MiB", "--features", "casefold,large_dir"]);
    assert_clean(&image);
    assert_eq!(superblock(&image, "Character encoding"), "utf8-12.1");
    assert!(superblock(&image, "Filesystem features").contains("large_dir"));
    for (flag, value, word) in [
        ("--features", "quota", "tune2fs makes"),
        ("--features", "^dir_index", "cannot be left out"),
        ("--stride", "5000", "a multiple of 4KiB"),
        ("--stride", "256MiB", "fewer than 65536 blocks"),
        ("--bytes-per-inode", "100", "1KiB to 64MiB"),
    ] {
        let said =
            run(diskwright().args(["mkfs", "ext4"]).arg(&source).arg("-o").arg(&image).args([flag, value]));
        assert!(said.code != 0 && said.error().contains(word), "{flag} {value}: {}", said.error());
    }
}

#[test]
fn times_outside_of_ext4_are_refused_or_clamped() {
    // A host that holds such times is a tmpfs, which only root mounts.
    kernel::need();
    let folder = scratch();
    let host = kernel::Mount::tmpfs("16m");
    let (source, image) = (host.path().join("source"), folder.path().join("out.img"));
    let mut maker = tree::Maker::new(&source);
    maker
        .file("late", "")
        .time("late", (15_032_385_536, 0))
        .file("early", "")
        .time("early", (-2_147_483_649, 0));
    maker.finish();
    let said = run(diskwright().args(["mkfs", "ext4"]).arg(&source).arg("-o").arg(&image));
    assert_eq!(said.code, 1, "{}", said.error());
    assert!(said.error().contains("early") && !image.exists(), "{}", said.error());
    mkfs_ext4(&source, &image, &["--times", "clamp"]);
    let found = debugfs::view(&image);
    assert_eq!(found.0[b"late".as_slice()].mtime.0, 15_032_385_535);
    assert_eq!(found.0[b"early".as_slice()].mtime, (-2_147_483_648, 0));
}

/// Equal files are found without reading their holes, and stored zeros are the same content as holes.
#[test]
fn equal_files_are_found_through_their_holes() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    std::fs::create_dir(&source).unwrap();
    for (name, byte) in [("a", 1), ("b", 1), ("c", 2)] {
        use std::os::unix::fs::FileExt;
        // A thousand times what could be read in the time of a test.
        let file = std::fs::File::create_new(source.join(name)).unwrap();
        file.set_len(12 << 40).unwrap();
        file.write_all_at(&[byte], 7 << 40).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    std::fs::write(source.join("stored"), [0; 50_000]).unwrap();
    std::fs::File::create_new(source.join("sparse")).unwrap().set_len(50_000).unwrap();
    for name in ["stored", "sparse"] {
        let file = std::fs::File::options().write(true).open(source.join(name)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    mkfs_ext4(&source, &image, &["--hardlinks", "dedupe"]);
    assert_clean(&image);
    let links = |name: &str| {
        let text = debugfs::debugfs(&image, &format!("stat /{name}\n")).text();
        text.split("Links: ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap().to_owned()
    };
    for (name, count) in [("a", "2"), ("b", "2"), ("c", "1"), ("stored", "2"), ("sparse", "2")] {
        assert_eq!(links(name), count, "{name}");
    }
}
