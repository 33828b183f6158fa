//! Joins the manifest with the front ends that have a section in it. The manifest reads a section and places its errors; what
//! the section means is known to its own front end alone.

use std::path::PathBuf;

use super::{Dates, Description, nixos};
use crate::container::Settings;
use crate::error::Result;
use crate::identity::Seed;
use crate::progress::Progress;
use crate::values::DiskId;

/// The section of a NixOS system.
pub(super) use nixos::Section as System;

/// What the rest of a manifest says to a section.
#[derive(Debug)]
pub(super) struct Around {
    /// The seed of ids.
    pub(super) seed: Seed,
    /// GUID or signature of the disk, if it is given.
    pub(super) id: Option<DiskId>,
    /// The times in a filesystem.
    pub(super) dates: Dates,
    /// The folder at which relative paths begin.
    pub(super) folder: PathBuf,
    /// The settings of the output file.
    pub(super) settings: Settings,
    /// May ask to stop.
    pub(super) progress: Progress,
}

/// The disk of a NixOS system. Errors name keys of the section.
pub(super) fn system(system: &System, around: Around) -> Result<Description> {
    let Around { seed, id, dates, folder, settings, progress } = around;
    nixos::describe(system, &nixos::Context { seed, id, dates, folder, settings, progress })
}
