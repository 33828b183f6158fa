//! Each wish that cannot be met is one error with the partitions, the expectation and what was found.

use diskwright::error::{Error, Kind, Subject};
use diskwright::table::{Hybrid, Request, Scheme, Size, Type, Wish, place};
use diskwright::units::{Bytes, MIB, Sectors, TIB};
use uuid::Uuid;

use super::request::{data, gpt, kind, mbr, mib, wish};

/// The partitions at `about`; the disk where there is none.
fn subjects(about: &[usize]) -> Vec<Subject> {
    match about {
        [] => vec![Subject::Disk],
        some => some.iter().copied().map(Subject::Partition).collect(),
    }
}

/// Asserts that `request` is refused for the partitions at `about`, in words that hold all of `words`.
fn refused(request: &Request, about: &[usize], words: &[&str]) -> Error {
    let refusal = match place(request) {
        Ok(plan) => panic!("not refused: {words:?}\n{plan:#?}"),
        Err(refusal) => refusal,
    };
    let text = refusal.to_string();
    assert_eq!(refusal.subjects(), subjects(about), "{text}");
    assert_eq!(refusal.kind(), Kind::Manifest, "{text}");
    for word in words {
        assert!(text.contains(word), "no `{word}` in:\n{text}");
    }
    // The first line alone names every partition it is about.
    for at in about {
        assert!(refusal.what().contains(&Subject::Partition(*at).to_string()), "{text}");
    }
    refusal
}

fn with(request: Request, partitions: Vec<Wish>) -> Request {
    Request { partitions, ..request }
}

fn fixed(number: usize, start: u64, size: u64) -> Wish {
    Wish { start: Some(Bytes::new(start)), ..wish(number, Size::Exactly(Bytes::new(size))) }
}

fn sized(request: Request, size: Bytes) -> Request {
    Request { disk_size: Some(size), ..request }
}

#[test]
fn overlaps_name_both() {
    let request = with(gpt(), vec![fixed(1, MIB, 10 * MIB), data(2, 5), fixed(3, 10 * MIB, MIB)]);
    refused(
        &request,
        &[2, 0],
        &[
            "partition 3 overlaps partition 1",
            "partition 1 from 1 MiB (sector 2048) to 11 MiB (sector 22528)",
            "partition 3 from 10 MiB (sector 20480)",
        ],
    );
    // One inside the other, and one sector in common.
    refused(&with(gpt(), vec![fixed(1, MIB, 9 * MIB), fixed(2, 2 * MIB, MIB)]), &[1, 0], &["overlaps"]);
    refused(&with(mbr(), vec![fixed(1, MIB, MIB + 512), fixed(2, 2 * MIB, MIB)]), &[1, 0], &["overlaps"]);
    let logical = |wish| Wish { logical: true, ..wish };
    // The boot record of the second lies in the first.
    let request = with(mbr(), vec![logical(fixed(1, 2 * MIB, MIB)), logical(fixed(2, 3 * MIB, MIB))]);
    refused(&request, &[1, 0], &["overlaps", "from 2 MiB"]);
    let request = with(
        mbr(),
        vec![logical(fixed(1, 2 * MIB, MIB)), logical(fixed(2, 9 * MIB, MIB)), fixed(3, 5 * MIB, MIB)],
    );
    refused(&request, &[2, 0], &["lies inside the extended partition", "1 MiB to 10 MiB", "5 MiB to 6 MiB"]);
}

#[test]
fn outlying_partitions_are_told_the_limits() {
    let disk = sized(gpt(), mib(64));
    let outside = "outside of what the table lets partitions use";
    refused(
        &with(disk.clone(), vec![fixed(1, MIB, 63 * MIB)]),
        &[0],
        &[
            outside,
            "ends at or before 63.9 MiB (67091968 bytes, sector 131039)",
            "a disk of 65MiB would hold it",
        ],
    );
    refused(
        &with(disk.clone(), vec![data(1, 60), data(2, 3)]),
        &[1],
        &[outside, "to 64 MiB (sector 131072)"],
    );
    refused(
        &with(disk.clone(), vec![fixed(1, 33 * 512, MIB)]),
        &[0],
        &[outside, "sector 34", "the table itself"],
    );
    refused(
        &with(mbr(), vec![fixed(1, 0, MIB)]),
        &[0],
        &[outside, "512 bytes (sector 1)", "from 0 bytes (sector 0)"],
    );
    refused(&with(sized(mbr(), mib(8)), vec![data(1, 8)]), &[0], &[outside, "the disk ends there", "9MiB"]);
    let first = Request { first_lba: Some(Sectors::new(4096)), ..gpt() };
    refused(&with(first, vec![fixed(1, MIB, MIB)]), &[0], &[outside, "sector 4096"]);
    let logical = Wish { logical: true, ..fixed(1, MIB, MIB) };
    refused(
        &with(mbr(), vec![logical]),
        &[0],
        &[outside, "boot record of a logical partition lies 1 MiB before it"],
    );
    let eib = 1 << 60;
    refused(&with(gpt(), vec![fixed(1, MIB, 7 * eib), fixed(2, 7 * eib + MIB, eib)]), &[1], &["8 EiB - 1"]);
}

#[test]
fn an_mbr_ends_at_2_tib() {
    let end = Bytes::new(0xffff_ffff * 512);
    let last = |size: u64| fixed(1, end.get() - MIB, size);
    assert!(place(&with(mbr(), vec![last(MIB)])).is_ok());
    for request in [mbr(), sized(mbr(), Bytes::new(3 * TIB))] {
        refused(&with(request, vec![last(MIB + 512)]), &[0], &["bytes, sector 4294967295)", "with 32 bits"]);
    }
    let fill = with(sized(mbr(), Bytes::new(3 * TIB)), vec![wish(1, Size::Fill)]);
    refused(&fill, &[0], &["more than an MBR can address", "sector 4294967295", "gpt"]);
    // Before one that stands, it fills.
    let stands = with(sized(mbr(), Bytes::new(3 * TIB)), vec![wish(1, Size::Fill), last(MIB)]);
    assert!(place(&stands).is_ok());
}

#[test]
fn sizes_are_whole_sectors_and_not_zero() {
    let odd = Size::Exactly(Bytes::new(MIB + 1));
    refused(
        &with(gpt(), vec![wish(1, odd)]),
        &[0],
        &["the size is not a whole number", "512", "1048577 bytes"],
    );
    refused(&with(mbr(), vec![fixed(1, MIB + 7, MIB)]), &[0], &["the start is not", "1048583 bytes"]);
    let large = Request { sector_size: 4096, ..gpt() };
    refused(
        &with(large.clone(), vec![fixed(1, MIB + 512, MIB)]),
        &[0],
        &["the start", "multiple of 4096 bytes"],
    );
    refused(&sized(gpt(), Bytes::new(MIB + 1)), &[], &["the size of the disk", "1048577 bytes"]);
    refused(&sized(large, Bytes::new(MIB + 512)), &[], &["the size of the disk", "4096"]);
    for request in [gpt(), mbr(), Request { scheme: Scheme::None, ..gpt() }] {
        refused(
            &with(request, vec![wish(1, Size::Exactly(Bytes::ZERO))]),
            &[0],
            &["cannot be empty", "512 bytes"],
        );
    }
    refused(&sized(gpt(), Bytes::new(1 << 63)), &[], &["larger than a file can be", "9223372036854775807"]);
}

#[test]
fn slots_are_there_and_free() {
    let slot = |at: usize, number| Wish { number: Some(number), ..data(at, 1) };
    for number in [0, 129] {
        refused(&with(gpt(), vec![data(1, 1), slot(2, number)]), &[1], &["no such slot", "1 to 128"]);
    }
    refused(&with(mbr(), vec![slot(1, 5)]), &[0], &["no such slot", "1 to 4", "found: 5"]);
    for request in [gpt(), mbr()] {
        let twice = vec![slot(1, 3), data(2, 1), slot(3, 3)];
        refused(
            &with(request, twice),
            &[2, 0],
            &["partition 3 has the same number as partition 1", "found: 3"],
        );
    }
    let many = (1..=129).map(|number| data(number, 1)).collect();
    refused(&with(gpt(), many), &[128], &["no slot left", "at most 128", "found: 129"]);
    let many = (1..=5).map(|number| data(number, 1)).collect();
    refused(&with(mbr(), many), &[4], &["no slot left", "4 primary"]);
    // The extended partition is the fifth.
    let logical = Wish { logical: true, ..data(5, 1) };
    let many = (1..=4).map(|number| data(number, 1)).chain([logical]).collect();
    refused(&with(mbr(), many), &[4], &["no slot left", "the extended one among them"]);
}

#[test]
fn logical_partitions_are_a_chain() {
    let logical = |wish| Wish { logical: true, ..wish };
    let many = (1..=57).map(|number| logical(data(number, 1))).collect();
    refused(&with(mbr(), many), &[56], &["too many logical", "60"]);
    let chosen = |number| Wish { number: Some(number), ..logical(data(2, 1)) };
    refused(
        &with(mbr(), vec![data(1, 1), chosen(6)]),
        &[1],
        &["cannot choose its number", "expected: 5", "found: 6"],
    );
    assert!(place(&with(mbr(), vec![data(1, 1), chosen(5)])).is_ok());
    let apart = vec![logical(data(1, 1)), data(2, 1), logical(data(3, 1))];
    refused(&with(mbr(), apart), &[2], &["do not follow each other"]);
    let back = vec![logical(fixed(1, 20 * MIB, MIB)), logical(fixed(2, 5 * MIB, MIB))];
    refused(&with(mbr(), back), &[1, 0], &["partition 2 lies before partition 1"]);
    refused(&with(gpt(), vec![logical(data(1, 1))]), &[0], &["a GPT has no logical partitions"]);
}

#[test]
fn a_gpt_and_an_mbr_hold_what_they_hold() {
    let long = |label: String| with(gpt(), vec![Wish { label, ..data(1, 1) }]);
    refused(&long("x".repeat(37)), &[0], &["label is too long", "36", "found: 37"]);
    refused(&long("\u{1f600}".repeat(19)), &[0], &["found: 38"]);
    assert!(place(&long("\u{1f600}".repeat(18))).is_ok());
    refused(&long("a\0b".to_owned()), &[0], &["NUL"]);
    let of = |request: Request, kind: Type| with(request, vec![Wish { kind, ..data(1, 1) }]);
    refused(&of(gpt(), kind("0x83")), &[0], &["no type bytes", "found: 0x83"]);
    refused(&of(gpt(), Type::Guid(Uuid::nil())), &[0], &["type GUID is zero"]);
    refused(&of(mbr(), kind("bios-boot")), &[0], &["no byte in an MBR", "found: bios-boot"]);
    let unknown = "01234567-89ab-cdef-0123-456789abcdef";
    refused(&of(mbr(), kind(unknown)), &[0], &["no byte in an MBR", unknown]);
    for byte in ["0x00", "0x05", "0x0f", "0x85", "0xee"] {
        refused(&of(mbr(), kind(byte)), &[0], &["not that of a partition", byte, "logical"]);
    }
    let one = |wish: Wish| with(mbr(), vec![wish]);
    refused(&one(Wish { label: "x".to_owned(), ..data(1, 1) }), &[0], &["an MBR has no labels", "\"x\""]);
    refused(&one(Wish { attributes: 5, ..data(1, 1) }), &[0], &["no attribute bits", "legacy-bios-bootable"]);
    let active = |number| Wish { active: true, ..data(number, 1) };
    refused(&with(mbr(), vec![active(1), active(2)]), &[1, 0], &["partition 2 is active beside partition 1"]);
    refused(&with(gpt(), vec![active(1)]), &[0], &["a GPT has no active flag", "legacy-bios-bootable"]);
}

#[test]
fn guids_differ() {
    let guid = Uuid::from_u128(7);
    let twice = vec![Wish { guid, ..data(1, 1) }, data(2, 1), Wish { guid, ..data(3, 1) }];
    let found = "00000000-0000-0000-0000-000000000007";
    refused(&with(gpt(), twice.clone()), &[2, 0], &["partition 3 has the same GUID as partition 1", found]);
    assert!(place(&with(mbr(), twice)).is_ok(), "an MBR has none");
    let zero = |number| Wish { guid: Uuid::nil(), ..data(number, 1) };
    assert!(place(&with(gpt(), vec![zero(1), data(2, 1)])).is_ok());
    refused(&with(gpt(), vec![zero(1), zero(2)]), &[1, 0], &["has the same GUID as"]);
}

#[test]
fn filling_needs_a_gap_of_its_own() {
    let fill = |number| wish(number, Size::Fill);
    for request in [gpt(), mbr(), Request { scheme: Scheme::None, ..gpt() }] {
        refused(&with(request, vec![fill(1)]), &[0], &["nothing to fill on a disk of size auto"]);
    }
    let disk = sized(gpt(), mib(64));
    let two = vec![fill(1), data(2, 1), fill(3)];
    refused(&with(disk.clone(), two), &[2, 0], &["partition 3 fills the same gap as partition 1"]);
    let apart = vec![fill(1), fixed(2, 20 * MIB, MIB), fill(3)];
    assert!(place(&with(disk.clone(), apart)).is_ok());
    let left = "nothing is left for it to fill";
    refused(
        &with(disk.clone(), vec![data(1, 62), fill(2)]),
        &[1],
        &[left, "the end of the disk at 63.9 MiB (67091968 bytes, sector 131039)"],
    );
    let start = |number, at| Wish { start: Some(Bytes::new(at)), ..fill(number) };
    // No boundary of 1 MiB between.
    let narrow = vec![start(1, 5 * MIB + 512), fixed(2, 6 * MIB - 512, MIB)];
    refused(
        &with(disk.clone(), narrow),
        &[0],
        &[left, "partition 2 at 5.9 MiB (6290944 bytes, sector 12287)"],
    );
    refused(&with(disk.clone(), vec![start(1, 64 * MIB)]), &[0], &[left]);
    refused(&with(disk.clone(), vec![start(1, 512)]), &[0], &["outside"]);
    refused(&with(disk, vec![fixed(1, MIB, 9 * MIB), start(2, 5 * MIB)]), &[1, 0], &["overlaps"]);
}

#[test]
fn disks_are_large_enough_for_their_table() {
    // 34 sectors, one that is usable, 33 sectors.
    assert!(place(&sized(gpt(), Bytes::new(68 * 512))).is_ok());
    refused(
        &sized(gpt(), Bytes::new(67 * 512)),
        &[],
        &["too small for a GPT", "at least 34 KiB", "34304 bytes"],
    );
    refused(&sized(gpt(), Bytes::ZERO), &[], &["too small for a GPT"]);
    let large = Request { sector_size: 4096, ..gpt() };
    // 6 + 1 + 5.
    assert!(place(&sized(large.clone(), Bytes::new(12 * 4096))).is_ok());
    refused(&sized(large, Bytes::new(11 * 4096)), &[], &["too small", "at least 48 KiB"]);
    assert!(place(&sized(mbr(), Bytes::new(512))).is_ok());
    refused(&sized(mbr(), Bytes::ZERO), &[], &["too small for an MBR"]);
    let first = |lba| Request { first_lba: Some(Sectors::new(lba)), ..gpt() };
    refused(&first(33), &[], &["lies in the partition table", "at least 34", "found: 33"]);
    refused(&first(u64::MAX), &[], &["too small for a GPT"]);
    refused(&sized(first(2048), mib(1)), &[], &["too small for a GPT"]);
}

#[test]
fn sectors_are_512_to_4096() {
    for size in [0, 1, 1000, 8192] {
        let request = Request { sector_size: size, ..gpt() };
        refused(&request, &[], &["512, 1024, 2048 or 4096", &format!("found: {size}")]);
    }
    refused(&Request { sector_size: 4096, ..mbr() }, &[], &["an MBR", "512"]);
}

#[test]
fn the_extended_partition_has_a_slot_of_its_own() {
    let logical = || Wish { logical: true, ..data(2, 1) };
    let asked = |number, partitions| Request { extended: Some(number), ..with(mbr(), partitions) };
    refused(&asked(5, vec![logical()]), &[], &["cannot have this number", "1 to 4", "found: 5"]);
    refused(
        &asked(2, vec![data(1, 1)]),
        &[],
        &["there is no extended partition", "no partition is a logical one"],
    );
    let first = Wish { number: Some(3), ..data(1, 1) };
    refused(&asked(3, vec![first, logical()]), &[0], &["the number of the extended partition", "found: 3"]);
    refused(
        &Request { scheme: Scheme::Gpt, ..asked(3, vec![data(1, 1)]) },
        &[],
        &["only an MBR has an extended"],
    );
    // The others take what is left, and there are no more than four.
    let plan = place(&asked(1, vec![data(1, 1), logical(), logical()])).unwrap();
    let numbers: Vec<u32> = plan.partitions.iter().map(|placed| placed.number).collect();
    assert_eq!((numbers, plan.extended.unwrap().number), (vec![2, 5, 6], 1));
    let four: Vec<Wish> = (1..=4).map(|number| data(number, 1)).chain([logical()]).collect();
    refused(&asked(2, four), &[3], &["no slot left"]);
}

#[test]
fn hybrid_shows_what_there_is() {
    let hybrid =
        |shown: &[u32], partitions: Vec<Wish>| Request { hybrid: shown.to_vec().into(), partitions, ..gpt() };
    let five = || (1..=5).map(|number| data(number, 1)).collect::<Vec<_>>();
    refused(&hybrid(&[1, 6], five()), &[], &["does not exist", "1, 2, 3, 4, 5", "found: 6"]);
    refused(&hybrid(&[1, 2, 3, 4], five()), &[], &["too many", "at most 3", "found: 4"]);
    refused(&hybrid(&[2, 1, 2], five()), &[], &["shows a partition twice", "2, 1, 2"]);
    refused(&Request { sector_size: 4096, ..hybrid(&[1], five()) }, &[], &["512 bytes only", "4096"]);
    for scheme in [Scheme::Mbr, Scheme::None] {
        refused(
            &Request { scheme, ..hybrid(&[1], vec![data(1, 1)]) },
            &[],
            &["only a GPT can have a hybrid MBR"],
        );
        let request = Request { scheme, first_lba: Some(Sectors::new(34)), ..with(gpt(), vec![data(1, 1)]) };
        refused(&request, &[], &["first usable"]);
    }
    let unknown = Wish { kind: kind("01234567-89ab-cdef-0123-456789abcdef"), ..data(1, 1) };
    refused(&hybrid(&[1], vec![unknown]), &[0], &["no byte for a hybrid MBR", "01234567"]);
    let active = Wish { active: true, ..data(2, 1) };
    refused(
        &hybrid(&[1], vec![data(1, 1), active]),
        &[1],
        &["is active, but the hybrid MBR does not show it"],
    );
    let both = vec![Wish { active: true, ..data(1, 1) }, Wish { active: true, ..data(2, 1) }];
    refused(&hybrid(&[1, 2], both), &[1, 0], &["is active beside"]);
    let with_types = |shown: &[u32], kinds: &[u8]| {
        let hybrid = Hybrid { kinds: kinds.to_vec(), ..shown.to_vec().into() };
        Request { hybrid, partitions: five(), ..gpt() }
    };
    refused(&with_types(&[1, 2], &[0x0c]), &[], &["not as many as its partitions", "2 types", "found: 1"]);
    refused(&with_types(&[1], &[0xee]), &[], &["no partition of this type", "0xee"]);
    refused(&with_types(&[], &[0x0c]), &[], &["`hybrid_types` is for a hybrid MBR"]);
    for (key, alone) in [
        ("protective_last", Hybrid { protective_last: true, ..Hybrid::default() }),
        ("hybrid_signature", Hybrid { signature: 5, ..Hybrid::default() }),
    ] {
        refused(&Request { hybrid: alone, partitions: five(), ..gpt() }, &[], &[key, "is for a hybrid MBR"]);
    }
    let far = fixed(1, 0xffff_ffff * 512 - MIB, MIB + 512);
    refused(&hybrid(&[1], vec![far]), &[0], &["cannot reach the end", "32 bits"]);
}

#[test]
fn a_disk_without_a_table_is_one_partition() {
    let none = |partitions| Request { scheme: Scheme::None, partitions, ..gpt() };
    refused(&none(vec![]), &[], &["is one partition", "found: 0"]);
    let two = place(&none(vec![data(1, 1), data(2, 1)])).unwrap_err();
    assert_eq!(two.subjects(), subjects(&[1]));
    assert!(two.to_string().contains("found: 2"), "{two}");
    let what = "without a partition table";
    for (wish, rule) in [
        (fixed(1, MIB, MIB), "begins at 0"),
        (Wish { number: Some(2), ..data(1, 1) }, "has no number"),
        (Wish { label: "x".to_owned(), ..data(1, 1) }, "has no label"),
        (Wish { attributes: 1, ..data(1, 1) }, "has no attributes"),
        (Wish { active: true, ..data(1, 1) }, "has no active flag"),
        (Wish { logical: true, ..data(1, 1) }, "is not logical"),
    ] {
        refused(&none(vec![wish]), &[0], &[what, rule]);
    }
    refused(&sized(none(vec![data(1, 1)]), mib(2)), &[0], &["as large as the disk", "2MiB", "1MiB"]);
    assert!(place(&sized(none(vec![data(1, 2)]), mib(2))).is_ok());
    refused(&sized(none(vec![wish(1, Size::Fill)]), Bytes::ZERO), &[0], &["no disk has this size"]);
    let large = wish(1, Size::Exactly(Bytes::new(1 << 63)));
    refused(&none(vec![large]), &[0], &["no disk has this size"]);
}
