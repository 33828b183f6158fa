//! Refusals before any work, and failures in the middle of it: one error, and nothing left behind.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use diskwright::units::{KIB, MIB};
use rustix::process::{Pid, Signal, kill_process};

use crate::create::diskwright;
use crate::hostile::complaint;
use crate::judge::qemu_img;
use crate::rows::ROWS;
use crate::samples::{noise, usual};
use crate::support::{judges, kernel};
use crate::tools::{command, digest, must, names_in, quiet, run, scratch, wait};
use crate::written::raw;

/// A folder with `disk.raw`, `base.qcow2`, and `over.qcow2` above it.
fn scene() -> tempfile::TempDir {
    let folder = scratch();
    let below = raw(&usual().image(), folder.path());
    let path = |name: &str| folder.path().join(name);
    qemu_img(&[&"convert", &"-f", &"raw", &"-O", &"qcow2", &below, &path("base.qcow2")]);
    must(diskwright().arg("create").arg(path("over.qcow2")).args(["-b", "base.qcow2", "-F", "qcow2"]));
    folder
}

fn convert(source: &Path, target: &Path) -> Command {
    let mut command = diskwright();
    command.arg("convert").args([source, target]).arg("--allow-backing");
    command
}

#[test]
fn a_destination_that_is_the_source_or_lies_below_it() {
    let folder = scene();
    let path = |name: &str| folder.path().join(name);
    std::os::unix::fs::symlink("base.qcow2", path("symlink.qcow2")).unwrap();
    std::os::unix::fs::symlink("symlink.qcow2", path("twice.qcow2")).unwrap();
    std::fs::hard_link(path("base.qcow2"), path("hard.qcow2")).unwrap();
    std::fs::create_dir(path("sub")).unwrap();
    std::os::unix::fs::symlink(folder.path(), path("folder")).unwrap();
    let before = digest(&path("base.qcow2"));
    let names = names_in(folder.path());
    for (source, target) in [
        ("base.qcow2", "base.qcow2"),
        ("base.qcow2", "./sub/../base.qcow2"),
        ("base.qcow2", "symlink.qcow2"),
        ("twice.qcow2", "base.qcow2"),
        ("base.qcow2", "hard.qcow2"),
        ("hard.qcow2", "symlink.qcow2"),
        ("base.qcow2", "folder/base.qcow2"),
        ("over.qcow2", "base.qcow2"),
        ("over.qcow2", "hard.qcow2"),
        ("over.qcow2", "over.qcow2"),
    ] {
        let message = complaint(&run(&mut convert(&path(source), &path(target))), 2);
        assert!(message.contains("destination is the source") && message.contains(target), "{message}");
        assert_eq!(digest(&path("base.qcow2")), before);
        assert_eq!(names_in(folder.path()), names);
    }
    // A link that leads nowhere yet is another file.
    std::os::unix::fs::symlink("new.qcow2", path("dangling.qcow2")).unwrap();
    must(&mut convert(&path("base.qcow2"), &path("dangling.qcow2")));
}

#[test]
fn an_overlay_on_itself_is_refused() {
    let folder = scene();
    let path = |name: &str| folder.path().join(name);
    std::fs::hard_link(path("base.qcow2"), path("hard.qcow2")).unwrap();
    let before = digest(&path("base.qcow2"));
    for (overlay, backing) in [
        ("base.qcow2", "base.qcow2"),
        ("base.qcow2", "hard.qcow2"),
        // The backing file of the backing file.
        ("base.qcow2", "over.qcow2"),
        ("hard.qcow2", "over.qcow2"),
    ] {
        let mut create = diskwright();
        create.arg("create").arg(path(overlay)).args(["-b", backing, "-F", "qcow2"]);
        let message = complaint(&run(&mut create), 2);
        assert!(message.contains("own backing file"), "{message}");
        assert_eq!(digest(&path("base.qcow2")), before);
    }
}

/// Arguments that contradict each other.
#[test]
fn arguments_that_do_not_fit_together() {
    let folder = scene();
    for (arguments, code, says) in [
        (&["convert", "disk.raw", "out.xyz"][..], 2, "does not tell its format"),
        (&["convert", "disk.raw", "out"], 2, "does not tell its format"),
        (&["convert", "disk.raw", "out.img", "--compress", "zlib"], 2, "does not have compression"),
        (&["convert", "disk.raw", "out.qcow2", "--compress", "lz4"], 2, "none, zlib or zstd"),
        (&["convert", "disk.raw", "out.qcow2", "--compress", "zlib", "--level", "10"], 2, "1 to 9"),
        (&["convert", "disk.raw", "out.qcow2", "--compress", "zstd", "--level", "20"], 2, "1 to 19"),
        (&["convert", "disk.raw", "out.qcow2", "--level", "3"], 2, "--compress"),
        (&["convert", "disk.raw", "out.qcow2", "--cluster-size", "1000"], 2, "a power of two"),
        (&["convert", "disk.raw", "out.qcow2", "--cluster-size", "4MiB"], 2, "512 bytes to 2MiB"),
        (&["convert", "disk.raw", "out.img", "--cluster-size", "4KiB"], 2, "does not have a cluster size"),
        (&["convert", "disk.raw", "out.img", "--subformat", "fixed"], 2, "does not have this subformat"),
        (&["convert", "disk.raw", "out.img", "--subformat", "flat"], 2, "no such subformat"),
        (&["convert", "disk.raw", "-", "--format", "qcow2"], 2, "cannot be streamed"),
        (&["convert", "-", "out.img", "--from", "qcow2"], 1, "standard input is empty"),
        (&["convert", "none.raw", "out.img"], 1, "does not exist"),
        (&["convert", ".", "out.img"], 1, "a file or a block device"),
        (&["convert", "/dev/null", "out.img"], 1, "a file or a block device"),
        (&["convert", "disk.raw", "none/out.img"], 1, "none/out.img"),
        (&["convert", "disk.raw", "out.img", "--from", "qcow2"], 1, "this is no qcow2 image"),
        (&["convert", "disk.raw", "out.img", "--from", "floppy"], 2, "floppy"),
        (&["create", "out.xyz", "--size", "1MiB"], 2, "does not tell its format"),
        (&["create", "out.qcow2"], 2, "--size"),
        (&["create", "out.qcow2", "--size", "1M"], 2, "1MiB"),
        (&["create", "out.qcow2", "--size", "7EiB"], 1, "at most"),
        (&["create", "out.img", "--size", "7EiB"], 1, "out.img"),
        (&["create", "out.img", "-b", "disk.raw", "-F", "raw"], 2, "does not have a backing file"),
        (&["create", "out.qcow2", "-b", "disk.raw"], 2, "--backing-format"),
        (&["create", "out.qcow2", "-b", "none.raw", "-F", "raw"], 1, "does not exist"),
        (&["create", "out.qcow2", "-b", "disk.raw", "-F", "qcow2"], 1, "this is no qcow2 image"),
        (&["create", "-", "--size", "1MiB"], 2, "goes to a file"),
        (&["inspect", "none.raw"], 1, "does not exist"),
        (&["inspect", "."], 1, "a file or a block device"),
    ] {
        let before = names_in(folder.path());
        let said = run(diskwright().current_dir(folder.path()).args(arguments));
        let message = said.error();
        assert_eq!(said.code, code, "{arguments:?}: {message}");
        assert!(message.contains(says), "{arguments:?}: {message}");
        assert!(said.out.is_empty() && !message.contains("bug in diskwright"), "{arguments:?}: {message}");
        assert_eq!(names_in(folder.path()), before, "{arguments:?}");
    }
}

/// A filesystem of a few MiB in memory, unmounted at the end; needs root.
struct Small(PathBuf);

impl Small {
    fn new(folder: &Path, size: &str) -> Self {
        let at = folder.join("small");
        std::fs::create_dir(&at).unwrap();
        must(command("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&at));
        Self(at)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = command("umount").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_leaves_the_older_file() {
    kernel::need();
    let folder = scratch();
    let small = Small::new(folder.path(), "3m");
    let source = folder.path().join("noise.raw");
    std::fs::write(&source, noise(1, 8 * MIB)).unwrap();
    for row in ROWS {
        let target = small.0.join(format!("disk.{}", row.format.suffix()));
        std::fs::write(&target, "older").unwrap();
        let said = run(convert(&source, &target).args(row.arguments()));
        let message = complaint(&said, 1);
        assert!(message.contains("No space left") && message.contains(target.to_str().unwrap()), "{message}");
        assert_eq!(std::fs::read(&target).unwrap(), b"older", "{}", row.name);
        assert_eq!(names_in(&small.0).len(), 1, "{}", row.name);
        std::fs::remove_file(&target).unwrap();
    }
    // Standard input is kept beside the output.
    let mut program = diskwright();
    program.arg("convert").arg("-").arg(small.0.join("disk.qcow2"));
    let message = complaint(&run(program.stdin(std::fs::File::open(&source).unwrap())), 1);
    assert!(message.contains("No space left"), "{message}");
    assert!(names_in(&small.0).is_empty());
}

/// Growth for which the level 1 table must move, on a full disk: the file stays unchanged.
#[test]
fn a_full_disk_leaves_a_file_that_grows() {
    kernel::need();
    let folder = scratch();
    let small = Small::new(folder.path(), "2m");
    for row in ROWS.iter().filter(|row| row.cluster_size == Some(512)) {
        let path = small.0.join("disk.qcow2");
        row.write(&usual().image(), &path, 1).unwrap();
        let before = digest(&path);
        // 100 GiB need 25 MiB of table.
        let message = complaint(&run(diskwright().arg("resize").arg(&path).arg("100GiB")), 1);
        assert!(message.contains("No space left"), "{message}");
        assert_eq!(digest(&path), before);
    }
}

/// Signals in the middle of the work: the result is the older file or the new one, and nothing else.
#[test]
fn signals_leave_the_older_file() {
    let folder = scratch();
    let source = folder.path().join("long.raw");
    let file = std::fs::File::create(&source).unwrap();
    let part = noise(3, 64 * MIB);
    for number in 0..6 {
        use std::os::unix::fs::FileExt;
        file.write_all_at(&part, number * 64 * MIB).unwrap();
    }
    std::fs::create_dir(folder.path().join("out")).unwrap();
    for (arguments, signal, code) in [
        (&["--format", "raw"][..], Signal::INT, 128 + 2),
        (&["--format", "qcow2"], Signal::TERM, 128 + 15),
        (&["--format", "qcow2", "--compress", "zlib"], Signal::INT, 128 + 2),
        (&["--format", "qcow2", "--compress", "zstd", "--level", "12"], Signal::KILL, 128 + 9),
    ] {
        let target = folder.path().join("out/disk");
        std::fs::write(&target, "older").unwrap();
        let mut interrupted = false;
        for pause in [5, 20, 60, 150] {
            let mut program = convert(&source, &target);
            program.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
            let child = program.spawn().unwrap();
            let id = Pid::from_child(&child);
            std::thread::sleep(Duration::from_millis(pause));
            let _ = kill_process(id, signal);
            let said = wait(child, Duration::from_secs(300));
            assert_eq!(names_in(&folder.path().join("out")), ["disk"]);
            if said.code == 0 {
                std::fs::write(&target, "older").unwrap();
                continue;
            }
            // A signal before the program listens ends it at once without a message, like any program.
            interrupted |= signal == Signal::KILL || said.error().contains("nothing was left behind");
            assert!(said.code == code, "{} {}", said.code, said.error());
            assert!(std::fs::read(&target).unwrap() == b"older", "{}", said.error());
        }
        assert!(interrupted, "{arguments:?}: no signal came in the middle");
    }
}

/// A source that becomes shorter while it is read is an error, and not a disk with zeros.
#[test]
fn a_source_that_changes_is_noticed() {
    use diskwright::container::{OpenOptions, open};
    use diskwright::convert::{Options, Target, convert};
    use diskwright::progress::Progress;
    let folder = scratch();
    let source = raw(&usual().image(), folder.path());
    let opened = open(&source, &OpenOptions::default()).unwrap();
    std::fs::OpenOptions::new().write(true).open(&source).unwrap().set_len(64 * KIB).unwrap();
    for row in ROWS {
        let target = folder.path().join("disk.out");
        let to = Target::File(&target);
        let progress = Progress::default();
        let options = Options { time: 0, sector_size: None, jobs: 2, progress: &progress };
        let error = convert(&opened, &source, to, &row.container(), &options).unwrap_err();
        assert!(error.to_string().contains("changed while"), "{}: {error}", row.name);
        assert!(!target.exists());
    }
}

/// A program before the pipe that has failed leaves the image of an earlier day alone.
#[test]
fn input_that_is_empty_is_no_disk() {
    let folder = scratch();
    let image = folder.path().join("disk.img");
    std::fs::write(&image, "an image").unwrap();
    let mut program = diskwright();
    program.args(["convert", "-"]).arg(&image).stdin(Stdio::null());
    assert!(complaint(&run(&mut program), 1).contains("standard input is empty"));
    // What is there and is not what was said has its own message.
    let other = folder.path().join("other");
    std::fs::write(&other, "text").unwrap();
    let mut program = diskwright();
    program.args(["convert", "-"]).arg(&image).args(["--from", "qcow2"]);
    let said = run(program.stdin(std::fs::File::open(&other).unwrap()));
    assert!(complaint(&said, 1).contains("this is no qcow2 image"));
    assert_eq!(std::fs::read(&image).unwrap(), b"an image");
}

/// A signal ends the program even if the writer of its input has stopped writing, and the input gets no name.
#[test]
fn input_that_never_ends_is_left_by_a_signal() {
    use std::io::Write;
    for signal in [Signal::TERM, Signal::INT, Signal::KILL] {
        let folder = scratch();
        let mut program = diskwright();
        program.args(["convert", "-"]).arg(folder.path().join("disk.vdi"));
        let mut child = program.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(&noise(3, 3 << 20)).unwrap();
        assert!(names_in(folder.path()).is_empty(), "{:?}", names_in(folder.path()));
        kill_process(Pid::from_child(&child), signal).unwrap();
        let said = wait(child, Duration::from_secs(60));
        if signal == Signal::KILL {
            assert_eq!(said.code, 128 + 9);
        } else {
            assert!(
                complaint(&said, 128 + signal.as_raw()).contains("stopped by a signal"),
                "{}",
                said.error()
            );
        }
        assert!(names_in(folder.path()).is_empty(), "{:?}", names_in(folder.path()));
        drop(input);
    }
}

#[test]
fn a_stream_is_compressed_by_its_own_codec() {
    let folder = scene();
    let path = |name: &str| folder.path().join(name);
    let convert = |more: &[&str]| {
        let mut program = convert(&path("disk.raw"), &path("disk.vmdk"));
        program.args(["--subformat", "streamOptimized"]).args(more);
        program
    };
    let mut digests = Vec::new();
    for more in [&[][..], &["--compress", "zlib"], &["--level", "6"], &["--level", "9"]] {
        must(&mut convert(more));
        digests.push(digest(&path("disk.vmdk")));
    }
    assert!(digests[0] == digests[1] && digests[1] == digests[2]);
    for (more, says) in
        [(["--compress", "none"], "always compressed"), (["--compress", "zstd"], "always compressed by zlib")]
    {
        assert!(complaint(&run(&mut convert(&more)), 2).contains(says));
    }
}

/// The most memory that a command takes, in KiB.
fn peak(measured: &Command) -> u64 {
    let mut program = quiet(Command::new(judges::file("/usr/bin/python3")));
    program.args(["-c", "import resource,subprocess,sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"]);
    program.arg(measured.get_program()).args(measured.get_args());
    must(&mut program).text().trim().parse().unwrap()
}

/// With clusters of any size and any number of threads, encoders take less than 64 MiB beyond the program and
/// the tables.
#[test]
fn compression_is_bounded_in_memory() {
    let folder = scratch();
    let source = folder.path().join("disk.raw");
    std::fs::write(&source, noise(7, 40 << 20)).unwrap();
    let mut help = Command::new(crate::support::program::path());
    let program = peak(help.arg("--help"));
    for (codec, level, cluster) in [
        ("zstd", "19", "2MiB"),
        ("zstd", "9", "2MiB"),
        ("zstd", "3", "2MiB"),
        ("zlib", "9", "2MiB"),
        ("zstd", "19", "64KiB"),
    ] {
        let mut convert = Command::new(crate::support::program::path());
        convert.arg("convert").arg(&source).arg(folder.path().join("disk.qcow2"));
        convert.args(["--compress", codec, "--level", level, "--cluster-size", cluster, "--jobs", "32"]);
        let kib = peak(&convert).saturating_sub(program);
        assert!(kib < 64 << 10, "{codec} {level} {cluster}: {kib} KiB");
    }
}
