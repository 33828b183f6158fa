//! Machines: systems that QEMU boots from disks that were never written, what they keep, what ends them, and the Nix that
//! describes them.

#![cfg(test)]

/// What the tests share, and `#[test]`, which counts a test whose judge is missing ([`support::left_out`]).
#[macro_use]
extern crate diskwright_testing as support;

mod boot;
#[path = "../nixos/closure.rs"]
#[allow(dead_code, reason = "the systems are used here, and not all that images them")]
mod closure;
mod command;
mod machine;
mod module;
mod run;
mod sandbox;
mod states;
#[path = "../nixos/tiny.rs"]
#[allow(dead_code, reason = "machines need fewer kinds of systems than images")]
mod tiny;
mod tpm;
