//! The bmap file of an image (bmap-tools, version 2.0): which blocks have data, and their digests. `bmaptool copy` writes only
//! those to a device, and compares them.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::encoding::to_hex;
use crate::error::Result;
use crate::image::Image;
use crate::pour::PourOptions;
use crate::units::{MIB, u64_of, usize_of};

const BLOCK: u64 = 4096;
/// The digest of the file is computed with this in its place.
const NO_DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The file for an image.
///
/// # Errors
/// As reading the image.
pub(crate) fn of(image: &Image, options: &PourOptions<'_>) -> Result<String> {
    image.settle(options)?;
    let length = image.length().get();
    // First and last block of each run; the file has the last one too.
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for segment in image.segments() {
        let (first, last) = (segment.offset.get() / BLOCK, (segment.end().get() - 1) / BLOCK);
        match runs.last_mut() {
            Some(run) if first <= run.1 + 1 => run.1 = run.1.max(last),
            _ => runs.push((first, last)),
        }
    }
    let mapped: u64 = runs.iter().map(|(first, last)| last - first + 1).sum();
    let mut ranges = String::new();
    let (mut cursor, mut buffer) = (image.cursor(), vec![0; usize_of(MIB)]);
    for (first, last) in &runs {
        let mut hash = Sha256::new();
        let (mut at, end) = (first * BLOCK, ((last + 1) * BLOCK).min(length));
        while at < end {
            options.progress.check()?;
            let piece = &mut buffer[..usize_of((end - at).min(MIB))];
            cursor.read(at, piece)?;
            hash.update(&*piece);
            at += u64_of(piece.len());
        }
        let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
        let digest = to_hex(&hash.finalize());
        // Writing to a text cannot fail.
        let _ = writeln!(ranges, "        <Range chksum=\"{digest}\"> {range} </Range>");
    }
    let text = |digest: &str| {
        format!(
            "<?xml version=\"1.0\" ?>\n<bmap version=\"2.0\">\n    <ImageSize> {length} </ImageSize>\n    <BlockSize> {BLOCK} </BlockSize>\n    \
             <BlocksCount> {} </BlocksCount>\n    <MappedBlocksCount> {mapped} </MappedBlocksCount>\n    <ChecksumType> sha256 \
             </ChecksumType>\n    <BmapFileChecksum> {digest} </BmapFileChecksum>\n    <BlockMap>\n{ranges}    </BlockMap>\n</bmap>\n",
            length.div_ceil(BLOCK)
        )
    };
    let digest = to_hex(&Sha256::digest(text(NO_DIGEST).as_bytes()));
    Ok(text(&digest))
}
