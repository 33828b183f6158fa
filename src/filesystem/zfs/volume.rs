//! A volume: the objects of a dataset that is a block device (module/zfs/zvol.c, zvol_create_cb).

use super::blocks::{File, Places};
use super::files::{Wish, Written};
use super::format::{DNODE, ObjectSet, SECTOR, kind};
use super::objects::{Dnodes, Object, Objects};
use super::pointer::About;
use super::store::Store;
use super::zap::{self, Form};
use crate::error::{Error, Kind, Result};
use crate::units::Bytes;
use crate::wire::Wire;

/// The objects of a volume: its contents, and its size (zvol_impl.h, ZVOL_OBJ, ZVOL_ZAP_OBJ).
pub(super) const CONTENTS: u64 = 1;
pub(super) const PROPERTIES: u64 = 2;
/// The type of its object set (dmu.h, DMU_OST_ZVOL).
pub(super) const VOLUME: u64 = 3;

/// Writes a volume of `size` bytes. The places of its contents are added to `places`.
///
/// # Errors
/// [`Kind::Capacity`] where there is no space left, and where the contents are longer than the volume.
pub(super) fn write(wish: &Wish<'_>, size: u64, store: &mut Store, places: &mut Places) -> Result<Written> {
    let mut objects = Objects::new(wish.metadata, wish.source.birth, wish.salt);
    let object = Object::plain(kind::VOLUME, wish.source.manner.block(size));
    let own = wish.source.contents.volume(wish.dataset).filter(|_| !wish.is_empty);
    let file = wish.root()?.filter(|_| own.is_none()).map(|node| (node, wish.tree.size(node)));
    let tree = match own.or(file) {
        None => objects.tree(&object),
        Some((node, length)) => {
            if length > size {
                return Err(Error::new(
                    Kind::Capacity,
                    "a file is longer than the volume that is to have it",
                )
                .at(wish.tree.path(node))
                .about("datasets")
                .expected(format!("at most {}", Bytes::new(size).to_write()))
                .found(Bytes::new(length).to_write()));
            }
            let (file, first) = (File { node, size: length }, places.len());
            wish.source.reserve(file, store, places)?;
            wish.source.tree(file, &objects, store, &mut &places[first..])?
        }
    };
    let mut dnodes = Dnodes::default();
    let mut put = |number: u64, dnode: &[u8; DNODE]| dnodes.put(number, dnode);
    put(CONTENTS, &objects.end(store, &object, tree, None)?.dnode);
    let table = Object::plain(kind::VOLUME_PROPERTIES, SECTOR);
    put(
        PROPERTIES,
        &objects.zap(store, &table, Form::BYTES, &[("size", zap::Value::from(size))], None)?.dnode,
    );
    let count = dnodes.count();
    let set =
        ObjectSet { os_meta_dnode: dnodes.finish(&mut objects, store)?, os_type: VOLUME, ..ObjectSet::BLANK };
    let about = About { kind: kind::OBJSET, level: 0, fill: count, birth: wish.source.birth };
    let root = store.write(about, objects.manner, &set.bytes())?;
    objects.sums += root.sums;
    Ok(Written { root, sums: objects.sums })
}

/// Bytes of metadata that a volume may need, as `zfs create -V` counts them (lib/libzfs/libzfs_dataset.c,
/// zvol_volsize_to_reservation): 7 blocks of dnodes, and indirect blocks of 1024 pointers, in two copies. That code looks for
/// `copies` as text, but its callers give it numbers or nothing: contents count once.
const INDIRECT: u64 = 128 << 10;
const PER_INDIRECT: u64 = 1024;
const COPIES: u64 = 2;

/// What `zfs create -V` and `refreservation=auto` reserve for a volume of `size` bytes in blocks of `block` bytes on one disk.
pub(super) fn reservation(size: u64, block: u64) -> u64 {
    let (mut blocks, mut metadata) = (size / block, 7);
    while blocks > 1 {
        blocks = blocks.div_ceil(PER_INDIRECT);
        metadata += blocks;
    }
    size.saturating_add(metadata * COPIES * INDIRECT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_what_zfs_create_reserves() {
        // zfs(8) of OpenZFS 2.1: 1G with blocks of 8K reserves 1.03G: 131072 blocks, 128 + 1 indirect ones, 7 for dnodes.
        assert_eq!(reservation(1 << 30, 8 << 10), (1 << 30) + 136 * 2 * (128 << 10));
        assert_eq!(reservation(16 << 10, 16 << 10), (16 << 10) + 7 * 2 * (128 << 10));
    }
}
