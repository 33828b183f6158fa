//! The structures of a whole volume: superblock, group descriptor, journal superblock.

use uuid::Uuid;

use crate::wire::wire;

wire! {
    /// The superblock (kernel.org, ext4, "Super Block"; linux/fs/ext4/ext4.h, `ext4_super_block`). It
    /// declares only the fields that are written or read.
    pub(crate) struct Superblock: "ext4 superblock", little, 1024 {
        0x00 s_inodes_count: u32,
        0x04 s_blocks_count_lo: u32,
        0x08 s_r_blocks_count_lo: u32,
        0x0c s_free_blocks_count_lo: u32,
        0x10 s_free_inodes_count: u32,
        0x14 s_first_data_block: u32,
        0x18 s_log_block_size: u32,
        0x1c s_log_cluster_size: u32,
        0x20 s_blocks_per_group: u32,
        0x24 s_clusters_per_group: u32,
        0x28 s_inodes_per_group: u32,
        0x30 s_wtime: u32,
        0x36 s_max_mnt_count: u16,
        0x38 s_magic: u16 = 0xef53,
        0x3a s_state: u16,
        0x3c s_errors: u16,
        0x40 s_lastcheck: u32,
        0x4c s_rev_level: u32,
        0x54 s_first_ino: u32,
        0x58 s_inode_size: u16,
        0x5a s_block_group_nr: u16,
        0x5c s_feature_compat: u32,
        0x60 s_feature_incompat: u32,
        0x64 s_feature_ro_compat: u32,
        0x68 s_uuid: Uuid,
        0x78 s_volume_name: [u8; 16],
        0xce s_reserved_gdt_blocks: u16,
        0xd0 s_journal_uuid: [u8; 16],
        0xe0 s_journal_inum: u32,
        0xe8 s_last_orphan: u32,
        0xec s_hash_seed: [u8; 16],
        0xfc s_def_hash_version: u8,
        0xfd s_jnl_backup_type: u8,
        0xfe s_desc_size: u16,
        0x100 s_default_mount_opts: u32,
        0x104 s_first_meta_bg: u32,
        0x108 s_mkfs_time: u32,
        0x10c s_jnl_blocks: [u8; 60],
        0x148 s_jnl_size_high "s_jnl_blocks[15]": u32,
        0x14c s_jnl_size_low "s_jnl_blocks[16]": u32,
        0x150 s_blocks_count_hi: u32,
        0x154 s_r_blocks_count_hi: u32,
        0x158 s_free_blocks_count_hi: u32,
        0x15c s_min_extra_isize: u16,
        0x15e s_want_extra_isize: u16,
        0x160 s_flags: u32,
        0x164 s_raid_stride: u16,
        0x168 s_mmp_block: u64,
        0x170 s_raid_stripe_width: u32,
        0x174 s_log_groups_per_flex: u8,
        0x175 s_checksum_type: u8,
        0x240 s_usr_quota_inum: u32,
        0x244 s_grp_quota_inum: u32,
        0x248 s_overhead_clusters: u32,
        0x24c s_backup_bgs: [u32; 2],
        0x254 s_encrypt_algos: [u8; 4],
        0x26c s_prj_quota_inum: u32,
        0x270 s_checksum_seed: u32,
        0x274 s_wtime_hi: u8,
        0x276 s_mkfs_time_hi: u8,
        0x277 s_lastcheck_hi: u8,
        0x27c s_encoding: u16,
        0x280 s_orphan_file_inum: u32,
        0x3fc s_checksum: u32,
    }
}

wire! {
    /// A group descriptor (kernel.org, ext4, "Block Group Descriptors"). Without the feature 64bit it ends at byte 32.
    pub(crate) struct GroupDescriptor: "ext4 group descriptor", little, 64 {
        0x00 bg_block_bitmap_lo: u32,
        0x04 bg_inode_bitmap_lo: u32,
        0x08 bg_inode_table_lo: u32,
        0x0c bg_free_blocks_count_lo: u16,
        0x0e bg_free_inodes_count_lo: u16,
        0x10 bg_used_dirs_count_lo: u16,
        0x12 bg_flags: u16,
        0x18 bg_block_bitmap_csum_lo: u16,
        0x1a bg_inode_bitmap_csum_lo: u16,
        0x1c bg_itable_unused_lo: u16,
        0x1e bg_checksum: u16,
        0x20 bg_block_bitmap_hi: u32,
        0x24 bg_inode_bitmap_hi: u32,
        0x28 bg_inode_table_hi: u32,
        0x2c bg_free_blocks_count_hi: u16,
        0x2e bg_free_inodes_count_hi: u16,
        0x30 bg_used_dirs_count_hi: u16,
        0x32 bg_itable_unused_hi: u16,
        0x38 bg_block_bitmap_csum_hi: u16,
        0x3a bg_inode_bitmap_csum_hi: u16,
    }
}

wire! {
    /// The first block of a journal (kernel.org, ext4, "Journal (jbd2)", `journal_superblock_s`).
    pub(crate) struct JournalSuperblock: "jbd2 superblock", big, 1024 {
        0x00 h_magic: u32 = 0xc03b_3998,
        0x04 h_blocktype: u32,
        0x0c s_blocksize: u32,
        0x10 s_maxlen: u32,
        0x14 s_first: u32,
        0x18 s_sequence: u32,
        0x1c s_start: u32,
        0x28 s_feature_incompat: u32,
        0x30 s_uuid: Uuid,
        0x40 s_nr_users: u32,
        0x50 s_checksum_type: u8,
        0x54 s_num_fc_blks: u32,
        0xfc s_checksum: u32,
    }
}

wire! {
    /// The beginning of every block of a journal's log (kernel.org, ext4, "Journal (jbd2)", `journal_header_s`).
    pub(crate) struct JournalHeader: "jbd2 header", big, 12 {
        0x00 h_magic: u32 = 0xc03b_3998,
        0x04 h_blocktype: u32,
        0x08 h_sequence: u32,
    }
}

wire! {
    /// A block that a transaction wrote (`journal_block_tag_s`).
    pub(crate) struct JournalTag: "jbd2 tag", big, 12 {
        0x00 t_blocknr: u32,
        0x04 t_checksum: u16,
        0x06 t_flags: u16,
        0x08 t_blocknr_high: u32,
    }
}

wire! {
    /// The same with checksums of the third version (`journal_block_tag3_s`).
    pub(crate) struct JournalTag3: "jbd2 tag of version 3", big, 16 {
        0x00 t_blocknr: u32,
        0x04 t_flags: u32,
        0x08 t_blocknr_high: u32,
        0x0c t_checksum: u32,
    }
}
