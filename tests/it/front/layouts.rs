//! The layouts of the NixOS image builders and of systemd-repart, from manifests: sfdisk prints word for word
//! the same for our disks as for theirs.

use std::collections::BTreeMap;
use std::path::Path;

use diskwright::disk::{Built, Work};
use diskwright::front::manifest::Manifest;
use diskwright::pour::{PourOptions, pour};

use crate::support::pinned::pinned;
use crate::support::program::diskwright;
use crate::support::table;
use crate::support::tools::{command, must, scratch};

/// The records of fixtures/layouts.txt: the output of sfdisk for the image of each name.
fn records() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string("fixtures/layouts.txt").unwrap();
    let mut records = BTreeMap::new();
    for record in text.split("\n== ").skip(1) {
        let (name, lines) = record.split_once('\n').unwrap();
        let lines: Vec<_> = lines.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        records.insert(name.to_owned(), lines.join("\n"));
    }
    records
}

fn build(name: &str) -> (Built, Work) {
    let path = format!("fixtures/layouts/{name}.toml");
    let manifest = Manifest::load(Path::new(&path)).unwrap_or_else(|error| panic!("{error}"));
    let work = Work { jobs: 2, ..Work::default() };
    let built = manifest.describe(None, &Work::default()).and_then(|description| description.build(&work));
    (built.unwrap_or_else(|error| panic!("{error}")), work)
}

/// The example of the boot disk of 2018: the table of its record, the hybrid MBR that sgdisk 1.0.9 writes for it, and a FAT16
/// by the name that nixpkgs gave it.
#[test]
fn the_boot_disk_of_2018_is_an_example() {
    let folder = scratch();
    let disk = folder.path().join("qemu2018.img");
    let manifest = Path::new("examples/vm-boot.toml");
    let said = crate::support::program::build(manifest, &disk);
    assert!(said.error().contains("the FAT label `boot` has lower-case letters"), "{}", said.error());
    let map = must(diskwright().arg("build").arg(manifest).args(["--dry-run", "--map"]));
    pinned("golden/vm-boot.map", &map.text());

    let said = must(command("sfdisk").args(["--dump", "qemu2018.img"]).current_dir(folder.path()));
    let lines: Vec<_> = said.text().lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    assert_eq!(lines.join("\n"), records()["qemu2018"]);
    table::assert_clean(&disk);
    let bytes = std::fs::read(&disk).unwrap();
    let entry = |number: usize| {
        let entry = &bytes[446 + 16 * number..][..16];
        let word = |at: usize| u32::from_le_bytes(entry[at..at + 4].try_into().unwrap());
        (entry[4], word(8), word(12))
    };
    assert_eq!([0, 1, 2].map(entry), [(0xee, 1, 2047), (0xef, 2048, 79_839), (0, 0, 0)]);

    let boot = folder.path().join("boot.img");
    table::extract(&disk, (2048, 79_839), &boot);
    crate::support::fat::assert_clean(&boot);
    let value = |name: &str| {
        must(command("blkid").args(["-p", "-o", "value", "-s", name]).arg(&boot)).text().trim().to_owned()
    };
    assert_eq!((value("VERSION"), value("LABEL")), ("FAT16".to_owned(), "boot".to_owned()));
}

/// The output of sfdisk for `disk`, with the name of the record.
fn dump(name: &str, record: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let device = record.lines().find_map(|line| line.strip_prefix("device: ")).unwrap();
    let (built, work) = build(name);
    let pouring = PourOptions::new(work.jobs, &work.progress);
    pour(&built.image, &folder.path().join(device), &pouring).unwrap();
    let said = must(command("sfdisk").args(["--dump", device]).current_dir(folder.path()));
    said.text().lines().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_layout_is_expressible_and_comes_out_word_for_word() {
    let records = records();
    let manifests: Vec<_> = std::fs::read_dir("fixtures/layouts")
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!((records.len(), manifests.len()), (12, 12));
    for (name, record) in &records {
        assert_eq!(&dump(name, record), record, "{name}");
    }
}

#[test]
fn another_layout_is_another_word() {
    let records = records();
    assert_ne!(dump("efi", &records["legacygpt"]), records["legacygpt"]);
}

#[test]
fn ids_of_filesystems_are_those_that_repart_derives() {
    let (built, _) = build("repart_formatted");
    let ids: Vec<_> = built
        .report
        .partitions
        .iter()
        .map(|partition| partition.filesystem.as_ref().unwrap().uuid.as_str())
        .collect();
    assert_eq!(
        ids,
        ["793A-442B", "7981aaf4-2a9a-4f86-9f1f-5b42c8f28bbf", "e8190672-b40d-45e4-a7cb-198532386075"]
    );
}
