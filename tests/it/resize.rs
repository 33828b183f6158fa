//! `resize`: the partition table, the last partition and its ext filesystem grow with the disk, before foreign judges.

use std::path::{Path, PathBuf};

use crate::support::ext4::{assert_clean, count, fields, superblock};
use crate::support::program::diskwright;
use crate::support::snapshot::Snapshot;
use crate::support::tools::{Said, command, digest, must, run, scratch};
use crate::support::{debugfs, kernel, table, tree};

/// `resize` of an image, which must succeed.
fn resize(image: &Path, arguments: &[&str]) -> Said {
    must(diskwright().arg("resize").arg(image).args(arguments))
}

/// A filesystem by mke2fs with the contents of `source`.
fn mke2fs(source: &Path, image: &Path, options: &str, size: &str) {
    let options = options.split(' ');
    must(command("mke2fs").args(["-q", "-F", "-d"]).arg(source).args(options).arg(image).arg(size));
}

/// What is equal after growth by resize2fs, whatever the places of metadata.
const EQUAL: [&str; 10] = [
    "Block count",
    "Reserved block count",
    "Inode count",
    "Free inodes",
    "Free blocks",
    "Reserved GDT blocks",
    "Blocks per group",
    "Inodes per group",
    "Filesystem features",
    "Filesystem state",
];

/// Grows a filesystem and its twin, the other by resize2fs, and compares them.
fn twins(source: &Path, options: &str, from: &str, to: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = scratch();
    let (ours, theirs) = (folder.path().join("ours.img"), folder.path().join("theirs.img"));
    let name = format!("mke2fs {options}, {from} to {to}");
    mke2fs(source, &ours, options, from);
    must(command("cp").arg("--sparse=always").args([&ours, &theirs]));
    let expected = debugfs::view(&ours);
    let size = format!("{to}iB");
    resize(&ours, &[&size, "--grow", "filesystem"]);
    must(command("truncate").args(["-s", to]).arg(&theirs));
    must(command("resize2fs").arg("-f").arg(&theirs));
    assert_clean(&ours);
    assert_eq!(fields(&ours, &EQUAL), fields(&theirs, &EQUAL), "{name}");
    let said = must(diskwright().arg("check").arg(&ours));
    assert!(said.error().is_empty(), "{name}: {}", said.error());
    crate::support::compare::assert_same(&name, &expected, &debugfs::view(&ours), &debugfs::VIEW);
    (folder, ours)
}

fn sample() -> (tempfile::TempDir, PathBuf) {
    let folder = scratch();
    let source = folder.path().join("source");
    tree::portable(&source);
    // Linux has no symbolic link that is longer than a block, which here may have 1 KiB.
    must(command("find").arg(&source).args(["-type", "l", "-size", "+1000c", "-delete"]));
    (folder, source)
}

#[test]
fn ext_filesystems_grow_as_by_resize2fs() {
    let (_kept, source) = sample();
    for (options, from, to) in [
        // The same last group, and one more.
        ("-t ext4 -b 4096", "130M", "200M"),
        ("-t ext4 -b 4096", "64M", "1000M"),
        // A last group that is too short, and one that is just long enough.
        ("-t ext4 -b 4096", "64M", "257M"),
        ("-t ext4 -b 4096", "64M", "300M"),
        ("-t ext4 -b 4096", "1000M", "20G"),
        ("-t ext4 -b 4096 -G 4 -i 4096", "100M", "3G"),
        ("-t ext4 -b 1024", "20M", "600M"),
        ("-t ext4 -b 2048 -O ^flex_bg", "100M", "2G"),
        ("-t ext4 -b 4096 -O ^64bit", "100M", "20G"),
        ("-t ext4 -b 4096 -O ^metadata_csum", "100M", "2G"),
        ("-t ext4 -b 4096 -O ^metadata_csum,uninit_bg,^flex_bg", "100M", "2G"),
        ("-t ext4 -b 4096 -O ^resize_inode", "100M", "6G"),
        ("-t ext4 -b 1024 -O ^resize_inode,meta_bg", "20M", "600M"),
        ("-t ext4 -b 4096 -O sparse_super2,^resize_inode", "100M", "2G"),
        ("-t ext4 -b 4096 -O sparse_super2,^resize_inode", "300M", "2G"),
        ("-t ext4 -b 4096 -O ^sparse_super,^resize_inode", "100M", "600M"),
        ("-t ext4 -b 4096 -O orphan_file,metadata_csum_seed", "100M", "2G"),
        ("-t ext4 -b 1024 -g 256", "10M", "40M"),
        ("-t ext2", "20M", "600M"),
        ("-t ext2 -b 4096 -r 0 -O none", "100M", "600M"),
        ("-t ext3 -b 4096 -I 128", "200M", "2G"),
    ] {
        twins(&source, options, from, to);
    }
}

#[test]
fn the_kernel_uses_what_grew_and_resize2fs_grows_it_further() {
    kernel::need();
    let (_kept, source) = sample();
    for (options, from, to) in [
        ("-t ext4 -b 4096", "64M", "9G"),
        ("-t ext4 -b 1024 -O ^metadata_csum,uninit_bg", "20M", "400M"),
        ("-t ext3 -b 4096", "100M", "1G"),
    ] {
        let (_folder, image) = twins(&source, options, from, to);
        kernel::writes(&image);
        let size = superblock(&image, "Block count");
        // Another program grows it further.
        must(command("truncate").args(["-s", "12G"]).arg(&image));
        must(command("resize2fs").arg("-f").arg(&image));
        assert_clean(&image);
        kernel::writes(&image);
        assert!(count(&image, "Block count") > size.parse().unwrap());
    }
}

/// Where the reserved descriptors run out, new groups keep their own: by the kernel's own way to grow.
#[test]
fn a_reserve_that_runs_out_becomes_meta_bg() {
    let (_kept, source) = sample();
    for (options, from, to) in [
        ("-t ext4 -b 4096 -O ^resize_inode", "100M", "40G"),
        ("-t ext4 -b 1024 -E resize=300000", "60M", "2G"),
        ("-t ext3 -b 1024 -O ^resize_inode", "60M", "1G"),
        ("-t ext4 -b 4096 -O sparse_super2,^resize_inode", "100M", "20G"),
    ] {
        let folder = scratch();
        let image = folder.path().join("out.img");
        mke2fs(&source, &image, options, from);
        let expected = debugfs::view(&image);
        let said = resize(&image, &[&format!("{to}iB")]);
        assert!(said.error().contains("meta_bg now"), "{options}: {}", said.error());
        assert_clean(&image);
        let features = superblock(&image, "Filesystem features");
        assert!(features.contains("meta_bg") && !features.contains("resize_inode"), "{features}");
        crate::support::compare::assert_same(options, &expected, &debugfs::view(&image), &debugfs::VIEW);
        must(diskwright().arg("check").arg(&image));
        let again = resize(&image, &["+1GiB", "--grow", "filesystem"]);
        assert!(!again.error().contains("meta_bg"), "{}", again.error());
        assert_clean(&image);
        if kernel::can_judge() {
            kernel::writes(&image);
        }
    }
}

/// A manifest for a disk of an ESP and an ext4 root.
fn disk(folder: &Path, head: &str, root: &str) -> PathBuf {
    tree::portable(&folder.join("source"));
    let text = format!(
        "version = 1\n[disk]\nseed = \"0867da16-f251-457d-a9e8-c31f9a3c220b\"\n{head}\n\
         [[partition]]\ntype = \"esp\"\nsize = \"40MiB\"\nfilesystem = {{ type = \"vfat\" }}\n\
         [[partition]]\ntype = \"linux\"\nsize = \"100MiB\"\n{root}filesystem = {{ type = \"ext4\" }}\n\
         contents = [ {{ source = \"source\", target = \"/\", owner = \"preserve\" }} ]\n"
    );
    std::fs::write(folder.join("disk.toml"), text).unwrap();
    let image = folder.join("disk.img");
    must(diskwright().arg("build").arg(folder.join("disk.toml")).arg("-o").arg(&image));
    image
}

/// The last partition of a disk, checked, with its contents.
fn assert_root(image: &Path, expected: &Snapshot, megabytes: u64) {
    table::assert_clean(image);
    let extents = table::partitions(image);
    let root = *extents.iter().max_by_key(|extent| extent.0).unwrap();
    assert_eq!(root.1 / 2048, megabytes, "{extents:?}");
    let part = image.with_extension("part");
    table::extract(image, root, &part);
    assert_clean(&part);
    assert_eq!(count(&part, "Block count") * 4096, root.1 * 512);
    let found = debugfs::view(&part).without_lost_and_found();
    crate::support::compare::assert_same("the root", expected, &found, &debugfs::VIEW);
}

#[test]
fn a_gpt_its_last_partition_and_its_ext4_grow_together() {
    let folder = scratch();
    for (head, before, after) in [("", 100, 858), ("hybrid = [2]", 100, 858)] {
        let image = disk(folder.path(), head, "");
        let expected = Snapshot::of(&folder.path().join("source")).links_as_in_ext4().without_host_labels();
        let said = resize(&image, &["900MiB"]);
        assert_eq!(
            said.text(),
            format!(
                "disk: 142MiB to 900MiB\npartition 2: {before}MiB to {after}MiB\next4: {before}MiB to {after}MiB\n"
            )
        );
        assert_eq!(said.error(), "");
        assert_root(&image, &expected, after);
        // Nothing is left to do.
        let once = digest(&image);
        assert_eq!(resize(&image, &["900MiB"]).text(), "");
        assert_eq!(digest(&image), once);
        // Another program made the disk longer, and left the backup where it was.
        must(command("truncate").args(["-s", "1100M"]).arg(&image));
        let said = resize(&image, &["1100MiB", "--json"]);
        assert!(said.text().contains("\"what\": \"partition 2\""), "{}", said.text());
        assert_root(&image, &expected, 1058);
        std::fs::remove_dir_all(folder.path().join("source")).unwrap();
    }
}

#[test]
fn every_container_gets_the_same_disk() {
    let folder = scratch();
    let raw = disk(folder.path(), "", "");
    let path = |name: &str| folder.path().join(name);
    let names = ["a.qcow2", "z.qcow2", "a.vdi", "a.vmdk", "a.vhdx"];
    for name in names {
        let more: &[&str] = if name == "z.qcow2" { &["--compress", "zlib"] } else { &[] };
        must(diskwright().arg("convert").args([&raw, &path(name)]).args(more));
    }
    resize(&raw, &["500MiB"]);
    for name in names {
        resize(&path(name), &["500MiB"]);
        must(command("qemu-img").arg("compare").args([&raw, &path(name)]));
    }
    let info = must(command("qemu-img").args(["check", "-f", "qcow2"]).arg(path("a.qcow2")));
    assert!(info.text().contains("No errors"), "{}", info.text());
}

#[test]
fn an_mbr_grows_its_last_partition_primary_or_logical() {
    for (head, root, after) in [("table = \"mbr\"", "", 859), ("table = \"mbr\"", "logical = true\n", 858)] {
        let folder = scratch();
        let image = disk(folder.path(), head, root);
        let expected = Snapshot::of(&folder.path().join("source")).links_as_in_ext4().without_host_labels();
        resize(&image, &["900MiB"]);
        assert_root(&image, &expected, after);
    }
}

/// Logical partitions by sfdisk: three in the chain, of which the last one grows, and the links before it.
#[test]
fn a_chain_of_logical_partitions_by_sfdisk_grows_at_its_end() {
    let folder = scratch();
    let image = folder.path().join("disk.img");
    must(command("truncate").args(["-s", "100M"]).arg(&image));
    let layout = "label: dos\n,10M,L\n,,E\n,20M,L\n,20M,L\n,20M,L\n";
    let said = crate::tables::tools::run("sfdisk", &[], &["-q", &image.display().to_string()], layout);
    assert!(said.success, "{said:?}");
    let before = table::partitions(&image);
    assert!(table::remarks(&image).is_empty());
    resize(&image, &["300MiB"]);
    assert!(table::remarks(&image).is_empty(), "{:?}", table::remarks(&image));
    let after = table::partitions(&image);
    let end = |extent: (u64, u64)| extent.0 + extent.1;
    assert_eq!(end(after[4]), 300 * 2048);
    assert_eq!(end(after[1]), 300 * 2048);
    assert_eq!((&after[..1], &after[2..4]), (&before[..1], &before[2..4]));
}

#[test]
fn what_is_left_to_the_system_is_said() {
    let folder = scratch();
    let image = disk(folder.path(), "", "");
    let whole = |arguments: &[&str], code: i32| {
        let said = run(diskwright().arg("resize").arg(&image).args(arguments));
        assert_eq!(said.code, code, "{}", said.error());
        said
    };
    let partition = whole(&["300MiB", "--grow", "partition"], 0);
    assert!(
        partition.error().contains("the ext4 in partition 2 stays as it is: its system"),
        "{}",
        partition.error()
    );
    assert_eq!(table::partitions(&image)[1].1, 258 * 2048);
    table::assert_clean(&image);
    // The filesystem can follow later.
    assert!(whole(&["300MiB"], 0).text().contains("ext4: 100MiB to 258MiB"));
    let disk = whole(&["400MiB", "--grow", "disk"], 0);
    assert_eq!(
        (disk.text().as_str(), table::partitions(&image)[1].1),
        ("disk: 300MiB to 400MiB\n", 258 * 2048)
    );
    let refused = whole(&["200MiB"], 2);
    assert!(refused.error().contains("not made smaller"), "{}", refused.error());
    let wrong = whole(&["1GiB", "--grow", "half"], 2);
    assert!(wrong.error().contains("auto, disk, partition, filesystem"), "{}", wrong.error());
}

/// Filesystems that need something else first: `auto` leaves them, `filesystem` refuses, and neither loses a byte.
#[test]
fn a_filesystem_that_is_not_ready_is_left() {
    let (_kept, source) = sample();
    let folder = scratch();
    let image = folder.path().join("out.img");
    for (options, damage, words) in [
        ("-t ext4 -b 4096", "feature needs_recovery", "its journal has to be replayed"),
        ("-t ext4 -b 4096", "set_super_value state 2", "errors were found in it"),
        ("-t ext4 -b 4096", "set_super_value state 0", "not marked as clean"),
        ("-t ext4 -b 4096", "set_super_value last_orphan 15", "deleted while they were open"),
        ("-t ext4 -b 4096", "set_inode_field <7> block[DIND] 0", "the resize inode"),
        ("-t ext4 -b 4096 -N 4096 -O bigalloc", "", "bigalloc"),
        ("-t ext4 -b 4096 -O mmp", "", "mmp"),
    ] {
        mke2fs(&source, &image, options, "100M");
        if !damage.is_empty() {
            debugfs::damage(&image, damage);
        }
        let before = digest(&image);
        let refused = run(diskwright().arg("resize").arg(&image).args(["300MiB", "--grow", "filesystem"]));
        assert!(refused.code != 0 && refused.error().contains(words), "{damage}: {}", refused.error());
        assert_eq!(digest(&image), before, "{damage}");
        let left = resize(&image, &["300MiB"]);
        assert!(
            left.error().contains(words)
                && left.error().lines().count() == 1
                && left.text() == "disk: 100MiB to 300MiB\n",
            "{}",
            left.error()
        );
        must(command("truncate").args(["-s", "100M"]).arg(&image));
        assert_eq!(digest(&image), before, "{damage}");
        std::fs::remove_file(&image).unwrap();
    }
    // Something follows the filesystem in what it would grow over.
    mke2fs(&source, &image, "-t ext4 -b 4096", "100M");
    let mut file = std::fs::OpenOptions::new().append(true).open(&image).unwrap();
    std::io::Write::write_all(&mut file, &[7; 4096]).unwrap();
    let refused = run(diskwright().arg("resize").arg(&image).args(["300MiB", "--grow", "filesystem"]));
    assert!(refused.error().contains("something follows the ext4"), "{}", refused.error());
}

/// A GPT without partitions is one all the same; and what is left of one behind a filesystem is none.
#[test]
fn a_gpt_without_partitions_moves_its_backup() {
    let folder = scratch();
    let image = folder.path().join("disk.img");
    must(command("truncate").args(["-s", "100M"]).arg(&image));
    must(command("sgdisk").arg("-o").arg(&image));
    let clean = |image: &Path| {
        let said = must(diskwright().arg("check").arg(image));
        assert_eq!(said.error(), "");
        let verified = must(command("sgdisk").arg("-v").arg(image)).text();
        assert!(verified.contains("No problems found"), "{verified}");
    };
    clean(&image);
    resize(&image, &["200MiB"]);
    clean(&image);
    let filesystem = folder.path().join("root.img");
    must(command("truncate").args(["-s", "100M"]).arg(&filesystem));
    must(command("sgdisk").arg("-o").arg(&filesystem));
    mke2fs(&sample().1, &filesystem, "-b 4096", "90M");
    must(command("truncate").args(["-s", "100M"]).arg(&filesystem));
    let said = resize(&filesystem, &["300MiB"]);
    assert!(said.error().contains("something follows the ext4"), "{}", said.error());
    assert_clean(&filesystem);
}

/// Tables whose copies disagree, and an overlay.
#[test]
fn what_cannot_be_decided_is_refused() {
    let folder = scratch();
    let image = disk(folder.path(), "", "");
    let path = |name: &str| folder.path().join(name);
    must(diskwright().arg("convert").args([&image, &path("base.qcow2")]));
    let create = ["--backing", "base.qcow2", "-F", "qcow2"];
    must(diskwright().arg("create").arg(path("over.qcow2")).args(create));
    let left = resize(&path("over.qcow2"), &["300MiB"]);
    assert!(left.error().contains("only the disk grows: it is an overlay"), "{}", left.error());
    let said =
        run(diskwright().arg("resize").arg(path("over.qcow2")).args(["400MiB", "--grow", "partition"]));
    assert!(said.code == 2 && said.error().contains("it is an overlay"), "{}", said.error());
    // The backup names another partition.
    must(command("cp").args([&image, &path("one.img")]));
    must(command("sgdisk").args(["-c", "2:other"]).arg(path("one.img")));
    let whole = std::fs::read(path("one.img")).unwrap();
    let mut mixed = std::fs::read(&image).unwrap();
    let tail = mixed.len() - 33 * 512;
    mixed[tail..].copy_from_slice(&whole[tail..]);
    std::fs::write(path("mixed.img"), &mixed).unwrap();
    let said = run(diskwright().arg("resize").arg(path("mixed.img")).arg("300MiB"));
    assert!(said.code == 1 && said.error().contains("the backup GPT differs"), "{}", said.error());
    assert_eq!(std::fs::read(path("mixed.img")).unwrap(), mixed);
    // A damaged primary table.
    mixed[512 + 40] ^= 1;
    std::fs::write(path("mixed.img"), &mixed).unwrap();
    let said = run(diskwright().arg("resize").arg(path("mixed.img")).arg("300MiB"));
    assert!(said.code == 1 && said.error().contains("the primary GPT is damaged"), "{}", said.error());
    resize(&path("mixed.img"), &["300MiB", "--grow", "disk"]);
}

/// A full disk while the image is written anew: the old one stays.
#[test]
fn a_full_disk_leaves_the_old_image() {
    kernel::need();
    let folder = scratch();
    let image = disk(folder.path(), "", "");
    let small = kernel::Mount::tmpfs("24m");
    let own = small.path().join("disk.img");
    must(command("cp").arg("--sparse=always").args([&image, &own]));
    let taken = std::fs::File::create(small.path().join("rest")).unwrap();
    let space = rustix::fs::statvfs(small.path()).unwrap();
    let length = space.f_bavail * space.f_frsize - 16384;
    rustix::fs::fallocate(&taken, rustix::fs::FallocateFlags::empty(), 0, length).unwrap();
    let before = digest(&own);
    let said = run(diskwright().arg("resize").arg(&own).arg("900MiB"));
    assert!(said.code == 1 && said.error().contains("No space left"), "{}", said.error());
    assert_eq!(digest(&own), before);
    assert_eq!(crate::support::tools::names_in(small.path()), ["disk.img", "rest"]);
}
