//! `diskwright check`: faults of an image.

use std::ffi::OsString;

use super::look::Place;
use super::rows::Rows;
use super::signals::watch;
use crate::error::{Error, Kind, Result};
use crate::look::Medium;
use crate::look::check::{Finding, check, unopened};
use crate::progress::Progress;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  diskwright check disk.qcow2
  diskwright check disk.img:root --json

Nothing is repaired. The exit code is 1 if there are faults.")]
pub(super) struct Args {
    /// Image, or one partition of it: IMAGE, or IMAGE:PARTITION
    #[arg(value_name = "IMAGE")]
    image: OsString,
    /// Print JSON: a list of faults
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// Runs `check`.
pub(super) fn run(args: &Args) -> Result<()> {
    let progress = Progress::default();
    watch(&progress.stop_flag())?;
    let address = args.place.address(&args.image)?;
    if address.path.is_some() {
        return Err(Error::new(Kind::Usage, "a path cannot be checked by itself")
            .at(address.place())
            .expected("IMAGE or IMAGE:PARTITION"));
    }
    let (mut rows, mut faults) = (Rows::new(args.json), 0_u64);
    let mut each = |finding: Finding| {
        progress.check()?;
        faults += u64::from(!finding.unjudged);
        rows.row(&finding)
    };
    match Medium::open(&address.image, &args.place.from.options()) {
        Ok(medium) => check(&medium, address.partition.as_deref(), &mut each)?,
        Err(error) => each(unopened(error)?)?,
    }
    rows.end()?;
    match faults {
        0 => Ok(()),
        1 => Err(Error::new(Kind::Format, "the image has a fault").at(address.place())),
        count => Err(Error::new(Kind::Format, format!("the image has {count} faults")).at(address.place())),
    }
}
