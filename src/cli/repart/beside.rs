//! What is written beside the image: fstab(5), and crypttab(5), which has nothing to say.

use std::path::{Path, PathBuf};

use super::super::{Severity, complain};
use crate::error::{Error, Kind, Result};
use crate::front::repart::{Joining, Options, Outcome, follow_inside, fstab};
use crate::pour::output::Output;
use crate::text::printable_path;

/// What is written beside the image.
#[derive(Debug, clap::Args)]
pub(super) struct Beside {
    /// Where the lines of fstab(5) for MountPoint= go, below --copy-source or --root, before the image is made
    #[arg(long, value_name = "PATH")]
    generate_fstab: Option<PathBuf>,
    /// What becomes of lines that are there: no, auto or replace
    #[arg(long, value_name = "MODE", default_value = "no", hide_possible_values = true)]
    append_fstab: Append,
    /// Where the lines of crypttab(5) would go; there are none, since nothing is encrypted, and so there is no file
    #[arg(long, value_name = "PATH")]
    generate_crypttab: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Append {
    No,
    Auto,
    Replace,
}

impl From<Append> for Joining {
    fn from(append: Append) -> Self {
        match append {
            Append::No => Self::No,
            Append::Auto => Self::Auto,
            Append::Replace => Self::Replace,
        }
    }
}

/// A file that was written before the image. Unless it is kept, it is again what it was.
#[derive(Debug)]
pub(super) struct Early {
    path: PathBuf,
    old: Option<Vec<u8>>,
    kept: bool,
}

impl Early {
    /// Whether the tree is another one than before.
    pub(super) const fn has_changed(&self) -> bool {
        !self.kept
    }

    /// The image is made too.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // The error that ends the run is told, not that this failed too.
        let _ = match &self.old {
            Some(old) => std::fs::write(&self.path, old),
            None => std::fs::remove_file(&self.path),
        };
    }
}

impl Beside {
    /// Writes what was asked for, where there is something to say of `outcome`: below the tree that is copied, so that the
    /// image may hold it, as systemd-repart does.
    ///
    /// # Errors
    /// [`Kind::Usage`] where there is an fstab and none was expected, [`Kind::Output`] for what cannot be read or written.
    pub(super) fn write(&self, outcome: &Outcome, options: &Options) -> Result<Option<Early>> {
        match &self.generate_fstab {
            Some(path) if outcome.mounts() => self.fstab(&below(path, options)?, outcome).map(Some),
            _ => Ok(None),
        }
    }

    /// Tells what was asked for and is not written, in the words of systemd-repart.
    pub(super) fn tell(&self, outcome: &Outcome) {
        let fstab = self.generate_fstab.as_ref().filter(|_| !outcome.mounts());
        for (key, path) in [("MountPoint", fstab), ("EncryptedVolume", self.generate_crypttab.as_ref())] {
            let Some(path) = path.map(printable_path) else { continue };
            let told = format!("{key}= is not specified for any eligible partitions, not generating {path}");
            complain(Severity::Warning, &told);
        }
    }

    fn fstab(&self, path: &Path, outcome: &Outcome) -> Result<Early> {
        let joining = Joining::from(self.append_fstab);
        let there = match std::fs::read(path) {
            Ok(_) if joining == Joining::No => {
                return Err(Error::new(Kind::Usage, "there is an fstab already")
                    .at(path)
                    .at_flag("--append-fstab")
                    .hint("--append-fstab=auto keeps its other lines, --append-fstab=replace does not"));
            }
            Ok(there) => Some(there),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::io(Kind::Output, "cannot read the fstab", path, error)),
        };
        let lines = there.as_deref().filter(|_| joining == Joining::Auto).map(std::str::from_utf8);
        let lines = lines
            .transpose()
            .map_err(|error| Error::new(Kind::Output, "the fstab is not UTF-8").at(path).because(error))?;
        let text = fstab(outcome, lines);
        // A file that says so already keeps its time, and an image with it stays the same.
        let kept = there.as_deref() == Some(text.as_bytes());
        if !kept {
            let output = Output::create(path)?;
            output.write_at(text.as_bytes(), 0)?;
            output.publish()?;
        }
        Ok(Early { path: path.to_owned(), old: there, kept })
    }
}

/// A path below the tree that is copied, and in that tree wherever links of it lead.
fn below(path: &Path, options: &Options) -> Result<PathBuf> {
    let Some(root) = options.copy_source.as_deref().or(options.root.as_deref()) else {
        return Ok(path.to_owned());
    };
    let inner = path.strip_prefix("/").unwrap_or(path);
    if let Some(found) = follow_inside(root, inner)? {
        return Ok(found);
    }
    let (Some(folder), Some(name)) = (inner.parent(), inner.file_name()) else { return Ok(root.join(inner)) };
    let found = follow_inside(root, folder)?;
    let missing = || {
        let folder = root.join(folder);
        Error::io(Kind::Output, "there is no folder for the fstab", folder, rustix::io::Errno::NOENT)
    };
    let file = found.ok_or_else(missing)?.join(name);
    // The kernel would follow it out of the tree.
    if file.is_symlink() {
        return Err(Error::new(Kind::Output, "a symbolic link leads to nothing").at(file));
    }
    Ok(file)
}
