//! The layouts: what sfdisk says of our disks is word for word what it says of those of nixpkgs' tools.

use std::collections::BTreeMap;
use std::path::Path;

use crate::closure::{nixos, registration, systems};
use crate::support::tools::{command, must, scratch};

/// The records of tests/fixtures/layouts.txt: what sfdisk says of the image of each name.
fn records() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string("tests/fixtures/layouts.txt").unwrap();
    let mut records = BTreeMap::new();
    for record in text.split("\n== ").skip(1) {
        let (name, lines) = record.split_once('\n').unwrap();
        let lines: Vec<_> = lines.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        records.insert(name.to_owned(), lines.join("\n"));
    }
    records
}

/// What sfdisk says of a disk, without the signature of an MBR, which is random in nixpkgs.
fn dump(disk: &Path) -> String {
    let mut sfdisk = command("sfdisk");
    sfdisk.arg("--dump").arg(disk.file_name().unwrap()).current_dir(disk.parent().unwrap());
    must(&mut sfdisk).text()
}

fn without_signature(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with("label-id: 0x"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_layout_is_that_of_nixpkgs() {
    let records = records();
    let folder = scratch();
    let closure = registration(folder.path(), &[&systems().system, &systems().earlier]);
    for (layout, name) in [
        ("legacy", "legacy"),
        ("legacy+boot", "legacyboot"),
        ("legacy+gpt", "legacygpt"),
        ("efi", "efi"),
        ("efixbootldr", "efixbootldr"),
        ("hybrid", "hybrid"),
    ] {
        let out = folder.path().join(format!("{name}.img"));
        let mut command = nixos(&closure, layout, &out);
        command.args(["--disk-size", "1000MiB"]);
        if !matches!(layout, "legacy" | "legacy+gpt") {
            // The record's boot partition ends at 256 MiB: nixpkgs adds one to what it is asked for.
            command.args(["--boot-size", "255MiB"]);
        }
        must(&mut command);
        assert_eq!(without_signature(&dump(&out)), without_signature(&records[name]), "{layout}");
        std::fs::remove_file(&out).unwrap();
    }
}
