//! What `build` and `mkfs` share: how the work is done, where its result goes, and what is reported.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bar::Bar;
use super::signals::watch;
use super::standard::standard_output;
use super::{Severity, complain};
use crate::container::{self, Format, Settings};
use crate::disk::{Body, Built, Extra, Partition, Payload, Work};
use crate::error::{Error, Kind, Result, Subject};
use crate::filesystem::Spec;
use crate::front::{self, Description, Finished, boot_disk};
use crate::host::kind_of;
use crate::image::dump::dump;
use crate::nix::verify::Expected;
use crate::nix::{Closure, STORE};
use crate::package::Package;
use crate::pour::output::Output;
use crate::units::Bytes;

/// Arguments of every command that writes an image.
#[derive(Debug, clap::Args)]
pub(super) struct Container {
    #[command(flatten)]
    pub(super) settings: Settings,
}

impl Container {
    /// The container that these arguments and, where they say nothing, the keys of a manifest ask for. Keys that were
    /// written for another format than that of the output say nothing, and a warning tells of them.
    pub(super) fn with(&self, format: Format, description: &Description) -> Result<container::Container> {
        let written = &description.settings;
        let theirs = match written.format {
            Some(other) if other != format => {
                if (Settings { format: None, ..written.clone() }) != Settings::default() {
                    let text = format!(
                        "the output is {format}: what the description says of the file as {other}, such as its subformat, is left \
                         out"
                    );
                    complain(Severity::Warning, &text);
                }
                &Settings::default()
            }
            _ => written,
        };
        let own = &self.settings;
        let settings = Settings {
            format: Some(format),
            subformat: own.subformat.or(theirs.subformat),
            compress: own.compress.or(theirs.compress),
            level: own.level.or(theirs.level),
            cluster_size: own.cluster_size.or(theirs.cluster_size),
        };
        container::Container::new(format, &settings).map_err(|error| {
            let flag = match error.key() {
                Some("subformat") => own.subformat.is_some(),
                Some("compress") => own.compress.is_some(),
                Some("level") => own.level.is_some(),
                Some("cluster_size") => own.cluster_size.is_some(),
                _ => true,
            };
            if flag { error } else { description.locator.locate(error.on(Subject::Disk)) }
        })
    }

    /// The container that these arguments ask for.
    pub(super) fn options(&self, format: Format) -> Result<container::Container> {
        container::Container::new(format, &self.settings)
    }

    /// The format of the output: what the flag says, or else the suffix of its name, or else `other`.
    pub(super) fn format(&self, target: Option<&Target>, other: Option<Format>) -> Result<Format> {
        if let Some(Target::File(path)) = target {
            check_output(path)?;
        }
        let named = match target {
            Some(Target::File(path)) => Format::of_path(path),
            // There is no suffix to tell otherwise.
            Some(Target::Stdout) | None => Some(other.unwrap_or_default()),
        };
        match (self.settings.format.or(named).or(other), target) {
            (Some(format), _) => Ok(format),
            (None, Some(Target::File(path))) if path.is_dir() => {
                Err(Error::new(Kind::Output, "the output is not a file")
                    .at(path)
                    .expected("the name of a file")
                    .found("a folder")
                    .hint("add the name that the image shall have in it"))
            }
            (None, Some(Target::File(path))) => {
                Err(Error::new(Kind::Usage, "the name of the output does not tell its format")
                    .at(path)
                    .expected(Format::list())
                    .hint(instead_of(path)))
            }
            (None, _) => Ok(Format::default()),
        }
    }
}

/// Refuses an output that is there and is no file: standard output by the name of its device, a pipe, a disk.
fn check_output(path: &Path) -> Result<()> {
    super::check_path(path)?;
    let kind = match path.metadata() {
        Ok(meta) if !meta.is_file() && !meta.is_dir() => kind_of(meta.file_type()),
        _ => return Ok(()),
    };
    let open = path == Path::new("/dev/stdout") || path.starts_with("/dev/fd") || path.starts_with("/proc");
    let hint = "write `-` in its place: the raw image then goes to standard output";
    Err(Error::new(Kind::Output, "the output is not a file")
        .at(path)
        .expected("the name of a file, or `-`")
        .found(kind)
        .hint(if open {
            hint.to_owned()
        } else {
            format!("{hint}, which `> {}` sends there", crate::text::printable_path(path))
        }))
}

/// What to do if the suffix of an output belongs to no known format.
fn instead_of(path: &Path) -> &'static str {
    let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default().to_ascii_lowercase();
    let stem = path.file_stem().map(Path::new).unwrap_or(Path::new(""));
    let packed = ["zst", "zstd", "gz", "xz", "bz2", "zip", "7z", "lz4"].contains(&suffix.as_str());
    if packed && Format::of_path(stem).is_some_and(|format| format != Format::Raw) {
        return "write the image without this suffix, and compress that file; a qcow2 compresses itself: --compress zstd";
    }
    match suffix.as_str() {
        "tar" | "tgz" => {
            "for Google's cloud, name it FILE.tar.gz; otherwise FILE.raw.zst, FILE.raw.xz or FILE.raw.gz"
        }
        "qcow" => "the format is called qcow2: -o FILE.qcow2",
        "dmg" | "zip" | "7z" => "write a raw image, -o FILE.img, and pack that",
        "zst" | "zstd" => "say what is compressed: -o FILE.raw.zst",
        "gz" => "say what is compressed: -o FILE.raw.gz",
        "xz" => "say what is compressed: -o FILE.raw.xz",
        "bz2" => "write the raw image to standard output and compress it: -o - | bzip2 > FILE",
        "ovf" => "the description and the disk go into one file: -o FILE.ova",
        "iso" => {
            "this writes disks and no ISO 9660; firmware boots a raw disk from a USB stick too: -o FILE.img"
        }
        _ => "name it otherwise, or add --format raw",
    }
}

/// Arguments of every command that makes an image of files.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    #[command(flatten)]
    pub(super) container: Container,
    /// What the disk is packed into: gzip, xz or zstd (raw, compressed on all cores), gce, ova or android-sparse [default:
    /// what OUT ends with: .raw.gz .raw.xz .raw.zst, the same with .img, .tar.gz, .ova, .simg]
    #[arg(long, value_name = "PACKAGE")]
    package: Option<Package>,
    /// Write OUT.bmap too, by which bmaptool writes the image to a device
    #[arg(long)]
    bmap: bool,
    /// Write OUT.sha256 too
    #[arg(long)]
    sha256: bool,
    /// Cut the output into OUT.000, OUT.001 and so on, of at most this size each
    #[arg(long, value_name = "SIZE")]
    split: Option<Bytes>,
    #[command(flatten)]
    pub(super) jobs: Jobs,
    /// Write nothing; print what would be built
    #[arg(long)]
    pub(super) dry_run: bool,
    /// With --dry-run, print a map instead: a line for each run of bytes and each hole of the disk
    #[arg(long, requires = "dry_run", conflicts_with = "json")]
    map: bool,
    /// Print what was built as JSON, all sizes in bytes [default: as a table for people]
    #[arg(long)]
    pub(super) json: bool,
}

/// Whether store paths are checked.
#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    /// Compute the NAR hash of every store path from what was written, and compare it with what Nix has registered
    #[arg(long)]
    verify_closure: bool,
}

impl Verify {
    /// The store paths to compare, where that was asked for: those of a NixOS system, or of all closures of the manifest
    /// that say more than names.
    pub(super) fn expected(&self, description: &Description) -> Result<Option<Expected>> {
        if !self.verify_closure {
            return Ok(None);
        }
        let in_pool = |partition: &Partition| matches!(partition.body, Body::Filesystem(Spec::Zfs(_), _));
        if description.disk.partitions.iter().any(in_pool) {
            return Err(Error::new(Kind::Usage, "--verify-closure does not read ZFS pools")
                .hint("every block of a pool has a checksum, which `zpool scrub` compares"));
        }
        if description.closure.is_some() {
            return Ok(description.closure.clone());
        }
        let mut expected: Option<Expected> = None;
        let entries = description.disk.partitions.iter().flat_map(Partition::entries);
        for (path, target) in entries.filter_map(|entry| match &entry.payload {
            Payload::Closure { path, .. } => Some((path, &entry.target)),
            _ => None,
        }) {
            let closure = Closure::load(path)?;
            let store = format!("{}{STORE}", target.trim_end_matches('/')).into_bytes();
            expected = Some(match expected {
                None => Expected { closure: Arc::new(closure), store },
                Some(other) if other.store == store => {
                    let mut merged = (*other.closure).clone();
                    merged.merge(closure)?;
                    Expected { closure: Arc::new(merged), store }
                }
                Some(_) => {
                    return Err(Error::new(Kind::Usage, "--verify-closure is for closures of one store")
                        .at(path)
                        .expected("one target for all closures"));
                }
            });
        }
        match expected {
            Some(expected) => Ok(Some(expected)),
            None => Err(Error::new(Kind::Usage, "--verify-closure has no closure to verify")
                .expected("a [nixos] section, or a closure among the contents")),
        }
    }
}

/// Where the result goes.
#[derive(Debug)]
pub(super) enum Target {
    /// Standard output.
    Stdout,
    /// A file.
    File(PathBuf),
}

impl Target {
    /// The target that `-o` names.
    pub(super) fn of(out: PathBuf) -> Self {
        if out.as_os_str() == "-" { Self::Stdout } else { Self::File(out) }
    }
}

impl Common {
    /// How the library works.
    pub(super) fn work(&self) -> Work {
        Work { jobs: self.jobs.count(), ..Work::default() }
    }

    /// The package of the output: what the flag says, or else the end of its name.
    fn package(&self, target: Option<&Target>) -> Result<Option<Package>> {
        let given = &self.container.settings;
        let named = match target {
            Some(Target::File(path)) if given.format.is_none() => Package::of_path(path),
            _ => None,
        };
        let Some(package) = self.package.or(named) else { return Ok(None) };
        if let Some(Target::File(path)) = target {
            check_output(path)?;
        }
        if let Some(format) = given.format.filter(|format| *format != package.format()) {
            let own = format == Format::Qcow2;
            return Err(Error::new(Kind::Usage, format!("{package} is not for this format"))
                .at_flag("--package")
                .expected(package.format())
                .found(format)
                .or_hint(own.then_some("a qcow2 compresses itself: --compress zstd")));
        }
        for (flag, there) in [
            ("--subformat", given.subformat.is_some()),
            ("--compress", given.compress.is_some()),
            ("--cluster-size", given.cluster_size.is_some()),
        ] {
            if there {
                return Err(Error::new(Kind::Usage, format!("{package} decides by itself what is in it"))
                    .at_flag(flag)
                    .hint("leave it out"));
            }
        }
        package.with_level(given.level).map(Some)
    }

    /// The files that appear beside an output.
    fn extra(&self, target: Option<&Target>, format: Format, package: Option<Package>) -> Result<Extra> {
        let extra = Extra { bmap: self.bmap, sha256: self.sha256, split: self.split };
        let refuse = |flag: &str, what: &str| Err(Error::new(Kind::Usage, what.to_owned()).at_flag(flag));
        let flags = [("--bmap", self.bmap), ("--sha256", self.sha256), ("--split", self.split.is_some())];
        if let (Some(Target::Stdout), Some((flag, _))) = (target, flags.into_iter().find(|(_, given)| *given))
        {
            return refuse(flag, "there is no file on standard output that others could stand beside");
        }
        if self.split == Some(Bytes::ZERO) {
            return refuse("--split", "parts of no bytes hold nothing");
        }
        let raw = format == Format::Raw && matches!(package, None | Some(Package::Compressed(_)));
        if self.bmap && !raw {
            return refuse("--bmap", "a bmap file is about the blocks of a raw disk");
        }
        Ok(extra)
    }

    /// Refuses arguments that do not fit together, before any work.
    pub(super) fn check(&self, target: Option<&Target>) -> Result<()> {
        if self.dry_run || !matches!(target, Some(Target::Stdout)) {
            return Ok(());
        }
        if self.json {
            return Err(Error::new(
                Kind::Usage,
                "the image and the report cannot both go to standard output",
            )
            .hint("write the image to a file, or leave --json out"));
        }
        if std::io::stdout().is_terminal() {
            return Err(Error::new(Kind::Usage, "an image is not written to a terminal")
                .hint("send standard output into a file or a pipe"));
        }
        Ok(())
    }

    /// Builds the disk that `description` describes, whose relative paths begin at `folder`, and writes it to `target`.
    pub(super) fn run(
        &self,
        description: &Description,
        folder: Option<&Path>,
        target: Option<&Target>,
        work: &Work,
    ) -> Result<()> {
        let package = self.package(target)?;
        let container = match package {
            Some(package) => package.container()?,
            None => {
                let format = self.container.format(target, description.settings.format)?;
                self.container.with(format, description)?
            }
        };
        let extra = self.extra(target, container.format(), package)?;
        let mut work = Work { container, package, extra, ..work.clone() };
        if let (false, Some(Target::File(path))) = (self.dry_run, target) {
            // An output that cannot be is told before the work and not after it.
            let output = Output::create(path)?;
            work.spool = output.target().parent().map(Path::to_owned);
        }
        let work = &work;
        watch(&work.progress.stop_flag())?;
        let bar = Bar::start(&work.progress);
        let mut built = description.build(work)?;
        // No store path lies on the disk that boots.
        let boot = description
            .boot
            .as_deref()
            .map(|boot| boot.build(&Work { verify: None, ..work.clone() }))
            .transpose()?;
        if self.dry_run {
            built.settle(work)?;
            drop(bar);
            return [&built].into_iter().chain(&boot).try_for_each(|built| {
                warn(built);
                self.show(folder, built)
            });
        }
        match target {
            None => Err(Error::new(Kind::Usage, "there is no output").hint("add -o OUT")),
            Some(Target::File(path)) => {
                let mut disks = vec![Finished { description, built: &built, path }];
                let other = boot_disk(path);
                if let (Some(description), Some(built)) = (description.boot.as_deref(), &boot) {
                    disks.push(Finished { description, built, path: &other });
                }
                front::write(&disks, work)
            }
            Some(Target::Stdout) => {
                let mut out = standard_output(&work.progress)?;
                let done = description.stream(&built, &mut out, work);
                // Of a write that was given up the signal is the cause.
                done.or_else(|error| work.progress.check().and(Err(error)))
            }
        }?;
        built.settle(work)?;
        drop(bar);
        [&built].into_iter().chain(&boot).for_each(warn);
        let Some(Target::File(path)) = target else { return Ok(()) };
        let format = work.package.map_or(work.container.format().to_string(), |package| package.to_string());
        self.report(&built, path, &format)?;
        boot.map_or(Ok(()), |boot| self.report(&boot, &boot_disk(path), &format))
    }

    /// Prints what would be built: the report, or the map.
    fn show(&self, folder: Option<&Path>, built: &Built) -> Result<()> {
        if self.json {
            return super::print(built.report.json(None).as_bytes());
        }
        if !self.map {
            return super::print(built.report.text().as_bytes());
        }
        let root = folder.and_then(|folder| folder.canonicalize().ok());
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        let written = dump(&built.image, root.as_deref(), &mut out)
            .and_then(|()| out.flush().map_err(crate::pour::write_error));
        // The rest in the buffer has no reader either.
        let _ = out.into_parts();
        super::unless_nobody_reads(written)
    }

    /// What was built.
    fn report(&self, built: &Built, path: &Path, format: &str) -> Result<()> {
        let shown = crate::text::printable_path(path);
        let text = if self.json {
            built.report.json(Some((&shown, format)))
        } else {
            format!("{shown}: {format}, {}", built.report.text())
        };
        super::print(text.as_bytes())
    }
}

fn warn(built: &Built) {
    for warning in &built.report.warnings {
        complain(Severity::Warning, warning);
    }
}

/// The number of threads.
#[derive(Debug, clap::Args)]
pub(super) struct Jobs {
    /// Number of worker threads; the result is the same with any number [default: one per core]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
}

impl Jobs {
    /// The number that was asked for, or that of the cores.
    pub(super) fn count(&self) -> usize {
        self.jobs.map_or_else(|| Work::default().jobs, usize::from)
    }
}

/// The time that SOURCE_DATE_EPOCH gives (reproducible-builds.org): seconds since 1970, in decimal.
pub(super) fn epoch() -> Result<Option<i64>> {
    let Some(value) = std::env::var_os("SOURCE_DATE_EPOCH") else { return Ok(None) };
    let text =
        value.to_str().filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    match text.and_then(|text| text.parse().ok()) {
        Some(seconds) => Ok(Some(seconds)),
        None => Err(Error::new(Kind::Usage, "SOURCE_DATE_EPOCH is not a time")
            .expected("seconds since 1970, in decimal")
            .found(crate::text::printable_path(&value))),
    }
}
