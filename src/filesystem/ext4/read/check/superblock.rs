//! Checks the fields of the superblock that reading does not need, as e2fsck does (e2fsprogs, e2fsck/super.c).

use super::Say;
use crate::error::Result;
use crate::filesystem::ext4::format::FIRST;
use crate::filesystem::ext4::format::features::{compat, unknown};
use crate::filesystem::ext4::read::Ext4;
use crate::filesystem::volume::{Fault, Remark};
use crate::units::joined;

/// The newest revision (EXT2_DYNAMIC_REV).
const NEWEST: u32 = 1;
/// Bytes of an inode in the first revision.
const BASE: u64 = 128;
/// Groups of flex_bg are at most two to this power.
const MOST_FLEX: u8 = 31;
/// The feature of projects (EXT4_FEATURE_RO_COMPAT_PROJECT).
const PROJECT: u32 = 0x2000;

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
            own.s_prj_quota_inum != 0 && !layout.ro_compatible(PROJECT),
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
    let unknown = unknown(own);
    if !unknown.is_empty() {
        let what = format!("it has features that are not known: {}", unknown.join(", "));
        remark(Remark::new(Fault::Structure, "superblock", what))?;
    }
    Ok(())
}
