//! EROFS of the forms that mkfs.erofs of Debian 12 makes, as the kernel and `erofs-rs` show them.

use std::path::Path;

use super::view::{assert_clean, opened, remarks, slice, view};
use crate::support::compare::assert_same;
use crate::support::erofs::judge;
use crate::support::snapshot::Snapshot;
use crate::support::tools::{command, must, quick_scratch, run, scratch};
use crate::support::tree;

/// What mkfs.erofs is asked for.
pub(super) const FORMS: &[&str] = &[
    "",
    "-E force-inode-extended",
    "-E force-inode-compact -T 100",
    "--chunksize=4096",
    "--chunksize=65536",
    "-zlz4",
    "-zlz4hc,12 -C65536",
    "-zlz4 -C65536 -E legacy-compress",
    "-zlz4 -E legacy-compress",
    "-zlz4hc -E ztailpacking",
    "-zlz4 -E fragments",
    "-zlz4 -E all-fragments",
    "-zlz4 -C16384 -E fragments,dedupe,ztailpacking",
    "-x 0",
    "-x -1",
];

/// A tree that mkfs.erofs copies: names of at most 254 bytes, as it fails on longer ones.
pub(super) fn source(folder: &Path) -> std::path::PathBuf {
    let source = folder.join("source");
    let mut maker = tree::Maker::new(&source);
    for size in [0_u64, 1, 100, 3000, 4095, 4096, 4097, 8192, 70_000, 300_000] {
        maker.file(format!("noise-{size}"), tree::noise(size, size));
        let text: Vec<u8> = (0..size / 5 + 1).flat_map(|at| format!("{at:05}").into_bytes()).collect();
        maker.file(format!("text-{size}"), &text[..usize::try_from(size).unwrap()]);
    }
    maker.file("twice", tree::noise(300_000, 300_000)).file("zeros", vec![0; 100_000]);
    maker.sparse("hole", 900_000, &[(450_000, 5000)]);
    maker.directory("directory").directory("directory/empty").directory("many");
    for number in 0..700 {
        maker.file(format!("many/a-name-of-some-length-{number}"), "");
    }
    for length in [1, 59, 100, 1000] {
        maker.symlink(format!("link-{length}"), tree::target(length));
    }
    maker.file("names", "of one file").link("names", "many/another").link("names", "directory/third");
    for name in ["noise-1", "noise-100", "text-1", "directory"] {
        maker.xattr(name, "user.shared", "value").xattr(name, "user.own", name);
    }
    maker.mode("text-100", 0o4711).mode("directory/empty", 0o1777);
    maker.special("pipe", rustix::fs::FileType::Fifo, (0, 0));
    maker.finish();
    source
}

/// Makes an image of a form.
pub(super) fn mkfs(image: &Path, form: &str, source: &Path) {
    let mut command = command("mkfs.erofs");
    command.args(form.split(' ').filter(|part| !part.is_empty()));
    must(command.args(["-U", "0867da16-f251-457d-a9e8-c31f9a3c220b"]).arg(image).arg(source));
}

#[test]
fn whatever_mkfs_erofs_makes_is_read_as_the_kernel_and_erofs_rs_read_it() {
    // Not in memory: from there mkfs.erofs of Debian 12 makes no chunks.
    let folder = scratch();
    let source = source(folder.path());
    let host = Snapshot::of(&source);
    for form in FORMS {
        let image = folder.path().join("image.img");
        mkfs(&image, form, &source);
        let found = view(&*opened(&image)).unwrap_or_else(|error| panic!("{form}: {error}"));
        assert_eq!(found.0.len(), host.0.len(), "{form}");
        judge(&image, &found);
        let bytes = crate::support::compare::Aspect::Bytes;
        assert_same(form, &host, &found, &[bytes, crate::support::compare::Aspect::Target]);
        assert_clean(&image);
        std::fs::remove_file(&image).unwrap();
    }
}

/// Forms whose clusters fsck.erofs of Debian 12 decompresses, and how many bytes are damaged in each.
const DAMAGED: [(&str, u64); 5] = [
    ("-zlz4", 60),
    ("-zlz4hc,12 -C65536", 30),
    ("-zlz4 -E legacy-compress", 60),
    ("-zlz4hc -E ztailpacking", 30),
    ("-zlz4 -C16384 -E fragments,dedupe,ztailpacking", 60),
];

#[test]
fn what_fsck_erofs_cannot_decompress_is_a_fault() {
    let folder = quick_scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("image.img"));
    let text: String = (1..=20_000).map(|number| format!("{number}\n")).collect();
    let mut maker = tree::Maker::new(&source);
    maker.file("seq", &text).file("middle", &text[3000..40_000]).file("noise", tree::noise(1, 9000)).finish();
    for (form, count) in DAMAGED {
        mkfs(&image, form, &source);
        assert_clean(&image);
        let whole = std::fs::read(&image).unwrap();
        let places: Vec<usize> = (4096..whole.len()).filter(|at| whole[*at] != 0).collect();
        let mut refused = 0;
        for number in 0..count {
            // A sequence of numbers that looks random, and is the same each time.
            let random = usize::try_from((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33).unwrap();
            let at = places[random % places.len()];
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (random % 8);
            std::fs::write(&image, bytes).unwrap();
            if run(command("fsck.erofs").arg("--extract").arg(&image)).code != 0 {
                refused += 1;
                let found = diskwright::filesystem::open(&slice(&image)).ok().flatten();
                let seen = found.is_none_or(|volume| !remarks(&*volume).is_empty());
                assert!(seen, "{form}: byte {at}, bit {}", random % 8);
            }
        }
        assert!(refused > 0, "{form}: fsck.erofs refused nothing");
        std::fs::remove_file(&image).unwrap();
    }
}
