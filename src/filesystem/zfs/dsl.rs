//! The dataset layer: directories, datasets and snapshots (module/zfs/dsl_dir.c, dsl_dataset.c, dsl_pool.c).

use super::dataset::Dataset as Options;
use super::features::{self, Features};
use super::format::{BlockPointer, Dataset, Deadlist, Directory, kind};
use super::ids::Ids;
use super::mos::Mos;
use super::objects::Object;
use super::pointer::{Pointer, Sums};
use super::store::Store;
use super::zap;
use crate::error::{Error, Kind, Result};
use crate::units::{Bytes, u64_of};
use crate::wire::Wire;

/// A dataset without contents, which its first snapshots have and itself has no more.
#[derive(Clone, Debug)]
pub(super) struct Empty {
    pub(super) root: Pointer,
    pub(super) sums: Sums,
    /// All blocks of it.
    pub(super) dead: Vec<Pointer>,
}

/// A dataset that is written, as the layer sees it.
#[derive(Clone, Debug)]
pub(super) struct Filled {
    /// Its name, properties and snapshots.
    pub(super) options: Options,
    /// Features that it uses.
    pub(super) features: Vec<&'static str>,
    /// The transaction group in which it was written.
    pub(super) birth: u64,
    pub(super) empty: Option<Empty>,
    pub(super) root: Pointer,
    pub(super) sums: Sums,
}

impl Filled {
    /// The newest transaction group: that of its last snapshot.
    pub(super) fn newest(&self) -> u64 {
        self.birth + u64_of(self.options.snapshots.len())
    }
}

/// What is the same for all of the layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    pub(super) pool: &'a str,
    pub(super) ids: Ids,
    /// Seconds since 1970 at which everything was created.
    pub(super) time: u64,
    /// The transaction group in which datasets were made.
    pub(super) birth: u64,
    /// Whether datasets record which features they use.
    pub(super) is_extensible: bool,
}

/// A directory on the way.
#[derive(Clone, Debug)]
struct Node {
    /// The last part of its name.
    name: String,
    parent: Option<usize>,
    object: u64,
    children: u64,
    properties: u64,
    head: u64,
    origin: u64,
    clones: u64,
    /// What is promised to the dataset, as options have it; the directories that are none have nothing.
    options: Option<Options>,
    /// What its head has, and what only snapshots of it have.
    own: Sums,
    snapshots: Sums,
    /// Bytes that only the head has.
    unique: u64,
}

/// The directories, whose sums are known last.
#[derive(Debug)]
pub(super) struct Directories {
    nodes: Vec<Node>,
    time: u64,
}

/// The transaction group of what is older than the first one: the origin, and the pool's own dataset (dsl_pool.c,
/// dsl_pool_create).
const INITIAL: u64 = 1;
/// Bytes of a dataset are known exactly (dsl_dataset.h, DS_FLAG_UNIQUE_ACCURATE).
const UNIQUE_ACCURATE: u64 = 4;
/// The breakdown of used bytes is kept (dsl_dir.h, DD_FLAG_USED_BREAKDOWN).
const USED_BREAKDOWN: u64 = 1;
/// Directories that are no datasets, by their places behind the pool's (dsl_pool.c).
const MOS_DIR: usize = 1;
const ORIGIN: usize = 3;
const FIRST: usize = 4;

/// The layer on the way.
struct Layer<'a, 'b> {
    wish: &'a Wish<'a>,
    mos: &'a mut Mos,
    store: &'a mut Store,
    features: &'a mut Features<'b>,
    nodes: Vec<Node>,
    /// The list that is empty, which deadlists share, and how many of their entries do.
    empty: Option<u64>,
    shared: u64,
    /// The snapshot that every dataset begins with.
    origin: u64,
    clones: Vec<(String, zap::Value)>,
    next_clones: Vec<(String, zap::Value)>,
}

/// The last part of a name, and the name before it.
fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('/').map_or(("", name), |(before, last)| (before, last))
}

/// An entry of a set of numbers: hexadecimal digits lead to the number itself.
fn member(number: u64) -> (String, zap::Value) {
    (format!("{number:x}"), number.into())
}

/// Writes everything but the directories themselves. `filled` begins with the pool's own dataset, and parents come before
/// children. The list `empty` is shared by deadlists; without it each has lists of its own. Returns the directories and the heads of all datasets.
///
/// # Errors
/// [`Kind::Capacity`] where there is no space left.
pub(super) fn write(
    wish: &Wish<'_>,
    filled: &[Filled],
    (mos, store): (&mut Mos, &mut Store),
    features: &mut Features<'_>,
    empty: Option<u64>,
) -> Result<(Directories, Vec<u64>)> {
    let mut layer = Layer {
        wish,
        mos,
        store,
        features,
        nodes: Vec::new(),
        empty,
        shared: 0,
        origin: 0,
        clones: Vec::new(),
        next_clones: Vec::new(),
    };
    layer.directories(filled)?;
    layer.origin = layer.mos.number();
    let mut heads = Vec::new();
    for number in 0..filled.len() {
        heads.push(layer.dataset(filled, number)?);
    }
    layer.write_origin(filled.len())?;
    layer.tables()?;
    layer.features.count(features::EMPTY_BPOBJ, layer.shared);
    Ok((Directories { nodes: layer.nodes, time: wish.time }, heads))
}

/// The sums of blocks.
fn sum(blocks: &[Pointer]) -> Sums {
    let mut sums = Sums::default();
    blocks.iter().for_each(|block| sums += block.sums);
    sums
}

/// The place of a dataset's directory among all.
const fn place(dataset: usize) -> usize {
    if dataset == 0 { 0 } else { FIRST - 1 + dataset }
}

impl Layer<'_, '_> {
    /// Gives the directories their objects.
    fn directories(&mut self, filled: &[Filled]) -> Result<()> {
        let mut add = |name: &str, parent: Option<usize>| {
            let node = Node {
                name: name.to_owned(),
                parent,
                object: self.mos.number(),
                children: self.mos.number(),
                properties: self.mos.number(),
                head: 0,
                origin: 0,
                clones: 0,
                options: None,
                own: Sums::default(),
                snapshots: Sums::default(),
                unique: 0,
            };
            self.nodes.push(node);
        };
        add(self.wish.pool, None);
        for name in ["$MOS", "$FREE", "$ORIGIN"] {
            add(name, Some(0));
        }
        for (number, dataset) in filled.iter().enumerate().skip(1) {
            let (before, last) = split(&dataset.options.name);
            let parent = filled[..number].iter().position(|other| other.options.name == before);
            let parent =
                parent.ok_or_else(|| Error::bug(format!("{} has no parent", dataset.options.name)))?;
            add(last, Some(place(parent)));
        }
        Ok(())
    }

    /// A deadlist: of each snapshot before it, by its transaction group, the blocks that are younger and died. Those in
    /// `dead` are younger than the origin.
    fn deadlist(&mut self, snapshots: &[u64], dead: &[Pointer]) -> Result<u64> {
        let number = self.mos.number();
        let mut entries: Vec<(String, zap::Value)> = Vec::new();
        for txg in snapshots {
            let list = if *txg == INITIAL && !dead.is_empty() {
                self.mos.new_list_of(self.store, dead)?
            } else if let Some(empty) = self.empty {
                self.shared += 1;
                empty
            } else {
                self.mos.new_list(false)?
            };
            entries.push((format!("{txg:x}"), list.into()));
        }
        let sums = sum(dead);
        let header =
            Deadlist { dl_used: sums.allocated, dl_comp: sums.physical, dl_uncomp: sums.logical }.bytes();
        let object = Object::plain(kind::DEADLIST, 512).with_bonus(kind::DEADLIST_HEADER, &header);
        self.mos.zap(self.store, number, &object, &entries)?;
        Ok(number)
    }

    /// Writes a dataset with its snapshots; its head.
    fn dataset(&mut self, filled: &[Filled], number: usize) -> Result<u64> {
        let own = filled.get(number).ok_or_else(|| Error::bug("a dataset is not there"))?;
        let options = &own.options;
        let empties = options.empty_snapshots.len();
        let names: Vec<&String> = options.empty_snapshots.iter().chain(&options.snapshots).collect();
        let snapshots: Vec<u64> = names.iter().map(|_| self.mos.number()).collect();
        let (head, table) = (self.mos.number(), self.mos.number());
        let ids = self.wish.ids;
        let id = |what: &str| ids.number(&format!("{what} {}", options.name));
        let (guid, fsid_guid) = (id("guid"), fsid(id("fsid")));
        let nothing = Empty { root: own.root, sums: own.sums, dead: Vec::new() };
        let empty = own.empty.as_ref().unwrap_or(&nothing);
        let (mut previous, mut previous_txg, mut deadlist) = (self.origin, INITIAL, vec![0]);
        for (at, (name, object)) in names.iter().zip(&snapshots).enumerate() {
            // Newer than what it has, and older than what it does not have.
            let (txg, root, sums) = match at.checked_sub(empties) {
                None => (self.wish.birth + 1 + u64_of(at), empty.root, empty.sums),
                Some(at) => (own.birth + 1 + u64_of(at), own.root, own.sums),
            };
            // What died with the last of the empty ones.
            let dead: &[Pointer] = if at == empties { &empty.dead } else { &[] };
            let snapshot = Dataset {
                ds_prev_snap_obj: previous,
                ds_prev_snap_txg: previous_txg,
                ds_next_snap_obj: snapshots.get(at + 1).copied().unwrap_or(head),
                ds_num_children: 1,
                ds_creation_txg: txg,
                ds_deadlist_obj: self.deadlist(&deadlist, dead)?,
                // All that it has its head has too, or the next one that is empty.
                ds_unique_bytes: if empties == 1 && at == 0 { sums.allocated } else { 0 },
                ds_fsid_guid: fsid(id(&format!("fsid @{name}"))),
                ds_guid: id(&format!("guid @{name}")),
                ..self.common(number, root, sums)?
            };
            self.put_dataset(*object, &snapshot, own)?;
            deadlist.push(previous_txg);
            (previous, previous_txg) = (*object, txg);
        }
        let unique = if snapshots.len() > empties { 0 } else { own.sums.allocated };
        let dead: &[Pointer] = if snapshots.len() > empties { &[] } else { &empty.dead };
        let dataset = Dataset {
            ds_prev_snap_obj: previous,
            ds_prev_snap_txg: previous_txg,
            ds_snapnames_zapobj: table,
            ds_creation_txg: if number == 0 { INITIAL } else { self.wish.birth },
            ds_deadlist_obj: self.deadlist(&deadlist, dead)?,
            ds_unique_bytes: unique,
            ds_fsid_guid: fsid_guid,
            ds_guid: guid,
            ..self.common(number, own.root, own.sums)?
        };
        self.put_dataset(head, &dataset, own)?;
        let entries: Vec<(&String, zap::Value)> =
            names.into_iter().zip(snapshots.iter().map(|object| (*object).into())).collect();
        self.mos.zap(self.store, table, &Object::plain(kind::DSL_SNAPSHOTS, 512), &entries)?;
        // The oldest of the chain is the clone of the origin.
        self.next_clones.push(member(snapshots.first().copied().unwrap_or(head)));
        self.register(number, own, (head, unique));
        Ok(head)
    }

    /// Gives the directory of a dataset what it says of the head: its number, and how many bytes only the head has.
    fn register(&mut self, number: usize, own: &Filled, (head, unique): (u64, u64)) {
        self.clones.push(member(head));
        let origin = self.origin;
        let node = &mut self.nodes[place(number)];
        (node.head, node.origin, node.own, node.unique) = (head, origin, own.sums, unique);
        node.snapshots = own.empty.as_ref().map_or_else(Sums::default, |empty| sum(&empty.dead));
        node.options = Some(own.options.clone());
    }

    /// What the snapshots of a dataset and itself have in common.
    fn common(&self, number: usize, root: Pointer, sums: Sums) -> Result<Dataset> {
        Ok(Dataset {
            ds_dir_obj: self.nodes[place(number)].object,
            ds_creation_time: self.wish.time,
            ds_referenced_bytes: sums.allocated,
            ds_compressed_bytes: sums.physical,
            ds_uncompressed_bytes: sums.logical,
            ds_flags: UNIQUE_ACCURATE,
            ds_bp: BlockPointer::read(&root.bytes)?,
            ..Dataset::BLANK
        })
    }

    /// A dataset's object: its bonus, and as a ZAP the features that it uses.
    fn put_dataset(&mut self, object: u64, dataset: &Dataset, own: &Filled) -> Result<()> {
        let bonus = dataset.bytes();
        if !self.wish.is_extensible {
            return self.mos.bonus(object, kind::DSL_DATASET, &bonus);
        }
        let used: Vec<(&str, zap::Value)> = own.features.iter().map(|guid| (*guid, 0.into())).collect();
        for guid in &own.features {
            self.features.count(guid, 1);
        }
        self.features.count(features::EXTENSIBLE_DATASET, 1);
        let plain = Object::plain(kind::ZAP, 512).with_bonus(kind::DSL_DATASET, &bonus);
        self.mos.zap(self.store, object, &plain, &used)
    }

    /// The origin, an empty snapshot from which every dataset is cloned (dsl_pool.c, dsl_pool_create_origin).
    fn write_origin(&mut self, datasets: usize) -> Result<()> {
        let (head, snapshot) = (self.mos.number(), self.origin);
        let names = self.mos.new_zap(self.store, kind::DSL_SNAPSHOTS, &[("$ORIGIN", snapshot.into())])?;
        let clones = self.mos.new_zap(self.store, kind::CLONES, &std::mem::take(&mut self.clones))?;
        let next = std::mem::take(&mut self.next_clones);
        let next = self.mos.new_zap(self.store, kind::NEXT_CLONES, &next)?;
        let directory = self.nodes[ORIGIN].object;
        let common = Dataset {
            ds_dir_obj: directory,
            ds_creation_time: self.wish.time,
            ds_creation_txg: INITIAL,
            ds_flags: UNIQUE_ACCURATE,
            ..Dataset::BLANK
        };
        let ids = self.wish.ids;
        let own = Dataset {
            ds_prev_snap_obj: snapshot,
            ds_prev_snap_txg: INITIAL,
            ds_snapnames_zapobj: names,
            ds_deadlist_obj: self.deadlist(&[0], &[])?,
            ds_fsid_guid: fsid(ids.number("fsid $ORIGIN")),
            ds_guid: ids.number("guid $ORIGIN"),
            ..common.clone()
        };
        self.mos.bonus(head, kind::DSL_DATASET, &own.bytes())?;
        let own = Dataset {
            ds_next_snap_obj: head,
            // Its head, and what was cloned from it.
            ds_num_children: 1 + u64_of(datasets),
            ds_deadlist_obj: self.deadlist(&[], &[])?,
            ds_fsid_guid: fsid(ids.number("fsid $ORIGIN@$ORIGIN")),
            ds_guid: ids.number("guid $ORIGIN@$ORIGIN"),
            ds_next_clones_obj: next,
            ..common
        };
        self.mos.bonus(snapshot, kind::DSL_DATASET, &own.bytes())?;
        let node = &mut self.nodes[ORIGIN];
        (node.head, node.clones) = (head, clones);
        Ok(())
    }

    /// The children and properties of each directory.
    fn tables(&mut self) -> Result<()> {
        for number in 0..self.nodes.len() {
            let children: Vec<(String, zap::Value)> = self
                .nodes
                .iter()
                .filter(|node| node.parent == Some(number))
                .map(|node| (node.name.clone(), node.object.into()))
                .collect();
            let node = &self.nodes[number];
            let (object, list) = (node.children, node.properties);
            let properties = node.options.as_ref().map_or(&[][..], |own| &own.properties);
            self.mos.zap(self.store, object, &Object::plain(kind::DSL_CHILDREN, 512), &children)?;
            let plain = Object::plain(kind::DSL_PROPERTIES, 512);
            self.mos.zap(self.store, list, &plain, properties)?;
        }
        Ok(())
    }
}

/// A GUID of 56 bits (dsl_dataset.c, unique_create).
const fn fsid(number: u64) -> u64 {
    number >> 8
}

impl Directories {
    /// The object of the pool's own directory.
    pub(super) fn root(&self) -> Result<u64> {
        let root = self.nodes.first().map(|node| node.object);
        root.ok_or_else(|| Error::bug("a pool has no directory of its own"))
    }

    /// Writes the directories: all that their sums count is known, `mos` is what the pool's own set takes. Bytes that the
    /// whole pool takes, with those that are reserved.
    ///
    /// # Errors
    /// [`Kind::Capacity`] for datasets that have more than their quotas allow.
    pub(super) fn write(mut self, set: &mut Mos, mos: Sums) -> Result<u64> {
        // As the pool counts itself: uncompressed as it is stored.
        self.nodes[MOS_DIR].own = Sums { logical: mos.physical, ..mos };
        let mut total: Vec<Sums> = Vec::new();
        for node in &self.nodes {
            let mut own = node.own;
            own += node.snapshots;
            total.push(Sums { allocated: own.allocated + node.kept(), ..own });
        }
        // What children take, and what is kept for them beyond that.
        let mut children = vec![(0, 0); self.nodes.len()];
        // Children come after their parents.
        for number in (0..self.nodes.len()).rev() {
            self.nodes[number].check(total[number].allocated)?;
            if let Some(parent) = self.nodes[number].parent {
                let own = total[number];
                let reservation = self.nodes[number].options.as_ref().map_or(0, |own| own.reservation);
                let kept = reservation.saturating_sub(own.allocated);
                total[parent] += Sums { allocated: own.allocated + kept, ..own };
                children[parent] = (children[parent].0 + own.allocated, children[parent].1 + kept);
            }
        }
        for (number, node) in self.nodes.iter().enumerate() {
            let (taken, kept) = children[number];
            let directory = Directory {
                dd_creation_time: self.time,
                dd_head_dataset_obj: node.head,
                dd_parent_obj: node.parent.map_or(0, |parent| self.nodes[parent].object),
                dd_origin_obj: node.origin,
                dd_child_dir_zapobj: node.children,
                dd_used_bytes: total[number].allocated,
                dd_compressed_bytes: total[number].physical,
                dd_uncompressed_bytes: total[number].logical,
                dd_quota: node.options.as_ref().map_or(0, |own| own.quota),
                dd_reserved: node.options.as_ref().map_or(0, |own| own.reservation),
                dd_props_zapobj: node.properties,
                dd_flags: USED_BREAKDOWN,
                dd_used_breakdown: [node.own.allocated, node.snapshots.allocated, taken, kept, node.kept()],
                dd_clones: node.clones,
                ..Directory::BLANK
            };
            set.bonus(node.object, kind::DSL_DIR, &directory.bytes())?;
        }
        // What is kept for the pool's own dataset is kept from nobody, but has to be there.
        let own = self.nodes.first().and_then(|node| node.options.as_ref()).map_or(0, |own| own.reservation);
        let all = total.first().map(|total| total.allocated.max(own));
        all.ok_or_else(|| Error::bug("a pool has no directory of its own"))
    }
}

impl Node {
    /// What is kept for the head beyond what it alone has (dsl_dataset.c, dsl_dataset_set_refreservation_sync_impl).
    fn kept(&self) -> u64 {
        self.options.as_ref().map_or(0, |own| own.referenced_reservation.saturating_sub(self.unique))
    }

    /// Refuses contents beyond a quota, as `zfs set` does.
    fn check(&self, used: u64) -> Result<()> {
        let Some(options) = &self.options else { return Ok(()) };
        for (quota, used, name) in
            [(options.quota, used, "quota"), (options.referenced_quota, self.own.allocated, "refquota")]
        {
            if quota > 0 && used > quota {
                let what = format!("{} has more than its `{name}` allows", options.name);
                return Err(Error::new(Kind::Capacity, what)
                    .about("datasets")
                    .expected(format!("at most {}", Bytes::new(quota).to_write()))
                    .found(Bytes::new(used).to_write()));
            }
        }
        Ok(())
    }
}
