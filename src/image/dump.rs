//! The image as a text map with one line per segment and hole: for `--dry-run --map`, for golden files, for
//! debugging.

use std::fmt::Write as _;
use std::io::Write;

use super::{Data, Image, Segment};
use crate::error::{Error, Kind, Result};
use crate::units::{Bytes, usize_of};

/// How many rendered bytes are checksummed at a time.
const PIECE: u64 = 1 << 20;

/// Writes the map of `image`: offset and length in bytes, the kind of bytes, the CRC32 of bytes that we make,
/// and the label. The CRC is that of zlib and not the CRC32C of ext4: the CRC32C of bytes that end with their
/// own CRC32C would always be the same. File data shows the host path; below `root` it is relative to `root`,
/// so that the map of a fixture is the same in every checkout.
///
/// # Errors
/// [`Kind::Output`] where `out` cannot be written.
pub fn dump(image: &Image, root: Option<&std::path::Path>, out: &mut dyn Write) -> Result<()> {
    let mut at = Bytes::ZERO;
    let failed = |error: std::io::Error| Error::new(Kind::Output, "cannot write the map").because(error);
    writeln!(out, "image {} bytes", image.length().get()).map_err(failed)?;
    let hole = |from: Bytes, to: Bytes, out: &mut dyn Write| match to.checked_sub(from) {
        Some(length) if length > Bytes::ZERO => {
            writeln!(out, "{:>14} {:>12} hole", from.get(), length.get()).map_err(failed)
        }
        _ => Ok(()),
    };
    for segment in image.segments() {
        hole(at, segment.offset, out)?;
        let mut line = format!("{:>14} {:>12} ", segment.offset.get(), segment.length.get());
        describe(image, segment, root, &mut line)?;
        writeln!(out, "{line}").map_err(failed)?;
        at = segment.end();
    }
    hole(at, image.length(), out)
}

/// The kind, checksum and label of one segment.
fn describe(
    image: &Image,
    segment: &Segment,
    root: Option<&std::path::Path>,
    line: &mut String,
) -> Result<()> {
    if let Some(host) = image.host_file(segment)? {
        let path = root.and_then(|root| host.path.strip_prefix(root).ok()).unwrap_or(&host.path);
        let _ = write!(line, "file           {}", crate::text::printable_path(path));
        if let Data::File { skip, .. } = segment.data
            && skip > 0
        {
            let _ = write!(line, " from {skip}");
        }
        return Ok(());
    }
    let mut crc = crc32fast::Hasher::new();
    let mut from = segment.offset.get();
    let mut buffer = Vec::new();
    while from < segment.end().get() {
        let length = PIECE.min(segment.end().get() - from);
        buffer.resize(usize_of(length), 0);
        image.read(from, &mut buffer)?;
        crc.update(&buffer);
        from += length;
    }
    let _ = write!(line, "bytes {:08x} {}", crc.finalize(), image.label(segment));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Builder;

    #[test]
    fn the_map_shows_a_change_under_a_checksum_of_its_own() {
        let map = |byte: u8| {
            // As in ext4's superblock: the bytes, then their CRC32C without its final inversion.
            let mut bytes = vec![byte; 1020];
            let crc = !crc32c::crc32c(&bytes);
            bytes.extend_from_slice(&crc.to_le_bytes());
            let mut builder = Builder::new(Bytes::new(4096));
            builder.bytes(Bytes::new(1024), "superblock", bytes);
            let mut out = Vec::new();
            dump(&builder.finish().unwrap(), None, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(map(1).lines().count(), 4, "{}", map(1));
        assert_ne!(map(1), map(2));
    }
}
