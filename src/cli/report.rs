//! `diskwright report`: what fills an image.

use std::ffi::OsString;
use std::path::PathBuf;

use super::bar::Bar;
use super::convert::Source;
use super::look::Place;
use super::print;
use super::signals::watch;
use crate::error::{Error, Kind, Result};
use crate::look::report::{page, report, text};
use crate::look::{Address, Medium};
use crate::pour::output::Output;
use crate::progress::Progress;
use crate::units::u64_of;

/// The columns of a text for no terminal, and the most for one.
const WIDTH: usize = 100;
const WIDEST: u16 = 160;

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  diskwright report disk.qcow2
  diskwright report disk.qcow2 -o report.html
  diskwright report new.qcow2 old.qcow2 -o report.html
  diskwright report --json disk.img:root | jq .store.paths[0]

The page is one file that needs nothing else. It has a map of the disk, a treemap of all files, the largest files, equal \
files, what compresses, and of a store of Nix what is there because of whom.")]
pub(super) struct Args {
    /// Image, or one partition of it: IMAGE, or IMAGE:PARTITION
    #[arg(value_name = "IMAGE")]
    image: OsString,
    /// An older image, or a partition of it, to compare with
    #[arg(value_name = "OLDER")]
    older: Option<OsString>,
    /// Write an HTML page [default: text on standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print JSON
    #[arg(long, conflicts_with = "output")]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// An image and the partition that an argument names.
fn open(address: Address, from: &Source) -> Result<(Medium, Option<String>)> {
    if address.path.is_some() {
        return Err(Error::new(
            Kind::Usage,
            "a report is about an image or a partition, and not about a path",
        )
        .at(address.place())
        .expected("IMAGE or IMAGE:PARTITION"));
    }
    Ok((Medium::open(&address.image, &from.options())?, address.partition))
}

/// Runs `report`.
pub(super) fn run(args: &Args) -> Result<()> {
    let progress = Progress::default();
    watch(&progress.stop_flag())?;
    let (medium, partition) = open(args.place.address(&args.image)?, &args.place.from)?;
    let older =
        args.older.as_ref().map(|older| open(Address::parse(older)?, &args.place.from)).transpose()?;
    let older = older.as_ref().map(|(medium, partition)| (medium, partition.as_deref()));
    let bar = Bar::start(&progress);
    let found = report((&medium, partition.as_deref()), older, &progress)?;
    drop(bar);
    if let Some(path) = &args.output {
        let page = page(&found);
        let output = Output::create(path)?;
        output.write_at(page.as_bytes(), 0)?;
        output.set_length(u64_of(page.len()))?;
        return output.publish();
    }
    if args.json {
        let text = serde_json::to_string_pretty(&found)
            .map_err(|error| Error::bug("a report is no JSON").because(error))?;
        return print(format!("{text}\n").as_bytes());
    }
    let columns = rustix::termios::tcgetwinsize(std::io::stdout()).map(|size| size.ws_col);
    let width = match columns {
        Ok(columns @ 1..) => usize::from(columns.min(WIDEST)),
        _ => WIDTH,
    };
    print(text(&found, width).as_bytes())
}
