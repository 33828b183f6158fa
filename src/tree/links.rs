//! Which files are equal: for the policy that makes equal files names of one inode, whatever the host's links are.

use std::borrow::Cow;
use std::collections::HashMap;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{Meta, NodeId, Range, Tree};
use crate::error::{Error, Kind, Result};
use crate::host::Source;
use crate::image::{Files, HostFile};
use crate::pour::zeros::{GRAIN, is_zero};
use crate::progress::Progress;
use crate::units::{MIB, u64_of, usize_of};

/// Groups of equal regular files among `candidates` (node numbers, ascending): the same bytes, mode, owner, time and
/// attributes. Groups and their members ascend.
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

/// A digest of a file's content: SHA-256 of its length and of each grain that is not all zero, with its place. Of holes
/// nothing is read, and a hole is no other content than zeros that are stored.
fn digest(tree: &Tree, number: u32, progress: &Progress) -> Result<[u8; 32]> {
    let host = tree.file(number)?;
    let size = host.size;
    let source = Source::open(HostFile { path: Cow::Borrowed(&host.path), ..host })?;
    let mut hash = Sha256::new();
    hash.update(size.to_le_bytes());
    let mut buffer = vec![0; usize_of(size.min(MIB))];
    let whole = [Range { start: 0, length: size }];
    for range in tree.ranges(NodeId::new(number)).unwrap_or(&whole) {
        // Ranges begin on blocks of 4 KiB.
        let (mut at, end) = (range.start, range.start + range.length);
        while at < end {
            progress.check()?;
            let piece = &mut buffer[..usize_of((end - at).min(MIB))];
            source.read_exact(at, piece)?;
            for (place, grain) in (at..).step_by(usize_of(GRAIN)).zip(piece.chunks(usize_of(GRAIN))) {
                if !is_zero(grain) {
                    hash.update(place.to_le_bytes());
                    hash.update(grain);
                }
            }
            at += u64_of(piece.len());
        }
    }
    source.verify()?;
    Ok(hash.finalize().into())
}
