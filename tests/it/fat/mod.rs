//! The proof of FAT and swap: whole images, poured into files, before judges that know nothing of their writer.
//!
//! * `fsck.fat -n` says nothing about any image;
//! * mtools and hadris-fat read back every name, size and byte;
//! * `mkfs.fat` makes the same volume, byte for byte, for hundreds of sizes, and `mkswap` the same header.
//!
//! A judge that is not installed fails the test with the name of its Debian package.

#[cfg(test)]
mod comparators;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod judged;
#[cfg(test)]
mod metadata;
#[cfg(test)]
mod mkfs;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod sizes;
#[cfg(test)]
mod support;
#[cfg(test)]
mod swap;
#[cfg(test)]
mod whole;
