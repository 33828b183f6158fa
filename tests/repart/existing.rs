//! Images that exist: only what is new is written.

use crate::run::{Folder, SEED, rows};

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
