//! `diskwright convert`, `create`, `resize` and `inspect`: images as files.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use super::bar::Bar;
use super::job::{Container, Jobs, Target, epoch};
use super::signals::watch;
use super::standard::{standard_input, standard_output};
use super::{Severity, complain};
use crate::container::{
    self, Format, OpenOptions, SectorSize, backing_path, open, open_alone, qcow2, same_file,
};
use crate::convert::{self, open_stream};
use crate::error::{Error, Kind, Result, Warning};
use crate::inspect::inspect;
use crate::pour::output::is_device;
use crate::progress::Progress;
use crate::resize::{self, Grow};
use crate::units::Bytes;

/// How the source image is opened.
#[derive(Debug, clap::Args)]
pub(super) struct Source {
    /// Format of the source [default: what its bytes say]
    #[arg(long, value_name = "FORMAT")]
    from: Option<Format>,
    /// Also open the backing files that the source names
    #[arg(long)]
    allow_backing: bool,
}

impl Source {
    pub(super) const fn options(&self) -> OpenOptions {
        OpenOptions { format: self.from, allow_backing: self.allow_backing }
    }
}

/// Arguments of `convert`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  diskwright convert disk.img disk.qcow2 --compress zstd
  diskwright convert disk.vmdk disk.img
  diskwright convert disk.img azure.vhd --subformat fixed
  diskwright convert disk.img disk.vmdk --subformat streamOptimized
  zcat disk.img.gz | diskwright convert - disk.vdi
  diskwright convert disk.qcow2 /dev/sdX

Blocks of zeros become holes. A source from a stranger is safe to read: it cannot make diskwright open another file \
unless --allow-backing is given.")]
pub(super) struct Convert {
    /// Image to read, a file or a block device; `-` is standard input
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// Where the result goes, a file or, for raw, a block device; `-` is standard output, for raw and streamOptimized
    #[arg(value_name = "DST")]
    target: PathBuf,
    #[command(flatten)]
    from: Source,
    #[command(flatten)]
    container: Container,
    /// Bytes in a logical sector of the disk, 512 or 4096 [default: what the source or its GPT says, or else 512]
    #[arg(long, value_name = "BYTES")]
    sector_size: Option<SectorSize>,
    #[command(flatten)]
    jobs: Jobs,
}

/// Runs `convert`.
pub(super) fn convert(args: Convert) -> Result<()> {
    let target = Target::of(args.target);
    let container = args.container.options(args.container.format(Some(&target), None)?)?;
    let time = epoch()?.unwrap_or(0);
    let progress = Progress::default();
    watch(&progress.stop_flag())?;
    let bar = Bar::start(&progress);
    if matches!(target, Target::Stdout) && std::io::stdout().is_terminal() {
        return Err(Error::new(Kind::Usage, "an image is not written to a terminal")
            .hint("send standard output into a file or a pipe"));
    }
    let opened = if args.source.as_os_str() == "-" {
        let near = match &target {
            Target::File(path) if !is_device(path) => path.clone(),
            Target::File(_) | Target::Stdout => near_standard_input(),
        };
        open_stream(&mut standard_input(&progress)?, &near, &args.from.options(), &progress)?
    } else {
        super::check_path(&args.source)?;
        open(&args.source, &args.from.options())?
    };
    let mut out;
    let to = match &target {
        Target::File(path) => convert::Target::File(path),
        Target::Stdout => {
            out = standard_output(&progress)?;
            convert::Target::Stream(&mut out)
        }
    };
    let (sector_size, jobs) = (args.sector_size, args.jobs.count());
    let options = convert::Options { time, sector_size, jobs, progress: &progress };
    let done = convert::convert(&opened, &args.source, to, &container, &options);
    drop(bar);
    // If a signal ended the write, the signal is the cause.
    warn(&done.or_else(|error| progress.check().and(Err(error)))?);
    Ok(())
}

/// Where an image from standard input lies while it is read, unless there is a better place.
fn near_standard_input() -> PathBuf {
    std::env::temp_dir().join("stdin")
}

/// Prints what was asked for and could not be kept.
pub(super) fn warn(warnings: &[Warning]) {
    for warning in warnings {
        complain(Severity::Warning, &warning.to_string());
    }
}

/// Arguments of `inspect`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  diskwright inspect disk.qcow2 --json | jq .table.partitions")]
pub(super) struct Inspect {
    /// Image to look into, a file or a block device; `-` is standard input
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    #[command(flatten)]
    from: Source,
    /// Print JSON, all sizes in bytes [default: text for people]
    #[arg(long)]
    json: bool,
}

/// Runs `inspect`.
pub(super) fn look(args: &Inspect) -> Result<()> {
    let opened = if args.image.as_os_str() == "-" {
        let progress = Progress::default();
        watch(&progress.stop_flag())?;
        open_stream(&mut standard_input(&progress)?, &near_standard_input(), &args.from.options(), &progress)?
    } else if args.from.allow_backing {
        open(&args.image, &args.from.options())?
    } else {
        open_alone(&args.image, args.from.from)?
    };
    let mut found = inspect(&opened)?;
    if opened.backing.is_some() && !args.from.allow_backing {
        found.remarks.push("--allow-backing opens the backing file too".to_owned());
    }
    let text = if args.json {
        let mut text = serde_json::to_string_pretty(&found)
            .map_err(|error| Error::bug("an inspection is no JSON").because(error))?;
        text.push('\n');
        text
    } else {
        found.to_string()
    };
    super::print(text.as_bytes())
}

/// Arguments of `create`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  diskwright create data.qcow2 --size 100GiB
  diskwright create overlay.qcow2 -b base.qcow2 -F qcow2
  diskwright create overlay.qcow2 --size 10GiB \\
      --backing-uri 'nbd+unix:///?socket=/run/disk.sock'")]
pub(super) struct Create {
    /// Image to make
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// Size of the disk [default: that of the backing file]
    #[arg(long, value_name = "SIZE", required_unless_present = "backing")]
    size: Option<Bytes>,
    /// Backing file, which supplies all data that was not written to this image; its path is absolute, or relative to
    /// IMAGE
    #[arg(short, long, value_name = "FILE", requires = "backing_format")]
    backing: Option<String>,
    /// Format of the backing file
    #[arg(short = 'F', long, value_name = "FORMAT", requires = "backing")]
    backing_format: Option<Format>,
    /// NBD URI of a backing disk, as of `diskwright serve`: nbd+unix:///NAME?socket=PATH, or nbd://HOST:PORT/NAME; its disk
    /// is raw, and nobody connects to it now, so that --size is needed
    #[arg(long, value_name = "URI", conflicts_with = "backing", requires = "size")]
    backing_uri: Option<String>,
    #[command(flatten)]
    container: Container,
    /// Bytes in a logical sector of the disk, 512 or 4096 [default: 512]
    #[arg(long, value_name = "BYTES")]
    sector_size: Option<SectorSize>,
}

/// Runs `create`.
pub(super) fn create(args: Create) -> Result<()> {
    let target = Target::of(args.image);
    let Target::File(path) = &target else {
        return Err(Error::new(Kind::Usage, "an empty image goes to a file"));
    };
    let format = args.container.format_of_file(path)?;
    let mut container = args.container.options(format)?;
    let mut size = args.size;
    if let (Some(name), Some(format)) = (args.backing, args.backing_format) {
        let below = backing_path(path, Path::new(&name)).map_err(|error| error.with_kind(Kind::Usage))?;
        let opened = open_alone(&below, Some(format))?;
        size = size.or(Some(opened.image.length()));
        if is_below(path, &below, format, opened.backing.as_deref()) {
            return Err(Error::new(Kind::Usage, "an image cannot be its own backing file").at(path));
        }
        let format = format.qemu_name();
        lay_on(&mut container, "backing", qcow2::Backing { path: name, is_uri: false, format })?;
    }
    if let Some(uri) = args.backing_uri {
        check_uri(&uri)?;
        let format = Format::Raw.qemu_name();
        lay_on(&mut container, "backing_uri", qcow2::Backing { path: uri, is_uri: true, format })?;
    }
    let size = size.ok_or_else(|| Error::new(Kind::Usage, "the image has no size").hint("add --size"))?;
    if let Some(question) = size.unit_forgotten().filter(|_| !size.is_multiple_of(512)) {
        complain(Severity::Warning, &format!("the disk has only {}: {question}", size.in_full()));
    }
    let progress = Progress::default();
    let time = epoch()?.unwrap_or(0);
    let options = convert::Options { time, sector_size: args.sector_size, jobs: 1, progress: &progress };
    warn(&convert::create(path, size, &container, &options)?);
    Ok(())
}

/// Makes `container` an overlay on `backing`, which the option `key` gave.
fn lay_on(container: &mut container::Container, key: &'static str, backing: qcow2::Backing) -> Result<()> {
    let container::Container::Qcow2(options) = container else {
        return Err(Error::new(Kind::Usage, format!("{} does not have a backing file", container.format()))
            .about(key)
            .expected("qcow2"));
    };
    options.backing = Some(backing);
    Ok(())
}

/// Whether what stands behind a host, if anything does, is a port.
fn has_port(rest: &str) -> bool {
    let host = rest.split('/').next().unwrap_or_default();
    // An IPv6 address has colons of its own, in brackets.
    let behind = host.rsplit_once(']').map_or(host, |(_, behind)| behind);
    behind
        .split_once(':')
        .is_none_or(|(_, port)| port.is_empty() || port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Refuses what QEMU would not take for an NBD server (block/nbd.c, nbd_parse_uri).
fn check_uri(uri: &str) -> Result<()> {
    let refused = |expected: &str| {
        Err(Error::new(Kind::Usage, "this is no URI of NBD")
            .about("backing_uri")
            .expected(expected)
            .found(crate::text::printable(uri.as_bytes())))
    };
    if uri.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return refused("no blanks; %20 stands for one");
    }
    // Each % is followed by the two digits of a byte (RFC 3986, 2.1).
    let mut escapes = uri.split('%').skip(1).map(|rest| rest.as_bytes().get(..2).unwrap_or_default());
    if !escapes.all(|digits| digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit)) {
        return refused("two hexadecimal digits behind each %; %25 stands for one");
    }
    let Some((scheme, rest)) = uri.split_once("://") else {
        return refused("nbd+unix:///NAME?socket=PATH, or nbd://HOST:PORT/NAME");
    };
    let socket = rest.split_once('?').is_some_and(|(_, query)| {
        query.strip_prefix("socket=").is_some_and(|path| !path.is_empty() && !path.contains(['&', ';']))
    });
    match scheme {
        "nbd+unix" if rest.starts_with('/') && socket => Ok(()),
        "nbd+unix" => refused("nbd+unix:///NAME?socket=PATH"),
        "nbd" | "nbd+tcp" if !has_port(rest) => refused("a port of 1 to 65535"),
        "nbd" | "nbd+tcp" if !rest.is_empty() && !rest.starts_with('/') && !rest.contains('?') => Ok(()),
        "nbd" | "nbd+tcp" => refused("nbd://HOST:PORT/NAME"),
        _ => refused("a scheme of nbd, nbd+tcp or nbd+unix"),
    }
}

/// Whether `path` is the backing file `below`, or one further down; `named` is the first one that `below`
/// names. If `path` exists and would be lost, the whole chain is followed; a file that cannot be followed is
/// still compared.
fn is_below(path: &Path, below: &Path, format: Format, named: Option<&Path>) -> bool {
    if !path.exists() {
        return false;
    }
    let further = named.and_then(|named| backing_path(below, named).ok());
    let near = [Some(below.to_owned()), further];
    let whole = open(below, &OpenOptions { format: Some(format), allow_backing: true });
    let files = whole.map(|opened| opened.files).unwrap_or_default();
    near.into_iter().flatten().chain(files).any(|file| same_file(&file, path))
}

/// Arguments of `resize`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  diskwright resize disk.qcow2 100GiB
  diskwright resize disk.img +10GiB
  diskwright resize disk.img 20GiB --grow partition

The backup of a GPT moves to the end of the disk, the last partition takes the new space, and an ext2, ext3 or ext4 \
filesystem in it grows too. Other filesystems grow when the system in the image boots; a warning says so. What is \
written anew replaces the old file when it is complete, so a failure changes nothing.")]
pub(super) struct Resize {
    /// Image to make larger
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// New size of the disk, such as 100GiB; or by how much it grows, such as +10GiB
    #[arg(value_name = "SIZE")]
    size: String,
    /// Format of the image [default: what its bytes say]
    #[arg(long = "format", value_name = "FORMAT")]
    from: Option<Format>,
    /// What grows with the disk: auto (as much as can), disk (nothing), partition (the table and the last partition), or
    /// filesystem (that and its ext4, or an error)
    #[arg(long, value_name = "WHAT", default_value = "auto")]
    grow: Grow,
    /// Print what grew as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    jobs: Jobs,
}

/// Runs `resize`.
pub(super) fn resize(args: &Resize) -> Result<()> {
    let bad = |error: crate::units::SizeError| {
        Error::new(Kind::Usage, "this is no size").at_flag("SIZE").found(&args.size).why(error.to_string())
    };
    let size: Bytes = match args.size.strip_prefix('+') {
        None => args.size.parse().map_err(bad)?,
        Some(more) => {
            let more: Bytes = more.parse().map_err(bad)?;
            open_alone(&args.image, args.from)?.image.length() + more
        }
    };
    let progress = Progress::default();
    watch(&progress.stop_flag())?;
    let bar = Bar::start(&progress);
    let options =
        resize::Options { format: args.from, grow: args.grow, jobs: args.jobs.count(), progress: &progress };
    let report = resize::resize(&args.image, size, &options)?;
    drop(bar);
    warn(&report.warnings);
    let text = if args.json {
        let mut text = serde_json::to_string_pretty(&report)
            .map_err(|error| Error::bug("a report is no JSON").because(error))?;
        text.push('\n');
        text
    } else {
        let line = |grown: &resize::Grown| {
            format!("{}: {} to {}\n", grown.what, Bytes::new(grown.from), Bytes::new(grown.to))
        };
        report.grown.iter().map(line).collect()
    };
    super::print(text.as_bytes())
}
