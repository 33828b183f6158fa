//! What a server offers: slices of images, by name.

use std::sync::OnceLock;

use super::extents::{Extent, Extents};
use super::format::LONGEST_TEXT;
use crate::error::{Error, Kind, Result};
use crate::image::{Image, Slice};
use crate::text::printable;
use crate::units::Bytes;

/// The largest number of exports: a list of them is sent at once.
const MOST: usize = 4096;

/// A slice of an image that clients read under a name.
#[derive(Debug)]
pub struct Export {
    name: String,
    description: String,
    slice: Slice,
    extents: OnceLock<Extents>,
}

impl Export {
    /// `slice` under `name`.
    #[must_use]
    pub fn new(name: impl Into<String>, slice: Slice) -> Self {
        Self { name: name.into(), description: String::new(), slice, extents: OnceLock::new() }
    }

    /// With a text for people, which clients show in lists.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = text.into();
        // No text of the protocol is longer.
        let most = self.description.floor_char_boundary(LONGEST_TEXT);
        self.description.truncate(most);
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text for people; empty for none.
    #[must_use]
    pub fn described(&self) -> &str {
        &self.description
    }

    /// Its bytes.
    #[must_use]
    pub const fn slice(&self) -> &Slice {
        &self.slice
    }

    /// Its length.
    #[must_use]
    pub fn length(&self) -> Bytes {
        self.slice.length()
    }

    /// Where it has data and where it has holes, from `start` up to `end`.
    pub(super) fn extents(&self, start: u64, end: u64) -> impl Iterator<Item = Extent> + '_ {
        self.extents.get_or_init(|| Extents::of(&self.slice)).within(start, end)
    }
}

/// A partition of a disk, as its exports are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// Its slot in the table, from 1.
    pub number: u32,
    /// Its name in the table; empty for none.
    pub label: &'a str,
    /// Where it begins.
    pub offset: Bytes,
    /// How long it is.
    pub length: Bytes,
}

/// All exports of a server.
#[derive(Debug, Default)]
pub struct Exports {
    list: Vec<Export>,
}

impl Exports {
    /// No exports yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One image under the empty name, which is the default of every client.
    ///
    /// # Errors
    /// None that this makes.
    pub fn of(image: &Image) -> Result<Self> {
        let mut exports = Self::new();
        exports.push(Export::new("", image.whole()))?;
        Ok(exports)
    }

    /// All of them, in the order in which they were added.
    #[must_use]
    pub fn list(&self) -> &[Export] {
        &self.list
    }

    /// Adds one.
    ///
    /// # Errors
    /// [`Kind::Usage`] where its name is taken or longer than the protocol allows, or where there are too many exports.
    pub fn push(&mut self, export: Export) -> Result<()> {
        let shown = || printable(export.name.as_bytes());
        if self.find(&export.name).is_some() {
            return Err(Error::new(Kind::Usage, "two exports have the same name").found(shown()));
        }
        if export.name.len() > LONGEST_TEXT || export.name.contains('\0') {
            return Err(Error::new(Kind::Usage, "an export cannot have this name")
                .expected(format!("at most {LONGEST_TEXT} bytes, and none of them zero"))
                .found(shown()));
        }
        if self.list.len() == MOST {
            return Err(
                Error::new(Kind::Usage, "there are too many exports").expected(format!("at most {MOST}"))
            );
        }
        self.list.push(export);
        Ok(())
    }

    /// Adds a disk as `name`, and each of its partitions by number and by label: `1` and `esp`, or `NAME/1` and `NAME/esp`
    /// if the disk has a name. A label that two partitions have, or that is the number of another, is left out, since it would
    /// name two things.
    ///
    /// # Errors
    /// As [`Exports::push`].
    pub fn push_disk(&mut self, name: &str, image: &Image, parts: &[Part<'_>]) -> Result<()> {
        let inside = |part: &str| if name.is_empty() { part.to_owned() } else { format!("{name}/{part}") };
        self.push(Export::new(name, image.whole()).description("the whole disk"))?;
        for part in parts {
            let slice = || image.slice(part.offset, part.offset + part.length);
            let labelled = match part.label {
                "" => format!("partition {}", part.number),
                label => format!("partition {}, {}", part.number, printable(label.as_bytes())),
            };
            self.push(Export::new(inside(&part.number.to_string()), slice()).description(labelled.clone()))?;
        }
        for part in parts.iter().filter(|part| !part.label.is_empty() && !part.label.contains('\0')) {
            let alone = parts.iter().filter(|other| other.label == part.label).count() == 1;
            let export = Export::new(inside(part.label), image.slice(part.offset, part.offset + part.length))
                .description(format!("partition {}", part.number));
            if alone && self.find(export.name()).is_none() {
                self.push(export)?;
            }
        }
        Ok(())
    }

    /// The number of the export with this name.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.list.iter().position(|export| export.name == name)
    }
}
