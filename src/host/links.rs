//! Symbolic links: those of another system, whose root is a folder of this host, and those of this host.
//!
//! A link of another system that says `/etc/x` means that system's `/etc/x`, so the kernel of this host must not follow
//! it. [`Root`] walks a path name by name and follows links as a system with that root would.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::text::{printable, printable_path};

/// As many links as the kernel follows for one path (MAXSYMLINKS, linux/namei.h).
pub const MOST_LINKS: usize = 40;

/// The root directory of another system, as it lies on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    folder: PathBuf,
}

/// A path of the other system with all links followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// The path in that system.
    pub path: PathBuf,
    /// The same file on this host.
    pub host: PathBuf,
}

/// The link that was followed last: its place on this host, and where it leads.
struct Link {
    host: PathBuf,
    target: PathBuf,
}

impl Root {
    /// The root that lies at `folder`.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Where it lies.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where an absolute path of the other system lies on this host. No link is followed.
    #[must_use]
    pub fn host_of(&self, path: &Path) -> PathBuf {
        self.folder.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Follows all links of `path`, also the last one. The way must not leave the directory `within`; the
    /// names that lead to that directory are not checked.
    ///
    /// # Errors
    /// [`Kind::Source`] naming the path if it does not exist or cannot be read, if a link leads to nothing or
    /// out of `within`, and for more than [`MOST_LINKS`] links. It also names the last link.
    pub fn follow(&self, path: &Path, within: &Path) -> Result<Followed> {
        self.find(path, within)?
            .ok_or_else(|| Error::new(Kind::Source, "the path does not exist").at(self.host_of(path)))
    }

    /// As [`Root::follow`], but `None` if a name of `path` itself does not exist. A link that leads to
    /// nothing is still an error.
    ///
    /// # Errors
    /// As [`Root::follow`].
    pub fn find(&self, path: &Path, within: &Path) -> Result<Option<Followed>> {
        let mut way = Way::new(path);
        let mut last: Option<Link> = None;
        while let Some(of_link) = way.step() {
            let at = way.at();
            if within.starts_with(at) {
                continue;
            }
            let wrong = |what: &str| self.wrong(what, path, last.as_ref());
            if !at.starts_with(within) {
                return Err(leads_out(wrong, within, at));
            }
            let host = self.host_of(at);
            let meta = match std::fs::symlink_metadata(&host) {
                Ok(meta) => meta,
                Err(error) if !is_missing(&error) => return Err(wrong("cannot read the path").because(error)),
                Err(_) if !of_link => return Ok(None),
                Err(error) => return Err(wrong("a symbolic link leads to nothing").because(error)),
            };
            if !meta.is_symlink() {
                continue;
            }
            let target = std::fs::read_link(&host)
                .map_err(|error| Error::io(Kind::Source, "cannot read the symbolic link", &host, error))?;
            if !way.turn(&target) {
                return Err(
                    wrong("too many symbolic links on the way").expected(format!("at most {MOST_LINKS}"))
                );
            }
            last = Some(Link { host, target });
        }
        let at = way.at();
        if !at.starts_with(within) {
            return Err(leads_out(|what| self.wrong(what, path, last.as_ref()), within, at));
        }
        Ok(Some(Followed { host: self.host_of(at), path: at.to_owned() }))
    }

    /// An error on the way along `path`; it names the last link that was followed.
    fn wrong(&self, what: &str, path: &Path, link: Option<&Link>) -> Error {
        let error = Error::new(Kind::Source, what).at(self.host_of(path));
        match link {
            Some(Link { host, target }) => {
                let target = printable(target.as_os_str().as_bytes());
                let error = if *host == self.host_of(path) { error } else { error.at(host) };
                error.why(format!("the link leads to {target}"))
            }
            None => error,
        }
    }
}

/// The error for a path that ends at or goes through `at`, outside of `within`.
fn leads_out(wrong: impl Fn(&str) -> Error, within: &Path, at: &Path) -> Error {
    wrong(&format!("the path leads out of {}", printable_path(within))).found(printable_path(at))
}

/// Whether nothing exists there: the name is missing, or a directory above it.
fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// A path that is followed name by name inside a root. Where there is a link, and what it leads to, the caller knows.
#[derive(Debug)]
pub(crate) struct Way {
    /// The path so far.
    at: PathBuf,
    ahead: VecDeque<OsString>,
    /// How many of the names ahead belong to the path itself; the others belong to the target of a link.
    own: usize,
    links: usize,
}

impl Way {
    pub(crate) fn new(path: &Path) -> Self {
        let ahead = names(path);
        Self { at: PathBuf::from("/"), own: ahead.len(), ahead, links: 0 }
    }

    /// The path so far.
    pub(crate) fn at(&self) -> &Path {
        &self.at
    }

    /// Whether no name is left.
    pub(crate) fn is_done(&self) -> bool {
        self.ahead.is_empty()
    }

    /// Goes to the next name: whether that belongs to the target of a link. `None` where no name is left.
    pub(crate) fn step(&mut self) -> Option<bool> {
        loop {
            let name = self.ahead.pop_front()?;
            let of_link = self.ahead.len() >= self.own;
            self.own = self.own.min(self.ahead.len());
            if name != ".." {
                self.at.push(&name);
                return Some(of_link);
            }
            self.at.pop();
        }
    }

    /// Goes on with what the name is a link to. Returns whether there were at most [`MOST_LINKS`].
    pub(crate) fn turn(&mut self, to: &Path) -> bool {
        names(to).into_iter().rev().for_each(|name| self.ahead.push_front(name));
        if to.is_absolute() {
            self.at = PathBuf::from("/");
        } else {
            self.at.pop();
        }
        self.links += 1;
        self.links <= MOST_LINKS
    }
}

/// The names that a path goes through, `..` among them.
fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

/// Where `path` leads on this host if its last name is a link: the path, then the target of each link in
/// turn, even if nothing exists there. The last item is not a link, unless there are more than
/// [`MOST_LINKS`].
pub fn chain(path: &Path) -> impl Iterator<Item = PathBuf> {
    let follow = |at: &PathBuf| {
        let target = std::fs::read_link(at).ok()?;
        Some(at.parent().unwrap_or(Path::new("")).join(target))
    };
    std::iter::successors(Some(path.to_owned()), follow).take(MOST_LINKS + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A root with `/s/a/bin/tool`, a directory `/s/b`, and a file outside of `/s`.
    fn root() -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("s/a/bin")).unwrap();
        std::fs::create_dir(folder.path().join("s/b")).unwrap();
        std::fs::write(folder.path().join("s/a/bin/tool"), "").unwrap();
        std::fs::write(folder.path().join("secret"), "").unwrap();
        let root = Root::new(folder.path());
        (folder, root)
    }

    const WITHIN: &str = "/s";

    fn link(root: &Root, to: &str, at: &str) {
        symlink(to, root.host_of(Path::new(at))).unwrap();
    }

    #[test]
    fn links_mean_paths_of_the_other_system() {
        let (_folder, root) = root();
        link(&root, "/s/a/bin", "/s/b/absolute");
        link(&root, "../a/./bin//tool", "/s/b/relative");
        link(&root, "../../../s/../s/a", "/s/b/up");
        link(&root, "/s/b/up/bin", "/s/b/twice");
        for (path, expected) in [
            ("/s/a/bin/tool", "/s/a/bin/tool"),
            ("/s/b/absolute/tool", "/s/a/bin/tool"),
            ("/s/b/relative", "/s/a/bin/tool"),
            ("/s/b/up/bin/tool", "/s/a/bin/tool"),
            ("/s/b/twice/../bin", "/s/a/bin"),
            ("/s//b/./absolute/..", "/s/a"),
            ("/s", "/s"),
        ] {
            let found = root.follow(Path::new(path), Path::new(WITHIN)).unwrap();
            let expected = PathBuf::from(expected);
            assert_eq!(found, Followed { host: root.host_of(&expected), path: expected }, "{path}");
        }
    }

    #[test]
    fn what_is_not_there_is_no_error_unless_a_link_says_it_is() {
        let (_folder, root) = root();
        link(&root, "/s/a", "/s/b/a");
        link(&root, "a/none", "/s/b/dangling");
        for path in ["/s/none", "/s/b/a/none", "/s/b/a/bin/none", "/s/a/bin/tool/x", "/s/b/a/bin/tool/x/y"] {
            assert_eq!(root.find(Path::new(path), Path::new(WITHIN)).unwrap(), None, "{path}");
            let error = root.follow(Path::new(path), Path::new(WITHIN)).unwrap_err();
            assert_eq!((error.what(), error.kind()), ("the path does not exist", Kind::Source), "{path}");
        }
        for path in ["/s/b/dangling", "/s/b/dangling/x"] {
            let error = root.find(Path::new(path), Path::new(WITHIN)).unwrap_err();
            let text = format!(
                "a symbolic link leads to nothing: No such file or directory (os error 2)\n  at {}\n  at {}\n  because: \
                 the link leads to /s/a",
                root.host_of(Path::new(path)).display(),
                root.host_of(Path::new("/s/b/a")).display()
            );
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn no_way_leads_out_or_round_in_a_circle() {
        let (_folder, root) = root();
        for (name, target, what, found) in [
            ("out", "/secret", "the path leads out of /s", "found: /secret\n"),
            ("up", "../../secret", "the path leads out of /s", "found: /secret\n"),
            ("top", "/", "the path leads out of /s", "found: /\n"),
            ("itself", "itself", "too many symbolic links on the way", "expected: at most 40\n"),
        ] {
            link(&root, target, &format!("/s/b/{name}"));
            let error = root.find(&Path::new("/s/b").join(name), Path::new(WITHIN)).unwrap_err();
            let text = error.to_string();
            assert!(error.what() == what && text.contains(found), "{text}");
            assert!(
                text.contains(&format!("  at {}\n", root.host_of(&Path::new("/s/b").join(name)).display()))
            );
        }
        let error = root.find(Path::new("/s/b/../../secret"), Path::new(WITHIN)).unwrap_err();
        assert!(error.to_string().ends_with("/s/b/../../secret\n  found: /secret"), "{error}");
    }

    #[test]
    fn forty_links_are_followed_and_not_one_more() {
        let (folder, root) = root();
        link(&root, "a", "/s/l1");
        for number in 2..=41 {
            link(&root, &format!("l{}", number - 1), &format!("/s/l{number}"));
        }
        assert!(root.follow(Path::new("/s/l40"), Path::new(WITHIN)).is_ok());
        assert!(root.follow(Path::new("/s/l41"), Path::new(WITHIN)).is_err());
        let last = |name: &str| chain(&folder.path().join("s").join(name)).last().unwrap();
        assert_eq!(last("l40"), folder.path().join("s/a"));
        assert!(last("l41").is_symlink());
    }

    #[test]
    fn a_chain_goes_on_to_what_is_not_there() {
        let (folder, _root) = root();
        let at = |name: &str| folder.path().join(name);
        symlink("two", at("one")).unwrap();
        symlink(at("s/none"), at("two")).unwrap();
        assert_eq!(chain(&at("one")).collect::<Vec<_>>(), [at("one"), at("two"), at("s/none")]);
        assert_eq!(chain(&at("none")).collect::<Vec<_>>(), [at("none")]);
    }
}
