//! Pinned digests and golden text maps of fixture images: a change of bytes is a decision.
//!
//! `DISKWRIGHT_BLESS=1` writes what is found into tests/fixtures; the difference belongs into the commit.

use std::path::{Path, PathBuf};

use crate::support::program::{build, diskwright, mkfs_ext4, mkfs_vfat, project};
use crate::support::tools::{digest, must, scratch};
use crate::support::tree;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Compares `found` with the file `name` of the fixtures, or writes it there if that was asked for.
fn pinned(name: &str, found: &str) {
    let path = fixtures().join(name);
    if std::env::var_os("DISKWRIGHT_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, found).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let (mut old, mut new) = (expected.lines(), found.lines());
    for number in 1.. {
        match (old.next(), new.next()) {
            (None, None) => return,
            (old, new) => assert_eq!(
                new, old,
                "line {number} of {name}; if that is meant to be, run again with DISKWRIGHT_BLESS=1"
            ),
        }
    }
}

/// The images and how each is made; the trees do not depend on who makes them.
fn images(folder: &Path) -> Vec<(&'static str, PathBuf)> {
    let [gpt, mbr] = project(folder);
    let portable = folder.join("portable");
    tree::portable(&portable);
    let plain = folder.join("tree");
    let path = |name: &str| folder.join(format!("{name}.img"));
    build(&gpt, &path("gpt"));
    build(&mbr, &path("mbr"));
    mkfs_ext4(&portable, &path("ext4"), &[]);
    mkfs_ext4(&portable, &path("ext4-dedupe"), &["--hardlinks", "dedupe", "--owner", "1000:100"]);
    mkfs_ext4(&plain, &path("ext4-fixed"), &["--size", "300MiB", "--journal=false", "--label", "fixed"]);
    mkfs_vfat(&plain.join("bin"), &path("vfat"), &["--label", "ESP"]);
    mkfs_vfat(&plain.join("bin"), &path("vfat-fixed"), &["--size", "300MiB"]);
    ["gpt", "mbr", "ext4", "ext4-dedupe", "ext4-fixed", "vfat", "vfat-fixed"]
        .into_iter()
        .map(|name| (name, path(name)))
        .collect()
}

#[test]
fn digests_of_fixture_images() {
    let folder = scratch();
    let found: String =
        images(folder.path()).iter().map(|(name, path)| format!("{} {name}\n", digest(path))).collect();
    pinned("digests.txt", &found);
}

#[test]
fn golden_maps_of_fixture_disks() {
    let folder = scratch();
    for (name, manifest) in ["gpt", "mbr"].into_iter().zip(project(folder.path())) {
        let said = must(diskwright().arg("build").arg(&manifest).arg("--dry-run"));
        assert!(!said.text().contains(folder.path().to_str().unwrap()), "paths are relative to the manifest");
        pinned(&format!("golden/disk-{name}.map"), &said.text());
    }
}
