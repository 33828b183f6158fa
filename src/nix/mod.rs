//! The formats of Nix: store paths, closures with what Nix knows of them, its database, its archive.
//!
//! Nothing here knows NixOS, disks or filesystems but [`verify`], which compares what was written with what Nix says.
//! docs/formats/nix.md lists every format with its source.
//!
//! | step | module |
//! |---|---|
//! | which store path, and where it lies on this host | [`store`] |
//! | the hash that Nix has of a store path | [`hash`] |
//! | what Nix knows of a set of store paths, from whatever it says it in | [`closure`] |
//! | the database that a Nix on the image finds | [`database`] |
//! | the archive whose hash that is | [`nar`] |
//! | whether the store paths on a disk are what they should be | [`verify`] |

pub mod closure;
pub mod database;
mod derivation;
mod graph;
pub mod hash;
pub mod nar;
mod query;
mod registration;
pub mod store;
pub mod verify;

#[cfg(test)]
mod tests;

pub use closure::{Closure, Facts};
pub use hash::NarHash;
pub use query::Nix;
pub use store::{Resolved, STORE, Store, StorePath};
