//! Grows an ext filesystem that is not mounted, as resize2fs does (e2fsprogs, resize/resize2fs.c): groups are added at its
//! end, and no block that a file has moves.
//!
//! More descriptors lie in the blocks that the resize inode kept for them. Where these run out, the new groups keep their
//! own descriptors (meta_bg), as the kernel does when it grows a mounted filesystem (linux/fs/ext4/resize.c).

mod groups;
mod place;
mod resize_inode;
mod target;

use std::collections::BTreeMap;

use super::format::features::{compat, incompat, ro_compat};
use super::format::{GROUP_BLOCK_UNINIT, GroupDescriptor, Superblock};
use super::read::{Ext4, Layout, STATE_CLEAN, STATE_ERRORS, open_as_it_is};
use crate::error::{Error, Kind, Result, Warning};
use crate::filesystem::device::damaged;
use crate::image::{Patch, Slice};
use crate::units::{Bytes, half_hi, half_hi16, half_lo, half_lo16, joined, narrow, u64_of, usize_of};
use crate::wire::{Field, Wire, field};

/// What a filesystem becomes.
#[derive(Debug)]
pub(crate) struct Growth {
    /// Its length before and after.
    pub(crate) from: Bytes,
    pub(crate) to: Bytes,
    /// The bytes that change.
    pub(crate) patch: Patch,
    /// What its owner should know.
    pub(crate) notes: Vec<Warning>,
}

/// How much behind the end of a filesystem must be zero at the start and at the end of what it grows over.
const LOOKED_AT: u64 = 64 << 10;
const CHECKSUM: Field = field(GroupDescriptor::FIELDS, "bg_checksum");
const OWN_CHECKSUM: Field = field(Superblock::FIELDS, "s_checksum");

/// The changes that make the filesystem in `slice` as long as `length` allows. The slice ends where its partition ends now.
///
/// # Errors
/// [`Kind::Usage`] for a filesystem that has to be mounted or checked first, or that only the kernel grows; [`Kind::Format`]
/// for a damaged one. Nothing is changed then.
pub(crate) fn grow(slice: &Slice, length: Bytes) -> Result<Growth> {
    let none = || Error::new(Kind::Format, "there is no ext2, ext3 or ext4 filesystem");
    let volume = open_as_it_is(slice)?.ok_or_else(none)?;
    refuse(&volume)?;
    let old = &volume.layout;
    let from = Bytes::new(old.blocks * old.block);
    let target = target::of(old, length)?;
    if target.layout.blocks <= old.blocks {
        return Ok(Growth { from, to: from, patch: Patch::default(), notes: target.notes });
    }
    nothing_behind(slice, from)?;
    let to = Bytes::new(target.layout.blocks * old.block);
    let mut work = Work::new(&volume, target.layout)?;
    work.patch.zero(from, to);
    work.lengthen_last_group()?;
    work.move_backup()?;
    work.resize_inode()?;
    work.add_groups()?;
    work.write()?;
    Ok(Growth { from, to, patch: work.patch, notes: target.notes })
}

/// Refuses what has to be mended or finished first, and what is not grown here.
fn refuse(volume: &Ext4) -> Result<()> {
    let superblock = &volume.layout.superblock;
    let has = |word: u32, bit: u32| word & bit != 0;
    let state = superblock.s_state;
    let unclean = "the ext4 filesystem was not unmounted or has errors";
    let first = if volume.layout.incompatible(incompat::RECOVER) {
        Some("its journal has to be replayed")
    } else if state & STATE_ERRORS != 0 {
        Some("errors were found in it")
    } else if state & STATE_CLEAN == 0 {
        Some("it is not marked as clean")
    } else if superblock.s_last_orphan != 0 || volume.layout.ro_compatible(ro_compat::ORPHAN_PRESENT) {
        Some("files that were deleted while they were open are not freed")
    } else {
        None
    };
    if let Some(why) = first {
        return Err(Error::new(Kind::Usage, unclean).why(why).hint("run `e2fsck -f` on it first"));
    }
    let kernel = "the ext4 filesystem is not grown offline";
    let only = |why: &str| {
        Err(Error::new(Kind::Usage, kernel).why(why).hint("the system that mounts it can grow it"))
    };
    if volume.layout.cluster > 1 {
        return only("it has bigalloc");
    }
    if volume.layout.incompatible(incompat::MMP) {
        return only("it has mmp, so another machine may use it");
    }
    if volume.layout.incompatible(incompat::META_BG) {
        let all = volume.layout.groups.div_ceil(volume.layout.descriptors_per_block());
        if u64::from(superblock.s_first_meta_bg) > all
            || has(superblock.s_feature_compat, compat::RESIZE_INODE)
        {
            return Err(damaged("the superblock of an ext4 filesystem is wrong: s_first_meta_bg")
                .found(superblock.s_first_meta_bg));
        }
    }
    Ok(())
}

/// Refuses to grow over data that follows the filesystem in its partition: hashes of dm-verity, or what a RAID keeps at the end.
fn nothing_behind(slice: &Slice, from: Bytes) -> Result<()> {
    let end = slice.length();
    for (start, end) in [
        (from, end.min(from + Bytes::new(LOOKED_AT))),
        (end.saturating_sub(Bytes::new(LOOKED_AT)).max(from), end),
    ] {
        let bytes = slice.bytes(start.get(), usize_of(end.saturating_sub(start).get()))?;
        if let Some(at) = bytes.iter().position(|byte| *byte != 0) {
            return Err(Error::new(Kind::Usage, "something follows the ext4 filesystem in its partition")
                .found(format!("data at byte {} of the partition", start.get() + u64_of(at)))
                .why("growing the filesystem would overwrite it"));
        }
    }
    Ok(())
}

/// A filesystem that grows.
struct Work<'a> {
    volume: &'a Ext4,
    old: &'a Layout,
    new: Layout,
    /// All descriptors of the grown filesystem.
    descriptors: Vec<u8>,
    /// Block bitmaps of old groups that change.
    bitmaps: BTreeMap<u64, Vec<u8>>,
    patch: Patch,
}

/// Puts the fields of a structure over bytes, whose other bytes stay.
fn put_fields<W: Wire>(value: &W, out: &mut [u8]) {
    let bytes = value.bytes();
    let length = out.len();
    for field in W::FIELDS.iter().filter(|field| field.end() <= length) {
        out[field.offset..field.end()].copy_from_slice(&bytes.as_ref()[field.offset..field.end()]);
    }
}

impl<'a> Work<'a> {
    /// Reads the descriptors.
    fn new(volume: &'a Ext4, new: Layout) -> Result<Self> {
        let old = &volume.layout;
        let mut descriptors = Vec::with_capacity(usize_of(new.groups * new.descriptor));
        for number in 0..old.groups {
            let group = volume.group(number)?;
            if old.descriptor_checksum(number, &group.bytes)?.is_some_and(|sum| sum != group.raw.bg_checksum)
            {
                return Err(
                    damaged("the checksum of a group descriptor is wrong").found(format!("group {number}"))
                );
            }
            descriptors.extend(group.bytes);
        }
        let each = new.descriptors_per_block();
        descriptors.resize(usize_of(new.groups.div_ceil(each) * new.block), 0);
        Ok(Self { volume, old, new, descriptors, bitmaps: BTreeMap::new(), patch: Patch::default() })
    }

    /// The offset of a block.
    fn at(&self, block: u64) -> Bytes {
        Bytes::new(block * self.new.block)
    }

    /// Changes a descriptor, and its checksum.
    fn describe(
        &mut self,
        group: u64,
        change: impl FnOnce(&mut GroupDescriptor) -> Result<()>,
    ) -> Result<()> {
        let length = usize_of(self.new.descriptor);
        let start = usize_of(group) * length;
        let out = self.descriptors.get_mut(start..start + length);
        let out = out.ok_or_else(|| Error::bug(format!("group {group} has no descriptor")))?;
        let mut whole = out.to_vec();
        whole.resize(length.max(GroupDescriptor::LENGTH), 0);
        let mut descriptor = GroupDescriptor::read(&whole)?;
        change(&mut descriptor)?;
        put_fields(&descriptor, out);
        if let Some(sum) = self.new.descriptor_checksum(group, out)? {
            out[CHECKSUM.offset..CHECKSUM.end()].copy_from_slice(&sum.to_le_bytes());
        }
        Ok(())
    }

    /// Changes bits of the block bitmap of an old group: `range` counts blocks of the group.
    fn mark(&mut self, number: u64, range: std::ops::Range<u64>, used: bool) -> Result<()> {
        if !self.bitmaps.contains_key(&number) {
            let bitmap = self.read_bitmap(number)?;
            self.bitmaps.insert(number, bitmap);
        }
        let missing = || Error::bug(format!("group {number} has no bitmap"));
        let bitmap = self.bitmaps.get_mut(&number).ok_or_else(missing)?;
        set_bits(bitmap, range, used)
    }

    /// The block bitmap of an old group. One that was never written becomes what the kernel would write.
    fn read_bitmap(&self, number: u64) -> Result<Vec<u8>> {
        let group = self.volume.group(number)?;
        let mut bitmap = self.volume.block_bitmap(number, &group)?;
        if let Some(seed) = self.old.seed
            && group.raw.bg_flags & GROUP_BLOCK_UNINIT == 0
        {
            let found = seed.with(self.summed(&bitmap)).value();
            let (low, high) = (group.raw.bg_block_bitmap_csum_lo, group.raw.bg_block_bitmap_csum_hi);
            if half_lo16(found) != low || (self.old.descriptor > 32 && half_hi16(found) != high) {
                return Err(
                    damaged("the checksum of a block bitmap is wrong").found(format!("group {number}"))
                );
            }
        }
        let end = self.old.group_end(number) - self.old.group_start(number);
        set_bits(&mut bitmap, end..self.old.block * 8, true)?;
        Ok(bitmap)
    }

    /// The part of a block bitmap that its checksum covers.
    fn summed<'b>(&self, bitmap: &'b [u8]) -> &'b [u8] {
        let covered = usize_of(self.new.blocks_per_group / 8);
        &bitmap[..covered.min(bitmap.len())]
    }

    /// The group that was the last one gets the blocks that it has space for.
    fn lengthen_last_group(&mut self) -> Result<()> {
        let last = self.old.groups - 1;
        let start = self.old.group_start(last);
        let (from, to) = (self.old.group_end(last) - start, self.new.group_end(last) - start);
        if from < to { self.mark(last, from..to, false) } else { Ok(()) }
    }

    /// With sparse_super2 the second backup is in the last group, and follows it.
    fn move_backup(&mut self) -> Result<()> {
        let last = self.old.groups - 1;
        if last == 0 || !self.old.has_superblock(last) || self.new.has_superblock(last) {
            return Ok(());
        }
        let length = 1 + self.old.descriptor_blocks() + u64::from(self.old.superblock.s_reserved_gdt_blocks);
        self.mark(last, 0..length, false)?;
        let start = self.old.group_start(last);
        self.patch.zero(self.at(start), self.at(start + length));
        Ok(())
    }

    /// Writes descriptors, changed bitmaps and superblocks to all of their places.
    fn write(&mut self) -> Result<()> {
        for (number, bitmap) in std::mem::take(&mut self.bitmaps) {
            self.put_bitmap(number, bitmap)?;
        }
        let (mut free, each) = (0, usize_of(self.new.descriptor));
        for group in 0..self.new.groups {
            let bytes = &self.descriptors[usize_of(group) * each..];
            let mut whole = bytes[..each].to_vec();
            whole.resize(each.max(GroupDescriptor::LENGTH), 0);
            let own = GroupDescriptor::read(&whole)?;
            free += u64::from(own.bg_free_blocks_count_hi) << 16 | u64::from(own.bg_free_blocks_count_lo);
        }
        self.put_descriptors();
        self.put_superblocks(free)
    }

    /// Writes the block bitmap of a group, and what its descriptor tells of it.
    fn put_bitmap(&mut self, number: u64, bitmap: Vec<u8>) -> Result<()> {
        let blocks = self.new.group_end(number) - self.new.group_start(number);
        let used: u64 = bitmap.iter().map(|byte| u64::from(byte.count_ones())).sum();
        // The bits after the last block are set.
        let free: u32 = narrow(self.new.block * 8 - used, "free blocks of a group")?;
        if u64::from(free) > blocks {
            return Err(damaged("a block bitmap is not padded").found(format!("group {number}")));
        }
        let sum = self.new.seed.map_or(0, |seed| seed.with(self.summed(&bitmap)).value());
        let mut place = 0;
        self.describe(number, |own| {
            place = joined(own.bg_block_bitmap_lo, own.bg_block_bitmap_hi);
            own.bg_free_blocks_count_lo = half_lo16(free);
            own.bg_free_blocks_count_hi = half_hi16(free);
            own.bg_flags &= !GROUP_BLOCK_UNINIT;
            own.bg_block_bitmap_csum_lo = half_lo16(sum);
            own.bg_block_bitmap_csum_hi = half_hi16(sum);
            Ok(())
        })?;
        self.patch.put(self.at(place), format!("ext4: block bitmap of group {number}"), bitmap);
        Ok(())
    }

    /// Writes the descriptors behind each superblock, and with meta_bg those of later groups into their own groups.
    fn put_descriptors(&mut self) {
        let (each, block) = (self.new.descriptors_per_block(), usize_of(self.new.block));
        let common = usize_of(self.new.descriptor_blocks()) * block;
        let first: std::sync::Arc<[u8]> = self.descriptors[..common].into();
        for group in 0..self.new.groups {
            let start = self.new.group_start(group);
            if self.new.has_meta_descriptors(group) {
                let number = group / each;
                let own = self.new.descriptor_block(number);
                let place = if group.is_multiple_of(each) {
                    own
                } else {
                    start + u64::from(self.new.has_superblock(group))
                };
                let bytes = &self.descriptors[usize_of(number) * block..][..block];
                self.patch.put(
                    self.at(place),
                    format!("ext4: descriptors of a meta group, in group {group}"),
                    bytes,
                );
            } else if self.new.has_superblock(group) && self.new.common_blocks(group) > 0 && !first.is_empty()
            {
                let own = if group == 0 { self.new.superblock_block() } else { start };
                self.patch.put(
                    self.at(own + 1),
                    format!("ext4: group descriptors in group {group}"),
                    first.clone(),
                );
            }
        }
    }

    /// Writes the superblock and its copies, with `free` free blocks.
    fn put_superblocks(&mut self, free: u64) -> Result<()> {
        let (old, new) = (self.old, &self.new);
        let mut superblock = new.superblock.clone();
        let added: u32 = narrow((new.groups - old.groups) * u64::from(new.inodes_per_group), "new inodes")?;
        let kept = joined(superblock.s_r_blocks_count_lo, superblock.s_r_blocks_count_hi);
        let share = u128::from(kept) * u128::from(new.blocks) / u128::from(old.blocks);
        let share: u64 = narrow(share, "s_r_blocks_count")?;
        superblock.s_inodes_count += added;
        superblock.s_free_inodes_count = superblock.s_free_inodes_count.saturating_add(added);
        superblock.s_blocks_count_lo = half_lo(new.blocks);
        superblock.s_blocks_count_hi = half_hi(new.blocks);
        superblock.s_free_blocks_count_lo = half_lo(free);
        superblock.s_free_blocks_count_hi = half_hi(free);
        superblock.s_r_blocks_count_lo = half_lo(share);
        superblock.s_r_blocks_count_hi = half_hi(share);
        superblock.s_overhead_clusters = 0; // the kernel counts anew
        let present = self.volume.superblock_bytes()?;
        let mut puts = Vec::new();
        for group in (0..new.groups).filter(|group| new.has_superblock(*group)) {
            superblock.s_block_group_nr = half_lo16(narrow(group, "a group's number")?);
            let mut bytes = present.clone();
            put_fields(&superblock, &mut bytes);
            if new.seed.is_some() {
                let sum = super::checksum::Checksum::START.with(&bytes[..OWN_CHECKSUM.offset]).value();
                bytes[OWN_CHECKSUM.offset..OWN_CHECKSUM.end()].copy_from_slice(&sum.to_le_bytes());
            }
            let place = if group == 0 {
                Bytes::new(super::read::SUPERBLOCK_AT)
            } else {
                self.at(new.group_start(group))
            };
            puts.push((place, format!("ext4: superblock in group {group}"), bytes));
        }
        puts.into_iter().for_each(|(place, label, bytes)| self.patch.put(place, label, bytes));
        Ok(())
    }
}

/// Sets or clears bits of a bitmap.
fn set_bits(bitmap: &mut [u8], range: std::ops::Range<u64>, used: bool) -> Result<()> {
    for bit in range {
        let byte =
            bitmap.get_mut(usize_of(bit / 8)).ok_or_else(|| Error::bug("a bit is not in its bitmap"))?;
        let mask = 1 << (bit % 8);
        *byte = if used { *byte | mask } else { *byte & !mask };
    }
    Ok(())
}

/// A pointer of a block of pointers.
fn pointer(block: &[u8], slot: u64) -> Option<u64> {
    let at = usize_of(slot) * 4;
    let bytes = block.get(at..at + 4)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes).into())
}
