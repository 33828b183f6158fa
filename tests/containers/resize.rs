//! `resize`: larger, in place or anew, and every byte kept.

use std::path::Path;

use diskwright::container::{Format, Identity, OpenOptions, Opened, open};
use diskwright::pour::PourOptions;
use diskwright::progress::Progress;
use diskwright::units::{GIB, MIB, TIB};

use crate::create::diskwright;
use crate::hostile::complaint;
use crate::judge::{check, qemu_img, same, virtual_size};
use crate::rows::{IDENTITY, ROWS, sectors};
use crate::samples::usual;
use crate::tools::{command, digest, must, names_in, run, scratch};
use crate::written::raw;

fn resize(path: &Path, size: &str) {
    must(diskwright().arg("resize").arg(path).arg(size));
}

/// Afterwards the disk has that size and its old contents, has no fault, and QEMU can write to its end.
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

/// Files by QEMU: every width of refcounts, versions, extended entries, and growth for which the level 1
/// table moves and the refcounts need new blocks.
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

/// A refused file stays unchanged, to the byte.
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
        ("512.qcow2", "200GiB", 1, "128GiB"),
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

/// Level 2 entries past the end of the disk, valid or not, do not become part of it; found by the fuzz
/// target.
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

/// A file that is written anew keeps its id and its time.
#[test]
fn ids_are_kept() {
    let folder = scratch();
    for row in ROWS {
        let path = folder.path().join("disk");
        let identity = Identity { time: 1_500_000_000, ..IDENTITY };
        let progress = Progress::default();
        let pour = PourOptions::new(1, &progress);
        row.container().write(&usual().image(), &identity, &path, &pour).unwrap();
        let before = row.open(&path).unwrap();
        let details = |opened: &Opened| {
            let kept =
                |name: &str| matches!(name, "uuid" | "created" | "creator" | "subformat" | "adapter type");
            opened.details.iter().filter(|(name, _)| kept(name)).cloned().collect::<Vec<_>>()
        };
        must(diskwright().arg("resize").arg(&path).args(["100MiB", "--format", row.format.name()]));
        let after = row.open(&path).unwrap();
        assert_eq!((after.id, after.time), (before.id, before.time), "{}", row.name);
        assert_eq!(details(&after), details(&before), "{}", row.name);
        let has = matches!(row.format, Format::Vhd | Format::Vdi | Format::Vhdx | Format::Vmdk);
        assert_eq!(after.id.is_some(), has, "{}", row.name);
    }
}

/// What a file says of its kind stays when it is written anew: of qcow2 for old programs, with its clusters and compression, and
/// of a VMDK the hardware. What is not written here is told.
#[test]
fn the_kind_of_file_is_kept() {
    let folder = scratch();
    let at = |name: &str| folder.path().join(name);
    must(command("truncate").args(["-s", "30M"]).arg(at("raw")));
    must(command("mkfs.ext4").arg("-qF").arg(at("raw")));
    for (options, says) in [
        (&["-o", "compat=0.10"][..], &["compat: 0.10"][..]),
        (&["-o", "cluster_size=2M"], &["cluster_size: 2097152", "compat: 1.1"]),
        (&["-c", "-o", "compression_type=zstd"], &["compression type: zstd"]),
        (&["-c", "-o", "cluster_size=4096"], &["cluster_size: 4096", "compression type: zlib"]),
    ] {
        let path = at("disk.qcow2");
        must(command("qemu-img").args(["convert", "-O", "qcow2"]).args(options).args([&at("raw"), &path]));
        let said = must(diskwright().arg("resize").arg(&path).arg("100MiB"));
        assert!(said.text().contains("ext4: 30MiB to 100MiB"), "{}", said.text());
        assert_eq!(said.error(), "", "{options:?}");
        let info = must(command("qemu-img").arg("info").arg(&path)).text();
        for words in says {
            assert!(info.contains(words), "{options:?}: no `{words}` in\n{info}");
        }
        // 30 MiB of ext4 without files has some 4 MiB of journal, and next to nothing that is no zero.
        let is_small = std::fs::metadata(&path).unwrap().len() < 1 << 20;
        assert_eq!(is_small, options[0] == "-c", "{options:?}");
    }
    let path = at("extended.qcow2");
    let create = ["convert", "-O", "qcow2", "-o", "extended_l2=on"];
    must(command("qemu-img").args(create).args([&at("raw"), &path]));
    let said = must(diskwright().arg("resize").arg(&path).arg("100MiB"));
    assert!(said.error().contains("without subclusters (extended_l2)"), "{}", said.error());
    let path = at("disk.vmdk");
    must(diskwright().arg("convert").args([&at("raw"), &path]).args(["--hardware-version", "14"]));
    must(diskwright().arg("resize").arg(&path).arg("100MiB"));
    let bytes = std::fs::read(&path).unwrap();
    let line = b"ddb.virtualHWVersion = \"14\"";
    assert!(bytes.windows(line.len()).any(|window| window == line));
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

/// An overlay by QEMU on `base.raw` beside it.
fn overlay_of_qemu(path: &Path, options: &str, size: &str) {
    let mut create = command("qemu-img");
    create.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base.raw", "-o", options]);
    must(create.arg(path).arg(size));
}

/// Data of the backing file past the end of a shorter overlay does not appear, and the backing file may be
/// missing.
#[test]
fn an_overlay_takes_nothing_more_from_below() {
    let folder = scratch();
    let path = |name: &str| folder.path().join(name);
    qemu_img(&[&"create", &"-q", &"-f", &"raw", &path("base.raw"), &"80M"]);
    must(command("qemu-io").args(["-f", "raw", "-c", "write -P 0x41 0 80M"]).arg(path("base.raw")));
    // Existing and missing tables, old and new; clusters with few refcounts in a block; an end inside a
    // cluster of the overlay itself.
    for (options, size, larger) in [
        ("compat=1.1", "1M", "2M"),
        ("compat=1.1", "64M", "5G"),
        ("extended_l2=on", "1M", "80M"),
        ("extended_l2=on,cluster_size=2M", "2M", "80M"),
        ("cluster_size=4096", "3M", "90M"),
        ("cluster_size=512", "100K", "20M"),
        ("cluster_size=512,refcount_bits=64", "1M", "9M"),
        ("compat=1.1", "1000K", "3M"),
    ] {
        for writes in [&[][..], &["write -P 7 0 999k"], &["write -z 200k 100k", "write -P 3 990k 10k"]] {
            let (ours, theirs) = (path("ours.qcow2"), path("theirs.qcow2"));
            let name = format!("{options}, {size} to {larger}, {writes:?}");
            for overlay in [&ours, &theirs] {
                overlay_of_qemu(overlay, options, size);
                for write in writes.iter().filter(|_| size != "100K") {
                    must(command("qemu-io").args(["-c", write]).arg(overlay));
                }
            }
            std::fs::rename(path("base.raw"), path("hidden")).unwrap();
            let said = run(diskwright().arg("resize").arg(&ours).arg(format!("{larger}iB")));
            std::fs::rename(path("hidden"), path("base.raw")).unwrap();
            if size == "1000K" && writes.is_empty() {
                let message = complaint(&said, 2);
                assert!(message.contains("ends within a cluster"), "{name}: {message}");
                std::fs::remove_file(&ours).unwrap();
                continue;
            }
            assert_eq!(said.code, 0, "{name}: {}", said.error());
            check("qcow2", &ours).unwrap_or_else(|error| panic!("{name}: {error}"));
            qemu_img(&[&"resize", &"-q", &theirs, &larger]);
            qemu_img(&[&"compare", &theirs, &ours]);
            // And once more, from there.
            resize(&ours, "+7MiB");
            check("qcow2", &ours).unwrap_or_else(|error| panic!("{name}: {error}"));
            qemu_img(&[&"resize", &"-q", &theirs, &"+7M"]);
            qemu_img(&[&"compare", &theirs, &ours]);
            let options = OpenOptions { format: None, allow_backing: true };
            let size = open(&ours, &options).unwrap().image.length().get();
            assert_eq!(size, virtual_size("qcow2", &theirs), "{name}");
        }
    }
    overlay_of_qemu(&path("old.qcow2"), "compat=0.10", "1M");
    let message = complaint(&run(diskwright().arg("resize").arg(path("old.qcow2")).arg("2MiB")), 2);
    assert!(message.contains("version 2"), "{message}");
}

/// A file that is written anew keeps its mode, and leaves no other name of the old disk behind.
#[test]
fn mode_and_owner_are_kept_and_other_names_refused() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let folder = scratch();
    for row in ROWS {
        let path = folder.path().join(format!("disk.{}", row.format.suffix()));
        row.write(&usual().image(), &path, 1).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        // Only the super-user can give files away.
        let _ = chown(&path, Some(65_534), Some(65_534));
        let before = std::fs::metadata(&path).unwrap();
        must(diskwright().arg("resize").arg(&path).args(["100MiB", "--format", row.format.name()]));
        let after = std::fs::metadata(&path).unwrap();
        assert_eq!(
            (after.mode(), after.uid(), after.gid()),
            (before.mode(), before.uid(), before.gid()),
            "{}",
            row.name
        );
        let other = folder.path().join("other");
        std::fs::hard_link(&path, &other).unwrap();
        let before = digest(&path);
        let said = run(diskwright().arg("resize").arg(&path).args(["+1MiB", "--format", row.format.name()]));
        if matches!(row.format, Format::Raw | Format::Qcow2) {
            assert_eq!(said.code, 0, "{}", said.error());
            assert_eq!(digest(&path), digest(&other));
        } else {
            assert!(complaint(&said, 2).contains("other names"), "{}", said.error());
            assert_eq!(digest(&path), before);
        }
        std::fs::remove_file(&other).unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
