//! Lists files as ls(1) of coreutils does in the C locale with numeric owners, or as JSON.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;

use serde::Serialize;

use super::capability::{CAPABILITY, capabilities, hex, value};
use super::find::{Item, Last, find};
use super::walk::entries;
use crate::calendar::minute;
use crate::error::{Error, Kind, Result};
use crate::filesystem::{Content, Inode, Node, Space, Volume};
use crate::pour::write_error;
use crate::text::printable;
use crate::tree::Time;
use crate::units::{Bytes, KIB};

/// How files are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// With mode, links, owner, size and time, and the extended attributes below each name (`-l`).
    pub long: bool,
    /// Also what is in directories below (`-R`).
    pub recursive: bool,
    /// Also names that begin with a dot (`-A`).
    pub all: bool,
    /// Directories themselves, and not what is in them (`-d`).
    pub directory: bool,
    /// JSON: one list of all files, whatever `long` says.
    pub json: bool,
}

/// A file as it is listed.
#[derive(Debug)]
struct Row {
    /// The name that is shown.
    name: Vec<u8>,
    /// The path from the root.
    path: Vec<u8>,
    inode: Inode,
    node: Node,
    space: Space,
}

/// A file in JSON. Names that are not UTF-8 are escaped, and their bytes stand beside them in hexadecimal.
#[derive(Debug, Serialize)]
struct Shown {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    #[serde(rename = "type")]
    kind: &'static str,
    mode: String,
    links: u32,
    uid: u32,
    gid: u32,
    size: u64,
    allocated: u64,
    mtime: String,
    inode: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_bytes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<(u32, u32)>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<String>,
}

/// Lists `items` of `volume` into `out`. A file or directory that cannot be read goes to `trouble`, and the rest is listed.
///
/// # Errors
/// [`Kind::Output`] where `out` takes no more, and any error of `trouble`.
pub fn list(
    volume: &dyn Volume,
    items: Vec<Item>,
    options: Options,
    out: &mut dyn Write,
    trouble: &mut dyn FnMut(Error) -> Result<()>,
) -> Result<()> {
    let mut lister = Lister { volume, options, out, trouble, begun: false, rows: 0 };
    if options.json {
        lister.put(b"[")?;
    }
    let headed = items.len() > 1 || options.recursive;
    let (mut files, mut directories) = (Vec::new(), Vec::new());
    for item in items {
        let opened = !options.directory && lister.opens(&item);
        if let Some(directory) = opened.then(|| lister.target(&item)).flatten() {
            directories.push((item.path, directory));
        } else if let Some(row) = lister.row(item.path.clone(), item.path, item.inode) {
            files.push(row?);
        }
    }
    if !files.is_empty() {
        lister.rows(&files, false)?;
    }
    for (path, inode) in directories {
        lister.directory(path, inode, headed)?;
    }
    if options.json {
        lister.put(if lister.rows == 0 { b"]\n" } else { b"\n]\n" })?;
    }
    Ok(())
}

struct Lister<'a> {
    volume: &'a dyn Volume,
    options: Options,
    out: &'a mut dyn Write,
    trouble: &'a mut dyn FnMut(Error) -> Result<()>,
    /// Whether a group of names was printed.
    begun: bool,
    /// How many files were printed.
    rows: u64,
}

impl Lister<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(write_error)
    }

    /// Whether an item that was named is shown by what is in it: a directory, and without `-l` a link to one.
    fn opens(&self, item: &Item) -> bool {
        match item.node.content {
            Content::Directory { .. } => true,
            Content::Symlink { .. } => !self.options.long,
            _ => false,
        }
    }

    /// The directory that an item is or leads to.
    fn target(&self, item: &Item) -> Option<Inode> {
        if item.is_directory() {
            return Some(item.inode);
        }
        let target = find(self.volume, &item.path, Last::Followed).ok().flatten()?;
        target.is_directory().then_some(target.inode)
    }

    /// A file; `None` once `trouble` has heard that it cannot be read.
    fn row(&mut self, name: Vec<u8>, path: Vec<u8>, inode: Inode) -> Option<Result<Row>> {
        let read = self.volume.node(inode).and_then(|node| Ok((node, self.volume.space(inode)?)));
        match read {
            Ok((node, space)) => Some(Ok(Row { name, path, inode, node, space })),
            Err(error) => (self.trouble)(error.at(place(&path))).err().map(Err),
        }
    }

    /// Lists a directory, and those below it if that is asked for.
    fn directory(&mut self, path: Vec<u8>, inode: Inode, headed: bool) -> Result<()> {
        let mut places = HashSet::new();
        let mut stack = vec![(path, inode)];
        while let Some((path, inode)) = stack.pop() {
            let place_of = |volume: &dyn Volume| match volume.node(inode)?.content {
                Content::Directory { place } => Ok(place),
                _ => Err(Error::new(Kind::Format, "this inode is no directory")),
            };
            let names = place_of(self.volume).and_then(|own| {
                if !places.insert(own) {
                    return Err(Error::new(Kind::Format, "a directory has two names, or holds itself"));
                }
                entries(self.volume, inode)
            });
            let names = match names {
                Ok(names) => names,
                Err(error) => {
                    (self.trouble)(error.at(place(&path)))?;
                    continue;
                }
            };
            let mut rows = Vec::with_capacity(names.len());
            for (name, child) in names {
                if self.options.all || !name.starts_with(b".") {
                    let below = [if path == b"/" { b"" } else { path.as_slice() }, b"/", &name].concat();
                    if let Some(row) = self.row(name, below, child) {
                        rows.push(row?);
                    }
                }
            }
            if headed && !self.options.json {
                let gap = if self.begun { "\n" } else { "" };
                self.put(format!("{gap}{}:\n", printable(&path)).as_bytes())?;
                self.begun = true;
            }
            self.rows(&rows, true)?;
            if self.options.recursive {
                let directories = rows.into_iter().rev().filter(|row| row.node.is_directory());
                stack.extend(directories.map(|row| (row.path, row.inode)));
            }
        }
        Ok(())
    }

    /// Prints files that stand together; those of a directory follow the number of KiB that they occupy.
    fn rows(&mut self, rows: &[Row], of_directory: bool) -> Result<()> {
        let mut text = String::new();
        if self.options.json {
            for row in rows {
                text.push_str(if self.rows == 0 { "\n  " } else { ",\n  " });
                self.rows += 1;
                let shown = serde_json::to_string(&shown(row));
                text.push_str(&shown.map_err(|error| Error::bug("a file is no JSON").because(error))?);
            }
        } else if self.options.long {
            if of_directory {
                let sum: Bytes = rows.iter().map(|row| row.space.allocated).sum();
                text.push_str(&format!("total {}\n", sum.div_ceil(KIB)));
            }
            long(rows, &mut text);
        } else {
            for row in rows {
                text.push_str(&printable(&row.name));
                text.push('\n');
            }
        }
        self.begun = true;
        self.put(text.as_bytes())
    }
}

/// A path in a volume as a place of an error.
fn place(path: &[u8]) -> &std::path::Path {
    use std::os::unix::ffi::OsStrExt;
    std::path::Path::new(std::ffi::OsStr::from_bytes(path))
}

/// The lines of `ls -ln --time-style=full-iso`, each followed by the extended attributes of its file.
fn long(rows: &[Row], text: &mut String) {
    let width = |number: &dyn Fn(&Row) -> Option<u64>| {
        rows.iter().filter_map(number).map(|number| number.to_string().len()).max().unwrap_or(0)
    };
    let links = width(&|row| Some(row.node.meta.links.into()));
    let (uid, gid) =
        (width(&|row| Some(row.node.meta.uid.into())), width(&|row| Some(row.node.meta.gid.into())));
    let major = width(&|row| device(row).map(|(major, _)| major.into()));
    let minor = width(&|row| device(row).map(|(_, minor)| minor.into()));
    let devices = if major > 0 { major + 2 + minor } else { 0 };
    let size = width(&|row| device(row).is_none().then(|| row.space.size.get())).max(devices);
    let has_acl =
        |row: &Row| row.node.meta.xattrs.iter().any(|own| own.name.starts_with(b"system.posix_acl_"));
    // Where one file of a list has an ACL, the others have a blank in its place.
    let any_has_acl = rows.iter().any(has_acl);
    for row in rows {
        let meta = &row.node.meta;
        let length = match device(row) {
            Some((number, sub)) => format!("{number:>0$}, {sub:>minor$}", major + size - devices),
            None => format!("{:>size$}", row.space.size.get()),
        };
        let mark = match (has_acl(row), any_has_acl) {
            (true, _) => "+",
            (false, true) => " ",
            (false, false) => "",
        };
        text.push_str(&format!(
            "{}{mark} {:>links$} {:>uid$} {:>gid$} {length} {} {}",
            mode(&row.node),
            meta.links,
            meta.uid,
            meta.gid,
            time(meta.mtime),
            printable(&row.name)
        ));
        if let Content::Symlink { target } = &row.node.content {
            text.push_str(&format!(" -> {}", printable(target)));
        }
        text.push('\n');
        for xattr in &meta.xattrs {
            let name = printable(&xattr.name);
            let shown = match capabilities(&xattr.value).filter(|_| xattr.name == CAPABILITY) {
                Some(text) => text,
                None => value(&xattr.value),
            };
            text.push_str(&format!("    {name}={shown}\n"));
        }
    }
}

const fn device(row: &Row) -> Option<(u32, u32)> {
    match row.node.content {
        Content::CharacterDevice(device) | Content::BlockDevice(device) => Some(device),
        _ => None,
    }
}

/// Type and permissions, as `ls -l` has them.
#[must_use]
pub fn mode(node: &Node) -> String {
    let kind = match node.content {
        Content::Directory { .. } => 'd',
        Content::File { .. } => '-',
        Content::Symlink { .. } => 'l',
        Content::CharacterDevice(_) => 'c',
        Content::BlockDevice(_) => 'b',
        Content::Fifo => 'p',
        Content::Socket => 's',
    };
    let mode = node.meta.mode;
    let bit = |bit: u16, letter: char| if mode >> bit & 1 == 1 { letter } else { '-' };
    let last = |execute: u16, special: u16, both: char, alone: char| match (
        mode >> special & 1,
        mode >> execute & 1,
    ) {
        (1, 1) => both,
        (1, _) => alone,
        _ => bit(execute, 'x'),
    };
    [
        kind,
        bit(8, 'r'),
        bit(7, 'w'),
        last(6, 11, 's', 'S'),
        bit(5, 'r'),
        bit(4, 'w'),
        last(3, 10, 's', 'S'),
        bit(2, 'r'),
        bit(1, 'w'),
        last(0, 9, 't', 'T'),
    ]
    .iter()
    .collect()
}

/// A time in UTC with all of its digits: `2001-09-09 01:46:40.000000000 +0000`.
#[must_use]
pub fn time(time: Time) -> String {
    let Time { seconds, nanoseconds } = time;
    format!("{}:{:02}.{nanoseconds:09} +0000", minute(seconds), seconds.rem_euclid(60))
}

/// The name of a file type.
#[must_use]
pub const fn kind(content: &Content) -> &'static str {
    match content {
        Content::Directory { .. } => "directory",
        Content::File { .. } => "file",
        Content::Symlink { .. } => "symlink",
        Content::CharacterDevice(_) => "character device",
        Content::BlockDevice(_) => "block device",
        Content::Fifo => "pipe",
        Content::Socket => "socket",
    }
}

fn shown(row: &Row) -> Shown {
    let meta = &row.node.meta;
    // The bytes of what the text does not tell exactly.
    let bytes = |raw: &[u8]| (std::str::from_utf8(raw) != Ok(&printable(raw))).then(|| hex(raw));
    let target = match &row.node.content {
        Content::Symlink { target } => Some(target),
        _ => None,
    };
    let capability = meta.xattrs.iter().find(|own| own.name == CAPABILITY);
    Shown {
        path: printable(&row.path),
        path_bytes: bytes(&row.path),
        kind: kind(&row.node.content),
        mode: format!("{:04o}", meta.mode),
        links: meta.links,
        uid: meta.uid,
        gid: meta.gid,
        size: row.space.size.get(),
        allocated: row.space.allocated.get(),
        mtime: time(meta.mtime).replacen(' ', "T", 1).replace(" +0000", "Z"),
        inode: row.inode.0,
        target: target.map(|target| printable(target)),
        target_bytes: target.and_then(|target| bytes(target)),
        device: device(row),
        xattrs: meta.xattrs.iter().map(|own| (printable(&own.name), hex(&own.value))).collect(),
        capabilities: capability.and_then(|own| capabilities(&own.value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filesystem::Meta;

    #[test]
    fn modes_are_those_of_ls() {
        let node = |mode, content| Node {
            meta: Meta { mode, uid: 0, gid: 0, mtime: Time::default(), links: 1, xattrs: Vec::new() },
            content,
        };
        let file = || Content::File { size: Bytes::ZERO };
        for (mode, content, text) in [
            (0o644, file(), "-rw-r--r--"),
            (0o4755, file(), "-rwsr-xr-x"),
            (0o4644, file(), "-rwSr--r--"),
            (0o2755, file(), "-rwxr-sr-x"),
            (0o1777, Content::Directory { place: 0 }, "drwxrwxrwt"),
            (0o1776, Content::Directory { place: 0 }, "drwxrwxrwT"),
            (0o777, Content::Symlink { target: Vec::new() }, "lrwxrwxrwx"),
            (0, Content::Fifo, "p---------"),
            (0o600, Content::Socket, "srw-------"),
            (0o660, Content::BlockDevice((8, 1)), "brw-rw----"),
            (0o666, Content::CharacterDevice((1, 3)), "crw-rw-rw-"),
        ] {
            assert_eq!(super::mode(&node(mode, content)), text);
        }
    }

    #[test]
    fn times_have_all_their_digits() {
        let at = |seconds, nanoseconds| time(Time { seconds, nanoseconds });
        assert_eq!(at(1_000_000_000, 5), "2001-09-09 01:46:40.000000005 +0000");
        assert_eq!(at(-1, 999_999_999), "1969-12-31 23:59:59.999999999 +0000");
    }
}
