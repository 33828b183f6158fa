//! The values of the `nixos` section.

use std::fmt;
use std::str::FromStr;

use super::{ValueError, refuse};
use crate::tree::Chmod;

/// The filesystem of the root of a NixOS system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NixosFilesystem {
    /// ext4.
    #[default]
    Ext4,
}

words!(NixosFilesystem, "the filesystem of the root is", "ext4" => Ext4);

value!(NixosFilesystem, text, "NixosFilesystem", "\"ext4\"", {
    "description": "The filesystem of the root.",
    "enum": ["ext4"]
});

value!(Chmod, text, "Chmod", "permissions in quotes, such as \"0644\"", {
    "description": "Permissions: octal digits, or as chmod and rsync write them, such as `u=rwX,go=rX` or `D0755,F0644`.",
    "type": "string"
});

/// A user or a group: a name that an image knows, or a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdName {
    /// A number.
    Id(u32),
    /// A name.
    Name(String),
}

impl FromStr for IdName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            // 2^32 - 1 means "no owner" in the system's calls (chown(2)).
            let id = text.parse().ok().filter(|id| *id != u32::MAX);
            return id.map_or_else(
                || refuse("a user or group is a name, or a number below 4294967295"),
                |id| Ok(Self::Id(id)),
            );
        }
        if text.contains([':', '\n', '\0']) {
            return refuse("a user or group is a name without `:`, or a number");
        }
        Ok(Self::Name(text.to_owned()))
    }
}

impl fmt::Display for IdName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

value!(IdName, number, "IdName", "a name or a number", {
    "description": "A user or group: a name that the image's /etc/passwd and /etc/group know, or a number.",
    "anyOf": [{ "type": "string" }, { "type": "integer", "minimum": 0, "maximum": 4_294_967_294_u64 }]
});
