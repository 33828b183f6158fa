//! The seeds of the fuzz targets (fuzz/seeds): small images made by code, each for a reason.
//! `DISKWRIGHT_BLESS=1` writes them anew.

mod vhdx;
mod vmdk;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use diskwright::container::codec::{Codec, Level};
use diskwright::container::qcow2::{Backing, ClusterSize, Options};
use diskwright::container::{Container, Format, OpenOptions, open};
use diskwright::pour::PourOptions;
use diskwright::progress::Progress;
use diskwright::units::{Bytes, usize_of};

use crate::hostile::row;
use crate::rows::IDENTITY;
use crate::samples::{Fill, Sample, text};
use crate::tools::scratch;
use crate::vhd::seal;

/// The result of reading a seed.
#[derive(Clone, Copy, Debug)]
enum Becomes {
    /// A disk of so many bytes, which can all be read.
    Disk(u64),
    /// An error with these words.
    Error(&'static str),
}
use Becomes::{Disk, Error};

/// An image for a fuzz target to begin with.
struct Seed {
    format: Format,
    name: &'static str,
    why: &'static str,
    becomes: Becomes,
    bytes: Vec<u8>,
}

/// Changes bytes at offsets. Some may be past the end.
fn put(bytes: &mut Vec<u8>, changes: &[(usize, &[u8])]) {
    for (at, change) in changes {
        let end = at + change.len();
        bytes.resize(bytes.len().max(end), 0);
        bytes[*at..end].copy_from_slice(change);
    }
}

fn patched(bytes: &[u8], changes: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    put(&mut bytes, changes);
    bytes
}

/// A file by the library with a disk of 8 KiB; half a cluster of it is a hole.
fn written(options: Options) -> Vec<u8> {
    let folder = scratch();
    let path = folder.path().join("seed");
    let disk = Sample::new("seed", 8192, &[(0, 700, Fill::Text), (4096, 4096, Fill::Text)]).image();
    let container = Container::Qcow2(options);
    container.write(&disk, &IDENTITY, &path, &PourOptions::new(1, &Progress::default())).unwrap();
    std::fs::read(path).unwrap()
}

fn qcow2() -> Vec<Seed> {
    let cluster_size = ClusterSize::new(Bytes::new(512)).unwrap();
    let options = Options { cluster_size, ..Options::default() };
    let plain = written(options.clone());
    let by = |codec| written(Options { codec: Some(codec), ..options.clone() });
    let backing = Some(Backing { path: "base.raw".to_owned(), is_uri: false, format: "raw" });
    let overlay = written(Options { backing, ..options.clone() });
    // The tables of a disk of 16 sectors in clusters of 512 bytes: header, L1, one L2.
    let (l1, l2) = (512, 1024);
    let seed = |name, why, becomes, bytes| Seed { format: Format::Qcow2, name, why, becomes, bytes };
    vec![
        seed(
            "plain",
            "every table, in clusters of 512 bytes; growing it moves its L1 table",
            Disk(8192),
            plain.clone(),
        ),
        seed("zlib", "compressed clusters of deflate", Disk(8192), by(Codec::Zlib(Level::default()))),
        seed(
            "zstd",
            "compressed clusters of zstd, with the feature bit for it",
            Disk(8192),
            by(Codec::Zstd(Level::default())),
        ),
        seed("version-2", "a header of 72 bytes", Disk(8192), patched(&plain, &[(4, &[0, 0, 0, 2])])),
        seed(
            "zeros",
            "a cluster that is zero and has a place all the same",
            Disk(8192),
            patched(&plain, &[(l2 + 7, &[1])]),
        ),
        seed(
            "overlay",
            "a backing file, with its format in a header extension",
            Error("backing file"),
            overlay,
        ),
        seed(
            "snapshot",
            "a snapshot, with which it is not made larger",
            Disk(8192),
            patched(&plain, &[(60, &[0, 0, 0, 1])]),
        ),
        seed(
            "extended",
            "level 2 entries of parts of clusters: stored, zero, not there",
            Disk(32_768),
            extended(),
        ),
        seed(
            "loop",
            "an L1 table that is its own L2 table",
            Error("overlap"),
            patched(&plain, &[(l1 + 6, &[2])]),
        ),
        seed(
            "dirty",
            "refcounts that may be stale, with which it is not made larger",
            Disk(8192),
            patched(&plain, &[(79, &[1])]),
        ),
    ]
}

/// Clusters of 16 KiB with 32 parts of a sector each: header, L1, L2, an empty refcount table, one cluster of data.
fn extended() -> Vec<u8> {
    let cluster = 16_384_u64;
    let mut bytes = b"QFI\xfb\0\0\0\x03".to_vec();
    put(
        &mut bytes,
        &[
            (20, &14_u32.to_be_bytes()),
            (24, &(2 * cluster).to_be_bytes()),
            (36, &1_u32.to_be_bytes()),
            (40, &cluster.to_be_bytes()),
            (48, &(3 * cluster).to_be_bytes()),
            (56, &1_u32.to_be_bytes()),
            (72, &16_u64.to_be_bytes()),
            (96, &4_u32.to_be_bytes()),
            (100, &112_u32.to_be_bytes()),
            (usize_of(cluster), &(1 << 63 | (2 * cluster)).to_be_bytes()),
            (usize_of(2 * cluster), &(1 << 63 | (4 * cluster)).to_be_bytes()),
            // Parts 0, 1 and 31 are stored, 2 and 3 are zero.
            (usize_of(2 * cluster) + 8, &0x0000_000c_8000_0003_u64.to_be_bytes()),
            // The next cluster has no place; its first part is zero.
            (usize_of(2 * cluster) + 24, &(1_u64 << 32).to_be_bytes()),
            (usize_of(4 * cluster), &text(1, cluster)),
        ],
    );
    bytes
}

/// A footer of VHD.
fn footer(kind: u32, size: u64, creator: [u8; 4], geometry: [u8; 4]) -> Vec<u8> {
    let header = if kind == 2 { u64::MAX } else { 512 };
    let mut bytes = b"conectix\0\0\0\x02\0\x01\0\0".to_vec();
    put(
        &mut bytes,
        &[
            (16, &header.to_be_bytes()),
            (28, &creator),
            (40, &size.to_be_bytes()),
            (48, &size.to_be_bytes()),
            (56, &geometry),
            (60, &kind.to_be_bytes()),
            (511, &[0]),
        ],
    );
    seal(&mut bytes, 64);
    bytes
}

/// Small and exact.
const CREATOR: [u8; 4] = *b"win ";
const GEOMETRY: [u8; 4] = [0, 1, 4, 17];

/// A dynamic disk without its last footer: blocks of `block` bytes, those with a bitmap being there.
fn dynamic(footer: &[u8], block: u32, blocks: &[Option<&[u8]>], name: &[u8]) -> Vec<u8> {
    let mut header = b"cxsparse\xff\xff\xff\xff\xff\xff\xff\xff".to_vec();
    let entries = u32::try_from(blocks.len()).unwrap();
    put(
        &mut header,
        &[
            (16, &1536_u64.to_be_bytes()),
            (24, &0x10000_u32.to_be_bytes()),
            (28, &entries.to_be_bytes()),
            (32, &block.to_be_bytes()),
            (64, name),
            (1023, &[0]),
        ],
    );
    seal(&mut header, 36);
    let mut bytes = [footer, &header, &[0xff; 512]].concat();
    for (number, bitmap) in blocks.iter().enumerate() {
        let Some(bitmap) = bitmap else { continue };
        let at = bytes.len();
        let sector = u32::try_from(at / 512).unwrap();
        let data = text(u64::try_from(number).unwrap(), u64::from(block));
        put(&mut bytes, &[(1536 + number * 4, &sector.to_be_bytes()), (at, bitmap), (at + 512, &data)]);
    }
    bytes
}

fn vhd() -> Vec<Seed> {
    let seed = |name, why, becomes, bytes| Seed { format: Format::Vhd, name, why, becomes, bytes };
    let small = footer(3, 3 * 4096, CREATOR, GEOMETRY);
    let front = dynamic(&small, 4096, &[Some(&[0xff]), None, Some(&[0xff])], &[]);
    let whole = [&front[..], &small].concat();
    let large = footer(3, 4 * 16_384, CREATOR, GEOMETRY);
    let bitmaps: &[Option<&[u8]>] = &[Some(&[0xff, 0, 0x3c, 1]), Some(&[0xaa; 4]), None, Some(&[0xff; 4])];
    let bitmaps = [dynamic(&large, 16_384, bitmaps, &[]), large].concat();
    let chs = footer(3, 3 * 4096, *b"qemu", [0, 2, 1, 10]);
    let chs = [dynamic(&chs, 4096, &[Some(&[0xff]), None, Some(&[0xff])], &[]), chs].concat();
    let fixed = [text(1, 1024), footer(2, 1024, CREATOR, GEOMETRY)].concat();
    let diff = footer(4, 3 * 4096, CREATOR, GEOMETRY);
    let diff = [dynamic(&diff, 4096, &[None, None, Some(&[0x40])], b"\0b\0a\0s\0e"), diff].concat();
    let nothing = footer(3, 0, CREATOR, [0, 0, 4, 17]);
    let nothing = [dynamic(&nothing, 4096, &[], &[]), nothing].concat();
    vec![
        seed("dynamic", "two blocks of three, both footers", Disk(12_288), whole.clone()),
        seed("bitmaps", "blocks with few and with many runs of sectors", Disk(65_536), bitmaps),
        seed("copy-alone", "the footer's copy at the start, and none at the end", Disk(12_288), front),
        seed("end-alone", "the footer, and no copy", Disk(12_288), patched(&whole, &[(0, &[0; 8])])),
        seed("geometry", "a size that the geometry says, and not the footer", Disk(10_240), chs),
        seed("fixed", "a disk and its footer", Disk(1024), fixed.clone()),
        seed("fixed-511", "a footer without its last byte", Disk(1024), fixed[..fixed.len() - 1].to_vec()),
        seed("differencing", "a disk with a parent, and its name", Error("differencing"), diff),
        seed("nothing", "a disk without sectors", Disk(0), nothing),
        seed(
            "overlap",
            "two blocks in one place",
            Error("overlap"),
            patched(&whole, &[(1540, &whole[1536..1540])]),
        ),
    ]
}

/// A header of VDI with these numbers, and a map at 512.
fn header(kind: u32, size: u64, extra: u32, map: &[u32]) -> Vec<u8> {
    let file = row("vdi").wrap(&Sample::new("none", 0, &[]).image()).unwrap();
    let mut bytes = vec![0; 512];
    file.read(0, &mut bytes).unwrap();
    let blocks = u32::try_from(map.len()).unwrap();
    let stored = u32::try_from(map.iter().filter(|entry| **entry < 0xffff_fffe).count()).unwrap();
    for (at, number) in [(76, kind), (344, 1024), (376, 512), (380, extra), (384, blocks), (388, stored)] {
        put(&mut bytes, &[(at, &number.to_le_bytes())]);
    }
    put(&mut bytes, &[(368, &size.to_le_bytes()), (1023, &[0])]);
    for (number, entry) in map.iter().enumerate() {
        put(&mut bytes, &[(512 + number * 4, &entry.to_le_bytes())]);
    }
    bytes
}

fn vdi() -> Vec<Seed> {
    let seed = |name, why, becomes, bytes| Seed { format: Format::Vdi, name, why, becomes, bytes };
    let (free, zero) = (0xffff_ffff, 0xffff_fffe);
    let data = text(1, 1024);
    let dynamic = [header(1, 2048, 0, &[1, free, 0, zero]), data.clone()].concat();
    let parent = (440, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16][..]);
    vec![
        seed(
            "dynamic",
            "blocks of 512 bytes: out of order, never written, and zero",
            Disk(2048),
            dynamic.clone(),
        ),
        seed("static", "all blocks", Disk(1024), [header(2, 1024, 0, &[0, 1]), data.clone()].concat()),
        seed(
            "extra",
            "512 bytes before each block",
            Disk(512),
            [header(1, 512, 512, &[0]), data.clone()].concat(),
        ),
        seed(
            "odd",
            "a size that is no whole number of sectors",
            Disk(1024),
            [header(1, 700, 0, &[0, 1]), data].concat(),
        ),
        seed(
            "cut",
            "a last block that the end of the file cuts",
            Disk(2048),
            dynamic[..dynamic.len() - 100].to_vec(),
        ),
        seed("nothing", "a disk without blocks", Disk(0), header(1, 0, 0, &[])),
        seed("differencing", "a parent", Error("differencing"), patched(&dynamic, &[(76, &[4]), parent])),
        seed("undo", "the changes of a parent", Error("undo"), patched(&dynamic, &[(76, &[3])])),
        seed(
            "overlap",
            "two blocks in one place",
            Error("overlap"),
            patched(&dynamic, &[(516, &[1, 0, 0, 0])]),
        ),
    ]
}

/// A page about all of them.
fn page(all: &[(&str, Vec<Seed>)]) -> String {
    let mut page = String::from(
        "# Seeds of containers\n\nEach fuzz target of a container begins with these images of its format. \
         `tests/containers/seeds/` makes them, and fails if they change.\n",
    );
    for (target, seeds) in all {
        write!(page, "\n| {target} | | becomes |\n|---|---|---|\n").unwrap();
        for seed in seeds {
            let becomes = match seed.becomes {
                Disk(size) => format!("a disk of {size} bytes"),
                Error(words) => format!("an error: {words}"),
            };
            writeln!(page, "| {} | {} | {becomes} |", seed.name, seed.why).unwrap();
        }
    }
    page
}

/// The files in the folders of targets that seeds are made for, by their path.
fn files(folder: &Path, all: &[(&str, Vec<Seed>)]) -> BTreeMap<String, Vec<u8>> {
    let read = |path: &Path| std::fs::read(path).unwrap();
    let page = folder.join("containers.md");
    let mut files = BTreeMap::from([("containers.md".to_owned(), read(&page))]);
    for (target, _) in all {
        for name in crate::tools::names_in(&folder.join(target)) {
            let name = name.to_string_lossy().into_owned();
            files.insert(format!("{target}/{name}"), read(&folder.join(target).join(&name)));
        }
    }
    files
}

#[test]
fn seeds_are_those_that_are_kept_and_become_what_they_should() {
    let all = [
        ("qcow2", qcow2()),
        ("vdi", vdi()),
        ("vhd", vhd()),
        ("vhdx", vhdx::seeds()),
        ("vmdk", vmdk::seeds()),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let mut made = BTreeMap::from([("containers.md".to_owned(), page(&all).into_bytes())]);
    for (target, seeds) in &all {
        for seed in seeds {
            becomes(target, seed);
            made.insert(format!("{target}/{}", seed.name), seed.bytes.clone());
        }
    }
    if std::env::var_os("DISKWRIGHT_BLESS").is_some() {
        for (target, _) in &all {
            let _ = std::fs::remove_dir_all(folder.join(target));
            std::fs::create_dir_all(folder.join(target)).unwrap();
        }
        for (name, bytes) in &made {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
    }
    let kept = files(&folder, &all);
    assert_eq!(kept.keys().collect::<Vec<_>>(), made.keys().collect::<Vec<_>>());
    for (name, bytes) in made {
        assert!(kept[&name] == bytes, "{name}: made otherwise; if that is meant to be, DISKWRIGHT_BLESS=1");
    }
}

/// Opens a seed.
fn becomes(target: &str, seed: &Seed) {
    let name = format!("{target}/{}", seed.name);
    assert!(seed.bytes.len() <= 128 * 1024, "{name} is not small");
    let folder = scratch();
    let path = folder.path().join("seed");
    let bytes = if seed.format == Format::Vhdx { vhdx::whole(&seed.bytes) } else { seed.bytes.clone() };
    std::fs::write(&path, bytes).unwrap();
    let opened = open(&path, &OpenOptions { format: Some(seed.format), allow_backing: false });
    match (seed.becomes, opened) {
        (Disk(size), Ok(opened)) => {
            assert_eq!(opened.image.length(), Bytes::new(size), "{name}");
            let mut bytes = vec![0; usize_of(size)];
            opened.image.read(0, &mut bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(size == 0 || bytes.iter().any(|byte| *byte != 0), "{name} is all zero");
        }
        (Error(words), Err(error)) => assert!(error.to_string().contains(words), "{name}: {error}"),
        (becomes, opened) => panic!("{name} should become {becomes:?}: {opened:?}"),
    }
}
