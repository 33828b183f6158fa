//! Arbitrary bytes as two other kinds of foreign files: an EFI program that should be a unified kernel image,
//! and a derivation. An error is fine, a panic is a bug.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use diskwright::boot::{Files, Firmware, uki};
use diskwright::nix::{Closure, Store};
use libfuzzer_sys::fuzz_target;

const DERIVATION: &str = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-fuzz.drv";

static HOME: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let root = tempfile::tempdir_in(place).expect("a folder can be made");
    std::fs::create_dir_all(root.path().join("nix/store")).expect("a folder can be made");
    root
});

fuzz_target!(|data: &[u8]| {
    let file = HOME.path().join(&DERIVATION[1..]);
    std::fs::write(&file, data).expect("the input can be written");
    if let Err(error) = uki::place(&mut Files::new(), &file, "fuzz", Firmware::X64, true) {
        assert!(!error.to_string().contains('\x1b'), "an error commands the terminal");
    }
    let registration = format!("{DERIVATION}\n{:064}\n1\n\n0\n", 0);
    let mut closure = Closure::from_registration(registration.as_bytes(), Path::new("fuzz")).expect("it is one");
    if let Err(error) = closure.read_derivations(&Store::new(HOME.path())) {
        assert!(!error.to_string().contains('\x1b'), "an error commands the terminal");
    }
});
