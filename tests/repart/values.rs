//! Values that systemd-repart takes in parts or passes over: what comes of them, and what is said, as with 262.1.

use crate::run::{Folder, SEED, rows};
use crate::support::tools::{Said, command, must, run};

/// A folder with a tree to copy.
fn folder() -> Folder {
    Folder::new(&[("src/f", "f"), ("src/bqx", "b"), ("src/deep/g", "g")])
}

/// An ext4 with these lines: what is in its root, but for lost+found, and what was told.
fn listed(lines: &str) -> (Vec<String>, Said) {
    let folder = folder();
    folder.write(
        "repart.d/1.conf",
        &format!("[Partition]\nType=linux-generic\nFormat=ext4\nSplitName=fs\n{lines}\n"),
    );
    let said = folder.create(&["--split=yes", "--copy-source=."]);
    let request = command("debugfs")
        .args(["-R", "ls -p /", "image.fs.raw"])
        .current_dir(folder.0.path())
        .output()
        .unwrap();
    let text = String::from_utf8(request.stdout).unwrap();
    let name = |line: &str| line.split('/').nth(5).map(str::to_owned);
    let mut names: Vec<String> = text.lines().filter_map(name).collect();
    names.retain(|name| !name.starts_with('.') && !name.is_empty() && name != "lost+found");
    names.sort();
    (names, said)
}

/// The lines of a definition, what is in the root of its filesystem, and what is told of line 5 or later.
fn each(cases: &[(&str, &[&str], &[&str])]) {
    for (lines, expected, told) in cases {
        let (names, said) = listed(lines);
        assert_eq!(names, *expected, "{lines}");
        let warnings: Vec<String> = said
            .error()
            .lines()
            .filter_map(|line| line.split_once("repart.d/1.conf:").map(|(_, told)| told.to_owned()))
            .collect();
        assert_eq!(warnings, *told, "{lines}");
    }
}

#[test]
fn options_of_copies_that_mean_nothing_lose_no_copy() {
    let all = ["bqx", "deep", "f"];
    each(&[
        ("CopyFiles=/src:/:bogus", &all, &["5: Encountered unknown option 'bogus', ignoring."]),
        (
            "CopyFiles=/src:/:fsverity=x,,more",
            &all,
            &[
                "5: fsverity= expects either 'off' or 'copy'.",
                "5: Encountered unknown option 'more', ignoring.",
            ],
        ),
        ("CopyFiles=/src:/\nCopyFiles=", &all, &["6: CopyFiles= path is not absolute, ignoring: "]),
        ("CopyFiles=/src:/\nFormat=", &all, &["6: File system type is not valid, refusing: "]),
    ]);
}

#[test]
fn one_wrong_word_loses_no_other_directory_and_no_other_link() {
    each(&[
        ("MakeDirectories=/a b /c", &["a", "c"], &["5: MakeDirectories= path is not absolute, ignoring: b"]),
        (
            "MakeDirectories=/a /b/../c /d",
            &["a", "d"],
            &["5: MakeDirectories= path is not normalized, ignoring: /b/../c"],
        ),
        ("MakeDirectories=/a \"/b /c", &["a"], &["5: Invalid syntax, ignoring: /a \"/b /c"]),
        ("MakeSymlinks=/l:t /m:/x:y /n:q", &["l", "m", "n"], &[]),
        (
            "MakeSymlinks=/l:t m:/x /o /n:q",
            &["l", "n"],
            &[
                "5: MakeSymlinks= path is not absolute, ignoring: m",
                "5: Missing source or target in /l:t m:/x /o /n:q, ignoring",
            ],
        ),
        // Behind a bad one systemd excludes nothing.
        (
            "CopyFiles=/src:/\nExcludeFiles=/src/f x /src/bqx",
            &["bqx", "deep"],
            &["6: ExcludeFiles= path is not absolute, ignoring: x"],
        ),
        (
            "CopyFiles=/src:/\nExcludeFilesTarget=/f \"/bqx",
            &["bqx", "deep"],
            &["6: Invalid syntax, ignoring: /f \"/bqx"],
        ),
    ]);
}

#[test]
fn a_backslash_between_words_stands_for_nothing() {
    each(&[
        (r"MakeDirectories=/c\x20d", &["cx20d"], &[]),
        (r"MakeDirectories=/a\qb /e", &["aqb", "e"], &[]),
        (r#"MakeDirectories=/a\\b "/c d""#, &[r"a\b", "c d"], &[]),
        // Once between the words, and once between the fields.
        (r#"MakeSymlinks="/m:c d" /x\:y:z /v\\:w:z"#, &["m", "v:w", "x"], &[]),
        ("CopyFiles=/src:/\nExcludeFiles=/src/b\\qx /src/f", &["deep"], &[]),
        // Here they are those of C.
        (r"CopyFiles=/src:/a\x20b", &["a b"], &[]),
    ]);
    let folder = Folder::new(&[(
        "repart.d/1.conf",
        "[Partition]\nType=linux-generic\nFormat=ext4\nSplitName=fs\nMakeSymlinks=/m:c\\x20d\n",
    )]);
    folder.create(&["--split=yes"]);
    let said =
        run(command("debugfs").args(["-R", "stat /m", "image.fs.raw"]).current_dir(folder.0.path())).text();
    assert!(said.contains("\"cx20d\""), "{said}");
}

/// What the table says of one partition of 40 MiB with these lines, and what was told.
fn table(lines: &str, flags: &[&str]) -> (serde_json::Value, String) {
    let folder = Folder::new(&[("repart.d/1.conf", &format!("[Partition]\n{lines}\n"))]);
    let arguments = ["--empty=create", "--size=40M", "--definitions=repart.d", "--sector-size=512", SEED];
    let said = folder.repart(&[arguments.as_slice(), flags, &["image.raw"]].concat());
    assert_eq!(said.code, 0, "{lines}: {}", said.error());
    let table = must(command("sfdisk").args(["--json", "image.raw"]).current_dir(folder.0.path()));
    let table: serde_json::Value = serde_json::from_slice(&table.out).unwrap();
    (table["partitiontable"]["partitions"][0].clone(), folder.relative(&said.error()))
}

/// The sizes in sectors that 262.1 gave.
#[test]
fn numbers_have_the_bases_of_c() {
    for (lines, size) in [
        ("Weight=0x10\nPaddingWeight=017", 41_200),
        ("Weight=0O17\nPaddingWeight=0xf", 39_912),
        ("Weight=0b110\nPaddingWeight=+06", 39_912),
    ] {
        let (partition, told) = table(&format!("Type=linux-generic\n{lines}"), &[]);
        assert_eq!((&partition["size"], told.as_str()), (&size.into(), ""), "{lines}");
    }
    let (partition, told) = table("Type=linux-generic\nFlags=01000000000000000000000", &[]);
    assert_eq!((&partition["attrs"], told.as_str()), (&"GUID:63".into(), ""));
    for (line, expected) in [
        ("Priority=0b2", "Failed to parse Priority=0b2, ignoring: Invalid argument"),
        (
            "Priority=99999999999",
            "Failed to parse Priority=99999999999, ignoring: Numerical result out of range",
        ),
        ("Weight=08", "Failed to parse weight value, ignoring: 08"),
        ("Flags=", "Failed to parse Flags= value, ignoring: "),
        ("FactoryReset=x", "Failed to parse FactoryReset=x, ignoring: Invalid argument"),
    ] {
        let (_, told) = table(&format!("Type=linux-generic\n{line}"), &[]);
        assert!(told.contains(&format!("repart.d/1.conf:3: {expected}")), "{line}: {told}");
    }
    // The first is dropped where both do not fit: 8 is above 7.
    let folder = Folder::new(&[
        ("repart.d/1.conf", "[Partition]\nType=linux-generic\nLabel=one\nPriority=010\nSizeMinBytes=30M\n"),
        ("repart.d/2.conf", "[Partition]\nType=linux-generic\nLabel=two\nPriority=7\nSizeMinBytes=30M\n"),
    ]);
    let said = folder.repart(&[
        "--empty=create",
        "--size=40M",
        "--definitions=repart.d",
        "--json=short",
        SEED,
        "image.raw",
    ]);
    let rows = rows(&said);
    assert_eq!((rows.len(), &rows[0]["label"]), (1, &"two".into()), "{}", said.error());
    assert!(said.error().contains("1.conf of priority 8, dropping."), "{}", said.error());
}

#[test]
fn labels_have_at_most_36_bytes() {
    let e = |many: usize| "\u{e9}".repeat(many);
    for (label, kept) in [(e(18), true), (e(19), false), ("x".repeat(36), true), ("x".repeat(37), false)] {
        let (partition, told) = table(&format!("Type=linux-generic\nLabel={label}"), &[]);
        let expected = if kept { label.as_str() } else { "linux-generic" };
        assert_eq!(partition["name"], expected);
        let warned = format!("repart.d/1.conf:3: Failed to expand specifiers in Label=, ignoring: {label}");
        assert_eq!(told.contains(&warned), !kept, "{told}");
    }
    let (partition, _) = table("Type=linux-generic\nLabel=con\\\n  more", &[]);
    assert_eq!(partition["name"], "con   more");
}

/// libfdisk, by which systemd-repart writes them, knows no bits from 3 to 47 either.
#[test]
fn attributes_below_those_of_a_type_are_told() {
    for (lines, written) in [
        ("Type=srv\nFlags=0o10", "GUID:59"),
        ("Type=root\nFlags=0x8000000000000008", "GUID:59,63"),
        ("Type=linux-generic\nFlags=0x8000800000000000", "GUID:63"),
        ("Type=linux-generic\nFlags=0x8000000000000001", "RequiredPartition GUID:63"),
    ] {
        let (partition, told) = table(lines, &[]);
        assert_eq!(partition["attrs"], written, "{lines}");
        assert!(told.contains("bits 0 to 47 of Flags= are written; systemd-repart loses"), "{told}");
        let (partition, told) = table(lines, &["--faithful"]);
        assert_eq!((&partition["attrs"], told.as_str()), (&serde_json::Value::Null, ""), "{lines}");
    }
    let (partition, told) = table("Type=srv\nFlags=0x1000000000000", &[]);
    assert_eq!((&partition["attrs"], told.as_str()), (&"GUID:48,59".into(), ""));
}

/// The exit code and the message for definitions and further arguments.
fn refused(folder: &Folder, flags: &[&str]) -> (i32, String) {
    let arguments = ["--empty=create", "--size=auto", "--definitions=repart.d", SEED];
    let said = folder.repart(&[arguments.as_slice(), flags, &["image.raw"]].concat());
    assert!(said.code == 0 || !folder.path("image.raw").exists());
    (said.code, folder.relative(&said.error()))
}

#[test]
fn what_a_supplement_makes_impossible_is_refused() {
    let target = "[Partition]\nType=esp\nFormat=vfat\nSizeMinBytes=300M\nSizeMaxBytes=300M\n";
    let supplement = "[Partition]\nType=xbootldr\nFormat=vfat\nSupplementFor=1\nSizeMinBytes=400M\n";
    let folder = Folder::new(&[("repart.d/1.conf", target), ("repart.d/2.conf", supplement)]);
    let (code, error) = refused(&folder, &[]);
    assert_eq!(code, 2, "{error}");
    for line in [
        "SizeMinBytes= is larger than SizeMaxBytes= once 1 has its supplement",
        "repart.d/2.conf:5: SizeMinBytes=400M",
        "repart.d/1.conf:5: SizeMaxBytes=300M",
    ] {
        assert!(error.contains(line), "no `{line}` in {error}");
    }
    folder.write("repart.d/1.conf", &target.replace("Size", "Padding"));
    folder.write("repart.d/2.conf", &supplement.replace("Size", "Padding"));
    let (code, error) = refused(&folder, &[]);
    assert!(code == 2 && error.contains("PaddingMinBytes= is larger than PaddingMaxBytes="), "{error}");
    folder.write("repart.d/2.conf", &supplement.replace("400M", "200M"));
    folder.write("repart.d/1.conf", target);
    assert_eq!(refused(&folder, &[]).0, 0);
}

#[test]
fn lines_that_are_not_utf8_are_refused() {
    let folder = Folder::new(&[("repart.d/1.conf", "")]);
    folder.write_bytes("repart.d/1.conf", b"[Partition]\nType=linux-generic\n# \xff\nLabel=\xff\xfe\n");
    let (code, error) = refused(&folder, &[]);
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("the line is not UTF-8") && error.contains("repart.d/1.conf:4"), "{error}");
}

#[test]
fn a_folder_in_place_of_a_definition_is_passed_over() {
    let definition = "[Partition]\nType=linux-generic\n";
    let folder = Folder::new(&[("repart.d/1.conf", definition), ("more/x.conf", definition)]);
    std::fs::create_dir(folder.path("repart.d/x.conf")).unwrap();
    let said = folder.create(&["--json=short", "--definitions=more"]);
    // It hides nothing, either.
    assert_eq!((rows(&said).len(), said.error().as_str()), (2, ""));
    // A drop-in has to be a file, there as here.
    std::fs::create_dir_all(folder.path("repart.d/1.conf.d/y.conf")).unwrap();
    std::fs::remove_file(folder.path("image.raw")).unwrap();
    let (code, error) = refused(&folder, &[]);
    assert!(code == 1 && error.contains("repart.d/1.conf.d/y.conf"), "{error}");
}

#[test]
fn a_factory_reset_goes_with_a_table_that_is_there() {
    let folder = Folder::new(&[("repart.d/1.conf", "[Partition]\nType=linux-generic\nFactoryReset=yes\n")]);
    let (code, error) = refused(&folder, &["--factory-reset=yes"]);
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("--factory-reset") && error.contains("--empty"), "{error}");
    let said = folder.repart(&["--factory-reset=yes", "--definitions=repart.d", SEED, "-"]);
    assert_eq!(said.code, 0, "{}", said.error());
}

#[test]
fn filesystems_of_files_may_have_none() {
    for (format, judge) in [("erofs", ["fsck.erofs"].as_slice()), ("squashfs", &["unsquashfs", "-lls"])] {
        for keys in ["", "Minimize=best\n"] {
            let definition = format!("[Partition]\nType=root\nFormat={format}\nSplitName=fs\n{keys}");
            let folder = Folder::new(&[("repart.d/1.conf", &definition)]);
            let usual = ["--empty=create", "--size=40M", "--definitions=repart.d", "--split=yes", SEED];
            let said = folder.repart(&[usual.as_slice(), &["image.raw"]].concat());
            assert_eq!(said.code, 0, "{format} {keys}: {}", said.error());
            let (name, flags) = judge.split_first().unwrap();
            let said = run(command(name).args(flags).arg("image.fs.raw").current_dir(folder.0.path()));
            assert_eq!(said.code, 0, "{format} {keys}: {} {}", said.text(), said.error());
        }
    }
}

/// A SquashFS has no UUID, so the line names its partition.
#[test]
fn lines_of_fstab_name_what_can_be_found() {
    let definition = "[Partition]\nType=root\nFormat=squashfs\nMakeDirectories=/x\nMountPoint=/:ro\n";
    let folder = Folder::new(&[("repart.d/1.conf", definition)]);
    std::fs::create_dir(folder.path("root")).unwrap();
    let said =
        folder.create(&["--root=root", "--generate-fstab=/fstab", "--json=short", "--architecture=x86-64"]);
    let guid = rows(&said)[0]["uuid"].as_str().unwrap().to_owned();
    let fstab = std::fs::read_to_string(folder.path("root/fstab")).unwrap();
    let line = format!("PARTUUID={guid} / squashfs rw,nodev,suid,exec,ro 0 1");
    assert_eq!(fstab.lines().nth(1), Some(line.as_str()), "{fstab}");
}

/// The ids of 262.1, of what a run makes, of what is there already, and of what a later run makes.
#[test]
fn fstab_has_also_what_is_not_written_now() {
    let folder = Folder::new(&[
        ("repart.d/1.conf", "[Partition]\nType=esp\nFormat=vfat\nMountPoint=/efi\n"),
        ("repart.d/2.conf", "[Partition]\nType=srv\nFormat=ext4\nMountPoint=/s\n"),
        ("repart.d/3.conf", "[Partition]\nType=home\nMountPoint=/h\n"),
    ]);
    std::fs::create_dir(folder.path("root")).unwrap();
    let fstab = |arguments: &[&str]| {
        let usual =
            ["--definitions=repart.d", "--root=root", "--generate-fstab=/fstab", SEED, "--dry-run=no"];
        let _ = std::fs::remove_file(folder.path("root/fstab"));
        let said = folder.repart(&[usual.as_slice(), arguments, &["image.raw"]].concat());
        assert_eq!(said.code, 0, "{}", said.error());
        let text = std::fs::read_to_string(folder.path("root/fstab")).unwrap();
        let words = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
        text.lines().filter(|line| !line.starts_with('#')).map(words).collect::<Vec<_>>()
    };
    let both = ["UUID=793A-442B /efi", "UUID=6b78b32d-21c3-4aa8-bba6-a7c7435294bf /s"];
    let made = ["--empty=create", "--size=auto", "--sector-size=512"];
    assert_eq!(fstab(&[made.as_slice(), &["--defer-partitions=srv"]].concat()), both);
    // The second run fills what was left, and the third one nothing.
    assert_eq!(fstab(&[]), both);
    assert_eq!(fstab(&[]), both);
}

/// Scripts put their own options behind those of others.
#[test]
fn of_an_option_that_is_given_twice_the_last_one_counts() {
    let folder = folder();
    folder.write("repart.d/1.conf", "[Partition]\nType=linux-generic\n");
    let one = folder.create(&["--size=64M"]);
    let two = folder.create(&["--size=32M", "--size=64M", "--json=short", "--json=pretty"]);
    assert_eq!(std::fs::metadata(folder.0.path().join("image.raw")).unwrap().len(), 64 << 20);
    assert!(one.error().is_empty() && two.error().is_empty(), "{}{}", one.error(), two.error());
}

/// Each as systemd-repart 262.1 takes it.
#[test]
fn sectors_and_sizes_of_the_command_line_have_the_forms_of_systemd() {
    let folder = Folder::new(&[(
        "repart.d/1.conf",
        "[Partition]\nType=swap\nFileSystemSectorSize=\nSizeMinBytes=+9.M\nSizeMaxBytes=9. M\n",
    )]);
    for (flag, code) in [
        ("--sector-size=0x200", 0),
        ("--sector-size=0b1000000000", 0),
        ("--sector-size= 512", 0),
        ("--sector-size=512 ", 2),
        ("--sector-size=1K", 2),
        ("--size=+64.M", 0),
        ("--size=64 M", 0),
        ("--size=64M ", 2),
        ("--grain-size=1.M", 0),
        ("--grain-size=1m", 2),
    ] {
        let usual = ["--empty=create", "--size=64M", "--dry-run=yes", "--definitions=repart.d", SEED];
        let said = folder.repart(&[&usual[..], &[flag, "image.raw"]].concat());
        assert_eq!(said.code, code, "{flag}: {}", said.error());
    }
}

/// As systemd-repart 262.1, where the processor that builds has a 32-bit partner: `--architecture` takes its place.
#[test]
fn a_type_of_a_second_processor_is_of_that_which_is_named() {
    let folder = Folder::new(&[("repart.d/1.conf", "[Partition]\nType=root-secondary-verity\n")]);
    for name in ["x86", "riscv64", "arm64"] {
        let usual = ["--empty=create", "--size=64M", "--dry-run=yes", "--definitions=repart.d", SEED];
        let named = format!("--architecture={name}");
        let said = folder.repart(&[&usual[..], &[&named, "--json=short", "image.raw"]].concat());
        assert_eq!(said.code, 0, "{}", said.error());
        assert_eq!(crate::run::rows(&said)[0]["type"], format!("root-{name}-verity"));
    }
}
