//! Every comparison of these tests can fail: each gets a volume with the fault that it looks for.

use diskwright::filesystem::fat::FatType;
use diskwright::units::MIB;

use super::support::*;
use super::whole as fat;

fn expected() -> Listing {
    listing([("/a file", noise(1, 5000)), ("/d/B", noise(2, 100)), ("/d/c", Vec::new())])
}

fn volume(fat: FatType) -> Poured {
    let size = if fat == FatType::Fat12 { MIB } else { 40 * MIB };
    poured(&fat::build(&texts(&expected()), &fat::Options { fat: Some(fat), ..fixed(size) }).unwrap(), 1)
}

/// Where `needle` stands in the file for the first time.
fn find(volume: &Poured, needle: &[u8]) -> u64 {
    let bytes = volume.bytes();
    u64::try_from(bytes.windows(needle.len()).position(|window| window == needle).unwrap()).unwrap()
}

#[test]
fn fsck_sees_a_wrong_table_and_a_wrong_count() {
    for fat in [FatType::Fat12, FatType::Fat32] {
        let volume = volume(fat);
        let table = find(&volume, if fat == FatType::Fat12 { b"\xf8\xff\xff" } else { b"\xf8\xff\xff\x0f" });
        fsck(&volume.path()).unwrap();
        volume.flip(table + 8);
        fsck(&volume.path()).unwrap_err();
        volume.flip(table + 8);
        fsck(&volume.path()).unwrap();
    }
    let volume = volume(FatType::Fat32);
    for place in [512 + 488, 6 * 512 + 3] {
        volume.flip(place);
        fsck(&volume.path()).unwrap_err();
        volume.flip(place);
    }
    judge(&volume, &expected()).unwrap();
}

#[test]
fn the_judge_sees_wrong_facts() {
    let mut volume = volume(FatType::Fat12);
    volume.facts.free_blocks -= 1;
    assert!(judge(&volume, &expected()).unwrap_err().contains("fsck.fat counts"));
}

#[test]
fn both_readers_see_a_wrong_byte() {
    let volume = volume(FatType::Fat12);
    volume.flip(find(&volume, &noise(1, 5000)) + 4321);
    fsck(&volume.path()).unwrap();
    for read in [read_with_mtools, read_with_hadris] {
        let error = same(&expected(), &read(&volume.path()).unwrap()).unwrap_err();
        assert_eq!(error, "/a file: 5000 and 5000 bytes, different at Some(4321)");
    }
    judge(&volume, &expected()).unwrap_err();
}

#[test]
fn both_readers_see_another_name() {
    let volume = volume(FatType::Fat12);
    let (good, said) = run(tool("mren").arg("-i").arg(volume.path()).args(["::/d/B", "::/d/b2"]));
    assert!(good, "{said}");
    for read in [read_with_mtools, read_with_hadris] {
        let error = same(&expected(), &read(&volume.path()).unwrap()).unwrap_err();
        assert_eq!(error, "/d/B is missing");
    }
}

#[test]
fn both_readers_see_another_case_and_length() {
    let volume = volume(FatType::Fat12);
    // `c` of the long name becomes `b`, and the checksum holds; 100 bytes of B become 101.
    volume.flip(find(&volume, b"Ac\0\0\0\xff\xff") + 1);
    volume.flip(find(&volume, b"B          ") + 28);
    for read in [read_with_mtools, read_with_hadris] {
        let found = read(&volume.path()).unwrap();
        let error = same(&expected(), &found).unwrap_err();
        assert!(error.starts_with("/d/B: 100 and 101 bytes"), "{error}");
        assert!(found.contains_key("/d/b") && !found.contains_key("/d/c"), "{:?}", found.keys());
    }
}

#[test]
fn mtools_sees_another_attribute() {
    let volume = volume(FatType::Fat12);
    volume.flip(find(&volume, b"B          ") + 11);
    assert!(read_with_mtools(&volume.path()).unwrap_err().starts_with("mattrib:"));
}

#[test]
fn hadris_sees_lost_clusters_and_pieces() {
    let volume = volume(FatType::Fat32);
    let table = find(&volume, b"\xf8\xff\xff\x0f");
    // The chain of `a file` from 4 on: 5 leads to 7 instead of 6.
    volume.flip(table + 5 * 4);
    let error = read_with_hadris(&volume.path()).unwrap_err();
    assert!(error.contains("SizeMismatch") && error.contains("LostClusters"), "{error}");
}

#[test]
fn listings_differ_by_name_kind_and_bytes() {
    let one = expected();
    same(&one, &one).unwrap();
    let mut other = one.clone();
    other.insert("/e".into(), None);
    assert_eq!(same(&one, &other).unwrap_err(), "/e is too much");
    assert_eq!(same(&other, &one).unwrap_err(), "/e is missing");
    other.insert("/d/c".into(), None);
    assert_eq!(same(&one, &other).unwrap_err(), "/d/c: once a file, once a directory");
}
