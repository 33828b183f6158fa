//! Space maps: which metaslabs have one, what their entries say, and whether that is what blocks take.

use super::super::format::{SpaceMap, kind};
use super::super::maps::HEAD_ALONE;
use super::super::nvlist::List;
use super::block::Blocks;
use super::object::{Object, Set};
use crate::error::Result;
use crate::wire::Wire;

/// Sums over units of space: how many, of their numbers, of the squares of these. Two lists of units with the same sums are the
/// same, except for what is made to look so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Moments(pub(super) [u128; 3]);

impl Moments {
    /// Of all units below one.
    fn below(unit: u64) -> [u128; 3] {
        let n = u128::from(unit);
        let before = n.saturating_sub(1);
        // Products that wrap do so alike on both sides.
        [n, n.wrapping_mul(before) / 2, n.wrapping_mul(before).wrapping_mul(2 * n.max(1) - 1) / 6]
    }

    pub(in super::super) fn add(&mut self, start: u64, count: u64, sign: bool) {
        let (end, start) = (Self::below(start.saturating_add(count)), Self::below(start));
        for (own, (end, start)) in self.0.iter_mut().zip(end.into_iter().zip(start)) {
            let part = end.wrapping_sub(start);
            *own = if sign { own.wrapping_add(part) } else { own.wrapping_sub(part) };
        }
    }
}

/// The heads of the space maps that a pool has, with their objects, by metaslab.
pub(super) fn maps(
    blocks: &Blocks,
    mos: &Set,
    tree: &List,
    count: u64,
    each: &mut dyn FnMut(u64, &Object, &SpaceMap) -> Result<()>,
) -> Result<()> {
    let array = mos.object(blocks, tree.number("metaslab_array")?)?;
    let per = array.block() / 8;
    for number in 0..count.div_ceil(per) {
        let Some(bytes) = blocks.data(&array, number)? else { continue };
        let (words, _) = bytes.as_chunks::<8>();
        for (metaslab, word) in (number * per..count).zip(words) {
            let map = u64::from_le_bytes(*word);
            if map == 0 {
                continue;
            }
            let mut object = mos.object(blocks, map)?;
            // A head without a histogram.
            if object.bonus.len() == HEAD_ALONE {
                object.bonus.resize(SpaceMap::LENGTH, 0);
            }
            let head: SpaceMap = object.bonus(kind::SPACE_MAP_HEADER)?;
            each(metaslab, &object, &head)?;
        }
    }
    Ok(())
}

/// Bytes that are taken, by the heads of the space maps.
pub(super) fn taken(blocks: &Blocks, mos: &Set, tree: &List, count: u64) -> Result<u64> {
    let mut sum = 0_u64;
    maps(blocks, mos, tree, count, &mut |_, _, head| {
        sum = sum.saturating_add(head.smp_alloc);
        Ok(())
    })?;
    Ok(sum)
}

/// Entries of a space map, which come in words.
#[derive(Debug, Default)]
pub(in super::super) struct Entries {
    /// The run of an entry whose second word comes next.
    run: Option<u64>,
}

impl Entries {
    /// Passes the entries in `bytes` to `each`: where, how many units, whether they are taken (space_map.h).
    pub(in super::super) fn read(&mut self, bytes: &[u8], each: &mut dyn FnMut(u64, u64, bool)) {
        for word in bytes.as_chunks::<8>().0 {
            let word = u64::from_le_bytes(*word);
            match (self.run.take(), word >> 62) {
                (Some(run), _) => each(word & ((1 << 63) - 1), run, word >> 63 == 0),
                // A remark, and the first word of two.
                (None, 2) => {}
                (None, 3) => self.run = Some(((word >> 24) & ((1 << 36) - 1)) + 1),
                (None, _) => each((word >> 16) & ((1 << 47) - 1), (word & 0x7fff) + 1, (word >> 15) & 1 == 0),
            }
        }
    }
}
