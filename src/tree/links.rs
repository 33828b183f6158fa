//! Which files are equal: for the policy that makes equal files names of one inode, whatever the host's links are.

use std::borrow::Cow;
use std::collections::HashMap;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{Meta, NodeId, Tree};
use crate::error::{Error, Kind, Result};
use crate::image::host::Source;
use crate::image::{Files, HostFile};
use crate::units::{MIB, u64_of, usize_of};

/// Groups of equal regular files among `candidates` (node numbers, ascending): the same bytes, mode, owner, time and
/// attributes. Groups and their members ascend.
///
/// # Errors
/// [`Kind::Source`] where a file cannot be read.
pub(super) fn equal(tree: &Tree, candidates: &[u32], jobs: usize) -> Result<Vec<Vec<u32>>> {
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
            .map(|number| digest(tree, *number).map(|digest| (digest, *number)))
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

/// SHA-256 of a file's content.
fn digest(tree: &Tree, number: u32) -> Result<[u8; 32]> {
    let host = tree.file(number);
    let size = host.size;
    let source = Source::open(HostFile { path: Cow::Borrowed(&host.path), ..host })?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; usize_of(size.min(MIB))];
    let mut at = 0;
    while at < size {
        let length = usize_of((size - at).min(u64_of(buffer.len())));
        source.read_exact(at, &mut buffer[..length])?;
        hash.update(&buffer[..length]);
        at += u64_of(length);
    }
    source.verify()?;
    Ok(hash.finalize().into())
}
