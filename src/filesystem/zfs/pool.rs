//! The pool around its datasets: configuration, features, space, and what leads to all of it.

use super::dsl::{self, Filled};
use super::features::{self, Enabled, Features};
use super::format::{BlockPointer, Uberblock, VERSION, kind};
use super::ids::Ids;
use super::maps::Maps;
use super::mos::{Late, Mos, OBJECT_DIRECTORY};
use super::nvlist::{List, Value};
use super::objects::Object;
use super::store::Store;
use super::zap;
use crate::error::{Error, Result};
use crate::wire::Wire;

/// What a pool is besides its datasets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    pub(super) name: &'a str,
    pub(super) ids: Ids,
    /// Seconds since 1970.
    pub(super) time: u64,
    pub(super) enabled: &'a Enabled,
    /// The name of the set of features, if there is one.
    pub(super) compatibility: Option<&'a str>,
    pub(super) comment: Option<&'a str>,
    /// Numbers among the pool's properties.
    pub(super) properties: &'a [(String, u64)],
    /// The dataset that is to be booted from.
    pub(super) boot: Option<usize>,
    /// Whether the pool has a whole disk with a table of its own.
    pub(super) is_whole_disk: bool,
}

/// The transaction group in which everything is written, except for what is newer than a snapshot: the first of a new pool
/// (txg.h, TXG_INITIAL).
pub(super) const BIRTH: u64 = 4;
/// How much newer the uberblock is. The first import reads all blocks of the last three transaction groups
/// (module/zfs/spa.c, spa_load_verify), which is then none.
const NEWER: u64 = 4;

/// What labels say.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) config: List,
    pub(super) uberblock: Uberblock,
    /// Bytes that are taken, with those that are reserved.
    pub(super) used: u64,
}

/// The objects that the configuration names.
#[derive(Clone, Copy, Debug)]
struct Named {
    array: u64,
    leaf: u64,
    top: u64,
}

/// Writes the pool's own objects around datasets that are written.
///
/// # Errors
/// [`Kind::Capacity`](crate::error::Kind::Capacity) where there is no space left.
pub(super) fn write(wish: &Wish<'_>, filled: &[Filled], store: &mut Store) -> Result<Ready> {
    store.owner("pool");
    let newest = filled.iter().map(Filled::newest).max();
    let newest = newest.ok_or_else(|| Error::bug("a pool has no dataset of its own"))?;
    let mut mos = Mos::new(newest, wish.ids.number("salt"));
    let mut features = Features::new(wish.enabled);
    let has = |guid| wish.enabled.has(guid);
    let empty = if has(features::EMPTY_BPOBJ) { Some(mos.new_list(false)?) } else { None };
    let (free, sync) = (mos.new_list(false)?, mos.new_list(true)?);
    let layer = wish.layer();
    let (directories, heads) = dsl::write(&layer, filled, (&mut mos, store), &mut features, empty)?;
    let for_read = mos.new_zap(store, kind::ZAP, &features.for_read())?;
    let descriptions = mos.new_zap(store, kind::ZAP, &features.descriptions())?;
    let recorded: Vec<_> =
        features.recorded().into_iter().map(|guid| (guid, zap::Value::from(BIRTH))).collect();
    let recorded =
        if has(features::ENABLED_TXG) { Some(mos.new_zap(store, kind::ZAP, &recorded)?) } else { None };
    let properties = wish.properties(&heads)?;
    let properties = mos.new_zap(store, kind::POOL_PROPERTIES, &properties)?;
    let (leaf, top, vdevs) = vdev_tables(&mut mos, store)?;
    let (for_write, array, config) = (mos.number(), mos.number(), mos.number());
    let named = Named { array, leaf, top };
    mos.nvlist(store, config, &wish.config(store, named, Place::Set).packed()?)?;
    let mut entries: Vec<(&str, zap::Value)> = vec![
        ("root_dataset", directories.root()?.into()),
        ("free_bpobj", free.into()),
        ("sync_bplist", sync.into()),
        ("config", config.into()),
        ("features_for_read", for_read.into()),
        ("features_for_write", for_write.into()),
        ("feature_descriptions", descriptions.into()),
        ("pool_props", properties.into()),
        ("com.delphix:vdev_zap_map", vdevs.into()),
        ("deflate", 1.into()),
        ("creation_version", VERSION.into()),
        ("org.illumos:checksum_salt", zap::Value::Bytes(wish.ids.salt("checksum").to_vec())),
    ];
    entries.extend(empty.map(|empty| ("empty_bpobj", empty.into())));
    entries.extend(recorded.map(|recorded| ("feature_enabled_txg", recorded.into())));
    let directory = Object::plain(kind::OBJECT_DIRECTORY, 512);
    mos.zap(store, OBJECT_DIRECTORY, &directory, &entries)?;
    // As long as it will be, whatever it counts.
    let length = zap::build(mos.objects.salt, zap::Form::BYTES, &features.for_write())?.size;
    let late = Late::reserve(&mos, store, Maps::new(wish.enabled), length)?;
    features.count(features::SPACEMAP_HISTOGRAM, late.map_count());
    let counted = zap::build(mos.objects.salt, zap::Form::BYTES, &features.for_write())?;
    late.write_tables(&mut mos, store, (for_write, array), &counted)?;
    let mut sums = late.sums();
    sums += mos.objects.sums;
    let used = directories.write(&mut mos, sums)?;
    let root = late.write_set(mos, store)?;
    let uberblock = Uberblock {
        ub_txg: newest + NEWER,
        ub_guid_sum: wish.guid().wrapping_add(wish.vdev()),
        ub_timestamp: wish.time,
        ub_rootbp: BlockPointer::read(&root.bytes)?,
        ..Uberblock::BLANK
    };
    Ok(Ready { config: wish.config(store, named, Place::Label), uberblock, used })
}

/// The empty tables of the disk, as a leaf and as a top-level vdev, and the table that lists both.
fn vdev_tables(mos: &mut Mos, store: &mut Store) -> Result<(u64, u64, u64)> {
    let nothing: [(&str, zap::Value); 0] = [];
    let (leaf, top) = (mos.new_zap(store, kind::ZAP, &nothing)?, mos.new_zap(store, kind::ZAP, &nothing)?);
    let both = [leaf, top].map(|object| (format!("{object:x}"), object.into()));
    Ok((leaf, top, mos.new_zap(store, kind::ZAP, &both)?))
}

/// Where a configuration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Label,
    /// In the pool's own set of objects.
    Set,
}

/// State of a pool that no system has imported (fs/zfs.h, POOL_STATE_EXPORTED).
const EXPORTED: u64 = 1;

impl<'a> Wish<'a> {
    /// The layer of its datasets.
    fn layer(&self) -> dsl::Wish<'_> {
        dsl::Wish {
            pool: self.name,
            ids: self.ids,
            time: self.time,
            birth: BIRTH,
            is_extensible: self.enabled.has(features::EXTENSIBLE_DATASET),
        }
    }

    /// The pool's GUID.
    pub(super) fn guid(&self) -> u64 {
        self.ids.number("pool")
    }

    /// The GUID of its disk.
    fn vdev(&self) -> u64 {
        self.ids.number("vdev")
    }

    /// The entries of the pool's properties.
    fn properties(&self, heads: &[u64]) -> Result<Vec<(&'a str, zap::Value)>> {
        let numbers = self.properties.iter().map(|(name, value)| (name.as_str(), (*value).into()));
        let lost = || Error::bug("the dataset to boot from has no head");
        let head = self.boot.map(|boot| heads.get(boot).copied().ok_or_else(lost)).transpose()?;
        Ok(numbers.chain(head.map(|head| ("bootfs", head.into()))).collect())
    }

    /// The configuration (module/zfs/spa_config.c, spa_config_generate; vdev.c, vdev_config_generate).
    fn config(&self, store: &Store, named: Named, place: Place) -> List {
        let geometry = store.space.geometry;
        let mut disk = List::default()
            .with("type", "disk")
            .with("id", 0)
            .with("guid", self.vdev())
            .with("path", if self.is_whole_disk { "/dev/vda1" } else { "/dev/vda" })
            .with("whole_disk", u64::from(self.is_whole_disk))
            .with("metaslab_array", named.array)
            .with("metaslab_shift", u64::from(geometry.shift))
            .with("ashift", u64::from(geometry.ashift))
            .with("asize", geometry.space())
            .with("is_log", 0)
            .with("create_txg", BIRTH);
        let mut config = List::default()
            .with("version", VERSION)
            .with("name", self.name)
            .with("state", EXPORTED)
            .with("txg", BIRTH)
            .with("pool_guid", self.guid())
            .with("errata", 0);
        if let Some(comment) = self.comment {
            config = config.with("comment", comment);
        }
        if let Some(name) = self.compatibility {
            config = config.with("compatibility", name);
        }
        let tree = if place == Place::Label {
            config = config.with("top_guid", self.vdev()).with("guid", self.vdev());
            disk
        } else {
            config = config.with("com.delphix:has_per_vdev_zaps", Value::Present);
            disk = disk
                .with("com.delphix:vdev_zap_leaf", named.leaf)
                .with("com.delphix:vdev_zap_top", named.top);
            List::default()
                .with("type", "root")
                .with("id", 0)
                .with("guid", self.guid())
                .with("create_txg", BIRTH)
                .with("children", Value::Lists(vec![disk]))
        };
        // Features without which the pool's own set cannot be read, and that are in use.
        let needed = [features::HOLE_BIRTH, features::EMBEDDED_DATA];
        let needed = needed
            .iter()
            .filter(|guid| self.enabled.has(guid))
            .fold(List::default(), |list, guid| list.with(guid, Value::Present));
        config
            .with("vdev_children", 1)
            .with("vdev_tree", Value::List(tree))
            .with("features_for_read", Value::List(needed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_pool_without_what_is_looked_up_is_a_bug_and_no_zero() {
        let enabled = Enabled::of("off");
        let wish = Wish {
            name: "tank",
            ids: Ids(uuid::Uuid::nil()),
            time: 0,
            enabled: &enabled,
            compatibility: None,
            comment: None,
            properties: &[],
            boot: Some(1),
            is_whole_disk: false,
        };
        assert_eq!(wish.properties(&[7, 8]).unwrap(), [("bootfs", 8.into())]);
        let error = wish.properties(&[7]).unwrap_err();
        assert_eq!((error.kind(), error.what()), (Kind::Bug, "the dataset to boot from has no head"));
        let mut store = Store::small();
        let error = write(&wish, &[], &mut store).unwrap_err();
        assert_eq!((error.kind(), error.what()), (Kind::Bug, "a pool has no dataset of its own"));
    }
}
