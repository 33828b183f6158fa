//! An entry of a menu, for a system of any kind. The systems of NixOS have generations, and menus of their own.

use crate::error::{Error, Kind, Result};
use crate::text::printable;

/// What a menu starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its name: letters, digits, `+`, `-`, `_` and `.`.
    pub id: String,
    /// Its title, for people.
    pub title: String,
    /// The release of its kernel; may be empty.
    pub version: String,
    /// The key by which systemd-boot sorts entries; may be empty.
    pub sort_key: String,
    /// The kernel, as a path of the filesystem that the loader reads.
    pub kernel: String,
    /// Its initrds, likewise.
    pub initrds: Vec<String>,
    /// The devicetree, likewise.
    pub devicetree: Option<String>,
    /// The folder in which extlinux finds the devicetree of its machine.
    pub devicetrees: Option<String>,
    /// What the kernel is told.
    pub parameters: String,
}

impl Entry {
    /// Its title with the release of its kernel, which tells several of one system apart.
    pub(super) fn title_with_version(&self) -> String {
        match self.version.as_str() {
            "" => self.title.clone(),
            version => format!("{}, with Linux {version}", self.title),
        }
    }

    /// Refuses text that would begin another line of a loader's file.
    pub(super) fn check(&self) -> Result<()> {
        let texts = [&self.id, &self.title, &self.version, &self.sort_key, &self.kernel, &self.parameters];
        let paths = self.initrds.iter().chain(&self.devicetree).chain(&self.devicetrees);
        match texts.into_iter().chain(paths).find(|text| text.chars().any(char::is_control)) {
            None => Ok(()),
            Some(text) => Err(Error::new(Kind::Manifest, "an entry of a menu holds a control character")
                .expected("one line of text")
                .found(printable(text.as_bytes()))),
        }
    }
}

/// Refuses a menu of no entries.
pub(super) fn some(entries: &[Entry]) -> Result<()> {
    match entries {
        [] => Err(Error::new(Kind::Manifest, "there is nothing to boot")),
        entries => entries.iter().try_for_each(Entry::check),
    }
}
