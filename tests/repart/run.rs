//! Folders with definitions, and the program in them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::program;
use crate::support::tools::{self, Said, quiet};

/// The seed of NixOS, of which every derived id is known.
pub(crate) const SEED: &str = "--seed=0867da16-f251-457d-a9e8-c31f9a3c220b";

/// A folder to work in.
pub(crate) struct Folder(pub(crate) tempfile::TempDir);

impl Folder {
    /// One with these files.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tools::scratch());
        files.iter().for_each(|(name, text)| folder.write(name, text));
        folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn write_bytes(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// The program with `repart` and these arguments.
    pub(crate) fn repart(&self, arguments: &[&str]) -> Said {
        let mut command = program::diskwright();
        command.current_dir(self.0.path()).arg("repart").args(arguments);
        tools::run(&mut command)
    }

    /// The same; a new image of the definitions in `repart.d`, which has to succeed.
    pub(crate) fn create(&self, arguments: &[&str]) -> Said {
        let usual = ["--empty=create", "--size=auto", "--definitions=repart.d", "--sector-size=512", SEED];
        let _ = std::fs::remove_file(self.path("image.raw"));
        let said = self.repart(&[&usual, arguments, &["image.raw"]].concat());
        assert_eq!(said.code, 0, "{}", said.error());
        said
    }

    /// A line for a shell, in which the program goes by the name of systemd-repart.
    pub(crate) fn shell(&self, line: &str) -> Said {
        let bin = self.path("bin");
        if !bin.exists() {
            std::fs::create_dir(&bin).unwrap();
            std::os::unix::fs::symlink(program::path(), bin.join("systemd-repart")).unwrap();
        }
        let mut command = quiet(Command::new("/bin/sh"));
        let old = command
            .get_envs()
            .find(|(name, _)| *name == "PATH")
            .and_then(|(_, path)| path.map(ToOwned::to_owned));
        let mut path = bin.into_os_string();
        path.push(":");
        path.push(old.unwrap_or_default());
        path.push(":/usr/bin:/bin");
        tools::run(command.env("PATH", path).current_dir(self.0.path()).args(["-c", line]))
    }

    /// A text without the name of this folder.
    pub(crate) fn relative(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

/// What the JSON says of each partition.
pub(crate) fn rows(said: &Said) -> Vec<serde_json::Value> {
    serde_json::from_slice(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.text()))
}

/// Copies a folder with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
