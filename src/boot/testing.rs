//! Systems for the tests of this module.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::bootspec::System;
use super::source::Source;

/// A file of a store whose root is `/host`.
pub(super) fn source(path: &str) -> Source {
    let path = format!("/nix/store/{path}");
    Source { host: PathBuf::from(format!("/host{path}")), path }
}

/// A system called `name` with a kernel and an initrd that all systems share.
pub(super) fn system(name: &str) -> System {
    let toplevel = format!("/nix/store/00000000000000000000000000000000-nixos-system-{name}-24.05");
    System {
        system: "x86_64-linux".to_owned(),
        label: "NixOS 24.05 (Linux 6.6.30)".to_owned(),
        init: format!("{toplevel}/init"),
        kernel: source("11111111111111111111111111111111-linux-6.6.30/bzImage"),
        initrd: Some(source("22222222222222222222222222222222-initrd-linux-6.6.30/initrd")),
        kernel_params: vec!["loglevel=4".to_owned(), "quiet".to_owned()],
        sort_key: "nixos".to_owned(),
        devicetree: None,
        extra_initrds: Vec::new(),
        dtbs: None,
        xen: None,
        version: "24.05".to_owned(),
        configuration_name: None,
        specialisations: BTreeMap::new(),
        toplevel,
    }
}
