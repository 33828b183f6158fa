//! LZ4 blocks as small as they can be made (lz4/doc/lz4_Block_format.md): what other programs call LZ4HC.
//!
//! At each place the longest match is searched in a chain of the places with the same first four bytes. In LZ4 a match
//! costs the same whatever its distance, so the longest one serves for all shorter lengths too, and the cheapest way to the
//! end of the block is found from its end to its beginning, place by place.

use crate::error::Result;
use crate::units::{index, low8, narrow, u64_of};

/// The shortest match.
const SHORTEST: usize = 4;
/// No match begins in the last bytes of a block ("End of block conditions": MFLIMIT), and none reaches into the last
/// five (LASTLITERALS).
const LAST_MATCH: usize = 12;
const LAST_LITERALS: usize = 5;
/// The largest distance.
const FARTHEST: usize = 0xffff;
/// Places of the table of first bytes.
const HASH_BITS: u32 = 15;
/// The length from which a match is taken as it is: nothing that begins inside it is searched, and it is not shortened.
const ENOUGH: usize = 128;
/// The end of a chain.
const NOWHERE: u32 = u32::MAX;

/// Compresses blocks one by one; keeps its memory between them.
#[derive(Debug)]
pub(super) struct Encoder {
    /// How many places of a chain are looked at.
    depth: u32,
    /// The last place with each hash.
    first: Vec<u32>,
    /// For each place the one before it with the same hash.
    before: Vec<u32>,
    /// For each place the longest match: length and distance.
    matches: Vec<(u32, u16)>,
    /// For each place the cost of the rest of the block in bytes, and the length of the match that is taken there.
    ways: Vec<(u32, u32)>,
}

/// What a match of `length` bytes costs: token, distance, and one byte for each 255 of its length past what the token
/// holds.
const fn price(length: usize) -> usize {
    let past = length - SHORTEST;
    if past < 15 { 3 } else { 4 + (past - 15) / 255 }
}

fn word(input: &[u8], at: usize) -> u32 {
    input[at..at + 4].iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// How many bytes are the same from `one` and from `other` on; `other` is the later place, and the match ends before
/// `end`.
fn common(input: &[u8], one: usize, other: usize, end: usize) -> usize {
    let (one, other) = (&input[one..], &input[other..end]);
    let mut length = 0;
    for (one, other) in one.chunks_exact(8).zip(other.chunks_exact(8)) {
        if one != other {
            break;
        }
        length += 8;
    }
    length + one[length..].iter().zip(&other[length..]).take_while(|(one, other)| one == other).count()
}

impl Encoder {
    /// Of a level from 1, fast, to 12, small.
    pub(super) fn new(level: u8) -> Self {
        // 4 to 256. Every place is searched, so fewer are enough than where only some are.
        let depth = 4 << (level.clamp(1, 12) / 2);
        let first = vec![NOWHERE; 1 << HASH_BITS];
        Self { depth, first, before: Vec::new(), matches: Vec::new(), ways: Vec::new() }
    }

    /// Appends `input`, which is shorter than 4 GiB, to `out` as a block.
    pub(super) fn block(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<()> {
        self.search(input)?;
        self.choose(input.len())?;
        let (mut at, mut literals) = (0, 0);
        while at < input.len() {
            let length = index(self.ways[at].1);
            if length == 0 {
                at += 1;
                continue;
            }
            sequence(&input[literals..at], Some((self.matches[at].1, length)), out);
            at += length;
            literals = at;
        }
        sequence(&input[literals..], None, out);
        Ok(())
    }

    /// Finds the longest match of each place.
    fn search(&mut self, input: &[u8]) -> Result<()> {
        self.first.fill(NOWHERE);
        self.before.clear();
        self.before.resize(input.len(), NOWHERE);
        self.matches.clear();
        self.matches.resize(input.len(), (0, 0));
        let Some(last) = input.len().checked_sub(LAST_MATCH) else { return Ok(()) };
        let end = input.len() - LAST_LITERALS;
        let mut at = 0;
        while at <= last {
            let (length, distance) = self.longest(input, at, end)?;
            self.matches[at] = (narrow(length, "a match")?, narrow(distance, "a distance")?);
            let next = at + if length >= ENOUGH { length } else { 1 };
            for place in at..next.min(last + 1) {
                self.insert(input, place)?;
            }
            at = next;
        }
        Ok(())
    }

    /// The head of the chain that a place belongs to.
    fn chain(&mut self, input: &[u8], at: usize) -> &mut u32 {
        // Knuth's multiplicative hash, as lz4.c has it.
        let hash = word(input, at).wrapping_mul(2_654_435_761) >> (32 - HASH_BITS);
        &mut self.first[index(hash)]
    }

    fn insert(&mut self, input: &[u8], at: usize) -> Result<()> {
        let place = narrow(at, "a place in a block")?;
        self.before[at] = std::mem::replace(self.chain(input, at), place);
        Ok(())
    }

    /// The longest match of a place, the nearest of several: length and distance, or zeros.
    fn longest(&mut self, input: &[u8], at: usize, end: usize) -> Result<(usize, usize)> {
        let (mut best, mut distance) = (SHORTEST - 1, 0);
        let mut place = *self.chain(input, at);
        for _ in 0..self.depth {
            if place == NOWHERE || at - index(place) > FARTHEST || at + best >= end {
                break;
            }
            let candidate = index(place);
            // Only what agrees in the byte that would make it longer is compared.
            if input[candidate + best] == input[at + best] {
                let length = common(input, candidate, at, end);
                if length > best {
                    (best, distance) = (length, at - candidate);
                }
            }
            place = self.before[candidate];
        }
        Ok(if distance == 0 { (0, 0) } else { (best, distance) })
    }

    /// Finds the cheapest way through the block.
    fn choose(&mut self, length: usize) -> Result<()> {
        self.ways.clear();
        self.ways.resize(length + 1, (0, 0));
        for at in (0..length).rev() {
            let (mut cost, mut taken) = (self.ways[at + 1].0 + 1, 0);
            let most = index(self.matches[at].0);
            let least = if most >= ENOUGH { most } else { SHORTEST };
            for length in (least..=most).rev() {
                let other = self.ways[at + length].0 + narrow::<u32>(price(length), "a price")?;
                if other < cost {
                    (cost, taken) = (other, narrow(length, "a match")?);
                }
            }
            self.ways[at] = (cost, taken);
        }
        Ok(())
    }
}

/// Appends the part of a length that a token does not hold.
fn rest(length: usize, out: &mut Vec<u8>) {
    let Some(mut left) = length.checked_sub(15) else { return };
    while left >= 255 {
        out.push(255);
        left -= 255;
    }
    out.push(low8(u64_of(left)));
}

/// Appends literals and a match of this distance and length.
fn sequence(literals: &[u8], found: Option<(u16, usize)>, out: &mut Vec<u8>) {
    let past = found.map_or(0, |(_, length)| length - SHORTEST);
    out.push(low8(u64_of(literals.len().min(15) << 4 | past.min(15))));
    rest(literals.len(), out);
    out.extend(literals);
    if let Some((distance, _)) = found {
        out.extend(distance.to_le_bytes());
        rest(past, out);
    }
}

/// The most bytes of memory for blocks of `length` bytes.
pub(super) const fn memory(length: u64) -> u64 {
    (4 << HASH_BITS) + length * (4 + 8 + 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round(level: u8, input: &[u8]) -> usize {
        let mut encoder = Encoder::new(level);
        let mut sizes = Vec::new();
        // Twice, since an encoder is used for many blocks.
        for _ in 0..2 {
            let mut out = Vec::new();
            encoder.block(input, &mut out).unwrap();
            assert!(lz4_flex::block::decompress(&out, input.len()).unwrap() == input);
            sizes.push(out.len());
        }
        assert_eq!(sizes[0], sizes[1]);
        sizes[0]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn blocks_are_read_back(
            pieces in prop::collection::vec((any::<u8>(), 0_usize..600, any::<bool>()), 0..40), level in 1_u8..13,
        ) {
            let mut input = Vec::new();
            for (byte, length, run) in pieces {
                for at in 0..length {
                    let next = if run { byte } else { byte.wrapping_mul(7).wrapping_add(low8(u64_of(at * at / 5))) };
                    input.push(next);
                }
            }
            round(level, &input);
        }
    }

    #[test]
    fn short_blocks_and_far_matches() {
        for length in 0..40 {
            round(9, &vec![7; length]);
        }
        let far: Vec<u8> =
            (0..70_000_u32).map(|at| low8((at.wrapping_mul(2_654_435_761) >> 13).into())).collect();
        let repeated = [far.as_slice(), far.as_slice()].concat();
        round(12, &repeated);
    }

    #[test]
    fn it_is_smaller_than_the_fast_way_and_deeper_is_no_larger() {
        let text: Vec<u8> = (0..60_000_u32)
            .flat_map(|at| format!("{} ", at * 7919 % 4099).into_bytes())
            .take(200_000)
            .collect();
        let fast = lz4_flex::block::compress(&text).len();
        let sizes: Vec<usize> = [1, 3, 9, 12].into_iter().map(|level| round(level, &text)).collect();
        assert!(sizes.is_sorted_by(|less, more| less >= more), "{sizes:?}");
        assert!(sizes[2] * 100 < fast * 85, "{sizes:?} {fast}");
    }
}
