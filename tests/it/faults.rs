//! Nothing is left half done: after any failure there is one error that names the path, the exit code is 1,
//! nothing is left behind, and an older image of that name is unchanged.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::kernel::{Mount, can_judge};
use crate::support::program::{as_nobody, copy_to, diskwright};
use crate::support::tools::{Said, command, is_root, must, names_in, run, scratch, wait};
use crate::support::tree::{self, noise};

/// An older image under the name of the output.
const OLDER: &[u8] = b"an older image";

/// A source, and a folder for the output that contains only an older image.
struct Scene {
    folder: tempfile::TempDir,
    source: PathBuf,
    out: PathBuf,
}

impl Scene {
    /// `files` files of `length` bytes, named `000`, `001` and so on.
    fn new(files: u32, length: u64) -> Self {
        let folder = scratch();
        let source = folder.path().join("source");
        let mut maker = tree::Maker::new(&source);
        let bytes = noise(1, length);
        for number in 0..files {
            maker.file(format!("{number:03}"), &bytes);
        }
        maker.finish();
        let out = folder.path().join("output/out.img");
        std::fs::create_dir(out.parent().unwrap()).unwrap();
        std::fs::write(&out, OLDER).unwrap();
        Self { folder, source, out }
    }

    fn mkfs(&self) -> Command {
        let mut command = diskwright();
        command.args(["mkfs", "ext4"]).arg(&self.source).arg("-o").arg(&self.out);
        command
    }

    /// The older image is there, and nothing beside it.
    fn assert_untouched(&self) {
        assert_eq!(std::fs::read(&self.out).unwrap(), OLDER);
        assert_eq!(names_in(self.out.parent().unwrap()), ["out.img"]);
    }
}

/// One error about the work, which names `path`.
fn assert_one_error(said: &Said, path: &Path) {
    assert_eq!(said.code, 1, "{}", said.error());
    let error = said.error();
    assert_eq!(error.matches("diskwright: error: ").count(), 1, "{error}");
    let name = path.to_str().unwrap();
    assert!(error.contains(name), "no `{name}` in\n{error}");
    assert!(!error.contains("panicked"), "{error}");
}

/// A name and something that happens to a file.
type Change = (&'static str, fn(&Path));

/// What may happen to a source file while it is read.
const CHANGES: [Change; 6] = [
    ("truncated", |path| {
        std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(1000).unwrap();
    }),
    ("grown", |path| {
        let length = std::fs::metadata(path).unwrap().len();
        std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length + 1).unwrap();
    }),
    ("written to", |path| {
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"!", 7).unwrap();
    }),
    ("replaced", |path| {
        let other = path.with_extension("other");
        std::fs::write(&other, std::fs::read(path).unwrap()).unwrap();
        std::fs::rename(&other, path).unwrap();
    }),
    ("removed", |path| std::fs::remove_file(path).unwrap()),
    ("a link", |path| {
        let other = path.with_extension("other");
        std::fs::rename(path, &other).unwrap();
        std::os::unix::fs::symlink(&other, path).unwrap();
    }),
];

#[test]
fn a_source_that_changes_while_it_is_streamed() {
    let whole = Scene::new(40, 1 << 20);
    assert_eq!(run(&mut whole.mkfs()).code, 0);
    let whole = usize::try_from(std::fs::metadata(&whole.out).unwrap().len()).unwrap();
    for (what, change) in CHANGES {
        // The pipe holds 64 KiB; when the first byte arrives the layout is decided, and most of 40 MiB is unread.
        let scene = Scene::new(40, 1 << 20);
        let mut command = diskwright();
        command.args(["mkfs", "ext4", "-o", "-"]).arg(&scene.source).args(["--jobs", "1"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0];
        child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        let last = scene.source.join("039");
        change(&last);
        let said = wait(child, Duration::from_secs(300));
        assert_one_error(&said, &last);
        assert!(said.out.len() + 1 < whole, "{what}: it did not stream to the end");
    }
}

/// Starts the program and stops it in the middle of its writing, before the output can have its name.
fn stop_in_the_middle(command: &mut Command) -> Child {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let written = format!("/proc/{}/io", child.id());
    for _ in 0..200_000 {
        let io = std::fs::read_to_string(&written).unwrap_or_default();
        let bytes = io.lines().find_map(|line| line.strip_prefix("wchar: "));
        if bytes.and_then(|bytes| bytes.parse::<u64>().ok()).is_some_and(|bytes| bytes > 1 << 20) {
            break;
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    signal(&child, Signal::STOP);
    child
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// A megabyte each, so that the pour takes long enough to be stopped in its middle.
const MANY: u32 = 200;

#[test]
fn a_source_that_changes_while_it_is_poured() {
    for (what, change) in [CHANGES[0], CHANGES[2], CHANGES[4]] {
        let scene = Scene::new(MANY, 1 << 20);
        let child = stop_in_the_middle(&mut scene.mkfs());
        assert_eq!(std::fs::read(&scene.out).unwrap(), OLDER, "{what}: stopped too late");
        // All files are changed, because only the program knows which ones are still unread.
        for number in 0..MANY {
            change(&scene.source.join(format!("{number:03}")));
        }
        signal(&child, Signal::CONT);
        assert_one_error(&wait(child, Duration::from_secs(300)), &scene.source);
        scene.assert_untouched();
    }
}

#[test]
fn a_signal_in_the_middle() {
    // The process ends by the signal, which a shell shows as 128 plus its number.
    for sent in [Signal::INT, Signal::TERM, Signal::HUP, Signal::KILL] {
        let code = 128 + sent.as_raw();
        let scene = Scene::new(MANY, 1 << 20);
        let child = stop_in_the_middle(&mut scene.mkfs());
        signal(&child, sent);
        signal(&child, Signal::CONT);
        let said = wait(child, Duration::from_secs(300));
        assert_eq!(said.code, code, "{sent:?}: {}", said.error());
        if sent != Signal::KILL {
            assert_eq!(said.error().matches("diskwright: error: ").count(), 1, "{}", said.error());
        }
        scene.assert_untouched();
    }
}

#[test]
fn a_full_disk() {
    if !can_judge() {
        return;
    }
    let scene = Scene::new(20, 1 << 20);
    let disk = Mount::tmpfs("8m");
    let out = disk.path().join("out.img");
    std::fs::write(&out, OLDER).unwrap();
    let mut command = diskwright();
    let said = run(command.args(["mkfs", "ext4"]).arg(&scene.source).arg("-o").arg(&out));
    assert_one_error(&said, &out);
    assert!(said.error().contains("No space left"), "{}", said.error());
    assert_eq!(std::fs::read(&out).unwrap(), OLDER);
    assert_eq!(names_in(disk.path()), ["out.img"]);
    let stat = rustix::fs::statvfs(disk.path()).unwrap();
    assert!(stat.f_bfree * stat.f_frsize > 7 << 20, "what was written is gone");
}

#[test]
fn a_stream_that_nobody_takes() {
    let scene = Scene::new(20, 1 << 20);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = diskwright();
    command.args(["mkfs", "ext4", "-o", "-"]).arg(&scene.source).stdout(full).stderr(Stdio::piped());
    let said = wait(command.spawn().unwrap(), Duration::from_secs(300));
    assert_eq!(said.code, 1, "{}", said.error());
    assert!(said.error().contains("No space left"), "{}", said.error());
    // A reader that leaves early.
    let mut command = diskwright();
    command
        .args(["mkfs", "ext4", "-o", "-"])
        .arg(&scene.source)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let said = wait(child, Duration::from_secs(300));
    assert!(said.code == 1 || said.code == 128 + 13, "{} {}", said.code, said.error());
    assert!(!said.error().contains("panicked"), "{}", said.error());
}

/// A signal ends the program even if the reader of its output has stopped reading.
#[test]
fn a_stream_that_nobody_reads_ends_by_the_first_signal() {
    let scene = Scene::new(20, 1 << 20);
    for (signal, code) in [("TERM", 128 + 15), ("INT", 128 + 2)] {
        let mut command = diskwright();
        command.args(["mkfs", "ext4", "-o", "-"]).arg(&scene.source);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The first bytes are there, so the pipe is full soon, and stays so.
        let mut reader = child.stdout.take().unwrap();
        reader.read_exact(&mut [0; 1024]).unwrap();
        must(self::command("kill").args(["-s", signal, &child.id().to_string()]));
        let said = wait(child, Duration::from_secs(60));
        assert_eq!(said.code, code, "{}", said.error());
        assert!(said.error().contains("stopped by a signal"), "{}", said.error());
        drop(reader);
    }
}

/// The longest name of a file leaves no space for the suffix of a temporary name.
#[test]
fn an_image_with_the_longest_name_is_replaced() {
    let folder = scratch();
    let path = folder.path().join(format!("{}.img", "n".repeat(251)));
    for content in ["first", "second"] {
        let manifest = format!(
            "version = 1\n[disk]\ntable = \"none\"\n[[partition]]\nfilesystem = {{ type = \"ext4\", label = \"{content}\" }}\n"
        );
        std::fs::write(folder.path().join("disk.toml"), manifest).unwrap();
        must(diskwright().arg("build").arg(folder.path().join("disk.toml")).arg("-o").arg(&path));
        assert!(must(command("e2label").arg(&path)).text().contains(content));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn sources_and_outputs_that_are_not_there() {
    let scene = Scene::new(1, 10);
    let nowhere = scene.folder.path().join("nowhere");
    let mut command = diskwright();
    assert_one_error(&run(command.args(["mkfs", "ext4"]).arg(&nowhere).arg("-o").arg(&scene.out)), &nowhere);
    scene.assert_untouched();
    let mut command = diskwright();
    let out = nowhere.join("out.img");
    assert_one_error(&run(command.args(["mkfs", "ext4"]).arg(&scene.source).arg("-o").arg(&out)), &out);
    assert!(!nowhere.exists());
    // A directory is no place for an image.
    let directory = scene.folder.path().join("directory.img");
    std::fs::create_dir(&directory).unwrap();
    let mut command = diskwright();
    assert_one_error(
        &run(command.args(["mkfs", "ext4"]).arg(&scene.source).arg("-o").arg(&directory)),
        &directory,
    );
    assert!(names_in(&directory).is_empty());
}

#[test]
fn what_nobody_may_read_or_write() {
    if !is_root() {
        assert_forbidden(&Scene::new(3, 100), diskwright);
        return;
    }
    // Root may do everything, so another user tries, in a place that everybody can enter.
    let folder = tempfile::Builder::new().prefix("diskwright").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = copy_to(folder.path());
    let scene =
        Scene { source: folder.path().join("source"), out: folder.path().join("output/out.img"), folder };
    let mut maker = tree::Maker::new(&scene.source);
    maker.file("000", "0").file("001", "1").file("002", "2").directory("d").finish();
    std::fs::create_dir(scene.out.parent().unwrap()).unwrap();
    std::fs::write(&scene.out, OLDER).unwrap();
    for path in [
        &scene.source,
        &scene.source.join("001"),
        &scene.source.join("d"),
        scene.out.parent().unwrap(),
        &scene.out,
    ] {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    }
    assert_forbidden(&scene, || as_nobody(&program));
}

/// A file, a directory and an output folder without permission, one after the other.
fn assert_forbidden(scene: &Scene, program: impl Fn() -> Command) {
    let mkfs = || {
        let mut command = program();
        run(command.args(["mkfs", "ext4"]).arg(&scene.source).arg("-o").arg(&scene.out))
    };
    let forbid = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let file = scene.source.join("001");
    forbid(&file, 0);
    assert_one_error(&mkfs(), &file);
    scene.assert_untouched();
    forbid(&file, 0o644);
    let directory = scene.source.join("d");
    std::fs::create_dir_all(&directory).unwrap();
    forbid(&directory, 0o300);
    assert_one_error(&mkfs(), &directory);
    scene.assert_untouched();
    forbid(&directory, 0o755);
    let folder = scene.out.parent().unwrap();
    forbid(folder, 0o555);
    assert_one_error(&mkfs(), &scene.out);
    scene.assert_untouched();
    forbid(folder, 0o755);
    assert_eq!(mkfs().code, 0);
    assert!(std::fs::metadata(&scene.out).unwrap().len() > 1 << 20);
    assert_eq!(names_in(folder), ["out.img"]);
}

#[test]
fn a_replaced_image_keeps_its_other_names() {
    let scene = Scene::new(1, 10);
    let other = scene.folder.path().join("another-name.img");
    std::fs::hard_link(&scene.out, &other).unwrap();
    assert_eq!(run(&mut scene.mkfs()).code, 0);
    assert_eq!(std::fs::read(&other).unwrap(), OLDER, "the older image is replaced, not written into");
}
