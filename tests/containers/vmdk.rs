//! Tests of VMDK only: damaged files, disks in several files, the descriptor, and streams.

use std::path::{Path, PathBuf};

use diskwright::container::{Format, OpenOptions, open};
use diskwright::error::Kind;
use diskwright::image::Image;
use diskwright::units::MIB;
use proptest::prelude::*;

use crate::create::diskwright;
use crate::hostile::{Patch, bounded, complaint, patched, refused, row, wrong};
use crate::judge::{qemu_img, same};
use crate::properties::{full, held, interesting};
use crate::samples::usual;
use crate::tools::{digest, must, names_in, run, scratch};
use crate::written::raw;

/// The places of the parts of the sparse file of `hostile::disk`: both directories with a table each, then
/// three grains.
const DESCRIPTOR: u64 = 512;
const REDUNDANT: u64 = 21 * 512;
const DIRECTORY: u64 = 26 * 512;
const TABLE: u64 = 27 * 512;
const FIRST: u64 = 128;

/// The fault, and the words that the message must contain.
type Wrong<'a> = (&'static str, Patch<'a>, &'static [&'static str]);

const SPARSE: &[Wrong<'_>] = &[
    ("version 0", &[(4, &[0])], &["unknown version", "byte 4", "found: 0"]),
    ("version 4", &[(4, &[4])], &["unknown version", "byte 4", "found: 4"]),
    ("unknown feature", &[(10, &[4])], &["not known", "byte 8", "0x40000"]),
    ("sent as text", &[(73, &[13, 10])], &["transfer as text", "byte 73", "[0d, 0a, 0d, 0a]"]),
    ("capacity of all ones", &[(12, &[255; 8])], &["disk size", "byte 12"]),
    ("capacity of a PiB", &[(17, &[2])], &["impossible length of the grain directory", "at most 33554432"]),
    ("no grain", &[(20, &[0])], &["grain size", "byte 20", "found: 0"]),
    ("crooked grain", &[(20, &[96])], &["grain size", "byte 20", "found: 96"]),
    ("huge grain", &[(20, &[0, 0, 0, 0, 0, 0, 0, 64])], &["grain size", "byte 20"]),
    ("tables of nothing", &[(44, &[0, 0])], &["grain tables", "byte 44", "found: 0"]),
    ("tables of 513", &[(44, &[1, 2])], &["grain tables", "byte 44", "found: 513"]),
    ("compression alone", &[(77, &[1])], &["compression", "byte 77", "found: 1"]),
    ("unknown compression", &[(10, &[3]), (77, &[2])], &["compression", "byte 77", "found: 2"]),
    ("compressed without markers", &[(10, &[1]), (77, &[1])], &["markers", "byte 8"]),
    ("markers without compression", &[(10, &[2])], &["markers", "byte 8"]),
    ("no descriptor", &[(28, &[0])], &["part of a disk", "byte 28"]),
    ("empty descriptor", &[(36, &[0])], &["length of the descriptor", "byte 512", "found: 0"]),
    ("endless descriptor", &[(36, &[255; 8])], &["length of the descriptor", "byte 512"]),
    ("descriptor outside", &[(28, &[0, 0, 0, 0, 1])], &["truncated", "the descriptor"]),
    ("descriptor of nothing", &[(DESCRIPTOR, &[0])], &["part of a disk", "byte 28", "empty"]),
    ("descriptor of anything", &[(DESCRIPTOR, b"a=b\n\0")], &["what kind of disk", "byte 512"]),
    (
        "a snapshot",
        &[(DESCRIPTOR, b"createType=\"x\"\nparentCID=0abc\nparentFileNameHint=\"a.vmdk\"\n\0")],
        &["snapshot", "byte 512", "0abc, a.vmdk"],
    ),
    ("no extent", &[(DESCRIPTOR, b"createType=\"x\"\n\0")], &["one extent", "byte 512", "found: 0"]),
    (
        "two extents",
        &[(DESCRIPTOR, b"createType=\"x\"\nRW 1 SPARSE \"a\"\nRW 1 SPARSE \"b\"\n\0")],
        &["one extent", "found: 2"],
    ),
    (
        "an extent of no size",
        &[(DESCRIPTOR, b"createType=\"x\"\nRW x SPARSE \"a\"\n\0")],
        &["no extent", "byte 527", "RW x SPARSE"],
    ),
    ("redundant directory outside", &[(52, &[1])], &["truncated", "the redundant grain directory"]),
    ("directory outside", &[(60, &[1])], &["truncated", "the grain directory"]),
    ("directory at the end", &[(56, &[255; 8])], &["footer", "truncated"]),
    ("directory in the header", &[(56, &[0])], &["overlap", "the header", "the grain directory"]),
    ("directory on the redundant one", &[(56, &[21])], &["overlap", "the redundant grain directory"]),
    ("directory on the descriptor", &[(56, &[1])], &["overlap", "the descriptor", "the grain directory"]),
    ("redundant table outside", &[(REDUNDANT + 3, &[1])], &["truncated", "a redundant grain table"]),
    ("redundant table on the directory", &[(REDUNDANT, &[26])], &["overlap", "a redundant grain table"]),
    ("table on the descriptor", &[(DIRECTORY, &[1])], &["overlap", "the descriptor", "a grain table"]),
    ("table on the directory", &[(DIRECTORY, &[26])], &["overlap", "the grain directory", "a grain table"]),
    ("table on a redundant one", &[(DIRECTORY, &[22])], &["overlap", "a redundant grain table"]),
    ("table outside", &[(DIRECTORY + 3, &[1])], &["truncated", "a grain table"]),
    ("grain on the descriptor", &[(TABLE, &[1])], &["overlap", "the descriptor", "data"]),
    ("grain on its table", &[(TABLE, &[27])], &["overlap", "a grain table", "data"]),
    ("one grain twice", &[(TABLE + 4, &[128])], &["overlap: data and data", "byte 65536"]),
    ("half a grain twice", &[(TABLE + 4, &[192])], &["overlap: data and data", "byte 98304"]),
    ("grain outside", &[(TABLE + 3, &[1])], &["truncated", "data lies outside"]),
    ("of ESX Server", &[(0, b"COWD")], &["ESX Server", "byte 0"]),
    ("seSparse", &[(0, &[0xbe, 0xba, 0xfe, 0xca, 0, 0, 0, 0])], &["seSparse", "byte 0"]),
];

#[test]
fn sparse_files_that_are_wrong() {
    let folder = scratch();
    for (name, patch, says) in SPARSE {
        let path = patched(row("vmdk"), folder.path(), patch);
        wrong(name, &path, Format::Vmdk, says);
    }
}

/// A little-endian number of 32 bits.
fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The offsets above are those of the parts, and without a patch there is no fault.
#[test]
fn the_patches_hit_what_they_are_meant_to_hit() {
    let folder = scratch();
    let path = patched(row("vmdk"), folder.path(), &[]);
    let bytes = std::fs::read(&path).unwrap();
    let number = |at: u64| u64::from(le32(&bytes, usize::try_from(at).unwrap()));
    assert_eq!([number(28) * 512, number(48) * 512, number(56) * 512], [DESCRIPTOR, REDUNDANT, DIRECTORY]);
    assert_eq!([number(DIRECTORY) * 512, number(TABLE)], [TABLE, FIRST]);
    assert_eq!(number(TABLE + 32 * 4), FIRST + 128);
    open(&path, &OpenOptions::default()).unwrap();
}

/// The stream of `hostile::disk` with some bytes changed.
fn stream(folder: &Path, change: impl Fn(&mut Vec<u8>)) -> PathBuf {
    let path = patched(row("vmdk-stream"), folder, &[]);
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Where the footer's header begins, and the first grain table.
fn places(bytes: &[u8]) -> (usize, usize) {
    let footer = bytes.len() - 1024;
    let directory = usize::try_from(le32(bytes, footer + 56)).unwrap() * 512;
    (footer, usize::try_from(le32(bytes, directory)).unwrap() * 512)
}

/// A change of a stream.
type Change = fn(&mut Vec<u8>);

/// Where the first grain's marker stands.
const MARKER: usize = 128 * 512;

const STREAM: &[(&str, Change, &[&str])] = &[
    ("a grain of elsewhere", |b| b[MARKER] = 1, &["belongs elsewhere", "byte 65536", "found: 1"]),
    ("a grain of no length", |b| b[MARKER + 8..][..4].fill(0), &["length of a compressed", "byte 65544"]),
    ("a grain of 4 GiB", |b| b[MARKER + 8..][..4].fill(255), &["length of a compressed", "byte 65544"]),
    (
        "a grain past the end",
        |b| b[MARKER + 8..][..4].copy_from_slice(&100_000_u32.to_le_bytes()),
        &["truncated", "a compressed grain"],
    ),
    ("a cut stream", |b| b[MARKER + 8] -= 5, &["decompressed", "cut", "byte 65548"]),
    ("a changed byte", |b| b[MARKER + 40] ^= 4, &["decompressed", "byte 65548"]),
    ("no stream at all", |b| b[MARKER + 12..][..80].fill(0xa5), &["decompressed", "byte 65548"]),
    (
        "more than a grain",
        // Grains of 32 KiB for streams of 64 KiB.
        |b| {
            let (footer, _) = places(b);
            b[20] = 64;
            b[footer + 20] = 64;
        },
        &["decompressed", "more than 32768 bytes"],
    ),
    (
        "less than a grain",
        |b| {
            let (footer, _) = places(b);
            b[20..22].copy_from_slice(&[0, 1]);
            b[footer + 20..footer + 22].copy_from_slice(&[0, 1]);
        },
        &["decompressed", "expected: 131072 bytes", "found: 65536 bytes"],
    ),
    (
        "one grain twice",
        |b| {
            let (_, table) = places(b);
            b[table + 4] = 128;
        },
        &["belongs elsewhere", "expected: sector 128", "found: 0"],
    ),
    (
        "a grain in the descriptor",
        |b| {
            let (_, table) = places(b);
            b[table] = 3;
        },
        &["overlap", "the descriptor", "a compressed grain"],
    ),
    (
        "a grain in its table",
        |b| {
            let (_, table) = places(b);
            let sector = u32::try_from(table / 512 + 1).unwrap();
            b[table..table + 4].copy_from_slice(&sector.to_le_bytes());
        },
        &["overlap", "a grain table", "a compressed grain"],
    ),
    (
        "a grain outside",
        |b| {
            let (_, table) = places(b);
            b[table + 3] = 1;
        },
        &["truncated", "a compressed grain"],
    ),
    ("no footer", |b| b.truncate(b.len() - 512), &["truncated", "no footer"]),
    (
        "a footer of another kind",
        |b| {
            let (footer, _) = places(b);
            b[footer - 512 + 12] = 2;
        },
        &["no footer"],
    ),
    (
        "no end",
        |b| {
            let end = b.len() - 512;
            b[end] = 1;
        },
        &["no footer"],
    ),
    (
        "a footer of another disk",
        |b| {
            let (footer, _) = places(b);
            b[footer + 13] ^= 1;
        },
        &["contradicts the header"],
    ),
    (
        "a footer that knows nothing",
        |b| {
            let (footer, _) = places(b);
            b[footer + 56..footer + 64].fill(255);
        },
        &["where the grain directory is"],
    ),
    (
        "a directory in the footer",
        |b| {
            let (footer, _) = places(b);
            let sector = u32::try_from(footer / 512).unwrap();
            b[footer + 56..footer + 60].copy_from_slice(&sector.to_le_bytes());
        },
        &["overlap", "the footer", "the grain directory"],
    ),
];

#[test]
fn streams_that_are_wrong() {
    let folder = scratch();
    open(&stream(folder.path(), |_| {}), &OpenOptions::default()).unwrap();
    for (name, change, says) in STREAM {
        wrong(name, &stream(folder.path(), change), Format::Vmdk, says);
    }
}

/// Tables that name a stream for each of a quarter of a million grains, in a file of 1 MiB: the memory for
/// them is about ten times the file.
#[test]
fn a_small_file_takes_little_memory() {
    let folder = scratch();
    let path = stream(folder.path(), |bytes| {
        let (tables, directory, end) = (500_u32, 128_u32, 128 + 4 + 500 * 4);
        bytes.truncate(128 * 512);
        bytes.resize(usize::try_from(end).unwrap() * 512, 0);
        let mut put = |at: u32, number: u32| {
            let at = usize::try_from(at).unwrap();
            bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        };
        put(12, tables * 512 * 128);
        put(56, directory);
        put(60, 0);
        for table in 0..tables {
            put(directory * 512 + table * 4, directory + 4 + table * 4);
            for entry in 0..512 {
                put((directory + 4 + table * 4) * 512 + entry * 4, end);
            }
        }
        bytes.extend([0; 512]);
    });
    let opened = open(&path, &OpenOptions::default()).unwrap();
    assert_eq!(opened.image.segments().len(), 500 * 512);
    let said = bounded(48, &["inspect".as_ref(), path.as_os_str()]);
    assert!(complaint(&said, 1).contains("length of a compressed grain"));
}

/// Disks in several files, as QEMU makes them: opened with --allow-backing only.
#[test]
fn disks_in_several_files() {
    // Two extents of 2 GiB, and a third.
    let long = crate::samples::Sample::new(
        "5 GiB",
        5 << 30,
        &[(0, 9000, crate::samples::Fill::Text), ((2 << 30) - 700, 1400, crate::samples::Fill::Noise)],
    );
    for (subformat, sample, parts) in [
        ("monolithicFlat", usual(), 1),
        ("twoGbMaxExtentFlat", long.clone(), 3),
        ("twoGbMaxExtentSparse", long, 3),
    ] {
        let folder = scratch();
        let image = sample.image();
        let below = raw(&image, folder.path());
        let path = folder.path().join("disk.vmdk");
        let option = format!("subformat={subformat}");
        qemu_img(&[&"convert", &"-f", &"raw", &"-O", &"vmdk", &"-o", &option, &below, &path]);
        for arguments in [&["convert"][..], &["inspect"], &["resize"]] {
            let mut program = diskwright();
            program.args(arguments).arg(&path);
            match arguments[0] {
                "convert" => drop(program.arg(folder.path().join("out.raw"))),
                "resize" => drop(program.arg("+1GiB")),
                _ => {}
            }
            let message = complaint(&run(&mut program), 2);
            assert!(message.contains("disk-") && message.contains("convert"), "{message}");
            // What is resized is one file, which `convert` makes with the flag.
            assert!(message.contains("--allow-backing"), "{message}");
        }
        let options = OpenOptions { format: None, allow_backing: true };
        let opened = open(&path, &options).unwrap_or_else(|error| panic!("{subformat}: {error}"));
        same(&image, &opened.image).unwrap_or_else(|error| panic!("{subformat}: {error}"));
        assert_eq!(opened.image.length(), image.length(), "{subformat}");
        assert_eq!(opened.files.len(), 1 + parts, "{subformat}");
        // A part contains data of the disk, but alone it is not a disk.
        let part = opened.files.last().unwrap();
        let mut program = diskwright();
        program.args(["convert", "--allow-backing", "--format", "raw"]).arg(&path).arg(part);
        assert!(complaint(&run(&mut program), 2).contains("destination is the source"), "{subformat}");
        if subformat == "twoGbMaxExtentSparse" {
            assert!(refused(part, &[], 1).contains("part of a disk"), "{subformat}");
        }
    }
}

/// Descriptors in files of their own that are wrong.
#[test]
fn descriptors_that_are_wrong() {
    let folder = scratch();
    let path = folder.path().join("disk.vmdk");
    std::fs::write(folder.path().join("part"), vec![7; 4096]).unwrap();
    let head = "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"custom\"\n";
    for (extents, code, says) in [
        ("", 1, "names no extent"),
        ("RW 0 FLAT \"part\" 0\n", 1, "size of an extent"),
        ("RW 36028797018963968 ZERO\n", 1, "size of an extent"),
        ("RW 18014398509481983 ZERO\nRW 1 ZERO\n", 1, "size of an extent"),
        ("RW 8 FLAT \"none\" 0\n", 1, "does not exist"),
        ("RW 8 FLAT \"part\" 1\n", 1, "truncated"),
        ("RW 8 FLAT \"part\" 18446744073709551615\n", 1, "truncated"),
        ("RW 8 FLAT \"nbd:part\" 0\n", 1, "protocol"),
        ("RW 8 FLAT \"/dev/null\" 0\n", 1, "a file or a block device"),
        ("RW 8 SPARSE \"part\"\n", 1, "no VMDK image"),
        ("RW 8 SPARSE \"disk.vmdk\"\n", 1, "no VMDK image"),
        ("RW 8 SESPARSE \"part\"\n", 1, "not known"),
        ("RW 8 \x1b[31m \"part\"\n", 1, "not known"),
        ("RW 8 FLAT \"part\n", 1, "is no extent"),
        ("RW 8 FLAT \"part\" x\n", 1, "is no extent"),
    ] {
        std::fs::write(&path, format!("{head}{extents}")).unwrap();
        let message = refused(&path, &["--allow-backing"], code);
        assert!(message.contains(says) && message.contains("disk.vmdk"), "{extents}: {message}");
    }
    std::fs::write(&path, format!("{head}RW 4 FLAT \"part\" 2\nRW 6 ZERO\nRDONLY 8 FLAT \"./part\"\n"))
        .unwrap();
    let opened = open(&path, &OpenOptions { format: None, allow_backing: true }).unwrap();
    let mut bytes = vec![1; 18 * 512];
    opened.image.read(0, &mut bytes).unwrap();
    let expected = [vec![7; 4 * 512], vec![0; 6 * 512], vec![7; 8 * 512]].concat();
    assert!(bytes == expected);
    std::fs::write(&path, vec![b'#'; 200_000]).unwrap();
    std::fs::write(&path, [head.as_bytes(), &vec![b'\n'; 200_000]].concat()).unwrap();
    assert!(refused(&path, &[], 1).contains("length of the descriptor"));
}

/// The same disk has the same bytes under every name; other bytes give another id.
#[test]
fn names_change_nothing_and_bytes_change_the_id() {
    let folder = scratch();
    let below = raw(&usual().image(), folder.path());
    let write = |source: &Path, name: &str, arguments: &[&str]| {
        let target = folder.path().join(name);
        must(diskwright().arg("convert").arg(source).arg(&target).args(arguments));
        std::fs::read(target).unwrap()
    };
    let cid = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(&bytes[512..2048]).into_owned();
        text.lines().find(|line| line.starts_with("CID=")).unwrap().to_owned()
    };
    for arguments in [&[][..], &["--subformat", "streamOptimized"]] {
        let one = write(&below, "one.vmdk", arguments);
        assert!(one == write(&below, "another.vmdk", arguments));
        let mut other = std::fs::read(&below).unwrap();
        other[9] ^= 1;
        let changed = folder.path().join("changed.raw");
        std::fs::write(&changed, other).unwrap();
        assert_ne!(cid(&one), cid(&write(&changed, "changed.vmdk", arguments)));
    }
}

#[test]
fn streams_have_levels_and_go_to_standard_output() {
    let folder = scratch();
    let below = raw(&usual().image(), folder.path());
    let target = folder.path().join("disk.vmdk");
    let stream = ["--format", "vmdk", "--subformat", "streamOptimized"];
    let digest_of = |arguments: &[&str]| {
        must(diskwright().arg("convert").arg(&below).arg(&target).args(stream).args(arguments));
        digest(&target)
    };
    let usual = digest_of(&[]);
    assert_eq!(digest_of(&["--compress", "zlib"]), usual);
    assert_eq!(digest_of(&["--compress", "zlib", "--level", "6"]), usual);
    assert_ne!(digest_of(&["--compress", "zlib", "--level", "1"]), usual);
    must(diskwright().arg("convert").arg(&below).arg(&target).args(stream));
    let said = must(diskwright().arg("convert").arg(&below).arg("-").args(stream));
    assert!(said.out == std::fs::read(&target).unwrap());
    let before = names_in(folder.path());
    for (arguments, says) in [
        (&["--compress", "zstd"][..], "vmdk does not have compression"),
        (&["--subformat", "monolithicSparse", "--compress", "zlib"], "streamOptimized (zlib)"),
        (&["--subformat", "fixed"], "vmdk does not have this subformat"),
        (&["--cluster-size", "4KiB"], "vmdk does not have a cluster size"),
    ] {
        let mut program = diskwright();
        program.arg("convert").arg(&below).arg(folder.path().join("new.vmdk")).args(arguments);
        let message = complaint(&run(&mut program), 2);
        assert!(message.contains(says), "{message}");
    }
    let message =
        complaint(&run(diskwright().arg("convert").arg(&below).arg("-").args(["--format", "vmdk"])), 2);
    assert!(message.contains("cannot be streamed"), "{message}");
    assert_eq!(names_in(folder.path()), before);
}

/// A little-endian number of 32 bits of an image.
fn number(image: &Image, at: u64) -> u64 {
    let mut bytes = [0; 4];
    image.read(at, &mut bytes).unwrap();
    u64::from(u32::from_le_bytes(bytes))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Disks of up to 2 TiB with gigabytes of data: no byte is written, and each entry of both tables leads
    /// to the right place.
    #[test]
    fn the_sums_of_tables_hold_at_any_size(
        length in 1_u64..(1 << 41) - 512,
        runs in prop::collection::vec((0_u64..1 << 41, 1_u64..1 << 34), 1..6),
        probes in prop::collection::vec(0_u64..1 << 41, 20),
    ) {
        let (disk, placed) = full(length, runs, u64::MAX);
        let file = row("vmdk").wrap(&disk).unwrap();
        let end = file.length().get();
        prop_assert_eq!(end % 65_536, 0);
        prop_assert_eq!(number(&file, 12), length.div_ceil(512));
        for probe in interesting(length, &placed, probes) {
            let grain = probe / 65_536;
            let place = [48, 56].map(|field| {
                let table = number(&file, number(&file, field) * 512 + grain / 512 * 4);
                assert!(table > 0, "every table has a place");
                number(&file, table * 512 + grain % 512 * 4) * 512
            });
            prop_assert_eq!(place[0], place[1]);
            prop_assert_eq!(place[0] > 0, held(&placed, grain * 65_536, (grain + 1) * 65_536));
            if place[0] > 0 {
                prop_assert!(place[0].is_multiple_of(65_536) && place[0] + 65_536 <= end);
                let (mut a, mut b) = ([0], [1]);
                file.read(place[0] + probe % 65_536, &mut a).unwrap();
                disk.read(probe, &mut b).unwrap();
                prop_assert_eq!(a, b);
            }
        }
    }
}

/// A disk below the limit with so much data that its file is above the limit: 32 bits cannot count its
/// sectors.
#[test]
fn a_file_over_the_limit_is_refused() {
    let (disk, _) = full((2 << 40) - 512, vec![(0, u64::MAX)], u64::MAX);
    let error = row("vmdk").wrap(&disk).unwrap_err();
    assert_eq!(error.kind(), Kind::Capacity, "{error}");
    assert!(error.to_string().contains("2TiB") && error.to_string().contains("streamOptimized"), "{error}");
}

/// A disk that grows keeps its controller, because machines refuse a disk for another one.
#[test]
fn a_disk_keeps_its_controller() {
    for (subformat, adapter) in
        [("monolithicSparse", "lsilogic"), ("monolithicSparse", "legacyESX"), ("streamOptimized", "ide")]
    {
        let folder = scratch();
        let below = raw(&usual().image(), folder.path());
        let path = folder.path().join("disk.vmdk");
        let option = format!("subformat={subformat},adapter_type={adapter}");
        qemu_img(&[&"convert", &"-f", &"raw", &"-O", &"vmdk", &"-o", &option, &below, &path]);
        let says = |path: &Path, subformat: &str, adapter: &str| {
            let bytes = std::fs::read(path).unwrap();
            let text = String::from_utf8_lossy(&bytes[512..2048]).into_owned();
            let heads = if adapter == "ide" { 16 } else { 255 };
            for line in [
                format!("createType=\"{subformat}\""),
                format!("ddb.adapterType = \"{adapter}\""),
                format!("ddb.geometry.heads = \"{heads}\""),
            ] {
                assert!(text.contains(&line), "{line} is not in: {text}");
            }
        };
        must(diskwright().arg("resize").arg(&path).arg("1GiB"));
        says(&path, subformat, adapter);
        let other = folder.path().join("other.vmdk");
        for kind in ["monolithicSparse", "streamOptimized"] {
            must(diskwright().arg("convert").args([&path, &other]).args(["--subformat", kind]));
            says(&other, kind, adapter);
        }
    }
}

/// The default controller of a kind of VMDK says nothing about the disk.
#[test]
fn a_usual_controller_becomes_that_of_the_other_kind() {
    let folder = scratch();
    let path = |name: &str| folder.path().join(name);
    for (from, to, adapter) in
        [("vmdk", "streamOptimized", "lsilogic"), ("vmdk-stream", "monolithicSparse", "ide")]
    {
        row(from).write(&usual().image(), &path("a.vmdk"), 1).unwrap();
        must(diskwright().arg("convert").args([path("a.vmdk"), path("b.vmdk")]).args(["--subformat", to]));
        let text = must(diskwright().arg("inspect").arg(path("b.vmdk"))).text();
        assert!(text.contains(&format!("adapter type   {adapter}\n")), "{text}");
    }
}

/// The output of `inspect` for each kind.
#[test]
fn inspect_names_the_kind() {
    let folder = scratch();
    for (name, subformat, version) in
        [("vmdk", "monolithicSparse", "1"), ("vmdk-stream", "streamOptimized", "3")]
    {
        let path = folder.path().join("disk.vmdk");
        row(name).write(&usual().image(), &path, 1).unwrap();
        let said = must(diskwright().args(["inspect", "--json"]).arg(&path));
        let facts: serde_json::Value = serde_json::from_slice(&said.out).unwrap();
        assert_eq!(facts["virtual_size"], 5 * MIB + 3 * 512);
        let details = facts["details"].to_string();
        for detail in [subformat, version, "65536"] {
            assert!(details.contains(&format!("\"{detail}\"")), "{details}");
        }
    }
}
