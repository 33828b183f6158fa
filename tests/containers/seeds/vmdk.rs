//! Seeds of VMDK: with grains of a sector, so that a file with every table is a few kilobytes.

use diskwright::container::Format;

use super::Becomes::{Disk, Error};
use super::{Becomes, Seed, patched, put};
use crate::samples::text;

/// Sectors of the sparse file: header, descriptor, two redundant directory and table, directory and two tables, grains.
const REDUNDANT: u32 = 2;
const DIRECTORY: u32 = 5;
const TABLE: u32 = 6;
const GRAINS: u32 = 8;

/// A sector.
const SECTOR: usize = 512;

/// A header; `grain` sectors a grain, `entries` a table.
fn header(version: u32, flags: u32, capacity: u64, grain: u64, entries: u32, places: [u64; 3]) -> Vec<u8> {
    let mut bytes = b"KDMV".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    for number in [capacity, grain, 1, 1] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(entries.to_le_bytes());
    places.iter().for_each(|place| bytes.extend(place.to_le_bytes()));
    bytes.extend(b"\0\n \r\n");
    bytes.extend([u8::from(flags & 0x10000 != 0), 0]);
    bytes.resize(SECTOR, 0);
    bytes
}

/// A descriptor of `lines` besides the first ones, in a sector.
fn descriptor(kind: &str, lines: &str) -> Vec<u8> {
    let mut bytes = format!(
        "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"{kind}\"\n{lines}\
         ddb.adapterType = \"ide\"\n"
    )
    .into_bytes();
    assert!(bytes.len() <= SECTOR);
    bytes.resize(SECTOR, 0);
    bytes
}

/// The sectors of a file, each with numbers of 32 bits from its start on.
fn numbers(bytes: &mut Vec<u8>, sector: u32, numbers: &[u32]) {
    let at = usize::try_from(sector).unwrap() * SECTOR;
    let value: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    put(bytes, &[(at, &value), (at + SECTOR - 1, &[0])]);
}

/// 32 sectors in grains of one, two tables of 16 entries: grains 0 and 17 are there, out of order.
fn sparse(version: u32, flags: u32) -> Vec<u8> {
    let places = [u64::from(REDUNDANT), u64::from(DIRECTORY), u64::from(GRAINS)];
    let mut bytes = header(version, flags, 32, 1, 16, places);
    bytes.extend(descriptor("monolithicSparse", "RW 32 SPARSE \"disk.vmdk\"\n"));
    for directory in [REDUNDANT, DIRECTORY] {
        numbers(&mut bytes, directory, &[directory + 1, directory + 2]);
        numbers(&mut bytes, directory + 1, &[GRAINS + 1]);
        // 1 is a grain of zeros where the flag says so.
        numbers(&mut bytes, directory + 2, &[u32::from(flags & 4 != 0), GRAINS]);
    }
    bytes.truncate(usize::try_from(GRAINS).unwrap() * SECTOR);
    bytes.extend(text(1, 1024));
    bytes
}

/// A zlib stream of stored bytes (RFC 1950, RFC 1951).
fn stored(data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap();
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in data {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    let mut bytes = vec![0x78, 0x01, 0x01];
    bytes.extend(length.to_le_bytes());
    bytes.extend((!length).to_le_bytes());
    bytes.extend(data);
    bytes.extend((b << 16 | a).to_be_bytes());
    bytes
}

/// The sector of a marker.
fn marker(sectors: u64, kind: u32) -> Vec<u8> {
    let mut bytes = sectors.to_le_bytes().to_vec();
    bytes.extend([0; 4]);
    bytes.extend(kind.to_le_bytes());
    bytes.resize(SECTOR, 0);
    bytes
}

/// Two grains of 2 sectors of 5, in the order of the disk, the last one shorter; tables of 2 entries. With a footer, or
/// the directory's place in the header.
fn stream(footer: bool) -> Vec<u8> {
    let head = |directory| header(3, 0x30001, 5, 2, 2, [0, directory, 2]);
    let mut bytes = [head(u64::MAX), descriptor("streamOptimized", "RW 5 SPARSE \"a\"\n")].concat();
    let sector = |bytes: &[u8]| u32::try_from(bytes.len() / SECTOR).unwrap();
    let (mut grains, mut tables) = (Vec::new(), Vec::new());
    for (number, length) in [(0_u64, 1024), (2, 512)] {
        grains.push(sector(&bytes));
        let stream = stored(&text(number, length));
        bytes.extend((number * 2).to_le_bytes());
        bytes.extend(u32::try_from(stream.len()).unwrap().to_le_bytes());
        bytes.extend(stream);
        bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
    }
    for grain in grains {
        bytes.extend(marker(1, 1));
        tables.push(sector(&bytes));
        let at = sector(&bytes);
        numbers(&mut bytes, at, &[grain]);
    }
    bytes.extend(marker(1, 2));
    let directory = sector(&bytes);
    numbers(&mut bytes, directory, &tables);
    if footer {
        bytes.extend([marker(1, 3), head(u64::from(directory)), marker(0, 0)].concat());
        bytes
    } else {
        patched(&bytes, &[(56, &u64::from(directory).to_le_bytes())])
    }
}

pub(super) fn seeds() -> Vec<Seed> {
    let seed = |name, why, becomes: Becomes, bytes| Seed { format: Format::Vmdk, name, why, becomes, bytes };
    let plain = sparse(1, 3);
    let table = usize::try_from(TABLE).unwrap() * SECTOR;
    let in_text = |old: &str, new: &str| {
        let at = plain.windows(old.len()).position(|window| window == old.as_bytes()).unwrap();
        patched(&plain, &[(at, new.as_bytes())])
    };
    vec![
        seed("sparse", "both directories, two tables, grains out of order", Disk(16_384), plain.clone()),
        seed("alone", "no redundant directory", Disk(16_384), sparse(1, 1)),
        seed("zeros", "a grain of zeros that is marked so", Disk(16_384), sparse(2, 7)),
        seed(
            "rounded",
            "a disk that ends before its last grain, which the descriptor says",
            Disk(31 * 512),
            patched(&in_text("RW 32", "RW 31"), &[(20, &[2]), (12, &[32])]),
        ),
        seed(
            "cut",
            "a grain that the end of the file cuts",
            Disk(16_384),
            plain[..plain.len() - 100].to_vec(),
        ),
        seed("stream", "compressed grains, one shorter, with a footer", Disk(5 * 512), stream(true)),
        seed("stream-front", "compressed grains, and a header that says all", Disk(5 * 512), stream(false)),
        seed(
            "snapshot",
            "a disk that needs its parent",
            Error("snapshot"),
            in_text("=ffffffff", "=01234567"),
        ),
        seed("part", "a part of a disk, with space for a descriptor", Error("part of a disk"), {
            patched(&plain, &[(SECTOR, &[0])])
        }),
        seed(
            "text",
            "a descriptor alone, with parts of every kind",
            Error("other files"),
            descriptor(
                "custom",
                "RW 8 SPARSE \"a-s001.vmdk\"\nRDONLY 8 FLAT \"a-flat.vmdk\" 16\nRW 8 ZERO\nNOACCESS 8 VMFS \"b\"\n",
            ),
        ),
        seed("empty", "a capacity of nothing: only a descriptor", Error("other files"), {
            patched(&plain, &[(12, &[0])])
        }),
        seed("esx", "an extent of ESX Server", Error("ESX Server"), patched(&plain, &[(0, b"COWD")])),
        seed(
            "sesparse",
            "a seSparse extent",
            Error("seSparse"),
            patched(&plain, &[(0, &[0xbe, 0xba, 0xfe, 0xca, 0, 0, 0, 0])]),
        ),
        seed("overlap", "two grains in one place", Error("overlap"), patched(&plain, &[(table + 4, &[9])])),
        seed("loop", "a table that names itself", Error("overlap"), patched(&plain, &[(table, &[6])])),
    ]
}
