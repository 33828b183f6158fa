//! systemd-repart 262.1 and the program under its name: the same command lines, the same disks.

#![cfg(test)]

/// What the tests share, and `#[test]`, which counts a test whose judge is missing ([`support::left_out`]).
#[macro_use]
extern crate diskwright_testing as support;

mod boot;
mod cases;
mod contents;
mod existing;
mod manifest;
mod refusals;
mod run;
mod values;
mod verity;
