//! docs/keys.md has every key that a manifest may have, in the words of the schema. After a change of the schema it is
//! written anew with `DISKWRIGHT_BLESS=1 cargo test --test it front::keys`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use diskwright::front::manifest::schema;
use serde_json::Value;

const PAGE: &str = "docs/keys.md";

const HEAD: &str = "# The keys of a manifest\n\n\
    The texts are those of the schema (`diskwright schema`); a test compares them. `manifest.md` has the rules between\n\
    keys. The keys of a filesystem depend on its type.\n";

/// The tables of a manifest: their names there and in the schema.
const TABLES: [(&str, &str); 19] = [
    ("At the top", ""),
    ("`[disk]`", "Disk"),
    ("`[[disk.raw]]`", "Raw"),
    ("`[[output]]`", "Output"),
    ("`[boot]`", "Boot"),
    ("`[[partition]]`", "Partition"),
    ("`filesystem` of a partition", "Filesystem"),
    ("A dataset of `filesystem.datasets`, of type zfs", "ZfsDataset"),
    ("`vm` of a filesystem of type zfs, and of `nixos`", "HelperVm"),
    ("`verity` of a partition", "Verity"),
    ("`signature` of a partition", "Signature"),
    ("An entry of `contents`", "Entry"),
    ("`uki` of an entry", "Uki"),
    ("`[nixos]`", "Nixos"),
    ("An entry of `nixos.contents`", "NixosContent"),
    ("An entry of `nixos.datasets`", "NixosDataset"),
    ("`[[nixos.partitions]]`", "NixosPartition"),
    ("`[repart]`", "Repart"),
    ("An entry of `repart.join_signature`", "JoinedSignature"),
];

fn page(schema: &Value) -> String {
    let mut page = HEAD.to_owned();
    for (title, name) in TABLES {
        let table = if name.is_empty() { schema } else { &schema["$defs"][name] };
        let Some(shapes) = table["oneOf"].as_array().filter(|_| table["properties"].is_null()) else {
            keys(&mut page, title, table);
            continue;
        };
        for shape in shapes {
            let kind = shape["properties"]["type"]["const"].as_str().unwrap();
            keys(&mut page, &format!("{title}, of type {kind}"), shape);
        }
    }
    page.push_str("\n## Values\n\n| value | is |\n|---|---|\n");
    for (name, about) in sorted(&schema["$defs"]) {
        if !TABLES.iter().any(|(_, known)| known == name) {
            let _ = writeln!(page, "| {name} | {}{} |", meaning(about), choices(about));
        }
    }
    page
}

/// A table of the keys of `table`. The key that decides the other keys is in the title.
fn keys(page: &mut String, title: &str, table: &Value) {
    let _ = write!(page, "\n## {title}\n\n| key | value | meaning |\n|---|---|---|\n");
    for (key, about) in sorted(&table["properties"]).into_iter().filter(|(_, about)| about["const"].is_null())
    {
        let _ = writeln!(page, "| `{key}` | {} | {} |", value(about), meaning(about));
    }
}

/// The members of an object sorted by name, for any order that this build keeps.
fn sorted(object: &Value) -> BTreeMap<&String, &Value> {
    object.as_object().unwrap().iter().collect()
}

/// A description as one line of a table.
fn meaning(about: &Value) -> String {
    let text = about["description"].as_str().unwrap_or_else(|| panic!("no description of {about}"));
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// What a key takes.
fn value(about: &Value) -> String {
    let referred =
        |about: &Value| about["$ref"].as_str().and_then(|path| path.rsplit('/').next()).map(str::to_owned);
    let several = about["anyOf"].as_array().into_iter().flatten();
    let name = referred(about).or_else(|| several.into_iter().find_map(referred));
    if let Some(name) = name {
        let table = TABLES.iter().any(|(_, known)| *known == name);
        return if table { "a table".to_owned() } else { name };
    }
    let kinds = match &about["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => vec![kind.as_str().unwrap_or_else(|| panic!("no type of {about}"))],
    };
    match kinds[0] {
        "array" => format!("an array: {}", value(&about["items"])),
        "string" => "text".to_owned(),
        "integer" => "a number".to_owned(),
        "boolean" => "true or false".to_owned(),
        "object" => format!("a table of names: {}", value(&about["additionalProperties"])),
        other => panic!("{other} has no word"),
    }
}

/// The values of a closed set, where the description does not name them all.
fn choices(about: &Value) -> String {
    let consts = about["oneOf"].as_array().into_iter().flatten().map(|choice| &choice["const"]);
    let all: Vec<String> = about["enum"]
        .as_array()
        .into_iter()
        .flatten()
        .chain(consts)
        .filter_map(|choice| choice.as_str().map(str::to_owned))
        .collect();
    let text = meaning(about);
    if all.is_empty() || all.iter().all(|choice| text.contains(choice.as_str())) {
        return String::new();
    }
    format!(" One of {}.", all.join(", "))
}

#[test]
fn every_key_is_documented_as_the_schema_has_it() {
    let wanted = page(&serde_json::from_str(&schema::json()).unwrap());
    if std::env::var_os("DISKWRIGHT_BLESS").is_some() {
        std::fs::write(PAGE, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(PAGE).unwrap_or_default();
    let stale: Vec<_> = wanted.lines().filter(|line| !found.lines().any(|other| other == *line)).collect();
    assert!(found == wanted, "{PAGE} is not what the schema says; it lacks\n{}", stale.join("\n"));
    // The page is complete: every kind of thing is in it.
    for word in [
        "| `grow_to` | Bytes | Size up to which ",
        "| `attributes` | an array: Attribute |",
        "| `device` | Device |",
    ] {
        assert!(wanted.contains(word), "no `{word}`");
    }
}
