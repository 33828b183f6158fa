//! How much of a disk each partition gets: sums alone, those of systemd-repart
//! (systemd `src/repart/repart.c`, `context_allocate_partitions` to `context_place_partitions`).
//!
//! Each new partition goes into the smallest free area that takes its minimum. What is left of an area is shared among the
//! partitions in it, and the one before it, and the space behind each of them, by weight: those that need more than their
//! share get their minimum, then those that take less get their maximum, then the others get their share. A partition that
//! got its size leaves the sum at once, so that those behind see less.

use crate::error::{Error, Kind, Result};
use crate::units::Bytes;

/// The weight of a partition that says nothing of it.
const WEIGHT: u32 = 1000;

/// A partition that wants space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) least: Bytes,
    /// `None` for as much as there is.
    pub(super) most: Option<Bytes>,
    pub(super) weight: u32,
    pub(super) least_padding: Bytes,
    pub(super) most_padding: Option<Bytes>,
    pub(super) padding_weight: u32,
    /// Those with the largest above 0 are dropped first where not all fit.
    pub(super) priority: i32,
    /// Where it is already.
    pub(super) existing: Option<Span>,
    /// Whether no definition is about it.
    pub(super) foreign: bool,
}

impl Item {
    /// The least space with padding, up to a whole grain of the disk (`partition_min_size_with_padding`).
    pub(super) fn least_with_padding(&self, grain: u64) -> Bytes {
        // A partition that is there may begin within a grain; what follows it does not.
        let start = self.existing.map_or(Bytes::ZERO, |span| span.offset);
        (start + self.least + self.least_padding).round_up(grain).saturating_sub(start)
    }

    /// Makes it one that no definition is about, which is there with `span` (`partition_foreignize`).
    fn leave(&mut self, span: Span) {
        (self.foreign, self.least, self.most) = (true, span.size, Some(span.size));
        (self.least_padding, self.most_padding) = (Bytes::ZERO, None);
        (self.weight, self.padding_weight) = (WEIGHT, 0);
    }
}

/// A run of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) offset: Bytes,
    pub(super) size: Bytes,
}

/// Where a partition lies, and how much is left free behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) span: Span,
    pub(super) padding: Bytes,
}

/// What partitions may use of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usable {
    pub(super) start: Bytes,
    /// Exclusive.
    pub(super) end: Bytes,
    /// What starts and sizes are multiples of.
    pub(super) grain: u64,
}

/// What became of the partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Allocation {
    /// `None` for what was dropped.
    pub(super) places: Vec<Option<Place>>,
    /// New partitions in the order in which they are placed: by free area, the smallest first.
    pub(super) order: Vec<usize>,
    /// What was dropped, in that order.
    pub(super) dropped: Vec<usize>,
    /// Existing partitions that stay as they are, since they cannot have what their definitions want.
    pub(super) ignored: Vec<usize>,
}

/// A free area.
#[derive(Clone, Copy, Debug)]
struct Area {
    /// The partition that it follows.
    after: Option<usize>,
    size: Bytes,
    allocated: Bytes,
}

/// Work under way.
struct Allocator<'a> {
    items: &'a mut [Item],
    usable: Usable,
    areas: Vec<Area>,
    /// The area that each item is in, or that follows it.
    within: Vec<Option<usize>>,
    size: Vec<Option<Bytes>>,
    padding: Vec<Option<Bytes>>,
    dropped: Vec<usize>,
    ignored: Vec<usize>,
}

/// Shares out a disk.
///
/// # Errors
/// [`Kind::Capacity`] where not even the partitions that are never dropped fit, naming one that does not and by how much.
pub(super) fn allocate(items: &[Item], usable: Usable) -> Result<Allocation, (usize, Error)> {
    let mut items = items.to_vec();
    let areas = free_areas(&items, usable);
    let mut work = Allocator {
        within: vec![None; items.len()],
        size: vec![None; items.len()],
        padding: vec![None; items.len()],
        dropped: Vec::new(),
        ignored: Vec::new(),
        items: &mut items,
        usable,
        areas,
    };
    while let Err((item, error)) = work.fit() {
        if !work.drop_one_priority() {
            return Err((item, error));
        }
    }
    work.share();
    Ok(Allocation {
        places: work.places(),
        order: work.order(),
        dropped: work.dropped,
        ignored: work.ignored,
    })
}

/// How much is free behind an existing partition, in whole grains.
pub(super) fn padding_behind(span: Span, all: &[Item], usable: Usable) -> Bytes {
    let end = span.offset + span.size;
    let starts = all.iter().filter_map(|item| item.existing).map(|other| other.offset);
    let next = starts.filter(|start| *start >= end).min().unwrap_or(usable.end);
    next.round_down(usable.grain).saturating_sub(end.round_up(usable.grain))
}

fn free_areas(items: &[Item], usable: Usable) -> Vec<Area> {
    let area = |after, size| Area { after, size, allocated: Bytes::ZERO };
    let first = items.iter().filter_map(|item| item.existing).map(|span| span.offset).min();
    let before = first.unwrap_or(usable.end).min(usable.end).saturating_sub(usable.start);
    let mut areas = Vec::new();
    for (number, item) in items.iter().enumerate() {
        let Some(span) = item.existing else { continue };
        let behind = padding_behind(span, items, usable);
        if behind > Bytes::ZERO {
            areas.push(area(Some(number), behind));
        }
    }
    // Last, as systemd-repart has it: of two areas that are as large the other one is filled first.
    areas.extend(Some(area(None, before)).filter(|area| area.size > Bytes::ZERO));
    areas
}

/// What is being shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Those that no definition is about, which stay as they are.
    Foreign,
    /// Those that need more than their share.
    Overcharge,
    /// Those that take less than their share.
    Undercharge,
    /// All others.
    Distribute,
}

impl Allocator<'_> {
    fn item(&self, number: usize) -> Option<&Item> {
        self.items.get(number).filter(|_| !self.dropped.contains(&number))
    }

    fn least(&self, item: &Item) -> Bytes {
        item.least_with_padding(self.usable.grain)
    }

    /// What an area can still give to new partitions.
    fn available(&self, area: &Area) -> Option<Bytes> {
        let free = area.size.saturating_sub(area.allocated);
        let Some((item, span)) =
            area.after.and_then(|after| self.items.get(after)).and_then(|item| Some((item, item.existing?)))
        else {
            return Some(free);
        };
        let end = (span.offset + span.size).round_up(self.usable.grain) + free;
        end.checked_sub((span.offset + self.least(item)).round_up(self.usable.grain))
    }

    /// Gives each new partition its minimum of the smallest area that has so much.
    fn fit(&mut self) -> Result<(), (usize, Error)> {
        self.areas.iter_mut().for_each(|area| area.allocated = Bytes::ZERO);
        let mut areas = std::mem::take(&mut self.areas);
        areas.sort_by_key(|area| self.available(area));
        self.areas = areas;
        self.within.fill(None);
        for number in 0..self.areas.len() {
            let Some(area) = self.areas.get(number).copied() else { continue };
            if let Some(after) = area.after {
                self.within[after] = Some(number);
                if self.available(&area).is_none() {
                    return Err((after, self.misfit(after, area.size)));
                }
            }
        }
        for number in 0..self.items.len() {
            let Some(item) = self.item(number).filter(|item| !item.foreign) else { continue };
            let needed = self.least(item);
            if let Some(span) = item.existing {
                // It grows into what is free behind it, and no further.
                let room = span.size + padding_behind(span, self.items, self.usable);
                if room < needed {
                    return Err((number, self.misfit(number, room)));
                }
                continue;
            }
            let found =
                self.areas.iter().position(|area| self.available(area).is_some_and(|free| free >= needed));
            let Some(found) = found else {
                let largest =
                    self.areas.iter().filter_map(|area| self.available(area)).max().unwrap_or_default();
                return Err((number, self.misfit(number, largest)));
            };
            self.within[number] = Some(found);
            if let Some(area) = self.areas.get_mut(found) {
                area.allocated += needed;
            }
        }
        Ok(())
    }

    fn misfit(&self, number: usize, largest: Bytes) -> Error {
        let needed = self.items.get(number).map_or(Bytes::ZERO, |item| self.least(item));
        let all: Bytes =
            (0..self.items.len()).filter_map(|number| self.item(number)).map(|item| self.least(item)).sum();
        let missing = needed.saturating_sub(largest);
        Error::new(Kind::Capacity, "a partition does not fit on the disk")
            .expected(format!("{} free in one piece for it and the space behind it", needed.human()))
            .found(format!("{}, {} too little", largest.human(), missing.human()))
            .why(format!("all partitions together need {}", all.human()))
            .needs(all)
    }

    /// Drops the partitions with the largest priority above 0; one that exists stays as it is instead.
    fn drop_one_priority(&mut self) -> bool {
        let largest = (0..self.items.len())
            .filter_map(|number| self.item(number))
            .filter(|item| !item.foreign)
            .map(|item| item.priority)
            .max()
            .unwrap_or(0);
        if largest <= 0 {
            return false;
        }
        for number in 0..self.items.len() {
            let Some(item) = self.item(number).filter(|item| !item.foreign && item.priority == largest)
            else {
                continue;
            };
            let Some(span) = item.existing else {
                self.dropped.push(number);
                continue;
            };
            if let Some(item) = self.items.get_mut(number) {
                item.leave(span);
            }
            self.ignored.push(number);
        }
        true
    }

    /// Shares out what is left of each area.
    fn share(&mut self) {
        for area in 0..self.areas.len() {
            self.share_area(area);
        }
    }

    /// The partitions in an area, that which it follows first: systemd-repart 262.1 gives it its share before all others,
    /// wherever its definition stands.
    fn members(&self, area: usize) -> Vec<usize> {
        let mut members: Vec<usize> = (0..self.items.len())
            .filter(|number| self.within.get(*number) == Some(&Some(area)) && self.item(*number).is_some())
            .collect();
        let after = self.areas.get(area).and_then(|area| area.after);
        members.sort_by_key(|member| Some(*member) != after);
        members
    }

    /// New partitions in the order of their areas (`context_place_partitions`).
    fn order(&self) -> Vec<usize> {
        let is_new = |member: &usize| self.item(*member).is_some_and(|item| item.existing.is_none());
        (0..self.areas.len()).flat_map(|area| self.members(area)).filter(is_new).collect()
    }

    fn share_area(&mut self, number: usize) {
        let Some(area) = self.areas.get(number).copied() else { return };
        let members = self.members(number);
        let mut weights: u64 = members
            .iter()
            .filter_map(|member| self.items.get(*member))
            .map(|item| u64::from(item.weight) + u64::from(item.padding_weight))
            .sum();
        let before = area.after.and_then(|after| self.items.get(after)?.existing);
        // The area and the partition before it, up to the grain.
        let grain = self.usable.grain;
        let mut span = area.size
            + before.map_or(Bytes::ZERO, |span| {
                (span.offset + span.size).round_up(grain).saturating_sub(span.offset)
            });
        for phase in [Phase::Foreign, Phase::Overcharge, Phase::Undercharge, Phase::Distribute] {
            while self.pass(&members, phase, &mut span, &mut weights) {}
        }
        let last = members.iter().rev().copied().find(|member| Some(*member) != area.after).or(area.after);
        for member in area.after.into_iter().chain(members) {
            self.grow(member, &mut span);
        }
        // Nobody wants the rest: it is left free behind the last of them, in whole grains.
        if let Some(Some(Some(padding))) = last.map(|last| self.padding.get_mut(last)) {
            *padding += span.round_down(grain);
        }
    }

    /// One pass over the partitions of an area; whether another one may find more.
    fn pass(&mut self, members: &[usize], phase: Phase, span: &mut Bytes, weights: &mut u64) -> bool {
        let grain = self.usable.grain;
        let mut again = false;
        for member in members {
            let Some(item) = self.items.get(*member) else { continue };
            let wishes = [
                (&mut self.size, item.weight, item.least, item.most),
                (&mut self.padding, item.padding_weight, item.least_padding, item.most_padding),
            ];
            for (given, weight, least, most) in wishes {
                let Some(given) = given.get_mut(*member).filter(|given| given.is_none()) else { continue };
                let share = share(*span, weight, *weights);
                let most = most.map(|most| most.max(least));
                let size = match phase {
                    // The size alone: what is free behind it may change.
                    Phase::Foreign if item.foreign && most == Some(least) => least,
                    Phase::Overcharge if least > share => least,
                    Phase::Undercharge if most.is_some_and(|most| most < share) => most.unwrap_or_default(),
                    Phase::Distribute => {
                        let share = share.round_down(grain).max(least);
                        most.map_or(share, |most| share.min(most))
                    }
                    Phase::Foreign | Phase::Overcharge | Phase::Undercharge => continue,
                };
                *given = Some(size);
                *span = span.saturating_sub(size.round_up(grain));
                *weights = weights.saturating_sub(u64::from(weight));
                again |= matches!(phase, Phase::Overcharge | Phase::Undercharge);
            }
        }
        again
    }

    /// Gives a partition what is left, up to its maximum.
    fn grow(&mut self, number: usize, span: &mut Bytes) {
        let grain = self.usable.grain;
        let Some(item) = self.items.get(number).filter(|item| !item.foreign) else { return };
        let Some(Some(size)) = self.size.get_mut(number) else { return };
        let most = item.most.map(|most| most.max(item.least));
        let larger = (*size + *span).round_down(grain).max(*size);
        let larger = most.map_or(larger, |most| larger.min(most)).max(*size);
        *span = span.saturating_sub((larger.saturating_sub(*size)).round_up(grain));
        *size = larger;
    }

    /// Where everything lies.
    fn places(&self) -> Vec<Option<Place>> {
        let grain = self.usable.grain;
        let mut places = vec![None; self.items.len()];
        for (number, item) in self.items.iter().enumerate() {
            let Some(span) = item.existing else { continue };
            let behind = padding_behind(span, self.items, self.usable);
            let size = self.size[number].unwrap_or(span.size);
            let padding = self.padding[number].unwrap_or(behind);
            places[number] = Some(Place { span: Span { offset: span.offset, size }, padding });
        }
        for (number, area) in self.areas.iter().enumerate() {
            let mut start = match area.after.and_then(|after| places.get(after).copied().flatten()) {
                Some(Place { span, padding }) => span.offset + span.size + padding,
                None => self.usable.start,
            };
            for member in self.members(number).into_iter().filter(|member| Some(*member) != area.after) {
                let (size, padding) =
                    (self.size[member].unwrap_or_default(), self.padding[member].unwrap_or_default());
                let offset = start.round_up(grain);
                places[member] = Some(Place { span: Span { offset, size }, padding });
                start = offset + size + padding;
            }
        }
        places
    }
}

/// The part of `span` that `weight` has of `sum`.
fn share(span: Bytes, weight: u32, sum: u64) -> Bytes {
    match u128::from(weight) {
        0 => Bytes::ZERO,
        weight if weight >= u128::from(sum) => span,
        // Smaller than `span`, so it fits.
        weight => {
            Bytes::new(u64::try_from(u128::from(span.get()) * weight / u128::from(sum)).unwrap_or(u64::MAX))
        }
    }
}
