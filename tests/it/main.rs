//! The proof of whole images: trees made by code, images made by the program, and foreign judges that find no
//! fault. First the whole program, then its parts: FAT and swap, partition tables, and front ends.

#![cfg(test)]

/// What the tests share, and `#[test]`, which counts a test whose judge is missing ([`support::left_out`]).
#[macro_use]
extern crate diskwright_testing as support;

mod api;
mod architecture;
mod determinism;
mod digests;
mod disk;
mod erofs;
mod ext4;
mod ext4_forms;
mod fat;
mod faults;
mod front;
mod guest;
mod judges;
mod left_out;
mod nix_boot;
mod observed;
mod pages;
mod partitions;
mod read;
mod resize;
mod slices;
mod sources;
mod squashfs;
mod stages;
mod syscalls;
mod tables;
mod verity;
mod volumes;
mod zfs;
