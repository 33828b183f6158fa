//! The pool's own set of objects (the "meta object set"). Its space maps list the blocks of the set that leads to them. So
//! what depends on space gets its place first and its bytes last.

use std::collections::BTreeSet;

use super::checksum::Checksum;
use super::compress::Compression;
use super::format::{
    BlockPointerObject, DNODE, DNODE_BLOCK, DNODE_USED_BYTES, INDIRECT_SHIFT, OLD_LARGEST, ObjectSet,
    POINTER, SPACE_MAP_INDIRECT_SHIFT, kind,
};
use super::maps::{HEAD_ALONE, Maps, space_map};
use super::objects::{Dnodes, OBJECT_SET, Object, Objects, dnode_of, dnode_over};
use super::pointer::{About, Pointer, Sums};
use super::space::{Geometry, Run};
use super::store::{Manner, Store};
use super::zap;
use crate::error::{Error, Result};
use crate::units::{low8, u64_of, usize_of};
use crate::wire::Wire;

/// Copies of everything in this set.
const COPIES: usize = 3;

/// The type of the pool's own set (dmu.h, DMU_OST_META).
pub(super) const META: u64 = 1;

/// The set on the way.
#[derive(Debug)]
pub(super) struct Mos {
    pub(super) objects: Objects,
    dnodes: Dnodes,
    next: u64,
}

/// The number of the object directory, the only one that is fixed (dmu.h, DMU_POOL_DIRECTORY_OBJECT).
pub(super) const OBJECT_DIRECTORY: u64 = 1;

impl Mos {
    pub(super) fn new(birth: u64, salt: u64) -> Self {
        let manner = Manner { copies: COPIES, checksum: Checksum::Fletcher4 };
        Self {
            objects: Objects::new(manner, birth, salt),
            dnodes: Dnodes::default(),
            next: OBJECT_DIRECTORY + 1,
        }
    }

    /// The number of a new object.
    pub(super) const fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Takes the dnode of an object.
    pub(super) fn put(&mut self, number: u64, dnode: &[u8; DNODE]) {
        self.dnodes.put(number, dnode);
    }

    /// Makes a ZAP the object `number`.
    pub(super) fn zap(
        &mut self,
        store: &mut Store,
        number: u64,
        object: &Object<'_>,
        entries: &[(impl AsRef<[u8]>, zap::Value)],
    ) -> Result<()> {
        let made = self.objects.zap(store, object, zap::Form::BYTES, entries, None)?;
        self.put(number, &made.dnode);
        Ok(())
    }

    /// Makes a ZAP of a type a new object.
    pub(super) fn new_zap(
        &mut self,
        store: &mut Store,
        kind: u8,
        entries: &[(impl AsRef<[u8]>, zap::Value)],
    ) -> Result<u64> {
        let number = self.number();
        self.zap(store, number, &Object::plain(kind, 512), entries)?;
        Ok(number)
    }

    /// Makes an object that is its bonus a new object, or the object `number`.
    pub(super) fn bonus(&mut self, number: u64, kind: u8, bonus: &[u8]) -> Result<()> {
        // It has no blocks either, so it counts no bytes.
        let object = Object { flags: 0, ..Object::plain(kind, 512).with_bonus(kind, bonus) };
        let dnode = dnode_of(&object, None)?;
        self.put(number, &dnode);
        Ok(())
    }

    /// A new empty list of block pointers. Blocks of the list that a later sync fills are not compressed.
    pub(super) fn new_list(&mut self, is_sync: bool) -> Result<u64> {
        let number = self.number();
        let header = BlockPointerObject::BLANK.bytes();
        let (block, compression, flags) = if is_sync {
            (16 << 10, Compression::Off.number(), DNODE_USED_BYTES)
        } else {
            (OLD_LARGEST, 0, 0)
        };
        let object = Object { pointers: 3, flags, compression, ..Object::plain(kind::BPOBJ, block) };
        let object = Object { bonus_kind: kind::BPOBJ_HEADER, bonus: &header, ..object };
        // A dnode has no space for three pointers beside a bonus of more than 64 bytes; this one has 48.
        let dnode = dnode_of(&object, None)?;
        self.put(number, &dnode);
        Ok(number)
    }

    /// A new list of blocks that died (module/zfs/bpobj.c, bpobj_enqueue: without checksums, and without what is embedded).
    pub(super) fn new_list_of(&mut self, store: &mut Store, blocks: &[Pointer]) -> Result<u64> {
        let mut header =
            BlockPointerObject { bpo_num_blkptrs: u64_of(blocks.len()), ..BlockPointerObject::BLANK };
        let mut bytes = Vec::new();
        for block in blocks {
            header.bpo_bytes += block.sums.allocated;
            header.bpo_comp += block.sums.physical;
            header.bpo_uncomp += block.sums.logical;
            bytes.extend(block.without_contents()?);
        }
        let header = header.bytes();
        let object = Object { pointers: 3, ..Object::plain(kind::BPOBJ, OLD_LARGEST) };
        let object = Object { bonus_kind: kind::BPOBJ_HEADER, bonus: &header, ..object };
        let blocks = bytes.chunks(usize_of(OLD_LARGEST)).map(<[u8]>::to_vec).collect();
        let made = self.objects.write(store, &object, blocks, None)?;
        let number = self.number();
        self.put(number, &made.dnode);
        Ok(number)
    }

    /// Makes an object with one block of bytes, whose length is its bonus.
    pub(super) fn nvlist(&mut self, store: &mut Store, number: u64, bytes: &[u8]) -> Result<()> {
        let length = u64_of(bytes.len()).to_le_bytes();
        let block = 16 << 10;
        let object = Object {
            bonus_kind: kind::PACKED_NVLIST_SIZE,
            bonus: &length,
            ..Object::plain(kind::PACKED_NVLIST, block)
        };
        let blocks = bytes.chunks(usize_of(block)).map(<[u8]>::to_vec).collect();
        let made = self.objects.write(store, &object, blocks, None)?;
        self.put(number, &made.dnode);
        Ok(())
    }
}

/// A block that has its places and not yet its bytes.
#[derive(Debug)]
pub(super) struct Reserved {
    places: Vec<Run>,
    size: u64,
}

impl Reserved {
    fn new(store: &mut Store, size: u64) -> Result<Self> {
        Ok(Self { places: store.places(size, COPIES)?, size })
    }

    fn allocated(&self) -> u64 {
        self.places.iter().map(|place| place.length).sum()
    }
}

/// All that depends on what space is taken, with its places.
#[derive(Debug)]
pub(super) struct Late {
    features: Reserved,
    array: Reserved,
    /// Blocks of dnodes, then indirect blocks, level by level.
    levels: Vec<Vec<Reserved>>,
    set: Reserved,
    /// The metaslabs with space that is taken, with the blocks of their maps.
    maps: Vec<(u64, Reserved)>,
    /// The object of the first map; the others follow.
    first_map: u64,
    form: Maps,
}

/// Space maps whose objects are counted before it is known how many there are: each block that is reserved after that
/// touches at most three more.
const MORE_MAPS: u64 = 16;

/// The bytes of the array that has the object of each metaslab's map. Its blocks are a power of two, because the array
/// grows with the disk, and an object of several blocks has only such (module/zfs/dnode.c, dnode_set_blksz).
fn array_size(geometry: &Geometry) -> u64 {
    (8 * geometry.metaslabs()).next_power_of_two().max(512)
}

impl Late {
    /// Takes the places. All other objects are written; `features` is how long the table of features is.
    pub(super) fn reserve(mos: &Mos, store: &mut Store, form: Maps, features: u64) -> Result<Self> {
        store.owner("pool");
        let geometry = store.space.geometry;
        let features = Reserved::new(store, features)?;
        let array = Reserved::new(store, array_size(&geometry))?;
        let first_map = mos.next;
        let maps = u64_of(store.space.touched().len()) + MORE_MAPS;
        let blocks = (first_map + maps).div_ceil(DNODE_BLOCK / u64_of(DNODE));
        let level = |store: &mut Store, count: u64, size: u64| -> Result<Vec<Reserved>> {
            (0..count).map(|_| Reserved::new(store, size)).collect()
        };
        let mut levels = vec![level(store, blocks, DNODE_BLOCK)?];
        while let Some(below) = levels.last().map(Vec::len).filter(|below| *below > 3) {
            let count = u64_of(below).div_ceil(PER_INDIRECT);
            levels.push(level(store, count, 1 << INDIRECT_SHIFT)?);
        }
        let set = Reserved::new(store, OBJECT_SET)?;
        let mut late = Self { features, array, levels, set, maps: Vec::new(), first_map, form };
        // A map takes space too, and it may be in a metaslab that was free before.
        let mut known = BTreeSet::new();
        loop {
            let fresh: Vec<u64> =
                store.space.touched().into_iter().filter(|metaslab| known.insert(*metaslab)).collect();
            if fresh.is_empty() {
                break;
            }
            for metaslab in fresh {
                late.maps.push((metaslab, Reserved::new(store, form.size(&geometry))?));
            }
        }
        late.maps.sort_by_key(|(metaslab, _)| *metaslab);
        if u64_of(late.maps.len()) > maps {
            return Err(Error::bug("more metaslabs have blocks than have objects"));
        }
        Ok(late)
    }

    /// How many space maps there are.
    pub(super) fn map_count(&self) -> u64 {
        u64_of(self.maps.len())
    }

    /// Writes the table of features, the array of metaslabs and the space maps. `objects` are those of the first two.
    pub(super) fn write_tables(
        &self,
        mos: &mut Mos,
        store: &mut Store,
        objects: (u64, u64),
        features: &zap::Blocks,
    ) -> Result<()> {
        let [block] = features.blocks.as_slice() else {
            return Err(Error::bug("the table of features is not one block"));
        };
        let plain = Object::plain(kind::ZAP, self.features.size);
        mos.late(store, objects.0, &plain, &self.features, block)?;
        let mut array = vec![0; usize_of(self.array.size)];
        for ((metaslab, _), object) in self.maps.iter().zip(self.first_map..) {
            let at = usize_of(8 * metaslab);
            array[at..at + 8].copy_from_slice(&object.to_le_bytes());
        }
        let plain = Object::plain(kind::OBJECT_ARRAY, self.array.size);
        mos.late(store, objects.1, &plain, &self.array, &array)?;
        let taken: Vec<Run> = store.space.taken().collect();
        for ((metaslab, reserved), object) in self.maps.iter().zip(self.first_map..) {
            let (entries, header) = space_map((&store.space.geometry, self.form), *metaslab, &taken, object)?;
            let mut map = entries;
            let length = usize_of(OLD_LARGEST);
            map.resize(length, 0);
            let header = header.bytes();
            // A dnode has space for three pointers beside the shorter head, and OpenZFS knows its form by them.
            let (header, pointers) =
                if self.form.has_histogram { (&header[..], 1) } else { (&header[..HEAD_ALONE], 3) };
            let own = Object {
                indirect_shift: SPACE_MAP_INDIRECT_SHIFT,
                pointers,
                ..Object::plain(kind::SPACE_MAP, OLD_LARGEST).with_bonus(kind::SPACE_MAP_HEADER, header)
            };
            mos.late(store, object, &own, reserved, &map)?;
        }
        Ok(())
    }

    /// What the dnodes and the set itself take, which no [`Sums`] has yet.
    pub(super) fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for reserved in self.levels.iter().flatten().chain([&self.set]) {
            let (allocated, size) = (reserved.allocated(), reserved.size);
            sums += Sums { allocated, physical: size, logical: size };
        }
        sums
    }

    /// Writes the dnodes and the set; the pointer to it.
    pub(super) fn write_set(self, mos: Mos, store: &mut Store) -> Result<Pointer> {
        let birth = mos.objects.birth;
        let count = mos.dnodes.count();
        let mut blocks = mos.dnodes.into_blocks().into_iter();
        let mut pointers = Vec::new();
        let mut sums = Sums::default();
        let depth = self.levels.len();
        let dnode_blocks = self.levels.first().map(Vec::len);
        let dnode_blocks = dnode_blocks.ok_or_else(|| Error::bug("the dnodes of a pool have no places"))?;
        for (level, reserved) in self.levels.iter().enumerate() {
            let below = std::mem::take(&mut pointers);
            for (number, own) in reserved.iter().enumerate() {
                let (bytes, fill) = if level == 0 {
                    blocks.next().map_or_else(
                        || (vec![0; usize_of(own.size)], 0),
                        |(block, fill)| (block.to_vec(), fill),
                    )
                } else {
                    let per = usize_of(PER_INDIRECT);
                    let own: &[Pointer] = &below[number * per..below.len().min((number + 1) * per)];
                    (
                        own.iter().flat_map(|pointer| pointer.bytes).collect(),
                        own.iter().map(|own| own.fill).sum(),
                    )
                };
                let about = About { kind: kind::DNODE, level: low8(u64_of(level)), fill, birth };
                let pointer = filled(store, about, own, bytes)?;
                sums += pointer.sums;
                pointers.push(pointer);
            }
        }
        if blocks.next().is_some() {
            return Err(Error::bug("a block of dnodes has no place"));
        }
        let object = Object::plain(kind::DNODE, DNODE_BLOCK);
        let set = ObjectSet {
            os_meta_dnode: dnode_over(&object, pointers, (depth, u64_of(dnode_blocks)), sums)?,
            os_type: META,
            ..ObjectSet::BLANK
        };
        let about = About { kind: kind::OBJSET, level: 0, fill: count, birth };
        filled(store, about, &self.set, set.bytes().to_vec())
    }
}

/// Block pointers of an indirect block.
const PER_INDIRECT: u64 = (1 << INDIRECT_SHIFT) / u64_of(POINTER);

/// Puts bytes at reserved places as they are.
fn filled(store: &mut Store, about: About, reserved: &Reserved, mut bytes: Vec<u8>) -> Result<Pointer> {
    bytes.resize(usize_of(reserved.size), 0);
    let off = Compression::Off.number();
    store.put(about, Checksum::Fletcher4, reserved.size, off, &reserved.places, &bytes)
}

impl Mos {
    /// Makes an object of one block at reserved places. A block that is longer than its places is compressed.
    fn late(
        &mut self,
        store: &mut Store,
        number: u64,
        object: &Object<'_>,
        reserved: &Reserved,
        bytes: &[u8],
    ) -> Result<()> {
        let about = About::contents(object.kind, self.objects.birth);
        let pointer = if u64_of(bytes.len()) > reserved.size {
            let mut compressed = Vec::new();
            let is_smaller = store.encode(bytes, &mut compressed)?;
            if !is_smaller || u64_of(compressed.len()) > reserved.size {
                return Err(Error::bug("a space map is longer than its place"));
            }
            compressed.resize(usize_of(reserved.size), 0);
            let (length, number) = (u64_of(bytes.len()), store.compression());
            store.put(about, Checksum::Fletcher4, length, number, &reserved.places, &compressed)?
        } else {
            filled(store, about, reserved, bytes.to_vec())?
        };
        self.objects.sums += pointer.sums;
        let dnode = dnode_of(object, Some(pointer))?;
        self.put(number, &dnode);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::units::{Bytes, GIB, MIB, TIB};

    #[test]
    fn a_set_without_what_is_looked_up_is_a_bug_and_no_zero() {
        let poisoned = |change: &dyn Fn(&mut Late)| {
            let mut store = Store::small();
            let mut mos = Mos::new(4, 1);
            let number = mos.number();
            mos.bonus(number, kind::DSL_DIR, &[]).unwrap();
            let mut late = Late::reserve(&mos, &mut store, Maps::NEW, 512).unwrap();
            change(&mut late);
            late.write_set(mos, &mut store).map(|_| ()).map_err(|error| error.what().to_owned())
        };
        assert_eq!(poisoned(&|_| {}), Ok(()));
        assert_eq!(
            poisoned(&|late| late.levels.clear()),
            Err("the dnodes of a pool have no places".to_owned())
        );
        assert_eq!(
            poisoned(&|late| late.levels[0].clear()),
            Err("a block of dnodes has no place".to_owned())
        );
    }

    proptest! {
        /// Metaslabs of a pool up to the largest are as OpenZFS makes them, and all of them lie in it.
        #[test]
        fn metaslabs_of_pools_that_are_never_written_lie_in_them(
            size in 64 * MIB..256 * TIB,
            grow in prop::option::of(64 * MIB..256 * TIB),
            ashift in 9_u8..=16,
        ) {
            let geometry = Geometry::new(Bytes::new(size), ashift, grow.map(Bytes::new)).unwrap();
            prop_assert!((24..=34).contains(&geometry.shift));
            prop_assert!(geometry.capacity() <= geometry.space());
            prop_assert!(geometry.space() - geometry.capacity() < geometry.metaslab());
            // Three copies need three, which is what a disk of 64 MiB has.
            prop_assert!(geometry.metaslabs() >= 3);
            prop_assert!(array_size(&geometry) >= 8 * geometry.metaslabs());
            if grow.is_none() {
                // vdev.c, vdev_metaslab_set_size: about 16 below 8 GiB, of 512 MiB up to 200, then about 200.
                let count = geometry.metaslabs();
                prop_assert!(count <= 200 || geometry.shift == 34, "{count} of 2^{}", geometry.shift);
                prop_assert!(count >= 16 - 1 - 8 || geometry.shift == 24, "{count} of 2^{}", geometry.shift);
            }
        }
    }

    #[test]
    fn the_array_of_metaslabs_can_grow() {
        for (size, bytes) in [(64 * MIB, 512), (100 * GIB, 2048), (1 << 40, 1024), (100 << 40, 65_536)] {
            assert_eq!(array_size(&Geometry::new(Bytes::new(size), 12, None).unwrap()), bytes, "{size}");
        }
    }
}
