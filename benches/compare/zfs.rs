//! ZFS pools against the floor, and against zstd alone on the same records.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::run::{Case, Group, program};
use super::{jobs, trees};

/// Bytes of a record, as `recordsize` has it by default.
const RECORD: u64 = 128 << 10;
const LEVEL: i32 = 3;

/// A store of at least 45,000 files and 1.7 GB into a pool, by compression.
pub(super) fn run(folder: &Path) {
    let tree = trees::store(folder);
    let list = trees::list(&tree, folder);
    let (image, floor) = (folder.join("out.img"), folder.join("floor.img"));
    let own = std::env::current_exe().expect("this program has a path");
    let ours = |compress: &str| {
        Case::new(&format!("diskwright mkfs zfs --compress {compress}"), program())
            .args([Path::new("mkfs"), Path::new("zfs"), &tree, Path::new("-o"), &image])
            .args(["--compress", compress])
            .makes(&image)
    };
    let cases = vec![
        Case::new("floor: the same bytes into one sparse file", &own)
            .args([Path::new("floor"), &list, &floor, Path::new(&jobs())])
            .makes(&floor),
        ours("off"),
        ours("lz4"),
        ours("zstd-3"),
        Case::new("zstd -3 of the same records, written nowhere", &own).args([
            Path::new("records"),
            &list,
            Path::new(&jobs()),
        ]),
    ];
    Group { title: "zfs: a store of small files into one pool", cases }.run();
}

/// Compresses every record of the files by itself, with as many threads.
pub(super) fn records(list: &Path, jobs: usize) {
    let text = std::fs::read_to_string(list).expect("the list can be read");
    let lines: Vec<&str> = text.lines().collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                let mut compressor = zstd::bulk::Compressor::new(LEVEL).expect("zstd starts");
                while let Some(line) = lines.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (length, path) = line.split_once(' ').expect("a line is a length and a path");
                    let length: u64 = length.parse().expect("a length is a number");
                    let file = File::open(path).expect("a source can be opened");
                    for at in (0..length).step_by(usize::try_from(RECORD).expect("it fits")) {
                        let count = usize::try_from(RECORD.min(length - at)).expect("it fits");
                        let mut record = vec![0; count.next_multiple_of(512)];
                        file.read_exact_at(&mut record[..count], at).expect("a source can be read");
                        std::hint::black_box(compressor.compress(&record).expect("zstd compresses"));
                    }
                }
            });
        }
    });
}
