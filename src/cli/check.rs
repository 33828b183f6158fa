//! `diskwright check`: faults of an image.

use std::ffi::OsString;
use std::io::Write;

use super::convert::Source;
use super::signals::watch;
use super::unless_nobody_reads;
use crate::error::{Error, Kind, Result};
use crate::look::check::{Finding, check};
use crate::look::{Address, Medium};
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
    from: Source,
}

/// Runs `check`.
pub(super) fn run(args: &Args) -> Result<()> {
    let progress = Progress::default();
    watch(&progress.stop_flag())?;
    let address = Address::parse(&args.image)?;
    if address.path.is_some() {
        return Err(Error::new(Kind::Usage, "a path cannot be checked by itself")
            .at(address.place())
            .expected("IMAGE or IMAGE:PARTITION"));
    }
    let medium = Medium::open(&address.image, &args.from.options())?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let unwritten = |error| Error::new(Kind::Output, "cannot write to standard output").because(error);
    let (mut faults, mut lines) = (0_u64, 0_u64);
    check(&medium, address.partition.as_deref(), &mut |finding: Finding| {
        progress.check()?;
        let line = if args.json {
            let text = serde_json::to_string(&finding)
                .map_err(|error| Error::bug("a finding is no JSON").because(error))?;
            format!("{}\n  {text}", if lines == 0 { "[" } else { "," })
        } else {
            format!("{finding}\n")
        };
        lines += 1;
        faults += u64::from(!finding.unjudged);
        unless_nobody_reads(out.write_all(line.as_bytes()).map_err(unwritten))
    })?;
    let end = match (args.json, lines) {
        (false, _) => "",
        (true, 0) => "[]\n",
        (true, _) => "\n]\n",
    };
    unless_nobody_reads(out.write_all(end.as_bytes()).and_then(|()| out.flush()).map_err(unwritten))?;
    match faults {
        0 => Ok(()),
        1 => Err(Error::new(Kind::Format, "the image has a fault").at(address.place())),
        count => Err(Error::new(Kind::Format, format!("the image has {count} faults")).at(address.place())),
    }
}
