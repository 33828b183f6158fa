//! Tests of VDI only: its header and map, and faults of strange files.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use diskwright::container::{Format, Identity, OpenOptions, Subformat, open};
use diskwright::image::{Builder, Image};
use diskwright::units::{Bytes, GIB, MIB, TIB, usize_of};
use proptest::prelude::*;

use crate::create::diskwright;
use crate::hostile::{Patch, bounded, complaint, disk, refused, row, wrong};
use crate::judge::{same, virtual_size};
use crate::properties::full;
use crate::rows::IDENTITY;
use crate::samples::{Sample, noise, usual};
use crate::tools::{command, must, scratch};

/// The places of the parts of the usual hostile disk: 5 MiB, with data in the blocks 0, 2 and 4.
const MAP: u64 = 512;
const DATA: u64 = MIB;

fn patched(folder: &Path, patch: Patch<'_>) -> PathBuf {
    let path = folder.join("disk.vdi");
    row("vdi").write(&disk().image(), &path, 1).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    for (offset, bytes) in patch {
        file.write_all_at(bytes, *offset).unwrap();
    }
    path
}

fn read(path: &Path) -> Image {
    open(path, &OpenOptions::default()).unwrap().image
}

/// The fault, and the words that the message must contain.
const WRONG: &[(&str, Patch<'_>, &[&str])] = &[
    ("signature", &[(64, &[0])], &["no VDI", "byte 64", "0xbeda107f"]),
    ("version 0.2", &[(68, &[2, 0, 0, 0])], &["unknown version", "byte 68", "found: 0.2"]),
    ("version 2.0", &[(68, &[0, 0, 2, 0])], &["unknown version", "found: 2.0"]),
    ("short header", &[(72, &[0x7f, 1])], &["length of the header", "byte 72", "found: 383"]),
    ("long header", &[(72, &[0, 2])], &["overlap: the header and the map", "byte 512"]),
    ("endless header", &[(72, &[255; 4])], &["truncated", "the header"]),
    ("no type", &[(76, &[0])], &["unknown type", "byte 76", "found: 0"]),
    ("type 5", &[(76, &[5])], &["unknown type", "found: 5"]),
    ("undo disk", &[(76, &[3])], &["undo disk", "byte 76", "merge"]),
    ("differencing disk", &[(76, &[4])], &["differencing", "byte 76", "merge"]),
    (
        "differencing disk with a parent",
        &[(76, &[4]), (424, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16])],
        &["differencing", "the parent 04030201-0605-0807-090a-0b0c0d0e0f10"],
    ),
    (
        "dynamic disk with a link",
        &[(439, &[1])],
        &["differencing", "parent 00000000-0000-0000-0000-000000000001"],
    ),
    ("dynamic disk with a parent", &[(440, &[1])], &["differencing", "parent 00000001-"]),
    ("map outside", &[(340, &[0, 0, 0, 1])], &["truncated", "the map of blocks", "byte 16777216"]),
    ("map in the header", &[(340, &[0, 1, 0, 0])], &["overlap", "the header and the map"]),
    ("data outside", &[(344, &[0, 0, 0, 1])], &["truncated", "data", "byte 16777216"]),
    ("data in the header", &[(344, &[0; 4])], &["overlap", "the header and a block"]),
    ("data on the map", &[(344, &[0, 2, 0, 0])], &["overlap", "the map of blocks and a block"]),
    ("sectors of 4096", &[(360, &[0, 0x10])], &["sector size", "byte 360", "found: 4096"]),
    ("negative size", &[(368, &[255; 8])], &["disk size", "byte 368", "at most 1125899905794048"]),
    ("a PiB", &[(368, &[0, 0, 0, 0, 0, 0, 4, 0])], &["disk size", "found: 1125899906842624"]),
    ("size past the map", &[(368, &[1, 0, 0x50])], &["too small", "byte 384", "at least 6", "found: 5"]),
    ("blocks of nothing", &[(376, &[0; 4])], &["block size", "byte 376", "found: 0"]),
    ("blocks of 256", &[(376, &[0, 1, 0, 0])], &["block size", "found: 256"]),
    ("blocks of 3 MiB", &[(376, &[0, 0, 0x30])], &["block size", "found: 3145728"]),
    ("blocks of 4 GiB less one", &[(376, &[255; 4])], &["block size"]),
    ("small blocks", &[(376, &[0, 0, 8])], &["too small", "at least 10"]),
    ("three bytes before each block", &[(380, &[3])], &["before each block", "byte 380", "found: 3"]),
    ("2 GiB before each block", &[(380, &[0, 0, 0, 0x80])], &["truncated", "data"]),
    ("few entries", &[(384, &[4])], &["too small", "byte 384", "found: 4"]),
    ("many entries", &[(384, &[255; 4])], &["truncated", "the map of blocks"]),
    ("more in the file than there are", &[(388, &[6])], &["more blocks", "byte 388", "found: 6"]),
    ("block twice", &[(MAP + 4, &[1, 0, 0, 0])], &["overlap: a block and a block", "byte 2097152"]),
    ("block outside", &[(MAP, &[3, 0, 0, 0])], &["truncated", "data", "byte 4194304"]),
    ("block at the end of all", &[(MAP, &[253, 255, 255, 255])], &["truncated", "data"]),
    (
        "largest block at the end of all",
        &[(376, &[0, 0, 0, 0x80]), (380, &[0, 0, 0, 0x80]), (MAP, &[253, 255, 255, 255])],
        &["truncated", "data"],
    ),
];

#[test]
fn headers_and_maps_that_are_wrong() {
    let folder = scratch();
    for (name, patch, says) in WRONG {
        wrong(name, &patched(folder.path(), patch), Format::Vdi, says);
    }
}

/// The offsets above are those of the parts, and without a patch there is no fault.
#[test]
fn the_patches_hit_what_they_are_meant_to_hit() {
    let folder = scratch();
    let path = patched(folder.path(), &[]);
    let bytes = std::fs::read(&path).unwrap();
    let le32 = |at: u64| u32::from_le_bytes(bytes[usize_of(at)..][..4].try_into().unwrap());
    assert_eq!([64, 68, 72, 76, 340, 344].map(le32), [0xbeda_107f, 0x10001, 400, 1, 512, 1 << 20]);
    assert_eq!([360, 368, 372, 376, 380, 384, 388].map(le32), [512, 5 << 20, 0, 1 << 20, 0, 5, 3]);
    assert_eq!([0, 1, 2, 3, 4].map(|number| le32(MAP + number * 4)), [0, u32::MAX, 1, u32::MAX, 2]);
    assert_eq!(bytes.len(), usize_of(DATA + 3 * MIB));
    same(&disk().image(), &read(&path)).unwrap();
}

/// Blocks in any order, zero blocks, free blocks, blocks cut by the end of the file, disks of odd sizes,
/// longer headers, other block sizes, and extra data before each block: no reader minds these.
#[test]
fn what_is_unusual_and_right() {
    let folder = scratch();
    let expected = disk().image();
    // Blocks 0 and 2 change places in the file.
    let path = patched(folder.path(), &[]);
    let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    let mut blocks = vec![0; usize_of(2 * MIB)];
    file.read_exact_at(&mut blocks, DATA).unwrap();
    file.write_all_at(&blocks[usize_of(MIB)..], DATA).unwrap();
    file.write_all_at(&blocks[..usize_of(MIB)], DATA + MIB).unwrap();
    file.write_all_at(&[1, 0, 0, 0], MAP).unwrap();
    file.write_all_at(&[0, 0, 0, 0], MAP + 8).unwrap();
    same(&expected, &read(&path)).unwrap();
    // A block that is zero, and not free: both read the same.
    let path = patched(folder.path(), &[(MAP + 4, &[254, 255, 255, 255])]);
    same(&expected, &read(&path)).unwrap();
    // A zero block that was stored.
    let path = patched(folder.path(), &[(MAP, &[254, 255, 255, 255])]);
    let mut without = disk();
    without.parts.remove(0);
    same(&without.image(), &read(&path)).unwrap();
    // The last block ends with the file, as far as it holds something: 4 KiB at the end of the disk, nothing behind.
    let path = patched(folder.path(), &[]);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(DATA + 3 * MIB - 4096).unwrap();
    let mut without = disk();
    without.parts.pop();
    same(&without.image(), &read(&path)).unwrap();
    // A size that is no whole number of sectors: the last one is there whole, as in QEMU.
    for (size, whole) in [(&[0xff, 0xfd, 0x4f], 0x4f_fe00), (&[1, 0xfe, 0x4f], 0x50_0000)] {
        let path = patched(folder.path(), &[(368, size)]);
        assert_eq!(read(&path).length().get(), whole);
        assert_eq!(virtual_size("vdi", &path), whole);
    }
    // A header that goes on to the map.
    same(&expected, &read(&patched(folder.path(), &[(72, &[184, 1])]))).unwrap();
}

/// Blocks of 64 KiB with 512 bytes before each, as VirtualBox once had it in mind (cbBlockExtra).
#[test]
fn blocks_of_another_size_with_something_before_them() {
    let folder = scratch();
    let path = folder.path().join("disk.vdi");
    let (block, extra, count) = (65_536_u64, 512_u64, 20_u64);
    row("vdi").write(&Sample::new("hole", count * block, &[]).image(), &path, 1).unwrap();
    let noise = noise(3, count * block);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let le32 = |number: u64| u32::try_from(number).unwrap().to_le_bytes();
    for (at, number) in [(376, block), (380, extra), (384, count), (388, count)] {
        file.write_all_at(&le32(number), at).unwrap();
    }
    for number in 0..count {
        // In the order n -> n * 7 mod 20 (coprime).
        let place = number * 7 % count;
        file.write_all_at(&le32(place), MAP + number * 4).unwrap();
        let at = DATA + place * (block + extra);
        file.write_all_at(&[0xee; 512], at).unwrap();
        file.write_all_at(&noise[usize_of(number * block)..][..usize_of(block)], at + extra).unwrap();
    }
    let mut builder = Builder::new(Bytes::new(count * block));
    builder.bytes(Bytes::ZERO, "noise", noise);
    same(&builder.finish().unwrap(), &read(&path)).unwrap();
}

/// QEMU writes into a disk of ours, into existing blocks and new ones, and still finds no fault.
#[test]
fn qemu_writes_into_it() {
    let folder = scratch();
    let path = folder.path().join("disk.vdi");
    let sample = Sample { length: 40 * MIB, ..usual() };
    for name in ["vdi", "vdi-static"] {
        row(name).write(&sample.image(), &path, 1).unwrap();
        let mut io = command("qemu-io");
        io.args(["-f", "vdi", "-c", "write -P 7 30M 5000", "-c", "write -P 9 40940k 20480"]).arg(&path);
        must(&mut io);
        crate::judge::check("vdi", &path).unwrap();
        let mut expected = vec![0; usize_of(sample.length)];
        sample.image().read(0, &mut expected).unwrap();
        expected[usize_of(30 * MIB)..][..5000].fill(7);
        expected[usize_of(40 * MIB - 20_480)..].fill(9);
        let mut found = vec![0xd1; usize_of(sample.length)];
        read(&path).read(0, &mut found).unwrap();
        assert!(found == expected, "{name}");
    }
}

/// The largest map, as a hole, with 16 GiB of entries for the first block: one error, at once.
#[test]
fn the_largest_map_of_a_sparse_file() {
    let folder = scratch();
    // The map stands behind all else, with blocks of 512 bytes for a disk of 2 TiB less one.
    let size = (u64::from(u32::MAX) * 512).to_le_bytes();
    let map = 16 * MIB;
    let path = patched(
        folder.path(),
        &[
            (340, &u32::try_from(map).unwrap().to_le_bytes()),
            (368, &size),
            (376, &[0, 2, 0, 0]),
            (384, &[255; 4]),
        ],
    );
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(map + 4 * u64::from(u32::MAX)).unwrap();
    let message = complaint(&bounded(32, &["inspect".as_ref(), path.as_os_str()]), 1);
    assert!(message.contains("overlap: a block and a block"), "{message}");
}

/// The type makes a disk static, whatever its map says; kinds and ids are shown.
#[test]
fn kinds_and_ids_are_kept() {
    let folder = scratch();
    let path = folder.path().join("disk.vdi");
    for (name, subformat) in [("vdi", Subformat::Dynamic), ("vdi-static", Subformat::Fixed)] {
        row(name).write(&disk().image(), &path, 1).unwrap();
        let opened = open(&path, &OpenOptions::default()).unwrap();
        assert_eq!(opened.subformat, Some(subformat));
        let details: Vec<&str> = opened.details.iter().map(|(name, _)| *name).collect();
        assert_eq!(details, ["subformat", "block size", "uuid"]);
        // A description in a foreign file cannot send commands to the terminal.
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(b"of a stranger\x1b[2J", 84).unwrap();
        let said = must(diskwright().arg("inspect").arg(&path));
        assert!(said.text().contains("of a stranger\\x1b[2J"), "{}", said.text());
        must(diskwright().arg("resize").arg(&path).arg("+1MiB"));
        assert_eq!(open(&path, &OpenOptions::default()).unwrap().subformat, Some(subformat));
    }
    let message = refused(&path, &["--subformat", "streamOptimized", "--format", "vdi"], 2);
    assert!(message.contains("vdi does not have this subformat"), "{message}");
    // Ids follow from the seed alone.
    let ids = |identity: &Identity| {
        let file = row("vdi").container().wrap(&disk().image(), identity).unwrap();
        let mut ids = [0; 64];
        file.read(392, &mut ids).unwrap();
        ids
    };
    let first = ids(&IDENTITY);
    assert_eq!(first, ids(&Identity { time: 5, ..IDENTITY }));
    assert_ne!(first[..16], first[16..32]);
    assert_eq!(first[32..], [0; 32]);
    let other = ids(&Identity { seed: uuid::Uuid::from_u128(1), ..IDENTITY });
    assert!(first[..16] != other[..16] && first[16..32] != other[16..32]);
}

/// Little-endian numbers of an image.
fn le(image: &Image, offset: u64, length: usize) -> u64 {
    let mut bytes = [0; 8];
    image.read(offset, &mut bytes[..length]).unwrap();
    u64::from_le_bytes(bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Disks up to the largest with gigabytes of data: each entry leads to the right place, and no two to the
    /// same.
    #[test]
    fn the_sums_of_vdi_hold_at_any_size(
        length in prop_oneof![1_u64..2 * TIB, 1_u64..511 * TIB],
        runs in prop::collection::vec((0_u64..511 * TIB, 1_u64..200 * GIB), 1..6),
        probes in prop::collection::vec(0_u64..511 * TIB, 20),
        fixed in any::<bool>(),
    ) {
        let (disk, placed) = full(length, runs, u64::MAX);
        let file = row(if fixed { "vdi-static" } else { "vdi" }).wrap(&disk).unwrap();
        let (data, blocks, stored) = (le(&file, 344, 4), le(&file, 384, 4), le(&file, 388, 4));
        prop_assert_eq!(le(&file, 368, 8), length.next_multiple_of(512));
        prop_assert_eq!(blocks, length.div_ceil(MIB));
        prop_assert!(data % MIB == 0 && data >= MAP + blocks * 4);
        prop_assert_eq!(file.length().get(), data + stored * MIB);
        let ends = placed.iter().flat_map(|(start, size)| [*start, start + size / 2, start + size - 1]);
        let mut numbers = std::collections::BTreeMap::new();
        for probe in ends.chain(probes.into_iter().map(|probe| probe % length)) {
            let block = probe / MIB;
            let entry = le(&file, MAP + block * 4, 4);
            let held = placed.iter().any(|(start, size)| *start < (block + 1) * MIB && start + size > block * MIB);
            prop_assert_eq!(entry != u64::from(u32::MAX), held || fixed, "byte {}", probe);
            if held || fixed {
                prop_assert!(entry < stored && (!fixed || entry == block));
                prop_assert_eq!(le(&file, data + entry * MIB + probe % MIB, 1), le(&disk, probe, 1));
                numbers.insert(block, entry);
            }
        }
        let numbers: Vec<u64> = numbers.into_values().collect();
        prop_assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
