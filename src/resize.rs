//! Makes the disk in an image larger: the file, the partition table, the last partition and its ext4 filesystem.
//!
//! What changes besides the length of the file is worked out before anything is written. Then the image is written anew beside
//! the old file, which it replaces when it is complete. So a failure leaves the old file as it was.

use std::path::Path;

use serde::Serialize;

use crate::container::{Container, Format, Identity, Opened, open_alone, open_to_change, qcow2};
use crate::convert::id_of;
use crate::error::{Error, Kind, Result, Warning};
use crate::filesystem::{self, ext4};
use crate::image::{Builder, Image, Patch, Slice};
use crate::pour::PourOptions;
use crate::pour::zeros::without_zeros;
use crate::progress::Progress;
use crate::table::{self, read::Table};
use crate::units::Bytes;
use crate::values::words;

/// How much of what is on a disk becomes larger with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grow {
    /// As much as can; a warning says what the running system has to grow.
    #[default]
    Auto,
    /// The disk alone. The backup of a GPT stays where it is.
    Disk,
    /// The partition table and the last partition. Its filesystem grows when the system boots.
    Partition,
    /// All of it, or an error.
    Filesystem,
}

words!(
    Grow, "what grows with a disk is",
    "auto" => Auto, "disk" => Disk, "partition" => Partition, "filesystem" => Filesystem
);

/// How an image is made larger.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The format of the image; with `None` as its bytes say.
    pub format: Option<Format>,
    /// What grows with the disk.
    pub grow: Grow,
    /// Worker threads, at least 1.
    pub jobs: usize,
    /// Receives the progress, and may ask to stop.
    pub progress: &'a Progress,
}

/// Something that became larger, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Grown {
    /// `disk`, `partition 2` or the kind of a filesystem.
    pub what: String,
    /// Before.
    pub from: u64,
    /// After.
    pub to: u64,
}

/// What `resize` did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What became larger.
    pub grown: Vec<Grown>,
    /// What did not, and what else the owner should know.
    #[serde(skip)]
    pub warnings: Vec<Warning>,
}

impl Report {
    fn add(&mut self, what: impl Into<String>, from: Bytes, to: Bytes) {
        if to > from {
            self.grown.push(Grown { what: what.into(), from: from.get(), to: to.get() });
        }
    }

    fn warn(&mut self, text: String) {
        self.warnings.push(Warning(text));
    }
}

/// Makes the disk in `path` larger, and what is on it as `options` say. The file keeps its format, kind and compression.
///
/// If only the disk grows, a raw file just gets longer, and the header of a qcow2 file changes in one write. Otherwise, and
/// for other formats, the file is written anew and replaces the old one when it is complete; it keeps its id, mode and owner.
///
/// If the format has no disk of exactly this size, the disk is longer, and a warning says so.
///
/// # Errors
/// [`Kind::Usage`] where the disk would get smaller, where its format or its filesystem cannot grow, and where a file that is
/// written anew has several names; [`Kind::Format`] for a damaged table; otherwise as
/// [`convert`](crate::convert::convert()).
pub fn resize(path: &Path, size: Bytes, options: &Options<'_>) -> Result<Report> {
    // An overlay keeps its backing file, which is not read.
    let opened = open_alone(path, options.format)?;
    let now = opened.image.length();
    if size < now {
        return Err(Error::new(Kind::Usage, "an image is not made smaller: data would be lost")
            .at(path)
            .expected(format!("at least {}", now.in_full()))
            .found(size.in_full())
            .or_hint(size.unit_forgotten()));
    }
    let container = opened.container();
    let sector_size = opened.sector_size.unwrap_or_default();
    let length = container.disk_length(size, sector_size);
    let mut report = Report::default();
    report.add("disk", now, length);
    let patch = changes(&opened, length, options.grow, &mut report).map_err(|error| error.of_source(path))?;
    report.warnings.extend(container.lengthened(size, sector_size));
    if patch.is_empty() {
        lengthen(path, size, &opened, options)?;
    } else {
        if opened.format == Format::Qcow2 {
            report.warnings.extend(qcow2::check_growth(path)?);
        }
        let larger = patch.over(&opened.image.whole(), length)?;
        anew(path, &larger, &opened, options)?;
    }
    Ok(report)
}

/// The changes of what is on the disk, which becomes `length` long.
fn changes(opened: &Opened, length: Bytes, grow: Grow, report: &mut Report) -> Result<Patch> {
    if grow == Grow::Disk {
        return Ok(Patch::default());
    }
    if opened.backing.is_some() {
        let why = "it is an overlay, and most of its disk is in its backing file";
        if grow != Grow::Auto {
            return Err(Error::new(Kind::Usage, "the partitions of this image cannot grow")
                .about("grow")
                .why(why)
                .remedy("grow", "grow the disk alone; its system grows the partition when it boots"));
        }
        report.warn(format!("only the disk grows: {why}; its system grows the partition when it boots"));
        return Ok(Patch::default());
    }
    let disk = opened.image.whole();
    // A filesystem on a whole disk has a boot record without partitions, and perhaps a GPT of the past behind its end.
    let is_alone = |table: &Table| table.is_empty_gpt() && kind(&disk).is_none();
    let table = table::read(&disk)?.table;
    let table = table.filter(|table| !table.partitions.is_empty() || is_alone(table));
    let Some(table) = table else {
        return volume(&disk, length, grow, "the disk", report);
    };
    let moved = table::grow(&disk, &table, length, true)?;
    report.warnings.extend(moved.notes);
    let mut patch = moved.patch;
    if let Some(last) = moved.last {
        report.add(format!("partition {}", last.number), last.from, last.to);
        let slice = disk.sub(last.offset, last.offset + last.from);
        patch.add(last.offset, volume(&slice, last.to, grow, &format!("partition {}", last.number), report)?);
    } else if grow == Grow::Filesystem {
        return Err(Error::new(Kind::Usage, "the disk has no partition that could grow").about("grow"));
    }
    Ok(patch)
}

/// The changes of the filesystem in `slice`, which becomes `length` long; `place` names it.
fn volume(slice: &Slice, length: Bytes, grow: Grow, place: &str, report: &mut Report) -> Result<Patch> {
    let kind = kind(slice);
    let Some(kind) = kind else {
        return match grow {
            Grow::Filesystem => Err(Error::new(Kind::Usage, format!("there is no filesystem in {place}"))
                .about("grow")
                .expected("ext2, ext3 or ext4")),
            _ => Ok(Patch::default()),
        };
    };
    let is_ext = kind.starts_with("ext");
    if is_ext && grow != Grow::Partition {
        match ext4::grow(slice, length) {
            Ok(growth) => {
                report.add(kind, growth.from, growth.to);
                report.warnings.extend(growth.notes);
                return Ok(growth.patch);
            }
            Err(error) if grow == Grow::Auto && is_told(error.kind()) => {
                report.warn(format!("the {kind} in {place} stays as it is: {error}"));
                return Ok(Patch::default());
            }
            Err(error) => return Err(error),
        }
    }
    if grow == Grow::Filesystem {
        return Err(Error::new(
            Kind::Usage,
            format!("the {kind} in {place} cannot grow before it is mounted"),
        )
        .about("grow")
        .expected("ext2, ext3 or ext4")
        .remedy("grow", "grow the partition, and the filesystem when the system boots"));
    }
    if length > slice.length() {
        report.warn(match kind {
            "ext2" | "ext3" | "ext4" | "xfs" | "btrfs" | "luks" | "zfs" => {
                format!("the {kind} in {place} stays as it is: its system can grow it when it boots")
            }
            _ => format!("the {kind} in {place} stays as it is"),
        });
    }
    Ok(Patch::default())
}

/// Whether an error means that a filesystem is left alone, and not that something went wrong.
const fn is_told(kind: Kind) -> bool {
    matches!(kind, Kind::Usage | Kind::Format | Kind::Capacity)
}

/// The kind of what is in a partition, if it is known.
fn kind(slice: &Slice) -> Option<&'static str> {
    // What is damaged is known by its mark.
    match filesystem::open(slice) {
        Ok(Some(volume)) => Some(volume.facts().kind),
        _ if matches!(ext4::read_superblock(slice), Ok(Some(_))) => Some("ext4"),
        _ => filesystem::marks::find(slice).ok().flatten().map(|marked| marked.kind),
    }
}

/// Makes only the disk longer.
fn lengthen(path: &Path, size: Bytes, opened: &Opened, options: &Options<'_>) -> Result<()> {
    match opened.format {
        Format::Raw => {
            let file = open_to_change(path)?;
            let failed = |error| Error::io(Kind::Output, "cannot make the image larger", path, error);
            if !file.metadata().map_err(failed)?.is_file() {
                return Err(device(path));
            }
            file.set_len(size.get()).map_err(failed)
        }
        Format::Qcow2 => qcow2::grow(path, size),
        Format::Vhd | Format::Vdi | Format::Vmdk | Format::Vhdx => {
            let mut larger = Builder::new(size);
            larger.put(Bytes::ZERO, &opened.image.whole());
            anew(path, &larger.finish()?, opened, options)
        }
    }
}

/// The refusal of a device.
fn device(path: &Path) -> Error {
    Error::new(Kind::Usage, "a device has the size that it has").at(path)
}

/// Writes the file anew with the disk `larger`.
fn anew(path: &Path, larger: &Image, opened: &Opened, options: &Options<'_>) -> Result<()> {
    // A program that uses the old file would go on writing to it after it is replaced. So the file stays locked until then.
    let old = open_to_change(path)?;
    let failed = |error| Error::io(Kind::Output, "cannot make the image larger", path, error);
    if !old.metadata().map_err(failed)?.is_file() {
        return Err(device(path));
    }
    let pour = PourOptions::new(options.jobs, options.progress);
    let container: Container = opened.container();
    let (image, fingerprint) = match opened.format {
        // A raw file keeps its holes, and has no id.
        Format::Raw => (larger.clone(), 0),
        _ => {
            let sparse = without_zeros(larger, &pour)?;
            (sparse.image, sparse.fingerprint)
        }
    };
    let identity = Identity {
        seed: id_of(larger.length(), fingerprint),
        id: opened.id,
        time: opened.time.unwrap_or(0),
        sector_size: opened.sector_size.unwrap_or_default(),
    };
    container.replace(&image, &identity, path, &old, &pour)
}
