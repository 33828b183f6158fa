//! Asks the Nix of this host for a closure: closure `auto`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::closure::{Closure, LARGEST};
use super::store::Store;
use crate::error::{Error, Kind, Result};
use crate::host::program::Program;
use crate::progress::Progress;
use crate::text::printable_path;

/// The Nix of this host, and the store that it uses.
#[derive(Clone, Debug)]
pub struct Nix {
    program: PathBuf,
    store: Store,
}

impl Default for Nix {
    /// `nix-store` from PATH, with its default store.
    fn default() -> Self {
        Self::new("nix-store", Store::default())
    }
}

/// Paths in one call: 500 of at most 256 bytes are a sixteenth of the 2 MiB that the arguments may have
/// (execve(2)).
const BATCH: usize = 500;

/// The time limit of one call, since a store may be on another machine.
const LIMIT: Duration = Duration::from_secs(600);

impl Nix {
    /// The program `nix-store`, asked about `store`. For the root `/` it uses Nix's default store, which
    /// NIX_REMOTE may change.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>, store: Store) -> Self {
        Self { program: program.into(), store }
    }

    /// What Nix knows about everything that `roots` need: store paths, paths in them, or links to them.
    ///
    /// # Errors
    /// [`Kind::Source`] where there is no Nix, where Nix does not know the roots (with its message), and
    /// where a call takes more than ten minutes; as [`Closure::load`] for an invalid answer;
    /// [`Kind::Interrupted`] after a signal.
    pub fn closure(&self, roots: &[impl AsRef<Path>], progress: &Progress) -> Result<Closure> {
        // A name that begins with a dash must not look like an option.
        let names = roots.iter().map(|root| match root.as_ref() {
            path if path.is_absolute() => path.as_os_str().to_owned(),
            path => Path::new(".").join(path).into_os_string(),
        });
        let names: Vec<OsString> = names.collect();
        let list = self.run(&["--query", "--requisites"], names.iter(), progress)?;
        let list = Closure::from_list(&list, &self.called("--query --requisites"))?;
        let mut registration = Vec::new();
        let paths: Vec<String> = list.paths().map(ToString::to_string).collect();
        for batch in paths.chunks(BATCH) {
            registration.append(&mut self.run(&["--dump-db"], batch.iter(), progress)?);
        }
        let closure = Closure::from_registration(&registration, &self.called("--dump-db"))?;
        match list.paths().find(|path| !closure.contains(path)) {
            None => Ok(closure),
            Some(missing) => {
                Err(Error::new(Kind::Source, "nix-store does not say what it knows of a store path")
                    .at(self.called("--dump-db"))
                    .expected(missing))
            }
        }
    }

    /// The name of the answer in errors.
    fn called(&self, arguments: &str) -> PathBuf {
        PathBuf::from(format!("{} {arguments}", printable_path(&self.program)))
    }

    /// The output of the program.
    fn run(
        &self,
        what: &[&str],
        paths: impl Iterator<Item = impl AsRef<OsStr>>,
        progress: &Progress,
    ) -> Result<Vec<u8>> {
        let mut arguments: Vec<OsString> = Vec::new();
        if self.store != Store::default() {
            // A plain name would be a kind of store.
            let root = self.store.root();
            let root = std::path::absolute(root)
                .map_err(|error| Error::io(Kind::Source, "there is no current directory", root, error))?;
            arguments.extend(["--store".into(), root.into()]);
        }
        arguments.extend(what.iter().map(OsString::from));
        arguments.extend(paths.map(|path| path.as_ref().to_owned()));
        Program::new(&self.program, progress)
            .called(printable_path(self.called(&what.join(" "))))
            .hint("where there is no Nix, give the closure as a file: the directory that closureInfo makes, say")
            .limit(LIMIT)
            .most(LARGEST)
            .args(arguments)
            .output()
    }
}
