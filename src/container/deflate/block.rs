//! A block of deflate (RFC 1951 section 3.2): its symbols, its end, and its shortest form.

use super::bits::Bits;
use super::huffman::{self, Code, codes, lengths};
use super::matches::Match;
use crate::units::{u64_of, usize_of};

/// Literals, the end of the block and lengths (RFC 1951 section 3.2.5); two more than are used, because the
/// fixed codes have them.
const LITERALS: usize = 288;
/// Distances.
const DISTANCES: usize = 30;
/// The symbol that ends a block.
const END: usize = 256;

/// The smallest length of each length symbol from 257 on, and its extra bits (RFC 1951 section 3.2.5).
const LENGTHS: [(u16, u8); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];

/// The order of the lengths of the code of lengths (RFC 1951 section 3.2.7).
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// The smallest block in bytes: a shorter one is not worth codes of its own.
const LEAST: usize = 8 << 10;
/// The largest number of symbols in a block, as in zlib at its largest.
const MOST: usize = 32 << 10;

/// Lengths of matches, from 0 to the longest.
const MOST_LENGTHS: usize = 259;

/// The symbol of every length, counted from 257.
fn length_symbols() -> [u8; MOST_LENGTHS] {
    let mut symbols = [0; MOST_LENGTHS];
    for (symbol, (least, _)) in (0..).zip(LENGTHS) {
        symbols[usize::from(least)..].fill(symbol);
    }
    symbols
}

/// The symbol of a distance, which is given minus one, and its extra bits: two symbols for each power of two
/// from 4 on (RFC 1951 section 3.2.5).
#[inline]
fn of_distance(less: u32) -> (usize, u32) {
    if less < 4 {
        return (usize_of(u64::from(less)), 0);
    }
    let extra = less.ilog2() - 1;
    (usize_of(u64::from(extra * 2 + (less >> extra))), extra)
}

/// Symbols that wait for their codes.
#[derive(Debug)]
pub(super) struct Block {
    /// A literal, or the length above [`LENGTH_SHIFT`] and the distance below.
    symbols: Vec<u32>,
    literals: [u32; LITERALS],
    distances: [u32; DISTANCES],
    split: Split,
    /// The symbol of every length, counted from 257.
    length_symbols: [u8; MOST_LENGTHS],
    /// The fixed codes, which are not written in a block.
    fixed: Codes,
}

const LENGTH_SHIFT: u32 = 16;

impl Block {
    pub(super) fn new() -> Self {
        Self {
            symbols: Vec::with_capacity(MOST),
            literals: [0; LITERALS],
            distances: [0; DISTANCES],
            split: Split::default(),
            length_symbols: length_symbols(),
            fixed: Codes::fixed(),
        }
    }

    pub(super) fn clear(&mut self) {
        self.symbols.clear();
        self.literals = [0; LITERALS];
        self.distances = [0; DISTANCES];
        self.split = Split::default();
    }

    #[inline]
    pub(super) fn literal(&mut self, byte: u8) {
        self.symbols.push(u32::from(byte));
        self.literals[usize::from(byte)] += 1;
        // The two upper bits and the lowest bit distinguish text, tables and code.
        self.split.count(usize::from(byte >> 5 & 6 | byte & 1));
    }

    #[inline]
    pub(super) fn found(&mut self, found: Match) {
        let Match { length, distance } = found;
        self.symbols.push(length << LENGTH_SHIFT | distance);
        let symbol = self.length_symbols[usize_of(u64::from(length))];
        self.literals[END + 1 + usize::from(symbol)] += 1;
        self.distances[of_distance(distance - 1).0] += 1;
        self.split.count(if length < 9 { 8 } else { 9 });
    }

    /// Whether the block should end. It has `taken` bytes, and `left` follow.
    #[inline]
    pub(super) fn is_full(&mut self, taken: usize, left: usize) -> bool {
        self.symbols.len() >= MOST
            || (self.split.is_due() && taken >= LEAST && left >= LEAST && self.split.changed(taken))
    }

    /// Writes the block, which stands for `bytes`, in its shortest form.
    pub(super) fn write(&mut self, bytes: &[u8], last: bool, bits: &mut Bits<'_>) {
        self.literals[END] += 1;
        let dynamic = Codes::of(&self.literals, &self.distances);
        let header = Header::of(&dynamic);
        let dynamic_bits = header.bits + dynamic.bits(&self.literals, &self.distances);
        let fixed_bits = self.fixed.bits(&self.literals, &self.distances);
        let chunks = bytes.len().div_ceil(STORED).max(1);
        let stored_bits = (bytes.len() + chunks * 5) * 8;
        bits.flush();
        if stored_bits <= dynamic_bits.min(fixed_bits) {
            return stored(bytes, last, bits);
        }
        bits.put(u64::from(last), 1);
        if fixed_bits <= dynamic_bits {
            bits.put(1, 2);
            self.encode(&self.fixed, bits);
        } else {
            bits.put(2, 2);
            header.write(bits);
            self.encode(&dynamic, bits);
        }
    }

    fn encode(&self, codes: &Codes, bits: &mut Bits<'_>) {
        let lengths = codes.of_lengths();
        for word in &self.symbols {
            // The longest symbol takes 15 + 5 + 15 + 10 bits.
            if bits.waiting() > 63 - 45 {
                bits.flush();
            }
            let length = usize_of(u64::from(word >> LENGTH_SHIFT));
            if length == 0 {
                codes.literals[usize::from(low16(*word))].put(bits);
                continue;
            }
            lengths[length].put(bits);
            let less = u32::from(low16(*word)) - 1;
            let (symbol, extra) = of_distance(less);
            codes.distances[symbol].put(bits);
            bits.put(u64::from(less & ((1 << extra) - 1)), extra);
        }
        bits.flush();
        codes.literals[END].put(bits);
    }
}

/// The low 16 bits.
#[inline]
fn low16(word: u32) -> u16 {
    let [a, b, ..] = word.to_le_bytes();
    u16::from_le_bytes([a, b])
}

/// The largest stored block: its length has 16 bits (RFC 1951 section 3.2.4).
const STORED: usize = 0xffff;

/// Bytes in stored form.
fn stored(bytes: &[u8], last: bool, bits: &mut Bits<'_>) {
    let mut rest = bytes;
    loop {
        let (chunk, after) = rest.split_at(rest.len().min(STORED));
        bits.flush();
        bits.put(u64::from(last && after.is_empty()), 3);
        bits.align();
        let length = u64_of(chunk.len());
        bits.put(length, 16);
        bits.put(!length & 0xffff, 16);
        bits.align();
        bits.bytes(chunk);
        rest = after;
        if rest.is_empty() {
            return;
        }
    }
}

/// The codes of a block.
#[derive(Debug)]
struct Codes {
    literal_lengths: [u8; LITERALS],
    distance_lengths: [u8; DISTANCES],
    literals: [Code; LITERALS],
    distances: [Code; DISTANCES],
}

impl Codes {
    /// The best codes for symbols with these counts.
    fn of(literals: &[u32; LITERALS], distances: &[u32; DISTANCES]) -> Self {
        let (mut literal_lengths, mut distance_lengths) = ([0; LITERALS], [0; DISTANCES]);
        lengths(literals, huffman::LONGEST, &mut literal_lengths);
        lengths(distances, huffman::LONGEST, &mut distance_lengths);
        Self::with(literal_lengths, distance_lengths)
    }

    /// The fixed codes (RFC 1951 section 3.2.6).
    fn fixed() -> Self {
        let mut literal_lengths = [8; LITERALS];
        literal_lengths[144..256].fill(9);
        literal_lengths[256..280].fill(7);
        Self::with(literal_lengths, [5; DISTANCES])
    }

    fn with(literal_lengths: [u8; LITERALS], distance_lengths: [u8; DISTANCES]) -> Self {
        Self {
            literal_lengths,
            distance_lengths,
            literals: codes(&literal_lengths),
            distances: codes(&distance_lengths),
        }
    }

    /// The codes of all lengths of a match, with their extra bits.
    fn of_lengths(&self) -> [Code; MOST_LENGTHS] {
        let mut all = [Code::default(); MOST_LENGTHS];
        for (code, (least, extra)) in self.literals[END + 1..].iter().zip(LENGTHS) {
            // The last length, 258, could also be written with the symbol before it, but its own symbol is
            // shorter.
            for value in 0..1_u32 << extra {
                if let Some(length) = all.get_mut(usize::from(least) + usize_of(u64::from(value))) {
                    *length = Code {
                        bits: code.bits | value << code.length,
                        length: code.length + u32::from(extra),
                    };
                }
            }
        }
        all
    }

    /// How many bits a block of symbols with these counts takes, without its header.
    fn bits(&self, literals: &[u32; LITERALS], distances: &[u32; DISTANCES]) -> usize {
        let sum = |counts: &[u32], lengths: &[u8], extra: &dyn Fn(usize) -> usize| -> usize {
            counts
                .iter()
                .zip(lengths)
                .enumerate()
                .map(|(symbol, (count, length))| {
                    usize_of(u64::from(*count)) * (usize::from(*length) + extra(symbol))
                })
                .sum()
        };
        let of_length = |symbol: usize| {
            symbol
                .checked_sub(END + 1)
                .and_then(|length| LENGTHS.get(length))
                .map_or(0, |(_, extra)| usize::from(*extra))
        };
        3 + sum(literals, &self.literal_lengths, &of_length)
            + sum(distances, &self.distance_lengths, &|symbol| (symbol / 2).saturating_sub(1))
    }
}

/// The codes of a block in their written form (RFC 1951 section 3.2.7).
#[derive(Debug)]
struct Header {
    /// Lengths of codes with their repetitions: symbol, value and number of extra bits.
    runs: Vec<(u8, u8, u8)>,
    literals: usize,
    distances: usize,
    /// How many lengths of the code of lengths are written.
    used: usize,
    lengths: [u8; 19],
    codes: [Code; 19],
    /// Bits it takes.
    bits: usize,
}

impl Header {
    fn of(block: &Codes) -> Self {
        let last = |lengths: &[u8], least: usize| {
            lengths.iter().rposition(|length| *length > 0).map_or(least, |at| (at + 1).max(least))
        };
        // The last two symbols of the fixed code cannot be written in a block.
        let literals = last(&block.literal_lengths[..286], END + 1);
        let distances = last(&block.distance_lengths, 1);
        let mut all = block.literal_lengths[..literals].to_vec();
        all.extend_from_slice(&block.distance_lengths[..distances]);
        let runs = runs(&all);
        let mut counts = [0; 19];
        for (symbol, _, _) in &runs {
            counts[usize::from(*symbol)] += 1;
        }
        let mut own = [0; 19];
        lengths(&counts, 7, &mut own);
        let used = ORDER.iter().rposition(|symbol| own[*symbol] > 0).map_or(4, |at| (at + 1).max(4));
        let of_runs: usize = runs
            .iter()
            .map(|(symbol, _, extra)| usize::from(own[usize::from(*symbol)]) + usize::from(*extra))
            .sum();
        Self {
            runs,
            literals,
            distances,
            used,
            lengths: own,
            codes: codes(&own),
            bits: 14 + used * 3 + of_runs,
        }
    }

    fn write(&self, bits: &mut Bits<'_>) {
        bits.put(u64_of(self.literals - (END + 1)), 5);
        bits.put(u64_of(self.distances - 1), 5);
        bits.put(u64_of(self.used - 4), 4);
        for symbol in &ORDER[..self.used] {
            bits.flush();
            bits.put(u64::from(self.lengths[*symbol]), 3);
        }
        for (symbol, value, extra) in &self.runs {
            bits.flush();
            self.codes[usize::from(*symbol)].put(bits);
            bits.put(u64::from(*value), u32::from(*extra));
        }
        bits.flush();
    }
}

/// Lengths of codes with their repetitions: symbol, value of the extra bits, number of extra bits (RFC 1951
/// section 3.2.7).
fn runs(lengths: &[u8]) -> Vec<(u8, u8, u8)> {
    let mut runs = Vec::new();
    let mut at = 0;
    while let Some(length) = lengths.get(at) {
        let count = lengths[at..].iter().take_while(|other| *other == length).count();
        at += count;
        let mut left = count;
        if *length > 0 {
            runs.push((*length, 0, 0));
            left -= 1;
        }
        while left > 0 {
            let (symbol, least, most, extra): (u8, u8, u8, u8) = match (length, left) {
                (_, ..3) => (*length, 0, 1, 0),
                (0, ..11) => (17, 3, 10, 3),
                (0, _) => (18, 11, 138, 7),
                _ => (16, 3, 6, 2),
            };
            let taken = u8::try_from(left).map_or(most, |left| left.min(most));
            // Where there are no extra bits there is no number for them.
            runs.push((symbol, if extra == 0 { 0 } else { taken - least }, extra));
            left -= usize::from(taken);
        }
    }
    runs
}

/// Kinds of symbols: eight of literals, short and long matches.
const KINDS: usize = 10;
/// How many symbols are examined together.
const SAMPLE: u32 = 512;

/// Decides whether the newest symbols are of other kinds than the earlier ones of the block. If they are,
/// codes of their own are shorter.
#[derive(Debug, Default)]
struct Split {
    old: [u32; KINDS],
    new: [u32; KINDS],
    olds: u32,
    news: u32,
}

impl Split {
    #[inline]
    fn count(&mut self, kind: usize) {
        self.new[kind] += 1;
        self.news += 1;
    }

    /// Whether there are enough symbols to examine.
    #[inline]
    const fn is_due(&self) -> bool {
        self.news >= SAMPLE
    }

    /// Whether a block of `taken` bytes should end. The new symbols become old ones.
    fn changed(&mut self, taken: usize) -> bool {
        if self.olds > 0 {
            // Differences of the shares, both scaled by both totals.
            let differences: u64 = self
                .old
                .iter()
                .zip(&self.new)
                .map(|(old, new)| {
                    (u64::from(*old) * u64::from(self.news)).abs_diff(u64::from(*new) * u64::from(self.olds))
                })
                .sum();
            let scale = u64::from(self.news) * u64::from(self.olds);
            // The block ends if 200 of 512 symbols are of another kind. In a longer block, fewer suffice.
            let longer = u64_of(taken) / 4096 * u64::from(self.olds) * 8;
            if differences + longer >= scale * 200 / 512 {
                return true;
            }
        }
        for (old, new) in self.old.iter_mut().zip(&mut self.new) {
            *old += std::mem::take(new);
        }
        self.olds += std::mem::take(&mut self.news);
        false
    }
}
