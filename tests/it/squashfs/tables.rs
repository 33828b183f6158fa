//! What stands in the tables: the superblock, options of the compressor, the export table, the index of a directory.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::support::kernel::{Mount, can_judge};
use crate::support::program::mkfs_squashfs;
use crate::support::tools::{command, must, scratch};
use crate::support::tree;

fn bytes<const N: usize>(image: &Path, at: u64) -> [u8; N] {
    let mut bytes = [0; N];
    File::open(image).unwrap().read_exact_at(&mut bytes, at).unwrap();
    bytes
}

/// What unsquashfs says of the superblock.
fn said(image: &Path) -> String {
    must(command("unsquashfs").arg("-s").arg(image)).text()
}

#[test]
fn unsquashfs_says_what_was_asked_for() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    tree::plain(&source);
    for (arguments, expected) in [
        (&["--time", "1000000000"][..], "Compression zstd\n\tcompression-level 3\nBlock size 131072\n"),
        (&["--compress", "gzip", "--chunk", "4KiB"], "Compression gzip\nBlock size 4096\n"),
        (&["--compress", "gzip", "--level", "2"], "Compression gzip\n\tcompression-level 2\n"),
        (&["--compress", "zstd", "--level", "15"], "Compression zstd\nBlock size 131072\n"),
        (&["--compress", "xz"], "Compression xz\nBlock size 131072\n"),
        (&["--compress", "lz4"], "Compression lz4\nBlock size 131072\n"),
        (&["--compress", "none"], "Inodes are uncompressed\n"),
    ] {
        mkfs_squashfs(&source, &image, arguments);
        let said = said(&image);
        assert!(said.contains(expected), "no `{expected}` in\n{said}");
        for line in ["Filesystem is exportable via NFS\n", "Found a valid SQUASHFS 4:0 superblock"] {
            assert!(said.contains(line), "no `{line}` in\n{said}");
        }
        let duplicates =
            format!("Duplicates are {}removed\n", if arguments.contains(&"none") { "not " } else { "" });
        assert!(said.contains(&duplicates), "no `{duplicates}` in\n{said}");
        assert_eq!(said.contains("Sun Sep  9 01:46:40 2001"), arguments.contains(&"--time"), "{said}");
    }
}

/// The kernel opens each inode by its number, by way of the export table.
#[test]
fn inodes_are_found_by_their_numbers() {
    if !can_judge() {
        return;
    }
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    let mut maker = tree::Maker::new(&source);
    // Over 1024 of them: a second block of the table.
    for number in 0..3000 {
        maker.file(format!("{number}"), "f");
    }
    maker.finish();
    mkfs_squashfs(&source, &image, &[]);
    let script = |text: &str, arguments: &[&str]| {
        let mount = Mount::new(&image, "ro");
        let said = must(command("python3").arg("-c").arg(text).arg(mount.path()).args(arguments)).text();
        mount.unmount();
        said
    };
    let handles = script(HANDLES, &[]);
    // Mounted anew, so that the kernel knows no inode any more.
    assert_eq!(script(OPENED, &[handles.trim()]), "good\n");
}

/// Prints the handles of some names: name_to_handle_at(2).
const HANDLES: &str = r"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
for name in ['0', '1', '1500', '2047', '2999']:
    path = os.path.join(sys.argv[1], name)
    handle, mount = ctypes.create_string_buffer(struct.pack('Ii', 128, 0) + bytes(128)), ctypes.c_int()
    if libc.name_to_handle_at(-100, path.encode(), handle, ctypes.byref(mount), 0) != 0:
        sys.exit('name_to_handle_at: ' + os.strerror(ctypes.get_errno()))
    print(name, handle.raw.hex(), end=' ')
";

/// Opens them: open_by_handle_at(2).
const OPENED: &str = r"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
top, words = os.open(sys.argv[1], os.O_RDONLY), sys.argv[2].split()
for name, handle in zip(words[::2], words[1::2]):
    raw = bytes.fromhex(handle)
    opened = libc.open_by_handle_at(top, ctypes.create_string_buffer(raw, len(raw)), os.O_RDONLY)
    if opened < 0:
        sys.exit('open_by_handle_at: ' + os.strerror(ctypes.get_errno()))
    if os.fstat(opened).st_ino != os.stat(os.path.join(sys.argv[1], name)).st_ino:
        sys.exit('another inode')
    os.close(opened)
print('good')
";

/// A directory of over 8 KiB of names has an index, which kernels begin a look-up at; each name is found by it.
#[test]
fn the_index_of_a_directory_leads_to_every_name() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    let mut maker = tree::Maker::new(&source);
    maker.directory("d");
    for number in 0..5000 {
        // Names of all lengths, so that runs end everywhere.
        maker.file(format!("d/{}{}", "n".repeat(number % 200), number), "");
    }
    maker.finish();
    for compress in ["zstd", "none"] {
        mkfs_squashfs(&source, &image, &["--compress", compress]);
        crate::read::assert_clean(&image);
        if can_judge() {
            let mount = Mount::new(&image, "ro");
            for number in 0..5000 {
                let name = format!("d/{}{number}", "n".repeat(number % 200));
                assert!(mount.path().join(&name).exists(), "{name}");
            }
            assert!(!mount.path().join("d/none").exists());
        }
    }
}

#[test]
fn superblock_and_options_are_those_of_the_page() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    tree::Maker::new(&source).finish();
    mkfs_squashfs(&source, &image, &["--time", "5"]);
    assert_eq!(&bytes::<4>(&image, 0), b"hsqs");
    // One inode, time, blocks of 128 KiB, no fragment, zstd, 17, duplicates + export + options, one owner, 4.0.
    assert_eq!(bytes::<4>(&image, 4), 1_u32.to_le_bytes());
    assert_eq!(bytes::<4>(&image, 8), 5_u32.to_le_bytes());
    assert_eq!(bytes::<4>(&image, 12), 131_072_u32.to_le_bytes());
    assert_eq!(bytes::<16>(&image, 16), [0, 0, 0, 0, 6, 0, 17, 0, 0xc0, 0x04, 1, 0, 4, 0, 0, 0]);
    // The options as a block of metadata that is not compressed, and the inode table behind them.
    assert_eq!(bytes::<6>(&image, 96), [4, 0x80, 3, 0, 0, 0]);
    assert_eq!(bytes::<8>(&image, 64), 102_u64.to_le_bytes());
    assert_eq!(bytes::<8>(&image, 56), [0xff; 8]);
}
