//! The number of system calls for a file. Times vary on a busy machine; this number is the same everywhere,
//! and each call has a reason:
//!
//! | | small | longer |
//! |---|---|---|
//! | opened, once or by the scan's look and the pour | `openat` | `statx`, `openat` |
//! | read | `pread64` | `pread64` |
//!  checked after the read, so that a change is seen | `statx` | `statx` |
//! | closed | `close` | `close` |
//! | asked for attributes, but not in a store path | `flistxattr` | `llistxattr` |

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::program::diskwright;
use crate::support::tools::{command, must, scratch};
use crate::support::tree;

const FILES: u32 = 10_000;

/// As a closure has them: files of a second after 1970, a hundred in a directory.
fn files(top: &Path, length: impl Fn(u32) -> usize) {
    let mut maker = tree::Maker::new(top);
    for number in 0..FILES {
        let directory = format!("{:04}", number / 100);
        if number % 100 == 0 {
            maker.directory(&directory);
        }
        maker.file(format!("{directory}/file-{number}"), vec![7; length(number)]);
    }
    maker.finish();
}

/// Calls for each file, in hundredths: all that the program does, shared out.
fn calls_of_each(build: &Command, folder: &Path) -> u64 {
    let log = folder.join("calls");
    let mut strace = command("strace");
    strace.args(["--follow-forks", "--summary-only", "--summary-columns=calls,name", "--output"]).arg(&log);
    strace.arg(build.get_program()).args(build.get_args());
    must(&mut strace);
    let log = std::fs::read_to_string(&log).unwrap();
    // A line is a number and a name; the last one is their sum.
    let lines: Vec<(u64, &str)> = log
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .filter_map(|(calls, name)| Some((calls.parse().ok()?, name.trim())))
        .collect();
    let sum: u64 = lines.iter().filter(|(_, name)| *name != "total").map(|(calls, _)| calls).sum();
    let total = lines.iter().find(|(_, name)| *name == "total").unwrap().0;
    assert_eq!(sum, total, "{log}");
    println!("{log}");
    // With debug assertions the standard library asks before each close whether the file is open.
    let asked = lines.iter().find(|(_, name)| cfg!(debug_assertions) && *name == "fcntl");
    (sum - asked.map_or(0, |(calls, _)| *calls)) * 100 / u64::from(FILES)
}

struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new(length: impl Fn(u32) -> usize) -> Self {
        let folder = scratch();
        files(&folder.path().join("nix/store/path"), length);
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The files as a directory.
    fn mkfs(&self) -> Command {
        let mut command = diskwright();
        command.args(["mkfs", "ext4"]).arg(self.path("nix")).arg("-o").arg(self.path("out.img"));
        command
    }

    /// The files as a store path.
    fn closure(&self) -> Command {
        std::fs::write(self.path("closure"), format!("{}\n", self.path("nix/store/path").display())).unwrap();
        let manifest = "version = 1\n[disk]\ntable = \"none\"\n[[partition]]\nfilesystem = { type = \"ext4\" }\n\
                        contents = [ { closure = \"closure\", target = \"/\" } ]\n";
        std::fs::write(self.path("disk.toml"), manifest).unwrap();
        let mut command = diskwright();
        command.arg("build").arg(self.path("disk.toml")).arg("-o").arg(self.path("out.img"));
        command
    }

    fn assert_calls(&self, store: u64, elsewhere: u64) {
        let calls = calls_of_each(&self.closure(), self.folder.path());
        assert!(calls <= store, "{calls} hundredths of a call for each file of a store path");
        let calls = calls_of_each(&self.mkfs(), self.folder.path());
        assert!(calls <= elsewhere, "{calls} hundredths of a call for each file elsewhere");
        // Another count is seen: there is no file without its open, read, look and close.
        assert!(calls > 400);
    }
}

#[test]
fn a_small_file_costs_four_calls_and_one_for_its_attributes() {
    // 20 MB: as much as the scan reads ahead.
    Scene::new(|number| usize::try_from(number * 7919 % 4096).unwrap() + 1).assert_calls(420, 520);
}

/// Files that were made a second ago. The clock that gave them their times is the scan's, so that second proves that nobody
/// has written to them since it began; on a file server they would be read twice.
#[test]
fn a_young_file_costs_no_more() {
    let scene = Scene::new(|number| usize::try_from(number * 7919 % 4096).unwrap() + 1);
    let young = std::time::SystemTime::now() - std::time::Duration::from_secs(1);
    let mut folders = vec![scene.folder.path().join("nix/store/path")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                std::fs::File::open(&path).unwrap().set_modified(young).unwrap();
            }
        }
    }
    scene.assert_calls(420, 520);
}

/// Files of a page fill what the scan holds: 6,000 of these 10,000 cost four calls, and the others five.
#[test]
fn files_that_are_too_many_to_hold_cost_one_call_more() {
    Scene::new(|_| 4000).assert_calls(460, 560);
}

/// A file longer than a page is checked when the image is laid out and again after it was read. So is a small
/// file once the scan holds enough.
#[test]
fn a_longer_file_costs_five_calls_and_one_for_its_attributes() {
    Scene::new(|_| 5000).assert_calls(520, 620);
}
