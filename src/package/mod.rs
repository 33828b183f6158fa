//! What a disk is packed into for its way to somewhere: compressed, or in the archive that a cloud takes.
//!
//! | package | is |
//! |---|---|
//! | [`Package::Compressed`] | the raw disk in gzip, xz or zstd, compressed on all cores |
//! | [`Package::Gce`] | `disk.raw` in a tar in gzip, for Google Compute Engine |
//! | [`Package::Ova`] | an OVF description with a streamOptimized VMDK, in a tar |
//! | [`Package::AndroidSparse`] | the sparse image of Android's fastboot |
//! | [`Package::Azure`] | a fixed VHD with the length that Azure takes |
//! | [`Package::HyperV`] | a dynamic VHDX of whole MiB |
//! | [`Package::Vagrant`] | a box for libvirt or VirtualBox |
//! | [`Package::Vma`] | the archive of a machine that Proxmox VE restores |

mod android;
mod blocks;
pub(crate) mod bmap;
pub(crate) mod compress;
mod ova;
mod tar;
mod vagrant;
mod vma;

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::str::FromStr;

use crate::container::{Container, Format, Identity, Lengths, Settings, Subformat};
use crate::error::{Error, Kind, Result, Warning};
use crate::image::Image;
use crate::pour::output::Output;
use crate::pour::{Packer, Sink, fill, stream};
use crate::table::{Plan, Scheme};
use crate::units::{Bytes, GIB, MIB};

pub use compress::{Codec, Compress};
pub use vagrant::Provider;

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
    /// For Microsoft Azure. The disk has whole MiB.
    Azure,
    /// For Hyper-V. The disk has whole MiB.
    HyperV,
    /// For Vagrant.
    Vagrant(Provider),
    /// For Proxmox VE, compressed or not.
    Vma(Option<Compress>),
}

/// The names of packages, and the ends of file names that stand for them.
const NAMES: [(&str, &[&str]); 13] = [
    ("gzip", &[".raw.gz", ".img.gz"]),
    ("xz", &[".raw.xz", ".img.xz"]),
    ("zstd", &[".raw.zst", ".img.zst"]),
    ("gce", &[".tar.gz"]),
    ("ova", &[".ova"]),
    ("android-sparse", &[".simg"]),
    ("azure", &[]),
    ("hyper-v", &[]),
    ("vagrant-virtualbox", &[".virtualbox.box"]),
    ("vagrant-libvirt", &[".box"]),
    ("vma", &[".vma"]),
    ("vma-gzip", &[".vma.gz"]),
    ("vma-zstd", &[".vma.zst"]),
];

impl Package {
    /// The package that the end of a file's name stands for.
    #[must_use]
    pub fn of_path(path: &Path) -> Option<Self> {
        // A name need not be UTF-8, as long as its end is one of these.
        let name = path.file_name()?.as_bytes().to_ascii_lowercase();
        let ends = |suffixes: &[&str]| {
            suffixes
                .iter()
                .any(|suffix| name.strip_suffix(suffix.as_bytes()).is_some_and(|stem| !stem.is_empty()))
        };
        NAMES.iter().find(|(_, suffixes)| ends(suffixes)).and_then(|(name, _)| name.parse().ok())
    }

    /// All names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// All names, with the ends of file names: `gzip (.raw.gz .img.gz)`.
    #[must_use]
    pub fn list() -> String {
        let list = NAMES.iter().map(|(name, suffixes)| match suffixes {
            [] => (*name).to_owned(),
            suffixes => format!("{name} ({})", suffixes.join(" ")),
        });
        list.collect::<Vec<_>>().join(", ")
    }

    /// All ends of file names that stand for a package.
    pub(crate) fn suffixes() -> String {
        let all: Vec<&str> = NAMES.iter().flat_map(|(_, suffixes)| suffixes.iter().copied()).collect();
        all.join(" ")
    }

    /// The same package with another level of compression.
    ///
    /// # Errors
    /// [`Kind::Usage`] about `level` where the package has no such level.
    pub fn with_level(self, level: Option<u8>) -> Result<Self> {
        match (self, level) {
            (package, None) => Ok(package),
            (Self::Compressed(compress), Some(level)) => compress.with_level(level).map(Self::Compressed),
            (Self::Vma(Some(compress)), Some(level)) => {
                compress.with_level(level).map(|compress| Self::Vma(Some(compress)))
            }
            (package, Some(_)) => Err(Error::new(Kind::Usage, format!("{package} does not have levels"))
                .about("level")
                .expected("gzip, xz, zstd, vma-gzip or vma-zstd")),
        }
    }

    /// The format of the disk in it.
    #[must_use]
    pub const fn format(self) -> Format {
        match self {
            Self::Ova | Self::Vagrant(Provider::VirtualBox) => Format::Vmdk,
            Self::Vagrant(Provider::Libvirt) => Format::Qcow2,
            Self::Azure => Format::Vhd,
            Self::HyperV => Format::Vhdx,
            Self::Compressed(_) | Self::Gce | Self::AndroidSparse | Self::Vma(_) => Format::Raw,
        }
    }

    /// The container of the disk in it.
    ///
    /// # Errors
    /// As [`Container::new`].
    pub fn container(self) -> Result<Container> {
        let subformat = match self {
            Self::Ova | Self::Vagrant(Provider::VirtualBox) => Some(Subformat::StreamOptimized),
            Self::Azure => Some(Subformat::Fixed),
            _ => None,
        };
        Container::new(self.format(), &Settings { subformat, ..Settings::default() })
    }

    /// Whether the machines that take it show its disk in sectors of 512 bytes, whatever it was laid out for. A disk of Compute
    /// Engine has logical sectors of 512 bytes unless it is attached otherwise (cloud.google.com/compute/docs/disks, block size),
    /// and Proxmox VE and Vagrant start QEMU with its default.
    pub(crate) const fn is_of_512(self) -> bool {
        matches!(self, Self::Gce | Self::Vagrant(_) | Self::Vma(_))
    }

    /// The length that a disk of `length` gets.
    #[must_use]
    pub fn disk_length(self, length: Bytes) -> Bytes {
        self.lengths().round_up(length)
    }

    /// The lengths that its disks can have.
    pub(crate) const fn lengths(self) -> Lengths {
        let step = match self {
            // "The size of disk.raw must be a multiple of 1 GB" (cloud.google.com/compute/docs/images/import-existing-image).
            Self::Gce => GIB,
            Self::AndroidSparse => android::BLOCK,
            // "All VHDs on Azure must have a virtual size aligned to 1 MB" (learn.microsoft.com/azure/virtual-machines/linux/
            // create-upload-generic). Hyper-V resizes by whole MiB, too.
            Self::Azure | Self::HyperV => MIB,
            Self::Compressed(_) | Self::Ova | Self::Vagrant(_) | Self::Vma(_) => 1,
        };
        let least = match self {
            // A disk for upload has 20,972,032 bytes or more with its footer of 512 (az disk create, --upload-size-bytes).
            Self::Azure => 20 * MIB,
            _ => 0,
        };
        Lengths { step, least }
    }

    /// Refuses a length that nobody who takes the package takes.
    ///
    /// # Errors
    /// [`Kind::Capacity`] about `size`.
    pub(crate) fn check_length(self, length: Bytes) -> Result<()> {
        let most = match self {
            // A VHD has at most 2040 GiB, which is less than the 4095 GiB of Azure's disks with an operating system.
            Self::Azure => Bytes::gib(2040),
            // learn.microsoft.com/windows-server/virtualization/hyper-v/maximum-scale-limits: 64 TB for VHDX.
            Self::HyperV => Bytes::gib(64 << 10),
            _ => return Ok(()),
        };
        if length <= most {
            return Ok(());
        }
        Err(Error::new(Kind::Capacity, format!("{self} takes no disk of this length"))
            .about("size")
            .expected(format!("at most {most}"))
            .found(length.in_full()))
    }

    /// What is to be known of a disk with this table where it goes.
    pub(crate) fn remark(self, plan: &Plan) -> Option<Warning> {
        let for_uefi = plan.scheme == Scheme::Gpt && plan.partitions.iter().any(|own| own.kind.is_esp());
        // "Generation 2 … UEFI-based firmware", and no BIOS (learn.microsoft.com/windows-server/virtualization/hyper-v/plan/
        // should-i-create-a-generation-1-or-2-virtual-machine-in-hyper-v).
        (self == Self::HyperV && !for_uefi).then(|| {
            Warning(
                "a machine of generation 2 does not start from this disk: Hyper-V starts it by UEFI, from the EFI system \
                 partition of a GPT; one of generation 1 starts by a BIOS"
                    .to_owned(),
            )
        })
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
            Self::Azure | Self::HyperV => (self.container()?.wrap(image, identity)?, None),
            Self::Vagrant(provider) => {
                let bundle = vagrant::bundle(provider, image, identity, name, packer)?;
                (bundle, Some(Compress::new(Codec::Gzip)))
            }
            Self::Vma(compress) => (vma::wrap(image, identity, name)?, compress),
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
            Self::Azure => "azure",
            Self::HyperV => "hyper-v",
            Self::Vagrant(Provider::Libvirt) => "vagrant-libvirt",
            Self::Vagrant(Provider::VirtualBox) => "vagrant-virtualbox",
            Self::Vma(None) => "vma",
            Self::Vma(Some(compress)) => match compress.codec() {
                Codec::Gzip => "vma-gzip",
                Codec::Xz => "vma-xz",
                Codec::Zstd => "vma-zstd",
            },
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
            "azure" => Self::Azure,
            "hyper-v" | "hyperv" => Self::HyperV,
            "vagrant-libvirt" => Self::Vagrant(Provider::Libvirt),
            "vagrant-virtualbox" => Self::Vagrant(Provider::VirtualBox),
            "vma" => Self::Vma(None),
            "vma-gzip" => Self::Vma(Some(Compress::new(Codec::Gzip))),
            "vma-zstd" => Self::Vma(Some(Compress::new(Codec::Zstd))),
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
            ("disk.box", Some("vagrant-libvirt")),
            ("disk.virtualbox.box", Some("vagrant-virtualbox")),
            ("vzdump-qemu-100.vma.zst", Some("vma-zstd")),
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
        let strange = std::ffi::OsStr::from_bytes(b"n\xff.raw.zst");
        assert_eq!(
            Package::of_path(Path::new(strange)).map(|package| package.to_string()).as_deref(),
            Some("zstd")
        );
        for (name, _) in NAMES {
            assert_eq!(name.parse::<Package>().unwrap().to_string(), name);
        }
        assert!("bzip2".parse::<Package>().is_err());
        assert_eq!(Package::Gce.disk_length(Bytes::new(1)), Bytes::gib(1));
    }
}
