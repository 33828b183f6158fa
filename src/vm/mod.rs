//! Machines: a system in QEMU, from a disk that was never written.
//!
//! | part | module |
//! |---|---|
//! | the description, as keys and flags | [`Machine`], `device` |
//! | the variables of the environment, and texts that name some | [`Environment`], `expansion` |
//! | the disks: what is served, and the empty root | `disks` |
//! | their digest, and the folder that is named by it | [`base`], [`state`] |
//! | the files that a machine writes | `overlay` |
//! | folders of the host | `share` |
//! | a TPM | `tpm` |
//! | credentials of systemd | `credential` |
//! | the command of QEMU, as data | [`Command`], [`Plan`] |
//! | the machine while it runs | `run` |
//! | the script that runs it | [`script`] |
//!
//! A plan reads the system and writes nothing. What it serves exists only as a layout: QEMU reads it from this process by NBD
//! over a connection that it inherits. docs/vm.md explains the rest.

pub mod base;
mod command;
mod credential;
mod device;
mod disks;
mod environment;
mod expansion;
mod machine;
mod overlay;
mod plan;
mod run;
pub mod script;
mod share;
pub mod state;
mod tpm;
mod words;

pub use crate::helper::Accel;
pub use command::Command;
pub use device::{By, Credential, Drive, EmptyDisk, Options, Share};
pub use environment::Environment;
pub use machine::{Interface, Machine, Mode, ShareBy, StoreType};
pub use plan::{Around, Plan};
pub use run::{Tell, WorkFolder};
