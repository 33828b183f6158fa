//! The manual page of manifests, diskwright.toml(5), from the schema that editors read.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::docs::{DATE, escaped};
use crate::front::manifest::schema;

/// The tables of a manifest: their names there and in the schema.
const TABLES: [(&str, &str); 19] = [
    ("AT THE TOP", ""),
    ("[disk]", "Disk"),
    ("[[disk.raw]]", "Raw"),
    ("[[output]]", "Output"),
    ("[boot]", "Boot"),
    ("[[partition]]", "Partition"),
    ("filesystem of a partition", "Filesystem"),
    ("a dataset of a filesystem of type zfs", "ZfsDataset"),
    ("vm of a filesystem of type zfs, and of nixos", "HelperVm"),
    ("verity of a partition", "Verity"),
    ("signature of a partition", "Signature"),
    ("an entry of contents", "Entry"),
    ("uki of an entry", "Uki"),
    ("[nixos]", "Nixos"),
    ("an entry of nixos.contents", "NixosContent"),
    ("an entry of nixos.datasets", "NixosDataset"),
    ("[[nixos.partitions]]", "NixosPartition"),
    ("[repart]", "Repart"),
    ("an entry of repart.join_signature", "JoinedSignature"),
];

/// The page, in roff.
pub(super) fn page() -> String {
    let schema: Value = serde_json::from_str(&schema::json()).unwrap_or_default();
    let mut page = format!(
        ".TH diskwright.toml 5 \"{DATE}\" \"diskwright {}\" \"diskwright manual\"\n\
         .SH NAME\ndiskwright.toml \\- a manifest, which describes a disk image\n\
         .SH DESCRIPTION\nA manifest is TOML, or the same keys in JSON. Relative paths in it begin at its folder. \
         \\fBdiskwright build\\fR builds the disk that it describes, \\fBdiskwright init\\fR writes one to start from, and \
         \\fBdiskwright schema\\fR prints its schema for editors. Sizes are bytes, or a number with KiB, MiB, GiB or TiB.\n",
        env!("CARGO_PKG_VERSION"),
    );
    for (title, name) in TABLES {
        let table = if name.is_empty() { &schema } else { &schema["$defs"][name] };
        match table["oneOf"].as_array().filter(|_| table["properties"].is_null()) {
            None => keys(&mut page, &schema, title, table),
            Some(shapes) => {
                for shape in shapes {
                    let kind = shape["properties"]["type"]["const"].as_str().unwrap_or_default();
                    keys(&mut page, &schema, &format!("{title}, type = \"{kind}\""), shape);
                }
            }
        }
    }
    worded(&mut page, &schema);
    page.push_str(".SH EXAMPLE\n.nf\n");
    for line in include_str!("starters/esp+root.toml").lines() {
        let _ = writeln!(page, "{}", escaped(line));
    }
    page.push_str(
        ".fi\n.SH SEE ALSO\n\\fBdiskwright\\fR(1), \\fBdiskwright-build\\fR(1), \\fBdiskwright-init\\fR(1)\n",
    );
    page
}

/// The values that keys name in brackets, each with what it is.
fn worded(page: &mut String, schema: &Value) {
    page.push_str(".SH VALUES\n");
    let sorted: BTreeMap<_, _> = schema["$defs"].as_object().into_iter().flatten().collect();
    for (name, about) in sorted.into_iter().filter(|(name, _)| TABLES.iter().all(|(_, table)| table != name))
    {
        let _ = writeln!(page, ".TP\n\\fB{}\\fR\n{}", escaped(name), escaped(&in_a_line(about)));
    }
}

/// A description without its line breaks.
fn in_a_line(about: &Value) -> String {
    about["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The keys of a table, each with its values and its meaning.
fn keys(page: &mut String, schema: &Value, title: &str, table: &Value) {
    let _ = writeln!(page, ".SH {}", escaped(title));
    let sorted: BTreeMap<_, _> = table["properties"].as_object().into_iter().flatten().collect();
    for (key, about) in sorted.into_iter().filter(|(_, about)| about["const"].is_null()) {
        let (values, meaning) = (escaped(&values(schema, about)), escaped(&in_a_line(about)));
        let _ = writeln!(page, ".TP\n\\fB{}\\fR {values}\n{meaning}", escaped(key));
    }
}

/// The values of a key, in brackets.
fn values(schema: &Value, about: &Value) -> String {
    let refers = |about: &Value| about["$ref"].as_str()?.rsplit('/').next().map(str::to_owned);
    let several = about["anyOf"].as_array().into_iter().flatten();
    if let Some(name) = refers(about).or_else(|| several.into_iter().find_map(refers)) {
        let choices = schema["$defs"][&name]["enum"].as_array().into_iter().flatten();
        let choices: Vec<&str> = choices.filter_map(Value::as_str).collect();
        return match choices.as_slice() {
            [] if TABLES.iter().any(|(_, table)| *table == name) => "(a table)".to_owned(),
            [] => format!("({name})"),
            choices => format!("({})", choices.join(" | ")),
        };
    }
    let kind = match &about["type"] {
        Value::Array(kinds) => kinds.first().and_then(Value::as_str),
        kind => kind.as_str(),
    };
    match kind {
        Some("array") => {
            format!("(an array of {})", values(schema, &about["items"]).trim_matches(['(', ')']))
        }
        Some("string") => "(text)".to_owned(),
        Some("integer") => "(a number)".to_owned(),
        Some("boolean") => "(true | false)".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_meaning() {
        let page = page();
        for key in ["grow_to", "hybrid", "hardlinks", "boot_loader", "cluster_size"] {
            assert!(page.contains(&format!("\\fB{}\\fR", escaped(key))), "{key}");
        }
        // No table is left out: each definition with keys has its own section, and each key its line.
        let schema: Value = serde_json::from_str(&schema::json()).unwrap();
        for (name, about) in schema["$defs"].as_object().unwrap() {
            let shapes = about["oneOf"].as_array().into_iter().flatten().chain([about]);
            for key in shapes.flat_map(|shape| shape["properties"].as_object().into_iter().flatten()) {
                assert!(TABLES.iter().any(|(_, table)| table == name), "{name} is no table");
                let is_named = page.contains(&format!("\\fB{}\\fR", escaped(key.0)));
                assert!(is_named || !key.1["const"].is_null(), "{name} {}", key.0);
            }
        }
        let lines: Vec<&str> = page.lines().collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| **line == ".TP") {
            assert!(
                lines.get(at + 2).is_some_and(|meaning| meaning.len() > 8),
                "{line} at {at}: {:?}",
                lines.get(at + 1)
            );
        }
    }
}
