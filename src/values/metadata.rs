//! Metadata of an inode, and nodes that are made rather than copied.

use std::fmt;
use std::str::FromStr;

use super::{ValueError, number, refuse};
use crate::tree::{Account, Accounts, Hardlinks, Owner};

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
    "type": "string", "pattern": "^0?[0-7]{3,4}$"
});

impl FromStr for Owner {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let ids = || {
            let (uid, gid) = text.split_once(':')?;
            // 2^32 - 1 means "no owner" in the system's calls (chown(2)), so no inode can have it.
            let (uid, gid): (u32, u32) = (number(uid)?, number(gid)?);
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

/// The owner of an entry: a rule, or the names of a user and a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryOwner {
    /// The same for every image.
    Rule(Owner),
    /// Names, which the image itself gives numbers.
    Named(Accounts),
}

impl FromStr for EntryOwner {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if let Ok(rule) = text.parse() {
            return Ok(Self::Rule(rule));
        }
        let account = |text: &str| {
            // No name begins with a digit.
            if text.starts_with(|first: char| first.is_ascii_digit()) {
                return number(text).filter(|id| *id != u32::MAX).map(Account::Id);
            }
            // What useradd(8) takes as a name.
            let rest = text.strip_suffix('$').unwrap_or(text);
            let first = rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            let plain = rest.bytes().all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c));
            (first && plain).then(|| Account::Name(text.to_owned()))
        };
        let accounts = || {
            let (user, group) = text.split_once(':')?;
            Some(Accounts { user: account(user)?, group: account(group)? })
        };
        let why = "an owner is root, preserve or USER:GROUP, two numbers below 4294967295 or names that the image has";
        accounts().map_or_else(|| refuse(why), |accounts| Ok(Self::Named(accounts)))
    }
}

impl fmt::Display for EntryOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => rule.fmt(f),
            Self::Named(accounts) => accounts.fmt(f),
        }
    }
}

value!(EntryOwner, text, "EntryOwner", "\"root\", \"preserve\" or \"USER:GROUP\"", {
    "description": "`root` (the default of most entries), `preserve` (as in the source), or USER:GROUP, each a number or a name that the image has in its own /etc/passwd or /etc/group.",
    "type": "string", "pattern": r"^(root|preserve|([0-9]+|[A-Za-z_][A-Za-z0-9_.-]*\$?):([0-9]+|[A-Za-z_][A-Za-z0-9_.-]*\$?))$"
});

words!(Hardlinks, "hard links are", "preserve" => Preserve, "dissolve" => Dissolve, "dedupe" => Dedupe);

value!(Hardlinks, text, "Hardlinks", "\"preserve\", \"dissolve\" or \"dedupe\"", {
    "description": "`preserve` names of one inode, `dissolve` them into files, or `dedupe` equal files into links.",
    "enum": ["preserve", "dissolve", "dedupe"]
});

/// A node that is made rather than copied: a device or a named pipe.
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
        let number = |digits: &str, limit: u32| number(digits).filter(|number| *number <= limit);
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
    "type": "string", "pattern": r"^\s*(p|[cub]\s+[0-9]+\s+[0-9]+)\s*$"
});
