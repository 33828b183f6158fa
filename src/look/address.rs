//! The address of a place in an image: `IMAGE[:PARTITION][:/PATH]`.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::text::{printable, printable_path};

/// An image, a partition in it, and a path in that.
///
/// `disk.img`, `disk.img:2`, `disk.img:root`, `disk.img:2:/etc/passwd` and `disk.img:/etc/passwd` are addresses. A path of
/// the host may contain colons: the longest beginning that is a file of the host is the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The file of the image.
    pub image: PathBuf,
    /// The number, label or id of the partition; `None` if the address has none.
    pub partition: Option<String>,
    /// The path in the filesystem, which begins with a slash; `None` if the address has none.
    pub path: Option<Vec<u8>>,
}

impl Address {
    /// Reads an address. It looks at the host to know where the name of the image ends.
    ///
    /// # Errors
    /// [`Kind::Source`] where no beginning of the text is a file, [`Kind::Usage`] for a partition that is not text.
    pub fn parse(text: &OsStr) -> Result<Self> {
        Self::split(text.as_bytes(), |path| path.metadata().is_ok_and(|meta| !meta.is_dir()))
    }

    /// As [`Address::parse`]; `is_image` tells whether a path is a file of the host.
    fn split(text: &[u8], is_image: impl Fn(&Path) -> bool) -> Result<Self> {
        let colons = (0..text.len()).rev().filter(|at| text[*at] == b':');
        for end in std::iter::once(text.len()).chain(colons) {
            let image = Path::new(OsStr::from_bytes(&text[..end]));
            if end > 0 && is_image(image) {
                return Self::of(image, &text[end..]);
            }
        }
        Err(missing(text))
    }

    /// The address of what `rest` names in `image`: nothing, or a colon and more.
    fn of(image: &Path, rest: &[u8]) -> Result<Self> {
        let rest = rest.strip_prefix(b":").unwrap_or(rest);
        let (partition, path) = if rest.starts_with(b"/") {
            (&[][..], Some(rest))
        } else {
            match rest.windows(2).position(|pair| pair == b":/") {
                Some(at) => (&rest[..at], Some(&rest[at + 1..])),
                None => (rest, None),
            }
        };
        let partition = match std::str::from_utf8(partition) {
            Ok("") => None,
            Ok(text) => Some(text.to_owned()),
            Err(_) => {
                return Err(Error::new(Kind::Usage, "the name of a partition is no text")
                    .at(image)
                    .found(printable(partition)));
            }
        };
        Ok(Self { image: image.to_owned(), partition, path: path.map(<[u8]>::to_vec) })
    }

    /// The same with the partition that is named beside the address.
    ///
    /// # Errors
    /// [`Kind::Usage`] where the address names a partition too.
    pub fn in_partition(mut self, partition: Option<String>) -> Result<Self> {
        if let (Some(own), Some(other)) = (&self.partition, &partition) {
            return Err(Error::new(Kind::Usage, "two partitions are named").about("partition").found(
                format!("{} in the address, and {}", printable(own.as_bytes()), printable(other.as_bytes())),
            ));
        }
        self.partition = self.partition.or(partition);
        Ok(self)
    }

    /// The path, or the root where there is none.
    #[must_use]
    pub fn path_or_root(&self) -> &[u8] {
        self.path.as_deref().unwrap_or(b"/")
    }

    /// The same place with another path.
    #[must_use]
    pub fn with_path(&self, path: &[u8]) -> Self {
        Self { path: Some(path.to_vec()), ..self.clone() }
    }

    /// The whole text, for [`Error::at`].
    #[must_use]
    pub fn place(&self) -> PathBuf {
        let mut text = self.image.clone().into_os_string().into_vec();
        for part in [self.partition.as_deref().map(str::as_bytes), self.path.as_deref()].into_iter().flatten()
        {
            text.push(b':');
            text.extend_from_slice(part);
        }
        OsString::from_vec(text).into()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable_path(self.place()))
    }
}

/// The error for an address without an image.
fn missing(text: &[u8]) -> Error {
    let path = Path::new(OsStr::from_bytes(text));
    if path.is_dir() {
        return Error::new(Kind::Source, "this is a folder and no image").at(path);
    }
    let end = text.iter().position(|byte| *byte == b':').unwrap_or(text.len());
    let image = Path::new(OsStr::from_bytes(&text[..end]));
    let error = Error::new(Kind::Source, "there is no such image").at(path);
    if image.is_dir() { error.found(format!("{} is a folder", printable_path(image))) } else { error }
        .expected("IMAGE, IMAGE:PARTITION, IMAGE:/PATH or IMAGE:PARTITION:/PATH")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str, images: &[&str]) -> Result<(String, Option<String>, Option<String>)> {
        let address =
            Address::split(text.as_bytes(), |path| images.iter().any(|image| Path::new(image) == path))?;
        let path = address.path.map(|path| String::from_utf8(path).unwrap());
        Ok((address.image.to_str().unwrap().to_owned(), address.partition, path))
    }

    #[test]
    fn an_address_is_image_partition_and_path() {
        for (text, image, partition, path) in [
            ("a.img", "a.img", "", ""),
            ("a.img:", "a.img", "", ""),
            ("a.img:2", "a.img", "2", ""),
            ("a.img:root", "a.img", "root", ""),
            ("a.img:2:/etc/passwd", "a.img", "2", "/etc/passwd"),
            ("a.img:/etc/passwd", "a.img", "", "/etc/passwd"),
            ("a.img:/", "a.img", "", "/"),
            ("a.img::/etc", "a.img", "", "/etc"),
            // Colons of paths in the image, of labels, and of paths on the host.
            ("a.img:2:/a:/b:c", "a.img", "2", "/a:/b:c"),
            ("a.img:/a:b", "a.img", "", "/a:b"),
            ("a.img:la:bel:/x", "a.img", "la:bel", "/x"),
            ("dir:x/b:2.img", "dir:x/b:2.img", "", ""),
            ("dir:x/b:2.img:1:/f", "dir:x/b:2.img", "1", "/f"),
            // The longest name of a file wins.
            ("twice:2", "twice:2", "", ""),
            ("twice:2:2", "twice:2", "2", ""),
        ] {
            let found = split(text, &["a.img", "dir:x/b:2.img", "twice", "twice:2"]).unwrap();
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            assert_eq!(found, (image.to_owned(), some(partition), some(path)), "{text}");
        }
    }

    #[test]
    fn an_address_without_an_image_is_an_error() {
        for text in ["", ":2", "b.img", "b.img:2:/x"] {
            let error = split(text, &["a.img"]).unwrap_err();
            assert_eq!((error.kind(), error.what()), (Kind::Source, "there is no such image"), "{text}");
        }
        assert_eq!(split("/:2", &[]).unwrap_err().to_string().matches("is a folder").count(), 1);
        assert!(Address::split(b"a:\xff", |path| path == Path::new("a")).is_err());
    }

    #[test]
    fn one_partition_is_named_once() {
        let address = Address::split(b"a:1:/x", |path| path == Path::new("a")).unwrap();
        assert_eq!(address.to_string(), "a:1:/x");
        assert!(address.clone().in_partition(Some("2".to_owned())).is_err());
        let address = Address { partition: None, ..address };
        assert_eq!(address.in_partition(Some("2".to_owned())).unwrap().to_string(), "a:2:/x");
    }
}
