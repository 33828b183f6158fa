//! The work of a machine, as data, and what the machine says of it: lines of text on its console.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where the machine finds its work.
pub(super) const JOB: &str = "job.json";
/// Its folders: modules in their order, programs, and the libraries of those.
pub(super) const MODULES: &str = "modules";
pub(super) const PROGRAMS: &str = "programs";
pub(super) const LIBRARIES: &str = "programs/lib";
pub(super) const LOADER: &str = "programs/loader";

/// What lines begin with that are for this program: what else is on the console are the words of the kernel.
const MARK: &str = "@diskwright ";

/// The work of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Job {
    /// The names of modules, in the order in which they are loaded.
    pub(super) modules: Vec<String>,
    /// Whether the programs have a loader and libraries.
    pub(super) has_loader: bool,
    /// What is done, one after the other.
    pub(crate) steps: Vec<Step>,
}

/// A word of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Word {
    /// This text.
    Text(String),
    /// The device of a disk.
    Disk(String),
    /// The device of the first partition of a disk.
    Part(String),
}

impl From<&str> for Word {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Word {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// One thing that a machine does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// Runs a program, which must succeed.
    Run {
        /// Its name, and its arguments.
        words: Vec<Word>,
    },
    /// Runs a program, and tells what it says.
    Ask {
        /// Its name, and its arguments.
        words: Vec<Word>,
    },
    /// Runs programs that make a block device appear, and fills that with bytes of a file or a disk.
    Fill {
        /// The programs with their arguments.
        commands: Vec<Vec<Word>>,
        /// What the names of such devices begin with.
        device: String,
        /// The file or the disk.
        from: Word,
        /// What of it goes to the device; `None` is the whole file.
        pieces: Option<Vec<Piece>>,
    },
    /// Mounts a filesystem on a folder, which is made.
    Mount {
        /// Its type.
        kind: String,
        /// What is mounted.
        source: Word,
        /// The folder.
        at: String,
        /// Whether it is only read.
        is_read: bool,
    },
    /// Unmounts what is on a folder.
    Unmount {
        /// The folder.
        at: String,
    },
    /// Copies a tree.
    Copy(Copy),
}

/// Bytes that go from one place to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    /// Where they begin.
    pub(crate) from: u64,
    /// Where they are to begin.
    pub(crate) to: u64,
    /// How many there are.
    pub(crate) length: u64,
}

impl Piece {
    /// Bytes that keep their place.
    pub(crate) const fn at(start: u64, length: u64) -> Self {
        Self { from: start, to: start, length }
    }
}

/// A tree that is copied to one or several filesystems.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Copy {
    /// The folder with the tree.
    pub(crate) from: String,
    /// Folders of the tree, from its root with a slash before, and the folders that what is below them goes to.
    pub(crate) to: BTreeMap<String, String>,
    /// Files of the tree that are not copied.
    pub(crate) without: Vec<String>,
    /// The ranges of files that have data; what is between them is a hole.
    pub(crate) ranges: BTreeMap<String, Vec<(u64, u64)>>,
}

/// What a machine says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Message {
    /// So many bytes and files were copied since the last message.
    Copied(u64, u64),
    /// What a program said that was asked.
    Told(String),
    /// Something could not be kept.
    Warning(String),
    /// What was done, and why it failed.
    Failed(String, String),
    /// All is done.
    Done,
}

impl Message {
    /// The line that says it.
    pub(super) fn line(&self) -> String {
        // Texts and numbers are always JSON, which escapes the ends of lines.
        format!("{MARK}{}\n", serde_json::to_string(self).unwrap_or_default())
    }

    /// What a line of the console says, if it is a message. The kernel may have said something before it.
    pub(super) fn of(line: &str) -> Option<Self> {
        serde_json::from_str(line.split_once(MARK)?.1).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_lines_among_those_of_the_kernel() {
        for message in [
            Message::Copied(1 << 40, 3),
            Message::Failed("zpool create a".to_owned(), "one\ntwo \"three\"".to_owned()),
            Message::Done,
        ] {
            let line = message.line();
            assert_eq!(line.matches('\n').count(), 1);
            assert_eq!(Message::of(line.trim_end()), Some(message.clone()));
            assert_eq!(Message::of(&format!("[    1.5] foo{}", line.trim_end())), Some(message));
        }
        assert_eq!(Message::of("[    0.0] Linux version 6.1"), None);
        assert_eq!(Message::of("@diskwright nonsense"), None);
    }
}
