//! Systems of a few files, made by hand in a store of their own: for cases that Nix would never build, or
//! that are slow with real systems.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::nar;
use crate::program::diskwright;
use crate::tools::scratch;

/// A store and what Nix would know about it.
#[derive(Debug)]
pub struct Tiny {
    folder: tempfile::TempDir,
    /// Each store path with its references.
    members: Vec<(String, Vec<String>)>,
    kernel: String,
    initrd: String,
}

impl Default for Tiny {
    fn default() -> Self {
        Self::new()
    }
}

impl Tiny {
    /// A store with a kernel and an initrd, which nothing boots.
    pub fn new() -> Self {
        Self::with("a kernel".as_bytes(), "an initrd".as_bytes())
    }

    /// A store with this kernel and this initrd.
    pub fn with(kernel: &[u8], initrd: &[u8]) -> Self {
        let folder = scratch();
        let mut tiny = Self { folder, members: Vec::new(), kernel: String::new(), initrd: String::new() };
        tiny.kernel = tiny.object("linux-6.1", &[], |place| {
            std::fs::create_dir(place).unwrap();
            std::fs::write(place.join("bzImage"), kernel).unwrap();
        });
        tiny.initrd = tiny.object("initrd-linux-6.1", &[], |place| {
            std::fs::create_dir(place).unwrap();
            std::fs::write(place.join("initrd"), initrd).unwrap();
        });
        tiny
    }

    /// Makes the kernel and the initrd such as boot. It is for before the systems are made.
    pub fn boots(&self, kernel: &Path, initrd: &[u8]) {
        std::fs::copy(kernel, self.host(&self.kernel).join("bzImage")).unwrap();
        std::fs::write(self.host(&self.initrd).join("initrd"), initrd).unwrap();
    }

    /// A folder for other files of a test.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where the store's root lies.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Where a store path lies on this host.
    pub fn host(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// Adds a store path called `name`, which `make` makes, with references to others and never to itself.
    pub fn object(&mut self, name: &str, references: &[&str], make: impl FnOnce(&Path)) -> String {
        // Digits are digits of Nix's base 32, too.
        let path = format!("/nix/store/{:0>32}-{name}", self.members.len());
        let place = self.host(&path);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        make(&place);
        self.members.push((path.clone(), references.iter().map(|path| (*path).to_owned()).collect()));
        path
    }

    /// Adds a reference from one store path to another.
    pub fn refer(&mut self, from: &str, to: &str) {
        let member = self.members.iter_mut().find(|(path, _)| path == from).unwrap();
        member.1.push(to.to_owned());
    }

    /// Adds a system without boot.json.
    pub fn system(&mut self, version: &str) -> String {
        self.system_with(version, |_| {})
    }

    /// The same, with `more` in its toplevel.
    pub fn system_with(&mut self, version: &str, more: impl FnOnce(&Path)) -> String {
        let (kernel, initrd) = (self.kernel.clone(), self.initrd.clone());
        // A store path's name has fewer characters than a version may.
        let plain: String =
            version.chars().filter(|c| c.is_ascii_alphanumeric() || "-.".contains(*c)).collect();
        self.object(&format!("nixos-system-tiny-{plain}"), &[&kernel, &initrd], |place| {
            std::fs::create_dir(place).unwrap();
            symlink(format!("{kernel}/bzImage"), place.join("kernel")).unwrap();
            symlink(format!("{initrd}/initrd"), place.join("initrd")).unwrap();
            for (name, text) in [
                ("init", "#!/bin/sh\n"),
                ("kernel-params", "loglevel=4"),
                ("nixos-version", version),
                ("system", "x86_64-linux"),
            ] {
                std::fs::write(place.join(name), text).unwrap();
            }
            more(place);
        })
    }

    /// The output that `nix-store --dump-db` would give for the whole store.
    pub fn registration(&self) -> String {
        let mut text = String::new();
        for (path, references) in &self.members {
            let (hash, size) = nar::hashed(&self.host(path));
            text += &format!("{path}\n{hash}\n{size}\n\n{}\n", references.len());
            text.extend(references.iter().map(|reference| format!("{reference}\n")));
        }
        text
    }

    /// `diskwright nixos` for one of the systems, with the whole store as its closure and 4 MiB left.
    pub fn nixos(&self, system: &str, layout: &str, out: &Path) -> Command {
        let mut command = self.bare(system, layout, out);
        command.args(["--additional-space", "4MiB"]);
        command
    }

    /// The same without a size.
    pub fn bare(&self, system: &str, layout: &str, out: &Path) -> Command {
        let closure = self.path().join("registration");
        std::fs::write(&closure, self.registration()).unwrap();
        self.with_closure(system, layout, out, &closure)
    }

    /// The same with another closure.
    pub fn with_closure(&self, system: &str, layout: &str, out: &Path, closure: &Path) -> Command {
        let mut command = diskwright();
        command.args(["nixos", "--system", system, "--layout", layout, "--jobs", "2"]);
        command.arg("--store-root").arg(self.root()).arg("--closure").arg(closure).arg("-o").arg(out);
        command
    }
}
