//! The kernel of this machine as a judge: it mounts an image, shows everything that it sees, and writes to
//! it. Needs root.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::compare::{ALL, assert_same};
use super::ext4::assert_clean;
use super::left_out;
use super::snapshot::Snapshot;
use super::tools::{command, is_root, must, run, scratch};

/// A mounted filesystem; unmounted when dropped.
#[derive(Debug)]
pub struct Mount {
    folder: tempfile::TempDir,
}

impl Mount {
    /// Mounts `image` through a loop device with `options`.
    pub fn new(image: &Path, options: &str) -> Self {
        need();
        let folder = scratch();
        must(command("mount").args(["-o", &format!("loop,{options}")]).arg(image).arg(folder.path()));
        Self { folder }
    }

    /// Mounts a tmpfs of `size`.
    pub fn tmpfs(size: &str) -> Self {
        need();
        let folder = scratch();
        let options = format!("size={size},mode=0755");
        must(command("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()));
        Self { folder }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Unmounts it and checks that this works.
    pub fn unmount(self) {
        must(command("umount").arg(self.path()));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // After `unmount` nothing is mounted, and the message of umount does not matter.
        let _ = command("umount").arg(self.folder.path()).output();
    }
}

/// Whether the kernel can judge here; if not, that is recorded.
pub fn can_judge() -> bool {
    let bring = why_not();
    if let Some(bring) = bring {
        left_out::note(KERNEL, bring);
    }
    bring.is_none()
}

/// Ends this test unless the kernel can judge here.
pub fn need() {
    if let Some(bring) = why_not() {
        left_out::leave(KERNEL, bring);
    }
}

/// Its name in the record.
const KERNEL: &str = "the kernel of this machine, which mounts images";

/// What would let the kernel judge, if it cannot: only root mounts, and root of a container often can neither
/// mount nor use loop devices.
fn why_not() -> Option<&'static str> {
    static WHY_NOT: OnceLock<Option<&str>> = OnceLock::new();
    *WHY_NOT.get_or_init(|| {
        if !is_root() {
            return Some("run tests/run as root");
        }
        let folder = scratch();
        let mounted = run(command("mount").args(["-t", "tmpfs", "tmpfs"]).arg(folder.path())).code == 0;
        if mounted {
            must(command("umount").arg(folder.path()));
        }
        let loops = run(command("losetup").arg("--find")).code == 0;
        (!mounted || !loops)
            .then_some("run tests/run where root may mount, as in a container it often may not")
    })
}

/// Compares everything that the kernel shows of `image`, mounted read-only, with `expected`; then writes to a
/// copy of it.
pub fn judge(image: &Path, expected: &Snapshot) {
    if can_judge() {
        reads(image, expected);
        writes(image);
    }
}

/// The kernel shows exactly `expected` and leaves every byte of the image as it was.
pub fn reads(image: &Path, expected: &Snapshot) {
    let before = super::tools::digest(image);
    let mount = Mount::new(image, "ro");
    let found = Snapshot::of(mount.path()).without_lost_and_found();
    mount.unmount();
    assert_same("the kernel", expected, &found, &ALL);
    assert_eq!(before, super::tools::digest(image), "a read-only mount changed the image");
}

/// How many files the kernel adds to each directory: enough to make a block overflow, split leaves, and start an index.
const ADDED: u32 = 300;

/// The kernel writes to a copy of `image`, and e2fsck finds no fault afterwards.
pub fn writes(image: &Path) {
    // In memory, because the kernel's writes are synced at the end.
    let memory = Mount::tmpfs("4g");
    let copy = memory.path().join("copy.img");
    must(command("cp").arg("--sparse=always").arg(image).arg(&copy));
    let mount = Mount::new(&copy, "rw");
    let mut free = rustix::fs::statvfs(mount.path()).unwrap().f_ffree;
    for directory in directories(mount.path()) {
        if free < u64::from(ADDED) + 20 {
            break;
        }
        free -= u64::from(ADDED);
        busy(&directory);
    }
    File::open(mount.path()).unwrap().sync_all().unwrap();
    mount.unmount();
    assert_clean(&copy);
}

/// The root and the directories below it with the most names, where a running system is likely to add files.
fn directories(top: &Path) -> Vec<PathBuf> {
    let mut found = vec![top.to_owned()];
    let mut at = 0;
    while let Some(path) = found.get(at).cloned() {
        for entry in std::fs::read_dir(path).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() && entry.file_name() != "lost+found" {
                found.push(entry.path());
            }
        }
        at += 1;
    }
    let mut sized: Vec<_> =
        found.into_iter().map(|path| (std::fs::read_dir(&path).unwrap().count(), path)).collect();
    sized.sort_by(|a, b| b.cmp(a));
    sized.truncate(8);
    sized.into_iter().map(|(_, path)| path).chain([top.to_owned()]).collect()
}

/// Makes names in a directory, writes, renames and removes.
fn busy(directory: &Path) {
    let work = directory.join("work");
    std::fs::create_dir(&work).unwrap();
    for number in 0..ADDED {
        // Few bytes: a full directory is the point, and the image may be nearly full.
        File::create(directory.join(format!("added-by-the-kernel-{number:04}"))).unwrap();
    }
    let mut file = File::create(work.join("file")).unwrap();
    // The image may be full by now, which is not a fault.
    let _ = file.write_all(&[7; 20_000]);
    for number in (0..ADDED).step_by(3) {
        std::fs::remove_file(directory.join(format!("added-by-the-kernel-{number:04}"))).unwrap();
    }
    let from = directory.join("added-by-the-kernel-0001");
    std::fs::rename(from, work.join("renamed")).unwrap();
    std::fs::remove_dir_all(&work).unwrap();
}
