//! Sources that are not files: block devices, standard input, pipes.

use std::path::Path;
use std::process::Stdio;

use diskwright::units::MIB;

use crate::create::diskwright;
use crate::hostile::complaint;
use crate::judge::{check, compare};
use crate::rows::ROWS;
use crate::samples::{Sample, usual};
use crate::support::kernel;
use crate::tools::{command, must, names_in, run, scratch, wait};
use crate::written::raw;

/// A loop device over a file; needs root.
struct Loop(String);

impl Loop {
    fn new(file: &Path) -> Self {
        let said = must(command("losetup").args(["--find", "--show", "--read-only"]).arg(file));
        Self(said.text().trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = command("losetup").args(["--detach", &self.0]).output();
    }
}

#[test]
fn a_block_device_is_a_raw_disk() {
    kernel::need();
    let folder = scratch();
    let file = raw(&usual().image(), folder.path());
    let device = Loop::new(&file);
    for row in ROWS {
        let target = folder.path().join("disk.out");
        must(diskwright().arg("convert").arg(&device.0).arg(&target).args(row.arguments()));
        compare(&file, row.format.qemu_name(), &target)
            .unwrap_or_else(|error| panic!("{}: {error}", row.name));
        // The same bytes as from the file.
        let other = folder.path().join("disk.other");
        must(diskwright().arg("convert").arg(&file).arg(&other).args(row.arguments()));
        assert!(std::fs::read(&target).unwrap() == std::fs::read(&other).unwrap(), "{}", row.name);
    }
    let said = must(diskwright().args(["inspect", "--json"]).arg(&device.0));
    let facts: serde_json::Value = serde_json::from_slice(&said.out).unwrap();
    assert_eq!(facts["virtual_size"], 5 * MIB + 3 * 512);
    // As a target it is refused, with the way that works.
    let message =
        complaint(&run(diskwright().arg("convert").arg(&file).arg(&device.0).args(["--format", "raw"])), 1);
    assert!(message.contains("-o -") || message.contains("standard output"), "{message}");
    let message = complaint(&run(diskwright().arg("resize").arg(&device.0).arg("+1MiB")), 2);
    assert!(message.contains(&device.0), "{message}");
    // A backing file may be one too.
    let overlay = folder.path().join("over.qcow2");
    must(diskwright().arg("create").arg(&overlay).args(["-b", &device.0, "-F", "raw"]));
    check("qcow2", &overlay).unwrap();
    compare(&file, "qcow2", &overlay).unwrap();
}

#[test]
fn standard_input_is_a_raw_disk() {
    let folder = scratch();
    for sample in [usual(), Sample::new("least", 1, &[]), Sample::new("odd", MIB + 5, &[])] {
        let file = raw(&sample.image(), folder.path());
        for row in ROWS {
            let target = folder.path().join("disk.out");
            // From a pipe, which has no length and no holes.
            let mut cat = command("cat");
            let mut cat = cat.arg(&file).stdout(Stdio::piped()).spawn().unwrap();
            let mut program = diskwright();
            program.arg("convert").arg("-").arg(&target).args(row.arguments());
            must(program.stdin(cat.stdout.take().unwrap()));
            assert!(cat.wait().unwrap().success());
            compare(&file, row.format.qemu_name(), &target)
                .unwrap_or_else(|error| panic!("{}: {error}", row.name));
            let other = folder.path().join("disk.other");
            must(diskwright().arg("convert").arg(&file).arg(&other).args(row.arguments()));
            assert!(std::fs::read(&target).unwrap() == std::fs::read(&other).unwrap(), "{}", row.name);
            std::fs::remove_file(&other).unwrap();
            std::fs::remove_file(&target).unwrap();
        }
        assert_eq!(names_in(folder.path()), ["disk.raw"]);
    }
}

#[test]
fn standard_input_to_standard_output() {
    let folder = scratch();
    let file = raw(&usual().image(), folder.path());
    let mut program = diskwright();
    let said = must(program.args(["convert", "-", "-"]).stdin(std::fs::File::open(&file).unwrap()));
    assert!(said.out == std::fs::read(&file).unwrap());
    let said = must(diskwright().arg("convert").arg(&file).arg("-"));
    assert!(said.out == std::fs::read(&file).unwrap());
    let said = must(diskwright().args(["inspect", "-"]).stdin(std::fs::File::open(&file).unwrap()));
    let length = format!("({} bytes)", std::fs::metadata(&file).unwrap().len());
    assert!(
        said.text().starts_with("format         raw\n") && said.text().contains(&length),
        "{}",
        said.text()
    );
}

/// An image that says it is empty and has content is no empty disk.
#[test]
fn a_file_without_a_length_is_refused() {
    let folder = scratch();
    let target = folder.path().join("disk.img");
    for arguments in [
        vec!["convert", "/proc/version", target.to_str().unwrap()],
        vec!["convert", "--from", "raw", "/proc/version", target.to_str().unwrap()],
        vec!["create", target.to_str().unwrap(), "--format", "qcow2", "-b", "/proc/version", "-F", "raw"],
        vec!["inspect", "/proc/version"],
    ] {
        let message = complaint(&run(diskwright().args(&arguments)), 1);
        assert!(message.contains("says it is empty, and has content"), "{arguments:?}: {message}");
        assert!(message.contains("copy it to a file that has a length"), "{message}");
    }
    // As its bytes it is one.
    let mut program = diskwright();
    must(program.args(["convert", "-"]).arg(&target).stdin(std::fs::File::open("/proc/version").unwrap()));
    let version = std::fs::read("/proc/version").unwrap();
    assert!(std::fs::read(&target).unwrap().starts_with(&version));
}

/// Standard input and output have a name of their own here; by those of the system's devices they are no files.
#[test]
fn pipes_by_the_names_of_devices_are_refused_with_their_own_name() {
    let folder = scratch();
    let file = raw(&usual().image(), folder.path());
    let file = file.to_str().unwrap();
    for (arguments, found, hint) in [
        (
            ["convert", "/dev/stdin", "out.img", "--from", "raw"],
            "a pipe",
            "read an image from standard input, as `-`",
        ),
        (
            ["convert", file, "/dev/stdout", "--format", "raw"],
            "a pipe",
            "write `-` in its place: the image then goes",
        ),
        (
            ["convert", file, "/dev/fd/1", "--format", "raw"],
            "a pipe",
            "write `-` in its place: the image then goes",
        ),
        (
            ["convert", file, "/dev/stdout", "--jobs", "1"],
            "a pipe",
            "write `-` in its place: the image then goes",
        ),
        (
            ["convert", file, "/dev/null", "--format", "raw"],
            "a character device",
            "which `> /dev/null` sends there",
        ),
        // An image that is not written from its first byte to its last goes to no stream, and neither does an empty one.
        (
            ["create", "/dev/null", "--size", "1MiB", "--format=raw"],
            "a character device",
            "expected: the name of a file\n",
        ),
        (["convert", file, "/dev/stdout", "--format", "qcow2"], "a pipe", "expected: the name of a file\n"),
        (
            ["convert", file, "/dev/fd", "--format", "raw"],
            "a folder",
            "hint: add the name that the file shall have in it",
        ),
        (
            ["create", "/dev/fd", "--size", "1MiB", "--format=raw"],
            "a folder",
            "add the name that the file shall have in it",
        ),
    ] {
        let mut program = diskwright();
        program.args(arguments).current_dir(folder.path());
        let message = complaint(&run(program.stdin(Stdio::piped())), 1);
        let place = arguments.iter().find(|word| word.starts_with("/dev")).unwrap();
        for word in [format!("  at {place}\n"), format!("  found: {found}\n"), hint.to_owned()] {
            assert!(message.contains(&word), "{arguments:?}: no `{word}` in\n{message}");
        }
        assert_eq!(
            message.contains("`-`"),
            hint.contains("`-`") || hint.contains("sends there"),
            "{message}"
        );
    }
    assert_eq!(names_in(folder.path()), ["disk.raw"]);
}

/// A named pipe is neither read in part nor waited for.
#[test]
fn pipes_and_sockets_with_a_name_are_refused() {
    let folder = scratch();
    let path = folder.path().join("fifo");
    must(command("mkfifo").arg(&path));
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
    for name in ["fifo", "socket"] {
        let path = folder.path().join(name);
        let target = folder.path().join("out.img");
        for arguments in [vec!["inspect"], vec!["convert"], vec!["resize"]] {
            let mut program = diskwright();
            program.args(&arguments).arg(&path);
            match arguments[0] {
                "convert" => drop(program.arg(&target)),
                "resize" => drop(program.arg("1MiB")),
                _ => {}
            }
            program.stdout(Stdio::piped()).stderr(Stdio::piped());
            let said = wait(program.spawn().unwrap(), std::time::Duration::from_secs(60));
            let message = complaint(&said, 1);
            assert!(message.contains(path.to_str().unwrap()), "{message}");
        }
        let file = folder.path().join("disk.raw");
        std::fs::write(&file, [1; 512]).unwrap();
        let said = run(diskwright().arg("convert").arg(&file).arg(&path).args(["--format", "raw"]));
        assert!(complaint(&said, 1).contains("not a file"), "{}", said.error());
        std::fs::remove_file(&file).unwrap();
        assert!(!target.exists());
    }
}
