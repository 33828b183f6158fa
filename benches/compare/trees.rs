//! The trees of the images, made once from files of the machine.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The smallest number of files in the store.
const FILES: usize = 45_000;
const BYTES: u64 = 1_700_000_000;

/// Folders of a Debian system with files of all lengths.
const SOURCES: [&str; 3] = ["/usr/bin", "/usr/share", "/usr/lib/x86_64-linux-gnu"];

/// A store-like tree of at least 45,000 files and 1.7 GB: the sources copied under store names, several times
/// if they are not enough.
pub(crate) fn store(folder: &Path) -> PathBuf {
    let tree = folder.join("store");
    if tree.join("done").exists() {
        return tree;
    }
    let _ = std::fs::remove_dir_all(&tree);
    for (number, source) in SOURCES.iter().cycle().enumerate().take(60) {
        let name = source.replace('/', "-");
        let path = tree.join(format!("nix/store/{number:032}{name}"));
        std::fs::create_dir_all(path.parent().expect("has a parent")).expect("the store can be made");
        command("cp", &["-a", source, path.to_str().expect("is text")]);
        if number + 1 >= SOURCES.len() && files(&tree).len() >= FILES && bytes(&tree) >= BYTES {
            break;
        }
    }
    assert!(bytes(&tree) >= BYTES, "{} have too little to copy", SOURCES.join(", "));
    // Nobody may write a file of a store.
    let all = tree.to_str().expect("is text");
    command("find", &[all, "-type", "f", "-exec", "chmod", "a-w", "{}", "+"]);
    std::fs::write(tree.join("done"), "").expect("the store can be marked as made");
    tree
}

/// `count` files of 0 to 8 KiB, a hundred in a folder.
pub(crate) fn many(folder: &Path, count: u64) -> PathBuf {
    let tree = folder.join(format!("many-{count}"));
    if tree.join("done").exists() {
        return tree;
    }
    let _ = std::fs::remove_dir_all(&tree);
    for number in 0..count {
        let place = tree.join(format!("{:02}/{:04}", number / 100 % 100, number / 10_000));
        if number % 100 == 0 {
            std::fs::create_dir_all(&place).expect("a folder can be made");
        }
        let length = usize::try_from(number * 7919 % 8192).unwrap_or(0);
        std::fs::write(place.join(format!("file-{number}")), vec![b'x'; length]).expect("a file can be made");
    }
    std::fs::write(tree.join("done"), "").expect("the tree can be marked as made");
    tree
}

/// 10 MiB in a few hundred files.
pub(crate) fn small(folder: &Path) -> PathBuf {
    let tree = folder.join("small");
    for number in 0..320_u64 {
        let place = tree.join(format!("{}", number % 16));
        std::fs::create_dir_all(&place).expect("a folder can be made");
        std::fs::write(place.join(format!("file-{number}")), vec![b'x'; 32 << 10])
            .expect("a file can be made");
    }
    tree
}

/// The store as a raw disk.
pub(crate) fn raw(folder: &Path, tree: &Path) -> PathBuf {
    let raw = folder.join("store.raw");
    if !raw.exists() {
        let status = Command::new(super::run::program())
            .args([Path::new("mkfs"), Path::new("ext4"), tree, Path::new("-o"), &raw])
            .stdout(std::process::Stdio::null())
            .status();
        assert!(status.is_ok_and(|status| status.success()), "the raw disk can be made");
    }
    raw
}

/// The list that the floor copies.
pub(crate) fn list(tree: &Path, folder: &Path) -> PathBuf {
    let mut text = String::new();
    for (path, meta) in files(tree) {
        let _ = writeln!(text, "{} {}", meta.len(), path.display());
    }
    let list = folder.join("list");
    std::fs::write(&list, text).expect("the list can be written");
    list
}

/// Bytes of all regular files.
pub(crate) fn bytes(tree: &Path) -> u64 {
    files(tree).iter().map(|(_, meta)| meta.size()).sum()
}

/// All regular files whose path is text, sorted.
fn files(tree: &Path) -> Vec<(PathBuf, std::fs::Metadata)> {
    let mut found = Vec::new();
    let mut stack = vec![tree.to_owned()];
    while let Some(folder) = stack.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder can be read").flatten() {
            let Ok(meta) = entry.path().symlink_metadata() else { continue };
            if meta.is_dir() {
                stack.push(entry.path());
            } else if meta.is_file() && entry.path().to_str().is_some_and(|path| !path.contains('\n')) {
                found.push((entry.path(), meta));
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

fn command(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status();
    assert!(status.is_ok_and(|status| status.success()), "{program} {args:?} failed");
}
