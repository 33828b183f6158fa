//! The descriptor: lines of text that describe a disk and name its extents (VDF, "The Descriptor File").

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::format::{DESCRIPTOR_SECTORS, SECTOR};
use super::read::MARK;
use crate::container::{Identity, UnknownWord};
use crate::text::printable;
use crate::units::{u64_of, usize_of};

/// The controller that a disk is meant for, by its name in descriptors: up to 16 letters and digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adapter([u8; 16]);

impl Adapter {
    /// The default of QEMU and VirtualBox, from which every machine can boot.
    pub(super) const IDE: Self = Self(*b"ide\0\0\0\0\0\0\0\0\0\0\0\0\0");
    /// The value in streams by VMware (open-vmdk, sparse.c); ESXi has no IDE disks.
    pub(super) const LSI_LOGIC: Self = Self(*b"lsilogic\0\0\0\0\0\0\0\0");

    /// The controllers that a descriptor may name (VDF, "The Disk Database"), for the schema of manifests.
    pub const NAMES: [&'static str; 4] = ["ide", "buslogic", "lsilogic", "legacyESX"];

    /// A controller by its name.
    fn named(name: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        let fits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        bytes.get_mut(..name.len()).filter(|_| fits)?.copy_from_slice(name.as_bytes());
        Some(Self(bytes))
    }

    /// Heads, and the largest number of cylinders. An IDE disk reports at most 16,383 (ATA-5), and readers do
    /// not need more for larger ones.
    fn geometry(self) -> (u64, u64) {
        if self == Self::IDE { (16, 16_383) } else { (255, 65_535) }
    }
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.split(|byte| *byte == 0).next().unwrap_or_default();
        f.write_str(&String::from_utf8_lossy(name))
    }
}

impl FromStr for Adapter {
    type Err = UnknownWord;

    fn from_str(name: &str) -> Result<Self, UnknownWord> {
        let known = Self::NAMES.iter().find(|known| known.eq_ignore_ascii_case(name));
        let unknown = UnknownWord { what: "controller", known: "ide, buslogic, lsilogic, legacyESX" };
        known.and_then(|known| Self::named(known)).ok_or(unknown)
    }
}

/// createType of a sparse file, and of a stream.
pub(super) const SPARSE: &str = "monolithicSparse";
pub(super) const STREAM: &str = "streamOptimized";

/// Sectors of a track, for every geometry.
const TRACK: u64 = 63;

/// The name of the only extent, which is this file. It is the same for every output, so that bytes do not
/// depend on the name of the output. A program that opens a file with a descriptor inside takes that file for
/// the extent, whatever its name (QEMU block/vmdk.c; VirtualBox VMDK.cpp; ESXi writes `generated-stream.vmdk`
/// into its exports).
const EXTENT: &str = "disk.vmdk";

/// The versions of virtual hardware that a descriptor can name.
pub const HARDWARES: std::ops::RangeInclusive<u8> = 3..=99;
/// The version of virtual hardware that every VMware product runs, as VMware, VirtualBox and QEMU write it.
const HARDWARE: u8 = 4;

/// What a descriptor says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Says<'a> {
    pub(super) kind: &'a str,
    pub(super) adapter: Adapter,
    pub(super) hardware: Option<u8>,
    /// Sectors of the disk.
    pub(super) capacity: u64,
    pub(super) identity: &'a Identity,
}

/// The descriptor of a disk in one file, padded with NUL to the sectors reserved for it.
pub(super) fn embedded(says: &Says<'_>) -> Vec<u8> {
    let mut bytes = text(says, &[format!("RW {} SPARSE \"{EXTENT}\"", says.capacity)]).into_bytes();
    bytes.resize(usize_of(DESCRIPTOR_SECTORS * SECTOR), 0);
    bytes
}

/// The descriptor of a disk in these extents.
pub(super) fn text(says: &Says<'_>, extents: &[String]) -> String {
    let Says { kind, adapter, capacity, identity, .. } = says;
    let image = identity.id.unwrap_or(identity.seed);
    let number = identity.seed.as_u128();
    // The content id is the end of the long one (open-vmdk). VMware uses fffffffe for a disk that nobody has
    // written to, and ffffffff means "none".
    let [.., a, b, c, d] = number.to_be_bytes();
    let short = u32::from_be_bytes([a, b, c, d]);
    let (number, short) =
        if short >= 0xffff_fffe { (number & !(1 << 31), short & !(1 << 31)) } else { (number, short) };
    let (heads, most) = adapter.geometry();
    let cylinders = (capacity / (heads * TRACK)).clamp(1, most);
    let lines = [
        "# Disk DescriptorFile".to_owned(),
        "version=1".to_owned(),
        "encoding=\"UTF-8\"".to_owned(),
        format!("CID={short:08x}"),
        "parentCID=ffffffff".to_owned(),
        format!("createType=\"{kind}\""),
        String::new(),
        "# Extent description".to_owned(),
        extents.join("\n"),
        String::new(),
        "# The Disk Data Base".to_owned(),
        "#DDB".to_owned(),
        String::new(),
        format!("ddb.adapterType = \"{adapter}\""),
        format!("ddb.geometry.cylinders = \"{cylinders}\""),
        format!("ddb.geometry.heads = \"{heads}\""),
        format!("ddb.geometry.sectors = \"{TRACK}\""),
        format!("ddb.longContentID = \"{number:032x}\""),
        // Tools that VMware does not manage: open-vm-tools, or none.
        "ddb.toolsVersion = \"2147483647\"".to_owned(),
        format!("ddb.uuid.image=\"{}\"", image.hyphenated()),
        format!("ddb.virtualHWVersion = \"{}\"", says.hardware.unwrap_or(HARDWARE)),
    ];
    lines.map(|line| line + "\n").concat()
}

/// An extent: a part of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Sectors of it.
    pub(super) sectors: u64,
    /// `SPARSE`, `FLAT`, `VMFS`, `ZERO` and others.
    pub(super) kind: String,
    /// The file as it is recorded; may be empty.
    pub(super) name: Vec<u8>,
    /// The first sector in the file.
    pub(super) start: u64,
    /// The offset of the line in the descriptor.
    pub(super) offset: u64,
}

/// A descriptor that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) create_type: String,
    /// The content id of the parent disk; `None` if the disk has no parent.
    pub(super) parent: Option<String>,
    pub(super) parent_hint: Option<String>,
    pub(super) adapter: Option<Adapter>,
    /// The version of virtual hardware, if it is one that can be written.
    pub(super) hardware: Option<u8>,
    /// The id by which VirtualBox knows the disk.
    pub(super) image: Option<Uuid>,
    pub(super) extents: Vec<Extent>,
}

/// A fault in a descriptor: its place, what was expected and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) offset: u64,
    pub(super) what: &'static str,
    pub(super) expected: &'static str,
    pub(super) found: String,
}

impl Descriptor {
    /// Parses the text up to its first NUL. Unknown keys are ignored.
    ///
    /// # Errors
    /// A line that begins like an extent but is not one, and a text without createType.
    pub(super) fn parse(text: &[u8]) -> Result<Self, Wrong> {
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        let (text, mut offset) = match text.strip_prefix(MARK) {
            Some(text) => (text, u64_of(MARK.len())),
            None => (text, 0),
        };
        let mut found = Self::default();
        for line in text.split(|byte| *byte == b'\n') {
            let start = offset;
            offset += u64_of(line.len()) + 1;
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            if let Some(extent) = extent(line, start)? {
                found.extents.push(extent);
            } else if let Some(at) = line.iter().position(|byte| *byte == b'=') {
                found.key(&line[..at], &line[at + 1..]);
            }
        }
        if found.create_type.is_empty() {
            return Err(Wrong {
                offset: 0,
                what: "the descriptor does not say what kind of disk it is",
                expected: "a line `createType=`",
                found: "none".to_owned(),
            });
        }
        Ok(found)
    }

    /// Takes the value of a line `key=value`.
    fn key(&mut self, key: &[u8], value: &[u8]) {
        let value = value.trim_ascii();
        let value = value.strip_prefix(b"\"").unwrap_or(value);
        let value = printable(value.strip_suffix(b"\"").unwrap_or(value));
        match key.trim_ascii().to_ascii_lowercase().as_slice() {
            b"createtype" => self.create_type = value,
            b"parentcid" if !value.eq_ignore_ascii_case("ffffffff") => self.parent = Some(value),
            b"parentfilenamehint" => self.parent_hint = Some(value),
            b"ddb.adaptertype" => self.adapter = Adapter::named(&value),
            b"ddb.virtualhwversion" => {
                self.hardware = value.parse().ok().filter(|version| HARDWARES.contains(version));
            }
            b"ddb.uuid.image" => self.image = Uuid::try_parse(&value).ok(),
            _ => {}
        }
    }
}

/// A line `RW 8192 SPARSE "disk-s001.vmdk"` or `RW 8192 FLAT "disk-flat.vmdk" 0`; `None` for a line of another kind.
fn extent(line: &[u8], offset: u64) -> Result<Option<Extent>, Wrong> {
    let is_access = |word: &[u8]| [&b"RW"[..], b"RDONLY", b"NOACCESS"].contains(&word);
    let (access, rest) = word(line);
    if !is_access(access) {
        return Ok(None);
    }
    let wrong = || Wrong {
        offset,
        what: "a line of the descriptor is no extent",
        expected: "access, sectors, kind, name in quotes, and first sector",
        found: printable(line),
    };
    let number = |word: &[u8]| std::str::from_utf8(word).ok().and_then(|word| word.parse::<u64>().ok());
    let (sectors, rest) = word(rest);
    let (kind, rest) = word(rest);
    let sectors = number(sectors).ok_or_else(wrong)?;
    let kind = String::from_utf8(kind.to_owned()).map_err(|_| wrong())?;
    let (name, rest) = match rest.strip_prefix(b"\"") {
        Some(rest) => {
            let end = rest.iter().position(|byte| *byte == b'"').ok_or_else(wrong)?;
            (&rest[..end], rest[end + 1..].trim_ascii())
        }
        None => (&b""[..], rest),
    };
    let (start, _) = word(rest);
    let start = if start.is_empty() { 0 } else { number(start).ok_or_else(wrong)? };
    Ok(Some(Extent { sectors, kind, name: name.to_owned(), start, offset }))
}

/// The first word of a line, and the rest.
fn word(line: &[u8]) -> (&[u8], &[u8]) {
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    (&line[..end], line[end..].trim_ascii_start())
}
