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

/// The smallest pool that holds the contents. With `free`, so much is free beyond what is kept back.
fn smallest(tree: &Tree, parameters: &Parameters, prepared: &Prepared, free: Option<u64>) -> Result<Pool> {
    let has_space = |geometry: &Geometry, used: u64| match free {
        Some(free) => geometry.capacity() >= used.saturating_add(free).saturating_add(geometry.slop()),
        None => geometry.capacity() >= used,
    };
    // What is used depends little on the size, so it is measured where there is surely space enough: for three copies of
    // the contents, and 16 KiB of metadata for each name.
    let ample =
        prepared.contents.allocated()?.saturating_mul(4).saturating_add(u64_of(tree.len()) * 16 * KIB);
    let geometry = parameters.geometry(Bytes::new(ample.saturating_add(GIB)))?;
    let used = Pool::new(tree, parameters, prepared, geometry)?.used();
    let least = used.saturating_add(free.unwrap_or_default()).saturating_add(5 * MIB).max(64 * MIB);
    let mut geometry = parameters.geometry(Bytes::new(least))?;
    while !has_space(&geometry, used) {
        geometry = parameters.geometry(Bytes::new(geometry.device_of(geometry.metaslabs() + 1)))?;
    }
    loop {
        // No byte behind the last metaslab; the smallest device is longer than its metaslabs.
        let exact = geometry.device_of(geometry.metaslabs()).max(64 * MIB);
        let now = parameters.geometry(Bytes::new(exact))?;
        match Pool::new(tree, parameters, prepared, now) {
            Ok(pool) if has_space(&now, pool.used()) => return Ok(pool),
            Err(error) if !is_full(&error) => return Err(error),
            // Some space is lost at the borders of metaslabs.
            _ => geometry = parameters.geometry(Bytes::new(now.device_of(now.metaslabs() + 1)))?,
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
