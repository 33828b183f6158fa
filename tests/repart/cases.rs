//! fixtures/repart: what systemd-repart 262.1 wrote, and what the program writes of the same command lines.

use std::path::Path;

use crate::run::{Folder, SEED, copy, rows};
use crate::support::tools::{command, must};

/// The folder of a case.
fn fixture(name: &str) -> std::path::PathBuf {
    Path::new("fixtures/repart").join(name)
}

/// A test for each case, so that each has a name.
macro_rules! cases {
    ($($name:ident => $case:literal),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                compare($case);
            }
        )*

        #[test]
        fn every_case_has_a_test() {
            let mut there: Vec<_> = std::fs::read_dir("fixtures/repart").unwrap().map(|entry| entry.unwrap()).collect();
            there.retain(|entry| entry.file_type().unwrap().is_dir());
            let mut there: Vec<_> = there.iter().map(|entry| entry.file_name().into_string().unwrap()).collect();
            there.sort();
            let mut tested = vec![$($case.to_owned()),*];
            tested.sort();
            assert_eq!(there, tested);
        }
    };
}

cases! {
    architecture => "architecture",
    basic_512 => "basic-512",
    basic_default_sector => "basic-default-sector",
    blank => "blank",
    copy_from => "copy-from",
    defer => "defer",
    copy_empty => "copy-empty",
    defer_data => "defer-data",
    defer_hash => "defer-hash",
    defer_set => "defer-set",
    el_torito => "el-torito",
    existing => "existing",
    existing_areas => "existing-areas",
    existing_auto => "existing-auto",
    existing_larger => "existing-larger",
    existing_nameless => "existing-nameless",
    existing_priority => "existing-priority",
    factory_reset => "factory-reset",
    filters => "filters",
    flags => "flags",
    folders => "folders",
    grain_1m => "grain-1m",
    join => "join",
    labels => "labels",
    levels_of_squashfs => "levels-of-squashfs",
    mounts => "mounts",
    names_and_ids => "names-and-ids",
    nothing => "nothing",
    paddings => "paddings",
    priority => "priority",
    root => "root",
    sector_1024 => "sector-1024",
    sector_2048 => "sector-2048",
    sector_4096 => "sector-4096",
    sector_of_filesystem => "sector-of-filesystem",
    split => "split",
    tiny => "tiny",
    unchanged => "unchanged",
    verity => "verity",
    verity_least => "verity-least",
    weights => "weights",
}

/// Runs the lines of a case, and holds everything against what was written.
fn compare(case: &str) {
    let folder = Folder::new(&[]);
    copy(&fixture(case), folder.0.path());
    let lines = std::fs::read_to_string(fixture(case).join("command.txt")).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    let runs = lines.iter().filter(|line| line.contains("systemd-repart")).count();
    let mut run = 0;
    for line in lines {
        // What redirects its output tells nothing that could be compared.
        let line = if line.contains("systemd-repart") { line.split(" > ").next().unwrap() } else { line };
        // The faults that these cases pin are written only where they are asked for.
        let said = folder.shell(&line.replace("systemd-repart ", "systemd-repart --faithful "));
        assert_eq!(said.code, 0, "{line}\n{}", said.error());
        if !line.contains("systemd-repart") {
            continue;
        }
        run += 1;
        let of_run = |name: &str| match runs {
            1 => name.to_owned(),
            _ => name.replace('.', &format!("-{run}.")),
        };
        let expected = std::fs::read_to_string(fixture(case).join(of_run("repart.json"))).unwrap();
        assert_eq!(folder.relative(&said.text()), expected, "{case}");
        table(&folder, case, &of_run("sfdisk.json"));
        messages(&folder, case, &said.error());
    }
    facts(&folder, case);
}

/// The table as sfdisk sees it.
fn table(folder: &Folder, case: &str, name: &str) {
    // sfdisk does not see a table of sectors of 4096 bytes in a file; the JSON has its places.
    let Ok(expected) = std::fs::read_to_string(fixture(case).join(name)) else { return };
    let said = must(command("sfdisk").args(["--json", "image.raw"]).current_dir(folder.0.path()));
    let values = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let own = |mut value: serde_json::Value| {
        // Which of these are printed changed between releases of sfdisk.
        value["partitiontable"].as_object_mut().unwrap().remove("grain");
        value
    };
    assert_eq!(own(values(&said.text())), own(values(&expected)), "{case}");
    let judged = must(command("sgdisk").args(["-v", "image.raw"]).current_dir(folder.0.path())).text();
    let twins = case == "names-and-ids";
    assert!(judged.contains("No problems found") || twins, "{case}: {judged}");
}

/// The warnings, but for what the program says in words of its own.
fn messages(folder: &Folder, case: &str, said: &str) {
    let Ok(expected) = std::fs::read_to_string(fixture(case).join("messages.txt")) else { return };
    let said = folder.relative(said);
    for line in expected.lines().filter(|line| !line.starts_with("Automatically determined")) {
        assert!(said.contains(line), "{case}: no `{line}` in {said}");
    }
}

/// The sizes of the files, and what blkid sees in each partition.
fn facts(folder: &Folder, case: &str) {
    let expected = std::fs::read_to_string(fixture(case).join("facts.txt")).unwrap();
    let length = |name: &str| std::fs::metadata(folder.path(name)).unwrap().len();
    let json = ["repart-2.json", "repart.json"].map(|name| std::fs::read_to_string(fixture(case).join(name)));
    let ([Ok(json), _] | [Err(_), Ok(json)]) = json else { panic!("{case} has no JSON") };
    let rows: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    for line in expected.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["image", "size", size, "bytes"] => assert_eq!(length("image.raw").to_string(), *size, "{case}"),
            ["sha256", "of", "the", "whole", "hash", "partition:", digest, "-"] => {
                let digested = crate::support::tools::digest(&folder.path("image.usr-x86-64-verity.raw"));
                assert_eq!(digested, *digest, "{case}");
            }
            ["sha256", "of", "the", "first", "MiB:", digest] => {
                let start = std::fs::read(folder.path("image.raw")).unwrap()[..1 << 20].to_vec();
                folder.write_bytes("start", &start);
                assert_eq!(crate::support::tools::digest(&folder.path("start")), *digest, "{case}");
            }
            ["split:", size, name] => assert_eq!(length(name).to_string(), *size, "{case}: {name}"),
            ["partition", number, seen @ ..] => {
                let number: u64 = number.trim_end_matches(':').parse().unwrap();
                let row = rows.iter().find(|row| row["partno"] == number).unwrap();
                blkid(folder, case, row, seen);
            }
            _ => {}
        }
    }
    if let Ok(expected) = std::fs::read_to_string(fixture(case).join("fstab.txt")) {
        assert_eq!(std::fs::read_to_string(folder.path("root/fstab")).unwrap(), expected, "{case}");
    }
}

/// What blkid sees in a partition: type, id and label.
fn blkid(folder: &Folder, case: &str, row: &serde_json::Value, seen: &[&str]) {
    let (offset, size) = (row["offset"].to_string(), row["raw_size"].to_string());
    let mut blkid = command("blkid");
    blkid.args(["-p", "-O", &offset, "-S", &size, "-o", "export", "image.raw"]).current_dir(folder.0.path());
    let said = crate::support::tools::run(&mut blkid).text();
    let of = |name: &str| said.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
    let expected = |name: &str| seen.iter().find_map(|word| word.strip_prefix(name).map(str::to_owned));
    for name in ["TYPE=", "UUID=", "VERSION="] {
        assert_eq!(of(name), expected(name), "{case}: {name} in {said}");
    }
    // A label with a blank is two words in the facts, and quoted by blkid.
    let label = of("LABEL=").unwrap_or_default().replace('\\', "");
    let first = expected("LABEL=").unwrap_or_default().replace('\\', "");
    assert!(label.starts_with(&first) && label.is_empty() == first.is_empty(), "{case}: {label} and {first}");
}

/// The two faults of systemd-repart are written only where that is asked for.
#[test]
fn attributes_are_as_written_unless_the_faults_are_asked_for() {
    let folder = Folder::new(&[]);
    copy(&fixture("flags"), folder.0.path());
    folder.create(&[]);
    let said = must(command("sfdisk").args(["--json", "image.raw"]).current_dir(folder.0.path()));
    let ours: serde_json::Value = serde_json::from_slice(&said.out).unwrap();
    let theirs = std::fs::read_to_string(fixture("flags").join("sfdisk.json")).unwrap();
    let theirs: serde_json::Value = serde_json::from_str(&theirs).unwrap();
    let partitions =
        |value: &serde_json::Value| value["partitiontable"]["partitions"].as_array().unwrap().clone();
    let differing: Vec<_> =
        partitions(&ours).into_iter().zip(partitions(&theirs)).filter(|(one, other)| one != other).collect();
    let names: Vec<_> = differing
        .iter()
        .map(|(one, other)| (one["name"].clone(), one["attrs"].clone(), other["attrs"].clone()))
        .collect();
    // Flags=0x8000000000000005 with GrowFileSystem=no.
    let expected = (
        "root-x86-64-2".into(),
        "RequiredPartition LegacyBIOSBootable GUID:63".into(),
        serde_json::Value::Null,
    );
    assert_eq!(names, [expected]);
}

#[test]
fn one_uuid_for_two_partitions_is_refused_unless_the_faults_are_asked_for() {
    let folder = Folder::new(&[]);
    copy(&fixture("names-and-ids"), folder.0.path());
    let arguments = ["--empty=create", "--size=auto", "--definitions=repart.d", SEED, "image.raw"];
    let said = folder.repart(&arguments);
    assert_eq!(said.code, 2);
    let error = folder.relative(&said.error());
    assert!(error.contains("two partitions have the same UUID"), "{error}");
    assert!(
        error.contains("repart.d/30.conf:3: UUID=259bc0e0") && error.contains("repart.d/31.conf"),
        "{error}"
    );
    assert!(!folder.path("image.raw").exists());
}

/// The same definitions, as older releases have them.
#[test]
fn levels_are_those_of_the_releases() {
    let folder = Folder::new(&[
        ("repart.d/1.conf", "[Partition]\nType=esp\nFormat=vfat\nSizeMinBytes=64M\nSizeMaxBytes=64M\n"),
        ("repart.d/2.conf", "[Partition]\nType=linux-generic\nSizeMinBytes=5000\nSizeMaxBytes=13000\n"),
        ("repart.d/3.conf", "[Partition]\nType=root-verity-sig\n"),
    ]);
    for (level, esp, size, rest, attributes) in [
        ("257", 64_u64 << 20, 16384_u64, 1044_u64 << 10, false),
        ("260", 100 << 20, 16384, 1044 << 10, false),
        ("262", 100 << 20, 12288, (1 << 20) + 16896, true),
    ] {
        let said = folder.create(&[&format!("--level={level}"), "--json=short"]);
        let rows = rows(&said);
        assert_eq!(rows[0]["raw_size"], esp, "{level}");
        assert!(rows[1]["raw_size"].as_u64().unwrap() <= size, "{level}");
        let least = if level == "262" { 8192 } else { 4096 };
        let length = std::fs::metadata(folder.path("image.raw")).unwrap().len();
        assert_eq!(length, rest + esp + least + 16384, "{level}");
        let said = must(command("sfdisk").args(["--json", "image.raw"]).current_dir(folder.0.path())).text();
        assert_eq!(said.contains("GUID:60"), attributes, "{level}: {said}");
        std::fs::remove_file(folder.path("image.raw")).unwrap();
    }
}
