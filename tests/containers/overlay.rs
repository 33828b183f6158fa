//! Backing files: read, refused, looped, recorded.

use std::path::Path;

use diskwright::container::{OpenOptions, open};
use diskwright::units::{KIB, MIB};

use crate::create::diskwright;
use crate::hostile::complaint;
use crate::judge::{check, compare, info, qemu_img, same};
use crate::samples::{Fill, Sample};
use crate::tools::{command, must, names_in, run, scratch};
use crate::written::raw;

fn base() -> Sample {
    let parts = [(0, 300_000, Fill::Text), (MIB, MIB, Fill::Noise), (3 * MIB - 512, 512, Fill::Text)];
    Sample::new("base", 3 * MIB, &parts)
}

/// What QEMU sees of an image with all that lies below it, as a raw file.
fn flattened(path: &Path, to: &Path) {
    qemu_img(&[&"convert", &"-f", &"qcow2", &"-O", &"raw", &path, &to]);
}

/// Our reader sees what QEMU sees of `path`.
fn agrees(path: &Path) {
    let folder = scratch();
    let flat = folder.path().join("flat.raw");
    flattened(path, &flat);
    let options = OpenOptions { format: None, allow_backing: true };
    let expected = open(&flat, &OpenOptions::default()).unwrap();
    let found = open(path, &options).unwrap();
    same(&expected.image, &found.image).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let target = folder.path().join("ours.qcow2");
    must(diskwright().arg("convert").args([path, &target]).arg("--allow-backing"));
    check("qcow2", &target).unwrap();
    compare(&flat, "qcow2", &target).unwrap();
}

/// Chains by QEMU, with every kind of cluster in the overlay: data, zeros, discarded, missing. The overlay is
/// as long as its backing file, shorter, and longer.
#[test]
fn chains_of_qemu_read_as_qemu_reads_them() {
    for options in ["compat=1.1", "compat=0.10", "extended_l2=on", "cluster_size=512", "cluster_size=2M"] {
        for size in ["3M", "2500K", "5M"] {
            let folder = scratch();
            let path = |name: &str| folder.path().join(name);
            let below = raw(&base().image(), folder.path());
            qemu_img(&[&"convert", &"-f", &"raw", &"-O", &"qcow2", &below, &path("0.qcow2")]);
            for (lower, upper, format) in [("disk.raw", "1.qcow2", "raw"), ("1.qcow2", "2.qcow2", "qcow2")] {
                let arguments: [&dyn AsRef<std::ffi::OsStr>; 11] = [
                    &"create",
                    &"-q",
                    &"-f",
                    &"qcow2",
                    &"-F",
                    &format,
                    &"-b",
                    &lower,
                    &"-o",
                    &options,
                    &path(upper),
                ];
                must(command("qemu-img").args(arguments.map(AsRef::as_ref)).arg(size));
                let write = format!("write -P {} 100k 200k", upper.len());
                let mut io = command("qemu-io");
                io.args(["-c", &write, "-c", "write -z 400k 100k", "-c", "write -z 1100k 64k"]);
                io.args(["-c", "discard 1300k 128k", "-c", "write -P 9 2040k 3k"]);
                if options != "compat=0.10" {
                    io.args(["-c", "write -z -u 1500k 256k", "-c", "write -P 1 1501k 1k"]);
                }
                must(io.arg(path(upper)));
                check("qcow2", &path(upper)).unwrap();
                agrees(&path(upper));
            }
            // Compressed clusters over a backing file too.
            let convert: [&dyn AsRef<std::ffi::OsStr>; 11] = [
                &"convert",
                &"-c",
                &"-f",
                &"qcow2",
                &"-O",
                &"qcow2",
                &"-B",
                &"1.qcow2",
                &"-F",
                &"qcow2",
                &path("2.qcow2"),
            ];
            must(
                command("qemu-img")
                    .current_dir(folder.path())
                    .args(convert.map(AsRef::as_ref))
                    .arg("3.qcow2"),
            );
            agrees(&path("3.qcow2"));
        }
    }
}

/// Internal snapshots share clusters with the current disk, which is what is read.
#[test]
fn snapshots_of_qemu_do_not_matter() {
    let folder = scratch();
    let path = folder.path().join("disk.qcow2");
    let below = raw(&base().image(), folder.path());
    qemu_img(&[&"convert", &"-f", &"raw", &"-O", &"qcow2", &below, &path]);
    for number in 0..5_u8 {
        qemu_img(&[&"snapshot", &"-c", &format!("snapshot {number}"), &path]);
        must(command("qemu-io").args(["-c", &format!("write -P {number} 1M 300k")]).arg(&path));
    }
    agrees(&path);
    let said = must(diskwright().arg("inspect").arg(&path));
    assert!(said.text().contains("snapshots      5\n"), "{}", said.text());
}

/// `create -b`: size and format recorded as qemu-img records them, names as they were given, and QEMU writes to it.
#[test]
fn overlays_are_those_of_qemu() {
    let folder = scratch();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    let below = raw(&base().image(), folder.path());
    qemu_img(&[&"convert", &"-f", &"raw", &"-O", &"qcow2", &below, &folder.path().join("base.qcow2")]);
    let absolute = below.to_str().unwrap().to_owned();
    for (backing, format, overlay, size) in [
        ("disk.raw", "raw", "o.qcow2", None),
        ("base.qcow2", "qcow2", "o.qcow2", None),
        ("../base.qcow2", "qcow2", "sub/o.qcow2", None),
        (absolute.as_str(), "raw", "sub/o.qcow2", Some("7MiB")),
        ("./base.qcow2", "qcow2", "o.qcow2", Some("1MiB")),
    ] {
        for arguments in [&[][..], &["--cluster-size", "4KiB"]] {
            let ours = folder.path().join(overlay);
            let mut create = diskwright();
            create.arg("create").arg(&ours).args(["-b", backing, "-F", format]).args(arguments);
            must(create.args(size.map(|size| ["--size", size]).into_iter().flatten()));
            let theirs = folder.path().join(overlay).with_extension("theirs");
            let mut create = command("qemu-img");
            create.args(["create", "-q", "-f", "qcow2", "-b", backing, "-F", format]).arg(&theirs);
            must(create.args(size.map(|size| size.trim_end_matches("iB"))));
            let (ours_info, theirs_info) = (info("qcow2", &ours), info("qcow2", &theirs));
            for key in
                ["virtual-size", "backing-filename", "backing-filename-format", "full-backing-filename"]
            {
                assert_eq!(ours_info[key], theirs_info[key], "{key} of {overlay} over {backing}");
            }
            check("qcow2", &ours).unwrap();
            agrees(&ours);
            for step in ["write -P 3 0 5k", "write -P 4 900k 80k", "write -z 300k 64k"] {
                must(command("qemu-io").args(["-f", "qcow2", "-c", step]).arg(&ours));
                must(command("qemu-io").args(["-f", "qcow2", "-c", step]).arg(&theirs));
            }
            check("qcow2", &ours).unwrap();
            agrees(&ours);
            qemu_img(&[&"compare", &"-f", &"qcow2", &"-F", &"qcow2", &ours, &theirs]);
            // The backing file is unchanged.
            same(&base().image(), &open(&below, &OpenOptions::default()).unwrap().image).unwrap();
        }
    }
}

#[test]
fn a_backing_file_is_opened_only_where_that_is_allowed() {
    let folder = scratch();
    let below = raw(&base().image(), folder.path());
    let overlay = folder.path().join("o.qcow2");
    must(diskwright().arg("create").arg(&overlay).args(["-b", "disk.raw", "-F", "raw"]));
    let target = folder.path().join("out.img");
    let message = complaint(&run(diskwright().arg("convert").args([&overlay, &target])), 2);
    assert!(message.contains("--allow-backing") && message.contains("disk.raw"), "{message}");
    // A secret that an image names is not even opened: these commands work without it.
    std::fs::rename(&below, folder.path().join("gone")).unwrap();
    let said = must(diskwright().arg("inspect").arg(&overlay));
    assert!(said.text().contains("--allow-backing") && said.text().contains("disk.raw"), "{}", said.text());
    must(diskwright().arg("resize").arg(&overlay).arg("4MiB"));
    must(
        diskwright().arg("create").arg(folder.path().join("oo.qcow2")).args(["-b", "o.qcow2", "-F", "qcow2"]),
    );
    // With permission, a missing one is an error that names both.
    let message =
        complaint(&run(diskwright().arg("convert").args([&overlay, &target]).arg("--allow-backing")), 1);
    assert!(message.contains("disk.raw") && message.contains("o.qcow2"), "{message}");
    assert!(!target.exists());
}

/// Loops, and files that cannot be a backing file.
#[test]
fn strange_backing_files() {
    let folder = scratch();
    let path = |name: &str| folder.path().join(name);
    let overlay = |name: &str, backing: &str, format: &str| {
        let arguments = ["create", "-q", "-u", "-f", "qcow2", "-b", backing, "-F", format];
        must(command("qemu-img").args(arguments).arg(path(name)).arg("1M"));
    };
    overlay("self", "self", "qcow2");
    overlay("a", "b", "qcow2");
    overlay("b", "a", "qcow2");
    std::os::unix::fs::symlink("link", path("real")).ok();
    overlay("linked", "link", "qcow2");
    std::os::unix::fs::symlink("linked", path("link")).unwrap();
    overlay("hard", "hard2", "qcow2");
    std::fs::hard_link(path("hard"), path("hard2")).unwrap();
    for number in 0..66 {
        overlay(&format!("chain{number}"), &format!("chain{}", number + 1), "qcow2");
    }
    overlay("protocol", "nbd://localhost/x", "raw");
    overlay("json", "json:{\"driver\":\"null-co\"}", "raw");
    overlay("format", "self", "bochs");
    overlay("directory", ".", "raw");
    must(command("mkfifo").arg(path("fifo")));
    overlay("pipe", "fifo", "raw");
    overlay("device", "/dev/zero", "raw");
    for (name, says) in [
        ("self", "own backing file"),
        ("a", "own backing file"),
        ("linked", "own backing file"),
        ("hard", "own backing file"),
        ("chain0", "at most 64"),
        ("protocol", "protocol"),
        ("json", "protocol"),
        ("format", "unknown format"),
        ("directory", "a file or a block device"),
        ("pipe", "a file or a block device"),
        ("device", "a file or a block device"),
    ] {
        for command in ["inspect", "convert"] {
            let mut program = diskwright();
            program.arg(command).arg(path(name)).arg("--allow-backing");
            if command == "convert" {
                program.arg(path("out.img"));
            }
            let message = complaint(&run(&mut program), 1);
            assert!(
                message.contains(says) && message.contains(folder.path().to_str().unwrap()),
                "{name}: {message}"
            );
        }
    }
    assert!(!path("out.img").exists());
}

/// `file:` before a name is QEMU's way to say that it is a file; a name with a colon is refused with the way out.
#[test]
fn names_that_qemu_reads_otherwise() {
    let folder = scratch();
    let path = |name: &str| folder.path().join(name);
    raw(&base().image(), folder.path());
    std::fs::rename(path("disk.raw"), path("a:b.raw")).unwrap();
    must(
        command("qemu-img")
            .args([
                "create",
                "-q",
                "-f",
                "qcow2",
                "-F",
                "raw",
                "-b",
                &format!("file:{}", path("a:b.raw").display()),
            ])
            .arg(path("o")),
    );
    agrees(&path("o"));
    let refused = run(diskwright().arg("create").arg(path("p.qcow2")).args(["-b", "a:b.raw", "-F", "raw"]));
    assert!(complaint(&refused, 2).contains("protocol"), "{}", refused.error());
    must(diskwright().arg("create").arg(path("p.qcow2")).args(["-b", "./a:b.raw", "-F", "raw"]));
    agrees(&path("p.qcow2"));
    let long = "x".repeat(1024);
    std::fs::write(path("long"), b"").unwrap();
    let refused = run(diskwright().arg("create").arg(path("q.qcow2")).args([
        "-b",
        &format!("./{}", "./".repeat(600)),
        "-F",
        "raw",
    ]));
    complaint(&refused, 1);
    let refused = run(diskwright().arg("create").arg(path("q.qcow2")).args(["-b", &long, "-F", "raw"]));
    complaint(&refused, 1);
    let name = format!("{}long", "./".repeat(510));
    let refused = run(diskwright().arg("create").arg(path("q.qcow2")).args(["-b", &name, "-F", "raw"]));
    assert!(complaint(&refused, 2).contains("1023"), "{}", refused.error());
    assert!(!names_in(folder.path()).iter().any(|name| name == "q.qcow2"));
}

/// An overlay of parts, in a disk that is cut inside a cluster, over a longer one.
#[test]
fn parts_past_the_end_do_not_matter() {
    let folder = scratch();
    let below = raw(&base().image(), folder.path());
    let path = folder.path().join("o.qcow2");
    let options = ["create", "-q", "-f", "qcow2", "-o", "extended_l2=on,cluster_size=2M", "-F", "raw", "-b"];
    must(command("qemu-img").args(options).arg(&below).arg(&path).arg("2100K"));
    must(command("qemu-io").args(["-c", "write -z 2060k 40k", "-c", "write -P 5 0 4k"]).arg(&path));
    agrees(&path);
    assert_eq!(
        open(&path, &OpenOptions { format: None, allow_backing: true }).unwrap().image.length().get(),
        2100 * KIB
    );
}
