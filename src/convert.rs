//! Converts an image from one container to another, and creates an empty one.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::container::{
    Container, Identity, OpenOptions, Opened, SectorSize, open_file, qcow2, same_file, vmdk,
};
use crate::error::{Error, Kind, Result, Warning};
use crate::host::folder_of;
use crate::image::{Builder, Image};
use crate::pour::device::folder_in_sys;
use crate::pour::output::{Output, is_device, only_raw};
use crate::pour::zeros::{is_zero, without_empty, without_zeros};
use crate::pour::{PourOptions, Sink, Zeros};
use crate::progress::Progress;
use crate::table::{self, Scheme};
use crate::units::{Bytes, KIB, MIB, u64_of, usize_of};

/// Where a converted disk goes.
#[expect(missing_debug_implementations, reason = "a stream has nothing to show")]
pub enum Target<'a> {
    /// A new file that appears when it is complete, or a block device, which gets a raw disk at once.
    File(&'a Path),
    /// A stream.
    Stream(Sink<'a>),
}

/// How a disk is written.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// When the new container was made, in seconds since 1970.
    pub time: i64,
    /// Bytes in a logical sector of the disk; with `None` as the source says, or else 512.
    pub sector_size: Option<SectorSize>,
    /// Worker threads, at least 1.
    pub jobs: usize,
    /// Receives the progress, and may ask to stop.
    pub progress: &'a Progress,
}

/// Writes the disk in `opened` in another format. Grains of 4 KiB of zeros become holes, compressed or not.
///
/// What the source records about the disk is kept if the new format can record it: the sector size, from the
/// source or from the place of its GPT; and from VMDK to VMDK the controller, unless `container` names one.
/// No byte of the disk changes. If the format has only longer disks, zeros follow, and a warning says so; a disk with a GPT
/// is refused then, since the backup of its GPT belongs at its end.
///
/// # Errors
/// As [`Container::write`]; [`Kind::Usage`] where the target is the source or its backing file, or cannot
/// record the sector size or the length of the disk; [`Kind::Capacity`] for a device that is shorter than the disk.
pub fn convert(
    opened: &Opened,
    source: &Path,
    target: Target<'_>,
    container: &Container,
    options: &Options<'_>,
) -> Result<Vec<Warning>> {
    let mut of_device = None;
    if let Target::File(path) = &target {
        for name in container.names(opened.image.length(), path)? {
            spare(opened, source, &name)?;
        }
        of_device = check_device(&opened.image, container, path)?;
    }
    let Ready { container, image, identity, pour, gpt } = Ready::new(opened, source, container, options)?;
    let (bytes, files) = image.file_data();
    options.progress.begin(bytes, files);
    match target {
        Target::File(path) => container.write(&image, &identity, path, &pour)?,
        Target::Stream(out) => container.stream(&image, &identity, out, &pour)?,
    }
    let (length, sector_size) = (opened.image.length(), identity.sector_size);
    let of_sectors = match gpt {
        None => container.sectors_untold(sector_size),
        Some(found) => (found != sector_size).then(|| {
            let (found, sector_size) = (found.get(), sector_size.get());
            Warning(format!("the GPT is for sectors of {found} bytes, and a guest with sectors of {sector_size} finds none"))
        }),
    };
    Ok(container.lengthened(length, sector_size).into_iter().chain(of_sectors).chain(of_device).collect())
}

/// Refuses a device that cannot hold the disk, and tells what is to be known of the disk there.
fn check_device(image: &Image, container: &Container, path: &Path) -> Result<Option<Warning>> {
    if !is_device(path) {
        return Ok(None);
    }
    if *container != Container::Raw {
        return Err(only_raw(path, container.format()));
    }
    let output = Output::open(path)?;
    output.set_length(image.length().get())?;
    let (Some(device), Some(table)) = (output.device(), table::read(&image.whole())?.table) else {
        return Ok(None);
    };
    let disk = (image.length(), table.sector_size);
    let has_backup = table.scheme == Scheme::Gpt && table::has_backup(&image.whole(), table.sector_size)?;
    table::on_device(table.scheme, disk, device, has_backup).map_err(|error| error.at(path))
}

/// The file that [`convert`] would write, as an image, without writing it.
///
/// # Errors
/// As [`Container::wrap`], and as [`convert`] for reading.
pub fn wrapped(
    opened: &Opened,
    source: &Path,
    container: &Container,
    options: &Options<'_>,
) -> Result<Image> {
    let ready = Ready::new(opened, source, container, options)?;
    ready.container.wrap(&ready.image, &ready.identity)
}

/// What is needed to write a disk in another format.
struct Ready<'a> {
    container: Container,
    /// The parts of the disk that the container must place.
    image: Cow<'a, Image>,
    identity: Identity,
    pour: PourOptions<'a>,
    /// The sectors that a GPT is for, if there is one.
    gpt: Option<SectorSize>,
}

impl<'a> Ready<'a> {
    fn new(opened: &'a Opened, source: &Path, container: &Container, options: &Options<'a>) -> Result<Self> {
        let pour = PourOptions { zeros: Zeros::Skip, ..PourOptions::new(options.jobs, options.progress) };
        let gpt = gpt_sectors(&opened.image)?;
        let sector_size = options.sector_size.or(opened.sector_size).or(gpt).unwrap_or_default();
        // This is checked before the disk is read for its zeros.
        container.check_sector_size(sector_size).map_err(|error| match options.sector_size {
            Some(_) => error.at(source),
            None => error.of_source(source),
        })?;
        if gpt.is_some() {
            check_end(container, opened.image.length(), sector_size)
                .map_err(|error| error.of_source(source))?;
        }
        let container = keep_adapter(container, opened);
        let (image, fingerprint) = sparse(&opened.image, &container, &pour)?;
        let seed = id_of(image.length(), fingerprint);
        let identity = Identity { seed, id: None, time: options.time, sector_size };
        Ok(Self { container, image, identity, pour, gpt })
    }
}

/// The sector size that the GPT of `image` uses, if there is a GPT.
fn gpt_sectors(image: &Image) -> Result<Option<SectorSize>> {
    let table = table::read(&image.whole())?.table.filter(|table| table.scheme == Scheme::Gpt);
    Ok(table.and_then(|table| SectorSize::of(table.sector_size)))
}

/// `container`, with the controller of the disk in `opened` if both formats record one. The default
/// controller of the source's kind does not count, because a stream has another default than a sparse file.
fn keep_adapter(container: &Container, opened: &Opened) -> Container {
    match (container, opened.container()) {
        (Container::Vmdk(to @ vmdk::Options { adapter: None, .. }), Container::Vmdk(from)) => {
            let usual = from.create_type.usual_adapter();
            Container::Vmdk(vmdk::Options { adapter: from.adapter.filter(|own| *own != usual), ..*to })
        }
        (other, _) => other.clone(),
    }
}

/// Refuses a disk with a GPT that the container would make longer: the backup of the table belongs at the end of the disk.
fn check_end(container: &Container, length: Bytes, sector_size: SectorSize) -> Result<()> {
    container.check_length(length, sector_size).map_err(|error| {
        let seen = container.disk_length(length, sector_size);
        error.why("the backup of its GPT has to be at its end").hint(format!(
            "resize the source to {seen} (diskwright resize moves the backup there), or take another format or subformat"
        ))
    })
}

/// The parts of `image` that the container must place. Also the fingerprint of all its bytes if ids derive
/// from it, else 0.
fn sparse<'a>(
    image: &'a Image,
    container: &Container,
    options: &PourOptions<'_>,
) -> Result<(Cow<'a, Image>, u128)> {
    if container.has_ids() {
        let sparse = without_zeros(image, options)?;
        return Ok((Cow::Owned(sparse.image), sparse.fingerprint));
    }
    match container {
        // Its clusters get their places before the first one is written. The pour leaves out zeros inside a
        // cluster.
        Container::Qcow2(qcow2::Options { codec: None, cluster_size, .. }) => {
            let cluster = Bytes::new(cluster_size.bytes().max(4 * KIB));
            Ok((Cow::Owned(without_empty(image, cluster, options)?), 0))
        }
        // The pour leaves out zeros of a raw file, and a compressing writer examines every byte.
        _ => Ok((Cow::Borrowed(image), 0)),
    }
}

/// Refuses a target that is the source of the disk, or a backing file of it.
fn spare(opened: &Opened, source: &Path, target: &Path) -> Result<()> {
    let below = backing_file(target);
    let is_below = |file: &Path| below.as_ref().is_some_and(|below| same_file(file, below));
    let is_target = |file: &Path| same_file(file, target) || shares_device(file, target) || is_below(file);
    if is_target(source) || opened.files.iter().any(|file| is_target(file)) {
        return Err(Error::new(Kind::Usage, "the destination is the source")
            .at(target)
            .hint("write it elsewhere"));
    }
    Ok(())
}

/// Whether both are block devices, of which one is a partition of the other.
fn shares_device(one: &Path, other: &Path) -> bool {
    match (folder_in_sys(one), folder_in_sys(other)) {
        (Some(one), Some(other)) => one.starts_with(&other) || other.starts_with(&one),
        _ => false,
    }
}

/// The file whose bytes a loop device, or a partition of it, has.
fn backing_file(device: &Path) -> Option<PathBuf> {
    let folder = folder_in_sys(device)?;
    let text =
        folder.ancestors().take(2).find_map(|folder| std::fs::read(folder.join("loop/backing_file")).ok())?;
    Some(PathBuf::from(OsStr::from_bytes(text.trim_ascii_end())))
}

/// The UUID that ids inside a container derive from if there is no seed. It follows from the size of the disk
/// and all its bytes, so equal disks get equal ids, and different disks different ids.
pub(crate) fn id_of(length: Bytes, fingerprint: u128) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(length.get().to_le_bytes());
    hash.update(fingerprint.to_le_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(id).into_uuid()
}

/// Reads an image from a stream into a file without a name beside `near`, with zeros as holes, and opens it.
/// A container can only be written once the size of the disk is known, and only be read once its tables are.
///
/// # Errors
/// As [`open`](crate::container::open); [`Kind::Source`] where the stream cannot be read, [`Kind::Output`] where there is no space, [`Kind::Interrupted`] after a
/// signal.
pub fn open_stream(
    input: &mut dyn Read,
    near: &Path,
    options: &OpenOptions,
    progress: &Progress,
) -> Result<Opened> {
    let folder = folder_of(near);
    let failed = |error: std::io::Error| Error::io(Kind::Output, "cannot keep what is read", folder, error);
    let file = tempfile::tempfile_in(folder).map_err(failed)?;
    let mut buffer = vec![0; usize_of(MIB)];
    let mut at = 0;
    loop {
        progress.check()?;
        let mut length = 0;
        while length < buffer.len() {
            match input.read(&mut buffer[length..]) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => progress.check()?,
                Err(error) => {
                    // If a signal ended the read, the signal is the cause.
                    progress.check()?;
                    return Err(Error::new(Kind::Source, "cannot read standard input").because(error));
                }
            }
        }
        if length == 0 {
            break;
        }
        if !is_zero(&buffer[..length]) {
            use std::os::unix::fs::FileExt;
            file.write_all_at(&buffer[..length], at).map_err(failed)?;
        }
        at += u64_of(length);
        progress.advance(u64_of(length), 0);
    }
    // The end of the stream may be that of a program which the same signal ended.
    progress.check()?;
    if at == 0 {
        return Err(Error::new(Kind::Source, "standard input is empty")
            .expected("an image")
            .hint("the program before the pipe has written nothing"));
    }
    file.set_len(at).map_err(failed)?;
    open_file(file, "standard input", options)
}

/// Writes an empty disk of `size`, or an overlay on the backing file that `container` names. If the format
/// has no disk of exactly this size, the disk is longer, and a warning says so.
///
/// # Errors
/// As [`Container::write`].
pub fn create(
    path: &Path,
    size: Bytes,
    container: &Container,
    options: &Options<'_>,
) -> Result<Vec<Warning>> {
    // Nothing but a file: a device would only lose what is on it.
    Output::create(path).map(drop)?;
    let image = Builder::new(size).finish()?;
    let sector_size = options.sector_size.unwrap_or_default();
    let identity = Identity { seed: id_of(size, 0), id: None, time: options.time, sector_size };
    container.write(&image, &identity, path, &PourOptions::new(options.jobs, options.progress))?;
    let untold = container.sectors_untold(sector_size);
    Ok(container.lengthened(size, sector_size).into_iter().chain(untold).collect())
}
