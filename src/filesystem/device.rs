//! Reads the structures of a volume: many small ones that lie near each other.

use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Kind, Result};
use crate::image::{Cursor, Slice};
use crate::units::{Bytes, u64_of, usize_of};
use crate::wire::Wire;

/// Bytes of a line of the cache.
const LINE: usize = 4096;
/// Number of lines: 256 KiB in all, for the tables that one operation alternates between.
const LINES: u64 = 64;

/// A volume's bytes with a small cache.
#[derive(Debug)]
pub(super) struct Device {
    slice: Slice,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    cursor: Cursor,
    /// The line at its number modulo [`LINES`]: its number and bytes.
    lines: Vec<Option<(u64, Box<[u8; LINE]>)>>,
}

impl State {
    /// Line `number`.
    fn line(&mut self, number: u64) -> Result<&[u8; LINE]> {
        let place = &mut self.lines[usize_of(number % LINES)];
        let kept = match place.take() {
            Some((own, bytes)) if own == number => bytes,
            other => {
                let mut bytes = other.map_or_else(|| Box::new([0; LINE]), |(_, bytes)| bytes);
                self.cursor.read(number * u64_of(LINE), bytes.as_mut_slice())?;
                bytes
            }
        };
        Ok(&place.insert((number, kept)).1)
    }
}

impl Device {
    pub(super) fn new(slice: &Slice) -> Self {
        let lines = (0..LINES).map(|_| None).collect();
        Self { slice: slice.clone(), state: Mutex::new(State { cursor: slice.cursor(), lines }) }
    }

    /// Length of the volume in bytes.
    pub(super) fn length(&self) -> u64 {
        self.slice.length().get()
    }

    /// The range `offset..offset + length` of the volume.
    pub(super) fn slice(&self, offset: u64, length: u64) -> Result<Slice> {
        let (start, length) = (Bytes::new(offset), Bytes::new(length));
        self.slice.get(start, start + length).ok_or_else(|| {
            Error::new(Kind::Format, "something lies outside the filesystem")
                .expected(format!("a place within {} bytes", self.length()))
                .found(format!("{} bytes at {offset}", length.get()))
        })
    }

    /// Where a part of the volume begins in it; `None` for bytes that are not stored there as they are.
    pub(super) fn offset_of(&self, part: &Slice) -> Option<u64> {
        let own = part.image().is_same(self.slice.image()).then(|| part.start().get());
        own.and_then(|start| start.checked_sub(self.slice.start().get()))
    }

    /// Whether nothing is stored in `length` bytes from `offset`, so that they read as zero.
    pub(super) fn is_hole(&self, offset: u64, length: u64) -> bool {
        self.slice
            .sub(Bytes::new(offset), Bytes::new(offset) + Bytes::new(length))
            .segments()
            .next()
            .is_none()
    }

    /// Fills `out` with the bytes at `offset`.
    ///
    /// # Errors
    /// [`Kind::Format`] where they lie outside the volume.
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let end = self.slice(offset, u64_of(out.len())).map(|_| offset + u64_of(out.len()))?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if out.len() > LINE {
            return state.cursor.read(offset, out);
        }
        let mut at = offset;
        let mut rest = out;
        while at < end {
            let line = state.line(at / u64_of(LINE))?;
            let from = usize_of(at % u64_of(LINE));
            let (now, later) = rest.split_at_mut((LINE - from).min(rest.len()));
            now.copy_from_slice(&line[from..from + now.len()]);
            at += u64_of(now.len());
            rest = later;
        }
        Ok(())
    }

    /// `length` bytes at `offset`. The caller limits the length.
    pub(super) fn bytes(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.read(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// The structure at `offset`.
    pub(super) fn structure<T: Wire>(&self, offset: u64) -> Result<T> {
        T::read(&self.bytes(offset, T::LENGTH)?)
    }
}

/// The error for something that is damaged.
pub(super) fn damaged(what: impl Into<String>) -> Error {
    Error::new(Kind::Format, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Builder;

    #[test]
    fn reads_are_those_of_the_volume_wherever_lines_end() {
        let bytes: Vec<u8> = (0..40_000_u32).map(|at| at.to_le_bytes()[usize::from(at % 2 == 1)]).collect();
        let mut image = Builder::new(Bytes::new(1 << 20));
        image.bytes(Bytes::new(100), "numbers", bytes.clone());
        let device = Device::new(&image.finish().unwrap().slice(Bytes::new(100), Bytes::new(900_000)));
        for (offset, length) in
            [(0, 16), (4090, 12), (4096, 4096), (1, 4096), (8191, 9000), (39_990, 40), (4090, 12)]
        {
            let mut expected = bytes.clone();
            expected.resize(50_000, 0);
            assert_eq!(
                device.bytes(offset, length).unwrap(),
                expected[usize_of(offset)..][..length],
                "{offset}"
            );
        }
        // Another line at the same position of the cache, and back.
        let far = u64_of(LINE) * LINES;
        assert_eq!(device.bytes(far, 8).unwrap(), [0; 8]);
        assert_eq!(device.bytes(0, 8).unwrap(), bytes[..8]);
        assert!(device.is_hole(far, 4096) && !device.is_hole(39_999, 4096));
        for (offset, length) in [(899_895, 16), (u64::MAX, 1), (899_900, 1)] {
            let error = device.bytes(offset, length).unwrap_err();
            assert_eq!(error.kind(), Kind::Format, "{offset}");
        }
    }
}
