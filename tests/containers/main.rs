//! The proof of containers: every format with every option ([`rows::ROWS`]) holds every disk ([`samples`]), before
//! judges that know nothing of the writer.
//!
//! * `qemu-img check` has nothing to say, and `qemu-img compare` finds the bytes of the raw disk;
//! * our reader gives them back, and so do independent readers;
//! * what foreign writers make ([`foreign`]) reads as what they were given;
//! * the bytes do not depend on the number of jobs, and a change of them is a decision.
//!
//! A new format is a row of [`rows::ROWS`] and rows of [`foreign::FOREIGN`]; all general tests run over them. What is
//! particular to a format is a file of its own.

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
mod pinned;
mod properties;
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
