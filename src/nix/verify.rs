//! Verifies the store paths on a disk. The archive of each is made from the names and modes of its tree and
//! from the bytes that are read back from the disk. Its hash is compared with the one in the closure.
//!
//! An [`Image`] records which range of which file is where, so the place of every byte is known where files lie on the disk
//! as they are. This needs no reader of the filesystem then, and reads in parallel as the pour does. Files of other filesystems,
//! such as pools of ZFS, are read by the filesystem's reader, one for each thread.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::closure::Closure;
use super::nar::{self, Digested};
use super::reread::Reader;
use super::store::{STORE, StorePath};
use crate::error::{Error, Kind, Result};
use crate::image::{Cursor, Data, Image};
use crate::progress::Progress;
use crate::tree::{NodeId, Tree};
use crate::units::{Bytes, KIB, u64_of, usize_of};

/// The store paths to compare.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The store paths with their hashes.
    pub closure: Arc<Closure>,
    /// The path of the store in its filesystem: `/nix/store`, or `/` in a filesystem that is mounted there.
    pub store: Vec<u8>,
}

impl Expected {
    /// The closure at `/nix/store`.
    #[must_use]
    pub fn new(closure: Arc<Closure>) -> Self {
        Self { closure, store: STORE.as_bytes().to_vec() }
    }
}

/// A filesystem on a disk.
#[derive(Debug)]
pub struct Filesystem {
    /// What is in it.
    pub tree: Arc<Tree>,
    /// Where the disk has it: its first byte, and one past its last.
    pub place: (Bytes, Bytes),
    /// Where its reader shows the directories of the tree, if files do not lie on the disk as they are: their paths, and those
    /// in the volume.
    pub shown_at: Option<Vec<(String, String)>>,
}

/// A filesystem, and how its files are found.
#[derive(Debug)]
struct Placed {
    filesystem: Filesystem,
    /// The places of the files, by file and offset in it.
    pieces: Vec<Piece>,
}

/// A run of bytes of a file, and its place on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Piece {
    file: u32,
    skip: u64,
    length: u64,
    offset: u64,
}

/// A store path on a disk, and its expected hash.
#[derive(Debug)]
struct Member {
    path: StorePath,
    expected: Digested,
    /// The number of its filesystem.
    filesystem: usize,
    node: NodeId,
}

/// A prepared comparison: the places of store paths on a disk.
#[derive(Debug)]
pub struct Verification {
    filesystems: Vec<Placed>,
    /// By their base names.
    members: Vec<Member>,
}

impl Verification {
    /// Prepares the comparison of a disk with these filesystems.
    ///
    /// # Errors
    /// [`Kind::Manifest`] where a store path of the closure is in none of the trees, or only its name is
    /// known.
    pub fn new(disk: &Image, filesystems: Vec<Filesystem>, expected: &Expected) -> Result<Self> {
        let mut there: HashMap<&[u8], (usize, NodeId)> = HashMap::new();
        for (number, Filesystem { tree, .. }) in filesystems.iter().enumerate() {
            let store = tree.find(&expected.store);
            for node in store.iter().flat_map(|store| tree.children(*store)) {
                there.entry(tree.name(node)).or_insert((number, node));
            }
        }
        let mut members = Vec::new();
        for (path, facts) in expected.closure.registered()? {
            let Some((filesystem, node)) = there.get(path.base_name().as_bytes()).copied() else {
                return Err(
                    Error::new(Kind::Manifest, "a store path of the closure is not on the disk").found(path)
                );
            };
            let expected = Digested { hash: facts.nar_hash, size: facts.nar_size };
            members.push(Member { path: path.clone(), expected, filesystem, node });
        }
        let used = |number| members.iter().any(|member| member.filesystem == number);
        let used: Vec<bool> = (0..filesystems.len()).map(used).collect();
        let placed = filesystems.into_iter().zip(used).map(|(filesystem, used)| {
            let by_place = used && filesystem.shown_at.is_none();
            let pieces = if by_place { pieces(disk, &filesystem.tree) } else { Vec::new() };
            Placed { filesystem, pieces }
        });
        Ok(Self { filesystems: placed.collect(), members })
    }

    /// The total length and the number of all archives, for a progress that counts them.
    #[must_use]
    pub fn amount(&self) -> (u64, u64) {
        let bytes = self.members.iter().fold(0_u64, |sum, member| sum.saturating_add(member.expected.size));
        (bytes, u64_of(self.members.len()))
    }

    /// Compares all store paths on `disk`, which was read back or will be written.
    ///
    /// # Errors
    /// [`Kind::Source`] naming the first store path that is wrong, and the number of the others; any error of
    /// reading `disk` and its filesystems; [`Kind::Interrupted`] after a signal.
    pub fn run(&self, disk: &Image, jobs: usize, progress: &Progress) -> Result<()> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(jobs.max(1))
            .build()
            .map_err(|error| Error::new(Kind::Source, "cannot start threads").because(error))?;
        // The largest first, so that no thread is left with a large one at the end. Each thread keeps its readers.
        let mut order: Vec<usize> = (0..self.members.len()).collect();
        order.sort_by_key(|number| Reverse(self.members[*number].expected.size));
        let next = AtomicUsize::new(0);
        let archives = pool.broadcast(|_| {
            let mut window =
                Window { disk: disk.cursor(), start: 0, bytes: Vec::new(), readers: HashMap::new() };
            let mut found = Vec::new();
            while let Some(number) = order.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
                let archive =
                    self.archive(&self.members[number], &mut window, progress).inspect_err(|_| {
                        // The other threads end, too.
                        next.store(order.len(), Ordering::Relaxed);
                    })?;
                progress.advance(archive.size, 1);
                found.push((number, archive));
            }
            Ok(found)
        });
        let mut found: Vec<(usize, Digested)> = archives.into_iter().collect::<Result<Vec<_>>>()?.concat();
        found.retain(|(number, found)| self.members[*number].expected != *found);
        found.sort_by_key(|(number, _)| *number);
        let Some((first, digested)) = found.first() else { return Ok(()) };
        let member = &self.members[*first];
        let shown = |digested: Digested| format!("{}, {} bytes", digested.hash, digested.size);
        let more = match found.len() - 1 {
            0 => String::new(),
            more => format!("; {more} more of {} store paths differ, too", self.members.len()),
        };
        Err(Error::new(Kind::Source, "a store path is not what Nix says it is")
            .at(member.path.to_path())
            .expected(shown(member.expected))
            .found(format!("{}{more}", shown(*digested)))
            .why("the archive of the files on the disk has another hash than the closure's registration")
            .hint("`nix-store --verify --check-contents --repair` mends a store path that was changed on this host"))
    }

    /// The archive of a store path, with its files read through `window`.
    fn archive(&self, member: &Member, window: &mut Window, progress: &Progress) -> Result<Digested> {
        let placed = &self.filesystems[member.filesystem];
        let tree = &placed.filesystem.tree;
        if let Some(shown_at) = &placed.filesystem.shown_at {
            let reader = window.reader(member.filesystem, &placed.filesystem, shown_at)?;
            return nar::hash(tree, member.node, &mut |node, at, out| {
                progress.check()?;
                reader.read(tree, node, at, out)
            });
        }
        nar::hash(tree, member.node, &mut |node, at, out| {
            progress.check()?;
            out.fill(0);
            let end = at + u64_of(out.len());
            for piece in placed.of(node.get(), at) {
                if piece.skip >= end {
                    break;
                }
                let (from, to) = (piece.skip.max(at), (piece.skip + piece.length).min(end));
                let part = &mut out[usize_of(from - at)..usize_of(to - at)];
                window.read(piece.offset + (from - piece.skip), part)?;
            }
            Ok(())
        })
    }
}

/// The places of the files of `tree` on `disk`.
fn pieces(disk: &Image, tree: &Arc<Tree>) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = disk
        .segments()
        .iter()
        .filter_map(|segment| match segment.data {
            Data::File { files, file, skip } if disk.is_table(files, tree) => {
                Some(Piece { file, skip, length: segment.length.get(), offset: segment.offset.get() })
            }
            _ => None,
        })
        .collect();
    pieces.sort_unstable();
    pieces
}

impl Placed {
    /// The pieces of a file from the one that contains byte `at`; if there is none, that byte is in a hole.
    fn of(&self, file: u32, at: u64) -> impl Iterator<Item = &Piece> {
        let first =
            self.pieces.partition_point(|piece| (piece.file, piece.skip + piece.length) <= (file, at));
        self.pieces[first..].iter().take_while(move |piece| piece.file == file)
    }
}

/// How much is read at once if less is asked for. The files of a store path are in order, so the next ones
/// are read ahead, and a compressed cluster is decompressed only once.
const AHEAD: u64 = 256 * KIB;

/// The part of the disk that a thread read last.
struct Window {
    disk: Cursor,
    start: u64,
    bytes: Vec<u8>,
    /// Readers of filesystems, by their numbers.
    readers: HashMap<usize, Reader>,
}

impl Window {
    /// The reader of a filesystem.
    fn reader(
        &mut self,
        number: usize,
        filesystem: &Filesystem,
        shown_at: &[(String, String)],
    ) -> Result<&mut Reader> {
        Ok(match self.readers.entry(number) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(free) => {
                let (start, end) = filesystem.place;
                let volume = self.disk.image().slice(start, end);
                free.insert(Reader::open(&volume, &filesystem.tree, shown_at)?)
            }
        })
    }

    /// Fills `out` with the bytes of the disk at `offset`.
    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<()> {
        let length = u64_of(out.len());
        if length >= AHEAD {
            return self.disk.read(offset, out);
        }
        let inside = offset >= self.start && offset + length <= self.start + u64_of(self.bytes.len());
        if !inside {
            self.start = offset;
            self.bytes.resize(usize_of(AHEAD), 0);
            self.disk.read(offset, &mut self.bytes)?;
        }
        let from = usize_of(offset - self.start);
        out.copy_from_slice(&self.bytes[from..from + out.len()]);
        Ok(())
    }
}
