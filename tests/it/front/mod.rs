//! The front of the house: what bad manifests get, what manifests come to, and the program as a process.

#[cfg(test)]
mod bench;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod layouts;
#[cfg(test)]
mod manifest;
#[cfg(test)]
mod mkfs;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod terminal;
#[cfg(test)]
mod usage;
