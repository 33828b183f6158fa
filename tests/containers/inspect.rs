//! `inspect` beside the tools of each thing: blkid, dumpe2fs, qemu-img.

use std::path::Path;
use std::process::Command;

use diskwright::units::{MIB, TIB};
use serde_json::Value;

use crate::create::diskwright;
use crate::judge::{info, qemu_img};
use crate::tools::{command, must, scratch};

/// What `inspect` says of `path`.
fn inspect(path: &Path) -> Value {
    serde_json::from_str(&must(diskwright().args(["inspect", "--json"]).arg(path)).text()).unwrap()
}

/// What blkid says of one tag.
fn blkid(path: &Path, tag: &str) -> String {
    let output = command("blkid").args(["-p", "-o", "value", "-s", tag]).arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// An empty file of so many MiB.
fn file(folder: &Path, size: u64) -> std::path::PathBuf {
    let path = folder.join("disk.img");
    let _ = std::fs::remove_file(&path);
    std::fs::File::create(&path).unwrap().set_len(size * MIB).unwrap();
    path
}

#[test]
fn filesystems_of_others_are_what_blkid_says() {
    let folder = scratch();
    let made: [(u64, &str, &[&str]); 13] = [
        (4, "mkfs.fat", &["-F", "12"]),
        (4, "mkfs.fat", &["-F", "12", "-n", "LABEL"]),
        (20, "mkfs.fat", &["-F", "16"]),
        (20, "mkfs.fat", &["-F", "16", "-n", "A LABEL"]),
        (40, "mkfs.fat", &["-F", "32", "-n", "EFI"]),
        (40, "mkfs.fat", &["-F", "32"]),
        (8, "mke2fs", &["-q", "-t", "ext2", "-L", "two"]),
        (8, "mke2fs", &["-q", "-t", "ext3"]),
        (8, "mke2fs", &["-q", "-t", "ext4", "-L", "four", "-b", "1024"]),
        (8, "mke2fs", &["-q", "-O", "journal_dev"]),
        (8, "mkswap", &["-q", "-L", "swap"]),
        (400, "mkfs.xfs", &["-q", "-L", "xfs"]),
        (200, "mkfs.btrfs", &["-q", "-L", "btrfs"]),
    ];
    for (size, program, arguments) in made {
        let path = file(folder.path(), size);
        must(command(program).args(arguments).arg(&path));
        let name = format!("{program} {}", arguments.join(" "));
        let found = &inspect(&path)["filesystem"];
        assert_eq!(found["kind"], blkid(&path, "TYPE"), "{name}");
        assert_eq!(found["label"], blkid(&path, "LABEL"), "{name}");
        assert_eq!(found["uuid"], blkid(&path, "UUID"), "{name}");
    }
}

/// A label in the root directory takes precedence.
#[test]
fn the_label_of_a_fat_is_that_of_its_root() {
    let folder = scratch();
    for fat in ["12", "16", "32"] {
        let path = file(folder.path(), if fat == "12" { 4 } else { 40 });
        must(command("mkfs.fat").args(["-F", fat, "-n", "BOOT"]).arg(&path));
        must(command("mlabel").arg("-i").arg(&path).arg("::ROOT"));
        let at = if fat == "32" { 71 } else { 43 };
        let image = std::fs::File::options().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&image, b"NO NAME    ", at).unwrap();
        assert_eq!(inspect(&path)["filesystem"]["label"], "ROOT", "FAT{fat}");
        assert_eq!(blkid(&path, "LABEL"), "ROOT", "FAT{fat}");
    }
}

/// The occupied size is the disk size of qemu-img.
#[test]
fn the_real_size_is_that_of_qemu() {
    let folder = scratch();
    for (name, format) in [("a.vhd", "vpc"), ("a.qcow2", "qcow2"), ("a.img", "raw")] {
        let path = folder.path().join(name);
        let arguments: &[&str] = if format == "vpc" { &["--subformat", "fixed"] } else { &[] };
        must(diskwright().arg("create").arg(&path).args(["--size", "1TiB"]).args(arguments));
        let found = inspect(&path);
        assert_eq!(found["actual_size"], info(format, &path)["actual-size"], "{name}");
        assert!(found["actual_size"].as_u64().unwrap() < MIB, "{name}");
        assert_eq!(found["virtual_size"], TIB, "{name}");
        let text = must(diskwright().arg("inspect").arg(&path)).text();
        assert!(text.contains("on the host") && text.contains("virtual size"), "{text}");
    }
}

/// Thousands of partitions over one table of the largest size: inspect ends.
#[test]
fn a_table_that_is_looked_at_thousands_of_times() {
    let folder = scratch();
    let path = folder.path().join("hostile.img");
    let script = r#"
import struct, sys, zlib
count = 16384
size = 80 << 20
total = size // 512
entries = bytearray(count * 128)
for i in range(count):
    entries[i*128:i*128+56] = bytes(range(1, 17)) + struct.pack('<QQQQQ', 1, i + 1, 8192, total - 40, 0)
header = bytearray(92)
header[:16] = b'EFI PART' + struct.pack('<II', 0x10000, 92)
header[24:56] = struct.pack('<QQQQ', 1, total - 1, 34, total - 34)
header[72:92] = struct.pack('<QIII', 2, count, 128, zlib.crc32(entries))
header[16:20] = struct.pack('<I', zlib.crc32(header))
boot = bytearray(512)
boot[11:13] = b'\0\2'
boot[13], boot[14], boot[16], boot[21] = 1, 32, 2, 0xf8
boot[32:40] = struct.pack('<II', int(sys.argv[2]), int(sys.argv[3]))
boot[510:] = b'\x55\xaa'
with open(sys.argv[1], 'wb') as f:
    f.truncate(size)
    f.seek(512)
    f.write(header + bytes(420) + entries)
    f.seek(8192 * 512)
    f.write(boot)
    f.seek((8192 + 32) * 512)
    f.write(b'\1' * (70 << 20))
    f.truncate(size)
"#;
    // More clusters than a FAT32 can have, and nearly as many as it can have.
    for (sectors, per_fat) in [("4294967294", "268435455"), ("268435440", "2097152")] {
        let mut python = Command::new(crate::support::judges::file("/usr/bin/python3"));
        must(python.args(["-c", script]).arg(&path).args([sectors, per_fat]));
        let mut within = command("timeout");
        within.arg("60").arg(crate::support::program::path()).arg("inspect").arg(&path);
        must(&mut within);
        qemu_img(&[&"info", &"-f", &"raw", &path]);
    }
}
