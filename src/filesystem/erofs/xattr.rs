//! Extended attributes: behind the inode, or, where several inodes have the same one, in an area that they share.

use std::collections::BTreeMap;

use super::format::{LONGEST_VALUE, MOST_XATTRS, XattrEntry, XattrHeader};
use crate::error::{Error, Kind, Result};
use crate::filesystem::namespace;
use crate::text::printable;
use crate::tree::{NodeId, Tree, Xattr};
use crate::units::{index, narrow};
use crate::wire::Wire;

/// An attribute is shared where more inodes than this have it, as mkfs.erofs does by default (`-x 2`): the number of a
/// shared one takes four bytes in each inode, and few attributes are shorter.
const FEW: u64 = 2;
/// The most shared attributes of an inode: their count has 8 bits.
const MOST_SHARED: usize = 255;
/// The seed of the hash of a name (EROFS_XATTR_FILTER_SEED). The number of the namespace is added to it.
const FILTER_SEED: u32 = 0x25bb_e08f;

/// An attribute as it is stored: its namespace is a number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stored {
    index: u8,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Stored {
    fn new(xattr: &Xattr) -> Result<Self> {
        let refused = |what: &str| {
            Error::new(Kind::Capacity, what).found(format!("attribute {}", printable(&xattr.name)))
        };
        let (index, name) = namespace::split(&xattr.name).ok_or_else(|| {
            refused("erofs has no extended attributes of this namespace")
                .expected("user.*, trusted.*, security.*, or a POSIX ACL")
        })?;
        if xattr.value.len() > LONGEST_VALUE {
            return Err(refused("the value of an extended attribute is too long for erofs")
                .expected(format!("at most {LONGEST_VALUE} bytes"))
                .found(format!("{} bytes in {}", xattr.value.len(), printable(&xattr.name))));
        }
        Ok(Self { index, name: name.to_vec(), value: xattr.value.clone() })
    }

    /// Appends its entry, up to a multiple of four bytes.
    fn append(&self, out: &mut Vec<u8>) -> Result<()> {
        let entry = XattrEntry {
            e_name_len: narrow(self.name.len(), "e_name_len")?,
            e_name_index: self.index,
            e_value_size: narrow(self.value.len(), "e_value_size")?,
        };
        out.extend(entry.bytes());
        out.extend(&self.name);
        out.extend(&self.value);
        out.resize(out.len().next_multiple_of(4), 0);
        Ok(())
    }

    /// The bit of a name filter that says whether an attribute with this name may be there.
    fn filter(&self) -> u32 {
        filter_bit(self.index, &self.name)
    }
}

/// The bit of a name filter for a name without its prefix, whose number is `index`.
pub(super) fn filter_bit(index: u8, name: &[u8]) -> u32 {
    1 << (xxh32(name, FILTER_SEED + u32::from(index)) % 32)
}

/// The attributes of all inodes.
#[derive(Debug, Default)]
pub(super) struct Xattrs {
    /// What stands behind the inodes of each set of the tree.
    sets: Vec<Vec<u8>>,
    /// The attributes that inodes share.
    pub(super) shared: Vec<u8>,
}

impl Xattrs {
    /// Lays out every set of `tree`; `users` gives the nodes that are inodes of their own.
    ///
    /// # Errors
    /// [`Kind::Capacity`] with the path of a node whose attributes EROFS cannot hold.
    pub(super) fn new(tree: &Tree, users: impl Iterator<Item = NodeId>) -> Result<Self> {
        let mut used: BTreeMap<u32, (NodeId, u64)> = BTreeMap::new();
        for node in users {
            let set = tree.node(node).meta.xattrs;
            if set != 0 {
                used.entry(set).or_insert((node, 0)).1 += 1;
            }
        }
        let mut stored: BTreeMap<u32, Vec<Stored>> = BTreeMap::new();
        let mut counts: BTreeMap<Stored, u64> = BTreeMap::new();
        for (set, (node, users)) in &used {
            let all = tree.xattrs(*set).iter().map(Stored::new).collect::<Result<Vec<_>>>();
            let all = all.map_err(|error| error.at(tree.path(*node)))?;
            for one in &all {
                *counts.entry(one.clone()).or_default() += users;
            }
            stored.insert(*set, all);
        }
        let mut plan = Self { sets: vec![Vec::new(); tree.xattr_sets().len()], shared: Vec::new() };
        let mut ids: BTreeMap<Stored, u32> = BTreeMap::new();
        for (one, _) in counts.into_iter().filter(|(_, users)| *users > FEW) {
            ids.insert(one.clone(), narrow(plan.shared.len() / 4, "the number of a shared attribute")?);
            one.append(&mut plan.shared)?;
        }
        for (set, all) in stored {
            let bytes = behind(&all, &ids)?;
            if bytes.len() > MOST_XATTRS {
                let error = Error::new(Kind::Capacity, "the extended attributes are too long for erofs")
                    .expected(format!("at most {MOST_XATTRS} bytes for an inode"))
                    .found(format!("{} bytes", bytes.len()));
                return Err(match used.get(&set) {
                    Some((node, _)) => error.at(tree.path(*node)),
                    None => error,
                });
            }
            *plan.sets.get_mut(index(set)).ok_or_else(|| no_set(set))? = bytes;
        }
        Ok(plan)
    }

    /// What stands behind the inodes of a set; nothing for no attributes.
    pub(super) fn behind(&self, set: u32) -> Result<&[u8]> {
        match set {
            0 => Ok(&[]),
            _ => self.sets.get(index(set)).map(Vec::as_slice).ok_or_else(|| no_set(set)),
        }
    }

    /// Whether any inode has attributes.
    pub(super) fn any(&self) -> bool {
        self.sets.iter().any(|set| !set.is_empty())
    }
}

fn no_set(set: u32) -> Error {
    Error::bug(format!("there is no set {set} of extended attributes"))
}

/// The bytes after an inode with `all` attributes. Those with a number in `ids` are shared.
fn behind(all: &[Stored], ids: &BTreeMap<Stored, u32>) -> Result<Vec<u8>> {
    let mut shared = Vec::new();
    let mut inline = Vec::new();
    let mut filter = u32::MAX;
    for one in all {
        filter &= !one.filter();
        match ids.get(one) {
            Some(id) if shared.len() < MOST_SHARED => shared.push(*id),
            _ => one.append(&mut inline)?,
        }
    }
    let header =
        XattrHeader { h_name_filter: filter, h_shared_count: narrow(shared.len(), "h_shared_count")? };
    let mut bytes = header.bytes().to_vec();
    shared.iter().for_each(|id| bytes.extend(id.to_le_bytes()));
    bytes.extend(inline);
    Ok(bytes)
}

/// The numbers of XXH32 (xxHash fast digest algorithm, 1.2, section "XXH32").
const PRIMES: [u32; 5] = [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d, 0x27d4_eb2f, 0x1656_67b1];

/// XXH32 of `bytes`.
fn xxh32(bytes: &[u8], seed: u32) -> u32 {
    let [first, second, third, fourth, fifth] = PRIMES;
    let lane = |bytes: &[u8]| bytes.iter().rev().fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
    let round =
        |sum: u32, word: u32| sum.wrapping_add(word.wrapping_mul(second)).rotate_left(13).wrapping_mul(first);
    let stripes = bytes.chunks_exact(16);
    let tail = stripes.remainder();
    let mut hash = if bytes.len() < 16 {
        seed.wrapping_add(fifth)
    } else {
        let start = seed.wrapping_add(first);
        let mut sums =
            [start.wrapping_add(second), seed.wrapping_add(second), seed, seed.wrapping_sub(first)];
        for stripe in stripes {
            for (sum, word) in sums.iter_mut().zip(stripe.chunks_exact(4)) {
                *sum = round(*sum, lane(word));
            }
        }
        sums.iter().zip([1, 7, 12, 18]).fold(0_u32, |all, (sum, by)| all.wrapping_add(sum.rotate_left(by)))
    };
    let [length, ..] = crate::units::u64_of(bytes.len()).to_le_bytes().map(u32::from);
    // Names have at most 255 bytes, so the length is its lowest byte.
    hash = hash.wrapping_add(length);
    let words = tail.chunks_exact(4);
    for byte in words.clone() {
        hash = hash.wrapping_add(lane(byte).wrapping_mul(third)).rotate_left(17).wrapping_mul(fourth);
    }
    for byte in words.remainder() {
        hash = hash.wrapping_add(u32::from(*byte).wrapping_mul(fifth)).rotate_left(11).wrapping_mul(first);
    }
    hash = (hash ^ hash >> 15).wrapping_mul(second);
    hash = (hash ^ hash >> 13).wrapping_mul(third);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_xxh32() {
        // The first three by xxhsum 0.8.1 and the sanity checks of xxHash.
        assert_eq!(xxh32(b"", 0), 0x02cc_5d05);
        assert_eq!(xxh32(b"a", 0), 0x550d_7456);
        assert_eq!(xxh32(b"Nobody inspects the spammish repetition", 0), 0xe229_3b2f);
        assert_eq!(xxh32(b"", PRIMES[0]), 0x36b7_8ae7);
    }
}
