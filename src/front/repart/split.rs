//! Partitions as files of their own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::outcome::{Outcome, Row};
use super::specifier::{Own, Specifiers};
use crate::error::{Error, Kind, Result};
use crate::image::{Builder, Image};
use crate::text::printable_path;
use crate::units::Bytes;

/// A partition that is written to a file of its own as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The name of the file.
    pub path: PathBuf,
    /// Where its bytes begin on the disk.
    pub offset: Bytes,
    /// How many there are.
    pub length: Bytes,
}

impl Split {
    /// The bytes of the file, as `disk` has them. Where that is the file of the disk, no source is read for them.
    ///
    /// # Errors
    /// [`Kind::Bug`] for another disk.
    pub fn of(&self, disk: &Image) -> Result<Image> {
        let mut file = Builder::new(self.length);
        file.put(Bytes::ZERO, &disk.slice(self.offset, self.offset + self.length));
        file.finish()
    }
}

/// The partitions that go to files of their own; the names are noted in `outcome`, also of what is deferred and gets no file
/// now.
///
/// # Errors
/// [`Kind::Manifest`] for a bad name, and for two partitions with one name.
pub(super) fn files(outcome: &mut Outcome, specifiers: &Specifiers, disk: &Path) -> Result<Vec<Split>> {
    let mut seen: BTreeMap<PathBuf, Option<PathBuf>> = BTreeMap::new();
    let mut files = Vec::new();
    for row in &mut outcome.rows {
        let Some(name) = row.split_name.clone() else { continue };
        let place = |error: Error, row: &Row| match &row.file {
            Some(file) => error.at(file),
            None => error,
        };
        let own = Own {
            kind: &row.kind,
            kind_guid: row.kind_guid,
            guid: row.guid,
            number: row.number.saturating_sub(1),
        };
        let name = specifiers.expand_for(&name, own).map_err(|error| place(error, row))?;
        if name.is_empty() || name.contains(['/', '\0']) {
            let error = Error::new(Kind::Manifest, "SplitName= is no part of a file's name").found(&name);
            return Err(place(error, row));
        }
        let path = named(disk, &name);
        if let Some(other) = seen.insert(path.clone(), row.file.clone()) {
            let error = Error::new(Kind::Manifest, "two partitions would be written to one file")
                .found(printable_path(&path))
                .hint("give one of them another SplitName=, as %t_%n, or SplitName=- for none");
            let error = place(error, row);
            return Err(other.into_iter().fold(error, Error::at));
        }
        let length = row.own_length.unwrap_or(row.size);
        if !row.put_off {
            files.push(Split { path: path.clone(), offset: row.offset, length });
        }
        row.split = Some(path);
    }
    Ok(files)
}

/// The name of a part of `disk`: before the suffix `.raw`, or else behind the name.
fn named(disk: &Path, name: &str) -> PathBuf {
    let whole = disk.file_name().unwrap_or_default().to_string_lossy().into_owned();
    disk.with_file_name(match whole.strip_suffix(".raw") {
        Some(stem) => format!("{stem}.{name}.raw"),
        None => format!("{whole}.{name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named_beside_their_disk() {
        assert_eq!(named(Path::new("a/image.raw"), "esp"), Path::new("a/image.esp.raw"));
        assert_eq!(named(Path::new("disk.img"), "usr_0"), Path::new("disk.img.usr_0"));
    }
}
