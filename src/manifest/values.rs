//! The single values of a manifest: each has one text form, which the flags of the command line share.
//!
//! A value parses with [`FromStr`], prints with [`Display`](fmt::Display) in a form that parses back to the same value,
//! and reads from a manifest as that text, where it is natural also as a number or a truth value.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::container::Format;
use crate::filesystem::ext4::{Journal, Reserved, TimePolicy};
use crate::filesystem::fat::FatType;
use crate::table::Scheme;
use crate::text::printable;
use crate::tree::{Hardlinks, Owner};
use crate::units::Bytes;

/// Why a text is not the value it should be; the text itself is not repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError(String);

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ValueError {}

/// A [`ValueError`] as a result.
fn refuse<T>(why: impl Into<String>) -> Result<T, ValueError> {
    Err(ValueError(why.into()))
}

/// The longest part of a value that an error repeats, in characters.
const LONGEST_SHOWN: usize = 80;

/// A value as an error shows it: one line, not endless.
pub(super) fn shown(text: &str) -> String {
    let mut shown = printable(text.as_bytes());
    if let Some((cut, _)) = shown.char_indices().nth(LONGEST_SHOWN) {
        shown.truncate(cut);
        shown.push('…');
    }
    shown
}

/// Reads a value as text; as a number or truth value only where it is told to.
struct Visitor<T> {
    expected: &'static str,
    numbers: bool,
    truth: bool,
    value: std::marker::PhantomData<T>,
}

impl<T: FromStr<Err: fmt::Display>> de::Visitor<'_> for Visitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(|why| E::custom(format_args!("bad value `{}`: {why}", shown(text))))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        if self.numbers {
            return self.visit_str(&number.to_string());
        }
        Err(E::invalid_type(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        if self.numbers {
            return self.visit_str(&number.to_string());
        }
        Err(E::invalid_type(de::Unexpected::Signed(number), &self))
    }

    fn visit_bool<E: de::Error>(self, truth: bool) -> Result<T, E> {
        if self.truth {
            return self.visit_str(&truth.to_string());
        }
        Err(E::invalid_type(de::Unexpected::Bool(truth), &self))
    }
}

/// Makes a type with [`FromStr`] and `Display` readable from and writable to a manifest. `text` types are text only,
/// `number` types may be a number too, `truth` types also `true` and `false`.
macro_rules! value {
    ($type:ty, $kind:ident, $name:literal, $expected:literal, $schema:tt) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Visitor {
                    expected: $expected,
                    numbers: stringify!($kind) != "text",
                    truth: stringify!($kind) == "truth",
                    value: std::marker::PhantomData,
                })
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

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
                .map_err(|why: crate::units::SizeError| ValueError(format!("{why}; or write auto"))),
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
    "anyOf": [{ "type": "integer", "minimum": 1 }, { "type": "string", "pattern": "^(auto|[0-9]+(\\.[0-9]+)? ?([KMGTPE]iB|B)?)$" }]
});

/// How large a partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionSize {
    /// As small as its contents allow.
    Auto,
    /// What the other partitions leave of the disk.
    Fill,
    /// Exactly this.
    Fixed(Bytes),
}

impl FromStr for PartitionSize {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "auto" => Ok(Self::Auto),
            "fill" => Ok(Self::Fill),
            size => size
                .parse()
                .map(Self::Fixed)
                .map_err(|why: crate::units::SizeError| ValueError(format!("{why}; or write auto or fill"))),
        }
    }
}

impl fmt::Display for PartitionSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fill => f.write_str("fill"),
            Self::Fixed(size) => size.fmt(f),
        }
    }
}

value!(PartitionSize, number, "PartitionSize", "a size such as \"256MiB\", \"auto\" or \"fill\"", {
    "description": "`auto` (as small as the contents allow), `fill` (what is left of the disk), or a size.",
    "anyOf": [{ "type": "integer", "minimum": 1 }, { "type": "string", "pattern": "^(auto|fill|[0-9]+(\\.[0-9]+)? ?([KMGTPE]iB|B)?)$" }]
});

value!(Bytes, number, "Bytes", "a size such as \"64KiB\"", {
    "description": "A size: bytes, or a number with KiB, MiB, GiB, TiB, PiB or EiB.",
    "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?([KMGTPE]iB|B)?$" }]
});

/// A UUID in its usual text form; GPT calls it GUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guid(pub Uuid);

impl FromStr for Guid {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        // The crate also takes braces, URNs and bare digits; a manifest has one form, so that it can be searched for.
        if text.len() != 36 {
            return refuse("a UUID is 32 hex digits in the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");
        }
        Uuid::try_parse(text)
            .map(Self)
            .or_else(|_| refuse("a UUID is 32 hex digits in the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

value!(Guid, text, "Guid", "a UUID in quotes", {
    "description": "A UUID: 32 hex digits in the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx.",
    "type": "string", "format": "uuid"
});

/// 8 hex digits, with or without `0x`, with or without a dash in the middle.
fn eight_digits(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let joined = match digits.split_once('-') {
        Some((a, b)) if a.len() == 4 && b.len() == 4 => [a, b].concat(),
        Some(_) => return None,
        None => digits.to_owned(),
    };
    let plain = joined.len() == 8 && joined.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u32::from_str_radix(&joined, 16).ok()).flatten()
}

/// How a disk is told from others: the GUID of a GPT, or the signature of an MBR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskId {
    /// Of a GPT.
    Guid(Uuid),
    /// Of an MBR.
    Signature(u32),
}

impl FromStr for DiskId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match (text.contains('-'), eight_digits(text)) {
            (false, Some(signature)) => Ok(Self::Signature(signature)),
            _ => text.parse::<Guid>().map(|guid| Self::Guid(guid.0)).or_else(|_| {
                refuse("a disk is named by a UUID (GPT) or by 8 hex digits such as 0x2178694e (MBR)")
            }),
        }
    }
}

impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guid(guid) => guid.fmt(f),
            Self::Signature(signature) => write!(f, "0x{signature:08x}"),
        }
    }
}

value!(DiskId, text, "DiskId", "a UUID or 8 hex digits, in quotes", {
    "description": "The disk's GUID, or for an MBR its signature: 8 hex digits.",
    "type": "string"
});

/// The id of a filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilesystemId {
    /// Of ext4 and swap.
    Uuid(Uuid),
    /// Of FAT: the volume id.
    Volume(u32),
}

impl FromStr for FilesystemId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match eight_digits(text) {
            Some(volume) => Ok(Self::Volume(volume)),
            None => text.parse::<Guid>().map(|guid| Self::Uuid(guid.0)).or_else(|_| {
                refuse("the id of a filesystem is a UUID, or for vfat 8 hex digits such as 1234-ABCD")
            }),
        }
    }
}

impl fmt::Display for FilesystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(uuid) => uuid.fmt(f),
            Self::Volume(volume) => write!(f, "{:04X}-{:04X}", volume >> 16, volume & 0xffff),
        }
    }
}

value!(FilesystemId, text, "FilesystemId", "a UUID, or for vfat 8 hex digits, in quotes", {
    "description": "A UUID, or for vfat a volume id of 8 hex digits such as 1234-ABCD.",
    "type": "string"
});

/// Permissions with setuid, setgid and sticky: 0 to 0o7777.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u16);

impl FromStr for Mode {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let digits = (3..=5).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        match u16::from_str_radix(text, 8) {
            Ok(mode) if digits && mode <= 0o7777 => Ok(Self(mode)),
            _ => refuse("a mode is three or four octal digits such as 0644 or 1777"),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

value!(Mode, text, "Mode", "octal digits in quotes, such as \"0644\"", {
    "description": "Permissions as octal text, such as \"0644\" or \"1777\".",
    "type": "string", "pattern": "^[0-7]{3,5}$"
});

impl FromStr for Owner {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let ids = || {
            let (uid, gid) = text.split_once(':')?;
            let number =
                |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok());
            // 2^32 - 1 means "no owner" in the system's calls (chown(2)), so no inode can have it.
            let (uid, gid): (u32, u32) = (number(uid)??, number(gid)??);
            (uid != u32::MAX && gid != u32::MAX).then_some(Self::Ids { uid, gid })
        };
        match text {
            "root" => Ok(Self::Root),
            "preserve" => Ok(Self::Preserve),
            _ => ids().map_or_else(
                || refuse("an owner is root, preserve or UID:GID, two numbers below 4294967295"),
                Ok,
            ),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::Preserve => f.write_str("preserve"),
            Self::Ids { uid, gid } => write!(f, "{uid}:{gid}"),
        }
    }
}

value!(Owner, text, "Owner", "\"root\", \"preserve\" or \"UID:GID\"", {
    "description": "`root` (the default), `preserve` (as on the host), or numbers as UID:GID.",
    "type": "string", "pattern": "^(root|preserve|[0-9]+:[0-9]+)$"
});

impl FromStr for Hardlinks {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "preserve" => Ok(Self::Preserve),
            "dissolve" => Ok(Self::Dissolve),
            "dedupe" => Ok(Self::Dedupe),
            _ => refuse("hard links are treated as preserve, dissolve or dedupe"),
        }
    }
}

impl fmt::Display for Hardlinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Preserve => "preserve",
            Self::Dissolve => "dissolve",
            Self::Dedupe => "dedupe",
        })
    }
}

value!(Hardlinks, text, "Hardlinks", "\"preserve\", \"dissolve\" or \"dedupe\"", {
    "description": "`preserve` names of one inode, `dissolve` them into files, or `dedupe` equal files into links.",
    "enum": ["preserve", "dissolve", "dedupe"]
});

/// A node that is made and not copied: a device or a named pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// A character device.
    Character {
        /// Major number, at most 4095.
        major: u32,
        /// Minor number, at most 1048575.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Major number, at most 4095.
        major: u32,
        /// Minor number, at most 1048575.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

impl FromStr for Device {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        // The kernel's device number has 12 bits for the major and 20 for the minor (linux/kdev_t.h).
        let number = |digits: &str, limit: u32| digits.parse().ok().filter(|number| *number <= limit);
        let parts: Vec<&str> = text.split_ascii_whitespace().collect();
        let parsed = match parts.as_slice() {
            ["p"] => Some(Self::Fifo),
            [kind, major, minor] => match (*kind, number(major, 0xfff), number(minor, 0xf_ffff)) {
                ("c" | "u", Some(major), Some(minor)) => Some(Self::Character { major, minor }),
                ("b", Some(major), Some(minor)) => Some(Self::Block { major, minor }),
                _ => None,
            },
            _ => None,
        };
        let why =
            "a device is `c MAJOR MINOR`, `b MAJOR MINOR` or `p`, major up to 4095, minor up to 1048575";
        parsed.map_or_else(|| refuse(why), Ok)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Character { major, minor } => write!(f, "c {major} {minor}"),
            Self::Block { major, minor } => write!(f, "b {major} {minor}"),
            Self::Fifo => f.write_str("p"),
        }
    }
}

value!(Device, text, "Device", "a device in quotes, such as \"c 5 1\"", {
    "description": "`c MAJOR MINOR`, `b MAJOR MINOR`, or `p` for a named pipe, as mknod(1) has it.",
    "type": "string", "pattern": "^(p|[cub] +[0-9]+ +[0-9]+)$"
});

/// How many inodes ext4 gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inodes {
    /// By size, and always enough for the contents.
    Auto,
    /// This many, rounded up to what the block groups hold.
    Count(u64),
}

impl FromStr for Inodes {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "auto" => Ok(Self::Auto),
            number => number.parse().map(Self::Count).or_else(|_| refuse("inodes are auto or a number")),
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
    "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1 }]
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
                .map_err(|why: crate::units::SizeError| ValueError(format!("{why}; or write true or false"))),
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
    "anyOf": [{ "type": "boolean" }, { "type": "integer", "minimum": 1 }, { "type": "string" }]
});

impl FromStr for Reserved {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.strip_suffix('%') {
            Some(number) => match number.parse() {
                // mke2fs(8) -m allows as much.
                Ok(percent) if percent <= 50 => Ok(Self::Percent(percent)),
                _ => refuse("at most 50% can be reserved, in whole percents"),
            },
            None => text.parse().map(Self::Bytes).map_err(|why: crate::units::SizeError| {
                ValueError(format!("{why}; or write percents such as 5%"))
            }),
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
    "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string" }]
});

/// The width of a FAT's entries, as it is written in a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FatBits(pub FatType);

impl FromStr for FatBits {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "12" => Ok(Self(FatType::Fat12)),
            "16" => Ok(Self(FatType::Fat16)),
            "32" => Ok(Self(FatType::Fat32)),
            _ => refuse("a FAT is 12, 16 or 32 bits wide"),
        }
    }
}

impl fmt::Display for FatBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            FatType::Fat12 => "12",
            FatType::Fat16 => "16",
            FatType::Fat32 => "32",
        })
    }
}

value!(FatBits, number, "FatBits", "12, 16 or 32", {
    "description": "The width of the FAT's entries.",
    "enum": [12, 16, 32]
});

impl FromStr for TimePolicy {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "clamp" => Ok(Self::Clamp),
            _ => refuse("times that do not fit are refuse or clamp"),
        }
    }
}

impl fmt::Display for TimePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refuse => "refuse",
            Self::Clamp => "clamp",
        })
    }
}

value!(TimePolicy, text, "TimePolicy", "\"refuse\" or \"clamp\"", {
    "description": "What becomes of times that do not fit: an error (`refuse`), or the nearest that does (`clamp`).",
    "enum": ["refuse", "clamp"]
});

impl FromStr for Scheme {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "gpt" => Ok(Self::Gpt),
            "mbr" => Ok(Self::Mbr),
            "none" => Ok(Self::None),
            _ => refuse("a partition table is gpt, mbr or none"),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gpt => "gpt",
            Self::Mbr => "mbr",
            Self::None => "none",
        })
    }
}

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

value!(Format, text, "Format", "the name of a format, such as \"raw\"", {
    "description": "The file format of the image.",
    "enum": ["raw"]
});
