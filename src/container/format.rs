//! The formats and their names.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::Subformat;
use crate::filesystem::SUFFIXES;

/// The format of an output file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// The bytes of the disk without a container; holes stay holes of the file.
    #[default]
    Raw,
    /// The format of QEMU.
    Qcow2,
    /// VHD: Virtual PC, Hyper-V, Azure.
    Vhd,
    /// The format of VirtualBox.
    Vdi,
    /// The format of VMware.
    Vmdk,
    /// VHDX: Hyper-V.
    Vhdx,
}

/// Every format with its names (the first one is printed), and the suffixes of file names that stand for it.
/// Those that people give to a single filesystem stand for raw, too.
const FORMATS: [(Format, &[&str], &[&str]); 6] = [
    (Format::Raw, &["raw"], &["img", "raw"]),
    (Format::Qcow2, &["qcow2"], &["qcow2"]),
    (Format::Vhd, &["vpc", "vhd"], &["vhd", "vpc"]),
    (Format::Vdi, &["vdi"], &["vdi"]),
    (Format::Vmdk, &["vmdk"], &["vmdk"]),
    (Format::Vhdx, &["vhdx"], &["vhdx"]),
];

impl Format {
    /// The format that the suffix of `path` stands for.
    #[must_use]
    pub fn of_path(path: &Path) -> Option<Self> {
        let suffix = path.extension()?.to_str()?.to_ascii_lowercase();
        FORMATS
            .iter()
            .find(|(format, _, suffixes)| format.all_suffixes(suffixes).any(|known| known == suffix))
            .map(|(format, _, _)| *format)
    }

    /// The suffixes of the format itself, and of what is written as it.
    fn all_suffixes(self, own: &'static [&'static str]) -> impl Iterator<Item = &'static str> {
        let more: &[&str] = if self == Self::Raw { &SUFFIXES } else { &[] };
        own.iter().chain(more).copied()
    }

    /// The suffix of an output that is named after its manifest.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Raw => "img",
            Self::Qcow2 => "qcow2",
            Self::Vhd => "vhd",
            Self::Vdi => "vdi",
            Self::Vmdk => "vmdk",
            Self::Vhdx => "vhdx",
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vhd => "vpc",
            Self::Vdi => "vdi",
            Self::Vmdk => "vmdk",
            Self::Vhdx => "vhdx",
        }
    }

    /// Its kinds, the default first; empty if there is only one.
    #[must_use]
    pub const fn subformats(self) -> &'static [Subformat] {
        match self {
            Self::Raw | Self::Qcow2 => &[],
            Self::Vhd | Self::Vdi | Self::Vhdx => &[Subformat::Dynamic, Subformat::Fixed],
            Self::Vmdk => &[
                Subformat::MonolithicSparse,
                Subformat::StreamOptimized,
                Subformat::MonolithicFlat,
                Subformat::TwoGbMaxExtentSparse,
                Subformat::TwoGbMaxExtentFlat,
            ],
        }
    }

    /// What QEMU calls it.
    #[must_use]
    pub const fn qemu_name(self) -> &'static str {
        self.name()
    }

    /// All names that are accepted, for the schema of manifests.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FORMATS.iter().flat_map(|(_, names, _)| names.iter().copied())
    }

    /// All names and suffixes, for help and errors: `raw (.img .raw)`.
    #[must_use]
    pub fn list() -> String {
        FORMATS
            .iter()
            .map(|(format, _, suffixes)| {
                let all: Vec<&str> = format.all_suffixes(suffixes).collect();
                format!("{} (.{})", format.name(), all.join(" ."))
            })
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// A name that is not a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFormat;

impl fmt::Display for UnknownFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = FORMATS.iter().flat_map(|(_, names, _)| names.iter().copied()).collect();
        write!(f, "no format that this version writes; there is {}", names.join(", "))
    }
}

impl std::error::Error for UnknownFormat {}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        FORMATS
            .iter()
            .find(|(_, names, _)| names.contains(&name))
            .map(|(format, _, _)| *format)
            .ok_or(UnknownFormat)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_suffixes_lead_to_formats_and_strange_ones_do_not() {
        for (path, format) in [
            ("disk.img", Some(Format::Raw)),
            ("a/disk.RAW", Some(Format::Raw)),
            ("root.ext4", Some(Format::Raw)),
            ("disk.vhd", Some(Format::Vhd)),
            ("disk.zip", None),
            ("disk", None),
            (".img", None),
        ] {
            assert_eq!(Format::of_path(Path::new(path)), format, "{path}");
        }
        for (format, names, suffixes) in FORMATS {
            for name in names {
                assert_eq!(name.parse(), Ok(format));
            }
            assert_eq!(format.to_string().parse(), Ok(format));
            assert!(suffixes.contains(&format.suffix()));
        }
        assert_eq!("floppy".parse::<Format>(), Err(UnknownFormat));
        assert!(Format::list().starts_with("raw (.img"));
    }
}
