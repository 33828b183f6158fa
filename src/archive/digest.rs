//! Digests of an OCI descriptor: `sha256:` and 64 hexadecimal digits (OCI image specification, descriptor.md).

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256, Sha512};

use crate::encoding::{from_hex, to_hex};
use crate::error::{Error, Kind, Result};
use crate::image::Slice;
use crate::progress::Progress;
use crate::units::{MIB, u64_of, usize_of};

/// A digest that bytes are to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Digest {
    wide: bool,
    bytes: Vec<u8>,
}

impl Digest {
    /// A digest as a descriptor has it.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let parsed = match text.split_once(':') {
            Some(("sha256", digits)) => from_hex(digits.as_bytes()).filter(|bytes| bytes.len() == 32),
            Some(("sha512", digits)) => from_hex(digits.as_bytes()).filter(|bytes| bytes.len() == 64),
            _ => None,
        };
        let bytes = parsed.ok_or_else(|| {
            super::damaged("a digest of the image is not one that is known here")
                .expected("sha256: or sha512:, and hexadecimal digits")
                .found(crate::text::shortened(text.as_bytes(), 100))
        })?;
        Ok(Self { wide: bytes.len() == 64, bytes })
    }

    /// The file of the blob in an image layout. It has only hexadecimal digits, and so leads nowhere else.
    pub(super) fn blob(&self) -> String {
        let algorithm = if self.wide { "sha512" } else { "sha256" };
        format!("blobs/{algorithm}/{}", to_hex(&self.bytes))
    }

    fn text(&self) -> String {
        format!("{}:{}", if self.wide { "sha512" } else { "sha256" }, to_hex(&self.bytes))
    }

    /// Refuses bytes of another digest.
    pub(super) fn check(&self, bytes: &[u8], what: &str) -> Result<()> {
        let mut hash = Hash::new(self.wide);
        hash.update(bytes);
        self.compare(hash, what)
    }

    fn compare(&self, hash: Hash, what: &str) -> Result<()> {
        let found = hash.finish();
        if found == self.bytes {
            return Ok(());
        }
        let found = Self { wide: self.wide, bytes: found };
        Err(Error::new(Kind::Source, format!("{what} has another digest than the image says"))
            .expected(self.text())
            .found(found.text())
            .hint("it is damaged or not the one that was meant: get the image once more"))
    }
}

#[derive(Debug)]
enum Hash {
    Narrow(Sha256),
    Wide(Sha512),
}

impl Hash {
    fn new(wide: bool) -> Self {
        if wide { Self::Wide(Sha512::new()) } else { Self::Narrow(Sha256::new()) }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Narrow(hash) => hash.update(bytes),
            Self::Wide(hash) => hash.update(bytes),
        }
    }

    fn finish(self) -> Vec<u8> {
        match self {
            Self::Narrow(hash) => hash.finalize().to_vec(),
            Self::Wide(hash) => hash.finalize().to_vec(),
        }
    }
}

/// The digests that a layer is to have.
#[derive(Clone, Debug, Default)]
pub(super) struct Checked {
    /// As it lies there.
    pub(super) whole: Option<Digest>,
    /// Decompressed.
    pub(super) content: Option<Digest>,
}

impl Checked {
    /// Checks a layer that is not compressed, and so has both digests at once.
    pub(super) fn in_place(&self, slice: &Slice, progress: &Progress) -> Result<()> {
        let mut checks = [Check::new(self.whole.as_ref()), Check::new(self.content.as_ref())];
        if self.whole == self.content {
            checks[1] = Check::new(None);
        }
        if checks.iter().all(|check| check.0.is_none()) {
            return Ok(());
        }
        let (mut cursor, length) = (slice.cursor(), slice.length().get());
        let (mut at, mut buffer) = (0, vec![0; usize_of(length.min(MIB))]);
        while at < length {
            progress.check()?;
            let piece = &mut buffer[..usize_of((length - at).min(MIB))];
            cursor.read(at, piece)?;
            checks.iter().for_each(|check| check.update(piece));
            at += u64_of(piece.len());
        }
        checks.iter_mut().try_for_each(Check::finish)
    }
}

/// A digest that is being computed, and the one it is to be.
#[derive(Clone, Debug)]
pub(super) struct Check(Option<(Digest, Arc<Mutex<Option<Hash>>>)>);

impl Check {
    pub(super) fn new(digest: Option<&Digest>) -> Self {
        Self(digest.map(|digest| (digest.clone(), Arc::new(Mutex::new(Some(Hash::new(digest.wide)))))))
    }

    pub(super) fn update(&self, bytes: &[u8]) {
        if let Some((_, hash)) = &self.0
            && let Some(hash) = &mut *hash.lock().unwrap_or_else(PoisonError::into_inner)
        {
            hash.update(bytes);
        }
    }

    /// Compares. Afterwards there is nothing more to compare.
    pub(super) fn finish(&mut self) -> Result<()> {
        let Some((digest, hash)) = self.0.take() else { return Ok(()) };
        match hash.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(hash) => digest.compare(hash, "a layer"),
            None => Ok(()),
        }
    }

    /// `read`, whose bytes are digested as they pass.
    pub(super) fn reader<R: Read>(&self, read: R) -> Digested<R> {
        Digested { read, check: self.clone() }
    }
}

/// A reader whose bytes are digested.
pub(super) struct Digested<R> {
    read: R,
    check: Check,
}

impl<R: Read> Read for Digested<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.read.read(out)?;
        self.check.update(&out[..length]);
        Ok(length)
    }
}
