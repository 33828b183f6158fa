//! What a failure leaves behind: nothing new, and the older image.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::bench::{Bench, MANIFEST, interrupted, judge, refused, text};
use crate::support::kernel;
use crate::support::program::{as_nobody, copy_to, path};
use crate::support::tools::{command, is_root};

#[test]
fn an_output_that_cannot_be_is_one_error() {
    let bench = Bench::new();
    let message = bench.bad(1, &["build", "disk.toml", "-o", "no/where.img"]);
    assert!(message.contains("no/where.img") && message.contains("No such file"), "{message}");
    assert!(!message.contains(".tmp"), "nobody asked for a temporary file: {message}");
    // This error comes before anything else is checked.
    bench.write("slow.toml", MANIFEST.replace("etc/*", "missing"));
    let message = bench.bad(1, &["build", "slow.toml", "-o", "no/where.img"]);
    assert!(message.contains("no/where.img"), "{message}");
    fs::remove_file(bench.path("slow.toml")).unwrap();
    let message = bench.bad(1, &["build", "disk.toml", "-o", "etc", "--format", "raw"]);
    assert!(message.contains("the output is not a file"), "{message}");
    let message = bench.bad(1, &["build", "disk.toml", "-o", "etc"]);
    assert!(message.contains("a folder") && message.contains("add the name"), "{message}");
    // Over the manifest, and over a source.
    let message = bench.bad(2, &["build", "disk.toml", "-o", "disk.toml", "--format", "raw"]);
    assert!(message.contains("replace the manifest"), "{message}");
    let message = bench.bad(2, &["build", "disk.toml", "-o", "etc/hosts", "--format", "raw"]);
    assert!(message.contains("one of its own sources") && message.contains("etc/hosts"), "{message}");
    assert_eq!(bench.read("etc/hosts"), b"127.0.0.1 localhost\n");
    assert_eq!(text(&bench.read("disk.toml")), MANIFEST);
}

#[test]
fn an_output_among_its_sources_does_not_hold_itself() {
    let bench = Bench::new();
    // The first time the output does not exist yet; the second time it would be among its own sources.
    bench.good(&["mkfs", "ext4", "etc", "-o", "etc/etc.img"]);
    let image = bench.path("etc/etc.img");
    let list = judge("debugfs", &["-R", "ls -p /", image.to_str().unwrap()]);
    assert!(list.contains("/hosts/") && !list.contains("etc.img"), "{list}");
    let before = bench.read("etc/etc.img");
    let message = bench.bad(2, &["mkfs", "ext4", "etc", "-o", "etc/etc.img"]);
    assert!(message.contains("one of its own sources"), "{message}");
    // By another name of the folder, and by a link to it.
    std::os::unix::fs::symlink("etc", bench.path("link")).unwrap();
    std::os::unix::fs::symlink("etc/etc.img", bench.path("image.img")).unwrap();
    bench.bad(2, &["mkfs", "ext4", "etc", "-o", "link/etc.img"]);
    bench.bad(2, &["mkfs", "ext4", "link", "-o", "image.img"]);
    assert!(bench.read("etc/etc.img") == before);
}

/// Runs the program as nobody if this is root, who can write and read everything.
fn unprivileged(bench: &Bench, arguments: &[&str]) -> Output {
    if !is_root() {
        return bench.run(arguments);
    }
    fs::set_permissions(bench.folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    // Other users cannot enter the folder of the program.
    let copy = TempDir::new_in("/tmp").unwrap();
    fs::set_permissions(copy.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = copy_to(copy.path());
    as_nobody(&program).args(arguments).current_dir(bench.folder.path()).output().unwrap()
}

#[test]
fn nobody_gets_the_same_bytes_and_errors_about_what_is_closed() {
    let bench = Bench::new();
    bench.good(&["build", "disk.toml", "-o", "root.img"]);
    fs::create_dir(bench.path("out")).unwrap();
    fs::set_permissions(bench.path("out"), fs::Permissions::from_mode(0o777)).unwrap();
    let output = unprivileged(&bench, &["build", "disk.toml", "-o", "out/nobody.img"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(bench.read("root.img") == bench.read("out/nobody.img"));
    fs::remove_file(bench.path("out/nobody.img")).unwrap();
    // A folder that cannot be written to.
    fs::set_permissions(bench.path("out"), fs::Permissions::from_mode(0o555)).unwrap();
    let message = refused(1, &unprivileged(&bench, &["build", "disk.toml", "-o", "out/nobody.img"]));
    assert!(message.contains("out/nobody.img") && message.contains("Permission denied"), "{message}");
    assert_eq!(bench.names("out"), [""; 0]);
    // A source that cannot be read, and one that cannot even be listed.
    bench.write("etc/shadow", "secret");
    fs::set_permissions(bench.path("etc/shadow"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(bench.path("out"), fs::Permissions::from_mode(0o777)).unwrap();
    bench.write("out/disk.img", "old");
    let message = refused(1, &unprivileged(&bench, &["build", "disk.toml", "-o", "out/disk.img"]));
    assert!(message.contains("etc/shadow") && message.contains("Permission denied"), "{message}");
    // The error occurs while the file is copied, and still names the line.
    assert!(message.contains("disk.toml:18: { source = \"etc/*\""), "{message}");
    bench.write("esp/closed/file", "x");
    fs::set_permissions(bench.path("esp/closed"), fs::Permissions::from_mode(0o000)).unwrap();
    let message = refused(1, &unprivileged(&bench, &["build", "disk.toml", "-o", "out/disk.img"]));
    assert!(message.contains("esp/closed") && message.contains("disk.toml:12: "), "{message}");
    fs::set_permissions(bench.path("esp/closed"), fs::Permissions::from_mode(0o755)).unwrap();
    // By way of a closure, and a ready image.
    bench.write("closure", format!("{}\n", bench.path("etc").canonicalize().unwrap().display()));
    bench.write(
        "closed.toml",
        "version = 1\n[[partition]]\nfilesystem = { type = \"ext4\" }\n\
         contents = [\n{ text = \"\", target = \"/x\" },\n{ closure = \"closure\", target = \"/\" },\n]\n",
    );
    let message = refused(1, &unprivileged(&bench, &["build", "closed.toml", "-o", "out/disk.img"]));
    assert!(message.contains("etc/shadow") && message.contains("closed.toml:6: "), "{message}");
    bench.write("closed.toml", "version = 1\n[[partition]]\nimage = \"etc/shadow\"\n");
    let message = refused(1, &unprivileged(&bench, &["build", "closed.toml", "-o", "out/disk.img"]));
    assert!(message.contains("etc/shadow") && message.contains("closed.toml:3: "), "{message}");
    assert_eq!(bench.read("out/disk.img"), b"old");
    assert_eq!(bench.names("out"), ["disk.img"]);
}

#[test]
fn a_full_disk_leaves_the_old_image() {
    let bench = Bench::new();
    bench.write("source/large", vec![1; 16 << 20]);
    bench.write("out/disk.img", "old");
    // A limit on the length of files acts like a full disk, and every user can set it.
    let limited = format!("ulimit -f 100; exec {} mkfs ext4 source -o out/disk.img", path().display());
    let output = command("bash").args(["-c", &limited]).current_dir(bench.folder.path()).output().unwrap();
    let message = refused(1, &output);
    assert!(message.contains("File too large") && message.contains("ulimit -f"), "{message}");
    assert_eq!(bench.read("out/disk.img"), b"old");
    assert_eq!(bench.names("out"), ["disk.img"]);
}

/// A filesystem of 4 MiB in memory, unmounted at the end.
struct Small(PathBuf);

impl Small {
    fn new(at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        judge("mount", &["-t", "tmpfs", "-o", "size=4m", "small", at.to_str().unwrap()]);
        Self(at.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        judge("umount", &[self.0.to_str().unwrap()]);
    }
}

#[test]
fn a_full_filesystem_leaves_the_old_image() {
    // Only root mounts; for other users the limit above is the same fault.
    kernel::need();
    let bench = Bench::new();
    bench.write("source/large", vec![1; 16 << 20]);
    let small = Small::new(&bench.path("small"));
    bench.write("small/disk.img", "old");
    let message = bench.bad(1, &["mkfs", "ext4", "source", "-o", "small/disk.img"]);
    assert!(message.contains("No space left") && message.contains("nothing was left behind"), "{message}");
    assert_eq!(bench.read("small/disk.img"), b"old");
    assert_eq!(bench.names("small"), ["disk.img"]);
    drop(small);
}

/// Waits until the program holds a nameless or temporary file in `folder` that has grown.
fn wait_for_work(child: &Child, folder: &Path) {
    let fds = PathBuf::from(format!("/proc/{}/fd", child.id()));
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(60) {
        for entry in fs::read_dir(&fds).into_iter().flatten().flatten() {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            let grown = fs::metadata(entry.path()).is_ok_and(|meta| meta.blocks() > 2048);
            if target.starts_with(folder) && grown {
                return;
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("no work seen in {}", folder.display());
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let id = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(id, signal).unwrap();
}

#[test]
fn a_signal_in_the_middle_leaves_nothing() {
    use rustix::process::Signal;
    let bench = Bench::new();
    bench.long_work();
    bench.write("out/disk.img", "old");
    for number in [Signal::INT, Signal::TERM, Signal::HUP, Signal::KILL] {
        let child = bench
            .command(&["build", "long.toml", "-o", "out/disk.img"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for_work(&child, &bench.path("out").canonicalize().unwrap());
        signal(&child, number);
        let output = child.wait_with_output().unwrap();
        if number == Signal::KILL {
            assert_eq!(output.status.signal(), Some(9));
        } else {
            let message = interrupted(number.as_raw(), &output);
            assert!(message.contains("stopped by a signal"), "{message}");
        }
        assert_eq!(bench.names("out"), ["disk.img"], "{number:?}");
        assert_eq!(bench.read("out/disk.img"), b"old", "{number:?}");
    }
}

#[test]
fn what_the_parent_ignores_stays_ignored() {
    let bench = Bench::new();
    bench.long_work();
    let script = format!("trap '' INT; exec {} build long.toml -o out/disk.img", path().display());
    let child = command("bash")
        .args(["-c", &script])
        .current_dir(bench.folder.path())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_work(&child, &bench.path("out").canonicalize().unwrap());
    signal(&child, rustix::process::Signal::INT);
    std::thread::sleep(Duration::from_millis(100));
    signal(&child, rustix::process::Signal::TERM);
    let message = interrupted(rustix::process::Signal::TERM.as_raw(), &child.wait_with_output().unwrap());
    assert!(message.contains("stopped by a signal"), "{message}");
    assert_eq!(bench.names("out"), [""; 0]);
}
