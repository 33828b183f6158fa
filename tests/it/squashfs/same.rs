//! The same bytes whatever the threads and the order in which the host lists names.

use std::path::Path;

use crate::support::program::mkfs_squashfs;
use crate::support::tools::{digest, quick_scratch};
use crate::support::tree;

use super::COMPRESSIONS;

fn image_of(source: &Path, arguments: &[&str]) -> String {
    let folder = quick_scratch();
    let out = folder.path().join("out.img");
    mkfs_squashfs(source, &out, arguments);
    digest(&out)
}

/// Enough files of every length that threads meet in every way, many of them equal.
fn crowd(source: &Path, backwards: bool) {
    let mut maker = tree::Maker::new(source);
    for folder in 0..8 {
        maker.directory(format!("{folder}"));
    }
    let mut names: Vec<u64> = (0..2000).collect();
    if backwards {
        names.reverse();
    }
    for number in names {
        let size = (number * 7919) % 9000 + if number % 100 == 7 { 300_000 } else { 0 };
        // Every third is equal to another one, some of them far away.
        let seed = if number % 3 == 0 { number % 30 } else { number };
        let size = if number % 3 == 0 { seed * 11_000 } else { size };
        maker.file(format!("{}/{number}", number % 8), tree::noise(seed, size));
    }
    maker.finish();
}

#[test]
fn threads_and_the_order_of_names_leave_no_trace() {
    let folder = quick_scratch();
    let (source, other) = (folder.path().join("source"), folder.path().join("other"));
    crowd(&source, false);
    crowd(&other, true);
    for arguments in COMPRESSIONS.into_iter().filter(|arguments| !arguments.contains(&"xz")) {
        let usual = image_of(&source, arguments);
        for jobs in ["1", "2", "3", "16"] {
            let found = image_of(&source, &[arguments, &["--jobs", jobs]].concat());
            assert_eq!(found, usual, "--jobs {jobs} {arguments:?}");
        }
        assert_eq!(image_of(&other, arguments), usual, "{arguments:?}");
    }
}
