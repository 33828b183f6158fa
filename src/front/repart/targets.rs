//! Where targets lead to in a filesystem that is being filled: links of what was put into it before are followed inside of it
//! (systemd `mkdir_p_root`, and `chase()` with CHASE_PREFIX_ROOT on the mounted filesystem).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::host::links::Way;
use crate::tree::Exclusions;

/// What is in a filesystem before the next entry comes.
#[derive(Debug, Default)]
pub(super) struct Targets {
    copied: Vec<Copied>,
    links: BTreeMap<PathBuf, PathBuf>,
    /// What was put there, with the directories above each.
    there: Vec<PathBuf>,
}

/// A source that was copied.
#[derive(Debug)]
struct Copied {
    target: PathBuf,
    host: PathBuf,
    without: Arc<Exclusions>,
}

/// What is done with a link at the end of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    /// It is followed, as for a directory that is copied.
    Followed,
    /// It stays what it is, as for a file and a link (`openat` and `symlinkat` below the parent).
    Kept,
}

impl Targets {
    /// Where `target` leads to. One that leads to nothing stays as it is, and is refused where it is put.
    pub(super) fn resolve(&self, target: &str, last: Last) -> String {
        let resolved = self.follow(Path::new(target), last);
        // The path of an entry is a text.
        resolved
            .and_then(|path| path.into_os_string().into_string().ok())
            .unwrap_or_else(|| target.to_owned())
    }

    /// Says that what is at `host` is copied to `target`.
    pub(super) fn copy(&mut self, target: &str, host: &Path, without: &Arc<Exclusions>) {
        let copied = Copied { target: target.into(), host: host.to_owned(), without: Arc::clone(without) };
        self.copied.push(copied);
        self.there.push(target.into());
    }

    /// Says that `target` is a directory.
    pub(super) fn directory(&mut self, target: &str) {
        self.there.push(target.into());
    }

    /// Says that `target` is a link that leads to `to`.
    pub(super) fn link(&mut self, target: &str, to: &str) {
        self.links.insert(target.into(), to.into());
        self.there.push(target.into());
    }

    fn follow(&self, target: &Path, last: Last) -> Option<PathBuf> {
        let mut way = Way::new(target);
        while let Some(of_link) = way.step() {
            if way.is_done() && !of_link && last == Last::Kept {
                break;
            }
            let Some(to) = self.link_at(way.at()) else {
                // What a link leads to has to be there.
                if of_link && !self.exists(way.at()) {
                    return None;
                }
                continue;
            };
            if !way.turn(&to) {
                return None;
            }
        }
        Some(way.at().to_owned())
    }

    /// What a link leads to; `None` where there is no link.
    fn link_at(&self, at: &Path) -> Option<PathBuf> {
        let made = || self.links.get(at).cloned();
        self.hosts(at).find_map(|host| std::fs::read_link(host).ok()).or_else(made)
    }

    fn exists(&self, at: &Path) -> bool {
        self.there.iter().any(|there| there.starts_with(at))
            || self.hosts(at).any(|host| host.symlink_metadata().is_ok())
    }

    /// What may have been copied to a place.
    fn hosts<'a>(&'a self, at: &'a Path) -> impl Iterator<Item = PathBuf> + 'a {
        self.copied.iter().filter_map(move |copied| copied.host_of(at))
    }
}

impl Copied {
    /// The path of the host that is copied to `at`; `None` where that is left out.
    fn host_of(&self, at: &Path) -> Option<PathBuf> {
        let below = at.strip_prefix(&self.target).ok()?;
        // A path that ends with a slash would be that of what a link leads to.
        let host = if below.as_os_str().is_empty() { self.host.clone() } else { self.host.join(below) };
        let above = || host.ancestors().skip(1);
        let is_out = host.ancestors().any(|path| self.without.paths.contains(path))
            || above().any(|path| self.without.contents.contains(path));
        (!is_out).then_some(host)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Each as systemd-repart 262.1 puts it, or refuses it where the target stays as it is.
    #[test]
    fn links_of_the_filesystem_are_followed_inside_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("usr/lib")).unwrap();
        std::fs::create_dir_all(at("out")).unwrap();
        for (to, name) in [
            ("usr/lib", "lib"),
            ("/usr/lib", "absolute"),
            ("../../usr", "up"),
            ("nowhere", "dangling"),
            ("loop", "loop"),
            ("/usr", "out/link"),
        ] {
            symlink(to, at(name)).unwrap();
        }
        let mut targets = Targets::default();
        let without = Exclusions { paths: [at("out")].into(), ..Exclusions::default() };
        targets.copy("/", folder.path(), &Arc::new(without));
        targets.directory("/made/deep");
        targets.link("/own", "made");
        for (target, last, expected) in [
            ("/lib/y", Last::Kept, "/usr/lib/y"),
            ("/absolute/new/y", Last::Kept, "/usr/lib/new/y"),
            ("/up/lib/x", Last::Kept, "/usr/lib/x"),
            ("/own/x", Last::Kept, "/made/x"),
            ("/lib", Last::Followed, "/usr/lib"),
            ("/lib", Last::Kept, "/lib"),
            ("/dangling/x", Last::Kept, "/dangling/x"),
            ("/dangling", Last::Followed, "/dangling"),
            ("/loop/x", Last::Kept, "/loop/x"),
            ("/out/link/x", Last::Kept, "/out/link/x"),
            ("/new/place", Last::Followed, "/new/place"),
            ("/", Last::Followed, "/"),
        ] {
            assert_eq!(targets.resolve(target, last), expected, "{target} {last:?}");
        }
    }
}
