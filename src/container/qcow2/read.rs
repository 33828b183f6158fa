//! Reads the header of qcow2, versions 2 and 3, from any writer.

use std::path::PathBuf;
use std::sync::Arc;

use super::format::{
    CLUSTER_BITS, ClusterSize, EXTENSION_BACKING_FORMAT, EXTENSION_FEATURE_NAMES, ExtensionHead, FeatureName,
    HEADER_2, Header, INCOMPATIBLE_COMPRESSION, INCOMPATIBLE_CORRUPT, INCOMPATIBLE_DATA_FILE,
    INCOMPATIBLE_DIRTY, INCOMPATIBLE_EXTENDED_L2, LEAST_EXTENDED, LEAST_HEADER_3, LONGEST_BACKING, Level1,
    MAGIC, MOST_L1, MOST_REFCOUNT_ORDER, MOST_REFCOUNT_TABLE, REFCOUNT_ORDER, RefcountTable, ZERO,
};
use super::walk::{Disk, walk};
use super::{Compat, Options};
use crate::container::codec::Decoder;
use crate::container::source::{Source, shown};
use crate::error::{Error, Kind, Result};
use crate::text::printable;
use crate::units::{Bytes, narrow, u64_of};
use crate::wire::Wire;

/// The values of the header.
#[derive(Clone, Debug)]
pub(in crate::container) struct Info {
    pub(in crate::container) version: u32,
    pub(super) cluster_size: ClusterSize,
    pub(in crate::container) size: u64,
    pub(super) l1: Level1,
    pub(super) refcounts: RefcountTable,
    /// log2 of the bits of a refcount.
    pub(super) refcount_order: u32,
    incompatible: u64,
    pub(super) autoclear: u64,
    pub(super) decoder: Decoder,
    /// The backing file as it is recorded, and its format, if that is recorded.
    pub(in crate::container) backing: Option<(PathBuf, Option<String>)>,
    pub(in crate::container) snapshots: u32,
}

impl Info {
    /// Bytes of a cluster.
    pub(in crate::container) const fn cluster(&self) -> u64 {
        self.cluster_size.bytes()
    }

    /// `zlib` or `zstd`.
    pub(in crate::container) const fn compression(&self) -> &'static str {
        self.decoder.name()
    }

    /// Whether a writer did not close it, so that refcounts may be stale.
    pub(super) const fn dirty(&self) -> bool {
        self.incompatible & INCOMPATIBLE_DIRTY != 0
    }

    /// The level 2 entry of a zero cluster without a place.
    pub(super) fn zero_entry(&self) -> Vec<u8> {
        if self.extended() {
            // All 32 parts read as zero (QEMU docs/interop/qcow2.txt, Extended L2 Entries).
            [[0; 8], (u64::from(u32::MAX) << 32).to_be_bytes()].concat()
        } else {
            ZERO.to_be_bytes().to_vec()
        }
    }

    /// Whether level 2 entries describe 32 parts of a cluster.
    pub(super) const fn extended(&self) -> bool {
        self.incompatible & INCOMPATIBLE_EXTENDED_L2 != 0
    }

    /// Bytes of a level 2 entry.
    pub(super) const fn entry(&self) -> u64 {
        if self.extended() { 16 } else { 8 }
    }

    /// Bytes of the disk that a level 2 table covers.
    pub(super) const fn covered(&self) -> u64 {
        self.cluster() / self.entry() * self.cluster()
    }

    /// Reads and checks the header.
    pub(in crate::container) fn read(source: &Source) -> Result<Self> {
        let header = read_header(source)?;
        check(source, &header)?;
        let cluster_size = ClusterSize { bits: header.cluster_bits };
        let compressed = header.incompatible_features & INCOMPATIBLE_COMPRESSION != 0;
        // Headers of the first files of version 3 end before this field.
        let kind =
            if compressed && header.header_length > LEAST_HEADER_3 { header.compression_type } else { 0 };
        let decoder = Decoder::of_qcow2(kind).ok_or_else(|| {
            let error = source.wrong_in::<Header>("an unknown compression", 0, "compression_type");
            error.expected("0 (zlib) or 1 (zstd)").found(kind)
        })?;
        let info = Self {
            version: header.version,
            cluster_size,
            size: header.size,
            l1: Level1 { offset: header.l1_table_offset, entries: u64::from(header.l1_size) },
            refcounts: RefcountTable {
                offset: header.refcount_table_offset,
                clusters: u64::from(header.refcount_table_clusters),
            },
            refcount_order: header.refcount_order,
            incompatible: header.incompatible_features,
            autoclear: header.autoclear_features,
            decoder,
            backing: backing(source, &header)?,
            snapshots: header.nb_snapshots,
        };
        info.check_tables(source)?;
        Ok(info)
    }

    /// Checks the sizes and places that the header names.
    fn check_tables(&self, source: &Source) -> Result<()> {
        let wrong = |what: &str, field: &str| source.wrong_in::<Header>(what, 0, field);
        if Bytes::new(self.size) > Bytes::LIMIT {
            return Err(wrong("an impossible disk size", "size").found(self.size));
        }
        let Level1 { offset, entries } = self.l1;
        if entries * 8 > MOST_L1 {
            return Err(wrong("the L1 table is too large", "l1_size")
                .expected(format!("at most {} entries", MOST_L1 / 8))
                .found(entries));
        }
        let needed = self.size.div_ceil(self.covered());
        if entries < needed {
            return Err(wrong("the L1 table is too small for the disk", "l1_size")
                .expected(format!("at least {needed} entries"))
                .found(entries));
        }
        if entries > 0 && !Bytes::new(offset).is_multiple_of(self.cluster()) {
            let what = "the L1 table is not aligned to a cluster";
            return Err(wrong(what, "l1_table_offset").found(offset));
        }
        source.within(offset, entries * 8, "the L1 table")?;
        let RefcountTable { offset, clusters } = self.refcounts;
        if clusters.saturating_mul(self.cluster()) > MOST_REFCOUNT_TABLE {
            return Err(wrong("the refcount table is too large", "refcount_table_clusters")
                .expected(format!("at most {} clusters", MOST_REFCOUNT_TABLE / self.cluster()))
                .found(clusters));
        }
        if !Bytes::new(offset).is_multiple_of(self.cluster()) {
            let what = "the refcount table is not aligned to a cluster";
            return Err(wrong(what, "refcount_table_offset").found(offset));
        }
        source.within(offset, clusters * self.cluster(), "the refcount table")
    }

    /// The settings that make a file of this kind; `compressed` says whether it has compressed clusters.
    pub(in crate::container) fn options(&self, compressed: bool) -> Options {
        Options {
            cluster_size: self.cluster_size,
            codec: compressed.then(|| self.decoder.codec()),
            compat: if self.version == 2 { Compat::V2 } else { Compat::V3 },
            backing: None,
        }
    }

    /// The disk, without the data of a backing file.
    pub(in crate::container) fn disk(&self, source: &Arc<Source>) -> Result<Disk> {
        walk(self, source)
    }
}

/// Whether these are the first bytes of a qcow2 file.
pub(in crate::container) fn detect(head: &[u8]) -> bool {
    head.starts_with(&MAGIC.to_be_bytes())
}

/// The header of the file. Fields that version 2 lacks have the defaults of version 3.
pub(super) fn read_header(source: &Source) -> Result<Header> {
    let head = source.read_some(0, u64_of(Header::LENGTH))?;
    let marked = detect(&head);
    if head.len() < HEADER_2 || !marked {
        return Err(source
            .wrong(if marked { "the header is cut" } else { "this is no qcow2 image" }, 0)
            .expected("QFI and 0xfb")
            .found(shown(&head[..head.len().min(4)])));
    }
    let mut bytes = [0; Header::LENGTH];
    bytes[..head.len()].copy_from_slice(&head);
    let header = Header::read(&bytes)?;
    match header.version {
        2 => {
            bytes[HEADER_2..].fill(0);
            let header_length = narrow(HEADER_2, "the length of the header")?;
            Ok(Header { refcount_order: REFCOUNT_ORDER, header_length, ..Header::read(&bytes)? })
        }
        3 => Ok(header),
        other => {
            let error = source.wrong_in::<Header>("an unknown version of qcow2", 0, "version");
            Err(error.expected("2 or 3").found(other))
        }
    }
}

/// Checks the fields of the header itself.
fn check(source: &Source, header: &Header) -> Result<()> {
    let wrong = |what: &str, field: &str| source.wrong_in::<Header>(what, 0, field);
    let bits = header.cluster_bits;
    if !CLUSTER_BITS.contains(&bits) {
        return Err(wrong("an impossible cluster size", "cluster_bits").expected("9 to 21 bits").found(bits));
    }
    if header.crypt_method != 0 {
        let hint = "decrypt it with qemu-img first";
        return Err(wrong("the image is encrypted", "crypt_method").hint(hint));
    }
    check_features(source, header)?;
    if header.incompatible_features & INCOMPATIBLE_EXTENDED_L2 != 0 && bits < LEAST_EXTENDED {
        return Err(wrong("clusters are too small for extended L2 entries", "cluster_bits")
            .expected("at least 14 bits")
            .found(bits));
    }
    let cluster = ClusterSize { bits }.bytes();
    let length = header.header_length;
    if header.version == 3 && (length < LEAST_HEADER_3 || u64::from(length) > cluster) {
        return Err(wrong("an impossible length of the header", "header_length")
            .expected(format!("{LEAST_HEADER_3} to {cluster}, a cluster"))
            .found(length));
    }
    if header.refcount_order > MOST_REFCOUNT_ORDER {
        return Err(wrong("an impossible width of refcounts", "refcount_order")
            .expected("an order of at most 6, for 64 bits")
            .found(header.refcount_order));
    }
    Ok(())
}

/// Refuses features that cannot be read.
fn check_features(source: &Source, header: &Header) -> Result<()> {
    let features = header.incompatible_features;
    let wrong = |what: &str| source.wrong_in::<Header>(what, 0, "incompatible_features");
    if features & INCOMPATIBLE_CORRUPT != 0 {
        let hint = "repair it with `qemu-img check -r all`";
        return Err(wrong("the image is marked as corrupt").hint(hint));
    }
    if features & INCOMPATIBLE_DATA_FILE != 0 {
        let hint = "convert it with qemu-img first";
        return Err(wrong("the image keeps its data in another file").hint(hint));
    }
    // The refcounts of a dirty image may be stale, but reading does not need them.
    let known = INCOMPATIBLE_DIRTY | INCOMPATIBLE_COMPRESSION | INCOMPATIBLE_EXTENDED_L2;
    let unknown = features & !known;
    if unknown != 0 {
        let names = feature_names(source, header, unknown)?;
        return Err(wrong("the image needs features that are not known").found(names.join(", ")));
    }
    Ok(())
}

/// The names of the incompatible features `bits` in the image, or their numbers.
fn feature_names(source: &Source, header: &Header, bits: u64) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for extension in extensions(source, header)?.iter().filter(|own| own.kind == EXTENSION_FEATURE_NAMES) {
        // One table names at most the 64 bits of each of three kinds.
        let length = extension.length.min(3 * 64 * u64_of(FeatureName::LENGTH));
        let table = source.read(extension.data, length, "the names of features")?;
        for entry in table.chunks_exact(FeatureName::LENGTH) {
            names.push(FeatureName::read(entry)?);
        }
    }
    let named = |bit: u32| {
        let entry = names.iter().find(|entry| entry.kind == 0 && u32::from(entry.bit) == bit);
        let name = entry.and_then(|entry| entry.name.split(|byte| *byte == 0).next());
        match name.filter(|name| !name.is_empty()) {
            Some(name) => format!("bit {bit}, `{}`", printable(name)),
            None => format!("bit {bit}"),
        }
    };
    Ok((0..64).filter(|bit| bits >> bit & 1 == 1).map(named).collect())
}

/// A header extension.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extension {
    pub(super) kind: u32,
    /// The offset and length of its data.
    pub(super) data: u64,
    pub(super) length: u64,
}

/// The header extensions. They lie between the header and the name of the backing file, or the end of the
/// first cluster. At most 64 are read, which is more than the number of kinds.
pub(super) fn extensions(source: &Source, header: &Header) -> Result<Vec<Extension>> {
    let cluster = ClusterSize { bits: header.cluster_bits }.bytes();
    let end = if header.backing_file_offset == 0 { cluster } else { header.backing_file_offset };
    let mut at = u64::from(header.header_length);
    let mut found = Vec::new();
    while found.len() < 64 && at.saturating_add(u64_of(ExtensionHead::LENGTH)) <= end.min(source.size) {
        let bytes = source.read(at, u64_of(ExtensionHead::LENGTH), "a header extension")?;
        let head = ExtensionHead::read(&bytes)?;
        if head.kind == 0 {
            break;
        }
        let (data, length) = (at + u64_of(ExtensionHead::LENGTH), u64::from(head.length));
        found.push(Extension { kind: head.kind, data, length });
        at = data.saturating_add(length.next_multiple_of(8));
    }
    Ok(found)
}

/// The longest name of a backing file's format that is read. Existing formats have names of a few letters.
const LONGEST_FORMAT: u64 = 64;

/// The backing file's name and format.
fn backing(source: &Source, header: &Header) -> Result<Option<(PathBuf, Option<String>)>> {
    use std::os::unix::ffi::OsStringExt;
    let (offset, length) = (header.backing_file_offset, u64::from(header.backing_file_size));
    if offset == 0 || length == 0 {
        return Ok(None);
    }
    if length > u64_of(LONGEST_BACKING) {
        return Err(source
            .wrong_in::<Header>("the backing file's name is too long", 0, "backing_file_size")
            .expected(LONGEST_BACKING)
            .found(length));
    }
    let name = source.read(offset, length, "the backing file's name")?;
    let mut format = None;
    for extension in extensions(source, header)?.iter().filter(|own| own.kind == EXTENSION_BACKING_FORMAT) {
        let length = extension.length.min(LONGEST_FORMAT);
        let bytes = source.read(extension.data, length, "the backing file's format")?;
        format = Some(String::from_utf8_lossy(&bytes).into_owned());
    }
    Ok(Some((PathBuf::from(std::ffi::OsString::from_vec(name)), format)))
}

/// The error for a backing file that was not allowed.
pub(in crate::container) fn backing_refused(source: &Source, name: &std::path::Path) -> Error {
    Error::new(Kind::Usage, "the image has a backing file")
        .at(&source.path)
        .found(crate::text::printable_path(name))
        .why("an image may name any file of this machine as its backing file")
        .remedy("allow_backing", "allow backing files if you trust it")
}
