//! Hybrid MBR: up to three partitions of a GPT shown to systems that know only an MBR, as `sgdisk --hybrid` writes it.
//!
//! Source: gdisk 1.0.9, `GPTDataTextUI::MakeHybrid` and `MBRData::MakePart`. No standard has it. UEFI only
//! allows the protective MBR, so a hybrid MBR is written only on request.

use super::format::{ACTIVE, BootRecord, PROTECTIVE, PartitionRecord, RECORD_AT};
use super::grow::{Last, Moved};
use super::mbr::{self, Entry};
use super::read::Table;
use super::{Placed, Plan, Refusal, Request};
use crate::error::{Error, Result, Warning};
use crate::image::Slice;
use crate::units::Sectors;
use crate::wire::Wire;

/// How many partitions of the GPT fit beside the protective entry.
const SHOWN: usize = 3;

/// What a hybrid MBR shows of a GPT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hybrid {
    /// Numbers of up to three partitions, in its order; none for an MBR that only protects the GPT.
    pub shown: Vec<u32>,
    /// The bytes of their types, one for each; none for those that their types in the GPT stand for.
    pub kinds: Vec<u8>,
    /// Whether the entry that protects the GPT is behind those of the partitions, and not before them. Some firmware takes
    /// only the first entry for the partition that it boots.
    pub protective_last: bool,
    /// Signature of the disk; 0 for none.
    pub signature: u32,
}

impl From<Vec<u32>> for Hybrid {
    fn from(shown: Vec<u32>) -> Self {
        Self { shown, ..Self::default() }
    }
}

impl Hybrid {
    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.shown.is_empty()
    }

    /// The byte for the partition at this place of the list, whose type in the GPT is `kind`.
    fn kind(&self, at: usize, kind: super::Type) -> Option<u8> {
        self.kinds.get(at).copied().or_else(|| kind.hybrid())
    }

    /// Refuses what there is of a hybrid MBR that shows nothing, and types that are no partitions'.
    fn check(&self) -> Result<(), Refusal> {
        let only = |key, there| (there && self.is_empty()).then_some(key);
        let lone = only("hybrid_types", !self.kinds.is_empty())
            .or_else(|| only("protective_last", self.protective_last))
            .or_else(|| only("hybrid_signature", self.signature != 0));
        if let Some(key) = lone {
            return Err(Refusal::disk(format!("`{key}` is for a hybrid MBR"))
                .about(key)
                .expected("numbers of partitions under `hybrid`"));
        }
        if !self.kinds.is_empty() && self.kinds.len() != self.shown.len() {
            return Err(Refusal::disk("the types of a hybrid MBR are not as many as its partitions")
                .about("hybrid_types")
                .expected(format!("{} types", self.shown.len()))
                .found(self.kinds.len()));
        }
        match self.kinds.iter().find(|kind| mbr::RESERVED.contains(kind)) {
            Some(kind) => Err(Refusal::disk("a hybrid MBR shows no partition of this type")
                .about("hybrid_types")
                .expected("the type of a partition, such as 0x0c or 0x83")
                .found(format!("{kind:#04x}"))
                .why("it stands for an unused entry, an extended partition or the GPT")),
            None => Ok(()),
        }
    }
}

/// Checks a hybrid MBR before anything is placed.
pub(super) fn check(request: &Request, numbers: &[u32]) -> Result<(), Refusal> {
    request.hybrid.check()?;
    let shown = &request.hybrid.shown;
    if shown.len() > SHOWN {
        return Err(Refusal::disk("a hybrid MBR shows too many partitions")
            .about("hybrid")
            .expected(format!("at most {SHOWN}"))
            .found(shown.len())
            .why("an MBR has four entries, and one protects the GPT"));
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
        if kind.and_then(|kind| request.hybrid.kind(at, kind)).is_none() {
            let refusal =
                Refusal::of(partition, "its type has no byte for a hybrid MBR").about("type").expected(
                    "a type with a name, such as esp, linux or microsoft-basic-data, or `hybrid_types`",
                );
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

/// Checks that shown partitions are within reach of 32 bits.
pub(super) fn check_reach(request: &Request, placed: &[Placed]) -> Result<(), Refusal> {
    for (at, partition) in placed.iter().enumerate() {
        if request.hybrid.shown.contains(&partition.number) && partition.end() > mbr::reach() {
            return Err(Refusal::of(at, "a hybrid MBR cannot reach the end of the partition")
                .expected(format!("an end at or before {}", mbr::reach()))
                .found(partition.end())
                .why("an MBR counts sectors of 512 bytes with 32 bits"));
        }
    }
    Ok(())
}

/// The protective entry from sector 1 up to the first shown partition, before or behind the shown partitions in the given
/// order.
pub(super) fn entries(plan: &Plan) -> Result<[Entry; 4]> {
    let missing = |number: &u32| Error::bug(format!("the hybrid MBR cannot show partition {number}"));
    let mut slots = [Entry::default(); 4];
    let mut first = u64::MAX;
    let (ahead, protective) = match plan.hybrid.protective_last {
        true => (0, plan.hybrid.shown.len()),
        false => (1, 0),
    };
    for (at, number) in plan.hybrid.shown.iter().enumerate() {
        let slot = slots.get_mut(ahead + at).ok_or_else(|| missing(number))?;
        let partition = plan.partitions.iter().find(|partition| partition.number == *number);
        let partition = partition.ok_or_else(|| missing(number))?;
        let kind = plan.hybrid.kind(at, partition.kind);
        let kind = kind.ok_or_else(|| missing(number).found(partition.kind))?;
        *slot = Entry::of(plan, partition, kind, 0);
        first = first.min(plan.sectors(partition.offset));
    }
    // A partition begins after the table, and so after sector 1.
    let slot =
        slots.get_mut(protective).ok_or_else(|| Error::bug("a hybrid MBR has no slot left for its GPT"))?;
    *slot = Entry { kind: PROTECTIVE, start: 1, sectors: first - 1, ..Entry::default() };
    Ok(slots)
}

/// The numbers of the partitions of `table` that a boot record shows, in its order; empty for a protective
/// one.
pub(super) fn shown(record: &BootRecord, table: &Table) -> Vec<u32> {
    let sector = table.sector_size;
    let number = |record: &PartitionRecord| {
        let (start, count) =
            (Sectors::new(record.starting_lba.into()), Sectors::new(record.size_in_lba.into()));
        let same = |own: &&Placed| own.offset == start.bytes(sector) && own.length == count.bytes(sector);
        table.partitions.iter().find(same).map(|partition| partition.number)
    };
    let shown = |record: &&PartitionRecord| !record.is_unused() && record.os_type != PROTECTIVE;
    record.partition_record.iter().filter(shown).filter_map(number).collect()
}

/// Fits the boot record to a disk with last sector `end` and to its last partition.
pub(super) fn grow(
    disk: &Slice,
    table: &Table,
    end: u64,
    last: Option<&Last>,
    moved: &mut Moved,
) -> Result<()> {
    let Ok(record) = BootRecord::read(&disk.bytes(RECORD_AT, BootRecord::LENGTH)?) else { return Ok(()) };
    let alone = record.partition_record.iter().filter(|own| own.os_type != 0).count() == 1;
    for (slot, own) in (0..).zip(&record.partition_record) {
        if own.os_type == PROTECTIVE && alone && own.starting_lba == 1 && own.size_in_lba != u32::MAX {
            let size_in_lba = u32::try_from(end).unwrap_or(u32::MAX);
            mbr::put(
                &mut moved.patch,
                0,
                slot,
                &PartitionRecord { size_in_lba, ending_chs: [0xff; 3], ..own.clone() },
            );
        }
        let at = |lba: u32| Sectors::new(lba.into()).bytes(table.sector_size);
        let shows = |last: &&Last| last.offset == at(own.starting_lba) && last.from == at(own.size_in_lba);
        let Some(last) = last.filter(|last| own.os_type != PROTECTIVE && last.to > last.from).filter(shows)
        else {
            continue;
        };
        match mbr::longer(own, last)? {
            Some(longer) => mbr::put(&mut moved.patch, 0, slot, &longer),
            None => moved.notes.push(Warning(format!(
                "the hybrid MBR shows partition {} as long as it was: it reaches only the first {} of the disk",
                last.number,
                mbr::reach().human()
            ))),
        }
    }
    Ok(())
}

/// The faults of the boot record of a disk of `total` sectors with a GPT (UEFI 2.10, 5.2.3).
pub(super) fn faults(record: &BootRecord, table: &Table, total: u64) -> Vec<String> {
    let mut faults = Vec::new();
    let used: Vec<&PartitionRecord> = record.partition_record.iter().filter(|own| own.os_type != 0).collect();
    if let Some(own) = used.iter().find(|own| !matches!(own.boot_indicator, 0 | ACTIVE)) {
        faults.push(format!("a record of the MBR has the boot indicator {:#04x}", own.boot_indicator));
    }
    let Some(protective) = used.iter().find(|own| own.os_type == PROTECTIVE) else {
        faults.push("the MBR has no record that protects the GPT".to_owned());
        return faults;
    };
    if protective.starting_lba != 1 {
        faults.push(format!("the protective record begins in sector {}", protective.starting_lba));
    }
    let shown = shown(record, table).len();
    let others = used.iter().filter(|own| !own.is_unused() && own.os_type != PROTECTIVE).count();
    if others > shown {
        faults.push("the MBR has a partition that the GPT does not have".to_owned());
    }
    let size = u64::from(protective.size_in_lba);
    if others == 0 && size != u64::from(u32::MAX) && size + 1 != total {
        faults.push(format!("the protective record has {size} sectors of a disk of {total}"));
    }
    faults
}

fn list(numbers: &[u32]) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Type;
    use crate::table::tests::plan;

    #[test]
    fn a_partition_that_cannot_be_shown_is_a_bug() {
        let shown = |hybrid: Vec<u32>| entries(&Plan { hybrid: hybrid.into(), ..plan() });
        assert!(shown(vec![1, 2]).is_ok());
        for numbers in [vec![3], vec![1, 2, 1, 2]] {
            let error = shown(numbers).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Bug);
            assert!(error.what().contains("the hybrid MBR cannot show partition"), "{error}");
        }
        let mut plan = Plan { hybrid: vec![1].into(), ..plan() };
        plan.partitions[0].kind = Type::Guid(uuid::Uuid::from_u128(1));
        assert!(entries(&plan).unwrap_err().to_string().contains("cannot show partition 1"));
    }
}
