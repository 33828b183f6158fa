//! Arbitrary bytes as a filesystem: everything that can be reached is examined, within limits.

use std::collections::BTreeSet;

use diskwright::error::{Error, Kind};
use diskwright::filesystem::{Content, Volume, contents};
use diskwright::image::{Builder, Slice};
use diskwright::units::Bytes;

/// The largest number of names that are examined, and of remarks.
const MOST: u64 = 3000;

/// The bytes as a slice of an image, with a hole after them: a few bytes can claim to be a large volume.
pub fn slice(data: &[u8]) -> Slice {
    let length = u64::try_from(data.len()).expect("a length");
    let mut disk = Builder::new(Bytes::new(length.max(1 << 20) * 64));
    disk.bytes(Bytes::ZERO, "fuzz", data);
    disk.finish().expect("one segment").whole()
}

/// Walks over a volume and checks it.
pub fn exercise(volume: &dyn Volume) {
    assert!(volume.warnings().len() < 10 && volume.facts().kind.len() < 10);
    let mut left = MOST;
    let mut places = BTreeSet::new();
    let mut stack = vec![volume.root()];
    while let Some(inode) = stack.pop() {
        let node = match volume.node(inode) {
            Ok(node) => node,
            Err(error) => {
                super::acceptable(&error);
                continue;
            }
        };
        let result = match node.content {
            Content::Directory { place } if places.insert(place) => volume.list(inode, &mut |name, child| {
                assert!(!name.is_empty() && !name.contains(&b'/') && !name.contains(&0));
                assert!(name != b"." && name != b"..");
                left = left.checked_sub(1).ok_or_else(enough)?;
                stack.push(child);
                Ok(())
            }),
            Content::Directory { .. } => Ok(()),
            Content::File { size } => file(volume, inode, size),
            _ => Ok(()),
        };
        if let Err(error) = result {
            super::acceptable(&error);
        }
    }
    let mut left = MOST;
    let heard = volume.check(&mut |remark| {
        super::printable(&remark.to_string());
        left = left.checked_sub(1).ok_or_else(enough)?;
        Ok(())
    });
    if let Err(error) = heard {
        super::acceptable(&error);
    }
}

/// The pieces of a file ascend inside the file, and equal the file as a slice.
fn file(volume: &dyn Volume, inode: diskwright::filesystem::Inode, size: Bytes) -> Result<(), Error> {
    let (mut end, mut left) = (Bytes::ZERO, MOST);
    volume.data(inode, &mut |at, piece| {
        assert!(at >= end && piece.length() > Bytes::ZERO);
        end = at + piece.length();
        assert!(end <= size);
        left = left.checked_sub(1).ok_or_else(enough)?;
        piece.read(0, &mut [0; 16])
    })?;
    let whole = contents(volume, inode)?;
    assert_eq!(whole.length(), size);
    whole.read(size.get() / 2, &mut [0; 16])
}

fn enough() -> Error {
    Error::new(Kind::Interrupted, "enough")
}
