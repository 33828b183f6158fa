//! Joins the manifest with the front ends that have a section in it. The manifest reads a section and places its errors; what
//! the section means is known to its own front end alone.

use super::{nixos, repart};

/// The section of a NixOS system, what the rest of a manifest says to it, and the disk of the system. Errors name keys of
/// the section.
pub(super) use nixos::{Context as Around, Section as System, describe as system};
/// The section of a disk that definitions of systemd-repart describe.
pub(super) use repart::{Context as AroundRepart, Section as Repart, describe as repart};
