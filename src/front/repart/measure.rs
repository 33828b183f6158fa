//! How large what a partition holds is, before the partition has a place.

use std::path::Path;

use super::body::Making;
use super::definition::{CopyBlocks, Definition, Minimize, Verity};
use super::locator::{Located, Locations};
use super::plan::{Part, is_minimized};
use crate::disk::{Body, Disk, Partition, Size, Work};
use crate::error::{Error, Kind, Result};
use crate::front::Locator;
use crate::image::Image;
use crate::table::Type;
use crate::units::Bytes;

/// What is known of the contents of a partition before it has a place.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    /// How many bytes it takes at least, where that is known.
    pub(super) size: Option<Bytes>,
    /// The bytes, where they were made to find the size.
    pub(super) image: Option<Image>,
    pub(super) warnings: Vec<String>,
}

impl Making<'_> {
    /// What is known of the contents of each partition.
    ///
    /// # Errors
    /// As reading the sources and building the filesystems that are minimized.
    pub(super) fn contents(&self, sector: u32, work: &Work) -> Result<Vec<Content>> {
        let content = |part: &Part| {
            let definition = part.definition.and_then(|number| self.definitions.get(number));
            match definition.filter(|_| part.is_new()) {
                Some(definition) => self.content(definition, part, sector, work),
                None => Ok(Content::default()),
            }
        };
        let mut contents = self.plan.parts.iter().map(content).collect::<Result<Vec<_>>>()?;
        for number in 0..contents.len() {
            if let Some(size) = self.hashes(number, &contents, sector)? {
                contents[number].size = Some(size);
            }
        }
        Ok(contents)
    }

    /// How large the hashes are of a partition of them that is minimized.
    fn hashes(&self, number: usize, contents: &[Content], sector: u32) -> Result<Option<Bytes>> {
        let of = |number: usize| {
            let part = self.plan.parts.get(number).filter(|part| part.is_new())?;
            self.definitions.get(part.definition?)
        };
        let minimized = |it: &&Definition| {
            it.verity == Verity::Hash && it.minimize != Minimize::Off && it.copy_blocks.is_none()
        };
        let Some(hash) = of(number).filter(minimized) else { return Ok(None) };
        let is_data = |it: &Definition| it.verity == Verity::Data && it.match_key == hash.match_key;
        let data = (0..contents.len()).find(|number| of(*number).is_some_and(is_data));
        let data = data.and_then(|number| contents.get(number)?.size);
        // Before 262 the whole partition is covered, which is in whole grains.
        let data =
            data.map(|data| if self.options.level.covers_image() { data } else { data.round_up(4096) });
        data.map(|data| super::verity::size(hash, data, self.options, sector)).transpose()
    }

    fn content(&self, definition: &Definition, part: &Part, sector: u32, work: &Work) -> Result<Content> {
        match &definition.copy_blocks {
            Some(CopyBlocks::File(path)) => {
                let size = blocks(path).map_err(|error| definition.place(error, "CopyBlocks"))?;
                return Ok(Content { size: Some(size), ..Content::default() });
            }
            Some(CopyBlocks::Partition(slice)) => {
                return Ok(Content { size: Some(slice.length()), ..Content::default() });
            }
            None => {}
        }
        if is_minimized(definition) && definition.verity != Verity::Hash {
            return self.minimized(definition, part, definition.sector_size.unwrap_or(sector), work);
        }
        Ok(Content::default())
    }

    /// The filesystem as small as it can be, which is made here and put into its place later.
    fn minimized(&self, definition: &Definition, part: &Part, sector: u32, work: &Work) -> Result<Content> {
        let spec = self.spec(definition, part, None, sector)?;
        if !spec.has_size() {
            let error = Error::new(Kind::Manifest, format!("{} has no least size", spec.name()));
            return Err(definition.place(error, "Minimize").expected("SizeMinBytes= and SizeMaxBytes="));
        }
        let filled = self.fill(definition, part)?;
        let refers = definition.boot.populates();
        let partition = Partition {
            size: Size::Auto,
            apart: Some(sector),
            body: Body::Filesystem(spec, filled.entries.into()),
            ..Partition::new(Type::Guid(part.kind.guid))
        };
        let disk = Disk::bare(self.options.seed).time(self.time()).partition(partition);
        let located = Located { definition: definition.clone(), lines: filled.lines };
        let locations = Locations::new(vec![located]);
        // The container of the whole disk does not concern a part.
        let work = Work { container: crate::container::Container::Raw, verify: None, ..work.clone() };
        let built = disk.build(&work).map_err(|error| locations.locate(error))?;
        let told = built.warnings.iter().map(|(_, warning)| locations.told(0, &warning.to_string()));
        let warnings = filled.warnings.into_iter().chain(told).collect();
        // What holds a root hash is built again when that is known, and is as long then.
        let image = Some(built.image.clone()).filter(|_| !refers);
        Ok(Content { size: Some(built.image.length()), image, warnings })
    }
}

/// The size of what `CopyBlocks=` names.
fn blocks(path: &Path) -> Result<Bytes> {
    let meta = std::fs::metadata(path)
        .map_err(|error| Error::io(Kind::Source, "cannot read the source of CopyBlocks=", path, error))?;
    if !meta.is_file() {
        let what = if meta.is_dir() { "a folder" } else { "a device, pipe or socket" };
        return Err(Error::new(Kind::Source, "CopyBlocks= copies files").at(path).found(what).why(
            "devices and mounted filesystems change while they are copied, and are others on every machine",
        ));
    }
    let size = Bytes::new(meta.len());
    if size == Bytes::ZERO || !size.is_multiple_of(512) {
        return Err(Error::new(Kind::Source, "CopyBlocks= copies whole sectors")
            .at(path)
            .expected("a multiple of 512 bytes, and not 0")
            .found(format!("{} bytes", size.get())));
    }
    Ok(size)
}
