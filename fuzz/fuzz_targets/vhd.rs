//! Arbitrary bytes as VHD: unchanged, and with corrected checksums, which a fuzzer does not find by itself.

#![no_main]

use diskwright::container::Format;
use diskwright_fuzz::{read, with_file};
use libfuzzer_sys::fuzz_target;

/// Stores the ones' complement of the sum of the bytes, except for the four at `field`, in `field`.
fn seal(bytes: &mut [u8], field: usize) {
    bytes[field..field + 4].fill(0);
    let sum = bytes.iter().fold(0_u32, |sum, byte| sum + u32::from(*byte));
    bytes[field..field + 4].copy_from_slice(&(!sum).to_be_bytes());
}

/// Corrects the checksum of every footer and dynamic header at a place where a reader looks for one, or at a
/// sector.
fn sealed(mut data: Vec<u8>) -> Vec<u8> {
    let ends = [512, 511].into_iter().filter_map(|length| data.len().checked_sub(length));
    let places: Vec<usize> = (0..data.len()).step_by(512).chain(ends).collect();
    for at in places {
        let rest = &mut data[at..];
        let length = rest.len();
        if rest.starts_with(b"conectix") && length >= 511 {
            seal(&mut rest[..length.min(512)], 64);
        } else if rest.starts_with(b"cxsparse") && length >= 1024 {
            seal(&mut rest[..1024], 36);
        }
    }
    data
}

fuzz_target!(|data: &[u8]| {
    with_file(data, |path| read(path, Format::Vhd));
    with_file(&sealed(data.to_vec()), |path| read(path, Format::Vhd));
});
