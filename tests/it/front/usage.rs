//! The program as a process: exit codes, streams, and reports.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;

use super::bench::{Bench, MANIFEST, judge, refused, text};

#[test]
fn help_and_version_are_results_and_no_arguments_are_bad_usage() {
    let bench = Bench::new();
    assert!(bench.good(&["--help"]).contains("build"));
    assert!(bench.good(&["--version"]).starts_with("diskwright "));
    for command in [
        &["build", "--help"][..],
        &["mkfs", "ext4", "--help"],
        &["mkfs", "vfat", "--help"],
        &["mkfs", "erofs", "--help"],
    ] {
        let help = bench.good(command);
        assert!(help.contains("Examples:") && help.contains("[default: "), "{help}");
    }
    for arguments in
        [&[][..], &["bild"], &["build"], &["build", "disk.toml", "--level", "3"], &["mkfs", "ext4"]]
    {
        let output = bench.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
    }
    for (value, flag) in [("0", "--jobs"), ("many", "--jobs"), ("floppy", "--format")] {
        assert_eq!(bench.run(&["build", "disk.toml", flag, value]).status.code(), Some(2), "{flag} {value}");
    }
    assert_eq!(bench.names("."), ["disk.toml", "esp", "etc"]);
}

#[test]
fn a_manifest_to_start_from_replaces_no_file() {
    let bench = Bench::new();
    let own = bench.read("disk.toml");
    assert!(bench.bad(1, &["init"]).contains("there is a file of this name already"));
    assert!(bench.read("disk.toml") == own);
    let printed = bench.good(&["init", "data", "-o", "-"]);
    assert!(bench.good(&["init", "data", "-o", "data.toml"]).contains("data.toml"));
    assert!(bench.read("data.toml") == printed.as_bytes());
    // A shell has made the file when the program begins.
    let folder = TempDir::new().unwrap();
    let there = fs::File::create(folder.path().join("disk.toml")).unwrap();
    let status = bench.command(&["init", "data"]).current_dir(folder.path()).stdout(there).status().unwrap();
    assert!(status.success());
    assert!(fs::read(folder.path().join("disk.toml")).unwrap() == printed.as_bytes());
}

#[test]
fn an_image_is_named_after_its_manifest_and_judged() {
    let bench = Bench::new();
    let summary = bench.good(&["build", "disk.toml"]);
    assert!(summary.starts_with("disk.img: raw, "), "{summary}");
    assert_eq!(summary.lines().count(), 7, "{summary}");
    assert_eq!(bench.names("."), ["disk.img", "disk.toml", "esp", "etc"]);
    let image = bench.path("disk.img");
    assert!(judge("sgdisk", &["-v", image.to_str().unwrap()]).contains("No problems found"));
    judge("sfdisk", &["--verify", image.to_str().unwrap()]);
    // As with any new file, the umask applies.
    let mode = fs::metadata(&image).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode & 0o111, 0);
    assert_eq!(mode, fs::metadata(bench.path("disk.toml")).unwrap().permissions().mode() & 0o777);
}

#[test]
fn the_bytes_depend_on_neither_jobs_nor_place_nor_output() {
    let bench = Bench::new();
    bench.good(&["build", "disk.toml"]);
    let expected = bench.read("disk.img");
    for jobs in ["1", "2", "7"] {
        bench.good(&["build", "disk.toml", "-o", "again.img", "--jobs", jobs]);
        assert!(bench.read("again.img") == expected, "jobs {jobs}");
    }
    let elsewhere = TempDir::new().unwrap();
    let manifest = bench.path("disk.toml");
    let output = bench
        .command(&["build", manifest.to_str().unwrap(), "-o", "-"])
        .current_dir(elsewhere.path())
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    assert!(output.stdout == expected, "the stream is another image");
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    // The paths of a manifest from standard input begin at the current directory.
    let output =
        bench.command(&["build", "-", "-o", "-"]).stdin(fs::File::open(&manifest).unwrap()).output().unwrap();
    assert!(output.stdout == expected, "{}", text(&output.stderr));
    assert!(bench.bad(2, &["build", "-"]).contains("<stdin>:1"));
}

#[test]
fn a_manifest_in_json_is_the_same_disk() {
    let bench = Bench::new();
    let value: Value = toml::from_str(MANIFEST).unwrap();
    bench.write("disk.json", serde_json::to_string(&value).unwrap());
    bench.good(&["build", "disk.toml", "-o", "toml.img"]);
    bench.good(&["build", "disk.json", "-o", "json.img"]);
    assert!(bench.read("toml.img") == bench.read("json.img"));
    // Without a given seed, the seed derives from the description, in any spelling, and not from the name of
    // the file.
    let unseeded = MANIFEST.replace("seed = ", "# seed = ");
    bench.write("a.toml", &unseeded);
    bench.write("b.toml", unseeded.replace("size = \"8MiB\"", "size = 8388608 # the same"));
    let value: Value = toml::from_str(&unseeded).unwrap();
    bench.write("c", serde_json::to_string_pretty(&value).unwrap());
    bench.write("d.toml", unseeded.replace("\"root\"\nfile", "\"Root\"\nfile"));
    for name in ["a.toml", "b.toml", "c", "d.toml"] {
        bench.good(&["build", name, "-o", &format!("{name}.img")]);
    }
    let [a, b, c, d] = ["a.toml.img", "b.toml.img", "c.img", "d.toml.img"].map(|name| bench.read(name));
    assert!(a == b && a == c);
    assert!(a[512..1024] != d[512..1024], "another label, another disk GUID");
    assert!(a != bench.read("toml.img"), "a seed of its own");
}

#[test]
fn the_report_says_what_the_judges_say() {
    let bench = Bench::new();
    let report: Value = serde_json::from_str(&bench.good(&["build", "disk.toml", "--json"])).unwrap();
    let image = bench.path("disk.img");
    let seen: Value = serde_json::from_str(&judge("sfdisk", &["--json", image.to_str().unwrap()])).unwrap();
    let seen = &seen["partitiontable"];
    assert_eq!(report["output"], "disk.img");
    assert_eq!(report["format"], "raw");
    assert_eq!(report["table"], "gpt");
    assert_eq!(report["sector_size"], 512);
    assert_eq!(report["size"], fs::metadata(&image).unwrap().len());
    assert_eq!(report["warnings"], Value::Array(Vec::new()));
    assert_eq!(report["guid"].as_str().unwrap().to_uppercase(), seen["id"].as_str().unwrap());
    let partitions = report["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 3);
    for (number, (ours, theirs)) in partitions.iter().zip(seen["partitions"].as_array().unwrap()).enumerate()
    {
        assert_eq!(ours["number"], number + 1);
        assert_eq!(ours["offset"].as_u64().unwrap(), theirs["start"].as_u64().unwrap() * 512);
        assert_eq!(ours["size"].as_u64().unwrap(), theirs["size"].as_u64().unwrap() * 512);
        assert_eq!(ours["guid"].as_str().unwrap().to_uppercase(), theirs["uuid"].as_str().unwrap());
        assert_eq!(ours["type_guid"].as_str().unwrap().to_uppercase(), theirs["type"].as_str().unwrap());
        assert_eq!(ours["label"].as_str().unwrap(), theirs["name"].as_str().unwrap_or(""));
    }
    // What dumpe2fs counts in the second partition.
    let offset = partitions[1]["offset"].as_u64().unwrap();
    let bytes = bench.read("disk.img");
    bench.write("root.img", &bytes[usize::try_from(offset).unwrap()..]);
    let seen = judge("dumpe2fs", &["-h", bench.path("root.img").to_str().unwrap()]);
    let field = |name: &str| {
        let line = seen.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    };
    let filesystem = &partitions[1]["filesystem"];
    for (ours, theirs) in [
        ("block_size", "Block size"),
        ("blocks", "Block count"),
        ("free_blocks", "Free blocks"),
        ("inodes", "Inode count"),
        ("free_inodes", "Free inodes"),
    ] {
        assert_eq!(filesystem[ours].to_string(), field(theirs), "{ours}");
    }
    let number = |key: &str| filesystem[key].as_u64().unwrap();
    assert_eq!(number("used_blocks") + number("free_blocks"), number("blocks"));
    assert_eq!(number("used_inodes") + number("free_inodes"), number("inodes"));
    assert_eq!(filesystem["uuid"].as_str().unwrap(), field("Filesystem UUID"));
    assert_eq!((filesystem["type"].as_str(), filesystem["label"].as_str()), (Some("ext4"), Some("root")));
    assert_eq!(partitions[0]["filesystem"]["type"], "vfat");
    assert_eq!(partitions[2]["filesystem"]["type"], "swap");
}

#[test]
fn a_dry_run_shows_and_writes_nothing() {
    let bench = Bench::new();
    let table = bench.good(&["build", "disk.toml", "--dry-run"]);
    assert!(table.contains("filesystem") && !table.contains("gpt: primary header"), "{table}");
    assert!(table.lines().count() < 16 && table.lines().all(|line| line.chars().count() <= 100), "{table}");
    let map = bench.good(&["build", "disk.toml", "--dry-run", "--map"]);
    assert!(map.starts_with("image ") && map.contains("gpt: primary header"), "{map}");
    assert!(map.contains("file           esp/EFI/BOOT/BOOTX64.EFI"), "{map}");
    assert_eq!(map, bench.good(&["build", "disk.toml", "--dry-run", "--map", "-o", "no/where.img"]));
    let report: Value =
        serde_json::from_str(&bench.good(&["build", "disk.toml", "--dry-run", "--json"])).unwrap();
    assert_eq!(report["partitions"].as_array().unwrap().len(), 3);
    assert!(report.get("output").is_none());
    assert!(bench.good(&["mkfs", "ext4", "etc", "--dry-run", "--map"]).contains("ext4: superblock"));
    assert_eq!(bench.names("."), ["disk.toml", "esp", "etc"]);
}

#[test]
fn the_suffix_or_a_flag_tells_the_format() {
    let bench = Bench::new();
    let message = bench.bad(2, &["build", "disk.toml", "-o", "disk.qcow9"]);
    assert!(message.contains("disk.qcow9") && message.contains("such as raw (--format)"), "{message}");
    bench.good(&["build", "disk.toml", "-o", "disk.qcow9", "--format", "raw"]);
    bench.good(&["build", "disk.toml", "-o", "DISK.RAW"]);
    assert!(bench.read("disk.qcow9") == bench.read("DISK.RAW"));
    bench.write("raw.toml", MANIFEST.replace("[disk]", "[disk]\nformat = \"raw\""));
    bench.good(&["build", "raw.toml", "-o", "disk"]);
    assert!(bench.read("disk") == bench.read("DISK.RAW"));
}

#[test]
fn standard_output_has_one_owner() {
    let bench = Bench::new();
    let message = bench.bad(2, &["build", "disk.toml", "-o", "-", "--json"]);
    assert!(message.contains("cannot both go to standard output"), "{message}");
    // A full device behind standard output.
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = bench.command(&["build", "disk.toml", "-o", "-"]).stdout(full).output().unwrap();
    let message = refused(1, &output);
    assert!(message.contains("No space left on device"), "{message}");
    // A reader that leaves.
    let mut child = bench
        .command(&["build", "disk.toml", "-o", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(refused(1, &child.wait_with_output().unwrap()).contains("Broken pipe"));
}

/// Runs the program with a standard output that nobody reads.
fn unread(bench: &Bench, arguments: &[&str]) -> std::process::Output {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    bench.command(arguments).stdout(writer).output().unwrap()
}

#[test]
fn a_report_that_nobody_reads_to_its_end_is_no_failure() {
    let bench = Bench::new();
    bench.good(&["build", "disk.toml"]);
    let mut reports = vec![
        vec!["build", "disk.toml", "--dry-run"],
        vec!["build", "disk.toml", "--dry-run", "--map"],
        vec!["build", "disk.toml", "--dry-run", "--json"],
        vec!["build", "disk.toml", "-o", "again.img"],
        vec!["build", "disk.toml", "-o", "again.img", "--json"],
        vec!["mkfs", "ext4", "etc", "-o", "etc.img"],
        vec!["inspect", "disk.img"],
        vec!["inspect", "disk.img", "--json"],
        vec!["schema"],
        vec!["completions", "bash"],
        vec!["man"],
        vec!["--help"],
        vec!["build", "--help"],
        vec!["--version"],
    ];
    for arguments in &reports {
        let output = unread(&bench, arguments);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{arguments:?}");
    }
    assert!(bench.read("again.img") == bench.read("disk.img"));
    // A report that cannot be written is an error.
    reports.retain(|arguments| arguments[0] != "mkfs");
    for arguments in &reports {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = bench.command(arguments).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    }
}

#[test]
fn editors_shells_and_man_pages_get_what_they_need() {
    let bench = Bench::new();
    let schema: Value = serde_json::from_str(&bench.good(&["schema"])).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["additionalProperties"], false);
    assert!(schema["properties"]["partition"].is_object());
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = bench.good(&["completions", shell]);
        assert!(script.contains("dry-run"), "{shell}");
        if matches!(shell, "bash" | "zsh" | "fish") {
            bench.write(shell, script);
            judge(shell, &["-n", bench.path(shell).to_str().unwrap()]);
        }
    }
    let ask = "source $0; COMP_WORDS=(diskwright mkfs ext4 --hash) COMP_CWORD=3; _diskwright diskwright --hash ext4; \
               echo ${COMPREPLY[@]}";
    assert_eq!(judge("bash", &["-c", ask, bench.path("bash").to_str().unwrap()]).trim(), "--hash-seed");
    let all = bench.good(&["man"]);
    assert_eq!(bench.good(&["man", "--dir", "pages/man1"]), "");
    let pages = bench.names("pages/man1");
    assert_eq!(all.matches("\n.TH ").count(), pages.len());
    for page in ["diskwright.1", "diskwright-build.1", "diskwright-mkfs.1", "diskwright-mkfs-ext4.1"] {
        assert!(pages.iter().any(|name| name == page), "{page} in {pages:?}");
        assert!(text(&bench.read(&format!("pages/man1/{page}"))).contains("SYNOPSIS"), "{page}");
    }
    // The programs that show the pages find no fault.
    for page in &pages {
        let path = bench.path(&format!("pages/man1/{page}"));
        let path = path.to_str().unwrap();
        assert_eq!(judge("groff", &["-man", "-ww", "-z", "-Tutf8", path]), "", "{page}");
        assert_eq!(judge("mandoc", &["-T", "lint", "-W", "warning", path]), "", "{page}");
    }
    let shown =
        judge("mandoc", &["-T", "ascii", bench.path("pages/man1/diskwright-build.1").to_str().unwrap()]);
    assert!(shown.contains("diskwright build disk.toml -o - | ssh host 'cat > /dev/vdb'"), "{shown}");
    // An existing folder works too.
    assert_eq!(bench.good(&["man", "--dir", "pages/man1"]), "");
    bench.bad(1, &["man", "--dir", "pages/man1/diskwright.1"]);
}

/// As cp and rsync take them: a file goes into a directory that ends with `/`, and any part of a path may be a pattern.
#[test]
fn sources_go_where_rsync_would_put_them() {
    let bench = Bench::new();
    for path in ["a/one/x.conf", "a/two/y.conf", "a/two/z.txt", "a/file"] {
        fs::create_dir_all(bench.path(path).parent().unwrap()).unwrap();
        bench.write(path, path);
    }
    bench.write(
        "sources.toml",
        "version = 1\n[disk]\ntable = \"none\"\n[[partition]]\nfilesystem = { type = \"ext4\" }\ncontents = [\n\
         { source = \"a/file\", target = \"/etc/\" },\n{ source = \"a/*/*.conf\", target = \"/conf\" },\n]\n",
    );
    let map = bench.good(&["build", "sources.toml", "--dry-run", "--map"]);
    for file in ["a/file", "a/one/x.conf", "a/two/y.conf"] {
        assert!(map.contains(file), "no {file} in\n{map}");
    }
    assert!(!map.contains("z.txt"), "{map}");
    bench.good(&["build", "sources.toml", "-o", "sources.img"]);
    for (path, bytes) in
        [("/etc/file", "a/file"), ("/conf/x.conf", "a/one/x.conf"), ("/conf/y.conf", "a/two/y.conf")]
    {
        let image = bench.path("sources.img");
        let said = judge("debugfs", &["-R", &format!("cat {path}"), image.to_str().unwrap()]);
        // Its own name goes to standard error, which follows.
        assert!(said.starts_with(bytes), "{path}: {said}");
    }
}

/// Paths that a shell or a browser would understand are told from files that are missing.
#[test]
fn paths_of_shells_and_browsers_are_known() {
    let bench = Bench::new();
    let (home, url) = ("`~` is not expanded here", "not behind a URL");
    bench.write("image.toml", "version = 1\n[[partition]]\nimage = \"~/root.img\"\n");
    for (arguments, words) in [
        (&["build", "~/disk.toml", "-o", "x.img"][..], home),
        (&["build", "https://example.org/disk.toml", "-o", "x.img"], url),
        (&["build", "image.toml", "-o", "x.img"], home),
        (&["convert", "https://example.org/disk.qcow2", "x.img"], url),
        (&["convert", "~/disk.qcow2", "x.img"], home),
        (&["mkfs", "ext4", "~/root", "-o", "x.img"], home),
        (&["mkfs", "ext4", "-o", "~/x.img"], home),
    ] {
        let message = bench.bad(2, arguments);
        assert!(message.contains(words) && message.contains("hint: "), "{arguments:?}: {message}");
    }
}

/// The names of other programs for a filesystem lead to ours.
#[test]
fn other_names_of_filesystems_are_known() {
    let bench = Bench::new();
    for (name, words) in [("fat32", "diskwright mkfs vfat --fat 32"), ("msdos", "diskwright mkfs vfat`")] {
        let output = bench.run(&["mkfs", name, "-o", "x.img"]);
        assert_eq!(output.status.code(), Some(2), "{name}");
        let said = text(&output.stderr);
        assert!(said.contains(words), "{name}: {said}");
    }
    for name in ["xfs", "btrfs", "NTFS"] {
        let said = text(&bench.run(&["mkfs", name, "-o", "x.img"]).stderr);
        assert!(said.contains(&format!("{} is not written here", name.to_lowercase())), "{said}");
        assert!(!said.contains("similar"), "{said}");
    }
    for (name, words) in [
        ("x.raw.lz4", "FILE.raw.zst"),
        ("x.img.Z", "FILE.raw.zst"),
        ("x.qed", "qemu-img convert"),
        ("x.xfs", "its own mkfs"),
        ("x.wim", "FILE.vhdx"),
    ] {
        let said = bench.bad(2, &["build", "disk.toml", "-o", name]);
        assert!(said.contains(words) && !said.contains("--format"), "{name}: {said}");
    }
    bench.good(&["mkfs", "zfs", "-o", "o.zfs", "--size", "64MiB"]);
    // This command packs nothing, so its hint names no suffix of a package.
    for name in ["x.raw.zst", "x.gz", "x.tar.gz", "x.lz4"] {
        let said = bench.bad(2, &["convert", "o.zfs", name]);
        assert!(said.contains("hint: write a raw image, FILE.img, and pack that\n"), "{name}: {said}");
    }
    // The flag is the one that this command has.
    let said = bench.bad(2, &["mkfs", "squashfs", "esp", "-o", "x.vhd", "--container-compress", "zlib"]);
    assert!(said.contains("at --container-compress\n"), "{said}");
}

/// A number alone below 64 KiB is asked about; a size with a unit is not.
#[test]
fn numbers_alone_are_asked_about() {
    let bench = Bench::new();
    let told = |size: &str, more: &str| {
        let manifest = format!("version = 1\n[[partition]]\nsize = {size}\n{more}\n");
        bench.write("disk.toml", manifest);
        text(&bench.run(&["build", "disk.toml", "-o", "disk.img"]).stderr)
    };
    for size in ["512", "1024", "2048", "4096", "\"4096\""] {
        let said = told(size, "");
        let number = size.trim_matches('"');
        let words = format!(
            "partition[0].size (disk.toml:3): only {number} bytes: a number alone counts bytes; was {number}MiB"
        );
        assert!(said.contains(&words), "{size}: {said}");
    }
    for size in ["\"4KiB\"", "65536", "\"1MiB\""] {
        assert_eq!(told(size, ""), "", "{size}");
    }
    let said = told("\"auto\"", "filesystem = { type = \"ext4\", free = 512 }");
    assert!(
        said.contains("filesystem.free (disk.toml:4): only 512 bytes") && said.contains("512MiB"),
        "{said}"
    );
    let said = told("\"64MiB\"", "filesystem = { type = \"ext4\", journal = 1024 }");
    assert!(said.contains("was 1024MiB or 1024GiB meant?"), "{said}");
}

/// Characters that are a pattern elsewhere are told of where no file has that name.
#[test]
fn other_patterns_are_told_from_missing_files() {
    let bench = Bench::new();
    for (name, told) in [("ssh_host_?", true), ("etc/[ab]", true), ("none", false)] {
        bench.write(
            "disk.toml",
            format!(
                "version = 1\n[[partition]]\nfilesystem = {{ type = \"ext4\" }}\ncontents = [ {{ source = \"{name}\", target = \
                 \"/x\" }} ]\n"
            ),
        );
        let message = bench.bad(1, &["build", "disk.toml", "-o", "disk.img"]);
        assert_eq!(message.contains("only `*` makes a pattern"), told, "{name}: {message}");
    }
}

/// What a manifest says of its file is left out of a file of another format, and that is told.
#[test]
fn settings_of_another_format_are_told_of() {
    let bench = Bench::new();
    let told = |settings: &str| {
        bench
            .write("disk.toml", format!("version = 1\n[disk]\n{settings}\n[[partition]]\nsize = \"1MiB\"\n"));
        let output = bench.run(&["build", "disk.toml", "-o", "t.qcow2"]);
        assert!(output.status.success());
        text(&output.stderr)
    };
    let said = told("format = \"vpc\"\nsubformat = \"fixed\"");
    assert!(said.contains("the output is qcow2") && said.contains("as vpc"), "{said}");
    for settings in ["format = \"vpc\"", "format = \"qcow2\"\ncompress = \"zlib\"", ""] {
        assert_eq!(told(settings), "", "{settings}");
    }
}
