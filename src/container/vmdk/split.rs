//! Disks in several files: a descriptor, and beside it the extents that it names (VDF, "The Descriptor File"). The names of the
//! extents follow from that of the descriptor, as VMware and QEMU choose them.

use std::path::{Path, PathBuf};

use super::{CreateType, Layout, Options, SECTOR, descriptor, sparse_file};
use crate::container::{Identity, open};
use crate::error::{Error, Kind, Result};
use crate::image::{Builder, Image};
use crate::text::printable_path;
use crate::units::Bytes;

/// Sectors of an extent of a split disk: 2047 MiB, so that the tables of a full sparse one fit in 2 GiB with it.
const PART: u64 = 4_192_256;
/// The most extents: all that have numbers of three digits. A process may have 1024 files open by default (getrlimit(2)).
const MOST: u64 = 999;

/// An extent: its name, and its part of the disk in sectors.
struct Extent {
    name: String,
    start: u64,
    end: u64,
}

/// The extents of a disk of `length` bytes whose descriptor is `path`.
fn extents(create_type: CreateType, length: Bytes, path: &Path) -> Result<Vec<Extent>> {
    let sectors = super::LENGTHS.round_up(length).get() / SECTOR;
    let stem = stem(path)?;
    if create_type == CreateType::MonolithicFlat {
        return Ok(vec![Extent { name: format!("{stem}-flat.vmdk"), start: 0, end: sectors }]);
    }
    if sectors.div_ceil(PART) > MOST {
        return Err(Error::new(Kind::Capacity, "the disk is too large for a vmdk in parts of 2 GiB")
            .expected(format!("at most {} bytes", MOST * PART * SECTOR))
            .found(length.in_full())
            .remedy("subformat", "the subformat monolithicFlat holds larger ones"));
    }
    let letter = if create_type == CreateType::TwoGbMaxExtentSparse { 's' } else { 'f' };
    let part = |number: u64| Extent {
        name: format!("{stem}-{letter}{:03}.vmdk", number + 1),
        start: number * PART,
        end: sectors.min((number + 1) * PART),
    };
    Ok((0..sectors.div_ceil(PART)).map(part).collect())
}

/// What the names of extents begin with.
fn stem(path: &Path) -> Result<String> {
    let suffix = path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("vmdk"));
    let stem = if suffix { path.file_stem() } else { path.file_name() };
    let stem = stem.unwrap_or_default();
    let plain = |stem: &&str| {
        !stem.contains('"') && !stem.contains(char::is_control) && !open::has_protocol(stem.as_bytes())
    };
    stem.to_str().filter(plain).map(str::to_owned).ok_or_else(|| {
        Error::new(Kind::Usage, "a descriptor cannot name files that are called so")
            .at(path)
            .expected("a name in UTF-8 without quotes, colons and control characters")
            .found(printable_path(path))
    })
}

/// The files of a disk of `length` bytes, the descriptor first.
///
/// # Errors
/// As [`files`].
pub(in crate::container) fn names(options: &Options, length: Bytes, path: &Path) -> Result<Vec<PathBuf>> {
    let extents = extents(options.create_type, length, path)?;
    let names = extents.into_iter().map(|extent| path.with_file_name(extent.name));
    Ok([path.to_owned()].into_iter().chain(names).collect())
}

/// The files of `image`, the descriptor first.
///
/// # Errors
/// [`Kind::Capacity`] where there would be too many, [`Kind::Usage`] for a name that a descriptor cannot hold.
pub(in crate::container) fn files(
    image: &Image,
    options: &Options,
    identity: &Identity,
    path: &Path,
) -> Result<Vec<(PathBuf, Image)>> {
    let extents = extents(options.create_type, image.length(), path)?;
    let sparse = options.create_type == CreateType::TwoGbMaxExtentSparse;
    let (mut lines, mut parts) = (Vec::new(), Vec::new());
    for Extent { name, start, end } in &extents {
        let mut part = Builder::new(super::bytes(end - start));
        part.put(Bytes::ZERO, &image.slice(super::bytes(*start), super::bytes(*end)));
        let part = part.finish()?;
        let part = if sparse { sparse_file(&part, Layout::new(&part)?, None)? } else { part };
        let kind = if sparse { format!("SPARSE \"{name}\"") } else { format!("FLAT \"{name}\" 0") };
        lines.push(format!("RW {} {kind}", end - start));
        parts.push((path.with_file_name(name), part));
    }
    let kind = match options.create_type {
        CreateType::MonolithicFlat => "monolithicFlat",
        CreateType::TwoGbMaxExtentSparse => "twoGbMaxExtentSparse",
        _ => "twoGbMaxExtentFlat",
    };
    let capacity = extents.last().map_or(0, |extent| extent.end);
    let text = descriptor::text(&options.says(kind, capacity, identity), &lines).into_bytes();
    let mut file = Builder::new(Bytes::new(crate::units::u64_of(text.len())));
    file.bytes(Bytes::ZERO, "vmdk: descriptor", text);
    parts.insert(0, (path.to_owned(), file.finish()?));
    Ok(parts)
}
