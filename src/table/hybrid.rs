//! Hybrid MBR: up to three partitions of a GPT shown to systems that know only an MBR, as `sgdisk --hybrid` writes it.
//!
//! Source: gdisk 1.0.9, `GPTDataTextUI::MakeHybrid` and `MBRData::MakePart`. No standard has it; UEFI allows the
//! protective MBR only, so this is for those who ask for it.

use super::mbr::{self, Entry};
use super::{Placed, Plan, Refusal, Request};

/// How many partitions of the GPT fit beside the entry that protects it.
const SHOWN: usize = 3;

/// What can be asked of a hybrid MBR, before anything is placed.
pub(super) fn check(request: &Request, numbers: &[u32]) -> Result<(), Refusal> {
    let shown = &request.hybrid;
    if shown.len() > SHOWN {
        return Err(Refusal::disk("a hybrid MBR shows too many partitions")
            .about("hybrid")
            .expected(format!("at most {SHOWN}"))
            .found(shown.len())
            .why("an MBR has four entries, and the first protects the GPT"));
    }
    if !shown.is_empty() && request.sector_size != 512 {
        return Err(Refusal::disk("a hybrid MBR is for sectors of 512 bytes only")
            .about("hybrid")
            .expected("sector_size 512")
            .found(request.sector_size));
    }
    for (at, number) in shown.iter().enumerate() {
        let Some(partition) = numbers.iter().position(|own| own == number) else {
            return Err(Refusal::disk("a hybrid MBR shows a partition that does not exist")
                .about("hybrid")
                .expected(format!("the number of a partition: {}", list(numbers)))
                .found(number));
        };
        if shown.iter().take(at).any(|earlier| earlier == number) {
            return Err(Refusal::disk("a hybrid MBR shows a partition twice")
                .about("hybrid")
                .expected("each number once")
                .found(list(shown)));
        }
        let kind = request.partitions.get(partition).map(|wish| wish.kind);
        if kind.and_then(super::Type::hybrid).is_none() {
            let refusal = Refusal::of(partition, "its type has no byte for a hybrid MBR")
                .about("type")
                .expected("a type with a name, such as esp, linux or microsoft-basic-data");
            return Err(match kind {
                Some(kind) => refusal.found(kind),
                None => refusal,
            });
        }
    }
    let active = |(at, wish): (usize, &super::Wish)| {
        (wish.active && !numbers.get(at).is_some_and(|number| shown.contains(number))).then_some(at)
    };
    match request.partitions.iter().enumerate().find_map(active) {
        Some(at) => Err(Refusal::of(at, "it is active, but the hybrid MBR does not show it")
            .about("attributes")
            .expected("its number under `hybrid`")
            .found(list(shown))),
        None => Ok(()),
    }
}

/// Shown partitions lie where 32 bits reach.
pub(super) fn check_reach(request: &Request, placed: &[Placed]) -> Result<(), Refusal> {
    for (at, partition) in placed.iter().enumerate() {
        if request.hybrid.contains(&partition.number) && partition.end() > mbr::reach() {
            return Err(Refusal::of(at, "a hybrid MBR cannot reach the end of the partition")
                .expected(format!("an end at or before {}", mbr::reach()))
                .found(partition.end())
                .why("an MBR counts sectors of 512 bytes with 32 bits"));
        }
    }
    Ok(())
}

/// The protective entry from sector 1 to before the first partition that is shown, then these in the order given.
pub(super) fn entries(plan: &Plan) -> [Entry; 4] {
    let find = |number: &u32| plan.partitions.iter().find(|partition| partition.number == *number);
    let shown: Vec<&Placed> = plan.hybrid.iter().filter_map(find).collect();
    let first = shown.iter().map(|partition| plan.sectors(partition.offset)).min().unwrap_or_default();
    let mut slots = [Entry::default(); 4];
    slots[0] =
        Entry { kind: mbr::PROTECTIVE, start: 1, sectors: first.saturating_sub(1), ..Entry::default() };
    for (slot, partition) in slots.iter_mut().skip(1).zip(shown) {
        *slot = Entry::of(plan, partition, partition.kind.hybrid().unwrap_or_default(), 0);
    }
    slots
}

fn list(numbers: &[u32]) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}
