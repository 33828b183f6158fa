//! From a description to an image, stage by stage: scan, pack, size, place, digest, name.
//!
//! The stages of a partition wait for each other, and for those of other partitions: a filesystem of size
//! auto decides how large its partition is, a FAT records where it begins, a hash tree needs the bytes of its
//! partner, a loader entry needs the root hash. So each stage asks for what it needs, and the result is
//! computed once and kept. A stage that is asked for while it runs would wait for itself. That circle is an
//! error, which names the partitions in it.

mod blame;
mod bytes;
mod length;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::boot::Booted;
use super::contents::{Contents, Entry};
use super::derived::{LateValues, Values};
use super::raw;
use super::report::Report;
use super::scan::Reading;
use super::spec::{Body, Disk, Partition, Size};
use super::{Built, Form, Work};
use crate::container::SectorSize;
use crate::error::{Error, Kind, Result, Subject, Warning};
use crate::filesystem::{self, Filesystem, Other};
use crate::image::{Builder, Digest, Image};
use crate::nix::verify::{self, Verification};
use crate::pour::Packer;
use crate::table::{self, Placed, Plan, Scheme};
use crate::tree::{Ready, Tree};
use crate::units::{Bytes, u64_of};

/// A stage of a partition that may have to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Reads names and metadata.
    Scan(usize),
    /// Decides how large the partition is.
    Size(usize),
    /// Waits for what is left of the disk, which the partition fills.
    Fill(usize),
    /// Makes the partition's bytes.
    Bytes(usize),
    /// Gives all partitions their places.
    Place,
}

impl Stage {
    const fn partition(self) -> Option<usize> {
        match self {
            Self::Scan(number) | Self::Size(number) | Self::Fill(number) | Self::Bytes(number) => {
                Some(number)
            }
            Self::Place => None,
        }
    }
}

/// What is known of a partition so far.
#[derive(Debug)]
struct Part {
    /// Packs the files of its filesystem, once.
    packer: Arc<Packer>,
    tree: Option<Arc<Tree>>,
    ready: Option<Arc<Ready>>,
    size: Option<table::Size>,
    /// The filesystem that decided the size.
    draft: Option<Filesystem>,
    bytes: Option<Arc<Holds>>,
}

impl Part {
    fn new(packer: Packer) -> Self {
        Self { packer: Arc::new(packer), tree: None, ready: None, size: None, draft: None, bytes: None }
    }
}

/// The bytes of a partition.
#[derive(Debug, Default)]
struct Holds {
    image: Option<Image>,
    facts: Option<filesystem::Facts>,
    warnings: Vec<Warning>,
    /// Further disks.
    others: Vec<Other>,
    values: Values,
    /// Digests of whole partitions that the bytes are rendered from, taken while the disk is poured.
    digests: Vec<(usize, Arc<dyn Digest>)>,
    /// The values, where they follow from those digests.
    late: Option<Arc<dyn LateValues>>,
}

/// The work on one disk.
pub(super) struct Stages<'a> {
    disk: &'a Disk,
    work: &'a Work,
    parts: Vec<Part>,
    plan: Option<Arc<Plan>>,
    /// What boots the disk, once the files of its root are known.
    booted: Option<Arc<Booted>>,
    /// The partitions that a digest observes while they are poured.
    observed: BTreeSet<usize>,
    /// The stages that run. Each was asked for by the one before it.
    running: Vec<Stage>,
}

impl<'a> Stages<'a> {
    pub(super) fn new(disk: &'a Disk, work: &'a Work) -> Self {
        let parts = disk.partitions.iter().map(|_| Part::new(work.packer())).collect();
        Self { disk, work, parts, plan: None, booted: None, observed: BTreeSet::new(), running: Vec::new() }
    }

    /// Runs all stages.
    pub(super) fn build(mut self) -> Result<Built> {
        self.check_container()?;
        self.disk.check_standard_input()?;
        // Errors in contents are reported in the order of the partitions, before errors in places.
        for number in 0..self.parts.len() {
            self.tree(number)?;
            self.size(number)?;
        }
        let plan = self.place()?;
        let holds = (0..self.parts.len()).map(|number| self.bytes(number)).collect::<Result<Vec<_>>>()?;
        let plan = self.named(&plan, &holds)?;
        // After this, each partition's bytes are needed only once more, to be put in their place.
        self.parts.iter_mut().for_each(|part| part.bytes = None);
        let mut image = Builder::new(plan.length);
        plan.write(&mut image)?;
        let booted = self.booted()?;
        let boot = match &booted {
            Some(booted) => booted.area(self.disk, &plan, &mut image)?,
            None => self.disk.boot.clone(),
        };
        image.bytes(Bytes::ZERO, "boot code", Arc::clone(&boot.code));
        image.bytes(Bytes::new(plan.sector_size), "boot program", Arc::clone(&boot.gap));
        raw::put(self.disk, &boot, &plan, &mut image)?;
        let (mut facts, mut warnings, mut values, mut late, mut others) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for ((number, holds), placed) in holds.into_iter().enumerate().zip(&plan.partitions) {
            let holds = Arc::into_inner(holds).ok_or_else(|| Error::bug("a partition is still used"))?;
            if let Some(bytes) = holds.image {
                image.put(placed.offset, &bytes.whole());
            }
            for (of, digest) in holds.digests {
                let placed =
                    plan.partitions.get(of).ok_or_else(|| Error::bug("no such partition is observed"))?;
                image.digested(placed.offset, placed.offset + placed.length, digest);
            }
            late.extend(holds.late.map(|late| (number, late)));
            others.extend(holds.others);
            values.push(holds.values);
            facts.push(holds.facts);
            let subject = (self.disk.scheme != Scheme::None).then_some(Subject::Partition(number));
            warnings.extend(holds.warnings.into_iter().map(|warning| (subject, warning)));
        }
        warnings.extend(booted.iter().flat_map(|booted| &booted.warnings).map(|told| (None, told.clone())));
        warnings.extend(self.remarks(&plan).map(|warning| (None, warning)));
        let image = image.finish()?;
        let mut report = Report::new(&plan, image.covered(), &facts, &warnings);
        for (partition, values) in report.partitions.iter_mut().zip(values) {
            partition.values = values;
        }
        let verification = match &self.work.verify {
            Some(expected) => Some(Verification::new(&image, self.filesystems(&plan), expected)?),
            None => None,
        };
        let (id, time) = (self.disk.seed.container_uuid(), self.disk.time.seconds);
        Ok(Built { image, report, warnings, id, time, verification, others, late })
    }

    /// The filesystems on the disk that hold files.
    fn filesystems(&self, plan: &Plan) -> Vec<verify::Filesystem> {
        let parts = self.disk.partitions.iter().zip(&self.parts).zip(&plan.partitions);
        let held = parts.filter_map(|((partition, part), placed)| match (&partition.body, &part.tree) {
            (Body::Filesystem(spec, _), Some(tree)) => Some(verify::Filesystem {
                tree: Arc::clone(tree),
                place: (placed.offset, placed.offset + placed.length),
                shown_at: spec.shown_at(),
            }),
            _ => None,
        });
        held.collect()
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
        self.partition(number)?;
        self.parts.get_mut(number).ok_or_else(|| Error::bug("a partition has no state"))
    }

    /// Runs `stage`. It is an error if `stage` runs already, because it would wait for itself.
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

    /// Scan: the names and metadata of the files in a partition's filesystem.
    fn tree(&mut self, number: usize) -> Result<Option<Arc<Tree>>> {
        let partition = self.partition(number)?;
        let Body::Filesystem(spec, contents) = &partition.body else { return Ok(None) };
        if let Some(tree) = &self.part(number)?.tree {
            return Ok(Some(Arc::clone(tree)));
        }
        if !spec.holds_files() {
            return Ok(None);
        }
        let tree = self.run(Stage::Scan(number), |stages| match contents {
            Contents::Tree(tree) => Ok(Arc::clone(tree)),
            Contents::Entries(entries) => stages.scan(number, entries, contents.needs(), spec.keeps_owners()),
        })?;
        self.part(number)?.tree = Some(Arc::clone(&tree));
        Ok(Some(tree))
    }

    /// Reads what `entries` bring to a partition, and what boots the disk: that is decided when the files of the root are
    /// there.
    fn scan(
        &mut self,
        number: usize,
        entries: &[Entry],
        mut needs: BTreeSet<usize>,
        keeps_owners: bool,
    ) -> Result<Arc<Tree>> {
        let boot = self.disk.loader.as_ref();
        let own = boot.filter(|boot| boot.root() == number);
        let more = match (boot, own) {
            (Some(boot), None) => {
                let booted = self.booted()?.ok_or_else(|| Error::bug("nothing boots the disk"))?;
                let more = booted.entries.get(&number).cloned().unwrap_or_default();
                needs.extend(boot.needs().into_iter().filter(|_| !more.is_empty()));
                more
            }
            _ => Vec::new(),
        };
        let mut values = BTreeMap::new();
        for of in needs {
            values.insert(of, self.bytes(of)?);
        }
        let find = |of: usize| {
            let found = values.get(&of).map(|holds| &holds.values);
            found.ok_or_else(|| Error::bug("a text refers to a partition that was not built"))
        };
        let packer = Arc::clone(&self.part(number)?.packer);
        let reading = Reading {
            packer: &packer,
            partition: number,
            boot: self.partition(number)?.kind.is_system(),
            time: self.disk.time,
            jobs: self.work.jobs,
            progress: &self.work.progress,
            values: &find,
        };
        if keeps_owners {
            reading.check_owners(entries)?;
        }
        let mut booted = None;
        let tree = reading.tree(entries, |view| match own {
            Some(boot) => {
                let mut planned = boot.plan(view, &self.work.progress)?;
                let more = planned.entries.remove(&number).unwrap_or_default();
                booted = Some(Arc::new(planned));
                Ok(more)
            }
            None => Ok(more),
        })?;
        if own.is_some() {
            self.booted = booted;
        }
        Ok(tree)
    }

    /// What boots the disk, if anything is to.
    fn booted(&mut self) -> Result<Option<Arc<Booted>>> {
        let Some(boot) = &self.disk.loader else { return Ok(None) };
        if self.booted.is_none() {
            self.tree(boot.root())?;
        }
        let booted = self.booted.clone().ok_or_else(|| Error::bug("the root of a system has no entries"))?;
        Ok(Some(booted))
    }

    /// The file that a partition takes as it is.
    fn ready(&mut self, number: usize, path: &std::path::Path) -> Result<Arc<Ready>> {
        if let Some(ready) = &self.part(number)?.ready {
            return Ok(Arc::clone(ready));
        }
        let ready = Arc::new(Ready::look(path, "the image of a partition")?);
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

    /// Length of a partition. It is known before the partition has a place, unless it fills the free space.
    fn length(&mut self, number: usize) -> Result<Bytes> {
        match self.size(number)? {
            table::Size::Exactly(size) => Ok(size),
            table::Size::Fill => self.run(Stage::Fill(number), |stages| Ok(stages.placed(number)?.length)),
        }
    }

    /// The size of a partition that is as small as its content. In a table it is a whole number of MiB, since
    /// tools warn of a partition that ends elsewhere; without a table it is a whole number of sectors.
    fn whole(&self, size: Bytes) -> table::Size {
        table::Size::Exactly(match self.disk.scheme {
            Scheme::None => size.round_up(u64::from(self.disk.sector_size)),
            Scheme::Gpt | Scheme::Mbr => size.round_up(self.disk.align.map_or(table::GRAIN, Bytes::get)),
        })
    }

    /// Place: where each partition lies.
    fn place(&mut self) -> Result<Arc<Plan>> {
        if let Some(plan) = &self.plan {
            return Ok(Arc::clone(plan));
        }
        let plan = self.run(Stage::Place, |stages| {
            let disk = stages.disk;
            let request = disk.request(|number| stages.size(number))?;
            Ok(Arc::new(stages.fit(&request, table::place(&request)?)?))
        })?;
        self.plan = Some(Arc::clone(&plan));
        Ok(plan)
    }

    /// What the disk becomes, and what it is a multiple of by itself.
    fn forms(&self) -> Vec<Form> {
        let own = Form { size_multiple: self.disk.size_multiple, ..Form::default() };
        let own = own.size_multiple.map(|_| Form { container: self.work.container.clone(), ..own });
        self.work.forms().into_iter().chain(own).collect()
    }

    /// The plan for the length that a guest sees. A container may round the length up, and the backup of a
    /// GPT belongs at the end.
    fn fit(&self, request: &table::Request, plan: Plan) -> Result<Plan> {
        let length = length::of(&self.forms(), plan.length, self.sector_size())
            .map_err(|error| error.on(Subject::Disk))?;
        match request.scheme {
            _ if length == plan.length => Ok(plan),
            // The partition keeps its size; there is nothing to move.
            Scheme::None => Ok(Plan { length, ..plan }),
            Scheme::Gpt | Scheme::Mbr => {
                table::place(&table::Request { disk_size: Some(length), ..request.clone() })
            }
        }
    }

    /// The warning that a bare filesystem whose size was given is followed by zeros, since its file rounds up.
    fn lengthened(&self) -> Option<Warning> {
        let given = match (self.disk.scheme, self.disk.partitions.first().map(|partition| partition.size)) {
            (Scheme::None, Some(Size::Fixed(size))) => size,
            _ => return None,
        };
        self.forms().iter().find_map(|form| length::lengthened(form, given, self.sector_size()))
    }

    /// What is to be known of the disk in the files that it goes to.
    fn remarks(&self, plan: &Plan) -> impl Iterator<Item = Warning> {
        let forms = self.forms();
        let of_package = forms.iter().find_map(|form| form.package?.remark(plan));
        self.lengthened().into_iter().chain(of_package)
    }

    /// Refuses, before any work, a disk that the containers cannot hold, and what its sectors are too large for.
    fn check_container(&self) -> Result<()> {
        for form in self.forms() {
            length::check(&form, self.disk, self.sector_size()).map_err(|error| error.on(Subject::Disk))?;
        }
        for (number, partition) in self.disk.partitions.iter().enumerate() {
            if let Body::Derived(derived) = &partition.body {
                let checked = derived.check_sector_size(u64::from(self.disk.sector_size));
                checked.map_err(|error| error.on(Subject::Partition(number)))?;
            }
        }
        Ok(())
    }

    /// Bytes in a logical sector, for containers that know of 512 and 4096 only.
    fn sector_size(&self) -> SectorSize {
        SectorSize::of(u64::from(self.disk.sector_size)).unwrap_or_default()
    }

    fn placed(&mut self, number: usize) -> Result<Placed> {
        let plan = self.place()?;
        let placed = plan.partitions.get(number).cloned();
        placed.ok_or_else(|| Error::bug("a partition has no place"))
    }
}
