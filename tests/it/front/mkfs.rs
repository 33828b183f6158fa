//! Bare filesystems: judged, dated, and with ids that derive from the flags.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use super::bench::{Bench, MANIFEST, judge, refused, text};

#[test]
fn the_epoch_dates_and_clamps() {
    let bench = Bench::new();
    let time = std::time::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
    let hosts = fs::File::options().write(true).open(bench.path("etc/hosts")).unwrap();
    hosts.set_modified(time).unwrap();
    let made = |epoch: Option<&str>, flags: &[&str]| {
        let mut command = bench.command(&["mkfs", "ext4", "etc", "-o", "etc.img"]);
        command.args(flags);
        if let Some(epoch) = epoch {
            command.env("SOURCE_DATE_EPOCH", epoch);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let image = bench.path("etc.img");
        let inode = judge("debugfs", &["-R", "stat /hosts", image.to_str().unwrap()]);
        let volume = judge("debugfs", &["-R", "show_super_stats -h", image.to_str().unwrap()]);
        let field = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap_or_default();
            line.to_owned()
        };
        (field(&inode, "mtime: "), field(&volume, "Filesystem created:"))
    };
    let hexadecimal = |seconds: u32| format!("0x{seconds:08x}");
    let year = |text: &str| text.trim().rsplit(' ').next().unwrap_or_default().to_owned();
    let (mtime, created) = made(None, &[]);
    assert!(mtime.starts_with(&hexadecimal(2_000_000_000)), "{mtime}");
    // dumpe2fs shows no time that is 0.
    assert_eq!(year(&created), "");
    let (mtime, created) = made(Some("1000000000"), &[]);
    assert!(mtime.starts_with(&hexadecimal(1_000_000_000)), "{mtime}");
    assert_eq!(year(&created), "2001");
    let (mtime, created) = made(Some("1000000000"), &["--time", "1500000000"]);
    assert!(mtime.starts_with(&hexadecimal(1_500_000_000)), "{mtime}");
    assert_eq!(year(&created), "2017");
    for bad in ["", "soon", "-1", "1e9", "99999999999999999999"] {
        let output = bench.command(&["build", "disk.toml"]).env("SOURCE_DATE_EPOCH", bad).output().unwrap();
        assert!(refused(2, &output).contains("SOURCE_DATE_EPOCH"), "{bad}");
    }
}

#[test]
fn mkfs_makes_filesystems_that_their_judges_accept() {
    let bench = Bench::new();
    let summary = bench.good(&["mkfs", "ext4", "etc", "-o", "etc.img", "--label", "etc", "--free", "2MiB"]);
    assert!(summary.starts_with("etc.img: raw, ") && summary.contains("ext4 etc "), "{summary}");
    bench.good(&["mkfs", "ext4", "-o", "empty.ext4", "--size", "64MiB", "--owner", "1000:100"]);
    for name in ["etc.img", "empty.ext4"] {
        judge("e2fsck", &["-fn", bench.path(name).to_str().unwrap()]);
    }
    assert_eq!(bench.read("empty.ext4").len(), 64 << 20);
    bench.good(&["mkfs", "vfat", "esp", "-o", "esp.img", "--label", "ESP", "--uuid", "1234-ABCD"]);
    bench.good(&["mkfs", "vfat", "-o", "empty.vfat", "--size", "1440KiB", "--fat", "12"]);
    for name in ["esp.img", "empty.vfat"] {
        judge("fsck.fat", &["-n", bench.path(name).to_str().unwrap()]);
    }
    let image = bench.path("esp.img");
    let list = judge("mdir", &["-i", image.to_str().unwrap(), "-/", "-b", "::"]);
    assert!(list.contains("BOOTX64.EFI"), "{list}");
    assert!(judge("blkid", &["-p", "-o", "export", image.to_str().unwrap()]).contains("UUID=1234-ABCD"));
}

#[test]
fn the_ids_of_mkfs_derive_from_its_flags_and_not_from_names() {
    let bench = Bench::new();
    bench.write("other/hosts", "127.0.0.1 localhost\n");
    let time = fs::metadata(bench.path("etc")).unwrap().modified().unwrap();
    for name in ["etc", "etc/hosts", "other", "other/hosts"] {
        fs::File::open(bench.path(name)).unwrap().set_modified(time).unwrap();
    }
    bench.good(&["mkfs", "ext4", "etc", "-o", "one.img"]);
    bench.good(&["mkfs", "ext4", "other", "-o", "two.img", "--jobs", "1"]);
    bench.good(&["mkfs", "ext4", "etc", "-o", "three.img", "--label", "x"]);
    let [one, two, three] = ["one.img", "two.img", "three.img"].map(|name| bench.read(name));
    assert!(one == two);
    // The UUID in the superblock, at byte 104 of it.
    assert!(one[1128..1144] != three[1128..1144]);
    let seed = "0867da16-f251-457d-a9e8-c31f9a3c220b";
    let report = |flags: &[&str]| -> Value {
        let all = [&["mkfs", "ext4", "--dry-run", "--json", "--seed", seed][..], flags].concat();
        serde_json::from_str(&bench.good(&all)).unwrap()
    };
    let uuid = |report: &Value| report["partitions"][0]["filesystem"]["uuid"].clone();
    assert_eq!(uuid(&report(&[])), uuid(&report(&["--label", "x"])), "a seed that is given decides alone");
}

#[test]
fn flags_of_mkfs_are_checked_as_keys_are() {
    let bench = Bench::new();
    for (arguments, what) in [
        (&["ext4", "--size", "64M"][..], "64MiB"),
        (&["ext4", "--size", "fill"], "auto"),
        (&["ext4", "--free", "1MiB", "--size", "64MiB"], "--free means nothing"),
        (&["ext4", "--uuid", "1234-ABCD"], "the volume id of a FAT"),
        (&["ext4", "--fat", "32"], "--fat"),
        (&["vfat", "--journal", "false"], "--journal"),
        (&["vfat", "etc", "--owner", "preserve"], "vfat holds no owners"),
        (&["vfat", "etc", "--hardlinks", "dedupe"], "vfat holds no hard links"),
        (&["vfat", "--fat-cluster-size", "1000"], "no clusters of this size"),
        (&["vfat", "--sector-size", "1000"], "no disk has sectors"),
        (&["ext4", "etc", "--owner", "me"], "UID:GID"),
        (&["ext4", "--reserved", "60%"], "50%"),
        (&["ext4", "--size", "1000"], "expected: a multiple of 512 bytes, or auto"),
        (&["vfat", "--sector-size", "4096", "--size", "513KiB"], "a multiple of 4096 bytes"),
        (&["ext4", "--size", "0"], "cannot have this size"),
        (&["ext4", "--hardlinks", "dedupe"], "--hardlinks is for what a SOURCE brings"),
        (&["ext4", "--xattrs", "user.*"], "--xattrs is for what a SOURCE brings"),
        (&["ext4", "--one-file-system"], "--one-file-system is for what a SOURCE brings"),
        (&["ext4", "etc/hosts", "--one-file-system"], "--one-file-system is for a directory"),
        (&["vfat", "--times", "host"], "disk, source"),
        (&["ext4", "--owner", "preserve"], "no owner to preserve"),
        (&["vfat", "--owner", "5:5"], "vfat holds no owners"),
    ] {
        let output = bench.run(&[&["mkfs"][..], arguments, &["-o", "x.img"]].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(what), "{arguments:?}: {}", text(&output.stderr));
    }
    let message = bench.bad(1, &["mkfs", "ext4", "etc/hosts", "-o", "x.img"]);
    assert!(message.contains("the archive is not a tar") && message.contains("etc/hosts"), "{message}");
    let message = bench.bad(1, &["mkfs", "ext4", "missing", "-o", "x.img"]);
    assert!(message.contains("the source does not exist") && message.contains("at missing"), "{message}");
    assert_eq!(bench.names("."), ["disk.toml", "esp", "etc"]);
}

#[test]
fn a_source_may_have_a_name_of_any_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let bench = Bench::new();
    let name = std::ffi::OsStr::from_bytes(b"odd *\xff\n");
    fs::create_dir(bench.folder.path().join(name)).unwrap();
    let output = bench.command(&["mkfs", "ext4", "-o", "x.img"]).arg(name).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_time_of_the_disk_that_ext4_cannot_hold_is_said() {
    let bench = Bench::new();
    let flags = ["mkfs", "ext4", "etc", "-o", "x.img", "--time", "99999999999"];
    let message = bench.bad(2, &flags);
    assert!(
        message.contains("the time of the disk") && message.contains("found: 99999999999 seconds"),
        "{message}"
    );
    // No file of the source has such a time, but files with the time of the disk do.
    let output = bench.run(&[&flags[..], &["--times", "clamp"]].concat());
    assert!(output.status.success());
    assert!(text(&output.stderr).contains("warning: times outside 1901"), "{}", text(&output.stderr));
}

#[test]
fn the_root_of_an_empty_filesystem_has_its_owner() {
    let bench = Bench::new();
    for (flags, owner) in
        [(&["--owner", "1000:100"][..], (1000, 100)), (&["--owner", "root"], (0, 0)), (&[], (0, 0))]
    {
        bench.good(&[&["mkfs", "ext4", "-o", "x.img"][..], flags].concat());
        let stat = judge("debugfs", &["-R", "stat /", bench.path("x.img").to_str().unwrap()]);
        let words: Vec<_> = stat.split_whitespace().collect();
        let after = |word: &str| words[words.iter().position(|found| *found == word).unwrap() + 1];
        assert_eq!(
            (after("User:"), after("Group:")),
            (owner.0.to_string().as_str(), owner.1.to_string().as_str())
        );
        judge("e2fsck", &["-fn", bench.path("x.img").to_str().unwrap()]);
    }
}

#[test]
fn a_label_commands_no_terminal() {
    let bench = Bench::new();
    let report = bench.good(&["mkfs", "ext4", "-o", "x.img", "--label", "red\x1b[31m\n"]);
    assert!(report.contains("ext4 red\\x1b[31m\\x0a "), "{report}");
    assert_eq!(report.lines().count(), 3, "{report}");
    assert!(report.contains("(4 MiB of it the journal)"), "{report}");
    // In the image it is what was asked for.
    assert_eq!(&bench.read("x.img")[1024 + 0x78..][..9], b"red\x1b[31m\n");
}

#[test]
fn warnings_go_to_standard_error_and_into_the_report() {
    let bench = Bench::new();
    let output = bench.run(&["mkfs", "vfat", "-o", "x.img", "--label", "esp", "--json"]);
    assert!(output.status.success());
    let warning = text(&output.stderr);
    assert!(warning.starts_with("diskwright: warning: ") && warning.contains("`esp`"), "{warning}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(warning.contains(report["warnings"][0].as_str().unwrap()));
    // If there are several partitions, the warning names its partition.
    bench.write("lower.toml", MANIFEST.replace("\"vfat\", label = \"ESP\"", "\"vfat\", label = \"esp\""));
    let output = bench.run(&["build", "lower.toml", "-o", "x.img"]);
    let warning = text(&output.stderr);
    assert!(warning.contains("partition[0] (lower.toml:7): ") && warning.lines().count() == 1, "{warning}");
}

/// The program sees the owners that the kernel has, not those of fakeroot, and says what it cannot read.
#[test]
fn owners_that_are_made_up_or_lost_are_said() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    bench.write("etc/tool", "tool");
    fs::set_permissions(bench.path("etc/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    let under = |arguments: &[&str]| {
        bench.command(arguments).env("FAKEROOTKEY", "1").env("LD_PRELOAD", "").output().unwrap()
    };
    for flags in [[].as_slice(), &["--owner", "preserve"]] {
        let output = under(&[&["mkfs", "ext4", "etc", "-o", "refused.img"], flags].concat());
        let message = refused(1, &output);
        for word in
            ["owners and devices that fakeroot shows", "FAKEROOTKEY", "unshare --map-auto --map-root-user"]
        {
            assert!(message.contains(word), "no `{word}` in {message}");
        }
        assert!(!bench.path("refused.img").exists());
    }
    assert!(refused(1, &under(&["build", "disk.toml", "-o", "disk.img"])).contains("disk.toml:"));
    // Where no owner is read, there is nothing to make up.
    for (kind, owner) in [("vfat", None), ("ext4", Some("root")), ("ext4", Some("7:8"))] {
        let mut arguments = vec!["mkfs", kind, "etc", "-o", "made.img"];
        arguments.extend(owner.iter().flat_map(|owner| ["--owner", owner]));
        let output = under(&arguments);
        let said = text(&output.stderr);
        assert!(
            output.status.success() && said.contains("such a device is an empty file"),
            "{arguments:?}: {said}"
        );
    }
    // The user's own files become root's without a warning, but not set-id bits that then act for another.
    let output = bench.run(&["mkfs", "ext4", "etc", "-o", "own.img", "--owner", "7:8"]);
    let said = text(&output.stderr);
    let tool = bench.path("etc/tool");
    let expected = format!("than on this machine, of 1 name: {} (4755, ", tool.display());
    assert!(output.status.success() && said.lines().count() == 1 && said.contains(&expected), "{said}");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    for owner in ["7:8", "root", "preserve"] {
        bench.good(&["mkfs", "ext4", "etc", "-o", "own.img", "--owner", owner]);
    }
    bench.good(&["mkfs", "ext4", "etc", "-o", "own.img"]);
}

/// A name may be as long as its filesystem allows.
#[test]
fn a_long_name_fits_where_its_filesystem_has_it() {
    let bench = Bench::new();
    let manifest = |kind: &str, name: &str| {
        format!(
            "version = 1\n[disk]\ntable = \"none\"\n[[partition]]\nsize = \"auto\"\nfilesystem = {{ type = \"{kind}\" }}\ncontents \
             = [\n  {{ text = \"here\\n\", target = \"/{name}\" }},\n]\n"
        )
    };
    // 255 characters of two bytes, and of three.
    for name in ["\u{e9}".repeat(255), "\u{20ac}".repeat(251) + ".txt"] {
        bench.write("long.toml", manifest("vfat", &name));
        bench.good(&["build", "long.toml", "-o", "long.img"]);
        let image = bench.path("long.img");
        judge("fsck.fat", &["-n", image.to_str().unwrap()]);
        let list = std::process::Command::new("mdir")
            .env("LC_ALL", "C.UTF-8")
            .args(["-i", image.to_str().unwrap(), "-b", "::"])
            .output()
            .unwrap();
        assert!(text(&list.stdout).contains(&name), "{}", text(&list.stdout));

        bench.write("long.toml", manifest("ext4", &name));
        let message = bench.bad(2, &["build", "long.toml", "-o", "refused.img"]);
        for word in ["a name is too long for this filesystem", "long.toml:8: ", "at most 255 bytes"] {
            assert!(message.contains(word), "no `{word}` in {message}");
        }
        assert!(message.contains(&format!("found: {} bytes", name.len())), "{message}");
    }
    bench.write("long.toml", manifest("ext4", &"x".repeat(255)));
    bench.good(&["build", "long.toml", "-o", "long.img"]);
    judge("e2fsck", &["-fn", bench.path("long.img").to_str().unwrap()]);
    bench.write("long.toml", manifest("vfat", &"x".repeat(256)));
    assert!(bench.bad(2, &["build", "long.toml", "-o", "refused.img"]).contains("255 UTF-16"));
    // No filesystem has more than 765 bytes, and what is shown of it ends with a whole character.
    bench.write("long.toml", manifest("vfat", &format!("x{}", "\u{20ac}".repeat(255))));
    let message = bench.bad(2, &["build", "long.toml", "-o", "refused.img"]);
    let shown = format!("found: 766 bytes: x{}…\n", "\u{20ac}".repeat(26));
    assert!(message.contains("at most 765 bytes") && message.contains(&shown), "{message}");
}

/// An EFI system partition without files gives a warning, in either table; other FATs may be empty.
#[test]
fn an_empty_system_partition_is_said() {
    let bench = Bench::new();
    for (table, kind, expected) in [
        ("gpt", "esp", 1),
        ("mbr", "0xef", 1),
        ("gpt", "xbootldr", 0),
        ("gpt", "linux", 0),
        ("mbr", "0x0c", 0),
    ] {
        let manifest = |contents: &str| {
            format!(
                "version = 1\n[disk]\ntable = \"{table}\"\n[[partition]]\ntype = \"{kind}\"\nsize = \"64MiB\"\nfilesystem = {{ type = \
                 \"vfat\" }}\n{contents}\n"
            )
        };
        bench.write("esp.toml", manifest(""));
        let said = text(&bench.run(&["build", "esp.toml", "-o", "esp.img"]).stderr);
        let words = "partition[0] (esp.toml:4): there is nothing on the EFI system partition";
        assert_eq!(said.matches(words).count(), expected, "{table} {kind}: {said}");
        assert_eq!(said.lines().count(), expected, "{table} {kind}: {said}");
        bench.write("esp.toml", manifest("contents = [ { directory = true, target = \"/EFI/BOOT\" } ]"));
        let said = text(&bench.run(&["build", "esp.toml", "-o", "esp.img"]).stderr);
        let words = "partition[0] (esp.toml:4): there is no file on the EFI system partition";
        assert_eq!(said.matches(words).count(), expected, "{table} {kind}: {said}");
        bench.write("esp.toml", manifest("contents = [ { text = \"x\", target = \"/x\" } ]"));
        bench.good(&["build", "esp.toml", "-o", "esp.img"]);
        let bare = format!(
            "version = 1\n[disk]\ntable = \"{table}\"\n[[partition]]\ntype = \"{kind}\"\nsize = \"1MiB\"\n"
        );
        bench.write("esp.toml", bare);
        let said = text(&bench.run(&["build", "esp.toml", "-o", "esp.img"]).stderr);
        let words = "partition[0] (esp.toml:4): the EFI system partition has no filesystem";
        assert_eq!(said.matches(words).count(), expected, "{table} {kind}: {said}");
        assert_eq!(said.lines().count(), expected, "{table} {kind}: {said}");
    }
}

/// Where a system partition is too small for FAT32, the size that FAT32 takes is that of the wanted clusters, and is right.
#[test]
fn the_size_that_fat32_takes_is_that_of_its_clusters() {
    let bench = Bench::new();
    let warning = |size: &str, more: &str| {
        bench.write(
            "esp.toml",
            format!(
                "version = 1\n[[partition]]\ntype = \"esp\"\nsize = \"{size}\"\nfilesystem = {{ type = \"vfat\"{more} }}\n\
                 contents = [ {{ text = \"x\", target = \"/x\" }} ]\n"
            ),
        );
        text(&bench.run(&["build", "esp.toml", "-o", "esp.img"]).stderr)
    };
    let wide = ", cluster_size = \"4KiB\"";
    let said = warning("100MiB", wide);
    let words = "with clusters of 4KiB FAT32 takes 257 MiB or more, with the smallest 33 MiB";
    assert!(said.contains("it is FAT16") && said.contains(words), "{said}");
    let said = warning("32MiB", "");
    assert!(said.contains("FAT32 takes 33 MiB or more"), "{said}");
    for (size, more) in [("258MiB", wide), ("34MiB", ""), ("32MiB", ", fat = 16"), ("100MiB", ", fat = 16")] {
        assert_eq!(warning(size, more), "", "{size}{more}");
    }
}
