//! Any bytes as a manifest: an error is fine, a panic is a bug, and what is understood survives being said again.
//!
//! No host file is touched: only manifests without contents are built, which lays out their tables.

#![no_main]

use std::path::Path;

use diskwright::disk::{self, Options};
use diskwright::front::manifest::Manifest;
use diskwright::front::manifest::resolve::{Body, resolve};
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
    let disk = match resolve(&manifest, Some(1)) {
        Ok(disk) => disk,
        Err(error) => {
            assert!(error.has_line(), "an error without a line: {error}");
            return;
        }
    };
    if disk.partitions.iter().all(|partition| matches!(partition.body, Body::Empty)) {
        match disk::build(&manifest, &Options { jobs: 1, ..Options::default() }) {
            Ok(built) => assert_eq!(built.report.partitions.len(), disk.partitions.len()),
            Err(error) => assert!(error.has_line(), "an error without a line: {error}"),
        }
    }
});
