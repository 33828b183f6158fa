//! A host file that becomes the bytes of a partition, or of a file that is put together from several.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Range, Time};
use crate::error::{Error, Kind, Result};
use crate::host;
use crate::image::{Builder, Files, HostFile, Image};
use crate::units::Bytes;

/// A host file that is taken over byte by byte.
#[derive(Debug)]
pub(crate) struct Ready {
    /// The path as it was given.
    given: PathBuf,
    /// The path with links resolved.
    path: PathBuf,
    size: u64,
    time: Time,
    /// Where it has data; `None` if it has no holes.
    ranges: Option<Vec<Range>>,
}

impl Ready {
    /// Looks at the file `path`; `what` is what it is called in errors.
    pub(crate) fn look(path: &Path, what: &str) -> Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let failed = |error: std::io::Error| {
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            let what = if missing { "the source does not exist" } else { "cannot read the source" };
            Error::io(Kind::Source, what, path, error)
        };
        let real = path.canonicalize().map_err(failed)?;
        let meta = std::fs::metadata(&real).map_err(failed)?;
        if !meta.is_file() || meta.len() == 0 {
            let hidden = meta.is_file()
                && std::fs::File::open(&real).and_then(|file| host::hides_content(&file)).map_err(failed)?;
            let (found, hint) = match meta.is_file() {
                true if hidden => ("a file that says it is empty, and has content", Some(host::COPY_IT)),
                true => ("an empty file", None),
                false => (host::kind_of(meta.file_type()), None),
            };
            return Err(Error::new(Kind::Source, format!("{what} is a file that holds something"))
                .at(path)
                .found(found)
                .or_hint(hint));
        }
        let nanoseconds = u32::try_from(meta.mtime_nsec()).unwrap_or(0);
        Ok(Self {
            size: meta.len(),
            time: Time { seconds: meta.mtime(), nanoseconds },
            ranges: super::data_ranges(&real, meta.len())?,
            path: real,
            given: path.to_owned(),
        })
    }

    /// Its bytes, for a partition of `length`.
    pub(crate) fn image(self: &Arc<Self>, length: Bytes) -> Result<Image> {
        let size = Bytes::new(self.size);
        if let Some(missing) = size.checked_sub(length).filter(|missing| *missing > Bytes::ZERO) {
            return Err(Error::new(Kind::Capacity, "the image does not fit its partition")
                .at(&self.given)
                .expected(format!("at most {}", length.in_full()))
                .found(format!("{}, {} too much", size.in_full(), missing.human()))
                .hint(format!("a partition of {} holds it", size.to_write())));
        }
        let mut image = Builder::new(size);
        let files = image.files(Arc::<Self>::clone(self));
        let whole = [Range { start: 0, length: self.size }];
        for range in self.ranges.as_deref().unwrap_or(&whole) {
            image.file(Bytes::new(range.start), Bytes::new(range.length), files, 0, range.start);
        }
        image.finish()
    }

    /// Its length.
    pub(crate) const fn size(&self) -> Bytes {
        Bytes::new(self.size)
    }
}

impl Files for Ready {
    fn file(&self, _: u32) -> Result<HostFile<'_>> {
        let stamp = host::stamp(self.time.seconds, self.time.nanoseconds);
        Ok(HostFile { path: Cow::Borrowed(&self.path), size: self.size, stamp: Some(stamp) })
    }
}
