//! The settings of a container from flags or manifest keys, and the one place that interprets them.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::codec::{Codec, Level};
use super::vmdk::CreateType;
use super::{Container, Format, qcow2, vdi, vhd, vhdx, vmdk};
use crate::error::{Error, Kind, Result};
use crate::units::Bytes;

/// The settings of a container, from flags or the keys of a manifest. Any of them may be missing, and they
/// may contradict each other. [`Container::new`] decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct Settings {
    /// Format of the output: raw, qcow2, vpc (or vhd), vdi, vmdk, vhdx [default: what the suffix of OUT says]
    #[cfg_attr(feature = "cli", arg(long, value_name = "FORMAT"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Variant of the format: dynamic or fixed for vpc, vdi and vhdx; monolithicSparse, streamOptimized, monolithicFlat,
    /// twoGbMaxExtentSparse or twoGbMaxExtentFlat for vmdk [default: the first]
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subformat: Option<Subformat>,
    /// Compression: none, zlib or zstd for qcow2, zlib for streamOptimized [default: none; for streamOptimized zlib]
    #[cfg_attr(feature = "cli", arg(long, value_name = "CODEC"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compress: Option<Compression>,
    /// Compression level, from 1 (fast) to 9 for zlib or 19 for zstd (small) [default: 6 for zlib, 3 for zstd]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<u8>,
    /// Cluster size of a qcow2: a power of two from 512 bytes to 2MiB [default: 64KiB]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_size: Option<Bytes>,
    /// Version of qcow2 by the QEMU that reads it: 0.10 (version 2) or 1.1 (version 3) [default: 1.1]
    #[cfg_attr(feature = "cli", arg(long, value_name = "VERSION"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qcow2_compat: Option<qcow2::Compat>,
    /// Controller that a vmdk is for: ide, buslogic, lsilogic or legacyESX [default: ide; for streamOptimized lsilogic]
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<vmdk::Adapter>,
    /// Version of virtual hardware that a vmdk is for, 3 to 99 [default: 4]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware_version: Option<u8>,
}

/// A word without a meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownWord {
    pub(super) what: &'static str,
    pub(super) known: &'static str,
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no such {}; there is {}", self.what, self.known)
    }
}

impl std::error::Error for UnknownWord {}

/// The kinds of some formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subformat {
    /// Only blocks with data are stored (VHD, VDI, VHDX).
    Dynamic,
    /// All blocks are stored, in order (VHD, VHDX, VDI as `static`).
    Fixed,
    /// One file of grains (VMDK).
    MonolithicSparse,
    /// Compressed grains in one stream, for OVF (VMDK).
    StreamOptimized,
    /// A descriptor, and the raw disk beside it (VMDK).
    MonolithicFlat,
    /// A descriptor, and files of grains for at most 2 GiB each (VMDK).
    TwoGbMaxExtentSparse,
    /// A descriptor, and the raw disk in files of at most 2 GiB (VMDK).
    TwoGbMaxExtentFlat,
}

/// Names of subformats; the first one is printed.
const SUBFORMATS: [(Subformat, &[&str]); 7] = [
    (Subformat::Dynamic, &["dynamic"]),
    (Subformat::Fixed, &["fixed", "static"]),
    (Subformat::MonolithicSparse, &["monolithicSparse"]),
    (Subformat::StreamOptimized, &["streamOptimized"]),
    (Subformat::MonolithicFlat, &["monolithicFlat"]),
    (Subformat::TwoGbMaxExtentSparse, &["twoGbMaxExtentSparse"]),
    (Subformat::TwoGbMaxExtentFlat, &["twoGbMaxExtentFlat"]),
];

impl Subformat {
    /// All names that are accepted, for the schema of manifests. Case does not matter.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SUBFORMATS.iter().flat_map(|(_, names)| names.iter().copied())
    }
}

impl FromStr for Subformat {
    type Err = UnknownWord;

    fn from_str(name: &str) -> Result<Self, UnknownWord> {
        let found = SUBFORMATS
            .iter()
            .find(|(_, names)| names.iter().any(|known| known.eq_ignore_ascii_case(name)))
            .map(|(subformat, _)| *subformat);
        let known = "dynamic, fixed or static, monolithicSparse, streamOptimized, monolithicFlat, twoGbMaxExtentSparse, \
                     twoGbMaxExtentFlat";
        found.ok_or(UnknownWord { what: "subformat", known })
    }
}

impl fmt::Display for Subformat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = SUBFORMATS.iter().find(|(subformat, _)| subformat == self);
        f.write_str(own.and_then(|(_, names)| names.first()).copied().unwrap_or_default())
    }
}

/// How clusters are compressed, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not compressed.
    None,
    /// Deflate.
    Zlib,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// All of its names, for the schema of manifests.
    pub const NAMES: [&'static str; 3] = ["none", "zlib", "zstd"];
}

impl FromStr for Compression {
    type Err = UnknownWord;

    fn from_str(name: &str) -> Result<Self, UnknownWord> {
        match name {
            "none" => Ok(Self::None),
            "zlib" => Ok(Self::Zlib),
            "zstd" => Ok(Self::Zstd),
            _ => Err(UnknownWord { what: "compression", known: "none, zlib or zstd" }),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Zlib => "zlib",
            Self::Zstd => "zstd",
        })
    }
}

/// The formats with compression.
const COMPRESSED: &str = "qcow2 (zlib, zstd), vmdk of subformat streamOptimized (zlib)";

impl Container {
    /// The container of `format` with `settings`. The format in `settings` is ignored, because a suffix or
    /// another setting may have decided.
    ///
    /// # Errors
    /// [`Kind::Usage`] about an option that the format does not have, or not with this value.
    pub fn new(format: Format, settings: &Settings) -> Result<Self> {
        match format {
            Format::Raw => settings.only(format, &[]).map(|()| Self::Raw),
            Format::Qcow2 => {
                settings.only(format, &["compress", "level", "cluster_size", "qcow2_compat"])?;
                let compat = settings.qcow2_compat.unwrap_or_default();
                if compat == qcow2::Compat::V2 && settings.compress == Some(Compression::Zstd) {
                    return Err(Error::new(Kind::Usage, "version 2 of qcow2 has no zstd")
                        .about("compress")
                        .expected("zlib, or version 1.1"));
                }
                let usual = qcow2::Options::default();
                let cluster_size = settings.cluster_size.map(qcow2::ClusterSize::new).transpose()?;
                let cluster_size = cluster_size.unwrap_or(usual.cluster_size);
                Ok(Self::Qcow2(qcow2::Options { cluster_size, codec: settings.codec()?, compat, ..usual }))
            }
            Format::Vhd => settings.fixed(format).map(|fixed| Self::Vhd(vhd::Options { fixed })),
            Format::Vdi => settings.fixed(format).map(|fixed| Self::Vdi(vdi::Options { fixed })),
            Format::Vhdx => settings.fixed(format).map(|fixed| Self::Vhdx(vhdx::Options { fixed })),
            Format::Vmdk => {
                let (create_type, adapter) = (settings.create_type()?, settings.adapter);
                let hardware = settings.hardware_version;
                if let Some(wrong) = hardware.filter(|version| !vmdk::HARDWARES.contains(version)) {
                    return Err(Error::new(Kind::Usage, "there is no such version of virtual hardware")
                        .about("hardware_version")
                        .expected("3 to 99")
                        .found(wrong));
                }
                Ok(Self::Vmdk(vmdk::Options { create_type, adapter, hardware }))
            }
        }
    }
}

impl Settings {
    /// The first of them that is given and says something of the inside of the container, except a level.
    pub(crate) fn detail(&self) -> Option<&'static str> {
        let given = [
            ("subformat", self.subformat.is_some()),
            ("compress", self.compress.is_some()),
            ("cluster_size", self.cluster_size.is_some()),
            ("qcow2_compat", self.qcow2_compat.is_some()),
            ("adapter", self.adapter.is_some()),
            ("hardware_version", self.hardware_version.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(key, _)| key)
    }

    /// The first of them that is given.
    pub(crate) fn first(&self) -> Option<&'static str> {
        let format = self.format.map(|_| "format");
        format.or(self.detail()).or(self.level.map(|_| "level"))
    }

    /// Refuses every setting except `keys`.
    fn only(&self, format: Format, keys: &[&str]) -> Result<()> {
        let compressed = self.compress.is_some_and(|codec| codec != Compression::None);
        let subformats = "vpc, vdi and vhdx (dynamic, fixed), vmdk (monolithicSparse, streamOptimized, monolithicFlat, \
                          twoGbMaxExtentSparse, twoGbMaxExtentFlat)";
        let options = [
            (self.subformat.is_some(), "subformat", "this subformat", subformats),
            (compressed, "compress", "compression", COMPRESSED),
            (self.level.is_some(), "level", "levels of compression", COMPRESSED),
            (self.cluster_size.is_some(), "cluster_size", "a cluster size", "qcow2"),
            (self.qcow2_compat.is_some(), "qcow2_compat", "versions to choose from", "qcow2"),
            (self.adapter.is_some(), "adapter", "a controller", "vmdk"),
            (self.hardware_version.is_some(), "hardware_version", "a version of virtual hardware", "vmdk"),
        ];
        match options.into_iter().find(|(given, key, ..)| *given && !keys.contains(key)) {
            None => Ok(()),
            Some((_, key, what, having)) => {
                Err(Error::new(Kind::Usage, format!("{format} does not have {what}"))
                    .about(key)
                    .expected(having))
            }
        }
    }

    /// The error for a subformat that the format does not have.
    fn no_subformat(format: Format, subformat: Subformat) -> Error {
        let names: Vec<String> = format.subformats().iter().map(ToString::to_string).collect();
        Error::new(Kind::Usage, format!("{format} does not have this subformat"))
            .about("subformat")
            .expected(names.join(" or "))
            .found(subformat)
    }

    /// Whether all blocks have a place, for formats with only that choice.
    fn fixed(&self, format: Format) -> Result<bool> {
        self.only(format, &["subformat"])?;
        match self.subformat {
            None | Some(Subformat::Dynamic) => Ok(false),
            Some(Subformat::Fixed) => Ok(true),
            Some(other) => Err(Self::no_subformat(format, other)),
        }
    }

    fn create_type(&self) -> Result<CreateType> {
        let plain = |create_type| {
            self.only(Format::Vmdk, &["subformat", "adapter", "hardware_version"]).map(|()| create_type)
        };
        match self.subformat {
            None | Some(Subformat::MonolithicSparse) => plain(CreateType::MonolithicSparse),
            Some(Subformat::MonolithicFlat) => plain(CreateType::MonolithicFlat),
            Some(Subformat::TwoGbMaxExtentSparse) => plain(CreateType::TwoGbMaxExtentSparse),
            Some(Subformat::TwoGbMaxExtentFlat) => plain(CreateType::TwoGbMaxExtentFlat),
            Some(Subformat::StreamOptimized) => {
                let keys = ["subformat", "compress", "level", "adapter", "hardware_version"];
                self.only(Format::Vmdk, &keys)?;
                match self.compress {
                    // A stream is always compressed.
                    None | Some(Compression::Zlib) => Ok(CreateType::StreamOptimized(self.level()?)),
                    Some(other) => {
                        Err(Error::new(Kind::Usage, "streamOptimized is always compressed by zlib")
                            .about("compress")
                            .expected("zlib")
                            .found(other))
                    }
                }
            }
            Some(other) => Err(Self::no_subformat(Format::Vmdk, other)),
        }
    }

    fn codec(&self) -> Result<Option<Codec>> {
        match self.compress {
            None | Some(Compression::None) if self.level.is_some() => {
                Err(Error::new(Kind::Usage, "a level is for what is compressed")
                    .about("level")
                    .remedy("compress", "compress by zlib or zstd"))
            }
            None | Some(Compression::None) => Ok(None),
            Some(Compression::Zlib) => Ok(Some(Codec::Zlib(self.level()?))),
            Some(Compression::Zstd) => Ok(Some(Codec::Zstd(self.level()?))),
        }
    }

    /// The level that was asked for, or else the default.
    fn level<const MOST: u8>(&self) -> Result<Level<MOST>>
    where
        Level<MOST>: Default,
    {
        self.level.map_or(Ok(Level::default()), Level::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_printed() {
        for (subformat, names) in SUBFORMATS {
            assert_eq!(subformat.to_string(), names[0]);
            assert!(names.iter().all(|name| name.parse() == Ok(subformat)));
            assert_eq!(names[0].to_uppercase().parse(), Ok(subformat));
        }
        for name in Compression::NAMES {
            assert_eq!(name.parse::<Compression>().unwrap().to_string(), name);
        }
        for wrong in ["", "sparse"] {
            assert!(wrong.parse::<Subformat>().unwrap_err().to_string().contains("streamOptimized"));
            assert!(wrong.parse::<Compression>().unwrap_err().to_string().contains("none, zlib or zstd"));
        }
    }

    /// Every option with every format: either it becomes part of the container, or the error names the
    /// option.
    #[test]
    fn options_belong_to_formats() {
        let usual = Settings::default();
        let level = Level::new(9).unwrap();
        let stream = Some(Subformat::StreamOptimized);
        let of = |subformat| Settings { subformat: Some(subformat), ..Settings::default() };
        let by = |compress| Settings { compress: Some(compress), ..Settings::default() };
        let cluster = |size| Settings { cluster_size: Some(Bytes::new(size)), ..Settings::default() };
        let qcow2 = qcow2::Options::default();
        let with = |codec| Ok(Container::Qcow2(qcow2::Options { codec: Some(codec), ..qcow2.clone() }));
        let vmdk =
            |create_type| Ok(Container::Vmdk(vmdk::Options { create_type, ..vmdk::Options::default() }));
        let clusters = qcow2::ClusterSize::new(Bytes::new(4096)).unwrap();
        let (nothing, dynamic, fixed) = (Compression::None, Subformat::Dynamic, Subformat::Fixed);
        for (format, settings, expected) in [
            (Format::Raw, usual.clone(), Ok(Container::Raw)),
            (Format::Raw, by(nothing), Ok(Container::Raw)),
            (Format::Raw, of(fixed), Err("subformat")),
            (Format::Raw, by(Compression::Zlib), Err("compress")),
            (Format::Raw, Settings { level: Some(1), ..usual.clone() }, Err("level")),
            (Format::Raw, cluster(4096), Err("cluster_size")),
            (Format::Qcow2, usual.clone(), Ok(Container::Qcow2(qcow2.clone()))),
            (Format::Qcow2, by(Compression::Zlib), with(Codec::Zlib(Level::default()))),
            (
                Format::Qcow2,
                Settings { level: Some(9), ..by(Compression::Zstd) },
                with(Codec::Zstd(Level::new(9).unwrap())),
            ),
            (Format::Qcow2, Settings { level: Some(10), ..by(Compression::Zlib) }, Err("level")),
            (Format::Qcow2, Settings { level: Some(0), ..by(Compression::Zstd) }, Err("level")),
            (Format::Qcow2, Settings { level: Some(20), ..by(Compression::Zstd) }, Err("level")),
            (Format::Qcow2, Settings { level: Some(3), ..by(nothing) }, Err("level")),
            (
                Format::Qcow2,
                cluster(4096),
                Ok(Container::Qcow2(qcow2::Options { cluster_size: clusters, ..qcow2.clone() })),
            ),
            (Format::Qcow2, cluster(4097), Err("cluster_size")),
            (Format::Qcow2, of(dynamic), Err("subformat")),
            (Format::Vhd, of(fixed), Ok(Container::Vhd(vhd::Options { fixed: true }))),
            (Format::Vhd, of(dynamic), Ok(Container::of(Format::Vhd))),
            (Format::Vhd, by(Compression::Zlib), Err("compress")),
            (Format::Vdi, of(fixed), Ok(Container::Vdi(vdi::Options { fixed: true }))),
            (Format::Vdi, of(Subformat::StreamOptimized), Err("subformat")),
            (Format::Vdi, cluster(4096), Err("cluster_size")),
            (Format::Vhdx, of(fixed), Ok(Container::Vhdx(vhdx::Options { fixed: true }))),
            (Format::Vhdx, of(Subformat::MonolithicSparse), Err("subformat")),
            (Format::Vmdk, usual.clone(), vmdk(CreateType::MonolithicSparse)),
            (Format::Vmdk, of(Subformat::MonolithicFlat), vmdk(CreateType::MonolithicFlat)),
            (Format::Vmdk, of(Subformat::TwoGbMaxExtentSparse), vmdk(CreateType::TwoGbMaxExtentSparse)),
            (Format::Vmdk, of(Subformat::TwoGbMaxExtentFlat), vmdk(CreateType::TwoGbMaxExtentFlat)),
            (Format::Vmdk, Settings { level: Some(1), ..of(Subformat::MonolithicFlat) }, Err("level")),
            (Format::Vmdk, Settings { hardware_version: Some(2), ..usual.clone() }, Err("hardware_version")),
            (Format::Qcow2, Settings { hardware_version: Some(4), ..usual.clone() }, Err("hardware_version")),
            (Format::Vdi, Settings { adapter: "ide".parse().ok(), ..usual.clone() }, Err("adapter")),
            (
                Format::Raw,
                Settings { qcow2_compat: Some(qcow2::Compat::V2), ..usual.clone() },
                Err("qcow2_compat"),
            ),
            (
                Format::Qcow2,
                Settings { qcow2_compat: Some(qcow2::Compat::V2), ..by(Compression::Zstd) },
                Err("compress"),
            ),
            (Format::Vmdk, of(fixed), Err("subformat")),
            (Format::Vmdk, by(Compression::Zlib), Err("compress")),
            (
                Format::Vmdk,
                of(Subformat::StreamOptimized),
                vmdk(CreateType::StreamOptimized(Level::default())),
            ),
            (
                Format::Vmdk,
                Settings { level: Some(9), ..of(Subformat::StreamOptimized) },
                vmdk(CreateType::StreamOptimized(level)),
            ),
            (Format::Vmdk, Settings { subformat: stream, ..by(Compression::Zstd) }, Err("compress")),
            (Format::Vmdk, Settings { subformat: stream, ..by(nothing) }, Err("compress")),
            (Format::Vmdk, Settings { subformat: stream, ..cluster(4096) }, Err("cluster_size")),
        ] {
            let found = Container::new(format, &settings);
            match (found, expected) {
                (Ok(found), expected) => assert_eq!(Ok(found), expected, "{format}, {settings:?}"),
                (Err(error), expected) => {
                    assert_eq!(error.key(), expected.err(), "{format}, {settings:?}: {error}");
                    assert_eq!(error.kind(), Kind::Usage);
                }
            }
        }
    }
}
