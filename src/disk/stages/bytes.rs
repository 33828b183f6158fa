//! The bytes of partitions, and the names that follow from them.

use std::sync::Arc;

use super::{Holds, Stage, Stages};
use crate::disk::derived::{self, Derived, Made, Needed, Observing, Request};
use crate::disk::spec::{Body, Guid, Partition};
use crate::error::{Error, Kind, Result, Subject, Warning};
use crate::filesystem::{self, Filesystem, Placement, Spec, zfs};
use crate::identity;
use crate::image::{Builder, Image};
use crate::table::{Placed, Plan, Scheme};
use crate::units::{Bytes, u64_of};

impl Stages<'_> {
    /// Warns of an EFI system partition without a file, whatever else is in it.
    fn bootless(&mut self, number: usize) -> Result<Option<Warning>> {
        let is_esp = self.partition(number)?.kind.is_esp();
        let Some(tree) = self.tree(number)?.filter(|tree| is_esp && !tree.holds_a_file()) else {
            return Ok(None);
        };
        let what = if tree.is_empty() { "nothing" } else { "no file" };
        Ok(Some(Warning(format!(
            "there is {what} on the EFI system partition: UEFI firmware finds nothing to start"
        ))))
    }

    /// Warns of a pool that has its disk alone, beside partitions that no OpenZFS takes for its own.
    fn shared(&mut self, number: usize, spec: &Spec) -> Result<Option<Warning>> {
        if !spec.has_whole_disk() || zfs::grows_with_disk(&*self.place()?, number)? {
            return Ok(None);
        }
        Ok(Some(Warning(
            "the pool has `whole_disk`, and its disk is not as OpenZFS makes one: a GPT with the pool in partition 1, and right \
             behind it, as the last one, partition 9 of type solaris-reserved with 16384 sectors (8MiB of 512 bytes). So `zpool online -e` and autoexpand do \
             not grow the pool with its disk"
                .to_owned(),
        )))
    }

    /// The bytes of a partition, once all that they depend on is known.
    pub(super) fn bytes(&mut self, number: usize) -> Result<Arc<Holds>> {
        if let Some(holds) = &self.part(number)?.bytes {
            return Ok(Arc::clone(holds));
        }
        let partition = self.partition(number)?;
        let holds = self.run(Stage::Bytes(number), |stages| match &partition.body {
            Body::Empty => Ok(Holds::default()),
            Body::Bytes(bytes) => {
                let placed = stages.placed(number)?;
                Ok(Holds { image: Some(ready_bytes(bytes, &placed)?), ..Holds::default() })
            }
            Body::Image(image) => {
                fits(image.length(), stages.length(number)?)?;
                Ok(Holds { image: Some(image.clone()), ..Holds::default() })
            }
            Body::File(path) => {
                let (ready, length) = (stages.ready(number, path)?, stages.length(number)?);
                Ok(Holds { image: Some(ready.image(length)?), ..Holds::default() })
            }
            Body::Filesystem(spec, _) => {
                let built = stages.finished(number, spec)?;
                let (facts, mut warnings, others) = (Some(built.facts), built.warnings, built.others);
                warnings.extend(stages.bootless(number)?);
                warnings.extend(stages.shared(number, spec)?);
                warnings.extend(stages.tree(number)?.iter().flat_map(|tree| tree.warnings().to_vec()));
                Ok(Holds { image: Some(built.image), facts, warnings, others, ..Holds::default() })
            }
            Body::Derived(derived) => stages.derived(number, derived.as_ref()),
        })?;
        let holds = Arc::new(holds);
        self.part(number)?.bytes = Some(Arc::clone(&holds));
        Ok(holds)
    }

    /// A derived partition: rendered from digests that are taken while the disk is poured, where nothing before that asks for
    /// one of its values; otherwise from what it needs, read now.
    fn derived(&mut self, number: usize, derived: &dyn Derived) -> Result<Holds> {
        let needs = derived.needs();
        let needed = needs.iter().map(|number| self.needed(*number)).collect::<Result<Vec<_>>>()?;
        derived.check_needed(&needed)?;
        let length = self.length(number)?;
        let packer = Arc::clone(&self.part(number)?.packer);
        let request = Request { length, key: self.disk.partition_key(number), packer: &packer };
        let holds = match self.observing(number, &needs, &needed) {
            true => {
                let lengths: Vec<Bytes> = needed.iter().map(|needed| needed.length).collect();
                derived.observe(&lengths, &request)?
            }
            false => None,
        };
        let holds = match holds {
            Some(Observing { image, digests, facts, values }) => {
                if digests.iter().any(|(of, _)| !needs.contains(of)) {
                    return Err(Error::bug("a derived partition observes one that it does not need"));
                }
                self.observed.extend(digests.iter().map(|(of, _)| *of));
                Holds { image: Some(image), facts, digests, late: Some(values), ..Holds::default() }
            }
            None => {
                let data = needed.iter().map(|needed| needed.image.file_data());
                let (bytes, files) = data.fold((0, 0), |all, each| (all.0 + each.0, all.1 + each.1));
                self.work.progress.begin(bytes, files);
                let Made { image, facts, values } = derived.build(&needed, &request)?;
                self.work.progress.begin(0, 0);
                Holds { image: Some(image), facts, values, ..Holds::default() }
            }
        };
        let made = holds.image.as_ref().map_or(Bytes::ZERO, Image::length);
        fits(made, length).map(|()| holds)
    }

    /// What a derived partition gets of one that it needs.
    fn needed(&mut self, number: usize) -> Result<Needed> {
        let (length, holds) = (self.length(number)?, self.bytes(number)?);
        let image = holds.image.clone().map_or_else(|| Builder::new(length).finish(), Ok)?;
        // sb_set_blocksize and sb_min_blocksize of Linux; SquashFS reads any sectors.
        let sector = self.partition(number)?.apart.unwrap_or(self.disk.sector_size);
        let blocks = holds.facts.as_ref().and_then(|facts| match facts.kind {
            "erofs" | "ext4" | "ext3" | "ext2" => Some((facts.kind, facts.block_size)),
            // Its own sectors are those of the disk (fat_fill_super).
            "vfat" => Some((facts.kind, u64::from(sector))),
            _ => None,
        });
        Ok(Needed { image, length, values: holds.values.clone(), blocks })
    }

    /// Whether a derived partition may be rendered from digests that are taken while the disk is poured: nobody asks for
    /// its bytes or values before, and nothing else observes what it needs.
    fn observing(&self, number: usize, needs: &[usize], needed: &[Needed]) -> bool {
        let asks = |partition: &Partition| {
            let named = matches!(partition.guid, Guid::Derived { of, .. } if of == number);
            named
                || match &partition.body {
                    Body::Filesystem(_, contents) => contents.needs().contains(&number),
                    Body::Derived(derived) => derived.needs().contains(&number),
                    Body::Empty | Body::Bytes(_) | Body::Image(_) | Body::File(_) => false,
                }
        };
        !self.disk.partitions.iter().any(asks)
            && !self.disk.loader.as_ref().is_some_and(|loader| loader.needs().contains(&number))
            && !needed.iter().any(|needed| needed.image.is_observed())
            && !needs.iter().any(|number| self.observed.contains(number))
    }

    /// The filesystem in its place: the one that decided the partition's size, or one built anew where the
    /// filesystem records its place.
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
    pub(super) fn filesystem(
        &mut self,
        number: usize,
        size: filesystem::Size,
        offset: Bytes,
    ) -> Result<Filesystem> {
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
            bare: self.disk.scheme == Scheme::None,
        };
        spec.build(tree.as_ref(), &at, &self.part(number)?.packer)
    }

    /// Name: the plan with the GUIDs that follow from digests.
    pub(super) fn named(&self, plan: &Plan, holds: &[Arc<Holds>]) -> Result<Plan> {
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
}

/// Ready bytes at the start of their partition.
fn ready_bytes(bytes: &Arc<[u8]>, placed: &Placed) -> Result<Image> {
    let length = Bytes::new(u64_of(bytes.len()));
    fits(length, placed.length)?;
    let mut image = Builder::new(length);
    image.bytes(Bytes::ZERO, format!("boot program of partition {}", placed.number), Arc::clone(bytes));
    image.finish()
}

/// Refuses `length` bytes in a partition that is shorter.
fn fits(length: Bytes, partition: Bytes) -> Result<()> {
    match length.checked_sub(partition).filter(|missing| *missing > Bytes::ZERO) {
        None => Ok(()),
        Some(missing) => Err(Error::new(Kind::Capacity, "what a partition holds does not fit it")
            .expected(format!("at most {}", partition.in_full()))
            .found(format!("{}, {} too much", length.in_full(), missing.human()))),
    }
}
