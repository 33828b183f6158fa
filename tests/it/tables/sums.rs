//! Placement at sizes that are never written: disks of 8 EiB - 1, sectors near 2^32. The answer to any
//! request is a plan that keeps every rule, or an error.

use diskwright::error::{Kind, Subject};
use diskwright::table::{GRAIN, Plan, Request, Scheme, Size, Wish, place};
use diskwright::units::{Bytes, MIB, Sectors};
use proptest::prelude::*;

use super::request::{gpt, mbr, wish};

/// Lengths and places in sectors: small ones, ones near the far ends of formats, and any.
fn sectors() -> impl Strategy<Value = u64> {
    let near = |middle: u64| (middle - 5000)..=(middle + 5000);
    prop_oneof![
        0..100_u64,
        1000..200_000_u64,
        near(1 << 32),
        near(1 << 31),
        (i64::MAX.unsigned_abs() / 512 - 5000)..=i64::MAX.unsigned_abs() / 512,
        0..=i64::MAX.unsigned_abs() / 512,
        // Whole MiB of all magnitudes.
        (0..42_u32).prop_map(|bits| 2048 << bits),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Drawn {
    start: Option<u64>,
    size: Option<u64>,
    logical: bool,
}

fn partition() -> impl Strategy<Value = Drawn> {
    let size = prop_oneof![4 => sectors().prop_map(Some), 1 => Just(None)];
    let start = prop_oneof![1 => sectors().prop_map(Some), 2 => Just(None)];
    (start, size, any::<bool>()).prop_map(|(start, size, logical)| Drawn { start, size, logical })
}

fn request(scheme: Scheme, large: bool, disk: Option<u64>, first: Option<u64>, drawn: &[Drawn]) -> Request {
    let sector = if large { 4096 } else { 512 };
    let bytes = |sectors: u64| Bytes::new(sectors * 512).round_down(sector);
    let base = if scheme == Scheme::Mbr { mbr() } else { gpt() };
    let partitions = drawn.iter().enumerate().map(|(at, drawn)| Wish {
        start: drawn.start.map(bytes),
        logical: drawn.logical && scheme == Scheme::Mbr,
        ..wish(at, drawn.size.map_or(Size::Fill, |size| Size::Exactly(bytes(size))))
    });
    Request {
        scheme,
        sector_size: sector,
        disk_size: disk.map(bytes),
        first_lba: first.filter(|_| scheme == Scheme::Gpt).map(Sectors::new),
        partitions: partitions.collect(),
        ..base
    }
}

/// All that a plan promises, in sums of 128 bits that cannot run over.
fn keeps_every_rule(request: &Request, plan: &Plan) {
    let wide = |bytes: Bytes| u128::from(bytes.get());
    let sector = u128::from(plan.sector_size);
    let is_gpt = plan.scheme == Scheme::Gpt;
    let mut limit = wide(plan.length) - if is_gpt { 16384 + sector } else { 0 };
    if !is_gpt {
        limit = limit.min(0xffff_ffff * 512);
    }
    let least = if is_gpt { 16384 + 2 * sector } else { 512 };
    let first = request.first_lba.map_or(least, |first| u128::from(first.get()) * sector);
    assert!(plan.length <= Bytes::LIMIT && wide(plan.length) % sector == 0);
    match request.disk_size {
        Some(size) => assert_eq!(plan.length, size),
        None => assert_eq!(plan.length.get() % MIB, 0),
    }
    assert_eq!(u128::from(plan.first_usable.get()) * sector, first);
    assert_eq!((u128::from(plan.last_usable.get()) + 1) * sector, limit);
    let mut claims = Vec::new();
    let mut behind = 0;
    for (wish, it) in request.partitions.iter().zip(&plan.partitions) {
        let (start, end) = (wide(it.offset), wide(it.offset) + wide(it.length));
        let from = start.checked_sub(if it.logical { u128::from(MIB) } else { 0 }).unwrap();
        assert!(it.length > Bytes::ZERO && start % sector == 0 && end % sector == 0);
        assert!(first <= from && end <= limit, "{from} {end} in {first} {limit}");
        match wish.start {
            Some(asked) => assert_eq!(it.offset, asked),
            None => {
                assert_eq!(it.offset.get() % GRAIN, 0);
                // Those without a start lie in the order of the list.
                assert!(behind <= start);
                behind = end;
            }
        }
        match wish.size {
            Size::Exactly(size) => assert_eq!(it.length, size),
            Size::Fill => assert_eq!(it.end().get() % GRAIN, 0),
        }
        claims.push((from, end, wish.size == Size::Fill));
    }
    claims.sort_unstable();
    let nexts = claims.iter().skip(1).map(|(from, ..)| *from).chain([limit]);
    for ((_, end, fills), next) in claims.iter().zip(nexts) {
        assert!(*end <= next, "overlap");
        // A partition that fills leaves no whole grain.
        assert!(!fills || *end + u128::from(GRAIN) > next, "{end} {next}");
    }
    let mut numbers: Vec<u32> = plan.partitions.iter().map(|it| it.number).collect();
    numbers.extend(plan.extended.map(|it| it.number));
    numbers.sort_unstable();
    let count = numbers.len();
    numbers.dedup();
    assert_eq!(numbers.len(), count);
    if let Some(extended) = plan.extended {
        let (from, end) = (wide(extended.offset), wide(extended.offset) + wide(extended.length));
        for it in &plan.partitions {
            let inside = from < wide(it.offset) && wide(it.end()) <= end;
            let outside = wide(it.end()) <= from || end <= wide(it.offset);
            assert!(if it.logical { inside } else { outside });
        }
    }
}

/// The table of a plan is an image of its length, whatever that is, and covers none of its partitions.
fn table_and_partitions_are_apart(plan: &Plan) {
    let image = super::request::image(plan);
    assert_eq!(image.length(), plan.length);
    for it in &plan.partitions {
        assert_eq!(image.clipped(it.offset, it.end()).count(), 0, "{it:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_request_is_met_or_refused(
        scheme in prop_oneof![Just(Scheme::Gpt), Just(Scheme::Mbr)],
        large: bool,
        disk in prop_oneof![1 => Just(None), 3 => sectors().prop_map(Some)],
        first in prop_oneof![3 => Just(None), 1 => sectors().prop_map(Some)],
        drawn in prop::collection::vec(partition(), 0..6),
    ) {
        let request = request(scheme, large && scheme == Scheme::Gpt, disk, first, &drawn);
        match place(&request) {
            Ok(plan) => {
                keeps_every_rule(&request, &plan);
                table_and_partitions_are_apart(&plan);
            }
            Err(refusal) => {
                prop_assert_eq!(refusal.kind(), Kind::Manifest);
                let known = |subject: &Subject| match subject {
                    Subject::Partition(at) => *at < request.partitions.len(),
                    subject => *subject == Subject::Disk,
                };
                prop_assert!(refusal.subjects().iter().all(known));
            }
        }
    }

    #[test]
    fn partitions_with_a_start_are_refused_only_for_a_reason(
        scheme in prop_oneof![Just(Scheme::Gpt), Just(Scheme::Mbr)],
        disk in prop_oneof![sectors(), Just(1 << 33), Just(1 << 53)],
        drawn in prop::collection::vec((sectors(), sectors()), 0..4),
    ) {
        let drawn: Vec<Drawn> = drawn
            .into_iter()
            .map(|(start, size)| Drawn { start: Some(start), size: Some(size), logical: false })
            .collect();
        let request = request(scheme, false, Some(disk), None, &drawn);
        let (first, limit) = match scheme {
            Scheme::Gpt => (34, u128::from(disk).saturating_sub(33)),
            _ => (1, u128::from(disk).min(0xffff_ffff)),
        };
        let mut places: Vec<(u128, u128)> = drawn
            .iter()
            .map(|it| (u128::from(it.start.unwrap()), u128::from(it.start.unwrap()) + u128::from(it.size.unwrap())))
            .collect();
        places.sort_unstable();
        let sound = places.iter().all(|(start, end)| first <= *start && start < end && *end <= limit)
            && places.windows(2).all(|pair| pair[0].1 <= pair[1].0)
            && if scheme == Scheme::Gpt { first < limit } else { first <= limit };
        prop_assert_eq!(place(&request).is_ok(), sound);
    }

    #[test]
    fn what_fits_is_placed(
        scheme in prop_oneof![Just(Scheme::Gpt), Just(Scheme::Mbr)],
        sizes in prop::collection::vec(prop_oneof![1..10_000_u64, Just(1 << 29), Just(1 << 20)], 1..=4),
        fill in proptest::option::of(0..4_usize),
        spare in 2_u64..100_000,
    ) {
        let mut drawn: Vec<Drawn> =
            sizes.iter().map(|size| Drawn { start: None, size: Some(*size), logical: false }).collect();
        let mut need: u64 = sizes.iter().map(|size| size.next_multiple_of(2048)).sum();
        if let Some(at) = fill.filter(|_| scheme == Scheme::Gpt || sizes.len() < 4) {
            drawn.insert(at.min(sizes.len()), Drawn { start: None, size: None, logical: false });
            need += 2048;
        }
        // 1 MiB before the first partition, and space for the backup GPT.
        let disk = 2048 + need + 33 + spare;
        let request = request(scheme, false, Some(disk), None, &drawn);
        let plan = place(&request).map_err(|refusal| TestCaseError::fail(refusal.to_string()))?;
        keeps_every_rule(&request, &plan);
    }
}

/// Counts what the first property draws, so that it cannot become a test of errors alone.
#[test]
fn the_requests_drawn_are_often_met() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut met = 0;
    for _ in 0..1000 {
        let drawn = prop::collection::vec(partition(), 0..6).new_tree(&mut runner).unwrap().current();
        let disk = sectors().new_tree(&mut runner).unwrap().current();
        met += usize::from(place(&request(Scheme::Gpt, false, Some(disk), None, &drawn)).is_ok());
    }
    assert!(met > 100, "{met} of 1000");
}
