//! Looking into images: what the program shows and copies, compared with the kernel's mount, coreutils, tar, and the tools
//! of each filesystem.

#![cfg(test)]

/// What the tests share, and `#[test]`, which counts a test whose judge is missing ([`support::left_out`]).
#[macro_use]
extern crate diskwright_testing as support;

mod address;
mod browser;
mod check;
mod copy;
mod damage;
mod diff;
mod ext;
mod foreign;
mod list;
mod names;
mod planted;
mod report;
