//! Asking the Nix of this host: closure `auto`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::closure::Closure;
use super::store::Store;
use crate::error::{Error, Kind, Result};
use crate::text::{printable, printable_path};

/// The Nix of this host, and the store that it is asked about.
#[derive(Clone, Debug)]
pub struct Nix {
    program: PathBuf,
    store: Store,
}

impl Default for Nix {
    /// `nix-store` as PATH finds it, and the store that it takes by itself.
    fn default() -> Self {
        Self::new("nix-store", Store::default())
    }
}

/// Paths in one call: 500 of at most 256 bytes are a sixteenth of the 2 MiB that a call may have (execve(2)).
const BATCH: usize = 500;

impl Nix {
    /// The program `nix-store`, asked about `store`. For the root `/` the store is the one that Nix takes by itself, also
    /// by the variable NIX_REMOTE.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>, store: Store) -> Self {
        Self { program: program.into(), store }
    }

    /// What Nix knows of everything that `roots` need: store paths, paths in them, or links to them.
    ///
    /// # Errors
    /// [`Kind::Source`] where there is no Nix, or with what it says where it does not know the roots; as
    /// [`Closure::load`] for an answer that makes no sense.
    pub fn closure(&self, roots: &[impl AsRef<Path>]) -> Result<Closure> {
        // A name that begins with a dash is not an option.
        let names = roots.iter().map(|root| match root.as_ref() {
            path if path.is_absolute() => path.as_os_str().to_owned(),
            path => Path::new(".").join(path).into_os_string(),
        });
        let names: Vec<OsString> = names.collect();
        let list = self.run(&["--query", "--requisites"], names.iter())?;
        let list = Closure::from_list(&list, &self.called("--query --requisites"))?;
        let mut registration = Vec::new();
        let paths: Vec<String> = list.paths().map(ToString::to_string).collect();
        for batch in paths.chunks(BATCH) {
            registration.append(&mut self.run(&["--dump-db"], batch.iter())?);
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

    /// What stands for the answer in errors.
    fn called(&self, arguments: &str) -> PathBuf {
        PathBuf::from(format!("{} {arguments}", printable_path(&self.program)))
    }

    /// What the program prints.
    fn run(&self, what: &[&str], paths: impl Iterator<Item = impl AsRef<OsStr>>) -> Result<Vec<u8>> {
        let mut command = Command::new(&self.program);
        if self.store != Store::default() {
            // A name alone would be that of a kind of store.
            let root = self.store.root();
            command.arg("--store").arg(std::path::absolute(root).unwrap_or_else(|_| root.to_owned()));
        }
        let called = self.called(&what.join(" "));
        let output = command.args(what).args(paths).stdin(Stdio::null()).output().map_err(|error| {
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            let what = if missing { "there is no Nix on this host to ask" } else { "cannot run nix-store" };
            Error::io(Kind::Source, what, &called, error)
                .hint("give the closure as a file: the directory that closureInfo makes, say")
        })?;
        if !output.status.success() {
            return Err(Error::new(Kind::Source, "nix-store knows no such closure")
                .at(&called)
                .found(format!("{}: {}", output.status, last_lines(&output.stderr))));
        }
        Ok(output.stdout)
    }
}

/// The end of what a program complains about, in one line.
fn last_lines(bytes: &[u8]) -> String {
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(5)..).unwrap_or_default();
    printable(&last.join(b"; ".as_slice()))
}
