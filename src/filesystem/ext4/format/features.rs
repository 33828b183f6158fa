//! Features: their bits, and their names in e2fsprogs (lib/e2p/feature.c).

use super::Superblock;

/// Features that a reader may ignore.
pub(crate) mod compat {
    pub(crate) const IMAGIC_INODES: u32 = 0x2;
    pub(crate) const HAS_JOURNAL: u32 = 0x4;
    pub(crate) const EXT_ATTR: u32 = 0x8;
    pub(crate) const RESIZE_INODE: u32 = 0x10;
    pub(crate) const DIR_INDEX: u32 = 0x20;
    pub(crate) const SPARSE_SUPER2: u32 = 0x200;
    pub(crate) const ORPHAN_FILE: u32 = 0x1000;
}

/// Features that a reader must know.
pub(crate) mod incompat {
    pub(crate) const FILETYPE: u32 = 0x2;
    pub(crate) const RECOVER: u32 = 0x4;
    pub(crate) const JOURNAL_DEV: u32 = 0x8;
    pub(crate) const META_BG: u32 = 0x10;
    pub(crate) const EXTENTS: u32 = 0x40;
    pub(crate) const WIDE: u32 = 0x80;
    pub(crate) const MMP: u32 = 0x100;
    pub(crate) const FLEX_BG: u32 = 0x200;
    pub(crate) const EA_INODE: u32 = 0x400;
    pub(crate) const CSUM_SEED: u32 = 0x2000;
    pub(crate) const LARGEDIR: u32 = 0x4000;
    pub(crate) const INLINE_DATA: u32 = 0x8000;
    pub(crate) const ENCRYPT: u32 = 0x1_0000;
    pub(crate) const CASEFOLD: u32 = 0x2_0000;
}

/// Features that a writer must know.
pub(crate) mod ro_compat {
    pub(crate) const SPARSE_SUPER: u32 = 0x1;
    pub(crate) const LARGE_FILE: u32 = 0x2;
    pub(crate) const HUGE_FILE: u32 = 0x8;
    pub(crate) const GDT_CSUM: u32 = 0x10;
    pub(crate) const DIR_NLINK: u32 = 0x20;
    pub(crate) const EXTRA_ISIZE: u32 = 0x40;
    pub(crate) const QUOTA: u32 = 0x100;
    pub(crate) const BIGALLOC: u32 = 0x200;
    pub(crate) const PROJECT: u32 = 0x2000;
    pub(crate) const METADATA_CSUM: u32 = 0x400;
    pub(crate) const ORPHAN_PRESENT: u32 = 0x1_0000;
}

/// Names of the bits of one word.
type Names = &'static [(u32, &'static str)];

const COMPAT: Names = &[
    (0x1, "dir_prealloc"),
    (compat::HAS_JOURNAL, "has_journal"),
    (compat::EXT_ATTR, "ext_attr"),
    (compat::RESIZE_INODE, "resize_inode"),
    (compat::DIR_INDEX, "dir_index"),
    (compat::SPARSE_SUPER2, "sparse_super2"),
    (0x400, "fast_commit"),
    (0x800, "stable_inodes"),
    (compat::ORPHAN_FILE, "orphan_file"),
];

const INCOMPAT: Names = &[
    (incompat::FILETYPE, "filetype"),
    (incompat::RECOVER, "needs_recovery"),
    (incompat::JOURNAL_DEV, "journal_dev"),
    (incompat::META_BG, "meta_bg"),
    (incompat::EXTENTS, "extent"),
    (incompat::WIDE, "64bit"),
    (incompat::MMP, "mmp"),
    (incompat::FLEX_BG, "flex_bg"),
    (incompat::EA_INODE, "ea_inode"),
    (incompat::CSUM_SEED, "metadata_csum_seed"),
    (incompat::LARGEDIR, "large_dir"),
    (incompat::INLINE_DATA, "inline_data"),
    (incompat::ENCRYPT, "encrypt"),
    (incompat::CASEFOLD, "casefold"),
];

const RO_COMPAT: Names = &[
    (ro_compat::SPARSE_SUPER, "sparse_super"),
    (ro_compat::LARGE_FILE, "large_file"),
    (ro_compat::HUGE_FILE, "huge_file"),
    (ro_compat::GDT_CSUM, "uninit_bg"),
    (ro_compat::DIR_NLINK, "dir_nlink"),
    (ro_compat::EXTRA_ISIZE, "extra_isize"),
    (ro_compat::QUOTA, "quota"),
    (ro_compat::BIGALLOC, "bigalloc"),
    (ro_compat::METADATA_CSUM, "metadata_csum"),
    (0x1000, "read-only"),
    (ro_compat::PROJECT, "project"),
    (0x4000, "shared_blocks"),
    (0x8000, "verity"),
    (ro_compat::ORPHAN_PRESENT, "orphan_present"),
];

/// The word of a feature in the superblock, and its bit there, by its name; `None` for a name that nothing has.
pub(crate) fn find(name: &str) -> Option<(Word, u32)> {
    let words = [(Word::Compat, COMPAT), (Word::Incompat, INCOMPAT), (Word::RoCompat, RO_COMPAT)];
    words.into_iter().find_map(|(word, names)| {
        let (mask, _) = names.iter().find(|(_, known)| *known == name)?;
        Some((word, *mask))
    })
}

/// A word of features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Compat,
    Incompat,
    RoCompat,
}

/// The names of features that the reader does not understand.
pub(crate) fn unreadable(superblock: &Superblock) -> Vec<String> {
    let known = incompat::FILETYPE
        | incompat::RECOVER
        | incompat::META_BG
        | incompat::EXTENTS
        | incompat::WIDE
        | incompat::MMP
        | incompat::FLEX_BG
        | incompat::EA_INODE
        | incompat::CSUM_SEED
        | incompat::LARGEDIR
        | incompat::INLINE_DATA
        // Only what is encrypted is refused, and the rest is read.
        | incompat::ENCRYPT
        | incompat::CASEFOLD;
    named(superblock.s_feature_incompat & !known, INCOMPAT)
}

/// The bits of features that have no name. Readers may ignore those, and checkers may not.
pub(crate) fn unknown(superblock: &Superblock) -> Vec<String> {
    let known = |names: Names| names.iter().fold(0, |all, (mask, _)| all | mask);
    let mut all = named(superblock.s_feature_compat & !known(COMPAT), COMPAT);
    all.extend(named(superblock.s_feature_ro_compat & !known(RO_COMPAT), RO_COMPAT));
    all
}

/// The names of all features, compatible ones first.
pub(crate) fn names(superblock: &Superblock) -> Vec<String> {
    let mut all = named(superblock.s_feature_compat, COMPAT);
    all.extend(named(superblock.s_feature_incompat, INCOMPAT));
    all.extend(named(superblock.s_feature_ro_compat, RO_COMPAT));
    all
}

/// The names of the bits of a word. A bit without a name is given by its number.
fn named(word: u32, names: Names) -> Vec<String> {
    let name = |bit: u32| {
        let known = names.iter().find(|(mask, _)| *mask == 1 << bit);
        known.map_or_else(|| format!("bit {bit}"), |(_, name)| (*name).to_owned())
    };
    (0..32).filter(|bit| word >> bit & 1 == 1).map(name).collect()
}

/// `ext2`, `ext3`, `ext4`, or `jbd` for a journal alone, by the rules of blkid (util-linux,
/// libblkid/src/superblocks/ext.c).
pub(crate) fn kind(superblock: &Superblock) -> &'static str {
    let (compatible, incompatible) = (superblock.s_feature_compat, superblock.s_feature_incompat);
    if incompatible & incompat::JOURNAL_DEV != 0 {
        "jbd"
    } else if incompatible & (incompat::EXTENTS | incompat::WIDE | incompat::FLEX_BG) != 0
        || superblock.s_feature_ro_compat & 0x4f8 != 0
    {
        "ext4"
    } else if compatible & compat::HAS_JOURNAL != 0 {
        "ext3"
    } else {
        "ext2"
    }
}
