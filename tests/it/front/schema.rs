//! The schema for editors, checked by an independent validator of JSON Schema (python3-jsonschema). It
//! accepts what the program accepts. It refuses what the program refuses, as far as a single value or key is
//! wrong.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use diskwright::container::Format;
use diskwright::disk::Size;
use diskwright::filesystem::erofs::{Compress, Kernel};
use diskwright::filesystem::ext4::{Journal, Reserved, TimePolicy};
use diskwright::filesystem::fat::Times;
use diskwright::front::manifest::Manifest;
use diskwright::front::manifest::schema;
use diskwright::table::Scheme;
use diskwright::tree::Hardlinks;
use diskwright::units::Bytes;
use diskwright::values::{Device, DiskId, DiskSize, EntryOwner, FatBits, Guid, Inodes, Mode, VolumeId};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::judges;

/// Reads a schema and a list of `[name of a definition or null, value]`, prints whether each value is one.
const VALIDATOR: &str = "
import json, sys
from jsonschema import Draft202012Validator as Validator
schema, cases = json.load(sys.stdin)
Validator.check_schema(schema)
def validator(name):
    return Validator(schema if name is None else {'$defs': schema['$defs'], '$ref': '#/$defs/' + name})
json.dump([validator(name).is_valid(value) for name, value in cases], sys.stdout)
";

/// What the validator says of each case.
fn judged(cases: &[(Option<&str>, Value)]) -> Vec<bool> {
    let schema: Value = serde_json::from_str(&schema::json()).unwrap();
    // Debian's own Python, to which its packages belong, even if PATH has another.
    let packages = judges::file("/usr/lib/python3/dist-packages/jsonschema");
    let mut child = Command::new(judges::file("/usr/bin/python3"))
        .args(["-c", VALIDATOR])
        .env("PYTHONPATH", packages.parent().unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = serde_json::to_vec(&json!([schema, cases])).unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&input).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the validator failed");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A manifest of the fixtures as a value, where it is one.
fn value(path: &Path, text: &str) -> Option<Value> {
    match path.extension()?.to_str()? {
        "toml" => serde_json::to_value(toml::from_str::<toml::Table>(text).ok()?).ok(),
        "json" => serde_json::from_str(text).ok(),
        _ => None,
    }
}

/// The manifests in a folder, by their names.
fn manifests(folder: &str) -> Vec<(PathBuf, Value)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries
        .filter_map(|path| {
            let value = value(&path, &std::fs::read_to_string(&path).ok()?)?;
            Some((path, value))
        })
        .collect();
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    found
}

fn verdicts(manifests: &[(PathBuf, Value)]) -> Vec<(String, bool)> {
    let cases: Vec<_> = manifests.iter().map(|(_, value)| (None, value.clone())).collect();
    let names = manifests.iter().map(|(path, _)| path.file_stem().unwrap().to_str().unwrap().to_owned());
    names.zip(judged(&cases)).collect()
}

#[test]
fn manifests_that_are_right_are_right_by_the_schema() {
    let mut good = manifests("fixtures/layouts");
    good.extend(manifests("fixtures/small"));
    assert!(good.len() > 12, "{good:?}");
    // As a program writes it that has a value for every key: null for what is not there.
    let nulls = json!({ "version": 1, "disk": { "table": null, "hybrid": null }, "partition": [ {
        "label": null, "filesystem": { "type": "ext4", "uuid": null }, "contents": [
            { "source": null, "text": "x", "directory": null, "mode": null, "target": "/x" } ] } ] });
    Manifest::parse(nulls.to_string(), Path::new("nulls.json"), Path::new(".")).unwrap();
    good.push(("nulls.json".into(), nulls));
    for (name, valid) in verdicts(&good) {
        assert!(valid, "{name}");
    }
}

/// Faults that no schema can express: sums, and rules about two keys.
const BEYOND: [&str; 8] = [
    "key-twice-json",
    "value-device-range",
    "value-owner-range",
    "value-size-fraction",
    "value-size-long",
    "value-size-too-large",
    "one-line-twice",
    "type-integer-large",
];

#[test]
fn manifests_with_a_wrong_key_type_or_value_are_wrong_by_the_schema() {
    let alone = ["array-", "key-", "type-", "value-", "version-", "one-line"];
    let cases = super::cases::all();
    for name in BEYOND {
        assert!(cases.iter().any(|case| case.stem() == name), "no case {name}");
    }
    let bad: Vec<_> = cases
        .iter()
        .filter(|case| alone.iter().any(|beginning| case.stem().starts_with(beginning)))
        .filter(|case| !BEYOND.contains(&case.stem()))
        .filter_map(|case| Some((case.path(), value(&case.path(), case.text()?)?)))
        .collect();
    assert!(bad.len() > 35, "{}", bad.len());
    for (name, valid) in verdicts(&bad) {
        assert!(!valid, "{name}");
    }
}

/// Texts that are values of one type or another, or nearly so. Not among them are decimals, which no pattern can tell to
/// be whole bytes or not, and attributes are words that the table knows.
const TEXTS: &str = "| |auto|Auto|fill|none|true|false|yes|0|00|1|12|16|24|32|016|512|+5|-5|5 | 5|1e3|1.|.5|4096|64KiB|\
    64 KiB|1.5GiB|64M|64MB|10B|5%|50%|51%|007%|+5%|1.5%|%|644|0644|1777|07777|17777|64|0888|u=rw|root|\
    preserve|nobody|nobody:nogroup|_a-b.c$:0|a$b:c|0x:0|é:0|0:0|1000:100|0:|:|1:1:1|dissolve|dedupe|copy|refuse|clamp|disk|source|zstd|lz4hc|lz4|any|gpt|mbr|GPT|c 5 1|b  8\t1| p |\
    c 5|p 1|u 1 1|c +5 1|1234-ABCD|1234abcd|raw|qcow2|img|0x2178694e|0x2178-694e|123-4ABCD|\
    0867da16-f251-457d-a9e8-c31f9a3c220b|0867da16f251457da9e8c31f9a3c220b";

/// The texts, and values of other types.
fn samples() -> Vec<Value> {
    let others = json!([0, 1, 5, 12, 32, 63, 4096, -1, 1.5, true, false, [], {}, ["gpt"]]);
    TEXTS.split('|').map(|text| json!(text)).chain(others.as_array().unwrap().clone()).collect()
}

/// The cases of one type, each with whether the program takes it.
fn cases<T: DeserializeOwned>(name: &'static str, out: &mut Vec<(Option<&'static str>, Value, bool)>) {
    for value in samples() {
        let taken = serde_json::from_value::<T>(value.clone()).is_ok();
        out.push((Some(name), value, taken));
    }
}

#[test]
fn a_value_is_one_to_the_schema_where_it_is_one_to_the_program() {
    let mut all = Vec::new();
    cases::<Bytes>("Bytes", &mut all);
    cases::<Device>("Device", &mut all);
    cases::<Compress>("ErofsCompress", &mut all);
    cases::<DiskId>("DiskId", &mut all);
    cases::<DiskSize>("DiskSize", &mut all);
    cases::<FatBits>("FatBits", &mut all);
    cases::<VolumeId>("VolumeId", &mut all);
    cases::<Format>("Format", &mut all);
    cases::<Guid>("Guid", &mut all);
    cases::<Hardlinks>("Hardlinks", &mut all);
    cases::<Kernel>("ErofsKernel", &mut all);
    cases::<Inodes>("Inodes", &mut all);
    cases::<Journal>("Journal", &mut all);
    cases::<Mode>("Mode", &mut all);
    cases::<EntryOwner>("EntryOwner", &mut all);
    cases::<Size>("PartitionSize", &mut all);
    cases::<Reserved>("Reserved", &mut all);
    cases::<Scheme>("Table", &mut all);
    cases::<TimePolicy>("TimePolicy", &mut all);
    cases::<Times>("FatTimes", &mut all);
    let asked: Vec<_> = all.iter().map(|(name, value, _)| (*name, value.clone())).collect();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for ((name, value, taken), valid) in all.iter().zip(judged(&asked)) {
        seen.insert((name.unwrap(), *taken));
        if *taken != valid {
            wrong.push(format!("{}: {value}: the program {taken}, the schema {valid}", name.unwrap()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Every type accepts one text and refuses another; otherwise nothing was compared.
    assert_eq!(seen.len(), 2 * 20, "{seen:?}");
}

#[test]
fn the_validator_tells_right_from_wrong() {
    assert_eq!(judged(&[(None, json!({ "version": 1 })), (None, json!({ "version": 2 }))]), [true, false]);
    assert_eq!(judged(&[(Some("Mode"), json!("0644")), (Some("Mode"), json!(644))]), [true, false]);
}
