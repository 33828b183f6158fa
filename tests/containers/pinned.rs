//! Golden maps and digests: a change of bytes is a decision.
//!
//! For each row, tests/containers/golden has a file with the digests of some disks. If the container is laid
//! out before it is written, the file also has the map and all bytes of a small disk. `DISKWRIGHT_BLESS=1`
//! writes the files anew; the difference belongs in the commit.

use std::fmt::Write;
use std::path::Path;

use diskwright::image::dump::dump;

use crate::rows::{ROWS, Row};
use crate::samples::{Fill, Sample, sized, usual};
use crate::tools::{digest, scratch};

/// A disk whose container is short enough to be read: most of a unit is the same line of text again and again.
fn small(row: &Row) -> Sample {
    Sample::new("small", 2 * row.unit + 512, &[(0, 16, Fill::Text), (2 * row.unit, 64, Fill::Text)])
}

/// All lines of 16 bytes; `*` for lines that repeat the one before.
fn hexdump(bytes: &[u8], out: &mut String) {
    let mut last: Option<&[u8]> = None;
    let mut starred = false;
    for (number, line) in bytes.chunks(16).enumerate() {
        if last == Some(line) {
            if !starred {
                out.push_str("*\n");
            }
            starred = true;
            continue;
        }
        (last, starred) = (Some(line), false);
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String = line
            .iter()
            .map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' })
            .collect();
        writeln!(out, "{:08x}  {:47}  {}", number * 16, hex.join(" "), text.trim_end()).unwrap();
    }
    writeln!(out, "{:08x}", bytes.len()).unwrap();
}

/// What is pinned for a row.
fn found(row: &Row, folder: &Path) -> String {
    let path = folder.join("disk.out");
    let mut out = String::new();
    let samples = [usual(), sized(0, row.unit), sized(1, row.unit), sized(3 * row.unit + 512, row.unit)];
    for sample in samples {
        row.write(&sample.image(), &path, 2).unwrap();
        writeln!(out, "sha256 {} {}", digest(&path), sample.name).unwrap();
    }
    let image = small(row).image();
    if row.compress.is_none()
        && let Ok(wrapped) = row.wrap(&image)
    {
        let mut map = Vec::new();
        dump(&wrapped, None, &mut map).unwrap();
        write!(out, "\n{}", String::from_utf8(map).unwrap()).unwrap();
    }
    row.write(&image, &path, 2).unwrap();
    out.push('\n');
    hexdump(&std::fs::read(&path).unwrap(), &mut out);
    out
}

#[test]
fn golden_maps_and_digests() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/containers/golden");
    let folder = scratch();
    for row in ROWS {
        let path = golden.join(format!("{}.txt", row.name));
        let found = found(row, folder.path());
        if std::env::var_os("DISKWRIGHT_BLESS").is_some() {
            std::fs::create_dir_all(&golden).unwrap();
            std::fs::write(&path, found).unwrap();
            continue;
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        let line = found.lines().zip(expected.lines()).position(|(found, expected)| found != expected);
        assert!(
            found == expected,
            "{}, line {:?}; if that is meant to be, run again with DISKWRIGHT_BLESS=1; now:\n{found}",
            row.name,
            line.map(|line| line + 1)
        );
    }
}
