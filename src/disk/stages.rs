//! From a description to an image, stage by stage: scan, size, place, digest, name.
//!
//! The stages of a partition wait for each other, and for those of other partitions: a filesystem of size auto decides how
//! large its partition is, a FAT writes down where it begins, a hash tree needs the bytes of its partner, a loader entry
//! needs the root hash. So each stage asks for what it needs, which is computed once and kept. A stage that is asked for
//! while it runs waits for itself: that circle is refused, with the partitions that make it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::contents::Contents;
use super::derived::{self, Made, Needed, Request, Values};
use super::ready::Ready;
use super::report::Report;
use super::scan::{Reading, cause};
use super::spec::{Body, Disk, Guid, Partition, Size};
use super::{Built, Work};
use crate::container::SectorSize;
use crate::error::{Error, Kind, Result, Subject, Warning};
use crate::filesystem::{self, Filesystem, Placement};
use crate::identity;
use crate::image::{Builder, Image};
use crate::nix::verify::Verification;
use crate::table::{self, Attribute, Placed, Plan, Scheme, Type, Wish};
use crate::tree::Tree;
use crate::units::{Bytes, u64_of};

/// A stage of a partition that may have to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Reads names and metadata.
    Scan(usize),
    /// Decides how large the partition is.
    Size(usize),
    /// Makes the partition's bytes.
    Bytes(usize),
    /// Gives all partitions their places.
    Place,
}

impl Stage {
    const fn partition(self) -> Option<usize> {
        match self {
            Self::Scan(number) | Self::Size(number) | Self::Bytes(number) => Some(number),
            Self::Place => None,
        }
    }
}

/// What is known of a partition so far.
#[derive(Debug, Default)]
struct Part {
    tree: Option<Arc<Tree>>,
    ready: Option<Arc<Ready>>,
    size: Option<table::Size>,
    /// The filesystem that decided the size.
    draft: Option<Filesystem>,
    bytes: Option<Arc<Holds>>,
}

/// The bytes of a partition.
#[derive(Debug)]
struct Holds {
    image: Option<Image>,
    facts: Option<filesystem::Facts>,
    warnings: Vec<Warning>,
    values: Values,
}

impl Holds {
    fn nothing() -> Self {
        Self { image: None, facts: None, warnings: Vec::new(), values: BTreeMap::new() }
    }
}

/// The work on one disk.
pub(super) struct Stages<'a> {
    disk: &'a Disk,
    work: &'a Work,
    parts: Vec<Part>,
    plan: Option<Arc<Plan>>,
    /// The stages that run: each was asked for by the one before it.
    running: Vec<Stage>,
}

impl<'a> Stages<'a> {
    pub(super) fn new(disk: &'a Disk, work: &'a Work) -> Self {
        let parts = disk.partitions.iter().map(|_| Part::default()).collect();
        Self { disk, work, parts, plan: None, running: Vec::new() }
    }

    /// Runs all stages.
    pub(super) fn build(mut self) -> Result<Built> {
        self.check_container()?;
        // What is wrong with contents is told in the order of the partitions, before what is wrong with places.
        for number in 0..self.parts.len() {
            self.tree(number)?;
            self.size(number)?;
        }
        let plan = self.place()?;
        let holds = (0..self.parts.len()).map(|number| self.bytes(number)).collect::<Result<Vec<_>>>()?;
        let plan = self.named(&plan, &holds)?;
        // From here on a partition's bytes are needed once more, to be put in their place.
        self.parts.iter_mut().for_each(|part| part.bytes = None);
        let mut image = Builder::new(plan.length);
        plan.write(&mut image)?;
        image.bytes(Bytes::ZERO, "boot code", Arc::clone(&self.disk.boot.code));
        image.bytes(Bytes::new(plan.sector_size), "boot program", Arc::clone(&self.disk.boot.gap));
        let (mut facts, mut warnings) = (Vec::new(), Vec::new());
        for ((number, holds), placed) in holds.into_iter().enumerate().zip(&plan.partitions) {
            let holds = Arc::into_inner(holds).ok_or_else(|| Error::bug("a partition is still used"))?;
            if let Some(bytes) = holds.image {
                image.put(placed.offset, &bytes.whole());
            }
            facts.push(holds.facts);
            let subject = (self.disk.scheme != Scheme::None).then_some(Subject::Partition(number));
            warnings.extend(holds.warnings.into_iter().map(|warning| (subject, warning)));
        }
        let image = image.finish()?;
        let report = Report::new(&plan, image.covered(), &facts, &warnings);
        let verification = match &self.work.verify {
            Some(expected) => {
                let trees: Vec<_> = self.parts.iter().filter_map(|part| part.tree.clone()).collect();
                Some(Verification::new(&image, &trees, expected)?)
            }
            None => None,
        };
        let (id, time) = (self.disk.seed.container_uuid(), self.disk.time.seconds);
        Ok(Built { image, report, warnings, id, time, verification })
    }

    fn partition(&self, number: usize) -> Result<&'a Partition> {
        let partition = self.disk.partitions.get(number);
        partition.ok_or_else(|| {
            Error::new(Kind::Manifest, "a partition refers to a partition that does not exist")
                .found(format!("partition {}", number + 1))
                .expected(format!("1 to {}", self.disk.partitions.len()))
        })
    }

    fn part(&mut self, number: usize) -> Result<&mut Part> {
        self.parts.get_mut(number).ok_or_else(|| Error::bug("a partition has no state"))
    }

    /// Runs `stage`, unless it runs already and so waits for itself.
    fn run<T>(&mut self, stage: Stage, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.work.progress.check()?;
        if self.running.contains(&stage) {
            return Err(self.circle(stage));
        }
        self.running.push(stage);
        let done = work(self);
        self.running.pop();
        match stage.partition() {
            Some(number) => done.map_err(|error| self.blame(number, error)),
            None => done,
        }
    }

    /// The error for a stage that waits for itself: names its partition, and the last other one on the way round.
    fn circle(&self, stage: Stage) -> Error {
        let round = self.running.iter().skip_while(|running| **running != stage);
        let mut partitions: Vec<usize> = round.filter_map(|stage| stage.partition()).collect();
        partitions.dedup();
        let first = partitions.first().copied();
        let other = partitions.iter().rev().copied().find(|number| Some(*number) != first);
        let error = Error::new(Kind::Manifest, "partitions wait for each other")
            .why("one needs the bytes or the size of the other, directly or by the places of all partitions")
            .hint("give one of them a size, or a content that does not depend on the other");
        first.into_iter().chain(other).fold(error, |error, number| error.on(Subject::Partition(number)))
    }

    /// Scan: the names and metadata of what a partition's filesystem holds.
    fn tree(&mut self, number: usize) -> Result<Option<Arc<Tree>>> {
        let partition = self.partition(number)?;
        let Body::Filesystem(spec, contents) = &partition.body else { return Ok(None) };
        if let Some(tree) = &self.part(number)?.tree {
            return Ok(Some(Arc::clone(tree)));
        }
        if !spec.holds_files() {
            return Ok(None);
        }
        let tree = self.run(Stage::Scan(number), |stages| {
            let mut values = BTreeMap::new();
            for of in contents.needs() {
                values.insert(of, stages.bytes(of)?);
            }
            let find = |of: usize| {
                let found = values.get(&of).map(|holds| &holds.values);
                found.ok_or_else(|| Error::bug("a text refers to a partition that was not built"))
            };
            match contents {
                Contents::Tree(tree) => Ok(Arc::clone(tree)),
                Contents::Entries(entries) => {
                    let reading = Reading {
                        partition: number,
                        time: stages.disk.time,
                        jobs: stages.work.jobs,
                        progress: &stages.work.progress,
                        values: &find,
                    };
                    if spec.keeps_owners() {
                        reading.check_owners(entries)?;
                    }
                    reading.tree(entries)
                }
            }
        })?;
        self.part(number)?.tree = Some(Arc::clone(&tree));
        Ok(Some(tree))
    }

    /// The file that a partition takes as it is.
    fn ready(&mut self, number: usize, path: &std::path::Path) -> Result<Arc<Ready>> {
        if let Some(ready) = &self.part(number)?.ready {
            return Ok(Arc::clone(ready));
        }
        let ready = Arc::new(Ready::look(path)?);
        self.part(number)?.ready = Some(Arc::clone(&ready));
        Ok(ready)
    }

    /// Size: how large a partition is, as far as that is known before it has a place.
    fn size(&mut self, number: usize) -> Result<table::Size> {
        if let Some(size) = self.part(number)?.size {
            return Ok(size);
        }
        let partition = self.partition(number)?;
        let size = self.run(Stage::Size(number), |stages| match (partition.size, &partition.body) {
            (Size::Fixed(size), _) => Ok(table::Size::Exactly(size)),
            (Size::Fill, _) => Ok(table::Size::Fill),
            (Size::Auto, Body::Empty) => {
                Err(Error::new(Kind::Manifest, "an empty partition has no size of its own")
                    .about("size")
                    .expected("a size, or what is left of the disk"))
            }
            (Size::Auto, Body::Bytes(bytes)) => Ok(stages.whole(Bytes::new(u64_of(bytes.len())))),
            (Size::Auto, Body::Image(image)) => Ok(stages.whole(image.length())),
            (Size::Auto, Body::File(path)) => {
                let ready = stages.ready(number, path)?;
                Ok(stages.whole(ready.size()))
            }
            (Size::Auto, Body::Filesystem(..)) => {
                let draft = stages.filesystem(number, filesystem::Size::Auto, Bytes::ZERO)?;
                let size = stages.whole(draft.image.length());
                stages.part(number)?.draft = Some(draft);
                Ok(size)
            }
            (Size::Auto, Body::Derived(derived)) => {
                let needed = derived.needs().into_iter().map(|number| stages.length(number));
                let needed = needed.collect::<Result<Vec<_>>>()?;
                Ok(stages.whole(derived.size(&needed)?))
            }
        })?;
        self.part(number)?.size = Some(size);
        Ok(size)
    }

    /// How long a partition is: known before it has a place, unless it fills what is left.
    fn length(&mut self, number: usize) -> Result<Bytes> {
        match self.size(number)? {
            table::Size::Exactly(size) => Ok(size),
            table::Size::Fill => Ok(self.placed(number)?.length),
        }
    }

    /// The size of a partition that is as small as what it holds: in a table a whole number of MiB, since tools remark
    /// upon a partition that ends elsewhere; without one a whole number of sectors.
    fn whole(&self, size: Bytes) -> table::Size {
        table::Size::Exactly(match self.disk.scheme {
            Scheme::None => size.round_up(u64::from(self.disk.sector_size)),
            Scheme::Gpt | Scheme::Mbr => size.round_up(table::GRAIN),
        })
    }

    /// Place: where each partition lies.
    fn place(&mut self) -> Result<Arc<Plan>> {
        if let Some(plan) = &self.plan {
            return Ok(Arc::clone(plan));
        }
        let plan = self.run(Stage::Place, |stages| {
            let count = stages.parts.len();
            let partitions = (0..count).map(|number| stages.wish(number)).collect::<Result<Vec<_>>>()?;
            let (guid, signature) = stages.disk.ids();
            let request = table::Request {
                scheme: stages.disk.scheme,
                sector_size: u64::from(stages.disk.sector_size),
                disk_size: stages.disk.size,
                guid,
                signature,
                first_lba: stages.disk.first_lba,
                hybrid: stages.disk.hybrid.clone(),
                same_guids: stages.disk.same_guids,
                partitions,
            };
            Ok(Arc::new(stages.fit(&request, table::place(&request)?)?))
        })?;
        self.plan = Some(Arc::clone(&plan));
        Ok(plan)
    }

    /// The plan for the length that a guest sees of the disk: a container may round it up, and the backup of a GPT stands
    /// at the end.
    fn fit(&self, request: &table::Request, plan: Plan) -> Result<Plan> {
        let length = self.work.container.disk_length(plan.length, self.sector_size());
        match request.scheme {
            _ if length == plan.length => Ok(plan),
            // The partition stays as large as it is: there is nothing to move.
            Scheme::None => Ok(Plan { length, ..plan }),
            Scheme::Gpt | Scheme::Mbr => {
                table::place(&table::Request { disk_size: Some(length), ..request.clone() })
            }
        }
    }

    /// Refuses what the container cannot hold of the disk, before any work.
    fn check_container(&self) -> Result<()> {
        let (container, sector_size) = (&self.work.container, self.sector_size());
        let of_the_disk = |error: Error, key| error.about(key).on(Subject::Disk);
        container.check_sector_size(sector_size).map_err(|error| of_the_disk(error, "sector_size"))?;
        let Some(size) = self.disk.size else { return Ok(()) };
        container.check_length(size, sector_size).map_err(|error| of_the_disk(error, "size"))
    }

    /// Bytes in a logical sector. The table refuses what is neither 512 nor 4096.
    fn sector_size(&self) -> SectorSize {
        SectorSize::of(u64::from(self.disk.sector_size)).unwrap_or_default()
    }

    fn placed(&mut self, number: usize) -> Result<Placed> {
        let plan = self.place()?;
        let placed = plan.partitions.get(number).cloned();
        placed.ok_or_else(|| Error::bug("a partition has no place"))
    }

    fn wish(&mut self, number: usize) -> Result<Wish> {
        let partition = self.partition(number)?;
        Ok(Wish {
            number: partition.number,
            start: partition.start,
            size: self.size(number)?,
            kind: partition.kind,
            guid: self.disk.partition_key(number),
            label: partition.label.clone(),
            attributes: partition.attributes.iter().fold(0, |all, attribute| all | attribute.mask()),
            active: partition.attributes.contains(&Attribute::Active),
            logical: partition.logical,
        })
    }

    /// A remark upon an EFI system partition that nothing was put into.
    fn bootless(&mut self, number: usize) -> Result<Option<Warning>> {
        let is_esp = matches!(self.partition(number)?.kind, Type::ESP | Type::Mbr(0xef));
        let is_empty = self.tree(number)?.is_some_and(|tree| tree.is_empty());
        Ok((is_esp && is_empty).then(|| {
            Warning(
                "there is nothing on the EFI system partition: UEFI firmware finds nothing to start"
                    .to_owned(),
            )
        }))
    }

    /// The bytes of a partition, once all that they depend on is known.
    fn bytes(&mut self, number: usize) -> Result<Arc<Holds>> {
        if let Some(holds) = &self.part(number)?.bytes {
            return Ok(Arc::clone(holds));
        }
        let partition = self.partition(number)?;
        let holds = self.run(Stage::Bytes(number), |stages| match &partition.body {
            Body::Empty => Ok(Holds::nothing()),
            Body::Bytes(bytes) => {
                let placed = stages.placed(number)?;
                Ok(Holds { image: Some(ready_bytes(bytes, &placed)?), ..Holds::nothing() })
            }
            Body::Image(image) => {
                let placed = stages.placed(number)?;
                check_length(image.length(), &placed)?;
                Ok(Holds { image: Some(image.clone()), ..Holds::nothing() })
            }
            Body::File(path) => {
                let (ready, length) = (stages.ready(number, path)?, stages.length(number)?);
                Ok(Holds { image: Some(ready.image(length)?), ..Holds::nothing() })
            }
            Body::Filesystem(spec, _) => {
                let built = stages.finished(number, spec)?;
                let (facts, mut warnings) = (Some(built.facts), built.warnings);
                warnings.extend(stages.bootless(number)?);
                Ok(Holds { image: Some(built.image), facts, warnings, ..Holds::nothing() })
            }
            Body::Derived(derived) => {
                let needed = derived.needs().into_iter().map(|number| {
                    let length = stages.length(number)?;
                    let image = stages.bytes(number)?.image.clone();
                    let image = image.map_or_else(|| Builder::new(length).finish(), Ok)?;
                    Ok(Needed { image, length })
                });
                let needed = needed.collect::<Result<Vec<_>>>()?;
                let length = stages.length(number)?;
                let key = stages.disk.partition_key(number);
                let Made { image, facts, values } =
                    derived.build(&needed, &Request { length, key, work: stages.work })?;
                Ok(Holds { image: Some(image), facts, values, ..Holds::nothing() })
            }
        })?;
        let holds = Arc::new(holds);
        self.part(number)?.bytes = Some(Arc::clone(&holds));
        Ok(holds)
    }

    /// The filesystem as it is in its place: the one that decided the partition's size, unless it says where it lies.
    fn finished(&mut self, number: usize, spec: &filesystem::Spec) -> Result<Filesystem> {
        self.size(number)?;
        let draft = self.part(number)?.draft.take();
        match draft {
            Some(draft) if !spec.knows_its_place() => Ok(draft),
            draft => {
                let size = match draft {
                    Some(_) => filesystem::Size::Auto,
                    None => filesystem::Size::Fixed(self.length(number)?),
                };
                let knows = spec.knows_its_place() && self.partition(number)?.apart.is_none();
                let start = if knows { self.placed(number)?.offset } else { Bytes::ZERO };
                let built = self.filesystem(number, size, start)?;
                match draft.is_some_and(|draft| draft.image.length() != built.image.length()) {
                    true => Err(Error::bug("the size of a filesystem depends on its place")),
                    false => Ok(built),
                }
            }
        }
    }

    /// Builds the filesystem of a partition that begins at `offset`.
    fn filesystem(&mut self, number: usize, size: filesystem::Size, offset: Bytes) -> Result<Filesystem> {
        let tree = self.tree(number)?;
        let Body::Filesystem(spec, _) = &self.partition(number)?.body else {
            return Err(Error::bug("a partition has no filesystem"));
        };
        let at = Placement {
            size,
            offset,
            sector_size: u64::from(self.partition(number)?.apart.unwrap_or(self.disk.sector_size)),
            id: identity::filesystem_uuid(self.disk.partition_key(number)),
            time: self.disk.time,
            system: self.partition(number)?.kind.is_system(),
        };
        spec.build(tree.as_ref(), &at)
    }

    /// Name: the plan with the GUIDs that follow from digests.
    fn named(&self, plan: &Plan, holds: &[Arc<Holds>]) -> Result<Plan> {
        let mut plan = plan.clone();
        for (number, (placed, partition)) in plan.partitions.iter_mut().zip(&self.disk.partitions).enumerate()
        {
            let Guid::Derived { of, value } = &partition.guid else { continue };
            let holds = holds.get(*of).ok_or_else(|| {
                Error::new(Kind::Manifest, "a GUID derives from a partition that does not exist")
                    .on(Subject::Partition(number))
            })?;
            let text = derived::value(&holds.values, value)?;
            placed.guid = text.parse().map_err(|_| Error::bug(format!("`{value}` is not a GUID")))?;
        }
        let guids: Vec<_> = plan.partitions.iter().map(|placed| placed.guid).collect();
        for (number, guid) in guids.iter().enumerate() {
            let earlier = guids.iter().take(number).position(|other| other == guid);
            if let (Scheme::Gpt, Some(earlier), false) = (plan.scheme, earlier, self.disk.same_guids) {
                return Err(Error::new(Kind::Manifest, "two partitions have the same GUID")
                    .on(Subject::Partition(number))
                    .on(Subject::Partition(earlier))
                    .found(guid));
            }
        }
        Ok(plan)
    }

    /// Adds the part of the description that an error in a partition is about, where it names none yet: the entry whose
    /// file it names, the options of the filesystem, the size, or the partition.
    fn blame(&self, number: usize, error: Error) -> Error {
        let Some(partition) = self.disk.partitions.get(number).filter(|_| !error.is_blamed()) else {
            return error;
        };
        let entries = partition.entries();
        let entry = error.path().and_then(|path| cause(entries, path));
        let made = entry.and_then(|entry| entries.get(entry)).is_some_and(|entry| entry.payload.is_made());
        // What the description says is at fault, and not what it names.
        let written = error.kind() == Kind::Capacity && (error.key().is_some() || made);
        let error = if written { error.with_kind(Kind::Manifest) } else { error };
        let whole = Subject::Partition(number);
        match (&partition.body, error.key(), entry) {
            (_, Some("time"), _) => error.on(Subject::Disk),
            (_, Some("size"), _) => error.on(whole),
            (Body::Filesystem(..), Some(_), _) => error.on(Subject::Filesystem(number)),
            (Body::Filesystem(..), None, Some(entry)) => {
                error.on(Subject::Entry { partition: number, entry })
            }
            (Body::Filesystem(..), None, None)
                if error.path().is_none() && error.kind() == Kind::Manifest =>
            {
                error.on(Subject::Filesystem(number))
            }
            (Body::File(_), None, _) if partition.size == Size::Auto || error.kind() != Kind::Capacity => {
                error.about("file").on(whole)
            }
            (_, None, _) if matches!(partition.size, Size::Fixed(_)) && error.kind() == Kind::Capacity => {
                error.about("size").on(whole)
            }
            (Body::File(_), None, _) => error.about("file").on(whole),
            _ => error.on(whole),
        }
    }
}

/// Ready bytes at the start of their partition.
fn ready_bytes(bytes: &Arc<[u8]>, placed: &Placed) -> Result<Image> {
    let length = Bytes::new(u64_of(bytes.len()));
    check_length(length, placed)?;
    let mut image = Builder::new(length);
    image.bytes(Bytes::ZERO, format!("boot program of partition {}", placed.number), Arc::clone(bytes));
    image.finish()
}

/// Refuses what is longer than its partition.
fn check_length(length: Bytes, placed: &Placed) -> Result<()> {
    if let Some(missing) = length.checked_sub(placed.length).filter(|missing| *missing > Bytes::ZERO) {
        return Err(Error::new(Kind::Capacity, "what a partition holds does not fit it")
            .expected(format!("at most {} bytes", placed.length.get()))
            .found(format!("{} bytes, {} too many", length.get(), missing.get())));
    }
    Ok(())
}
