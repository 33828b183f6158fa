//! Features beside the usual ones that a superblock can have from the start: those that files take up later, and those that
//! need no more than a field.

use std::fmt;
use std::str::FromStr;

use super::format::features::{self, Word};
use super::format::{
    COMPAT_DIR_INDEX, COMPAT_EXT_ATTR, COMPAT_HAS_JOURNAL, COMPAT_RESIZE_INODE, INCOMPAT, RO_COMPAT,
    Superblock,
};
use crate::text::nearest;
use crate::values::{ValueError, refuse, value};

/// The features that can be asked for, by their names in e2fsprogs, and what they are for.
const MORE: [&str; 6] = ["casefold", "encrypt", "large_dir", "project", "stable_inodes", "verity"];

/// The first encoding of names that the kernel knows (EXT4_ENC_UTF8_12_1, linux/fs/ext4/ext4.h).
const UTF8_12_1: u16 = 1;
/// AES-256-XTS for contents and AES-256-CTS for names (EXT4_ENCRYPTION_MODE_*), as mke2fs sets them.
const ALGORITHMS: [u8; 4] = [1, 4, 0, 0];

/// A feature, by its name in e2fsprogs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature(&'static str);

impl FromStr for Feature {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if let Some(name) = MORE.into_iter().find(|name| *name == text) {
            return Ok(Self(name));
        }
        let name = text.strip_prefix('^').unwrap_or(text);
        let why = match (features::find(name), text.starts_with('^')) {
            (None, _) => {
                let near =
                    nearest(name, MORE).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                return refuse(format!("no feature of ext4 has this name{near}"));
            }
            (Some((word, bit)), false) if usual(word) & bit != 0 => {
                return refuse("ext4 has this feature already");
            }
            (Some(_), true) => "this feature cannot be left out",
            _ if name == "quota" => "quota needs files of its own, which tune2fs makes",
            _ => "this feature is not written",
        };
        refuse(format!("{why}; those that can be asked for are {}", MORE.join(", ")))
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

value!(Feature, text, "Ext4Feature", "the name of a feature, such as \"verity\"", {
    "description": "A feature of ext4, by its name in e2fsprogs.",
    "enum": ["casefold", "encrypt", "large_dir", "project", "stable_inodes", "verity"]
});

/// The features that every filesystem has here.
const fn usual(word: Word) -> u32 {
    match word {
        Word::Compat => COMPAT_HAS_JOURNAL | COMPAT_EXT_ATTR | COMPAT_RESIZE_INODE | COMPAT_DIR_INDEX,
        Word::Incompat => INCOMPAT,
        Word::RoCompat => RO_COMPAT,
    }
}

impl Feature {
    /// Adds it to a superblock.
    pub(super) fn set(self, superblock: &mut Superblock) {
        if let Some((word, bit)) = features::find(self.0) {
            match word {
                Word::Compat => superblock.s_feature_compat |= bit,
                Word::Incompat => superblock.s_feature_incompat |= bit,
                Word::RoCompat => superblock.s_feature_ro_compat |= bit,
            }
        }
        match self.0 {
            "casefold" => superblock.s_encoding = UTF8_12_1,
            "encrypt" => superblock.s_encrypt_algos = ALGORITHMS,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_asked_for_is_told_why() {
        for name in MORE {
            assert_eq!(name.parse::<Feature>().unwrap().to_string(), name);
            assert!(features::find(name).is_some(), "{name}");
        }
        for (name, why) in [
            ("extent", "ext4 has this feature already"),
            ("64bit", "ext4 has this feature already"),
            ("^metadata_csum", "cannot be left out"),
            ("quota", "tune2fs makes"),
            ("bigalloc", "is not written"),
            ("verty", "did you mean `verity`?"),
            ("", "no feature of ext4 has this name"),
        ] {
            let error = name.parse::<Feature>().unwrap_err().to_string();
            assert!(error.contains(why), "{name}: {error}");
        }
    }
}
