//! What comes in and goes out in archives: tar, images of containers and cpio as contents, compared with what the programs
//! that they come from unpack; packages of disks, and data outside of partitions, each before a reader of others.

#![cfg(test)]

/// What the tests share, and `#[test]`, which counts a test whose judge is missing ([`support::left_out`]).
#[macro_use]
extern crate diskwright_testing as support;

mod boot;
mod cpio;
mod device;
mod genimage;
mod hostile;
mod laid;
mod mounts;
mod oci;
mod outputs;
mod packages;
mod raw;
mod tables;
mod tar;

use std::path::{Path, PathBuf};

use crate::support::program::diskwright;
use crate::support::tools::{Said, command, must, run};

/// `diskwright mkfs ext4 SOURCE -o OUT` with further arguments.
fn mkfs(source: &Path, out: &Path, arguments: &[&str]) -> Said {
    run(diskwright().args(["mkfs", "ext4"]).arg(source).arg("-o").arg(out).args(arguments))
}

/// The same; it must succeed.
fn made(source: &Path, out: &Path, arguments: &[&str]) -> Said {
    let said = mkfs(source, out, arguments);
    assert_eq!(said.code, 0, "{}", said.error());
    said
}

/// `tar -C FOLDER ARGUMENTS`.
fn gnu_tar(folder: &Path, arguments: &[&str]) -> Said {
    must(command("tar").arg("-C").arg(folder).args(arguments))
}

/// Unpacks a tar as it says, owners and attributes included.
fn unpacked(archive: &Path, folder: &Path, name: &str) -> PathBuf {
    let top = folder.join(name);
    std::fs::create_dir(&top).unwrap();
    let archive = archive.to_str().unwrap();
    let flags =
        ["--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "--same-owner", "-xpf", archive];
    gnu_tar(&top, &flags);
    top
}
