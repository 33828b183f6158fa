//! Checks the superblock, its copies and those of the descriptors, and the journal.

use super::{Say, told};
use crate::error::Result;
use crate::filesystem::ext4::checksum::Checksum;
use crate::filesystem::ext4::format::features::{compat, incompat, ro_compat};
use crate::filesystem::ext4::format::{GroupDescriptor, JournalSuperblock, Superblock};
use crate::filesystem::ext4::read::journal::faults;
use crate::filesystem::ext4::read::map::{Go, Mapped};
use crate::filesystem::ext4::read::{CHECKSUM, Ext4, STATE_CLEAN, STATE_ERRORS};
use crate::filesystem::volume::{Fault, Remark};
use crate::units::{half_lo16, narrow, usize_of};
use crate::wire::{Field, Wire, field};

/// Features of a journal: revoke, 64bit, async_commit, checksums of the second and third version, fast_commit.
const JOURNAL_FEATURES: u32 = 0x3f;
/// Those of checksums (JBD2_FEATURE_INCOMPAT_CSUM_V2 and _V3), and the only kind of them (JBD2_CRC32C_CHKSUM).
const CHECKSUMS: u32 = 0x8 | 0x10;
const CRC32C: u8 = 4;
const JOURNAL_CHECKSUM: Field = field(JournalSuperblock::FIELDS, "s_checksum");

pub(super) fn check(volume: &Ext4, remark: Say<'_>) -> Result<()> {
    state(volume, remark)?;
    for group in (1..volume.layout.groups).filter(|group| volume.layout.has_superblock(*group)) {
        let subject = format!("superblock copy in group {group}");
        if told(superblock(volume, group, &subject, remark), &subject, remark)?.is_some() {
            descriptors(volume, group, remark)?;
        }
    }
    journal(volume, remark)
}

/// Checks the state of the filesystem in the superblock.
fn state(volume: &Ext4, remark: Say<'_>) -> Result<()> {
    let superblock = &volume.layout.superblock;
    let recover = volume.layout.incompatible(incompat::RECOVER);
    for (is, what) in [
        (recover, "the journal was not replayed (needs_recovery), so the data here may be old"),
        (!recover && superblock.s_state & STATE_CLEAN == 0, "it was not unmounted"),
        (superblock.s_state & STATE_ERRORS != 0, "the kernel found errors"),
        (volume.layout.ro_compatible(ro_compat::ORPHAN_PRESENT), "deleted files wait to be freed"),
        (!recover && superblock.s_last_orphan != 0, "deleted files wait to be freed (s_last_orphan)"),
    ] {
        if is {
            remark(Remark::new(Fault::State, "superblock", what))?;
        }
    }
    Ok(())
}

/// A copy must equal the first one, except for fields that change while the filesystem is mounted.
fn superblock(volume: &Ext4, group: u64, subject: &str, remark: Say<'_>) -> Result<()> {
    let layout = &volume.layout;
    let mut bytes = volume.block(layout.group_start(group))?;
    bytes.truncate(Superblock::LENGTH);
    let copy = Superblock::read(&bytes)?;
    if layout.seed.is_some() && Checksum::START.with(&bytes[..CHECKSUM.offset]).value() != copy.s_checksum {
        remark(Remark::new(Fault::Checksum, subject, "its checksum is wrong"))?;
    }
    // Group numbers of more than 16 bits are cut; e2fsprogs cuts them too.
    if copy.s_block_group_nr != half_lo16(narrow(group, "a group's number")?) {
        let what = format!("it says to be that of group {}", copy.s_block_group_nr);
        remark(Remark::new(Fault::Copy, subject, what))?;
    }
    let own = &layout.superblock;
    let fixed = |it: &Superblock| {
        [
            ("s_inodes_count", u64::from(it.s_inodes_count)),
            ("s_blocks_count_lo", it.s_blocks_count_lo.into()),
            ("s_blocks_count_hi", it.s_blocks_count_hi.into()),
            ("s_log_block_size", it.s_log_block_size.into()),
            ("s_blocks_per_group", it.s_blocks_per_group.into()),
            ("s_inodes_per_group", it.s_inodes_per_group.into()),
            ("s_inode_size", it.s_inode_size.into()),
            ("s_desc_size", it.s_desc_size.into()),
            // A mounted volume needs recovery, and only the first superblock says so.
            ("s_feature_incompat", (it.s_feature_incompat & !incompat::RECOVER).into()),
        ]
    };
    for ((field, found), (_, expected)) in fixed(&copy).into_iter().zip(fixed(own)) {
        if found != expected {
            let what = format!("its {field} is {found}, and {expected} in the first one");
            remark(Remark::new(Fault::Copy, subject, what))?;
        }
    }
    Ok(())
}

/// The copies of the descriptors must point to the same bitmaps and tables.
fn descriptors(volume: &Ext4, group: u64, remark: Say<'_>) -> Result<()> {
    let layout = &volume.layout;
    let each = layout.descriptors_per_block();
    let blocks = layout.common_blocks(group).min(layout.descriptor_blocks());
    let described = layout.groups.min(blocks * each);
    for number in 0..described {
        let block = layout.group_start(group) + 1 + number / each;
        let at = block * layout.block + number % each * layout.descriptor;
        let mut bytes = volume.device.bytes(at, usize_of(layout.descriptor))?;
        bytes.resize(bytes.len().max(GroupDescriptor::LENGTH), 0);
        let (copy, own) = (GroupDescriptor::read(&bytes)?, volume.group(number)?.raw);
        let places = |it: &GroupDescriptor| {
            let low = [it.bg_block_bitmap_lo, it.bg_inode_bitmap_lo, it.bg_inode_table_lo];
            (low, [it.bg_block_bitmap_hi, it.bg_inode_bitmap_hi, it.bg_inode_table_hi])
        };
        if places(&copy) != places(&own) {
            let subject = format!("descriptors in group {group}");
            let what =
                format!("the bitmaps and the table of group {number} are elsewhere than the first ones say");
            return remark(Remark::new(Fault::Copy, subject, what));
        }
    }
    Ok(())
}

/// The journal's superblock, which says whether there is anything to replay.
fn journal(volume: &Ext4, remark: Say<'_>) -> Result<()> {
    let superblock = &volume.layout.superblock;
    let number = superblock.s_journal_inum;
    if superblock.s_feature_compat & compat::HAS_JOURNAL == 0 || number == 0 {
        return Ok(());
    }
    let found = told(first_block(volume, number), "journal", remark)?;
    let Some(block) = found.flatten() else {
        return remark(Remark::new(
            Fault::Structure,
            "journal",
            format!("inode {number} has no first block"),
        ));
    };
    let bytes = volume.block(block)?;
    let Some(journal) = told(JournalSuperblock::read(&bytes), "journal", remark)? else { return Ok(()) };
    let blocks = volume.used(number.into())?.size(volume) / volume.layout.block;
    for (wrong, what) in [
        (
            u64::from(journal.s_blocksize) != volume.layout.block,
            format!("its blocks have {} bytes", journal.s_blocksize),
        ),
        (
            !(3..=4).contains(&journal.h_blocktype),
            format!("its superblock is of type {}", journal.h_blocktype),
        ),
        (
            u64::from(journal.s_maxlen) > blocks,
            format!("it claims {} blocks, and has {blocks}", journal.s_maxlen),
        ),
        (
            journal.s_feature_incompat & !JOURNAL_FEATURES != 0,
            "it has a feature that is not known".to_owned(),
        ),
        (journal.s_nr_users > 1, format!("it is inside, and has {} users", journal.s_nr_users)),
        (
            journal.h_blocktype == 4 && journal.s_feature_incompat & CHECKSUMS == CHECKSUMS,
            "it has checksums of two versions".to_owned(),
        ),
        (!checksum_is_right(&journal, &bytes), "the checksum of its superblock is wrong".to_owned()),
    ] {
        if wrong {
            remark(Remark::new(Fault::Structure, "journal", what))?;
        }
    }
    if journal.s_start != 0 && !volume.layout.incompatible(incompat::RECOVER) {
        let what = "it has something to replay, and the superblock does not say needs_recovery";
        remark(Remark::new(Fault::State, "journal", what))?;
    }
    if journal.s_start != 0 {
        for what in told(faults(volume), "journal", remark)?.unwrap_or_default() {
            remark(Remark::new(Fault::Checksum, "journal", what))?;
        }
    }
    Ok(())
}

/// Whether the superblock of a journal has the right checksum, or needs none (linux/fs/jbd2/journal.c, jbd2_superblock_csum).
fn checksum_is_right(journal: &JournalSuperblock, bytes: &[u8]) -> bool {
    if journal.h_blocktype != 4 || journal.s_feature_incompat & CHECKSUMS == 0 {
        return true;
    }
    let mut own = bytes.get(..JournalSuperblock::LENGTH).unwrap_or_default().to_vec();
    JOURNAL_CHECKSUM.clear(&mut own);
    journal.s_checksum_type == CRC32C && Checksum::START.with(&own).value() == journal.s_checksum
}

/// The first block of an inode.
fn first_block(volume: &Ext4, number: u32) -> Result<Option<u64>> {
    let raw = volume.used(number.into())?;
    let mut first = None;
    volume.walk(&raw, &mut |mapped| {
        if let Mapped::Data { logical: 0, physical, .. } = mapped {
            first = Some(physical);
        }
        Ok(Go::On)
    })?;
    Ok(first)
}
