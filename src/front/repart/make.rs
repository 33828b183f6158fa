//! The disk that definitions describe, made with everything in its place.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::allocate::{Span, Usable, allocate};
use super::body::Making;
use super::definition::{CopyBlocks, Definition, Line, Minimize, Verity};
use super::existing::{self, Existing, bits, kind_of};
use super::locator::{Located, Locations};
use super::measure::Content;
use super::outcome::{Outcome, Row};
use super::plan::{Part, Plan, Sizing, grain, is_deferred, usable};
use super::specifier::Specifiers;
use super::{Options, Size, Split, read, split, supplement, verity};
use crate::container::Settings;
use crate::disk::{self, Body, Built, Disk, Guid, Partition, Work};
use crate::error::{Error, Kind, Result, Warning};
use crate::front::Description;
use crate::image::{Builder, Image};
use crate::table::{Array, Scheme, end_at};
use crate::units::{Bytes, Sectors, usize_of};

/// A disk whose every partition has its place.
#[derive(Debug)]
pub struct Prepared {
    /// The disk.
    pub description: Description,
    outcome: Outcome,
    existing: Option<Existing>,
    /// Whether that stays as it is.
    stays: bool,
    specifiers: Specifiers,
    split: bool,
    image: std::path::PathBuf,
    level: super::Level,
    el_torito: Option<super::ElTorito>,
}

/// A disk that is laid out but not yet written.
#[derive(Debug)]
pub struct Finished {
    /// The disk, with what was on it before.
    pub built: Built,
    /// What became of each partition.
    pub outcome: Outcome,
    /// The partitions that go to files of their own.
    pub splits: Vec<Split>,
}

/// Reads the definitions, looks at what is there, and gives every partition its place. What is minimized is built.
///
/// # Errors
/// [`Kind::Manifest`] with file and line for definitions that do not fit together, [`Kind::Capacity`] where they do not fit
/// the disk, [`Kind::Usage`] where the options do not suit each other or the image.
pub fn prepare(options: &Options, work: &Work) -> Result<Prepared> {
    let Said { specifiers, definitions, mut warnings, existing } = said(options)?;
    let maker = Maker { options, existing: existing.as_ref(), work };
    let mut made = supplement::fitting(&definitions, |apart| maker.make(&definitions, apart))?;
    let stays = existing.as_ref().is_some_and(|existing| stays(existing, &made.disk, &made.outcome));
    warnings.extend(existing.iter().flat_map(|existing| existing.warnings(stays)));
    warnings.append(&mut made.warnings);
    let description = Description {
        disk: made.disk,
        locator: Box::new(made.locations),
        settings: Settings::default(),
        closure: None,
        warnings: warnings.into_iter().map(Warning).collect(),
        outputs: Vec::new(),
        beside: Vec::new(),
        boot: None,
    };
    Ok(Prepared {
        description,
        outcome: made.outcome,
        existing,
        stays,
        specifiers,
        split: options.split,
        image: options.node(),
        level: options.level,
        el_torito: options.el_torito.clone(),
    })
}

/// What is there before anything has a place.
struct Said {
    specifiers: Specifiers,
    /// Those of images that are copied stand first.
    definitions: Vec<Definition>,
    warnings: Vec<String>,
    existing: Option<Existing>,
}

/// Reads what `options` name.
fn said(options: &Options) -> Result<Said> {
    options.check()?;
    let specifiers = Specifiers::new(options.native(), options.root.as_deref());
    let (mut definitions, warnings) = read::definitions(options, &specifiers)?;
    let copied = existing::copied(options)?;
    definitions.splice(0..0, copied);
    Ok(Said { specifiers, definitions, warnings, existing: existing::existing(options)? })
}

/// Whether a factory reset would remove an existing partition. Nothing has to fit for that, as with systemd-repart.
///
/// # Errors
/// As [`prepare`], for definitions and for what is there.
pub fn can_factory_reset(options: &Options) -> Result<bool> {
    let options = Options { factory_reset: false, ..options.clone() };
    let Said { definitions, existing, .. } = said(&options)?;
    let plan = Plan::new(&definitions, existing.as_ref(), &options)?;
    let of = |part: &Part| definitions.get(part.definition?);
    Ok(plan.parts.iter().any(|part| part.current.is_some() && of(part).is_some_and(|it| it.factory_reset)))
}

struct Maker<'a> {
    options: &'a Options,
    existing: Option<&'a Existing>,
    work: &'a Work,
}

/// A disk, and what is to be known of it.
pub(super) struct Made {
    disk: Disk,
    locations: Locations,
    outcome: Outcome,
    warnings: Vec<String>,
    /// Down to which priority definitions came to nothing, since not all fit; less is better.
    pub(super) lost: Option<Reverse<i32>>,
}

impl Maker<'_> {
    /// `apart` are the supplements that are not put into their targets.
    fn make(&self, definitions: &[Definition], apart: &BTreeSet<usize>) -> Result<Made> {
        let options = self.options;
        let mut definitions = definitions.to_vec();
        let mut plan = Plan::new(&definitions, self.existing, options)?;
        plan.merge(&mut definitions, apart);
        let table = self.existing.and_then(|existing| existing.table.as_ref());
        let sector_size = match table {
            Some(table) => u32::try_from(table.sector_size)
                .map_err(|_| Error::bug("the sectors of a table are larger than any"))?,
            None => options.sector_size.unwrap_or(512),
        };
        // No filesystem has smaller sectors than its disk, whatever FileSystemSectorSize= says.
        for definition in &mut definitions {
            definition.sector_size = definition.sector_size.map(|own| own.max(sector_size));
        }
        // Filesystems have sectors of 4096 bytes unless something is said, whatever the disk has.
        let sizing = Sizing {
            level: options.level,
            sector_size: options.sector_size.unwrap_or(4096).max(sector_size),
        };
        let making = Making { options, definitions: &definitions, plan: &plan, sets: None };
        let contents = making.contents(sizing.sector_size, self.work)?;
        let (length, lost) = self.place(&mut plan, &definitions, &contents, (sector_size, sizing))?;
        supplement::check(&definitions, &plan)?;
        clashes(&plan, &definitions, options)?;
        let mut sets = sets(options, &definitions, &plan)?;
        let sectors = (sector_size, sizing.sector_size);
        self.known(&mut sets, (&definitions, &plan), &contents, sectors)?;
        let making = Making { options, definitions: &definitions, plan: &plan, sets: Some(&sets) };
        let mut made = self.disk(&making, &sets, contents, length, sectors)?;
        made.lost = lost;
        made.warnings.append(&mut plan.warnings);
        Ok(made)
    }

    /// Adds hashes that are known although a partition of their set is deferred.
    fn known(
        &self,
        sets: &mut Sets,
        (definitions, plan): (&[Definition], &Plan),
        contents: &[Content],
        (sector_size, filesystem_sector): (u32, u32),
    ) -> Result<()> {
        for (key, set) in sets {
            if matches!((set.data, set.hash), (verity::Member::New(_), verity::Member::New(_))) {
                continue;
            }
            let new =
                plan.parts.iter().zip(contents).filter(|(part, _)| part.is_new() && part.place.is_some());
            let of_set =
                new.filter_map(|(part, content)| Some((definitions.get(part.definition?)?, content)));
            let of_set: Vec<_> = of_set.filter(|(it, _)| it.match_key.as_ref() == Some(key)).collect();
            let of = |verity| of_set.iter().find(|(it, _)| it.verity == verity);
            let (Some(data), Some((hash, _))) = (of(Verity::Data), of(Verity::Hash)) else { continue };
            let sector = hash.sector_size.unwrap_or(filesystem_sector).max(sector_size);
            set.known = verity::known(hash, *data, self.options, (sector, self.work))?.map(Arc::new);
        }
        Ok(())
    }

    /// Gives every partition its place, and returns the length of the disk, and down to which priority definitions came to
    /// nothing.
    fn place(
        &self,
        plan: &mut Plan,
        definitions: &[Definition],
        contents: &[Content],
        (sector_size, sizing): (u32, Sizing),
    ) -> Result<(Bytes, Option<Reverse<i32>>)> {
        let grain = grain(self.options, sector_size);
        let sizes: Vec<Option<Bytes>> = contents.iter().map(|content| content.size).collect();
        check_most(plan, definitions, &sizes, grain)?;
        let there = self.existing.map_or(Bytes::ZERO, |existing| existing.image.length());
        let bounds = |length| self.existing.and_then(|existing| existing.bounds(length));
        // What is merged into another definition wants nothing itself.
        let apart: Vec<usize> =
            (0..).zip(&plan.parts).filter(|(_, part)| !part.merged).map(|(number, _)| number).collect();
        let items = |plan: &Plan, usable: Usable| -> Vec<super::allocate::Item> {
            let all = plan.items(definitions, &sizes, usable, sizing);
            all.into_iter().zip(&plan.parts).filter(|(_, part)| !part.merged).map(|(item, _)| item).collect()
        };
        let wanted = match self.options.size {
            Size::Given => there,
            Size::Fixed(size) => size.round_up(4096),
            Size::Auto => {
                let (_, usable) = usable(there, sector_size, grain, bounds(there));
                let least = |item: &super::allocate::Item| item.least_with_padding(grain);
                items(plan, usable).iter().map(least).sum::<Bytes>()
                    + self.options.level.overhead(sector_size, grain)
            }
        };
        let length = wanted.max(there).round_up(u64::from(sector_size));
        let (_, usable) = usable(length, sector_size, grain, bounds(length));
        let items = items(plan, usable);
        plan.measure(&items, usable);
        let named = |number: usize| {
            let part = apart.get(number).and_then(|number| plan.parts.get(*number));
            part.and_then(|part| definitions.get(part.definition?))
        };
        let allocation = allocate(&items, usable).map_err(|(number, error)| match named(number) {
            Some(definition) => definition.place(error, "SizeMinBytes"),
            None => error.at(&self.options.image),
        })?;
        let dropped = allocation.dropped.iter().filter_map(|number| named(*number)).map(|definition| {
            let file = crate::text::printable_path(self.options.shown(&definition.path));
            format!("Can't fit partition {file} of priority {}, dropping.", definition.priority)
        });
        let ignored = allocation.ignored.iter().filter_map(|number| {
            let label = &plan.parts.get(*apart.get(*number)?)?.label;
            let priority = named(*number)?.priority;
            Some(format!("Can't grow existing partition {label} of priority {priority}, ignoring."))
        });
        let warnings: Vec<String> = dropped.chain(ignored).collect();
        let given_up = allocation.dropped.iter().chain(&allocation.ignored);
        let lost = given_up.filter_map(|number| Some(Reverse(named(*number)?.priority))).max();
        plan.warnings.extend(warnings);
        let order: Vec<usize> =
            allocation.order.iter().filter_map(|number| apart.get(*number)).copied().collect();
        plan.take(allocation, &apart);
        plan.number(self.options, &order, self.array().entries);
        Ok((length, lost))
    }

    /// The array of entries of the table.
    fn array(&self) -> Array {
        self.existing.map(Existing::array).unwrap_or_default()
    }

    /// The disk without its partitions.
    fn frame(&self, making: &Making<'_>, length: Bytes, sector_size: u32) -> Result<Disk> {
        let options = self.options;
        let bounds = self.existing.and_then(|existing| existing.bounds(length));
        let (first, _) = usable(length, sector_size, grain(options, sector_size), bounds);
        let boot = self.existing.map(Existing::boot_code).transpose()?.unwrap_or_default();
        let hybrid =
            self.existing.and_then(|existing| existing.table.as_ref()).map(|table| table.hybrid.clone());
        Ok(Disk {
            size: Some(length),
            sector_size,
            first_lba: Some(crate::units::Sectors::new(first.get() / u64::from(sector_size))),
            array: self.array(),
            guid: Some(making.plan.disk_guid),
            hybrid: hybrid.unwrap_or_default().into(),
            boot: disk::BootArea { code: boot, gap: std::sync::Arc::from([]) },
            time: making.time(),
            same_guids: true,
            ..Disk::new(Scheme::Gpt, options.seed)
        })
    }

    /// The disk with all partitions that are written now.
    fn disk(
        &self,
        making: &Making<'_>,
        sets: &Sets,
        contents: Vec<Content>,
        length: Bytes,
        (sector_size, filesystem_sector): (u32, u32),
    ) -> Result<Made> {
        let options = self.options;
        let mut disk = self.frame(making, length, sector_size)?;
        let (mut located, mut rows, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
        let alone = verity::Set::default();
        for (part, content) in making.plan.parts.iter().zip(contents) {
            let Some(place) = part.place else { continue };
            let definition = part.definition.and_then(|number| making.definitions.get(number));
            let new = definition.filter(|_| part.is_new());
            let put_off = definition.map(|it| is_deferred(it, options)).transpose()?.unwrap_or_default();
            let deferred = put_off && new.is_some();
            let position = disk.partitions.len();
            let mut row = Row::new(part, definition, place, (!deferred).then_some(position), options);
            row.put_off = put_off;
            let set = definition.and_then(|it| sets.get(it.match_key.as_ref()?)).unwrap_or(&alone);
            let mut partition = bare(part, place.span);
            let zeros = deferred || options.faithful;
            if let Some(guid) = new.and_then(|it| verity::guid(it, set, zeros)) {
                row.guid = guid;
                partition.guid = Guid::Given(guid);
            }
            rows.push(row);
            if deferred {
                continue;
            }
            let Some(definition) = new else {
                disk.partitions.push(partition);
                located.push(None);
                continue;
            };
            let sectors = (sector_size, filesystem_sector);
            let (lines, told) = fill(making, (definition, part), (set, content), &mut partition, sectors)?;
            warnings.extend(told);
            disk.partitions.push(partition);
            located.push(Some(Located { definition: definition.clone(), lines }));
        }
        for row in &mut rows {
            let set = row.match_key.as_ref().and_then(|key| sets.get(key));
            row.root_hash = set.and_then(|set| set.root(options)).map(ToString::to_string);
        }
        rows.sort_by_key(|row| row.offset);
        Ok(Made {
            disk,
            locations: Locations::of(located),
            outcome: Outcome::new(rows),
            warnings,
            lost: None,
        })
    }
}

/// A partition in its place, which holds nothing yet.
fn bare(part: &Part, span: Span) -> Partition {
    let kept = part.current.as_ref().filter(|_| part.definition.is_none());
    Partition {
        label: kept.map_or(&part.label, |current| &current.label).clone(),
        guid: Guid::Given(part.guid),
        number: Some(part.number),
        start: Some(span.offset),
        size: disk::Size::Fixed(span.size),
        attributes: bits(part.attributes),
        ..Partition::new(kind_of(&part.kind))
    }
}

/// Puts into a new partition what it holds. Returns where each of it was written, and what is told of it.
fn fill(
    making: &Making<'_>,
    (definition, part): (&Definition, &Part),
    (set, content): (&verity::Set, Content),
    partition: &mut Partition,
    (sector_size, filesystem_sector): (u32, u32),
) -> Result<(Vec<Option<Line>>, Vec<String>)> {
    let mut warnings = content.warnings;
    let size = part.place.map(|place| place.span.size).unwrap_or_default();
    let sector = definition.sector_size.unwrap_or(filesystem_sector).max(sector_size);
    partition.apart = Some(sector);
    let (body, lines, told) = held(making, (definition, part), content.image, size, sector)?;
    warnings.extend(told);
    partition.body = body;
    match verity::body((definition, part), set, making.options, sector)? {
        Some((body, guid)) => {
            partition.guid = guid;
            if let Some(body) = body {
                partition.body = body;
            }
        }
        None => warnings.extend(verity::left_empty(definition, making.options)),
    }
    Ok((lines, warnings))
}

/// What a new partition of `size` holds by itself, where each of it was written, and what is told of it.
fn held(
    making: &Making<'_>,
    (definition, part): (&Definition, &Part),
    image: Option<Image>,
    size: Bytes,
    sector: u32,
) -> Result<(Body, Vec<Option<Line>>, Vec<String>)> {
    let body = match (&definition.copy_blocks, image) {
        (_, Some(image)) => Body::Image(image),
        (Some(CopyBlocks::File(path)), None) => Body::File(path.clone()),
        (Some(CopyBlocks::Partition(slice)), None) => Body::Image(whole(slice)?),
        (None, None) if definition.filesystem().is_some() => {
            let filled = making.fill(definition, part)?;
            let spec = making.spec(definition, part, Some(size), sector)?;
            return Ok((Body::Filesystem(spec, filled.entries.into()), filled.lines, filled.warnings));
        }
        (None, None) => Body::Empty,
    };
    Ok((body, Vec::new(), Vec::new()))
}

/// The sets of dm-verity, by their keys.
type Sets = BTreeMap<String, verity::Set>;

/// The sets of dm-verity: which partitions of the disk belong together.
fn sets(options: &Options, definitions: &[Definition], plan: &Plan) -> Result<Sets> {
    let mut sets = Sets::new();
    let mut position = 0;
    for part in plan.parts.iter().filter(|part| part.place.is_some()) {
        let definition = part.definition.and_then(|number| definitions.get(number));
        let member = match (definition, &part.current) {
            (_, Some(current)) => verity::Member::There(current.guid),
            (Some(definition), None) if is_deferred(definition, options)? => verity::Member::Nowhere,
            _ => verity::Member::New(position),
        };
        if member != verity::Member::Nowhere {
            position += 1;
        }
        let Some((definition, key)) =
            definition.and_then(|definition| Some((definition, definition.match_key.as_ref()?)))
        else {
            continue;
        };
        let set = sets.entry(key.clone()).or_default();
        match definition.verity {
            Verity::Data => set.data = member,
            // The root hash of hashes that are copied is not known.
            Verity::Hash if definition.copy_blocks.is_some() && part.is_new() => {}
            Verity::Hash => set.hash = member,
            Verity::Signature | Verity::Off => {}
        }
    }
    Ok(sets)
}

/// A slice as an image of its own.
fn whole(slice: &crate::image::Slice) -> Result<Image> {
    let mut image = Builder::new(slice.length());
    image.put(Bytes::ZERO, slice);
    image.finish()
}

/// Refuses two partitions with one GUID, where one of them is new. systemd-repart writes such a disk without a word.
fn clashes(plan: &Plan, definitions: &[Definition], options: &Options) -> Result<()> {
    let placed: Vec<&Part> = plan.parts.iter().filter(|part| part.place.is_some()).collect();
    for (number, part) in placed.iter().enumerate() {
        let twin = placed.iter().take(number).find(|other| other.guid == part.guid && !part.guid.is_nil());
        let Some(twin) = twin.filter(|twin| (twin.is_new() || part.is_new()) && !options.faithful) else {
            continue;
        };
        let error = Error::new(Kind::Manifest, "two partitions have the same UUID")
            .found(part.guid)
            .why("a partition is found by its UUID")
            .hint("give one of them another UUID=, or none");
        let named = |part: &Part| part.definition.and_then(|number| definitions.get(number));
        let both = [named(part), named(twin)].into_iter().flatten();
        return Err(both.fold(error, |error, definition| definition.place(error, "UUID")));
    }
    Ok(())
}

/// Refuses contents that are larger than `SizeMaxBytes=` where they decide the size (`context_minimize`).
///
/// # Errors
/// [`Kind::Capacity`], with the key.
fn check_most(plan: &Plan, definitions: &[Definition], sizes: &[Option<Bytes>], grain: u64) -> Result<()> {
    for (part, size) in plan.parts.iter().zip(sizes) {
        let definition = part.definition.and_then(|number| definitions.get(number));
        let Some((definition, size)) = definition.zip(*size) else { continue };
        let Some(most) = definition.size.most else { continue };
        if definition.minimize != Minimize::Off && part.current.is_none() && size.round_up(grain) > most {
            let error = Error::new(
                Kind::Capacity,
                "the contents are larger than the largest size of their partition",
            );
            return Err(definition
                .place(error, "SizeMaxBytes")
                .expected(format!("at most {}", most.human()))
                .found(size.round_up(grain).human()));
        }
    }
    Ok(())
}

impl Prepared {
    /// The partitions as they are known before anything is built: without root hashes, and what follows from them.
    #[must_use]
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Lays the disk out, over what was on it before.
    ///
    /// # Errors
    /// As [`Description::build`].
    pub fn build(&self, work: &Work) -> Result<Finished> {
        let mut built = self.description.build(work)?;
        built.settle(work)?;
        let mut outcome = self.outcome.clone();
        outcome.complete(&built.report);
        if let Some(existing) = &self.existing {
            built.image = match self.stays {
                true => existing.image.clone(),
                false => overlay(existing, &built, &outcome)?,
            };
        }
        if let Some(el_torito) = &self.el_torito {
            built.image = el_torito.put(&built.image, &outcome, self.description.disk.time.seconds)?;
        }
        for row in outcome.rows.iter_mut().filter(|row| row.is_signature && row.is_written()) {
            let mut bytes = vec![0; usize_of(row.size.get())];
            built.image.read(row.offset.get(), &mut bytes)?;
            row.own_length = verity::text_length(&bytes, self.level);
        }
        let splits = match self.split {
            true => split::files(&mut outcome, &self.specifiers, &self.image)?,
            false => Vec::new(),
        };
        Ok(Finished { built, outcome, splits })
    }
}

/// Whether nothing becomes of an image: its table is not written then, as with systemd-repart ("No changes."), also where a
/// definition names a partition that has no name.
fn stays(existing: &Existing, disk: &Disk, outcome: &Outcome) -> bool {
    let partitions = existing.table.as_ref().map(|table| table.partitions.len());
    existing.may_stay()
        && disk.size == Some(existing.image.length())
        && partitions == Some(outcome.rows.len())
        && outcome.rows.iter().all(|row| row.activity == super::Activity::Unchanged)
}

/// The new table and the new partitions, over what is on the disk. What lies in no partition stays too, for a boot loader
/// may be there.
fn overlay(existing: &Existing, built: &Built, outcome: &Outcome) -> Result<Image> {
    let Some(table) = &existing.table else { return Ok(built.image.clone()) };
    let (length, old) = (built.image.length(), existing.image.length());
    let mut new = existing.regions(length);
    if old < length {
        // Where the backup was, and what was not there.
        new.extend(existing.regions(old).pop());
        new.push((old, length));
    }
    new.extend(
        outcome.rows.iter().filter(|row| row.is_written()).map(|row| (row.offset, row.offset + row.size)),
    );
    new.sort();
    let mut image = Builder::new(length);
    let mut at = Bytes::ZERO;
    for (start, end) in new {
        if start > at {
            image.put(at, &existing.image.slice(at, start.min(old)));
        }
        let start = start.max(at);
        if start < end {
            image.put(start, &built.image.slice(start, end));
        }
        at = at.max(end);
    }
    if at < old {
        image.put(at, &existing.image.slice(at, old));
    }
    let image = image.finish()?;
    match existing.bounds(length).and_then(|bounds| bounds.end) {
        Some(end) => {
            let last = Sectors::new(end.get() / table.sector_size).saturating_sub(Sectors::new(1));
            end_at(&image.whole(), table.sector_size, last)?.over(&image.whole(), length)
        }
        None => Ok(image),
    }
}
