//! What `build` and `mkfs` share: how the work is done, where its result goes, and what is said about it.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};

use super::bar::Bar;
use super::standard::standard_output;
use super::{Severity, complain};
use crate::container::{self, Format, Settings};
use crate::disk::{self, Built, Options};
use crate::error::{Error, Kind, Result};
use crate::front::manifest::Manifest;
use crate::front::manifest::resolve::{Body, Disk, What};
use crate::image::dump::dump;
use crate::nix::verify::Expected;
use crate::nix::{Closure, STORE};
use crate::pour::output::Output;

/// Arguments of every command that writes an image.
#[derive(Debug, clap::Args)]
pub(super) struct Container {
    #[command(flatten)]
    pub(super) settings: Settings,
}

impl Container {
    /// The container that these arguments ask for.
    pub(super) fn options(&self, format: Format) -> Result<container::Container> {
        container::Container::new(format, &self.settings)
    }

    /// The format of the output: what the flag says, or else the suffix of its name, or else `other`.
    pub(super) fn format(&self, target: Option<&Target>, other: Option<Format>) -> Result<Format> {
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
                    .hint("name it otherwise, or add --format raw"))
            }
            (None, _) => Ok(Format::default()),
        }
    }
}

/// Arguments of every command that makes an image of files.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    #[command(flatten)]
    pub(super) container: Container,
    #[command(flatten)]
    pub(super) jobs: Jobs,
    /// Write nothing; print the layout as a text map instead, or with --json what would be built
    #[arg(long)]
    pub(super) dry_run: bool,
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
    pub(super) fn expected(&self, disk: &Disk) -> Result<Option<Expected>> {
        if !self.verify_closure {
            return Ok(None);
        }
        if disk.closure.is_some() {
            return Ok(disk.closure.clone());
        }
        let mut expected: Option<Expected> = None;
        let entries = disk.partitions.iter().filter_map(|partition| match &partition.body {
            Body::Filesystem(_, entries) => Some(entries),
            _ => None,
        });
        for (path, target) in entries.flatten().filter_map(|entry| match &entry.what {
            What::Closure { path, .. } => Some((path, &entry.target)),
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
    /// What `-o` says, if it was given.
    pub(super) fn of(out: PathBuf) -> Self {
        if out.as_os_str() == "-" { Self::Stdout } else { Self::File(out) }
    }
}

impl Common {
    /// How the library works.
    pub(super) fn options(&self) -> Result<Options> {
        Ok(Options { epoch: epoch()?, jobs: self.jobs.count(), ..Options::default() })
    }

    /// What does not fit together, before any work.
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

    /// Builds `disk` and writes it to `target`.
    pub(super) fn run(
        &self,
        manifest: &Manifest,
        disk: &Disk,
        target: Option<&Target>,
        options: &Options,
    ) -> Result<()> {
        let container = self.container.options(self.container.format(target, disk.format)?)?;
        let options = &Options { container, ..options.clone() };
        if let (false, Some(Target::File(path))) = (self.dry_run, target) {
            // An output that cannot be is told before the work and not after it.
            drop(Output::create(path)?);
        }
        watch_signals(&options.progress.stop_flag())?;
        let bar = Bar::start(&options.progress);
        let built = disk::build_resolved(manifest, disk, options)?;
        if self.dry_run {
            drop(bar);
            warn(&built);
            return self.show(manifest, &built);
        }
        match target {
            None => Err(Error::new(Kind::Usage, "there is no output").hint("add -o OUT")),
            Some(Target::File(path)) => built.write(path, options),
            Some(Target::Stdout) => {
                let mut out = standard_output(&options.progress)?;
                let done = built.stream(&mut out, options);
                // Of a write that was given up the signal is the cause.
                done.or_else(|error| options.progress.check().and(Err(error)))
            }
        }
        .map_err(|error| disk::place_source(manifest, disk, error))?;
        drop(bar);
        warn(&built);
        match target {
            Some(Target::File(path)) => self.report(&built, path, options.container.format()),
            _ => Ok(()),
        }
    }

    /// The text map, or the report as JSON.
    fn show(&self, manifest: &Manifest, built: &Built) -> Result<()> {
        if self.json {
            return super::print(built.report.json(None).as_bytes());
        }
        let root = manifest.folder().canonicalize().ok();
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        let written = dump(&built.image, root.as_deref(), &mut out).and_then(|()| {
            out.flush()
                .map_err(|error| Error::new(Kind::Output, "cannot write to standard output").because(error))
        });
        // What is left in the buffer has no reader either.
        let _ = out.into_parts();
        super::unless_nobody_reads(written)
    }

    /// What was built.
    fn report(&self, built: &Built, path: &Path, format: Format) -> Result<()> {
        let shown = crate::text::printable_path(path);
        let text = if self.json {
            built.report.json(Some((&shown, format.name())))
        } else {
            format!("{shown}: {format}, {}", built.report.text())
        };
        super::print(text.as_bytes())
    }
}

fn warn(built: &Built) {
    for warning in &built.warnings {
        complain(Severity::Warning, &warning.to_string());
    }
}

/// How many threads.
#[derive(Debug, clap::Args)]
pub(super) struct Jobs {
    /// Worker threads, which change no byte of the result [default: one per core]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
}

impl Jobs {
    /// As many as asked for, or as there are cores.
    pub(super) fn count(&self) -> usize {
        self.jobs.map_or_else(|| Options::default().jobs, usize::from)
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

/// Lets the first SIGINT, SIGTERM or SIGHUP set `stop`, and the second end the program at once. A signal that the parent
/// set to be ignored (nohup, a background job of a script) stays so.
pub(super) fn watch_signals(stop: &Arc<AtomicBool>) -> Result<()> {
    let ignored = ignored_signals();
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        if ignored >> (signal - 1) & 1 == 1 {
            continue;
        }
        // In this order: the second arrival finds the flag that the first one set.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(stop)))
            .map_err(unwatched)?;
    }
    // A file that grows past the limit of the process (ulimit -f) is an error of the write, which says so, and not the
    // end of the program, which says nothing.
    signal_hook::flag::register(SIGXFSZ, Arc::default()).map_err(unwatched)?;
    Ok(())
}

fn unwatched(error: std::io::Error) -> Error {
    Error::new(Kind::Output, "cannot watch for signals").because(error)
}

/// The signals that are ignored, bit 0 for signal 1, as the kernel tells them (proc(5), SigIgn); none without /proc.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
