//! Changes to bytes that exist: what an image holds elsewhere stays, and nothing is written yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Builder, Image, Slice};
use crate::error::Result;
use crate::units::{Bytes, u64_of};

/// Bytes that take the place of others, and ranges that become zero.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patch {
    /// Ranges that become zero, except where there are writes.
    zeros: Vec<(Bytes, Bytes)>,
    /// What is written, by its place, each with a name for maps and errors.
    writes: BTreeMap<Bytes, (String, Arc<[u8]>)>,
}

impl Patch {
    /// Whether nothing changes.
    pub(crate) fn is_empty(&self) -> bool {
        self.zeros.is_empty() && self.writes.is_empty()
    }

    /// Writes `bytes` at `at`. Writes to one place replace each other; others must not overlap.
    pub(crate) fn put(&mut self, at: Bytes, label: impl Into<String>, bytes: impl Into<Arc<[u8]>>) {
        self.writes.insert(at, (label.into(), bytes.into()));
    }

    /// Makes `start..end` zero.
    pub(crate) fn zero(&mut self, start: Bytes, end: Bytes) {
        if start < end {
            self.zeros.push((start, end));
        }
    }

    /// Adds the changes to what begins at `offset`.
    pub(crate) fn add(&mut self, offset: Bytes, other: Self) {
        self.zeros.extend(other.zeros.into_iter().map(|(start, end)| (offset + start, offset + end)));
        self.writes.extend(other.writes.into_iter().map(|(at, write)| (offset + at, write)));
    }

    /// `old` with these changes, in an image of `length`.
    ///
    /// # Errors
    /// As [`Builder::finish`]: two writes that overlap, or one outside the image.
    pub(crate) fn over(self, old: &Slice, length: Bytes) -> Result<Image> {
        let written = self.writes.iter().map(|(at, (_, bytes))| (*at, *at + Bytes::new(u64_of(bytes.len()))));
        let mut changed: Vec<(Bytes, Bytes)> = written.chain(self.zeros.iter().copied()).collect();
        changed.sort_unstable();
        let mut image = Builder::new(length);
        let mut at = Bytes::ZERO;
        for (start, end) in changed.into_iter().chain([(old.length(), old.length())]) {
            if at < start {
                image.put(at, &old.sub(at, start));
            }
            at = at.max(end);
        }
        for (place, (label, bytes)) in self.writes {
            image.bytes(place, label, bytes);
        }
        image.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old() -> Image {
        let mut old = Builder::new(Bytes::new(8));
        old.bytes(Bytes::ZERO, "old", [1; 8]);
        old.finish().unwrap()
    }

    fn read(image: &Image) -> Vec<u8> {
        image.whole().bytes(0, usize::try_from(image.length().get()).unwrap()).unwrap()
    }

    #[test]
    fn writes_stand_over_zeros_and_zeros_over_what_was_there() {
        let mut patch = Patch::default();
        assert!(patch.is_empty());
        patch.zero(Bytes::new(2), Bytes::new(5));
        patch.zero(Bytes::new(4), Bytes::new(10));
        patch.zero(Bytes::new(4), Bytes::new(4));
        patch.put(Bytes::new(3), "a", [7, 7]);
        let mut whole = Patch::default();
        whole.put(Bytes::new(11), "b", [9]);
        whole.add(Bytes::new(1), patch.clone());
        assert_eq!(
            read(&patch.over(&old().whole(), Bytes::new(12)).unwrap()),
            [1, 1, 0, 7, 7, 0, 0, 0, 0, 0, 0, 0]
        );
        let both = whole.over(&old().whole(), Bytes::new(12)).unwrap();
        assert_eq!(read(&both), [1, 1, 1, 0, 7, 7, 0, 0, 0, 0, 0, 9]);
    }

    #[test]
    fn writes_that_overlap_are_refused() {
        let mut patch = Patch::default();
        patch.put(Bytes::new(1), "one", [1; 4]);
        patch.put(Bytes::new(3), "other", [1; 4]);
        let error = patch.over(&old().whole(), Bytes::new(8)).unwrap_err().to_string();
        assert!(error.contains("one") && error.contains("other"), "{error}");
    }
}
