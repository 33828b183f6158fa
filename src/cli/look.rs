//! `diskwright ls`, `cat` and `copy`: files in an image.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use super::bar::Bar;
use super::convert::{Source, warn};
use super::signals::watch;
use super::standard::standard_output;
use super::{Severity, complain, unless_nobody_reads};
use crate::error::{Error, Kind, Result};
use crate::filesystem::{Content, Volume};
use crate::look::copy::{self, Owner, Reader, tar};
use crate::look::{Address, Item, Last, Medium, expand, list};
use crate::pour::write_error;
use crate::progress::Progress;

/// How a place in an image is found.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// Partition, by number, label or id; as IMAGE:PARTITION
    #[arg(long, value_name = "PARTITION")]
    partition: Option<String>,
    #[command(flatten)]
    pub(super) from: Source,
}

impl Place {
    /// The address that an argument is.
    pub(super) fn address(&self, text: &OsString) -> Result<Address> {
        Address::parse(text)?.in_partition(self.partition.clone())
    }

    /// The filesystem at an address, and what its pattern or path leads to.
    fn items(&self, address: &Address, last: Last) -> Result<(Box<dyn Volume>, Vec<Item>)> {
        let medium = Medium::open(&address.image, &self.from.options())?;
        let volume = medium.part(address.partition.as_deref())?.volume()?;
        warn(volume.warnings());
        let items =
            expand(&*volume, address.path_or_root(), last).map_err(|error| error.at(address.place()))?;
        if items.is_empty() {
            return Err(Error::new(Kind::Source, "there is no such file in the image").at(address.place()));
        }
        Ok((volume, items))
    }
}

/// Arguments of `ls`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  diskwright ls disk.qcow2:root:/etc
  diskwright ls -lR disk.img:2
  diskwright ls 'disk.img:2:/etc/**/*.conf'
  diskwright ls --json -R root.img | jq '.[] | select(.capabilities)'

With -l, the extended attributes of a file stand below it. Times are UTC, owners are numbers.")]
pub(super) struct List {
    /// Image, with a partition and a path in it: IMAGE, IMAGE:PARTITION or IMAGE:PARTITION:/PATH; the path may have patterns
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<OsString>,
    /// Show mode, links, owner, size, time and attributes
    #[arg(short, long)]
    long: bool,
    /// Also list what is in directories below
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Also list names that begin with a dot; never `.` and `..`
    #[arg(short = 'A', long = "almost-all", visible_short_alias = 'a', visible_alias = "all")]
    all: bool,
    /// List directories themselves, and not what is in them
    #[arg(short, long)]
    directory: bool,
    /// Print JSON: a list of files with all that -l shows
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// Runs `ls`.
pub(super) fn ls(args: &List) -> Result<()> {
    let options = list::Options {
        long: args.long,
        recursive: args.recursive,
        all: args.all,
        directory: args.directory,
        json: args.json,
    };
    let mut out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let mut failed = None;
    for (number, image) in args.images.iter().enumerate() {
        let address = args.place.address(image)?;
        let (volume, items) = args.place.items(&address, Last::Kept)?;
        if args.images.len() > 1 && !args.json {
            let gap = if number > 0 { "\n" } else { "" };
            unless_nobody_reads(writeln!(out, "{gap}{address}").map_err(write_error))?;
        }
        let mut trouble = |error: Error| {
            if error.kind() == Kind::Interrupted {
                return Err(error);
            }
            failed = failed.or(Some(error.kind()));
            complain(Severity::Error, &error.at(&address.image).to_string());
            Ok(())
        };
        unless_nobody_reads(list::list(&*volume, items, options, &mut out, &mut trouble))?;
    }
    unless_nobody_reads(out.flush().map_err(write_error))?;
    match failed {
        None => Ok(()),
        Some(kind) => Err(Error::new(kind, "some files could not be listed")),
    }
}

/// Arguments of `cat`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  diskwright cat disk.qcow2:root:/etc/os-release
  diskwright cat 'disk.img:2:/etc/fstab' --from raw")]
pub(super) struct Cat {
    /// Image, with a partition and the path of a file in it: IMAGE:/PATH or IMAGE:PARTITION:/PATH; the path may have patterns
    #[arg(value_name = "IMAGE:/PATH", required = true)]
    images: Vec<OsString>,
    #[command(flatten)]
    place: Place,
}

/// Runs `cat`.
pub(super) fn cat(args: &Cat) -> Result<()> {
    let progress = Progress::default();
    watch(&progress.stop_flag())?;
    let mut out = standard_output(&progress)?;
    let mut reader = Reader::default();
    for image in &args.images {
        let address = args.place.address(image)?;
        if address.path.is_none() {
            return Err(Error::new(Kind::Usage, "no file is named")
                .at(address.place())
                .expected("IMAGE:/PATH"));
        }
        let (volume, items) = args.place.items(&address, Last::Followed)?;
        for item in items {
            let place = address.with_path(&item.path).place();
            let Content::File { size } = item.node.content else {
                return Err(Error::new(Kind::Source, "this is no regular file")
                    .at(place)
                    .found(list::kind(&item.node.content)));
            };
            let written = reader.stream(&*volume, item.inode, size, &mut out, &progress);
            let written =
                written.map_err(|error| if error.kind() == Kind::Format { error.at(place) } else { error });
            unless_nobody_reads(written.or_else(|error| progress.check().and(Err(error))))?;
        }
    }
    Ok(())
}

/// Arguments of `copy`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  diskwright copy disk.qcow2:root:/etc etc
  diskwright copy disk.img:2 rootfs --owner preserve
  diskwright copy 'disk.img:2:/var/log/*.log' logs
  diskwright copy disk.img:2:/etc --tar | ssh host tar -xp

If FOLDER exists, the copy goes into it; the root of a filesystem has no name, so its contents do. Otherwise the copy \
gets the name FOLDER. Nothing that exists is replaced, and nothing is written outside of FOLDER.")]
pub(super) struct Copy {
    /// Image, with a partition and a path in it: IMAGE, IMAGE:PARTITION or IMAGE:PARTITION:/PATH; the path may have patterns
    #[arg(value_name = "IMAGE:/PATH")]
    image: OsString,
    /// Where the copy goes
    #[arg(value_name = "FOLDER", required_unless_present = "tar")]
    folder: Option<PathBuf>,
    /// Write a tar archive to standard output, with owners and attributes
    #[arg(long, conflicts_with_all = ["folder", "owner"])]
    tar: bool,
    /// Who owns the copies: `own`, who runs the program, or `preserve`, the owners in the image, for root
    #[arg(long, value_name = "OWNER", default_value = "own", value_parser = owner)]
    owner: Owner,
    #[command(flatten)]
    place: Place,
}

/// What `--owner` says.
fn owner(text: &str) -> Result<Owner, String> {
    match text {
        "own" => Ok(Owner::Own),
        "preserve" => Ok(Owner::Preserve),
        _ => Err("expected own or preserve".to_owned()),
    }
}

/// Runs `copy`.
pub(super) fn copy(args: &Copy) -> Result<()> {
    let progress = Progress::default();
    watch(&progress.stop_flag())?;
    let address = args.place.address(&args.image)?;
    if args.owner == Owner::Preserve && !rustix::process::geteuid().is_root() {
        return Err(Error::new(Kind::Usage, "only root can give files to other owners")
            .about("owner")
            .hint("write an archive, which has the owners (--tar)"));
    }
    if args.tar && std::io::stdout().is_terminal() {
        return Err(Error::new(Kind::Usage, "an archive is not written to a terminal")
            .hint("send standard output into a file or a pipe"));
    }
    let (volume, items) = args.place.items(&address, Last::Kept)?;
    let bar = Bar::start(&progress);
    let inside = |error: Error| if error.kind() == Kind::Format { error.at(&address.image) } else { error };
    let done = match &args.folder {
        Some(folder) => {
            copy::several(&*volume, &items, folder, &copy::Options { owner: args.owner, progress: &progress })
        }
        None => tar::write(&*volume, &items, &mut standard_output(&progress)?, &progress),
    };
    drop(bar);
    // If a signal ended the write, the signal is the cause.
    warn(&done.or_else(|error| progress.check().and(Err(inside(error))))?);
    Ok(())
}
