//! Looking whether everything is in order: all labels, every copy of every block with its checksum, the space that blocks take
//! against the space maps, every file that has a name, and how many names it has.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::super::format::{DNODES_PER_BLOCK, SpaceMap};
use super::block::{Copy, Pointer, decoded};
use super::object::{Go, Object, Set, objects};
use super::space::{Entries, Moments, maps};
use super::{OBJECT_BITS, Zfs};
use crate::error::{Error, Kind, Result};
use crate::filesystem::device::damaged;
use crate::filesystem::volume::{Content, Fault, Inode, Remark, Volume};
use crate::text::printable;
use crate::units::usize_of;

type Tell<'a> = &'a mut dyn FnMut(Remark) -> Result<()>;

/// How often a pool's length may be read, where blocks may have several owners (deduplication, clones of blocks).
const PATIENCE: u64 = 64;

/// What was met of a filesystem's files.
#[derive(Debug, Default)]
struct Names {
    /// By object: links that it says to have, names that were found, and, for several, the first path.
    links: HashMap<u64, (u32, u32, Vec<u8>)>,
    places: HashSet<u64>,
}

struct Check<'a> {
    pool: &'a Zfs,
    /// Space that blocks take.
    taken: Moments,
    ashift: u32,
    /// Bytes that may yet be read.
    left: u64,
    /// Why blocks were met that are not read here.
    unread: BTreeSet<&'static str>,
    /// A byte behind the first labels whose owner is looked for, and the owner.
    wanted: Option<u64>,
    owner: Option<String>,
}

/// What has the block at byte `wanted` behind the first labels; `None` if nothing has it.
pub(super) fn owner(pool: &Zfs, wanted: u64) -> Result<Option<String>> {
    let left = pool.blocks.length().saturating_mul(4);
    let wanted = Some(wanted);
    let mut check = Check { wanted, ..Check::new(pool, left) };
    match check.blocks(&mut |_| Ok(())) {
        Err(error) if error.kind() != Kind::Interrupted => Err(error),
        _ => Ok(check.owner),
    }
}

/// Looks at `pool`.
pub(super) fn run(pool: &Zfs, tell: Tell<'_>) -> Result<()> {
    for (number, fault) in &pool.labels.faults {
        tell(Remark::new(Fault::Copy, format!("label {number}"), fault.clone()))?;
    }
    let has = |name: &str| pool.features.iter().any(|own| own == name);
    let shares = has("block_cloning") || has("fast_dedup") || pool.has_dedup()?;
    let left = pool.blocks.length().saturating_mul(if shares { PATIENCE } else { 4 });
    let mut check = Check::new(pool, left);
    match check.blocks(tell) {
        Err(error) if error.kind() == Kind::Interrupted && check.left == 0 => {
            return tell(Remark::new(
                Fault::Unjudged,
                "blocks",
                "they lead to the same blocks again and again",
            ));
        }
        done => done?,
    }
    if has("log_spacemap") || shares {
        let what =
            "what is taken was not compared: the pool has a log of space maps, or blocks with several owners";
        tell(Remark::new(Fault::Unjudged, "space maps", what))?;
    } else if check.unread.is_empty() {
        check.space(tell)?;
    } else {
        let what = "what is taken was not compared: there are blocks that are not read here";
        tell(Remark::new(Fault::Unjudged, "space maps", what))?;
    }
    for (place, member) in (0..).zip(&pool.members) {
        // The others have the files of the snapshot before them.
        let root = Pointer::of(member.root.clone());
        if root.birth() > member.before && root.unread().is_none() {
            names(pool, place, tell)?;
        }
    }
    Ok(())
}

impl Zfs {
    /// Whether blocks were deduplicated, which is no feature of its own in older pools.
    fn has_dedup(&self) -> Result<bool> {
        let directory = self.mos.object(&self.blocks, super::OBJECT_DIRECTORY)?;
        let mut found = false;
        self.blocks.entries(&directory, &mut |entry| {
            found |= entry.name.starts_with(b"DDT-");
            Ok(!found)
        })?;
        Ok(found)
    }
}

impl<'a> Check<'a> {
    fn new(pool: &'a Zfs, left: u64) -> Self {
        let ashift = pool.facts.block_size.trailing_zeros();
        let (taken, unread) = (Moments::default(), BTreeSet::new());
        Self { pool, taken, ashift, left, unread, wanted: None, owner: None }
    }

    /// Every block of every set of objects.
    fn blocks(&mut self, tell: Tell<'_>) -> Result<()> {
        let pool = self.pool;
        let root = Pointer::of(pool.labels.uberblock.ub_rootbp.clone());
        self.set(&root, 0, "the pool's own set", tell)?;
        for member in &pool.members {
            self.set(&Pointer::of(member.root.clone()), member.before, &member.name, tell)?;
        }
        Ok(())
    }

    /// Every block of a set of objects that was born after `before`; older ones belong to the snapshot before.
    fn set(&mut self, root: &Pointer, before: u64, name: &str, tell: Tell<'_>) -> Result<()> {
        if root.birth() <= before {
            return Ok(());
        }
        if let Some(why) = root.unread() {
            self.unread.insert(why);
            let what = format!("what it holds is not read here: {why}");
            return tell(Remark::new(Fault::Unjudged, name, what));
        }
        if !self.block(root, name, tell)? {
            return Ok(());
        }
        let set = match Set::read(&self.pool.blocks, root) {
            Ok(set) => set,
            Err(error) => return tell(Remark::of(name, &error)),
        };
        for (what, dnode) in [
            ("user accounts", &set.head.os_userused_dnode),
            ("group accounts", &set.head.os_groupused_dnode),
            ("project accounts", &set.head.os_projectused_dnode),
        ] {
            let subject = format!("{name}: {what}");
            match Object::read(dnode, 0) {
                Ok(None) => {}
                Ok(Some(object)) => self.object(&object, before, &subject, tell)?,
                Err(error) => tell(Remark::of(subject, &error))?,
            }
        }
        let subject = format!("{name}: dnodes");
        self.visit(set.meta(), before, &subject, tell, &mut |own, pointer, first, tell| {
            let bytes = own.pool.blocks.read(pointer)?;
            for (number, object) in objects(&bytes, first.saturating_mul(DNODES_PER_BLOCK), pointer) {
                let subject = format!("{name}: object {number}");
                match object {
                    Ok(object) => own.object(&object, before, &subject, tell)?,
                    Err(error) => tell(Remark::of(subject, &error))?,
                }
            }
            Ok(())
        })
    }

    /// Every block of an object.
    fn object(&mut self, object: &Object, before: u64, subject: &str, tell: Tell<'_>) -> Result<()> {
        if let Some(spill) = object.spill.as_ref().filter(|spill| !spill.is_hole() && spill.birth() > before)
        {
            self.block(spill, subject, tell)?;
        }
        self.visit(object, before, subject, tell, &mut |_, _, _, _| Ok(()))
    }

    /// Checks the blocks of an object, and passes each data block that is whole to `each`.
    fn visit(
        &mut self,
        object: &Object,
        before: u64,
        subject: &str,
        tell: Tell<'_>,
        each: &mut dyn FnMut(&mut Self, &Pointer, u64, Tell<'_>) -> Result<()>,
    ) -> Result<()> {
        let blocks = std::sync::Arc::clone(&self.pool.blocks);
        let mut left = blocks.length();
        // An error of `tell` ends the check, and one of a block only what is below it.
        let mut stop = None;
        let visited = blocks.visit(object, &mut left, &mut |visited| {
            if visited.pointer.birth() <= before {
                return Ok(Go::Past);
            }
            let sound = self.block(visited.pointer, subject, tell);
            let sound = sound.and_then(|sound| {
                if sound && visited.level == 0 {
                    each(self, visited.pointer, visited.first, tell)?;
                }
                Ok(sound)
            });
            match sound {
                Ok(true) => Ok(Go::Down),
                Ok(false) => Ok(Go::Past),
                Err(error) => {
                    stop = Some(error);
                    Err(Error::new(Kind::Interrupted, "the check ends"))
                }
            }
        });
        match (stop, visited) {
            (Some(error), _) => Err(error),
            (None, Err(error)) => tell(Remark::of(subject, &error)),
            (None, Ok(())) => Ok(()),
        }
    }

    /// Compares every copy of a block with its checksum, and decompresses it; whether one can be read.
    fn block(&mut self, pointer: &Pointer, subject: &str, tell: Tell<'_>) -> Result<bool> {
        let spent = pointer.physical().max(pointer.logical() / 256);
        let Some(left) = self.left.checked_sub(spent) else {
            self.left = 0;
            return Err(Error::new(Kind::Interrupted, "blocks lead to the same blocks"));
        };
        self.left = left;
        if let Some(why) = pointer.unread() {
            // One of each kind is told: all of a pool may be.
            if self.unread.insert(why) {
                let what = format!("a block is not read here: {why}");
                tell(Remark::new(Fault::Unjudged, subject, what))?;
            }
            return Ok(false);
        }
        let mut sound = None;
        for (number, copy) in pointer.copies().enumerate() {
            let Copy { start, allocated } = copy;
            if self.wanted.is_some_and(|wanted| (start..start.saturating_add(allocated)).contains(&wanted)) {
                self.owner = Some(subject.to_owned());
                return Err(Error::new(Kind::Interrupted, "the owner was found"));
            }
            self.taken.add(start >> self.ashift, allocated >> self.ashift, true);
            match self.pool.blocks.copy(pointer, copy) {
                Ok(bytes) => sound = Some(bytes),
                Err(error) => {
                    let what = error.to_string().replace("\n  ", ", ");
                    tell(Remark::new(Fault::Checksum, subject, format!("copy {}: {what}", number + 1)))?;
                }
            }
        }
        let decoded = match sound {
            Some(bytes) => decoded(pointer, &bytes).map(drop),
            None if pointer.is_embedded() => self.pool.blocks.read(pointer).map(drop),
            // What is wrong was told.
            None => return Ok(false),
        };
        match decoded {
            Ok(()) => Ok(true),
            Err(error) => tell(Remark::of(subject, &error)).map(|()| false),
        }
    }

    /// Compares what blocks take with the space maps.
    fn space(&self, tell: Tell<'_>) -> Result<()> {
        let pool = self.pool;
        let tree =
            pool.labels.config.list("vdev_tree").ok_or_else(|| damaged("the configuration has no vdev"))?;
        let shift = tree.number("metaslab_shift")?;
        let count = tree.number("asize")? >> shift;
        let mut mapped = Moments::default();
        let mut wrong = Vec::new();
        let read = maps(&pool.blocks, &pool.mos, tree, count, &mut |metaslab, object, head| {
            let first = metaslab << shift >> self.ashift;
            let mut own = Moments::default();
            self.entries(object, head, &mut |start, run, is_taken| {
                let start = first.saturating_add(start);
                own.add(start, run, is_taken);
                mapped.add(start, run, is_taken);
            })?;
            if own.0[0] << self.ashift != u128::from(head.smp_alloc) {
                wrong.push((metaslab, head.smp_alloc, own.0[0] << self.ashift));
            }
            Ok(())
        });
        if let Err(error) = read {
            return tell(Remark::of("space maps", &error));
        }
        for (metaslab, told, found) in wrong {
            let what = format!("its space map counts {told} bytes, and has {found}");
            tell(Remark::new(Fault::Count, format!("metaslab {metaslab}"), what))?;
        }
        if mapped == self.taken {
            return Ok(());
        }
        let bytes = |moments: &Moments| moments.0[0] << self.ashift;
        let what = if bytes(&mapped) == bytes(&self.taken) {
            "they have as many bytes as blocks have, but others".to_owned()
        } else {
            format!("they have {} bytes, and blocks have {}", bytes(&mapped), bytes(&self.taken))
        };
        tell(Remark::new(Fault::Bitmap, "space maps", what))
    }

    /// Passes the entries of a space map to `each`: where, how many units, whether they are taken.
    fn entries(&self, object: &Object, head: &SpaceMap, each: &mut dyn FnMut(u64, u64, bool)) -> Result<()> {
        let blocks = &self.pool.blocks;
        let words = head.smp_length / 8;
        let per = object.block() / 8;
        if words > (object.head.dn_maxblkid.saturating_add(1)).saturating_mul(per)
            || words * 8 > blocks.length()
        {
            return Err(damaged("a space map is longer than its object").found(head.smp_length));
        }
        let mut entries = Entries::default();
        for number in 0..words.div_ceil(per) {
            let bytes = blocks.present(object, number)?;
            let count = usize_of(per.min(words - number * per));
            entries.read(&bytes[..8 * count], each);
        }
        Ok(())
    }
}

/// Walks over the tree of a filesystem.
fn names(pool: &Zfs, place: u64, tell: Tell<'_>) -> Result<()> {
    let member = pool.member(place)?;
    let top = match pool.top(place) {
        Ok(top) => top,
        Err(error) => return tell(Remark::of(member.name.clone(), &error)),
    };
    let mut found = Names::default();
    let mut waiting = vec![(top, Vec::new())];
    while let Some((inode, path)) = waiting.pop() {
        let subject = format!("{}{}", member.name, printable(&path));
        let object = inode.0 & super::OBJECTS;
        if let Some(known) = found.links.get_mut(&object) {
            known.1 = known.1.saturating_add(1);
            continue;
        }
        let node = match pool.node(inode) {
            Ok(node) => node,
            Err(error) => {
                tell(Remark::of(subject, &error))?;
                continue;
            }
        };
        let Content::Directory { place: own } = node.content else {
            let path = if node.meta.links > 1 { path } else { Vec::new() };
            found.links.insert(object, (node.meta.links, 1, path));
            continue;
        };
        if !found.places.insert(own) {
            tell(Remark::new(Fault::Shared, subject, "a directory has two names"))?;
            continue;
        }
        let mut below = 0_u32;
        let listed = listed(pool, inode, &path, &mut below, &mut waiting);
        match listed {
            Err(error) => tell(Remark::of(subject, &error))?,
            Ok(()) if below.saturating_add(2) != node.meta.links => {
                let what = format!("it counts {} links, and has {below} directories", node.meta.links);
                tell(Remark::new(Fault::Count, subject, what))?;
            }
            Ok(()) => {}
        }
    }
    let mut wrong: Vec<_> = found.links.into_iter().filter(|(_, (told, names, _))| told != names).collect();
    wrong.sort();
    for (object, (told, names, path)) in wrong {
        let path = printable(&path);
        let what = format!("it counts {told} names, and has {names}");
        tell(Remark::new(Fault::Count, format!("{}{path}, object {object}", member.name), what))?;
    }
    Ok(())
}

/// Adds what is in a directory of one dataset to `waiting`, and counts the directories in it.
fn listed(
    pool: &Zfs,
    inode: Inode,
    path: &[u8],
    below: &mut u32,
    waiting: &mut Vec<(Inode, Vec<u8>)>,
) -> Result<()> {
    let (place, number) = (inode.0 >> OBJECT_BITS, inode.0 & super::OBJECTS);
    let opened = pool.opened(place)?;
    let (object, _, _) = pool.file(&opened, number)?;
    pool.blocks.entries(&object, &mut |entry| {
        let value = entry.number()?;
        let child = super::inode(place, super::child(value));
        // zfs_znode.h, ZFS_DIRENT_TYPE: 4 is a directory.
        *below = below.saturating_add(u32::from(value >> 60 == 4));
        waiting.push((child, [path, b"/", entry.name].concat()));
        Ok(true)
    })
}
