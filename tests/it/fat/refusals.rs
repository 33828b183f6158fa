//! Bad input: one error each, with the path, the rule, and by how much.

use std::sync::Arc;

use diskwright::error::{Error, Kind};
use diskwright::filesystem::fat::FatType;
use diskwright::filesystem::{Filesystem, Size};
use diskwright::tree::{Builder, Content, Hardlinks, Time, Tree};
use diskwright::units::{Bytes, GIB, KIB, MIB, TIB};

use super::support::*;
use super::whole as fat;

/// The message of a refusal, whose kind is checked.
fn refused(result: Result<Filesystem, Error>, kind: Kind) -> String {
    let error = result.map(|built| built.facts).expect_err("this is not refused");
    assert_eq!(error.kind(), kind, "{error}");
    error.to_string()
}

fn names(names: &[&str]) -> Arc<Tree> {
    texts(&listing(names.iter().map(|name| (*name, b"x".to_vec()))))
}

#[test]
fn forbidden_names_are_told_with_the_rule() {
    for (name, rule) in [
        ("/d/a:b", "a name must not hold `:`"),
        ("/d/what?", "a name must not hold `?`"),
        ("/d/back\\slash", "a name must not hold `\\`"),
        ("/d/a\u{1}b", "a name must not hold control characters"),
        ("/d/dot.", "a name must not end in a dot"),
        ("/d/space ", "a name must not end in a space"),
        ("/d./f", "a name must not end in a dot"),
    ] {
        let message = refused(fat::build(&names(&[name]), &fixed(MIB)), Kind::Capacity);
        let path = if name.starts_with("/d.") { "/d." } else { name };
        let shown = path.replace('\u{1}', "\\x01");
        assert!(message.starts_with(&format!("FAT forbids a name\n  at {shown}\n")), "{message}");
        assert!(message.contains(&format!("because: {rule}")), "{message}");
    }
    let mut builder = Builder::new(Time::default());
    let origin = builder.origin("test");
    builder.text(b"/d/\xff\xfe", *b"", meta(0o644), origin).unwrap();
    let tree = Arc::new(builder.finish(1).unwrap());
    assert_eq!(
        refused(fat::build(&tree, &fixed(MIB)), Kind::Capacity),
        "FAT forbids a name\n  at /d/\\xff\\xfe\n  because: a name must be UTF-8"
    );
}

#[test]
fn names_that_differ_only_in_case_are_both_told() {
    for (one, other) in
        [("/d/README", "/d/ReadMe"), ("/d/GRÜN", "/d/grün"), ("/D", "/d"), ("/x.TXT", "/x.txt")]
    {
        let message = refused(fat::build(&names(&[one, other]), &fixed(MIB)), Kind::Capacity);
        assert!(
            message.starts_with(&format!("FAT takes two names for the same\n  at {one}\n  at {other}\n")),
            "{message}"
        );
    }
    // The same name in two directories is not a conflict.
    fat::build(&names(&["/a/x", "/b/X"]), &fixed(MIB)).unwrap();
}

#[test]
fn what_is_neither_file_nor_directory_is_told() {
    let nodes = [
        ("character device", Content::CharacterDevice { device: (5, 1) }),
        ("block device", Content::BlockDevice { device: (8, 0) }),
        ("named pipe", Content::Fifo),
        ("socket", Content::Socket),
    ];
    for (what, content) in nodes {
        let mut builder = Builder::new(Time::default());
        let origin = builder.origin("test");
        builder.put(b"/dev/node", meta(0o600), content, origin).unwrap();
        let tree = Arc::new(builder.finish(1).unwrap());
        let message = refused(fat::build(&tree, &fixed(MIB)), Kind::Capacity);
        assert!(message.starts_with(&format!("FAT cannot hold a {what}\n  at /dev/node\n")), "{message}");
    }
    let mut builder = Builder::new(Time::default());
    let origin = builder.origin("test");
    builder.symlink(b"/a/link", b"../target", meta(0o777), origin).unwrap();
    let tree = Arc::new(builder.finish(1).unwrap());
    let message = refused(fat::build(&tree, &fixed(MIB)), Kind::Capacity);
    assert!(message.starts_with("FAT cannot hold a symbolic link\n  at /a/link\n"), "{message}");
    assert!(message.contains("found: a link to ../target"), "{message}");
}

/// A second name of a link is a link too, and is found by the first.
#[test]
fn a_hard_link_to_a_symbolic_link_is_told() {
    let host = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("nowhere", host.path().join("a")).unwrap();
    std::fs::hard_link(host.path().join("a"), host.path().join("b")).unwrap();
    let message =
        refused(fat::build(&scanned(host.path(), Hardlinks::Preserve), &fixed(MIB)), Kind::Capacity);
    assert!(message.starts_with("FAT cannot hold a symbolic link\n  at /a\n"), "{message}");
}

#[test]
fn a_file_of_four_gib_is_told() {
    let host = tempfile::tempdir().unwrap();
    std::fs::create_dir(host.path().join("d")).unwrap();
    std::fs::File::create_new(host.path().join("d/large")).unwrap().set_len(4 * GIB + 9).unwrap();
    let tree = scanned(host.path(), Hardlinks::Preserve);
    let message = refused(fat::build(&tree, &fixed(16 * GIB)), Kind::Capacity);
    assert!(message.starts_with("FAT cannot hold a file of 4 GiB\n  at /d/large\n"), "{message}");
    assert!(message.contains("found: 4294967305 bytes, 10 too many"), "{message}");
}

#[test]
fn a_directory_of_too_many_entries_is_told() {
    let many =
        |count: u32| texts(&listing((0..count).map(|number| (format!("/D/name {number}"), Vec::new()))));
    let message = refused(fat::build(&many(32_767), &fixed(600 * MIB)), Kind::Capacity);
    assert!(message.starts_with("FAT cannot hold so large a directory\n  at /D\n"), "{message}");
    assert!(message.contains("at most 65535 entries"), "{message}");
    assert!(message.contains("found: 65536 entries for 32767 names"), "{message}");
    fat::build(&many(32_766), &fixed(600 * MIB)).unwrap();
}

#[test]
fn a_root_directory_that_only_fat32_holds_is_told() {
    let tree = texts(&listing((0..33_000).map(|number| (format!("/{number}"), Vec::new()))));
    for options in [fixed(64 * MIB), fat::Options { fat: Some(FatType::Fat16), ..fat::Options::default() }] {
        let message = refused(fat::build(&tree, &options), Kind::Capacity);
        assert!(
            message.starts_with("the root directory of FAT12 and FAT16 cannot hold its names"),
            "{message}"
        );
        assert!(
            message.contains("at most 32768 entries") && message.contains("found: 33000 entries"),
            "{message}"
        );
    }
}

#[test]
fn contents_that_do_not_fit_are_told_by_how_much_and_which_are_large() {
    let tree = texts(&listing([
        ("/large", noise(1, 3_000_000)),
        ("/d/middle", noise(2, 500_000)),
        ("/small", noise(3, 1000)),
        ("/tiny", noise(4, 10)),
    ]));
    assert_eq!(
        refused(fat::build(&tree, &fixed(2 * MIB)), Kind::Capacity),
        "the contents do not fit the FAT12 filesystem: 1.3 MiB too much\n  \
         expected: at most 1.9 MiB in 1014 clusters of 2048 bytes\n  \
         found: 3.3 MiB in 1713 clusters of 2048 bytes; the largest files are /large (2.8 MiB), /d/middle (488.2 KiB), /small (1000 \
         bytes)\n  \
         hint: write 4MiB; the smallest size that holds them is 3.3 MiB (3538944 bytes), which `auto` finds"
    );
    // The size in the hint suffices, and no smaller one does.
    fat::build(&tree, &fixed(4 * MIB)).unwrap();
    fat::build(&tree, &fixed(3456 * KIB)).unwrap();
    refused(fat::build(&tree, &fixed(3456 * KIB - 1)), Kind::Capacity);
}

#[test]
fn types_and_sizes_that_do_not_go_together_are_told() {
    for (fat, size, what, range) in [
        (FatType::Fat12, 300 * MIB, "too many clusters for FAT12", "1 to 4084 clusters"),
        (FatType::Fat16, 4 * MIB, "too few clusters for FAT16", "4087 to 65524 clusters"),
        (FatType::Fat32, 32 * MIB, "too few clusters for FAT32", "65525 to 268435446 clusters"),
        (FatType::Fat16, 5 * GIB, "too many clusters for FAT16", "4087 to 65524 clusters"),
    ] {
        let message =
            refused(fat::build(&nothing(), &fat::Options { fat: Some(fat), ..fixed(size) }), Kind::Capacity);
        assert!(
            message.starts_with(&format!("a filesystem of {} has {what}\n", Bytes::new(size))),
            "{message}"
        );
        assert!(message.contains(&format!("expected: {range}")), "{message}");
        assert!(message.contains("found: ") && message.contains("the smallest size"), "{message}");
    }
    let clusters =
        |fat, sectors, size| fat::Options { fat, sectors_per_cluster: Some(sectors), ..fixed(size) };
    for (options, what) in [
        (clusters(None, 1, 100 * MIB), "too many clusters for FAT16"),
        (clusters(None, 128, 600 * MIB), "too few clusters for FAT32"),
        (clusters(Some(FatType::Fat32), 1, 200 * GIB), "too many clusters for FAT32"),
    ] {
        let message = refused(fat::build(&nothing(), &options), Kind::Capacity);
        assert!(message.contains(what), "{message}");
    }
}

#[test]
fn contents_beyond_a_type_are_told_without_a_size() {
    let host = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        std::fs::File::create_new(host.path().join(name)).unwrap().set_len(3 * GIB).unwrap();
    }
    let tree = scanned(host.path(), Hardlinks::Preserve);
    let options = fat::Options { fat: Some(FatType::Fat16), ..fat::Options::default() };
    let message = refused(fat::build(&tree, &options), Kind::Capacity);
    assert!(
        message.starts_with("the contents have too many clusters for FAT16: 2.0 GiB too much\n"),
        "{message}"
    );
    assert!(message.contains("98304 clusters of 65536 bytes"), "{message}");
    assert!(message.contains("/a (3 GiB), /b (3 GiB)"), "{message}");
    let options = fat::Options { free: Bytes::new(3 * TIB), ..fat::Options::default() };
    let message = refused(fat::build(&tree, &options), Kind::Capacity);
    assert!(message.starts_with("the contents are too large for FAT"), "{message}");
    assert!(message.contains("4294967295 sectors of 512 bytes"), "{message}");
}

#[test]
fn volumes_beyond_the_limits_are_told() {
    let message = refused(fat::build(&nothing(), &fixed(2 * TIB + 64 * KIB)), Kind::Capacity);
    assert!(message.starts_with("a FAT filesystem of 2147483712KiB is too large\n"), "{message}");
    assert!(message.contains("at most 4294967295 sectors of 512 bytes"), "{message}");
    fat::build(&nothing(), &fat::Options { sector_size: 4096, ..fixed(2 * TIB + 64 * KIB) }).unwrap();
    for size in [0, 1, 511, 40 * KIB] {
        let message = refused(fat::build(&nothing(), &fixed(size)), Kind::Capacity);
        assert!(message.contains("is too small\n"), "{message}");
        assert!(message.contains("50KiB is the smallest size"), "{message}");
    }
}

#[test]
fn impossible_labels_are_told() {
    for (label, rule) in [
        ("TWELVE BYTES", "the label is a field of 11 bytes"),
        ("GRÜN", "bytes outside ASCII"),
        (" LEADING", "must not start with a space"),
        ("A\tB", "must not hold control characters"),
        ("A.B", "must not hold any of"),
        ("A+B", "must not hold any of"),
        ("A\"B", "must not hold any of"),
    ] {
        let options = fat::Options { label: Some(label.into()), ..fixed(MIB) };
        let message = refused(fat::build(&nothing(), &options), Kind::Manifest);
        assert!(message.starts_with("FAT forbids the label `") && message.contains(rule), "{message}");
        // `mkfs.fat` refuses it too.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let (good, said) = run(tool("mkfs.fat").args(["-C", "-n", label]).arg(path).arg("1024"));
        assert!(!good, "{label}: {said}");
    }
    for label in ["ELEVEN BYTE", "A B", "A-B_C", "$%'@~`!(){", "}^#&"] {
        let options = fat::Options { label: Some(label.into()), ..fixed(MIB) };
        judge(&poured(&fat::build(&nothing(), &options).unwrap(), 1), &Listing::new()).unwrap();
    }
}

#[test]
fn impossible_sectors_and_clusters_are_told() {
    for sector_size in [0, 1, 1000, 8192] {
        let message =
            refused(fat::build(&nothing(), &fat::Options { sector_size, ..fixed(MIB) }), Kind::Manifest);
        assert!(message.contains("expected: 512, 1024, 2048 or 4096 bytes"), "{message}");
    }
    for (sectors, rule) in [
        (0, "expected: 1, 2, 4, … 128 sectors"),
        (3, "expected: a power of two up to 128"),
        (255, "expected: a power of two up to 128"),
    ] {
        let options =
            fat::Options { sectors_per_cluster: Some(sectors), size: Size::Auto, ..fat::Options::default() };
        let message = refused(fat::build(&nothing(), &options), Kind::Manifest);
        assert!(message.contains(rule), "{message}");
    }
}
