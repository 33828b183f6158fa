//! What became of each partition, as systemd-repart tells it: JSON for machines, a table for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::Options;
use super::allocate::Place;
use super::definition::{Definition, Verity};
use super::plan::Part;
use crate::disk::report::Report;
use crate::disk::verity::ROOT_HASH;
use crate::text::{printable, printable_path};
use crate::units::Bytes;

/// What became of all partitions.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// By their place on the disk.
    pub rows: Vec<Row>,
}

/// What became of a partition.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its type: systemd's name, or a GUID.
    pub kind: String,
    /// Its type as a GUID.
    pub kind_guid: Uuid,
    /// Its name; empty for none.
    pub label: String,
    /// Its GUID.
    pub guid: Uuid,
    /// Its slot, from 1.
    pub number: u32,
    /// The definition; `None` for a partition that none is about.
    pub file: Option<PathBuf>,
    /// What was read after the definition.
    pub drop_ins: Vec<PathBuf>,
    /// The image with the number of the partition.
    pub node: String,
    /// Where it begins.
    pub offset: Bytes,
    /// How long it was; 0 for a new one.
    pub old_size: Bytes,
    /// How long it is.
    pub size: Bytes,
    /// How much was free behind it.
    pub old_padding: Bytes,
    /// How much is free behind it.
    pub padding: Bytes,
    /// What is done with it.
    pub activity: Activity,
    /// The root hash of its dm-verity set, in hexadecimal digits.
    pub root_hash: Option<String>,
    /// Whether it holds a signature.
    pub(super) is_signature: bool,
    /// Which dm-verity set it belongs to.
    pub(super) match_key: Option<String>,
    /// Where it is written to as a file of its own.
    pub split: Option<PathBuf>,
    /// `SplitName=`; `None` where there is none.
    pub(super) split_name: Option<String>,
    /// Whether its definition is deferred, also where the partition is there already.
    pub(super) put_off: bool,
    /// Its position in the disk; `None` where it is not written now.
    pub(super) position: Option<usize>,
    /// Where it is mounted, with options.
    pub(super) mounts: Vec<(String, String)>,
    /// The name of its filesystem.
    pub(super) filesystem: Option<String>,
    /// How long the file of a signature is, where that is not the partition.
    pub(super) own_length: Option<Bytes>,
    /// The id of its filesystem as `blkid` prints it.
    pub(super) filesystem_id: Option<String>,
    /// The GUID that the id of its filesystem derives from.
    pub(super) own_guid: Uuid,
    /// Whether its GUID follows from a root hash, which is known once all is built.
    pub(super) hashed: bool,
}

/// What is done with a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It is new.
    Create,
    /// It was there, and is larger now.
    Resize,
    /// It stays as it is.
    Unchanged,
}

impl Activity {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Resize => "resize",
            Self::Unchanged => "unchanged",
        }
    }
}

impl Row {
    pub(super) fn new(
        part: &Part,
        definition: Option<&Definition>,
        place: Place,
        position: Option<usize>,
        options: &Options,
    ) -> Self {
        let current = part.current.as_ref();
        let old_size = current.map(|current| current.span.size).unwrap_or_default();
        let activity = match current {
            None => Activity::Create,
            Some(current) if current.span.size == place.span.size => Activity::Unchanged,
            Some(_) => Activity::Resize,
        };
        let shown =
            |definition: &Definition| definition.drop_ins.iter().map(|path| options.shown(path)).collect();
        let drop_ins = definition.map(shown);
        let split_name = definition.map(|definition| definition.split_name.clone());
        Self {
            kind: part.kind.shown(),
            kind_guid: part.kind.guid,
            label: match (part.label.as_str(), part.definition, &part.kind.name) {
                // systemd names a partition that is not its own by its type.
                ("", None, Some(name)) => name.clone(),
                (label, ..) => label.to_owned(),
            },
            guid: part.guid,
            number: part.number,
            file: definition.map(|definition| options.shown(&definition.path)),
            drop_ins: drop_ins.unwrap_or_default(),
            node: node(&options.node(), part.number),
            offset: place.span.offset,
            old_size,
            size: place.span.size,
            old_padding: current.map(|current| current.padding).unwrap_or_default(),
            padding: place.padding,
            activity,
            root_hash: None,
            is_signature: definition
                .is_some_and(|it| it.verity == Verity::Signature && it.copy_blocks.is_none()),
            match_key: definition.and_then(|definition| definition.match_key.clone()),
            split: None,
            split_name: split_name.filter(|name| name != "-"),
            put_off: false,
            position,
            mounts: definition.map(|definition| definition.mounts.clone()).unwrap_or_default(),
            filesystem: definition.and_then(|definition| definition.filesystem().map(str::to_owned)),
            own_length: None,
            filesystem_id: None,
            own_guid: part.guid,
            hashed: current.is_none()
                && definition
                    .is_some_and(|it| it.uuid.is_none() && matches!(it.verity, Verity::Data | Verity::Hash)),
        }
    }

    /// Whether its bytes are written now.
    pub(super) fn is_written(&self) -> bool {
        self.position.is_some() && self.activity == Activity::Create
    }
}

/// What a partition of an image is called: a number behind a digit is told apart by a `p` (libfdisk `fdisk_partname`).
fn node(image: &Path, number: u32) -> String {
    let image = printable_path(image);
    let p = if image.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    format!("{image}{p}{number}")
}

impl Outcome {
    pub(super) const fn new(rows: Vec<Row>) -> Self {
        Self { rows }
    }

    /// Adds what is known once the disk is built: GUIDs that follow from root hashes.
    pub(super) fn complete(&mut self, report: &Report) {
        let hashes: BTreeMap<String, String> = self
            .rows
            .iter()
            .filter_map(|row| {
                let values = &report.partitions.get(row.position?)?.values;
                Some((row.match_key.clone()?, values.get(ROOT_HASH)?.clone()))
            })
            .collect();
        for row in &mut self.rows {
            // Known of the whole set, also of what is deferred.
            let known = row.match_key.as_ref().and_then(|key| hashes.get(key)).cloned();
            row.root_hash = known.or(row.root_hash.take());
            let Some(partition) = row.position.and_then(|position| report.partitions.get(position)) else {
                continue;
            };
            if let Some(guid) = partition.guid.as_deref().and_then(|guid| guid.parse().ok()) {
                row.guid = guid;
            }
            row.filesystem_id = partition.filesystem.as_ref().map(|filesystem| filesystem.uuid.clone());
        }
    }

    /// Whether fstab(5) would say something of one of them.
    #[cfg(feature = "cli")]
    pub(crate) fn mounts(&self) -> bool {
        self.rows.iter().any(|row| row.filesystem.is_some() && !row.mounts.is_empty())
    }

    /// The JSON of systemd-repart, on one line or indented by its rules, with a final newline.
    #[must_use]
    pub fn json(&self, pretty: bool) -> String {
        let any = |has: &dyn Fn(&Row) -> bool| self.rows.iter().any(has);
        let columns = Columns {
            root_hash: any(&|row| row.match_key.is_some()),
            drop_ins: any(&|row| !row.drop_ins.is_empty()),
            split: any(&|row| row.split.is_some()),
        };
        let rows: Vec<Vec<(&str, Value)>> = self.rows.iter().map(|row| row.values(columns)).collect();
        let text = if pretty { indented(&rows) } else { short(&rows) };
        text + "\n"
    }

    /// A table for people.
    #[must_use]
    pub fn table(&self, legend: bool) -> String {
        let head = ["TYPE", "LABEL", "UUID", "FILE", "NODE", "OFFSET", "SIZE", "PADDING", "ACTIVITY"];
        let human = |old: Bytes, new: Bytes| match old == new {
            true => new.human(),
            false => format!("{} → {}", old.human(), new.human()),
        };
        let name = |path: &Path| path.file_name().map(printable_path).unwrap_or_default();
        let rows = self.rows.iter().map(|row| {
            [
                row.kind.clone(),
                dash(printable(row.label.as_bytes())),
                row.guid.to_string(),
                dash(row.file.as_deref().map(name).unwrap_or_default()),
                name(Path::new(&row.node)),
                row.offset.human(),
                human(row.old_size, row.size),
                human(row.old_padding, row.padding),
                row.activity.name().to_owned(),
            ]
        });
        let rows: Vec<[String; 9]> =
            legend.then(|| head.map(str::to_owned)).into_iter().chain(rows).collect();
        let width = |column: usize| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
        };
        let widths: Vec<usize> = (0..head.len()).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in &rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, "{cell:<width$} ");
            }
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }
}

/// Which of the columns are there that not every disk has.
#[derive(Clone, Copy)]
struct Columns {
    root_hash: bool,
    drop_ins: bool,
    split: bool,
}

/// A value of the JSON.
enum Value {
    Text(String),
    Number(u64),
    List(Vec<String>),
    Null,
}

impl Value {
    fn path(path: &Path) -> Self {
        Self::Text(path.to_string_lossy().into_owned())
    }
}

impl Row {
    fn values(&self, columns: Columns) -> Vec<(&'static str, Value)> {
        let mut values = vec![
            ("type", Value::Text(self.kind.clone())),
            ("label", Value::Text(dash(self.label.clone()))),
            ("uuid", Value::Text(self.guid.to_string())),
            ("partno", Value::Number(u64::from(self.number.saturating_sub(1)))),
            ("file", self.file.as_deref().map_or(Value::Null, Value::path)),
            ("node", Value::Text(self.node.clone())),
            ("offset", Value::Number(self.offset.get())),
            ("old_size", Value::Number(self.old_size.get())),
            ("raw_size", Value::Number(self.size.get())),
            ("old_padding", Value::Number(self.old_padding.get())),
            ("raw_padding", Value::Number(self.padding.get())),
            ("activity", Value::Text(self.activity.name().to_owned())),
        ];
        if columns.root_hash {
            // systemd says so where the data was deferred or was there before.
            let unknown =
                || if self.match_key.is_some() { Value::Text("TBD".to_owned()) } else { Value::Null };
            values.push(("roothash", self.root_hash.clone().map_or_else(unknown, Value::Text)));
        }
        if columns.drop_ins {
            let list: Vec<String> =
                self.drop_ins.iter().map(|path| path.to_string_lossy().into_owned()).collect();
            values.push(("drop-in_files", if list.is_empty() { Value::Null } else { Value::List(list) }));
        }
        if columns.split {
            let none = || Value::Text("-".to_owned());
            values.push(("split_path", self.split.as_deref().map_or_else(none, Value::path)));
        }
        values
    }
}

fn dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn short(rows: &[Vec<(&str, Value)>]) -> String {
    let value = |value: &Value| match value {
        Value::Text(text) => quoted(text),
        Value::Number(number) => number.to_string(),
        Value::List(list) => {
            format!("[{}]", list.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(","))
        }
        Value::Null => "null".to_owned(),
    };
    let row = |row: &Vec<(&str, Value)>| {
        let fields = row.iter().map(|(key, field)| format!("\"{key}\":{}", value(field)));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    };
    format!("[{}]", rows.iter().map(row).collect::<Vec<_>>().join(","))
}

/// As systemd indents: tabs, and a blank on both sides of a colon.
fn indented(rows: &[Vec<(&str, Value)>]) -> String {
    let value = |value: &Value| match value {
        Value::Text(text) => quoted(text),
        Value::Number(number) => number.to_string(),
        Value::List(list) => {
            let items: Vec<String> = list.iter().map(|text| format!("\t\t\t{}", quoted(text))).collect();
            format!("[\n{}\n\t\t]", items.join(",\n"))
        }
        Value::Null => "null".to_owned(),
    };
    let row = |row: &Vec<(&str, Value)>| {
        let fields = row.iter().map(|(key, field)| format!("\t\t\"{key}\" : {}", value(field)));
        format!("\t{{\n{}\n\t}}", fields.collect::<Vec<_>>().join(",\n"))
    };
    if rows.is_empty() {
        return "[]".to_owned();
    }
    format!("[\n{}\n]", rows.iter().map(row).collect::<Vec<_>>().join(",\n"))
}
