//! Bootable disk images in user space: no root, no VM, no loop device, no mount, and the same bytes every time.

pub mod cli;
pub mod container;
pub mod contents;
pub mod convert;
pub mod disk;
pub mod error;
pub mod filesystem;
pub mod identity;
pub mod image;
pub mod inspect;
pub mod manifest;
mod numbers;
pub mod progress;
pub mod report;
pub mod table;
pub mod text;
pub mod tree;
pub mod units;
