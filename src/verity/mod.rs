//! dm-verity: a tree of hashes over the blocks of a partition, whose root lets the kernel verify each block as it is read.
//!
//! [`build`] makes the hash device of a slice of an image, byte for byte as `veritysetup format` makes it. [`size`] says
//! before how large it will be. [`signature`] is about root hashes that somebody vouches for.
//!
//! Source: Linux, Documentation/admin-guide/device-mapper/verity.rst; cryptsetup 2.6, `lib/verity/verity_hash.c`.
//! docs/formats/verity.md has the format in tables.

mod format;
mod options;
mod root;
pub mod signature;
mod tree;

pub(crate) use format::STRUCTURES;
use format::Superblock;
pub use options::{Algorithm, BlockSize, HashType, Options};
pub use root::RootHash;
use tree::{Packing, Tree};

use crate::error::{Error, Kind, Result};
use crate::image::{Builder, Image, Slice};
use crate::pour::Packer;
use crate::units::{Bytes, narrow};
use crate::wire::Wire;

/// A hash device and what is known of it.
#[derive(Clone, Debug)]
pub struct Hashes {
    /// The hash device: superblock and tree.
    pub image: Image,
    /// The hash of the topmost block.
    pub root: RootHash,
    /// How many blocks of data are verified.
    pub data_blocks: u64,
}

/// How many bytes the hash device of `data` bytes takes.
///
/// # Errors
/// [`Kind::Manifest`] for options that do not fit the format; [`Kind::Capacity`] for data that is not a whole number of
/// blocks, since the kernel would not verify the last block, and for no data.
pub fn size(options: &Options, data: Bytes) -> Result<Bytes> {
    let levels = Packing::new(options).levels(blocks(options, data)?);
    length(levels, options.hash_block_size)
}

/// Hashes `length` bytes of `data`, which is read once, on all threads of `packer`; where `data` ends earlier, zeros follow.
/// The hashes are kept in spools, so a thread has a few MiB of memory, however long the data is.
///
/// # Errors
/// As [`size`]; [`Kind::Source`] for a host file that is gone or changed, [`Kind::Output`] where the hashes
/// cannot be kept, [`Kind::Interrupted`] after a signal.
pub fn build(options: &Options, data: &Slice, length: Bytes, packer: &Packer) -> Result<Hashes> {
    let data_blocks = blocks(options, length)?;
    data.image().settle(&packer.options())?;
    let data = data.sub(Bytes::ZERO, length);
    let Tree { levels, root } = match options.algorithm {
        Algorithm::Sha1 => tree::build::<sha1::Sha1>(options, &data, data_blocks, packer),
        Algorithm::Sha256 => tree::build::<sha2::Sha256>(options, &data, data_blocks, packer),
        Algorithm::Sha384 => tree::build::<sha2::Sha384>(options, &data, data_blocks, packer),
        Algorithm::Sha512 => tree::build::<sha2::Sha512>(options, &data, data_blocks, packer),
    }?;
    let mut image = Builder::new(size(options, length)?);
    image.bytes(Bytes::ZERO, "dm-verity superblock", superblock(options, data_blocks)?);
    let mut at = Bytes::new(options.hash_block_size.bytes());
    for level in levels.iter().rev() {
        image.put(at, &level.whole());
        at += level.length();
    }
    Ok(Hashes { image: image.finish()?, root: RootHash::new(root)?, data_blocks })
}

/// The bytes of a superblock and of levels with so many blocks each.
fn length(mut levels: impl Iterator<Item = u64>, block: BlockSize) -> Result<Bytes> {
    // Hashes take at most as many bytes as the data that they are of, with the superblock.
    levels
        .try_fold(1_u64, u64::checked_add)
        .and_then(|blocks| blocks.checked_mul(block.bytes()))
        .map(Bytes::new)
        .ok_or_else(|| Error::bug("the hashes of dm-verity have no length"))
}

/// How many blocks of data there are.
fn blocks(options: &Options, data: Bytes) -> Result<u64> {
    options.check()?;
    let block = options.data_block_size.bytes();
    if data == Bytes::ZERO || !data.is_multiple_of(block) {
        return Err(Error::new(Kind::Capacity, "dm-verity cannot verify all of the data")
            .expected(format!("one or more blocks of {block} bytes"))
            .found(format!("{} bytes", data.get()))
            .hint("give the data a size that is a multiple of the block, or take smaller data blocks"));
    }
    Ok(data.get() / block)
}

/// The superblock, without the zeros behind it.
fn superblock(options: &Options, data_blocks: u64) -> Result<Vec<u8>> {
    let mut superblock = Superblock {
        hash_type: options.hash_type.number(),
        uuid: options.uuid,
        data_block_size: options.data_block_size.get(),
        hash_block_size: options.hash_block_size.get(),
        data_blocks,
        salt_size: narrow(options.salt.len(), "salt_size")?,
        ..Superblock::BLANK
    };
    for (field, text) in [
        (&mut superblock.algorithm[..], options.algorithm.name().as_bytes()),
        (&mut superblock.salt[..], &options.salt[..]),
    ] {
        let field = field.get_mut(..text.len());
        field
            .ok_or_else(|| Error::bug("a field of dm-verity's superblock is too short"))?
            .copy_from_slice(text);
    }
    Ok(superblock.bytes().to_vec())
}

#[cfg(test)]
mod tests;
