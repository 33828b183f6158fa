//! Boot loaders as pure generation of files: from the systems that boot to the files of a boot filesystem,
//! and for GRUB with a BIOS also to the code outside of filesystems.
//!
//! Nothing is installed here: no device is opened, and no variable of the firmware is set. A loader is a
//! function from [`Generations`] to [`Files`], and the front end puts those into a tree. The only program
//! that runs is grub-mkimage, which turns files into a file. docs/formats/boot.md lists every file with its
//! source.
//!
//! | part | module |
//! |---|---|
//! | the files of a system, wherever its root is on the host | [`source`] |
//! | the systems, from `boot.json` or the files beside it | [`bootspec`] |
//! | the systems in the menu | [`generations`] |
//! | an entry of a menu, for a system of any kind | [`entry`](mod@entry) |
//! | the files of a loader | [`systemd_boot`], [`grub`], [`extlinux`], [`limine`], [`uki`] |
//! | their places | [`files`] |

pub mod architecture;
pub mod bootspec;
mod embedding;
pub mod entry;
pub mod extlinux;
pub mod files;
pub mod generations;
pub mod grub;
pub mod limine;
pub(crate) mod pe;
pub mod source;
pub mod systemd_boot;
#[cfg(test)]
mod testing;
mod timeout;
pub mod uki;

pub use architecture::Firmware;
pub use bootspec::{Secrets, System};
pub use embedding::{Area, BOOT_CODE, Embedding};
pub use entry::Entry;
pub use files::{Content, Files};
pub use generations::{Generation, Generations};
pub use source::Source;
pub use timeout::Timeout;
