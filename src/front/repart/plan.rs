//! From definitions and what is on a disk already to partitions with ids, labels and attributes.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::Options;
use super::allocate::{Allocation, Item, Place, Span, Usable, padding_behind};
use super::body::READ_ONLY as READ_ONLY_FILESYSTEMS;
use super::definition::{Definition, Format, Minimize, Range, Verity};
use super::existing::{Bounds, Existing};
use super::kind::{Designator, Kind};
use crate::error::Result;
use crate::text::printable;
use crate::units::{Bytes, KIB, MIB, u64_of};

/// The size of a signature partition.
pub(super) const SIGNATURE: Bytes = Bytes::kib(16);

/// The least size of a partition that says nothing of it.
const USUAL: Bytes = Bytes::mib(10);

/// The least size of any partition.
const LEAST: Bytes = Bytes::kib(4);

/// A partition: of a definition, of a disk, or of both.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Which definition; `None` for one that is on the disk and that no definition is about.
    pub(super) definition: Option<usize>,
    pub(super) kind: Kind,
    /// What is on the disk already.
    pub(super) current: Option<Current>,
    /// Its GUID, where that does not follow from a root hash.
    pub(super) guid: Uuid,
    /// Its name, also where the table keeps another one since nothing can be done to the partition.
    pub(super) label: String,
    /// Its slot, from 1.
    pub(super) number: u32,
    /// Its attribute bits.
    pub(super) attributes: u64,
    /// Whether another definition holds what this one asks for.
    pub(super) merged: bool,
    /// Where it lies; `None` before that is known, and where it is dropped.
    pub(super) place: Option<Place>,
}

/// A partition that is on the disk already.
#[derive(Clone, Debug)]
pub(super) struct Current {
    pub(super) number: u32,
    pub(super) span: Span,
    pub(super) padding: Bytes,
    pub(super) guid: Uuid,
    pub(super) label: String,
    pub(super) attributes: u64,
}

/// All partitions of a disk, those of definitions first.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) parts: Vec<Part>,
    pub(super) disk_guid: Uuid,
    pub(super) warnings: Vec<String>,
}

impl Plan {
    /// Matches definitions with what is there, and gives ids, labels and attributes.
    ///
    /// # Errors
    /// Where a label or a list of types cannot be read.
    pub(super) fn new(
        definitions: &[Definition],
        existing: Option<&Existing>,
        options: &Options,
    ) -> Result<Self> {
        let mut parts: Vec<Part> = definitions
            .iter()
            .enumerate()
            .map(|(number, definition)| Part::new(Some(number), definition.kind.clone()))
            .collect();
        let mut there = existing.map(Existing::partitions).unwrap_or_default();
        if options.factory_reset {
            reset(definitions, &parts, &mut there);
        }
        for (kind, current) in there {
            let free = parts.iter_mut().find(|part| part.kind.guid == kind.guid && part.current.is_none());
            match free {
                Some(part) => part.current = Some(current),
                None => parts.push(Part { current: Some(current), ..Part::new(None, kind) }),
            }
        }
        let disk_guid = existing.map(Existing::guid).filter(|guid| !guid.is_nil());
        let disk_guid = disk_guid.unwrap_or_else(|| options.seed.disk_guid());
        let mut plan = Self { parts, disk_guid, warnings: Vec::new() };
        plan.identify(definitions, options);
        plan.attributes(definitions, options);
        Ok(plan)
    }

    /// GUIDs and labels. Those that are on the disk stay, unless there are none.
    fn identify(&mut self, definitions: &[Definition], options: &Options) {
        let count = u64_of(self.parts.len());
        let taken: BTreeSet<Uuid> =
            self.parts.iter().filter_map(|part| Some(part.current.as_ref()?.guid)).collect();
        let given = definitions.iter().filter_map(|definition| definition.uuid);
        let mut known: BTreeSet<Uuid> = taken.iter().copied().chain(given).collect();
        for number in 0..self.parts.len() {
            let (earlier, rest) = self.parts.split_at_mut(number);
            let Some(part) = rest.first_mut() else { continue };
            let definition = part.definition.and_then(|number| definitions.get(number));
            let current = part.current.as_ref();
            let of_type = earlier.iter().filter(|other| other.kind.guid == part.kind.guid).count();
            let derived = options.seed.partition_guid(part.kind.guid, u64_of(of_type));
            // Where that is taken, one that counts from behind all partitions, so that no other of them derives it.
            // systemd-repart 262.1 draws a random one (partition_acquire_uuid).
            let next = || {
                let mut guids = (count..).map(|number| options.seed.partition_guid(part.kind.guid, number));
                guids.find(|guid| !known.contains(guid)).unwrap_or(derived)
            };
            let given = definition.and_then(|definition| definition.uuid);
            let there =
                current.map(|current| current.guid).filter(|guid| !guid.is_nil() || definition.is_none());
            let own = there.or(given);
            let clashes = own.is_none() && taken.contains(&derived);
            let guid = own.unwrap_or_else(|| if clashes { next() } else { derived });
            let there = current
                .map(|current| current.label.clone())
                .filter(|label| !label.is_empty() || definition.is_none());
            let given = definition.and_then(|definition| definition.label.clone());
            let label = there.or(given).unwrap_or_else(|| label(part.kind.prefix(), earlier));
            if clashes {
                let shown = printable(label.as_bytes());
                self.warnings.push(format!("Partition UUID calculated from seed for partition {shown} already used, reverting to the next one of the seed."));
            }
            known.insert(guid);
            (part.guid, part.label) = (guid, label);
        }
    }

    /// Slots of what has a place: of a new partition behind those of its type, so that they are matched in the same order next time, or else the
    /// first that is free.
    ///
    /// `order` is that in which new ones are placed, `slots` how many the table has.
    pub(super) fn number(&mut self, options: &Options, order: &[usize], slots: u32) {
        let mut taken = BTreeSet::new();
        for part in &mut self.parts {
            if let Some(current) = &part.current {
                part.number = current.number;
                taken.insert(current.number);
            }
        }
        for number in order {
            let Some(part) = self.parts.get(*number) else { continue };
            let of_type = self.parts.iter().filter(|other| other.kind.guid == part.kind.guid);
            let behind = of_type.filter_map(|other| Some(other.current.as_ref()?.number)).max();
            let behind = behind.filter(|_| options.level.keeps_slots_in_order()).unwrap_or(0);
            let free =
                |range: std::ops::RangeInclusive<u32>| range.into_iter().find(|slot| !taken.contains(slot));
            // The table refuses what is beyond its last slot.
            let behind = behind.saturating_add(1)..=slots;
            let slot = free(behind).or_else(|| free(1..=u32::MAX)).unwrap_or(u32::MAX);
            taken.insert(slot);
            if let Some(part) = self.parts.get_mut(*number) {
                part.number = slot;
            }
        }
    }

    /// Attribute bits. Those on the disk stay.
    fn attributes(&mut self, definitions: &[Definition], options: &Options) {
        for part in &mut self.parts {
            part.attributes =
                match (&part.current, part.definition.and_then(|number| definitions.get(number))) {
                    (Some(current), _) => current.attributes,
                    (None, Some(definition)) => attributes(definition, options, &mut self.warnings),
                    (None, None) => 0,
                };
        }
    }

    /// What each partition wants of the disk. `content` is what is known of what it holds.
    pub(super) fn items(
        &self,
        definitions: &[Definition],
        content: &[Option<Bytes>],
        usable: Usable,
        sizing: Sizing,
    ) -> Vec<Item> {
        // What is merged into another wants nothing itself; its place is that of the items before and behind it.
        let items = self.parts.iter().enumerate().map(|(number, part)| {
            let definition = part.definition.and_then(|number| definitions.get(number));
            part.item(definition, content.get(number).copied().flatten(), usable.grain, sizing)
        });
        items.collect()
    }

    /// Puts each supplement into its target, unless it is on the disk already or is one of those that stand `apart`.
    pub(super) fn merge(&mut self, definitions: &mut [Definition], apart: &BTreeSet<usize>) {
        for number in (0..definitions.len()).filter(|number| !apart.contains(number)) {
            let Some(name) = definitions.get(number).and_then(|definition| definition.supplement_for.clone())
            else {
                continue;
            };
            let Some(target) = definitions.iter().position(|definition| definition.name() == name) else {
                continue;
            };
            let part = |wanted: usize| self.parts.iter().position(|part| part.definition == Some(wanted));
            let (Some(own), Some(_)) = (part(number), part(target)) else { continue };
            if self.parts.get(own).is_some_and(|part| part.current.is_some()) {
                continue;
            }
            let Some(supplement) = definitions.get(number).cloned() else { continue };
            let Some(merged) = definitions.get(target).map(|target| target.clone().with(&supplement)) else {
                continue;
            };
            if let Some(target) = definitions.get_mut(target) {
                *target = merged;
            }
            if let Some(part) = self.parts.get_mut(own) {
                part.merged = true;
            }
        }
    }

    /// Takes over what became of the partitions in `apart`.
    pub(super) fn take(&mut self, allocation: Allocation, apart: &[usize]) {
        // What cannot be done to a partition leaves it as if no definition were about it.
        for number in allocation.ignored.iter().filter_map(|number| apart.get(*number)) {
            if let Some(part) = self.parts.get_mut(*number) {
                part.definition = None;
            }
        }
        for (number, place) in apart.iter().zip(allocation.places) {
            if let Some(part) = self.parts.get_mut(*number) {
                part.place = place;
            }
        }
    }

    /// Sets how much is free behind each existing partition now.
    pub(super) fn measure(&mut self, items: &[Item], usable: Usable) {
        for part in &mut self.parts {
            if let Some(current) = &mut part.current {
                current.padding = padding_behind(current.span, items, usable);
            }
        }
    }
}

/// What sizes depend on beside definitions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizing {
    pub(super) level: super::Level,
    /// Bytes in a sector of filesystems, where a definition gives none.
    pub(super) sector_size: u32,
}

impl Part {
    fn new(definition: Option<usize>, kind: Kind) -> Self {
        Self {
            definition,
            kind,
            current: None,
            guid: Uuid::nil(),
            label: String::new(),
            number: 0,
            attributes: 0,
            merged: false,
            place: None,
        }
    }

    /// Whether it is made and not found.
    pub(super) fn is_new(&self) -> bool {
        self.current.is_none() && !self.merged
    }

    fn item(
        &self,
        definition: Option<&Definition>,
        content: Option<Bytes>,
        grain: u64,
        sizing: Sizing,
    ) -> Item {
        let existing = self.current.as_ref().map(|current| current.span);
        let Some(definition) = definition else {
            let size = existing.map(|span| span.size).unwrap_or_default();
            return Item {
                least: size,
                most: Some(size),
                weight: 1000,
                least_padding: Bytes::ZERO,
                most_padding: None,
                padding_weight: 0,
                priority: 0,
                existing,
                foreign: true,
            };
        };
        let (least, most) = self.extent(definition, content, grain, sizing);
        let Range { least: least_padding, most: most_padding, weight: padding_weight } = definition.padding;
        Item {
            least,
            most,
            weight: definition.size.weight,
            least_padding: least_padding.unwrap_or_default(),
            most_padding,
            padding_weight,
            priority: definition.priority,
            existing,
            foreign: false,
        }
    }

    /// The least and the largest size (`partition_min_size`, `partition_max_size`).
    fn extent(
        &self,
        definition: &Definition,
        content: Option<Bytes>,
        grain: u64,
        sizing: Sizing,
    ) -> (Bytes, Option<Bytes>) {
        if definition.verity == Verity::Signature || definition.kind.designator == Designator::Signature {
            return (SIGNATURE, Some(SIGNATURE));
        }
        let there = self.current.as_ref().map(|current| current.span.size);
        let held = match (there, content) {
            (Some(size), _) => size,
            (None, Some(content)) => content.round_up(grain).max(LEAST),
            (None, None) => definition
                .filesystem()
                .map_or(LEAST, |name| least_filesystem(name).round_up(grain).max(LEAST)),
        };
        let sector = definition.sector_size.unwrap_or(sizing.sector_size);
        let system = self.kind.is_system() && definition.filesystem() == Some("vfat") && there.is_none();
        let system = if system { sizing.level.least_esp(sector) } else { Bytes::ZERO };
        let fixed = definition.filesystem().is_some_and(|name| READ_ONLY_FILESYSTEMS.contains(&name))
            || definition.verity != Verity::Off
            || definition.minimize != Minimize::Off;
        let usual = if fixed && sizing.level.fits_what_cannot_grow() { LEAST } else { USUAL };
        let least = definition.size.least.unwrap_or(usual).round_up(grain).max(held).max(system);
        let most =
            definition.size.most.map(|most| most.round_down(grain).max(there.unwrap_or_default()).max(least));
        (least, most)
    }
}

/// The least size that systemd gives a filesystem (`minimal_size_by_fs_name`).
fn least_filesystem(name: &str) -> Bytes {
    match name {
        "ext4" => Bytes::mib(32),
        _ => Bytes::ZERO,
    }
}

/// The label of a partition without one: the type, with a number where an earlier partition is called so.
fn label(prefix: &str, earlier: &[Part]) -> String {
    let taken = |label: &str| {
        earlier.iter().any(|other| {
            other.label == label || other.current.as_ref().is_some_and(|current| current.label == label)
        })
    };
    let numbered = (2..u32::MAX).map(|number| format!("{prefix}-{number}"));
    std::iter::once(prefix.to_owned()).chain(numbered).find(|label| !taken(label)).unwrap_or_default()
}

/// Takes out what a factory reset removes.
fn reset(definitions: &[Definition], parts: &[Part], there: &mut Vec<(Kind, Current)>) {
    let mut seen: Vec<Uuid> = Vec::new();
    there.retain(|(kind, _)| {
        let before = seen.iter().filter(|guid| **guid == kind.guid).count();
        seen.push(kind.guid);
        let of_type = parts.iter().filter(|part| part.kind.guid == kind.guid);
        let definition = of_type.filter_map(|part| definitions.get(part.definition?)).nth(before);
        !definition.is_some_and(|definition| definition.factory_reset)
    });
}

/// Bits of the Discoverable Partitions Specification.
const GROW: u64 = 1 << 59;
const READ_ONLY: u64 = 1 << 60;
const NO_AUTO: u64 = 1 << 63;
/// Those below the bits of a type, 48 to 63. libfdisk writes no attribute at all where one of them is asked for by number.
const BELOW: u64 = (1 << 48) - 1;

/// The attribute bits of a new partition.
fn attributes(definition: &Definition, options: &Options, warnings: &mut Vec<String>) -> u64 {
    let kind = &definition.kind;
    let mut flags = definition.flags;
    for (name, wanted, may, bit) in [
        ("NoAuto", definition.no_auto, kind.may_be_no_auto(), NO_AUTO),
        ("ReadOnly", definition.read_only, kind.may_be_read_only(), READ_ONLY),
        ("GrowFileSystem", definition.grow, kind.may_grow(), GROW),
    ] {
        match wanted {
            None => {}
            Some(wanted) if may => flags = if wanted { flags | bit } else { flags & !bit },
            Some(wanted) => {
                // Where the key was not written it follows from Format=empty, which says nothing of types.
                let (wanted, kind) = (if wanted { "yes" } else { "no" }, kind.shown());
                warnings.push(format!("Configured {name}={wanted} for partition type '{kind}' that doesn't support it, ignoring."));
            }
        }
    }
    match (flags & BELOW, options.faithful) {
        (0, _) => flags,
        (_, true) => 0,
        (_, false) => {
            let file = crate::text::printable_path(&definition.path);
            warnings.push(format!("{file}: bits 0 to 47 of Flags= are written; systemd-repart loses all attributes of such a partition"));
            flags
        }
    }
}

/// Whether a partition's place is kept free and nothing of it is written.
///
/// # Errors
/// As [`Options::defers`].
pub(super) fn is_deferred(definition: &Definition, options: &Options) -> Result<bool> {
    let empty = options.defer_empty
        && (definition.format == Some(Format::Empty) && definition.is_empty_slot()
            || definition.is_empty_slot());
    let reset = options.defer_factory_reset && definition.factory_reset;
    Ok(empty || reset || options.defers(&definition.kind)?)
}

/// What partitions may use of a disk of `length` with a GPT, as libfdisk has it: from 1 MiB on where the disk is larger than
/// 4 MiB, or else from behind the table; or what a table on the disk says.
pub(super) fn usable(length: Bytes, sector_size: u32, grain: u64, there: Option<Bounds>) -> (Bytes, Usable) {
    let sector = u64::from(sector_size);
    let array = there.map_or(Bytes::new(128 * 128).round_up(sector), |there| there.array);
    let front = Bytes::new(2 * sector) + array;
    let usual = if length > Bytes::mib(4) { Bytes::new(MIB) } else { front };
    let first = there.map_or(usual.max(front), |there| there.first);
    let most = length.saturating_sub(array + Bytes::new(sector));
    let end = there.and_then(|there| there.end).unwrap_or(most);
    (first, Usable { start: first.round_up(grain), end: end.round_down(grain), grain })
}

/// Whether a partition is as small as what it holds.
pub(super) fn is_minimized(definition: &Definition) -> bool {
    definition.minimize != Minimize::Off && definition.filesystem().is_some()
}

/// The grain of a disk: at least 4 KiB and a sector.
pub(super) fn grain(options: &Options, sector_size: u32) -> u64 {
    options.grain.map_or_else(|| (4 * KIB).max(u64::from(sector_size)), u64::from)
}
