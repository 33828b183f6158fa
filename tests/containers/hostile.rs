//! Damaged files, by accident or on purpose. Each gives one error that names the file, the byte and the
//! reason, with exit code 1. Nothing is left behind, and nothing takes much time or memory.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use diskwright::container::{Format, OpenOptions, open};
use diskwright::error::Kind;
use diskwright::units::{KIB, MIB};

use crate::create::diskwright;
use crate::rows::{ROWS, Row};
use crate::samples::{Fill, Sample};
use crate::tools::{Said, command, must, names_in, quiet, run, scratch};

/// Bytes to put at a place of the file.
pub(crate) type Patch<'a> = &'a [(u64, &'a [u8])];

/// Clusters of 4 KiB, so that every table has one of its own: header, L1, three L2, refcount table, refcount block.
const CLUSTER: u64 = 4 * KIB;
const L1: u64 = CLUSTER;
const L2: u64 = 2 * CLUSTER;
const REFCOUNT_TABLE: u64 = 5 * CLUSTER;
const DATA: u64 = 7 * CLUSTER;

pub(crate) fn row(name: &str) -> &'static Row {
    ROWS.iter().find(|row| row.name == name).unwrap()
}

/// A disk of 5 MiB with data in the first and the last MiB.
pub(crate) fn disk() -> Sample {
    let parts =
        [(0, 20_000, Fill::Text), (2 * MIB, 4 * KIB, Fill::Noise), (5 * MIB - 4 * KIB, 4 * KIB, Fill::Text)];
    Sample::new("disk", 5 * MIB, &parts)
}

/// That disk in a file, with some bytes changed.
pub(crate) fn patched(row: &Row, folder: &Path, patch: Patch<'_>) -> PathBuf {
    let path = folder.join("bad.qcow2");
    row.write(&disk().image(), &path, 1).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    for (offset, bytes) in patch {
        file.write_all_at(bytes, *offset).unwrap();
    }
    path
}

/// The program refuses to convert `path` into a new file: one message, exit code `code`, nothing left.
pub(crate) fn refused(path: &Path, arguments: &[&str], code: i32) -> String {
    let out = scratch();
    let target = out.path().join("out.img");
    let said = run(diskwright().arg("convert").arg(path).arg(&target).args(arguments));
    let message = complaint(&said, code);
    assert!(names_in(out.path()).is_empty(), "{message}");
    message
}

/// The one message of a run that failed with `code`.
pub(crate) fn complaint(said: &Said, code: i32) -> String {
    let message = said.error();
    assert_eq!(said.code, code, "{message}{}", said.text());
    assert!(message.starts_with("diskwright: error: "), "{message}");
    assert_eq!(message.matches("diskwright: ").count(), 1, "{message}");
    assert!(said.out.is_empty(), "{message}");
    assert!(!message.contains('\x1b') && !message.contains("bug in diskwright"), "{message}");
    message
}

/// Library and program refuse `path`, and say `says` with the place.
pub(crate) fn wrong(name: &str, path: &Path, format: Format, says: &[&str]) {
    let error = match open(path, &OpenOptions { format: Some(format), allow_backing: false }) {
        Err(error) => error,
        // A fault in data is found when it is read.
        Ok(opened) => opened.image.read(0, &mut vec![0; 5 << 20]).expect_err(name),
    };
    assert_eq!(error.kind(), Kind::Format, "{name}: {error}");
    let message = error.to_string();
    for part in says {
        assert!(message.contains(part), "{name}: `{part}` is not in: {message}");
    }
    // If there are several faults, the program may report any.
    let message = refused(path, &["--from", format.name()], 1);
    assert!(message.contains(path.to_str().unwrap()) && message.contains(", byte "), "{name}: {message}");
}

/// The fault, and the words that the message must contain.
const PLAIN: &[(&str, Patch<'_>, &[&str])] = &[
    ("version 1", &[(4, &[0, 0, 0, 1])], &["unknown version", "byte 4", "found: 1"]),
    ("version 4", &[(4, &[0, 0, 0, 4])], &["unknown version", "byte 4", "found: 4"]),
    ("clusters of 256", &[(20, &[0, 0, 0, 8])], &["cluster size", "byte 20", "found: 8"]),
    ("clusters of 4 MiB", &[(20, &[0, 0, 0, 22])], &["cluster size", "byte 20"]),
    ("clusters of 2^4294967295", &[(20, &[255; 4])], &["cluster size", "byte 20"]),
    ("encrypted", &[(32, &[0, 0, 0, 2])], &["encrypted", "byte 32"]),
    ("marked corrupt", &[(72, &[0, 0, 0, 0, 0, 0, 0, 2])], &["corrupt", "byte 72"]),
    ("data elsewhere", &[(72, &[0, 0, 0, 0, 0, 0, 0, 4])], &["another file", "byte 72"]),
    ("unknown feature", &[(72, &[0, 0, 0, 0, 0, 0, 0, 0x20])], &["not known", "byte 72", "found: bit 5"]),
    (
        "small extended clusters",
        &[(72, &[0, 0, 0, 0, 0, 0, 0, 0x10])],
        &["too small for extended", "byte 20"],
    ),
    ("no header", &[(100, &[0, 0, 0, 0])], &["length of the header", "byte 100", "found: 0"]),
    ("endless header", &[(100, &[255; 4])], &["length of the header", "byte 100"]),
    ("wide refcounts", &[(96, &[0, 0, 0, 7])], &["width of refcounts", "byte 96", "found: 7"]),
    (
        "unknown codec",
        &[(72, &[0, 0, 0, 0, 0, 0, 0, 8]), (104, &[2])],
        &["compression", "byte 104", "found: 2"],
    ),
    ("negative size", &[(24, &[255; 8])], &["disk size", "byte 24"]),
    ("size past the L1 table", &[(24, &[0, 0, 0, 1, 0, 0, 0, 0])], &["too small for the disk", "byte 36"]),
    ("large L1 table", &[(36, &[0x40, 0, 0, 0])], &["L1 table is too large", "byte 36"]),
    ("L1 table of 32 MiB", &[(36, &[0, 0x40, 0, 0])], &["truncated", "L1 table", "byte 4096"]),
    ("crooked L1 table", &[(40, &[0, 0, 0, 0, 0, 0, 0x10, 8])], &["not aligned", "byte 40", "4104"]),
    ("L1 table outside", &[(40, &[0, 1, 0, 0, 0, 0, 0, 0])], &["truncated", "L1 table"]),
    (
        "L1 table at the end of all",
        &[(40, &[255, 255, 255, 255, 255, 255, 0xf0, 0])],
        &["truncated", "L1 table"],
    ),
    ("L1 table in the header", &[(40, &[0; 8])], &["overlap", "header", "L1 table"]),
    ("refcount table outside", &[(48, &[0, 1, 0, 0, 0, 0, 0, 0])], &["truncated", "refcount table"]),
    ("crooked refcount table", &[(48, &[0, 0, 0, 0, 0, 0, 0x50, 1])], &["refcount table", "byte 48"]),
    ("large refcount table", &[(56, &[255; 4])], &["refcount table is too large", "byte 56"]),
    (
        "refcount table over L1",
        &[(48, &[0, 0, 0, 0, 0, 0, 0x10, 0])],
        &["overlap", "refcount table", "L1 table"],
    ),
    (
        "refcount block in the header",
        &[(REFCOUNT_TABLE + 8, &[0, 0, 0, 0, 0, 0, 2, 0])],
        &["not aligned", "20488"],
    ),
    (
        "refcount block on L2",
        &[(REFCOUNT_TABLE, &[0, 0, 0, 0, 0, 0, 0x20, 0])],
        &["overlap", "refcount block", "L2"],
    ),
    (
        "refcount block outside",
        &[(REFCOUNT_TABLE, &[0, 0, 0, 1, 0, 0, 0, 0])],
        &["truncated", "refcount block"],
    ),
    ("reserved bits of L1", &[(L1, &[0x40])], &["reserved bits", "an L2 table", "byte 4096"]),
    ("L1 to the L1 table", &[(L1, &[0x80, 0, 0, 0, 0, 0, 0x10, 0])], &["overlap", "L1 table", "byte 4096"]),
    ("L1 to the refcount table", &[(L1, &[0x80, 0, 0, 0, 0, 0, 0x50, 0])], &["overlap", "refcount table"]),
    ("L1 twice to one table", &[(L1 + 8, &[0x80, 0, 0, 0, 0, 0, 0x20, 0])], &["overlap", "an L2 table"]),
    ("L1 outside", &[(L1, &[0x80, 0, 0, 1, 0, 0, 0, 0])], &["truncated", "an L2 table"]),
    ("crooked L1", &[(L1, &[0x80, 0, 0, 0, 0, 0, 0x22, 0])], &["not aligned", "an L2 table", "byte 4096"]),
    ("reserved bits of L2", &[(L2, &[0x90])], &["reserved bits", "data", "byte 8192", "0x1000000000000000"]),
    ("L2 to the L1 table", &[(L2, &[0x80, 0, 0, 0, 0, 0, 0x10, 0])], &["overlap", "L1 table", "data"]),
    ("L2 to itself", &[(L2, &[0x80, 0, 0, 0, 0, 0, 0x20, 0])], &["overlap", "L2 table", "data"]),
    (
        "L2 to the refcount block",
        &[(L2, &[0x80, 0, 0, 0, 0, 0, 0x60, 0])],
        &["overlap", "refcount block", "data"],
    ),
    ("L2 twice to one cluster", &[(L2 + 8, &[0x80, 0, 0, 0, 0, 0, 0x70, 0])], &["overlap: data and data"]),
    ("L2 outside", &[(L2, &[0x80, 0, 0, 1, 0, 0, 0, 0])], &["truncated", "data"]),
    ("crooked L2", &[(L2, &[0x80, 0, 0, 0, 0, 0, 0x72, 0])], &["not aligned", "data", "byte 8192"]),
    ("zeros in version 2", &[(4, &[0, 0, 0, 2]), (L2 + 7, &[1])], &["only version 3", "byte 8192"]),
    ("reserved bits of version 2", &[(4, &[0, 0, 0, 2]), (L2 + 7, &[2])], &["reserved bits", "byte 8192"]),
    ("compressed outside", &[(L2, &[0x40, 0, 0, 1, 0, 0, 0, 0])], &["truncated", "compressed", "byte 8192"]),
    (
        "compressed in the L1 table",
        &[(L2, &[0x40, 0, 0, 0, 0, 0, 0x10, 0])],
        &["overlap", "compressed", "L1 table"],
    ),
    // The stream begins behind the header and runs into the L1 table: two sectors from byte 3600 on.
    ("compressed into the L1 table", &[(L2, &[0x44, 0, 0, 0, 0, 0, 0x0e, 0x10])], &["overlap", "compressed"]),
    ("compressed and in place", &[(L2, &[0xc0, 0, 0, 0, 0, 1, 0x20, 0])], &["reserved bits", "byte 8192"]),
    // The second cluster of data is no deflate; its own entry is taken away.
    ("text for deflate", &[(L2, &[0x40, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0])], &["decompressed"]),
];

#[test]
fn headers_and_tables_that_are_wrong() {
    let folder = scratch();
    for (name, patch, says) in PLAIN {
        wrong(name, &patched(row("qcow2-4k"), folder.path(), patch), Format::Qcow2, says);
    }
}

/// The offsets above are those of the tables, and without a patch there is no fault.
#[test]
fn the_patches_hit_what_they_are_meant_to_hit() {
    let folder = scratch();
    let path = patched(row("qcow2-4k"), folder.path(), &[]);
    let bytes = std::fs::read(&path).unwrap();
    let entry = |at: u64| {
        let at = usize::try_from(at).unwrap();
        u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
    };
    let copied = 1 << 63;
    assert_eq!([entry(40), entry(48)], [L1, REFCOUNT_TABLE]);
    assert_eq!([entry(L1), entry(L2)], [copied | L2, copied | DATA]);
    open(&path, &OpenOptions::default()).unwrap();
}

/// A file that ends early is an error or still contains the disk: the last cluster may be cut if the rest of
/// it is zero.
#[test]
fn every_length_of_a_file_is_an_error_or_the_disk() {
    let folder = scratch();
    for row in ROWS.iter().filter(|row| row.format != Format::Raw) {
        let path = folder.path().join("cut");
        let image = disk().image();
        row.write(&image, &path, 1).unwrap();
        let length = std::fs::metadata(&path).unwrap().len();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        let mut cuts: Vec<u64> = (0..200).map(|step| length - length * step / 200).collect();
        cuts.extend(
            [1, 3, 4, 71, 72, 103, 104, 111, 112, 120, 511, 512, 513, 4095, 4097].map(|cut| length.min(cut)),
        );
        cuts.sort_unstable_by(|a, b| b.cmp(a));
        let (mut good, mut bad) = (0, 0);
        for cut in cuts {
            file.set_len(cut).unwrap();
            let options = OpenOptions { format: Some(row.format), allow_backing: false };
            let read = open(&path, &options).map(|opened| crate::judge::same(&image, &opened.image));
            match read {
                Ok(Ok(())) => good += 1,
                // A cut data cluster reads as zero after the cut, as in QEMU.
                Ok(Err(_)) if cut < length => good += 1,
                Ok(Err(error)) => panic!("{}, {cut} bytes: {error}", row.name),
                Err(error) => {
                    assert_eq!(error.kind(), Kind::Format, "{}, {cut} bytes: {error}", row.name);
                    bad += 1;
                }
            }
        }
        assert!(good > 0 && bad > 20, "{}: {good} good, {bad} bad", row.name);
    }
}

/// Compressed clusters with damaged streams: empty, cut by the end of the file, too short.
#[test]
fn compressed_clusters_that_are_wrong() {
    for name in ["qcow2-zlib", "qcow2-zstd"] {
        let folder = scratch();
        let path = patched(row(name), folder.path(), &[]);
        // The first stream follows the header's cluster.
        let good = std::fs::read(&path).unwrap();
        let first = 64 * usize::try_from(KIB).unwrap();
        let empty: &[u8] = match name {
            // A last block with fixed codes that has nothing but its end: bits 1, 10, 0000000.
            "qcow2-zlib" => &[0x03, 0x00],
            // A frame of a single segment that says it has no bytes, with one last raw block of no bytes.
            _ => &[0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x00, 0x01, 0x00, 0x00],
        };
        let noise = crate::samples::noise(7, 64);
        for (what, bytes) in
            [("nothing", empty), ("zeros", &[0; 64]), ("ones", &[255; 64]), ("noise", &noise)]
        {
            let mut bad = good.clone();
            bad[first..first + bytes.len()].copy_from_slice(bytes);
            std::fs::write(&path, bad).unwrap();
            let message = refused(&path, &[], 1);
            assert!(
                message.contains("decompressed") && message.contains("byte 65536"),
                "{name}, {what}: {message}"
            );
        }
        std::fs::write(&path, &good[..first + 100]).unwrap();
        let message = refused(&path, &[], 1);
        assert!(message.contains("truncated"), "{name}: {message}");
    }
}

/// The conflict of bits in extended level 2 entries, in a file that QEMU made.
#[test]
fn parts_of_clusters_that_contradict_themselves() {
    let folder = scratch();
    let path = folder.path().join("bad.qcow2");
    must(
        command("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-o", "extended_l2=on"])
            .arg(&path)
            .arg("1M"),
    );
    must(command("qemu-io").args(["-c", "write -P 7 0 4k"]).arg(&path));
    let bytes = std::fs::read(&path).unwrap();
    let at = |offset: u64| {
        let offset = usize::try_from(offset).unwrap();
        u64::from_be_bytes(bytes[offset..offset + 8].try_into().unwrap())
    };
    let l2 = at(at(40)) & 0x00ff_ffff_ffff_fe00;
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let good = at(l2 + 8);
    assert_eq!(good, 0b11, "two parts of 2 KiB are stored");
    for (bitmap, entry) in [
        // Stored and zero at once; stored without a cluster; bit 0 of the entry, which only plain entries have.
        (good | 1 << 32, at(l2)),
        (good, 0),
        (good, at(l2) | 1),
    ] {
        file.write_all_at(&entry.to_be_bytes(), l2).unwrap();
        file.write_all_at(&bitmap.to_be_bytes(), l2 + 8).unwrap();
        let message = refused(&path, &[], 1);
        assert!(message.contains("byte"), "{message}");
    }
    // Zero parts past the end of the disk have no effect.
    file.write_all_at(&at(l2).to_be_bytes(), l2).unwrap();
    file.write_all_at(&(good | 0xf << 60).to_be_bytes(), l2 + 8).unwrap();
    open(&path, &OpenOptions::default()).unwrap();
}

/// Runs the program with at most `mebibytes` of memory of its own (RLIMIT_DATA: heap, stacks and private maps).
pub(crate) fn bounded(mebibytes: u64, arguments: &[&std::ffi::OsStr]) -> Said {
    let program = crate::support::program::path();
    let script = format!("ulimit -d {}; exec \"$0\" \"$@\"", mebibytes * 1024);
    run(quiet(command("sh")).args(["-c", &script]).arg(program).args(arguments))
}

/// Every entry of every table in a file of 1 MiB is used; the memory for them is a few times the file.
#[test]
fn a_small_file_takes_little_memory() {
    let folder = scratch();
    let path = folder.path().join("dense.qcow2");
    // Clusters of 512 bytes, all of a file of 1 MiB level 2 tables that name one compressed byte stream each:
    // 64 entries a table, 2,040 tables.
    let (cluster, tables) = (512_u64, 2_040_u64);
    let l1_clusters = (tables * 8).div_ceil(cluster);
    let mut bytes = vec![0_u8; usize::try_from((2 + l1_clusters + tables) * cluster).unwrap()];
    let mut put = |at: u64, value: &[u8]| {
        let at = usize::try_from(at).unwrap();
        bytes[at..at + value.len()].copy_from_slice(value);
    };
    put(0, b"QFI\xfb\0\0\0\x03");
    put(20, &9_u32.to_be_bytes());
    put(24, &(tables * 64 * cluster).to_be_bytes());
    put(36, &u32::try_from(tables).unwrap().to_be_bytes());
    put(40, &cluster.to_be_bytes());
    put(48, &((1 + l1_clusters) * cluster).to_be_bytes());
    put(56, &1_u32.to_be_bytes());
    put(96, &4_u32.to_be_bytes());
    put(100, &104_u32.to_be_bytes());
    for table in 0..tables {
        let at = (2 + l1_clusters + table) * cluster;
        put(cluster + table * 8, &(1 << 63 | at).to_be_bytes());
        for slot in 0..64 {
            // All streams at the end of the header's cluster would overlap it: behind the end of the tables.
            put(at + slot * 8, &(1_u64 << 62 | ((2 + l1_clusters + tables) * cluster)).to_be_bytes());
        }
    }
    bytes.extend([0x03, 0x00]);
    std::fs::write(&path, &bytes).unwrap();
    let opened = open(&path, &OpenOptions::default()).unwrap();
    assert_eq!(opened.image.segments().len(), usize::try_from(tables * 64).unwrap());
    // 130,560 clusters, 64 bytes for each; the program itself needs some MiB.
    let said = bounded(32, &["inspect".as_ref(), path.as_os_str()]);
    // Its bytes cannot be decompressed, so inspect ends with that error and not for lack of memory.
    assert!(complaint(&said, 1).contains("decompressed"));
}

/// The largest L1 table, as a hole: it takes no work, and only its own memory.
#[test]
fn the_largest_tables_of_a_sparse_file() {
    let folder = scratch();
    let path = folder.path().join("sparse.qcow2");
    row("qcow2").write(&Sample::new("most", 2048 << 40, &[]).image(), &path, 1).unwrap();
    must(diskwright().arg("inspect").arg(&path));
    assert_eq!(bounded(96, &["inspect".as_ref(), path.as_os_str()]).code, 0);
}

/// A disk of 100 GiB whose clusters are in no order in the file opens with memory in proportion to its
/// tables.
#[test]
fn a_large_disk_opens() {
    let folder = scratch();
    let path = folder.path().join("large.qcow2");
    let cluster = 64 * KIB;
    let clusters = 100 * 16_384_u64;
    // All entries of its 200 tables, data from 16 MiB on in the order n -> n * 611953 mod 1638400 (coprime).
    let tables = clusters / 8_192;
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(16 * MIB + clusters * cluster).unwrap();
    let mut head = vec![0; 112];
    for (at, value) in [
        (0, &b"QFI\xfb\0\0\0\x03"[..]),
        (20, &16_u32.to_be_bytes()),
        (96, &4_u32.to_be_bytes()),
        (100, &104_u32.to_be_bytes()),
    ] {
        head[at..at + value.len()].copy_from_slice(value);
    }
    head[24..32].copy_from_slice(&(clusters * cluster).to_be_bytes());
    head[36..40].copy_from_slice(&u32::try_from(tables).unwrap().to_be_bytes());
    head[40..48].copy_from_slice(&cluster.to_be_bytes());
    head[48..56].copy_from_slice(&(2 * cluster).to_be_bytes());
    head[56..60].copy_from_slice(&1_u32.to_be_bytes());
    file.write_all_at(&head, 0).unwrap();
    for table in 0..tables {
        let at = (3 + table) * cluster;
        file.write_all_at(&(1 << 63 | at).to_be_bytes(), cluster + table * 8).unwrap();
        let entries: Vec<u8> = (table * 8_192..(table + 1) * 8_192)
            .flat_map(|number| (1 << 63 | (16 * MIB + number * 611_953 % clusters * cluster)).to_be_bytes())
            .collect();
        file.write_all_at(&entries, at).unwrap();
    }
    let said = bounded(320, &["inspect".as_ref(), path.as_os_str()]);
    assert_eq!(said.code, 0, "{}", said.error());
    assert!(said.text().contains("100 GiB"), "{}", said.text());
}
