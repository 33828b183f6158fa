//! Members of archives on their way into a tree. Later members lie over earlier ones as they would on a disk: the last of
//! one name wins, a directory keeps what is in it, and layers of a container image take away what lower ones brought.
//!
//! Nothing here touches the host. A member below a symbolic link goes where the link leads inside the archive; one that
//! would leave the archive is refused.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

use super::build::{Builder, Origin};
use super::graft::Sort;
use super::rules::{Hardlinks, Rules};
use super::select::Selection;
use super::xattr::Patterns;
use super::{Content, Meta, Time, Xattr};
use crate::error::{Error, Kind, Result};
use crate::image::Slice;
use crate::text::printable;
use crate::units::{index, u64_of};

/// How many symbolic links a path may go through, as on Linux (path_resolution(7)).
const MOST_LINKS: u32 = 40;

/// The longest target of a symbolic link (PATH_MAX without its NUL, symlink(7)).
const LONGEST_LINK: u64 = 4095;
/// The largest numbers of a device: 12 bits and 20 (linux/kdev_t.h).
const LARGEST_MAJOR: u32 = 0xfff;
const LARGEST_MINOR: u32 = 0xf_ffff;

/// One member of an archive.
#[derive(Debug)]
pub(crate) struct Member {
    /// Its path, as it is written in the archive.
    pub(crate) path: Vec<u8>,
    pub(crate) meta: Stat,
    pub(crate) what: What,
}

/// The metadata of a member.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stat {
    /// 0 to 0o7777.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    /// In any order.
    pub(crate) xattrs: Vec<Xattr>,
}

/// What a member is.
#[derive(Debug)]
pub(crate) enum What {
    Directory,
    File(Slice),
    Symlink(Vec<u8>),
    /// Another name of an earlier member, by the path of that.
    Link(Vec<u8>),
    CharacterDevice((u32, u32)),
    BlockDevice((u32, u32)),
    Fifo,
    Socket,
}

/// A member that may have several names.
#[derive(Debug)]
struct Inode {
    meta: Stat,
    what: What,
}

/// A name, and the layer that brought it.
#[derive(Clone, Copy, Debug)]
struct Name {
    inode: u32,
    layer: u32,
}

/// What a path may lead to other than a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nothing else.
    Directory,
    /// A file, as its last part.
    File,
    /// A file in any part: then nothing is there.
    Nothing,
}

/// What the members of one or several archives come to.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    inodes: Vec<Inode>,
    /// By the path without a `/` before it. The top of the archive is the empty path.
    names: BTreeMap<Vec<u8>, Name>,
    layer: u32,
    /// The directory that was looked up last, as it was written, and where it is.
    last: Option<(Vec<u8>, Vec<u8>)>,
}

impl Layers {
    /// Begins the next layer, which lies over all earlier ones.
    pub(crate) fn next_layer(&mut self) {
        self.layer = self.layer.saturating_add(1);
    }

    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Puts a member over what is there.
    ///
    /// # Errors
    /// [`Kind::Source`] naming the member: its path leaves the archive or lies below one that is no directory, or it is a
    /// link to a member that is not there.
    pub(crate) fn insert(&mut self, member: Member) -> Result<()> {
        let Member { path, meta, what } = member;
        storable(&what, &path)?;
        let parts = parts(&path)?;
        let Some((name, above)) = parts.split_last() else {
            return match what {
                What::Directory => self.add(Vec::new(), meta, what),
                _ => Err(refuse("the top of an archive can only be a directory", &path)),
            };
        };
        let at = join(&self.directory(above, &path)?, name);
        match what {
            What::Link(to) => {
                let (found, inode) = self.linked(&to, &path)?;
                if found != at {
                    self.put(at, inode, false);
                }
                Ok(())
            }
            what => self.add(at, meta, what),
        }
    }

    fn add(&mut self, at: Vec<u8>, meta: Stat, what: What) -> Result<()> {
        let number = u32::try_from(self.inodes.len()).map_err(|_| super::build::too_many())?;
        let directory = matches!(what, What::Directory);
        if !matches!(what, What::Directory | What::File(_)) {
            self.last = None;
        }
        self.inodes.push(Inode { meta, what });
        self.put(at, number, directory);
        Ok(())
    }

    /// Gives an inode a name. A directory keeps what is in it; anything else is alone there.
    fn put(&mut self, at: Vec<u8>, inode: u32, directory: bool) {
        let stays = directory && self.names.get(&at).is_none_or(|name| self.is_directory(*name));
        if !stays {
            self.remove(&at, u32::MAX);
        }
        self.names.insert(at, Name { inode, layer: self.layer });
    }

    fn is_directory(&self, name: Name) -> bool {
        matches!(self.inodes[index(name.inode)].what, What::Directory)
    }

    /// Takes away what layers below `layer` have at `at` and below.
    fn remove(&mut self, at: &[u8], layer: u32) {
        if self.names.get(at).is_some_and(|name| name.layer < layer) {
            self.names.remove(at);
            self.last = None;
        }
        self.remove_below(at, layer);
    }

    /// Takes away what layers below `layer` have below `at`.
    fn remove_below(&mut self, at: &[u8], layer: u32) {
        let old: Vec<Vec<u8>> = match at {
            [] => {
                let below = self.names.iter().filter(|(path, _)| !path.is_empty());
                below.filter(|(_, name)| name.layer < layer).map(|(path, _)| path.clone()).collect()
            }
            // All paths that begin with `at/`; the byte after `/` is `0`.
            _ => {
                let (first, end) = ([at, b"/"].concat(), [at, b"0"].concat());
                let below = self.names.range((Bound::Excluded(first), Bound::Excluded(end)));
                below.filter(|(_, name)| name.layer < layer).map(|(path, _)| path.clone()).collect()
            }
        };
        if !old.is_empty() {
            self.last = None;
        }
        for path in old {
            self.names.remove(&path);
        }
    }

    /// Takes away what lower layers have at `path` (a whiteout of the OCI image specification).
    ///
    /// # Errors
    /// As [`Layers::insert`].
    pub(crate) fn white_out(&mut self, path: &[u8]) -> Result<()> {
        let parts = parts(path)?;
        if let Some((name, above)) = parts.split_last() {
            // Below what the layer has made a file, there is nothing left to take away.
            let at = join(&self.resolve(above, path, End::Nothing)?, name);
            self.remove(&at, self.layer);
        }
        Ok(())
    }

    /// Takes away what lower layers have in the directory `path` (an opaque whiteout).
    ///
    /// # Errors
    /// As [`Layers::insert`].
    pub(crate) fn make_opaque(&mut self, path: &[u8]) -> Result<()> {
        let at = self.resolve(&parts(path)?, path, End::Nothing)?;
        self.remove_below(&at, self.layer);
        Ok(())
    }

    /// The bytes of the regular file at `path`, where links are followed.
    ///
    /// # Errors
    /// As [`Layers::insert`].
    pub(crate) fn file(&self, path: &[u8]) -> Result<Option<Slice>> {
        let at = self.resolve(&parts(path)?, path, End::File)?;
        Ok(match self.names.get(&at).map(|name| &self.inodes[index(name.inode)].what) {
            Some(What::File(slice)) => Some(slice.clone()),
            _ => None,
        })
    }

    /// The inode that a hard link at `path` leads to, and its path.
    fn linked(&self, to: &[u8], path: &[u8]) -> Result<(Vec<u8>, u32)> {
        let missing = |found: &str| {
            Error::new(Kind::Source, "a hard link leads to a member that is not there")
                .expected(format!("{} before {}", printable(to), printable(path)))
                .found(found)
        };
        let parts = parts(to)?;
        let Some((name, above)) = parts.split_last() else { return Err(missing("the top of the archive")) };
        let at = join(&self.resolve(above, path, End::Directory)?, name);
        match self.names.get(&at) {
            None => Err(missing("nothing")),
            Some(name) if self.is_directory(*name) => Err(missing("a directory")),
            Some(name) => Ok((at, name.inode)),
        }
    }

    /// Where the directory `above` of the member `path` is, with links followed.
    fn directory(&mut self, above: &[&[u8]], path: &[u8]) -> Result<Vec<u8>> {
        let key = above.join(&b'/');
        if let Some((written, at)) = &self.last
            && *written == key
        {
            return Ok(at.clone());
        }
        let at = self.resolve(above, path, End::Directory)?;
        self.last = Some((key, at.clone()));
        Ok(at)
    }

    /// Where `path` leads to inside the archive. An absolute link begins at the top of the archive. `end`
    /// says what may be there that is not a directory.
    fn resolve(&self, path: &[&[u8]], member: &[u8], end: End) -> Result<Vec<u8>> {
        let mut todo: Vec<&[u8]> = path.iter().rev().copied().collect();
        let mut at: Vec<u8> = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match part {
                b"" | b"." => continue,
                b".." if at.is_empty() => {
                    return Err(refuse("a member leaves the archive by a symbolic link", member));
                }
                b".." => {
                    at.truncate(at.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let below = join(&at, part);
            match self.names.get(&below).map(|name| &self.inodes[index(name.inode)].what) {
                None | Some(What::Directory) => at = below,
                Some(What::Symlink(to)) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(refuse("a member lies behind too many symbolic links", member));
                    }
                    if to.starts_with(b"/") {
                        at.clear();
                    }
                    todo.extend(to.rsplit(|byte| *byte == b'/'));
                }
                Some(_) if end == End::File && todo.is_empty() => at = below,
                // No name holds NUL, so nothing is there.
                Some(_) if end == End::Nothing => return Ok(join(&below, b"\0")),
                Some(_) => {
                    return Err(refuse("a member lies below one that is not a directory", member)
                        .expected(format!("{} to be a directory", printable(&below))));
                }
            }
        }
        Ok(at)
    }
}

impl Layers {
    /// The names that are taken, with the directories above them.
    fn selected(&self, select: &Selection) -> HashSet<&[u8]> {
        let mut found: HashSet<&[u8]> = HashSet::new();
        for (path, name) in &self.names {
            let directory = matches!(self.inodes[index(name.inode)].what, What::Directory);
            if !select.takes(path, directory) || (directory && select.only_leads(path)) {
                continue;
            }
            let mut path = path.as_slice();
            while found.insert(path) && !path.is_empty() {
                let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                path = &path[..end];
            }
        }
        found
    }
}

impl Builder {
    /// Puts the members of an archive at `target`: what is at the top of the archive goes into `target`.
    ///
    /// # Errors
    /// As [`Builder::put`].
    pub(crate) fn layers(
        &mut self,
        target: &[u8],
        layers: &Layers,
        (rules, patterns): (&Rules, &Patterns),
        origin: Origin,
    ) -> Result<()> {
        let top = super::build::parts(target)?;
        let rank = super::build::rank(&top);
        let mut groups: BTreeMap<u32, u32> = BTreeMap::new();
        for name in layers.names.values() {
            *groups.entry(name.inode).or_default() += 1;
        }
        // A target that the archive says nothing of is a directory, also where it takes the place of a file.
        if let Some((name, above)) = top.split_last().filter(|_| self.replacing) {
            let parent = self.parents(above, origin)?;
            let there = self.find(parent, name).ok().map(|position| self.children_of(parent)[position]);
            if there.is_some_and(|id| !matches!(self.drafts[index(id)].node.content, Content::Directory)) {
                let meta = Meta::root(0o755, self.time);
                self.add(parent, name, meta, Content::Directory, origin, 0, false)?;
            }
        }
        self.parents(&top, origin)?;
        let selected = rules.select.as_ref().map(|select| layers.selected(select));
        for (path, name) in &layers.names {
            let inode = &layers.inodes[index(name.inode)];
            let directory = matches!(inode.what, What::Directory);
            if selected.as_ref().is_some_and(|selected| !selected.contains(path.as_slice())) {
                continue;
            }
            let meta = self.member(inode, rules, patterns, path.is_empty());
            let mut whole = top.clone();
            whole.extend(path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()));
            let content = self.member_content(&inode.what)?;
            let id = self.place_at(&whole, meta, content, origin, rank)?;
            if let What::File(slice) = &inode.what
                && let Some(ranges) = super::content::ranges(slice)
            {
                self.ranges.insert(id, ranges);
            }
            match rules.hardlinks {
                Hardlinks::Preserve
                    if !directory && groups.get(&name.inode).is_some_and(|count| *count > 1) =>
                {
                    // No device of the host has this number.
                    self.join_group((origin.number(), u64::MAX, u64::from(name.inode)), id);
                }
                Hardlinks::Dedupe if matches!(inode.what, What::File(_)) => self.dedupe.push(id),
                _ => {}
            }
        }
        Ok(())
    }

    fn member(&mut self, inode: &Inode, rules: &Rules, patterns: &Patterns, top: bool) -> Meta {
        let stat = &inode.meta;
        let mut kept: Vec<Xattr> =
            stat.xattrs.iter().filter(|xattr| patterns.keep(&xattr.name)).cloned().collect();
        kept.sort();
        let own = Meta { mode: stat.mode, uid: stat.uid, gid: stat.gid, mtime: stat.mtime, xattrs: 0 };
        let kind = match inode.what {
            What::Directory => Sort::Directory,
            What::Symlink(_) => Sort::Symlink,
            _ => Sort::Other,
        };
        self.ruled(own, &kept, kind, rules, rules.mode.filter(|_| top))
    }

    fn member_content(&mut self, what: &What) -> Result<Content> {
        Ok(match what {
            What::Directory => Content::Directory,
            What::File(slice) => self.slice_content(slice.clone())?,
            What::Symlink(to) => self.link_target(to)?,
            What::CharacterDevice(device) => Content::CharacterDevice { device: *device },
            What::BlockDevice(device) => Content::BlockDevice { device: *device },
            What::Fifo => Content::Fifo,
            What::Socket => Content::Socket,
            What::Link(_) => return Err(Error::bug("a link of an archive was not resolved")),
        })
    }
}

/// Refuses links that lead nowhere and devices that Linux does not have.
fn storable(what: &What, path: &[u8]) -> Result<()> {
    match what {
        What::Symlink(to) if to.is_empty() || u64_of(to.len()) > LONGEST_LINK || to.contains(&0) => {
            Err(refuse("a symbolic link of the archive cannot lead there", path)
                .expected(format!("1 to {LONGEST_LINK} bytes without NUL")))
        }
        What::CharacterDevice((major, minor)) | What::BlockDevice((major, minor))
            if *major > LARGEST_MAJOR || *minor > LARGEST_MINOR =>
        {
            Err(refuse("a device of the archive has a number that Linux does not have", path)
                .expected(format!("at most {LARGEST_MAJOR}:{LARGEST_MINOR}")))
        }
        _ => Ok(()),
    }
}

/// The components of a member's path. A `/` at its start means nothing, since an archive is a tree of its own.
fn parts(path: &[u8]) -> Result<Vec<&[u8]>> {
    if path.contains(&0) {
        return Err(refuse("the name of a member holds a NUL byte", path));
    }
    let parts: Vec<&[u8]> =
        path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    let mut depth = 0_usize;
    let mut leaves = false;
    for part in &parts {
        match (*part == b"..", depth) {
            (true, 0) => leaves = true,
            (true, _) => depth -= 1,
            (false, _) => depth += 1,
        }
    }
    if parts.contains(&b"..".as_slice()) {
        let what = if leaves { "a member leaves the archive" } else { "the path of a member goes up" };
        return Err(refuse(what, path)
            .expected("a path without `..`")
            .why("what is above may be a link elsewhere"));
    }
    Ok(parts)
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

/// An error about the member at `path`.
fn refuse(what: &str, path: &[u8]) -> Error {
    Error::new(Kind::Source, what).found(printable(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(path: &str, what: What) -> Member {
        Member { path: path.as_bytes().to_vec(), meta: Stat::default(), what }
    }

    fn file(path: &str) -> Member {
        member(path, What::File(Slice::ready("file", path.as_bytes().to_vec())))
    }

    fn paths(layers: &Layers) -> Vec<String> {
        layers.names.keys().map(|path| printable(path)).collect()
    }

    #[test]
    fn whiteouts_are_about_lower_layers_only() {
        let mut layers = Layers::default();
        for path in ["d/a", "d/b/c", "e", "f/g"] {
            layers.insert(file(path)).unwrap();
        }
        layers.next_layer();
        // Before and after what the layer itself brings.
        layers.insert(file("d/new")).unwrap();
        layers.make_opaque(b"d/").unwrap();
        layers.insert(file("d/b/new")).unwrap();
        layers.insert(file("f/g")).unwrap();
        layers.white_out(b"f/g").unwrap();
        layers.white_out(b"./e").unwrap();
        layers.white_out(b"none/at/all").unwrap();
        layers.white_out(b"f/g/below/it").unwrap();
        layers.make_opaque(b"f/g/").unwrap();
        assert_eq!(paths(&layers), ["d/b/new", "d/new", "f/g"]);
        layers.next_layer();
        layers.make_opaque(b"").unwrap();
        assert_eq!(paths(&layers), [""; 0]);
    }

    #[test]
    fn a_file_takes_the_place_of_a_directory_and_a_directory_that_of_a_file() {
        let mut layers = Layers::default();
        for path in ["a/b/c", "a-", "a0", "a/b-"] {
            layers.insert(file(path)).unwrap();
        }
        layers.insert(file("a")).unwrap();
        assert_eq!(paths(&layers), ["a", "a-", "a0"], "names that only begin alike stay");
        assert!(layers.insert(file("a/b")).unwrap_err().what().contains("not a directory"));
        layers.insert(member("a/", What::Directory)).unwrap();
        layers.insert(file("a/b")).unwrap();
        layers.insert(member("a", What::Directory)).unwrap();
        assert_eq!(paths(&layers), ["a", "a-", "a/b", "a0"], "a directory keeps what is in it");
    }

    #[test]
    fn a_directory_that_becomes_a_link_is_not_remembered_as_one() {
        let mut layers = Layers::default();
        layers.insert(file("d/x")).unwrap();
        layers.insert(member("d", What::Symlink(b"/e/./f".to_vec()))).unwrap();
        layers.insert(file("d/y")).unwrap();
        layers.insert(member("link", What::Link(b"d/y".to_vec()))).unwrap();
        layers.insert(member("link", What::Link(b"link".to_vec()))).unwrap();
        assert_eq!(paths(&layers), ["d", "e/f/y", "link"]);
        assert!(layers.file(b"link").unwrap().is_some() && layers.file(b"d/y").unwrap().is_some());
        assert!(layers.file(b"d").unwrap().is_none());
        // The file that a link was made to stays, whatever comes under the first name.
        layers.insert(file("e/f/y")).unwrap();
        let bytes = |path: &[u8]| layers.file(path).unwrap().unwrap().length().get();
        assert_eq!((bytes(b"link"), bytes(b"e/f/y")), (3, 5));
    }
}
