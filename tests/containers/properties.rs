//! Random disks through every row, and the calculations of tables at sizes that are never written.

use diskwright::image::{Builder, Image};
use diskwright::units::{Bytes, GIB, KIB, MIB, TIB, usize_of};
use proptest::prelude::*;

use crate::judge::same;
use crate::rows::{ROWS, Row};
use crate::samples::{Fill, Sample};
use crate::tools::scratch;
use crate::written::raw;

/// A disk of random length with random parts, small ones and large ones, near each other and far apart.
fn disks() -> impl Strategy<Value = Sample> {
    let part = (
        prop_oneof![0_u64..2_000, 0_u64..200_000, Just(0)],
        prop_oneof![1_u64..2_000, 1_u64..100_000, Just(512), Just(64 * KIB)],
        prop_oneof![Just(Fill::Noise), Just(Fill::Text), Just(Fill::Zeros)],
    );
    (prop::collection::vec(part, 0..12), 0_u64..3_000).prop_map(|(parts, tail)| {
        let mut at = 0;
        let mut placed = Vec::new();
        for (gap, length, fill) in parts {
            placed.push((at + gap, length, fill));
            at += gap + length;
        }
        Sample { name: "random".to_owned(), length: at + tail, parts: placed }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Written by three jobs, every byte comes back from our reader; a tenth of the disks also goes to the
    /// foreign judges.
    #[test]
    fn random_disks_come_back(sample in disks(), pick in 0_usize..10) {
        let folder = scratch();
        let image = sample.image();
        let path = folder.path().join("disk.out");
        for (number, row) in ROWS.iter().enumerate() {
            row.write(&image, &path, 3).unwrap();
            let opened = row.open(&path).unwrap();
            prop_assert_eq!(opened.image.length().get(), (row.rounds)(sample.length));
            let found = same(&image, &opened.image);
            prop_assert!(found.is_ok(), "{}: {:?}", row.name, found);
            if number % 10 == pick {
                let raw = raw(&image, folder.path());
                let judged = crate::judge::all(row, &image, &raw, &path);
                prop_assert!(judged.is_ok(), "{}: {:?}", row.name, judged);
            }
        }
    }
}

/// Big-endian numbers of an image.
pub(crate) fn be(image: &Image, offset: u64, length: usize) -> u64 {
    let mut bytes = vec![0; length];
    image.read(offset, &mut bytes).unwrap();
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// What the tables of a plain qcow2 say about one cluster of the disk: its place in the file, 0 for none.
fn look_up(file: &Image, disk: u64) -> u64 {
    let cluster = 1_u64 << be(file, 20, 4);
    let entries = cluster / 8;
    let number = disk / cluster;
    assert!(number / entries < be(file, 36, 4), "the L1 table covers the disk");
    let mask = 0x00ff_ffff_ffff_fe00;
    let l2 = be(file, be(file, 40, 8) + number / entries * 8, 8) & mask;
    if l2 == 0 { 0 } else { be(file, l2 + number % entries * 8, 8) & mask }
}

/// The refcount of a byte of the file.
fn refcount(file: &Image, at: u64) -> u64 {
    let cluster = 1_u64 << be(file, 20, 4);
    let (table, number) = (be(file, 48, 8), at / cluster);
    let per_block = cluster / 2;
    assert!(number / per_block < be(file, 56, 4) * cluster / 8, "the refcount table covers the file");
    let block = be(file, table + number / per_block * 8, 8);
    if block == 0 { 0 } else { be(file, block + number % per_block * 2, 2) }
}

/// A disk with runs of up to `longest` bytes each that are never kept in memory, and the places of those
/// runs.
pub(crate) fn full(length: u64, runs: Vec<(u64, u64)>, longest: u64) -> (Image, Vec<(u64, u64)>) {
    let mut builder = Builder::new(Bytes::new(length));
    let pattern = builder.renderer(std::sync::Arc::new(Pattern));
    let mut at = 0;
    let mut placed = Vec::new();
    let mut sorted: Vec<_> =
        runs.into_iter().map(|(start, size)| (start % length, size.min(longest))).collect();
    sorted.sort_unstable();
    for (start, size) in sorted {
        let start = start.max(at);
        let size = size.min(length - start.min(length));
        if size > 0 {
            builder.rendered_from(Bytes::new(start), Bytes::new(size), pattern, 0, start);
            placed.push((start, size));
            at = start + size;
        }
    }
    (builder.finish().unwrap(), placed)
}

/// Both ends and the middle of what is placed, and some places anywhere.
pub(crate) fn interesting(length: u64, placed: &[(u64, u64)], probes: Vec<u64>) -> Vec<u64> {
    let ends = placed.iter().flat_map(|(start, size)| [*start, start + size / 2, start + size - 1]);
    ends.chain(probes.into_iter().map(|probe| probe % length)).collect()
}

/// Whether anything is placed in `from..to`.
pub(crate) fn held(placed: &[(u64, u64)], from: u64, to: u64) -> bool {
    placed.iter().any(|(start, size)| *start < to && start + size > from)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Disks of up to petabytes with gigabytes of data: no byte is written, and each table entry leads to the
    /// right place.
    #[test]
    fn the_sums_of_qcow2_hold_at_any_size(
        bits in 9_u32..=21,
        length in 1_u64..1 << 52,
        runs in prop::collection::vec((0_u64..1 << 52, 1_u64..1 << 34), 1..6),
        probes in prop::collection::vec(0_u64..1 << 52, 20),
    ) {
        let cluster = 1_u64 << bits;
        let most = (32 << 20) / 8 * (cluster / 8) * cluster;
        let length = length.min(most);
        // The file has at most 8 MiB of refcount table.
        let longest = ((8 << 20) / 8 * (cluster / 2) * cluster / 16).max(1);
        let (disk, placed) = full(length, runs, longest);
        let row = Row { cluster_size: Some(cluster), ..*ROWS.iter().find(|row| row.name == "qcow2").unwrap() };
        let file = row.wrap(&disk).unwrap();
        prop_assert_eq!(be(&file, 24, 8), length.next_multiple_of(512));
        // Every cluster of the file has one use: the first, the last, and the tables; none after the end has
        // any.
        let end = file.length().get();
        prop_assert_eq!(end % cluster, 0);
        for place in [0, be(&file, 40, 8), be(&file, 48, 8), end - cluster, end / 2] {
            prop_assert_eq!(refcount(&file, place), 1);
        }
        if be(&file, 56, 4) * cluster / 8 * (cluster / 2) > end / cluster {
            prop_assert_eq!(refcount(&file, end), 0);
        }
        for probe in interesting(length, &placed, probes) {
            let place = look_up(&file, probe);
            let from = probe / cluster * cluster;
            prop_assert_eq!(place > 0, held(&placed, from, from + cluster), "byte {}", probe);
            if place > 0 {
                prop_assert!(place + cluster <= end);
                prop_assert_eq!(be(&file, place + probe % cluster, 1), be(&disk, probe, 1));
            }
        }
    }
}

/// Bytes that follow from their place.
#[derive(Debug)]
struct Pattern;

impl diskwright::image::Render for Pattern {
    fn render(&self, _: u32, skip: u64, out: &mut [u8]) -> diskwright::error::Result<()> {
        for (at, byte) in (skip..).zip(out) {
            let mixed = (at / 7 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            *byte = mixed.to_le_bytes()[7];
        }
        Ok(())
    }

    fn label(&self, _: u32) -> String {
        "pattern".to_owned()
    }
}

/// A disk of the largest size a row has, full at both ends, is wrapped in no time, and its map is short.
#[test]
fn the_largest_disks_are_wrapped() {
    for row in ROWS.iter().filter(|row| row.compress.is_none()) {
        let length = row.largest.min(64 * TIB * 1024);
        let parts = [(0, MIB, Fill::Text), (length - GIB, 512, Fill::Text), (length - 512, 512, Fill::Noise)];
        let image = Sample::new("largest", length, &parts).image();
        let file = row.wrap(&image).unwrap_or_else(|error| panic!("{}: {error}", row.name));
        let mut out = vec![0; usize_of(MIB)];
        file.read(0, &mut out).unwrap();
        assert!(file.length() > Bytes::new(MIB), "{}", row.name);
    }
}
