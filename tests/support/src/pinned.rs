//! Values that are pinned in fixtures. `DISKWRIGHT_BLESS=1` writes the present values there; the difference
//! belongs in the commit.

use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// Whether pinned values are to be written anew.
pub fn blessing() -> bool {
    std::env::var_os("DISKWRIGHT_BLESS").is_some()
}

/// Compares `found` with the file `name` of the fixtures, or writes it there if that was asked for.
pub fn pinned(name: &str, found: &str) {
    let path = fixtures().join(name);
    if blessing() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, found).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let (mut old, mut new) = (expected.lines(), found.lines());
    for number in 1.. {
        match (old.next(), new.next()) {
            (None, None) => return,
            (old, new) => assert_eq!(
                new, old,
                "line {number} of {name}; if that is meant to be, run again with DISKWRIGHT_BLESS=1"
            ),
        }
    }
}
