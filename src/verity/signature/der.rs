//! DER (ITU-T X.690), as much of it as a signature needs: every value is a tag, a length and that many bytes.

/// Tags that occur here.
pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const NULL: u8 = 0x05;
pub(super) const OBJECT: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
/// `[0]`, constructed.
pub(super) const CONTEXT_0: u8 = 0xa0;
/// `[1]`, constructed.
#[cfg(feature = "verity-sign")]
pub(super) const CONTEXT_1: u8 = 0xa1;

/// A value with this tag, whose contents are `parts` one behind the other.
pub(super) fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short @ ..=0x7f) => out.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let digits = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
            // A length has at most eight digits, so the sum is below 256.
            out.push(digits.iter().fold(0x80, |count, _| count + 1));
            out.extend(digits);
        }
    }
    parts.iter().for_each(|part| out.extend(*part));
    out
}

/// Values one behind the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values<'a>(pub(super) &'a [u8]);

/// A value that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Read<'a> {
    pub(super) tag: u8,
    /// What is behind tag and length.
    pub(super) contents: &'a [u8],
    /// With tag and length.
    pub(super) whole: &'a [u8],
}

impl<'a> Values<'a> {
    /// The next value; `None` where there is none, or none that is whole. Tags of more than one byte do not occur here.
    pub(super) fn next(&mut self) -> Option<Read<'a>> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            ..=0x7f => (usize::from(*first), rest),
            // Not more digits than a length in memory has.
            0x81..=0x88 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
                (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        let whole = self.0.get(..self.0.len() - rest.len())?;
        self.0 = rest;
        Some(Read { tag: *tag, contents, whole })
    }

    /// The next value, which has this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Option<Read<'a>> {
        self.next().filter(|read| read.tag == tag)
    }

    /// The contents of the next value, which has this tag and contains values.
    pub(super) fn enter(&mut self, tag: u8) -> Option<Self> {
        self.expect(tag).map(|read| Self(read.contents))
    }

    /// Passes over the next value where it has this tag.
    pub(super) fn skip(&mut self, tag: u8) {
        let mut rest = *self;
        if rest.expect(tag).is_some() {
            *self = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(tag: u8, length in prop_oneof![0_usize..300, 65_000_usize..66_000], cut in 1_usize..9) {
            let contents = vec![7; length];
            let bytes = value(tag, &[&contents[..length / 2], &contents[length / 2..]]);
            let mut values = Values(&bytes);
            prop_assert_eq!(values.next(), Some(Read { tag, contents: &contents, whole: &bytes }));
            prop_assert_eq!(values.next(), None);
            let short = bytes.len().saturating_sub(cut);
            prop_assert_eq!(Values(&bytes[..short]).next(), None);
        }
    }

    #[test]
    fn lengths_are_of_the_fewest_digits_and_endless_ones_are_no_values() {
        assert_eq!(value(SEQUENCE, &[&[0; 127]])[..2], [0x30, 0x7f]);
        assert_eq!(value(SEQUENCE, &[&[0; 128]])[..3], [0x30, 0x81, 0x80]);
        assert_eq!(value(SEQUENCE, &[&[0; 256]])[..4], [0x30, 0x82, 1, 0]);
        for bad in [&[0x30, 0x80, 0, 0][..], &[0x30, 0x89, 0, 0, 0, 0, 0, 0, 0, 0, 1, 7], &[0x30]] {
            assert_eq!(Values(bad).next(), None);
        }
        assert_eq!(Values(&[0x30, 0x88, 255, 255, 255, 255, 255, 255, 255, 255]).next(), None);
    }
}
