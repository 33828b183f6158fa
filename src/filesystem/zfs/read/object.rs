//! Objects: their dnodes, and the blocks that these lead to.

use std::sync::Arc;

use super::super::format::{
    DNODE, DNODE_BLOCK, DNODE_SPILL, DNODES_PER_BLOCK, Dnode, ObjectSet, POINTER, SECTOR, kind,
};
use super::block::{Blocks, Pointer, pointers};
use crate::error::{Error, Result};
use crate::filesystem::device::damaged;
use crate::units::{u64_of, usize_of};
use crate::wire::Wire;

/// The most levels of an object with blocks of 512 bytes and indirect blocks of 4 KiB (dnode.h, DN_MAX_LEVELS, rounded up).
const MOST_LEVELS: u8 = 12;
/// log2 of the bytes of an indirect block (dnode.h, DN_MIN_INDBLKSHIFT; DN_MAX_INDBLKSHIFT).
const INDIRECT: std::ops::RangeInclusive<u8> = 12..=17;

/// An object as its dnode has it.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) head: Dnode,
    pub(super) pointers: Vec<Pointer>,
    pub(super) bonus: Vec<u8>,
    pub(super) spill: Option<Pointer>,
    /// Where its dnode lies: the sector of its block, and which one it is there.
    pub(super) place: u64,
}

impl Object {
    /// The object whose dnode is in `bytes`; `None` where no object is.
    pub(super) fn read(bytes: &[u8], place: u64) -> Result<Option<Self>> {
        let head = Dnode::read(bytes)?;
        if head.dn_type == 0 {
            return Ok(None);
        }
        let wrong = |what: &str| damaged(format!("a dnode is wrong: {what}"));
        let shift = head.dn_indblkshift;
        if !(1..=MOST_LEVELS).contains(&head.dn_nlevels) || !INDIRECT.contains(&shift) {
            return Err(wrong("it has levels that cannot be")
                .found(format!("{} levels, indirect blocks of 2^{shift} bytes", head.dn_nlevels)));
        }
        if !(1..=3).contains(&head.dn_nblkptr) || head.dn_datablkszsec == 0 {
            return Err(wrong("it has no pointers, or too many, or blocks without length"));
        }
        let length = DNODE * (1 + usize::from(head.dn_extra_slots));
        let own = bytes.get(..length).ok_or_else(|| wrong("it is longer than its block"))?;
        let spills = head.dn_flags & DNODE_SPILL != 0;
        let end = if spills { length - POINTER } else { length };
        let bonus = Dnode::LENGTH + POINTER * usize::from(head.dn_nblkptr);
        let own_bonus =
            own.get(bonus..bonus + usize::from(head.dn_bonuslen)).filter(|own| bonus + own.len() <= end);
        let own_bonus = own_bonus.ok_or_else(|| wrong("its bonus is longer than its place"))?.to_vec();
        let pointers = pointers(&own[Dnode::LENGTH..bonus]).collect::<Result<_>>()?;
        let spill = if spills { Some(Pointer::read(&own[end..])?) } else { None };
        Ok(Some(Self { head, pointers, bonus: own_bonus, spill, place }))
    }

    /// Bytes of a data block.
    pub(super) fn block(&self) -> u64 {
        u64::from(self.head.dn_datablkszsec) * SECTOR
    }

    /// The structure in its bonus, which is of a type.
    ///
    /// # Errors
    /// [`Kind::Format`](crate::error::Kind::Format) where its bonus is another one.
    pub(super) fn bonus<T: Wire>(&self, kind: u8) -> Result<T> {
        if self.head.dn_bonustype != kind {
            return Err(damaged("an object is not what leads to it says")
                .expected(format!("a bonus of type {kind}"))
                .found(self.head.dn_bonustype));
        }
        T::read(&self.bonus)
    }

    /// log2 of the pointers of an indirect block.
    fn fan(&self) -> u32 {
        u32::from(self.head.dn_indblkshift) - POINTER.trailing_zeros()
    }

    /// How many data blocks are below a pointer of a level: 2 to this.
    fn below(&self, level: u8) -> u32 {
        u32::from(level) * self.fan()
    }
}

/// What is visited of an object: a pointer that is no hole, and the number of the first data block below it.
#[derive(Debug)]
pub(super) struct Visited<'a> {
    pub(super) pointer: &'a Pointer,
    pub(super) level: u8,
    pub(super) first: u64,
}

/// Whether what is below a pointer is visited too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Go {
    Down,
    Past,
}

impl Blocks {
    /// The block of a pointer that was met at a level of an object.
    fn checked(&self, object: &Object, pointer: &Pointer, level: u8) -> Result<Arc<Vec<u8>>> {
        let own = object.head.dn_type;
        if pointer.level() != level || pointer.kind() != own {
            return Err(damaged("a pointer is another one than its object has there")
                .expected(format!("type {own}, level {level}"))
                .found(format!("type {}, level {}", pointer.kind(), pointer.level())));
        }
        let bytes = self.read(pointer)?;
        let expected = if level == 0 { object.block() } else { 1 << object.head.dn_indblkshift };
        if u64_of(bytes.len()) != expected {
            return Err(damaged("a block has another length than its object's blocks have")
                .expected(expected)
                .found(bytes.len()));
        }
        Ok(bytes)
    }

    /// The pointer to data block `number` of an object; `None` for a hole.
    pub(super) fn pointer(&self, object: &Object, number: u64) -> Result<Option<Pointer>> {
        let top = object.head.dn_nlevels - 1;
        let first = number.checked_shr(object.below(top)).unwrap_or(0);
        let found = usize::try_from(first).ok().and_then(|first| object.pointers.get(first));
        let mut pointer = found.cloned().ok_or_else(|| behind(number))?;
        for level in (1..=top).rev() {
            if pointer.is_hole() {
                return Ok(None);
            }
            let bytes = self.checked(object, &pointer, level)?;
            let at = number.checked_shr(object.below(level - 1)).unwrap_or(0) & ((1 << object.fan()) - 1);
            let at = usize_of(at) * POINTER;
            pointer = Pointer::read(bytes.get(at..).ok_or_else(|| behind(number))?)?;
        }
        Ok(Some(pointer).filter(|pointer| !pointer.is_hole()))
    }

    /// Data block `number` of an object; `None` for a hole.
    pub(super) fn data(&self, object: &Object, number: u64) -> Result<Option<Arc<Vec<u8>>>> {
        match self.pointer(object, number)? {
            None => Ok(None),
            Some(pointer) => self.checked(object, &pointer, 0).map(Some),
        }
    }

    /// Data block `number` of an object, which may not be a hole.
    pub(super) fn present(&self, object: &Object, number: u64) -> Result<Arc<Vec<u8>>> {
        self.data(object, number)?
            .ok_or_else(|| damaged("a block that must be there is a hole").found(format!("block {number}")))
    }

    /// Visits the pointers of an object that are no holes, each before those below it, ascending. Indirect blocks may take
    /// `left` bytes, since no two pointers of an object lead to the same one.
    pub(super) fn visit(
        &self,
        object: &Object,
        left: &mut u64,
        each: &mut dyn FnMut(Visited<'_>) -> Result<Go>,
    ) -> Result<()> {
        let level = object.head.dn_nlevels - 1;
        for (number, pointer) in (0_u64..).zip(&object.pointers) {
            let first = number.checked_shl(object.below(level)).unwrap_or(0);
            self.descend(object, (pointer, level, first), left, each)?;
        }
        Ok(())
    }

    fn descend(
        &self,
        object: &Object,
        (pointer, level, first): (&Pointer, u8, u64),
        left: &mut u64,
        each: &mut dyn FnMut(Visited<'_>) -> Result<Go>,
    ) -> Result<()> {
        if pointer.is_hole() || each(Visited { pointer, level, first })? == Go::Past || level == 0 {
            return Ok(());
        }
        // An embedded one is inside of something that was counted.
        let taken = pointer.copies().next().map_or(1, |copy| copy.allocated.max(SECTOR));
        *left = left.checked_sub(taken).ok_or_else(|| damaged("indirect blocks lead to the same blocks"))?;
        let bytes = self.checked(object, pointer, level)?;
        let below = level - 1;
        for (number, pointer) in (0_u64..).zip(pointers(&bytes)) {
            let step = number.checked_shl(object.below(below)).unwrap_or(0);
            self.descend(object, (&pointer?, below, first.saturating_add(step)), left, each)?;
        }
        Ok(())
    }
}

fn behind(number: u64) -> Error {
    damaged("an object has no such block").found(format!("block {number}"))
}

/// A set of objects.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) head: ObjectSet,
    meta: Object,
}

impl Set {
    /// The set that a pointer leads to.
    pub(super) fn read(blocks: &Blocks, root: &Pointer) -> Result<Self> {
        if root.is_hole() || root.kind() != kind::OBJSET || root.level() != 0 {
            return Err(damaged("a set of objects is none").found(root.shown()));
        }
        let mut bytes = blocks.read(root)?.to_vec();
        // Older sets end before the accounts (dmu_objset.h, OBJSET_PHYS_SIZE_V1).
        if bytes.len() < 1024 {
            return Err(damaged("a set of objects is too short").found(bytes.len()));
        }
        bytes.resize(ObjectSet::LENGTH, 0);
        let head = ObjectSet::read(&bytes)?;
        let meta = Object::read(&head.os_meta_dnode, 0)?.filter(|meta| meta.head.dn_type == kind::DNODE);
        let meta = meta.filter(|meta| meta.block() == DNODE_BLOCK);
        let meta = meta.ok_or_else(|| damaged("a set of objects has no objects"))?;
        Ok(Self { head, meta })
    }

    /// The object of all dnodes.
    pub(super) const fn meta(&self) -> &Object {
        &self.meta
    }

    /// Object `number`.
    ///
    /// # Errors
    /// [`Kind::Format`](crate::error::Kind::Format) where there is none.
    pub(super) fn object(&self, blocks: &Blocks, number: u64) -> Result<Object> {
        let absent =
            || damaged("something leads to an object that does not exist").found(format!("object {number}"));
        let block = number / DNODES_PER_BLOCK;
        if block > self.meta.head.dn_maxblkid {
            return Err(absent());
        }
        let pointer = blocks.pointer(&self.meta, block)?.ok_or_else(absent)?;
        let bytes = blocks.checked(&self.meta, &pointer, 0)?;
        let slot = number % DNODES_PER_BLOCK;
        let place = place(&pointer, slot);
        Object::read(&bytes[usize_of(slot) * DNODE..], place)?.ok_or_else(absent)
    }
}

/// Where a dnode lies.
fn place(pointer: &Pointer, slot: u64) -> u64 {
    pointer.place().unwrap_or_default().wrapping_mul(DNODES_PER_BLOCK) + slot
}

/// The objects in a block of dnodes, with their numbers.
pub(super) fn objects(bytes: &[u8], first: u64, pointer: &Pointer) -> Vec<(u64, Result<Object>)> {
    let (mut found, mut slot) = (Vec::new(), 0);
    while slot < DNODES_PER_BLOCK {
        let object = bytes
            .get(usize_of(slot) * DNODE..)
            .map_or_else(|| Err(behind(first)), |own| Object::read(own, place(pointer, slot)));
        let number = first + slot;
        slot += 1;
        match object {
            Ok(None) => {}
            Ok(Some(object)) => {
                slot += u64::from(object.head.dn_extra_slots);
                found.push((number, Ok(object)));
            }
            Err(error) => found.push((number, Err(error))),
        }
    }
    found
}
