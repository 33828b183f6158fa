//! NixOS systems: a closure that real Nix builds in its sandbox from Debian's packages, imaged in every
//! layout. Judges are the tools of the formats, Nix itself on the written root, and a boot.

#![cfg(test)]

/// What the tests share, and `#[test]`, which counts a test whose judge is missing ([`support::left_out`]).
#[macro_use]
extern crate diskwright_testing as support;

use support::{closure, tiny};

mod boot;
mod contents;
mod digests;
mod formats;
mod function;
mod layouts;
mod loaders;
mod refusals;
mod repart;
mod root;
mod same;
mod sandbox;
mod strange;
mod zfs;
