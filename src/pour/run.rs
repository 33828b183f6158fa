//! Gathering: one worker's part of the image, read piece by piece into a buffer that is written in runs.

use super::way::{Buffer, Way};
use super::zeros::is_zero;
use super::{PAGE, Unit, Work, Zeros, share};
use crate::error::Result;
use crate::image::{Cursor, Data, Segment};
use crate::units::{Bytes, usize_of};

/// One worker's gathered bytes: a run of the image that is not yet written.
pub(super) struct Run<'a> {
    work: &'a Work<'a>,
    cursor: Cursor,
    way: Way,
    /// Where the run begins. The buffer begins with the page that this is on.
    start: u64,
    /// Where the run ends. What is behind it in the buffer was written already: file data goes over it, and only what has
    /// to be zero is made so, since clearing all would take as long as a copy in memory.
    end: u64,
    buffer: Buffer,
}

impl<'a> Run<'a> {
    pub(super) fn new(work: &'a Work<'a>) -> Self {
        let (cursor, buffer) = (work.image.cursor(), Buffer::new(work.ways.most()));
        Self { work, cursor, way: Way::Cached, start: 0, end: 0, buffer }
    }

    /// Writes what `unit` covers.
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

    /// Allocates the blocks of all that has no hole of a page.
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

    /// Gathers one piece, in steps where it is longer than what is written at once.
    fn piece(&mut self, piece: Segment) -> Result<()> {
        let mut from = piece.offset.get() + self.share(&piece)?;
        let end = piece.end().get();
        while from < end {
            // A hole is not written, and what is short is not cut: a small file is then read at once.
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

    /// Where a run ends at the latest, on the border of two pages. A run ends there, or before a piece that begins on
    /// another page: no two runs are on one page.
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

    /// Where the first byte of the buffer belongs.
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

    /// Shares what can be shared of a piece with the host filesystem; returns how many bytes from its start on.
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

/// The parts of `from..to` of `bytes`, which begin with a page, that are no pages of zeros.
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
