//! Deflate (RFC 1951) with a window of 4 KiB, for the clusters of qcow2.
//!
//! QEMU inflates clusters with that window (block/qcow2-threads.c), and few encoders can limit themselves to
//! it. zlib is slow, and its descendants gave up matches of three bytes for speed; in a small
//! window such matches are frequent. docs/decisions/0010-own-deflate.md has the figures.
//!
//! Matches are found by hash chains with lazy evaluation of one step. A block ends where the bytes change
//! their character.

mod bits;
mod block;
mod huffman;
mod matches;

use crate::units::usize_of;
use block::Block;
use matches::{Match, Matcher, SHORTEST};

/// log2 of the window.
pub(super) const WINDOW_BITS: u8 = 12;
/// How far back a match may reach, in bytes.
const WINDOW: usize = 1 << WINDOW_BITS;

/// How hard to search.
#[derive(Clone, Copy, Debug)]
struct Effort {
    /// How many positions of a chain are examined.
    depth: u32,
    /// A match of this length is good enough.
    nice: u32,
    /// Below this length the next position is examined as well.
    lazy: u32,
}

/// Levels 1 to 9, measured on the programs and libraries of a Debian system
/// (docs/decisions/0010-own-deflate.md). 6 is the hardest level that is clearly faster than zlib's 6. 7 gives
/// the size of zlib's 6. 9 tries everything.
const EFFORTS: [Effort; 9] = [
    Effort { depth: 1, nice: 8, lazy: 0 },
    Effort { depth: 2, nice: 16, lazy: 0 },
    Effort { depth: 3, nice: 16, lazy: 0 },
    Effort { depth: 4, nice: 24, lazy: 0 },
    Effort { depth: 6, nice: 32, lazy: 0 },
    Effort { depth: 8, nice: 32, lazy: 0 },
    Effort { depth: 10, nice: 48, lazy: 16 },
    Effort { depth: 32, nice: 96, lazy: 32 },
    Effort { depth: 1024, nice: 258, lazy: 258 },
];

/// Compresses clusters one by one, and keeps its memory between them.
#[derive(Debug)]
pub(super) struct Deflater {
    effort: Effort,
    matcher: Matcher,
    block: Block,
}

impl Deflater {
    /// A deflater of `level` 1 to 9; other levels become the nearest one.
    pub(super) fn new(level: u8) -> Self {
        let level = usize::from(level.clamp(1, 9));
        Self { effort: EFFORTS[level - 1], matcher: Matcher::new(), block: Block::new() }
    }

    /// Compresses `bytes` into `out`. Returns the number of bytes, or `None` if `out` is too short.
    pub(super) fn deflate(&mut self, bytes: &[u8], out: &mut [u8]) -> Option<usize> {
        self.matcher.reset();
        let most = out.len();
        let mut bits = bits::Bits::new(out);
        let mut from = 0;
        loop {
            let end = self.fill(bytes, from);
            self.block.write(&bytes[from..end], end == bytes.len(), &mut bits);
            from = end;
            if from == bytes.len() {
                return Some(bits.end()).filter(|length| *length <= most);
            }
        }
    }

    /// Fills the block with the bytes from `from` on. Returns where it ends.
    fn fill(&mut self, bytes: &[u8], from: usize) -> usize {
        let Effort { depth, nice, lazy } = self.effort;
        self.block.clear();
        let mut at = from;
        while at < bytes.len() && !self.block.is_full(at - from, bytes.len() - at) {
            let mut found = self.matcher.find(bytes, at, SHORTEST - 1, depth, nice);
            if !worth(found) {
                self.block.literal(bytes[at]);
                at += 1;
                continue;
            }
            while found.length < lazy {
                let next = self.matcher.find(bytes, at + 1, found.length - 1, depth / 2, nice);
                if !better(next, found) {
                    break;
                }
                self.block.literal(bytes[at]);
                at += 1;
                found = next;
            }
            self.block.found(found);
            at += usize_of(u64::from(found.length));
            self.matcher.insert_to(bytes, at);
        }
        at
    }
}

/// Whether a match probably takes fewer bits than its bytes would.
const fn worth(found: Match) -> bool {
    // Three bytes from far back: the distance alone takes about as many bits as three literals.
    found.length > SHORTEST || (found.length == SHORTEST && found.distance <= FAR)
}

/// The largest distance at which three bytes are worth a match.
const FAR: u32 = 2048;

/// Whether it is better to write the next byte as a literal and use `next` than to use `found`. A byte is
/// worth about four times a bit of the distance, whose factor is one.
fn better(next: Match, found: Match) -> bool {
    if next.length == 0 {
        return false;
    }
    // Both sides are sums of small numbers.
    4 * next.length + found.distance.ilog2() > 4 * found.length + next.distance.ilog2() + 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Decompress, FlushDecompress, Status};
    use proptest::prelude::*;

    /// Inflates with QEMU's window, in pieces, so that nothing outside of the window can be reached.
    fn inflate(stream: &[u8], length: usize) -> Vec<u8> {
        let mut inflate = Decompress::new_with_window_bits(false, WINDOW_BITS);
        let mut back = Vec::with_capacity(length + 1);
        let mut piece = [0; 1000];
        loop {
            let (read, made) = (inflate.total_in(), inflate.total_out());
            let from = usize_of(read);
            let status = inflate.decompress(&stream[from..], &mut piece, FlushDecompress::None).unwrap();
            back.extend_from_slice(&piece[..usize_of(inflate.total_out() - made)]);
            if status == Status::StreamEnd {
                assert_eq!(usize_of(inflate.total_in()), stream.len(), "bytes behind the stream");
                return back;
            }
            assert_ne!((read, made), (inflate.total_in(), inflate.total_out()), "the stream does not end");
        }
    }

    fn there_and_back(bytes: &[u8], level: u8) -> usize {
        let mut deflater = Deflater::new(level);
        // The overhead of stored blocks, and a byte to see the end.
        let mut out = vec![0xd1; bytes.len() + bytes.len() / 8192 * 5 + 10];
        let length = deflater.deflate(bytes, &mut out).unwrap();
        assert!(inflate(&out[..length], bytes.len()) == bytes, "level {level}, {} bytes", bytes.len());
        // Earlier input does not matter, and a buffer that is too short is reported.
        let mut again = vec![0; length];
        assert_eq!(deflater.deflate(bytes, &mut again), Some(length));
        assert!(again == out[..length]);
        assert_eq!(deflater.deflate(bytes, &mut again[..length - 1]), None);
        length
    }

    fn noise(length: usize, mut state: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes.push(state.to_le_bytes()[6]);
        }
        bytes
    }

    #[test]
    fn every_kind_of_bytes_comes_back_at_every_level() {
        let text: Vec<u8> =
            (0..20_000_u32).flat_map(|number| format!("{} ", number * number % 977).into_bytes()).collect();
        let mut mixed = text[..20_000].to_vec();
        mixed.extend(noise(20_000, 1));
        mixed.extend(vec![0; 20_000]);
        mixed.extend(&text[..5000]);
        let fibonacci: Vec<u8> = {
            // Counts that grow like this make the deepest tree, deeper than the limit for codes.
            let (mut a, mut b) = (1_usize, 1_usize);
            (0..22_u8)
                .flat_map(|byte| {
                    (a, b) = (b, a + b);
                    vec![byte * 11; a]
                })
                .collect()
        };
        for level in 0..=10 {
            for bytes in [
                &text[..],
                &mixed,
                &noise(65_536, 7),
                &vec![7; 65_536],
                &fibonacci,
                b"a",
                b"",
                b"abcabcabcabc",
            ] {
                there_and_back(bytes, level);
            }
        }
    }

    #[test]
    fn matches_reach_as_far_as_the_window_and_no_further() {
        for (gap, found) in [(2000, true), (WINDOW, true), (WINDOW + 1, false)] {
            let pattern = noise(1000, 3);
            let mut bytes = pattern.clone();
            bytes.extend(noise(gap - 1000, 4));
            bytes.extend(&pattern);
            // A thousand bytes less for codes of their own.
            let length = there_and_back(&bytes, 9);
            assert_eq!(length < bytes.len() - 700, found, "{gap}: {length} of {}", bytes.len());
        }
    }

    #[test]
    fn a_change_of_character_ends_a_block_and_levels_get_smaller() {
        let mut bytes: Vec<u8> = noise(40_000, 5).iter().map(|byte| byte & 7).collect();
        let alone = there_and_back(&bytes, 6);
        let other: Vec<u8> = noise(40_000, 6).iter().map(|byte| byte & 7 | 0x80).collect();
        bytes.extend(&other);
        let both = there_and_back(&bytes, 6);
        // Three bits for each byte in each half; one code for both would need four.
        assert!(both < alone * 2 + 200, "{alone} and {both}");
        let text: Vec<u8> = (0..30_000_u32)
            .flat_map(|number| format!("{:x} ", number * number % 9973).into_bytes())
            .collect();
        let [fast, usual, small] = [1, 6, 9].map(|level| there_and_back(&text[..65_536], level));
        assert!(small < usual && usual < fast, "{fast} {usual} {small}");
    }

    proptest! {
        #[test]
        fn anything_comes_back(
            parts in prop::collection::vec((0_usize..9000, 0_u8..4, any::<u64>()), 0..20), level in 1_u8..=9
        ) {
            let mut bytes: Vec<u8> = Vec::new();
            for (length, kind, seed) in parts {
                match kind {
                    0 => bytes.extend(noise(length, seed)),
                    1 => bytes.extend(noise(length, seed).iter().map(|byte| byte % 5 + b'a')),
                    2 => bytes.extend(vec![seed.to_le_bytes()[0]; length]),
                    _ => {
                        let from = usize_of(seed % (crate::units::u64_of(bytes.len()) + 1));
                        let to = (from + length).min(bytes.len());
                        bytes.extend_from_within(from..to);
                    }
                }
            }
            there_and_back(&bytes, level);
        }
    }
}
