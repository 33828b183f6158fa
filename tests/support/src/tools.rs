//! Running programs, and folders to run them in.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::judges::{find, folders};

/// A command for `name` in the C locale and UTC, without variables of the caller's environment.
pub fn command(name: &str) -> Command {
    quiet(Command::new(find(name)))
}

/// `command` with a bare environment: PATH with the judges, the C locale, UTC.
pub fn quiet(mut command: Command) -> Command {
    let path = std::env::join_paths(folders()).unwrap();
    command.env_clear().env("PATH", path).env("LC_ALL", "C").env("TZ", "UTC").stdin(Stdio::null());
    command
}

/// The output of a program and its end.
#[derive(Debug)]
pub struct Said {
    /// Exit code; 128 plus the signal if one ended it.
    pub code: i32,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error.
    pub err: Vec<u8>,
}

impl Said {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Standard error as text.
    pub fn error(&self) -> String {
        String::from_utf8_lossy(&self.err).into_owned()
    }
}

/// Runs `command` to its end and keeps its output.
pub fn run(command: &mut Command) -> Said {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    Said { code: code(output.status), out: output.stdout, err: output.stderr }
}

/// Runs `command`, which must succeed.
pub fn must(command: &mut Command) -> Said {
    let said = run(command);
    assert_eq!(said.code, 0, "{command:?}\n{}\n{}", said.text(), said.error());
    said
}

fn code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Reads a stream to its end in a thread, so that the program never waits for us. After every read, `heard`
/// gets everything that was read so far.
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

/// Waits for `child`, at most `limit`: protection against a test that hangs, not a measure of speed.
pub fn wait(child: Child, limit: Duration) -> Said {
    attend(child, limit, |_| {})
}

/// The same. After every read, `heard` gets everything on standard output so far, in a thread of its own.
pub fn attend(mut child: Child, limit: Duration, heard: impl FnMut(&[u8]) + Send + 'static) -> Said {
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

/// `unshare` with mounts of its own and `more`, in which an ordinary user may mount too. Where the machine denies that, the test,
/// which needs it for `what`, ends.
pub fn own_mounts(more: &[&str], what: &str) -> Command {
    let unshare = || {
        let mut unshare = command("unshare");
        if !is_root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        unshare.arg("--mount").args(more);
        unshare
    };
    // Namespaces need what some machines deny to ordinary users, and containers often to everybody.
    if run(unshare().args(["sh", "-c", "mount -t tmpfs tmpfs /tmp"])).code != 0 {
        crate::left_out::leave(what, "run tests/run where users may make namespaces, or as root");
    }
    unshare()
}

/// Whether the tests run as root, so that they may make devices, change owners, and mount.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The folder that cargo builds in: test programs lie in `PROFILE/deps` of it.
pub fn build_folder() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.ancestors().nth(3).expect("a test program lies three folders deep").to_owned()
}

/// A folder for one test, removed afterwards, on the filesystem of the build.
pub fn scratch() -> tempfile::TempDir {
    let folder = build_folder().join("tmp");
    std::fs::create_dir_all(&folder).unwrap();
    tempfile::Builder::new().prefix("t").tempdir_in(folder).unwrap()
}

/// The same in memory, if the machine has room there, for a great many names.
///
/// The kernel's ext4 gives no inode anew within minutes of its removal, and looks at each such inode whenever a file is
/// made. So a test that removes a hundred thousand files slows down every other test on that filesystem.
pub fn quick_scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    // The largest tree that a test copies here has 1.5 GiB, and several tests run at a time.
    let has_room = rustix::fs::statvfs(memory)
        .is_ok_and(|filesystem| filesystem.f_bavail.saturating_mul(filesystem.f_frsize) >= 6 << 30);
    if has_room { tempfile::Builder::new().prefix("t").tempdir_in(memory).unwrap() } else { scratch() }
}

/// SHA-256 of a file in hexadecimal.
pub fn digest(path: &Path) -> String {
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
pub fn names_in(folder: &Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}
