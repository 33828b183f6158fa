//! Tests of VHD only: footers and their copies, bitmaps, sizes by creator, and faults of strange files.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use diskwright::container::{Format, Identity, OpenOptions, Opened, Subformat, open};
use diskwright::units::{GIB, KIB, MIB, usize_of};
use proptest::prelude::*;

use crate::create::diskwright;
use crate::hostile::{Patch, bounded, complaint, disk, refused, row, wrong};
use crate::judge::{same, same_disk, virtual_size};
use crate::properties::{be, full};
use crate::readers::SEVEN_ZIP_VHD;
use crate::rows::IDENTITY;
use crate::samples::{Sample, noise, usual};
use crate::tools::{command, must, run, scratch};

/// The places of the parts of the usual hostile disk: 5 MiB, with data in each of its 3 blocks.
const HEADER: u64 = 512;
const TABLE: u64 = 1536;
/// The first bitmap: its data begins at 4096.
const FIRST: u64 = 3584;
const STRIDE: u64 = 2 * MIB + 4 * KIB;
const END: u64 = FIRST + 3 * STRIDE;

/// Stores the ones' complement of the sum of the bytes, except for the four at `field`, in `field`.
pub(crate) fn seal(bytes: &mut [u8], field: usize) {
    bytes[field..field + 4].fill(0);
    let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
    bytes[field..field + 4].copy_from_slice(&(!sum).to_be_bytes());
}

/// Changes bytes of the structure of `length` bytes at `at`, and corrects its checksum at `field`.
fn resealed(path: &Path, at: u64, length: usize, field: usize, patch: Patch<'_>) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, at).unwrap();
    for (offset, change) in patch {
        let offset = usize_of(*offset);
        bytes[offset..offset + change.len()].copy_from_slice(change);
    }
    seal(&mut bytes, field);
    file.write_all_at(&bytes, at).unwrap();
}

/// Changes the footer at the end, and its copy at the start where the disk is dynamic.
fn footer(path: &Path, patch: Patch<'_>) {
    let end = std::fs::metadata(path).unwrap().len() - 512;
    resealed(path, end, 512, 64, patch);
    if std::fs::read(path).unwrap().starts_with(b"conectix") {
        resealed(path, 0, 512, 64, patch);
    }
}

/// Changes bytes of the file and nothing else.
fn put(path: &Path, patch: Patch<'_>) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    for (offset, bytes) in patch {
        file.write_all_at(bytes, *offset).unwrap();
    }
}

fn written(row_name: &str, folder: &Path) -> PathBuf {
    let path = folder.join("disk.vhd");
    row(row_name).write(&disk().image(), &path, 1).unwrap();
    path
}

fn opened(path: &Path) -> Opened {
    open(path, &OpenOptions::default()).unwrap()
}

/// What of the file is changed.
#[derive(Clone, Copy)]
enum At {
    /// The footer and its copy.
    Footer,
    /// The dynamic header.
    Header,
    /// Any byte; checksums are left alone.
    File,
}

/// Changes a fresh file, in turn.
fn patched(folder: &Path, changes: &[(At, Patch<'_>)]) -> PathBuf {
    let path = written("vpc", folder);
    for (at, patch) in changes {
        match at {
            At::Footer => footer(&path, patch),
            At::Header => resealed(&path, HEADER, 1024, 36, patch),
            At::File => put(&path, patch),
        }
    }
    path
}

/// The fault, and the words that the message must contain.
const WRONG: &[(&str, At, Patch<'_>, &[&str])] = &[
    ("version 2", At::Footer, &[(12, &[0, 2])], &["unknown version", "byte 6307340", "found: 2.0"]),
    ("no type", At::Footer, &[(60, &[0, 0, 0, 0])], &["unknown type", "found: 0"]),
    ("type 5", At::Footer, &[(60, &[0, 0, 0, 5])], &["unknown type", "found: 5"]),
    ("negative size", At::Footer, &[(48, &[255; 8])], &["disk size", "at most 2040GiB"]),
    ("size past the table", At::Footer, &[(48, &[0, 0, 0, 0, 0, 0x60, 2, 0])], &["too small", "at least 4"]),
    ("fixed and too long", At::Footer, &[(60, &[0, 0, 0, 2]), (48, &[0, 0, 0, 1])], &["truncated"]),
    ("header outside", At::Footer, &[(16, &[0, 0, 1])], &["truncated", "dynamic header"]),
    ("header nowhere", At::Footer, &[(16, &[255; 8])], &["truncated", "dynamic header"]),
    ("header in the table", At::Footer, &[(22, &[6])], &["no dynamic header", "byte 1536", "cxsparse"]),
    ("header version 2", At::Header, &[(24, &[0, 2])], &["unknown version", "byte 536", "found: 2.0"]),
    ("blocks of nothing", At::Header, &[(32, &[0; 4])], &["block size", "byte 544", "found: 0"]),
    ("blocks of 256", At::Header, &[(32, &[0, 0, 1, 0])], &["block size", "found: 256"]),
    ("blocks of 3 MiB", At::Header, &[(32, &[0, 0x30, 0, 0])], &["block size", "found: 3145728"]),
    ("blocks of 4 GiB less one", At::Header, &[(32, &[255; 4])], &["block size"]),
    ("blocks of 2 GiB", At::Header, &[(32, &[0x80, 0, 0, 0])], &["truncated", "a block", "byte 3584"]),
    ("few entries", At::Header, &[(28, &[0, 0, 0, 2])], &["too small", "byte 540", "found: 2"]),
    ("many entries", At::Header, &[(28, &[255; 4])], &["truncated", "block allocation table"]),
    ("table outside", At::Header, &[(16, &[0, 0, 1])], &["truncated", "block allocation table"]),
    ("table nowhere", At::Header, &[(16, &[255; 8])], &["truncated", "block allocation table"]),
    ("table on the footer", At::Header, &[(16, &[0; 8])], &["overlap", "copy of the footer", "table"]),
    ("table on the header", At::Header, &[(22, &[2])], &["overlap", "dynamic header", "table"]),
    ("header's checksum", At::File, &[(HEADER + 700, &[1])], &["wrong checksum", "byte 548", "found: 0x"]),
    (
        "both footers",
        At::File,
        &[(90, &[1]), (END + 90, &[1])],
        &["footer has a wrong checksum", "byte 6307392"],
    ),
    ("no footer", At::File, &[(0, &[0]), (END, &[0])], &["no VHD", "conectix"]),
    ("block on the footer", At::File, &[(TABLE, &[0; 4])], &["overlap", "copy of the footer and a block"]),
    ("block on the table", At::File, &[(TABLE, &[0, 0, 0, 3])], &["overlap", "table and a block"]),
    ("block twice", At::File, &[(TABLE + 4, &[0, 0, 0, 7])], &["overlap: a block and a block", "byte 3584"]),
    ("block on a block", At::File, &[(TABLE + 4, &[0, 0, 0x10, 0])], &["overlap: a block and a block"]),
    ("block outside", At::File, &[(TABLE + 8, &[0, 1, 0, 0])], &["truncated", "a block", "33554432"]),
    ("block at the end of all", At::File, &[(TABLE, &[255, 255, 255, 254])], &["truncated", "a block"]),
    ("block past the end", At::File, &[(TABLE + 8, &[0, 0, 0x20, 0x20])], &["truncated", "a block"]),
    ("block into the footer", At::File, &[(TABLE + 8, &[0, 0, 0x20, 0x1f])], &["overlap", "the footer"]),
];

#[test]
fn footers_headers_and_tables_that_are_wrong() {
    let folder = scratch();
    for (name, at, patch, says) in WRONG {
        wrong(name, &patched(folder.path(), &[(*at, patch)]), Format::Vhd, says);
    }
}

/// The offsets above are those of the parts, and without a patch there is no fault.
#[test]
fn the_patches_hit_what_they_are_meant_to_hit() {
    let folder = scratch();
    let path = patched(folder.path(), &[(At::Footer, &[]), (At::Header, &[]), (At::File, &[])]);
    let bytes = std::fs::read(&path).unwrap();
    let fresh = written("vpc", folder.path());
    assert!(std::fs::read(fresh).unwrap() == bytes, "sealing again changes nothing");
    let be32 = |at: u64| u32::from_be_bytes(bytes[usize_of(at)..][..4].try_into().unwrap());
    assert_eq!(bytes.len(), usize_of(END + 512));
    assert!(bytes[usize_of(HEADER)..].starts_with(b"cxsparse"));
    assert!(bytes[usize_of(END)..].starts_with(b"conectix"));
    for (number, place) in (0..).zip([FIRST, FIRST + STRIDE, FIRST + 2 * STRIDE]) {
        assert_eq!(u64::from(be32(TABLE + number * 4)) * 512, place);
        assert!(bytes[usize_of(place)..][..512].iter().all(|byte| *byte == 0xff));
    }
    same(&disk().image(), &opened(&path).image).unwrap();
}

/// A differencing disk is refused by the name of its parent.
#[test]
fn a_differencing_disk_names_its_parent() {
    let folder = scratch();
    let name: Vec<u8> = "C:\\disks\\größe\u{1b}.vhd".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let path = patched(folder.path(), &[(At::Footer, &[(60, &[0, 0, 0, 4])]), (At::Header, &[(64, &name)])]);
    let message = refused(&path, &[], 1);
    for part in ["differencing", "byte 576", "parent `C:\\disks\\größe\\x1b.vhd`", "merge"] {
        assert!(message.contains(part), "{message}");
    }
    // A name of 256 letters has no end, and one that is no UTF-16 is shown as it can be.
    for unit in [*b"\0x", [0xd8, 0]] {
        let long = unit.repeat(256);
        let path =
            patched(folder.path(), &[(At::Footer, &[(60, &[0, 0, 0, 4])]), (At::Header, &[(64, &long)])]);
        assert!(refused(&path, &[], 1).contains("differencing"));
    }
}

/// There are two footers, and one is enough.
#[test]
fn one_footer_of_two_is_enough() {
    let folder = scratch();
    let image = disk().image();
    let notes = |opened: &Opened| opened.details.iter().any(|(name, _)| *name == "footer");
    // The copy alone: the end is damaged, cut off, or not the end.
    for (place, bytes) in [(END, &b"x"[..]), (END + 90, b"x"), (END + 511, b"xy"), (END + 5000, b"x")] {
        let path = patched(folder.path(), &[(At::File, &[(place, bytes)])]);
        let opened = opened(&path);
        assert!(notes(&opened), "{place}");
        same(&image, &opened.image).unwrap();
    }
    let path = written("vpc", folder.path());
    std::fs::File::options().write(true).open(&path).unwrap().set_len(END).unwrap();
    same(&image, &opened(&path).image).unwrap();
    // The end alone.
    for place in [0, 90] {
        let path = patched(folder.path(), &[(At::File, &[(place, b"x")])]);
        let opened = opened(&path);
        assert!(!notes(&opened), "{place}");
        same(&image, &opened.image).unwrap();
    }
    // Both, and not the same.
    let path = written("vpc", folder.path());
    resealed(&path, END, 512, 64, &[(70, b"x")]);
    let message = refused(&path, &[], 1);
    assert!(message.contains("differ") && message.contains(&format!("byte {END}")), "{message}");
    // A fixed disk whose first sector looks like a copy is what its end says; without its end it is not a
    // disk.
    let path = written("vpc-fixed", folder.path());
    let size = std::fs::metadata(&path).unwrap().len() - 512;
    let other = std::fs::read(patched(folder.path(), &[])).unwrap();
    let path = written("vpc-fixed", folder.path());
    put(&path, &[(0, &other[..512])]);
    let opened = opened(&path);
    assert_eq!((opened.image.length().get(), opened.subformat), (size, Some(Subformat::Fixed)));
    let path = written("vpc-fixed", folder.path());
    let bytes = std::fs::read(&path).unwrap();
    put(&path, &[(0, &bytes[usize_of(size)..]), (size, b"x")]);
    assert!(refused(&path, &["--from", "vpc"], 1).contains("no VHD"));
}

/// Virtual PC before 2004 wrote footers without the last byte.
#[test]
fn footers_of_511_bytes() {
    let folder = scratch();
    for name in ["vpc", "vpc-fixed"] {
        let path = written(name, folder.path());
        let length = std::fs::metadata(&path).unwrap().len();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(length - 1).unwrap();
        let opened = opened(&path);
        assert_eq!(opened.format, Format::Vhd);
        assert_eq!(opened.image.length().get(), disk().length);
        same(&disk().image(), &opened.image).unwrap();
    }
}

/// Sectors whose bit is clear were never written and read as zero, whatever is stored there: in a few runs
/// and in many. QEMU ignores bitmaps. 7-Zip uses them, and refuses a file with other bytes there.
#[test]
fn bitmaps_say_which_sectors_are_there() {
    let folder = scratch();
    let length = 6 * MIB;
    let noise = noise(5, length);
    let mut builder = diskwright::image::Builder::new(diskwright::units::Bytes::new(length));
    builder.bytes(diskwright::units::Bytes::ZERO, "noise", noise.clone());
    let path = folder.path().join("disk.vhd");
    row("vpc").write(&builder.finish().unwrap(), &path, 1).unwrap();
    let mut few = vec![0xff; 512];
    few[3] = 0xc3;
    few[100..200].fill(0);
    let many: Vec<u8> = (0..=255).chain(0..=255).collect();
    put(&path, &[(FIRST, &few), (FIRST + STRIDE, &many)]);
    let mut expected = noise;
    for (block, bitmap) in [few, many].iter().enumerate() {
        for sector in (0..4096).filter(|sector| bitmap[sector / 8] & (0x80 >> (sector % 8)) == 0) {
            let at = block * usize_of(2 * MIB) + sector * 512;
            expected[at..at + 512].fill(0);
        }
    }
    let mut builder = diskwright::image::Builder::new(diskwright::units::Bytes::new(length));
    builder.bytes(diskwright::units::Bytes::ZERO, "expected", expected.clone());
    let expected_image = builder.finish().unwrap();
    let opened = opened(&path);
    same(&expected_image, &opened.image).unwrap();
    assert!((SEVEN_ZIP_VHD.open)(&path).is_err());
    // From any byte to any byte.
    for (start, size) in [(0, 1), (511, 2), (2 * MIB - 1, 5000), (2 * MIB + 700, 3 * 512), (4 * MIB - 3, 6)] {
        let mut out = vec![0xd1; usize_of(size)];
        opened.image.read(start, &mut out).unwrap();
        assert!(out == expected[usize_of(start)..usize_of(start + size)], "{start}");
    }
    for block in 0..3 {
        let from = usize_of(block * 2 * MIB);
        put(&path, &[(FIRST + block * STRIDE + 512, &expected[from..from + usize_of(2 * MIB)])]);
    }
    same_disk(&expected_image, (SEVEN_ZIP_VHD.open)(&path).unwrap().as_mut()).unwrap();
    same(&expected_image, &open(&path, &OpenOptions::default()).unwrap().image).unwrap();
}

/// The size of the disk by its creator, as QEMU sees it.
#[test]
fn the_size_is_what_qemu_takes_it_for() {
    let folder = scratch();
    for name in ["vpc", "vpc-fixed"] {
        for creator in [b"win ", b"qem2", b"d2v ", b"CTXS", b"tap\0", b"qemu", b"vpc "] {
            for geometry in [None, Some([255, 255, 16, 255])] {
                let path = written(name, folder.path());
                footer(&path, &[(28, creator)]);
                if let Some(geometry) = geometry {
                    footer(&path, &[(56, &geometry)]);
                }
                let size = opened(&path).image.length().get();
                assert_eq!(size, virtual_size("vpc", &path), "{name}, {creator:?}, {geometry:?}");
            }
        }
        // Of others QEMU takes the geometry before version 10, and the size since then.
        for creator in [b"wa\0\0", b"vbox"] {
            let path = written(name, folder.path());
            footer(&path, &[(28, creator)]);
            assert_eq!(opened(&path).image.length().get(), disk().length);
        }
    }
}

/// QEMU writes into a disk of ours: into existing blocks, and into new ones over our footer.
#[test]
fn qemu_writes_into_it() {
    let folder = scratch();
    let path = folder.path().join("disk.vhd");
    let sample = Sample { length: 40 * MIB, ..usual() };
    row("vpc").write(&sample.image(), &path, 1).unwrap();
    let steps = ["write -P 7 30M 5000", "write -P 8 100k 512", "write -P 9 40940k 20480"];
    let mut io = command("qemu-io");
    io.args(["-f", "vpc"]).args(steps.iter().flat_map(|step| ["-c", step])).arg(&path);
    must(&mut io);
    let mut expected = vec![0; usize_of(sample.length)];
    sample.image().read(0, &mut expected).unwrap();
    for (byte, at, length) in [(7, 30 * MIB, 5000), (8, 100 * KIB, 512), (9, 40_940 * KIB, 20_480)] {
        let end = (at + length).min(sample.length);
        expected[usize_of(at)..usize_of(end)].fill(byte);
    }
    let mut found = vec![0xd1; usize_of(sample.length)];
    opened(&path).image.read(0, &mut found).unwrap();
    assert!(found == expected);
}

/// A bitmap with thousands of runs takes no more memory than its block.
#[test]
fn a_small_file_takes_little_memory() {
    let folder = scratch();
    let path = folder.path().join("dense.vhd");
    let blocks = 4_000;
    row("vpc").write(&Sample::new("hole", blocks * 2 * MIB, &[]).image(), &path, 1).unwrap();
    let data = (TABLE + blocks * 4).next_multiple_of(512);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[0], data).unwrap();
    let end = data + blocks * (2 * MIB + 512);
    for number in 0..blocks {
        let at = data + number * (2 * MIB + 512);
        file.write_all_at(&[0xaa; 512], at).unwrap();
        let sector = u32::try_from(at / 512).unwrap();
        file.write_all_at(&sector.to_be_bytes(), TABLE + number * 4).unwrap();
    }
    // The footer's copy is all that is left of it.
    file.set_len(end).unwrap();
    // 4,000 blocks of 2,048 runs are 8 million segments of 40 bytes, 312 MiB; the program itself needs some MiB.
    let said = bounded(32, &["inspect".as_ref(), path.as_os_str()]);
    assert_eq!(said.code, 0, "{}", said.error());
    assert!(said.text().contains("its copy at the start counts"), "{}", said.text());
}

/// The largest table, as a hole, with 16 GiB of entries for the first sector: one error, at once.
#[test]
fn the_largest_table_of_a_sparse_file() {
    let folder = scratch();
    let path = folder.path().join("sparse.vhd");
    row("vpc").write(&Sample::new("most", 2040 * GIB, &[]).image(), &path, 1).unwrap();
    must(diskwright().arg("inspect").arg(&path));
    // A table of its own behind everything, for blocks of 512 bytes.
    let place = MIB * 16;
    let patch: Patch<'_> = &[(16, &place.to_be_bytes()), (28, &[255; 4]), (32, &[0, 0, 2, 0])];
    resealed(&path, HEADER, 1024, 36, patch);
    let end = place + 4 * u64::from(u32::MAX);
    std::fs::File::options().write(true).open(&path).unwrap().set_len(end).unwrap();
    let message = complaint(&bounded(32, &["inspect".as_ref(), path.as_os_str()]), 1);
    assert!(message.contains("overlap"), "{message}");
}

/// Dynamic is the default, `static` stands for fixed, and there are no other kinds.
#[test]
fn subformats_have_names() {
    let folder = scratch();
    let source = crate::written::raw(&disk().image(), folder.path());
    let convert = |name: &str, arguments: &[&str]| {
        let path = folder.path().join(name);
        let said = run(diskwright().arg("convert").arg(&source).arg(&path).args(arguments));
        (said, path)
    };
    let read = |name: &str, arguments: &[&str]| {
        let (said, path) = convert(name, arguments);
        assert_eq!(said.code, 0, "{}", said.error());
        std::fs::read(path).unwrap()
    };
    let dynamic = read("a.vhd", &[]);
    assert!(dynamic == read("b.vpc", &["--subformat", "dynamic"]));
    assert!(dynamic == read("c.img", &["--format", "vpc"]));
    assert!(dynamic == read("d.img", &["--format", "vhd", "--subformat", "Dynamic"]));
    let fixed = read("e.vhd", &["--subformat", "fixed"]);
    assert!(fixed == read("f.vhd", &["--subformat", "static"]));
    assert_eq!(fixed.len(), usize_of(5 * MIB + 512));
    for (name, arguments, says) in [
        ("g.vhd", &["--subformat", "monolithicSparse"][..], "vpc does not have this subformat"),
        ("h.vhd", &["--compress", "zlib"], "vpc does not have compression"),
        ("i.vhd", &["--cluster-size", "64KiB"], "vpc does not have a cluster size"),
        ("j.qcow2", &["--subformat", "fixed"], "qcow2 does not have this subformat"),
    ] {
        let (said, path) = convert(name, arguments);
        assert!(complaint(&said, 2).contains(says), "{}", said.error());
        assert!(!path.exists());
    }
}

/// Ids and times follow from the options alone.
#[test]
fn ids_and_times_are_those_of_the_options() {
    let folder = scratch();
    let path = folder.path().join("disk.vhd");
    let write = |identity: Identity| {
        let progress = diskwright::progress::Progress::default();
        let pour = diskwright::pour::PourOptions::new(1, &progress);
        row("vpc").container().write(&disk().image(), &identity, &path, &pour).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let at = bytes.len() - 512;
        (u32::from_be_bytes(bytes[at + 24..at + 28].try_into().unwrap()), bytes[at + 68..at + 84].to_vec())
    };
    let (time, id) = write(IDENTITY);
    assert_eq!(u64::from(time), 1_700_000_000 - 946_684_800);
    let (later, same_id) = write(Identity { time: 1_700_000_001, ..IDENTITY });
    assert_eq!((later, &same_id), (time + 1, &id));
    let (same_time, other_id) = write(Identity { seed: uuid::Uuid::from_u128(1), ..IDENTITY });
    assert_eq!(same_time, time);
    assert_ne!(other_id, id);
    assert_ne!(other_id, uuid::Uuid::from_u128(1).as_bytes());
}

/// Hyper-V takes the data of blocks to be aligned if all of them begin at a multiple of 4 KiB. Appended
/// blocks count too; the specification puts them at the place of the footer, which moves to the end. (QEMU
/// appends directly after the last block.)
#[test]
fn an_appended_block_is_aligned_too() {
    let folder = scratch();
    let path = folder.path().join("disk.vhd");
    let bytes = noise(8, 2 * MIB);
    for sample in [Sample::new("empty", 9 * MIB, &[]), Sample { length: 9 * MIB, ..usual() }] {
        row("vpc").write(&sample.image(), &path, 1).unwrap();
        let file = std::fs::read(&path).unwrap();
        let (before, last) = file.split_at(file.len() - 512);
        assert!(last.starts_with(b"conectix"));
        assert_eq!((before.len() % 4096, file.len() % 4096), (3584, 0), "{}", sample.name);
        let mut appended = [before, &[0xff; 512], &bytes, last].concat();
        // The last block, of 1 MiB.
        let entry = usize_of(TABLE) + 4 * 4;
        assert_eq!(appended[entry..entry + 4], [0xff; 4]);
        let sector = u32::try_from(before.len() / 512).unwrap();
        appended[entry..entry + 4].copy_from_slice(&sector.to_be_bytes());
        std::fs::write(&path, appended).unwrap();
        let mut found = vec![0; usize_of(MIB)];
        opened(&path).image.read(8 * MIB, &mut found).unwrap();
        assert!(found == bytes[..found.len()]);
        let read = must(command("qemu-img").args(["map", "-f", "vpc", "--output=json"]).arg(&path));
        let map: serde_json::Value = serde_json::from_slice(&read.out).unwrap();
        let places = map.as_array().unwrap().iter().filter_map(|part| part["offset"].as_u64());
        assert!(places.clone().count() > 0 && places.clone().all(|place| place % 4096 == 0), "{map}");
    }
}

/// The output of `inspect`, for programs and for people.
#[test]
fn inspect_shows_kind_maker_and_id() {
    let folder = scratch();
    for (name, kind) in [("vpc", "dynamic"), ("vpc-fixed", "fixed")] {
        let path = written(name, folder.path());
        let said = must(diskwright().args(["inspect", "--json"]).arg(&path));
        let facts: serde_json::Value = serde_json::from_slice(&said.out).unwrap();
        assert_eq!((&facts["format"], &facts["virtual_size"]), (&"vpc".into(), &(5 * MIB).into()));
        assert_eq!(facts["details"][0], serde_json::json!(["subformat", kind]));
        let text = must(diskwright().arg("inspect").arg(&path)).text();
        for line in
            ["creator        win", "created        2023-11-14 22:13", "uuid           c4b80ea0-e85a-448a-"]
        {
            assert!(text.lines().any(|found| found.starts_with(line)), "{line} is not in: {text}");
        }
        assert_eq!(text.contains("block size     2097152"), kind == "dynamic", "{text}");
        // A creator in a foreign file cannot send commands to the terminal.
        footer(&path, &[(28, b"\x1b[2J")]);
        let text = must(diskwright().arg("inspect").arg(&path)).text();
        assert!(text.contains("creator        \\x1b[2J"), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Disks up to the largest with gigabytes of data: each entry leads to the right place, no two to the
    /// same, and data is aligned so that the host can share it.
    #[test]
    fn the_sums_of_vhd_hold_at_any_size(
        length in 1_u64..=2040 * GIB,
        runs in prop::collection::vec((0_u64..2040 * GIB, 1_u64..20 * GIB), 1..6),
        probes in prop::collection::vec(0_u64..2040 * GIB, 20),
    ) {
        let (disk, placed) = full(length, runs, u64::MAX);
        let file = row("vpc").wrap(&disk).unwrap();
        let end = file.length().get();
        prop_assert_eq!(end % 4096, 0);
        prop_assert_eq!(be(&file, 48, 8), length.next_multiple_of(512));
        prop_assert_eq!(be(&file, end - 512 + 48, 8), length.next_multiple_of(512));
        prop_assert_eq!(be(&file, HEADER + 28, 4), length.div_ceil(2 * MIB));
        let ends = placed.iter().flat_map(|(start, size)| [*start, start + size / 2, start + size - 1]);
        let mut places = std::collections::BTreeMap::new();
        for probe in ends.chain(probes.into_iter().map(|probe| probe % length)) {
            let block = probe / (2 * MIB);
            let entry = be(&file, TABLE + block * 4, 4);
            let from = block * 2 * MIB;
            let held = placed.iter().any(|(start, size)| *start < from + 2 * MIB && start + size > from);
            prop_assert_eq!(entry != u64::from(u32::MAX), held, "byte {}", probe);
            if held {
                let place = entry * 512 + 512;
                prop_assert_eq!(place % 4096, 0);
                prop_assert!(place + 2 * MIB <= end - 512);
                prop_assert_eq!(be(&file, entry * 512, 8), u64::MAX);
                prop_assert_eq!(be(&file, place + probe % (2 * MIB), 1), be(&disk, probe, 1));
                places.insert(block, place);
            }
        }
        // Blocks stand in the order of the disk, so that two of them are at least their length apart.
        let places: Vec<u64> = places.into_values().collect();
        prop_assert!(places.windows(2).all(|pair| pair[0] + STRIDE <= pair[1]));
    }
}

/// The largest disk, full: the last block's sector still fits its 32 bits.
#[test]
fn the_largest_disk_may_be_full() {
    let length = 2040 * GIB;
    let (disk, _) = full(length, vec![(0, length)], u64::MAX);
    let file = row("vpc").wrap(&disk).unwrap();
    let blocks = length / (2 * MIB);
    let last = be(&file, TABLE + (blocks - 1) * 4, 4);
    assert_eq!(last * 512 + STRIDE + 512, file.length().get());
    assert_eq!(be(&file, last * 512 + 512 + 2 * MIB - 1, 1), be(&disk, length - 1, 1));
}
