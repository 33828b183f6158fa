//! Arbitrary bytes as the boot.json of a system. An error is fine, a panic is a bug. If the document is
//! valid, every boot loader can be made from it or gives an error, and none of its text becomes a line of its
//! own.

#![no_main]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use diskwright::boot::grub::options::Options as Menu;
use diskwright::boot::grub::{Place, Search, config};
use diskwright::boot::{
    Content, Files, Firmware, Generations, Secrets, System, extlinux, systemd_boot,
};
use diskwright::nix::Store;
use libfuzzer_sys::fuzz_target;

const TOP: &str = "/nix/store/00000000000000000000000000000000-nixos-system-fuzz-26.05";
const KERNEL: &str = "/nix/store/11111111111111111111111111111111-linux";

/// A store with a toplevel whose boot.json is the input's, and the shortest EFI program beside it.
static HOME: LazyLock<(tempfile::TempDir, Store, PathBuf)> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let root = tempfile::tempdir_in(place).expect("a folder can be made");
    let host = |path: &str| root.path().join(&path[1..]);
    for folder in [TOP, KERNEL] {
        std::fs::create_dir_all(host(folder)).expect("a folder can be made");
    }
    for (path, text) in
        [(format!("{KERNEL}/bzImage"), "kernel"), (format!("{TOP}/init"), ""), (format!("{TOP}/system"), "x86_64-linux")]
    {
        std::fs::write(host(&path), text).expect("a file can be made");
    }
    symlink(format!("{KERNEL}/bzImage"), host(&format!("{TOP}/kernel"))).expect("a link can be made");
    let mut program = b"MZ".to_vec();
    program.resize(0x40, 0);
    program[0x3c] = 0x40;
    program.extend(b"PE\0\0\x64\x86");
    program.resize(0x40 + 24, 0);
    let loader = root.path().join("loader.efi");
    std::fs::write(&loader, program).expect("a file can be made");
    let store = Store::new(root.path());
    (root, store, loader)
});

fn no_line_of_its_own(files: &Files) {
    for (path, file) in files.iter() {
        let Content::Bytes(bytes) = &file.content else { continue };
        let text = std::str::from_utf8(bytes).expect("what loaders read is text");
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{path}: {text:?}");
    }
}

fuzz_target!(|data: &[u8]| {
    let (root, store, loader) = &*HOME;
    std::fs::write(root.path().join(&TOP[1..]).join("boot.json"), data).expect("the document can be written");
    let mut warnings = Vec::new();
    let system = match System::read(store, Path::new(TOP), Secrets::Skip, &mut warnings) {
        Ok(system) => system,
        Err(error) => return assert!(!error.to_string().contains('\x1b'), "an error commands the terminal"),
    };
    let generations = Generations::single(system, 0);
    for naming in [systemd_boot::Naming::Hash, systemd_boot::Naming::Generation] {
        let mut options = systemd_boot::Options::new(Firmware::X64, loader);
        options.naming = naming;
        if let Ok(trees) = systemd_boot::build(&generations, &options, false) {
            no_line_of_its_own(&trees.esp);
        }
    }
    if let Ok(files) = extlinux::build(store, &generations, &extlinux::Options::new()) {
        no_line_of_its_own(&files);
    }
    let place = |path: &str| Place { search: Search::Root, path: path.to_owned() };
    for menu in [Menu::new(place("/"), None), Menu::new(place("/boot"), Some(place("/nix/store")))] {
        if let Ok(files) = config::build(store, &generations, &menu) {
            no_line_of_its_own(&files);
        }
    }
});
