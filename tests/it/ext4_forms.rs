//! Other forms of ext filesystems: ext2, ext3, sizes of blocks and inodes, features by name. Twins by mke2fs show what their
//! superblocks have to say, and e2fsck, debugfs, the kernel, GRUB and our own reader read them.

use std::path::{Path, PathBuf};

use crate::support::ext4::{assert_clean, fields, superblock};
use crate::support::program::diskwright;
use crate::support::snapshot::Snapshot;
use crate::support::tools::{Said, command, must, quick_scratch, run, scratch};
use crate::support::{debugfs, kernel, tree};

/// `mkfs` of a source, which must succeed.
fn mkfs(kind: &str, source: &Path, image: &Path, options: &str) -> Said {
    let options = options.split(' ').filter(|option| !option.is_empty());
    must(diskwright().args(["mkfs", kind]).arg(source).arg("-o").arg(image).args(options))
}

/// What mke2fs decides by the same options.
const EQUAL: [&str; 16] = [
    "Filesystem revision #",
    "Filesystem features",
    "Default mount options",
    "Block count",
    "Reserved block count",
    "First block",
    "Block size",
    "Fragment size",
    "Group descriptor size",
    "Reserved GDT blocks",
    "Blocks per group",
    "Flex block group size",
    "First inode",
    "Inode size",
    "Required extra isize",
    "Total journal size",
];

/// A form: the type, the options here and those of mke2fs, and the size.
type Form = (&'static str, &'static str, &'static str, &'static str);

const FORMS: [Form; 20] = [
    ("ext4", "", "-O ^metadata_csum_seed,^orphan_file", "200M"),
    ("ext4", "--features ^64bit", "-O ^64bit", "200M"),
    ("ext4", "--features ^metadata_csum", "-O ^metadata_csum", "200M"),
    ("ext4", "--features ^metadata_csum,uninit_bg", "-O ^metadata_csum,uninit_bg", "600M"),
    (
        "ext4",
        "--features ^metadata_csum,uninit_bg,^64bit,^flex_bg",
        "-O ^metadata_csum,uninit_bg,^64bit,^flex_bg",
        "600M",
    ),
    ("ext4", "--features ^flex_bg", "-O ^flex_bg", "600M"),
    ("ext4", "--features ^resize_inode", "-O ^resize_inode", "200M"),
    (
        "ext4",
        "--features ^has_journal,^huge_file,^dir_nlink",
        "-O ^has_journal,^huge_file,^dir_nlink",
        "200M",
    ),
    ("ext4", "--features ^64bit,^extent", "-O ^64bit,^extent", "200M"),
    (
        "ext4",
        "--features metadata_csum_seed,casefold,verity,project",
        "-O metadata_csum_seed,casefold,verity,project",
        "200M",
    ),
    ("ext4", "--block-size 1KiB", "-b 1024", "100M"),
    ("ext4", "--block-size 2KiB --inode-size 512", "-b 2048 -I 512", "200M"),
    // mke2fs keeps the flag for inodes that have no bytes beyond 128.
    ("ext4", "--inode-size 128", "-I 128 -O ^extra_isize", "200M"),
    ("ext4", "--inode-size 4096", "-I 4096", "200M"),
    ("ext4", "--block-size 64KiB", "-b 65536", "1000M"),
    ("ext4", "--block-size 16KiB --features ^64bit", "-b 16384 -O ^64bit", "600M"),
    ("ext3", "", "", "200M"),
    (
        "ext3",
        "--block-size 1KiB --inode-size 128 --features ^filetype",
        "-b 1024 -I 128 -O ^filetype",
        "100M",
    ),
    ("ext2", "", "", "200M"),
    ("ext2", "--block-size 1KiB --reserved 5%", "-b 1024 -m 5", "300M"),
];

/// A tree with everything, and files that need each level of pointers to blocks of 1 KiB.
fn sample(folder: &Path) -> PathBuf {
    let source = folder.join("source");
    tree::portable(&source);
    // No symbolic link is longer than a block, which here may have 1 KiB.
    must(command("find").arg(&source).args(["-type", "l", "-size", "+1000c", "-delete"]));
    std::fs::write(source.join("direct"), vec![1; 12 << 10]).unwrap();
    std::fs::write(source.join("single"), vec![2; (12 + 256) << 10]).unwrap();
    std::fs::write(source.join("double"), vec![3; 3 << 20]).unwrap();
    // 12 + 256 + 65536 blocks of 1 KiB end at 64.3 MiB; holes before it.
    let sparse = std::fs::File::create(source.join("triple")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, &[4; 5000], 70 << 20).unwrap();
    std::fs::create_dir(source.join("wide")).unwrap();
    for number in 0..1500 {
        std::fs::write(source.join(format!("wide/a file with a long name, number {number:05}")), []).unwrap();
    }
    source
}

#[test]
fn every_form_is_that_of_mke2fs_and_is_read_by_all() {
    let folder = scratch();
    let source = sample(folder.path());
    let expected = Snapshot::of(&source).links_as_in_ext4().without_host_labels();
    let (ours, theirs) = (folder.path().join("ours.img"), folder.path().join("theirs.img"));
    for (kind, own, their, size) in FORMS {
        let name = format!("{kind} {own}");
        let times = if own.contains("128") { " --times clamp" } else { "" };
        mkfs(kind, &source, &ours, &format!("--owner preserve --size {size}iB{times} {own}"));
        let their = their.split(' ').filter(|option| !option.is_empty());
        let usual = ["-q", "-F", "-i", "16384", "-t", kind];
        let usual = usual.into_iter().chain(if own.contains("reserved") { None } else { Some("-m0") });
        let mut mke2fs = command("mke2fs");
        mke2fs.args(usual).args(if own.contains("block-size") { None } else { Some("-b4096") });
        must(mke2fs.args(their).arg(&theirs).arg(size));
        assert_eq!(fields(&ours, &EQUAL), fields(&theirs, &EQUAL), "{name}");
        std::fs::remove_file(&theirs).unwrap();
        assert_clean(&ours);
        let said = must(diskwright().arg("check").arg(&ours));
        assert!(said.error().is_empty(), "{name}: {}", said.error());
        if !own.contains("128") {
            let found = debugfs::view(&ours).without_lost_and_found();
            crate::support::compare::assert_same(&name, &expected, &found, &debugfs::VIEW);
            let copies = quick_scratch();
            let copy = copies.path().join("copy");
            must(diskwright().arg("copy").arg(format!("{}:/", ours.display())).arg(&copy));
            assert_eq!(std::fs::read(copy.join("double")).unwrap(), vec![3; 3 << 20], "{name}");
            assert_eq!(std::fs::metadata(copy.join("triple")).unwrap().len(), (70 << 20) + 5000);
        }
        let mounts = !own.contains("64KiB") && !own.contains("16KiB") && !own.contains("casefold");
        if mounts && kernel::can_judge() {
            // It counts the space of files in blocks of 4 KiB.
            if !own.contains("128") && !own.contains("1KiB") && !own.contains("2KiB") {
                kernel::reads(&ours, &expected);
            }
            kernel::writes(&ours);
        }
        std::fs::remove_file(&ours).unwrap();
    }
}

#[test]
fn grub_reads_the_plain_ones() {
    let folder = scratch();
    let source = sample(folder.path());
    let image = folder.path().join("out.img");
    for (kind, own, _, size) in FORMS.into_iter().filter(|form| !form.1.contains("casefold")) {
        mkfs(kind, &source, &image, &format!("--times clamp --size {size}iB {own}"));
        // Where a file has extents and begins with a hole, as the last one, GRUB 2.06 reads nothing of it.
        let files = ["direct", "single", "double", "triple"];
        for file in files.into_iter().take(if kind == "ext4" { 3 } else { 4 }) {
            let said = run(command("grub-fstest")
                .arg(&image)
                .args(["cmp", &format!("/{file}")])
                .arg(source.join(file)));
            assert!(
                said.code == 0 && said.error().is_empty(),
                "{kind} {own}, {file}: {}{}",
                said.text(),
                said.error()
            );
        }
        std::fs::remove_file(&image).unwrap();
    }
}

#[test]
fn small_sizes_of_every_form_are_whole_or_refused() {
    let folder = scratch();
    let (source, image) = (folder.path().join("empty"), folder.path().join("out.img"));
    std::fs::create_dir(&source).unwrap();
    for (kind, own, _, _) in FORMS {
        for size in ["auto", "100KiB", "1MiB", "5MiB", "8200KiB", "129MiB"] {
            let said = run(diskwright()
                .args(["mkfs", kind])
                .arg(&source)
                .arg("-o")
                .arg(&image)
                .args(["--size", size])
                .args(own.split(' ').filter(|option| !option.is_empty())));
            if said.code == 0 {
                assert_clean(&image);
                std::fs::remove_file(&image).unwrap();
            } else {
                assert!(
                    said.code == 1 && said.error().contains("do not fit"),
                    "{kind} {own} {size}: {}",
                    said.error()
                );
            }
        }
    }
}

#[test]
fn the_root_directory_has_the_mode_and_owner_that_are_given() {
    let folder = scratch();
    let (source, image) = (folder.path().join("empty"), folder.path().join("out.img"));
    std::fs::create_dir(&source).unwrap();
    mkfs("ext4", &source, &image, "--size 64MiB --root-mode 1777 --root-owner 1000:100");
    let said = debugfs::debugfs(&image, "stat /");
    for words in ["Mode:  01777", "User:  1000", "Group:   100"] {
        assert!(said.text().contains(words), "{}", said.text());
    }
    assert_clean(&image);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let folder = scratch();
    let (source, image) = (folder.path().join("empty"), folder.path().join("out.img"));
    std::fs::create_dir(&source).unwrap();
    for (kind, options, words) in [
        ("ext4", "--block-size 3KiB", "a power of two from 1KiB to 64KiB"),
        ("ext4", "--block-size 128KiB", "a power of two from 1KiB to 64KiB"),
        ("ext4", "--inode-size 8KiB", "a power of two from 128"),
        ("ext4", "--inode-size 64", "a power of two from 128"),
        ("ext4", "--block-size 64KiB --inode-size 64KiB", "a power of two from 128 to 32768"),
        ("ext4", "--features has_journal --size 4MiB", "the contents do not fit the ext4 filesystem"),
        ("ext4", "--features ^extent", "64bit needs extent"),
        ("ext4", "--features uninit_bg", "add ^metadata_csum"),
        ("ext4", "--features ^metadata_csum,metadata_csum_seed", "needs metadata_csum"),
        ("ext4", "--features project --inode-size 128", "project needs inodes of more"),
        ("ext4", "--features ^has_journal --journal 8MiB", "asked for and refused at once"),
        ("ext4", "--features bigalloc", "is not written"),
        ("ext4", "--features orphan_file", "tune2fs makes"),
        ("ext2", "--features ^dir_index", "cannot be left out"),
        ("ext2", "--size 20TiB", "cannot be that large"),
    ] {
        let said = run(diskwright()
            .args(["mkfs", kind])
            .arg(&source)
            .arg("-o")
            .arg(&image)
            .args(options.split(' ')));
        assert!(said.code != 0 && said.error().contains(words), "{options}: {}", said.error());
        assert!(!image.exists(), "{options}");
    }
    // A link longer than a block.
    std::os::unix::fs::symlink("x".repeat(1500), source.join("link")).unwrap();
    let said = run(diskwright()
        .args(["mkfs", "ext2"])
        .arg(&source)
        .arg("-o")
        .arg(&image)
        .args(["--block-size", "1KiB"]));
    assert!(said.code == 1 && said.error().contains("longer than a block"), "{}", said.error());
}

/// A journal that is asked for is there, in filesystems that would else have none, and an ext3 is none without.
#[test]
fn a_journal_is_there_where_its_feature_is_named() {
    let folder = scratch();
    let (source, image) = (folder.path().join("empty"), folder.path().join("out.img"));
    std::fs::create_dir(&source).unwrap();
    for (kind, options) in [
        ("ext4", "--features has_journal --size 7MiB"),
        ("ext2", "--features has_journal --size 6MiB"),
        ("ext3", "--features has_journal --block-size 16KiB --size 24MiB"),
        ("ext3", "--features has_journal --block-size 64KiB"),
        ("ext3", "--size 7MiB"),
        ("ext4", "--journal true --size 7MiB"),
    ] {
        mkfs(kind, &source, &image, options);
        assert_clean(&image);
        assert!(superblock(&image, "Filesystem features").contains("has_journal"), "{kind} {options}");
        assert_eq!(superblock(&image, "Journal inode"), "8", "{kind} {options}");
        assert_eq!(superblock(&image, "Total journal blocks"), "1024", "{kind} {options}");
    }
}

#[test]
fn a_manifest_has_the_same_choices() {
    let folder = scratch();
    let manifest = folder.path().join("disk.toml");
    std::fs::write(
        &manifest,
        "version = 1\n[[partition]]\ntype = \"linux\"\nsize = \"64MiB\"\n\
         filesystem = { type = \"ext2\", block_size = \"1KiB\", inode_size = 128, root_mode = \"0700\", reserved = \"1%\" }\n\
         [[partition]]\ntype = \"linux\"\nsize = \"64MiB\"\n\
         filesystem = { type = \"ext3\", features = [\"64bit\", \"extent\"], root_owner = \"7:8\" }\n",
    )
    .unwrap();
    let image = folder.path().join("disk.img");
    must(diskwright().arg("build").arg(&manifest).arg("-o").arg(&image));
    let extents = crate::support::table::partitions(&image);
    for (extent, features) in extents.into_iter().zip([
        "ext_attr resize_inode dir_index filetype sparse_super large_file",
        "has_journal ext_attr resize_inode dir_index filetype extent 64bit sparse_super large_file",
    ]) {
        let part = folder.path().join("part.img");
        crate::support::table::extract(&image, extent, &part);
        assert_clean(&part);
        assert_eq!(superblock(&part, "Filesystem features"), features);
    }
}
