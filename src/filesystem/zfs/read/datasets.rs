//! The datasets of a pool: filesystems and volumes with their snapshots, by name.

use std::collections::{BTreeMap, HashSet};

use super::super::format::{self, BlockPointer, kind};
use super::block::Blocks;
use super::object::Set;
use crate::error::{Error, Kind, Result};
use crate::filesystem::device::damaged;
use crate::text::shortened;
use crate::units::u64_of;

/// The most datasets and snapshots that are read, so that each has a number beside those of its objects.
const MOST: usize = 1 << 15;
/// The longest name of a dataset with its pool and snapshot (fs/zfs.h, ZFS_MAX_DATASET_NAME_LEN less a NUL).
const LONGEST: usize = 255;

/// A dataset or a snapshot.
#[derive(Debug)]
pub(super) struct Member {
    /// The whole name.
    pub(super) name: String,
    /// Its set of objects.
    pub(super) root: BlockPointer,
    /// The transaction group of the snapshot before it: what was born later is its own.
    pub(super) before: u64,
    /// The datasets below it and the snapshots of it: their places in the list of all.
    pub(super) children: BTreeMap<Vec<u8>, u64>,
    pub(super) snapshots: BTreeMap<Vec<u8>, u64>,
}

/// The list on the way.
struct Walk<'a> {
    blocks: &'a Blocks,
    mos: &'a Set,
    members: Vec<Member>,
    /// Objects that were met; each belongs to one place.
    met: HashSet<u64>,
    /// Directories that are still to be read: their objects, names, and the dataset above.
    waiting: Vec<(u64, String, Option<u64>)>,
}

/// All datasets of a pool, the one of the pool's name first.
pub(super) fn read(blocks: &Blocks, mos: &Set, pool: &str, root: u64) -> Result<Vec<Member>> {
    let waiting = vec![(root, pool.to_owned(), None)];
    let mut walk = Walk { blocks, mos, members: Vec::new(), met: HashSet::new(), waiting };
    while let Some((directory, name, above)) = walk.waiting.pop() {
        walk.directory(directory, name, above)?;
    }
    Ok(walk.members)
}

/// Refuses a part of a name that none can have (module/zcommon/zfs_namecheck.c).
fn checked(part: &[u8], above: &str) -> Result<String> {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.: %".contains(byte);
    let is_name = !part.is_empty() && part.iter().all(allowed) && !matches!(part, b"." | b"..");
    match std::str::from_utf8(part) {
        Ok(part) if is_name && above.len() + part.len() < LONGEST => Ok(part.to_owned()),
        _ => Err(damaged("a dataset has a name that none can have").found(shortened(part, 80))),
    }
}

impl Walk<'_> {
    /// Adds a dataset or a snapshot; its place.
    fn add(&mut self, object: u64, name: String) -> Result<(u64, format::Dataset)> {
        if self.members.len() == MOST {
            return Err(Error::new(Kind::Format, "a ZFS pool has more datasets and snapshots than are read")
                .expected(format!("at most {MOST}")));
        }
        if !self.met.insert(object) {
            return Err(damaged("a dataset of a ZFS pool has two names").found(name));
        }
        let dataset: format::Dataset = self.mos.object(self.blocks, object)?.bonus(kind::DSL_DATASET)?;
        self.members.push(Member {
            name,
            root: dataset.ds_bp.clone(),
            before: dataset.ds_prev_snap_txg,
            children: BTreeMap::new(),
            snapshots: BTreeMap::new(),
        });
        Ok((u64_of(self.members.len()) - 1, dataset))
    }

    fn member(&mut self, place: u64) -> Result<&mut Member> {
        let own = usize::try_from(place).ok().and_then(|place| self.members.get_mut(place));
        own.ok_or_else(|| Error::bug("a dataset is lost"))
    }

    /// Reads a directory: its head, the snapshots of that, and what is below it.
    fn directory(&mut self, object: u64, name: String, above: Option<u64>) -> Result<()> {
        if !self.met.insert(object) {
            return Err(damaged("a directory of datasets has two names").found(name));
        }
        let directory: format::Directory = self.mos.object(self.blocks, object)?.bonus(kind::DSL_DIR)?;
        let (place, head) = self.add(directory.dd_head_dataset_obj, name.clone())?;
        if let Some(above) = above {
            let part = name.rsplit('/').next().unwrap_or(&name).as_bytes().to_vec();
            self.member(above)?.children.insert(part, place);
        }
        if head.ds_snapnames_zapobj != 0 {
            for (part, object) in self.names(head.ds_snapnames_zapobj)? {
                let part = checked(&part, &name)?;
                let (snapshot, _) = self.add(object, format!("{name}@{part}"))?;
                self.member(place)?.snapshots.insert(part.into_bytes(), snapshot);
            }
        }
        if directory.dd_child_dir_zapobj != 0 {
            let mut below = self.names(directory.dd_child_dir_zapobj)?;
            // Those of the pool itself, and what a receive that did not end left.
            below.retain(|(part, _)| !part.starts_with(b"$") && !part.starts_with(b"%"));
            for (part, object) in below.into_iter().rev() {
                let whole = format!("{name}/{}", checked(&part, &name)?);
                self.waiting.push((object, whole, Some(place)));
            }
        }
        Ok(())
    }

    /// The names of a table with their objects, sorted.
    fn names(&self, object: u64) -> Result<Vec<(Vec<u8>, u64)>> {
        let table = self.mos.object(self.blocks, object)?;
        let mut found = Vec::new();
        self.blocks.entries(&table, &mut |entry| {
            found.push((entry.name.to_vec(), entry.number()?));
            if found.len() + self.members.len() > MOST {
                return Err(damaged("a ZFS pool has more datasets and snapshots than are read")
                    .expected(format!("at most {MOST}")));
            }
            Ok(true)
        })?;
        found.sort();
        Ok(found)
    }
}
