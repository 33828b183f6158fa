//! The layouts: sfdisk prints word for word the same for our disks as for those of nixpkgs' tools.

use std::collections::BTreeMap;
use std::path::Path;

use crate::closure::{nixos, registration, systems};
use crate::support::program::diskwright;
use crate::support::tools::{command, must, run, scratch};
use crate::tiny::Tiny;

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

/// The output of sfdisk for a disk, without the signature of an MBR, which is random in nixpkgs.
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
            // The boot partition of the record ends at 256 MiB: nixpkgs adds one MiB to the requested size.
            command.args(["--boot-size", "255MiB"]);
        }
        must(&mut command);
        assert_eq!(without_signature(&dump(&out)), without_signature(&records[name]), "{layout}");
        std::fs::remove_file(&out).unwrap();
    }
}

/// Without nixpkgs' odd choices: whole MiB, ids from the seed, FAT32, and a root whose type names the
/// processor.
#[test]
fn every_layout_can_be_clean() {
    let mut tiny = Tiny::new();
    let system = tiny.system("26.05");
    let root = "type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709";
    let esp = "type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
    let bios = "type=21686148-6449-6E6F-744E-656564454649";
    let xbootldr = "type=BC13C2FF-59E6-4262-A352-B275FD6F7172";
    for (layout, expected) in [
        ("legacy", vec!["start=2048, size=202752, type=83"]),
        (
            "legacy+boot",
            vec!["start=2048, size=129024, type=c, bootable", "start=131072, size=73728, type=83"],
        ),
        (
            "legacy+gpt",
            vec![
                &*format!("start=2048, size=2048, {bios}, name=\"bios-boot\""),
                &*format!("start=4096, size=198656, {root}, name=\"root\""),
            ],
        ),
        (
            "efi",
            vec![
                &*format!("start=16384, size=114688, {esp}, name=\"ESP\""),
                &*format!("start=131072, size=71680, {root}, name=\"root\""),
            ],
        ),
        (
            "efixbootldr",
            vec![
                &*format!("start=16384, size=188416, {esp}, name=\"ESP\""),
                &*format!("start=204800, size=122880, {xbootldr}, name=\"BOOT\""),
                &*format!("start=327680, size=77824, {root}, name=\"root\""),
            ],
        ),
        (
            "hybrid",
            vec![
                &*format!("start=16384, size=114688, {esp}, name=\"ESP\""),
                &*format!("start=34, size=2014, {bios}, name=\"bios-boot\""),
                &*format!("start=131072, size=71680, {root}, name=\"root\""),
            ],
        ),
    ] {
        let (boot, size) = if layout == "efixbootldr" { ("160MiB", "199MiB") } else { ("64MiB", "100MiB") };
        let out = tiny.path().join("disk.img");
        let mut ids = Vec::new();
        for seed in ["0867da16-f251-457d-a9e8-c31f9a3c220b", "1867da16-f251-457d-a9e8-c31f9a3c220b"] {
            let mut command = tiny.bare(&system, layout, &out);
            command.args(["--compat", "false", "--disk-size", size, "--boot-loader", "none", "--seed", seed]);
            if !matches!(layout, "legacy" | "legacy+gpt") {
                command.args(["--boot-size", boot]);
            }
            must(&mut command);
            let said = dump(&out);
            let (lines, found) = without_ids(&said);
            assert_eq!(lines, expected, "{layout}:\n{said}");
            ids.extend(found);
            crate::support::table::assert_clean(&out);
            boot_partitions_are_fat32(&out, layout);
        }
        // Each id derives from the seed, and none equals another or one of nixpkgs.
        let unique: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(unique.len(), ids.len(), "{ids:?}");
        assert!(!ids.iter().any(|id| id.starts_with("97FD5997") || id.starts_with("F222513B")), "{ids:?}");
    }
}

/// The partitions of a dump without the blanks and their ids, and all ids.
fn without_ids(dump: &str) -> (Vec<String>, Vec<String>) {
    let mut ids: Vec<String> =
        dump.lines().filter_map(|line| line.strip_prefix("label-id: ")).map(str::to_owned).collect();
    let mut lines = Vec::new();
    for line in dump.lines().filter_map(|line| line.split_once(" : ")) {
        let fields: Vec<_> =
            line.1.split(',').map(|field| field.trim().replace("= ", "=").replace(' ', "")).collect();
        ids.extend(fields.iter().filter_map(|field| field.strip_prefix("uuid=")).map(str::to_owned));
        let kept: Vec<_> = fields.into_iter().filter(|field| !field.starts_with("uuid=")).collect();
        lines.push(kept.join(", "));
    }
    (lines, ids)
}

fn boot_partitions_are_fat32(disk: &Path, layout: &str) {
    let fats: &[usize] = match layout {
        "legacy+boot" | "efi" | "hybrid" => &[0],
        "efixbootldr" => &[0, 1],
        _ => &[],
    };
    for number in fats {
        let part = disk.with_extension("part");
        crate::support::table::extract(disk, crate::support::table::partitions(disk)[*number], &part);
        crate::support::fat::assert_clean(&part);
        let said = must(command("blkid").args(["-p", "-o", "value", "-s", "VERSION"]).arg(&part)).text();
        assert_eq!(said.trim(), "FAT32", "{layout}");
    }
}

/// An EFI system partition of its own size: what follows it moves.
#[test]
fn the_esp_can_have_its_own_size() {
    let mut tiny = Tiny::new();
    let system = tiny.system("26.05");
    let out = tiny.path().join("disk.img");
    for (layout, more, starts) in [
        ("efi", None, vec![(16384, 81920), (98304, 0)]),
        ("hybrid", None, vec![(16384, 81920), (34, 2015), (98304, 0)]),
        ("efixbootldr", Some("127MiB"), vec![(16384, 81920), (98304, 163840), (262144, 0)]),
    ] {
        let mut command = tiny.bare(&system, layout, &out);
        command.args(["--disk-size", "200MiB", "--boot-loader", "none", "--esp-size", "40MiB"]);
        if let Some(size) = more {
            command.args(["--boot-size", size]);
        }
        must(&mut command);
        let found = crate::support::table::partitions(&out);
        for (own, (start, length)) in found.iter().zip(starts) {
            assert_eq!(own.0, start, "{layout}: {found:?}");
            assert!(length == 0 || own.1 == length, "{layout}: {found:?}");
        }
        std::fs::remove_file(&out).unwrap();
    }
    for (layout, arguments, words) in [
        ("legacy", vec!["--esp-size", "40MiB"], "without EFI system partition"),
        (
            "efi",
            vec!["--esp-size", "40MiB", "--boot-size", "64MiB"],
            "--boot-size means nothing with --esp-size",
        ),
    ] {
        let said = run(tiny.bare(&system, layout, &out).args(["--boot-loader", "none"]).args(arguments));
        assert!(said.code == 2 && said.error().contains(words), "{}", said.error());
    }
}

/// Swap, /home, and a store of its own, in front of the root.
#[test]
fn a_system_can_have_more_partitions() {
    let mut tiny = Tiny::new();
    let system = tiny.system("26.05");
    let registration = tiny.path().join("registration");
    std::fs::write(&registration, tiny.registration()).unwrap();
    let manifest = tiny.path().join("disk.toml");
    let head = format!(
        "version = 1\n[nixos]\nsystem = \"{system}\"\nclosure = \"{}\"\nstore_root = \"{}\"\n\
         boot_loader = \"none\"\n",
        registration.display(),
        tiny.root().display()
    );
    let build = |text: &str| {
        std::fs::write(&manifest, format!("{head}{text}")).unwrap();
        run(diskwright().arg("build").arg(&manifest).arg("-o").arg(tiny.path().join("disk.img")))
    };
    let said = build(
        "layout = \"efi\"\nesp_size = \"40MiB\"\n\
         [[nixos.partitions]]\nsize = \"16MiB\"\nfilesystem = { type = \"swap\" }\n\
         [[nixos.partitions]]\nsize = \"32MiB\"\nmount = \"/home\"\nlabel = \"home\"\n\
         filesystem = { type = \"ext4\", label = \"home\" }\n\
         [[nixos.partitions]]\nsize = \"64MiB\"\nmount = \"/nix\"\nfilesystem = { type = \"ext4\" }\n",
    );
    assert_eq!(said.code, 0, "{}", said.error());
    let image = tiny.path().join("disk.img");
    crate::support::table::assert_clean(&image);
    let found = crate::support::table::partitions(&image);
    let mib = 2048;
    // In the order of their slots: the ESP, the root at the end, swap, /home and /nix between them.
    assert_eq!(found[0], (8 * mib, 40 * mib));
    assert_eq!(found[1].0, 160 * mib);
    assert_eq!(found[2..], [(48 * mib, 16 * mib), (64 * mib, 32 * mib), (96 * mib, 64 * mib)]);
    let part = tiny.path().join("part.img");
    for (number, there, not_there) in [
        (1, vec!["/home", "/nix", "/etc/NIXOS"], vec!["/nix/store"]),
        (3, vec!["/lost+found"], vec!["/nix"]),
        (4, vec!["/store", "/var/nix/db/db.sqlite", "/var/nix/profiles/system"], vec!["/nix"]),
    ] {
        crate::support::table::extract(&image, found[number], &part);
        crate::support::ext4::assert_clean(&part);
        let names = crate::support::debugfs::view(&part);
        let has = |path: &str| names.0.contains_key(path.trim_start_matches('/').as_bytes());
        for path in there {
            assert!(has(path), "{number} lacks {path}");
        }
        for path in not_there {
            assert!(!has(path), "{number} has {path}");
        }
    }
    for (text, words) in [
        (
            "layout = \"none\"\n[[nixos.partitions]]\nsize = \"16MiB\"\nfilesystem = { type = \"swap\" }\n",
            "means nothing",
        ),
        ("[[nixos.partitions]]\nsize = \"16MiB\"\nfilesystem = { type = \"ext4\" }\n", "mounted nowhere"),
        (
            "[[nixos.partitions]]\nsize = \"16MiB\"\nmount = \"/boot\"\nfilesystem = { type = \"ext4\" }\n",
            "nothing of a system",
        ),
        (
            "[[nixos.partitions]]\nsize = \"64KiB\"\nmount = \"/nix\"\nfilesystem = { type = \"ext4\", journal = false }\n",
            "nixos.partitions",
        ),
    ] {
        let said = build(text);
        assert!(said.code != 0 && said.error().contains(words), "{text}: {}", said.error());
    }
}
