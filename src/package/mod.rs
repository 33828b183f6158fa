//! What a disk is packed into for its way to somewhere: compressed, or in the archive that a cloud takes.
//!
//! | package | is |
//! |---|---|
//! | [`Package::Compressed`] | the raw disk in gzip, xz or zstd, compressed on all cores |
//! | [`Package::Gce`] | `disk.raw` in a tar in gzip, for Google Compute Engine |
//! | [`Package::Ova`] | an OVF description with a streamOptimized VMDK, in a tar |
//! | [`Package::AndroidSparse`] | the sparse image of Android's fastboot |

mod android;
pub(crate) mod bmap;
pub(crate) mod compress;
mod ova;
mod tar;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::container::{Container, Format, Identity, Settings, Subformat};
use crate::error::{Error, Kind, Result};
use crate::image::Image;
use crate::pour::output::Output;
use crate::pour::{Packer, Sink, fill, stream};
use crate::units::{Bytes, GIB};

pub use compress::{Codec, Compress};

/// What a disk is packed into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Package {
    /// The raw disk, compressed.
    Compressed(Compress),
    /// For Google Compute Engine. The disk has whole GiB.
    Gce,
    /// For VMware, VirtualBox and what else takes OVF.
    Ova,
    /// For fastboot.
    AndroidSparse,
}

/// The names of packages, and the ends of file names that stand for them.
const NAMES: [(&str, &[&str]); 6] = [
    ("gzip", &[".raw.gz", ".img.gz"]),
    ("xz", &[".raw.xz", ".img.xz"]),
    ("zstd", &[".raw.zst", ".img.zst"]),
    ("gce", &[".tar.gz"]),
    ("ova", &[".ova"]),
    ("android-sparse", &[".simg"]),
];

impl Package {
    /// The package that the end of a file's name stands for.
    #[must_use]
    pub fn of_path(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let ends = |suffixes: &[&str]| {
            suffixes.iter().any(|suffix| name.strip_suffix(suffix).is_some_and(|stem| !stem.is_empty()))
        };
        NAMES.iter().find(|(_, suffixes)| ends(suffixes)).and_then(|(name, _)| name.parse().ok())
    }

    /// All names, with the ends of file names: `gzip (.raw.gz .img.gz)`.
    #[must_use]
    pub fn list() -> String {
        let list = NAMES.iter().map(|(name, suffixes)| format!("{name} ({})", suffixes.join(" ")));
        list.collect::<Vec<_>>().join(", ")
    }

    /// The same package with another level of compression.
    ///
    /// # Errors
    /// [`Kind::Usage`] about `level` where the package has no such level.
    pub fn with_level(self, level: Option<u8>) -> Result<Self> {
        match (self, level) {
            (package, None) => Ok(package),
            (Self::Compressed(compress), Some(level)) => compress.with_level(level).map(Self::Compressed),
            (package, Some(_)) => Err(Error::new(Kind::Usage, format!("{package} does not have levels"))
                .about("level")
                .expected("gzip, xz or zstd")),
        }
    }

    /// The format of the disk in it.
    #[must_use]
    pub const fn format(self) -> Format {
        match self {
            Self::Ova => Format::Vmdk,
            Self::Compressed(_) | Self::Gce | Self::AndroidSparse => Format::Raw,
        }
    }

    /// The container of the disk in it.
    ///
    /// # Errors
    /// As [`Container::new`].
    pub fn container(self) -> Result<Container> {
        let subformat = (self == Self::Ova).then_some(Subformat::StreamOptimized);
        Container::new(self.format(), &Settings { subformat, ..Settings::default() })
    }

    /// The length that a disk of `length` gets.
    #[must_use]
    pub const fn disk_length(self, length: Bytes) -> Bytes {
        match self {
            // "The size of disk.raw must be a multiple of 1 GB" (cloud.google.com/compute/docs/images/import-existing-image).
            Self::Gce => length.round_up(GIB),
            Self::AndroidSparse => length.round_up(android::BLOCK),
            Self::Compressed(_) | Self::Ova => length,
        }
    }

    /// Writes `image` to the future file `path`.
    ///
    /// # Errors
    /// As [`Container::write`].
    pub(crate) fn unpublished(
        self,
        image: &Image,
        (identity, name): (&Identity, &str),
        path: &Path,
        packer: &Packer,
    ) -> Result<Output> {
        let output = Output::create(path)?;
        let (packed, codec) = self.packed(image, identity, name, packer)?;
        match codec {
            None => fill(&packed, &output, &packer.options())?,
            Some(codec) => {
                let mut at = 0;
                let length = compress::run(&packed, codec, &packer.options(), &mut |bytes| {
                    output.write_at(bytes, at)?;
                    at += crate::units::u64_of(bytes.len());
                    Ok(())
                })?;
                output.set_length(length)?;
            }
        }
        Ok(output)
    }

    /// Writes `image` to `out`.
    ///
    /// # Errors
    /// As [`Container::stream`].
    pub fn stream(
        self,
        image: &Image,
        (identity, name): (&Identity, &str),
        out: Sink<'_>,
        packer: &Packer,
    ) -> Result<()> {
        let (packed, codec) = self.packed(image, identity, name, packer)?;
        let Some(codec) = codec else { return stream(&packed, out, &packer.options()) };
        let write = &mut |bytes: &[u8]| out.write_all(bytes).map_err(crate::pour::write_error);
        compress::run(&packed, codec, &packer.options(), write)?;
        out.flush().map_err(crate::pour::write_error)
    }

    /// What is written, and how it is compressed.
    fn packed(
        self,
        image: &Image,
        identity: &Identity,
        name: &str,
        packer: &Packer,
    ) -> Result<(Image, Option<Compress>)> {
        Ok(match self {
            Self::Compressed(compress) => (image.clone(), Some(compress)),
            Self::Gce => {
                let file = tar::File { name: "disk.raw", bytes: image.whole() };
                (tar::archive(&[file], identity.time)?, Some(Compress::new(Codec::Gzip)))
            }
            Self::Ova => (ova::archive(image, identity, name, packer)?, None),
            Self::AndroidSparse => (android::wrap(image)?, None),
        })
    }
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compressed(compress) => compress.codec().name(),
            Self::Gce => "gce",
            Self::Ova => "ova",
            Self::AndroidSparse => "android-sparse",
        })
    }
}

/// A name that is not a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPackage;

impl fmt::Display for UnknownPackage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
        write!(f, "there is no such package; there is {}", names.join(", "))
    }
}

impl std::error::Error for UnknownPackage {}

impl FromStr for Package {
    type Err = UnknownPackage;

    fn from_str(name: &str) -> Result<Self, UnknownPackage> {
        Ok(match name {
            "gzip" => Self::Compressed(Compress::new(Codec::Gzip)),
            "xz" => Self::Compressed(Compress::new(Codec::Xz)),
            "zstd" => Self::Compressed(Compress::new(Codec::Zstd)),
            "gce" => Self::Gce,
            "ova" => Self::Ova,
            "android-sparse" => Self::AndroidSparse,
            _ => return Err(UnknownPackage),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_names_lead_to_packages() {
        for (path, name) in [
            ("disk.raw.zst", Some("zstd")),
            ("a.b/DISK.IMG.GZ", Some("gzip")),
            ("disk.img.xz", Some("xz")),
            ("disk.tar.gz", Some("gce")),
            ("disk.ova", Some("ova")),
            ("disk.simg", Some("android-sparse")),
            ("disk.qcow2.zst", None),
            ("disk.zst", None),
            (".ova", None),
            ("disk.img", None),
        ] {
            assert_eq!(
                Package::of_path(Path::new(path)).map(|package| package.to_string()).as_deref(),
                name,
                "{path}"
            );
        }
        for (name, _) in NAMES {
            assert_eq!(name.parse::<Package>().unwrap().to_string(), name);
        }
        assert!("bzip2".parse::<Package>().is_err());
        assert_eq!(Package::Gce.disk_length(Bytes::new(1)), Bytes::gib(1));
    }
}
