//! Unified kernel images: an EFI program that holds kernel, initrd and parameters. Ready ones are [placed](place()) where
//! systemd-boot finds them, or the firmware itself; others are [assembled](Uki) here from a stub and what goes into it.
//!
//! Source: Unified Kernel Image (UAPI group); systemd 262, `src/ukify/ukify.py`. docs/formats/uki.md says what stands where.

mod assemble;
mod place;
mod sbat;
mod stub;
#[cfg(test)]
mod tests;
pub(crate) mod uname;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::image::Slice;
use crate::text::{printable, printable_path};
use crate::tree::Ready;

pub use place::place;

/// A file that goes into a unified kernel image.
#[derive(Clone, Debug)]
pub enum Part {
    /// A file of the host.
    Host(PathBuf),
    /// A file of the contents of a filesystem.
    Inside {
        /// Its path there.
        path: String,
        /// Its bytes.
        slice: Slice,
    },
}

impl Default for Part {
    fn default() -> Self {
        Self::Host(PathBuf::new())
    }
}

impl From<PathBuf> for Part {
    fn from(path: PathBuf) -> Self {
        Self::Host(path)
    }
}

impl From<&str> for Part {
    fn from(path: &str) -> Self {
        Self::Host(path.into())
    }
}

impl Part {
    /// Its path on the host, if it is there.
    #[must_use]
    pub fn host(&self) -> Option<&Path> {
        match self {
            Self::Host(path) => Some(path),
            Self::Inside { .. } => None,
        }
    }

    /// Whether it is not named yet.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.host().is_some_and(|path| path.as_os_str().is_empty())
    }

    /// Its path, for people.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Host(path) => printable_path(path),
            Self::Inside { path, .. } => format!("{} in the contents", printable(path.as_bytes())),
        }
    }

    /// Its bytes, by reference; `what` is what it is called in errors.
    pub(crate) fn whole(&self, what: &str) -> Result<Slice> {
        match self {
            Self::Host(path) => {
                let ready = Arc::new(Ready::look(path, what)?);
                Ok(ready.image(ready.size())?.whole())
            }
            Self::Inside { slice, .. } => Ok(slice.clone()),
        }
    }

    /// Adds where it is to an error.
    pub(crate) fn place(&self, error: Error) -> Error {
        match self {
            Self::Host(path) => error.at(path),
            Self::Inside { path, .. } => {
                error.why(format!("{} of the contents is meant", printable_path(Path::new(path))))
            }
        }
    }
}

/// What a unified kernel image is made of, beside the command line. The files are referenced until the image is poured.
#[derive(Clone, Debug, Default)]
pub struct Uki {
    /// The EFI program that starts the kernel: systemd-stub.
    pub stub: Part,
    /// The kernel, which is an EFI program too.
    pub kernel: Part,
    /// Initrds, one behind the other.
    pub initrds: Vec<Part>,
    /// The os-release of the system, whose names boot menus show.
    pub os_release: Option<Part>,
    /// The release of the kernel; `None` takes it from the header that a kernel for x86 has.
    pub uname: Option<String>,
    /// A devicetree.
    pub devicetree: Option<Part>,
    /// A picture to show while it boots, a BMP.
    pub splash: Option<Part>,
    /// Microcode, as an initrd that the kernel reads early.
    pub microcode: Option<Part>,
    /// What is added to the list of generations by which Secure Boot revokes (SBAT), a text of CSV; `None` adds the line that
    /// ukify adds, where the stub has space for it.
    pub sbat: Option<Part>,
}

impl Uki {
    /// The host files that it is made of.
    #[must_use]
    pub fn files(&self) -> Vec<&Path> {
        let optional = [&self.os_release, &self.devicetree, &self.splash, &self.microcode, &self.sbat];
        let files = [&self.stub, &self.kernel].into_iter().chain(&self.initrds);
        files.chain(optional.into_iter().flatten()).filter_map(Part::host).collect()
    }
}
