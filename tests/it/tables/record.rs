//! The output of `sfdisk --dump` as fields that can be compared, and requests with the same meaning.

use std::collections::BTreeMap;

use diskwright::table::{Request, Scheme, Size, Type, Wish};
use diskwright::units::{Bytes, Sectors};
use uuid::Uuid;

use super::request::gpt;

/// Fields by name.
type Fields = BTreeMap<String, String>;

/// One table. The name of the device is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) header: Fields,
    pub(crate) partitions: BTreeMap<u32, Fields>,
}

impl Record {
    pub(crate) fn parse(text: &str) -> Self {
        let mut record = Self::default();
        for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            if let Some((device, fields)) = line.split_once(" : ") {
                let digits = device.len() - device.trim_end_matches(|c: char| c.is_ascii_digit()).len();
                let number = device[device.len() - digits..].parse().unwrap();
                let field = |field: &str| {
                    let (name, value) = field.split_once('=').unwrap_or((field, ""));
                    (name.trim().to_owned(), value.trim().trim_matches('"').to_owned())
                };
                assert!(record.partitions.insert(number, fields.split(", ").map(field).collect()).is_none());
            } else {
                let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("not a dump: {line:?}"));
                if name != "device" {
                    record.header.insert(name.to_owned(), value.trim().to_owned());
                }
            }
        }
        record
    }

    /// All records of the fixture, by name.
    pub(crate) fn fixture() -> BTreeMap<String, Self> {
        let text = include_str!("../../../fixtures/layouts.txt");
        let mut records = BTreeMap::new();
        for part in text.split("\n== ").skip(1) {
            let (name, dump) = part.split_once('\n').unwrap();
            assert!(records.insert(name.to_owned(), Self::parse(dump)).is_none());
        }
        records
    }

    /// Every field that is not the same in `other`.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut fields = |place: String, ours: &Fields, theirs: &Fields| {
            for name in ours.keys().chain(theirs.keys().filter(|name| !ours.contains_key(*name))) {
                if ours.get(name) != theirs.get(name) {
                    found.push(format!("{place} {name}: {:?}, {:?}", ours.get(name), theirs.get(name)));
                }
            }
        };
        fields("header".to_owned(), &self.header, &other.header);
        let none = Fields::new();
        let numbers: std::collections::BTreeSet<u32> =
            self.partitions.keys().chain(other.partitions.keys()).copied().collect();
        for number in numbers {
            let of = |record: &Self| record.partitions.get(&number).unwrap_or(&none).clone();
            fields(format!("partition {number}"), &of(self), &of(other));
        }
        found
    }

    /// The request that gives each value of the record.
    pub(crate) fn request(&self, disk_size: Bytes) -> Request {
        let is_gpt = self.header["label"] == "gpt";
        let id = &self.header["label-id"];
        Request {
            scheme: if is_gpt { Scheme::Gpt } else { Scheme::Mbr },
            disk_size: Some(disk_size),
            guid: if is_gpt { id.parse().unwrap() } else { Uuid::nil() },
            signature: if is_gpt { 0 } else { u32::from_str_radix(&id[2..], 16).unwrap() },
            first_lba: self.header.get("first-lba").map(|first| Sectors::new(first.parse().unwrap())),
            partitions: self
                .partitions
                .iter()
                .map(|(number, fields)| asked(*number, fields, is_gpt))
                .collect(),
            ..gpt()
        }
    }

    /// The input of `sfdisk` for this table.
    pub(crate) fn script(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.header {
            // It finds these two itself and refuses to be told.
            if name != "sector-size" && name != "unit" {
                text += &format!("{name}: {value}\n");
            }
        }
        text += "\n";
        for (number, fields) in &self.partitions {
            let field = |(name, value): (&String, &String)| match (name.as_str(), value.as_str()) {
                (_, "") => name.clone(),
                ("name" | "attrs", _) => format!("{name}=\"{value}\""),
                _ => format!("{name}={value}"),
            };
            text += &format!("{number} : {}\n", fields.iter().map(field).collect::<Vec<_>>().join(", "));
        }
        text
    }
}

fn asked(number: u32, fields: &Fields, is_gpt: bool) -> Wish {
    let sectors = |name: &str| Sectors::new(fields[name].parse().unwrap()).bytes(512);
    let kind = &fields["type"];
    let byte = || Type::Mbr(u8::from_str_radix(kind, 16).unwrap());
    let bits = fields.get("attrs").into_iter().flat_map(|attrs| attrs.split(' '));
    Wish {
        number: Some(number),
        start: Some(sectors("start")),
        size: Size::Exactly(sectors("size")),
        kind: if is_gpt { Type::Guid(kind.parse().unwrap()) } else { byte() },
        guid: fields.get("uuid").map(|guid| guid.parse().unwrap()).unwrap_or_default(),
        label: fields.get("name").cloned().unwrap_or_default(),
        attributes: bits.map(bit).sum(),
        active: fields.contains_key("bootable"),
        logical: false,
    }
}

/// The bit of one attribute as sfdisk names it.
fn bit(name: &str) -> u64 {
    1 << match name {
        "RequiredPartition" => 0,
        "NoBlockIOProtocol" => 1,
        "LegacyBIOSBootable" => 2,
        other => other.strip_prefix("GUID:").unwrap().parse().unwrap(),
    }
}

#[test]
fn the_comparison_notices_each_field() {
    let record = &Record::fixture()["qemu2018"];
    assert_eq!(record.differences(record), Vec::<String>::new());
    let mut changed = 0;
    for name in record.header.keys() {
        let mut other = record.clone();
        other.header.insert(name.clone(), "x".to_owned());
        assert_eq!(record.differences(&other).len(), 1);
        changed += 1;
    }
    for (number, fields) in &record.partitions {
        for name in fields.keys() {
            let mut other = record.clone();
            other.partitions.get_mut(number).unwrap().remove(name);
            assert_eq!(record.differences(&other).len(), 1);
            assert_eq!(other.differences(record).len(), 1);
            changed += 1;
        }
    }
    // label, label-id, unit, first-lba, last-lba, sector-size; start, size, type, uuid, name, attrs twice.
    assert_eq!(changed, 6 + 12);
    let mut other = record.clone();
    other.partitions.remove(&2);
    assert_eq!(other.differences(record).len(), 6);
}
