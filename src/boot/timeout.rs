//! The time that a menu waits.

use std::fmt;
use std::str::FromStr;

use crate::values::{ValueError, refuse, value};

/// The time that a menu waits before it boots the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// This many seconds; 0 boots the default at once.
    Seconds(u32),
    /// Until someone chooses.
    Forever,
}

impl Default for Timeout {
    /// 5 seconds, the default of `boot.loader.timeout`.
    fn default() -> Self {
        Self::Seconds(5)
    }
}

impl FromStr for Timeout {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match (text, text.parse()) {
            ("forever", _) => Ok(Self::Forever),
            // GRUB counts the seconds in 31 bits.
            (_, Ok(seconds)) if seconds <= i32::MAX.unsigned_abs() => Ok(Self::Seconds(seconds)),
            _ => refuse("a timeout is a number of seconds, or forever"),
        }
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds(seconds) => seconds.fmt(f),
            Self::Forever => f.write_str("forever"),
        }
    }
}

value!(Timeout, number, "Timeout", "a number of seconds, or \"forever\"", {
    "description": "Seconds that a menu waits, or `forever`.",
    "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": "^(forever|[0-9]+)$" }]
});
