//! The digest of what a state lies on.

use sha2::{Digest, Sha256};

use crate::encoding::to_hex;
use crate::error::Result;
use crate::image::Image;
use crate::progress::Progress;
use crate::text::printable_path;
use crate::units::{MIB, u64_of, usize_of};

/// The SHA-256 of disks that are not written, in hexadecimal, without a read of their data.
///
/// It covers `also`, which tells apart what has equal disks, the length of each disk and, for each segment, its place and its bytes. A file of the host stands for its bytes
/// by its path, its size and its modification time, which every read checks again. A store path never changes, so equal
/// closures have equal digests.
///
/// # Errors
/// [`Kind::Interrupted`](crate::error::Kind::Interrupted) after a signal; the errors of rendered bytes.
pub fn digest<'a>(
    also: &str,
    images: impl IntoIterator<Item = &'a Image>,
    progress: &Progress,
) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(u64_of(also.len()).to_le_bytes());
    hash.update(also.as_bytes());
    let mut buffer = Vec::new();
    for image in images {
        hash.update(image.length().get().to_le_bytes());
        let mut cursor = image.cursor();
        for segment in image.segments() {
            progress.check()?;
            hash.update(segment.offset.get().to_le_bytes());
            hash.update(segment.length.get().to_le_bytes());
            let skip = match segment.data {
                crate::image::Data::File { skip, .. } => skip,
                _ => 0,
            };
            // What has no stamp has no state that a read checks: packed data, for example.
            if let Some(host) = image.host_file(segment)?
                && let Some(stamp) = host.stamp
            {
                let path = printable_path(&host.path);
                for number in [1, u64_of(path.len()), host.size, stamp, skip] {
                    hash.update(number.to_le_bytes());
                }
                hash.update(path.as_bytes());
                continue;
            }
            hash.update(0_u64.to_le_bytes());
            let mut at = segment.offset.get();
            while at < segment.end().get() {
                buffer.resize(usize_of(MIB.min(segment.end().get() - at)), 0);
                cursor.read(at, &mut buffer)?;
                hash.update(&buffer);
                at += u64_of(buffer.len());
            }
        }
    }
    Ok(to_hex(&hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Builder;
    use crate::units::Bytes;

    #[test]
    fn a_digest_differs_with_every_byte_and_place() {
        let image = |length: u64, at: u64, bytes: &[u8]| {
            let mut builder = Builder::new(Bytes::new(length));
            builder.bytes(Bytes::new(at), "part", bytes.to_vec());
            builder.finish().unwrap()
        };
        let of = |images: &[Image]| digest("", images, &Progress::default()).unwrap();
        let one = of(&[image(4096, 512, b"abc")]);
        assert_eq!((one.len(), &one), (64, &of(&[image(4096, 512, b"abc")])));
        for other in [
            vec![image(4097, 512, b"abc")],
            vec![image(4096, 513, b"abc")],
            vec![image(4096, 512, b"abf")],
            vec![image(4096, 512, b"abc"), image(4096, 512, b"abc")],
            vec![],
        ] {
            assert_ne!(of(&other), one);
        }
        assert_ne!(digest("x", [&image(4096, 512, b"abc")], &Progress::default()).unwrap(), one);
    }
}
