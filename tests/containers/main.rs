//! The proof of containers: every format with every option ([`rows::ROWS`]) holds every disk ([`samples`]),
//! and judges that share nothing with the writer agree.
//!
//! * `qemu-img check` finds no fault, and `qemu-img compare` finds the bytes of the raw disk;
//! * our reader returns them, and so do independent readers;
//! * images of foreign writers ([`foreign`]) read as the disks that they were given;
//! * the bytes do not depend on the number of jobs, and a change of them is a decision.
//!
//! A new format is a row of [`rows::ROWS`] and rows of [`foreign::FOREIGN`]; all general tests run over them.
//! Tests of a single format are in a file of its own.

#![cfg(test)]

/// What the tests share, and `#[test]`, which counts a test whose judge is missing ([`support::left_out`]).
#[macro_use]
extern crate diskwright_testing as support;

use support::tools;

mod comparators;
mod create;
mod faults;
mod fit;
mod foreign;
mod hostile;
mod inspect;
mod judge;
mod overlay;
mod pages;
mod parts;
mod pinned;
mod properties;
mod qcow2;
mod readers;
mod resize;
mod rows;
mod samples;
mod seeds;
mod sources;
mod strangers;
mod trips;
mod vdi;
mod vhd;
mod vhdx;
mod vmdk;
mod written;
