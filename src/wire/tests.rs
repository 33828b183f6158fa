//! The macro: what is written, read, listed and refused.

use uuid::Uuid;

use super::{Field, Guid, Order, Wire, field, misplaced, name_of, wire};
use crate::error::Kind;

wire! {
    /// A pair inside another structure; it is big-endian in a structure of either byte order.
    struct Pair: "test pair", big, 4 {
        0 first: u16,
        2 second: u16,
    }
}

wire! {
    /// One field of each type, with gaps at 1, 4 and the end.
    struct Every: "test record", little, 96 {
        0x00 byte: u8,
        0x02 half "Half Word": u16,
        0x08 word: u32,
        0x0c signed: i32,
        0x10 long: u64,
        0x18 uuid: Uuid,
        0x28 guid: Guid,
        0x38 text: [u8; 5],
        0x40 units: [u16; 3],
        0x48 pairs: [Pair; 2],
        0x50 magic: u16 = 0xef53,
        0x54 signature: [u8; 4] = *b"RRaA",
    }
}

wire! {
    struct Swapped: "test swapped", big, 16 {
        0 magic: u32 = 0xc03b_3998,
        4 low: i32,
        8 high: i64,
    }
}

const UUID: Uuid = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);

fn every() -> Every {
    Every {
        byte: 1,
        half: 0x0203,
        word: 0x0405_0607,
        signed: -2,
        long: 0x08090a0b_0c0d0e0f,
        uuid: UUID,
        guid: Guid(UUID),
        text: *b"hello",
        units: [1, 2, 0x0304],
        pairs: [Pair { first: 1, second: 2 }, Pair { first: 3, second: 0x0405 }],
        ..Every::BLANK
    }
}

/// The bytes by hand, from the offsets of the declaration.
fn by_hand() -> [u8; 96] {
    let mut bytes = [0; 96];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0x00, &[1, 0, 3, 2]);
    put(0x08, &[7, 6, 5, 4, 0xfe, 0xff, 0xff, 0xff]);
    put(0x10, &[0x0f, 0x0e, 0x0d, 0x0c, 0x0b, 0x0a, 0x09, 0x08]);
    put(0x18, b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff");
    put(0x28, b"\x33\x22\x11\x00\x55\x44\x77\x66\x88\x99\xaa\xbb\xcc\xdd\xee\xff");
    put(0x38, b"hello");
    put(0x40, &[1, 0, 2, 0, 4, 3]);
    put(0x48, &[0, 1, 0, 2, 0, 3, 4, 5]);
    put(0x50, &[0x53, 0xef]);
    put(0x54, b"RRaA");
    bytes
}

#[test]
fn every_type_is_written_and_read_at_its_place() {
    assert_eq!(every().bytes(), by_hand());
    assert_eq!(Every::read(&by_hand()).unwrap(), every());
    // Bytes after the structure belong to whatever follows it.
    let long = [by_hand().as_slice(), &[7; 9]].concat();
    assert_eq!(Every::read(&long).unwrap(), every());
}

#[test]
fn big_endian_numbers_begin_with_the_most_significant_byte() {
    let bytes = Swapped { low: -2, high: 0x0102, ..Swapped::BLANK }.bytes();
    assert_eq!(bytes, *b"\xc0\x3b\x39\x98\xff\xff\xff\xfe\x00\x00\x00\x00\x00\x00\x01\x02");
    assert_eq!(Swapped::read(&bytes).unwrap().low, -2);
}

#[test]
fn gaps_become_zero_and_are_not_read() {
    let mut out = [0xaa; 100];
    every().write_to(&mut out);
    assert_eq!(out[..96], by_hand());
    assert_eq!(out[96..], [0xaa; 4]);
    let mut noisy = by_hand();
    for gap in [1, 4, 5, 0x3d, 0x46, 0x5f] {
        noisy[gap] = 0xff;
    }
    assert_eq!(Every::read(&noisy).unwrap(), every());
}

#[test]
fn blank_is_zero_but_for_what_is_fixed() {
    let bytes = Every::BLANK.bytes();
    let set: Vec<usize> = (0..96).filter(|at| bytes[*at] != 0).collect();
    assert_eq!(set, [0x50, 0x51, 0x54, 0x55, 0x56, 0x57]);
    assert_eq!(Every::default(), Every::BLANK);
}

#[test]
fn fields_are_listed_as_they_are_declared() {
    let field = |offset, length, name| Field { offset, length, name };
    assert_eq!(Every::FIELDS.len(), 12);
    assert_eq!(Every::FIELDS[..3], [field(0, 1, "byte"), field(2, 2, "Half Word"), field(8, 4, "word")]);
    assert_eq!(
        Every::FIELDS[7..10],
        [field(0x38, 5, "text"), field(0x40, 6, "units"), field(0x48, 8, "pairs")]
    );
    let structure = Every::STRUCTURE;
    assert_eq!((structure.title, structure.length, structure.order), ("test record", 96, Order::Little));
    assert_eq!((Every::LENGTH, Swapped::STRUCTURE.order), (96, Order::Big));
}

#[test]
fn another_value_of_a_fixed_field_is_refused_with_its_place() {
    let mut bytes = by_hand();
    bytes[0x50] = 0x52;
    let error = Every::read(&bytes).unwrap_err();
    assert_eq!(error.kind(), Kind::Format);
    assert_eq!(
        error.to_string(),
        "test record: magic at byte 0x50 is wrong\n  expected: 0xef53\n  found: 0xef52"
    );
    let mut bytes = by_hand();
    bytes[0x57] = b'B';
    let error = Every::read(&bytes).unwrap_err().to_string();
    assert_eq!(error, "test record: signature at byte 0x54 is wrong\n  expected: `RRaA`\n  found: `RRaB`");
    let error = Swapped::read(&[0; 16]).unwrap_err().to_string();
    assert!(error.ends_with("expected: 0xc03b3998\n  found: 0x00000000"), "{error}");
}

#[test]
fn fewer_bytes_than_the_structure_has_are_refused() {
    for length in [0, 1, 95] {
        let error = Every::read(&by_hand()[..length]).unwrap_err();
        assert_eq!(error.kind(), Kind::Format);
        let text = error.to_string();
        assert!(text.starts_with("test record: it is cut off\n  expected: 96 bytes\n"), "{text}");
        assert!(text.ends_with(&format!("found: {length} bytes")), "{text}");
    }
}

#[test]
fn a_field_is_found_by_its_name_and_cleared() {
    const WORD: Field = field(Every::FIELDS, "word");
    assert_eq!((WORD.offset, WORD.end()), (8, 12));
    assert_eq!(field(Every::FIELDS, "Half Word").offset, 2);
    for name in ["wor", "words", ""] {
        assert!(std::panic::catch_unwind(|| field(Every::FIELDS, name)).is_err(), "{name}");
    }
    let mut bytes = [1; 12];
    WORD.clear(&mut bytes);
    assert_eq!(bytes, [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0]);
    WORD.clear(&mut bytes[..11]);
}

#[test]
fn misplaced_fields_are_found() {
    let field = |offset, length, name| Field { offset, length, name };
    assert_eq!(misplaced(&[field(0, 4, "a"), field(4, 4, "b")], 8), None);
    assert_eq!(misplaced(&[field(0, 4, "a"), field(3, 4, "b")], 8), Some("b"));
    assert_eq!(misplaced(&[field(4, 4, "a"), field(0, 4, "b")], 8), Some("b"));
    assert_eq!(misplaced(&[field(0, 4, "a"), field(4, 5, "b")], 8), Some("b"));
    assert_eq!((name_of(Some("b")), name_of(None)), ("b", ""));
}
