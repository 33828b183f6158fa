//! The public API of the library is the pinned one: a change of it is a decision, and a line in the changelog.
//! `DISKWRIGHT_BLESS=1 cargo test --test it api` writes it anew.

use std::path::Path;
use std::process::Command;

use crate::support::left_out;
use crate::support::pinned::pinned;
use crate::support::tools::{build_folder, must};

/// The version of Rust whose rustdoc the crate public-api reads, and that CI has.
const RUST: &str = "1.95";

#[test]
fn the_public_api_is_the_pinned_one() {
    let rustdoc = std::env::var_os("RUSTDOC").unwrap_or_else(|| "rustdoc".into());
    let version = must(Command::new(&rustdoc).arg("--version")).text();
    if !version.starts_with(&format!("rustdoc {RUST}.")) {
        left_out::leave("the list of the public API", &format!("rustup toolchain install {RUST}"));
    }
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut cargo = Command::new(std::env::var_os("CARGO").expect("cargo runs the tests"));
    cargo.args(["doc", "--quiet", "--offline", "--lib", "--no-deps", "--all-features", "--target-dir"]);
    cargo.arg(build_folder()).current_dir(package).env_remove("RUSTDOCFLAGS");
    must(cargo.env("RUSTDOC", package.join("tests/rustdoc-json")).env("RUSTDOC_BELOW", rustdoc));
    let api = public_api::Builder::from_rustdoc_json(build_folder().join("doc/diskwright.json"))
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .unwrap();
    pinned("public-api.txt", &api.to_string());
}
