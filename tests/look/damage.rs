//! `check` on what is behind the first structures: checksums of a journal, snapshots and bitmaps of a qcow2, compressed data,
//! tables that no inode leads to, items of metadata.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::support::debugfs::debugfs;
use crate::support::program::{build, diskwright, mkfs_erofs, mkfs_squashfs, project};
use crate::support::tools::{command, must, run, scratch};
use crate::support::tree;

fn findings(image: &Path) -> String {
    let said = run(diskwright().arg("check").arg(image));
    said.text() + &said.error()
}

fn clean(image: &Path) {
    let said = run(diskwright().arg("check").arg(image));
    assert_eq!((said.code, said.text().as_str()), (0, ""), "{}", said.error());
}

/// A copy with other bytes at one place.
fn damaged(image: &Path, at: u64, bytes: &[u8]) -> PathBuf {
    let other = image.with_extension("damaged");
    must(command("cp").arg("--sparse=always").arg(image).arg(&other));
    File::options().write(true).open(&other).unwrap().write_all_at(bytes, at).unwrap();
    other
}

fn number(image: &Path, at: u64, length: usize, big: bool) -> u64 {
    let mut bytes = [0; 8];
    File::open(image).unwrap().read_exact_at(&mut bytes[..length], at).unwrap();
    if big { u64::from_be_bytes(bytes) >> (64 - 8 * length) } else { u64::from_le_bytes(bytes) }
}

/// Where bytes are in a file.
fn find(image: &Path, bytes: &[u8]) -> u64 {
    let all = std::fs::read(image).unwrap();
    let at = all.windows(bytes.len()).position(|window| window == bytes);
    u64::try_from(at.unwrap_or_else(|| panic!("no {bytes:?} in {}", image.display()))).unwrap()
}

/// A journal with checksums that holds a transaction, by debugfs. e2fsck looks at its blocks when it replays them.
#[test]
fn checksums_of_a_journal() {
    let folder = scratch();
    let image = folder.path().join("image.ext4");
    must(command("mke2fs").args(["-q", "-t", "ext4", "-b", "4096"]).arg(&image).arg("32M"));
    crate::support::debugfs::damage(&image, "jo -c -v 3\njw -b 900 /dev/zero\njw -r 901\njc\n");
    let block = |number: u32| -> u64 {
        let text = debugfs(&image, &format!("bmap <8> {number}\n")).text();
        text.lines().last().unwrap().trim().parse::<u64>().unwrap() * 4096
    };
    let whole = findings(&image);
    assert!(whole.contains("needs_recovery") && !whole.contains("checksum"), "{whole}");
    for (at, words, ours) in [
        (
            block(0) + 0x1b,
            "Journal superblock is corrupt",
            "journal: the checksum of its superblock is wrong",
        ),
        (block(1) + 100, "Journal checksum error", "journal: its block 1 has a wrong checksum"),
        (
            block(2) + 100,
            "Invalid checksum recovering data block 900",
            "journal: its block 2, a copy of block 900 by transaction 1",
        ),
        (block(3) + 100, "was corrupt", "journal: its block 3 has a wrong checksum"),
    ] {
        let other = damaged(&image, at, b"X");
        assert!(findings(&other).contains(ours), "no `{ours}` in {}", findings(&other));
        let said = run(command("e2fsck").arg("-fy").arg(&other));
        let theirs = said.text() + &said.error();
        assert!(theirs.contains(words), "no `{words}` in {theirs}");
    }
}

fn qemu_finds(image: &Path) -> bool {
    run(command("qemu-img").args(["check", "-f", "qcow2"]).arg(image)).code != 0
}

#[test]
fn snapshots_and_bitmaps_of_a_qcow2() {
    let folder = scratch();
    let image = folder.path().join("disk.qcow2");
    let qemu = |arguments: &[&str]| must(command("qemu-img").args(arguments).arg(&image));
    let write = |what: &str| {
        must(command("qemu-io").args(["-f", "qcow2", "-c", what]).arg(&image));
    };
    must(command("qemu-img").args(["create", "-f", "qcow2"]).arg(&image).arg("64M"));
    write("write -P 1 0 1M");
    qemu(&["snapshot", "-c", "one"]);
    write("write -P 2 512k 1M");
    qemu(&["snapshot", "-c", "two"]);
    write("write -P 3 40M 64k");
    must(command("qemu-img").args(["bitmap", "--add", "--enable"]).arg(&image).arg("changes"));
    write("write -P 4 0 64k");
    assert!(!qemu_finds(&image));
    // The disk has nothing that is known, which is the only remark.
    assert!(!findings(&image).contains("container: "), "{}", findings(&image));
    let word = |at: u64| number(&image, at, 8, true);
    let (table, snapshots) = (word(48), word(64));
    let block = word(table);
    let l1 = word(snapshots);
    let l2 = word(l1) & !(1 << 63);
    let shared = (word(l2) & !(1 << 63)) / 65536;
    let count = number(&image, block + shared * 2, 2, true);
    for (what, at, bytes, ours) in [
        ("a count that is too low", block + shared * 2, vec![0, 0], "has the refcount 0"),
        (
            "a leak of a snapshot",
            block + shared * 2,
            u16::try_from(count + 1).unwrap().to_be_bytes().to_vec(),
            "is leaked",
        ),
        ("a snapshot without its table", snapshots, vec![0; 8], "the L1 table of snapshot 0"),
        ("an L2 table that a snapshot loses", l1, vec![0; 8], "is leaked"),
    ] {
        let other = damaged(&image, at, &bytes);
        assert!(qemu_finds(&other), "{what}: qemu-img finds nothing");
        assert!(findings(&other).contains(ours), "{what}: no `{ours}` in {}", findings(&other));
    }
}

#[test]
fn compressed_data_of_erofs() {
    let folder = scratch();
    let source = folder.path().join("source");
    let text: String = (0..60_000).map(|number| format!("line {number}\n")).collect();
    tree::Maker::new(&source).file("text", text).file("other", "o").finish();
    for (compressor, judged) in [("lz4", true), ("zstd", false)] {
        let image = folder.path().join(format!("{compressor}.erofs"));
        mkfs_erofs(&source, &image, &["--compress", compressor]);
        clean(&image);
        // The first piece begins in the second block, behind the inodes, with zeros: it ends with a block.
        let begin = std::fs::read(&image).unwrap()[4096..].iter().position(|byte| *byte != 0).unwrap();
        let other = damaged(&image, 4096 + u64::try_from(begin).unwrap(), &[0xff; 64]);
        if judged {
            let said = run(command("fsck.erofs").arg("--extract").arg(&other));
            assert_ne!(said.code, 0, "{compressor}: fsck.erofs finds nothing");
        }
        let found = findings(&other);
        assert!(found.contains("a compressed piece "), "{compressor}: {found}");
        // An image that is cut off mounts, and is read until there.
        let file = File::options().write(true).open(&other).unwrap();
        file.set_len(std::fs::metadata(&image).unwrap().len() - 4096).unwrap();
        assert!(findings(&other).contains("it is cut off"), "{compressor}: {}", findings(&other));
    }
    // The checksum of the superblock is over the first inodes: entries of the root that are too long for its block keep it out.
    for number in 0..14 {
        std::fs::write(source.join(format!("u{number:02}{}", "u".repeat(200))), "").unwrap();
    }
    let plain = folder.path().join("plain.erofs");
    mkfs_erofs(&source, &plain, &[]);
    clean(&plain);
    // The root's inode: its number is in the superblock, and it is compact or extended. Its entries follow it.
    let root = number(&plain, 1024 + 40, 4, false) * 4096 + 32 * number(&plain, 1024 + 14, 2, false);
    let entries = root + if number(&plain, root, 2, false) & 1 == 0 { 32 } else { 64 };
    assert!(root >= 4096, "the root is beside the superblock");
    // Entries of 12 bytes are in front of the names.
    let names = find(&plain, b"...othertext");
    assert_eq!(names, entries + (4 + 14) * 12);
    let other = damaged(&plain, names + 3, b"z");
    assert!(findings(&other).contains("is out of order"), "{}", findings(&other));
    let other = damaged(&plain, entries + 2 * 12 + 10, &[7]);
    assert!(findings(&other).contains("has file type 7"), "{}", findings(&other));
}

#[test]
fn tables_of_squashfs_that_no_inode_leads_to() {
    let folder = scratch();
    let source = folder.path().join("source");
    tree::plain(&source);
    let image = folder.path().join("plain.squashfs");
    mkfs_squashfs(&source, &image, &["--compress", "none"]);
    clean(&image);
    let at = |field: u64| number(&image, field, 8, false);
    let (inodes, fragments) = (at(64), at(80));
    assert!(number(&image, 16, 4, false) > 0, "there are fragments");
    // The entry of a fragment, behind the length of its block: where it is.
    let fragment = number(&image, fragments, 8, false) + 2;
    let start = number(&image, fragment, 8, false);
    for (what, place, bytes, words) in [
        ("a fragment over the tables", fragment, inodes.to_le_bytes().to_vec(), "cannot be where it is"),
        ("a fragment over the superblock", fragment, 0_u64.to_le_bytes().to_vec(), "over the superblock"),
        ("a fragment over a file", fragment, (start - 1).to_le_bytes().to_vec(), "lie over those of"),
        ("a block of inodes that is too long", inodes, 0xffff_u16.to_le_bytes().to_vec(), "length cannot be"),
    ] {
        let other = damaged(&image, place, &bytes);
        assert!(findings(&other).contains(words), "{what}: no `{words}` in {}", findings(&other));
    }
}

#[test]
fn metadata_and_regions_of_a_vhdx() {
    let folder = scratch();
    let [gpt, _] = project(folder.path());
    let image = folder.path().join("disk.vhdx");
    build(&gpt, &image);
    clean(&image);
    let raw = folder.path().join("disk.img");
    build(&gpt, &raw);
    let theirs = folder.path().join("theirs.vhdx");
    must(command("qemu-img").args(["convert", "-O", "vhdx"]).arg(&raw).arg(&theirs));
    clean(&theirs);
    // The second entry of the region table is that of the metadata.
    let metadata = number(&image, (192 << 10) + 16 + 32 + 16, 8, false);
    let entry = |number: u64| metadata + 32 + 32 * number;
    for (place, bytes, words) in [
        (metadata + 8, vec![1], "the metadata table has 0x1 in Reserved"),
        (entry(0) + 28, vec![1], "File Parameters has 0x1 in Reserved2"),
        (entry(0) + 20, vec![9], "File Parameters has 9 bytes, and not 8"),
        (entry(1) + 24, vec![4], "Virtual Disk Size has the flags 0x4, and not 0x6"),
        (entry(2) + 16, vec![4], "the items of metadata"),
        ((64 << 10) + (64 << 10) + 4, vec![0xff], "the second header is damaged"),
    ] {
        let other = damaged(&image, place, &bytes);
        assert!(findings(&other).contains(words), "no `{words}` in {}", findings(&other));
    }
}
