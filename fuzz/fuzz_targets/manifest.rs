//! Arbitrary bytes as a manifest. An error is fine, a panic is a bug. A valid manifest survives a print and a
//! second read.
//!
//! No host file is touched: only manifests without contents are built, which lays out their tables.

#![no_main]

use std::path::Path;

use diskwright::disk::{Body, Work};
use diskwright::front::manifest::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let manifest = match Manifest::read(data, Path::new("fuzz.toml"), Path::new("/nonexistent")) {
        Ok(manifest) => manifest,
        Err(error) => {
            assert!(!error.to_string().contains('\x1b'), "an error commands the terminal");
            return;
        }
    };
    let canonical = manifest.canonical();
    let again = Manifest::parse(canonical.clone(), Path::new("again.json"), Path::new("/nonexistent"));
    let again = again.expect("the canonical form is a manifest");
    assert_eq!(again.canonical(), canonical);
    // A system and the contents of definitions are read from the host.
    if manifest.written.nixos.is_some() || manifest.written.repart.is_some() {
        return;
    }
    let described = match manifest.describe(Some(1), &Work::default()) {
        Ok(described) => described,
        Err(error) => {
            assert!(error.has_line(), "an error without a line: {error}");
            return;
        }
    };
    let partitions = &described.disk.partitions;
    if partitions.iter().all(|partition| matches!(partition.body, Body::Empty)) {
        match described.build(&Work { jobs: 1, ..Work::default() }) {
            Ok(built) => assert_eq!(built.report.partitions.len(), partitions.len()),
            Err(error) => assert!(error.has_line(), "an error without a line: {error}"),
        }
    }
});
