//! System attributes: what a file has besides its contents, in the bonus of its dnode and, where that is too small, in a
//! block of its own (module/zfs/sa.c).

use std::collections::BTreeMap;

use super::format::{AccessEntry, AttributeHeader, BONUS, BONUS_WITH_SPILL};
use super::zap;
use crate::error::{Error, Result};
use crate::units::{narrow, u64_of};
use crate::wire::Wire;

/// An attribute, in the order of the numbers that the registration gives them (module/os/linux/zfs/zfs_sa.c,
/// zfs_attr_table).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Attribute {
    AccessTime,
    ModificationTime,
    ChangeTime,
    CreationTime,
    Generation,
    Mode,
    Size,
    Parent,
    Links,
    XattrDirectory,
    Device,
    Flags,
    User,
    Group,
    AclCount,
    Target,
    AclEntries,
    Xattrs,
    Project,
}

/// What is registered: name, length (0 for a variable one) and how its bytes are swapped on a machine of the other order
/// (sa.h, sa_bswap_type_t: 0 as numbers of 64 bits, 3 as bytes, 4 as an ACL).
const REGISTERED: [(&str, u64, u64); 22] = [
    ("ZPL_ATIME", 16, 0),
    ("ZPL_MTIME", 16, 0),
    ("ZPL_CTIME", 16, 0),
    ("ZPL_CRTIME", 16, 0),
    ("ZPL_GEN", 8, 0),
    ("ZPL_MODE", 8, 0),
    ("ZPL_SIZE", 8, 0),
    ("ZPL_PARENT", 8, 0),
    ("ZPL_LINKS", 8, 0),
    ("ZPL_XATTR", 8, 0),
    ("ZPL_RDEV", 8, 0),
    ("ZPL_FLAGS", 8, 0),
    ("ZPL_UID", 8, 0),
    ("ZPL_GID", 8, 0),
    ("ZPL_PAD", 32, 0),
    ("ZPL_ZNODE_ACL", 88, 3),
    ("ZPL_DACL_COUNT", 8, 0),
    ("ZPL_SYMLINK", 0, 3),
    ("ZPL_SCANSTAMP", 32, 3),
    ("ZPL_DACL_ACES", 0, 4),
    ("ZPL_DXATTR", 0, 3),
    ("ZPL_PROJID", 8, 0),
];

impl Attribute {
    /// Its number in the registration.
    const fn number(self) -> u16 {
        match self {
            Self::AccessTime => 0,
            Self::ModificationTime => 1,
            Self::ChangeTime => 2,
            Self::CreationTime => 3,
            Self::Generation => 4,
            Self::Mode => 5,
            Self::Size => 6,
            Self::Parent => 7,
            Self::Links => 8,
            Self::XattrDirectory => 9,
            Self::Device => 10,
            Self::Flags => 11,
            Self::User => 12,
            Self::Group => 13,
            Self::AclCount => 16,
            Self::Target => 17,
            Self::AclEntries => 19,
            Self::Xattrs => 20,
            Self::Project => 21,
        }
    }

    /// All that are read.
    const ALL: [Self; 19] = [
        Self::AccessTime,
        Self::ModificationTime,
        Self::ChangeTime,
        Self::CreationTime,
        Self::Generation,
        Self::Mode,
        Self::Size,
        Self::Parent,
        Self::Links,
        Self::XattrDirectory,
        Self::Device,
        Self::Flags,
        Self::User,
        Self::Group,
        Self::AclCount,
        Self::Target,
        Self::AclEntries,
        Self::Xattrs,
        Self::Project,
    ];

    /// The one that is registered under a name.
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        let number = REGISTERED.iter().position(|(own, _, _)| own.as_bytes() == name)?;
        Self::ALL.into_iter().find(|own| usize::from(own.number()) == number)
    }

    /// Whether its length differs from file to file.
    const fn is_variable(self) -> bool {
        matches!(self, Self::Target | Self::AclEntries | Self::Xattrs)
    }
}

/// The registration, as entries of its ZAP (sa_impl.h, ATTR_ENCODE).
pub(super) fn registration() -> Vec<(&'static str, zap::Value)> {
    (0..)
        .zip(REGISTERED)
        .map(|(number, (name, length, swap)): (u64, _)| (name, (length << 24 | swap << 16 | number).into()))
        .collect()
}

/// The combinations of attributes that occur, with their numbers (sa_impl.h: the first two are for old formats).
#[derive(Debug, Default)]
pub(super) struct Layouts(BTreeMap<Vec<u16>, u16>);

/// The number of the first layout.
const FIRST_LAYOUT: usize = 2;

impl Layouts {
    fn number(&mut self, attributes: Vec<u16>) -> Result<u16> {
        let next = narrow(FIRST_LAYOUT + self.0.len(), "the number of a layout")?;
        Ok(*self.0.entry(attributes).or_insert(next))
    }

    /// The layouts, as entries of their ZAP.
    pub(super) fn entries(&self) -> Vec<(String, zap::Value)> {
        self.0
            .iter()
            .map(|(attributes, number)| (number.to_string(), zap::Value::Shorts(attributes.clone())))
            .collect()
    }
}

/// The attributes of a file, in their order.
pub(super) type Attributes = Vec<(Attribute, Vec<u8>)>;

/// Bytes of the head: the lengths of variable attributes follow magic number and layout, and it ends at a multiple of 8
/// (sa.c, sa_find_sizes).
fn head(attributes: &[(Attribute, Vec<u8>)]) -> usize {
    let variable = attributes.iter().filter(|(attribute, _)| attribute.is_variable()).count();
    (AttributeHeader::LENGTH + 2 * variable.max(1)).next_multiple_of(8)
}

/// Bytes of attributes with their head. Each begins at a multiple of 8.
fn length(attributes: &[(Attribute, Vec<u8>)]) -> usize {
    attributes.iter().fold(head(attributes), |length, (_, value)| length.next_multiple_of(8) + value.len())
}

/// The bytes of attributes with their head.
fn pack(attributes: &[(Attribute, Vec<u8>)], layouts: &mut Layouts) -> Result<Vec<u8>> {
    let layout = layouts.number(attributes.iter().map(|(attribute, _)| attribute.number()).collect())?;
    let head = head(attributes);
    let words: u16 = narrow(head / 8, "the length of a head of attributes")?;
    if layout >= 1 << 10 {
        return Err(Error::bug("there are more layouts of attributes than have numbers"));
    }
    let header = AttributeHeader { sa_layout_info: layout | words << 10, ..AttributeHeader::BLANK };
    let mut bytes = header.bytes().to_vec();
    for (_, value) in attributes.iter().filter(|(attribute, _)| attribute.is_variable()) {
        bytes.extend(narrow::<u16>(value.len(), "the length of an attribute")?.to_le_bytes());
    }
    bytes.resize(head, 0);
    for (_, value) in attributes {
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend_from_slice(value);
    }
    Ok(bytes)
}

/// The bonus of a dnode, and what did not fit.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) bonus: Vec<u8>,
    pub(super) spill: Option<Vec<u8>>,
}

/// Packs the attributes of a file. What does not fit the bonus spills, from the attribute on that does not fit beside the
/// spill pointer (sa.c, sa_build_layouts).
pub(super) fn packed(attributes: &[(Attribute, Vec<u8>)], layouts: &mut Layouts) -> Result<Packed> {
    if length(attributes) <= BONUS {
        return Ok(Packed { bonus: pack(attributes, layouts)?, spill: None });
    }
    let mut kept = attributes.len();
    while kept > 0 && length(&attributes[..kept]) > BONUS_WITH_SPILL {
        kept -= 1;
    }
    let bonus = pack(&attributes[..kept], layouts)?;
    Ok(Packed { bonus, spill: Some(pack(&attributes[kept..], layouts)?) })
}

/// Who an entry of an ACL is for (zfs_acl.h, ACE_OWNER, ACE_GROUP with ACE_IDENTIFIER_GROUP, ACE_EVERYONE), and what each
/// may do whatever the mode says: read attributes and ACL and the like; the owner may change them too (zfs_acl.c,
/// zfs_trivial_acl masks).
const OWNER: u16 = 0x1000;
const GROUP: u16 = 0x2040;
const EVERYONE: u16 = 0x4000;
const ALWAYS_OWNER: u32 = 0x001e_0198;
const ALWAYS: u32 = 0x0012_0088;
const ALLOW: u16 = 0;
const DENY: u16 = 1;

/// The ACL that says the same as a mode (module/zcommon/zfs_acl.c, acl_trivial_access_masks): its entries and their number.
pub(super) fn trivial_acl(mode: u16, is_directory: bool) -> (Vec<u8>, u64) {
    // Read; write and append; execute. A user who may write to a directory may delete in it too.
    let rights = [(4, 0x1), (2, if is_directory { 0x46 } else { 0x6 }), (1, 0x20)];
    let (mut owner, mut group, mut everyone) = (ALWAYS_OWNER, ALWAYS, ALWAYS);
    let (mut allow_owner, mut deny_owner, mut deny_group) = (0, 0, 0);
    for (bit, mask) in rights {
        let has = |shift: u16| mode >> shift & bit != 0;
        let (user, members, others) = (has(6), has(3), has(0));
        // A class comes before those that follow it, so what a later one has and it lacks is denied first.
        if !user && (members || others) {
            deny_owner |= mask;
        }
        if !members && others {
            deny_group |= mask;
        }
        if user && !members && others {
            allow_owner |= mask;
        }
        owner |= if user { mask } else { 0 };
        group |= if members { mask } else { 0 };
        everyone |= if others { mask } else { 0 };
    }
    let entries: Vec<AccessEntry> = [
        (ALLOW, OWNER, allow_owner),
        (DENY, OWNER, deny_owner),
        (DENY, GROUP, deny_group),
        (ALLOW, OWNER, owner),
        (ALLOW, GROUP, group),
        (ALLOW, EVERYONE, everyone),
    ]
    .into_iter()
    .filter(|(_, _, mask)| *mask != 0)
    .map(|(z_type, z_flags, z_access_mask)| AccessEntry { z_type, z_flags, z_access_mask })
    .collect();
    (entries.iter().flat_map(AccessEntry::bytes).collect(), u64_of(entries.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acls_are_those_that_openzfs_writes() {
        let masks = |mode, is_directory| -> Vec<(u16, u16, u32)> {
            let (bytes, count) = trivial_acl(mode, is_directory);
            let entries: Vec<_> =
                bytes.chunks_exact(8).map(|entry| AccessEntry::read(entry).unwrap()).collect();
            assert_eq!(u64_of(entries.len()), count);
            entries.iter().map(|entry| (entry.z_type, entry.z_flags, entry.z_access_mask)).collect()
        };
        // Bytes that the kernel wrote for a file of mode 0407.
        assert_eq!(
            masks(0o407, false),
            [
                (0, OWNER, 0x1),
                (1, OWNER, 0x26),
                (1, GROUP, 0x27),
                (0, OWNER, 0x1e_0199),
                (0, GROUP, 0x12_0088),
                (0, EVERYONE, 0x12_00af)
            ]
        );
        assert_eq!(masks(0o755, true)[0], (0, OWNER, 0x1e_01ff));
        assert_eq!(masks(0o755, true).len(), 3);
    }

    #[test]
    fn what_does_not_fit_spills_from_the_first_that_does_not() {
        let mut layouts = Layouts::default();
        let mut attributes: Attributes =
            vec![(Attribute::Mode, vec![1; 8]), (Attribute::AclEntries, vec![2; 24])];
        let packed_small = packed(&attributes, &mut layouts).unwrap();
        assert_eq!(packed_small.bonus.len(), 8 + 8 + 24);
        assert_eq!(packed_small.bonus[..8], [0x5a, 0x50, 0x2f, 0, 2, 4, 24, 0]);
        attributes.push((Attribute::Xattrs, vec![3; 300]));
        let large = packed(&attributes, &mut layouts).unwrap();
        // The same layout as before, in the bonus.
        assert_eq!(large.bonus, packed_small.bonus);
        let spill = large.spill.unwrap();
        assert_eq!((spill.len(), &spill[..8]), (308, &[0x5a, 0x50, 0x2f, 0, 3, 4, 44, 1][..]));
        // Two variable lengths take a head of 16 bytes.
        attributes[2].1.truncate(60);
        assert_eq!(packed(&attributes, &mut layouts).unwrap().bonus[4..12], [4, 8, 24, 0, 60, 0, 0, 0]);
        assert_eq!(layouts.entries().len(), 3);
    }

    #[test]
    fn what_is_registered_has_its_number() {
        for (attribute, name) in [
            (Attribute::Device, "ZPL_RDEV"),
            (Attribute::AclEntries, "ZPL_DACL_ACES"),
            (Attribute::Project, "ZPL_PROJID"),
            (Attribute::Links, "ZPL_LINKS"),
        ] {
            let (own, length, _) = REGISTERED[usize::from(attribute.number())];
            assert_eq!((own, length == 0), (name, attribute.is_variable()));
        }
        assert_eq!(registration()[19].1, zap::Value::Number(4 << 16 | 19));
    }
}
