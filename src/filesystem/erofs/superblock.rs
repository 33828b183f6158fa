//! The superblock, and what a reader has to know of the compression.

use super::Parameters;
use super::codec::Codec;
use super::format::{Lz4Config, SUPERBLOCK_AT, Superblock, ZstdConfig, compat, incompat};
use super::pack::algorithm;
use super::plan::Plan;
use crate::error::Result;
use crate::image::Builder;
use crate::units::{Bytes, narrow, u64_of, usize_of};
use crate::wire::{Field, Wire, field};

const CHECKSUM: Field = field(Superblock::FIELDS, "checksum");

/// How many blocks stand before the first that is free.
pub(super) const fn blocks(options: &Parameters) -> u64 {
    end().div_ceil(options.block)
}

/// Where the superblock ends, with the longest configuration, that of lz4.
pub(super) const fn end() -> u64 {
    SUPERBLOCK_AT + u64_of(Superblock::LENGTH + Lz4Config::LENGTH)
}

/// The checksum of a superblock with what follows it in its block: CRC-32C without the inversion at the end, which the
/// function of the crate adds.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    !crc32c::crc32c(bytes)
}

/// How many bytes the checksum covers (erofs_superblock_csum_verify): all of a block from the superblock on.
pub(super) const fn covered(block: u64) -> u64 {
    if block > SUPERBLOCK_AT { block - SUPERBLOCK_AT } else { block }
}

/// Puts the superblock into its blocks, which hold inodes in `front`.
pub(super) fn put(image: &mut Builder, plan: &Plan, options: &Parameters, front: &[u8]) -> Result<()> {
    let contents = &plan.contents;
    let mut superblock = Superblock {
        feature_compat: compat::CHECKSUM | compat::MTIME,
        blkszbits: narrow(options.block.trailing_zeros(), "blkszbits")?,
        root_nid: narrow(plan.nid(0)?, "rootnid_2b")?,
        inos: u64_of(contents.inodes.len()),
        epoch: contents.epoch.seconds.unsigned_abs(),
        fixed_nsec: contents.epoch.nanoseconds,
        blocks: narrow(plan.end, "blocks_lo")?,
        xattr_blkaddr: narrow(plan.shared, "xattr_blkaddr")?,
        uuid: options.uuid,
        ..Superblock::BLANK
    };
    superblock.volume_name[..options.label.len()].copy_from_slice(options.label.as_bytes());
    if contents.xattrs.any() {
        superblock.feature_compat |= compat::XATTR_FILTER;
    }
    if plan.has_chunks()? {
        superblock.feature_incompat |= incompat::CHUNKED;
    }
    if options.codec.is_some() {
        superblock.feature_incompat |= incompat::LZ4_0PADDING | incompat::COMPR_CFGS;
        if options.loose {
            superblock.feature_incompat |= incompat::BIT48;
        }
        superblock.algorithms = 1 << algorithm(options.codec);
    }
    let mut bytes = front[usize_of(SUPERBLOCK_AT)..].to_vec();
    let configuration = configuration(options)?;
    bytes[Superblock::LENGTH..][..configuration.len()].copy_from_slice(&configuration);
    superblock.write_to(&mut bytes);
    let sum = checksum(&bytes[..usize_of(covered(options.block))]);
    bytes[CHECKSUM.offset..CHECKSUM.end()].copy_from_slice(&sum.to_le_bytes());
    image.bytes(Bytes::new(SUPERBLOCK_AT), "erofs: superblock", bytes);
    Ok(())
}

/// What stands behind the superblock.
fn configuration(options: &Parameters) -> Result<Vec<u8>> {
    Ok(match options.codec {
        None => Vec::new(),
        Some(Codec::Lz4 | Codec::Lz4hc(_)) => {
            let max_pclusterblks = narrow(options.chunk / options.block, "max_pclusterblks")?;
            // 64 KiB less one, the farthest that lz4 can tell.
            Lz4Config { max_distance: u16::MAX, max_pclusterblks, ..Lz4Config::BLANK }.bytes().to_vec()
        }
        // A frame in one piece has no larger window than its content.
        Some(Codec::Zstd(_)) => {
            let windowlog = narrow(options.chunk.trailing_zeros() - 10, "windowlog")?;
            ZstdConfig { windowlog, ..ZstdConfig::BLANK }.bytes().to_vec()
        }
    })
}
