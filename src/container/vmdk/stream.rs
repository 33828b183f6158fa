//! streamOptimized: compressed grains with markers, in one pass from the first byte to the last (VDF, "Stream-Optimized
//! Compressed Sparse Extents").
//!
//! All cores read and compress grains, and the grains are written in their order ([`ordered`]). The number of
//! threads does not change the bytes, and a file gets the same bytes as standard output. Each grain table
//! comes after its grains. At the end come the grain directory, and a footer with the directory's place.

use std::ops::Range;
use std::path::Path;

use super::descriptor::{STREAM, Says, embedded};
use super::format::{
    self, AT_END, ENTRIES, FLAGS_STREAM, GRAIN, GRAIN_SECTORS, GrainMarker, Header, MARKER_DIRECTORY,
    MARKER_END, MARKER_FOOTER, MARKER_TABLE, MOST_FILE, MOST_STREAM, Marker, SECTOR, TABLE_SECTORS,
};
use super::{Adapter, CreateType, Options, directory_sectors, file_too_long};
use crate::container::Identity;
use crate::container::allocated::Allocated;
use crate::container::codec::{Codec, ZlibEncoder, ZlibLevel};
use crate::error::{Error, Result};
use crate::image::{Cursor, Image};
use crate::pour::ordered::{self, Memory, Stage};
use crate::pour::output::Output;
use crate::pour::zeros::is_zero;
use crate::pour::{PourOptions, Sink, write_error};
use crate::units::{Bytes, MIB, narrow, u64_of, usize_of};
use crate::wire::Wire;

/// Grains in a chunk: 1 MiB of the disk, enough to make the cost of ordering negligible.
const CHUNK: u64 = MIB / GRAIN;
/// Sectors before the first grain; VMware and VirtualBox begin at a multiple of a grain.
const OVERHEAD: u64 = GRAIN_SECTORS;
/// How many sectors of the directory are written at a time.
const DIRECTORY_PIECE: u64 = 128;

/// How a stream is written.
#[derive(Clone, Copy, Debug)]
pub(in crate::container) struct Stream {
    pub(in crate::container) level: ZlibLevel,
    /// The controller that the disk is meant for; `None` is the default.
    pub(in crate::container) adapter: Option<Adapter>,
    /// The version of virtual hardware; `None` is the default.
    pub(in crate::container) hardware: Option<u8>,
    pub(in crate::container) identity: Identity,
}

impl Stream {
    /// The stream that these options ask for, if they ask for one.
    pub(in crate::container) fn of(options: &Options, identity: &Identity) -> Option<Self> {
        let CreateType::StreamOptimized(level) = options.create_type else { return None };
        Some(Self { level, adapter: options.adapter, hardware: options.hardware, identity: *identity })
    }

    /// Writes the stream that holds `image` to the future file `path`.
    ///
    /// # Errors
    /// [`Kind::Capacity`](crate::error::Kind::Capacity) for a disk of 256 TiB or more, or one that makes a file of more
    /// than 2 TiB; as [`pour`](crate::pour::pour) otherwise.
    pub(in crate::container) fn write(
        &self,
        image: &Image,
        path: &Path,
        pour: &PourOptions<'_>,
    ) -> Result<Output> {
        let capacity = capacity(image)?;
        let output = Output::create(path)?;
        let length = self.run(image, capacity, Put::File(&output), pour)?;
        output.set_length(length)?;
        Ok(output)
    }

    /// Writes the same bytes to `out`.
    ///
    /// # Errors
    /// As [`Stream::write`]; [`Kind::Output`](crate::error::Kind::Output) where `out` refuses bytes.
    pub(in crate::container) fn send(
        &self,
        image: &Image,
        out: Sink<'_>,
        pour: &PourOptions<'_>,
    ) -> Result<()> {
        let capacity = capacity(image)?;
        self.run(image, capacity, Put::Stream(&mut *out), pour)?;
        out.flush().map_err(write_error)
    }

    /// Writes everything and returns how many bytes that was.
    fn run(&self, image: &Image, capacity: u64, put: Put<'_>, pour: &PourOptions<'_>) -> Result<u64> {
        let usual = Header::new(3, FLAGS_STREAM, capacity)?;
        let header = Header { directory_offset: AT_END, overhead: OVERHEAD, ..usual };
        let mut head = header.bytes().to_vec();
        let adapter = self.adapter.unwrap_or(CreateType::StreamOptimized(self.level).usual_adapter());
        head.extend(embedded(&Says {
            kind: STREAM,
            adapter,
            hardware: self.hardware,
            capacity,
            identity: &self.identity,
        }));
        head.resize(usize_of(OVERHEAD * SECTOR), 0);
        let output = match &put {
            Put::File(output) => Some(*output),
            Put::Stream(_) => None,
        };
        let level = self.level;
        image.settle(pour)?;
        let data = Allocated::of(image, GRAIN);
        let mut appender = Appender { put, sector: 0, table: Table::default(), directory: Vec::new() };
        appender.append(&head)?;
        let memory = Memory::of_output(Codec::Zlib(level).memory(GRAIN));
        let work = Work { image, data: &data, output, level, pour };
        let mut appender = ordered::run(&work, appender, memory, pour)?;
        appender.finish(&header)?;
        Ok(appender.sector * SECTOR)
    }
}

fn capacity(image: &Image) -> Result<u64> {
    format::capacity(image.length(), MOST_STREAM, STREAM, "qcow2 and raw hold larger ones")
}

/// The target of bytes.
enum Put<'a> {
    File(&'a Output),
    Stream(Sink<'a>),
}

/// The grain table that is being filled.
#[derive(Debug, Default)]
struct Table {
    number: u64,
    entries: Vec<Entry>,
}

/// An entry of a grain table or of the directory: its number, and the sector that it refers to.
#[derive(Clone, Copy, Debug)]
struct Entry {
    number: u64,
    sector: u64,
}

impl Entry {
    /// Puts it into the bytes of a table that begins with entry `first`.
    fn put(self, table: &mut [u8], first: u64) -> Result<()> {
        let from = usize_of((self.number - first) * 4);
        let place =
            table.get_mut(from..from + 4).ok_or_else(|| Error::bug("an entry lies behind its table"))?;
        place.copy_from_slice(
            &narrow::<u32>(self.sector, "the sector of a grain or its table")?.to_le_bytes(),
        );
        Ok(())
    }
}

impl Table {
    /// Its bytes with the marker before them.
    fn bytes(&self) -> Result<Vec<u8>> {
        let mut table = vec![0; usize_of(TABLE_SECTORS * SECTOR)];
        self.entries.iter().try_for_each(|entry| entry.put(&mut table, 0))?;
        Ok([&Marker::new(MARKER_TABLE, TABLE_SECTORS).bytes(), table.as_slice()].concat())
    }
}

/// The stream that grains are appended to.
struct Appender<'a> {
    put: Put<'a>,
    /// The next sector.
    sector: u64,
    table: Table,
    /// Grain tables that were written. Like VMware, it leaves out tables that are all zero.
    directory: Vec<Entry>,
}

impl Appender<'_> {
    /// Assigns a place to whole sectors.
    fn give(&mut self, length: usize) -> Result<u64> {
        let at = self.sector;
        self.sector += u64_of(length).div_ceil(SECTOR);
        if self.sector > MOST_FILE {
            return Err(file_too_long(self.sector));
        }
        Ok(at)
    }

    /// Writes bytes at their place; to a file only if no worker does it later.
    fn put(&mut self, bytes: &[u8], at: u64) -> Result<()> {
        match &mut self.put {
            Put::File(output) => output.write_at(bytes, at * SECTOR),
            Put::Stream(out) => out.write_all(bytes).map_err(write_error),
        }
    }

    /// Appends whole sectors.
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let at = self.give(bytes.len())?;
        self.put(bytes, at)
    }

    /// Ends the grain table, if anything is in it.
    fn end_table(&mut self) -> Result<()> {
        if self.table.entries.is_empty() {
            return Ok(());
        }
        let bytes = self.table.bytes()?;
        let at = self.give(bytes.len())?;
        // The place after the marker.
        self.directory.push(Entry { number: self.table.number, sector: at + 1 });
        self.table.entries.clear();
        self.put(&bytes, at)
    }

    /// Writes the end of the stream: the last table, the directory, the footer.
    fn finish(&mut self, header: &Header) -> Result<()> {
        self.end_table()?;
        let sectors = directory_sectors(header.capacity.div_ceil(ENTRIES * GRAIN_SECTORS));
        self.append(&Marker::new(MARKER_DIRECTORY, sectors).bytes())?;
        let directory_offset = self.sector;
        let tables = std::mem::take(&mut self.directory);
        let mut tables = tables.iter().peekable();
        for first in (0..sectors).step_by(usize_of(DIRECTORY_PIECE)) {
            let mut bytes = vec![0; usize_of(DIRECTORY_PIECE.min(sectors - first) * SECTOR)];
            let (first, count) = (first * (SECTOR / 4), u64_of(bytes.len() / 4));
            while let Some(entry) = tables.next_if(|entry| entry.number < first + count) {
                entry.put(&mut bytes, first)?;
            }
            self.append(&bytes)?;
        }
        self.append(&Marker::new(MARKER_FOOTER, 1).bytes())?;
        self.append(&Header { directory_offset, ..header.clone() }.bytes())?;
        self.append(&Marker::new(MARKER_END, 0).bytes())
    }
}

/// The shared state of the workers.
struct Work<'a, 's> {
    image: &'a Image,
    data: &'a Allocated,
    /// The output for bytes with a place; a stream gets them in their order.
    output: Option<&'s Output>,
    level: ZlibLevel,
    pour: &'a PourOptions<'a>,
}

/// The state of a worker: its encoder, and a chunk's grains with their bytes.
#[derive(Debug)]
struct Worker {
    cursor: Cursor,
    encoder: ZlibEncoder,
    /// Numbers of grains that are not all zero, and where each ends in the bytes.
    grains: Vec<(u64, usize)>,
    bytes: Vec<u8>,
}

impl<'s> Stage for Work<'_, 's> {
    type Worker = Worker;
    type State = Appender<'s>;
    /// Ranges of bytes, and the sector of each.
    type Rest = Vec<(Range<usize>, u64)>;

    fn count(&self) -> u64 {
        self.data.total().div_ceil(CHUNK)
    }

    fn worker(&self) -> Result<Worker> {
        Ok(Worker {
            cursor: self.image.cursor(),
            encoder: ZlibEncoder::new(self.level),
            grains: Vec::new(),
            bytes: Vec::new(),
        })
    }

    fn prepare(&self, chunk: u64, worker: &mut Worker) -> Result<()> {
        worker.grains.clear();
        worker.bytes.clear();
        // The last grain is filled up with zeros, because VirtualBox accepts only whole grains.
        let mut grain = vec![0; usize_of(GRAIN)];
        for ordinal in chunk * CHUNK..((chunk + 1) * CHUNK).min(self.data.total()) {
            let number = self.data.number(ordinal).ok_or_else(|| Error::bug("a grain without number"))?;
            let offset = number * GRAIN;
            worker.cursor.read(offset, &mut grain)?;
            self.pour.advance(self.image, Bytes::new(offset), Bytes::new(offset + GRAIN));
            if is_zero(&grain) {
                continue;
            }
            let start = worker.bytes.len();
            worker.bytes.extend(GrainMarker::BLANK.bytes());
            let length = worker.encoder.encode(&grain, &mut worker.bytes)?;
            let size = narrow(length, "the length of a compressed grain")?;
            GrainMarker { sector: number * GRAIN_SECTORS, size }.write_to(&mut worker.bytes[start..]);
            worker.bytes.resize(worker.bytes.len().next_multiple_of(usize_of(SECTOR)), 0);
            worker.grains.push((number, worker.bytes.len()));
        }
        Ok(())
    }

    fn append(&self, stream: &mut Appender<'s>, worker: &mut Worker) -> Result<Self::Rest> {
        let mut runs: Self::Rest = Vec::new();
        let mut start = 0;
        for (number, end) in worker.grains.iter().copied() {
            if number / ENTRIES != stream.table.number {
                stream.end_table()?;
                stream.table.number = number / ENTRIES;
            }
            let at = stream.give(end - start)?;
            stream.table.entries.push(Entry { number: number % ENTRIES, sector: at });
            if self.output.is_none() {
                stream.put(&worker.bytes[start..end], at)?;
            } else {
                match runs.last_mut() {
                    Some((bytes, first)) if *first + u64_of(bytes.len()) / SECTOR == at => bytes.end = end,
                    _ => runs.push((start..end, at)),
                }
            }
            start = end;
        }
        Ok(runs)
    }

    fn finish(&self, runs: Self::Rest, worker: &mut Worker) -> Result<()> {
        let Some(output) = self.output else { return Ok(()) };
        runs.into_iter().try_for_each(|(bytes, at)| output.write_at(&worker.bytes[bytes], at * SECTOR))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    /// An entry without a place in its table, or with a sector that the table cannot hold, is an error.
    #[test]
    fn an_entry_that_does_not_fit_is_a_bug() {
        let mut table = [0; 8];
        Entry { number: 513, sector: 7 }.put(&mut table, 512).unwrap();
        assert_eq!(table, [0, 0, 0, 0, 7, 0, 0, 0]);
        for entry in [Entry { number: 514, sector: 7 }, Entry { number: 512, sector: 1 << 32 }] {
            assert_eq!(entry.put(&mut table, 512).unwrap_err().kind(), Kind::Bug);
        }
    }
}
