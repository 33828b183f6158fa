//! Finds the programs and files of others by the list `tests/judges`: first those that `tests/run --install`
//! unpacked below `target/judges`, then those of the machine. A test whose judge is missing is left out.

use std::path::{Path, PathBuf};

use crate::left_out::{self, INSTALL};
use crate::tools::build_folder;

/// Lines with the way of installation, the Debian package, and the name of a program or a path.
const LIST: &str = include_str!("../../judges");

/// The lines of the list: way of installation, package, and proof that it is there.
pub fn list() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    LIST.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [how, package, proof] = words[..] else { panic!("tests/judges: `{line}`") };
        (how, package, proof)
    })
}

/// Where `tests/run --install` unpacks packages.
pub fn unpacked() -> PathBuf {
    build_folder().join("judges")
}

/// The folders with programs, in the order of a search.
pub fn folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Programs of unpacked packages, which find their libraries; then PATH, and Debian's folders for the
    // administrator.
    std::iter::once(unpacked().join("bin"))
        .chain(std::env::split_paths(&path))
        .chain(["/usr/sbin".into(), "/sbin".into(), "/usr/bin".into()])
        .collect()
}

/// The path of the program `name`, if it exists.
pub fn look(name: &str) -> Option<PathBuf> {
    folders().into_iter().map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}

/// The path of the program `name`. If there is none, the test is left out.
pub fn find(name: &str) -> PathBuf {
    look(name).unwrap_or_else(|| missing(name))
}

/// The file or folder that Debian has at `path`. If there is none, the test is left out.
pub fn file(path: &str) -> PathBuf {
    let places = [unpacked().join("root").join(path.trim_start_matches('/')), path.into()];
    places.into_iter().find(|place| place.exists()).unwrap_or_else(|| missing(path))
}

/// The file of a program for another machine, and the folders of its libraries here. In `bin` of unpacked
/// packages are scripts that name those folders.
pub fn binary(name: &str) -> (PathBuf, Option<PathBuf>) {
    let found = find(name);
    if !found.starts_with(unpacked()) {
        return (found, None);
    }
    let root = unpacked().join("root");
    let folders = ["usr/bin", "usr/sbin", "bin", "sbin"].map(|folder| root.join(folder).join(name));
    let file = folders.into_iter().find(|file| file.is_file()).unwrap_or_else(|| missing(name));
    (file, Some(unpacked().join("libraries")))
}

/// The newest Debian cloud kernel and the folder of its modules and their lists. If there is none, the test
/// is left out.
pub fn kernel() -> (PathBuf, PathBuf) {
    let unpacked = unpacked().join("root");
    kernel_below(&unpacked).or_else(|| kernel_below(Path::new("/"))).unwrap_or_else(|| missing(KERNEL))
}

/// The folder with the modules of that kernel and of ZFS, as `tests/install` builds it. If there is none, the test is left
/// out.
pub fn zfs_modules() -> PathBuf {
    let (_, modules) = kernel();
    let release = modules.file_name().unwrap();
    let folder = unpacked().join("root").join(&ZFS_MODULES[1..ZFS_MODULES.find('*').unwrap()]).join(release);
    if !folder.join("modules.dep").exists() {
        missing(ZFS_MODULES);
    }
    folder
}

/// Their place in the list.
const ZFS_MODULES: &str = "/usr/lib/zfs-modules/*/modules.dep";

/// The kernel in the list.
const KERNEL: &str = "/boot/vmlinuz-*-cloud-amd64";

/// The newest one below a root.
fn kernel_below(root: &Path) -> Option<(PathBuf, PathBuf)> {
    let names = std::fs::read_dir(root.join("boot")).ok()?;
    let mut kernels: Vec<_> = names
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter_map(|name| {
            let release = name.strip_prefix("vmlinuz-").filter(|release| release.contains("cloud"))?;
            let modules = root.join("lib/modules").join(release);
            // A guest loads modules as they are, so they must not be compressed.
            let list = std::fs::read_to_string(modules.join("modules.dep")).ok()?;
            list.contains(".ko:").then(|| (root.join("boot").join(&name), modules))
        })
        .collect();
    kernels.sort();
    kernels.pop()
}

/// The hint for a missing program or path: its package.
pub fn package(name: &str) -> String {
    let package = list().find(|(_, _, proof)| *proof == name || proof.starts_with(name));
    format!("{name} of Debian's package {}", package.map_or(name, |(_, package, _)| package))
}

fn missing(name: &str) -> ! {
    left_out::leave(&package(name), INSTALL)
}
