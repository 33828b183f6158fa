//! Writes an [`Image`] as a container.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::open::open_output;
use super::vmdk::CreateType;
use super::{Container, Identity, qcow2, vdi, vhd, vhdx, vmdk};
use crate::error::{Error, Kind, Result};
use crate::image::Image;
use crate::pour::output::{Output, is_device, only_raw};
use crate::pour::outputs::Outputs;
use crate::pour::{PourOptions, Sink, fill, stream};
use crate::units::Bytes;

impl Container {
    /// The container as an image again, if it is a pure function of the disk.
    ///
    /// # Errors
    /// [`Kind::Capacity`] where the disk is too large for the format; [`Kind::Usage`] where the format cannot
    /// record `identity`, and for a compressed container, whose places follow from the lengths of compressed
    /// data.
    pub fn wrap(&self, image: &Image, identity: &Identity) -> Result<Image> {
        self.check_sector_size(identity.sector_size)?;
        let streamed = || Error::new(Kind::Usage, "what is compressed is laid out while it is written");
        match self {
            Self::Raw => Ok(image.clone()),
            Self::Qcow2(options) if options.codec.is_some() => Err(streamed()),
            Self::Qcow2(options) => qcow2::wrap(image, options),
            Self::Vhd(options) => vhd::wrap(image, options, identity),
            Self::Vdi(options) => vdi::wrap(image, options, identity),
            Self::Vmdk(options) => match options.create_type {
                CreateType::MonolithicSparse => vmdk::wrap(image, options, identity),
                CreateType::StreamOptimized(_) => Err(streamed()),
                _ => Err(Error::new(Kind::Usage, "such a vmdk is several files").about("subformat")),
            },
            Self::Vhdx(options) => vhdx::wrap(image, options, identity),
        }
    }

    /// Writes `image` to the file `path`, or a raw disk to the block device `path`.
    ///
    /// # Errors
    /// As [`Container::wrap`] and [`pour`](crate::pour::pour); [`Kind::Output`] for a device that is in use.
    pub fn write(
        &self,
        image: &Image,
        identity: &Identity,
        path: &Path,
        options: &PourOptions<'_>,
    ) -> Result<()> {
        let Some(files) = self.files(image, identity, path)? else {
            return self.unpublished(image, identity, path, options)?.publish();
        };
        let mut outputs = Outputs::new();
        for (path, image) in files {
            let output = Output::create(&path)?;
            fill(&image, &output, options)?;
            outputs.push(output)?;
        }
        outputs.publish()
    }

    /// The files of a disk that lies in several, the one called `path` first.
    ///
    /// # Errors
    /// As [`Container::wrap`], and [`Kind::Usage`] for a name that no file of the format can have.
    pub(crate) fn files(
        &self,
        image: &Image,
        identity: &Identity,
        path: &Path,
    ) -> Result<Option<Vec<(PathBuf, Image)>>> {
        self.check_sector_size(identity.sector_size)?;
        match self {
            Self::Vmdk(options) if options.create_type.is_several() => {
                vmdk::files(image, options, identity, path).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The names of the files that a disk of `length` bytes becomes.
    ///
    /// # Errors
    /// As [`Container::files`].
    pub(crate) fn names(&self, length: Bytes, path: &Path) -> Result<Vec<PathBuf>> {
        match self {
            Self::Vmdk(options) if options.create_type.is_several() => vmdk::names(options, length, path),
            _ => Ok(vec![path.to_owned()]),
        }
    }

    /// As [`Container::write`], but replaces `old`, the present file `path`, and keeps its mode and owner.
    ///
    /// # Errors
    /// As [`Container::write`], and [`Kind::Usage`] where the old file has other names, which would keep the
    /// old disk.
    pub fn replace(
        &self,
        image: &Image,
        identity: &Identity,
        path: &Path,
        old: &File,
        options: &PourOptions<'_>,
    ) -> Result<()> {
        use std::os::unix::fs::MetadataExt;
        let failed = |error: std::io::Error| Error::io(Kind::Output, "cannot replace the image", path, error);
        let meta = old.metadata().map_err(failed)?;
        if meta.nlink() > 1 {
            return Err(Error::new(Kind::Usage, "the image has other names, which would keep the old disk")
                .at(path)
                .found(format!("{} names", meta.nlink()))
                .hint("convert it into a new image, and make that larger"));
        }
        let output = self.unpublished(image, identity, path, options)?;
        let own = output.file().metadata().map_err(failed)?;
        if (own.uid(), own.gid()) != (meta.uid(), meta.gid()) {
            std::os::unix::fs::fchown(output.file(), Some(meta.uid()), Some(meta.gid())).map_err(failed)?;
        }
        output.file().set_permissions(meta.permissions()).map_err(failed)?;
        output.publish()
    }

    /// The disk as it is read back from a file that has no name yet.
    pub(crate) fn read_back(&self, output: &Output) -> Result<Image> {
        open_output(output, self.format()).map(|opened| opened.image)
    }

    /// The stream that it is, if it is a vmdk that is one.
    fn streamed(&self, identity: &Identity) -> Option<vmdk::Stream> {
        match self {
            Self::Vmdk(options) => vmdk::Stream::of(options, identity),
            _ => None,
        }
    }

    /// The whole file, without its name.
    pub(crate) fn unpublished(
        &self,
        image: &Image,
        identity: &Identity,
        path: &Path,
        options: &PourOptions<'_>,
    ) -> Result<Output> {
        self.check_sector_size(identity.sector_size)?;
        if is_device(path) && *self != Self::Raw {
            return Err(only_raw(path, self.format()));
        }
        let written = match (self, self.streamed(identity)) {
            (Self::Qcow2(qcow2 @ qcow2::Options { codec: Some(codec), .. }), _) => {
                qcow2::compress(image, path, qcow2, *codec, options)
            }
            (_, Some(stream)) => stream.write(image, path, options),
            _ => self.wrap(image, identity).and_then(|image| {
                let output = Output::open(path)?;
                fill(&image, &output, options)?;
                Ok(output)
            }),
        };
        written.map_err(|error| if error.has_place() { error } else { error.at(path) })
    }

    /// Writes `image` to `out`, from its first byte to its last.
    ///
    /// # Errors
    /// As [`Container::write`], and [`Kind::Usage`] for a format whose first bytes depend on its last ones.
    pub fn stream(
        &self,
        image: &Image,
        identity: &Identity,
        out: Sink<'_>,
        options: &PourOptions<'_>,
    ) -> Result<()> {
        self.check_sector_size(identity.sector_size)?;
        match (self, self.streamed(identity)) {
            (Self::Raw, _) => stream(image, out, options),
            (_, Some(stream)) => stream.send(image, out, options),
            _ => Err(Error::new(Kind::Usage, format!("{} cannot be streamed", self.format()))
                .expected("raw, or vmdk of subformat streamOptimized")
                .hint("write it to a file")),
        }
    }
}
