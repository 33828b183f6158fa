//! Pinned digests and golden text maps of fixture images: a change of bytes is a decision.
//!
//! `DISKWRIGHT_BLESS=1` writes the present values into fixtures; the difference belongs in the commit.

use std::path::{Path, PathBuf};

use crate::support::pinned::pinned;
use crate::support::program::{
    build, diskwright, mkfs_erofs, mkfs_ext4, mkfs_squashfs, mkfs_vfat, mkfs_zfs, project,
};
use crate::support::tools::{digest, must, scratch};
use crate::support::tree;

/// The images and how each is made; the trees do not depend on the user.
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
    mkfs_erofs(&portable, &path("erofs"), &[]);
    mkfs_erofs(&portable, &path("erofs-lz4"), &["--compress", "lz4"]);
    mkfs_erofs(
        &portable,
        &path("erofs-lz4hc"),
        &["--compress", "lz4hc", "--chunk", "16KiB", "--label", "lz4hc"],
    );
    mkfs_erofs(&portable, &path("erofs-zstd"), &["--compress", "zstd", "--level", "19", "--chunk", "1MiB"]);
    for compress in ["zstd", "gzip", "xz", "lz4", "none"] {
        mkfs_squashfs(&portable, &path(&format!("squashfs-{compress}")), &["--compress", compress]);
    }
    for compress in ["lz4", "zstd-3", "gzip-6", "zle", "off"] {
        mkfs_zfs(&portable, &path(&format!("zfs-{compress}")), &["--compress", compress]);
    }
    let names = [
        "gpt",
        "mbr",
        "ext4",
        "ext4-dedupe",
        "ext4-fixed",
        "vfat",
        "vfat-fixed",
        "erofs",
        "erofs-lz4",
        "erofs-lz4hc",
        "erofs-zstd",
        "squashfs-zstd",
        "squashfs-gzip",
        "squashfs-xz",
        "squashfs-lz4",
        "squashfs-none",
        "zfs-lz4",
        "zfs-zstd-3",
        "zfs-gzip-6",
        "zfs-zle",
        "zfs-off",
    ];
    names.into_iter().map(|name| (name, path(name))).collect()
}

#[test]
fn digests_of_fixture_images() {
    let folder = scratch();
    let found: String =
        images(folder.path()).iter().map(|(name, path)| format!("{} {name}\n", digest(path))).collect();
    pinned("digests.txt", &found);
}

#[test]
fn golden_maps_of_erofs() {
    let folder = scratch();
    project(folder.path());
    for (name, arguments) in [("erofs", &[][..]), ("erofs-zstd", &["--compress", "zstd"])] {
        let mut command = diskwright();
        command.args(["mkfs", "erofs"]).arg(folder.path().join("tree")).args(["--dry-run", "--map"]);
        let said = must(command.args(arguments));
        pinned(&format!("golden/{name}.map"), &said.text());
    }
}

#[test]
fn golden_maps_of_fixture_disks() {
    let folder = scratch();
    for (name, manifest) in ["gpt", "mbr"].into_iter().zip(project(folder.path())) {
        let said = must(diskwright().arg("build").arg(&manifest).args(["--dry-run", "--map"]));
        assert!(!said.text().contains(folder.path().to_str().unwrap()), "paths are relative to the manifest");
        pinned(&format!("golden/disk-{name}.map"), &said.text());
    }
}

#[test]
fn golden_map_of_a_zfs_pool() {
    let folder = scratch();
    let source = folder.path().join("tree");
    tree::plain(&source);
    let mut command = diskwright();
    command.args(["mkfs", "zfs", "--dry-run", "--map"]).arg(&source);
    let map = must(&mut command).text().replace(&*source.to_string_lossy(), "tree");
    pinned("golden/zfs-lz4.map", &map);
}

#[test]
fn golden_map_of_a_squashfs() {
    let folder = scratch();
    let source = folder.path().join("tree");
    tree::plain(&source);
    let map = |compress: &str| {
        let mut command = diskwright();
        command.args(["mkfs", "squashfs", "--compress", compress, "--dry-run", "--map"]).arg(&source);
        must(&mut command).text().replace(&*source.to_string_lossy(), "tree")
    };
    pinned("golden/squashfs-zstd.map", &map("zstd"));
    pinned("golden/squashfs-none.map", &map("none"));
}
