//! The proof of containers: every format with every option ([`rows::ROWS`]) holds every disk ([`samples`]), before
//! judges that know nothing of the writer.
//!
//! * `qemu-img check` has nothing to say, and `qemu-img compare` finds the bytes of the raw disk;
//! * our reader gives them back, and so do independent readers;
//! * what foreign writers make ([`foreign`]) reads as what they were given;
//! * the bytes do not depend on the number of jobs, and a change of them is a decision.
//!
//! A new format is a row of [`rows::ROWS`] and rows of [`foreign::FOREIGN`]; all general tests run over them. What is
//! particular to a format is a file of its own. A judge that is not installed fails the test that needs it.

#[cfg(test)]
mod comparators;
#[cfg(test)]
mod create;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod fit;
#[cfg(test)]
mod foreign;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod inspect;
#[cfg(test)]
mod judge;
#[cfg(test)]
mod overlay;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod pieces;
#[cfg(test)]
mod pinned;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod qcow2;
#[cfg(test)]
mod readers;
#[cfg(test)]
mod resize;
#[cfg(test)]
mod rows;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod seeds;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod strangers;
#[cfg(test)]
#[path = "../it/support/tools.rs"]
#[allow(dead_code, reason = "shared with the tests of whole images, which need more of it")]
mod tools;
#[cfg(test)]
mod trips;
#[cfg(test)]
mod vdi;
#[cfg(test)]
mod vhd;
#[cfg(test)]
mod vhdx;
#[cfg(test)]
mod vmdk;
#[cfg(test)]
mod written;
