//! Real Nix: packages of Debian to build from, a store of its own, and the program in the form that a sandbox
//! needs.

use std::path::Path;
use std::process::Command;

use super::guest::libraries;
use super::left_out;
use super::tools::{command, is_root, must, names_in, own_mounts, run, scratch};

/// The packages of these names in `folder`, downloaded once, each as PACKAGE.deb; the kernel as linux-image.deb.
pub fn packages(folder: &Path, names: &[&str]) {
    need_sandbox();
    let mut wanted: Vec<(String, &str)> = names.iter().map(|name| ((*name).to_owned(), *name)).collect();
    let said = must(command("apt-cache").args(["depends", "--important", "linux-image-cloud-amd64"]));
    let kernel =
        said.text().lines().find_map(|line| line.trim().strip_prefix("Depends: ").map(str::to_owned));
    wanted.push((kernel.expect("linux-image-cloud-amd64 depends on a kernel"), "linux-image"));
    for (package, name) in wanted {
        let file = folder.join(format!("{name}.deb"));
        if !file.exists() {
            download(&package, &file);
        }
    }
}

/// Ends this test if Nix can have no sandbox.
fn need_sandbox() {
    own_mounts(&["--pid", "--fork"], "the sandbox of Nix");
}

/// Downloads a package. If the lists are older than the archive, root renews them first.
fn download(package: &str, file: &Path) {
    let folder = scratch();
    let mut fetch = command("apt-get");
    fetch.args(["download", "-q", package]).current_dir(folder.path());
    let mut said = run(&mut fetch);
    if said.code != 0 && is_root() {
        must(command("apt-get").args(["update", "-q"]));
        said = run(&mut fetch);
    }
    if said.code != 0 {
        left_out::leave(
            &format!("Debian's package {package}, to build from"),
            "a network, and apt-get update as root",
        );
    }
    let found = names_in(folder.path());
    keep(&folder.path().join(&found[0]), file);
}

/// Copies `from` to `to`, while others may do the same or read it: the copy appears complete or not at all.
pub fn keep(from: &Path, to: &Path) {
    let unfinished = tempfile::NamedTempFile::new_in(to.parent().unwrap()).unwrap();
    std::fs::copy(from, unfinished.path()).unwrap();
    unfinished.persist(to).unwrap();
}

/// diskwright and its libraries in one folder, as a sandbox without a system needs them.
pub fn program(folder: &Path) {
    let diskwright = super::program::path();
    std::fs::create_dir(folder).unwrap();
    std::fs::copy(&diskwright, folder.join("diskwright")).unwrap();
    for library in libraries(&diskwright) {
        let name = Path::new(&library).file_name().unwrap();
        std::fs::copy(&library, folder.join(name)).unwrap();
    }
}

/// A command of Nix on the store below `root`, whose paths are called /nix/store/... all the same.
pub fn nix(name: &str, root: &Path, home: &Path) -> Command {
    let mut command = command(name);
    command
        .env("NIX_REMOTE", root)
        .env("HOME", home)
        // No binary caches, which would need a network. No build users, because the sandbox maps one. No
        // /dev/kvm in the sandbox, which every build on a host with KVM would otherwise see. Kept builds also
        // keep their inputs.
        .env(
            "NIX_CONFIG",
            "substituters =\nsystem-features =\nsandbox = true\nbuild-users-group =\nmax-jobs = 2\nkeep-outputs = true\n",
        );
    command
}
