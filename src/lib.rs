//! Bootable disk images in user space: no root, no VM, no loop device, no mount, and the same bytes every time.
//!
//! One idea carries everything. An [`Image`](image::Image) is a length plus sorted, non-overlapping, labelled
//! segments. Each segment is ready bytes, rendered bytes, or a range of a host file. What no segment covers
//! is a hole and reads as zero.
//!
//! ```text
//! front ends                          stages                                                         ends
//! manifest, mkfs,  ─►  disk::Disk ─►  scan ─► pack ─► size ─► place ─► digest ─► name ─►  Image ─►  container ─► file
//! nixos, repart,                      threads threads  pure    pure    threads   pure               pure         threads
//! boot, you
//! ```
//!
//! | what | module |
//! |---|---|
//! | a disk as it is to be, and how it becomes an image | [`disk`] |
//! | what users write, made such a disk | [`front`] |
//! | names and metadata of one filesystem, without a byte of file data | [`tree`] |
//! | the bytes of a filesystem, and filesystems that can be read | [`filesystem`] |
//! | the bytes of a partition table, and tables that can be read | [`table`] |
//! | the picture of a disk, its slices, and cursors that read it | [`image`] |
//! | threads and output: pour, stream, ordered pipeline, spool, digests | [`pour`] |
//! | the file formats it is written in, from one to another, larger, and what is in one | [`container`], [`convert`], [`mod@resize`], [`inspect`] |
//! | a system in QEMU, from a disk that was never written | [`vm`] |
//! | a VM that does what only a kernel can | [`helper`] |
//! | images over NBD, without writing them | [`serve`] |
//! | names, metadata and bytes of the files in any image | [`look`] |
//! | hashes of dm-verity, and signatures of their roots | [`verity`] |
//! | what a boot loader needs, as files and boot code | [`boot`] |
//! | what a disk is packed into for its way somewhere | [`package`] |
//! | archives as contents: tar, cpio, images of containers | [`archive`] |
//! | the formats of Nix: closures, its database, its archive | [`nix`] |
//! | every id that nobody gave | [`identity`] |
//! | on-disk structures, each declared once | [`wire`] |
//! | files and programs of the host | [`host`] |
//!
//! # Example
//!
//! ```
//! use std::path::Path;
//!
//! use diskwright::container::{Container, Format};
//! use diskwright::disk::{Contents, Disk, Partition, Work};
//! use diskwright::filesystem::{ext4, fat};
//! use diskwright::identity::Seed;
//! use diskwright::table::Type;
//! use diskwright::units::Bytes;
//! use diskwright::uuid::uuid;
//!
//! # let folder = tempfile::tempdir()?;
//! # let (rootfs, out) = (folder.path().join("rootfs"), folder.path().join("disk.qcow2"));
//! # std::fs::create_dir(&rootfs)?;
//! let esp = Contents::new().file("/EFI/BOOT/BOOTX64.EFI", *b"a boot loader");
//! let root = Contents::new().folder(&rootfs, "/").file("/etc/hostname", *b"trial\n");
//! let disk = Disk::gpt(Seed::new(uuid!("0867da16-f251-457d-a9e8-c31f9a3c220b")))
//!     .partition(Partition::new(Type::ESP).label("ESP").size(Bytes::mib(64)).filesystem(fat::Options::default(), esp))
//!     .partition(Partition::new(Type::LINUX).label("root").filesystem(ext4::Options::default(), root));
//! let work = Work { container: Container::of(Format::Qcow2), ..Work::default() };
//! let built = disk.build(&work)?;
//! // Everything is decided and nothing is written: the disk can be looked at and read.
//! let mut signature = [0; 8];
//! built.image.read(512, &mut signature)?;
//! assert_eq!(&signature, b"EFI PART");
//! // It appears under its name when it is complete.
//! built.write(&out, &work)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The features are `cli` (the program's command line), `nix-database` (SQLite), `verity-sign` (RSA signatures) and `zstd`
//! (the C library). Without default features the library is pure Rust.

pub mod archive;
pub mod boot;
mod calendar;
#[cfg(feature = "cli")]
pub mod cli;
pub mod container;
pub mod convert;
pub mod disk;
mod encoding;
pub mod error;
pub mod filesystem;
pub mod front;
pub mod helper;
pub mod host;
pub mod identity;
pub mod image;
pub mod inspect;
pub mod key;
pub mod look;
pub mod nix;
mod numbers;
pub mod option;
pub mod package;
mod pattern;
pub mod pour;
pub mod progress;
pub mod resize;
pub mod serve;
#[doc(hidden)]
pub mod structures;
pub mod table;
pub mod text;
pub mod tree;
pub mod units;
pub mod values;
pub mod verity;
pub mod vm;
pub mod wire;

pub use uuid;
