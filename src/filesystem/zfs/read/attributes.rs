//! What a file has besides its contents: system attributes in the bonus of its dnode and in its spill block, and extended
//! attributes in one of these or in a directory of their own.

use std::collections::{BTreeMap, HashMap};

use super::super::attributes::Attribute;
use super::super::format::{AttributeHeader, kind};
use super::super::nvlist::Value;
use super::block::Blocks;
use super::nvlist;
use super::object::{Object, Set};
use super::zap::Entry;
use crate::error::{Error, Result};
use crate::filesystem::device::damaged;
use crate::tree::{Time, Xattr};
use crate::units::{low16, u64_of, usize_of};
use crate::wire::Wire;

/// The type of a bonus with system attributes, and of one of filesystems before version 5.
const OLD: u8 = 17;

/// The most attributes that a filesystem may register, and combinations of them (sa.h: numbers of 16 and 10 bits), and the
/// most in one combination.
const MOST_REGISTERED: usize = 1 << 10;
const MOST_LAYOUTS: usize = 1 << 10;

/// The most bytes of extended attributes of a file: more than Linux lists.
const MOST_XATTRS: u64 = 4 << 20;
/// The most bytes of one (linux/limits.h, XATTR_SIZE_MAX).
const MOST_XATTR: u64 = 64 << 10;

fn wrong(what: &str) -> Error {
    damaged(format!("the attributes of a file in a ZFS pool are wrong: {what}"))
}

/// What a filesystem registered: attributes with their names and lengths, and their combinations.
#[derive(Debug, Default)]
pub(super) struct Registry {
    /// By number: which attribute it is, where it is one that is read here, and its length; 0 for a variable one.
    attributes: HashMap<u16, (Option<Attribute>, u16)>,
    layouts: HashMap<u16, Vec<u16>>,
}

impl Registry {
    /// That of a filesystem.
    pub(super) fn read(blocks: &Blocks, set: &Set, master: u64) -> Result<Self> {
        let master = set.object(blocks, master)?;
        let mut registry = Self::default();
        let registered = set.object(blocks, blocks.required(&master, "REGISTRY")?)?;
        blocks.entries(&registered, &mut |entry| {
            // sa_impl.h, ATTR_NUM and ATTR_LENGTH.
            let number = entry.number()?;
            let attribute = Attribute::named(entry.name);
            registry.attributes.insert(low16(number), (attribute, low16(number >> 24)));
            if registry.attributes.len() > MOST_REGISTERED {
                return Err(wrong("too many are registered"));
            }
            Ok(true)
        })?;
        let layouts = set.object(blocks, blocks.required(&master, "LAYOUTS")?)?;
        blocks.entries(&layouts, &mut |entry| {
            let (number, list) = layout(&entry)?;
            if registry.layouts.len() == MOST_LAYOUTS || list.len() > registry.attributes.len() {
                return Err(wrong("they are combined in too many ways"));
            }
            registry.layouts.insert(number, list);
            Ok(true)
        })?;
        Ok(registry)
    }

    /// Reads attributes with their head into `found`.
    fn values(&self, bytes: &[u8], found: &mut BTreeMap<Attribute, Vec<u8>>) -> Result<()> {
        let head = AttributeHeader::read(bytes)?;
        // sa_impl.h, SA_HDR_LAYOUT_NUM and SA_HDR_SIZE.
        let number = head.sa_layout_info & 0x3ff;
        let start = usize::from(head.sa_layout_info >> 10) * 8;
        let layout =
            self.layouts.get(&number).ok_or_else(|| wrong("there is no such layout").found(number))?;
        let lengths =
            bytes.get(AttributeHeader::LENGTH..start).ok_or_else(|| wrong("their head is cut off"))?;
        let mut lengths = lengths.chunks_exact(2);
        let mut at = start;
        for number in layout {
            let (attribute, length) =
                self.attributes.get(number).ok_or_else(|| wrong("one is not registered"))?;
            let length = match length {
                0 => lengths.next().and_then(|own| own.try_into().ok()).map(u16::from_le_bytes),
                length => Some(*length),
            };
            let length = usize::from(length.ok_or_else(|| wrong("a length is missing"))?);
            let value = bytes.get(at..at + length).ok_or_else(|| wrong("a value is cut off"))?;
            at = (at + length).next_multiple_of(8);
            if let Some(attribute) = attribute {
                found.insert(*attribute, value.to_vec());
            }
        }
        Ok(())
    }
}

/// A combination of attributes: its number, and those of the attributes.
fn layout(entry: &Entry<'_>) -> Result<(u16, Vec<u16>)> {
    let number = std::str::from_utf8(entry.name).ok().and_then(|name| name.parse().ok());
    let number = number.filter(|_| entry.size == 2).ok_or_else(|| wrong("a layout is none"))?;
    let (words, _) = entry.value.as_chunks::<2>();
    Ok((number, words.iter().map(|word| u16::from_be_bytes(*word)).collect()))
}

/// The attributes of a file.
#[derive(Debug)]
pub(super) struct Attributes(BTreeMap<Attribute, Vec<u8>>);

impl Attributes {
    /// Those of an object that is a file.
    pub(super) fn read(blocks: &Blocks, registry: &Registry, object: &Object) -> Result<Self> {
        match object.head.dn_bonustype {
            kind::ATTRIBUTES => {}
            OLD => {
                return Err(wrong(
                    "they have the form of filesystems before version 5, which is not read here",
                ));
            }
            other => {
                return Err(wrong("it has none, and is no file").found(format!("a bonus of type {other}")));
            }
        }
        let mut found = BTreeMap::new();
        registry.values(&object.bonus, &mut found)?;
        if let Some(spill) = &object.spill {
            if spill.is_hole() || spill.kind() != kind::ATTRIBUTES || spill.level() != 0 {
                return Err(wrong("those that spilled are not there"));
            }
            registry.values(&blocks.read(spill)?, &mut found)?;
        }
        Ok(Self(found))
    }

    /// A number, if there is one.
    pub(super) fn number(&self, attribute: Attribute) -> Option<u64> {
        let bytes = self.0.get(&attribute)?.first_chunk()?;
        Some(u64::from_le_bytes(*bytes))
    }

    /// A number that every file has.
    pub(super) fn required(&self, attribute: Attribute) -> Result<u64> {
        self.number(attribute)
            .ok_or_else(|| wrong("one that every file has is missing").found(format!("{attribute:?}")))
    }

    pub(super) fn bytes(&self, attribute: Attribute) -> &[u8] {
        self.0.get(&attribute).map_or(&[], Vec::as_slice)
    }

    /// The time of the last change of the contents.
    pub(super) fn time(&self) -> Result<Time> {
        let (words, _) = self.bytes(Attribute::ModificationTime).as_chunks::<8>();
        let [seconds, nanoseconds] = words else { return Err(wrong("the time is missing")) };
        let nanoseconds =
            u32::try_from(u64::from_le_bytes(*nanoseconds)).ok().filter(|own| *own < 1_000_000_000);
        let nanoseconds = nanoseconds.ok_or_else(|| wrong("a time has more than a second of nanoseconds"))?;
        Ok(Time { seconds: i64::from_le_bytes(*seconds), nanoseconds })
    }

    /// The extended attributes, sorted by name.
    pub(super) fn xattrs(&self, blocks: &Blocks, set: &Set, registry: &Registry) -> Result<Vec<Xattr>> {
        let mut found = BTreeMap::new();
        let packed = self.bytes(Attribute::Xattrs);
        if !packed.is_empty() {
            for (name, value) in nvlist::unpack(packed)?.entries() {
                let Value::Bytes(value) = value else { return Err(wrong("an extended one has no bytes")) };
                found.insert(full(name)?, value.clone());
            }
        }
        if let Some(directory) = self.number(Attribute::XattrDirectory).filter(|directory| *directory != 0) {
            in_directory(blocks, set, registry, directory, &mut found)?;
        }
        Ok(found.into_iter().map(|(name, value)| Xattr { name, value }).collect())
    }
}

/// Extended attributes that are files in a directory (`xattr=dir`).
fn in_directory(
    blocks: &Blocks,
    set: &Set,
    registry: &Registry,
    directory: u64,
    found: &mut BTreeMap<Vec<u8>, Vec<u8>>,
) -> Result<()> {
    let directory = set.object(blocks, directory)?;
    if directory.head.dn_type != kind::DIRECTORY {
        return Err(wrong("the directory of the extended ones is none"));
    }
    let mut sum = 0_u64;
    blocks.entries(&directory, &mut |entry| {
        let object = set.object(blocks, super::child(entry.number()?))?;
        let size = Attributes::read(blocks, registry, &object)?.required(Attribute::Size)?;
        sum = sum.saturating_add(size.saturating_add(u64_of(entry.name.len())));
        if object.head.dn_type != kind::FILE || size > MOST_XATTR || sum > MOST_XATTRS {
            return Err(wrong("an extended one is too long, or no file").found(format!("{size} bytes")));
        }
        let mut value = Vec::new();
        for number in 0..size.div_ceil(object.block()) {
            match blocks.data(&object, number)? {
                Some(bytes) => value.extend_from_slice(&bytes[..bytes.len().min(usize_of(MOST_XATTR))]),
                None => value.resize(value.len() + usize_of(object.block().min(MOST_XATTR)), 0),
            }
        }
        value.truncate(usize_of(size));
        found.insert(full(entry.name)?, value);
        Ok(true)
    })
}

/// The name of an extended attribute with its namespace. Names without one are from other systems, where all are those of
/// users (module/os/linux/zfs/zpl_xattr.c, zfs_xattr_compat).
fn full(name: &[u8]) -> Result<Vec<u8>> {
    if name.is_empty() || name.contains(&0) || name.len() > 255 {
        return Err(wrong("an extended one has a name that cannot be"));
    }
    let known: [&[u8]; 4] = [b"user.", b"security.", b"system.", b"trusted."];
    let is_known = known.iter().any(|own| name.starts_with(own));
    Ok(if is_known { name.to_vec() } else { [b"user.", name].concat() })
}

/// A device number as Linux has it for OpenZFS.
pub(super) fn device(number: u64) -> (u32, u32) {
    let low = u32::try_from(number & 0xf_ffff).unwrap_or_default();
    (u32::try_from(number >> 20 & 0xfff_ffff).unwrap_or_default(), low)
}
