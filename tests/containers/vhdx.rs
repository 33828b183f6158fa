//! Tests of VHDX only: damaged files, logs that are not empty, and fixed disks.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use diskwright::container::{Format, OpenOptions, open};
use diskwright::image::Image;
use diskwright::units::{GIB, KIB, MIB};
use proptest::prelude::*;

use crate::create::diskwright;
use crate::hostile::{bounded, patched, refused, row, wrong};
use crate::judge::{compare, same, same_disk};
use crate::properties::{full, held, interesting};
use crate::readers::SEVEN_ZIP_VHDX;
use crate::samples::{Fill, Sample, usual};
use crate::tools::{command, digest, must, run, scratch};
use crate::written::raw;

/// Where the parts of our files stand.
pub(crate) const HEADERS: [usize; 2] = [64 << 10, 128 << 10];
pub(crate) const REGIONS: [usize; 2] = [192 << 10, 256 << 10];
pub(crate) const LOG: usize = 1 << 20;
pub(crate) const METADATA: usize = 2 << 20;
pub(crate) const ITEMS: usize = METADATA + (64 << 10);
pub(crate) const BAT: usize = 3 << 20;
const DATA: usize = 4 << 20;

/// A change of a file.
type Change = fn(&mut Vec<u8>);

pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// CRC32C of a structure with its own field zero, bit by bit (RFC 3720, appendix B.4: the polynomial 0x1EDC6F41).
fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for (at, byte) in bytes.iter().enumerate() {
        sum ^= u32::from(if (4..8).contains(&at) { 0 } else { *byte });
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 };
        }
    }
    !sum
}

/// Gives a structure of `length` bytes at `at` the right checksum.
fn seal(bytes: &mut [u8], at: usize, length: usize) {
    let sum = checksum(&bytes[at..at + length]);
    put(bytes, at + 4, &sum.to_le_bytes());
}

/// Changes both headers, or both region tables, and makes them valid again.
pub(crate) fn headers(bytes: &mut [u8], at: usize, value: &[u8]) {
    for header in HEADERS {
        put(bytes, header + at, value);
        seal(bytes, header, 4096);
    }
}

pub(crate) fn regions(bytes: &mut [u8], at: usize, value: &[u8]) {
    for table in REGIONS {
        put(bytes, table + at, value);
        seal(bytes, table, 65_536);
    }
}

/// The file of [`disk`](crate::hostile::disk), 5 MiB with data in its first, third and fifth, after a change.
fn changed(folder: &Path, change: impl Fn(&mut Vec<u8>)) -> PathBuf {
    let path = patched(row("vhdx"), folder, &[]);
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
    path
}

const WRONG: &[(&str, Change, &[&str])] = &[
    (
        "no header",
        |b| {
            b[HEADERS[0] + 100] = 1;
            b[HEADERS[1]] = 0;
        },
        &["neither header is valid", "byte 65536"],
    ),
    ("version 2", |b| headers(b, 66, &[2]), &["unknown version of VHDX", "byte 65602", "found: 2"]),
    (
        "two different headers of one number",
        |b| {
            headers(b, 8, &[7]);
            put(b, HEADERS[0] + 16, &[1]);
            seal(b, HEADERS[0], 4096);
        },
        &["one number and differ", "byte 131080"],
    ),
    (
        "a log of version 1",
        |b| {
            headers(b, 48, &[1]);
            headers(b, 64, &[1]);
        },
        &["version of the log", "byte 131136"],
    ),
    ("a crooked log", |b| headers(b, 73, &[1]), &["log is not aligned", "byte 131140"]),
    ("a log outside", |b| headers(b, 76, &[1]), &["truncated", "the log"]),
    ("a log in the headers", |b| headers(b, 72, &[0, 0, 0]), &["overlap", "the header section", "the log"]),
    ("a log on metadata", |b| headers(b, 72, &[0, 0, 0x20]), &["overlap", "the log", "a region"]),
    (
        "a long log that is not empty",
        |b| {
            headers(b, 48, &[1]);
            headers(b, 68, &[0, 0, 0x50, 4]);
            b.resize(80 << 20, 0);
        },
        &["too long to be applied", "check -r all"],
    ),
    (
        "no region table",
        |b| {
            b[REGIONS[0]] = 0;
            b[REGIONS[1] + 5000] = 1;
        },
        &["neither region table", "byte 196608"],
    ),
    ("2048 regions", |b| regions(b, 8, &[0, 8]), &["too many entries", "byte 196616", "found: 2048"]),
    ("no region", |b| regions(b, 8, &[0]), &["no block allocation table"]),
    ("one region", |b| regions(b, 8, &[1]), &["no metadata"]),
    ("an unknown region", |b| regions(b, 16, &[1]), &["region that is not known", "byte 196624"]),
    (
        "a region twice",
        |b| {
            let id: Vec<u8> = b[REGIONS[0] + 16..REGIONS[0] + 32].to_vec();
            regions(b, 48, &id);
        },
        &["named twice", "byte 196656"],
    ),
    ("a crooked region", |b| regions(b, 33, &[1]), &["region is not aligned", "byte 196624"]),
    ("a region of nothing", |b| regions(b, 40, &[0, 0, 0]), &["region is not aligned", "0 bytes"]),
    ("a region outside", |b| regions(b, 36, &[1]), &["truncated", "a region"]),
    ("a region of 4 GiB", |b| regions(b, 42, &[0xf0, 0xff]), &["truncated", "a region"]),
    ("a region in the headers", |b| regions(b, 32, &[0; 4]), &["overlap", "the header section", "a region"]),
    ("regions on each other", |b| regions(b, 34, &[0x20]), &["overlap", "a region and a region"]),
    ("no metadata table", |b| b[METADATA] = 0, &["no metadata table", "byte 2097152"]),
    ("2048 items", |b| put(b, METADATA + 10, &[0, 8]), &["too many entries", "byte 2097162"]),
    ("an item twice", |b| b.copy_within(METADATA + 32..METADATA + 48, METADATA + 64), &["named twice"]),
    ("an unknown item", |b| b[METADATA + 32] = 0, &["metadata that is not known", "byte 2097184"]),
    ("no size", |b| b[METADATA + 10] = 1, &["item of metadata is missing"]),
    ("an item in the table", |b| put(b, METADATA + 48, &[0; 4]), &["outside its region", "byte 2097184"]),
    ("an item outside", |b| put(b, METADATA + 48, &[0xff; 4]), &["outside its region"]),
    ("a long item", |b| put(b, METADATA + 52, &[0xff; 4]), &["outside its region"]),
    ("a short item", |b| b[METADATA + 52] = 3, &["too short", "byte 2162688", "found: 3 bytes"]),
    ("blocks of 512 KiB", |b| put(b, ITEMS, &[0, 0, 8]), &["block size", "byte 2162688", "found: 524288"]),
    ("blocks of 512 MiB", |b| put(b, ITEMS, &[0, 0, 0, 0x20]), &["block size", "byte 2162688"]),
    ("blocks of 3 MiB", |b| put(b, ITEMS, &[0, 0, 0x30]), &["block size", "byte 2162688"]),
    ("a parent", |b| b[ITEMS + 4] = 2, &["differs from a parent", "byte 2162692", "differencing"]),
    ("half a sector", |b| b[ITEMS + 8] = 1, &["disk size", "byte 2162696"]),
    ("a disk of 128 TiB", |b| b[ITEMS + 13] = 0x80, &["disk size", "64 TiB"]),
    ("a disk of 1 TiB", |b| b[ITEMS + 13] = 1, &["table is too small", "byte 3145728"]),
    ("sectors of 1024", |b| put(b, ITEMS + 32, &[0, 4]), &["sector size", "byte 2162720", "found: 1024"]),
    ("physical sectors of 0", |b| put(b, ITEMS + 36, &[0, 0]), &["sector size", "byte 2162724", "found: 0"]),
    ("reserved bits of a block", |b| b[BAT + 1] = 1, &["reserved bits", "byte 3145728", "0x100"]),
    ("a block of state 4", |b| b[BAT] = 4, &["unknown state", "byte 3145728", "found: 4"]),
    ("a block that is partly there", |b| b[BAT] = 7, &["partly there", "byte 3145728"]),
    ("a block in the headers", |b| put(b, BAT, &[6, 0, 0]), &["overlap", "the header section", "data"]),
    ("a block on the table", |b| put(b, BAT, &[6, 0, 0x30]), &["overlap", "a region", "data"]),
    ("a block twice", |b| b.copy_within(BAT..BAT + 8, BAT + 8), &["overlap: data and data", "byte 4194304"]),
    ("a block outside", |b| b[BAT + 4] = 1, &["truncated", "data"]),
    ("a block at the end of all", |b| put(b, BAT + 3, &[255; 5]), &["truncated", "data"]),
];

#[test]
fn files_that_are_wrong() {
    let folder = scratch();
    for (name, change, says) in WRONG {
        let path = changed(folder.path(), change);
        open(&path, &OpenOptions::default()).expect_err(name);
        wrong(name, &path, Format::Vhdx, says);
    }
}

/// The offsets above are those of the parts; of two headers and two tables one is enough.
#[test]
fn the_changes_hit_what_they_are_meant_to_hit_and_copies_help() {
    let folder = scratch();
    let image = crate::hostile::disk().image();
    let path = changed(folder.path(), |bytes| {
        for (at, what) in
            [(HEADERS[0], "head"), (HEADERS[1], "head"), (REGIONS[0], "regi"), (REGIONS[1], "regi")]
        {
            assert_eq!(&bytes[at..at + 4], what.as_bytes());
        }
        assert_eq!(bytes[METADATA..METADATA + 8], *b"metadata");
        assert_eq!(bytes[ITEMS..ITEMS + 4], MIB.to_le_bytes()[..4]);
        let entry = u64::from_le_bytes(bytes[BAT..BAT + 8].try_into().unwrap());
        assert_eq!(entry, 4 * MIB + 6);
        assert_eq!(bytes[BAT + 8..BAT + 16], 2_u64.to_le_bytes());
        assert!(bytes[DATA..].starts_with(b"line 0 of"));
    });
    same(&image, &open(&path, &OpenOptions::default()).unwrap().image).unwrap();
    for at in [HEADERS[0], HEADERS[1], REGIONS[0], REGIONS[1]] {
        let path = changed(folder.path(), |bytes| bytes[at + 9] ^= 1);
        same(&image, &open(&path, &OpenOptions::default()).unwrap().image).unwrap();
    }
    // Optional metadata and regions.
    let path = changed(folder.path(), |bytes| {
        bytes.copy_within(METADATA + 32..METADATA + 64, METADATA + 192);
        put(bytes, METADATA + 192, &[1]);
        put(bytes, METADATA + 192 + 24, &[0]);
        bytes[METADATA + 10] = 6;
    });
    same(&image, &open(&path, &OpenOptions::default()).unwrap().image).unwrap();
}

/// The id of the log in these tests, and the number of its first entry.
const LOG_ID: [u8; 16] = [7; 16];
const FIRST: u64 = 1000;

/// A change by an entry of a log: its place, and 4096 bytes or a length of zeros.
pub(crate) enum Step {
    Data(u64, Vec<u8>),
    Zero(u64, u64),
}

/// An entry of a log ([MS-VHDX], 2.3.1).
pub(crate) fn entry(sequence: u64, tail: usize, steps: &[Step], size: u64) -> Vec<u8> {
    let heads = (64 + 32 * steps.len()).div_ceil(4096) * 4096;
    let mut bytes = vec![0; heads];
    put(&mut bytes, 0, b"loge");
    put(&mut bytes, 12, &u32::try_from(tail).unwrap().to_le_bytes());
    put(&mut bytes, 16, &sequence.to_le_bytes());
    put(&mut bytes, 24, &u32::try_from(steps.len()).unwrap().to_le_bytes());
    put(&mut bytes, 32, &LOG_ID);
    put(&mut bytes, 48, &size.to_le_bytes());
    put(&mut bytes, 56, &size.to_le_bytes());
    for (number, step) in steps.iter().enumerate() {
        let at = 64 + 32 * number;
        let offset = match step {
            Step::Data(offset, data) => {
                put(&mut bytes, at, b"desc");
                put(&mut bytes, at + 4, &data[4092..]);
                put(&mut bytes, at + 8, &data[..8]);
                let mut sector = data.clone();
                put(&mut sector, 0, b"data");
                put(&mut sector, 4, &sequence.to_le_bytes()[4..]);
                put(&mut sector, 4092, &sequence.to_le_bytes()[..4]);
                bytes.extend(sector);
                offset
            }
            Step::Zero(offset, length) => {
                put(&mut bytes, at, b"zero");
                put(&mut bytes, at + 8, &length.to_le_bytes());
                offset
            }
        };
        put(&mut bytes, at + 16, &offset.to_le_bytes());
        put(&mut bytes, at + 24, &sequence.to_le_bytes());
    }
    let length = bytes.len();
    put(&mut bytes, 8, &u32::try_from(length).unwrap().to_le_bytes());
    seal(&mut bytes, 0, length);
    bytes
}

/// Writes entries into the log, one after the other from byte `start` on and around its end, and marks the
/// log as in use.
pub(crate) fn fill_log(bytes: &mut [u8], start: usize, entries: &[Vec<u8>]) {
    for (at, sector) in entries.concat().chunks(4096).enumerate() {
        put(bytes, LOG + (start + at * 4096) % (1 << 20), sector);
    }
    headers(bytes, 48, &LOG_ID);
}

/// A file whose block table is only in its log, after wrong ones: two entries, the second with `count`
/// descriptors of zeros before that of the table. More than 126 descriptors take more than a sector.
fn logged(folder: &Path, start: usize, count: u64) -> PathBuf {
    changed(folder, |bytes| {
        let size = u64::try_from(bytes.len()).unwrap();
        let bat = bytes[BAT..BAT + 4096].to_vec();
        bytes[BAT..BAT + 4096].fill(0xa5);
        let place = u64::try_from(BAT).unwrap();
        let steps = [Step::Data(place, vec![0x5a; 4096]), Step::Zero(place, 8192)];
        let first = entry(FIRST, start, &steps, size);
        let mut many: Vec<Step> =
            (0..count).map(|number| Step::Zero(place + 8192 + number * 4096, 4096)).collect();
        many.push(Step::Data(place, bat));
        let second = entry(FIRST + 1, start, &many, size);
        fill_log(bytes, start, &[first, second]);
    })
}

/// The log is applied to the data that is read, and the file stays unchanged. QEMU, which writes the changes,
/// sees the same disk. QEMU 7.2 does not read descriptors after the first sector.
#[test]
fn a_log_is_applied() {
    for (start, count) in
        [0, 4096, 300 << 10, (1 << 20) - 4096, (1 << 20) - 8192].into_iter().zip([3, 125, 0, 5, 9])
    {
        let folder = scratch();
        let image = crate::hostile::disk().image();
        for count in [130, count] {
            let path = logged(folder.path(), start, count);
            let before = digest(&path);
            let opened = open(&path, &OpenOptions::default()).unwrap();
            same(&image, &opened.image).unwrap_or_else(|error| panic!("{start}, {count}: {error}"));
            assert!(opened.details.iter().any(|(name, value)| name.contains("log") && value == "2"));
            assert_eq!(digest(&path), before);
        }
        let path = folder.path().join("bad.qcow2");
        let below = raw(&image, folder.path());
        must(command("qemu-img").args(["check", "-q", "-f", "vhdx", "-r", "all"]).arg(&path));
        compare(&below, "vhdx", &path).unwrap_or_else(|error| panic!("{start}, {count}: {error}"));
    }
}

/// Parts of a log that do not count: entries of an older log, broken ones, and those before them.
#[test]
fn only_the_newest_valid_entries_count() {
    let folder = scratch();
    let image = crate::hostile::disk().image();
    let place = u64::try_from(BAT).unwrap();
    let junk = |sequence| entry(sequence, 0, &[Step::Data(place, vec![0x77; 4096])], 0);
    let mut broken = junk(FIRST + 2);
    broken[5000] ^= 1;
    let mut foreign = junk(FIRST + 9);
    put(&mut foreign, 32, &[8; 16]);
    let length = foreign.len();
    seal(&mut foreign, 0, length);
    let mut fewer = junk(FIRST + 9);
    put(&mut fewer, 24, &[0]);
    seal(&mut fewer, 0, length);
    for (what, extra) in [("broken", broken), ("foreign", foreign), ("without its descriptor", fewer)] {
        let path = logged(folder.path(), 0, 130);
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        // Behind the two entries: 2 sectors, and 3.
        file.write_all_at(&extra, u64::try_from(LOG).unwrap() + 5 * 4096).unwrap();
        // An older sequence elsewhere.
        let older = entry(FIRST - 500, 200 << 10, &[Step::Data(place, vec![0x77; 4096])], 0);
        file.write_all_at(&older, u64::try_from(LOG).unwrap() + (200 << 10)).unwrap();
        let opened = open(&path, &OpenOptions::default()).unwrap();
        same(&image, &opened.image).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    // A log whose last entry names a beginning without an entry is empty.
    let path = changed(folder.path(), |bytes| {
        let lost = entry(FIRST, 8192, &[Step::Data(place, vec![0x77; 4096])], 0);
        fill_log(bytes, 0, &[lost]);
    });
    same(&image, &open(&path, &OpenOptions::default()).unwrap().image).unwrap();
}

#[test]
fn logs_that_cannot_be_applied() {
    let folder = scratch();
    let data = u64::try_from(DATA).unwrap();
    let table = u64::try_from(BAT).unwrap();
    for (steps, size, says) in [
        (vec![Step::Data(table, vec![0; 4096])], 1 << 40, "longer file"),
        (vec![Step::Data(data, vec![1; 4096])], 0, "log changes data"),
        (vec![Step::Zero(data + 8192, 4096)], 0, "log changes data"),
        (vec![Step::Zero(0, u64::MAX - 4095)], 0, "neither region table"),
        (vec![Step::Zero(2 << 20, 1 << 20)], 0, "no metadata table"),
    ] {
        let path = changed(folder.path(), |bytes| fill_log(bytes, 0, &[entry(FIRST, 0, &steps, size)]));
        let message = refused(&path, &[], 1);
        assert!(message.contains(says) && message.contains(", byte "), "{message}");
    }
}

/// A log of the largest size full of entries. Each claims to be as long as the rest of the log.
#[test]
fn a_log_of_traps_takes_neither_time_nor_memory() {
    let folder = scratch();
    let length = 64 << 20;
    let path = changed(folder.path(), |bytes| {
        let mut moved = bytes.clone();
        moved.resize(bytes.len() + length, 0);
        let start = bytes.len();
        headers(&mut moved, 68, &u32::try_from(length).unwrap().to_le_bytes());
        headers(&mut moved, 72, &u64::try_from(start).unwrap().to_le_bytes());
        headers(&mut moved, 48, &LOG_ID);
        for at in (0..length).step_by(4096) {
            let mut head = entry(FIRST, 0, &[], 0);
            put(&mut head, 8, &u32::try_from(length - at).unwrap().to_le_bytes());
            put(&mut moved, start + at, &head);
        }
        *bytes = moved;
    });
    assert_eq!(bounded(64, &["inspect".as_ref(), path.as_os_str()]).code, 0);
}

/// A fixed disk has all of its blocks, in their order.
#[test]
fn a_fixed_disk_is_the_disk_behind_its_tables() {
    let folder = scratch();
    let sample = Sample::new("disk", 5 * MIB, &[(0, 700, Fill::Text), (3 * MIB + 5, 9_000, Fill::Noise)]);
    let path = folder.path().join("disk.vhdx");
    row("vhdx-fixed").write(&sample.image(), &path, 2).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let mut expected = vec![0; 5 << 20];
    sample.image().read(0, &mut expected).unwrap();
    assert!(bytes[DATA..] == expected);
    let said = must(diskwright().args(["inspect", "--json"]).arg(&path));
    assert!(said.text().contains("\"fixed\""), "{}", said.text());
    // A hole of the file is a hole of the disk.
    let opened = open(&path, &OpenOptions::default()).unwrap();
    assert!(opened.image.covered().get() < MIB);
}

/// 7-Zip reads both kinds.
#[test]
fn seven_zip_reads_both_kinds() {
    let folder = scratch();
    let path = folder.path().join("disk.vhdx");
    let sample = Sample { length: 6 * MIB, ..usual() };
    for name in ["vhdx", "vhdx-fixed"] {
        row(name).write(&sample.image(), &path, 2).unwrap();
        let mut disk = (SEVEN_ZIP_VHDX.open)(&path).unwrap();
        assert_eq!(disk.size(), sample.length);
        same_disk(&sample.image(), disk.as_mut()).unwrap();
        let mut other = sample.clone();
        other.parts[4].0 += 1;
        same_disk(&other.image(), disk.as_mut()).unwrap_err();
    }
}

/// Little-endian numbers of an image.
fn le(image: &Image, offset: u64, length: usize) -> u64 {
    let mut bytes = [0; 8];
    image.read(offset, &mut bytes[..length]).unwrap();
    u64::from_le_bytes(bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Disks of up to 64 TiB with gigabytes of data: no byte is written, and each entry leads to the right
    /// place.
    #[test]
    fn the_sums_of_tables_hold_at_any_size(
        length in 1_u64..=64 << 40,
        fixed in any::<bool>(),
        runs in prop::collection::vec((0_u64..64 << 40, 1_u64..1 << 36), 1..6),
        probes in prop::collection::vec(0_u64..64 << 40, 20),
    ) {
        let (disk, placed) = full(length, runs, u64::MAX);
        let name = if fixed { "vhdx-fixed" } else { "vhdx" };
        let file = row(name).wrap(&disk).unwrap();
        let end = file.length().get();
        let block = le(&file, (2 << 20) + 64 * KIB, 4);
        prop_assert!(block.is_power_of_two() && block >= MIB && length.div_ceil(block) <= 1 << 20);
        prop_assert!(block == MIB || length.div_ceil(block / 2) > 1 << 20);
        prop_assert_eq!(le(&file, (2 << 20) + 64 * KIB + 8, 8), length.next_multiple_of(512));
        let (bat, bat_length) = (le(&file, 192 * KIB + 32, 8), le(&file, 192 * KIB + 40, 4));
        let ratio = (1 << 23) * 512 / block;
        for probe in interesting(length, &placed, probes) {
            let number = probe / block;
            let entry = number + number / ratio;
            prop_assert!(entry * 8 + 8 <= bat_length);
            let value = le(&file, bat + entry * 8, 8);
            let there = fixed || held(&placed, number * block, (number + 1) * block);
            prop_assert_eq!(value & 0xf_ffff, if there { 6 } else { 2 });
            if there {
                let place = value - 6;
                prop_assert!(place >= bat + bat_length && place + block <= end);
                prop_assert_eq!(le(&file, place + probe % block, 1), le(&disk, probe, 1));
            }
            // The entry of a sector bitmap says that there is none.
            if number / ratio > 0 {
                prop_assert_eq!(le(&file, bat + (ratio + (number / ratio - 1) * (ratio + 1)) * 8, 8), 0);
            }
        }
    }
}

/// Blocks that are holes of the file take no time: 64 GiB of them.
#[test]
fn holes_of_blocks_are_holes_of_the_disk() {
    let folder = scratch();
    let sample = Sample::new("long", 64 * GIB, &[(0, 5_000, Fill::Text), (64 * GIB - 512, 512, Fill::Text)]);
    let (path, target) = (folder.path().join("disk.vhdx"), folder.path().join("disk.raw"));
    row("vhdx-fixed").write(&sample.image(), &path, 2).unwrap();
    let said = run(diskwright().arg("convert").arg(&path).arg(&target));
    assert_eq!(said.code, 0, "{}", said.error());
    let opened = open(&target, &OpenOptions::default()).unwrap();
    same(&sample.image(), &opened.image).unwrap();
    assert!(opened.image.covered().get() < MIB);
}

/// Sectors of 4096 bytes are kept.
#[test]
fn sectors_of_4096_bytes_are_kept() {
    let folder = scratch();
    let path = |name: &str| folder.path().join(name);
    let create = ["--size", "10MiB", "--sector-size", "4096"];
    must(diskwright().arg("create").arg(path("a.vhdx")).args(create));
    let sector = |name: &str| {
        let text = must(diskwright().arg("inspect").arg(path(name))).text();
        text.lines().find(|line| line.starts_with("logical sector size")).unwrap().to_owned()
    };
    assert!(sector("a.vhdx").ends_with("4096"));
    must(diskwright().arg("resize").arg(path("a.vhdx")).arg("20MiB"));
    assert!(sector("a.vhdx").ends_with("4096"));
    let said = must(diskwright().arg("convert").arg(path("a.vhdx")).arg(path("b.vhdx")));
    assert!(sector("b.vhdx").ends_with("4096") && said.error().is_empty(), "{}", said.error());
}
