//! A set of numbers below a limit, with one bit for each.

use std::ops::Range;

use crate::units::{u64_of, usize_of};

/// Bits of a word.
const WORD: u64 = 64;

#[derive(Debug)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// The empty set of numbers below `length`. The caller limits `length`.
    pub(super) fn new(length: u64) -> Self {
        Self(vec![0; usize_of(length.div_ceil(WORD))])
    }

    /// The words that a range covers: the number of each word, and the range's bits in it as a mask.
    fn masks(&self, range: Range<u64>) -> impl Iterator<Item = (usize, u64)> + use<> {
        let range = range.start..range.end.min(u64_of(self.0.len()) * WORD);
        let words = range.start / WORD..range.end.div_ceil(WORD).max(range.start / WORD);
        words.filter(move |_| range.start < range.end).map(move |word| {
            let (first, last) = (range.start.max(word * WORD), range.end.min((word + 1) * WORD));
            let ones = if last - first == WORD { u64::MAX } else { (1 << (last - first)) - 1 };
            (usize_of(word), ones << (first % WORD))
        })
    }

    /// Adds the numbers of a range. Returns the first one that was in the set already. Numbers past the end
    /// are ignored.
    pub(super) fn add(&mut self, range: Range<u64>) -> Option<u64> {
        let mut twice = None;
        for (at, mask) in self.masks(range) {
            let word = &mut self.0[at];
            let both = *word & mask;
            if both != 0 && twice.is_none() {
                twice = Some(u64_of(at) * WORD + u64::from(both.trailing_zeros()));
            }
            *word |= mask;
        }
        twice
    }

    /// Whether a number is in the set.
    pub(super) fn has(&self, number: u64) -> bool {
        self.0.get(usize_of(number / WORD)).is_some_and(|word| word >> (number % WORD) & 1 == 1)
    }

    /// How many numbers of a range are in the set.
    pub(super) fn count(&self, range: Range<u64>) -> u64 {
        self.masks(range).map(|(at, mask)| u64::from((self.0[at] & mask).count_ones())).sum()
    }

    /// Removes all numbers.
    pub(super) fn clear(&mut self) {
        self.0.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_set_of_bits_is_a_set(ranges in prop::collection::vec((0_u64..700, 0_u64..300), 1..20), asked in (0_u64..900, 0_u64..300)) {
            let mut bits = Bits::new(1024);
            let mut set = BTreeSet::new();
            for (start, length) in ranges {
                let twice = (start..start + length).find(|number| set.contains(number));
                prop_assert_eq!(bits.add(start..start + length), twice);
                set.extend(start..start + length);
            }
            let asked = asked.0..asked.0 + asked.1;
            prop_assert_eq!(bits.count(asked.clone()), u64_of(set.range(asked.clone()).count()));
            prop_assert!((0..1024).all(|number| bits.has(number) == set.contains(&number)));
            bits.clear();
            prop_assert_eq!(bits.count(0..1024), 0);
        }
    }

    #[test]
    fn what_lies_past_the_end_is_left_out() {
        let mut bits = Bits::new(64);
        assert_eq!(bits.add(60..1 << 40), None);
        assert_eq!((bits.count(0..1 << 40), bits.has(63), bits.has(64)), (4, true, false));
        let (end, start) = (3, 5);
        assert_eq!(bits.add(start..end), None);
    }
}
