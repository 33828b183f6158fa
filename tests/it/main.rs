//! The proof of whole images: trees made by code, images made by the program, and foreign judges that have nothing to
//! say about them.
//!
//! A judge that is not installed fails the test that needs it, with the name of its Debian package.

#[cfg(test)]
mod determinism;
#[cfg(test)]
mod digests;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod ext4;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod guest;
#[cfg(test)]
mod judges;
#[cfg(test)]
mod nix_boot;
#[cfg(test)]
mod observed;
#[cfg(test)]
mod partitions;
#[cfg(test)]
mod slices;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod support;
#[cfg(test)]
mod volumes;
