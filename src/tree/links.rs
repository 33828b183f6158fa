//! Finds equal files, for the policy that makes equal files names of one inode, whatever links the host has.

use std::collections::HashMap;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{Content, Meta, NodeId, Range, Tree};
use crate::error::{Error, Kind, Result};
use crate::host::Source;
use crate::image::{Cursor, Files};
use crate::pour::zeros::{GRAIN, is_zero};
use crate::progress::Progress;
use crate::units::{MIB, u64_of, usize_of};

/// Groups of equal regular files among `candidates` (node numbers, ascending). Equal files have the same
/// bytes, mode, owner, time and attributes. Groups and their members ascend.
///
/// # Errors
/// [`Kind::Source`] where a file cannot be read, [`Kind::Interrupted`] after a signal.
pub(super) fn equal(
    tree: &Tree,
    candidates: &[u32],
    jobs: usize,
    progress: &Progress,
) -> Result<Vec<Vec<u32>>> {
    // Only files that agree in everything else are read.
    let mut alike: HashMap<(u64, Meta), Vec<u32>> = HashMap::new();
    for number in candidates {
        let id = NodeId::new(*number);
        alike.entry((tree.size(id), tree.node(id).meta)).or_default().push(*number);
    }
    let read: Vec<u32> = alike.into_values().filter(|group| group.len() > 1).flatten().collect();
    if read.is_empty() {
        return Ok(Vec::new());
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(jobs.max(1))
        .build()
        .map_err(|error| Error::new(Kind::Source, "cannot start threads").because(error))?;
    let digests: Vec<([u8; 32], u32)> = pool.install(|| {
        read.par_iter()
            .map(|number| digest(tree, *number, progress).map(|digest| (digest, *number)))
            .collect::<Result<_>>()
    })?;
    let mut groups: HashMap<([u8; 32], Meta), Vec<u32>> = HashMap::new();
    for (digest, number) in digests {
        groups.entry((digest, tree.node(NodeId::new(number)).meta)).or_default().push(number);
    }
    let mut groups: Vec<Vec<u32>> = groups.into_values().filter(|group| group.len() > 1).collect();
    for group in &mut groups {
        group.sort_unstable();
    }
    groups.sort_unstable();
    Ok(groups)
}

/// A digest of a file's content: SHA-256 of its length and of each grain that is not all zero, with its
/// place. Holes are not read, and count the same as stored zeros.
fn digest(tree: &Tree, number: u32, progress: &Progress) -> Result<[u8; 32]> {
    let id = NodeId::new(number);
    let size = tree.size(id);
    let mut data = Data::open(tree, id)?;
    let mut hash = Sha256::new();
    hash.update(size.to_le_bytes());
    let mut buffer = vec![0; usize_of(size.min(MIB))];
    let whole = [Range { start: 0, length: size }];
    for range in tree.ranges(id).unwrap_or(&whole) {
        // Ranges begin on blocks of 4 KiB.
        let (mut at, end) = (range.start, range.start + range.length);
        while at < end {
            progress.check()?;
            let piece = &mut buffer[..usize_of((end - at).min(MIB))];
            data.read(at, piece)?;
            for (place, grain) in (at..).step_by(usize_of(GRAIN)).zip(piece.chunks(usize_of(GRAIN))) {
                if !is_zero(grain) {
                    hash.update(place.to_le_bytes());
                    hash.update(grain);
                }
            }
            at += u64_of(piece.len());
        }
    }
    data.verify()?;
    Ok(hash.finalize().into())
}

/// The open data of a regular file.
enum Data<'a> {
    /// Bytes that were read with their inode.
    Held(&'a [u8]),
    Host(Source<'a>),
    Slice(Cursor),
}

impl<'a> Data<'a> {
    fn open(tree: &'a Tree, id: NodeId) -> Result<Self> {
        match tree.node(id).content {
            Content::File { .. } => match tree.held(id.get())? {
                Some(held) => Ok(Self::Held(held)),
                None => Ok(Self::Host(Source::open(tree.file(id.get())?)?)),
            },
            _ => Ok(Self::Slice(tree.slice_of(id)?.cursor())),
        }
    }

    fn read(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
        match self {
            Self::Held(held) => {
                let rest = held.get(usize_of(at)..).and_then(|rest| rest.get(..out.len()));
                out.copy_from_slice(
                    rest.ok_or_else(|| Error::bug("a file that is held is shorter than it was"))?,
                );
                Ok(())
            }
            Self::Host(source) => source.read_exact(at, out),
            Self::Slice(cursor) => cursor.read(at, out),
        }
    }

    /// Checks a host file for change after it was read; a cursor does that at each read.
    fn verify(&self) -> Result<()> {
        match self {
            Self::Host(source) => source.verify(),
            Self::Held(_) | Self::Slice(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Builder;
    use crate::tree::{self, Time};
    use crate::units::Bytes;

    #[test]
    fn files_are_equal_wherever_their_bytes_lie() {
        use std::os::unix::fs::MetadataExt;
        let bytes = [vec![7; 5000], vec![0; 8192], vec![9; 10]].concat();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, &bytes).unwrap();
        let meta = std::fs::metadata(&path).unwrap();
        let stamp = crate::host::stamp(meta.mtime(), u32::try_from(meta.mtime_nsec()).unwrap());
        // The same bytes as a slice with its zeros as a hole; and a slice that differs in one byte.
        let slice = |last: u8| {
            let mut image = Builder::new(Bytes::new(20_000));
            image.bytes(Bytes::new(100), "start", vec![7; 5000]);
            image.bytes(Bytes::new(13_292), "end", vec![9; 9]);
            image.bytes(Bytes::new(13_301), "last", vec![last]);
            image.finish().unwrap().slice(Bytes::new(100), Bytes::new(13_302))
        };
        let mut builder = tree::Builder::new(Time::default());
        let (origin, meta) = (builder.origin("test"), Meta::root(0o644, Time::default()));
        builder.file(b"/1", &path, (u64_of(bytes.len()), stamp), meta, origin).unwrap();
        builder.text(b"/2", bytes, meta, origin).unwrap();
        builder.slice(b"/3", slice(9), meta, origin).unwrap();
        builder.slice(b"/4", slice(8), meta, origin).unwrap();
        let tree = builder.finish(1).unwrap();
        assert_eq!(equal(&tree, &[1, 2, 3, 4], 2, &Progress::default()).unwrap(), [vec![1, 2, 3]]);
    }
}
