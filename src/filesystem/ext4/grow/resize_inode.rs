//! The resize inode, which keeps blocks for more descriptors (e2fsprogs, lib/ext2fs/res_gdt.c).

use super::{Work, pointer};
use crate::error::Result;
use crate::filesystem::device::damaged;
use crate::filesystem::ext4::format::features::compat;
use crate::filesystem::ext4::format::{Inode, RESIZE};
use crate::filesystem::ext4::read::Layout;
use crate::units::{half_hi, half_lo, narrow, u64_of, usize_of};
use crate::wire::{Field, Wire, field};

const BLOCKS_LO: Field = field(Inode::FIELDS, "i_blocks_lo");
const BLOCKS_HI: Field = field(Inode::FIELDS, "l_i_blocks_high");
/// The place of the double-indirect pointer in i_block.
const DOUBLE: u64 = 13;

/// The groups with a copy of the superblock, without group 0, in their order.
fn backups(layout: &Layout) -> Vec<u64> {
    (1..layout.groups).filter(|group| layout.has_superblock(*group)).collect()
}

impl Work<'_> {
    /// The resize inode gives away the blocks that hold descriptors now, and lists the copies of the others in new groups.
    pub(super) fn resize_inode(&mut self) -> Result<()> {
        let had = |layout: &Layout| layout.superblock.s_feature_compat & compat::RESIZE_INODE != 0;
        if !had(self.old) {
            return Ok(());
        }
        let raw = self.volume.used(RESIZE.into())?;
        let wrong = |what: &str| {
            damaged("the resize inode of an ext4 filesystem is wrong")
                .found(what)
                .hint("run `e2fsck -f` on it first")
        };
        let double = pointer(&raw.inode.i_block, DOUBLE).filter(|block| *block > 0);
        let double = double.ok_or_else(|| wrong("no double-indirect block"))?;
        let slots = self.new.block / 4;
        let present = self.volume.block(double)?;
        let first = self.old.superblock_block() + 1;
        let kept = |layout: &Layout| {
            let from = layout.descriptor_blocks();
            from..from + u64::from(layout.superblock.s_reserved_gdt_blocks)
        };
        if kept(self.old).any(|number| pointer(&present, number % slots) != Some(first + number)) {
            return Err(wrong("another list of reserved blocks"));
        }
        if !had(&self.new) {
            return self.drop_resize_inode(raw.at, raw.bytes.len(), double);
        }
        let copies = backups(&self.new);
        if u64_of(copies.len()) > slots {
            return Err(wrong("more copies than a block lists"));
        }
        let mut doubles = Vec::new();
        for number in kept(&self.new) {
            doubles.push((number % slots, first + number));
            let place = |group: &u64| self.new.group_start(*group) + 1 + number;
            let list = self.pointers((0..).zip(copies.iter().map(place)))?;
            self.patch.put(
                self.at(first + number),
                format!("ext4: reserved descriptor block {number}"),
                list,
            );
        }
        let list = self.pointers(doubles.into_iter())?;
        self.patch.put(self.at(double), "ext4: double-indirect block of the resize inode", list);
        let reserved = u64::from(self.new.superblock.s_reserved_gdt_blocks);
        let sectors = (1 + reserved * (1 + u64_of(copies.len()))) * (self.new.block / 512);
        let mut bytes = raw.bytes.clone();
        bytes[BLOCKS_LO.offset..BLOCKS_LO.end()].copy_from_slice(&half_lo(sectors).to_le_bytes());
        let high: u16 = narrow(half_hi(sectors), "l_i_blocks_high")?;
        bytes[BLOCKS_HI.offset..BLOCKS_HI.end()].copy_from_slice(&high.to_le_bytes());
        raw.seal(self.new.seed, &mut bytes);
        self.patch.put(crate::units::Bytes::new(raw.at), "ext4: resize inode", bytes);
        Ok(())
    }

    /// A block of pointers, each at its slot.
    fn pointers(&self, slots: impl Iterator<Item = (u64, u64)>) -> Result<Vec<u8>> {
        let mut block = vec![0; usize_of(self.new.block)];
        for (slot, target) in slots {
            let target: u32 = narrow(target, "a pointer of the resize inode")?;
            let at = usize_of(slot) * 4;
            block[at..at + 4].copy_from_slice(&target.to_le_bytes());
        }
        Ok(block)
    }

    /// Without reserved blocks there is no resize inode: its bytes are zero, and its block is free.
    fn drop_resize_inode(&mut self, at: u64, length: usize, double: u64) -> Result<()> {
        self.patch.put(crate::units::Bytes::new(at), "ext4: no resize inode", vec![0; length]);
        self.patch.zero(self.at(double), self.at(double + 1));
        let within = double - self.old.first;
        let (group, block) = (within / self.old.blocks_per_group, within % self.old.blocks_per_group);
        self.mark(group, block..block + 1, false)
    }
}
