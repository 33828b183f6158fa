//! Opening whatever is an image: the format is told by its bytes, and the result is an [`Image`] again, so that
//! reading, converting, looking inside and serving are the same for all.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::codec::Level;
use super::foreign::Foreign;
use super::qcow2::read as qcow2;
use super::source::{Mapping, Numbers, Source, same_file};
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
    /// Its format where that is known; otherwise its first and last bytes tell.
    pub format: Option<Format>,
    /// Whether backing files that the image names are opened. Off, since an image can name any file.
    pub allow_backing: bool,
}

/// An open image.
#[derive(Debug)]
pub struct Opened {
    /// The disk.
    pub image: Image,
    /// What the file is.
    pub format: Format,
    /// More about it, as name and value, in a fixed order: `cluster size` and `65536`, say.
    pub details: Vec<(&'static str, String)>,
    /// Bytes of the file.
    pub file_size: u64,
    /// Bytes that the file takes on the host.
    pub actual_size: u64,
    /// Bytes in a logical sector of the disk, where the format says.
    pub sector_size: Option<SectorSize>,
    /// The backing file, if it names one.
    pub backing: Option<PathBuf>,
    /// Which kind of its format it is, where there are several.
    pub subformat: Option<Subformat>,
    /// The id by which programs know it, which it keeps when it is written anew to grow.
    pub id: Option<Uuid>,
    /// When it was made, in seconds since 1970, where the format says.
    pub time: Option<i64>,
    /// The controller that a VMDK is meant for, which it keeps too.
    pub adapter: Option<Adapter>,
    /// All files that were opened for it, itself first.
    pub files: Vec<PathBuf>,
}

impl Opened {
    /// A disk in a file of this format, of which nothing more is known.
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
        }
    }

    /// The kind of file that it is, as far as that is one that is written.
    pub(crate) fn container(&self) -> Container {
        let fixed = self.subformat == Some(Subformat::Fixed);
        match self.format {
            Format::Raw | Format::Qcow2 => Container::of(self.format),
            Format::Vhd => Container::Vhd(vhd::Options { fixed }),
            Format::Vdi => Container::Vdi(vdi::Options { fixed }),
            Format::Vhdx => Container::Vhdx(vhdx::Options { fixed }),
            Format::Vmdk => {
                let create_type = match self.subformat {
                    Some(Subformat::StreamOptimized) => CreateType::StreamOptimized(Level::default()),
                    _ => CreateType::MonolithicSparse,
                };
                Container::Vmdk(super::vmdk::Options { create_type, adapter: self.adapter })
            }
        }
    }
}

/// The most overlays on each other; a longer chain is a mistake or a trap.
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

/// Opens the image at `path` by itself: what a backing file holds is missing in it.
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

/// Opens an output of `format` that was written and has no name yet, by itself.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_output(output: &Output, format: Format) -> Result<Opened> {
    let file = output.file().try_clone().map_err(|error| output.failed(error))?;
    let source = Source::over(file, output.target().to_owned())?;
    open_source(&source, Some(format), Chain::Ignored, &mut Vec::new())
}

/// Opens an image in a file without name, called `name` in errors.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_file(file: File, name: &str, options: &OpenOptions) -> Result<Opened> {
    open_as(&Source::over(file, PathBuf::from(name))?, options)
}

/// What becomes of a backing file.
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

/// The format that the first and last bytes of a file tell; raw where they tell none.
///
/// # Errors
/// [`Kind::Format`] for what is no disk image, by its name.
fn detect(source: &Source) -> Result<Format> {
    let head = source.read_some(0, 512)?;
    Ok(match Numbers(&head).be32(0) {
        0x5146_49fb => Format::Qcow2,
        _ if vdi::read::is_vdi(&head) => Format::Vdi,
        _ if vhd::read::is_vhd(source)? => Format::Vhd,
        _ if vmdk::detect(&head) => Format::Vmdk,
        _ if vhdx::read::detect(&head) => Format::Vhdx,
        _ => match Foreign::of(source, &head)? {
            Some(foreign) => return Err(foreign.error(source)),
            None => Format::Raw,
        },
    })
}

/// A raw disk: all that is no hole.
fn raw(source: &Arc<Source>) -> Result<Opened> {
    let mut mapping = Mapping::sparse(source, source.size);
    mapping.data(0, source.size, 0)?;
    Ok(Opened::new(source, Format::Raw, mapping.finish()?))
}

fn open_qcow2(source: &Arc<Source>, follow: Chain, chain: &mut Vec<PathBuf>) -> Result<Opened> {
    let info = qcow2::Info::read(source)?;
    let (mut image, zero) = info.image(source)?;
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
                image = overlay(&image, &zero, &below.image)?;
            }
        }
        backing = Some(name.clone());
    }
    Ok(Opened { details, backing, ..Opened::new(source, Format::Qcow2, image) })
}

/// A VMDK; where it names files that hold its parts, those too.
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
        ..Opened::new(source, Format::Vmdk, image)
    })
}

/// Opens the backing file of an overlay, named relative to it.
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

/// The format of a backing file that `overlay` calls `name`.
///
/// # Errors
/// [`Kind::Format`] for one that is not known.
fn backing_format(name: &str, overlay: &Path) -> Result<Format> {
    // What QEMU writes down of a block device.
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

/// Where the backing file lies that the image `overlay` calls `name`: relative names begin at its folder.
///
/// # Errors
/// [`Kind::Format`] for what QEMU reads as a protocol: letters and a colon before any slash (block.c,
/// path_has_protocol). Of those only `file:` and an absolute path is a file wherever it is read.
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

/// Whether QEMU takes what stands before the first colon for a protocol.
pub(super) fn has_protocol(name: &[u8]) -> bool {
    let end = name.iter().position(|byte| matches!(byte, b':' | b'/'));
    end.is_some_and(|end| name[end] == b':')
}

/// `front` where it has data, zero where `zero` says so, and `back` elsewhere.
fn overlay(front: &Image, zero: &[(u64, u64)], back: &Image) -> Result<Image> {
    let length = front.length();
    let mut own: Vec<(u64, u64)> = front
        .segments()
        .iter()
        .map(|segment| (segment.offset.get(), segment.end().get()))
        .chain(zero.iter().map(|(start, count)| (*start, start + count)))
        .collect();
    own.sort_unstable();
    let mut whole = Builder::new(length);
    whole.put(Bytes::ZERO, &front.whole());
    let mut at = 0;
    for (start, end) in own.into_iter().chain([(length.get(), length.get())]) {
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
        let whole = overlay(&front, &[(12, 4)], &back).unwrap();
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
