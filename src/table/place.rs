//! Calculates number, place and length of every partition.
//!
//! Partitions with a start keep it. The others follow in the order of the list, each at the first multiple of
//! [`Request::align`] after everything that is listed before it where it does not overlap one with a start. At first,
//! a partition that fills counts as one grain. Then the partitions after it in the same gap move to the end
//! of the gap, and it takes the space that is left. A gap ends at the next partition that cannot move, or at
//! the end of the disk.

use std::collections::BTreeMap;

use super::{Area, Array, Hybrid, Placed, Plan, Refusal, Request, Scheme, Size, Wish, gpt, hybrid, mbr};
use crate::error::{Error, Subject};
use crate::units::{Bytes, MIB, Sectors};

/// The alignment of places that are not given, and of the end of a partition that fills: 1 MiB, as in every
/// partitioning tool. It is a multiple of all common erase blocks and stripes.
pub const GRAIN: u64 = MIB;

/// A partition's place while it is calculated.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// Where it begins, including the space before it that a logical partition needs.
    from: Bytes,
    start: Bytes,
    end: Bytes,
}

impl Span {
    fn meets(&self, other: &Self) -> bool {
        self.from < other.end && other.from < self.end
    }
}

/// Decides the places of everything.
///
/// # Errors
/// [`Kind::Manifest`](crate::error::Kind::Manifest) with the partitions in question, for anything that the
/// table cannot express or the disk cannot hold, and for an overlap.
pub fn place(request: &Request) -> Result<Plan, Error> {
    Ok(plan(request)?)
}

/// The numbers of the partitions, which do not depend on their sizes and places.
///
/// # Errors
/// [`Kind::Manifest`](crate::error::Kind::Manifest) with the partitions in question, where the table has no such slots.
pub fn numbers(request: &Request) -> Result<Vec<u32>, Error> {
    Ok(match request.scheme {
        Scheme::None => request.partitions.iter().map(|_| 1).collect(),
        Scheme::Gpt => gpt::numbers(request)?,
        Scheme::Mbr => mbr::numbers(request)?.0,
    })
}

fn plan(request: &Request) -> Result<Plan, Refusal> {
    check_disk(request)?;
    let (area, numbers, extended) = match request.scheme {
        Scheme::None => return whole(request),
        Scheme::Gpt => {
            check_wishes(request, |at, wish| gpt::check(request, at, wish))?;
            gpt::check_guids(request)?;
            let numbers = gpt::numbers(request)?;
            hybrid::check(request, &numbers)?;
            (gpt::area(request)?, numbers, None)
        }
        Scheme::Mbr => {
            check_wishes(request, mbr::check)?;
            let (numbers, extended) = mbr::numbers(request)?;
            (mbr::area(request)?, numbers, extended)
        }
    };
    let mut spans = arrange(request, &area);
    check_area(request, &area, &spans)?;
    fill(request, &area, &mut spans)?;
    check_overlap(request, &spans)?;
    let partitions: Vec<Placed> = request
        .partitions
        .iter()
        .zip(&spans)
        .zip(&numbers)
        .map(|((wish, span), number)| placed(request, wish, *number, span.start, span.end))
        .collect::<Result<_, Refusal>>()?;
    hybrid::check_reach(request, &partitions)?;
    let extended = match extended {
        Some(number) => Some(mbr::extended(number, &partitions)?),
        None => None,
    };
    // Without partitions nothing is used.
    let used = partitions.iter().map(Placed::end).max().unwrap_or_default();
    let length = request.disk_size.unwrap_or_else(|| {
        // Without partitions one sector stays usable.
        (used.max(area.start + Bytes::new(request.sector_size)) + area.tail).round_up(GRAIN)
    });
    let sectors = |bytes: Bytes| Sectors::new(bytes.get() / request.sector_size);
    // The disk is longer than its tail, because `area` refuses a shorter one.
    let usable = length.saturating_sub(area.tail).min(area.end);
    Ok(Plan {
        scheme: request.scheme,
        sector_size: request.sector_size,
        length,
        guid: request.guid,
        signature: request.signature,
        first_usable: sectors(area.start),
        last_usable: sectors(usable).saturating_sub(Sectors::new(1)),
        array: request.array,
        hybrid: request.hybrid.clone(),
        extended,
        partitions,
    })
}

fn placed(request: &Request, wish: &Wish, number: u32, start: Bytes, end: Bytes) -> Result<Placed, Refusal> {
    let length = end.checked_sub(start).filter(|length| *length > Bytes::ZERO);
    Ok(Placed {
        number,
        offset: start,
        length: length.ok_or_else(|| Error::bug("a partition ends where it begins"))?,
        kind: wish.kind,
        guid: wish.guid,
        label: wish.label.clone(),
        attributes: wish.attributes,
        active: wish.active,
        logical: wish.logical,
        lead: lead(request, wish),
    })
}

/// Checks the disk without its partitions.
fn check_disk(request: &Request) -> Result<(), Refusal> {
    let sector = request.sector_size;
    if !matches!(sector, 512 | 1024 | 2048 | 4096) {
        return Err(Refusal::disk("no disk has sectors of this size")
            .about("sector_size")
            .expected("512, 1024, 2048 or 4096")
            .found(sector));
    }
    if request.align == Bytes::ZERO || !request.align.is_multiple_of(sector) {
        return Err(Refusal::disk("partitions cannot be aligned to this")
            .about("align")
            .expected(format!("a multiple of {sector} bytes"))
            .found(request.align.in_full()));
    }
    if let Some(size) = request.disk_size {
        if !size.is_multiple_of(sector) {
            return Err(Refusal::disk("the size of the disk is not a whole number of sectors")
                .about("size")
                .expected(format!("a multiple of {sector} bytes"))
                .found(size.in_full())
                .or_hint(size.unit_forgotten()));
        }
        if size > Bytes::LIMIT {
            return Err(Refusal::disk("the disk is larger than a file can be")
                .about("size")
                .expected(format!("at most {}", Bytes::LIMIT.in_full()))
                .found(size.in_full()));
        }
    }
    if let Some(number) = request.extended.filter(|_| request.scheme != Scheme::Mbr) {
        return Err(Refusal::disk("only an MBR has an extended partition")
            .about("extended")
            .expected("no extended, or table mbr")
            .found(number));
    }
    if request.scheme != Scheme::Gpt {
        if let Some(first) = request.first_lba {
            return Err(Refusal::disk("only a GPT says which sector is the first usable one")
                .about("first_lba")
                .expected("no first_lba, or table gpt")
                .found(first.get()));
        }
        if request.array != Array::default() {
            return Err(Refusal::disk("only a GPT has an array of entries")
                .about("entries")
                .expected("neither entries nor entries_at nor gpt_backup, or table gpt"));
        }
        if request.hybrid != Hybrid::default() {
            return Err(Refusal::disk("only a GPT can have a hybrid MBR")
                .about("hybrid")
                .expected("no `hybrid`, or table gpt"));
        }
    }
    Ok(())
}

/// Checks partitions without their places, by the rules of all tables and of the present one.
fn check_wishes(
    request: &Request,
    table: impl Fn(usize, &Wish) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    for (at, wish) in request.partitions.iter().enumerate() {
        check_size(request, at, wish)?;
        table(at, wish)?;
    }
    check_active(request)
}

fn check_size(request: &Request, at: usize, wish: &Wish) -> Result<(), Refusal> {
    let sector = request.sector_size;
    let whole = |name: &'static str, value: Bytes| {
        if value.is_multiple_of(sector) {
            return Ok(());
        }
        Err(Refusal::of(at, &format!("the {name} is not a whole number of sectors"))
            .about(name)
            .expected(format!("a multiple of {sector} bytes"))
            .found(value.in_full())
            .or_hint(value.unit_forgotten()))
    };
    if let Some(start) = wish.start {
        whole("start", start)?;
    }
    match wish.size {
        Size::Exactly(size) => {
            whole("size", size)?;
            if size == Bytes::ZERO {
                return Err(Refusal::of(at, "a partition cannot be empty")
                    .about("size")
                    .expected(format!("a size of at least {sector} bytes"))
                    .found(0));
            }
        }
        Size::Fill if request.disk_size.is_none() => {
            return Err(Refusal::of(at, "there is nothing to fill on a disk of size auto")
                .about("size")
                .expected("a size for the disk, or for the partition")
                .why("a disk of size auto is as large as its partitions, so none can take what is left"));
        }
        Size::Fill => {}
    }
    Ok(())
}

/// A BIOS boots one primary partition.
fn check_active(request: &Request) -> Result<(), Refusal> {
    let active = |(at, wish): (usize, &Wish)| (wish.active && !wish.logical).then_some(at);
    let mut active = request.partitions.iter().enumerate().filter_map(active);
    match (active.next(), active.next()) {
        (Some(first), Some(second)) => Err(Refusal::both(second, "is active beside", first)
            .about("attributes")
            .expected("at most one active primary partition")
            .why("boot code that finds two calls the table invalid")),
        _ => Ok(()),
    }
}

/// The slots that partitions chose; each must be between 1 and `last` and be chosen once.
pub(super) fn taken(
    request: &Request,
    last: u32,
    chooses: impl Fn(&Wish) -> bool,
) -> Result<BTreeMap<u32, usize>, Refusal> {
    let mut taken = BTreeMap::new();
    for (at, wish) in request.partitions.iter().enumerate().filter(|(_, wish)| chooses(wish)) {
        let Some(number) = wish.number else { continue };
        if !(1..=last).contains(&number) {
            return Err(Refusal::of(at, "the table has no such slot")
                .about("number")
                .expected(format!("a number from 1 to {last}"))
                .found(number));
        }
        if let Some(first) = taken.insert(number, at) {
            return Err(Refusal::both(at, "has the same number as", first).about("number").found(number));
        }
    }
    Ok(taken)
}

/// Without a table: one partition, which is the whole disk.
fn whole(request: &Request) -> Result<Plan, Refusal> {
    let [wish] = request.partitions.as_slice() else {
        let refusal = Refusal::disk("a disk without a partition table is one partition")
            .about("table")
            .expected("exactly one partition, or table gpt or mbr")
            .found(request.partitions.len());
        return Err(Refusal { partitions: (1..request.partitions.len()).collect(), ..refusal });
    };
    check_size(request, 0, wish)?;
    let refused = [
        (wish.start.is_some_and(|start| start != Bytes::ZERO), "begins at 0"),
        (wish.number.is_some_and(|number| number != 1), "has no number"),
        (!wish.label.is_empty(), "has no label"),
        (wish.attributes != 0, "has no attributes"),
        (wish.active, "has no active flag"),
        (wish.logical, "is not logical"),
    ];
    if let Some((_, rule)) = refused.iter().find(|(is, _)| *is) {
        return Err(Refusal::of(0, &format!("without a partition table it {rule}"))
            .expected("table gpt or mbr, or only type, size and contents"));
    }
    let length = match (wish.size, request.disk_size) {
        (Size::Exactly(size), Some(disk)) if size != disk => {
            return Err(Refusal::of(0, "without a partition table it is as large as the disk")
                .about("size")
                .expected(disk)
                .found(size)
                .hint("leave one of the two sizes out"));
        }
        (Size::Exactly(size), _) => size,
        // A size of zero is refused below.
        (Size::Fill, disk) => disk.unwrap_or_default(),
    };
    if length == Bytes::ZERO || length > Bytes::LIMIT {
        return Err(Refusal::of(0, "no disk has this size")
            .about("size")
            .expected(format!("1 sector to {}", Bytes::LIMIT.in_full()))
            .found(length.in_full()));
    }
    // A disk of less than a sector has no last sector; without a table nobody reads it.
    let last = Sectors::new(length.get() / request.sector_size).saturating_sub(Sectors::new(1));
    Ok(Plan {
        scheme: Scheme::None,
        sector_size: request.sector_size,
        length,
        guid: request.guid,
        signature: request.signature,
        first_usable: Sectors::ZERO,
        last_usable: last,
        array: request.array,
        hybrid: Hybrid::default(),
        extended: None,
        partitions: vec![placed(request, wish, 1, Bytes::ZERO, length)?],
    })
}

/// The space that a partition needs before it.
fn lead(request: &Request, wish: &Wish) -> Bytes {
    if wish.logical { request.align } else { Bytes::ZERO }
}

/// Places everything. A partition that fills gets one grain, or the space up to the next multiple of a grain.
fn arrange(request: &Request, area: &Area) -> Vec<Span> {
    let fixed: Vec<Option<Span>> = request.partitions.iter().map(|wish| fixed(request, wish)).collect();
    let mut cursor = area.start;
    let mut spans = Vec::with_capacity(fixed.len());
    for (wish, own) in request.partitions.iter().zip(&fixed) {
        let span = own.unwrap_or_else(|| {
            let length = match wish.size {
                Size::Exactly(size) => size,
                Size::Fill => request.align,
            };
            let at = |from: Bytes| {
                let from = from.round_up(request.align.get());
                let start = from + lead(request, wish);
                Span { from, start, end: start + length }
            };
            let mut span = at(cursor);
            // Each step passes a partition with a start for good, so there are no more steps than partitions.
            while let Some(obstacle) = fixed.iter().flatten().find(|fixed| fixed.meets(&span)) {
                span = at(obstacle.end);
            }
            span
        });
        cursor = cursor.max(span.end);
        spans.push(span);
    }
    spans
}

/// The place of a partition with a start.
fn fixed(request: &Request, wish: &Wish) -> Option<Span> {
    let start = wish.start?;
    let end = match wish.size {
        Size::Exactly(size) => start + size,
        Size::Fill => (start + Bytes::new(request.sector_size)).round_up(request.align.get()),
    };
    // If there is too little space before the start, the place lies in the table, which is refused later.
    Some(Span { from: start.saturating_sub(lead(request, wish)), start, end })
}

/// A place for people: bytes as a manifest has them, and the sector.
fn shown(request: &Request, bytes: Bytes) -> String {
    let (human, sector) = (bytes.human(), bytes.get() / request.sector_size);
    match human.contains('.') {
        true => format!("{human} ({} bytes, sector {sector})", bytes.get()),
        false => format!("{human} (sector {sector})"),
    }
}

/// Checks that everything lies where the table allows it.
fn check_area(request: &Request, area: &Area, spans: &[Span]) -> Result<(), Refusal> {
    for (at, (wish, span)) in request.partitions.iter().zip(spans).enumerate() {
        let early = span.from < area.start;
        // A partition that fills ends where there is space; if there is none, `fill` reports it.
        if !early && (span.end <= area.end || wish.size == Size::Fill) {
            continue;
        }
        let refusal = Refusal::of(at, "it lies outside of what the table lets partitions use")
            .about(if wish.start.is_some() { "start" } else { "size" })
            .expected(if early {
                format!("a place that begins at or behind {}", shown(request, area.start))
            } else {
                format!("a place that ends at or before {}", shown(request, area.end))
            })
            .found(format!("from {} to {}", shown(request, span.from), shown(request, span.end)));
        return Err(if early && wish.logical {
            refusal.why(format!(
                "the boot record of a logical partition lies {} before it",
                request.align.human()
            ))
        } else if early {
            refusal.why("the table itself is there")
        } else if request.disk_size.is_some() && !area.beyond {
            let least = (span.end + area.tail).round_up(GRAIN);
            let fill = request.partitions.iter().any(|wish| wish.size == Size::Fill);
            let disk = if fill { "larger than" } else { "of" };
            refusal.why(area.why).hint(format!("a disk {disk} {least} would hold it"))
        } else {
            refusal.why(area.why)
        });
    }
    Ok(())
}

/// Gives each partition that fills the rest of its gap.
fn fill(request: &Request, area: &Area, spans: &mut [Span]) -> Result<(), Refusal> {
    let wishes = &request.partitions;
    let fills = |at: usize| wishes.get(at).is_some_and(|wish| wish.size == Size::Fill);
    for at in (0..wishes.len()).filter(|at| fills(*at)) {
        let Some(own) = spans.get(at).copied() else { continue };
        let others = || wishes.iter().zip(spans.iter()).enumerate().filter(|(other, _)| *other != at);
        let next = others().filter(|(_, (other, span))| other.start.is_some() && span.from >= own.start);
        let next = next.map(|(other, (_, span))| (span.from, Some(other))).min();
        let (limit, next) = next.unwrap_or((area.end, None));
        if next.is_none() && area.beyond {
            return Err(Refusal::of(at, "what is left of the disk is more than an MBR can address")
                .about("size")
                .expected(format!("a size that ends at or before {}", shown(request, area.end)))
                .why(area.why)
                .hint("table gpt has no such limit"));
        }
        let mut movers: Vec<usize> = others()
            .filter(|(_, (other, span))| other.start.is_none() && span.from >= own.start && span.end <= limit)
            .map(|(other, _)| other)
            .collect();
        if let Some(second) = movers.iter().find(|other| fills(**other)) {
            return Err(Refusal::both(*second, "fills the same gap as", at)
                .about("size")
                .expected("one partition of size fill between two that have a start")
                .why("what is left cannot be given to both"));
        }
        // The partitions without a start are in the order of the list, so this goes from the last to the
        // first.
        movers.reverse();
        let mut end = limit;
        for mover in movers {
            if let (Some(span), Some(wish)) = (spans.get_mut(mover), wishes.get(mover)) {
                let length = span.end.saturating_sub(span.start);
                // If they do not fit, they end up before the start of the gap, and nothing is left to fill.
                let from = end.saturating_sub(length + lead(request, wish)).round_down(request.align.get());
                *span = Span {
                    from,
                    start: from + lead(request, wish),
                    end: from + lead(request, wish) + length,
                };
                end = from;
            }
        }
        end = end.round_down(request.align.get());
        if end <= own.start {
            let before =
                next.map_or("the end of the disk".to_owned(), |next| Subject::Partition(next).to_string());
            return Err(Refusal::of(at, "nothing is left for it to fill")
                .about("size")
                .expected(format!(
                    "at least one boundary of {} between {} and {before}",
                    request.align.human(),
                    shown(request, own.start)
                ))
                .found(format!("{before} at {}", shown(request, limit))));
        }
        if let Some(span) = spans.get_mut(at) {
            span.end = end;
        }
    }
    Ok(())
}

/// Checks that no two partitions overlap.
fn check_overlap(request: &Request, spans: &[Span]) -> Result<(), Refusal> {
    let mut order: Vec<(usize, &Span)> = spans.iter().enumerate().collect();
    order.sort_by_key(|(_, span)| span.from);
    let mut furthest: Option<(usize, &Span)> = None;
    for (at, span) in order {
        if let Some((before, other)) = furthest
            && span.from < other.end
        {
            // The error is about the one that is listed later.
            let (late, early) = (at.max(before), at.min(before));
            let show = |index: usize, span: &Span| {
                let record = if span.from < span.start { ", with its boot record" } else { "" };
                let (from, end) = (shown(request, span.from), shown(request, span.end));
                format!("{} from {from} to {end}{record}", Subject::Partition(index))
            };
            let refusal = Refusal::both(late, "overlaps", early)
                .about("start")
                .expected("places that share no sector")
                .found(format!("{}; {}", show(before, other), show(at, span)))
                .hint("without a start a partition gets the next place that is free");
            return Err(match span.from < span.start || other.from < other.start {
                true => refusal.why(format!(
                    "the boot record of a logical partition stands before it, and has {} of its own",
                    request.align
                )),
                false => refusal,
            });
        }
        if furthest.is_none_or(|(_, other)| span.end > other.end) {
            furthest = Some((at, span));
        }
    }
    Ok(())
}
