//! A disk that is written to a block device at once. Loop devices stand for disks; they need root.

use std::path::{Path, PathBuf};

use crate::support::kernel;
use crate::support::program::{diskwright, project};
use crate::support::tools::{Said, command, must, run, scratch};

/// A loop device over a file full of ones.
struct Loop(String);

impl Loop {
    fn new(file: &Path, length: u64, arguments: &[&str]) -> Self {
        let script = format!("head -c {length} /dev/zero | tr '\\0' '\\377' > \"$0\"");
        must(command("sh").args(["-ec", &script]).arg(file));
        let said = must(command("losetup").args(["--find", "--show"]).args(arguments).arg(file));
        Self(said.text().trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = command("losetup").args(["--detach", &self.0]).output();
    }
}

fn build(manifest: &Path, device: &str, arguments: &[&str]) -> Said {
    run(diskwright().arg("build").arg(manifest).args(["-o", device]).args(arguments))
}

/// The manifest of a disk, and the disk as a file of `length`.
fn disk(folder: &Path, length: u64) -> (PathBuf, Vec<u8>) {
    let [manifest, _] = project(folder);
    let text = std::fs::read_to_string(&manifest).unwrap();
    let sized = folder.join("sized.toml");
    std::fs::write(&sized, text.replace("[disk]", &format!("[disk]\nsize = {length}"))).unwrap();
    let out = folder.join("file.img");
    must(diskwright().arg("build").arg(&sized).arg("-o").arg(&out));
    (manifest, std::fs::read(out).unwrap())
}

const LENGTH: u64 = 192 << 20;

#[test]
fn a_device_becomes_the_disk_and_nothing_of_its_past_is_left() {
    kernel::need();
    let folder = scratch();
    let (manifest, expected) = disk(folder.path(), LENGTH);
    let seeded = std::fs::read_to_string(&manifest).unwrap();
    assert!(seeded.contains("seed ="), "ids do not follow from the size");
    let backing = folder.path().join("device");
    let device = Loop::new(&backing, LENGTH, &[]);
    // Without a given size the disk is as long as the device.
    let said = build(&manifest, &device.0, &["--jobs", "3"]);
    assert_eq!(said.code, 0, "{}", said.error());
    must(command("blockdev").args(["--flushbufs", &device.0]));
    assert!(std::fs::read(&device.0).unwrap() == expected);
    assert!(std::fs::read(&backing).unwrap() == expected);
    let text = must(command("sgdisk").args(["-v", &device.0])).text();
    assert!(text.contains("No problems found"), "{text}");
    // What the disk does not use is discarded.
    use std::os::unix::fs::MetadataExt;
    let taken = std::fs::metadata(&backing).unwrap().blocks() * 512;
    assert!(taken < LENGTH / 2, "{taken} bytes are in use");
}

#[test]
fn a_device_that_cannot_discard_becomes_the_same_disk() {
    kernel::need();
    let folder = scratch();
    let (manifest, expected) = disk(folder.path(), LENGTH);
    let backing = folder.path().join("device");
    let device = Loop::new(&backing, LENGTH, &[]);
    // The kernel then refuses every fallocate of the device.
    let build = diskwright();
    let mut strace = command("strace");
    strace.args(["-f", "-e", "inject=fallocate:error=EOPNOTSUPP", "-o"]).arg(folder.path().join("log"));
    strace.arg(build.get_program()).args(build.get_args());
    must(strace.arg("build").arg(&manifest).args(["-o", &device.0]));
    must(command("blockdev").args(["--flushbufs", &device.0]));
    assert!(std::fs::read(&backing).unwrap() == expected);
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains("fallocate"), "the calls were refused");
}

#[test]
fn a_device_in_use_or_too_short_is_left_alone() {
    kernel::need();
    let folder = scratch();
    let (manifest, _) = disk(folder.path(), LENGTH);
    let backing = folder.path().join("device");
    let device = Loop::new(&backing, LENGTH, &["--partscan"]);
    // A mounted device.
    must(command("mke2fs").args(["-q", "-F", "-t", "ext4", &device.0]));
    let place = folder.path().join("mounted");
    std::fs::create_dir(&place).unwrap();
    must(command("mount").arg(&device.0).arg(&place));
    let before = std::fs::read(&backing).unwrap();
    let said = build(&manifest, &device.0, &[]);
    must(command("umount").arg(&place));
    assert!(said.code == 1 && said.error().contains("the device is in use"), "{}", said.error());
    assert!(said.error().contains("unmount"), "{}", said.error());
    // A device with a mounted partition.
    must(command("sgdisk").args(["-Z", &device.0]));
    must(command("sgdisk").args(["-n", "1:2048:40000", &device.0]));
    must(command("partx").args(["--update", &device.0]));
    let part = format!("{}p1", device.0);
    must(command("mke2fs").args(["-q", "-F", "-t", "ext4", &part]));
    must(command("mount").arg(&part).arg(&place));
    let said = build(&manifest, &device.0, &[]);
    must(command("umount").arg(&place));
    assert!(said.code == 1 && said.error().contains("the device is in use"), "{}", said.error());
    // The partition by itself may be written: a filesystem, without a table.
    must(
        diskwright()
            .args(["mkfs", "ext4"])
            .arg(folder.path().join("tree"))
            .args(["--size", "16MiB", "-o", &part]),
    );
    must(command("e2fsck").args(["-fn", &part]));
    // One that is too short, and other formats.
    let now = std::fs::read(&backing).unwrap();
    let large = folder.path().join("large.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&large, text.replace("[disk]", "[disk]\nsize = \"1GiB\"")).unwrap();
    for (manifest, arguments, words) in [
        (&large, &[][..], &["the device is shorter than the disk", "1 GiB"][..]),
        (&manifest, &["--format", "qcow2"], &["a device holds only a raw disk"]),
        (&manifest, &["--package", "zstd"], &["a device holds only a raw disk"]),
        (&manifest, &["-o", "other.img"], &["a device does not appear together"]),
        (&manifest, &["--sha256"], &["a device does not appear together"]),
    ] {
        let said = build(manifest, &device.0, arguments);
        assert_ne!(said.code, 0, "{arguments:?}");
        for word in words {
            assert!(said.error().contains(word), "no `{word}` in\n{}", said.error());
        }
    }
    assert!(std::fs::read(&backing).unwrap() == now && now != before);
}

#[test]
fn sectors_of_the_device_are_those_of_the_disk() {
    kernel::need();
    let folder = scratch();
    let (manifest, _) = disk(folder.path(), LENGTH);
    let device = Loop::new(&folder.path().join("device"), LENGTH, &["--sector-size", "4096"]);
    let said = build(&manifest, &device.0, &[]);
    assert!(said.code == 2 && said.error().contains("sectors of another size"), "{}", said.error());
    let text = std::fs::read_to_string(&manifest).unwrap();
    let large = folder.path().join("large.toml");
    std::fs::write(&large, text.replace("[disk]", "[disk]\nsector_size = 4096")).unwrap();
    let said = build(&large, &device.0, &[]);
    assert_eq!(said.code, 0, "{}", said.error());
    let text = must(command("sgdisk").args(["-v", &device.0])).text();
    assert!(text.contains("No problems found"), "{text}");
}

/// What fails in the middle leaves no disk that somebody could take for a whole one.
#[test]
fn half_a_disk_is_no_disk() {
    kernel::need();
    let folder = scratch();
    let (manifest, _) = disk(folder.path(), LENGTH);
    let backing = folder.path().join("device");
    let device = Loop::new(&backing, LENGTH, &[]);
    must(command("sgdisk").args(["-n", "1:2048:40000", &device.0]));
    let build = diskwright();
    let mut strace = command("strace");
    strace.args(["-f", "-e", "inject=fsync:error=EIO", "-o", "/dev/null"]);
    strace.arg(build.get_program()).args(build.get_args());
    let said = run(strace.arg("build").arg(&manifest).args(["-o", &device.0]));
    assert!(said.code == 1 && said.error().contains("first and last MiB are zero"), "{}", said.error());
    must(command("blockdev").args(["--flushbufs", &device.0]));
    let bytes = std::fs::read(&backing).unwrap();
    let mib = 1 << 20;
    assert!(bytes[..mib].iter().all(|byte| *byte == 0));
    assert!(bytes[bytes.len() - mib..].iter().all(|byte| *byte == 0));
}

/// `convert` writes to a device what it writes to a file.
#[test]
fn a_disk_is_converted_onto_a_device() {
    kernel::need();
    let folder = scratch();
    let (_, expected) = disk(folder.path(), LENGTH);
    let at = |name: &str| folder.path().join(name);
    must(command("qemu-img").args(["convert", "-O", "qcow2"]).arg(at("file.img")).arg(at("disk.qcow2")));
    // A raw file without holes: its zeros are no data on the device either.
    std::fs::write(at("solid.img"), &expected).unwrap();
    for (source, name) in [("disk.qcow2", "one"), ("solid.img", "two")] {
        let device = Loop::new(&at(name), LENGTH, &[]);
        let said = run(diskwright().arg("convert").arg(at(source)).arg(&device.0));
        assert_eq!((said.code, said.error().as_str()), (0, ""), "{source}");
        must(command("blockdev").args(["--flushbufs", &device.0]));
        assert!(std::fs::read(at(name)).unwrap() == expected, "{source}");
        use std::os::unix::fs::MetadataExt;
        let taken = std::fs::metadata(at(name)).unwrap().blocks() * 512;
        assert!(taken < LENGTH / 2, "{source}: {taken} bytes are in use");
    }
    // From standard input, and without a discard: the same bytes.
    let device = Loop::new(&at("three"), LENGTH, &[]);
    let convert = diskwright();
    let script = "exec strace -f -e inject=fallocate:error=EOPNOTSUPP -o /dev/null \"$@\" < \"$0\"";
    let mut piped = command("sh");
    piped.args(["-ec", script]).arg(at("disk.qcow2")).arg(convert.get_program()).args(convert.get_args());
    must(piped.args(["convert", "-", &device.0]));
    must(command("blockdev").args(["--flushbufs", &device.0]));
    assert!(std::fs::read(at("three")).unwrap() == expected);
    // A longer device keeps nothing of its past, and the place of the backup is told.
    let device = Loop::new(&at("four"), LENGTH + (8 << 20), &[]);
    let said = run(diskwright().arg("convert").arg(at("disk.qcow2")).arg(&device.0));
    assert!(said.code == 0 && said.error().contains("sgdisk -e moves it"), "{}", said.error());
    must(command("blockdev").args(["--flushbufs", &device.0]));
    let found = std::fs::read(at("four")).unwrap();
    assert!(found[..expected.len()] == expected && found[expected.len()..].iter().all(|byte| *byte == 0));
    // A GPT that has no backup misses none.
    let mut disk = expected;
    let last = disk.len() - 512;
    disk[last..].fill(0);
    std::fs::write(at("single.img"), &disk).unwrap();
    let device = Loop::new(&at("five"), LENGTH + (8 << 20), &[]);
    let said = run(diskwright().arg("convert").arg(at("single.img")).arg(&device.0));
    assert_eq!((said.code, said.error().as_str()), (0, ""));
}

#[test]
fn a_device_that_cannot_be_the_disk_is_left_alone_by_convert() {
    kernel::need();
    let folder = scratch();
    let at = |name: &str| folder.path().join(name);
    let (_, disk) = disk(folder.path(), LENGTH);
    let device = Loop::new(&at("device"), LENGTH, &["--partscan"]);
    std::fs::write(at("large.img"), []).unwrap();
    must(command("truncate").args(["-s", "1G"]).arg(at("large.img")));
    let whole = Loop::new(&at("sectors"), LENGTH, &["--sector-size", "4096"]);
    let before = std::fs::read(at("device")).unwrap();
    for (source, target, arguments, words) in [
        ("large.img", &device.0, &[][..], &["the device is shorter than the disk", "1 GiB"][..]),
        ("file.img", &device.0, &["--format", "qcow2"], &["a device holds only a raw disk", "qcow2"]),
        ("file.img", &whole.0, &[], &["sectors of another size", "expected: 4096"]),
        (device.0.as_str(), &device.0, &[], &["the destination is the source"]),
    ] {
        let said = run(diskwright().arg("convert").arg(at(source)).arg(target).args(arguments));
        assert_ne!(said.code, 0, "{source} {arguments:?}");
        for word in words {
            assert!(said.error().contains(word), "no `{word}` in\n{}", said.error());
        }
    }
    let said = run(diskwright().args(["create", "--format", "raw", "--size", "1MiB", &device.0]));
    assert!(said.code != 0 && said.error().contains("the output is not a file"), "{}", said.error());
    assert!(std::fs::read(at("device")).unwrap() == before);
    // A partition of the device is no source for it, and one that is mounted keeps it.
    must(
        command("dd")
            .args(["bs=1M", "conv=notrunc", "status=none"])
            .arg(format!("if={}", at("file.img").display()))
            .arg(format!("of={}", device.0)),
    );
    must(command("partx").args(["--update", &device.0]));
    let part = format!("{}p1", device.0);
    let said = run(diskwright().args(["convert", "--from", "raw", &part, &device.0]));
    assert!(said.code != 0 && said.error().contains("the destination is the source"), "{}", said.error());
    must(command("mke2fs").args(["-q", "-F", "-t", "ext4", &part]));
    let place = at("mounted");
    std::fs::create_dir(&place).unwrap();
    must(command("mount").arg(&part).arg(&place));
    let said = run(diskwright().arg("convert").arg(at("file.img")).arg(&device.0));
    must(command("umount").arg(&place));
    assert!(said.code == 1 && said.error().contains("the device is in use"), "{}", said.error());
    assert_eq!(disk.len(), usize::try_from(LENGTH).unwrap());
}

/// Nothing has a place beside a device, and one that cannot be written keeps what it has.
#[test]
fn a_device_has_nothing_beside_it_and_one_that_is_read_only_is_left_alone() {
    kernel::need();
    let folder = scratch();
    let (manifest, _) = disk(folder.path(), LENGTH);
    let backing = folder.path().join("device");
    let device = Loop::new(&backing, LENGTH, &[]);
    let before = std::fs::read(&backing).unwrap();
    let keys = folder.path().join("keys.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let output = format!("[[output]]\npath = \"{}\"\nsplit = \"64MiB\"\n", device.0);
    std::fs::write(&keys, format!("{text}\n{output}")).unwrap();
    let of_keys = run(diskwright().arg("build").arg(&keys));
    assert!(of_keys.error().contains("keys.toml:"), "{}", of_keys.error());
    let flags = ["--split=64MiB", "--bmap", "--sha256"];
    for said in flags.iter().map(|flag| build(&manifest, &device.0, &[flag])).chain([of_keys]) {
        assert!(
            said.code == 2 && said.error().contains("a device does not appear together"),
            "{}",
            said.error()
        );
    }
    assert!(!Path::new(&format!("{}.000", device.0)).exists());
    must(command("blockdev").args(["--setro", &device.0]));
    let said = build(&manifest, &device.0, &[]);
    must(command("blockdev").args(["--setrw", &device.0]));
    assert!(said.code == 1 && said.error().contains("the device is read-only"), "{}", said.error());
    assert!(!said.error().contains("what was on it is gone"), "{}", said.error());
    assert!(std::fs::read(&backing).unwrap() == before);
}
