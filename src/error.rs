//! The one error type of the crate: what went wrong, where, what was expected and found, why, and what may
//! help.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::host::elsewhere_behind;
use crate::key::KeyPath;
use crate::option::{self, Spelling};
use crate::text::{printable, printable_path};
use crate::units::Bytes;

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong; small and stable, so that callers can match on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The caller asks for something that does not exist, or for things that do not fit together.
    Usage,
    /// The manifest, or a file that it names as part of the description, is wrong.
    Manifest,
    /// A source is missing, unreadable, or changed while it was read.
    Source,
    /// The contents do not fit the format or the size: too large, too many, a name it forbids.
    Capacity,
    /// The output cannot be written.
    Output,
    /// A file that was read as an image is not a correct one.
    Format,
    /// The image has a partition table that is to stay as it is, or none that could be added to.
    Unsuited,
    /// A signal asked the program to stop.
    Interrupted,
    /// The program broke a promise of its own: two segments overlap, for example.
    Bug,
}

impl Kind {
    /// The exit code of the program: 2 for what the caller wrote, 1 for what happened at work, 77 as systemd-repart has it for
    /// an image that it does not touch.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Usage | Self::Manifest => 2,
            Self::Unsuited => 77,
            _ => 1,
        }
    }
}

/// The part of a disk's description that an error or a warning is about. Numbers count from 0, as the lists
/// of a [`Disk`](crate::disk::Disk) do.
///
/// Code that knows a disk and no manifest names a subject. The front end that made the disk turns the subject
/// into a line, a flag or a file ([`Locator`](crate::front::Locator)). If the error also has an
/// [`Error::key`], it is about that option of the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The disk as a whole.
    Disk,
    /// A partition.
    Partition(usize),
    /// The options of the filesystem in a partition.
    Filesystem(usize),
    /// One of the contents of a partition.
    Entry {
        /// The partition.
        partition: usize,
        /// Which of its contents.
        entry: usize,
    },
}

impl fmt::Display for Subject {
    /// For people, who count from 1: `partition 2, entry 3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk => f.write_str("the disk"),
            Self::Partition(number) => write!(f, "partition {}", number + 1),
            Self::Filesystem(number) => write!(f, "partition {}, its filesystem", number + 1),
            Self::Entry { partition, entry } => write!(f, "partition {}, entry {}", partition + 1, entry + 1),
        }
    }
}

/// Where it went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// A part of a description that no front end has located yet.
    Subject(Subject),
    /// A key of a description that no front end has located yet.
    Key(KeyPath),
    /// A file, or a place inside an image named by a text.
    Path(PathBuf),
    /// A line of a text file, counted from 1, with its text.
    Line { path: PathBuf, line: u64, text: String },
    /// A byte offset inside a file.
    Offset { path: PathBuf, offset: u64 },
    /// A flag of the command line.
    Flag(String),
}

/// The two ways to read what this user may not.
const UNREADABLE: &str = "run it as a user that may read it, such as root, or, where a user namespace owns it (podman, \
                          mmdebstrap), in one: unshare --map-auto --map-root-user diskwright …";

/// One error: kind, message, place, expectation, reason, cause.
///
/// `Display` gives the whole message over several lines; the first line stands by itself.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    what: String,
    places: Vec<Place>,
    key: Option<&'static str>,
    remedy: Option<&'static str>,
    needs: Option<Bytes>,
    expected: Option<String>,
    found: Option<String>,
    why: Option<String>,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `what` is one sentence without a full stop.
    #[must_use]
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            what: what.into(),
            places: Vec::new(),
            key: None,
            remedy: None,
            needs: None,
            expected: None,
            found: None,
            why: None,
            hint: None,
            source: None,
        }))
    }

    /// An error of the system at `path`.
    #[must_use]
    pub fn io(
        kind: Kind,
        what: impl Into<String>,
        path: impl AsRef<Path>,
        source: impl Into<std::io::Error>,
    ) -> Self {
        let (path, source) = (path.as_ref(), source.into());
        let is_missing = source.kind() == std::io::ErrorKind::NotFound;
        let text = path.to_str().filter(|_| is_missing);
        let hint = text.and_then(elsewhere_behind).map(|(what, hint)| format!("{what}: {hint}"));
        Self::new(kind, what).at(path).because(source).or_hint(hint)
    }

    /// A broken promise of our own.
    #[must_use]
    pub fn bug(what: impl Into<String>) -> Self {
        Self::new(Kind::Bug, what).hint("this is a bug in diskwright, please report it with the manifest")
    }

    /// Adds the file it happened at.
    #[must_use]
    pub fn at(mut self, path: impl AsRef<Path>) -> Self {
        self.0.places.push(Place::Path(path.as_ref().to_owned()));
        self
    }

    /// Adds a line of a text file, counted from 1, with its text.
    #[must_use]
    pub fn at_line(mut self, path: impl AsRef<Path>, line: u64, text: impl Into<String>) -> Self {
        self.0.places.push(Place::Line { path: path.as_ref().to_owned(), line, text: text.into() });
        self
    }

    /// Adds a byte offset inside a file.
    #[must_use]
    pub fn at_offset(mut self, path: impl AsRef<Path>, offset: u64) -> Self {
        self.0.places.push(Place::Offset { path: path.as_ref().to_owned(), offset });
        self
    }

    /// Adds a flag of the command line, such as `--boot-size`.
    #[must_use]
    pub fn at_flag(mut self, flag: impl Into<String>) -> Self {
        self.0.places.push(Place::Flag(flag.into()));
        self
    }

    /// Names the part of the description that the error is about. The first one is the most important.
    #[must_use]
    pub fn on(mut self, subject: Subject) -> Self {
        self.0.places.push(Place::Subject(subject));
        self
    }

    /// The parts of the description that the error is about, unless a front end has located them already.
    #[must_use]
    pub fn subjects(&self) -> Vec<Subject> {
        let subject = |place: &Place| match place {
            Place::Subject(subject) => Some(*subject),
            _ => None,
        };
        self.0.places.iter().filter_map(subject).collect()
    }

    /// The same error without its subjects. A front end calls this and adds where each subject was written.
    #[must_use]
    pub fn without_subjects(mut self) -> Self {
        self.0.places.retain(|place| !matches!(place, Place::Subject(_)));
        self
    }

    /// The same error about the file `path`, whatever option it was about: none was given.
    #[must_use]
    pub(crate) fn of_source(mut self, path: &Path) -> Self {
        self.0.key = None;
        self.at(path)
    }

    /// Whether the error names a line of a text file.
    #[must_use]
    pub fn is_in_text(&self) -> bool {
        self.chain().iter().any(|inner| inner.places.iter().any(|place| matches!(place, Place::Line { .. })))
    }

    /// Adds the key of a description that the error is about. A front end that knows the place of the key
    /// finds it later.
    #[must_use]
    pub fn at_key(mut self, key: &KeyPath) -> Self {
        self.0.places.push(Place::Key(key.clone()));
        self
    }

    /// Adds the key of a description, unless the error already names a place in the description.
    #[must_use]
    pub fn or_at_key(self, key: &KeyPath) -> Self {
        if self.has_line() { self } else { self.at_key(key) }
    }

    /// Replaces each key of a description by its place; `find` adds the place to an error.
    #[must_use]
    pub fn find_keys(mut self, find: impl Fn(Self, &KeyPath) -> Self) -> Self {
        let places = std::mem::take(&mut self.0.places);
        for place in places {
            match place {
                Place::Key(key) => self = find(self, &key),
                place => self.0.places.push(place),
            }
        }
        self
    }

    /// Names the option of the subject that the error is about, as a manifest spells it (`cluster_size`).
    #[must_use]
    pub fn about(mut self, key: &'static str) -> Self {
        self.0.key = Some(key);
        self
    }

    /// Adds what the user may do with the option `key`, as a manifest spells it.
    #[must_use]
    pub fn remedy(mut self, key: &'static str, text: impl Into<String>) -> Self {
        self.0.remedy = Some(key);
        self.hint(text)
    }

    /// Adds the flag of the option that the error is about as the place, unless the error names a place in what the user
    /// wrote.
    #[must_use]
    pub fn flagged(mut self, flag: impl Fn(&str) -> Option<String>) -> Self {
        if let (false, Some(flag)) = (self.has_line(), self.0.key.and_then(&flag)) {
            self.0.places.push(Place::Flag(flag));
        }
        self
    }

    /// Writes the options in the texts of the error and of its causes as the user writes them, and adds that of a
    /// [`remedy`](Self::remedy) to its hint. An option that `spell` does not know is left for the next call; in the end a text
    /// has its key, and a hint no addition.
    #[must_use]
    pub fn spelled(mut self, spell: impl Fn(&str) -> Option<Spelling>) -> Self {
        let mut inner = Some(&mut self.0);
        while let Some(own) = inner {
            let remedy = own.remedy.and_then(|key| Some((key, spell(key)?)));
            if let (Some((key, spelling)), Some(hint)) = (remedy, &mut own.hint) {
                *hint = format!("{hint} ({})", spelling.written(key));
                own.remedy = None;
            }
            own.what = option::spelled(&own.what, &spell);
            let texts = [&mut own.expected, &mut own.found, &mut own.why, &mut own.hint];
            for text in texts.into_iter().flatten() {
                *text = option::spelled(text, &spell);
            }
            let source = own.source.as_mut().and_then(|source| source.downcast_mut::<Self>());
            inner = source.map(|source| &mut source.0);
        }
        self
    }

    /// Records the smallest sufficient size, so that a front end can translate it to the option that decides it.
    #[must_use]
    pub fn needs(mut self, size: Bytes) -> Self {
        self.0.needs = Some(size);
        self
    }

    /// Adds what would have been right.
    #[must_use]
    pub fn expected(mut self, text: impl fmt::Display) -> Self {
        self.0.expected = Some(text.to_string());
        self
    }

    /// Adds what was there instead.
    #[must_use]
    pub fn found(mut self, text: impl fmt::Display) -> Self {
        self.0.found = Some(text.to_string());
        self
    }

    /// Adds the rule that was broken, with its source.
    #[must_use]
    pub fn why(mut self, text: impl Into<String>) -> Self {
        self.0.why = Some(text.into());
        self
    }

    /// Adds what the user may do about it, where there is something.
    #[must_use]
    pub fn or_hint(self, text: Option<impl Into<String>>) -> Self {
        match text {
            Some(text) => self.hint(text),
            None => self,
        }
    }

    /// Adds what the user may do about it.
    #[must_use]
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        self.0.hint = Some(text.into());
        self
    }

    /// Adds the cause. One of this crate brings its own places and details along. What may not be read gets the ways to
    /// read it as its hint.
    #[must_use]
    pub fn because(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        let source: Box<dyn std::error::Error + Send + Sync> = Box::new(source);
        let denied = source
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
        if denied && self.0.kind == Kind::Source && self.0.hint.is_none() {
            self.0.hint = Some(UNREADABLE.to_owned());
        }
        self.0.source = Some(source);
        self
    }

    /// This error and what of this crate caused it, the outermost first.
    fn chain(&self) -> Vec<&Inner> {
        let mut chain = vec![&*self.0];
        let mut at = &self.0.source;
        while let Some(Self(inner)) = at.as_ref().and_then(|source| source.downcast_ref::<Self>()) {
            chain.push(inner);
            at = &inner.source;
        }
        chain
    }

    /// What kind of thing went wrong.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The same error with another kind, for a module that knows better who caused it.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    /// The first line alone.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.0.what
    }

    /// The option that it is about.
    #[must_use]
    pub fn key(&self) -> Option<&'static str> {
        self.0.key
    }

    /// The size that would suffice.
    #[must_use]
    pub fn sufficient(&self) -> Option<Bytes> {
        self.0.needs
    }

    /// Whether the error already names a place.
    #[must_use]
    pub fn has_place(&self) -> bool {
        !self.0.places.is_empty()
    }

    /// Whether the error already names a part of the description: a subject, a key, or a flag that stands for
    /// one.
    #[must_use]
    pub fn is_blamed(&self) -> bool {
        let told = |place: &Place| matches!(place, Place::Flag(_) | Place::Subject(_) | Place::Key(_));
        self.0.places.iter().any(told)
    }

    /// Whether the error already names a line of a text file, a flag, or a part of the description.
    #[must_use]
    pub fn has_line(&self) -> bool {
        let told = |place: &Place| {
            matches!(place, Place::Line { .. } | Place::Flag(_) | Place::Subject(_) | Place::Key(_))
        };
        self.0.places.iter().any(told)
    }

    /// The first file that was named as the place.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.0.places.iter().find_map(|place| match place {
            Place::Path(path) => Some(path.as_path()),
            _ => None,
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject(subject) => write!(f, "{subject}"),
            Self::Key(key) => f.write_str(&plain(&key.to_string())),
            Self::Path(path) => f.write_str(&printable_path(path)),
            Self::Line { path, line, text } if text.is_empty() => {
                write!(f, "{}:{line}", printable_path(path))
            }
            Self::Line { path, line, text } => write!(f, "{}:{line}: {}", printable_path(path), plain(text)),
            Self::Offset { path, offset } => write!(f, "{}, byte {offset}", printable_path(path)),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// A part of a message is one line, whatever a manifest or a file's name brought into it, and commands no terminal.
fn plain(text: &str) -> String {
    printable(text.as_bytes())
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chain = self.chain();
        let keys = |text: &str| plain(&option::in_keys(text));
        let whats: Vec<String> = chain.iter().map(|inner| keys(&inner.what)).collect();
        f.write_str(&whats.join(": "))?;
        if let Some(source) = chain.last().and_then(|inner| inner.source.as_ref()) {
            write!(f, ": {}", plain(&source.to_string()))?;
        }
        let mut places: Vec<&Place> = Vec::new();
        for place in chain.iter().flat_map(|inner| &inner.places) {
            if !places.contains(&place) {
                places.push(place);
                write!(f, "\n  at {place}")?;
            }
        }
        // The outermost error knows best what was wanted and what helps.
        for (name, value) in [
            ("expected", chain.iter().find_map(|inner| inner.expected.as_ref())),
            ("found", chain.iter().find_map(|inner| inner.found.as_ref())),
            ("because", chain.iter().find_map(|inner| inner.why.as_ref())),
            ("hint", chain.iter().find_map(|inner| inner.hint.as_ref())),
        ] {
            if let Some(value) = value {
                write!(f, "\n  {name}: {}", keys(value))?;
            }
        }
        Ok(())
    }
}

impl Error {
    /// All that it says on one line, to stand in another sentence.
    pub(crate) fn in_one_line(&self) -> String {
        self.to_string().replace("\n  ", ", ")
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| -> &(dyn std::error::Error + 'static) { source })
    }
}

/// A remark that does not stop the work: a format cannot keep something that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning(pub String);

impl Warning {
    /// Writes the options in the text as the user writes them.
    #[must_use]
    pub fn spelled(&self, spell: impl Fn(&str) -> Option<Spelling>) -> Self {
        Self(option::spelled(&self.0, spell))
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(option::in_keys(&self.0).as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_message_commands_a_terminal() {
        let evil = "a\x1b[2J\nb";
        let error = Error::new(Kind::Source, evil)
            .at(evil)
            .at_line(evil, 1, evil)
            .expected(evil)
            .found(evil)
            .why(evil)
            .hint(evil)
            .because(std::io::Error::other(evil));
        let text = error.to_string();
        assert_eq!(text.lines().count(), 7, "{text:?}");
        assert_eq!(text.matches("a\\x1b[2J\\x0ab").count(), 9, "{text:?}");
        assert!(!text.contains('\x1b'));
        assert_eq!(Warning(evil.to_owned()).to_string(), "a\\x1b[2J\\x0ab");
    }

    #[test]
    fn an_error_of_an_error_is_one_message() {
        let inner = || {
            Error::io(Kind::Source, "the path does not exist", "a/b", std::io::Error::other("no"))
                .found("nothing")
                .hint("look")
        };
        let outer = || Error::new(Kind::Source, "there is no loader").at("a/b").at_flag("--loader");
        assert_eq!(
            outer().because(inner()).hint("give one").to_string(),
            "there is no loader: the path does not exist: no\n  at a/b\n  at --loader\n  found: nothing\n  hint: give one"
        );
        assert_eq!(
            Error::new(Kind::Usage, "top").because(outer().because(inner())).to_string(),
            "top: there is no loader: the path does not exist: no\n  at a/b\n  at --loader\n  found: nothing\n  hint: look"
        );
    }

    #[test]
    fn what_may_not_be_read_names_the_ways_to_read_it() {
        let denied = || std::io::Error::from_raw_os_error(13);
        let text = Error::io(Kind::Source, "cannot read the source", "tree/x", denied()).to_string();
        for way in ["a user that may read it, such as root", "unshare --map-auto --map-root-user"] {
            assert!(text.contains(way), "{text}");
        }
        let error = Error::new(Kind::Source, "no").hint("own").because(denied());
        assert!(error.to_string().ends_with("hint: own"));
        assert!(!Error::io(Kind::Output, "no", "x", denied()).to_string().contains("hint"));
        let missing = std::io::Error::from_raw_os_error(2);
        assert!(!Error::io(Kind::Source, "no", "x", missing).to_string().contains("hint"));
    }

    #[test]
    fn the_message_names_everything_once() {
        let error = Error::new(Kind::Manifest, "partition 2 overlaps partition 1")
            .at_line("disk.toml", 7, "start = \"1MiB\"")
            .expected("a start at or after 3MiB")
            .found("1MiB")
            .hint("leave start out");
        assert_eq!(
            error.to_string(),
            "partition 2 overlaps partition 1\n  at disk.toml:7: start = \"1MiB\"\n  expected: a start at or after \
             3MiB\n  found: 1MiB\n  hint: leave start out"
        );
        assert_eq!(error.kind().exit_code(), 2);
        assert_eq!(Error::new(Kind::Output, "x").kind().exit_code(), 1);
    }
}
