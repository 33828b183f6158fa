//! The formats of Nix: store paths, closures with what Nix knows about them, its database, its archive.
//!
//! This module knows neither NixOS nor disks nor filesystems, except [`verify`], which compares what was
//! written with what Nix knows. docs/formats/nix.md lists every format with its source.
//!
//! | part | module |
//! |---|---|
//! | store paths, and their places on this host | [`store`] |
//! | the hash that Nix has of a store path | [`hash`] |
//! | a set of store paths with what Nix knows about them, from any of its formats | [`closure`] |
//! | the database that a Nix on the image finds | [`database`] |
//! | the archive of a store path, which is hashed | [`nar`] |
//! | whether the store paths on a disk are right | [`verify`] |

pub mod closure;
pub mod database;
mod derivation;
mod graph;
pub mod hash;
pub mod nar;
mod query;
mod registration;
mod reread;
pub mod store;
pub mod verify;

#[cfg(test)]
mod tests;

pub use closure::{Closure, Facts};
pub use hash::NarHash;
pub use query::Nix;
pub use store::{Resolved, STORE, Store, StorePath};
