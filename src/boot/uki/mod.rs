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
mod uname;

use std::path::PathBuf;

pub use place::place;

/// What a unified kernel image is made of, beside the command line. The files are referenced until the image is poured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uki {
    /// The EFI program that starts the kernel: systemd-stub.
    pub stub: PathBuf,
    /// The kernel, which is an EFI program too.
    pub kernel: PathBuf,
    /// Initrds, one behind the other.
    pub initrds: Vec<PathBuf>,
    /// The os-release of the system, whose names boot menus show.
    pub os_release: Option<PathBuf>,
    /// The release of the kernel; `None` takes it from the header that a kernel for x86 has.
    pub uname: Option<String>,
    /// A devicetree.
    pub devicetree: Option<PathBuf>,
    /// A picture to show while it boots, a BMP.
    pub splash: Option<PathBuf>,
    /// Microcode, as an initrd that the kernel reads early.
    pub microcode: Option<PathBuf>,
    /// What is added to the list of generations by which Secure Boot revokes (SBAT), a text of CSV; `None` adds the line that
    /// ukify adds, where the stub has space for it.
    pub sbat: Option<PathBuf>,
}

impl Uki {
    /// The host files that it is made of.
    #[must_use]
    pub fn files(&self) -> Vec<&PathBuf> {
        let optional = [&self.os_release, &self.devicetree, &self.splash, &self.microcode, &self.sbat];
        let files = [&self.stub, &self.kernel].into_iter().chain(&self.initrds);
        files.chain(optional.into_iter().flatten()).collect()
    }
}
