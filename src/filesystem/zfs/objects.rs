//! Objects: contents in blocks, indirect blocks over them, and the dnode that leads to all; sets of objects.

use std::collections::BTreeMap;

use super::format::{
    self, DNODE, DNODE_BLOCK, DNODE_SPILL, DNODE_USED_BYTES, DNODES_PER_BLOCK, Dnode, INDIRECT_SHIFT,
    POINTER, SECTOR, kind,
};
use super::pointer::{About, Pointer, Sums};
use super::store::{Manner, Store};
use super::zap;
use crate::error::{Error, Result};
use crate::units::{narrow, u64_of, usize_of};
use crate::wire::Wire;

/// What a dnode has besides its blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object<'a> {
    pub(super) kind: u8,
    /// Bytes of a data block.
    pub(super) block: u64,
    pub(super) bonus_kind: u8,
    pub(super) bonus: &'a [u8],
    /// 1 or 3; there is no space for more than one beside a bonus.
    pub(super) pointers: u8,
    pub(super) flags: u8,
    /// How later blocks are compressed: 0 inherits.
    pub(super) compression: u8,
    pub(super) indirect_shift: u8,
}

impl Object<'static> {
    /// One without bonus.
    pub(super) const fn plain(kind: u8, block: u64) -> Self {
        Object {
            kind,
            block,
            bonus_kind: 0,
            bonus: &[],
            pointers: 3,
            flags: DNODE_USED_BYTES,
            compression: 0,
            indirect_shift: INDIRECT_SHIFT,
        }
    }
}

impl<'a> Object<'a> {
    /// The same with a bonus.
    pub(super) const fn with_bonus<'b>(self, bonus_kind: u8, bonus: &'b [u8]) -> Object<'b>
    where
        'a: 'b,
    {
        Object { bonus_kind, bonus, pointers: 1, ..self }
    }
}

/// The blocks of an object as they come, with the indirect blocks over those that are complete.
#[derive(Debug)]
pub(super) struct Tree {
    kind: u8,
    birth: u64,
    shift: u8,
    /// Pointers of each level that no indirect block has yet.
    levels: Vec<Vec<Pointer>>,
    /// How many data blocks came.
    count: u64,
    sums: Sums,
}

impl Tree {
    pub(super) const fn new(kind: u8, birth: u64, shift: u8) -> Self {
        let sums = Sums { allocated: 0, physical: 0, logical: 0 };
        Self { kind, birth, shift, levels: Vec::new(), count: 0, sums }
    }

    /// Adds the next data block.
    pub(super) fn push(&mut self, store: &mut Store, manner: Manner, pointer: Pointer) -> Result<()> {
        self.count += 1;
        self.add(store, manner, 0, pointer)
    }

    /// Adds data blocks that were never written: as few pointers as lead to them, each as high as it can be.
    pub(super) fn push_holes(&mut self, store: &mut Store, manner: Manner, count: u64) -> Result<()> {
        let mut left = count;
        while left > 0 {
            // Data blocks below a pointer of this level.
            let (mut level, mut below) = (0, 1_u64);
            while let Some(more) = below.checked_mul(1 << (self.shift - 7))
                && self.count.is_multiple_of(more)
                && left >= more
            {
                (level, below) = (level + 1, more);
            }
            // What is lower is complete.
            for lower in 0..level {
                self.grow(lower);
                self.close(store, manner, lower)?;
            }
            self.add(store, manner, level, Pointer::HOLE)?;
            self.count += below;
            left -= below;
        }
        Ok(())
    }

    /// Adds what levels are missing up to this one.
    fn grow(&mut self, level: usize) {
        while self.levels.len() <= level {
            self.levels.push(Vec::new());
        }
    }

    fn add(&mut self, store: &mut Store, manner: Manner, level: usize, pointer: Pointer) -> Result<()> {
        self.sums += pointer.sums;
        self.grow(level);
        if self.levels[level].len() == 1 << (self.shift - 7) {
            self.close(store, manner, level)?;
        }
        self.levels[level].push(pointer);
        Ok(())
    }

    /// Writes the indirect block over the pointers of a level.
    fn close(&mut self, store: &mut Store, manner: Manner, level: usize) -> Result<()> {
        let pointers = std::mem::take(&mut self.levels[level]);
        if pointers.is_empty() {
            return Ok(());
        }
        let indirect = if pointers.iter().all(Pointer::is_hole) {
            Pointer::HOLE
        } else {
            let mut bytes: Vec<u8> = pointers.iter().flat_map(|pointer| pointer.bytes).collect();
            bytes.resize(1 << self.shift, 0);
            let about = About {
                kind: self.kind,
                level: narrow(level + 1, "the level of an indirect block")?,
                fill: pointers.iter().map(|pointer| pointer.fill).sum(),
                birth: self.birth,
            };
            store.write(about, manner, &bytes)?
        };
        self.add(store, manner, level + 1, indirect)
    }

    /// The pointers of a dnode with `most` of them: indirect blocks as high as needed.
    fn finish(mut self, store: &mut Store, manner: Manner, most: u8) -> Result<Top> {
        let mut level = 0;
        loop {
            let there = self.levels.get(level).map_or(0, Vec::len);
            let above = self.levels.len() > level + 1;
            if !above && there <= usize::from(most) {
                break;
            }
            self.close(store, manner, level)?;
            level += 1;
        }
        let pointers = match self.levels.pop() {
            // An object without blocks.
            None if self.count == 0 => Vec::new(),
            top => top.ok_or_else(|| Error::bug("the blocks of an object are lost"))?,
        };
        Ok(Top {
            pointers,
            levels: narrow(level + 1, "the levels of an object")?,
            count: self.count,
            sums: self.sums,
        })
    }
}

/// What a dnode says of its blocks.
#[derive(Debug)]
struct Top {
    pointers: Vec<Pointer>,
    levels: u8,
    count: u64,
    sums: Sums,
}

/// The bytes of a dnode.
fn dnode(object: &Object<'_>, top: &Top, spill: Option<&Pointer>) -> Result<[u8; DNODE]> {
    let bonus = Dnode::LENGTH + POINTER * usize::from(object.pointers);
    let end = if spill.is_some() { DNODE - POINTER } else { DNODE };
    if bonus + object.bonus.len() > end || top.pointers.len() > usize::from(object.pointers) {
        return Err(Error::bug("a dnode has more than fits"));
    }
    let spilled = spill.map_or(0, |spill| spill.sums.allocated);
    let head = Dnode {
        dn_type: object.kind,
        dn_indblkshift: object.indirect_shift,
        dn_nlevels: top.levels,
        dn_nblkptr: object.pointers,
        dn_bonustype: object.bonus_kind,
        dn_compress: object.compression,
        dn_flags: object.flags | if spill.is_some() { DNODE_SPILL } else { 0 },
        dn_datablkszsec: narrow(object.block / SECTOR, "dn_datablkszsec")?,
        dn_bonuslen: narrow(object.bonus.len(), "dn_bonuslen")?,
        dn_maxblkid: top.count.saturating_sub(1),
        dn_used: top.sums.allocated + spilled,
        ..Dnode::BLANK
    };
    let mut bytes = [0; DNODE];
    head.write_to(&mut bytes);
    for (own, pointer) in bytes[Dnode::LENGTH..].chunks_exact_mut(POINTER).zip(&top.pointers) {
        own.copy_from_slice(&pointer.bytes);
    }
    bytes[bonus..bonus + object.bonus.len()].copy_from_slice(object.bonus);
    if let Some(spill) = spill {
        bytes[DNODE - POINTER..].copy_from_slice(&spill.bytes);
    }
    Ok(bytes)
}

/// A dnode, and the bytes that its blocks take.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) dnode: [u8; DNODE],
    pub(super) allocated: u64,
}

/// The objects of one set, on the way to the disk.
#[derive(Debug)]
pub(super) struct Objects {
    pub(super) manner: Manner,
    /// The transaction group in which all of it was written.
    pub(super) birth: u64,
    /// The salt of its ZAPs.
    pub(super) salt: u64,
    /// What all blocks take up to now, the dnodes' own left out.
    pub(super) sums: Sums,
}

impl Objects {
    pub(super) const fn new(manner: Manner, birth: u64, salt: u64) -> Self {
        let sums = Sums { allocated: 0, physical: 0, logical: 0 };
        Self { manner, birth, salt, sums }
    }

    /// The tree of an object's blocks.
    pub(super) const fn tree(&self, object: &Object<'_>) -> Tree {
        Tree::new(object.kind, self.birth, object.indirect_shift)
    }

    /// Ends an object whose blocks are `tree`.
    pub(super) fn end(
        &mut self,
        store: &mut Store,
        object: &Object<'_>,
        tree: Tree,
        spill: Option<&Pointer>,
    ) -> Result<Made> {
        let top = tree.finish(store, self.manner, object.pointers)?;
        self.sums += top.sums;
        if let Some(spill) = spill {
            self.sums += spill.sums;
        }
        let allocated = top.sums.allocated + spill.map_or(0, |spill| spill.sums.allocated);
        Ok(Made { dnode: dnode(object, &top, spill)?, allocated })
    }

    /// An object with these blocks, each padded to the object's size of blocks.
    pub(super) fn write(
        &mut self,
        store: &mut Store,
        object: &Object<'_>,
        blocks: Vec<Vec<u8>>,
        spill: Option<&Pointer>,
    ) -> Result<Made> {
        let mut tree = self.tree(object);
        for mut block in blocks {
            block.resize(usize_of(object.block), 0);
            let pointer = store.write(About::contents(object.kind, self.birth), self.manner, &block)?;
            tree.push(store, self.manner, pointer)?;
        }
        self.end(store, object, tree, spill)
    }

    /// A ZAP; the size of `object`'s blocks is that of the ZAP.
    pub(super) fn zap(
        &mut self,
        store: &mut Store,
        object: &Object<'_>,
        form: zap::Form,
        entries: &[(impl AsRef<[u8]>, zap::Value)],
        spill: Option<&Pointer>,
    ) -> Result<Made> {
        let zap = zap::build(self.salt, form, entries)?;
        self.write(store, &Object { block: zap.size, ..*object }, zap.blocks, spill)
    }
}

/// A block of dnodes.
type DnodeBlock = Box<[u8; usize_of(DNODE_BLOCK)]>;

/// The dnodes of a set, written block by block as soon as no more come for one.
#[derive(Debug, Default)]
pub(super) struct Dnodes {
    open: BTreeMap<u64, (DnodeBlock, u64)>,
    closed: BTreeMap<u64, Pointer>,
    count: u64,
}

impl Dnodes {
    /// Takes the dnode of object `number`.
    pub(super) fn put(&mut self, number: u64, dnode: &[u8; DNODE]) {
        let fresh = || (Box::new([0; usize_of(DNODE_BLOCK)]), 0);
        let (block, count) = self.open.entry(number / DNODES_PER_BLOCK).or_insert_with(fresh);
        let at = usize_of(number % DNODES_PER_BLOCK) * DNODE;
        block[at..at + DNODE].copy_from_slice(dnode);
        *count += 1;
        self.count += 1;
    }

    /// How many there are.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// Writes the blocks for which no more dnodes come: all before that of object `number`, but the first, whose tables
    /// are known last.
    pub(super) fn close(&mut self, objects: &Objects, store: &mut Store, number: u64) -> Result<()> {
        while let Some((block, _)) = self.open.range(1..(number / DNODES_PER_BLOCK).max(1)).next() {
            let block = *block;
            self.write(objects, store, block)?;
        }
        Ok(())
    }

    fn write(&mut self, objects: &Objects, store: &mut Store, number: u64) -> Result<()> {
        let Some((block, count)) = self.open.remove(&number) else { return Ok(()) };
        let about = About { kind: kind::DNODE, level: 0, fill: count, birth: objects.birth };
        let pointer = store.write(about, objects.manner, block.as_slice())?;
        self.closed.insert(number, pointer);
        Ok(())
    }

    /// Writes the rest. The dnode of all dnodes.
    pub(super) fn finish(mut self, objects: &mut Objects, store: &mut Store) -> Result<[u8; DNODE]> {
        for block in self.open.keys().copied().collect::<Vec<_>>() {
            self.write(objects, store, block)?;
        }
        let object = Object::plain(kind::DNODE, DNODE_BLOCK);
        let mut tree = objects.tree(&object);
        let blocks = self.closed.last_key_value().map_or(0, |(last, _)| last + 1);
        for block in 0..blocks {
            let pointer = self.closed.get(&block).copied().unwrap_or(Pointer::HOLE);
            tree.push(store, objects.manner, pointer)?;
        }
        Ok(objects.end(store, &object, tree, None)?.dnode)
    }

    /// The blocks that were not written, with the number of dnodes in each, for a set whose dnodes have places before they
    /// have contents.
    pub(super) fn into_blocks(self) -> Vec<(DnodeBlock, u64)> {
        let blocks = self.open.last_key_value().map_or(0, |(last, _)| last + 1);
        let mut open = self.open;
        (0..blocks)
            .map(|block| open.remove(&block).unwrap_or_else(|| (Box::new([0; usize_of(DNODE_BLOCK)]), 0)))
            .collect()
    }
}

/// The dnode of an object whose one block has a place already, or that has none.
pub(super) fn dnode_of(object: &Object<'_>, pointer: Option<Pointer>) -> Result<[u8; DNODE]> {
    let sums = pointer.map_or_else(Sums::default, |pointer| pointer.sums);
    let pointers: Vec<Pointer> = pointer.into_iter().collect();
    let count = u64_of(pointers.len());
    dnode(object, &Top { pointers, levels: 1, count, sums }, None)
}

/// The dnode of objects of several levels whose blocks have places already.
pub(super) fn dnode_over(
    object: &Object<'_>,
    pointers: Vec<Pointer>,
    (levels, count): (usize, u64),
    sums: Sums,
) -> Result<[u8; DNODE]> {
    dnode(object, &Top { pointers, levels: narrow(levels, "the levels of an object")?, count, sums }, None)
}

/// Bytes of an object set.
pub(super) const OBJECT_SET: u64 = u64_of(format::ObjectSet::LENGTH);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::error::Kind;
    use crate::filesystem::zfs::checksum::Checksum;

    const MANNER: Manner = Manner { copies: 1, checksum: Checksum::Fletcher4 };

    /// A pointer to data that is nowhere.
    fn pointer() -> Pointer {
        let sums = Sums { allocated: 4096, physical: 4096, logical: 131_072 };
        Pointer { sums, fill: 1, bytes: [7; POINTER] }
    }

    /// The head of a file with data in `data` of `count` blocks.
    fn file(count: u64, data: impl Fn(u64) -> bool) -> (Dnode, Sums) {
        let mut store = Store::small();
        let mut objects = Objects::new(MANNER, 4, 1);
        let object = Object::plain(kind::FILE, 131_072).with_bonus(kind::ATTRIBUTES, &[1; 168]);
        let mut tree = objects.tree(&object);
        for block in 0..count {
            let pointer = if data(block) { pointer() } else { Pointer::HOLE };
            tree.push(&mut store, MANNER, pointer).unwrap();
        }
        let made = objects.end(&mut store, &object, tree, None).unwrap();
        assert_eq!(made.dnode[64 + 128..][..168], [1; 168]);
        (Dnode::read(&made.dnode).unwrap(), objects.sums)
    }

    #[test]
    fn objects_are_as_deep_as_they_need_to_be() {
        for (count, levels, indirect) in
            [(0, 1, 0), (1, 1, 0), (2, 2, 1), (1024, 2, 1), (1025, 3, 3), (3000, 3, 4)]
        {
            let (dnode, sums) = file(count, |_| true);
            assert_eq!((dnode.dn_nlevels, dnode.dn_maxblkid), (levels, count.saturating_sub(1)), "{count}");
            // Indirect blocks of equal pointers compress to one allocation.
            assert_eq!(dnode.dn_used, (count + indirect) * 4096, "{count}");
            assert_eq!(dnode.dn_used, sums.allocated);
            assert_eq!(sums.logical - count * 131_072, indirect * 4096);
        }
    }

    #[test]
    fn holes_take_nothing_at_any_depth() {
        let (dnode, sums) = file(1024 * 1024 + 1, |block| block == 1024 * 1024);
        assert_eq!((dnode.dn_nlevels, dnode.dn_maxblkid), (4, 1024 * 1024));
        // The data, and a block of each of three levels.
        assert_eq!((dnode.dn_used, sums.physical), (4 * 4096, 4 * 4096));
        let (dnode, _) = file(5000, |_| false);
        assert_eq!((dnode.dn_nlevels, dnode.dn_used), (3, 0));
    }

    proptest! {
        /// Of any length, up to 2^63 bytes in records of 512: as deep as they need to be, and the blocks that lead to data.
        #[test]
        fn files_that_are_never_written_are_as_deep_as_they_need_to_be(
            bits in 1_u32..54,
            low in any::<u64>(),
            places in prop::collection::vec(any::<u64>(), 0..6),
            shift in 14_u8..=17,
            pointers in prop::sample::select(vec![1_u8, 3]),
        ) {
            let count = (1 << bits | low & ((1 << bits) - 1)).max(1);
            let data: BTreeSet<u64> = places.into_iter().map(|place| place % count).collect();
            let mut store = Store::small();
            let mut objects = Objects::new(MANNER, 4, 1);
            let object = Object { pointers, indirect_shift: shift, ..Object::plain(kind::FILE, 512) };
            let mut tree = objects.tree(&object);
            let mut next = 0;
            for place in &data {
                tree.push_holes(&mut store, MANNER, place - next).unwrap();
                tree.push(&mut store, MANNER, pointer()).unwrap();
                next = place + 1;
            }
            tree.push_holes(&mut store, MANNER, count - next).unwrap();
            let made = objects.end(&mut store, &object, tree, None).unwrap();
            let head = Dnode::read(&made.dnode).unwrap();
            let fan = u32::from(shift) - 7;
            let above = |level: u32, block: u64| block.checked_shr(fan * level).unwrap_or(0);
            let levels = (1..).find(|levels| above(levels - 1, count - 1) < u64::from(pointers)).unwrap();
            prop_assert_eq!((u32::from(head.dn_nlevels), head.dn_maxblkid), (levels, count - 1));
            let leading: usize =
                (1..levels).map(|level| data.iter().map(|block| above(level, *block)).collect::<BTreeSet<_>>().len()).sum();
            prop_assert_eq!(head.dn_used, 4096 * u64_of(data.len() + leading));
            prop_assert_eq!(head.dn_used, objects.sums.allocated);
        }
    }

    #[test]
    fn an_object_that_lost_its_blocks_is_a_bug_and_not_empty() {
        let mut store = Store::small();
        let objects = Objects::new(MANNER, 4, 1);
        let tree = || objects.tree(&Object::plain(kind::FILE, 131_072));
        assert_eq!(tree().finish(&mut store, MANNER, 1).unwrap().count, 0);
        let mut poisoned = tree();
        poisoned.push(&mut store, MANNER, pointer()).unwrap();
        poisoned.levels.clear();
        let error = poisoned.finish(&mut store, MANNER, 1).unwrap_err();
        assert_eq!((error.kind(), error.what()), (Kind::Bug, "the blocks of an object are lost"));
    }

    #[test]
    fn dnodes_go_out_block_by_block_and_the_first_last() {
        let mut store = Store::small();
        let mut objects = Objects::new(MANNER, 4, 1);
        let mut dnodes = Dnodes::default();
        for number in (6..100).chain([1, 2]) {
            dnodes.put(number, &[1; DNODE]);
            dnodes.close(&objects, &mut store, number).unwrap();
            assert!(dnodes.open.len() <= 2);
        }
        assert_eq!(dnodes.count(), 96);
        let head = Dnode::read(&dnodes.finish(&mut objects, &mut store).unwrap()).unwrap();
        assert_eq!((head.dn_type, head.dn_maxblkid, head.dn_nlevels), (10, 3, 2));
    }
}
