//! A helper VM: a Linux kernel in QEMU that does what only a kernel can, such as a pool of ZFS on several disks.
//!
//! | part | module |
//! |---|---|
//! | keys and flags | [`Options`] |
//! | the kernel, its modules and the programs: where they are | `find` |
//! | the libraries of a program | `elf` |
//! | modules in the order of their dependencies | `modules` |
//! | what the machine starts with | `initrd`, `cpio` |
//! | QEMU, and what the machine says | `machine`, `program` |
//! | the work of the machine, as data | `job` |
//! | the first process of the machine, which does the work | [`guest`] |
//!
//! The machine needs nothing but a kernel, modules and the programs of the work: its first process is this program. What it
//! copies comes from a disk that this process serves and nobody wrote; what it writes are files without a name. So nothing is
//! left behind, however it ends.

mod cpio;
mod elf;
mod find;
pub mod guest;
mod initrd;
pub(crate) mod job;
mod machine;
mod modules;
mod options;
pub(crate) mod program;

pub(crate) use find::Need;
pub(crate) use machine::{Disk, Helper, PAYLOAD};
pub use options::{Accel, Options};
