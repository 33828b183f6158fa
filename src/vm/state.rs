//! What a machine keeps from one start to the next, in a folder that is named by the digest of what it lies on.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::machine::Mode;
use crate::error::{Error, Kind, Result};
use crate::nix::{Store, StorePath};

/// What the folder of a machine's states has after the name of the machine.
pub(crate) const SUFFIX: &str = "-vm";
/// The file that says what a folder is. It is locked while the machine runs.
const RECORD: &str = "state.json";
/// Characters of the digest in the name of a folder: 128 bits.
const SHORT: usize = 32;
/// How often, and after which pauses, a lock is tried.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);
/// What helps with a record that says nothing.
const REMOVE: &str = "remove the folder that it is in, if nothing there is needed";
/// The largest record that is read.
const LARGEST: u64 = 1 << 20;

/// What a state lies on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The version of this record: 1.
    pub version: u32,
    /// The name of the machine.
    pub name: String,
    /// How it gets its disks.
    pub mode: Mode,
    /// The store path of its system.
    pub system: String,
    /// The folder of this host that holds nix/store.
    pub store_root: PathBuf,
    /// SHA-256 of the disks that were not written.
    pub digest: String,
}

/// A folder in use by this process.
#[derive(Debug)]
pub(super) struct State {
    /// It is locked as long as it is open.
    _record: File,
}

/// A folder as `vm list` shows it.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// The folder.
    pub folder: PathBuf,
    /// What it lies on.
    #[serde(flatten)]
    pub record: Record,
    /// Bytes that it takes on this host.
    pub bytes: u64,
    /// Whether a machine runs with it.
    pub in_use: bool,
    /// Whether its system is no longer in the store, so that nothing can start with it.
    pub orphaned: bool,
    /// When a machine was last started with it.
    #[serde(skip)]
    pub started: Option<SystemTime>,
}

/// What is in a folder of states.
#[derive(Debug, Default)]
pub struct Found {
    /// The states, the one that was started last first.
    pub states: Vec<Listed>,
    /// Why there are others that cannot be read. Nothing is known of them, so they are left alone.
    pub damaged: Vec<Error>,
}

/// The folder of a state: `states` itself, where that is one, or else the folder in it that is named by the digest.
///
/// # Errors
/// [`Kind::Usage`] where the folder lies on something else.
pub(super) fn folder(states: &Path, record: &Record) -> Result<PathBuf> {
    let own = states.join(RECORD).exists();
    let folder = if own {
        states.to_owned()
    } else {
        states.join(record.digest.get(..SHORT).unwrap_or(&record.digest))
    };
    if let Some(found) = read(&folder)? {
        check(&folder, &found, record)?;
        // The disks of a machine that runs say nothing that could be checked.
        if is_in_use(&folder) {
            return Err(in_use(&folder));
        }
    }
    Ok(folder)
}

/// Whether a machine runs with the state.
fn is_in_use(folder: &Path) -> bool {
    File::open(folder.join(RECORD))
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn in_use(folder: &Path) -> Error {
    Error::new(Kind::Usage, "a machine runs with this state already")
        .at(folder)
        .hint("end it, or name another folder of states")
}

/// Locks a record. A process that lists states has the lock for a moment.
fn lock(file: &File, folder: &Path) -> Result<()> {
    for _ in 0..ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(TryLockError::Error(error)) => {
                return Err(Error::io(Kind::Output, "cannot lock the state of the machine", folder, error));
            }
        }
    }
    Err(in_use(folder))
}

fn check(folder: &Path, found: &Record, wanted: &Record) -> Result<()> {
    if found.digest == wanted.digest {
        return Ok(());
    }
    Err(Error::new(Kind::Usage, "the state lies on other disks than those of this machine")
        .at(folder)
        .about("state")
        .expected(format!("the digest {}", wanted.digest))
        .found(format!("{}, of {}", found.digest, found.system))
        .hint("name the folder of all states: each machine then finds its own state, or begins one"))
}

/// The record of a folder, if it has one.
fn read(folder: &Path) -> Result<Option<Record>> {
    let path = folder.join(RECORD);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error)
            if [std::io::ErrorKind::NotFound, std::io::ErrorKind::NotADirectory].contains(&error.kind()) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(Error::io(Kind::Source, "cannot read what a state lies on", path, error)),
    };
    parse(&file, &path)
}

/// The record in an open file; `None` while it is empty.
fn parse(file: &File, path: &Path) -> Result<Option<Record>> {
    let mut text = String::new();
    file.take(LARGEST)
        .read_to_string(&mut text)
        .map_err(|error| Error::io(Kind::Source, "cannot read what a state lies on", path, error))?;
    if text.is_empty() {
        return Ok(None);
    }
    match serde_json::from_str::<Record>(&text) {
        Ok(record) if record.version == 1 => Ok(Some(record)),
        Ok(record) => Err(Error::new(Kind::Source, "the state is of another version of diskwright")
            .at(path)
            .expected("version 1")
            .found(record.version)
            .hint(REMOVE)),
        Err(error) => Err(Error::new(Kind::Source, "this is no state of a machine")
            .at(path)
            .because(error)
            .hint(REMOVE)),
    }
}

impl State {
    /// Makes the folder, unless it is there, and locks it. `fresh` removes what it holds before.
    ///
    /// # Errors
    /// [`Kind::Usage`] where another machine runs with it, or it lies on something else.
    pub(super) fn open(folder: &Path, record: &Record, fresh: bool) -> Result<Self> {
        let failed = |error| Error::io(Kind::Output, "cannot make the state of the machine", folder, error);
        std::fs::create_dir_all(folder).map_err(failed)?;
        let path = folder.join(RECORD);
        let options = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = options.map_err(failed)?;
        lock(&file, folder)?;
        match parse(&file, &path)? {
            Some(found) => check(folder, &found, record)?,
            None => {
                let text = serde_json::to_string_pretty(record)
                    .map_err(|error| Error::bug("a record is no JSON").because(error))?;
                file.write_all(format!("{text}\n").as_bytes()).map_err(failed)?;
            }
        }
        if fresh {
            remove_all(folder, false)?;
        }
        // The time of the last start, for `list`.
        file.set_modified(SystemTime::now()).map_err(failed)?;
        Ok(Self { _record: file })
    }
}

/// Removes the files of a state, and the folder itself where `whole`.
fn remove_all(folder: &Path, whole: bool) -> Result<()> {
    let failed = |error| Error::io(Kind::Output, "cannot remove the state", folder, error);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name() != RECORD {
            // The state of a TPM is a folder.
            let path = entry.path();
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed =
                if is_folder { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.map_err(|error| Error::io(Kind::Output, "cannot remove the state", path, error))?;
        }
    }
    if whole {
        // The record goes last: what is left of an interrupted removal is still a state.
        std::fs::remove_file(folder.join(RECORD))
            .and_then(|()| std::fs::remove_dir(folder))
            .map_err(failed)?;
    }
    Ok(())
}

/// A link is no state: what it leads to is not this program's to remove.
fn link(folder: &Path) -> Error {
    Error::new(Kind::Source, "a symbolic link to a state is none itself")
        .at(folder)
        .hint("name the folder that it leads to, or remove the link")
}

/// The states in `states`, or `states` itself where it is one.
///
/// # Errors
/// [`Kind::Source`] where the folder cannot be read, or is itself a state that cannot.
pub fn list(states: &Path) -> Result<Found> {
    let mut folders = vec![states.to_owned()];
    if read(states)?.is_none() {
        let entries = std::fs::read_dir(states)
            .map_err(|error| Error::io(Kind::Source, "cannot read the folder of states", states, error))?;
        folders = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    }
    let mut found = Found::default();
    for folder in folders {
        match read(&folder) {
            Ok(Some(_)) if folder.is_symlink() => found.damaged.push(link(&folder)),
            Ok(None) => {}
            Ok(Some(record)) => found.states.push(Listed::new(folder, record)),
            Err(error) => found.damaged.push(error),
        }
    }
    found.states.sort_by(|a, b| b.started.cmp(&a.started).then_with(|| a.folder.cmp(&b.folder)));
    Ok(found)
}

impl Listed {
    fn new(folder: PathBuf, record: Record) -> Self {
        use std::os::unix::fs::MetadataExt;
        let path = folder.join(RECORD);
        let in_use = is_in_use(&folder);
        let started = path.metadata().and_then(|meta| meta.modified()).ok();
        let files = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        // st_blocks counts 512 bytes (stat(2)).
        let bytes = files.filter_map(|file| file.metadata().ok()).map(|meta| meta.blocks() * 512).sum();
        let system = record.system.parse::<StorePath>().ok();
        let orphaned = system
            .is_none_or(|system| Store::new(&record.store_root).host(&system).symlink_metadata().is_err());
        Self { folder, record, bytes, in_use, orphaned, started }
    }

    /// Removes it, with all that the machine has written.
    ///
    /// # Errors
    /// [`Kind::Usage`] where a machine runs with it, [`Kind::Output`] where it cannot be removed.
    pub fn remove(&self) -> Result<()> {
        // It may have become one since it was listed.
        if self.folder.is_symlink() {
            return Err(link(&self.folder));
        }
        let _locked = State::open(&self.folder, &self.record, false)?;
        remove_all(&self.folder, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(digest: &str) -> Record {
        Record {
            version: 1,
            name: "a".to_owned(),
            mode: Mode::StoreDisk,
            system: format!("/nix/store/{}-system", "0".repeat(32)),
            store_root: PathBuf::from("/nowhere"),
            digest: digest.repeat(64),
        }
    }

    #[test]
    fn each_base_has_a_folder_of_its_own_and_one_machine_at_a_time() {
        let top = tempfile::tempdir().unwrap();
        let states = top.path().join("a-vm");
        let [one, other] = ["1", "2"].map(record);
        let place = folder(&states, &one).unwrap();
        assert_eq!(place, states.join("1".repeat(32)));
        let held = State::open(&place, &one, false).unwrap();
        std::fs::write(place.join("root.qcow2"), "x").unwrap();
        let error = State::open(&place, &one, false).unwrap_err().to_string();
        assert!(error.contains("a machine runs with this state already"), "{error}");
        assert_ne!(folder(&states, &other).unwrap(), place);
        // The folder of the state itself, named by hand.
        let error = folder(&place, &other).unwrap_err().to_string();
        assert!(error.contains("lies on other disks"), "{error}");
        assert!(folder(&place, &one).unwrap_err().to_string().contains("runs with this state already"));
        let listed = list(&states).unwrap().states;
        assert_eq!((listed.len(), listed[0].in_use, listed[0].orphaned), (1, true, true));
        assert!(listed[0].remove().is_err());
        drop(held);
        assert_eq!(folder(&place, &one).unwrap(), place);
        drop(State::open(&place, &one, true).unwrap());
        assert!(!place.join("root.qcow2").exists());
        list(&states).unwrap().states[0].remove().unwrap();
        assert!(!place.exists() && list(&states).unwrap().states.is_empty());
    }

    #[test]
    fn a_link_is_no_state() {
        let top = tempfile::tempdir().unwrap();
        let (states, outside) = (top.path().join("a-vm"), top.path().join("outside"));
        drop(State::open(&outside, &record("1"), false).unwrap());
        std::fs::write(outside.join("keep"), "x").unwrap();
        let own = states.join("2".repeat(32));
        drop(State::open(&own, &record("2"), false).unwrap());
        let link = states.join("1".repeat(32));
        std::os::unix::fs::symlink(&outside, &link).unwrap();
        let found = list(&states).unwrap();
        assert_eq!((found.states.len(), &found.states[0].folder), (1, &own));
        assert!(found.damaged[0].to_string().contains("symbolic link"), "{}", found.damaged[0]);
        assert!(list(&link).unwrap().states.is_empty());
        // A state that has become a link.
        std::fs::rename(&own, top.path().join("away")).unwrap();
        std::os::unix::fs::symlink(&outside, &own).unwrap();
        assert!(found.states[0].remove().is_err());
        assert!(outside.join("keep").exists() && outside.join(RECORD).exists());
    }

    #[test]
    fn a_folder_of_something_else_is_refused() {
        let top = tempfile::tempdir().unwrap();
        std::fs::write(top.path().join(RECORD), "{}").unwrap();
        assert!(folder(top.path(), &record("1")).unwrap_err().to_string().contains("no state of a machine"));
    }
}
