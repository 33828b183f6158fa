//! Looks into an image: names, metadata and bytes of the files in it, without a mount and without privileges.
//!
//! An [`Address`] names an image, a partition and a path. A [`Medium`] is an open image with its partition table, and a
//! [`Part`] is the partition, or the whole disk, that an address names. [`find()`] follows a path in a volume, [`expand`] a
//! pattern, and [`walk()`] visits a whole tree. On these stand [`list`], [`copy`], [`diff`],
//! [`check`] and [`report`].
//!
//! An image may come from anybody. So a path never leaves its volume, a tree with a loop is an error, and a copy never
//! writes outside its folder.

mod address;
mod capability;
pub mod check;
pub mod copy;
pub mod diff;
mod find;
mod glob;
pub mod list;
mod medium;
pub mod report;
mod walk;

pub use address::Address;
pub use find::{Item, Last, find};
pub use glob::{expand, is_pattern, matches};
pub use medium::{Medium, Part};
pub use walk::{Step, walk};
