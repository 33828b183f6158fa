//! Arbitrary bytes as VDI.

#![no_main]

use diskwright::container::Format;
use diskwright_fuzz::{read, with_file};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    with_file(data, |path| read(path, Format::Vdi));
});
