//! Volumes with every kind of content before all judges.

use diskwright::filesystem::fat::FatType;
use diskwright::tree::Hardlinks;
use diskwright::units::{GIB, KIB, MIB};
use hadris_fat::{FatVolume, FatVolumeReadExt};

use super::support::*;
use super::whole as fat;

/// One volume of each type and sector size, large enough for the trees below.
fn volumes() -> impl Iterator<Item = fat::Options> {
    let sizes = [(FatType::Fat12, 7 * MIB), (FatType::Fat16, 40 * MIB), (FatType::Fat32, 64 * MIB)];
    let small = sizes.into_iter().map(|(fat, size)| fat::Options { fat: Some(fat), ..fixed(size) });
    // With sectors of 4096 bytes clusters are larger, and so is everything else.
    let sizes = [(FatType::Fat12, 56 * MIB), (FatType::Fat16, 90 * MIB), (FatType::Fat32, 300 * MIB)];
    let large = sizes.into_iter().map(|(fat, size)| fat::Options {
        fat: Some(fat),
        sector_size: 4096,
        ..fixed(size)
    });
    small.chain(large).map(|options| fat::Options { label: Some("ESP".into()), ..options })
}

/// Builds the listing in every kind of volume, from memory and from host files, and has it judged.
fn judged(listing: &Listing) {
    let host = tempfile::tempdir().unwrap();
    let (host, memory) = (files(listing, host.path()), texts(listing));
    for options in volumes() {
        let volume = poured(&fat::build(&host, &options).unwrap(), 2);
        judge(&volume, listing).unwrap_or_else(|error| panic!("{options:?}: {error}"));
        let again = poured(&fat::build(&memory, &options).unwrap(), 1);
        assert!(volume.bytes() == again.bytes(), "{options:?}: where bytes come from changes the image");
    }
}

#[test]
fn an_esp_is_read_by_all() {
    let mut listing = listing([
        ("/EFI/BOOT/BOOTX64.EFI", noise(1, 100_000)),
        ("/EFI/systemd/systemd-bootx64.efi", noise(2, 100_000)),
        ("/EFI/nixos/abcdefghijklmnopqrstuvwxyz0123456789-linux-6.6.1-bzImage.efi", noise(3, 3_000_000)),
        ("/loader/loader.conf", b"timeout 5\n".to_vec()),
        ("/loader/entries/nixos-generation-1.conf", b"title NixOS\n".to_vec()),
        ("/empty", Vec::new()),
        // As the label, which is no name.
        ("/esp", noise(5, 7)),
        ("/grün und 日本語.txt", noise(4, 1)),
    ]);
    listing.insert("/Empty Directory".to_owned(), None);
    judged(&listing);
}

#[test]
fn files_end_around_the_end_of_a_cluster() {
    let edges = [0, 1, 511, 512, 513, 2047, 2048, 2049, 4095, 4096, 4097, 16_383, 16_384, 16_385];
    judged(&listing(edges.map(|length| (format!("/{length}"), noise(1, length)))));
}

/// Names with one beginning, names that are the numbered form of others, in any case.
#[test]
fn short_names_that_would_collide_do_not() {
    let mut names: Vec<String> = (0..1200).map(|number| format!("/same/beginning {number}.text")).collect();
    names.extend((0..30).map(|number| format!("/same/BEGINN~{number}.TEX")));
    names.extend((0..30).map(|number| format!("/same/begin~1{number}.tex")));
    names.extend((0..30).map(|number| format!("/same/beg{number}inning.textile")));
    names.extend(
        ["/same/.text", "/same/..text", "/same/t e x t", "/same/te.xt.", "/same/+", "/same/["]
            .map(Into::into),
    );
    names.retain(|name| !name.ends_with('.'));
    judged(&listing((1_u64..).zip(names).map(|(seed, name)| (name, noise(seed, 9)))));
}

/// A root directory with more than the 512 entries of FAT12 and FAT16, and one of several clusters in FAT32.
#[test]
fn a_root_directory_grows() {
    judged(&listing(
        (0..700).map(|number| (format!("/a name of more than thirteen letters {number}"), Vec::new())),
    ));
}

/// Directories whose entries fill their last cluster, so that there is no end mark.
#[test]
fn directories_that_are_full() {
    // `.`, `..` and names of one entry each: 2 KiB and 4 KiB hold 64 and 128.
    let full = [16, 64, 128, 512]
        .map(|count: usize| (0..count - 2).map(move |number| format!("/D{count}/{number}")));
    judged(&listing(full.into_iter().flatten().map(|name| (name, Vec::new()))));
}

#[test]
fn directories_are_deep() {
    let mut path = String::new();
    for depth in 0..50 {
        path += &format!("/level {depth}");
    }
    judged(&listing([(format!("{path}/file"), noise(1, 5000))]));
}

/// Every character that is allowed, and the longest name.
#[test]
fn names_of_all_characters() {
    let ascii: String = (' '..='\u{7f}').filter(|c| !"\"*/:<>?\\|".contains(*c)).collect();
    let mut names: Vec<String> =
        ascii.chars().filter(|c| !matches!(c, ' ' | '.')).map(|c| format!("/{c}")).collect();
    // Letters stand once, for `a` and `A` are one name.
    names.retain(|name| !name.bytes().any(|byte| byte.is_ascii_lowercase()));
    names.push(format!("/{ascii}"));
    names.push(format!("/{}", "x".repeat(255)));
    names.push(format!("/{}", "ü".repeat(127)));
    names.extend(
        ["/Straße", "/STRASSE", "/ı", "/ſ", "/Привет мир", "/中文.文件", "/e\u{301}", "/é"].map(Into::into),
    );
    judged(&listing((1_u64..).zip(names).map(|(seed, name)| (name, noise(seed, 3)))));
}

#[test]
fn names_outside_the_basic_plane() {
    judged(&listing([
        ("/a😀b.txt", noise(1, 10)),
        ("/\u{10348}", noise(2, 10)),
        // Thirteen units end inside a surrogate pair.
        ("/😀😀😀😀😀😀😀", Vec::new()),
    ]));
}

#[test]
fn nothing_is_a_volume() {
    judged(&Listing::new());
}

/// Sizes with odd layouts: floppy disks, other tracks, the last size of one type and the first of the next.
#[test]
fn odd_sizes_hold_something() {
    let listing = listing([("/A/long name", noise(1, 30_000)), ("/B", noise(2, 1))]);
    let kib =
        [64, 100, 360, 720, 1200, 1440, 2880, 4095, 4096, 4097, 8190, 8220, 32_768, 65_537, 262_144, 262_145];
    for size in kib.map(|kib| kib * KIB).into_iter().chain([512 * MIB - 512, 512 * MIB, 100 * MIB + 511]) {
        let volume = poured(&fat::build(&texts(&listing), &fixed(size)).unwrap(), 2);
        judge(&volume, &listing).unwrap_or_else(|error| panic!("{size}: {error}"));
    }
}

/// Holes of a source are holes of the image and read as zeros.
#[test]
fn holes_stay_holes() {
    use std::os::unix::fs::FileExt;
    let host = tempfile::tempdir().unwrap();
    let file = std::fs::File::create_new(host.path().join("sparse")).unwrap();
    file.set_len(20 * MIB + 7).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(&noise(1, 10_000), 7 * MIB + 100).unwrap();
    let mut bytes = vec![0; 20 * 1024 * 1024 + 7];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let tree = scanned(host.path(), Hardlinks::Preserve);
    let built = fat::build(&tree, &fixed(64 * MIB)).unwrap();
    assert!(built.image.covered().get() < 200_000, "{}", built.image.covered());
    judge(&poured(&built, 2), &listing([("/sparse", bytes)])).unwrap();
}

/// A volume with one file of `size` bytes that ends in eight letters, judged by `fsck.fat`, and what it said.
fn large_file(size: u64) -> (diskwright::filesystem::Filesystem, Result<(u64, u64), String>) {
    use std::os::unix::fs::FileExt;
    let host = tempfile::tempdir().unwrap();
    let file = std::fs::File::create_new(host.path().join("large")).unwrap();
    file.set_len(size).unwrap();
    file.write_all_at(b" the end", size - 8).unwrap();
    let tree = scanned(host.path(), Hardlinks::Preserve);
    let built = fat::build(&tree, &fixed(6 * GIB)).unwrap();
    let volume = poured(&built, 2);
    let data = built
        .image
        .segments()
        .iter()
        .rfind(|segment| matches!(segment.data, diskwright::image::Data::File { .. }));
    let mut end = [1; 9];
    built.image.read(data.unwrap().end().get() - 8, &mut end).unwrap();
    assert_eq!(&end, b" the end\0");
    let readers = FatVolume::open(std::fs::File::open(volume.path()).unwrap()).unwrap();
    let entry = readers.root_dir().find("large").unwrap().unwrap();
    let mut reader = readers.read_file(&entry).unwrap();
    reader.seek(hadris_fat::SeekFrom::End(-8)).unwrap();
    assert_eq!(reader.read_to_vec().unwrap(), b" the end");
    assert_eq!(entry.len(), size);
    (built, fsck(&volume.path()))
}

/// The largest files, where a 32-bit sum overflows.
#[test]
fn the_largest_file_is_held() {
    let cluster = 4096;
    let (built, said) = large_file(4 * GIB - cluster);
    assert_eq!(said.unwrap(), (4 * GIB / cluster, built.facts.blocks));
    assert_eq!(built.warnings, []);
    // In `fsck.fat` itself too: 4.2 takes a chain of 4 GiB for an empty one, so there is a warning.
    for size in [4 * GIB - cluster + 8, 4 * GIB - 1] {
        let (built, said) = large_file(size);
        let said = said.unwrap_err();
        assert!(
            said.contains(&format!("File size is {size} bytes, cluster chain length is 0 bytes")),
            "{said}"
        );
        assert_eq!(said.lines().count(), 7, "{said}");
        let [warning] = &built.warnings[..] else { panic!("{:?}", built.warnings) };
        assert!(
            warning.to_string().contains("/large") && warning.to_string().contains("fsck.fat"),
            "{warning}"
        );
    }
}

/// The largest directory: 65,535 entries, 32,766 names of two entries and one of one beside `.` and `..`.
#[test]
fn the_largest_directory_is_held() {
    let names = (0..32_766).map(|number| format!("/D/name {number}")).chain(["/D/ONE".to_owned()]);
    let listing = listing(names.map(|name| (name, Vec::new())));
    let built = fat::build(&texts(&listing), &fixed(40 * MIB)).unwrap();
    let volume = poured(&built, 2);
    assert_eq!(fsck(&volume.path()).unwrap(), (2 * MIB / 2048, built.facts.blocks));
    same(&listing, &read_with_hadris(&volume.path()).unwrap()).unwrap();
}

/// Every number of threads gives the same bytes.
#[test]
fn threads_leave_no_trace() {
    let listing =
        listing((0..300_u64).map(|number| (format!("/d{}/f{number}", number % 7), noise(number, 30_000))));
    let host = tempfile::tempdir().unwrap();
    let tree = files(&listing, host.path());
    let built = fat::build(&tree, &fixed(40 * MIB)).unwrap();
    let first = poured(&built, 1).bytes();
    for jobs in [2, 7] {
        assert!(poured(&built, jobs).bytes() == first, "{jobs}");
    }
}
