//! Bootable disk images in user space: no root, no VM, no loop device, no mount, and the same bytes every time.

pub mod container;
pub mod error;
pub mod filesystem;
pub mod identity;
pub mod image;
pub mod progress;
pub mod table;
pub mod text;
pub mod tree;
pub mod units;
