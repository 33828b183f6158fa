//! Sizes and counts.

use std::fmt;
use std::str::FromStr;

use super::{ValueError, number, refuse};
use crate::filesystem::ext4::{Journal, Reserved};
use crate::units::{Bytes, SizeError};

/// How large a disk is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiskSize {
    /// As large as its partitions need.
    #[default]
    Auto,
    /// Exactly this.
    Fixed(Bytes),
}

impl FromStr for DiskSize {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "auto" => Ok(Self::Auto),
            size => size
                .parse()
                .map(Self::Fixed)
                .map_err(|why: SizeError| ValueError(format!("{why}; or write auto"))),
        }
    }
}

impl fmt::Display for DiskSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(size) => size.fmt(f),
        }
    }
}

value!(DiskSize, number, "DiskSize", "a size such as \"10GiB\", or \"auto\"", {
    "description": "`auto`, or a size: bytes, or a number with KiB, MiB, GiB, TiB, PiB or EiB.",
    "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": concat!("^(auto|", size_pattern!(), ")$") }]
});

value!(Bytes, number, "Bytes", "a size such as \"64KiB\"", {
    "description": "A size: bytes, or a number with KiB, MiB, GiB, TiB, PiB or EiB.",
    "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": concat!("^", size_pattern!(), "$") }]
});

/// How many inodes ext4 gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inodes {
    /// By size, and always enough for the contents.
    Auto,
    /// This many, rounded up to what the block groups hold.
    Count(u64),
}

impl Inodes {
    /// The number, where one is given.
    #[must_use]
    pub const fn count(self) -> Option<u64> {
        match self {
            Self::Auto => None,
            Self::Count(count) => Some(count),
        }
    }
}

impl FromStr for Inodes {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "auto" => Ok(Self::Auto),
            digits => number(digits)
                .map_or_else(|| refuse("inodes are auto or a number"), |count| Ok(Self::Count(count))),
        }
    }
}

impl fmt::Display for Inodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => count.fmt(f),
        }
    }
}

value!(Inodes, number, "Inodes", "a number or \"auto\"", {
    "description": "`auto`, or how many.",
    "anyOf": [{ "type": "string", "pattern": "^(auto|[0-9]+)$" }, { "type": "integer", "minimum": 0 }]
});

impl FromStr for Journal {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "true" | "auto" => Ok(Self::Auto),
            "false" | "none" => Ok(Self::None),
            size => size
                .parse()
                .map(Self::Size)
                .map_err(|why: SizeError| ValueError(format!("{why}; or write true or false"))),
        }
    }
}

impl fmt::Display for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("true"),
            Self::None => f.write_str("false"),
            Self::Size(size) => size.fmt(f),
        }
    }
}

value!(Journal, truth, "Journal", "true, false, or a size such as \"64MiB\"", {
    "description": "true (of the size e2fsprogs would choose), false, or a size.",
    "anyOf": [
        { "type": "boolean" },
        { "type": "integer", "minimum": 0 },
        { "type": "string", "pattern": concat!("^(true|false|auto|none|", size_pattern!(), ")$") }
    ]
});

impl FromStr for Reserved {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.strip_suffix('%') {
            Some(digits) => match number(digits) {
                // mke2fs(8) -m allows as much.
                Some(percent) if percent <= 50 => Ok(Self::Percent(percent)),
                _ => refuse("at most 50% can be reserved, in whole percents"),
            },
            None => text
                .parse()
                .map(Self::Bytes)
                .map_err(|why: SizeError| ValueError(format!("{why}; or write percents such as 5%"))),
        }
    }
}

impl fmt::Display for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(size) => size.fmt(f),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

value!(Reserved, number, "Reserved", "a size such as \"64MiB\", or percents such as \"5%\"", {
    "description": "A size, or percents of all blocks such as \"5%\" (at most 50).",
    "anyOf": [
        { "type": "integer", "minimum": 0 },
        { "type": "string", "pattern": concat!("^(0*([0-9]|[1-4][0-9]|50)%|", size_pattern!(), ")$") }
    ]
});
