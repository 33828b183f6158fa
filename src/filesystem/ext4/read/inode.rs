//! Group descriptors and inodes as they are in their tables.

use super::Ext4;
use crate::error::Result;
use crate::filesystem::device::damaged;
use crate::filesystem::ext4::checksum::Checksum;
use crate::filesystem::ext4::format::features::{incompat, ro_compat};
use crate::filesystem::ext4::format::{GroupDescriptor, Inode, time_of};
use crate::filesystem::mode::{MODE_DIRECTORY, MODE_FILE, MODE_SYMLINK, MODE_TYPE};
use crate::tree::Time;
use crate::units::{half_hi16, half_lo16, joined, joined16, u64_of, usize_of};
use crate::wire::{Field, Wire, field};

/// Bytes of an inode in the first revision; a larger one continues with `i_extra_isize`.
const BASE: usize = 128;

const CHECKSUM_LO: Field = field(Inode::FIELDS, "l_i_checksum_lo");
const CHECKSUM_HI: Field = field(Inode::FIELDS, "i_checksum_hi");
const MTIME_EXTRA: Field = field(Inode::FIELDS, "i_mtime_extra");

/// i_flags.
pub(super) const FLAG_ENCRYPT: u32 = 0x800;
pub(super) const FLAG_INDEX: u32 = 0x1000;
const FLAG_HUGE_FILE: u32 = 0x4_0000;
pub(super) const FLAG_EXTENTS: u32 = 0x8_0000;
pub(super) const FLAG_VERITY: u32 = 0x10_0000;
pub(super) const FLAG_EA_INODE: u32 = 0x20_0000;
pub(super) const FLAG_INLINE_DATA: u32 = 0x1000_0000;
pub(super) const FLAG_CASEFOLD: u32 = 0x4000_0000;

/// The places of a group's own structures.
#[derive(Clone, Debug)]
pub(in crate::filesystem::ext4) struct Group {
    pub(super) block_bitmap: u64,
    pub(super) inode_bitmap: u64,
    pub(super) inode_table: u64,
    pub(in crate::filesystem::ext4) raw: GroupDescriptor,
    /// All bytes of the descriptor.
    pub(in crate::filesystem::ext4) bytes: Vec<u8>,
}

/// An inode as it is in its table.
#[derive(Clone, Debug)]
pub(in crate::filesystem::ext4) struct Raw {
    pub(super) number: u32,
    /// Its offset in the volume.
    pub(in crate::filesystem::ext4) at: u64,
    /// All of its bytes, including its attributes.
    pub(in crate::filesystem::ext4) bytes: Vec<u8>,
    pub(in crate::filesystem::ext4) inode: Inode,
    /// How many of the bytes after the first 128 are fields.
    pub(super) extra: usize,
}

impl Ext4 {
    /// The descriptor of a group.
    pub(in crate::filesystem::ext4) fn group(&self, number: u64) -> Result<Group> {
        let layout = &self.layout;
        let each = layout.descriptors_per_block();
        let block = layout.descriptor_block(number / each);
        let at = block * layout.block + number % each * layout.descriptor;
        let bytes = self.device.bytes(at, usize_of(layout.descriptor))?;
        let mut whole = bytes.clone();
        whole.resize(whole.len().max(GroupDescriptor::LENGTH), 0);
        let raw = GroupDescriptor::read(&whole)?;
        Ok(Group {
            block_bitmap: joined(raw.bg_block_bitmap_lo, raw.bg_block_bitmap_hi),
            inode_bitmap: joined(raw.bg_inode_bitmap_lo, raw.bg_inode_bitmap_hi),
            inode_table: joined(raw.bg_inode_table_lo, raw.bg_inode_table_hi),
            raw,
            bytes,
        })
    }

    /// The bytes of a block.
    pub(in crate::filesystem::ext4) fn block(&self, number: u64) -> Result<Vec<u8>> {
        let at = number.checked_mul(self.layout.block).filter(|_| number < self.layout.blocks);
        let at = at.ok_or_else(|| no_block(number, self.layout.blocks))?;
        self.device.bytes(at, usize_of(self.layout.block))
    }

    /// An inode of any kind, even if it is not in use.
    pub(super) fn raw(&self, number: u32) -> Result<Raw> {
        let layout = &self.layout;
        let before = number.checked_sub(1).filter(|before| *before < layout.inodes);
        let before = before.ok_or_else(|| {
            damaged("there is no such inode").expected(format!("1 to {}", layout.inodes)).found(number)
        })?;
        let group = self.group(u64::from(before / layout.inodes_per_group))?;
        self.raw_in(&group, number)
    }

    /// As [`Ext4::raw`], in the table of its group.
    pub(super) fn raw_in(&self, group: &Group, number: u32) -> Result<Raw> {
        let layout = &self.layout;
        let within = u64::from((number - 1) % layout.inodes_per_group) * layout.inode;
        let table = group.inode_table.checked_mul(layout.block).filter(|_| group.inode_table < layout.blocks);
        let at = table.ok_or_else(|| no_block(group.inode_table, layout.blocks))? + within;
        Self::parsed(number, at, self.device.bytes(at, usize_of(layout.inode))?)
    }

    /// The inode with these bytes, which are at `at`.
    fn parsed(number: u32, at: u64, bytes: Vec<u8>) -> Result<Raw> {
        let inode = if bytes.len() < Inode::LENGTH {
            let mut whole = bytes.clone();
            whole.resize(Inode::LENGTH, 0);
            Inode::read(&whole)?
        } else {
            Inode::read(&bytes)?
        };
        let extra = if bytes.len() > BASE { usize::from(inode.i_extra_isize) } else { 0 };
        if BASE + extra > bytes.len() || !extra.is_multiple_of(4) {
            return Err(damaged("an inode says that it is longer than it is")
                .expected(format!("i_extra_isize of at most {}", bytes.len() - BASE))
                .found(format!("{extra} in inode {number}")));
        }
        Ok(Raw { number, at, bytes, inode, extra })
    }

    /// An inode that is in use and has the right checksum.
    pub(in crate::filesystem::ext4) fn used(&self, number: u64) -> Result<Raw> {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let raw = self.raw(number)?;
        if !raw.is_sound(self.layout.seed) {
            return Err(damaged("the checksum of an inode is wrong").found(format!("inode {number}")));
        }
        if raw.inode.i_mode == 0 || raw.inode.i_links_count == 0 {
            return Err(damaged("an inode is not in use").found(format!("inode {number}")));
        }
        Ok(raw)
    }
}

/// Bytes of a table of inodes that are read at a time.
const PIECE: u64 = 64 << 10;

/// The table of inodes of a group, read in large pieces. It is for code that looks at most of it.
#[derive(Debug)]
pub(super) struct InodeTable<'a> {
    volume: &'a Ext4,
    /// Where the table begins, and where it ends.
    start: u64,
    end: u64,
    /// Where the piece begins that is here.
    at: u64,
    piece: Vec<u8>,
}

impl<'a> InodeTable<'a> {
    /// The table of a group.
    pub(super) fn new(volume: &'a Ext4, group: &Group) -> Result<Self> {
        let layout = &volume.layout;
        let start = group.inode_table.checked_mul(layout.block).filter(|_| group.inode_table < layout.blocks);
        let start = start.ok_or_else(|| no_block(group.inode_table, layout.blocks))?;
        let end = start + u64::from(layout.inodes_per_group) * layout.inode;
        // What lies outside is told when it is asked for.
        let end = end.min(volume.device.length());
        Ok(Self { volume, start, end, at: 0, piece: Vec::new() })
    }

    /// An inode of the group, as [`Ext4::raw_in`].
    pub(super) fn raw(&mut self, number: u32) -> Result<Raw> {
        let layout = &self.volume.layout;
        let length = usize_of(layout.inode);
        let place = self.start + u64::from((number - 1) % layout.inodes_per_group) * layout.inode;
        let own = |at: u64, piece: &[u8]| {
            let from = usize_of(place.checked_sub(at)?);
            piece.get(from..from.checked_add(length)?).map(<[u8]>::to_vec)
        };
        if let Some(bytes) = own(self.at, &self.piece) {
            return Ext4::parsed(number, place, bytes);
        }
        // Inodes have a length that divides that of a piece.
        self.at = self.start + (place - self.start) / PIECE * PIECE;
        self.piece.clear();
        self.piece.resize(usize_of(PIECE.min(self.end.saturating_sub(self.at))), 0);
        self.volume.device.read(self.at, &mut self.piece)?;
        match own(self.at, &self.piece) {
            Some(bytes) => Ext4::parsed(number, place, bytes),
            None => Ext4::parsed(number, place, self.volume.device.bytes(place, length)?),
        }
    }
}

/// The error for a block outside the volume.
pub(super) fn no_block(number: u64, blocks: u64) -> crate::error::Error {
    damaged("a block lies outside the filesystem").expected(format!("below {blocks}")).found(number)
}

impl Raw {
    /// Whether a field after the first 128 bytes exists.
    const fn reaches(&self, field: Field) -> bool {
        BASE + self.extra >= field.end()
    }

    /// The file type.
    pub(super) const fn kind(&self) -> u16 {
        self.inode.i_mode & MODE_TYPE
    }

    pub(super) const fn is_directory(&self) -> bool {
        self.kind() == MODE_DIRECTORY
    }

    pub(super) const fn has(&self, flag: u32) -> bool {
        self.inode.i_flags & flag != 0
    }

    /// Length in bytes. In directories the upper half had another meaning before large_dir.
    pub(super) fn size(&self, volume: &Ext4) -> u64 {
        let wide = self.kind() == MODE_FILE || volume.layout.incompatible(incompat::LARGEDIR);
        joined(self.inode.i_size_lo, if wide { self.inode.i_size_high } else { 0 })
    }

    /// Bytes that it occupies by its own count, including its tree and its block of attributes.
    pub(super) fn occupied(&self, volume: &Ext4) -> u64 {
        let huge = volume.layout.ro_compatible(ro_compat::HUGE_FILE);
        let count = joined16(self.inode.i_blocks_lo, if huge { self.inode.l_i_blocks_high } else { 0 });
        let unit = if huge && self.has(FLAG_HUGE_FILE) { volume.layout.block } else { 512 };
        count.saturating_mul(unit)
    }

    /// Block of attributes, or 0.
    pub(super) fn xattr_block(&self) -> u64 {
        joined16(self.inode.i_file_acl_lo, self.inode.l_i_file_acl_high)
    }

    /// Modification time.
    pub(super) fn mtime(&self) -> Time {
        // Without the extra word, a time has no nanoseconds and ends in 2038.
        let extra = if self.reaches(MTIME_EXTRA) { self.inode.i_mtime_extra } else { 0 };
        time_of(self.inode.i_mtime, extra)
    }

    /// Whether the target of a symbolic link is stored in the block pointers.
    pub(super) fn is_fast_symlink(&self, volume: &Ext4) -> bool {
        let attributes =
            if self.xattr_block() == 0 { 0 } else { volume.layout.block * volume.layout.cluster };
        self.kind() == MODE_SYMLINK
            && !self.has(FLAG_INLINE_DATA | FLAG_EXTENTS)
            && self.size(volume) < u64_of(self.inode.i_block.len())
            && self.occupied(volume) <= attributes
    }

    /// The seed of the checksums of all its parts.
    pub(super) fn seed(&self, seed: Checksum) -> Checksum {
        seed.with(&self.number.to_le_bytes()).with(&self.inode.i_generation.to_le_bytes())
    }

    /// Whether the checksum is right; true if there is none.
    pub(super) fn is_sound(&self, seed: Option<Checksum>) -> bool {
        let Some(seed) = seed else { return true };
        // Bytes that no field declares are covered unchanged, and the two halves of the checksum as zero.
        let wide = self.reaches(CHECKSUM_HI);
        let (before, rest) = self.bytes.split_at(CHECKSUM_LO.offset);
        let (between, after) = match wide {
            true => rest[CHECKSUM_LO.length..].split_at(CHECKSUM_HI.offset - CHECKSUM_LO.end()),
            false => (&rest[CHECKSUM_LO.length..], &[][..]),
        };
        let mut sum = self.seed(seed).with(before).with(&[0; CHECKSUM_LO.length]).with(between);
        if wide {
            sum = sum.with(&[0; CHECKSUM_HI.length]).with(&after[CHECKSUM_HI.length..]);
        }
        let found = sum.value();
        half_lo16(found) == self.inode.l_i_checksum_lo
            && (!wide || half_hi16(found) == self.inode.i_checksum_hi)
    }

    /// Puts the right checksum into other bytes of this inode, if it has one.
    pub(in crate::filesystem::ext4) fn seal(&self, seed: Option<Checksum>, bytes: &mut [u8]) {
        let Some(seed) = seed else { return };
        // Bytes that no field declares are covered unchanged.
        CHECKSUM_LO.clear(bytes);
        let wide = self.reaches(CHECKSUM_HI);
        if wide {
            CHECKSUM_HI.clear(bytes);
        }
        let sum = self.seed(seed).with(bytes).value();
        bytes[CHECKSUM_LO.offset..CHECKSUM_LO.end()].copy_from_slice(&half_lo16(sum).to_le_bytes());
        if wide {
            bytes[CHECKSUM_HI.offset..CHECKSUM_HI.end()].copy_from_slice(&half_hi16(sum).to_le_bytes());
        }
    }
}
