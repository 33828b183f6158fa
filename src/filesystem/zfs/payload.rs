//! The disk that a helper VM reads: a filesystem of the contents, and behind it what volumes hold that is no file of them.

use std::sync::Arc;

use super::data::Volumes;
use crate::error::Result;
use crate::filesystem::{Placement, Size, erofs};
use crate::helper::job::Piece;
use crate::image::{Builder, Image};
use crate::pour::Packer;
use crate::tree::Tree;
use crate::units::{Bytes, KIB};

/// Where volumes begin: at pages, which the machine reads whole.
const GRAIN: u64 = 4 * KIB;
/// A gap between data that is so short is copied too: what is zero is not written, and pieces are few.
const GAP: Bytes = Bytes::new(64 * KIB);

/// The disk, and where it has what volumes hold.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) image: Image,
    volumes: Vec<(u16, Vec<Piece>)>,
}

impl Payload {
    /// Lays out the disk; nothing of it is written anywhere.
    ///
    /// # Errors
    /// Those of the filesystem.
    pub(super) fn new(tree: &Arc<Tree>, volumes: &Volumes, at: &Placement, packer: &Packer) -> Result<Self> {
        let place = Placement { size: Size::Auto, ..Placement::alone(at.id) };
        let contents = erofs::build(tree, &erofs::Options::default(), &place, packer)?.image;
        let mut end = contents.length();
        let starts: Vec<Bytes> = volumes
            .iter()
            .map(|(volume, _)| {
                let start = end.round_up(GRAIN);
                end = start + volume.image.length();
                start
            })
            .collect();
        let mut image = Builder::new(end.round_up(GRAIN));
        image.put(Bytes::ZERO, &contents.whole());
        let mut own = Vec::new();
        for (start, (volume, _)) in starts.into_iter().zip(volumes) {
            image.put(start, &volume.image.whole());
            own.push((volume.dataset, pieces(&volume.image, start)));
        }
        Ok(Self { image: image.finish()?, volumes: own })
    }

    /// What the volume of a dataset has of the disk, if it is no file of the contents.
    pub(super) fn of(&self, dataset: u16) -> Option<&[Piece]> {
        self.volumes.iter().find(|(own, _)| *own == dataset).map(|(_, pieces)| pieces.as_slice())
    }
}

/// Where an image has data, and where a disk has that on which the image begins at `start`.
fn pieces(image: &Image, start: Bytes) -> Vec<Piece> {
    let mut runs: Vec<(Bytes, Bytes)> = Vec::new();
    for segment in image.segments() {
        match runs.last_mut() {
            Some(last) if segment.offset.saturating_sub(last.1) <= GAP => last.1 = segment.end(),
            _ => runs.push((segment.offset, segment.end())),
        }
    }
    let piece = |(from, to): (Bytes, Bytes)| Piece {
        from: (start + from).get(),
        to: from.get(),
        length: to.saturating_sub(from).get(),
    };
    runs.into_iter().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_leave_out_what_is_long_and_empty() {
        let mut image = Builder::new(Bytes::new(10 << 20));
        for (at, length) in [(1000, 24), (5000, 1000), (6000 + GAP.get(), 1), (9 << 20, 4096)] {
            image.bytes(Bytes::new(at), "bytes", vec![1; crate::units::usize_of(length)]);
        }
        let found = pieces(&image.finish().unwrap(), Bytes::new(1 << 30));
        let expected = [(1000, 5001 + GAP.get()), (9 << 20, 4096)];
        let expected = expected.map(|(to, length)| Piece { from: (1 << 30) + to, to, length });
        assert_eq!(found, expected);
    }
}
