//! An open image with its partition table, and the partitions that addresses name.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::container::{OpenOptions, Opened, open};
use crate::error::{Error, Kind, Result};
use crate::filesystem::{self, Volume};
use crate::image::Slice;
use crate::inspect;
use crate::table::read::Table;
use crate::table::{self, Placed, Scheme};
use crate::text::{nearest, printable};

/// An open image with its partition table.
#[derive(Debug)]
pub struct Medium {
    path: PathBuf,
    opened: Opened,
    table: Option<Table>,
    has_empty_gpt: bool,
    remarks: Vec<String>,
}

/// A partition, or the whole disk where it has no partitions.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its name for people: the image, and the number of the partition.
    pub place: PathBuf,
    /// Its bytes.
    pub slice: Slice,
    /// Its entry in the table; `None` for a disk without partitions.
    pub partition: Option<Placed>,
}

impl Medium {
    /// Opens the image at `path` and reads its partition table.
    ///
    /// # Errors
    /// As [`open`], also for an overlay whose backing file may not be opened.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self> {
        let opened = open(path, options)?;
        let found = table::read(&opened.image.whole())?;
        let has_empty_gpt = found.table.as_ref().is_some_and(Table::is_empty_gpt);
        // The boot sector of a filesystem looks like an empty table.
        let table = found.table.filter(|table| !table.partitions.is_empty());
        Ok(Self { path: path.to_owned(), opened, table, has_empty_gpt, remarks: found.remarks })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open image.
    #[must_use]
    pub const fn opened(&self) -> &Opened {
        &self.opened
    }

    /// The partition table, if it has partitions.
    #[must_use]
    pub const fn table(&self) -> Option<&Table> {
        self.table.as_ref()
    }

    /// Whether it has a GPT that has no partition.
    #[must_use]
    pub(crate) const fn has_empty_gpt(&self) -> bool {
        self.has_empty_gpt
    }

    /// Faults of the partition table, as sentences.
    #[must_use]
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// All partitions by number, or the whole disk where it has none.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        match &self.table {
            Some(table) => table.partitions.iter().map(|placed| self.of(placed)).collect(),
            None => vec![self.whole()],
        }
    }

    /// The whole disk.
    fn whole(&self) -> Part {
        Part { place: self.path.clone(), slice: self.opened.image.whole(), partition: None }
    }

    fn of(&self, placed: &Placed) -> Part {
        let mut place: OsString = self.path.clone().into();
        place.push(format!(":{}", placed.number));
        let slice = self.opened.image.slice(placed.offset, placed.end());
        Part { place: place.into(), slice, partition: Some(placed.clone()) }
    }

    /// The partition with this number, GPT label, filesystem label, GUID or filesystem id, in this order. Labels and ids
    /// match in any case if exactly one does.
    ///
    /// # Errors
    /// [`Kind::Usage`] where there is none, or several, with those that there are.
    pub fn partition(&self, name: &str) -> Result<Part> {
        let Some(table) = &self.table else {
            return Err(Error::new(Kind::Usage, "the image has no partitions")
                .at(&self.path)
                .found(format!("partition {} is named", printable(name.as_bytes())))
                .hint("leave out the partition: the whole disk is one filesystem"));
        };
        let by_number = |placed: &&Placed| name.parse() == Ok(placed.number);
        if let Some(placed) = table.partitions.iter().find(by_number) {
            return self.inside(placed);
        }
        let names: Vec<[String; 4]> = table.partitions.iter().map(|placed| self.names(placed)).collect();
        for same in
            [|one: &str, other: &str| one == other, |one: &str, other: &str| one.eq_ignore_ascii_case(other)]
        {
            for which in 0..4 {
                let fits =
                    |(_, names): &(&Placed, &[String; 4])| !name.is_empty() && same(&names[which], name);
                let found: Vec<&Placed> =
                    table.partitions.iter().zip(&names).filter(fits).map(|(placed, _)| placed).collect();
                match found[..] {
                    [] => {}
                    [one] => return self.inside(one),
                    _ => {
                        let numbers: Vec<String> =
                            found.iter().map(|placed| placed.number.to_string()).collect();
                        return Err(Error::new(Kind::Usage, "several partitions have this name")
                            .at(&self.path)
                            .found(format!(
                                "{} is partition {}",
                                printable(name.as_bytes()),
                                numbers.join(" and ")
                            ))
                            .hint("name it by its number"));
                    }
                }
            }
        }
        let known = names.iter().flatten().map(String::as_str).filter(|known| !known.is_empty());
        let meant = nearest(name, known).map(|near| format!("did you mean {}?", printable(near.as_bytes())));
        Err(Error::new(Kind::Usage, "there is no such partition")
            .at(&self.path)
            .expected(self.list())
            .found(printable(name.as_bytes()))
            .or_hint(meant))
    }

    /// A partition that the table has inside the disk.
    fn inside(&self, placed: &Placed) -> Result<Part> {
        let part = self.of(placed);
        if part.slice.length() < placed.length {
            return Err(Error::new(Kind::Format, "a partition ends after the disk")
                .at(&part.place)
                .expected(format!("at most {}", self.opened.image.length().in_full()))
                .found(format!("it ends at {}", placed.end().in_full()))
                .hint("the image may be cut off"));
        }
        Ok(part)
    }

    /// GPT label, filesystem label, GUID and filesystem id of a partition; empty for none.
    fn names(&self, placed: &Placed) -> [String; 4] {
        let slice = self.of(placed).slice;
        let found = inspect::contents(&slice).ok().flatten().unwrap_or_default();
        let guid = if placed.guid.is_nil() { String::new() } else { placed.guid.to_string() };
        [placed.label.clone(), found.label, guid, found.uuid]
    }

    /// The partition that is named, or the only one with a filesystem that can be read, or the whole disk.
    ///
    /// # Errors
    /// As [`Medium::partition`], and [`Kind::Usage`] where none is named and not exactly one can be meant.
    pub fn part(&self, name: Option<&str>) -> Result<Part> {
        if let Some(name) = name {
            return self.partition(name);
        }
        let Some(table) = &self.table else { return Ok(self.whole()) };
        let readable = |placed: &&Placed| matches!(filesystem::open(&self.of(placed).slice), Ok(Some(_)));
        let found: Vec<&Placed> = table.partitions.iter().filter(readable).collect();
        match found[..] {
            [only] => self.inside(only),
            _ => {
                let what = if found.is_empty() {
                    "no partition has a filesystem that can be read"
                } else {
                    "the image has several filesystems, and none is named"
                };
                Err(Error::new(Kind::Usage, what)
                    .at(&self.path)
                    .found(self.list())
                    .remedy("partition", "name one: IMAGE:2, IMAGE:root or IMAGE:2:/etc"))
            }
        }
    }

    /// The partitions in one line, for errors.
    fn list(&self) -> String {
        let Some(table) = &self.table else { return "no partitions".to_owned() };
        let shown = |placed: &Placed| {
            let found = inspect::contents(&self.of(placed).slice).ok().flatten().unwrap_or_default();
            let mut text = placed.number.to_string();
            let quoted = |label: &str| if label.is_empty() { String::new() } else { format!(" \"{label}\"") };
            let label = printable(placed.label.as_bytes());
            if found.kind.is_empty() && label.is_empty() {
                return text;
            }
            text.push_str(&format!(
                " ({}",
                if found.kind.is_empty() { "no filesystem" } else { &found.kind }
            ));
            text.push_str(&quoted(&label));
            if found.label != label {
                text.push_str(&quoted(&found.label));
            }
            text.push(')');
            text
        };
        table.partitions.iter().map(shown).collect::<Vec<_>>().join(", ")
    }
}

impl Part {
    /// Its filesystem.
    ///
    /// # Errors
    /// [`Kind::Format`] for a damaged one, and for contents that cannot be read, with their name: another filesystem, a
    /// partition table, or nothing that is known.
    pub fn volume(&self) -> Result<Box<dyn Volume>> {
        if let Some(volume) = filesystem::open(&self.slice).map_err(|error| error.at(&self.place))? {
            return Ok(volume);
        }
        let error = |what: &str| Error::new(Kind::Format, what).at(&self.place);
        if self.partition.as_ref().is_some_and(|placed| placed.kind.is_extended()) {
            return Err(error("an extended partition has no filesystem of its own")
                .hint("name one of the logical partitions in it, from 5 on"));
        }
        let nested = table::read(&self.slice)?.table.filter(|table| !table.partitions.is_empty());
        if let Some(nested) = nested.filter(|_| self.partition.is_some()) {
            let kind = if nested.scheme == Scheme::Gpt { "GPT" } else { "MBR" };
            return Err(error(
                "the partition is a disk of its own, with a partition table; nested tables are not read",
            )
            .found(format!("{kind} with {} partitions", nested.partitions.len()))
            .hint("copy the bytes of the partition to a file, and look into that"));
        }
        match inspect::contents(&self.slice)? {
            Some(found) if found.kind == "swap" => Err(error("swap space has no files")),
            Some(found) => {
                Err(error("this filesystem is known by name and cannot be read").found(found.kind))
            }
            None => Err(error("there is no filesystem that is known")),
        }
    }
}
