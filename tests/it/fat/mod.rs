//! The proof of FAT and swap: whole images, poured into files, before judges that share nothing with their
//! writer.
//!
//! * `fsck.fat -n` finds no fault in any image;
//! * mtools and hadris-fat read back every name, size and byte;
//! * `mkfs.fat` makes the same volume, byte for byte, for hundreds of sizes, and `mkswap` the same header.

mod comparators;
mod damage;
mod golden;
mod judged;
mod metadata;
mod mkfs;
mod properties;
mod refusals;
mod sizes;
mod support;
mod swap;
#[cfg(test)]
mod whole;
