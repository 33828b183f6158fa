//! Random requests that can be met: each is placed as a second, simpler calculation says, and every judge is
//! content.

use diskwright::table::{Request, Scheme, Size, Wish};
use diskwright::units::{Bytes, MIB, Sectors};
use proptest::prelude::*;

use super::judges::{all, dump};
use super::request::{gpt, kind, mbr, placed, wish};

/// What is drawn for one partition: sectors between it and the one before (`None`: no start is given), length in
/// sectors, type, characters of its name, attributes, a slot.
type Drawn = (Option<u64>, u64, usize, String, u64, bool);

const KINDS: [&str; 5] = ["linux", "esp", "swap", "root-x86-64", "microsoft-basic-data"];

fn drawn() -> impl Strategy<Value = Drawn> {
    (
        proptest::option::of(0..10_000_u64),
        prop_oneof![1..5_000_u64, Just(2048 * 1024), Just(2048 * 9000)],
        0..KINDS.len(),
        "[a-zA-Z0-9_.-]{0,36}",
        prop_oneof![Just(0), Just(0b101), Just(1 << 59 | 1 << 63)],
        any::<bool>(),
    )
}

/// The request, and where each of its partitions has to lie, in sectors. All lie in the order of the list.
fn request(base: Request, drawn: &[Drawn]) -> (Request, Vec<(u64, u64)>) {
    let mut partitions = Vec::new();
    let mut places = Vec::new();
    let mut end = base.first_lba.map_or(if base.scheme == Scheme::Gpt { 34 } else { 1 }, Sectors::get);
    for (at, (gap, length, kind_at, label, attributes, high)) in drawn.iter().enumerate() {
        let start = match gap {
            Some(gap) => end + gap,
            None => end.next_multiple_of(2048),
        };
        end = start + length;
        places.push((start, *length));
        let is_gpt = base.scheme == Scheme::Gpt;
        partitions.push(Wish {
            // Distinct, and in the way of those without one.
            number: (*high && is_gpt).then(|| u32::try_from(at * 9 + 3).unwrap()),
            start: gap.map(|_| Sectors::new(start).bytes(512)),
            kind: kind(KINDS[*kind_at]),
            label: if is_gpt { label.clone() } else { String::new() },
            attributes: if is_gpt { *attributes } else { 0 },
            ..wish(at, Size::Exactly(Sectors::new(*length).bytes(512)))
        });
    }
    (Request { partitions, ..base }, places)
}

fn check(request: &Request, places: &[(u64, u64)]) {
    let plan = placed(request);
    let seen: Vec<(u64, u64)> =
        plan.partitions.iter().map(|it| (it.offset.get() / 512, it.length.get() / 512)).collect();
    assert_eq!(seen, places);
    let disk = all(&plan);
    let record = dump(&disk);
    for it in &plan.partitions {
        let fields = &record.partitions[&it.number];
        assert_eq!(fields["start"], (it.offset.get() / 512).to_string());
        assert_eq!(fields["size"], (it.length.get() / 512).to_string());
        assert_eq!(fields.get("name").map_or("", String::as_str), it.label);
    }
    assert_eq!(record.partitions.len(), plan.partitions.len() + usize::from(plan.extended.is_some()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn gpts(
        drawn in prop::collection::vec(drawn(), 0..14),
        first in prop_oneof![Just(None), Just(Some(2048)), (34..10_000_u64).prop_map(Some)],
        spare in proptest::option::of(0..5000_u64),
    ) {
        let base = Request { first_lba: first.map(Sectors::new), ..gpt() };
        let (request, places) = request(base, &drawn);
        let used = places.last().map_or(0, |(start, length)| start + length).max(first.unwrap_or(34) + 1);
        let disk_size = spare.map(|spare| Sectors::new(used + 33 + spare).bytes(512));
        check(&Request { disk_size, ..request }, &places);
    }

    #[test]
    fn mbrs(
        drawn in prop::collection::vec(drawn(), 1..=4),
        spare in proptest::option::of(0..5000_u64),
        active in 0..8_usize,
        signature: u32,
    ) {
        let (mut request, places) = request(Request { signature, ..mbr() }, &drawn);
        let used = places.last().map_or(1, |(start, length)| start + length);
        request.disk_size = spare.map(|spare| Sectors::new(used + spare).bytes(512));
        if let Some(partition) = request.partitions.get_mut(active) {
            partition.active = true;
        }
        check(&request, &places);
    }

    #[test]
    fn mbrs_with_logical_partitions(
        before in 0..3_usize,
        sizes in prop::collection::vec(prop_oneof![1..5000_u64, Just(2048 * 5000)], 3..12),
    ) {
        let mut partitions = Vec::new();
        let mut places = Vec::new();
        let mut end = 1_u64;
        for (at, length) in sizes.iter().enumerate() {
            let logical = at >= before;
            let start = end.next_multiple_of(2048) + if logical { 2048 } else { 0 };
            end = start + length;
            places.push((start, *length));
            let size = Size::Exactly(Bytes::new(length * 512));
            partitions.push(Wish { logical, ..wish(at, size) });
        }
        prop_assert!(places.iter().all(|(start, _)| start % 2048 == 0 && MIB == 2048 * 512));
        check(&Request { partitions, ..mbr() }, &places);
    }
}
