//! Compressed clusters: all cores read, compress and append them, and the number of threads does not change
//! the bytes ([`ordered`]). Each chunk of clusters learns in its turn where its bytes go, and is written
//! while the next one learns its place. So the place of every byte depends only on the bytes before it.

use super::format::{COMPRESSED, COPIED, ClusterSize, Head, Level1, RefcountSizes, RefcountTable};
use super::{LENGTHS, Options, SECTOR};
use crate::container::allocated::Allocated;
use crate::container::codec::{Codec, Encoder};
use crate::error::{Error, Result};
use crate::image::{Cursor, Image};
use crate::pour::PourOptions;
use crate::pour::ordered::{self, Memory, Stage};
use crate::pour::output::Output;
use crate::pour::zeros::is_zero;
use crate::units::{Bytes, MIB, u64_of, usize_of};

/// Bytes of the disk in a chunk, at least one cluster: enough to make the cost of ordering negligible.
const CHUNK: u64 = MIB;

/// Writes `image` to the future file `path`. Every cluster is compressed if that makes it smaller; clusters
/// of zeros are left out.
///
/// # Errors
/// As [`wrap`](super::wrap) and [`pour`](crate::pour::pour).
pub(in crate::container) fn compress(
    image: &Image,
    path: &std::path::Path,
    options: &Options,
    codec: Codec,
    pour: &PourOptions<'_>,
) -> Result<Output> {
    let cluster_size = options.cluster_size;
    let size = LENGTHS.round_up(image.length()).get();
    let l1_entries = cluster_size.l1_entries(size)?;
    let data = Allocated::of(image, cluster_size.bytes());
    image.settle(pour)?;
    let output = Output::create(path)?;
    let memory = Memory::of_output(codec.memory(cluster_size.bytes()));
    let work = Work { image, cluster_size, data: &data, output: &output, codec, pour };
    let places = ordered::run(&work, Places::new(cluster_size.bytes()), memory, pour)?;
    let mut tables = Tables { cluster_size, data: &data, places: &places, output: &output, end: places.free };
    let l1 = tables.level_2(l1_entries)?;
    let l1 = Level1 { offset: tables.append(&l1)?, entries: l1_entries };
    let refcounts = tables.refcounts()?;
    let backing = options.backing.as_ref();
    let head =
        Head { cluster_size, size, l1, refcounts, codec: Some(codec), compat: options.compat, backing };
    output.write_at(&head.bytes()?, 0)?;
    output.set_length(tables.end)?;
    Ok(output)
}

/// The shared state of the workers.
struct Work<'a> {
    image: &'a Image,
    cluster_size: ClusterSize,
    data: &'a Allocated,
    output: &'a Output,
    codec: Codec,
    pour: &'a PourOptions<'a>,
}

/// The places of the file that are assigned.
#[derive(Debug)]
struct Places {
    cluster: u64,
    /// Where the next compressed cluster goes, and the end of the contiguous space there.
    packed: u64,
    packed_end: u64,
    /// The first unassigned byte of the file.
    free: u64,
    /// Level 2 entries of the clusters that contain data, in their order; 0 for zeros.
    entries: Vec<u64>,
    /// How many uses each cluster of the file has.
    refcounts: Vec<u16>,
}

impl Places {
    fn new(cluster: u64) -> Self {
        // The first cluster belongs to the header.
        Self {
            cluster,
            packed: cluster,
            packed_end: cluster,
            free: cluster,
            entries: Vec::new(),
            refcounts: vec![1],
        }
    }

    /// A whole cluster of its own.
    fn plain(&mut self) -> u64 {
        let at = self.free;
        self.free += self.cluster;
        self.refcounts.push(1);
        at
    }

    /// `length` bytes, less than a cluster, after the last ones if the space there is contiguous.
    fn pack(&mut self, length: u64) -> Result<u64> {
        if self.packed + length > self.packed_end {
            if self.packed_end != self.free {
                self.packed = self.free;
            }
            self.free += self.cluster;
            self.packed_end = self.free;
            self.refcounts.push(0);
        }
        let at = self.packed;
        self.packed += length;
        for cluster in at / self.cluster..=(self.packed - 1) / self.cluster {
            let count = self.refcounts.get_mut(usize_of(cluster));
            *count.ok_or_else(|| Error::bug("a compressed cluster lies where nothing was given to it"))? += 1;
        }
        Ok(at)
    }
}

/// A cluster after compression: zeros, or `length` bytes of the chunk's buffer, compressed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    Zero,
    Compressed(usize),
    Plain,
}

/// The state of a worker: its encoder, and a chunk's clusters with their output.
struct Worker {
    cursor: Cursor,
    encoder: Encoder,
    clusters: Vec<Stored>,
    bytes: Vec<u8>,
}

impl Stage for Work<'_> {
    type Worker = Worker;
    type State = Places;
    /// Bytes and the place where they are written.
    type Rest = Vec<(u64, usize)>;

    fn count(&self) -> u64 {
        self.data.total().div_ceil(self.per_chunk())
    }

    fn worker(&self) -> Result<Worker> {
        Ok(Worker {
            cursor: self.image.cursor(),
            encoder: Encoder::new(self.codec, self.cluster_size.bytes())?,
            clusters: Vec::new(),
            bytes: Vec::new(),
        })
    }

    fn prepare(&self, chunk: u64, worker: &mut Worker) -> Result<()> {
        worker.bytes.clear();
        worker.clusters = self.clusters(chunk * self.per_chunk(), worker)?;
        Ok(())
    }

    fn append(&self, places: &mut Places, worker: &mut Worker) -> Result<Self::Rest> {
        self.give_places(places, &worker.clusters)
    }

    fn finish(&self, writes: Self::Rest, worker: &mut Worker) -> Result<()> {
        let mut from = 0;
        for (at, length) in writes {
            self.output.write_at(&worker.bytes[from..from + length], at)?;
            from += length;
        }
        Ok(())
    }
}

impl Work<'_> {
    fn per_chunk(&self) -> u64 {
        (CHUNK / self.cluster_size.bytes()).max(1)
    }

    /// Reads the clusters from ordinal `first` on and appends their output to the buffer.
    fn clusters(&self, first: u64, worker: &mut Worker) -> Result<Vec<Stored>> {
        let Worker { cursor, encoder, bytes, .. } = worker;
        let size = self.cluster_size.bytes();
        let mut cluster = vec![0; usize_of(size)];
        let end = (first + self.per_chunk()).min(self.data.total());
        (first..end)
            .map(|ordinal| {
                let number =
                    self.data.number(ordinal).ok_or_else(|| Error::bug("a cluster without number"))?;
                let offset = number * size;
                cursor.read(offset, &mut cluster)?;
                self.pour.advance(self.image, Bytes::new(offset), Bytes::new(offset + size));
                if is_zero(&cluster) {
                    return Ok(Stored::Zero);
                }
                Ok(match encoder.encode(&cluster, bytes)? {
                    Some(length) => Stored::Compressed(length),
                    None => {
                        bytes.extend_from_slice(&cluster);
                        Stored::Plain
                    }
                })
            })
            .collect()
    }

    /// Assigns places to the clusters of a chunk. Returns what to write where, with neighbours joined.
    fn give_places(&self, places: &mut Places, clusters: &[Stored]) -> Result<Vec<(u64, usize)>> {
        let mut writes: Vec<(u64, usize)> = Vec::new();
        for cluster in clusters {
            let (entry, at, length) = match cluster {
                Stored::Zero => {
                    places.entries.push(0);
                    continue;
                }
                Stored::Compressed(length) => {
                    let at = places.pack(u64_of(*length))?;
                    let sectors = (at + u64_of(*length) - 1) / SECTOR - at / SECTOR;
                    (COMPRESSED | sectors << self.cluster_size.sector_shift() | at, at, *length)
                }
                Stored::Plain => {
                    let at = places.plain();
                    (COPIED | at, at, usize_of(self.cluster_size.bytes()))
                }
            };
            places.entries.push(entry);
            match writes.last_mut() {
                Some((start, count)) if *start + u64_of(*count) == at => *count += length,
                _ => writes.push((at, length)),
            }
        }
        Ok(writes)
    }
}

/// The tables after the data, in this order: level 2 tables, level 1 table, refcounts.
struct Tables<'a> {
    cluster_size: ClusterSize,
    data: &'a Allocated,
    places: &'a Places,
    output: &'a Output,
    /// Where the next table goes.
    end: u64,
}

impl Tables<'_> {
    /// Writes whole clusters and returns their place.
    fn append(&mut self, bytes: &[u8]) -> Result<u64> {
        let at = self.end;
        self.output.write_at(bytes, at)?;
        self.end += u64_of(bytes.len()).next_multiple_of(self.cluster_size.bytes());
        Ok(at)
    }

    /// Writes the level 2 tables that are not all zero. Returns the level 1 table of `entries`, in whole
    /// clusters.
    fn level_2(&mut self, entries: u64) -> Result<Vec<u8>> {
        let cluster = self.cluster_size.bytes();
        let mut l1 = vec![0; usize_of((entries * 8).next_multiple_of(cluster))];
        let mut ordinal = 0;
        while ordinal < self.data.total() {
            let number = self.number(ordinal)? / self.cluster_size.entries();
            let mut table = vec![0; usize_of(cluster)];
            while ordinal < self.data.total() && self.number(ordinal)? / self.cluster_size.entries() == number
            {
                let entry = self.places.entries.get(usize_of(ordinal));
                let entry = entry.ok_or_else(|| Error::bug("a cluster was not looked at"))?;
                put(&mut table, self.number(ordinal)? % self.cluster_size.entries(), *entry)?;
                ordinal += 1;
            }
            if !is_zero(&table) {
                let at = self.append(&table)?;
                put(&mut l1, number, COPIED | at)?;
            }
        }
        Ok(l1)
    }

    fn number(&self, ordinal: u64) -> Result<u64> {
        self.data.number(ordinal).ok_or_else(|| Error::bug("a cluster without number"))
    }

    /// Writes the refcount table and its blocks.
    fn refcounts(&mut self) -> Result<RefcountTable> {
        let cluster = self.cluster_size.bytes();
        let RefcountSizes { table, blocks } = RefcountSizes::new(self.cluster_size, self.end / cluster)?;
        let first = self.end + table * cluster;
        let entries: Vec<u8> =
            (0..blocks).flat_map(|block| (first + block * cluster).to_be_bytes()).collect();
        let offset = self.append(&entries)?;
        let end = (first + blocks * cluster) / cluster;
        for block in 0..blocks {
            let numbers = block * self.cluster_size.refcounts()..(block + 1) * self.cluster_size.refcounts();
            let counts = numbers.flat_map(|number| {
                // After the data, each cluster up to the end of the file has one use: a table.
                let data = self.places.refcounts.get(usize_of(number)).copied();
                data.unwrap_or(u16::from(number < end)).to_be_bytes()
            });
            let counts: Vec<u8> = counts.collect();
            self.append(&counts)?;
        }
        Ok(RefcountTable { offset, clusters: table })
    }
}

/// Sets entry `number` of a table.
fn put(table: &mut [u8], number: u64, entry: u64) -> Result<()> {
    let from = usize_of(number * 8);
    let place = table.get_mut(from..from + 8).ok_or_else(|| Error::bug("an entry lies outside its table"))?;
    place.copy_from_slice(&entry.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::image::Builder;

    /// A cluster without a place, or one that was not examined, is an error and not a zero in a table.
    #[test]
    fn a_lookup_that_fails_is_a_bug() {
        let mut places = Places::new(65_536);
        places.pack(100).unwrap();
        places.refcounts.clear();
        assert_eq!(places.pack(100).unwrap_err().kind(), Kind::Bug);
        let folder = tempfile::tempdir().unwrap();
        let output = Output::create(&folder.path().join("out")).unwrap();
        let mut builder = Builder::new(Bytes::new(MIB));
        builder.bytes(Bytes::ZERO, "part", vec![7; 512]);
        let data = Allocated::of(&builder.finish().unwrap(), 65_536);
        let places = Places::new(65_536);
        let cluster_size = ClusterSize::default();
        let mut tables = Tables { cluster_size, data: &data, places: &places, output: &output, end: 65_536 };
        let error = tables.level_2(1).unwrap_err();
        assert_eq!((error.kind(), error.what()), (Kind::Bug, "a cluster was not looked at"));
        assert_eq!(put(&mut [0; 64], 8, 1).unwrap_err().kind(), Kind::Bug);
    }
}
