//! The files that a disk goes to: what is said of one, and what that means. Flags and manifests share it.

use std::path::{Path, PathBuf};

use crate::container::{Container, Format, Settings};
use crate::disk::{Extra, Form};
use crate::error::{Error, Kind, Result, Subject};
use crate::filesystem::unwritten;
use crate::front::Description;
use crate::package::Package;
use crate::pour::output::{alone, is_device};
use crate::table::{Scheme, on_device};
use crate::units::Bytes;

/// A file that a disk goes to.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its name.
    pub path: PathBuf,
    /// What the disk becomes in it.
    pub form: Form,
}

/// What is said of a file that a disk goes to. Any of it may be missing, and may contradict the rest. [`Wanted::form`] decides.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// What is said of the container.
    pub settings: Settings,
    /// What the container is packed into.
    pub package: Option<Package>,
    /// Whether a bmap file stands beside it.
    pub bmap: bool,
    /// Whether a file with its digest stands beside it.
    pub sha256: bool,
    /// The most bytes of a part.
    pub split: Option<Bytes>,
    /// The length of the disk is a multiple of this.
    pub size_multiple: Option<Bytes>,
}

impl Wanted {
    /// What the disk becomes in the file `path`, or on standard output without one. The container is as `make` has it for the
    /// format that is said, else that of the path's suffix, else `other`.
    ///
    /// # Errors
    /// [`Kind::Usage`] for what does not fit together, about the option; as `make`.
    pub fn form(
        &self,
        path: Option<&Path>,
        other: Option<Format>,
        make: impl FnOnce(Format) -> Result<Container>,
    ) -> Result<Form> {
        let package = self.package(path)?;
        let container = match package {
            Some(package) => package.container()?,
            None => make(self.named(path, other, true)?)?,
        };
        let extra = self.extra(path, container.format(), package)?;
        if self.size_multiple == Some(Bytes::ZERO) {
            return Err(Error::new(Kind::Usage, "no length is a multiple of nothing").about("size_multiple"));
        }
        Ok(Form { container, package, extra, size_multiple: self.size_multiple })
    }

    /// The package: what is said, or else the end of the name.
    fn package(&self, path: Option<&Path>) -> Result<Option<Package>> {
        let given = &self.settings;
        let named = path.filter(|path| !is_device(path)).and_then(Package::of_path);
        let Some(package) = self.package.or(named) else { return Ok(None) };
        // A box has one suffix for all providers.
        let vagrant = |package| matches!(package, Package::Vagrant(_));
        if let Some(named) = named.filter(|named| *named != package && !(vagrant(*named) && vagrant(package)))
        {
            return Err(Error::new(Kind::Usage, format!("{package} is not what the output's name says"))
                .about("package")
                .expected(named)
                .hint("name it otherwise, or leave the package out"));
        }
        if let Some(format) = given.format.filter(|format| *format != package.format()) {
            let error = match self.package {
                Some(_) => {
                    Error::new(Kind::Usage, format!("{package} is not for this format")).about("package")
                }
                None => Error::new(
                    Kind::Usage,
                    format!("the output's name says {package}, which is not for this format"),
                )
                .about("format"),
            };
            let error = error.expected(package.format()).found(format);
            return Err(match format {
                Format::Qcow2 => error.remedy("compress", "a qcow2 compresses itself, by zstd or zlib"),
                _ => error,
            });
        }
        // A name that says another format than what it is packed into: disk.qcow2 of package zstd.
        if let Some(format) =
            path.filter(|_| named.is_none() && given.format.is_none()).and_then(Format::of_path)
            && format != package.format()
        {
            return Err(Error::new(Kind::Usage, format!("{package} is not for what the output's name says"))
                .about("package")
                .expected(package.format())
                .found(format)
                .hint("name it otherwise, or say the format"));
        }
        if let Some(key) = given.detail() {
            return Err(Error::new(Kind::Usage, format!("{package} decides by itself what is in it"))
                .about(key)
                .hint("leave it out"));
        }
        package.with_level(given.level).map(Some)
    }

    /// The format of the container of an output that is not packed: what is said, or else the suffix of the name, or else
    /// `other`.
    ///
    /// # Errors
    /// [`Kind::Usage`] where nothing tells the format, [`Kind::Output`] for a folder.
    pub fn format(&self, path: Option<&Path>, other: Option<Format>) -> Result<Format> {
        let packed = path.filter(|path| !is_device(path) && self.settings.format.is_some());
        if let (Some(path), Some(package)) = (packed, packed.and_then(Package::of_path)) {
            let what = format!("the output's name says {package}, and nothing is packed here");
            return Err(Error::new(Kind::Usage, what).at(path).hint("name it otherwise"));
        }
        self.named(path, other, false)
    }

    /// As [`Self::format`]. `packs` says whether the output may be packed.
    fn named(&self, path: Option<&Path>, other: Option<Format>, packs: bool) -> Result<Format> {
        // Without a name there is no suffix to tell otherwise, and a device holds a raw disk.
        let named = match path {
            Some(path) if is_device(path) => Some(Format::Raw),
            Some(path) => Format::of_path(path),
            None => Some(other.unwrap_or_default()),
        };
        match (self.settings.format.or(named).or(other), path) {
            (Some(format), _) => Ok(format),
            (None, Some(path)) if path.is_dir() => Err(Error::new(Kind::Output, "the output is not a file")
                .at(path)
                .expected("the name of a file")
                .found("a folder")
                .hint("add the name that the image shall have in it")),
            (None, Some(path)) => {
                let error = Error::new(Kind::Usage, "the name of the output does not tell its format")
                    .at(path)
                    .expected(match packs {
                        true => format!("{}; or packed: {}", Format::list(), Package::suffixes()),
                        false => Format::list(),
                    });
                let (text, key) = instead_of(path, packs);
                Err(match key {
                    Some(key) => error.remedy(key, text),
                    None => error.hint(text),
                })
            }
            (None, None) => Ok(Format::default()),
        }
    }

    /// The files that appear beside it.
    fn extra(&self, path: Option<&Path>, format: Format, package: Option<Package>) -> Result<Extra> {
        let Self { bmap, sha256, split, .. } = *self;
        let refuse = |key, what: &str| Err(Error::new(Kind::Usage, what.to_owned()).about(key));
        let said = [("bmap", bmap), ("sha256", sha256), ("split", split.is_some())];
        if let Some((key, _)) = said.into_iter().find(|(_, given)| *given) {
            match path {
                None => {
                    return refuse(key, "there is no file on standard output that others could stand beside");
                }
                Some(path) if is_device(path) => return Err(alone(path).about(key)),
                Some(_) => {}
            }
        }
        if split == Some(Bytes::ZERO) {
            return refuse("split", "parts of no bytes hold nothing");
        }
        let raw = format == Format::Raw && matches!(package, None | Some(Package::Compressed(_)));
        if bmap && !raw {
            return refuse("bmap", "a bmap file is about the blocks of a raw disk");
        }
        Ok(Extra { bmap, sha256, split })
    }
}

/// Fits a disk to the block device `path`: one with a table and without a given size becomes as long as the device, so that
/// the backup of a GPT is at the end of it.
///
/// # Errors
/// [`Kind::Output`] for a device that is in use; [`Kind::Usage`] for sectors of another size than the disk has.
pub fn fit(description: &mut Description, path: &Path) -> Result<()> {
    let output = crate::pour::output::Output::open(path)?;
    let Some((length, sector)) = output.device() else { return Ok(()) };
    let disk = &mut description.disk;
    if disk.scheme == Scheme::None {
        return Ok(());
    }
    let size = disk.size.unwrap_or(length.round_down(sector));
    let sizes = (size, disk.sector_size.into());
    let told = on_device(disk.scheme, sizes, (length, sector), disk.array.backup)
        .map_err(|error| description.locator.locate(error.about("sector_size").on(Subject::Disk).at(path)))?;
    disk.size = Some(size);
    description.warnings.extend(told);
    Ok(())
}

/// What to do if the suffix of an output belongs to no known format, and by which option. `packs` says whether this command
/// packs its output.
fn instead_of(path: &Path, packs: bool) -> (&'static str, Option<&'static str>) {
    let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default().to_ascii_lowercase();
    let stem = path.file_stem().map(Path::new).unwrap_or(Path::new(""));
    let packed = PACKED.contains(&suffix.as_str());
    if packed && Format::of_path(stem).is_some_and(|format| format != Format::Raw) {
        let text = "write the image without this suffix, and compress that file; a qcow2 compresses itself";
        return (text, Some("compress"));
    }
    let text = match suffix.as_str() {
        _ if packed && !packs => "write a raw image, FILE.img, and pack that",
        "ova" | "ovf" if !packs => "write a VMDK, or have the commands that build disks write an OVA",
        "zst" | "zstd" => "say what is compressed: FILE.raw.zst",
        "gz" => "say what is compressed: FILE.raw.gz",
        "xz" => "say what is compressed: FILE.raw.xz",
        "tar" | "tgz" => {
            "for Google's cloud, name it FILE.tar.gz; otherwise FILE.raw.zst, FILE.raw.xz or FILE.raw.gz"
        }
        "lz4" | "bz2" | "lzma" | "lzo" | "lz" | "br" | "z" => {
            "this packs by zstd, xz or gzip: FILE.raw.zst, FILE.raw.xz or FILE.raw.gz; or pack a FILE.img by another program"
        }
        "dmg" | "zip" | "7z" => "write a raw image, FILE.img, and pack that",
        "qcow" => "the format is called qcow2: FILE.qcow2",
        "qed" | "parallels" | "hdd" | "bochs" | "cloop" => {
            "this format is not written; write a qcow2, FILE.qcow2, and convert that (qemu-img convert)"
        }
        "wim" | "esd" | "cab" => "this writes disks and no archives of Windows: FILE.vhdx",
        other if unwritten(other).is_some() => {
            "this filesystem is not written; a partition takes the file that its own mkfs made"
        }
        "ovf" => "the description and the disk go into one file: FILE.ova",
        "iso" => {
            "this writes disks and no ISO 9660; firmware boots a raw disk from a USB stick too: FILE.img"
        }
        _ => return ("name it otherwise, or say the format, such as raw", Some("format")),
    };
    (text, None)
}

/// Suffixes of what is packed.
const PACKED: [&str; 15] =
    ["zst", "zstd", "gz", "xz", "bz2", "zip", "7z", "lz4", "lzma", "lzo", "lz", "br", "z", "tar", "tgz"];
