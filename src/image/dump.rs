//! The image as a text map: one line per segment and hole, for `--dry-run`, for golden files, for debugging.

use std::fmt::Write as _;
use std::io::Write;

use super::{Data, Image, Segment};
use crate::error::{Error, Kind, Result};
use crate::units::{Bytes, usize_of};

/// How much of rendered bytes is checksummed at a time.
const PIECE: u64 = 1 << 20;

/// Writes the map of `image`: offset and length in bytes, what kind of bytes, their CRC32C where they are ours, and
/// the label. File data shows the host path, shortened by `root` where it lies below it, so that the map of a fixture
/// is the same in every checkout.
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
    if let Some(host) = image.host_file(segment) {
        let path = root.and_then(|root| host.path.strip_prefix(root).ok()).unwrap_or(&host.path);
        let _ = write!(line, "file           {}", crate::text::printable_path(path));
        if let Data::File { skip, .. } = segment.data
            && skip > 0
        {
            let _ = write!(line, " from {skip}");
        }
        return Ok(());
    }
    let mut crc = 0;
    let mut from = segment.offset.get();
    let mut buffer = Vec::new();
    while from < segment.end().get() {
        let length = PIECE.min(segment.end().get() - from);
        buffer.resize(usize_of(length), 0);
        image.read(from, &mut buffer)?;
        crc = crc32c::crc32c_append(crc, &buffer);
        from += length;
    }
    let _ = write!(line, "bytes {crc:08x} {}", image.label(segment));
    Ok(())
}
