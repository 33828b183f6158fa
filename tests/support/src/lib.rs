//! What the integration tests share: trees, judges, and the machines that judge.
//!
//! A judge is a program of others. If it is missing on this machine, the test that needs it is left out and
//! counted ([`left_out`]). Nothing here shares code with the program under test.

/// `#[test]`, whose body may be left out. A test crate has it for all its tests by `#[macro_use] extern crate`.
pub use diskwright_testing_attribute::test;

pub mod closure;
pub mod compare;
pub mod cpio;
pub mod debugfs;
pub mod dice;
pub mod erofs;
pub mod ext4;
pub mod fat;
pub mod guest;
pub mod judges;
pub mod kernel;
pub mod left_out;
pub mod nar;
pub mod nix;
mod numbers;
pub mod pieces;
pub mod pinned;
pub mod program;
pub mod random;
pub mod reads;
pub mod snapshot;
pub mod squashfs;
pub mod table;
pub mod tiny;
pub mod tools;
pub mod tree;
pub mod zfs;
