//! The composition, and the only room that knows the others: from a [`Manifest`] over trees and filesystems to the image
//! of a disk.
//!
//! A filesystem of size auto says how large its partition is, a partition says how large a filesystem of a given size
//! is, and a FAT writes down where its partition begins. So there are three steps: filesystems of size auto are built,
//! all partitions get their places, and what hung on those is built.

pub mod contents;
mod fit;
pub mod report;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::container::{Container, Format, Identity, SectorSize};
use crate::error::{Error, Kind, Result, Warning};
use crate::filesystem::{Filesystem, Size, ext4, fat, swap};
use crate::front::manifest::Manifest;
use crate::front::manifest::locate::KeyPath;
use crate::front::manifest::resolve::{self, Body, Disk};
use crate::front::manifest::values::{DiskId, DiskSize, PartitionSize};
use crate::front::nixos;
use crate::host;
use crate::identity::{self, Seed};
use crate::image::{Builder, Files, HostFile, Image, Segment};
use crate::nix::verify::{Expected, Verification};
use crate::pour::{PourOptions, Sink};
use crate::progress::Progress;
use crate::table::{self, Attribute, Placed, Plan, Request, Scheme, Wish};
use crate::tree::{self, Range, Time, Tree};
use crate::units::{Bytes, Sectors, u64_of};
use report::Report;

/// How a disk is built; nothing here but `container` and `epoch` changes a byte of the result.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the disk is written as, which decides the lengths that it can have.
    pub container: Container,
    /// Worker threads, at least 1; default: as many as the machine has cores.
    pub jobs: usize,
    /// Who is told how far it is, and who may ask to stop.
    pub progress: Progress,
    /// The value of SOURCE_DATE_EPOCH where it is set: the disk's time where the manifest gives none, and the reason to
    /// let no file be later than that.
    pub epoch: Option<i64>,
    /// Store paths whose hashes are compared with what was written, before it gets its name.
    pub verify: Option<Expected>,
}

impl Default for Options {
    fn default() -> Self {
        let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { container: Container::Raw, jobs, progress: Progress::default(), epoch: None, verify: None }
    }
}

/// A disk that is laid out but not yet written.
#[derive(Debug)]
pub struct Built {
    /// Its bytes.
    pub image: Image,
    /// What it is.
    pub report: Report,
    /// What was asked for and could not be kept.
    pub warnings: Vec<Warning>,
    /// The format that the manifest asks for, if it does.
    pub format: Option<Format>,
    /// What the ids inside a container derive from.
    pub id: Uuid,
    /// When the disk was made, in seconds since 1970.
    pub time: i64,
    /// The store paths to compare, where that was asked for.
    pub verification: Option<Verification>,
}

impl Built {
    /// Writes the disk to the file `path`, in the container of `options`, which are those that it was built with.
    ///
    /// # Errors
    /// As [`Container::write`], and [`Kind::Usage`] where `path` is a file that the disk is made from; as
    /// [`Verification::run`] where store paths are compared, after which nothing is left behind.
    pub fn write(&self, path: &Path, options: &Options) -> Result<()> {
        self.spare(path)?;
        let container = &options.container;
        let (identity, pour) = (self.identity()?, self.begin(options));
        match &self.verification {
            None => container.write(&self.image, &identity, path, &pour),
            Some(verification) => {
                let check = |written: &Image| verify(verification, written, options);
                container.write_checked(&self.image, &identity, path, &pour, &check)
            }
        }
    }

    /// What the disk says of itself to a container.
    fn identity(&self) -> Result<Identity> {
        let sector_size = SectorSize::of(self.report.sector_size)
            .ok_or_else(|| Error::bug("a disk has sectors of a size that no disk has"))?;
        Ok(Identity { seed: self.id, id: None, time: self.time, sector_size })
    }

    /// Writes the disk to `out`, from its first byte to its last. Store paths are compared before, since nothing can be
    /// read back: as their files are on the host, each of which is checked for change when it is read again.
    ///
    /// # Errors
    /// As [`Container::stream`], and [`Verification::run`] before a byte is written.
    pub fn stream(&self, out: Sink<'_>, options: &Options) -> Result<()> {
        if let Some(verification) = &self.verification {
            verify(verification, &self.image, options)?;
        }
        options.container.stream(&self.image, &self.identity()?, out, &self.begin(options))
    }

    /// Tells the progress how much there is to do.
    fn begin<'a>(&self, options: &'a Options) -> PourOptions<'a> {
        let (bytes, files) = self.image.file_data();
        options.progress.begin(bytes, files);
        PourOptions::new(options.jobs, &options.progress)
    }

    /// Refuses an output that would take the place of its own source.
    fn spare(&self, path: &Path) -> Result<()> {
        let (Ok(real), Ok(meta)) = (path.canonicalize(), path.metadata()) else { return Ok(()) };
        // Few files have the length and the name of the output, so few are asked where they really are.
        let own = |segment: &Segment| -> Result<bool> {
            let alike = self.image.host_file_size(segment)? == Some(meta.len());
            let file = if alike { self.image.host_file(segment)? } else { None };
            Ok(file
                .filter(|file| file.path.file_name() == real.file_name())
                .is_some_and(|file| file.path.canonicalize().is_ok_and(|source| source == real)))
        };
        for segment in self.image.segments() {
            if !own(segment)? {
                continue;
            }
            return Err(Error::new(Kind::Usage, "the output is one of its own sources")
                .at(path)
                .hint("write it elsewhere, or leave it out of the contents"));
        }
        Ok(())
    }
}

/// Compares the store paths on `disk`, as a stage of its own.
fn verify(verification: &Verification, disk: &Image, options: &Options) -> Result<()> {
    let (bytes, paths) = verification.amount();
    options.progress.begin(bytes, paths);
    verification.run(disk, options.jobs, &options.progress)
}

/// Builds the disk that `manifest` describes: reads what is to be read of the sources and decides where every byte goes.
/// Nothing is written.
///
/// # Errors
/// [`Kind::Manifest`] with the line for what does not fit together, [`Kind::Source`] for a source that is missing or
/// unreadable, [`Kind::Capacity`] for contents that do not fit, [`Kind::Interrupted`] after a signal.
pub fn build(manifest: &Manifest, options: &Options) -> Result<Built> {
    build_resolved(manifest, &resolve(manifest, options)?, options)
}

/// Makes sense of `manifest`, whichever kind it is. Of a NixOS system the closure, and what boots of it, is read.
///
/// # Errors
/// As [`build`].
pub fn resolve(manifest: &Manifest, options: &Options) -> Result<Disk> {
    match &manifest.written.nixos {
        Some(_) => nixos::disk(manifest, options.epoch),
        None => resolve::resolve(manifest, options.epoch),
    }
}

/// As [`build`], of a manifest that [`resolve()`] has made sense of.
///
/// # Errors
/// As [`build`].
pub fn build_resolved(manifest: &Manifest, disk: &Disk, options: &Options) -> Result<Built> {
    Composer { manifest, disk, options, seed: disk.seed(manifest) }.compose()
}

/// Adds to an error about a host file, found while it was copied, the line of `manifest` that brought the file.
#[must_use]
pub fn place_source(manifest: &Manifest, disk: &Disk, error: Error) -> Error {
    let path = match error.path() {
        Some(path) if error.kind() == Kind::Source && !error.has_line() => path,
        _ => return error,
    };
    let place = disk.partitions.iter().find_map(|partition| match &partition.body {
        Body::Filesystem(_, entries) => contents::bringer(entries, path).map(|entry| entry.path.clone()),
        Body::Image(image) => contents::is_below(image, path).then(|| partition.path.key("image")),
        Body::Empty | Body::Bytes(_) => None,
    });
    match place {
        Some(place) => manifest.place(error, &place),
        None => error,
    }
}

/// What is known of a partition before it has a place.
struct Draft {
    /// Its GUID, or what stands for it: what the ids of its filesystem derive from.
    guid: Uuid,
    /// What its filesystem holds.
    tree: Option<Arc<Tree>>,
    /// The filesystem, where it is built already.
    built: Option<Filesystem>,
    /// The ready image.
    ready: Option<Arc<Ready>>,
}

/// A composition under way.
struct Composer<'a> {
    manifest: &'a Manifest,
    disk: &'a Disk,
    options: &'a Options,
    seed: Seed,
}

impl Composer<'_> {
    fn compose(&self) -> Result<Built> {
        self.check_container()?;
        let mut drafts = Vec::with_capacity(self.disk.partitions.len());
        for (number, partition) in self.disk.partitions.iter().enumerate() {
            let draft = self.draft(partition, self.disk.partition_key(self.seed, number));
            drafts.push(draft.map_err(|error| self.placed(error, partition))?);
        }
        let plan = self.place(&drafts)?;
        let mut image = Builder::new(plan.length);
        plan.write(&mut image)?;
        image.bytes(Bytes::ZERO, "boot code", Arc::clone(&self.disk.boot.code));
        image.bytes(Bytes::new(plan.sector_size), "boot program", Arc::clone(&self.disk.boot.gap));
        let (mut facts, mut warnings) = (Vec::new(), self.disk.warnings.clone());
        let trees: Vec<_> = drafts.iter().filter_map(|draft| draft.tree.clone()).collect();
        for ((partition, draft), placed) in self.disk.partitions.iter().zip(drafts).zip(&plan.partitions) {
            self.options.progress.check()?;
            if let Body::Bytes(bytes) = &partition.body {
                put_bytes(bytes, placed, &mut image).map_err(|error| self.placed(error, partition))?;
            }
            if let Some(ready) = &draft.ready {
                ready.put(placed, &mut image).map_err(|error| self.placed(error, partition))?;
            }
            let filesystem =
                self.finish(partition, draft, placed).map_err(|error| self.placed(error, partition))?;
            facts.push(filesystem.map(|filesystem| {
                image.put(placed.offset, &filesystem.image.whole());
                warnings
                    .extend(filesystem.warnings.into_iter().map(|warning| self.about(warning, partition)));
                filesystem.facts
            }));
        }
        let image = image.finish()?;
        let report = Report::new(&plan, image.covered(), &facts, &warnings);
        let (id, time) = (self.seed.container_uuid(), self.disk.dates.time.seconds);
        let verification = match &self.options.verify {
            Some(expected) => Some(Verification::new(&image, &trees, expected)?),
            None => None,
        };
        Ok(Built { image, report, warnings, format: self.disk.format, id, time, verification })
    }

    /// A warning that says which partition it is about, where there may be several.
    fn about(&self, warning: Warning, partition: &resolve::Partition) -> Warning {
        match self.disk.table {
            Scheme::None => warning,
            Scheme::Gpt | Scheme::Mbr => {
                Warning(format!("{}: {warning}", self.manifest.describe(&partition.path)))
            }
        }
    }

    /// Adds the line that an error in a partition is about, where it has none yet: of the entry whose file it names, of
    /// the options of the filesystem, of the size, or of the partition.
    fn placed(&self, error: Error, partition: &resolve::Partition) -> Error {
        if error.has_line() {
            return error;
        }
        let error = if self.is_written(&error, partition) { error.with_kind(Kind::Manifest) } else { error };
        if error.key() == Some("time") {
            let error = self.manifest.place(error, &KeyPath::top("disk").key("time"));
            // A system has no policy for times.
            return match self.manifest.written.nixos {
                Some(_) => error.hint("give a time in between"),
                None => error,
            };
        }
        if self.manifest.written.nixos.is_some() {
            return nixos::error_in(self.manifest, self.disk, partition, error);
        }
        if error.key() == Some("size") {
            return self.manifest.place(error, &partition.path.key("size"));
        }
        if let (Body::Filesystem(..), Some(key)) = (&partition.body, error.key()) {
            return self.manifest.place(error, &partition.path.key("filesystem").key(key));
        }
        let path = match (&partition.body, error.path(), partition.size) {
            (Body::Filesystem(_, entries), Some(file), _) => {
                contents::cause(entries, file).map_or(partition.path.clone(), |entry| entry.path.clone())
            }
            (Body::Filesystem(..), None, _) if error.kind() == Kind::Manifest => {
                partition.path.key("filesystem")
            }
            (Body::Image(_), _, PartitionSize::Auto) => partition.path.key("image"),
            (.., PartitionSize::Fixed(_)) if error.kind() == Kind::Capacity => partition.path.key("size"),
            (Body::Image(_), ..) => partition.path.key("image"),
            _ => partition.path.clone(),
        };
        self.manifest.place(error, &path)
    }

    /// Whether an error is about what the manifest says and no file: an option of a filesystem, or an entry that is made and
    /// not copied.
    fn is_written(&self, error: &Error, partition: &resolve::Partition) -> bool {
        let cause = match (&partition.body, error.path()) {
            (Body::Filesystem(_, entries), Some(path)) => contents::cause(entries, path),
            _ => None,
        };
        let made = cause.is_some_and(|entry| entry.what.is_made());
        error.kind() == Kind::Capacity && (error.key().is_some() || made)
    }

    /// Reads what a partition will hold; builds its filesystem where that decides the partition's size.
    fn draft(&self, partition: &resolve::Partition, guid: Uuid) -> Result<Draft> {
        let mut draft = Draft { guid, tree: None, built: None, ready: None };
        match &partition.body {
            Body::Empty | Body::Bytes(_) => {}
            Body::Image(path) => draft.ready = Some(Arc::new(Ready::look(path)?)),
            Body::Filesystem(filesystem, entries) => {
                if !matches!(filesystem, resolve::Filesystem::Swap(_)) {
                    let (jobs, progress) = (self.options.jobs, &self.options.progress);
                    let time = self.disk.dates.time;
                    draft.tree = Some(contents::tree(self.manifest, entries, time, jobs, progress)?);
                }
                if partition.size == PartitionSize::Auto {
                    draft.built = Some(self.filesystem(filesystem, &draft, Size::Auto, Bytes::ZERO)?);
                }
            }
        }
        Ok(draft)
    }

    /// Builds a filesystem in a partition that begins at `start`.
    fn filesystem(
        &self,
        filesystem: &resolve::Filesystem,
        draft: &Draft,
        size: Size,
        start: Bytes,
    ) -> Result<Filesystem> {
        let id = identity::filesystem_uuid(draft.guid);
        let tree = || draft.tree.as_ref().ok_or_else(|| Error::bug("a filesystem has no tree"));
        match filesystem {
            resolve::Filesystem::Ext4(wish) => ext4::build(tree()?, &self.ext4(wish, size, id)),
            resolve::Filesystem::Vfat(wish) => fat::build(tree()?, &self.vfat(wish, size, id, start)?),
            resolve::Filesystem::Swap(wish) => match size {
                Size::Fixed(size) => swap::build(size, &wish.label, wish.uuid.unwrap_or(id)),
                Size::Auto => Err(Error::bug("swap has no size of its own")),
            },
        }
    }

    fn ext4(&self, wish: &resolve::Ext4, size: Size, id: Uuid) -> ext4::Options {
        let uuid = wish.uuid.unwrap_or(id);
        ext4::Options {
            size,
            free: wish.free,
            grow_to: wish.grow_to,
            label: wish.label.clone(),
            uuid,
            hash_seed: wish.hash_seed.unwrap_or_else(|| identity::hash_seed(uuid)),
            inodes: wish.inodes,
            journal: wish.journal,
            reserved: wish.reserved,
            time: self.disk.dates.time,
            times: wish.times,
        }
    }

    fn vfat(&self, wish: &resolve::Vfat, size: Size, id: Uuid, start: Bytes) -> Result<fat::Options> {
        let sector_size = u64::from(self.disk.sector_size);
        let sectors_per_cluster = match wish.cluster_size {
            None => None,
            // What does not fit a byte is more than FAT allows, and a part of a sector is none.
            Some(cluster) => match u8::try_from(cluster.get() / sector_size) {
                Ok(sectors) if sectors > 0 && cluster.is_multiple_of(sector_size) => Some(sectors),
                _ => {
                    return Err(Error::new(Kind::Manifest, "FAT has no clusters of this size")
                        .about("cluster_size")
                        .expected(format!("1, 2, 4, … 128 sectors of {sector_size} bytes"))
                        .found(cluster));
                }
            },
        };
        Ok(fat::Options {
            size,
            free: wish.free.unwrap_or_default(),
            label: Some(wish.label.clone()).filter(|label| !label.is_empty()),
            volume_id: wish.volume_id.unwrap_or_else(|| identity::fat_volume_id(id)),
            fat: wish.fat,
            sector_size,
            sectors_per_cluster,
            hidden_sectors: Sectors::new(start.get() / sector_size),
            time: self.disk.dates.time,
        })
    }

    /// Gives every partition its place.
    fn place(&self, drafts: &[Draft]) -> Result<Plan> {
        let disk = self.disk;
        let guid = match disk.guid {
            Some(DiskId::Guid(guid)) => guid,
            _ => self.seed.disk_guid(),
        };
        let signature = match disk.guid {
            Some(DiskId::Signature(signature)) => signature,
            _ => identity::mbr_signature(guid),
        };
        let partitions = disk.partitions.iter().zip(drafts);
        let request = Request {
            scheme: disk.table,
            sector_size: u64::from(disk.sector_size),
            disk_size: match disk.size {
                DiskSize::Auto => None,
                DiskSize::Fixed(size) => Some(size),
            },
            guid,
            signature,
            first_lba: disk.first_lba.map(Sectors::new),
            hybrid: disk.hybrid.clone(),
            partitions: partitions.map(|(partition, draft)| self.wish(partition, draft)).collect(),
        };
        self.plan(&request).map_err(|refusal| {
            // A system's section has the size of its disk.
            let disk = match (&self.manifest.written.nixos, refusal.key) {
                (Some(_), Some("size")) => KeyPath::top("nixos").key("disk_size"),
                _ => KeyPath::top("disk"),
            };
            let key = |path: &KeyPath| refusal.key.map_or(path.clone(), |key| path.key(key));
            let partitions = refusal.partitions.iter().filter_map(|number| self.disk.partitions.get(*number));
            let mut paths: Vec<KeyPath> = partitions.map(|partition| key(&partition.path)).collect();
            if paths.is_empty() {
                paths.push(key(&disk));
            }
            paths.iter().fold(refusal.error, |error, path| self.manifest.place(error, path))
        })
    }

    fn wish(&self, partition: &resolve::Partition, draft: &Draft) -> Wish {
        let size = match (partition.size, &draft.built, &draft.ready) {
            (PartitionSize::Fixed(size), ..) => table::Size::Exactly(size),
            (PartitionSize::Fill, ..) => table::Size::Fill,
            (PartitionSize::Auto, Some(filesystem), _) => self.whole(filesystem.image.length()),
            (PartitionSize::Auto, None, Some(ready)) => self.whole(Bytes::new(ready.size)),
            // `resolve` refuses what has no size at all.
            (PartitionSize::Auto, None, None) => table::Size::Exactly(Bytes::ZERO),
        };
        Wish {
            what: partition.path.to_string(),
            number: partition.number,
            start: partition.start,
            size,
            kind: partition.kind,
            guid: draft.guid,
            label: partition.label.clone(),
            attributes: partition.attributes.iter().fold(0, |all, attribute| all | attribute.mask()),
            active: partition.attributes.contains(&Attribute::Active),
            logical: partition.logical,
        }
    }

    /// The size of a partition that is as small as what it holds: in a table a whole number of MiB, since tools remark
    /// upon a partition that ends elsewhere; without one a whole number of sectors.
    fn whole(&self, size: Bytes) -> table::Size {
        table::Size::Exactly(match self.disk.table {
            Scheme::None => size.round_up(u64::from(self.disk.sector_size)),
            Scheme::Gpt | Scheme::Mbr => size.round_up(table::GRAIN),
        })
    }

    /// The filesystem as it is in its place: the one that decided the partition's size, unless it says where it lies.
    fn finish(
        &self,
        partition: &resolve::Partition,
        mut draft: Draft,
        placed: &Placed,
    ) -> Result<Option<Filesystem>> {
        let Body::Filesystem(filesystem, _) = &partition.body else { return Ok(None) };
        let early = draft.built.take();
        match (early, filesystem) {
            (Some(built), resolve::Filesystem::Ext4(_) | resolve::Filesystem::Swap(_)) => Ok(Some(built)),
            (early, _) => {
                let size = if early.is_some() { Size::Auto } else { Size::Fixed(placed.length) };
                let built = self.filesystem(filesystem, &draft, size, placed.offset)?;
                match early.is_some_and(|early| early.image.length() != built.image.length()) {
                    true => Err(Error::bug("the size of a filesystem hangs on its place")),
                    false => Ok(Some(built)),
                }
            }
        }
    }
}

/// Puts ready bytes at the start of their partition.
fn put_bytes(bytes: &Arc<[u8]>, placed: &Placed, image: &mut Builder) -> Result<()> {
    let length = Bytes::new(u64_of(bytes.len()));
    if let Some(missing) = length.checked_sub(placed.length).filter(|missing| *missing > Bytes::ZERO) {
        return Err(Error::new(Kind::Capacity, "what a partition holds does not fit it")
            .expected(format!("at most {} bytes", placed.length.get()))
            .found(format!("{} bytes, {} too many", length.get(), missing.get())));
    }
    image.bytes(placed.offset, format!("boot program of partition {}", placed.number), Arc::clone(bytes));
    Ok(())
}

/// A file that a partition takes as it is.
#[derive(Debug)]
struct Ready {
    /// As it was given.
    given: PathBuf,
    /// With links resolved.
    path: PathBuf,
    size: u64,
    time: Time,
    /// Where it has data; `None` for throughout.
    ranges: Option<Vec<Range>>,
}

impl Ready {
    fn look(path: &Path) -> Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let failed = |error: std::io::Error| {
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            let what = if missing { "the source does not exist" } else { "cannot read the source" };
            Error::io(Kind::Source, what, path, error)
        };
        let real = path.canonicalize().map_err(failed)?;
        let meta = std::fs::metadata(&real).map_err(failed)?;
        if !meta.is_file() || meta.len() == 0 {
            let what = if meta.is_file() { "an empty file" } else { "something else" };
            return Err(Error::new(Kind::Source, "the image of a partition is a file that holds something")
                .at(path)
                .found(what));
        }
        let nanoseconds = u32::try_from(meta.mtime_nsec()).unwrap_or(0);
        Ok(Self {
            size: meta.len(),
            time: Time { seconds: meta.mtime(), nanoseconds },
            ranges: tree::data_ranges(&real, meta.len())?,
            path: real,
            given: path.to_owned(),
        })
    }

    /// Puts the file into its partition.
    fn put(self: &Arc<Self>, placed: &Placed, image: &mut Builder) -> Result<()> {
        let size = Bytes::new(self.size);
        if let Some(missing) = size.checked_sub(placed.length).filter(|missing| *missing > Bytes::ZERO) {
            return Err(Error::new(Kind::Capacity, "the image does not fit its partition")
                .at(&self.given)
                .expected(format!("at most {} bytes", placed.length.get()))
                .found(format!("{} bytes, {} too many", self.size, missing.get())));
        }
        let files = image.files(Arc::<Self>::clone(self));
        let whole = [Range { start: 0, length: self.size }];
        for range in self.ranges.as_deref().unwrap_or(&whole) {
            image.file(
                placed.offset + Bytes::new(range.start),
                Bytes::new(range.length),
                files,
                0,
                range.start,
            );
        }
        Ok(())
    }
}

impl Files for Ready {
    fn file(&self, _: u32) -> Result<HostFile<'_>> {
        let stamp = host::stamp(self.time.seconds, self.time.nanoseconds);
        Ok(HostFile { path: Cow::Borrowed(&self.path), size: self.size, stamp: Some(stamp) })
    }
}
