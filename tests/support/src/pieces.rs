//! Files of megabytes as inputs of kilobytes: VHDX keeps its parts at multiples of 1 MiB, which no fuzzer
//! fills. An input is the length of the file in MiB (one byte, of which 3 bits count), then pieces: the place
//! in sectors of 4096 bytes and the length in bytes, 16 bits each and little-endian, then the bytes. The fuzz
//! target and the test that makes its seeds share this.

/// Places are multiples of this.
pub const SECTOR: usize = 4096;

/// The length of the file that an input means, and its pieces. Bytes past the end of the file are left out.
pub fn pieces(input: &[u8]) -> (usize, Vec<(usize, &[u8])>) {
    let Some((length, mut rest)) = input.split_first() else { return (0, Vec::new()) };
    let length = usize::from(length & 7) << 20;
    let mut found = Vec::new();
    while let [a, b, c, d, more @ ..] = rest {
        let place = usize::from(u16::from_le_bytes([*a, *b])) * SECTOR;
        let count = usize::from(u16::from_le_bytes([*c, *d])).min(more.len());
        let (piece, after) = more.split_at(count);
        found.push((place, &piece[..count.min(length.saturating_sub(place))]));
        rest = after;
    }
    (length, found)
}
