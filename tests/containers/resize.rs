//! `resize`: larger, in place or anew, and every byte kept.

use std::path::Path;

use diskwright::container::{Format, OpenOptions, Opened, WriteOptions, open};
use diskwright::image::PourOptions;
use diskwright::progress::Progress;
use diskwright::units::{GIB, MIB, TIB};

use crate::create::diskwright;
use crate::hostile::complaint;
use crate::judge::{check, qemu_img, same, virtual_size};
use crate::rows::{ROWS, sectors};
use crate::samples::usual;
use crate::tools::{command, digest, must, names_in, run, scratch};
use crate::written::raw;

fn resize(path: &Path, size: &str) {
    must(diskwright().arg("resize").arg(path).arg(size));
}

/// After it, the disk is that large, holds what it held, is clean, and QEMU writes to its end.
fn grown(path: &Path, format: Format, checks: bool, size: u64, name: &str) {
    let seen = virtual_size(format.qemu_name(), path);
    assert_eq!(seen, sectors(size), "{name}");
    if checks {
        check(format.qemu_name(), path).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let options = OpenOptions { format: Some(format), allow_backing: false };
    same(&usual().image(), &open(path, &options).unwrap().image)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Writes to the last sectors of the disk, and checks it again.
fn written(path: &Path, format: Format, checks: bool, name: &str) {
    let end = virtual_size(format.qemu_name(), path) - 1024;
    let steps = [format!("write -P 7 {end} 1024"), format!("read -P 7 {end} 1024")];
    let mut io = command("qemu-io");
    io.args(["-f", format.qemu_name(), "-c", &steps[0], "-c", &steps[1]]).arg(path);
    let said = must(&mut io);
    assert!(!said.text().contains("failed"), "{name}: {}", said.text());
    if checks {
        check(format.qemu_name(), path).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn every_row_grows() {
    for row in ROWS {
        let folder = scratch();
        let path = folder.path().join(format!("disk.{}", row.format.suffix()));
        row.write(&usual().image(), &path, 1).unwrap();
        for (size, text) in [
            (6 * MIB, "6MiB"),
            (6 * MIB + 512, "+512"),
            (GIB, "1GiB"),
            (100 * GIB, "100GiB"),
            (3 * TIB, "3TiB"),
        ] {
            if size > row.largest {
                continue;
            }
            let name = format!("{}, {text}", row.name);
            resize(&path, text);
            grown(&path, row.format, row.checks, (row.rounds)(size), &name);
            if row.rewritable {
                written(&path, row.format, row.checks, &name);
            }
            row.write(&usual().image(), &path, 1).unwrap();
            resize(&path, &size.to_string());
            grown(&path, row.format, row.checks, (row.rounds)(size), &name);
        }
    }
}

/// Files of QEMU's making: every width of refcounts, versions, extended entries, and growth for which the level 1 table
/// moves and the refcounts need new blocks.
#[test]
fn files_of_qemu_grow() {
    let mut options: Vec<String> =
        (0..=6).map(|order| format!("cluster_size=512,refcount_bits={}", 1 << order)).collect();
    options.extend(
        [
            "compat=0.10",
            "compat=0.10,cluster_size=512",
            "extended_l2=on",
            "cluster_size=2M",
            "cluster_size=4k",
        ]
        .map(str::to_owned),
    );
    for option in options {
        let folder = scratch();
        let path = folder.path().join("disk.qcow2");
        let below = raw(&usual().image(), folder.path());
        for size in [6 * MIB, 7 * MIB + 512, 900 * MIB, 20 * GIB] {
            qemu_img(&[&"convert", &"-f", &"raw", &"-O", &"qcow2", &"-o", &option, &below, &path]);
            let name = format!("{option}, {size}");
            resize(&path, &size.to_string());
            grown(&path, Format::Qcow2, true, size, &name);
            written(&path, Format::Qcow2, true, &name);
            // And once more, from there.
            let more = size + 50 * MIB;
            resize(&path, &more.to_string());
            check("qcow2", &path).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(virtual_size("qcow2", &path), more);
            assert_eq!(open(&path, &OpenOptions::default()).unwrap().image.length().get(), more);
        }
    }
}

/// What is not made larger stays as it is, to the byte.
#[test]
fn refusals_leave_the_file_alone() {
    let folder = scratch();
    let path = |name: &str| folder.path().join(name);
    let below = raw(&usual().image(), folder.path());
    let make = |name: &str| {
        qemu_img(&[&"convert", &"-f", &"raw", &"-O", &"qcow2", &below, &path(name)]);
    };
    make("snapshot.qcow2");
    qemu_img(&[&"snapshot", &"-c", &"one", &path("snapshot.qcow2")]);
    make("bitmap.qcow2");
    qemu_img(&[&"bitmap", &"--add", &path("bitmap.qcow2"), &"map"]);
    make("plain.qcow2");
    ROWS.iter()
        .find(|row| row.name == "qcow2-512")
        .unwrap()
        .write(&usual().image(), &path("512.qcow2"), 1)
        .unwrap();
    std::fs::write(path("device"), b"").unwrap();
    for (name, size, code, says) in [
        ("snapshot.qcow2", "1GiB", 2, "snapshots"),
        ("bitmap.qcow2", "1GiB", 2, "bitmaps"),
        ("plain.qcow2", "1MiB", 2, "not made smaller"),
        ("plain.qcow2", "5000PiB", 1, "at most"),
        ("512.qcow2", "200GiB", 1, "128 GiB"),
        ("disk.raw", "1KiB", 2, "not made smaller"),
        ("plain.qcow2", "10G", 2, "10GiB"),
        ("plain.qcow2", "+0x10", 2, "size"),
        ("no.qcow2", "1GiB", 1, "does not exist"),
    ] {
        let before = path(name).exists().then(|| digest(&path(name)));
        let message = complaint(&run(diskwright().arg("resize").arg(path(name)).arg(size)), code);
        assert!(message.contains(says), "{name}: {message}");
        assert_eq!(path(name).exists().then(|| digest(&path(name))), before, "{name}");
    }
    assert_eq!(names_in(folder.path()).len(), 6);
}

/// Level 2 entries behind the end of the disk, right ones and wrong ones, do not come into it; found by the fuzz target.
#[test]
fn what_lies_behind_the_end_stays_there() {
    let folder = scratch();
    let path = folder.path().join("disk.qcow2");
    let row = ROWS.iter().find(|row| row.name == "qcow2").unwrap();
    // The disk has 81 clusters; its only level 2 table, in the third cluster of the file, has 8192 entries.
    for (entry, code, says) in [
        // The last cluster of the file.
        (1 << 63 | 0x3f_0000_u64, 2, "data behind the end"),
        (0x6c, 1, "reserved bits"),
    ] {
        row.write(&usual().image(), &path, 1).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(4 * MIB).unwrap();
        let before = digest(&path);
        resize(&path, "6MiB");
        assert_ne!(digest(&path), before);
        row.write(&usual().image(), &path, 1).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &entry.to_be_bytes(), 2 * 65_536 + 8 * 90).unwrap();
        file.set_len(4 * MIB).unwrap();
        let before = digest(&path);
        let message = complaint(&run(diskwright().arg("resize").arg(&path).arg("6MiB")), code);
        assert!(message.contains(says), "{message}");
        assert_eq!(digest(&path), before);
    }
}

/// What is written anew keeps the id by which others know it, and the time it was made.
#[test]
fn ids_are_kept() {
    let folder = scratch();
    for row in ROWS {
        let path = folder.path().join("disk");
        let options = WriteOptions { time: 1_500_000_000, ..row.options() };
        let progress = Progress::default();
        let pour = PourOptions::new(1, &progress);
        options.write(&usual().image(), &path, &pour).unwrap();
        let before = row.open(&path).unwrap();
        let details = |opened: &Opened| {
            let kept =
                |name: &str| matches!(name, "uuid" | "created" | "creator" | "subformat" | "adapter type");
            opened.details.iter().filter(|(name, _)| kept(name)).cloned().collect::<Vec<_>>()
        };
        must(diskwright().arg("resize").arg(&path).args(["100MiB", "--format", row.format.name()]));
        let after = row.open(&path).unwrap();
        assert_eq!(after.identity, before.identity, "{}", row.name);
        assert_eq!(details(&after), details(&before), "{}", row.name);
        let has = matches!(row.format, Format::Vpc | Format::Vdi | Format::Vhdx | Format::Vmdk);
        assert_eq!(after.identity.is_some(), has, "{}", row.name);
        assert!(after.identity.is_none_or(|identity| !identity.id.is_nil()), "{}", row.name);
    }
}

/// QEMU locks what it runs on.
#[test]
fn an_image_in_use_is_left_alone() {
    use std::io::{BufRead, BufReader, Write};
    let folder = scratch();
    for (name, format) in [("disk.qcow2", "qcow2"), ("disk.img", "raw")] {
        let path = folder.path().join(name);
        qemu_img(&[&"create", &"-q", &"-f", &format, &path, &"10M"]);
        let mut io = command("qemu-io");
        io.args(["-f", format])
            .arg(&path)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped());
        let mut child = io.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        // Once it answers, the image is open.
        writeln!(input, "length").unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("10 MiB") {
            line.clear();
            assert!(answers.read_line(&mut line).unwrap() > 0, "qemu-io ended");
        }
        let before = digest(&path);
        let message = complaint(&run(diskwright().arg("resize").arg(&path).arg("20MiB")), 2);
        assert!(message.contains("in use"), "{message}");
        assert_eq!(digest(&path), before);
        drop(input);
        child.wait().unwrap();
        resize(&path, "20MiB");
        assert_eq!(virtual_size(format, &path), 20 * MIB);
    }
}
