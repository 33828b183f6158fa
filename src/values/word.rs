//! Values that are one of a few words.

use std::fmt;
use std::str::FromStr;

use super::{ValueError, refuse};
use crate::container::qcow2::Compat;
use crate::container::vmdk::Adapter;
use crate::container::{Compression, Format, Subformat};
use crate::filesystem::ext4::TimePolicy;
use crate::filesystem::fat::{FatType, Times};
use crate::package::Package;
use crate::table::Scheme;
use crate::verity::Algorithm;

/// The width of the entries of a FAT, as a manifest has it: `32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FatBits {
    /// By the size of the volume, as mkfs.fat chooses.
    Auto,
    /// This width.
    Fixed(FatType),
}

impl From<FatType> for FatBits {
    fn from(fat: FatType) -> Self {
        Self::Fixed(fat)
    }
}

impl FromStr for FatBits {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "auto" => Ok(Self::Auto),
            "12" => Ok(Self::Fixed(FatType::Fat12)),
            "16" => Ok(Self::Fixed(FatType::Fat16)),
            "32" => Ok(Self::Fixed(FatType::Fat32)),
            _ => refuse("a FAT is 12, 16 or 32 bits wide, or auto"),
        }
    }
}

impl fmt::Display for FatBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Fixed(FatType::Fat12) => "12",
            Self::Fixed(FatType::Fat16) => "16",
            Self::Fixed(FatType::Fat32) => "32",
        })
    }
}

value!(FatBits, number, "FatBits", "12, 16, 32 or auto", {
    "description": "The width of the FAT's entries, or `auto`: by size, as mkfs.fat chooses.",
    "enum": [12, 16, 32, "12", "16", "32", "auto"]
});

words!(TimePolicy, "times that do not fit are", "refuse" => Refuse, "clamp" => Clamp);

value!(TimePolicy, text, "TimePolicy", "\"refuse\" or \"clamp\"", {
    "description": "What becomes of times that do not fit: an error (`refuse`), or the nearest that does (`clamp`).",
    "enum": ["refuse", "clamp"]
});

words!(Times, "times of files are those of", "disk" => Disk, "source" => Source);

value!(Times, text, "FatTimes", "\"disk\" or \"source\"", {
    "description": "Whose times files and directories have: that of the `disk`, or those of the `source`.",
    "enum": ["disk", "source"]
});

words!(Scheme, "a partition table is", "gpt" => Gpt, "mbr" => Mbr, "none" => None);

value!(Scheme, text, "Table", "\"gpt\", \"mbr\" or \"none\"", {
    "description": "The partition table: `gpt`, `mbr`, or `none` for a disk that is its one partition.",
    "enum": ["gpt", "mbr", "none"]
});

/// An attribute of a partition: a name or the number of a bit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute(pub String);

impl FromStr for Attribute {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

value!(Attribute, number, "Attribute", "the name of an attribute or the number of its bit", {
    "description": "The name of an attribute, or the number of its bit (GPT, 0 to 63).",
    "anyOf": [{ "type": "string" }, { "type": "integer", "minimum": 0, "maximum": 63 }]
});

/// The value of a property of ZFS, in the words of zpool(8) and zfs(8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property(pub String);

impl FromStr for Property {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

value!(Property, number, "Property", "the value of a property in quotes, or a number", {
    "description": "The value of a property, in the words of zpool(8) and zfs(8): \"on\", \"zstd-3\", \"1M\".",
    "anyOf": [{ "type": "string" }, { "type": "integer" }]
});

value!(Format, text, "Format", "the name of a format, such as \"raw\"", {
    "description": "The file format of the image: raw, qcow2, …",
    "enum": Format::names().collect::<Vec<_>>()
});

value!(Subformat, text, "Subformat", "the name of a subformat, such as \"fixed\"", {
    "description": "The kind of the format: dynamic or fixed; for vmdk monolithicSparse, streamOptimized, monolithicFlat, \
        twoGbMaxExtentSparse or twoGbMaxExtentFlat.",
    "enum": Subformat::names().collect::<Vec<_>>()
});

value!(Compat, text, "Compat", "\"0.10\" or \"1.1\"", {
    "description": "The version of qcow2, by the QEMU that reads it: 0.10 (version 2) or 1.1 (version 3).",
    "enum": Compat::NAMES
});

value!(Adapter, text, "Adapter", "the name of a controller, such as \"lsilogic\"", {
    "description": "The controller that a vmdk is for: ide, buslogic, lsilogic or legacyESX.",
    "enum": Adapter::NAMES
});

value!(Package, text, "Package", "the name of a package, such as \"zstd\"", {
    "description": "What a disk is packed into.",
    "enum": Package::names().collect::<Vec<_>>()
});

value!(Compression, text, "Compression", "\"none\", \"zlib\" or \"zstd\"", {
    "description": "How clusters are compressed.",
    "enum": Compression::NAMES
});

words!(
    Algorithm,
    "dm-verity hashes with",
    "sha1" => Sha1,
    "sha256" => Sha256,
    "sha384" => Sha384,
    "sha512" => Sha512
);

value!(Algorithm, text, "VerityAlgorithm", "\"sha256\" or another hash", {
    "description": "What dm-verity hashes with: sha256, sha384, sha512, or sha1, which is no longer safe.",
    "enum": Algorithm::ALL.map(Algorithm::name)
});
