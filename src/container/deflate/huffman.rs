//! Huffman codes of limited length (RFC 1951 section 3.2.2).

use super::bits::Bits;

/// The longest code of literals, lengths and distances (RFC 1951 section 3.2.7).
pub(super) const LONGEST: u8 = 15;

/// The lengths of an optimal prefix code for symbols with these `counts`, none longer than `longest`; 0 for
/// symbols that do not occur. At least two symbols get a code, so that the code is complete: readers differ
/// in which incomplete codes they accept.
pub(super) fn lengths(counts: &[u32], longest: u8, out: &mut [u8]) {
    out.fill(0);
    // A count and its symbol in one number, so that sorting needs no second key. Symbols are below 2^9.
    let mut used: Vec<u64> = Vec::with_capacity(counts.len());
    for (symbol, count) in (0_u64..).zip(counts) {
        if *count > 0 {
            used.push(u64::from(*count) << 9 | symbol);
        }
    }
    for symbol in 0..2_u64 {
        if used.len() < 2 && !used.iter().any(|key| key & 0x1ff == symbol) {
            used.push(1 << 9 | symbol);
        }
    }
    used.sort_unstable();
    let mut leaves = leaves_by_depth(&used, longest);
    // The rarest get the longest codes.
    let mut depth = usize::from(longest);
    for key in used {
        while leaves[depth] == 0 {
            depth -= 1;
        }
        leaves[depth] -= 1;
        if let (Ok(symbol), Ok(depth)) = (usize::try_from(key & 0x1ff), u8::try_from(depth)) {
            out[symbol] = depth;
        }
    }
}

/// The number of leaves at each depth up to `longest` of the tree over `used`, which ascends.
fn leaves_by_depth(used: &[u64], longest: u8) -> [u32; 16] {
    // Two queues: the leaves, and the inner nodes in the order in which they are made, which also ascends.
    let inner = used.len() - 1;
    let mut weights: Vec<u64> = Vec::with_capacity(inner);
    let mut parents: Vec<usize> = vec![0; used.len() + inner];
    let (mut leaf, mut node) = (0, 0);
    for made in 0..inner {
        let mut weight = 0;
        for _ in 0..2 {
            let lighter = |leaf: &u64| weights.get(node).is_none_or(|node| leaf <= node);
            match used.get(leaf).map(|key| key >> 9).filter(lighter) {
                Some(of_leaf) => {
                    weight += of_leaf;
                    parents[leaf] = made;
                    leaf += 1;
                }
                // As long as less than all nodes are made, two are left.
                None => {
                    weight += weights[node];
                    parents[used.len() + node] = made;
                    node += 1;
                }
            }
        }
        weights.push(weight);
    }
    // From the root down: a node is made after its children.
    let mut depths = vec![0_usize; inner];
    for made in (0..inner.saturating_sub(1)).rev() {
        depths[made] = depths[parents[used.len() + made]] + 1;
    }
    let longest = usize::from(longest);
    let mut leaves = [0_u32; 16];
    for parent in &parents[..used.len()] {
        leaves[(depths[*parent] + 1).min(longest)] += 1;
    }
    limit(&mut leaves, longest);
    leaves
}

/// Makes places for leaves that were moved up to the depth `longest`. A leaf above moves one level down and
/// takes one of them as its neighbour, which frees a place. This repeats until all have a place (Kraft's sum
/// is 1).
fn limit(leaves: &mut [u32; 16], longest: usize) {
    let sum: u64 = (1..=longest).map(|depth| u64::from(leaves[depth]) << (longest - depth)).sum();
    for _ in 1_u64 << longest..sum {
        if let Some(depth) = (1..longest).rev().find(|depth| leaves[*depth] > 0) {
            leaves[depth] -= 1;
            leaves[depth + 1] += 2;
            leaves[longest] -= 1;
        }
    }
}

/// A code and its extra bits as one word: the bits, and above them their number.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Code {
    pub(super) bits: u32,
    pub(super) length: u32,
}

impl Code {
    #[inline]
    pub(super) fn put(self, bits: &mut Bits<'_>) {
        bits.put(u64::from(self.bits), self.length);
    }
}

/// The codes of symbols with these lengths, first bit lowest (RFC 1951 section 3.2.2).
pub(super) fn codes<const N: usize>(lengths: &[u8; N]) -> [Code; N] {
    let mut out = [Code::default(); N];
    let mut next = [0_u16; 17];
    for length in lengths {
        if *length > 0 {
            next[usize::from(*length) + 1] += 1;
        }
    }
    let mut first = 0_u16;
    for count in &mut next {
        // The codes of one length begin after the last code of the previous length, doubled.
        first = first.wrapping_add(*count) << 1;
        *count = first;
    }
    for (length, code) in lengths.iter().zip(&mut out) {
        if *length > 0 {
            let next = &mut next[usize::from(*length)];
            let length = u32::from(*length);
            *code = Code { bits: u32::from(next.reverse_bits() >> (16 - length)), length };
            *next = next.wrapping_add(1);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kraft(lengths: &[u8]) -> u32 {
        lengths.iter().filter(|length| **length > 0).map(|length| 1_u32 << (15 - length)).sum()
    }

    #[test]
    fn codes_are_those_of_the_specification() {
        // The example of RFC 1951 section 3.2.2.
        let forwards: Vec<u32> = codes(&[3, 3, 3, 3, 3, 2, 4, 4])
            .iter()
            .map(|code| code.bits.reverse_bits() >> (32 - code.length))
            .collect();
        assert_eq!(forwards, [0b010, 0b011, 0b100, 0b101, 0b110, 0b00, 0b1110, 0b1111]);
    }

    #[test]
    fn lengths_are_optimal_where_they_may_be_and_limited_where_not() {
        let mut out = [0; 5];
        lengths(&[1, 1, 2, 4, 8], 15, &mut out);
        assert_eq!(out, [4, 4, 3, 2, 1]);
        lengths(&[1, 1, 2, 4, 8], 3, &mut out);
        assert_eq!(out, [3, 3, 3, 3, 1]);
        lengths(&[0, 0, 0, 7, 0], 15, &mut out);
        assert_eq!(out, [1, 0, 0, 1, 0]);
        lengths(&[0; 5], 15, &mut out);
        assert_eq!(out, [1, 1, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn codes_are_complete_and_no_longer_than_allowed(
            counts in prop::collection::vec(prop_oneof![Just(0_u32), 1..9_u32, 1..70_000_u32], 19..288),
            short in any::<bool>()
        ) {
            let longest = if short { 9 } else { LONGEST };
            let mut out = vec![0; counts.len()];
            lengths(&counts, longest, &mut out);
            prop_assert_eq!(kraft(&out), 1 << 15);
            prop_assert!(out.iter().all(|length| *length <= longest));
            let used = counts.iter().filter(|count| **count > 0).count();
            prop_assert_eq!(out.iter().filter(|length| **length > 0).count(), used.max(2));
            // A symbol that occurs more often never has a longer code.
            for (a, long) in counts.iter().zip(&out) {
                for (b, short) in counts.iter().zip(&out) {
                    prop_assert!(a <= b || *a == 0 || *b == 0 || long <= short);
                }
            }
        }
    }
}
