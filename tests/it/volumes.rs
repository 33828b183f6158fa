//! ext4 filesystems of odd shapes: the smallest, some with more than 2^32 blocks, some with given numbers of
//! inodes or reserved blocks; and tools that change our filesystems.

use std::path::Path;
use std::sync::Arc;

use diskwright::filesystem::{Facts, Placement, Size, ext4};
use diskwright::tree::{Builder, Content, Meta, Time, Tree};
use diskwright::units::{Bytes, GIB, KIB, MIB, TIB};
use proptest::prelude::*;
use uuid::Uuid;

use crate::support::ext4::{assert_clean, count, remarks, superblock};
use crate::support::program::{diskwright, mkfs_ext4};
use crate::support::snapshot::Snapshot;
use crate::support::tools::{Said, command, must, quick_scratch, run, scratch};
use crate::support::{debugfs, kernel, tree};

/// `mkfs ext4` of nothing, which may fail.
fn mkfs(image: &Path, arguments: &[&str]) -> Said {
    run(diskwright().args(["mkfs", "ext4", "-o"]).arg(image).args(arguments))
}

#[test]
fn every_small_size_is_a_filesystem_or_an_error() {
    let folder = quick_scratch();
    let image = folder.path().join("out.img");
    let mut least = None;
    for blocks in 1..80_u64 {
        let size = (blocks * 4 * KIB).to_string();
        let said = mkfs(&image, &["--size", &size]);
        if said.code == 0 {
            least = least.or(Some(blocks));
            assert_eq!(remarks(&image), [""; 0], "{blocks} blocks");
            assert_eq!(count(&image, "Block count"), blocks);
            std::fs::remove_file(&image).unwrap();
        } else {
            assert!(said.code == 1 && least.is_none(), "{blocks} blocks: {}", said.error());
            assert!(
                said.error().contains("expected: a size of at least 48KiB (49152 bytes)"),
                "{}",
                said.error()
            );
        }
    }
    // Superblock, descriptors, two bitmaps, two blocks for the 11 reserved inodes and some spare ones, one of the resize
    // inode, the root, and four of lost+found.
    assert_eq!(least, Some(12));
}

#[test]
fn the_least_filesystem_is_full_and_one_with_a_little_room_is_written_to() {
    let folder = scratch();
    let image = folder.path().join("out.img");
    for (free, journal) in [("0", "false"), ("0", "4MiB"), ("64KiB", "false"), ("1MiB", "true")] {
        assert_eq!(mkfs(&image, &["--free", free, "--journal", journal]).code, 0);
        assert_clean(&image);
        if !kernel::can_judge() {
            continue;
        }
        let mount = kernel::Mount::new(&image, "rw");
        let made = std::fs::create_dir(mount.path().join("made-by-the-kernel"));
        assert_eq!(made.is_ok(), free != "0", "{free}: {made:?}");
        mount.unmount();
        assert_clean(&image);
    }
}

#[test]
fn more_blocks_than_32_bits_count() {
    // In memory, where a file may be so long.
    let folder = quick_scratch();
    let image = folder.path().join("out.img");
    // 16 TiB are 2^32 blocks: the last size whose resize inode reaches them all.
    for size in [16 * TIB - 4 * KIB, 16 * TIB, 16 * TIB + 4 * MIB, 20 * TIB] {
        let said = mkfs(&image, &["--size", &size.to_string(), "--inodes", "4000000"]);
        if said.error().contains("File too large") {
            // A host whose files end before.
            continue;
        }
        assert_eq!(said.code, 0, "{}", said.error());
        assert_eq!(remarks(&image), [""; 0], "{size} bytes");
        assert_eq!(
            superblock(&image, "Filesystem features").contains("resize_inode"),
            size <= 16 * TIB,
            "{size} bytes"
        );
        std::fs::remove_file(&image).unwrap();
    }
}

#[test]
fn the_inodes_asked_for_are_there() {
    let folder = scratch();
    let image = folder.path().join("out.img");
    for (inodes, size) in [
        (11, "auto"),
        (12, "1MiB"),
        // As many as a group can have, and one more.
        (32_768, "auto"),
        (32_769, "auto"),
        (1_000_000, "auto"),
        (65_536, "129MiB"),
        (262_144, "1GiB"),
    ] {
        let said = mkfs(&image, &["--inodes", &inodes.to_string(), "--size", size]);
        assert_eq!(said.code, 0, "{inodes} in {size}: {}", said.error());
        assert_clean(&image);
        let found = count(&image, "Inode count");
        // Each group has whole blocks of 16.
        let groups = count(&image, "Block count").div_ceil(32_768);
        assert!((inodes..inodes + 16 * groups).contains(&found), "{found} for {inodes} in {size}");
    }
    std::fs::remove_file(&image).unwrap();
    for (inodes, size, most) in [
        ("32769", "128MiB", "at most 32768"),
        // The most that so many groups can have: each has a multiple of 16.
        ("4294967295", "auto", "at most 4292870144 for"),
        ("4294967296", "auto", "at most 4294967295"),
        ("18446744073709551615", "auto", "at most 4294967295"),
        ("10", "auto", "at least 11"),
    ] {
        let said = mkfs(&image, &["--inodes", inodes, "--size", size]);
        assert!(said.code == 2 && !image.exists(), "{inodes} in {size}");
        assert!(said.error().contains(most), "{inodes} in {size}: {}", said.error());
    }
}

#[test]
fn what_is_kept_for_the_super_user_is_as_much_as_was_asked_for() {
    let folder = scratch();
    let image = folder.path().join("out.img");
    for (reserved, size, blocks) in [
        ("1", "auto", Some(1)),
        ("16MiB", "auto", Some(4096)),
        // More than everything else in it; no more than half of a filesystem can be kept.
        ("1GiB", "auto", Some(GIB / 4096)),
        ("512MiB", "1GiB", Some(GIB / 8192)),
        ("50%", "auto", None),
        ("50%", "1GiB", Some(GIB / 8192)),
        ("5%", "1GiB", Some(13_107)),
    ] {
        let said = mkfs(&image, &["--reserved", reserved, "--size", size]);
        assert_eq!(said.code, 0, "{reserved} of {size}: {}", said.error());
        assert_clean(&image);
        let (found, all) = (count(&image, "Reserved block count"), count(&image, "Block count"));
        match blocks {
            Some(blocks) => assert_eq!(found, blocks, "{reserved} of {size}"),
            None => assert_eq!(found, all / 2, "{reserved} of {size}"),
        }
    }
    std::fs::remove_file(&image).unwrap();
    let said = mkfs(&image, &["--reserved", "513MiB", "--size", "1GiB"]);
    assert!(
        said.code == 2 && !image.exists() && said.error().contains("at most 512 MiB"),
        "{}",
        said.error()
    );
}

#[test]
fn growth_that_cannot_be_prepared_is_said() {
    let folder = scratch();
    let image = folder.path().join("out.img");
    for (grow_to, reserved, warns) in
        [("8GiB", 0, false), ("1TiB", 127, false), ("8200GiB", 1024, false), ("8201GiB", 1024, true)]
    {
        let said = mkfs(&image, &["--grow-to", grow_to]);
        assert_eq!(said.code, 0, "{}", said.error());
        assert_clean(&image);
        let found = superblock(&image, "Filesystem features").contains("resize_inode");
        assert!(found, "{grow_to}");
        if reserved > 0 {
            assert_eq!(count(&image, "Reserved GDT blocks"), reserved, "{grow_to}");
        }
        let warned = said.error().contains("can grow this ext4 filesystem to 8.0 TiB online");
        assert_eq!(warned, warns, "{grow_to}: {}", said.error());
    }
}

/// Sizes around which something of the shape changes, and some between.
fn shapes() -> Vec<u64> {
    let borders = [8 * MIB, 128 * MIB, 256 * MIB, GIB, 2 * GIB, 16 * GIB, 32 * GIB, 64 * GIB, 128 * GIB];
    let around = |border: u64| [border - 4 * KIB, border, border + 4 * MIB];
    borders.into_iter().flat_map(around).chain([3 * GIB + 17 * MIB, 9 * GIB, 200 * GIB, TIB]).collect()
}

#[test]
fn the_shape_is_that_of_mke2fs() {
    // In memory: mke2fs writes more than we do.
    let folder = quick_scratch();
    let (ours, theirs) = (folder.path().join("ours.img"), folder.path().join("theirs.img"));
    for size in shapes() {
        assert_eq!(mkfs(&ours, &["--size", &size.to_string(), "--label", "same"]).code, 0);
        let _ = std::fs::remove_file(&theirs);
        must(command("truncate").args(["-s", &size.to_string()]).arg(&theirs));
        must(
            command("mke2fs")
                .args([
                    "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-i", "16384", "-m", "0", "-L",
                    "same",
                ])
                .args([
                    "-O",
                    "^metadata_csum_seed,^orphan_file,64bit,metadata_csum",
                    "-E",
                    "lazy_journal_init=1",
                ])
                .arg(&theirs),
        );
        for field in [
            "Filesystem features",
            "Block count",
            "Reserved GDT blocks",
            "Inodes per group",
            "Inode count",
            "Group descriptor size",
            "Flex block group size",
            "Total journal blocks",
            "Default mount options",
            "Filesystem flags",
            "Journal backup",
        ] {
            let shown = |image: &Path| {
                let said = must(command("dumpe2fs").arg("-h").arg(image));
                let line = said.text().lines().find(|line| line.starts_with(field)).map(str::to_owned);
                line.unwrap_or_default()
            };
            assert_eq!(shown(&ours), shown(&theirs), "{size} bytes");
        }
    }
}

/// The kernel has nothing left to clear after the first mount, which would fill the holes of the file. It
/// makes the bitmaps of unused groups itself.
#[test]
fn groups_are_told_to_be_clear() {
    let folder = scratch();
    let image = folder.path().join("out.img");
    assert_eq!(mkfs(&image, &["--size", "5GiB"]).code, 0);
    let said = must(command("dumpe2fs").arg(&image)).text();
    let groups: Vec<&str> = said.lines().filter(|line| line.contains(": (Blocks ")).collect();
    assert_eq!(groups.len(), 40);
    for (number, line) in groups.iter().enumerate() {
        assert!(line.contains("ITABLE_ZEROED"), "{line}");
        assert_eq!(line.contains("INODE_UNINIT"), number > 0, "{line}");
        // Metadata of 16 groups in the first of each, copies of the superblock, and the last, whose bitmap has an end.
        let used = [0, 1, 3, 5, 7, 9, 16, 25, 27, 32, 39].contains(&number);
        assert_eq!(line.contains("BLOCK_UNINIT"), !used, "{line}");
    }
}

/// A filesystem of ours with a bit of everything, and what is in it.
fn sample(folder: &Path, arguments: &[&str]) -> (std::path::PathBuf, Snapshot) {
    let (source, image) = (folder.join("source"), folder.join("out.img"));
    tree::portable(&source);
    mkfs_ext4(&source, &image, &[&["--owner", "preserve"], arguments].concat());
    (image, Snapshot::of(&source).links_as_in_ext4().without_host_labels())
}

fn assert_holds(image: &Path, expected: &Snapshot) {
    assert_clean(image);
    let found = debugfs::view(image).without_lost_and_found();
    crate::support::compare::assert_same("debugfs", expected, &found, &debugfs::VIEW);
}

#[test]
fn resize2fs_grows_and_shrinks_it_offline() {
    let folder = scratch();
    let (image, expected) = sample(folder.path(), &["--size", "300MiB"]);
    must(command("truncate").args(["-s", "3G"]).arg(&image));
    // It would ask for e2fsck first where it doubts anything.
    must(command("resize2fs").arg(&image));
    assert_eq!(count(&image, "Block count"), 3 * GIB / 4096);
    assert_holds(&image, &expected);
    // To shrink it always wants a check that is later than the last change.
    must(command("e2fsck").arg("-fp").arg(&image));
    must(command("resize2fs").arg("-M").arg(&image));
    assert!(count(&image, "Block count") < 100 * MIB / 4096);
    assert_holds(&image, &expected);
}

#[test]
fn tune2fs_and_e2fsck_change_it_and_find_it_whole() {
    let folder = scratch();
    let (image, expected) = sample(folder.path(), &["--size", "300MiB"]);
    // Another UUID is another seed: every checksum there is is made anew, which shows that each was found.
    must(
        command("tune2fs").args(["-U", "0867da16-f251-457d-a9e8-c31f9a3c220b", "-L", "renamed"]).arg(&image),
    );
    assert_holds(&image, &expected);
    // Directories packed anew, indexes and all.
    let said = run(command("e2fsck").arg("-fyD").arg(&image));
    assert!(said.code <= 1, "{}", said.text());
    assert_clean(&image);
    for features in ["^has_journal", "has_journal", "^resize_inode", "^metadata_csum", "metadata_csum"] {
        must(command("tune2fs").args(["-f", "-O", features]).arg(&image));
        let said = run(command("e2fsck").arg("-fy").arg(&image));
        assert!(said.code <= 1, "{features}: {}", said.text());
        assert_clean(&image);
    }
    assert_holds(&image, &expected);
}

/// The purpose of superblock copies: the first superblock is lost, and e2fsck repairs the filesystem from a
/// copy.
#[test]
fn a_lost_superblock_is_recovered_from_each_copy() {
    let folder = scratch();
    let (image, expected) = sample(folder.path(), &["--size", "700MiB"]);
    let damaged = folder.path().join("damaged.img");
    for group in [1_u64, 3, 5] {
        must(command("cp").arg("--sparse=always").arg(&image).arg(&damaged));
        let file = std::fs::OpenOptions::new().write(true).open(&damaged).unwrap();
        // Superblock and descriptors.
        std::os::unix::fs::FileExt::write_all_at(&file, &[0; 8192], 0).unwrap();
        assert_ne!(run(command("e2fsck").arg("-fn").arg(&damaged)).code, 0);
        let block = (group * 32_768).to_string();
        let said = run(command("e2fsck").args(["-fy", "-B", "4096", "-b", &block]).arg(&damaged));
        assert!(said.code <= 1, "copy in group {group}: {}", said.text());
        assert_clean(&damaged);
    }
    assert_holds(&damaged, &expected);
}

/// A tree of so many inodes and one file of so many bytes. Nothing reads the bytes.
fn unread(inodes: u32, size: u64) -> Arc<Tree> {
    let mut builder = Builder::new(Time::default());
    let origin = builder.origin("test");
    let meta = Meta::root(0o644, Time::default());
    for number in 0..inodes {
        builder.put(format!("/{}/{number}", number / 200).as_bytes(), meta, Content::Fifo, origin).unwrap();
    }
    builder.file(b"/file", Path::new("/nowhere"), (size, 0), meta, origin).unwrap();
    Arc::new(builder.finish(1).unwrap())
}

/// Whether `df` shows at least this many blocks as available: the kernel keeps 2 % of all, at most 4096, to
/// itself (ext4_calculate_resv_clusters).
fn has_space(facts: &Facts, blocks: u64) -> bool {
    facts.free_blocks >= (facts.blocks / 50).min(4096) + blocks
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// An automatic size has the requested free space and spare inodes; with one block less, one of them is
    /// missing.
    #[test]
    fn an_automatic_size_is_the_least(
        // Empty ones too: over 32768 of them a group has no more.
        inodes in prop_oneof![0..20_000_u32, 0..200_000_u32],
        size in prop_oneof![0..200 * MIB, 0..60 * GIB],
        free in prop_oneof![Just(0), 0..2 * GIB],
        grow_to in proptest::option::of(0..2 * TIB),
        journal in any::<bool>(),
    ) {
        let tree = unread(inodes, size);
        let build = |size| {
            let options = ext4::Options {
                free: matches!(size, Size::Auto).then(|| Bytes::new(free)),
                grow_to: grow_to.map(Bytes::new),
                journal: Some(if journal { ext4::Journal::Auto } else { ext4::Journal::None }),
                ..ext4::Options::default()
            };
            ext4::build(&tree, &options, &Placement { size, ..Placement::alone(Uuid::from_u128(1)) })
        };
        let facts = build(Size::Auto).unwrap().facts;
        let asked = free.div_ceil(4096);
        let spare = |facts: &Facts| {
            let (all, free) = (facts.inodes.unwrap(), facts.free_inodes.unwrap());
            free >= (all - free) / 16 + 16
        };
        prop_assert!(has_space(&facts, asked) && spare(&facts), "{facts:?}");
        let less = Size::Fixed(Bytes::new((facts.blocks - 1) * 4096));
        if let Ok(smaller) = build(less) {
            let facts = (facts, smaller.facts);
            prop_assert!(!has_space(&facts.1, asked) || !spare(&facts.1), "{facts:?}");
        }
    }
}
