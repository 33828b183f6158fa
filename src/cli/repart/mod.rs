//! `diskwright repart`: the command line of systemd-repart.

mod beside;
mod refused;
mod sign;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use super::bar::Bar;
use super::job::{Jobs, epoch};
use super::signals::watch;
use super::{Severity, complain};
use crate::disk::{Built, Work, rehosted};
use crate::error::{Error, Kind, Result};
use crate::front::repart::{
    Activity, Ddi, ElTorito, Empty, Finished, Level, Options, Size, can_factory_reset, follow_inside,
    parse_boolean, parse_number, parse_size, prepare,
};
use crate::identity::Seed;
use crate::image::Image;
use crate::pour::output::Output;
use crate::pour::outputs::Outputs;
use crate::pour::{PourOptions, fill};
use crate::table::Architecture;
use crate::tree::Owner;
use crate::tree::xattr::Patterns;
use beside::{Beside, Early};
use refused::Refused;
use sign::Sign;

/// Arguments of `repart`.
#[derive(Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "Examples:
  diskwright repart --empty=create --size=auto --definitions=repart.d image.raw
  diskwright repart --dry-run=no --definitions=repart.d image.raw

The first one makes a new image, the second one adds to the table of an image. --seed=UUID gives the same ids each time.

The options are those of systemd-repart 262; docs/repart.md says what is equal and what differs. A link to this program that \
is named systemd-repart behaves as `diskwright repart`. An image that exists is written anew and takes the place of the old \
one when it is complete."
)]
pub(super) struct Args {
    /// The image, which is made with --empty=create, and exists otherwise; `-` only tells how large it would be at least
    #[arg(value_name = "IMAGE")]
    image: Option<PathBuf>,
    #[command(flatten)]
    operation: Operation,
    #[command(flatten)]
    kinds: Kinds,
    #[command(flatten)]
    shown: Shown,
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    beside: Beside,
    #[command(flatten)]
    torito: Torito,
    #[command(flatten)]
    own: Own,
    #[command(flatten)]
    sign: Sign,
    #[command(flatten)]
    refused: Refused,
    #[command(flatten)]
    jobs: Jobs,
}

/// What is done.
#[derive(Debug, clap::Args)]
struct Operation {
    /// Write nothing: the same as --dry-run=yes
    #[arg(short = 'n', conflicts_with = "dry_run")]
    nothing: bool,
    /// Whether nothing is written [default: yes, and no with --empty=create]
    #[arg(long, value_name = "BOOL", value_parser = boolean)]
    dry_run: Option<bool>,
    /// What may be there [default: refuse, and create with --make-ddi]: refuse (an image with a GPT has to be), allow
    /// (with or without), require (without), force (what is on it is lost), create (a new image)
    #[arg(long, value_name = "MODE", hide_possible_values = true)]
    empty: Option<EmptyMode>,
    /// Size of the image, as 10G, or auto; a larger one stays as it is
    #[arg(long, value_name = "SIZE")]
    size: Option<String>,
    /// UUID that all ids derive from, or random [default: etc/machine-id of --root]
    #[arg(long, value_name = "UUID")]
    seed: Option<String>,
    /// Bytes in a sector of the disk and of its filesystems: 512, 1024, 2048 or 4096 [default: 512, and 4096 for filesystems]
    #[arg(long, value_name = "BYTES", value_parser = number)]
    sector_size: Option<u32>,
    /// What starts and sizes are multiples of [default: 4096]
    #[arg(long, value_name = "SIZE")]
    grain_size: Option<String>,
    /// Processor of the types that depend on one, also where a definition names another [default: that of this machine]
    #[arg(long, value_name = "ARCH")]
    architecture: Option<Architecture>,
    /// Whether partitions are written to files of their own too
    #[arg(long, value_name = "BOOL", value_parser = boolean, default_value = "no", action = clap::ArgAction::Set)]
    split: bool,
    /// Whether existing partitions with FactoryReset= are removed first
    #[arg(long, value_name = "BOOL", value_parser = boolean, default_value = "no", action = clap::ArgAction::Set)]
    factory_reset: bool,
    /// Write nothing; succeed where an existing partition has FactoryReset=
    #[arg(long)]
    can_factory_reset: bool,
}

/// Images with definitions of their own.
#[derive(Debug, clap::Args)]
struct Kinds {
    /// Make a signed image of a kind whose definitions are built in: sysext, confext or portable
    #[arg(long, value_name = "TYPE")]
    make_ddi: Option<Ddi>,
    /// The same as --make-ddi=sysext
    #[arg(short = 'S', conflicts_with = "make_ddi")]
    sysext: bool,
    /// The same as --make-ddi=confext
    #[arg(short = 'C', conflicts_with_all = ["make_ddi", "sysext"])]
    confext: bool,
    /// The same as --make-ddi=portable
    #[arg(short = 'P', conflicts_with_all = ["make_ddi", "sysext", "confext"])]
    portable: bool,
}

impl Kinds {
    fn ddi(&self) -> Option<Ddi> {
        let named =
            [(self.sysext, Ddi::Sysext), (self.confext, Ddi::Confext), (self.portable, Ddi::Portable)];
        self.make_ddi.or_else(|| named.into_iter().find(|(given, _)| *given).map(|(_, ddi)| ddi))
    }
}

/// What is shown.
#[derive(Debug, clap::Args)]
struct Shown {
    /// Print JSON: pretty, short or off
    #[arg(long, value_name = "FORMAT", default_value = "off", hide_possible_values = true)]
    json: Json,
    /// Whether a table is printed before anything is written [default: yes on a terminal]
    #[arg(long, value_name = "BOOL", value_parser = boolean)]
    pretty: Option<bool>,
    /// Leave out the head of the table
    #[arg(long)]
    no_legend: bool,
    /// Nothing is paged: for the sake of command lines that say so
    #[arg(long)]
    no_pager: bool,
}

/// Where things come from.
#[derive(Debug, clap::Args)]
struct Sources {
    /// Folder with definitions, `*.conf`; give it again for more [default: those of --root]
    #[arg(long, value_name = "DIR")]
    definitions: Vec<PathBuf>,
    /// Folder that definitions, machine id and sources are looked for in
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Folder that the sources of CopyFiles= are looked for in
    #[arg(short = 's', long, value_name = "DIR")]
    copy_source: Option<PathBuf>,
    /// Image whose partitions are copied; give it again for more
    #[arg(long, value_name = "IMAGE")]
    copy_from: Vec<PathBuf>,
}

/// Which partitions.
#[derive(Debug, clap::Args)]
struct Filter {
    /// Types that are looked at; all others are passed over
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    include_partitions: Vec<String>,
    /// Types that are passed over
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    exclude_partitions: Vec<String>,
    /// Types that get a place and are not written yet
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    defer_partitions: Vec<String>,
    /// Whether partitions labelled _empty are deferred
    #[arg(long, value_name = "BOOL", value_parser = boolean, default_value = "no", action = clap::ArgAction::Set)]
    defer_partitions_empty: bool,
    /// Whether partitions with FactoryReset= are deferred
    #[arg(long, value_name = "BOOL", value_parser = boolean, default_value = "no", action = clap::ArgAction::Set)]
    defer_partitions_factory_reset: bool,
}

/// An ISO 9660 in front of the partitions.
#[derive(Debug, clap::Args)]
struct Torito {
    /// Whether an empty ISO 9660 with a boot catalog stands in front of the partitions, so that firmware that takes the disk
    /// for a CD starts the EFI system partition
    #[arg(long, value_name = "BOOL", value_parser = boolean, default_value = "no", action = clap::ArgAction::Set)]
    el_torito: bool,
    /// Its system identifier, at most 32 characters
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    el_torito_system: String,
    /// Its volume identifier, at most 32 characters
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    el_torito_volume: String,
    /// Its publisher identifier, at most 128 characters
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    el_torito_publisher: String,
}

impl Torito {
    fn wanted(&self) -> Option<ElTorito> {
        self.el_torito.then(|| ElTorito {
            system: self.el_torito_system.clone(),
            volume: self.el_torito_volume.clone(),
            publisher: self.el_torito_publisher.clone(),
        })
    }
}

/// What systemd-repart does not have.
#[derive(Debug, clap::Args)]
struct Own {
    /// Release of systemd-repart that is imitated: 257, 260 or 262
    #[arg(long, value_name = "N", default_value = "262")]
    level: Level,
    /// Unknown keys, and values that are passed over, are errors
    #[arg(long)]
    strict: bool,
    /// Write also what systemd-repart writes by mistake: two partitions with one UUID, no attributes where Flags= has one of
    /// bits 0 to 47, growing in spite of GrowFileSystem=no; it passes over a source of CopyFiles= that is not there
    #[arg(long)]
    faithful: bool,
    /// Owner of what is copied: root, preserve (as on the host), or UID:GID
    #[arg(long, value_name = "OWNER", default_value = "root")]
    owner: Owner,
    /// Extended attributes of what is copied that are kept, as a pattern with `*`; may be given several times; '' keeps none
    /// [default: user.*, security.capability and POSIX ACLs]
    #[arg(long, value_name = "PATTERN")]
    xattrs: Vec<String>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum EmptyMode {
    Refuse,
    Allow,
    Require,
    Force,
    Create,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Json {
    Pretty,
    Short,
    Off,
}

fn boolean(text: &str) -> std::result::Result<bool, String> {
    parse_boolean(text).ok_or_else(|| "expected yes or no".to_owned())
}

fn number(text: &str) -> std::result::Result<u32, String> {
    parse_number(text).ok_or_else(|| "expected a whole number".to_owned())
}

impl Args {
    /// What the front end takes.
    fn options(&self, image: PathBuf) -> Result<Options> {
        let usage =
            |what: &str, flag: &str, text: &str| Error::new(Kind::Usage, what).at_flag(flag).found(text);
        let size = match self.operation.size.as_deref() {
            None if self.kinds.ddi().is_some() => Size::Auto,
            None => Size::Given,
            Some("auto") => Size::Auto,
            Some(text) => Size::Fixed(parse_size(text).ok_or_else(|| {
                usage("this is no size", "--size", text).expected("a number with K, M, G or T, or auto")
            })?),
        };
        let grain = self.operation.grain_size.as_deref().map(|text| {
            let grain = parse_size(text).and_then(|size| u32::try_from(size.get()).ok());
            grain.ok_or_else(|| {
                usage("this is no size", "--grain-size", text).expected("a power of two, as 4K or 1M")
            })
        });
        let overridden = std::env::var("SYSTEMD_REPART_OVERRIDE_FSTYPE").ok().filter(|name| !name.is_empty());
        Ok(Options {
            level: self.own.level,
            definitions: self.sources.definitions.clone(),
            root: self.sources.root.clone(),
            copy_source: self.sources.copy_source.clone(),
            copy_from: self.sources.copy_from.clone(),
            ddi: self.kinds.ddi(),
            empty: match self.empty() {
                EmptyMode::Refuse => Empty::Refuse,
                EmptyMode::Allow => Empty::Allow,
                EmptyMode::Require => Empty::Require,
                EmptyMode::Force => Empty::Force,
                EmptyMode::Create => Empty::Create,
            },
            size,
            sector_size: self.operation.sector_size,
            grain: grain.transpose()?,
            architecture: self.operation.architecture,
            include: self.filter.include_partitions.clone(),
            exclude: self.filter.exclude_partitions.clone(),
            defer: self.filter.defer_partitions.clone(),
            defer_empty: self.filter.defer_partitions_empty,
            defer_factory_reset: self.filter.defer_partitions_factory_reset,
            factory_reset: self.operation.factory_reset,
            split: self.operation.split,
            el_torito: self.torito.wanted(),
            signing: self.sign.signing()?,
            filesystem: overridden,
            owner: self.own.owner,
            xattrs: match self.own.xattrs.as_slice() {
                [] => Patterns::default(),
                patterns => Patterns::new(patterns.to_vec()),
            },
            epoch: epoch()?,
            strict: self.own.strict,
            faithful: self.own.faithful,
            ..Options::new(image, self.seed()?)
        })
    }

    /// The seed: as given, or the machine id of the root. None is drawn unless that is asked for, since no image would be
    /// made twice then.
    fn seed(&self) -> Result<Seed> {
        let refuse = |what: &str| Error::new(Kind::Usage, what).at_flag("--seed");
        match self.operation.seed.as_deref() {
            Some("random") => {
                let mut bytes = [0; 16];
                let read = std::fs::File::open("/dev/urandom")
                    .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes));
                read.map_err(|error| refuse("there are no random numbers").because(error))?;
                Ok(Seed::new(uuid::Builder::from_random_bytes(bytes).into_uuid()))
            }
            Some(text) => {
                let uuid = text.parse().map_err(|_| refuse("the seed is no UUID").found(text))?;
                Ok(Seed::new(uuid))
            }
            None => {
                let root = self.sources.root.as_deref();
                let path = root.map(|root| follow_inside(root, Path::new("etc/machine-id"))).transpose()?;
                let id = path.flatten().and_then(|path| std::fs::read_to_string(path).ok());
                let id =
                    id.and_then(|text| uuid::Uuid::try_parse(text.trim()).ok()).filter(|id| !id.is_nil());
                id.map(Seed::new).ok_or_else(|| {
                    refuse("there is nothing that ids could derive from")
                        .expected("--seed=UUID, or --root with etc/machine-id")
                        .why("systemd-repart draws a random seed here, and makes another disk each time")
                        .hint("--seed=random does so too")
                })
            }
        }
    }

    fn empty(&self) -> EmptyMode {
        let usual = if self.kinds.ddi().is_some() { EmptyMode::Create } else { EmptyMode::Refuse };
        self.operation.empty.unwrap_or(usual)
    }

    fn is_dry(&self) -> bool {
        let creates = matches!(self.empty(), EmptyMode::Create);
        self.operation.nothing || self.operation.dry_run.unwrap_or(!creates)
    }
}

/// Runs `repart`.
pub(super) fn run(args: &Args) -> Result<()> {
    args.refused.check()?;
    let image = args.image.clone().ok_or_else(|| {
        Error::new(Kind::Usage, "there is no image")
            .hint("name one: diskwright repart --empty=create … image.raw")
    })?;
    let options = args.options(image)?;
    if options.image.as_os_str() == "-" {
        return args.least(options);
    }
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("SYSTEMD_REPART_MKFS_OPTIONS_") {
            complain(Severity::Warning, &format!("{name} is passed over: no mkfs program is run"));
        }
    }
    if args.operation.can_factory_reset {
        return match can_factory_reset(&options).map_err(flags)? {
            true => Ok(()),
            false => Err(Error::new(Kind::Source, "no existing partition has FactoryReset=")),
        };
    }
    let mut work = Work { jobs: args.jobs.count(), ..Work::default() };
    let dry = args.is_dry();
    if !dry {
        // As systemd-repart, which makes the file and opens none that is there.
        if options.empty == Empty::Create && options.image.symlink_metadata().is_ok() {
            return Err(Error::new(Kind::Usage, "the image exists already")
                .at(&options.image)
                .at_flag("--empty=create")
                .hint("remove it first; --empty=force makes a new table in it"));
        }
        // An output that cannot be is told before the work and not after it.
        let output = Output::create(&options.image)?;
        work.spool = output.target().parent().map(Path::to_owned);
    }
    watch(&work.progress.stop_flag())?;
    let bar = Bar::start(&work.progress);
    let mut prepared = prepare(&options, &work).map_err(flags)?;
    // Before the image, which may hold what is written here.
    let fstab = if dry { None } else { args.beside.write(prepared.outcome(), &options)? };
    if fstab.as_ref().is_some_and(Early::has_changed) {
        // What is minimized was measured without it.
        prepared = prepare(&options, &work).map_err(flags)?;
    }
    let finished = prepared.build(&work).map_err(flags)?;
    if !dry {
        args.write(&prepared, &finished, &options, &work)?;
    }
    if let Some(fstab) = fstab {
        fstab.keep();
    }
    drop(bar);
    for warning in &finished.built.report.warnings {
        complain(Severity::Warning, warning);
    }
    args.beside.tell(&finished.outcome);
    args.show(&finished, dry)
}

/// The options of the library as the flags that they are here.
fn flags(error: Error) -> Error {
    error.find_keys(|error, key| match key.flag() {
        Some(flag) => error.at_flag(flag),
        None => error.at_key(key),
    })
}

/// The disk that the arguments describe, in the container of `work`. It is not written.
pub(super) fn built(args: &Args, work: &Work) -> Result<Built> {
    args.refused.check()?;
    let image = args.image.clone().ok_or_else(|| Error::new(Kind::Usage, "there is no image"))?;
    Ok(prepare(&args.options(image)?, work)?.build(work)?.built)
}

/// A size as systemd shows it: `6M`, `1.5G`; what is less than a tenth is left out.
fn short(size: u64) -> String {
    let units = [("E", 60), ("P", 50), ("T", 40), ("G", 30), ("M", 20), ("K", 10)];
    let Some((name, bits)) = units.into_iter().find(|(_, bits)| size >> bits > 0) else {
        return format!("{size}B");
    };
    let (whole, rest) = (size >> bits, size & ((1 << bits) - 1));
    // Above 2^60, ten times the rest does not fit in 64 bits.
    match (u128::from(rest) * 10) >> bits {
        0 => format!("{whole}{name}"),
        tenths => format!("{whole}.{tenths}{name}"),
    }
}

impl Args {
    /// Tells how large an image of the definitions is at least.
    fn least(&self, options: Options) -> Result<()> {
        if self.operation.empty.is_some_and(|mode| !matches!(mode, EmptyMode::Refuse | EmptyMode::Allow))
            || options.ddi.is_some()
        {
            return Err(Error::new(Kind::Usage, "without an image nothing is made")
                .at_flag("--empty")
                .expected("the name of an image"));
        }
        let options = Options { empty: Empty::Create, size: Size::Auto, ..options };
        let work = Work { jobs: self.jobs.count(), ..Work::default() };
        let prepared = prepare(&options, &work).map_err(flags)?;
        let size = prepared.description.disk.size.unwrap_or_default();
        eprintln!("Automatically determined minimal disk image size as {}.", short(size.get()));
        Ok(())
    }

    fn show(&self, finished: &Finished, dry: bool) -> Result<()> {
        let outcome = &finished.outcome;
        if self.shown.json != Json::Off {
            return super::print(outcome.json(self.shown.json == Json::Pretty).as_bytes());
        }
        if self.shown.pretty.unwrap_or_else(|| std::io::stdout().is_terminal()) {
            super::print(outcome.table(!self.shown.no_legend).as_bytes())?;
        }
        let changed = outcome.rows.iter().any(|row| row.activity != Activity::Unchanged);
        if dry && changed && !self.shown.no_legend {
            eprintln!("Nothing is written: that takes --dry-run=no.");
        }
        Ok(())
    }

    /// Writes the image and its parts: all or none.
    fn write(
        &self,
        prepared: &crate::front::repart::Prepared,
        finished: &Finished,
        options: &Options,
        work: &Work,
    ) -> Result<()> {
        let mut outputs = Outputs::new();
        let disk = &finished.built.image;
        let (bytes, files) = disk.file_data();
        work.progress.begin(bytes, files);
        let filled = |path: &Path, image: &Image| -> Result<Output> {
            let output = Output::create(path)?;
            fill(image, &output, &PourOptions::new(work.jobs, &work.progress)).map_err(|error| {
                prepared.description.locator.locate(prepared.description.disk.blame(error))
            })?;
            Ok(output)
        };
        let whole = filled(&options.image, disk)?;
        // The parts are read from the disk that was written, so the sources are read once.
        let copy = rehosted(disk, &whole)?;
        outputs.push(whole)?;
        for split in &finished.splits {
            outputs.push(filled(&split.path, &split.of(&copy)?)?)?;
        }
        outputs.publish()
    }
}
