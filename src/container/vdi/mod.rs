//! VDI: VirtualBox's own format.
//!
//! A header, a map from blocks of 1 MiB to their number in the file, and blocks. A static disk has all of them, in order,
//! and a dynamic one those that hold something. `wrap` is a pure function to either.

mod format;
pub(super) mod read;

use std::sync::Arc;

use super::Identity;
use super::allocated::Allocated;
use super::entries::each_entry;
use super::fit::Lengths;
use crate::error::Result;
use crate::image::{Builder, Image, Render};
use crate::units::{Bytes, low32};
use format::{BLOCK, DYNAMIC, FREE, Layout, MAP, STATIC};

/// What a VDI file is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// All blocks are in the file; otherwise those that hold something.
    pub fixed: bool,
}

/// The lengths of disks.
pub(super) const LENGTHS: Lengths = Lengths { step: format::SECTOR, least: 0 };

/// The file that holds `image`, its size rounded up to sectors of 512 bytes.
///
/// # Errors
/// [`Kind::Capacity`](crate::error::Kind::Capacity) where the disk has more blocks than the map has room for.
pub(super) fn wrap(image: &Image, options: &Options, identity: &Identity) -> Result<Image> {
    let layout = Layout::new(image.length())?;
    let stored =
        if options.fixed { Allocated::every(BLOCK, layout.blocks) } else { Allocated::of(image, BLOCK) };
    let mut file = Builder::new(Bytes::new(layout.data + stored.total() * BLOCK));
    stored.place(image, &mut file, Bytes::new(layout.data), BLOCK);
    let kind = if options.fixed { STATIC } else { DYNAMIC };
    let id = identity.of_disk("vdi-image-uuid");
    let modification = identity.derived("vdi-modification-uuid");
    file.bytes(Bytes::ZERO, "vdi: header", layout.header(kind, stored.total(), id, modification));
    let renderer = file.renderer(Arc::new(Map { stored }));
    file.rendered(Bytes::new(MAP), Bytes::new(layout.blocks * 4), renderer, 0);
    file.finish()
}

/// The map of blocks.
#[derive(Debug)]
struct Map {
    /// Those that are in the file.
    stored: Allocated,
}

impl Render for Map {
    fn render(&self, _: u32, skip: u64, out: &mut [u8]) -> Result<()> {
        // Fewer than 2^30 blocks: their numbers are none of the two that mean something else.
        each_entry(skip, out, |number| self.stored.ordinal(number).map_or(FREE, low32).to_le_bytes());
        Ok(())
    }

    fn label(&self, _: u32) -> String {
        "vdi: map of blocks".to_owned()
    }
}
