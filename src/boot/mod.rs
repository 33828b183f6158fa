//! Boot loaders as pure file generation: from what boots to the files of a boot filesystem, and for GRUB under a BIOS to
//! the code before them.
//!
//! Nothing is installed here: no device is opened, no variable of the firmware is set. A loader is a function from
//! [`Generations`] to [`Files`], and the composition puts those into a tree. The one program that runs is grub-mkimage,
//! from file to file. docs/formats/boot.md lists every file with its source.
//!
//! | step | module |
//! |---|---|
//! | the files of a system, whatever the host's root is | [`source`] |
//! | what boots, from `boot.json` or the files beside it | [`bootspec`] |
//! | which systems the menu shows | [`generations`] |
//! | the files of a loader | [`systemd_boot`], [`grub`], [`extlinux`], [`uki`] |
//! | where they stand | [`files`] |

pub mod architecture;
pub mod bootspec;
pub mod extlinux;
pub mod files;
pub mod generations;
pub mod grub;
mod pe;
pub mod source;
pub mod systemd_boot;
#[cfg(test)]
mod testing;
mod timeout;
pub mod uki;

pub use architecture::Firmware;
pub use bootspec::{Secrets, System};
pub use files::{Content, Files};
pub use generations::{Generation, Generations};
pub use source::Source;
pub use timeout::Timeout;
