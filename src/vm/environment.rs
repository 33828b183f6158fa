//! The variables of a run script (nixpkgs, `qemu-vm.nix`), and what they mean.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::error::{Error, Kind, Result};

/// The variables of the environment, as far as a machine asks for them.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl FromIterator<(OsString, OsString)> for Environment {
    fn from_iter<T: IntoIterator<Item = (OsString, OsString)>>(variables: T) -> Self {
        Self(variables.into_iter().collect())
    }
}

impl Environment {
    /// The environment of this process.
    #[must_use]
    pub fn own() -> Self {
        std::env::vars_os().collect()
    }

    /// A variable; an empty one counts as one that is not set, as in the script.
    pub(super) fn get(&self, name: &str) -> Option<&OsString> {
        self.0.get(OsStr::new(name)).filter(|value| !value.is_empty())
    }

    /// The folders with programs.
    pub(super) fn folders(&self) -> Option<&OsStr> {
        self.get("PATH").map(OsString::as_os_str)
    }

    /// A variable as text.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.to_str().map(Some).ok_or_else(|| {
            Error::new(Kind::Usage, format!("the variable {name} is not UTF-8"))
                .found(crate::text::printable_path(value))
        })
    }

    /// The words of a variable, as a shell splits what is not in quotes.
    pub(super) fn words(&self, name: &str) -> Result<Vec<String>> {
        Ok(self.text(name)?.unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect())
    }

    /// The folder for work that the caller gives: TMPDIR, where USE_TMPDIR is set too.
    pub(super) fn work(&self) -> Option<PathBuf> {
        self.get("USE_TMPDIR").and(self.get("TMPDIR")).map(PathBuf::from)
    }

    /// The file in place of a state's disk.
    pub(super) fn disk_image(&self) -> Option<PathBuf> {
        self.get("NIX_DISK_IMAGE").map(PathBuf::from)
    }

    /// The variables of the EFI firmware.
    pub(super) fn efi_variables(&self) -> Option<PathBuf> {
        self.get("NIX_EFI_VARS").map(PathBuf::from)
    }

    /// Another kernel for the machine `name`: NIXPKGS_QEMU_KERNEL_NAME, where other characters than letters and digits are `_`.
    pub(super) fn kernel(&self, name: &str) -> Option<PathBuf> {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let name: String = name.chars().map(plain).collect();
        self.get(&format!("NIXPKGS_QEMU_KERNEL_{name}")).map(PathBuf::from)
    }

    /// Where TPMs keep what they know, in place of a folder of the state.
    pub(super) fn tpm_state(&self) -> Option<PathBuf> {
        self.get("NIX_SWTPM_DIR").map(PathBuf::from)
    }

    /// A variable that is set, even to nothing.
    pub(super) fn set(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn variables_mean_what_they_mean_in_the_script() {
        let own = environment(&[
            ("TMPDIR", "/t"),
            ("QEMU_OPTS", " -m  4G\n-snapshot "),
            ("NIXPKGS_QEMU_KERNEL_a_b_1", "/k"),
        ]);
        assert_eq!(own.work(), None);
        assert_eq!(own.words("QEMU_OPTS").unwrap(), ["-m", "4G", "-snapshot"]);
        assert_eq!((own.kernel("a-b.1"), own.kernel("a")), (Some("/k".into()), None));
        assert_eq!(environment(&[("TMPDIR", "/t"), ("USE_TMPDIR", "1")]).work(), Some("/t".into()));
        assert_eq!(environment(&[("TMPDIR", "/t"), ("USE_TMPDIR", "")]).work(), None);
        assert_eq!(environment(&[("NIX_DISK_IMAGE", "")]).disk_image(), None);
    }
}
