//! Machines: systems that QEMU boots from disks that were never written, what they keep, what ends them, and the Nix that
//! describes them.

#![cfg(test)]

/// What the tests share, and `#[test]`, which counts a test whose judge is missing ([`support::left_out`]).
#[macro_use]
extern crate diskwright_testing as support;

use support::{closure, tiny};

mod boot;
mod command;
mod machine;
mod module;
mod run;
mod sandbox;
mod states;
mod tpm;
