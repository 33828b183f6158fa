//! Numbers of one width as those of another, where they fit.

/// A length or count in memory as a number on a disk.
pub fn u64_of(number: usize) -> u64 {
    number.try_into().expect("memory has fewer than 2^64 bytes")
}

/// A number on a disk as a length or count in memory.
pub fn usize_of(number: u64) -> usize {
    number.try_into().expect("what is held in memory fits there")
}
