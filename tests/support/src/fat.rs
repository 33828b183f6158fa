//! Judges of a FAT filesystem: fsck.fat, and mtools as a reader.

use std::collections::BTreeMap;
use std::path::Path;

use super::tools::{command, must, run};

/// The output of fsck.fat without its version and its summary.
pub fn remarks(image: &Path) -> Vec<String> {
    let said = run(command("fsck.fat").arg("-n").arg(image));
    let mut remarks: Vec<String> = said
        .text()
        .lines()
        .chain(said.error().lines())
        .filter(|line| {
            let counts = line.contains(" files, ") && line.ends_with(" clusters");
            !(line.is_empty() || counts || line.starts_with("fsck.fat "))
        })
        .map(str::to_owned)
        .collect();
    if said.code != 0 {
        remarks.push(format!("exit code {}", said.code));
    }
    remarks
}

/// fsck.fat finds no fault.
pub fn assert_clean(image: &Path) {
    let remarks = remarks(image);
    assert!(remarks.is_empty(), "fsck.fat -n {}:\n{}", image.display(), remarks.join("\n"));
}

/// Every name below the root and its bytes, `None` for a directory, as mtools copies them out.
pub fn view(image: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let folder = super::tools::scratch();
    // -s with all below the root, -n overwrites without asking, -Q quits at the first fault.
    must(command("mcopy").args(["-s", "-n", "-Q", "-i"]).arg(image).arg("::").arg(folder.path()));
    files(folder.path())
}

/// Every name below a folder of the host and its bytes, `None` for a directory.
pub fn files(top: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut stack = vec![top.to_owned()];
    while let Some(folder) = stack.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name =
                entry.strip_prefix(top).unwrap().to_str().expect("names of FAT are Unicode").to_owned();
            if entry.is_dir() {
                found.insert(name, None);
                stack.push(entry);
            } else {
                found.insert(name, Some(std::fs::read(&entry).unwrap()));
            }
        }
    }
    found
}
