//! Finds earlier occurrences: the last position of every three bytes, and chains of positions of every four,
//! within the window.

use super::WINDOW;
use crate::units::{self, u64_of, usize_of};

/// log2 of the heads of chains. With positions of two bytes each, all tables take 32 KiB, so they stay in the
/// first cache of a core together with the window.
const FOUR_BITS: u32 = 13;
/// log2 of the positions of three bytes.
const THREE_BITS: u32 = 12;

/// The shortest match that deflate has (RFC 1951 section 3.2.5).
pub(super) const SHORTEST: u32 = 3;
/// The longest match.
pub(super) const LONGEST: u32 = 258;

/// Bytes that occurred before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Match {
    /// The number of bytes; 0 for none.
    pub(super) length: u32,
    /// How far back: 1 to [`WINDOW`].
    pub(super) distance: u32,
}

/// Where bytes occurred last. Positions are kept modulo 2^16. Every position in a table is checked before it
/// is used, so an outdated one only costs a comparison.
#[derive(Debug)]
pub(super) struct Matcher {
    three: Box<[u16; 1 << THREE_BITS]>,
    four: Box<[u16; 1 << FOUR_BITS]>,
    /// For each position in the window, the position before it with the same hash.
    before: Box<[u16; WINDOW]>,
    /// The first position that is in no table.
    next: usize,
}

impl Matcher {
    pub(super) fn new() -> Self {
        Self {
            three: Box::new([0; 1 << THREE_BITS]),
            four: Box::new([0; 1 << FOUR_BITS]),
            before: Box::new([0; WINDOW]),
            next: 0,
        }
    }

    /// Forgets everything: the next bytes begin at 0.
    pub(super) fn reset(&mut self) {
        self.three.fill(0);
        self.four.fill(0);
        self.before.fill(0);
        self.next = 0;
    }

    /// Adds the positions before `end` to the tables.
    #[inline]
    pub(super) fn insert_to(&mut self, bytes: &[u8], end: usize) {
        while self.next < end {
            let at = self.next;
            let Some(word) = word(bytes, at) else {
                self.next = end;
                return;
            };
            self.insert(word, at);
        }
    }

    /// Adds the next position to the tables and returns the previous entries.
    #[inline]
    fn insert(&mut self, word: u32, at: usize) -> (u16, u16) {
        let place = low16(at);
        let three = &mut self.three[hash(word << 8, THREE_BITS)];
        let four = &mut self.four[hash(word, FOUR_BITS)];
        let found = (*three, *four);
        self.before[at % WINDOW] = *four;
        *three = place;
        *four = place;
        self.next = at + 1;
        found
    }

    /// The longest match at `at` that is longer than `than`. It examines at most `depth` positions of each
    /// chain, and stops at a match of `nice` bytes. Afterwards `at` and all positions before it are in the
    /// tables.
    #[inline]
    pub(super) fn find(&mut self, bytes: &[u8], at: usize, than: u32, depth: u32, nice: u32) -> Match {
        self.insert_to(bytes, at);
        let Some(word) = word(bytes, at) else { return Match::default() };
        let (three, four) = self.insert(word, at);
        let mut best = Match { length: than, distance: 0 };
        if than < SHORTEST {
            let distance = back(at, three);
            if let Some(other) = earlier(bytes, at, distance)
                // The fourth byte, the highest, does not matter.
                && (word ^ other) << 8 == 0
            {
                best = Match { length: SHORTEST, distance: u32::from(distance) };
            }
        }
        let (mut distance, mut depth) = (back(at, four), depth);
        while let Some(other) = earlier(bytes, at, distance) {
            if other == word {
                let from = at - usize::from(distance);
                let tail = usize_of(u64::from(best.length));
                if bytes.get(from + tail) == bytes.get(at + tail) {
                    let length = common(&bytes[from..], &bytes[at..]);
                    if length > best.length {
                        best = Match { length, distance: u32::from(distance) };
                        if length >= nice {
                            break;
                        }
                    }
                }
            }
            depth -= 1;
            let further = back(at, self.before[(at - usize::from(distance)) % WINDOW]);
            if depth == 0 || further <= distance {
                break;
            }
            distance = further;
        }
        if best.distance == 0 { Match::default() } else { best }
    }
}

/// The low 16 bits of a position.
#[inline]
fn low16(at: usize) -> u16 {
    units::low16(u64_of(at))
}

/// How far a position, known modulo 2^16, lies before `at`; 0 for `at` itself.
#[inline]
fn back(at: usize, place: u16) -> u16 {
    low16(at).wrapping_sub(place)
}

/// The four bytes `distance` before `at`, if they are in the window.
#[inline]
fn earlier(bytes: &[u8], at: usize, distance: u16) -> Option<u32> {
    let distance = usize::from(distance);
    if distance.wrapping_sub(1) < WINDOW { word(bytes, at.checked_sub(distance)?) } else { None }
}

/// Four bytes as a number, the first one lowest.
#[inline]
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// The upper `bits` bits of a product with an odd number without a pattern (the golden ratio).
#[inline]
fn hash(word: u32, bits: u32) -> usize {
    usize_of(u64::from(word.wrapping_mul(0x9e37_79b1) >> (32 - bits)))
}

/// How many bytes `a` and `b` have in common at their start, up to [`LONGEST`].
#[inline]
fn common(a: &[u8], b: &[u8]) -> u32 {
    let (a_words, b_words) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    let mut length = 0;
    for (a, b) in a_words.iter().zip(b_words) {
        let differ = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differ != 0 {
            return (length + differ.trailing_zeros() / 8).min(LONGEST);
        }
        length += 8;
        if length >= LONGEST {
            return LONGEST;
        }
    }
    let rest = usize_of(u64::from(length));
    for (a, b) in a[rest..].iter().zip(&b[rest..]) {
        if a != b || length == LONGEST {
            break;
        }
        length += 1;
    }
    length
}
