//! Archives as the contents of a filesystem: tar, cpio, and images of containers.
//!
//! An archive comes from anywhere, so nothing in it is trusted. Its members are names in memory and ranges of bytes; no
//! member is ever a path of the host. An archive that is a plain file is read in place: the contents of a member are a range
//! of that file. What is compressed, or comes from a pipe, is written once to a spool without a name.

mod compression;
mod cpio;
mod digest;
mod input;
mod oci;
mod tar;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Kind, Result, Warning};
use crate::image::Slice;
use crate::pour::Packer;
use crate::text::printable_path;
use crate::tree::Ready;
use crate::tree::layers::{Layers, Member};
use crate::units::Bytes;

use input::Bytestream;

/// What kind of archive it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// A tar: of POSIX (pax), GNU or older.
    Tar,
    /// A cpio of the format newc, such as an initrd.
    Cpio,
    /// A tar or a cpio, whichever it is.
    TarOrCpio,
    /// An image of a container: an OCI image layout, as a directory or a tar, or what `docker save` writes.
    Container {
        /// Its name, where there are several: a tag, or the name of a repository with its tag.
        image: Option<String>,
        /// The platform, such as `linux/arm64` or `linux/arm/v7`, where there are several.
        platform: Option<String>,
    },
}

/// Where an archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file or a pipe of the host; for an image of a container also a directory.
    Path(PathBuf),
    /// Standard input.
    StandardInput,
}

/// An archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Where it is.
    pub place: Place,
    /// What it is.
    pub format: Format,
}

impl Archive {
    /// The archive that a description calls `written`: standard input if that is `-`.
    #[must_use]
    pub fn new(written: &str, path: PathBuf, format: Format) -> Self {
        let place = if written == "-" { Place::StandardInput } else { Place::Path(path) };
        Self { place, format }
    }

    /// The path of it, if it has one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::Path(path) => Some(path),
            Place::StandardInput => None,
        }
    }

    fn name(&self) -> PathBuf {
        self.path().map_or_else(|| PathBuf::from("standard input"), Path::to_owned)
    }

    /// Reads it: all names, and the contents of what cannot be read in place. The folder for those is that of `packer`.
    ///
    /// # Errors
    /// [`Kind::Source`] naming the archive: it is missing, unreadable, damaged, of another format, has a member that leaves
    /// it, or a layer that is missing or has another digest.
    pub(crate) fn read(&self, packer: &Packer) -> Result<Read> {
        let name = self.name();
        let reading = Reading { packer, name: &name };
        reading.read(self).map_err(|error| if error.path().is_some() { error } else { error.at(&name) })
    }
}

/// What an archive comes to.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) layers: Layers,
    pub(crate) warnings: Vec<Warning>,
}

/// The members of one tar or cpio.
#[derive(Debug, Default)]
struct Members {
    members: Vec<Pending>,
    remarks: Remarks,
    /// Where in the bytes that were kept another archive begins, which is compressed.
    behind: Option<u64>,
}

/// A member, and where its contents are in the bytes that were kept.
#[derive(Debug)]
struct Pending {
    member: Member,
    data: Option<Data>,
}

/// The contents of a regular file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Data {
    /// Its length.
    size: u64,
    /// Where it has data: the offset in the file, the offset in what was kept, and the length.
    pieces: Vec<(u64, u64, u64)>,
}

impl Data {
    fn whole(start: u64, size: u64) -> Self {
        Self { size, pieces: vec![(0, start, size)] }
    }

    /// The contents, from the bytes that were kept.
    fn slice(&self, kept: &Slice) -> Result<Slice> {
        let outside = || Error::bug("a member of an archive lies outside of what was kept");
        let part = |start: u64, length: u64| {
            let end = start.checked_add(length).ok_or_else(outside)?;
            kept.get(Bytes::new(start), Bytes::new(end)).ok_or_else(outside)
        };
        if let [(0, start, length)] = self.pieces[..]
            && length == self.size
        {
            return part(start, length);
        }
        let mut image = crate::image::Builder::new(Bytes::new(self.size));
        for (offset, start, length) in &self.pieces {
            image.put(Bytes::new(*offset), &part(*start, *length)?);
        }
        Ok(image.finish()?.whole())
    }
}

/// What is to be told of an archive that was read.
#[derive(Debug, Default)]
struct Remarks {
    /// By what they say of a member, in the order in which they came up: how many, and the first member.
    found: Vec<(String, u64, Vec<u8>)>,
}

impl Remarks {
    fn add(&mut self, what: &str, member: &[u8]) {
        // A stranger must not fill the terminal.
        const MOST: usize = 32;
        let what = if self.found.len() < MOST { what } else { "there is more that is not kept" };
        match self.found.iter_mut().find(|(known, ..)| known == what) {
            Some((_, count, _)) => *count += 1,
            None => self.found.push((what.to_owned(), 1, member.to_vec())),
        }
    }

    fn append(&mut self, other: Self) {
        for (what, count, member) in other.found {
            match self.found.iter_mut().find(|(known, ..)| *known == what) {
                Some((_, known, _)) => *known += count,
                None => self.found.push((what, count, member)),
            }
        }
    }

    fn warnings(&self, archive: &Path) -> impl Iterator<Item = Warning> {
        self.found.iter().map(move |(what, count, member)| {
            let others = match count - 1 {
                0 => String::new(),
                1 => " and one other member".to_owned(),
                more => format!(" and {more} other members"),
            };
            let member = crate::text::printable(member);
            Warning(format!("{}: {what}, of {member}{others}", printable_path(archive)))
        })
    }
}

/// The work on one archive.
struct Reading<'a> {
    packer: &'a Packer,
    name: &'a Path,
}

impl Reading<'_> {
    fn read(&self, archive: &Archive) -> Result<Read> {
        match &archive.format {
            Format::Container { image, platform } => {
                oci::read(self, archive, image.as_deref(), platform.as_deref())
            }
            format => {
                let mut layers = Layers::default();
                let remarks = self.members(self.open(&archive.place)?, format, &mut layers, Member::lay)?;
                Ok(Read { layers, warnings: remarks.warnings(self.name).collect() })
            }
        }
    }

    /// The bytes of the archive: those of a file, which stay where they are, or those that come out of a pipe.
    fn open(&self, place: &Place) -> Result<Bytestream<'static>> {
        let path = match place {
            Place::StandardInput => return Ok(Bytestream::Flowing(Box::new(std::io::stdin()))),
            Place::Path(path) => path,
        };
        let flows = path.metadata().is_ok_and(|meta| {
            use std::os::unix::fs::FileTypeExt;
            meta.file_type().is_fifo()
        });
        if flows {
            let file = std::fs::File::open(path)
                .map_err(|error| Error::io(Kind::Source, "cannot read the archive", path, error))?;
            return Ok(Bytestream::Flowing(Box::new(file)));
        }
        Ok(Bytestream::Lying(whole(path, "an archive")?))
    }

    /// Reads the members of a tar or cpio, compressed or not, and puts them over `layers` with `lay`; then those of a
    /// compressed cpio behind it.
    fn members(
        &self,
        bytes: Bytestream<'_>,
        format: &Format,
        layers: &mut Layers,
        lay: impl Fn(Member, &mut Layers) -> Result<()>,
    ) -> Result<Remarks> {
        let (Members { members, mut remarks, behind }, kept) = input::with(bytes, self, |input| {
            let mut head = [0; 512];
            let length = input.peek(&mut head)?;
            match (format, cpio::is_cpio(&head[..length])) {
                (Format::Cpio, _) | (Format::TarOrCpio, true) => cpio::read(input),
                (_, true) => Err(Error::new(Kind::Source, "the archive is not a tar").found("a cpio")),
                (_, false) => tar::read(input),
            }
        })?;
        self.lay(members, &kept, layers, &lay)?;
        // Once: what is compressed in what is compressed is none that the kernel reads, and a stranger's could go on for ever.
        if let Some(start) = behind {
            let rest = kept.get(Bytes::new(start), kept.length());
            let rest = rest.ok_or_else(|| Error::bug("what lies behind an archive was not kept"))?;
            let (mut next, kept) = input::with(Bytestream::Lying(rest), self, cpio::read)?;
            self.lay(next.members, &kept, layers, &lay)?;
            if next.behind.is_some() {
                next.remarks.add(cpio::NOT_READ, b"the archive");
            }
            remarks.append(next.remarks);
        }
        Ok(remarks)
    }

    /// Puts members over `layers`, with their contents from the bytes that were kept.
    fn lay(
        &self,
        members: Vec<Pending>,
        kept: &Slice,
        layers: &mut Layers,
        lay: &impl Fn(Member, &mut Layers) -> Result<()>,
    ) -> Result<()> {
        for Pending { mut member, data } in members {
            self.packer.progress().check()?;
            if let (Some(data), crate::tree::layers::What::File(slice)) = (data, &mut member.what) {
                *slice = data.slice(kept)?;
            }
            lay(member, layers)?;
        }
        Ok(())
    }
}

impl Member {
    /// Puts it over what is there.
    fn lay(self, layers: &mut Layers) -> Result<()> {
        layers.insert(self)
    }
}

/// A file of the host, read in place.
fn whole(path: &Path, what: &str) -> Result<Slice> {
    let ready = Arc::new(Ready::look(path, what)?);
    Ok(ready.image(ready.size())?.whole())
}

/// An error about a damaged archive.
fn damaged(what: impl Into<String>) -> Error {
    Error::new(Kind::Source, what)
}

/// What takes `bytes` apart if they are compressed by gzip, xz or zstd; else they are read as they are.
///
/// # Errors
/// [`Kind::Source`] for what is compressed in a way that is not read here.
pub(crate) fn uncompressed(bytes: Vec<u8>) -> Result<Box<dyn std::io::Read + Send>> {
    let compression = compression::Compression::of(&bytes)?;
    let read: Box<dyn std::io::Read + Send> = Box::new(std::io::Cursor::new(bytes));
    match compression {
        Some(compression) => compression.open(read),
        None => Ok(read),
    }
}
