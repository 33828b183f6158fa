//! What a machine starts with: this program as its first process, modules, the programs of the work, and the work.

use std::path::{Path, PathBuf};

use super::cpio::Cpio;
use super::elf;
use super::find::{Need, Parts};
use super::job::{JOB, Job, LIBRARIES, LOADER, MODULES, PROGRAMS, Step};
use crate::error::{Error, Kind, Result};

/// What every machine needs to see its disks.
const DISKS: [&str; 2] = ["virtio_pci", "virtio_blk"];

/// Packs the root of a machine. `files` are added to it.
///
/// # Errors
/// [`Kind::Source`] for a module, program or library that is missing or cannot be read.
pub(super) fn pack(
    parts: &Parts,
    need: &Need,
    (program, files): (&Path, &[(String, Vec<u8>)]),
    steps: Vec<Step>,
) -> Result<Vec<u8>> {
    let mut job = Job { steps, ..Job::default() };
    let mut cpio = Cpio::default();
    // The kernel opens it for the first process before anything is mounted.
    cpio.device("dev/console", (5, 1))?;
    for folder in ["proc", "sys", "run", "tmp", "etc", LIBRARIES] {
        cpio.directory(folder)?;
    }
    // Programs read there what is mounted.
    cpio.link("etc/mtab", "/proc/mounts")?;
    put_own(&mut cpio, program)?;
    let names: Vec<&str> = DISKS.iter().chain(need.modules).chain([&need.module]).copied().collect();
    for (name, bytes) in parts.modules.load(&names)? {
        cpio.file(&format!("{MODULES}/{name}.ko"), 0o644, &bytes)?;
        job.modules.push(name);
    }
    for file in &parts.programs {
        let loaded = parts.load(file)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        cpio.file(&format!("{PROGRAMS}/{name}"), 0o755, &loaded.bytes)?;
        if let Some((_, loader)) = &loaded.loader {
            cpio.file(LOADER, 0o755, &elf::library(loader)?)?;
            job.has_loader = true;
        }
        for (name, library) in &loaded.libraries {
            cpio.file(&format!("{LIBRARIES}/{name}"), 0o755, &elf::library(library)?)?;
        }
    }
    for folder in &parts.data {
        put_data(&mut cpio, folder, &parts.root)?;
    }
    for (name, bytes) in files {
        cpio.file(name, 0o600, bytes)?;
    }
    let job = serde_json::to_vec(&job).map_err(|error| Error::bug("the work is no JSON").because(error))?;
    cpio.file(JOB, 0o644, &job)?;
    cpio.finish()
}

/// This program as the first process: it finds its libraries where it finds them on this machine.
fn put_own(cpio: &mut Cpio, program: &Path) -> Result<()> {
    let own = elf::load(program, Path::new("/"))?;
    cpio.file("init", 0o755, &own.bytes)?;
    if let Some((named, loader)) = &own.loader {
        cpio.file(named.trim_start_matches('/'), 0o755, &elf::library(loader)?)?;
    }
    for (_, library) in &own.libraries {
        cpio.file(library.to_string_lossy().trim_start_matches('/'), 0o755, &elf::library(library)?)?;
    }
    Ok(())
}

/// The files of a folder with data, where the program looks for them: at the same path, as in a store, and from the root.
fn put_data(cpio: &mut Cpio, folder: &Path, root: &Path) -> Result<()> {
    let failed = |error| Error::io(Kind::Source, "cannot read a part of the helper VM", folder, error);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>())
        .map_err(failed)?;
    files.sort();
    for file in files.iter().filter(|file| file.is_file()) {
        let bytes = elf::read(file)?;
        for place in [file.strip_prefix("/"), file.strip_prefix(root)].into_iter().flatten() {
            cpio.file(&place.to_string_lossy(), 0o644, &bytes)?;
        }
    }
    Ok(())
}
