//! How the names of a filesystem are compared. That is fixed when it is made, and stands in its master node.

use std::collections::HashSet;

use super::zap::Form;
use crate::error::{Error, Kind, Result};
use crate::text::shortened;
use crate::tree::{NodeId, Tree};

/// Upper and lower case are the same (fs/zfs.h, ZFS_CASE_INSENSITIVE).
const INSENSITIVE: u64 = 1;

/// What a filesystem takes for the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// Flags of u8_textprep.h.
    pub(super) normalization: u64,
    pub(super) utf8_only: bool,
    /// 0 for names whose case counts.
    pub(super) case: u64,
}

impl Names {
    /// What tables hash of a name.
    pub(super) const fn form(self) -> Form {
        Form::new(self.normalization, self.case > 0)
    }

    /// Refuses names of a directory that it cannot have, or whose normal form is not known here.
    ///
    /// # Errors
    /// [`Kind::Manifest`] with the path.
    pub(super) fn check<'a>(
        self,
        tree: &Tree,
        directory: NodeId,
        names: impl Iterator<Item = &'a [u8]>,
    ) -> Result<()> {
        if self == Self::default() {
            return Ok(());
        }
        let mut seen = HashSet::new();
        for name in names {
            let refuse = |what: &str, expected: &str| {
                let name = shortened(name, 80);
                Err(Error::new(Kind::Manifest, what.to_owned())
                    .at(tree.path(directory))
                    .expected(expected)
                    .found(format!("`{name}`")))
            };
            if self.utf8_only && std::str::from_utf8(name).is_err() {
                return refuse("ZFS with `utf8only` cannot hold this name", "UTF-8");
            }
            if self.form() != Form::BYTES && !name.is_ascii() {
                return refuse(
                    "no name of this kind is written with `normalization` or `casesensitivity`",
                    "ASCII, which is its own normal form",
                );
            }
            if self.case == INSENSITIVE && !seen.insert(name.to_ascii_uppercase()) {
                return refuse("two names are the same where their case does not count", "another name");
            }
        }
        Ok(())
    }
}
