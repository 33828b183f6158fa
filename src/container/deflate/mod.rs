//! Deflate (RFC 1951) with a window of 4 KiB, for the clusters of qcow2.
//!
//! QEMU inflates clusters with that window (block/qcow2-threads.c), and few encoders can be told to keep to it. Of those
//! zlib is slow, and its descendants gave up matches of three bytes to be fast, which are many where the window is small.
//! See docs/decisions/0010-own-deflate.md for the figures.
//!
//! Matches are found by hash chains, one step lazily; blocks end where the bytes change their character.

mod bits;
mod block;
mod huffman;
mod matches;

use crate::units::usize_of;
use block::Block;
use matches::{Match, Matcher, SHORTEST};

/// log2 of the window.
pub(super) const WINDOW_BITS: u8 = 12;
/// How far back a match may lie, in bytes.
const WINDOW: usize = 1 << WINDOW_BITS;

/// How hard to look.
#[derive(Clone, Copy, Debug)]
struct Effort {
    /// Places of a chain that are looked at.
    depth: u32,
    /// A match of this length is good enough.
    nice: u32,
    /// Below this length the next place is looked at as well.
    lazy: u32,
}

/// Levels 1 to 9, measured on the programs and libraries of a Debian system (docs/decisions/0010-own-deflate.md): 6 is
/// the hardest that is clearly faster than zlib's 6 could be, 7 makes what zlib's 6 makes, 9 tries everything.
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

/// Compresses clusters one by one; keeps its memory between them.
#[derive(Debug)]
pub(super) struct Deflater {
    effort: Effort,
    matcher: Matcher,
    block: Block,
}

impl Deflater {
    /// One of `level` 1 to 9; those outside are the nearest.
    pub(super) fn new(level: u8) -> Self {
        let level = usize::from(level.clamp(1, 9));
        Self { effort: EFFORTS[level - 1], matcher: Matcher::new(), block: Block::new() }
    }

    /// Compresses `bytes` into `out`; how many bytes it took, or `None` where `out` is too short.
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

    /// Fills the block with what begins at `from`; where it ends.
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

/// Whether a match is likely to take fewer bits than its bytes would.
const fn worth(found: Match) -> bool {
    // Three bytes that stood far back: the distance alone takes about as much as three literals.
    found.length > SHORTEST || (found.length == SHORTEST && found.distance <= FAR)
}

/// How far back three bytes are worth a match.
const FAR: u32 = 2048;

/// Whether it is better to say the next byte as it is and to take `next` than to take `found`. A byte is worth about four
/// times a bit of the distance, which has a factor of its own.
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

    /// Inflates with the window that QEMU has, in pieces, so that nothing outside of it can be reached.
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
        // What a stored block has more than its bytes, and a byte for the end.
        let mut out = vec![0xd1; bytes.len() + bytes.len() / 8192 * 5 + 10];
        let length = deflater.deflate(bytes, &mut out).unwrap();
        assert!(inflate(&out[..length], bytes.len()) == bytes, "level {level}, {} bytes", bytes.len());
        // What was compressed before does not matter, and a place that is too short is told.
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
            // Counts that grow like this make the deepest tree, deeper than a code may be.
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
            // A thousand bytes less, but codes of their own for the rest.
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
        // Three bits a byte in each half; with one code for both it would be four.
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
