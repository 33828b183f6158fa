//! Checks the fields of the superblock that reading does not need, as e2fsck does (e2fsprogs, e2fsck/super.c).

use super::Say;
use crate::error::Result;
use crate::filesystem::ext4::format::FIRST;
use crate::filesystem::ext4::format::features::{compat, incompat, ro_compat, unknown};
use crate::filesystem::ext4::read::Ext4;
use crate::filesystem::volume::{Fault, Remark};
use crate::units::joined;

/// The newest revision (EXT2_DYNAMIC_REV).
const NEWEST: u32 = 1;
/// Bytes of an inode in the first revision.
const BASE: u64 = 128;
/// Groups of flex_bg are at most two to this power.
const MOST_FLEX: u8 = 31;
/// The only encoding of names that e2fsck knows (EXT4_ENC_UTF8_12_1).
const UTF8_12_1: u16 = 1;
/// Inodes that cannot be those of quotas: bad blocks, root, boot loader, undelete directory, resize inode, journal, and
/// the two of snapshots and replicas.
const NO_QUOTA: [u32; 8] = [1, 2, 5, 6, 7, 8, 9, 10];

/// Reports fields with values that cannot be.
pub(super) fn fields(volume: &Ext4, remark: Say<'_>) -> Result<()> {
    let (layout, own) = (&volume.layout, &volume.layout.superblock);
    let reserved =
        joined(own.s_r_blocks_count_lo, if layout.descriptor > 32 { own.s_r_blocks_count_hi } else { 0 });
    let extra = |size: u16| u64::from(size) > layout.inode - BASE || !size.is_multiple_of(4);
    let journal = own.s_feature_compat & compat::HAS_JOURNAL != 0;
    let first = u64::from(own.s_first_ino);
    for (wrong, name, found) in [
        (own.s_rev_level > NEWEST, "s_rev_level", u64::from(own.s_rev_level)),
        (
            own.s_rev_level > 0 && !(u64::from(FIRST) - 1..=layout.inodes.into()).contains(&first),
            "s_first_ino",
            first,
        ),
        (reserved > layout.blocks / 2, "s_r_blocks_count", reserved),
        (extra(own.s_min_extra_isize), "s_min_extra_isize", own.s_min_extra_isize.into()),
        (extra(own.s_want_extra_isize), "s_want_extra_isize", own.s_want_extra_isize.into()),
        (own.s_log_groups_per_flex > MOST_FLEX, "s_log_groups_per_flex", own.s_log_groups_per_flex.into()),
        (
            own.s_prj_quota_inum != 0 && !layout.ro_compatible(ro_compat::PROJECT),
            "s_prj_quota_inum",
            own.s_prj_quota_inum.into(),
        ),
        (own.s_journal_inum != 0 && !journal, "s_journal_inum", own.s_journal_inum.into()),
    ] {
        if wrong {
            let what = format!("its field {name} cannot be {found}");
            remark(Remark::new(Fault::Structure, "superblock", what))?;
        }
    }
    inodes(volume, remark)?;
    features(volume, remark)?;
    let unknown = unknown(own);
    if !unknown.is_empty() {
        let what = format!("it has features that are not known: {}", unknown.join(", "));
        remark(Remark::new(Fault::Structure, "superblock", what))?;
    }
    Ok(())
}

/// Reports inodes that the superblock cannot name (e2fsck/journal.c, e2fsck_get_journal; e2fsck/quota.c,
/// e2fsck_validate_quota_inodes; e2fsck/super.c, check_init_orphan_file).
fn inodes(volume: &Ext4, remark: Say<'_>) -> Result<()> {
    let (layout, own) = (&volume.layout, &volume.layout.superblock);
    let compatible = |feature: u32| own.s_feature_compat & feature != 0;
    let (journal, outside) = (compatible(compat::HAS_JOURNAL), own.s_journal_uuid != [0; 16]);
    let exists = |number: u32| number != 0 && number <= layout.inodes;
    let quota = |number: u32| number != 0 && (NO_QUOTA.contains(&number) || !exists(number));
    for (wrong, what) in [
        (
            journal && !outside && !exists(own.s_journal_inum),
            format!("it has a journal, which cannot be inode {}", own.s_journal_inum),
        ),
        // A journal on another device is not looked for, as its device may be anywhere.
        (
            outside && (!journal || own.s_journal_inum != 0),
            "its s_journal_uuid names a journal on another device, and the journal is inside or missing"
                .to_owned(),
        ),
        (
            compatible(compat::ORPHAN_FILE) && !exists(own.s_orphan_file_inum),
            format!("it has an orphan file, which cannot be inode {}", own.s_orphan_file_inum),
        ),
        (
            quota(own.s_usr_quota_inum),
            format!("inode {} cannot be that of user quotas", own.s_usr_quota_inum),
        ),
        (
            quota(own.s_grp_quota_inum),
            format!("inode {} cannot be that of group quotas", own.s_grp_quota_inum),
        ),
        (
            quota(own.s_prj_quota_inum),
            format!("inode {} cannot be that of project quotas", own.s_prj_quota_inum),
        ),
    ] {
        if wrong {
            remark(Remark::new(Fault::Structure, "superblock", what))?;
        }
    }
    Ok(())
}

/// Reports features that contradict each other or their fields (e2fsck/super.c, check_super_block; e2fsck/unix.c, main;
/// lib/ext2fs/mmp.c, ext2fs_mmp_read).
fn features(volume: &Ext4, remark: Say<'_>) -> Result<()> {
    let (layout, own) = (&volume.layout, &volume.layout.superblock);
    let sums = layout.ro_compatible(ro_compat::METADATA_CSUM);
    let descriptors = layout.groups.div_ceil(layout.descriptors_per_block());
    let in_use = |block: u64| block > layout.first && block < layout.blocks;
    for (wrong, what) in [
        (
            layout.incompatible(incompat::CASEFOLD) && own.s_encoding != UTF8_12_1,
            format!("it has casefold, and no encoding has the number {}", own.s_encoding),
        ),
        (
            layout.incompatible(incompat::MMP) && !in_use(own.s_mmp_block),
            format!("it has mmp, whose block cannot be {}", own.s_mmp_block),
        ),
        (
            layout.incompatible(incompat::WIDE) && !layout.incompatible(incompat::EXTENTS),
            "it has 64bit, which needs extent".to_owned(),
        ),
        (
            layout.incompatible(incompat::CSUM_SEED) && !sums,
            "it has metadata_csum_seed, which needs metadata_csum".to_owned(),
        ),
        (
            sums && layout.ro_compatible(ro_compat::GDT_CSUM),
            "it has metadata_csum and uninit_bg, which exclude each other".to_owned(),
        ),
        (
            layout.incompatible(incompat::META_BG) && u64::from(own.s_first_meta_bg) > descriptors,
            format!("its s_first_meta_bg cannot be {}", own.s_first_meta_bg),
        ),
    ] {
        if wrong {
            remark(Remark::new(Fault::Structure, "superblock", what))?;
        }
    }
    Ok(())
}
