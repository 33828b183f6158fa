//! Our output before all judges, and its bytes.

use std::path::{Path, PathBuf};

use diskwright::error::Kind;
use diskwright::image::Image;
use diskwright::pour::{PourOptions, pour};
use diskwright::progress::Progress;
use diskwright::units::{Bytes, MIB, TIB};

use crate::judge;
use crate::rows::{IDENTITY, ROWS, Row};
use crate::samples::{Fill, Sample, samples, usual};
use crate::tools::{digest, names_in, scratch};

/// `image` as a raw file.
pub(crate) fn raw(image: &Image, folder: &Path) -> PathBuf {
    let path = folder.join("disk.raw");
    pour(image, &path, &PourOptions::new(2, &Progress::default())).unwrap();
    path
}

/// Writes and judges one disk in one row.
fn judged(row: &Row, sample: &Sample) {
    let folder = scratch();
    let path = folder.path().join("disk.out");
    let image = sample.image();
    let raw = raw(&image, folder.path());
    row.write(&image, &path, 2).unwrap_or_else(|error| panic!("{}, {}: {error}", row.name, sample.name));
    judge::all(row, &image, &raw, &path)
        .unwrap_or_else(|error| panic!("{}, {}: {error}", row.name, sample.name));
}

#[test]
fn every_row_holds_every_disk() {
    for row in ROWS {
        for sample in samples(row).iter().filter(|sample| sample.length <= row.largest) {
            judged(row, sample);
        }
    }
}

/// With clusters of 512 bytes a cluster of the refcount table counts 64 blocks of 256 clusters: 8 MiB.
#[test]
fn a_refcount_table_over_one_cluster() {
    let long =
        Sample::new("20 MiB", 20 * MIB, &[(0, 9 * MIB, Fill::Noise), (11 * MIB, 9 * MIB, Fill::Noise)]);
    for row in ROWS.iter().filter(|row| row.cluster_size == Some(512)) {
        judged(row, &long);
    }
}

#[test]
fn a_disk_over_the_limit_is_refused_with_the_limit_and_nothing_is_left() {
    for row in ROWS.iter().filter(|row| row.largest < u64::MAX) {
        let folder = scratch();
        let path = folder.path().join("disk.out");
        let most = Sample::new("most", row.largest, &[]).image();
        let name = row.name;
        // Some have tables of gigabytes, or files longer than the host allows (16 TiB on ext4). They need not
        // be written to show that they fit.
        let wrap = || row.wrap(&most).unwrap_or_else(|error| panic!("{name}: {error}"));
        let small =
            |file: &Image| file.covered() <= Bytes::new(64 * MIB) && file.length() <= Bytes::new(8 * TIB);
        if row.compress.is_some() || small(&wrap()) {
            row.write(&most, &path, 1).unwrap_or_else(|error| panic!("{name}: {error}"));
            std::fs::remove_file(&path).unwrap();
        }
        let error = row.write(&Sample::new("more", row.largest + 1, &[]).image(), &path, 1).unwrap_err();
        assert_eq!(error.kind(), Kind::Capacity, "{}: {error}", row.name);
        let limit = Bytes::new(row.largest);
        let named = [limit.human(), limit.to_string()].iter().any(|limit| error.to_string().contains(limit));
        assert!(named, "{}: {limit} is not in: {error}", row.name);
        assert!(names_in(folder.path()).is_empty(), "{}", row.name);
    }
}

#[test]
fn the_number_of_jobs_changes_no_byte() {
    // More than the 1 MiB that one worker takes at a time, of every kind.
    let long = Sample::new(
        "12 MiB",
        12 * MIB,
        &[(5, 4 * MIB, Fill::Noise), (5 * MIB, 4 * MIB, Fill::Text), (10 * MIB, 9, Fill::Noise)],
    );
    for row in ROWS {
        for image in [usual().image(), long.image()] {
            let folder = scratch();
            let digests: Vec<String> = [1, 2, 7]
                .into_iter()
                .map(|jobs| {
                    let path = folder.path().join("disk.out");
                    row.write(&image, &path, jobs).unwrap();
                    digest(&path)
                })
                .collect();
            assert!(digests.iter().all(|digest| *digest == digests[0]), "{}: {digests:?}", row.name);
        }
    }
}

#[test]
fn streams_are_the_file_or_refused() {
    for row in ROWS {
        let folder = scratch();
        let path = folder.path().join("disk.out");
        let image = usual().image();
        let progress = Progress::default();
        let mut out = Vec::new();
        let done = row.container().stream(&image, &IDENTITY, &mut out, &PourOptions::new(2, &progress));
        if row.streams {
            done.unwrap();
            row.write(&image, &path, 2).unwrap();
            assert!(std::fs::read(&path).unwrap() == out, "{}", row.name);
        } else {
            let error = done.unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{}", row.name);
            assert!(error.to_string().contains("streamOptimized"), "{error}");
            assert!(out.is_empty(), "{}", row.name);
        }
    }
}
