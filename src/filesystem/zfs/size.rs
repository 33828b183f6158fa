//! The size of a pool: the smallest that holds its contents, or a given one if that is large enough.

use super::parameters::Parameters;
use super::space::Geometry;
use super::{Pool, Prepared};
use crate::error::{Error, Kind, Result};
use crate::filesystem::Size;
use crate::tree::Tree;
use crate::units::{Bytes, GIB, KIB, MIB, u64_of};

/// Free space if none is asked for, 16 MiB, as for ext4: a system needs some to make directories and files at its first
/// boot.
const DEFAULT_FREE: u64 = 16 << 20;

/// Lays out a pool, and says how long its device is.
pub(super) fn fit(
    tree: &Tree,
    parameters: &Parameters,
    prepared: &Prepared,
    size: Size,
) -> Result<(Pool, Bytes)> {
    match size {
        Size::Fixed(size) => {
            let geometry = parameters.geometry(size)?;
            match Pool::new(tree, parameters, prepared, geometry) {
                Ok(pool) if pool.used() > geometry.capacity() => {
                    Err(too_small(tree, parameters, prepared, size)?)
                }
                Ok(pool) => Ok((pool, size)),
                Err(error) if is_full(&error) => Err(too_small(tree, parameters, prepared, size)?),
                Err(error) => Err(error),
            }
        }
        Size::Auto => {
            let free = parameters.free.map_or(DEFAULT_FREE, Bytes::get);
            let pool = smallest(tree, parameters, prepared, Some(free))?;
            let length = Bytes::new(pool.store.space.geometry.device);
            Ok((pool, length))
        }
    }
}

/// Whether an error is that there is no space left.
fn is_full(error: &Error) -> bool {
    error.kind() == Kind::Capacity && error.key() == Some("size")
}

/// What decides the smallest size of a pool.
struct Smallest<'a> {
    tree: &'a Tree,
    parameters: &'a Parameters,
    prepared: &'a Prepared,
    /// Bytes that are free beyond what is kept back; `None` where nothing is.
    free: Option<u64>,
}

/// What an inode takes of the metadata, and what a directory takes besides, both copies, as measured in /usr of a Debian: a
/// dnode compresses to a quarter, and small directories are inside their dnodes. An empty pool takes less than a MiB.
/// These numbers decide nothing but whether a pool is laid out once.
const INODE: u64 = 256;
const DIRECTORY: u64 = 3584;
const EMPTY: u64 = MIB;

impl Smallest<'_> {
    fn pool(&self, geometry: Geometry) -> Result<Pool> {
        Pool::new(self.tree, self.parameters, self.prepared, geometry)
    }

    fn has_space(&self, geometry: &Geometry, used: u64) -> bool {
        match self.free {
            Some(free) => geometry.capacity() >= used.saturating_add(free).saturating_add(geometry.slop()),
            None => geometry.capacity() >= used,
        }
    }

    /// The smallest device with space for `used` bytes. It has no byte behind its last metaslab, but is no smaller than a
    /// device can be.
    fn device(&self, used: u64) -> Result<Geometry> {
        let least = used.saturating_add(self.free.unwrap_or_default()).saturating_add(5 * MIB).max(64 * MIB);
        let mut geometry = self.parameters.geometry(Bytes::new(least))?;
        while !self.has_space(&geometry, used) {
            geometry = self.parameters.geometry(Bytes::new(geometry.device_of(geometry.metaslabs() + 1)))?;
        }
        self.exact(geometry)
    }

    fn exact(&self, geometry: Geometry) -> Result<Geometry> {
        let exact = geometry.device_of(geometry.metaslabs()).max(64 * MIB);
        self.parameters.geometry(Bytes::new(exact))
    }

    /// A pool that shows how many bytes are used. That depends little on the size, so it is laid out in the size that it will
    /// probably have, or where that is too small, where there is surely space enough: for three copies of the contents, and
    /// 16 KiB of metadata for each name.
    fn first(&self) -> Result<(Pool, Geometry)> {
        let (tree, contents) = (self.tree, &self.prepared.contents);
        let (data, names) = (contents.allocated()?, u64_of(tree.len()));
        let directories = u64_of(tree.ids().filter(|node| tree.is_directory(*node)).count());
        let copies = self.parameters.datasets.iter().map(|dataset| dataset.copies).max().unwrap_or(1);
        let metadata = names * INODE + directories * DIRECTORY + 2 * contents.leading() + EMPTY;
        let guess = data.saturating_mul(u64_of(copies)).saturating_add(metadata);
        let geometry = self.device(guess)?;
        match self.pool(geometry) {
            Err(error) if is_full(&error) => {
                let ample = data.saturating_mul(4).saturating_add(names * 16 * KIB);
                let geometry = self.parameters.geometry(Bytes::new(ample.saturating_add(GIB)))?;
                Ok((self.pool(geometry)?, geometry))
            }
            pool => Ok((pool?, geometry)),
        }
    }
}

/// The smallest pool that holds the contents. With `free`, so much is free beyond what is kept back.
fn smallest(tree: &Tree, parameters: &Parameters, prepared: &Prepared, free: Option<u64>) -> Result<Pool> {
    let smallest = Smallest { tree, parameters, prepared, free };
    let (pool, first) = smallest.first()?;
    let mut geometry = smallest.device(pool.used())?;
    if geometry == first && smallest.has_space(&first, pool.used()) {
        return Ok(pool);
    }
    drop(pool);
    loop {
        match smallest.pool(geometry) {
            Ok(pool) if smallest.has_space(&geometry, pool.used()) => return Ok(pool),
            Err(error) if !is_full(&error) => return Err(error),
            // Some space is lost at the borders of metaslabs.
            _ => {
                let more = geometry.device_of(geometry.metaslabs() + 1);
                geometry = smallest.exact(parameters.geometry(Bytes::new(more))?)?;
            }
        }
    }
}

/// The error for contents that do not fit: by how much, and which of them are large.
fn too_small(tree: &Tree, parameters: &Parameters, prepared: &Prepared, size: Bytes) -> Result<Error> {
    let pool = smallest(tree, parameters, prepared, None)?;
    let needed = Bytes::new(pool.store.space.geometry.device).max(size + Bytes::new(MIB));
    let missing = needed.saturating_sub(size);
    let error = Error::new(
        Kind::Capacity,
        format!("the contents do not fit the ZFS pool: {} too much", missing.human()),
    )
    .needs(needed)
    .expected(format!("a size of at least {}", needed.to_write()))
    .found(size.human());
    Ok(error.or_hint(tree.largest_hint()))
}

#[cfg(test)]
mod tests {
    use super::super::options::{DatasetOptions, Options};
    use super::*;
    use crate::filesystem::Placement;
    use crate::pour::Packer;
    use crate::tree::{Builder, Meta, Time};

    /// The size that a pool is laid out in first and the one that it has, with the bytes that are used.
    fn sizes(files: u64, length: u64, options: &Options) -> (u64, u64, u64) {
        let mut builder = Builder::new(Time::default());
        let origin = builder.origin("a test");
        for number in 0..files {
            // No two bytes in a row are alike, so nothing compresses.
            let bytes = (0..length).map(|at| crate::units::low8(((number + at * at * 31) >> 3) ^ (at * 7)));
            let bytes: Vec<u8> = bytes.collect();
            let path = format!("/usr/share/folder-{}/a file with number {number}", number / 40);
            builder.text(path.as_bytes(), bytes, Meta::root(0o644, Time::seconds(7)), origin).unwrap();
        }
        let tree = std::sync::Arc::new(builder.finish(1).unwrap());
        let at = Placement::alone(uuid::Uuid::from_u128(7));
        let parameters = Parameters::new(options, &at).unwrap();
        let packer = Packer::default();
        let prepared = Prepared::new(&tree, &parameters, &packer).unwrap();
        let smallest =
            Smallest { tree: &tree, parameters: &parameters, prepared: &prepared, free: Some(DEFAULT_FREE) };
        let (_, first) = smallest.first().unwrap();
        let (pool, size) = fit(&tree, &parameters, &prepared, Size::Auto).unwrap();
        assert!(smallest.has_space(&pool.store.space.geometry, pool.used()));
        (first.device, size.get(), pool.used())
    }

    #[test]
    fn a_pool_is_laid_out_once_where_its_size_can_be_guessed() {
        for (files, length) in [(0, 0), (10_000, 3), (3000, 2000), (3000, 20_000)] {
            let (first, last, used) = sizes(files, length, &Options::default());
            assert_eq!(first, last, "{files} files of {length} bytes use {used}");
        }
    }

    #[test]
    fn a_size_that_cannot_be_guessed_is_found_all_the_same() {
        let dataset = DatasetOptions {
            properties: [("refreservation".to_owned(), crate::values::Property("900M".to_owned()))].into(),
            ..DatasetOptions::default()
        };
        let options = Options { datasets: [("data".to_owned(), dataset)].into(), ..Options::default() };
        let (first, last, used) = sizes(10, 3, &options);
        assert!(first < 600 * MIB && last > 900 * MIB && used > 900 * MIB, "{first} {last} {used}");
    }
}
