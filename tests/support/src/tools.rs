//! Finding and running other programs. A program that is missing fails the test and names its Debian package.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The Debian package that holds each program the tests run.
const PACKAGES: &[(&str, &str)] = &[
    ("7zz", "7zip"),
    ("apt-cache", "apt"),
    ("apt-get", "apt"),
    ("blkid", "util-linux"),
    ("busybox", "busybox-static"),
    ("cat", "coreutils"),
    ("chmod", "coreutils"),
    ("cp", "coreutils"),
    ("dd", "coreutils"),
    ("debugfs", "e2fsprogs"),
    ("dumpe2fs", "e2fsprogs"),
    ("e2fsck", "e2fsprogs"),
    ("fsck.fat", "dosfstools"),
    ("find", "findutils"),
    ("getcap", "libcap2-bin"),
    ("getfacl", "acl"),
    ("getfattr", "attr"),
    ("grub-script-check", "grub-common"),
    ("ldd", "libc-bin"),
    ("losetup", "mount"),
    ("mcopy", "mtools"),
    ("mke2fs", "e2fsprogs"),
    ("mkfifo", "coreutils"),
    ("mkfs.btrfs", "btrfs-progs"),
    ("mkfs.fat", "dosfstools"),
    ("mkfs.xfs", "xfsprogs"),
    ("mount", "mount"),
    ("nice", "coreutils"),
    ("nix-build", "nix-bin"),
    ("nix-collect-garbage", "nix-bin"),
    ("nix-env", "nix-bin"),
    ("nix-hash", "nix-bin"),
    ("nix-instantiate", "nix-bin"),
    ("nix-store", "nix-bin"),
    ("objcopy", "binutils"),
    ("qemu-img", "qemu-utils"),
    ("qemu-io", "qemu-utils"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("resize2fs", "e2fsprogs"),
    ("setcap", "libcap2-bin"),
    ("setfacl", "acl"),
    ("setfattr", "attr"),
    ("setpriv", "util-linux"),
    ("sfdisk", "fdisk"),
    ("sgdisk", "gdisk"),
    ("sh", "dash"),
    ("sqlite3", "sqlite3"),
    ("sync", "coreutils"),
    ("taskset", "util-linux"),
    ("truncate", "coreutils"),
    ("tune2fs", "e2fsprogs"),
    ("umount", "mount"),
];

/// Where `name` lies: in PATH or where Debian keeps programs for the administrator.
pub(crate) fn find(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into(), "/usr/bin".into()]);
    for folder in folders {
        let candidate = folder.join(name);
        if candidate.is_file() {
            return candidate;
        }
    }
    let package = PACKAGES.iter().find(|(program, _)| *program == name).map_or(name, |(_, package)| package);
    panic!("the judge `{name}` is not installed: apt-get install {package}");
}

/// A command for `name` in the C locale and UTC, without what the caller's environment could say to it.
pub(crate) fn command(name: &str) -> Command {
    quiet(Command::new(find(name)))
}

/// `command` with a bare environment: PATH, the C locale, UTC.
pub(crate) fn quiet(mut command: Command) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("LC_ALL", "C").env("TZ", "UTC").stdin(Stdio::null());
    command
}

/// What a program said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    /// Exit code; 128 and more plus the signal where one ended it.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) out: Vec<u8>,
    /// Standard error.
    pub(crate) err: Vec<u8>,
}

impl Said {
    /// Standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Standard error as text.
    pub(crate) fn error(&self) -> String {
        String::from_utf8_lossy(&self.err).into_owned()
    }
}

/// Runs `command` to its end and keeps all it says.
pub(crate) fn run(command: &mut Command) -> Said {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    Said { code: code(output.status), out: output.stdout, err: output.stderr }
}

/// Runs `command`, which has to succeed.
pub(crate) fn must(command: &mut Command) -> Said {
    let said = run(command);
    assert_eq!(said.code, 0, "{command:?}\n{}\n{}", said.text(), said.error());
    said
}

fn code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Reads a stream to its end in a thread, so that the program never waits for us to listen; `heard` is told what is
/// there so far, after every read.
fn collect(
    stream: Option<impl Read + Send + 'static>,
    mut heard: impl FnMut(&[u8]) + Send + 'static,
) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        if let Some(mut stream) = stream {
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                bytes.extend_from_slice(&buffer[..length]);
                heard(&bytes);
            }
        }
        bytes
    })
}

/// Waits for `child`, at most `limit`: a guard against a test that would hang, not a measure of speed.
pub(crate) fn wait(child: Child, limit: Duration) -> Said {
    attend(child, limit, |_| {})
}

/// The same; `heard` is told what standard output has said so far, after every read, in a thread of its own.
pub(crate) fn attend(mut child: Child, limit: Duration, heard: impl FnMut(&[u8]) + Send + 'static) -> Said {
    let (out, err) = (collect(child.stdout.take(), heard), collect(child.stderr.take(), |_| {}));
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            let (out, err) = (out.join().unwrap(), err.join().unwrap());
            let said = Said { code: -1, out, err };
            panic!("no end after {limit:?}:\n{}\n{}", said.text(), said.error());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    Said { code: code(status), out: out.join().unwrap(), err: err.join().unwrap() }
}

/// Whether the tests run as root, so that they may make devices, change owners, and mount.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A folder for one test, gone afterwards, on the filesystem that holds the build.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("t").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// The same in memory where the machine has such a place, for a great many names.
pub(crate) fn quick_scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::Builder::new().prefix("t").tempdir_in(memory).unwrap() } else { scratch() }
}

/// SHA-256 of a file in hexadecimal.
pub(crate) fn digest(path: &Path) -> String {
    use sha2::{Digest, Sha256};
    let mut file = std::fs::File::open(path).unwrap();
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut buffer).unwrap();
        if length == 0 {
            return hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        }
        hash.update(&buffer[..length]);
    }
}

/// The names in a folder, sorted.
pub(crate) fn names_in(folder: &Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}
