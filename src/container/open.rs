//! Opens images of all formats: the format is recognised by the bytes, and the result is an [`Image`]. So
//! reading, converting and inspecting are the same for all formats.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::codec::Level;
use super::foreign::Foreign;
use super::qcow2::read as qcow2;
use super::source::{Mapping, Source, same_file};
use super::vmdk::CreateType;
use super::vmdk::{Adapter, read as vmdk};
use super::{Container, Format, SectorSize, Subformat, vdi, vhd, vhdx};
use crate::error::{Error, Kind, Result};
use crate::image::{Builder, Image};
use crate::pour::output::Output;
use crate::units::Bytes;

/// How an image may be opened.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Its format, if that is known; otherwise its first and last bytes decide.
    pub format: Option<Format>,
    /// Whether backing files that the image names are opened. Off by default, since an image can name any
    /// file.
    pub allow_backing: bool,
}

/// An open image.
#[derive(Debug)]
pub struct Opened {
    /// The disk.
    pub image: Image,
    /// The format of the file.
    pub format: Format,
    /// Details as name and value, in a fixed order: for example `cluster size` and `65536`.
    pub details: Vec<(&'static str, String)>,
    /// Bytes of the file.
    pub file_size: u64,
    /// Bytes that the file takes on the host.
    pub actual_size: u64,
    /// Bytes in a logical sector of the disk, if the format records them.
    pub sector_size: Option<SectorSize>,
    /// The backing file, if it names one.
    pub backing: Option<PathBuf>,
    /// The kind of its format, if there are several.
    pub subformat: Option<Subformat>,
    /// The id by which programs know it. It keeps the id when it is written anew to grow.
    pub id: Option<Uuid>,
    /// When it was made, in seconds since 1970, if the format records it.
    pub time: Option<i64>,
    /// The controller that a VMDK is meant for. It keeps that too.
    pub adapter: Option<Adapter>,
    /// All files that were opened for it, itself first.
    pub files: Vec<PathBuf>,
    /// Settings of its kind of file that none of the fields above says: those of a qcow2, the hardware of a VMDK.
    pub(crate) kept: Kept,
}

/// Settings that a file keeps when it is written anew to grow.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    qcow2: super::qcow2::Options,
    hardware: Option<u8>,
}

impl Opened {
    /// A disk in a file of this format, without any details yet.
    pub(super) fn new(source: &Source, format: Format, image: Image) -> Self {
        Self {
            image,
            format,
            details: Vec::new(),
            file_size: source.size,
            actual_size: source.taken(),
            sector_size: None,
            backing: None,
            subformat: None,
            id: None,
            time: None,
            adapter: None,
            files: Vec::new(),
            kept: Kept::default(),
        }
    }

    /// The container for the same kind of file, as far as that kind can be written.
    pub(crate) fn container(&self) -> Container {
        let fixed = self.subformat == Some(Subformat::Fixed);
        match self.format {
            Format::Raw => Container::Raw,
            Format::Qcow2 => Container::Qcow2(self.kept.qcow2.clone()),
            Format::Vhd => Container::Vhd(vhd::Options { fixed }),
            Format::Vdi => Container::Vdi(vdi::Options { fixed }),
            Format::Vhdx => Container::Vhdx(vhdx::Options { fixed }),
            Format::Vmdk => {
                let create_type = match self.subformat {
                    Some(Subformat::StreamOptimized) => CreateType::StreamOptimized(Level::default()),
                    Some(Subformat::MonolithicFlat) => CreateType::MonolithicFlat,
                    Some(Subformat::TwoGbMaxExtentSparse) => CreateType::TwoGbMaxExtentSparse,
                    Some(Subformat::TwoGbMaxExtentFlat) => CreateType::TwoGbMaxExtentFlat,
                    _ => CreateType::MonolithicSparse,
                };
                Container::Vmdk(super::vmdk::Options {
                    create_type,
                    adapter: self.adapter,
                    hardware: self.kept.hardware,
                })
            }
        }
    }
}

/// The largest number of overlays on each other. A longer chain is a mistake or a trap.
const LONGEST_CHAIN: usize = 64;

/// Opens the image at `path`.
///
/// # Errors
/// [`Kind::Source`] where it cannot be read, [`Kind::Format`] where it is not a correct image (with the offset),
/// [`Kind::Usage`] where it has a backing file and that is not allowed.
pub fn open(path: &Path, options: &OpenOptions) -> Result<Opened> {
    open_as(&Source::open(path)?, options)
}

fn open_as(source: &Arc<Source>, options: &OpenOptions) -> Result<Opened> {
    let backing = if options.allow_backing { Chain::Followed } else { Chain::Refused };
    let mut chain = vec![source.path.clone()];
    let mut opened = open_source(source, options.format, backing, &mut chain)?;
    opened.files = chain;
    Ok(opened)
}

/// The faults of an image that opened, and of the files that were opened for it, besides those that keep one from being
/// opened.
///
/// # Errors
/// [`Kind::Source`] where one cannot be read.
pub(crate) fn check(opened: &Opened) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for (number, path) in opened.files.iter().enumerate() {
        let source = Source::open(path)?;
        let format = if number == 0 { Ok(opened.format) } else { detect(&source) };
        let faults = match format.unwrap_or(Format::Raw) {
            Format::Raw => Ok(Vec::new()),
            Format::Qcow2 => super::qcow2::check::check(&source),
            Format::Vhd => vhd::read::check(&source),
            Format::Vdi => vdi::read::check(&source),
            Format::Vmdk => vmdk::check(&source),
            Format::Vhdx => vhdx::check::check(&source),
        };
        let faults = match faults {
            Err(error) if error.kind() == Kind::Format => vec![error.to_string().replace("\n  ", ", ")],
            faults => faults?,
        };
        let named = |fault: String| match number {
            0 => fault,
            _ => format!("{}: {fault}", crate::text::printable_path(path)),
        };
        all.extend(faults.into_iter().map(named));
    }
    Ok(all)
}

/// The name of the structure at byte `at` of the file of an open image.
///
/// # Errors
/// As [`open`].
pub(crate) fn structure(opened: &Opened, at: u64) -> Result<String> {
    let Some(path) = opened.files.first() else { return Err(Error::bug("an image has no file")) };
    let source = Source::noting(path)?;
    let descriptor = opened.format == Format::Vmdk && vmdk::is_descriptor(&source.read_some(0, 512)?);
    if !descriptor {
        open_source(&source, Some(opened.format), Chain::Ignored, &mut Vec::new())?;
    }
    super::structure::named_at(&source, opened.format, descriptor, at)
}

/// Opens the image at `path` alone: the data of a backing file is missing in it.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_alone(path: &Path, format: Option<Format>) -> Result<Opened> {
    let source = Source::open(path)?;
    let mut chain = vec![source.path.clone()];
    let mut opened = open_source(&source, format, Chain::Ignored, &mut chain)?;
    opened.files = chain;
    Ok(opened)
}

/// Opens an output of `format` alone; it is written but has no name yet.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_output(output: &Output, format: Format) -> Result<Opened> {
    let file = output.file().try_clone().map_err(|error| output.failed(error))?;
    let source = Source::over(file, output.target().to_owned())?;
    open_source(&source, Some(format), Chain::Ignored, &mut Vec::new())
}

/// Opens an image in a file without a name; errors call it `name`.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_file(file: File, name: &str, options: &OpenOptions) -> Result<Opened> {
    open_as(&Source::over(file, PathBuf::from(name))?, options)
}

/// How backing files are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chain {
    Refused,
    Ignored,
    Followed,
}

fn open_source(
    source: &Arc<Source>,
    format: Option<Format>,
    backing: Chain,
    chain: &mut Vec<PathBuf>,
) -> Result<Opened> {
    let format = match format {
        Some(format) => format,
        None => detect(source)?,
    };
    match format {
        Format::Raw => raw(source),
        Format::Qcow2 => open_qcow2(source, backing, chain),
        Format::Vhd => vhd::read::open(source),
        Format::Vdi => vdi::read::open(source),
        Format::Vmdk => open_vmdk(source, backing, chain),
        Format::Vhdx => vhdx::read::open(source),
    }
}

/// The format by the first and last bytes of a file; raw if they match none.
///
/// # Errors
/// [`Kind::Format`] for a file that is not a disk image, with its kind.
fn detect(source: &Source) -> Result<Format> {
    let head = source.read_some(0, 512)?;
    match known(source, &head)? {
        Some(format) => Ok(format),
        None => match Foreign::of(source, &head)? {
            Some(foreign) => Err(foreign.error(source)),
            None => Ok(Format::Raw),
        },
    }
}

/// The container that a file is, by its first sector and its last bytes.
fn known(source: &Source, head: &[u8]) -> Result<Option<Format>> {
    Ok(if qcow2::detect(head) {
        Some(Format::Qcow2)
    } else if vdi::read::detect(head) {
        Some(Format::Vdi)
    } else if vhd::read::detect(source)? {
        Some(Format::Vhd)
    } else if vmdk::detect(head) {
        Some(Format::Vmdk)
    } else {
        vhdx::read::detect(head).then_some(Format::Vhdx)
    })
}

/// Refuses what a partition does not hold as it is, though its file was given for one: an image in a container, a
/// compressed file, an archive. A file that cannot be read is left to its reader.
///
/// # Errors
/// [`Kind::Format`] with its kind.
pub(crate) fn check_partition(path: &Path) -> Result<()> {
    let Ok(source) = Source::open(path) else { return Ok(()) };
    let Ok(head) = source.read_some(0, 512) else { return Ok(()) };
    let refused = match known(&source, &head)? {
        Some(format) => Some(Foreign::container_in_partition(format)),
        None => Foreign::of(&source, &head)?.and_then(Foreign::in_partition),
    };
    refused.map_or(Ok(()), Err)
}

/// A raw disk: everything that is not a hole.
fn raw(source: &Arc<Source>) -> Result<Opened> {
    let mut mapping = Mapping::sparse(source, source.size);
    mapping.data(0, source.size, 0)?;
    Ok(Opened::new(source, Format::Raw, mapping.finish()?))
}

fn open_qcow2(source: &Arc<Source>, follow: Chain, chain: &mut Vec<PathBuf>) -> Result<Opened> {
    let info = qcow2::Info::read(source)?;
    let disk = info.disk(source)?;
    let mut image = disk.image;
    let mut details = vec![
        ("version", info.version.to_string()),
        ("cluster size", info.cluster().to_string()),
        ("compression type", info.compression().to_owned()),
    ];
    if info.snapshots > 0 {
        details.push(("snapshots", info.snapshots.to_string()));
    }
    let mut backing = None;
    if let Some((name, format)) = &info.backing {
        match follow {
            Chain::Refused => return Err(qcow2::backing_refused(source, name)),
            Chain::Ignored => {}
            Chain::Followed => {
                let below = open_backing(source, name, format.as_deref(), chain)?;
                image = overlay(&image, &disk.zero, &below.image)?;
            }
        }
        backing = Some(name.clone());
    }
    let kept = Kept { qcow2: info.options(disk.compressed), hardware: None };
    Ok(Opened { details, backing, kept, ..Opened::new(source, Format::Qcow2, image) })
}

/// A VMDK; if it names files with its parts, those are opened too.
fn open_vmdk(source: &Arc<Source>, follow: Chain, chain: &mut Vec<PathBuf>) -> Result<Opened> {
    use std::os::unix::ffi::OsStrExt;
    let disk = vmdk::Disk::read(source)?;
    if let Some(name) = disk.part().filter(|_| follow != Chain::Followed) {
        return Err(vmdk::parts_refused(source, name));
    }
    let mut open = |name: &[u8]| {
        let path = backing_path(&source.path, Path::new(std::ffi::OsStr::from_bytes(name)))?;
        let part = Source::open(&path).map_err(|error| error.at(&source.path))?;
        chain.push(part.path.clone());
        Ok(part)
    };
    let image = disk.image(source, &mut open)?;
    Ok(Opened {
        details: disk.details(),
        subformat: disk.subformat(),
        id: disk.id(),
        adapter: disk.adapter(),
        kept: Kept { hardware: disk.hardware(), ..Kept::default() },
        ..Opened::new(source, Format::Vmdk, image)
    })
}

/// Opens the backing file of an overlay. Its name is relative to the overlay.
fn open_backing(
    overlay: &Source,
    name: &Path,
    format: Option<&str>,
    chain: &mut Vec<PathBuf>,
) -> Result<Opened> {
    let path = backing_path(&overlay.path, name)?;
    let source = Source::open(&path).map_err(|error| error.at(&overlay.path))?;
    if chain.iter().any(|file| same_file(file, &source.path)) {
        return Err(Error::new(Kind::Format, "the image is its own backing file, over others or by itself")
            .at(&overlay.path)
            .found(crate::text::printable_path(&source.path)));
    }
    chain.push(source.path.clone());
    if chain.len() > LONGEST_CHAIN {
        return Err(Error::new(Kind::Format, "too many backing files on each other")
            .at(&overlay.path)
            .expected(format!("at most {LONGEST_CHAIN}")));
    }
    let format = match format {
        Some(name) => Some(backing_format(name, &overlay.path)?),
        None => None,
    };
    open_source(&source, format, Chain::Followed, chain)
}

/// The format of a backing file, which `overlay` calls `name`.
///
/// # Errors
/// [`Kind::Format`] for an unknown name.
fn backing_format(name: &str, overlay: &Path) -> Result<Format> {
    // QEMU writes this for a block device.
    if name == "host_device" {
        return Ok(Format::Raw);
    }
    name.parse().map_err(|_| {
        Error::new(Kind::Format, "the backing file has an unknown format")
            .at(overlay)
            .expected(Format::list())
            .found(crate::text::printable(name.as_bytes()))
    })
}

/// The path of the backing file that the image `overlay` calls `name`. Relative names begin at the folder of
/// `overlay`.
///
/// # Errors
/// [`Kind::Format`] for a name that QEMU reads as a protocol: letters and a colon before any slash (block.c,
/// path_has_protocol). The only exception is `file:` with an absolute path, which every reader takes for a file.
pub fn backing_path(overlay: &Path, name: &Path) -> Result<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let bytes = name.as_os_str().as_bytes();
    let name = match bytes.strip_prefix(b"file:") {
        Some(rest) if rest.starts_with(b"/") => Path::new(std::ffi::OsStr::from_bytes(rest)),
        _ if has_protocol(bytes) => {
            return Err(Error::new(
                Kind::Format,
                "the backing file is not a file but something behind a protocol",
            )
            .at(overlay)
            .expected("the path of a file; one with a colon begins with `./`")
            .found(crate::text::printable(bytes)));
        }
        _ => name,
    };
    Ok(overlay.parent().unwrap_or(Path::new("")).join(name))
}

/// Whether QEMU takes the text before the first colon for a protocol.
pub(super) fn has_protocol(name: &[u8]) -> bool {
    let end = name.iter().position(|byte| matches!(byte, b':' | b'/'));
    end.is_some_and(|end| name[end] == b':')
}

/// `front` where it has data, zero in the ranges of `zero`, and `back` elsewhere.
fn overlay(front: &Image, zero: &[Range<u64>], back: &Image) -> Result<Image> {
    let length = front.length();
    let mut own: Vec<Range<u64>> = front
        .segments()
        .iter()
        .map(|segment| segment.offset.get()..segment.end().get())
        .chain(zero.iter().cloned())
        .collect();
    own.sort_unstable_by_key(|range| range.start);
    let mut whole = Builder::new(length);
    whole.put(Bytes::ZERO, &front.whole());
    let mut at = 0;
    for Range { start, end } in own.into_iter().chain(std::iter::once(length.get()..length.get())) {
        if start > at {
            whole.put(Bytes::new(at), &back.slice(Bytes::new(at), Bytes::new(start)));
        }
        at = at.max(end);
    }
    whole.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(length: u64, parts: &[(u64, u8, usize)]) -> Image {
        let mut builder = Builder::new(Bytes::new(length));
        for (offset, byte, count) in parts {
            builder.bytes(Bytes::new(*offset), "part", vec![*byte; *count]);
        }
        builder.finish().unwrap()
    }

    #[test]
    fn what_lies_below_shows_only_where_nothing_lies_above() {
        let back = image(30, &[(0, 1, 30)]);
        let front = image(40, &[(5, 2, 5), (20, 2, 2)]);
        let whole = overlay(&front, &[12..14, 14..16], &back).unwrap();
        let mut out = [0xd1; 40];
        whole.read(0, &mut out).unwrap();
        let expected: Vec<u8> = (0..40)
            .map(|at| match at {
                5..10 | 20..22 => 2,
                12..16 | 30.. => 0,
                _ => 1,
            })
            .collect();
        assert_eq!(out.as_slice(), expected);
    }
}
