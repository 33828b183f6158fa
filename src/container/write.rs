//! Writing an [`Image`] in a format: one place that knows which options belong to which.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::str::FromStr;

use uuid::Uuid;

use super::codec::Codec;
use super::open::open_output;
use super::{Format, qcow2, vdi, vhd, vhdx, vmdk};
use crate::error::{Error, Kind, Result};
use crate::image::Image;
use crate::pour::output::Output;
use crate::pour::{PourOptions, Sink, fill, stream};
use crate::units::Bytes;

/// How a container is written. What a format does not have is an error, not ignored.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// The format.
    pub format: Format,
    /// Which kind of it; `None` is the usual one.
    pub subformat: Option<Subformat>,
    /// How clusters are compressed; `None` stores them as they are.
    pub codec: Option<Codec>,
    /// Bytes of a cluster; `None` is the format's usual size.
    pub cluster_size: Option<Bytes>,
    /// The file that what is not stored is read from.
    pub backing: Option<qcow2::Backing>,
    /// What the ids inside the container derive from.
    pub id: Uuid,
    /// When it was made, in seconds since 1970; formats that cannot hold it take the nearest they can.
    pub time: i64,
    /// The id and time that a container has already and keeps, in formats that have one; others derive from `id`.
    pub identity: Option<Identity>,
    /// The controller that a VMDK is meant for; `None` is the usual one.
    pub adapter: Option<vmdk::Adapter>,
    /// Bytes in a logical sector of a VHDX, 512 or 4096; `None` is 512.
    pub sector_size: Option<u64>,
}

/// What a container is known by: VirtualBox and Hyper-V remember the id of a disk and not only its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub id: Uuid,
    /// When it was made, in seconds since 1970; 0 where the format does not say.
    pub time: i64,
}

/// The kinds that some formats have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subformat {
    /// Blocks are stored as they are needed (VHD, VDI, VHDX).
    Dynamic,
    /// All blocks are stored, in order (VHD, VHDX, VDI as `static`).
    Fixed,
    /// One file of grains (VMDK).
    MonolithicSparse,
    /// Compressed grains in one stream, for OVF (VMDK).
    StreamOptimized,
}

/// Names of subformats; the first one is printed.
const SUBFORMATS: [(Subformat, &[&str]); 4] = [
    (Subformat::Dynamic, &["dynamic"]),
    (Subformat::Fixed, &["fixed", "static"]),
    (Subformat::MonolithicSparse, &["monolithicSparse"]),
    (Subformat::StreamOptimized, &["streamOptimized"]),
];

impl FromStr for Subformat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = SUBFORMATS
            .iter()
            .find(|(_, names)| names.iter().any(|known| known.eq_ignore_ascii_case(name)))
            .map(|(subformat, _)| *subformat);
        found.ok_or_else(|| {
            Error::new(Kind::Usage, "there is no such subformat")
                .expected("dynamic, fixed, static, monolithicSparse or streamOptimized")
                .found(name)
        })
    }
}

impl fmt::Display for Subformat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = SUBFORMATS.iter().find(|(subformat, _)| subformat == self).map(|(_, names)| *names);
        f.write_str(names.and_then(<[_]>::first).unwrap_or(&""))
    }
}

impl WriteOptions {
    /// The options of `format` with everything else as usual.
    #[must_use]
    pub fn of(format: Format) -> Self {
        Self { format, ..Self::default() }
    }

    /// Refuses what the format does not have.
    ///
    /// # Errors
    /// [`Kind::Usage`] naming the option and the formats that have it.
    pub fn check(&self) -> Result<()> {
        let qcow2 = self.format == Format::Qcow2;
        self.only("a cluster size", self.cluster_size.is_some(), qcow2, "qcow2")?;
        self.only("an adapter", self.adapter.is_some(), self.format == Format::Vmdk, "vmdk")?;
        self.only("a backing file", self.backing.is_some(), qcow2, "qcow2")?;
        let other = self.sector_size.is_some_and(|size| size != vhdx::SECTOR);
        self.only("sectors of 4096 bytes", other, self.format == Format::Vhdx, "vhdx")?;
        self.only(
            "this subformat",
            self.subformat.is_some(),
            self.subformat.is_some_and(|subformat| self.format.subformats().contains(&subformat)),
            "vpc, vdi and vhdx (dynamic, fixed), vmdk (monolithicSparse, streamOptimized)",
        )?;
        let compressed = match self.codec {
            None => true,
            Some(Codec::Zlib { .. }) => qcow2 || self.is_stream(),
            Some(Codec::Zstd { .. }) => qcow2,
        };
        let has = "qcow2 (zlib, zstd), vmdk of subformat streamOptimized (zlib)";
        let what =
            self.codec.map_or("compression".to_owned(), |codec| format!("compression by {}", codec.name()));
        self.only(&what, self.codec.is_some(), compressed, has)
    }

    /// Whether it is written from its first byte to its last, whatever it is written to.
    fn is_stream(&self) -> bool {
        self.format == Format::Vmdk && self.subformat == Some(Subformat::StreamOptimized)
    }

    /// Whether ids and times stand in the file, so that it needs something they derive from.
    pub(crate) fn has_ids(&self) -> bool {
        !matches!(self.format, Format::Raw | Format::Qcow2)
    }

    fn only(&self, what: &str, asked: bool, has: bool, others: &str) -> Result<()> {
        if !asked || has {
            return Ok(());
        }
        Err(Error::new(Kind::Usage, format!("{} does not have {what}", self.format)).expected(others))
    }

    pub(crate) fn qcow2(&self) -> qcow2::Options {
        let mut options = qcow2::Options { backing: self.backing.clone(), ..qcow2::Options::default() };
        if let Some(size) = self.cluster_size {
            options.cluster_size = size;
        }
        options
    }

    const fn fixed(&self) -> bool {
        matches!(self.subformat, Some(Subformat::Fixed))
    }

    fn vhd(&self) -> vhd::Options {
        let (kept, time) = (self.kept(), self.identity.map_or(self.time, |identity| identity.time));
        vhd::Options { fixed: self.fixed(), id: self.id, kept, time }
    }

    fn vdi(&self) -> vdi::Options {
        vdi::Options { fixed: self.fixed(), id: self.id, kept: self.kept() }
    }

    fn vhdx(&self) -> vhdx::Options {
        let sector = self.sector_size.unwrap_or(vhdx::SECTOR);
        vhdx::Options { fixed: self.fixed(), id: self.id, kept: self.kept(), sector }
    }

    fn vmdk(&self) -> vmdk::Options {
        let level = match self.codec {
            Some(Codec::Zlib { level }) => Some(level),
            _ => None,
        };
        vmdk::Options { id: self.id, kept: self.kept(), adapter: self.adapter, level }
    }

    /// An id that the container keeps. One that is zero was none.
    fn kept(&self) -> Option<Uuid> {
        self.identity.map(|identity| identity.id).filter(|id| !id.is_nil())
    }

    /// The container as an image again, where it is a pure function of the disk.
    ///
    /// # Errors
    /// [`Kind::Capacity`] where the disk is too large for the format, [`Kind::Usage`] for options it does not have, and
    /// where the container is no such function: a stream's places follow from the lengths of what is compressed.
    pub fn wrap(&self, image: &Image) -> Result<Image> {
        self.check()?;
        match self.format {
            Format::Raw => Ok(image.clone()),
            Format::Qcow2 => qcow2::wrap(image, &self.qcow2()),
            Format::Vpc => vhd::wrap(image, &self.vhd()),
            Format::Vdi => vdi::wrap(image, &self.vdi()),
            Format::Vmdk if self.is_stream() => {
                Err(Error::new(Kind::Usage, "a stream is laid out while it is written"))
            }
            Format::Vmdk => vmdk::wrap(image, &self.vmdk()),
            Format::Vhdx => vhdx::wrap(image, &self.vhdx()),
        }
    }

    /// Writes `image` to the file `path`.
    ///
    /// # Errors
    /// As [`WriteOptions::wrap`] and [`pour`](crate::pour::pour).
    pub fn write(&self, image: &Image, path: &Path, options: &PourOptions<'_>) -> Result<()> {
        self.unpublished(image, path, options)?.publish()
    }

    /// As [`WriteOptions::write`], in the place of `old`, which is the file `path` now, and whose mode and owner it keeps.
    ///
    /// # Errors
    /// As [`WriteOptions::write`], and [`Kind::Usage`] where the old file has other names, which would keep the old disk.
    pub fn replace(&self, image: &Image, path: &Path, old: &File, options: &PourOptions<'_>) -> Result<()> {
        use std::os::unix::fs::MetadataExt;
        let failed = |error: std::io::Error| Error::io(Kind::Output, "cannot replace the image", path, error);
        let meta = old.metadata().map_err(failed)?;
        if meta.nlink() > 1 {
            return Err(Error::new(Kind::Usage, "the image has other names, which would keep the old disk")
                .at(path)
                .found(format!("{} names", meta.nlink()))
                .hint("convert it into a new image, and make that larger"));
        }
        let output = self.unpublished(image, path, options)?;
        let own = output.file().metadata().map_err(failed)?;
        if (own.uid(), own.gid()) != (meta.uid(), meta.gid()) {
            std::os::unix::fs::fchown(output.file(), Some(meta.uid()), Some(meta.gid())).map_err(failed)?;
        }
        output.file().set_permissions(meta.permissions()).map_err(failed)?;
        output.publish()
    }

    /// As [`WriteOptions::write`], but before the file gets its name `check` looks at the disk as it is read back from
    /// the file; where it fails, nothing is left behind.
    ///
    /// # Errors
    /// As [`WriteOptions::write`], [`open`](super::open()) and `check`.
    pub fn write_checked(
        &self,
        image: &Image,
        path: &Path,
        options: &PourOptions<'_>,
        check: &dyn Fn(&Image) -> Result<()>,
    ) -> Result<()> {
        let output = self.unpublished(image, path, options)?;
        check(&open_output(&output, self.format)?.image)?;
        output.publish()
    }

    /// The whole file, without its name.
    fn unpublished(&self, image: &Image, path: &Path, options: &PourOptions<'_>) -> Result<Output> {
        self.check()?;
        match (self.format, self.codec) {
            (Format::Qcow2, Some(codec)) => qcow2::compress(image, path, &self.qcow2(), codec, options),
            (Format::Vmdk, _) if self.is_stream() => vmdk::write_stream(image, path, &self.vmdk(), options),
            _ => {
                let image = self.wrap(image)?;
                let output = Output::create(path)?;
                fill(&image, &output, options)?;
                Ok(output)
            }
        }
        .map_err(|error| if error.has_place() { error } else { error.at(path) })
    }

    /// Writes `image` to `out`, from its first byte to its last.
    ///
    /// # Errors
    /// As [`WriteOptions::write`], and [`Kind::Usage`] for a format whose first bytes depend on its last.
    pub fn stream(&self, image: &Image, out: Sink<'_>, options: &PourOptions<'_>) -> Result<()> {
        self.check()?;
        match self.format {
            Format::Raw => stream(image, out, options),
            Format::Vmdk if self.is_stream() => vmdk::send_stream(image, out, &self.vmdk(), options),
            _ => Err(Error::new(Kind::Usage, format!("{} cannot be streamed", self.format))
                .expected("raw, or vmdk of subformat streamOptimized")
                .hint("write it to a file")),
        }
    }
}
