//! What `build` and `mkfs` share: how the work is done, where its result goes, and what is said about it.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::bar::Bar;
use super::{Severity, complain};
use crate::container::{self, Format};
use crate::disk::{self, Built, Options};
use crate::error::{Error, Kind, Result};
use crate::image::PourOptions;
use crate::image::dump::dump;
use crate::manifest::Manifest;
use crate::manifest::resolve::Disk;

/// Arguments of every command that makes an image.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    /// Format of the output [default: what the suffix of OUT says; .img, .raw: raw]
    #[arg(long, value_name = "FORMAT")]
    pub(super) format: Option<Format>,
    /// Worker threads, which change no byte of the result [default: one per core]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) jobs: Option<u16>,
    /// Write nothing; print the layout as a text map instead, or with --json what would be built
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Print what was built as JSON, all sizes in bytes [default: as a table for people]
    #[arg(long)]
    pub(super) json: bool,
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
    /// The format of the output: what a flag says, or else the suffix of its name, or else the manifest.
    pub(super) fn format(&self, target: Option<&Target>, manifest: Option<Format>) -> Result<Format> {
        let named = match target {
            Some(Target::File(path)) => Format::of_path(path),
            // There is no suffix to tell otherwise.
            Some(Target::Stdout) | None => Some(manifest.unwrap_or_default()),
        };
        match (self.format.or(named).or(manifest), target) {
            (Some(format), _) => Ok(format),
            (None, Some(Target::File(path))) => {
                Err(Error::new(Kind::Usage, "the name of the output does not tell its format")
                    .at(path)
                    .expected(Format::list())
                    .hint("name it otherwise, or add --format raw"))
            }
            (None, _) => Ok(Format::default()),
        }
    }

    /// How the library works.
    pub(super) fn options(&self) -> Result<Options> {
        let mut options = Options { epoch: epoch()?, ..Options::default() };
        if let Some(jobs) = self.jobs {
            options.jobs = usize::from(jobs);
        }
        Ok(options)
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
        let format = self.format(target, disk.format)?;
        watch_signals(&options.progress.stop_flag())?;
        let bar = Bar::start(&options.progress);
        let built = disk::build_resolved(manifest, disk, options)?;
        if self.dry_run {
            drop(bar);
            warn(&built);
            return self.show(manifest, &built);
        }
        match target {
            None => return Err(Error::new(Kind::Usage, "there is no output").hint("add -o OUT")),
            Some(Target::File(path)) => built.write(path, format, options)?,
            Some(Target::Stdout) => {
                let pour = PourOptions { jobs: options.jobs, progress: &options.progress };
                // Not the line buffer of the standard library: the stream comes in large pieces.
                let stdout = std::io::stdout().lock();
                let mut out = std::fs::File::from(rustix::io::dup(&stdout).map_err(|error| {
                    Error::new(Kind::Output, "cannot write to standard output").because(error)
                })?);
                container::write_stream(format, &built.image, &mut out, &pour)?;
            }
        }
        drop(bar);
        warn(&built);
        match target {
            Some(Target::File(path)) => self.report(&built, path, format),
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
        dump(&built.image, root.as_deref(), &mut out)?;
        out.flush()
            .map_err(|error| Error::new(Kind::Output, "cannot write to standard output").because(error))
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

/// The time that SOURCE_DATE_EPOCH gives (reproducible-builds.org): seconds since 1970, in decimal.
fn epoch() -> Result<Option<i64>> {
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
fn watch_signals(stop: &Arc<AtomicBool>) -> Result<()> {
    let ignored = ignored_signals();
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        if ignored >> (signal - 1) & 1 == 1 {
            continue;
        }
        // In this order: the second arrival finds the flag that the first one set.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(stop)))
            .map_err(|error| Error::new(Kind::Output, "cannot watch for signals").because(error))?;
    }
    Ok(())
}

/// The signals that are ignored, bit 0 for signal 1, as the kernel tells them (proc(5), SigIgn); none without /proc.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
