//! Bootable disk images in user space: no root, no VM, no loop device, no mount, and the same bytes every time.
//!
//! One idea carries everything: an [`Image`](image::Image) is a length plus sorted, non-overlapping, labelled segments,
//! each of them rendered bytes or a range of a host file. What no segment covers is a hole and reads as zero.
//!
//! ```text
//! manifest ─► Tree per filesystem ─► filesystem Image ─┐
//!             (scan, in parallel)     (pure sums)       ├─► disk Image ─► container ─► file (poured in parallel)
//!                                     partition table ──┘   (pure)
//! ```
//!
//! | step | room |
//! |---|---|
//! | what the user wrote, and what it means | [`front`] |
//! | names and metadata of one filesystem, without a byte of file data | [`disk::contents`], [`tree`] |
//! | what a boot loader needs, as files and boot code | [`boot`] |
//! | the bytes of a filesystem, of a partition table | [`filesystem`], [`table`] |
//! | every id that nobody gave | [`identity`] |
//! | the composition, which alone knows the other rooms | [`disk`] |
//! | the picture of a disk, and pouring it into a file | [`image`], [`pour`] |
//! | the file formats it is poured in, from one to another, and what is in one | [`container`], [`convert`], [`inspect`] |
//! | the formats of Nix: closures, its database, its archive | [`nix`] |
//! | what was built, for people and machines | [`disk::report`] |
//! | the program | [`cli`] |
//!
//! # Example
//!
//! ```
//! use std::path::Path;
//!
//! use diskwright::disk::{self, Options};
//! use diskwright::front::manifest::Manifest;
//!
//! let text = r#"
//!     version = 1
//!
//!     [[partition]]
//!     type = "linux"
//!     label = "data"
//!     filesystem = { type = "ext4", label = "data", free = "1MiB" }
//!     contents = [ { text = "hello\n", target = "/greeting" } ]
//! "#;
//! // Relative paths of a manifest begin at its folder; `Manifest::load` reads a file.
//! let manifest = Manifest::parse(text.to_owned(), Path::new("disk.toml"), Path::new("."))?;
//! let disk = disk::build(&manifest, &Options::default())?;
//!
//! // Everything is decided and nothing is written: the disk can be looked at and read.
//! assert_eq!(disk.report.partitions[0].offset, 1 << 20);
//! let mut signature = [0; 8];
//! disk.image.read(512, &mut signature)?;
//! assert_eq!(&signature, b"EFI PART");
//! # Ok::<(), diskwright::error::Error>(())
//! ```
//!
//! [`disk::Built::write`] pours it into a file, which appears under its name when it is complete.

pub mod boot;
mod calendar;
pub mod cli;
pub mod container;
pub mod convert;
pub mod disk;
pub mod error;
pub mod filesystem;
pub mod front;
pub mod host;
pub mod identity;
pub mod image;
pub mod inspect;
pub mod nix;
mod numbers;
pub mod pour;
pub mod progress;
#[doc(hidden)]
pub mod structures;
pub mod table;
pub mod text;
pub mod tree;
pub mod units;
pub mod wire;
