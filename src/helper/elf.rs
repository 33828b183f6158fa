//! Programs of this machine: which libraries they need, and where those are (ELF-64 Object File Format; the generic ABI,
//! "Dynamic Linking"; ld.so(8)).

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::units::usize_of;

/// Types of segments (generic ABI, "Program Header").
const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const PT_INTERP: u64 = 3;
/// Tags of the dynamic section (generic ABI, "Dynamic Section").
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;

/// What a program or library says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Elf {
    /// The program that loads it.
    pub(super) loader: Option<String>,
    /// The names of libraries.
    needed: Vec<String>,
    /// Where they are looked for first.
    folders: Vec<String>,
    /// One past the last byte that is loaded: what follows are sections for debuggers.
    end: usize,
}

/// A number of `bytes` bytes at `at`.
fn number(file: &[u8], at: u64, bytes: usize) -> Option<u64> {
    let start = usize::try_from(at).ok()?;
    let found = file.get(start..start.checked_add(bytes)?)?;
    Some(found.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte)))
}

/// A text that ends with NUL.
fn text(file: &[u8], at: u64) -> Option<String> {
    let rest = file.get(usize::try_from(at).ok()?..)?;
    let bytes = rest.get(..rest.iter().position(|byte| *byte == 0)?)?;
    String::from_utf8(bytes.to_vec()).ok()
}

impl Elf {
    /// What a file says; `None` if it is no 64-bit little-endian program or library, or a damaged one.
    pub(super) fn of(file: &[u8]) -> Option<Self> {
        // Magic, 64 bits, little-endian.
        if !file.starts_with(b"\x7fELF\x02\x01") {
            return None;
        }
        let (table, size, count) = (number(file, 32, 8)?, number(file, 54, 2)?, number(file, 56, 2)?);
        let headers: Vec<u64> = (0..count).map(|at| table.checked_add(at * size)).collect::<Option<_>>()?;
        let mut elf = Self { end: usize_of(table.checked_add(count * size)?), ..Self::default() };
        let mut loads = Vec::new();
        let mut dynamic = None;
        for at in headers {
            let (kind, offset) = (number(file, at, 4)?, number(file, at + 8, 8)?);
            let (address, length) = (number(file, at + 16, 8)?, number(file, at + 32, 8)?);
            elf.end = elf.end.max(usize_of(offset.checked_add(length)?));
            match kind {
                PT_LOAD => loads.push((address, offset, length)),
                PT_DYNAMIC => dynamic = Some((offset, length)),
                PT_INTERP => elf.loader = Some(text(file, offset)?),
                _ => {}
            }
        }
        if let Some((offset, length)) = dynamic {
            elf.read_dynamic(file, &loads, (offset, length))?;
        }
        (elf.end <= file.len()).then_some(elf)
    }

    fn read_dynamic(
        &mut self,
        file: &[u8],
        loads: &[(u64, u64, u64)],
        (offset, length): (u64, u64),
    ) -> Option<()> {
        let entries: Vec<(u64, u64)> = (0..length / 16)
            .map(|at| Some((number(file, offset + at * 16, 8)?, number(file, offset + at * 16 + 8, 8)?)))
            .collect::<Option<_>>()?;
        let address = entries.iter().find(|(tag, _)| *tag == DT_STRTAB)?.1;
        let texts = loads
            .iter()
            .find(|(start, _, length)| (*start..start.saturating_add(*length)).contains(&address))
            .map(|(start, offset, _)| offset + (address - start))?;
        // DT_NULL ends the list.
        for (tag, value) in entries.into_iter().take_while(|(tag, _)| *tag != 0) {
            let named = || text(file, texts.checked_add(value)?);
            match tag {
                DT_NEEDED => self.needed.push(named()?),
                DT_RPATH | DT_RUNPATH => self.folders.extend(named()?.split(':').map(str::to_owned)),
                _ => {}
            }
        }
        Some(())
    }

    /// The file without its sections for debuggers.
    pub(super) fn loaded<'a>(&self, file: &'a [u8]) -> &'a [u8] {
        file.get(..self.end).unwrap_or(file)
    }
}

/// A program with all that it loads.
#[derive(Debug)]
pub(super) struct Loaded {
    /// The program's own bytes.
    pub(super) bytes: Vec<u8>,
    /// What loads it: the path that it says, and the file.
    pub(super) loader: Option<(String, PathBuf)>,
    /// Its libraries: their names and files.
    pub(super) libraries: Vec<(String, PathBuf)>,
}

/// Folders of libraries below the root of a system, as loaders of distributions know them.
fn usual() -> Vec<String> {
    let own = format!("{}-linux-gnu", std::env::consts::ARCH);
    let folders =
        [format!("lib/{own}"), format!("usr/lib/{own}"), "lib64".to_owned(), "usr/lib64".to_owned()];
    folders.into_iter().chain(["lib".to_owned(), "usr/lib".to_owned()]).collect()
}

/// Reads a file of this machine.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path)
        .map_err(|error| Error::io(Kind::Source, "cannot read a part of the helper VM", path, error))
}

/// A program with all that it loads. Libraries are those of the system with the root `root`, or else of this machine.
///
/// # Errors
/// [`Kind::Source`] for a file that is no program, and for a library that is not found.
pub(super) fn load(program: &Path, root: &Path) -> Result<Loaded> {
    let bytes = read(program)?;
    let elf = Elf::of(&bytes).ok_or_else(|| {
        Error::new(Kind::Source, "this is no program that a helper VM can run")
            .at(program)
            .expected("a 64-bit ELF program of this machine's processor")
    })?;
    let roots = [root, Path::new("/")];
    let loader = elf.loader.as_ref().map(|named| {
        let mut inside = roots.iter().map(|root| root.join(named.trim_start_matches('/')));
        (named.clone(), inside.find(|path| path.is_file()).unwrap_or_else(|| named.into()))
    });
    let beside = loader.as_ref().and_then(|(_, file)| file.parent()).map(Path::to_owned);
    let mut libraries: Vec<(String, PathBuf)> = Vec::new();
    let mut waiting = VecDeque::from([(program.to_owned(), elf.clone())]);
    // What glibc loads by itself when a thread ends (pthread_cancel(3)).
    let more = elf.loader.is_some().then(|| "libgcc_s.so.1".to_owned());
    while let Some((user, elf)) = waiting.pop_front() {
        let origin = user.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
        let own = elf.folders.iter().map(|folder| PathBuf::from(folder.replace("$ORIGIN", &origin)));
        let roots = roots.iter().flat_map(|root| usual().into_iter().map(|folder| root.join(folder)));
        let folders: Vec<PathBuf> = own.chain(beside.clone()).chain(roots).collect();
        let optional = if user == program { more.as_ref() } else { None };
        for name in elf.needed.iter().chain(optional) {
            if libraries.iter().any(|(known, _)| known == name) || is_loader(loader.as_ref(), name) {
                continue;
            }
            let found = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
            let Some(found) = found else {
                if optional == Some(name) {
                    continue;
                }
                return Err(Error::new(Kind::Source, format!("the library {name} is missing")).at(&user));
            };
            if let Some(elf) = Elf::of(&read(&found)?) {
                waiting.push_back((found.clone(), elf));
            }
            libraries.push((name.clone(), found));
        }
    }
    let bytes = elf.loaded(&bytes).to_vec();
    Ok(Loaded { bytes, loader, libraries })
}

/// Whether a name is that of the loader, which is a library too.
fn is_loader(loader: Option<&(String, PathBuf)>, name: &str) -> bool {
    loader.is_some_and(|(path, _)| path.rsplit('/').next() == Some(name))
}

/// The bytes of a library without sections for debuggers.
pub(super) fn library(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = read(path)?;
    let end = Elf::of(&bytes).map(|elf| elf.loaded(&bytes).len());
    bytes.truncate(end.unwrap_or(bytes.len()));
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_taken_with_its_loader_and_all_libraries() {
        let own = std::env::current_exe().unwrap();
        let loaded = load(&own, Path::new("/")).unwrap();
        let names: Vec<&str> = loaded.libraries.iter().map(|(name, _)| name.as_str()).collect();
        assert!(names.iter().any(|name| name.starts_with("libc.so")), "{names:?}");
        assert!(loaded.loader.is_some());
        // This is built with sections for debuggers.
        assert!(loaded.bytes.len() < std::fs::read(&own).unwrap().len());
        assert_eq!(
            Elf::of(&loaded.bytes).unwrap().needed,
            Elf::of(&std::fs::read(&own).unwrap()).unwrap().needed
        );
    }

    #[test]
    fn what_is_no_program_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("zpool");
        std::fs::write(&script, "#!/bin/sh\n").unwrap();
        assert!(load(&script, Path::new("/")).unwrap_err().to_string().contains("ELF"));
        let whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        for length in [0, 5, 63, 64, 100, 500, 4000] {
            assert_eq!(Elf::of(&whole[..length]), None, "{length}");
        }
    }
}
