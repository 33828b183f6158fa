//! The archive of Nix (NAR), and the hash over it that Nix has of every store path.
//!
//! An archive is a sequence of strings. Before each string is its length as 64 bits in little endian, and
//! after it are zeros up to a multiple of 8 bytes:
//!
//! ```text
//! archive   = "nix-archive-1" node
//! node      = "(" "type" what ")"
//! what      = "regular" ["executable" ""] "contents" BYTES
//!           | "symlink" "target" TARGET
//!           | "directory" entry…
//! entry     = "entry" "(" "name" NAME "node" node ")"
//! ```
//!
//! Entries are in the order of the bytes of their names, like the nodes of a [`Tree`]. In a mode only the
//! owner's execute bit counts. Owners, times and attributes are not included, so every copy of a store path
//! has the same hash. (E. Dolstra, The Purely Functional Software Deployment Model, section 5.2.)

use std::path::Path;

use sha2::{Digest, Sha256};

use super::hash::NarHash;
use crate::error::{Error, Kind, Result};
use crate::host::Source;
use crate::image::{Cursor, Files};
use crate::progress::Progress;
use crate::tree::xattr::Patterns;
use crate::tree::{self, Content, NodeId, Rules, Time, Tree};
use crate::units::{KIB, u64_of, usize_of};

/// The hash of an archive and its length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digested {
    /// SHA-256 of the archive.
    pub hash: NarHash,
    /// The length of the archive.
    pub size: u64,
}

/// Fills a buffer with the bytes of a regular file, from an offset on. The node is never a [`Content::Link`],
/// but the node that the link leads to.
pub type ReadFile<'a> = dyn FnMut(NodeId, u64, &mut [u8]) -> Result<()> + 'a;

/// The hash of the archive of `top` and everything below it. `read` returns the bytes of host files.
///
/// # Errors
/// [`Kind::Source`] for a device, pipe or socket, which archives cannot contain; any error of `read`.
pub fn hash(tree: &Tree, top: NodeId, read: &mut ReadFile<'_>) -> Result<Digested> {
    let mut hash = Sha256::new();
    let size = write(tree, top, read, &mut |bytes| hash.update(bytes))?;
    Ok(Digested { hash: NarHash::new(hash.finalize().into()), size })
}

/// The hash of the archive of a file, link or directory of this host, as `nix-hash --type sha256` computes
/// it.
///
/// # Errors
/// As [`hash`], and [`Kind::Source`] for anything that is missing, unreadable or changes while it is read.
pub fn hash_host(path: &Path, jobs: usize, progress: &Progress) -> Result<Digested> {
    let request = tree::Request {
        path: path.to_owned(),
        follow: false,
        xattrs: Patterns::new(Vec::new()),
        holes: false,
        select: None,
    };
    let scan = tree::scan(&[request], jobs, progress)?;
    let mut builder = tree::Builder::new(Time::default());
    let origin = builder.origin("the path");
    builder.graft(b"/top", &scan, 0, &Rules::default(), origin)?;
    let tree = builder.finish_watched(jobs, progress)?;
    let top = tree.children(NodeId::ROOT).next().ok_or_else(|| Error::bug("a graft left nothing"))?;
    let mut open: Option<(NodeId, Source<'_>)> = None;
    hash(&tree, top, &mut |node, offset, out| {
        progress.check()?;
        if open.as_ref().is_none_or(|(id, _)| *id != node) {
            open = Some((node, Source::open(tree.file(node.get())?)?));
        }
        let Some((_, source)) = &open else { return Ok(()) };
        source.read_exact(offset, out)?;
        source.verify()
    })
}

/// How many bytes are gathered before they are passed on: an amount that fits in the second-level cache.
const BUFFER: u64 = 256 * KIB;

/// Passes the archive of `top` to `sink` in pieces and returns its length.
///
/// # Errors
/// As [`hash`].
pub fn write(tree: &Tree, top: NodeId, read: &mut ReadFile<'_>, sink: &mut dyn FnMut(&[u8])) -> Result<u64> {
    let mut writer = Writer { tree, read, sink, buffer: Vec::with_capacity(usize_of(BUFFER)), size: 0 };
    writer.string(b"nix-archive-1");
    // The open directories: all parents of the next node.
    let mut open: Vec<NodeId> = Vec::new();
    for node in tree.subtree(top) {
        while let Some(directory) = open.pop_if(|directory| node != top && *directory != tree.parent(node)) {
            writer.end(directory != top);
        }
        if node != top {
            writer.strings(&[b"entry", b"(", b"name", tree.name(node), b"node"]);
        }
        writer.strings(&[b"(", b"type"]);
        match writer.node(node)? {
            true => open.push(node),
            false => writer.end(node != top),
        }
    }
    while let Some(directory) = open.pop() {
        writer.end(directory != top);
    }
    writer.flush();
    Ok(writer.size)
}

/// An archive that is being written.
struct Writer<'a, 'r> {
    tree: &'a Tree,
    read: &'a mut ReadFile<'r>,
    sink: &'a mut dyn FnMut(&[u8]),
    buffer: Vec<u8>,
    /// The number of bytes before those in the buffer.
    size: u64,
}

impl Writer<'_, '_> {
    /// Writes what follows a node's type. True for a directory, which stays open for its entries.
    fn node(&mut self, node: NodeId) -> Result<bool> {
        let tree = self.tree;
        let executable = tree.node(node).meta.mode & 0o100 != 0;
        let source = tree.source(node);
        match tree.node(source).content {
            Content::Directory => {
                self.string(b"directory");
                return Ok(true);
            }
            Content::Symlink { .. } => self.strings(&[b"symlink", b"target", tree.target(source)]),
            Content::File { .. } | Content::Text { .. } | Content::Slice { .. } => {
                self.string(b"regular");
                if executable {
                    self.strings(&[b"executable", b""]);
                }
                self.string(b"contents");
                match tree.node(source).content {
                    Content::Text { text } => self.string(tree.text(text)),
                    Content::Slice { slice } => self.file(source, Some(tree.slice(slice).cursor()))?,
                    _ => self.file(source, None)?,
                }
            }
            Content::CharacterDevice { .. }
            | Content::BlockDevice { .. }
            | Content::Fifo
            | Content::Socket
            | Content::Link { .. } => {
                return Err(Error::new(Kind::Source, "a store path holds what no archive of Nix can")
                    .at(tree.path(node))
                    .expected("a file, a directory or a symbolic link")
                    .found("a device, pipe or socket"));
            }
        }
        Ok(false)
    }

    /// Ends a node, and the entry that contains it.
    fn end(&mut self, in_entry: bool) {
        self.string(b")");
        if in_entry {
            self.string(b")");
        }
    }

    fn strings(&mut self, strings: &[&[u8]]) {
        for string in strings {
            self.string(string);
        }
    }

    fn string(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(&u64_of(bytes.len()).to_le_bytes());
        self.buffer.extend_from_slice(bytes);
        self.pad(u64_of(bytes.len()));
        if u64_of(self.buffer.len()) >= BUFFER {
            self.flush();
        }
    }

    /// The zeros after a string of `length` bytes.
    fn pad(&mut self, length: u64) {
        let zeros = usize_of(length.next_multiple_of(8) - length);
        self.buffer.extend_from_slice(&[0; 8][..zeros]);
    }

    /// The length and the bytes of a file: a slice is read through its cursor, a host file by `read`.
    fn file(&mut self, node: NodeId, mut slice: Option<Cursor>) -> Result<()> {
        let size = self.tree.size(node);
        self.buffer.extend_from_slice(&size.to_le_bytes());
        let mut done = 0;
        while done < size {
            if u64_of(self.buffer.len()) >= BUFFER {
                self.flush();
            }
            let start = self.buffer.len();
            let length = (size - done).min(BUFFER - u64_of(start));
            self.buffer.resize(start + usize_of(length), 0);
            let out = &mut self.buffer[start..];
            match &mut slice {
                Some(cursor) => cursor.read(done, out)?,
                None => (self.read)(node, done, out)?,
            }
            done += length;
        }
        self.pad(size);
        Ok(())
    }

    fn flush(&mut self) {
        (self.sink)(&self.buffer);
        self.size += u64_of(self.buffer.len());
        self.buffer.clear();
    }
}
