//! Features by their names in e2fsprogs: those that a filesystem can have or lack from the start.

use std::fmt;
use std::str::FromStr;

use super::form::Form;
use super::format::Superblock;
use super::format::features::{self, Word, compat, ro_compat};
use crate::text::nearest;
use crate::values::{ValueError, refuse, value};

/// The features that can be asked for, and with `^` be left out.
const CHOICES: [&str; 18] = [
    "64bit",
    "casefold",
    "dir_nlink",
    "encrypt",
    "extent",
    "extra_isize",
    "filetype",
    "flex_bg",
    "has_journal",
    "huge_file",
    "large_dir",
    "metadata_csum",
    "metadata_csum_seed",
    "project",
    "resize_inode",
    "stable_inodes",
    "uninit_bg",
    "verity",
];

/// The features that every filesystem has here. A list as mke2fs takes it may name them.
const ALWAYS: [&str; 4] = ["dir_index", "ext_attr", "large_file", "sparse_super"];

/// The first encoding of names that the kernel knows (EXT4_ENC_UTF8_12_1, linux/fs/ext4/ext4.h).
const UTF8_12_1: u16 = 1;
/// AES-256-XTS for contents and AES-256-CTS for names (EXT4_ENCRYPTION_MODE_*), as mke2fs sets them.
const ALGORITHMS: [u8; 4] = [1, 4, 0, 0];

/// A feature to have or to leave out, by its name in e2fsprogs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    name: &'static str,
    /// Whether it is there.
    on: bool,
}

impl FromStr for Feature {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (name, on) = text.strip_prefix('^').map_or((text, true), |name| (name, false));
        // mke2fs knows both spellings.
        let name = if name == "extents" { "extent" } else { name };
        if let Some(name) = CHOICES.into_iter().find(|known| *known == name) {
            return Ok(Self { name, on });
        }
        let why = match features::find(name) {
            None => {
                let near =
                    nearest(name, CHOICES).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                return refuse(format!("no feature of ext4 has this name{near}"));
            }
            Some((word, bit)) if always(word) & bit != 0 => {
                match ALWAYS.into_iter().find(|known| on && *known == name) {
                    Some(name) => return Ok(Self { name, on }),
                    None => "this feature cannot be left out",
                }
            }
            Some(_) if !on => return refuse("ext4 does not have this feature here"),
            _ if name == "quota" => "quota needs files of its own, which tune2fs makes",
            _ if name == "orphan_file" => "orphan_file needs a file of its own, which tune2fs makes",
            _ if name == "sparse_super2" || name == "meta_bg" => {
                "this feature is not written: with it the kernel does not grow the filesystem through its reserved blocks"
            }
            _ if name == "inline_data" || name == "ea_inode" || name == "bigalloc" => {
                "this feature is not written: it changes where the data of files lies, and GRUB refuses it"
            }
            _ => "this feature is not written",
        };
        refuse(format!("{why}; those that can be chosen are {}", CHOICES.join(", ")))
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.on { "" } else { "^" })?;
        f.write_str(self.name)
    }
}

value!(Feature, text, "Ext4Feature", "the name of a feature, such as \"verity\" or \"^64bit\"", {
    "description": "A feature of ext4, by its name in e2fsprogs; ^ in front of it leaves it out.",
    "type": "string",
    "pattern": "^\\^?(64bit|casefold|dir_index|dir_nlink|encrypt|ext_attr|extents?|extra_isize|filetype|flex_bg|has_journal|huge_file|large_dir|large_file|metadata_csum|metadata_csum_seed|project|resize_inode|sparse_super|stable_inodes|uninit_bg|verity)$"
});

/// The features that every filesystem has here.
const fn always(word: Word) -> u32 {
    match word {
        Word::Compat => compat::EXT_ATTR | compat::DIR_INDEX,
        Word::Incompat => 0,
        Word::RoCompat => ro_compat::SPARSE_SUPER | ro_compat::LARGE_FILE,
    }
}

impl Feature {
    /// Whether this is about the journal, and then whether there is one.
    pub(super) fn journal(self) -> Option<bool> {
        (self.name == "has_journal").then_some(self.on)
    }

    /// Adds it to a form, or takes it away.
    pub(super) fn apply(self, form: &mut Form) {
        let Some((word, bit)) = features::find(self.name) else { return };
        let own = match word {
            Word::Compat => &mut form.compat,
            Word::Incompat => &mut form.incompat,
            Word::RoCompat => &mut form.ro_compat,
        };
        *own = if self.on { *own | bit } else { *own & !bit };
    }

    /// Sets the fields that it has in a superblock.
    pub(super) fn set(self, superblock: &mut Superblock) {
        match (self.name, self.on) {
            ("casefold", true) => superblock.s_encoding = UTF8_12_1,
            ("encrypt", true) => superblock.s_encrypt_algos = ALGORITHMS,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_asked_for_is_told_why() {
        for name in CHOICES {
            assert_eq!(name.parse::<Feature>().unwrap().to_string(), name);
            assert!(features::find(name).is_some(), "{name}");
            let without = format!("^{name}");
            assert_eq!(without.parse::<Feature>().unwrap().to_string(), without);
        }
        for name in ALWAYS {
            let (word, bit) = features::find(name).unwrap();
            assert!(always(word) & bit != 0 && name.parse::<Feature>().is_ok(), "{name}");
        }
        for (name, why) in [
            ("^dir_index", "cannot be left out"),
            ("quota", "tune2fs makes"),
            ("orphan_file", "tune2fs makes"),
            ("bigalloc", "is not written"),
            ("^bigalloc", "does not have this feature"),
            ("verty", "did you mean `verity`?"),
            ("", "no feature of ext4 has this name"),
        ] {
            let error = name.parse::<Feature>().unwrap_err().to_string();
            assert!(error.contains(why), "{name}: {error}");
        }
    }
}
