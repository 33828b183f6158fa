//! Pieces of 7 MiB at most as the beginning of a ZFS pool of 64 MiB. Built for fuzzing, the reader compares no checksums.

#![no_main]

use diskwright::filesystem::open;
use diskwright::image::Builder;
use diskwright::units::Bytes;
use diskwright_fuzz::acceptable;
use diskwright_fuzz::pieces::pieces;
use diskwright_fuzz::volume::exercise;
use libfuzzer_sys::fuzz_target;

/// Bytes of the smallest pool.
const LENGTH: u64 = 64 << 20;

fuzz_target!(|data: &[u8]| {
    let (_, pieces) = pieces(data);
    let mut disk = Builder::new(Bytes::new(LENGTH));
    let mut end = 0;
    for (place, piece) in pieces {
        // Segments of an image ascend.
        if place >= end && !piece.is_empty() {
            end = place + piece.len();
            disk.bytes(Bytes::new(u64::try_from(place).expect("a place")), "fuzz", piece);
        }
    }
    match open(&disk.finish().expect("pieces that ascend").whole()) {
        Ok(Some(volume)) => exercise(&*volume),
        Ok(None) => {}
        Err(error) => acceptable(&error),
    }
});
