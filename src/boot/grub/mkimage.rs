//! Runs grub-mkimage as an ordinary program: from GRUB's files to a core image, in a folder of its own.

use std::ffi::OsString;

use super::Grub;
use crate::error::{Error, Kind, Result};
use crate::host::program::Program;
use crate::progress::Progress;

/// The contents of a core image.
#[derive(Debug)]
pub(super) struct Core<'a> {
    /// The platform: `i386-pc`.
    pub(super) platform: &'a str,
    /// The path of GRUB's directory, in GRUB's syntax.
    pub(super) prefix: &'a str,
    /// Commands that run before anything else.
    pub(super) config: Option<&'a str>,
    /// Built-in modules; the modules that they need come with them.
    pub(super) modules: &'a [&'a str],
}

impl Core<'_> {
    /// The bytes of the image. The same files give the same bytes, because grub-mkimage writes only a fixed
    /// time.
    ///
    /// # Errors
    /// [`Kind::Source`] where GRUB's files are missing, or where the program fails, with its message.
    pub(super) fn make(&self, grub: &Grub, progress: &Progress) -> Result<Vec<u8>> {
        let folder = grub.platform(self.platform)?;
        for module in self.modules {
            let file = folder.join(format!("{module}.mod"));
            if !file.is_file() {
                return Err(Error::new(Kind::Source, format!("GRUB lacks the module {module}")).at(file));
            }
        }
        let work = tempfile::tempdir().map_err(|error| {
            Error::io(Kind::Output, "cannot make a temporary folder", std::env::temp_dir(), error)
        })?;
        let (output, config) = (work.path().join("core.img"), work.path().join("load.cfg"));
        let words = ["-O", self.platform, "-p", self.prefix].map(OsString::from);
        let mut arguments = vec!["-d".into(), folder.into(), "-o".into(), output.clone().into()];
        arguments.extend(words);
        if let Some(text) = self.config {
            std::fs::write(&config, text)
                .map_err(|error| Error::io(Kind::Output, "cannot write a temporary file", &config, error))?;
            arguments.extend(["-c".into(), config.into()]);
        }
        arguments.extend(self.modules.iter().map(OsString::from));
        Program::new(&grub.mkimage, progress).plain_environment().args(arguments).output()?;
        std::fs::read(&output).map_err(|error| {
            Error::new(Kind::Source, "grub-mkimage wrote no image").at(&grub.mkimage).because(error)
        })
    }
}
