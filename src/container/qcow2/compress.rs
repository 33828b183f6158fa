//! Compressed clusters: read, compress and append on all cores, in an order that no thread changes
//! ([`ordered`]). A chunk of clusters learns in its order where its bytes go, and is written while the next one learns
//! that. So every byte's place follows from the bytes before it alone.

use super::format::{COMPRESSED, COPIED, ClusterSize, Header, refcount_sizes};
use super::{LENGTHS, Options, SECTOR};
use crate::container::allocated::Allocated;
use crate::container::codec::{Codec, Encoder};
use crate::error::{Error, Result};
use crate::image::{Cursor, Image};
use crate::pour::PourOptions;
use crate::pour::ordered::{self, Stage};
use crate::pour::output::Output;
use crate::pour::zeros::is_zero;
use crate::units::{Bytes, MIB, u64_of, usize_of};

/// Bytes of the disk in a chunk, at least one cluster: enough that putting them in order costs nothing.
const CHUNK: u64 = MIB;

/// Writes `image` to what will be the file `path`, with every cluster compressed that becomes smaller so; clusters of
/// zeros are left out.
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
    let entries = cluster_size.l1_entries(size)?;
    let data = Allocated::of(image, cluster_size.bytes());
    image.settle(pour)?;
    let output = Output::create(path)?;
    let pour = &pour.within(codec.memory(cluster_size.bytes()));
    let work = Work { image, cluster_size, data: &data, output: &output, codec, pour };
    let places = ordered::run(&work, Places::new(cluster_size.bytes()), pour)?;
    let tables = Tables { cluster_size, data: &data, entries: &places.entries, l1_entries: entries };
    tables.write(&output, &places, size, options, codec)?;
    Ok(output)
}

/// What the workers share.
struct Work<'a> {
    image: &'a Image,
    cluster_size: ClusterSize,
    data: &'a Allocated,
    output: &'a Output,
    codec: Codec,
    pour: &'a PourOptions<'a>,
}

/// Which places of the file are given.
#[derive(Debug)]
struct Places {
    cluster: u64,
    /// Where the next compressed cluster goes, and the end of the room that is contiguous with it.
    packed: u64,
    packed_end: u64,
    /// The first byte of the file that nothing was given to.
    free: u64,
    /// Level 2 entries of the clusters that hold something, in their order; 0 for zeros.
    entries: Vec<u64>,
    /// How often each cluster of the file is used.
    refcounts: Vec<u16>,
}

impl Places {
    fn new(cluster: u64) -> Self {
        // The header has the first cluster.
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

    /// `length` bytes, less than a cluster, behind the last ones where room is contiguous.
    fn pack(&mut self, length: u64) -> u64 {
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
            if let Some(count) = self.refcounts.get_mut(usize_of(cluster)) {
                *count += 1;
            }
        }
        at
    }
}

/// A cluster after compression: zeros, or `length` bytes of the chunk's buffer, compressed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    Zero,
    Compressed(usize),
    Plain,
}

/// What a worker has in hand: its encoder, and a chunk's clusters with what is to be written of them.
struct Worker {
    cursor: Cursor,
    encoder: Encoder,
    clusters: Vec<Stored>,
    bytes: Vec<u8>,
}

impl Stage for Work<'_> {
    type Worker = Worker;
    type State = Places;
    /// What to write where.
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
        Ok(self.give_places(places, &worker.clusters))
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

    /// Reads the clusters from ordinal `first` on and appends what is to be written of them to the bytes in hand.
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

    /// Gives the clusters of a chunk their places: what to write where, neighbours joined.
    fn give_places(&self, places: &mut Places, clusters: &[Stored]) -> Vec<(u64, usize)> {
        let mut writes: Vec<(u64, usize)> = Vec::new();
        for cluster in clusters {
            let (entry, at, length) = match cluster {
                Stored::Zero => {
                    places.entries.push(0);
                    continue;
                }
                Stored::Compressed(length) => {
                    let at = places.pack(u64_of(*length));
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
        writes
    }
}

/// The tables behind the data.
struct Tables<'a> {
    cluster_size: ClusterSize,
    data: &'a Allocated,
    entries: &'a [u64],
    l1_entries: u64,
}

impl Tables<'_> {
    /// Writes header, tables and refcounts; everything behind the data, in the order L2, L1, refcounts.
    fn write(
        &self,
        output: &Output,
        places: &Places,
        size: u64,
        options: &Options,
        codec: Codec,
    ) -> Result<()> {
        let cluster = self.cluster_size.bytes();
        let mut at = places.free;
        let put = |bytes: &[u8], at: u64| output.write_at(bytes, at);
        let mut l1 = vec![0_u8; usize_of((self.l1_entries * 8).div_ceil(cluster).max(1) * cluster)];
        for (number, table) in self.l2_tables() {
            put(&table, at)?;
            let entry = (COPIED | at).to_be_bytes();
            let from = usize_of(number * 8);
            l1[from..from + 8].copy_from_slice(&entry);
            at += cluster;
        }
        let l1_at = at;
        put(&l1, l1_at)?;
        at += u64_of(l1.len());
        let used = at / cluster;
        let (table_length, blocks) = refcount_sizes(self.cluster_size, used)?;
        let (table_at, blocks_at) = (at, at + table_length);
        let end = blocks_at + blocks * cluster;
        let table: Vec<u8> =
            (0..blocks).flat_map(|block| (blocks_at + block * cluster).to_be_bytes()).collect();
        put(&table, table_at)?;
        for block in 0..blocks {
            let first = block * self.cluster_size.refcounts();
            let counts: Vec<u8> = (first..first + self.cluster_size.refcounts())
                .flat_map(|number| {
                    let known = places.refcounts.get(usize_of(number)).copied();
                    known.unwrap_or(u16::from(number < end / cluster)).to_be_bytes()
                })
                .collect();
            put(&counts, blocks_at + block * cluster)?;
        }
        let header = Header {
            cluster_size: self.cluster_size,
            size,
            l1: (l1_at, self.l1_entries),
            refcount_table: (table_at, table_length),
            compression: codec.qcow2_type(),
            backing: options.backing.as_ref(),
        };
        put(&header.bytes()?, 0)?;
        output.set_length(end)
    }

    /// The level 2 tables that are not all zero, with their numbers.
    fn l2_tables(&self) -> impl Iterator<Item = (u64, Vec<u8>)> + '_ {
        let entries = self.cluster_size.entries();
        let mut ordinal = 0;
        std::iter::from_fn(move || {
            while ordinal < self.data.total() {
                let number = self.data.number(ordinal)? / entries;
                let mut table = vec![0_u8; usize_of(self.cluster_size.bytes())];
                let mut any = false;
                while let Some(cluster) = self.data.number(ordinal).filter(|at| at / entries == number) {
                    let entry = self.entries.get(usize_of(ordinal)).copied().unwrap_or(0);
                    any |= entry != 0;
                    let from = usize_of(cluster % entries * 8);
                    table[from..from + 8].copy_from_slice(&entry.to_be_bytes());
                    ordinal += 1;
                }
                if any {
                    return Some((number, table));
                }
            }
            None
        })
    }
}
