//! Gathering: a worker reads its part of the image piece by piece into a buffer, and writes the buffer in
//! runs.

use super::way::{Buffer, Way};
use super::zeros::is_zero;
use super::{PAGE, Unit, Work, Zeros, share};
use crate::error::Result;
use crate::image::{Cursor, Data, Segment};
use crate::units::{Bytes, usize_of};

/// The bytes that one worker has gathered: a run of the image that is not yet written.
pub(super) struct Run<'a> {
    work: &'a Work<'a>,
    cursor: Cursor,
    way: Way,
    /// Where the run begins. The buffer begins at the start of that page.
    start: u64,
    /// Where the run ends. The buffer after it holds stale bytes. File data overwrites them, and only gaps
    /// are cleared, because clearing everything would take as long as a copy in memory.
    end: u64,
    buffer: Buffer,
}

impl<'a> Run<'a> {
    pub(super) fn new(work: &'a Work<'a>) -> Self {
        let (cursor, buffer) = (work.image.cursor(), Buffer::new(work.ways.most()));
        Self { work, cursor, way: Way::Cached, start: 0, end: 0, buffer }
    }

    /// Writes the covered parts of `unit`.
    pub(super) fn unit(&mut self, unit: Unit) -> Result<()> {
        let image = self.work.image;
        self.way = self.work.ways.choose();
        if (self.way, self.work.options.zeros, self.work.share) == (Way::Cached, Zeros::Write, false) {
            self.allocate(unit);
        }
        for piece in image.clipped(unit.start, unit.end) {
            self.piece(piece)?;
        }
        self.work.options.advance(image, unit.start, unit.end);
        self.flush()
    }

    /// Allocates the blocks of every part that has no hole of a page.
    fn allocate(&self, unit: Unit) {
        let (mut start, mut end) = (unit.start.get(), unit.start.get());
        for piece in self.work.image.clipped(unit.start, unit.end) {
            if piece.offset.get() - end >= PAGE {
                self.work.ways.allocate(start, end);
                start = piece.offset.get();
            }
            end = piece.end().get();
        }
        self.work.ways.allocate(start, end);
    }

    /// Gathers one piece, in steps if it is longer than one write.
    fn piece(&mut self, piece: Segment) -> Result<()> {
        let mut from = piece.offset.get() + self.share(&piece)?;
        let end = piece.end().get();
        while from < end {
            // A hole is not written. A short piece is not cut, so that a small file is read at once.
            let short = from.is_multiple_of(PAGE) && end - from <= self.way.step() / 4;
            let hole = from.saturating_sub(self.end) >= PAGE;
            if hole || from >= self.boundary() || (short && end > self.boundary()) {
                self.flush()?;
            }
            if self.end == self.start {
                (self.start, self.end) = (from, from);
            }
            let to = end.min(self.boundary());
            if let Some(step) = piece.clip(Bytes::new(from), Bytes::new(to)) {
                self.gather(&step)?;
            }
            from = to;
        }
        Ok(())
    }

    /// The last position where a run may end, at a page border. A run ends there, or before a piece that
    /// begins on another page, so no two runs share a page.
    const fn boundary(&self) -> u64 {
        self.base() + self.way.step()
    }

    /// Appends `step` to the run.
    fn gather(&mut self, step: &Segment) -> Result<()> {
        let base = self.base();
        let [end, from, to] = [self.end, step.offset.get(), step.end().get()].map(|at| usize_of(at - base));
        let bytes = self.buffer.bytes();
        bytes[end..from].fill(0);
        self.cursor.fill(step, &mut bytes[from..to])?;
        self.end = step.end().get();
        Ok(())
    }

    /// The offset in the image of the first byte of the buffer.
    const fn base(&self) -> u64 {
        self.start / PAGE * PAGE
    }

    fn flush(&mut self) -> Result<()> {
        let base = self.base();
        let (from, to) = (usize_of(self.start - base), usize_of(self.end - base));
        let whole = [(from, to)];
        let some;
        let runs = match self.work.options.zeros {
            Zeros::Write if from == to => return Ok(()),
            Zeros::Write => whole.as_slice(),
            Zeros::Skip => {
                some = runs(self.buffer.bytes(), (from, to));
                some.as_slice()
            }
        };
        for run in runs {
            self.work.ways.write(self.way, &mut self.buffer, base, *run)?;
        }
        self.work.ways.wrote(self.end - self.start);
        self.start = self.end;
        Ok(())
    }

    /// Shares as much of a piece as the host filesystem can. Returns how many bytes from its start were
    /// shared.
    fn share(&mut self, piece: &Segment) -> Result<u64> {
        let (Some(length), Data::File { files, file, skip }) = (share::shareable(piece), piece.data) else {
            return Ok(0);
        };
        if !self.work.share {
            return Ok(0);
        }
        self.flush()?;
        let source = self.cursor.source(files, file)?;
        share::share(source, skip, self.work.ways.output(), piece.offset.get(), length)
    }
}

/// The parts of `from..to` of `bytes` that are not pages of zeros. `bytes` begin at the start of a page.
fn runs(bytes: &[u8], (from, to): (usize, usize)) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    let mut at = from;
    while at < to {
        let end = to.min((at + 1).next_multiple_of(usize_of(PAGE)));
        if !is_zero(&bytes[at..end]) {
            match runs.last_mut() {
                Some(last) if last.1 == at => last.1 = end,
                _ => runs.push((at, end)),
            }
        }
        at = end;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_what_is_left_without_pages_of_zeros() {
        assert_eq!(runs(&[0; 9010], (10, 9010)), []);
        let mut bytes = vec![0; 20_010];
        for at in [110, 4095, 4096, 12_288, 20_009] {
            bytes[at] = 1;
        }
        assert_eq!(runs(&bytes, (10, 20_010)), [(10, 8192), (12_288, 20_010)]);
        assert_eq!(runs(&bytes, (4097, 12_288)), []);
    }
}
