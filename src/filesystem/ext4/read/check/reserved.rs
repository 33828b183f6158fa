//! Checks the inodes with a fixed meaning (e2fsprogs, e2fsck/pass1.c, e2fsck_pass1; e2fsck/super.c, check_resize_inode).

use super::{Pass, Say, told};
use crate::error::Result;
use crate::filesystem::ext4::format::features::{compat, incompat, ro_compat};
use crate::filesystem::ext4::format::{BAD_BLOCKS, JOURNAL, RESIZE};
use crate::filesystem::ext4::read::Ext4;
use crate::filesystem::ext4::read::inode::{FLAG_EXTENTS, FLAG_INLINE_DATA, Raw};
use crate::filesystem::ext4::read::map::words;
use crate::filesystem::mode::{MODE_DIRECTORY, MODE_FILE};
use crate::filesystem::volume::{Fault, Remark};
use crate::units::{half_lo, u64_of, usize_of};

/// Inodes of the quotas of users and groups, and of the boot loader.
const QUOTAS: [u32; 2] = [3, 4];
const BOOT_LOADER: u32 = 5;
/// The place of the double-indirect pointer in i_block.
const DOUBLE: usize = 13;

impl Pass<'_> {
    /// Checks an inode that no name leads to, but the superblock or a rule.
    pub(super) fn reserved(&self, raw: &Raw, subject: &str, remark: Say<'_>) -> Result<()> {
        match fault(self.volume, raw) {
            Some(what) => self.once(Fault::Structure, subject, what, remark),
            None => Ok(()),
        }
    }
}

/// Whether an inode has no links and blocks.
fn is_clear(raw: &Raw) -> bool {
    let own = &raw.inode;
    own.i_links_count == 0 && own.i_blocks_lo == 0 && own.i_block.iter().take(4).all(|byte| *byte == 0)
}

/// The fault of an inode, if it is one of those.
fn fault(volume: &Ext4, raw: &Raw) -> Option<&'static str> {
    let (layout, own) = (&volume.layout, &volume.layout.superblock);
    let (number, mode) = (raw.number, raw.inode.i_mode);
    let is_file = raw.kind() == MODE_FILE;
    // In the order of e2fsck: the first meaning of a number counts.
    if number == BAD_BLOCKS {
        let it = &raw.inode;
        let owner = it.i_uid != 0 || it.i_gid != 0 || it.i_links_count != 0;
        let other = mode != 0 || raw.has(FLAG_INLINE_DATA) || it.i_file_acl_lo != 0;
        return (owner || other).then_some("it is that of bad blocks, and has more than blocks");
    }
    let used = if number == JOURNAL {
        own.s_journal_inum == JOURNAL
    } else if QUOTAS.contains(&number) || number == own.s_prj_quota_inum {
        let named = [own.s_usr_quota_inum, own.s_grp_quota_inum].contains(&number);
        layout.ro_compatible(ro_compat::QUOTA) && (named || number == own.s_prj_quota_inum)
    } else if number == own.s_orphan_file_inum {
        own.s_feature_compat & compat::ORPHAN_FILE != 0
    } else {
        return volume.is_reserved(number).then(|| other(volume, raw)).flatten();
    };
    if used {
        return (!is_file).then_some("the superblock names it, and it is not a regular file");
    }
    (!is_clear(raw))
        .then_some("it is that of a journal, of quotas or of orphans, is not in use, and is not clear")
}

/// The fault of the other reserved inodes.
fn other(volume: &Ext4, raw: &Raw) -> Option<&'static str> {
    let (kind, own) = (raw.kind(), &raw.inode);
    let wrong = match raw.number {
        BOOT_LOADER => kind == MODE_DIRECTORY,
        RESIZE => own.i_mode != 0 && kind != MODE_FILE,
        _ => own.i_mode != 0,
    };
    if wrong {
        return Some("it is reserved, and has a mode");
    }
    // What is no file is not looked at again, and its blocks would belong to nothing.
    let blocks = !raw.has(FLAG_EXTENTS) && own.i_block.iter().any(|byte| *byte != 0);
    let occupied = own.i_blocks_lo != 0 || raw.xattr_block() != 0 || blocks;
    let lists = raw.number == RESIZE && volume.layout.superblock.s_feature_compat & compat::RESIZE_INODE != 0;
    (own.i_mode == 0 && occupied && !lists).then_some("it is reserved and not in use, and has blocks")
}

/// Checks the resize inode: clear without the feature, and with it exactly the list of reserved blocks of descriptors
/// and of their copies.
pub(super) fn resize(volume: &Ext4, remark: Say<'_>) -> Result<()> {
    let (layout, own) = (&volume.layout, &volume.layout.superblock);
    let has = own.s_feature_compat & compat::RESIZE_INODE != 0;
    let subject = format!("inode {RESIZE}");
    if has && layout.incompatible(incompat::META_BG) {
        let what = "it has resize_inode and meta_bg, which exclude each other";
        return remark(Remark::new(Fault::Structure, "superblock", what));
    }
    if !has && own.s_reserved_gdt_blocks != 0 {
        let what = format!(
            "it lacks resize_inode, and reserves {} blocks for descriptors",
            own.s_reserved_gdt_blocks
        );
        remark(Remark::new(Fault::Structure, "superblock", what))?;
    }
    let Some(raw) = told(volume.raw(RESIZE), &subject, remark)? else { return Ok(()) };
    let found = if has {
        told(list_fault(volume, &raw), &subject, remark)?.flatten()
    } else {
        let used = raw.inode.i_block.iter().any(|byte| *byte != 0);
        used.then(|| "the superblock lacks resize_inode, and it has blocks".to_owned())
    };
    match found {
        Some(what) => remark(Remark::new(Fault::Structure, &subject, what)),
        None => Ok(()),
    }
}

/// The fault of the resize inode of a filesystem with the feature.
fn list_fault(volume: &Ext4, raw: &Raw) -> Result<Option<String>> {
    let layout = &volume.layout;
    let inside: Vec<u32> = words(&raw.inode.i_block).collect();
    let double = u64::from(inside.get(DOUBLE).copied().unwrap_or_default());
    let others = inside.iter().enumerate().any(|(at, word)| at != DOUBLE && *word != 0);
    let is_file = raw.kind() == MODE_FILE && raw.inode.i_links_count != 0;
    if others || !is_file || double == 0 || double < layout.first || double >= layout.blocks {
        return Ok(Some("it is not a file with only a double-indirect block".to_owned()));
    }
    let slots = layout.block / 4;
    let pointers: Vec<u32> = words(&volume.block(double)?).collect();
    let reserved = u64::from(layout.superblock.s_reserved_gdt_blocks);
    let backups: Vec<u64> = (1..layout.groups).filter(|group| layout.has_superblock(*group)).collect();
    let set = |words: &[u32]| words.iter().filter(|word| **word != 0).count();
    for number in (layout.descriptor_blocks()..).take(usize_of(reserved)) {
        let place = layout.superblock_block() + 1 + number;
        if pointers.get(usize_of(number % slots)) != Some(&half_lo(place)) {
            return Ok(Some(format!("its double-indirect block does not list the reserved block {place}")));
        }
        let list: Vec<u32> = words(&volume.block(place)?).collect();
        // Block numbers of this inode have 32 bits.
        let copies = backups.iter().map(|group| half_lo(place + group * layout.blocks_per_group));
        if copies.zip(&list).any(|(copy, word)| copy != *word) || set(&list) != backups.len() {
            return Ok(Some(format!("the reserved block {place} does not list its copies")));
        }
    }
    if u64_of(set(&pointers)) != reserved {
        return Ok(Some("its double-indirect block lists more than the reserved blocks".to_owned()));
    }
    // Every block that it lists counts, in clusters (e2fsck/pass1.c, process_block and check_blocks).
    let attributes = u64::from(raw.xattr_block() != 0);
    let blocks = 1 + reserved * (1 + u64_of(backups.len())) + attributes;
    let (told, found) = (raw.occupied(volume), blocks * layout.cluster * layout.block);
    Ok((told != found).then(|| format!("it tells {told} bytes of blocks, and has {found}")))
}
