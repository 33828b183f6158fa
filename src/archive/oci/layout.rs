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

/// How deep an index may lie in others.
const DEEPEST: u32 = 4;

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

    /// What it is called in an error.
    fn shown(&self) -> String {
        let mut names: Vec<String> = self.names().map(str::to_owned).collect();
        names.extend(self.platform.as_ref().map(Platform::text));
        if names.is_empty() { self.digest.clone() } else { names.join(" for ") }
    }

    /// Whether it is about another manifest, and no image: an attestation of BuildKit.
    fn is_remark(&self) -> bool {
        self.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
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

/// The layers of the image that is wanted, the lowest first.
pub(super) fn layers(blobs: &Blobs, index: &Slice, wanted: &Wanted<'_>) -> Result<Vec<Layer>> {
    let bytes = read_small(index, LARGEST_JSON, "the index of the image")?;
    let mut document: Document = parse(&bytes, "the index of the image")?;
    let mut named = wanted.image;
    for _ in 0..DEEPEST {
        let Some(manifests) = document.manifests else { return of_manifest(blobs, document, wanted) };
        let chosen = choose(manifests, named, wanted.platform)?;
        // A name is that of the whole, not of its parts.
        named = None;
        let bytes = blobs.json(&chosen.digest, "the manifest of the image")?;
        document = parse(&bytes, "the manifest of the image")?;
    }
    Err(damaged("the index of the image leads to other indexes without an end"))
}

/// The one manifest that is wanted.
fn choose(manifests: Vec<Descriptor>, name: Option<&str>, platform: Option<&str>) -> Result<Descriptor> {
    let found = list(manifests.iter().filter(|manifest| !manifest.is_remark()).map(Descriptor::shown));
    let named = |manifest: &Descriptor| name.is_none_or(|name| manifest.is_named(name));
    let fits = |manifest: &Descriptor| match (&manifest.platform, platform) {
        (Some(own), Some(wanted)) => own.is(wanted),
        _ => true,
    };
    let mut left: Vec<Descriptor> = manifests
        .into_iter()
        .filter(|manifest| !manifest.is_remark() && named(manifest) && fits(manifest))
        .collect();
    // The same manifest under two names is one.
    left.dedup_by(|a, b| a.digest == b.digest);
    match (left.pop(), left.is_empty()) {
        (Some(chosen), true) => Ok(chosen),
        (None, _) => Err(damaged("there is no such image").expected(describe(name, platform)).found(found)),
        (Some(_), false) => Err(damaged("there are several images")
            .expected("one, or the name or the platform of one")
            .found(found)
            .hint(format!(
                "name it with {}, or its platform, such as linux/arm64, with {}",
                option("image"),
                option("platform")
            ))),
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
    let config = blobs.json(&config.digest, "the configuration of the image")?;
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
