//! Which paths of a source are taken over: patterns that are matched with the path from the top of the source.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::pattern::matches;

/// Patterns of paths. In a part of a pattern `*` stands for any run of bytes of one name, `?` for one character, and `[a-c_]`
/// for one of those named, `[!a-c_]` for any other; a part `**` stands for any number of directories, or none, and at the end of a
/// pattern for all that is below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    include: Vec<Vec<Vec<u8>>>,
    exclude: Vec<Vec<Vec<u8>>>,
    met: Met,
}

/// Which patterns of `include` something was found for. It is no part of what is selected.
#[derive(Clone, Debug, Default)]
struct Met(Arc<[AtomicBool]>);

impl PartialEq for Met {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Met {}

impl Selection {
    /// Takes what matches one of `include`, with everything below it, or everything where that is empty; but nothing that
    /// matches one of `exclude`, or lies below such a path.
    #[must_use]
    pub fn new<'a>(
        include: impl IntoIterator<Item = &'a str>,
        exclude: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let parse = |pattern: &'a str| split(pattern.as_bytes()).map(<[u8]>::to_vec).collect();
        let include: Vec<Vec<Vec<u8>>> = include.into_iter().map(parse).collect();
        let met = Met(include.iter().map(|_| AtomicBool::new(false)).collect());
        Self { include, exclude: exclude.into_iter().map(parse).collect(), met }
    }

    /// A pattern of what is to be taken for which no path was asked for that matches it.
    #[must_use]
    pub fn unmet(&self) -> Option<String> {
        let unmet = self.include.iter().zip(&*self.met.0).find(|(_, met)| !met.load(Ordering::Relaxed));
        unmet.map(|(pattern, _)| crate::text::printable(&pattern.join(&b'/')))
    }

    /// Whether the path is looked at: it is taken, or it is a directory above what may be. The top always is.
    #[must_use]
    pub fn takes(&self, path: &[u8], directory: bool) -> bool {
        let path: Vec<&[u8]> = split(path).collect();
        if path.is_empty() {
            return true;
        }
        if self.exclude.iter().any(|pattern| takes(pattern, &path)) {
            return false;
        }
        let mut included = self.include.is_empty();
        for (pattern, met) in self.include.iter().zip(&*self.met.0) {
            if takes(pattern, &path) {
                met.store(true, Ordering::Relaxed);
                included = true;
            }
        }
        included || directory && self.include.iter().any(|pattern| fits(pattern, &path, true))
    }

    /// Whether a directory that is looked at is there for what it leads to alone, so that without any of that it goes.
    #[must_use]
    pub fn only_leads(&self, path: &[u8]) -> bool {
        let path: Vec<&[u8]> = split(path).collect();
        !self.include.is_empty()
            && !path.is_empty()
            && !self.include.iter().any(|pattern| takes(pattern, &path))
    }
}

fn split(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !matches!(part, [] | [b'.']))
}

/// Whether the path, or one above it, matches the pattern.
fn takes(pattern: &[Vec<u8>], path: &[&[u8]]) -> bool {
    (1..=path.len()).any(|end| fits(pattern, &path[..end], false))
}

/// Whether the path matches the pattern; or, with `leads`, whether a path below it may.
fn fits(pattern: &[Vec<u8>], path: &[&[u8]], leads: bool) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => !leads,
        (Some(_), None) => leads,
        (None, Some(_)) => false,
        (Some((first, rest)), Some((_, below))) if first == b"**" => {
            rest.is_empty() || fits(rest, path, leads) || fits(pattern, below, leads)
        }
        (Some((first, rest)), Some((name, below))) => matches(first, name) && fits(rest, below, leads),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_matched_from_the_top() {
        for (patterns, path, excluded) in [
            (&["var/cache"][..], "var/cache", true),
            (&["var/cache"], "var/cache/apt/x", true),
            (&["var/cache"], "var", false),
            (&["var/cache"], "var/cached", false),
            (&["var/cache"], "srv/var/cache", false),
            (&["/var/cache/"], "var/cache", true),
            (&["var/*/x"], "var/a/x", true),
            (&["var/*/x"], "var/a/b/x", false),
            (&["**/*.pyc"], "a.pyc", true),
            (&["**/*.pyc"], "usr/lib/a.pyc", true),
            (&["**/*.pyc"], "usr/lib/a.py", false),
            (&["usr/**/doc"], "usr/doc", true),
            (&["usr/**/doc"], "usr/a/b/doc/c", true),
            (&["usr/**"], "usr/a", true),
            (&["usr/**"], "usr", false),
            (&["usr/**/**"], "usr/a", true),
            (&["**"], "a", true),
            (&["**/a"], "a", true),
            (&["*"], "a", true),
            (&["./a"], "a", true),
            (&["us?"], "usr/a", true),
            (&["us?"], "us", false),
            (&["[d-f]"], "e", true),
            (&["[!d-f]x"], "ex", false),
            (&["usr/bin/["], "usr/bin/[", true),
            (&["*"], "", false),
            (&["a", "b*"], "bc/d", true),
        ] {
            let selection = Selection::new([], patterns.iter().copied());
            assert_eq!(!selection.takes(path.as_bytes(), false), excluded, "{patterns:?} {path}");
        }
    }

    #[test]
    fn what_nothing_matched_is_told() {
        let selection = Selection::new(["usr/*", "etc", "./srv//x"], []);
        assert_eq!(selection.unmet().as_deref(), Some("usr/*"));
        assert!(selection.takes(b"usr", true) && selection.takes(b"usr/bin/x", false));
        assert_eq!(selection.clone().unmet().as_deref(), Some("etc"));
        assert!(selection.takes(b"etc", true) && selection.takes(b"srv/x", false));
        assert_eq!(selection.unmet(), None);
    }

    #[test]
    fn what_is_included_brings_its_directories() {
        let selection = Selection::new(["usr/lib/*/x", "etc"], ["etc/ssl"]);
        for (path, directory, taken) in [
            ("etc", true, true),
            ("etc/passwd", false, true),
            ("etc/ssl", true, false),
            ("etc/ssl/a", false, false),
            ("usr", true, true),
            ("usr", false, false),
            ("usr/lib/y", true, true),
            ("usr/lib/y/x", false, true),
            ("usr/lib/y/x/z", false, true),
            ("usr/lib/y/z", true, false),
            ("usr/bin", true, false),
            ("bin", true, false),
        ] {
            assert_eq!(selection.takes(path.as_bytes(), directory), taken, "{path}");
        }
        for (path, leads) in
            [("", false), ("usr", true), ("usr/lib/y", true), ("usr/lib/y/x", false), ("etc", false)]
        {
            assert_eq!(selection.only_leads(path.as_bytes()), leads, "{path}");
        }
        assert!(!Selection::default().only_leads(b"a"));
        let any = Selection::new(["**/x"], []);
        assert!(any.takes(b"a/b", true) && any.takes(b"a/b/x", false) && !any.takes(b"a/b/y", false));
    }
}
