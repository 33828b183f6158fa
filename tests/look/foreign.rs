//! Images of foreign tools: what is in order is read and nothing is found in it, and what they report of one damaged field
//! is reported too.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::support::debugfs::{damage, debugfs};
use crate::support::program::{diskwright, mkfs_erofs, mkfs_ext4, mkfs_vfat};
use crate::support::tools::{Said, command, must, run, scratch};
use crate::support::tree::{self, Maker};

fn check(image: &Path) -> Said {
    run(diskwright().arg("check").arg(image))
}

fn clean(image: &Path, name: &str) {
    let said = check(image);
    assert_eq!((said.code, said.text().as_str(), said.error().as_str()), (0, "", ""), "{name}");
}

/// A copy with other bytes at one place; the judge reports it, and so do we, with these words.
fn both_find(image: &Path, (at, bytes): (u64, &[u8]), judge: &[&str], theirs: &str, ours: &str) {
    let other = image.with_extension("damaged");
    must(command("cp").arg("--sparse=always").arg(image).arg(&other));
    File::options().write(true).open(&other).unwrap().write_all_at(bytes, at).unwrap();
    both_find_in(&other, judge, theirs, ours);
}

fn both_find_in(image: &Path, judge: &[&str], theirs: &str, ours: &str) {
    let [program, arguments @ ..] = judge else { panic!("no judge") };
    let said = run(command(program).args(arguments).arg(image));
    let text = said.text() + &said.error();
    assert!(said.code != 0 && text.contains(theirs), "no `{theirs}` in {text}");
    let said = check(image);
    assert!(said.code == 1 && said.text().contains(ours), "no `{ours}` in {}{}", said.text(), said.error());
}

const E2FSCK: [&str; 2] = ["e2fsck", "-fn"];

/// Where an inode is.
fn inode(image: &Path, number: u32, block: u64) -> u64 {
    let text = debugfs(image, &format!("imap <{number}>\n")).text();
    let (_, place) = text.split_once("located at block ").expect("a place");
    let (at, offset) = place.trim().split_once(", offset 0x").expect("an offset");
    at.parse::<u64>().unwrap() * block + u64::from_str_radix(offset, 16).unwrap()
}

fn made(folder: &Path, fill: impl FnOnce(&mut Maker)) -> PathBuf {
    let source = folder.join("source");
    let mut maker = Maker::new(&source);
    fill(&mut maker);
    maker.finish();
    source
}

fn mke2fs(image: &Path, form: &str, source: &Path) {
    must(
        command("mke2fs")
            .args(["-q", "-F"])
            .args(form.split(' '))
            .arg("-d")
            .arg(source)
            .arg(image)
            .arg("16M"),
    );
}

/// mke2fs does not store the zeros at the end of a file that is in its inode.
#[test]
fn data_in_an_inode_end_in_zeros_that_are_not_stored() {
    let folder = scratch();
    let source = made(folder.path(), |maker| {
        maker.sparse("zeros", 100, &[]).file("text", "some bytes");
    });
    let image = folder.path().join("image.ext4");
    mke2fs(&image, "-t ext4 -O inline_data", &source);
    clean(&image, "inline_data");
    let read = |path: &str| must(diskwright().arg("cat").arg(format!("{}:{path}", image.display()))).out;
    assert_eq!(read("/zeros"), [0; 100]);
    assert_eq!(read("/text"), b"some bytes");
    let out = folder.path().join("out");
    must(diskwright().arg("copy").arg(&image).arg(&out));
    assert_eq!(std::fs::read(out.join("zeros")).unwrap(), [0; 100]);
}

/// A file that cannot be read is named by all that read many files.
#[test]
fn the_file_that_cannot_be_read_is_named() {
    let folder = scratch();
    let source = made(folder.path(), |maker| {
        maker.directory("d").file("d/bad", vec![7; 9000]).file("d/good", "good");
    });
    let image = folder.path().join("image.ext4");
    mke2fs(&image, "-t ext4 -O ^metadata_csum", &source);
    damage(&image, "sif /d/bad block[0] 0x1234\n");
    let image = image.display().to_string();
    for arguments in [
        &["copy", &format!("{image}:/"), folder.path().join("one").to_str().unwrap()][..],
        &["copy", &format!("{image}:/d"), folder.path().join("two").to_str().unwrap()],
        &["copy", &format!("{image}:/d"), "--tar"],
    ] {
        let said = run(diskwright().args(arguments));
        assert!(said.code == 1 && said.error().contains("at /d/bad\n"), "{arguments:?}: {}", said.error());
    }
    let said = run(diskwright().arg("diff").arg(&image).arg(&source));
    assert!(said.code == 2 && said.error().contains("at /d/bad\n"), "{}", said.error());
}

/// A VHDX has free space between its objects: qemu-img leaves some, as fixed ones do where nothing is stored.
#[test]
fn nothing_is_found_in_a_vhdx_of_qemu() {
    let folder = scratch();
    let raw = folder.path().join("raw.img");
    tree::plain(&folder.path().join("source"));
    mkfs_ext4(&folder.path().join("source"), &raw, &["--size", "64MiB"]);
    let image = folder.path().join("image.vhdx");
    for options in ["subformat=fixed", "block_size=1M", "subformat=dynamic"] {
        must(command("qemu-img").args(["create", "-q", "-f", "vhdx", "-o", options]).arg(&image).arg("64M"));
        clean(&image, options);
        must(command("qemu-img").args(["convert", "-O", "vhdx", "-o", options]).arg(&raw).arg(&image));
        clean(&image, options);
    }
}

/// The checksums of reserved and of deleted inodes, and what stands behind the bits of an inode bitmap.
#[test]
fn what_is_not_in_use_is_looked_at_too() {
    let folder = scratch();
    let source = made(folder.path(), |maker| {
        maker.file("one", "1").file("two", "2");
    });
    let image = folder.path().join("image.ext4");
    mkfs_ext4(&source, &image, &[]);
    for number in [5, 6, 9, 10] {
        let at = inode(&image, number, 4096);
        let theirs = format!("Inode {number} passes checks, but checksum does not match inode");
        let ours = format!("inode {number}: its checksum is wrong");
        both_find(&image, (at + 100, b"X"), &E2FSCK, &theirs, &ours);
    }
    let text = must(command("dumpe2fs").arg(&image)).text();
    let (_, place) = text.split_once("Inode bitmap at ").expect("a bitmap");
    let block: u64 = place.split([' ', '-']).next().unwrap().parse().unwrap();
    let last = (block * 4096 + 4095, &[0][..]);
    both_find(
        &image,
        last,
        &E2FSCK,
        "Padding at end of inode bitmap is not set",
        "its inode bitmap is not padded",
    );
    damage(&image, "rm one\n");
    clean(&image, "a deleted file");
    let at = inode(&image, 12, 4096);
    let ours = "inode 12: it is not in use, and its checksum is wrong";
    both_find(&image, (at + 40, b"X"), &E2FSCK, "Inode 12 passes checks, but checksum", ours);
    // Nothing was ever written to this one, so its bytes say nothing.
    let other = folder.path().join("other.ext4");
    std::fs::copy(&image, &other).unwrap();
    let file = File::options().write(true).open(&other).unwrap();
    file.write_all_at(b"X", inode(&image, 20, 4096) + 40).unwrap();
    assert_eq!(run(command("e2fsck").args(["-fn"]).arg(&other)).code, 0);
    clean(&other, "an inode that was never written");
}

/// One field of an inode each that only checksums protect elsewhere.
#[test]
fn fields_of_an_inode_without_a_checksum() {
    let folder = scratch();
    let source = made(folder.path(), |maker| {
        maker.directory("d").file("f", vec![1; 1024]);
    });
    let image = folder.path().join("image.ext2");
    mke2fs(&image, "-t ext2 -b 1024 -O ^large_file", &source);
    clean(&image, "ext2");
    for (command, theirs, ours) in [
        ("sif /f faddr 1", "i_faddr", "its i_faddr is not 0"),
        ("sif /f blocks_hi 4", "i_blocks_hi", "its i_blocks_hi is not 0"),
        ("sif /f size 0x80000000", "lacks LARGE_FILE", "the superblock lacks large_file"),
    ] {
        let other = image.with_extension("damaged");
        std::fs::copy(&image, &other).unwrap();
        damage(&other, &format!("{command}\n"));
        both_find_in(&other, &E2FSCK, theirs, ours);
    }
    // i_size_high, at byte 0x6c of an inode.
    let high = |path: &str| {
        let text = debugfs(&image, &format!("stat {path}\n")).text();
        let number = text.split_once("Inode: ").expect("a number").1.split_whitespace().next().unwrap();
        inode(&image, number.parse().unwrap(), 1024) + 0x6c
    };
    let theirs = "i_size is 549755814912, should be";
    both_find(
        &image,
        (high("/f"), &[128]),
        &E2FSCK,
        theirs,
        "it has 549755814912 bytes, and cannot have more",
    );
    both_find(&image, (high("/d"), &[1]), &E2FSCK, "", "its i_size_high is not 0");
}

#[test]
fn short_names_of_fat_have_no_control_characters() {
    let folder = scratch();
    let source = made(folder.path(), |maker| {
        maker.file("NAME.7", "7").file("a long name", "l");
    });
    let image = folder.path().join("image.fat");
    mkfs_vfat(&source, &image, &["--size", "8MiB"]);
    let bytes = std::fs::read(&image).unwrap();
    let at = bytes.windows(11).position(|name| name == b"NAME    7  ").expect("a name");
    let at = u64::try_from(at).unwrap();
    let judge = ["fsck.fat", "-n"];
    for (offset, byte) in [(2, b"\x11"), (2, b"\x7f"), (9, b"\x01"), (1, b"*"), (0, b" ")] {
        both_find(
            &image,
            (at + offset, byte),
            &judge,
            "Bad short file name",
            "has characters that none can have",
        );
    }
    for (offset, byte) in [(2, b"+"), (0, b"\x05"), (2, b" "), (2, b"\x80")] {
        let other = image.with_extension("damaged");
        std::fs::copy(&image, &other).unwrap();
        File::options().write(true).open(&other).unwrap().write_all_at(byte, at + offset).unwrap();
        clean(&other, "a strange name");
    }
}

/// Linux reads any number of tables, and mkfs.fat makes up to four. fsck.fat reads two.
#[test]
fn fat_may_have_four_tables() {
    let folder = scratch();
    let image = folder.path().join("image.fat");
    for number in ["1", "3", "4"] {
        File::create(&image).unwrap().set_len(16 << 20).unwrap();
        must(command("mkfs.fat").args(["-f", number]).arg(&image));
        must(command("mcopy").arg("-i").arg(&image).args(["/etc/hostname", "::name"]));
        clean(&image, number);
        let said = must(diskwright().arg("cat").arg(format!("{}:/name", image.display())));
        assert_eq!(said.out, std::fs::read("/etc/hostname").unwrap());
    }
    // The last table counts as the others do.
    let bytes = std::fs::read(&image).unwrap();
    let word = |at: usize| u64::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let last = (word(14) + 3 * word(22)) * word(11) + 3;
    File::options().write(true).open(&image).unwrap().write_all_at(&[0], last).unwrap();
    let said = check(&image);
    assert!(said.code == 1 && said.text().contains("copy 4 differs from the first one"), "{}", said.text());
}

/// What is compressed has no size but that of its inode.
#[test]
fn a_file_of_erofs_that_cannot_be_so_long() {
    let folder = scratch();
    let source = made(folder.path(), |maker| {
        maker.file("text", "a line of text\n".repeat(9000));
    });
    let image = folder.path().join("image.erofs");
    for form in
        ["-Enosbcrc,force-inode-extended,fragments,dedupe,ztailpacking", "-Enosbcrc,force-inode-extended"]
    {
        let _ = std::fs::remove_file(&image);
        must(command("mkfs.erofs").args(["-zlz4hc", form]).arg(&image).arg(&source));
        clean(&image, form);
        // The size of its inode, which nothing else is like.
        let bytes = std::fs::read(&image).unwrap();
        let length = 135_000_u64.to_le_bytes();
        let size = bytes.windows(8).position(|window| window == length).expect("an inode");
        let size = u64::try_from(size).unwrap();
        both_find(&image, (size + 5, &[2]), &["fsck.erofs", "--extract"], "", "an inode is wrong: ");
    }
}

/// Labels of the host are compared on neither side.
#[test]
fn attributes_that_label_the_host_are_not_compared_with_a_folder() {
    crate::support::left_out::need_root("trusted attributes");
    let folder = scratch();
    let source = made(folder.path(), |maker| {
        maker.file("f", "f").xattr("f", "trusted.t", b"2").xattr("f", "user.u", b"1");
    });
    let image = folder.path().join("image.erofs");
    mkfs_erofs(&source, &image, &["--xattrs", "*", "--owner", "preserve"]);
    let said = run(diskwright().arg("diff").arg(&image).arg(&source));
    assert_eq!((said.code, said.text().as_str()), (0, ""), "{}", said.error());
}

/// MicroLZMA, by mkfs.erofs 1.9.4; that of Debian 12 has none.
#[test]
fn erofs_with_lzma_is_read() {
    let image = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/erofs/lzma");
    let text: String =
        (0..2000).map(|n| format!("line {n} of a text that is compressed: {}\n", n * n)).collect();
    let runs = [vec![0; 30_000], b"ab".repeat(20_000)].concat();
    for (name, expected) in [("text", text.into_bytes()), ("runs", runs), ("short", b"short".to_vec())] {
        let said = must(diskwright().arg("cat").arg(format!("{}:/{name}", image.display())));
        assert!(said.out == expected, "{name}");
    }
    clean(&image, "lzma");
    // A changed byte of a piece is no danger, and seldom the same text.
    let folder = scratch();
    let changed = folder.path().join("changed");
    let good = std::fs::read(&image).unwrap();
    let mut faults = 0;
    for at in (4096..good.len()).step_by(97) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x11;
        std::fs::write(&changed, bytes).unwrap();
        let said = run(diskwright().arg("cat").arg(format!("{}:/text", changed.display())));
        assert!(said.code == 0 || said.code == 1, "{at}: {}", said.error());
        faults += i32::from(said.code == 1);
    }
    assert!(faults > 0);
}
