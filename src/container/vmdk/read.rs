//! Reads VMDK as an image, from any writer: sparse files and streams with a descriptor inside, and disks with
//! a separate descriptor file.

use std::sync::Arc;

use uuid::Uuid;

use super::descriptor::{Adapter, Descriptor, Extent, Wrong};
use super::format::{Header, MAGIC, MAGIC_ESX, MAGIC_SE_SPARSE, SECTOR};
use super::sparse::Sparse;
use crate::container::Subformat;
use crate::container::source::{Mapping, Source};
use crate::error::{Error, Kind, Result};
use crate::image::{Builder, Image};
use crate::text::printable;
use crate::units::Bytes;

/// The first bytes of a descriptor file; writers do not agree on the case.
const TITLE: &[u8] = b"# Disk Descriptor";
/// The byte order mark of UTF-8, which some editors put before a text.
pub(super) const MARK: &[u8] = b"\xef\xbb\xbf";
/// The longest descriptor. One line for each 2 GiB of 2 TiB needs half of it (VirtualBox has the same limit).
const LONGEST_DESCRIPTOR: u64 = 128 << 10;
/// Whether these are the first bytes of a VMDK, or of a related format that is refused by name.
pub(in crate::container) fn detect(head: &[u8]) -> bool {
    [MAGIC, MAGIC_ESX].iter().any(|magic| head.starts_with(&magic.to_le_bytes()))
        || head.starts_with(&u64::from(MAGIC_SE_SPARSE).to_le_bytes())
        || is_descriptor(head)
}

/// Whether a text is the descriptor of a disk: by its title, or by its version after comments (QEMU
/// block/vmdk.c, vmdk_probe).
pub(in crate::container) fn is_descriptor(text: &[u8]) -> bool {
    let text = text.strip_prefix(MARK).unwrap_or(text);
    if text.get(..TITLE.len()).is_some_and(|title| title.eq_ignore_ascii_case(TITLE)) {
        return true;
    }
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let first = lines.into_iter().find(|line| !line.is_empty() && !line.starts_with(b"#"));
    // A manifest may begin with the same line. It has a table.
    let has_table = || text.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"["));
    matches!(first, Some(b"version=1" | b"version=2" | b"version=3")) && !has_table()
}

/// The faults of a file that opens. A descriptor by itself has none; its parts are files of their own.
///
/// # Errors
/// Where the file cannot be read.
pub(in crate::container) fn check(source: &Source) -> Result<Vec<String>> {
    if is_descriptor(&source.read_some(0, SECTOR)?) { Ok(Vec::new()) } else { super::sparse::check(source) }
}

/// A run of bytes of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// A disk: in the file itself, or in other files that it names.
#[derive(Debug)]
pub(in crate::container) struct Disk {
    descriptor: Descriptor,
    /// Where the descriptor begins.
    descriptor_at: u64,
    /// `None` if the file is only a descriptor.
    sparse: Option<Sparse>,
}

impl Disk {
    /// Reads and checks header and descriptor.
    pub(in crate::container) fn read(source: &Source) -> Result<Self> {
        let head = source.read_some(0, SECTOR)?;
        if is_descriptor(&head) {
            return Self::with(source, 0, source.size, None);
        }
        let sparse = Sparse::read(source)?;
        let Place { offset: at, length } = sparse.descriptor;
        // QEMU reserves space for a descriptor in parts too, and leaves it empty.
        if at == 0 || (sparse.capacity > 0 && source.read(at, 1, "the descriptor")? == [0]) {
            return Err(source
                .wrong_in::<Header>(
                    "the file is a part of a disk, without a descriptor",
                    0,
                    "descriptorOffset",
                )
                .expected("the sector of a descriptor")
                .found(format!("sector {}{}", at / SECTOR, if at == 0 { "" } else { ", which is empty" }))
                .hint("open the small file that names its parts"));
        }
        // A file that is only a descriptor may still have a header (QEMU block/vmdk.c).
        let sparse = Some(sparse).filter(|sparse| sparse.capacity > 0);
        let mut disk = Self::with(source, at, length, sparse)?;
        if let Some(sparse) = &mut disk.sparse {
            sparse.take_size(source, &disk.descriptor, at)?;
        }
        Ok(disk)
    }

    fn with(source: &Source, at: u64, length: u64, sparse: Option<Sparse>) -> Result<Self> {
        if length == 0 || length > LONGEST_DESCRIPTOR {
            return Err(source
                .wrong("an impossible length of the descriptor", at)
                .expected(format!("1 to {LONGEST_DESCRIPTOR} bytes"))
                .found(length));
        }
        let text = source.read(at, length, "the descriptor")?;
        let descriptor = Descriptor::parse(&text).map_err(|Wrong { offset, what, expected, found }| {
            source.wrong(what, at + offset).expected(expected).found(found)
        })?;
        if let Some(parent) = &descriptor.parent {
            let named = descriptor.parent_hint.as_ref();
            return Err(source
                .wrong(
                    "the image holds only what changed since another one: it is a snapshot or a linked clone",
                    at,
                )
                .expected("parentCID=ffffffff")
                .found(format!(
                    "parentCID={parent}{}",
                    named.map_or(String::new(), |name| format!(", {name}"))
                ))
                .hint("merge it with its parents first: `qemu-img convert` or vmware-vdiskmanager -r"));
        }
        Ok(Self { descriptor, descriptor_at: at, sparse })
    }

    /// Details for people.
    pub(in crate::container) fn details(&self) -> Vec<(&'static str, String)> {
        let mut details = vec![("subformat", self.descriptor.create_type.clone())];
        if let Some(sparse) = &self.sparse {
            details.push(("version", sparse.version.to_string()));
            details.push(("grain size", sparse.grain_bytes().to_string()));
            details.push(("compression type", if sparse.compressed { "zlib" } else { "none" }.to_owned()));
        } else {
            details.push(("extents", self.descriptor.extents.len().to_string()));
        }
        details.extend(self.descriptor.adapter.iter().map(|adapter| ("adapter type", adapter.to_string())));
        details
    }

    /// The controller that it is meant for.
    pub(in crate::container) const fn adapter(&self) -> Option<Adapter> {
        self.descriptor.adapter
    }

    /// The version of virtual hardware that it is for.
    pub(in crate::container) const fn hardware(&self) -> Option<u8> {
        self.descriptor.hardware
    }

    /// The id by which VirtualBox knows the disk.
    pub(in crate::container) fn id(&self) -> Option<Uuid> {
        self.descriptor.image.filter(|id| !id.is_nil())
    }

    /// Its kind, if it is one that can be written.
    pub(in crate::container) fn subformat(&self) -> Option<Subformat> {
        let Some(sparse) = self.sparse.as_ref() else { return self.descriptor.create_type.parse().ok() };
        Some(if sparse.compressed { Subformat::StreamOptimized } else { Subformat::MonolithicSparse })
    }

    /// The name of the first other file that holds a part of the disk.
    pub(in crate::container) fn part(&self) -> Option<&[u8]> {
        let mut names = self.descriptor.extents.iter().map(|extent| extent.name.as_slice());
        if self.sparse.is_some() { None } else { names.find(|name| !name.is_empty()) }
    }

    /// The disk. `open` opens the files that hold its parts.
    pub(in crate::container) fn image(
        &self,
        source: &Arc<Source>,
        open: &mut dyn FnMut(&[u8]) -> Result<Arc<Source>>,
    ) -> Result<Image> {
        if let Some(sparse) = &self.sparse {
            return sparse.image(source);
        }
        let wrong = |extent: &Extent, what: &str| source.wrong(what, self.descriptor_at + extent.offset);
        let mut parts = Vec::new();
        let mut size = 0_u64;
        for extent in &self.descriptor.extents {
            let length = extent.sectors.checked_mul(SECTOR).filter(|length| *length > 0);
            let end = length.and_then(|length| size.checked_add(length));
            let Some(end) = end.filter(|end| Bytes::new(*end) <= Bytes::LIMIT) else {
                return Err(wrong(extent, "an impossible size of an extent").found(extent.sectors));
            };
            let mut part = |image: fn(&Arc<Source>, &Extent) -> Result<Image>| {
                let file = open(&extent.name)?;
                image(&file, extent).map_err(|error| error.at(&source.path)).map(Some)
            };
            let part = match extent.kind.as_str() {
                "ZERO" => None,
                "FLAT" | "VMFS" => part(flat)?,
                "SPARSE" => part(sparse_part)?,
                other => {
                    return Err(wrong(extent, "an extent of a kind that is not known")
                        .expected("SPARSE, FLAT, VMFS or ZERO")
                        .found(printable(other.as_bytes()))
                        .hint("convert it with VMware's tools or with qemu-img first"));
                }
            };
            parts.extend(part.map(|part| (size, part)));
            size = end;
        }
        if self.descriptor.extents.is_empty() {
            return Err(source.wrong("the descriptor names no extent", self.descriptor_at));
        }
        let mut whole = Builder::new(Bytes::new(size));
        for (start, part) in parts {
            whole.put(Bytes::new(start), &part.whole());
        }
        whole.finish()
    }
}

/// The error for a disk whose parts may not be opened.
pub(in crate::container) fn parts_refused(source: &Source, name: &[u8]) -> Error {
    Error::new(Kind::Usage, "the image is a descriptor; its data lies in other files")
        .at(&source.path)
        .found(printable(name))
        .why("a descriptor may name any file of this machine")
        .remedy(
            "allow_backing",
            "allow the files that it names if you trust it; a command without that option takes the one file that `diskwright convert \
             --allow-backing` makes of them",
        )
}

/// The part of a raw file that makes an extent.
fn flat(source: &Arc<Source>, extent: &Extent) -> Result<Image> {
    let (start, length) = (extent.start.saturating_mul(SECTOR), extent.sectors.saturating_mul(SECTOR));
    source.within(start, length, "an extent")?;
    let mut mapping = Mapping::sparse(source, length);
    mapping.data(0, length, start)?;
    mapping.finish()
}

/// A sparse file as an extent.
fn sparse_part(source: &Arc<Source>, extent: &Extent) -> Result<Image> {
    let mut sparse = Sparse::read(source)?;
    if extent.sectors > sparse.capacity {
        return Err(source
            .wrong_in::<Header>("an extent is smaller than the descriptor says", 0, "capacity")
            .expected(format!("at least {} sectors", extent.sectors))
            .found(sparse.capacity));
    }
    sparse.capacity = extent.sectors;
    sparse.image(source)
}
