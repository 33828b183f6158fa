//! dm-verity: hash devices against those of veritysetup, signatures against openssl, and disks that a kernel verifies.

mod boot;
mod disk;
mod format;
mod signature;
