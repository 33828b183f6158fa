//! Images that exist: only what is new is written.

use crate::run::{Folder, SEED, rows};
use crate::support::tools::Said;

const TABLE: &str = "label: gpt\nfirst-lba: 2048\nstart=2048,size=20480,type=L,name=one\nstart=40960,size=8192,type=H,name=two\n";

/// An image with two partitions, and bytes in them, before them and between them.
fn image(folder: &Folder) -> Vec<u8> {
    folder.write("table.txt", TABLE);
    let said = folder.shell("truncate -s 100M image.raw && sfdisk -q image.raw < table.txt");
    assert_eq!(said.code, 0, "{}", said.error());
    let file = std::fs::OpenOptions::new().write(true).open(folder.path("image.raw")).unwrap();
    use std::os::unix::fs::FileExt;
    // Boot code, a boot program behind the table, both partitions, and what lies between them.
    for (at, text) in [
        (0, "boot code"),
        (20_000, "boot program"),
        (1 << 20, "one"),
        (12 << 20, "between"),
        (20 << 20, "two"),
        (24 << 20, "end"),
    ] {
        file.write_all_at(text.as_bytes(), at).unwrap();
    }
    std::fs::read(folder.path("image.raw")).unwrap()
}

const ADD: [&str; 4] = ["--dry-run=no", "--definitions=repart.d", SEED, "image.raw"];

#[test]
fn nothing_else_changes() {
    let folder = Folder::new(&[("repart.d/1.conf", "[Partition]\nType=srv\nSizeMinBytes=50M\n")]);
    let before = image(&folder);
    let said = folder.repart(&ADD);
    assert_eq!(said.code, 0, "{}", said.error());
    let after = std::fs::read(folder.path("image.raw")).unwrap();
    assert_eq!(before.len(), after.len());
    // Outside of the tables only what the new partition covers is another.
    let (start, end) = (24_usize << 20, after.len() - 33 * 512);
    assert_eq!(before[..440], after[..440]);
    assert_eq!(before[34 * 512..start], after[34 * 512..start]);
    assert!(after[start..end].iter().all(|byte| *byte == 0));
    assert_ne!(before[512..34 * 512], after[512..34 * 512]);
}

#[test]
fn a_second_run_changes_nothing() {
    let folder = Folder::new(&[("repart.d/1.conf", "[Partition]\nType=srv\n")]);
    image(&folder);
    assert_eq!(folder.repart(&ADD).code, 0);
    let first = std::fs::read(folder.path("image.raw")).unwrap();
    let said = folder.repart(&[ADD.as_slice(), &["--json=short"]].concat());
    assert!(rows(&said).iter().all(|row| row["activity"] == "unchanged"), "{}", said.text());
    assert_eq!(std::fs::read(folder.path("image.raw")).unwrap(), first);
}

#[test]
fn a_dry_run_is_the_default_and_writes_nothing() {
    let folder = Folder::new(&[("repart.d/1.conf", "[Partition]\nType=srv\n")]);
    let before = image(&folder);
    for flags in [&[][..], &["-n"], &["--dry-run=yes"]] {
        let said =
            folder.repart(&[&["--definitions=repart.d", SEED, "--json=pretty", "image.raw"], flags].concat());
        assert_eq!(said.code, 0, "{}", said.error());
        assert_eq!(rows(&said).len(), 3);
        assert_eq!(std::fs::read(folder.path("image.raw")).unwrap(), before);
    }
}

/// The exit codes are those of systemd-repart 262.1, and so is whether the image changes.
#[test]
fn what_may_be_there_is_what_empty_says() {
    let folder = Folder::new(&[("repart.d/1.conf", "[Partition]\nType=srv\n")]);
    for (there, mode, code, what) in [
        ("table", "refuse", 0, ""),
        ("table", "allow", 0, ""),
        ("table", "require", 77, "has a partition table already"),
        ("table", "force", 0, ""),
        ("blank", "refuse", 77, "has no partition table"),
        ("blank", "allow", 0, ""),
        ("blank", "require", 0, ""),
        ("blank", "force", 0, ""),
        ("dos", "allow", 77, "no GPT"),
        ("dos", "refuse", 77, "no GPT"),
        ("dos", "require", 77, "has a partition table already"),
        ("dos", "force", 0, ""),
        ("damaged", "refuse", 0, "the primary GPT is damaged"),
        ("damaged", "allow", 0, "it is written anew"),
        ("damaged", "require", 77, "has a partition table already"),
        ("no backup", "allow", 0, "there is no backup GPT"),
        ("unprotected", "refuse", 77, "has no partition table"),
        ("unprotected", "allow", 0, ""),
        ("unprotected", "require", 0, ""),
        ("protected", "allow", 77, "no GPT"),
        ("protected", "require", 77, "has a partition table already"),
        ("filesystem", "refuse", 77, "has no partition table"),
        ("filesystem", "allow", 0, "held ext2 and no partition table"),
        ("filesystem", "require", 0, "held ext2 and no partition table"),
        ("filesystem", "force", 0, ""),
        ("fat", "refuse", 77, "no GPT"),
        ("fat", "allow", 77, "no GPT"),
        ("fat", "require", 77, "has a partition table already"),
        ("fat", "force", 0, ""),
        ("swap", "allow", 0, "held swap"),
        ("sun", "allow", 77, "a label of Sun"),
        ("sun", "refuse", 77, ""),
        ("sun", "force", 0, ""),
        ("sgi", "require", 77, "has a partition table already"),
        ("sgi", "allow", 77, "a label of SGI"),
        ("none", "refuse", 1, "does not exist"),
    ] {
        let _ = std::fs::remove_file(folder.path("image.raw"));
        let line = match there {
            "none" => "true".to_owned(),
            "blank" => "truncate -s 30M image.raw".to_owned(),
            "dos" => "truncate -s 30M image.raw && echo 'label: dos' | sfdisk -q image.raw".to_owned(),
            "filesystem" => "truncate -s 30M image.raw && mke2fs -q image.raw".to_owned(),
            "fat" => "truncate -s 30M image.raw && mkfs.fat image.raw".to_owned(),
            "swap" => "truncate -s 30M image.raw && mkswap -q image.raw".to_owned(),
            "sun" | "sgi" => {
                format!("truncate -s 30M image.raw && echo 'label: {there}' | sfdisk -q image.raw")
            }
            _ => "truncate -s 60M image.raw && sfdisk -q image.raw < table.txt".to_owned(),
        };
        folder.write("table.txt", TABLE);
        let said = folder.shell(&line);
        assert_eq!(said.code, 0, "{}", said.error());
        let zero = "dd if=/dev/zero of=image.raw bs=512 conv=notrunc count=1 seek=";
        let _ = match there {
            "damaged" => folder.shell("printf X | dd of=image.raw bs=1 seek=1100 conv=notrunc"),
            // 60 MiB have 122,880 sectors.
            "no backup" => folder.shell(&format!("{zero}122879")),
            "unprotected" => folder.shell(&format!("{zero}0")),
            "protected" => folder.shell(&format!("{zero}1 && {zero}122879")),
            _ => said,
        };
        let before = std::fs::read(folder.path("image.raw")).unwrap_or_default();
        let said = folder.repart(&[ADD.as_slice(), &[&format!("--empty={mode}")]].concat());
        let after = std::fs::read(folder.path("image.raw")).unwrap_or_default();
        assert_eq!(before != after, code == 0, "{there} {mode}");
        assert_eq!(said.code, code, "{there} {mode}: {}", said.error());
        assert!(said.error().contains(what), "{there} {mode}: {}", said.error());
    }
}

/// As with systemd-repart 262.1, which makes the file and opens none that is there.
#[test]
fn a_new_image_takes_no_place_of_another() {
    let folder = Folder::new(&[("repart.d/1.conf", "[Partition]\nType=home\n")]);
    folder.create(&[]);
    let before = std::fs::read(folder.path("image.raw")).unwrap();
    let arguments = ["--empty=create", "--size=40M", "--definitions=repart.d", SEED, "image.raw"];
    let said = folder.repart(&arguments);
    assert_eq!(said.code, 2);
    for words in ["the image exists already", "image.raw", "--empty=create", "--empty=force"] {
        assert!(said.error().contains(words), "{}", said.error());
    }
    assert_eq!(std::fs::read(folder.path("image.raw")).unwrap(), before);
    // Nothing is written, so nothing is in the way.
    assert_eq!(folder.repart(&[&["--dry-run=yes"], &arguments[..]].concat()).code, 0);
}

/// systemd-repart 262.1 says "Minimal partition size of … exceeds configured maximum size".
#[test]
fn contents_that_decide_a_size_do_not_exceed_the_largest_one() {
    let definition =
        "[Partition]\nType=root\nFormat=erofs\nCopyFiles=/tree:/\nMinimize=best\nSizeMaxBytes=100K\n";
    let content = "not much ".repeat(40_000);
    let folder = Folder::new(&[("repart.d/1.conf", definition), ("tree/file", &content)]);
    let said = folder.repart(&[
        "--empty=create",
        "--size=auto",
        "--definitions=repart.d",
        "--copy-source=.",
        SEED,
        "image.raw",
    ]);
    assert_eq!(said.code, 1, "{}", said.error());
    for words in ["1.conf:6: SizeMaxBytes=100K", "at most 100 KiB"] {
        assert!(said.error().contains(words), "{}", said.error());
    }
    assert!(!folder.path("image.raw").exists());
}

/// As systemd-repart 262.1: whether a reset is possible does not depend on what fits afterwards.
#[test]
fn a_factory_reset_is_told_where_not_all_fits() {
    let folder = Folder::new(&[
        ("repart.d/1.conf", "[Partition]\nType=linux-generic\nFactoryReset=yes\nSizeMinBytes=1G\n"),
        ("repart.d/2.conf", "[Partition]\nType=srv\nSizeMinBytes=1G\n"),
    ]);
    let before = image(&folder);
    for further in [&[][..], &["--factory-reset=yes"], &["--dry-run=no"]] {
        let usual = ["--can-factory-reset", "--definitions=repart.d", SEED, "image.raw"];
        let said = folder.repart(&[&usual, further].concat());
        assert_eq!((said.code, said.text().as_str()), (0, ""), "{}", said.error());
    }
    assert_eq!(std::fs::read(folder.path("image.raw")).unwrap(), before);
}

/// As systemd-repart 262.1, which wipes the disk before it makes a table.
#[test]
fn a_new_table_takes_the_boot_code_away() {
    let folder = Folder::new(&[("repart.d/1.conf", "[Partition]\nType=srv\n")]);
    for (mode, table) in [("force", true), ("force", false), ("allow", false), ("require", false)] {
        image(&folder);
        if !table {
            let said = folder.shell(
                "rm image.raw && truncate -s 60M image.raw && printf code | dd of=image.raw conv=notrunc",
            );
            assert_eq!(said.code, 0, "{}", said.error());
        }
        let said = folder.repart(&[ADD.as_slice(), &[&format!("--empty={mode}")]].concat());
        assert_eq!(said.code, 0, "{}", said.error());
        let after = std::fs::read(folder.path("image.raw")).unwrap();
        assert!(after[..440].iter().all(|byte| *byte == 0), "{mode}");
    }
}

/// As systemd-repart 262.1: the definition names the partition where it is told of, and the table keeps what it has.
#[test]
fn a_partition_that_cannot_grow_is_shown_by_the_name_of_its_definition() {
    let folder = Folder::new(&[(
        "repart.d/1.conf",
        "[Partition]\nType=linux-generic\nLabel=foo\nPriority=5\nSizeMinBytes=1G\n",
    )]);
    folder.write("table.txt", "label: gpt\nstart=2048,size=20480,type=L\n");
    let said = folder.shell("truncate -s 60M image.raw && sfdisk -q image.raw < table.txt");
    assert_eq!(said.code, 0, "{}", said.error());
    let said = folder.repart(&[ADD.as_slice(), &["--size=100M", "--json=short"]].concat());
    assert_eq!(said.code, 0, "{}", said.error());
    assert_eq!(rows(&said)[0]["label"], "foo");
    let table = folder.shell("sfdisk -d image.raw").text();
    assert!(!table.contains("name="), "{table}");
}

/// As systemd-repart 262.1: the partitions of a later image come first, what has no name gets that of its type, and later
/// partitions count on from it.
#[test]
fn partitions_of_other_images_are_copied_in_the_order_of_systemd() {
    let folder = Folder::new(&[("repart.d/1.conf", "[Partition]\nType=home\n")]);
    folder.write("a.txt", "label: gpt\nstart=2048,size=2048,type=L,name=one\nstart=8192,size=2048,type=H\n");
    folder.write("b.txt", "label: gpt\nstart=2048,size=2048,type=L,name=two\n");
    for name in ["a", "b"] {
        let said = folder.shell(&format!("truncate -s 10M {name}.raw && sfdisk -q {name}.raw < {name}.txt"));
        assert_eq!(said.code, 0, "{}", said.error());
    }
    let said = folder.create(&["--copy-from=a.raw", "--copy-from=b.raw", "--json=short"]);
    let rows = rows(&said);
    let labels: Vec<&str> = rows.iter().map(|row| row["label"].as_str().unwrap()).collect();
    assert_eq!(labels, ["two", "one", "home", "home-2"]);
    let files: Vec<String> = rows.iter().map(|row| folder.relative(row["file"].as_str().unwrap())).collect();
    assert_eq!(files, ["b.raw", "a.raw", "a.raw", "repart.d/1.conf"]);
    assert!(std::path::Path::new(rows[0]["file"].as_str().unwrap()).is_absolute());
}

#[test]
fn a_factory_reset_is_told() {
    let folder = Folder::new(&[("repart.d/1.conf", "[Partition]\nType=home\nFactoryReset=yes\n")]);
    let before = image(&folder);
    let arguments = ["--can-factory-reset", "--definitions=repart.d", SEED, "image.raw"];
    assert_eq!(folder.repart(&arguments).code, 0);
    folder.write("repart.d/1.conf", "[Partition]\nType=home\n");
    assert_eq!(folder.repart(&arguments).code, 1);
    assert_eq!(std::fs::read(folder.path("image.raw")).unwrap(), before);
}

/// repart.d(5), SupplementFor=. systemd-repart 262.1 says the same size for the first of these, and then fails an assertion.
#[test]
fn a_supplement_is_merged_unless_it_is_there_already() {
    let folder = Folder::new(&[
        (
            "repart.d/10-esp.conf",
            "[Partition]\nType=esp\nFormat=vfat\nSizeMinBytes=110M\nSizeMaxBytes=200M\nMakeDirectories=/EFI\n",
        ),
        (
            "repart.d/20-boot.conf",
            "[Partition]\nType=xbootldr\nFormat=vfat\nSupplementFor=10-esp\nSizeMinBytes=120M\nMakeDirectories=/loader\n",
        ),
        ("repart.d/30.conf", "[Partition]\nType=home\nSizeMinBytes=1M\nSizeMaxBytes=1M\n"),
    ]);
    let types = |rows: &[serde_json::Value]| -> Vec<String> {
        rows.iter().map(|row| row["type"].as_str().unwrap().to_owned()).collect()
    };
    let said = folder.create(&["--json=short"]);
    let merged = rows(&said);
    assert_eq!(types(&merged), ["esp", "home"]);
    assert_eq!(merged[0]["raw_size"], 120 << 20);
    let length = std::fs::metadata(folder.path("image.raw")).unwrap().len();
    assert_eq!(length, (122 << 20) + 16896);
    let xbootldr = "label: gpt\nstart=2048,size=40960,type=bc13c2ff-59e6-4262-a352-b275fd6f7172,name=boot\n";
    folder.write("table.txt", xbootldr);
    folder.shell("rm image.raw && truncate -s 300M image.raw && sfdisk -q image.raw < table.txt");
    let own = ["--json=short", "--sector-size=512"];
    let apart = rows(&folder.repart(&[ADD.as_slice(), &own].concat()));
    assert_eq!(types(&apart), ["xbootldr", "esp", "home"]);
    assert_eq!(apart[0]["activity"], "resize");
    assert!(apart[1]["raw_size"].as_u64().unwrap() >= 110 << 20);
}

/// As systemd-repart 262.1: a target that is there and can grow takes its supplement.
#[test]
fn a_supplement_is_merged_into_what_is_there_where_that_may_grow() {
    let folder = Folder::new(&[
        ("repart.d/10-a.conf", "[Partition]\nType=linux-generic\n"),
        ("repart.d/20-b.conf", "[Partition]\nType=srv\nSizeMinBytes=30M\nSupplementFor=10-a\n"),
    ]);
    for (next, types, sizes) in [
        (102_400, &["linux-generic", "home"][..], &[51_380_224, 4 << 20][..]),
        (22_528, &["linux-generic", "home", "srv"], &[10 << 20, 4 << 20]),
    ] {
        let table = format!(
            "label: gpt\nstart=2048,size=20480,type=L,name=one\nstart={next},size=8192,type=H,name=two\n"
        );
        folder.write("table.txt", &table);
        let said =
            folder.shell("rm -f image.raw && truncate -s 200M image.raw && sfdisk -q image.raw < table.txt");
        assert_eq!(said.code, 0, "{}", said.error());
        let said = folder.repart(&[ADD.as_slice(), &["--json=short"]].concat());
        assert_eq!(said.code, 0, "{}", said.error());
        let rows = rows(&said);
        let of = |key: &str| rows.iter().map(|row| row[key].clone()).collect::<Vec<_>>();
        assert_eq!(of("type"), types);
        assert_eq!(of("raw_size")[..2], *sizes);
    }
}

/// As systemd-repart 262.1: where not all fits, a supplement that may be dropped before its target is, and one whose target
/// cannot grow stands apart.
#[test]
fn supplements_and_priorities_go_together() {
    let folder = Folder::new(&[
        ("repart.d/10.conf", "[Partition]\nType=root\nPriority=5\n"),
        ("repart.d/20.conf", "[Partition]\nType=home\nPriority=7\nSizeMinBytes=2G\nSupplementFor=10\n"),
        ("repart.d/30.conf", "[Partition]\nType=srv\n"),
    ]);
    let usual = ["--empty=create", "--size=200M", "--definitions=repart.d", SEED, "--json=short", "new.raw"];
    let said = folder.repart(&[&usual[..], &["--architecture=x86-64"]].concat());
    assert_eq!(said.code, 0, "{}", said.error());
    let kinds = |said: &Said| rows(said).iter().map(|row| row["type"].clone()).collect::<Vec<_>>();
    assert_eq!(kinds(&said), ["root-x86-64", "srv"]);
    folder.write("repart.d/10.conf", "[Partition]\nType=linux-generic\nPriority=5\n");
    folder.write("repart.d/20.conf", "[Partition]\nType=home\nSizeMinBytes=30M\nSupplementFor=10\n");
    std::fs::remove_file(folder.path("repart.d/30.conf")).unwrap();
    folder.write(
        "table.txt",
        "label: gpt\nstart=2048,size=20480,type=L,name=one\nstart=22528,size=8192,type=U\n",
    );
    let said = folder.shell("truncate -s 100M image.raw && sfdisk -q image.raw < table.txt");
    assert_eq!(said.code, 0, "{}", said.error());
    let said = folder.repart(&[ADD.as_slice(), &["--json=short"]].concat());
    assert_eq!(said.code, 0, "{}", said.error());
    assert_eq!(kinds(&said), ["linux-generic", "esp", "home"]);
}

/// As systemd-repart 262.1: a deferred partition has a split file by name, and gets none.
#[test]
fn a_deferred_partition_has_the_name_of_a_split_file() {
    let folder = Folder::new(&[
        ("repart.d/1.conf", "[Partition]\nType=linux-generic\nSizeMaxBytes=10M\n"),
        ("repart.d/2.conf", "[Partition]\nType=swap\nSizeMaxBytes=10M\n"),
    ]);
    image(&folder);
    let defer = ["--split=yes", "--json=short", "--defer-partitions=linux-generic,swap"];
    let said = folder.repart(&[ADD.as_slice(), &defer].concat());
    assert_eq!(said.code, 0, "{}", said.error());
    let paths: Vec<String> =
        rows(&said).iter().map(|row| folder.relative(row["split_path"].as_str().unwrap())).collect();
    assert_eq!(paths, ["image.linux-generic.raw", "-", "image.swap.raw"]);
    assert!(!folder.path("image.linux-generic.raw").exists() && !folder.path("image.swap.raw").exists());
    folder.write("repart.d/2.conf", "[Partition]\nType=swap\nSplitName=linux-generic\n");
    let said = folder.repart(&[ADD.as_slice(), &defer].concat());
    assert_eq!(said.code, 2, "{}", said.error());
}

/// As systemd-repart 262.1: split files of an image that is there are beside it, and are called by whole paths.
#[test]
fn split_files_of_an_image_that_is_there_have_whole_paths() {
    let folder = Folder::new(&[("repart.d/1.conf", "[Partition]\nType=srv\nSizeMaxBytes=10M\n")]);
    image(&folder);
    let said = folder.repart(&[ADD.as_slice(), &["--split=yes", "--json=short"]].concat());
    assert_eq!(said.code, 0, "{}", said.error());
    let rows = rows(&said);
    let path = std::path::PathBuf::from(rows[2]["split_path"].as_str().unwrap());
    assert_eq!(path, folder.path("image.srv.raw").canonicalize().unwrap());
}
