//! The automatic size: the smallest that holds the contents.

use std::sync::Arc;

use diskwright::error::Kind;
use diskwright::filesystem::fat::FatType;
use diskwright::filesystem::{Filesystem, Size};
use diskwright::tree::{Hardlinks, Tree};
use diskwright::units::{Bytes, KIB, MIB};

use super::support::*;
use super::whole as fat;

fn auto(tree: &Arc<Tree>, options: &fat::Options) -> Filesystem {
    fat::build(tree, &fat::Options { size: Size::Auto, ..options.clone() }).unwrap()
}

/// A tree of one file of `size` bytes of hole: it takes space in the volume but none on the host.
fn one_file(size: u64) -> (tempfile::TempDir, Arc<Tree>) {
    let host = tempfile::tempdir().unwrap();
    std::fs::File::create_new(host.path().join("FILE")).unwrap().set_len(size).unwrap();
    let tree = scanned(host.path(), Hardlinks::Preserve);
    (host, tree)
}

/// Bytes of a track, by which volumes grow, in sectors of 512 bytes.
fn track(size: u64) -> u64 {
    512 * match size / 512 {
        0..=4096 => 16,
        4097..=524_288 => 32,
        _ => 63,
    }
}

#[test]
fn the_size_found_is_full_and_a_cluster_more_needs_another() {
    let kinds = [
        (None, 100 * KIB),
        (None, 1400 * KIB),
        (None, 3 * MIB),
        (None, 9 * MIB),
        (None, 40 * MIB),
        (None, 130 * MIB),
        (None, 300 * MIB),
        (None, 700 * MIB),
        (None, 3000 * MIB),
        (Some(FatType::Fat12), 300 * KIB),
        (Some(FatType::Fat16), 12 * MIB),
        (Some(FatType::Fat32), 50 * MIB),
    ];
    for (fat, size) in kinds {
        let options = fat::Options { fat, ..fat::Options::default() };
        let (_host, tree) = one_file(size);
        let first = auto(&tree, &options);
        let length = first.image.length().get();
        let cluster = first.facts.block_size;
        // Less than a track is free, and at most what two FATs are rounded up by.
        let free = first.facts.free_blocks * cluster;
        assert!(free < track(length) + 3 * cluster, "{size}: {free} bytes free");
        // A file that takes the free clusters too: the same size, and none is free.
        let filled = size.next_multiple_of(cluster) + free;
        let (_host, tree) = one_file(filled);
        let full = auto(&tree, &options);
        assert_eq!((full.image.length().get(), full.facts.free_blocks), (length, 0), "{size}");
        assert_eq!(fsck(&poured(&full, 2).path()).unwrap(), (full.facts.blocks, full.facts.blocks));
        // One sector less, or one byte more, is refused.
        let fewer = fat::Options { size: Size::Fixed(Bytes::new(length - 512)), ..options.clone() };
        assert_eq!(fat::build(&tree, &fewer).unwrap_err().kind(), Kind::Capacity, "{size}");
        let (_host, more) = one_file(filled + 1);
        let same = fat::Options { size: Size::Fixed(Bytes::new(length)), ..options.clone() };
        let error = fat::build(&more, &same).unwrap_err().to_string();
        assert!(error.contains(&format!("{} too much", Bytes::new(cluster).human())), "{error}");
        assert!(auto(&more, &options).image.length().get() > length);
    }
}

/// An automatic size and the same size when given make the same volume.
#[test]
fn the_size_found_given_as_a_size_makes_the_same_volume() {
    let listing =
        listing((0..40_u64).map(|number| (format!("/d{}/file {number}", number % 3), noise(number, 9000))));
    for options in [
        fat::Options::default(),
        fat::Options { fat: Some(FatType::Fat32), label: Some("X".into()), ..fat::Options::default() },
        fat::Options { sector_size: 4096, sectors_per_cluster: Some(2), ..fat::Options::default() },
    ] {
        let found = auto(&texts(&listing), &options);
        let given = fat::Options { size: Size::Fixed(found.image.length()), ..options };
        let volume = poured(&found, 1);
        assert!(volume.bytes() == poured(&fat::build(&texts(&listing), &given).unwrap(), 1).bytes());
        judge(&volume, &listing).unwrap();
    }
}

#[test]
fn the_room_asked_for_is_free() {
    let listing = listing([("/a", noise(1, 100_000)), ("/b/c", noise(2, 10))]);
    for free in [1, 512, 10_000, MIB, 10 * MIB + 1, 200 * MIB, 600 * MIB] {
        let options = fat::Options { free: Bytes::new(free), ..fat::Options::default() };
        let built = auto(&texts(&listing), &options);
        let cluster = built.facts.block_size;
        let spare = built.facts.free_blocks.checked_sub(free.div_ceil(cluster)).unwrap() * cluster;
        assert!(spare < track(built.image.length().get()) + 3 * cluster, "{free}: {spare}");
        judge(&poured(&built, 2), &listing).unwrap();
    }
}

#[test]
fn fat32_of_automatic_size_has_the_clusters_it_must_have() {
    let options = fat::Options { fat: Some(FatType::Fat32), ..fat::Options::default() };
    let built = auto(&nothing(), &options);
    assert!((65_525..65_525 + 32).contains(&built.facts.blocks), "{}", built.facts.blocks);
    judge(&poured(&built, 1), &Listing::new()).unwrap();
}

/// The root directory of FAT12 and FAT16 ends at 32,768 entries; with more names the volume becomes FAT32.
#[test]
fn names_that_only_fat32_holds_lead_there() {
    let listing = listing((0..33_000).map(|number| (format!("/{number}"), Vec::new())));
    let built = auto(&texts(&listing), &fat::Options::default());
    assert_eq!(built.image.length(), Bytes::new(512 * MIB));
    assert_eq!(fsck(&poured(&built, 2).path()).unwrap().1, built.facts.blocks);
}

#[test]
fn nothing_fits_the_smallest_volume() {
    let built = auto(&nothing(), &fat::Options::default());
    // 50 KiB, below which mkfs.fat sees no viable filesystem.
    assert_eq!(built.image.length(), Bytes::new(50 * KIB));
    judge(&poured(&built, 1), &Listing::new()).unwrap();
}
