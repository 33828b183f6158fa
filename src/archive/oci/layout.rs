//! The OCI image layout: `index.json` names manifests, and those name layers, by digest.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::damaged;
use super::super::digest::{Checked, Digest};
use super::super::input::read_small;
use super::{Blobs, LARGEST_JSON, Layer, Wanted, content_digests, list, parse};
use crate::error::Result;
use crate::image::Slice;
use crate::option::option;
use crate::units::u64_of;

/// How deep an index may lie in others.
const DEEPEST: u32 = 4;
/// The most images of all indexes together. The largest in use have some dozens.
const MOST_IMAGES: usize = 4096;

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
        !self.media_type.contains("manifest.v")
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

    /// The index or manifest that it leads to, if that is there.
    fn document(&self, blobs: &Blobs) -> Result<Option<Document>> {
        if blobs.get(&Digest::parse(&self.digest)?.blob())?.is_none() {
            return Ok(None);
        }
        parse(&self.json(blobs, "the manifest of the image")?, "the manifest of the image").map(Some)
    }

    /// The platform that the configuration of the image has, where all that is there.
    fn own_platform(&self, blobs: &Blobs) -> Result<Option<Platform>> {
        let Some(config) = self.document(blobs)?.and_then(|manifest| manifest.config) else {
            return Ok(None);
        };
        let what = "the configuration of the image";
        let there = blobs.get(&Digest::parse(&config.digest)?.blob())?;
        there.map(|_| parse(&config.json(blobs, what)?, what)).transpose()
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
    platform: Option<Platform>,
}

/// The layers of the image that is wanted, the lowest first.
pub(super) fn layers(blobs: &Blobs, index: &Slice, wanted: &Wanted<'_>) -> Result<Vec<Layer>> {
    let bytes = read_small(index, LARGEST_JSON, "the index of the image")?;
    let document: Document = parse(&bytes, "the index of the image")?;
    let Some(manifests) = document.manifests else { return of_manifest(blobs, document, wanted) };
    let mut search = Search { blobs, wanted, found: Vec::new(), seen: 0 };
    search.below(manifests, (wanted.image.is_none(), None), DEEPEST)?;
    let chosen = search.choose()?;
    let manifest = parse(&chosen.json(blobs, "the manifest of the image")?, "the manifest of the image")?;
    of_manifest(blobs, manifest, wanted)
}

/// The search for an image through indexes in indexes. What is there for other images may be missing, and is not read.
struct Search<'a> {
    blobs: &'a Blobs,
    wanted: &'a Wanted<'a>,
    found: Vec<Candidate>,
    /// How many indexes and images were seen.
    seen: usize,
}

impl Search<'_> {
    /// Adds what an index has, that has a name and a platform from above it.
    fn below(
        &mut self,
        manifests: Vec<Descriptor>,
        (named, platform): (bool, Option<&Platform>),
        depth: u32,
    ) -> Result<()> {
        if depth == 0 {
            return Err(damaged("the index of the image leads to other indexes without an end"));
        }
        for descriptor in manifests.into_iter().filter(|descriptor| !descriptor.is_remark()) {
            self.seen += 1;
            // A stranger's index must not be read for ever.
            if self.seen > MOST_IMAGES {
                return Err(
                    damaged("the index has too many images").expected(format!("at most {MOST_IMAGES}"))
                );
            }
            let named = named || self.wanted.image.is_some_and(|name| descriptor.is_named(name));
            let platform = descriptor.platform.clone().or_else(|| platform.cloned());
            let inner = if descriptor.may_be_index() { descriptor.document(self.blobs)? } else { None };
            match inner.and_then(|inner| inner.manifests) {
                Some(manifests) => self.below(manifests, (named, platform.as_ref()), depth - 1)?,
                None => self.found.push(Candidate { descriptor, named, platform }),
            }
        }
        Ok(())
    }

    /// The one image that is wanted.
    fn choose(self) -> Result<Descriptor> {
        let Self { blobs, wanted, found, .. } = self;
        let (name, platform) = (wanted.image, wanted.platform);
        let shown = list(found.iter().map(Candidate::shown));
        let fits = |candidate: &Candidate| match (&candidate.platform, platform) {
            (Some(own), Some(wanted)) => own.is(wanted),
            _ => true,
        };
        let mut left: Vec<Candidate> = Vec::new();
        for candidate in found.into_iter().filter(|candidate| candidate.named && fits(candidate)) {
            // The same manifest under two names is one.
            if left.iter().all(|other| other.descriptor.digest != candidate.descriptor.digest) {
                left.push(candidate);
            }
        }
        // What no index says of its platform, its configuration does.
        if let Some(wanted) = platform.filter(|_| left.len() > 1) {
            let mut known = Vec::new();
            for candidate in left {
                let own = match candidate.platform.is_some() {
                    true => None,
                    false => candidate.descriptor.own_platform(blobs)?,
                };
                if own.is_none_or(|own| own.may_be(wanted)) {
                    known.push(candidate);
                }
            }
            left = known;
        }
        match (left.pop(), left.is_empty()) {
            (Some(chosen), true) => Ok(chosen.descriptor),
            (None, _) => {
                Err(damaged("there is no such image").expected(describe(name, platform)).found(shown))
            }
            (Some(_), false) => Err(damaged("there are several images")
                .expected("one, or the name, the digest or the platform of one")
                .found(shown)
                .hint(format!(
                    "name it with {}, or its platform, such as linux/arm64, with {}",
                    option("image"),
                    option("platform")
                ))),
        }
    }
}

impl Candidate {
    /// What it is called in an error.
    fn shown(&self) -> String {
        let mut names: Vec<String> = self.descriptor.names().map(str::to_owned).collect();
        names.extend(self.platform.as_ref().map(Platform::text));
        if names.is_empty() { self.descriptor.digest.clone() } else { names.join(" for ") }
    }
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
