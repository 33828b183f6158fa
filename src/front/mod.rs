//! The front ends: each makes a disk of what a user wrote, and turns what an error is about into
//! the line, flag or file where that was written.

pub mod manifest;
pub mod nixos;
