//! Each value parses from its texts and prints a text that parses back.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::*;
use crate::disk::Size;
use crate::filesystem::ext4::{Journal, Reserved, TimePolicy};
use crate::filesystem::fat::{FatType, Times};
use crate::table::Scheme;
use crate::tree::{Account, Hardlinks, Owner};
use crate::units::{Bytes, GIB, MIB};

/// Each text gives the value, and the value's text gives the value again.
fn reads<T: FromStr<Err: fmt::Debug> + fmt::Display + fmt::Debug + PartialEq>(cases: &[(&str, T)]) {
    for (text, value) in cases {
        assert_eq!(&text.parse::<T>().unwrap(), value, "{text}");
        assert_eq!(&value.to_string().parse::<T>().unwrap(), value, "{text} as {value}");
    }
}

fn refuses<T: FromStr<Err: fmt::Debug> + fmt::Debug>(texts: &[&str]) {
    for text in texts {
        let read = text.parse::<T>();
        assert!(read.is_err(), "{text}: {read:?}");
    }
}

#[test]
fn sizes() {
    let gib = Bytes::new(GIB);
    reads(&[("auto", DiskSize::Auto), ("1GiB", DiskSize::Fixed(gib)), ("1073741824", DiskSize::Fixed(gib))]);
    reads(&[("fill", Size::Fill), ("auto", Size::Auto), ("1GiB", Size::Fixed(gib))]);
    reads(&[
        ("true", Journal::Auto),
        ("auto", Journal::Auto),
        ("false", Journal::None),
        ("none", Journal::None),
        ("1GiB", Journal::Size(gib)),
    ]);
    reads(&[
        ("0", Reserved::Bytes(Bytes::ZERO)),
        ("5%", Reserved::Percent(5)),
        ("50%", Reserved::Percent(50)),
        ("1MiB", Reserved::Bytes(Bytes::new(MIB))),
    ]);
    reads(&[
        ("auto", Inodes::Auto),
        ("0", Inodes::Count(0)),
        ("18446744073709551615", Inodes::Count(u64::MAX)),
    ]);
    refuses::<DiskSize>(&["", "fill", "Auto", "1G", "-1"]);
    refuses::<Size>(&["", "rest", "1.0.0"]);
    refuses::<Journal>(&["", "yes", "1M"]);
    refuses::<Reserved>(&["", "51%", "-1%", "1.5%", "%"]);
    refuses::<Inodes>(&["", "-1", "1e6", "18446744073709551616"]);
}

#[test]
fn ids() {
    let text = "0867da16-f251-457d-a9e8-c31f9a3c220b";
    let uuid = Uuid::parse_str(text).unwrap();
    reads(&[(text, Guid(uuid)), ("0867DA16-F251-457D-A9E8-C31F9A3C220B", Guid(uuid))]);
    reads(&[
        (text, DiskId::Guid(uuid)),
        ("0x2178694e", DiskId::Signature(0x2178_694e)),
        ("2178694E", DiskId::Signature(0x2178_694e)),
    ]);
    reads(&[
        ("1234-ABCD", VolumeId(0x1234_abcd)),
        ("0000-0001", VolumeId(1)),
        ("0x1234abcd", VolumeId(0x1234_abcd)),
    ]);
    refuses::<Guid>(&["", "{0867da16-f251-457d-a9e8-c31f9a3c220b}", "0867da16f251457da9e8c31f9a3c220b"]);
    refuses::<DiskId>(&["", "1234-ABCD", "0x123", "0x0x1234ab", "+1234567", "12345678 "]);
    refuses::<VolumeId>(&["", text, "123-4ABCD", "1234-ABCDE", "1234ABC", "1234—ABC"]);
}

#[test]
fn metadata() {
    reads(&[("0644", Mode(0o644)), ("644", Mode(0o644)), ("1777", Mode(0o1777)), ("07777", Mode(0o7777))]);
    refuses::<Mode>(&["", "0", "64", "0888", "10000", "17777", "0o644", "+644", "u=rw"]);
    reads(&[
        ("root", Owner::Root),
        ("preserve", Owner::Preserve),
        ("0:0", Owner::Ids { uid: 0, gid: 0 }),
        ("1000:100", Owner::Ids { uid: 1000, gid: 100 }),
        ("4294967294:1", Owner::Ids { uid: u32::MAX - 1, gid: 1 }),
    ]);
    for (text, names) in [("www-data:adm", 2), ("0:adm", 1), ("_x:1", 1), ("machine$:1", 1)] {
        let Ok(EntryOwner::Named(accounts)) = text.parse() else { panic!("{text}") };
        let named = [&accounts.user, &accounts.group].map(|account| matches!(account, Account::Name(_)));
        assert_eq!(named.into_iter().filter(|named| *named).count(), names, "{text}");
        assert_eq!(EntryOwner::Named(accounts).to_string(), text);
    }
    refuses::<EntryOwner>(&["", "nobody", "a:", ":a", "a:b:c", "1a:0", "a b:c", "../x:y", "0:4294967295"]);
    refuses::<Owner>(&["", "nobody", "0", ":", "0:", "0:4294967295", "+1:1", "1:1:1", "-1:0"]);
    reads(&[
        ("preserve", Hardlinks::Preserve),
        ("dissolve", Hardlinks::Dissolve),
        ("dedupe", Hardlinks::Dedupe),
    ]);
    reads(&[
        ("c 5 1", Device::Character { major: 5, minor: 1 }),
        ("u 5 1", Device::Character { major: 5, minor: 1 }),
        ("b 4095  1048575", Device::Block { major: 4095, minor: 1_048_575 }),
        ("p", Device::Fifo),
    ]);
    refuses::<Device>(&["", "c", "c 5", "c 4096 0", "c 0 1048576", "p 1 1", "x 1 1", "c -1 0", "c 1 1 1"]);
}

#[test]
fn words() {
    reads(&[("gpt", Scheme::Gpt), ("mbr", Scheme::Mbr), ("none", Scheme::None)]);
    reads(&[("refuse", TimePolicy::Refuse), ("clamp", TimePolicy::Clamp)]);
    reads(&[("disk", Times::Disk), ("source", Times::Source)]);
    reads(&[
        ("12", FatBits::Fixed(FatType::Fat12)),
        ("32", FatBits::Fixed(FatType::Fat32)),
        ("auto", FatBits::Auto),
    ]);
    refuses::<Scheme>(&["", "GPT", "dos"]);
    refuses::<FatBits>(&["", "24", "016"]);
    refuses::<Times>(&["", "host", "Source"]);
}

#[test]
fn numbers_and_truth_are_read_where_they_are_natural() {
    let size = |json: &str| serde_json::from_str::<Size>(json);
    assert_eq!(size("1048576").unwrap(), size("\"1MiB\"").unwrap());
    assert!(size("-5").unwrap_err().to_string().starts_with("bad value `-5`"));
    assert!(size("true").unwrap_err().to_string().starts_with("invalid type: boolean"));
    assert_eq!(serde_json::from_str::<Journal>("false").unwrap(), Journal::None);
    let mode = serde_json::from_str::<Mode>("644").unwrap_err().to_string();
    assert!(mode.contains("octal digits in quotes"), "{mode}");
    assert_eq!(serde_json::to_string(&Mode(0o644)).unwrap(), "\"0644\"");
    let long = serde_json::from_str::<Mode>(&format!("\"{}\"", "7".repeat(500))).unwrap_err().to_string();
    assert!(long.contains(&format!("`{}…`", "7".repeat(LONGEST_SHOWN))), "{long}");
}
