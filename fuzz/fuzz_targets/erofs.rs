//! Any bytes as EROFS. The bit that says that the superblock has a checksum is taken out, as a fuzzer finds none.

#![no_main]

use diskwright::filesystem::open;
use diskwright_fuzz::acceptable;
use diskwright_fuzz::volume::{exercise, slice};
use libfuzzer_sys::fuzz_target;

/// Where the superblock says that it has a checksum.
const CHECKSUM: usize = 1024 + 8;

fuzz_target!(|data: &[u8]| {
    let mut data = data.to_vec();
    if let Some(features) = data.get_mut(CHECKSUM) {
        *features &= !1;
    }
    match open(&slice(&data)) {
        Ok(Some(volume)) => exercise(&*volume),
        Ok(None) => {}
        Err(error) => acceptable(&error),
    }
});
