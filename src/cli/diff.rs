//! `diskwright diff`: what differs between two images, or an image and a folder.

use std::ffi::OsString;
use std::path::Path;

use super::convert::{Source, warn};
use super::rows::Rows;
use super::signals::watch;
use crate::error::{Error, Kind, Result};
use crate::filesystem::Volume;
use crate::look::diff::{Difference, Options, Side, media, trees};
use crate::look::{Address, Item, Last, Medium, find};
use crate::progress::Progress;

/// Arguments of `diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  diskwright diff old.qcow2 new.qcow2
  diskwright diff old.img:root new.img:root --content
  diskwright diff disk.img:2:/etc rootfs/etc

Each is an image, a partition, a path in it, or a folder. Equal bytes are equal in every container. If nothing that a \
reader sees differs, but bytes do, the first structure that differs is named.

Exit codes: 0 equal, 1 different, 2 trouble.")]
pub(super) struct Args {
    /// Image as IMAGE, IMAGE:PARTITION or IMAGE:PARTITION:/PATH, or a folder
    #[arg(value_name = "FIRST")]
    first: OsString,
    /// The other one, in the same form
    #[arg(value_name = "SECOND")]
    second: OsString,
    /// Show the bytes that differ first
    #[arg(long)]
    content: bool,
    /// Print JSON: a list of differences
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    from: Source,
}

/// One of the two.
enum Operand {
    Folder(OsString),
    Medium(Box<Medium>, Address),
}

impl Operand {
    fn open(text: &OsString, from: &Source) -> Result<Self> {
        if Path::new(text).is_dir() {
            return Ok(Self::Folder(text.clone()));
        }
        let address = Address::parse(text)?;
        Ok(Self::Medium(Box::new(Medium::open(&address.image, &from.options())?), address))
    }

    /// Whether it is a tree of files: a folder, or a path.
    const fn is_tree(&self) -> bool {
        match self {
            Self::Folder(_) => true,
            Self::Medium(_, address) => address.path.is_some(),
        }
    }

    /// The volume and the item in it; `None` for a folder.
    fn tree(&self) -> Result<Option<(Box<dyn Volume>, Item)>> {
        let Self::Medium(medium, address) = self else { return Ok(None) };
        let volume = medium.part(address.partition.as_deref())?.volume()?;
        warn(volume.warnings());
        match find(&*volume, address.path_or_root(), Last::Kept)? {
            Some(item) => Ok(Some((volume, item))),
            None => Err(Error::new(Kind::Source, "there is no such file in the image").at(address.place())),
        }
    }
}

/// The tree of an operand.
fn side<'a>(operand: &'a Operand, tree: Option<&'a (Box<dyn Volume>, Item)>) -> Result<Side<'a>> {
    match (operand, tree) {
        (Operand::Folder(path), _) => Ok(Side::Folder(Path::new(path))),
        (_, Some((volume, item))) => Ok(Side::Volume(&**volume, item)),
        _ => Err(Error::bug("an operand is neither a folder nor in a volume")),
    }
}

/// Runs `diff`; true where both are equal.
pub(super) fn run(args: &Args) -> Result<bool> {
    let progress = Progress::default();
    watch(&progress.stop_flag())?;
    let (first, second) = (Operand::open(&args.first, &args.from)?, Operand::open(&args.second, &args.from)?);
    let options = Options { content: args.content, progress: &progress };
    let mut rows = Rows::new(args.json);
    let mut each = |difference: Difference| rows.row(&difference);
    let equal = match (&first, &second) {
        (Operand::Medium(one, of_one), Operand::Medium(other, of_other))
            if !first.is_tree() && !second.is_tree() =>
        {
            let one = (&**one, of_one.partition.as_deref());
            let other = (&**other, of_other.partition.as_deref());
            media(one, other, &options, &mut each)?
        }
        _ => {
            let (one, other) = (first.tree()?, second.tree()?);
            trees(side(&first, one.as_ref())?, side(&second, other.as_ref())?, "", &options, &mut each)?
        }
    };
    rows.end()?;
    Ok(equal)
}
