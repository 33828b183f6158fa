//! Arbitrary bytes as ext2, ext3 or ext4.

#![no_main]

use diskwright::filesystem::open;
use diskwright_fuzz::acceptable;
use diskwright_fuzz::volume::{exercise, slice};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match open(&slice(data)) {
        Ok(Some(volume)) => exercise(&*volume),
        Ok(None) => {}
        Err(error) => acceptable(&error),
    }
});
