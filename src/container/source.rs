//! A container file that is being read: bounded reads whose errors name the place, and the mapping from the
//! disk to the file.
//!
//! A container may come from anyone, so no number in it is trusted. Every read is checked against the length
//! of the file, and allocations are limited by what was read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustix::fs::SeekFrom;

use crate::error::{Error, Kind, Result};
use crate::host::{COPY_IT, hides_content, kind_of, open_any_length, stamp};
use crate::image::{Builder, Files, FilesId, HostFile};
use crate::text::printable;
use crate::units::{Bytes, narrow, u64_of, usize_of};
use crate::wire::Wire;

/// How many entries of a table are read at a time: 1 MiB.
const ENTRIES: u64 = 1 << 18;

/// An open container, or a raw disk.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) size: u64,
    file: File,
    /// For regular files; a block device has no stamp.
    stamp: Option<u64>,
    /// The uses of its bytes, once it was mapped, where they are asked for.
    uses: Option<OnceLock<Uses>>,
}

/// Uses of bytes of a file: start to end and name.
type Uses = BTreeMap<u64, (u64, &'static str)>;

impl Source {
    /// As [`Source::open`]. The uses of its bytes are kept.
    pub(super) fn noting(path: &Path) -> Result<Arc<Self>> {
        let mut source = Self::open(path)?;
        if let Some(own) = Arc::get_mut(&mut source) {
            own.uses = Some(OnceLock::new());
        }
        Ok(source)
    }

    /// The use of a byte, and where the run of this use begins.
    pub(super) fn use_of(&self, offset: u64) -> Option<(u64, &'static str)> {
        let uses = self.uses.as_ref()?.get()?;
        let (start, (end, what)) = uses.range(..=offset).next_back()?;
        (offset < *end).then_some((*start, *what))
    }

    /// Opens a regular file or a block device. A link is followed, since the caller named it.
    pub(super) fn open(path: &Path) -> Result<Arc<Self>> {
        use rustix::fs::OFlags;
        let failed = |error: std::io::Error| {
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            let what = if missing { "the image does not exist" } else { "cannot read the image" };
            Error::io(Kind::Source, what, path, error)
        };
        let meta = path.metadata().map_err(failed)?;
        // What a link in /proc leads to need not have a path.
        if !meta.is_file() && !meta.file_type().is_block_device() {
            return Err(no_image(path, &meta));
        }
        let path = path.canonicalize().map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(open_any_length(&path, flags).map_err(|error| failed(error.into()))?);
        Self::over(file, path)
    }

    /// An open file; errors call it `path`.
    pub(super) fn over(file: File, path: PathBuf) -> Result<Arc<Self>> {
        let failed = |error: std::io::Error| Error::io(Kind::Source, "cannot read the image", &path, error);
        let meta = file.metadata().map_err(failed)?;
        let size = if meta.is_file() {
            meta.len()
        } else if meta.file_type().is_block_device() {
            rustix::fs::seek(&file, SeekFrom::End(0)).map_err(|error| failed(error.into()))?
        } else {
            return Err(no_image(&path, &meta));
        };
        if hides_content(&file).map_err(failed)? {
            return Err(Error::new(Kind::Source, "the image says it is empty, and has content")
                .at(&path)
                .hint(COPY_IT));
        }
        let nanoseconds = narrow(meta.mtime_nsec(), "the nanoseconds of a time")?;
        let stamp = meta.is_file().then(|| stamp(meta.mtime(), nanoseconds));
        Ok(Arc::new(Self { path, size, file, stamp, uses: None }))
    }

    /// `length` bytes at `offset`; `what` names them in errors.
    pub(super) fn read(&self, offset: u64, length: u64, what: &str) -> Result<Vec<u8>> {
        self.within(offset, length, what)?;
        let mut bytes = vec![0; usize_of(length)];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|error| Error::io(Kind::Source, "cannot read the image", &self.path, error))?;
        Ok(bytes)
    }

    /// The bytes at `offset`, up to `most` and to the end of the file.
    pub(super) fn read_some(&self, offset: u64, most: u64) -> Result<Vec<u8>> {
        self.read(offset, most.min(self.size.saturating_sub(offset)), "data")
    }

    /// Reads the table of `count` entries of four bytes at `offset` in pieces, since a table in a sparse file
    /// can have many GiB. Passes each piece to `each` with the number of its first entry.
    pub(super) fn table(
        &self,
        offset: u64,
        count: u64,
        what: &str,
        mut each: impl FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut first = 0;
        while first < count {
            let entries = (count - first).min(ENTRIES);
            let bytes = self.read(offset + first * 4, entries * 4, what)?;
            each(first, &bytes)?;
            first += entries;
        }
        Ok(())
    }

    /// Checks that `length` bytes at `offset` are in the file.
    pub(super) fn within(&self, offset: u64, length: u64, what: &str) -> Result<()> {
        match offset.checked_add(length) {
            Some(end) if end <= self.size => Ok(()),
            _ => Err(self
                .wrong(format!("the image is truncated: {what} lies outside the file"), offset)
                .expected(format!("{length} bytes"))
                .found(format!("a file of {} bytes", self.size))),
        }
    }

    /// Whether `length` bytes at `offset` are a hole of the file, which reads as zero.
    pub(super) fn is_hole(&self, offset: u64, length: u64) -> bool {
        match rustix::fs::seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) => data >= offset.saturating_add(length),
            Err(error) => error == rustix::io::Errno::NXIO && offset < self.size,
        }
    }

    /// Bytes that the file occupies on the host; a block device occupies its whole length.
    pub(super) fn taken(&self) -> u64 {
        match self.file.metadata() {
            Ok(meta) if meta.is_file() => meta.blocks().saturating_mul(512),
            _ => self.size,
        }
    }

    /// The structure at `offset`.
    ///
    /// # Errors
    /// [`Kind::Format`] with the place, if the file ends before the structure does, or if a fixed field has
    /// another value.
    pub(super) fn structure<T: Wire>(&self, offset: u64) -> Result<T> {
        let bytes = self.read(offset, u64_of(T::LENGTH), T::STRUCTURE.title)?;
        T::read(&bytes).map_err(|error| error.at_offset(&self.path, offset))
    }

    /// An error about the bytes at `offset`.
    pub(super) fn wrong(&self, what: impl Into<String>, offset: u64) -> Error {
        Error::new(Kind::Format, what).at_offset(&self.path, offset)
    }

    /// An error about the field `name` of the structure at `offset`.
    pub(super) fn wrong_in<T: Wire>(&self, what: impl Into<String>, offset: u64, name: &str) -> Error {
        match T::FIELDS.iter().find(|field| field.name == name) {
            Some(field) => self.wrong(what, offset + u64_of(field.offset)),
            None => Error::bug(format!("{} has no field `{name}`", T::STRUCTURE.title)),
        }
    }

    /// The parts of `from..to` that are not holes of the file.
    fn data_ranges(&self, from: u64, to: u64) -> Vec<Range<u64>> {
        let to = to.min(self.size);
        let (mut ranges, untold) = crate::host::data_ranges(&self.file, from, to);
        // Only hole is left, or this is a device or filesystem without holes.
        if let Some(at) = untold.filter(|at| !self.is_hole(*at, to - at)) {
            ranges.push(at..to);
        }
        ranges
    }
}

impl Files for Source {
    fn file(&self, _: u32) -> Result<HostFile<'_>> {
        Ok(HostFile { path: Cow::Borrowed(&self.path), size: self.size, stamp: self.stamp })
    }

    fn opened(&self, _: u32) -> Option<&File> {
        Some(&self.file)
    }
}

/// A fault of a file of `size` bytes where only `used` bytes belong to something. Writers that align what they write leave
/// gaps that are shorter than a block.
pub(super) fn leaked(size: u64, used: u64, block: u64) -> Option<String> {
    let lost = size.saturating_sub(used);
    (lost >= block.max(1)).then(|| format!("{lost} bytes of the file are leaked: they belong to nothing"))
}

/// What is neither a file nor a block device.
fn no_image(path: &Path, meta: &std::fs::Metadata) -> Error {
    let error = Error::new(Kind::Source, "an image is a file or a block device")
        .at(path)
        .found(kind_of(meta.file_type()));
    match meta.is_dir() {
        true => error.hint("name an image in it"),
        false => error.hint("convert and inspect read an image from standard input, as `-`"),
    }
}

/// The bytes in place of a mark, as an error shows them.
pub(super) fn shown(bytes: &[u8]) -> String {
    if bytes.is_empty() { "the end of the file".to_owned() } else { format!("`{}`", printable(bytes)) }
}

/// Whether two paths lead to one file, by links of either kind; false if one of them leads nowhere.
pub(crate) fn same_file(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    place(one).is_some_and(|one| place(other) == Some(one))
}

/// Opens an image to change it in place, if nobody else has locked a part of it. QEMU locks images while it
/// runs on them (block/file-posix.c, byte-range locks).
///
/// # Errors
/// [`Kind::Output`] where it cannot be written, [`Kind::Usage`] where it is in use.
pub(crate) fn open_to_change(path: &Path) -> Result<File> {
    let failed = |error| Error::io(Kind::Output, "cannot make the image larger", path, error);
    let file = File::options().read(true).write(true).open(path).map_err(failed)?;
    match rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
            Err(Error::new(Kind::Usage, "the image is in use by another program").at(path))
        }
        // A filesystem without locks returns another error.
        _ => Ok(file),
    }
}

/// Big-endian numbers of 64 bits.
pub(super) fn be64s(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.as_chunks().0.iter().map(|bytes| u64::from_be_bytes(*bytes))
}

/// Little-endian numbers of 64 bits.
pub(super) fn le64s(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Big-endian numbers of 32 bits.
pub(super) fn be32s(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.as_chunks().0.iter().map(|bytes| u32::from_be_bytes(*bytes))
}

/// Little-endian numbers of 32 bits.
pub(super) fn le32s(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes))
}

/// A run of bytes of a disk in a file.
#[derive(Clone, Copy, Debug)]
struct Run {
    disk: u64,
    file: u64,
    length: u64,
}

/// Collects the places of the parts of a disk in a container, and checks that no byte of the file is used
/// twice.
#[derive(Debug)]
pub(super) struct Mapping {
    source: Arc<Source>,
    builder: Builder,
    files: FilesId,
    /// A run that may still grow.
    open: Option<Run>,
    /// The uses of the bytes of the file.
    used: Uses,
    size: u64,
    /// Whether holes of the file are holes of the disk. Not for an overlay, because the backing file would
    /// show through.
    sparse: bool,
}

impl Mapping {
    /// A disk of `size` bytes, all hole.
    pub(super) fn new(source: &Arc<Source>, size: u64) -> Self {
        let mut builder = Builder::new(Bytes::new(size));
        let table: Arc<dyn Files> = Arc::<Source>::clone(source);
        let files = builder.files(table);
        Self {
            source: Arc::clone(source),
            builder,
            files,
            open: None,
            used: BTreeMap::new(),
            size,
            sparse: false,
        }
    }

    /// A disk of `size` bytes without a backing file: holes of the file are holes of the disk.
    pub(super) fn sparse(source: &Arc<Source>, size: u64) -> Self {
        Self { sparse: true, ..Self::new(source, size) }
    }

    /// The builder, for rendered bytes.
    pub(super) const fn builder(&mut self) -> &mut Builder {
        &mut self.builder
    }

    /// Records that bytes of the file are used.
    ///
    /// # Errors
    /// [`Kind::Format`] with both uses, if some of the bytes are used already.
    pub(super) fn claim(&mut self, offset: u64, length: u64, what: &'static str) -> Result<()> {
        if length == 0 {
            return Ok(());
        }
        if let Some((at, other)) = self.claimed(offset, length) {
            return Err(self
                .source
                .wrong(format!("two parts of the image overlap: {other} and {what}"), at)
                .expected("every byte to be used once")
                .found(format!("{what} of {length} bytes at byte {offset}")));
        }
        // Neighbours with the same use are one run, so that the list stays short.
        let mut end = offset.saturating_add(length);
        if let Some((next_end, next)) = self.used.get(&end).copied()
            && next == what
        {
            self.used.remove(&end);
            end = next_end;
        }
        match self.used.range_mut(..offset).next_back() {
            Some((_, (before_end, before))) if *before_end == offset && *before == what => *before_end = end,
            _ => {
                self.used.insert(offset, (end, what));
            }
        }
        Ok(())
    }

    /// The first of `length` bytes at `offset` that is used already, and its use.
    pub(super) fn claimed(&self, offset: u64, length: u64) -> Option<(u64, &'static str)> {
        let end = offset.saturating_add(length);
        let before = self.used.range(..=offset).next_back().filter(|(_, (end, _))| *end > offset);
        let found = before.or_else(|| self.used.range(offset..end).next());
        found.map(|(start, (_, what))| (offset.max(*start), *what))
    }

    /// Maps `length` bytes at `disk` to `file`; calls must ascend by `disk`. Bytes past the end of the disk
    /// or of the file are left out: the last cluster of a container may be cut, and reads as zero there.
    /// Returns the number of mapped bytes.
    pub(super) fn data(&mut self, disk: u64, length: u64, file: u64) -> Result<u64> {
        let length = length.min(self.size.saturating_sub(disk));
        if length == 0 {
            return Ok(0);
        }
        if file >= self.source.size {
            return Err(self
                .source
                .wrong("the image is truncated: data lies outside the file", file)
                .expected(format!("{length} bytes"))
                .found(format!("a file of {} bytes", self.source.size)));
        }
        let length = length.min(self.source.size - file);
        if let Some(run) = &mut self.open
            && run.disk + run.length == disk
            && run.file + run.length == file
        {
            run.length += length;
            return Ok(length);
        }
        self.flush();
        self.open = Some(Run { disk, file, length });
        Ok(length)
    }

    /// Ends the run that may still grow.
    pub(super) fn flush(&mut self) {
        let Some(Run { disk, file, length }) = self.open.take() else { return };
        let end = file + length;
        let whole = file..end;
        let parts = if self.sparse { self.source.data_ranges(file, end) } else { vec![whole] };
        for Range { start, end } in parts {
            let length = Bytes::new(end - start);
            self.builder.file(Bytes::new(disk + (start - file)), length, self.files, 0, start);
        }
    }

    /// The disk.
    pub(super) fn finish(mut self) -> Result<crate::image::Image> {
        self.flush();
        if let Some(uses) = &self.source.uses {
            // A file is mapped once.
            let _ = uses.set(self.used);
        }
        self.builder.finish()
    }
}
