//! `repart` and images that have a table: where it lies, what it lets partitions use, and which numbers they get. The numbers
//! are those of systemd-repart 262.1 with the same tables and definitions.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::program::diskwright;
use crate::support::tools::{Said, command, must, run, scratch};

const SEED: &str = "--seed=11111111-1111-2222-3333-444444444444";
const MIB: u64 = 1 << 20;

/// A folder with definitions `d` and an image.
struct Folder(tempfile::TempDir);

impl Folder {
    /// Definitions by name and lines, and an image of `length` with a table for sfdisk.
    fn new(definitions: &[(&str, &str)], length: u64, table: &str) -> Self {
        let folder = Self(scratch());
        folder.define(definitions);
        std::fs::write(folder.path("table"), format!("label: gpt\n{table}\n")).unwrap();
        folder.grow(length);
        let table = std::fs::File::open(folder.path("table")).unwrap();
        must(command("sfdisk").arg("-q").arg(folder.image()).stdin(table));
        folder
    }

    /// These definitions alone.
    fn define(&self, definitions: &[(&str, &str)]) {
        let _ = std::fs::remove_dir_all(self.path("d"));
        std::fs::create_dir(self.path("d")).unwrap();
        for (name, lines) in definitions {
            let text = format!("[Partition]\n{}\n", lines.replace(' ', "\n"));
            std::fs::write(self.path("d").join(name), text).unwrap();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn image(&self) -> PathBuf {
        self.path("image.raw")
    }

    fn file(&self) -> std::fs::File {
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).open(self.image()).unwrap()
    }

    fn grow(&self, length: u64) {
        self.file().set_len(length).unwrap();
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.image()).unwrap()
    }

    fn repart(&self, arguments: &[&str]) -> Said {
        let mut command = diskwright();
        command.current_dir(self.0.path()).args(["repart", "--definitions=d", "--json=short", SEED]);
        run(command.arg("--dry-run=no").args(arguments).arg("image.raw"))
    }

    /// What became of the partitions: type, slot from 0, start and size.
    fn rows(&self, arguments: &[&str]) -> Vec<(String, u64, u64, u64)> {
        let said = self.repart(arguments);
        assert_eq!(said.code, 0, "{}", said.error());
        let rows: Vec<Value> = serde_json::from_slice(&said.out).unwrap();
        let number = |row: &Value, key: &str| row[key].as_u64().unwrap();
        rows.iter()
            .map(|row| {
                let kind = row["type"].as_str().unwrap().to_owned();
                (kind, number(row, "partno"), number(row, "offset"), number(row, "raw_size"))
            })
            .collect()
    }

    /// The last usable sector, the sector of the array and the length of that, in the primary header.
    fn header(&self) -> (u64, u64, u32) {
        let bytes = self.bytes();
        let word = |at: usize| u64::from_le_bytes(bytes[512 + at..][..8].try_into().unwrap());
        (word(48), word(72), u32::from_le_bytes(bytes[512 + 80..][..4].try_into().unwrap()))
    }

    /// Lets sgdisk judge both copies of the table.
    fn assert_clean(&self) {
        let said = must(command("sgdisk").arg("-v").arg(self.image())).text();
        assert!(said.contains("No problems found"), "{said}");
    }
}

fn row(kind: &str, slot: u64, start: u64, size: u64) -> (String, u64, u64, u64) {
    (kind.to_owned(), slot, start, size)
}

const LINUX: &str = "start=8192,size=8192,type=linux";

#[test]
fn a_table_stays_where_it_is() {
    let folder = Folder::new(&[("1.conf", "Type=srv")], 50 * MIB, LINUX);
    must(command("sgdisk").args(["-j", "2014"]).arg(folder.image()));
    let loader: Vec<u8> = (0..32_768_u32).map(|at| at.to_le_bytes()[0] | 1).collect();
    folder.file().write_all_at(&loader, 8192).unwrap();
    let before = folder.bytes();
    let rows = folder.rows(&[]);
    assert_eq!(rows[1], row("srv", 1, 8 * MIB, 85_976 * 512));
    assert_eq!(folder.header().1, 2014);
    let after = folder.bytes();
    assert!(before[1024..2014 * 512] == after[1024..2014 * 512], "what lies before the array is another");
    folder.assert_clean();
}

#[test]
fn an_array_keeps_its_length() {
    for (entries, size) in [(4, 86_008), (256, 85_944)] {
        let table = format!("table-length: {entries}\n{LINUX}");
        let folder = Folder::new(&[("1.conf", "Type=home")], 50 * MIB, &table);
        assert_eq!(folder.rows(&[])[1], row("home", 1, 8 * MIB, size * 512));
        assert_eq!(folder.header().2, entries);
        folder.assert_clean();
    }
    let table = format!("table-length: 256\n200: {LINUX}");
    let folder = Folder::new(&[("1.conf", "Type=home")], 50 * MIB, &table);
    let slots: Vec<u64> = folder.rows(&[]).iter().map(|row| row.1).collect();
    assert_eq!(slots, [199, 0]);
}

#[test]
fn the_last_usable_sector_stays_until_the_end_of_the_disk_moves() {
    let table = format!("first-lba: 4096\nlast-lba: 100000\n{LINUX}");
    for (length, option, size, last) in [
        (100, None, 83_616, 100_000),
        (100, Some("--size=100M"), 83_616, 100_000),
        (100, Some("--size=120M"), 229_336, 245_726),
        (120, None, 229_336, 245_726),
    ] {
        let folder = Folder::new(&[("1.conf", "Type=home")], 100 * MIB, &table);
        folder.grow(length * MIB);
        let rows = folder.rows(option.as_slice());
        assert_eq!(rows[1], row("home", 1, 8 * MIB, size * 512), "{length} {option:?}");
        assert_eq!(folder.header().0, last, "{length} {option:?}");
        folder.assert_clean();
        let both = folder.bytes();
        assert_eq!(both[both.len() - 512 + 48..][..8], last.to_le_bytes(), "{length} {option:?}");
    }
}

#[test]
fn a_partition_that_cannot_grow_is_refused() {
    let table = "start=2048,size=20480,type=H,name=home\nstart=22528,size=20480,type=3B8F8425-20E0-4F3B-907F-1A25A76F98E8";
    let srv = ("2.conf", "Type=srv SizeMaxBytes=10M");
    let folder = Folder::new(&[], 100 * MIB, table);
    let before = folder.bytes();
    for lines in ["Type=home SizeMinBytes=29M", "Type=home PaddingMinBytes=5M"] {
        for more in [None, Some(("3.conf", "Type=var Priority=3 SizeMinBytes=29M"))] {
            folder.define(&[[("1.conf", lines), srv].as_slice(), more.as_slice()].concat());
            let said = folder.repart(&[]);
            assert_eq!(said.code, 1, "{lines}: {}", said.error());
            assert!(said.error().contains("does not fit on the disk"), "{lines}: {}", said.error());
            assert!(folder.bytes() == before, "{lines}: the image is another");
        }
    }
    folder.define(&[("1.conf", "Type=home Priority=5 SizeMinBytes=29M"), srv]);
    let said = folder.repart(&[]);
    assert_eq!(said.code, 0, "{}", said.error());
    assert!(
        said.error().contains("Can't grow existing partition home of priority 5, ignoring."),
        "{}",
        said.error()
    );
    let rows: Vec<Value> = serde_json::from_slice(&said.out).unwrap();
    assert_eq!((&rows[0]["file"], &rows[0]["activity"]), (&Value::Null, &"unchanged".into()));
}

#[test]
fn slots_are_counted_by_free_area() {
    let definitions =
        [("10.conf", "Type=srv SizeMinBytes=20M"), ("20.conf", "Type=var SizeMinBytes=1M SizeMaxBytes=7M")];
    let folder = Folder::new(&definitions, 100 * MIB, "start=18432,size=8192,type=linux");
    let slots: Vec<(String, u64)> = folder.rows(&[]).into_iter().map(|row| (row.0, row.1)).collect();
    assert_eq!(slots, [("var".to_owned(), 1), ("linux-generic".to_owned(), 0), ("srv".to_owned(), 2)]);
}

#[test]
fn a_partition_before_an_area_gets_its_share_first() {
    let table = "start=2048,size=32,type=3B8F8425-20E0-4F3B-907F-1A25A76F98E8";
    let folder = Folder::new(&[("10.conf", "Type=var"), ("20.conf", "Type=srv")], 72_089_600, table);
    let expected = [row("srv", 0, MIB, 35_508_224), row("var", 1, 36_556_800, 35_512_320)];
    assert_eq!(folder.rows(&[]), expected);
}

#[test]
fn a_partition_without_a_definition_takes_no_share() {
    let definitions = [("10.conf", "Type=srv SizeMinBytes=35M"), ("20.conf", "Type=var")];
    let folder = Folder::new(&definitions, 100 * MIB, "start=2048,size=20480,type=linux");
    let sizes: Vec<u64> = folder.rows(&[]).iter().map(|row| row.3).collect();
    assert_eq!(sizes, [10 * MIB, 46_649_344, 46_653_440]);
}

#[test]
fn nothing_is_written_where_nothing_changes() {
    let definition = ("1.conf", "Type=linux-generic Label=foo SizeMinBytes=4M SizeMaxBytes=4M");
    let folder = Folder::new(&[definition], 100 * MIB, &format!("last-lba: 100000\n{LINUX}"));
    for length in [100, 120] {
        folder.grow(length * MIB);
        let before = folder.bytes();
        let said = folder.repart(&[]);
        assert_eq!((said.code, said.error().as_str()), (0, ""), "{length}");
        assert!(folder.bytes() == before, "{length}: the image is another");
    }
}

/// systemd-repart 262.1 draws a random UUID instead, which would make another image each time.
#[test]
fn a_uuid_that_is_taken_is_derived_anew() {
    let srv = "Type=srv SizeMinBytes=10M SizeMaxBytes=10M";
    // The UUID that derives for the second partition of this type.
    let table = "start=22528,size=20480,type=3B8F8425-20E0-4F3B-907F-1A25A76F98E8,uuid=2498d188-4273-42c0-b1fb-427048e0cecc";
    for faults in [None, Some("--faithful")] {
        let uuids = || {
            let folder = Folder::new(&[("1.conf", srv), ("2.conf", srv)], 72_089_600, table);
            let said = folder.repart(faults.as_slice());
            assert_eq!(said.code, 0, "{}", said.error());
            assert!(said.error().contains("already used, reverting to the next one"), "{}", said.error());
            let rows: Vec<Value> = serde_json::from_slice(&said.out).unwrap();
            rows.iter().map(|row| row["uuid"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let first = uuids();
        assert_eq!(first, uuids());
        assert_eq!(first.len(), 2);
        assert_ne!(first[0], first[1]);
    }
}
