//! The front end of systemd-repart: definitions in `*.conf` files or in a manifest, and what its command line says.
//!
//! | step | module |
//! |---|---|
//! | the syntax of a file, its values, its specifiers | `ini`, `value`, `specifier` |
//! | files with drop-ins, every key, what fits together | `read`, `keys`, `definition`, `check` |
//! | paths below a root, targets behind links | `inside`, `targets` |
//! | what a type is to systemd, what changed between its releases | `kind`, [`Level`] |
//! | ids, labels, attributes, slots; sizes | `plan` |
//! | who gets how much of the disk, as sums | `allocate` |
//! | an image that is there already | `existing` |
//! | what a partition holds, what boots, and the [`Disk`](crate::disk::Disk) | `body`, `boot`, `make` |
//! | JSON and tables, split files, fstab | [`Outcome`] |
//! | an ISO 9660 that leads to the ESP | [`ElTorito`] |
//! | the section of a manifest | [`Section`] |
//!
//! docs/repart.md says what is equal to systemd-repart and what differs.

mod allocate;
mod body;
mod boot;
mod check;
mod ddi;
mod definition;
mod existing;
mod ini;
mod inside;
mod keys;
mod kind;
mod level;
mod locator;
mod make;
mod measure;
mod nix;
mod options;
mod outcome;
mod plan;
mod read;
mod section;
mod specifier;
mod split;
mod supplement;
mod tabs;
mod targets;
mod torito;
mod value;
mod verity;

pub use ddi::Ddi;
pub use level::Level;
pub use make::{Finished, Prepared, can_factory_reset, prepare};
pub use options::{Empty, Options, Size};
pub use outcome::{Activity, Outcome, Row};
pub use section::{Context, Joined, Section, Sections, Setting, describe};
pub use split::Split;
pub use tabs::{Joining, fstab};
pub use torito::ElTorito;
pub use verity::Signing;

use crate::units::Bytes;

/// Where `path` leads to inside `root`, whose links mean paths of that root; `None` where that is nothing.
#[cfg(feature = "cli")]
pub(crate) fn follow_inside(
    root: &std::path::Path,
    path: &std::path::Path,
) -> crate::error::Result<Option<std::path::PathBuf>> {
    inside::find(Some(root), path)
}

/// A size as systemd writes it: `64M`, `1.5G`; powers of 1024. `None` where the text is no size.
#[must_use]
pub fn parse_size(text: &str) -> Option<Bytes> {
    value::size(text)
}

/// A whole number as systemd reads it: `512`, `0x200`, … `None` where the text is no number of 32 bits.
#[must_use]
pub fn parse_number(text: &str) -> Option<u32> {
    value::number(text).and_then(|number| u32::try_from(number).ok())
}

/// A truth value as systemd reads it: `yes`, `no`, `true`, `0`, … `None` where the text is no truth value.
#[must_use]
pub fn parse_boolean(text: &str) -> Option<bool> {
    value::boolean(text)
}
