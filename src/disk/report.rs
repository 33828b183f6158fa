//! What was built, for people and for machines.

use std::fmt::Write as _;

use serde::Serialize;

use super::Values;
use crate::error::{Error, Result, Subject, Warning};
use crate::filesystem::Facts;
use crate::table::{Placed, Plan, Scheme, attribute_names};
use crate::text::printable;
use crate::units::Bytes;

/// What was built. Sizes and offsets are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Size of the disk.
    pub size: u64,
    /// How many bytes are not hole.
    pub data: u64,
    /// Bytes in a logical sector.
    pub sector_size: u64,
    /// `gpt`, `mbr` or `none`.
    pub table: &'static str,
    /// GUID of a GPT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guid: Option<String>,
    /// Signature of an MBR.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// The partitions in the order of the description.
    pub partitions: Vec<Partition>,
    /// What was asked for and could not be kept.
    pub warnings: Vec<String>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// Its slot in the table.
    pub number: u32,
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub size: u64,
    /// Name of its type, or whatever identifies the type in the table.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// GUID of its type, in a GPT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub type_guid: Option<String>,
    /// Byte of its type, in an MBR.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub type_byte: Option<u8>,
    /// Its GUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guid: Option<String>,
    /// Its name, in a GPT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Its attributes.
    pub attributes: Vec<String>,
    /// Whether it lies in the extended partition of an MBR.
    pub logical: bool,
    /// The filesystem that was made in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<Filesystem>,
    /// What follows from other partitions, by name: the root hash of a hash tree. Those that are known only when the data
    /// was read stand here after [`Built::settle`](super::Built::settle).
    #[serde(skip_serializing_if = "Values::is_empty")]
    pub values: Values,
}

/// A filesystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Filesystem {
    /// `ext4`, `vfat` or `swap`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its label; empty for none.
    pub label: String,
    /// Its id as `blkid` prints it.
    pub uuid: String,
    /// Bytes in a block or cluster.
    pub block_size: u64,
    /// Blocks or clusters in all.
    pub blocks: u64,
    /// Blocks or clusters in use.
    pub used_blocks: u64,
    /// Free blocks or clusters.
    pub free_blocks: u64,
    /// Bytes of the journal, which count as used; 0 where there is none.
    pub journal: u64,
    /// Inodes in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inodes: Option<u64>,
    /// Inodes in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_inodes: Option<u64>,
    /// Free inodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_inodes: Option<u64>,
}

impl Report {
    /// The report of a disk that is laid out as `plan`. `facts` has an element for each partition.
    #[must_use]
    pub fn new(
        plan: &Plan,
        data: Bytes,
        facts: &[Option<Facts>],
        warnings: &[(Option<Subject>, Warning)],
    ) -> Self {
        let (table, guid, signature) = match plan.scheme {
            Scheme::Gpt => ("gpt", Some(plan.guid.to_string()), None),
            Scheme::Mbr => ("mbr", None, Some(format!("0x{:08x}", plan.signature))),
            Scheme::None => ("none", None, None),
        };
        let facts = facts.iter().chain(std::iter::repeat(&None));
        Self {
            size: plan.length.get(),
            data: data.get(),
            sector_size: plan.sector_size,
            table,
            guid,
            signature,
            partitions: plan
                .partitions
                .iter()
                .zip(facts)
                .map(|(placed, facts)| Partition::new(plan.scheme, placed, facts.as_ref()))
                .collect(),
            warnings: warnings
                .iter()
                .map(|(subject, warning)| match subject {
                    Some(subject) => format!("{subject}: {warning}"),
                    None => warning.to_string(),
                })
                .collect(),
        }
    }

    /// For people: the disk in one line, then its partitions as a table.
    #[must_use]
    pub fn text(&self) -> String {
        let human = |bytes: u64| Bytes::new(bytes).human();
        let mut text = human(self.size);
        if let Some(id) = self.guid.as_ref().or(self.signature.as_ref()) {
            let _ = write!(text, ", {} {id}", self.table);
        }
        let _ = writeln!(text, ", {} of data", human(self.data));
        let mut rows = Vec::new();
        if self.table != "none" {
            let titles = ["", "start", "size", "type", "label"].map(str::to_owned);
            rows.push((titles, Filled::Title));
        }
        for partition in &self.partitions {
            let filesystem = partition.filesystem.as_ref();
            if self.table == "none" {
                filesystem
                    .map_or_else(Vec::new, |filesystem| filesystem.lines(WIDTH - 2, partition.size))
                    .iter()
                    .for_each(|line| {
                        let _ = writeln!(text, "  {line}");
                    });
                continue;
            }
            let cells = [
                partition.number.to_string(),
                human(partition.offset),
                human(partition.size),
                shortened(partition.kind.as_deref().unwrap_or_default()),
                shortened(partition.label.as_deref().unwrap_or_default()),
            ];
            rows.push((
                cells,
                filesystem.map_or(Filled::Nothing, |filesystem| Filled::By(filesystem, partition.size)),
            ));
        }
        columns(&rows, &mut text);
        for partition in &self.partitions {
            for (name, value) in &partition.values {
                let _ = writeln!(text, "  {}: {name} {value}", partition.number);
            }
        }
        text
    }

    /// For machines: indented JSON with a final newline. `output` is the name and format of the file, if
    /// there is one.
    ///
    /// # Errors
    /// [`Kind::Bug`](crate::error::Kind::Bug) for what JSON cannot hold: a report has only numbers, texts and lists.
    pub fn json(&self, files: &[(String, String)]) -> Result<String> {
        /// A report of something that was written.
        #[derive(Serialize)]
        struct Written<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            output: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            format: Option<&'a str>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            outputs: Vec<File<'a>>,
            #[serde(flatten)]
            report: &'a Report,
        }
        /// One of several files.
        #[derive(Serialize)]
        struct File<'a> {
            output: &'a str,
            format: &'a str,
        }
        let (output, format) = match files {
            [(output, format)] => (Some(output.as_str()), Some(format.as_str())),
            _ => (None, None),
        };
        let several = files.iter().filter(|_| files.len() > 1);
        let outputs = several.map(|(output, format)| File { output, format }).collect();
        let text = serde_json::to_string_pretty(&Written { output, format, outputs, report: self });
        let mut text = text.map_err(|error| Error::bug("a report is no JSON").because(error))?;
        text.push('\n');
        Ok(text)
    }
}

/// What the last column of a row says.
enum Filled<'a> {
    Title,
    Nothing,
    /// A filesystem, and the bytes of its partition.
    By(&'a Filesystem, u64),
}

/// Appends `rows` in columns as wide as their widest cell. Numbers, places and sizes are aligned right, words
/// left. A filesystem has the last column and as many lines as it needs; those after the first begin further to the left
/// if they would not fit otherwise.
fn columns(rows: &[([String; 5], Filled<'_>)], text: &mut String) {
    let mut widths = [0; 5];
    for (row, _) in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let column = widths.iter().map(|width| width + 2).sum::<usize>() + 2;
    for (row, filled) in rows {
        let mut line = String::new();
        for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
            let _ = if at < 3 { write!(line, "  {cell:>width$}") } else { write!(line, "  {cell:<width$}") };
        }
        let lines = match filled {
            Filled::Title => vec!["filesystem".to_owned()],
            Filled::Nothing => Vec::new(),
            Filled::By(filesystem, size) => filesystem.lines(WIDTH.saturating_sub(column), *size),
        };
        let (first, others) =
            lines.split_first().map_or(("", &[][..]), |(first, others)| (first.as_str(), others));
        let _ = write!(line, "  {first}");
        text.push_str(line.trim_end());
        text.push('\n');
        for other in others {
            let column = column.min(WIDTH.saturating_sub(other.chars().count()));
            let _ = writeln!(text, "{:column$}{other}", "");
        }
    }
}

impl Partition {
    fn new(scheme: Scheme, placed: &Placed, facts: Option<&Facts>) -> Self {
        let gpt = scheme == Scheme::Gpt;
        let mut attributes = attribute_names(placed.attributes);
        if placed.active {
            attributes.push("active".to_owned());
        }
        Self {
            number: placed.number,
            offset: placed.offset.get(),
            size: placed.length.get(),
            kind: (scheme != Scheme::None).then(|| placed.kind.to_string()),
            type_guid: placed.kind.guid().filter(|_| gpt).map(|guid| guid.to_string()),
            type_byte: placed.kind.mbr().filter(|_| scheme == Scheme::Mbr),
            guid: gpt.then(|| placed.guid.to_string()),
            label: gpt.then(|| placed.label.clone()),
            attributes,
            logical: placed.logical,
            filesystem: facts.map(Filesystem::new),
            values: Values::new(),
        }
    }
}

impl Filesystem {
    fn new(facts: &Facts) -> Self {
        let used = |all: Option<u64>, free: Option<u64>| Some(all?.saturating_sub(free?));
        Self {
            kind: facts.kind,
            label: facts.label.clone(),
            uuid: facts.uuid.clone(),
            block_size: facts.block_size,
            blocks: facts.blocks,
            used_blocks: facts.blocks.saturating_sub(facts.free_blocks),
            free_blocks: facts.free_blocks,
            journal: facts.journal,
            inodes: facts.inodes,
            used_inodes: used(facts.inodes, facts.free_inodes),
            free_inodes: facts.free_inodes,
        }
    }

    /// `ext4 nixos 5e1f…`, with the UUID on a line of its own if `space` columns do not hold both, and how full it is:
    /// `1.2 GiB used (64 MiB of it the journal), 512 MiB free`. Where the last block is not whole, as in SquashFS, what is
    /// used ends with the `size` bytes of the partition.
    fn lines(&self, space: usize, size: u64) -> Vec<String> {
        let mut name = self.kind.to_owned();
        let (label, uuid) = (shortened(&self.label), printable(self.uuid.as_bytes()));
        if !label.is_empty() {
            let _ = write!(name, " {label}");
        }
        let mut lines = if uuid.is_empty() {
            vec![name]
        } else if name.chars().count() + 1 + uuid.chars().count() <= space {
            vec![format!("{name} {uuid}")]
        } else {
            vec![name, uuid]
        };
        if self.kind == "swap" {
            return lines;
        }
        let human = |blocks: u64| Bytes::new(blocks.saturating_mul(self.block_size).min(size)).human();
        let mut full = format!("{} used", human(self.used_blocks));
        if self.journal > 0 {
            let _ = write!(full, " ({} of it the journal)", Bytes::new(self.journal).human());
        }
        let _ = write!(full, ", {} free", human(self.free_blocks));
        lines.push(full);
        lines
    }
}

/// Columns of the terminal that the table fits.
const WIDTH: usize = 100;

/// The longest name that the table cuts to, in characters; one more is shown whole. Two blanks before each column, a
/// number of 3 digits, two sizes of 10 characters and two names are 2 * 6 + 3 + 2 * 10 + 2 * 17 = 69 columns, which
/// leaves 31: the longest kind, `squashfs`, and a label take 8 + 1 + 17 = 26 of them.
const LONGEST_NAME: usize = 16;

/// A name as the table shows it: printable, and cut if it is long.
fn shortened(name: &str) -> String {
    let name = printable(name.as_bytes());
    match name.char_indices().nth(LONGEST_NAME) {
        Some((cut, _)) if name.chars().nth(LONGEST_NAME + 1).is_some() => format!("{}…", &name[..cut]),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::KIB;

    /// Every filesystem with the widest label and id that it can have, in the widest partition.
    fn widest(table: &'static str) -> Report {
        let id = "ffffffff-ffff-ffff-ffff-ffffffffffff";
        let filesystems = [
            ("ext4", 16, id),
            ("vfat", 11, "FFFF-FFFF"),
            ("swap", 15, id),
            ("erofs", 16, id),
            ("squashfs", 0, ""),
            ("zfs", 255, "18446744073709551615"),
        ];
        let size = 1024 * 1024 * 1024 * 1024 - 1;
        let partitions = filesystems.map(|(kind, label, uuid)| Partition {
            number: 128,
            offset: size,
            size,
            kind: Some("k".repeat(36)),
            type_guid: None,
            type_byte: None,
            guid: None,
            label: Some("w".repeat(36)),
            attributes: Vec::new(),
            logical: false,
            filesystem: Some(Filesystem {
                kind,
                label: "l".repeat(label),
                uuid: uuid.to_owned(),
                block_size: 1,
                blocks: 2 * size,
                used_blocks: size,
                free_blocks: size,
                journal: size,
                inodes: None,
                used_inodes: None,
                free_inodes: None,
            }),
            values: Values::new(),
        });
        Report {
            size,
            data: size,
            sector_size: 512,
            table,
            guid: Some(id.to_owned()),
            signature: None,
            partitions: partitions.into(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn the_widest_filesystems_fit_a_hundred_columns() {
        for table in ["gpt", "none"] {
            let report = widest(table);
            let text = report.text();
            for line in text.lines() {
                assert!(line.chars().count() <= WIDTH, "{}: {line}", line.chars().count());
            }
            for partition in &report.partitions {
                let uuid = &partition.filesystem.as_ref().unwrap().uuid;
                assert!(text.contains(uuid.as_str()), "{uuid} is not in:\n{text}");
            }
        }
    }

    #[test]
    fn an_id_stays_beside_the_name_where_both_fit() {
        let mut report = widest("gpt");
        report.partitions.truncate(1);
        report.partitions[0].label = None;
        report.partitions[0].kind = None;
        report.partitions[0].filesystem.as_mut().unwrap().label = "root".to_owned();
        let text = report.text();
        assert!(text.contains("ext4 root ffffffff-ffff-"), "{text}");
    }

    #[test]
    fn what_is_used_ends_with_the_partition() {
        let facts = Facts {
            kind: "squashfs",
            label: String::new(),
            uuid: String::new(),
            block_size: 128 * KIB,
            blocks: 1,
            free_blocks: 0,
            journal: 0,
            inodes: Some(1),
            free_inodes: Some(0),
        };
        for (size, used) in [(4 * KIB, 4 * KIB), (1024 * KIB, 128 * KIB)] {
            let expected = format!("{} used, {} free", Bytes::new(used).human(), Bytes::ZERO.human());
            assert_eq!(Filesystem::new(&facts).lines(WIDTH, size)[1], expected);
        }
    }
}
