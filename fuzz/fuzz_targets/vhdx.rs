//! Arbitrary bytes as the pieces of a VHDX: unchanged, and with corrected checksums, which a fuzzer does not
//! find by itself.

#![no_main]

use std::fs::File;
use std::os::unix::fs::FileExt;

use diskwright::container::Format;
use diskwright_fuzz::pieces::{SECTOR, pieces};
use diskwright_fuzz::{read, temporary};
use libfuzzer_sys::fuzz_target;

/// Puts the right checksum behind the signature of the structure of `length` bytes at `place`, if one is there.
fn seal(file: &File, place: usize, length: usize, signature: &[u8; 4]) {
    let mut bytes = vec![0; length];
    let place = u64::try_from(place).expect("a bounded length");
    if length >= 8 && file.read_exact_at(&mut bytes, place).is_ok() && bytes.starts_with(signature) {
        bytes[4..8].fill(0);
        let sum = crc32c::crc32c(&bytes);
        file.write_all_at(&sum.to_le_bytes(), place + 4).expect("to write the file");
    }
}

/// Corrects the checksums of headers, region tables and entries of logs.
fn seal_all(file: &File, pieces: &[(usize, &[u8])]) {
    for number in [1, 2] {
        seal(file, number << 16, 4096, b"head");
        seal(file, (number + 2) << 16, 65_536, b"regi");
    }
    for (place, piece) in pieces {
        for (at, sector) in (*place..).step_by(SECTOR).zip(piece.chunks(SECTOR)) {
            if let Some([a, b, c, 0]) = sector.get(8..12).filter(|_| sector.starts_with(b"loge")) {
                seal(file, at, usize::from(*a) | usize::from(*b) << 8 | usize::from(*c) << 16, b"loge");
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let (length, pieces) = pieces(data);
    let file = temporary();
    file.as_file().set_len(u64::try_from(length).expect("a bounded length")).expect("to write the file");
    for (place, piece) in &pieces {
        let place = u64::try_from(*place).expect("a bounded length");
        file.as_file().write_all_at(piece, place).expect("to write the file");
    }
    read(file.path(), Format::Vhdx);
    seal_all(file.as_file(), &pieces);
    read(file.path(), Format::Vhdx);
});
