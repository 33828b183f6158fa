//! Files that are written together, all or none: a disk and its partitions, two disks of one system, variables of a firmware.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::{Extra, Work, verify};
use crate::container::{Container, Identity, SectorSize};
use crate::error::{Error, Kind, Result};
use crate::image::{Builder, Image, Segment};
use crate::nix::verify::Verification;
use crate::package::compress::sha256;
use crate::package::{Package, bmap};
use crate::pour::output::{Output, alone, is_device, only_raw};
use crate::pour::outputs::Outputs;
use crate::pour::spool::Kept;
use crate::pour::{PourOptions, fill};
use crate::units::{Bytes, MIB, u64_of, usize_of};

/// A file to write.
#[derive(Clone, Debug)]
pub struct OutputFile<'a> {
    path: PathBuf,
    image: Image,
    container: Container,
    identity: Identity,
    package: Option<Package>,
    extra: Extra,
    verification: Option<&'a Verification>,
}

impl<'a> OutputFile<'a> {
    /// The file `path` with a disk in a container.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, image: Image, container: Container, identity: Identity) -> Self {
        Self {
            path: path.into(),
            image,
            container,
            identity,
            package: None,
            extra: Extra::default(),
            verification: None,
        }
    }

    /// The file `path` that has just these bytes: a partition, or something else that is no disk.
    #[must_use]
    pub fn raw(path: impl Into<PathBuf>, image: Image) -> Self {
        let identity = Identity { seed: Uuid::nil(), id: None, time: 0, sector_size: SectorSize::default() };
        Self::new(path, image, Container::Raw, identity)
    }

    /// The same file, whose store paths are compared before it gets its name.
    #[must_use]
    pub fn verified(self, verification: Option<&'a Verification>) -> Self {
        Self { verification, ..self }
    }

    /// The same file, whose container is packed.
    #[must_use]
    pub fn packed(self, package: Option<Package>) -> Self {
        Self { package, ..self }
    }

    /// The same file, with others beside it.
    #[must_use]
    pub fn with(self, extra: Extra) -> Self {
        Self { extra, ..self }
    }

    /// Whether the file has just the bytes of the disk.
    fn is_raw(&self) -> bool {
        self.package.is_none() && self.container == Container::Raw
    }

    /// The names of the files that appear.
    fn names(&self) -> Result<Vec<PathBuf>> {
        let Extra { bmap, sha256, split } = self.extra;
        let whole = match (split, self.package) {
            (Some(_), _) => Vec::new(),
            (None, Some(_)) => vec![self.path.clone()],
            (None, None) => self.container.names(self.image.length(), &self.path)?,
        };
        let parts = split.map(|_| with_suffix(&self.path, "000"));
        let bmap = bmap.then(|| with_suffix(&self.path, "bmap"));
        let sha256 = sha256.then(|| with_suffix(&self.path, "sha256"));
        Ok(whole.into_iter().chain(parts).chain(bmap).chain(sha256).collect())
    }

    /// Writes all that appears for the file, without names.
    fn all_unpublished(&self, work: &Work, outputs: &mut Outputs) -> Result<()> {
        let files = match self.package {
            Some(_) => None,
            None => self.container.files(&self.image, &self.identity, &self.path)?,
        };
        match files {
            Some(files) => self.several(files, work, outputs),
            None => self.complete(self.unpublished(work)?, work, outputs),
        }
    }

    /// Writes a disk that lies in several files.
    fn several(&self, files: Vec<(PathBuf, Image)>, work: &Work, outputs: &mut Outputs) -> Result<()> {
        if self.extra.split.is_some() {
            return Err(
                Error::new(Kind::Usage, "a vmdk of several files is not cut once more").about("split")
            );
        }
        // A descriptor without names cannot be read back, so store paths are compared before.
        if let Some(verification) = self.verification {
            verify(verification, &self.image, work)?;
        }
        let (bytes, count) = self.image.file_data();
        work.progress.begin(bytes, count);
        let mut digests = Vec::new();
        for (path, image) in files {
            let output = Output::create(&path)?;
            fill(&image, &output, &PourOptions::new(work.jobs, &work.progress))?;
            if self.extra.sha256 {
                digests.append(&mut digest_line(&output, &path, work)?);
            }
            outputs.push(output)?;
        }
        if self.extra.sha256 {
            outputs.push(self.small("sha256", &digests)?)?;
        }
        Ok(())
    }

    /// A small file beside this one, without its name.
    fn small(&self, suffix: &str, text: &[u8]) -> Result<Output> {
        let output = Output::create(&with_suffix(&self.path, suffix))?;
        output.write_at(text, 0)?;
        output.set_length(u64_of(text.len()))?;
        Ok(output)
    }

    /// Writes what stands beside the file, which is written.
    fn complete(&self, written: Output, work: &Work, outputs: &mut Outputs) -> Result<()> {
        if self.extra.bmap {
            let options = PourOptions::new(work.jobs, &work.progress);
            outputs.push(self.small("bmap", bmap::of(&self.image, &options)?.as_bytes())?)?;
        }
        if self.extra.sha256 {
            outputs.push(self.small("sha256", &digest_line(&written, &self.path, work)?)?)?;
        }
        match self.extra.split {
            None => outputs.push(written),
            Some(most) => split(&written, &self.path, most, work, outputs),
        }
    }

    /// Refuses a device that cannot hold the disk.
    fn check_device(&self, device: &Output) -> Result<()> {
        if !self.is_raw() {
            let form =
                self.package.map_or(self.container.format().to_string(), |package| package.to_string());
            return Err(only_raw(&self.path, form));
        }
        device.set_length(self.image.length().get())
    }

    /// Writes the file, without its name.
    fn unpublished(&self, work: &Work) -> Result<Output> {
        let (bytes, files) = self.image.file_data();
        work.progress.begin(bytes, files);
        let options = PourOptions::new(work.jobs, &work.progress);
        if let Some(package) = self.package {
            // What is packed cannot be read back, so store paths are compared before.
            if let Some(verification) = self.verification {
                verify(verification, &self.image, work)?;
            }
            let stem = self.path.file_name().and_then(|name| name.to_str()).unwrap_or("disk");
            let name = stem.split('.').next().filter(|name| !name.is_empty()).unwrap_or("disk");
            return package.unpublished(&self.image, (&self.identity, name), &self.path, &work.packer());
        }
        let output = self.container.unpublished(&self.image, &self.identity, &self.path, &options)?;
        if let Some(verification) = self.verification {
            verify(verification, &self.container.read_back(&output)?, work)?;
        }
        Ok(output)
    }
}

/// Writes files that belong together. They get their names when all of them are complete.
///
/// # Errors
/// As [`Container::write`] and [`Outputs::publish`]; [`Kind::Usage`] where two have one name, or one is what another is made
/// from; as [`Verification::run`] where store paths are compared. In every case nothing is left behind, and every name leads
/// to what it led to before.
pub fn write(files: &[OutputFile<'_>], work: &Work) -> Result<()> {
    // What cannot be written, and two of one name, are told before the work and not after it.
    let mut names = Outputs::new();
    for file in files {
        if file.extra.split.is_some() {
            if is_device(&file.path) {
                return Err(alone(&file.path).about("split"));
            }
            // Each of them may be replaced or removed.
            let mut older = parts(&file.path, 0).filter(|part| part.symlink_metadata().is_ok());
            older.try_for_each(|part| files.iter().try_for_each(|other| spare(&part, &other.image)))?;
        }
        for name in file.names()? {
            let output = Output::open(&name)?;
            if output.device().is_some() {
                file.check_device(&output)?;
            }
            names.push(output)?;
            files.iter().try_for_each(|other| spare(&name, &other.image))?;
        }
    }
    names.check_devices()?;
    drop(names);
    let mut outputs = Outputs::new();
    let mut left: Vec<&OutputFile<'_>> = files.iter().collect();
    while let Some(first) = left.first().copied() {
        let (same, others): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|file| file.image.is_same(&first.image));
        all_of_one(&same, work, &mut outputs)?;
        left = others;
    }
    outputs.publish()
}

/// Writes files with the same disk. Its sources are read once: where there are several files, all but a raw one are made from
/// that raw one, or else from a raw file that never gets a name.
fn all_of_one(files: &[&OutputFile<'_>], work: &Work, outputs: &mut Outputs) -> Result<()> {
    let (first, others) = match files {
        [] => return Ok(()),
        [only] => return only.all_unpublished(work, outputs),
        several => {
            let raw = several.iter().position(|file| file.is_raw());
            let others = several.iter().enumerate().filter(move |(number, _)| Some(*number) != raw);
            (raw.and_then(|raw| several.get(raw)), others.map(|(_, file)| *file))
        }
    };
    let image = &files[0].image;
    let written = match first {
        Some(first) => first.unpublished(work)?,
        None => {
            let (bytes, count) = image.file_data();
            work.progress.begin(bytes, count);
            let output = Output::create(&files[0].path)?;
            fill(image, &output, &PourOptions::new(work.jobs, &work.progress))?;
            output
        }
    };
    let copy = rehosted(image, &written)?;
    if let Some(first) = first {
        first.complete(written, work, outputs)?;
    }
    for file in others {
        OutputFile { image: copy.clone(), ..file.clone() }.all_unpublished(work, outputs)?;
    }
    Ok(())
}

/// The image whose bytes were written to `output`, over that file: the same holes, and no source is read any more.
pub(crate) fn rehosted(image: &Image, output: &Output) -> Result<Image> {
    let file = output.file().try_clone().map_err(|error| output.failed(error))?;
    let kept = Kept::new(file, crate::text::printable_path(output.target()), image.length().get());
    let mut copy = Builder::new(image.length());
    let files = copy.files(Arc::new(kept));
    for segment in image.segments() {
        copy.file(segment.offset, segment.length, files, 0, segment.offset.get());
    }
    copy.finish()
}

/// A line as sha256sum(1) writes it: the digest, two spaces, the name.
fn digest_line(output: &Output, path: &Path, work: &Work) -> Result<Vec<u8>> {
    let digest = sha256(output.file(), || work.progress.check())?;
    Ok(line_of(&digest, last_part(path)?))
}

/// The line of a digest. A name that would end the line, or has the character that marks such a name, is escaped, and the
/// line begins with that character (sha256sum(1)).
fn line_of(digest: &str, name: &OsStr) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    let mut escaped = Vec::new();
    for byte in name.as_bytes() {
        match byte {
            b'\\' => escaped.extend_from_slice(br"\\"),
            b'\n' => escaped.extend_from_slice(br"\n"),
            b'\r' => escaped.extend_from_slice(br"\r"),
            other => escaped.push(*other),
        }
    }
    let mark: &[u8] = if escaped == name.as_bytes() { b"" } else { br"\" };
    [mark, digest.as_bytes(), b"  ", &escaped, b"\n"].concat()
}

/// The last part of a path to something in a folder.
pub(super) fn last_part(path: &Path) -> Result<&OsStr> {
    path.file_name().ok_or_else(|| Error::bug("a path has no name").at(path))
}

/// `path` with a suffix behind its whole name.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// The most parts: all that have numbers of three digits. A process may have 1024 files open by default (getrlimit(2)).
const MOST_PARTS: u64 = 1000;

/// Cuts an output into parts of at most `most` bytes, with numbers of three digits behind its name, as `split -d -a 3` does.
fn split(whole: &Output, path: &Path, most: Bytes, work: &Work, outputs: &mut Outputs) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let failed = |error: std::io::Error| Error::io(Kind::Output, "cannot read the output back", path, error);
    let length = whole.file().metadata().map_err(failed)?.len();
    let least = Bytes::new(length.div_ceil(MOST_PARTS));
    if most < least {
        return Err(Error::new(Kind::Usage, "the output has too many parts")
            .at(path)
            .expected(format!("at most {MOST_PARTS}, so parts of at least {}", least.in_full()))
            .found(format!("parts of {}", most.in_full())));
    }
    let mut buffer = vec![0; usize_of(MIB)];
    let (mut number, mut start) = (0, 0);
    while start < length || number == 0 {
        let end = length.min(start.saturating_add(most.get().max(1)));
        let part = Output::create(&part(path, number))?;
        let mut at = start;
        while at < end {
            work.progress.check()?;
            let piece = &mut buffer[..usize_of((end - at).min(MIB))];
            whole.file().read_exact_at(piece, at).map_err(failed)?;
            // Holes stay holes.
            if piece.iter().any(|byte| *byte != 0) {
                part.write_at(piece, at - start)?;
            }
            at += u64_of(piece.len());
        }
        part.set_length(end - start)?;
        outputs.push(part)?;
        (number, start) = (number + 1, end);
    }
    older_parts(path, number)?.into_iter().for_each(|part| outputs.remove(part));
    Ok(())
}

/// Part `number` of the file `path`.
fn part(path: &Path, number: u64) -> PathBuf {
    with_suffix(path, &format!("{number:03}"))
}

/// The names of all parts from number `first` on.
fn parts(path: &Path, first: u64) -> impl Iterator<Item = PathBuf> {
    (first..MOST_PARTS).map(move |number| part(path, number))
}

/// The parts of an earlier output of this name from number `first` on. They have to go: what joins the parts by their numbers
/// would join them too.
///
/// # Errors
/// [`Kind::Output`] for what has the name of a part and is none: it is no file, or does not follow the last part.
fn older_parts(path: &Path, first: u64) -> Result<Vec<PathBuf>> {
    let is_file = |part: &PathBuf| part.symlink_metadata().is_ok_and(|meta| meta.is_file());
    let older: Vec<PathBuf> = parts(path, first).take_while(is_file).collect();
    let stray = parts(path, first).skip(older.len()).find(|part| part.symlink_metadata().is_ok());
    match stray {
        None => Ok(older),
        Some(stray) => {
            Err(Error::new(Kind::Output, "something else has the name of a further part of the output")
                .at(stray)
                .why("what joins the parts by their numbers would take it for one of them")
                .hint("remove it, or name the output otherwise"))
        }
    }
}

/// Refuses an output that would take the place of a source of `image`.
fn spare(path: &Path, image: &Image) -> Result<()> {
    let (Ok(real), Ok(meta)) = (path.canonicalize(), path.metadata()) else { return Ok(()) };
    let length = if is_device(path) { None } else { Some(meta.len()) };
    // Few files have the length and the name of the output, so few are asked where they really are.
    let own = |segment: &Segment| -> Result<bool> {
        let size = image.host_file_size(segment)?;
        let alike = size.is_some() && (length.is_none() || size == length);
        let file = if alike { image.host_file(segment)? } else { None };
        // What is not checked for change has no name: a spool, whose label is no path.
        Ok(file
            .filter(|file| file.stamp.is_some() && file.path.file_name() == real.file_name())
            .is_some_and(|file| file.path.canonicalize().is_ok_and(|source| source == real)))
    };
    for segment in image.segments() {
        if !own(segment)? {
            continue;
        }
        return Err(Error::new(Kind::Usage, "the output is one of its own sources")
            .at(path)
            .hint("write it elsewhere, or leave it out of the contents"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_end_its_line_is_escaped() {
        use std::os::unix::ffi::OsStrExt;
        for (name, line) in [
            (&b"a b.img"[..], &b"12  a b.img\n"[..]),
            (b"n\xff.img", b"12  n\xff.img\n"),
            (b"a\nb\\c\rd", b"\\12  a\\nb\\\\c\\rd\n"),
        ] {
            assert_eq!(line_of("12", OsStr::from_bytes(name)), line);
        }
    }

    #[test]
    fn a_path_without_a_name_is_a_bug_and_no_empty_name() {
        assert_eq!(last_part(Path::new("a/b.img")).unwrap(), "b.img");
        for path in ["/", "a/..", ""] {
            let error = last_part(Path::new(path)).unwrap_err();
            assert_eq!((error.kind(), error.what()), (Kind::Bug, "a path has no name"));
        }
    }
}
