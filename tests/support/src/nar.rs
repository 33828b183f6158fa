//! Nix's archives, to know the hash of a store path without Nix and without the program under test.
//!
//! Source: the thesis of Eelco Dolstra, figure 5.2.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};

/// An archive that is hashed and not kept.
struct Archive {
    hash: Sha256,
    length: u64,
}

impl Archive {
    /// A string: its length in 64 bits, its bytes, and zeros to a multiple of eight.
    fn text(&mut self, bytes: &[u8]) {
        let length = u64::try_from(bytes.len()).unwrap();
        self.hash.update(length.to_le_bytes());
        self.hash.update(bytes);
        self.hash.update(&[0; 8][..(8 - bytes.len() % 8) % 8]);
        self.length += 8 + length.next_multiple_of(8);
    }

    fn words(&mut self, words: &[&str]) {
        words.iter().for_each(|word| self.text(word.as_bytes()));
    }

    fn node(&mut self, path: &Path) {
        let meta = path.symlink_metadata().unwrap();
        self.words(&["(", "type"]);
        if meta.is_symlink() {
            self.words(&["symlink", "target"]);
            self.text(std::fs::read_link(path).unwrap().as_os_str().as_bytes());
        } else if meta.is_dir() {
            self.words(&["directory"]);
            let mut names: Vec<_> =
                std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            for name in names {
                self.words(&["entry", "(", "name"]);
                self.text(name.as_bytes());
                self.words(&["node"]);
                self.node(&path.join(&name));
                self.words(&[")"]);
            }
        } else {
            self.words(&["regular"]);
            if meta.permissions().mode() & 0o100 != 0 {
                self.words(&["executable", ""]);
            }
            self.words(&["contents"]);
            self.text(&std::fs::read(path).unwrap());
        }
        self.words(&[")"]);
    }
}

/// The SHA-256 of the archive of what is at `path`, in hexadecimal, and its length.
pub fn hashed(path: &Path) -> (String, u64) {
    let mut archive = Archive { hash: Sha256::new(), length: 0 };
    archive.words(&["nix-archive-1"]);
    archive.node(path);
    (archive.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(), archive.length)
}
