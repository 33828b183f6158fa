//! The proof of the server: what it serves is what `build` writes, clients of others read it, and no client can
//! disturb another.
//!
//! | part | file |
//! |---|---|
//! | libnbd, QEMU, nbdkit, a crate, the kernel by way of FUSE | [`clients`] |
//! | QEMU's storage daemon and what reads it, Linux's own client | [`daemon`] |
//! | every manifest and format of the fixtures, byte for byte | [`same`] |
//! | sockets, activation, descriptors, commands, signals | [`ways`] |
//! | sources that change | [`changed`] |
//! | clients that mean harm | [`hostile`] |
//! | what is refused | [`refused`] |

#![cfg(test)]

/// What the tests share, and `#[test]`, which counts a test whose judge is missing ([`support::left_out`]).
#[macro_use]
extern crate diskwright_testing as support;

use support::tools;

mod changed;
mod clients;
mod daemon;
mod hostile;
mod refused;
mod same;
mod served;
mod talk;
mod ways;
