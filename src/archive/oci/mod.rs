//! Images of containers: the OCI image layout (OCI image specification 1.1, image-layout.md), as a directory or a tar, and
//! what `docker save` writes. Every blob that is read is compared with its digest, and every layer also with the digest of
//! its decompressed bytes that the configuration has.

mod docker;
mod layout;

use std::path::{Path, PathBuf};

use super::digest::{Checked, Digest};
use super::input::{Bytestream, read_small};
use super::{Archive, Format, Place, Read, Reading, damaged, whole};
use crate::error::{Error, Kind, Result};
use crate::image::Slice;
use crate::tree::layers::{Layers, Member};

/// The most bytes of an index, manifest or configuration. Registries refuse manifests above 4 MiB (OCI distribution
/// specification, "Pushing Manifests").
const LARGEST_JSON: u64 = 4 << 20;

/// A layer: where it is, and the digests it is to have.
struct Layer {
    name: String,
    bytes: Slice,
    checked: Checked,
}

/// Where the blobs of an image are.
enum Blobs {
    Folder(PathBuf),
    /// The members of an archive: nothing else can be asked for.
    Members(Layers),
}

impl Blobs {
    /// The bytes of the file `name`, if it is there.
    fn get(&self, name: &str) -> Result<Option<Slice>> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(name);
                if path.symlink_metadata().is_ok() { whole(&path, "a blob").map(Some) } else { Ok(None) }
            }
            Self::Members(members) => members.file(name.as_bytes()),
        }
    }

    fn need(&self, name: &str, what: &str) -> Result<Slice> {
        self.get(name)?.ok_or_else(|| {
            Error::new(Kind::Source, format!("{what} is missing from the image")).expected(name).hint(
                "get the whole image: one that was pulled for another platform lacks the blobs of this one",
            )
        })
    }

    /// The bytes of the blob with this digest, compared with it.
    fn json(&self, digest: &str, what: &str) -> Result<Vec<u8>> {
        let digest = Digest::parse(digest)?;
        let bytes = read_small(&self.need(&digest.blob(), what)?, LARGEST_JSON, what)?;
        digest.check(&bytes, what)?;
        Ok(bytes)
    }
}

/// Reads an image.
pub(super) fn read(
    reading: &Reading<'_>,
    archive: &Archive,
    image: Option<&str>,
    platform: Option<&str>,
) -> Result<Read> {
    let blobs = match &archive.place {
        Place::Path(path) if path.is_dir() => Blobs::Folder(path.clone()),
        place => {
            let mut members = Layers::default();
            let opened = reading.open(place)?;
            let _ = reading.members(opened, &Format::Tar, &mut members, |member, all| all.insert(member))?;
            Blobs::Members(members)
        }
    };
    let wanted = Wanted { image, platform };
    let layers = match (blobs.get("index.json")?, blobs.get("manifest.json")?) {
        (Some(index), _) => layout::layers(&blobs, &index, &wanted)?,
        (None, Some(manifest)) => docker::layers(&blobs, &manifest, &wanted)?,
        (None, None) => {
            return Err(damaged("the source is not an image of a container")
                .expected("index.json of an OCI image layout, or manifest.json of docker save"));
        }
    };
    let mut all = Layers::default();
    let mut warnings = Vec::new();
    for Layer { name, bytes, checked } in layers {
        all.next_layer();
        let laid = reading.members(Bytestream::Checked(bytes, checked), &Format::Tar, &mut all, lay);
        let remarks = laid.map_err(|error| error.at(reading.name.join(&name)))?;
        warnings.extend(remarks.warnings(Path::new(&name)));
    }
    Ok(Read { layers: all, warnings })
}

/// Which image is wanted, where there are several.
struct Wanted<'a> {
    image: Option<&'a str>,
    platform: Option<&'a str>,
}

/// Puts a member of a layer over those below it: `.wh.NAME` takes NAME away, `.wh..wh..opq` all that lower layers have in
/// its directory (OCI image specification, layer.md, "Whiteouts").
fn lay(member: Member, layers: &mut Layers) -> Result<()> {
    let path = member.path.strip_suffix(b"/").unwrap_or(&member.path);
    let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => path.split_at(at + 1),
        None => (&[][..], path),
    };
    match name.strip_prefix(b".wh.") {
        None => layers.insert(member),
        Some(b".wh..opq") => layers.make_opaque(above),
        // What aufs keeps for itself.
        Some(own) if own.starts_with(b".wh.") => Ok(()),
        Some(b"" | b"." | b"..") => {
            Err(damaged("a layer takes away what has no name").found(crate::text::printable(&member.path)))
        }
        Some(gone) => layers.white_out(&[above, gone].concat()),
    }
}

/// Reads JSON. It shows nothing of what it could not read.
fn parse<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        Error::new(Kind::Source, format!("{what} cannot be read"))
            .expected("what the OCI image specification says")
            .found(format!("line {}, column {}", error.line(), error.column()))
    })
}

/// The digests of the decompressed layers, from the configuration of an image, which tells its platform too.
fn content_digests(config: &[u8], layers: usize, wanted: &Wanted<'_>) -> Result<Vec<Digest>> {
    #[derive(serde::Deserialize)]
    struct Config {
        #[serde(flatten)]
        platform: Option<layout::Platform>,
        rootfs: Root,
    }
    #[derive(serde::Deserialize)]
    struct Root {
        diff_ids: Vec<String>,
    }
    let config: Config = parse(config, "the configuration of the image")?;
    if let (Some(own), Some(wanted)) = (&config.platform, wanted.platform)
        && !own.may_be(wanted)
    {
        return Err(damaged("the image is for another platform")
            .expected(crate::values::shown(wanted))
            .found(crate::values::shown(&own.text())));
    }
    let digests = config.rootfs.diff_ids;
    if digests.len() != layers {
        return Err(damaged("the configuration of the image is not about its layers")
            .expected(format!("{layers} layers"))
            .found(digests.len()));
    }
    digests.iter().map(|digest| Digest::parse(digest)).collect()
}

/// A list of names, for an error.
fn list(names: impl IntoIterator<Item = String>) -> String {
    const SHOWN: usize = 8;
    let mut names = names.into_iter();
    let shown: Vec<String> =
        names.by_ref().take(SHOWN).map(|name| crate::text::shortened(name.as_bytes(), 100)).collect();
    let more = match names.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", shown.join(", "))
}
