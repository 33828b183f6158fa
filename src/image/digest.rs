//! Digests of data that become metadata: some bytes of an image are observed while they are copied, and
//! others are rendered from what the observers saw.
//!
//! A filesystem whose metadata holds checksums of its data declares the data as observed
//! ([`Builder::digested`]) and renders the metadata from its [`Digest`]. The pour shows the digest the same
//! bytes that it writes, all of them before it renders anything, so it reads data once. Other readers of the
//! image settle the digests by a read of their own: [`Image::settle`], or the first read of rendered bytes.
//!
//! [`Builder::digested`]: super::Builder::digested

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Image, Slice};
use crate::error::{Error, Result};
use crate::units::{Bytes, usize_of};

/// Looks at the bytes of a range of an image, grain by grain.
pub trait Digest: Send + Sync + fmt::Debug {
    /// Where grain `number` ends, in bytes from the start of the range: `(number + 1) * size` for grains of
    /// one size. Grains follow each other from the start of the range, and none is empty. The last grain is
    /// cut at the end of the range. A whole grain is read into memory at once.
    fn grain_end(&self, number: u64) -> u64;

    /// Takes the bytes of a grain; holes read as zero. Grains come in any order and on any thread. One may
    /// come more than once, always with the same bytes.
    ///
    /// # Errors
    /// Any error that makes the digest impossible; it ends the pour or the read.
    fn take(&self, number: u64, bytes: &[u8]) -> Result<()>;
}

/// A digest of one range, and whether it has seen all of it. All images that hold a part of the range share it.
#[derive(Debug)]
pub(crate) struct Observation {
    digest: Arc<dyn Digest>,
    settled: AtomicBool,
}

/// A range of an image that is observed, or a part of such a range of another image.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) start: Bytes,
    pub(super) end: Bytes,
    /// Where this part begins in the whole range.
    skip: Bytes,
    /// The whole range in the image that declared it; `None` if this image declared it.
    origin: Option<Slice>,
    observation: Arc<Observation>,
}

/// A digest that is not settled, the range that it has to see, and the places of that range in an image.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) observation: Arc<Observation>,
    /// The whole range, in the image that declared it.
    pub(crate) data: Slice,
    pub(crate) places: Vec<Place>,
}

/// The place of a part of an observed range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) start: Bytes,
    pub(crate) end: Bytes,
    /// Where the part begins in the range.
    pub(crate) skip: Bytes,
}

/// A grain of an observed range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grain {
    pub(crate) number: u64,
    pub(crate) start: Bytes,
    pub(crate) end: Bytes,
}

impl Grain {
    /// How long it is.
    pub(crate) const fn length(&self) -> u64 {
        self.end.get() - self.start.get()
    }
}

impl Observation {
    /// Whether the digest has seen the whole range.
    fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// Notes that the digest has seen the whole range.
    pub(crate) fn settle(&self) {
        self.settled.store(true, Ordering::Release);
    }

    /// The grains from number `number`, which begins at `start` of the range, up to `end`.
    pub(crate) fn grains(
        &self,
        mut number: u64,
        mut start: Bytes,
        end: Bytes,
    ) -> impl Iterator<Item = Result<Grain>> + '_ {
        std::iter::from_fn(move || {
            if start >= end {
                return None;
            }
            let grain = Grain { number, start, end: Bytes::new(self.digest.grain_end(number)).min(end) };
            if grain.end <= start {
                let what = format!("grain {number} of a digest ends at byte {}", grain.end.get());
                let fault = Error::bug(format!("{what} and begins at byte {}", start.get()));
                start = end;
                return Some(Err(fault));
            }
            (number, start) = (number + 1, grain.end);
            Some(Ok(grain))
        })
    }

    /// Shows the digest the bytes of a grain.
    pub(crate) fn take(&self, grain: Grain, bytes: &[u8]) -> Result<()> {
        self.digest.take(grain.number, bytes)
    }
}

impl Observed {
    /// The range `start..end` of the image that is being built.
    pub(super) fn new(start: Bytes, end: Bytes, digest: Arc<dyn Digest>) -> Self {
        let observation = Arc::new(Observation { digest, settled: AtomicBool::new(false) });
        Self { start, end, skip: Bytes::ZERO, origin: None, observation }
    }

    /// The whole range in the image that declared it; `image` is the image that holds this part.
    fn data(&self, image: &Image) -> Slice {
        self.origin.clone().unwrap_or_else(|| image.slice(self.start, self.end))
    }
}

impl Slice {
    /// The observed parts of the slice, moved to where the slice is put at `offset`.
    pub(super) fn observed_at(&self, offset: Bytes) -> impl Iterator<Item = Observed> + '_ {
        let all = &self.image().0.observed;
        let first = all.partition_point(|observed| observed.end <= self.start());
        all[first..].iter().take_while(|observed| observed.start < self.end()).map(move |observed| {
            let (start, end) = (observed.start.max(self.start()), observed.end.min(self.end()));
            Observed {
                start: offset + start.saturating_sub(self.start()),
                end: offset + end.saturating_sub(self.start()),
                skip: observed.skip + start.saturating_sub(observed.start),
                origin: Some(observed.data(self.image())),
                observation: Arc::clone(&observed.observation),
            }
        })
    }
}

impl Image {
    /// Whether all digests of the image's data are taken; true for an image without digests.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let inner = &self.0;
        if inner.observed.is_empty() || inner.settled.load(Ordering::Acquire) {
            return true;
        }
        let settled = inner.observed.iter().all(|observed| observed.observation.is_settled());
        inner.settled.store(settled, Ordering::Release);
        settled
    }

    /// Whether any of the image's data is observed, settled or not.
    pub(crate) fn is_observed(&self) -> bool {
        !self.0.observed.is_empty()
    }

    /// The digests that are not settled.
    pub(crate) fn pending(&self) -> Vec<Pending> {
        let mut numbers: HashMap<usize, usize> = HashMap::new();
        let mut pending: Vec<Pending> = Vec::new();
        for observed in self.0.observed.iter().filter(|observed| !observed.observation.is_settled()) {
            let place = Place { start: observed.start, end: observed.end, skip: observed.skip };
            let address = Arc::as_ptr(&observed.observation).addr();
            let number = *numbers.entry(address).or_insert_with(|| {
                let observation = Arc::clone(&observed.observation);
                pending.push(Pending { observation, data: observed.data(self), places: Vec::new() });
                pending.len() - 1
            });
            pending[number].places.push(place);
        }
        pending
    }

    /// Takes all missing digests on this thread alone.
    pub(super) fn settle_alone(&self) -> Result<()> {
        for Pending { observation, data, .. } in self.pending() {
            let mut cursor = data.unsettled_cursor();
            let mut bytes = Vec::new();
            for grain in observation.grains(0, Bytes::ZERO, data.length()) {
                let grain = grain?;
                bytes.resize(usize_of(grain.length()), 0);
                cursor.read(grain.start.get(), &mut bytes)?;
                observation.take(grain, &bytes)?;
            }
            observation.settle();
        }
        Ok(())
    }
}
