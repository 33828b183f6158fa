//! Damage that the reader has to see, each kind of it once; and images of mksquashfs, which has what is not written here.

use std::os::unix::fs::FileExt;
use std::path::Path;

use diskwright::filesystem::Fault;

use super::{ALL, made};
use crate::read::{assert_clean, opened, remarks, slice, view};
use crate::support::compare::assert_same;
use crate::support::left_out;
use crate::support::program::mkfs_squashfs;
use crate::support::snapshot::Snapshot;
use crate::support::squashfs::kept;
use crate::support::tools::{command, must, scratch};
use crate::support::tree;

/// An image whose metadata is not compressed, so that it can be changed: a file with two names, a directory with an index.
fn sample(folder: &Path, compress: &str) -> Vec<u8> {
    let (source, image) = made(folder, |maker| {
        maker.directory("d").file("a", vec![b'a'; 300_000]).link("a", "b").file("c", "small");
        for number in 0..700 {
            maker.file(format!("d/{number:020}"), "");
        }
        maker.xattr("c", "user.name", "value");
    });
    mkfs_squashfs(&source, &image, &["--compress", compress, "--chunk", "4KiB"]);
    assert_clean(&image);
    std::fs::read(image).unwrap()
}

/// What is said of an image with these bytes, as one text.
fn said(folder: &Path, bytes: &[u8]) -> (Vec<Fault>, String) {
    let image = folder.join("changed.img");
    std::fs::write(&image, bytes).unwrap();
    match diskwright::filesystem::open(&slice(&image)) {
        Err(error) => (Vec::new(), error.to_string()),
        Ok(volume) => {
            let found = remarks(&*volume.unwrap());
            (
                found.iter().map(|remark| remark.fault).collect(),
                found.iter().map(|remark| format!("{remark}\n")).collect(),
            )
        }
    }
}

/// The first place of `pattern`.
fn find(bytes: &[u8], pattern: &[u8]) -> usize {
    bytes.windows(pattern.len()).position(|window| window == pattern).unwrap()
}

#[test]
fn each_kind_of_damage_is_seen() {
    let folder = scratch();
    let good = sample(folder.path(), "none");
    assert_eq!(said(folder.path(), &good), (Vec::new(), String::new()));
    // The inode of `c`: a long file of 5 bytes with mode 0644, whose number is in the export table.
    let number = |at: usize| u64::from_le_bytes(good[at..at + 8].try_into().unwrap());
    let place = |at: usize| usize::try_from(number(at)).unwrap();
    let (inodes, exports) = (place(64), place(place(88)));
    let small = find(&good, b"small");
    let name = find(&good, b"00000000000000000300");
    let entry = name - 8;
    let index = find(&good[inodes..], b"00000000000000000") + inodes;
    for (what, at, byte, words) in [
        ("the count of inodes", 4, good[4] ^ 1, "inodes"),
        ("the count of owners", 26, 0, "there are no owners"),
        ("the version", 28, 3, "s_major"),
        ("the size of blocks", 12, 1, "the size of its blocks cannot be"),
        ("the compressor", 20, 7, "compressor 7"),
        ("a mode with a type", inodes + 2 + 3, good[inodes + 5] | 0x80, "bits that are none of permissions"),
        ("a type", inodes + 2, 15, "an inode is of no type"),
        ("a number in the export table", exports + 2, good[exports + 2] ^ 1, "its number leads to"),
        ("a name out of order", name, b'1', "not sorted"),
        ("a name with a slash", name, b'/', "a name in it is none"),
        ("the type in an entry", entry + 4, 1, "its inode is of another type than its name says"),
        ("the number in an entry", entry + 2, good[entry + 2] ^ 1, "number"),
        ("the place in an entry", entry, good[entry] ^ 1, "inode"),
        ("the name in an index", index, b'1', "leads to no run"),
        ("where owners are", 48, good[48] ^ 8, ""),
    ] {
        let mut bytes = good.clone();
        bytes[at] = byte;
        let (faults, text) = said(folder.path(), &bytes);
        assert!(text.contains(words) && !text.is_empty(), "{what}: no `{words}` in {faults:?}\n{text}");
    }
    // What is not summed is not seen: a byte of a file.
    let mut bytes = good.clone();
    bytes[small] = b'S';
    assert_eq!(said(folder.path(), &bytes).0, []);
}

/// The compressor tells of damage in data and metadata.
#[test]
fn damage_of_compressed_blocks_is_seen() {
    let folder = scratch();
    for compress in ["zstd", "gzip", "xz"] {
        let good = sample(folder.path(), compress);
        let data = 96 + usize::from(good[24 + 1] & 4 != 0) * if compress == "gzip" { 10 } else { 6 };
        let inodes = usize::try_from(u64::from_le_bytes(good[64..72].try_into().unwrap())).unwrap();
        for at in [data + 4, inodes + 6] {
            let mut bytes = good.clone();
            bytes[at] ^= 0xff;
            let (_, text) = said(folder.path(), &bytes);
            assert!(!text.is_empty(), "{compress}: byte {at}");
        }
        let mut bytes = good.clone();
        bytes.truncate(inodes);
        assert!(said(folder.path(), &bytes).1.contains("longer than the space it is in"));
        std::fs::remove_dir_all(folder.path().join("source")).unwrap();
    }
}

/// What mksquashfs writes: values of attributes that stand elsewhere, tails of long files in fragments, other orders.
#[test]
fn images_of_mksquashfs_are_read() {
    left_out::need_root("attributes of the namespace trusted");
    let folder = scratch();
    let source = folder.path().join("source");
    tree::strange(&source, 2000, tree::Host::Linux);
    let mut maker = tree::Maker::new(&source);
    for number in 0..3 {
        let name = format!("attributes-{number}");
        maker.file(&name, tree::noise(number, 9000)).xattr(&name, "user.long", "v".repeat(2000));
        maker.xattr(&name, "trusted.t", "t");
    }
    // Files that begin with the blocks of another one, which mksquashfs finds with -tailends.
    let noise = tree::noise(9, 3 << 17);
    maker
        .file("begin-0", &noise)
        .file("begin-1", &noise[..1 << 17])
        .file("begin-2", [&noise[..1 << 18], b"x"].concat());
    maker.finish();
    let expected = kept(Snapshot::of(&source));
    for (number, arguments) in [
        &["-comp", "zstd"][..],
        &["-comp", "gzip", "-always-use-fragments", "-b", "4096"],
        &["-comp", "xz", "-b", "8192", "-Xbcj", "x86"],
        &["-comp", "lz4", "-Xhc"],
        &["-comp", "lzo", "-Xalgorithm", "lzo1x_1_15"],
        &["-comp", "lzo", "-b", "1M"],
        &["-comp", "lzma", "-b", "64K"],
        &["-tailends"],
        &["-tailends", "-b", "4096"],
        &["-noI", "-noD", "-noF", "-noX", "-no-exports", "-no-duplicates"],
        &["-comp", "zstd", "-no-fragments", "-b", "1M"],
    ]
    .into_iter()
    .enumerate()
    {
        let image = folder.path().join(format!("{number}.img"));
        must(command("mksquashfs").arg(&source).arg(&image).args(["-no-progress", "-quiet"]).args(arguments));
        let found = view(&*opened(&image)).unwrap();
        assert_same("the reader", &expected, &found, &ALL);
        assert_clean(&image);
        std::fs::remove_file(&image).unwrap();
    }
}

/// A few changed bytes of many images are no danger: see `read::hostile`; here those that say how much there is.
#[test]
fn numbers_that_are_too_large_take_no_memory() {
    let folder = scratch();
    let good = sample(folder.path(), "none");
    let path = folder.path().join("changed.img");
    let inodes = usize::try_from(u64::from_le_bytes(good[64..72].try_into().unwrap())).unwrap();
    for at in [4, 16, 26, 40, 48, 56, 64, 72, 80, 88, inodes + 2 + 16, inodes + 2 + 24, inodes + 2 + 28] {
        for value in [u32::MAX, 0x7fff_ffff, 1 << 20] {
            std::fs::write(&path, &good).unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.write_all_at(&value.to_le_bytes(), u64::try_from(at).unwrap()).unwrap();
            if let Ok(Some(volume)) = diskwright::filesystem::open(&slice(&path)) {
                let _ = view(&*volume);
                let _ = remarks(&*volume);
            }
        }
    }
}
