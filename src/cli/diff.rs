//! `diskwright diff`: what differs between two images, or an image and a folder.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::convert::{Source, warn};
use super::rows::Rows;
use super::signals::watch;
use crate::error::{Error, Kind, Result};
use crate::filesystem::{self, Volume};
use crate::look::diff::{Difference, Options, Side, StorePaths, media, trees};
use crate::look::{Address, Item, Last, Medium, find};
use crate::progress::Progress;
use crate::text::printable_path;

/// Arguments of `diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  diskwright diff old.qcow2 new.qcow2
  diskwright diff old.img:root new.img:root --content
  diskwright diff disk.img:2:/etc rootfs/etc
  diskwright diff nixos.img closure-info

Each is an image, a partition, a path in it, a folder, or a closure: what closureInfo makes, a list of store paths, a \
registration, or JSON of Nix. `closure:` in front says that it is one; behind it may also stand a store path, whose closure \
nix-store tells. Equal bytes are equal in every container. If nothing that a \
reader sees differs, but bytes do, the first structure that differs is named.

Exit codes: 0 equal, 1 different, 2 trouble.")]
pub(super) struct Args {
    /// Image as IMAGE, IMAGE:PARTITION or IMAGE:PARTITION:/PATH, or a folder, or a closure
    #[arg(value_name = "FIRST")]
    first: OsString,
    /// The other one, in the same form
    #[arg(value_name = "SECOND")]
    second: OsString,
    /// Show the bytes that differ first
    #[arg(long)]
    content: bool,
    /// Where the store of a closure lies on this machine: the folder that holds nix/store
    #[arg(long, value_name = "DIR", default_value = "/")]
    store_root: PathBuf,
    /// Print JSON: a list of differences
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    from: Source,
}

/// One of the two.
enum Operand {
    Folder(PathBuf),
    Closure(StorePaths),
    Medium(Box<Medium>, Address),
}

/// A directory of a volume.
type Top = (Box<dyn Volume>, Item);

impl Operand {
    fn open(text: &OsString, args: &Args, progress: &Progress) -> Result<Self> {
        if let Some(closure) = StorePaths::open(Path::new(text), &args.store_root, progress)? {
            return Ok(Self::Closure(closure));
        }
        if Path::new(text).is_dir() {
            return Ok(Self::Folder(text.into()));
        }
        let address = Address::parse(text)?;
        Ok(Self::Medium(Box::new(Medium::open(&address.image, &args.from.options())?), address))
    }

    /// Whether it is a tree of files: a folder, a closure, or a path.
    const fn is_tree(&self) -> bool {
        match self {
            Self::Folder(_) | Self::Closure(_) => true,
            Self::Medium(_, address) => address.path.is_some(),
        }
    }

    /// The volume and the item in it; `None` for what is on this machine. Beside a closure, it is the store of an image.
    fn tree(&self, beside: &Self) -> Result<Option<Top>> {
        let Self::Medium(medium, address) = self else { return Ok(None) };
        if let (Self::Closure(closure), None) = (beside, &address.path)
            && let Some(found) = store(medium, address.partition.as_deref(), closure)?
        {
            return Ok(Some(found));
        }
        let volume = medium.part(address.partition.as_deref())?.volume()?;
        warn(volume.warnings());
        match find(&*volume, address.path_or_root(), Last::Kept)? {
            Some(item) => Ok(Some((volume, item))),
            None => Err(Error::new(Kind::Source, "there is no such file in the image").at(address.place())),
        }
    }

    /// The folder that is compared with a closure: the store in it, if there is one.
    fn with_store_at(self, place: &Path) -> Self {
        match self {
            Self::Folder(path) => {
                let store = path.join(place.strip_prefix("/").unwrap_or(place));
                Self::Folder(if store.is_dir() { store } else { path })
            }
            other => other,
        }
    }
}

/// The store of an image: in the partition that is named, or in the only one that has it.
fn store(medium: &Medium, partition: Option<&str>, closure: &StorePaths) -> Result<Option<Top>> {
    let parts = match partition {
        Some(name) => vec![medium.partition(name)?],
        None => medium.parts(),
    };
    let mut found = Vec::new();
    for part in parts {
        // Another partition may be damaged, or be none that is read.
        let Ok(Some(volume)) = filesystem::open(&part.slice) else { continue };
        let item = find(&*volume, closure.place().as_os_str().as_bytes(), Last::Followed)?;
        if let Some(item) = item.filter(Item::is_directory) {
            found.push((volume, item, part.place));
        }
    }
    if let [_, _, ..] = found[..] {
        let names: Vec<String> = found.iter().map(|(.., place)| printable_path(place)).collect();
        return Err(Error::new(Kind::Usage, "several filesystems have a store, and none is named")
            .at(medium.path())
            .found(names.join(" and "))
            .remedy("partition", "name one: IMAGE:2, or IMAGE:2:/nix/store"));
    }
    let Some((volume, item, _)) = found.pop() else { return Ok(None) };
    warn(volume.warnings());
    Ok(Some((volume, item)))
}

/// The tree of an operand.
fn side<'a>(operand: &'a Operand, tree: Option<&'a Top>) -> Result<Side<'a>> {
    match (operand, tree) {
        (Operand::Folder(path), _) => Ok(Side::Folder(path)),
        (Operand::Closure(closure), _) => Ok(Side::Closure(closure)),
        (_, Some((volume, item))) => Ok(Side::Volume(&**volume, item)),
        _ => Err(Error::bug("an operand is neither a folder nor in a volume")),
    }
}

/// Runs `diff`; true where both are equal.
pub(super) fn run(args: &Args) -> Result<bool> {
    let progress = Progress::default();
    watch(&progress.stop_flag())?;
    let first = Operand::open(&args.first, args, &progress)?;
    let second = Operand::open(&args.second, args, &progress)?;
    let closure = |operand: &Operand| match operand {
        Operand::Closure(closure) => Some(closure.place().to_owned()),
        _ => None,
    };
    let (first, second) = match (closure(&first), closure(&second)) {
        (Some(place), _) => (first, second.with_store_at(&place)),
        (_, Some(place)) => (first.with_store_at(&place), second),
        _ => (first, second),
    };
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
            let (one, other) = (first.tree(&second)?, second.tree(&first)?);
            trees(side(&first, one.as_ref())?, side(&second, other.as_ref())?, "", &options, &mut each)?
        }
    };
    rows.end()?;
    Ok(equal)
}
