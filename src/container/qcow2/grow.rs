//! Making the disk of a qcow2 file larger, in the file.
//!
//! The header names the size and the tables, and changes last, in one write of less than a sector: until then the file
//! holds the old disk, from then on the new one. A table that has no room moves behind the end of the file. A fault before the last write takes everything back; a power cut may leave clusters that are counted and not
//! used, which `qemu-img check -r leaks` finds, and nothing worse.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::LENGTHS;
use super::format::{COPIED, MOST_L1, MOST_REFCOUNT_TABLE, OFFSET};
use super::read::Info;
use crate::container::source::{Numbers, Source};
use crate::error::{Error, Kind, Result};
use crate::image::Data;
use crate::units::{Bytes, low32, u64_of, usize_of};

/// Makes the disk in the qcow2 file `path` larger: `size`, rounded up to whole sectors of 512 bytes. What is new reads as
/// zero, whatever a backing file holds there.
///
/// # Errors
/// [`Kind::Usage`] where snapshots or bitmaps remember the smaller size, where the file was not closed properly or
/// is in use, has data behind the end of the disk, or is an overlay that cannot say zeros there; [`Kind::Capacity`] past
/// what its cluster size can address.
pub fn grow(path: &Path, size: Bytes) -> Result<()> {
    let source = Source::open(path)?;
    let info = Info::read(&source)?;
    let size = LENGTHS.round_up(size).get();
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
    let entries = size.div_ceil(info.covered()).max(info.l1.1);
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
        if let Some((place, length)) = last_cluster(&source, &info)? {
            // What QEMU copied there from below when it wrote to the cluster.
            Change { info: &info, source: &source, file: &file }.write(&vec![0; usize_of(length)], place)?;
        }
        // First the tables for so large a disk, which stays as it is; then what they say of its new part; then its size.
        stretch(&source, &info, &file, info.size, entries)?;
        cover(&Source::open(path)?, &file, info.size, size)?;
        return file
            .write_all_at(&size.to_be_bytes(), 24)
            .map_err(|error| Error::io(Kind::Output, "cannot make the image larger", path, error));
    }
    stretch(&source, &info, &file, size, entries)
}

/// Gives the file a level 1 table of `entries`, and its disk `size`.
fn stretch(source: &Arc<Source>, info: &Info, file: &File, size: u64, entries: u64) -> Result<()> {
    let change = Change { info, source, file };
    let old = Tables { l1: info.l1.0, refcounts: info.refcount_table };
    let new = if change.has_room(entries)? { old } else { change.move_tables(entries)? };
    // Bytes 24 to 60 of the header: size, no encryption, entries and place of the level 1 table, place and clusters of
    // the refcount table.
    let mut head = Vec::with_capacity(36);
    head.extend(size.to_be_bytes());
    head.extend(0_u32.to_be_bytes());
    head.extend(low32(entries).to_be_bytes());
    head.extend(new.l1.to_be_bytes());
    head.extend(new.refcounts.0.to_be_bytes());
    head.extend(low32(new.refcounts.1).to_be_bytes());
    change.write(&head, 24)?;
    if new == old { Ok(()) } else { change.forget(&new) }
}

/// Where in the file the rest of the cluster stands that the disk of an overlay ends in, as place and length, if there is a
/// rest that may hold something.
///
/// # Errors
/// [`Kind::Usage`] for an overlay that cannot say that what lies behind its disk is zero.
fn last_cluster(source: &Arc<Source>, info: &Info) -> Result<Option<(u64, u64)>> {
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
    let (image, zeros) = info.image(source)?;
    let last = info.size - 1;
    if zeros.iter().any(|(start, length)| (*start..start + length).contains(&last)) {
        return Ok(None);
    }
    let own = image.clipped(Bytes::new(last), Bytes::new(info.size)).next().map(|piece| piece.data);
    if let (Some(Data::File { skip, .. }), false) = (own, info.extended()) {
        return Ok(Some((skip + 1, rest)));
    }
    let what = "the overlay ends within a cluster that it does not have itself, or compressed";
    let hint = "convert it with its backing file into an image of its own, and make that larger";
    refuse(what, hint).map_err(|error: Error| error.remedy("allow_backing", hint))
}

/// Lets the level 2 tables of the clusters of `from..to` say that these are zero.
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
    let bytes = source.read(info.l1.0, info.l1.1 * 8, "the L1 table")?;
    let level_1: Vec<u64> = Numbers(&bytes).all_be64().map(|entry| entry & OFFSET).collect();
    let table = |number: u64| level_1.get(usize_of(number)).copied().unwrap_or(0);
    let missing: Vec<u64> = range.clone().filter(|number| table(*number) == 0).collect();
    // The entries of table `number` that are to say zero, as first and count.
    let entries = |number: u64| {
        let start = first.max(number * per_table);
        (start % per_table, last.min((number + 1) * per_table) - start)
    };
    let zeros = |count: u64| info.zero_entry().repeat(usize_of(count));
    let at = Bytes::new(source.size).round_up(cluster).get();
    let mut counts = Counts::read(&info, source)?;
    let added = if missing.is_empty() { 0 } else { counts.add(at / cluster, u64_of(missing.len()))? };
    let width = u64_of(info.zero_entry().len());
    change.extend(at + added * cluster, &counts, || {
        for (place, number) in (at..).step_by(usize_of(cluster)).zip(&missing) {
            let (start, count) = entries(*number);
            change.write(&zeros(count), place + start * width)?;
        }
        Ok(())
    })?;
    for number in range.filter(|number| table(*number) != 0) {
        let (start, count) = entries(number);
        change.write(&zeros(count), table(number) + start * width)?;
    }
    for (place, number) in (at..).step_by(usize_of(cluster)).zip(&missing) {
        change.write(&(place | COPIED).to_be_bytes(), info.l1.0 + number * 8)?;
    }
    if counts.place == info.refcount_table {
        return Ok(());
    }
    let mut head = counts.place.0.to_be_bytes().to_vec();
    head.extend(low32(counts.place.1).to_be_bytes());
    change.write(&head, 48)?;
    change.release(&[(info.refcount_table.0 / cluster, info.refcount_table.1)])
}

/// Refuses a file whose tables say something of what lies behind the end of the disk: it would come into the disk, right
/// or wrong.
fn nothing_behind(source: &Arc<Source>, info: &Info, size: u64) -> Result<()> {
    let mut covered = info.clone();
    covered.size = size.min(info.l1.1.saturating_mul(info.covered()));
    let end = info.size.next_multiple_of(info.cluster());
    let behind = match covered.image(source) {
        Ok((image, _)) => image.segments().last().is_some_and(|last| last.end().get() > end),
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

    /// Clusters of the level 1 table as it is.
    fn table_clusters(&self) -> u64 {
        (self.info.l1.1 * 8).div_ceil(self.cluster())
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::io(Kind::Output, "cannot make the image larger", &self.source.path, error)
    }

    /// Whether the level 1 table has room for `entries` in its clusters, and that room is zero.
    fn has_room(&self, entries: u64) -> Result<bool> {
        let (at, now) = self.info.l1;
        if entries > self.table_clusters() * self.cluster() / 8 {
            return Ok(false);
        }
        let rest = self.source.read_some(at + now * 8, (entries - now) * 8)?;
        if rest.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        // A table cut short by the end of the file reads as zero only where the file is that long.
        let end = at + self.table_clusters() * self.cluster();
        if entries > now && self.source.size < end {
            self.file.set_len(end).map_err(|error| self.failed(error))?;
        }
        Ok(true)
    }

    /// The clusters of the tables that are given up for `new`: first and count.
    fn given_up(&self, refcounts_too: bool) -> Vec<(u64, u64)> {
        let (at, clusters) = self.info.refcount_table;
        let mut all = vec![(self.info.l1.0 / self.cluster(), self.table_clusters())];
        all.extend(refcounts_too.then_some((at / self.cluster(), clusters)));
        all
    }

    /// Copies the level 1 table behind the end of the file and counts its clusters; where the refcount table has no
    /// room for that, it moves too. Takes everything back where that fails.
    fn move_tables(&self, entries: u64) -> Result<Tables> {
        let at = Bytes::new(self.source.size).round_up(self.cluster()).get();
        let mut counts = Counts::read(self.info, self.source)?;
        let added = counts.add(at / self.cluster(), (entries * 8).div_ceil(self.cluster()))?;
        // That the old tables can be given up is seen before anything changes.
        let moved = counts.place != self.info.refcount_table;
        let mut later = Counts::read(self.info, self.source)?;
        self.given_up(moved).into_iter().try_for_each(|(first, count)| later.set(first, count, 0))?;
        let mut table = self.source.read(self.info.l1.0, self.info.l1.1 * 8, "the L1 table")?;
        table.resize(usize_of(entries * 8), 0);
        let length = at + added * self.cluster();
        self.extend(length, &counts, || self.write(&table, at))?;
        Ok(Tables { l1: at, refcounts: counts.place })
    }

    /// Makes the file `length` bytes long, lets `write` write behind its end, and counts what that takes. Takes everything
    /// back where that fails.
    fn extend(&self, length: u64, counts: &Counts<'_>, write: impl FnOnce() -> Result<()>) -> Result<()> {
        let done = self
            .file
            .set_len(length.max(self.source.size))
            .map_err(|error| self.failed(error))
            .and_then(|()| write())
            .and_then(|()| counts.changed.iter().try_for_each(|(place, (_, new))| self.write(new, *place)))
            // Before anything names them, they have to be there.
            .and_then(|()| self.file.sync_data().map_err(|error| self.failed(error)));
        if done.is_err() {
            // What was behind the end is cut off.
            for (place, (old, _)) in counts.changed.range(..self.source.size) {
                let _ = self.file.write_all_at(old, *place);
            }
            let _ = self.file.set_len(self.source.size);
        }
        done
    }

    /// The clusters of the old tables are free, now that the header names the new ones.
    fn forget(&self, new: &Tables) -> Result<()> {
        self.release(&self.given_up(new.refcounts != self.info.refcount_table))
    }

    /// Counts clusters, each as first and count, as free, in the tables that the header names now.
    fn release(&self, clusters: &[(u64, u64)]) -> Result<()> {
        let source = Source::open(&self.source.path)?;
        let info = Info::read(&source)?;
        let mut counts = Counts::read(&info, &source)?;
        clusters.iter().try_for_each(|(first, count)| counts.set(*first, *count, 0))?;
        counts.changed.iter().try_for_each(|(place, (_, new))| self.write(new, *place))
    }
}

/// Where the tables stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tables {
    l1: u64,
    /// Place and clusters.
    refcounts: (u64, u64),
}

/// The refcounts of a file, and what changes of them.
struct Counts<'a> {
    info: &'a Info,
    source: &'a Arc<Source>,
    /// Where the table stands, and how many clusters it has.
    place: (u64, u64),
    table: Vec<u64>,
    /// Place in the file: bytes before and after.
    changed: BTreeMap<u64, (Vec<u8>, Vec<u8>)>,
}

impl<'a> Counts<'a> {
    fn read(info: &'a Info, source: &'a Arc<Source>) -> Result<Self> {
        let place = info.refcount_table;
        let bytes = source.read(place.0, place.1 * info.cluster(), "the refcount table")?;
        let table = Numbers(&bytes).all_be64().map(|entry| entry & OFFSET).collect();
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

    /// Counts `count` clusters from `first`, which is the first behind the end of the file, and as many more behind
    /// them as new refcount blocks and a new refcount table need. Returns how many that were.
    fn add(&mut self, first: u64, count: u64) -> Result<u64> {
        let (mut missing, mut table) = (Vec::new(), 0);
        // Blocks and table count themselves, so the sum is repeated until it holds.
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
            self.place = (at(u64_of(missing.len())), table);
        }
        for (number, block) in (0..).zip(&missing) {
            if let Some(entry) = self.table.get_mut(usize_of(*block)) {
                *entry = at(number);
            }
            self.changed.insert(at(number), (zeros.clone(), zeros.clone()));
            if table == 0 {
                let place = self.place.0 + block * 8;
                self.changed.insert(place, (vec![0; 8], at(number).to_be_bytes().to_vec()));
            }
        }
        if table > 0 {
            let bytes = self.table.iter().flat_map(|entry| entry.to_be_bytes()).collect();
            self.changed.insert(self.place.0, (Vec::new(), bytes));
        }
        let all = count + u64_of(missing.len()) + table;
        self.set(first, all, 1)?;
        Ok(all)
    }

    /// Sets the refcounts of `count` clusters from `first`, which were the other of 0 and 1.
    fn set(&mut self, first: u64, count: u64, value: u64) -> Result<()> {
        for cluster in first..first + count {
            let wrong = || {
                Error::new(Kind::Format, "a cluster is counted wrongly")
                    .at_offset(&self.source.path, cluster * self.info.cluster())
                    .expected(1 - value)
                    .hint("repair the image first (qemu-img check -r all)")
            };
            let number = cluster % self.per_block();
            let block = self.table.get(usize_of(cluster / self.per_block())).copied().unwrap_or(0);
            if block == 0 {
                return Err(wrong());
            }
            let bytes = match self.changed.entry(block) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let bytes = self.source.read(block, self.info.cluster(), "a refcount block")?;
                    entry.insert((bytes.clone(), bytes))
                }
            };
            if !put(&mut bytes.1, number, self.info.refcount_order, value) {
                return Err(wrong());
            }
        }
        Ok(())
    }
}

/// Sets refcount `number` of a block, `1 << order` bits wide, to 0 or 1; false where it was not the other one.
/// Refcounts of less than a byte begin at the least significant bit (QEMU docs/interop/qcow2.txt, Host cluster
/// management).
fn put(block: &mut [u8], number: u64, order: u32, value: u64) -> bool {
    if order < 3 {
        let (width, per_byte) = (1_u32 << order, 8_u64 >> order);
        let Some(byte) = block.get_mut(usize_of(number / per_byte)) else { return false };
        let shift = low32(number % per_byte) * width;
        let mask = (1_u16 << width) - 1;
        let old = u16::from(*byte) >> shift & mask;
        if u64::from(old) != 1 - value {
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
