//! ZFS: a function from a [`Tree`] to the [`Image`](crate::image::Image) of a pool on one disk. OpenZFS 2.1 and newer import
//! it, and zdb finds no fault.
//!
//! A pool is a tree of checksums: what leads to a block has the checksum of the block. So contents are compressed and
//! summed first (`data`), and then blocks are made from the leaves to the root: files, directories, a set of objects for
//! each dataset, the pool's own set, the labels. docs/formats/zfs.md lists every field with its reason.

mod attributes;
mod blocks;
mod checksum;
mod compress;
mod data;
mod dataset;
mod division;
mod dsl;
mod features;
mod files;
mod format;
mod grub;
mod guest;
mod ids;
mod inside;
mod label;
mod maps;
mod mos;
mod names;
mod nvlist;
mod objects;
mod options;
mod parameters;
mod payload;
mod pointer;
mod pool;
mod properties;
mod read;
mod sets;
mod size;
mod space;
mod store;
mod vdevs;
mod volume;
mod whole;
mod xattrs;
mod zap;

use std::sync::Arc;

use super::{Facts, Filesystem, Placement, Size};
use crate::error::{Result, Warning};
use crate::image::Builder;
use crate::pour::Packer;
use crate::tree::{NodeId, Tree, Xattr, acl};
use crate::units::{Bytes, u64_of};
use blocks::{Places, Source};
use data::Contents;
use dataset::{Dataset, Shape};
use division::{Division, Member};
use dsl::{Empty, Filled};
use files::{Wish, Written};
pub(crate) use format::STRUCTURES;
use format::kind;
pub use options::{DatasetKind, DatasetOptions, Options, Via};
use parameters::Parameters;
pub(crate) use read::open;
use space::{Geometry, Space};
use store::Store;
pub(crate) use whole::grows_with_disk;

/// The longest name of a directory entry in bytes (zfs_znode.h, ZAP_MAXNAMELEN less its NUL).
const LONGEST_NAME: u16 = 255;

/// What does not depend on the size of the pool: made once.
#[derive(Debug)]
struct Prepared {
    division: Division,
    contents: Contents,
    /// What is told of filesystems in volumes.
    warnings: Vec<Warning>,
}

impl Prepared {
    fn new(tree: &Arc<Tree>, parameters: &Parameters, packer: &Packer) -> Result<Self> {
        let datasets: Vec<Member<'_>> = parameters.datasets.iter().map(Dataset::member).collect();
        let division = Division::new(tree, &datasets)?;
        let mut files = Vec::new();
        for (node, dataset) in division.files(tree)? {
            if parameters.is_left(parameters.dataset(dataset)?) {
                continue;
            }
            files.push((node, parameters.manner(parameters.dataset(dataset)?)));
        }
        let (volumes, mut warnings) = inside::build(tree, parameters, &division, packer)?;
        warnings.extend(without_acl(tree, parameters, &division)?);
        let contents = Contents::pack(tree, (&files, volumes), packer)?;
        Ok(Self { division, contents, warnings })
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
        let mut store = Store::new(Space::new(geometry), &parameters.enabled)?;
        let mut places = Places::new();
        let mut filled = Vec::new();
        for (number, dataset) in (0..).zip(&parameters.datasets) {
            store.owner(&dataset.name);
            filled.push(fill(tree, parameters, prepared, (number, dataset), (&mut store, &mut places))?);
        }
        let ready = pool::write(&parameters.pool(), &filled, &mut store)?;
        Ok(Self { store, places, ready })
    }

    /// Bytes that are taken, and those that are reserved.
    fn used(&self) -> u64 {
        self.store.space.used().max(self.ready.used)
    }
}

/// Writes a dataset.
fn fill(
    tree: &Tree,
    parameters: &Parameters,
    prepared: &Prepared,
    (number, dataset): (u16, &Dataset),
    (store, places): (&mut Store, &mut Places),
) -> Result<Filled> {
    let (kind, names) = match dataset.shape {
        Shape::Filesystem(names) => (kind::FILE, names),
        Shape::Volume { .. } => (kind::VOLUME, names::Names::default()),
    };
    let manner = parameters.manner(dataset);
    let empties = u64_of(dataset.empty_snapshots.len());
    // Contents are newer than the snapshots that do not have them.
    let birth = pool::BIRTH + if empties > 0 { empties + 1 } else { 0 };
    let source = Source { contents: &prepared.contents, manner, copies: dataset.copies, kind, birth };
    let wish = Wish {
        tree,
        division: &prepared.division,
        dataset: number,
        is_empty: parameters.is_left(dataset),
        source,
        names,
        metadata: store::Manner { copies: (dataset.copies + 1).min(3), checksum: dataset.checksum },
        salt: parameters.ids.number(&format!("salt {}", dataset.name)),
        accounts_objects: parameters.accounts_objects(),
        time: parameters.time,
    };
    let mut write = |wish: &Wish<'_>, store: &mut Store| match dataset.shape {
        Shape::Filesystem(_) => files::write(wish, store, places),
        Shape::Volume { size, .. } => volume::write(wish, size, store, places),
    };
    let empty = if empties > 0 {
        store.remember();
        let source = Source { birth: pool::BIRTH, ..source };
        let Written { root, sums } = write(&Wish { is_empty: true, source, ..wish }, store)?;
        Some(Empty { root, sums, dead: store.remembered()? })
    } else {
        None
    };
    let Written { root, sums } = write(&wish, store)?;
    Ok(Filled { options: dataset.clone(), features: parameters.features(dataset), birth, empty, root, sums })
}

/// What is to be known of access control lists in datasets that do not look at them.
fn without_acl(tree: &Tree, parameters: &Parameters, division: &Division) -> Result<Option<Warning>> {
    let is_acl = |own: &Xattr| own.name == acl::ACCESS || own.name == acl::DEFAULT;
    let has_acl = |node: NodeId| tree.xattrs(tree.node(node).meta.xattrs).iter().any(is_acl);
    if !tree.xattr_sets().iter().flatten().any(is_acl) {
        return Ok(None);
    }
    let mut lists = 0_u64;
    for (number, dataset) in (0..).zip(&parameters.datasets) {
        if dataset.is_volume() || parameters.is_left(dataset) || parameters.obeys_acl(dataset) {
            continue;
        }
        lists += u64::from(division.root(number)?.is_some_and(has_acl));
        for node in division.nodes(tree, number)? {
            lists += u64::from(has_acl(node?));
        }
    }
    Ok((lists > 0).then(|| {
        Warning(format!(
            "access control lists of {lists} files have no effect: the property acltype of their dataset is not posix, and the \
             rights of their groups are those of the mask"
        ))
    }))
}

/// Builds the pool.
///
/// # Errors
/// [`Kind::Capacity`](crate::error::Kind::Capacity) where the contents do not fit the size (by how much), or where ZFS cannot
/// hold part of them; [`Kind::Manifest`](crate::error::Kind::Manifest) for names, properties and sizes that OpenZFS would
/// refuse; errors of the files of the host, which are read here; where a helper VM makes the pool,
/// [`Kind::Source`](crate::error::Kind::Source) for what it needs and for what it says.
pub fn build(tree: &Arc<Tree>, options: &Options, at: &Placement, packer: &Packer) -> Result<Filesystem> {
    if options.via.unwrap_or_default() == Via::Vm {
        return guest::build(tree, options, at, packer);
    }
    guest::refuse(options)?;
    let parameters = Parameters::new(options, at)?;
    tree.check_names(LONGEST_NAME)?;
    parameters.check_grub(tree)?;
    let prepared = packer.once(|packer| Prepared::new(tree, &parameters, packer))?;
    made(tree, &parameters, &prepared, at.size)
}

/// Lays out the pool.
fn made(tree: &Tree, parameters: &Parameters, prepared: &Prepared, size: Size) -> Result<Filesystem> {
    let (pool, length) = size::fit(tree, parameters, prepared, size)?;
    let geometry = pool.store.space.geometry;
    let used = pool.store.space.used();
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
    let early = (parameters.time.seconds < 0).then(|| {
        Warning("a ZFS pool is made in 1970 or later: the time of the disk became 1970-01-01".to_owned())
    });
    let own = tree.owner_warnings().into_iter().chain(prepared.warnings.iter().cloned());
    let warnings = own.chain(early).collect();
    Ok(Filesystem { image: image.finish()?, facts, warnings, others: Vec::new() })
}
