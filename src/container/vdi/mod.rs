//! VDI: the format of VirtualBox.
//!
//! A header, a map from blocks of 1 MiB to their number in the file, and the blocks. A static disk has all
//! blocks, in order; a dynamic disk has those with data. `wrap` is a pure function for both.

mod format;
pub(super) mod read;

use std::sync::Arc;

use super::Identity;
use super::allocated::Allocated;
use super::fit::Lengths;
use crate::error::Result;
use crate::image::{Builder, Image, Render, records};
use crate::units::{Bytes, narrow, usize_of};
use crate::wire::Wire;
use format::{BLOCK, DYNAMIC, FREE, Layout, MAP, STATIC};

pub(crate) use format::STRUCTURES;

/// The options of a VDI file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether all blocks are in the file; otherwise only those with data.
    pub fixed: bool,
}

/// The lengths of disks.
pub(super) const LENGTHS: Lengths = Lengths { step: format::SECTOR, least: 0 };

/// The file that holds `image`, its size rounded up to sectors of 512 bytes.
///
/// # Errors
/// [`Kind::Capacity`](crate::error::Kind::Capacity) where the disk has more blocks than the map can have
/// entries.
pub(super) fn wrap(image: &Image, options: &Options, identity: &Identity) -> Result<Image> {
    let layout = Layout::new(image.length())?;
    let stored =
        if options.fixed { Allocated::every(BLOCK, layout.blocks) } else { Allocated::of(image, BLOCK) };
    let mut file = Builder::new(Bytes::new(layout.data + stored.total() * BLOCK));
    stored.place(image, &mut file, Bytes::new(layout.data), BLOCK);
    let kind = if options.fixed { STATIC } else { DYNAMIC };
    let id = identity.of_disk("vdi-image-uuid");
    let modification = identity.derived("vdi-modification-uuid");
    let header = layout.header(kind, stored.total(), id, modification)?;
    // Padding to the end of the sector.
    let mut sector = header.bytes().to_vec();
    sector.resize(usize_of(MAP), 0);
    file.bytes(Bytes::ZERO, "vdi: header", sector);
    let renderer = file.renderer(Arc::new(Map { stored }));
    file.rendered(Bytes::new(MAP), Bytes::new(layout.blocks * 4), renderer, 0);
    file.finish()
}

/// The map of blocks.
#[derive(Debug)]
struct Map {
    /// The blocks in the file.
    stored: Allocated,
}

impl Render for Map {
    fn render(&self, _: u32, skip: u64, out: &mut [u8]) -> Result<()> {
        // Fewer than 2^30 blocks, so no number is one of the two special values.
        records(4, skip, out, |number| {
            let block = self.stored.ordinal(number);
            let entry = block.map_or(Ok(FREE), |block| narrow(block, "the number of a block"))?;
            Ok(entry.to_le_bytes())
        })
    }

    fn label(&self, _: u32) -> String {
        "vdi: map of blocks".to_owned()
    }
}
