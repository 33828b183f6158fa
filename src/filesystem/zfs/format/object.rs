//! Objects, sets of objects, system attributes, space maps.

use crate::wire::wire;

wire! {
    /// The head of a dnode; block pointers, bonus and spill pointer follow (dnode.h, dnode_phys_t).
    pub(crate) struct Dnode: "zfs dnode", little, 64 {
        0 dn_type: u8,
        1 dn_indblkshift: u8,
        2 dn_nlevels: u8,
        3 dn_nblkptr: u8,
        4 dn_bonustype: u8,
        5 dn_checksum: u8,
        6 dn_compress: u8,
        7 dn_flags: u8,
        8 dn_datablkszsec: u16,
        10 dn_bonuslen: u16,
        12 dn_extra_slots: u8,
        16 dn_maxblkid: u64,
        24 dn_used: u64,
    }
}

wire! {
    /// A set of objects: that of the pool, a filesystem, a volume (dmu_objset.h, objset_phys_t).
    pub(crate) struct ObjectSet: "zfs object set", little, 4096 {
        0 os_meta_dnode: [u8; 512],
        512 os_zil_header: [u8; 192],
        704 os_type: u64,
        712 os_flags: u64,
        1024 os_userused_dnode: [u8; 512],
        1536 os_groupused_dnode: [u8; 512],
        2048 os_projectused_dnode: [u8; 512],
    }
}

wire! {
    /// The head of system attributes; the lengths of those of variable length follow (sa_impl.h, sa_hdr_phys_t).
    pub(crate) struct AttributeHeader: "zfs system attributes", little, 6 {
        0 sa_magic: u32 = 0x002f_505a,
        4 sa_layout_info: u16,
    }
}

wire! {
    /// An entry of an ACL for the owner, the group or everyone (zfs_acl.h, zfs_ace_hdr_t).
    pub(crate) struct AccessEntry: "zfs access control entry", little, 8 {
        0 z_type: u16,
        2 z_flags: u16,
        4 z_access_mask: u32,
    }
}

wire! {
    /// The bonus of a space map (space_map.h, space_map_phys_t).
    pub(crate) struct SpaceMap: "zfs space map", little, 320 {
        0 smp_object: u64,
        8 smp_length: u64,
        16 smp_alloc: u64,
        64 smp_histogram: [u64; 32],
    }
}
