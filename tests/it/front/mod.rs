//! The front of the house: what bad manifests get, what manifests come to, and the program as a process.

mod bench;
mod cases;
mod faults;
mod keys;
mod layouts;
mod manifest;
mod mkfs;
mod schema;
mod terminal;
mod usage;
