//! grub-mkimage as an ordinary program: from GRUB's files to a core image, in a folder of its own.

use std::path::Path;
use std::process::{Command, Stdio};

use super::Grub;
use crate::error::{Error, Kind, Result};

/// What goes into a core image.
#[derive(Debug)]
pub(super) struct Core<'a> {
    /// The platform: `i386-pc`.
    pub(super) platform: &'a str,
    /// Where GRUB's directory is, in its own words.
    pub(super) prefix: &'a str,
    /// Commands that run before anything else.
    pub(super) config: Option<&'a str>,
    /// Modules that are built in, and with them what they need.
    pub(super) modules: &'a [&'a str],
}

/// The most of what a program that failed said.
const MOST_SAID: usize = 2000;

impl Core<'_> {
    /// The bytes of the image. The same files give the same bytes: grub-mkimage writes no time but a fixed one.
    ///
    /// # Errors
    /// [`Kind::Source`] where GRUB's files are missing, or with what the program said where it fails.
    pub(super) fn make(&self, grub: &Grub) -> Result<Vec<u8>> {
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
        let mut command = Command::new(&grub.mkimage);
        // Nothing of the caller's environment may speak to it but where libraries lie.
        let kept = ["PATH", "LD_LIBRARY_PATH"].map(|name| (name, std::env::var_os(name)));
        command
            .env_clear()
            .envs(kept.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))));
        command.env("LC_ALL", "C").stdin(Stdio::null());
        command.arg("-d").arg(&folder).args(["-O", self.platform, "-p", self.prefix]).arg("-o").arg(&output);
        if let Some(text) = self.config {
            std::fs::write(&config, text)
                .map_err(|error| Error::io(Kind::Output, "cannot write a temporary file", &config, error))?;
            command.arg("-c").arg(&config);
        }
        command.args(self.modules);
        let said = command
            .output()
            .map_err(|error| Error::io(Kind::Source, "cannot run grub-mkimage", &grub.mkimage, error))?;
        let failed = |what: &str| {
            let text = String::from_utf8_lossy(&said.stderr);
            let text: String = text.trim().chars().take(MOST_SAID).collect();
            let text = text.lines().map(|line| crate::text::printable(line.as_bytes())).collect::<Vec<_>>();
            let error = Error::new(Kind::Source, what).at(&grub.mkimage);
            if text.is_empty() { error.found(said.status) } else { error.found(text.join("\n    ")) }
        };
        if !said.status.success() {
            return Err(failed("grub-mkimage failed"));
        }
        read(&output).map_err(|error| failed("grub-mkimage wrote no image").because(error))
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    std::fs::read(path)
}
