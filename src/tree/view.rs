//! What was put so far, looked at as the system would that has it as its root: by paths whose links lead inside.

use std::collections::VecDeque;
use std::sync::Arc;

use super::build::Builder;
use super::{Content, Place, Ready};
use crate::error::{Error, Kind, Result};
use crate::host::links::MOST_LINKS;
use crate::image::Slice;
use crate::text::printable;
use crate::units::{index, usize_of};

/// The largest file that is read as a text.
const LARGEST: u64 = 16 << 20;

/// The contents of a filesystem while they are put together.
#[derive(Clone, Copy, Debug)]
pub struct View<'a>(&'a Builder);

impl Builder {
    /// What was put so far.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View(self)
    }

    /// The bytes of the regular file `id`; `None` for anything else.
    pub(super) fn bytes_of(&self, id: u32) -> Result<Option<Slice>> {
        use std::os::unix::ffi::OsStrExt;
        let path = match self.drafts[index(id)].node.content {
            Content::Text { text } => {
                return Ok(Some(Slice::ready("a text", Arc::clone(&self.texts[index(text)]))));
            }
            Content::Slice { slice } => return Ok(Some(self.slices[index(slice)].clone())),
            Content::File { size: 0, .. } => return Ok(Some(Slice::ready("an empty file", []))),
            Content::File { place, .. } => match &self.places[index(place)] {
                Place::Held { held, own, .. } => {
                    let bytes = held.get(own.clone()).ok_or_else(|| Error::bug("a held file is not held"))?;
                    return Ok(Some(Slice::ready("a file that was read", bytes)));
                }
                Place::File(path) => path.clone(),
                Place::Directory(folder) => folder.join(std::ffi::OsStr::from_bytes(self.name(id))),
            },
            _ => return Ok(None),
        };
        let ready = Arc::new(Ready::look(&path, "a file of the contents")?);
        Ok(Some(ready.image(ready.size())?.whole()))
    }
}

impl View<'_> {
    /// Where `path` leads to, with links followed; `None` where nothing is there.
    fn follow(&self, path: &str) -> Option<u32> {
        let (at, missing) = self.walk(path)?;
        at.last().copied().filter(|_| missing.is_empty())
    }

    /// The path at which a new file `path` would be made: links above it are followed, also to where nothing is yet. `None`
    /// for links that never end, and for names that are not UTF-8.
    #[must_use]
    pub fn real(&self, path: &str) -> Option<String> {
        let (above, name) = path.rsplit_once('/')?;
        let (at, missing) = self.walk(above)?;
        let there = at.iter().skip(1).map(|id| self.0.name(*id).to_vec());
        let parts = there.chain(missing).chain([name.as_bytes().to_vec()]);
        let parts: Vec<String> = parts.map(|part| String::from_utf8(part).ok()).collect::<Option<_>>()?;
        Some(format!("/{}", parts.join("/")))
    }

    /// The directories that `path` goes through, and the names behind them that are not there.
    fn walk(&self, path: &str) -> Option<(Vec<u32>, Vec<Vec<u8>>)> {
        let mut at = vec![0];
        let mut missing: Vec<Vec<u8>> = Vec::new();
        let mut ahead: VecDeque<Vec<u8>> = names(path.as_bytes()).collect();
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name == b".." {
                // Nothing is behind what is not there, but a new file may be.
                if missing.pop().is_none() {
                    at.truncate(at.len().saturating_sub(1).max(1));
                }
                continue;
            }
            let child = Some(*at.last()?).filter(|_| missing.is_empty());
            let Some(child) = child.and_then(|above| self.0.child(above, &name)) else {
                missing.push(name);
                continue;
            };
            let Content::Symlink { target, length } = self.0.drafts[index(child)].node.content else {
                at.push(child);
                continue;
            };
            links += 1;
            if links > MOST_LINKS {
                return None;
            }
            let start = usize_of(target);
            let target = self.0.names.get(start..start + usize::from(length))?;
            if target.starts_with(b"/") {
                at.truncate(1);
            }
            names(target).collect::<Vec<_>>().into_iter().rev().for_each(|name| ahead.push_front(name));
        }
        Some((at, missing))
    }

    fn content(&self, path: &str) -> Option<Content> {
        self.follow(path).map(|id| self.0.drafts[index(id)].node.content)
    }

    /// Whether anything is at `path`.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.follow(path).is_some()
    }

    /// Whether a directory is at `path`.
    #[must_use]
    pub fn is_directory(&self, path: &str) -> bool {
        self.content(path).is_some_and(|content| matches!(content, Content::Directory))
    }

    /// Whether a regular file is at `path`.
    #[must_use]
    pub fn is_file(&self, path: &str) -> bool {
        self.content(path).is_some_and(|content| {
            matches!(content, Content::File { .. } | Content::Text { .. } | Content::Slice { .. })
        })
    }

    /// The names in the directory `path`, sorted, without those that are not UTF-8; none where there is no directory.
    #[must_use]
    pub fn names(&self, path: &str) -> Vec<String> {
        let children = self.follow(path).map_or(&[][..], |id| self.0.children_of(id));
        children.iter().filter_map(|id| String::from_utf8(self.0.name(*id).to_vec()).ok()).collect()
    }

    /// The bytes of the regular file at `path`; `None` where there is none.
    ///
    /// # Errors
    /// [`Kind::Source`] where its file on the host is gone or cannot be read.
    pub fn file(&self, path: &str) -> Result<Option<Slice>> {
        self.follow(path).map_or(Ok(None), |id| self.0.bytes_of(id))
    }

    /// The text of the regular file at `path`; `None` where there is none.
    ///
    /// # Errors
    /// As [`View::file`]; [`Kind::Source`] for a file that is no UTF-8 text, or has more than 16 MiB.
    pub fn text(&self, path: &str) -> Result<Option<String>> {
        let Some(slice) = self.file(path)? else { return Ok(None) };
        let refuse = |what: &str| {
            Error::new(Kind::Source, what).found(format!("{} in the contents", printable(path.as_bytes())))
        };
        if slice.length().get() > LARGEST {
            return Err(refuse("a text of the contents is too large").expected("at most 16 MiB"));
        }
        let bytes = slice.bytes(0, usize_of(slice.length().get()))?;
        String::from_utf8(bytes).map(Some).map_err(|_| refuse("a text of the contents is not UTF-8"))
    }
}

/// The names that a path goes through.
fn names(path: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Meta, Time};

    #[test]
    fn links_lead_inside_and_files_of_every_kind_are_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("host"), "of the host").unwrap();
        let mut builder = Builder::new(Time::default());
        let (origin, meta) = (builder.origin("test"), Meta::root(0o644, Time::default()));
        builder.text(b"/usr/lib/os-release", *b"ID=x\n", meta, origin).unwrap();
        builder.symlink(b"/etc/os-release", b"../usr/lib/os-release", meta, origin).unwrap();
        builder.symlink(b"/lib", b"usr/lib", meta, origin).unwrap();
        builder.symlink(b"/up", b"../../../../usr", meta, origin).unwrap();
        builder.symlink(b"/round", b"/round", meta, origin).unwrap();
        builder.symlink(b"/nowhere", b"/nothing", meta, origin).unwrap();
        let meta_of = std::fs::metadata(folder.path().join("host")).unwrap();
        builder.file(b"/host", &folder.path().join("host"), (meta_of.len(), 0), meta, origin).unwrap();
        let view = builder.view();
        for path in ["/etc/os-release", "/lib/os-release", "/up/lib/./os-release", "usr/lib/os-release"] {
            assert_eq!(view.text(path).unwrap().as_deref(), Some("ID=x\n"), "{path}");
        }
        assert_eq!(view.text("/host").unwrap().as_deref(), Some("of the host"));
        for path in ["/round", "/nowhere", "/usr/lib/os-release/x", "/none"] {
            assert!(!view.has(path) && view.text(path).unwrap().is_none(), "{path}");
        }
        assert!(view.is_directory("/lib") && !view.is_file("/lib") && view.is_file("/etc/os-release"));
        assert_eq!(view.names("/"), ["etc", "host", "lib", "nowhere", "round", "up", "usr"]);
        assert_eq!(view.names("/lib"), ["os-release"]);
        for (path, real) in [
            ("/lib/new", "/usr/lib/new"),
            ("/lib/a/b", "/usr/lib/a/b"),
            ("/nowhere/x", "/nothing/x"),
            ("/etc/os-release", "/etc/os-release"),
            ("/lib", "/lib"),
        ] {
            assert_eq!(view.real(path).as_deref(), Some(real));
        }
        assert_eq!(view.real("/round/x"), None);
        assert!(view.names("/host").is_empty() && view.text("/lib").unwrap().is_none());
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let mut builder = Builder::new(Time::default());
        let (origin, meta) = (builder.origin("test"), Meta::root(0o644, Time::default()));
        builder.text(b"/x", *b"a\xff", meta, origin).unwrap();
        let error = builder.view().text("/x").unwrap_err();
        assert_eq!(error.to_string(), "a text of the contents is not UTF-8\n  found: /x in the contents");
    }
}
