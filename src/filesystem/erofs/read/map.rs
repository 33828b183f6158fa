//! The map of a compressed file: from the entries of its logical clusters to extents, in their order.

use super::Erofs;
use super::inode::Raw;
use crate::error::Result;
use crate::filesystem::erofs::format::{
    ClusterIndex, EXTENT_FORMAT, EXTENT_LENGTH, LARGEST_CLUSTER, Layout, MapHeader, advise, algorithm,
    cluster,
};
use crate::units::{half_hi16, half_lo16, joined, low8, u64_of};
use crate::wire::Wire;

/// The longest extent (Z_EROFS_PCLUSTER_MAX_DSIZE).
pub(super) const LONGEST: u64 = 12 << 20;
/// An entry of a logical cluster, and one of a list of extents, whose piece gives more than the file has of it
/// (Z_EROFS_LI_PARTIAL_REF, Z_EROFS_EXTENT_PLEN_PARTIAL).
const PARTIAL: u16 = 1 << 15;
const EXTENT_PARTIAL: u32 = 1 << 27;

/// Where the bytes of an extent are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// Stored as they are in so many bytes of the volume, from this one on.
    Plain { at: u64, length: u64 },
    /// The same in one block: they begin at this byte of it and continue at its first.
    Turned { at: u64, from: u64 },
    /// A compressed piece, and whether only its beginning is meant.
    Piece { at: u64, length: u64, algorithm: u8, partial: bool },
    /// Bytes of the inode that holds fragments.
    Fragment { at: u64 },
}

/// A run of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Where it begins in the file, and how long it is there.
    pub(super) start: u64,
    pub(super) length: u64,
    pub(super) from: From,
}

/// An entry of the map.
#[derive(Clone, Copy, Debug)]
enum Entry {
    /// A piece begins here, at a byte of the cluster.
    Head { kind: u16, offset: u64, block: u64, partial: bool },
    /// The piece goes on; the first entry behind a head tells how many blocks it takes.
    Rest { blocks: Option<u64> },
}

/// A piece that was begun.
#[derive(Clone, Copy, Debug)]
struct Head {
    kind: u16,
    start: u64,
    block: u64,
    blocks: u64,
    partial: bool,
}

/// What the map of a file says for all of it.
#[derive(Clone, Debug)]
struct Map<'a> {
    volume: &'a Erofs,
    raw: &'a Raw,
    header: MapHeader,
    /// Bytes in a logical cluster.
    size: u64,
    /// How many entries there are, and where they begin.
    total: u64,
    at: u64,
}

impl Erofs {
    /// Gives `each` the extents of a compressed file, ascending and without gaps.
    pub(super) fn extents(&self, raw: &Raw, each: &mut dyn FnMut(Extent) -> Result<()>) -> Result<()> {
        if raw.size == 0 {
            return Ok(());
        }
        let header_at = raw.behind.next_multiple_of(8);
        let header: MapHeader = self.device.structure(header_at)?;
        if header.h_clusterbits & 0x80 != 0 {
            let bytes = self.device.bytes(header_at, 8)?;
            let mut offset = [0; 8];
            offset.copy_from_slice(&bytes);
            let at = u64::from_le_bytes(offset) & !(1 << 63);
            return each(Extent { start: 0, length: raw.size, from: From::Fragment { at } });
        }
        let full = raw.layout == Layout::Full;
        if full && header.h_advise & advise::EXTENTS != 0 {
            return self.extent_list(raw, &header, header_at + 8, each);
        }
        self.clusters(raw, header)?.walk(each)
    }

    /// The map of a file in entries of logical clusters.
    fn clusters<'a>(&'a self, raw: &'a Raw, header: MapHeader) -> Result<Map<'a>> {
        let size = self.block << (header.h_clusterbits & 15);
        if size > LARGEST_CLUSTER {
            return Err(raw.wrong("its logical clusters are too large"));
        }
        // The full form has eight more bytes in front.
        let full = raw.layout == Layout::Full;
        let at = raw.behind.next_multiple_of(8) + 8 + if full { 8 } else { 0 };
        Ok(Map { volume: self, raw, header, size, total: raw.size.div_ceil(size), at })
    }

    /// Where the map of an inode begins and ends; `None` for one that needs none.
    pub(super) fn map_place(&self, raw: &Raw) -> Result<Option<(u64, u64)>> {
        let start = raw.behind.next_multiple_of(8);
        match raw.layout {
            _ if raw.size == 0 => Ok(None),
            Layout::Plain | Layout::Inline => Ok(None),
            Layout::Chunked => self.chunk_table(raw).map(|table| Some((table.at, table.end()))),
            Layout::Full | Layout::Compact => {
                let header: MapHeader = self.device.structure(start)?;
                let full = raw.layout == Layout::Full;
                if header.h_clusterbits & 0x80 != 0 {
                    return Ok(Some((start, start + u64_of(MapHeader::LENGTH))));
                }
                if full && header.h_advise & advise::EXTENTS != 0 {
                    let list = self.list(raw, &header, start + u64_of(MapHeader::LENGTH))?.0;
                    return Ok(Some((start, list.at + list.count.saturating_mul(list.entry))));
                }
                Ok(Some((start, self.clusters(raw, header)?.end())))
            }
        }
    }
}

/// A list of extents.
#[derive(Clone, Copy, Debug)]
struct List {
    /// Bytes of an entry.
    entry: u64,
    at: u64,
    count: u64,
    /// Bytes of the file for each, where its place in the file is not told.
    each: u64,
}

impl Erofs {
    /// The list of extents at byte `at`, and the address that stands in front of its shortest form.
    fn list(&self, raw: &Raw, header: &MapHeader, at: u64) -> Result<(List, Option<u64>)> {
        let entry = 4 << (header.h_advise >> 1 & 3);
        let mut list =
            List { entry, at: at.next_multiple_of(entry), count: header.h_fragmentoff.into(), each: 0 };
        // In the shortest form the first address stands in front, and the others follow from it.
        let mut next = None;
        if entry <= 8 {
            list.each = self.block << (header.h_clusterbits & 15);
            list.count = raw.size.div_ceil(list.each);
        }
        if entry == 4 {
            let bytes = self.device.bytes(list.at, 8)?;
            next = bytes.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes));
            list.at += 8;
        }
        Ok((list, next))
    }

    /// The extents of a file whose map is a list of them, which begins at byte `at` (z_erofs_map_blocks_ext).
    fn extent_list(
        &self,
        raw: &Raw,
        header: &MapHeader,
        at: u64,
        each: &mut dyn FnMut(Extent) -> Result<()>,
    ) -> Result<()> {
        let (list, mut next) = self.list(raw, header, at)?;
        let mut open: Option<(u64, u32, u64)> = None;
        for number in 0..list.count {
            let (start, plen, stored) = self.listed(&list, number)?;
            let stored = match &mut next {
                Some(next) => std::mem::replace(next, next.saturating_add((plen & EXTENT_LENGTH).into())),
                None => stored,
            };
            if let Some(open) = open {
                self.listed_extent(raw, header, open, start, each)?;
            }
            open = Some((start, plen, stored));
        }
        let Some(last) = open else { return Ok(()) };
        if header.h_advise & advise::FRAGMENT != 0 {
            let high = if list.entry > 4 { last.2 << 32 } else { 0 };
            let length = raw.size.checked_sub(last.0).filter(|length| *length > 0);
            let length = length.ok_or_else(|| raw.wrong("a piece of it cannot have its length"))?;
            return each(Extent {
                start: last.0,
                length,
                from: From::Fragment { at: high | u64::from(last.1) },
            });
        }
        self.listed_extent(raw, header, last, raw.size, each)
    }

    /// Entry `number`: where it begins in the file, its length with its format, and where it lies.
    fn listed(&self, list: &List, number: u64) -> Result<(u64, u32, u64)> {
        let bytes = self.device.bytes(list.at + number * list.entry, crate::units::usize_of(list.entry))?;
        let field = |at: usize| {
            let field = bytes.get(at..at + 4).and_then(|field| field.first_chunk::<4>());
            field.map_or(0, |field| u32::from_le_bytes(*field))
        };
        let start = if list.each > 0 { number * list.each } else { joined(field(12), field(16)) };
        Ok((start, field(0), joined(field(4), if list.each > 0 { 0 } else { field(8) })))
    }

    /// Gives the extent of an entry that ends in the file at `end`.
    fn listed_extent(
        &self,
        raw: &Raw,
        header: &MapHeader,
        (start, plen, at): (u64, u32, u64),
        end: u64,
        each: &mut dyn FnMut(Extent) -> Result<()>,
    ) -> Result<()> {
        let length = end.checked_sub(start).filter(|length| *length > 0 && end <= raw.size);
        let length = length.ok_or_else(|| raw.wrong("a piece of it cannot have its length"))?;
        let stored = u64::from(plen & EXTENT_LENGTH);
        // Nothing is stored of a hole.
        if stored == 0 {
            return Ok(());
        }
        let turned = header.h_advise & advise::INTERLACED != 0 && (at | stored) % self.block == 0;
        let from = match plen >> EXTENT_FORMAT {
            0 if length > stored => return Err(raw.wrong("a piece of it is shorter than what it holds")),
            0 if turned && start % self.block > 0 => From::Turned { at, from: start % self.block },
            0 => From::Plain { at, length: stored },
            format => {
                let algorithm = low8(u64::from(format - 1));
                if stored > LARGEST_CLUSTER || length > LONGEST || algorithm > algorithm::ZSTD {
                    return Err(raw.wrong("a compressed piece of it cannot be"));
                }
                From::Piece { at, length: stored, algorithm, partial: plen & EXTENT_PARTIAL != 0 }
            }
        };
        if matches!(from, From::Turned { .. }) && length > self.block {
            return Err(raw.wrong("a piece of it is shorter than what it holds"));
        }
        each(Extent { start, length, from })
    }
}

impl Map<'_> {
    fn walk(&self, each: &mut dyn FnMut(Extent) -> Result<()>) -> Result<()> {
        let mut head: Option<Head> = None;
        for number in 0..self.total {
            match self.entry(number)? {
                Entry::Head { kind, offset, block, partial } => {
                    let start = number * self.size + offset;
                    // What ends the last piece inside its cluster (z_erofs_write_indexes_final, erofs-utils).
                    if head.is_some() && start >= self.raw.size {
                        continue;
                    }
                    if let Some(head) = head {
                        self.give(&head, start, each)?;
                    } else if start != 0 {
                        return Err(self.raw.wrong("its map does not begin with its first byte"));
                    }
                    head = Some(Head { kind, start, block, blocks: 1, partial });
                }
                Entry::Rest { blocks } => {
                    let head = head.as_mut();
                    let head = head.ok_or_else(|| self.raw.wrong("its map does not begin with a piece"))?;
                    head.blocks = blocks.unwrap_or(head.blocks);
                }
            }
        }
        let head = head.ok_or_else(|| self.raw.wrong("its map has no piece"))?;
        let tail = self.tail(&head)?;
        match tail {
            Some(from) => each(Extent { start: head.start, length: self.raw.size - head.start, from }),
            None => self.give(&head, self.raw.size, each),
        }
    }

    /// Gives the extent of a piece that ends in the file at `end`.
    fn give(&self, head: &Head, end: u64, each: &mut dyn FnMut(Extent) -> Result<()>) -> Result<()> {
        let length = end.checked_sub(head.start).filter(|length| *length > 0 && *length <= LONGEST);
        let length = length.ok_or_else(|| self.raw.wrong("a piece of it cannot have its length"))?;
        let (at, stored) = (head.block * self.volume.block, head.blocks * self.volume.block);
        if stored > LARGEST_CLUSTER || stored == 0 {
            return Err(self.raw.wrong("a compressed piece of it is too large"));
        }
        each(Extent { start: head.start, length, from: self.from(head, at, stored, length)? })
    }

    /// Where the bytes of a piece are that takes `stored` bytes from `at` on.
    fn from(&self, head: &Head, at: u64, stored: u64, length: u64) -> Result<From> {
        if head.kind != cluster::PLAIN {
            let algorithms = self.header.h_algorithmtype;
            let algorithm = if head.kind == cluster::HEAD { algorithms & 15 } else { algorithms >> 4 };
            if algorithm > algorithm::ZSTD {
                return Err(self.raw.wrong("its compression does not exist"));
            }
            return Ok(From::Piece { at, length: stored, algorithm, partial: head.partial });
        }
        if length > stored {
            return Err(self.raw.wrong("a piece of it is shorter than what it holds"));
        }
        let turned = self.header.h_advise & advise::INTERLACED != 0;
        match head.start % self.volume.block {
            from if turned && from > 0 => {
                if length > self.volume.block {
                    return Err(self.raw.wrong("a piece of it is shorter than what it holds"));
                }
                Ok(From::Turned { at, from })
            }
            _ => Ok(From::Plain { at, length: stored }),
        }
    }

    /// The last piece, where it stands behind the map or among the fragments.
    fn tail(&self, head: &Head) -> Result<Option<From>> {
        if self.header.h_advise & advise::FRAGMENT != 0 {
            // The high half stands where the block of the piece would.
            let high = if self.raw.layout == Layout::Full { head.block << 32 } else { 0 };
            return Ok(Some(From::Fragment { at: high | u64::from(self.header.h_fragmentoff) }));
        }
        if self.header.h_advise & advise::INLINE_CLUSTER == 0 {
            return Ok(None);
        }
        let length = u64::from(half_hi16(self.header.h_fragmentoff));
        let at = self.end();
        if length == 0 || at % self.volume.block + length > self.volume.block {
            return Err(self.raw.wrong("its last piece crosses a block"));
        }
        let last = self.raw.size - head.start;
        if last > LONGEST {
            return Err(self.raw.wrong("a piece of it cannot have its length"));
        }
        self.from(head, at, length, last).map(Some)
    }

    /// One past the last byte of the map.
    fn end(&self) -> u64 {
        match self.raw.layout {
            Layout::Full => self.at + self.total * u64_of(ClusterIndex::LENGTH),
            _ => {
                let last = self.pack(self.total - 1);
                last.at + last.entries * last.bits / 8 + 4
            }
        }
    }

    fn entry(&self, number: u64) -> Result<Entry> {
        if self.raw.layout == Layout::Full {
            let index: ClusterIndex =
                self.volume.device.structure(self.at + number * u64_of(ClusterIndex::LENGTH))?;
            let kind = index.di_advise & 3;
            if kind == cluster::NONHEAD {
                let first = half_lo16(index.di_u);
                return self.rest(first);
            }
            let partial = index.di_advise & PARTIAL != 0;
            return self.head(kind, index.di_clusterofs, index.di_u.into(), partial);
        }
        let pack = self.pack(number);
        let length = crate::units::usize_of(pack.entries * pack.bits / 8 + 4);
        let bytes = self.volume.device.bytes(pack.at, length)?;
        let own = number - pack.first;
        let (kind, value) = pack.entry(&bytes, own);
        if kind == cluster::NONHEAD {
            return self.rest(value);
        }
        let block = self.block(&pack, &bytes, own)?;
        self.head(kind, value, block, false)
    }

    fn head(&self, kind: u16, offset: u16, block: u64, partial: bool) -> Result<Entry> {
        let offset = u64::from(offset);
        if offset >= self.size {
            return Err(self.raw.wrong("a piece of it begins outside its cluster"));
        }
        Ok(Entry::Head { kind, offset, block, partial })
    }

    fn rest(&self, value: u16) -> Result<Entry> {
        let big = self.header.h_advise & (advise::BIG_CLUSTER_1 | advise::BIG_CLUSTER_2) != 0;
        let told = value & cluster::BLOCKS != 0;
        if told && !big {
            return Err(self.raw.wrong("a piece of it takes several blocks, which it must not"));
        }
        Ok(Entry::Rest { blocks: told.then(|| u64::from(value & !cluster::BLOCKS)) })
    }

    /// The pack that an entry is in.
    fn pack(&self, number: u64) -> Pack {
        let lead = (32 - self.at % 32) / 4 % 8;
        let short = |first: u64, at: u64| {
            let skip = (number - first) / 2;
            Pack { first: first + 2 * skip, at: at + 8 * skip, entries: 2, bits: 16 }
        };
        let twos = self.header.h_advise & advise::COMPACTED_2B != 0 && lead < self.total;
        if !twos || number < lead {
            return short(0, self.at);
        }
        let long = (self.total - lead) / 16;
        let at = self.at + 4 * lead;
        let own = (number - lead) / 16;
        if own < long {
            return Pack { first: lead + 16 * own, at: at + 32 * own, entries: 16, bits: 14 };
        }
        short(lead + 16 * long, at + 32 * long)
    }

    /// The block of the piece that begins at entry `own` of a pack (z_erofs_load_compact_lcluster): from the pack's address
    /// on, as many blocks as the pieces before it in the pack take.
    fn block(&self, pack: &Pack, bytes: &[u8], own: u64) -> Result<u64> {
        let big = self.header.h_advise & (advise::BIG_CLUSTER_1 | advise::BIG_CLUSTER_2) != 0;
        let mut blocks = if big { 0 } else { 1 };
        let mut at = own;
        while at > 0 {
            at -= 1;
            let (kind, value) = pack.entry(bytes, at);
            if kind != cluster::NONHEAD {
                blocks += 1;
            } else if !big {
                let back = u64::from(value);
                match at.checked_sub(back) {
                    Some(head) => (at, blocks) = (head, blocks + 1),
                    None => break,
                }
            } else if value & cluster::BLOCKS != 0 {
                blocks += u64::from(value & !cluster::BLOCKS);
                at = at.saturating_sub(1);
            } else if value <= 1 {
                return Err(self.raw.wrong("a distance in its map is too short"));
            } else {
                at = at.saturating_sub(u64::from(value) - 2);
            }
        }
        let base = bytes.last_chunk::<4>().map_or(0, |base| u32::from_le_bytes(*base));
        Ok(u64::from(base) + blocks)
    }
}

/// A pack of entries in the compact form.
#[derive(Clone, Copy, Debug)]
struct Pack {
    /// Its first entry.
    first: u64,
    at: u64,
    entries: u64,
    /// Bits of an entry.
    bits: u64,
}

impl Pack {
    /// Type and value of an entry.
    fn entry(&self, bytes: &[u8], number: u64) -> (u16, u16) {
        let bit = number * self.bits;
        let at = crate::units::usize_of(bit / 8);
        let word = bytes[at..(at + 3).min(bytes.len())]
            .iter()
            .rev()
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        let entry = half_lo16(word >> (bit % 8));
        (entry >> 12 & 3, entry & 0xfff)
    }
}
