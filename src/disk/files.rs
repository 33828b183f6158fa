//! Files that are written together, all or none: a disk and its partitions, two disks of one system, variables of a firmware.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::{Work, verify};
use crate::container::{Container, Identity, SectorSize};
use crate::error::{Error, Kind, Result};
use crate::image::{Image, Segment};
use crate::nix::verify::Verification;
use crate::pour::PourOptions;
use crate::pour::output::Output;
use crate::pour::outputs::Outputs;

/// A file to write.
#[derive(Clone, Debug)]
pub struct OutputFile<'a> {
    path: PathBuf,
    image: Image,
    container: Container,
    identity: Identity,
    verification: Option<&'a Verification>,
}

impl<'a> OutputFile<'a> {
    /// The file `path` with a disk in a container.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, image: Image, container: Container, identity: Identity) -> Self {
        Self { path: path.into(), image, container, identity, verification: None }
    }

    /// The file `path` that has just these bytes: a partition, or something else that is no disk.
    #[must_use]
    pub fn raw(path: impl Into<PathBuf>, image: Image) -> Self {
        let identity = Identity { seed: Uuid::nil(), id: None, time: 0, sector_size: SectorSize::default() };
        Self::new(path, image, Container::Raw, identity)
    }

    /// The same file, whose store paths are compared before it gets its name.
    #[must_use]
    pub fn verified(self, verification: Option<&'a Verification>) -> Self {
        Self { verification, ..self }
    }

    /// Writes the file, without its name.
    fn unpublished(&self, work: &Work) -> Result<Output> {
        let (bytes, files) = self.image.file_data();
        work.progress.begin(bytes, files);
        let options = PourOptions::new(work.jobs, &work.progress);
        let output = self.container.unpublished(&self.image, &self.identity, &self.path, &options)?;
        if let Some(verification) = self.verification {
            verify(verification, &self.container.read_back(&output)?, work)?;
        }
        Ok(output)
    }
}

/// Writes files that belong together. They get their names when all of them are complete.
///
/// # Errors
/// As [`Container::write`] and [`Outputs::publish`]; [`Kind::Usage`] where two have one name, or one is what another is made
/// from; as [`Verification::run`] where store paths are compared. In every case nothing is left behind, and every name leads
/// to what it led to before.
pub fn write(files: &[OutputFile<'_>], work: &Work) -> Result<()> {
    // What cannot be written, and two of one name, are told before the work and not after it.
    let mut names = Outputs::new();
    for file in files {
        names.push(Output::create(&file.path)?)?;
        files.iter().try_for_each(|other| spare(&file.path, &other.image))?;
    }
    drop(names);
    let mut outputs = Outputs::new();
    for file in files {
        outputs.push(file.unpublished(work)?)?;
    }
    outputs.publish()
}

/// Refuses an output that would take the place of a source of `image`.
fn spare(path: &Path, image: &Image) -> Result<()> {
    let (Ok(real), Ok(meta)) = (path.canonicalize(), path.metadata()) else { return Ok(()) };
    // Few files have the length and the name of the output, so few are asked where they really are.
    let own = |segment: &Segment| -> Result<bool> {
        let alike = image.host_file_size(segment)? == Some(meta.len());
        let file = if alike { image.host_file(segment)? } else { None };
        // What is not checked for change has no name: a spool, whose label is no path.
        Ok(file
            .filter(|file| file.stamp.is_some() && file.path.file_name() == real.file_name())
            .is_some_and(|file| file.path.canonicalize().is_ok_and(|source| source == real)))
    };
    for segment in image.segments() {
        if !own(segment)? {
            continue;
        }
        return Err(Error::new(Kind::Usage, "the output is one of its own sources")
            .at(path)
            .hint("write it elsewhere, or leave it out of the contents"));
    }
    Ok(())
}
