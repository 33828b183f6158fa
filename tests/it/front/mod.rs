//! The front ends: errors of bad manifests, the meaning of good ones, and the program as a process.

mod bench;
mod cases;
mod existing;
mod faults;
mod keys;
mod layouts;
mod manifest;
mod mkfs;
mod repart;
mod schema;
mod spelling;
mod terminal;
mod usage;
