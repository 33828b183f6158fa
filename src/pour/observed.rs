//! Shows digests the data that they observe, before anything is rendered from what they saw. A pour writes
//! the data from the same bytes.
//!
//! A pour of an image with digests has two steps. First each observed range is read, shown to its digest, and
//! written to every place that it has in the image. Then all digests are taken, and everything else is
//! written. The two steps never write to the same page. If a range has other data on its first or last page,
//! the first step only shows it, and the second step reads it again and writes it.

use super::ordered::{self, Memory, Stage};
use super::output::Output;
use super::share::{share, shareable};
use super::{PAGE, PourOptions, UNIT, Zeros};
use crate::error::{Error, Result};
use crate::image::{Builder, Cursor, Data, Grain, Image, Pending, Place, Segment, Slice};
use crate::units::{Bytes, KIB, usize_of};

/// How much is read and shown at a time, at least one grain: an amount that stays in the second-level cache.
const BUFFER: u64 = 256 * KIB;

/// Shows all digests of `image` that are not settled their data.
pub(super) fn settle(image: &Image, options: &PourOptions<'_>) -> Result<()> {
    let all = image.pending().into_iter().map(|pending| Range::new(pending, false)).collect();
    show(all, None, options).map(|_| ())
}

/// Shows all digests of `image` that are not settled their data, and writes that data. Returns what must
/// still be written, if there is anything.
pub(super) fn write(
    image: &Image,
    output: &Output,
    shares: bool,
    options: &PourOptions<'_>,
) -> Result<Option<Image>> {
    if image.is_settled() {
        return Ok(None);
    }
    // Pages of zeros are found while data is written with everything else.
    let writes = options.zeros == Zeros::Write;
    let range = |pending: Pending| {
        let alone = writes && pending.places.iter().all(|place| stands_alone(image, &pending.data, *place));
        Range::new(pending, alone)
    };
    let all = image.pending().into_iter().map(range).collect();
    output.set_length(image.length().get())?;
    let all = show(all, Some(Target { image, output, shares }), options)?;
    let mut written: Vec<Place> =
        all.iter().filter(|range| range.written).flat_map(|range| range.places.clone()).collect();
    written.sort_unstable_by_key(|place| place.start);
    let mut left = Builder::new(image.length());
    let mut at = Bytes::ZERO;
    for place in written {
        left.put(at, &image.slice(at, place.start));
        at = place.end;
    }
    left.put(at, &image.slice(at, image.length()));
    left.finish().map(Some)
}

/// Whether `place` of `image` can be written from `data`, the whole range, alone: it has the same bytes and
/// holes, and its first and last page contain nothing else.
fn stands_alone(image: &Image, data: &Slice, place: Place) -> bool {
    let (start, end) = (place.start, place.end);
    let length = end.saturating_sub(start);
    let before = image.clipped(start.round_down(PAGE), start).next();
    let after = image.clipped(end, end.round_up(PAGE)).next();
    let here = image.slice(start, end);
    let there = data.sub(place.skip, place.skip + length);
    before.is_none() && after.is_none() && runs(&here) == runs(&there)
}

/// The parts of a slice that are not holes.
fn runs(slice: &Slice) -> Vec<(Bytes, Bytes)> {
    let mut runs: Vec<(Bytes, Bytes)> = Vec::new();
    for segment in slice.segments() {
        match runs.last_mut() {
            Some(last) if last.1 == segment.offset => last.1 = segment.end(),
            _ => runs.push((segment.offset, segment.end())),
        }
    }
    runs
}

/// A range that a digest has to see.
struct Range {
    pending: Pending,
    /// Its places in the image that is poured, ordered by where they begin in the range.
    places: Vec<Place>,
    /// For each place, the farthest end in the range of this place and all before it.
    reach: Vec<Bytes>,
    /// Whether it is written as well.
    written: bool,
}

impl Range {
    fn new(mut pending: Pending, written: bool) -> Self {
        let mut places = std::mem::take(&mut pending.places);
        places.sort_unstable_by_key(|place| (place.skip, place.start));
        let mut reach = Bytes::ZERO;
        let reaches = places.iter().map(|place| {
            reach = reach.max(place.skip + place.end.saturating_sub(place.start));
            reach
        });
        let reach = reaches.collect();
        Self { pending, places, reach, written }
    }

    /// The parts of `from..to` of the range that have a place: the offset of the place, and the part of the
    /// range that is there.
    fn places(&self, from: Bytes, to: Bytes) -> impl Iterator<Item = (Bytes, Bytes, Bytes)> + '_ {
        let first = self.reach.partition_point(|reach| *reach <= from);
        let near = self.places[first..].iter().take_while(move |place| place.skip < to);
        near.filter_map(move |place| {
            let start = place.skip.max(from);
            let end = (place.skip + place.end.saturating_sub(place.start)).min(to);
            (start < end).then(|| (place.start + start.saturating_sub(place.skip), start, end))
        })
    }
}

/// Grains of a range that a worker takes at a time.
struct Item {
    range: usize,
    first: u64,
    start: Bytes,
    end: Bytes,
}

/// The image that is poured, and the output.
#[derive(Clone, Copy)]
struct Target<'a> {
    image: &'a Image,
    output: &'a Output,
    shares: bool,
}

/// Shows all ranges to their digests, writes those that have to be written, and returns all ranges.
fn show(ranges: Vec<Range>, target: Option<Target<'_>>, options: &PourOptions<'_>) -> Result<Vec<Range>> {
    let mut items: Vec<Item> = Vec::new();
    for (number, range) in ranges.iter().enumerate() {
        let mut open = false;
        for grain in range.pending.observation.grains(0, Bytes::ZERO, range.pending.data.length()) {
            let grain = grain?;
            match items.last_mut() {
                Some(last) if open && last.end.get() - last.start.get() < UNIT => last.end = grain.end,
                _ => items.push(Item {
                    range: number,
                    first: grain.number,
                    start: grain.start,
                    end: grain.end,
                }),
            }
            open = true;
        }
    }
    // The buffer, and a grain that makes it longer.
    let memory = Memory::of_output(Bytes::new(2 * BUFFER));
    ordered::run(&Show { ranges: &ranges, items: &items, target, options }, (), memory, options)?;
    ranges.iter().for_each(|range| range.pending.observation.settle());
    Ok(ranges)
}

/// The shared state of the workers.
struct Show<'a> {
    ranges: &'a [Range],
    items: &'a [Item],
    target: Option<Target<'a>>,
    options: &'a PourOptions<'a>,
}

/// The state of a worker.
#[derive(Default)]
struct Worker {
    /// The number of the range that it showed last, with a reader of that range.
    data: Option<(usize, Cursor)>,
    /// The files of the image that is poured, to share their blocks.
    files: Option<Cursor>,
    bytes: Vec<u8>,
    grains: Vec<Grain>,
}

impl Stage for Show<'_> {
    type Worker = Worker;
    type State = ();
    type Rest = ();

    fn count(&self) -> u64 {
        crate::units::u64_of(self.items.len())
    }

    fn worker(&self) -> Result<Worker> {
        Ok(Worker::default())
    }

    fn prepare(&self, chunk: u64, worker: &mut Worker) -> Result<()> {
        let item = self.items.get(usize_of(chunk)).ok_or_else(|| Error::bug("no such part of a digest"))?;
        let range = &self.ranges[item.range];
        for grain in range.pending.observation.grains(item.first, item.start, item.end) {
            let grain = grain?;
            worker.grains.push(grain);
            let first = worker.grains.first().map_or(grain.start, |first| first.start);
            if grain.end.get() - first.get() >= BUFFER {
                self.step(item.range, range, worker)?;
            }
        }
        self.step(item.range, range, worker)
    }

    fn append(&self, (): &mut (), _: &mut Worker) -> Result<()> {
        Ok(())
    }

    fn finish(&self, (): (), _: &mut Worker) -> Result<()> {
        Ok(())
    }
}

impl Show<'_> {
    /// Reads and shows the grains of one item, and writes them.
    fn step(&self, number: usize, range: &Range, worker: &mut Worker) -> Result<()> {
        let (Some(first), Some(last)) = (worker.grains.first(), worker.grains.last()) else { return Ok(()) };
        let (start, end) = (first.start, last.end);
        if worker.data.as_ref().is_none_or(|(open, _)| *open != number) {
            worker.data = Some((number, range.pending.data.unsettled_cursor()));
        }
        if let Some((_, cursor)) = &mut worker.data {
            worker.bytes.resize(usize_of(end.get() - start.get()), 0);
            cursor.read(start.get(), &mut worker.bytes)?;
        }
        for grain in worker.grains.drain(..) {
            let from = usize_of(grain.start.get() - start.get());
            let bytes = &worker.bytes[from..from + usize_of(grain.length())];
            range.pending.observation.take(grain, bytes)?;
        }
        let Some(target) = self.target.filter(|_| range.written) else { return Ok(()) };
        for (offset, from, to) in range.places(start, end) {
            let bytes = &worker.bytes[usize_of(from.get() - start.get())..usize_of(to.get() - start.get())];
            target.put(offset, bytes, &mut worker.files)?;
            self.options.advance(target.image, offset, offset + to.saturating_sub(from));
        }
        Ok(())
    }
}

impl Target<'_> {
    /// Writes `bytes` to `offset` of the output, except where the image has a hole.
    fn put(&self, offset: Bytes, bytes: &[u8], files: &mut Option<Cursor>) -> Result<()> {
        let end = offset + Bytes::new(crate::units::u64_of(bytes.len()));
        let mut run = (offset, offset);
        for mut piece in self.image.clipped(offset, end) {
            let shared = if self.shares { self.share(&piece, files)? } else { Bytes::ZERO };
            if shared > Bytes::ZERO {
                self.write(run, offset, bytes)?;
                run = (piece.offset + shared, piece.offset + shared);
                match piece.clip(run.0, piece.end()) {
                    Some(rest) => piece = rest,
                    None => continue,
                }
            }
            // As everywhere in the pour, a hole shorter than a page is written as zeros; the bytes are zero
            // there.
            if piece.offset.saturating_sub(run.1) >= Bytes::new(PAGE) || run.0 == run.1 {
                self.write(run, offset, bytes)?;
                run.0 = piece.offset;
            }
            run.1 = piece.end();
        }
        self.write(run, offset, bytes)
    }

    /// Writes the part `from..to` of the output. `bytes` begin at byte `offset` of it.
    fn write(&self, (from, to): (Bytes, Bytes), offset: Bytes, bytes: &[u8]) -> Result<()> {
        if from == to {
            return Ok(());
        }
        let part = &bytes[usize_of(from.get() - offset.get())..usize_of(to.get() - offset.get())];
        self.output.write_at(part, from.get())
    }

    /// Shares the blocks of a piece of the image. Returns how many bytes from its start were shared.
    fn share(&self, piece: &Segment, files: &mut Option<Cursor>) -> Result<Bytes> {
        let (Some(length), Data::File { files: table, file, skip }) = (shareable(piece), piece.data) else {
            return Ok(Bytes::ZERO);
        };
        let cursor = files.get_or_insert_with(|| self.image.whole().unsettled_cursor());
        let source = cursor.source(table, file)?;
        share(source, skip, self.output, piece.offset.get(), length).map(Bytes::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::progress::Progress;

    #[test]
    fn a_part_of_a_digest_that_is_not_there_is_a_bug() {
        let progress = Progress::default();
        let options = PourOptions::new(1, &progress);
        let show = Show { ranges: &[], items: &[], target: None, options: &options };
        assert_eq!(show.prepare(0, &mut Worker::default()).unwrap_err().kind(), Kind::Bug);
    }

    #[test]
    fn a_part_of_a_range_is_found_wherever_copies_of_it_are() {
        #[derive(Debug)]
        struct Whole;
        impl crate::image::Digest for Whole {
            fn grain_end(&self, _: u64) -> u64 {
                100
            }
            fn take(&self, _: u64, _: &[u8]) -> Result<()> {
                Ok(())
            }
        }
        let bytes = Bytes::new;
        let mut builder = Builder::new(bytes(100));
        builder.digested(Bytes::ZERO, bytes(100), std::sync::Arc::new(Whole));
        let image = builder.finish().unwrap();
        // All of it at 1000, and parts of it elsewhere, in any order.
        let mut disk = Builder::new(bytes(5000));
        for (at, start, end) in [(3000, 50, 100), (1000, 0, 100), (2000, 10, 20), (4000, 20, 60)] {
            disk.put(bytes(at), &image.slice(bytes(start), bytes(end)));
        }
        let pending = disk.finish().unwrap().pending().pop().unwrap();
        let range = Range::new(pending, true);
        for (from, to) in (0..100).flat_map(|from| (from + 1..=100).map(move |to| (from, to))) {
            let mut found: Vec<(u64, u64, u64)> = range
                .places(bytes(from), bytes(to))
                .map(|(at, start, end)| (at.get(), start.get(), end.get()))
                .collect();
            found.sort_unstable();
            let expected: Vec<(u64, u64, u64)> =
                [(1000, 0, 100), (2000, 10, 20), (3000, 50, 100), (4000, 20, 60)]
                    .into_iter()
                    .filter_map(|(at, start, end): (u64, u64, u64)| {
                        let (first, last) = (start.max(from), end.min(to));
                        (first < last).then(|| (at + first - start, first, last))
                    })
                    .collect();
            assert_eq!(found, expected, "{from}..{to}");
        }
    }
}
