//! Single values. Each has one text form, which manifests and the flags of the command line share.
//!
//! [`FromStr`] parses a value. [`Display`](fmt::Display) prints it in a form that parses back to the same
//! value. A manifest holds that text, or also a number or a truth value where that is natural.
//!
//! This module knows the values of what is below a description of a disk. What is above, such as [`Disk`](crate::disk) and
//! the front ends, has the texts of its own values, made with the same macros.

use std::fmt;
use std::str::FromStr;

use serde::de;

use crate::text::printable;

/// Why a text is not a valid value. The message does not repeat the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError(String);

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ValueError {}

/// A [`ValueError`] as a result.
pub(crate) fn refuse<T>(why: impl Into<String>) -> Result<T, ValueError> {
    Err(ValueError(why.into()))
}

/// A number in plain digits, without the sign that the standard library's parser accepts.
fn number<T: FromStr>(digits: &str) -> Option<T> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// The schema's pattern of a size, without anchors: what [`Bytes`](crate::units::Bytes) parses.
macro_rules! size_pattern {
    () => {
        r"\s*[0-9]+(\.[0-9]+)?\s*([KMGTPE]iB|B)?\s*"
    };
}

/// The pattern of a UUID in the schema, without its anchors.
macro_rules! uuid_pattern {
    () => {
        "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
    };
}

/// The longest part of a value that an error repeats, in characters.
const LONGEST_SHOWN: usize = 80;

/// A value as an error shows it: one line of limited length.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = printable(text.as_bytes());
    if let Some((cut, _)) = shown.char_indices().nth(LONGEST_SHOWN) {
        shown.truncate(cut);
        shown.push('…');
    }
    shown
}

/// Reads a value from text; from a number or a truth value only if it is told to.
pub(crate) struct Visitor<T> {
    pub(crate) expected: &'static str,
    pub(crate) numbers: bool,
    pub(crate) truth: bool,
    pub(crate) value: std::marker::PhantomData<T>,
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

/// Lets a manifest read and write a type with [`FromStr`] and `Display`. `text` types are text only, `number`
/// types may also be a number, `truth` types also `true` and `false`.
macro_rules! value {
    ($type:ty, $kind:ident, $name:literal, $expected:literal, $schema:tt) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any($crate::values::Visitor {
                    expected: $expected,
                    numbers: stringify!($kind) != "text",
                    truth: stringify!($kind) == "truth",
                    value: std::marker::PhantomData,
                })
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}

/// Gives an enum of another module the words that stand for it. `what` begins the error for any other word.
macro_rules! words {
    ($type:ty, $what:literal, $($word:literal => $variant:ident),+) => {
        impl std::str::FromStr for $type {
            type Err = $crate::values::ValueError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => $crate::values::refuse(
                        concat!($what, " one of", $(" ", $word, ",",)+).trim_end_matches(','),
                    ),
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $word,)+
                })
            }
        }
    };
}

pub(crate) use {size_pattern, value, words};

mod id;
mod metadata;
mod nixos;
mod size;
#[cfg(test)]
mod tests;
mod word;

pub use id::{DiskId, Guid, VolumeId};
pub use metadata::{Device, EntryOwner, Mode};
pub use nixos::{IdName, NixosFilesystem};
pub use size::{DiskSize, Inodes};
pub use word::{Attribute, FatBits, Property};
