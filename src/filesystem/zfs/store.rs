//! The blocks of a pool that are made in memory, with their places: everything but the contents of files.

use std::sync::Arc;

use super::checksum::Checksum;
use super::compress::{Compression, Encoder};
use super::features::{EMBEDDED_DATA, Enabled};
use super::format::kind;
use super::pointer::{self, About, EMBEDDED, Pointer, Stored};
use super::space::{Run, Space};
use crate::error::{Error, Kind, Result};
use crate::image::{Builder, Render};
use crate::units::{Bytes, index, narrow, u64_of, usize_of};

/// How blocks of metadata are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Manner {
    /// How many copies there are.
    pub(super) copies: usize,
    pub(super) checksum: Checksum,
}

/// A block of the store: its bytes in the arena, and the number of its label.
#[derive(Clone, Copy, Debug)]
struct Block {
    start: usize,
    length: u32,
    label: u32,
}

/// Blocks with their places.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) space: Space,
    compression: Compression,
    encoder: Encoder,
    embeds: bool,
    owner: String,
    labels: Vec<String>,
    arena: Vec<u8>,
    blocks: Vec<Block>,
    /// The places of copies: offset and block.
    placed: Vec<(u64, u32)>,
    /// The pointers to what is written, while somebody wants to know them.
    written: Option<Vec<Pointer>>,
    compressed: Vec<u8>,
}

/// The error where there is no space left; the code that gave the size finds out how much is missing.
pub(super) fn full() -> Error {
    Error::new(Kind::Capacity, "the contents do not fit the ZFS pool").about("size")
}

impl Store {
    /// # Errors
    /// [`Kind::Bug`] for a compression of metadata that does not start.
    pub(super) fn new(space: Space, enabled: &Enabled) -> Result<Self> {
        let compression = enabled.compression();
        Ok(Self {
            space,
            compression,
            encoder: Encoder::new(compression)?,
            embeds: enabled.has(EMBEDDED_DATA),
            owner: String::new(),
            labels: Vec::new(),
            arena: Vec::new(),
            blocks: Vec::new(),
            placed: Vec::new(),
            written: None,
            compressed: Vec::new(),
        })
    }

    /// One of 64 MiB with all features.
    #[cfg(test)]
    pub(super) fn small() -> Self {
        let geometry = super::space::Geometry::new(Bytes::new(crate::units::MIB << 6), 12, None).unwrap();
        Self::new(Space::new(geometry), &Enabled::of("off")).unwrap()
    }

    /// Says whose blocks come now, for maps.
    pub(super) fn owner(&mut self, owner: impl Into<String>) {
        self.owner = owner.into();
    }

    /// Keeps the pointers to what is written from now on.
    pub(super) fn remember(&mut self) {
        self.written = Some(Vec::new());
    }

    /// The pointers to what was written since then.
    ///
    /// # Errors
    /// [`Kind::Bug`] where nothing was to be remembered.
    pub(super) fn remembered(&mut self) -> Result<Vec<Pointer>> {
        self.written.take().ok_or_else(|| Error::bug("no blocks of metadata were remembered"))
    }

    /// log2 of the bytes that are allocated together.
    pub(super) const fn ashift(&self) -> u8 {
        self.space.geometry.ashift
    }

    /// Takes places for the copies of a block.
    ///
    /// # Errors
    /// [`Kind::Capacity`] where there is no space left.
    pub(super) fn places(&mut self, length: u64, copies: usize) -> Result<Vec<Run>> {
        (0..copies).map(|copy| self.space.take(length, copy).ok_or_else(full)).collect()
    }

    /// How metadata is compressed.
    pub(super) const fn compression(&self) -> u8 {
        self.compression.number()
    }

    /// Compresses bytes as metadata is, and says whether that made sense.
    pub(super) fn encode(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        self.encoder.encode(bytes, out)
    }

    /// Compresses a block of metadata, and embeds it in its pointer or writes it.
    ///
    /// # Errors
    /// [`Kind::Capacity`] where there is no space left.
    pub(super) fn write(&mut self, about: About, manner: Manner, bytes: &[u8]) -> Result<Pointer> {
        let mut compressed = std::mem::take(&mut self.compressed);
        compressed.clear();
        let is_smaller = self.encode(bytes, &mut compressed)?;
        let number = self.compression.number();
        let logical = u64_of(bytes.len());
        // Neither dnodes nor object sets are embedded (module/zfs/dmu.c, dmu_write_policy).
        let embeds = self.embeds && about.level == 0 && !matches!(about.kind, kind::DNODE | kind::OBJSET);
        let physical = pointer::physical(compressed.len(), logical, self.ashift()).filter(|_| is_smaller);
        let pointer = if embeds && is_smaller && compressed.len() <= EMBEDDED {
            Pointer::embedded(about, logical, number, &compressed)
        } else if let Some(physical) = physical {
            compressed.resize(usize_of(physical), 0);
            self.stored(about, manner, logical, number, &compressed)
        } else {
            self.stored(about, manner, logical, Compression::Off.number(), bytes)
        };
        self.compressed = compressed;
        if let (Some(written), Ok(pointer)) = (&mut self.written, &pointer) {
            written.push(*pointer);
        }
        pointer
    }

    fn stored(
        &mut self,
        about: About,
        manner: Manner,
        logical: u64,
        compression: u8,
        bytes: &[u8],
    ) -> Result<Pointer> {
        let places = self.places(u64_of(bytes.len()), manner.copies)?;
        self.put(about, manner.checksum, logical, compression, &places, bytes)
    }

    /// Puts the bytes of a block at places that were taken before.
    ///
    /// # Errors
    /// [`Kind::Bug`] for a block that no pointer can lead to.
    pub(super) fn put(
        &mut self,
        about: About,
        checksum: Checksum,
        logical: u64,
        compression: u8,
        places: &[Run],
        bytes: &[u8],
    ) -> Result<Pointer> {
        let number = narrow(self.blocks.len(), "the number of a block of metadata")?;
        let label = self.label(about)?;
        let length = narrow(bytes.len(), "the length of a block of metadata")?;
        self.blocks.push(Block { start: self.arena.len(), length, label });
        self.arena.extend_from_slice(bytes);
        self.placed.extend(places.iter().map(|place| (place.start, number)));
        let stored = Stored {
            logical,
            physical: u64_of(bytes.len()),
            compression,
            checksum: checksum.number(),
            sum: checksum.of(bytes),
        };
        Pointer::new(about, &stored, places)
    }

    /// The number of a block's label.
    fn label(&mut self, about: About) -> Result<u32> {
        let label = pointer::label(&self.owner, about);
        let known = self.labels.iter().rposition(|known| *known == label);
        let number = known.unwrap_or_else(|| {
            self.labels.push(label);
            self.labels.len() - 1
        });
        narrow(number, "the number of a label")
    }

    /// Puts all blocks into an image in which the space that is allocated begins at `base`.
    pub(super) fn finish(self, image: &mut Builder, base: u64) {
        let Self { labels, arena, blocks, placed, .. } = self;
        let rendered = Rendered { labels, arena, blocks };
        let lengths: Vec<u32> = rendered.blocks.iter().map(|block| block.length).collect();
        let renderer = image.renderer(Arc::new(rendered));
        image.reserve(placed.len());
        for (offset, block) in placed {
            let length = Bytes::new(u64::from(lengths[index(block)]));
            image.rendered(Bytes::new(base + offset), length, renderer, block);
        }
    }
}

/// Blocks of metadata as parts of an image.
#[derive(Debug)]
struct Rendered {
    labels: Vec<String>,
    arena: Vec<u8>,
    blocks: Vec<Block>,
}

impl Render for Rendered {
    fn render(&self, part: u32, skip: u64, out: &mut [u8]) -> Result<()> {
        let block = self.blocks.get(index(part));
        let start = block.map(|block| block.start + usize_of(skip));
        let bytes = start.and_then(|start| self.arena.get(start..start + out.len()));
        out.copy_from_slice(
            bytes.ok_or_else(|| Error::bug(format!("there is no block {part} of metadata")))?,
        );
        Ok(())
    }

    fn label(&self, part: u32) -> String {
        let label = self.blocks.get(index(part)).and_then(|block| self.labels.get(index(block.label)));
        label.cloned().unwrap_or_else(|| format!("zfs: block {part}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filesystem::zfs::space::Geometry;
    use crate::units::MIB;

    const MANNER: Manner = Manner { copies: 2, checksum: Checksum::Fletcher4 };

    fn with(set: &str) -> Store {
        let space = Space::new(Geometry::new(Bytes::new(64 * MIB), 12, None).unwrap());
        Store::new(space, &Enabled::of(set)).unwrap()
    }

    #[test]
    fn a_block_is_no_part_of_its_pointer_without_the_feature() {
        for (set, allocated, compression) in
            [("off", 0, 0x80 | 15), ("zol-0.6.1", 2 * 4096, 15), ("legacy", 2 * 4096, 14)]
        {
            let mut store = with(set);
            let written = store.write(About::contents(kind::ZAP, 4), MANNER, &[0; 8192]).unwrap();
            assert_eq!(written.sums.allocated, allocated, "{set}");
            assert_eq!(written.bytes[52], compression, "{set}");
        }
    }

    #[test]
    fn a_block_is_embedded_compressed_or_kept() {
        let mut store = Store::small();
        store.owner("tank");
        let about = About::contents(kind::ZAP, 4);
        let embedded = store.write(about, MANNER, &[0; 4096]).unwrap();
        assert_eq!(embedded.sums.allocated, 0);
        assert!(!store.write(About { kind: kind::DNODE, ..about }, MANNER, &[0; 16_384]).unwrap().is_hole());
        let bytes: Vec<u8> =
            (0..4096_u32).flat_map(|number| number.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
        let kept = store.write(about, MANNER, &bytes).unwrap();
        assert_eq!((kept.sums.allocated, kept.sums.physical), (2 * 16_384, 16_384));
        let mut half = bytes.clone();
        half[8192..].fill(0);
        let compressed = store.write(about, MANNER, &half).unwrap();
        assert_eq!(compressed.sums.physical, 12_288);
        let mut image = Builder::new(Bytes::new(64 * MIB));
        store.finish(&mut image, 4 << 20);
        let image = image.finish().unwrap();
        assert_eq!(image.segments().len(), 6);
        assert_eq!(image.label(&image.segments()[1]), "zfs: tank: tables");
        let mut read = vec![0; 16_384];
        for segment in [1, 4] {
            image.read(image.segments()[segment].offset.get(), &mut read).unwrap();
            assert!(read == bytes);
        }
    }

    #[test]
    fn what_was_not_remembered_is_a_bug_and_not_nothing() {
        let mut store = Store::small();
        store.remember();
        store.write(About::contents(kind::ZAP, 4), MANNER, &[0; 4096]).unwrap();
        assert_eq!(store.remembered().unwrap().len(), 1);
        let error = store.remembered().unwrap_err();
        assert_eq!((error.kind(), error.what()), (Kind::Bug, "no blocks of metadata were remembered"));
    }

    #[test]
    fn a_pool_that_is_full_says_so() {
        let mut store = Store::small();
        let bytes: Vec<u8> =
            (0..32_768_u32).flat_map(|number| number.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
        let about = About::contents(kind::FILE, 4);
        // 48 MiB hold 192 times two copies of 128 KiB.
        let error = (0..400).find_map(|_| store.write(about, MANNER, &bytes).err()).unwrap();
        assert_eq!(error.kind(), Kind::Capacity);
        assert_eq!(store.space.used(), 48 * MIB);
    }
}
