//! The entries of a directory, with the long names that come before the short ones.

use super::layout::{Layout, Root};
use super::table::{Chain, Table};
use crate::error::Result;
use crate::filesystem::device::{Device, damaged};
use crate::filesystem::fat::FatType;
use crate::filesystem::fat::format::{DirectoryEntry, LAST_LONG_ENTRY, LONG_NAME, LongEntry};
use crate::filesystem::fat::geometry::ENTRY;
use crate::filesystem::fat::names::{LONGEST, ShortName};
use crate::units::usize_of;
use crate::wire::Wire;

/// The largest number of entries of a directory: 2 MiB (fatgen103, "FAT Directory Structure"; Linux,
/// `FAT_MAX_DIR_ENTRIES`).
const MOST: u64 = 65_536;
/// The largest number of parts of a long name: ceil(255 units / 13). Together they hold five units more than
/// a name.
const MOST_PARTS: u8 = 20;

/// DIR_Attr.
pub(super) const READ_ONLY: u8 = 0x01;
const LABEL: u8 = 0x08;
pub(super) const DIRECTORY: u8 = 0x10;
/// All bits with a meaning.
pub(super) const MEANT: u8 = 0x3f;
/// First byte of a name: this entry and all that follow were never used; the entry was deleted; the byte
/// stands for 0xe5 itself.
const NEVER: u8 = 0;
const DELETED: u8 = 0xe5;
pub(super) const KANJI: u8 = 0x05;
/// DIR_NTRes: the parts of the name that are shown in lower case (Linux, `CASE_LOWER_BASE`,
/// `CASE_LOWER_EXT`).
pub(super) const LOWER_BASE: u8 = 0x08;
pub(super) const LOWER_EXTENSION: u8 = 0x10;

/// The upper half of code page 437, the default for short names (Linux, `CONFIG_FAT_DEFAULT_CODEPAGE`).
const CODE_PAGE: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// The kind of an entry with a short name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    File,
    Directory,
    /// `.` or `..`.
    Dot,
    Label,
}

/// An entry with a short name, and its long name.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Its offset in the volume.
    pub(super) at: u64,
    pub(super) raw: DirectoryEntry,
    /// The long name, if there is one.
    pub(super) long: Option<String>,
    /// Whether parts of a long name before it belong to no entry.
    pub(super) orphans: bool,
    /// Whether parts of its long name have fields that are not zero and must be.
    pub(super) odd: bool,
}

/// The kind of an entry, as far as the entry alone shows it.
pub(super) fn what(raw: &DirectoryEntry) -> What {
    if raw.name.starts_with(b".") {
        What::Dot
    } else if raw.attr & LABEL != 0 {
        What::Label
    } else if raw.attr & DIRECTORY != 0 {
        What::Directory
    } else {
        What::File
    }
}

/// Whether an entry has a short name.
pub(super) fn is_there(raw: &DirectoryEntry) -> bool {
    !matches!(raw.name[0], NEVER | DELETED) && raw.attr & MEANT != LONG_NAME
}

/// The first cluster of an entry.
pub(super) fn first_cluster(layout: &Layout, raw: &DirectoryEntry) -> u32 {
    // Before FAT32 the upper half had another meaning.
    let high = if layout.fat == FatType::Fat32 { raw.fst_clus_hi } else { 0 };
    u32::from(high) << 16 | u32::from(raw.fst_clus_lo)
}

/// A short name as it is shown.
pub(super) fn short_name(raw: &DirectoryEntry) -> String {
    let mut bytes = raw.name;
    if bytes[0] == KANJI {
        bytes[0] = DELETED;
    }
    let (base, extension) = bytes.split_at(8);
    let part = |bytes: &[u8], lower: u8| {
        let text: String = bytes.trim_ascii_end().iter().map(|byte| letter(*byte)).collect();
        if raw.nt_res & lower != 0 { text.to_lowercase() } else { text }
    };
    let (base, extension) = (part(base, LOWER_BASE), part(extension, LOWER_EXTENSION));
    if extension.is_empty() { base } else { format!("{base}.{extension}") }
}

/// A byte of a short name or a label.
pub(super) fn letter(byte: u8) -> char {
    match byte.checked_sub(0x80) {
        Some(upper) => CODE_PAGE.chars().nth(upper.into()).unwrap_or(char::REPLACEMENT_CHARACTER),
        None => char::from(byte),
    }
}

impl Entry {
    /// The name that is shown.
    pub(super) fn name(&self) -> String {
        self.long.clone().unwrap_or_else(|| short_name(&self.raw))
    }
}

/// A long name while it is read: its last part comes first.
#[derive(Debug, Default)]
struct Long {
    units: Vec<u16>,
    /// The next part; 0 if the name is complete.
    next: u8,
    checksum: u8,
    /// Whether fields of its parts are not zero that must be.
    odd: bool,
}

/// A walk along the entries of a directory.
#[derive(Debug)]
pub(super) struct Entries {
    place: Place,
    /// How many entries were read.
    count: u64,
    long: Option<Long>,
    orphans: bool,
    /// Whether the end of the entries was reached.
    over: bool,
}

/// The place of the next entry.
#[derive(Debug)]
enum Place {
    /// In a fixed root directory: the place of the next entry, and the end.
    Fixed(u64, u64),
    /// In a chain: the place of the next entry and the end of its cluster.
    Chain(Chain, u64, u64),
}

impl Entries {
    /// Those of the root directory.
    pub(super) const fn of_root(layout: &Layout) -> Self {
        match layout.root {
            Root::Fixed(start, length) => Self::new(Place::Fixed(start, start + length)),
            Root::Chain(cluster) => Self::of_chain(cluster),
        }
    }

    /// Those of a directory in the chain that begins with `cluster`.
    pub(super) const fn of_chain(cluster: u32) -> Self {
        Self::new(Place::Chain(Chain::new(cluster), 0, 0))
    }

    const fn new(place: Place) -> Self {
        Self { place, count: 0, long: None, orphans: false, over: false }
    }

    /// The place of the next entry of any kind.
    fn step(&mut self, table: &Table<'_>, layout: &Layout) -> Result<Option<u64>> {
        let at = match &mut self.place {
            Place::Fixed(at, end) => {
                if *at + ENTRY > *end {
                    return Ok(None);
                }
                std::mem::replace(at, *at + ENTRY)
            }
            Place::Chain(chain, at, end) => {
                if at == end {
                    let Some(cluster) = chain.next(table)? else { return Ok(None) };
                    let start =
                        layout.at(cluster).ok_or_else(|| damaged("a chain leads out of the clusters"))?;
                    (*at, *end) = (start, start + layout.cluster);
                }
                std::mem::replace(at, *at + ENTRY)
            }
        };
        self.count += 1;
        if self.count > MOST {
            return Err(
                damaged("a directory is larger than FAT allows").expected(format!("at most {MOST} entries"))
            );
        }
        Ok(Some(at))
    }

    /// The next entry with a short name.
    pub(super) fn next(
        &mut self,
        table: &Table<'_>,
        layout: &Layout,
        device: &Device,
    ) -> Result<Option<Entry>> {
        while !self.over {
            let Some(at) = self.step(table, layout)? else { break };
            let bytes = device.bytes(at, usize_of(ENTRY))?;
            let raw = DirectoryEntry::read(&bytes)?;
            match raw.name[0] {
                NEVER => break,
                DELETED => self.drop_long(),
                _ if raw.attr & MEANT == LONG_NAME => self.part(&bytes)?,
                _ => {
                    let long = self.long.take();
                    let name = long.as_ref().and_then(|long| long.name(ShortName(raw.name).checksum()));
                    let orphans = std::mem::take(&mut self.orphans) || (long.is_some() && name.is_none());
                    let odd = long.is_some_and(|long| long.odd);
                    return Ok(Some(Entry { at, raw, long: name, orphans, odd }));
                }
            }
        }
        self.over = true;
        Ok(None)
    }

    /// Whether the directory ends with parts of a long name that belong to no entry.
    pub(super) const fn ends_in_orphans(&self) -> bool {
        self.orphans || self.long.is_some()
    }

    fn drop_long(&mut self) {
        self.orphans |= self.long.take().is_some();
    }

    /// Adds a part of a long name.
    fn part(&mut self, bytes: &[u8]) -> Result<()> {
        let part = LongEntry::read(bytes)?;
        let number = part.ord & !LAST_LONG_ENTRY;
        if part.ord & LAST_LONG_ENTRY != 0 {
            self.drop_long();
            if (1..=MOST_PARTS).contains(&number) {
                self.long = Some(Long { next: number, checksum: part.chksum, ..Long::default() });
            }
        }
        match &mut self.long {
            Some(long) if number != 0 && long.next == number && long.checksum == part.chksum => {
                let units = [&part.name1[..], &part.name2, &part.name3].concat();
                long.units.splice(0..0, units);
                long.odd |= part.kind != 0 || part.fst_clus_lo != 0;
                long.next -= 1;
            }
            _ => {
                self.drop_long();
                self.orphans = true;
            }
        }
        Ok(())
    }
}

impl Long {
    /// The name, if it is complete and belongs to the short name with this checksum.
    fn name(&self, checksum: u8) -> Option<String> {
        if self.next != 0 || self.checksum != checksum {
            return None;
        }
        let end = self.units.iter().position(|unit| *unit == 0).unwrap_or(self.units.len());
        let name = String::from_utf16_lossy(&self.units[..end]);
        (!name.is_empty() && end <= LONGEST).then_some(name)
    }
}
