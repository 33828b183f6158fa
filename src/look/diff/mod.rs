//! What differs between two images, two filesystems, or a filesystem and a folder of the host.
//!
//! Names, metadata and bytes of files are compared first, and then the bytes of everything. So two images that differ in
//! nothing that a reader sees are told apart too, with the structure that differs first.

mod bytes;
mod closure;
mod disk;
mod listing;

use std::fmt;
use std::path::Path;

use serde::Serialize;

pub use closure::StorePaths;
pub use disk::media;

use super::find::Item;
use super::list::{kind, time};
use super::walk::unless_placed;
use crate::error::Result;
use crate::filesystem::{Content, Volume};
use crate::progress::Progress;
use crate::text::printable;
use bytes::Comparer;
use listing::{File, Listing};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Where: `disk`, `table`, `partition 2`, and the path of a file.
    pub place: String,
    /// What differs: `mode`, `content`, `name`.
    pub what: String,
    /// How it is in the first one; absent if it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// How it is in the second one; absent if it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, what, first, second } = self;
        match (first, second) {
            (Some(first), Some(second)) => write!(f, "{place}: {what}: {first} -> {second}"),
            (Some(first), None) => write!(f, "{place}: {what} only in the first: {first}"),
            (None, Some(second)) => write!(f, "{place}: {what} only in the second: {second}"),
            (None, None) => write!(f, "{place}: {what}"),
        }
    }
}

/// Hears of each difference.
type Each<'a> = &'a mut dyn FnMut(Difference) -> Result<()>;

/// How things are compared.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Whether the bytes that differ first are shown.
    pub content: bool,
    /// Whether to stop.
    pub progress: &'a Progress,
}

/// A tree of files.
#[derive(Clone, Copy, Debug)]
pub enum Side<'a> {
    /// What is below an item of a volume.
    Volume(&'a dyn Volume, &'a Item),
    /// A folder of the host.
    Folder(&'a Path),
    /// The store paths of a closure. Their metadata are those of every Nix store, whatever this machine has.
    Closure(&'a StorePaths),
}

/// Something is in one place only, or differs there.
fn note(
    place: &str,
    what: &str,
    first: Option<String>,
    second: Option<String>,
    each: Each<'_>,
) -> Result<()> {
    if first == second {
        return Ok(());
    }
    each(Difference { place: place.to_owned(), what: what.to_owned(), first, second })
}

/// Compares two trees. `prefix` begins the place of each difference. Returns whether they are equal.
///
/// # Errors
/// Where something cannot be read, and any error of `each`.
pub fn trees(
    first: Side<'_>,
    second: Side<'_>,
    prefix: &str,
    options: &Options<'_>,
    each: Each<'_>,
) -> Result<bool> {
    let folder = matches!(first, Side::Folder(_)) || matches!(second, Side::Folder(_));
    let store = matches!(first, Side::Closure(_)) || matches!(second, Side::Closure(_));
    let (mut first, mut second) =
        (Listing::of(first, options.progress)?, Listing::of(second, options.progress)?);
    if folder {
        first.only_kept_attributes();
        second.only_kept_attributes();
    }
    if store {
        first.only_store_paths();
        second.only_store_paths();
    }
    let mut work = Work { comparer: Comparer::default(), options, first: &first, second: &second };
    let mut equal = true;
    let mut each = |difference| {
        equal = false;
        each(difference)
    };
    for (path, file) in &first.files {
        options.progress.check()?;
        let place = place(prefix, path);
        match second.files.get(path) {
            Some(other) => work.files(&place, file, other, &mut each)?,
            None => note(&place, "name", Some(kind(&file.content).to_owned()), None, &mut each)?,
        }
    }
    for (path, file) in second.files.iter().filter(|(path, _)| !first.files.contains_key(*path)) {
        note(&place(prefix, path), "name", None, Some(kind(&file.content).to_owned()), &mut each)?;
    }
    Ok(equal)
}

/// The path of a listing, which has NUL in place of each slash, so that it is sorted by names.
fn place(prefix: &str, path: &[u8]) -> String {
    let path: Vec<u8> = path.iter().map(|byte| if *byte == 0 { b'/' } else { *byte }).collect();
    format!("{prefix}/{}", printable(&path))
}

struct Work<'a> {
    comparer: Comparer,
    options: &'a Options<'a>,
    first: &'a Listing<'a>,
    second: &'a Listing<'a>,
}

impl Work<'_> {
    /// Compares two files of one name.
    fn files(&mut self, place: &str, first: &File, second: &File, each: Each<'_>) -> Result<()> {
        let mut compare =
            |what: &str, one: String, other: String| note(place, what, Some(one), Some(other), each);
        let (kind_of_first, kind_of_second) = (kind(&first.content), kind(&second.content));
        compare("type", kind_of_first.to_owned(), kind_of_second.to_owned())?;
        compare("mode", format!("{:04o}", first.mode), format!("{:04o}", second.mode))?;
        compare("owner", format!("{}:{}", first.uid, first.gid), format!("{}:{}", second.uid, second.gid))?;
        compare("time", time(first.mtime), time(second.mtime))?;
        let links =
            |file: &File| file.first.as_deref().map_or_else(String::new, |path| super::diff::place("", path));
        compare("hard link to", links(first), links(second))?;
        if first.xattrs != second.xattrs {
            let shown = |file: &File| {
                let all = file.xattrs.iter();
                let all = all
                    .map(|own| format!("{}={}", printable(&own.name), super::capability::value(&own.value)));
                all.collect::<Vec<_>>().join(" ")
            };
            compare("attributes", shown(first), shown(second))?;
        }
        match (&first.content, &second.content) {
            (Content::Symlink { target }, Content::Symlink { target: other }) => {
                compare("target", printable(target), printable(other))
            }
            (Content::CharacterDevice(one), Content::CharacterDevice(other))
            | (Content::BlockDevice(one), Content::BlockDevice(other)) => {
                compare("device", format!("{}:{}", one.0, one.1), format!("{}:{}", other.0, other.1))
            }
            (Content::File { size }, Content::File { size: other }) if size != other => {
                compare("size", size.get().to_string(), other.get().to_string())
            }
            (Content::File { .. }, Content::File { .. }) => {
                let placed = |error| unless_placed(error, |error| error.at(place));
                let data = |listing: &Listing<'_>, file| listing.data(file).map_err(placed);
                let (one, other) = (data(self.first, first)?, data(self.second, second)?);
                let differs = self.comparer.first_difference(&one, &other, self.options.progress);
                let Some(at) = differs.map_err(placed)? else { return Ok(()) };
                let what = format!("content from byte {at}");
                if !self.options.content {
                    return each(Difference { place: place.to_owned(), what, first: None, second: None });
                }
                let (one, other) = (bytes::shown(&one, at)?, bytes::shown(&other, at)?);
                each(Difference { place: place.to_owned(), what, first: Some(one), second: Some(other) })
            }
            _ => Ok(()),
        }
    }
}
