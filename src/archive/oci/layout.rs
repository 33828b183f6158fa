//! The OCI image layout: `index.json` names manifests, and those name layers, by digest.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use serde::Deserialize;

use super::super::damaged;
use super::super::digest::{Checked, Digest};
use super::super::input::read_small;
use super::{Blobs, LARGEST_JSON, Layer, Wanted, content_digests, list, parse};
use crate::error::Result;
use crate::image::Slice;
use crate::option::option;
use crate::units::{Bytes, u64_of};

/// How deep an index may lie in others.
const DEEPEST: u32 = 4;
/// The most bytes of the indexes, manifests and configurations that are read to find an image. The largest in use are some dozens of a few KiB.
const MOST_BYTES: u64 = 16 << 20;

/// What annotations name an image (OCI image specification, annotations.md; containerd writes the second).
const NAMES: [&str; 2] = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];

/// A descriptor, as far as it is read.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    platform: Option<Platform>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Platform {
    architecture: String,
    os: String,
    variant: Option<String>,
}

/// An index or a manifest: they are told apart by what they have.
#[derive(Debug, Deserialize)]
struct Document {
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

impl Descriptor {
    fn names(&self) -> impl Iterator<Item = &str> {
        NAMES.iter().filter_map(|name| self.annotations.get(*name)).map(String::as_str)
    }

    fn is_named(&self, wanted: &str) -> bool {
        // A tag alone may stand for a name that ends with it.
        let tag = |name: &str| name.rsplit_once(':').is_some_and(|(_, tag)| tag == wanted);
        self.digest == wanted || self.names().any(|name| name == wanted || tag(name))
    }

    /// Whether it is about another manifest, and no image: an attestation of BuildKit.
    fn is_remark(&self) -> bool {
        self.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
    }

    /// Whether it may lead to an index.
    fn may_be_index(&self) -> bool {
        self.media_type.is_empty()
            || self.media_type.contains("image.index")
            || self.media_type.contains("manifest.list")
    }

    /// Whether it may be the manifest of an image.
    fn may_be_image(&self) -> bool {
        self.media_type.is_empty() || self.media_type.contains("manifest.v")
    }

    /// Its bytes, compared with its length and digest.
    fn json(&self, blobs: &Blobs, what: &str) -> Result<Vec<u8>> {
        let bytes = blobs.json(&self.digest, what)?;
        if u64_of(bytes.len()) != self.size {
            return Err(damaged(format!("{what} has another length than the image says"))
                .expected(format!("{} bytes", self.size))
                .found(format!("{} bytes, in {}", bytes.len(), self.digest)));
        }
        Ok(bytes)
    }
}

impl Platform {
    pub(super) fn text(&self) -> String {
        let variant = self.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
        format!("{}/{}{variant}", self.os, self.architecture)
    }

    /// Whether `wanted` may be this platform: a variant that is not told is any.
    pub(super) fn may_be(&self, wanted: &str) -> bool {
        let any = format!("{}/{}/", self.os, self.architecture);
        self.is(wanted) || self.variant.is_none() && wanted.starts_with(&any)
    }

    /// Whether `wanted` is this platform; without a variant it is any of them.
    fn is(&self, wanted: &str) -> bool {
        self.text() == wanted || format!("{}/{}", self.os, self.architecture) == wanted
    }
}

/// An image that may be the one that is wanted.
#[derive(Debug)]
struct Candidate {
    descriptor: Descriptor,
    /// Whether it, or an index above it, has the name that is wanted.
    named: bool,
    /// Its own platform, or that of the next index above it.
    platform: Option<Rc<Platform>>,
}

/// The layers of the image that is wanted, the lowest first.
pub(super) fn layers(blobs: &Blobs, index: &Slice, wanted: &Wanted<'_>) -> Result<Vec<Layer>> {
    let bytes = read_small(index, LARGEST_JSON, "the index of the image")?;
    let document: Document = parse(&bytes, "the index of the image")?;
    let Some(manifests) = document.manifests else { return of_manifest(blobs, document, wanted) };
    let mut search = Search { blobs, wanted, found: Vec::new(), left: MOST_BYTES };
    search.below(manifests, (wanted.image.is_none(), None), DEEPEST)?;
    let chosen = search.choose()?;
    let manifest = parse(&chosen.json(blobs, "the manifest of the image")?, "the manifest of the image")?;
    of_manifest(blobs, manifest, wanted)
}

/// The search for an image through indexes in indexes. What is there for other images may be missing.
struct Search<'a> {
    blobs: &'a Blobs,
    wanted: &'a Wanted<'a>,
    found: Vec<Candidate>,
    /// How many bytes of documents may yet be read: a stranger's indexes must not be read for ever.
    left: u64,
}

impl Search<'_> {
    /// Adds what an index has, that has a name and a platform from above it.
    fn below(
        &mut self,
        manifests: Vec<Descriptor>,
        (named, platform): (bool, Option<&Rc<Platform>>),
        depth: u32,
    ) -> Result<()> {
        if depth == 0 {
            return Err(damaged("the index of the image leads to other indexes without an end"));
        }
        for mut descriptor in manifests.into_iter().filter(|descriptor| !descriptor.is_remark()) {
            let named = named || self.wanted.image.is_some_and(|name| descriptor.is_named(name));
            let platform = descriptor.platform.take().map(Rc::new).or_else(|| platform.cloned());
            let inner = match descriptor.may_be_index() {
                false => None,
                true => match self.document(&descriptor) {
                    // Only what is wanted has to be sound.
                    Err(_) if !named => continue,
                    read => read?,
                },
            };
            match inner.and_then(|inner| inner.manifests) {
                Some(manifests) => self.below(manifests, (named, platform.as_ref()), depth - 1)?,
                None if descriptor.may_be_image() => {
                    self.found.push(Candidate { descriptor, named, platform });
                }
                // What else an index may list is passed over (OCI image specification, image-index.md, "manifests").
                None => {}
            }
        }
        Ok(())
    }

    /// The index or manifest that `descriptor` leads to, if that is there.
    fn document(&mut self, descriptor: &Descriptor) -> Result<Option<Document>> {
        let what = "the manifest of the image";
        self.read(descriptor, what)?.map(|bytes| parse(&bytes, what)).transpose()
    }

    /// What `descriptor` leads to, if that is there.
    fn read(&mut self, descriptor: &Descriptor, what: &str) -> Result<Option<Vec<u8>>> {
        let Some(blob) = self.blobs.get(&Digest::parse(&descriptor.digest)?.blob())? else { return Ok(None) };
        // What is longer is refused unread.
        let length = blob.length().get().min(LARGEST_JSON);
        self.left = self.left.checked_sub(length).ok_or_else(|| {
            damaged("the indexes of the image are too large").expected(Bytes::new(MOST_BYTES).in_full())
        })?;
        descriptor.json(self.blobs, what).map(Some)
    }

    /// The one image that is wanted.
    fn choose(mut self) -> Result<Descriptor> {
        let (name, platform) = (self.wanted.image, self.wanted.platform);
        let found = std::mem::take(&mut self.found);
        let fits = |candidate: &Candidate| match (&candidate.platform, platform) {
            (Some(own), Some(wanted)) => own.is(wanted),
            _ => true,
        };
        // The same manifest under two names is one.
        let mut known = HashSet::new();
        let is_wanted = |candidate: &&Candidate| candidate.named && fits(candidate);
        let mut left: Vec<&Candidate> = found.iter().filter(is_wanted).collect();
        left.retain(|candidate| known.insert(candidate.descriptor.digest.as_str()));
        // What no index says of its platform, its configuration does.
        if let Some(wanted) = platform.filter(|_| left.len() > 1) {
            let mut fitting = Vec::new();
            for candidate in left {
                let own = match candidate.platform.is_some() {
                    true => None,
                    false => self.own_platform(&candidate.descriptor)?,
                };
                if own.is_none_or(|own| own.may_be(wanted)) {
                    fitting.push(candidate);
                }
            }
            left = fitting;
        }
        match left.as_slice() {
            [chosen] => Ok(chosen.descriptor.clone()),
            [] => {
                Err(damaged("there is no such image").expected(describe(name, platform)).found(shown(&found)))
            }
            _ => Err(damaged("there are several images")
                .expected("one, or the name, the digest or the platform of one")
                .found(shown(&found))
                .hint(format!(
                    "name it with {}, or its platform, such as linux/arm64, with {}",
                    option("image"),
                    option("platform")
                ))),
        }
    }

    /// The platform that the configuration of an image has, where all that is there.
    fn own_platform(&mut self, descriptor: &Descriptor) -> Result<Option<Platform>> {
        #[derive(Deserialize)]
        struct Config {
            #[serde(flatten)]
            platform: Option<Platform>,
        }
        let Some(config) = self.document(descriptor)?.and_then(|manifest| manifest.config) else {
            return Ok(None);
        };
        let what = "the configuration of the image";
        let Some(bytes) = self.read(&config, what)? else { return Ok(None) };
        let config: Config = parse(&bytes, what)?;
        Ok(config.platform)
    }
}

/// What images are called in an error.
fn shown(found: &[Candidate]) -> String {
    list(found.iter().map(|candidate| {
        let mut names: Vec<String> = candidate.descriptor.names().map(str::to_owned).collect();
        names.extend(candidate.platform.as_ref().map(|platform| platform.text()));
        if names.is_empty() { candidate.descriptor.digest.clone() } else { names.join(" for ") }
    }))
}

fn describe(name: Option<&str>, platform: Option<&str>) -> String {
    let name =
        name.map_or("an image".to_owned(), |name| format!("an image `{}`", crate::values::shown(name)));
    match platform {
        Some(platform) => format!("{name} for {}", crate::values::shown(platform)),
        None => name,
    }
}

fn of_manifest(blobs: &Blobs, manifest: Document, wanted: &Wanted<'_>) -> Result<Vec<Layer>> {
    let (Some(config), Some(layers)) = (manifest.config, manifest.layers) else {
        return Err(
            damaged("the manifest of the image cannot be read").expected("a configuration and layers")
        );
    };
    let config = config.json(blobs, "the configuration of the image")?;
    let contents = content_digests(&config, layers.len(), wanted)?;
    let layers = layers.into_iter().zip(contents);
    layers.map(|(layer, content)| of_descriptor(blobs, &layer, content)).collect()
}

fn of_descriptor(blobs: &Blobs, layer: &Descriptor, content: Digest) -> Result<Layer> {
    let kind = layer.media_type.as_str();
    if !kind.is_empty() && (!kind.contains(".tar") || kind.contains("encrypted")) {
        return Err(damaged("a layer of the image is not one that is read here")
            .expected("a tar, perhaps compressed")
            .found(crate::text::shortened(kind.as_bytes(), 100)));
    }
    let digest = Digest::parse(&layer.digest)?;
    let name = digest.blob();
    let bytes = blobs.need(&name, "a layer")?;
    if bytes.length().get() != layer.size {
        return Err(damaged("a layer has another length than the image says")
            .expected(format!("{} bytes", layer.size))
            .found(format!("{} bytes, in {name}", bytes.length().get())));
    }
    Ok(Layer { name, bytes, checked: Checked { whole: Some(digest), content: Some(content) } })
}
