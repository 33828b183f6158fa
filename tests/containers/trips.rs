//! Round trips through all pairs of formats.

use diskwright::convert::{Options, Target, convert};
use diskwright::image::Image;
use diskwright::progress::Progress;
use diskwright::units::MIB;

use crate::judge;
use crate::rows::{ROWS, Row};
use crate::samples::{Fill, Sample};
use crate::tools::{digest, scratch};

/// Converts with the library as the program does.
fn converted(from: &Row, source: &std::path::Path, to: &Row, target: &std::path::Path) {
    let opened = from.open(source).unwrap();
    let options = Options { time: 0, sector_size: None, jobs: 2, progress: &Progress::default() };
    convert(&opened, source, Target::File(target), &to.container(), &options)
        .unwrap_or_else(|error| panic!("{} to {}: {error}", from.name, to.name));
}

/// A disk that no format of [`ROWS`] changes the size of, with data at odd places and its last byte set.
fn disk() -> Image {
    // 8 cylinders of 255 heads and 63 sectors, which is also a whole number of sectors and of grains.
    let length = 64 * MIB;
    Sample::new(
        "disk",
        length,
        &[
            (0, 700, Fill::Noise),
            (70_000, 100_000, Fill::Text),
            (3 * MIB, MIB, Fill::Zeros),
            (length - 1, 1, Fill::Noise),
        ],
    )
    .image()
}

/// From every row to every row and back to raw: every byte is kept, and a row gives the same file for every
/// source format.
#[test]
fn all_pairs_keep_every_byte() {
    let folder = scratch();
    let path = |name: &str| folder.path().join(name);
    let image = disk();
    let sources: Vec<_> = ROWS
        .iter()
        .map(|row| {
            let file = path(&format!("{}.source", row.name));
            row.write(&image, &file, 2).unwrap();
            file
        })
        .collect();
    for to in ROWS {
        let mut first: Option<String> = None;
        for (from, source) in ROWS.iter().zip(&sources) {
            let target = path("target");
            converted(from, source, to, &target);
            let opened = to.open(&target).unwrap();
            judge::same(&image, &opened.image)
                .unwrap_or_else(|error| panic!("{} to {}: {error}", from.name, to.name));
            if (from.rounds)(image.length().get()) == image.length().get() {
                let digest = digest(&target);
                let first = first.get_or_insert_with(|| digest.clone());
                assert_eq!(*first, digest, "{} to {}", from.name, to.name);
            }
        }
    }
}
