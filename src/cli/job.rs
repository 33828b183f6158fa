//! What `build` and `mkfs` share: how the work is done, where its result goes, and what is reported.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bar::Bar;
use super::signals::watch;
use super::standard::standard_output;
use super::{Severity, complain};
use crate::container::{self, Format, Settings, Subformat};
use crate::disk::{Body, Built, Form, Partition, Payload, Work};
use crate::error::{Error, Kind, Result, Subject};
use crate::filesystem::Spec;
use crate::front::output::{Output, Wanted};
use crate::front::{self, Description, Finished, boot_disk};
use crate::host::kind_of;
use crate::image::dump::dump;
use crate::nix::verify::Expected;
use crate::nix::{Closure, STORE};
use crate::package::Package;
use crate::pour::output;
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
            qcow2_compat: own.qcow2_compat.or(theirs.qcow2_compat),
            adapter: own.adapter.or(theirs.adapter),
            hardware_version: own.hardware_version.or(theirs.hardware_version),
        };
        container::Container::new(format, &settings).map_err(|error| {
            let flag = match error.key() {
                Some("subformat") => own.subformat.is_some(),
                Some("compress") => own.compress.is_some(),
                Some("level") => own.level.is_some(),
                Some("cluster_size") => own.cluster_size.is_some(),
                Some("qcow2_compat") => own.qcow2_compat.is_some(),
                Some("adapter") => own.adapter.is_some(),
                Some("hardware_version") => own.hardware_version.is_some(),
                _ => true,
            };
            if flag { error } else { description.locator.locate(error.on(Subject::Disk)) }
        })
    }

    /// The container that these arguments ask for.
    pub(super) fn options(&self, format: Format) -> Result<container::Container> {
        container::Container::new(format, &self.settings)
    }
}

impl Container {
    /// Whether an output of this name could go to standard output in its place: it is written from its first byte to its
    /// last.
    fn streams(&self, path: &Path) -> bool {
        match self.settings.format.or(Format::of_path(path)) {
            None | Some(Format::Raw) => true,
            Some(Format::Vmdk) => self.settings.subformat == Some(Subformat::StreamOptimized),
            Some(_) => false,
        }
    }

    /// The format of the file `path`, which cannot be standard output.
    pub(super) fn format_of_file(&self, path: &Path) -> Result<Format> {
        check_output(path, false)?;
        self.named(Some(path), None)
    }

    /// The format of the output: what the flag says, or else the suffix of its name, or else `other`.
    pub(super) fn format(&self, target: Option<&Target>, other: Option<Format>) -> Result<Format> {
        let path = target.and_then(Target::path);
        let file = path.filter(|path| !output::is_device(path));
        file.map_or(Ok(()), |path| check_output(path, self.streams(path)))?;
        self.named(path, other)
    }

    fn named(&self, path: Option<&Path>, other: Option<Format>) -> Result<Format> {
        Wanted { settings: self.settings.clone(), ..Wanted::default() }.format(path, other)
    }
}

/// Refuses an output that is there and is no file: standard output by the name of its device, a pipe, a disk. `streams` says
/// whether `-` would do.
fn check_output(path: &Path, streams: bool) -> Result<()> {
    super::check_path(path)?;
    let kind = match path.metadata() {
        Ok(meta) if !meta.is_file() && !meta.is_dir() => kind_of(meta.file_type()),
        _ => return Ok(()),
    };
    let error = Error::new(Kind::Output, "the output is not a file").at(path).found(kind);
    if !streams {
        return Err(error.expected("the name of a file"));
    }
    let open = path == Path::new("/dev/stdout") || path.starts_with("/dev/fd") || path.starts_with("/proc");
    let hint = "write `-` in its place: the image then goes to standard output";
    Err(error.expected("the name of a file, or `-`").hint(if open {
        hint.to_owned()
    } else {
        format!("{hint}, which `> {}` sends there", crate::text::printable_path(path))
    }))
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
    /// Make the disk a multiple of this in length, such as 1GiB
    #[arg(long, value_name = "SIZE")]
    size_multiple: Option<Bytes>,
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
        let scattered = |partition: &Partition| match &partition.body {
            Body::Filesystem(Spec::Zfs(options), _) => {
                let in_volume =
                    |at: &str| Path::new(STORE).starts_with(at) || Path::new(at).starts_with(STORE);
                let mut volumes = options.datasets.values().filter(|own| own.filesystem.is_some());
                options.vdevs.is_some()
                    || !options.keys.is_empty()
                    || volumes.any(|own| own.mount.as_deref().is_some_and(in_volume))
            }
            _ => false,
        };
        if description.disk.partitions.iter().any(scattered) {
            return Err(Error::new(
                Kind::Usage,
                "--verify-closure does not read ZFS pools on several disks, encrypted ones, and filesystems in volumes",
            )
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

    /// The name of the file.
    fn path(&self) -> Option<&Path> {
        match self {
            Self::Stdout => None,
            Self::File(path) => Some(path),
        }
    }
}

impl Common {
    /// How the library works.
    pub(super) fn work(&self) -> Work {
        Work { jobs: self.jobs.count(), ..Work::default() }
    }

    /// What the flags say of every output.
    fn wanted(&self) -> Wanted {
        Wanted {
            settings: self.container.settings.clone(),
            package: self.package,
            bmap: self.bmap,
            sha256: self.sha256,
            split: self.split,
            size_multiple: self.size_multiple,
        }
    }

    /// What the disk becomes in each file that is named, or on standard output, or without any name.
    fn forms(&self, description: &Description, targets: &[Target]) -> Result<Vec<Output>> {
        let mut wanted = self.wanted();
        let form = |wanted: &Wanted, path: Option<&Path>| {
            let other = description.settings.format;
            wanted.form(path, other, |format| self.container.with(format, description))
        };
        let several = targets.len() > 1;
        if several && wanted.settings.format.is_some() {
            return Err(Error::new(Kind::Usage, "the names of several outputs decide about their formats")
                .about("format")
                .hint("leave it out, or write [[output]] with `format` in a manifest"));
        }
        let files = targets.iter().map(|target| match target {
            Target::Stdout if several => {
                Err(Error::new(Kind::Usage, "standard output is no file that appears together with others")
                    .hint("leave out `-o -`, or write only there"))
            }
            Target::Stdout => Ok(Output { path: PathBuf::new(), form: form(&wanted, None)? }),
            Target::File(path) => {
                if !output::is_device(path) {
                    check_output(path, !several && self.container.streams(path))?;
                }
                // Only outputs that are a raw disk have a bmap file.
                let own = Wanted { bmap: false, ..wanted.clone() };
                let form = match form(&wanted, Some(path)) {
                    Err(error) if several && error.key() == Some("bmap") => form(&own, Some(path))?,
                    form => form?,
                };
                Ok(Output { path: path.clone(), form })
            }
        });
        let files = files.collect::<Result<Vec<_>>>()?;
        if self.bmap && several && !files.iter().any(|file| file.form.extra.bmap) {
            return Err(
                Error::new(Kind::Usage, "no output is a raw disk, which a bmap file is about").about("bmap")
            );
        }
        if !files.is_empty() {
            return Ok(files);
        }
        // Nothing is written, so nothing stands beside it.
        (wanted.bmap, wanted.sha256, wanted.split) = (false, false, None);
        Ok(vec![Output { path: PathBuf::new(), form: form(&wanted, None)? }])
    }

    /// What a server shows of the disk: the file that these arguments would write to `outputs`. Where they say nothing of its
    /// format, `outer` decides, and the disk itself is shown where that says nothing either.
    pub(super) fn served(
        &self,
        description: &Description,
        outputs: &[PathBuf],
        outer: &Container,
    ) -> Result<Form> {
        let refuse = |what: &str, hint: &str| Err(Error::new(Kind::Usage, what.to_owned()).hint(hint));
        let own = self.package.is_some() || self.container.settings != Settings::default();
        if own && outer.settings != Settings::default() {
            return refuse(
                "the command that is served says a format too",
                "say it once, before -- or after it",
            );
        }
        if self.bmap || self.sha256 || self.split.is_some() {
            let what = "nothing is written, so that nothing can stand beside it";
            return refuse(what, "leave out --bmap, --sha256 and --split");
        }
        let file = match outputs {
            [] => None,
            [one] => Some(one.as_path()).filter(|path| path.as_os_str() != "-" && !path.is_dir()),
            _ => return refuse("a disk is served as one file", "name one output, or none"),
        };
        let container = if own { &self.container } else { outer };
        let wanted = Wanted {
            settings: container.settings.clone(),
            package: self.package,
            size_multiple: self.size_multiple,
            ..Wanted::default()
        };
        let other = file.and(description.settings.format);
        let form = wanted.form(file, other, |format| container.with(format, description))?;
        match form.package {
            None => Ok(form),
            Some(package) => refuse(
                &format!("{package} is laid out while it is written, so that it cannot be served"),
                "serve the disk itself, or in a format without compression, such as qcow2",
            ),
        }
    }

    /// Fits a disk without a given size to the device that it goes to.
    pub(super) fn fit(&self, description: &mut Description, targets: &[Target]) -> Result<()> {
        match targets {
            [Target::File(path)] if !self.dry_run && output::is_device(path) => {
                front::output::fit(description, path)
            }
            _ => Ok(()),
        }
    }

    /// Refuses what is said of outputs by flags, where the manifest says it.
    pub(super) fn leave_outputs(&self) -> Result<()> {
        let said = &self.container.settings;
        let flags = [
            ("format", said.format.is_some()),
            ("package", self.package.is_some()),
            ("level", said.level.is_some()),
            ("bmap", self.bmap),
            ("sha256", self.sha256),
            ("split", self.split.is_some()),
            ("size_multiple", self.size_multiple.is_some()),
        ];
        let given = flags.into_iter().find(|(_, given)| *given).map(|(key, _)| key).or(said.detail());
        given.map_or(Ok(()), |key| {
            Err(Error::new(Kind::Usage, "the manifest names its outputs and says what each is")
                .about(key)
                .hint("write it there, or name another output by -o"))
        })
    }

    /// Refuses arguments that do not fit together, before any work.
    pub(super) fn check(&self, targets: &[Target]) -> Result<()> {
        if self.dry_run || !matches!(targets, [Target::Stdout]) {
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

    /// Builds the disk that `description` describes, whose relative paths begin at `folder`, and writes it to `targets`.
    pub(super) fn run(
        &self,
        description: &Description,
        folder: Option<&Path>,
        targets: &[Target],
        work: &Work,
    ) -> Result<()> {
        let outputs = self.forms(description, targets)?;
        let goal = match targets {
            [] => Goal::Nothing,
            [Target::Stdout] => Goal::Stream,
            _ => Goal::Files,
        };
        self.write(description, folder, &outputs, goal, work)
    }

    /// As [`Common::run`], for outputs that are decided.
    pub(super) fn write(
        &self,
        description: &Description,
        folder: Option<&Path>,
        outputs: &[Output],
        goal: Goal,
        work: &Work,
    ) -> Result<()> {
        let forms: Vec<Form> = outputs.iter().map(|output| output.form.clone()).collect();
        let mut work = work.clone().of_forms(&forms);
        if !self.dry_run && goal == Goal::Files {
            // An output that cannot be is told before the work and not after it.
            for path in outputs.iter().rev().map(|output| &output.path) {
                let output = output::Output::open(path)?;
                // Beside a device there is no space for anything.
                let folder = output.target().parent().filter(|_| output.device().is_none());
                work.spool = folder.map(Path::to_owned);
            }
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
        match goal {
            Goal::Nothing => Err(Error::new(Kind::Usage, "there is no output").hint("add -o OUT")),
            Goal::Files => write_all(description, &built, boot.as_ref(), outputs, work),
            Goal::Stream => {
                let mut out = standard_output(&work.progress)?;
                let done = description.stream(&built, &mut out, work);
                // If a write was given up, the signal is the cause.
                done.or_else(|error| work.progress.check().and(Err(error)))
            }
        }?;
        built.settle(work)?;
        drop(bar);
        [&built].into_iter().chain(&boot).for_each(warn);
        if goal != Goal::Files {
            return Ok(());
        }
        self.report(&built, outputs)?;
        let beside = |output: &Output| Output { path: boot_disk(&output.path), ..output.clone() };
        boot.map_or(Ok(()), |boot| self.report(&boot, &outputs.iter().map(beside).collect::<Vec<_>>()))
    }

    /// Prints what would be built: the report, or the map.
    fn show(&self, folder: Option<&Path>, built: &Built) -> Result<()> {
        if self.json {
            return super::print(built.report.json(&[])?.as_bytes());
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
    fn report(&self, built: &Built, outputs: &[Output]) -> Result<()> {
        let named = |output: &Output| {
            let Form { container, package, .. } = &output.form;
            let format = package.map_or(container.format().to_string(), |package| package.to_string());
            (crate::text::printable_path(&output.path), format)
        };
        let mut files: Vec<(String, String)> = outputs.iter().map(named).collect();
        let text = if self.json {
            built.report.json(&files)?
        } else {
            let (shown, format) = files.pop().unwrap_or_default();
            let others = files.iter().map(|(shown, format)| format!("{shown}: {format}\n"));
            format!("{}{shown}: {format}, {}", others.collect::<String>(), built.report.text())
        };
        super::print(text.as_bytes())
    }
}

/// Writes a disk, and the one that boots it, to all outputs.
fn write_all(
    description: &Description,
    built: &Built,
    boot: Option<&Built>,
    outputs: &[Output],
    work: &Work,
) -> Result<()> {
    let others: Vec<PathBuf> = outputs.iter().map(|output| boot_disk(&output.path)).collect();
    let mut disks = Vec::new();
    for (Output { path, form }, other) in outputs.iter().zip(&others) {
        disks.push(Finished { description, built, path, form: form.clone() });
        if let (Some(description), Some(built)) = (description.boot.as_deref(), boot) {
            disks.push(Finished { description, built, path: other, form: form.clone() });
        }
    }
    front::write(&disks, work)
}

/// What is done with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// It is laid out only.
    Nothing,
    /// It goes to standard output.
    Stream,
    /// It goes to files.
    Files,
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
