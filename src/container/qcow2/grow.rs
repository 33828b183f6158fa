//! Makes the disk in a qcow2 file larger, without a copy of the file.
//!
//! The header names the size and the tables. It changes last, in one write of less than a sector: before that
//! write the file holds the old disk, after it the new one. A table that is too short moves to the end of the
//! file. An error before the last write undoes everything. A power cut may leave clusters that are counted
//! but not used; `qemu-img check -r leaks` frees them, and nothing else can be wrong.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::LENGTHS;
use super::format::{COPIED, HEADER_2, Header, Level1, MOST_L1, MOST_REFCOUNT_TABLE, OFFSET, RefcountTable};
use super::read::Info;
use crate::container::source::{Source, be64s};
use crate::error::{Error, Kind, Result, Warning};
use crate::image::Data;
use crate::units::{Bytes, narrow, u64_of, usize_of};
use crate::wire::Wire;

/// Makes the disk in the qcow2 file `path` larger: `size`, rounded up to whole sectors of 512 bytes. The new
/// part reads as zero, even if a backing file has data there.
///
/// # Errors
/// [`Kind::Usage`] where snapshots or bitmaps record the smaller size; where the file was not closed
/// properly, is in use, or has data past the end of the disk; and where it is an overlay that cannot mark the
/// new part as zero. [`Kind::Capacity`] past the range of its cluster size.
pub fn grow(path: &Path, size: Bytes) -> Result<()> {
    let source = Source::open(path)?;
    let info = Info::read(&source)?;
    let size = LENGTHS.round_up(size).get();
    check_state(path, &info)?;
    let entries = size.div_ceil(info.covered()).max(info.l1.entries);
    if entries * 8 > MOST_L1 {
        return Err(Error::new(Kind::Capacity, "the disk is too large for qcow2 with this cluster size")
            .at(path)
            .expected(format!("at most {}", Bytes::new((MOST_L1 / 8).saturating_mul(info.covered()))))
            .found(Bytes::new(size))
            .remedy("cluster_size", "convert it into a new image with larger clusters, up to 2MiB"));
    }
    nothing_behind(&source, &info, size)?;
    let file = crate::container::source::open_to_change(path)?;
    if info.backing.is_some() && size > info.size {
        if let Some(Place { offset, length }) = last_cluster(&source, &info)? {
            // QEMU copied these bytes from the backing file when it wrote to the cluster.
            Change { info: &info, source: &source, file: &file }.write(&vec![0; usize_of(length)], offset)?;
        }
        // First the tables for the larger disk, whose size stays; then the entries of its new part; then its
        // size.
        stretch(&source, &info, &file, info.size, entries)?;
        cover(&Source::open(path)?, &file, info.size, size)?;
        return Change { info: &info, source: &source, file: &file }.header(|header| {
            header.size = size;
            Ok(())
        });
    }
    stretch(&source, &info, &file, size, entries)
}

/// Checks that the file is in a state in which its disk can become larger anew, and tells what it loses then.
///
/// # Errors
/// [`Kind::Usage`] as [`grow`].
pub fn check_growth(path: &Path) -> Result<Option<Warning>> {
    let source = Source::open(path)?;
    let info = Info::read(&source)?;
    check_state(path, &info)?;
    Ok(info.extended().then(|| {
        Warning(
            "the file is written anew without subclusters (extended_l2), which are not written here"
                .to_owned(),
        )
    }))
}

/// Refuses snapshots and bitmaps, which record the smaller size, and a file that was not closed properly.
fn check_state(path: &Path, info: &Info) -> Result<()> {
    let refuse = |what: &str, hint: &str| Err(Error::new(Kind::Usage, what).at(path).hint(hint));
    if info.snapshots > 0 {
        return refuse(
            "an image with snapshots is not made larger",
            "delete them first (qemu-img snapshot -d), or convert it into a new image",
        );
    }
    if info.autoclear != 0 {
        return refuse(
            "an image with bitmaps is not made larger",
            "remove them first (qemu-img bitmap --remove)",
        );
    }
    if info.dirty() {
        return refuse("the image was not closed properly", "repair it first (qemu-img check -r all)");
    }
    Ok(())
}

/// Gives the file a level 1 table of `entries`, and its disk `size`.
fn stretch(source: &Arc<Source>, info: &Info, file: &File, size: u64, entries: u64) -> Result<()> {
    let change = Change { info, source, file };
    let old = Tables { l1: info.l1.offset, refcounts: info.refcounts };
    let new = if change.suffices(entries)? { old } else { change.move_tables(entries)? };
    change.header(|header| {
        header.size = size;
        header.l1_size = narrow(entries, "the entries of the L1 table")?;
        header.l1_table_offset = new.l1;
        header.refcount_table_offset = new.refcounts.offset;
        header.refcount_table_clusters =
            narrow(new.refcounts.clusters, "the clusters of the refcount table")?;
        Ok(())
    })?;
    if new == old { Ok(()) } else { change.forget(&new) }
}

/// A run of bytes of the file.
#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u64,
    length: u64,
}

/// Where the rest of the last cluster of an overlay's disk is in the file, if there is a rest that may
/// contain data.
///
/// # Errors
/// [`Kind::Usage`] for an overlay that cannot mark the part after its disk as zero.
fn last_cluster(source: &Arc<Source>, info: &Info) -> Result<Option<Place>> {
    let refuse = |what: &str, hint: &str| {
        Err(Error::new(Kind::Usage, what)
            .at(&source.path)
            .why("what a backing file holds behind the end of the disk is not to come into it")
            .hint(hint))
    };
    if info.version == 2 {
        return refuse(
            "an overlay of version 2 is not made larger: it cannot say that clusters are zero",
            "make it one of version 3 first (qemu-img amend -o compat=1.1)",
        );
    }
    let rest = info.size.next_multiple_of(info.cluster()) - info.size;
    if rest == 0 {
        return Ok(None);
    }
    let disk = info.disk(source)?;
    let last = info.size - 1;
    if disk.zero.iter().any(|range| range.contains(&last)) {
        return Ok(None);
    }
    let own = disk.image.clipped(Bytes::new(last), Bytes::new(info.size)).next().map(|piece| piece.data);
    if let (Some(Data::File { skip, .. }), false) = (own, info.extended()) {
        return Ok(Some(Place { offset: skip + 1, length: rest }));
    }
    let what = "the overlay ends within a cluster that it does not have itself, or compressed";
    let hint = "convert it with its backing file into an image of its own, and make that larger";
    refuse(what, hint).map_err(|error: Error| error.remedy("allow_backing", hint))
}

/// Marks the clusters of `from..to` as zero in the level 2 tables.
fn cover(source: &Arc<Source>, file: &File, from: u64, to: u64) -> Result<()> {
    let info = Info::read(source)?;
    let change = Change { info: &info, source, file };
    let cluster = info.cluster();
    let (first, last) = (from.div_ceil(cluster), to.div_ceil(cluster));
    if first == last {
        return Ok(());
    }
    let per_table = info.covered() / cluster;
    let range = first / per_table..(last - 1) / per_table + 1;
    let Level1 { offset, entries } = info.l1;
    let bytes = source.read(offset, entries * 8, "the L1 table")?;
    let level_1: Vec<u64> = be64s(&bytes).map(|entry| entry & OFFSET).collect();
    let (mut there, mut missing) = (Vec::new(), Vec::new());
    for number in range {
        match level_1.get(usize_of(number)) {
            Some(0) => missing.push(number),
            Some(place) => there.push((number, *place)),
            None => return Err(Error::bug("the L1 table does not cover the larger disk")),
        }
    }
    let width = u64_of(info.zero_entry().len());
    // Marks the new clusters as zero in table `number`, which is at `place`.
    let say_zero = |number: u64, place: u64| {
        let start = first.max(number * per_table);
        let count = last.min((number + 1) * per_table) - start;
        let zeros = info.zero_entry().repeat(usize_of(count));
        change.write(&zeros, place + start % per_table * width)
    };
    let at = Bytes::new(source.size).round_up(cluster).get();
    let mut counts = Counts::read(&info, source)?;
    let added = if missing.is_empty() { 0 } else { counts.add(at / cluster, u64_of(missing.len()))? };
    change.extend(at + added * cluster, &counts, || {
        let mut places = (at..).step_by(usize_of(cluster)).zip(&missing);
        places.try_for_each(|(place, number)| say_zero(*number, place))
    })?;
    there.iter().try_for_each(|(number, place)| say_zero(*number, *place))?;
    for (place, number) in (at..).step_by(usize_of(cluster)).zip(&missing) {
        change.write(&(place | COPIED).to_be_bytes(), offset + number * 8)?;
    }
    if counts.place == info.refcounts {
        return Ok(());
    }
    change.header(|header| {
        header.refcount_table_offset = counts.place.offset;
        header.refcount_table_clusters = narrow(counts.place.clusters, "the clusters of the refcount table")?;
        Ok(())
    })?;
    change.release(&[info.refcounts.run(cluster)])
}

/// Refuses a file whose tables have entries past the end of the disk: their contents would become part of the
/// disk.
fn nothing_behind(source: &Arc<Source>, info: &Info, size: u64) -> Result<()> {
    let mut covered = info.clone();
    covered.size = size.min(info.l1.entries.saturating_mul(info.covered()));
    let end = info.size.next_multiple_of(info.cluster());
    let behind = match covered.disk(source) {
        Ok(disk) => disk.image.segments().last().is_some_and(|last| last.end().get() > end),
        Err(error) => return Err(error.hint("repair the image first (qemu-img check -r all)")),
    };
    if behind {
        return Err(Error::new(Kind::Usage, "the image has data behind the end of its disk")
            .at(&source.path)
            .why("it would be in the disk once that is larger")
            .hint("convert it into a new image, and make that larger"));
    }
    Ok(())
}

/// A file that is being changed.
struct Change<'a> {
    info: &'a Info,
    source: &'a Arc<Source>,
    file: &'a File,
}

impl Change<'_> {
    fn cluster(&self) -> u64 {
        self.info.cluster()
    }

    /// Clusters of the current level 1 table.
    fn table_clusters(&self) -> u64 {
        (self.info.l1.entries * 8).div_ceil(self.cluster())
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::io(Kind::Output, "cannot make the image larger", &self.source.path, error)
    }

    /// Changes the header in one write of less than a sector: its first fields, which both versions have.
    fn header(&self, change: impl FnOnce(&mut Header) -> Result<()>) -> Result<()> {
        let mut bytes = [0; Header::LENGTH];
        self.file.read_exact_at(&mut bytes, 0).map_err(|error| self.failed(error))?;
        let mut header = Header::read(&bytes)?;
        change(&mut header)?;
        self.write(&header.bytes()[..HEADER_2], 0)
    }

    /// Whether the clusters of the level 1 table have space for `entries`, and are zero after its present
    /// end.
    fn suffices(&self, entries: u64) -> Result<bool> {
        let Level1 { offset: at, entries: now } = self.info.l1;
        if entries > self.table_clusters() * self.cluster() / 8 {
            return Ok(false);
        }
        let rest = self.source.read_some(at + now * 8, (entries - now) * 8)?;
        if rest.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        // A table that is cut by the end of the file reads as zero there only while the file is that short.
        let end = at + self.table_clusters() * self.cluster();
        if entries > now && self.source.size < end {
            self.file.set_len(end).map_err(|error| self.failed(error))?;
        }
        Ok(true)
    }

    /// The clusters of the tables that are given up.
    fn given_up(&self, refcounts_too: bool) -> Vec<ClusterRun> {
        let first = self.info.l1.offset / self.cluster();
        let mut all = vec![ClusterRun { first, count: self.table_clusters() }];
        all.extend(refcounts_too.then(|| self.info.refcounts.run(self.cluster())));
        all
    }

    /// Copies the level 1 table to the end of the file and counts its clusters. If the refcount table is too
    /// short for that, it moves too. An error undoes everything.
    fn move_tables(&self, entries: u64) -> Result<Tables> {
        let at = Bytes::new(self.source.size).round_up(self.cluster()).get();
        let mut counts = Counts::read(self.info, self.source)?;
        let added = counts.add(at / self.cluster(), (entries * 8).div_ceil(self.cluster()))?;
        // Before anything changes, this checks that the old tables can be given up.
        let moved = counts.place != self.info.refcounts;
        let mut later = Counts::read(self.info, self.source)?;
        self.given_up(moved).into_iter().try_for_each(|run| later.set(run, 0))?;
        let Level1 { offset, entries: now } = self.info.l1;
        let mut table = self.source.read(offset, now * 8, "the L1 table")?;
        table.resize(usize_of(entries * 8), 0);
        let length = at + added * self.cluster();
        self.extend(length, &counts, || self.write(&table, at))?;
        Ok(Tables { l1: at, refcounts: counts.place })
    }

    /// Makes the file `length` bytes long, lets `write` write after its old end, and counts the new clusters.
    /// An error undoes everything.
    fn extend(&self, length: u64, counts: &Counts<'_>, write: impl FnOnce() -> Result<()>) -> Result<()> {
        let done = self
            .file
            .set_len(length.max(self.source.size))
            .map_err(|error| self.failed(error))
            .and_then(|()| write())
            .and_then(|()| self.apply(counts))
            // They must be on the disk before anything points to them.
            .and_then(|()| self.file.sync_data().map_err(|error| self.failed(error)));
        if done.is_err() {
            // The new part is cut off again.
            for (place, changed) in counts.changed.range(..self.source.size) {
                let _ = self.file.write_all_at(&changed.old, *place);
            }
            let _ = self.file.set_len(self.source.size);
        }
        done
    }

    /// Frees the clusters of the old tables, now that the header names the new ones.
    fn forget(&self, new: &Tables) -> Result<()> {
        self.release(&self.given_up(new.refcounts != self.info.refcounts))
    }

    /// Writes the refcounts that change.
    fn apply(&self, counts: &Counts<'_>) -> Result<()> {
        counts.changed.iter().try_for_each(|(place, changed)| self.write(&changed.new, *place))
    }

    /// Frees clusters in the tables that the header names now.
    fn release(&self, clusters: &[ClusterRun]) -> Result<()> {
        let source = Source::open(&self.source.path)?;
        let info = Info::read(&source)?;
        let mut counts = Counts::read(&info, &source)?;
        clusters.iter().try_for_each(|run| counts.set(*run, 0))?;
        self.apply(&counts)
    }
}

/// The places of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tables {
    l1: u64,
    refcounts: RefcountTable,
}

/// Consecutive clusters of the file.
#[derive(Clone, Copy, Debug)]
struct ClusterRun {
    first: u64,
    count: u64,
}

impl RefcountTable {
    /// Its clusters, of `cluster` bytes each.
    const fn run(self, cluster: u64) -> ClusterRun {
        ClusterRun { first: self.offset / cluster, count: self.clusters }
    }
}

/// Bytes of the file that change: their old and new values.
#[derive(Clone, Debug)]
struct Changed {
    old: Vec<u8>,
    new: Vec<u8>,
}

/// The refcounts of a file and their changes.
struct Counts<'a> {
    info: &'a Info,
    source: &'a Arc<Source>,
    place: RefcountTable,
    table: Vec<u64>,
    /// By their offset in the file.
    changed: BTreeMap<u64, Changed>,
}

impl<'a> Counts<'a> {
    fn read(info: &'a Info, source: &'a Arc<Source>) -> Result<Self> {
        let place = info.refcounts;
        let bytes = source.read(place.offset, place.clusters * info.cluster(), "the refcount table")?;
        let table = be64s(&bytes).map(|entry| entry & OFFSET).collect();
        Ok(Self { info, source, place, table, changed: BTreeMap::new() })
    }

    /// Refcounts in a block.
    const fn per_block(&self) -> u64 {
        (self.info.cluster() * 8) >> self.info.refcount_order
    }

    /// Entries in a cluster of the table.
    const fn per_cluster(&self) -> u64 {
        self.info.cluster() / 8
    }

    /// Counts `count` clusters from `first`, which is the first one after the end of the file, and the
    /// clusters after them that new refcount blocks and a new refcount table need. Returns the number of the
    /// latter.
    fn add(&mut self, first: u64, count: u64) -> Result<u64> {
        let (mut missing, mut table) = (Vec::new(), 0);
        // Blocks and table count their own clusters, so the sum is repeated until it no longer changes.
        loop {
            let all = count + u64_of(missing.len()) + table;
            let last = (first + all - 1) / self.per_block();
            let absent = |block: &u64| self.table.get(usize_of(*block)).is_none_or(|at| *at == 0);
            let blocks: Vec<u64> = (first / self.per_block()..=last).filter(absent).collect();
            let clusters = if last < u64_of(self.table.len()) { 0 } else { last / self.per_cluster() + 1 };
            if blocks.len() == missing.len() && clusters == table {
                break;
            }
            (missing, table) = (blocks, clusters);
        }
        if table * self.info.cluster() > MOST_REFCOUNT_TABLE {
            return Err(Error::new(Kind::Capacity, "the refcount table of the image would be too large")
                .at(&self.source.path)
                .expected(format!("at most {MOST_REFCOUNT_TABLE} bytes"))
                .remedy("cluster_size", "convert it into a new image with larger clusters, up to 2MiB"));
        }
        let cluster = self.info.cluster();
        let zeros = vec![0; usize_of(cluster)];
        let at = |number: u64| (first + count + number) * cluster;
        if table > 0 {
            self.table.resize(usize_of(table * self.per_cluster()), 0);
            self.place = RefcountTable { offset: at(u64_of(missing.len())), clusters: table };
        }
        for (number, block) in (0..).zip(&missing) {
            let entry = self.table.get_mut(usize_of(*block));
            *entry.ok_or_else(|| Error::bug("a refcount block lies behind its table"))? = at(number);
            self.changed.insert(at(number), Changed { old: zeros.clone(), new: zeros.clone() });
            if table == 0 {
                let changed = Changed { old: vec![0; 8], new: at(number).to_be_bytes().to_vec() };
                self.changed.insert(self.place.offset + block * 8, changed);
            }
        }
        if table > 0 {
            let new = self.table.iter().flat_map(|entry| entry.to_be_bytes()).collect();
            self.changed.insert(self.place.offset, Changed { old: Vec::new(), new });
        }
        let all = count + u64_of(missing.len()) + table;
        self.set(ClusterRun { first, count: all }, 1)?;
        Ok(all)
    }

    /// Sets the refcounts of clusters to 0 or 1; they must have the other value.
    fn set(&mut self, run: ClusterRun, value: u64) -> Result<()> {
        for cluster in run.first..run.first + run.count {
            let wrong = || {
                Error::new(Kind::Format, "a cluster is counted wrongly")
                    .at_offset(&self.source.path, cluster * self.info.cluster())
                    .expected(1 - value)
                    .hint("repair the image first (qemu-img check -r all)")
            };
            let number = cluster % self.per_block();
            let block = self.table.get(usize_of(cluster / self.per_block())).filter(|block| **block != 0);
            let block = *block.ok_or_else(wrong)?;
            let bytes = match self.changed.entry(block) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let bytes = self.source.read(block, self.info.cluster(), "a refcount block")?;
                    entry.insert(Changed { old: bytes.clone(), new: bytes })
                }
            };
            if !put(&mut bytes.new, number, self.info.refcount_order, value) {
                return Err(wrong());
            }
        }
        Ok(())
    }
}

/// Sets refcount `number` of a block, `1 << order` bits wide, to 0 or 1. Returns false if it does not have
/// the other value. Refcounts of less than a byte begin at the least significant bit (QEMU
/// docs/interop/qcow2.txt, Host cluster management).
fn put(block: &mut [u8], number: u64, order: u32, value: u64) -> bool {
    if order < 3 {
        let (width, per_byte) = (1_u32 << order, 8_u64 >> order);
        let Some(byte) = block.get_mut(usize_of(number / per_byte)) else { return false };
        // At most seven bits.
        let shift = number % per_byte * u64::from(width);
        let mask = (1_u64 << width) - 1;
        if u64::from(*byte) >> shift & mask != 1 - value {
            return false;
        }
        *byte ^= 1 << shift;
        return true;
    }
    let width = 1_usize << (order - 3);
    let from = usize_of(number) * width;
    let Some(bytes) = block.get_mut(from..from + width) else { return false };
    let Some((last, high)) = bytes.split_last_mut() else { return false };
    if high.iter().any(|byte| *byte != 0) || u64::from(*last) != 1 - value {
        return false;
    }
    *last ^= 1;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refcounts_of_every_width_are_set_and_cleared() {
        for order in 0..=6 {
            let mut block = vec![0; 64];
            let count = (64 * 8) >> order;
            for number in 0..count {
                assert!(put(&mut block, number, order, 1));
                assert!(!put(&mut block, number, order, 1));
            }
            assert!(!put(&mut block, count, order, 1));
            let one: &[u8] = match order {
                0 => &[0xff],
                1 => &[0x55],
                2 => &[0x11],
                3 => &[1],
                4 => &[0, 1],
                5 => &[0, 0, 0, 1],
                _ => &[0, 0, 0, 0, 0, 0, 0, 1],
            };
            assert!(block.chunks(one.len()).all(|chunk| chunk == one), "{order}");
            assert!((0..count).all(|number| put(&mut block, number, order, 0)));
            assert!(block.iter().all(|byte| *byte == 0));
        }
    }
}
