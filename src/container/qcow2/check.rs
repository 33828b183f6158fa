//! Compares the refcounts of a qcow2 file with the clusters that its tables refer to, as `qemu-img check` does (QEMU
//! block/qcow2-refcount.c, qcow2_check_refcounts).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::format::{COMPRESSED, COPIED, INCOMPATIBLE_COMPRESSION, LEAST_HEADER_3, Level1, OFFSET};
use super::kept::{self, Snapshots};
use super::read::{Info, read_header};
use crate::container::source::{Source, be64s};
use crate::error::Result;
use crate::units::{u64_of, usize_of};

/// The feature of an image whose data are in a raw file (autoclear bit 1).
const AUTOCLEAR_RAW: u64 = 1 << 1;
/// At most this many clusters of one kind of fault are named.
const NAMED: u64 = 16;

/// The references to clusters, and the faults that were found.
struct Check<'a> {
    info: Info,
    source: &'a Source,
    /// How often each cluster of the file is referred to.
    found: Vec<u32>,
    faults: Vec<String>,
    /// Entries with the flag of a sole reference, and others: the cluster, and where the entry is.
    entries: Vec<(u64, bool, u64)>,
}

/// The faults of a file that opens.
///
/// # Errors
/// Where the file cannot be read.
pub(in crate::container) fn check(source: &Arc<Source>) -> Result<Vec<String>> {
    let info = Info::read(source)?;
    let clusters = source.size.div_ceil(info.cluster());
    let mut check =
        Check { info, source, found: vec![0; usize_of(clusters)], faults: Vec::new(), entries: Vec::new() };
    if check.info.dirty() {
        check.faults.push("it was not closed (dirty), so its refcounts may be stale".to_owned());
    }
    check.header()?;
    check.tables()?;
    check.compare()?;
    Ok(check.faults)
}

impl Check<'_> {
    /// Checks the fields of the header that reading does not need.
    fn header(&mut self) -> Result<()> {
        let header = read_header(self.source)?;
        let cluster = self.info.cluster();
        for (wrong, what) in [
            (
                header.autoclear_features & AUTOCLEAR_RAW != 0,
                "its data are said to be a raw file, and are in this one (autoclear_features)".to_owned(),
            ),
            (
                header.header_length > LEAST_HEADER_3
                    && header.compression_type != 0
                    && header.incompatible_features & INCOMPATIBLE_COMPRESSION == 0,
                format!(
                    "compression_type is {}, and the feature for that is missing",
                    header.compression_type
                ),
            ),
            (
                !header.snapshots_offset.is_multiple_of(cluster)
                    || header.snapshots_offset > self.source.size,
                format!("the table of snapshots cannot be at {}", header.snapshots_offset),
            ),
        ] {
            if wrong {
                self.faults.push(what);
            }
        }
        Ok(())
    }

    /// Counts so many references to `length` bytes at `offset`.
    fn refer(&mut self, offset: u64, length: u64, times: u32) {
        let cluster = self.info.cluster();
        let end = offset.saturating_add(length).min(self.source.size.next_multiple_of(cluster));
        for number in offset / cluster..end.div_ceil(cluster) {
            if let Some(count) = self.found.get_mut(usize_of(number)) {
                *count = count.saturating_add(times);
            }
        }
    }

    /// Counts what the header and all tables refer to. Those of the disk were checked when the image was opened.
    fn tables(&mut self) -> Result<()> {
        let cluster = self.info.cluster();
        self.refer(0, cluster, 1);
        let refcounts = self.info.refcounts;
        self.refer(refcounts.offset, refcounts.clusters * cluster, 1);
        let table = self.source.read(refcounts.offset, refcounts.clusters * cluster, "the refcount table")?;
        for block in be64s(&table).map(|entry| entry & OFFSET).filter(|block| *block != 0) {
            self.refer(block, cluster, 1);
        }
        let header = read_header(self.source)?;
        let Snapshots { tables, end, faults } = kept::snapshots(self.source, &header, cluster)?;
        self.faults.extend(faults);
        self.refer(header.snapshots_offset, end.saturating_sub(header.snapshots_offset), 1);
        // How many L1 tables refer to each L2 table, and whether that of the disk does.
        let mut level_2 = BTreeMap::new();
        self.level_1(self.info.l1, true, &mut level_2)?;
        for table in tables {
            self.level_1(table, false, &mut level_2)?;
        }
        for (offset, (times, active)) in level_2 {
            self.refer(offset, cluster, times);
            self.level_2(offset, times, active)?;
        }
        let mut kept = Vec::new();
        kept::bitmaps(self.source, &header, cluster, &mut |at, length| kept.push((at, length)))?;
        kept.into_iter().for_each(|(at, length)| self.refer(at, length, 1));
        Ok(())
    }

    /// Counts what an L1 table refers to.
    fn level_1(&mut self, l1: Level1, active: bool, found: &mut BTreeMap<u64, (u32, bool)>) -> Result<()> {
        self.refer(l1.offset, l1.entries * 8, 1);
        let table = self.source.read(l1.offset, l1.entries * 8, "the L1 table")?;
        for (number, entry) in (0..).zip(be64s(&table)).filter(|(_, entry)| entry & OFFSET != 0) {
            let offset = entry & OFFSET;
            let (times, own) = found.entry(offset).or_default();
            *times = times.saturating_add(1);
            *own |= active;
            if active {
                self.entries.push((
                    offset / self.info.cluster(),
                    entry & COPIED != 0,
                    l1.offset + number * 8,
                ));
            }
        }
        Ok(())
    }

    /// Counts what an L2 table refers to, to which so many L1 tables refer.
    fn level_2(&mut self, offset: u64, times: u32, active: bool) -> Result<()> {
        let cluster = self.info.cluster();
        let table = self.source.read(offset, cluster, "an L2 table")?;
        let step = usize_of(self.info.entry() / 8);
        for (slot, entry) in (0..).zip(be64s(&table)).step_by(step).filter(|(_, entry)| *entry != 0) {
            let place = offset + slot * 8;
            if entry & COMPRESSED != 0 {
                let (start, length) = self.info.cluster_size.stream_of(entry);
                self.refer(start, length, times);
            } else if entry & OFFSET != 0 {
                self.refer(entry & OFFSET, cluster, times);
                if active {
                    self.entries.push(((entry & OFFSET) / cluster, entry & COPIED != 0, place));
                }
            }
        }
        Ok(())
    }

    /// The refcounts as they are recorded.
    fn recorded(&self) -> Result<Vec<u64>> {
        let (cluster, refcounts) = (self.info.cluster(), self.info.refcounts);
        let mut all = vec![0; self.found.len()];
        let bits = 1_u64 << self.info.refcount_order;
        let in_block = cluster * 8 / bits;
        let table = self.source.read(refcounts.offset, refcounts.clusters * cluster, "the refcount table")?;
        for (number, entry) in (0..).zip(be64s(&table)) {
            let first = number * in_block;
            if entry & OFFSET == 0 || first >= u64_of(all.len()) {
                continue;
            }
            let bytes = self.source.read(entry & OFFSET, cluster, "a refcount block")?;
            let end = usize_of((first + in_block).min(u64_of(all.len())));
            for (at, count) in (0..).zip(&mut all[usize_of(first)..end]) {
                *count = refcount(&bytes, at, bits);
            }
        }
        Ok(all)
    }

    fn compare(&mut self) -> Result<()> {
        let recorded = self.recorded()?;
        let (mut low, mut high) = (Vec::new(), Vec::new());
        for (number, (found, told)) in (0_u64..).zip(self.found.iter().zip(&recorded)) {
            let found = u64::from(*found);
            if *told < found {
                low.push(format!("cluster {number} has the refcount {told}, and {found} references"));
            } else if *told > found {
                high.push(format!(
                    "cluster {number} is leaked: it has the refcount {told}, and {found} references"
                ));
            }
        }
        self.tell(low);
        self.tell(high);
        let mut flags = Vec::new();
        for (cluster, sole, place) in &self.entries {
            let told = recorded.get(usize_of(*cluster)).copied().unwrap_or(0);
            if *sole != (told == 1) {
                let what = if *sole { "has" } else { "lacks" };
                flags.push(format!(
                    "the entry at byte {place} {what} the flag of a sole reference, and cluster {cluster} has the refcount {told}"
                ));
            }
        }
        self.tell(flags);
        Ok(())
    }

    /// Adds faults of one kind.
    fn tell(&mut self, faults: Vec<String>) {
        let count = u64_of(faults.len());
        self.faults.extend(faults.into_iter().take(usize_of(NAMED)));
        if count > NAMED {
            self.faults.push(format!("and {} more clusters or entries like this", count - NAMED));
        }
    }
}

/// Refcount `number` of a block, of so many bits. Refcounts of less than a byte begin with its lowest bits.
fn refcount(block: &[u8], number: u64, bits: u64) -> u64 {
    let byte = |at: u64| u64::from(block.get(usize_of(at)).copied().unwrap_or(0));
    if bits < 8 {
        let per_byte = 8 / bits;
        return byte(number / per_byte) >> (number % per_byte * bits) & ((1 << bits) - 1);
    }
    let length = bits / 8;
    (0..length).fold(0, |value, at| value << 8 | byte(number * length + at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refcounts_of_every_width_are_read() {
        let block = [0b1110_0100, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde];
        assert_eq!((0..4).map(|at| refcount(&block, at, 1)).collect::<Vec<_>>(), [0, 0, 1, 0]);
        assert_eq!((0..4).map(|at| refcount(&block, at, 2)).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(refcount(&block, 1, 4), 0xe);
        assert_eq!(refcount(&block, 1, 8), 0x12);
        assert_eq!(refcount(&block, 1, 16), 0x3456);
        assert_eq!(refcount(&block, 0, 64), 0xe412_3456_789a_bcde);
        assert_eq!(refcount(&block, 9, 64), 0);
    }
}
