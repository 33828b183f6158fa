//! ZFS: a function from a [`Tree`] to the [`Image`](crate::image::Image) of a pool on one disk. OpenZFS 2.1 and newer import
//! it, and zdb finds no fault.
//!
//! A pool is a tree of checksums: what leads to a block has the checksum of the block. So contents are compressed and
//! summed first ([`data`]), and then blocks are made from the leaves to the root: files, directories, a set of objects for
//! each dataset, the pool's own set, the labels. docs/formats/zfs.md lists every field with its reason.

mod attributes;
mod checksum;
mod compress;
mod data;
mod division;
mod dsl;
mod features;
mod files;
mod format;
mod ids;
mod label;
mod mos;
mod nvlist;
mod objects;
mod options;
mod parameters;
mod pointer;
mod pool;
mod properties;
mod size;
mod space;
mod store;
mod zap;

use std::sync::Arc;

use super::{Facts, Filesystem, Placement};
use crate::error::Result;
use crate::image::Builder;
use crate::pour::Packer;
use crate::tree::Tree;
use crate::units::Bytes;
use data::Contents;
use division::Division;
use dsl::Filled;
use files::Places;
pub(crate) use format::STRUCTURES;
pub use options::{DatasetOptions, Options};
use parameters::Parameters;
use space::{Geometry, Space};
use store::Store;

/// The longest name of a directory entry in bytes (zfs_znode.h, ZAP_MAXNAMELEN less its NUL).
const LONGEST_NAME: u16 = 255;

/// What does not depend on the size of the pool: made once.
#[derive(Debug)]
struct Prepared {
    division: Division,
    contents: Contents,
}

impl Prepared {
    fn new(tree: &Arc<Tree>, parameters: &Parameters, packer: &Packer) -> Result<Self> {
        let datasets: Vec<(&str, Option<&[u8]>)> = parameters
            .datasets
            .iter()
            .map(|dataset| (dataset.name.as_str(), dataset.mount.as_deref().map(str::as_bytes)))
            .collect();
        let division = Division::new(tree, &datasets)?;
        let mut files = Vec::new();
        for (node, dataset) in division.files(tree) {
            files.push((node, parameters.dataset(dataset)?.manner(parameters.ashift)));
        }
        let contents = Contents::pack(tree, &files, packer)?;
        Ok(Self { division, contents })
    }
}

/// A pool whose blocks have their places.
#[derive(Debug)]
struct Pool {
    store: Store,
    places: Places,
    ready: pool::Ready,
}

impl Pool {
    /// Lays out a pool.
    ///
    /// # Errors
    /// [`Kind::Capacity`](crate::error::Kind::Capacity) where it is too small, or where it cannot hold something.
    fn new(tree: &Tree, parameters: &Parameters, prepared: &Prepared, geometry: Geometry) -> Result<Self> {
        let mut store = Store::new(Space::new(geometry));
        let mut places = Places::new();
        let mut filled = Vec::new();
        for (number, dataset) in (0..).zip(&parameters.datasets) {
            store.owner(&dataset.name);
            let wish = files::Wish {
                tree,
                division: &prepared.division,
                contents: &prepared.contents,
                dataset: number,
                data: dataset.manner(parameters.ashift),
                copies: dataset.copies,
                metadata: store::Manner { copies: (dataset.copies + 1).min(3), checksum: dataset.checksum },
                birth: pool::BIRTH,
                salt: parameters.ids.number(&format!("salt {}", dataset.name)),
                accounts_objects: parameters.accounts_objects(),
                time: parameters.time,
            };
            let written = files::write(&wish, &mut store, &mut places)?;
            filled.push(Filled {
                name: dataset.name.clone(),
                properties: dataset.properties.clone(),
                quota: dataset.quota,
                reservation: dataset.reservation,
                snapshots: dataset.snapshots.clone(),
                features: parameters.features(dataset),
                root: written.root,
                sums: written.sums,
            });
        }
        let ready = pool::write(&parameters.pool(), &filled, &mut store)?;
        Ok(Self { store, places, ready })
    }

    /// Bytes that are taken.
    fn used(&self) -> u64 {
        self.store.space.used()
    }
}

/// Builds the pool.
///
/// # Errors
/// [`Kind::Capacity`](crate::error::Kind::Capacity) where the contents do not fit the size (by how much), or where ZFS cannot
/// hold part of them; [`Kind::Manifest`](crate::error::Kind::Manifest) for names, properties and sizes that OpenZFS would
/// refuse; errors of the files of the host, which are read here.
pub fn build(tree: &Arc<Tree>, options: &Options, at: &Placement, packer: &Packer) -> Result<Filesystem> {
    let parameters = Parameters::new(options, at)?;
    tree.check_names(LONGEST_NAME)?;
    let prepared = packer.once(|packer| Prepared::new(tree, &parameters, packer))?;
    let (pool, length) = size::fit(tree, &parameters, &prepared, at.size)?;
    let geometry = pool.store.space.geometry;
    let used = pool.used();
    let mut image = Builder::new(length);
    for offset in label::offsets(&geometry) {
        let label = label::label(&geometry, offset, &pool.ready.config, &pool.ready.uberblock)?;
        image.bytes(Bytes::new(offset), "zfs: label", label);
    }
    for (place, chunk) in &pool.places {
        prepared.contents.put(&mut image, label::BASE + place, *chunk)?;
    }
    pool.store.finish(&mut image, label::BASE);
    let unit = 1 << geometry.ashift;
    let facts = Facts {
        kind: "zfs",
        label: parameters.name.clone(),
        uuid: parameters.pool().guid().to_string(),
        block_size: unit,
        blocks: geometry.capacity() / unit,
        free_blocks: (geometry.capacity() - used) / unit,
        journal: 0,
        inodes: None,
        free_inodes: None,
    };
    Ok(Filesystem { image: image.finish()?, facts, warnings: tree.owner_warnings() })
}
