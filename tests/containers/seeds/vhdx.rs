//! Seeds of VHDX, in pieces.

use diskwright::container::Format;

use super::Becomes::{Disk, Error};
use super::{Becomes, Seed};
use crate::hostile::row;
use crate::samples::{Fill, Sample};
use crate::support::pieces::{SECTOR, pieces};
use crate::tools::scratch;
use crate::vhdx::{BAT, HEADERS, ITEMS, METADATA, REGIONS, Step, entry, fill_log, headers, put, regions};

/// The pieces of a file: its sectors that hold something, without the zeros at the end of each run.
fn in_pieces(file: &[u8]) -> Vec<u8> {
    let mut input = vec![u8::try_from(file.len() >> 20).unwrap()];
    let mut run = Vec::new();
    let mut start = 0;
    let sectors = file.chunks(SECTOR).enumerate().chain([(file.len() / SECTOR, &[0][..])]);
    for (number, sector) in sectors {
        let zero = sector.iter().all(|byte| *byte == 0);
        if !run.is_empty() && (zero || run.len() + SECTOR > usize::from(u16::MAX)) {
            let end = run.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            input.extend(u16::try_from(start).unwrap().to_le_bytes());
            input.extend(u16::try_from(end).unwrap().to_le_bytes());
            input.extend(&run[..end]);
            run.clear();
        }
        if !zero {
            if run.is_empty() {
                start = number;
            }
            run.extend(sector);
        }
    }
    input
}

/// The file that an input means.
pub(super) fn whole(input: &[u8]) -> Vec<u8> {
    let (length, pieces) = pieces(input);
    let mut bytes = vec![0; length];
    pieces.iter().filter(|(_, piece)| !piece.is_empty()).for_each(|(at, piece)| put(&mut bytes, *at, piece));
    bytes
}

/// A file of a disk of `length` bytes, with text at its start, after a change; in pieces.
fn changed(name: &str, length: u64, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let folder = scratch();
    let path = folder.path().join("seed");
    row(name).write(&Sample::new("seed", length, &[(0, 700, Fill::Text)]).image(), &path, 1).unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    let input = in_pieces(&bytes);
    assert!(whole(&input) == bytes, "the pieces are the file");
    input
}

pub(super) fn seeds() -> Vec<Seed> {
    let seed = |name, why, becomes: Becomes, bytes| Seed { format: Format::Vhdx, name, why, becomes, bytes };
    let dynamic = |change: fn(&mut Vec<u8>)| changed("vhdx", 3 << 20, change);
    let entry_at = |number: usize| BAT + number * 8;
    vec![
        seed("dynamic", "a block of three", Disk(3 << 20), dynamic(|_| {})),
        seed(
            "fixed",
            "all blocks, cut by the end of the disk",
            Disk(8192),
            changed("vhdx-fixed", 8192, |_| {}),
        ),
        seed(
            "second-header",
            "a first header that is not valid",
            Disk(3 << 20),
            dynamic(|b| b[HEADERS[0]] = 0),
        ),
        seed(
            "second-table",
            "a first region table that is not valid",
            Disk(3 << 20),
            dynamic(|b| b[REGIONS[0]] = 0),
        ),
        seed(
            "4k",
            "sectors of 4096 bytes",
            Disk(3 << 20),
            dynamic(|b| put(b, ITEMS + 32, &4096_u32.to_le_bytes())),
        ),
        seed(
            "states",
            "a block that is not present, and one that is unmapped and has a place all the same",
            Disk(3 << 20),
            changed("vhdx", 3 << 20, |b| {
                put(b, entry_at(1), &0_u64.to_le_bytes());
                put(b, entry_at(2), &((4 << 20) + 3_u64).to_le_bytes());
            }),
        ),
        seed(
            "optional",
            "a region and an item that nobody has to know",
            Disk(3 << 20),
            dynamic(|b| {
                put(b, METADATA + 192, &[1; 32]);
                put(b, METADATA + 192 + 24, &[0]);
                b[METADATA + 10] = 6;
                b.resize(b.len() + (1 << 20), 0);
                regions(b, 8, &[3]);
                regions(b, 80, &[9; 16]);
                regions(b, 96, &(5_u64 << 20).to_le_bytes());
                regions(b, 104, &(1_u64 << 20).to_le_bytes());
            }),
        ),
        seed("log", "a table that stands only in the log, around the end of it", Disk(3 << 20), log()),
        seed(
            "log-of-data",
            "a log that changes a block",
            Error("log changes data"),
            dynamic(|b| {
                let steps = [Step::Zero(4 << 20, 4096)];
                fill_log(b, 0, &[entry(1, 0, &steps, 0)]);
            }),
        ),
        seed(
            "long-log",
            "a log that is longer than its file",
            Error("truncated"),
            dynamic(|b| headers(b, 71, &[1])),
        ),
        seed("nothing", "a disk without blocks", Disk(0), dynamic(|b| put(b, ITEMS + 8, &[0; 8]))),
        seed("parent", "a differencing disk", Error("differs from a parent"), dynamic(|b| b[ITEMS + 4] = 2)),
        seed("partly", "a block that is partly present", Error("partly there"), dynamic(|b| b[BAT] = 7)),
        seed(
            "overlap",
            "two blocks in one place",
            Error("overlap"),
            dynamic(|b| b.copy_within(BAT..BAT + 8, BAT + 8)),
        ),
    ]
}

/// Two entries: the first is wrong, and the second sets it right.
fn log() -> Vec<u8> {
    changed("vhdx", 3 << 20, |bytes| {
        let (place, size) = (u64::try_from(BAT).unwrap(), u64::try_from(bytes.len()).unwrap());
        let start = (1 << 20) - 8192;
        let bat = bytes[BAT..BAT + SECTOR].to_vec();
        bytes[BAT..BAT + 32].fill(0xa5);
        let first = entry(1, start, &[Step::Data(place, vec![0x5a; SECTOR])], size);
        let second = entry(2, start, &[Step::Zero(place, 8192), Step::Data(place, bat)], size);
        fill_log(bytes, start, &[first, second]);
    })
}
